#include "attestation/ledger/checkpoint.h"

#include "attestation/base/base64.h"
#include "attestation/ledger/lines.h"

namespace sallyport::ledger {
namespace {

constexpr std::size_t kMaxExtensionLines = 32;

}  // namespace

std::string checkpoint_text(const Checkpoint& checkpoint) {
  std::string text = checkpoint.origin.get() + "\n" + std::to_string(checkpoint.size.get()) + "\n" +
                     to_base64(view(checkpoint.root)) + "\n";
  for (const std::string& extension : checkpoint.extensions) text += extension + "\n";
  return text;
}

Result<Checkpoint> parse_checkpoint_text(std::string_view text, Extensions extensions) {
  if (text.size() > kMaxNoteBytes) return Error{Code::kMalformed, "a checkpoint that is too long"};
  SP_CHECK(check_text(text));
  LineReader in{text};
  Checkpoint checkpoint;
  SP_TRY(const std::string_view origin, in.line());
  if (origin.empty() || origin.size() > kMaxOriginBytes)
    return Error{Code::kMalformed, "an origin that is empty or too long"};
  checkpoint.origin = Origin{std::string{origin}};
  SP_TRY(const std::string_view size, in.line());
  SP_TRY(const std::uint64_t leaves, parse_decimal(size, kMaxTreeSize));
  checkpoint.size = TreeSize{leaves};
  SP_TRY(const std::string_view root, in.line());
  SP_TRY(checkpoint.root, parse_hash(root));
  while (!in.at_end()) {
    if (extensions == Extensions::kRefuse)
      return Error{Code::kMalformed, "a checkpoint with extension lines"};
    SP_TRY(const std::string_view line, in.line());
    if (line.empty() || checkpoint.extensions.size() == kMaxExtensionLines)
      return Error{Code::kMalformed, "an extension line that is empty, or too many"};
    checkpoint.extensions.emplace_back(line);
  }
  return checkpoint;
}

Result<SignedCheckpoint> verify_checkpoint(std::string_view note, const NoteKey& log) {
  return verify_checkpoint(note, std::span{&log, 1}, Extensions::kRefuse);
}

Result<SignedCheckpoint> verify_checkpoint(std::string_view note, std::span<const NoteKey> logs,
                                           Extensions extensions) {
  std::vector<LogKey> named;
  for (const NoteKey& log : logs) named.push_back({Origin{log.name()}, log});
  return verify_checkpoint(note, named, extensions);
}

std::vector<NoteKey> keys_of(const Origin& origin, std::span<const LogKey> logs) {
  std::vector<NoteKey> keys;
  for (const LogKey& log : logs)
    if (log.key.type() != NoteKeyType::kCosignature && log.origin == origin) keys.push_back(log.key);
  return keys;
}

Result<SignedCheckpoint> verify_checkpoint(std::string_view note, std::span<const LogKey> logs,
                                           Extensions extensions) {
  SP_TRY(const ClaimedNote claimed, parse_note(note));
  SP_TRY(Checkpoint checkpoint, parse_checkpoint_text(claimed.text, extensions));
  const std::vector<NoteKey> keys = keys_of(checkpoint.origin, logs);
  if (keys.empty()) return Error{Code::kUnverified, Reason::kLogCheckpoint, "a checkpoint of another log"};
  SP_TRY(const auto lines, verify_note(claimed, keys));
  SP_ASSERT(!lines.empty());
  if (checkpoint.size.get() == 0 && checkpoint.root != empty_root())
    return Error{Code::kUnverified, Reason::kLogCheckpoint, "an empty tree with another root"};
  return SignedCheckpoint{std::move(checkpoint), std::string{note}};
}

}  // namespace sallyport::ledger

#include "attestation/ledger/add_checkpoint.h"

#include "attestation/base/base64.h"
#include "attestation/ledger/cosignature.h"
#include "attestation/ledger/lines.h"

namespace sallyport::ledger {
namespace {

constexpr std::string_view kOld = "old ", kPlain = "text/plain; charset=utf-8";

Result<Checkpoint> claimed_checkpoint(const AddCheckpointRequest& request) {
  SP_TRY(const ClaimedNote note, parse_note(request.checkpoint));
  return parse_checkpoint_text(note.text, Extensions::kAllow);
}

AddCheckpointDecision refuse(int status, std::string_view why) {
  return {{status, std::string{kPlain}, std::string{why} + "\n"}, std::nullopt};
}

}  // namespace

Result<AddCheckpointRequest> parse_add_checkpoint(std::string_view body) {
  if (body.size() > kMaxAddCheckpointBytes) return Error{Code::kMalformed, "a request that is too long"};
  LineReader in{body};
  AddCheckpointRequest request;
  SP_TRY(std::string_view line, in.line());
  if (!line.starts_with(kOld)) return Error{Code::kMalformed, "a request without the old size"};
  SP_TRY(const std::uint64_t old_size, parse_decimal(line.substr(kOld.size()), kMaxTreeSize));
  request.old_size = TreeSize{old_size};
  for (;;) {
    SP_TRY(line, in.line());
    if (line.empty()) break;
    if (request.proof.size() == kMaxProofHashes)
      return Error{Code::kMalformed, "a proof with too many hashes"};
    SP_TRY(const Digest256 hash, parse_hash(line));
    request.proof.push_back(hash);
  }
  request.checkpoint = in.rest();
  SP_TRY(const Checkpoint checkpoint, claimed_checkpoint(request));
  return request;
}

std::string encode_add_checkpoint(const AddCheckpointRequest& request) {
  std::string body = std::string{kOld} + std::to_string(request.old_size.get()) + "\n";
  for (const Digest256& hash : request.proof) body += to_base64(view(hash)) + "\n";
  return body + "\n" + request.checkpoint;
}

Result<Origin> claimed_origin(const AddCheckpointRequest& request) {
  SP_TRY(const Checkpoint checkpoint, claimed_checkpoint(request));
  return checkpoint.origin;
}

AddCheckpointDecision decide_add_checkpoint(const WitnessState& state, const AddCheckpointRequest& request,
                                            std::span<const LogKey> logs) {
  const auto claimed = claimed_checkpoint(request);
  if (!claimed) return {malformed_answer(), std::nullopt};
  const std::vector<NoteKey> keys = keys_of(claimed->origin, logs);
  if (keys.empty()) return refuse(404, "unknown log");

  // The root at size 0 is judged further down, so its signature is checked without it.
  const bool wrong_empty_root = claimed->size.get() == 0 && claimed->root != empty_root();
  std::optional<SignedCheckpoint> checkpoint;
  if (wrong_empty_root) {
    const auto note = parse_note(request.checkpoint);
    if (!note || !verify_note(*note, keys)) return refuse(403, "no valid signature of the log");
  } else {
    auto verified = verify_checkpoint(request.checkpoint, logs, Extensions::kAllow);
    if (!verified) return refuse(403, "no valid signature of the log");
    checkpoint = std::move(verified).value();
  }

  if (request.old_size > claimed->size) return refuse(400, "the old size is larger than the checkpoint's");
  if (request.old_size != state.size)
    return {{409, std::string{kTlogSizeContentType}, std::to_string(state.size.get()) + "\n"}, std::nullopt};
  if (wrong_empty_root) return refuse(422, "an empty tree with another root");
  if (!verify_consistency(state.size, state.root, claimed->size, claimed->root, request.proof))
    return refuse(422, "the checkpoint is not consistent with the one before it");
  return {{200, std::string{kPlain}, {}}, std::move(checkpoint)};
}

WitnessAnswer malformed_answer() {
  return {400, std::string{kPlain}, "malformed\n"};
}

WitnessAnswer cosigned_answer(std::span<const SignatureLine> cosignatures) {
  SP_ASSERT(!cosignatures.empty());
  WitnessAnswer answer{200, std::string{kPlain}, {}};
  for (const SignatureLine& line : cosignatures) answer.body += encode_signature_line(line);
  return answer;
}

Result<TreeSize> parse_size_body(std::string_view body) {
  LineReader in{body};
  SP_TRY(const std::string_view line, in.line());
  if (!in.at_end()) return Error{Code::kMalformed, "more than a size"};
  SP_TRY(const std::uint64_t size, parse_decimal(line, kMaxTreeSize));
  return TreeSize{size};
}

Result<VerifiedCosignature> verify_cosigned_body(std::string_view body, const NoteKey& witness,
                                                 std::string_view text) {
  SP_TRY(const std::vector<SignatureLine> lines, parse_signature_lines(body));
  std::optional<VerifiedCosignature> found;
  for (const SignatureLine& line : lines) {
    if (line.key_id != witness.id() || line.name != witness.name()) continue;
    if (found) return Error{Code::kUnverified, Reason::kLogCheckpoint, "two cosignatures of one witness"};
    SP_TRY(const UnixSeconds time, verify_cosignature(line, witness, text));
    found = VerifiedCosignature{line, time};
  }
  if (!found) return Error{Code::kUnverified, Reason::kLogCheckpoint, "no cosignature of this witness"};
  return *std::move(found);
}

}  // namespace sallyport::ledger

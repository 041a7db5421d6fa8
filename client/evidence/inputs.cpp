#include "client/evidence/inputs.h"

#include <algorithm>
#include <charconv>

#include "attestation/crypto/digest.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

constexpr std::size_t kMaxInputBytes = std::max(evidence::kMaxReferenceBytes, evidence::kMaxEventLogBytes);

Error of_file(const std::string& path, Error error) {
  error.what = path + ": " + error.what;
  return error;
}

Result<LoadedReferences> references_of(const std::string& path, ByteView bytes) {
  auto values = evidence::parse_reference_values(as_text(bytes));
  if (!values.has_value()) return of_file(path, values.error());
  return LoadedReferences{std::move(values).value(), crypto::sha256(bytes)};
}

Result<NamedLog> log_of(const std::string& path, Bytes bytes) {
  auto log = evidence::EventLog::parse(std::move(bytes));
  if (!log.has_value()) return of_file(path, log.error());
  return NamedLog{path, std::move(log).value()};
}

}  // namespace

Result<LoadedReferences> load_references(const std::string& path) {
  SP_TRY(const Bytes bytes, read_whole_file(path, evidence::kMaxReferenceBytes));
  return references_of(path, bytes);
}

Result<NamedLog> load_log(const std::string& path) {
  SP_TRY(Bytes bytes, read_whole_file(path, evidence::kMaxEventLogBytes));
  return log_of(path, std::move(bytes));
}

Result<EitherFile> load_either(const std::string& path) {
  SP_TRY(Bytes bytes, read_whole_file(path, kMaxInputBytes));
  EitherFile out;
  if (std::ranges::find(bytes, std::uint8_t{0}) == bytes.end()) {
    SP_TRY(out.references, references_of(path, bytes));
  } else {
    SP_TRY(out.log, log_of(path, std::move(bytes)));
  }
  return out;
}

Result<std::uint32_t> parse_pcrs(const std::string& flag, std::string_view text) {
  std::uint32_t mask = 0;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    unsigned index = 24;
    const auto [end, failed] = std::from_chars(word.data(), word.data() + word.size(), index);
    if (failed != std::errc{} || end != word.data() + word.size() || index > 23 ||
        word.size() == text.size() - 1)
      return Error{Code::kMalformed, Reason::kUsage, flag + " takes PCRs from 0 to 23, as 1,5"};
    mask |= 1u << index;
    text.remove_prefix(std::min(word.size() + 1, text.size()));
  }
  return mask;
}

std::string pcrs_text(std::uint32_t mask) {
  std::string text;
  for (unsigned first = 0; first < 24; ++first) {
    if ((mask >> first & 1) == 0) continue;
    unsigned last = first;
    while (last < 23 && (mask >> (last + 1) & 1) != 0) ++last;
    text += (text.empty() ? "" : ", ") + std::to_string(first);
    if (last != first) text += (last == first + 1 ? ", " : "–") + std::to_string(last);
    first = last;
  }
  return text;
}

}  // namespace sallyport::client::evidence_tools

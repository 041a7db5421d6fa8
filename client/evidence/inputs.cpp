#include "client/evidence/inputs.h"

#include <algorithm>
#include <charconv>

#include "attestation/crypto/digest.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

constexpr std::size_t kMaxInputBytes = std::max(evidence::kMaxReferenceBytes, evidence::kMaxEventLogBytes);

constexpr std::string_view kEventLog = "an event log", kImaList = "a kernel's measurement list (IMA)",
                           kReferenceValues = "reference values", kText = "text";

// What was given where something binary is read.
bool is_text(ByteView bytes) {
  return !bytes.empty() && std::ranges::all_of(bytes, [](std::uint8_t octet) {
    return octet >= 0x20 ? octet != 0x7F : octet == '\n' || octet == '\r' || octet == '\t';
  });
}

// binary_only refuses text and nothing at all, whose first bytes would be told as numbers.
Status binary_only(const std::string& path, ByteView bytes, Reason reason, const char* expected) {
  if (bytes.empty()) return Error{Code::kMalformed, reason, path + " is empty: " + expected};
  if (!is_text(bytes)) return Done{};
  return Error{Code::kMalformed, reason, path + " looks like " + looks_like(bytes) + ": " + expected};
}

// with_look says what a file looks like that is not what it was read as.
Error with_look(const std::string& path, Error error, const std::string& look, std::string_view read_as) {
  if (!look.empty() && look != read_as) error.what += "; it looks like " + look;
  return of_file(path, std::move(error));
}

Result<LoadedReferences> references_of(const std::string& path, ByteView bytes) {
  const bool binary = std::ranges::find(bytes, std::uint8_t{0}) != bytes.end();
  if (binary || bytes.empty())
    return Error{Code::kMalformed, Reason::kReferenceInvalid,
                 path + (binary ? " is binary" : " is empty") +
                     ": a document of reference values is text, which sallyport reference learn makes of "
                     "event logs"};
  auto values = evidence::parse_reference_values(as_text(bytes));
  if (!values.has_value()) {
    const std::string look = looks_like(bytes);  // what is just text may well be a document with a fault
    return with_look(path, values.error(), look == kText ? "" : look, kReferenceValues);
  }
  return LoadedReferences{std::move(values).value(), crypto::sha256(bytes)};
}

Result<NamedLog> log_of(const std::string& path, Bytes bytes) {
  SP_CHECK(binary_only(path, bytes, Reason::kEventLogForm,
                       "an event log is binary, as the kernel shows it in "
                       "/sys/kernel/security/tpm0/binary_bios_measurements"));
  const std::string look = looks_like(bytes);
  auto log = evidence::EventLog::parse(std::move(bytes));
  if (!log.has_value()) return with_look(path, log.error(), look, kEventLog);
  return NamedLog{path, std::move(log).value()};
}

std::uint32_t first_number(ByteView bytes) {
  std::uint32_t out = 0;
  for (std::size_t i = 4; i-- > 0;) out = out << 8 | bytes[i];
  return out;
}

}  // namespace

std::string looks_like(ByteView bytes) {
  const std::string_view text = as_text(bytes);
  if (bytes.empty()) return "an empty file";
  if (text.starts_with("-----BEGIN")) return "a PEM file, such as a certificate";
  if (bytes.size() > 4 && bytes[0] == 0x30 && bytes[1] >= 0x80) return "DER, such as a certificate";
  if (text.starts_with("{") || text.starts_with("[\"") || text.starts_with("[{"))
    return "JSON, such as a statement";
  if (text.find(" boot_aggregate") != text.npos && is_text(bytes))
    return "a kernel's measurement list (IMA) as text";
  if (is_text(bytes)) return std::string{text.find("[[reference]]") != text.npos ? kReferenceValues : kText};
  if (bytes.size() > 12 && first_number(bytes) == evidence::kImaPcr) return std::string{kImaList};
  if (text.substr(0, 64).find("Spec ID Event") != text.npos) return std::string{kEventLog};
  if (bytes.size() > 2 && bytes[0] == 0 && bytes[1] + std::size_t{2} == bytes.size())
    return "a TPM2B structure: cut its first two bytes off";
  return {};
}

Error of_file(const std::string& path, Error error) {
  error.what = path + ": " + error.what;
  return error;
}

Result<LoadedReferences> load_references(const std::string& path) {
  SP_TRY(const Bytes bytes, read_whole_file(path, evidence::kMaxReferenceBytes));
  return references_of(path, bytes);
}

Result<NamedLog> load_log(const std::string& path) {
  SP_TRY(Bytes bytes, read_whole_file(path, evidence::kMaxEventLogBytes));
  return log_of(path, std::move(bytes));
}

Result<evidence::ImaList> load_ima(const std::string& path, evidence::LogAlgorithm template_hash) {
  SP_TRY(Bytes bytes, read_whole_file(path, evidence::kMaxImaListBytes));
  SP_CHECK(binary_only(path, bytes, Reason::kImaForm,
                       "an IMA list is binary, as the kernel shows it in "
                       "/sys/kernel/security/ima/binary_runtime_measurements (not ascii_…), and begins with "
                       "its boot_aggregate"));
  const std::string look = looks_like(bytes);
  auto list = evidence::ImaList::parse(std::move(bytes), template_hash);
  if (!list.has_value()) return with_look(path, list.error(), look, kImaList);
  return list;
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
  const Error wrong{Code::kMalformed, Reason::kUsage, flag + " takes PCRs from 0 to 23, as 0-7,14"};
  const auto index = [](std::string_view digits) -> std::optional<unsigned> {
    unsigned out = 24;
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    if (failed != std::errc{} || end != digits.data() + digits.size() || out > 23) return std::nullopt;
    return out;
  };
  std::uint32_t mask = 0;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    const std::size_t dash = word.find('-');
    const auto first = index(word.substr(0, dash));
    const auto last = dash == word.npos ? first : index(word.substr(dash + 1));
    if (!first || !last || *first > *last || word.size() == text.size() - 1) return wrong;
    for (unsigned pcr = *first; pcr <= *last; ++pcr) mask |= 1u << pcr;
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

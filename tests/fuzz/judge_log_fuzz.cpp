// A log that reference values accept has nothing but what they expect, as a slow reading of the README has
// it: each event of a judged PCR by its digest or its text at its side of the separator, none too often, none
// missing. The input is a document, a zero, and a log: as firmware writes it, or event by event so that
// digests are those of the data.
#include <algorithm>

#include "attestation/base/error.h"
#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/appraisal.h"
#include "tests/support/log_builder.h"

namespace {

using namespace sallyport;
using namespace sallyport::evidence;

// means tells what a pattern means letter by letter: row by row, whether it stands for a beginning of the
// text.
bool means(std::string_view pattern, std::string_view text) {
  std::vector<bool> row(text.size() + 1, false);
  row[0] = true;
  for (const char c : pattern) {
    std::vector<bool> next(text.size() + 1, false);
    for (std::size_t i = 0; i <= text.size(); ++i)
      next[i] = c == '*' ? row[i] || (i != 0 && next[i - 1]) : i != 0 && row[i - 1] && text[i - 1] == c;
    row = std::move(next);
  }
  return row.back();
}

bool accepts(const EventLog& log, const PcrSelection& selection, const Reference& reference) {
  std::vector<std::size_t> seen(reference.events.size(), 0);
  std::array<std::size_t, 24> separators{};
  std::vector<bool> secure_boot;
  for (const LogEvent& event : log.events()) {
    if (!event.extends() || event.pcr > 23 || !selection.contains(event.pcr)) continue;
    const auto pcr = static_cast<std::uint8_t>(event.pcr);
    if (const auto state = measured_secure_boot(event); state && separators[7] == 0)
      secure_boot.push_back(*state);
    if (!reference.judges(pcr)) continue;
    const Digest256 digest = sha256_of(event);
    if (pcr < kSeparatedPcrs && is_separator(digest)) {
      ++separators[pcr];
      continue;
    }
    const bool after = separators[pcr] != 0;
    const auto here = [&](const ExpectedEvent& one) {
      return one.pcr == pcr && one.after_separator == after;
    };
    auto found = std::ranges::find_if(reference.events, [&](const ExpectedEvent& one) {
      return here(one) && std::ranges::find(one.digests, digest) != one.digests.end();
    });
    if (const auto text = measured_text(event); text && found == reference.events.end())
      found = std::ranges::find_if(reference.events, [&](const ExpectedEvent& one) {
        return here(one) && one.digests.empty() && means(one.pattern, *text);
      });
    if (found == reference.events.end()) return false;
    ++seen[static_cast<std::size_t>(found - reference.events.begin())];
  }
  for (std::uint8_t pcr = 0; pcr < kSeparatedPcrs; ++pcr)
    if (selection.contains(pcr) && reference.judges(pcr) && separators[pcr] != 1) return false;
  for (std::size_t i = 0; i < seen.size(); ++i)
    if ((seen[i] == 0 && reference.events[i].required) || (seen[i] > 1 && !reference.events[i].repeats))
      return false;
  return secure_boot == std::vector<bool>{reference.secure_boot};
}

// An event is its PCR, a letter for its type, what of its data is measured (all, all but some first octets,
// or something else), and the data.
Result<Bytes> log_of(ByteView bytes) {
  constexpr EventType kTypes[] = {EventType::kIpl,
                                  EventType::kSeparator,
                                  EventType::kEfiVariableDriverConfig,
                                  EventType::kEfiVariableAuthority,
                                  EventType::kEfiVariableBoot,
                                  EventType::kNoAction};
  test::LogBuilder out;
  out.spec_id({});
  Reader in{bytes};
  while (in.remaining() != 0) {
    SP_TRY(const std::uint8_t pcr, in.u8());
    SP_TRY(const std::uint8_t type, in.u8());
    SP_TRY(const std::uint8_t unmeasured, in.u8());
    SP_TRY(const ByteView data, in.prefixed16(0xFFFF));
    const ByteView measured = data.subspan(std::min<std::size_t>(unmeasured, data.size()));
    out.event(pcr % 24, static_cast<std::uint32_t>(kTypes[type % std::size(kTypes)]), data,
              {{0x000B, to_bytes(view(crypto::sha256(measured)))}});
  }
  return out.bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes{data, size};
  const auto zero = std::ranges::find(bytes, std::uint8_t{0});
  const auto values = parse_reference_values(as_text({bytes.begin(), zero}));
  if (!values.has_value() || zero == bytes.end() || zero + 1 == bytes.end()) return 0;
  const bool as_written = zero[1] == 'L';
  const ByteView rest{zero + 2, bytes.end()};
  auto encoded = as_written ? Result<Bytes>{to_bytes(rest)} : log_of(rest);
  if (!encoded.has_value()) return 0;
  const auto log = EventLog::parse(*std::move(encoded));
  if (!log.has_value()) return 0;
  const JudgedLog judged = judge_log(*log, *values);
  const auto pcrs = replay(*log, LogAlgorithm::kSha256);
  const bool replayed = pcrs.has_value() && replayed_values(*pcrs, values->selection).has_value();
  bool any = false;
  for (std::size_t i = 0; i < values->references.size(); ++i) {
    const Reference& one = values->references[i];
    if (one.as_enrolled) {
      SP_ASSERT(!judged.accepted(i));
      continue;
    }
    const bool good = accepts(*log, values->selection, one);
    SP_ASSERT(judge_boot(*log, values->selection, one).empty() == good);
    SP_ASSERT(judged.accepted(i) == (good && replayed));
    any = any || (good && replayed);
  }
  SP_ASSERT(judged.accepted_by_any() == any);
  return 0;
}

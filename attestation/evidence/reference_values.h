#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"
#include "attestation/evidence/ima_appraisal.h"
#include "attestation/evidence/pcr.h"

namespace sallyport::evidence {

inline constexpr std::size_t kMaxReferenceBytes = 1024 * 1024;
inline constexpr std::size_t kMaxReferences = 256;
inline constexpr std::size_t kMaxExpectedEvents = 4096;  // of one reference
inline constexpr std::size_t kMaxPatternBytes = 1024;
inline constexpr std::size_t kMaxPatterns = 1024;        // of all references of a document
inline constexpr std::size_t kMaxEventTextBytes = 4096;  // a longer text matches no pattern

// ExpectedEvent is what one event of a boot may be: one of some digests, or a text that hashes to its digest.
struct ExpectedEvent {
  std::uint8_t pcr = 0;
  bool after_separator = false;  // PCR 0–7 only: it comes after the PCR's separator, not before
  bool required = true;          // a boot without it is not this one
  bool repeats = false;          // it may come more than once
  std::vector<Digest256> digests;
  std::string pattern;  // where there are no digests; '*' stands for any text
  std::string what;     // for people; judged by nobody
};

// Reference is one boot that is accepted: the one that an enrolment recorded, or one that is described event
// by event.
struct Reference {
  std::string id;
  std::optional<UnixMillis> not_after;  // it accepts nothing from then on
  bool as_enrolled = false;             // PCRs as the machine's enrolment recorded them; nothing below then
  bool secure_boot = false;             // what the firmware measured of the SecureBoot variable
  std::uint32_t unjudged = 0;  // bit n: the events of PCR n may be any; the log must come to its value still
  std::vector<ExpectedEvent> events;

  bool in_force(UnixMillis at) const { return !not_after || at < *not_after; }
  bool judges(unsigned pcr) const { return (unjudged >> pcr & 1) == 0; }
  // find gives the event with one of these digests. (A text is looked for in `events`.)
  std::optional<std::size_t> find(std::uint8_t pcr, bool after_separator, const Digest256& digest) const;

  std::map<std::pair<Digest256, std::uint8_t>, std::size_t> digest_at;  // made by parse_reference_values
};

// ReferenceValues (RFC 9334 §8.3) are the boots that a policy accepts. A boot is good when one of them
// accepts it.
struct ReferenceValues {
  std::uint64_t version = 0;
  PcrSelection selection = PcrSelection::standard();  // what machines quote
  std::vector<Reference> references;                  // at least one
  // What may be measured after the start. Where there is nothing, nobody asks for an IMA list.
  std::optional<ImaReference> ima = {};

  // as_enrolled are those of a policy that names none: what the enrolment's quorum has signed, and nothing
  // else.
  static ReferenceValues as_enrolled();
  std::optional<std::size_t> find(std::string_view id) const;
};

// parse_reference_values reads a document of reference values (README.md, "Reference values"; TOML as
// base/toml.h takes it).
//   Proves:         each reference says all that is needed for its judgement, and nothing twice: ids and
//   digests
//                   are unique, PCRs are in the selection; 0, 2, 4 and 7 are judged, and Secure Boot is.
//   Does not prove: that anybody signed it (the policy names its digest), or that these boots are good ones.
//   Errors:         kMalformed (kReferenceInvalid), with the line.   Pure.
Result<ReferenceValues> parse_reference_values(std::string_view toml);

// write_reference_values gives a document that parse_reference_values takes, and reads as `values`. Texts in
// it that the document cannot hold (outside of printable ASCII) must not be there.
std::string write_reference_values(const ReferenceValues& values);

// day_text gives the UTC day of a moment as such a document has it: "2027-04-01".
std::string day_text(UnixMillis at);

// matches tells whether `text` is `pattern`, in which '*' stands for any text, also none.
bool matches(std::string_view pattern, std::string_view text);

}  // namespace sallyport::evidence

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/evidence/boot_state.h"
#include "attestation/evidence/event_log.h"
#include "attestation/evidence/reference_values.h"

namespace sallyport::evidence {

// BootFinding is one reason for which a reference does not accept a boot.
struct BootFinding {
  enum class Kind : std::uint8_t {
    kUnexpected,  // an event that the reference does not have at this place
    kRepeated,    // one more than it may be there
    kMissing,     // an event that the reference requires is not there
    kSeparator,   // PCR 0–7: not exactly one, or one that states an error
    kSecureBoot,  // not measured, measured twice, or other than the reference says
  };
  Kind kind = Kind::kUnexpected;
  std::uint8_t pcr = 0;
  std::optional<std::uint32_t> event;  // its number in the log
  std::string words;                   // for people: printable, one line
};

inline constexpr std::size_t kMaxFindings = 64;

// What holding texts against patterns may take of one judgement: for each pattern that a text is held against
// the text's length and kWorkOfAMatch more; a text that comes again at its place is not held against
// anything. (300 lines of 80 characters, each against 990 patterns, are within it.) Once there is no work
// left, no text is one that is expected.
inline constexpr std::size_t kMaxMatchingWork = 32 * 1024 * 1024;
inline constexpr std::size_t kWorkOfAMatch = 32;

// judge_boot holds a log against one reference and tells, up to `max_findings`, what keeps the reference from
// accepting it: nothing when it does. `selection` is what was quoted. It has kMaxMatchingWork for itself.
//   Proves, when nothing is found and verify_event_log has held: every event of the judged PCRs is one that
//   the
//                   reference expects at its side of the separator, none too often, none that it requires is
//                   missing, and the firmware measured Secure Boot to be what the reference says. Types are
//                   never looked at: they are not measured.
//   Does not prove: the order of events at one side of a separator. That the reference is one of the policy.
//   Pure.
std::vector<BootFinding> judge_boot(const EventLog& log, const PcrSelection& selection,
                                    const Reference& reference, std::size_t max_findings = kMaxFindings);

// JudgedLog is all that an event log says of a boot under some reference values, whoever's quote it comes to:
// the PCRs that it comes to, and what keeps each reference from accepting it. It is kept where the same log
// is shown again and again. Only judge_log makes one.
class JudgedLog {
 public:
  // accepted tells whether a reference, by its place in the document, accepts the log.
  bool accepted(std::size_t reference) const;
  bool accepted_by_any() const;

 private:
  friend JudgedLog judge_log(const EventLog& log, const ReferenceValues& values);
  friend class BootAppraisal;
  struct Verdict {
    std::size_t findings = 0;
    std::string first;  // of them, in words
  };
  JudgedLog() = default;
  std::optional<Error> not_replayed_;       // why the log comes to no value of the quoted PCRs
  std::vector<Digest256> pcrs_;             // of the selection, in order of index; empty if not_replayed_
  std::vector<std::optional<Verdict>> of_;  // of each reference; none: it judges no log
};

// judge_log replays a log and holds it against each reference (judge_boot). Whether a TPM has measured these
// events, and which references are in force, is for appraise_boot to say.   Pure; some hashes an event,
// however many references there are, and kMaxMatchingWork for all of them.
JudgedLog judge_log(const EventLog& log, const ReferenceValues& values);

// AcceptedBoot names the reference that accepted a boot.
struct AcceptedBoot {
  std::string reference;
  friend bool operator==(const AcceptedBoot&, const AcceptedBoot&) = default;
};

// appraise_boot judges what a machine has booted. `log` is its event log, judged by these very `values`; null
// where it sent none. `enrolled` is what its enrolment recorded.
//   Proves:         a reference that is in force at `at` accepts the boot: its quoted PCRs are those that
//   were
//                   enrolled, or the log comes to exactly the quoted PCRs (as verify_event_log has it) and
//                   judge_boot finds nothing.
//   Does not prove: what the machine has done since (IMA could tell), or anything of PCRs that are not
//   judged. Errors:         kUnverified with kQuotePcrs (another selection than the references'),
//   kEventLogBank,
//                   kEventLogReplay; kDenied with kBootState (only enrolled boots are accepted),
//                   kEventLogMissing, kReferenceExpired (none is in force), kBootEvent: which event, of which
//                   PCR, the nearest reference did not expect.   Pure.
Result<AcceptedBoot> appraise_boot(const VerifiedQuote& quote, const BootBaseline& enrolled,
                                   const JudgedLog* log, const ReferenceValues& values, UnixMillis at);

// PCR 0–7 have one separator each, before which only the firmware measures.
inline constexpr std::size_t kSeparatedPcrs = 8;
// is_separator: the digest of 0 or of 2^32−1, which end the firmware's part (PFP §10.4.5); 1 states an error,
// and is none.
bool is_separator(const Digest256& digest);

// sha256_of gives an event's SHA-256 digest; zeros where it has none.
Digest256 sha256_of(const LogEvent& event);

// measured_secure_boot gives what an event of PCR 7 measured of the SecureBoot variable, where its bytes hash
// to the digest. That it came before the separator, and once, is for the caller to see.
std::optional<bool> measured_secure_boot(const LogEvent& event);

// measured_text gives the text that an event measured, whatever its type claims to be: printable ASCII, at
// most kMaxEventTextBytes. None where no part of its data that is one hashes to the digest (efi.h,
// measured_part).
std::optional<std::string> measured_text(const LogEvent& event);

}  // namespace sallyport::evidence

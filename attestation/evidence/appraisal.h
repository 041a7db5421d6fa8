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

// judge_boot holds a log against one reference and tells, up to `max_findings`, what keeps the reference from
// accepting it: nothing when it does. `selection` is what was quoted.
//   Proves, when nothing is found and verify_event_log has held: every event of the judged PCRs is one that
//   the
//                   reference expects at its side of the separator, none too often, none that it requires is
//                   missing, and the firmware measured Secure Boot to be what the reference says. Types are
//                   never looked at: they are not measured.
//   Does not prove: the order of events at one side of a separator. That the reference is one of the policy.
//   Pure.
std::vector<BootFinding> judge_boot(const EventLog& log, const PcrSelection& selection,
                                    const Reference& reference, std::size_t max_findings = kMaxFindings);

// AcceptedBoot names the reference that accepted a boot.
struct AcceptedBoot {
  std::string reference;
  friend bool operator==(const AcceptedBoot&, const AcceptedBoot&) = default;
};

// appraise_boot judges what a machine has booted. `log` is its event log, null where it sent none; `enrolled`
// is what its enrolment recorded.
//   Proves:         a reference that is in force at `at` accepts the boot: its quoted PCRs are those that
//   were
//                   enrolled, or the log comes to exactly the quoted PCRs and judge_boot finds nothing.
//   Does not prove: what the machine has done since (IMA could tell), or anything of PCRs that are not
//   judged. Errors:         kUnverified with kQuotePcrs (another selection than the references'),
//   kEventLogBank,
//                   kEventLogReplay; kDenied with kBootState (only enrolled boots are accepted),
//                   kEventLogMissing, kReferenceExpired (none is in force), kBootEvent: which event, of which
//                   PCR, the nearest reference did not expect.   Pure.
Result<AcceptedBoot> appraise_boot(const VerifiedQuote& quote, const BootBaseline& enrolled,
                                   const EventLog* log, const ReferenceValues& values, UnixMillis at);

// measured_text gives the text that an event measured, whatever its type claims to be: printable ASCII, at
// most kMaxEventTextBytes. None where no part of its data that is one hashes to the digest (efi.h,
// measured_part).
std::optional<std::string> measured_text(const LogEvent& event);

}  // namespace sallyport::evidence

#pragma once

#include "attestation/evidence/certify.h"
#include "attestation/evidence/quote.h"

namespace sallyport::evidence {

// BootBaseline is the boot state that an enrolment recorded and its quorum signed.
struct BootBaseline {
  PcrSelection selection;
  Digest256 pcr_digest;
  friend bool operator==(const BootBaseline&, const BootBaseline&) = default;
};

// check_baseline: the quoted PCRs are the enrolled ones.
//   Proves:         the machine measured the same boot as when it was enrolled.
//   Does not prove: that the enrolled boot was a good one (whoever signed the enrolment says so; appraisal of
//   an event log will). Errors:         kDenied (kBootState).   Pure.
Status check_baseline(const VerifiedQuote& quote, const BootBaseline& enrolled);

// ProofPoint is where a TPM's counters stood at a wall time of ours.
struct ProofPoint {
  ClockInfo clock;
  UnixMillis at;
};

// check_first_counters is for a machine without an earlier proof: resetCount 0 is refused (a grant made there
// would survive TPM2_Clear in the same boot). Errors: kDenied (kBootCounters).
Status check_first_counters(const ClockInfo& current);

// check_counters: `current` can follow `previous`, the last accepted proof of this machine. Refused:
// resetCount 0; resetCount smaller; resetCount equal and restartCount smaller (TPM2_Clear, or another TPM);
// both equal and clock not greater; both equal, 10 min or more apart by either clock, and the TPM's clock
// more than 2 % off wall time. Across a reset or restart clocks are not comparable.
//   Errors: kDenied with kBootCounters or kClockRate.   Pure.
Status check_counters(const ProofPoint& previous, const ProofPoint& current);

// check_same_boot: within one case everything was made in one boot without a suspend: equal resetCount,
// restartCount, firmwareVersion, selection and PCR digest. Errors: kDenied with kBootCounters or kBootState.
Status check_same_boot(const VerifiedQuote& first, const VerifiedQuote& second);
Status check_same_boot(const VerifiedQuote& quote, const VerifiedKey& key);  // counters and firmwareVersion
// check_same_start is check_same_boot of quotes over different PCRs: counters and firmwareVersion.
Status check_same_start(const VerifiedQuote& first, const VerifiedQuote& second);

}  // namespace sallyport::evidence

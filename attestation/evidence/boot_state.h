#pragma once

#include <optional>
#include <vector>

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
  friend bool operator==(const ProofPoint&, const ProofPoint&) = default;
};

constexpr std::uint64_t kComparableMs = 10 * 60 * 1000;  // clocks are compared over so long, or longer
// A request's quote may be recorded so long after it was made: its note is not older.
constexpr std::uint64_t kLateMs = 150 * 1000;

// check_first_counters is for a machine without an earlier proof: resetCount 0 is refused (a grant made there
// would survive TPM2_Clear in the same boot). Errors: kDenied (kBootCounters).
Status check_first_counters(const ClockInfo& current);

// check_not_back: the counters are not behind those that were proved: resetCount is not smaller, and where it
// is equal, restartCount is not. They go back with TPM2_Clear, or where another TPM has the key.
//   Errors: kDenied (kBootWentBack).   Pure.
Status check_not_back(const ClockInfo& proved, const ClockInfo& current);

// check_counters: `current` can follow `previous`, a proof in the same case. Refused: what check_not_back
// refuses; resetCount 0; both counters equal and clock not greater; both equal, kComparableMs or more apart
// by either clock, and the TPM's clock more than 2 % off wall time. Across a reset or restart clocks are not
// comparable.
//   Errors: kDenied with kBootWentBack, kBootCounters or kClockRate.   Pure.
Status check_counters(const ProofPoint& previous, const ProofPoint& current);

// ProvenBoot is what a machine's accepted quotes have proved of its newest boot: its counters, and how its
// clock runs. Each proof is held against every one before it in the same boot. So a state that lacks some of
// them (they were erased) accepts whatever one with all of them has accepted.
class ProvenBoot {
 public:
  ProvenBoot(const ProofPoint& first, std::uint64_t firmware_version);

  // follow gives what is proved with `current`, whose `at` is not before that of any proof so far. Refused:
  // what check_not_back refuses, but as kBootCounters within kLateMs of the boot's first proof: it may be of
  // before, and late; in the same boot another firmwareVersion, a clock behind a proof's by kLateMs or more,
  // and one that is off wall time since a proof that is kComparableMs older by either clock: by more than 2 %
  // and kLateMs.
  //   Errors: kDenied with kBootWentBack, kBootCounters or kClockRate.   Pure.
  Result<ProvenBoot> follow(const ProofPoint& current, std::uint64_t firmware_version) const;
  // pass gives what is proved with a quote that may have been carried about: nothing of the clock.
  //   Errors: kDenied with kBootCounters, where it is of an earlier boot.   Pure.
  Result<ProvenBoot> pass(const ProofPoint& current, std::uint64_t firmware_version) const;
  // without_clock is what is left where a proof of this boot turns out to be none: the counters.
  ProvenBoot without_clock() const;
  // since is what is left where proofs of before `at` may be gone: the newest one, if it is not older.
  std::optional<ProvenBoot> since(UnixMillis at) const;

  std::uint32_t reset_count() const { return base_.clock.reset_count; }
  std::uint32_t restart_count() const { return base_.clock.restart_count; }
  friend bool operator==(const ProvenBoot&, const ProvenBoot&) = default;

 private:
  // Of proofs whose clock said c at t, both since base_: 50 c - 51 t and 50 c - 49 t. By the first no later
  // proof may be greater, by the second none may be smaller, that is 2 % either way, but for 50 times
  // kLateMs.
  struct Rate {
    std::int64_t fast = 0, slow = 0;
    friend bool operator==(const Rate&, const Rate&) = default;
  };
  Rate rate_of(const ProofPoint& proof) const;

  ProofPoint base_;  // the first
  std::uint64_t firmware_version_;
  // In their order: the newest, and those that are not kComparableMs older. Empty without a clock.
  std::vector<ProofPoint> recent_;
  std::optional<Rate> bounds_;  // of the others: the smallest `fast`, the greatest `slow`
};

// check_same_boot: within one case everything was made in one boot without a suspend: equal resetCount,
// restartCount, firmwareVersion, selection and PCR digest. Errors: kDenied with kBootCounters or kBootState.
Status check_same_boot(const VerifiedQuote& first, const VerifiedQuote& second);
Status check_same_boot(const VerifiedQuote& quote, const VerifiedKey& key);  // counters and firmwareVersion
// check_same_start is check_same_boot of quotes over different PCRs: counters and firmwareVersion.
Status check_same_start(const VerifiedQuote& first, const VerifiedQuote& second);

}  // namespace sallyport::evidence

#include "attestation/evidence/boot_state.h"

#include <algorithm>

namespace sallyport::evidence {
namespace {

constexpr std::uint64_t kComparableMs = 10 * 60 * 1000;
constexpr std::uint64_t kRateDivisor = 50;  // 1/50 = 2 %

Status refused(Reason reason, const char* what) {
  return Error{Code::kDenied, reason, what};
}

Status check_same_counters(const ClockInfo& a, std::uint64_t a_firmware, const ClockInfo& b,
                           std::uint64_t b_firmware) {
  if (a.reset_count != b.reset_count || a.restart_count != b.restart_count)
    return refused(Reason::kBootCounters, "the machine was reset or suspended within the case");
  if (a_firmware != b_firmware)
    return refused(Reason::kBootState, "the TPM's firmware changed within the case");
  return Done{};
}

}  // namespace

Status check_baseline(const VerifiedQuote& quote, const BootBaseline& enrolled) {
  if (quote.selection() != enrolled.selection)
    return refused(Reason::kBootState, "another PCR selection than the enrolled one");
  if (quote.pcr_digest() != enrolled.pcr_digest)
    return refused(Reason::kBootState, "other PCRs than the enrolled ones");
  return Done{};
}

Status check_first_counters(const ClockInfo& current) {
  if (current.reset_count == 0)
    return refused(Reason::kBootCounters, "resetCount is zero: reboot the machine once");
  return Done{};
}

Status check_counters(const ProofPoint& previous, const ProofPoint& current) {
  const ClockInfo& before = previous.clock;
  const ClockInfo& now = current.clock;
  SP_CHECK(check_first_counters(now));
  if (now.reset_count < before.reset_count) return refused(Reason::kBootCounters, "resetCount went back");
  if (now.reset_count > before.reset_count) return Done{};
  if (now.restart_count < before.restart_count)
    return refused(Reason::kBootCounters, "restartCount went back");
  if (now.restart_count > before.restart_count) return Done{};
  if (now.clock_ms <= before.clock_ms) return refused(Reason::kBootCounters, "the TPM's clock did not grow");

  const std::uint64_t tpm_ms = now.clock_ms - before.clock_ms;
  const std::uint64_t wall_ms =
      current.at.get() > previous.at.get() ? current.at.get() - previous.at.get() : 0;
  if (std::max(tpm_ms, wall_ms) < kComparableMs) return Done{};
  const std::uint64_t off_ms = tpm_ms > wall_ms ? tpm_ms - wall_ms : wall_ms - tpm_ms;
  if (off_ms > wall_ms / kRateDivisor)
    return refused(Reason::kClockRate, "the TPM's clock is more than 2 % off wall time");
  return Done{};
}

Status check_same_start(const VerifiedQuote& first, const VerifiedQuote& second) {
  return check_same_counters(first.clock(), first.firmware_version(), second.clock(),
                             second.firmware_version());
}

Status check_same_boot(const VerifiedQuote& first, const VerifiedQuote& second) {
  SP_CHECK(check_same_start(first, second));
  if (first.selection() != second.selection() || first.pcr_digest() != second.pcr_digest())
    return refused(Reason::kBootState, "the PCRs changed within the case");
  return Done{};
}

Status check_same_boot(const VerifiedQuote& quote, const VerifiedKey& key) {
  return check_same_counters(quote.clock(), quote.firmware_version(), key.clock(), key.firmware_version());
}

}  // namespace sallyport::evidence

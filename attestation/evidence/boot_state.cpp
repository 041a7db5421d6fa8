#include "attestation/evidence/boot_state.h"

#include <algorithm>

namespace sallyport::evidence {
namespace {

constexpr std::uint64_t kRateDivisor = 50;  // 1/50 = 2 %

Status refused(Reason reason, const char* what) {
  return Error{Code::kDenied, reason, what};
}

bool is_same_boot(const ClockInfo& a, const ClockInfo& b) {
  return a.reset_count == b.reset_count && a.restart_count == b.restart_count;
}

Status check_same_counters(const ClockInfo& a, std::uint64_t a_firmware, const ClockInfo& b,
                           std::uint64_t b_firmware) {
  if (!is_same_boot(a, b))
    return refused(Reason::kBootCounters, "the machine was reset or suspended within the case");
  if (a_firmware != b_firmware)
    return refused(Reason::kBootState, "the TPM's firmware changed within the case");
  return Done{};
}

Error off_rate() {
  return Error{Code::kDenied, Reason::kClockRate, "the TPM's clock is more than 2 % off wall time"};
}

// check_rate holds two proofs of one boot against wall time, where they are far enough apart. Each may have
// been `late_ms` late.
Status check_rate(const ProofPoint& previous, const ProofPoint& current, std::uint64_t late_ms) {
  const auto since = [](std::uint64_t then, std::uint64_t now) { return now > then ? now - then : 0; };
  const std::uint64_t tpm_ms = since(previous.clock.clock_ms, current.clock.clock_ms);
  const std::uint64_t wall_ms = since(previous.at.get(), current.at.get());
  if (std::max(tpm_ms, wall_ms) < kComparableMs) return Done{};
  const std::uint64_t off_ms = tpm_ms > wall_ms ? tpm_ms - wall_ms : wall_ms - tpm_ms;
  if (off_ms > wall_ms / kRateDivisor + late_ms) return off_rate();
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

Status check_not_back(const ClockInfo& proved, const ClockInfo& current) {
  if (current.reset_count < proved.reset_count)
    return refused(Reason::kBootWentBack, "resetCount is behind what the machine has proved");
  if (current.reset_count == proved.reset_count && current.restart_count < proved.restart_count)
    return refused(Reason::kBootWentBack, "restartCount is behind what the machine has proved");
  return Done{};
}

Status check_counters(const ProofPoint& previous, const ProofPoint& current) {
  SP_CHECK(check_not_back(previous.clock, current.clock));
  SP_CHECK(check_first_counters(current.clock));
  if (!is_same_boot(previous.clock, current.clock)) return Done{};
  if (current.clock.clock_ms <= previous.clock.clock_ms)
    return refused(Reason::kBootCounters, "the TPM's clock did not grow");
  return check_rate(previous, current, 0);
}

ProvenBoot::ProvenBoot(const ProofPoint& first, std::uint64_t firmware_version)
    : base_(first), firmware_version_(firmware_version), recent_{first} {}

ProvenBoot::Rate ProvenBoot::rate_of(const ProofPoint& proof) const {
  // What is accepted is never far from base_: its clock ran with wall time all along.
  const auto clock = static_cast<std::int64_t>(proof.clock.clock_ms - base_.clock.clock_ms);
  const auto wall = static_cast<std::int64_t>(proof.at.get() - base_.at.get());
  constexpr auto kDivisor = static_cast<std::int64_t>(kRateDivisor);
  return {.fast = kDivisor * clock - (kDivisor + 1) * wall, .slow = kDivisor * clock - (kDivisor - 1) * wall};
}

Result<ProvenBoot> ProvenBoot::follow(const ProofPoint& current, std::uint64_t firmware_version) const {
  if (const Status gone_on = check_not_back(base_.clock, current.clock); !gone_on.has_value()) {
    if (current.at.get() >= base_.at.get() + kLateMs) return gone_on.error();
    return Error{Code::kDenied, Reason::kBootCounters, "the quote is of before the machine's last start"};
  }
  if (recent_.empty() || !is_same_boot(base_.clock, current.clock))
    return ProvenBoot{current, firmware_version};
  if (firmware_version != firmware_version_)
    return Error{Code::kDenied, Reason::kBootCounters, "the TPM's firmware changed without a restart"};
  for (const ProofPoint& proof : recent_) {
    if (current.clock.clock_ms < proof.clock.clock_ms &&
        proof.clock.clock_ms - current.clock.clock_ms >= kLateMs)
      return Error{Code::kDenied, Reason::kBootCounters, "the TPM's clock is behind what it has proved"};
    SP_CHECK(check_rate(proof, current, kLateMs));
  }
  const Rate rate = rate_of(current);
  constexpr auto kSlack = static_cast<std::int64_t>(kRateDivisor * kLateMs);
  if (bounds_ && (rate.fast - kSlack > bounds_->fast || rate.slow + kSlack < bounds_->slow))
    return off_rate();

  ProvenBoot out = *this;
  const auto is_old = [&](const ProofPoint& proof) {
    return proof.at.get() + kComparableMs <= current.at.get();
  };
  const auto first_recent = std::find_if_not(out.recent_.begin(), out.recent_.end(), is_old);
  for (auto proof = out.recent_.begin(); proof != first_recent; ++proof) {
    const Rate old = rate_of(*proof);
    if (!out.bounds_) out.bounds_ = old;
    out.bounds_ = Rate{std::min(out.bounds_->fast, old.fast), std::max(out.bounds_->slow, old.slow)};
  }
  out.recent_.erase(out.recent_.begin(), first_recent);
  out.recent_.push_back(current);
  return out;
}

Result<ProvenBoot> ProvenBoot::pass(const ProofPoint& current, std::uint64_t firmware_version) const {
  if (!check_not_back(base_.clock, current.clock))
    return Error{Code::kDenied, Reason::kBootCounters, "the quote is of before the machine's last start"};
  if (is_same_boot(base_.clock, current.clock)) return *this;
  return ProvenBoot{current, firmware_version}.without_clock();
}

std::optional<ProvenBoot> ProvenBoot::since(UnixMillis at) const {
  if (recent_.empty() || recent_.back().at < at) return std::nullopt;
  return ProvenBoot{recent_.back(), firmware_version_};
}

ProvenBoot ProvenBoot::without_clock() const {
  ProvenBoot out = *this;
  out.recent_.clear();
  out.bounds_.reset();
  return out;
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

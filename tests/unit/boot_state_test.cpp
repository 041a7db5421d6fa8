#include "attestation/evidence/boot_state.h"

#include <gtest/gtest.h>

#include "attestation/crypto/digest.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;

constexpr std::uint64_t kMinute = 60'000;
constexpr std::uint64_t kStart = 1'795'000'000'000;

ProofPoint point(std::uint32_t reset, std::uint32_t restart, std::uint64_t clock_ms, std::uint64_t wall_ms) {
  return {{.clock_ms = clock_ms, .reset_count = reset, .restart_count = restart, .safe = true},
          UnixMillis{kStart + wall_ms}};
}

TEST(Counters, OfAFirstProofMustHaveSeenAReset) {
  EXPECT_THAT(check_first_counters(point(0, 5, 100, 0).clock), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(check_first_counters(point(1, 0, 100, 0).clock), Succeeds());
}

TEST(Counters, MayNotGoBack) {
  const ProofPoint before = point(7, 3, 100 * kMinute, 0);
  EXPECT_THAT(check_counters(before, point(0, 3, 101 * kMinute, kMinute)), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(check_counters(before, point(6, 9, 101 * kMinute, kMinute)), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(check_counters(before, point(7, 2, 101 * kMinute, kMinute)), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(check_counters(before, point(7, 3, 101 * kMinute, kMinute)), Succeeds());
}

TEST(Counters, ClockMustGrowWithinABoot) {
  const ProofPoint before = point(7, 3, 100 * kMinute, 0);
  EXPECT_THAT(check_counters(before, before), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(check_counters(before, point(7, 3, 100 * kMinute - 1, 1)), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(check_counters(before, point(7, 3, 100 * kMinute + 1, 1)), Succeeds());
}

TEST(Counters, AcrossAResetOrRestartTheClockMayBeAnything) {
  const ProofPoint before = point(7, 3, 100 * kMinute, 0);
  EXPECT_THAT(check_counters(before, point(8, 0, 5, 600 * kMinute)), Succeeds());
  EXPECT_THAT(check_counters(before, point(7, 4, 100 * kMinute + 5, 600 * kMinute)), Succeeds());
}

TEST(Counters, ClockRateIsComparedFromTenMinutesOn) {
  const ProofPoint before = point(7, 3, 0, 0);
  // A TPM slowed by 14 %, as TPM2_ClockRateAdjust can: seen after ten minutes, not before.
  EXPECT_THAT(check_counters(before, point(7, 3, 9 * kMinute * 86 / 100, 9 * kMinute)), Succeeds());
  EXPECT_THAT(check_counters(before, point(7, 3, 10 * kMinute * 86 / 100, 10 * kMinute)),
              FailsWith(Reason::kClockRate));
}

TEST(Counters, ClockMayBeTwoPercentOffAndNotMore) {
  const ProofPoint before = point(7, 3, 0, 0);
  const std::uint64_t wall = 100 * kMinute;
  for (const std::uint64_t tpm : {98 * kMinute, 100 * kMinute, 102 * kMinute})
    EXPECT_THAT(check_counters(before, point(7, 3, tpm, wall)), Succeeds()) << tpm;
  for (const std::uint64_t tpm : {98 * kMinute - 1, 102 * kMinute + 1})
    EXPECT_THAT(check_counters(before, point(7, 3, tpm, wall)), FailsWith(Reason::kClockRate)) << tpm;
}

TEST(Counters, WallTimeThatWentBackOrAnAbsurdClockIsRefused) {
  const ProofPoint before = point(7, 3, 100 * kMinute, 60 * kMinute);
  EXPECT_THAT(check_counters(before, point(7, 3, 115 * kMinute, 0)), FailsWith(Reason::kClockRate));
  EXPECT_THAT(check_counters(before, point(7, 3, ~std::uint64_t{0}, 61 * kMinute)),
              FailsWith(Reason::kClockRate));
}

class BootState : public testing::Test {
 protected:
  SoftTpm tpm_;
  Digest256 binding_ = crypto::sha256(as_bytes("binding"));
  PcrSelection selection_ = PcrSelection::standard();
  VerifiedQuote quote() {
    return value_of(verify_quote(tpm_.quote(binding_), tpm_.ak(), binding_, selection_));
  }
};

TEST_F(BootState, OfTheEnrolledMachineIsItsBaseline) {
  const BootBaseline enrolled = tpm_.baseline(selection_);
  EXPECT_THAT(check_baseline(quote(), enrolled), Succeeds());
  tpm_.extend(4, binding_);
  EXPECT_THAT(check_baseline(quote(), enrolled), FailsWith(Reason::kBootState));
}

TEST_F(BootState, OfAnotherSelectionIsNotTheBaseline) {
  BootBaseline enrolled = tpm_.baseline(selection_);
  enrolled.selection = value_of(PcrSelection::from_mask(1));
  EXPECT_THAT(check_baseline(quote(), enrolled), FailsWith(Reason::kBootState));
}

TEST_F(BootState, OfPcrsOutsideTheSelectionDoesNotMatter) {
  const BootBaseline enrolled = tpm_.baseline(selection_);
  tpm_.extend(10, binding_);
  EXPECT_THAT(check_baseline(quote(), enrolled), Succeeds());
}

TEST_F(BootState, MustBeOneWithinACase) {
  const VerifiedQuote first = quote();
  EXPECT_THAT(check_same_boot(first, quote()), Succeeds());
  tpm_.extend(7, binding_);
  EXPECT_THAT(check_same_boot(first, quote()), FailsWith(Reason::kBootState));
  SoftTpm same_counters = tpm_;
  tpm_.restart();
  EXPECT_THAT(check_same_boot(first, quote()), FailsWith(Reason::kBootCounters));
  tpm_.reset();
  EXPECT_THAT(check_same_boot(first, quote()), FailsWith(Reason::kBootCounters));
  tpm_ = same_counters;
  ++tpm_.firmware_version;
  EXPECT_THAT(check_same_boot(first, quote()), FailsWith(Reason::kBootState));
}

}  // namespace
}  // namespace sallyport::evidence

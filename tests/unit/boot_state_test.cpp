#include "attestation/evidence/boot_state.h"

#include <gtest/gtest.h>

#include <random>

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
  EXPECT_THAT(check_counters(before, point(0, 3, 101 * kMinute, kMinute)), FailsWith(Reason::kBootWentBack));
  EXPECT_THAT(check_counters(before, point(6, 9, 101 * kMinute, kMinute)), FailsWith(Reason::kBootWentBack));
  EXPECT_THAT(check_counters(before, point(7, 2, 101 * kMinute, kMinute)), FailsWith(Reason::kBootWentBack));
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

// What a machine proves from case to case.
class Proven : public testing::Test {
 protected:
  static constexpr std::uint64_t kFirmware = 0x0007'0055'0011'0000;
  // at proves the boot 7, 3 with a clock of so many seconds, at so many of wall time.
  Status at(std::uint64_t clock_s, std::uint64_t wall_s) {
    return proves(point(7, 3, 1'000'000'000 + clock_s * 1000, wall_s * 1000));
  }
  Status proves(const ProofPoint& proof, std::uint64_t firmware = kFirmware) {
    auto next = boot_ ? boot_->follow(proof, firmware) : ProvenBoot{proof, firmware};
    if (!next) return next.error();
    boot_ = *next;
    return Done{};
  }
  std::optional<ProvenBoot> boot_;
};

TEST_F(Proven, CountersDoNotGoBack) {
  EXPECT_THAT(at(0, 0), Succeeds());
  EXPECT_THAT(proves(point(7, 2, 2'000'000'000, 151'000)), FailsWith(Reason::kBootWentBack));
  EXPECT_THAT(proves(point(6, 9, 2'000'000'000, 151'000)), FailsWith(Reason::kBootWentBack));
  EXPECT_THAT(proves(point(0, 0, 2'000'000'000, 151'000)), FailsWith(Reason::kBootWentBack));
  EXPECT_THAT(proves(point(7, 4, 5, 160'000)), Succeeds());  // a resume: another clock
  EXPECT_THAT(at(400, 400), FailsWith(Reason::kBootWentBack));
  EXPECT_THAT(proves(point(9, 0, 5, 500'000)), Succeeds());
  EXPECT_EQ(boot_->reset_count(), 9u);
  EXPECT_EQ(boot_->restart_count(), 0u);
}

TEST_F(Proven, AQuoteOfBeforeTheStartMayBeLate) {
  EXPECT_THAT(at(0, 0), Succeeds());
  EXPECT_THAT(proves(point(7, 4, 5, 60'000)), Succeeds());
  EXPECT_THAT(at(55, 60 + 149), FailsWith(Reason::kBootCounters));  // refused, and no sign of a clear
  EXPECT_THAT(at(55, 60 + 150), FailsWith(Reason::kBootWentBack));
}

TEST_F(Proven, QuotesOfOneBootMayOvertakeOneAnotherALittle) {
  EXPECT_THAT(at(100, 100), Succeeds());
  EXPECT_THAT(at(95, 101), Succeeds());
  EXPECT_THAT(at(101, 102), Succeeds());
  ASSERT_THAT(at(220, 221), Succeeds());
  EXPECT_THAT(at(71, 222), Succeeds());
  EXPECT_THAT(at(70, 222), FailsWith(Reason::kBootCounters));  // two and a half minutes behind
}

TEST_F(Proven, FirmwareDoesNotChangeWithinABoot) {
  EXPECT_THAT(at(0, 0), Succeeds());
  EXPECT_THAT(proves(point(7, 3, 1'000'001'000, 1000), kFirmware + 1), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(proves(point(8, 0, 5, 1000), kFirmware + 1), Succeeds());
}

TEST_F(Proven, TheRateIsHeldAgainstEachProofOfTenMinutesBefore) {
  EXPECT_THAT(at(0, 0), Succeeds());
  EXPECT_THAT(at(440, 599), Succeeds());  // not comparable yet
  EXPECT_THAT(at(437, 600),
              FailsWith(Reason::kClockRate));  // 2 %, and two and a half minutes that it was late
  EXPECT_THAT(at(438, 600), Succeeds());
  EXPECT_THAT(at(9649, 10'000), FailsWith(Reason::kClockRate));  // of the first, long ago
  EXPECT_THAT(at(9650, 10'000), Succeeds());
}

TEST_F(Proven, AskingOftenHidesNothing) {
  EXPECT_THAT(at(0, 0), Succeeds());
  std::uint64_t wall = 0, clock = 0;
  Status slowed = Done{};
  while (slowed && wall < 36'000) slowed = at(clock += 57, wall += 60);  // 5 % slow
  EXPECT_THAT(slowed, FailsWith(Reason::kClockRate));
  EXPECT_EQ(wall, 5040u);  // 3 % of that is the late two and a half minutes
}

TEST_F(Proven, AFastClockIsAsBad) {
  EXPECT_THAT(at(0, 0), Succeeds());
  EXPECT_THAT(at(762, 600), Succeeds());
  EXPECT_THAT(at(1450, 1250), FailsWith(Reason::kClockRate));
  EXPECT_THAT(at(4000, 620), FailsWith(Reason::kClockRate));  // set ahead
  EXPECT_THAT(proves(point(7, 3, ~std::uint64_t{0}, 620'000)), FailsWith(Reason::kClockRate));
  EXPECT_THAT(at(1350, 1250), Succeeds());
}

TEST_F(Proven, WhatWasCarriedAboutTellsNothingOfTheClock) {
  const auto passed = [&](const ProofPoint& proof) { return boot_->pass(proof, kFirmware); };
  EXPECT_THAT(at(0, 0), Succeeds());
  EXPECT_EQ(value_of(passed(point(7, 3, 1'000'000'000, 9'000'000))), *boot_);  // hours late
  EXPECT_THAT(passed(point(7, 2, 1'000'000'000, 1000)), FailsWith(Reason::kBootCounters));
  const ProvenBoot later = value_of(passed(point(8, 0, 5, 1000)));
  EXPECT_EQ(later.reset_count(), 8u);
  EXPECT_THAT(later.follow(point(7, 3, 1'000'900'000, 900'000), kFirmware), FailsWith(Reason::kBootWentBack));
  EXPECT_THAT(later.follow(point(8, 0, 7'000'000, 900'000), kFirmware), Succeeds());
}

TEST_F(Proven, OfWhatIsForgottenTheNewestProofIsLeft) {
  EXPECT_THAT(at(0, 0), Succeeds());
  EXPECT_THAT(at(900, 900), Succeeds());
  const auto when = [](std::uint64_t wall_s) { return UnixMillis{kStart + wall_s * 1000}; };
  EXPECT_EQ(boot_->since(when(901)), std::nullopt);
  const ProvenBoot left = boot_->since(when(900)).value();
  EXPECT_EQ(left, (ProvenBoot{point(7, 3, 1'000'900'000, 900'000), kFirmware}));
  EXPECT_EQ(left.without_clock().since(when(0)), std::nullopt);
}

TEST_F(Proven, WhoKnowsOfFewerProofsAcceptsWhatWasAccepted) {
  // As erasures take requests away: whatever is left out, what is left follows.
  std::mt19937 random{7};
  std::vector<ProofPoint> accepted;
  std::uint64_t wall = 0;
  for (int i = 0; i < 400; ++i) {
    wall += random() % 400;
    const std::uint64_t clock = wall + random() % 400;  // quotes are late by up to 400 s
    const ProofPoint proof = point(7, 3, 1'000'000'000 + clock * 1000, wall * 1000);
    if (proves(proof)) accepted.push_back(proof);
  }
  ASSERT_GT(accepted.size(), 40u);
  ASSERT_LT(accepted.size(), 400u);
  for (int round = 0; round < 200; ++round) {
    boot_.reset();
    for (const ProofPoint& proof : accepted) {
      if (random() % 3 == 0) continue;
      ASSERT_THAT(proves(proof), Succeeds());
    }
  }
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

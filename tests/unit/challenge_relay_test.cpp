#include "broker/sessions/challenge_relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/support/matchers.h"

namespace sallyport::sessions {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::FailsWith;
using test::Succeeds;
using test::value_of;
using testing::IsEmpty;

constexpr milliseconds kAtOnce{0};
constexpr seconds kPatience{30};  // for what another thread is about to do
const CaseId kCase{ByteArray<16>{1}}, kOther{ByteArray<16>{2}};

api::Challenge challenge(std::uint8_t mark) {
  api::Challenge made;
  made.blob = Bytes(8, mark);
  made.secret = Bytes(8, mark);
  return made;
}

TEST(ChallengeRelay, CarriesAChallengeToTheMachineAndItsAnswerBack) {
  ChallengeRelay relay;
  EXPECT_EQ(value_of(relay.add(kCase, "frank", challenge(7))), 1U);
  const auto open = relay.wait_open(kCase, kAtOnce);
  ASSERT_EQ(open.size(), 1U);
  EXPECT_EQ(open[0].number, 1U);
  EXPECT_EQ(open[0].blob, challenge(7).blob);
  EXPECT_EQ(open[0].secret, challenge(7).secret);
  EXPECT_EQ(value_of(relay.wait_answer(kCase, 1, "frank", kAtOnce)), "");
  EXPECT_THAT(relay.answer(kCase, 1, "beef"), Succeeds());
  EXPECT_EQ(value_of(relay.wait_answer(kCase, 1, "frank", kAtOnce)), "beef");
  EXPECT_THAT(relay.wait_open(kCase, kAtOnce), IsEmpty());
}

TEST(ChallengeRelay, GivesAnAnswerToTheApproverWhoAskedAndToNobodyElse) {
  ChallengeRelay relay;
  value_of(relay.add(kCase, "frank", challenge(1)));
  EXPECT_EQ(value_of(relay.add(kCase, "grace", challenge(2))), 2U);
  value_of(relay.answer(kCase, 1, "of frank"));
  EXPECT_EQ(value_of(relay.wait_answer(kCase, 1, "frank", kAtOnce)), "of frank");
  EXPECT_EQ(value_of(relay.wait_answer(kCase, 2, "grace", kAtOnce)), "");
  EXPECT_THAT(relay.wait_answer(kCase, 1, "grace", kAtOnce), FailsWith(Reason::kCaseUnknown));
}

TEST(ChallengeRelay, TakesOneAnswerToAChallenge) {
  ChallengeRelay relay;
  value_of(relay.add(kCase, "frank", challenge(1)));
  value_of(relay.answer(kCase, 1, "first"));
  EXPECT_THAT(relay.answer(kCase, 1, "second"), FailsWith(Reason::kCredentialChallenge));
  EXPECT_EQ(value_of(relay.wait_answer(kCase, 1, "frank", kAtOnce)), "first");
}

TEST(ChallengeRelay, KeepsCasesApartAndKnowsNoNumberThatItDidNotGive) {
  ChallengeRelay relay;
  value_of(relay.add(kCase, "frank", challenge(1)));
  EXPECT_THAT(relay.wait_open(kOther, kAtOnce), IsEmpty());
  for (const std::uint64_t number : {std::uint64_t{0}, std::uint64_t{2}, ~std::uint64_t{0}}) {
    EXPECT_THAT(relay.answer(kCase, number, "x"), FailsWith(Reason::kCaseUnknown));
    EXPECT_THAT(relay.wait_answer(kCase, number, "frank", kAtOnce), FailsWith(Reason::kCaseUnknown));
  }
  EXPECT_THAT(relay.answer(kOther, 1, "x"), FailsWith(Reason::kCaseUnknown));
}

TEST(ChallengeRelay, TakesSixtyFourChallengesInACaseAndNoMore) {
  ChallengeRelay relay;
  for (std::uint64_t i = 1; i <= 64; ++i) EXPECT_EQ(value_of(relay.add(kCase, "frank", challenge(1))), i);
  EXPECT_THAT(relay.add(kCase, "frank", challenge(1)), FailsWith(Reason::kRateLimited));
  EXPECT_THAT(relay.add(kOther, "frank", challenge(1)), Succeeds());
}

TEST(ChallengeRelay, WakesWhoWaitsWhenThereIsSomethingForHim) {
  ChallengeRelay relay;
  auto open = std::async(std::launch::async, [&] { return relay.wait_open(kCase, kPatience); });
  value_of(relay.add(kOther, "frank", challenge(1)));  // not for him
  value_of(relay.add(kCase, "frank", challenge(2)));
  EXPECT_EQ(open.get().size(), 1U);
  auto answer =
      std::async(std::launch::async, [&] { return relay.wait_answer(kCase, 1, "frank", kPatience); });
  for (int i = 0; i < 40; ++i) value_of(relay.add(kCase, "grace", challenge(3)));  // moves what it waits for
  value_of(relay.answer(kCase, 1, "beef"));
  EXPECT_EQ(value_of(answer.get()), "beef");
}

TEST(ChallengeRelay, LetsWhoWaitsGoWhenItStops) {
  ChallengeRelay relay;
  value_of(relay.add(kCase, "frank", challenge(1)));
  auto open = std::async(std::launch::async, [&] { return relay.wait_open(kOther, kPatience); });
  auto answer =
      std::async(std::launch::async, [&] { return relay.wait_answer(kCase, 1, "frank", kPatience); });
  relay.stop_waiting();
  EXPECT_THAT(open.get(), IsEmpty());
  EXPECT_EQ(value_of(answer.get()), "");
  EXPECT_THAT(relay.wait_open(kOther, kPatience), IsEmpty());  // and at once from now on
}

}  // namespace
}  // namespace sallyport::sessions

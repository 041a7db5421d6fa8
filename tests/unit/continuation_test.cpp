#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

// A log that goes on from another one: what the people of the one before must have signed, and what holds in
// it.
namespace sallyport::test {
namespace {

using namespace record;
using namespace std::chrono_literals;

const std::string kFirst = "us.sallyport.corp.example/log/1", kSecond = "us.sallyport.corp.example/log/2";

class Continuations : public ::testing::Test {
 protected:
  RecordScenario company;
  // refused begins the second log with something changed.
  Result<LeafIndex> begin(const RecordScenario::ContinueStep& step) { return company.continue_log(step); }
};

TEST_F(Continuations, MachinesAndRevocationsGoOnAndCasesDoNot) {
  company.granted();
  const OpenCase open = company.request({});
  company.machine("tower", "us");
  value_of(company.revoke(RevocationKind::kDevice, to_hex(company.machine("tower").device())));
  value_of(company.revoke(RevocationKind::kPerson, SampleCompany::id("mona")));
  const Digest256 token = crypto::sha256(as_bytes("a lost token"));
  value_of(company.revoke(RevocationKind::kToken, to_hex(token)));
  const std::size_t machines = company.follower.devices().size();

  value_of(begin({}));
  const ControlState& now = company.follower;
  EXPECT_EQ(now.origin().get(), kSecond);
  EXPECT_EQ(now.size().get(), 1U);
  EXPECT_EQ(now.policy()->policy.version, 2U);
  EXPECT_EQ(now.policy()->policy.authority.continues->origin.get(), kFirst);
  EXPECT_EQ(now.devices().size(), machines);
  EXPECT_NE(now.find_device_by_ak(company.machine("laptop").ak_public()), nullptr);
  EXPECT_TRUE(now.is_revoked(company.machine("tower").device()));
  EXPECT_TRUE(now.is_revoked_person(SampleCompany::id("mona")));
  EXPECT_TRUE(now.is_revoked_token(KeyId{token}));
  EXPECT_EQ(now.find_case(open.id), nullptr);
  // Its bytes are one string too.
  EXPECT_EQ(encode_control(value_of(parse_control(encode_control(now)))), encode_control(now));
  // Machines work without enrolling anew; who is revoked stays so.
  const OpenCase next = company.granted();
  EXPECT_TRUE(company.follower.find_grant(next.id).has_value());
  // What was signed for the log before is nothing here.
  EXPECT_THAT(company.append(Kind::kRequest, open.id, open.submission), FailsWith(Code::kUnverified));
}

TEST_F(Continuations, ALogThatGoesOnMayBeGoneOnFrom) {
  company.granted();
  value_of(begin({}));
  value_of(company.change_policy([](SamplePolicy&) {}));
  value_of(begin({.origin = "us.sallyport.corp.example/log/3"}));
  EXPECT_EQ(company.follower.policy()->policy.version, 4U);
  EXPECT_EQ(company.follower.policy()->policy.authority.continues->origin.get(), kSecond);
  company.granted();
}

TEST_F(Continuations, NeedTheQuorumOfTheLogBefore) {
  company.granted();
  EXPECT_THAT(begin({.approvers = {"grace", "heidi"}}), FailsWith(Reason::kQuorumNotMet));
  RecordScenario twice;
  EXPECT_THAT(twice.continue_log({.approvers = {"grace", "heidi", "heidi"}}),
              FailsWith(Reason::kApprovalDuplicate));
  RecordScenario others;
  EXPECT_THAT(others.continue_log({.approvers = {"alice", "bob", "dana"}}),
              FailsWith(Reason::kApprovalNotEligible));
  RecordScenario revoked;
  value_of(revoked.revoke(RevocationKind::kPerson, SampleCompany::id("judy")));
  EXPECT_THAT(revoked.continue_log({}), FailsWith(Reason::kApprovalRevoked));
  // The people of the next policy are not those who are asked.
  RecordScenario usurped;
  for (const char* name : {"nina", "otto", "pia"})
    usurped.company.add_person(name, "us", "sec", {"security"});
  EXPECT_THAT(usurped.continue_log({.approvers = {"nina", "otto", "pia"}}),
              FailsWith(Reason::kApprovalForeignKey));
}

TEST_F(Continuations, AreOfTheStateThatThePolicyNames) {
  company.granted();
  const auto with = [](const std::string& from, const std::string& to) {
    return RecordScenario::ContinueStep{.edit = [=](SamplePolicy& policy) {
      const auto at = policy.continues.find(from);
      ASSERT_NE(at, std::string::npos);
      policy.continues.replace(at, from.size(), to);
    }};
  };
  const std::string size = std::to_string(company.follower.size().get());
  RecordScenario one = company;
  EXPECT_THAT(one.continue_log(with("size = " + size, "size = 1")), FailsWith(Reason::kTrustAnchor));
  one = company;
  EXPECT_THAT(one.continue_log(with("root = \"sha256:", "root = \"sha256:" + std::string(64, '0') + "\" #")),
              FailsWith(Code::kMalformed));
  one = company;
  EXPECT_THAT(one.continue_log(with(to_hex(company.follower.root()), to_hex(crypto::sha256(as_bytes("x"))))),
              FailsWith(Reason::kTrustAnchor));
  one = company;
  EXPECT_THAT(one.continue_log(with(kFirst, "us.sallyport.corp.example/log/7")),
              FailsWith(Reason::kTrustAnchor));
  // Another state than the one named: a machine more, a revocation less.
  one = company;
  RecordScenario richer = company;
  value_of(richer.revoke(RevocationKind::kPerson, SampleCompany::id("mona")));
  EXPECT_THAT(
      one.continue_log({.edit_continuation =
                            [&](Continuation& before) { before.state = encode_control(richer.follower); }}),
      FailsWith(Reason::kTrustAnchor));
  one = company;
  EXPECT_THAT(
      one.continue_log({.edit_continuation = [](Continuation& before) { before.state.push_back(0); }}),
      FailsWith(Reason::kTrustAnchor));
}

TEST_F(Continuations, FollowThePolicyInForceAndNoOther) {
  company.granted();
  RecordScenario one = company;
  EXPECT_THAT(one.continue_log({.edit = [](SamplePolicy& policy) { policy.version = 7; }}),
              FailsWith(Reason::kPolicyNotSuccessor));
  one = company;
  EXPECT_THAT(one.continue_log(
                  {.edit = [](SamplePolicy& policy) { policy.previous = crypto::sha256(as_bytes("x")); }}),
              FailsWith(Reason::kPolicyNotSuccessor));
  one = company;
  EXPECT_THAT(one.continue_log({.edit = [](SamplePolicy& policy) { policy.continues = ""; }}),
              FailsWith(Reason::kTrustAnchor));
  one = company;
  EXPECT_THAT(one.continue_log({.edit_proposal = [](PolicyProposed& p) { p.authority = kSecond; }}),
              FailsWith(Code::kUnverified));
  one = company;
  EXPECT_THAT(one.continue_log(
                  {.edit_proposal = [](PolicyProposed& p) { p.digest = crypto::sha256(as_bytes("x")); }}),
              FailsWith(Reason::kPolicyNotSuccessor));
  one = company;
  EXPECT_THAT(
      one.continue_log(
          {.edit_proposal = [](PolicyProposed& p) { p.time = UnixMillis{p.time.get() - 73u * 3600'000}; }}),
      FailsWith(Reason::kCaseExpired));
}

TEST_F(Continuations, AreNoPolicyOfTheLogItself) {
  // What was signed for the next log is nothing in this one, and nobody slips `continues` in later.
  EXPECT_THAT(company.change_policy([](SamplePolicy& policy) { policy.origin = kSecond; }),
              FailsWith(Code::kUnverified));
  RecordScenario other;
  EXPECT_THAT(other.change_policy([](SamplePolicy& policy) {
    policy.continues = "{ origin = \"" + kSecond +
                       "\", size = 1, root = \"sha256:" + to_hex(crypto::sha256(as_bytes("x"))) +
                       "\", state = \"sha256:" + to_hex(crypto::sha256(as_bytes("x"))) + "\" }";
  }),
              FailsWith(Reason::kPolicyNotSuccessor));
}

}  // namespace
}  // namespace sallyport::test

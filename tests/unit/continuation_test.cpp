#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/follow/follower.h"
#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"
#include "tests/support/files.h"
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

TEST_F(Continuations, MachinesGoOnAsWhatHasBecomeOfThem) {
  SoftTpm& laptop = company.machine("laptop");
  SoftTpm& pooled = company.machine("pooled");
  SoftTpm& back = company.machine("back");
  SoftTpm& lost = company.machine("lost");
  const Digest256 first_boot = company.follower.find_device(laptop.device())->baseline.pcr_digest;
  laptop.extend(0, crypto::sha256(as_bytes("new firmware")));
  value_of(company.enrol(laptop, {.machine = "laptop-2"}));
  value_of(company.revoke(RevocationKind::kRetired, to_hex(pooled.device())));
  value_of(company.revoke(RevocationKind::kRetired, to_hex(back.device())));
  value_of(company.enrol(back, {.machine = "back"}));
  value_of(company.revoke(RevocationKind::kLost, to_hex(lost.device())));

  value_of(begin({}));
  const ControlState& now = company.follower;
  const Device* again = now.find_device(laptop.device());
  EXPECT_EQ(again->name, "laptop-2");  // the record that replaced the other
  EXPECT_NE(again->baseline.pcr_digest, first_boot);
  EXPECT_EQ(again->enrolled, LeafIndex{0});
  for (const SoftTpm* tpm : {&laptop, &pooled, &back, &lost})
    EXPECT_EQ(now.find_device_by_identity(evidence::name_of(*tpm->identity_key))->id, tpm->device());
  EXPECT_EQ(now.find_retired(pooled.device()), LeafIndex{0});
  EXPECT_FALSE(now.is_revoked(back.device()));
  EXPECT_EQ(now.find_lost(lost.device()), LeafIndex{0});
  EXPECT_FALSE(now.find_retired(lost.device()).has_value());
  EXPECT_EQ(encode_control(value_of(parse_control(encode_control(now)))), encode_control(now));

  // What is live works; a retired machine is enrolled again here, once, and a lost one never.
  EXPECT_FALSE(company.state.cases.at(company.request({}).id).refusable.has_value());
  EXPECT_FALSE(company.state.cases.at(company.request({.machine = "back"}).id).refusable.has_value());
  EXPECT_EQ(company.state.cases.at(company.request({.machine = "pooled"}).id).refusable,
            Reason::kDeviceRevoked);
  SoftTpm other_keys;
  other_keys.identity_key = pooled.identity_key;
  EXPECT_THAT(company.enrol(other_keys, {.machine = "second"}), FailsWith(Reason::kDeviceExists));
  EXPECT_THAT(company.enrol(pooled, {.machine = "pooled"}), Succeeds());
  EXPECT_FALSE(company.follower.is_revoked(pooled.device()));
  EXPECT_FALSE(company.state.cases.at(company.request({.machine = "pooled"}).id).refusable.has_value());
  EXPECT_THAT(company.enrol(lost, {.machine = "lost"}), FailsWith(Reason::kDeviceRevoked));
}

// Who follows knows what was retired or lost; a log that goes on from before that is a rollback, however
// long.
TEST_F(Continuations, LackNothingThatAFollowerHasSeenOfMachines) {
  const DeviceId laptop = company.machine("laptop").device();
  for (const RevocationKind kind :
       {RevocationKind::kRetired, RevocationKind::kLost, RevocationKind::kDevice}) {
    RecordScenario seen = company, behind = company;
    value_of(seen.revoke(kind, to_hex(laptop)));
    const ControlState own = seen.follower;
    for (int i = 0; i < 2; ++i) value_of(behind.revoke(RevocationKind::kPerson, SampleCompany::id("mona")));
    ASSERT_GT(behind.follower.size(), own.size());
    EXPECT_THAT(check_continues(own, behind.follower), FailsWith(Reason::kLogRollback));
    EXPECT_THAT(check_continues(own, own), Succeeds());
    // It went on, and the machine was enrolled again, or came to be lost.
    if (kind == RevocationKind::kRetired) value_of(seen.enrol(seen.machine("laptop"), {.machine = "laptop"}));
    if (kind == RevocationKind::kDevice) value_of(seen.revoke(RevocationKind::kLost, to_hex(laptop)));
    EXPECT_THAT(check_continues(own, seen.follower), Succeeds());
  }
  // Lost is more than revoked: who has seen it takes no state that tells less.
  RecordScenario lost = company, revoked = company;
  value_of(lost.revoke(RevocationKind::kLost, to_hex(laptop)));
  value_of(revoked.revoke(RevocationKind::kDevice, to_hex(laptop)));
  value_of(revoked.revoke(RevocationKind::kPerson, SampleCompany::id("mona")));
  EXPECT_THAT(check_continues(lost.follower, revoked.follower), FailsWith(Reason::kLogRollback));
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

// ---- the files and parties of the ceremony

TEST_F(Continuations, AreOneFile) {
  company.granted();
  const Continuation before = company.make_continuation({});
  const Bytes bytes = encode_continuation(before);
  const Continuation back = value_of(parse_continuation(bytes));
  EXPECT_EQ(back.state, before.state);
  EXPECT_EQ(back.proposal, before.proposal);
  EXPECT_EQ(back.approvals, before.approvals);
  EXPECT_EQ(encode_continuation(back), bytes);
  for (std::size_t cut = 0; cut < bytes.size(); cut += 1 + bytes.size() / 40)
    EXPECT_THAT(parse_continuation(ByteView{bytes}.first(cut)), FailsWith(Code::kMalformed)) << cut;
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_THAT(parse_continuation(longer), FailsWith(Code::kMalformed));
}

class FollowersGoOn : public Continuations {
 protected:
  // follow has a follower take what it lacks of the company's log.
  void follow(follow::Follower& follower) {
    Batch batch;
    batch.from = LeafIndex{follower.control()->size().get()};
    for (std::uint64_t i = batch.from.get(); i < company.entries.size(); ++i) {
      const Entry& entry = company.entries[i];
      batch.leaves.push_back(entry.leaf);
      if (is_control(value_of(parse_kind(entry.leaf.kind)))) batch.controls.push_back({LeafIndex{i}, entry});
    }
    batch.note = company.cosign();
    value_of(follower.accept(batch));
  }
  std::unique_ptr<follow::Follower> open() { return value_of(follow::Follower::open(file, anchor)); }
  std::unique_ptr<follow::Follower> make() {
    company.granted();
    value_of(follow::Follower::create(file, anchor));
    auto follower = open();
    follow(*follower);
    return follower;
  }

  TemporaryDirectory directory;
  const std::filesystem::path file = directory / "follow.db";
  const follow::TrustAnchor anchor{company.origin(), company.genesis};
};

TEST_F(FollowersGoOn, WhenThePeopleWhomTheyKnowHaveSigned) {
  const auto follower = make();
  const auto beside = open();  // another process of the same owner
  value_of(begin({}));
  value_of(follower->go_on(company.entries.front()));
  EXPECT_EQ(follower->anchor().origin.get(), kSecond);
  EXPECT_EQ(follower->control()->size().get(), 1U);
  EXPECT_EQ(follower->noted(), nullptr);  // nobody has cosigned anything of it yet
  EXPECT_EQ(follower->note(), "");
  company.granted();
  follow(*follower);
  EXPECT_EQ(follower->control()->root(), company.tree.root());
  // The trust file still pins the first log; the next start is in the second.
  const auto again = open();
  EXPECT_EQ(again->anchor().origin.get(), kSecond);
  EXPECT_EQ(again->control()->root(), company.tree.root());
  ASSERT_NE(again->noted(), nullptr);
  EXPECT_EQ(again->noted()->size(), company.tree.size());
  // Who still followed the first one in this file takes nothing into it, and finds the second.
  Batch late;
  late.from = LeafIndex{beside->control()->size().get()};
  late.leaves.push_back(company.entries.at(1).leaf);  // of a request
  EXPECT_THAT(beside->advance(late), FailsWith(Code::kStale));
  EXPECT_EQ(beside->control()->root(), company.tree.root());
  EXPECT_THAT(beside->go_on(company.entries.front()), FailsWith(Reason::kTrustAnchor));
}

TEST_F(FollowersGoOn, NotToALogThatIsBehindThem) {
  RecordScenario before = company;
  before.granted();
  const auto follower = make();
  (void)before;
  RecordScenario behind = company;  // as a backup has it: without what came last
  value_of(company.revoke(RevocationKind::kPerson, SampleCompany::id("mona")));
  follow(*follower);
  value_of(behind.continue_log({}));
  EXPECT_THAT(follower->go_on(behind.entries.front()), FailsWith(Reason::kLogRollback));
  // As long, but another history.
  RecordScenario other = behind;
  EXPECT_EQ(follower->anchor().origin.get(), kFirst);
  follow(*follower);
}

TEST_F(FollowersGoOn, NotToAnotherHistoryOfTheSameSize) {
  const auto follower = make();
  RecordScenario other = company;
  value_of(company.revoke(RevocationKind::kPerson, SampleCompany::id("mona")));
  follow(*follower);
  value_of(other.revoke(RevocationKind::kPerson, SampleCompany::id("karl")));
  value_of(other.continue_log({}));
  EXPECT_THAT(follower->go_on(other.entries.front()), FailsWith(Reason::kLogFork));
}

TEST_F(FollowersGoOn, NotWithoutWhatIsRevokedHere) {
  const auto follower = make();
  RecordScenario other = company;
  value_of(company.revoke(RevocationKind::kPerson, SampleCompany::id("mona")));
  follow(*follower);
  other.granted();  // longer, and without the revocation
  value_of(other.continue_log({}));
  EXPECT_THAT(follower->go_on(other.entries.front()), FailsWith(Reason::kLogRollback));
}

TEST_F(FollowersGoOn, NotUnderPeopleWhomTheyDoNotKnow) {
  const auto follower = make();
  value_of(company.change_policy([&](SamplePolicy&) {}));  // not followed here
  value_of(begin({}));
  EXPECT_THAT(follower->go_on(company.entries.front()), FailsWith(Reason::kPolicyChanged));
}

TEST_F(FollowersGoOn, NotToALogThatBeginsWithVersionOneOrUnsigned) {
  const auto follower = make();
  RecordScenario stranger;
  EXPECT_THAT(follower->go_on(stranger.entries.front()), FailsWith(Reason::kTrustAnchor));
  Continuation before = company.make_continuation({});
  before.approvals.pop_back();
  const Entry unsigned_first =
      value_of(compose_continued(Origin{kSecond}, company.policy_document(), before, company.now, Nonce{}));
  EXPECT_THAT(follower->go_on(unsigned_first), FailsWith(Reason::kQuorumNotMet));
  EXPECT_EQ(open()->anchor().origin.get(), kFirst);
}

TEST_F(FollowersGoOn, AndAreJoinedThere) {
  company.granted();
  value_of(begin({}));
  company.granted();
  const ControlState before_snapshot = company.follower;
  value_of(company.append(value_of(compose_snapshot(company.follower, company.now, Nonce{}))));
  Joining joining;
  joining.policies.push_back(company.entries.front());
  for (const Entry& entry : company.entries)
    if (joining.leaves.size() + 1 < company.entries.size()) joining.leaves.push_back(entry.leaf);
  joining.snapshot = company.entries.back();
  joining.state = encode_control(before_snapshot);
  const ControlState joined = value_of(join_control(company.origin(), company.genesis, joining));
  EXPECT_EQ(encode_control(joined), encode_control(company.follower));
}

}  // namespace
}  // namespace sallyport::test

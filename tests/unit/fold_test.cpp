#include <gtest/gtest.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/record/binding.h"
#include "attestation/record/host_key.h"
#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::record {
namespace {

using namespace std::chrono_literals;
using test::FailsWith;
using test::OpenCase;
using test::RecordScenario;
using test::SampleCompany;
using test::SamplePolicy;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;
using RequestStep = RecordScenario::RequestStep;
using ApprovalStep = RecordScenario::ApprovalStep;
using GrantStep = RecordScenario::GrantStep;
using EnrolStep = RecordScenario::EnrolStep;

const Case& case_of(const RecordScenario& world, const OpenCase& open) {
  return world.state.cases.at(open.id);
}

// A request that is recorded, and whose only future is a refusal with this reason.
void expect_refused(RecordScenario& world, const RequestStep& step, Reason reason) {
  const OpenCase open = world.request(step);
  const Case& one = case_of(world, open);
  ASSERT_EQ(one.state, CaseState::kRefusable) << one.detail;
  EXPECT_EQ(reason_name(*one.refusable), reason_name(reason)) << one.detail;
  EXPECT_THAT(world.grant(open), FailsWith(reason));
  const Entry refusal = value_of(compose_refusal(world.state, open.id, world.now, crypto::random_nonce()));
  EXPECT_THAT(world.append(refusal), Succeeds());
  EXPECT_EQ(case_of(world, open).state, CaseState::kRefused);
}

TEST(Fold, GrantsAnAccessWithItsWholeLife) {
  RecordScenario world;
  const OpenCase open = world.request({});
  EXPECT_EQ(case_of(world, open).state, CaseState::kOpen);
  EXPECT_EQ(case_of(world, open).decision->account, "dbadmin");
  EXPECT_EQ(case_of(world, open).decision->duration_s, 900u);
  EXPECT_EQ(case_of(world, open).decision->network, "us");
  EXPECT_FALSE(value_of(quorum_progress(world.state, open.id, world.now)).met);

  world.approve_all(open);
  const QuorumProgress progress = value_of(quorum_progress(world.state, open.id, world.now));
  EXPECT_TRUE(progress.met);
  ASSERT_EQ(progress.clauses.size(), 2u);
  EXPECT_EQ(progress.clauses[0].have, 2u);

  const LeafIndex index = value_of(world.grant(open));
  EXPECT_EQ(case_of(world, open).state, CaseState::kGranted);
  const GrantMark mark = *world.follower.find_grant(open.id);
  EXPECT_EQ(mark.index, index);
  EXPECT_EQ(mark.not_after.get() - mark.not_before.get(), 900'000u);

  EXPECT_THAT(world.append(Kind::kLease, open.id, world.lease(open)), Succeeds());
  EXPECT_THAT(world.append(Kind::kSessionOpened, open.id, world.session_opened(open, 1)), Succeeds());
  EXPECT_THAT(world.append(Kind::kSessionOpened, open.id, world.session_opened(open, 2)), Succeeds());
  EXPECT_THAT(world.append(Kind::kSessionClosed, open.id, world.session_closed(open, 1)), Succeeds());
  EXPECT_EQ(case_of(world, open).open_channels, std::vector<std::uint64_t>{2});
  EXPECT_EQ(world.state.control.root(), world.tree.root());
  EXPECT_EQ(find_statement(world.state, open.id, open.digest), case_of(world, open).first);
}

TEST(Fold, RefusesOneApprovalOfTwo) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open, {"alice", "dana"});
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kQuorumNotMet));
  // A grant that says otherwise is no better.
  const Grant forged{
      .approvals = {case_of(world, open).approvals[0].digest, case_of(world, open).approvals[1].digest},
      .authority = world.origin().get(),
      .case_id = open.id,
      .decision = encode(*case_of(world, open).decision)};
  EXPECT_THAT(world.append(world.forge_grant(forged, world.activation(open, {}))),
              FailsWith(Reason::kQuorumNotMet));
}

TEST(Fold, CountsAPersonWithTwoTokensOnce) {
  const crypto::PrivateKey second = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  RecordScenario world{[&](SampleCompany& company) {
    company.policy.person("alice@corp.example").tokens.push_back({"alice-yk2", second.public_key()});
  }};
  const OpenCase open = world.request({});
  EXPECT_THAT(world.approve(open.id, "alice"), Succeeds());
  EXPECT_THAT(world.approve(open.id, "alice"), FailsWith(Reason::kApprovalDuplicate));
  ApprovalStep step;
  step.token = &second;
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kApprovalDuplicate));
}

TEST(Fold, CountsAPersonInTwoGroupsOnce) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open, {"alice", "carol"});  // carol is of us-oncall and of privacy
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kQuorumNotMet));
  world.approve_all(open, {"bob"});
  EXPECT_THAT(world.grant(open), Succeeds());
}

TEST(Fold, NamesOnlyTheApprovalsThatFillTheQuorum) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open, {"alice", "bob", "carol", "dana"});
  GrantStep all;
  all.edit = [&](Grant& grant) {
    EXPECT_EQ(grant.approvals.size(), 3u);
    grant.approvals.clear();
    for (const CountedApproval& approval : case_of(world, open).approvals)
      grant.approvals.push_back(approval.digest);
  };
  EXPECT_THAT(world.grant(open, all), FailsWith(Reason::kQuorumNotMet));
  EXPECT_THAT(world.grant(open), Succeeds());
}

TEST(Fold, RefusesApprovalsByForeignKeys) {
  RecordScenario world;
  const OpenCase open = world.request({});
  const crypto::PrivateKey stranger = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  ApprovalStep step;
  step.token = &stranger;
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kApprovalForeignKey));
  step.token = &world.company.token("bob");  // a token of the policy, of somebody else
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kApprovalForeignKey));
}

TEST(Fold, RefusesApprovalsOfRevokedPeopleAndTokens) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  EXPECT_THAT(world.revoke(RevocationKind::kToken, to_hex(world.company.token("bob").public_key().id())),
              Succeeds());
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kApprovalRevoked));
  EXPECT_THAT(world.revoke(RevocationKind::kPerson, SampleCompany::id("mona")), Succeeds());
  EXPECT_THAT(world.approve(open.id, "mona"), FailsWith(Reason::kApprovalRevoked));
  EXPECT_FALSE(value_of(quorum_progress(world.state, open.id, world.now)).met);
  // Somebody else can take the place.
  EXPECT_THAT(world.approve(open.id, "carol"), Succeeds());
  EXPECT_THAT(world.grant(open), Succeeds());
}

TEST(Fold, RefusesApprovalsOfAnotherDecision) {
  RecordScenario world;
  const OpenCase open = world.request({});
  const OpenCase other = world.request({});
  ApprovalStep step;
  step.edit = [&](Approval& approval) { approval.decision = case_of(world, other).to_approve; };
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kApprovalOtherDecision));
  step.edit = [&](Approval& approval) { approval.authority = "cn.sallyport.corp.example/log/1"; };
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kApprovalOtherDecision));
  // The very approval of one case, put into the other.
  const Submission carried = world.make_approval(other.id, "alice", {});
  EXPECT_THAT(world.append(Kind::kApproval, open.id, carried), FailsWith(Reason::kApprovalOtherDecision));
  EXPECT_THAT(world.append(Kind::kApproval, other.id, carried), Succeeds());
}

TEST(Fold, RefusesExpiredApprovals) {
  RecordScenario world;
  const OpenCase open = world.request({});
  ApprovalStep step;
  step.edit = [&](Approval& approval) { approval.expires = world.now + 1h + 1ms; };
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kApprovalExpired));
  step.edit = [&](Approval& approval) { approval.expires = approval.time; };
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kApprovalExpired));
  step.edit = [&](Approval& approval) { approval.expires = world.now + 10min; };
  EXPECT_THAT(world.approve(open.id, "alice", step), Succeeds());
  world.approve_all(open, {"bob", "dana"});
  world.advance(10min);
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kApprovalExpired));
}

TEST(Fold, RefusesApprovalsByRequesterAndBeneficiary) {
  RecordScenario world{[](SampleCompany& company) {
    for (const char* name : {"erin", "li"})
      company.policy.person(SampleCompany::id(name)).groups.push_back("us-oncall");
  }};
  const OpenCase open = world.request({.beneficiary = "alice"});
  ASSERT_EQ(case_of(world, open).state, CaseState::kOpen) << case_of(world, open).detail;
  EXPECT_THAT(world.approve(open.id, "erin"), FailsWith(Reason::kApprovalSelf));
  EXPECT_THAT(world.approve(open.id, "alice"), FailsWith(Reason::kApprovalSelf));
  EXPECT_THAT(world.approve(open.id, "mona"),
              FailsWith(Reason::kApprovalNotEligible));  // of the requester's team
  EXPECT_THAT(world.approve(open.id, "grace"),
              FailsWith(Reason::kApprovalNotEligible));  // of no group of the quorum
  EXPECT_THAT(world.approve(open.id, "li"), FailsWith(Reason::kApprovalNotEligible));  // of another region
}

TEST(Fold, RefusesApprovalsWithoutTheMachineThatTheRuleWants) {
  RecordScenario world;
  const OpenCase open = world.request({});
  ApprovalStep step;
  step.attested = false;
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kApprovalNotAttested));
  step.attested = true;
  step.edit_binding = [](evidence::Binding& binding) { binding.purpose = evidence::Purpose::kRequest; };
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kQuoteNonce));
  step.edit_binding = {};
  world.machine("alice-laptop").extend(7, crypto::sha256(as_bytes("another boot")));
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Reason::kBootState));
  EXPECT_THAT(world.approve(open.id, "bob"), Succeeds());
  EXPECT_THAT(world.revoke(RevocationKind::kDevice, to_hex(world.machine("dana-laptop").device())),
              Succeeds());
  EXPECT_THAT(world.approve(open.id, "dana"), FailsWith(Reason::kDeviceRevoked));
}

TEST(Fold, RefusesApprovalsOnAnOldNote) {
  RecordScenario world;
  const OpenCase open = world.request({});
  ApprovalStep step;
  step.note = world.cosign();
  world.advance(7min + 1s);
  EXPECT_THAT(world.approve(open.id, "alice", step), FailsWith(Code::kStale));
}

TEST(Fold, VoidsApprovalsWhenThePolicyDecidesOtherwise) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  ASSERT_THAT(
      world.change_policy([](SamplePolicy& policy) { policy.rule("us-oncall-to-user-db").duration = "30m"; }),
      Succeeds());
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kPolicyChanged));
}

TEST(Fold, KeepsApprovalsWhenThePolicyDecidesTheSame) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  ASSERT_THAT(
      world.change_policy([](SamplePolicy& policy) { policy.rule("foreign-read-only").duration = "4m"; }),
      Succeeds());
  EXPECT_THAT(world.grant(open), Succeeds());
  EXPECT_EQ(world.policy().policy.version, 2u);
}

TEST(Fold, VoidsApprovalsOfPeopleWhomTheNewPolicyDoesNotAllow) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  ASSERT_THAT(
      world.change_policy([](SamplePolicy& policy) { policy.person("bob@corp.example").groups = {"fleet"}; }),
      Succeeds());
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kApprovalNotEligible));
}

TEST(Fold, TakesOneGrantOfACase) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Entry again = world.entries.back();
  const Entry second = world.entry(Kind::kGrant, open.id,
                                   {value_of(parse_body(again.body)).envelope, world.activation(open, {})});
  EXPECT_THAT(world.append(second), FailsWith(Reason::kGrantExists));
  world.broker_is_rooted = true;
  EXPECT_THAT(world.append(second), FailsWith(Reason::kGrantExists));  // no follower goes on
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kGrantExists));
}

TEST(Fold, RefusesRequestsOfMachinesThatWereNeverEnrolled) {
  RecordScenario world;
  SoftTpm tpm;
  expect_refused(world, {.tpm = &tpm}, Reason::kDeviceUnknown);
}

TEST(Fold, RefusesRequestsOfRevokedMachines) {
  RecordScenario world;
  const DeviceId device = world.machine("laptop").device();
  ASSERT_THAT(world.revoke(RevocationKind::kDevice, to_hex(device)), Succeeds());
  expect_refused(world, {}, Reason::kDeviceRevoked);
}

TEST(Fold, RefusesASubstitutedAttestationKey) {
  RecordScenario world;
  const DeviceId enrolled = world.machine("laptop").device();
  SoftTpm other;
  RecordScenario::RequestStep step;
  step.tpm = &other;
  step.edit = [&](Request& request) { request.device = enrolled; };
  expect_refused(world, step, Reason::kQuoteSignature);
}

TEST(Fold, RefusesAnotherBootState) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  tpm.extend(4, crypto::sha256(as_bytes("another boot loader")));
  expect_refused(world, {}, Reason::kBootState);
}

TEST(Fold, RefusesAClockBehindTheEnrolments) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  tpm.clock.clock_ms -= 1000;
  expect_refused(world, {}, Reason::kBootCounters);
  tpm.clock.clock_ms += 2000;
  EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
}

constexpr std::chrono::milliseconds kLate{evidence::kLateMs};  // what is behind by less may be late

TEST(Fold, StopsAMachineWhoseCountersWentBackUntilItIsEnrolledAgain) {
  const auto back = [](const std::function<void(evidence::ClockInfo&)>& before,
                       const std::function<void(evidence::ClockInfo&)>& edit) {
    RecordScenario world;
    SoftTpm& tpm = world.machine("laptop");
    world.machine("desktop");
    before(tpm.clock);
    EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
    world.advance(kLate);
    edit(tpm.clock);
    expect_refused(world, {}, Reason::kBootWentBack);
    EXPECT_TRUE(world.state.stopped.contains(tpm.device()));
    tpm.clock.reset_count += 100;
    expect_refused(world, {}, Reason::kDeviceStopped);
    EXPECT_EQ(case_of(world, world.request({.machine = "desktop"})).state, CaseState::kOpen);
    ASSERT_THAT(world.enrol(tpm, {.machine = "laptop"}), Succeeds());
    EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
  };
  const auto nothing = [](evidence::ClockInfo&) {};
  // behind the enrolment's, and behind what was proved since
  back(nothing, [](evidence::ClockInfo& clock) { clock.reset_count = 0; });
  back(nothing, [](evidence::ClockInfo& clock) { clock.reset_count -= 1; });
  back(nothing, [](evidence::ClockInfo& clock) { clock.restart_count -= 1; });
  back([](evidence::ClockInfo& clock) { clock.reset_count += 2; },
       [](evidence::ClockInfo& clock) { clock.reset_count -= 1; });
  back([](evidence::ClockInfo& clock) { clock.restart_count += 2; },
       [](evidence::ClockInfo& clock) { clock.restart_count -= 1; });
}

TEST(Fold, CountersCountWhateverBecomesOfTheRequest) {
  // One that the policy refuses proves them, and shows that they went back.
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  tpm.clock.reset_count += 5;
  expect_refused(world, {.account = "root"}, Reason::kPolicyAccount);
  world.advance(kLate);
  tpm.clock.reset_count -= 1;
  expect_refused(world, {.account = "root"}, Reason::kBootWentBack);
  expect_refused(world, {}, Reason::kDeviceStopped);
}

TEST(Fold, OnlyTheMachineItselfCanHaveItselfStopped) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  SoftTpm other;
  other.clock.reset_count = 1;
  RequestStep step;
  step.tpm = &other;
  step.edit = [&](Request& request) { request.device = tpm.device(); };
  expect_refused(world, step, Reason::kQuoteSignature);
  // Nor does an old quote of its own: it is bound to a note that is too old by then.
  const std::string note = world.cosign();
  RequestStep late{.note = note};
  OpenCase open = world.make_request(late);
  world.advance(kNoteAge + kNoteSkew + std::chrono::seconds{1});
  tpm.clock.reset_count += 1;
  EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
  late.edit = [&](Request& request) { request.time = world.now; };
  late.before_quote = [](SoftTpm& one) { one.clock.reset_count -= 1; };
  late.before_certify = [](SoftTpm& one) { one.clock.reset_count += 1; };
  expect_refused(world, late, Reason::kStale);
  EXPECT_TRUE(world.state.stopped.empty());
  EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
}

TEST(Fold, NothingOfAStoppedMachineCounts) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  const OpenCase waiting = world.request({}), granted = world.request({});
  world.approve_all(waiting);
  world.approve_all(granted);
  ASSERT_THAT(world.grant(granted), Succeeds());
  tpm.clock.reset_count -= 1;
  expect_refused(world, {}, Reason::kBootWentBack);
  tpm.clock.reset_count += 1;
  EXPECT_THAT(world.make_grant(waiting, {}), FailsWith(Reason::kDeviceStopped));
  EXPECT_THAT(world.append(Kind::kLease, granted.id, world.lease(granted)),
              FailsWith(Reason::kDeviceStopped));

  // An approval that was attested by it does not count any more, and none is taken.
  tpm = SoftTpm{};
  SoftTpm& alices = world.machine("alice-laptop");
  world.machine("desktop");
  const OpenCase other = world.request({.machine = "desktop"});
  world.approve_all(other);
  alices.clock.reset_count -= 1;
  expect_refused(world, {.person = "alice", .machine = "alice-laptop"}, Reason::kBootWentBack);
  alices.clock.reset_count += 1;
  EXPECT_THAT(world.make_grant(other, {}), FailsWith(Reason::kDeviceStopped));
  const OpenCase next = world.request({.machine = "desktop"});
  EXPECT_THAT(world.approve(next.id, "alice"), FailsWith(Reason::kDeviceStopped));
}

TEST(Fold, GrantsNothingThatNoDossierCanHold) {
  RecordScenario world;
  const auto ask = [&](std::size_t attachments) {
    RequestStep step;
    for (std::size_t i = 0; i < attachments; ++i)
      step.attachments.emplace_back(std::to_string(i), Bytes(max_evidence_bytes(EvidenceType::kAttachment),
                                                             static_cast<std::uint8_t>(i)));
    const OpenCase open = world.request(step);
    world.approve_all(open);
    return open;
  };
  const OpenCase three = ask(3), four = ask(4);
  EXPECT_THAT(world.make_grant(four, {}), FailsWith(Reason::kGrantTooLarge));
  ASSERT_THAT(world.grant(three), Succeeds());
  // What is granted can be shown, and taken from the message that brings it.
  const Bytes dossier = encode_dossier(world.dossier(three));
  EXPECT_THAT(parse_dossier(dossier), Succeeds());
}

TEST(Fold, HoldsTheClockAgainstWallTimeFromCaseToCase) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
  world.advance(std::chrono::minutes{20});
  tpm.clock.clock_ms -= 180'000;
  expect_refused(world, {}, Reason::kClockRate);
  tpm.clock.clock_ms += 180'000;
  EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
  // The activation of a grant is a proof, too; an approval may have been carried about, and is none of a
  // clock.
  const OpenCase open = world.request({});
  world.approve_all(open);
  EXPECT_EQ(world.state.boots.at(world.machine("alice-laptop").device()).since(UnixMillis{0}), std::nullopt);
  ASSERT_THAT(world.grant(open), Succeeds());
  const auto proved = world.state.boots.at(tpm.device());
  tpm.clock.clock_ms -= 200'000;
  expect_refused(world, {}, Reason::kBootCounters);
  EXPECT_EQ(world.state.boots.at(tpm.device()), proved);
  EXPECT_TRUE(world.state.stopped.empty());  // a clock alone stops nothing: quotes may overtake one another
}

TEST(Fold, ARequestOfBeforeARestartThatComesLateStopsNothing) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  const OpenCase late = world.make_request({});
  tpm.clock.restart_count += 1;  // asleep, and awake again
  EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
  world.advance(std::chrono::seconds{60});
  ASSERT_THAT(world.append(Kind::kRequest, late.id, late.submission), Succeeds());
  EXPECT_EQ(case_of(world, late).refusable, Reason::kBootCounters);
  EXPECT_TRUE(world.state.stopped.empty());
}

TEST(Fold, AnEnrolmentThatWasAskedForBeforeDoesNotLetAStoppedMachineGoOn) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  const CaseId asked = crypto::random_case_id();
  ASSERT_THAT(world.append(Kind::kEnrolmentRequested, asked,
                           world.enrolment_request(tpm, {.machine = "laptop"}, asked)),
              Succeeds());
  ASSERT_THAT(world.approve(asked, "frank"), Succeeds());
  tpm.clock.reset_count -= 1;
  expect_refused(world, {}, Reason::kBootWentBack);
  tpm.clock.reset_count += 5;
  ASSERT_THAT(world.approve(asked, "grace"), Succeeds());
  const Entry closing = value_of(compose_enrolment(world.state, asked, world.now, crypto::random_nonce()));
  EXPECT_THAT(world.append(closing), FailsWith(Reason::kDeviceExists));
  expect_refused(world, {}, Reason::kDeviceStopped);
  ASSERT_THAT(world.enrol(tpm, {.machine = "laptop"}), Succeeds());
  EXPECT_EQ(case_of(world, world.request({})).state, CaseState::kOpen);
}

TEST(Fold, AnApprovalOfBeforeItsMachineWasEnrolledAgainDoesNotCount) {
  RecordScenario world;
  world.machine("laptop");
  const OpenCase open = world.request({});
  world.approve_all(open);
  ASSERT_THAT(world.enrol(world.machine("alice-laptop"), {.machine = "alice-laptop"}), Succeeds());
  EXPECT_THAT(world.make_grant(open, {}), FailsWith(Reason::kBootCounters));
}

TEST(Fold, RefusesAKeyOfAnotherMakeOrOwner) {
  RecordScenario world;
  world.machine("laptop");
  RecordScenario::RequestStep step;
  step.edit_key_policy = [](evidence::SessionKeyPolicy& policy) { policy.reset_count += 1; };
  expect_refused(world, step, Reason::kKeyPolicy);
  step.edit_key_policy = [&](evidence::SessionKeyPolicy& policy) {  // leases of another case would serve it
    policy.policy_ref = evidence::lease_policy_ref(world.origin(), crypto::random_case_id());
  };
  expect_refused(world, step, Reason::kKeyPolicy);
  step.edit_key_policy = {};
  step.edit = [](Request& request) { request.key[5] ^= 1; };
  expect_refused(world, step, Reason::kKeyCertify);
  step.edit = {};
  step.edit_key_binding = [](evidence::Binding& binding) { binding.purpose = evidence::Purpose::kRequest; };
  expect_refused(world, step, Reason::kQuoteNonce);
  step.edit_key_binding = {};
  step.before_certify = [](SoftTpm& tpm) { tpm.restart(); };
  expect_refused(world, step, Reason::kBootCounters);
}

TEST(Fold, RefusesQuotesThatAreBoundToSomethingElse) {
  RecordScenario world;
  world.machine("laptop");
  const auto refuses = [&](const std::function<void(evidence::Binding&)>& edit) {
    RequestStep step;
    step.edit_quote_binding = edit;
    expect_refused(world, step, Reason::kQuoteNonce);
  };
  refuses([](evidence::Binding& b) { b.purpose = evidence::Purpose::kActivate; });
  refuses([](evidence::Binding& b) { b.origin = Origin{"cn.sallyport.corp.example/log/1"}; });
  refuses([](evidence::Binding& b) { b.case_id = crypto::random_case_id(); });
  refuses([](evidence::Binding& b) { b.request = crypto::sha256(as_bytes("another")); });
  refuses([](evidence::Binding& b) { b.nonce = crypto::random_nonce(); });
  refuses([](evidence::Binding& b) { b.note = no_note(); });
}

TEST(Fold, RefusesAStaleNote) {
  RecordScenario world;
  world.machine("laptop");
  RecordScenario::RequestStep step;
  step.note = world.cosign();
  world.advance(119s);
  EXPECT_EQ(case_of(world, world.request(step)).state, CaseState::kOpen);
  world.advance(3s);
  expect_refused(world, step, Reason::kStale);
}

TEST(Fold, RefusesANoteWithoutItsWitnesses) {
  RecordScenario world;
  world.machine("laptop");
  RecordScenario::RequestStep step;
  step.note = world.cosign(2);
  expect_refused(world, step, Reason::kLogQuorum);
}

TEST(Fold, RefusesANoteOfALongerLog) {
  RecordScenario world;
  world.machine("laptop");
  ledger::Tree longer = world.tree;
  longer.append(crypto::sha256(as_bytes("not yet")));
  RecordScenario::RequestStep step;
  step.note = world.cosign(longer, 3, world.now);
  expect_refused(world, step, Reason::kLogRollback);
}

TEST(Fold, RefusesForeignAndMissingRegions) {
  RecordScenario world;
  world.machine("laptop");
  world.machine("laptop-cn", "cn");
  expect_refused(world, {.address = "10.86.1.1"}, Reason::kRegionNetwork);
  expect_refused(world, {.address = "192.0.2.1"}, Reason::kRegionNetwork);  // of no region
  expect_refused(world, {.address = "nonsense"}, Reason::kMalformed);
  expect_refused(world, {.machine = "laptop-cn"}, Reason::kRegionDevice);
  expect_refused(world, {.person = "wei", .account = "dbadmin"}, Reason::kRegionRequester);
  expect_refused(world, {.beneficiary = "nobody"}, Reason::kRegionBeneficiary);
  const OpenCase limited = world.request({.person = "wei"});
  EXPECT_EQ(case_of(world, limited).decision->account, "readonly");
  EXPECT_EQ(case_of(world, limited).decision->command, "/usr/bin/db-masked-shell");
  // For a colleague in another region an engineer gets what the colleague would.
  const OpenCase for_other = world.request({.beneficiary = "li"});
  EXPECT_EQ(case_of(world, for_other).decision->account, "readonly");
}

TEST(Fold, RefusesAnActivationElsewhereOrInAnotherBoot) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  EXPECT_THAT(world.grant(open, {.address = "10.86.1.1"}), FailsWith(Reason::kRegionNetwork));
  GrantStep step;
  step.edit_binding = [](evidence::Binding& binding) { binding.purpose = evidence::Purpose::kRequest; };
  EXPECT_THAT(world.grant(open, step), FailsWith(Reason::kQuoteNonce));
  step.edit_binding = {};
  step.note = world.cosign();
  world.advance(122s);
  EXPECT_THAT(world.grant(open, step), FailsWith(Code::kStale));
  step.note.reset();
  SoftTpm suspended = world.machine("laptop");
  suspended.restart();
  step.tpm = &suspended;
  EXPECT_THAT(world.grant(open, step), FailsWith(Reason::kBootCounters));
  SoftTpm extended = world.machine("laptop");
  extended.extend(14, crypto::sha256(as_bytes("shim")));
  step.tpm = &extended;
  EXPECT_THAT(world.grant(open, step), FailsWith(Reason::kBootState));
  SoftTpm rewound = world.machine("laptop");
  rewound.clock.clock_ms -= 130'000;
  step.tpm = &rewound;
  EXPECT_THAT(world.grant(open, step), FailsWith(Reason::kBootCounters));
  SoftTpm other;
  step.tpm = &other;
  EXPECT_THAT(world.grant(open, step), FailsWith(Reason::kQuoteSignature));
  EXPECT_THAT(world.grant(open), Succeeds());
}

TEST(Fold, RefusesASlowedClock) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  world.advance(15min);
  GrantStep step;
  SoftTpm slow = world.machine("laptop");
  slow.clock.clock_ms -= 30'000;  // 3 % of the time that has passed
  step.tpm = &slow;
  EXPECT_THAT(world.grant(open, step), FailsWith(Reason::kClockRate));
  EXPECT_THAT(world.grant(open), Succeeds());
}

TEST(Fold, RefusesAReplayedRequest) {
  RecordScenario world;
  const OpenCase open = world.request({});
  EXPECT_THAT(world.append(Kind::kRequest, open.id, open.submission), FailsWith(Reason::kCaseExists));
  Entry replayed = world.entry(Kind::kRequest, open.id, open.submission);
  replayed.leaf.predecessor = ledger::kNoPredecessor;
  EXPECT_THAT(world.append(replayed), FailsWith(Reason::kCaseExists));
  // Under another case the statement is not that case's; long after, it is too old.
  EXPECT_THAT(world.append(Kind::kRequest, crypto::random_case_id(), open.submission),
              FailsWith(Code::kUnverified));
  world.advance(50h);
  world.machine("any");  // the log moves on, and forgets
  EXPECT_EQ(world.state.cases.count(open.id), 0u);
  EXPECT_EQ(world.follower.find_case(open.id), nullptr);
  EXPECT_FALSE(find_statement(world.state, open.id, open.digest));
  EXPECT_THAT(world.append(Kind::kRequest, open.id, open.submission), FailsWith(Code::kStale));
}

TEST(Fold, RefusesRequestsThatNobodyKnownSigned) {
  RecordScenario world;
  world.machine("laptop");
  const auto submit = [&](const RequestStep& step) {
    const OpenCase open = world.make_request(step);
    return world.append(Kind::kRequest, open.id, open.submission);
  };
  const crypto::PrivateKey stranger = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  EXPECT_THAT(submit({.token = &stranger}), FailsWith(Code::kUnverified));
  EXPECT_THAT(submit({.token = &world.company.token("alice")}), FailsWith(Code::kUnverified));
  RecordScenario::RequestStep step;
  step.edit = [](Request& request) { request.person = request.beneficiary = "ghost@corp.example"; };
  EXPECT_THAT(submit(step), FailsWith(Reason::kPolicyUnknownPerson));
  step.edit = [](Request& request) { request.authority = "cn.sallyport.corp.example/log/1"; };
  EXPECT_THAT(submit(step), FailsWith(Code::kUnverified));
  step.edit = [](Request& request) { request.time = request.time + 5min + 1ms; };
  EXPECT_THAT(submit(step), FailsWith(Code::kStale));
  step.edit = {};
  step.edit_blobs = [](std::vector<Blob>& blobs) {
    std::erase_if(blobs, [](const Blob& b) { return b.type == EvidenceType::kKey; });
  };
  EXPECT_THAT(submit(step), FailsWith(Code::kMalformed));
  EXPECT_THAT(world.revoke(RevocationKind::kPerson, SampleCompany::id("erin")), Succeeds());
  EXPECT_THAT(submit({}), FailsWith(Reason::kRevoked));
}

TEST(Fold, WantsTheAttachmentsThatTheRequestStates) {
  RecordScenario world;
  const Bytes file = to_bytes(as_bytes("graph"));
  EXPECT_EQ(case_of(world, world.request({.attachments = {{"lag.png", file}}})).state, CaseState::kOpen);
  RecordScenario::RequestStep step;
  step.attachments = {{"lag.png", file}};
  step.edit_blobs = [](std::vector<Blob>& blobs) { blobs.pop_back(); };
  expect_refused(world, step, Reason::kMalformed);
  step.attachments = {};
  step.edit_blobs = [&](std::vector<Blob>& blobs) { blobs.push_back({EvidenceType::kAttachment, file}); };
  expect_refused(world, step, Reason::kMalformed);
}

TEST(Fold, RefusesAGrantAfterADenial) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  EXPECT_THAT(world.deny(open.id, "grace"), FailsWith(Reason::kApprovalNotEligible));
  EXPECT_THAT(world.deny(open.id, "carol"), Succeeds());
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(world.approve(open.id, "mona"), FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(world.deny(open.id, "alice"), FailsWith(Reason::kCaseDenied));
  EXPECT_TRUE(world.follower.is_denied(open.id));
  // Its requester can drop a case too.
  const OpenCase dropped = world.request({});
  EXPECT_THAT(world.deny(dropped.id, "erin"), Succeeds());
}

TEST(Fold, RefusesAGrantOfARevokedCaseMachineOrPerson) {
  RecordScenario world;
  const OpenCase one = world.request({});
  const OpenCase two = world.request({.person = "wei"});
  world.approve_all(one);
  world.approve_all(two);
  EXPECT_THAT(world.revoke(RevocationKind::kCase, to_hex(one.id), "grace"), FailsWith(Reason::kPolicyGroup));
  EXPECT_THAT(world.revoke(RevocationKind::kCase, to_hex(one.id)), Succeeds());
  EXPECT_THAT(world.grant(one), FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(world.revoke(RevocationKind::kPerson, SampleCompany::id("wei")), Succeeds());
  EXPECT_THAT(world.grant(two), FailsWith(Reason::kRevoked));
  const OpenCase three = world.request({});
  world.approve_all(three);
  EXPECT_THAT(world.revoke(RevocationKind::kDevice, to_hex(world.machine("laptop").device())), Succeeds());
  EXPECT_THAT(world.grant(three), FailsWith(Reason::kDeviceRevoked));
}

TEST(Fold, RemembersARevocationOfACaseThatHasNotBegun) {
  RecordScenario world;
  const CaseId id = crypto::random_case_id();
  ASSERT_THAT(world.revoke(RevocationKind::kCase, to_hex(id)), Succeeds());
  const OpenCase open = world.make_request({.case_id = id});
  EXPECT_THAT(world.append(Kind::kRequest, id, open.submission), FailsWith(Reason::kCaseDenied));
}

TEST(Fold, GrantsWithinTheLifeOfTheRequest) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.advance(30min);
  world.approve_all(open);
  world.advance(29min);
  EXPECT_EQ(case_of(world, open).state, CaseState::kOpen);
  world.advance(1min);
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kCaseExpired));
  EXPECT_THAT(world.approve(open.id, "carol"), FailsWith(Reason::kCaseExpired));
}

TEST(Fold, RefusesAnotherRefusalThanTheOneThatFollows) {
  RecordScenario world;
  world.machine("laptop");
  const OpenCase open = world.request({.address = "10.86.1.1"});
  const auto refuse = [&](const std::function<void(Refusal&)>& edit) {
    Refusal refusal{.authority = world.origin().get(),
                    .case_id = open.id,
                    .code = Reason::kRegionNetwork,
                    .request = open.digest};
    edit(refusal);
    const Bytes envelope =
        encode_envelope({.type = payload_type(Kind::kRefusal), .payload = encode(refusal), .signatures = {}});
    return world.append(Kind::kRefusal, refusal.case_id, {envelope, {}});
  };
  EXPECT_THAT(refuse([](Refusal& r) { r.code = Reason::kRegionDevice; }), FailsWith(Code::kUnverified));
  EXPECT_THAT(refuse([](Refusal& r) { r.request = Digest256{}; }), FailsWith(Code::kUnverified));
  EXPECT_THAT(refuse([](Refusal&) {}), Succeeds());
  const OpenCase good = world.request({});
  EXPECT_THAT(refuse([&](Refusal& r) { r.case_id = good.id; }), FailsWith(Reason::kCaseClosed));
}

TEST(Fold, RefusesLeavesOutOfOrder) {
  RecordScenario world;
  const OpenCase open = world.request({});
  const Submission approval = world.make_approval(open.id, "alice", {});
  Entry entry = world.entry(Kind::kApproval, open.id, approval);
  entry.leaf.predecessor -= 1;
  EXPECT_THAT(world.append(entry), FailsWith(Reason::kLogOrder));
  entry = make_entry(Kind::kApproval, UnixMillis{world.follower.last_time().get() - 1}, open.id,
                     predecessor_of(world.follower, open.id), approval.envelope, approval.blobs,
                     crypto::random_nonce());
  EXPECT_THAT(world.append(entry), FailsWith(Reason::kLogOrder));
  entry = world.entry(Kind::kApproval, open.id, approval);
  entry.nonce = crypto::random_nonce();
  EXPECT_THAT(world.append(entry), FailsWith(Reason::kLogBody));
  entry = world.entry(Kind::kApproval, crypto::random_case_id(), approval);
  EXPECT_THAT(world.append(entry), FailsWith(Reason::kCaseUnknown));
}

TEST(Fold, RefusesAWithheldControlBody) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  const Entry grant = value_of(world.make_grant(open, {}));
  EXPECT_THAT(prepare_control(world.follower, grant.leaf, nullptr), FailsWith(Reason::kLogMissingBody));
  Entry other = grant;
  other.leaf.time = other.leaf.time + 1ms;
  EXPECT_THAT(prepare_control(world.follower, grant.leaf, &other), FailsWith(Reason::kLogBody));
  other = grant;
  other.body.back() ^= 1;
  EXPECT_THAT(prepare_control(world.follower, grant.leaf, &other), FailsWith(Reason::kLogBody));
}

TEST(Fold, BeginsWithThePolicyThatIsTrusted) {
  RecordScenario world;
  const Entry& genesis = world.entries.front();
  EXPECT_THAT(prepare(begin_state(world.origin(), crypto::sha256(as_bytes("another"))), genesis),
              FailsWith(Reason::kTrustAnchor));
  EXPECT_THAT(
      prepare(begin_state(Origin{"cn.sallyport.corp.example/log/1"}, world.policy().policy.digest), genesis),
      FailsWith(Code::kUnverified));
  EXPECT_THAT(prepare(begin_state(world.origin(), world.policy().policy.digest), world.entries.front()),
              Succeeds());
  world.machine("laptop");
  EXPECT_THAT(prepare(begin_state(world.origin(), world.policy().policy.digest), world.entries[1]),
              FailsWith(Reason::kTrustAnchor));
}

TEST(Fold, TakesOnlyTheSuccessorOfThePolicyInForce) {
  RecordScenario world;
  const std::string first = world.company.policy.toml();
  EXPECT_THAT(world.change_policy({}, {"grace", "heidi"}), FailsWith(Reason::kQuorumNotMet));
  EXPECT_THAT(world.change_policy({}, {"grace", "heidi", "alice"}), FailsWith(Reason::kApprovalNotEligible));
  const LeafIndex changed = value_of(world.change_policy({}));
  EXPECT_EQ(world.policy().policy.version, 2u);
  EXPECT_EQ(world.follower.policy_at(changed)->policy.version, 1u);
  EXPECT_EQ(world.follower.policy_at(LeafIndex{changed.get() + 1})->policy.version, 2u);
  EXPECT_EQ(world.follower.policy_at(LeafIndex{0}), nullptr);

  // An older one, or one that skips.
  const CaseId id = crypto::random_case_id();
  world.company.policy.version = 2;
  EXPECT_THAT(world.append(Kind::kPolicyProposed, id, world.proposal(id)),
              FailsWith(Reason::kPolicyNotSuccessor));
  world.company.policy.version = 4;
  world.company.policy.previous = world.policy().policy.digest;
  EXPECT_THAT(world.append(Kind::kPolicyProposed, id, world.proposal(id)),
              FailsWith(Reason::kPolicyNotSuccessor));
  world.company.policy.version = 3;
  const auto wrong_digest = [](PolicyProposed& p) { p.digest = Digest256{}; };
  EXPECT_THAT(world.append(Kind::kPolicyProposed, id, world.proposal(id, "grace", wrong_digest)),
              FailsWith(Reason::kPolicyInvalid));
}

TEST(Fold, LetsTheFirstOfTwoProposalsWin) {
  RecordScenario world;
  const CaseId id = crypto::random_case_id();
  world.company.policy.version = 2;
  world.company.policy.previous = world.policy().policy.digest;
  ASSERT_THAT(world.append(Kind::kPolicyProposed, id, world.proposal(id)), Succeeds());
  for (const char* person : {"grace", "heidi", "judy"}) ASSERT_THAT(world.approve(id, person), Succeeds());
  const Entry late = value_of(compose_policy(world.state, id, world.now, crypto::random_nonce()));
  ASSERT_THAT(world.change_policy([](SamplePolicy& p) { p.rule("foreign-read-only").duration = "4m"; }),
              Succeeds());
  EXPECT_THAT(world.approve(id, "karl"), FailsWith(Reason::kPolicyNotSuccessor));
  const Entry closing =
      world.entry(Kind::kPolicy, id, {value_of(parse_body(late.body)).envelope, late.blobs});
  EXPECT_THAT(world.append(closing), FailsWith(Reason::kPolicyNotSuccessor));
  EXPECT_THAT(prepare_control(world.follower, closing.leaf, &closing),
              FailsWith(Reason::kPolicyNotSuccessor));
}

TEST(Fold, ChecksThePolicyQuorumAgainForFollowers) {
  RecordScenario world;
  const CaseId id = crypto::random_case_id();
  world.company.policy.version = 2;
  world.company.policy.previous = world.policy().policy.digest;
  ASSERT_THAT(world.append(Kind::kPolicyProposed, id, world.proposal(id)), Succeeds());
  for (const char* person : {"grace", "heidi", "judy"}) ASSERT_THAT(world.approve(id, person), Succeeds());
  const Entry good = value_of(compose_policy(world.state, id, world.now, crypto::random_nonce()));
  const Body body = value_of(parse_body(good.body));
  const auto forged = [&](const std::function<void(PolicyInForce&)>& edit) {
    PolicyInForce statement = value_of(parse_policy_in_force(value_of(open_envelope(body)).payload));
    edit(statement);
    const Entry entry = world.entry(
        Kind::kPolicy, id,
        {encode_envelope(
             {.type = payload_type(Kind::kPolicy), .payload = encode(statement), .signatures = {}}),
         good.blobs});
    EXPECT_THAT(prepare(world.state, entry), testing::Not(Succeeds()));
    return prepare_control(world.follower, entry.leaf, &entry);
  };
  EXPECT_THAT(forged([](PolicyInForce& s) { s.approvals.pop_back(); }), FailsWith(Reason::kQuorumNotMet));
  EXPECT_THAT(forged([](PolicyInForce& s) { s.approvals[1] = s.approvals[0]; }),
              FailsWith(Reason::kApprovalDuplicate));
  EXPECT_THAT(forged([](PolicyInForce& s) { s.version = 3; }), FailsWith(Reason::kPolicyNotSuccessor));
  EXPECT_THAT(forged([](PolicyInForce& s) { s.approvals[2][s.approvals[2].size() / 2] ^= 1; }),
              testing::Not(Succeeds()));
  EXPECT_THAT(world.append(good), Succeeds());
}

TEST(Fold, LetsAnAdministratorDenyAPolicy) {
  RecordScenario world;
  const CaseId id = crypto::random_case_id();
  world.company.policy.version = 2;
  world.company.policy.previous = world.policy().policy.digest;
  ASSERT_THAT(world.append(Kind::kPolicyProposed, id, world.proposal(id)), Succeeds());
  for (const char* person : {"grace", "heidi", "judy"}) ASSERT_THAT(world.approve(id, person), Succeeds());
  const Entry late = value_of(compose_policy(world.state, id, world.now, crypto::random_nonce()));
  EXPECT_THAT(world.deny(id, "alice"), FailsWith(Reason::kApprovalNotEligible));
  EXPECT_THAT(world.deny(id, "karl"), Succeeds());
  EXPECT_THAT(compose_policy(world.state, id, world.now, crypto::random_nonce()),
              FailsWith(Reason::kCaseDenied));
  world.broker_is_rooted = true;
  const Entry closing =
      world.entry(Kind::kPolicy, id, {value_of(parse_body(late.body)).envelope, late.blobs});
  EXPECT_THAT(world.append(closing), FailsWith(Reason::kCaseDenied));
}

TEST(Fold, LetsAProposalExpire) {
  RecordScenario world;
  const CaseId id = crypto::random_case_id();
  world.company.policy.version = 2;
  world.company.policy.previous = world.policy().policy.digest;
  ASSERT_THAT(world.append(Kind::kPolicyProposed, id, world.proposal(id)), Succeeds());
  ApprovalStep step;
  step.edit = [](Approval& approval) { approval.expires = approval.time + 72h; };
  world.advance(71h);
  for (const char* person : {"grace", "heidi", "judy"})
    ASSERT_THAT(world.approve(id, person, step), Succeeds());
  const Entry in_time = value_of(compose_policy(world.state, id, world.now, crypto::random_nonce()));
  world.advance(1h);
  EXPECT_THAT(compose_policy(world.state, id, world.now, crypto::random_nonce()),
              FailsWith(Reason::kCaseExpired));
  world.broker_is_rooted = true;
  const Entry closing =
      world.entry(Kind::kPolicy, id, {value_of(parse_body(in_time.body)).envelope, in_time.blobs});
  EXPECT_THAT(world.append(closing), FailsWith(Reason::kCaseExpired));
}

TEST(Fold, EnrolsAMachineOnce) {
  RecordScenario world;
  SoftTpm tpm;
  EXPECT_THAT(world.enrol(tpm, {.approvers = {"frank"}}), FailsWith(Reason::kQuorumNotMet));
  EXPECT_THAT(world.enrol(tpm, {.approvers = {"frank", "alice"}}), FailsWith(Reason::kApprovalNotEligible));
  const DeviceId id = value_of(world.enrol(tpm, {}));
  EXPECT_EQ(world.follower.find_device(id)->name, "laptop");
  EXPECT_EQ(world.follower.find_device_by_ak(tpm.ak_public())->id, id);
  SoftTpm thief;
  const auto with_ak = [&](EnrolmentRequested& s) { s.ak = tpm.ak_public(); };
  EXPECT_THAT(world.enrol(thief, {.edit = with_ak}), FailsWith(Reason::kDeviceExists));
}

TEST(Fold, RefusesEnrolmentsWhoseEvidenceDoesNotHold) {
  RecordScenario world;
  SoftTpm tpm, other;
  EXPECT_THAT(world.enrol(tpm, {.edit = [&](auto& s) { s.device = other.device(); }}),
              FailsWith(Reason::kEkCertificate));
  EXPECT_THAT(world.enrol(tpm, {.edit = [&](auto& s) { s.ak = other.ak_public(); }}),
              FailsWith(Reason::kQuoteSignature));
  EXPECT_THAT(world.enrol(tpm, {.edit = [&](auto& s) { s.pcrs = Digest256{}; }}),
              FailsWith(Reason::kQuotePcrs));
  EXPECT_THAT(world.enrol(tpm, {.region = "mars"}), FailsWith(Reason::kRegionDevice));
  EXPECT_THAT(world.enrol(tpm, {.edit_binding = [](auto& b) { b.purpose = evidence::Purpose::kRequest; }}),
              FailsWith(Reason::kQuoteNonce));
  const auto certificate_of_other = [&](std::vector<Blob>& blobs) {
    blobs[1].bytes = world.vendor.issue_ek(other.ek().key);
  };
  EXPECT_THAT(world.enrol(tpm, {.edit_blobs = certificate_of_other}), FailsWith(Reason::kEkCertificate));
  const auto by_stranger = [&](std::vector<Blob>& blobs) {
    blobs[1].bytes = world.vendor.issue_ek(tpm.ek().key, {.by_stranger = true});
  };
  EXPECT_THAT(world.enrol(tpm, {.edit_blobs = by_stranger}), FailsWith(Reason::kEkChain));
  ASSERT_THAT(world.revoke(RevocationKind::kDevice, to_hex(tpm.device())), Succeeds());
  EXPECT_THAT(world.enrol(tpm, {}), FailsWith(Reason::kDeviceRevoked));
}

// One TPM has endorsement keys of several templates, and attestation keys without end.
TEST(Fold, OneTpmIsOneMachineWhateverKeysItShows) {
  RecordScenario world;
  SoftTpm tpm;
  const DeviceId id = value_of(world.enrol(tpm, {}));
  ASSERT_TRUE(world.follower.find_device(id)->identity.has_value());
  EXPECT_EQ(world.follower.find_device_by_identity(evidence::name_of(*tpm.identity_key))->id, id);
  SoftTpm other_keys{crypto::KeyAlgorithm::kRsa2048, crypto::KeyAlgorithm::kRsa2048};
  other_keys.identity_key = tpm.identity_key;
  EXPECT_THAT(world.enrol(other_keys, {.machine = "second"}), FailsWith(Reason::kDeviceExists));
  // For good means the machine, not one of its keys; and every follower knows it from the state alone.
  ASSERT_THAT(world.revoke(RevocationKind::kDevice, to_hex(id)), Succeeds());
  EXPECT_THAT(world.enrol(other_keys, {.machine = "second"}), FailsWith(Reason::kDeviceRevoked));
  SoftTpm another;
  EXPECT_THAT(world.enrol(another, {.machine = "third"}), Succeeds());
  const Bytes encoded = encode_control(world.follower);
  const ControlState back = value_of(parse_control(encoded));
  EXPECT_EQ(encode_control(back), encoded);
  EXPECT_EQ(back.find_device_by_identity(evidence::name_of(*tpm.identity_key))->id, id);
  EXPECT_EQ(back.find_device(another.device())->identity, evidence::name_of(*another.identity_key));
}

TEST(Fold, AMachineIsEnrolledAgainByTheQuorumAndItsRecordReplaced) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  const DeviceId id = tpm.device();
  const LeafIndex first = world.follower.find_device(id)->enrolled;
  tpm.clock.reset_count += 5;
  const OpenCase before = world.request({});
  world.approve_all(before);
  ASSERT_EQ(world.state.boots.at(id).reset_count(), tpm.clock.reset_count);

  // After TPM2_Clear: the same keys, counters anew, another boot.
  tpm.clock.reset_count = 1;
  tpm.clock.restart_count = 0;
  tpm.clock.clock_ms = 60'000;
  tpm.extend(0, crypto::sha256(as_bytes("new firmware")));
  EXPECT_THAT(world.enrol(tpm, {.machine = "laptop-2", .approvers = {"frank"}}),
              FailsWith(Reason::kQuorumNotMet));
  EXPECT_EQ(world.follower.find_device(id)->enrolled, first);
  ASSERT_THAT(world.enrol(tpm, {.machine = "laptop-2"}), Succeeds());
  const Device* now = world.follower.find_device(id);
  EXPECT_GT(now->enrolled, first);
  EXPECT_EQ(now->name, "laptop-2");
  EXPECT_EQ(now->clock.reset_count, 1u);
  EXPECT_EQ(world.follower.devices().size(), world.machines.size());
  EXPECT_FALSE(world.state.boots.contains(id));
  // What was asked for before is not granted any more; a new request is.
  EXPECT_THAT(world.make_grant(before, {}).has_value() &&
                  prepare(world.state, value_of(world.make_grant(before, {}))).has_value(),
              testing::IsFalse());
  const OpenCase after = world.request({});
  world.approve_all(after);
  EXPECT_THAT(prepare(world.state, value_of(world.make_grant(after, {}))), Succeeds());
  // Its counters count from here on.
  tpm.clock.reset_count = 0;
  const OpenCase back = world.request({});
  EXPECT_EQ(world.state.cases.at(back.id).refusable, Reason::kBootWentBack);
}

TEST(Fold, AnEnrolmentAgainIsOfTheSameTpmAndOfWhatItsApproversSaw) {
  RecordScenario world;
  SoftTpm tpm;
  // Two cases are open; the first to close makes the record that the approvers of the other have not seen.
  const CaseId one = crypto::random_case_id(), two = crypto::random_case_id();
  for (const CaseId& id : {one, two}) {
    ASSERT_THAT(world.append(Kind::kEnrolmentRequested, id, world.enrolment_request(tpm, {}, id)),
                Succeeds());
    for (const char* person : {"frank", "grace"}) ASSERT_THAT(world.approve(id, person), Succeeds());
  }
  ASSERT_THAT(world.append(value_of(compose_enrolment(world.state, one, world.now, crypto::random_nonce()))),
              Succeeds());
  const auto late = compose_enrolment(world.state, two, world.now, crypto::random_nonce());
  ASSERT_THAT(late, Succeeds());
  EXPECT_THAT(world.append(*late), FailsWith(Reason::kDeviceExists));
  SoftTpm other = tpm;
  other.identity_key = SoftTpm{}.identity_key;
  EXPECT_THAT(world.enrol(other, {}), FailsWith(Reason::kDeviceExists));
  EXPECT_THAT(world.enrol(tpm, {}), Succeeds());
}

TEST(Fold, ARetiredMachineGetsNothingUntilItIsEnrolledAgain) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  const DeviceId id = tpm.device();
  SoftTpm stranger;
  EXPECT_THAT(world.revoke(RevocationKind::kRetired, to_hex(stranger.device())),
              FailsWith(Reason::kDeviceUnknown));
  ASSERT_THAT(world.revoke(RevocationKind::kRetired, to_hex(id)), Succeeds());
  EXPECT_THAT(world.revoke(RevocationKind::kRetired, to_hex(id)), FailsWith(Reason::kDeviceRevoked));
  EXPECT_TRUE(world.follower.is_revoked(id));
  ASSERT_TRUE(world.follower.find_retired(id).has_value());
  const OpenCase refused = world.request({});
  EXPECT_EQ(world.state.cases.at(refused.id).refusable, Reason::kDeviceRevoked);
  EXPECT_THAT(world.state.cases.at(refused.id).detail, testing::HasSubstr("retired"));
  const Bytes encoded = encode_control(world.follower);
  const ControlState back = value_of(parse_control(encoded));
  EXPECT_EQ(encode_control(back), encoded);
  EXPECT_EQ(back.find_retired(id), world.follower.find_retired(id));

  ASSERT_THAT(world.enrol(tpm, {}), Succeeds());
  EXPECT_FALSE(world.follower.is_revoked(id));
  const OpenCase again = world.request({});
  EXPECT_FALSE(world.state.cases.at(again.id).refusable.has_value());
  // Lost is for good, also of a machine that is retired.
  ASSERT_THAT(world.revoke(RevocationKind::kRetired, to_hex(id)), Succeeds());
  ASSERT_THAT(world.revoke(RevocationKind::kDevice, to_hex(id)), Succeeds());
  EXPECT_FALSE(world.follower.find_retired(id).has_value());
  EXPECT_THAT(world.enrol(tpm, {}), FailsWith(Reason::kDeviceRevoked));
}

TEST(Fold, RefusesEnrolmentsWithoutAProofOfTheIdentity) {
  RecordScenario world;
  SoftTpm tpm, other;
  const auto without = [](std::vector<Blob>& blobs) {
    std::erase_if(blobs, [](const Blob& blob) { return blob.type == EvidenceType::kIdentity; });
  };
  const auto replaced = [&](SoftTpm& by, const Digest256& binding) {
    return [&, binding](std::vector<Blob>& blobs) {
      without(blobs);
      blobs.push_back({EvidenceType::kIdentity, encode(by.prove_identity(binding))});
    };
  };
  EXPECT_THAT(world.enrol(tpm, {.edit_blobs = without}), FailsWith(Code::kMalformed));
  const auto twice = [&](std::vector<Blob>& blobs) {
    blobs.push_back({EvidenceType::kIdentity, encode(tpm.prove_identity(Digest256{}))});
  };
  EXPECT_THAT(world.enrol(tpm, {.edit_blobs = twice}), FailsWith(Code::kMalformed));
  // One of another enrolment of the same machine.
  EXPECT_THAT(world.enrol(tpm, {.edit_blobs = replaced(tpm, Digest256{})}), FailsWith(Reason::kQuoteNonce));
  Bytes heard;
  const auto hear = [&](std::vector<Blob>& blobs) {
    for (const Blob& blob : blobs)
      if (blob.type == EvidenceType::kIdentity) heard = blob.bytes;
  };
  EXPECT_THAT(world.enrol(tpm, {.approvers = {"frank"}, .edit_blobs = hear}),
              FailsWith(Reason::kQuorumNotMet));
  const auto replayed = [&](std::vector<Blob>& blobs) {
    without(blobs);
    blobs.push_back({EvidenceType::kIdentity, heard});
  };
  EXPECT_THAT(world.enrol(tpm, {.edit_blobs = replayed}), FailsWith(Reason::kQuoteNonce));
  // Another TPM's, over the right binding: its attestation key has signed it.
  Digest256 right;
  const auto keep = [&](evidence::Binding& b) { right = evidence::binding_digest(b); };
  const auto of_other = [&](std::vector<Blob>& blobs) { replaced(other, right)(blobs); };
  EXPECT_THAT(world.enrol(tpm, {.edit_binding = keep, .edit_blobs = of_other}),
              FailsWith(Reason::kQuoteSignature));
  EXPECT_THAT(world.enrol(tpm, {}), Succeeds());
}

TEST(Fold, RefusesTpmFirmwareThatGivesKeysAway) {
  RecordScenario world;
  SoftTpm p256, rsa{crypto::KeyAlgorithm::kP256, crypto::KeyAlgorithm::kRsa2048};
  for (SoftTpm* tpm : {&p256, &rsa}) {
    const auto by_st = [&](std::vector<Blob>& blobs) {
      blobs[1].bytes = world.vendor.issue_ek(tpm->ek().key, {.manufacturer = "id:53544D20"});
    };
    tpm->firmware_version = 0x00490004'00000000;  // 73.4 has TPM-FAIL
    if (tpm == &p256)
      EXPECT_THAT(world.enrol(*tpm, {.edit_blobs = by_st}), FailsWith(Reason::kTpmFirmware));
    else
      EXPECT_THAT(world.enrol(*tpm, {.edit_blobs = by_st}), Succeeds());
  }
  // The version counts that is quoted, so an update helps; another maker's 73.4 is another firmware.
  const auto by_st = [&](std::vector<Blob>& blobs) {
    blobs[1].bytes = world.vendor.issue_ek(p256.ek().key, {.manufacturer = "id:53544D20"});
  };
  RecordScenario updated = world;
  p256.firmware_version = 0x00490014'00000000;  // 73.20
  EXPECT_THAT(updated.enrol(p256, {.edit_blobs = by_st}), Succeeds());
  p256.firmware_version = 0x00490004'00000000;
  EXPECT_THAT(world.enrol(p256, {}), Succeeds());
}

// Firmware can be set back, and become known for what it is, after the enrolment.
TEST(Fold, RefusesRequestsFromTpmFirmwareThatGivesKeysAway) {
  constexpr std::uint64_t kGood = 0x00490014'00000000, kBad = 0x00490004'00000000;  // ST 73.20 and 73.4
  RecordScenario world;
  const auto enrol = [&](const std::string& name, crypto::KeyAlgorithm ak) {
    SoftTpm tpm{crypto::KeyAlgorithm::kP256, ak};
    tpm.firmware_version = kGood;
    const auto by_st = [&](std::vector<Blob>& blobs) {
      blobs[1].bytes = world.vendor.issue_ek(tpm.ek().key, {.manufacturer = "id:53544D20"});
    };
    const DeviceId id = value_of(world.enrol(tpm, {.machine = name, .edit_blobs = by_st}));
    world.machines.emplace(name, std::move(tpm));
    return world.follower.find_device(id);
  };
  const auto refusal_of = [&](const std::string& machine) {
    const OpenCase open = world.request({.machine = machine});
    return world.state.cases.at(open.id).refusable;
  };
  EXPECT_EQ(enrol("p256", crypto::KeyAlgorithm::kP256)->tpm_maker, "STM");
  EXPECT_EQ(enrol("rsa", crypto::KeyAlgorithm::kRsa2048)->tpm_maker, "STM");
  const Bytes encoded = encode_control(world.follower);
  const ControlState back = value_of(parse_control(encoded));
  EXPECT_EQ(encode_control(back), encoded);
  EXPECT_EQ(back.find_device(world.machines.at("p256").device())->tpm_maker, "STM");

  const OpenCase open = world.granted({.machine = "p256"});
  const Dossier good = world.dossier(open);
  EXPECT_EQ(value_of(verify_dossier(good, world.follower, world.now)).tpm_maker, "STM");
  EXPECT_FALSE(refusal_of("rsa").has_value());
  for (const char* name : {"p256", "rsa"}) {
    world.machines.at(name).clock.reset_count += 1;
    world.machines.at(name).firmware_version = kBad;
  }
  EXPECT_EQ(refusal_of("p256"), Reason::kTpmFirmware);
  EXPECT_FALSE(refusal_of("rsa").has_value());  // TPM-FAIL is of ECDSA
  // So is an approver's machine; and firmware that is set back after the request voids the approvals.
  const OpenCase asked = world.request({});
  SoftTpm& of_alice = world.machines.at("alice-laptop");
  const SoftTpm kept = of_alice;
  of_alice = world.machines.at("p256");
  EXPECT_THAT(world.approve(asked.id, "alice"), FailsWith(Reason::kTpmFirmware));
  of_alice = kept;
  SoftTpm& tower = world.machines.at("p256");
  tower.clock.reset_count += 1;
  tower.firmware_version = kGood;
  const OpenCase set_back = world.request({.machine = "p256"});
  world.approve_all(set_back);
  tower.firmware_version = kBad;
  EXPECT_THAT(world.grant(set_back), FailsWith(Reason::kBootState));
}

// A lost machine is a revoked one, of which people can tell why.
TEST(Fold, TellsALostMachineFromARevokedOne) {
  RecordScenario world;
  SoftTpm& lost = world.machine("laptop");
  const DeviceId id = lost.device(), revoked = world.machine("tower").device();
  const OpenCase open = world.granted();
  const Dossier dossier = world.dossier(open);
  ASSERT_THAT(world.revoke(RevocationKind::kDevice, to_hex(revoked)), Succeeds());
  EXPECT_FALSE(world.follower.find_lost(revoked).has_value());
  const Bytes without = encode_control(world.follower);
  const LeafIndex leaf = value_of(world.revoke(RevocationKind::kLost, to_hex(id)));
  EXPECT_EQ(world.follower.find_lost(id), leaf);
  EXPECT_TRUE(world.follower.is_revoked(id));
  EXPECT_FALSE(world.follower.find_retired(id).has_value());
  EXPECT_THAT(verify_dossier(dossier, world.follower, world.now), FailsWith(Reason::kDeviceRevoked));
  EXPECT_THAT(world.enrol(lost, {}), FailsWith(Reason::kDeviceRevoked));
  SoftTpm again;
  again.identity_key = lost.identity_key;
  EXPECT_THAT(world.enrol(again, {}), FailsWith(Reason::kDeviceRevoked));

  const Bytes encoded = encode_control(world.follower);
  EXPECT_NE(encoded.size(), without.size());
  const ControlState back = value_of(parse_control(encoded));
  EXPECT_EQ(encode_control(back), encoded);
  EXPECT_EQ(back.find_lost(id), leaf);
  EXPECT_EQ(back.find_lost(revoked), std::nullopt);
  // It is lost once, for good; a revoked or retired one can be lost still.
  ASSERT_THAT(world.revoke(RevocationKind::kLost, to_hex(id)), Succeeds());
  EXPECT_EQ(world.follower.find_lost(id), leaf);
  ASSERT_THAT(world.revoke(RevocationKind::kLost, to_hex(revoked)), Succeeds());
  EXPECT_TRUE(world.follower.find_lost(revoked).has_value());
  const DeviceId pooled = world.machine("pooled").device();
  ASSERT_THAT(world.revoke(RevocationKind::kRetired, to_hex(pooled)), Succeeds());
  ASSERT_THAT(world.revoke(RevocationKind::kLost, to_hex(pooled)), Succeeds());
  EXPECT_FALSE(world.follower.find_retired(pooled).has_value());
  EXPECT_THAT(world.enrol(world.machine("pooled"), {}), FailsWith(Reason::kDeviceRevoked));
  EXPECT_THAT(world.revoke(RevocationKind::kLost, "erin"), FailsWith(Code::kMalformed));
}

TEST(Fold, AMachineWithAnRsaAttestationKeyIsGrantedAccess) {
  RecordScenario world;
  SoftTpm tpm{crypto::KeyAlgorithm::kP256, crypto::KeyAlgorithm::kRsa2048};
  const DeviceId id = value_of(world.enrol(tpm, {.machine = "tower"}));
  EXPECT_EQ(world.follower.find_device(id)->attestation_key.key().algorithm(),
            crypto::KeyAlgorithm::kRsa2048);
  world.machines.emplace("tower", tpm);
  const OpenCase open = world.request({.machine = "tower"});
  world.approve_all(open);
  EXPECT_THAT(world.grant(open), Succeeds());
}

TEST(Fold, TakesOnlyLeasesOfALiveGrant) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  EXPECT_THAT(world.append(Kind::kLease, open.id, world.lease(open)), FailsWith(Reason::kPending));
  ASSERT_THAT(world.grant(open), Succeeds());
  EXPECT_THAT(world.append(Kind::kLease, open.id, world.lease(open, {}, &world.company.ssh_ca)),
              FailsWith(Code::kUnverified));
  EXPECT_THAT(world.append(Kind::kLease, open.id, world.lease(open, [](Lease& l) { l.account = "root"; })),
              FailsWith(Reason::kLeaseUser));
  EXPECT_THAT(world.append(Kind::kLease, open.id, world.lease(open, [](Lease& l) { l.host = "db-8"; })),
              FailsWith(Reason::kLeaseHost));
  EXPECT_THAT(world.append(Kind::kLease, open.id, world.lease(open)), Succeeds());
  RecordScenario after = world;
  after.advance(15min);
  EXPECT_THAT(after.append(Kind::kLease, open.id, after.lease(open)), FailsWith(Reason::kGrantExpired));
  RecordScenario revoked = world;
  ASSERT_THAT(revoked.revoke(RevocationKind::kPerson, SampleCompany::id("alice")), Succeeds());
  EXPECT_THAT(revoked.append(Kind::kLease, open.id, revoked.lease(open)),
              FailsWith(Reason::kApprovalRevoked));
  ASSERT_THAT(world.deny(open.id, "bob"), Succeeds());  // kills the grant
  EXPECT_THAT(world.append(Kind::kLease, open.id, world.lease(open)), FailsWith(Reason::kCaseDenied));
}

TEST(Fold, TakesReportsOfTheHostInOrder) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const auto opened = [&](std::uint64_t channel, const std::function<void(SessionOpened&)>& edit = {}) {
    return world.append(Kind::kSessionOpened, open.id, world.session_opened(open, channel, edit));
  };
  EXPECT_THAT(opened(2), FailsWith(Reason::kLogOrder));
  EXPECT_THAT(opened(1, [](SessionOpened& s) { s.account = "root"; }), FailsWith(Reason::kGateAccount));
  EXPECT_THAT(opened(1, [](SessionOpened& s) { s.host = "db-8"; }), FailsWith(Reason::kGateHost));
  EXPECT_THAT(opened(1), Succeeds());
  EXPECT_THAT(opened(1), FailsWith(Reason::kLogOrder));
  EXPECT_THAT(world.append(Kind::kSessionClosed, open.id, world.session_closed(open, 2)),
              FailsWith(Reason::kLogOrder));
  // Not signed by the host: a token of the policy, and a host that says it is another.
  SessionClosed report = value_of(
      parse_session_closed(value_of(parse_envelope(world.session_closed(open, 1).envelope)).payload));
  EXPECT_THAT(world.append(Kind::kSessionClosed, open.id,
                           {world.sign(Kind::kSessionClosed, report, world.company.token("erin")), {}}),
              FailsWith(Code::kUnverified));
  ASSERT_THAT(world.deny(open.id, "bob"), Succeeds());
  EXPECT_THAT(world.append(Kind::kSessionClosed, open.id, world.session_closed(open, 1)),
              Succeeds());  // a fact
}

TEST(Fold, GivesFollowersTheSameState) {
  RecordScenario world;
  const OpenCase open = world.granted();
  ControlState again = ControlState::begin(world.origin(), world.genesis);
  for (const Entry& entry : world.entries) {
    const bool control = is_control(value_of(parse_kind(entry.leaf.kind)));
    commit(again, value_of(prepare_control(again, entry.leaf, control ? &entry : nullptr)));
  }
  EXPECT_EQ(again.root(), world.state.control.root());
  EXPECT_EQ(again.find_grant(open.id)->leaf_hash, world.state.control.find_grant(open.id)->leaf_hash);
  const CaseTrace& a = *again.find_case(open.id);
  const CaseTrace& b = *world.state.control.find_case(open.id);
  EXPECT_EQ(a.approvals, b.approvals);
  EXPECT_EQ(a.last, b.last);
}

// Followers hand out a state and go on from a copy of it.
TEST(Fold, ACopyOfAStateSharesItsCasesAndNoChange) {
  RecordScenario world;
  const OpenCase first = world.request({}), second = world.request({});
  const ControlState before = world.follower;
  ControlState copy = before;
  EXPECT_EQ(copy.find_case(first.id), before.find_case(first.id));  // the very same
  EXPECT_EQ(copy.find_device(first.request.device), before.find_device(first.request.device));

  world.approve_all(first);
  value_of(world.grant(first));
  value_of(world.revoke(RevocationKind::kPerson, SampleCompany::id("alice")));
  world.machine("tower", "cn");  // enrols it
  EXPECT_FALSE(before.find_grant(first.id));
  EXPECT_TRUE(before.find_case(first.id)->approvals.empty());
  EXPECT_FALSE(before.is_revoked_person(SampleCompany::id("alice")));
  EXPECT_LT(before.devices().size(), world.follower.devices().size());
  EXPECT_EQ(copy.root(), before.root());

  // The copy goes its own way: to the same state, by the same leaves.
  for (std::size_t i = before.size().get(); i < world.entries.size(); ++i) {
    const Entry& entry = world.entries[i];
    const bool control = is_control(static_cast<Kind>(entry.leaf.kind));
    commit(copy, value_of(prepare_control(copy, entry.leaf, control ? &entry : nullptr)));
  }
  EXPECT_EQ(copy.root(), world.follower.root());
  EXPECT_TRUE(copy.find_grant(first.id));
  EXPECT_FALSE(before.find_grant(first.id));
}

TEST(Fold, DropsTheEntriesOfCasesThatAreOver) {
  RecordScenario world;
  const OpenCase open = world.granted();
  EXPECT_FALSE(case_of(world, open).opening.body.empty());
  EXPECT_TRUE(case_of(world, open).closing.has_value());
  world.advance(21min);
  const OpenCase later = world.request({});
  EXPECT_TRUE(case_of(world, open).opening.body.empty());
  EXPECT_FALSE(case_of(world, open).closing.has_value());
  EXPECT_FALSE(case_of(world, later).opening.body.empty());
}

TEST(HostKey, IsFoundFromItsSignature) {
  for (int i = 0; i < 20; ++i) {
    const crypto::PrivateKey key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
    const std::vector<std::string> known{value_of(ssh_fingerprint(key.public_key()))};
    Envelope envelope =
        value_of(sign_statement(std::string{kHostHelloType}, to_bytes(as_bytes("{}")), key.public_key(),
                                [&](const Digest256& digest) { return key.sign_p256(digest); }));
    EXPECT_EQ(value_of(verify_host_signature(envelope, known)), key.public_key());
    EXPECT_THAT(verify_host_signature(envelope, {}), FailsWith(Code::kUnverified));
    Envelope changed = envelope;
    changed.payload.push_back(' ');
    EXPECT_THAT(verify_host_signature(changed, known), FailsWith(Code::kUnverified));
    changed = envelope;
    changed.signatures.front().signature[40] ^= 1;
    EXPECT_THAT(verify_host_signature(changed, known), FailsWith(Code::kUnverified));
    changed.signatures.clear();
    EXPECT_THAT(verify_host_signature(changed, known), FailsWith(Code::kUnverified));
  }
}

// ssh-keygen -l of a fixed key, made once with OpenSSH 9.2.
TEST(HostKey, HasTheFingerprintThatOpenSshPrints) {
  const auto point =
      value_of(parse_hex("04ed7efdbbffe1d155a10b529a7b4453b444903a74722e6e594131ebf5ac4eaf1997584b7d4c41c2d7c"
                         "b419d662e9cd2980b4475a5445dc58bfe871540218606f3",
                         65));
  const crypto::PublicKey key = value_of(crypto::PublicKey::from_p256_point(point));
  EXPECT_EQ(value_of(ssh_fingerprint(key)), "SHA256:zfhtDnSDVQdp2AR1eUBrhEsKCdMIU6uGZ1vPvhTUQA0");
}

}  // namespace
}  // namespace sallyport::record

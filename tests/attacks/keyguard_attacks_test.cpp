#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/evidence/key_policy.h"
#include "attestation/record/times.h"
#include "broker/credentials/ssh_certificate.h"
#include "tests/support/guard_world.h"
#include "tests/support/matchers.h"

// Claim C1: root on the API host owns the log's database and the keyguard's socket. He may append what he
// likes, as long as the guard follows it, and tell the guard what he likes; the guard is the real
// keyguard, asked over its socket, with a real token. Where he needs people, some of them help him.
namespace sallyport::test {
namespace {

using namespace record;
using keyguard::LeaseCall;

class KeyguardAttacks : public ::testing::Test {
 protected:
  GuardWorld world{{}, SALLYPORT_KEYGUARD_PROGRAM};
  RecordScenario& company = world.company;

  Digest256 digest_of(const Submission& submission) const {
    return statement_digest(value_of(parse_envelope(submission.envelope)));
  }
  Bytes decision_of(const OpenCase& open) const { return encode(*company.state.cases.at(open.id).decision); }
  std::vector<Digest256> approvals_of(const OpenCase& open) const {
    std::vector<Digest256> out;
    for (const CountedApproval& approval : company.state.cases.at(open.id).approvals)
      out.push_back(approval.digest);
    return out;
  }

  // root_append appends whatever a follower still follows.
  Result<LeafIndex> root_append(const Entry& entry) {
    company.broker_is_rooted = true;
    const auto done = company.append(entry);
    company.broker_is_rooted = false;
    return done;
  }
  // force_grant logs a grant that nobody checked and asks for its certificate.
  Result<Bytes> force_grant(const OpenCase& open, Bytes decision, std::vector<Digest256> approvals) {
    Grant grant{.approvals = std::move(approvals),
                .authority = company.origin().get(),
                .case_id = open.id,
                .decision = std::move(decision)};
    return force_grant(open, company.forge_grant(grant, company.activation(open, {})));
  }
  Result<Bytes> force_grant(const OpenCase& open, const Entry& grant) {
    SP_CHECK(root_append(grant));
    world.feed();
    return world.certify(company.dossier(open));
  }

  // offer sends the guard one more leaf without appending it anywhere else.
  Result<std::string> offer(const Entry& entry) {
    world.feed();
    Batch batch = world.batch(LeafIndex{company.entries.size()});
    batch.leaves.push_back(entry.leaf);
    if (is_control(value_of(parse_kind(entry.leaf.kind)))) batch.controls.push_back({batch.from, entry});
    return world.advance(batch);
  }
};

// ---- quorum

TEST_F(KeyguardAttacks, TooFewApprovalsGetNoCertificate) {
  const OpenCase open = company.request({});
  company.approve_all(open, {"alice", "dana"});  // one of two of us-oncall, and one of privacy
  EXPECT_THAT(force_grant(open, decision_of(open), approvals_of(open)), FailsWith(Reason::kQuorumNotMet));
}

TEST_F(KeyguardAttacks, NoApprovalAtAllGetsNoCertificate) {
  const OpenCase open = company.request({});
  EXPECT_THAT(force_grant(open, decision_of(open), {}), FailsWith(Code::kMalformed));
}

TEST_F(KeyguardAttacks, OnePersonOfTwoGroupsFillsOneSeat) {
  const OpenCase open = company.request({});
  company.approve_all(open, {"alice", "carol"});  // carol is of us-oncall and of privacy
  EXPECT_THAT(force_grant(open, decision_of(open), approvals_of(open)), FailsWith(Reason::kQuorumNotMet));
}

TEST_F(KeyguardAttacks, OnePersonWhoApprovesTwiceFillsOneSeat) {
  const OpenCase open = company.request({});
  company.approve_all(open, {"alice", "dana"});
  const Submission again = company.make_approval(open.id, "alice", {});
  value_of(root_append(company.entry(Kind::kApproval, open.id, again)));
  std::vector<Digest256> approvals = approvals_of(open);
  approvals.push_back(digest_of(again));
  EXPECT_THAT(force_grant(open, decision_of(open), approvals), FailsWith(Reason::kApprovalDuplicate));
}

TEST_F(KeyguardAttacks, TheRequesterDoesNotCount) {
  const OpenCase open = company.request({.person = "mona"});  // not in the rule's group: refused
  EXPECT_EQ(company.state.cases.at(open.id).state, CaseState::kRefusable);
  const OpenCase mine = company.request({});
  company.approve_all(mine, {"alice", "dana"});
  // erin approves her own case.
  company.machine("erin-laptop");
  const Submission own = company.make_approval(mine.id, "erin", {});
  value_of(root_append(company.entry(Kind::kApproval, mine.id, own)));
  std::vector<Digest256> approvals = approvals_of(mine);
  approvals.push_back(digest_of(own));
  EXPECT_THAT(force_grant(mine, decision_of(mine), approvals), FailsWith(Reason::kApprovalSelf));
}

TEST(KeyguardAttacksTwoTokens, OnePersonWithTwoTokensFillsOneSeat) {
  const crypto::PrivateKey second = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  GuardWorld world{
      [&](SampleCompany& sample) {
        sample.policy.person("alice@corp.example").tokens.push_back({"alice-yk2", second.public_key()});
      },
      SALLYPORT_KEYGUARD_PROGRAM};
  RecordScenario& company = world.company;
  const OpenCase open = company.request({});
  company.approve_all(open, {"alice", "dana"});
  const Submission again = company.make_approval(open.id, "alice", {.token = &second});
  company.broker_is_rooted = true;
  value_of(company.append(Kind::kApproval, open.id, again));
  const Case& one = company.state.cases.at(open.id);
  Grant grant{.approvals = {one.approvals[0].digest, one.approvals[1].digest,
                            statement_digest(value_of(parse_envelope(again.envelope)))},
              .authority = company.origin().get(),
              .case_id = open.id,
              .decision = encode(*one.decision)};
  value_of(company.append(company.forge_grant(grant, company.activation(open, {}))));
  world.feed();
  EXPECT_THAT(world.certify(company.dossier(open)), FailsWith(Reason::kApprovalDuplicate));
}

TEST_F(KeyguardAttacks, ApprovalsOfAnotherCaseAreOfNoUse) {
  const OpenCase first = company.granted();
  const OpenCase second = company.request({});
  // The same people approved the first case; the second names those approvals.
  EXPECT_THAT(force_grant(second, decision_of(second), approvals_of(first)),
              FailsWith(Reason::kGrantMismatch));
}

TEST_F(KeyguardAttacks, ADecisionOfTheBrokersIsRecomputed) {
  const OpenCase open = company.request({});
  company.approve_all(open);
  DecisionStatement decision = *company.state.cases.at(open.id).decision;
  decision.account = "root";
  decision.duration_s = 3600;
  EXPECT_THAT(force_grant(open, encode(decision), approvals_of(open)), FailsWith(Reason::kGrantMismatch));
}

// ---- one grant

TEST_F(KeyguardAttacks, ASecondGrantInACaseIsNotFollowed) {
  const OpenCase open = company.granted();
  const Entry& first = company.entries.back();
  const Envelope envelope = value_of(open_envelope(value_of(parse_body(first.body))));
  const Grant grant = value_of(parse_grant(envelope.payload));
  const Entry second = company.forge_grant(grant, company.activation(open, {}));
  EXPECT_THAT(offer(second), FailsWith(Reason::kGrantExists));
  EXPECT_THAT(world.certify(company.dossier(open)), Succeeds());  // the first is as good as it was
}

TEST_F(KeyguardAttacks, ADeniedCaseGetsNoGrant) {
  const OpenCase open = company.request({});
  company.approve_all(open);
  const Entry grant = value_of(company.make_grant(open, {}));  // ready to be logged
  value_of(company.deny(open.id, "bob"));
  // In its place after the denial, or with the predecessor that it was made for.
  const Envelope envelope = value_of(open_envelope(value_of(parse_body(grant.body))));
  const Entry later =
      company.forge_grant(value_of(parse_grant(envelope.payload)), company.activation(open, {}));
  EXPECT_THAT(offer(later), FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(offer(grant), FailsWith(Reason::kCaseDenied));
}

// ---- machines

TEST_F(KeyguardAttacks, AMachineThatWasNeverEnrolledGetsNothing) {
  const OpenCase model = company.granted();
  SoftTpm stranger;
  const OpenCase open = company.request({.tpm = &stranger});
  EXPECT_EQ(company.state.cases.at(open.id).refusable, Reason::kDeviceUnknown);
  DecisionStatement decision = *company.state.cases.at(model.id).decision;
  decision.case_id = open.id;
  decision.request = open.digest;
  decision.device = stranger.device();
  decision.key = open.request.key;
  const Submission bribed = company.make_approval(open.id, "alice", {.edit = [&](Approval& approval) {
                                                    approval.decision = decision_digest(encode(decision));
                                                  }});
  value_of(root_append(company.entry(Kind::kApproval, open.id, bribed)));
  EXPECT_THAT(force_grant(open, encode(decision), {digest_of(bribed)}), FailsWith(Reason::kDeviceUnknown));
}

TEST_F(KeyguardAttacks, AnEnrolmentWithAnotherAttestationKeyThanWasApprovedIsNotFollowed) {
  // The approvers challenged the honest AK; the broker closes the case with a software AK over the same EK,
  // and the engineer signs that too.
  SoftTpm honest, fake;
  const CaseId id = crypto::random_case_id();
  value_of(company.append(Kind::kEnrolmentRequested, id, company.enrolment_request(honest, {}, id)));
  for (const char* person : {"frank", "grace"}) value_of(company.approve(id, person));
  const Entry good = value_of(compose_enrolment(company.state, id, company.now, crypto::random_nonce()));
  const Envelope envelope = value_of(open_envelope(value_of(parse_body(good.body))));
  Enrolment enrolment = value_of(parse_enrolment(envelope.payload));
  const Submission forged = company.enrolment_request(fake,
                                                      {.edit =
                                                           [&](EnrolmentRequested& statement) {
                                                             statement.ek = honest.ek_public();
                                                             statement.device = honest.device();
                                                           },
                                                       .edit_blobs =
                                                           [&](std::vector<Blob>& blobs) {
                                                             for (Blob& blob : blobs)
                                                               if (blob.type == EvidenceType::kEkCertificate)
                                                                 blob.bytes =
                                                                     company.vendor.issue_ek(honest.ek().key);
                                                           }},
                                                      id);
  enrolment.request = forged.envelope;
  const Entry bad = company.entry(
      Kind::kEnrolment, id,
      {encode_envelope(
           {.type = payload_type(Kind::kEnrolment), .payload = encode(enrolment), .signatures = {}}),
       forged.blobs});
  EXPECT_THAT(offer(bad), FailsWith(Reason::kApprovalOtherDecision));
  EXPECT_THAT(offer(good), Succeeds());
}

TEST_F(KeyguardAttacks, AChangedPcrAtActivationGetsNoCertificate) {
  const OpenCase open = company.request({});
  company.approve_all(open);
  const Entry grant = value_of(company.make_grant(open, {.before_quote = [](SoftTpm& tpm) {
                                                    tpm.extend(4, crypto::sha256(as_bytes("another loader")));
                                                  }}));
  EXPECT_THAT(prepare(company.state, grant), FailsWith(Reason::kBootState));  // no honest broker logs it
  EXPECT_THAT(force_grant(open, grant), FailsWith(Reason::kBootState));
}

TEST_F(KeyguardAttacks, ARebootBeforeActivationGetsNoCertificate) {
  const OpenCase open = company.request({});
  company.approve_all(open);
  const Entry grant = value_of(company.make_grant(open, {.before_quote = [](SoftTpm& tpm) {
                                                    const auto pcrs = tpm.pcrs;
                                                    tpm.reset();
                                                    tpm.pcrs = pcrs;  // measured the same again
                                                  }}));
  EXPECT_THAT(force_grant(open, grant), FailsWith(Reason::kBootCounters));
}

TEST_F(KeyguardAttacks, AnotherMachinesActivationGetsNoCertificate) {
  SoftTpm& other = company.machine("other-laptop");
  const OpenCase open = company.request({});
  company.approve_all(open);
  const Entry grant = value_of(company.make_grant(open, {.tpm = &other}));
  EXPECT_THAT(force_grant(open, grant), FailsWith(Reason::kQuoteSignature));
}

// ---- what is withheld

TEST_F(KeyguardAttacks, ARevocationWithoutItsBodyStopsTheGuard) {
  const OpenCase open = company.granted();
  world.feed();
  value_of(company.revoke(RevocationKind::kDevice, to_hex(company.machine("laptop").device())));
  Batch batch = world.batch(LeafIndex{company.entries.size() - 1});
  batch.controls.clear();
  EXPECT_THAT(world.advance(batch), FailsWith(Reason::kLogMissingBody));
  // And no checkpoint beyond it: the next leaf does not fit without it.
  (void)company.request({});
  batch = world.batch(LeafIndex{company.entries.size() - 1});
  EXPECT_THAT(world.advance(batch), FailsWith(Code::kStale));
  // Another body than the leaf's is as good as none.
  batch = world.batch(LeafIndex{world.status().size.get()});
  batch.controls.front().entry.nonce = crypto::random_nonce();
  EXPECT_THAT(world.advance(batch), FailsWith(Reason::kLogBody));
}

TEST(KeyguardAttacksRevoked, NothingIsCertifiedOrLeasedAfterARevocation) {
  struct Target {
    const char* name;
    Reason reason;
  };
  for (const Target& target : {Target{"case", Reason::kCaseDenied}, Target{"device", Reason::kDeviceRevoked},
                               Target{"person", Reason::kRevoked}, Target{"token", Reason::kRevoked},
                               Target{"approver", Reason::kApprovalRevoked}}) {
    GuardWorld fresh{{}, SALLYPORT_KEYGUARD_PROGRAM};
    const OpenCase open = fresh.company.granted();
    fresh.feed();
    const Dossier before = fresh.company.dossier(open);
    const Bytes wire = value_of(fresh.certify(before));
    const LeaseCall call = value_of(fresh.log_lease(open, fresh.login(wire)));
    const std::string name = target.name;
    if (name == "case") value_of(fresh.company.revoke(RevocationKind::kCase, to_hex(open.id)));
    if (name == "device")
      value_of(
          fresh.company.revoke(RevocationKind::kDevice, to_hex(fresh.company.machine("laptop").device())));
    if (name == "person") value_of(fresh.company.revoke(RevocationKind::kPerson, "erin@corp.example"));
    if (name == "token")
      value_of(fresh.company.revoke(RevocationKind::kToken,
                                    to_hex(fresh.company.company.token("erin").public_key().id())));
    if (name == "approver") value_of(fresh.company.revoke(RevocationKind::kPerson, "bob@corp.example"));
    fresh.feed();
    EXPECT_THAT(fresh.certify(before), FailsWith(target.reason)) << name;  // not even the same again
    EXPECT_THAT(fresh.certify(fresh.company.dossier(open)), FailsWith(target.reason)) << name;
    EXPECT_THAT(fresh.lease(call), FailsWith(target.reason)) << name;
    EXPECT_THAT(fresh.lease_statement({open.id, fresh.login(wire), {}, 10}), FailsWith(target.reason))
        << name;
  }
}

TEST_F(KeyguardAttacks, AGrantUnderThePolicyBeforeIsNotFollowed) {
  const OpenCase open = company.request({});
  company.approve_all(open);
  const Bytes old_decision = decision_of(open);
  value_of(company.change_policy(
      [](SamplePolicy& policy) { policy.rule("us-oncall-to-user-db").requester_groups = {"audit"}; }));
  const Grant grant{.approvals = approvals_of(open),
                    .authority = company.origin().get(),
                    .case_id = open.id,
                    .decision = old_decision};
  EXPECT_THAT(offer(company.forge_grant(grant, company.activation(open, {}))),
              FailsWith(Reason::kPolicyChanged));
  // With the new policy's name on it, it is not what the policy decides.
  DecisionStatement renamed = value_of(parse_decision(old_decision));
  renamed.policy = company.policy().policy.digest;
  EXPECT_THAT(force_grant(open, encode(renamed), approvals_of(open)), FailsWith(Reason::kPolicyGroup));
}

TEST_F(KeyguardAttacks, ApprovalsDoNotOutliveADecisionThatThePolicyChanged) {
  const OpenCase open = company.request({});
  company.approve_all(open);
  const auto approvals = approvals_of(open);
  value_of(company.change_policy(
      [](SamplePolicy& policy) { policy.rule("us-oncall-to-user-db").duration = "2h"; }));
  DecisionStatement longer = *company.state.cases.at(open.id).decision;
  longer.policy = company.policy().policy.digest;
  longer.duration_s = 2 * 3600;
  EXPECT_THAT(force_grant(open, encode(longer), approvals), FailsWith(Reason::kApprovalOtherDecision));
}

// ---- trees

TEST_F(KeyguardAttacks, NoSecondLeafAtAnIndex) {
  const OpenCase open = company.request({});
  world.feed();
  const TreeSize size = company.tree.size();
  Batch fork = world.batch(LeafIndex{size.get() - 1});
  fork.leaves.back() = ledger::Leaf{fork.leaves.back()};
  fork.leaves.back().commitment = crypto::sha256(as_bytes("another request"));
  EXPECT_THAT(world.advance(fork), FailsWith(Code::kStale));
  EXPECT_EQ(world.status().root, company.tree.root());
  (void)open;
}

TEST_F(KeyguardAttacks, WitnessesOfAnotherTreeStopTheGuard) {
  company.request({});
  world.feed();
  // The witnesses have cosigned something else at this size: two guards, or one that was set back.
  ledger::Tree other;
  for (std::size_t i = 0; i < company.entries.size(); ++i)
    other.append(crypto::sha256(as_bytes("leaf " + std::to_string(i))));
  Batch batch = world.batch(LeafIndex{company.entries.size()});
  batch.note = company.cosign(other, 3, company.now);
  EXPECT_THAT(world.advance(batch), FailsWith(Reason::kLogFork));
  other.append(crypto::sha256(as_bytes("one more")));
  batch.note = company.cosign(other, 3, company.now);
  EXPECT_THAT(world.advance(batch), FailsWith(Reason::kLogRollback));
}

TEST_F(KeyguardAttacks, AGuardThatWasSetBackSignsNoOtherTree) {
  const OpenCase open = company.request({});
  world.feed();
  world.guard.reset();
  std::filesystem::copy(world.state(), world.directory / "backup");
  const TreeSize at_backup = company.tree.size();
  const std::string note_at_backup = world.note_of(at_backup);
  world.restart();

  company.approve_all(open);
  value_of(company.grant(open));
  world.feed();
  company.advance(std::chrono::seconds{121});
  const std::string newest = world.note_of(company.tree.size());

  // The attacker puts the backup in place, and would have another history signed: no denial, no first grant.
  world.guard = value_of(world.open(world.directory / "backup"));
  Batch fork = world.batch(LeafIndex{at_backup.get()});
  fork.leaves.resize(1);
  fork.controls.clear();
  fork.leaves[0] = ledger::Leaf{fork.leaves[0]};
  fork.leaves[0].commitment = crypto::sha256(as_bytes("something else"));
  EXPECT_THAT(world.advance(fork), FailsWith(Code::kStale));  // without a note
  fork = world.batch(LeafIndex{world.status().size.get()});
  EXPECT_THAT(world.advance(fork), FailsWith(Code::kStale));
  Batch same = world.batch(LeafIndex{world.status().size.get()});
  same.note = note_at_backup;  // too old: the witnesses will not sign that size again
  EXPECT_THAT(world.advance(same), FailsWith(Code::kStale));
  same.note = newest;  // not its own tree any more: it has taken the fork's leaf
  EXPECT_THAT(world.advance(same), FailsWith(Reason::kLogFork));
}

// What is not detected, and why it gives nothing: while the witnesses' signatures over the backup's size are
// younger than 120 s, a guard that was set back takes them for the present and signs another tree. No k
// witnesses cosign that, so nothing is certified.
TEST_F(KeyguardAttacks, AGuardThatWasSetBackWithinTwoMinutesCertifiesNothingInItsOtherTree) {
  const OpenCase open = company.request({});
  company.approve_all(open);
  world.feed();
  world.guard.reset();
  std::filesystem::copy(world.state(), world.directory / "backup");
  const TreeSize at_backup = company.tree.size();
  const std::string fresh = world.note_of(at_backup);
  world.restart();
  value_of(company.deny(open.id, "bob"));  // the true history
  world.feed();

  RecordScenario fork = company;  // the other one, in which the denial never came
  world.guard = value_of(world.open(world.directory / "backup"));
  fork.entries.resize(at_backup.get());
  fork.tree = {};
  for (const Entry& entry : fork.entries) fork.tree.append(ledger::leaf_hash(entry.leaf));
  Grant grant{.approvals = approvals_of(open),
              .authority = company.origin().get(),
              .case_id = open.id,
              .decision = decision_of(open)};
  const Bytes envelope =
      encode_envelope({.type = payload_type(Kind::kGrant), .payload = encode(grant), .signatures = {}});
  std::uint64_t before = ledger::kNoPredecessor;
  for (std::size_t i = 0; i < at_backup.get(); ++i)
    if (fork.entries[i].leaf.case_id == open.id) before = i;
  const Entry entry = make_entry(Kind::kGrant, company.now, open.id, before, envelope,
                                 company.activation(open, {.note = fresh}), crypto::random_nonce());
  Batch batch;
  batch.from = LeafIndex{at_backup.get()};
  batch.leaves.push_back(entry.leaf);
  batch.controls.push_back({batch.from, entry});
  batch.note = fresh;
  EXPECT_THAT(world.advance(batch), Succeeds());  // not detected

  fork.entries.push_back(entry);
  const LeafIndex index = fork.tree.append(ledger::leaf_hash(entry.leaf));
  // All witnesses but one saw the true history; the fork has the log's own signature and the liar's.
  Dossier dossier = fork.dossier(open.id);
  dossier.proof = fork.proof(index, fork.cosign(fork.tree, 1, company.now));
  EXPECT_THAT(world.certify(dossier), FailsWith(Reason::kLogQuorum));
}

// ---- the form and age of what is certified

TEST_F(KeyguardAttacks, TheTravelFormIsNotCertified) {
  const OpenCase open = company.granted();
  world.feed();
  EXPECT_THAT(world.certify(to_travel(company.dossier(open))), FailsWith(Reason::kGrantMismatch));
}

TEST_F(KeyguardAttacks, StaleOrTooFewCosignaturesAreNotCertified) {
  const OpenCase open = company.granted();
  world.feed();
  const Dossier old = company.dossier(open);
  company.advance(std::chrono::seconds{121});
  EXPECT_THAT(world.certify(old), FailsWith(Code::kStale));
  Dossier few = company.dossier(open);
  few.proof = company.proof(company.last_index(), company.cosign(2));
  EXPECT_THAT(world.certify(few), FailsWith(Reason::kLogQuorum));
  EXPECT_THAT(world.certify(company.dossier(open)), Succeeds());
}

TEST_F(KeyguardAttacks, AGrantThatTheGuardHasNotFollowedIsNotCertified) {
  world.feed();
  const OpenCase open = company.granted();
  EXPECT_THAT(world.certify(company.dossier(open)), FailsWith(Reason::kGateBehind));
}

TEST_F(KeyguardAttacks, EveryByteOfADossierCounts) {
  const OpenCase open = company.granted();
  world.feed();
  const Bytes whole = encode_dossier(company.dossier(open));
  for (std::size_t i = 0; i < whole.size(); i += 1 + whole.size() / 97) {
    Bytes bad = whole;
    bad[i] ^= 1;
    EXPECT_FALSE(world.call(keyguard::Call::kCertify, bad).has_value()) << "byte " << i;
  }
  EXPECT_THAT(world.call(keyguard::Call::kCertify, whole), Succeeds());
}

// ---- leases

class LeaseAttacks : public KeyguardAttacks {
 protected:
  LeaseAttacks() {
    open.emplace(company.granted());
    world.feed();
    certificate = value_of(world.certify(company.dossier(*open)));
    content = world.login(certificate);
  }
  std::optional<OpenCase> open;
  Bytes certificate, content;

  Result<Bytes> statement(ByteView what) {
    return world.lease_statement({open->id, to_bytes(what), ByteArray<32>{7}, 10});
  }
};

TEST_F(LeaseAttacks, NoLeaseForAnotherHostUserServiceOrMethod) {
  const auto stranger = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  const auto neighbour = company.company.host_keys.at("db-8").public_key();
  EXPECT_THAT(statement(world.login(certificate, {.host_key = stranger})), FailsWith(Reason::kLeaseHost));
  EXPECT_THAT(statement(world.login(certificate, {.host_key = neighbour})), FailsWith(Reason::kLeaseHost));
  EXPECT_THAT(statement(world.login(certificate, {.user = "root"})), FailsWith(Reason::kLeaseUser));
  EXPECT_THAT(statement(world.login(certificate, {.method = "publickey"})), FailsWith(Reason::kLeaseContent));
  EXPECT_THAT(statement(world.login(certificate, {.service = "ssh-userauth"})),
              FailsWith(Reason::kLeaseContent));
  EXPECT_THAT(statement(as_bytes("sign this")), FailsWith(Code::kMalformed));
  Bytes longer = content;
  longer.push_back(0);
  EXPECT_THAT(statement(longer), FailsWith(Code::kMalformed));
  EXPECT_THAT(statement(content), Succeeds());
}

TEST_F(LeaseAttacks, NoLeaseWithAnotherGrantsCertificateOrCase) {
  const OpenCase other = company.granted();
  world.feed();
  const Bytes others = value_of(world.certify(company.dossier(other)));
  EXPECT_THAT(statement(world.login(others)), FailsWith(Reason::kLeaseContent));
  EXPECT_THAT(world.lease_statement({other.id, content, {}, 10}), FailsWith(Reason::kLeaseContent));
  EXPECT_THAT(world.lease_statement({crypto::random_case_id(), content, {}, 10}),
              FailsWith(Reason::kLeaseContent));
  // A lease that was logged in one case is not one of another.
  LeaseCall call = value_of(world.log_lease(*open, content));
  world.feed();
  call.case_id = other.id;
  EXPECT_THAT(world.lease(call), FailsWith(Reason::kLeaseNotLogged));
}

TEST_F(LeaseAttacks, NoSignatureForAnotherContentOrNonceThanWasLogged) {
  const LeaseCall call = value_of(world.log_lease(*open, content));
  world.feed();
  LeaseCall bad = call;
  bad.nonce_tpm[0] ^= 1;
  EXPECT_THAT(world.lease(bad), FailsWith(Reason::kLeaseContent));
  bad = call;
  bad.content = world.login(certificate, {.user = "root"});
  EXPECT_THAT(world.lease(bad), FailsWith(Reason::kLeaseUser));
  bad = call;
  bad.content[8] ^= 1;  // of the session id: another connection
  EXPECT_THAT(world.lease(bad), FailsWith(Reason::kLeaseContent));
  bad = call;
  bad.body.back() ^= 1;
  EXPECT_THAT(world.lease(bad), FailsWith(Reason::kLeaseNotLogged));
  EXPECT_THAT(world.lease(call), Succeeds());
}

TEST_F(LeaseAttacks, NoSecondSignatureForALease) {
  const LeaseCall call = value_of(world.log_lease(*open, content));
  world.feed();
  EXPECT_THAT(world.lease(call), Succeeds());
  EXPECT_THAT(world.lease(call), FailsWith(Reason::kLeaseContent));
}

TEST_F(LeaseAttacks, NoSignatureForALeaseThatIsNotInASignedTree) {
  const LeaseCall call = value_of(world.log_lease(*open, content));
  EXPECT_THAT(world.lease(call), FailsWith(Reason::kLogOrder));  // not told to the guard
  world.feed();
  LeaseCall bad = call;
  bad.index = LeafIndex{call.index.get() - 1};
  EXPECT_THAT(world.lease(bad), FailsWith(Reason::kLeaseNotLogged));
  bad = call;
  bad.nonce = crypto::random_nonce();
  EXPECT_THAT(world.lease(bad), FailsWith(Reason::kLeaseNotLogged));
}

TEST_F(LeaseAttacks, NoSignatureForALeaseThatTheGuardDidNotState) {
  const crypto::PrivateKey own = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  const auto edit = [&](Lease& lease) {
    lease.content = crypto::sha256(content);
    lease.cp_hash = evidence::cp_hash_sign(open->key.name, lease.content);
    lease.nonce = crypto::sha256(ByteArray<32>{7});
    lease.expiration_s = 30;
  };
  const LeafIndex index =
      value_of(root_append(company.entry(Kind::kLease, open->id, company.lease(*open, edit, &own))));
  world.feed();
  const Entry& entry = company.entries.at(index.get());
  EXPECT_THAT(world.lease({open->id, index, entry.nonce, entry.body, content, ByteArray<32>{7}}),
              FailsWith(Reason::kLeaseNotLogged));
}

TEST_F(LeaseAttacks, NoSignatureForALeaseThatIsTooOld) {
  const LeaseCall call = value_of(world.log_lease(*open, content));
  world.feed();
  company.advance(std::chrono::seconds{31});
  EXPECT_THAT(world.lease(call), FailsWith(Code::kStale));
}

TEST_F(LeaseAttacks, ALeaseOfAnIssuedMemoryThatWasSetBackIsTheSameLease) {
  // Not detected: with an older issued.db a lease is signed again. It is a signature over the very same
  // nonceTPM, command and case, which the TPM takes once.
  world.guard.reset();
  std::filesystem::copy(world.state(), world.directory / "backup");
  world.restart();
  const LeaseCall call = value_of(world.log_lease(*open, content));
  world.feed();
  const crypto::Signature64 first = value_of(world.lease(call));
  world.guard = value_of(world.open(world.directory / "backup"));
  world.feed();
  const crypto::Signature64 second = value_of(world.lease(call));
  const Digest256 hash = value_of(evidence::lease_hash(
      call.nonce_tpm, 10, evidence::cp_hash_sign(open->key.name, crypto::sha256(content)),
      evidence::lease_policy_ref(company.origin(), open->id)));
  for (const auto& signature : {first, second})
    EXPECT_THAT(crypto::verify_p256(world.keys.lease.public_key(), hash, signature), Succeeds());
}

}  // namespace
}  // namespace sallyport::test

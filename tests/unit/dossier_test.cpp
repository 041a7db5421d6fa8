#include <gtest/gtest.h>

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/ledger/proof.h"
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

Result<VerifiedGrant> verify(const RecordScenario& world, const Dossier& dossier) {
  return verify_dossier(dossier, world.follower, world.now);
}

Envelope envelope_of(ByteView body) {
  return value_of(open_envelope(value_of(parse_body(body))));
}

// with_envelope gives a body with another envelope.
Bytes with_envelope(ByteView body, Bytes envelope) {
  Body changed = value_of(parse_body(body));
  changed.envelope = std::move(envelope);
  return encode_body(changed);
}

// A rooted broker appends any grant it likes to the log, and the witnesses cosign it: they judge nothing.
Grant honest_grant(const RecordScenario& world, const OpenCase& open) {
  const Case& one = world.state.cases.at(open.id);
  Grant grant{.approvals = {}, .authority = world.origin().get(), .case_id = open.id, .decision = {}};
  for (const CountedApproval& approval : one.approvals) grant.approvals.push_back(approval.digest);
  if (one.decision) grant.decision = encode(*one.decision);
  return grant;
}
Result<VerifiedGrant> grant_as_rooted_broker(RecordScenario& world, const OpenCase& open, const Grant& grant,
                                             const GrantStep& step = {}) {
  world.broker_is_rooted = true;
  value_of(world.append(world.forge_grant(grant, world.activation(open, step))));
  return verify(world, world.dossier(open));
}

TEST(Dossier, ProvesAnAccessInBothForms) {
  RecordScenario world;
  RequestStep step;
  step.attachments = {{"lag.png", Bytes(5000, 7)}};
  const OpenCase open = world.granted(step);
  const Dossier full = world.dossier(open);
  const Dossier travel = to_travel(full);
  EXPECT_EQ(full.blobs.size(), travel.blobs.size() + 1);
  EXPECT_LT(encode_dossier(travel).size(), kMaxTravelDossierBytes);

  for (const Dossier& dossier : {full, travel}) {
    const VerifiedGrant grant = value_of(verify(world, dossier));
    EXPECT_EQ(grant.form, dossier.form);
    EXPECT_EQ(grant.case_id, open.id);
    EXPECT_EQ(grant.origin, world.origin());
    EXPECT_EQ(grant.person.get(), "erin@corp.example");
    EXPECT_EQ(grant.beneficiary.get(), "erin@corp.example");
    EXPECT_EQ(grant.device, world.machine("laptop").device());
    EXPECT_EQ(grant.device_name, "laptop");
    EXPECT_EQ(grant.resource.get(), "user-db");
    EXPECT_EQ(grant.host, "db-7");
    EXPECT_EQ(grant.host_address, "db-7.us.corp.example");
    EXPECT_EQ(grant.host_port, 22);
    EXPECT_EQ(grant.host_keys.size(), 2u);
    EXPECT_EQ(grant.account, "dbadmin");
    EXPECT_EQ(grant.command, "");
    EXPECT_EQ(grant.source_networks,
              (std::vector<std::string>{"10.20.0.0/16", "127.0.0.0/8", "2001:db8:20::/48"}));
    EXPECT_EQ(grant.rules, std::vector<std::string>{"us-oncall-to-user-db"});
    EXPECT_EQ(grant.approvers.size(), 3u);
    EXPECT_EQ(grant.reason, "INC-4711: replica lag");
    EXPECT_EQ(grant.not_after.get() - grant.not_before.get(), 900'000u);
    EXPECT_EQ(grant.session_key, open.key.key.public_key());
    EXPECT_TRUE(std::equal(view(grant.session_key_name).begin(), view(grant.session_key_name).end(),
                           open.key.name.get().begin() + 2));
    EXPECT_EQ(grant.cosigned.size(), 3u);
    EXPECT_EQ(grant.policy_digest, world.genesis);
  }
}

TEST(Dossier, EncodesToTheBytesItWasParsedFrom) {
  RecordScenario world;
  const Bytes bytes = encode_dossier(world.dossier(world.granted()));
  const Dossier parsed = value_of(parse_dossier(bytes));
  EXPECT_EQ(encode_dossier(parsed), bytes);
  EXPECT_THAT(verify(world, parsed), Succeeds());
  for (std::size_t size = 0; size < bytes.size(); size += 97)
    EXPECT_THAT(parse_dossier(ByteView{bytes}.first(size)), FailsWith(Code::kMalformed));
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_THAT(parse_dossier(longer), FailsWith(Code::kMalformed));
}

TEST(Dossier, IsCapped) {
  Dossier dossier;
  dossier.form = DossierForm::kTravel;
  dossier.grant_body.resize(kMaxTravelDossierBytes);
  EXPECT_THAT(parse_dossier(encode_dossier(dossier)), FailsWith(Code::kMalformed));
  dossier.form = DossierForm::kFull;
  EXPECT_THAT(parse_dossier(encode_dossier(dossier)), Succeeds());
}

TEST(Dossier, FailsWithAnyByteFlipped) {
  // No attested approvals: the dossier is smaller, and each of its parts is still there.
  RecordScenario world{[](SampleCompany& company) {
    company.policy.rule("us-oncall-to-user-db").approver = "{ attested = false }";
    company.policy.rule("us-oncall-to-user-db").quorum = {{"us-oncall", 1}};
  }};
  const OpenCase open = world.request({});
  world.approve_all(open, {"alice"});
  ASSERT_THAT(world.grant(open), Succeeds());
  const Bytes good = encode_dossier(to_travel(world.dossier(open)));
  ASSERT_THAT(verify(world, value_of(parse_dossier(good))), Succeeds());
  std::size_t parsed = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bytes = good;
    bytes[i] ^= static_cast<std::uint8_t>(1u << i % 8);
    const auto dossier = parse_dossier(bytes);
    if (!dossier) continue;
    ++parsed;
    EXPECT_FALSE(verify(world, *dossier).has_value()) << "byte " << i << " of " << good.size();
  }
  EXPECT_GT(parsed, good.size() / 2);  // it is not the parser that finds them
}

TEST(Dossier, IsAsGoodAsTheLogThatItsVerifierFollowed) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  const ControlState before = world.follower;
  ASSERT_THAT(world.grant(open), Succeeds());
  const Dossier dossier = world.dossier(open);
  EXPECT_THAT(verify_dossier(dossier, before, world.now), FailsWith(Reason::kGateBehind));
  EXPECT_THAT(verify_dossier(dossier, ControlState::begin(world.origin(), world.genesis), world.now),
              FailsWith(Reason::kGateBehind));
  RecordScenario stranger;
  EXPECT_THAT(verify_dossier(dossier, stranger.follower, world.now), FailsWith(Reason::kLogCheckpoint));
}

TEST(Dossier, FailsAgainstAForkedTree) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  RecordScenario fork = world;  // the same keys, another history from here on
  ASSERT_THAT(world.grant(open), Succeeds());
  fork.advance(1s);
  ASSERT_THAT(fork.grant(open), Succeeds());
  EXPECT_THAT(verify_dossier(fork.dossier(open), world.follower, world.now), FailsWith(Reason::kLogFork));
  // Where the follower has gone further, it still knows another leaf there.
  ASSERT_THAT(world.append(Kind::kLease, open.id, world.lease(open)), Succeeds());
  EXPECT_THAT(verify_dossier(fork.dossier(open), world.follower, world.now), FailsWith(Reason::kLogFork));
  // A follower that never saw the grant, but as long a log.
  RecordScenario withheld = fork;
  RecordScenario other = world;
  ASSERT_THAT(withheld.append(Kind::kLease, open.id, withheld.lease(open)), Succeeds());
  EXPECT_THAT(verify_dossier(other.dossier(open), withheld.follower, world.now), testing::Not(Succeeds()));
}

TEST(Dossier, NeedsTheLogsSignatureAndItsWitnesses) {
  RecordScenario world;
  const OpenCase open = world.granted();
  Dossier dossier = world.dossier(open);
  const LeafIndex index = world.follower.find_grant(open.id)->index;
  dossier.proof = world.proof(index, world.cosign(2));
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kLogQuorum));
  RecordScenario stranger;  // a log of the same name with other keys
  stranger.tree = world.tree;
  dossier.proof = world.proof(index, stranger.cosign(3));
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kLogCheckpoint));
  dossier.proof = world.proof(LeafIndex{index.get() - 1}, world.cosign());
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kLogInclusion));
  ledger::ClaimedProof proof = value_of(ledger::parse_proof(world.proof(index, world.cosign())));
  proof.extra = to_bytes(as_bytes("trust me"));
  dossier.proof = ledger::encode_proof(proof);
  EXPECT_THAT(verify(world, dossier), FailsWith(Code::kMalformed));
}

TEST(Dossier, FailsWithALeafFromTheFuture) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  const UnixMillis real = world.now;
  world.advance(100s);  // the broker's clock, which made the grant longer
  ASSERT_THAT(world.grant(open, {.note = world.cosign(world.tree, 3, real)}), Succeeds());
  Dossier dossier = world.dossier(open);
  const LeafIndex index = world.follower.find_grant(open.id)->index;
  dossier.proof = world.proof(index, world.cosign(world.tree, 3, real + 41s));
  EXPECT_THAT(verify(world, dossier), Succeeds());
  dossier.proof = world.proof(index, world.cosign(world.tree, 3, real + 39s));
  EXPECT_THAT(verify(world, dossier), FailsWith(Code::kStale));
}

TEST(Dossier, ProvesNothingWithAnotherLeaf) {
  RecordScenario world;
  const OpenCase open = world.granted();
  Dossier dossier = world.dossier(open);
  const CaseTrace trace = *world.follower.find_case(open.id);
  dossier.grant_leaf = world.entries[trace.first.get()].leaf;  // the request's, which is in the log too
  dossier.proof = world.proof(trace.first, world.cosign());
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kGrantMismatch));
}

TEST(Dossier, FailsWithAGrantThatItsBrokerForged) {
  const auto forged = [](const std::vector<std::string>& approvers,
                         const std::function<void(Grant&, DecisionStatement&)>& edit) {
    RecordScenario world;
    const OpenCase open = world.request({});
    world.approve_all(open, approvers);
    Grant grant = honest_grant(world, open);
    DecisionStatement decision = *world.state.cases.at(open.id).decision;
    edit(grant, decision);
    grant.decision = encode(decision);
    return grant_as_rooted_broker(world, open, grant);
  };
  const std::vector<std::string> all{"alice", "bob", "dana"};
  EXPECT_THAT(forged(all, [](Grant&, DecisionStatement&) {}), Succeeds());
  // One approval of two.
  EXPECT_THAT(forged({"alice", "dana"}, [](Grant&, DecisionStatement&) {}), FailsWith(Reason::kQuorumNotMet));
  // A decision that nobody made.
  const auto decision = [&](const std::function<void(DecisionStatement&)>& edit) {
    return forged(all, [&](Grant&, DecisionStatement& d) { edit(d); });
  };
  EXPECT_THAT(decision([](auto& d) { d.account = "root"; }), FailsWith(Reason::kGrantMismatch));
  EXPECT_THAT(decision([](auto& d) { d.duration_s = 3600; }), FailsWith(Reason::kGrantMismatch));
  EXPECT_THAT(decision([](auto& d) { d.quorum.pop_back(); }), FailsWith(Reason::kGrantMismatch));
  EXPECT_THAT(decision([](auto& d) { d.approver_attested = false; }), FailsWith(Reason::kGrantMismatch));
  EXPECT_THAT(decision([](auto& d) { d.key[7] ^= 1; }), FailsWith(Reason::kGrantMismatch));
  EXPECT_THAT(decision([](auto& d) { d.host = "db-8"; }), FailsWith(Reason::kGrantMismatch));
  EXPECT_THAT(decision([](auto& d) { d.person = d.beneficiary = "mona@corp.example"; }),
              FailsWith(Reason::kGrantMismatch));
  EXPECT_THAT(decision([](auto& d) { d.evidence = Digest256{}; }), FailsWith(Reason::kGrantMismatch));
}

TEST(Dossier, FailsForTheApprovalThatARootedBrokerTook) {
  // The broker appends what an honest one refuses; the follower sees a leaf of the right kind, and no body.
  const auto with_approval = [](const ApprovalStep& step, const std::string& person) {
    RecordScenario world;
    const OpenCase open = world.request({});
    world.approve_all(open, {"alice", "dana"});
    Grant grant = honest_grant(world, open);
    const Submission approval = world.make_approval(open.id, person, step);
    grant.approvals.push_back(statement_digest(value_of(parse_envelope(approval.envelope))));
    world.broker_is_rooted = true;
    value_of(world.append(Kind::kApproval, open.id, approval));
    return grant_as_rooted_broker(world, open, grant);
  };
  EXPECT_THAT(with_approval({}, "bob"), Succeeds());
  const crypto::PrivateKey stranger = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  EXPECT_THAT(with_approval({.token = &stranger}, "bob"), FailsWith(Reason::kApprovalForeignKey));
  EXPECT_THAT(with_approval({.edit = [](Approval& a) { a.decision = Digest256{}; }}, "bob"),
              FailsWith(Reason::kApprovalOtherDecision));
  EXPECT_THAT(with_approval({.edit = [](Approval& a) { a.expires = a.time + 1ms; }}, "bob"),
              FailsWith(Reason::kApprovalExpired));
  EXPECT_THAT(with_approval({.edit = [](Approval& a) { a.expires = a.time + 10h; }}, "bob"),
              FailsWith(Reason::kApprovalExpired));
  EXPECT_THAT(with_approval({.edit =
                                 [](Approval& a) {
                                   a.time = UnixMillis{a.time.get() - 400'000};
                                   a.expires = a.time + 1h;
                                 }},
                            "bob"),
              FailsWith(Code::kStale));
  EXPECT_THAT(with_approval({.attested = false}, "bob"), FailsWith(Reason::kApprovalNotAttested));
  EXPECT_THAT(with_approval({.edit_binding = [](auto& b) { b.purpose = evidence::Purpose::kStay; }}, "bob"),
              FailsWith(Reason::kQuoteNonce));
  EXPECT_THAT(with_approval({}, "alice"), FailsWith(Reason::kApprovalDuplicate));
  EXPECT_THAT(with_approval({}, "erin"), FailsWith(Reason::kApprovalSelf));
  EXPECT_THAT(with_approval({}, "mona"), FailsWith(Reason::kApprovalNotEligible));
  EXPECT_THAT(with_approval({}, "grace"), FailsWith(Reason::kApprovalNotEligible));
}

TEST(Dossier, FailsForTheRequestThatARootedBrokerTook) {
  // The policy would allow it, had it been made as it says.
  const auto with_request = [](const std::function<void(RecordScenario&, RequestStep&)>& edit) {
    RecordScenario world;
    world.machine("laptop");
    RequestStep step;
    edit(world, step);
    const OpenCase open = world.request(step);
    const Case& one = world.state.cases.at(open.id);
    EXPECT_EQ(one.state, CaseState::kRefusable);
    DecisionStatement decision;
    decision.authority = world.origin().get();
    decision.beneficiary = decision.person = open.request.person;
    decision.case_id = open.id;
    decision.account = "dbadmin";
    decision.approver_region = {"us"};
    decision.device = open.request.device;
    decision.duration_s = 900;
    decision.host = "db-7";
    decision.key = open.request.key;
    decision.network = "us";
    decision.policy = world.genesis;
    decision.quorum = {{2, "us-oncall"}, {1, "privacy"}};
    decision.request = open.digest;
    decision.resource = "user-db";
    decision.rules = {"us-oncall-to-user-db"};
    const Submission approval = world.make_approval(open.id, "alice", {});
    world.broker_is_rooted = true;
    value_of(world.append(Kind::kApproval, open.id, approval));
    const Grant grant{.approvals = {statement_digest(value_of(parse_envelope(approval.envelope)))},
                      .authority = world.origin().get(),
                      .case_id = open.id,
                      .decision = encode(decision)};
    return grant_as_rooted_broker(world, open, grant);
  };
  SoftTpm stranger;
  EXPECT_THAT(with_request([&](auto&, RequestStep& s) { s.tpm = &stranger; }),
              FailsWith(Reason::kDeviceUnknown));
  EXPECT_THAT(with_request([&](RecordScenario& world, RequestStep& s) {
                s.tpm = &stranger;
                s.edit = [&](Request& r) { r.device = world.machine("laptop").device(); };
              }),
              FailsWith(Reason::kQuoteSignature));
  EXPECT_THAT(with_request([](RecordScenario& world, RequestStep&) {
                world.machine("laptop").extend(7, crypto::sha256(as_bytes("x")));
              }),
              FailsWith(Reason::kBootState));
  EXPECT_THAT(with_request([](auto&, RequestStep& s) {
                s.edit_quote_binding = [](auto& b) { b.nonce = crypto::random_nonce(); };
              }),
              FailsWith(Reason::kQuoteNonce));
  EXPECT_THAT(with_request([](auto&, RequestStep& s) {
                s.edit_key_policy = [](auto& p) { p.pcr_digest = Digest256{}; };
              }),
              FailsWith(Reason::kKeyPolicy));
  EXPECT_THAT(with_request([](RecordScenario& world, RequestStep& s) {
                s.note = world.cosign();
                world.advance(3min);
              }),
              FailsWith(Code::kStale));
  EXPECT_THAT(with_request([](auto&, RequestStep& s) { s.address = "10.86.1.1"; }),
              FailsWith(Reason::kRegionNetwork));
  EXPECT_THAT(with_request([](RecordScenario& world, RequestStep& s) {
                world.machine("laptop-cn", "cn");
                s.machine = "laptop-cn";
              }),
              FailsWith(Reason::kRegionDevice));
  EXPECT_THAT(with_request([](auto&, RequestStep& s) {
                s.person = "wei";
                s.account = "dbadmin";
              }),
              FailsWith(Reason::kRegionRequester));
}

TEST(Dossier, FailsForAnActivationThatIsNotOfThisMachineAndMoment) {
  const auto activated = [](const std::function<void(RecordScenario&, GrantStep&)>& edit) {
    RecordScenario world;
    const OpenCase open = world.request({});
    world.approve_all(open);
    GrantStep step;
    edit(world, step);
    return grant_as_rooted_broker(world, open, honest_grant(world, open), step);
  };
  SoftTpm stranger;
  EXPECT_THAT(activated([&](auto&, GrantStep& s) { s.tpm = &stranger; }), FailsWith(Reason::kQuoteSignature));
  EXPECT_THAT(activated([](auto&, GrantStep& s) { s.before_quote = [](SoftTpm& tpm) { tpm.restart(); }; }),
              FailsWith(Reason::kBootCounters));
  EXPECT_THAT(activated([](RecordScenario& world, GrantStep& s) {
                s.note = world.cosign();
                world.advance(3min);
              }),
              FailsWith(Code::kStale));
  EXPECT_THAT(activated([](auto&, GrantStep& s) { s.address = "10.86.1.1"; }),
              FailsWith(Reason::kRegionNetwork));
  EXPECT_THAT(activated([](auto&, GrantStep& s) {
                s.edit_binding = [](auto& b) { b.nonce = crypto::random_nonce(); };
              }),
              FailsWith(Reason::kQuoteNonce));
}

TEST(Dossier, WantsExactlyItsEvidence) {
  RecordScenario world;
  RequestStep step;
  step.attachments = {{"lag.png", Bytes(100, 7)}};
  const OpenCase open = world.granted(step);
  const Dossier good = world.dossier(open);
  for (std::size_t i = 0; i < good.blobs.size(); ++i) {
    Dossier less = good;
    less.blobs.erase(less.blobs.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(verify(world, less), FailsWith(Reason::kLogMissingBody));
  }
  Dossier more = good;
  more.blobs.push_back({EvidenceType::kAttachment, Bytes(3, 3)});
  more.blobs = sorted_blobs(std::move(more.blobs));
  EXPECT_THAT(verify(world, more), FailsWith(Reason::kLogMissingBody));
  Dossier travel = good;
  travel.form = DossierForm::kTravel;  // with the attachment
  EXPECT_THAT(verify(world, travel), FailsWith(Reason::kLogMissingBody));
}

TEST(Dossier, FailsWithBodiesThatAreNotTheGrants) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const OpenCase other = world.granted();
  const Dossier good = world.dossier(open), stapled = world.dossier(other);
  Dossier dossier = good;
  dossier.request_body = stapled.request_body;
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kGrantMismatch));
  dossier = good;
  dossier.grant_body = stapled.grant_body;
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kLogBody));
  dossier = good;
  dossier.grant_nonce = stapled.grant_nonce;
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kLogBody));
  dossier = good;
  dossier.approval_bodies = stapled.approval_bodies;
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kGrantMismatch));
  dossier = good;
  std::swap(dossier.approval_bodies[0], dossier.approval_bodies[1]);
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kGrantMismatch));
  dossier = good;
  dossier.approval_bodies.pop_back();
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kLogMissingBody));
  // The same statement, signed by somebody else.
  dossier = good;
  dossier.request_body =
      with_envelope(good.request_body,
                    world.sign_payload(payload_type(Kind::kRequest), envelope_of(good.request_body).payload,
                                       world.company.token("alice")));
  EXPECT_THAT(verify(world, dossier), FailsWith(Code::kUnverified));
}

TEST(Dossier, FailsOnceItsCaseIsDenied) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Dossier dossier = world.dossier(open);
  EXPECT_THAT(verify(world, dossier), Succeeds());
  ASSERT_THAT(world.deny(open.id, "bob"), Succeeds());
  EXPECT_THAT(verify(world, dossier), FailsWith(Reason::kCaseDenied));
}

TEST(Dossier, FailsOnceWhatItRestsOnIsRevoked) {
  const auto after = [](const std::function<void(RecordScenario&, const OpenCase&)>& revoke) {
    RecordScenario world;
    const OpenCase open = world.granted();
    const Dossier dossier = world.dossier(open);
    revoke(world, open);
    return verify(world, dossier);
  };
  const auto revoked = [&](RevocationKind kind,
                           const std::function<std::string(RecordScenario&, const OpenCase&)>& target) {
    return after([&](RecordScenario& world, const OpenCase& open) {
      value_of(world.revoke(kind, target(world, open)));
    });
  };
  EXPECT_THAT(revoked(RevocationKind::kCase, [](auto&, const OpenCase& open) { return to_hex(open.id); }),
              FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(revoked(RevocationKind::kDevice,
                      [](auto& world, auto&) { return to_hex(world.machine("laptop").device()); }),
              FailsWith(Reason::kDeviceRevoked));
  EXPECT_THAT(revoked(RevocationKind::kPerson, [](auto&, auto&) { return SampleCompany::id("erin"); }),
              FailsWith(Reason::kRevoked));
  EXPECT_THAT(revoked(RevocationKind::kPerson, [](auto&, auto&) { return SampleCompany::id("alice"); }),
              FailsWith(Reason::kApprovalRevoked));
  EXPECT_THAT(
      revoked(RevocationKind::kToken,
              [](auto& world, auto&) { return to_hex(world.company.token("dana").public_key().id()); }),
      FailsWith(Reason::kApprovalRevoked));
  EXPECT_THAT(revoked(RevocationKind::kPerson, [](auto&, auto&) { return SampleCompany::id("mona"); }),
              Succeeds());
  // A policy that lists a person no more is as good.
  const auto without = [&](const std::string& name) {
    return after([&](RecordScenario& world, const OpenCase&) {
      value_of(world.change_policy([&](SamplePolicy& policy) {
        policy.person(SampleCompany::id("alice")).groups.push_back("db-oncall");  // which erin alone is of
        std::erase_if(policy.persons, [&](const auto& p) { return p.id == SampleCompany::id(name); });
      }));
    });
  };
  EXPECT_THAT(without("bob"), FailsWith(Reason::kApprovalRevoked));
  EXPECT_THAT(without("erin"), FailsWith(Reason::kPolicyUnknownPerson));
  EXPECT_THAT(without("mona"), Succeeds());
}

TEST(Dossier, HoldsForTheTimeOfItsGrant) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Dossier dossier = world.dossier(open);
  const GrantMark mark = *world.follower.find_grant(open.id);
  const auto at = [&](UnixMillis now) { return verify_dossier(dossier, world.follower, now); };
  EXPECT_THAT(at(mark.not_before), Succeeds());
  EXPECT_THAT(at(UnixMillis{mark.not_before.get() - 30'000}), Succeeds());
  EXPECT_THAT(at(UnixMillis{mark.not_before.get() - 30'001}), FailsWith(Code::kStale));
  EXPECT_THAT(at(UnixMillis{mark.not_after.get() - 1}), Succeeds());
  EXPECT_THAT(at(mark.not_after), FailsWith(Reason::kGrantExpired));
}

TEST(Dossier, IsJudgedUnderThePolicyOfItsGrant) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open, {"alice", "bob"});
  ASSERT_THAT(
      world.change_policy([](SamplePolicy& policy) { policy.rule("foreign-read-only").duration = "4m"; }),
      Succeeds());
  const Dossier early = [&] {  // approvals of before and after the change
    world.approve_all(open, {"dana"});
    value_of(world.grant(open));
    return world.dossier(open);
  }();
  EXPECT_THAT(verify(world, early), Succeeds());
  // A later policy with an hour-long rule and another quorum changes nothing of it.
  ASSERT_THAT(world.change_policy([](SamplePolicy& policy) {
    policy.rule("us-oncall-to-user-db").duration = "1h";
    policy.rule("us-oncall-to-user-db").quorum = {{"privacy", 1}};
  }),
              Succeeds());
  EXPECT_THAT(verify(world, early), Succeeds());
  EXPECT_THAT(verify(world, world.dossier(open)), Succeeds());  // under a newer checkpoint
}

TEST(Dossier, FailsUnderAnOlderPolicyThanTheOneInForce) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  const Grant grant = honest_grant(world, open);
  ASSERT_THAT(
      world.change_policy([](SamplePolicy& p) { p.rule("us-oncall-to-user-db").accounts = {"readonly"}; }),
      Succeeds());
  world.broker_is_rooted = true;
  EXPECT_THAT(world.append(world.forge_grant(grant, world.activation(open, {}))),
              FailsWith(Reason::kPolicyChanged));
  // With the digest of the new policy and the decision of the old one, followers go on, and believe nothing.
  DecisionStatement decision = value_of(parse_decision(grant.decision));
  decision.policy = world.policy().policy.digest;
  Grant forged = grant;
  forged.decision = encode(decision);
  EXPECT_THAT(grant_as_rooted_broker(world, open, forged), FailsWith(Reason::kGrantMismatch));
}

TEST(Dossier, FailsWhenANewerPolicyTookTheWitnessesAway) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Dossier dossier = world.dossier(open);
  const LeafIndex index = world.follower.find_grant(open.id)->index;
  std::vector<crypto::PrivateKey> fresh;
  ASSERT_THAT(world.change_policy([&](SamplePolicy& policy) {
    for (test::SampleWitness& witness : policy.witnesses) {
      fresh.push_back(crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519));
      witness.key = fresh.back().public_key();
    }
  }),
              Succeeds());
  EXPECT_THAT(verify(world, dossier), Succeeds());  // cosigned when those witnesses were good
  Dossier later = dossier;
  later.proof = world.proof(index, world.cosign());  // by the old ones, over a tree in which they are not
  EXPECT_THAT(verify(world, later), FailsWith(Reason::kLogQuorum));
  world.company.witnesses = fresh;
  later.proof = world.proof(index, world.cosign());
  EXPECT_THAT(verify(world, later), Succeeds());
}

}  // namespace
}  // namespace sallyport::record

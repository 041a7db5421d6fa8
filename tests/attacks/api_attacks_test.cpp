#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "tests/support/broker_access.h"

// Peers that lie to the real broker: without proofs, with another's, with old ones, or at another's work.
namespace sallyport::test {
namespace {

using namespace record;

BrokerProcess::Programs programs() {
  return {SALLYPORT_KEYGUARD_PROGRAM, SALLYPORT_BROKER_PROGRAM, SALLYPORT_WITNESS_PROGRAM};
}

TEST(ApiAttacks, WhoHasProvedNothingGetsNothing) {
  BrokerProcess world{programs()};
  ApiPeer stranger = value_of(ApiPeer::connect(world));
  const std::string id = to_hex(crypto::random_case_id());
  EXPECT_THAT(stranger.get("/v1/follow?from=0"), FailsWith(Reason::kNotAttested));
  EXPECT_THAT(stranger.get("/v1/entries?from=0"), FailsWith(Reason::kDenied));
  EXPECT_THAT(stranger.get("/v1/checkpoints?from=0"), FailsWith(Reason::kDenied));
  EXPECT_THAT(stranger.get("/v1/cases"), FailsWith(Reason::kNotSignedIn));
  EXPECT_THAT(stranger.get("/v1/cases/" + id), FailsWith(Reason::kCaseUnknown));
  EXPECT_THAT(stranger.get("/v1/cases/" + id + "/challenges"), FailsWith(Reason::kNotSignedIn));
  EXPECT_THAT(stranger.get("/v1/blobs/" + to_hex(crypto::sha256(as_bytes("x")))),
              FailsWith(Reason::kNotSignedIn));
  EXPECT_THAT(stranger.activate(CaseId{}, {}), FailsWith(Reason::kNotAttested));
  EXPECT_THAT(stranger.lease(CaseId{}, {Bytes(10, 1), 10, Bytes(32, 1)}), FailsWith(Reason::kNotAttested));
  // Nor does who sends what is no call, or no message.
  for (const char* target : {"/", "/v1", "/v1/hello/", "/v1/cases/xyz", "/v1/follow?from=-1", "/metrics"})
    EXPECT_THAT(stranger.get(target), FailsWith(Code::kMalformed)) << target;
  for (const char* target : {"/v1/attest", "/v1/signin", "/v1/host", "/v1/statements", "/v1/lists"})
    EXPECT_THAT(stranger.post(target, as_bytes("{}")), FailsWith(Code::kMalformed)) << target;
  EXPECT_THAT(stranger.get("/v1/genesis"), Succeeds());  // this proves itself, and names the server's key
}

TEST(ApiAttacks, AProofIsForOneConnectionAndOneTime) {
  BrokerProcess world{programs()};
  Access access{world};
  SoftTpm& laptop = world.company.machine("laptop");
  const crypto::PrivateKey& token = world.company.company.token("erin");
  const std::string erin = SampleCompany::id("erin");
  ApiPeer one = value_of(ApiPeer::connect(world)), two = value_of(ApiPeer::connect(world));

  // Without a nonce; with another's; with the exporter of another connection, as a relay has.
  EXPECT_THAT(one.post("/v1/signin", one.ticket(erin, token, crypto::random_nonce())),
              FailsWith(Reason::kQuoteNonce));
  const api::Hello first = value_of(one.hello()), second = value_of(two.hello());
  const Bytes for_one = one.ticket(erin, token, first.nonce);
  EXPECT_THAT(two.post("/v1/signin", for_one), FailsWith(Reason::kNotSignedIn));
  EXPECT_THAT(two.post("/v1/signin", two.ticket(erin, token, second.nonce)),
              FailsWith(Reason::kQuoteNonce));  // a nonce is used up by one try
  EXPECT_THAT(one.post("/v1/signin", for_one), Succeeds());
  EXPECT_THAT(one.post("/v1/signin", for_one), FailsWith(Reason::kQuoteNonce));

  // A wrong clock is told as that: not that somebody else's ticket was used.
  for (const int ahead : {-400, 400}) {
    const auto late = one.post(
        "/v1/signin", one.ticket(erin, token, value_of(one.hello()).nonce, std::chrono::seconds{ahead}));
    ASSERT_THAT(late, FailsWith(Reason::kStale)) << ahead;
    EXPECT_THAT(late.error().what, testing::HasSubstr("the clocks differ")) << ahead;
  }

  // The same with machines.
  const api::Attest proof = one.machine_proof(laptop, value_of(one.hello()));
  EXPECT_THAT(two.post("/v1/attest", api::encode(proof)), FailsWith(Reason::kQuoteNonce));
  api::Attest borrowed = one.machine_proof(laptop, value_of(two.hello()));  // two's nonce, one's exporter
  EXPECT_THAT(two.post("/v1/attest", api::encode(borrowed)), FailsWith(Reason::kQuoteNonce));
  EXPECT_THAT(one.post("/v1/attest", api::encode(proof)), Succeeds());
  EXPECT_THAT(one.post("/v1/attest", api::encode(proof)), FailsWith(Reason::kQuoteNonce));
}

TEST(ApiAttacks, NobodySpeaksForAnother) {
  BrokerProcess world{programs()};
  Access access{world};
  const crypto::PrivateKey& mona = world.company.company.token("mona");
  ApiPeer peer = value_of(ApiPeer::connect(world));
  EXPECT_THAT(peer.sign_in(SampleCompany::id("erin"), mona), FailsWith(Reason::kUnverified));
  EXPECT_THAT(
      peer.sign_in(SampleCompany::id("mona"), crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256)),
      FailsWith(Reason::kUnverified));
  value_of(peer.sign_in(SampleCompany::id("mona"), mona));

  // Mona has erin's signed request, and a connection of her own.
  world.replay();
  ApiPeer erin = value_of(world.peer("erin"));
  const OpenCase open = world.company.make_request({.note = value_of(erin.head())});
  EXPECT_THAT(peer.submit(open.submission), FailsWith(Reason::kNotSignedIn));
  // Erin herself, but not from the machine that the request names.
  EXPECT_THAT(erin.submit(open.submission), FailsWith(Reason::kNotAttested));
  value_of(erin.attest(world.company.machine("alice-laptop")));
  EXPECT_THAT(erin.submit(open.submission), FailsWith(Reason::kNotAttested));
  value_of(erin.attest(world.company.machine("laptop")));
  EXPECT_EQ(value_of(erin.submit(open.submission)).state, "open");

  // What is not for her eyes is not there.
  ApiPeer judy = value_of(world.peer("judy"));
  EXPECT_THAT(judy.get("/v1/cases/" + to_hex(open.id)), FailsWith(Reason::kCaseUnknown));
  EXPECT_THAT(judy.get("/v1/entries?from=0"), FailsWith(Reason::kDenied));
  // No statement that the broker makes itself is taken from a peer.
  world.replay();
  const Bytes forged = encode_envelope({.type = payload_type(Kind::kRefusal),
                                        .payload = encode(Refusal{.authority = world.company.origin().get(),
                                                                  .case_id = open.id,
                                                                  .code = Reason::kPolicyNoRule,
                                                                  .request = open.digest}),
                                        .signatures = {}});
  EXPECT_THAT(peer.submit({forged, {}}), FailsWith(Code::kMalformed));
  // Nor is a lease that the keyguard did not state, or a host's report from who is no host.
  EXPECT_THAT(peer.submit(world.company.lease(open)), FailsWith(Code::kMalformed));
  EXPECT_THAT(peer.submit(world.company.session_opened(open, 1)), FailsWith(Reason::kDenied));
}

TEST(ApiAttacks, ARefusedAttemptIsInTheLogWithItsReason) {
  BrokerProcess world{programs()};
  Access access{world};
  ApiPeer erin = value_of(world.peer("erin"));
  // From a machine that is not enrolled; then for an account that no rule gives.
  SoftTpm stranger;
  const OpenCase unknown = world.company.make_request({.note = value_of(erin.head()), .tpm = &stranger});
  EXPECT_THAT(erin.submit(unknown.submission), FailsWith(Reason::kDeviceUnknown));
  value_of(erin.attest(world.company.machine("laptop")));
  const OpenCase root = world.company.make_request({.account = "root", .note = value_of(erin.head())});
  EXPECT_THAT(erin.submit(root.submission), FailsWith(Reason::kPolicyAccount));
  world.replay();
  struct Attempt {
    CaseId id;
    Reason recorded, at_activation;
  };
  // The first one's machine is not that of this connection: there is no such case to activate from here.
  for (const auto& [id, reason, at_activation] :
       {Attempt{unknown.id, Reason::kDeviceUnknown, Reason::kCaseUnknown},
        Attempt{root.id, Reason::kPolicyAccount, Reason::kPolicyAccount}}) {
    const Case& one = world.company.state.cases.at(id);
    EXPECT_EQ(one.state, CaseState::kRefused);
    EXPECT_EQ(one.refusable, reason);
    EXPECT_THAT(erin.activate(id, {}), FailsWith(at_activation));
  }
}

TEST(ApiAttacks, AnApprovalIsItsSignersWhoeverCarriesIt) {
  BrokerProcess world{programs()};
  Access access{world};
  const OpenCase open = access.request({});
  world.replay();
  ApiPeer bob = value_of(world.peer("bob")), judy = value_of(world.peer("judy"));
  const Submission approval = world.company.make_approval(open.id, "alice", {.note = value_of(bob.head())});
  // Who has not signed in carries nothing, nor does who may not see the case; a forged one is of nobody.
  ApiPeer stranger = value_of(ApiPeer::connect(world));
  EXPECT_THAT(stranger.submit(approval), FailsWith(Reason::kNotSignedIn));
  EXPECT_THAT(judy.submit(approval), FailsWith(Reason::kCaseUnknown));
  EXPECT_THAT(
      bob.submit(world.company.make_approval(
          open.id, "alice", {.token = &world.company.company.token("bob"), .note = value_of(bob.head())})),
      FailsWith(Reason::kApprovalForeignKey));
  EXPECT_THAT(bob.submit(approval), Succeeds());
  world.replay();
  const Case& one = world.company.state.cases.at(open.id);
  ASSERT_EQ(one.approvals.size(), 1u);
  EXPECT_EQ(one.approvals[0].statement.approver, SampleCompany::id("alice"));
  EXPECT_THAT(bob.submit(world.company.make_approval(open.id, "alice", {.note = value_of(bob.head())})),
              FailsWith(Reason::kApprovalDuplicate));
  // A denial is sent by who denies.
  const Denial denial{.approver = SampleCompany::id("alice"),
                      .authority = world.company.origin().get(),
                      .case_id = open.id,
                      .reason = "no",
                      .time = BrokerProcess::wall_clock()};
  const Bytes signed_by_alice =
      world.company.sign(Kind::kDenial, denial, world.company.company.token("alice"));
  EXPECT_THAT(bob.submit({signed_by_alice, {}}), FailsWith(Reason::kNotSignedIn));
}

// told gives what became of a list in each case: "closed", or why it was refused.
std::map<CaseId, std::string> told(const Result<std::vector<api::Submitted>>& answer) {
  std::map<CaseId, std::string> out;
  for (const api::Submitted& one : value_of(answer)) {
    out[one.case_id] = one.code ? std::string{reason_name(*one.code)} : one.state;
    EXPECT_EQ(one.leaf == 0, one.code.has_value());
  }
  return out;
}

TEST(ApiAttacks, AListIsJudgedInEachOfItsCasesAndSentAgainGoesOn) {
  BrokerProcess world{programs()};
  Access access{world};
  const OpenCase asked = access.request({});
  RecordScenario& company = world.company;
  std::vector<SoftTpm> tpms(3);
  std::vector<CaseId> cases;
  std::vector<Submission> requests;
  for (SoftTpm& tpm : tpms) {
    cases.push_back(crypto::random_case_id());
    requests.push_back(company.enrolment_request(tpm, {}, cases.back()));
  }
  ApiPeer erin = value_of(world.peer("erin")), frank = value_of(world.peer("frank")),
          grace = value_of(world.peer("grace")), alice = value_of(world.peer("alice"));
  for (const std::size_t i : {0U, 1U}) EXPECT_THAT(erin.submit(requests[i]), Succeeds());
  world.replay();

  // The third machine has not asked yet, and an access is in the list: neither stops the others.
  const auto all = [&](ListApproval& list) {
    list.entries.push_back({cases[2], statement_digest(value_of(parse_envelope(requests[2].envelope)))});
    list.entries.push_back({asked.id, company.state.cases.at(asked.id).to_approve});
    std::sort(list.entries.begin(), list.entries.end(),
              [](const ListedCase& a, const ListedCase& b) { return a.case_id < b.case_id; });
  };
  const Bytes franks = company.make_list({cases[0], cases[1]}, "frank", all);

  // Who has not signed in, may not see the cases, or has forged it, has nothing recorded by it.
  ApiPeer stranger = value_of(ApiPeer::connect(world));
  EXPECT_THAT(stranger.submit_list(franks), FailsWith(Reason::kNotSignedIn));
  EXPECT_THAT(frank.submit({franks, {}}), FailsWith(Code::kMalformed));
  const Submission with_evidence{franks, {{EvidenceType::kNote, Bytes(8, 1)}}};
  EXPECT_THAT(frank.post("/v1/lists", encode(with_evidence)), FailsWith(Code::kMalformed));
  EXPECT_THAT(frank.submit_list(company.make_approval(cases[0], "frank", {}).envelope),
              FailsWith(Code::kMalformed));
  for (const auto& [id, what] : told(alice.submit_list(franks)))
    EXPECT_EQ(what, id == asked.id ? "approval/other-decision" : "case/unknown");
  const Bytes forged = company.make_list({cases[0], cases[1]}, "frank", {}, &company.company.token("grace"));
  for (const auto& [id, what] : told(grace.submit_list(forged))) EXPECT_EQ(what, "approval/foreign-key");
  const std::size_t before = company.entries.size();
  world.replay();
  EXPECT_EQ(company.entries.size(), before);

  const auto first = told(frank.submit_list(franks));
  EXPECT_EQ(first.at(cases[0]), "open");
  EXPECT_EQ(first.at(cases[1]), "open");
  EXPECT_EQ(first.at(cases[2]), "case/unknown");
  EXPECT_EQ(first.at(asked.id), "approval/other-decision");
  EXPECT_THAT(erin.submit(requests[2]), Succeeds());
  const auto second = told(frank.submit_list(franks));
  EXPECT_EQ(second.at(cases[2]), "open");
  world.replay();
  EXPECT_EQ(company.entries.size(), before + 4);  // three parts of the list, and the third request

  // The second approver completes the quorum of each; whoever sees the cases may carry the list.
  const Bytes graces = company.make_list(cases, "grace");
  for (const auto& [id, what] : told(frank.submit_list(graces))) EXPECT_EQ(what, "closed") << to_hex(id);
  for (const auto& [id, what] : told(grace.submit_list(graces))) EXPECT_EQ(what, "closed") << to_hex(id);
  EXPECT_EQ(told(frank.submit_list(franks)).at(cases[0]), "closed");
  world.replay();
  EXPECT_EQ(company.entries.size(), before + 4 + 2 * 3);
  for (SoftTpm& tpm : tpms) EXPECT_NE(company.follower.find_device(tpm.device()), nullptr);
  EXPECT_TRUE(company.state.cases.at(asked.id).approvals.empty());
}

TEST(ApiAttacks, WhoWasRefusedThirtyTimesInAnHourWaits) {
  BrokerProcess world{programs()};
  world.replay();
  ApiPeer erin = value_of(world.peer("erin"));
  SoftTpm stranger;
  const auto attempt = [&](ApiPeer& peer, const std::string& person) {
    return peer.submit(
        world.company.make_request({.person = person, .note = value_of(peer.head()), .tpm = &stranger})
            .submission);
  };
  for (int i = 0; i < 30; ++i) EXPECT_THAT(attempt(erin, "erin"), FailsWith(Reason::kDeviceUnknown)) << i;
  // The next one is not recorded, on this connection or on another.
  EXPECT_THAT(attempt(erin, "erin"), FailsWith(Reason::kRateLimited));
  ApiPeer again = value_of(world.peer("erin"));
  EXPECT_THAT(attempt(again, "erin"), FailsWith(Reason::kRateLimited));
  const std::size_t before = world.company.entries.size();
  world.replay();
  EXPECT_EQ(world.company.entries.size(), before + 2 * 30);  // requests and refusals
  // Nobody else waits for it.
  ApiPeer mona = value_of(world.peer("mona"));
  EXPECT_THAT(attempt(mona, "mona"), FailsWith(Reason::kDeviceUnknown));
}

TEST(ApiAttacks, ActivationNeedsTheQuorumAndTheMachine) {
  BrokerProcess world{programs()};
  Access access{world};
  const OpenCase open = access.request({"alice", "dana"});
  EXPECT_THAT(access.activate(open), FailsWith(Reason::kQuorumNotMet));
  access.approve(open, "bob");
  // A machine in another state than it was enrolled in does not even connect.
  SoftTpm& laptop = world.company.machine("laptop");
  const auto pcrs = laptop.pcrs;
  laptop.extend(4, crypto::sha256(as_bytes("another loader")));
  EXPECT_THAT(access.activate(open), FailsWith(Reason::kBootState));
  laptop.pcrs = pcrs;
  EXPECT_THAT(access.activate(open), Succeeds());
}

}  // namespace
}  // namespace sallyport::test

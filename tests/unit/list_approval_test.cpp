// One signature of a person for several machines (list-approval), as broker and followers judge it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
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
using test::SoftTpm;
using test::Succeeds;
using test::value_of;

// Fleet is a company with machines that wait to be enrolled, a case each.
struct Fleet {
  RecordScenario world;
  std::vector<SoftTpm> tpms;
  std::vector<CaseId> cases;

  explicit Fleet(std::size_t machines) {
    for (std::size_t i = 0; i < machines; ++i) {
      tpms.emplace_back();
      cases.push_back(crypto::random_case_id());
      value_of(world.append(
          Kind::kEnrolmentRequested, cases[i],
          world.enrolment_request(tpms[i], {.machine = "laptop-" + std::to_string(i)}, cases[i])));
    }
  }
  // signed_in_all puts a person's list of all cases into each of them.
  Bytes signed_in_all(const std::string& person) {
    Bytes list = world.make_list(cases, person);
    for (const CaseId& id : cases) EXPECT_THAT(world.list_in(id, list), Succeeds());
    return list;
  }
  Result<Entry> compose(std::size_t i) const {
    return compose_enrolment(world.state, cases[i], world.now, crypto::random_nonce());
  }
  Result<LeafIndex> close(std::size_t i) {
    SP_TRY(const Entry closing, compose(i));
    return world.append(closing);
  }
  const Device* device(std::size_t i) const { return world.follower.find_device(tpms[i].device()); }
};

Enrolment enrolment_of(const Entry& entry) {
  return value_of(parse_enrolment(value_of(open_envelope(value_of(parse_body(entry.body)))).payload));
}

// expect_forged has a rooted broker close a case with another statement: what a follower, who sees control
// bodies alone, says of it. An honest broker does not take it either.
Result<PreparedControl> forged(const Fleet& fleet, const Entry& good,
                               const std::function<void(Enrolment&)>& edit) {
  Enrolment statement = enrolment_of(good);
  edit(statement);
  const Bytes envelope = encode_envelope(
      {.type = payload_type(Kind::kEnrolment), .payload = encode(statement), .signatures = {}});
  const Entry entry = fleet.world.entry(Kind::kEnrolment, good.leaf.case_id, {envelope, good.blobs});
  EXPECT_THAT(prepare(fleet.world.state, entry), testing::Not(Succeeds()));
  return prepare_control(fleet.world.follower, entry.leaf, &entry);
}

TEST(ListApproval, EnrolsEachMachineOfTheListInItsOwnCase) {
  Fleet fleet{3};
  const Bytes franks = fleet.signed_in_all("frank");
  EXPECT_THAT(fleet.close(0), FailsWith(Reason::kQuorumNotMet));
  const Bytes graces = fleet.signed_in_all("grace");
  for (std::size_t i = 0; i < 3; ++i) {
    const Entry closing = value_of(fleet.compose(i));
    EXPECT_THAT(enrolment_of(closing).approvals, testing::ElementsAre(franks, graces));
    ASSERT_THAT(fleet.world.append(closing), Succeeds());  // by a follower of control bodies, too
    ASSERT_NE(fleet.device(i), nullptr);
    EXPECT_EQ(fleet.device(i)->name, "laptop-" + std::to_string(i));
    EXPECT_EQ(fleet.world.state.cases.at(fleet.cases[i]).state, CaseState::kClosed);
    EXPECT_EQ(fleet.world.follower.find_case(fleet.cases[i])->approvals.size(), 2u);
  }
  const Bytes encoded = encode_control(fleet.world.follower);
  EXPECT_EQ(encode_control(fleet.world.state.control), encoded);
  EXPECT_EQ(encode_control(value_of(parse_control(encoded))), encoded);
}

TEST(ListApproval, IsOneStatementThatEachCaseHasAtAPlaceOfItsOwn) {
  Fleet fleet{2};
  const Bytes list = fleet.world.make_list(fleet.cases, "frank");
  const Digest256 digest = statement_digest(value_of(parse_envelope(list)));
  EXPECT_FALSE(find_statement(fleet.world.state, fleet.cases[0], digest));
  const LeafIndex first = value_of(fleet.world.list_in(fleet.cases[0], list));
  EXPECT_EQ(find_statement(fleet.world.state, fleet.cases[0], digest), first);
  EXPECT_FALSE(find_statement(fleet.world.state, fleet.cases[1], digest));
  const LeafIndex second = value_of(fleet.world.list_in(fleet.cases[1], list));
  EXPECT_EQ(find_statement(fleet.world.state, fleet.cases[0], digest), first);
  EXPECT_EQ(find_statement(fleet.world.state, fleet.cases[1], digest), second);
  EXPECT_THAT(fleet.world.list_in(fleet.cases[0], list), FailsWith(Reason::kApprovalDuplicate));
}

TEST(ListApproval, GoesWithApprovalsOfOneCase) {
  Fleet fleet{3};
  fleet.signed_in_all("frank");
  ASSERT_THAT(fleet.world.approve(fleet.cases[1], "grace"), Succeeds());
  EXPECT_THAT(fleet.close(0), FailsWith(Reason::kQuorumNotMet));
  EXPECT_THAT(fleet.close(1), Succeeds());
}

TEST(ListApproval, CountsAPersonOnceInACase) {
  Fleet fleet{3};
  // A list after an own approval of one of its cases: the other cases take it.
  ASSERT_THAT(fleet.world.approve(fleet.cases[0], "grace"), Succeeds());
  const Bytes list = fleet.world.make_list(fleet.cases, "grace");
  EXPECT_THAT(fleet.world.list_in(fleet.cases[0], list), FailsWith(Reason::kApprovalDuplicate));
  EXPECT_THAT(fleet.world.list_in(fleet.cases[1], list), Succeeds());
  // An own approval after a list; another list.
  EXPECT_THAT(fleet.world.approve(fleet.cases[1], "grace"), FailsWith(Reason::kApprovalDuplicate));
  EXPECT_THAT(fleet.world.list_in(fleet.cases[1], fleet.world.make_list(fleet.cases, "grace")),
              FailsWith(Reason::kApprovalDuplicate));
  EXPECT_THAT(fleet.close(1), FailsWith(Reason::kQuorumNotMet));
}

TEST(ListApproval, ADeniedCaseOfAListStopsNoOther) {
  Fleet fleet{2};
  fleet.signed_in_all("frank");
  fleet.signed_in_all("grace");
  ASSERT_THAT(fleet.world.deny(fleet.cases[0], "heidi"), Succeeds());
  EXPECT_THAT(fleet.close(0), FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(fleet.close(1), Succeeds());
  const Bytes late = fleet.world.make_list(fleet.cases, "heidi");
  EXPECT_THAT(fleet.world.list_in(fleet.cases[0], late), FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(fleet.world.list_in(fleet.cases[1], late), FailsWith(Reason::kCaseClosed));
}

TEST(ListApproval, ApprovesNothingButMachines) {
  Fleet fleet{1};
  RecordScenario& world = fleet.world;
  const OpenCase access = world.request({});
  const CaseId policy = crypto::random_case_id();
  world.company.policy.version = 2;
  world.company.policy.previous = world.policy().policy.digest;
  ASSERT_THAT(world.append(Kind::kPolicyProposed, policy, world.proposal(policy)), Succeeds());

  const Bytes list = world.make_list({access.id, policy, fleet.cases[0]}, "grace");
  for (const CaseId& id : {access.id, policy}) {
    EXPECT_THAT(world.list_in(id, list), FailsWith(Reason::kApprovalOtherDecision));
    const Entry entry = world.entry(Kind::kListApproval, id, {list, {}});
    EXPECT_THAT(prepare_control(world.follower, entry.leaf, nullptr),
                FailsWith(Reason::kApprovalOtherDecision));
    // Nor under the name of an approval, which has another payload type.
    EXPECT_THAT(world.append(Kind::kApproval, id, {list, {}}), FailsWith(Code::kMalformed));
  }
  EXPECT_THAT(world.list_in(fleet.cases[0], list), Succeeds());

  // A rooted broker puts lists into the closing leaf of a policy: its followers do not count them.
  for (const char* person : {"grace", "heidi", "judy"})
    ASSERT_THAT(world.approve(policy, person), Succeeds());
  const Entry good = value_of(compose_policy(world.state, policy, world.now, crypto::random_nonce()));
  PolicyInForce statement =
      value_of(parse_policy_in_force(value_of(open_envelope(value_of(parse_body(good.body)))).payload));
  statement.approvals[0] = list;
  const Bytes envelope =
      encode_envelope({.type = payload_type(Kind::kPolicy), .payload = encode(statement), .signatures = {}});
  const Entry forged = world.entry(Kind::kPolicy, policy, {envelope, good.blobs});
  EXPECT_THAT(prepare_control(world.follower, forged.leaf, &forged),
              FailsWith(Reason::kApprovalOtherDecision));
  EXPECT_THAT(world.append(good), Succeeds());
}

TEST(ListApproval, ErasesNothing) {
  RecordScenario world{[](test::SampleCompany& company) { company.policy.erase = RecordScenario::kErase; }};
  const OpenCase old = world.granted();
  world.advance(24h * 12);
  const CaseId erasure = value_of(world.propose_erasure({old.id}));
  const Bytes list = world.make_list({erasure}, "grace", [&](ListApproval& one) {
    one.entries.insert(old.id < erasure ? one.entries.begin() : one.entries.end(), {old.id, Digest256{}});
  });
  EXPECT_THAT(world.list_in(erasure, list), FailsWith(Reason::kApprovalOtherDecision));
}

TEST(ListApproval, IsRefusedInACaseThatItDoesNotList) {
  Fleet fleet{3};
  const Bytes two = fleet.world.make_list({fleet.cases[0], fleet.cases[1]}, "frank");
  EXPECT_THAT(fleet.world.list_in(fleet.cases[2], two), FailsWith(Reason::kApprovalOtherDecision));
  EXPECT_THAT(fleet.world.list_in(crypto::random_case_id(), two), FailsWith(Reason::kCaseUnknown));
  EXPECT_THAT(fleet.world.list_in(fleet.cases[0], two), Succeeds());
}

TEST(ListApproval, IsOfTheStatementsAndTheLogThatItNames) {
  Fleet fleet{2};
  const auto with = [&](const std::function<void(ListApproval&)>& edit) {
    return fleet.world.list_in(fleet.cases[0], fleet.world.make_list(fleet.cases, "frank", edit));
  };
  const auto part_of = [&](ListApproval& list) -> ListedCase& {
    return *std::find_if(list.entries.begin(), list.entries.end(),
                         [&](const ListedCase& one) { return one.case_id == fleet.cases[0]; });
  };
  EXPECT_THAT(with([&](ListApproval& list) { part_of(list).decision = Digest256{}; }),
              FailsWith(Reason::kApprovalOtherDecision));
  EXPECT_THAT(
      with([&](ListApproval& list) { std::swap(list.entries[0].decision, list.entries[1].decision); }),
      FailsWith(Reason::kApprovalOtherDecision));
  EXPECT_THAT(with([](ListApproval& list) { list.authority = "cn.sallyport.corp.example/log/1"; }),
              FailsWith(Reason::kApprovalOtherDecision));
  EXPECT_THAT(with([](ListApproval& list) {
                list.time = UnixMillis{list.time.get() - 301'000};
                list.expires = list.time + 1h;
              }),
              FailsWith(Code::kStale));
  EXPECT_THAT(with([](ListApproval& list) { list.entries.pop_back(); }), FailsWith(Code::kMalformed));
  EXPECT_THAT(with([](ListApproval& list) { std::swap(list.entries[0], list.entries[1]); }),
              FailsWith(Code::kMalformed));
  // It has no evidence: nothing that could be taken for an approver's machine.
  const Bytes list = fleet.world.make_list(fleet.cases, "frank");
  EXPECT_THAT(fleet.world.append(Kind::kListApproval, fleet.cases[0],
                                 {list, {{EvidenceType::kNote, to_bytes(as_bytes(fleet.world.cosign()))}}}),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(fleet.world.list_in(fleet.cases[0], list), Succeeds());
}

TEST(ListApproval, IsSignedByALiveTokenOfWhoMayEnrol) {
  Fleet fleet{2};
  const auto by = [&](const std::string& person, const crypto::PrivateKey& key) {
    return fleet.world.list_in(fleet.cases[0], fleet.world.make_list(fleet.cases, person, {}, &key));
  };
  const auto& token = [&](const char* name) -> const crypto::PrivateKey& {
    return fleet.world.company.token(name);
  };
  EXPECT_THAT(by("frank", token("grace")), FailsWith(Reason::kApprovalForeignKey));
  EXPECT_THAT(by("frank", crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256)),
              FailsWith(Reason::kApprovalForeignKey));
  EXPECT_THAT(by("alice", token("alice")), FailsWith(Reason::kApprovalNotEligible));
  ASSERT_THAT(by("frank", token("frank")), Succeeds());
  ASSERT_THAT(by("grace", token("grace")), Succeeds());
  // A token that is revoked before the case is closed counts no more, in whichever case.
  ASSERT_THAT(fleet.world.revoke(RevocationKind::kToken, to_hex(token("grace").public_key().id())),
              Succeeds());
  EXPECT_THAT(fleet.close(0), FailsWith(Reason::kApprovalRevoked));
  const Bytes late = fleet.world.make_list(fleet.cases, "grace");
  EXPECT_THAT(fleet.world.list_in(fleet.cases[1], late), FailsWith(Reason::kApprovalRevoked));
}

TEST(ListApproval, LivesAsLongAsItSaysAndAtMostADay) {
  Fleet fleet{2};
  const auto with = [&](const std::string& person, std::chrono::milliseconds life) {
    return fleet.world.list_in(
        fleet.cases[0], fleet.world.make_list(fleet.cases, person,
                                              [&](ListApproval& list) { list.expires = list.time + life; }));
  };
  EXPECT_THAT(with("frank", 0ms), FailsWith(Reason::kApprovalExpired));
  EXPECT_THAT(with("frank", 24h + 1ms), FailsWith(Reason::kApprovalExpired));
  ASSERT_THAT(with("frank", 10min), Succeeds());
  ASSERT_THAT(with("grace", 24h), Succeeds());
  const Entry in_time = value_of(fleet.compose(0));
  fleet.world.advance(11min);
  EXPECT_THAT(fleet.close(0), FailsWith(Reason::kApprovalExpired));
  // Nor does a follower take the leaf that a rooted broker makes too late.
  const auto late = forged(fleet, in_time, [](Enrolment&) {});
  EXPECT_THAT(late, FailsWith(Reason::kApprovalExpired));
}

TEST(ListApproval, EveryFollowerChecksTheQuorumOfEachMachineAgain) {
  Fleet fleet{3};
  const Bytes franks = fleet.signed_in_all("frank");
  const Bytes graces = fleet.signed_in_all("grace");
  const Entry good = value_of(fleet.compose(0));
  EXPECT_THAT(forged(fleet, good, [](Enrolment& s) { s.approvals.pop_back(); }),
              FailsWith(Reason::kQuorumNotMet));
  EXPECT_THAT(forged(fleet, good, [](Enrolment& s) { s.approvals[1] = s.approvals[0]; }),
              FailsWith(Reason::kApprovalDuplicate));
  const Bytes own =
      fleet.world.sign(Kind::kApproval,
                       Approval{.approver = test::SampleCompany::id("frank"),
                                .authority = fleet.world.origin().get(),
                                .case_id = fleet.cases[0],
                                .decision = fleet.world.state.cases.at(fleet.cases[0]).to_approve,
                                .device = {},
                                .expires = fleet.world.now + 1h,
                                .nonce = crypto::random_nonce(),
                                .time = fleet.world.now},
                       fleet.world.company.token("frank"));
  EXPECT_THAT(forged(fleet, good, [&](Enrolment& s) { s.approvals[1] = own; }),
              FailsWith(Reason::kApprovalDuplicate));
  // A list of others; of this case, but of another statement; changed after it was signed.
  const Bytes of_others = fleet.world.make_list({fleet.cases[1], fleet.cases[2]}, "grace");
  EXPECT_THAT(forged(fleet, good, [&](Enrolment& s) { s.approvals[1] = of_others; }),
              FailsWith(Reason::kApprovalOtherDecision));
  const Bytes of_another = fleet.world.make_list(fleet.cases, "grace", [](ListApproval& list) {
    for (ListedCase& one : list.entries) one.decision = Digest256{};
  });
  EXPECT_THAT(forged(fleet, good, [&](Enrolment& s) { s.approvals[1] = of_another; }),
              FailsWith(Reason::kApprovalOtherDecision));
  const Envelope signed_list = value_of(parse_envelope(of_others));
  const auto resigned = [&](const std::function<void(ListApproval&)>& edit) {
    Envelope changed = signed_list;
    ListApproval list = value_of(parse_list_approval(changed.payload));
    edit(list);
    changed.payload = encode(list);
    return encode_envelope(changed);
  };
  const Bytes smuggled = resigned([&](ListApproval& list) {
    list.entries.push_back({fleet.cases[0], fleet.world.state.cases.at(fleet.cases[0]).to_approve});
    std::sort(list.entries.begin(), list.entries.end(),
              [](const ListedCase& a, const ListedCase& b) { return a.case_id < b.case_id; });
  });
  EXPECT_THAT(forged(fleet, good, [&](Enrolment& s) { s.approvals[1] = smuggled; }),
              FailsWith(Reason::kApprovalForeignKey));
  EXPECT_THAT(forged(fleet, good, [&](Enrolment& s) { s.approvals[1] = s.request; }),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(fleet.world.append(good), Succeeds());
  // The closing leaf of one machine is no other's.
  const Entry second = value_of(fleet.compose(1));
  EXPECT_THAT(forged(fleet, second, [&](Enrolment& s) { s.request = enrolment_of(good).request; }),
              FailsWith(Code::kUnverified));
  EXPECT_THAT(fleet.world.append(second), Succeeds());
}

TEST(ListApproval, OfOneMachineTwiceEnrolsItOnce) {
  Fleet fleet{1};
  fleet.cases.push_back(crypto::random_case_id());
  ASSERT_THAT(
      fleet.world.append(Kind::kEnrolmentRequested, fleet.cases[1],
                         fleet.world.enrolment_request(fleet.tpms[0], {.machine = "again"}, fleet.cases[1])),
      Succeeds());
  fleet.signed_in_all("frank");
  fleet.signed_in_all("grace");
  EXPECT_THAT(fleet.close(0), Succeeds());
  EXPECT_THAT(fleet.close(1), FailsWith(Reason::kDeviceExists));
}

TEST(ListApproval, OfTheMostThereMayBeFitsTheClosingLeaf) {
  Fleet fleet{2};
  const auto fill = [](ListApproval& list) {
    for (std::uint8_t i = 0; list.entries.size() < kMaxListed; ++i)
      list.entries.push_back({CaseId{ByteArray<16>{0, i}}, Digest256{}});
    std::sort(list.entries.begin(), list.entries.end(),
              [](const ListedCase& a, const ListedCase& b) { return a.case_id < b.case_id; });
  };
  for (const char* person : {"frank", "grace"})
    ASSERT_THAT(fleet.world.list_in(fleet.cases[0], fleet.world.make_list(fleet.cases, person, fill)),
                Succeeds());
  EXPECT_THAT(fleet.close(0), Succeeds());
}

}  // namespace
}  // namespace sallyport::record

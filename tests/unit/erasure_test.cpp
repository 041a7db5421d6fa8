// Erasing cases, and holding them: what the fold takes, what a replay takes of a log whose bodies are gone.
#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/covered.h"
#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::test {
namespace {

using namespace record;
using std::chrono::hours;

constexpr hours kDay{24};

void may_erase(SampleCompany& company) {
  company.policy.erase = RecordScenario::kErase;
  company.policy.hold = "us-legal";
}

// Refused is a request that was refused, and that was recorded.
struct Refused {
  CaseId id;
  Reason reason;
};
Refused refused_case(RecordScenario& world, const RecordScenario::RequestStep& step = {}) {
  const OpenCase open = world.make_request(step);
  value_of(world.append(Kind::kRequest, open.id, open.submission));
  const Entry refusal = value_of(compose_refusal(world.state, open.id, world.now, Nonce{}));
  value_of(world.append(refusal));
  const Envelope envelope = value_of(open_envelope(value_of(open_body(refusal))));
  return {open.id, value_of(parse_refusal(envelope.payload)).code};
}
Reason refused(RecordScenario& world, const RecordScenario::RequestStep& step = {}) {
  return refused_case(world, step).reason;
}

// Archive is a company with one case of each outcome, all of them old enough to be erased.
struct Archive {
  RecordScenario world{may_erase};
  CaseId granted = world.granted().id;
  CaseId denied = [this] {
    const CaseId id = world.request({}).id;
    value_of(world.deny(id, "alice"));
    return id;
  }();
  CaseId refused = refused_case(world, {.account = "root"}).id;
  Archive() { world.advance(10 * kDay); }
  std::vector<CaseId> all() const { return {granted, denied, refused}; }
};

std::size_t first_of(const RecordScenario& world, const CaseId& id) {
  const auto at = std::find_if(world.entries.begin(), world.entries.end(),
                               [&](const Entry& one) { return one.leaf.case_id == id; });
  return static_cast<std::size_t>(at - world.entries.begin());
}

// replay folds entries as who reads them from a disk.
Result<State> replay(const RecordScenario& world, const std::vector<Entry>& entries) {
  State state = begin_state(world.origin(), world.genesis);
  for (const Entry& entry : entries) {
    SP_TRY(Prepared prepared, is_erased(entry) ? prepare_erased(state, entry.leaf) : prepare(state, entry));
    commit(state, std::move(prepared));
  }
  return state;
}

// replay_control folds what a follower would be given of them.
Result<ControlState> replay_control(const RecordScenario& world, const std::vector<Entry>& entries) {
  ControlState control = ControlState::begin(world.origin(), world.genesis);
  for (const Entry& entry : entries) {
    const Entry* body = is_control(value_of(parse_kind(entry.leaf.kind))) ? &entry : nullptr;
    SP_TRY(PreparedControl prepared, is_erased(entry) ? prepare_erased(control, entry.leaf)
                                                      : prepare_control(control, entry.leaf, body));
    commit(control, std::move(prepared));
  }
  return control;
}

TEST(Erasure, AQuorumErasesOldCasesAndAReplayWithoutTheirBodiesComesToTheSame) {
  Archive archive;
  value_of(archive.world.erase(archive.all()));
  const auto entries = archive.world.erased_entries(archive.all());
  EXPECT_EQ(std::count_if(entries.begin(), entries.end(), is_erased), 9);
  const State again = value_of(replay(archive.world, entries));
  EXPECT_THAT(check_complete(again.control), Succeeds());
  EXPECT_TRUE(again.control.is_whole());
  EXPECT_EQ(encode_control(again.control), encode_control(archive.world.state.control));
  EXPECT_EQ(again.cases.size(), archive.world.state.cases.size());
}

TEST(Erasure, AMissingBodyThatNoErasureNamesIsFoundAtTheEnd) {
  Archive archive;
  value_of(archive.world.erase({archive.granted, archive.denied}));
  const State again = value_of(replay(archive.world, archive.world.erased_entries(archive.all())));
  const Status complete = check_complete(again.control);
  EXPECT_THAT(complete, FailsWith(Reason::kLogMissingBody));
  EXPECT_NE(complete.error().what.find(to_hex(archive.refused)), std::string::npos);
}

TEST(Erasure, WhoFoldsControlBodiesOnlyFindsTheSameBodiesMissing) {
  Archive archive;
  RecordScenario& world = archive.world;
  value_of(world.erase({archive.granted, archive.denied}));
  const auto of = [&](const std::vector<CaseId>& gone) {
    return value_of(replay_control(world, world.erased_entries(gone)));
  };
  EXPECT_THAT(check_complete(of({archive.granted, archive.denied})), Succeeds());
  const ControlState lacking = of(archive.all());
  EXPECT_THAT(check_complete(lacking), FailsWith(Reason::kLogMissingBody));
  ASSERT_TRUE(lacking.first_unnamed());
  EXPECT_EQ(lacking.first_unnamed()->first, archive.refused);
  EXPECT_EQ(world.entries[lacking.first_unnamed()->second.get()].leaf.case_id, archive.refused);
  EXPECT_EQ(world.entries[lacking.first_unnamed()->second.get()].leaf.predecessor, ledger::kNoPredecessor);
  // What is missing is in no bytes of a state: those are what everybody knows.
  EXPECT_EQ(encode_control(lacking), encode_control(world.follower));
}

TEST(Erasure, ACaseThatWasOpenedLaterThanTheErasureSaysIsNotCovered) {
  Archive archive;
  RecordScenario& world = archive.world;
  value_of(world.erase({archive.granted}));
  const CaseId young = world.granted().id;
  world.advance(4 * kDay);
  value_of(world.erase({young}));  // nobody who folds remembers when it was opened: `before` says
  const State again = value_of(replay(world, world.erased_entries({archive.granted, young})));
  EXPECT_THAT(check_complete(again.control), FailsWith(Reason::kLogMissingBody));
  EXPECT_THAT(check_complete(value_of(replay(world, world.erased_entries({archive.granted}))).control),
              Succeeds());
}

TEST(CoveredLeaves, AreThoseOfACaseFromItsRequestToTheFirstErasureThatCoversIt) {
  Archive archive;
  RecordScenario& world = archive.world;
  const LeafIndex first = value_of(world.erase({archive.granted}));
  value_of(world.revoke(RevocationKind::kPerson, "mallory"));
  const OpenCase again = world.request({.case_id = archive.granted});  // the id opens another case
  value_of(world.deny(again.id, "alice"));
  const CaseId fresh = world.granted().id;
  world.advance(8 * kDay);
  const UnixMillis opened = world.entries[first_of(world, fresh)].leaf.time;
  const auto only_older = [&](ErasureProposed& one) { one.before = opened; };
  const LeafIndex second = value_of(world.erase({archive.refused, archive.granted, fresh}, only_older));
  const auto what_of = [&](LeafIndex index) {
    return value_of(parse_erased(value_of(open_statement(value_of(open_body(world.entries[index.get()]))))));
  };
  const ErasureProposed what_first = what_of(first), what_second = what_of(second);
  CoveredLeaves covered;
  covered.add(first, what_first);
  covered.add(second, what_second);
  EXPECT_EQ(covered.end().get(), second.get());
  std::size_t by_first = 0, by_second = 0;
  for (std::uint64_t i = 0; i < world.entries.size(); ++i) {
    const ledger::Leaf& leaf = world.entries[i].leaf;
    const bool again_opened = leaf.case_id == archive.granted && i > first.get();
    const auto expected = leaf.case_id == archive.granted && !again_opened  ? std::optional<std::size_t>{0}
                          : leaf.case_id == archive.refused || again_opened ? std::optional<std::size_t>{1}
                                                                            : std::nullopt;
    EXPECT_EQ(covered.next(leaf), expected) << i;
    by_first += expected == 0u;
    by_second += expected == 1u;
  }
  EXPECT_EQ(by_first, 5u);
  EXPECT_EQ(by_second, 4u);
}

TEST(Erasure, OnlyAccessCasesAreErasedAndOnlyWhole) {
  Archive archive;
  RecordScenario& world = archive.world;
  const CaseId revocation =
      world.entries[value_of(world.revoke(RevocationKind::kPerson, "mallory")).get()].leaf.case_id;
  world.advance(10 * kDay);
  value_of(world.erase({archive.granted, revocation, world.entries[0].leaf.case_id}));
  EXPECT_THAT(replay(world, world.erased_entries({revocation})), FailsWith(Reason::kLogMissingBody));
  EXPECT_THAT(replay(world, world.erased_entries({world.entries[0].leaf.case_id})),
              FailsWith(Reason::kLogMissingBody));
  // One body kept, or one missing, of a case: neither is a case that was erased.
  for (std::size_t i = 0; i < world.entries.size(); ++i) {
    if (world.entries[i].leaf.case_id != archive.granted) continue;
    auto all_but_one = world.erased_entries({archive.granted});
    all_but_one[i] = world.entries[i];
    const auto replayed = replay(world, all_but_one);
    EXPECT_TRUE(!replayed.has_value() || i == 0 || !check_complete(replayed->control).has_value()) << i;
    if (world.entries[i].leaf.predecessor == ledger::kNoPredecessor) continue;
    auto one = world.entries;
    one[i] = Entry{.leaf = one[i].leaf, .nonce = {}, .body = {}, .blobs = {}};
    EXPECT_THAT(replay(world, one), FailsWith(Reason::kLogMissingBody)) << i;
  }
}

TEST(Erasure, NeitherBrokerNorFollowerTakesANewLeafWithoutItsBody) {
  Archive archive;
  RecordScenario& world = archive.world;
  const OpenCase open = world.make_request({});
  Entry entry = world.entry(Kind::kRequest, open.id, open.submission);
  entry.body.clear();
  EXPECT_THAT(prepare(world.state, entry), FailsWith(Reason::kLogBody));
  const OpenCase granted = world.request({});
  world.approve_all(granted);
  Entry grant = value_of(world.make_grant(granted, {}));
  grant.body.clear();
  EXPECT_FALSE(prepare_control(world.follower, grant.leaf, &grant).has_value());
  EXPECT_THAT(prepare_control(world.follower, grant.leaf, nullptr), FailsWith(Reason::kLogMissingBody));
}

TEST(Erasure, ItTakesTheQuorumOfThePolicyAndTheRetention) {
  Archive archive;
  RecordScenario& world = archive.world;
  EXPECT_THAT(world.erase({archive.granted}, {}, {"grace", "heidi"}), FailsWith(Reason::kQuorumNotMet));
  EXPECT_THAT(world.erase({archive.granted}, {}, {"grace", "carol"}), FailsWith(Reason::kQuorumNotMet));
  EXPECT_THAT(world.erase({archive.granted},
                          [](ErasureProposed& one) { one.before = one.before + milliseconds{20}; }),
              FailsWith(Reason::kErasureNotDue));
  const CaseId fresh = world.request({}).id;
  EXPECT_THAT(world.erase({archive.granted, fresh}), FailsWith(Reason::kErasureNotDue));
  value_of(world.erase({archive.granted}));
}

TEST(Erasure, ARootedBrokerErasesNothingWithoutTheQuorum) {
  Archive archive;
  RecordScenario& world = archive.world;
  const CaseId id = value_of(world.propose_erasure({archive.granted}));
  value_of(world.approve(id, "grace"));
  value_of(world.approve(id, "heidi"));
  world.broker_is_rooted = true;
  const auto forge = [&](const std::function<void(Erasure&)>& edit) {
    Erasure forged{.approvals = {}, .authority = world.company.policy.origin, .case_id = id, .proposal = {}};
    for (const Entry& entry : world.entries) {
      if (entry.leaf.case_id != id) continue;
      const Body body = value_of(open_body(entry));
      if (body.kind == Kind::kErasureProposed) forged.proposal = body.envelope;
      if (body.kind == Kind::kApproval) forged.approvals.push_back(body.envelope);
    }
    edit(forged);
    return make_entry(Kind::kErasure, world.now + milliseconds{10}, id, predecessor_of(world.follower, id),
                      encode_envelope({payload_type(Kind::kErasure), encode(forged), {}}), {}, Nonce{});
  };
  EXPECT_THAT(world.append(forge([](Erasure&) {})), FailsWith(Reason::kQuorumNotMet));
  EXPECT_FALSE(
      world.append(forge([](Erasure& one) { one.approvals.push_back(one.approvals[0]); })).has_value());
  EXPECT_FALSE(world
                   .append(forge([&](Erasure& one) {
                     one.proposal = world.erasure_proposal(id, {archive.denied}).envelope;
                   }))
                   .has_value());
}

TEST(Erasure, WithoutTheRightInThePolicyNobodyErasesOrHolds) {
  RecordScenario world{[](SampleCompany& company) { may_erase(company); }};
  const CaseId old = world.granted().id;
  world.advance(10 * kDay);
  const CaseId id = value_of(world.propose_erasure({old}));
  for (const char* person : {"grace", "heidi", "carol"}) value_of(world.approve(id, person));
  value_of(world.change_policy([](SamplePolicy& policy) { policy.erase.clear(), policy.hold.clear(); }));
  EXPECT_THAT(compose_erasure(world.state, id, world.now, Nonce{}), FailsWith(Reason::kErasureOff));
  EXPECT_THAT(quorum_progress(world.state, id, world.now), FailsWith(Reason::kErasureOff));
  EXPECT_THAT(world.hold({old}), FailsWith(Reason::kPolicyGroup));
}

TEST(Hold, KeepsCasesUntilItIsLifted) {
  Archive archive;
  RecordScenario& world = archive.world;
  EXPECT_THAT(world.hold({archive.granted}, "alice"), FailsWith(Reason::kPolicyGroup));
  const CaseId proposed = value_of(world.propose_erasure({archive.granted}));
  for (const char* person : {"grace", "heidi", "carol"}) value_of(world.approve(proposed, person));
  const CaseId hold = world.entries[value_of(world.hold({archive.granted})).get()].leaf.case_id;
  EXPECT_TRUE(world.follower.is_held(archive.granted));
  EXPECT_FALSE(world.follower.is_held(archive.denied));
  EXPECT_THAT(compose_erasure(world.state, proposed, world.now, Nonce{}), FailsWith(Reason::kErasureHeld));
  EXPECT_THAT(world.erase({archive.granted, archive.denied}), FailsWith(Reason::kErasureHeld));
  value_of(world.erase({archive.denied}));
  EXPECT_THAT(world.lift(archive.denied), FailsWith(Reason::kHoldUnknown));
  EXPECT_THAT(world.lift(hold, "grace"), FailsWith(Reason::kPolicyGroup));
  value_of(world.lift(hold));
  EXPECT_FALSE(world.follower.is_held(archive.granted));
  value_of(world.append(value_of(compose_erasure(world.state, proposed, world.now, Nonce{}))));
}

TEST(Hold, OfNothingNamedIsOfEverything) {
  Archive archive;
  value_of(archive.world.hold({}));
  EXPECT_THAT(archive.world.erase({archive.refused}), FailsWith(Reason::kErasureHeld));
}

TEST(Hold, IsInTheBytesOfAState) {
  Archive archive;
  RecordScenario& world = archive.world;
  value_of(world.hold({archive.granted, archive.denied}));
  value_of(world.hold({}));
  const Bytes bytes = encode_control(world.follower);
  const ControlState back = value_of(parse_control(bytes));
  EXPECT_EQ(encode_control(back), bytes);
  EXPECT_EQ(back.holds(), world.follower.holds());
  EXPECT_EQ(back.holds().size(), 2u);
  for (std::size_t cut = bytes.size() - 60; cut < bytes.size(); ++cut)
    EXPECT_FALSE(parse_control(ByteView{bytes}.first(cut)).has_value() && cut != bytes.size()) << cut;
}

TEST(Erasure, SnapshotsOfTheTimeAreTakenAndNewOnesWaitForAWholeState) {
  RecordScenario world{may_erase};
  const CaseId old = world.granted().id;
  const auto snap = [&] {
    return world.append(
        value_of(compose_snapshot(world.state.control, world.now + milliseconds{10}, Nonce{})));
  };
  value_of(snap());
  world.advance(kDay);
  const CaseId later = world.granted().id;
  value_of(snap());
  world.advance(10 * kDay);
  value_of(world.erase({old}));
  value_of(snap());
  const auto entries = world.erased_entries({old});
  const State again = value_of(replay(world, entries));
  EXPECT_THAT(check_complete(again.control), Succeeds());
  EXPECT_EQ(encode_control(again.control), encode_control(world.state.control));

  State halfway = begin_state(world.origin(), world.genesis);
  for (const Entry& entry : entries) {
    if (entry.leaf.case_id == later) break;
    commit(halfway,
           value_of(is_erased(entry) ? prepare_erased(halfway, entry.leaf) : prepare(halfway, entry)));
  }
  EXPECT_FALSE(halfway.control.is_whole());
  EXPECT_THAT(compose_snapshot(halfway.control, world.now, Nonce{}), FailsWith(Reason::kLogSnapshot));
}

TEST(Erasure, AnIdThatWasUsedAgainIsAnotherCase) {
  Archive archive;
  RecordScenario& world = archive.world;
  // Forgotten by everybody; a replay that does not know when its grant ended must not think otherwise.
  value_of(world.revoke(RevocationKind::kPerson, "mallory"));  // time is what leaves say
  const OpenCase again = world.request({.case_id = archive.granted});
  value_of(world.deny(again.id, "alice"));
  world.advance(10 * kDay);
  value_of(world.erase({archive.granted}));
  EXPECT_THAT(check_complete(value_of(replay(world, world.erased_entries({archive.granted}))).control),
              Succeeds());
}

// replay_without erases the cases, and folds what is left of the log. From the erasure on, it knows of boots
// what everybody does.
State replay_without(RecordScenario& world, const std::vector<CaseId>& cases) {
  world.advance(10 * kDay);
  value_of(world.erase(cases));
  State again = value_of(replay(world, world.erased_entries(cases)));
  EXPECT_THAT(check_complete(again.control), Succeeds());
  EXPECT_EQ(again.boots, world.state.boots);
  return again;
}

constexpr std::chrono::milliseconds kLate{evidence::kLateMs};

TEST(Erasure, ARefusalForALaterBootHoldsWhenThatBootWasErased) {
  RecordScenario world{may_erase};
  SoftTpm& tpm = world.machine("laptop");
  tpm.clock.reset_count += 1;
  const CaseId later_boot = world.request({}).id;
  world.advance(kLate);
  tpm.clock.reset_count -= 1;
  EXPECT_EQ(refused(world), Reason::kBootWentBack);
  tpm.clock.reset_count += 5;
  EXPECT_EQ(refused(world), Reason::kDeviceStopped);
  // It is taken at its word, and so is what follows: the machine is stopped.
  State again = replay_without(world, {later_boot});
  EXPECT_TRUE(again.stopped.contains(tpm.device()));
  world.state = std::move(again);
  EXPECT_EQ(refused(world), Reason::kDeviceStopped);
}

// What was wrong with a request's boot was found before all else that was wrong with it, and is not found any
// more: what else there is does not matter.
TEST(Erasure, ARefusalForALaterBootHoldsWhateverElseWasWrong) {
  for (const bool late : {false, true}) {
    RecordScenario world{may_erase};
    SoftTpm& tpm = world.machine("laptop");
    tpm.clock.reset_count += 1;
    const CaseId later_boot = world.request({}).id;
    if (!late) world.advance(kLate);
    tpm.clock.reset_count -= 1;
    tpm.extend(4, crypto::sha256(as_bytes("another boot loader")));
    EXPECT_EQ(refused(world, {.account = "root"}), late ? Reason::kBootCounters : Reason::kBootWentBack);
    const State again = replay_without(world, {later_boot});
    EXPECT_EQ(again.stopped.contains(tpm.device()), !late);
    EXPECT_EQ(again.stopped, world.state.stopped);
  }
}

TEST(Erasure, ARefusalForTheClockHoldsWhenWhatItWasHeldAgainstWasErased) {
  for (const char* account : {"", "root"}) {
    RecordScenario world{may_erase};
    SoftTpm& tpm = world.machine("laptop");
    const CaseId before = world.request({}).id;
    world.advance(std::chrono::minutes{20});
    tpm.clock.clock_ms -= 180'000;
    EXPECT_EQ(refused(world, {.account = account}), Reason::kClockRate);
    // What was refused is no proof, once that is known: the next request is good.
    tpm.clock.clock_ms += 180'000;
    world.advance(std::chrono::minutes{11});
    EXPECT_EQ(world.state.cases.at(world.request({}).id).state, CaseState::kOpen);
    replay_without(world, {before});
  }
}

TEST(Erasure, WhatIsForgottenOfAMachineEverybodyForgets) {
  // Who folded all of it, and who has only what is left, take the same from then on.
  RecordScenario world{may_erase};
  SoftTpm& tpm = world.machine("laptop");
  tpm.clock.reset_count += 5;
  const CaseId before = world.request({}).id;
  State again = replay_without(world, {before});
  EXPECT_FALSE(world.state.boots.contains(tpm.device()));
  tpm.clock.reset_count -= 5;
  const OpenCase open = world.request({});
  const Entry& entry = world.entries.back();
  commit(again, value_of(prepare(again, entry)));
  EXPECT_EQ(again.cases.at(open.id).state, world.state.cases.at(open.id).state);
  EXPECT_EQ(again.boots, world.state.boots);
}

TEST(Erasure, AStoppedMachineThatIsRetiredIsRefusedForThat) {
  RecordScenario world{may_erase};
  SoftTpm& tpm = world.machine("laptop");
  tpm.clock.reset_count -= 1;
  const Refused stopping = refused_case(world);
  EXPECT_EQ(stopping.reason, Reason::kBootWentBack);
  ASSERT_THAT(world.revoke(RevocationKind::kRetired, to_hex(tpm.device())), Succeeds());
  EXPECT_EQ(refused(world), Reason::kDeviceRevoked);
  replay_without(world, {stopping.id});
}

TEST(Erasure, SparesTheCaseThatStoppedAMachineUntilThatOneIsEnrolledAgainOrOut) {
  for (const bool retires : {false, true}) {
    RecordScenario world{may_erase};
    SoftTpm& tpm = world.machine("laptop");
    tpm.clock.reset_count -= 1;
    const Refused stopping = refused_case(world);
    EXPECT_EQ(stopping.reason, Reason::kBootWentBack);
    tpm.clock.reset_count += 5;
    EXPECT_EQ(refused(world), Reason::kDeviceStopped);
    world.advance(10 * kDay);
    EXPECT_THAT(world.erase({stopping.id}), FailsWith(Reason::kErasureHeld));
    if (retires)
      ASSERT_THAT(world.revoke(RevocationKind::kRetired, to_hex(tpm.device())), Succeeds());
    else
      ASSERT_THAT(world.enrol(tpm, {.machine = "laptop"}), Succeeds());
    ASSERT_THAT(world.erase({stopping.id}), Succeeds());
    const State again = value_of(replay(world, world.erased_entries({stopping.id})));
    EXPECT_THAT(check_complete(again.control), Succeeds());
    EXPECT_EQ(again.stopped.contains(tpm.device()), retires);
  }
}

}  // namespace
}  // namespace sallyport::test

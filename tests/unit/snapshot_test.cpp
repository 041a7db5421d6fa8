#include "attestation/record/snapshot.h"

#include <cstdlib>
#include <fstream>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/times.h"
#include "tests/support/files.h"
#include "tests/support/joining.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::test {
namespace {

using namespace record;

const std::filesystem::path kVectors = "tests/vectors/record";

// busy does everything once that leaves something in a ControlState.
void busy(RecordScenario& company) {
  company.granted();
  const OpenCase denied = company.request({.person = "erin"});
  value_of(company.deny(denied.id, "alice"));
  const OpenCase waiting = company.request({.person = "erin"});
  value_of(company.approve(waiting.id, "alice"));
  company.machine("tower", "cn");
  const OpenCase revoked = company.request({.person = "erin"});
  value_of(company.revoke(RevocationKind::kCase, to_hex(revoked.id)));
  value_of(company.revoke(RevocationKind::kDevice, to_hex(company.machine("tower", "cn").device())));
  value_of(company.revoke(RevocationKind::kRetired, to_hex(company.machine("pooled").device())));
  value_of(company.revoke(RevocationKind::kRetired, to_hex(company.machine("back").device())));
  value_of(company.enrol(company.machine("back"), {.machine = "back"}));
  value_of(company.revoke(RevocationKind::kLost, to_hex(company.machine("stolen").device())));
  value_of(company.revoke(RevocationKind::kPerson, "mallory"));
  value_of(company.revoke(RevocationKind::kToken, to_hex(crypto::sha256(as_bytes("a lost token")))));
  value_of(company.change_policy([](SamplePolicy&) {}));
}

Entry snapshot_of(const RecordScenario& company) {
  return value_of(compose_snapshot(company.follower, company.now + std::chrono::milliseconds{10}, Nonce{}));
}

ControlState again(const ControlState& state) {
  const Bytes bytes = encode_control(state);
  ControlState out = value_of(parse_control(bytes));
  EXPECT_EQ(encode_control(out), bytes);
  return out;
}

TEST(ControlBytes, AStateComesBackWithAllThatIsInIt) {
  RecordScenario company;
  busy(company);
  value_of(company.append(snapshot_of(company)));
  const ControlState& state = company.follower;
  const ControlState back = again(state);
  EXPECT_EQ(back.origin(), state.origin());
  EXPECT_EQ(back.size(), state.size());
  EXPECT_EQ(back.root(), company.tree.root());
  EXPECT_EQ(back.last_time(), state.last_time());
  EXPECT_EQ(back.policy()->policy.digest, state.policy()->policy.digest);
  EXPECT_EQ(back.policy()->policy.version, 2u);
  EXPECT_EQ(back.policy()->first_index, state.policy()->first_index);
  EXPECT_EQ(back.policy_at(LeafIndex{1})->policy.version, 1u);
  EXPECT_EQ(back.policy()->tpm_roots, state.policy()->tpm_roots);
  ASSERT_EQ(back.devices().size(), state.devices().size());
  for (const Device& device : state.devices()) {
    const Device* same = back.find_device_by_ak(device.ak);
    ASSERT_NE(same, nullptr);
    EXPECT_EQ(same->id, device.id);
    EXPECT_EQ(same->name, device.name);
    EXPECT_EQ(same->region, device.region);
    EXPECT_EQ(same->baseline, device.baseline);
    EXPECT_EQ(same->clock, device.clock);
    EXPECT_EQ(same->enrolled, device.enrolled);
    EXPECT_EQ(back.is_revoked(device.id), state.is_revoked(device.id));
  }
  EXPECT_TRUE(back.is_revoked(company.machine("tower", "cn").device()));
  EXPECT_TRUE(back.is_revoked_person("mallory"));
  EXPECT_TRUE(back.is_revoked_token(KeyId{crypto::sha256(as_bytes("a lost token"))}));
  for (const Entry& entry : company.entries) {
    const CaseTrace *mine = state.find_case(entry.leaf.case_id), *theirs = back.find_case(entry.leaf.case_id);
    ASSERT_NE(mine, nullptr);
    ASSERT_NE(theirs, nullptr);
    EXPECT_EQ(mine->last, theirs->last);
    EXPECT_EQ(mine->approvals, theirs->approvals);
    EXPECT_EQ(back.is_denied(entry.leaf.case_id), state.is_denied(entry.leaf.case_id));
    EXPECT_EQ(back.find_grant(entry.leaf.case_id).has_value(), mine->grant.has_value());
  }
  ASSERT_TRUE(back.newest_snapshot());
  EXPECT_EQ(back.newest_snapshot()->index, company.last_index());
}

TEST(ControlBytes, TheEmptyStateHasBytesToo) {
  const ControlState empty = ControlState::begin(Origin{"log.example/sallyport"}, Digest256{});
  EXPECT_EQ(again(empty).size().get(), 0u);
}

// What is left out of the bytes is made again: with equal leaves both go on equally, and forget at once.
TEST(ControlBytes, AParsedStateGoesOnAsTheFoldedOne) {
  RecordScenario company;
  busy(company);
  ControlState joined = again(company.follower);
  const auto follow = [&] {
    for (std::size_t at = joined.size().get(); at < company.entries.size(); ++at) {
      const Entry& entry = company.entries[at];
      const bool control = is_control(value_of(parse_kind(entry.leaf.kind)));
      commit(joined, value_of(prepare_control(joined, entry.leaf, control ? &entry : nullptr)));
    }
    EXPECT_EQ(encode_control(joined), encode_control(company.follower));
  };
  const std::size_t before = company.follower.size().get();
  company.granted();
  follow();
  for (int i = 0; i < 16; ++i) {  // cases of 49 h, a grant's, revocations of 120 h, are forgotten on the way
    company.advance(std::chrono::hours{12});
    const OpenCase open = company.granted({.duration_s = 300});
    if (i == 3) value_of(company.revoke(RevocationKind::kCase, to_hex(open.id)));
    if (i == 5) value_of(company.revoke(RevocationKind::kCase, to_hex(open.id)));
    follow();
  }
  EXPECT_EQ(company.follower.find_case(company.entries[before].leaf.case_id), nullptr);
}

TEST(ControlBytes, OfOneStateThereIsOneByteString) {
  RecordScenario company;
  busy(company);
  const Bytes bytes = encode_control(company.follower);
  for (const std::size_t cut : {std::size_t{0}, std::size_t{7}, bytes.size() / 2, bytes.size() - 1})
    EXPECT_THAT(parse_control(ByteView{bytes}.first(cut)), FailsWith(Code::kMalformed)) << cut;
  Bytes more = bytes;
  more.push_back(0);
  EXPECT_THAT(parse_control(more), FailsWith(Code::kMalformed));
  // A bit that is another: refused, or another state with these very bytes. Fewer of the policy's text, where
  // each costs the most.
  std::size_t refused = 0;
  const auto step = [&](std::size_t at) { return at < 128 ? 3 : at + 4000 < bytes.size() ? 997 : 23; };
  for (std::size_t at = 0; at < bytes.size(); at += step(at)) {
    Bytes other = bytes;
    other[at] ^= static_cast<std::uint8_t>(1u << (at % 8));
    const auto parsed = parse_control(other);
    if (parsed.has_value())
      EXPECT_EQ(encode_control(*parsed), other) << at;
    else
      ++refused;
  }
  EXPECT_GT(refused, 50u);
  EXPECT_FALSE(parse_control(Bytes(kMaxControlBytes + 1, 0)).has_value());
}

// The parts are found by their bytes, to be swapped.
TEST(ControlBytes, RefusesAnotherOrderAndWhatIsThereTwice) {
  RecordScenario company;
  company.machine("laptop");
  for (const char* person : {"bob-of-old", "eve-of-old"})
    value_of(company.revoke(RevocationKind::kPerson, person));
  const Bytes bytes = encode_control(company.follower);
  const auto swapped = [&](std::string_view from, std::string_view to) {
    std::string text{as_text(bytes)};
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos);
    text.replace(at, to.size(), to);
    return to_bytes(as_bytes(text));
  };
  EXPECT_TRUE(parse_control(bytes).has_value());
  EXPECT_TRUE(parse_control(swapped("bob-of-old", "dan-of-old")).has_value());
  EXPECT_THAT(parse_control(swapped("bob-of-old", "zoe-of-old")), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_control(swapped("bob-of-old", "eve-of-old")), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_control(swapped("spstate1", "spstate2")), FailsWith(Code::kMalformed));
}

TEST(ControlBytes, RootsThatDoNotChangeAreThereOnce) {
  RecordScenario company;
  company.machine("laptop");
  const Bytes& roots = company.policy().tpm_roots;
  const auto count = [&](const Bytes& bytes) {
    const std::string_view text = as_text(bytes);
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(as_text(roots), at)) != std::string_view::npos; ++at) ++found;
    return found;
  };
  value_of(company.change_policy([](SamplePolicy&) {}));
  value_of(company.change_policy([](SamplePolicy&) {}));
  EXPECT_EQ(again(company.follower).policy()->policy.version, 3u);
  EXPECT_EQ(count(encode_control(company.follower)), 1u);
}

// Frozen: written once by WriteOnce; another digest means another format, and with it another magic.
TEST(ControlBytes, AreFrozen) {
  const Bytes bytes = read_file(kVectors / "control.state");
  EXPECT_EQ(to_hex(crypto::sha256(bytes)) + "\n",
            std::string{as_text(read_file(kVectors / "control.state.sha256"))});
  const ControlState state = value_of(parse_control(bytes));
  EXPECT_EQ(encode_control(state), bytes);
  EXPECT_EQ(state.policy()->policy.version, 2u);
  EXPECT_EQ(state.devices().size(), 5u);
  EXPECT_TRUE(state.is_revoked_person("mallory"));
  ASSERT_TRUE(state.newest_snapshot());
  EXPECT_EQ(state.newest_snapshot()->index.get() + 1, state.size().get());
}

// The corpus of control_fuzz has states with each of the parts that not every state has.
TEST(ControlBytes, WhatHasBecomeOfMachinesIsReadOrRefused) {
  const auto seed = [](const char* name) {
    return parse_control(read_file(std::filesystem::path{"tests/fuzz/control_corpus"} / name));
  };
  const auto count = [](const ControlState& state, auto is) {
    const std::vector<Device> devices = state.devices();
    return std::count_if(devices.begin(), devices.end(), is);
  };
  const ControlState retired = value_of(seed("retired")), lost = value_of(seed("lost")),
                     none_retired = value_of(seed("lost_none_retired"));
  for (const ControlState* state : {&retired, &lost, &none_retired}) {
    const auto known = [](const Device& one) { return one.identity && one.tpm_maker == "SYPT"; };
    EXPECT_EQ(count(*state, known), static_cast<long>(state->devices().size()));
    EXPECT_GE(count(*state, [](const Device& one) { return one.baseline.selection.contains(8); }), 1);
  }
  const auto is_retired = [](const ControlState& state) {
    return [&state](const Device& one) { return state.find_retired(one.id).has_value(); };
  };
  const auto is_lost = [](const ControlState& state) {
    return [&state](const Device& one) { return state.find_lost(one.id).has_value(); };
  };
  EXPECT_EQ(count(retired, is_retired(retired)), 1);
  EXPECT_EQ(count(retired, is_lost(retired)), 0);
  EXPECT_EQ(count(lost, is_retired(lost)), 1);
  EXPECT_EQ(count(lost, is_lost(lost)), 1);
  EXPECT_EQ(count(none_retired, is_retired(none_retired)), 0);
  EXPECT_EQ(count(none_retired, is_lost(none_retired)), 1);
  for (const char* bad : {"lost_cut", "lost_more", "lost_not_revoked", "maker_of_no_letters"})
    EXPECT_THAT(seed(bad), FailsWith(Code::kMalformed)) << bad;
}

TEST(ControlBytes, DISABLED_WriteOnce) {
  if (std::filesystem::exists(kVectors / "control.state")) return;
  RecordScenario company;
  busy(company);
  value_of(company.append(snapshot_of(company)));
  const Bytes bytes = encode_control(company.follower);
  std::ofstream{kVectors / "control.state", std::ios::binary} << as_text(bytes);
  std::ofstream{kVectors / "control.state.sha256"} << to_hex(crypto::sha256(bytes)) << "\n";
}

// ---- the leaf

TEST(SnapshotLeaf, IsAcceptedByWhoComputesTheSameAndChangesNothingElse) {
  RecordScenario company;
  company.granted();
  const Digest256 before = crypto::sha256(encode_control(company.follower));
  const Entry entry = snapshot_of(company);
  value_of(company.append(entry));  // the broker's fold and the follower's
  const Snapshot statement =
      value_of(parse_snapshot(value_of(open_envelope(value_of(open_body(entry)))).payload));
  EXPECT_EQ(statement.state, before);
  EXPECT_EQ(statement.size, company.last_index().get());
  EXPECT_TRUE(company.follower.find_case(entry.leaf.case_id)->closed);
  company.granted();
}

TEST(SnapshotLeaf, OfAnotherStateIsRefusedByBrokerAndFollower) {
  RecordScenario company;
  company.granted();
  const auto forged = [&](const std::function<void(Snapshot&)>& edit) {
    Snapshot statement =
        value_of(parse_snapshot(value_of(open_envelope(value_of(open_body(snapshot_of(company))))).payload));
    edit(statement);
    return make_entry(Kind::kSnapshot, company.now + std::chrono::milliseconds{10}, statement.case_id,
                      ledger::kNoPredecessor,
                      encode_envelope({payload_type(Kind::kSnapshot), encode(statement), {}}), {}, Nonce{});
  };
  const auto own_case = [&](Snapshot& s) { s.case_id = snapshot_case(company.origin(), s.size, s.state); };
  const auto other_state = forged([&](Snapshot& s) {
    s.state = crypto::sha256(as_bytes("a state with one machine more"));
    own_case(s);
  });
  const auto other_size = forged([&](Snapshot& s) {
    --s.size;
    own_case(s);
  });
  const auto other_case = forged([](Snapshot& s) { s.case_id = CaseId{ByteArray<16>{1}}; });
  for (const bool rooted : {false, true}) {
    company.broker_is_rooted = rooted;
    for (const Entry& entry : {other_state, other_size, other_case})
      EXPECT_THAT(company.append(entry), FailsWith(Reason::kLogSnapshot));
  }
  const auto other_log = forged([](Snapshot& s) { s.authority = "cn.sallyport.corp.example/log/1"; });
  EXPECT_FALSE(company.append(other_log).has_value());
}

TEST(SnapshotLeaf, CannotFloodTheLog) {
  RecordScenario company;
  value_of(company.append(snapshot_of(company)));
  EXPECT_THAT(compose_snapshot(company.follower, company.now + kSnapshotGap, Nonce{}),
              FailsWith(Code::kConflict));  // nothing has happened since
  company.granted();
  EXPECT_THAT(compose_snapshot(company.follower, company.now, Nonce{}), FailsWith(Reason::kRateLimited));
  // A broker that composes one all the same.
  const Digest256 state = crypto::sha256(encode_control(company.follower));
  const std::uint64_t size = company.follower.size().get();
  const Snapshot statement{.authority = company.origin().get(),
                           .case_id = snapshot_case(company.origin(), size, state),
                           .size = size,
                           .state = state};
  const Entry entry = make_entry(
      Kind::kSnapshot, company.now + std::chrono::milliseconds{10}, statement.case_id, ledger::kNoPredecessor,
      encode_envelope({payload_type(Kind::kSnapshot), encode(statement), {}}), {}, Nonce{});
  company.broker_is_rooted = true;
  EXPECT_THAT(company.append(entry), FailsWith(Reason::kRateLimited));
  company.advance(kSnapshotGap);
  value_of(company.append(snapshot_of(company)));
}

// ---- joining

class JoiningTest : public ::testing::Test {
 protected:
  // Honest until a test changes it: three policies, machines, revocations, cases.
  JoiningTest() {
    busy(company);
    value_of(company.change_policy([](SamplePolicy&) {}));
    half = company.entries.size() / 2;
  }
  Result<ControlState> join(const Joining& joining) const {
    return join_control(company.origin(), company.genesis, joining);
  }
  RecordScenario company;
  std::size_t half = 0;
};

TEST_F(JoiningTest, GivesTheStateOfWhoFoldedAll) {
  for (const std::size_t first : {std::size_t{0}, half, company.entries.size()}) {
    company.advance(kSnapshotGap);
    company.request({});
    const Joining joining = take_snapshot(company, first);
    EXPECT_EQ(encode_control(value_of(join(joining))), encode_control(company.follower));
    EXPECT_EQ(value_of(join(joining)).root(), company.tree.root());
    const Bytes bytes = encode_joining(joining);
    EXPECT_EQ(encode_joining(value_of(parse_joining(bytes))), bytes);
    EXPECT_FALSE(parse_joining(ByteView{bytes}.first(bytes.size() - 1)).has_value());
    Bytes more = bytes;
    more.push_back(0);
    EXPECT_THAT(parse_joining(more), FailsWith(Code::kMalformed));
  }
}

TEST_F(JoiningTest, RefusesASnapshotOfAnotherLog) {
  RecordScenario other;
  other.granted();
  EXPECT_THAT(join(take_snapshot(other)), FailsWith(Reason::kTrustAnchor));
  RecordScenario renamed{[](SampleCompany& it) { it.policy.origin = "us.sallyport.corp.example/log/2"; }};
  renamed.granted();
  EXPECT_THAT(join(take_snapshot(renamed)), FailsWith(Reason::kTrustAnchor));
}

TEST_F(JoiningTest, RefusesAStateThatTheSnapshotDoesNotCommitTo) {
  Joining joining = take_snapshot(company);
  // One machine more, enrolled by nobody: a state of the same leaves otherwise.
  std::string bytes{as_text(joining.state)};
  const std::size_t at = bytes.find("laptop");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 6, "lapdog");
  joining.state = to_bytes(as_bytes(bytes));
  ASSERT_TRUE(parse_control(joining.state).has_value());
  EXPECT_THAT(join(joining), FailsWith(Reason::kLogSnapshot));
}

TEST_F(JoiningTest, RefusesAChainOfPoliciesThatIsNotTheStates) {
  const Joining honest = take_snapshot(company);
  ASSERT_EQ(honest.policies.size(), 3u);
  Joining cut = honest;  // cut short
  cut.policies.pop_back();
  EXPECT_THAT(join(cut), FailsWith(Reason::kLogSnapshot));
  Joining none = honest;
  none.policies.clear();
  EXPECT_THAT(join(none), FailsWith(Reason::kLogSnapshot));
  Joining swapped = honest;
  std::swap(swapped.policies[1], swapped.policies[2]);
  EXPECT_FALSE(join(swapped).has_value());
  Joining twice = honest;
  twice.policies[2] = twice.policies[1];
  EXPECT_FALSE(join(twice).has_value());
  Joining body = honest;
  body.policies[1].body.back() ^= 1;
  EXPECT_THAT(join(body), FailsWith(Reason::kLogBody));
}

// With the leaves before it given, a policy is where the state says; without, its quorum still is.
TEST_F(JoiningTest, RefusesAPolicyThatWasNotApproved) {
  for (const bool with_leaves : {false, true}) {
    company.advance(kSnapshotGap);
    company.request({});
    Joining joining = take_snapshot(company, with_leaves ? 0 : company.entries.size());
    Entry& newest = joining.policies.back();
    Body body = value_of(parse_body(newest.body));
    Envelope envelope = value_of(parse_envelope(body.envelope, kMaxClosingEnvelopeBytes));
    PolicyInForce statement = value_of(parse_policy_in_force(envelope.payload));
    statement.approvals.pop_back();
    envelope.payload = encode(statement);
    body.envelope = encode_envelope(envelope);
    newest.body = encode_body(body);
    newest.leaf.commitment = commitment(newest.nonce, newest.body);
    EXPECT_THAT(join(joining), FailsWith(with_leaves ? Reason::kLogSnapshot : Reason::kQuorumNotMet));
  }
}

TEST_F(JoiningTest, RefusesLeavesThatAreNotOfTheTree) {
  const Joining honest = take_snapshot(company, half);
  Joining other = honest;
  other.leaves.front().commitment = crypto::sha256(as_bytes("another body"));
  EXPECT_THAT(join(other), FailsWith(Reason::kLogSnapshot));
  other = honest;
  other.leaves.pop_back();
  EXPECT_THAT(join(other), FailsWith(Reason::kLogSnapshot));
  other = honest;
  other.leaves.erase(other.leaves.begin());
  EXPECT_THAT(join(other), FailsWith(Reason::kLogSnapshot));
  other = honest;
  std::swap(other.leaves[0], other.leaves[1]);
  EXPECT_THAT(join(other), FailsWith(Reason::kLogSnapshot));
}

}  // namespace
}  // namespace sallyport::test

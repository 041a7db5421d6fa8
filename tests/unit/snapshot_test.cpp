#include "attestation/record/snapshot.h"

#include <cstdlib>
#include <fstream>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/times.h"
#include "tests/support/files.h"
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
    EXPECT_EQ(same->baseline(), device.baseline());
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

TEST(ControlBytes, DISABLED_WriteOnce) {
  if (std::filesystem::exists(kVectors / "control.state")) return;
  RecordScenario company;
  busy(company);
  value_of(company.append(snapshot_of(company)));
  const Bytes bytes = encode_control(company.follower);
  std::ofstream{kVectors / "control.state", std::ios::binary} << as_text(bytes);
  std::ofstream{kVectors / "control.state.sha256"} << to_hex(crypto::sha256(bytes)) << "\n";
}

}  // namespace
}  // namespace sallyport::test

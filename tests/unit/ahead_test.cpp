#include "attestation/record/ahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::record {
namespace {

using test::FailsWith;
using test::OpenCase;
using test::RecordScenario;
using test::Succeeds;
using test::value_of;

Claims claimed_in(const State& state, const Entry& entry, const std::optional<DeviceId>& asked_at = {}) {
  return claims_of(state, value_of(open_entry(entry)), asked_at);
}
VerifiedAhead ahead(const State& state, const Entry& entry) {
  return verify_ahead(claimed_in(state, entry));
}

bool holds_all(const VerifiedAhead& verified, const Claims& claimed) {
  for (const ClaimedSignature& one : claimed.signatures) {
    const crypto::PublicKey* const key = one.key ? &*one.key : verified.signatures.find_key(one.key_id);
    if (key == nullptr || !verified.signatures.holds(*key, one.message, one.signature)) return false;
  }
  return std::ranges::all_of(claimed.logs, [&](const ClaimedLog& one) {
    return verified.logs.find(*one.policy, one.digest) != nullptr;
  });
}

// One access, with a state in which each leaf finds its predecessors.
TEST(Ahead, ListsEverySignatureOfAnAccess) {
  RecordScenario world;
  const auto expect = [&](const Entry& entry, std::size_t count) {
    const auto claimed = claimed_in(world.state, entry);
    EXPECT_EQ(claimed.signatures.size(), count);
    EXPECT_TRUE(holds_all(verify_ahead(claimed), claimed));
    ASSERT_THAT(world.append(entry), Succeeds());
  };
  const OpenCase open = world.make_request({});
  // The token, the quote, the certification, the log, three witnesses.
  expect(world.entry(Kind::kRequest, open.id, open.submission), 7);
  for (const char* person : {"alice", "bob", "dana"})  // the token, the quote, the note
    expect(world.entry(Kind::kApproval, open.id, world.make_approval(open.id, person, {})), 6);
  expect(value_of(world.make_grant(open, {})), 5);
  expect(world.entry(Kind::kLease, open.id, world.lease(open)), 1);
  expect(world.entry(Kind::kSessionOpened, open.id, world.session_opened(open, 1)), 1);
  expect(world.entry(Kind::kSessionClosed, open.id, world.session_closed(open, 1)), 1);
}

// Whoever looks further ahead than the fold has come knows the request, and says at which machine it was
// made.
TEST(Ahead, ListsTheQuoteOfAGrantWhoseRequestIsNotFoldedYet) {
  RecordScenario world;
  world.machine("laptop");
  const State before = world.state;
  const OpenCase open = world.request({});
  world.approve_all(open);
  const Entry grant = value_of(world.make_grant(open, {}));
  EXPECT_EQ(claimed_in(before, grant).signatures.size(), 4u);
  const auto claimed = claimed_in(before, grant, open.request.device);
  EXPECT_EQ(claimed.signatures.size(), 5u);
  EXPECT_TRUE(holds_all(verify_ahead(claimed), claimed));
}

// Whoever judges dossiers with a lock verifies their signatures without it.
TEST(Ahead, ListsEverySignatureOfADossier) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Dossier dossier = world.dossier(open);
  const auto claimed = claims_of(world.follower, dossier);
  EXPECT_EQ(claimed.signatures.size(),
            34u);  // 7 of the request, 6 of each approval, 5 of the grant, 4 of the proof
  const auto verified = verify_ahead(claimed);
  EXPECT_TRUE(holds_all(verified, claimed));
  world.follower.remember(std::make_shared<const VerifiedAhead>(verified));
  EXPECT_THAT(verify_dossier(dossier, world.follower, world.now), Succeeds());

  // A forged one is not among them, and judged as ever.
  Dossier forged = dossier;
  Body body = value_of(parse_body(forged.approval_bodies.front()));
  Envelope envelope = value_of(parse_envelope(body.envelope));
  envelope.signatures.front().signature[40] ^= 1;
  body.envelope = encode_envelope(envelope);
  forged.approval_bodies.front() = encode_body(body);
  EXPECT_EQ(verify_ahead(claims_of(world.follower, forged)).signatures.size(), 33u);
  EXPECT_THAT(verify_dossier(forged, world.follower, world.now), FailsWith(Reason::kApprovalForeignKey));
}

TEST(Ahead, ListsTheSignaturesOfACheckpoint) {
  RecordScenario world;
  const auto claimed = claims_of(world.policy(), world.cosign(4));
  EXPECT_EQ(claimed.signatures.size(), 5u);  // the log, four witnesses
  EXPECT_TRUE(holds_all(verify_ahead(claimed), claimed));
  const auto verified = verify_ahead(claimed);
  EXPECT_THAT(ledger::check_quorum(world.cosign(4), world.policy().witnesses, &verified.signatures),
              Succeeds());
  EXPECT_TRUE(claims_of(world.policy(), "no checkpoint").signatures.empty());
}

TEST(Ahead, HoldsNothingThatDoesNotVerify) {
  RecordScenario world;
  const OpenCase open = world.make_request({});
  Submission forged = open.submission;
  Envelope envelope = value_of(parse_envelope(forged.envelope));
  envelope.signatures.front().signature[40] ^= 1;
  forged.envelope = encode_envelope(envelope);
  const Entry entry = world.entry(Kind::kRequest, open.id, forged);

  const auto claimed = claimed_in(world.state, entry);
  ASSERT_EQ(claimed.signatures.size(), 7u);
  const auto verified = verify_ahead(claimed);
  const ClaimedSignature &token = claimed.signatures[0], &quote = claimed.signatures[1];
  EXPECT_FALSE(verified.signatures.holds(*token.key, token.message, token.signature));
  EXPECT_TRUE(verified.signatures.holds(*quote.key, quote.message, quote.signature));

  world.state.control.remember(std::make_shared<const VerifiedAhead>(verified));
  EXPECT_THAT(prepare(world.state, entry), FailsWith(Code::kUnverified));
}

// A checkpoint that was shown before is not verified again; what else is claimed beside it is.
TEST(Ahead, RemembersWhatOthersHaveShown) {
  RecordScenario world;
  world.machine("laptop");
  const std::string note = world.cosign();
  const auto request = [&] {
    const OpenCase open = world.make_request({.note = note});
    return claimed_in(world.state, world.entry(Kind::kRequest, open.id, open.submission));
  };
  RecentlyVerified recent;
  const auto first = request(), second = request();
  EXPECT_EQ(recent.known(first).signatures.size(), 0u);
  std::mutex mutex;
  EXPECT_TRUE(holds_all(*verify_ahead(first, recent, mutex), first));
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
  EXPECT_EQ(recent.known(first).signatures.size(), 7u);
  const auto known = recent.known(second);
  EXPECT_EQ(known.signatures.size(), 4u);  // the log, three witnesses
  EXPECT_FALSE(holds_all(known, second));
  EXPECT_TRUE(holds_all(verify_ahead(second, known), second));

  // Another signature of the same key over the same bytes is another one.
  auto forged = second;
  for (ClaimedSignature& one : forged.signatures) one.signature[40] ^= 1;
  EXPECT_EQ(recent.known(forged).signatures.size(), 0u);
  EXPECT_EQ(verify_ahead(forged, recent.known(forged)).signatures.size(), 0u);
}

TEST(Ahead, ForgetsWhatIsLongAgo) {
  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
  const auto show = [&](std::size_t number) {
    const Bytes message = to_bytes(as_bytes(std::to_string(number)));
    return Claims{{{key.public_key(), key.public_key().id(), message, value_of(key.sign_ed25519(message))}},
                  {}};
  };
  RecentlyVerified recent;
  const auto first = show(0);
  recent.add(verify_ahead(first));
  for (std::size_t i = 1; i < RecentlyVerified::kSignatures; ++i) recent.add(verify_ahead(show(i)));
  EXPECT_EQ(recent.known(first).signatures.size(), 1u);
  for (std::size_t i = 0; i <= RecentlyVerified::kSignatures; ++i)
    recent.add(verify_ahead(show(RecentlyVerified::kSignatures + i)));
  EXPECT_EQ(recent.known(first).signatures.size(), 0u);
}

TEST(Ahead, KnowsTheMachineOfARequestUntilThatIsFolded) {
  RecordScenario world;
  const OpenCase open = world.request({});
  const Entry request = world.entries.back();
  world.approve_all(open);
  const OpenedEntry grant = value_of(open_entry(value_of(world.make_grant(open, {}))));
  OpenRequests requests;
  EXPECT_EQ(requests.read(grant.statement()), std::nullopt);
  EXPECT_EQ(requests.read(value_of(open_entry(request)).statement()), std::nullopt);
  EXPECT_EQ(requests.read(grant.statement()), open.request.device);
  requests.folded(request.leaf);
  EXPECT_EQ(requests.read(grant.statement()), std::nullopt);
}

TEST(Ahead, ASignatureHoldsForItsKeyAndItsMessageAlone) {
  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
  const auto other = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
  const auto signature = value_of(key.sign_ed25519(as_bytes("one")));
  crypto::VerifiedSignatures verified;
  EXPECT_THAT(verified.verify(other.public_key(), as_bytes("one"), signature), FailsWith(Code::kUnverified));
  ASSERT_THAT(verified.verify(key.public_key(), as_bytes("one"), signature), Succeeds());
  EXPECT_TRUE(verified.holds(key.public_key(), as_bytes("one"), signature));
  EXPECT_FALSE(verified.holds(other.public_key(), as_bytes("one"), signature));
  EXPECT_FALSE(verified.holds(key.public_key(), as_bytes("two"), signature));
  EXPECT_THAT(crypto::verify_signature(key.public_key(), as_bytes("two"), signature, &verified),
              FailsWith(Code::kUnverified));
}

// What was verified for one judgement changes no other: not the rest of the checks, and not a key's standing.
TEST(Ahead, ChangesNoJudgement) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  const Entry grant = value_of(world.make_grant(open, {}));
  world.state.control.remember(std::make_shared<const VerifiedAhead>(ahead(world.state, grant)));
  EXPECT_THAT(prepare(world.state, grant), Succeeds());
  ASSERT_THAT(world.revoke(RevocationKind::kPerson, test::SampleCompany::id("alice")), Succeeds());
  Entry later = grant;
  later.leaf.time = world.now;
  EXPECT_FALSE(prepare(world.state, later).has_value());
}

// An entry that was opened before is judged as one that is opened by its judgement.
TEST(Ahead, OpensNothingThatItsLeafDoesNotCommitTo) {
  RecordScenario world;
  const OpenCase open = world.make_request({});
  const Entry entry = world.entry(Kind::kRequest, open.id, open.submission);
  EXPECT_THAT(prepare(world.state, value_of(open_entry(entry))), Succeeds());
  Entry other = entry;
  other.body.back() ^= 1;
  EXPECT_THAT(open_entry(other), FailsWith(Reason::kLogBody));
  other = entry;
  other.leaf.time = UnixMillis{entry.leaf.time.get() + 1};
  EXPECT_THAT(open_entry(other), FailsWith(Reason::kLogBody));
  other = entry;
  other.blobs.front().bytes.push_back(0);
  EXPECT_THAT(open_entry(other), FailsWith(Reason::kLogBody));
  other.body.clear();
  EXPECT_THAT(open_entry(other), FailsWith(Reason::kLogBody));
}

}  // namespace
}  // namespace sallyport::record

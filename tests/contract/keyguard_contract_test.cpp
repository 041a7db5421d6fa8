#include <fstream>

#include "attestation/crypto/digest.h"
#include "attestation/evidence/key_policy.h"
#include "attestation/record/dossier.h"
#include "attestation/record/times.h"
#include "broker/credentials/ssh_certificate.h"
#include "tests/support/guard_world.h"
#include "tests/support/matchers.h"

// A guard with a real token, asked over frames by an honest broker.
namespace sallyport::test {
namespace {

using keyguard::Call;
using keyguard::Guard;

TEST(KeyguardContract, SignsTheTreeThatItHasFollowed) {
  GuardWorld world;
  EXPECT_EQ(world.status().size.get(), 0u);
  EXPECT_TRUE(world.status().ready);
  EXPECT_EQ(world.status().origin, world.company.origin().get());

  world.company.granted();
  const std::string note = world.feed();
  const auto& logs = world.company.policy().witnesses.logs();
  const std::vector<ledger::NoteKey> log_keys{logs.at(0).key};
  const auto checkpoint = value_of(ledger::verify_checkpoint(note, log_keys, ledger::Extensions::kRefuse));
  EXPECT_EQ(checkpoint.checkpoint().size, world.company.tree.size());
  EXPECT_EQ(checkpoint.checkpoint().root, world.company.tree.root());
  EXPECT_EQ(world.status().root, world.company.tree.root());
  EXPECT_EQ(world.status().note, note);

  record::Batch same = world.batch(LeafIndex{world.company.entries.size()});
  EXPECT_EQ(value_of(world.advance(same)), note);  // Ed25519: the present size again, the same bytes
}

TEST(KeyguardContract, GivesTheCertificateOfAGrantAndLeasesForItsLogins) {
  GuardWorld world;
  const OpenCase open = world.company.granted();
  world.feed();

  // The certificate is the grant's, byte for byte.
  const record::Dossier dossier = world.company.dossier(open);
  const Bytes wire = value_of(world.certify(dossier));
  const auto grant = value_of(record::verify_dossier(dossier, world.company.follower, world.company.now));
  const auto certificate = value_of(credentials::parse_ssh_certificate(wire));
  EXPECT_THAT(credentials::verify_ssh_certificate(certificate, grant, world.keys.ssh_ca.public_key()),
              Succeeds());
  EXPECT_EQ(certificate.travel_dossier, record::encode_dossier(record::to_travel(dossier)));
  EXPECT_LE(wire.size(), credentials::kMaxSshCertificateBytes);

  // A later dossier of the same case gives the same certificate again.
  world.company.advance(std::chrono::seconds{40});
  EXPECT_EQ(value_of(world.certify(world.company.dossier(open))), wire);

  // One lease: statement, leaf, signature over exactly what the TPM computes.
  const Bytes content = world.login(wire);
  const keyguard::LeaseCall call = value_of(world.log_lease(open, content));
  EXPECT_THAT(world.lease(call), FailsWith(Reason::kLogOrder));  // not in a tree that was signed
  world.feed();
  const crypto::Signature64 signature = value_of(world.lease(call));
  const Digest256 expected = value_of(
      evidence::lease_hash(call.nonce_tpm, 10, evidence::cp_hash_sign(open.key.name, crypto::sha256(content)),
                           evidence::lease_policy_ref(world.company.origin(), open.id)));
  EXPECT_THAT(crypto::verify_p256(world.keys.lease.public_key(), expected, signature), Succeeds());
}

TEST(KeyguardContract, KeepsWhatItKnowsOverARestart) {
  GuardWorld world;
  const OpenCase open = world.company.granted();
  world.feed();
  const Bytes wire = value_of(world.certify(world.company.dossier(open)));
  const keyguard::LeaseCall call = value_of(world.log_lease(open, world.login(wire)));
  world.feed();
  EXPECT_THAT(world.lease(call), Succeeds());

  const auto before = world.status();
  world.restart();
  EXPECT_EQ(world.status().size, before.size);
  EXPECT_EQ(world.status().root, before.root);
  EXPECT_EQ(value_of(world.certify(world.company.dossier(open))), wire);
  EXPECT_THAT(world.lease(call), FailsWith(Reason::kLeaseContent));  // used before the restart
  EXPECT_EQ(world.feed(), before.note);
}

TEST(KeyguardContract, SignsNothingAfterAStartUntilItHasSeenFreshSignaturesOfWitnessesOverItsTree) {
  GuardWorld world;
  world.company.granted();
  world.feed();
  const LeafIndex head{world.company.entries.size()};
  const std::string old_note = world.note_of(TreeSize{head.get()});
  world.company.advance(std::chrono::seconds{121});
  record::Batch batch = world.batch(head);
  EXPECT_THAT(world.advance(batch), Succeeds());  // it runs, and knows what it has signed

  world.restart();
  EXPECT_THAT(world.advance(batch), FailsWith(Code::kStale));
  batch.note = old_note;
  EXPECT_THAT(world.advance(batch), FailsWith(Code::kStale));
  batch.note = world.note_of(TreeSize{head.get()}, 2);  // no quorum of witnesses
  EXPECT_THAT(world.advance(batch), FailsWith(Reason::kLogQuorum));
  batch.note = world.note_of(TreeSize{head.get()});
  EXPECT_THAT(world.advance(batch), Succeeds());
  batch.note.clear();
  EXPECT_THAT(world.advance(batch), Succeeds());
}

TEST(KeyguardContract, RefusesToSignWhenItsClockIsBehindTheWitnesses) {
  GuardWorld world;
  world.company.granted();
  world.feed();
  world.company.advance(std::chrono::seconds{121});
  world.restart();
  record::Batch batch = world.batch(LeafIndex{world.company.entries.size()});
  const UnixMillis now = world.company.now;
  world.company.advance(std::chrono::seconds{31});
  batch.note = world.note_of(TreeSize{batch.from.get()});
  world.company.now = now;
  EXPECT_THAT(world.advance(batch), FailsWith(Code::kStale));
}

TEST(KeyguardContract, CatchesUpFromNothingInOneBatchWhoseNoteIsOfASizeInBetween) {
  GuardWorld world;
  world.company.granted();
  record::Batch batch = world.batch(LeafIndex{0});
  batch.note = world.note_of(TreeSize{world.company.entries.size() - 1});
  EXPECT_THAT(world.advance(batch), Succeeds());
  EXPECT_EQ(world.status().root, world.company.tree.root());
  world.restart();
  // Also a size that was passed over in a batch is compared.
  batch = world.batch(LeafIndex{world.company.entries.size()});
  batch.note = world.note_of(TreeSize{world.company.entries.size() - 1});
  EXPECT_THAT(world.advance(batch), Succeeds());
}

TEST(KeyguardContract, JudgesANoteUnderTheWitnessesOfItsSize) {
  GuardWorld world;
  world.feed();
  // The next policy has other witnesses; the newest note has the signatures of the old ones.
  const std::vector<crypto::PrivateKey> old_witnesses = world.company.company.witnesses;
  value_of(world.company.change_policy([&](SamplePolicy& policy) {
    for (std::size_t i = 0; i < policy.witnesses.size(); ++i) {
      world.company.company.witnesses[i] = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
      policy.witnesses[i].key = world.company.company.witnesses[i].public_key();
    }
  }));
  const auto new_witnesses = std::exchange(world.company.company.witnesses, old_witnesses);
  record::Batch batch = world.batch(LeafIndex{1});
  batch.note = world.note_of(TreeSize{1});
  EXPECT_THAT(world.advance(batch), Succeeds());
  world.restart();  // and the note on disk is judged so too
  world.company.company.witnesses = new_witnesses;
  const LeafIndex head{world.company.entries.size()};
  batch = world.batch(head);
  batch.note = world.note_of(TreeSize{head.get()});
  EXPECT_THAT(world.advance(batch), Succeeds());
}

TEST(KeyguardContract, NeverBeginsAnewByItself) {
  GuardWorld world;
  EXPECT_THAT(Guard::init(world.state(), {world.company.origin(), world.company.genesis}),
              FailsWith(Code::kConflict));
  EXPECT_THAT(world.open(world.directory / "empty"), FailsWith(Reason::kStorage));
  for (const char* file : {"follow.db", "issued.db", "trust.toml"}) {
    world.guard.reset();
    const auto kept = world.directory / "kept";
    std::filesystem::rename(world.state() / file, kept);
    EXPECT_THAT(world.open(world.state()), FailsWith(Reason::kStorage)) << file;
    std::filesystem::rename(kept, world.state() / file);
  }
  EXPECT_THAT(world.open(world.state()), Succeeds());
}

TEST(KeyguardContract, SignsNothingWithKeysThatThePolicyDoesNotName) {
  GuardWorld world{[](SampleCompany& sample) {
    sample.policy.lease = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  }};
  EXPECT_THAT(world.advance(world.batch(LeafIndex{0})), FailsWith(Reason::kTokenKey));
}

TEST(KeyguardContract, AnswersEveryFrameAndTellsWhatIsWrongWithIt) {
  GuardWorld world;
  const auto reason_of = [&](ByteView frame) {
    const auto answer = value_of(keyguard::parse_frame(world.guard->answer(frame)));
    EXPECT_EQ(answer.call, Call::kError);
    return keyguard::parse_error(answer.payload);
  };
  EXPECT_EQ(reason_of({}).code, Code::kMalformed);
  for (unsigned type = 0; type < 256; ++type) {
    if (type == static_cast<unsigned>(Call::kStatus)) continue;
    const std::uint8_t frame[] = {static_cast<std::uint8_t>(type)};
    EXPECT_EQ(reason_of(frame).code, Code::kMalformed) << type;
  }
  EXPECT_EQ(reason_of(keyguard::encode_frame(Call::kStatus, as_bytes("x"))).code, Code::kMalformed);
  EXPECT_THAT(world.advance(world.batch(LeafIndex{1})), FailsWith(Code::kStale));
  // Nothing to sign before the first leaf.
  EXPECT_THAT(world.advance(record::Batch{}), FailsWith(Reason::kTrustAnchor));
}

TEST(KeyguardContract, GivesNoLeaseWithoutACertificateOrBeyondTheGrant) {
  GuardWorld world;
  const OpenCase open = world.company.granted();
  world.feed();
  const Bytes guess = world.login(as_bytes("no certificate"));
  EXPECT_THAT(world.log_lease(open, guess), FailsWith(Reason::kLeaseContent));

  const Bytes wire = value_of(world.certify(world.company.dossier(open)));
  const Bytes content = world.login(wire);
  for (const std::uint32_t seconds : {0u, 31u, 0xFFFFFFFFu, 0x80000000u})
    EXPECT_THAT(world.log_lease(open, content, {seconds}), FailsWith(Code::kMalformed)) << seconds;

  // A lease ends with the grant, at the latest: 15 min from its leaf.
  const auto left = [&] {
    return std::chrono::milliseconds{world.company.follower.find_grant(open.id)->not_after.get() -
                                     world.company.now.get()};
  };
  world.company.advance(left() - std::chrono::seconds{10});
  EXPECT_THAT(world.log_lease(open, content, {11}), FailsWith(Reason::kGrantExpired));
  const auto in_time = world.log_lease(open, content, {9});
  ASSERT_THAT(in_time, Succeeds());
  world.feed();
  EXPECT_THAT(world.lease(*in_time), Succeeds());
  world.company.advance(left());
  EXPECT_THAT(world.log_lease(open, content, {1}), FailsWith(Reason::kGrantExpired));
  EXPECT_THAT(world.certify(world.company.dossier(open)), FailsWith(Reason::kGrantExpired));
}

}  // namespace
}  // namespace sallyport::test

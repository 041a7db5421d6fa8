#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/follow/follower.h"
#include "attestation/ledger/add_checkpoint.h"
#include "broker/credentials/ssh_certificate.h"
#include "broker/store/store.h"
#include "client/target/door.h"
#include "hsm-config/pkcs11/region_keys.h"
#include "tests/support/broker_access.h"

// Attacks on the log itself, at real programs: keyguard over a SoftHSM, broker, three witnesses of which two
// must cosign. Claim C2: root on the keyguard's host has its PIN, and every key of the HSM signs what he
// likes. Claim C1: root on the API host writes the database that he likes.
namespace sallyport::test {
namespace {

using namespace record;

BrokerProcess::Programs programs() {
  return {SALLYPORT_KEYGUARD_PROGRAM, SALLYPORT_BROKER_PROGRAM, SALLYPORT_WITNESS_PROGRAM};
}

Batch batch_of(const RecordScenario& log, LeafIndex from, std::string note) {
  Batch batch;
  batch.from = from;
  for (std::uint64_t i = from.get(); i < log.entries.size(); ++i) {
    batch.leaves.push_back(log.entries[i].leaf);
    if (is_control(value_of(parse_kind(log.entries[i].leaf.kind))))
      batch.controls.push_back({LeafIndex{i}, log.entries[i]});
  }
  batch.note = std::move(note);
  return batch;
}

// What a gate has that has followed `log` to its end, under this checkpoint.
gate::Followed followed(const RecordScenario& log, const std::string& note) {
  return {std::make_shared<ControlState>(log.follower),
          std::make_shared<ledger::VerifiedCheckpoint>(
              value_of(ledger::check_quorum(note, log.policy().witnesses)))};
}

// submit_revocation adds a leaf as an honest person would.
Result<api::Submitted> submit_revocation(BrokerProcess& world) {
  SP_TRY(ApiPeer ivan, world.peer("ivan"));
  return ivan.submit(make_revocation(world));
}

// ---- C2: every key of the HSM

class KeyguardsRoot : public ::testing::Test {
 protected:
  BrokerProcess world{programs()};
  Access access{world};
  pkcs11::Token token = world.hsm.open("us");
  pkcs11::RegionKeys keys = value_of(pkcs11::find_region_keys(token));
  const std::vector<std::string> dbadmin{"dbadmin"};

  std::string sign_checkpoint(const ledger::Tree& tree) const {
    const std::string text = ledger::checkpoint_text(
        {.origin = world.company.origin(), .size = tree.size(), .root = tree.root(), .extensions = {}});
    const auto key = value_of(ledger::NoteKey::make(world.company.origin().get(),
                                                    ledger::NoteKeyType::kEd25519, keys.log.public_key()));
    return ledger::encode_note(
        {text, {ledger::make_signature_line(key, value_of(token.sign_ed25519(keys.log, as_bytes(text))))}});
  }

  // cosign has the real witnesses cosign a tree, each from `old_size` on; they are honest, and the log
  // signed.
  std::string cosign(const ledger::Tree& tree, TreeSize old_size) const {
    const std::string signed_note = sign_checkpoint(tree);
    auto note = value_of(ledger::parse_note(signed_note));
    for (const auto& witness : world.witnesses) {
      auto client = value_of(net::HttpClient::connect(witness->url(), {}));
      TreeSize from = old_size;
      for (int tries = 0; tries < 2; ++tries) {
        const auto answer =
            value_of(client.post("/add-checkpoint", "text/plain",
                                 as_bytes(ledger::encode_add_checkpoint(
                                     {from, value_of(tree.consistency(from, tree.size())), signed_note}))));
        if (answer.status == 409) {  // one that was left out of the last round
          from = value_of(ledger::parse_size_body(answer.text()));
          continue;
        }
        EXPECT_EQ(answer.status, 200U) << answer.text();
        note.signatures.push_back(
            value_of(ledger::verify_cosigned_body(answer.text(), witness->vkey(), note.text)).line);
        break;
      }
    }
    return ledger::encode_note(note);
  }

  // certificate signs, with the CA's key, what a real grant's template looks like with another dossier in it.
  Bytes certificate(const VerifiedGrant& grant, const Dossier& stapled,
                    const std::function<void(Bytes&)>& edit = {}) const {
    Bytes to_be_signed =
        credentials::ssh_to_be_signed(grant, keys.ssh_ca.public_key(), encode_dossier(stapled));
    if (edit) edit(to_be_signed);
    return credentials::ssh_certificate(to_be_signed,
                                        value_of(token.sign_p256(keys.ssh_ca, crypto::sha256(to_be_signed))));
  }
};

TEST_F(KeyguardsRoot, AGrantOfHisOwnThatHonestWitnessesCosignOpensNothingAndShows) {
  // A true access, whose certificate opens; and a case that one of three has approved.
  const OpenCase good = access.request();
  value_of(access.activate(good));
  const OpenCase open = access.request({"alice"});
  const std::string head = value_of(value_of(world.peer("erin")).head());
  world.replay();
  const RecordScenario honest = world.company;

  // He appends the grant to the tree that everybody knows, signs it as the log, and the witnesses, who judge
  // no leaf, cosign.
  RecordScenario fork = honest;
  fork.broker_is_rooted = true;
  const Case& one = fork.state.cases.at(open.id);
  const Grant grant{.approvals = {one.approvals.at(0).digest},
                    .authority = fork.origin().get(),
                    .case_id = open.id,
                    .decision = encode(*one.decision)};
  const LeafIndex leaf =
      value_of(fork.append(fork.forge_grant(grant, fork.activation(open, {.note = head}))));
  const std::string note = cosign(fork.tree, TreeSize{honest.entries.size()});
  ASSERT_THAT(ledger::check_quorum(note, honest.policy().witnesses), Succeeds());

  // Even a gate that is fed with this history, and cut off from the other one, asks for the quorum of people.
  Dossier dossier = to_travel(fork.dossier(open.id));
  dossier.proof = fork.proof(leaf, note);
  const gate::Followed fed = followed(fork, note);
  const UnixMillis now = BrokerProcess::wall_clock();
  Dossier genuine = to_travel(fork.dossier(good.id));
  genuine.proof = fork.proof(fork.follower.find_grant(good.id)->index, note);
  const VerifiedGrant granted = value_of(verify_dossier(genuine, fork.follower, now));
  ASSERT_THAT(gate::verify_login(fed, "db-7", dbadmin, certificate(granted, genuine), now), Succeeds());
  EXPECT_THAT(gate::verify_login(fed, "db-7", dbadmin, certificate(granted, dossier), now),
              FailsWith(Reason::kQuorumNotMet));
  // One that follows the broker knows of no grant there.
  EXPECT_THAT(gate::verify_login(followed(honest, value_of(value_of(world.peer("erin")).head())), "db-7",
                                 dbadmin, certificate(granted, dossier), now),
              FailsWith(Reason::kGateBehind));

  // And it cannot be hidden: the next leaf of the true log finds the witnesses somewhere else, with the log's
  // own signature as the proof; the log takes nothing more.
  EXPECT_THAT(submit_revocation(world), ::testing::AnyOf(Succeeds(), FailsWith(Code::kUnavailable)));
  ASSERT_TRUE(poll_until([&] { return world.ready().second.find("log/fork") != std::string::npos; }))
      << world.ready().second;
  EXPECT_THAT(submit_revocation(world), FailsWith(Reason::kReadOnly));
}

TEST_F(KeyguardsRoot, AGoodDossierInAnotherCertificateOpensNothing) {
  const OpenCase open = access.request();
  const api::Activated activated = value_of(access.activate(open));
  world.replay();
  const gate::Followed now_followed = followed(world.company, value_of(value_of(world.peer("erin")).head()));
  const UnixMillis now = BrokerProcess::wall_clock();
  ASSERT_THAT(gate::verify_login(now_followed, "db-7", dbadmin, activated.certificate, now), Succeeds());

  const Dossier dossier = value_of(
      parse_dossier(value_of(credentials::parse_ssh_certificate(activated.certificate)).travel_dossier));
  const VerifiedGrant grant = value_of(verify_dossier(dossier, *now_followed.control, now));
  ASSERT_THAT(gate::verify_login(now_followed, "db-7", dbadmin, certificate(grant, dossier), now),
              Succeeds());
  const auto thief = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  // His key in place of the TPM's: the point is the last 65 bytes of an SPKI.
  const Bytes machine_key = grant.session_key.spki(), thiefs_key = thief.public_key().spki();
  const Bytes theirs = certificate(grant, dossier, [&](Bytes& bytes) {
    const auto point = std::search(bytes.begin(), bytes.end(), machine_key.end() - 65, machine_key.end());
    ASSERT_NE(point, bytes.end());
    std::copy(thiefs_key.end() - 65, thiefs_key.end(), point);
  });
  EXPECT_THAT(gate::verify_login(now_followed, "db-7", dbadmin, theirs, now),
              FailsWith(Reason::kGrantMismatch));
}

TEST_F(KeyguardsRoot, ATreeThatHeSignsForOneGateAloneIsNotCosigned) {
  // Another history from two leaves back: without the newest revocation, say.
  value_of(submit_revocation(world));
  value_of(submit_revocation(world));
  world.replay();
  const RecordScenario& honest = world.company;
  ledger::Tree fork;
  for (std::size_t i = 0; i + 2 < honest.entries.size(); ++i)
    fork.append(ledger::leaf_hash(honest.entries[i].leaf));
  while (fork.size().get() <= honest.entries.size()) fork.append(crypto::sha256(as_bytes("another leaf")));
  const std::string signed_note = sign_checkpoint(fork);
  for (const auto& witness : world.witnesses) {
    auto client = value_of(net::HttpClient::connect(witness->url(), {}));
    const auto ask = [&](TreeSize from) {
      return value_of(client.post("/add-checkpoint", "text/plain",
                                  as_bytes(ledger::encode_add_checkpoint(
                                      {from, value_of(fork.consistency(from, fork.size())), signed_note}))));
    };
    const auto where = ask(TreeSize{1});
    ASSERT_EQ(where.status, 409U);
    EXPECT_EQ(ask(value_of(ledger::parse_size_body(where.text()))).status, 422U);
  }
  const auto note = ledger::check_quorum(signed_note, honest.policy().witnesses);
  EXPECT_THAT(note, FailsWith(Reason::kLogQuorum));
}

// ---- C1: the database

// rewrite makes the database of a history that says something else; everything that needs no key is right.
void rewrite(BrokerProcess& world, const RecordScenario& other, const std::vector<std::string>& notes) {
  const auto file = world.directory() / "broker" / "log.db";
  ASSERT_TRUE(std::filesystem::exists(file));
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(file.string() + suffix);
  const auto store = value_of(store::open_sqlite(file));
  std::vector<store::Subtree> subtrees;
  ledger::CompactRange range;
  for (const Entry& entry : other.entries)
    range.append(ledger::leaf_hash(entry.leaf),
                 [&](unsigned level, std::uint64_t index, const Digest256& hash) {
                   if (store::is_kept(level)) subtrees.push_back({level, index, hash});
                 });
  value_of(store->append(store::Head{TreeSize{0}, ledger::empty_root()}, other.entries, subtrees,
                         {range.size(), range.root()}));
  // Of the checkpoints that there are, those that the two histories share.
  for (const std::string& note : notes) {
    const auto head = value_of(ledger::check_quorum(note, other.policy().witnesses));
    const auto root = other.tree.root(head.size());
    if (!root.has_value() || *root != head.root()) continue;
    value_of(store->put_signed(head.size(), note));
    value_of(store->put_cosigned(head.size(), note));
  }
}

class BrokersRoot : public ::testing::Test {
 protected:
  BrokerProcess world{programs()};

  // without gives the history as if leaf `index`, a case of its own, had never been; `more` others follow it.
  RecordScenario without(LeafIndex index, std::size_t more) {
    RecordScenario other = world.company;
    const std::vector<Entry> all = std::move(other.entries);
    other.entries.clear();
    other.tree = {};
    other.state = begin_state(other.origin(), other.genesis);
    other.follower = ControlState::begin(other.origin(), other.genesis);
    for (std::size_t i = 0; i < all.size(); ++i)
      if (i != index.get()) value_of(other.append(all[i]));
    for (std::size_t i = 0; i < more; ++i) {
      const CaseId id = crypto::random_case_id();
      const Revocation revocation{.authority = other.origin().get(),
                                  .case_id = id,
                                  .kind = RevocationKind::kCase,
                                  .person = SampleCompany::id("ivan"),
                                  .reason = "drill",
                                  .target = to_hex(crypto::random_case_id()),
                                  .time = BrokerProcess::wall_clock()};
      const Submission signed_by_ivan{other.sign(Kind::kRevocation, revocation, other.company.token("ivan")),
                                      {}};
      value_of(other.append(Kind::kRevocation, id, signed_by_ivan));
    }
    return other;
  }
  std::vector<std::string> checkpoints() {
    return value_of(value_of(world.peer("olga")).checkpoints(TreeSize{0}));
  }
  void expect_read_only(const char* why) {
    ASSERT_TRUE(poll_until([&] { return world.ready().second.find(why) != std::string::npos; }))
        << world.ready().second;
    EXPECT_EQ(world.ready().first, 503U);
    EXPECT_FALSE(submit_revocation(world).has_value());
  }
};

// A revocation is cut out of the database, in a history that is shorter, as long, or longer than the one that
// keyguard and witnesses know.
TEST_F(BrokersRoot, ALeafThatHeCutsOutIsMissedWhateverHePutsInItsPlace) {
  value_of(submit_revocation(world));
  const LeafIndex hidden{value_of(submit_revocation(world)).leaf};
  value_of(submit_revocation(world));
  world.replay();
  const std::vector<std::string> notes = checkpoints();
  // What followers hold: a gate that has followed to the end, on disk.
  const follow::TrustAnchor anchor{world.company.origin(), world.company.genesis};
  const auto gate_file = world.directory() / "gate.db";
  value_of(follow::Follower::create(gate_file, anchor));
  const auto gate = value_of(follow::Follower::open(gate_file, anchor));
  value_of(
      gate->accept(batch_of(world.company, LeafIndex{0}, value_of(value_of(world.peer("erin")).head()))));

  for (const std::size_t more : {0, 1, 2}) {
    SCOPED_TRACE(more);
    const RecordScenario other = without(hidden, more);
    world.kill_broker();
    rewrite(world, other, notes);
    world.start_broker();
    expect_read_only(more == 0 ? "log/rollback" : "log/fork");
    // The rewritten leaves under the one checkpoint that there is, which is of the other history.
    (void)gate->accept(batch_of(other, LeafIndex{gate->control()->size().get()}, notes.back()));
    EXPECT_EQ(gate->control()->root(), world.company.tree.root());
    const auto fresh_file = world.directory() / ("fresh" + std::to_string(more) + ".db");
    value_of(follow::Follower::create(fresh_file, anchor));
    const auto fresh = value_of(follow::Follower::open(fresh_file, anchor));
    EXPECT_FALSE(fresh->accept(batch_of(other, LeafIndex{0}, notes.back())).has_value());
  }
}

}  // namespace
}  // namespace sallyport::test

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "attestation/sqlite/sqlite.h"
#include "broker/ledger/standby.h"
#include "broker/ledger/stored_log.h"
#include "broker/sessions/broker.h"
#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/support/record_scenario.h"
#include "tests/support/soft_signer.h"
#include "tests/support/witness_process.h"

// Erasing in a real database: a log with old cases goes on, its people have some erased, and what was in them
// is in no file any more; the log is as sound as before.
namespace sallyport::test {
namespace {

using namespace record;
using ledger_service::Appended;
using ledger_service::Sequencer;
using ledger_service::Standby;
using std::chrono::hours;
using std::chrono::milliseconds;

UnixMillis wall_clock() {
  return UnixMillis{static_cast<std::uint64_t>(
      std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count())};
}

constexpr std::string_view kSecret = "a reason that nobody is to read again";
constexpr std::string_view kKept = "a reason that stays";

Bytes file_of(std::string_view text) {
  return Bytes(100'000, static_cast<std::uint8_t>(text[0]));
}

class ErasureContract : public ::testing::Test {
 protected:
  ErasureContract() {
    const std::string log_vkey =
        vkey_text(company.company.policy.origin, 0x01, company.company.log.public_key());
    for (const char* name : {"witness-one", "witness-two", "witness-three"})
      witnesses.push_back(std::make_unique<WitnessProcess>(SALLYPORT_WITNESS_PROGRAM, name,
                                                           std::vector<std::string>{log_vkey}));
    // Long ago: two cases that share a file, and each has one of its own.
    const auto old_case = [&](std::string_view reason, std::string_view own) {
      const auto open =
          company.granted({.reason = std::string{reason},
                           .attachments = {{"own", file_of(own)}, {"shared", file_of("shared")}}});
      return open.id;
    };
    secret = old_case(kSecret, "1");
    kept = old_case(kKept, "2");
    company.advance(milliseconds{wall_clock().get() - company.now.get()} - std::chrono::minutes{1});
    // And today, with witnesses that answer.
    value_of(company.change_policy([&](SamplePolicy& policy) {
      policy.witnesses.clear();
      for (const auto& one : witnesses)
        policy.witnesses.push_back({one->vkey().name(), one->vkey().key(), one->url()});
      policy.witness_quorum = 2;
    }));
    store_all(database("one"));
    options.origin = company.origin();
    options.genesis_policy = company.genesis;
    options.recosign_after = milliseconds{100};
    options.snapshot_leaves = 2;
    start();
  }

  std::vector<std::unique_ptr<WitnessProcess>> witnesses;
  RecordScenario company{[](SampleCompany& sample) {
    sample.policy.erase = RecordScenario::kErase;
    sample.policy.hold = "us-legal";
  }};
  CaseId secret, kept;
  TemporaryDirectory directory;
  ledger_service::SequencerOptions options;
  std::shared_ptr<SoftSigner> signer;
  std::shared_ptr<Sequencer> log;

  std::string database(const std::string& name) const { return directory / (name + ".db"); }

  // store_all writes the company's log as a broker has stored it.
  void store_all(const std::string& path) {
    const auto store = value_of(store::open_sqlite(path));
    const store::Head next{TreeSize{company.entries.size()}, company.tree.root()};
    value_of(store->append(value_of(store->head()), company.entries,
                           ledger_service::kept_subtrees({}, company.entries), next));
  }
  Result<std::shared_ptr<Sequencer>> open(const std::string& name) {
    SP_TRY(auto store, store::open_sqlite(database(name)));
    SP_TRY(auto opened, Sequencer::start(std::move(store), signer, options, wall_clock));
    return std::shared_ptr<Sequencer>{std::move(opened)};
  }
  void start() {
    if (!signer)
      signer = std::make_shared<SoftSigner>(directory / "follow.db", anchor(), company.company.log);
    log = value_of(open("one"));
  }
  void restart() {
    log.reset();
    start();
  }
  follow::TrustAnchor anchor() const { return {company.origin(), company.genesis}; }

  // sync replays what the log holds into `company`.
  void sync() {
    std::uint64_t size = 0;
    log->read([&](const State& state) { size = state.control.size().get(); });
    while (company.entries.size() < size)
      value_of(company.append(value_of(log->entry(LeafIndex{company.entries.size()}))));
    company.now = wall_clock();
  }
  Appended append(Kind kind, const CaseId& id, const Submission& submission) {
    const Appended done = value_of(log->append([&](const State& state, UnixMillis time) -> Result<Entry> {
      return make_entry(kind, time, id, predecessor_of(state.control, id), submission.envelope,
                        submission.blobs, crypto::random_nonce());
    }));
    sync();
    return done;
  }
  LeafIndex first_of(const CaseId& id) const {
    const auto at = std::find_if(company.entries.begin(), company.entries.end(),
                                 [&](const Entry& one) { return one.leaf.case_id == id; });
    return LeafIndex{static_cast<std::uint64_t>(at - company.entries.begin())};
  }
  Appended revoke() {
    const CaseId id = crypto::random_case_id();
    const Revocation revocation{.authority = company.origin().get(),
                                .case_id = id,
                                .kind = RevocationKind::kPerson,
                                .person = SampleCompany::id("ivan"),
                                .reason = "drill",
                                .target = "mallory",
                                .time = wall_clock()};
    return append(Kind::kRevocation, id,
                  {company.sign(Kind::kRevocation, revocation, company.company.token("ivan")), {}});
  }
  // erase has the quorum erase `cases`.
  Appended erase(const std::vector<CaseId>& cases) {
    const CaseId id = crypto::random_case_id();
    company.now = wall_clock();
    append(Kind::kErasureProposed, id, company.erasure_proposal(id, cases));
    for (const char* person : {"grace", "heidi", "carol"})
      append(Kind::kApproval, id, company.make_approval(id, person, {}));
    const Appended done = value_of(log->append([&](const State& state, UnixMillis time) {
      return compose_erasure(state, id, time, crypto::random_nonce());
    }));
    sync();
    return done;
  }

  // stored reads a database as an operator could.
  std::vector<Entry> stored(const std::string& path) const {
    const auto store = value_of(store::open_sqlite(path));
    std::vector<Entry> out;
    value_of(store->read(LeafIndex{0}, 10'000, [&](store::StoredEntry one) -> Status {
      out.push_back(std::move(one.entry));
      return Done{};
    }));
    return out;
  }
  bool is_gone(const std::string& path, const CaseId& id) const {
    const auto entries = stored(path);
    return std::all_of(entries.begin(), entries.end(),
                       [&](const Entry& one) { return one.leaf.case_id != id || is_erased(one); });
  }
  // on_disk tells whether bytes are in any file of a database.
  bool on_disk(const std::string& path, ByteView bytes) const {
    for (const char* suffix : {"", "-wal"}) {
      if (!std::filesystem::exists(path + suffix)) continue;
      const Bytes file = read_file(path + suffix);
      if (std::search(file.begin(), file.end(), bytes.begin(), bytes.end()) != file.end()) return true;
    }
    return false;
  }
  // Statements are base64 in their bodies, so the reason is looked for as it is stored.
  Bytes body_of(const CaseId& id) const {
    const auto at = std::find_if(company.entries.begin(), company.entries.end(),
                                 [&](const Entry& one) { return one.leaf.case_id == id; });
    return Bytes{at->body.begin() + 200, at->body.begin() + 600};  // beyond the header, in its first page
  }
  bool holds(const std::string& path, std::string_view own) const {
    const auto store = value_of(store::open_sqlite(path));
    const Blob blob{EvidenceType::kAttachment, file_of(own)};
    return value_of(store->find_blob(item_of(blob).sha256)).has_value();
  }
  void expect_erased(const std::string& path) {
    ASSERT_TRUE(poll_until([&] { return is_gone(path, secret); }));
    EXPECT_FALSE(is_gone(path, kept));
    EXPECT_FALSE(holds(path, "1"));
    EXPECT_TRUE(holds(path, "2"));
    EXPECT_TRUE(holds(path, "shared"));  // the kept case has it too
    EXPECT_TRUE(poll_until([&] { return !on_disk(path, body_of(secret)); }));
    EXPECT_FALSE(on_disk(path, Bytes(5'000, static_cast<std::uint8_t>('1'))));
    EXPECT_TRUE(on_disk(path, body_of(kept)));
  }
};

TEST_F(ErasureContract, WhatIsErasedIsInNoFileAndTheLogGoesOn) {
  ASSERT_TRUE(on_disk(database("one"), body_of(secret)));
  const Appended erased = erase({secret});
  expect_erased(database("one"));
  ASSERT_THAT(log->wait_proven(TreeSize{erased.index.get() + 1}, milliseconds{20'000}), Succeeds());

  restart();
  EXPECT_TRUE(is_erased(value_of(log->entry(first_of(secret)))));
  EXPECT_FALSE(is_erased(value_of(log->entry(first_of(kept)))));
  const Appended next = revoke();
  EXPECT_THAT(log->wait_proven(TreeSize{next.index.get() + 1}, milliseconds{20'000}), Succeeds());
  log->read([&](const State& state) {
    EXPECT_EQ(encode_control(state.control), encode_control(company.state.control));
  });
}

TEST_F(ErasureContract, WhoBeginsNowJoinsFromASnapshotAndWhoWantsAllIsToldThatItWasErased) {
  erase({secret});
  expect_erased(database("one"));
  restart();
  const auto bytes = value_of(log->joining());
  ASSERT_NE(bytes, nullptr);
  const Joining joining = value_of(parse_joining(*bytes));
  const auto file = directory / "client.db";
  value_of(follow::Follower::create(file, anchor(), follow::Begin::kFromSnapshot));
  const auto follower = value_of(follow::Follower::open(file, anchor()));
  const TreeSize after{joining.before.size().get() + joining.leaves.size() + 1};
  ASSERT_THAT(log->wait_proven(after, milliseconds{20'000}), Succeeds());
  value_of(follower->join(joining, value_of(log->batch(LeafIndex{after.get()}))));
  EXPECT_EQ(encode_control(*follower->control()), encode_control(company.follower));
  EXPECT_THAT(log->batch(LeafIndex{0}), FailsWith(Reason::kErased));
}

TEST_F(ErasureContract, NothingIsDeletedBehindWhichFollowersWouldHaveToBegin) {
  options.snapshot_leaves = 1'000'000;
  options.snapshot_every = hours{24 * 365};
  restart();
  erase({secret});
  const auto store = value_of(store::open_sqlite(database("one")));
  revoke();
  EXPECT_EQ(value_of(store->erased_to()), LeafIndex{0});
  EXPECT_FALSE(is_gone(database("one"), secret));
  options.snapshot_every = hours{24};  // the log begins long ago: one is due
  restart();
  revoke();
  expect_erased(database("one"));
}

TEST_F(ErasureContract, NothingIsDeletedBeforeWitnessesHaveCosignedTheErasure) {
  for (int i = 0; i < 3; ++i) revoke();  // and a snapshot
  ASSERT_THAT(log->wait_proven(TreeSize{company.entries.size()}, milliseconds{20'000}), Succeeds());
  ASSERT_NE(value_of(log->joining()), nullptr);
  witnesses[0]->kill();
  witnesses[1]->kill();
  erase({secret});
  for (int i = 0; i < 20; ++i) revoke();
  EXPECT_FALSE(is_gone(database("one"), secret));
  EXPECT_TRUE(holds(database("one"), "1"));
  witnesses[0]->start();
  expect_erased(database("one"));
}

TEST_F(ErasureContract, AMissingBodyThatNobodyHadErasedStopsTheStart) {
  log.reset();
  {
    const auto db = value_of(sqlite::Database::open(database("one")));
    sqlite::Statement update{*db, "UPDATE entry SET nonce = zeroblob(32), body = x'' WHERE idx = ?"};
    for (std::size_t i = 0; i < company.entries.size(); ++i) {
      if (company.entries[i].leaf.case_id != secret) continue;
      update.reset();
      value_of(update.bind(std::uint64_t{i}).run());
    }
  }
  EXPECT_THAT(open("one"), FailsWith(Reason::kLogMissingBody));
}

TEST_F(ErasureContract, AnErasureThatAStopInterruptedIsFinishedByTheNextStart) {
  const Appended erased = erase({secret});
  expect_erased(database("one"));
  log.reset();
  // As a crash leaves it right before the deletion: with all that was there, and the erasure in the log.
  const auto kept_entries = company.entries;
  {
    const auto db = value_of(sqlite::Database::open(database("one")));
    sqlite::Statement update{*db, "UPDATE entry SET nonce = ?, body = ? WHERE idx = ?"};
    for (std::size_t i = 0; i < erased.index.get(); ++i) {
      update.reset();
      value_of(
          update.bind(view(kept_entries[i].nonce)).bind(kept_entries[i].body).bind(std::uint64_t{i}).run());
    }
    value_of(db->execute("DELETE FROM erased"));
  }
  const auto store = value_of(store::open_sqlite(database("one")));
  for (const Entry& entry : kept_entries)
    for (const Blob& blob : entry.blobs) value_of(store->put_blob(blob));
  ASSERT_FALSE(is_gone(database("one"), secret));
  start();
  expect_erased(database("one"));
}

TEST_F(ErasureContract, AHeldCaseIsKept) {
  const CaseId hold = crypto::random_case_id();
  const Hold statement{.authority = company.origin().get(),
                       .case_id = hold,
                       .cases = {secret},
                       .person = SampleCompany::id("dana"),
                       .reason = "a court has asked",
                       .time = wall_clock()};
  append(Kind::kHold, hold, {company.sign(Kind::kHold, statement, company.company.token("dana")), {}});
  const CaseId id = crypto::random_case_id();
  EXPECT_THAT(log->append([&](const State& state, UnixMillis time) -> Result<Entry> {
    const Submission proposal = company.erasure_proposal(id, {secret});
    return make_entry(Kind::kErasureProposed, time, id, predecessor_of(state.control, id), proposal.envelope,
                      {}, crypto::random_nonce());
  }),
              FailsWith(Reason::kErasureHeld));
}

TEST_F(ErasureContract, TheBrokerNamesWhatCanBeErasedAndTakesNothingElse) {
  sessions::Broker broker{log, nullptr, wall_clock};
  sessions::Peer grace;
  grace.person = PersonId{SampleCompany::id("grace")};
  std::vector<CaseId> both{secret, kept};
  std::sort(both.begin(), both.end());
  EXPECT_EQ(value_of(broker.erasable(grace, wall_clock())), both);
  EXPECT_TRUE(value_of(broker.erasable(grace, UnixMillis{company.entries[0].leaf.time})).empty());
  EXPECT_THAT(broker.erasable({}, wall_clock()), FailsWith(Reason::kNotSignedIn));
  const auto propose = [&](std::vector<CaseId> cases) {
    const CaseId id = crypto::random_case_id();
    company.now = wall_clock();
    return broker.submit(grace, company.erasure_proposal(id, std::move(cases)));
  };
  EXPECT_THAT(propose({company.entries[0].leaf.case_id}), FailsWith(Reason::kErasureCase));
  EXPECT_THAT(propose({crypto::random_case_id()}), FailsWith(Reason::kErasureCase));
  const auto told = value_of(propose({secret}));
  EXPECT_EQ(told.state, "open");
  sync();
  for (const char* person : {"grace", "heidi", "carol"}) {
    sessions::Peer peer;
    peer.person = PersonId{SampleCompany::id(person)};
    const auto answer = value_of(broker.submit(peer, company.make_approval(told.case_id, person, {})));
    EXPECT_EQ(answer.state, std::string{person} == "carol" ? "closed" : "open");
  }
  sync();
  expect_erased(database("one"));
  EXPECT_EQ(value_of(broker.erasable(grace, wall_clock())), std::vector<CaseId>{kept});
  EXPECT_THAT(propose({secret}), FailsWith(Reason::kErased));
  broker.stop_waiting();
}

// A standby's store is the writer's, entry by entry.
class StandbyErases : public ErasureContract {
 protected:
  std::unique_ptr<Standby> open_standby() {
    return value_of(
        Standby::open(value_of(store::open_sqlite(database("standby"))), company.origin(), company.genesis));
  }
  // stream sends entries [from, to) as a primary does, without attachments, and then those.
  static void stream(Standby& standby, const std::vector<Entry>& entries, std::size_t from, std::size_t to,
                     const ledger::Tree& tree) {
    ledger_service::StreamedEntries page{value_of(tree.root(TreeSize{from})), {LeafIndex{from}, {}}};
    for (std::size_t i = from; i < to; ++i) {
      Entry entry = entries[i];
      std::erase_if(entry.blobs, [](const Blob& blob) { return blob.type == EvidenceType::kAttachment; });
      page.page.entries.push_back(std::move(entry));
    }
    value_of(standby.take(value_of(ledger_service::parse_streamed_entries(ledger_service::encode(page)))));
    for (std::size_t i = from; i < to; ++i)
      for (const Blob& blob : entries[i].blobs)
        if (blob.type == EvidenceType::kAttachment) value_of(standby.take(blob));
  }
};

TEST_F(StandbyErases, WhatItHoldsWhenItIsToldOfTheErasure) {
  const std::size_t before = company.entries.size();
  std::vector<Entry> entries = company.entries;
  auto standby = open_standby();
  stream(*standby, entries, 0, before, company.tree);
  ASSERT_TRUE(on_disk(database("standby"), body_of(secret)));
  erase({secret});
  revoke();
  stream(*standby, company.entries, before, company.entries.size(), company.tree);
  EXPECT_FALSE(is_gone(database("standby"), secret));  // no witness has said so to this one yet
  ASSERT_THAT(log->wait_proven(TreeSize{company.entries.size()}, milliseconds{20'000}), Succeeds());
  value_of(standby->take(
      ledger_service::StreamedNotes{ledger_service::NoteKind::kCosigned, {log->cosigned_note()}}));
  expect_erased(database("standby"));
  EXPECT_EQ(standby->health().refused, "");
  standby.reset();
  standby = open_standby();
  EXPECT_EQ(value_of(standby->standing()).head.root, company.tree.root());
}

TEST_F(StandbyErases, AndTakesALogOfWhichPartWasErasedBefore) {
  erase({secret});
  revoke();
  expect_erased(database("one"));
  auto standby = open_standby();
  const auto erased = company.erased_entries({secret});
  stream(*standby, erased, 0, 30, company.tree);
  EXPECT_THAT(standby->health().refused, testing::HasSubstr("log/missing-body"));
  stream(*standby, erased, 30, erased.size(), company.tree);
  EXPECT_EQ(standby->health().refused, "");
  standby.reset();

  // And goes on as the writer.
  log.reset();
  log = value_of(open("standby"));
  const Appended next = revoke();
  EXPECT_THAT(log->wait_proven(TreeSize{next.index.get() + 1}, milliseconds{20'000}), Succeeds());
}

TEST_F(StandbyErases, ButDoesNotBecomeTheWriterOfALogThatLacksABody) {
  auto standby = open_standby();
  const auto lacking = company.erased_entries({secret});
  stream(*standby, lacking, 0, lacking.size(), company.tree);
  EXPECT_THAT(standby->health().refused, testing::HasSubstr("log/missing-body"));
  standby.reset();
  log.reset();
  EXPECT_THAT(open("standby"), FailsWith(Reason::kLogMissingBody));
}

}  // namespace
}  // namespace sallyport::test

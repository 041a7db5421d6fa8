#include "attestation/follow/follower.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/sqlite/sqlite.h"
#include "tests/support/files.h"
#include "tests/support/joining.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::test {
namespace {

using follow::Follower;
using record::Batch;
using record::Entry;

class FollowTest : public ::testing::Test {
 protected:
  FollowTest() {
    value_of(Follower::create(file, anchor()));
    open();
  }
  RecordScenario company;
  TemporaryDirectory directory;
  std::filesystem::path file = directory / "follow.db";
  std::unique_ptr<Follower> follower;

  follow::TrustAnchor anchor() const { return {company.origin(), company.genesis}; }
  void open() {
    follower.reset();
    follower = value_of(Follower::open(file, anchor()));
  }
  Batch batch(std::size_t from, std::size_t to) const {
    Batch out;
    out.from = LeafIndex{from};
    for (std::size_t i = from; i < to; ++i) {
      out.leaves.push_back(company.entries[i].leaf);
      if (record::is_control(value_of(record::parse_kind(company.entries[i].leaf.kind))))
        out.controls.push_back({LeafIndex{i}, company.entries[i]});
    }
    return out;
  }
  std::string note(std::size_t size, std::size_t witnesses = 3) const {
    ledger::Tree tree;
    for (std::size_t i = 0; i < size; ++i) tree.append(ledger::leaf_hash(company.entries[i].leaf));
    return company.cosign(tree, witnesses, company.now);
  }
  Batch noted(std::size_t from, std::size_t to) const {
    Batch out = batch(from, to);
    out.note = note(to);
    return out;
  }
  std::size_t size() const { return company.entries.size(); }
  // unchanged tells whether the follower still is where it was, also on disk.
  void expect_at(std::size_t leaves) {
    EXPECT_EQ(follower->control()->size().get(), leaves);
    open();
    EXPECT_EQ(follower->control()->size().get(), leaves);
  }
};

TEST_F(FollowTest, TakesLeavesUnderACosignedCheckpointAndKeepsThem) {
  company.granted();
  EXPECT_EQ(follower->noted(), nullptr);
  value_of(follower->accept(noted(0, 1)));
  value_of(follower->accept(noted(1, size())));
  EXPECT_EQ(follower->control()->root(), company.tree.root());
  open();
  EXPECT_EQ(follower->control()->root(), company.tree.root());
  EXPECT_EQ(follower->note(), note(size()));
  ASSERT_NE(follower->noted(), nullptr);
  EXPECT_EQ(follower->noted()->root(), company.tree.root());
  EXPECT_EQ(value_of(follower->leaf(company.last_index())), company.entries.back().leaf);
  EXPECT_THAT(follower->leaf(LeafIndex{size()}), FailsWith(Reason::kLogOrder));
}

// Two commands of one person, each with its own follower in the same file.
TEST_F(FollowTest, GoesOnWhereAnotherProcessHasFollowedTo) {
  company.granted();
  value_of(follower->accept(noted(0, 1)));
  const auto other = value_of(Follower::open(file, anchor()));
  value_of(other->accept(noted(1, size() - 1)));
  EXPECT_THAT(follower->accept(noted(1, size())), FailsWith(Reason::kLogOrder));
  EXPECT_EQ(follower->control()->size().get(), size() - 1);
  EXPECT_EQ(follower->note(), note(size() - 1));
  value_of(follower->accept(noted(size() - 1, size())));
  expect_at(size());
}

TEST_F(FollowTest, ListsTheMachinesThatWereEnrolledRevokedOnesToo) {
  EXPECT_TRUE(follower->control()->devices().empty());
  const DeviceId laptop = company.machine("laptop").device(), tower = company.machine("tower", "cn").device();
  company.granted();
  value_of(company.revoke(record::RevocationKind::kDevice, to_hex(laptop)));
  value_of(follower->accept(noted(0, size())));
  for (int opened = 0; opened < 2; ++opened, open()) {
    const auto devices = follower->control()->devices();
    ASSERT_GE(devices.size(), 2U);
    const auto find = [&](const DeviceId& id) {
      return std::find_if(devices.begin(), devices.end(), [&](const auto& one) { return one.id == id; });
    };
    ASSERT_LT(find(laptop), find(tower));
    ASSERT_NE(find(tower), devices.end());
    EXPECT_EQ(find(laptop)->name, "laptop");
    EXPECT_EQ(find(tower)->name, "tower");
    EXPECT_EQ(find(tower)->region.get(), "cn");
    for (const auto& one : devices) EXPECT_NE(follower->control()->find_device(one.id), nullptr);
  }
}

TEST_F(FollowTest, WhatWasHandedOutDoesNotChange) {
  value_of(follower->accept(noted(0, 1)));
  const auto before = follower->control();
  company.request({});
  value_of(follower->accept(noted(1, size())));
  EXPECT_EQ(before->size().get(), 1u);
}

TEST_F(FollowTest, RefusesWhatLogAndWitnessesDidNotSign) {
  company.request({});
  Batch bad = batch(0, size());
  EXPECT_FALSE(follower->accept(bad).has_value());  // no note
  bad.note = note(size(), 2);
  EXPECT_THAT(follower->accept(bad), FailsWith(Reason::kLogQuorum));
  bad.note = note(size() - 1);
  EXPECT_THAT(follower->accept(bad), FailsWith(Code::kStale));  // of another size
  bad.note = note(size());
  bad.leaves.back().commitment = crypto::sha256(as_bytes("another body"));
  EXPECT_THAT(follower->accept(bad), FailsWith(Reason::kLogFork));
  RecordScenario elsewhere;
  bad = batch(0, size());
  bad.note = elsewhere.cosign();
  EXPECT_THAT(follower->accept(bad), FailsWith(Reason::kLogCheckpoint));
  expect_at(0);
}

TEST_F(FollowTest, RefusesToGoBackOrOverAGap) {
  company.granted();
  value_of(follower->accept(noted(0, size() - 1)));
  EXPECT_THAT(follower->accept(noted(0, size())), FailsWith(Code::kStale));
  EXPECT_THAT(follower->accept(noted(size(), size())), FailsWith(Code::kStale));
  Batch older = batch(size() - 1, size() - 1);
  older.note = note(1);
  EXPECT_THAT(follower->accept(older), FailsWith(Reason::kLogRollback));
  expect_at(size() - 1);
}

TEST_F(FollowTest, StopsAtAMissingOrWrongControlBody) {
  company.granted();
  Batch bad = noted(0, size());
  bad.controls.pop_back();
  EXPECT_THAT(follower->accept(bad), FailsWith(Reason::kLogMissingBody));
  bad = noted(0, size());
  bad.controls.back().entry.body.back() ^= 1;
  EXPECT_THAT(follower->accept(bad), FailsWith(Reason::kLogBody));
  bad = noted(0, size());
  bad.controls.push_back(bad.controls.back());
  EXPECT_THAT(follower->accept(bad), FailsWith(Code::kMalformed));
  bad = noted(0, size());
  bad.controls.front().entry.blobs.pop_back();  // the genesis policy without one of its blobs
  EXPECT_FALSE(follower->accept(bad).has_value());
  expect_at(0);
}

TEST_F(FollowTest, TakesNewerSignaturesOverTheSameTreeAndIgnoresOlderOnes) {
  value_of(follower->accept(noted(0, 1)));
  const std::string first = follower->note();
  company.advance(std::chrono::seconds{30});
  value_of(follower->accept(noted(1, 1)));
  const std::string second = follower->note();
  EXPECT_NE(first, second);
  Batch older = batch(1, 1);
  older.note = first;
  value_of(follower->accept(older));
  EXPECT_EQ(follower->note(), second);
  open();
  EXPECT_EQ(follower->note(), second);
}

TEST_F(FollowTest, AKeyguardTakesLeavesBeforeAnybodySignedThem) {
  company.granted();
  value_of(follower->advance(batch(0, 1)));
  EXPECT_EQ(follower->noted(), nullptr);
  Batch next = batch(1, size());
  next.note = note(1);
  value_of(follower->advance(next));
  EXPECT_EQ(follower->noted()->size().get(), 1u);
  EXPECT_EQ(follower->control()->root(), company.tree.root());
  // A note of any size that was passed on the way is compared with its root.
  Batch none = batch(size(), size());
  none.note = note(size() - 1);
  value_of(follower->advance(none));
  ledger::Tree other;
  for (std::size_t i = 0; i < size(); ++i) other.append(crypto::sha256(as_bytes("other")));
  none.note = company.cosign(other, 3, company.now);
  EXPECT_THAT(follower->advance(none), FailsWith(Reason::kLogFork));
  other.append(crypto::sha256(as_bytes("one more")));
  none.note = company.cosign(other, 3, company.now);
  EXPECT_THAT(follower->advance(none), FailsWith(Reason::kLogRollback));
  expect_at(size());
}

TEST_F(FollowTest, JudgesACheckpointUnderThePolicyOfItsSize) {
  const auto old_witnesses = company.company.witnesses;
  value_of(company.change_policy([&](SamplePolicy& policy) {
    for (std::size_t i = 0; i < policy.witnesses.size(); ++i) {
      company.company.witnesses[i] = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
      policy.witnesses[i].key = company.company.witnesses[i].public_key();
    }
  }));
  const auto new_witnesses = std::exchange(company.company.witnesses, old_witnesses);
  const std::string before = note(size() - 1), wrong = note(size());
  company.company.witnesses = new_witnesses;
  Batch all = batch(0, size());
  all.note = wrong;  // the old witnesses over the tree that has replaced them
  EXPECT_THAT(follower->accept(all), FailsWith(Reason::kLogQuorum));
  all.note = before;
  value_of(follower->advance(all));
  open();
  EXPECT_EQ(follower->note(), before);
  value_of(follower->accept(noted(size(), size())));
}

TEST_F(FollowTest, IsMadeOnceAndNeverByItself) {
  EXPECT_THAT(Follower::create(file, anchor()), FailsWith(Code::kConflict));
  EXPECT_THAT(Follower::open(directory / "none.db", anchor()), FailsWith(Reason::kStorage));
  EXPECT_FALSE(std::filesystem::exists(directory / "none.db"));
  follow::TrustAnchor other = anchor();
  other.genesis_policy = crypto::sha256(as_bytes("another policy"));
  EXPECT_THAT(Follower::open(file, other), FailsWith(Reason::kStorage));
}

TEST_F(FollowTest, StopsAtADamagedFile) {
  company.granted();
  value_of(follower->accept(noted(0, size())));
  follower.reset();
  const auto with = [&](const char* sql) {
    std::filesystem::remove_all(directory / "copy");
    std::filesystem::create_directory(directory / "copy");
    std::filesystem::copy(file, directory / "copy" / "follow.db");
    value_of(value_of(sqlite::Database::open((directory / "copy" / "follow.db").string()))->execute(sql));
    return Follower::open(directory / "copy" / "follow.db", anchor());
  };
  EXPECT_THAT(with("UPDATE anchor SET origin = origin"), Succeeds());
  for (const char* sql : {
           "DELETE FROM leaf WHERE idx = 2",
           "DELETE FROM leaf WHERE idx = (SELECT max(idx) FROM leaf)",
           "UPDATE leaf SET bytes = (SELECT bytes FROM leaf WHERE idx = 2) WHERE idx = 1",
           "DELETE FROM control WHERE idx = 0",
           "UPDATE control SET body = body || x'00'",
           "DELETE FROM control_blob WHERE idx = 0 AND position = 0",
           "UPDATE head SET root = zeroblob(32)",
           "DELETE FROM head",
           "UPDATE note SET text = 'x' || text",
           "DELETE FROM anchor",
       })
    EXPECT_FALSE(with(sql).has_value()) << sql;
}

TEST(TrustFile, SaysOriginAndFirstPolicyAndNothingElse) {
  const follow::TrustAnchor anchor{Origin{"us.corp.example/log/1"}, crypto::sha256(as_bytes("policy"))};
  const std::string text = follow::format_trust_file(anchor);
  const auto parsed = value_of(follow::parse_trust_file(text));
  EXPECT_EQ(parsed.origin, anchor.origin);
  EXPECT_EQ(parsed.genesis_policy, anchor.genesis_policy);
  for (const std::string& bad :
       {std::string{}, text + "more = 1\n", text + "origin = \"twice\"\n", std::string{"origin = \"x\"\n"},
        std::string{"origin = \"x\"\npolicy = \"sha256:12\"\n"}, std::string{"origin = 1\npolicy = 2\n"},
        std::string{"origin = \"a\\\"b\"\n"} + text.substr(text.find("policy =")), std::string(20'000, '#')})
    EXPECT_THAT(follow::parse_trust_file(bad), FailsWith(Code::kMalformed)) << bad.substr(0, 60);
}

// ---- snapshots

class JoinTest : public FollowTest {
 protected:
  JoinTest() {
    company.granted();
    value_of(company.revoke(record::RevocationKind::kPerson, "mallory"));
    value_of(company.change_policy([](SamplePolicy&) {}));
    first = size() / 2;
    joining = take_snapshot(company, first);
    after = size();
    company.granted();
    make_new();
  }
  // A follower of its own, which has taken nothing.
  void make_new(follow::Begin begin = follow::Begin::kFromSnapshot) {
    follower.reset();
    std::filesystem::remove(file);
    value_of(Follower::create(file, anchor(), begin));
    open();
  }
  std::string column(const char* sql) {
    const auto db = value_of(sqlite::Database::open(file));
    sqlite::Statement select{*db, sql};
    return value_of(select.step()) ? select.text(0) : std::string{"none"};
  }
  // fresh is what gate and keyguard ask of a follower before they act.
  Status fresh(UnixMillis now) const {
    return ledger::require_fresh(*follower->noted(), follower->control()->policy()->witnesses, now,
                                 std::chrono::seconds{120}, record::kNoteSkew);
  }
  void change(const char* sql) {
    follower.reset();
    value_of(value_of(sqlite::Database::open(file))->execute(sql));
  }
  std::size_t first = 0, after = 0;
  record::Joining joining;
};

TEST_F(JoinTest, JoinsAndGoesOnAsOneWhoHasTakenAll) {
  EXPECT_TRUE(follower->may_join());
  value_of(follower->join(joining, noted(after, size() - 2)));
  EXPECT_FALSE(follower->may_join());
  for (int opened = 0; opened < 2; ++opened, open()) {
    EXPECT_EQ(follower->control()->size().get(), size() - 2);
    EXPECT_TRUE(follower->control()->is_revoked_person("mallory"));
    EXPECT_EQ(follower->control()->policy()->policy.version, 2u);
    ASSERT_NE(follower->noted(), nullptr);
    EXPECT_EQ(follower->noted()->size().get(), size() - 2);
  }
  value_of(follower->accept(noted(size() - 2, size())));
  for (int opened = 0; opened < 2; ++opened, open())
    EXPECT_EQ(record::encode_control(*follower->control()), record::encode_control(company.follower));
}

TEST_F(JoinTest, JoinsWhereTheSnapshotIsTheNewestLeaf) {
  value_of(follower->join(joining, noted(after, after)));
  expect_at(after);
  value_of(follower->accept(noted(after, size())));
  expect_at(size());
}

TEST_F(JoinTest, HasTheLeavesOfTheCasesThatAreRememberedAndSaysSoOfOthers) {
  value_of(follower->join(joining, noted(after, size())));
  EXPECT_EQ(value_of(follower->leaf(LeafIndex{first})), company.entries[first].leaf);
  EXPECT_EQ(value_of(follower->leaf(LeafIndex{size() - 1})), company.entries[size() - 1].leaf);
  const auto older = follower->leaf(LeafIndex{first - 1});
  ASSERT_FALSE(older.has_value());
  EXPECT_NE(older.error().what.find("joined the log from a snapshot"), std::string::npos);
  // A note of an older tree, as a keyguard is given them: of the tree before the leaves there is no word.
  for (const std::size_t at : {first + 1, after - 1, after, size() - 1}) {
    Batch none = batch(size(), size());
    none.note = note(at);
    EXPECT_THAT(follower->advance(none), FailsWith(Reason::kLogRollback)) << at;
  }
}

TEST_F(JoinTest, TakesASnapshotOnlyAtTheBeginningAndOnce) {
  value_of(follower->accept(noted(0, 1)));
  EXPECT_FALSE(follower->may_join());
  EXPECT_THAT(follower->join(joining, noted(after, size())), FailsWith(Code::kConflict));
  make_new(follow::Begin::kFromStart);
  EXPECT_FALSE(follower->may_join());
}

TEST_F(JoinTest, RefusesATreeThatLogAndWitnessesDidNotSign) {
  Batch unsigned_tail = batch(after, size());
  EXPECT_FALSE(follower->join(joining, unsigned_tail).has_value());
  unsigned_tail.note = note(size(), 2);
  EXPECT_THAT(follower->join(joining, unsigned_tail), FailsWith(Reason::kLogQuorum));
  Batch forked = noted(after, size());
  const auto bodiless = std::find_if(forked.leaves.begin(), forked.leaves.end(), [](const auto& leaf) {
    return leaf.kind == static_cast<std::uint8_t>(record::Kind::kRequest);
  });
  ASSERT_NE(bodiless, forked.leaves.end());
  bodiless->commitment = crypto::sha256(as_bytes("another body"));
  EXPECT_THAT(follower->join(joining, forked), FailsWith(Reason::kLogFork));
  Batch gap = noted(after + 1, size());
  EXPECT_THAT(follower->join(joining, gap), FailsWith(Code::kStale));
  Batch older = batch(after, size());
  older.note = note(after);
  EXPECT_THAT(follower->join(joining, older), FailsWith(Code::kStale));
  expect_at(0);
}

// Everything that it is given is of one real log, up to a snapshot with a machine of nobody's. The leaf that
// commits to it is in no tree that was signed.
TEST_F(JoinTest, RefusesAStateWithAMachineThatNobodyEnrolled) {
  record::Joining forged = joining;
  std::string bytes{as_text(forged.state)};
  bytes.replace(bytes.find("laptop"), 6, "lapdog");
  forged.state = to_bytes(as_bytes(bytes));
  EXPECT_THAT(follower->join(forged, noted(after, size())), FailsWith(Reason::kLogSnapshot));
  const Digest256 state = crypto::sha256(forged.state);
  const std::uint64_t before = after - 1;
  const record::Snapshot statement{.authority = company.origin().get(),
                                   .case_id = record::snapshot_case(company.origin(), before, state),
                                   .size = before,
                                   .state = state};
  forged.snapshot = record::make_entry(
      record::Kind::kSnapshot, joining.snapshot.leaf.time, statement.case_id, ledger::kNoPredecessor,
      record::encode_envelope({record::payload_type(record::Kind::kSnapshot), record::encode(statement), {}}),
      {}, Nonce{});
  EXPECT_THAT(follower->join(forged, noted(after, size())), FailsWith(Reason::kLogFork));
  expect_at(0);
}

TEST_F(JoinTest, StopsAtAMissingOrInconsistentControlBodyAlsoAfterJoining) {
  Batch bad = noted(after, size());
  bad.controls.pop_back();
  EXPECT_THAT(follower->join(joining, bad), FailsWith(Reason::kLogMissingBody));
  bad = noted(after, size());
  bad.controls.back().entry.body.back() ^= 1;
  EXPECT_THAT(follower->join(joining, bad), FailsWith(Reason::kLogBody));
  expect_at(0);
  value_of(follower->join(joining, noted(after, after)));
  bad = noted(after, size());
  bad.controls.pop_back();
  EXPECT_THAT(follower->accept(bad), FailsWith(Reason::kLogMissingBody));
  bad = noted(after, size());
  bad.controls.front().entry.body.back() ^= 1;
  EXPECT_THAT(follower->accept(bad), FailsWith(Reason::kLogBody));
  expect_at(after);
}

// An old snapshot with the note of its day: what it is worth is in the times of the cosignatures.
TEST_F(JoinTest, AnOldSnapshotIsAsOldAsItsNoteSays) {
  const std::string of_then = note(after);
  company.advance(std::chrono::hours{1});
  Batch old = batch(after, after);
  old.note = of_then;
  value_of(follower->join(joining, old));
  EXPECT_THAT(fresh(company.now), FailsWith(Code::kStale));
  value_of(follower->accept(noted(after, size())));  // an honest broker leads it to the present
  EXPECT_THAT(fresh(company.now), Succeeds());
}

TEST_F(JoinTest, AClockAnHourOffInEitherDirectionIsRefused) {
  value_of(follower->join(joining, noted(after, size())));
  using record::operator+;
  EXPECT_THAT(fresh(company.now), Succeeds());
  EXPECT_THAT(fresh(company.now + std::chrono::hours{1}), FailsWith(Code::kStale));
  EXPECT_THAT(fresh(company.now + -std::chrono::hours{1}), FailsWith(Code::kStale));
}

TEST_F(JoinTest, TwoProcessesOfOneFileJoinOnce) {
  const auto other = value_of(Follower::open(file, anchor()));
  value_of(other->join(joining, noted(after, size())));
  EXPECT_THAT(follower->join(joining, noted(after, size())), FailsWith(Reason::kLogOrder));
  EXPECT_EQ(follower->control()->size().get(), size());
}

// ---- restarts from a snapshot of its own

TEST_F(JoinTest, OneThatHasTakenAllStartsFromTheNewestSnapshot) {
  make_new(follow::Begin::kFromStart);
  value_of(follower->accept(noted(0, size())));
  company.advance(record::kSnapshotGap);
  take_snapshot(company);
  company.request({});
  value_of(follower->accept(noted(follower->control()->size().get(), size())));
  EXPECT_EQ(column("SELECT COUNT(*) FROM snapshot"), "2");
  EXPECT_EQ(column("SELECT COUNT(*) FROM snapshot WHERE state IS NOT NULL"), "1");
  open();
  EXPECT_EQ(record::encode_control(*follower->control()), record::encode_control(company.follower));
  // It does not read what came before; leaf() still does.
  change(
      "DELETE FROM control WHERE idx BETWEEN 2 AND 5 AND idx NOT IN (SELECT idx FROM leaf WHERE "
      "substr(bytes, 2, 1) = x'01')");
  open();
  EXPECT_EQ(follower->control()->size().get(), size());
  EXPECT_EQ(value_of(follower->leaf(LeafIndex{1})), company.entries[1].leaf);
}

TEST_F(JoinTest, ADamagedSnapshotIsRefusedNotReplaced) {
  value_of(follower->join(joining, noted(after, size())));
  const auto refused = [&](const char* sql, const char* why) {
    const std::filesystem::path kept = directory / "kept.db";
    follower.reset();
    std::filesystem::copy_file(file, kept, std::filesystem::copy_options::overwrite_existing);
    change(sql);
    const auto opened = Follower::open(file, anchor());
    ASSERT_FALSE(opened.has_value()) << sql;
    EXPECT_EQ(opened.error().reason, Reason::kStorage) << sql;
    EXPECT_NE(opened.error().what.find(why), std::string::npos) << opened.error().what;
    std::filesystem::copy_file(kept, file, std::filesystem::copy_options::overwrite_existing);
  };
  {
    const auto db = value_of(sqlite::Database::open(file));
    value_of(db->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  }
  refused("UPDATE snapshot SET state = substr(state, 1, length(state) - 1)", "the snapshot at leaf");
  refused("UPDATE snapshot SET state = zeroblob(100)", "the snapshot at leaf");
  refused("UPDATE snapshot SET state = NULL", "the snapshot at leaf");
  refused("DELETE FROM snapshot", "the snapshot that it joined from is missing");
  refused("DELETE FROM control WHERE idx = 0", "the snapshot at leaf");
  refused("DELETE FROM control WHERE idx = (SELECT MAX(idx) FROM snapshot)", "a control body is missing");
  refused(
      "UPDATE leaf SET bytes = (SELECT bytes FROM leaf WHERE idx = 0) WHERE idx = (SELECT MAX(idx) FROM "
      "snapshot)",
      "the snapshot at leaf");
  open();
  expect_at(size());
}

TEST_F(JoinTest, AFileOfBeforeThereWereSnapshotsIsTaken) {
  make_new(follow::Begin::kFromStart);
  value_of(follower->accept(noted(0, after - 1)));
  change(
      "DROP TABLE snapshot; DROP TABLE joined; DROP TABLE former; ALTER TABLE anchor DROP COLUMN from_start; "
      "PRAGMA user_version = 1");
  open();
  EXPECT_FALSE(follower->may_join());
  value_of(follower->accept(noted(after - 1, size())));
  expect_at(size());
  change("PRAGMA user_version = 3");
  EXPECT_THAT(Follower::open(file, anchor()), FailsWith(Reason::kStorage));
}

// A copy of an older file, as a VM's snapshot leaves it: with a broker that withholds what is newer there is
// no fresh word, and with an honest one it goes on.
TEST_F(JoinTest, AnOlderCopyOfTheFileNeverBecomesThePresent) {
  value_of(follower->join(joining, noted(after, size() - 1)));
  follower.reset();
  {
    const auto db = value_of(sqlite::Database::open(file));
    value_of(db->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  }
  std::filesystem::copy_file(file, directory / "copy.db");
  open();
  const std::string of_then = follower->note();
  company.advance(std::chrono::minutes{10});
  value_of(company.revoke(record::RevocationKind::kPerson, "trent"));
  value_of(follower->accept(noted(follower->control()->size().get(), size())));
  EXPECT_TRUE(follower->control()->is_revoked_person("trent"));

  follower.reset();
  std::filesystem::remove(file);
  std::filesystem::remove(file.string() + "-wal");
  std::filesystem::copy_file(directory / "copy.db", file);
  open();
  EXPECT_FALSE(follower->control()->is_revoked_person("trent"));
  Batch withheld = batch(follower->control()->size().get(), follower->control()->size().get());
  withheld.note = of_then;
  value_of(follower->accept(withheld));
  EXPECT_THAT(fresh(company.now), FailsWith(Code::kStale));
  value_of(follower->accept(noted(follower->control()->size().get(), size())));
  EXPECT_TRUE(follower->control()->is_revoked_person("trent"));
}

}  // namespace
}  // namespace sallyport::test

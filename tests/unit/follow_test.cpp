#include "attestation/follow/follower.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/sqlite/sqlite.h"
#include "tests/support/files.h"
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

}  // namespace
}  // namespace sallyport::test

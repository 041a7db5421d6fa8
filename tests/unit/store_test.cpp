#include "broker/store/store.h"

#include <algorithm>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/compact_range.h"
#include "attestation/ledger/merkle.h"
#include "attestation/sqlite/sqlite.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::test {
namespace {

using record::Blob;
using record::Entry;
using record::EvidenceType;
using store::Head;
using store::Store;

class StoreTest : public ::testing::Test {
 protected:
  TemporaryDirectory directory;
  std::string path = directory / "log.db";
  std::unique_ptr<Store> store = value_of(store::open_sqlite(path));
  RecordScenario company;

  // What one append of entries [from, to) of the scenario writes.
  struct Append {
    Head old, next;
    std::vector<Entry> entries;
    std::vector<store::Subtree> subtrees;
  };
  Append prepare(std::size_t from, std::size_t to) const {
    Append out;
    ledger::CompactRange range;
    for (std::size_t i = 0; i < to; ++i) {
      if (i == from) out.old = {range.size(), range.root()};
      const Digest256 hash = ledger::leaf_hash(company.entries[i].leaf);
      range.append(hash, [&](unsigned level, std::uint64_t index, const Digest256& node) {
        if (i >= from && store::is_kept(level)) out.subtrees.push_back({level, index, node});
      });
      if (i < from) continue;
      out.entries.push_back(company.entries[i]);
    }
    out.next = {range.size(), range.root()};
    return out;
  }
  Status append(const Append& a) { return store->append(a.old, a.entries, a.subtrees, a.next); }
  void reopen() {
    store.reset();
    store = value_of(store::open_sqlite(path));
  }
  sqlite::Database& raw() {
    if (!raw_) raw_ = value_of(sqlite::Database::open(path));
    return *raw_;
  }
  std::unique_ptr<sqlite::Database> raw_;
};

TEST_F(StoreTest, BeginsEmpty) {
  EXPECT_EQ(value_of(store->head()).size.get(), 0u);
  EXPECT_EQ(value_of(store->head()).root, ledger::empty_root());
  EXPECT_FALSE(value_of(store->newest_signed()));
  EXPECT_FALSE(value_of(store->newest_cosigned()));
  EXPECT_THAT(store->subtree(0, 0), FailsWith(Reason::kStorage));
}

TEST_F(StoreTest, GivesBackWhatWasAppendedAlsoAfterItWasOpenedAgain) {
  while (company.entries.size() < 40) company.granted();
  const std::size_t size = company.entries.size();
  value_of(append(prepare(0, 1)));
  value_of(append(prepare(1, size)));
  reopen();
  EXPECT_EQ(value_of(store->head()).size, company.tree.size());
  EXPECT_EQ(value_of(store->head()).root, company.tree.root());

  std::size_t at = 2;
  value_of(store->read(LeafIndex{2}, size, [&](store::StoredEntry stored) -> Status {
    EXPECT_EQ(stored.index.get(), at);
    EXPECT_EQ(stored.entry.leaf, company.entries[at].leaf);
    EXPECT_EQ(stored.entry.nonce, company.entries[at].nonce);
    EXPECT_EQ(stored.entry.body, company.entries[at].body);
    ++at;
    return Done{};
  }));
  EXPECT_EQ(at, size);
  EXPECT_EQ(value_of(store->leaves(LeafIndex{1}, 3)).size(), 3u);
  for (const Entry& entry : company.entries)
    for (const Blob& blob : entry.blobs)
      EXPECT_EQ(value_of(store->find_blob(record::item_of(blob).sha256)).value().bytes, blob.bytes);

  // The subtrees prove every leaf.
  const auto reader = [&](unsigned level, std::uint64_t index) { return store->subtree(level, index); };
  for (std::size_t i = 0; i < size; ++i) {
    const auto proof = value_of(ledger::inclusion_proof(LeafIndex{i}, TreeSize{size}, reader));
    EXPECT_EQ(proof, value_of(company.tree.inclusion(LeafIndex{i}, TreeSize{size})));
  }
}

TEST_F(StoreTest, AppendsOnlyToTheHeadThatWasMeantAndAllOrNothing) {
  company.granted();
  value_of(append(prepare(0, 3)));
  EXPECT_THAT(append(prepare(0, 3)), FailsWith(Code::kConflict));
  EXPECT_THAT(append(prepare(4, 5)), FailsWith(Code::kConflict));
  Append other_root = prepare(3, 4);
  other_root.old.root = crypto::sha256(as_bytes("another tree"));
  EXPECT_THAT(append(other_root), FailsWith(Code::kConflict));
  Append half = prepare(3, 6);
  half.subtrees = {{4, 0, half.next.root}, {4, 0, half.next.root}};  // fails when the entries are in
  EXPECT_THAT(append(half), FailsWith(Code::kConflict));
  EXPECT_EQ(value_of(store->head()).size.get(), 3u);
  EXPECT_EQ(value_of(store->leaves(LeafIndex{0}, 100)).size(), 3u);
  EXPECT_THAT(append(prepare(3, 6)), Succeeds());
}

TEST_F(StoreTest, TwoBrokersCannotBothAppend) {
  company.granted();
  value_of(append(prepare(0, 2)));
  const auto second = value_of(store::open_sqlite(path));
  const Append mine = prepare(2, 3), theirs = prepare(2, 4);
  value_of(second->append(theirs.old, theirs.entries, theirs.subtrees, theirs.next));
  EXPECT_THAT(append(mine), FailsWith(Code::kConflict));
  EXPECT_EQ(value_of(store->head()).size.get(), 4u);
}

TEST_F(StoreTest, ASnapshotIsOfOneMoment) {
  company.granted();
  value_of(append(prepare(0, 2)));
  const auto second = value_of(store::open_sqlite(path));
  const Append more = prepare(2, 4);
  value_of(store->snapshot([&]() -> Status {
    EXPECT_EQ(value_of(store->head()).size.get(), 2u);
    value_of(second->append(more.old, more.entries, more.subtrees, more.next));
    EXPECT_EQ(value_of(store->head()).size.get(), 2u);
    EXPECT_EQ(value_of(store->leaves(LeafIndex{0}, 100)).size(), 2u);
    return Done{};
  }));
  EXPECT_EQ(value_of(store->head()).size.get(), 4u);
  EXPECT_THAT(store->snapshot([] {
    return Status{Error{Code::kInternal, "no"}};
  }),
              FailsWith(Code::kInternal));
  EXPECT_EQ(value_of(store->head()).size.get(), 4u);
}

TEST_F(StoreTest, KeepsTheOneSignedNoteOfASizeAndTheNewestCosignedOne) {
  value_of(store->put_signed(TreeSize{1}, "one"));
  value_of(store->put_signed(TreeSize{1}, "one"));
  EXPECT_THAT(store->put_signed(TreeSize{1}, "another"), FailsWith(Reason::kLogFork));
  value_of(store->put_signed(TreeSize{3}, "three"));
  value_of(store->put_cosigned(TreeSize{1}, "one, cosigned"));
  value_of(store->put_cosigned(TreeSize{1}, "one, cosigned later"));
  reopen();
  EXPECT_EQ(value_of(store->signed_note(TreeSize{1})), "one");
  EXPECT_FALSE(value_of(store->signed_note(TreeSize{2})));
  EXPECT_EQ(value_of(store->newest_signed())->size.get(), 3u);
  EXPECT_EQ(value_of(store->newest_cosigned())->note, "one, cosigned later");
  EXPECT_EQ(value_of(store->cosigned(TreeSize{0}, 10)).size(), 1u);
  EXPECT_TRUE(value_of(store->cosigned(TreeSize{2}, 10)).empty());
}

TEST_F(StoreTest, FindsDamageWhereItReads) {
  company.granted();
  value_of(append(prepare(0, company.entries.size())));
  const Blob& blob = company.entries.front().blobs.front();
  value_of(raw().execute("UPDATE blob SET bytes = bytes || x'00'"));
  EXPECT_THAT(store->find_blob(record::item_of(blob).sha256), FailsWith(Reason::kStorage));
  value_of(raw().execute("UPDATE entry SET nonce = x'00' WHERE idx = 1"));
  const auto ignore = [](const store::StoredEntry&) -> Status { return Done{}; };
  EXPECT_THAT(store->read(LeafIndex{0}, 5, ignore), FailsWith(Reason::kStorage));
  value_of(raw().execute("DELETE FROM entry WHERE idx = 3"));
  EXPECT_THAT(store->read(LeafIndex{2}, 5, ignore), FailsWith(Reason::kStorage));
  EXPECT_THAT(store->leaves(LeafIndex{2}, 5), FailsWith(Reason::kStorage));
  value_of(raw().execute("PRAGMA user_version = 1"));
  EXPECT_THAT(store::open_sqlite(path), FailsWith(Reason::kStorage));
}

TEST_F(StoreTest, KeepsWhatWasShownAndListsAttachmentsAndSignedNotes) {
  EXPECT_TRUE(value_of(store->contradictions()).empty());
  for (int i = 0; i < 2; ++i) value_of(store->put_contradiction({"w1", "a note\n"}));
  value_of(store->put_contradiction({"w2", "another\n"}));
  std::vector<Digest256> digests;
  for (const char* text : {"one", "two", "three"}) {
    const Blob blob{EvidenceType::kAttachment, to_bytes(as_bytes(text))};
    value_of(store->put_blob(blob));
    digests.push_back(record::item_of(blob).sha256);
  }
  value_of(store->put_blob({EvidenceType::kNote, to_bytes(as_bytes("no attachment"))}));
  std::sort(digests.begin(), digests.end());
  for (const std::uint64_t size : {2U, 5U, 9U}) value_of(store->put_signed(TreeSize{size}, "note\n"));
  reopen();
  const auto shown = value_of(store->contradictions());
  ASSERT_EQ(shown.size(), 2u);
  EXPECT_EQ(shown[0].witness, "w1");
  EXPECT_EQ(shown[0].note, "a note\n");
  EXPECT_EQ(value_of(store->attachments(Digest256{}, 10)), digests);
  EXPECT_EQ(value_of(store->attachments(digests[0], 1)), std::vector<Digest256>{digests[1]});
  const auto notes = value_of(store->signed_notes(TreeSize{3}, 10));
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_EQ(notes[0].size, TreeSize{5});
}

TEST_F(StoreTest, BringsAFileOfTheSchemasBeforeUpToDate) {
  value_of(append(prepare(0, 1)));
  for (const char* before : {"DROP TABLE erased; DROP TABLE contradiction; PRAGMA user_version = 2",
                             "DROP TABLE erased; PRAGMA user_version = 3"}) {
    store.reset();
    value_of(raw().execute(before));
    raw_.reset();
    store = value_of(store::open_sqlite(path));
    EXPECT_EQ(value_of(store->head()).size, TreeSize{1});
    EXPECT_EQ(value_of(store->erased_to()), LeafIndex{0});
    EXPECT_THAT(store->put_contradiction({"w1", "a note\n"}), Succeeds());
    reopen();
    EXPECT_EQ(value_of(store->contradictions()).size(), 1u);
  }
}

TEST_F(StoreTest, ErasesEntriesAndBlobsForEver) {
  company.granted();
  value_of(append(prepare(0, 3)));
  const record::Blob blob{record::EvidenceType::kAttachment, Bytes(50'000, 0x5A)};
  value_of(store->put_blob(blob));
  const Digest256 sha256 = record::item_of(blob).sha256;
  const store::Head head = value_of(store->head());
  value_of(store->erase({LeafIndex{1}}, {sha256}, LeafIndex{3}));
  reopen();
  std::vector<bool> erased;
  value_of(store->read(LeafIndex{0}, 10, [&](const store::StoredEntry& one) -> Status {
    erased.push_back(record::is_erased(one.entry));
    EXPECT_EQ(erased.back(), one.entry.nonce == Nonce{});
    return Done{};
  }));
  EXPECT_EQ(erased, (std::vector<bool>{false, true, false}));
  EXPECT_FALSE(value_of(store->find_blob(sha256)));
  EXPECT_EQ(value_of(store->erased_to()), LeafIndex{3});
  EXPECT_EQ(value_of(store->head()).root, head.root);
  EXPECT_THAT(store->erase({LeafIndex{1}}, {sha256}, LeafIndex{3}), Succeeds());  // again
}

}  // namespace
}  // namespace sallyport::test

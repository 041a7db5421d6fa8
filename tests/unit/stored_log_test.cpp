// The fold of a stored log: several threads open entries and verify signatures ahead of the one that judges.

#include "broker/ledger/stored_log.h"

#include <algorithm>

#include "attestation/record/snapshot.h"
#include "broker/store/store.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::ledger_service {
namespace {

using record::Entry;
using test::FailsWith;
using test::RecordScenario;
using test::Succeeds;
using test::value_of;

class StoredLog : public ::testing::Test {
 protected:
  // stored puts entries into a store, with whatever tree they come to.
  std::unique_ptr<store::Store> stored(const std::vector<Entry>& entries) {
    auto out = value_of(store::open_sqlite(directory / ("log-" + std::to_string(++count_) + ".db")));
    ledger::CompactRange range;
    for (const Entry& entry : entries) {
      const store::Head before{range.size(), range.root()};
      std::vector<store::Subtree> subtrees;
      range.append(ledger::leaf_hash(entry.leaf),
                   [&](unsigned level, std::uint64_t index, const Digest256& node) {
                     if (store::is_kept(level)) subtrees.push_back({level, index, node});
                   });
      value_of(out->append(before, {entry}, subtrees, {range.size(), range.root()}));
    }
    return out;
  }
  Status fold(store::Store& store, record::State& state) const {
    return fold_store(store, state,
                      [](const ledger::Leaf&, const record::OpenedEntry*) -> Status { return Done{}; });
  }
  record::State begin() const { return record::begin_state(company.origin(), company.genesis); }

  test::TemporaryDirectory directory;
  RecordScenario company;

 private:
  int count_ = 0;
};

TEST_F(StoredLog, FoldsToTheStateOfWhoeverWasThere) {
  for (int i = 0; i < 3; ++i) {
    const test::OpenCase open = company.granted();
    value_of(company.append(record::Kind::kLease, open.id, company.lease(open)));
  }
  value_of(company.change_policy([](test::SamplePolicy&) {}));
  company.granted();
  const auto store = stored(company.entries);
  for (int i = 0; i < 3; ++i) {  // whichever thread comes first
    record::State state = begin();
    ASSERT_THAT(fold(*store, state), Succeeds());
    ASSERT_THAT(check_folded(*store, state), Succeeds());
    EXPECT_EQ(record::encode_control(state.control), record::encode_control(company.follower));
    EXPECT_EQ(state.cases.size(), company.state.cases.size());
    EXPECT_EQ(state.boots, company.state.boots);
    EXPECT_EQ(state.stopped, company.state.stopped);
  }
}

TEST_F(StoredLog, StopsAtTheFirstEntryThatDoesNotFold) {
  company.granted();
  const std::size_t before = company.entries.size();
  company.granted();
  std::vector<Entry> entries = company.entries;
  entries.back().body.back() ^= 1;  // a later one, which another thread may find first
  entries[before].body.back() ^= 1;
  const auto store = stored(entries);
  record::State state = begin();
  EXPECT_FALSE(fold(*store, state).has_value());
  EXPECT_EQ(state.control.size().get(), before);
}

}  // namespace
}  // namespace sallyport::ledger_service

// What a follower does with a long log: it takes all of it from the first leaf on, or joins from the newest
// snapshot, and opens again what it has. Against what none of these can leave out.

#include <ctime>
#include <map>

#include "attestation/follow/follower.h"
#include "attestation/ledger/compact_range.h"
#include "attestation/sqlite/sqlite.h"
#include "tests/bench/floor.h"
#include "tests/support/files.h"
#include "tests/support/joining.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::bench {
namespace {

using follow::Follower;
using record::Batch;
using test::RecordScenario;
using test::value_of;

constexpr std::size_t kAfterSnapshot = 2'000;  // leaves that came after the newest one

// Log is what a broker sends of a log of granted accesses, each with a lease and a session, 20 minutes apart:
// the batches from the first leaf on; and what one joins from, with the batches after it.
struct Log {
  follow::TrustAnchor anchor;
  std::size_t leaves = 0;
  std::vector<Bytes> batches, after;
  Bytes joining;

  explicit Log(std::size_t size) {
    RecordScenario world;
    anchor = {world.origin(), world.genesis};
    run(world, size - kAfterSnapshot);
    joining =
        record::encode_joining(test::take_snapshot(world, record::earliest_remembered(world.follower).get()));
    const std::size_t snapshot = world.entries.size();
    run(world, size);
    leaves = world.entries.size();
    const std::string note = world.cosign();
    batches = batches_from(world, 0, note);
    after = batches_from(world, snapshot, note);
  }

 private:
  static void run(RecordScenario& world, std::size_t size) {
    while (world.entries.size() < size) {
      const auto open = world.granted();
      value_of(world.append(record::Kind::kLease, open.id, world.lease(open)));
      value_of(world.append(record::Kind::kSessionOpened, open.id, world.session_opened(open, 1)));
      value_of(world.append(record::Kind::kSessionClosed, open.id, world.session_closed(open, 1)));
      world.advance(std::chrono::minutes{20});
    }
  }
  static std::vector<Bytes> batches_from(const RecordScenario& world, std::size_t from,
                                         const std::string& note) {
    std::vector<Bytes> out;
    while (from < world.entries.size()) {
      Batch batch{.from = LeafIndex{from}, .leaves = {}, .controls = {}, .note = note};
      for (; from < world.entries.size() && batch.leaves.size() < record::kMaxBatchLeaves; ++from) {
        const record::Entry& entry = world.entries[from];
        batch.leaves.push_back(entry.leaf);
        if (record::is_control(value_of(record::parse_kind(entry.leaf.kind))))
          batch.controls.push_back({LeafIndex{from}, entry});
      }
      out.push_back(record::encode_batch(batch));
    }
    return out;
  }
};

// log_of makes each log once: it takes minutes.
const Log& log_of(const benchmark::State& state) {
  static std::map<std::int64_t, Log> logs;
  const std::int64_t size = state.range(0);
  const auto found = logs.find(size);
  return found == logs.end() ? logs.try_emplace(size, static_cast<std::size_t>(size)).first->second
                             : found->second;
}

// whole gathers the batches that were sent into one, as a client does, which takes all or nothing.
Batch whole(const std::vector<Bytes>& batches) {
  Batch out = value_of(record::parse_batch(batches.front()));
  for (std::size_t i = 1; i < batches.size(); ++i) {
    Batch part = value_of(record::parse_batch(batches[i]));
    out.leaves.insert(out.leaves.end(), part.leaves.begin(), part.leaves.end());
    std::move(part.controls.begin(), part.controls.end(), std::back_inserter(out.controls));
  }
  return out;
}

// Following makes followers in files of their own, in one directory.
class Following {
 public:
  explicit Following(const Log& log) : log_(log) {}
  std::filesystem::path catch_up() {
    const auto file = fresh(follow::Begin::kFromStart);
    value_of(value_of(Follower::open(file, log_.anchor))->accept(whole(log_.batches)));
    return file;
  }
  std::filesystem::path join() {
    const auto file = fresh(follow::Begin::kFromSnapshot);
    value_of(value_of(Follower::open(file, log_.anchor))
                 ->join(value_of(record::parse_joining(log_.joining)), whole(log_.after)));
    return file;
  }
  void open(const std::filesystem::path& file) const { value_of(Follower::open(file, log_.anchor)); }

 private:
  std::filesystem::path fresh(follow::Begin begin) {
    const auto file = directory_ / ("follow-" + std::to_string(++files_) + ".db");
    value_of(Follower::create(file, log_.anchor, begin));
    return file;
  }
  const Log& log_;
  const test::TemporaryDirectory directory_;
  int files_ = 0;
};

// Floor hashes leaves, and writes the same bytes to a database in one commit, with the same settings.
class Floor {
 public:
  void operator()(const std::vector<ledger::Leaf>& leaves, const std::vector<record::ControlEntry>& controls,
                  ByteView state) {
    auto db = value_of(sqlite::Database::open((directory_ / (std::to_string(++files_) + ".db")).string()));
    value_of(
        db->execute("CREATE TABLE leaf(idx INTEGER PRIMARY KEY, bytes BLOB); CREATE TABLE control(idx "
                    "INTEGER PRIMARY KEY, nonce BLOB, body BLOB); CREATE TABLE blob(bytes BLOB)"));
    sqlite::Transaction transaction{*db};
    value_of(transaction.begin());
    ledger::CompactRange range;
    std::uint64_t index = 0;
    sqlite::Statement leaf{*db, "INSERT INTO leaf VALUES(?,?)"};
    for (const ledger::Leaf& one : leaves) {
      range.append(ledger::leaf_hash(one));
      leaf.reset();
      value_of(leaf.bind(index++).bind(ledger::encode_leaf(one)).run());
    }
    benchmark::DoNotOptimize(range.root());
    sqlite::Statement body{*db, "INSERT INTO control VALUES(?,?,?)"}, blob{*db, "INSERT INTO blob VALUES(?)"};
    for (const record::ControlEntry& one : controls) {
      body.reset();
      value_of(body.bind(one.index.get()).bind(view(one.entry.nonce)).bind(one.entry.body).run());
      for (const record::Blob& bytes : one.entry.blobs) {
        blob.reset();
        value_of(blob.bind(bytes.bytes).run());
      }
    }
    if (!state.empty()) {
      blob.reset();
      value_of(blob.bind(state).run());
    }
    value_of(transaction.commit());
  }

 private:
  const test::TemporaryDirectory directory_;
  int files_ = 0;
};

// measure is by_turns, and tells the processor time of both: a neighbour's load, and a disk that others write
// to as well, show in it least.
void measure(benchmark::State& state, const std::function<void()>& ours, const std::function<void()>& floor) {
  std::clock_t ours_used = 0, floor_used = 0;
  const auto counted = [](const std::function<void()>& work, std::clock_t& used) {
    const std::clock_t before = std::clock();
    work();
    used += std::clock() - before;
  };
  by_turns(
      state, [&] { counted(ours, ours_used); }, [&] { counted(floor, floor_used); });
  const auto ms = [&](std::clock_t used) {
    return 1e3 * static_cast<double>(used) / CLOCKS_PER_SEC / static_cast<double>(state.iterations());
  };
  state.counters["cpu_ms"] = ms(ours_used);
  state.counters["floor_cpu_ms"] = ms(floor_used);
  state.counters["cpu_of_floor"] = ms(floor_used) / ms(ours_used);
}

// From the bytes that were sent to all of it on disk. The floor: its signature verifications, a hash of each
// leaf, and one commit of the same bytes.
void catch_up(benchmark::State& state) {
  const Log& log = log_of(state);
  Following following{log};
  const VerificationsOf verifications{[&] { following.catch_up(); }};
  const Batch all = whole(log.batches);
  Floor floor;
  measure(
      state, [&] { following.catch_up(); },
      [&] {
        verifications.replay();
        floor(all.leaves, all.controls, {});
      });
  state.counters["signatures"] = static_cast<double>(verifications.count());
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(log.leaves));
}
BENCHMARK(catch_up)->Arg(10'000)->Arg(100'000)->UseManualTime()->Iterations(5)->Unit(benchmark::kMillisecond);

// The same of who joins from a snapshot, with the leaves after it.
void join(benchmark::State& state) {
  const Log& log = log_of(state);
  Following following{log};
  const VerificationsOf verifications{[&] { following.join(); }};
  const record::Joining joining = value_of(record::parse_joining(log.joining));
  const Batch after = whole(log.after);
  std::vector<ledger::Leaf> leaves = joining.leaves;
  leaves.insert(leaves.end(), after.leaves.begin(), after.leaves.end());
  Floor floor;
  measure(
      state, [&] { following.join(); },
      [&] {
        verifications.replay();
        floor(leaves, after.controls, joining.state);
      });
  state.counters["signatures"] = static_cast<double>(verifications.count());
  state.counters["joining_bytes"] = static_cast<double>(log.joining.size());
}
BENCHMARK(join)->Arg(10'000)->Arg(100'000)->UseManualTime()->Iterations(20)->Unit(benchmark::kMillisecond);

// What is on disk is opened again. The floor: its signature verifications, and each of its leaves that came
// after the newest snapshot read and hashed.
void open_again(benchmark::State& state, bool joined) {
  const Log& log = log_of(state);
  Following following{log};
  const auto file = joined ? following.join() : following.catch_up();
  const VerificationsOf verifications{[&] { following.open(file); }};
  measure(
      state, [&] { following.open(file); },
      [&] {
        verifications.replay();
        auto db = value_of(sqlite::Database::open(file.string()));
        sqlite::Statement rows{*db, "SELECT bytes FROM leaf WHERE idx > (SELECT max(idx) FROM snapshot)"};
        ledger::CompactRange range;
        while (value_of(rows.step()))
          range.append(ledger::leaf_hash(value_of(ledger::parse_leaf(rows.bytes(0)))));
        benchmark::DoNotOptimize(range.root());
      });
}
BENCHMARK_CAPTURE(open_again, of_who_took_all, false)
    ->Arg(100'000)
    ->UseManualTime()
    ->Iterations(20)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(open_again, of_who_joined, true)
    ->Arg(100'000)
    ->UseManualTime()
    ->Iterations(20)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();

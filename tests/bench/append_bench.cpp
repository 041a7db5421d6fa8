// Appending to the log: the sequencer over SQLite, and the real guard over SoftHSM behind it, without a
// socket between them. The floor is what no order of durability can leave out: the broker's commit of the
// entries, the guard's commit of the leaves, the HSM's signature, the broker's commit of the checkpoint; of
// the same bytes, with the same settings of SQLite.

#include <spdlog/spdlog.h>

#include <atomic>
#include <barrier>
#include <thread>

#include "attestation/sqlite/sqlite.h"
#include "broker/ledger/sequencer.h"
#include "tests/bench/floor.h"
#include "tests/support/guard_world.h"
#include "tests/support/matchers.h"

namespace sallyport::bench {
namespace {

using test::value_of;

constexpr std::int64_t kRounds = 40;

// GuardInProcess signs checkpoints as the keyguard does. Cosignatures come from the company's witnesses,
// once: a guard signs nothing before it has seen one.
class GuardInProcess : public ledger_service::CheckpointSigner {
 public:
  explicit GuardInProcess(test::GuardWorld& world) : world_(world) {}
  Result<TreeSize> signed_size() override { return world_.status().size; }
  Result<std::string> advance(const record::Batch& batch) override {
    if (shown_ || batch.from.get() == 0) return world_.advance(batch);
    record::Batch with_note = batch;
    with_note.note = world_.note_of(TreeSize{batch.from.get()});
    shown_ = true;
    return world_.advance(with_note);
  }

 private:
  test::GuardWorld& world_;
  bool shown_ = false;
};

// Log is a company whose entries go through a sequencer: the first ones at once, the rest when a benchmark
// asks.
class Log {
 public:
  Log(std::size_t at_once, std::size_t wanted)
      : world_([](test::SampleCompany& company) {
          for (auto& witness : company.policy.witnesses) witness.url = "http://127.0.0.1:9";  // nobody there
        }) {
    const auto open = world_.company.granted();
    const std::size_t before = world_.company.entries.size();
    for (std::uint64_t channel = 1; world_.company.entries.size() < before + wanted; ++channel) {
      value_of(world_.company.append(record::Kind::kSessionOpened, open.id,
                                     world_.company.session_opened(open, channel)));
      value_of(world_.company.append(record::Kind::kSessionClosed, open.id,
                                     world_.company.session_closed(open, channel)));
    }
    ledger_service::SequencerOptions options;
    options.origin = world_.company.origin();
    options.genesis_policy = world_.company.genesis;
    options.window = std::chrono::milliseconds{0};
    start(options);
    while (next_ < before) append();
    if (at_once == 1) return;
    sequencer_.reset();
    options.window = std::chrono::seconds{10};  // a commit begins when all have come
    options.max_entries = at_once;
    start(options);
  }

  // append has the next entry recorded. Entries are taken in the order in which the sequencer asks for them.
  void append() {
    value_of(sequencer_->append([this](const record::State&, UnixMillis) -> Result<record::Entry> {
      return world_.company.entries.at(next_++);
    }));
  }
  test::GuardWorld& world() { return world_; }
  const record::Entry& newest() const { return world_.company.entries.at(next_ - 1); }

 private:
  void start(const ledger_service::SequencerOptions& options) {
    sequencer_ = value_of(ledger_service::Sequencer::start(
        std::shared_ptr<store::Store>{value_of(store::open_sqlite((directory_ / "log.db").string()))},
        std::make_shared<GuardInProcess>(world_), options,
        [this] { return world_.company.entries.at(next_).leaf.time; }));
  }

  test::GuardWorld world_;
  test::TemporaryDirectory directory_;
  std::atomic<std::size_t> next_{0};
  std::unique_ptr<ledger_service::Sequencer> sequencer_;
};

// Floor is what has to be on disk and signed for a commit of entries like `entry`.
class Floor {
 public:
  Floor(Log& log, const record::Entry& entry, std::int64_t entries)
      : log_(log), entry_(entry), entries_(entries), note_(log.world().status().note) {
    for (auto* db : {broker_.get(), guard_.get()})
      value_of(
          db->execute("CREATE TABLE bytes(leaf BLOB, nonce BLOB, body BLOB); CREATE TABLE note(text TEXT)"));
  }
  void operator()() {
    const auto leaf = ledger::encode_leaf(entry_.leaf);
    write(*broker_, [&] {
      sqlite::Statement insert{*broker_, "INSERT INTO bytes VALUES(?,?,?)"};
      value_of(insert.bind(leaf).bind(view(entry_.nonce)).bind(entry_.body).run());
    });
    write(*guard_, [&] {
      sqlite::Statement insert{*guard_, "INSERT INTO bytes(leaf) VALUES(?)"};
      value_of(insert.bind(leaf).run());
    });
    value_of(log_.world().token.sign_ed25519(log_.world().keys.log, as_bytes(note_)));
    sqlite::Transaction transaction{*broker_};
    value_of(transaction.begin());
    sqlite::Statement insert{*broker_, "INSERT INTO note VALUES(?)"};
    value_of(insert.bind_text(note_).run());
    value_of(transaction.commit());
  }

 private:
  template <class Insert>
  void write(sqlite::Database& db, Insert insert) {
    sqlite::Transaction transaction{db};
    value_of(transaction.begin());
    for (std::int64_t i = 0; i < entries_; ++i) insert();
    value_of(transaction.commit());
  }

  Log& log_;
  record::Entry entry_;
  std::int64_t entries_;
  std::string note_;
  test::TemporaryDirectory directory_;
  std::unique_ptr<sqlite::Database> broker_ =
      value_of(sqlite::Database::open((directory_ / "broker.db").string()));
  std::unique_ptr<sqlite::Database> guard_ =
      value_of(sqlite::Database::open((directory_ / "guard.db").string()));
};

// Entries from that many threads at once, in one commit.
void append(benchmark::State& state) {
  spdlog::set_level(spdlog::level::off);
  const std::int64_t entries = state.range(0);
  Log log{static_cast<std::size_t>(entries), static_cast<std::size_t>(entries * (kRounds + 1))};
  std::barrier round{static_cast<std::ptrdiff_t>(entries + 1)};
  std::atomic<bool> over = false;
  std::vector<std::jthread> clients;
  for (std::int64_t i = 0; i < entries; ++i)
    clients.emplace_back([&] {
      for (;;) {
        round.arrive_and_wait();
        if (over) return;
        log.append();
        round.arrive_and_wait();
      }
    });
  const auto ours = [&round] {
    round.arrive_and_wait();  // off they go
    round.arrive_and_wait();  // all told
  };
  ours();
  by_turns(state, ours, Floor{log, log.newest(), entries});
  over = true;
  round.arrive_and_wait();
  state.SetItemsProcessed(state.iterations() * entries);
}
BENCHMARK(append)->Arg(1)->Arg(16)->Arg(64)->UseManualTime()->Iterations(kRounds);

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();

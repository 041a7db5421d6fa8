// Appending to the log: the sequencer over SQLite, and the real guard over SoftHSM behind it, without a
// socket between them; against AppendFloor.

#include <spdlog/spdlog.h>

#include <atomic>
#include <barrier>
#include <thread>

#include "attestation/crypto/random.h"
#include "broker/ledger/sequencer.h"
#include "tests/bench/append_floor.h"
#include "tests/bench/floor.h"
#include "tests/bench/witnesses.h"
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
  Result<store::Head> standing() override {
    const auto status = world_.status();
    return store::Head{status.size, status.root};
  }
  Result<std::string> advance(const record::Batch& batch) override {
    record::Batch with_note = batch;
    with_note.note.clear();
    if (batch.from.get() != 0 && !std::exchange(shown_, true))
      with_note.note = world_.note_of(TreeSize{batch.from.get()});
    return world_.advance(with_note);
  }

 private:
  test::GuardWorld& world_;
  bool shown_ = false;
};

// Log is a company with granted accesses, whose host has reports of them recorded through a sequencer.
class Log {
 public:
  Log(std::size_t accesses, std::size_t reports_of_each)
      : world_([this](test::SampleCompany& company) {
          for (std::size_t i = 0; i < kWitnesses; ++i) company.policy.witnesses.at(i).url = witnesses_.url(i);
        }) {
    witnesses_.are_of(world_.company.company, [this] { return now(); });
    for (std::size_t i = 0; i < accesses; ++i) {
      const auto open = world_.company.granted();
      Access& access = accesses_.emplace_back(Access{open.id, {}, 0});
      for (std::uint64_t report = 0; report < reports_of_each; ++report)
        access.reports.push_back(report % 2 == 0 ? world_.company.session_opened(open, report / 2 + 1)
                                                 : world_.company.session_closed(open, report / 2 + 1));
    }
    ledger_service::SequencerOptions options;
    options.origin = world_.company.origin();
    options.genesis_policy = world_.company.genesis;
    options.window = std::chrono::milliseconds{0};
    start(options);
    for (; replayed_ < world_.company.entries.size(); ++replayed_)
      value_of(sequencer_->append([this](const record::State&, UnixMillis) -> Result<record::Entry> {
        return world_.company.entries.at(replayed_);
      }));
    hear_witnesses();
    if (accesses == 1) return;
    sequencer_.reset();
    witnesses_.come_back();
    options.window = std::chrono::seconds{10};  // a commit begins when all have come
    options.gather_first = true;
    options.max_entries = accesses;
    start(options);
    hear_witnesses();
  }

  // draft gives the next report of an access, its signature verified.
  ledger_service::Sequencer::Draft draft(std::size_t access_index) {
    Access& access = accesses_.at(access_index);
    const auto kind = access.next % 2 == 0 ? record::Kind::kSessionOpened : record::Kind::kSessionClosed;
    const record::Submission& report = access.reports.at(access.next++);
    return sequencer_->draft([&, kind](const record::State& state, UnixMillis time) -> Result<record::Entry> {
      return record::make_entry(kind, time, access.id, record::predecessor_of(state.control, access.id),
                                report.envelope, report.blobs, crypto::random_nonce());
    });
  }
  void append(ledger_service::Sequencer::Draft draft) { value_of(sequencer_->append(std::move(draft))); }
  test::GuardWorld& world() { return world_; }
  record::Entry newest() const {
    const record::State* state = nullptr;
    sequencer_->read([&](const record::State& now) { state = &now; });
    return value_of(sequencer_->entry(LeafIndex{state->control.size().get() - 1}));
  }

 private:
  struct Access {
    CaseId id;
    std::vector<record::Submission> reports;
    std::size_t next;
  };
  static constexpr std::size_t kWitnesses = 4;

  UnixMillis now() const {
    const auto& entries = world_.company.entries;
    const std::size_t at = replayed_;
    return at < entries.size() ? entries[at].leaf.time : world_.company.now;
  }
  void start(const ledger_service::SequencerOptions& options) {
    sequencer_ = value_of(ledger_service::Sequencer::start(
        std::shared_ptr<store::Store>{value_of(store::open_sqlite((directory_ / "log.db").string()))},
        std::make_shared<GuardInProcess>(world_), options, [this] { return now(); }));
  }
  // hear_witnesses waits until a quorum has cosigned, and has them go: their rounds are not what is measured.
  void hear_witnesses() {
    const TreeSize size{world_.company.entries.size()};
    value_of(sequencer_->wait_proven(size, std::chrono::seconds{20}));
    while (!sequencer_->health().witnesses) std::this_thread::yield();
    witnesses_.go_away();
  }

  Witnesses witnesses_{kWitnesses};
  test::GuardWorld world_;
  test::TemporaryDirectory directory_;
  std::vector<Access> accesses_;
  std::atomic<std::size_t> replayed_ = 0;
  std::unique_ptr<ledger_service::Sequencer> sequencer_;
};

// Entries from that many threads at once, this one among them, in one commit. Their signatures were verified
// before, by each thread for its own.
void append(benchmark::State& state) {
  spdlog::set_level(spdlog::level::off);
  const std::int64_t entries = state.range(0);
  Log log{static_cast<std::size_t>(entries), kRounds + 1};
  std::barrier round{static_cast<std::ptrdiff_t>(entries)};  // this thread is one of them
  std::atomic<bool> over = false;
  const auto draft = [&](std::size_t access) {
    round.arrive_and_wait();  // off they go
    if (over) return ledger_service::Sequencer::Draft{};
    auto drafted = log.draft(access);
    round.arrive_and_wait();  // all done
    return drafted;
  };
  const auto append = [&](ledger_service::Sequencer::Draft drafted) {
    round.arrive_and_wait();
    log.append(std::move(drafted));
    round.arrive_and_wait();
  };
  std::vector<std::jthread> clients;
  for (std::int64_t i = 1; i < entries; ++i)
    clients.emplace_back([&, access = static_cast<std::size_t>(i)] {
      for (;;) {
        auto drafted = draft(access);
        if (over) return;
        append(std::move(drafted));
      }
    });
  ledger_service::Sequencer::Draft mine = draft(0);
  append(std::move(mine));
  AppendFloor floor{log.world().token, log.world().keys, log.world().status().note};
  const std::vector<record::Entry> same_bytes(static_cast<std::size_t>(entries), log.newest());
  by_turns(
      state, [&] { append(std::move(mine)); }, [&] { floor(same_bytes); }, [&] { mine = draft(0); });
  over = true;
  round.arrive_and_wait();
  state.SetItemsProcessed(state.iterations() * entries);
}
BENCHMARK(append)->Arg(1)->Arg(16)->Arg(64)->UseManualTime()->Iterations(kRounds);

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();

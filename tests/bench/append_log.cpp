// Appends what make_log makes, through the sequencer over SQLite and a real keyguard over SoftHSM behind its
// socket: 64 entries in a commit, each with a thread that waits for it. Prints, stretch by stretch, what
// appending costs beside AppendFloor, and what memory it takes: both flat, however long the log. Leaves
// log.db and trust.toml in the directory, for measure_log.

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <iostream>
#include <thread>

#include "attestation/follow/follower.h"
#include "broker/keyguard/client.h"
#include "broker/ledger/sequencer.h"
#include "tests/bench/append_floor.h"
#include "tests/bench/long_log.h"
#include "tests/support/softhsm.h"

namespace sallyport::bench {
namespace {

using test::value_of;
using Steady = std::chrono::steady_clock;

constexpr std::size_t kThreads = 64;
constexpr std::uint64_t kFloorEvery = 16;  // commits to one of the floor

// Guard has checkpoints signed by the keyguard, which wants to be shown one of the witnesses after its start.
class Guard : public ledger_service::CheckpointSigner {
 public:
  explicit Guard(const std::string& socket) : client_(socket, std::chrono::seconds{30}) {}
  Result<store::Head> standing() override {
    SP_TRY(const auto status, client_.status());
    return store::Head{status.size, status.root};
  }
  Result<std::string> advance(const record::Batch& batch) override {
    if (first_note_.empty()) return client_.advance(batch);
    record::Batch with_note = batch;
    with_note.note = std::exchange(first_note_, {});
    return client_.advance(with_note);
  }
  void show(const std::string& note) {
    if (!std::exchange(shown_, true)) first_note_ = note;
  }

 private:
  keyguard::Client client_;
  std::string first_note_;  // set while nothing is appended
  bool shown_ = false;
};

std::string process_behind(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  SP_ASSERT(path.size() < sizeof(address.sun_path));
  path.copy(address.sun_path, path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ucred peer{};
  socklen_t size = sizeof(peer);
  SP_ASSERT(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
            ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0);
  ::close(fd);
  return std::to_string(peer.pid);
}

class Appending {
 public:
  Appending(const std::filesystem::path& directory, const LogHead& head)
      : guard_(std::make_shared<Guard>(head.socket)), guard_process_(process_behind(head.socket)) {
    ledger_service::SequencerOptions options;
    options.origin = Origin{head.origin};
    options.genesis_policy = head.genesis_policy;
    options.window = std::chrono::seconds{1};  // a commit begins when all have come
    options.gather_first = true;
    options.max_entries = kThreads;
    options.snapshot_every = std::chrono::hours{24 * 36'500};  // make_log knows of no leaf but its own
    options.snapshot_leaves = ~std::uint64_t{0};
    log_ = value_of(ledger_service::Sequencer::start(
        std::shared_ptr<store::Store>{value_of(store::open_sqlite((directory / "log.db").string()))}, guard_,
        options, [this] { return UnixMillis{now_.load()}; }));
    for (std::size_t i = 0; i < kThreads; ++i) clients_.emplace_back([this, i] { work(i); });
    std::cout
        << "  leaves  leaf_us   cpu_us drafting_us leaves/s floor_us of_floor  rss_mib keyguard_rss_mib\n";
  }
  ~Appending() {
    entries_.clear();
    over_ = true;
    all_.arrive_and_wait();
  }

  void append(record::EntryPage page) {
    if (page.entries.empty()) return;
    entries_ = std::move(page.entries);
    now_ = entries_.back().leaf.time.get();
    all_.arrive_and_wait();
    const auto start = Steady::now();
    all_.arrive_and_wait();
    const auto drafted = Steady::now();
    cpu_s_ -= cpu_seconds();
    all_.arrive_and_wait();
    const auto appended = Steady::now();
    cpu_s_ += cpu_seconds();
    drafting_ += drafted - start;
    appending_ += appended - drafted;
    in_stretch_ += entries_.size();
    size_ += entries_.size();
    if (entries_.size() == kThreads && ++commits_ % kFloorEvery == 0) {
      const auto floor_start = Steady::now();
      floor_(entries_);
      floor_took_ += Steady::now() - floor_start;
      beside_floor_ += appended - drafted;
      in_floor_ += kThreads;
    }
    if (size_ >= next_) report();
  }
  void keep(const SizedNote& note) {
    guard_->show(note.note);
    value_of(log_->store().put_cosigned(note.size, note.note));
  }
  void report() {
    const auto us = [](Steady::duration time, std::uint64_t of) {
      return std::chrono::duration<double, std::micro>(time).count() /
             static_cast<double>(std::max<std::uint64_t>(of, 1));
    };
    std::printf("%8llu %8.1f %8.1f %11.1f %8.0f %8.1f %8.2f %8.0f %8.0f\n",
                static_cast<unsigned long long>(size_), us(appending_, in_stretch_),
                1e6 * cpu_s_ / static_cast<double>(in_stretch_), us(drafting_, in_stretch_),
                1e6 / us(appending_, in_stretch_), us(floor_took_, in_floor_),
                std::chrono::duration<double>(floor_took_) / std::chrono::duration<double>(beside_floor_),
                memory_mib("VmRSS"), memory_mib("VmRSS", guard_process_));
    std::fflush(stdout);
    drafting_ = appending_ = floor_took_ = beside_floor_ = {};
    in_stretch_ = in_floor_ = 0;
    cpu_s_ = 0;
    next_ = next_ < 100'000 ? next_ * 10 : next_ + 100'000;
  }

 private:
  void work(std::size_t mine) {
    for (;;) {
      all_.arrive_and_wait();  // entries are there
      if (over_) return;
      ledger_service::Sequencer::Draft draft;
      const bool has = mine < entries_.size();
      if (has)
        draft = log_->draft([&entry = entries_[mine]](const record::State&, UnixMillis) {
          return Result<record::Entry>{entry};
        });
      all_.arrive_and_wait();  // drafted
      if (has) value_of(log_->append(std::move(draft)));
      all_.arrive_and_wait();  // appended
    }
  }

  const std::shared_ptr<Guard> guard_;
  const std::string guard_process_;
  const test::TemporarySoftHsm hsm_{"floor"};
  const pkcs11::Token token_ = hsm_.open("floor");
  const pkcs11::RegionKeys keys_ = value_of(pkcs11::make_region_keys(token_));
  AppendFloor floor_{token_, keys_, std::string(200, 'n')};

  std::atomic<std::uint64_t> now_ = 0;
  std::unique_ptr<ledger_service::Sequencer> log_;
  std::vector<record::Entry> entries_;
  bool over_ = false;
  std::barrier<> all_{kThreads + 1};
  std::vector<std::jthread> clients_;

  Steady::duration drafting_{0}, appending_{0}, floor_took_{0}, beside_floor_{0};
  double cpu_s_ = 0;  // of this process while appending: what a busy machine shows in least
  std::uint64_t in_stretch_ = 0, in_floor_ = 0, size_ = 0, commits_ = 0, next_ = 10'000;
};

LogHead parse_head(ByteView bytes) {
  Reader in{bytes};
  LogHead head;
  head.socket = as_text(*in.prefixed32(4096));
  head.origin = as_text(*in.prefixed32(4096));
  head.genesis_policy = Digest256{*in.array<32>()};
  return head;
}

void run(const std::filesystem::path& directory) {
  const auto first = receive();
  SP_ASSERT(first && first->first == Message::kHead);
  const LogHead head = parse_head(first->second);
  std::filesystem::create_directories(directory);
  std::ofstream{directory / "trust.toml"}
      << follow::format_trust_file({Origin{head.origin}, head.genesis_policy});
  Appending log{directory, head};
  while (const auto message = receive()) {
    if (message->first == Message::kPage) {
      log.append(value_of(record::parse_entry_page(message->second)));
    } else {
      Reader in{message->second};
      const TreeSize size{*in.u64()};
      log.keep({size, std::string{as_text(*in.prefixed32(65'536))}});
    }
  }
}

}  // namespace
}  // namespace sallyport::bench

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "make_log LEAVES | append_log DIRECTORY\n";
    return 64;
  }
  spdlog::set_level(spdlog::level::off);
  sallyport::bench::run(argv[1]);
}

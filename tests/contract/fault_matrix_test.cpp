#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/ledger/compact_range.h"
#include "attestation/record/dossier.h"
#include "broker/credentials/ssh_certificate.h"
#include "broker/keyguard/protocol.h"
#include "tests/support/broker_access.h"
#include "tests/support/faults.h"
#include "tests/support/matchers.h"

// The order of durability, at every step of which something breaks: the real programs run with a library
// preloaded that counts their calls on their own files, and at one of them fails it, or kills them. Whatever
// is struck, the log goes on, and is what everybody was ever told that it is.
//   FAULTS=N          points, drawn from all; FAULTS=all runs all of them
//   FAULTS_SEED=S     draws the same points again
//   FAULTS_ONLY=TEXT  the points whose name holds TEXT
//   FAULTS_PART=I/N   of these the I-th of N, from 0: to run several at once
//   FAULTS_VERBOSE=1  tells each point
//   KILLS=N KILLS_SEED=S   of the random kills
namespace sallyport::test {
namespace {

using namespace record;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kPoints = 32, kKills = 50;  // of every run

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* const text = getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

// FaultFile is the test's side of what is preloaded into one program.
class FaultFile {
 public:
  explicit FaultFile(std::filesystem::path path) : path_(std::move(path)) {
    const int file = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    EXPECT_EQ(::ftruncate(file, sizeof(FaultControl)), 0);
    void* const at = ::mmap(nullptr, sizeof(FaultControl), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    EXPECT_NE(at, MAP_FAILED);
    control_ = static_cast<FaultControl*>(at);
  }
  ~FaultFile() { ::munmap(control_, sizeof(FaultControl)); }
  FaultFile(const FaultFile&) = delete;
  FaultFile& operator=(const FaultFile&) = delete;

  // environment has a program preload it and look at the files whose path holds `part`.
  std::vector<std::string> environment(const std::string& part) const {
    return {"LD_PRELOAD=" SALLYPORT_INJECT_FAULTS, "SALLYPORT_TEST_FAULTS=" + path_.string(),
            "SALLYPORT_TEST_FAULTS_IN=" + part};
  }
  void begin_count() {
    for (auto& calls : control_->calls) calls = 0;
  }
  std::uint64_t calls(unsigned kind) const { return control_->calls[kind]; }
  void arm(std::uint32_t mask, std::uint64_t at, Blow blow, int error, bool lasts) {
    control_->struck = 0;
    control_->mask = mask;
    control_->error = static_cast<std::uint32_t>(error);
    control_->lasts = lasts ? 1 : 0;
    control_->left = at;
    control_->blow = static_cast<std::uint32_t>(blow);
  }
  void disarm() { control_->blow = 0; }
  bool struck() const { return control_->struck != 0; }

 private:
  std::filesystem::path path_;
  FaultControl* control_ = nullptr;
};

// ---- what everybody was told

// Told holds every checkpoint that ever left a process, and every leaf that was acknowledged.
class Told {
 public:
  void note(const std::string& text) {
    const auto parsed = ledger::parse_note(text);
    ASSERT_TRUE(parsed.has_value()) << text;
    const auto head = ledger::parse_checkpoint_text(parsed->text);
    ASSERT_TRUE(head.has_value()) << text;
    const std::lock_guard lock{mutex_};
    ++notes_;
    const auto [at, fresh] = heads_.emplace(head->size.get(), head->root);
    EXPECT_TRUE(fresh || at->second == head->root) << "two roots at size " << head->size.get();
  }
  void leaf(const Digest256& statement, std::uint64_t index) {
    const std::lock_guard lock{mutex_};
    leaves_.emplace_back(statement, index);
  }
  std::map<std::uint64_t, Digest256> heads() const {
    const std::lock_guard lock{mutex_};
    return heads_;
  }
  std::vector<std::pair<Digest256, std::uint64_t>> leaves() const {
    const std::lock_guard lock{mutex_};
    return leaves_;
  }
  std::size_t count() const {
    const std::lock_guard lock{mutex_};
    return leaves_.size();
  }
  std::string summary() const {
    const std::lock_guard lock{mutex_};
    return std::to_string(leaves_.size()) + " leaves acknowledged, " + std::to_string(notes_) +
           " checkpoints seen of " + std::to_string(heads_.size()) + " sizes";
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::uint64_t, Digest256> heads_;
  std::vector<std::pair<Digest256, std::uint64_t>> leaves_;
  std::size_t notes_ = 0;
};

// ---- the house

// House is keyguard, broker and three witnesses, of which two must cosign. Everything that goes from the
// keyguard to the broker is looked at on its way.
class House {
 public:
  House() : world(programs()), access(world) {
    std::filesystem::copy(world.hsm.directory() / "tokens", directory / "tokens",
                          std::filesystem::copy_options::recursive);
  }

  TemporaryDirectory directory;
  FaultFile broker_faults{directory / "broker"}, keyguard_faults{directory / "keyguard"},
      witness_faults{directory / "witness"};
  Told told;
  BrokerProcess world;
  Access access;

  FaultFile& faults(const std::string& part) {
    return part == "broker" ? broker_faults : part == "keyguard" ? keyguard_faults : witness_faults;
  }
  Process& process(const std::string& part) {
    return part == "broker" ? world.broker()
           : part == "keyguard"
               ? world.keyguard()
               : world.witnesses[part == "witness-two"     ? 1
                                 : part == "witness-three" ? 2
                                                           : 0]
                     ->process();
  }
  bool start(const std::string& part) {
    if (part == "broker") return world.try_start_broker();
    if (part == "keyguard") {
      mend_token();
      return world.try_start_keyguard();
    }
    return world.witnesses[part == "witness-two" ? 1 : part == "witness-three" ? 2 : 0]->try_start();
  }

  // SoftHSM writes a token's file in place at each login (CKF_USER_PIN_COUNT_LOW), so that a process that is
  // killed over it leaves it cut off, and the token is gone for good. No device does this: the file is put
  // back.
  void mend_token() {
    for (const auto& file : std::filesystem::recursive_directory_iterator{directory / "tokens"}) {
      if (!file.is_regular_file()) continue;
      const auto there =
          world.hsm.directory() / "tokens" / std::filesystem::relative(file.path(), directory / "tokens");
      if (std::filesystem::exists(there) && std::filesystem::file_size(there) == file.file_size()) continue;
      std::filesystem::copy_file(file.path(), there, std::filesystem::copy_options::overwrite_existing);
      ++mended_;
    }
  }
  std::size_t mended() const { return mended_; }

  struct Revoking {
    Digest256 digest;
    Submission submission;
  };
  Revoking revoking() const {
    Revoking one;
    one.submission = make_revocation(world, one.digest);
    return one;
  }

  // check reads the whole log anew. Each of its entries is one that an honest broker may append, and the one
  // that was read before; it leads to every head that anybody was shown, and to what the witnesses remember;
  // what was acknowledged is where it was; no statement is there twice, no case has two grants.
  void check() {
    std::optional<ApiPeer> reader;
    const auto fetched = poll_until([&] {
      if (!reader) {
        auto fresh = world.peer("olga");
        if (!fresh.has_value()) return false;
        reader.emplace(std::move(*fresh));
      }
      return true;
    });
    ASSERT_TRUE(fetched) << "nobody serves the log: " << world.broker().output();
    for (const auto& witness : world.witnesses) remember(*witness);
    for (TreeSize from{noted_};;) {
      const auto notes = reader->checkpoints(from);
      ASSERT_THAT(notes, Succeeds());
      if (notes->empty()) break;
      for (const std::string& note : *notes) {
        told.note(note);
        const auto checked = ledger::check_quorum(note, world.company.policy().witnesses);
        ASSERT_THAT(checked, Succeeds());
        noted_ = checked->size().get();
        from = TreeSize{noted_ + 1};
      }
    }
    const auto heads = told.heads();
    const std::uint64_t largest = heads.empty() ? 0 : heads.rbegin()->first;
    std::vector<Entry>& known = world.company.entries;
    const auto read = [&](std::uint64_t from) {  // gives how many there were
      const auto page = reader->entries(LeafIndex{from});
      EXPECT_THAT(page, Succeeds());
      if (!page.has_value()) return std::size_t{0};
      for (std::size_t i = 0; i < page->entries.size(); ++i) {
        const std::uint64_t index = from + i;
        const Entry& entry = page->entries[i];
        if (index < known.size()) {
          EXPECT_TRUE(entry.leaf == known[index].leaf && entry.nonce == known[index].nonce &&
                      entry.body == known[index].body && entry.blobs.size() == known[index].blobs.size())
              << "leaf " << index << " is another than it was";
          continue;
        }
        const auto appended = world.company.append(entry);
        EXPECT_THAT(appended, Succeeds()) << "leaf " << index;
        if (!appended.has_value()) return std::size_t{0};
      }
      return page->entries.size();
    };
    for (std::uint64_t from = 0; const std::size_t count = read(from);) from += count;
    EXPECT_TRUE(poll_until([&] {
      read(known.size());
      return known.size() >= largest;
    })) << "the log is shorter than a head that was shown: "
        << known.size() << " < " << largest;
    while (in_log_.size() < known.size()) {
      take(known[in_log_.size()], in_log_.size());
      ASSERT_EQ(roots_.size(), in_log_.size() + 1) << "a statement is in the log twice";
    }
    for (const auto& [size, root] : heads) {
      ASSERT_LE(size, known.size());
      ASSERT_EQ(root, roots_.at(size)) << "another tree at size " << size;
    }
    for (const auto& [digest, index] : told.leaves()) {
      ASSERT_TRUE(in_log_.contains(digest)) << "what was acknowledged is lost: leaf " << index;
      EXPECT_EQ(in_log_.at(digest), index);
    }
    for (const auto& [id, count] : grants_) EXPECT_EQ(count, 1) << "grants in case " << to_hex(id);
    world.company.now = BrokerProcess::wall_clock();
  }
  std::size_t grants() const { return grants_.size(); }

  // judge_output: a program that stops says why, and none breaks.
  void judge_output(const std::string& part) {
    const std::string whole = process(part).output(), text = whole.substr(judged_[part]);
    judged_[part] = whole.size();
    for (const char* never : {"broken promise", "terminate called", "[internal]", "Sanitizer"})
      EXPECT_EQ(text.find(never), text.npos)
          << part << ": " << text.substr(text.size() - std::min<std::size_t>(text.size(), 2000));
  }

 private:
  BrokerProcess::Programs programs() {
    return {.keyguard = SALLYPORT_KEYGUARD_PROGRAM,
            .broker = SALLYPORT_BROKER_PROGRAM,
            .witness = SALLYPORT_WITNESS_PROGRAM,
            .keyguard_environment = keyguard_faults.environment("/keyguard/"),
            .broker_environment = broker_faults.environment("/broker/"),
            .witness_environments = {witness_faults.environment("/state/")},
            .on_answer = [this](ByteView answer) {
              const auto frame = keyguard::parse_frame(answer);
              ASSERT_THAT(frame, Succeeds());
              if (frame->call == keyguard::Call::kAdvance) told.note(std::string{as_text(frame->payload)});
            }};
  }
  void remember(const WitnessProcess& witness) {
    auto client = net::HttpClient::connect(witness.url(), {});
    if (!client.has_value()) return;  // it is away: it is asked the next time
    const auto origin = world.company.origin();
    const auto answer = client->get("/" + to_hex(crypto::sha256(as_bytes(origin.get()))) + "/checkpoint");
    if (answer.has_value() && answer->status == 200) told.note(std::string{answer->text()});
  }
  // take keeps what an entry leads to; some were read in the course of an access.
  void take(const Entry& entry, std::uint64_t index) {
    range_.append(ledger::leaf_hash(entry.leaf));
    roots_.push_back(range_.root());
    const Digest256 digest = statement_digest(value_of(open_envelope(value_of(parse_body(entry.body)))));
    in_log_.emplace(digest, index);
    if (entry.leaf.kind == static_cast<std::uint8_t>(Kind::kGrant)) ++grants_[entry.leaf.case_id];
  }

  std::size_t mended_ = 0;
  std::map<std::string, std::size_t> judged_;  // of each part's output
  std::uint64_t noted_ = 0;
  ledger::CompactRange range_;
  std::vector<Digest256> roots_{ledger::CompactRange{}.root()};  // by size
  std::map<Digest256, std::uint64_t> in_log_;
  std::map<CaseId, int> grants_;
};

// Work is done by clients that try again until they are told: three append at once, and one asks for the
// certificate of a case that was approved.
class Work {
 public:
  Work(House& house, std::optional<OpenCase> open) : house_(house), open_(std::move(open)) {
    for (int i = 0; i < 3; ++i) threads_.emplace_back([this] { append(); });
    if (open_) threads_.emplace_back([this] { activate(); });
  }
  ~Work() {
    give_up_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  bool done() const { return done_ == threads_.size(); }
  std::string refusal() const {
    const std::lock_guard lock{mutex_};
    return refusal_;
  }
  const std::optional<OpenCase>& open() const { return open_; }
  const std::optional<api::Activated>& given() const { return given_; }  // when it is done

 private:
  template <class Step>
  void try_until_told(Step step) {
    poll_until(
        [&] {
          const Status told = step();
          if (!told.has_value()) {
            const std::lock_guard lock{mutex_};
            refusal_ = describe(told.error());
          }
          if (told.has_value()) ++done_;
          return told.has_value() || give_up_;
        },
        seconds{120});
  }
  void append() {
    const House::Revoking one = house_.revoking();
    std::optional<ApiPeer> peer;
    try_until_told([&]() -> Status {
      if (!peer) {
        SP_TRY(ApiPeer fresh, house_.world.peer("ivan"));
        peer.emplace(std::move(fresh));
      }
      const auto submitted = peer->submit(one.submission);
      if (!submitted.has_value()) {
        peer.reset();
        return submitted.error();
      }
      house_.told.leaf(one.digest, submitted->leaf);
      if (const auto head = peer->head(); head.has_value()) house_.told.note(*head);
      return Done{};
    });
  }
  void activate() {
    try_until_told([&]() -> Status {
      SP_TRY(given_, house_.access.activate(*open_));
      return Done{};
    });
  }

  House& house_;
  std::optional<OpenCase> open_;
  std::optional<api::Activated> given_;
  std::atomic<bool> give_up_ = false;
  std::atomic<std::size_t> done_ = 0;
  mutable std::mutex mutex_;
  std::string refusal_;
  std::vector<std::thread> threads_;
};

void check_given(House& house, const Work& work) {
  if (!work.open()) return;
  ASSERT_TRUE(work.given());
  const auto again = house.access.activate(*work.open());
  ASSERT_THAT(again, Succeeds());
  EXPECT_EQ(again->certificate, work.given()->certificate);
  house.check();
  const auto grant = verify_dossier(value_of(parse_dossier(again->dossier)), house.world.company.follower,
                                    BrokerProcess::wall_clock());
  ASSERT_THAT(grant, Succeeds());
  EXPECT_THAT(
      credentials::verify_ssh_certificate(value_of(credentials::parse_ssh_certificate(again->certificate)),
                                          *grant, house.world.company.company.policy.ssh_ca),
      Succeeds());
}

// ---- the matrix

constexpr std::uint32_t bit(FileCall call) {
  return static_cast<std::uint32_t>(call);
}
constexpr std::uint32_t kChanging = bit(FileCall::kCreate) | bit(FileCall::kWrite) | bit(FileCall::kSync) |
                                    bit(FileCall::kTruncate) | bit(FileCall::kName);
constexpr std::uint32_t kTakingSpace =
    bit(FileCall::kCreate) | bit(FileCall::kWrite) | bit(FileCall::kTruncate);
constexpr const char* kCallNames[kFileCalls] = {"open",  "create", "read", "write", "sync", "truncate",
                                                "close", "map",    "stat", "lock",  "name"};

struct Fault {
  std::string name;
  std::uint32_t mask;
  Blow blow;
  int error;
  bool lasts;
};
struct Point {
  std::string part, work;  // append, grant, start, stop
  Fault fault;
  std::uint64_t at;
  std::string text() const { return part + ":" + work + ":" + fault.name + ":" + std::to_string(at) + ":"; }
};

// points_of gives what can be struck in a piece of work that makes so many calls of each class.
std::vector<Point> points_of(const std::string& part, const std::string& work,
                             const std::vector<std::uint64_t>& calls) {
  std::vector<Point> out;
  const auto add = [&](Fault fault, std::uint64_t count, std::uint64_t step = 1) {
    for (std::uint64_t at = 1; at <= count; at += step) out.push_back({part, work, fault, at});
  };
  std::uint64_t all = 0, spacious = 0;
  for (unsigned i = 0; i < kFileCalls; ++i) {
    const std::uint32_t mask = 1u << i;
    const std::string name = kCallNames[i];
    all += calls[i];
    if ((mask & kTakingSpace) != 0) spacious += calls[i];
    add({name + "-eio", mask, Blow::kFail, EIO, false}, calls[i]);
    if ((mask & kChanging) == 0) continue;
    add({name + "-done-eio", mask, Blow::kFailDone, EIO, false}, calls[i]);
    add({name + "-kill", mask, Blow::kKill, 0, false}, calls[i]);
    if (mask == bit(FileCall::kSync)) add({name + "-done-kill", mask, Blow::kKillDone, 0, false}, calls[i]);
    if (mask == bit(FileCall::kWrite)) add({name + "-torn-kill", mask, Blow::kKillTorn, 0, false}, calls[i]);
  }
  add({"disk-full", kTakingSpace, Blow::kFail, ENOSPC, true}, spacious, 3);
  add({"disk-gone", kAllFileCalls, Blow::kFail, EIO, true}, all, 7);
  return out;
}

class Matrix {
 public:
  // count gives what a piece of work of a part makes of calls when nothing is struck.
  std::vector<Point> count(const std::string& part, const std::string& work) {
    House& house = *house_;
    FaultFile& faults = house.faults(part);
    const WithoutAWitness fewer{house, part};
    std::optional<OpenCase> open;
    if (work == "grant") open = house.access.request();
    if (work == "start") house.process(part).send(SIGKILL), house.process(part).wait();
    faults.begin_count();
    if (work == "start") {
      EXPECT_TRUE(house.start(part)) << house.process(part).output();
      append_once();
    } else if (work == "stop") {
      house.process(part).send(SIGTERM);
      EXPECT_EQ(house.process(part).wait(), 0) << house.process(part).output();
    } else {
      const Work clients{house, open};
      EXPECT_TRUE(poll_until([&] { return clients.done(); })) << clients.refusal();
    }
    std::vector<std::uint64_t> calls;
    for (unsigned i = 0; i < kFileCalls; ++i) calls.push_back(faults.calls(i));
    if (work == "stop") {
      EXPECT_TRUE(house.start(part)) << house.process(part).output();
    }
    return points_of(part, work, calls);
  }

  void run(const Point& point) {
    if (++runs_ % 100 == 0) {
      house_.reset();  // before the next: where SoftHSM's tokens are is in the environment
      house_ = std::make_unique<House>();
    }
    House& house = *house_;
    const WithoutAWitness fewer{house, point.part};
    const std::string became = point.work == "stop" ? run_stop(point) : run_work(point);
    house.judge_output(point.part);
    append_once();
    house.check();
    ++outcomes_[point.part + " " + point.work + " " + point.fault.name + ": " + became];
  }

  void tell() const {
    for (const auto& [what, count] : outcomes_) std::cout << "  " << count << " x " << what << "\n";
    std::cout << "  " << house_->told.summary() << " in the last house\n";
  }

 private:
  // Two witnesses of three are a quorum: so that the first is needed, another is away.
  struct WithoutAWitness {
    WithoutAWitness(House& in, const std::string& part) : house(in), away(part == "witness") {
      if (away) house.world.witnesses[1]->kill();
    }
    ~WithoutAWitness() {
      if (away) house.world.witnesses[1]->start();
    }
    House& house;
    bool away;
  };

  void arm(const Point& point) {
    const Fault& fault = point.fault;
    house_->faults(point.part).arm(fault.mask, point.at, fault.blow, fault.error, fault.lasts);
  }
  static bool kills(const Point& point) {
    return point.fault.blow == Blow::kKill || point.fault.blow == Blow::kKillDone ||
           point.fault.blow == Blow::kKillTorn;
  }

  // judge_end: a part that ended did so because it was killed, or stopped with a code and a line that says
  // why.
  std::string judge_end(const Point& point, std::size_t output_before) {
    Process& process = house_->process(point.part);
    const int code = process.wait();
    const std::string output = process.output().substr(output_before);
    if (code == 0 && point.work == "stop") return "ended";
    if (kills(point)) {
      EXPECT_EQ(code, 128 + SIGKILL) << output;
      return "killed";
    }
    EXPECT_TRUE(code == 9 || code == 70 || (point.part == "witness" && code == 1))
        << point.part << " ended with " << code << ": " << output;
    EXPECT_NE(output.find("storage"), output.npos) << point.part << " does not say why it stops: " << output;
    return "stopped with " + std::to_string(code);
  }

  std::string run_work(const Point& point) {
    House& house = *house_;
    FaultFile& faults = house.faults(point.part);
    std::optional<OpenCase> open;
    if (point.work == "grant") open = house.access.request();
    if (point.work == "start") {
      house.process(point.part).send(SIGKILL);
      house.process(point.part).wait();
    }
    std::size_t before = house.process(point.part).output().size();
    std::string became;
    const auto ended = [&] {
      became = judge_end(point, before);
      before = house.process(point.part).output().size();
    };
    arm(point);
    if (point.work == "start" && !house.start(point.part)) {
      ended();
      faults.disarm();
      EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
    }
    const Work clients{house, open};
    std::optional<steady_clock::time_point> since;
    poll_until([&] {
      if (clients.done() || !house.process(point.part).running()) return true;
      if (!faults.struck()) return false;
      if (!since) since = steady_clock::now();
      return point.fault.lasts && steady_clock::now() - *since > milliseconds{300};
    });
    const bool struck = faults.struck();
    if (point.fault.lasts && !house.process(point.part).running()) {
      // It stays away, or comes and goes, as long as the disk does.
      ended();
      const bool serves = house.start(point.part);
      if (!serves) ended();
      faults.disarm();
      if (!serves) {
        EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
      }
    }
    faults.disarm();
    const bool done = poll_until([&] {
      if (!house.process(point.part).running()) {
        ended();
        EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
      }
      return clients.done();
    });
    EXPECT_TRUE(done) << "it does not go on by itself: " << clients.refusal() << "\n"
                      << house.world.ready().second << house.process(point.part).output().substr(before);
    if (!done) return "hangs";
    if (became.empty() && kills(point) && faults.struck()) {  // it dies with the work's last word
      EXPECT_TRUE(poll_until([&] { return !house.process(point.part).running(); }));
      ended();
      EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
    }
    check_given(house, clients);
    return !became.empty() ? became : struck ? "went on" : "not reached";
  }

  std::string run_stop(const Point& point) {
    House& house = *house_;
    const std::size_t before = house.process(point.part).output().size();
    arm(point);
    house.process(point.part).send(SIGTERM);
    const std::string became = judge_end(point, before);
    house.faults(point.part).disarm();
    EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
    return became;
  }

  // append_once: who appends is told, by all parts.
  void append_once() {
    const Work clients{*house_, std::nullopt};
    EXPECT_TRUE(poll_until([&] { return clients.done(); })) << clients.refusal();
  }

  std::unique_ptr<House> house_ = std::make_unique<House>();
  std::size_t runs_ = 0;
  std::map<std::string, std::size_t> outcomes_;
};

TEST(FaultMatrixDestructive, WhateverIsStruckTheLogGoesOnAndIsWhatEverybodyWasTold) {
  Matrix matrix;
  std::vector<Point> points;
  for (const char* part : {"broker", "keyguard", "witness"})
    for (const char* work : {"append", "grant", "start", "stop"}) {
      if (part == std::string{"witness"} && work == std::string{"grant"}) continue;
      const auto some = matrix.count(part, work);
      points.insert(points.end(), some.begin(), some.end());
    }
  const std::size_t all = points.size();
  const char* const wanted = getenv("FAULTS");
  const std::uint64_t seed = number_from("FAULTS_SEED", std::random_device{}());
  if (const char* const only = getenv("FAULTS_ONLY"))
    std::erase_if(points, [&](const Point& point) { return point.text().find(only) == std::string::npos; });
  else if (wanted == nullptr || std::string{wanted} != "all") {
    // Every kind of point is drawn as often as any: there are many more writes than syncs.
    std::mt19937_64 random{seed};
    std::shuffle(points.begin(), points.end(), random);
    std::map<std::string, std::size_t> drawn;
    std::vector<std::pair<std::size_t, Point>> ordered;
    for (Point& point : points) {
      const std::size_t turn = drawn[point.part + point.work + point.fault.name]++;
      ordered.emplace_back(turn, std::move(point));
    }
    std::stable_sort(ordered.begin(), ordered.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    points.clear();
    for (auto& [turn, point] : ordered)
      if (points.size() < number_from("FAULTS", kPoints)) points.push_back(std::move(point));
  }
  if (const char* const part = getenv("FAULTS_PART")) {
    unsigned long one = 0, of = 1, at = 0;
    EXPECT_EQ(std::sscanf(part, "%lu/%lu", &one, &of), 2);
    std::erase_if(points, [&](const Point&) { return at++ % of != one; });
  }
  std::cout << points.size() << " points of " << all
            << "; again: FAULTS=" << (wanted ? wanted : std::to_string(kPoints)) << " FAULTS_SEED=" << seed
            << std::endl;
  const auto began = steady_clock::now();
  for (const Point& point : points) {
    const bool failed_before = HasFailure();
    SCOPED_TRACE("again: FAULTS_ONLY=" + point.text());
    const auto at = steady_clock::now();
    matrix.run(point);
    if (getenv("FAULTS_VERBOSE") != nullptr)
      std::cout << point.text() << " "
                << std::chrono::duration_cast<milliseconds>(steady_clock::now() - at).count() << " ms"
                << std::endl;
    if (!failed_before && HasFailure()) std::cout << "first failure at " << point.text() << std::endl;
    if (HasFatalFailure()) break;
  }
  matrix.tell();
  std::cout << "  " << std::chrono::duration_cast<seconds>(steady_clock::now() - began).count() << " s\n";
}

// ---- kills at random moments

TEST(FaultMatrixDestructive, KilledAtRandomMomentsItLosesNothing) {
  const std::uint64_t kills = number_from("KILLS", kKills),
                      seed = number_from("KILLS_SEED", std::random_device{}());
  std::cout << "again: KILLS=" << kills << " KILLS_SEED=" << seed << std::endl;
  std::mt19937_64 random{seed};
  auto house = std::make_unique<House>();
  const std::vector<std::string> parts{"keyguard", "broker", "witness-one", "witness-two", "witness-three"};
  std::size_t told = 0, grants = 0, mended = 0;
  for (std::uint64_t kill = 0; kill < kills && !HasFailure(); ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill));
    if (kill % 200 == 199) {
      told += house->told.count();
      mended += house->mended();
      grants += house->grants();
      house.reset();
      house = std::make_unique<House>();
    }
    std::optional<OpenCase> open;
    if (kill % 5 == 0) open = house->access.request();
    std::vector<std::string> dying{
        parts[random() % (kill % 2 == 0 ? 2 : parts.size())]};  // those of whom there is one, oftener
    if (random() % 4 == 0) dying.push_back(parts[random() % parts.size()]);
    if (dying.size() == 2 && dying[0] == dying[1]) dying.pop_back();
    const Work clients{*house, open};
    const auto moment = steady_clock::now() + std::chrono::microseconds{random() % (open ? 150'000 : 60'000)};
    poll_until([&] { return steady_clock::now() >= moment; });
    for (const std::string& part : dying) {
      house->process(part).send(SIGKILL);
      EXPECT_EQ(house->process(part).wait(), 128 + SIGKILL) << house->process(part).output();
    }
    for (const std::string& part : dying) EXPECT_TRUE(house->start(part)) << house->process(part).output();
    EXPECT_TRUE(poll_until([&] { return clients.done(); }))
        << clients.refusal() << house->world.ready().second;
    if (!clients.done()) break;
    house->check();
    check_given(*house, clients);
    for (const std::string& part : parts) house->judge_output(part);
  }
  std::cout << "  " << kills << " kills, " << told + house->told.count() << " leaves acknowledged, "
            << grants + house->grants() << " grants, SoftHSM's token put back " << mended + house->mended()
            << " times; " << house->told.summary() << " in the last house\n";
}

}  // namespace
}  // namespace sallyport::test

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <iostream>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "attestation/follow/follower.h"
#include "tests/support/fault_house.h"
#include "tests/support/matchers.h"

// `sallyport-gate serve`, struck at each of its calls on its own state while it follows the log, and while it
// starts. It never opens to what it has seen revoked, is shut while it cannot follow, and once its disk is
// there goes on by itself, started again as its unit would. Which points are run:
// tests/support/fault_points.h.
namespace sallyport::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kPoints = 6;  // of every run

// Clock is by how much the gate's time of day is ahead of ours.
class Clock {
 public:
  explicit Clock(const std::filesystem::path& path) {
    const std::uint64_t nothing = 0;
    std::ofstream{path, std::ios::binary}.write(reinterpret_cast<const char*>(&nothing), sizeof(nothing));
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    void* const at = ::mmap(nullptr, sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    EXPECT_NE(at, MAP_FAILED);
    off_ = static_cast<std::atomic<std::uint64_t>*>(at);
  }
  ~Clock() { ::munmap(off_, sizeof(std::uint64_t)); }
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  void set_ahead(milliseconds by) { *off_ = static_cast<std::uint64_t>(by.count()); }

 private:
  std::atomic<std::uint64_t>* off_ = nullptr;
};

// Gate is the service of db-7, in a mount namespace in which there is an account behind it.
class Gate {
 public:
  explicit Gate(House& house)
      : faults(house.directory / "gate-faults"), clock(house.directory / "gate-clock"), house_(house) {
    write("host.key", house.world.company.host_key.to_pem().expose());
    write("trust.toml", as_bytes(follow::format_trust_file(anchor())));
    write("gate.toml",
          as_bytes("host = \"db-7\"\nhost_key = \"" + file("host.key") + "\"\nurl = \"" + house.world.url() +
                   "\"\ntrust = \"" + file("trust.toml") + "\"\nstate = \"" + file("gate-state") +
                   "\"\nsessions_without_cgroups = true\n[accounts]\n" + "dbadmin = \"/bin/bash\"\n"));
    // Not setgid in effect (nosuid): the loader would take nothing that is to be preloaded.
    write("gate.sh", as_bytes("set -eu\n"
                              "mount -t tmpfs -o mode=755,nosuid tmpfs /run\n"
                              "mkdir /run/sallyport\n"
                              "install -g 4000 -m 2755 \"$1\" /run/sallyport/sallyport-gate\n"
                              "cp /etc/passwd /run/passwd\n"
                              "echo dbadmin:x:4001:4001::/:/run/sallyport/sallyport-gate >>/run/passwd\n"
                              "mount --bind /run/passwd /etc/passwd\n"
                              "exec /run/sallyport/sallyport-gate serve --config \"$2\"\n"));
    Process init{{SALLYPORT_GATE_PROGRAM, "init", "--config", file("gate.toml")}, file("gate-init.log")};
    EXPECT_EQ(init.wait(), 0) << init.output();
    EXPECT_TRUE(start()) << output();
  }

  ~Gate() {  // by itself, so that it takes its cgroup with it
    faults.disarm();
    process_->send(SIGTERM);
    process_->wait();
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  FaultFile faults;
  Clock clock;

  // start gives whether it serves.
  bool start() {
    std::vector<std::string> environment = faults.environment("/gate-state/");
    environment[0] += ":" SALLYPORT_SET_CLOCK;
    environment.push_back("SALLYPORT_TEST_CLOCK_OFF=" + file("gate-clock"));
    process_.emplace(
        std::vector<std::string>{"/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh",
                                 file("gate.sh"), SALLYPORT_GATE_PROGRAM, file("gate.toml")},
        file("gate-" + std::to_string(starts_++) + ".log"), environment);
    poll_until([&] { return output().find("listens on") != std::string::npos || !process_->running(); });
    return process_->running();
  }
  Process& process() { return *process_; }
  std::string output() const { return process_->output(); }

  // ask is sshd's question: the principal of a certificate, or nothing.
  std::string ask(const Bytes& certificate) {
    std::filesystem::remove(file("asked.log"));  // a process adds to its log
    const std::string socket = "/proc/" + std::to_string(process_->pid()) + "/root/run/sallyport/gate.sock";
    Process asking{
        {SALLYPORT_GATE_PROGRAM, "principals", "--socket", socket, "dbadmin", to_base64(certificate)},
        file("asked.log")};
    // It waits for a service that is to start anew; that would be after this answer.
    poll_until([&] { return !asking.running() || !process_->running(); });
    if (!process_->running()) return {};
    const int code = asking.wait();
    return code == 0 ? asking.output() : std::string{};
  }

  // check_state: what is on its disk is a beginning of the log.
  void check_state() {
    const auto follower = follow::Follower::open(house_.directory / "gate-state" / "follow.db", anchor());
    ASSERT_THAT(follower, Succeeds());
    const auto control = (*follower)->control();
    house_.world.replay();
    const auto& entries = house_.world.company.entries;
    ASSERT_LE(control->size().get(), entries.size());
    ledger::CompactRange range;
    for (std::size_t i = 0; i < control->size().get(); ++i) range.append(ledger::leaf_hash(entries[i].leaf));
    EXPECT_EQ(control->root(), range.root());
  }

 private:
  follow::TrustAnchor anchor() const { return {house_.world.company.origin(), house_.world.company.genesis}; }
  std::string file(const std::string& name) const { return (house_.directory / name).string(); }
  void write(const std::string& name, ByteView bytes) const {
    std::ofstream{file(name), std::ios::binary}.write(reinterpret_cast<const char*>(bytes.data()),
                                                      static_cast<std::streamsize>(bytes.size()));
    std::filesystem::permissions(file(name), std::filesystem::perms{0600});
  }

  House& house_;
  std::optional<Process> process_;
  int starts_ = 0;
};

class Gates {
 public:
  Gates() { next_grant(); }

  // count gives what can be struck in a piece of work.
  std::vector<Point> count(const std::string& work) {
    Gate& gate = *gate_;
    begin(work);
    gate.faults.begin_count();
    if (work == "start") {
      EXPECT_TRUE(gate.start()) << gate.output();
    } else {
      revoke();
    }
    EXPECT_TRUE(poll_until([&] { return gate.ask(granted_->certificate).empty(); })) << gate.output();
    const auto calls = gate.faults.calls();
    next_grant();
    return points_of("gate", work, calls);
  }

  void run(const Point& point) {
    if (++runs_ % 100 == 0) {
      gate_.reset();
      house_.reset();  // before the next: where SoftHSM's tokens are is in the environment
      house_ = std::make_unique<House>();
      gate_ = std::make_unique<Gate>(*house_);
      next_grant();
    }
    Gate& gate = *gate_;
    begin(point.work);
    std::string became;
    const auto ended = [&] { became = judge_end(point); };
    gate.faults.arm(point.fault, point.at);
    if (point.work == "start") {
      if (!gate.start()) ended();
    } else {
      revoke();
    }
    std::optional<steady_clock::time_point> since;
    poll_until([&] {
      if (!gate.process().running() || gate.ask(granted_->certificate).empty()) return true;
      if (!gate.faults.struck()) return false;
      if (!since) since = steady_clock::now();
      return point.fault.lasts && steady_clock::now() - *since > milliseconds{300};
    });
    const bool struck = gate.faults.struck();
    if (point.fault.lasts && struck && gate.process().running()) {
      // It can take nothing more: so it is shut when what it has is too old to be relied on.
      gate.clock.set_ahead(seconds{121});
      EXPECT_TRUE(poll_until([&] {
        return !gate.process().running() || gate.ask(granted_->certificate).empty();
      })) << gate.output();
      gate.clock.set_ahead(seconds{0});
    }
    gate.faults.disarm();
    EXPECT_TRUE(poll_until([&] {
      if (!gate.process().running()) {
        if (became.empty()) ended();
        EXPECT_TRUE(gate.start()) << gate.output();
      }
      return gate.ask(granted_->certificate).empty();
    })) << "it opens to what is revoked: "
        << gate.output();
    judge_output();
    const Bytes revoked = granted_->certificate;
    next_grant();
    EXPECT_EQ(gate.ask(revoked), "");
    gate.check_state();
    ++outcomes_[point.work + " " + point.fault.name + ": " +
                (!became.empty() ? became
                 : struck        ? "went on"
                                 : "not reached")];
  }
  void tell() const {
    for (const auto& [what, count] : outcomes_) std::cout << "  " << count << " x " << what << "\n";
  }

 private:
  // begin: who starts has yet to see that the granted case was revoked.
  void begin(const std::string& work) {
    if (work != "start") return;
    gate_->process().send(SIGKILL);
    gate_->process().wait();
    revoke();
  }
  void revoke() {
    const auto& company = house_->world.company;
    const CaseId id = crypto::random_case_id();
    const record::Revocation revocation{.authority = company.origin().get(),
                                        .case_id = id,
                                        .kind = record::RevocationKind::kCase,
                                        .person = SampleCompany::id("ivan"),
                                        .reason = "drill",
                                        .target = to_hex(open_->id),
                                        .time = BrokerProcess::wall_clock()};
    const record::Submission submission{
        company.sign_payload(record::payload_type(record::Kind::kRevocation), record::encode(revocation),
                             company.company.token("ivan")),
        {}};
    EXPECT_THAT(value_of(house_->world.peer("ivan")).submit(submission), Succeeds());
  }
  // next_grant: another access is granted, and the gate opens to it.
  void next_grant() {
    open_ = house_->access.request();
    granted_ = value_of(house_->access.activate(*open_));
    EXPECT_TRUE(poll_until([&] {
      return gate_->ask(granted_->certificate) == "sallyport:" + to_hex(open_->id) + "\n";
    })) << "it does not go on by itself: "
        << gate_->output();
  }
  std::string judge_end(const Point& point) {
    const int code = gate_->process().wait();
    const std::string output = gate_->output();
    judge_output();
    if (point.fault.kills()) {
      EXPECT_EQ(code, 128 + SIGKILL) << output;
      return "killed";
    }
    EXPECT_EQ(code, 9) << output;
    EXPECT_NE(output.find("storage"), output.npos) << "it does not say why it stops: " << output;
    return "stopped with " + std::to_string(code);
  }
  void judge_output() const {
    const std::string output = gate_->output();
    for (const char* never : {"broken promise", "terminate called", "[internal]", "Sanitizer"})
      EXPECT_EQ(output.find(never), output.npos) << output;
  }

  std::unique_ptr<House> house_ = std::make_unique<House>();
  std::unique_ptr<Gate> gate_ = std::make_unique<Gate>(*house_);
  std::optional<OpenCase> open_;
  std::optional<api::Activated> granted_;
  std::size_t runs_ = 0;
  std::map<std::string, std::size_t> outcomes_;
};

TEST(FaultGate, IsShutToWhatIsRevokedAndGoesOnByItself) {
  Gates gates;
  std::vector<Point> points;
  for (const char* work : {"follow", "start"}) {
    const auto some = gates.count(work);
    points.insert(points.end(), some.begin(), some.end());
  }
  run_points(std::move(points), kPoints, [&](const Point& point) { gates.run(point); });
  gates.tell();
}

}  // namespace
}  // namespace sallyport::test

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <mutex>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "tests/support/broker_access.h"
#include "tests/support/matchers.h"

// What runs out, hangs or lies around the real programs: an HSM that does not answer, a clock that is wrong
// by an hour, descriptors that are used up. Each is told by its name, releases nothing, and is over when its
// cause is.
namespace sallyport::test {
namespace {

using namespace record;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

BrokerProcess::Programs programs() {
  return {.keyguard = SALLYPORT_KEYGUARD_PROGRAM,
          .broker = SALLYPORT_BROKER_PROGRAM,
          .witness = SALLYPORT_WITNESS_PROGRAM};
}

Status append(const BrokerProcess& world) {
  SP_TRY(ApiPeer ivan, world.peer("ivan"));
  SP_CHECK(ivan.submit(make_revocation(world)));
  return Done{};
}

// Appending tries in the background, again and again, and counts what was acknowledged.
class Appending {
 public:
  explicit Appending(const BrokerProcess& world)
      : thread_([this, &world] {
          while (!stop_) {
            const Status told = append(world);
            if (told.has_value())
              ++count_;
            else
              poll_until([this] { return stop_.load(); }, seconds{0});
            const std::lock_guard lock{mutex_};
            if (!told.has_value()) refusal_ = describe(told.error());
          }
        }) {}
  ~Appending() {
    stop_ = true;
    thread_.join();
  }
  std::size_t count() const { return count_; }
  std::string refusal() const {
    const std::lock_guard lock{mutex_};
    return refusal_;
  }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<std::size_t> count_ = 0;
  mutable std::mutex mutex_;
  std::string refusal_;
  std::thread thread_;
};

void expect_ready(const BrokerProcess& world) {
  world.expect_ready();
  EXPECT_TRUE(poll_until([&] { return append(world).has_value(); })) << describe(append(world).error());
}

// ---- an HSM that hangs, or is pulled out

TEST(Outages, AnHsmThatHangsOrIsPulledOutIsToldAndWaitedFor) {
  const TemporaryDirectory directory;
  const std::string mood = directory / "mood";
  std::ofstream{mood} << 'w';
  ::setenv("SALLYPORT_TEST_HSM", mood.c_str(), 1);
  BrokerProcess world{programs()};
  world.kill_keyguard();
  world.hsm_module = SALLYPORT_MOODY_MODULE;
  world.start_keyguard();
  ::unsetenv("SALLYPORT_TEST_HSM");
  expect_ready(world);
  for (const char how : {'h', 'r'}) {
    SCOPED_TRACE(how);
    const Appending appending{world};
    ASSERT_TRUE(poll_until([&] { return appending.count() != 0; })) << appending.refusal();
    std::ofstream{mood} << how;
    world.expect_not_ready("hsm");
    const std::size_t before = appending.count();
    EXPECT_EQ(appending.count(), before);
    EXPECT_TRUE(world.keyguard().running());
    std::ofstream{mood} << 'w';
    EXPECT_TRUE(poll_until([&] { return appending.count() > before; })) << appending.refusal();
    world.expect_ready();
  }
}

// ---- clocks

// ClockOff is how far the clock of a program is ahead.
class ClockOff {
 public:
  explicit ClockOff(std::filesystem::path file) : file_(std::move(file)) { set(milliseconds{0}); }
  std::vector<std::string> environment() const {
    return {"LD_PRELOAD=" SALLYPORT_SET_CLOCK, "SALLYPORT_TEST_CLOCK_OFF=" + file_.string()};
  }
  void set(milliseconds ahead) const {
    const std::int64_t value = ahead.count();
    const int fd = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_EQ(::pwrite(fd, &value, sizeof(value), 0), static_cast<ssize_t>(sizeof(value)));
    ::close(fd);
  }

 private:
  std::filesystem::path file_;
};

constexpr std::chrono::hours kHour{1};

TEST(Outages, AKeyguardWhoseClockIsWrongSignsNothingAfterItsStartUntilItIsRight) {
  const TemporaryDirectory directory;
  const ClockOff clock{directory / "clock"};
  BrokerProcess::Programs with = programs();
  with.keyguard_environment = clock.environment();
  BrokerProcess world{std::move(with)};
  expect_ready(world);
  for (const milliseconds off : {milliseconds{kHour}, milliseconds{-kHour}}) {
    SCOPED_TRACE(off.count());
    clock.set(off);
    world.kill_keyguard();
    world.start_keyguard();
    const Appending appending{world};
    world.expect_not_ready("stale");
    EXPECT_EQ(appending.count(), 0u);
    clock.set(milliseconds{0});
    EXPECT_TRUE(poll_until([&] { return appending.count() != 0; })) << appending.refusal();
    world.expect_ready();
  }
}

TEST(Outages, ABrokerWhoseClockIsWrongTakesNothingUntilItIsRight) {
  const TemporaryDirectory directory;
  const ClockOff clock{directory / "clock"};
  BrokerProcess::Programs with = programs();
  with.broker_environment = clock.environment();
  BrokerProcess world{std::move(with)};
  expect_ready(world);
  for (const milliseconds off : {milliseconds{kHour}, milliseconds{-kHour}}) {
    SCOPED_TRACE(off.count());
    clock.set(off);
    {
      const Appending appending{world};
      // Nobody can sign in with a clock that differs; a witness round would tell it to operators, too.
      EXPECT_TRUE(poll_until([&] { return !appending.refusal().empty(); }));
      EXPECT_THAT(appending.refusal(), HasSubstr("the clocks differ"));
      EXPECT_EQ(appending.count(), 0u);
      clock.set(milliseconds{0});
      EXPECT_TRUE(poll_until([&] { return appending.count() != 0; })) << appending.refusal();
    }
    world.replay();
    for (const Entry& entry : world.company.entries)
      EXPECT_LE(entry.leaf.time.get(), BrokerProcess::wall_clock().get() + 30'000) << "a leaf of the future";
  }
  expect_ready(world);
}

TEST(Outages, WitnessesWhoseClocksAreWrongAreNamedAndDoWithoutOneAndNotWithoutTwo) {
  const TemporaryDirectory directory;
  const ClockOff one{directory / "one"}, two{directory / "two"};
  BrokerProcess::Programs with = programs();
  with.witness_environments = {one.environment(), two.environment()};
  BrokerProcess world{std::move(with)};
  expect_ready(world);
  for (const ClockOff* clock : {&one, &two}) clock->set(-milliseconds{kHour});  // they refuse by themselves
  const Appending appending{world};
  world.expect_not_ready("witness-one");
  const std::size_t before = appending.count();
  EXPECT_THAT(world.ready().second, HasSubstr("witness-two"));
  two.set(milliseconds{0});
  EXPECT_TRUE(poll_until([&] { return appending.count() > before; })) << appending.refusal();
  world.expect_ready();
  one.set(milliseconds{kHour});  // and this one cosigns, but is not believed
  EXPECT_TRUE(poll_until([&] { return world.ready().second.find("its clock is 36") != std::string::npos; }))
      << world.ready().second;
  EXPECT_EQ(world.ready().first, 200u);
}

// ---- descriptors and ports

std::vector<int> idle_connections(int port, std::size_t count) {
  std::vector<int> out;
  for (std::size_t i = 0; i < count; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    out.push_back(fd);
  }
  return out;
}

milliseconds cpu_of(const Process& process) {
  std::ifstream in{"/proc/" + std::to_string(process.pid()) + "/stat"};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  std::istringstream fields{text.substr(text.rfind(')') + 2)};
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  long user = 0, system = 0;
  fields >> user >> system;
  return milliseconds{(user + system) * 1000 / ::sysconf(_SC_CLK_TCK)};
}

TEST(Outages, DescriptorsThatAreUsedUpCostNobodyWhoIsConnectedAnything) {
  const TemporaryDirectory directory;
  BrokerProcess::Programs with = programs();
  const auto wrapper = directory / "few-descriptors";
  std::ofstream{wrapper} << "#!/bin/sh\nulimit -n 128\nexec '" << with.broker << "' \"$@\"\n";
  std::filesystem::permissions(wrapper, std::filesystem::perms::owner_all);
  with.broker = wrapper;
  BrokerProcess world{std::move(with)};
  expect_ready(world);
  ApiPeer ivan = value_of(world.peer("ivan"));
  const std::string url = world.url();
  const auto idle = idle_connections(std::stoi(url.substr(url.rfind(':') + 1)), 300);
  const auto cpu = cpu_of(world.broker());
  const auto began = steady_clock::now();
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(ivan.submit(make_revocation(world)), Succeeds());
  }
  // The keyguard and a witness come back, which costs descriptors.
  world.kill_keyguard();
  world.start_keyguard();
  world.witnesses[0]->restart();
  world.witnesses[1]->kill();
  EXPECT_THAT(ivan.submit(make_revocation(world)), Succeeds());
  EXPECT_EQ(world.ready().first, 200u) << world.ready().second;
  world.witnesses[1]->start();
  EXPECT_TRUE(poll_until([&] { return steady_clock::now() - began > seconds{2}; }));
  EXPECT_LT(cpu_of(world.broker()) - cpu, milliseconds{1'000}) << "it spins";
  for (const int fd : idle) ::close(fd);
  expect_ready(world);
  EXPECT_THAT(world.broker().output(), HasSubstr("connections are turned away"));
}

// ---- a disk that is full

TEST(Outages, AFullDiskIsToldAndIsOverWhenThereIsRoom) {
  if (::geteuid() != 0) GTEST_SKIP() << "root mounts the small disk";
  const TemporaryDirectory directory;
  const auto wrapper = directory / "on-a-small-disk", small = directory / "small";
  BrokerProcess::Programs with = programs();
  // In a mount namespace of its own: a full disk first, and then room, as under a unit that starts it again.
  std::ofstream{wrapper} << "#!/bin/sh\nexport BROKER='" << with.broker << "'\n"
                         << "[ -e '" << small.string() << "' ] || exec \"$BROKER\" \"$@\"\n"
                         << R"(cp -a "$3" "$3.copy"
exec unshare -m /bin/sh -c 'mount -t tmpfs -o size=24m,mode=0700 tmpfs "$3" && cp -a "$3.copy/." "$3" || exit
head -c 20M /dev/zero >"$3/filler"; "$BROKER" "$@"; echo "ended with $?"; rm "$3/filler"; exec "$BROKER" "$@"' sh "$@"
)";
  std::filesystem::permissions(wrapper, std::filesystem::perms::owner_all);
  with.broker = wrapper;
  BrokerProcess world{std::move(with)};
  world.broker().send(SIGTERM);
  ASSERT_EQ(world.broker().wait(), 0) << world.broker().output();
  std::ofstream{small} << "now";
  world.start_broker();
  EXPECT_THAT(world.broker().output(), HasSubstr("ended with 9"));
  EXPECT_THAT(world.broker().output(), HasSubstr("[storage]"));
  EXPECT_THAT(world.broker().output(), HasSubstr("make room"));
  expect_ready(world);

  // It runs full while it serves: what cannot be written ends it, and its unit starts it again.
  const auto filler = "/proc/" + std::to_string(world.broker().pid()) + "/root" +
                      (world.directory() / world.broker_state / "filler").string();
  {
    const Appending appending{world};
    const int fd = ::open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0) << filler;
    const std::string zeros(1 << 16, '\0');
    for (std::size_t chunk = zeros.size(); chunk != 0;) {  // to the last byte
      const ssize_t wrote = ::write(fd, zeros.data(), chunk);
      if (wrote <= 0) chunk /= 2;
    }
    EXPECT_EQ(world.broker().wait(), 70) << world.broker().output();
    ::close(fd);
  }
  EXPECT_THAT(world.broker().output(), HasSubstr("[storage]"));
}

// A unit that gives up after a few starts, or ends a start that takes minutes, would need hand work.
TEST(Outages, EachUnitIsStartedAgainHoweverOftenItEnds) {
  const TemporaryDirectory directory;
  const bool has_systemd = std::filesystem::exists("/usr/bin/systemd-analyze");
  for (const std::string unit :
       {"broker/http/sallyportd.service", "broker/http/sallyportd-standby.service",
        "broker/keyguard/sallyport-keyguard.service", "client/witness/sallyport-witness.service",
        "client/target/sallyport-gate.service"}) {
    SCOPED_TRACE(unit);
    std::ifstream file{unit};
    std::string text{std::istreambuf_iterator<char>{file}, {}};
    EXPECT_THAT(text, HasSubstr("\nStartLimitIntervalSec=0\n"));
    EXPECT_THAT(text, HasSubstr("\nRestart=on-failure\n"));
    for (const char* other : {"RestartPreventExitStatus", "SuccessExitStatus", "StartLimitAction"})
      EXPECT_EQ(text.find(other), text.npos) << other;
    if (unit.find("sallyportd") != unit.npos) {
      EXPECT_THAT(text, HasSubstr("\nTimeoutStartSec=infinity\n"));
    }
    if (!has_systemd) continue;
    // The program is not installed where a test runs.
    const std::size_t at = text.find("=/usr/sbin/");
    ASSERT_NE(at, text.npos);
    text.replace(at + 1, text.find(' ', at) - at - 1, "/bin/true");
    const auto copy = directory / unit.substr(unit.rfind('/') + 1);
    std::ofstream{copy} << text;
    Process verify{{"/usr/bin/systemd-analyze", "verify", copy.string()}, directory / "verify.log"};
    EXPECT_EQ(verify.wait(), 0) << verify.output();
    EXPECT_EQ(verify.output(), "");
  }
}

TEST(Outages, WithoutAFreeLocalPortWitnessesAreNamedAndComeBackByThemselves) {
  const TemporaryDirectory directory;
  const auto no_ports = directory / "no-ports";
  BrokerProcess::Programs with = programs();
  with.broker_environment = {"LD_PRELOAD=" SALLYPORT_NO_PORTS,
                             "SALLYPORT_TEST_NO_PORTS=" + no_ports.string()};
  BrokerProcess world{std::move(with)};
  expect_ready(world);
  const Appending appending{world};
  std::ofstream{no_ports} << "none\n";
  for (const auto& witness : world.witnesses) witness->restart();  // and so what was connected is not
  world.expect_not_ready("Cannot assign requested address");
  const std::size_t before = appending.count();
  EXPECT_TRUE(poll_until([&] { return !appending.refusal().empty(); }));
  EXPECT_THAT(appending.refusal(), HasSubstr("log/quorum"));
  EXPECT_EQ(appending.count(), before);
  EXPECT_TRUE(world.broker().running());
  std::filesystem::remove(no_ports);
  EXPECT_TRUE(poll_until([&] { return appending.count() > before; })) << appending.refusal();
  world.expect_ready();
}

TEST(Outages, APortThatIsTakenIsNamed) {
  BrokerProcess world{programs()};
  const std::string url = world.url(), port = url.substr(url.rfind(':') + 1);
  Process second{{SALLYPORT_WITNESS_PROGRAM, "serve", "--state", world.witnesses[0]->state().string(),
                  "--listen", "127.0.0.1:" + port, "--log",
                  vkey_text(world.company.company.policy.origin, 0x01, world.company.company.policy.log)},
                 world.directory() / "second.log"};
  EXPECT_EQ(second.wait(), 9) << second.output();
  EXPECT_THAT(second.output(), HasSubstr("Address already in use"));
}

}  // namespace
}  // namespace sallyport::test

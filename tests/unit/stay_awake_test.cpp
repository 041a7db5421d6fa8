#include "client/engineer/stay_awake.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/files.h"

namespace sallyport::client::engineer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::ElementsAre;
using testing::IsEmpty;

enum class Logind { kGrants, kRefuses, kIsAbsent, kAnswersNothing, kAnswersWithoutALock };

// SystemBus is a system bus with one client at a time, and logind on it, in one thread: sd-bus as a server on
// a Unix socket.
class SystemBus {
 public:
  explicit SystemBus(Logind logind, bool authenticates = true)
      : logind_(logind), authenticates_(authenticates), path_((directory_ / "bus").string()) {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 4), 0);
    EXPECT_EQ(::pipe2(lock_, O_CLOEXEC), 0);
    setenv("DBUS_SYSTEM_BUS_ADDRESS", ("unix:path=" + path_).c_str(), 1);
    thread_ = std::thread{[this] { serve(); }};
  }
  ~SystemBus() {
    stop();
    for (const int fd : {listener_, lock_[0]}) ::close(fd);
    unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
  }
  SystemBus(const SystemBus&) = delete;
  SystemBus& operator=(const SystemBus&) = delete;

  // stop ends the bus, so that what it was asked can be read, and nobody but the client holds a lock.
  void stop() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    thread_.join();
    ::close(lock_[1]);
  }

  const std::vector<std::string>& asked() const { return asked_; }
  // lock is the pipe that it gives an end of, as /proc names it.
  std::filesystem::path lock() const {
    return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(lock_[0]));
  }
  // is_held tells whether anybody but the bus holds what it gave.
  bool is_held() const {
    pollfd end{lock_[0], POLLIN, 0};
    ::poll(&end, 1, 0);
    return (end.revents & POLLHUP) == 0;
  }

 private:
  void serve() {
    pollfd arriving{listener_, POLLIN, 0};
    while (!stopping_ && ::poll(&arriving, 1, 5) <= 0) continue;
    if (stopping_) return;
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (!authenticates_) {
      while (!stopping_) ::poll(nullptr, 0, 5);
      ::close(client);
      return;
    }
    sd_bus* bus = nullptr;
    EXPECT_GE(sd_bus_new(&bus), 0);
    EXPECT_GE(sd_bus_set_fd(bus, client, client), 0);
    sd_id128_t id{};
    EXPECT_GE(sd_id128_randomize(&id), 0);
    EXPECT_GE(sd_bus_set_server(bus, 1, id), 0);
    EXPECT_GE(sd_bus_negotiate_fds(bus, 1), 0);
    EXPECT_GE(sd_bus_add_filter(bus, nullptr, answer, this), 0);
    EXPECT_GE(sd_bus_start(bus), 0);
    while (!stopping_) {
      const int did = sd_bus_process(bus, nullptr);
      if (did < 0) break;  // the client went
      if (did == 0) sd_bus_wait(bus, 5'000);
    }
    sd_bus_flush_close_unref(bus);
  }

  static int answer(sd_bus_message* message, void* self, sd_bus_error*) {
    auto& bus = *static_cast<SystemBus*>(self);
    if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus", "Hello") > 0)
      return sd_bus_reply_method_return(message, "s", ":1.7");
    if (sd_bus_message_is_method_call(message, nullptr, "Inhibit") <= 0) return 0;  // "Disconnected"
    bus.asked_ = {sd_bus_message_get_destination(message), sd_bus_message_get_path(message),
                  sd_bus_message_get_interface(message)};
    const char *what = "", *who = "", *why = "", *mode = "";
    if (sd_bus_message_read(message, "ssss", &what, &who, &why, &mode) > 0)
      bus.asked_.insert(bus.asked_.end(), {what, who, why, mode});
    switch (bus.logind_) {
      case Logind::kGrants:
        return sd_bus_reply_method_return(message, "h", bus.lock_[1]);
      case Logind::kRefuses:
        return sd_bus_reply_method_errorf(message, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, "no");
      case Logind::kIsAbsent:
        return sd_bus_reply_method_errorf(message, SD_BUS_ERROR_SERVICE_UNKNOWN, "not here");
      case Logind::kAnswersWithoutALock:
        return sd_bus_reply_method_return(message, "s", "granted");
      case Logind::kAnswersNothing:
        return 1;
    }
    return 1;
  }

  const Logind logind_;
  const bool authenticates_;
  test::TemporaryDirectory directory_;
  std::string path_;
  int listener_ = -1;
  int lock_[2] = {-1, -1};          // the reading end sees when the last writing end is closed
  std::vector<std::string> asked_;  // by its thread; read after stop()
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

std::size_t open_descriptors() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    (void)entry;
    ++count;
  }
  return count;
}

TEST(StayAwake, HoldsLogindsLockOnSleepWhileItLivesAndNoLonger) {
  SystemBus bus{Logind::kGrants};
  {
    const StayAwake awake{std::chrono::seconds{30}};
    EXPECT_TRUE(awake.held());
    bus.stop();
    EXPECT_THAT(bus.asked(), ElementsAre("org.freedesktop.login1", "/org/freedesktop/login1",
                                         "org.freedesktop.login1.Manager", "sleep", "sallyport",
                                         "a request waits for its approvals", "block"));
    EXPECT_TRUE(bus.is_held());
  }
  EXPECT_FALSE(bus.is_held());
}

TEST(StayAwake, KeepsTheLockFromProgramsThatItStarts) {
  SystemBus bus{Logind::kGrants};
  const StayAwake awake{std::chrono::seconds{30}};
  ASSERT_TRUE(awake.held());
  bus.stop();
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(entry.path(), ignored) != bus.lock()) continue;
    EXPECT_EQ(::fcntl(std::stoi(entry.path().filename()), F_GETFD), FD_CLOEXEC);
    ++found;
  }
  EXPECT_EQ(found, 2U);  // the bus's reading end, and the lock
}

TEST(StayAwake, GoesOnWithoutWhenLogindRefusesIsAbsentOrMakesNoSense) {
  for (const Logind logind : {Logind::kRefuses, Logind::kIsAbsent, Logind::kAnswersWithoutALock}) {
    SystemBus bus{logind};
    const auto began = steady_clock::now();
    const StayAwake awake{std::chrono::seconds{30}};
    EXPECT_FALSE(awake.held());
    EXPECT_LT(steady_clock::now() - began, std::chrono::seconds{15});
    bus.stop();
    EXPECT_FALSE(bus.is_held());
  }
}

TEST(StayAwake, GoesOnAtOnceWithoutABus) {
  const test::TemporaryDirectory directory;
  for (const std::string& address :
       {"unix:path=" + (directory / "absent").string(), std::string{"nonsense"}}) {
    setenv("DBUS_SYSTEM_BUS_ADDRESS", address.c_str(), 1);
    const auto began = steady_clock::now();
    EXPECT_FALSE(StayAwake{std::chrono::seconds{30}}.held());
    EXPECT_LT(steady_clock::now() - began, std::chrono::seconds{15});
  }
  unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
}

TEST(StayAwake, WaitsNoLongerThanItsPatienceForABusOrALogindThatSaysNothing) {
  for (const bool authenticates : {true, false}) {
    SystemBus bus{Logind::kAnswersNothing, authenticates};
    const auto began = steady_clock::now();
    EXPECT_FALSE(StayAwake{milliseconds{60}}.held());
    const auto took = steady_clock::now() - began;
    EXPECT_GE(took, milliseconds{60});
    EXPECT_LT(took, std::chrono::seconds{15});  // and not sd-bus's own 25 s
  }
}

TEST(StayAwake, LeavesNoDescriptorBehind) {
  { const StayAwake first{milliseconds{1}}; }  // what libraries open once
  const std::size_t before = open_descriptors();
  for (const Logind logind : {Logind::kGrants, Logind::kRefuses, Logind::kAnswersNothing}) {
    SystemBus bus{logind};
    const StayAwake awake{milliseconds{200}};
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace sallyport::client::engineer

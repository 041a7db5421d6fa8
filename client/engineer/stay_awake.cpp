#include "client/engineer/stay_awake.h"

#include <fcntl.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

namespace sallyport::client::engineer {
namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;

struct CloseBus {
  void operator()(sd_bus* bus) const noexcept { sd_bus_close_unref(bus); }
};

struct Answer {
  bool there = false;
  int lock = -1;
};

// take_lock gets the answer of logind. The message owns the descriptor in it, so what is kept is a copy,
// which no program that this one starts inherits.
int take_lock(sd_bus_message* message, void* userdata, sd_bus_error*) {
  auto& answer = *static_cast<Answer*>(userdata);
  answer.there = true;
  int lock = -1;
  if (sd_bus_message_is_method_error(message, nullptr) == 0 && sd_bus_message_read(message, "h", &lock) > 0)
    answer.lock = ::fcntl(lock, F_DUPFD_CLOEXEC, 3);
  return 0;
}

}  // namespace

StayAwake::StayAwake(std::chrono::milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  sd_bus* opened = nullptr;
  // Neither this nor the call waits: sd-bus connects, authenticates and sends in sd_bus_process below. Its
  // own calls that do wait may take 25 s for each of these.
  if (sd_bus_open_system(&opened) < 0) return;
  const std::unique_ptr<sd_bus, CloseBus> bus{opened};
  Answer answer;
  if (sd_bus_call_method_async(bus.get(), nullptr, "org.freedesktop.login1", "/org/freedesktop/login1",
                               "org.freedesktop.login1.Manager", "Inhibit", take_lock, &answer, "ssss",
                               "sleep", "sallyport", "a request waits for its approvals", "block") < 0)
    return;
  while (!answer.there) {
    const auto left = std::chrono::duration_cast<microseconds>(deadline - steady_clock::now());
    if (left.count() <= 0) break;
    const int did = sd_bus_process(bus.get(), nullptr);
    if (did < 0) break;
    if (did > 0) continue;
    const int waited = sd_bus_wait(bus.get(), static_cast<std::uint64_t>(left.count()));
    if (waited < 0 && waited != -EINTR) break;
  }
  lock_ = answer.lock;
}

StayAwake::~StayAwake() {
  if (lock_ >= 0) ::close(lock_);
}

}  // namespace sallyport::client::engineer

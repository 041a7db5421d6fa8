#include "client/target/keeper.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>

#include "attestation/base/writer.h"
#include "attestation/net/frames.h"
#include "client/target/accounts.h"

namespace sallyport::gate {
namespace {

using record::WhyClosed;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kBufferBytes = 64 * 1024;
constexpr milliseconds kGrace{150};  // after a hang-up, before what is left is killed
constexpr milliseconds kKillPatience{5'000};
constexpr milliseconds kDrainPatience{3'000};

Error system_failed(const char* call) {
  return Error{Code::kInternal, std::string{call} + ": " + std::strerror(errno)};
}

// Way is one direction of bytes, from one file to another, with room for a buffer in between.
struct Way {
  int from = -1, to = -1;
  bool from_ended = false, to_ended = false;
  Bytes buffer;
  std::uint64_t bytes = 0;

  bool wants_read() const { return from >= 0 && !from_ended && !to_ended && buffer.size() < kBufferBytes; }
  bool wants_write() const { return to >= 0 && !to_ended && !buffer.empty(); }
  bool is_done() const { return to_ended || (from_ended && buffer.empty()); }

  void read_some() {
    std::array<std::uint8_t, 16 * 1024> chunk;
    const ssize_t got = ::read(from, chunk.data(), chunk.size());
    if (got > 0) {
      buffer.insert(buffer.end(), chunk.begin(), chunk.begin() + got);
      bytes += static_cast<std::uint64_t>(got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      from_ended = true;  // EIO is how a terminal without holders ends
    }
  }
  // A blocking file takes at most what poll promised room for: PIPE_BUF.
  void write_some() {
    const std::size_t size = std::min<std::size_t>(buffer.size(), 4096);
    ssize_t sent = ::send(to, buffer.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == ENOTSOCK) sent = ::write(to, buffer.data(), size);
    if (sent > 0)
      buffer.erase(buffer.begin(), buffer.begin() + sent);
    else if (sent < 0 && errno != EAGAIN && errno != EINTR)
      to_ended = true;
  }
};

// open_again gives a terminal an open file description of our own, which may be non-blocking without the
// client noticing; with the same access as the client had, no more.
Descriptor open_again(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0 || ::isatty(fd) != 1) return Descriptor{};
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return Descriptor{::open(path.c_str(), (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
}

class Keeper {
 public:
  Keeper(KeeperOrder order, Account account, net::FrameChannel control)
      : order_(std::move(order)), account_(std::move(account)), control_(std::move(control)) {}

  Status start();
  int keep();

 private:
  Status open_files();
  Status make_shell();
  [[noreturn]] void become_shell(int go_ahead);
  void pump_once(int timeout_ms);
  void take_signals();
  void take_control();
  void end_all(bool at_once);
  void drain();
  void set_window(const Window& window);

  KeeperOrder order_;
  Account account_;
  net::FrameChannel control_;
  Descriptor signals_, timer_;
  Descriptor master_, slave_;                      // with a terminal
  Descriptor outer_in_, outer_out_;                // the client's terminal, opened again
  std::array<Descriptor, 2> out_pipe_, err_pipe_;  // without
  std::vector<Way> ways_;
  pid_t shell_ = -1;
  bool shell_ended_ = false, told_to_end_ = false, deadline_over_ = false;
  int shell_status_ = 0;
};

void Keeper::set_window(const Window& window) {
  if (!master_.is_open()) return;
  winsize size{};
  size.ws_row = window.rows;
  size.ws_col = window.columns;
  ::ioctl(master_.get(), TIOCSWINSZ, &size);
}

Status Keeper::open_files() {
  if (!order_.tty) {
    for (auto* ends : {&out_pipe_, &err_pipe_}) {
      int fds[2];
      if (::pipe2(fds, O_CLOEXEC) != 0) return system_failed("pipe2");
      *ends = {Descriptor{fds[0]}, Descriptor{fds[1]}};
      ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
    }
    ways_.push_back({.from = out_pipe_[0].get(), .to = kKeeperStdout, .buffer = {}});
    ways_.push_back({.from = err_pipe_[0].get(), .to = kKeeperStderr, .buffer = {}});
    return Done{};
  }
  outer_in_ = open_again(kKeeperStdin);
  outer_out_ = open_again(kKeeperStdout);
  if (!outer_in_.is_open() || !outer_out_.is_open())
    return Error{Code::kDenied, "the client's files are no terminal"};
  master_ = Descriptor{::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)};
  if (!master_.is_open() || ::grantpt(master_.get()) != 0 || ::unlockpt(master_.get()) != 0)
    return system_failed("posix_openpt");
  std::array<char, 64> name;
  if (::ptsname_r(master_.get(), name.data(), name.size()) != 0) return system_failed("ptsname");
  slave_ = Descriptor{::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC)};
  if (!slave_.is_open()) return system_failed("open terminal");
  const group* const tty_group = ::getgrnam("tty");
  if (::fchown(slave_.get(), account_.uid, tty_group == nullptr ? account_.gid : tty_group->gr_gid) != 0 ||
      ::fchmod(slave_.get(), 0620) != 0)
    return system_failed("fchown terminal");
  termios modes{};
  if (::tcgetattr(outer_in_.get(), &modes) == 0) ::tcsetattr(slave_.get(), TCSANOW, &modes);
  set_window(order_.window);
  ways_.push_back({.from = master_.get(), .to = outer_out_.get(), .buffer = {}});
  ways_.push_back({.from = outer_in_.get(), .to = master_.get(), .buffer = {}});
  return Done{};
}

// become_shell turns the child into the account's shell; only what fork leaves usable is used.
void Keeper::become_shell(int go_ahead) {
  char go = 0;
  if (::read(go_ahead, &go, 1) != 1) ::_exit(126);
  ::setsid();
  if (order_.tty) {
    if (::ioctl(slave_.get(), TIOCSCTTY, 0) != 0) ::_exit(126);
    for (const int fd : {0, 1, 2}) ::dup2(slave_.get(), fd);
  } else {
    ::dup2(kKeeperStdin, 0);
    ::dup2(out_pipe_[1].get(), 1);
    ::dup2(err_pipe_[1].get(), 2);
  }
  ::close_range(3, ~0u, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  ::umask(022);
  if (::initgroups(account_.name.c_str(), account_.gid) != 0 ||
      ::setresgid(account_.gid, account_.gid, account_.gid) != 0 ||
      ::setresuid(account_.uid, account_.uid, account_.uid) != 0)
    ::_exit(126);
  if (account_.uid != 0 && (::setuid(0) == 0 || ::seteuid(0) == 0)) ::_exit(126);
  const bool at_home = !account_.home.empty() && ::chdir(account_.home.c_str()) == 0;
  if (!at_home && ::chdir("/") != 0) ::_exit(126);

  std::vector<std::string> environment = environment_of(order_, account_.home);
  std::vector<char*> variables;
  for (std::string& variable : environment) variables.push_back(variable.data());
  variables.push_back(nullptr);
  const auto slash = order_.shell.rfind('/');
  std::string name = order_.shell.substr(slash == std::string::npos ? 0 : slash + 1);
  if (order_.login) name = "-" + name;
  std::string dash_c = "-c", command = order_.command.value_or("");
  std::vector<char*> arguments{name.data()};
  if (order_.command) arguments.insert(arguments.end(), {dash_c.data(), command.data()});
  arguments.push_back(nullptr);
  ::execve(order_.shell.c_str(), arguments.data(), variables.data());
  ::_exit(127);
}

Status Keeper::make_shell() {
  int go_ahead[2];
  if (::pipe2(go_ahead, O_CLOEXEC) != 0) return system_failed("pipe2");
  const Descriptor reading{go_ahead[0]}, writing{go_ahead[1]};
  shell_ = ::fork();
  if (shell_ < 0) return system_failed("fork");
  if (shell_ == 0) {
    ::close(writing.get());
    become_shell(reading.get());
  }
  // In its cgroup before its first instruction of its own.
  if (!order_.cgroup.empty() && !enter_cgroup(order_.cgroup, shell_))
    return Error{Code::kInternal, "the session's cgroup cannot be entered"};
  if (::write(writing.get(), "g", 1) != 1) return system_failed("write");
  slave_.reset();
  out_pipe_[1].reset();
  err_pipe_[1].reset();
  if (!order_.tty) ::close(kKeeperStdin);
  return Done{};
}

Status Keeper::start() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return system_failed("prctl");
  sigset_t taken;
  sigemptyset(&taken);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&taken, number);
  if (::sigprocmask(SIG_SETMASK, &taken, nullptr) != 0) return system_failed("sigprocmask");
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_DFL);
  for (int fd = kKeeperControl; fd <= kKeeperStderr; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  signals_ = Descriptor{::signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK)};
  timer_ = Descriptor{::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)};  // counts sleep too
  if (!signals_.is_open() || !timer_.is_open()) return system_failed("timerfd_create");
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(order_.remaining_ms / 1000);
  when.it_value.tv_nsec = static_cast<long>(order_.remaining_ms % 1000) * 1'000'000 + 1;
  if (::timerfd_settime(timer_.get(), 0, &when, nullptr) != 0) return system_failed("timerfd_settime");
  SP_CHECK(open_files());
  return make_shell();
}

void Keeper::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info))
    if (info.ssi_signo != SIGCHLD) told_to_end_ = true;
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, WNOHANG);
    if (ended <= 0) return;
    if (ended != shell_) continue;
    shell_ended_ = true;
    shell_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
}

// take_control reads the service's frames: a window, or anything else, or the end: the session ends.
void Keeper::take_control() {
  do {
    const auto frame = control_.receive();
    if (!frame || !frame->has_value()) {
      told_to_end_ = true;
      return;
    }
    const auto window = parse_window(**frame);
    if (!window) {
      told_to_end_ = true;
      return;
    }
    set_window(*window);
  } while (control_.frame_buffered());
}

void Keeper::pump_once(int timeout_ms) {
  std::vector<pollfd> polled{
      {signals_.get(), POLLIN, 0}, {timer_.get(), POLLIN, 0}, {control_.stream().poll_fd(), POLLIN, 0}};
  if (told_to_end_ || deadline_over_) polled[1].fd = polled[2].fd = -1;
  const std::size_t first = polled.size();
  for (const Way& way : ways_) {
    polled.push_back({way.wants_read() ? way.from : -1, POLLIN, 0});
    polled.push_back({way.to_ended ? -1 : way.to, static_cast<short>(way.wants_write() ? POLLOUT : 0), 0});
  }
  if (::poll(polled.data(), polled.size(), timeout_ms) < 0) return;
  if (polled[0].revents != 0) take_signals();
  if (polled[1].revents != 0) deadline_over_ = true;
  if (polled[2].revents != 0) take_control();
  for (std::size_t i = 0; i < ways_.size(); ++i) {
    if (polled[first + 2 * i].revents != 0) ways_[i].read_some();
    const short to = polled[first + 2 * i + 1].revents;
    if ((to & POLLOUT) != 0) ways_[i].write_some();
    if ((to & (POLLERR | POLLHUP | POLLNVAL)) != 0) ways_[i].to_ended = true;
  }
  // Nobody reads what the session writes, nor its errors: its channel is closed.
  if (!order_.tty && ways_[0].to_ended && ways_[1].to_ended) told_to_end_ = true;
}

// drain brings what the session has written to the client, as long as the client takes it.
void Keeper::drain() {
  const auto deadline = steady_clock::now() + kDrainPatience;
  const std::size_t outputs = order_.tty ? 1 : 2;
  while (steady_clock::now() < deadline) {
    bool done = true;
    for (std::size_t i = 0; i < outputs; ++i) done = done && ways_[i].is_done();
    if (done) return;
    pump_once(20);
  }
}

void Keeper::end_all(bool at_once) {
  if (!at_once && shell_ > 0) {
    for (const pid_t pid : descendants_of(::getpid())) {
      ::kill(pid, SIGHUP);
      ::kill(pid, SIGCONT);
    }
    const auto deadline = steady_clock::now() + kGrace;
    while (!descendants_of(::getpid()).empty() && steady_clock::now() < deadline) pump_once(10);
  }
  if (!order_.cgroup.empty()) (void)end_cgroup(order_.cgroup, kKillPatience);
  (void)kill_descendants(kKillPatience);
  take_signals();
}

int Keeper::keep() {
  KeeperReport report;
  if (!control_.send(encode(report))) told_to_end_ = true;
  while (!shell_ended_ && !told_to_end_ && !deadline_over_) pump_once(-1);
  report.ended = true;
  report.why = shell_ended_ ? WhyClosed::kExit : deadline_over_ ? WhyClosed::kDeadline : WhyClosed::kLost;
  report.status = static_cast<std::uint8_t>(shell_ended_ ? shell_status_ : 255);
  end_all(!shell_ended_ && deadline_over_);
  drain();
  report.bytes = ways_[0].bytes + (order_.tty ? 0 : ways_[1].bytes);
  (void)control_.send(encode(report)).has_value();
  return 0;
}

}  // namespace

std::vector<std::string> environment_of(const KeeperOrder& order, const std::string& home) {
  std::vector<std::string> out{
      "HOME=" + home,
      "USER=" + order.account,
      "LOGNAME=" + order.account,
      "SHELL=" + order.shell,
      "PATH=" + std::string{order.account == "root"
                                ? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                                : "/usr/local/bin:/usr/bin:/bin"},
      "SALLYPORT_CASE=" + order.case_hex};
  if (!order.term.empty()) out.push_back("TERM=" + order.term);
  // bash reads ~/.bashrc for `-c` when its input is a socket and it is the first shell; this one is not.
  if (order.command) out.push_back("SHLVL=1");
  return out;
}

int run_keeper() {
  ::close_range(kKeeperStderr + 1, ~0u, 0);
  net::FrameLimits limits;
  limits.max_frame_bytes = kMaxGateFrameBytes;
  net::FrameChannel control{net::make_stream(kKeeperControl), limits};
  const auto frame = control.receive(milliseconds{10'000});
  if (!frame || !frame->has_value()) return 1;
  auto order = parse_keeper_order(**frame);
  if (!order) return 1;
  auto account = find_account(order->account);
  if (!account) return 1;
  Keeper keeper{std::move(*order), std::move(*account), std::move(control)};
  if (!keeper.start()) {
    (void)kill_descendants(kKillPatience);
    return 1;
  }
  return keeper.keep();
}

Result<StartedKeeper> start_keeper(const std::string& self, const KeeperOrder& order, const Descriptor& in,
                                   const Descriptor& out, const Descriptor& err) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return system_failed("socketpair");
  Descriptor ours{ends[0]}, theirs{ends[1]};
  // Out of the way of the numbers that the keeper gets: dup2 of the actions below would close one of them.
  std::array<Descriptor, 4> lifted;
  const std::array<int, 4> given{theirs.get(), in.get(), out.get(), err.get()};
  for (std::size_t i = 0; i < given.size(); ++i) {
    lifted[i] = Descriptor{::fcntl(given[i], F_DUPFD_CLOEXEC, 64)};
    if (!lifted[i].is_open()) return system_failed("dup");
  }
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
  ::posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO);
  for (int i = 0; i < 4; ++i)
    ::posix_spawn_file_actions_adddup2(&actions, lifted[static_cast<std::size_t>(i)].get(),
                                       kKeeperControl + i);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::string program = self, word = "keeper";
  char* const arguments[] = {program.data(), word.data(), nullptr};
  char* const nothing[] = {nullptr};
  pid_t pid = -1;
  const int failed = ::posix_spawn(&pid, self.c_str(), &actions, &attributes, arguments, nothing);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    errno = failed;
    return system_failed("posix_spawn");
  }
  StartedKeeper keeper{std::move(ours), pid};
  const Bytes bytes = net::encode_frame(encode(order));
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t some = ::send(keeper.control.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (some < 0 && errno == EINTR) continue;
    if (some <= 0) break;  // it is gone: its control stream says so
    sent += static_cast<std::size_t>(some);
  }
  return keeper;
}

}  // namespace sallyport::gate

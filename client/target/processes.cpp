#include "client/target/processes.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgot to say so itself
}

namespace sallyport::gate {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::string read_text(const std::string& path) {
  std::ifstream in{path};
  return {std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
}

bool write_text(const std::string& path, const std::string& text) {
  const Descriptor file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  return file.is_open() && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::optional<pid_t> parse_pid(std::string_view text) {
  pid_t pid = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (failed != std::errc{} || end != text.data() + text.size() || pid <= 0) return {};
  return pid;
}

// The words of /proc/PID/stat from the state on: behind the name in parentheses, which may hold anything.
std::vector<std::string> words_behind_name(pid_t pid) {
  const std::string stat = read_text("/proc/" + std::to_string(pid) + "/stat");
  const auto name_end = stat.rfind(')');
  if (name_end == stat.npos) return {};
  std::istringstream rest{stat.substr(name_end + 1)};
  return {std::istream_iterator<std::string>{rest}, {}};
}

std::optional<pid_t> parent_of(pid_t pid) {
  const auto words = words_behind_name(pid);
  pid_t parent = 0;  // of the first process of all it is 0
  if (words.size() < 2) return {};
  const auto [end, failed] = std::from_chars(words[1].data(), words[1].data() + words[1].size(), parent);
  if (failed != std::errc{} || *end != '\0') return {};
  return parent;
}

std::vector<std::string> cgroups_in(const std::string& directory) {
  std::vector<std::string> found;
  std::error_code failed;
  for (std::filesystem::directory_iterator at{directory, failed}, end; !failed && at != end;
       at.increment(failed))
    if (at->is_directory(failed)) found.push_back(at->path().string());
  return found;
}

void pause_briefly() {
  ::poll(nullptr, 0, 2);
}

Error not_sshd(std::string what) {
  return Error{Code::kDenied, std::move(what)};
}

}  // namespace

std::optional<ProcessFacts> find_process(pid_t pid) {
  ProcessFacts facts;
  const auto parent = parent_of(pid);
  if (!parent) return {};
  facts.parent = *parent;
  std::istringstream status{read_text("/proc/" + std::to_string(pid) + "/status")};
  bool found = false;
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("Uid:", 0) != 0) continue;
    std::istringstream ids{line.substr(4)};
    found = static_cast<bool>(ids >> facts.uid);
  }
  if (!found) return {};
  std::error_code failed;
  facts.executable = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", failed).string();
  if (failed) return {};
  return facts;
}

std::vector<pid_t> descendants_of(pid_t ancestor) {
  std::multimap<pid_t, pid_t> children;
  std::error_code failed;
  for (std::filesystem::directory_iterator at{"/proc", failed}, end; !failed && at != end;
       at.increment(failed)) {
    const auto pid = parse_pid(at->path().filename().string());
    if (!pid) continue;
    if (const auto parent = parent_of(*pid)) children.emplace(*parent, *pid);
  }
  std::vector<pid_t> found;
  std::vector<pid_t> open{ancestor};
  while (!open.empty()) {
    const pid_t parent = open.back();
    open.pop_back();
    const auto [begin, end] = children.equal_range(parent);
    for (auto at = begin; at != end; ++at) {
      found.push_back(at->second);
      open.push_back(at->second);
    }
  }
  return found;
}

namespace {

// First all stand still, so that none makes another while its relatives are being killed.
void kill_all(const std::vector<pid_t>& pids) {
  for (const pid_t pid : pids) ::kill(pid, SIGSTOP);
  for (const pid_t pid : pids) ::kill(pid, SIGKILL);
}

}  // namespace

bool kill_descendants(milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  for (;;) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) continue;
    const std::vector<pid_t> below = descendants_of(::getpid());
    if (below.empty()) return true;
    if (steady_clock::now() >= deadline) return false;
    kill_all(below);
    pause_briefly();
  }
}

void kill_below(pid_t ancestor, milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  for (std::vector<pid_t> below; !(below = descendants_of(ancestor)).empty();) {
    kill_all(below);
    if (steady_clock::now() >= deadline) return;
    pause_briefly();
  }
}

namespace {

// find_own_cgroup gives the directory of the caller's own cgroup, when it can make children there.
std::optional<std::string> find_own_cgroup() {
  std::string own;
  std::istringstream memberships{read_text("/proc/self/cgroup")};
  for (std::string line; std::getline(memberships, line);)
    if (line.rfind("0::", 0) == 0) own = line.substr(3);
  if (own.empty()) return {};
  // The mount of cgroup2 (proc(5), mountinfo: … root mount-point … - type …).
  std::istringstream mounts{read_text("/proc/self/mountinfo")};
  for (std::string line; std::getline(mounts, line);) {
    const auto dash = line.find(" - cgroup2 ");
    if (dash == line.npos) continue;
    std::istringstream words{line};
    std::string id, parent, device, root, mount;
    words >> id >> parent >> device >> root >> mount;
    if (root != "/" && own.rfind(root, 0) == 0) own = own.substr(root.size());
    const std::string directory = mount + (own == "/" ? "" : own);
    if (::access(directory.c_str(), W_OK) == 0 && ::access((directory + "/cgroup.procs").c_str(), W_OK) == 0)
      return directory;
  }
  return {};
}

// A process's id and when it started, in clock ticks since boot: no other process has, or will have, both.
std::string unique_name_of(pid_t pid) {
  const auto words = words_behind_name(pid);
  return words.size() < 20 ? std::string{} : std::to_string(pid) + "-" + words[19];
}

constexpr std::string_view kCgroupPrefix = "sallyport-gate-";

void end_cgroups_of_the_dead(const std::string& directory) {
  for (const std::string& path : cgroups_in(directory)) {
    const std::string name = path.substr(directory.size() + 1);
    if (name.rfind(kCgroupPrefix, 0) != 0) continue;
    const std::string owner = name.substr(kCgroupPrefix.size());
    const auto pid = parse_pid(owner.substr(0, owner.find('-')));
    if (pid && unique_name_of(*pid) != owner) (void)end_cgroup(path, milliseconds{1'000});
  }
}

}  // namespace

std::optional<CgroupBase> CgroupBase::make() {
  const auto own = find_own_cgroup();
  if (!own) return {};
  end_cgroups_of_the_dead(*own);
  const auto made = make_cgroup(*own, std::string{kCgroupPrefix} + unique_name_of(::getpid()));
  if (!made) return {};
  return CgroupBase{*made};
}

CgroupBase::~CgroupBase() {
  if (!directory_.empty()) (void)end_cgroup(directory_, milliseconds{1'000});
}

std::optional<std::string> make_cgroup(const std::string& base, const std::string& name) {
  const std::string directory = base + "/" + name;
  if (::mkdir(directory.c_str(), 0755) != 0) return {};
  return directory;
}

bool enter_cgroup(const std::string& directory, pid_t pid) {
  return write_text(directory + "/cgroup.procs", std::to_string(pid));
}

bool end_cgroup(const std::string& directory, milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  for (;;) {
    if (!write_text(directory + "/cgroup.kill", "1")) {  // before Linux 5.14 there is no such file
      std::istringstream members{read_text(directory + "/cgroup.procs")};
      for (std::string line; std::getline(members, line);)
        if (const auto pid = parse_pid(line)) ::kill(*pid, SIGKILL);
    }
    for (const std::string& child : cgroups_in(directory)) (void)end_cgroup(child, milliseconds{0});
    if (::rmdir(directory.c_str()) == 0 || errno == ENOENT) return true;
    if (steady_clock::now() >= deadline) return false;
    pause_briefly();
  }
}

Result<SshdConnection> SshdConnection::find(pid_t client, uid_t uid,
                                            const std::vector<std::string>& programs) {
  const auto is_sshd = [&](const ProcessFacts& facts) {
    std::string program = facts.executable;
    constexpr std::string_view kDeleted = " (deleted)";  // upgraded since it started
    if (program.ends_with(kDeleted)) program.resize(program.size() - kDeleted.size());
    return std::find(programs.begin(), programs.end(), program) != programs.end();
  };
  const auto asking = find_process(client);
  if (!asking || asking->uid != uid) return not_sshd("the client is gone");
  Descriptor handle{::pidfd_open(asking->parent, 0)};
  if (!handle.is_open()) return not_sshd("the client's parent is gone");
  // Looked at after it is held: it is this process, as long as the client is still its child.
  const auto serving = find_process(asking->parent);
  const auto again = find_process(client);
  if (!serving || !again || again->parent != asking->parent) return not_sshd("the client's parent is gone");
  if (!is_sshd(*serving) || serving->uid != uid)
    return not_sshd("the client was started by " + serving->executable + ", not by sshd for its account");
  if (uid != 0) {
    const auto monitor = find_process(serving->parent);
    if (!monitor || monitor->uid != 0 || !is_sshd(*monitor))
      return not_sshd("the client's sshd was not started by root's sshd");
  }
  return SshdConnection{std::move(handle), asking->parent};
}

bool SshdConnection::has_ended() const {
  pollfd one{handle_.get(), POLLIN, 0};
  return ::poll(&one, 1, 0) > 0;
}

void SshdConnection::end() const {
  ::pidfd_send_signal(handle_.get(), SIGTERM, nullptr, 0);
  pollfd one{handle_.get(), POLLIN, 0};
  if (::poll(&one, 1, 500) <= 0) ::pidfd_send_signal(handle_.get(), SIGKILL, nullptr, 0);
}

}  // namespace sallyport::gate

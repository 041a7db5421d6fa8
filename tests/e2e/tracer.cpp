// An attacker's tool: takes hold of a process with ptrace(2), lets it fork a child in a session of its own
// that becomes `sleep SECONDS`, and lets it go on as if nothing had been. Exit code: 0 done, 3 there was
// nothing that could be traced.
//   usage: tracer PID SECONDS          that process
//          tracer --of NAME SECONDS    each process of the caller's account with that name, until one works
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

#ifndef __x86_64__
#error "the code that is injected is x86-64's"
#endif

namespace {

using Text = std::vector<std::uint8_t>;

void append(Text& text, std::initializer_list<std::uint8_t> bytes) {
  text.insert(text.end(), bytes);
}
void append(Text& text, std::uint64_t word) {
  for (int i = 0; i < 8; ++i) text.push_back(static_cast<std::uint8_t>(word >> (8 * i)));
}

// code_at gives what is injected at `at`: fork; the parent stops, the child calls setsid and becomes sleep.
Text code_at(std::uint64_t at, const std::string& seconds) {
  constexpr std::uint64_t kCode = 51;
  const std::string words = std::string{"/bin/sleep"} + '\0' + "sleep" + '\0' + seconds + '\0';
  const std::uint64_t path = at + kCode, name = path + 11, argument = name + 6, list = path + words.size();
  Text text;
  append(text, {0xb8, 57, 0, 0, 0, 0x0f, 0x05});   // fork
  append(text, {0x85, 0xc0, 0x74, 0x01, 0xcc});    // the parent traps
  append(text, {0xb8, 112, 0, 0, 0, 0x0f, 0x05});  // setsid
  append(text, {0x48, 0xbf});                      // rdi = path
  append(text, path);
  append(text, {0x48, 0xbe});  // rsi = list
  append(text, list);
  append(text, {0x31, 0xd2, 0xb8, 59, 0, 0, 0, 0x0f, 0x05});  // execve
  append(text, {0xcc, 0x90, 0x90});
  if (text.size() != kCode) std::abort();
  text.insert(text.end(), words.begin(), words.end());
  for (const std::uint64_t word : {name, argument, std::uint64_t{0}}) append(text, word);
  while (text.size() % sizeof(long) != 0) text.push_back(0);
  return text;
}

bool write_text(pid_t pid, std::uint64_t at, const Text& text) {
  for (std::size_t i = 0; i < text.size(); i += sizeof(long)) {
    long word = 0;
    std::memcpy(&word, text.data() + i, sizeof(word));
    if (::ptrace(PTRACE_POKETEXT, pid, reinterpret_cast<void*>(at + i), word) != 0) return false;
  }
  return true;
}

bool inject(pid_t pid, const std::string& seconds) {
  if (::ptrace(PTRACE_ATTACH, pid, nullptr, nullptr) != 0) return false;
  int status = 0;
  ::waitpid(pid, &status, 0);
  user_regs_struct before{};
  if (::ptrace(PTRACE_GETREGS, pid, nullptr, &before) != 0) return false;
  const Text code = code_at(before.rip, seconds);
  Text saved(code.size());
  for (std::size_t i = 0; i < saved.size(); i += sizeof(long)) {
    const long word = ::ptrace(PTRACE_PEEKTEXT, pid, reinterpret_cast<void*>(before.rip + i), nullptr);
    std::memcpy(saved.data() + i, &word, sizeof(word));
  }
  user_regs_struct ours = before;
  ours.orig_rax = static_cast<unsigned long long>(-1);  // no system call is begun again
  bool done = write_text(pid, before.rip, code) && ::ptrace(PTRACE_SETREGS, pid, nullptr, &ours) == 0 &&
              ::ptrace(PTRACE_CONT, pid, nullptr, nullptr) == 0 && ::waitpid(pid, &status, 0) == pid &&
              WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
  user_regs_struct after{};
  done = done && ::ptrace(PTRACE_GETREGS, pid, nullptr, &after) == 0 && static_cast<long long>(after.rax) > 0;
  done = write_text(pid, before.rip, saved) && ::ptrace(PTRACE_SETREGS, pid, nullptr, &before) == 0 && done;
  ::ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  if (done) std::printf("injected into %d: %lld sleeps\n", pid, static_cast<long long>(after.rax));
  return done;
}

std::vector<pid_t> processes_of(const std::string& name) {
  std::vector<pid_t> found;
  for (const auto& one : std::filesystem::directory_iterator("/proc")) {
    std::string comm;
    if (!std::getline(std::ifstream{one.path() / "comm"}, comm) || comm != name) continue;
    std::ifstream status{one.path() / "status"};
    for (std::string line; std::getline(status, line);)
      if (line.rfind("Uid:", 0) == 0 && std::strtoul(line.c_str() + 4, nullptr, 10) == ::getuid())
        found.push_back(std::atoi(one.path().filename().c_str()));
  }
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && !(argc == 4 && std::string{argv[1]} == "--of")) return 2;
  const std::string seconds = argv[argc - 1];
  const std::vector<pid_t> pids = argc == 3 ? std::vector<pid_t>{std::atoi(argv[1])} : processes_of(argv[2]);
  for (const pid_t pid : pids)
    if (inject(pid, seconds)) return 0;
  std::printf("cannot trace any of %zu\n", pids.size());
  return 3;
}

#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace sallyport::test {

// Process is a program that a test started, with its output in a file. It is killed, by its process id, when
// the object goes and when the thread that started it ends.
class Process {
 public:
  // `environment` is added to ours, as NAME=value.
  Process(std::vector<std::string> arguments, std::filesystem::path output,
          std::vector<std::string> environment = {});
  ~Process();
  Process(Process&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), output_(std::move(other.output_)) {}
  Process& operator=(Process&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(output_, other.output_);
    return *this;
  }

  pid_t pid() const { return pid_; }
  void send(int signal) const;
  // wait gives the exit code, or 128 + signal; a process that does not end in time fails the test and is
  // killed.
  int wait(std::chrono::seconds patience = std::chrono::seconds{30});
  bool running();
  std::string output() const;

 private:
  pid_t pid_ = -1;
  std::filesystem::path output_;
  int status_ = 0;
};

// poll_until calls `step` until it gives true; false when the patience is over.
bool poll_until(const std::function<bool()>& step, std::chrono::seconds patience = std::chrono::seconds{30});

}  // namespace sallyport::test

#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "attestation/base/result.h"

namespace sallyport::pkcs11 {

using SteadyTime = std::chrono::steady_clock::time_point;
using Millis = std::chrono::milliseconds;

// Worker is a thread that runs one job at a time, for a caller who waits no longer than its deadline. A
// worker whose job does not come back is abandoned: the caller forgets it, and the thread ends by itself if
// the job ever returns. All signals are blocked on it, so that a broken pipe inside a module is an error code
// and does not end the process.
class Worker : public std::enable_shared_from_this<Worker> {
 public:
  // `stuck` counts abandoned jobs that are still out, and outlives every worker. `at_exit` runs on the thread
  // as its last job.
  static std::shared_ptr<Worker> start(std::atomic<std::size_t>& stuck, std::function<void()> at_exit = {});

  // run gives false when the job did not finish in time; the worker is then abandoned and must not be used
  // again. The job must own everything it touches, since it may outlive the caller.
  bool run(std::function<void()> job, Millis deadline);

  bool is_abandoned();

  // stop lets the thread end after `at_exit`, waits for it until the deadline, and abandons it then. Nothing,
  // for a worker that is abandoned already.
  void stop(Millis deadline);

  ~Worker();

 private:
  explicit Worker(std::atomic<std::size_t>& stuck) : stuck_(stuck) {}
  static void loop(const std::shared_ptr<Worker>& self);

  std::atomic<std::size_t>& stuck_;
  std::function<void()> at_exit_;  // set before the thread starts
  std::thread thread_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::function<void()> job_;
  bool busy_ = false, stopping_ = false, abandoned_ = false, ended_ = false;
};

// timed_out is the error of a call that did not come back.
Error timed_out(std::string_view what, Where at = {});

// call_on runs `f`, which gives a Result<T> and owns all it touches, on `worker`.
template <class T>
Result<T> call_on(Worker& worker, Millis deadline, std::string_view what, std::function<Result<T>()> f) {
  const auto slot = std::make_shared<std::optional<Result<T>>>();
  const bool finished = worker.run(
      [slot, f = std::move(f)] {
        try {
          slot->emplace(f());
        } catch (const std::exception& e) {
          slot->emplace(Error{Code::kInternal, std::string{"exception in a call to the token: "} + e.what()});
        }
      },
      deadline);
  if (!finished) return timed_out(what);
  return std::move(**slot);
}

// CallGate counts who is inside a module, and lets one who wants it for himself wait until all have left.
class CallGate {
 public:
  bool enter(SteadyTime until);
  void leave();
  bool close(SteadyTime until);  // waits for all to leave, keeps others out
  void open();

 private:
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::size_t inside_ = 0;
  bool closed_ = false;
};

// Turn is one's turn at something that only one may do at a time, if it came before the deadline. (Not
// std::timed_mutex, whose waiting on a steady clock ThreadSanitizer of g++ 12 does not understand.)
class Turn {
 public:
  Turn(CallGate& gate, SteadyTime until) : gate_(gate), mine_(gate.close(until)) {}
  ~Turn() {
    if (mine_) gate_.open();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  explicit operator bool() const { return mine_; }

 private:
  CallGate& gate_;
  const bool mine_;
};

}  // namespace sallyport::pkcs11

#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace sallyport::program {

// Lookahead does work on other threads before its results are needed, and gives them back in the order in
// which the work was given. It is bounded: kTasks at a time, and no work begins, but the one that is waited
// for, while results of kBytes lie here. One thread gives and takes.
template <class T>
class Lookahead {
 public:
  static constexpr std::size_t kTasks = 256, kBytes = 64u << 20;
  using Work = std::function<T()>;
  using Weight = std::size_t (*)(const T&);  // bytes that a result holds

  // Without threads, work is done when its result is taken: nothing is ahead of anything.
  Lookahead(unsigned threads, Weight weight) : weight_(weight) {
    for (unsigned i = 0; i < threads; ++i) workers_.emplace_back([this] { run(); });
  }
  ~Lookahead() {
    {
      const std::lock_guard lock{mutex_};
      stopped_ = true;
    }
    wake_workers_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  Lookahead(const Lookahead&) = delete;
  Lookahead& operator=(const Lookahead&) = delete;

  bool full() const { return tasks_.size() >= kTasks; }  // only the one thread changes how many there are
  bool empty() const { return tasks_.empty(); }

  void push(Work work) {
    {
      const std::lock_guard lock{mutex_};
      tasks_.emplace_back().work = std::move(work);
    }
    wake_workers_.notify_one();
  }

  // take waits for the result of the oldest work. Throws what that threw.
  T take() {
    if (workers_.empty()) {
      const Work work = std::move(tasks_.front().work);
      tasks_.pop_front();
      return work();
    }
    std::unique_lock lock{mutex_};
    wake_taker_.wait(lock, [this] { return tasks_.front().done; });
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    --begun_;
    const bool was_full = held_ >= kBytes;
    held_ -= task.weight;
    lock.unlock();
    if (was_full) wake_workers_.notify_all();
    if (task.thrown) std::rethrow_exception(task.thrown);
    return std::move(*task.result);
  }

 private:
  struct Task {
    Work work;
    std::optional<T> result;
    std::exception_ptr thrown;
    std::size_t weight = 0;
    bool done = false;
  };

  void run() {
    std::unique_lock lock{mutex_};
    for (;;) {
      wake_workers_.wait(
          lock, [this] { return stopped_ || (begun_ < tasks_.size() && (held_ < kBytes || begun_ == 0)); });
      if (stopped_) return;
      Task& task = tasks_[begun_++];  // stays where it is while others come and go at the ends
      const Work work = std::move(task.work);
      lock.unlock();
      std::optional<T> result;
      std::exception_ptr thrown;
      try {
        result.emplace(work());
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      task.weight = result ? weight_(*result) : 0;
      task.result = std::move(result);
      task.thrown = thrown;
      task.done = true;
      held_ += task.weight;
      if (is_worth_waking()) wake_taker_.notify_one();
    }
  }

  // is_worth_waking: one result at a time would cost two changes of threads each. So the taker sleeps until
  // there are some, or nothing more comes before it has taken.
  bool is_worth_waking() const {
    constexpr std::size_t kSome = 16;
    std::size_t done = 0;
    while (done < tasks_.size() && done < kSome && tasks_[done].done) ++done;
    return done == kSome || (done > 0 && (done == begun_ || held_ >= kBytes));
  }

  const Weight weight_;
  std::mutex mutex_;  // guards all below but workers_
  std::condition_variable wake_workers_, wake_taker_;
  std::deque<Task> tasks_;
  std::size_t begun_ = 0;  // of tasks_, from the front
  std::size_t held_ = 0;   // bytes of results that nobody has taken
  bool stopped_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace sallyport::program

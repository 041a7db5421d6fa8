#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <ctime>
#include <functional>
#include <vector>

namespace sallyport::bench {

using Nanoseconds = std::chrono::nanoseconds;

inline double microseconds(Nanoseconds time, std::int64_t times) {
  return static_cast<double>(time.count()) / 1000.0 / static_cast<double>(times);
}

// Turns measures our way and its floor in turns, in one run, so that a busy machine slows both. The time that
// is reported is ours; `floor_us` is the floor's, and `of_floor` the share of the floor's rate that we reach
// (1 = as fast). `before` comes before both, and is not measured.
template <class Ours, class Floor, class Before>
void by_turns(benchmark::State& state, Ours ours, Floor floor, Before before) {
  using Clock = std::chrono::steady_clock;
  Nanoseconds ours_took{0}, floor_took{0};
  for (auto _ : state) {
    before();
    const auto start = Clock::now();
    floor();
    const auto middle = Clock::now();
    ours();
    const auto end = Clock::now();
    floor_took += middle - start;
    ours_took += end - middle;
    state.SetIterationTime(std::chrono::duration<double>(end - middle).count());
  }
  state.counters["floor_us"] = microseconds(floor_took, state.iterations());
  state.counters["of_floor"] =
      static_cast<double>(floor_took.count()) / static_cast<double>(ours_took.count());
}

template <class Ours, class Floor>
void by_turns(benchmark::State& state, Ours ours, Floor floor) {
  by_turns(state, std::move(ours), std::move(floor), [] {});
}

inline Nanoseconds thread_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds{now.tv_sec} + Nanoseconds{now.tv_nsec};
}

// by_turns_in_one_thread is by_turns of what starts no other thread or process: `cpu_of_floor` is the share
// of the floor by processor time, which neighbours on a busy machine lengthen less than elapsed time.
template <class Ours, class Floor>
void by_turns_in_one_thread(benchmark::State& state, Ours ours, Floor floor) {
  Nanoseconds ours_used{0}, floor_used{0};
  const auto used = [](Nanoseconds& sum, auto& work) {
    const Nanoseconds before = thread_time();
    work();
    sum += thread_time() - before;
  };
  by_turns(
      state, [&] { used(ours_used, ours); }, [&] { used(floor_used, floor); });
  state.counters["cpu_of_floor"] =
      static_cast<double>(floor_used.count()) / static_cast<double>(ours_used.count());
}

// VerificationsOf runs `work` once, noting each signature verification that libcrypto is asked for, with its
// key and bytes. replay() asks libcrypto for the same ones and nothing else: the floor of all that verifies.
// Link signature_floor.cpp, which stands before libcrypto's EVP_PKEY_verify and EVP_DigestVerify.
class VerificationsOf {
 public:
  explicit VerificationsOf(const std::function<void()>& work);
  std::size_t count() const { return replays_.size(); }
  void replay() const;
  void replay(unsigned threads) const;  // an equal share each

 private:
  std::vector<std::function<bool()>> replays_;
};

}  // namespace sallyport::bench

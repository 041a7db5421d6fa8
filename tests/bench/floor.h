#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
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

#pragma once

#include <cstddef>
#include <functional>

namespace sallyport::test {

// Taken is what a piece of code took: the most bytes of operator new that it held at once, beside what was
// held before it, and processor time.
struct Taken {
  std::size_t most_bytes = 0;
  double seconds = 0;
};

// kASecond is what a bound of one second is in this build: without optimisation, or under sanitizers, all
// takes some times as long.
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__)
inline constexpr double kASecond = 1;
#else
inline constexpr double kASecond = 5;
#endif

// taken_by runs `code`. For programs of one thread: who calls it links its own operator new.
Taken taken_by(const std::function<void()>& code);

}  // namespace sallyport::test

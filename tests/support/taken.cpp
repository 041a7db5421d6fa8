#include "tests/support/taken.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <new>

namespace {
std::atomic<std::size_t> g_held{0}, g_most{0};
}  // namespace

void* operator new(std::size_t size) {
  void* const made = std::malloc(size == 0 ? 1 : size);
  if (made == nullptr) throw std::bad_alloc{};
  const std::size_t held = g_held += malloc_usable_size(made);
  if (held > g_most) g_most = held;
  return made;
}
void operator delete(void* gone) noexcept {
  g_held -= malloc_usable_size(gone);
  std::free(gone);
}
void operator delete(void* gone, std::size_t) noexcept {
  operator delete(gone);
}

namespace sallyport::test {

Taken taken_by(const std::function<void()>& code) {
  const std::size_t held = g_held;
  g_most = held;
  const std::clock_t start = std::clock();
  code();
  return {g_most - held, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC};
}

}  // namespace sallyport::test

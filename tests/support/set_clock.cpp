// Preloaded into a program under test, it gives it the time of day of a test: eight bytes, milliseconds, in
// the file that SALLYPORT_TEST_CLOCK names; or in that which SALLYPORT_TEST_CLOCK_OFF names, by which it is
// ahead of ours. So the program itself needs no way to be lied to.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace {

std::atomic<std::uint64_t>* map_clock(const char* name) {
  const int file = name == nullptr ? -1 : ::open(name, O_RDONLY | O_CLOEXEC);
  if (file < 0) ::_exit(126);
  void* const at = ::mmap(nullptr, sizeof(std::uint64_t), PROT_READ, MAP_SHARED, file, 0);
  ::close(file);
  if (at == MAP_FAILED) ::_exit(126);
  return static_cast<std::atomic<std::uint64_t>*>(at);
}

}  // namespace

extern "C" int clock_gettime(clockid_t id, struct timespec* out) noexcept {
  if (id != CLOCK_REALTIME) return static_cast<int>(::syscall(SYS_clock_gettime, id, out));
  static const char* const off = std::getenv("SALLYPORT_TEST_CLOCK_OFF");
  static const std::atomic<std::uint64_t>* const file =
      map_clock(off != nullptr ? off : std::getenv("SALLYPORT_TEST_CLOCK"));
  std::uint64_t ms = file->load();
  if (off != nullptr) {
    struct timespec ours {};
    if (::syscall(SYS_clock_gettime, id, &ours) != 0) return -1;
    ms +=
        static_cast<std::uint64_t>(ours.tv_sec) * 1000 + static_cast<std::uint64_t>(ours.tv_nsec) / 1'000'000;
  }
  out->tv_sec = static_cast<time_t>(ms / 1000);
  out->tv_nsec = static_cast<long>(ms % 1000) * 1'000'000;
  return 0;
}

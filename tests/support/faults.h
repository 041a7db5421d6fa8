#pragma once

#include <atomic>
#include <cstdint>

namespace sallyport::test {

// The classes of calls on files that `inject_faults` counts and lets fail, as bits of a mask.
enum class FileCall : std::uint32_t {
  kOpen = 1u << 0,      // of a file that is there
  kCreate = 1u << 1,    // an open that makes the file
  kRead = 1u << 2,      // read, pread
  kWrite = 1u << 3,     // write, pwrite, writev
  kSync = 1u << 4,      // fsync, fdatasync, syncfs
  kTruncate = 1u << 5,  // ftruncate
  kClose = 1u << 6,
  kMap = 1u << 7,   // mmap
  kStat = 1u << 8,  // stat, lstat, fstat, access
  kLock = 1u << 9,  // fcntl(F_SETLK) or flock that takes a lock
  kName = 1u << 10  // rename, unlink, remove, mkdir
};
inline constexpr unsigned kFileCalls = 11;
inline constexpr std::uint32_t kAllFileCalls = (1u << kFileCalls) - 1;

// What becomes of a call that is struck. `Done`: it is carried out first, and then reported as failed, or its
// process killed. kKillTorn: half of what was to be written is.
enum class Blow : std::uint32_t { kNone, kFail, kFailDone, kKill, kKillDone, kKillTorn };

// FaultControl lies in a file that test and program under test both map: so a test counts what a program
// does, and strikes, at any moment of its life.
struct FaultControl {
  std::atomic<std::uint64_t> calls[kFileCalls];  // since the program began, or the test set them to 0
  std::atomic<std::uint32_t> mask;               // the classes that may be struck
  std::atomic<std::uint32_t> blow;
  std::atomic<std::uint32_t> error;  // errno
  std::atomic<std::uint32_t> lasts;  // 1: every call from there on is struck
  std::atomic<std::uint64_t>
      left;  // calls of these classes until the strike, that one included; 0: it is over
  std::atomic<std::uint64_t> struck;  // how often
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(FaultControl) < 4096);

}  // namespace sallyport::test

#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "attestation/base/strong.h"

namespace sallyport::keyguard {

// RefusalLog writes refusals to the log: one that is the same as the last is told once a minute, with how
// often it came meanwhile. A broker that waits for the HSM asks ten times a second.
class RefusalLog {
 public:
  void tell(const std::string& what, UnixMillis now);

 private:
  std::mutex mutex_;  // guards all below
  std::string last_;
  UnixMillis told_;
  std::uint64_t untold_ = 0;
};

}  // namespace sallyport::keyguard

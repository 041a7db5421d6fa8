#pragma once

#include <chrono>

namespace sallyport::client::engineer {

// StayAwake keeps this machine from going to sleep while it lives: systemd-logind's inhibitor lock on
// "sleep". A request dies with a suspend, as the TPM's restartCount goes up, and approvals that are under way
// would be for nothing. A courtesy and no condition: without logind or its consent nothing is held, and
// nothing is said. It waits for the answer at most for `patience`, connecting included.
class StayAwake {
 public:
  explicit StayAwake(std::chrono::milliseconds patience = std::chrono::seconds{1});
  ~StayAwake();
  StayAwake(const StayAwake&) = delete;
  StayAwake& operator=(const StayAwake&) = delete;

  bool held() const { return lock_ >= 0; }

 private:
  int lock_ = -1;  // logind lets the machine sleep again once every copy of this descriptor is closed
};

}  // namespace sallyport::client::engineer

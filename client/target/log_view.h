#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "client/target/door.h"

namespace sallyport::gate {

// LogView is what the follower's thread shows to all others: what was followed, or that following went wrong.
class LogView {
 public:
  struct Seen {
    Followed followed;
    std::uint64_t version = 0;  // grows with each change
    // Set while what the broker sent does not hold (another history, a missing body): every door is shut.
    std::optional<Error> halted;
  };
  Seen seen() const;
  void show(Followed followed);
  void halt(Error error);
  // wait waits for a version other than `version`, until `deadline` at most.
  Seen wait(std::uint64_t version, std::chrono::steady_clock::time_point deadline) const;
  void wake();  // lets all who wait look again

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  Seen seen_;  // guarded by mutex_
};

// verify_login_soon is verify_login on what the view shows; when the grant's leaf is newer than that it waits
// for the follower, `patience` at most.
Result<record::VerifiedGrant> verify_login_soon(const LogView& view, const std::string& host,
                                                std::span<const std::string> accounts, ByteView certificate,
                                                const std::function<UnixMillis()>& clock,
                                                std::chrono::milliseconds patience);

}  // namespace sallyport::gate

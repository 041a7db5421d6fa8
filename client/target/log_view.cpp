#include "client/target/log_view.h"

namespace sallyport::gate {

LogView::Seen LogView::seen() const {
  const std::lock_guard lock{mutex_};
  return seen_;
}

void LogView::show(Followed followed) {
  const std::lock_guard lock{mutex_};
  if (!seen_.halted && seen_.followed.control == followed.control &&
      seen_.followed.checkpoint == followed.checkpoint)
    return;
  seen_.followed = std::move(followed);
  seen_.halted.reset();
  ++seen_.version;
  changed_.notify_all();
}

void LogView::halt(Error error) {
  const std::lock_guard lock{mutex_};
  seen_.halted = std::move(error);
  ++seen_.version;
  changed_.notify_all();
}

LogView::Seen LogView::wait(std::uint64_t version, std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock lock{mutex_};
  changed_.wait_until(lock, deadline, [&] { return seen_.version != version; });
  return seen_;
}

void LogView::wake() {
  const std::lock_guard lock{mutex_};
  ++seen_.version;
  changed_.notify_all();
}

Result<record::VerifiedGrant> verify_login_soon(const LogView& view, const std::string& host,
                                                std::span<const std::string> accounts, ByteView certificate,
                                                const std::function<UnixMillis()>& clock,
                                                std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  LogView::Seen seen = view.seen();
  for (;;) {
    if (seen.halted)
      return Error{Code::kUnavailable, Reason::kGateBehind,
                   "following the log has stopped: " + describe(*seen.halted)};
    auto grant = verify_login(seen.followed, host, accounts, certificate, clock());
    if (grant || grant.error().reason != Reason::kGateBehind) return grant;
    if (std::chrono::steady_clock::now() >= deadline) return grant;
    seen = view.wait(seen.version, deadline);
  }
}

}  // namespace sallyport::gate

#include "broker/keyguard/refusal_log.h"

#include <spdlog/spdlog.h>

namespace sallyport::keyguard {
namespace {

constexpr std::uint64_t kTellAgainMs = 60'000;

}  // namespace

void RefusalLog::tell(const std::string& what, UnixMillis now) {
  const std::lock_guard lock{mutex_};
  const auto tell_untold = [this] {
    if (untold_ != 0) spdlog::warn("{} ({} times more)", last_, untold_);
    untold_ = 0;
  };
  if (what == last_) {
    ++untold_;
    if (now >= told_ && now.get() - told_.get() < kTellAgainMs) return;
    tell_untold();
  } else {
    tell_untold();
    spdlog::warn("{}", what);
    last_ = what;
  }
  told_ = now;
}

}  // namespace sallyport::keyguard

#include "attestation/tpm/queue.h"

namespace sallyport::tpm {

TpmQueue::TpmQueue(Tpm tpm) : tpm_(std::move(tpm)), owner_([this] { own(); }) {}

TpmQueue::~TpmQueue() {
  {
    const std::lock_guard lock{mutex_};
    stop_ = true;
  }
  wake_.notify_one();
  owner_.join();
}

void TpmQueue::post(std::function<void(Tpm&)> work) {
  {
    const std::lock_guard lock{mutex_};
    work_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void TpmQueue::own() {
  for (;;) {
    std::function<void(Tpm&)> next;
    {
      std::unique_lock lock{mutex_};
      wake_.wait(lock, [this] { return stop_ || !work_.empty(); });
      if (work_.empty()) return;
      next = std::move(work_.front());
      work_.pop_front();
    }
    next(tpm_);
  }
}

}  // namespace sallyport::tpm

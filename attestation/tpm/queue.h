#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "attestation/tpm/tpm.h"

namespace sallyport::tpm {

// TpmQueue is the one thread that owns a Tpm. Work runs in the order in which it was posted; the destructor
// finishes what was posted. A device that never answers fails what was posted, each at the transport's
// deadline at the latest.
class TpmQueue {
 public:
  explicit TpmQueue(Tpm tpm);
  ~TpmQueue();
  TpmQueue(const TpmQueue&) = delete;
  TpmQueue& operator=(const TpmQueue&) = delete;

  // post returns at once; `work` runs on the owner thread and must not wait for this queue.
  void post(std::function<void(Tpm&)> work);

  // run posts and waits: const auto quote = queue.run([&](Tpm& tpm) { return tpm.quote(selection, binding);
  // });
  template <class Work>
  std::invoke_result_t<Work, Tpm&> run(Work work) {
    auto task = std::make_shared<std::packaged_task<std::invoke_result_t<Work, Tpm&>(Tpm&)>>(std::move(work));
    auto done = task->get_future();
    post([task](Tpm& tpm) { (*task)(tpm); });
    return done.get();
  }

 private:
  void own();
  Tpm tpm_;
  std::mutex mutex_;  // guards work_ and stop_
  std::condition_variable wake_;
  std::deque<std::function<void(Tpm&)>> work_;
  bool stop_ = false;
  std::thread owner_;  // last: it uses all of the above
};

}  // namespace sallyport::tpm

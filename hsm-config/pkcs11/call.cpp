#include "hsm-config/pkcs11/call.h"

#include <pthread.h>
#include <signal.h>

namespace sallyport::pkcs11 {

std::shared_ptr<Worker> Worker::start(std::atomic<std::size_t>& stuck, std::function<void()> at_exit) {
  std::shared_ptr<Worker> worker{new Worker{stuck}};
  worker->at_exit_ = std::move(at_exit);
  sigset_t all, before;  // the new thread inherits the mask
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  worker->thread_ = std::thread{[worker] { loop(worker); }};
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return worker;
}

void Worker::loop(const std::shared_ptr<Worker>& self) {
  std::unique_lock lock{self->mutex_};
  while (true) {
    self->changed_.wait(lock, [&] { return self->busy_ || self->stopping_; });
    if (!self->busy_) break;
    {
      const std::function<void()> job = std::move(self->job_);
      self->job_ = nullptr;
      lock.unlock();
      job();
    }  // what the job owned is gone before the caller goes on
    lock.lock();
    self->busy_ = false;
    self->changed_.notify_all();
    if (self->abandoned_) break;
  }
  if (self->at_exit_) {
    lock.unlock();
    self->at_exit_();
    self->at_exit_ = nullptr;
    lock.lock();
  }
  self->ended_ = true;
  if (self->abandoned_) self->stuck_.fetch_sub(1);
  self->changed_.notify_all();
}

bool Worker::run(std::function<void()> job, Millis deadline) {
  std::unique_lock lock{mutex_};
  SP_ASSERT(!busy_ && !stopping_ && !abandoned_);
  job_ = std::move(job);
  busy_ = true;
  changed_.notify_all();
  if (changed_.wait_for(lock, deadline, [&] { return !busy_; })) return true;
  abandoned_ = true;
  stuck_.fetch_add(1);
  return false;
}

bool Worker::is_abandoned() {
  const std::lock_guard lock{mutex_};
  return abandoned_;
}

void Worker::stop(Millis deadline) {
  std::unique_lock lock{mutex_};
  if (abandoned_) return;
  stopping_ = true;
  changed_.notify_all();
  if (changed_.wait_for(lock, deadline, [&] { return ended_; })) {
    lock.unlock();
    if (thread_.joinable()) thread_.join();
    return;
  }
  abandoned_ = true;
  stuck_.fetch_add(1);
}

Worker::~Worker() {
  // The last owner is either a caller whose worker has ended, or the thread itself.
  if (thread_.joinable()) thread_.detach();
}

Error timed_out(std::string_view what, Where at) {
  std::string text{what};
  text.append(": no answer within the deadline");
  return Error{Code::kUnavailable, Reason::kTokenTimeout, std::move(text), Next::kReopenSession, 0, at};
}

bool CallGate::enter(SteadyTime until) {
  std::unique_lock lock{mutex_};
  if (!changed_.wait_until(lock, until, [&] { return !closed_; })) return false;
  ++inside_;
  return true;
}

void CallGate::leave() {
  const std::lock_guard lock{mutex_};
  SP_ASSERT(inside_ > 0);
  --inside_;
  changed_.notify_all();
}

bool CallGate::close(SteadyTime until) {
  std::unique_lock lock{mutex_};
  if (!changed_.wait_until(lock, until, [&] { return !closed_; })) return false;
  closed_ = true;
  if (changed_.wait_until(lock, until, [&] { return inside_ == 0; })) return true;
  closed_ = false;
  changed_.notify_all();
  return false;
}

void CallGate::open() {
  const std::lock_guard lock{mutex_};
  closed_ = false;
  changed_.notify_all();
}

}  // namespace sallyport::pkcs11

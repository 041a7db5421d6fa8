#include "client/target/following.h"

#include <poll.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>

#include "attestation/record/host_key.h"

namespace sallyport::gate {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLongPoll{10'000};
constexpr milliseconds kFirstPause{500}, kLongestPause{10'000};

Followed followed_of(const follow::Follower& follower) {
  return {follower.control()->policy() ? follower.control() : nullptr, follower.noted()};
}

class BrokerRecorder final : public Recorder {
 public:
  BrokerRecorder(client::Settings settings, HostIdentity identity)
      : settings_(std::move(settings)), identity_(std::move(identity)) {}

  Result<api::Submitted> submit(const record::Submission& submission) override {
    SP_CHECK(connect());
    auto answer = session_->submit(submission);
    forget_after(answer);
    if (answer && answer->code) return Error{Code::kDenied, *answer->code, answer->detail};
    return answer;
  }
  Result<std::uint64_t> channels_of(const CaseId& case_id) override {
    SP_CHECK(connect());
    auto view = session_->view(case_id);
    forget_after(view);
    if (!view) return std::move(view).error();
    return static_cast<std::uint64_t>(
        std::count_if(view->entries.begin(), view->entries.end(), [](const api::EntryView& one) {
          return one.entry.leaf.kind == static_cast<std::uint8_t>(record::Kind::kSessionOpened);
        }));
  }

 private:
  Status connect() {
    if (session_) return Done{};
    auto opened = client::Session::open(settings_);
    // The follower's file may have been read while a batch was being stored: then it is whole a moment later.
    if (!opened && opened.error().reason == Reason::kStorage) opened = client::Session::open(settings_);
    if (!opened) return std::move(opened).error();
    auto session = std::move(*opened);
    SP_CHECK(session->host_hello(identity_.host, identity_.key, identity_.sign));
    session_ = std::move(session);
    return Done{};
  }
  // A session that could not reach its broker is made anew, with the keys that the policy then names.
  template <class T>
  void forget_after(const Result<T>& answer) {
    if (!answer && (answer.error().reason == Reason::kPeer || answer.error().reason == Reason::kPeerTls ||
                    answer.error().reason == Reason::kPeerTimeout))
      session_.reset();
  }

  client::Settings settings_;
  HostIdentity identity_;
  std::unique_ptr<client::Session> session_;
};

}  // namespace

Following::Following(client::Settings settings, HostIdentity identity, std::shared_ptr<LogView> view)
    : settings_(std::move(settings)), identity_(std::move(identity)), view_(std::move(view)) {}

std::unique_ptr<Following> Following::start(client::Settings settings, HostIdentity identity,
                                            std::shared_ptr<LogView> view) {
  std::unique_ptr<Following> following{
      new Following{std::move(settings), std::move(identity), std::move(view)}};
  following->thread_ = std::thread{[raw = following.get()] { raw->run(); }};
  return following;
}

Following::~Following() {
  stopping_ = true;
  thread_.join();
}

// A host whose key is not in the policy gets no grants; its administrator should hear of it.
void Following::warn_of_foreign_key(const record::ControlState& control) {
  if (warned_ || !control.policy()) return;
  warned_ = true;
  const auto known = policy::find_host(control.policy()->policy, identity_.host);
  const auto fingerprint = record::ssh_fingerprint(identity_.key);
  if (!known)
    spdlog::error("the policy has no host {}", identity_.host);
  else if (fingerprint && std::find(known->host->keys.begin(), known->host->keys.end(), *fingerprint) ==
                              known->host->keys.end())
    spdlog::error("{} is not among the keys of {} in the policy", *fingerprint, identity_.host);
}

// check_same_log ends the process when the log was given up for one that goes on from it: what is open
// belongs to a grant of the log before, and ends with it; the next start is of the new one.
void Following::check_same_log(const follow::Follower& follower) {
  const Origin origin = follower.anchor().origin;
  if (origin_.get().empty()) origin_ = origin;
  if (origin == origin_) return;
  spdlog::critical("{} goes on as {}: starting anew in it", origin_.get(), origin.get());
  spdlog::shutdown();
  std::_Exit(70);
}

void Following::run() {
  if (auto follower = follow::Follower::open(settings_.follow_file(), settings_.anchor)) {
    check_same_log(**follower);
    view_->show(followed_of(**follower));
  }
  milliseconds pause = kFirstPause;
  std::unique_ptr<client::Session> session;
  milliseconds wait{0};
  while (!stopping_) {
    Status done = Done{};
    if (!session) {
      auto opened = client::Session::open(settings_);
      if (opened) {
        session = std::move(*opened);
        done = session->host_hello(identity_.host, identity_.key, identity_.sign);
        wait = milliseconds{0};
      } else {
        done = std::move(opened).error();
      }
    }
    if (done) check_same_log(session->follower());
    if (done) done = session->sync(wait);
    if (done) {
      wait = kLongPoll;
      pause = kFirstPause;
      view_->show(followed_of(session->follower()));
      warn_of_foreign_key(*session->control());
      continue;
    }
    const Error& error = done.error();
    spdlog::warn("following the log: {}", describe(error));
    // What does not hold is not a matter of the network: nobody comes in while it lasts. (The server's key
    // is.)
    if (error.code == Code::kUnverified && error.reason != Reason::kPeerTls) view_->halt(error);
    session.reset();
    for (milliseconds waited{0}; waited < pause && !stopping_; waited += milliseconds{100})
      ::poll(nullptr, 0, 100);
    pause = std::min(pause * 2, kLongestPause);
  }
}

std::unique_ptr<Recorder> make_recorder(client::Settings settings, HostIdentity identity) {
  return std::make_unique<BrokerRecorder>(std::move(settings), std::move(identity));
}

}  // namespace sallyport::gate

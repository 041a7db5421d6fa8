#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "client/connection/session.h"
#include "client/target/log_view.h"
#include "client/target/reports.h"

namespace sallyport::gate {

// HostIdentity is how the gate proves its host to a broker, and what it signs reports with.
struct HostIdentity {
  std::string host;
  crypto::PublicKey key;
  record::SignDigest sign;
};

// Following is the thread that follows the log and shows what it found. It connects again for as long as it
// lives; what is on disk is shown at once.
class Following {
 public:
  static std::unique_ptr<Following> start(client::Settings settings, HostIdentity identity,
                                          std::shared_ptr<LogView> view);
  ~Following();  // waits for the call that is under way

 private:
  Following(client::Settings settings, HostIdentity identity, std::shared_ptr<LogView> view);
  void run();
  void warn_of_foreign_key(const record::ControlState& control);
  void check_same_log(const follow::Follower& follower);
  client::Settings settings_;
  HostIdentity identity_;
  std::shared_ptr<LogView> view_;
  std::atomic<bool> stopping_ = false;
  bool warned_ = false;
  Origin origin_;  // of the log that was followed at the start
  std::thread thread_;
};

// make_recorder gives the way of reports to the broker: a connection of its own, proved by the host key.
std::unique_ptr<Recorder> make_recorder(client::Settings settings, HostIdentity identity);

}  // namespace sallyport::gate

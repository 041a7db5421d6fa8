#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "client/target/accounts.h"
#include "client/target/config.h"
#include "client/target/connections.h"
#include "client/target/log_view.h"
#include "client/target/reports.h"

namespace sallyport::gate {

// Service is the root service behind the gate's socket: it answers sshd's principals command, and owns every
// session from its first byte to its last. What it knows of the log comes from `view`, which a follower
// fills.
class Service {
 public:
  struct Options {
    Config config;
    std::string self;  // this program: it is started for keepers, and is what clients must run
    std::function<UnixMillis()> clock;
    std::function<std::optional<Account>(const std::string&)> find_account = gate::find_account;
    std::function<std::optional<CgroupBase>()> make_cgroups = CgroupBase::make;
    std::chrono::milliseconds idle_connection = kIdleConnection;
    std::chrono::milliseconds login_patience{3'000};
  };
  static Result<std::unique_ptr<Service>> start(Options options, std::shared_ptr<LogView> view,
                                                std::shared_ptr<Reports> reports);
  ~Service();  // ends every session, and waits until each is over and its end is stored

  std::size_t sessions() const;

 private:
  struct Impl;
  explicit Service(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// why_text tells the engineer why a session ended: "session c-7f3a90be ended 09:30:33Z: its 15 minutes are
// over".
std::string why_text(const CaseId& case_id, record::WhyClosed why, UnixMillis at, UnixMillis not_before,
                     UnixMillis not_after);

}  // namespace sallyport::gate

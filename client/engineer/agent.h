#pragma once

#include <memory>

#include "client/engineer/access.h"

namespace sallyport::client::engineer {

// Agent is an ssh-agent (draft-miller-ssh-agent) for one certificate whose key is in the TPM. It signs
// nothing but a login that the grant allows, on a connection whose host has proved one of the policy's keys
// for it (session-bind@openssh.com), and each time with a new lease from the broker.
class Agent {
 public:
  // start listens on a socket in a private directory. The agent's thread is the only user of `opened` until
  // stop().
  static Result<std::unique_ptr<Agent>> start(Opened& opened, const Access& access);
  ~Agent();  // stops

  const std::string& socket() const;
  const std::string& directory() const;  // private to this agent, and gone with it
  // The last error of a signature that was asked for: why a login failed.
  std::optional<Error> last_error() const;
  void stop();

 private:
  struct Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::client::engineer

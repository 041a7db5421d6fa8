#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/engineer/access.h"

namespace sallyport::client::engineer {

// What ssh exits with when it failed itself; a command can exit with it too.
inline constexpr int kSshFailed = 255;

// SshEnd is how the stock client came back.
struct SshEnd {
  int status = 0;                    // its exit status, or 128 and the signal that ended it
  std::optional<int> remote_status;  // what the remote side sent as the command's own
  bool opened = false;               // a session began
  std::string said;                  // the last thing that was no debug message
  std::optional<Error> refused;      // by our agent
  int signal = 0;                    // that ended us meanwhile
};

// read_ssh_log fills in what ssh wrote to its log at LogLevel DEBUG1.
void read_ssh_log(std::string_view log, SshEnd& end);

// run_ssh runs the stock client beside an agent for this access, on our terminal. Its agent and its log are
// gone afterwards, also when SIGTERM or SIGHUP ended us: then ssh was ended first.
Result<SshEnd> run_ssh(Opened& opened, const Access& access, const std::vector<std::string>& command,
                       bool tty);

// judge_end gives the exit code of `sallyport ssh`. The command's own status passes through; 255 without one
// is ssh's, and becomes the reason: what the access rests on is judged again, as the gate does.
//   Errors: the agent's refusal; those of verify_dossier (kGrantExpired, kCaseDenied, kRevoked, …);
//   kGateShut, kLeaseHost (another host key), kPeer (host not reached, or the connection broke).
Result<int> judge_end(const SshEnd& end, const record::Dossier& dossier, const record::VerifiedGrant& grant,
                      const record::ControlState& control, UnixMillis now);

}  // namespace sallyport::client::engineer

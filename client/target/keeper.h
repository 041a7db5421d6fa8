#pragma once

#include <string>
#include <vector>

#include "attestation/base/result.h"
#include "client/target/processes.h"
#include "client/target/protocol.h"

namespace sallyport::gate {

// A keeper is the process that owns one session: its terminal or pipes, its shell, every process that comes
// of it, and its deadline. It is root's, has one thread, and is the subreaper of what it starts. It ends the
// session by itself at the deadline, and when the service that started it goes.

// The descriptors that a keeper is started with.
inline constexpr int kKeeperControl = 3, kKeeperStdin = 4, kKeeperStdout = 5, kKeeperStderr = 6;

// environment_of gives all that a session's shell finds in its environment.
std::vector<std::string> environment_of(const KeeperOrder& order, const std::string& home);

// run_keeper is the keeper's whole life, on the descriptors above; it gives the process's exit code.
int run_keeper();

// StartedKeeper is the service's end of a keeper's control stream, and its process, to be waited for.
struct StartedKeeper {
  Descriptor control;
  pid_t pid = -1;
};

// start_keeper starts a keeper (`self` is this program) with the client's files, and gives it its order.
Result<StartedKeeper> start_keeper(const std::string& self, const KeeperOrder& order, const Descriptor& in,
                                   const Descriptor& out, const Descriptor& err);

}  // namespace sallyport::gate

#pragma once

#include <vector>

#include "client/terminal/command.h"

namespace sallyport::client::evidence_tools {

// commands: evidence replay, show, verify-ek, ima. Each is in a file of its own; they want no settings, token, TPM or
// network.
std::vector<Command> commands();

Command replay_command();
Command show_command();
Command verify_ek_command();
Command ima_command();

}  // namespace sallyport::client::evidence_tools

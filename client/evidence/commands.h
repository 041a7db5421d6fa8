#pragma once

#include <vector>

#include "client/terminal/command.h"

namespace sallyport::client::evidence_tools {

// commands: evidence replay, show, appraise, verify-ek, ima; reference check, learn, diff. Each is in a file
// of its own; they want no settings, token, TPM or network.
std::vector<Command> commands();

Command replay_command();
Command show_command();
Command verify_ek_command();
Command ima_command();
Command appraise_command();
Command reference_check_command();
Command reference_learn_command();
Command reference_diff_command();

}  // namespace sallyport::client::evidence_tools

#pragma once

#include <vector>

#include "client/terminal/command.h"

namespace sallyport::client::admin {

// commands: policy check, show, diff, explain, who, propose; revoke; version.
std::vector<Command> commands();
std::vector<Command> device_commands();   // the machines: list, show, retire, lost
std::vector<Command> erasure_commands();  // erasing cases, and holding them from it

}  // namespace sallyport::client::admin

#pragma once

#include <vector>

#include "client/terminal/command.h"

namespace sallyport::client::admin {

// commands: policy check, show, diff, explain, who, propose; revoke; version.
std::vector<Command> commands();

}  // namespace sallyport::client::admin

#pragma once

#include <vector>

#include "client/terminal/command.h"

namespace sallyport::client::approver {

// commands: inbox, review, approve, policy approve, deny, submit.
std::vector<Command> commands();

}  // namespace sallyport::client::approver

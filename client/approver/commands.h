#pragma once

#include <vector>

#include "client/terminal/command.h"

namespace sallyport::client::approver {

// commands: inbox, review, approve, deny, submit.
std::vector<Command> commands();

}  // namespace sallyport::client::approver

#pragma once

#include "client/terminal/command.h"

namespace sallyport::client::auditor {

// audit export, verify, explain, show.
std::vector<Command> commands();

}  // namespace sallyport::client::auditor

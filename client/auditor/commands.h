#pragma once

#include "client/terminal/command.h"

namespace sallyport::client::auditor {

// audit export, verify, grep, report, follow, explain, show.
std::vector<Command> commands();

}  // namespace sallyport::client::auditor

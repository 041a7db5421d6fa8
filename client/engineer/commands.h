#pragma once

#include "client/terminal/command.h"

namespace sallyport::client::engineer {

// init, enroll, ssh, doctor, request ls|show|drop, known-host.
std::vector<Command> commands();

}  // namespace sallyport::client::engineer

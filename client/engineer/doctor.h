#pragma once

#include "client/engineer/checkup.h"
#include "client/terminal/command.h"

namespace sallyport::client::engineer {

// examine looks at all that a session needs, on this machine and at the broker, and tells of each thing. It
// asks for no PIN and records nothing. What stands on something that is wrong is told as not checked.
std::vector<Check> examine();

Command doctor_command();

}  // namespace sallyport::client::engineer

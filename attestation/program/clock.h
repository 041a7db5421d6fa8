#pragma once

#include "attestation/base/strong.h"

namespace sallyport::program {

// wall_clock is the one place that asks the machine for the time of day: programs hand it to whoever takes a
// clock.
UnixMillis wall_clock();

}  // namespace sallyport::program

#pragma once

#include <string_view>

#include "attestation/base/reason.h"

namespace sallyport::client {

// next_step tells a person what to do about an error. Every reason has one (tests/unit/terminal_test.cpp).
std::string_view next_step(Reason reason);

}  // namespace sallyport::client

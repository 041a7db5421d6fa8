#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/record/state.h"

namespace sallyport::client::admin {

// state_of gives the state of an enrolled machine in one word: live, retired (it may be enrolled again), or
// for good lost (`device lost`) or revoked (`revoke device`). Pure.
std::string state_of(const record::ControlState& control, const DeviceId& id);

// devices_text is the list for people, one line each, in the order of the log. Pure.
std::string devices_text(const record::ControlState& control);

// device_text is all that the log says of one enrolled machine; `at` is the time of its enrolment's leaf,
// where this machine knows it. Pure.
std::string device_text(const record::ControlState& control, const record::Device& device,
                        std::optional<UnixMillis> at);

}  // namespace sallyport::client::admin

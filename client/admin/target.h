#pragma once

#include <string_view>
#include <vector>

#include "attestation/record/state.h"

namespace sallyport::client::admin {

// find_device_id takes what a person types for a machine among those that were enrolled: its name, its whole
// id, or a beginning of its id of at least 8 digits. A name or a beginning means machines that are not
// revoked for good: a name may be given again once they are.
//   Errors: kUsage (it means several, or could: they are listed), kDeviceUnknown (none: those that there are
//           are listed), kDeviceRevoked (only revoked ones).   Pure.
Result<DeviceId> find_device_id(std::string_view typed, const std::vector<record::Device>& enrolled,
                                const record::ControlState& control);

}  // namespace sallyport::client::admin

#include "client/admin/target.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "client/terminal/render.h"

namespace sallyport::client::admin {
namespace {

constexpr std::size_t kMinTypedDigits = 8;
constexpr std::size_t kMaxListed = 20;

// list_of names machines so that one of them can be typed: whole ids, as their names may be the same.
std::string list_of(const std::vector<const record::Device*>& devices) {
  std::string out;
  for (std::size_t i = 0; i < std::min(devices.size(), kMaxListed); ++i)
    out += "\n  " + to_hex(devices[i]->id) + "  " + printable(devices[i]->name) + " · " +
           printable(devices[i]->region.get());
  if (devices.size() > kMaxListed) out += "\n  and " + std::to_string(devices.size() - kMaxListed) + " more";
  return out;
}

}  // namespace

Result<DeviceId> find_device_id(std::string_view typed, const std::vector<record::Device>& enrolled,
                                const record::ControlState& control) {
  if (const auto whole = parse_device_id(typed); whole.has_value() && control.find_device(*whole) != nullptr)
    return *whole;
  const auto is_meant = [&](const record::Device& device) {
    return device.name == typed || (typed.size() >= kMinTypedDigits && to_hex(device.id).starts_with(typed));
  };
  std::vector<const record::Device*> live, meant;
  bool is_revoked = false;
  for (const record::Device& device : enrolled) {
    const bool revoked = control.is_revoked(device.id) && !control.find_retired(device.id);
    if (!revoked) live.push_back(&device);
    if (!is_meant(device)) continue;
    if (revoked)
      is_revoked = true;
    else
      meant.push_back(&device);
  }
  if (meant.size() == 1) return meant.front()->id;
  if (meant.size() > 1)
    return Error{Code::kMalformed, Reason::kUsage,
                 "several machines go by " + printable(typed) + "; type one's id:" + list_of(meant)};
  if (is_revoked)
    return Error{Code::kDenied, Reason::kDeviceRevoked, printable(typed) + " is revoked already"};
  return Error{Code::kDenied, Reason::kDeviceUnknown,
               "no machine goes by " + printable(typed) +
                   (live.empty() ? "" : "; enrolled, and not revoked, are:" + list_of(live))};
}

}  // namespace sallyport::client::admin

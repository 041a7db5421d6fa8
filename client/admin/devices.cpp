#include "client/admin/devices.h"

#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/record/canonical_json.h"
#include "client/admin/commands.h"
#include "client/admin/revocation.h"
#include "client/admin/target.h"
#include "client/terminal/cases.h"
#include "client/terminal/render.h"

namespace sallyport::client::admin {
namespace {

namespace po = boost::program_options;
using record::Device;
using record::RevocationKind;
using record::json::Value;

std::string ak_kind(const Device& device) {
  return device.attestation_key.key().algorithm() == crypto::KeyAlgorithm::kP256 ? "p256" : "rsa";
}

Value json_of(const record::ControlState& control, const Device& device) {
  return Value::object({{"ak", ak_kind(device)},
                        {"device", to_hex(device.id)},
                        {"identity", device.identity ? to_hex(view(*device.identity)) : std::string{}},
                        {"leaf", device.enrolled.get()},
                        {"name", device.name},
                        {"pcrs", to_hex(device.baseline.pcr_digest)},
                        {"region", device.region.get()},
                        {"reset_count", std::uint64_t{device.clock.reset_count}},
                        {"restart_count", std::uint64_t{device.clock.restart_count}},
                        {"state", state_of(control, device.id)},
                        {"tpm_maker", device.tpm_maker}});
}

Result<int> ls(const Arguments& arguments) {
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  const auto control = opened->session->control();
  if (arguments.json) {
    Value::Array rows;
    for (const Device& device : control->devices()) rows.push_back(json_of(*control, device));
    print_json(Value::object({{"devices", std::move(rows)}}));
    return 0;
  }
  std::cout << devices_text(*control);
  return 0;
}

Result<int> show(const Arguments& arguments) {
  if (!arguments.has("target")) return usage("sallyport device show NAME|ID");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  const auto control = opened->session->control();
  SP_TRY(const DeviceId id, find_device_id(arguments.text("target"), control->devices(), *control));
  const Device& device = *control->find_device(id);
  if (arguments.json) {
    print_json(json_of(*control, device));
    return 0;
  }
  const auto leaf = leaves_of(*opened)(device.enrolled);
  std::cout << device_text(*control, device, leaf ? std::optional{leaf->time} : std::nullopt);
  return 0;
}

Result<int> take_out(const Arguments& arguments, RevocationKind kind, const std::string& verb,
                     const std::string& done) {
  if (!arguments.has("target") || arguments.text("reason").empty())
    return usage("sallyport device " + verb + " NAME|ID --reason WHY");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  const auto control = opened->session->control();
  SP_TRY(const DeviceId id, find_device_id(arguments.text("target"), control->devices(), *control));
  SP_TRY(const Revoked revoked, send_revocation(*opened, kind, to_hex(id), arguments.text("reason")));
  if (arguments.json)
    print_json(Value::object({{"case", to_hex(revoked.case_id)},
                              {"device", to_hex(id)},
                              {"leaf", revoked.leaf.get()},
                              {"state", state_of(*opened->session->control(), id)}}));
  else
    std::cout << done << " " << printable(control->find_device(id)->name) << " · device "
              << to_hex(id).substr(0, 16) << " · leaf " << grouped(revoked.leaf.get()) << ", cosigned\n";
  return 0;
}

Result<int> retire(const Arguments& arguments) {
  return take_out(arguments, RevocationKind::kRetired, "retire", "retired");
}
Result<int> lost(const Arguments& arguments) {
  return take_out(arguments, RevocationKind::kLost, "lost", "lost, and revoked for good");
}

void target_flags(po::options_description& flags) {
  flags.add_options()("target", po::value<std::string>(), "a machine's name, its id, or the beginning of it");
}
void out_flags(po::options_description& flags) {
  target_flags(flags);
  flags.add_options()("reason", po::value<std::string>(), "why: auditors read it");
}

}  // namespace

std::string state_of(const record::ControlState& control, const DeviceId& id) {
  if (control.find_retired(id)) return "retired";
  if (control.find_lost(id)) return "lost";
  return control.is_revoked(id) ? "revoked" : "live";
}

std::string devices_text(const record::ControlState& control) {
  std::string out;
  for (const Device& device : control.devices())
    out += to_hex(device.id).substr(0, 16) + "  " + printable(device.name) + " · " +
           printable(device.region.get()) + " · " + state_of(control, device.id) + " · " + ak_kind(device) +
           " · enrolled by leaf " + grouped(device.enrolled.get()) + "\n";
  return out;
}

std::string device_text(const record::ControlState& control, const Device& device,
                        std::optional<UnixMillis> at) {
  const auto line = [](std::string label, const std::string& text) {
    label.resize(12, ' ');
    return label + text + "\n";
  };
  const auto retired = control.find_retired(device.id), lost = control.find_lost(device.id);
  const std::string out = retired ? " by leaf " + grouped(retired->get()) + "; it can be enrolled again"
                          : lost  ? " by leaf " + grouped(lost->get()) + "; it is never enrolled again"
                                  : "";
  return line("name", printable(device.name)) + line("region", printable(device.region.get())) +
         line("state", state_of(control, device.id) + out) +
         line("device", to_hex(device.id) + "  its endorsement key") +
         line("identity", device.identity ? to_hex(view(*device.identity)).substr(4) + "  of its TPM"
                                          : "none: it was enrolled before enrolments proved it") +
         (device.tpm_maker.empty() ? std::string{} : line("TPM", "made by " + printable(device.tpm_maker))) +
         line("enrolled", "by leaf " + grouped(device.enrolled.get()) + (at ? ", " + utc(*at) : "")) +
         line("key", ak_kind(device) + " attestation key " +
                         to_hex(view(device.attestation_key.name())).substr(4, 16)) +
         line("baseline", "PCRs " + to_hex(device.baseline.pcr_digest)) +
         line("counters", "resetCount " + std::to_string(device.clock.reset_count) + ", restartCount " +
                              std::to_string(device.clock.restart_count) + " when it was enrolled");
}

std::vector<Command> device_commands() {
  return {
      {"device ls",
       "device ls",
       "the machines that were enrolled",
       "As this machine has followed the log.\n",
       nullptr,
       {},
       ls},
      {"device show",
       "device show NAME|ID",
       "all that the log says of a machine",
       "As this machine has followed the log.\n",
       target_flags,
       {"target"},
       show},
      {"device retire",
       "device retire NAME|ID --reason WHY",
       "take a machine out of service, until it is enrolled again",
       "It gets nothing from then on, and running sessions from it end. The enrol quorum may enrol it "
       "again.\n\n"
       "  sallyport device retire erin-laptop --reason \"back to the pool\"\n",
       out_flags,
       {"target"},
       retire},
      {"device lost",
       "device lost NAME|ID --reason WHY",
       "tell that a machine is lost, and revoke it for good",
       "As sallyport revoke device, and it is shown as lost: it is never enrolled again, with whatever keys "
       "of its TPM.\n\n"
       "  sallyport device lost erin-laptop --reason \"stolen\"\n",
       out_flags,
       {"target"},
       lost},
  };
}

}  // namespace sallyport::client::admin

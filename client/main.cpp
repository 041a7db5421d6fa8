#include <spdlog/spdlog.h>

#include "attestation/program/command_line.h"
#include "attestation/program/process.h"
#include "client/admin/commands.h"
#include "client/approver/commands.h"
#include "client/auditor/commands.h"
#include "client/engineer/commands.h"
#include "client/evidence/commands.h"

// `sallyport`: one program for engineers, approvers, administrators and auditors. Nothing is secret in it but
// the PIN while it is typed.
int main(int argc, char** argv) {
  const auto hardened =
      sallyport::program::harden({.secure_heap_bytes = 1u << 16, .may_swap = true, .private_files = false});
  if (!hardened.has_value()) return sallyport::program::tell_error("sallyport", hardened.error());
  sallyport::program::ignore_broken_pipes();
  spdlog::set_level(spdlog::level::off);  // what a person needs to know is said by the commands
  return sallyport::client::run_command_line(
      argc, argv,
      {sallyport::client::engineer::commands(), sallyport::client::approver::commands(),
       sallyport::client::admin::commands(), sallyport::client::admin::device_commands(),
       sallyport::client::admin::erasure_commands(), sallyport::client::auditor::commands(),
       sallyport::client::evidence_tools::commands()});
}

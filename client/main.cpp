#include <spdlog/spdlog.h>

#include "attestation/program/process.h"
#include "client/admin/commands.h"
#include "client/approver/commands.h"
#include "client/auditor/commands.h"
#include "client/engineer/commands.h"

// `sallyport`: one program for engineers, approvers, administrators and auditors. Nothing is secret in it but
// the PIN while it is typed.
int main(int argc, char** argv) {
  (void)sallyport::program::harden();  // a person's limit on locked memory is no reason not to work
  sallyport::program::ignore_broken_pipes();
  spdlog::set_level(spdlog::level::off);  // what a person needs to know is said by the commands
  return sallyport::client::run_command_line(
      argc, argv,
      {sallyport::client::engineer::commands(), sallyport::client::approver::commands(),
       sallyport::client::admin::commands(), sallyport::client::auditor::commands()});
}

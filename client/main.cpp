#include <openssl/crypto.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "client/admin/commands.h"
#include "client/approver/commands.h"
#include "client/auditor/commands.h"
#include "client/engineer/commands.h"

// `sallyport`: one program for engineers, approvers, administrators and auditors. Nothing is secret in it but
// the PIN while it is typed.
int main(int argc, char** argv) {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0);
  CRYPTO_secure_malloc_init(1 << 16, 32);
  signal(SIGPIPE, SIG_IGN);
  spdlog::set_level(spdlog::level::off);  // what a person needs to know is said by the commands
  return sallyport::client::run_command_line(
      argc, argv,
      {sallyport::client::engineer::commands(), sallyport::client::approver::commands(),
       sallyport::client::admin::commands(), sallyport::client::auditor::commands()});
}

#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "attestation/base/result.h"

namespace sallyport::gate {

// Account is what the host's user database says of an account.
struct Account {
  uid_t uid = 0;
  gid_t gid = 0;
  std::string name, home, shell;
};
std::optional<Account> find_account(const std::string& name);

// find_accounts_behind gives every account of the user database whose login shell is `program`.
std::vector<Account> find_accounts_behind(const std::filesystem::path& program);

// is_program tells whether `path` leads to `program`, which is absolute and without links.
bool is_program(const std::filesystem::path& path, const std::filesystem::path& program);

// verify_program checks how the gate's own program is installed, and gives its group: root's, written by root
// only, and setgid of a group of its own.
//   Proves:  the kernel starts it in secure-execution mode (ld.so(8)): the loader takes nothing from the
//            environment, and no process of the account can trace it. Nothing else that an account can start
//            has this group as its effective one, so that the service knows its clients by it (SO_PEERCRED).
//   Does not prove: that the file system honours setgid; a client without the group is refused.
//   Errors:  kGateProgram.
Result<gid_t> verify_program(const std::filesystem::path& program);

// verify_account checks that an account is behind the gate: its login shell is `program`, and it is no member
// of the program's group.
//   Errors:  kGateShell (sshd would run the certificate's command through another shell, and so through that
//            shell's start-up files), kGateProgram.
Status verify_account(const Account& account, const std::filesystem::path& program, gid_t group);

}  // namespace sallyport::gate

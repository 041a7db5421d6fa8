#include "client/target/accounts.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

namespace sallyport::gate {
namespace {

Account account_of(const passwd& entry) {
  return {entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir, entry.pw_shell};
}

Error ill_installed(const std::filesystem::path& program, const char* what) {
  return Error{Code::kUnavailable, Reason::kGateProgram,
               program.string() + " " + what + ": chown root:sallyport-gate, then chmod 2755"};
}

}  // namespace

std::optional<Account> find_account(const std::string& name) {
  std::array<char, 16 * 1024> buffer;
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return {};
  return account_of(*found);
}

std::vector<Account> find_accounts_behind(const std::filesystem::path& program) {
  std::vector<Account> accounts;
  std::array<char, 16 * 1024> buffer;
  passwd entry{};
  passwd* found = nullptr;
  ::setpwent();
  while (::getpwent_r(&entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    if (is_program(found->pw_shell, program)) accounts.push_back(account_of(*found));
  ::endpwent();
  return accounts;
}

bool is_program(const std::filesystem::path& path, const std::filesystem::path& program) {
  std::error_code failed;
  const auto real = std::filesystem::canonical(path, failed);
  return !failed && path.is_absolute() && real == program;
}

Result<gid_t> verify_program(const std::filesystem::path& program) {
  struct stat found {};
  if (::stat(program.c_str(), &found) != 0 || !S_ISREG(found.st_mode))
    return ill_installed(program, "is not there");
  if (found.st_uid != 0 || (found.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return ill_installed(program, "can be written by others than root");
  if ((found.st_mode & S_ISGID) == 0 || (found.st_mode & S_IXGRP) == 0 || found.st_gid == 0)
    return ill_installed(program, "is not setgid of a group of its own");
  if ((found.st_mode & S_ISUID) != 0) return ill_installed(program, "is setuid");
  return found.st_gid;
}

Status verify_account(const Account& account, const std::filesystem::path& program, gid_t group) {
  if (!is_program(account.shell, program))
    return Error{Code::kDenied, Reason::kGateShell,
                 "the login shell of " + account.name + " is " + account.shell +
                     ", not the gate: usermod -s " + program.string() + " " + account.name};
  std::array<gid_t, 1024> groups{};
  int count = static_cast<int>(groups.size());
  const bool known = ::getgrouplist(account.name.c_str(), account.gid, groups.data(), &count) >= 0;
  if (!known || std::find(groups.begin(), groups.begin() + count, group) != groups.begin() + count)
    return Error{Code::kDenied, Reason::kGateProgram,
                 account.name + " is a member of the gate's own group, which is for its program alone"};
  return Done{};
}

}  // namespace sallyport::gate

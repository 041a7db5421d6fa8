#include "client/target/check.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

namespace sallyport::gate {
namespace {

constexpr std::size_t kMaxOutputBytes = 256 * 1024;

struct Wanted {
  const char* option;  // as sshd -T prints it
  const char* value;
  const char* line;  // of sshd_config
  const char* why;
};
constexpr Wanted kWanted[] = {
    {"authorizedkeysfile", "none", "AuthorizedKeysFile none", "a key in a file would open the door"},
    {"authorizedkeyscommand", "none", "AuthorizedKeysCommand none", "a key of a command would open the door"},
    {"authorizedprincipalsfile", "none", "AuthorizedPrincipalsFile none",
     "the gate alone says who may log in"},
    {"exposeauthinfo", "yes", "ExposeAuthInfo yes", "sessions find their grant in it"},
    {"disableforwarding", "yes", "DisableForwarding yes", "a forwarding outlives its session"},
    {"permittunnel", "no", "PermitTunnel no", "a tunnel outlives its session"},
    {"permituserrc", "no", "PermitUserRC no", "~/.ssh/rc would run outside of the gate"},
    {"permituserenvironment", "no", "PermitUserEnvironment no", "~/.ssh/environment would reach the gate"},
    {"forcecommand", "none", "ForceCommand none", "it would take the place of the certificate's command"},
    {"pubkeyauthentication", "yes", "PubkeyAuthentication yes", "certificates need it"},
    {"passwordauthentication", "no", "PasswordAuthentication no", "certificates only"},
    {"kbdinteractiveauthentication", "no", "KbdInteractiveAuthentication no", "certificates only"},
    {"hostbasedauthentication", "no", "HostbasedAuthentication no", "certificates only"},
    {"permitemptypasswords", "no", "PermitEmptyPasswords no", "certificates only"},
};
// Options that a build of sshd may lack.
constexpr Wanted kWantedIfKnown[] = {
    {"gssapiauthentication", "no", "GSSAPIAuthentication no", "certificates only"},
    {"kerberosauthentication", "no", "KerberosAuthentication no", "certificates only"},
};

std::string value_of(const SshdOptions& options, const std::string& option) {
  const auto at = options.find(option);
  if (at == options.end() || at->second.empty()) return {};
  return at->second.front();
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

void check_one(const SshdOptions& options, const Wanted& wanted, std::vector<std::string>& wrong) {
  const std::string found = value_of(options, wanted.option);
  if (lower(found) == wanted.value) return;
  wrong.push_back(std::string{wanted.line} + ": it is \"" + (found.empty() ? "not set" : found) + "\"; " +
                  wanted.why);
}

void check_principals_command(const SshdOptions& options, std::vector<std::string>& wrong) {
  constexpr const char* kLine = "AuthorizedPrincipalsCommand /usr/sbin/sallyport-gate principals %u %k: ";
  const std::string command = value_of(options, "authorizedprincipalscommand");
  std::istringstream words{command};
  std::vector<std::string> parts;
  for (std::string word; words >> word;) parts.push_back(word);
  const auto has = [&](const char* word) { return std::find(parts.begin(), parts.end(), word); };
  const auto user = has("%u"), certificate = has("%k");
  if (parts.size() < 4 || parts[0].empty() || parts[0][0] != '/' || parts[1] != "principals" ||
      user == parts.end() || certificate == parts.end() || user > certificate)
    wrong.push_back(kLine +
                    ("it is \"" + (command.empty() ? "not set" : command) + "\"; nobody would ask the gate"));
  const std::string runner = value_of(options, "authorizedprincipalscommanduser");
  if (runner.empty() || runner == "none")
    wrong.push_back("AuthorizedPrincipalsCommandUser nobody: it is not set; the command would not run");
  else if (runner == "root" || runner == "%u")
    wrong.push_back("AuthorizedPrincipalsCommandUser nobody: it is \"" + runner +
                    "\"; the command needs no rights");
}

// AcceptEnv lets the engineer set variables of the login shell before the gate has looked.
void check_environment(const SshdOptions& options, std::vector<std::string>& wrong) {
  const auto at = options.find("acceptenv");
  if (at == options.end()) return;
  for (const std::string& value : at->second) {
    std::istringstream words{value};
    for (std::string pattern; words >> pattern;)
      if (pattern != "LANG" && pattern.rfind("LC_", 0) != 0 && pattern != "TERM" && pattern != "COLORTERM")
        wrong.push_back("AcceptEnv LANG LC_*: it also takes \"" + pattern +
                        "\"; the engineer would set it for the gate's own programs");
  }
}

}  // namespace

Result<SshdOptions> parse_sshd_options(std::string_view text) {
  if (text.size() > kMaxOutputBytes) return Error{Code::kMalformed, "more options than sshd has"};
  SshdOptions options;
  std::istringstream lines{std::string{text}};
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const auto space = line.find(' ');
    const std::string option = lower(line.substr(0, space));
    if (option.empty()) return Error{Code::kMalformed, "a line without an option"};
    options[option].push_back(space == line.npos ? std::string{} : line.substr(space + 1));
  }
  if (options.empty()) return Error{Code::kMalformed, "no options at all"};
  return options;
}

std::vector<std::string> check_sshd_options(const SshdOptions& options) {
  std::vector<std::string> wrong;
  for (const Wanted& wanted : kWanted) check_one(options, wanted, wrong);
  for (const Wanted& wanted : kWantedIfKnown)
    if (options.contains(wanted.option)) check_one(options, wanted, wrong);
  const std::string methods = lower(value_of(options, "authenticationmethods"));
  if (methods != "any" && methods != "publickey" && !methods.empty())
    wrong.push_back("AuthenticationMethods publickey: it is \"" + methods + "\"; certificates only");
  const std::string authorities = value_of(options, "trustedusercakeys");
  if (authorities.empty() || authorities == "none")
    wrong.push_back("TrustedUserCAKeys FILE: it is not set; no certificate would be taken");
  check_principals_command(options, wrong);
  check_environment(options, wrong);
  return wrong;
}

Result<SshdOptions> read_sshd_options(const std::filesystem::path& sshd, const std::filesystem::path& file,
                                      const std::string& account) {
  std::vector<std::string> words{sshd.string(), "-T", "-f", file.string()};
  if (!account.empty()) {
    words.push_back("-C");
    words.push_back("user=" + account + ",host=localhost,addr=127.0.0.1");
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int pipe_ends[2] = {-1, -1};
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return Error{Code::kInternal, "pipe2 failed"};
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe_ends[1], STDOUT_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(pipe_ends[1]);
  if (child < 0) {
    ::close(pipe_ends[0]);
    return Error{Code::kInternal, "fork failed"};
  }
  std::string output;
  char chunk[4096];
  while (output.size() <= kMaxOutputBytes) {
    const ssize_t got = ::read(pipe_ends[0], chunk, sizeof(chunk));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    output.append(chunk, static_cast<std::size_t>(got));
  }
  ::close(pipe_ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return Error{Code::kMalformed, Reason::kUsage,
                 sshd.string() + " -T -f " + file.string() + " did not take the configuration"};
  return parse_sshd_options(output);
}

}  // namespace sallyport::gate

#include "client/target/check.h"

#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <utility>

#include "client/target/accounts.h"

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

std::vector<std::string> words_of(const std::string& text, char separator = ' ') {
  std::vector<std::string> words;
  std::istringstream in{text};
  for (std::string word; std::getline(in, word, separator);)
    if (!word.empty()) words.push_back(word);
  return words;
}

void check_principals_command(const SshdOptions& options, const std::filesystem::path& program,
                              std::vector<std::string>& wrong) {
  const std::string command = value_of(options, "authorizedprincipalscommand");
  const std::vector<std::string> parts = words_of(command);
  if (parts.size() != 4 || !is_program(parts[0], program) || parts[1] != "principals" || parts[2] != "%u" ||
      parts[3] != "%k")
    wrong.push_back("AuthorizedPrincipalsCommand " + program.string() + " principals %u %k: it is \"" +
                    (command.empty() ? "not set" : command) + "\"; nobody would ask the gate");
  const std::string runner = value_of(options, "authorizedprincipalscommanduser");
  if (runner.empty() || runner == "none")
    wrong.push_back("AuthorizedPrincipalsCommandUser nobody: it is not set; the command would not run");
  else if (runner == "root" || runner == "%u")
    wrong.push_back("AuthorizedPrincipalsCommandUser nobody: it is \"" + runner +
                    "\"; the command needs no rights");
}

// The login shell needs the engineer's locale and terminal at most.
bool is_harmless_variable(const std::string& name) {
  return name == "LANG" || name.rfind("LC_", 0) == 0 || name == "TERM" || name == "COLORTERM";
}

// AcceptEnv and SetEnv set variables of the login shell before the gate has looked.
void check_environment(const SshdOptions& options, std::vector<std::string>& wrong) {
  const auto values_of = [&](const char* option) {
    const auto at = options.find(option);
    return at == options.end() ? std::vector<std::string>{} : at->second;
  };
  for (const std::string& value : values_of("acceptenv"))
    for (const std::string& pattern : words_of(value))
      if (!is_harmless_variable(pattern))
        wrong.push_back("AcceptEnv LANG LC_*: it also takes \"" + pattern +
                        "\"; the engineer would set it for the gate's own programs");
  for (const std::string& value : values_of("setenv")) {
    const std::string name = value.substr(0, value.find('='));
    if (!is_harmless_variable(name))
      wrong.push_back("SetEnv LANG=…: it also sets \"" + name +
                      "\"; the gate's own programs take nothing from there");
  }
}

// A list of algorithms that lacks the one that a granted login needs lets nobody in.
void check_algorithms(const SshdOptions& options, std::vector<std::string>& wrong) {
  constexpr struct {
    const char *option, *line, *algorithm;
  } kNeeded[] = {
      {"casignaturealgorithms", "CASignatureAlgorithms", "ecdsa-sha2-nistp256"},
      {"pubkeyacceptedalgorithms", "PubkeyAcceptedAlgorithms", "ecdsa-sha2-nistp256-cert-v01@openssh.com"},
      {"hostkeyalgorithms", "HostKeyAlgorithms", "ecdsa-sha2-nistp256"},
  };
  for (const auto& one : kNeeded) {
    const std::string value = value_of(options, one.option);
    const auto list = words_of(value, ',');
    if (std::find(list.begin(), list.end(), one.algorithm) == list.end())
      wrong.push_back(std::string{one.line} + " with " + one.algorithm + ": it is \"" +
                      (value.empty() ? "not set" : value) + "\"; no granted login would be taken");
  }
}

// read_lines gives the lines of a configuration file, at most kMaxOutputBytes of it; nothing: it is not
// there.
std::optional<std::vector<std::string>> read_lines(const std::filesystem::path& file) {
  std::ifstream in{file};
  if (!in) return {};
  std::vector<std::string> lines;
  std::size_t bytes = 0;
  for (std::string line; std::getline(in, line); lines.push_back(std::move(line)))
    if ((bytes += line.size() + 1) > kMaxOutputBytes) return {};
  return lines;
}

constexpr int kMaxIncludes = 16;  // one within the other; sshd's own limit

void find_match_blocks(const std::filesystem::path& file, int depth, std::vector<std::string>& wrong) {
  const auto lines = read_lines(file);
  if (!lines || depth > kMaxIncludes) {
    wrong.push_back(file.string() + " cannot be read");
    return;
  }
  for (std::string line : *lines) {
    // sshd_config(5): words by spaces, an "=" behind the first, and quotes.
    std::replace_if(
        line.begin(), line.end(), [](char c) { return c == '\t' || c == '"' || c == '='; }, ' ');
    const std::vector<std::string> words = words_of(line);
    if (words.empty()) continue;
    const std::string keyword = lower(words[0]);
    if (keyword == "include") {
      for (std::size_t i = 1; i < words.size(); ++i) {
        const std::string pattern = words[i].front() == '/' ? words[i] : "/etc/ssh/" + words[i];
        glob_t found{};
        if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
          for (std::size_t at = 0; at < found.gl_pathc; ++at)
            find_match_blocks(found.gl_pathv[at], depth + 1, wrong);
        ::globfree(&found);
      }
    } else if (keyword == "match") {
      for (std::size_t i = 1; i < words.size(); i += 2) {
        const std::string criterion = lower(words[i]);
        if (criterion == "all" || criterion == "user" || criterion == "group") continue;
        wrong.push_back("Match User or Match Group: " + file.string() + " has a block for \"" + words[i] +
                        "\"; what holds there cannot be checked");
      }
    }
  }
}

// words_of_pam cuts a line of PAM into its words; one in brackets may hold spaces (pam.d(5)).
std::vector<std::string> words_of_pam(const std::string& line) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < line.size() && line[at] != '#';) {
    if (line[at] == ' ' || line[at] == '\t') {
      ++at;
      continue;
    }
    const bool bracket = line[at] == '[';
    const auto end = bracket ? line.find(']', at) : line.find_first_of(" \t", at);
    const auto begin = at + (bracket ? 1 : 0);
    words.push_back(line.substr(begin, end == line.npos ? end : end - begin));
    at = end == line.npos ? line.size() : end + 1;
  }
  return words;
}

void find_pam_variables(const std::filesystem::path& directory, const std::filesystem::path& file, int depth,
                        std::vector<std::string>& wrong) {
  const auto lines = read_lines(file);
  if (!lines || depth > kMaxIncludes) {
    wrong.push_back(file.string() + " cannot be read");
    return;
  }
  std::string line;
  for (const std::string& part : *lines) {
    line += part;
    if (line.ends_with('\\')) {
      line.back() = ' ';
      continue;
    }
    const std::vector<std::string> words = words_of_pam(std::exchange(line, {}));
    const auto include = [&](const std::string& name) {
      find_pam_variables(directory, directory / name, depth + 1, wrong);  // an absolute name stays one
    };
    if (words.size() >= 2 && lower(words[0]) == "@include") {
      include(words[1]);
    } else if (words.size() >= 3 && (lower(words[1]) == "include" || lower(words[1]) == "substack")) {
      include(words[2]);
    } else if (words.size() >= 3 && std::filesystem::path{words[2]}.filename() == "pam_env.so") {
      for (std::size_t i = 3; i < words.size(); ++i)
        if (words[i].rfind("user_readenv=", 0) == 0 && words[i] != "user_readenv=0")
          wrong.push_back("pam_env.so without " + words[i] + ": " + file.string() +
                          " has it; ~/.pam_environment would set variables of the gate's login shell");
    }
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

std::vector<std::string> check_sshd_options(const SshdOptions& options,
                                            const std::filesystem::path& program) {
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
  check_principals_command(options, program, wrong);
  check_environment(options, wrong);
  check_algorithms(options, wrong);
  return wrong;
}

std::vector<std::string> check_match_blocks(const std::filesystem::path& file) {
  std::vector<std::string> wrong;
  find_match_blocks(file, 0, wrong);
  return wrong;
}

std::optional<std::string> find_pam_service(const SshdOptions& options) {
  if (lower(value_of(options, "usepam")) != "yes") return {};
  const std::string named = value_of(options, "pamservicename");  // sshd 9.8 and later
  return named.empty() ? "sshd" : named;
}

std::vector<std::string> check_pam(const std::filesystem::path& directory, const std::string& service) {
  std::vector<std::string> wrong;
  const auto file = directory / service;
  find_pam_variables(directory, std::filesystem::exists(file) ? file : directory / "other", 0, wrong);
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

#include "client/engineer/ssh_run.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "client/engineer/agent.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

constexpr std::size_t kMaxLogBytes = 64u << 20;
// The gate's clock and ours may differ by this: a session that broke off so near to its end ended by it.
constexpr std::uint64_t kClockSlack = 2'000;  // ms

std::vector<std::string> ssh_words(const Access& access, const Agent& agent, const std::string& log,
                                   const std::vector<std::string>& command, bool tty) {
  const record::VerifiedGrant& grant = access.grant;
  std::string fingerprints;
  for (const std::string& key : grant.host_keys) fingerprints += (fingerprints.empty() ? "" : ",") + key;
  std::error_code ignored;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", ignored).string();
  std::vector<std::string> words{"ssh", "-F", "none", "-E", log};
  for (const std::string& option :
       {"IdentityAgent=" + agent.socket(), std::string{"PreferredAuthentications=publickey"},
        std::string{"IdentityFile=none"}, std::string{"StrictHostKeyChecking=yes"},
        std::string{"UserKnownHostsFile=/dev/null"}, std::string{"GlobalKnownHostsFile=/dev/null"},
        std::string{"UpdateHostKeys=no"},
        "KnownHostsCommand=" + self + " known-host " + fingerprints + " %f %H %t %K",
        std::string{"ForwardAgent=no"}, std::string{"LogLevel=DEBUG1"}}) {
    words.push_back("-o");
    words.push_back(option);
  }
  if (tty) words.push_back("-t");
  words.insert(words.end(), {"-p", std::to_string(grant.host_port), "-l", grant.account, grant.host_address});
  if (!command.empty()) words.push_back("--");
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

// What ssh says of a connection that went well.
bool is_small_talk(std::string_view line) {
  return line.starts_with("Authenticated to ") || line.starts_with("Transferred: ") ||
         line.starts_with("Bytes per second: ");
}

volatile sig_atomic_t ended_by = 0, ssh_pid = 0;

void pass_on(int number) {
  ended_by = number;
  if (ssh_pid > 0) kill(static_cast<pid_t>(ssh_pid), SIGTERM);
}

// EndsWithSsh: while it lives, SIGTERM and SIGHUP end ssh and not us, so that what we made is cleaned up; ^C
// belongs to the session.
class EndsWithSsh {
 public:
  EndsWithSsh() {
    ended_by = 0;
    ssh_pid = 0;
    struct sigaction action {};
    action.sa_handler = pass_on;
    sigaction(SIGTERM, &action, &term_);
    sigaction(SIGHUP, &action, &hup_);
    action.sa_handler = SIG_IGN;
    sigaction(SIGINT, &action, &int_);
  }
  ~EndsWithSsh() {
    sigaction(SIGTERM, &term_, nullptr);
    sigaction(SIGHUP, &hup_, nullptr);
    sigaction(SIGINT, &int_, nullptr);
  }
  EndsWithSsh(const EndsWithSsh&) = delete;
  EndsWithSsh& operator=(const EndsWithSsh&) = delete;

  Result<int> run(std::vector<std::string> words) {
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    sigset_t ours, before;  // no signal between the fork and knowing whom to pass it on to
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    if (ended_by != 0) {
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      return 128 + static_cast<int>(ended_by);
    }
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child == 0) {
      // A session does not outlive the command that answers for it, not even one that is killed.
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (getppid() != parent) _exit(127);
      for (const int number : {SIGTERM, SIGHUP, SIGINT}) signal(number, SIG_DFL);
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      execvp("ssh", argv.data());
      _exit(127);
    }
    ssh_pid = child;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (child < 0) return Error{Code::kInternal, "cannot start ssh"};
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    ssh_pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  struct sigaction term_ {
  }, hup_{}, int_{};
};

}  // namespace

void read_ssh_log(std::string_view log, SshEnd& end) {
  constexpr std::string_view kDebug = "debug1: ", kStatus = "debug1: Exit status ",
                             kOpened = "debug1: Entering interactive session.";
  while (!log.empty()) {
    std::string_view line = log.substr(0, log.find('\n'));
    log.remove_prefix(std::min(log.size(), line.size() + 1));
    while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.starts_with(kStatus)) {
      int value = -1;
      const std::string_view digits = line.substr(kStatus.size());
      const auto [at, wrong] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (wrong == std::errc{} && at == digits.data() + digits.size() && value >= 0)
        end.remote_status = value;
    } else if (line == kOpened) {
      end.opened = true;
    } else if (!line.empty() && !line.starts_with(kDebug) && !is_small_talk(line)) {
      end.said = line;
    }
  }
}

Result<SshEnd> run_ssh(Opened& opened, const Access& access, const std::vector<std::string>& command,
                       bool tty) {
  EndsWithSsh signals;
  SshEnd end;
  SP_TRY(const auto agent, Agent::start(opened, access));
  const std::string log = agent->directory() + "/ssh.log";
  SP_TRY(end.status, signals.run(ssh_words(access, *agent, log, command, tty)));
  agent->stop();
  end.refused = agent->last_error();
  end.signal = static_cast<int>(ended_by);
  if (const auto text = read_whole_file(log, kMaxLogBytes); text.has_value())
    read_ssh_log(as_text(*text), end);
  return end;
}

Result<int> judge_end(const SshEnd& end, const record::Dossier& dossier, const record::VerifiedGrant& grant,
                      const record::ControlState& control, UnixMillis now) {
  if (end.signal != 0) return 128 + end.signal;
  if (end.status != kSshFailed) return end.status;
  if (!end.opened && end.refused) return *end.refused;
  // Its proof is of the log before, and says nothing to the one that is followed now.
  if (control.origin() != grant.origin)
    return Error{Code::kStale, Reason::kCaseClosed,
                 "the log of its grant was given up, and goes on as " + printable(control.origin().get()) +
                     ": what was granted in it has ended"};
  const auto still = record::verify_dossier(dossier, control, UnixMillis{now.get() + kClockSlack});
  if (!still.has_value()) {
    // Of a session that was open the gate has told the end, and its words reached the terminal.
    const bool told = end.opened;
    return Error{Code::kStale, still.error().reason,
                 told ? std::string{} : "the session can no longer be opened: " + still.error().what};
  }
  if (end.remote_status == kSshFailed) return kSshFailed;
  const std::string said = printable(end.said);
  const std::string host = grant.host + " (" + grant.host_address + ")";
  if (end.opened)
    return Error{
        Code::kUnavailable, Reason::kPeer,
        "the connection to " + host + " ended before the command did" + (said.empty() ? "" : ": " + said)};
  if (said.find("Permission denied") != said.npos)
    return Error{Code::kUnavailable, Reason::kGateShut,
                 host + " does not take the certificate; ask its operators for the gate's log of case " +
                     short_case(grant.case_id)};
  if (said.find("Host key verification failed") != said.npos)
    return Error{Code::kUnverified, Reason::kLeaseHost,
                 host + " showed a host key that the policy does not list"};
  return Error{Code::kUnavailable, Reason::kPeer,
               "cannot reach " + host + (said.empty() ? "" : ": " + said) + "\n  The grant stands until " +
                   clock_utc(grant.not_after) + ":  sallyport ssh --case " + short_case(grant.case_id)};
}

}  // namespace sallyport::client::engineer

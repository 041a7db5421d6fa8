// The gate as sshd meets it: the judgement of a login, each refusal with its reason; and the real program's
// service, thin clients and keepers, with processes, a terminal and a log behind them.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <mutex>
#include <optional>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "client/target/accounts.h"
#include "client/target/log_view.h"
#include "client/target/processes.h"
#include "client/target/service.h"
#include "tests/support/files.h"
#include "tests/support/gate_log.h"
#include "tests/support/process.h"

namespace sallyport::gate {
namespace {

using namespace std::chrono_literals;
using record::Dossier;
using record::VerifiedGrant;
using record::WhyClosed;
using test::certificate_of;
using test::FailsWith;
using test::followed_now;
using test::GateLog;
using test::GateLogRecorder;
using test::OpenCase;
using test::RecordScenario;
using test::Succeeds;
using test::value_of;
using ::testing::HasSubstr;

// ---- the judgement of a login

const std::vector<std::string> kDbadmin{"dbadmin"};

Result<VerifiedGrant> log_in(const RecordScenario& world, ByteView certificate,
                             const std::vector<std::string>& accounts = kDbadmin,
                             const std::string& host = "db-7") {
  return verify_login(followed_now(world), host, accounts, certificate, world.now);
}

TEST(GateLogin, OpensToTheGrantedAccountOnTheGrantedHost) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Bytes certificate = certificate_of(world, open.id);
  for (int twice = 0; twice < 2; ++twice) {  // sshd asks twice
    const VerifiedGrant grant = value_of(log_in(world, certificate));
    EXPECT_EQ(credentials::principal_of(grant.case_id), "sallyport:" + to_hex(open.id));
  }
}

TEST(GateLogin, RefusesAnotherAccount) {
  RecordScenario world;
  const Bytes certificate = certificate_of(world, world.granted().id);
  EXPECT_THAT(log_in(world, certificate, {"root"}), FailsWith(Reason::kGateAccount));
  EXPECT_THAT(log_in(world, certificate, {}), FailsWith(Reason::kGateAccount));
}

TEST(GateLogin, RefusesAnotherHost) {
  RecordScenario world;
  const Bytes certificate = certificate_of(world, world.granted().id);
  EXPECT_THAT(log_in(world, certificate, kDbadmin, "db-8"), FailsWith(Reason::kGateHost));
}

TEST(GateLogin, RefusesAGrantWhoseTimeIsOver) {
  RecordScenario world;
  const Bytes certificate = certificate_of(world, world.granted().id);
  world.advance(15min);
  EXPECT_THAT(log_in(world, certificate), FailsWith(Reason::kGrantExpired));
}

TEST(GateLogin, RefusesEachChangedByteOfTheCertificate) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Bytes certificate = certificate_of(world, open.id);
  const Followed followed = followed_now(world);
  ASSERT_THAT(verify_login(followed, "db-7", kDbadmin, certificate, world.now), Succeeds());
  for (std::size_t i = 0; i < certificate.size(); i += 61) {
    Bytes changed = certificate;
    changed[i] ^= 1;
    EXPECT_FALSE(verify_login(followed, "db-7", kDbadmin, changed, world.now).has_value()) << i;
  }
}

// C2: whoever holds the CA's key signs what he likes, and it opens nothing.
TEST(GateLogin, RefusesATemplateThatTheGrantDoesNotGive) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Bytes good = certificate_of(world, open.id);
  const std::size_t template_start = 4 + credentials::kSshCertificateType.size();
  for (std::size_t at = template_start + 4; at < template_start + 200; at += 7) {
    const Bytes forged = certificate_of(world, open.id, {}, [&](Bytes& bytes) { bytes[at] ^= 1; });
    const auto login = log_in(world, forged);
    ASSERT_FALSE(login.has_value()) << at;
    EXPECT_TRUE(login.error().reason == Reason::kGrantMismatch || login.error().code == Code::kMalformed)
        << at << " " << describe(login.error());
  }
  // Another CA's signature over the right template.
  Bytes to_be_signed = value_of(credentials::parse_ssh_certificate(good)).to_be_signed;
  const auto stranger = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  EXPECT_THAT(log_in(world, credentials::ssh_certificate(
                                to_be_signed, value_of(stranger.sign_p256(crypto::sha256(to_be_signed))))),
              FailsWith(Code::kUnverified));
}

TEST(GateLogin, RefusesAChangedDossierUnderTheCasOwnSignature) {
  RecordScenario world;
  const OpenCase open = world.granted();
  EXPECT_THAT(log_in(world, certificate_of(world, open.id, [](Dossier& d) { d.grant_body.back() ^= 1; })),
              FailsWith(Reason::kLogBody));
  EXPECT_THAT(log_in(world, certificate_of(world, open.id, [](Dossier& d) { d.grant_leaf.commitment = {}; })),
              FailsWith(Reason::kLogInclusion));
  EXPECT_THAT(log_in(world, certificate_of(world, open.id, [](Dossier& d) { d.approval_bodies.pop_back(); })),
              FailsWith(Reason::kLogMissingBody));
  EXPECT_FALSE(
      log_in(world, certificate_of(world, open.id, [](Dossier& d) { d.request_body[40] ^= 1; })).has_value());
}

TEST(GateLogin, RefusesTheDossierOfAnotherCase) {
  RecordScenario world;
  const OpenCase first = world.granted();
  const OpenCase second = world.granted();
  const Dossier other = record::to_travel(world.dossier(second));
  EXPECT_THAT(log_in(world, certificate_of(world, first.id, [&](Dossier& d) { d = other; })),
              FailsWith(Reason::kGrantMismatch));
}

TEST(GateLogin, RefusesTheFullForm) {
  RecordScenario world;
  const OpenCase open = world.granted();
  EXPECT_THAT(
      log_in(world, certificate_of(world, open.id, [](Dossier& d) { d.form = record::DossierForm::kFull; })),
      FailsWith(Code::kMalformed));
}

TEST(GateLogin, IsShutWhenTheLogWasNotFollowedLately) {
  RecordScenario world;
  const Bytes certificate = certificate_of(world, world.granted().id);
  const Followed followed = followed_now(world);
  const auto after = [&](std::chrono::milliseconds span) {
    return verify_login(followed, "db-7", kDbadmin, certificate,
                        UnixMillis{world.now.get() + static_cast<std::uint64_t>(span.count())});
  };
  EXPECT_THAT(after(115s), Succeeds());
  EXPECT_THAT(after(122s), FailsWith(Reason::kGateBehind));
  // A clock that is behind the witnesses' is no way to look fresh.
  const UnixMillis before{world.now.get() - 60'000};
  EXPECT_THAT(verify_login(followed, "db-7", kDbadmin, certificate, before), FailsWith(Reason::kGateBehind));
  EXPECT_THAT(verify_login({}, "db-7", kDbadmin, certificate, world.now), FailsWith(Reason::kGateBehind));
  EXPECT_THAT(verify_followed(followed, UnixMillis{world.now.get() + 145'000}, kMaxBehind), Succeeds());
  EXPECT_THAT(verify_followed(followed, UnixMillis{world.now.get() + 152'000}, kMaxBehind),
              FailsWith(Reason::kGateBehind));
}

TEST(GateLogin, IsShutUntilTheGrantIsFollowed) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.approve_all(open);
  const Followed before = followed_now(world);
  value_of(world.grant(open));
  const Bytes certificate = certificate_of(world, open.id);
  EXPECT_THAT(verify_login(before, "db-7", kDbadmin, certificate, world.now), FailsWith(Reason::kGateBehind));

  // A gate waits a little for its follower.
  LogView view;
  view.show(before);
  const auto clock = [&] { return world.now; };
  EXPECT_THAT(verify_login_soon(view, "db-7", kDbadmin, certificate, clock, 20ms),
              FailsWith(Reason::kGateBehind));
  std::thread follower{[&] { view.show(followed_now(world)); }};
  EXPECT_THAT(verify_login_soon(view, "db-7", kDbadmin, certificate, clock, 20s), Succeeds());
  follower.join();
  view.halt(Error{Code::kUnverified, Reason::kLogFork, "two histories"});
  EXPECT_THAT(verify_login_soon(view, "db-7", kDbadmin, certificate, clock, 20s),
              FailsWith(Reason::kGateBehind));
}

TEST(GateLogin, RefusesWhatWasRevokedSince) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const Bytes certificate = certificate_of(world, open.id);
  const auto fails_after = [&](const std::function<void(RecordScenario&)>& what, Reason reason) {
    RecordScenario other;
    const OpenCase one = other.granted();
    const Bytes own = certificate_of(other, one.id);
    ASSERT_THAT(log_in(other, own), Succeeds());
    what(other);
    EXPECT_THAT(log_in(other, own), FailsWith(reason));
  };
  value_of(world.revoke(record::RevocationKind::kCase, to_hex(open.id)));
  EXPECT_THAT(log_in(world, certificate), FailsWith(Reason::kCaseDenied));
  fails_after(
      [](RecordScenario& w) {
        value_of(w.revoke(record::RevocationKind::kDevice, to_hex(w.machine("laptop").device())));
      },
      Reason::kDeviceRevoked);
  fails_after(
      [](RecordScenario& w) { value_of(w.revoke(record::RevocationKind::kPerson, "erin@corp.example")); },
      Reason::kRevoked);
  fails_after(
      [](RecordScenario& w) { value_of(w.revoke(record::RevocationKind::kPerson, "alice@corp.example")); },
      Reason::kApprovalRevoked);
}

// ---- the service, with the real program's thin clients and keepers

constexpr const char* kProgram = SALLYPORT_GATE_PROGRAM;

// Login is a connection as sshd has it: a process that starts the account's login shell and waits for it. It
// runs this very program, which the service is told to take for sshd.
class Login {
 public:
  struct Step {
    Bytes certificate;
    std::optional<std::string> command = {};
    bool tty = false;
    std::string program = {};  // the login shell
    bool stays = false;        // sshd does, when its shell has ended: its client may open another channel
    bool alone = false;        // no other channel is open: sshd ends with this one's shell
  };
  Login(const std::filesystem::path& directory, const std::filesystem::path& socket, const Step& step) {
    static std::atomic<int> count = 0;
    const auto file = directory / ("auth" + std::to_string(count++));
    std::ofstream{file} << "publickey " << credentials::kSshCertificateType << " "
                        << to_base64(step.certificate) << "\n";
    std::vector<std::string> environment{"SSH_USER_AUTH=" + file.string(), "TERM=vt100",
                                         "SSH_CONNECTION=10.20.4.17 50000 10.20.0.7 22", "LD_SECRET=1"};
    if (step.command) environment.push_back("SSH_ORIGINAL_COMMAND=" + *step.command);
    std::vector<std::string> words{step.program, "session", "--socket", socket.string()};
    std::vector<char*> arguments, variables;
    for (std::string& word : words) arguments.push_back(word.data());
    for (std::string& variable : environment) variables.push_back(variable.data());
    arguments.push_back(nullptr);
    variables.push_back(nullptr);
    std::array<int, 3> theirs{};
    if (step.tty) {
      terminal_ = Descriptor{::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
      EXPECT_EQ(::grantpt(terminal_.get()), 0);
      EXPECT_EQ(::unlockpt(terminal_.get()), 0);
      const int slave = ::open(::ptsname(terminal_.get()), O_RDWR | O_NOCTTY | O_CLOEXEC);
      theirs = {slave, slave, slave};
      resize(30, 90);
    } else {
      for (std::size_t i = 0; i < 3; ++i) {
        int ends[2];
        EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        theirs[i] = i == 0 ? ends[0] : ends[1];
        ours_[i] = Descriptor{i == 0 ? ends[1] : ends[0]};
      }
    }
    int told[2];
    EXPECT_EQ(::pipe2(told, O_CLOEXEC), 0);
    sshd_ = ::fork();
    if (sshd_ == 0) {
      const pid_t shell = ::fork();
      if (shell == 0) {
        ::setsid();
        for (int i = 0; i < 3; ++i) ::dup2(theirs[static_cast<std::size_t>(i)], i);
        if (step.tty) ::ioctl(0, TIOCSCTTY, 0);
        ::execve(step.program.c_str(), arguments.data(), variables.data());
        ::_exit(127);
      }
      (void)!::write(told[1], &shell, sizeof(shell));
      for (const int fd : theirs) ::close(fd);
      for (const Descriptor& end : ours_) ::close(end.get());
      int status = 0;
      ::waitpid(shell, &status, 0);
      // sshd stays while its other channels are open.
      while (!step.alone && (step.stays || (WIFEXITED(status) && WEXITSTATUS(status) == 255))) ::pause();
      ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
    }
    ::close(told[1]);
    EXPECT_EQ(::read(told[0], &shell_, sizeof(shell_)), static_cast<ssize_t>(sizeof(shell_)));
    ::close(told[0]);
    ::close(theirs[0]);
    if (!step.tty) {
      ::close(theirs[1]);
      ::close(theirs[2]);
    }
  }
  ~Login() {
    if (sshd_ > 0) {
      ::kill(shell_, SIGKILL);
      ::kill(sshd_, SIGKILL);
      ::waitpid(sshd_, nullptr, 0);
    }
  }

  // type writes to the session; without a terminal the input ends after it.
  void type(const std::string& text) {
    const int to = terminal_.is_open() ? terminal_.get() : ours_[0].get();
    EXPECT_EQ(::write(to, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    if (!terminal_.is_open()) ours_[0].reset();
  }
  void resize(unsigned short rows, unsigned short columns) {
    winsize size{};
    size.ws_row = rows;
    size.ws_col = columns;
    EXPECT_EQ(::ioctl(terminal_.get(), TIOCSWINSZ, &size), 0);
  }
  // read_until reads the output (or errors) until `text` has come, or the end; the answer is all of it.
  std::string read_until(const std::string& text, bool errors = false) {
    std::string& all = errors ? errors_ : output_;
    const int from = terminal_.is_open() ? terminal_.get() : ours_[errors ? 2 : 1].get();
    test::poll_until([&] {
      if (!text.empty() && all.find(text) != all.npos) return true;
      pollfd one{from, POLLIN, 0};
      if (::poll(&one, 1, 50) <= 0) return false;
      std::array<char, 4096> chunk;
      const ssize_t got = ::read(from, chunk.data(), chunk.size());
      if (got > 0) all.append(chunk.data(), static_cast<std::size_t>(got));
      return got <= 0;
    });
    return all;
  }
  std::string output() { return read_until(""); }
  std::string errors() { return read_until("", true); }
  // wait gives sshd's exit code, which is its shell's, or 128 + the signal that ended it.
  int wait() {
    int status = 0;
    EXPECT_TRUE(test::poll_until([&] {
      if (::waitpid(sshd_, &status, WNOHANG) == sshd_) return true;
      ::poll(nullptr, 0, 5);
      return false;
    }));
    sshd_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  pid_t shell() const { return shell_; }
  pid_t sshd() const { return sshd_; }
  // close is how sshd closes a channel: nobody writes or reads any more.
  void close() {
    for (Descriptor& end : ours_) end.reset();
  }

 private:
  pid_t sshd_ = -1, shell_ = -1;
  Descriptor terminal_;
  std::array<Descriptor, 3> ours_;
  std::string output_, errors_;
};

class GateService : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root is a gate";
    // Installed as on a host: setgid of a group that no account of the test is in.
    std::filesystem::copy_file(kProgram, program_);
    ASSERT_EQ(::chown(program_.c_str(), 0, 4'000'000), 0);
    ASSERT_EQ(::chmod(program_.c_str(), 02755), 0);
    log_ = std::make_unique<GateLog>([](test::SampleCompany& company) {
      company.policy.rule("us-oncall-to-user-db").accounts = {"root"};
      company.policy.rule("foreign-read-only").accounts = {"root"};
      company.policy.rule("foreign-read-only").command = "/usr/bin/whoami";
    });
    case_id_ = log_->world.granted().id;
    certificate_ = certificate_of(log_->world, case_id_);
    clock_ = log_->world.now.get();
    start({std::filesystem::read_symlink("/proc/self/exe").string()});
  }
  void TearDown() override {
    service_.reset();
    reports_.reset();
  }
  void start(std::vector<std::string> sshd) {
    service_.reset();
    reports_.reset();
    view_->show(followed_now(log_->world));
    const crypto::PrivateKey key = log_->world.host_key;
    ReportsOptions reports{directory_ / "sessions.db",
                           log_->world.origin().get(),
                           "db-7",
                           key.public_key(),
                           [key](const Digest256& digest) { return key.sign_p256(digest); },
                           [this] { return log_->now(); },
                           500ms};
    reports_ = value_of(Reports::start(reports, std::make_unique<GateLogRecorder>(*log_)));
    Service::Options options;
    options.config.host = "db-7";
    options.config.accounts = {{"root", "/bin/sh"}};
    options.config.socket = directory_ / "gate.sock";
    options.config.sshd = std::move(sshd);
    options.self = std::filesystem::canonical(program_);
    options.find_account = [this](const std::string& name) {
      auto account = find_account(name);
      const std::lock_guard lock{shell_mutex_};
      if (account) account->shell = login_shell_;
      return account;
    };
    if (!cgroups_) options.make_cgroups = [] { return std::optional<CgroupBase>{}; };
    options.config.sessions_without_cgroups = without_cgroups_;
    options.idle_connection = 200ms;
    options.clock = [this] { return UnixMillis{clock_}; };
    options.login_patience = 50ms;
    service_ = value_of(Service::start(options, view_, reports_));
  }
  Login log_in_alone(std::string command) {
    return Login{directory_.path(),
                 directory_ / "gate.sock",
                 {certificate_, std::move(command), false, program_.string(), false, true}};
  }
  Login log_in(std::optional<std::string> command, bool tty = false, bool stays = false) {
    return Login{directory_.path(),
                 directory_ / "gate.sock",
                 {certificate_, std::move(command), tty, program_.string(), stays, false}};
  }
  void restart() { start({std::filesystem::read_symlink("/proc/self/exe").string()}); }
  // go_to_the_end leaves a session that is opened next two seconds.
  void go_to_the_end() {
    const std::lock_guard lock{log_->mutex};
    log_->world.advance(14min + 58s);
    view_->show(followed_now(log_->world));
    clock_ = log_->world.now.get();
  }
  void set_login_shell(const std::string& shell) {
    const std::lock_guard lock{shell_mutex_};
    login_shell_ = shell;
  }
  // ask_principal gives the exit code of sshd's principals command, and what it printed.
  std::pair<int, std::string> ask_principal(const std::string& user, const std::string& certificate) {
    static int count = 0;
    test::Process process{
        {program_.string(), "principals", "--socket", (directory_ / "gate.sock").string(), user, certificate},
        directory_ / ("principals" + std::to_string(count++))};
    const int code = process.wait();
    return {code, process.output()};
  }
  WhyClosed reported_why() {
    EXPECT_TRUE(test::poll_until([&] { return log_->open(case_id_) == 0 && reports_->unreported() == 0; }));
    return log_->last_closed().why;
  }
  // Everything that a session of ours has started is below this test, or it is gone.
  bool nothing_runs(const std::string& mark) {
    return test::poll_until([&] {
      for (const auto& one : std::filesystem::directory_iterator("/proc")) {
        std::ifstream in{one.path() / "cmdline"};
        const std::string words{std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
        if (words.rfind("sleep", 0) == 0 && words.find(mark) != words.npos) return false;
      }
      return true;
    });
  }

  test::TemporaryDirectory directory_;
  const std::filesystem::path program_ = directory_ / "sallyport-gate";
  std::mutex shell_mutex_;  // the service looks the account up on threads of its own
  std::string login_shell_ = program_;
  bool cgroups_ = true, without_cgroups_ = false;
  std::unique_ptr<GateLog> log_;
  CaseId case_id_;
  Bytes certificate_;
  std::atomic<std::uint64_t> clock_ = 0;
  std::shared_ptr<LogView> view_ = std::make_shared<LogView>();
  std::shared_ptr<Reports> reports_;
  std::unique_ptr<Service> service_;
  // Three processes: one in front, one behind, one that has left its session and its parents.
  const std::string mark_ = std::to_string(86'400 + ::getpid());
  const std::string busy_ =
      "sleep " + mark_ + " & (setsid sleep " + mark_ + " &) & echo ready; sleep " + mark_;
};

TEST_F(GateService, TellsSshdThePrincipalOrNothing) {
  const std::string certificate = to_base64(certificate_);
  for (int twice = 0; twice < 2; ++twice)
    EXPECT_EQ(ask_principal("root", certificate), std::pair(0, "sallyport:" + to_hex(case_id_) + "\n"));
  for (const auto& [user, shown] : {std::pair<std::string, std::string>{"nobody", certificate},
                                    {"root", certificate.substr(0, certificate.size() - 4)},
                                    {"root", "AAAA"},
                                    {"root", "?"}}) {
    const auto [code, printed] = ask_principal(user, shown);
    EXPECT_EQ(code, 1);
    EXPECT_EQ(printed.find("sallyport:"), printed.npos);
  }
}

// Restart=on-failure of its unit takes a moment: neither sshd's question nor a session that asks to begin is
// lost in it.
TEST_F(GateService, IsWaitedForWhenItStartsAnew) {
  service_.reset();
  test::Process asking{{kProgram, "principals", "--socket", (directory_ / "gate.sock").string(), "root",
                        to_base64(certificate_)},
                       directory_ / "principals"};
  Login login = log_in("echo done");
  start({std::filesystem::read_symlink("/proc/self/exe").string()});
  EXPECT_EQ(asking.wait(), 0);
  EXPECT_EQ(asking.output(), "sallyport:" + to_hex(case_id_) + "\n");
  EXPECT_EQ(login.output(), "done\n");
  EXPECT_EQ(login.wait(), 0);
  EXPECT_EQ(reported_why(), WhyClosed::kExit);
}

TEST_F(GateService, RunsACommandAndRecordsIt) {
  Login login = log_in("echo to out; echo to err >&2; cat; env | sort; exit 7");
  login.type("typed\n");
  const std::string output = login.output();
  EXPECT_THAT(output, HasSubstr("to out\ntyped\n"));
  EXPECT_THAT(output, HasSubstr("SALLYPORT_CASE=" + to_hex(case_id_)));
  EXPECT_EQ(output.find("LD_SECRET"), output.npos);
  EXPECT_EQ(output.find("SSH_"), output.npos);
  EXPECT_EQ(login.errors(), "to err\n");
  EXPECT_EQ(login.wait(), 7);
  EXPECT_EQ(reported_why(), WhyClosed::kExit);
  EXPECT_EQ(log_->last_closed().bytes, output.size() + 7);
}

TEST_F(GateService, LeavesNothingBehindWhenTheShellExits) {
  Login login = log_in("sleep " + mark_ + " & (setsid sleep " + mark_ + " &) ; echo ready; exit 0");
  EXPECT_EQ(login.wait(), 0);
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kExit);
}

TEST_F(GateService, EndsEverythingAtTheDeadline) {
  go_to_the_end();
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  EXPECT_THAT(login.errors(), HasSubstr("its 15 minutes are over"));
  EXPECT_EQ(login.wait(), 128 + SIGTERM);  // sshd's process itself: the connection and all its channels
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kDeadline);
}

TEST_F(GateService, EndsWhenItsCaseIsRevoked) {
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  {
    const std::lock_guard lock{log_->mutex};
    value_of(log_->world.revoke(record::RevocationKind::kCase, to_hex(case_id_)));
    view_->show(followed_now(log_->world));
  }
  EXPECT_THAT(login.errors(), HasSubstr("denied or revoked"));
  EXPECT_EQ(login.wait(), 128 + SIGTERM);
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kRevoked);
}

TEST_F(GateService, EndsWhenTheLogIsNotFollowedAnyMore) {
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  clock_ += 152'000;
  EXPECT_THAT(login.errors(), HasSubstr("150 seconds"));
  EXPECT_EQ(login.wait(), 128 + SIGTERM);
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kBehind);
}

TEST_F(GateService, EndsWithItsClient) {
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  ::kill(login.shell(), SIGKILL);
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kLost);
}

// Without a terminal sshd tells its commands nothing when the connection is lost.
TEST_F(GateService, EndsWithItsConnection) {
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  ::kill(login.sshd(), SIGKILL);
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kLost);
}

TEST_F(GateService, EndsWithItsChannel) {
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  login.close();
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kLost);
}

TEST_F(GateService, EndsWithTheService) {
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  service_.reset();
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kLost);
}

TEST_F(GateService, GivesNoSessionWithoutARecord) {
  log_->set(&GateLog::down, true);
  Login login = log_in_alone("echo never");
  EXPECT_EQ(login.output(), "");
  EXPECT_THAT(login.errors(), HasSubstr("without a record there is none"));
  EXPECT_EQ(login.wait(), 255);
  EXPECT_EQ(log_->channels(case_id_), 0u);
}

TEST_F(GateService, GivesNoSessionToAClientThatSshdDidNotStart) {
  start({"/usr/sbin/sshd"});
  Login login = log_in_alone("echo never");
  EXPECT_EQ(login.output(), "");
  EXPECT_EQ(login.wait(), 255);
  EXPECT_EQ(log_->channels(case_id_), 0u);
}

TEST_F(GateService, GivesNoSessionForAnotherCertificate) {
  certificate_[certificate_.size() / 2] ^= 1;
  Login login = log_in_alone("echo never");
  EXPECT_EQ(login.output(), "");
  EXPECT_THAT(login.errors(), HasSubstr("sallyport: refused ["));
  EXPECT_EQ(login.wait(), 255);
  EXPECT_EQ(log_->channels(case_id_), 0u);
}

TEST_F(GateService, GivesTheRulesCommandWhateverIsAskedFor) {
  RecordScenario::RequestStep step;
  step.person = "wei";
  const OpenCase open = log_->world.request(step);
  log_->world.approve_all(open);
  value_of(log_->world.grant(open));
  case_id_ = open.id;
  certificate_ = certificate_of(log_->world, case_id_);
  clock_ = log_->world.now.get();
  view_->show(followed_now(log_->world));
  for (const auto& asked : {std::optional<std::string>{"id"}, std::optional<std::string>{}}) {
    Login login = log_in(asked);
    EXPECT_EQ(login.output(), "root\n");
    EXPECT_EQ(login.wait(), 0);
  }
  EXPECT_EQ(log_->channels(case_id_), 2u);
}

// The client and sshd's process run as the account, outside of the session. Whoever can trace them (root can;
// the account cannot, which tests/e2e/door shows) and lets them fork has a process that neither the session's
// cgroup nor its keeper knows.
TEST_F(GateService, EndsWhatCameOfItsClient) {
  go_to_the_end();
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  test::Process tracer{{SALLYPORT_TRACER, std::to_string(login.shell()), mark_}, directory_ / "tracer"};
  ASSERT_EQ(tracer.wait(), 0) << tracer.output();
  EXPECT_EQ(login.wait(), 128 + SIGTERM);
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kDeadline);
}

TEST_F(GateService, EndsWhatCameOfSshd) {
  go_to_the_end();
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  test::Process tracer{{SALLYPORT_TRACER, std::to_string(login.sshd()), mark_}, directory_ / "tracer"};
  ASSERT_EQ(tracer.wait(), 0) << tracer.output();
  login.wait();
  EXPECT_TRUE(nothing_runs(mark_));
}

TEST_F(GateService, EndsWhatCameOfItsClientWhenTheShellExits) {
  Login login = log_in("echo ready; cat; exit 0", false, true);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  test::Process tracer{{SALLYPORT_TRACER, std::to_string(login.shell()), mark_}, directory_ / "tracer"};
  ASSERT_EQ(tracer.wait(), 0) << tracer.output();
  login.type("");
  EXPECT_TRUE(nothing_runs(mark_));
  EXPECT_EQ(reported_why(), WhyClosed::kExit);
  EXPECT_EQ(login.wait(), 128 + SIGTERM);  // a connection without a session does not stay
}

TEST_F(GateService, GivesNoSessionToAProgramWithoutItsGroup) {
  // What an account could start, or have loaded something into: the same bytes, without the kernel's word.
  const auto other = directory_ / "other";
  std::filesystem::copy_file(kProgram, other);
  Login login{directory_.path(),
              directory_ / "gate.sock",
              {certificate_, "echo never", false, other.string(), false, true}};
  EXPECT_EQ(login.output(), "");
  EXPECT_THAT(login.errors(), HasSubstr("refused [gate/program]"));
  EXPECT_EQ(login.wait(), 255);
  EXPECT_EQ(log_->channels(case_id_), 0u);
}

TEST_F(GateService, IsShutWhileItsProgramIsIllInstalled) {
  for (const mode_t mode : {0755u, 02775u, 02757u, 06755u}) {
    ASSERT_EQ(::chmod(program_.c_str(), mode), 0);
    EXPECT_EQ(ask_principal("root", to_base64(certificate_)).first, 1) << std::oct << mode;
    Login login = log_in_alone("echo never");
    EXPECT_THAT(login.errors(), HasSubstr("refused [gate/program]")) << std::oct << mode;
    EXPECT_EQ(login.wait(), 255);
  }
  ASSERT_EQ(::chmod(program_.c_str(), 02755), 0);
  EXPECT_EQ(ask_principal("root", to_base64(certificate_)).first, 0);
  ASSERT_EQ(::chown(program_.c_str(), 65534, 4'000'000), 0);
  ASSERT_EQ(::chmod(program_.c_str(), 02755), 0);
  EXPECT_EQ(ask_principal("root", to_base64(certificate_)).first, 1);
  EXPECT_EQ(log_->channels(case_id_), 0u);
}

// sshd runs the certificate's command through the login shell, and bash reads ~/.bashrc first.
TEST_F(GateService, IsShutToAnAccountWithAnotherLoginShell) {
  for (const std::string& shell : {std::string{"/bin/bash"}, std::string{}, std::string{kProgram}}) {
    set_login_shell(shell);
    EXPECT_EQ(ask_principal("root", to_base64(certificate_)).first, 1) << shell;
    Login login = log_in_alone("echo never");
    EXPECT_THAT(login.errors(), HasSubstr("refused [gate/shell]")) << shell;
    EXPECT_EQ(login.wait(), 255);
  }
  EXPECT_EQ(log_->channels(case_id_), 0u);
}

TEST_F(GateService, GivesNoSessionWithoutCgroupsUnlessToldTo) {
  cgroups_ = false;
  restart();
  {
    Login login = log_in_alone("echo never");
    EXPECT_EQ(login.output(), "");
    EXPECT_THAT(login.errors(), HasSubstr("refused [gate/cgroup]"));
    EXPECT_EQ(login.wait(), 255);
  }
  EXPECT_EQ(log_->channels(case_id_), 0u);
  without_cgroups_ = true;
  restart();
  Login login = log_in(busy_);
  EXPECT_THAT(login.read_until("ready"), HasSubstr("ready"));
  clock_ += 152'000;
  EXPECT_EQ(login.wait(), 128 + SIGTERM);
  EXPECT_TRUE(nothing_runs(mark_));
}

TEST_F(GateService, OwnsATerminalOfItsOwn) {
  Login login = log_in({}, true);
  login.type("stty size; echo $TERM; tty; echo mark-$((40+2))\n");
  const std::string output = login.read_until("mark-42");
  EXPECT_THAT(output, HasSubstr("30 90"));
  EXPECT_THAT(output, HasSubstr("vt100"));
  login.resize(40, 100);
  login.type("until [ \"$(stty size)\" = '40 100' ]; do sleep 0.02; done; echo resized-$((40+2))\n");
  EXPECT_THAT(login.read_until("resized-42"), HasSubstr("resized-42"));
  login.type("exit 3\n");
  EXPECT_EQ(login.wait(), 3);
  EXPECT_EQ(reported_why(), WhyClosed::kExit);
}

TEST_F(GateService, SaysWhyOnALineOfItsOwn) {
  go_to_the_end();
  Login login = log_in({}, true);
  login.type("echo mark-$((40+2))\n");
  EXPECT_THAT(login.read_until("mark-42"), HasSubstr("mark-42"));
  EXPECT_THAT(login.read_until("are over"), HasSubstr("\r\nsallyport: session c-"));
  EXPECT_EQ(login.wait(), 128 + SIGTERM);
}

}  // namespace
}  // namespace sallyport::gate

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "attestation/record/dossier.h"
#include "client/engineer/progress.h"
#include "client/engineer/ssh_run.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/process.h"
#include "tests/support/record_scenario.h"

namespace sallyport::client::engineer {
namespace {

using test::FailsWith;
using test::RecordScenario;
using test::value_of;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// ---- what became of ssh

SshEnd end_of(std::string_view log, int status = kSshFailed) {
  SshEnd end;
  end.status = status;
  read_ssh_log(log, end);
  return end;
}

constexpr std::string_view kOpened =
    "debug1: Connecting to 127.0.0.1 [127.0.0.1] port 22.\r\n"
    "Authenticated to 127.0.0.1 ([127.0.0.1]:22) using \"publickey\".\r\n"
    "debug1: Entering interactive session.\r\n";

class SshEnds : public testing::Test {
 protected:
  Result<int> judge(const SshEnd& end) { return judge(end, world_.now); }
  Result<int> judge(const SshEnd& end, UnixMillis now) {
    return judge_end(end, dossier_, grant_, world_.follower, now);
  }
  UnixMillis after_the_end() const { return UnixMillis{grant_.not_after.get() + 1}; }

  RecordScenario world_;
  RecordScenario::OpenCase open_ = world_.granted();
  record::Dossier dossier_ = world_.dossier(open_);
  record::VerifiedGrant grant_ = value_of(record::verify_dossier(dossier_, world_.follower, world_.now));
};

TEST_F(SshEnds, TheCommandsOwnStatusPassesThroughAlso255) {
  EXPECT_EQ(value_of(judge(end_of(kOpened, 0))), 0);
  EXPECT_EQ(value_of(judge(end_of(std::string{kOpened} + "debug1: Exit status 3\r\n", 3))), 3);
  EXPECT_EQ(value_of(judge(end_of(std::string{kOpened} + "debug1: Exit status 255\r\n"))), 255);
  EXPECT_EQ(value_of(judge(end_of("", 127))), 127);
}

TEST_F(SshEnds, WithoutAStatus255IsNoStatus) {
  EXPECT_THAT(judge(end_of(std::string{kOpened} + "debug1: Exit status -1\r\n")), FailsWith(Reason::kPeer));
  EXPECT_THAT(judge(end_of("debug1: Remote: Exit status 255\r\n")), FailsWith(Reason::kPeer));
}

TEST_F(SshEnds, AHostThatIsNotThereIsNamedWithWhatSshSaid) {
  const auto judged =
      judge(end_of("debug1: x\r\nssh: connect to host 127.0.0.1 port 1: Connection refused\r\n"));
  EXPECT_THAT(judged, FailsWith(Reason::kPeer));
  EXPECT_THAT(judged.error().what, HasSubstr("Connection refused"));
  EXPECT_THAT(judged.error().what, HasSubstr("sallyport ssh --case"));
}

TEST_F(SshEnds, ALoginThatTheGateRefusesIsNoUnreachableHost) {
  EXPECT_THAT(judge(end_of("dbadmin@127.0.0.1: Permission denied (publickey).\r\n")),
              FailsWith(Reason::kGateShut));
  EXPECT_THAT(judge(end_of("Host key verification failed.\r\n")), FailsWith(Reason::kLeaseHost));
  SshEnd end = end_of("dbadmin@127.0.0.1: Permission denied (publickey).\r\n");
  end.refused = Error{Code::kDenied, Reason::kLeaseUser, "another account"};
  EXPECT_THAT(judge(end), FailsWith(Reason::kLeaseUser));
}

TEST_F(SshEnds, AtTheDeadlineItIsTheGrantThatIsOver) {
  for (const char* how : {"debug1: Exit status -1\r\n", "debug1: Exit status 255\r\n"}) {
    const auto judged = judge(end_of(std::string{kOpened} + how), after_the_end());
    EXPECT_THAT(judged, FailsWith(Reason::kGrantExpired));
    EXPECT_THAT(judged.error().what, IsEmpty()) << "the gate has told it at this terminal";
  }
  EXPECT_EQ(value_of(judge(end_of(std::string{kOpened} + "debug1: Exit status 3\r\n", 3), after_the_end())),
            3);
}

TEST_F(SshEnds, ADenialOrRevocationIsTold) {
  world_.advance(std::chrono::seconds{1});
  value_of(world_.deny(open_.id, "alice"));
  EXPECT_THAT(judge(end_of(std::string{kOpened} + "debug1: Exit status 255\r\n")),
              FailsWith(Reason::kCaseDenied));
}

TEST_F(SshEnds, AGrantEndsWithItsLog) {
  value_of(world_.continue_log({}));
  const auto judged = judge(end_of(std::string{kOpened} + "debug1: Exit status 255\r\n"));
  EXPECT_THAT(judged, FailsWith(Reason::kCaseClosed));
  EXPECT_THAT(judged.error().what, HasSubstr("goes on as us.sallyport.corp.example/log/2"));
}

// ---- ending

TEST(EngineerSignals, SigtermEndsSshAndLeavesNoAgent) {
  const test::TemporaryDirectory directory;
  RecordScenario world;
  const auto open = world.granted();
  const record::Dossier dossier = world.dossier(open);
  const auto lease = world.policy().policy.authority.keys.lease;
  const evidence::SessionKeyPolicy policy{evidence::PcrSelection::standard(),
                                          Digest256{},
                                          1,
                                          0,
                                          value_of(evidence::lease_key_public(lease)).name,
                                          Digest256{}};
  const Access access{to_bytes(as_bytes(std::string_view{"certificate"})),
                      record::encode_dossier(dossier),
                      value_of(record::verify_dossier(dossier, world.follower, world.now)),
                      {evidence::SessionKeyUse::kSign, policy, lease, {}, {}, {}}};
  const std::filesystem::path program = directory / "ssh", pid_file = directory / "pid";
  std::ofstream{program} << "#!/bin/sh\necho $$ >" << (directory / "pid.new").string() << "\nmv "
                         << (directory / "pid.new").string() << " " << pid_file.string()
                         << "\nexec sleep 60\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  std::filesystem::create_directory(directory / "tmp");

  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    setenv("TMPDIR", (directory / "tmp").c_str(), 1);
    setenv("PATH", (directory.path().string() + ":" + std::getenv("PATH")).c_str(), 1);
    Opened opened;
    const auto end = run_ssh(opened, access, {}, false);
    _exit(end.has_value() ? end->signal : 99);
  }
  EXPECT_TRUE(test::poll_until([&] { return std::filesystem::exists(pid_file); }));
  EXPECT_FALSE(std::filesystem::is_empty(directory / "tmp")) << "no agent";
  pid_t ssh = 0;
  std::ifstream{pid_file} >> ssh;
  kill(child, SIGTERM);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == SIGTERM) << status;
  EXPECT_NE(kill(ssh, 0), 0) << "ssh was left behind";
  EXPECT_TRUE(std::filesystem::is_empty(directory / "tmp"));
}

TEST(EngineerSignals, AnInterruptSaysHowToGoOn) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    const StaysOpen stays{CaseId{{0x7f, 0x3a, 0x90, 0xbe}}};
    raise(SIGINT);
    _exit(0);
  }
  close(ends[1]);
  std::string said(1024, '\0');
  said.resize(static_cast<std::size_t>(std::max<ssize_t>(read(ends[0], said.data(), said.size()), 0)));
  close(ends[0]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
  EXPECT_THAT(said, HasSubstr("sallyport ssh --case c-7f3a90be"));
  EXPECT_THAT(said, HasSubstr("sallyport request drop c-7f3a90be"));
}

// ---- progress

api::CaseView waiting_case() {
  api::CaseView view;
  view.approvals.push_back({"alice", false, 1, UnixMillis{60'000}});
  view.quorum.push_back({"us-oncall", 1, 2, {"alice"}});
  view.quorum.push_back({"privacy", 0, 1, {}});
  return view;
}

TEST(EngineerProgress, ALineIsPrintedWhenSomethingChanges) {
  std::ostringstream out;
  Progress progress{out, false};
  for (int i = 0; i < 3; ++i) progress.show(quorum_text(waiting_case()), "live");
  progress.show("for the witnesses");
  progress.finish();
  EXPECT_EQ(out.str(), "waiting   us-oncall 1 of 2 alice · privacy 0 of 1\nwaiting   for the witnesses\n");
}

TEST(EngineerProgress, OnATerminalOneLineIsWrittenAgainAndNeverWraps) {
  EXPECT_EQ(live_quorum_text(waiting_case(), UnixMillis{100'000}),
            "●○○  alice (us-oncall) 40 s ago · us-oncall: 1 more · privacy: 1 more");
  std::ostringstream out;
  {
    Progress progress{out, true, 40};
    progress.show("x", live_quorum_text(waiting_case(), UnixMillis{100'000}));
    progress.show("x", "●");
  }
  EXPECT_EQ(out.str(),
            "\rwaiting   ●○○  alice (us-oncall)… 00:00\x1b[K"
            "\rwaiting   ●                       00:00\x1b[K\n");
}

// ---- what is waited for

TEST(EngineerActivation, OnlyWhatComesBackIsWaitedFor) {
  for (const Reason reason : {Reason::kLogQuorum, Reason::kPeer, Reason::kKeyguardAway, Reason::kHsmAway,
                              Reason::kUnavailable, Reason::kTpmBusy})
    EXPECT_THAT(awaited(Error{Code::kUnavailable, reason, ""}), Not(IsEmpty())) << reason_name(reason);
  for (const Reason reason : {Reason::kReadOnly, Reason::kTpmAbsent, Reason::kPending})
    EXPECT_THAT(awaited(Error{Code::kUnavailable, reason, ""}), IsEmpty()) << reason_name(reason);
  EXPECT_THAT(awaited(Error{Code::kDenied, Reason::kPolicyChanged, ""}), IsEmpty());
}

}  // namespace
}  // namespace sallyport::client::engineer

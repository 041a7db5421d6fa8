#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "attestation/net/frames.h"
#include "broker/keyguard/client.h"
#include "tests/support/broker_process.h"
#include "tests/support/matchers.h"

// What the kernel says of our services while they run, and whom the keyguard's socket lets in.
namespace sallyport::test {
namespace {

namespace fs = std::filesystem;

BrokerProcess::Programs programs() {
  return {SALLYPORT_KEYGUARD_PROGRAM, SALLYPORT_BROKER_PROGRAM, SALLYPORT_WITNESS_PROGRAM};
}

// status_of gives a line of /proc/PID/status without its name.
std::string status_of(pid_t pid, std::string_view name) {
  std::ifstream in{"/proc/" + std::to_string(pid) + "/status"};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(name)) return line.substr(line.find_first_not_of(" \t", name.size()));
  return "";
}

unsigned mode_of(const fs::path& path) {
  struct stat found {};
  EXPECT_EQ(::stat(path.c_str(), &found), 0) << path;
  return found.st_mode & 07777;
}

constexpr uid_t kStranger = 65534, kBroker = 4242;
constexpr gid_t kGroup = 4243;

// as_user makes a command line of another user's, and its process id that of the program.
std::vector<std::string> as_user(uid_t uid, gid_t gid, std::vector<std::string> arguments) {
  std::vector<std::string> out{"/usr/bin/setpriv", "--reuid=" + std::to_string(uid),
                               "--regid=" + std::to_string(gid), "--clear-groups", "--"};
  out.insert(out.end(), arguments.begin(), arguments.end());
  return out;
}

TEST(ProtectedProcesses, DumpNothingLockTheirSecretsAndKeepTheirFilesToThemselves) {
  BrokerProcess world{programs()};
  world.expect_ready();
  for (const pid_t pid :
       {world.keyguard().pid(), world.broker().pid(), world.witnesses[0]->process().pid()}) {
    SCOPED_TRACE(status_of(pid, "Name:"));
    std::ifstream limits{"/proc/" + std::to_string(pid) + "/limits"};
    std::string line;
    while (std::getline(limits, line) && !line.starts_with("Max core file size")) {
    }
    EXPECT_THAT(line, testing::ContainsRegex("size +0 +0 +bytes"));
    EXPECT_GE(std::atol(status_of(pid, "VmLck:").c_str()), 4096) << "KiB";
    EXPECT_EQ(status_of(pid, "Umask:"), "0077");
  }
  for (const fs::path& state : {world.directory() / "keyguard", world.directory() / "broker"}) {
    EXPECT_EQ(mode_of(state), 0700u) << state;
    for (const auto& file : fs::directory_iterator{state}) EXPECT_EQ(mode_of(file) & 077, 0u) << file.path();
  }
}

TEST(ProtectedProcesses, AStateDirectoryThatOthersCanWriteIsNotUsed) {
  BrokerProcess world{programs()};
  world.kill_keyguard();
  ASSERT_EQ(::chmod((world.directory() / "keyguard").c_str(), 0770), 0);
  const auto [code, said] = world.run_keyguard(world.serve_arguments(world.hsm.pin_file()));
  EXPECT_EQ(code, 9) << said;
  EXPECT_THAT(said, testing::HasSubstr("chmod 700"));
}

// To the kernel a process that may not be dumped is root's, whosever it is.
TEST(ProtectedProcesses, AWitnessOfAnotherUserIsUndumpable) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root runs programs as somebody else";
  const TemporaryDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  const std::string program = directory / "witness", state = directory / "state";
  fs::copy(SALLYPORT_WITNESS_PROGRAM, program);
  ASSERT_EQ(::mkdir(state.c_str(), 0700), 0);
  ASSERT_EQ(::chown(state.c_str(), kStranger, kStranger), 0);
  Process init{as_user(kStranger, kStranger, {program, "init", "--state", state, "--name", "w.example"}),
               directory / "init.log"};
  ASSERT_EQ(init.wait(), 0) << init.output();
  const auto log = vkey_text("log.example", 0x01,
                             crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519).public_key());
  Process witness{as_user(kStranger, kStranger, {program, "serve", "--state", state, "--log", log}),
                  directory / "serve.log"};
  ASSERT_TRUE(poll_until([&] { return witness.output().find("listening") != std::string::npos; }))
      << witness.output();
  EXPECT_EQ(status_of(witness.pid(), "Uid:").substr(0, 5), "65534");
  struct stat found {};
  ASSERT_EQ(::stat(("/proc/" + std::to_string(witness.pid()) + "/status").c_str(), &found), 0);
  EXPECT_EQ(found.st_uid, 0u);
}

// asks tells whether a process of another user gets an answer from the socket. Asked by a child, which is
// that user from then on.
bool asks(const fs::path& socket, uid_t uid, gid_t gid) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setgid(gid) != 0 || ::setuid(uid) != 0) ::_exit(2);
    keyguard::Client client{socket, std::chrono::seconds{10}};
    ::_exit(client.status().has_value() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_NE(WEXITSTATUS(status), 2);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(ProtectedProcesses, TheKeyguardAnswersTheUserWhoIsNamedAndNobodyElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root runs programs as somebody else";
  BrokerProcess world{programs()};
  ASSERT_EQ(::chmod(world.directory().c_str(), 0755), 0);
  const fs::path socket = world.directory() / "keyguard.socket";
  EXPECT_EQ(mode_of(socket), 0600u);
  EXPECT_TRUE(asks(socket, ::geteuid(), ::getegid()));
  EXPECT_FALSE(asks(socket, kBroker, kGroup));
  // Even where the mode would let them in.
  ASSERT_EQ(::chmod(socket.c_str(), 0666), 0);
  EXPECT_FALSE(asks(socket, kBroker, kGroup));
  EXPECT_THAT(world.keyguard().output(), testing::HasSubstr("user 4242 is no broker of ours"));

  world.kill_keyguard();
  world.start_keyguard({"--socket-group", std::to_string(kGroup), "--broker-uid", std::to_string(kBroker)});
  EXPECT_EQ(mode_of(socket), 0660u);
  struct stat found {};
  ASSERT_EQ(::stat(socket.c_str(), &found), 0);
  EXPECT_EQ(found.st_gid, kGroup);
  EXPECT_TRUE(asks(socket, kBroker, kGroup));
  EXPECT_FALSE(asks(socket, kBroker, kStranger));      // not of the group
  EXPECT_FALSE(asks(socket, kStranger, kGroup));       // of the group, and another user
  EXPECT_FALSE(asks(socket, ::geteuid(), kStranger));  // nor root, which can open any socket
  EXPECT_THAT(world.keyguard().output(), testing::HasSubstr("user 65534 is no broker of ours"));

  world.kill_keyguard();
  auto arguments = world.serve_arguments(world.hsm.pin_file());
  arguments.insert(arguments.end(), {"--socket-group", std::to_string(kGroup)});
  const auto [alone, why] = world.run_keyguard(arguments);
  EXPECT_EQ(alone, 2) << why;
  arguments.back() = "no-such-group";
  const auto [unknown, said] = world.run_keyguard(arguments);
  EXPECT_EQ(unknown, 2) << said;
  EXPECT_THAT(said, testing::HasSubstr("no such group"));
}

}  // namespace
}  // namespace sallyport::test

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/crypto.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>

#include "attestation/base/secret_bytes.h"
#include "attestation/program/clock.h"
#include "attestation/program/command_line.h"
#include "attestation/program/files.h"
#include "attestation/program/listen.h"
#include "attestation/program/process.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::program {
namespace {

using test::FailsWith;
using test::value_of;
using testing::AllOf;
using testing::HasSubstr;

TEST(ProgramClock, TellsTheTimeOfDayInMilliseconds) {
  const auto now = [] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  const auto before = static_cast<std::uint64_t>(now());
  const UnixMillis told = wall_clock();
  EXPECT_GE(told.get(), before);
  EXPECT_LE(told.get(), static_cast<std::uint64_t>(now()));
}

TEST(ProgramFiles, ReadsAWholeFileOrSaysWhichItCannotOpen) {
  const test::TemporaryDirectory directory;
  std::ofstream{directory / "some", std::ios::binary} << std::string{"a\0b\n", 4};
  EXPECT_EQ(as_text(value_of(read_whole(directory / "some"))), (std::string{"a\0b\n", 4}));
  const auto absent = read_whole(directory / "absent");
  ASSERT_THAT(absent, FailsWith(Reason::kUsage));
  EXPECT_EQ(absent.error().what, "cannot open " + (directory / "absent").string());
  EXPECT_EQ(read_whole(directory / "absent", "set up first").error().what, "set up first");
}

TEST(ProgramListen, TakesAnAddressAndAPortAndNothingElse) {
  EXPECT_EQ(value_of(parse_listen("127.0.0.1:8443")).address, "127.0.0.1");
  EXPECT_EQ(value_of(parse_listen("127.0.0.1:8443")).port, 8443);
  EXPECT_EQ(value_of(parse_listen("[::1]:65535")).address, "::1");
  EXPECT_EQ(value_of(parse_listen("[::1]:65535")).port, 65535);
  EXPECT_EQ(value_of(parse_listen("localhost:0")).port, 0);
  for (const char* bad :
       {"", ":", ":8443", "127.0.0.1", "127.0.0.1:", "127.0.0.1:abc", "127.0.0.1:84x", "127.0.0.1:-1",
        "127.0.0.1:+1", "127.0.0.1: 1", "127.0.0.1:65536", "127.0.0.1:99999999999", "[::1]"})
    EXPECT_THAT(parse_listen(bad), FailsWith(Reason::kUsage)) << bad;
}

TEST(ProgramFiles, AKeyIsReadOnlyWhereItIsItsOwnersAlone) {
  const test::TemporaryDirectory directory;
  const auto key = directory / "key";
  std::ofstream{key} << "a key";
  for (const unsigned mode : {0600u, 0400u}) {
    std::filesystem::permissions(key, std::filesystem::perms{mode});
    EXPECT_TRUE(equal_in_constant_time(value_of(read_secret_file(key)).expose(), as_bytes("a key")));
  }
  for (const unsigned mode : {0640u, 0604u, 0620u}) {
    std::filesystem::permissions(key, std::filesystem::perms{mode});
    const auto open = read_secret_file(key);
    ASSERT_THAT(open, FailsWith(Code::kDenied)) << std::oct << mode;
    EXPECT_THAT(open.error().what, HasSubstr("chmod 600"));
  }
  std::filesystem::permissions(key, std::filesystem::perms{0600});
  EXPECT_EQ(value_of(read_secret_file(key, 5)).size(), 5u);
  EXPECT_THAT(read_secret_file(key, 4), FailsWith(Code::kMalformed));
  EXPECT_THAT(read_secret_file(directory / "absent"), FailsWith(Reason::kStorage));
  EXPECT_THAT(read_secret_file(directory.path()), FailsWith(Code::kDenied));  // no regular file
}

TEST(ProgramFiles, AStateDirectoryIsItsUsersAlone) {
  namespace fs = std::filesystem;
  const test::TemporaryDirectory directory;
  const auto mode = [](const fs::path& path) {
    return static_cast<unsigned>(fs::status(path).permissions());
  };
  const auto state = directory / "deep/state";
  EXPECT_THAT(open_state_directory(state), FailsWith(Reason::kStorage));
  value_of(make_state_directory(state));
  EXPECT_EQ(mode(state), 0700u);
  value_of(make_state_directory(state));  // is there already
  // Others may have looked: they are shut out, and that is said.
  fs::permissions(state, fs::perms{0755});
  testing::internal::CaptureStderr();
  value_of(open_state_directory(state));
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(state.string()));
  EXPECT_EQ(mode(state), 0700u);
  // Others may have written: that is for a person to judge.
  for (const unsigned open : {0720u, 0702u, 0777u}) {
    fs::permissions(state, fs::perms{open});
    const Status refused = open_state_directory(state);
    ASSERT_THAT(refused, FailsWith(Code::kDenied)) << std::oct << open;
    EXPECT_THAT(refused.error().what, HasSubstr("chmod 700"));
    EXPECT_THAT(make_state_directory(state), FailsWith(Code::kDenied));
  }
}

TEST(ProgramFiles, WritesAPortAsALineOverWhatWasThere) {
  const test::TemporaryDirectory directory;
  for (const std::uint16_t port : {std::uint16_t{65535}, std::uint16_t{80}}) {
    value_of(write_port_file(directory / "port", port));
    EXPECT_EQ(as_text(value_of(read_whole(directory / "port"))), std::to_string(port) + "\n");
  }
  EXPECT_FALSE(std::filesystem::exists(directory / "port.new"));
  EXPECT_THAT(write_port_file(directory / "absent" / "port", 80), FailsWith(Reason::kStorage));
}

// in_child runs in a process of its own, which can give up what this one needs, and gives its exit code.
int in_child(const std::function<int()>& run) {
  const pid_t child = fork();
  if (child == 0) _exit(run());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// locked_kib is what /proc says of memory that is never swapped out.
std::size_t locked_kib() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmLck:")) return std::stoul(line.substr(6));
  return 0;
}

TEST(ProgramProcess, HardenedHasNoCoreFileNoDebuggerALockedHeapAndPrivateFiles) {
  const int failed = in_child([] {
    umask(022);
    const rlimit most{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &most);
    if (!harden().has_value()) return 1;
    rlimit limit{1, 1};
    getrlimit(RLIMIT_CORE, &limit);
    if (limit.rlim_cur != 0 || limit.rlim_max != 0) return 2;
    if (prctl(PR_GET_DUMPABLE) != 0) return 3;
    if (umask(0) != 077) return 4;
    const SecretBytes secret{Bytes(32, 7)};
    if (CRYPTO_secure_allocated(secret.expose().data()) != 1) return 5;
    if (locked_kib() < Hardening{}.secure_heap_bytes >> 10) return 6;
    return harden().has_value() ? 0 : 7;  // again is harmless
  });
  EXPECT_EQ(failed, 0);
}

// As root nothing limits the locked memory: the child is somebody else then.
int with_nothing_to_lock(const std::function<int()>& run) {
  return in_child([&] {
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0) return 20;
    if (geteuid() == 0 && setuid(65534) != 0) return 21;
    return run();
  });
}

TEST(ProgramProcess, WithoutLockedMemoryAServiceDoesNotStartAndSaysWhatToDo) {
  EXPECT_EQ(with_nothing_to_lock([] {
              const Status hardened = harden();
              if (hardened.has_value()) return 1;
              const Error& error = hardened.error();
              if (error.reason != Reason::kUnprotected) return 2;
              if (error.what.find("LimitMEMLOCK") == std::string::npos) return 3;
              return error.what.find("ulimit -l") == std::string::npos ? 4 : 0;
            }),
            0);
}

TEST(ProgramProcess, WithoutLockedMemoryAPersonsClientGoesOnAndDumpsNothing) {
  EXPECT_EQ(
      with_nothing_to_lock([] {
        umask(022);
        if (!harden({.secure_heap_bytes = 1u << 16, .may_swap = true, .private_files = false}).has_value())
          return 1;
        if (prctl(PR_GET_DUMPABLE) != 0) return 2;
        const SecretBytes secret{Bytes(32, 7)};
        if (secret.expose()[31] != 7) return 3;
        return umask(0) == 022 ? 0 : 4;
      }),
      0);
}

TEST(ProgramProcess, ABrokenPipeIsAnErrorAndNotTheEnd) {
  const auto survives = [] {
    ignore_broken_pipes();
    int pair[2];
    if (pipe(pair) != 0) return false;
    close(pair[0]);
    return write(pair[1], "x", 1) == -1 && errno == EPIPE;
  };
  EXPECT_EXIT(_exit(survives() ? 0 : 1), testing::ExitedWithCode(0), "");
}

TEST(ProgramProcess, EndsInOrderWhenToldToAndNotBefore) {
  for (const int signal_number : {SIGTERM, SIGINT}) {
    const auto ends = [signal_number] {
      EndingSignals ending;
      raise(signal_number);  // stays pending: nothing has ended
      ending.wait();
    };
    EXPECT_EXIT((ends(), _exit(7)), testing::ExitedWithCode(7), "");
  }
}

// What a program prints and gives for a command line.
struct Ran {
  int exit = 0;
  std::string out, err;
};
Ran run(std::vector<std::string> words) {
  words.insert(words.begin(), "sallyport-thing");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  boost::program_options::options_description flags{"flags"};
  flags.add_options()("help,h", "this text")("command", boost::program_options::value<std::string>(), "x")(
      "state", boost::program_options::value<std::string>(), "a directory");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Ran ran;
  ran.exit = run_program(
      static_cast<int>(argv.size()), argv.data(),
      {"sallyport-thing",
       "usage of it\n",
       std::move(flags),
       {{"init", {"state"}, [](const Flags&) -> Status { return Done{}; }},
        {"fall", {}, [](const Flags&) -> Status { throw std::runtime_error{"out of luck"}; }},
        {"serve", {"state"}, [](const Flags& given) -> Status {
           return Error{Code::kUnavailable, Reason::kStorage, "no " + given["state"].as<std::string>()};
         }}}});
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

TEST(ProgramCommandLine, RunsTheCommandThatIsNamedAndTellsItsError) {
  EXPECT_EQ(run({"init", "--state", "here"}).exit, 0);
  const Ran ran = run({"serve", "--state", "here"});
  EXPECT_EQ(ran.exit, 9);
  EXPECT_EQ(ran.err,
            "sallyport-thing: [storage] no here\n  " + std::string{reason_sentence(Reason::kStorage)} + "\n");
}

TEST(ProgramCommandLine, SaysWhatIsMissingOrWrongOnTheCommandLine) {
  for (const auto& [words, what] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"serve"}, "serve needs --state"},
           {{"dance"}, "no such command: dance"},
           {{"serve", "--stat1"}, "stat1"},
           {{"serve", "again"}, "too many positional"}}) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << what;
    EXPECT_THAT(ran.err, AllOf(HasSubstr("sallyport-thing: [usage] "), HasSubstr(what)));
  }
}

TEST(ProgramCommandLine, HelpsOnStdoutWhenAskedAndOnStderrWhenNothingWas) {
  const Ran asked = run({"--help"});
  EXPECT_EQ(asked.exit, 0);
  EXPECT_THAT(asked.out, AllOf(HasSubstr("usage of it"), HasSubstr("--state")));
  const Ran nothing = run({});
  EXPECT_EQ(nothing.exit, 2);
  EXPECT_EQ(nothing.out, "");
  EXPECT_EQ(nothing.err, asked.out);
}

TEST(ProgramCommandLine, AnExceptionIsAnErrorOfOurOwn) {
  const Ran ran = run({"fall"});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_THAT(ran.err, HasSubstr("sallyport-thing: [internal] out of luck"));
}

}  // namespace
}  // namespace sallyport::program

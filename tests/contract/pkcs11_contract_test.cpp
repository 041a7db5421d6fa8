// What hsm-config/pkcs11 promises, on a real module: SALLYPORT_PKCS11_MODULE chooses it (a build of SoftHSM),
// Debian's SoftHSM is the default.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "attestation/crypto/digest.h"
#include "attestation/crypto/private_key.h"
#include "hsm-config/pkcs11/probe.h"
#include "hsm-config/pkcs11/region_keys.h"
#include "tests/support/matchers.h"
#include "tests/support/softhsm.h"

namespace sallyport::pkcs11 {
namespace {

using namespace std::chrono_literals;
using test::FailsWith;
using test::Succeeds;
using test::TemporarySoftHsm;
using test::value_of;
using ::testing::HasSubstr;
using ::testing::Not;

bool devices_required() {
  const char* const required = getenv("SALLYPORT_REQUIRE_DEVICES");
  return required != nullptr && std::string_view{required} == "1";
}

#define SP_NEED(condition, what)                                     \
  do {                                                               \
    if (!(condition)) {                                              \
      if (devices_required()) FAIL() << what << " is not installed"; \
      GTEST_SKIP() << what << " is not installed";                   \
    }                                                                \
  } while (false)

class Pkcs11Contract : public ::testing::Test {
 protected:
  void SetUp() override { SP_NEED(TemporarySoftHsm::available(), TemporarySoftHsm::module_path()); }
};

Digest256 digest_of(std::string_view text) {
  return crypto::sha256(as_bytes(text));
}

// A child process with a process group of its own (p11-kit's server has one more process for each client),
// killed at the end.
class Child {
 public:
  explicit Child(std::vector<std::string> argv) {
    std::vector<char*> raw;
    for (std::string& arg : argv) raw.push_back(arg.data());
    raw.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // also when this test aborts
      setpgid(0, 0);
      const int null = open("/dev/null", O_RDWR);
      for (const int fd : {0, 1, 2}) dup2(null, fd);
      execvp(raw[0], raw.data());
      _exit(127);
    }
    if (pid_ > 0) setpgid(pid_, pid_);
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  bool started() const { return pid_ > 0; }
  void signal(int number) const { ASSERT_EQ(::kill(-pid_, number), 0); }
  int wait() {
    int status = -1;
    if (pid_ > 0) waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }
  void end() {
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGCONT);
    ::kill(-pid_, SIGKILL);
    wait();
  }

 private:
  pid_t pid_ = -1;
};

bool poll_until(std::chrono::milliseconds limit, const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(2ms);
  }
  return condition();
}

// Whether a server listens there: the file appears before it does.
bool accepts(const std::filesystem::path& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const bool good = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return good;
}

TEST_F(Pkcs11Contract, InitialisesATokenAndFindsItByLabelAndBySerial) {
  const TemporarySoftHsm hsm{"us-1", "eu-1"};
  const Module module = value_of(Module::load(hsm.selector("us-1").module));
  const TokenInfo by_label = value_of(module.find_token(hsm.selector("us-1")));
  EXPECT_EQ(by_label.label, "us-1");
  EXPECT_TRUE(by_label.has_user_pin);
  EXPECT_TRUE(by_label.wants_login);
  TokenSelector by_serial = hsm.selector("");
  by_serial.serial = by_label.serial;
  EXPECT_EQ(value_of(module.find_token(by_serial)).label, "us-1");
  TokenSelector mixed = hsm.selector("eu-1");
  mixed.serial = by_label.serial;
  EXPECT_THAT(module.find_token(mixed), FailsWith(Reason::kTokenAbsent));
  EXPECT_THAT(module.init_token("us-1", hsm.so_pin(), hsm.pin()), FailsWith(Code::kConflict));
  EXPECT_THAT(module.init_token("", hsm.so_pin(), hsm.pin()), FailsWith(Code::kMalformed));
  EXPECT_THAT(module.init_token(std::string(33, 'x'), hsm.so_pin(), hsm.pin()), FailsWith(Code::kMalformed));
  std::size_t initialised = 0;
  for (const TokenInfo& info : value_of(module.list_tokens())) initialised += info.initialised ? 1 : 0;
  EXPECT_EQ(initialised, 2U);
}

TEST_F(Pkcs11Contract, RefusesAModuleThatIsNotOneOrHasNoAbsolutePath) {
  EXPECT_THAT(Module::load({.path = "libsofthsm2.so", .arguments = {}}), FailsWith(Code::kMalformed));
  EXPECT_THAT(Module::load({.path = "/nonexistent/x.so", .arguments = {}}), FailsWith(Reason::kTokenAbsent));
  const TemporarySoftHsm hsm{"us-1"};
  EXPECT_THAT(Module::load({.path = hsm.pin_file().string(), .arguments = {}}),
              FailsWith(Reason::kTokenAbsent));
  const Module module = value_of(Module::load(hsm.selector("us-1").module));
  EXPECT_THAT(Module::load({.path = module.spec().path, .arguments = "other"}), FailsWith(Code::kMalformed));
}

TEST_F(Pkcs11Contract, SignsWithP256InLowSFormThatVerifies) {
  const TemporarySoftHsm hsm{"us-1"};
  const Token token = hsm.open("us-1");
  const KeyHandle key = value_of(token.generate_key("k", {}, KeySpec::kP256Sign));
  EXPECT_TRUE(key.sensitive());
  EXPECT_FALSE(key.extractable());
  EXPECT_TRUE(key.may_sign());
  EXPECT_FALSE(key.may_derive());
  for (int i = 0; i < 32; ++i) {
    const Digest256 digest = digest_of("message " + std::to_string(i));
    const auto signature = value_of(token.sign_p256(key, digest));
    EXPECT_TRUE(crypto::is_low_s(signature));
    EXPECT_THAT(crypto::verify_p256(key.public_key(), digest, signature), Succeeds());
  }
  EXPECT_EQ(value_of(token.find_key("k")).public_key(), key.public_key());
  EXPECT_EQ(value_of(token.find_key(key.public_key())).label(), "k");
  EXPECT_THAT(token.generate_key("k", {}, KeySpec::kP256Sign), FailsWith(Code::kConflict));
  EXPECT_THAT(token.sign_ed25519(key, as_bytes("x")), FailsWith(Reason::kTokenKey));
  EXPECT_THAT(token.ecdh(key, key.public_key()), FailsWith(Reason::kTokenKey));
}

TEST_F(Pkcs11Contract, SignsWithEd25519MadeFromEitherFormOfParameters) {
  const TemporarySoftHsm hsm{"us-1"};
  const Token token = hsm.open("us-1");
  const auto oid = value_of(token.generate_key("oid", {}, KeySpec::kEd25519Sign, Ed25519Params::kOid));
  const auto text =
      value_of(token.generate_key("text", {}, KeySpec::kEd25519Sign, Ed25519Params::kPrintableString));
  for (const KeyHandle& key : {oid, text}) {
    for (const std::string& message : {std::string{}, std::string{"checkpoint"}, std::string(100000, 'x')}) {
      const auto signature = token.sign_ed25519(key, as_bytes(message));
      if (message.empty() && !signature) continue;  // a token may refuse to sign nothing
      ASSERT_THAT(signature, Succeeds());
      EXPECT_THAT(crypto::verify_ed25519(key.public_key(), as_bytes(message), *signature), Succeeds());
    }
  }
}

TEST_F(Pkcs11Contract, AgreesOnTheSameSecretAsSoftware) {
  const TemporarySoftHsm hsm{"us-1"};
  const Token token = hsm.open("us-1");
  const KeyHandle a = value_of(token.generate_key("a", {}, KeySpec::kP256Derive));
  const KeyHandle b = value_of(token.generate_key("b", {}, KeySpec::kP256Derive));
  const SecretBytes ab = value_of(token.ecdh(a, b.public_key()));
  const SecretBytes ba = value_of(token.ecdh(b, a.public_key()));
  EXPECT_EQ(ab.size(), 32U);
  EXPECT_TRUE(equal_in_constant_time(ab.expose(), ba.expose()));
  EXPECT_THAT(token.sign_p256(a, digest_of("x")), FailsWith(Reason::kTokenKey));
  const auto edwards = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519).public_key();
  EXPECT_THAT(token.ecdh(a, edwards), FailsWith(Code::kMalformed));
}

TEST_F(Pkcs11Contract, TellsAWrongPinFromAnAbsentTokenAndAnUnknownKey) {
  const TemporarySoftHsm hsm{"us-1"};
  constexpr std::string_view kWrong = "9999-not-the-pin";
  const auto wrong = Token::open(hsm.selector("us-1"), SecretBytes{as_bytes(kWrong)});
  ASSERT_THAT(wrong, FailsWith(Reason::kTokenPin));
  EXPECT_THAT(describe(wrong.error()), Not(HasSubstr(std::string{kWrong})));
  const auto absent = Token::open(hsm.selector("eu-1"), hsm.pin());
  ASSERT_THAT(absent, FailsWith(Reason::kTokenAbsent));
  EXPECT_THAT(absent.error().what, HasSubstr("\"us-1\"")) << "names the tokens that are there";
  EXPECT_THAT(describe(absent.error()), Not(HasSubstr(std::string{TemporarySoftHsm::kPin})));
  const Token token = hsm.open("us-1");
  EXPECT_THAT(token.find_key("nothing"), FailsWith(Reason::kTokenKey));
  EXPECT_THAT(find_person_token(hsm.selector("us-1")), Succeeds());
  EXPECT_THAT(find_person_token(hsm.selector("bob")), FailsWith(Reason::kTokenAbsent));
}

TEST_F(Pkcs11Contract, ShowsPublicKeysWithoutAPin) {
  const TemporarySoftHsm hsm{"us-1"};
  std::vector<crypto::PublicKey> made;
  {
    const Token token = hsm.open("us-1");
    made.push_back(value_of(token.generate_key("p256", as_bytes("1"), KeySpec::kP256Sign)).public_key());
    made.push_back(
        value_of(token.generate_key("ed25519", as_bytes("2"), KeySpec::kEd25519Sign)).public_key());
  }
  const TokenSelector selector = hsm.selector("us-1");
  const Module module = value_of(Module::load(selector.module));
  const auto shown = value_of(module.list_public_keys(selector));
  for (const crypto::PublicKey& key : made) EXPECT_THAT(shown, testing::Contains(key));
  EXPECT_EQ(shown.size(), made.size());
  EXPECT_THAT(module.list_public_keys(hsm.selector("bob")), FailsWith(Reason::kTokenAbsent));
}

TEST_F(Pkcs11Contract, OpensATokenOncePerProcessSoThatEveryPinIsTried) {
  const TemporarySoftHsm hsm{"us-1"};
  {
    const Token token = hsm.open("us-1");
    EXPECT_THAT(Token::open(hsm.selector("us-1"), SecretBytes{as_bytes("9999-not-the-pin")}),
                FailsWith(Code::kConflict));
    EXPECT_THAT(token.check_alive(), Succeeds());
  }
  EXPECT_THAT(Token::open(hsm.selector("us-1"), hsm.pin()), Succeeds()) << "logged out with the last copy";
}

TEST_F(Pkcs11Contract, EightThreadsSignWithSessionsOfTheirOwn) {
  const TemporarySoftHsm hsm{"us-1"};
  const Token token = hsm.open("us-1", {.max_sessions = 4});
  const KeyHandle key = value_of(token.generate_key("k", {}, KeySpec::kP256Sign));
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const Digest256 digest = digest_of(std::to_string(t) + "/" + std::to_string(i));
        const auto signature = token.sign_p256(key, digest);
        if (signature && crypto::verify_p256(key.public_key(), digest, *signature)) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 400);
}

TEST_F(Pkcs11Contract, AKeyThatWasDestroyedOrReplacedIsNotUsed) {
  const TemporarySoftHsm hsm{"us-1"};
  const Token token = hsm.open("us-1");
  const KeyHandle key = value_of(token.generate_key("k", {}, KeySpec::kP256Sign));
  ASSERT_THAT(token.destroy_key(key), Succeeds());
  EXPECT_THAT(token.sign_p256(key, digest_of("x")), FailsWith(Reason::kTokenKey));
  ASSERT_THAT(token.generate_key("k", key.id(), KeySpec::kP256Sign), Succeeds());
  EXPECT_THAT(token.sign_p256(key, digest_of("x")), FailsWith(Reason::kTokenKey));
}

TEST_F(Pkcs11Contract, RegionKeysAreMadeOnceAndCheckedWhenFound) {
  const TemporarySoftHsm hsm{"us-1"};
  const Token token = hsm.open("us-1");
  EXPECT_THAT(find_region_keys(token), FailsWith(Reason::kTokenKey));
  const RegionKeys made = value_of(make_region_keys(token));
  EXPECT_EQ(made.log.public_key().algorithm(), crypto::KeyAlgorithm::kEd25519);
  const RegionKeys again = value_of(make_region_keys(token));
  EXPECT_EQ(again.lease.public_key(), made.lease.public_key());
  ASSERT_THAT(token.destroy_key(made.secrets), Succeeds());
  ASSERT_THAT(token.generate_key(kSecretsKeyLabel, {}, KeySpec::kP256Sign), Succeeds());
  const auto wrong = find_region_keys(token);
  ASSERT_THAT(wrong, FailsWith(Reason::kTokenKey));
  EXPECT_THAT(wrong.error().what, HasSubstr("sallyport-secrets"));
}

TEST_F(Pkcs11Contract, TheProbePassesAndLeavesNothingBehind) {
  const TemporarySoftHsm hsm{"us-1"};
  const Token token = hsm.open("us-1");
  const RegionKeys keys = value_of(make_region_keys(token));
  const auto all = keys.all();
  const ProbeReport report = value_of(probe_token(token, all));
  EXPECT_TRUE(report.succeeded.empty());
  EXPECT_TRUE(report.untried.empty()) << report.untried.front();
  EXPECT_THAT(report.refused, ::testing::Contains("p256-sign: read-value"));
  EXPECT_THAT(report.refused, ::testing::Contains("p256-sign: wrap with aes-key-wrap-pad"));
  EXPECT_THAT(report.refused, ::testing::Contains("key sallyport-ssh-ca: copy-extractable"));
  EXPECT_THAT(report.refused, ::testing::Contains("key sallyport-secrets: sign with a key to derive"));
  EXPECT_EQ(value_of(token.list_keys()).size(), 5U);
  const Digest256 digest = digest_of("after the probe");
  EXPECT_THAT(token.sign_p256(keys.ssh_ca, digest), Succeeds());
}

TEST_F(Pkcs11Contract, AForkedChildCannotUseTheLoginOfItsParent) {
  const TemporarySoftHsm hsm{"us-1"};
  const Token token = hsm.open("us-1");
  const KeyHandle key = value_of(token.generate_key("k", {}, KeySpec::kP256Sign));
  const pid_t child = fork();
  if (child == 0) {
    const auto signature = token.sign_p256(key, digest_of("x"));
    _exit(!signature && signature.error().code == Code::kInternal ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_THAT(token.sign_p256(key, digest_of("x")), Succeeds());
}

// ---- an HSM in another process: p11-kit's server, which can be stopped, killed and started again

class RemoteHsm : public Pkcs11Contract {
 protected:
  static constexpr const char* kClient = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so";

  void SetUp() override {
    Pkcs11Contract::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    SP_NEED(std::filesystem::exists(kClient), kClient);
    SP_NEED(std::filesystem::exists("/usr/bin/p11-kit"), "p11-kit");
    hsm_.emplace(std::initializer_list<std::string_view>{"us-1"});
    {
      const Token token = hsm_->open("us-1");
      ASSERT_THAT(token.generate_key("k", {}, KeySpec::kP256Sign), Succeeds());
    }
    // The client library reads its server's address when it is first loaded: one address for this process.
    static const test::TemporaryDirectory run;
    socket_ = run / "hsm.sock";
    setenv("P11_KIT_SERVER_ADDRESS", ("unix:path=" + socket_.string()).c_str(), 1);
    start();
    selector_ = {.module = {.path = kClient, .arguments = {}}, .label = "us-1", .serial = {}};
  }
  void TearDown() override {
    if (server_) server_->end();
    std::filesystem::remove(socket_);
  }
  void start() {
    std::filesystem::remove(socket_);
    server_.emplace(std::vector<std::string>{"p11-kit", "server", "--provider",
                                             TemporarySoftHsm::module_path(), "--name", socket_.string(),
                                             "-f", "pkcs11:token=us-1"});
    ASSERT_TRUE(server_->started());
    ASSERT_TRUE(poll_until(20s, [&] { return accepts(socket_); }));
  }
  Token open(TokenOptions options) {
    return value_of(Token::open(selector_, TemporarySoftHsm::pin(), options));
  }

  std::optional<TemporarySoftHsm> hsm_;
  std::filesystem::path socket_;
  std::optional<Child> server_;
  TokenSelector selector_;
};

TEST_F(RemoteHsm, AHungModuleCostsTheDeadlineAndNoMore) {
  const Token token = open({.max_sessions = 2, .deadline = 1s});
  const Module module = value_of(Module::load(selector_.module));
  const KeyHandle key = value_of(token.find_key("k"));
  ASSERT_THAT(token.sign_p256(key, digest_of("before")), Succeeds());

  server_->signal(SIGSTOP);
  const auto start = std::chrono::steady_clock::now();
  const auto hung = token.sign_p256(key, digest_of("hung"));
  const auto took = std::chrono::steady_clock::now() - start;
  ASSERT_THAT(hung, FailsWith(Reason::kTokenTimeout));
  EXPECT_EQ(hung.error().next, Next::kReopenSession);
  EXPECT_GE(took, 1s);
  EXPECT_LT(took, 10s);
  EXPECT_THAT(token.sign_p256(key, digest_of("hung")), FailsWith(Reason::kTokenTimeout));
  EXPECT_GE(module.stuck_calls(), 2U);

  server_->signal(SIGCONT);
  EXPECT_TRUE(poll_until(10s, [&] { return module.stuck_calls() == 0; }))
      << "abandoned calls come back and end";
  EXPECT_THAT(token.sign_p256(key, digest_of("after")), Succeeds());
}

TEST_F(RemoteHsm, StuckCallsAreCappedAndTellTheOperator) {
  const Token token = open({.max_sessions = Module::kMaxStuckCalls, .deadline = 1s});
  const Module module = value_of(Module::load(selector_.module));
  const KeyHandle key = value_of(token.find_key("k"));
  server_->signal(SIGSTOP);
  std::atomic<std::size_t> timed_out = 0;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < Module::kMaxStuckCalls; ++i) {
    threads.emplace_back([&] {
      const auto hung = token.sign_p256(key, digest_of("x"));
      if (!hung && hung.error().reason == Reason::kTokenTimeout) ++timed_out;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(timed_out, Module::kMaxStuckCalls);
  const auto refused = token.sign_p256(key, digest_of("x"));
  ASSERT_THAT(refused, FailsWith(Reason::kTokenTimeout));
  EXPECT_EQ(refused.error().next, Next::kCallOperator);
  server_->signal(SIGCONT);
  EXPECT_TRUE(poll_until(10s, [&] { return module.stuck_calls() == 0; }));
  EXPECT_THAT(token.sign_p256(key, digest_of("x")), Succeeds());
}

TEST_F(RemoteHsm, AKilledModuleGivesAnErrorAndIsOpenedAgainWhenItIsBack) {
  const Token token = open({.max_sessions = 2, .deadline = 10s});
  const KeyHandle key = value_of(token.find_key("k"));
  ASSERT_THAT(token.sign_p256(key, digest_of("before")), Succeeds());
  server_->end();
  const auto dead = token.sign_p256(key, digest_of("dead"));  // and SIGPIPE does not end this process
  ASSERT_THAT(dead, FailsWith(Code::kUnavailable));
  EXPECT_EQ(dead.error().next, Next::kReopenSession);
  EXPECT_THAT(describe(dead.error()), Not(HasSubstr(std::string{TemporarySoftHsm::kPin})));
  EXPECT_THAT(token.sign_p256(key, digest_of("still dead")), FailsWith(Code::kUnavailable));
  start();
  EXPECT_TRUE(poll_until(10s, [&] { return token.sign_p256(key, digest_of("back")).has_value(); }));
  EXPECT_THAT(token.check_alive(), Succeeds());
}

// ---- the probe can fail: NSS softokn allows what it must refuse

TEST_F(Pkcs11Contract, TheProbeFailsOnNssAndNamesWhatItAllowed) {
  const std::string path = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so";
  SP_NEED(std::filesystem::exists(path), "NSS softokn");
  SP_NEED(std::filesystem::exists("/usr/bin/certutil"), "certutil");
  const test::TemporaryDirectory directory;
  const TemporarySoftHsm pins;  // for the file with the PIN
  const std::string database = "sql:" + directory.path().string();
  Child certutil{{"certutil", "-N", "-d", database, "-f", pins.pin_file().string()}};
  ASSERT_EQ(certutil.wait(), 0);
  const TokenSelector selector{
      .module = {.path = path,
                 .arguments = "configdir='" + database + "' certPrefix='' keyPrefix='' secmod='' flags= "},
      .label = "NSS Certificate DB",
      .serial = {}};
  const Token token = value_of(Token::open(selector, TemporarySoftHsm::pin()));
  const auto report = probe_token(token);
  ASSERT_THAT(report, FailsWith(Reason::kHsmProbe));
  EXPECT_THAT(report.error().what, HasSubstr("wrap with"));
  EXPECT_THAT(report.error().what, HasSubstr("copy-extractable"));
  EXPECT_EQ(report.error().next, Next::kCallOperator);
}

}  // namespace
}  // namespace sallyport::pkcs11

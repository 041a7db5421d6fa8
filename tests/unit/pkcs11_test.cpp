#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "attestation/crypto/private_key.h"
#include "hsm-config/pkcs11/attributes.h"
#include "hsm-config/pkcs11/module.h"
#include "hsm-config/pkcs11/next_step.h"
#include "hsm-config/pkcs11/pin.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::pkcs11 {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;

// ---- RFC 7512

TEST(TokenUri, NamesATokenByLabelOrSerialWithItsModule) {
  const auto both = value_of(parse_token_uri("pkcs11:token=us-1;serial=12ab?module-path=/usr/lib/x.so", ""));
  EXPECT_EQ(both.label, "us-1");
  EXPECT_EQ(both.serial, "12ab");
  EXPECT_EQ(both.module.path, "/usr/lib/x.so");
  const auto escaped =
      value_of(parse_token_uri("pkcs11:token=My%20Token;manufacturer=Acme", "/usr/lib/d.so"));
  EXPECT_EQ(escaped.label, "My Token");
  EXPECT_EQ(escaped.module.path, "/usr/lib/d.so");
}

TEST(TokenUri, RefusesPinsObjectsSlotsAndUnknownAttributes) {
  for (const std::string_view uri :
       {"", "token=us-1", "pkcs11:", "pkcs11:manufacturer=Acme", "pkcs11:token=us-1?pin-value=1234",
        "pkcs11:token=us-1?pin-source=file:/etc/pin", "pkcs11:token=us-1;object=key",
        "pkcs11:token=us-1;type=private", "pkcs11:token=us-1;slot-id=0", "pkcs11:token=us-1;colour=red",
        "pkcs11:token=%zz", "pkcs11:token=us-1?module-path=x.so"}) {
    EXPECT_THAT(parse_token_uri(uri, "/usr/lib/d.so"), FailsWith(Code::kMalformed)) << uri;
  }
  EXPECT_THAT(parse_token_uri("pkcs11:token=us-1", ""), FailsWith(Code::kMalformed)) << "no module";
  EXPECT_THAT(parse_token_uri(std::string(2000, 'x'), "/x"), FailsWith(Code::kMalformed));
}

// ---- the table of CK_RV

TEST(NextStep, TellsWhatHelps) {
  EXPECT_EQ(next_step(CKR_DEVICE_REMOVED).next, Next::kReopenSession);
  EXPECT_EQ(next_step(CKR_DEVICE_ERROR).recovery, Recovery::kModule);
  EXPECT_EQ(next_step(CKR_SESSION_HANDLE_INVALID).recovery, Recovery::kSession);
  EXPECT_EQ(next_step(CKR_PIN_INCORRECT).reason, Reason::kTokenPin);
  EXPECT_EQ(next_step(CKR_PIN_INCORRECT).next, Next::kGiveUp) << "a wrong PIN is never tried again";
  EXPECT_EQ(next_step(CKR_PIN_LOCKED).reason, Reason::kTokenLocked);
  EXPECT_EQ(next_step(CKR_PIN_LOCKED).next, Next::kCallOperator);
  const Error vendor = error_of(CKR_VENDOR_DEFINED + 7, "C_Sign");
  EXPECT_EQ(vendor.device_rc, CKR_VENDOR_DEFINED + 7);
  EXPECT_EQ(vendor.reason, Reason::kToken);
  EXPECT_EQ(error_of(CKR_PIN_INCORRECT, "C_Login").what, "C_Login: CKR_PIN_INCORRECT (0xa0)");
}

// ---- CKA_EC_POINT

TEST(EcPoint, IsRebuiltFromDerAndFromABarePoint) {
  const auto p256 = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  Bytes der{0x04, 65};
  der.insert(der.end(), p256.raw().begin(), p256.raw().end());
  EXPECT_EQ(value_of(parse_ec_point(CKK_EC, kP256Params, der)), p256);
  EXPECT_EQ(value_of(parse_ec_point(CKK_EC, kP256Params, p256.raw())), p256);
  const auto ed25519 = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519).public_key();
  der = {0x04, 32};
  der.insert(der.end(), ed25519.raw().begin(), ed25519.raw().end());
  EXPECT_EQ(value_of(parse_ec_point(CKK_EC_EDWARDS, kEd25519OidParams, der)), ed25519);
  EXPECT_EQ(value_of(parse_ec_point(CKK_EC_EDWARDS, kEd25519PrintableParams, ed25519.raw())), ed25519);
}

TEST(EcPoint, IsRefusedOffTheCurveOfAnotherCurveOrLength) {
  const auto p256 = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  Bytes point = p256.raw();
  EXPECT_FALSE(parse_ec_point(CKK_EC, kEd25519OidParams, point));
  EXPECT_FALSE(parse_ec_point(CKK_EC_EDWARDS, kP256Params, point));
  EXPECT_FALSE(parse_ec_point(CKK_EC, kP256Params, ByteView{point}.first(64)));
  EXPECT_FALSE(parse_ec_point(CKK_EC, kP256Params, {}));
  EXPECT_FALSE(parse_ec_point(CKK_EC, {}, point));
  point[64] ^= 1;
  EXPECT_FALSE(parse_ec_point(CKK_EC, kP256Params, point));
}

// ---- PINs

std::string text_of(const SecretBytes& pin) {
  return std::string{as_text(pin.expose())};
}

class PinFile : public ::testing::Test {
 protected:
  std::filesystem::path write(std::string_view text, mode_t mode = 0600) {
    const auto path = directory_ / "pin";
    std::ofstream{path, std::ios::binary} << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  test::TemporaryDirectory directory_;
};

TEST_F(PinFile, GivesItsFirstLine) {
  EXPECT_EQ(text_of(value_of(read_pin_file(write("123456\n")))), "123456");
  EXPECT_EQ(text_of(value_of(read_pin_file(write("123456")))), "123456");
  EXPECT_EQ(text_of(value_of(read_pin_file(write("with blanks \r\n")))), "with blanks ");
  EXPECT_EQ(text_of(value_of(read_pin_file(write("p\xC3\xA9\n", 0400)))), "p\xC3\xA9");
  EXPECT_EQ(value_of(read_pin_file(write(std::string(255, 'x')))).size(), 255U);
}

TEST_F(PinFile, IsRefusedWhenOthersCanReadItOrItIsNoFile) {
  for (const mode_t mode : {0640, 0604, 0660, 0644}) {
    EXPECT_THAT(read_pin_file(write("123456\n", mode)), FailsWith(Reason::kUsage)) << std::oct << mode;
  }
  EXPECT_THAT(read_pin_file(directory_.path()), FailsWith(Reason::kUsage));
  EXPECT_THAT(read_pin_file(directory_ / "absent"), FailsWith(Reason::kUsage));
  const auto fifo = directory_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(read_pin_file(fifo), FailsWith(Reason::kUsage)) << "and does not wait for a writer";
}

TEST_F(PinFile, IsRefusedWhenThePinIsEmptyTooLongOrHoldsControlCharacters) {
  for (const std::string& text :
       {std::string{}, std::string{"\n1234"}, std::string(256, 'x'), std::string{"12\t34\n"},
        std::string("12\0"
                    "34",
                    5)}) {
    const auto pin = read_pin_file(write(text));
    ASSERT_THAT(pin, FailsWith(Reason::kUsage));
    EXPECT_THAT(pin.error().what, ::testing::Not(::testing::HasSubstr("34")));
  }
}

TEST(PinFd, GivesOneLineAndLeavesTheNext) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  constexpr std::string_view kBoth = "so-pin-1\nuser-pin-2";
  ASSERT_EQ(write(ends[1], kBoth.data(), kBoth.size()), static_cast<ssize_t>(kBoth.size()));
  close(ends[1]);
  EXPECT_EQ(text_of(value_of(read_pin_fd(ends[0]))), "so-pin-1");
  EXPECT_EQ(text_of(value_of(read_pin({.fd = ends[0], .file = {}}, ""))), "user-pin-2");
  EXPECT_THAT(read_pin_fd(ends[0]), FailsWith(Reason::kUsage)) << "nothing left";
  close(ends[0]);
  EXPECT_THAT(read_pin_fd(-1), FailsWith(Reason::kUsage));
  EXPECT_THAT(read_pin({.fd = 0, .file = "x"}, ""), FailsWith(Reason::kUsage)) << "two sources";
}

// A process at a terminal of its own that asks for a PIN.
class Prompt {
 public:
  Prompt() {
    pid_ = forkpty(&master_, nullptr, nullptr, nullptr);
    if (pid_ != 0) return;
    const auto pin = prompt_pin("PIN for us-1: ");
    _exit(pin && text_of(*pin) == "2468-secret" ? 0 : 1);
  }
  ~Prompt() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(master_);
  }
  // What the terminal shows, until `wanted` is in it or the process is gone.
  std::string& read_until(std::string_view wanted) {
    while (shown_.find(wanted) == std::string::npos) {
      pollfd waiting{master_, POLLIN, 0};
      char buffer[256];
      if (poll(&waiting, 1, 10000) <= 0) break;
      const ssize_t got = ::read(master_, buffer, sizeof buffer);
      if (got <= 0) break;
      shown_.append(buffer, static_cast<std::size_t>(got));
    }
    return shown_;
  }
  void type(std::string_view text) const {
    ASSERT_EQ(::write(master_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  bool echoes() const {
    termios settings{};
    EXPECT_EQ(tcgetattr(master_, &settings), 0);
    return (settings.c_lflag & static_cast<tcflag_t>(ECHO)) != 0;
  }
  int wait() {
    int status = -1;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
  int master_ = -1;
  std::string shown_;
};

TEST(PinPrompt, AsksAtTheTerminalWithoutShowingThePin) {
  Prompt prompt;
  EXPECT_THAT(prompt.read_until("us-1: "), ::testing::HasSubstr("PIN for us-1: "));
  EXPECT_FALSE(prompt.echoes());
  prompt.type("2468-secret\n");
  const std::string shown = prompt.read_until("never shown");
  EXPECT_THAT(shown, ::testing::Not(::testing::HasSubstr("2468")));
  EXPECT_EQ(prompt.wait(), 0);
}

TEST(PinPrompt, PutsTheEchoBackWhenASignalEndsIt) {
  Prompt prompt;
  prompt.read_until("us-1: ");
  prompt.type("24\x03");  // Ctrl-C
  const int status = prompt.wait();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
  EXPECT_TRUE(prompt.echoes());
}

}  // namespace
}  // namespace sallyport::pkcs11

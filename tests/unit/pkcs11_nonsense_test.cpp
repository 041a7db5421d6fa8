// hsm-config/pkcs11 over a module that lies and fails on demand.
#include <dlfcn.h>

#include "attestation/crypto/digest.h"
#include "hsm-config/pkcs11/probe.h"
#include "tests/support/matchers.h"
#include "tests/support/nonsense_module.h"

namespace sallyport::pkcs11 {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;
using ::testing::HasSubstr;

// Codes of nonsense_module.cpp's table of errors.
constexpr std::uint8_t kGeneralError = 1, kDeviceRemoved = 3, kSessionHandleInvalid = 6, kNotLoggedIn = 7,
                       kPinIncorrect = 8, kPinLocked = 9;

class Nonsense : public ::testing::Test {
 protected:
  void SetUp() override {
    library_ = dlopen(SALLYPORT_NONSENSE_MODULE, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << dlerror();
    rule_ = symbol<decltype(&nonsense_rule)>("nonsense_rule");
    calls_ = symbol<decltype(&nonsense_calls)>("nonsense_calls");
    clear_ = symbol<decltype(&nonsense_clear)>("nonsense_clear");
    clear_();
  }
  void TearDown() override { clear_(); }
  template <class T>
  T symbol(const char* name) const {
    return reinterpret_cast<T>(dlsym(library_, name));
  }
  static Result<Token> try_open() {
    return Token::open({.module = spec(), .label = "nonsense", .serial = {}}, SecretBytes{as_bytes("1234")});
  }
  static ModuleSpec spec() { return {.path = SALLYPORT_NONSENSE_MODULE, .arguments = {}}; }

  void* library_ = nullptr;
  decltype(&nonsense_rule) rule_ = nullptr;
  decltype(&nonsense_calls) calls_ = nullptr;
  decltype(&nonsense_clear) clear_ = nullptr;
  const Digest256 digest_ = crypto::sha256(as_bytes("a decision"));
};

TEST_F(Nonsense, BehavesWithoutRules) {
  const Token token = value_of(try_open());
  const KeyHandle key = value_of(token.find_key("k"));
  EXPECT_THAT(token.sign_p256(key, digest_), Succeeds());
  EXPECT_THAT(token.ecdh(key, key.public_key()), Succeeds());
}

TEST_F(Nonsense, AWrongSignatureIsNotHandedOut) {
  const Token token = value_of(try_open());
  const KeyHandle key = value_of(token.find_key("k"));
  for (const std::uint8_t kind :
       {kNonsenseWrongBytes, kNonsenseShort, kNonsenseEmpty, kNonsenseHuge, kNonsenseUnavailable}) {
    rule_("C_Sign", kind);
    const auto signature = token.sign_p256(key, digest_);
    ASSERT_THAT(signature, FailsWith(Code::kUnverified)) << int{kind};
    EXPECT_EQ(signature.error().reason, Reason::kToken);
  }
  rule_("C_Sign", 0);
  EXPECT_THAT(token.sign_p256(key, digest_), Succeeds());
}

TEST_F(Nonsense, ASecretOfAnotherLengthIsRefused) {
  const Token token = value_of(try_open());
  const KeyHandle key = value_of(token.find_key("k"));
  for (const std::uint8_t kind : {kNonsenseShort, kNonsenseEmpty, kNonsenseHuge, kNonsenseUnavailable}) {
    rule_("C_GetAttributeValue", kind);
    EXPECT_FALSE(token.ecdh(key, key.public_key())) << int{kind};
  }
}

TEST_F(Nonsense, AWrongPinIsTriedOnce) {
  rule_("C_Login", kPinIncorrect);
  EXPECT_THAT(try_open(), FailsWith(Reason::kTokenPin));
  EXPECT_EQ(calls_("C_Login"), 1U);
  rule_("C_Login", kPinLocked);
  EXPECT_THAT(try_open(), FailsWith(Reason::kTokenLocked));
}

TEST_F(Nonsense, APinThatIsRefusedLaterIsNotTriedAgain) {
  const Token token = value_of(try_open());
  const KeyHandle key = value_of(token.find_key("k"));
  rule_("C_SignInit", kNotLoggedIn);
  EXPECT_THAT(token.sign_p256(key, digest_), FailsWith(Code::kUnavailable));
  rule_("C_SignInit", 0);
  rule_("C_Login", kPinIncorrect);
  EXPECT_THAT(token.sign_p256(key, digest_), FailsWith(Reason::kTokenPin));
  const unsigned tried = calls_("C_Login");
  rule_("C_Login", 0);
  EXPECT_THAT(token.sign_p256(key, digest_), FailsWith(Reason::kTokenPin));
  EXPECT_THAT(token.check_alive(), FailsWith(Reason::kTokenPin));
  EXPECT_EQ(calls_("C_Login"), tried);
}

TEST_F(Nonsense, ALostSessionIsOpenedAgainAloneAndALostDeviceWithItsModule) {
  const Token token = value_of(try_open());
  const KeyHandle key = value_of(token.find_key("k"));
  rule_("C_SignInit", kSessionHandleInvalid);
  const auto lost = token.sign_p256(key, digest_);
  ASSERT_THAT(lost, FailsWith(Code::kUnavailable));
  EXPECT_EQ(lost.error().next, Next::kReopenSession);
  rule_("C_SignInit", 0);
  EXPECT_THAT(token.sign_p256(key, digest_), Succeeds());
  EXPECT_EQ(calls_("C_Finalize"), 0U);
  EXPECT_EQ(calls_("C_Login"), 2U);

  rule_("C_Sign", kDeviceRemoved);
  EXPECT_THAT(token.sign_p256(key, digest_), FailsWith(Reason::kTokenAbsent));
  rule_("C_Sign", 0);
  EXPECT_THAT(token.sign_p256(key, digest_), Succeeds());
  EXPECT_EQ(calls_("C_Finalize"), 1U);
  EXPECT_EQ(calls_("C_Initialize"), 2U);
  EXPECT_EQ(calls_("C_Login"), 3U);
}

TEST_F(Nonsense, ASessionThatCannotBeOpenedAgainBeginsTheModuleAnew) {
  const Token token = value_of(try_open());
  const KeyHandle key = value_of(token.find_key("k"));
  rule_("C_SignInit", kSessionHandleInvalid);
  EXPECT_FALSE(token.sign_p256(key, digest_));
  rule_("C_SignInit", 0);
  rule_("C_OpenSession", kGeneralError);
  EXPECT_FALSE(token.sign_p256(key, digest_));
  rule_("C_OpenSession", 0);
  EXPECT_THAT(token.sign_p256(key, digest_), Succeeds());
  EXPECT_EQ(calls_("C_Finalize"), 1U);
}

TEST_F(Nonsense, AKeyThatAlwaysAuthenticatesGetsThePinForEachUse) {
  rule_("CKA_ALWAYS_AUTHENTICATE", 1);
  const Token token = value_of(try_open());
  const KeyHandle key = value_of(token.find_key("k"));
  EXPECT_TRUE(key.always_authenticate());
  EXPECT_THAT(token.sign_p256(key, digest_), Succeeds());
  EXPECT_THAT(token.sign_p256(key, digest_), Succeeds());
  EXPECT_EQ(calls_("C_Login"), 3U) << "one to open, one for each signature";
}

TEST_F(Nonsense, ListsThatDoNotEndAndLengthsThatAreTooLongAreCutOff) {
  const Token token = value_of(try_open());
  rule_("C_FindObjects", kNonsenseWrongBytes);
  EXPECT_THAT(token.find_key("k"), FailsWith(Reason::kToken));
  rule_("C_FindObjects", kNonsenseHuge);
  EXPECT_THAT(token.find_key("k"), FailsWith(Reason::kToken));
  rule_("C_FindObjects", 0);
  rule_("C_GetAttributeValue", kNonsenseHuge);
  EXPECT_FALSE(token.find_key("k"));
  clear_();
  const Module module = value_of(Module::load(spec()));
  rule_("C_GetSlotList", kNonsenseHuge);
  EXPECT_THAT(module.list_tokens(), FailsWith(Reason::kToken));
  rule_("C_GetSlotList", kNonsenseWrongBytes);
  static_cast<void>(module.list_tokens().has_value());
}

TEST_F(Nonsense, NamesFromATokenCarryNoTerminalControl) {
  rule_("C_GetTokenInfo", kNonsenseWrongBytes);
  const Module module = value_of(Module::load(spec()));
  const auto tokens = value_of(module.list_tokens());
  ASSERT_EQ(tokens.size(), 1U);
  EXPECT_EQ(tokens[0].label, "?[31mred");
}

TEST_F(Nonsense, TheProbeNamesWhatWentThrough) {
  const Token token = value_of(try_open());
  rule_("C_CopyObject", kNonsenseWrongBytes);
  const auto report = probe_token(token);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().reason, Reason::kHsmProbe);
  EXPECT_THAT(report.error().what, HasSubstr("copy-extractable"));
  EXPECT_THAT(report.error().what, ::testing::Not(HasSubstr("read-value")));
}

TEST_F(Nonsense, TheProbeDoesNotTakeADeadDeviceForARefusal) {
  const Token token = value_of(try_open());
  rule_("C_SetAttributeValue", kDeviceRemoved);
  EXPECT_THAT(probe_token(token), FailsWith(Reason::kTokenAbsent));
}

}  // namespace
}  // namespace sallyport::pkcs11

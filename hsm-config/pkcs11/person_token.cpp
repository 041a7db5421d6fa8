#include "hsm-config/pkcs11/module_state.h"
#include "hsm-config/pkcs11/token.h"

namespace sallyport::pkcs11 {

namespace {

constexpr Millis kTouchDeadline{60000};

}  // namespace

Result<Token> open_person_token(const TokenSelector& selector, SecretBytes pin) {
  return Token::open(selector, std::move(pin),
                     {.max_sessions = 1, .deadline = kTouchDeadline, .read_only = true});
}

Result<TokenInfo> find_person_token(const TokenSelector& selector) {
  SP_TRY(const Module module, Module::load(selector.module));
  SP_TRY(TokenInfo info, module.find_token(selector));
  if (info.pin_locked) {
    return Error{Code::kDenied, Reason::kTokenLocked, describe_selector(selector) + " is locked",
                 Next::kCallOperator, 0};
  }
  return info;
}

}  // namespace sallyport::pkcs11

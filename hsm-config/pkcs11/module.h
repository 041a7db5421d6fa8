#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/result.h"
#include "attestation/base/secret_bytes.h"
#include "attestation/crypto/public_key.h"

namespace sallyport::pkcs11 {

class ModuleState;

// ModuleSpec names a PKCS #11 module: a shared library, by absolute path, so that no search path decides
// which code sees the PIN.
struct ModuleSpec {
  std::string path;
  std::string arguments;  // CK_C_INITIALIZE_ARGS.pReserved, for modules that want it (NSS softokn); empty for
                          // all others
  friend bool operator==(const ModuleSpec&, const ModuleSpec&) = default;
};

// TokenSelector names one token: by label, by serial number, or by both. Never by slot, which changes from
// start to start.
struct TokenSelector {
  ModuleSpec module;
  std::string label;   // without the padding of CK_TOKEN_INFO; empty: any
  std::string serial;  // likewise; label and serial are not both empty
};

// parse_token_uri reads an RFC 7512 URI such as "pkcs11:token=us-1;serial=…?module-path=/usr/lib/…/x.so".
// Label and serial number decide; manufacturer and model, which other tools print, are not looked at.
// Objects, slots and unknown attributes are refused, and so are pin-value and pin-source: a PIN does not
// belong into a URI. `default_module` is used when the URI has no module-path. Errors: kMalformed.
Result<TokenSelector> parse_token_uri(std::string_view uri, std::string_view default_module);

// TokenInfo is what a token says of itself; nothing in it is proved.
struct TokenInfo {
  std::string label, serial, manufacturer, model;
  bool initialised = false;
  bool has_user_pin = false;
  bool wants_login = false;    // CKF_LOGIN_REQUIRED
  bool own_pin_entry = false;  // CKF_PROTECTED_AUTHENTICATION_PATH: the PIN is typed on the device
  bool pin_low = false;        // a wrong PIN was entered since the last right one
  bool pin_final_try = false;
  bool pin_locked = false;
  bool write_protected = false;
};

// Module is a PKCS #11 module, loaded through p11-kit and initialised. Loading the same path again gives the
// same module, since C_Initialize and C_Finalize hold for the whole process; the last copy to go finalises
// it. Safe to use from any thread.
//
// Every call runs on a thread of its own with a deadline. A call that does not come back is left to itself,
// and its thread with it; when kMaxStuckCalls are out at once, further calls fail with kTokenTimeout and
// Next::kCallOperator until one returns.
//
// Programs fork before they load a module, or exec: a forked child shares the login of its parent. A call in
// a forked child fails with kInternal.
class Module {
 public:
  static constexpr std::size_t kMaxStuckCalls = 16;
  static constexpr std::chrono::milliseconds kDefaultDeadline{5000};

  // load. Errors: kTokenAbsent (no such file, not a module, refuses to start), kMalformed (path not absolute,
  // or the module is in use with other arguments), kConflict (the process initialised it by other means),
  // kTokenTimeout.
  static Result<Module> load(const ModuleSpec& spec, std::chrono::milliseconds deadline = kDefaultDeadline);

  const ModuleSpec& spec() const;

  // list_tokens lists the tokens that are present, slots without one left out. Errors: kToken…,
  // kTokenTimeout.
  Result<std::vector<TokenInfo>> list_tokens() const;

  // find_token: the one token that `selector` names. Errors: kTokenAbsent; kConflict when more than one has
  // that label.
  Result<TokenInfo> find_token(const TokenSelector& selector) const;

  // list_public_keys lists the P-256 and Ed25519 keys whose public half a token shows to whoever asks,
  // without a login: nothing proves that it has the private ones. Some tokens show none.
  //   Errors: as find_token; kToken….
  Result<std::vector<crypto::PublicKey>> list_public_keys(const TokenSelector& selector) const;

  // init_token takes the first token that is not initialised, or has none of the things initialised, and
  // gives it a label, a security officer's PIN and a user PIN (C_InitToken, C_InitPIN). Never touches an
  // initialised token.
  //   Errors: kConflict when a token has that label already; kTokenAbsent when no blank token is there;
  //   kMalformed (label is empty, longer than 32 bytes or not printable ASCII); kTokenPin (the token does not
  //   take a PIN of this form).
  Result<TokenInfo> init_token(std::string_view label, const SecretBytes& so_pin,
                               const SecretBytes& user_pin) const;

  // stuck_calls: how many calls have not come back. For /readyz and tests.
  std::size_t stuck_calls() const;

  const std::shared_ptr<ModuleState>& state() const { return state_; }

 private:
  explicit Module(std::shared_ptr<ModuleState> state) : state_(std::move(state)) {}
  std::shared_ptr<ModuleState> state_;
};

}  // namespace sallyport::pkcs11

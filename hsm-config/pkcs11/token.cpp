#include "hsm-config/pkcs11/token.h"

#include <openssl/rand.h>
#include <unistd.h>

#include "attestation/crypto/openssl_ptr.h"
#include "attestation/crypto/random.h"
#include "hsm-config/pkcs11/token_state.h"

namespace sallyport::pkcs11 {

namespace {

constexpr std::size_t kMaxNameBytes = 256;
constexpr std::size_t kMaxCertificateBytes = 16384;

Error key_error(std::string what) {
  return Error{Code::kUnavailable, Reason::kTokenKey, std::move(what)};
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) out += c >= 0x20 && c <= 0x7E && c != '"' ? c : '?';
  return out + "\"";
}

bool is_pin_refusal(CK_RV rv) {
  const Reason reason = next_step(rv).reason;
  return reason == Reason::kTokenPin || reason == Reason::kTokenLocked;
}

bool is_user_state(CK_STATE state) {
  return state == CKS_RO_USER_FUNCTIONS || state == CKS_RW_USER_FUNCTIONS;
}

}  // namespace

std::string_view key_spec_name(KeySpec spec) {
  switch (spec) {
    case KeySpec::kP256Sign:
      return "p256-sign";
    case KeySpec::kP256Derive:
      return "p256-derive";
    case KeySpec::kEd25519Sign:
      return "ed25519-sign";
  }
  SP_ASSERT(false);
}

// ---- TokenCore and Session

CK_RV TokenCore::login_as(CK_SESSION_HANDLE session, CK_USER_TYPE user) {
  if (const CK_RV before = refused_rv; before != CKR_OK) return before;
  // CK_UTF8CHAR_PTR is not const; an empty PIN means that it is typed on the device.
  auto* const bytes = pin.empty() ? nullptr : const_cast<CK_UTF8CHAR*>(std::as_const(pin).expose().data());
  const CK_RV rv = module->api()->C_Login(session, user, bytes, static_cast<CK_ULONG>(pin.size()));
  if (is_pin_refusal(rv)) refused_rv = rv;
  return rv;
}

Status Session::make_ready(SteadyTime until) {
  ModuleState& module = *core->module;
  if (open && generation == module.generation()) return Done{};
  open = false;
  objects.clear();
  if (const CK_RV before = core->refused_rv; before != CKR_OK)
    return error_of(before, "C_Login (not tried again)");
  generation = module.generation();
  Status status = open_session();
  if (status) status = log_in(until);
  if (status) return status;
  close();
  // A session that cannot be opened again means more than a lost session: the module begins anew at the next
  // call.
  const Error& error = status.error();
  const bool ours = error.reason == Reason::kTokenPin || error.reason == Reason::kTokenLocked ||
                    error.reason == Reason::kTokenTimeout || error.next == Next::kRetryLater;
  const bool dead = error.device_rc != 0 && next_step(error.device_rc).recovery == Recovery::kModule;
  if (dead || (core->opened && !ours)) module.report_broken(generation);
  return status;
}

Status Session::open_session() {
  SP_TRY(Slot slot, find_slot(api(), core->selector));
  info = std::move(slot.info);
  const CK_FLAGS flags = CKF_SERIAL_SESSION | (core->options.read_only ? 0 : CKF_RW_SESSION);
  const CK_RV rv = api()->C_OpenSession(slot.id, flags, nullptr, nullptr, &handle);
  if (rv != CKR_OK) return error_of(rv, "C_OpenSession");
  open = true;
  return Done{};
}

Status Session::log_in(SteadyTime until) {
  const Turn turn{core->login, until};
  if (!turn) {
    return Error{Code::kUnavailable, Reason::kTokenTimeout, "C_Login: another one has not come back",
                 Next::kRetryLater, 0};
  }
  CK_SESSION_INFO state{};
  CK_RV rv = api()->C_GetSessionInfo(handle, &state);
  if (rv != CKR_OK) return error_of(rv, "C_GetSessionInfo");
  if (!is_user_state(state.state)) {
    rv = core->login_as(handle, CKU_USER);
    if (rv == CKR_OK || (rv == CKR_USER_ALREADY_LOGGED_IN && core->opened)) return Done{};
    if (rv != CKR_USER_ALREADY_LOGGED_IN) {
      Error error = error_of(rv, describe_selector(core->selector) + ": C_Login");
      if (error.reason == Reason::kTokenPin && info.pin_locked) error.reason = Reason::kTokenLocked;
      return error;
    }
  }
  // Logged in already: by us, unless this is the first session, whose PIN would never have been tried.
  if (core->opened) return Done{};
  return Error{Code::kConflict, Reason::kConflict,
               describe_selector(core->selector) + " is open in this process already"};
}

void Session::close() {
  if (open) api()->C_CloseSession(handle);
  open = false;
  objects.clear();
}

void Session::judge(const Error& error) {
  if (error.device_rc == 0) return;
  switch (next_step(error.device_rc).recovery) {
    case Recovery::kNone:
      return;
    case Recovery::kSession:
      close();
      return;
    case Recovery::kModule:
      open = false;
      objects.clear();
      core->module->report_broken(generation);
      return;
  }
}

// ---- keys

namespace {

// The public key of a private object: from the public key object with its id (or, without id, its label),
// from the private object itself, or from a certificate with its id.
Result<std::optional<crypto::PublicKey>> read_public_key(Session& session, CK_OBJECT_HANDLE object,
                                                         CK_KEY_TYPE type, const Bytes& id,
                                                         const Bytes& label) {
  CK_FUNCTION_LIST* const api = session.api();
  using Found = std::optional<crypto::PublicKey>;
  const auto from_point = [&](CK_OBJECT_HANDLE holder) -> Result<Found> {
    SP_TRY(const auto params, get_attribute(api, session.handle, holder, CKA_EC_PARAMS, 64));
    SP_TRY(const auto point, get_attribute(api, session.handle, holder, CKA_EC_POINT, 256));
    if (!params || !point) return Found{};
    auto key = parse_ec_point(type, *params, *point);
    return key ? Found{*key} : Found{};
  };
  if (!id.empty() || !label.empty()) {
    Template wanted;
    wanted.number(CKA_CLASS, CKO_PUBLIC_KEY).number(CKA_KEY_TYPE, type);
    if (!id.empty()) wanted.add(CKA_ID, id);
    SP_TRY(auto holders, find_objects(api, session.handle, wanted));
    if ((holders.size() > 1 || id.empty()) && !label.empty()) {
      wanted.add(CKA_LABEL, label);
      SP_TRY(auto closer, find_objects(api, session.handle, wanted));
      holders = std::move(closer);
    }
    if (holders.size() == 1) {
      SP_TRY(Found key, from_point(holders.front()));
      if (key) return key;
    }
  }
  SP_TRY(Found own, from_point(object));
  if (own || id.empty()) return own;
  Template wanted;
  wanted.number(CKA_CLASS, CKO_CERTIFICATE).add(CKA_ID, id);
  SP_TRY(const auto certificates, find_objects(api, session.handle, wanted));
  if (certificates.size() != 1) return Found{};
  SP_TRY(const auto der,
         get_attribute(api, session.handle, certificates.front(), CKA_VALUE, kMaxCertificateBytes));
  if (!der) return Found{};
  const unsigned char* in = der->data();
  const crypto::X509Ptr certificate{d2i_X509(nullptr, &in, static_cast<long>(der->size()))};
  if (certificate == nullptr) {
    crypto::drain_openssl_errors();
    return Found{};
  }
  EVP_PKEY* const pkey = X509_get0_pubkey(certificate.get());
  const int size = pkey != nullptr ? i2d_PUBKEY(pkey, nullptr) : -1;
  if (size <= 0) {
    crypto::drain_openssl_errors();
    return Found{};
  }
  Bytes spki(static_cast<std::size_t>(size));
  unsigned char* out = spki.data();
  i2d_PUBKEY(pkey, &out);
  auto key = crypto::PublicKey::parse_spki(spki);
  return key ? Found{*key} : Found{};
}

}  // namespace

Result<std::optional<KeyHandle>> KeyFactory::read_key(Session& session, CK_OBJECT_HANDLE object) {
  CK_FUNCTION_LIST* const api = session.api();
  const CK_SESSION_HANDLE handle = session.handle;
  SP_TRY(const auto type, get_number(api, handle, object, CKA_KEY_TYPE));
  if (!type || (*type != CKK_EC && *type != CKK_EC_EDWARDS)) return std::optional<KeyHandle>{};
  SP_TRY(const auto label, get_attribute(api, handle, object, CKA_LABEL, kMaxNameBytes));
  SP_TRY(const auto id, get_attribute(api, handle, object, CKA_ID, kMaxNameBytes));
  SP_TRY(const auto public_key,
         read_public_key(session, object, *type, id.value_or(Bytes{}), label.value_or(Bytes{})));
  if (!public_key) return std::optional<KeyHandle>{};
  KeyHandle key{*public_key};
  if (label) key.label_ = std::string{as_text(*label)};
  if (id) key.id_ = *id;
  SP_TRY(const auto sign, get_flag(api, handle, object, CKA_SIGN));
  SP_TRY(const auto derive, get_flag(api, handle, object, CKA_DERIVE));
  SP_TRY(const auto sensitive, get_flag(api, handle, object, CKA_SENSITIVE));
  SP_TRY(const auto extractable, get_flag(api, handle, object, CKA_EXTRACTABLE));
  SP_TRY(const auto always, get_flag(api, handle, object, CKA_ALWAYS_AUTHENTICATE));
  key.may_sign_ = sign.value_or(false);
  key.may_derive_ = derive.value_or(false);
  key.sensitive_ = sensitive.value_or(false);
  key.extractable_ = extractable.value_or(true);
  key.always_authenticate_ = always.value_or(false);
  session.objects[key.public_key().spki()] = object;
  return std::optional<KeyHandle>{std::move(key)};
}

namespace {

Result<std::vector<KeyHandle>> read_keys(Session& session, std::string_view label) {
  Template wanted;
  wanted.number(CKA_CLASS, CKO_PRIVATE_KEY);
  if (!label.empty()) wanted.add(CKA_LABEL, label);
  SP_TRY(const auto objects, find_objects(session.api(), session.handle, wanted));
  std::vector<KeyHandle> keys;
  for (const CK_OBJECT_HANDLE object : objects) {
    SP_TRY(auto key, KeyFactory::read_key(session, object));
    if (key) keys.push_back(std::move(*key));
  }
  return keys;
}

}  // namespace

Result<CK_OBJECT_HANDLE> find_private_object(Session& session, const KeyHandle& key) {
  const Bytes& spki = key.public_key().spki();
  if (const auto known = session.objects.find(spki); known != session.objects.end()) return known->second;
  Template wanted;
  wanted.number(CKA_CLASS, CKO_PRIVATE_KEY);
  if (!key.id().empty()) wanted.add(CKA_ID, key.id());
  if (!key.label().empty()) wanted.add(CKA_LABEL, key.label());
  SP_TRY(const auto objects, find_objects(session.api(), session.handle, wanted));
  for (const CK_OBJECT_HANDLE object : objects) {
    SP_TRY(const auto found, KeyFactory::read_key(session, object));
    if (found && found->public_key() == key.public_key()) return object;
  }
  return key_error("key " + quoted(key.label()) + " is no longer on the token");
}

// ---- TokenState

TokenState::TokenState(std::shared_ptr<TokenCore> core) : core_(std::move(core)) {}

TokenState::~TokenState() {
  if (!core_->module->check_not_forked()) {
    new std::vector<Lane>{std::move(idle_)};  // these threads are the parent's
    return;
  }
  const auto deadline = core_->options.deadline;
  bool logged_out = false;
  for (const Lane& lane : idle_) {
    if (!logged_out) {
      logged_out = true;
      lane.worker->run(
          [session = lane.session, deadline] {
            if (!session->open) return;
            const auto inside = session->core->module->begin(std::chrono::steady_clock::now() + deadline);
            if (inside && session->generation == session->core->module->generation()) {
              session->api()->C_Logout(session->handle);
            }
          },
          deadline);
    }
    lane.worker->stop(deadline);
  }
}

Result<TokenState::Lane> TokenState::take() const {
  std::unique_lock lock{mutex_};
  const bool got = changed_.wait_for(lock, core_->options.deadline,
                                     [&] { return !idle_.empty() || live_ < core_->options.max_sessions; });
  if (!got) {
    return Error{Code::kUnavailable, Reason::kTokenTimeout,
                 describe_selector(core_->selector) + ": all sessions are busy", Next::kRetryLater, 0};
  }
  if (!idle_.empty()) {
    Lane lane = std::move(idle_.back());
    idle_.pop_back();
    return lane;
  }
  ++live_;
  Lane lane;
  lane.session = std::make_shared<Session>();
  lane.session->core = core_;
  lane.worker =
      Worker::start(core_->module->stuck(), [session = lane.session, deadline = core_->options.deadline] {
        if (!session->open) return;
        ModuleState& module = *session->core->module;
        const auto inside = module.begin(std::chrono::steady_clock::now() + deadline);
        if (inside && session->generation == module.generation()) session->close();
      });
  return lane;
}

void TokenState::give_back(const Lane& lane) const {
  const bool lost = lane.worker->is_abandoned();
  const std::lock_guard lock{mutex_};
  if (lost) {
    --live_;
  } else {
    idle_.push_back(lane);
  }
  changed_.notify_one();
}

// ---- Token

Result<Token> Token::open(const TokenSelector& selector, SecretBytes pin, const TokenOptions& options) {
  if (options.max_sessions == 0 || options.deadline <= Millis{0}) {
    return Error{Code::kMalformed, Reason::kUsage, "a token needs at least one session, and time"};
  }
  SP_TRY(auto module, ModuleState::acquire(selector.module, options.deadline));
  const auto core = std::make_shared<TokenCore>();
  core->module = std::move(module);
  core->selector = selector;
  core->options = options;
  core->pin = std::move(pin);
  auto state = std::make_shared<TokenState>(core);
  auto opened = state->run<TokenInfo>(describe_selector(selector),
                                      [](Session& session) -> Result<TokenInfo> { return session.info; });
  if (!opened) return std::move(opened).error();
  core->opened = true;
  state->info = std::move(opened).value();
  return Token{std::move(state)};
}

const TokenInfo& Token::info() const {
  return state_->info;
}

Result<KeyHandle> Token::find_key(std::string_view label) const {
  if (label.empty()) return Error{Code::kMalformed, Reason::kUsage, "a key's label is not empty"};
  return state_->run<KeyHandle>(
      "looking for a key", [label = std::string{label}](Session& s) -> Result<KeyHandle> {
        SP_TRY(std::vector<KeyHandle> keys, read_keys(s, label));
        if (keys.empty()) return key_error("key " + quoted(label) + " is not on the token");
        if (keys.size() > 1) {
          return Error{Code::kConflict, Reason::kTokenKey, "more than one key is called " + quoted(label)};
        }
        return std::move(keys.front());
      });
}

Result<KeyHandle> Token::find_key(const crypto::PublicKey& public_key) const {
  return state_->run<KeyHandle>("looking for a key", [public_key](Session& s) -> Result<KeyHandle> {
    SP_TRY(std::vector<KeyHandle> keys, read_keys(s, {}));
    for (KeyHandle& key : keys) {
      if (key.public_key() == public_key) return std::move(key);
    }
    return key_error("the key is not on the token");
  });
}

Result<std::vector<KeyHandle>> Token::list_keys() const {
  return state_->run<std::vector<KeyHandle>>("listing keys", [](Session& s) { return read_keys(s, {}); });
}

namespace {

// sign_raw is C_SignInit and C_Sign. When anything fails after C_SignInit the session goes, and the operation
// with it.
Result<crypto::Signature64> sign_raw(Session& session, const KeyHandle& key, CK_MECHANISM_TYPE type,
                                     Bytes& data) {
  SP_TRY(const CK_OBJECT_HANDLE object, find_private_object(session, key));
  CK_FUNCTION_LIST* const api = session.api();
  CK_MECHANISM mechanism{type, nullptr, 0};
  CK_RV rv = api->C_SignInit(session.handle, &mechanism, object);
  if (rv != CKR_OK) return error_of(rv, "C_SignInit");
  const auto fail = [&](Error error) {
    session.judge(error);
    session.close();
    return error;
  };
  if (key.always_authenticate()) {
    rv = session.core->login_as(session.handle, CKU_CONTEXT_SPECIFIC);
    if (rv != CKR_OK) return fail(error_of(rv, "C_Login (for one use of the key)"));
  }
  ByteArray<512> buffer;
  CK_ULONG size = buffer.size();
  rv = api->C_Sign(session.handle, data.data(), static_cast<CK_ULONG>(data.size()), buffer.data(), &size);
  if (rv != CKR_OK) return fail(error_of(rv, "C_Sign"));
  crypto::Signature64 signature;
  if (size != signature.size()) {
    return fail(Error{Code::kUnverified, Reason::kToken, "C_Sign: the signature is not 64 bytes"});
  }
  std::memcpy(signature.data(), buffer.data(), signature.size());
  return signature;
}

// Errors of our own check of a signature that the token made.
Error signed_wrongly(const KeyHandle& key, const Error& why) {
  return Error{Code::kUnverified, Reason::kToken,
               "the token signed wrongly with key " + quoted(key.label()) + ": " + why.what,
               Next::kCallOperator, 0};
}

Status check_key(const KeyHandle& key, crypto::KeyAlgorithm algorithm, bool use, std::string_view wanted) {
  if (key.public_key().algorithm() == algorithm && use) return Done{};
  return key_error("key " + quoted(key.label()) + " is not a key for " + std::string{wanted});
}

}  // namespace

Result<crypto::Signature64> Token::sign_p256(const KeyHandle& key, const Digest256& digest) const {
  SP_CHECK(check_key(key, crypto::KeyAlgorithm::kP256, key.may_sign(), "signing with P-256"));
  SP_TRY(const crypto::Signature64 raw,
         state_->run<crypto::Signature64>("signing", [key, digest](Session& session) {
           Bytes data = to_bytes(view(digest));
           return sign_raw(session, key, CKM_ECDSA, data);
         }));
  const crypto::Signature64 signature = crypto::to_low_s(raw);
  if (const Status ok = crypto::verify_p256(key.public_key(), digest, signature); !ok) {
    return signed_wrongly(key, ok.error());
  }
  return signature;
}

Result<crypto::Signature64> Token::sign_ed25519(const KeyHandle& key, ByteView message) const {
  SP_CHECK(check_key(key, crypto::KeyAlgorithm::kEd25519, key.may_sign(), "signing with Ed25519"));
  SP_TRY(const crypto::Signature64 signature,
         state_->run<crypto::Signature64>("signing", [key, data = to_bytes(message)](Session& session) {
           Bytes copy = data;
           return sign_raw(session, key, CKM_EDDSA, copy);
         }));
  if (const Status ok = crypto::verify_ed25519(key.public_key(), message, signature); !ok) {
    return signed_wrongly(key, ok.error());
  }
  return signature;
}

Result<SecretBytes> Token::ecdh(const KeyHandle& key, const crypto::PublicKey& peer) const {
  SP_CHECK(check_key(key, crypto::KeyAlgorithm::kP256, key.may_derive(), "key agreement with P-256"));
  if (peer.algorithm() != crypto::KeyAlgorithm::kP256) {
    return Error{Code::kMalformed, "key agreement: the peer's key is not P-256"};
  }
  return state_->run<SecretBytes>("key agreement", [key, peer](Session& session) -> Result<SecretBytes> {
    SP_TRY(const CK_OBJECT_HANDLE object, find_private_object(session, key));
    CK_FUNCTION_LIST* const api = session.api();
    Bytes point = peer.raw();
    CK_ECDH1_DERIVE_PARAMS params{CKD_NULL, 0, nullptr, static_cast<CK_ULONG>(point.size()), point.data()};
    CK_MECHANISM mechanism{CKM_ECDH1_DERIVE, &params, sizeof params};
    Template derived;
    derived.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_GENERIC_SECRET).flag(CKA_TOKEN, false);
    derived.flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, false).flag(CKA_EXTRACTABLE, true);
    derived.number(CKA_VALUE_LEN, 32);
    CK_OBJECT_HANDLE secret = 0;
    CK_RV rv =
        api->C_DeriveKey(session.handle, &mechanism, object, derived.raw().data(), derived.size(), &secret);
    if (rv != CKR_OK) return error_of(rv, "C_DeriveKey");
    SecretBytes value{32};
    CK_ATTRIBUTE attribute{CKA_VALUE, value.expose().data(), static_cast<CK_ULONG>(value.size())};
    rv = api->C_GetAttributeValue(session.handle, secret, &attribute, 1);
    const CK_RV destroyed = api->C_DestroyObject(session.handle, secret);
    if (destroyed != CKR_OK) session.close();  // a session's objects go with it
    if (rv != CKR_OK) return error_of(rv, "C_GetAttributeValue");
    if (attribute.ulValueLen != value.size()) {
      return Error{Code::kUnavailable, Reason::kToken, "C_DeriveKey: the secret is not 32 bytes"};
    }
    return value;
  });
}

Result<KeyHandle> Token::generate_key(std::string_view label, ByteView id, KeySpec spec,
                                      Ed25519Params ed25519_params) const {
  if (label.empty() || label.size() > kMaxNameBytes || id.size() > kMaxNameBytes) {
    return Error{Code::kMalformed, Reason::kUsage, "a key's label or id is empty or too long"};
  }
  Bytes key_id = to_bytes(id);
  if (key_id.empty()) {
    const auto random = crypto::random_array<16>();
    key_id.assign(random.begin(), random.end());
  }
  return state_->run<KeyHandle>(
      "making a key",
      [label = std::string{label}, key_id, spec, ed25519_params](Session& session) -> Result<KeyHandle> {
        CK_FUNCTION_LIST* const api = session.api();
        Template same;
        same.number(CKA_CLASS, CKO_PRIVATE_KEY).add(CKA_LABEL, label);
        SP_TRY(const auto before, find_objects(api, session.handle, same));
        if (!before.empty()) {
          return Error{Code::kConflict, Reason::kConflict, "a key is called " + quoted(label) + " already"};
        }
        SP_TRY(const KeyPair pair,
               generate_pair(session, label, key_id, spec, ed25519_params, KeyGuard::kLocked, true));
        SP_TRY(auto key, KeyFactory::read_key(session, pair.private_key));
        const bool sign = spec != KeySpec::kP256Derive;
        if (key && key->sensitive() && !key->extractable() && key->may_sign() == sign &&
            key->may_derive() == !sign) {
          return std::move(*key);
        }
        api->C_DestroyObject(session.handle, pair.private_key);
        api->C_DestroyObject(session.handle, pair.public_key);
        return Error{Code::kUnavailable, Reason::kHsmProbe,
                     "the token made key " + quoted(label) + " with other attributes than it was told",
                     Next::kCallOperator, 0};
      });
}

Result<KeyPair> generate_pair(Session& session, std::string_view label, ByteView id, KeySpec spec,
                              Ed25519Params ed25519_params, KeyGuard guard, bool on_token) {
  const bool edwards = spec == KeySpec::kEd25519Sign;
  const bool sign = spec != KeySpec::kP256Derive;
  CK_MECHANISM mechanism{edwards ? CKM_EC_EDWARDS_KEY_PAIR_GEN : CKM_EC_KEY_PAIR_GEN, nullptr, 0};
  Template pub;
  pub.number(CKA_CLASS, CKO_PUBLIC_KEY).number(CKA_KEY_TYPE, edwards ? CKK_EC_EDWARDS : CKK_EC);
  pub.flag(CKA_TOKEN, on_token).flag(CKA_PRIVATE, false).flag(CKA_VERIFY, sign);
  pub.add(CKA_LABEL, label).add(CKA_ID, id);
  if (!edwards) {
    pub.add(CKA_EC_PARAMS, kP256Params);
  } else if (ed25519_params == Ed25519Params::kOid) {
    pub.add(CKA_EC_PARAMS, kEd25519OidParams);
  } else {
    pub.add(CKA_EC_PARAMS, kEd25519PrintableParams);
  }
  Template priv;
  priv.number(CKA_CLASS, CKO_PRIVATE_KEY).number(CKA_KEY_TYPE, edwards ? CKK_EC_EDWARDS : CKK_EC);
  priv.flag(CKA_TOKEN, on_token).flag(CKA_PRIVATE, true);
  priv.flag(CKA_SENSITIVE, guard != KeyGuard::kOpen).flag(CKA_EXTRACTABLE, guard == KeyGuard::kOpen);
  priv.flag(CKA_SIGN, sign).flag(CKA_DERIVE, !sign).flag(CKA_DECRYPT, false).flag(CKA_UNWRAP, false);
  if (guard == KeyGuard::kLocked) priv.flag(CKA_MODIFIABLE, false).flag(CKA_COPYABLE, false);
  priv.add(CKA_LABEL, label).add(CKA_ID, id);
  KeyPair pair;
  const CK_RV rv =
      session.api()->C_GenerateKeyPair(session.handle, &mechanism, pub.raw().data(), pub.size(),
                                       priv.raw().data(), priv.size(), &pair.public_key, &pair.private_key);
  if (rv != CKR_OK) return error_of(rv, "C_GenerateKeyPair");
  return pair;
}

Status Token::destroy_key(const KeyHandle& key) const {
  return state_->run<Done>("destroying a key", [key](Session& session) -> Status {
    SP_TRY(const CK_OBJECT_HANDLE object, find_private_object(session, key));
    session.objects.erase(key.public_key().spki());
    CK_RV rv = session.api()->C_DestroyObject(session.handle, object);
    if (rv != CKR_OK) return error_of(rv, "C_DestroyObject");
    if (key.id().empty() && key.label().empty()) return Done{};  // no way to tell which public key was its
    Template wanted;
    wanted.number(CKA_CLASS, CKO_PUBLIC_KEY);
    if (!key.id().empty()) wanted.add(CKA_ID, key.id());
    if (!key.label().empty()) wanted.add(CKA_LABEL, key.label());
    SP_TRY(const auto publics, find_objects(session.api(), session.handle, wanted));
    for (const CK_OBJECT_HANDLE each : publics) {
      rv = session.api()->C_DestroyObject(session.handle, each);
      if (rv != CKR_OK) return error_of(rv, "C_DestroyObject");
    }
    return Done{};
  });
}

Status Token::check_alive() const {
  return state_->run<Done>("asking for the session's state", [](Session& session) -> Status {
    CK_SESSION_INFO state{};
    const CK_RV rv = session.api()->C_GetSessionInfo(session.handle, &state);
    if (rv != CKR_OK) return error_of(rv, "C_GetSessionInfo");
    if (!is_user_state(state.state)) return error_of(CKR_USER_NOT_LOGGED_IN, "C_GetSessionInfo");
    return Done{};
  });
}

}  // namespace sallyport::pkcs11

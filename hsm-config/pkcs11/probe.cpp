#include "hsm-config/pkcs11/probe.h"

#include <openssl/crypto.h>

#include "attestation/crypto/private_key.h"
#include "attestation/crypto/random.h"
#include "hsm-config/pkcs11/token_state.h"

namespace sallyport::pkcs11 {

namespace {

constexpr std::string_view kProbeLabel = "sallyport-probe";

// Probe holds one session and what it has tried. An attempt is given to judge() with the CK_RV it got: CKR_OK
// is the token's failure, a device that is gone is ours, and anything else is the refusal that was wanted.
class Probe {
 public:
  explicit Probe(Session& session) : session_(session), api_(session.api()) {}
  ~Probe() {
    for (const CK_OBJECT_HANDLE object : made_) api_->C_DestroyObject(session_.handle, object);
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  Status run(std::span<const KeyHandle> keys) {
    SP_CHECK(make_wrapping_key());
    SP_CHECK(probe_kind("p256-sign", KeySpec::kP256Sign));
    SP_CHECK(probe_kind("p256-derive", KeySpec::kP256Derive));
    if (has_mechanism(CKM_EC_EDWARDS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR)) {
      SP_CHECK(probe_kind("ed25519-sign", KeySpec::kEd25519Sign));
    } else {
      report.untried.push_back("ed25519-sign");
    }
    SP_CHECK(probe_import());
    for (const KeyHandle& key : keys) {
      SP_TRY(const CK_OBJECT_HANDLE object, find_private_object(session_, key));
      SP_CHECK(probe_key_in_use("key " + key.label(), key, object));
    }
    return Done{};
  }

  ProbeReport report;

 private:
  Status judge(CK_RV rv, const std::string& name) {
    if (rv == CKR_OK) {
      report.succeeded.push_back(name);
      return Done{};
    }
    const Recovery recovery = next_step(rv).recovery;
    const bool gone = recovery == Recovery::kModule || rv == CKR_SESSION_HANDLE_INVALID ||
                      rv == CKR_SESSION_CLOSED || rv == CKR_USER_NOT_LOGGED_IN;
    if (gone) return error_of(rv, "probe: " + name);
    report.refused.push_back(name);
    return Done{};
  }

  bool has_mechanism(CK_MECHANISM_TYPE type, CK_FLAGS flags) {
    CK_SESSION_INFO session{};
    CK_MECHANISM_INFO info{};
    return api_->C_GetSessionInfo(session_.handle, &session) == CKR_OK &&
           api_->C_GetMechanismInfo(session.slotID, type, &info) == CKR_OK && (info.flags & flags) == flags;
  }

  // read gives the CK_RV of reading CKA_VALUE; a length alone is not a value.
  CK_RV read(CK_OBJECT_HANDLE object) {
    ByteArray<512> value;
    CK_ATTRIBUTE attribute{CKA_VALUE, value.data(), value.size()};
    const CK_RV rv = api_->C_GetAttributeValue(session_.handle, object, &attribute, 1);
    OPENSSL_cleanse(value.data(), value.size());
    if (rv == CKR_OK && (attribute.ulValueLen == 0 || attribute.ulValueLen == ~CK_ULONG{0})) {
      return CKR_ATTRIBUTE_SENSITIVE;
    }
    return rv;
  }

  CK_RV wrap(CK_MECHANISM_TYPE type, CK_OBJECT_HANDLE object) {
    unsigned char iv[16] = {};
    CK_MECHANISM mechanism{type, nullptr, 0};
    if (type == CKM_AES_CBC_PAD) mechanism = {type, iv, sizeof iv};
    ByteArray<1024> wrapped;
    CK_ULONG size = wrapped.size();
    const CK_RV rv =
        api_->C_WrapKey(session_.handle, &mechanism, wrapping_key_, object, wrapped.data(), &size);
    OPENSSL_cleanse(wrapped.data(), wrapped.size());
    return rv;
  }

  CK_RV copy(CK_OBJECT_HANDLE object, Template changes) {
    changes.flag(CKA_TOKEN, false);
    CK_OBJECT_HANDLE made = 0;
    const CK_RV rv = api_->C_CopyObject(session_.handle, object, changes.raw().data(), changes.size(), &made);
    if (rv == CKR_OK) made_.push_back(made);
    return rv;
  }

  CK_RV set(CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, bool value) {
    Template changes;
    changes.flag(type, value);
    return api_->C_SetAttributeValue(session_.handle, object, changes.raw().data(), changes.size());
  }

  CK_RV sign(CK_OBJECT_HANDLE object, CK_MECHANISM_TYPE type) {
    CK_MECHANISM mechanism{type, nullptr, 0};
    CK_RV rv = api_->C_SignInit(session_.handle, &mechanism, object);
    if (rv != CKR_OK) return rv;
    ByteArray<32> digest{};
    ByteArray<512> signature;
    CK_ULONG size = signature.size();
    return api_->C_Sign(session_.handle, digest.data(), digest.size(), signature.data(), &size);
  }

  CK_RV derive(CK_OBJECT_HANDLE object) {
    Bytes point = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key().raw();
    CK_ECDH1_DERIVE_PARAMS params{CKD_NULL, 0, nullptr, static_cast<CK_ULONG>(point.size()), point.data()};
    CK_MECHANISM mechanism{CKM_ECDH1_DERIVE, &params, sizeof params};
    Template wanted;
    wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_GENERIC_SECRET).flag(CKA_TOKEN, false);
    wanted.flag(CKA_SENSITIVE, false).flag(CKA_EXTRACTABLE, true).number(CKA_VALUE_LEN, 32);
    CK_OBJECT_HANDLE made = 0;
    const CK_RV rv =
        api_->C_DeriveKey(session_.handle, &mechanism, object, wanted.raw().data(), wanted.size(), &made);
    if (rv == CKR_OK) made_.push_back(made);
    return rv;
  }

  // A refusal counts only when the same call works where it may: each wrapping mechanism is first tried on a
  // key that is extractable.
  Status make_wrapping_key() {
    CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
    Template wanted;
    wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES).number(CKA_VALUE_LEN, 32);
    wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_WRAP, true).flag(CKA_UNWRAP, true);
    wanted.flag(CKA_ENCRYPT, true).flag(CKA_DECRYPT, true).add(CKA_LABEL, kProbeLabel);
    if (api_->C_GenerateKey(session_.handle, &mechanism, wanted.raw().data(), wanted.size(),
                            &wrapping_key_) != CKR_OK) {
      report.untried.push_back("wrap");
      return Done{};
    }
    made_.push_back(wrapping_key_);
    SP_TRY(const CK_OBJECT_HANDLE open, make("p256-sign", KeySpec::kP256Sign, KeyGuard::kOpen));
    for (const auto& [type, name] :
         {std::pair{CKM_AES_KEY_WRAP_PAD, "aes-key-wrap-pad"}, std::pair{CKM_AES_KEY_WRAP, "aes-key-wrap"},
          std::pair{CKM_AES_CBC_PAD, "aes-cbc-pad"}}) {
      if (has_mechanism(type, CKF_WRAP) && wrap(type, open) == CKR_OK) wrappings_.emplace_back(type, name);
    }
    if (wrappings_.empty()) report.untried.push_back("wrap");
    if (read(open) != CKR_OK) report.untried.push_back("read-value has no control");
    return Done{};
  }

  Result<CK_OBJECT_HANDLE> make(const std::string& kind, KeySpec spec, KeyGuard guard) {
    const auto id = crypto::random_array<16>();
    auto pair = generate_pair(session_, kProbeLabel, id, spec, Ed25519Params::kOid, guard, false);
    if (!pair && spec == KeySpec::kEd25519Sign) {
      pair = generate_pair(session_, kProbeLabel, id, spec, Ed25519Params::kPrintableString, guard, false);
    }
    if (!pair) {
      Error error = pair.error();
      error.what = "probe: cannot make a session key " + kind + ": " + error.what;
      return error;
    }
    made_.push_back(pair->private_key);
    made_.push_back(pair->public_key);
    return pair->private_key;
  }

  Status probe_value(const std::string& name, CK_OBJECT_HANDLE key) {
    SP_CHECK(judge(read(key), name + ": read-value"));
    for (const auto& [type, mechanism] : wrappings_) {
      SP_CHECK(judge(wrap(type, key), name + ": wrap with " + mechanism));
    }
    Template extractable, bare;
    extractable.flag(CKA_EXTRACTABLE, true);
    bare.flag(CKA_SENSITIVE, false);
    SP_CHECK(judge(copy(key, extractable), name + ": copy-extractable"));
    return judge(copy(key, bare), name + ": copy-not-sensitive");
  }

  Status probe_use(const std::string& name, CK_OBJECT_HANDLE key, KeySpec spec) {
    if (spec == KeySpec::kP256Derive)
      return judge(sign(key, CKM_ECDSA), name + ": sign with a key to derive");
    if (spec == KeySpec::kP256Sign) return judge(derive(key), name + ": derive with a key to sign");
    return Done{};
  }

  Status probe_kind(const std::string& kind, KeySpec spec) {
    // Sensitive and not extractable must hold by themselves …
    SP_TRY(const CK_OBJECT_HANDLE guarded, make(kind, spec, KeyGuard::kGuarded));
    SP_CHECK(check_works(kind, guarded, spec));
    SP_CHECK(probe_value(kind, guarded));
    SP_CHECK(probe_use(kind, guarded, spec));
    SP_CHECK(judge(set(guarded, CKA_EXTRACTABLE, true), kind + ": make-extractable"));
    SP_CHECK(judge(set(guarded, CKA_SENSITIVE, false), kind + ": make-not-sensitive"));
    SP_TRY(const auto never, get_flag(api_, session_.handle, guarded, CKA_NEVER_EXTRACTABLE));
    if (never && !*never) report.succeeded.push_back(kind + ": no longer CKA_NEVER_EXTRACTABLE");
    // … and with our template nothing can be changed or copied at all.
    SP_TRY(const CK_OBJECT_HANDLE locked, make(kind, spec, KeyGuard::kLocked));
    SP_CHECK(check_works(kind, locked, spec));
    const bool sign = spec != KeySpec::kP256Derive;
    SP_CHECK(judge(set(locked, sign ? CKA_DERIVE : CKA_SIGN, true), kind + ": change-use"));
    Template use;
    use.flag(sign ? CKA_DERIVE : CKA_SIGN, true);
    SP_CHECK(judge(copy(locked, use), kind + ": copy-for-other-use"));
    SP_CHECK(probe_value(kind + ", locked", locked));
    return probe_use(kind + ", locked", locked, spec);
  }

  // The control of probe_use: the key does what it is for.
  Status check_works(const std::string& kind, CK_OBJECT_HANDLE key, KeySpec spec) {
    const CK_RV rv = spec == KeySpec::kP256Derive ? derive(key)
                     : spec == KeySpec::kP256Sign ? sign(key, CKM_ECDSA)
                                                  : sign(key, CKM_EDDSA);
    if (rv != CKR_OK) return error_of(rv, "probe: using a key " + kind);
    return Done{};
  }

  // A key from outside must not pass for one that was made inside.
  Status probe_import() {
    Template key;
    const auto value = crypto::random_array<32>();
    key.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_GENERIC_SECRET).flag(CKA_TOKEN, false);
    key.flag(CKA_SENSITIVE, true)
        .flag(CKA_EXTRACTABLE, false)
        .add(CKA_VALUE, value)
        .add(CKA_LABEL, kProbeLabel);
    CK_OBJECT_HANDLE made = 0;
    const CK_RV rv = api_->C_CreateObject(session_.handle, key.raw().data(), key.size(), &made);
    if (rv != CKR_OK) return judge(rv, "import");
    made_.push_back(made);
    for (const auto& [type, name] :
         {std::pair{CKA_LOCAL, "local"}, std::pair{CKA_ALWAYS_SENSITIVE, "always-sensitive"},
          std::pair{CKA_NEVER_EXTRACTABLE, "never-extractable"}}) {
      SP_TRY(const auto flag, get_flag(api_, session_.handle, made, type));
      const std::string what = std::string{"import: passes for "} + name;
      if (!flag) {
        report.untried.push_back(what);
      } else {
        (*flag ? report.succeeded : report.refused).push_back(what);
      }
    }
    return Done{};
  }

  // What can be tried on a key that is in use: nothing that would change it if it went through.
  Status probe_key_in_use(const std::string& name, const KeyHandle& key, CK_OBJECT_HANDLE object) {
    SP_CHECK(probe_value(name, object));
    if (key.public_key().algorithm() != crypto::KeyAlgorithm::kP256) return Done{};
    if (!key.may_derive()) SP_CHECK(judge(derive(object), name + ": derive with a key to sign"));
    if (!key.may_sign() && !key.always_authenticate()) {
      SP_CHECK(judge(sign(object, CKM_ECDSA), name + ": sign with a key to derive"));
    }
    return Done{};
  }

  Session& session_;
  CK_FUNCTION_LIST* const api_;
  CK_OBJECT_HANDLE wrapping_key_ = 0;
  std::vector<std::pair<CK_MECHANISM_TYPE, std::string>> wrappings_;
  std::vector<CK_OBJECT_HANDLE> made_;
};

}  // namespace

Result<ProbeReport> probe_token(const Token& token, std::span<const KeyHandle> keys) {
  std::vector<KeyHandle> in_use{keys.begin(), keys.end()};
  SP_TRY(ProbeReport report, token.state()->run<ProbeReport>(
                                 "probing the token", [in_use](Session& session) -> Result<ProbeReport> {
                                   Probe probe{session};
                                   SP_CHECK(probe.run(in_use));
                                   return probe.report;
                                 }));
  if (!token.info().wants_login) report.succeeded.push_back("use without login");
  if (report.succeeded.empty()) return report;
  std::string names;
  for (const std::string& name : report.succeeded) names += (names.empty() ? "" : "; ") + name;
  return Error{Code::kDenied, Reason::kHsmProbe, "the token allowed: " + names, Next::kCallOperator, 0};
}

}  // namespace sallyport::pkcs11

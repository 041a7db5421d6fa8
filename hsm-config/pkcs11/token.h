#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/secret_bytes.h"
#include "attestation/base/strong.h"
#include "attestation/crypto/public_key.h"
#include "hsm-config/pkcs11/module.h"

namespace sallyport::pkcs11 {

class TokenState;

// How a key may be used: one use per key.
enum class KeySpec : std::uint8_t { kP256Sign, kP256Derive, kEd25519Sign };
std::string_view key_spec_name(KeySpec spec);  // "p256-sign", "p256-derive", "ed25519-sign"

// How an HSM wants CKA_EC_PARAMS of an Ed25519 key: the OID 1.3.101.112, or PrintableString "edwards25519"
// (PKCS #11 3.0 §6.3.5 takes both; modules differ).
enum class Ed25519Params : std::uint8_t { kOid, kPrintableString };

// KeyHandle names a private key of a token together with its public key. It stays good over a reopened token:
// the object is looked up again, and must have the same public key.
class KeyHandle {
 public:
  const std::string& label() const { return label_; }
  const Bytes& id() const { return id_; }  // CKA_ID
  const crypto::PublicKey& public_key() const { return public_key_; }
  bool may_sign() const { return may_sign_; }
  bool may_derive() const { return may_derive_; }
  bool sensitive() const { return sensitive_; }  // as the token claims it: probe_token tries it
  bool extractable() const { return extractable_; }
  bool always_authenticate() const {
    return always_authenticate_;
  }  // the PIN is given again for each use (PIV signature key)

 private:
  friend struct KeyFactory;
  explicit KeyHandle(crypto::PublicKey key) : public_key_(std::move(key)) {}
  std::string label_;
  Bytes id_;
  crypto::PublicKey public_key_;
  bool may_sign_ = false, may_derive_ = false, sensitive_ = false, extractable_ = true,
       always_authenticate_ = false;
};

struct TokenOptions {
  std::size_t max_sessions = 1;  // and threads: one session is never used by two
  std::chrono::milliseconds deadline =
      Module::kDefaultDeadline;  // of one call; waiting for a free session may take as long again
  bool read_only = false;        // no new keys: for persons' tokens that are write-protected
};

// Token is one token, logged in: a pool of sessions, each with a thread of its own. Copies share it; the last
// one logs out. Safe to use from any thread.
//
// When a call does not return within the deadline, it is left to itself (kTokenTimeout, Next::kReopenSession)
// and the next call gets another session. When the device is gone the call fails (Next::kReopenSession), and
// the next call begins everything anew: C_Finalize, C_Initialize, login, look-up of keys. After the token
// refused the PIN no call tries it again, since that would lock the token.
class Token {
 public:
  // open logs in. A token is opened once per process; copies are shared.
  //   Errors: kTokenAbsent, kTokenPin, kTokenLocked, kTokenTimeout, kConflict (label not unique, or open
  //   already), kToken.
  static Result<Token> open(const TokenSelector& selector, SecretBytes pin, const TokenOptions& options = {});

  const TokenInfo& info() const;  // as read by open

  // find_key: the one private key with this label, or with this public key. The public key is rebuilt from
  // CKA_EC_POINT of the public key object with the same CKA_ID (or of the private key, or from a certificate
  // with that id).
  //   Errors: kTokenKey (absent, of an algorithm that is not supported, no public key found), kConflict (two
  //   have this label).
  Result<KeyHandle> find_key(std::string_view label) const;
  Result<KeyHandle> find_key(const crypto::PublicKey& public_key) const;

  // list_keys: all private keys whose public key can be rebuilt, P-256 and Ed25519.
  Result<std::vector<KeyHandle>> list_keys() const;

  // sign_p256 signs a digest with CKM_ECDSA; sign_ed25519 a message with CKM_EDDSA. The signature is verified
  // in software before it is handed out, and has low s.
  //   Errors: kTokenKey (not such a key, or gone), kTokenTimeout, kToken…; kUnverified when the token signed
  //   wrongly.
  Result<crypto::Signature64> sign_p256(const KeyHandle& key, const Digest256& digest) const;
  Result<crypto::Signature64> sign_ed25519(const KeyHandle& key, ByteView message) const;

  // ecdh gives the x-coordinate (32 bytes) of key × peer: CKM_ECDH1_DERIVE without KDF. The derived object is
  // extractable, in memory only, and destroyed before the call returns.
  Result<SecretBytes> ecdh(const KeyHandle& key, const crypto::PublicKey& peer) const;

  // generate_key makes a key pair on the token: private, sensitive, not extractable, not modifiable, not
  // copyable, for one use.
  //   Errors: kConflict (a key has this label already), kToken….
  Result<KeyHandle> generate_key(std::string_view label, ByteView id, KeySpec spec,
                                 Ed25519Params ed25519_params = Ed25519Params::kOid) const;

  // destroy_key removes the private and the public key object.
  Status destroy_key(const KeyHandle& key) const;

  // check_alive asks the token for its session's state: for /readyz. Proves that a session is logged in, no
  // more.
  Status check_alive() const;

  const std::shared_ptr<TokenState>& state() const { return state_; }

 private:
  explicit Token(std::shared_ptr<TokenState> state) : state_(std::move(state)) {}
  std::shared_ptr<TokenState> state_;
};

// open_person_token opens a person's token: one session, a deadline that leaves time to touch the device,
// read-only. Errors as Token::open, with a sentence in `what` that names the token and, when it is absent,
// the tokens that are there.
Result<Token> open_person_token(const TokenSelector& selector, SecretBytes pin);

// find_person_token tells, before a PIN is asked for, whether the token is there and not locked. Errors:
// kTokenAbsent (with the list of those that are), kTokenLocked, kConflict.
Result<TokenInfo> find_person_token(const TokenSelector& selector);

}  // namespace sallyport::pkcs11

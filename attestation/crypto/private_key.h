#pragma once

#include <memory>

#include "attestation/base/secret_bytes.h"
#include "attestation/crypto/public_key.h"

namespace sallyport::crypto {

// PrivateKey is a private key in software: a witness's key in a file, a gate's host key, keys of tests. Keys that open doors are
// in HSM, token or TPM and never become one of these.
class PrivateKey {
 public:
  static PrivateKey generate(KeyAlgorithm algorithm);  // kP256 or kEd25519
  // parse_pem takes an unencrypted PKCS #8 or OpenSSL PEM private key, P-256 or Ed25519. Errors: kMalformed.
  static Result<PrivateKey> parse_pem(ByteView pem);
  SecretBytes to_pem() const;  // PKCS #8

  const PublicKey& public_key() const { return public_key_; }
  // sign_p256 gives r‖s with low s over a digest; sign_ed25519 signs the message itself.
  Result<Signature64> sign_p256(const Digest256& digest) const;
  Result<Signature64> sign_ed25519(ByteView message) const;

 private:
  PrivateKey(std::shared_ptr<EVP_PKEY> pkey, PublicKey public_key)
      : pkey_(std::move(pkey)), public_key_(std::move(public_key)) {}
  static Result<PrivateKey> adopt(std::shared_ptr<EVP_PKEY> pkey);
  std::shared_ptr<EVP_PKEY> pkey_;
  PublicKey public_key_;
};

}  // namespace sallyport::crypto

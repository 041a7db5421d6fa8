#pragma once

#include <memory>
#include <string_view>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"

typedef struct evp_pkey_st EVP_PKEY;

namespace sallyport::crypto {

enum class KeyAlgorithm : std::uint8_t { kP256, kP384, kRsa2048, kEd25519 };
std::string_view algorithm_name(KeyAlgorithm algorithm);  // "p256", "p384", "rsa2048", "ed25519"

using Signature64 = ByteArray<64>;  // ECDSA P-256 r‖s (IEEE P1363), or Ed25519

// PublicKey is a public key with its algorithm; copies share one parsed OpenSSL key, which is safe to use from many threads.
// Equality is equality of the SubjectPublicKeyInfo.
class PublicKey {
 public:
  // parse_spki takes DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) of one of the algorithms above and refuses any other
  // encoding of the same key (compressed points, trailing bytes). RSA keys other than 2048 bit, exponent 65537: kMalformed.
  static Result<PublicKey> parse_spki(ByteView der);
  static Result<PublicKey> parse_spki_base64(std::string_view text);  // as in the policy document
  static Result<PublicKey> from_p256(ByteView x, ByteView y);         // 32 bytes each; the point is checked to be on the curve
  static Result<PublicKey> from_p256_point(ByteView sec1);            // 65 bytes, uncompressed (SEC 1 §2.3.3)
  static Result<PublicKey> from_p384(ByteView x, ByteView y);         // 48 bytes each
  static Result<PublicKey> from_rsa2048(ByteView modulus);            // 256 bytes, exponent 65537
  static Result<PublicKey> from_ed25519(ByteView raw);                // 32 bytes

  KeyAlgorithm algorithm() const { return parsed_->algorithm; }
  const Bytes& spki() const { return parsed_->spki; }
  const KeyId& id() const { return parsed_->id; }  // SHA-256 of spki()
  // raw() is the key without its algorithm: 65-byte point (P-256), 97-byte point (P-384), modulus (RSA), 32 bytes (Ed25519).
  const Bytes& raw() const { return parsed_->raw; }
  EVP_PKEY* pkey() const { return parsed_->pkey.get(); }

  friend bool operator==(const PublicKey& a, const PublicKey& b) { return a.spki() == b.spki(); }

 private:
  struct Parsed {
    KeyAlgorithm algorithm;
    Bytes spki, raw;
    KeyId id;
    std::shared_ptr<EVP_PKEY> pkey;
  };
  explicit PublicKey(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}
  static Result<PublicKey> adopt(std::shared_ptr<EVP_PKEY> pkey);
  std::shared_ptr<const Parsed> parsed_;
};

// verify_p256 checks an ECDSA P-256 signature r‖s over a SHA-256 digest (FIPS 186-5 §6.4.2).
//   Proves:         the holder of the private key signed this digest.
//   Does not prove: what was hashed, or when.
//   Errors:         kUnverified (also for r or s out of range); kMalformed when `key` is not P-256.
Status verify_p256(const PublicKey& key, const Digest256& digest, const Signature64& signature);

// verify_ed25519 checks an Ed25519 signature over `message` (RFC 8032 §5.1.7). Errors as above.
Status verify_ed25519(const PublicKey& key, ByteView message, const Signature64& signature);

// is_low_s tells whether s ≤ n/2, which is the one of the two valid forms that statements carry; to_low_s makes it so.
bool is_low_s(const Signature64& signature);
Signature64 to_low_s(const Signature64& signature);

}  // namespace sallyport::crypto

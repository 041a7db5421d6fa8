#pragma once

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"
#include "attestation/crypto/public_key.h"

namespace sallyport::evidence {

// TPM_ALG_ID values (TPM 2.0 Library Part 2 rev 1.59 §6.3), the only ones that are read.
enum class TpmAlg : std::uint16_t {
  kRsa = 0x0001,
  kAes = 0x0006,
  kSha256 = 0x000B,
  kSha384 = 0x000C,
  kNull = 0x0010,
  kRsaSsa = 0x0014,
  kRsaPss = 0x0016,
  kEcdsa = 0x0018,
  kEcc = 0x0023,
  kCfb = 0x0043,
};

// TPMA_OBJECT bits (Part 2 §8.3).
namespace attribute {
inline constexpr std::uint32_t kFixedTpm = 0x00000002;
inline constexpr std::uint32_t kStClear = 0x00000004;
inline constexpr std::uint32_t kFixedParent = 0x00000010;
inline constexpr std::uint32_t kSensitiveDataOrigin = 0x00000020;
inline constexpr std::uint32_t kUserWithAuth = 0x00000040;
inline constexpr std::uint32_t kAdminWithPolicy = 0x00000080;
inline constexpr std::uint32_t kNoDa = 0x00000400;
inline constexpr std::uint32_t kRestricted = 0x00010000;
inline constexpr std::uint32_t kDecrypt = 0x00020000;
inline constexpr std::uint32_t kSign = 0x00040000;
}  // namespace attribute

inline constexpr std::uint32_t kHandleNull = 0x40000007;         // TPM_RH_NULL
inline constexpr std::uint32_t kHandleEndorsement = 0x4000000B;  // TPM_RH_ENDORSEMENT

// A TPM2B_NAME's content: nameAlg ‖ digest, 34 bytes for SHA-256 and 50 for SHA-384.
using TpmName = Strong<Bytes, struct TpmNameTag>;
inline ByteView view(const TpmName& n) {
  return n.get();
}

// parse_name takes exactly a SHA-256 or SHA-384 Name. Errors: kMalformed.
Result<TpmName> parse_name(ByteView bytes);

enum class NameAlg : std::uint8_t { kSha256, kSha384 };
enum class Symmetric : std::uint8_t { kNull, kAes128Cfb, kAes256Cfb };
enum class Scheme : std::uint8_t { kNull, kEcdsaSha256, kRsaSsaSha256, kRsaPssSha256 };

// PublicTemplate is a TPMT_PUBLIC (Part 2 §12.2.4) without `unique`: what a key is for and who may use it.
struct PublicTemplate {
  crypto::KeyAlgorithm algorithm;  // kP256, kP384 or kRsa2048
  NameAlg name_alg = NameAlg::kSha256;
  std::uint32_t attributes = 0;
  Bytes auth_policy;  // empty, or one digest of name_alg
  Symmetric symmetric = Symmetric::kNull;
  Scheme scheme = Scheme::kNull;
  friend bool operator==(const PublicTemplate&, const PublicTemplate&) = default;
};

// PublicArea is a whole TPMT_PUBLIC.
struct PublicArea {
  PublicTemplate form;
  crypto::PublicKey key;
  friend bool operator==(const PublicArea&, const PublicArea&) = default;
};

// parse_public_area takes the bytes of one TPMT_PUBLIC (no TPM2B size in front) and nothing after it: ECC
// P-256 and P-384 with coordinates at full length and kdf NULL, RSA-2048 with exponent field 0 (65537); the
// point is checked to be on its curve.
//   Proves:         the bytes are the only encoding of the value returned: encode(value) == bytes.
//   Does not prove: that any TPM holds this key, or that its attributes are the ones wanted.   Errors:
//   kMalformed.
Result<PublicArea> parse_public_area(ByteView bytes);

// encode gives the TPMT_PUBLIC of a key.
Bytes encode(const PublicArea& area);

// encode_for_create gives the TPMT_PUBLIC that TPM2_CreatePrimary takes as inPublic: `unique` empty for ECC
// and RSA. (An EK of the TCG low-range templates has zeros there: encode_for_create_ek in templates.h.)
Bytes encode_for_create(const PublicTemplate& form);

// name_of is nameAlg ‖ H(TPMT_PUBLIC) (Part 1 rev 1.59 §16). Pure.
TpmName name_of(const PublicArea& area);
// name_of_encoded is the same for bytes that are known to be a TPMT_PUBLIC with this nameAlg.
TpmName name_of_encoded(ByteView tpmt_public, NameAlg alg);

// qualified_name_of_primary is nameAlg ‖ H(hierarchy handle ‖ Name) (Part 1 §16.5): what shows in which
// hierarchy a primary is.
TpmName qualified_name_of_primary(std::uint32_t hierarchy, const TpmName& name);

}  // namespace sallyport::evidence

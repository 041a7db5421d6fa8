#pragma once

#include <array>
#include <string_view>

#include "hsm-config/pkcs11/token.h"

namespace sallyport::pkcs11 {

// The keys of a region, by their labels on its token.
inline constexpr std::string_view kLogKeyLabel = "sallyport-log";
inline constexpr std::string_view kSshCaKeyLabel = "sallyport-ssh-ca";
inline constexpr std::string_view kX509CaKeyLabel = "sallyport-x509-ca";
inline constexpr std::string_view kLeaseKeyLabel = "sallyport-lease";
inline constexpr std::string_view kSecretsKeyLabel = "sallyport-secrets";

// The keys of a person: `sign` for statements, `agree` (optional) for shares of sealed secrets.
inline constexpr std::string_view kPersonSignLabel = "sallyport-sign";
inline constexpr std::string_view kPersonAgreeLabel = "sallyport-agree";

struct RegionKeys {
  KeyHandle log;      // Ed25519, or P-256 where the HSM has no EdDSA
  KeyHandle ssh_ca;   // P-256, sign
  KeyHandle x509_ca;  // P-256, sign
  KeyHandle lease;    // P-256, sign
  KeyHandle secrets;  // P-256, derive

  std::array<KeyHandle, 5> all() const { return {log, ssh_ca, x509_ca, lease, secrets}; }
};

// find_region_keys finds the five keys and checks algorithm, use and claimed attributes of each, and that no
// two are the same key. Errors: kTokenKey, naming the key and what is wrong with it.
Result<RegionKeys> find_region_keys(const Token& token);

// make_region_keys makes those of the five keys that are missing (in an empty token: all). Errors: as
// Token::generate_key.
Result<RegionKeys> make_region_keys(const Token& token, KeySpec log_spec = KeySpec::kEd25519Sign,
                                    Ed25519Params ed25519_params = Ed25519Params::kOid);

}  // namespace sallyport::pkcs11

#include "hsm-config/pkcs11/region_keys.h"

namespace sallyport::pkcs11 {

namespace {

Error wrong(std::string_view label, std::string_view what) {
  return Error{Code::kUnavailable, Reason::kTokenKey,
               "key \"" + std::string{label} + "\": " + std::string{what}, Next::kCallOperator, 0};
}

Result<KeyHandle> find_checked(const Token& token, std::string_view label, bool derive,
                               bool ed25519_too = false) {
  SP_TRY(KeyHandle key, token.find_key(label));
  const auto algorithm = key.public_key().algorithm();
  const bool allowed = algorithm == crypto::KeyAlgorithm::kP256 ||
                       (ed25519_too && algorithm == crypto::KeyAlgorithm::kEd25519);
  if (!allowed) return wrong(label, "is not of the algorithm it must have");
  if (key.may_derive() != derive || key.may_sign() == derive) {
    return wrong(label, derive ? "must be for key agreement only" : "must be for signing only");
  }
  if (!key.sensitive() || key.extractable()) return wrong(label, "must be sensitive and not extractable");
  return key;
}

}  // namespace

Result<RegionKeys> find_region_keys(const Token& token) {
  SP_TRY(const KeyHandle log, find_checked(token, kLogKeyLabel, false, true));
  SP_TRY(const KeyHandle ssh_ca, find_checked(token, kSshCaKeyLabel, false));
  SP_TRY(const KeyHandle x509_ca, find_checked(token, kX509CaKeyLabel, false));
  SP_TRY(const KeyHandle lease, find_checked(token, kLeaseKeyLabel, false));
  SP_TRY(const KeyHandle secrets, find_checked(token, kSecretsKeyLabel, true));
  const RegionKeys keys{log, ssh_ca, x509_ca, lease, secrets};
  const auto all = keys.all();
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = i + 1; j < all.size(); ++j) {
      if (all[i].public_key() == all[j].public_key()) {
        return wrong(all[i].label(), "is the same key as \"" + all[j].label() + "\"");
      }
    }
  }
  return keys;
}

Result<RegionKeys> make_region_keys(const Token& token, KeySpec log_spec, Ed25519Params ed25519_params) {
  const std::pair<std::string_view, KeySpec> wanted[] = {
      {kLogKeyLabel, log_spec},
      {kSshCaKeyLabel, KeySpec::kP256Sign},
      {kX509CaKeyLabel, KeySpec::kP256Sign},
      {kLeaseKeyLabel, KeySpec::kP256Sign},
      {kSecretsKeyLabel, KeySpec::kP256Derive},
  };
  SP_TRY(const auto present, token.list_keys());
  for (const auto& [label, spec] : wanted) {
    bool there = false;
    for (const KeyHandle& key : present) there = there || key.label() == label;
    if (!there) SP_CHECK(token.generate_key(label, {}, spec, ed25519_params));
  }
  return find_region_keys(token);
}

}  // namespace sallyport::pkcs11

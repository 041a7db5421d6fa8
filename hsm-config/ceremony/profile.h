#pragma once

#include <filesystem>
#include <string>

#include "hsm-config/pkcs11/token.h"

namespace sallyport::ceremony {

// Profile is what hsm-config/profiles says of one HSM model: where its module is, and which of the five keys
// it can hold.
struct Profile {
  std::string model = "no profile";
  std::string module;  // absolute path; empty: --module is needed
  pkcs11::KeySpec log = pkcs11::KeySpec::kEd25519Sign;
  pkcs11::Ed25519Params ed25519_params = pkcs11::Ed25519Params::kOid;
  bool holds_log = true, holds_ssh_ca = true, holds_x509_ca = true, holds_lease = true, holds_secrets = true;

  bool holds_all() const {
    return holds_log && holds_ssh_ca && holds_x509_ca && holds_lease && holds_secrets;
  }
};

// load_profile reads a profile (TOML, at most 16 KiB). Errors: kMalformed, also for an unknown or missing
// key.
Result<Profile> load_profile(const std::filesystem::path& path);
Result<Profile> parse_profile(std::string_view text);

}  // namespace sallyport::ceremony

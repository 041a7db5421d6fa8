#include "hsm-config/ceremony/profile.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "attestation/base/toml.h"

namespace sallyport::ceremony {

namespace {

constexpr std::size_t kMaxProfileBytes = 16384;

Error malformed(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, "profile: " + std::move(what)};
}


Result<std::string> text_at(const TomlNode& table, std::string_view key) {
  const TomlNode* value = table.find(key);
  if (value == nullptr || value->kind != TomlNode::Kind::kString)
    return malformed(std::string{key} + " must be a text");
  return value->text;
}

// "p256" or "none".
Result<bool> holds(const TomlNode& keys, std::string_view key) {
  SP_TRY(const std::string text, text_at(keys, key));
  if (text != "p256" && text != "none")
    return malformed("keys." + std::string{key} + " is \"p256\" or \"none\"");
  return text == "p256";
}

Status check_keys(const TomlNode& table, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : table.fields)
    if (std::find(known.begin(), known.end(), key) == known.end()) return malformed("unknown key " + key);
  return Done{};
}

}  // namespace

Result<Profile> parse_profile(std::string_view text) {
  if (text.size() > kMaxProfileBytes) return malformed("longer than 16 KiB");
  const auto parsed = parse_toml(text);
  if (!parsed.has_value()) return malformed(parsed.error().what);
  const TomlNode& table = *parsed;
  SP_CHECK(check_keys(table, {"model", "module", "ed25519_params", "keys"}));
  const TomlNode* const keys = table.find("keys");
  if (keys == nullptr || keys->kind != TomlNode::Kind::kTable) return malformed("[keys] is missing");
  SP_CHECK(check_keys(*keys, {"log", "ssh_ca", "x509_ca", "lease", "secrets"}));

  Profile profile;
  SP_TRY(profile.model, text_at(table, "model"));
  SP_TRY(profile.module, text_at(table, "module"));
  if (!profile.module.starts_with('/')) return malformed("module must be an absolute path");
  if (table.find("ed25519_params") != nullptr) {
    SP_TRY(const std::string params, text_at(table, "ed25519_params"));
    if (params != "oid" && params != "printable-string") {
      return malformed("ed25519_params is \"oid\" or \"printable-string\"");
    }
    profile.ed25519_params =
        params == "oid" ? pkcs11::Ed25519Params::kOid : pkcs11::Ed25519Params::kPrintableString;
  }
  SP_TRY(const std::string log, text_at(*keys, "log"));
  if (log != "ed25519" && log != "p256" && log != "none") {
    return malformed("keys.log is \"ed25519\", \"p256\" or \"none\"");
  }
  profile.log = log == "p256" ? pkcs11::KeySpec::kP256Sign : pkcs11::KeySpec::kEd25519Sign;
  profile.holds_log = log != "none";
  SP_TRY(profile.holds_ssh_ca, holds(*keys, "ssh_ca"));
  SP_TRY(profile.holds_x509_ca, holds(*keys, "x509_ca"));
  SP_TRY(profile.holds_lease, holds(*keys, "lease"));
  SP_TRY(profile.holds_secrets, holds(*keys, "secrets"));
  return profile;
}

Result<Profile> load_profile(const std::filesystem::path& path) {
  std::ifstream in{path, std::ios::binary};
  if (!in) return malformed("cannot open " + path.string());
  std::string text(kMaxProfileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return parse_profile(text);
}

}  // namespace sallyport::ceremony

#include "client/connection/settings.h"

#include <toml++/toml.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "attestation/program/files.h"

namespace sallyport::client {
namespace {

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string{} : std::string{value};
}

Result<std::string> read_whole(const std::filesystem::path& file) {
  SP_TRY(const Bytes bytes,
         program::read_whole(file,
                             "no " + file.string() + "; set up with: sallyport init URL --policy sha256:…"));
  return std::string{as_text(bytes)};
}

Status write_whole(const std::filesystem::path& file, std::string_view text) {
  const auto temporary = file.string() + ".new";
  {
    std::ofstream out{temporary, std::ios::binary | std::ios::trunc};
    std::error_code ignored;
    std::filesystem::permissions(
        temporary, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, ignored);
    out << text;
    out.close();
    if (!out) return Error{Code::kUnavailable, Reason::kStorage, "cannot write " + temporary};
  }
  std::error_code failed;
  std::filesystem::rename(temporary, file, failed);
  if (failed) return Error{Code::kUnavailable, Reason::kStorage, "cannot write " + file.string()};
  return Done{};
}

void override(std::string& value, const char* name) {
  if (std::string given = from_environment(name); !given.empty()) value = std::move(given);
}

}  // namespace

std::filesystem::path settings_directory() {
  if (const std::string given = from_environment("SALLYPORT_CONFIG"); !given.empty()) return given;
  if (const std::string base = from_environment("XDG_CONFIG_HOME"); !base.empty())
    return std::filesystem::path{base} / "sallyport";
  return std::filesystem::path{from_environment("HOME")} / ".config" / "sallyport";
}

Result<Settings> load_settings() {
  Settings settings;
  settings.directory = settings_directory();
  SP_TRY(const std::string trust, read_whole(settings.directory / "trust.toml"));
  SP_TRY(settings.anchor, follow::parse_trust_file(trust));
  SP_TRY(const std::string text, read_whole(settings.directory / "config.toml"));
  try {
    const toml::table table = toml::parse(text);
    for (const auto& [key, value] : table) {
      const auto string = value.value<std::string>();
      if (!string)
        return Error{Code::kMalformed, Reason::kUsage,
                     "config.toml: " + std::string{key.str()} + " is not text"};
      if (key == "url")
        settings.url = *string;
      else if (key == "tcti")
        settings.tcti = *string;
      else if (key == "token")
        settings.token = *string;
      else if (key == "person")
        settings.person = *string;
      else
        return Error{Code::kMalformed, Reason::kUsage, "config.toml: unknown key " + std::string{key.str()}};
    }
  } catch (const toml::parse_error& error) {
    return Error{Code::kMalformed, Reason::kUsage, "config.toml: " + std::string{error.description()}};
  }
  override(settings.url, "SALLYPORT_URL");
  override(settings.tcti, "SALLYPORT_TCTI");
  override(settings.token, "SALLYPORT_TOKEN");
  override(settings.person, "SALLYPORT_PERSON");
  return settings;
}

Status save_settings(const Settings& settings) {
  std::error_code failed;
  std::filesystem::create_directories(settings.directory, failed);
  std::filesystem::permissions(settings.directory, std::filesystem::perms::owner_all, failed);
  const auto trust_file = settings.directory / "trust.toml";
  if (const auto existing = read_whole(trust_file); existing.has_value()) {
    SP_TRY(const follow::TrustAnchor anchor, follow::parse_trust_file(*existing));
    if (anchor.origin != settings.anchor.origin || anchor.genesis_policy != settings.anchor.genesis_policy)
      return Error{
          Code::kConflict, Reason::kTrustAnchor,
          trust_file.string() + " pins another log; use another $SALLYPORT_CONFIG, or remove it on purpose"};
  }
  SP_CHECK(write_whole(trust_file, follow::format_trust_file(settings.anchor)));
  toml::table table;
  table.insert("url", settings.url);
  table.insert("tcti", settings.tcti);
  if (!settings.token.empty()) table.insert("token", settings.token);
  if (!settings.person.empty()) table.insert("person", settings.person);
  std::ostringstream text;
  text << table << "\n";
  return write_whole(settings.directory / "config.toml", text.str());
}

}  // namespace sallyport::client

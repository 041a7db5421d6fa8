#include "client/connection/settings.h"

#include <cstdlib>
#include <fstream>

#include "attestation/base/toml.h"
#include "attestation/program/files.h"

namespace sallyport::client {
namespace {

constexpr std::size_t kMaxConfigBytes = 64 * 1024;

Error bad_config(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, "config.toml: " + std::move(what)};
}

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

void override_all(Settings& settings) {
  override(settings.url, "SALLYPORT_URL");
  override(settings.tcti, "SALLYPORT_TCTI");
  override(settings.event_log, "SALLYPORT_EVENT_LOG");
  override(settings.ima_list, "SALLYPORT_IMA_LIST");
  override(settings.token, "SALLYPORT_TOKEN");
  override(settings.person, "SALLYPORT_PERSON");
}

}  // namespace

std::filesystem::path settings_directory() {
  if (const std::string given = from_environment("SALLYPORT_CONFIG"); !given.empty()) return given;
  if (const std::string base = from_environment("XDG_CONFIG_HOME"); !base.empty())
    return std::filesystem::path{base} / "sallyport";
  return std::filesystem::path{from_environment("HOME")} / ".config" / "sallyport";
}

Result<Config> parse_config(std::string_view text) {
  if (text.size() > kMaxConfigBytes) return bad_config("longer than 64 KiB");
  Config config;
  const auto table = parse_toml(text);
  if (!table.has_value()) return bad_config(table.error().what);
  for (const auto& [key, value] : table->fields) {
    if (value.kind != TomlNode::Kind::kString) return bad_config(key + " is not text");
    if (key == "url")
      config.url = value.text;
    else if (key == "tcti")
      config.tcti = value.text;
    else if (key == "event_log")
      config.event_log = value.text;
    else if (key == "ima_list")
      config.ima_list = value.text;
    else if (key == "token")
      config.token = value.text;
    else if (key == "person")
      config.person = value.text;
    else
      return bad_config("unknown key " + key);
  }
  return config;
}

std::string format_config(const Config& config) {
  std::string text;
  const auto add = [&](std::string_view key, const std::string& value) {
    text += std::string{key} + " = \"";
    for (const char c : value) {
      if (c == '\n') {
        text += "\\n";
        continue;
      }
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
    text += "\"\n";
  };
  add("url", config.url);
  add("tcti", config.tcti);
  if (config.event_log != Config{}.event_log) add("event_log", config.event_log);
  if (config.ima_list != Config{}.ima_list) add("ima_list", config.ima_list);
  if (!config.token.empty()) add("token", config.token);
  if (!config.person.empty()) add("person", config.person);
  return text;
}

Result<Settings> load_settings() {
  Settings settings;
  settings.directory = settings_directory();
  SP_TRY(const std::string trust, read_whole(settings.directory / "trust.toml"));
  SP_TRY(settings.anchor, follow::parse_trust_file(trust));
  SP_TRY(const std::string text, read_whole(settings.directory / "config.toml"));
  SP_TRY(Config config, parse_config(text));
  settings.url = std::move(config.url);
  settings.tcti = std::move(config.tcti);
  settings.event_log = std::move(config.event_log);
  settings.ima_list = std::move(config.ima_list);
  settings.token = std::move(config.token);
  settings.person = std::move(config.person);
  override_all(settings);
  return settings;
}

Settings environment_settings() {
  Settings settings;
  settings.directory = settings_directory();
  override_all(settings);
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
  return write_whole(settings.directory / "config.toml",
                     format_config({settings.url, settings.tcti, settings.event_log, settings.token,
                                    settings.person, settings.ima_list}));
}

}  // namespace sallyport::client

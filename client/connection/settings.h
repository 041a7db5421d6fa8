#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "attestation/follow/follower.h"

namespace sallyport::client {

// Settings is a person's configuration: config.toml and trust.toml in one directory, made by `sallyport
// init`. Environment variables override single values; none of them is a secret.
//   directory  $SALLYPORT_CONFIG, else $XDG_CONFIG_HOME/sallyport, else ~/.config/sallyport
//   url        $SALLYPORT_URL       of the broker
//   tcti       $SALLYPORT_TCTI      "device:/dev/tpmrm0", or "none" for a person without an attested machine
//   event_log  $SALLYPORT_EVENT_LOG the firmware's log of this boot, or "none"
//   ima_list   $SALLYPORT_IMA_LIST  what the kernel measured since, or "none"; read where the policy wants it
//   token      $SALLYPORT_TOKEN     RFC 7512 URI of the person's token,
//   "pkcs11:token=alice-yk1?module-path=/usr/lib/…" person     $SALLYPORT_PERSON    "alice@corp.example"
struct Settings {
  std::filesystem::path directory;
  follow::TrustAnchor anchor;
  std::string url;
  std::string tcti = "device:/dev/tpmrm0";
  std::string event_log = "/sys/kernel/security/tpm0/binary_bios_measurements";
  std::string ima_list = "/sys/kernel/security/ima/binary_runtime_measurements";
  std::string token;
  std::string person;

  std::filesystem::path follow_file() const { return directory / "follow.db"; }
};

std::filesystem::path settings_directory();

// parse_config takes the text of config.toml: url, tcti, event_log, ima_list, token and person, each text and
// each optional. Errors: kUsage.
struct Config {
  std::string url, tcti = Settings{}.tcti, event_log = Settings{}.event_log, token, person;
  std::string ima_list = Settings{}.ima_list;
  friend bool operator==(const Config&, const Config&) = default;
};
Result<Config> parse_config(std::string_view text);
// format_config writes what parse_config reads as the same.
std::string format_config(const Config& config);

// load_settings reads and checks. Errors: kUsage, saying what to run, when nothing was set up.
Result<Settings> load_settings();
// environment_settings gives the defaults and what the environment says: for who looks at a machine that is
// not set up.
Settings environment_settings();
// save_settings writes config.toml and trust.toml (mode 0600). An existing trust file of another anchor is
// never overwritten: kConflict.
Status save_settings(const Settings& settings);

}  // namespace sallyport::client

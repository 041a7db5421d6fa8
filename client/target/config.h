#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/result.h"

namespace sallyport::gate {

inline constexpr const char* kDefaultSocket = "/run/sallyport/gate.sock";
inline constexpr const char* kDefaultConfig = "/etc/sallyport/gate.toml";

// Config is gate.toml, a file of root's.
//   host = "db-7"                                    as in the policy, never what the machine calls itself
//   host_key = "/etc/ssh/ssh_host_ecdsa_key"         P-256 in PEM: one of the host's keys in the policy
//   url = "https://us.sallyport.corp.example"
//   trust = "/etc/sallyport/trust.toml"
//   state = "/var/lib/sallyport-gate"                root's own directory
//   sshd = ["/usr/sbin/sshd"]                        (default) whose children may ask for a session
//   sessions_without_cgroups = true                  (default: false) sessions although the service can make
//                                                    no cgroups; then what leaves a session may outlive it
//   [accounts]
//   dbadmin = "/bin/bash"                            account → the shell that it really gets
struct Config {
  std::string host;
  std::filesystem::path host_key, trust, state;
  std::string url;
  std::filesystem::path socket = kDefaultSocket;  // no key: the login shell knows no other
  std::vector<std::string> sshd = {"/usr/sbin/sshd"};
  bool sessions_without_cgroups = false;
  std::map<std::string, std::string> accounts;
};

// parse_config takes only known keys; paths and shells are absolute. Errors: kUsage, naming the key.
Result<Config> parse_config(std::string_view toml);

// load_config reads a file that nobody but its owner, root or ourselves, can write. Errors: kUsage.
Result<Config> load_config(const std::filesystem::path& file);

}  // namespace sallyport::gate

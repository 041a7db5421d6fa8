#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/result.h"

namespace sallyport::gate {

// SshdOptions are what `sshd -T` prints: option, in lower case, and its values in order.
using SshdOptions = std::map<std::string, std::vector<std::string>>;
Result<SshdOptions> parse_sshd_options(std::string_view text);

// check_sshd_options compares sshd's effective configuration with the one that accounts behind the gate need;
// `program` is the gate's own. Each line says what is wrong, and which line of sshd_config puts it right;
// none: all is well.
//   Does not prove: that no other service of the host lets people in.
std::vector<std::string> check_sshd_options(const SshdOptions& options, const std::filesystem::path& program);

// read_sshd_options runs `sshd -T -f FILE`, for `account` with -C where one is given. Errors: kUsage.
Result<SshdOptions> read_sshd_options(const std::filesystem::path& sshd, const std::filesystem::path& file,
                                      const std::string& account = {});

// check_match_blocks finds the Match blocks of `file`, and of what it includes, that read_sshd_options cannot
// see: those for certain addresses, hosts or ports.
std::vector<std::string> check_match_blocks(const std::filesystem::path& file);

// find_pam_service gives the name of sshd's PAM service; nothing when sshd does not use PAM.
std::optional<std::string> find_pam_service(const SshdOptions& options);

// check_pam reads the PAM service in `directory`, with what it includes, and tells what lets an account put
// variables of its own into the gate's login shell.
std::vector<std::string> check_pam(const std::filesystem::path& directory, const std::string& service);

}  // namespace sallyport::gate

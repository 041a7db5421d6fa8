#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/result.h"

namespace sallyport::gate {

// SshdOptions are what `sshd -T` prints: option, in lower case, and its values in order.
using SshdOptions = std::map<std::string, std::vector<std::string>>;
Result<SshdOptions> parse_sshd_options(std::string_view text);

// check_sshd_options compares sshd's effective configuration with the one that accounts behind the gate need.
// Each line says what is wrong, and which line of sshd_config puts it right; none: all is well.
//   Does not prove: that no other service of the host lets people in.
std::vector<std::string> check_sshd_options(const SshdOptions& options);

// read_sshd_options runs `sshd -T -f FILE`, for `account` with -C where one is given. Errors: kUsage.
Result<SshdOptions> read_sshd_options(const std::filesystem::path& sshd, const std::filesystem::path& file,
                                      const std::string& account = {});

}  // namespace sallyport::gate

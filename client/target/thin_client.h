#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport::gate {

// The thin clients of the service: they decide nothing, and run as whoever sshd runs them, in the program's
// own group. They take nothing from the environment but what sshd says of the login.

// close_to_others keeps every process of the same account from tracing this one. A program that is setgid is
// closed from its first instruction on; this holds for the others too.
void close_to_others();

// run_principals prints the one principal that `user` may log in with, or nothing. The answer is the exit
// code: 0 with a principal, 1 without. `certificate` is sshd's %k.
int run_principals(const std::filesystem::path& socket, const std::string& user,
                   std::string_view certificate);

// run_session hands this process's files to the service and stays until the session is over. The certificate
// comes from $SSH_USER_AUTH, the command from $SSH_ORIGINAL_COMMAND. The answer is the session's exit code.
int run_session(const std::filesystem::path& socket);

// parse_user_auth finds the certificate in the file that ExposeAuthInfo makes (sshd_config(5)): one line,
// "publickey <type> <base64>". Errors: kMalformed.
Result<Bytes> parse_user_auth(std::string_view text);

// parse_peer_address gives the first word of $SSH_CONNECTION; "" when it has none.
std::string parse_peer_address(std::string_view ssh_connection);

}  // namespace sallyport::gate

#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "attestation/base/result.h"
#include "attestation/base/secret_bytes.h"

namespace sallyport::pkcs11 {

inline constexpr std::size_t kMaxPinBytes = 255;

// PinSource says where a PIN comes from: --pin-fd N, --pin-file PATH (a systemd credential is such a file),
// else the terminal. There is no way to pass a PIN in argv or in the environment.
struct PinSource {
  std::optional<int> fd;
  std::optional<std::filesystem::path> file;
};

// read_pin reads a PIN from its source; `prompt` is what is shown when it is the terminal ("PIN for us-1: ").
// One line, 1 to 255 bytes, without control characters; the end of the line is not part of it.
//   Errors: kUsage (both sources given, no terminal, empty, too long), kTokenPin never.
Result<SecretBytes> read_pin(const PinSource& source, const std::string& prompt);

// read_pin_fd reads one line byte by byte, so that two PINs can come down one pipe.
Result<SecretBytes> read_pin_fd(int fd);

// read_pin_file wants a regular file that only its owner can read (mode 0600 or less), owned by this user or
// by root.
Result<SecretBytes> read_pin_file(const std::filesystem::path& path);

// prompt_pin asks on /dev/tty with echo off; echo is put back when a signal ends the prompt.
Result<SecretBytes> prompt_pin(const std::string& prompt);

}  // namespace sallyport::pkcs11

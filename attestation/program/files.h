#pragma once

#include <filesystem>
#include <string>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/secret_bytes.h"

namespace sallyport::program {

// read_whole reads a file that whoever starts the program names, and trusts for its size. Errors: kUsage,
// with `otherwise`, or "cannot open FILE" when that is empty.
Result<Bytes> read_whole(const std::filesystem::path& file, std::string otherwise = {});

// read_secret_file reads a file that holds a key: regular, at most `max_bytes`, its owner's alone. A file of
// root's that we cannot write may be open to our group (a systemd credential is one). Nothing of it is left
// in memory but the answer. Errors: kUnavailable/kStorage (cannot be read), kDenied/kStorage (open to
// others), kMalformed (too long).
Result<SecretBytes> read_secret_file(const std::filesystem::path& file, std::size_t max_bytes = 16 * 1024);

// make_state_directory makes the directory where a program keeps its state, for its user alone (0700), or
// checks the one that is there; open_state_directory only checks. Others who can write there are refused:
// what is in it may not be what we put there. Others who can only look are shut out, and told so on stderr.
// Errors: kUnavailable/kStorage, kDenied/kStorage.
Status make_state_directory(const std::filesystem::path& directory);
Status open_state_directory(const std::filesystem::path& directory);

// write_port_file writes the port that a program was given to a file that others wait for: they see it whole
// or not at all. Errors: kStorage.
Status write_port_file(const std::filesystem::path& file, std::uint16_t port);

}  // namespace sallyport::program

#pragma once

#include <filesystem>
#include <string>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport::program {

// read_whole reads a file that whoever starts the program names, and trusts for its size. Errors: kUsage,
// with `otherwise`, or "cannot open FILE" when that is empty.
Result<Bytes> read_whole(const std::filesystem::path& file, std::string otherwise = {});

// write_port_file writes the port that a program was given to a file that others wait for: they see it whole
// or not at all. Errors: kStorage.
Status write_port_file(const std::filesystem::path& file, std::uint16_t port);

}  // namespace sallyport::program

#pragma once

#include <filesystem>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport::client {

// write_new_file writes a file that does not exist yet (mode 0600), and never through a link. Errors: kFile
// (there is something of this name), kStorage.
Status write_new_file(const std::filesystem::path& path, ByteView bytes);

// replace_file writes a file anew (mode 0600): whoever opens it finds the old one or the new one, whole, also
// after a loss of power. Errors: kStorage.
Status replace_file(const std::filesystem::path& path, ByteView bytes);

// read_whole_file reads a file or pipe of at most `max_bytes`. Errors: kFile, with the path and the system's
// reason.
Result<Bytes> read_whole_file(const std::filesystem::path& path, std::size_t max_bytes);

}  // namespace sallyport::client

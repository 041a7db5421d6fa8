#pragma once

#include <filesystem>

#include "attestation/crypto/private_key.h"

namespace sallyport::witness {

// create_key_file makes an Ed25519 key and writes it, on disk when this returns, to a new file of mode 0600.
//   Errors: kConflict (the file exists), kUnavailable/kStorage.
Result<crypto::PrivateKey> create_key_file(const std::filesystem::path& path);

// load_key_file reads it again and refuses one that others than its owner could read or replace: a regular
// file, of our user or of root, no bit for group and others.
//   Errors: kUnavailable/kStorage (missing, unreadable), kDenied/kStorage (mode or owner), kMalformed (no
//   Ed25519 key).
Result<crypto::PrivateKey> load_key_file(const std::filesystem::path& path);

}  // namespace sallyport::witness

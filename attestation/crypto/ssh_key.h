#pragma once

#include <string>

#include "attestation/crypto/public_key.h"

namespace sallyport::crypto {

// The wire form of public keys in SSH (RFC 4253 §6.6, RFC 5656 §3.1 for P-256, RFC 8709 §4 for Ed25519).
// Other algorithms: kMalformed.
Result<Bytes> ssh_key_blob(const PublicKey& key);
Result<PublicKey> parse_ssh_key_blob(ByteView blob);

// ssh_fingerprint gives "SHA256:…" of a key blob, without padding, as ssh-keygen -l prints it. It is defined
// for any blob.
std::string ssh_fingerprint(ByteView blob);

// ssh_signature_blob gives the wire form of a P-256 signature (RFC 5656 §3.1.2); parse_ssh_signature_blob
// takes only that.
Bytes ssh_signature_blob(const Signature64& signature);
Result<Signature64> parse_ssh_signature_blob(ByteView blob);

}  // namespace sallyport::crypto

#pragma once

#include <span>
#include <string>

#include "attestation/crypto/verified_signatures.h"
#include "attestation/record/dsse.h"

namespace sallyport::record {

// ssh_fingerprint gives "SHA256:<43 characters>" of a P-256 or Ed25519 key as `ssh-keygen -l` prints it (RFC
// 5656 §3.1, RFC 8709 §4). Errors: kMalformed for other algorithms.
Result<std::string> ssh_fingerprint(const crypto::PublicKey& key);

// recover_signer gives the P-256 key with this id that made this signature (SEC 1 §4.1.6). Errors:
// kUnverified when there is none. Costs four signature checks.   Pure.
Result<crypto::PublicKey> recover_signer(const Digest256& digest, const crypto::Signature64& signature,
                                         const KeyId& id);

// verify_host_signature finds the key that signed a statement of a host, whose policy knows its keys by
// fingerprint only: the key of which keyid is the SHA-256. It is `learned`, if that is not null; or `known`
// has it; or it is recovered from the signature.
//   Proves:         the statement has one signature, by a P-256 key whose fingerprint is among
//   `fingerprints`. Errors:         kUnverified.   Pure.
Result<crypto::PublicKey> verify_host_signature(const Envelope& envelope,
                                                std::span<const std::string> fingerprints,
                                                const crypto::PublicKey* learned = nullptr,
                                                const crypto::VerifiedSignatures* known = nullptr);

}  // namespace sallyport::record

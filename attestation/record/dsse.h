#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/result.h"
#include "attestation/crypto/verified_signatures.h"

// DSSE (github.com/secure-systems-lab/dsse, envelope.md and protocol.md v1.0.2), narrowed so that one value
// has one byte string: the envelope is canonical JSON (canonical_json.h) of
//   {"payload":base64,"payloadType":text,"signatures":[{"keyid":hex of KeyId,"sig":base64 of r‖s}, …]}
// with signatures in ascending order of keyid, one a key, ECDSA P-256 over SHA-256(PAE) with low s.

namespace sallyport::record {

inline constexpr std::size_t kMaxEnvelopeBytes = 64 * 1024;
inline constexpr std::size_t kMaxClosingEnvelopeBytes =
    512 * 1024;                                             // policy and enrolment, which embed others
inline constexpr std::size_t kMaxPayloadBytes = 45 * 1024;  // of a signed statement
inline constexpr std::size_t kMaxPayloadTypeBytes = 128;
inline constexpr std::size_t kMaxSignatures = 16;

struct EnvelopeSignature {
  KeyId key;
  crypto::Signature64 signature{};
};

struct Envelope {
  std::string type;  // the DSSE payloadType
  Bytes payload;     // the statement, exactly as signed
  std::vector<EnvelopeSignature> signatures;
};

// pae is DSSE's pre-authentication encoding: "DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload.
Bytes pae(std::string_view type, ByteView payload);

// statement_digest is the name of a statement everywhere ("request digest", event id): SHA-256 of its PAE,
// which does not depend on the signatures.
Digest256 statement_digest(std::string_view type, ByteView payload);
inline Digest256 statement_digest(const Envelope& e) {
  return statement_digest(e.type, e.payload);
}

// parse_envelope takes only the one byte string of an envelope: encode_envelope(result) == bytes.
//   Proves:         form only: canonical JSON and base64, caps, keyids ascending, each signature 64 bytes
//                   with low s.
//   Does not prove: any signature, or anything of the payload. An envelope may have no signature at all.
//   Errors:         kMalformed.
Result<Envelope> parse_envelope(ByteView bytes, std::size_t max_bytes = kMaxEnvelopeBytes);
Bytes encode_envelope(const Envelope& envelope);

// SignatureCheck is one signature verification that can be made on any thread.
struct SignatureCheck {
  crypto::PublicKey key;
  Digest256 digest;
  crypto::Signature64 signature{};
};
// verify_check: `known`, here and below, holds signatures that were verified ahead. Errors: kUnverified when
// the signature does not hold or has high s; kMalformed when the key is not P-256.
Status verify_check(const SignatureCheck& check, const crypto::VerifiedSignatures* known = nullptr);

// find_signature gives the signature that `key` is said to have made. Errors: kUnverified when the envelope
// carries none.
Result<SignatureCheck> find_signature(const Envelope& envelope, const crypto::PublicKey& key);

// verify_signature checks that `key` signed this statement.
//   Does not prove: that `key` was allowed to, or that no one else signed too (verify_signers).
Status verify_signature(const Envelope& envelope, const crypto::PublicKey& key,
                        const crypto::VerifiedSignatures* known = nullptr);

// verify_signers checks that the envelope is signed by exactly `keys`, each once and each signature valid; an
// empty list means that the statement is unsigned. Errors: kUnverified.
Status verify_signers(const Envelope& envelope, const std::vector<crypto::PublicKey>& keys,
                      const crypto::VerifiedSignatures* known = nullptr);

// SignDigest signs a SHA-256 digest as r‖s: a token, an HSM, a key in a file. High s is accepted and
// normalised.
using SignDigest = std::function<Result<crypto::Signature64>(const Digest256&)>;

// sign_statement makes the envelope of a statement with one signature, which it verifies with `key` before it
// is believed. Errors: those of `sign`; kUnverified when what the signer returned does not verify; kMalformed
// for a statement over its caps.
Result<Envelope> sign_statement(std::string type, Bytes payload, const crypto::PublicKey& key,
                                const SignDigest& sign);

// add_signature adds a further signer to an envelope. Errors: as above; kConflict when `key` has signed
// already.
Result<Envelope> add_signature(Envelope envelope, const crypto::PublicKey& key, const SignDigest& sign);

}  // namespace sallyport::record

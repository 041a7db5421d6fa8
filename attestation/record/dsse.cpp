#include "attestation/record/dsse.h"

#include <algorithm>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/canonical_json.h"

namespace sallyport::record {
namespace {

Result<EnvelopeSignature> parse_signature(const json::Value& value) {
  SP_TRY(json::Fields in, json::Fields::of(value, "envelope.signatures[]"));
  EnvelopeSignature out;
  SP_TRY(const Digest256 keyid, in.digest("keyid"));
  SP_TRY(const Bytes signature, in.base64("sig", out.signature.size(), out.signature.size()));
  SP_CHECK(in.finish());
  out.key = KeyId{keyid};
  std::copy(signature.begin(), signature.end(), out.signature.begin());
  if (!crypto::is_low_s(out.signature)) return in.wrong("sig", "high s");
  return out;
}

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

Status check_type(const Envelope& e) {
  if (e.type.empty() || e.type.size() > kMaxPayloadTypeBytes || !printable(e.type))
    return Error{Code::kMalformed, "payload type of impossible form"};
  return Done{};
}

}  // namespace

Bytes pae(std::string_view type, ByteView payload) {
  Writer out;
  out.raw("DSSEv1 ").raw(std::to_string(type.size())).raw(" ").raw(type).raw(" ");
  out.raw(std::to_string(payload.size())).raw(" ").raw(payload);
  return std::move(out).take();
}

Digest256 statement_digest(std::string_view type, ByteView payload) {
  return crypto::sha256(pae(type, payload));
}

Result<Envelope> parse_envelope(ByteView bytes, std::size_t max_bytes) {
  SP_TRY(const json::Value value, json::parse_canonical(bytes, max_bytes));
  SP_TRY(json::Fields in, json::Fields::of(value, "envelope"));
  Envelope out;
  SP_TRY(out.payload, in.base64("payload", max_bytes));
  SP_TRY(out.type, in.text("payloadType", kMaxPayloadTypeBytes));
  SP_TRY(const auto* signatures, in.array("signatures", kMaxSignatures));
  SP_CHECK(in.finish());
  for (const json::Value& item : *signatures) {
    SP_TRY(EnvelopeSignature signature, parse_signature(item));
    if (!out.signatures.empty() && out.signatures.back().key >= signature.key)
      return in.wrong("signatures", "keyids not ascending, each once");
    out.signatures.push_back(signature);
  }
  SP_CHECK(check_type(out));
  return out;
}

Bytes encode_envelope(const Envelope& envelope) {
  json::Value::Array signatures;
  for (const EnvelopeSignature& s : envelope.signatures)
    signatures.push_back(json::Value::object({{"keyid", to_hex(s.key)}, {"sig", to_base64(s.signature)}}));
  return json::encode_canonical(json::Value::object({{"payload", to_base64(envelope.payload)},
                                                     {"payloadType", envelope.type},
                                                     {"signatures", std::move(signatures)}}));
}

Status verify_check(const SignatureCheck& check, const crypto::VerifiedSignatures* known) {
  if (!crypto::is_low_s(check.signature)) return Error{Code::kUnverified, "signature with high s"};
  return crypto::verify_signature(check.key, view(check.digest), check.signature, known);
}

Result<SignatureCheck> find_signature(const Envelope& envelope, const crypto::PublicKey& key) {
  for (const EnvelopeSignature& s : envelope.signatures)
    if (s.key == key.id()) return SignatureCheck{key, statement_digest(envelope), s.signature};
  return Error{Code::kUnverified, "not signed by the expected key"};
}

Status verify_signature(const Envelope& envelope, const crypto::PublicKey& key,
                        const crypto::VerifiedSignatures* known) {
  SP_TRY(const SignatureCheck check, find_signature(envelope, key));
  return verify_check(check, known);
}

Status verify_signers(const Envelope& envelope, const std::vector<crypto::PublicKey>& keys,
                      const crypto::VerifiedSignatures* known) {
  std::vector<KeyId> expected;
  for (const auto& key : keys) expected.push_back(key.id());
  std::sort(expected.begin(), expected.end());
  if (std::adjacent_find(expected.begin(), expected.end()) != expected.end())
    return Error{Code::kUnverified, "an expected signer is named twice"};
  const bool same =
      std::equal(expected.begin(), expected.end(), envelope.signatures.begin(), envelope.signatures.end(),
                 [](const KeyId& id, const EnvelopeSignature& s) { return id == s.key; });
  if (!same) return Error{Code::kUnverified, "signed by others than the expected keys"};
  for (const auto& key : keys) SP_CHECK(verify_signature(envelope, key, known));
  return Done{};
}

Result<Envelope> add_signature(Envelope envelope, const crypto::PublicKey& key, const SignDigest& sign) {
  const auto place = std::lower_bound(envelope.signatures.begin(), envelope.signatures.end(), key.id(),
                                      [](const EnvelopeSignature& s, const KeyId& id) { return s.key < id; });
  if (place != envelope.signatures.end() && place->key == key.id())
    return Error{Code::kConflict, "this key has signed already"};
  if (envelope.signatures.size() >= kMaxSignatures) return Error{Code::kMalformed, "too many signatures"};
  const Digest256 digest = statement_digest(envelope);
  SP_TRY(const crypto::Signature64 raw, sign(digest));
  const crypto::Signature64 signature = crypto::to_low_s(raw);
  SP_CHECK(crypto::verify_p256(key, digest, signature));
  envelope.signatures.insert(place, EnvelopeSignature{key.id(), signature});
  return envelope;
}

Result<Envelope> sign_statement(std::string type, Bytes payload, const crypto::PublicKey& key,
                                const SignDigest& sign) {
  Envelope envelope{std::move(type), std::move(payload), {}};
  if (envelope.payload.empty() || envelope.payload.size() > kMaxPayloadBytes)
    return Error{Code::kMalformed, "statement of impossible size"};
  SP_CHECK(check_type(envelope));
  return add_signature(std::move(envelope), key, sign);
}

}  // namespace sallyport::record

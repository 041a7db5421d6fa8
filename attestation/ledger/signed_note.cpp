#include "attestation/ledger/signed_note.h"

#include <algorithm>
#include <optional>

#include "attestation/base/base64.h"
#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"
#include "attestation/ledger/cosignature.h"
#include "attestation/ledger/lines.h"

namespace sallyport::ledger {
namespace {

constexpr std::string_view kDash = "\xE2\x80\x94 ";  // U+2014, space

Error not_signed(std::string what) {
  return Error{Code::kUnverified, Reason::kLogCheckpoint, std::move(what)};
}

bool is_of(const SignatureLine& line, const NoteKey& key) {
  return line.key_id == key.id() && line.name == key.name();
}

Result<SignatureLine> parse_signature_line(std::string_view text) {
  if (!text.starts_with(kDash)) return Error{Code::kMalformed, "not a signature line"};
  text.remove_prefix(kDash.size());
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos) return Error{Code::kMalformed, "not a signature line"};
  SignatureLine line;
  line.name = text.substr(0, space);
  SP_CHECK(check_note_name(line.name));
  SP_TRY(const Bytes bytes, parse_base64(text.substr(space + 1), kMaxNoteSignatureBytes));
  Reader in{bytes};
  SP_TRY(line.key_id, in.array<4>());
  if (in.remaining() == 0) return Error{Code::kMalformed, "a signature line without a signature"};
  line.signature = to_bytes(in.rest());
  return line;
}

Result<crypto::Signature64> raw_signature(ByteView bytes) {
  crypto::Signature64 out;
  if (bytes.size() != out.size()) return not_signed("a signature of another size");
  std::memcpy(out.data(), bytes.data(), out.size());
  return out;
}

crypto::EcdsaSigPtr ecdsa_of(const crypto::Signature64& signature) {
  crypto::EcdsaSigPtr parts{ECDSA_SIG_new()};
  SP_ASSERT(parts != nullptr);
  BIGNUM* r = BN_bin2bn(signature.data(), 32, nullptr);
  BIGNUM* s = BN_bin2bn(signature.data() + 32, 32, nullptr);
  SP_ASSERT(r != nullptr && s != nullptr && ECDSA_SIG_set0(parts.get(), r, s) == 1);
  return parts;
}

Bytes to_der(const ECDSA_SIG& parts) {
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(&parts, &der);
  SP_ASSERT(size > 0);
  Bytes out{der, der + size};
  OPENSSL_free(der);
  return out;
}

// from_der takes the one DER form of r and s, each in 1 … 2^256 − 1.
Result<crypto::Signature64> from_der(ByteView der) {
  if (der.size() > 72) return not_signed("an ECDSA signature that is too long");
  const unsigned char* at = der.data();
  const crypto::EcdsaSigPtr parts{d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()))};
  if (!parts) {
    crypto::drain_openssl_errors();
    return not_signed("an ECDSA signature that is not DER");
  }
  crypto::Signature64 out;
  const BIGNUM* r = ECDSA_SIG_get0_r(parts.get());
  const BIGNUM* s = ECDSA_SIG_get0_s(parts.get());
  if (BN_is_negative(r) != 0 || BN_is_negative(s) != 0 || BN_bn2binpad(r, out.data(), 32) != 32 ||
      BN_bn2binpad(s, out.data() + 32, 32) != 32 || !equal(to_der(*parts), der)) {
    crypto::drain_openssl_errors();
    return not_signed("an ECDSA signature that is not canonical");
  }
  return out;
}

}  // namespace

Result<ClaimedNote> parse_note(std::string_view note) {
  if (note.size() > kMaxNoteBytes) return Error{Code::kMalformed, "a note that is too long"};
  SP_CHECK(check_text(note));
  const std::size_t blank = note.rfind("\n\n");
  if (blank == std::string_view::npos) return Error{Code::kMalformed, "a note without signatures"};
  ClaimedNote claimed;
  claimed.text = note.substr(0, blank + 1);
  SP_TRY(claimed.signatures, parse_signature_lines(note.substr(blank + 2)));
  return claimed;
}

std::string encode_note(const ClaimedNote& note) {
  std::string out = note.text + "\n";
  for (const SignatureLine& line : note.signatures) out += encode_signature_line(line);
  return out;
}

Result<std::vector<SignatureLine>> parse_signature_lines(std::string_view text) {
  if (text.size() > kMaxNoteBytes) return Error{Code::kMalformed, "signature lines that are too long"};
  std::vector<SignatureLine> lines;
  for (LineReader in{text}; !in.at_end();) {
    if (lines.size() == kMaxNoteSignatures) return Error{Code::kMalformed, "too many signature lines"};
    SP_TRY(const std::string_view line, in.line());
    SP_TRY(SignatureLine parsed, parse_signature_line(line));
    lines.push_back(std::move(parsed));
  }
  if (lines.empty()) return Error{Code::kMalformed, "a note without signatures"};
  return lines;
}

std::string encode_signature_line(const SignatureLine& line) {
  Bytes bytes{line.key_id.begin(), line.key_id.end()};
  bytes.insert(bytes.end(), line.signature.begin(), line.signature.end());
  return std::string{kDash} + line.name + " " + to_base64(bytes) + "\n";
}

Digest256 note_digest(std::string_view text) {
  return crypto::sha256(as_bytes(text));
}

Result<LineClaim> claim_of_line(const SignatureLine& line, const NoteKey& key, std::string_view text) {
  if (!is_of(line, key)) return not_signed("a signature line of another key");
  LineClaim claim;
  switch (key.type()) {
    case NoteKeyType::kEd25519: {
      claim.message = to_bytes(as_bytes(text));
      SP_TRY(claim.signature, raw_signature(line.signature));
      return claim;
    }
    case NoteKeyType::kEcdsa: {
      claim.message = to_bytes(view(crypto::sha256(as_bytes(text))));
      SP_TRY(claim.signature, from_der(line.signature));
      return claim;
    }
    case NoteKeyType::kCosignature: {
      Reader in{line.signature};
      if (in.remaining() != 8 + 64) return not_signed("a cosignature of another size");
      SP_TRY(const std::uint64_t seconds, in.u64());
      if (seconds == 0 || seconds > kMaxUnixSeconds)
        return not_signed("a cosignature without a possible time");
      claim.time = UnixSeconds{seconds};
      claim.message = to_bytes(as_bytes(cosignature_message(claim.time, text)));
      SP_TRY(claim.signature, raw_signature(in.rest()));
      return claim;
    }
  }
  return not_signed("a key of no known type");
}

Result<UnixSeconds> verify_signature_line(const SignatureLine& line, const NoteKey& key,
                                          std::string_view text, const crypto::VerifiedSignatures* known) {
  SP_TRY(const LineClaim claim, claim_of_line(line, key, text));
  const Status verified = crypto::verify_signature(key.key(), claim.message, claim.signature, known);
  if (!verified) return not_signed("the signature of " + key.name() + " does not verify");
  return claim.time;
}

Result<std::vector<VerifiedLine>> verify_note(const ClaimedNote& note, std::span<const NoteKey> keys,
                                              const crypto::VerifiedSignatures* known) {
  std::vector<VerifiedLine> verified;
  std::vector<bool> seen(keys.size(), false);
  for (std::size_t line = 0; line < note.signatures.size(); ++line) {
    for (std::size_t key = 0; key < keys.size(); ++key) {
      if (!is_of(note.signatures[line], keys[key])) continue;
      if (seen[key]) return not_signed("two signatures of " + keys[key].name());
      seen[key] = true;
      SP_TRY(const UnixSeconds time,
             verify_signature_line(note.signatures[line], keys[key], note.text, known));
      verified.push_back({key, line, time});
    }
  }
  if (verified.empty()) return not_signed("no signature of a known key");
  return verified;
}

SignatureLine make_signature_line(const NoteKey& key, const crypto::Signature64& signature) {
  SP_ASSERT(key.type() != NoteKeyType::kCosignature);
  if (key.type() == NoteKeyType::kEcdsa) return {key.name(), key.id(), to_der(*ecdsa_of(signature))};
  return {key.name(), key.id(), Bytes{signature.begin(), signature.end()}};
}

Result<SignatureLine> sign_note_line(const crypto::PrivateKey& key, std::string_view name,
                                     std::string_view text) {
  SP_TRY(const NoteKey named, NoteKey::make(std::string{name}, NoteKeyType::kEd25519, key.public_key()));
  SP_CHECK(check_text(text));
  if (!text.ends_with('\n')) return Error{Code::kMalformed, "a note text without its final newline"};
  SP_TRY(const crypto::Signature64 signature, key.sign_ed25519(as_bytes(text)));
  return make_signature_line(named, signature);
}

Result<std::string> add_signature_lines(std::string_view note, std::span<const SignatureLine> lines) {
  std::string out{note};
  for (const SignatureLine& line : lines) out += encode_signature_line(line);
  SP_TRY(const ClaimedNote parsed, parse_note(out));
  const auto& all = parsed.signatures;
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (all[i].key_id == all[j].key_id && all[i].name == all[j].name)
        return Error{Code::kMalformed, "two signature lines of one key"};
  return out;
}

}  // namespace sallyport::ledger

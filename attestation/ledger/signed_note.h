#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/crypto/private_key.h"
#include "attestation/crypto/verified_signatures.h"
#include "attestation/ledger/vkey.h"

namespace sallyport::ledger {

inline constexpr std::size_t kMaxNoteBytes = 256 * 1024;
inline constexpr std::size_t kMaxNoteSignatures = 100;
inline constexpr std::size_t kMaxNoteSignatureBytes = 8 * 1024;  // of one line, decoded

using UnixSeconds =
    Strong<std::uint64_t, struct UnixSecondsTag>;  // s since 1970-01-01T00:00:00Z, as cosignatures carry it
inline constexpr std::uint64_t kMaxUnixSeconds =
    253'402'300'799;  // 9999-12-31: none later is believed, none overflows as ms

// SignatureLine is `— name base64(key id ‖ signature)`.
struct SignatureLine {
  std::string name;
  NoteKeyId key_id{};
  Bytes signature;

  friend bool operator==(const SignatureLine&, const SignatureLine&) = default;
};

// ClaimedNote is a note whose signatures nobody has checked.
struct ClaimedNote {
  std::string text;  // with its final newline: what is signed
  std::vector<SignatureLine> signatures;

  friend bool operator==(const ClaimedNote&, const ClaimedNote&) = default;
};

// parse_note takes a signed note (C2SP signed-note): UTF-8 without control characters, split at the last
// empty line, canonical base64, 1 to 100 signature lines. What parses encodes back to the same bytes. Errors:
// kMalformed.
Result<ClaimedNote> parse_note(std::string_view note);
std::string encode_note(const ClaimedNote& note);

// Signature lines alone, each with its newline: the answer of a witness. At least one. Errors: kMalformed.
Result<std::vector<SignatureLine>> parse_signature_lines(std::string_view text);
std::string encode_signature_line(const SignatureLine& line);

// note_digest is SHA-256 of a note's text, without its signatures: the same for every set of cosignatures.
Digest256 note_digest(std::string_view text);

// verify_signature_line checks the signature of a line made by `key` over a note text, and gives the
// cosignature's time (0 for keys that sign no time).
//   Proves:         the holder of `key` signed this text; for a cosignature, also the time.
//   Does not prove: that the time is true, or anything about other texts.
//   Errors:         kUnverified, log/checkpoint; also for the name or id of another key, and for time 0.
// Here and below, `known` holds signatures that were verified ahead.
Result<UnixSeconds> verify_signature_line(const SignatureLine& line, const NoteKey& key,
                                          std::string_view text,
                                          const crypto::VerifiedSignatures* known = nullptr);

// LineClaim is what a signature line claims: that its key signed this message (for an ECDSA key, its
// SHA-256).
struct LineClaim {
  Bytes message;
  crypto::Signature64 signature{};
  UnixSeconds time;  // of a cosignature; else 0
};
// claim_of_line reads a line of `key` without verifying it. Errors: those of verify_signature_line but one.
Result<LineClaim> claim_of_line(const SignatureLine& line, const NoteKey& key, std::string_view text);

struct VerifiedLine {
  std::size_t key;   // index into the keys that were given
  std::size_t line;  // index into ClaimedNote::signatures
  UnixSeconds time;  // of a cosignature; else 0
};

// verify_note checks every line whose (name, key id) is that of one of `keys`, and ignores the others.
//   Proves:         each key named in the result signed note.text. At least one did.
//   Errors:         kUnverified, log/checkpoint: no line of a known key, one that does not verify, or two of
//   the same key.
Result<std::vector<VerifiedLine>> verify_note(const ClaimedNote& note, std::span<const NoteKey> keys,
                                              const crypto::VerifiedSignatures* known = nullptr);

// make_signature_line frames a signature that was made elsewhere (an HSM): Ed25519 as it is, or ECDSA r‖s,
// which becomes DER. Not for cosignatures (cosignature.h). It does not check the signature: who calls it has
// verified it, or calls verify_signature_line before the line is used.
SignatureLine make_signature_line(const NoteKey& key, const crypto::Signature64& signature);

// sign_note_line signs a note text in software, with an Ed25519 key (type 0x01). Errors: kMalformed (key,
// name, text).
Result<SignatureLine> sign_note_line(const crypto::PrivateKey& key, std::string_view name,
                                     std::string_view text);

// add_signature_lines gives the note with these lines after its own. Errors: kMalformed, also for a (name,
// key id) that occurs twice.
Result<std::string> add_signature_lines(std::string_view note, std::span<const SignatureLine> lines);

}  // namespace sallyport::ledger

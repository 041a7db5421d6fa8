#pragma once

#include "attestation/ledger/signed_note.h"

// cosignature/v1 (C2SP tlog-cosignature, Ed25519): "at this time, this was the largest consistent tree of
// this log that I saw". It does not commit to the witness's name: one key is one witness.
namespace sallyport::ledger {

// cosignature_message gives the bytes that a witness signs: two lines of its own, then the whole note text.
std::string cosignature_message(UnixSeconds time, std::string_view text);

// make_cosignature_line frames a signature over cosignature_message that was made elsewhere; unchecked, see
// make_signature_line.
SignatureLine make_cosignature_line(const NoteKey& witness, UnixSeconds time,
                                    const crypto::Signature64& signature);

// cosign_line signs in software. Errors: kMalformed (key, name, time 0 or after the year 9999).
Result<SignatureLine> cosign_line(const crypto::PrivateKey& key, std::string_view name, UnixSeconds time,
                                  std::string_view text);

// verify_cosignature is verify_signature_line for a cosignature key (vkey type 0x04). Errors: kUnverified,
// log/checkpoint.
Result<UnixSeconds> verify_cosignature(const SignatureLine& line, const NoteKey& witness,
                                       std::string_view text);

}  // namespace sallyport::ledger

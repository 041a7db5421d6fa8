#include "attestation/ledger/cosignature.h"

#include "attestation/base/writer.h"
#include "attestation/ledger/lines.h"

namespace sallyport::ledger {

std::string cosignature_message(UnixSeconds time, std::string_view text) {
  return "cosignature/v1\ntime " + std::to_string(time.get()) + "\n" + std::string{text};
}

SignatureLine make_cosignature_line(const NoteKey& witness, UnixSeconds time,
                                    const crypto::Signature64& signature) {
  SP_ASSERT(witness.type() == NoteKeyType::kCosignature);
  Writer out;
  out.u64(time.get()).raw(ByteView{signature});
  return {witness.name(), witness.id(), std::move(out).take()};
}

Result<SignatureLine> cosign_line(const crypto::PrivateKey& key, std::string_view name, UnixSeconds time,
                                  std::string_view text) {
  SP_TRY(const NoteKey named, NoteKey::make(std::string{name}, NoteKeyType::kCosignature, key.public_key()));
  SP_CHECK(check_text(text));
  if (!text.ends_with('\n')) return Error{Code::kMalformed, "a note text without its final newline"};
  if (time.get() == 0 || time.get() > kMaxUnixSeconds)
    return Error{Code::kMalformed, "a cosignature without a possible time"};
  SP_TRY(const crypto::Signature64 signature, key.sign_ed25519(as_bytes(cosignature_message(time, text))));
  return make_cosignature_line(named, time, signature);
}

Result<UnixSeconds> verify_cosignature(const SignatureLine& line, const NoteKey& witness,
                                       std::string_view text) {
  if (witness.type() != NoteKeyType::kCosignature)
    return Error{Code::kUnverified, Reason::kLogCheckpoint, "a key that is not a witness's"};
  return verify_signature_line(line, witness, text);
}

}  // namespace sallyport::ledger

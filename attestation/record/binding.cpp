#include "attestation/record/binding.h"

#include "attestation/crypto/digest.h"

namespace sallyport::record {

Digest256 note_text_digest(const Origin& origin, TreeSize size, const Digest256& root) {
  return crypto::sha256(as_bytes(ledger::checkpoint_text({.origin = origin, .size = size, .root = root})));
}

Digest256 no_note() {
  return crypto::sha256(ByteView{});
}

Nonce activation_nonce(ByteView note) {
  static constexpr char kLabel[] = "sallyport/activate/v1";
  const ByteView label{reinterpret_cast<const std::uint8_t*>(kLabel),
                       sizeof kLabel};  // with its final zero byte
  return Nonce{crypto::sha256({label, note}).get()};
}

evidence::Binding activation_binding(const Origin& origin, const CaseId& case_id, const Digest256& request,
                                     ByteView note, const ledger::Checkpoint& checkpoint) {
  return {.purpose = evidence::Purpose::kActivate,
          .origin = origin,
          .case_id = case_id,
          .request = request,
          .nonce = activation_nonce(note),
          .note = note_text_digest(checkpoint.origin, checkpoint.size, checkpoint.root)};
}

}  // namespace sallyport::record

#include "attestation/crypto/verified_signatures.h"

#include <cstring>

#include "attestation/crypto/digest.h"

namespace sallyport::crypto {
namespace {

// Key id and signature have one size each, so no two verifications share an id.
Digest256 id_of(const PublicKey& key, ByteView message, const Signature64& signature) {
  return sha256({view(key.id()), signature, message});
}

}  // namespace

Status VerifiedSignatures::verify(const PublicKey& key, ByteView message, const Signature64& signature) {
  SP_CHECK(verify_signature(key, message, signature, nullptr));
  signatures_.insert(id_of(key, message, signature));
  return Done{};
}

bool VerifiedSignatures::holds(const PublicKey& key, ByteView message, const Signature64& signature) const {
  return signatures_.contains(id_of(key, message, signature));
}

bool VerifiedSignatures::take_over(const VerifiedSignatures& other, const PublicKey& key, ByteView message,
                                   const Signature64& signature) {
  const Digest256 id = id_of(key, message, signature);
  if (!other.signatures_.contains(id)) return false;
  signatures_.insert(id);
  return true;
}

void VerifiedSignatures::add(const VerifiedSignatures& other) {
  signatures_.insert(other.signatures_.begin(), other.signatures_.end());
  keys_.insert(other.keys_.begin(), other.keys_.end());
}

void VerifiedSignatures::add_key(const PublicKey& key) {
  keys_.emplace(key.id(), key);
}

const PublicKey* VerifiedSignatures::find_key(const KeyId& id) const {
  const auto found = keys_.find(id);
  return found == keys_.end() ? nullptr : &found->second;
}

Status verify_signature(const PublicKey& key, ByteView message, const Signature64& signature,
                        const VerifiedSignatures* known) {
  if (known != nullptr && known->holds(key, message, signature)) return Done{};
  if (key.algorithm() == KeyAlgorithm::kEd25519) return verify_ed25519(key, message, signature);
  ByteArray<32> digest{};
  if (message.size() != digest.size()) return Error{Code::kMalformed, "not a SHA-256 digest"};
  std::memcpy(digest.data(), message.data(), digest.size());
  return verify_p256(key, Digest256{digest}, signature);
}

}  // namespace sallyport::crypto

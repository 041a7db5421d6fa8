#pragma once

#include <map>
#include <set>

#include "attestation/crypto/public_key.h"

namespace sallyport::crypto {

// VerifiedSignatures holds signatures that were verified and found valid. Whoever has more than one core, or
// a lock to wait for, verifies into it ahead of the judgement; the judgement asks it before it verifies
// again. Since nothing gets in unverified, it changes how long a judgement takes and never what it is.
// Memory: some 100 bytes a signature. Not for several threads while something is added.
class VerifiedSignatures {
 public:
  // verify is verify_signature, and remembers what it finds valid.
  Status verify(const PublicKey& key, ByteView message, const Signature64& signature);
  bool holds(const PublicKey& key, ByteView message, const Signature64& signature) const;
  // take_over is holds of `other`, and remembers here what that holds.
  bool take_over(const VerifiedSignatures& other, const PublicKey& key, ByteView message,
                 const Signature64& signature);
  // add takes over all that `other` holds.
  void add(const VerifiedSignatures& other);
  std::size_t size() const { return signatures_.size(); }

  // add_key keeps a key that was costly to find (recovered from a signature); find_key gives it by its id,
  // which is the digest of the key itself: whoever put it there, it is that key.
  void add_key(const PublicKey& key);
  const PublicKey* find_key(const KeyId& id) const;

 private:
  std::set<Digest256> signatures_;
  std::map<KeyId, PublicKey> keys_;
};

// verify_signature is verify_ed25519 of `message`, or verify_p256 of it, which is then a SHA-256 digest, as
// the key wants; unless `known` (which may be null) holds the very signature. Errors: those of the two;
// kMalformed for another algorithm, or a message that is not 32 bytes for P-256.
Status verify_signature(const PublicKey& key, ByteView message, const Signature64& signature,
                        const VerifiedSignatures* known);

}  // namespace sallyport::crypto

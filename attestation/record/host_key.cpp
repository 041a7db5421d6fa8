#include "attestation/record/host_key.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>

#include <algorithm>

#include "attestation/crypto/openssl_ptr.h"
#include "attestation/crypto/ssh_key.h"

namespace sallyport::record {
namespace {

using GroupPtr = std::unique_ptr<EC_GROUP, crypto::FreeWith<EC_GROUP_free>>;
using PointPtr = std::unique_ptr<EC_POINT, crypto::FreeWith<EC_POINT_free>>;
using BnCtxPtr = std::unique_ptr<BN_CTX, crypto::FreeWith<BN_CTX_free>>;

Error no_key() {
  return Error{Code::kUnverified, "not signed by a key of the host"};
}

// recover_point gives Q = r⁻¹(sR − eG) as an uncompressed point, where R has the x coordinate r and a y of
// the parity given. (That the x coordinate was r + n happens once in 2^127 signatures; such a one is
// refused.)
Result<Bytes> recover_point(const Digest256& digest, const crypto::Signature64& signature, int parity) {
  const BnCtxPtr ctx{BN_CTX_new()};
  const GroupPtr group{EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1)};
  SP_ASSERT(ctx != nullptr && group != nullptr);
  const crypto::BignumPtr r{BN_bin2bn(signature.data(), 32, nullptr)},
      s{BN_bin2bn(signature.data() + 32, 32, nullptr)}, e{BN_bin2bn(digest.get().data(), 32, nullptr)};
  const crypto::BignumPtr inverse{BN_new()}, u1{BN_new()}, u2{BN_new()};
  const PointPtr point{EC_POINT_new(group.get())}, key{EC_POINT_new(group.get())};
  SP_ASSERT(r && s && e && inverse && u1 && u2 && point && key);
  const BIGNUM* order = EC_GROUP_get0_order(group.get());
  if (BN_is_zero(r.get()) || BN_cmp(r.get(), order) >= 0) return no_key();
  Bytes out(65);
  const bool ok =
      EC_POINT_set_compressed_coordinates(group.get(), point.get(), r.get(), parity, ctx.get()) == 1 &&
      BN_mod_inverse(inverse.get(), r.get(), order, ctx.get()) != nullptr &&
      BN_mod_mul(u1.get(), e.get(), inverse.get(), order, ctx.get()) == 1 &&
      BN_sub(u1.get(), order, u1.get()) == 1 &&  // −e/r
      BN_mod_mul(u2.get(), s.get(), inverse.get(), order, ctx.get()) == 1 &&
      EC_POINT_mul(group.get(), key.get(), u1.get(), point.get(), u2.get(), ctx.get()) == 1 &&
      EC_POINT_point2oct(group.get(), key.get(), POINT_CONVERSION_UNCOMPRESSED, out.data(), out.size(),
                         ctx.get()) == out.size();
  if (!ok) {
    crypto::drain_openssl_errors();
    return no_key();
  }
  return out;
}

}  // namespace

Result<std::string> ssh_fingerprint(const crypto::PublicKey& key) {
  SP_TRY(const Bytes blob, crypto::ssh_key_blob(key));
  return crypto::ssh_fingerprint(blob);
}

Result<crypto::PublicKey> recover_signer(const Digest256& digest, const crypto::Signature64& signature,
                                         const KeyId& id) {
  for (const int parity : {0, 1}) {
    const auto point = recover_point(digest, signature, parity);
    if (!point) continue;
    auto key = crypto::PublicKey::from_p256_point(*point);
    if (key && key->id() == id) return key;
  }
  return no_key();
}

Result<crypto::PublicKey> verify_host_signature(const Envelope& envelope,
                                                std::span<const std::string> fingerprints,
                                                const crypto::PublicKey* learned,
                                                const crypto::VerifiedSignatures* known) {
  if (envelope.signatures.size() != 1) return no_key();
  const EnvelopeSignature& signature = envelope.signatures.front();
  const crypto::PublicKey* found = learned;
  if (found == nullptr && known != nullptr) found = known->find_key(signature.key);
  SP_TRY(const crypto::PublicKey key,
         found != nullptr ? Result<crypto::PublicKey>{*found}
                          : recover_signer(statement_digest(envelope), signature.signature, signature.key));
  if (key.id() != signature.key) return no_key();
  SP_TRY(const std::string fingerprint, ssh_fingerprint(key));
  if (std::find(fingerprints.begin(), fingerprints.end(), fingerprint) == fingerprints.end()) return no_key();
  SP_CHECK(verify_signers(envelope, {key}, known));
  return key;
}

}  // namespace sallyport::record

#include "attestation/evidence/signature.h"

#include <openssl/rsa.h>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"

namespace sallyport::evidence {
namespace {

std::uint16_t number(TpmAlg alg) {
  return static_cast<std::uint16_t>(alg);
}

Status unverified(const char* what) {
  return Error{Code::kUnverified, Reason::kQuoteSignature, what};
}

Status verify_rsa(const crypto::PublicKey& key, const Digest256& digest, const TpmSignature& signature) {
  const crypto::PkeyCtxPtr ctx{EVP_PKEY_CTX_new(key.pkey(), nullptr)};
  const bool pss = signature.scheme == Scheme::kRsaPssSha256;
  if (!ctx || EVP_PKEY_verify_init(ctx.get()) != 1 ||
      EVP_PKEY_CTX_set_rsa_padding(ctx.get(), pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) != 1 ||
      EVP_PKEY_CTX_set_signature_md(ctx.get(), EVP_sha256()) != 1 ||
      // The salt is as long as the key allows in TPMs before rev 1.38's errata, as the digest in later ones.
      (pss && EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx.get(), RSA_PSS_SALTLEN_AUTO) != 1))
    return Error{Code::kInternal, "RSA: " + crypto::drain_openssl_errors()};
  if (EVP_PKEY_verify(ctx.get(), signature.value.data(), signature.value.size(), digest.get().data(), 32) !=
      1) {
    crypto::drain_openssl_errors();
    return unverified("RSA signature does not verify");
  }
  return Done{};
}

}  // namespace

Result<TpmSignature> parse_signature(ByteView bytes) {
  Reader in{bytes};
  TpmSignature out;
  SP_TRY(const std::uint16_t alg, in.u16());
  SP_TRY(const std::uint16_t hash, in.u16());
  if (hash != number(TpmAlg::kSha256))
    return Error{Code::kMalformed, "signature with another hash than SHA-256"};
  if (alg == number(TpmAlg::kEcdsa)) {
    out.scheme = Scheme::kEcdsaSha256;
    SP_TRY(const ByteView r, in.prefixed16(32));
    SP_TRY(const ByteView s, in.prefixed16(32));
    if (r.size() != 32 || s.size() != 32)
      return Error{Code::kMalformed, "ECDSA number that is not 32 bytes long"};
    out.value = to_bytes(r);
    out.value.insert(out.value.end(), s.begin(), s.end());
  } else if (alg == number(TpmAlg::kRsaSsa) || alg == number(TpmAlg::kRsaPss)) {
    out.scheme = alg == number(TpmAlg::kRsaSsa) ? Scheme::kRsaSsaSha256 : Scheme::kRsaPssSha256;
    SP_TRY(const ByteView value, in.prefixed16(256));
    if (value.size() != 256) return Error{Code::kMalformed, "RSA signature that is not 256 bytes long"};
    out.value = to_bytes(value);
  } else {
    return Error{Code::kMalformed, "signature algorithm that is not supported"};
  }
  SP_CHECK(in.finish());
  return out;
}

Bytes encode(const TpmSignature& signature) {
  Writer out;
  if (signature.scheme == Scheme::kEcdsaSha256) {
    SP_ASSERT(signature.value.size() == 64);
    const ByteView value = signature.value;
    out.u16(number(TpmAlg::kEcdsa)).u16(number(TpmAlg::kSha256));
    out.prefixed16(value.first(32)).prefixed16(value.subspan(32));
  } else {
    SP_ASSERT(signature.scheme != Scheme::kNull && signature.value.size() == 256);
    out.u16(number(signature.scheme == Scheme::kRsaSsaSha256 ? TpmAlg::kRsaSsa : TpmAlg::kRsaPss));
    out.u16(number(TpmAlg::kSha256)).prefixed16(signature.value);
  }
  return std::move(out).take();
}

Bytes encode_ecdsa(const crypto::Signature64& signature) {
  return encode(TpmSignature{Scheme::kEcdsaSha256, to_bytes(signature)});
}

Status verify_tpm_signature(const crypto::PublicKey& key, ByteView message, const TpmSignature& signature,
                            const crypto::VerifiedSignatures* known) {
  const bool ecdsa = signature.scheme == Scheme::kEcdsaSha256;
  const auto wanted = ecdsa ? crypto::KeyAlgorithm::kP256 : crypto::KeyAlgorithm::kRsa2048;
  if (signature.scheme == Scheme::kNull || key.algorithm() != wanted)
    return unverified("signature scheme that is not the key's");
  const Digest256 digest = crypto::sha256(message);
  if (!ecdsa) return verify_rsa(key, digest, signature);
  crypto::Signature64 value;
  if (signature.value.size() != value.size()) return unverified("ECDSA signature of another size");
  std::memcpy(value.data(), signature.value.data(), value.size());
  auto verified = crypto::verify_signature(key, view(digest), value, known);
  if (!verified.has_value() && verified.error().code == Code::kUnverified)
    return unverified("ECDSA signature does not verify");
  return verified;
}

}  // namespace sallyport::evidence

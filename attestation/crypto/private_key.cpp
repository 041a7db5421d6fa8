#include "attestation/crypto/private_key.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include "attestation/crypto/openssl_ptr.h"

namespace sallyport::crypto {

Result<PrivateKey> PrivateKey::adopt(std::shared_ptr<EVP_PKEY> pkey) {
  std::uint8_t* der = nullptr;
  const int size = i2d_PUBKEY(pkey.get(), &der);
  if (size <= 0) return Error{Code::kMalformed, "private key: " + drain_openssl_errors()};
  const Bytes spki(der, der + size);
  OPENSSL_free(der);
  SP_TRY(PublicKey public_key, PublicKey::parse_spki(spki));
  return PrivateKey{std::move(pkey), std::move(public_key)};
}

PrivateKey PrivateKey::generate(KeyAlgorithm algorithm) {
  SP_ASSERT(algorithm == KeyAlgorithm::kP256 || algorithm == KeyAlgorithm::kEd25519);
  EVP_PKEY* made = algorithm == KeyAlgorithm::kP256 ? EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")
                                                    : EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  SP_ASSERT(made != nullptr);
  auto key = adopt(std::shared_ptr<EVP_PKEY>{made, EVP_PKEY_free});
  SP_ASSERT(key.has_value());
  return std::move(key).value();
}

Result<PrivateKey> PrivateKey::parse_pem(ByteView pem) {
  const BioPtr bio{BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))};
  // The callback refuses encrypted keys: without one OpenSSL would ask on the terminal.
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  std::shared_ptr<EVP_PKEY> pkey{PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr),
                                 EVP_PKEY_free};
  if (!pkey) return Error{Code::kMalformed, "not a private key: " + drain_openssl_errors()};
  return adopt(std::move(pkey));
}

SecretBytes PrivateKey::to_pem() const {
  const BioPtr bio{BIO_new(BIO_s_secmem())};
  SP_ASSERT(bio && PEM_write_bio_PKCS8PrivateKey(bio.get(), pkey_.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return SecretBytes{ByteView{reinterpret_cast<const std::uint8_t*>(data), static_cast<std::size_t>(size)}};
}

Result<Signature64> PrivateKey::sign_p256(const Digest256& digest) const {
  if (public_key_.algorithm() != KeyAlgorithm::kP256) return Error{Code::kMalformed, "not a P-256 key"};
  const PkeyCtxPtr ctx{EVP_PKEY_CTX_new(pkey_.get(), nullptr)};
  std::uint8_t der[80];
  std::size_t size = sizeof der;
  if (!ctx || EVP_PKEY_sign_init(ctx.get()) != 1 ||
      EVP_PKEY_sign(ctx.get(), der, &size, digest.get().data(), 32) != 1)
    return Error{Code::kInternal, "ECDSA: " + drain_openssl_errors()};
  const std::uint8_t* at = der;
  const EcdsaSigPtr parts{d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size))};
  Signature64 out;
  if (!parts || BN_bn2binpad(ECDSA_SIG_get0_r(parts.get()), out.data(), 32) != 32 ||
      BN_bn2binpad(ECDSA_SIG_get0_s(parts.get()), out.data() + 32, 32) != 32)
    return Error{Code::kInternal, "ECDSA: " + drain_openssl_errors()};
  return to_low_s(out);
}

Result<Signature64> PrivateKey::sign_ed25519(ByteView message) const {
  if (public_key_.algorithm() != KeyAlgorithm::kEd25519) return Error{Code::kMalformed, "not an Ed25519 key"};
  const MdCtxPtr ctx{EVP_MD_CTX_new()};
  Signature64 out;
  std::size_t size = out.size();
  if (!ctx || EVP_DigestSignInit(ctx.get(), nullptr, nullptr, nullptr, pkey_.get()) != 1 ||
      EVP_DigestSign(ctx.get(), out.data(), &size, message.data(), message.size()) != 1 || size != out.size())
    return Error{Code::kInternal, "Ed25519: " + drain_openssl_errors()};
  return out;
}

}  // namespace sallyport::crypto

#include "attestation/crypto/public_key.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include "attestation/base/base64.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"

namespace sallyport::crypto {
namespace {

using ParamBldPtr = std::unique_ptr<OSSL_PARAM_BLD, FreeWith<OSSL_PARAM_BLD_free>>;
using ParamPtr = std::unique_ptr<OSSL_PARAM, FreeWith<OSSL_PARAM_free>>;

constexpr std::size_t kMaxSpkiBytes = 512;  // an RSA-2048 SubjectPublicKeyInfo has 294

// FIPS 186-4 D.1.2.3: the order of P-256, and its half, big-endian.
constexpr ByteArray<32> kP256Order = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
                                      0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
constexpr ByteArray<32> kP256HalfOrder = {0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff, 0xff, 0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b,
                                          0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8};

Error refused(std::string what) { return Error{Code::kMalformed, what + ": " + drain_openssl_errors()}; }

std::string group_of(EVP_PKEY* pkey) {
  char name[64] = {};
  std::size_t size = 0;
  if (EVP_PKEY_get_utf8_string_param(pkey, OSSL_PKEY_PARAM_GROUP_NAME, name, sizeof name, &size) != 1) return {};
  return name;
}

Result<Bytes> octets(EVP_PKEY* pkey, const char* param) {
  Bytes out(256);
  std::size_t size = 0;
  if (EVP_PKEY_get_octet_string_param(pkey, param, out.data(), out.size(), &size) != 1) return refused("public key");
  out.resize(size);
  return out;
}

Result<Bytes> rsa_modulus(EVP_PKEY* pkey) {
  BIGNUM* n = nullptr;
  BIGNUM* e = nullptr;
  EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n);
  EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e);
  const BignumPtr modulus{n}, exponent{e};
  if (!modulus || !exponent || BN_num_bits(n) != 2048 || BN_is_word(e, 65537) != 1)
    return Error{Code::kMalformed, "RSA key that is not 2048 bit with exponent 65537"};
  Bytes out(256);
  BN_bn2binpad(n, out.data(), 256);
  return out;
}

Result<std::shared_ptr<EVP_PKEY>> from_params(const char* type, OSSL_PARAM_BLD* build) {
  const ParamPtr params{OSSL_PARAM_BLD_to_param(build)};
  const PkeyCtxPtr ctx{EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr)};
  EVP_PKEY* made = nullptr;
  if (!params || !ctx || EVP_PKEY_fromdata_init(ctx.get()) != 1 ||
      EVP_PKEY_fromdata(ctx.get(), &made, EVP_PKEY_PUBLIC_KEY, params.get()) != 1)
    return refused("not a public key");
  return std::shared_ptr<EVP_PKEY>{made, EVP_PKEY_free};
}

Result<std::shared_ptr<EVP_PKEY>> ec_key(const char* group, ByteView point) {
  const ParamBldPtr build{OSSL_PARAM_BLD_new()};
  OSSL_PARAM_BLD_push_utf8_string(build.get(), OSSL_PKEY_PARAM_GROUP_NAME, group, 0);
  OSSL_PARAM_BLD_push_octet_string(build.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
  return from_params("EC", build.get());
}

// All of a SubjectPublicKeyInfo before the key itself: RFC 5480 §2 with an uncompressed point of P-256, RFC 8410
// §4. OpenSSL 3.0 needs longer to encode or decode one of these than to verify a signature with it.
constexpr std::array<std::uint8_t, 26> kP256Prefix = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48,
                                                      0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86, 0x48,
                                                      0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};
constexpr std::array<std::uint8_t, 12> kEd25519Prefix = {0x30, 0x2A, 0x30, 0x05, 0x06, 0x03,
                                                         0x2B, 0x65, 0x70, 0x03, 0x21, 0x00};

bool begins_with(ByteView bytes, ByteView prefix) {
  return bytes.size() >= prefix.size() && equal(bytes.first(prefix.size()), prefix);
}

Bytes join(ByteView prefix, ByteView rest) {
  Bytes all{prefix.begin(), prefix.end()};
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

Result<Bytes> spki_by_openssl(const EVP_PKEY* pkey) {
  std::uint8_t* der = nullptr;
  const int size = i2d_PUBKEY(pkey, &der);
  if (size <= 0) return refused("public key");
  Bytes spki{der, der + size};
  OPENSSL_free(der);
  return spki;
}

}  // namespace

std::string drain_openssl_errors() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    char line[256];
    ERR_error_string_n(code, line, sizeof line);
    if (!text.empty()) text += "; ";
    text += line;
  }
  return text.empty() ? "no detail from OpenSSL" : text;
}

std::string_view algorithm_name(KeyAlgorithm algorithm) {
  switch (algorithm) {
    case KeyAlgorithm::kP256: return "p256";
    case KeyAlgorithm::kP384: return "p384";
    case KeyAlgorithm::kRsa2048: return "rsa2048";
    case KeyAlgorithm::kEd25519: return "ed25519";
  }
  return "unknown";
}

Result<PublicKey> PublicKey::adopt(std::shared_ptr<EVP_PKEY> pkey) {
  auto parsed = std::make_shared<Parsed>();
  switch (EVP_PKEY_get_base_id(pkey.get())) {
    case EVP_PKEY_EC: {
      const std::string group = group_of(pkey.get());
      if (group == "prime256v1") parsed->algorithm = KeyAlgorithm::kP256;
      else if (group == "secp384r1") parsed->algorithm = KeyAlgorithm::kP384;
      else return Error{Code::kMalformed, "elliptic curve that is not supported"};
      SP_TRY(parsed->raw, octets(pkey.get(), OSSL_PKEY_PARAM_PUB_KEY));
      const std::size_t size = parsed->algorithm == KeyAlgorithm::kP256 ? 65 : 97;
      if (parsed->raw.size() != size || parsed->raw[0] != 4)
        return Error{Code::kMalformed, "elliptic curve point that is not uncompressed"};
      break;
    }
    case EVP_PKEY_RSA: {
      parsed->algorithm = KeyAlgorithm::kRsa2048;
      SP_TRY(parsed->raw, rsa_modulus(pkey.get()));
      break;
    }
    case EVP_PKEY_ED25519: {
      parsed->algorithm = KeyAlgorithm::kEd25519;
      parsed->raw.resize(32);
      std::size_t size = 32;
      if (EVP_PKEY_get_raw_public_key(pkey.get(), parsed->raw.data(), &size) != 1 || size != 32)
        return refused("Ed25519 key");
      break;
    }
    default: return Error{Code::kMalformed, "public key algorithm that is not supported"};
  }
  if (parsed->algorithm == KeyAlgorithm::kP256) {
    parsed->spki = join(kP256Prefix, parsed->raw);
  } else if (parsed->algorithm == KeyAlgorithm::kEd25519) {
    parsed->spki = join(kEd25519Prefix, parsed->raw);
  } else {
    SP_TRY(parsed->spki, spki_by_openssl(pkey.get()));
  }
  parsed->id = KeyId{sha256(parsed->spki)};
  parsed->pkey = std::move(pkey);
  return PublicKey{std::move(parsed)};
}

Result<PublicKey> PublicKey::parse_spki(ByteView der) {
  if (der.empty() || der.size() > kMaxSpkiBytes) return Error{Code::kMalformed, "public key of impossible size"};
  if (begins_with(der, kP256Prefix)) return from_p256_point(der.subspan(kP256Prefix.size()));
  if (begins_with(der, kEd25519Prefix)) return from_ed25519(der.subspan(kEd25519Prefix.size()));
  const std::uint8_t* at = der.data();
  std::shared_ptr<EVP_PKEY> pkey{d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size())), EVP_PKEY_free};
  if (!pkey) return refused("not a SubjectPublicKeyInfo");
  SP_TRY(PublicKey key, adopt(std::move(pkey)));
  if (!equal(key.spki(), der)) return Error{Code::kMalformed, "public key in another encoding than DER's"};
  return key;
}

Result<PublicKey> PublicKey::parse_spki_base64(std::string_view text) {
  SP_TRY(const Bytes der, parse_base64(text, kMaxSpkiBytes));
  return parse_spki(der);
}

Result<PublicKey> PublicKey::from_p256_point(ByteView sec1) {
  if (sec1.size() != 65 || sec1[0] != 4) return Error{Code::kMalformed, "not an uncompressed P-256 point"};
  SP_TRY(auto pkey, ec_key("prime256v1", sec1));
  return adopt(std::move(pkey));
}

Result<PublicKey> PublicKey::from_p256(ByteView x, ByteView y) {
  if (x.size() != 32 || y.size() != 32) return Error{Code::kMalformed, "P-256 coordinates of another size"};
  Bytes point{4};
  point.insert(point.end(), x.begin(), x.end());
  point.insert(point.end(), y.begin(), y.end());
  return from_p256_point(point);
}

Result<PublicKey> PublicKey::from_p384(ByteView x, ByteView y) {
  if (x.size() != 48 || y.size() != 48) return Error{Code::kMalformed, "P-384 coordinates of another size"};
  Bytes point{4};
  point.insert(point.end(), x.begin(), x.end());
  point.insert(point.end(), y.begin(), y.end());
  SP_TRY(auto pkey, ec_key("secp384r1", point));
  return adopt(std::move(pkey));
}

Result<PublicKey> PublicKey::from_rsa2048(ByteView modulus) {
  if (modulus.size() != 256) return Error{Code::kMalformed, "RSA modulus of another size"};
  const BignumPtr n{BN_bin2bn(modulus.data(), 256, nullptr)};
  const BignumPtr e{BN_new()};
  const ParamBldPtr build{OSSL_PARAM_BLD_new()};
  SP_ASSERT(n && e && build && BN_set_word(e.get(), 65537) == 1);
  OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  SP_TRY(auto pkey, from_params("RSA", build.get()));
  return adopt(std::move(pkey));
}

Result<PublicKey> PublicKey::from_ed25519(ByteView raw) {
  if (raw.size() != 32) return Error{Code::kMalformed, "Ed25519 key of another size"};
  std::shared_ptr<EVP_PKEY> pkey{EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw.data(), 32),
                                 EVP_PKEY_free};
  if (!pkey) return refused("Ed25519 key");
  return adopt(std::move(pkey));
}

Status verify_p256(const PublicKey& key, const Digest256& digest, const Signature64& signature) {
  if (key.algorithm() != KeyAlgorithm::kP256) return Error{Code::kMalformed, "not a P-256 key"};
  const EcdsaSigPtr parts{ECDSA_SIG_new()};
  SP_ASSERT(parts != nullptr);
  ECDSA_SIG_set0(parts.get(), BN_bin2bn(signature.data(), 32, nullptr),
                 BN_bin2bn(signature.data() + 32, 32, nullptr));
  std::uint8_t der[80];
  std::uint8_t* at = der;
  const int der_size = i2d_ECDSA_SIG(parts.get(), &at);
  const PkeyCtxPtr ctx{EVP_PKEY_CTX_new(key.pkey(), nullptr)};
  if (der_size <= 0 || !ctx || EVP_PKEY_verify_init(ctx.get()) != 1)
    return Error{Code::kInternal, "ECDSA: " + drain_openssl_errors()};
  if (EVP_PKEY_verify(ctx.get(), der, static_cast<std::size_t>(der_size), digest.get().data(), 32) != 1) {
    drain_openssl_errors();
    return Error{Code::kUnverified, "ECDSA signature does not verify"};
  }
  return Done{};
}

Status verify_ed25519(const PublicKey& key, ByteView message, const Signature64& signature) {
  if (key.algorithm() != KeyAlgorithm::kEd25519) return Error{Code::kMalformed, "not an Ed25519 key"};
  const MdCtxPtr ctx{EVP_MD_CTX_new()};
  if (!ctx || EVP_DigestVerifyInit(ctx.get(), nullptr, nullptr, nullptr, key.pkey()) != 1)
    return Error{Code::kInternal, "Ed25519: " + drain_openssl_errors()};
  if (EVP_DigestVerify(ctx.get(), signature.data(), signature.size(), message.data(), message.size()) != 1) {
    drain_openssl_errors();
    return Error{Code::kUnverified, "Ed25519 signature does not verify"};
  }
  return Done{};
}

bool is_low_s(const Signature64& signature) {
  return std::memcmp(signature.data() + 32, kP256HalfOrder.data(), 32) <= 0;
}

Signature64 to_low_s(const Signature64& signature) {
  if (is_low_s(signature)) return signature;
  Signature64 out = signature;
  int borrow = 0;  // s := n − s
  for (int i = 31; i >= 0; --i) {
    const auto at = static_cast<std::size_t>(i);
    const int difference = kP256Order[at] - signature[32 + at] - borrow;
    borrow = difference < 0 ? 1 : 0;
    out[32 + at] = static_cast<std::uint8_t>(difference & 0xFF);
  }
  return out;
}

}  // namespace sallyport::crypto

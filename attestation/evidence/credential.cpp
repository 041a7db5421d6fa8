#include "attestation/evidence/credential.h"

#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>

#include <algorithm>

#include "attestation/base/secret_bytes.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"
#include "attestation/evidence/templates.h"

namespace sallyport::evidence {
namespace {

using crypto::BignumPtr;
using crypto::FreeWith;
using crypto::KeyAlgorithm;
using GroupPtr = std::unique_ptr<EC_GROUP, FreeWith<EC_GROUP_free>>;
using PointPtr = std::unique_ptr<EC_POINT, FreeWith<EC_POINT_clear_free>>;
using SecretBignumPtr = std::unique_ptr<BIGNUM, FreeWith<BN_clear_free>>;
using BnCtxPtr = std::unique_ptr<BN_CTX, FreeWith<BN_CTX_free>>;
using CipherCtxPtr = std::unique_ptr<EVP_CIPHER_CTX, FreeWith<EVP_CIPHER_CTX_free>>;

// Labels are hashed with their terminating zero.
constexpr std::string_view kIdentity{"IDENTITY\0", 9};
constexpr std::string_view kStorage{"STORAGE\0", 8};
constexpr std::string_view kIntegrity{"INTEGRITY\0", 10};

// What follows from the EK's nameAlg and symmetric: SHA-256 with AES-128, or SHA-384 with AES-256.
struct Suite {
  const EVP_MD* hash;
  const EVP_CIPHER* cipher;
  std::size_t digest_bytes, key_bytes;
};
Suite suite_of(const PublicArea& ek) {
  const bool sha384 = ek.form.name_alg == NameAlg::kSha384;
  const bool aes256 = ek.form.symmetric == Symmetric::kAes256Cfb;
  return {sha384 ? EVP_sha384() : EVP_sha256(), aes256 ? EVP_aes_256_cfb128() : EVP_aes_128_cfb128(),
          sha384 ? std::size_t{48} : std::size_t{32}, aes256 ? std::size_t{32} : std::size_t{16}};
}

Error openssl_failed(const char* what) {
  return Error{Code::kInternal, what + crypto::drain_openssl_errors()};
}

Bytes hmac(const Suite& suite, ByteView key, ByteView message) {
  Bytes out(suite.digest_bytes);
  unsigned size = 0;
  SP_ASSERT(HMAC(suite.hash, key.data(), static_cast<int>(key.size()), message.data(), message.size(),
                 out.data(), &size) != nullptr &&
            size == out.size());
  return out;
}

// KDFa (Part 1 rev 1.59 §11.4.10.2, SP 800-108 in counter mode). All keys here fit into one block.
SecretBytes kdfa(const Suite& suite, const SecretBytes& key, std::string_view label, ByteView context_u,
                 std::size_t size) {
  SP_ASSERT(size <= suite.digest_bytes);
  Writer in;
  in.u32(1).raw(label).raw(context_u).u32(static_cast<std::uint32_t>(size * 8));
  Bytes block = hmac(suite, key.expose(), in.bytes());
  SecretBytes out{ByteView{block}.first(size)};
  OPENSSL_cleanse(block.data(), block.size());
  return out;
}

// KDFe (§11.4.10.3, SP 800-56A): the seed that both sides of the key agreement derive, one block.
Result<SecretBytes> kdfe(const Suite& suite, const SecretBytes& z, ByteView party_u, ByteView party_v) {
  const crypto::MdCtxPtr ctx{EVP_MD_CTX_new()};
  const ByteArray<4> counter{0, 0, 0, 1};
  SecretBytes out{suite.digest_bytes};
  unsigned size = 0;
  if (!ctx || EVP_DigestInit_ex(ctx.get(), suite.hash, nullptr) != 1 ||
      EVP_DigestUpdate(ctx.get(), counter.data(), counter.size()) != 1 ||
      EVP_DigestUpdate(ctx.get(), z.expose().data(), z.size()) != 1 ||
      EVP_DigestUpdate(ctx.get(), kIdentity.data(), kIdentity.size()) != 1 ||
      EVP_DigestUpdate(ctx.get(), party_u.data(), party_u.size()) != 1 ||
      EVP_DigestUpdate(ctx.get(), party_v.data(), party_v.size()) != 1 ||
      EVP_DigestFinal_ex(ctx.get(), out.expose().data(), &size) != 1 || size != suite.digest_bytes)
    return openssl_failed("KDFe: ");
  return out;
}

struct Seed {
  SecretBytes seed;
  Bytes encrypted;  // the content of TPM2B_ENCRYPTED_SECRET
};

// Part 1 annex C.6.3: an ephemeral key agrees with the EK; the TPM gets the ephemeral point.
Result<Seed> seed_for_ecc(const Suite& suite, const PublicArea& ek, const CredentialEntropy& entropy) {
  const bool p256 = ek.form.algorithm == KeyAlgorithm::kP256;
  const std::size_t size = p256 ? 32 : 48;
  const GroupPtr group{EC_GROUP_new_by_curve_name(p256 ? NID_X9_62_prime256v1 : NID_secp384r1)};
  const BnCtxPtr ctx{BN_CTX_secure_new()};
  // FIPS 186-5 A.2.1: 64 bytes are at least 128 bits more than either order, so the scalar is as good as
  // uniform.
  const SecretBignumPtr scalar{BN_bin2bn(entropy.data(), static_cast<int>(entropy.size()), nullptr)};
  if (!group || !ctx || !scalar) return openssl_failed("ephemeral key: ");
  BN_set_flags(scalar.get(), BN_FLG_CONSTTIME);
  const BignumPtr order_less_one{BN_dup(EC_GROUP_get0_order(group.get()))};
  const PointPtr ephemeral{EC_POINT_new(group.get())};
  const PointPtr peer{EC_POINT_new(group.get())};
  const PointPtr shared{EC_POINT_new(group.get())};
  const SecretBignumPtr z{BN_secure_new()};
  const ByteView ek_point = ek.key.raw();
  if (!order_less_one || BN_sub_word(order_less_one.get(), 1) != 1 ||
      BN_mod(scalar.get(), scalar.get(), order_less_one.get(), ctx.get()) != 1 ||
      BN_add_word(scalar.get(), 1) != 1 || !ephemeral || !peer || !shared || !z ||
      EC_POINT_mul(group.get(), ephemeral.get(), scalar.get(), nullptr, nullptr, ctx.get()) != 1 ||
      EC_POINT_oct2point(group.get(), peer.get(), ek_point.data(), ek_point.size(), ctx.get()) != 1 ||
      EC_POINT_mul(group.get(), shared.get(), nullptr, peer.get(), scalar.get(), ctx.get()) != 1 ||
      EC_POINT_get_affine_coordinates(group.get(), shared.get(), z.get(), nullptr, ctx.get()) != 1)
    return openssl_failed("ephemeral key: ");
  SecretBytes z_bytes{size};
  Bytes point(1 + 2 * size);
  if (BN_bn2binpad(z.get(), z_bytes.expose().data(), static_cast<int>(size)) != static_cast<int>(size) ||
      EC_POINT_point2oct(group.get(), ephemeral.get(), POINT_CONVERSION_UNCOMPRESSED, point.data(),
                         point.size(), ctx.get()) != point.size())
    return openssl_failed("ephemeral key: ");
  const ByteView x = ByteView{point}.subspan(1, size);
  SP_TRY(SecretBytes seed, kdfe(suite, z_bytes, x, ek_point.subspan(1, size)));
  Writer encrypted;
  encrypted.prefixed16(x).prefixed16(ByteView{point}.subspan(1 + size));
  return Seed{std::move(seed), std::move(encrypted).take()};
}

// MGF1 with SHA-256 over `in`, xored onto `out` (RFC 8017 B.2.1).
void xor_mgf1(ByteView in, std::span<std::uint8_t> out) {
  std::size_t at = 0;
  for (std::uint32_t counter = 0; at < out.size(); ++counter) {
    Writer number;
    number.u32(counter);
    Digest256 block = crypto::sha256({in, number.bytes()});
    for (const std::uint8_t byte : block.get()) {
      if (at == out.size()) break;
      out[at++] ^= byte;
    }
  }
}

// Part 1 annex B.10.3: RSAES-OAEP (RFC 8017 §7.1.1) with SHA-256 and label "IDENTITY\0". Made by hand,
// because OpenSSL draws the OAEP seed itself, and this room has no randomness.
Result<Seed> seed_for_rsa(const PublicArea& ek, const CredentialEntropy& entropy) {
  constexpr std::size_t kModulus = 256, kHash = 32;
  const ByteView seed = ByteView{entropy}.first(kHash);
  const ByteView oaep_seed = ByteView{entropy}.last(kHash);
  SecretBytes padded{kModulus};  // 00 ‖ masked seed ‖ masked (lHash ‖ 00… ‖ 01 ‖ message)
  const std::span<std::uint8_t> em = padded.expose();
  std::ranges::fill(em, std::uint8_t{0});
  const auto masked_seed = em.subspan(1, kHash);
  const auto db = em.subspan(1 + kHash);
  std::ranges::copy(crypto::sha256(as_bytes(kIdentity)).get(), db.begin());
  db[db.size() - kHash - 1] = 1;
  std::ranges::copy(seed, db.last(kHash).begin());
  std::ranges::copy(oaep_seed, masked_seed.begin());
  xor_mgf1(oaep_seed, db);
  xor_mgf1(db, masked_seed);

  const crypto::PkeyCtxPtr ctx{EVP_PKEY_CTX_new(ek.key.pkey(), nullptr)};
  Bytes encrypted(kModulus);
  std::size_t size = encrypted.size();
  if (!ctx || EVP_PKEY_encrypt_init(ctx.get()) != 1 ||
      EVP_PKEY_CTX_set_rsa_padding(ctx.get(), RSA_NO_PADDING) != 1 ||
      EVP_PKEY_encrypt(ctx.get(), encrypted.data(), &size, em.data(), em.size()) != 1 ||
      size != encrypted.size())
    return openssl_failed("RSA: ");
  return Seed{SecretBytes{seed}, std::move(encrypted)};
}

// AES-CFB128 with a zero IV, in place.
Status encrypt_cfb(const Suite& suite, const SecretBytes& key, std::span<std::uint8_t> bytes) {
  SP_ASSERT(key.size() == suite.key_bytes);
  const CipherCtxPtr ctx{EVP_CIPHER_CTX_new()};
  const ByteArray<16> iv{};
  int size = 0;
  if (!ctx || EVP_EncryptInit_ex(ctx.get(), suite.cipher, nullptr, key.expose().data(), iv.data()) != 1 ||
      EVP_EncryptUpdate(ctx.get(), bytes.data(), &size, bytes.data(), static_cast<int>(bytes.size())) != 1 ||
      size != static_cast<int>(bytes.size()))
    return openssl_failed("AES-CFB: ");
  return Done{};
}

}  // namespace

Result<CredentialBlob> make_credential(const PublicArea& ek, const TpmName& object, ByteView secret,
                                       const CredentialEntropy& entropy) {
  if (std::ranges::find(ek_templates(), ek.form) == ek_templates().end())
    return Error{Code::kMalformed, Reason::kEkUnsupported, "endorsement key that is none of the templates"};
  if (secret.empty() || secret.size() > kMaxCredentialSecret)
    return Error{Code::kMalformed, "credential secret that is empty or longer than 32 bytes"};
  const Suite suite = suite_of(ek);
  SP_TRY(const Seed seed, ek.form.algorithm == KeyAlgorithm::kRsa2048 ? seed_for_rsa(ek, entropy)
                                                                      : seed_for_ecc(suite, ek, entropy));

  // Part 1 §24.5: encIdentity = CFB(TPM2B(secret)); outer HMAC over encIdentity ‖ Name.
  const SecretBytes symmetric = kdfa(suite, seed.seed, kStorage, view(object), suite.key_bytes);
  const SecretBytes integrity = kdfa(suite, seed.seed, kIntegrity, {}, suite.digest_bytes);
  Bytes identity = Writer{}.prefixed16(secret).bytes();
  SP_CHECK(encrypt_cfb(suite, symmetric, identity));
  Writer signed_part;
  signed_part.raw(identity).raw(view(object));
  Writer id_object;
  id_object.prefixed16(hmac(suite, integrity.expose(), signed_part.bytes())).raw(identity);
  return CredentialBlob{std::move(id_object).take(), seed.encrypted};
}

}  // namespace sallyport::evidence

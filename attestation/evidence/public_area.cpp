#include "attestation/evidence/public_area.h"

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"

namespace sallyport::evidence {
namespace {

using crypto::KeyAlgorithm;
using crypto::PublicKey;

// Every attribute that Part 2 rev 1.59 §8.3 defines; the rest is reserved and must be zero.
constexpr std::uint32_t kDefinedAttributes = 0x000F0CF6;
constexpr std::uint16_t kCurveP256 = 0x0003;
constexpr std::uint16_t kCurveP384 = 0x0004;

std::size_t digest_size(NameAlg alg) {
  return alg == NameAlg::kSha256 ? 32 : 48;
}
std::uint16_t number(TpmAlg alg) {
  return static_cast<std::uint16_t>(alg);
}
std::uint16_t number(NameAlg alg) {
  return number(alg == NameAlg::kSha256 ? TpmAlg::kSha256 : TpmAlg::kSha384);
}
bool is_ecc(KeyAlgorithm algorithm) {
  return algorithm != KeyAlgorithm::kRsa2048;
}

Result<NameAlg> name_alg_of(std::uint16_t id) {
  if (id == number(TpmAlg::kSha256)) return NameAlg::kSha256;
  if (id == number(TpmAlg::kSha384)) return NameAlg::kSha384;
  return Error{Code::kMalformed, "name algorithm that is not supported"};
}

Result<Symmetric> read_symmetric(Reader& in) {
  SP_TRY(const std::uint16_t alg, in.u16());
  if (alg == number(TpmAlg::kNull)) return Symmetric::kNull;
  if (alg != number(TpmAlg::kAes))
    return Error{Code::kMalformed, "symmetric algorithm that is not supported"};
  SP_TRY(const std::uint16_t bits, in.u16());
  SP_TRY(const std::uint16_t mode, in.u16());
  if (mode != number(TpmAlg::kCfb)) return Error{Code::kMalformed, "symmetric mode that is not CFB"};
  if (bits == 128) return Symmetric::kAes128Cfb;
  if (bits == 256) return Symmetric::kAes256Cfb;
  return Error{Code::kMalformed, "AES key size that is not supported"};
}

Result<Scheme> read_scheme(Reader& in, bool ecc) {
  SP_TRY(const std::uint16_t id, in.u16());
  if (id == number(TpmAlg::kNull)) return Scheme::kNull;
  SP_TRY(const std::uint16_t hash, in.u16());
  if (hash != number(TpmAlg::kSha256))
    return Error{Code::kMalformed, "scheme with another hash than SHA-256"};
  if (ecc && id == number(TpmAlg::kEcdsa)) return Scheme::kEcdsaSha256;
  if (!ecc && id == number(TpmAlg::kRsaSsa)) return Scheme::kRsaSsaSha256;
  if (!ecc && id == number(TpmAlg::kRsaPss)) return Scheme::kRsaPssSha256;
  return Error{Code::kMalformed, "scheme that is not supported"};
}

Result<PublicArea> read_ecc(Reader& in, PublicTemplate form) {
  SP_TRY(const std::uint16_t curve, in.u16());
  if (curve == kCurveP256)
    form.algorithm = KeyAlgorithm::kP256;
  else if (curve == kCurveP384)
    form.algorithm = KeyAlgorithm::kP384;
  else
    return Error{Code::kMalformed, "curve that is not supported"};
  SP_TRY(const std::uint16_t kdf, in.u16());
  if (kdf != number(TpmAlg::kNull)) return Error{Code::kMalformed, "kdf that is not NULL"};
  SP_TRY(const ByteView x, in.prefixed16(48));
  SP_TRY(const ByteView y, in.prefixed16(48));
  SP_TRY(PublicKey key, curve == kCurveP256 ? PublicKey::from_p256(x, y) : PublicKey::from_p384(x, y));
  return PublicArea{std::move(form), std::move(key)};
}

Result<PublicArea> read_rsa(Reader& in, PublicTemplate form) {
  form.algorithm = KeyAlgorithm::kRsa2048;
  SP_TRY(const std::uint16_t bits, in.u16());
  SP_TRY(const std::uint32_t exponent, in.u32());
  if (bits != 2048 || exponent != 0)
    return Error{Code::kMalformed, "RSA that is not 2048 bit with the default exponent"};
  SP_TRY(const ByteView modulus, in.prefixed16(256));
  SP_TRY(PublicKey key, PublicKey::from_rsa2048(modulus));
  return PublicArea{std::move(form), std::move(key)};
}

void write_form(Writer& out, const PublicTemplate& form) {
  SP_ASSERT(form.auth_policy.empty() || form.auth_policy.size() == digest_size(form.name_alg));
  SP_ASSERT(form.algorithm != KeyAlgorithm::kEd25519);
  out.u16(number(is_ecc(form.algorithm) ? TpmAlg::kEcc : TpmAlg::kRsa));
  out.u16(number(form.name_alg)).u32(form.attributes).prefixed16(form.auth_policy);
  if (form.symmetric == Symmetric::kNull) {
    out.u16(number(TpmAlg::kNull));
  } else {
    out.u16(number(TpmAlg::kAes))
        .u16(form.symmetric == Symmetric::kAes128Cfb ? 128 : 256)
        .u16(number(TpmAlg::kCfb));
  }
  switch (form.scheme) {
    case Scheme::kNull:
      out.u16(number(TpmAlg::kNull));
      break;
    case Scheme::kEcdsaSha256:
      out.u16(number(TpmAlg::kEcdsa)).u16(number(TpmAlg::kSha256));
      break;
    case Scheme::kRsaSsaSha256:
      out.u16(number(TpmAlg::kRsaSsa)).u16(number(TpmAlg::kSha256));
      break;
    case Scheme::kRsaPssSha256:
      out.u16(number(TpmAlg::kRsaPss)).u16(number(TpmAlg::kSha256));
      break;
  }
  if (is_ecc(form.algorithm))
    out.u16(form.algorithm == KeyAlgorithm::kP256 ? kCurveP256 : kCurveP384).u16(number(TpmAlg::kNull));
  else
    out.u16(2048).u32(0);
}

}  // namespace

Result<TpmName> parse_name(ByteView bytes) {
  Reader in{bytes};
  SP_TRY(const std::uint16_t id, in.u16());
  SP_TRY(const NameAlg alg, name_alg_of(id));
  if (in.remaining() != digest_size(alg))
    return Error{Code::kMalformed, "Name of another size than its digest's"};
  return TpmName{to_bytes(bytes)};
}

Result<PublicArea> parse_public_area(ByteView bytes) {
  Reader in{bytes};
  SP_TRY(const std::uint16_t type, in.u16());
  const bool ecc = type == number(TpmAlg::kEcc);
  if (!ecc && type != number(TpmAlg::kRsa)) return Error{Code::kMalformed, "key type that is not supported"};
  PublicTemplate form{.algorithm = KeyAlgorithm::kP256, .auth_policy = {}};
  SP_TRY(const std::uint16_t name_alg, in.u16());
  SP_TRY(form.name_alg, name_alg_of(name_alg));
  SP_TRY(form.attributes, in.u32());
  if ((form.attributes & ~kDefinedAttributes) != 0) return Error{Code::kMalformed, "reserved attribute set"};
  SP_TRY(const ByteView policy, in.prefixed16(digest_size(form.name_alg)));
  if (!policy.empty() && policy.size() != digest_size(form.name_alg))
    return Error{Code::kMalformed, "policy of another size than its digest's"};
  form.auth_policy = to_bytes(policy);
  SP_TRY(form.symmetric, read_symmetric(in));
  SP_TRY(form.scheme, read_scheme(in, ecc));
  SP_TRY(PublicArea area, ecc ? read_ecc(in, std::move(form)) : read_rsa(in, std::move(form)));
  SP_CHECK(in.finish());
  return area;
}

Bytes encode(const PublicArea& area) {
  SP_ASSERT(area.form.algorithm == area.key.algorithm());
  Writer out;
  write_form(out, area.form);
  const ByteView raw = area.key.raw();
  if (is_ecc(area.form.algorithm)) {
    const std::size_t size = (raw.size() - 1) / 2;
    out.prefixed16(raw.subspan(1, size)).prefixed16(raw.subspan(1 + size));
  } else {
    out.prefixed16(raw);
  }
  return std::move(out).take();
}

Bytes encode_for_create(const PublicTemplate& form) {
  Writer out;
  write_form(out, form);
  out.prefixed16({});
  if (is_ecc(form.algorithm)) out.prefixed16({});
  return std::move(out).take();
}

TpmName name_of(const PublicArea& area) {
  return name_of_encoded(encode(area), area.form.name_alg);
}

TpmName name_of_encoded(ByteView tpmt_public, NameAlg alg) {
  Writer out;
  out.u16(number(alg));
  if (alg == NameAlg::kSha256)
    out.raw(view(crypto::sha256(tpmt_public)));
  else
    out.raw(crypto::sha384(tpmt_public));
  return TpmName{std::move(out).take()};
}

TpmName qualified_name_of_primary(std::uint32_t hierarchy, const TpmName& name) {
  Writer in;
  in.u32(hierarchy).raw(view(name));
  const bool sha384 = name.get().size() == 50;
  return name_of_encoded(in.bytes(), sha384 ? NameAlg::kSha384 : NameAlg::kSha256);
}

}  // namespace sallyport::evidence

#include "tests/support/soft_tpm.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"
#include "tests/support/matchers.h"

namespace sallyport::test {
namespace {

using crypto::KeyAlgorithm;
using crypto::PublicKey;
using crypto::X509Ptr;
using KeyPtr = std::shared_ptr<EVP_PKEY>;

KeyPtr generate(KeyAlgorithm algorithm) {
  EVP_PKEY* made = nullptr;
  if (algorithm == KeyAlgorithm::kRsa2048)
    made = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{2048});
  else
    made = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", algorithm == KeyAlgorithm::kP256 ? "P-256" : "P-384");
  SP_ASSERT(made != nullptr);
  return KeyPtr{made, EVP_PKEY_free};
}

PublicKey public_key_of(EVP_PKEY* key) {
  std::uint8_t* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  SP_ASSERT(size > 0);
  const Bytes spki(der, der + size);
  OPENSSL_free(der);
  return value_of(PublicKey::parse_spki(spki));
}

// --- certificates
// -----------------------------------------------------------------------------------------------------

X509Ptr new_certificate(EVP_PKEY* key, UnixMillis not_before, UnixMillis not_after) {
  X509Ptr out{X509_new()};
  static long serial = 1;
  SP_ASSERT(out && X509_set_version(out.get(), X509_VERSION_3) == 1);
  ASN1_INTEGER_set(X509_get_serialNumber(out.get()), ++serial);
  ASN1_TIME_set(X509_getm_notBefore(out.get()), static_cast<time_t>(not_before.get() / 1000));
  ASN1_TIME_set(X509_getm_notAfter(out.get()), static_cast<time_t>(not_after.get() / 1000));
  SP_ASSERT(X509_set_pubkey(out.get(), key) == 1);
  return out;
}

void name(X509_NAME* out, const char* common_name) {
  SP_ASSERT(X509_NAME_add_entry_by_txt(out, "CN", MBSTRING_UTF8,
                                       reinterpret_cast<const unsigned char*>(common_name), -1, -1, 0) == 1);
}

void extend_with(X509* certificate, const char* extension, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* made = X509V3_EXT_conf(nullptr, &context, extension, value);
  SP_ASSERT(made != nullptr && X509_add_ext(certificate, made, -1) == 1);
  X509_EXTENSION_free(made);
}

void add_tpm_name(X509* certificate, const TestVendor::EkOptions& options) {
  GENERAL_NAME* general = GENERAL_NAME_new();
  X509_NAME* directory = X509_NAME_new();
  const auto add = [&](const char* oid, const char* value) {
    ASN1_OBJECT* object = OBJ_txt2obj(oid, 1);
    SP_ASSERT(X509_NAME_add_entry_by_OBJ(directory, object, MBSTRING_UTF8,
                                         reinterpret_cast<const unsigned char*>(value), -1, -1, 0) == 1);
    ASN1_OBJECT_free(object);
  };
  add("2.23.133.2.1", options.manufacturer.c_str());
  if (options.named_twice) add("2.23.133.2.1", options.manufacturer.c_str());
  if (options.with_model) add("2.23.133.2.2", "SoftTpm");
  add("2.23.133.2.3", "id:00010000");
  general->type = GEN_DIRNAME;
  general->d.directoryName = directory;
  GENERAL_NAMES* names = GENERAL_NAMES_new();
  sk_GENERAL_NAME_push(names, general);
  SP_ASSERT(X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, options.critical_san ? 1 : 0,
                              X509V3_ADD_DEFAULT) == 1);
  GENERAL_NAMES_free(names);
}

Bytes sign(X509* certificate, EVP_PKEY* issuer, const EVP_MD* hash) {
  SP_ASSERT(X509_sign(certificate, issuer, hash) > 0);
  std::uint8_t* der = nullptr;
  const int size = i2d_X509(certificate, &der);
  SP_ASSERT(size > 0);
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

const UnixMillis kCaFrom{1'546'300'800'000};  // 2019-01-01
const UnixMillis kCaTo{4'133'980'800'000};    // 2101-01-01
constexpr const char* kRootName = "Soft TPM Root CA";
constexpr const char* kIntermediateName = "Soft TPM Intermediate CA";

// --- TPM2_ActivateCredential, from the specification's other side
// -------------------------------------------------------

struct Hash {
  const EVP_MD* md;
  std::size_t size;
};

Bytes hmac(const Hash& hash, ByteView key, ByteView message) {
  Bytes out(hash.size);
  unsigned size = 0;
  SP_ASSERT(HMAC(hash.md, key.data(), static_cast<int>(key.size()), message.data(), message.size(),
                 out.data(), &size) != nullptr);
  return out;
}

Bytes kdf_a(const Hash& hash, ByteView key, std::string_view label, ByteView context, std::uint32_t bits) {
  Writer in;
  in.u32(1).raw(label).u8(0).raw(context).u32(bits);
  Bytes out = hmac(hash, key, in.bytes());
  out.resize(bits / 8);
  return out;
}

Result<Bytes> decrypt_seed(EVP_PKEY* key, const evidence::PublicArea& ek, const Hash& hash,
                           ByteView encrypted) {
  const crypto::PkeyCtxPtr ctx{EVP_PKEY_CTX_new(key, nullptr)};
  if (ek.form.algorithm == KeyAlgorithm::kRsa2048) {
    void* label = OPENSSL_memdup("IDENTITY", 9);
    Bytes seed(256);
    std::size_t size = seed.size();
    if (EVP_PKEY_decrypt_init(ctx.get()) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(ctx.get(), RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx.get(), EVP_sha256()) != 1 ||
        EVP_PKEY_CTX_set0_rsa_oaep_label(ctx.get(), label, 9) != 1 ||
        EVP_PKEY_decrypt(ctx.get(), seed.data(), &size, encrypted.data(), encrypted.size()) != 1)
      return Error{Code::kUnverified, "OAEP: " + crypto::drain_openssl_errors()};
    seed.resize(size);
    return seed;
  }
  Reader in{encrypted};
  SP_TRY(const ByteView x, in.prefixed16(48));
  SP_TRY(const ByteView y, in.prefixed16(48));
  SP_CHECK(in.finish());
  const bool p256 = ek.form.algorithm == KeyAlgorithm::kP256;
  SP_TRY(const PublicKey peer, p256 ? PublicKey::from_p256(x, y) : PublicKey::from_p384(x, y));
  Bytes z(48);
  std::size_t size = z.size();
  if (EVP_PKEY_derive_init(ctx.get()) != 1 || EVP_PKEY_derive_set_peer(ctx.get(), peer.pkey()) != 1 ||
      EVP_PKEY_derive(ctx.get(), z.data(), &size) != 1)
    return Error{Code::kUnverified, "ECDH: " + crypto::drain_openssl_errors()};
  z.resize(size);
  Writer kdf;
  kdf.u32(1).raw(z).raw("IDENTITY").u8(0).raw(x).raw(ByteView{ek.key.raw()}.subspan(1, size));
  Bytes seed(hash.size);
  SP_ASSERT(EVP_Digest(kdf.bytes().data(), kdf.bytes().size(), seed.data(), nullptr, hash.md, nullptr) == 1);
  return seed;
}

evidence::PublicTemplate ek_template(KeyAlgorithm algorithm) {
  const auto& forms = evidence::ek_templates();
  return *std::ranges::find(forms, algorithm, &evidence::PublicTemplate::algorithm);
}

}  // namespace

// --- TestVendor
// ---------------------------------------------------------------------------------------------------------

TestVendor::TestVendor(const CaOptions& options)
    : root_key_(generate(KeyAlgorithm::kP384)),
      intermediate_key_(generate(KeyAlgorithm::kP256)),
      stranger_key_(generate(KeyAlgorithm::kP256)) {
  const X509Ptr root = new_certificate(root_key_.get(), kCaFrom, kCaTo);
  name(X509_get_subject_name(root.get()), kRootName);
  name(X509_get_issuer_name(root.get()), kRootName);
  extend_with(root.get(), "basicConstraints", "critical,CA:TRUE");
  extend_with(root.get(), "keyUsage", "critical,keyCertSign");
  root_ = std::make_shared<const crypto::Certificate>(value_of(crypto::Certificate::parse_der(
      sign(root.get(), root_key_.get(), options.sha1_root ? EVP_sha1() : EVP_sha384()))));

  const X509Ptr between = new_certificate(intermediate_key_.get(), kCaFrom, options.intermediate_to);
  name(X509_get_subject_name(between.get()), kIntermediateName);
  name(X509_get_issuer_name(between.get()), kRootName);
  extend_with(between.get(), "basicConstraints", "critical,CA:TRUE,pathlen:0");
  extend_with(between.get(), "keyUsage", "critical,keyCertSign");
  intermediate_ = std::make_shared<const crypto::Certificate>(
      value_of(crypto::Certificate::parse_der(sign(between.get(), root_key_.get(), EVP_sha384()))));
}

Bytes TestVendor::issue_ek(const PublicKey& ek, const EkOptions& options) const {
  const X509Ptr certificate = new_certificate(ek.pkey(), options.not_before, options.not_after);
  name(X509_get_issuer_name(certificate.get()), kIntermediateName);
  if (options.v1) {
    X509_set_version(certificate.get(), X509_VERSION_1);
  } else {
    extend_with(certificate.get(), "basicConstraints", options.ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    const char* usage =
        ek.algorithm() == KeyAlgorithm::kRsa2048 ? "critical,keyEncipherment" : "critical,keyAgreement";
    if (options.with_key_usage)
      extend_with(certificate.get(), "keyUsage",
                  options.wrong_key_usage ? "critical,digitalSignature" : usage);
    if (options.with_eku) extend_with(certificate.get(), "extendedKeyUsage", options.eku.c_str());
    if (options.with_san) add_tpm_name(certificate.get(), options);
    if (options.unknown_critical) extend_with(certificate.get(), "1.3.6.1.4.1.99999.1", "critical,DER:0500");
  }
  EVP_PKEY* issuer = options.by_stranger ? stranger_key_.get() : intermediate_key_.get();
  return sign(certificate.get(), issuer, options.sha1 ? EVP_sha1() : EVP_sha256());
}

TestVendor::OnDie TestVendor::issue_on_die(const PublicKey& ek) const {
  std::vector<Bytes> cas;
  KeyPtr issuer = root_key_;
  const char* issuer_name = kRootName;
  for (const char* ca : {"On-die Intermediate CA", "ROM CA", "Kernel CA", "TPM CA"}) {
    const KeyPtr key = generate(KeyAlgorithm::kP384);
    const X509Ptr certificate = new_certificate(key.get(), kCaFrom, kCaTo);
    name(X509_get_subject_name(certificate.get()), ca);
    name(X509_get_issuer_name(certificate.get()), issuer_name);
    extend_with(certificate.get(), "basicConstraints", "critical,CA:TRUE");
    extend_with(certificate.get(), "keyUsage", "critical,keyCertSign");
    cas.push_back(sign(certificate.get(), issuer.get(), EVP_sha384()));
    issuer = key;
    issuer_name = ca;
  }
  const EkOptions options;
  const X509Ptr leaf = new_certificate(ek.pkey(), options.not_before, options.not_after);
  name(X509_get_issuer_name(leaf.get()), issuer_name);
  extend_with(leaf.get(), "basicConstraints", "critical,CA:FALSE");
  extend_with(
      leaf.get(), "keyUsage",
      ek.algorithm() == KeyAlgorithm::kRsa2048 ? "critical,keyEncipherment" : "critical,keyAgreement");
  extend_with(leaf.get(), "extendedKeyUsage", options.eku.c_str());
  add_tpm_name(leaf.get(), options);
  crypto::Certificate published = value_of(crypto::Certificate::parse_der(cas.front()));
  cas.erase(cas.begin());
  return {std::move(published), std::move(cas), sign(leaf.get(), issuer.get(), EVP_sha384())};
}

// --- SoftTpm
// --------------------------------------------------------------------------------------------------------------

SoftTpm::SoftTpm(KeyAlgorithm ek, KeyAlgorithm ak)
    : identity_key(std::make_shared<const evidence::PublicArea>(evidence::PublicArea{
          evidence::identity_template(), public_key_of(generate(KeyAlgorithm::kP256).get())})),
      ek_key_(generate(ek)),
      ak_key_(generate(ak)),
      ek_(std::make_shared<const evidence::PublicArea>(
          evidence::PublicArea{ek_template(ek), public_key_of(ek_key_.get())})),
      ak_(std::make_shared<const evidence::AttestationKey>(
          value_of(evidence::parse_attestation_key(evidence::encode(evidence::PublicArea{
              *std::ranges::find(evidence::ak_templates(), ak, &evidence::PublicTemplate::algorithm),
              public_key_of(ak_key_.get())}))))) {
  for (std::size_t i = 0; i < 8; ++i)
    pcrs[i] = crypto::sha256(as_bytes("measured boot " + std::to_string(i)));
}

void SoftTpm::extend(unsigned pcr, const Digest256& digest) {
  pcrs.at(pcr) = crypto::sha256({view(pcrs.at(pcr)), view(digest)});
}

void SoftTpm::reset() {
  pcrs = {};
  ++clock.reset_count;
  clock.restart_count = 0;
}

void SoftTpm::restart() {
  ++clock.restart_count;
}

std::vector<Digest256> SoftTpm::pcr_values(const evidence::PcrSelection& selection) const {
  std::vector<Digest256> out;
  for (const std::uint8_t index : selection.indices()) out.push_back(pcrs.at(index));
  return out;
}

Digest256 SoftTpm::pcr_digest(const evidence::PcrSelection& selection) const {
  return evidence::pcr_digest(pcr_values(selection));
}

evidence::BootBaseline SoftTpm::baseline(const evidence::PcrSelection& selection) const {
  return {selection, pcr_digest(selection)};
}

evidence::SignedAttest SoftTpm::quote(const Digest256& binding, const evidence::PcrSelection& selection) {
  advance(1);
  return sign_attest({ak_->qualified_name(), to_bytes(view(binding)), clock, firmware_version,
                      evidence::ClaimedQuote{selection, pcr_digest(selection)}});
}

evidence::SignedAttest SoftTpm::certify(const SoftSessionKey& key, const Digest256& binding) {
  advance(1);
  return sign_attest({ak_->qualified_name(), to_bytes(view(binding)), clock, firmware_version,
                      evidence::ClaimedCertify{
                          key.name, evidence::qualified_name_of_primary(evidence::kHandleNull, key.name)}});
}

evidence::IdentityEvidence SoftTpm::prove_identity(const Digest256& binding) {
  advance(1);
  constexpr std::uint32_t kCreatePrimary = 0x131;
  const Bytes data(55, 1), area = evidence::encode(*identity_key);
  Writer created;
  created.prefixed16(area).prefixed16(data).prefixed16(view(crypto::sha256(data)));
  created.u16(0x8021).u32(evidence::kHandleEndorsement).prefixed16(Bytes(32, 2));
  created.prefixed16(view(evidence::name_of(*identity_key)));
  const Digest256 cp = crypto::sha256(Writer{}
                                          .u32(kCreatePrimary)
                                          .u32(evidence::kHandleEndorsement)
                                          .raw(evidence::identity_parameters())
                                          .bytes());
  const Digest256 rp = crypto::sha256(Writer{}.u32(0).u32(kCreatePrimary).raw(created.bytes()).bytes());
  const Digest256 session = crypto::sha256(Writer{}.raw(Bytes(32)).raw(view(cp)).raw(view(rp)).bytes());
  return {sign_attest({ak_->qualified_name(), to_bytes(view(binding)), clock, firmware_version,
                       evidence::ClaimedSessionAudit{true, session}}),
          std::move(created).take()};
}

evidence::SessionKeyPolicy SoftTpm::session_policy(const PublicKey& lease_key, const Origin& origin,
                                                   const CaseId& case_id,
                                                   const evidence::PcrSelection& selection) const {
  return {.selection = selection,
          .pcr_digest = pcr_digest(selection),
          .reset_count = clock.reset_count,
          .restart_count = clock.restart_count,
          .lease_key = value_of(evidence::lease_key_public(lease_key)).name,
          .policy_ref = evidence::lease_policy_ref(origin, case_id)};
}

SoftSessionKey SoftTpm::create_session_key(evidence::SessionKeyUse use,
                                           const evidence::SessionKeyPolicy& policy) const {
  crypto::PrivateKey key = crypto::PrivateKey::generate(KeyAlgorithm::kP256);
  evidence::PublicArea area{evidence::session_key_template(use, evidence::policy_digest(policy)),
                            key.public_key()};
  Bytes tpmt_public = evidence::encode(area);
  evidence::TpmName name = evidence::name_of(area);
  return {use, std::move(key), std::move(area), std::move(tpmt_public), std::move(name)};
}

Result<Bytes> SoftTpm::activate_credential(const evidence::CredentialBlob& blob) const {
  const bool sha384 = ek_->form.name_alg == evidence::NameAlg::kSha384;
  const Hash hash{sha384 ? EVP_sha384() : EVP_sha256(), sha384 ? std::size_t{48} : std::size_t{32}};
  SP_TRY(const Bytes seed, decrypt_seed(ek_key_.get(), *ek_, hash, blob.encrypted_secret));
  Reader in{blob.id_object};
  SP_TRY(const ByteView integrity, in.prefixed16(hash.size));
  const ByteView identity = in.rest();
  const Bytes hmac_key = kdf_a(hash, seed, "INTEGRITY", {}, static_cast<std::uint32_t>(hash.size * 8));
  Writer protected_part;
  protected_part.raw(identity).raw(view(ak_->name()));
  if (!equal(hmac(hash, hmac_key, protected_part.bytes()), integrity))
    return Error{Code::kUnverified, Reason::kCredentialChallenge, "integrity check failed"};
  const bool aes256 = ek_->form.symmetric == evidence::Symmetric::kAes256Cfb;
  const Bytes key = kdf_a(hash, seed, "STORAGE", view(ak_->name()), aes256 ? 256 : 128);
  const std::unique_ptr<EVP_CIPHER_CTX, crypto::FreeWith<EVP_CIPHER_CTX_free>> ctx{EVP_CIPHER_CTX_new()};
  const ByteArray<16> iv{};
  Bytes plain(identity.size());
  int size = 0;
  SP_ASSERT(EVP_DecryptInit_ex(ctx.get(), aes256 ? EVP_aes_256_cfb128() : EVP_aes_128_cfb128(), nullptr,
                               key.data(), iv.data()) == 1 &&
            EVP_DecryptUpdate(ctx.get(), plain.data(), &size, identity.data(),
                              static_cast<int>(identity.size())) == 1);
  Reader out{plain};
  SP_TRY(const ByteView secret, out.prefixed16(hash.size));
  SP_CHECK(out.finish());
  return to_bytes(secret);
}

evidence::SignedAttest SoftTpm::sign_attest(const evidence::ClaimedAttest& attest) const {
  return sign_bytes(evidence::encode(attest));
}

evidence::SignedAttest SoftTpm::sign_bytes(ByteView attest) const {
  return {to_bytes(attest), sign_in(ak_->area().form.scheme, EVP_sha256(), attest)};
}

Bytes SoftTpm::sign_in(evidence::Scheme scheme, const EVP_MD* hash, ByteView attest) const {
  const crypto::MdCtxPtr ctx{EVP_MD_CTX_new()};
  EVP_PKEY_CTX* key = nullptr;
  SP_ASSERT(EVP_DigestSignInit(ctx.get(), &key, hash, nullptr, ak_key_.get()) == 1);
  if (scheme == evidence::Scheme::kRsaPssSha256)
    SP_ASSERT(EVP_PKEY_CTX_set_rsa_padding(key, RSA_PKCS1_PSS_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_pss_saltlen(key, RSA_PSS_SALTLEN_DIGEST) == 1);
  Bytes made(512);
  std::size_t size = made.size();
  SP_ASSERT(EVP_DigestSign(ctx.get(), made.data(), &size, attest.data(), attest.size()) == 1);
  made.resize(size);
  if (scheme != evidence::Scheme::kEcdsaSha256) return evidence::encode(evidence::TpmSignature{scheme, made});
  const std::uint8_t* at = made.data();
  const crypto::EcdsaSigPtr ecdsa{d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size))};
  crypto::Signature64 raw{};
  SP_ASSERT(BN_bn2binpad(ECDSA_SIG_get0_r(ecdsa.get()), raw.data(), 32) == 32 &&
            BN_bn2binpad(ECDSA_SIG_get0_s(ecdsa.get()), raw.data() + 32, 32) == 32);
  return evidence::encode_ecdsa(raw);
}

}  // namespace sallyport::test

#include "attestation/evidence/templates.h"

#include <algorithm>

#include "attestation/base/writer.h"

namespace sallyport::evidence {
namespace {

using crypto::KeyAlgorithm;

// TCG EK Credential Profile 2.x: PolicyA (SHA-256) = PolicySecret(TPM_RH_ENDORSEMENT), for the low range;
// PolicyB = PolicyOR(PolicyA, PolicyAuthorizeNV of the index for this hash), for the high range.
constexpr ByteArray<32> kPolicyASha256 = {0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                          0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                          0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};
constexpr ByteArray<32> kPolicyBSha256 = {0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34,
                                          0x24, 0x14, 0xef, 0xcf, 0xb3, 0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd,
                                          0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0};
constexpr ByteArray<48> kPolicyBSha384 = {
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12};

constexpr std::uint32_t kEkLow = attribute::kFixedTpm | attribute::kFixedParent |
                                 attribute::kSensitiveDataOrigin | attribute::kAdminWithPolicy |
                                 attribute::kRestricted | attribute::kDecrypt;
constexpr std::uint32_t kEkHigh = kEkLow | attribute::kUserWithAuth;

PublicTemplate ek(KeyAlgorithm algorithm, NameAlg name_alg, std::uint32_t attributes, ByteView policy,
                  Symmetric symmetric) {
  return {.algorithm = algorithm,
          .name_alg = name_alg,
          .attributes = attributes,
          .auth_policy = to_bytes(policy),
          .symmetric = symmetric,
          .scheme = Scheme::kNull};
}

PublicTemplate ak(KeyAlgorithm algorithm, Scheme scheme) {
  return {.algorithm = algorithm,
          .attributes = attribute::kFixedTpm | attribute::kFixedParent | attribute::kSensitiveDataOrigin |
                        attribute::kUserWithAuth | attribute::kNoDa | attribute::kRestricted |
                        attribute::kSign,
          .auth_policy = {},
          .scheme = scheme};
}

}  // namespace

const std::vector<PublicTemplate>& ak_templates() {
  static const std::vector<PublicTemplate> forms{ak(KeyAlgorithm::kP256, Scheme::kEcdsaSha256),
                                                 ak(KeyAlgorithm::kRsa2048, Scheme::kRsaSsaSha256)};
  return forms;
}

const PublicTemplate& ak_template() {
  return ak_templates().front();
}

PublicTemplate session_key_template(SessionKeyUse use, const Digest256& policy) {
  const bool sign = use == SessionKeyUse::kSign;
  return {.algorithm = KeyAlgorithm::kP256,
          .attributes = attribute::kFixedTpm | attribute::kFixedParent | attribute::kSensitiveDataOrigin |
                        attribute::kNoDa | (sign ? attribute::kSign : attribute::kDecrypt),
          .auth_policy = to_bytes(view(policy)),
          .scheme = sign ? Scheme::kEcdsaSha256 : Scheme::kNull};
}

const PublicTemplate& lease_key_template() {
  static const PublicTemplate form{.algorithm = KeyAlgorithm::kP256,
                                   .attributes = attribute::kUserWithAuth | attribute::kSign,
                                   .auth_policy = {}};
  return form;
}

Result<LeaseKeyPublic> lease_key_public(const crypto::PublicKey& lease_key) {
  if (lease_key.algorithm() != KeyAlgorithm::kP256)
    return Error{Code::kMalformed, "lease key that is not P-256"};
  Bytes tpmt_public = encode(PublicArea{lease_key_template(), lease_key});
  TpmName name = name_of_encoded(tpmt_public, NameAlg::kSha256);
  return LeaseKeyPublic{std::move(tpmt_public), std::move(name)};
}

const std::vector<PublicTemplate>& ek_templates() {
  static const std::vector<PublicTemplate> forms{
      ek(KeyAlgorithm::kRsa2048, NameAlg::kSha256, kEkLow, kPolicyASha256, Symmetric::kAes128Cfb),   // L-1
      ek(KeyAlgorithm::kP256, NameAlg::kSha256, kEkLow, kPolicyASha256, Symmetric::kAes128Cfb),      // L-2
      ek(KeyAlgorithm::kRsa2048, NameAlg::kSha256, kEkHigh, kPolicyBSha256, Symmetric::kAes128Cfb),  // H-1
      ek(KeyAlgorithm::kP256, NameAlg::kSha256, kEkHigh, kPolicyBSha256, Symmetric::kAes128Cfb),     // H-2
      ek(KeyAlgorithm::kP384, NameAlg::kSha384, kEkHigh, kPolicyBSha384, Symmetric::kAes256Cfb)};    // H-3
  return forms;
}

Bytes encode_for_create_ek(const PublicTemplate& form) {
  Bytes area = encode_for_create(form);
  if ((form.attributes & attribute::kUserWithAuth) != 0) return area;  // high range
  const bool rsa = form.algorithm == KeyAlgorithm::kRsa2048;
  Writer out;
  out.raw(ByteView{area}.first(area.size() - (rsa ? 2 : 4)));  // without the empty unique
  if (rsa)
    out.prefixed16(Bytes(256));
  else
    out.prefixed16(Bytes(32)).prefixed16(Bytes(32));
  return std::move(out).take();
}

AttestationKey::AttestationKey(PublicArea area)
    : area_(std::move(area)),
      name_(name_of(area_)),
      qualified_name_(qualified_name_of_primary(kHandleEndorsement, name_)) {}

Result<AttestationKey> parse_attestation_key(ByteView tpmt_public) {
  SP_TRY(PublicArea area, parse_public_area(tpmt_public));
  // The parser takes one encoding per value, so equal forms are equal bytes.
  if (std::ranges::find(ak_templates(), area.form) == ak_templates().end())
    return Error{Code::kUnverified, Reason::kKeyTemplate, "attestation key that is none of the templates"};
  return AttestationKey{std::move(area)};
}

}  // namespace sallyport::evidence

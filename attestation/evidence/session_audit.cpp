#include "attestation/evidence/session_audit.h"

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/signed_attest.h"

namespace sallyport::evidence {
namespace {

constexpr std::uint32_t kCcCreatePrimary = 0x131;
constexpr std::uint16_t kTagCreation = 0x8021;  // TPM_ST_CREATION

Digest256 cp_hash() {
  Writer in;
  // The Name of a hierarchy is its handle.
  in.u32(kCcCreatePrimary).u32(kHandleEndorsement).raw(identity_parameters());
  return crypto::sha256(in.bytes());
}

Digest256 rp_hash(ByteView created) {
  Writer in;
  in.u32(0).u32(kCcCreatePrimary).raw(created);  // TPM_RC_SUCCESS
  return crypto::sha256(in.bytes());
}

// The digest of a session that audited one command.
Digest256 session_digest(ByteView created) {
  Writer in;
  in.raw(ByteArray<32>{}).raw(view(cp_hash())).raw(view(rp_hash(created)));
  return crypto::sha256(in.bytes());
}

}  // namespace

const PublicTemplate& identity_template() {
  return ak_template();
}

Bytes identity_parameters() {
  Writer out;
  out.prefixed16(Writer{}.u16(0).u16(0).bytes());          // inSensitive
  out.prefixed16(encode_for_create(identity_template()));  // inPublic
  out.u16(0).u32(0);                                       // outsideInfo, creationPCR
  return std::move(out).take();
}

Result<PublicArea> parse_created(ByteView created) {
  if (created.size() > kMaxCreatedBytes)
    return Error{Code::kMalformed, "answer to TPM2_CreatePrimary longer than its cap"};
  Reader in{created};
  SP_TRY(const ByteView tpmt_public, in.prefixed16(kMaxCreatedBytes));
  SP_TRY(PublicArea area, parse_public_area(tpmt_public));
  SP_TRY(const ByteView creation_data, in.prefixed16(kMaxCreatedBytes));
  SP_TRY(const ByteView creation_hash, in.prefixed16(32));
  if (!equal(creation_hash, view(crypto::sha256(creation_data))))
    return Error{Code::kMalformed, "creation hash that is not of the creation data"};
  SP_TRY(const std::uint16_t tag, in.u16());
  SP_TRY(const std::uint32_t hierarchy, in.u32());
  if (tag != kTagCreation || hierarchy != kHandleEndorsement)
    return Error{Code::kMalformed, "creation ticket of another kind or hierarchy"};
  SP_TRY(const ByteView ticket, in.prefixed16(64));
  static_cast<void>(ticket);  // for the TPM itself
  SP_TRY(const ByteView name, in.prefixed16(34));
  SP_CHECK(in.finish());
  if (!equal(name, view(name_of(area)))) return Error{Code::kMalformed, "Name of another key"};
  return area;
}

Result<VerifiedIdentity> verify_identity(const IdentityEvidence& evidence, const AttestationKey& ak,
                                         const Digest256& binding) {
  SP_TRY(const ClaimedAttest claimed, verify_signed_attest(evidence.audit, ak, binding, nullptr));
  const auto* audit = std::get_if<ClaimedSessionAudit>(&claimed.attested);
  if (audit == nullptr) return Error{Code::kMalformed, "attestation that is not of a session's audit"};
  SP_TRY(const PublicArea area, parse_created(evidence.created));
  if (area.form != identity_template())
    return Error{Code::kUnverified, Reason::kKeyTemplate, "identity of another template"};
  if (audit->session_digest != session_digest(evidence.created))
    return Error{Code::kUnverified, Reason::kKeyCertify,
                 "audit of another command, or of another answer, than the identity's"};
  return VerifiedIdentity{name_of(area)};
}

}  // namespace sallyport::evidence

#include "attestation/evidence/key_policy.h"

#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"

namespace sallyport::evidence {
namespace {

constexpr std::uint32_t kCommandEcdhZGen = 0x00000154;
constexpr std::uint32_t kCommandSign = 0x0000015D;
constexpr std::uint32_t kCommandPolicySigned = 0x00000160;
constexpr std::uint32_t kCommandPolicyCounterTimer = 0x0000016D;
constexpr std::uint32_t kCommandPolicyPcr = 0x0000017F;
constexpr std::uint16_t kOffsetResetCount = 16;  // of TPMS_TIME_INFO; restartCount follows at 20
constexpr std::uint16_t kOperationEqual = 0;
constexpr std::uint16_t kTagHashCheck = 0x8024;

Digest256 digest_of(const Writer& out) {
  return crypto::sha256(out.bytes());
}

}  // namespace

Digest256 policy_digest(const SessionKeyPolicy& policy) {
  Writer pcr;
  pcr.raw(ByteArray<32>{}).u32(kCommandPolicyPcr).raw(encode(policy.selection)).raw(view(policy.pcr_digest));
  Writer operand;
  operand.u32(policy.reset_count).u32(policy.restart_count).u16(kOffsetResetCount).u16(kOperationEqual);
  Writer counters;
  counters.raw(view(digest_of(pcr))).u32(kCommandPolicyCounterTimer).raw(view(digest_of(operand)));
  Writer authority;
  authority.raw(view(digest_of(counters))).u32(kCommandPolicySigned).raw(view(policy.lease_key));
  return crypto::sha256({view(digest_of(authority)), view(policy.policy_ref)});
}

Digest256 lease_policy_ref(const Origin& origin, const CaseId& case_id) {
  constexpr std::string_view kLabel{"sallyport/lease/v1\0", 19};
  Writer out;
  out.raw(kLabel).raw(origin.get()).u8(0).raw(view(case_id));
  return digest_of(out);
}

Digest256 cp_hash_sign(const TpmName& key, const Digest256& digest) {
  Writer out;
  out.u32(kCommandSign).raw(view(key)).prefixed16(view(digest));
  out.u16(static_cast<std::uint16_t>(TpmAlg::kNull));
  out.u16(kTagHashCheck).u32(kHandleNull).u16(0);
  return digest_of(out);
}

Result<Digest256> cp_hash_ecdh_zgen(const TpmName& key, ByteView point) {
  if (point.size() != 65 || point[0] != 4) return Error{Code::kMalformed, "not an uncompressed P-256 point"};
  Writer in_point;
  in_point.prefixed16(point.subspan(1, 32)).prefixed16(point.subspan(33));
  Writer out;
  out.u32(kCommandEcdhZGen).raw(view(key)).prefixed16(in_point.bytes());
  return digest_of(out);
}

Result<Digest256> lease_hash(ByteView nonce_tpm, std::uint32_t expiration_seconds, const Digest256& cp_hash,
                             const Digest256& policy_ref) {
  if (nonce_tpm.size() != 32) return Error{Code::kMalformed, "nonceTPM that is not 32 bytes long"};
  if (expiration_seconds < kMinLeaseSeconds || expiration_seconds > kMaxLeaseSeconds)
    return Error{Code::kMalformed, "lease that is not between 1 and 30 seconds"};
  Writer out;
  out.raw(nonce_tpm).u32(expiration_seconds).raw(view(cp_hash)).raw(view(policy_ref));
  return digest_of(out);
}

}  // namespace sallyport::evidence

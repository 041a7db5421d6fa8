#include "client/auditor/eat.h"

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/certify.h"

namespace sallyport::client::auditor {
namespace {

using record::VerifiedGrant;
using record::json::Member;
using record::json::Value;

// Whatever RFC 9711 and JWT have no claim for is in the vendor's tree, as the payload types of statements.
std::string own(std::string_view name) {
  return "vnd.sallyport." + std::string{name};
}

// A UEID of type RAND is 256 bits of a hash over what identifies the entity (RFC 9711 §4.2.1.1): here, over
// the endorsement key.
std::string ueid(const DeviceId& device) {
  Writer out;
  out.u8(0x01).raw(view(device));
  return to_base64url(out.bytes());
}

// How the quoted PCRs were compared, each. The RFC's claim is for comparisons with reference values only:
// signatures, counters and the quorum are in none of it.
Value measurement_results(const VerifiedGrant& grant, const evidence::Reference* reference, bool wants_ima) {
  const bool as_enrolled = reference != nullptr && reference->as_enrolled;
  Value::Array results;
  for (const std::uint8_t pcr : grant.quote.selection().indices()) {
    // A travel form is without its event log: there the boot was judged by others, who had it.
    const bool compared = reference != nullptr && (as_enrolled || reference->judges(pcr));
    results.push_back(Value::Array{"pcr" + std::to_string(pcr), compared ? "success" : "not-run"});
  }
  if (reference != nullptr && !as_enrolled) results.push_back(Value::Array{"secure-boot", "success"});
  Value::Array groups{
      Value::Array{own(as_enrolled ? "enrolled-pcrs" : "event-log"), Value{std::move(results)}}};
  // Nor does a list of the kernel's travel.
  if (wants_ima)
    groups.push_back(
        Value::Array{own("ima"), Value::Array{Value::Array{"pcr10", grant.ima ? "success" : "not-run"}}});
  return groups;
}

Value quote(const evidence::VerifiedQuote& quote) {
  Value::Array pcrs;
  const std::vector<std::uint8_t> indices = quote.selection().indices();
  for (std::size_t i = 0; i < indices.size(); ++i)
    pcrs.push_back(
        Value::object({{"pcr", std::uint64_t{indices[i]}}, {"value", to_hex(quote.pcr_values()[i])}}));
  return Value::object({{"bank", "sha256"},
                        {"pcr_digest", to_hex(quote.pcr_digest())},
                        {"pcrs", std::move(pcrs)},
                        {"reset_count", std::uint64_t{quote.clock().reset_count}},
                        {"restart_count", std::uint64_t{quote.clock().restart_count}},
                        {"safe", Value{quote.clock().safe}}});
}

// The key that whoever presents the credential holds (RFC 7800 §3.2), and what the TPM asks of its uses.
Result<Value> session_key(const VerifiedGrant& grant, const policy::Policy& policy) {
  SP_TRY(const evidence::SessionKeyPolicy uses,
         evidence::session_key_policy(grant.quote, policy.authority.keys.lease, grant.origin, grant.case_id));
  const ByteView point{grant.session_key.raw()};  // 04 ‖ x ‖ y
  SP_ASSERT(grant.session_key.algorithm() == crypto::KeyAlgorithm::kP256 && point.size() == 65);
  const Value jwk = Value::object({{"crv", "P-256"},
                                   {"kty", "EC"},
                                   {"x", to_base64url(point.subspan(1, 32))},
                                   {"y", to_base64url(point.subspan(33, 32))}});
  return Value::object({{"cnf", Value::object({{"jwk", jwk}})},
                        {own("auth_policy"), to_hex(evidence::policy_digest(uses))},
                        {own("tpm_name"), "000b" + to_hex(grant.session_key_name)}});
}

Value access(const VerifiedGrant& grant) {
  Value::Array rules{grant.rules.begin(), grant.rules.end()}, approvers, quorum;
  for (const PersonId& approver : grant.approvers) approvers.push_back(approver.get());
  for (const record::QuorumClause& clause : grant.quorum)
    quorum.push_back(Value::object({{"approvals", clause.approvals}, {"group", clause.group}}));
  return Value::object({{"account", grant.account},
                        {"approvers", std::move(approvers)},
                        {"beneficiary", grant.beneficiary.get()},
                        {"case", to_hex(grant.case_id)},
                        {"command", grant.command},
                        {"decision", to_hex(grant.decision_digest)},
                        {"host", grant.host},
                        {"leaf", grant.leaf_index.get()},
                        {"leaf_hash", to_hex(grant.leaf_hash)},
                        {"not_after", grant.not_after.get()},
                        {"not_before", grant.not_before.get()},
                        {"origin", grant.origin.get()},
                        {"person", grant.person.get()},
                        {"policy", to_hex(grant.policy_digest)},
                        {"quorum", std::move(quorum)},
                        {"resource", grant.resource.get()},
                        {"rules", std::move(rules)}});
}

}  // namespace

Result<Value> eat_claims(const record::Dossier& dossier, const record::ControlState& control) {
  SP_TRY(const VerifiedGrant grant, record::verify_dossier(dossier, control, dossier.grant_leaf.time));
  const auto loaded = control.policy_at(grant.leaf_index);
  SP_ASSERT(loaded != nullptr && loaded->policy.digest == grant.policy_digest);
  const auto found = loaded->references.find(grant.boot.reference);
  const evidence::Reference* reference = found ? &loaded->references.references[*found] : nullptr;
  SP_TRY(Value key, session_key(grant, loaded->policy));

  const bool full = grant.form == record::DossierForm::kFull;
  std::vector<Member> claims = {
      {"bootcount", std::uint64_t{grant.quote.clock().reset_count}},
      {"eat_nonce", to_base64url(view(grant.nonce))},
      {"eat_profile", kEatProfile},
      {"iat", grant.not_before.get() / 1000},
      {"measres", measurement_results(grant, reference, loaded->references.ima.has_value())},
      {"submods", Value::object({{"session-key", std::move(key)}})},
      {"ueid", ueid(grant.device)},
      {own("access"), access(grant)},
      {own("dossier"), Value::object({{"form", full ? "full" : "travel"},
                                      {"sha256", to_hex(crypto::sha256(record::encode_dossier(dossier)))}})},
      {own("machine"), grant.device_name},
      {own("quote"), quote(grant.quote)},
      {own("tpm_firmware"), to_hex(Writer{}.u64(grant.quote.firmware_version()).bytes())}};
  if (!grant.tpm_maker.empty()) claims.push_back({own("tpm_maker"), grant.tpm_maker});
  // Only a reference that describes a boot event by event names what was booted.
  if (reference != nullptr && !reference->as_enrolled) {
    claims.push_back({"swname", reference->id});
    claims.push_back({"swversion", Value::Array{std::to_string(loaded->references.version)}});
    claims.push_back({own("secure_boot"), Value{reference->secure_boot}});
  }
  return Value::object(std::move(claims));
}

}  // namespace sallyport::client::auditor

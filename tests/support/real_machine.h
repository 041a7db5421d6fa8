#pragma once

#include "attestation/crypto/random.h"
#include "attestation/record/binding.h"
#include "attestation/tpm/tpm.h"
#include "tests/support/record_scenario.h"

namespace sallyport::test {

inline record::Blob real_quote(tpm::Tpm& tpm, const evidence::PcrSelection& selection,
                               const Digest256& binding) {
  const tpm::Quote quote = value_of(tpm.quote(selection, binding));
  record::QuoteEvidence quoted{quote.evidence.attest, quote.evidence.signature, {}};
  for (const Digest256& value : quote.pcrs) quoted.pcrs.push_back(value.get());
  return {record::EvidenceType::kQuote, record::encode(quoted)};
}

// real_enrolment makes what a machine with a TPM of its own, not one of ours in software, sends to be
// enrolled with one of its endorsement keys and with the attestation key that the connection uses.
inline record::Submission real_enrolment(tpm::Tpm& tpm, const tpm::Endorsement& ek,
                                         const RecordScenario& company, const CaseId& id,
                                         const std::string& name, const std::string& person = "erin") {
  using namespace record;
  const evidence::PcrSelection selection = company.policy().references.selection;
  const EnrolmentRequested statement{
      .ak = value_of(tpm.attestation_key()),
      .authority = company.origin().get(),
      .case_id = id,
      .device = DeviceId{value_of(evidence::parse_public_area(ek.public_area)).key.id().get()},
      .ek = ek.public_area,
      .name = name,
      .nonce = crypto::random_nonce(),
      .pcrs = evidence::pcr_digest(value_of(tpm.read_pcrs(selection))),
      .person = SampleCompany::id(person),
      .region = "us",
      .time = company.now};
  const Digest256 digest = statement_digest(payload_type(Kind::kEnrolmentRequested), encode(statement));
  const Digest256 binding = evidence::binding_digest({.purpose = evidence::Purpose::kEnrol,
                                                      .origin = company.origin(),
                                                      .case_id = id,
                                                      .request = digest,
                                                      .nonce = statement.nonce,
                                                      .note = no_note()});
  std::vector<Blob> blobs{real_quote(tpm, selection, binding),
                          {EvidenceType::kEkCertificate, ek.certificate},
                          {EvidenceType::kIdentity, encode(value_of(tpm.prove_identity(binding)))}};
  for (const Bytes& der : ek.chain) blobs.push_back({EvidenceType::kEkCertificate, der});
  return {company.sign(Kind::kEnrolmentRequested, statement, company.company.token(person)),
          sorted_blobs(std::move(blobs))};
}

// real_request makes what such a machine, enrolled as `device`, sends to ask for access.
inline OpenCase real_request(tpm::Tpm& tpm, const DeviceId& device, RecordScenario& company) {
  using namespace record;
  const evidence::PcrSelection selection = company.policy().references.selection;
  const crypto::PublicKey& lease = company.policy().policy.authority.keys.lease;
  const CaseId id = crypto::random_case_id();
  const evidence::ClockInfo clock = value_of(tpm.boot_time()).clock;
  const tpm::SessionKey key = value_of(tpm.create_session_key(
      evidence::SessionKeyUse::kSign,
      {selection, evidence::pcr_digest(value_of(tpm.read_pcrs(selection))), clock.reset_count,
       clock.restart_count, value_of(evidence::lease_key_public(lease)).name,
       evidence::lease_policy_ref(company.origin(), id)},
      lease));

  // A TPM in software goes through the motions; then what it has signed is replaced.
  SoftTpm stand_in;
  std::optional<Digest256> for_quote, for_key;
  RecordScenario::RequestStep step{.case_id = id, .tpm = &stand_in};
  step.edit = [&](Request& request) {
    request.device = device;
    std::copy(key.name.get().begin(), key.name.get().end(), request.key.begin());
  };
  step.edit_quote_binding = [&](evidence::Binding& binding) {
    for_quote = evidence::binding_digest(binding);
  };
  step.edit_key_binding = [&](evidence::Binding& binding) { for_key = evidence::binding_digest(binding); };
  step.edit_blobs = [&](std::vector<Blob>& blobs) {
    std::erase_if(blobs, [](const Blob& blob) {
      return blob.type == EvidenceType::kQuote || blob.type == EvidenceType::kKey;
    });
    blobs.push_back(real_quote(tpm, selection, *for_quote));
    const evidence::SignedAttest certified = value_of(tpm.certify(key, *for_key));
    blobs.push_back(
        {EvidenceType::kKey, encode(KeyEvidence{key.public_area, certified.attest, certified.signature})});
  };
  return company.make_request(step);
}

}  // namespace sallyport::test

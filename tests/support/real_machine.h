#pragma once

#include "attestation/crypto/random.h"
#include "attestation/record/binding.h"
#include "attestation/tpm/tpm.h"
#include "tests/support/record_scenario.h"

namespace sallyport::test {

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
  const tpm::Quote quote = value_of(tpm.quote(selection, binding));
  QuoteEvidence quoted{quote.evidence.attest, quote.evidence.signature, {}};
  for (const Digest256& value : quote.pcrs) quoted.pcrs.push_back(value.get());
  std::vector<Blob> blobs{{EvidenceType::kQuote, encode(quoted)},
                          {EvidenceType::kEkCertificate, ek.certificate},
                          {EvidenceType::kIdentity, encode(value_of(tpm.prove_identity(binding)))}};
  for (const Bytes& der : ek.chain) blobs.push_back({EvidenceType::kEkCertificate, der});
  return {company.sign(Kind::kEnrolmentRequested, statement, company.company.token(person)),
          sorted_blobs(std::move(blobs))};
}

}  // namespace sallyport::test

#include "client/engineer/enroll.h"

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/evidence/credential.h"
#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

using record::Blob;
using record::EvidenceType;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{2'000};  // also how often the case's state is looked at
constexpr std::string_view kAnswerLabel{"sallyport/enrol/v1\0", 19};

// A TPM2B in front of a credential's parts, as README of the API has them.
Result<Bytes> strip_size(ByteView tpm2b) {
  Reader in{tpm2b};
  SP_TRY(const ByteView inner, in.prefixed16(512));
  SP_CHECK(in.finish());
  return to_bytes(inner);
}

}  // namespace

Result<Enrolled> enrol(Opened& opened, tpm::Tpm& tpm, const std::string& name, const std::string& region,
                       milliseconds patience) {
  SP_TRY(const tpm::Endorsement endorsement, tpm.endorsement());
  SP_TRY(const MachineProof machine, identify_machine(tpm));
  SP_TRY(const auto pcrs, tpm.read_pcrs(evidence::PcrSelection::standard()));
  SP_TRY(const api::Hello hello, opened.session->hello());

  record::EnrolmentRequested statement;
  statement.ak = machine.ak;
  statement.authority = opened.settings.anchor.origin.get();
  statement.case_id = crypto::random_case_id();
  statement.device = machine.device;
  statement.ek = endorsement.public_area;
  statement.name = name;
  statement.nonce = hello.nonce;
  statement.pcrs = evidence::pcr_digest(pcrs);
  statement.person = opened.settings.person;
  statement.region = region;
  statement.time = now();
  const Bytes payload = record::encode(statement);
  const std::string type = record::payload_type(record::Kind::kEnrolmentRequested);
  const Digest256 digest = record::statement_digest(type, payload);
  SP_TRY(Blob quote,
         quote_machine(tpm, {evidence::Purpose::kEnrol, opened.settings.anchor.origin, statement.case_id,
                             digest, statement.nonce, crypto::sha256(ByteView{})}));
  std::vector<Blob> blobs;
  blobs.push_back(std::move(quote));
  blobs.push_back({EvidenceType::kEkCertificate, endorsement.certificate});
  for (const Bytes& certificate : endorsement.chain)
    blobs.push_back({EvidenceType::kEkCertificate, certificate});
  SP_TRY(Bytes envelope, opened.signer->envelope(type, payload));
  SP_TRY(const api::Submitted submitted, opened.session->submit({std::move(envelope), std::move(blobs)}));
  if (submitted.code)
    return Error{Code::kDenied, *submitted.code,
                 printable(submitted.detail) + " (recorded as leaf " + grouped(submitted.leaf) + ")"};
  note("machine", name + " · region " + region + " · device " + to_hex(machine.device).substr(0, 16));
  note("case",
       short_case(statement.case_id) + " · approvers: sallyport approve " + short_case(statement.case_id));

  const auto began = std::chrono::steady_clock::now();
  for (;;) {
    SP_TRY(const auto challenges, opened.session->open_challenges(statement.case_id, kPoll));
    for (const api::Challenge& challenge : challenges) {
      SP_TRY(Bytes id_object, strip_size(challenge.blob));
      SP_TRY(Bytes encrypted, strip_size(challenge.secret));
      SP_TRY(const SecretBytes secret,
             tpm.activate_credential(endorsement.public_area, {std::move(id_object), std::move(encrypted)}));
      Bytes message = to_bytes(as_bytes(kAnswerLabel));
      message.insert(message.end(), view(digest).begin(), view(digest).end());
      SP_CHECK(opened.session->answer_challenge(statement.case_id, challenge.number,
                                                crypto::hmac_sha256(secret.expose(), message)));
      note("proved", "challenge " + std::to_string(challenge.number) + " answered by the TPM");
    }
    SP_TRY(const api::CaseView view, opened.session->view(statement.case_id));
    if (view.state == "closed")
      return Enrolled{statement.case_id, machine.device,
                      view.entries.empty() ? 0 : view.entries.back().index};
    if (view.state == "denied") return Error{Code::kDenied, Reason::kCaseDenied, "the enrolment was denied"};
    if (view.state != "open")
      return Error{Code::kDenied, Reason::kCaseExpired, "the enrolment is " + view.state};
    if (std::chrono::steady_clock::now() - began >= patience)
      return Error{Code::kUnavailable, Reason::kPending,
                   "case " + short_case(statement.case_id) + " still waits for approvers"};
  }
}

}  // namespace sallyport::client::engineer

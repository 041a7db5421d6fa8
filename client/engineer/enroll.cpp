#include "client/engineer/enroll.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/evidence/credential.h"
#include "attestation/record/appraise.h"
#include "attestation/record/binding.h"
#include "client/engineer/access.h"
#include "client/terminal/cases.h"
#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

using record::Blob;
using record::EvidenceType;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{2'000};  // also how often the case's state is looked at
constexpr std::string_view kAnswerLabel{"sallyport/enrol/v1\0", 19};

struct ThisMachine {
  tpm::Endorsement endorsement;
  MachineProof proof;
  Digest256 pcrs;
};

Result<ThisMachine> this_machine(tpm::Tpm& tpm, const evidence::PcrSelection& selection) {
  SP_TRY(tpm::Endorsement endorsement, tpm.endorsement());
  SP_TRY(MachineProof proof, identify_machine(tpm));
  SP_TRY(const auto pcrs, tpm.read_pcrs(selection));
  return ThisMachine{std::move(endorsement), std::move(proof), evidence::pcr_digest(pcrs)};
}

// check_log checks that a log is of this boot: enrolling needs none, and a wrong one would be refused.
Status check_log(const Bytes& bytes, const evidence::PcrSelection& selection, const Digest256& pcr_digest) {
  SP_TRY(const evidence::EventLog log, evidence::EventLog::parse(bytes));
  SP_CHECK(evidence::verify_event_log(log, selection, pcr_digest));
  return Done{};
}

// Open is an enrolment of this machine that waits for its approvers.
struct Open {
  CaseId case_id;
  Digest256 digest;  // of the statement
};

// ask_for signs and sends a new enrolment.
Result<Open> ask_for(Opened& opened, tpm::Tpm& tpm, const ThisMachine& machine, const std::string& name,
                     const std::string& region) {
  SP_TRY(const auto policy, opened.session->policy());
  SP_TRY(const api::Hello hello, opened.session->hello());
  record::EnrolmentRequested statement;
  statement.ak = machine.proof.ak;
  statement.authority = opened.settings.anchor.origin.get();
  statement.case_id = crypto::random_case_id();
  statement.device = machine.proof.device;
  statement.ek = machine.endorsement.public_area;
  statement.name = name;
  statement.nonce = hello.nonce;
  statement.pcrs = machine.pcrs;
  statement.person = opened.settings.person;
  statement.region = region;
  statement.time = now();
  const Bytes payload = record::encode(statement);
  const std::string type = record::payload_type(record::Kind::kEnrolmentRequested);
  const Digest256 digest = record::statement_digest(type, payload);
  const evidence::Binding binding{evidence::Purpose::kEnrol, opened.settings.anchor.origin,
                                  statement.case_id,         digest,
                                  statement.nonce,           record::no_note()};
  SP_TRY(Blob quote, quote_machine(tpm, policy->references.selection, binding));
  SP_TRY(const evidence::IdentityEvidence identity, tpm.prove_identity(evidence::binding_digest(binding)));
  std::vector<Blob> blobs;
  blobs.push_back(std::move(quote));
  blobs.push_back({EvidenceType::kIdentity, record::encode(identity)});
  blobs.push_back({EvidenceType::kEkCertificate, machine.endorsement.certificate});
  for (const Bytes& certificate : machine.endorsement.chain)
    blobs.push_back({EvidenceType::kEkCertificate, certificate});
  // The people who enrol it can look at how it was booted, and learn it as a reference value.
  if (auto log = read_event_log(opened.settings)) {
    if (const Status is_ours = check_log(log->bytes, policy->references.selection, machine.pcrs);
        is_ours.has_value())
      blobs.push_back(std::move(*log));
    else
      note("event log", "not sent: " + printable(is_ours.error().what));
  }
  SP_TRY(Bytes envelope, opened.signer->envelope(type, payload));
  SP_TRY(const api::Submitted submitted, opened.session->submit({std::move(envelope), std::move(blobs)}));
  if (submitted.code)
    return Error{Code::kDenied, *submitted.code,
                 printable(submitted.detail) + " (recorded as leaf " + grouped(submitted.leaf) + ")"};
  return Open{statement.case_id, digest};
}

// find_open gives the enrolment of this machine that this person has open already. It is taken from our own
// log, so that the TPM answers only to a statement that is recorded.
//   Errors: kConflict when it says something else than is asked for now: it has to be dropped first.
Result<std::optional<Open>> find_open(Opened& opened, const ThisMachine& machine, const std::string& name,
                                      const std::string& region) {
  SP_TRY(const auto cases, opened.session->cases());
  for (const api::CaseView& one : cases) {
    if (one.kind != "enrolment" || one.state != "open" || one.person != opened.settings.person) continue;
    SP_TRY(const api::CaseView whole, opened.session->view(one.case_id));
    const auto first = std::find_if(whole.entries.begin(), whole.entries.end(), [](const auto& entry) {
      return entry.entry.leaf.kind == static_cast<std::uint8_t>(record::Kind::kEnrolmentRequested);
    });
    if (first == whole.entries.end()) continue;
    SP_TRY(record::Body body, open_shown(leaves_of(opened), one.case_id, *first));
    SP_TRY(const record::OpenedStatement opening, record::open_statement(std::move(body)));
    SP_TRY(const auto statement, record::parse_enrolment_requested(opening.envelope.payload));
    if (statement.device != machine.proof.device) continue;
    if (statement.ak != machine.proof.ak || statement.ek != machine.endorsement.public_area ||
        statement.pcrs != machine.pcrs || statement.name != name || statement.region != region)
      return Error{Code::kConflict, Reason::kConflict,
                   "case " + short_case(one.case_id) + " asks for this machine already, with another name (" +
                       printable(statement.name) + "), region (" + printable(statement.region) +
                       ") or boot state; drop it first:  sallyport request drop " + short_case(one.case_id)};
    return std::optional{Open{one.case_id, opening.digest}};
  }
  return std::optional<Open>{};
}

}  // namespace

Result<Bytes> strip_size(ByteView tpm2b) {
  Reader in{tpm2b};
  SP_TRY(const ByteView inner, in.prefixed16(512));
  SP_CHECK(in.finish());
  return to_bytes(inner);
}

Result<Enrolled> enrol(Opened& opened, tpm::Tpm& tpm, const std::string& name, const std::string& region,
                       milliseconds patience, bool again) {
  SP_TRY(const auto policy, opened.session->policy());
  SP_TRY(const ThisMachine machine, this_machine(tpm, policy->references.selection));
  SP_TRY(auto open, find_open(opened, machine, name, region));
  const bool goes_on = open.has_value();
  if (!goes_on) {
    const auto control = opened.session->control();
    const record::Device* enrolled = control->find_device(machine.proof.device);
    if (enrolled != nullptr && !again)
      return Error{Code::kConflict, Reason::kDeviceExists,
                   "this machine is enrolled as " + printable(enrolled->name) + ", region " +
                       printable(enrolled->region.get()) + ", by leaf " + grouped(enrolled->enrolled.get()) +
                       (control->find_retired(enrolled->id) ? ", and retired" : "") +
                       "; to have that replaced:  sallyport enroll --again --name NAME --region REGION"};
    SP_TRY(open, ask_for(opened, tpm, machine, name, region));
  }
  note("machine", printable(name) + " · region " + printable(region) + " · device " +
                      to_hex(machine.proof.device).substr(0, 16));
  note("case", short_case(open->case_id) + (goes_on ? " · open already, and gone on with" : "") +
                   " · approvers: sallyport approve " + short_case(open->case_id));

  const auto began = std::chrono::steady_clock::now();
  for (;;) {
    SP_TRY(const auto challenges, opened.session->open_challenges(open->case_id, kPoll));
    for (const api::Challenge& challenge : challenges) {
      SP_TRY(Bytes id_object, strip_size(challenge.blob));
      SP_TRY(Bytes encrypted, strip_size(challenge.secret));
      SP_TRY(const SecretBytes secret, tpm.activate_credential(machine.endorsement.public_area,
                                                               {std::move(id_object), std::move(encrypted)}));
      Bytes message = to_bytes(as_bytes(kAnswerLabel));
      message.insert(message.end(), view(open->digest).begin(), view(open->digest).end());
      SP_CHECK(opened.session->answer_challenge(open->case_id, challenge.number,
                                                crypto::hmac_sha256(secret.expose(), message)));
      note("proved", "challenge " + std::to_string(challenge.number) + " answered by the TPM");
    }
    SP_TRY(const api::CaseView view, opened.session->view(open->case_id));
    if (view.state == "closed")
      return Enrolled{open->case_id, machine.proof.device,
                      view.entries.empty() ? 0 : view.entries.back().index};
    if (view.state == "denied") {
      const auto denied = find_denial(opened, view);
      return Error{Code::kDenied, Reason::kCaseDenied,
                   "the enrolment was denied" + (denied ? " by " + denial_text(*denied, now()) : "")};
    }
    if (view.state != "open")
      return Error{Code::kDenied, Reason::kCaseExpired, "the enrolment is " + view.state};
    if (std::chrono::steady_clock::now() - began >= patience)
      return Error{Code::kUnavailable, Reason::kPending,
                   "case " + short_case(open->case_id) +
                       " still waits for approvers; the same command goes on with it"};
  }
}

}  // namespace sallyport::client::engineer

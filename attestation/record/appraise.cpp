#include "attestation/record/appraise.h"

#include <algorithm>
#include <set>

#include "attestation/crypto/digest.h"
#include "attestation/evidence/tpm_firmware.h"
#include "attestation/record/binding.h"
#include "attestation/record/ima.h"

namespace sallyport::record {
namespace {

Status check_attachments(const Request& request, const Body& body) {
  std::set<std::pair<Digest256, std::uint64_t>> stated, there;
  for (const Attachment& attachment : request.attachments) stated.emplace(attachment.sha256, attachment.size);
  for (const EvidenceItem& item : body.items)
    if (item.type == EvidenceType::kAttachment) there.emplace(item.sha256, item.size);
  if (stated != there)
    return Error{Code::kMalformed, "the attachments are not those that the request states"};
  return Done{};
}

Result<std::string> network_region(const LoadedPolicy& policy, const Body& body, const BlobIndex& blobs) {
  SP_TRY(const Blob* blob, one_blob(body, blobs, EvidenceType::kObservation));
  SP_TRY(const Observation seen, parse_observation(blob->bytes));
  SP_CHECK(check_time(seen.time, body.time));
  return policy::region_of_address(policy.policy, seen.address, seen.country).get();
}

DecisionStatement state_decision(const ControlState& control, const LoadedPolicy& policy,
                                 const RequestClaim& claim, const Body& body,
                                 const policy::Decision& decision) {
  const Request& request = claim.request;
  DecisionStatement out;
  out.account = decision.account;
  out.approver_attested = decision.approver.attested;
  out.approver_other_team = decision.approver.other_team;
  for (const RegionId& region : decision.approver.regions) out.approver_region.push_back(region.get());
  out.authority = control.origin().get();
  out.beneficiary = request.beneficiary;
  out.case_id = request.case_id;
  out.command = decision.command;
  out.device = request.device;
  out.duration_s = static_cast<std::uint64_t>(decision.duration.count());
  out.evidence = evidence_digest(body.items);
  out.host = decision.host;
  out.key = request.key;
  out.network = decision.network_region.get();
  out.person = request.person;
  out.policy = policy.policy.digest;
  for (const policy::Clause& clause : decision.quorum)
    out.quorum.push_back({clause.approvals, clause.group.get()});
  out.request = claim.digest;
  out.resource = decision.resource.get();
  for (const RuleId& rule : decision.rules) out.rules.push_back(rule.get());
  return out;
}

}  // namespace

Status check_header(const Origin& origin, const std::string& authority, const CaseId& case_id,
                    const Body& body) {
  if (authority != origin.get()) return Error{Code::kUnverified, "the statement is of another authority"};
  if (case_id != body.case_id) return Error{Code::kUnverified, "the statement is of another case"};
  return Done{};
}

Status check_time(UnixMillis statement, UnixMillis leaf) {
  if (!within_skew(statement, leaf)) return Error{Code::kStale, "the statement's time is not the leaf's"};
  return Done{};
}

Result<KeyId> verify_person(const ControlState& control, const policy::Policy& policy,
                            const Envelope& envelope, const std::string& person) {
  if (envelope.signatures.size() != 1) return Error{Code::kUnverified, "not signed by exactly one token"};
  const KeyId& token = envelope.signatures.front().key;
  SP_CHECK(control.check_signer(policy, person, token));
  SP_CHECK(verify_signers(envelope, {policy::find_token(policy, token)->token->sign}, control.known()));
  return token;
}

Result<const Device*> live_device(const ControlState& control, const DeviceId& id) {
  if (control.find_retired(id))
    return Error{Code::kDenied, Reason::kDeviceRevoked, "the machine is retired; it can be enrolled again"};
  if (control.is_revoked(id))
    return Error{Code::kDenied, Reason::kDeviceRevoked,
                 control.find_lost(id) ? "the machine is lost" : "the machine is revoked"};
  const Device* device = control.find_device(id);
  if (device == nullptr) return Error{Code::kDenied, Reason::kDeviceUnknown, "the machine is not enrolled"};
  return device;
}

Result<const Blob*> one_blob(const Body& body, const BlobIndex& blobs, EvidenceType type) {
  const std::vector<EvidenceItem> items = items_of_type(body, type);
  if (items.size() != 1) return Error{Code::kMalformed, "not exactly one item of a type of evidence"};
  const Blob* blob = blobs.find(items.front());
  if (blob == nullptr)
    return Error{Code::kUnverified, Reason::kLogMissingBody, "the bytes of evidence are missing"};
  return blob;
}

Result<const Blob*> blob_if_any(const Body& body, const BlobIndex& blobs, EvidenceType type) {
  if (items_of_type(body, type).empty()) return static_cast<const Blob*>(nullptr);
  return one_blob(body, blobs, type);
}

Status check_only(const Body& body, std::initializer_list<EvidenceType> types) {
  for (const EvidenceItem& item : body.items)
    if (std::find(types.begin(), types.end(), item.type) == types.end())
      return Error{Code::kMalformed, "evidence that this kind does not have"};
  return Done{};
}

Result<ledger::VerifiedCheckpoint> verify_note(const ControlState& control, const LoadedPolicy& policy,
                                               const Blob& note, const NoteRules& rules) {
  SP_TRY(ledger::VerifiedCheckpoint checkpoint,
         ledger::check_quorum(as_text(note.bytes), policy.witnesses, control.known()));
  if (checkpoint.origin() != control.origin())
    return Error{Code::kUnverified, Reason::kLogCheckpoint, "the note is of another log"};
  if (checkpoint.size().get() > rules.max_size)
    return Error{Code::kUnverified, Reason::kLogRollback, "the note is of a longer log than there was"};
  SP_CHECK(ledger::require_fresh(checkpoint, policy.witnesses, rules.at, rules.max_age, kNoteSkew));
  return checkpoint;
}

Result<evidence::VerifiedQuote> verify_machine(const ControlState& control, const LoadedPolicy& policy,
                                               const Device& device, const Blob& quote,
                                               const evidence::Binding& binding) {
  SP_TRY(QuoteEvidence claimed, parse_quote_evidence(quote.bytes));
  const std::vector<Digest256> values{claimed.pcrs.begin(), claimed.pcrs.end()};
  return evidence::verify_quote({std::move(claimed.attest), std::move(claimed.signature)},
                                device.attestation_key, evidence::binding_digest(binding),
                                policy.references.selection, values, control.known());
}

Status check_since_enrolment(const evidence::ClockInfo& enrolled, const evidence::ClockInfo& now) {
  SP_CHECK(evidence::check_not_back(enrolled, now));
  const bool same_boot =
      now.reset_count == enrolled.reset_count && now.restart_count == enrolled.restart_count;
  if (same_boot && now.clock_ms <= enrolled.clock_ms)
    return Error{Code::kDenied, Reason::kBootCounters, "the clock is behind the enrolment's"};
  return Done{};
}

Result<evidence::AcceptedBoot> appraise_machine(const ControlState& control, const LoadedPolicy& policy,
                                                const Device& device, const evidence::VerifiedQuote& quote,
                                                const Body& body, const BlobIndex& blobs, DossierForm form) {
  SP_CHECK(evidence::check_tpm_firmware(device.tpm_maker, quote.firmware_version(),
                                        device.attestation_key.key().algorithm(), body.time));
  const std::vector<EvidenceItem> items = items_of_type(body, EvidenceType::kEventLog);
  if (form == DossierForm::kTravel && !items.empty()) return evidence::AcceptedBoot{};
  SP_TRY(const Blob* blob, blob_if_any(body, blobs, EvidenceType::kEventLog));
  const evidence::JudgedLog* judged = nullptr;
  if (blob != nullptr && control.judged_logs() != nullptr)
    judged = control.judged_logs()->find(policy, items.front().sha256);
  std::optional<evidence::JudgedLog> judged_now;
  if (blob != nullptr && judged == nullptr) {
    SP_TRY(const evidence::EventLog log, evidence::EventLog::parse(blob->bytes));
    judged = &judged_now.emplace(evidence::judge_log(log, policy.references));
  }
  return evidence::appraise_boot(quote, device.baseline, judged, policy.references, body.time);
}

Result<RequestClaim> verify_request_claim(const ControlState& control, const LoadedPolicy& policy,
                                          const OpenedStatement& statement) {
  if (statement.body.kind != Kind::kRequest) return Error{Code::kMalformed, "not a request"};
  SP_TRY(Request request, parse_request(statement.envelope.payload));
  SP_CHECK(check_header(control.origin(), request.authority, request.case_id, statement.body));
  SP_TRY(const KeyId token, verify_person(control, policy.policy, statement.envelope, request.person));
  SP_CHECK(check_time(request.time, statement.body.time));
  return RequestClaim{std::move(request), statement.digest, token};
}

Status check_request_items(const Body& body, const BlobIndex& blobs) {
  SP_CHECK(check_only(body, {EvidenceType::kQuote, EvidenceType::kKey, EvidenceType::kNote,
                             EvidenceType::kObservation, EvidenceType::kAttachment, EvidenceType::kEventLog,
                             EvidenceType::kImaList, EvidenceType::kImaQuote}));
  for (const EvidenceType type : {EvidenceType::kEventLog, EvidenceType::kImaQuote})
    if (items_of_type(body, type).size() > 1)
      return Error{Code::kMalformed, "more than one event log, or quote of PCR 10"};
  if (items_of_type(body, EvidenceType::kImaList).size() > evidence::kMaxImaParts)
    return Error{Code::kMalformed, Reason::kImaForm, "more parts of an IMA list than there can be"};
  for (const EvidenceType type :
       {EvidenceType::kQuote, EvidenceType::kKey, EvidenceType::kNote, EvidenceType::kObservation})
    SP_CHECK(one_blob(body, blobs, type));
  return Done{};
}

namespace {

evidence::Binding request_binding(const ControlState& control, const RequestClaim& claim,
                                  evidence::Purpose purpose) {
  const Request& request = claim.request;
  return {.purpose = purpose,
          .origin = control.origin(),
          .case_id = request.case_id,
          .request = claim.digest,
          .nonce = request.nonce,
          .note = note_text_digest(control.origin(), TreeSize{request.head_size}, request.head_root)};
}

// verify_requesting_machine checks that the request's machine is a live one, and that it made the quote after
// the note that the request names, which is fresh.
Result<evidence::VerifiedQuote> verify_requesting_machine(const ControlState& control,
                                                          const LoadedPolicy& policy,
                                                          const RequestClaim& claim, const Body& body,
                                                          const BlobIndex& blobs, std::uint64_t max_size) {
  const Request& request = claim.request;
  SP_TRY(const Device* device, live_device(control, request.device));
  SP_TRY(const Blob* quote_blob, one_blob(body, blobs, EvidenceType::kQuote));
  SP_TRY(evidence::VerifiedQuote quote,
         verify_machine(control, policy, *device, *quote_blob,
                        request_binding(control, claim, evidence::Purpose::kRequest)));
  SP_TRY(const Blob* note_blob, one_blob(body, blobs, EvidenceType::kNote));
  SP_TRY(
      const ledger::VerifiedCheckpoint note,
      verify_note(control, policy, *note_blob, {.at = body.time, .max_age = kNoteAge, .max_size = max_size}));
  if (note.size().get() != request.head_size || note.root() != request.head_root)
    return Error{Code::kUnverified, Reason::kLogCheckpoint, "the note is not the one that the request names"};
  return quote;
}

struct ProvenMachine {
  const Device* device;
  evidence::VerifiedKey key;
  evidence::AcceptedBoot boot;
  std::optional<evidence::JudgedIma> ima;
};

// appraise_requesting_machine judges the boot of that quote, what ran since, and the session key.
Result<ProvenMachine> appraise_requesting_machine(const ControlState& control, const LoadedPolicy& policy,
                                                  const RequestClaim& claim,
                                                  const evidence::VerifiedQuote& quote, const Body& body,
                                                  const BlobIndex& blobs, DossierForm form) {
  const Request& request = claim.request;
  SP_TRY(const Device* device, live_device(control, request.device));
  SP_CHECK(check_since_enrolment(device->clock, quote.clock()));
  evidence::Binding binding = request_binding(control, claim, evidence::Purpose::kRequest);
  SP_TRY(evidence::AcceptedBoot boot, appraise_machine(control, policy, *device, quote, body, blobs, form));
  SP_TRY(std::optional<evidence::JudgedIma> ima,
         verify_machine_ima(control, policy, *device, quote, evidence::binding_digest(binding), body, blobs,
                            form));

  binding.purpose = evidence::Purpose::kKey;
  SP_TRY(const Blob* key_blob, one_blob(body, blobs, EvidenceType::kKey));
  SP_TRY(KeyEvidence claimed, parse_key_evidence(key_blob->bytes));
  SP_TRY(const evidence::SessionKeyPolicy key_policy,
         evidence::session_key_policy(quote, policy.policy.authority.keys.lease, control.origin(),
                                      request.case_id));
  SP_TRY(evidence::VerifiedKey key,
         evidence::verify_certify({std::move(claimed.attest), std::move(claimed.signature)},
                                  device->attestation_key, evidence::binding_digest(binding),
                                  claimed.public_area, evidence::SessionKeyUse::kSign, key_policy,
                                  control.known()));
  SP_CHECK(evidence::check_same_boot(quote, key));
  if (!equal(view(key.name()), request.key))
    return Error{Code::kUnverified, Reason::kKeyCertify,
                 "the certified key is not the one that the request names"};
  return ProvenMachine{device, std::move(key), std::move(boot), std::move(ima)};
}

Result<policy::DecisionInputs> decision_inputs(const ControlState& control, const LoadedPolicy& policy,
                                               const Request& request, const Device& device, const Body& body,
                                               const BlobIndex& blobs) {
  SP_CHECK(check_attachments(request, body));
  SP_TRY(std::string network, network_region(policy, body, blobs));
  if (control.is_revoked_person(request.beneficiary))
    return Error{Code::kDenied, Reason::kRevoked, "the beneficiary is revoked"};
  const policy::Resource* resource = policy::find_resource(policy.policy, ResourceId{request.resource});
  if (resource == nullptr || resource->kind != policy::ResourceKind::kSsh)  // the one action there is: "ssh"
    return Error{Code::kDenied, Reason::kPolicyUnknownResource, "the policy has no such resource"};
  return policy::DecisionInputs{.requester = PersonId{request.person},
                                .beneficiary = PersonId{request.beneficiary},
                                .resource = ResourceId{request.resource},
                                .host = request.host,
                                .account = request.account,
                                .duration = std::chrono::seconds{request.duration_s},
                                .device_region = device.region,
                                .network_region = RegionId{std::move(network)}};
}

}  // namespace

Appraisal appraise_request(const ControlState& control, const LoadedPolicy& policy, const RequestClaim& claim,
                           const Body& body, const BlobIndex& blobs, std::uint64_t max_size,
                           DossierForm form) {
  auto quote = verify_requesting_machine(control, policy, claim, body, blobs, max_size);
  if (!quote) return {std::move(quote).error(), {}, {}};
  auto machine = appraise_requesting_machine(control, policy, claim, *quote, body, blobs, form);
  if (!machine) return {std::move(machine).error(), *std::move(quote), {}};
  const auto inputs = decision_inputs(control, policy, claim.request, *machine->device, body, blobs);
  if (!inputs) return {inputs.error(), *std::move(quote), {}};
  policy::Outcome outcome = policy::decide(policy.policy, *inputs);
  if (auto* refusal = std::get_if<policy::Refusal>(&outcome)) {
    std::optional<policy::LimitedWay> limited = refusal->limited;
    return {policy::decision_or_error(std::move(outcome)).error(), *std::move(quote), std::move(limited)};
  }
  DecisionStatement decision =
      state_decision(control, policy, claim, body, std::get<policy::Decision>(outcome));
  Bytes payload = encode(decision);
  return {EvaluatedRequest{claim.request, claim.digest, claim.token, std::move(decision), std::move(payload),
                           machine->key.key(), *quote, std::move(machine->boot), std::move(machine->ima)},
          *quote,
          {}};
}

Result<EvaluatedRequest> evaluate_request(const ControlState& control, const LoadedPolicy& policy,
                                          const Body& body, const BlobIndex& blobs, DossierForm form) {
  SP_TRY(const OpenedStatement statement, open_statement(body));
  SP_TRY(const RequestClaim claim, verify_request_claim(control, policy, statement));
  SP_CHECK(check_request_items(body, blobs));
  return appraise_request(control, policy, claim, body, blobs, control.size().get(), form).outcome;
}

Result<evidence::VerifiedQuote> verify_activation(const ControlState& control, const LoadedPolicy& policy,
                                                  const Body& body, const BlobIndex& blobs,
                                                  const ActivationContext& context) {
  SP_CHECK(check_only(body, {EvidenceType::kQuote, EvidenceType::kNote, EvidenceType::kObservation}));
  SP_TRY(const Device* device, live_device(control, context.request.device));
  const CaseTrace* trace = control.find_case(context.request.case_id);
  if (trace != nullptr && device->enrolled > trace->first)
    return Error{Code::kDenied, Reason::kBootCounters, "the machine was enrolled again since; ask anew"};
  SP_TRY(const Blob* note_blob, one_blob(body, blobs, EvidenceType::kNote));
  SP_TRY(const ledger::VerifiedCheckpoint note,
         verify_note(control, policy, *note_blob,
                     {.at = body.time, .max_age = kNoteAge, .max_size = context.max_size}));
  SP_TRY(const Blob* quote_blob, one_blob(body, blobs, EvidenceType::kQuote));
  SP_TRY(evidence::VerifiedQuote quote,
         verify_machine(control, policy, *device, *quote_blob,
                        activation_binding(control.origin(), context.request.case_id, context.request_digest,
                                           note_blob->bytes, note.checkpoint())));
  SP_CHECK(evidence::check_same_boot(context.request_quote, quote));
  SP_CHECK(evidence::check_counters({context.request_quote.clock(), context.request_time},
                                    {quote.clock(), body.time}));
  SP_TRY(const std::string network, network_region(policy, body, blobs));
  if (network != context.network)
    return Error{Code::kDenied, Reason::kRegionNetwork,
                 "activated from another network region than decided on"};
  return quote;
}

Result<VerifiedApproval> verify_approval_statement(const ControlState& control, const LoadedPolicy& policy,
                                                   const Envelope& envelope, const ApprovalRules& rules,
                                                   UnixMillis at) {
  SP_TRY(Approval statement, claimed_approval(envelope, rules.case_id));
  if (!rules.by_list && envelope.type != payload_type(Kind::kApproval))
    return Error{Code::kDenied, Reason::kApprovalOtherDecision, "a list approves machines only"};
  if (statement.authority != control.origin().get() || statement.case_id != rules.case_id ||
      statement.decision != rules.to_approve)
    return Error{Code::kDenied, Reason::kApprovalOtherDecision, "the approval is of another decision"};
  const auto token = verify_person(control, policy.policy, envelope, statement.approver);
  if (!token) {
    const Reason why = token.error().reason;
    if (why == Reason::kRevoked)
      return Error{Code::kDenied, Reason::kApprovalRevoked, "the approver or the token is revoked"};
    if (why == Reason::kPolicyUnknownPerson || why == Reason::kUnverified)
      return Error{Code::kDenied, Reason::kApprovalForeignKey, "not signed by a token of the approver"};
    return token.error();
  }
  if (statement.expires <= statement.time || statement.expires > statement.time + rules.max_life)
    return Error{Code::kDenied, Reason::kApprovalExpired, "the approval is not limited as it must be"};
  if (statement.time > at + kMaxTimeSkew) return Error{Code::kStale, "the approval is from the future"};
  if (at >= statement.expires)
    return Error{Code::kDenied, Reason::kApprovalExpired, "the approval has expired"};
  const Digest256 digest = statement_digest(envelope);
  return VerifiedApproval{std::move(statement), digest, *token, {}};
}

Result<VerifiedApproval> verify_approval(const ControlState& control, const LoadedPolicy& policy,
                                         const OpenedStatement& statement, const ApprovalRules& rules) {
  const Body& body = statement.body;
  const BlobIndex& blobs = statement.blobs;
  SP_TRY(VerifiedApproval approval,
         verify_approval_statement(control, policy, statement.envelope, rules, body.time));
  SP_CHECK(check_time(approval.statement.time, body.time));
  if (!approval.statement.device) {
    SP_CHECK(check_only(body, {}));
    return approval;
  }
  SP_CHECK(check_only(body, {EvidenceType::kQuote, EvidenceType::kNote, EvidenceType::kEventLog,
                             EvidenceType::kImaList, EvidenceType::kImaQuote}));
  SP_TRY(const Device* device, live_device(control, *approval.statement.device));
  SP_TRY(const Blob* note_blob, one_blob(body, blobs, EvidenceType::kNote));
  SP_TRY(const ledger::VerifiedCheckpoint note,
         verify_note(control, policy, *note_blob,
                     {.at = body.time, .max_age = kApprovalNoteAge, .max_size = rules.max_size}));
  SP_TRY(const Blob* quote_blob, one_blob(body, blobs, EvidenceType::kQuote));
  const evidence::Binding binding{.purpose = evidence::Purpose::kApprove,
                                  .origin = control.origin(),
                                  .case_id = rules.case_id,
                                  .request = approval.digest,
                                  .nonce = approval.statement.nonce,
                                  .note = note_text_digest(note.origin(), note.size(), note.root())};
  SP_TRY(approval.quote, verify_machine(control, policy, *device, *quote_blob, binding));
  SP_CHECK(check_since_enrolment(device->clock, approval.quote->clock()));
  SP_CHECK(appraise_machine(control, policy, *device, *approval.quote, body, blobs, rules.form));
  SP_CHECK(verify_machine_ima(control, policy, *device, *approval.quote, evidence::binding_digest(binding),
                              body, blobs, rules.form));
  return approval;
}

namespace {

// new_identity gives the identity that the TPM of `ak` proves, unless it is that of another machine: a TPM
// has several endorsement keys, and attestation keys without end, and is one machine with all of them.
Result<evidence::TpmName> new_identity(const ControlState& control, const evidence::AttestationKey& ak,
                                       const DeviceId& id, const evidence::Binding& binding, const Body& body,
                                       const BlobIndex& blobs) {
  SP_TRY(const Blob* blob, one_blob(body, blobs, EvidenceType::kIdentity));
  SP_TRY(const evidence::IdentityEvidence claimed, parse_identity_evidence(blob->bytes));
  SP_TRY(const evidence::VerifiedIdentity identity,
         evidence::verify_identity(claimed, ak, evidence::binding_digest(binding)));
  const Device* same = control.find_device_by_identity(identity.name());
  const Device* before = control.find_device(id);
  if (before != nullptr && before->identity && *before->identity != identity.name())
    return Error{Code::kUnverified, Reason::kDeviceExists,
                 "the machine was enrolled with another identity: another TPM shows its endorsement key"};
  if (same == nullptr || same->id == id) return identity.name();
  if (control.is_revoked(same->id) && !control.find_retired(same->id))
    return Error{Code::kDenied, Reason::kDeviceRevoked,
                 "the machine was enrolled with another endorsement key, and is revoked for good"};
  return Error{Code::kConflict, Reason::kDeviceExists,
               "the machine is enrolled with another endorsement key, as " + same->name};
}

// A vendor's id is of four letters; what else a certificate says names no vendor of the table.
std::string maker_of(const evidence::VerifiedEndorsement& endorsement) {
  std::string letters = evidence::manufacturer_text(endorsement.manufacturer);
  return is_tpm_maker(letters) ? letters : std::string{};
}

}  // namespace

bool is_tpm_maker(std::string_view text) {
  return !text.empty() && text.size() <= 4 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

Result<VerifiedEnrolment> verify_enrolment(const ControlState& control, const LoadedPolicy& policy,
                                           const EnrolmentRequested& statement, const Digest256& digest,
                                           const Body& body, const BlobIndex& blobs, LeafIndex index) {
  SP_CHECK(check_only(body, {EvidenceType::kQuote, EvidenceType::kIdentity, EvidenceType::kEkCertificate,
                             EvidenceType::kEventLog}));
  if (policy::find_region(policy.policy, RegionId{statement.region}) == nullptr)
    return Error{Code::kDenied, Reason::kRegionDevice, "the policy has no such region"};
  SP_TRY(const evidence::PublicArea ek, evidence::parse_public_area(statement.ek));
  if (statement.device != DeviceId{ek.key.id().get()})
    return Error{Code::kUnverified, Reason::kEkCertificate,
                 "the device's id is not that of its endorsement key"};
  const std::optional<LeafIndex> retired = control.find_retired(statement.device);
  if (control.is_revoked(statement.device) && !retired)
    return Error{Code::kDenied, Reason::kDeviceRevoked, "the machine is revoked for good"};
  SP_TRY(evidence::AttestationKey ak, evidence::parse_attestation_key(statement.ak));
  const Device* same_ak = control.find_device_by_ak(statement.ak);
  if (same_ak != nullptr && same_ak->id != statement.device)
    return Error{Code::kConflict, Reason::kDeviceExists, "the attestation key is another machine's"};
  // Who approved has seen what is to be replaced, if it was there when this was asked for.
  const Device* replaced = control.find_device(statement.device);
  const CaseTrace* trace = control.find_case(body.case_id);
  if (trace != nullptr &&
      ((replaced != nullptr && replaced->enrolled > trace->first) || (retired && *retired > trace->first)))
    return Error{Code::kConflict, Reason::kDeviceExists,
                 "the machine was enrolled or retired since this was asked for; ask anew"};

  // The EK's own certificate is the one with its key; the others are what it may chain over.
  std::vector<Bytes> others;
  const Blob* own = nullptr;
  for (const EvidenceItem& item : items_of_type(body, EvidenceType::kEkCertificate)) {
    const Blob* blob = blobs.find(item);
    if (blob == nullptr) return Error{Code::kUnverified, Reason::kLogMissingBody, "a certificate is missing"};
    const auto certificate = evidence::parse_ek_certificate(blob->bytes);
    const bool is_own =
        own == nullptr && certificate && certificate->public_key() && *certificate->public_key() == ek.key;
    if (is_own)
      own = blob;
    else
      others.push_back(blob->bytes);
  }
  if (own == nullptr)
    return Error{Code::kUnverified, Reason::kEkCertificate, "no certificate is of the endorsement key"};
  SP_TRY(evidence::VerifiedEndorsement endorsement,
         evidence::verify_endorsement(own->bytes, others, statement.ek, policy.roots, body.time));

  SP_TRY(const Blob* quote_blob, one_blob(body, blobs, EvidenceType::kQuote));
  SP_TRY(QuoteEvidence claimed, parse_quote_evidence(quote_blob->bytes));
  const std::vector<Digest256> values{claimed.pcrs.begin(), claimed.pcrs.end()};
  const evidence::Binding binding{.purpose = evidence::Purpose::kEnrol,
                                  .origin = control.origin(),
                                  .case_id = body.case_id,
                                  .request = digest,
                                  .nonce = statement.nonce,
                                  .note = no_note()};
  SP_TRY(evidence::VerifiedQuote quote,
         evidence::verify_quote({std::move(claimed.attest), std::move(claimed.signature)}, ak,
                                evidence::binding_digest(binding), policy.references.selection, values));
  if (quote.pcr_digest() != statement.pcrs)
    return Error{Code::kUnverified, Reason::kQuotePcrs, "the baseline is not what was quoted"};
  SP_CHECK(evidence::check_first_counters(quote.clock()));
  SP_CHECK(evidence::check_tpm_firmware(endorsement.manufacturer, quote.firmware_version(),
                                        ak.key().algorithm(), body.time));
  SP_TRY(evidence::TpmName identity, new_identity(control, ak, statement.device, binding, body, blobs));
  // Whether this boot is a good one is judged with each request; here it is only what the quorum can look at.
  SP_TRY(const Blob* log_blob, blob_if_any(body, blobs, EvidenceType::kEventLog));
  if (log_blob != nullptr) {
    SP_TRY(const evidence::EventLog log, evidence::EventLog::parse(log_blob->bytes));
    SP_CHECK(evidence::verify_event_log(log, quote));
  }
  Device device{.id = statement.device,
                .name = statement.name,
                .region = RegionId{statement.region},
                .ak = statement.ak,
                .attestation_key = std::move(ak),
                .baseline = {quote.selection(), statement.pcrs},
                .clock = quote.clock(),
                .enrolled = index,
                .identity = std::move(identity),
                .tpm_maker = maker_of(endorsement)};
  return VerifiedEnrolment{std::move(device), std::move(endorsement), std::move(quote)};
}

policy::QuorumQuestion quorum_question(const DecisionStatement& decision) {
  policy::QuorumQuestion question;
  for (const QuorumClause& clause : decision.quorum)
    question.quorum.push_back({GroupId{clause.group}, static_cast<unsigned>(clause.approvals)});
  question.excluded = {PersonId{decision.person}, PersonId{decision.beneficiary}};
  policy::ApproverCondition& condition = question.approver.emplace();
  for (const std::string& region : decision.approver_region) condition.regions.push_back(RegionId{region});
  condition.other_team = decision.approver_other_team;
  condition.attested = decision.approver_attested;
  return question;
}

milliseconds life_of(Kind opened_by) {
  switch (opened_by) {
    case Kind::kPolicyProposed:
    case Kind::kErasureProposed:
      return kPolicyLife;
    case Kind::kEnrolmentRequested:
      return kEnrolmentLife;
    default:
      return kAccessLife;
  }
}

}  // namespace sallyport::record

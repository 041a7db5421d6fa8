#include "attestation/record/dossier.h"

#include <algorithm>
#include <set>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/ledger/proof.h"
#include "attestation/record/appraise.h"

namespace sallyport::record {
namespace {

constexpr std::string_view kMagic = "spdossr1";
constexpr std::size_t kMaxApprovals = policy::kMaxQuorum;
constexpr std::size_t kMaxBlobs = (kMaxApprovals + 2) * kMaxItems;

std::size_t cap_of(DossierForm form) {
  return form == DossierForm::kFull ? kMaxFullDossierBytes : kMaxTravelDossierBytes;
}

Error mismatch(const char* what) {
  return Error{Code::kUnverified, Reason::kGrantMismatch, what};
}

Result<Body> parse_header(ByteView bytes, Kind kind, const CaseId& case_id) {
  SP_TRY(Body body, parse_body(bytes));
  if (body.kind != kind || body.case_id != case_id) return mismatch("a body of another kind or case");
  return body;
}

// check_blobs: the blobs are those of the bodies' items, all that the form carries and no other.
Status check_blobs(const BlobIndex& blobs, DossierForm form, const std::vector<const Body*>& bodies) {
  std::set<EvidenceItem> wanted;
  for (const Body* body : bodies)
    for (const EvidenceItem& item : body->items)
      if (form == DossierForm::kFull || travels(item.type)) wanted.insert(item);
  std::vector<EvidenceItem> there;
  for (const BlobIndex::Known& known : blobs.all()) there.push_back(known.item);
  if (!std::equal(wanted.begin(), wanted.end(), there.begin(), there.end()))
    return Error{Code::kUnverified, Reason::kLogMissingBody,
                 "the evidence is not exactly that of the dossier's form"};
  return Done{};
}

// verify_inclusion: the grant's leaf is under a checkpoint of this log with its witnesses' quorum. The keys
// are those of the policy in force in the checkpoint's tree, as far as `control` knows.
Result<ledger::VerifiedCheckpoint> verify_inclusion(const Dossier& dossier, const ledger::ClaimedProof& proof,
                                                    const ControlState& control) {
  if (proof.extra) return Error{Code::kMalformed, "the proof carries bytes that nothing vouches for"};
  SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(proof.checkpoint));
  SP_TRY(const ledger::Checkpoint head, ledger::parse_checkpoint_text(note.text));
  const auto policy = control.policy_at(LeafIndex{std::min(head.size.get(), control.size().get())});
  if (policy == nullptr) return Error{Code::kUnavailable, Reason::kGateBehind, "nothing has been followed"};
  SP_TRY(
      ledger::VerifiedCheckpoint checkpoint,
      ledger::verify_proof(proof, ledger::leaf_hash(dossier.grant_leaf), policy->witnesses, control.known()));
  if (checkpoint.origin() != control.origin())
    return Error{Code::kUnverified, Reason::kLogCheckpoint, "the proof is of another log"};
  const UnixMillis cosigned{checkpoint.median_time().get() * 1000};
  if (dossier.grant_leaf.time > cosigned + kMaxLeafLead)
    return Error{Code::kStale, "the leaf is later than the cosignatures over it"};
  if (checkpoint.size() == control.size() && checkpoint.root() != control.root())
    return Error{Code::kUnverified, Reason::kLogFork, "the checkpoint is of another history"};
  return checkpoint;
}

// verify_one_grant: the leaf is the one grant of its case.
Result<const CaseTrace*> verify_one_grant(const Dossier& dossier, LeafIndex index,
                                          const ControlState& control) {
  if (dossier.grant_leaf.kind != static_cast<std::uint8_t>(Kind::kGrant))
    return Error{Code::kUnverified, Reason::kGrantMismatch, "the leaf is not a grant"};
  if (control.size().get() <= index.get())
    return Error{Code::kUnavailable, Reason::kGateBehind, "the log has not been followed to the grant"};
  const CaseTrace* trace = control.find_case(dossier.grant_leaf.case_id);
  if (trace == nullptr || !trace->grant) {
    if (dossier.grant_leaf.time + policy::kMaxGrantDuration + kIdMemory <= control.last_time())
      return Error{Code::kDenied, Reason::kGrantExpired, "the case is long over"};
    return Error{Code::kUnverified, Reason::kLogFork, "the log that was followed has no such grant"};
  }
  if (trace->grant->index != index)
    return Error{Code::kUnverified, Reason::kGrantExists, "the case has another grant"};
  if (trace->grant->leaf_hash != ledger::leaf_hash(dossier.grant_leaf))
    return Error{Code::kUnverified, Reason::kLogFork, "the log that was followed has another leaf there"};
  return trace;
}

Result<std::vector<VerifiedApproval>> verify_approvals(const BlobIndex& blobs, DossierForm form,
                                                       const std::vector<Body>& bodies, const Grant& grant,
                                                       const CaseTrace& trace, const Digest256& to_approve,
                                                       const LoadedPolicy& policy,
                                                       const ControlState& control) {
  std::vector<VerifiedApproval> out;
  auto next = trace.approvals.begin();  // the grant names approvals in leaf order
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    SP_TRY(const OpenedStatement statement, open_statement(bodies[i], blobs));
    if (statement.digest != grant.approvals[i])
      return mismatch("an approval is not the one that the grant names");
    next = std::find(next, trace.approvals.end(), bodies[i].time);
    if (next == trace.approvals.end()) return mismatch("no approval of the case was logged at that time");
    ++next;
    SP_TRY(VerifiedApproval approval, verify_approval(control, policy, statement,
                                                      {.case_id = grant.case_id,
                                                       .to_approve = to_approve,
                                                       .max_life = kAccessLife,
                                                       .max_size = trace.grant->index.get(),
                                                       .form = form}));
    if (trace.grant->not_before >= approval.statement.expires)
      return Error{Code::kDenied, Reason::kApprovalExpired, "an approval had expired"};
    out.push_back(std::move(approval));
  }
  return out;
}

// The networks that every rule of the decision takes requests from.
std::vector<std::string> common_networks(const policy::Policy& policy,
                                         const std::vector<std::string>& rules) {
  std::vector<std::string> common;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const policy::Rule* rule = policy::find_rule(policy, RuleId{rules[i]});
    SP_ASSERT(rule != nullptr);  // the decision was recomputed under this policy
    const std::vector<std::string> networks = policy::source_networks(policy, *rule);
    if (i == 0)
      common = networks;
    else
      std::erase_if(common, [&](const auto& n) {
        return std::find(networks.begin(), networks.end(), n) == networks.end();
      });
  }
  return common;
}

// check_head: what the grant rests on still exists where `control` stands now.
Status check_head(const ControlState& control, const EvaluatedRequest& request,
                  const std::vector<VerifiedApproval>& approvals) {
  const policy::Policy& head = control.policy()->policy;
  if (control.is_denied(request.request.case_id))
    return Error{Code::kDenied, Reason::kCaseDenied, "the case is denied or revoked"};
  SP_CHECK(control.check_signer(head, request.request.person, request.token));
  if (control.is_revoked_person(request.request.beneficiary) ||
      policy::find_person(head, PersonId{request.request.beneficiary}) == nullptr)
    return Error{Code::kDenied, Reason::kRevoked, "the beneficiary is gone"};
  for (const VerifiedApproval& approval : approvals)
    if (!control.check_signer(head, approval.statement.approver, approval.token))
      return Error{Code::kDenied, Reason::kApprovalRevoked, "an approver, or the approver's token, is gone"};
  return Done{};
}

}  // namespace

Result<Dossier> parse_dossier(ByteView bytes) {
  if (bytes.size() > kMaxFullDossierBytes) return Error{Code::kMalformed, "longer than its cap"};
  Reader in{bytes};
  SP_TRY(const ByteView magic, in.raw(kMagic.size()));
  if (as_text(magic) != kMagic) return Error{Code::kMalformed, "not a dossier"};
  Dossier out;
  SP_TRY(const std::uint8_t form, in.u8());
  if (form != static_cast<std::uint8_t>(DossierForm::kFull) &&
      form != static_cast<std::uint8_t>(DossierForm::kTravel))
    return Error{Code::kMalformed, "no form of a dossier"};
  out.form = static_cast<DossierForm>(form);
  if (bytes.size() > cap_of(out.form)) return Error{Code::kMalformed, "longer than its cap"};
  SP_TRY(const ByteView proof, in.prefixed32(kMaxProofText));
  out.proof = as_text(proof);
  SP_TRY(const ByteView grant, in.prefixed32(ledger::kLeafSize + 32 + kMaxBodyBytes));
  Reader grant_in{grant};
  SP_TRY(const ByteView leaf, grant_in.raw(ledger::kLeafSize));
  SP_TRY(out.grant_leaf, ledger::parse_leaf(leaf));
  SP_TRY(const auto nonce, grant_in.array<32>());
  out.grant_nonce = Nonce{nonce};
  out.grant_body = to_bytes(grant_in.rest());
  SP_TRY(const ByteView request, in.prefixed32(kMaxBodyBytes));
  out.request_body = to_bytes(request);
  SP_TRY(const std::uint8_t approvals, in.u8());
  if (approvals > kMaxApprovals) return Error{Code::kMalformed, "more approvals than a quorum can have"};
  for (std::size_t i = 0; i < approvals; ++i) {
    SP_TRY(const ByteView approval, in.prefixed32(kMaxBodyBytes));
    out.approval_bodies.push_back(to_bytes(approval));
  }
  SP_TRY(out.blobs, parse_blobs(in, kMaxBlobs));
  SP_CHECK(in.finish());
  return out;
}

Bytes encode_dossier(const Dossier& dossier) {
  Writer out;
  out.raw(kMagic).u8(static_cast<std::uint8_t>(dossier.form)).prefixed32(dossier.proof);
  Writer grant;
  grant.raw(ledger::encode_leaf(dossier.grant_leaf)).raw(view(dossier.grant_nonce)).raw(dossier.grant_body);
  out.prefixed32(ByteView{grant.bytes()}).prefixed32(ByteView{dossier.request_body});
  SP_ASSERT(dossier.approval_bodies.size() <= kMaxApprovals);
  out.u8(static_cast<std::uint8_t>(dossier.approval_bodies.size()));
  for (const Bytes& body : dossier.approval_bodies) out.prefixed32(ByteView{body});
  write_blobs(dossier.blobs, out);
  return std::move(out).take();
}

Dossier make_dossier(const Entry& grant, const Entry& request, const std::vector<const Entry*>& approvals,
                     std::string proof) {
  Dossier out{.form = DossierForm::kFull,
              .proof = std::move(proof),
              .grant_leaf = grant.leaf,
              .grant_nonce = grant.nonce,
              .grant_body = grant.body,
              .request_body = request.body,
              .approval_bodies = {},
              .blobs = grant.blobs};
  out.blobs.insert(out.blobs.end(), request.blobs.begin(), request.blobs.end());
  for (const Entry* approval : approvals) {
    out.approval_bodies.push_back(approval->body);
    out.blobs.insert(out.blobs.end(), approval->blobs.begin(), approval->blobs.end());
  }
  out.blobs = sorted_blobs(std::move(out.blobs));
  return out;
}

Dossier to_travel(const Dossier& dossier) {
  Dossier out = dossier;
  out.form = DossierForm::kTravel;
  std::erase_if(out.blobs, [](const Blob& blob) { return !travels(blob.type); });
  return out;
}

Result<VerifiedGrant> verify_dossier(const Dossier& dossier, const ControlState& control, UnixMillis now) {
  // The leaf: in the log, under its witnesses, and the one grant of its case.
  SP_TRY(const ledger::ClaimedProof proof, ledger::parse_proof(dossier.proof));
  SP_TRY(const ledger::VerifiedCheckpoint checkpoint, verify_inclusion(dossier, proof, control));
  SP_TRY(const CaseTrace* trace, verify_one_grant(dossier, proof.index, control));
  const CaseId& case_id = dossier.grant_leaf.case_id;

  // The bodies, and the evidence that they name.
  if (commitment(dossier.grant_nonce, dossier.grant_body) != dossier.grant_leaf.commitment)
    return Error{Code::kUnverified, Reason::kLogBody, "the leaf does not commit to this body"};
  SP_TRY(const Body grant_body, parse_header(dossier.grant_body, Kind::kGrant, case_id));
  if (grant_body.time != dossier.grant_leaf.time)
    return Error{Code::kUnverified, Reason::kLogBody, "header and leaf differ"};
  SP_TRY(const Body request_body, parse_header(dossier.request_body, Kind::kRequest, case_id));
  if (request_body.time != trace->opened) return mismatch("no request of the case was logged at that time");
  std::vector<Body> approval_bodies;
  std::vector<const Body*> bodies{&grant_body, &request_body};
  approval_bodies.reserve(dossier.approval_bodies.size());
  for (const Bytes& bytes : dossier.approval_bodies) {
    SP_TRY(Body body, parse_header(bytes, Kind::kApproval, case_id));
    bodies.push_back(&approval_bodies.emplace_back(std::move(body)));
  }
  const BlobIndex blobs{dossier.blobs};
  SP_CHECK(check_blobs(blobs, dossier.form, bodies));
  SP_TRY(const OpenedStatement opened, open_statement(grant_body));
  SP_TRY(const Grant grant, parse_grant(opened.envelope.payload));
  SP_CHECK(check_header(control.origin(), grant.authority, grant.case_id, grant_body));
  if (grant.approvals.size() != approval_bodies.size())
    return mismatch("other approvals than the grant names");
  SP_TRY(const DecisionStatement decision, parse_decision(grant.decision));

  // The request and the decision, under the policy in force at the grant's leaf.
  const auto policy = control.policy_at(proof.index);
  const auto policy_then = control.policy_at(trace->first);
  SP_ASSERT(policy != nullptr && policy_then != nullptr);
  SP_TRY(const EvaluatedRequest request,
         evaluate_request(control, *policy, request_body, blobs, dossier.form));
  if (request.decision_payload != grant.decision)
    return mismatch("the decision is not the one that the policy gives");
  DecisionStatement approved = decision;
  approved.policy = policy_then->policy.digest;  // approvals were given under the policy of the request
  const Digest256 to_approve = decision_digest(encode(approved));
  if (request.request.head_size > trace->first.get())
    return Error{Code::kUnverified, Reason::kLogRollback, "the request names a longer log than there was"};
  SP_CHECK(verify_activation(control, *policy, grant_body, blobs,
                             {.request = request.request,
                              .request_digest = request.request_digest,
                              .request_quote = request.quote,
                              .request_time = request_body.time,
                              .network = decision.network,
                              .max_size = proof.index.get()}));

  // The quorum.
  SP_TRY(const std::vector<VerifiedApproval> approvals,
         verify_approvals(blobs, dossier.form, approval_bodies, grant, *trace, to_approve, *policy, control));
  std::vector<policy::CandidateApproval> candidates;
  for (const VerifiedApproval& approval : approvals)
    candidates.push_back({PersonId{approval.statement.approver}, approval.quote.has_value()});
  SP_CHECK(policy::verify_quorum(policy->policy, quorum_question(decision), candidates));

  // What has come after.
  SP_CHECK(check_head(control, request, approvals));
  if (now + kNoteSkew < trace->grant->not_before) return Error{Code::kStale, "the grant is from the future"};
  if (now >= trace->grant->not_after)
    return Error{Code::kDenied, Reason::kGrantExpired, "the grant's time is over"};

  const auto host = policy::find_host(policy->policy, decision.host);
  SP_ASSERT(host.has_value());  // decide() found it
  VerifiedGrant out{request.session_key, request.quote};
  out.form = dossier.form;
  out.case_id = case_id;
  out.origin = control.origin();
  out.leaf_index = proof.index;
  out.leaf_hash = trace->grant->leaf_hash;
  out.grant_digest = opened.digest;
  out.decision_digest = decision_digest(grant.decision);
  out.policy_digest = policy->policy.digest;
  out.person = PersonId{decision.person};
  out.beneficiary = PersonId{decision.beneficiary};
  out.device = decision.device;
  const Device* const device = control.find_device(decision.device);
  out.device_name = device->name;
  out.tpm_maker = device->tpm_maker;
  out.boot = request.boot;
  out.ima = request.ima;
  out.resource = ResourceId{decision.resource};
  out.host = decision.host;
  out.host_address = host->host->address;
  out.host_port = host->host->port;
  out.host_keys = host->host->keys;
  out.account = decision.account;
  out.command = decision.command;
  out.source_networks = common_networks(policy->policy, decision.rules);
  out.rules = decision.rules;
  out.quorum = decision.quorum;
  for (const VerifiedApproval& approval : approvals)
    out.approvers.push_back(PersonId{approval.statement.approver});
  out.reason = request.request.reason;
  out.nonce = request.request.nonce;
  out.not_before = trace->grant->not_before;
  out.not_after = trace->grant->not_after;
  ByteArray<32> name;
  std::memcpy(name.data(), decision.key.data() + 2, name.size());  // behind nameAlg
  out.session_key_name = Digest256{name};
  for (const auto& cosignature : checkpoint.cosignatures())
    out.cosigned.push_back(UnixMillis{cosignature.time.get() * 1000});
  return out;
}

}  // namespace sallyport::record

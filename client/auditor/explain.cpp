#include "client/auditor/explain.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/ledger/proof.h"
#include "client/auditor/tell.h"
#include "client/auditor/verify_export.h"
#include "client/terminal/render.h"

namespace sallyport::client::auditor {
namespace {

using record::Kind;
using record::json::Value;

// Asked is the request as its person signed it; Approved, an approval.
struct Asked {
  record::Body body;
  record::Request request;
  KeyId token;
};
Result<Asked> open_request(const record::Dossier& dossier) {
  SP_TRY(record::Body body, record::parse_body(dossier.request_body));
  SP_TRY(const record::Envelope envelope, record::open_envelope(body));
  SP_TRY(record::Request request, record::parse_request(envelope.payload));
  return Asked{std::move(body), std::move(request), envelope.signatures.front().key};
}

struct Approved {
  UnixMillis logged;
  record::Approval approval;
  KeyId token;
};
Result<std::vector<Approved>> open_approvals(const record::Dossier& dossier) {
  std::vector<Approved> out;
  for (const Bytes& bytes : dossier.approval_bodies) {
    SP_TRY(const record::Body body, record::parse_body(bytes));
    SP_TRY(const record::Envelope envelope, record::open_envelope(body));
    SP_TRY(record::Approval approval, record::parse_approval(envelope.payload));
    out.push_back({body.time, std::move(approval), envelope.signatures.front().key});
  }
  return out;
}

Result<record::DecisionStatement> open_decision(const record::Dossier& dossier) {
  SP_TRY(const record::Body body, record::parse_body(dossier.grant_body));
  SP_TRY(const record::Envelope envelope, record::open_envelope(body));
  SP_TRY(const record::Grant grant, record::parse_grant(envelope.payload));
  return record::parse_decision(grant.decision);
}

Result<record::Observation> open_observation(const record::Dossier& dossier, const record::Body& body) {
  const record::BlobIndex blobs{dossier.blobs};
  for (const record::EvidenceItem& item : record::items_of_type(body, record::EvidenceType::kObservation))
    if (const record::Blob* blob = blobs.find(item)) return record::parse_observation(blob->bytes);
  return Error{Code::kMalformed, "no observation"};
}

// People and tokens as the policy of that time knew them.
class Names {
 public:
  explicit Names(const policy::Policy& policy) : policy_(policy) {}
  std::string region(const std::string& id) const {
    const policy::Person* person = policy::find_person(policy_, PersonId{id});
    return person == nullptr ? "unknown" : person->region.get();
  }
  std::string team(const std::string& id) const {
    const policy::Person* person = policy::find_person(policy_, PersonId{id});
    return person == nullptr ? "unknown" : person->team;
  }
  std::string token(const KeyId& key) const {
    const auto owner = policy::find_token(policy_, key);
    return owner ? owner->token->id : to_hex(key).substr(0, 16);
  }

 private:
  const policy::Policy& policy_;
};

// grouped_hex: "4c1e 90b7 62aa 0f3d".
std::string grouped_hex(const Digest256& digest) {
  const std::string hex = to_hex(digest);
  return hex.substr(0, 4) + " " + hex.substr(4, 4) + " " + hex.substr(8, 4) + " " + hex.substr(12, 4);
}

std::string joined(const std::vector<std::string>& parts, std::string_view between = ", ") {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : std::string{between}) + part;
  return out;
}

// cosigners names the witnesses of the dossier's checkpoint.
Result<std::vector<std::string>> cosigners(const record::Dossier& dossier, const ledger::ClaimedProof& proof,
                                           TreeSize head, const record::ControlState& control) {
  const auto policy = control.policy_at(LeafIndex{std::min(head.get(), control.size().get())});
  SP_ASSERT(policy != nullptr);
  SP_TRY(const auto checked,
         ledger::verify_proof(proof, ledger::leaf_hash(dossier.grant_leaf), policy->witnesses));
  std::vector<std::string> names;
  for (const auto& cosignature : checked.cosignatures())
    for (const ledger::PolicyWitness& witness : policy->witnesses.witnesses())
      if (witness.key.key().id() == cosignature.witness) names.push_back(witness.name);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Value> values(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

std::string later_sentence(const std::vector<LaterLeaf>& later) {
  std::uint64_t leases = 0;
  std::vector<std::string> parts;
  for (const LaterLeaf& leaf : later) {
    if (leaf.kind == Kind::kLease)
      ++leases;
    else
      parts.push_back(std::string{record::kind_name(leaf.kind)} + " " + utc(leaf.time) + " (leaf " +
                      grouped(leaf.index.get()) + ")");
  }
  return "After the grant the log holds " + grouped(leases) + (leases == 1 ? " lease" : " leases") +
         " of this case" + (parts.empty() ? ", and nothing else of it." : "; " + joined(parts) + ".");
}

}  // namespace

Result<Explanation> explain(const record::Dossier& dossier, const record::ControlState& control,
                            const follow::TrustAnchor& anchor, const std::vector<LaterLeaf>& later,
                            const std::vector<std::string>& since) {
  // The past is judged at its own time.
  SP_TRY(const record::VerifiedGrant grant,
         record::verify_dossier(dossier, control, dossier.grant_leaf.time));
  SP_TRY(const Asked asked, open_request(dossier));
  SP_TRY(const std::vector<Approved> approvals, open_approvals(dossier));
  SP_TRY(const record::DecisionStatement decision, open_decision(dossier));
  SP_TRY(const record::Observation seen, open_observation(dossier, asked.body));
  SP_TRY(const ledger::ClaimedProof proof, ledger::parse_proof(dossier.proof));
  SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(proof.checkpoint));
  SP_TRY(const ledger::Checkpoint head, ledger::parse_checkpoint_text(note.text));
  SP_TRY(const std::vector<std::string> witnesses, cosigners(dossier, proof, head.size, control));
  const auto loaded = control.policy_at(grant.leaf_index);
  SP_ASSERT(loaded != nullptr);
  const policy::Policy& policy = loaded->policy;
  const Names names{policy};
  const record::Device* device = control.find_device(grant.device);
  SP_ASSERT(device != nullptr);

  const std::string person = grant.person.get(), beneficiary = grant.beneficiary.get();
  const std::string span = duration_text((grant.not_after.get() - grant.not_before.get()) / 1000);
  const std::string where =
      grant.host + " (" + grant.host_address + ":" + std::to_string(grant.host_port) + ")";
  Explanation out{.summary = {}, .layers = {}, .verified_against = {}, .json = Value{std::string{}}};
  out.summary =
      printable("At " + utc(grant.not_before) + " " + person + " (region " + names.region(person) + ") got " +
                span + " as " + grant.account + " on " + where + ", case " + short_case(grant.case_id) + ".");

  const auto layer = [&](const std::string& text) { out.layers.push_back(printable(text)); };
  std::string attached;
  for (const record::Attachment& file : asked.request.attachments)
    attached += (attached.empty() ? "" : ", ") + file.name + " (" + human_bytes(file.size) + ", sha256 " +
                to_hex(file.sha256).substr(0, 16) + ")";
  layer(person + " (team " + names.team(person) + ") asked at " + utc(asked.body.time) + " for " +
        (beneficiary == person ? std::string{"work of their own"}
                               : beneficiary + " (region " + names.region(beneficiary) + ")") +
        ", signing with token " + names.token(asked.token) + ", because \"" + grant.reason + "\"." +
        (attached.empty() ? "" : " Attached: " + attached + "."));
  layer("The machine was " + grant.device_name + ", of region " + device->region.get() +
        ", enrolled at leaf " + grouped(device->enrolled.get()) +
        ". Its TPM quoted, with the request and again for the grant, " +
        (grant.boot.reference.empty()
             ? "one boot, which keyguard and approvers have judged by an event log that is not here,"
             : "a boot that the policy accepts (" + grant.boot.reference + "),") +
        " and certified that the session key can be used in that TPM, boot and state only." +
        (grant.ima
             ? " It had measured since its start, and the policy expected each: " + ima_text(*grant.ima) + "."
             : ""));
  layer("The broker saw the request come from " + seen.address +
        (seen.country.empty() ? "" : " (" + seen.country + ")") + ", network region " + decision.network +
        "; the credential opens from " + joined(grant.source_networks) + " only.");
  std::vector<std::string> who;
  for (const Approved& one : approvals)
    who.push_back(one.approval.approver + " (region " + names.region(one.approval.approver) + ", team " +
                  names.team(one.approval.approver) + ", token " + names.token(one.token) +
                  (one.approval.device ? ", at an attested machine" : "") + ", " + utc(one.logged) + ")");
  std::vector<std::string> clauses;
  for (const record::QuorumClause& clause : decision.quorum)
    clauses.push_back(std::to_string(clause.approvals) + " of " + clause.group);
  layer("Signed by " + joined(who) + ". Asked for were " + joined(clauses, " and ") +
        "; none of them is requester or beneficiary" +
        (decision.approver_other_team ? " or of their teams" : "") + ". Each signed decision " +
        grouped_hex(grant.decision_digest) + ".");
  layer("Policy version " + std::to_string(policy.version) + " (sha256 " +
        to_hex(policy.digest).substr(0, 16) + ") allowed it, by " +
        (grant.rules.size() == 1 ? "rule " : "rules ") + joined(grant.rules) + ": " +
        (grant.command.empty() ? std::string{"a shell"} : "the command " + grant.command) + " as " +
        grant.account + ", from " + utc(grant.not_before) + " to " + utc(grant.not_after) + ".");
  layer("The grant is leaf " + grouped(grant.leaf_index.get()) + " of " + grant.origin.get() +
        ", the only grant of its case, under a checkpoint of " + grouped(head.size.get()) + " leaves that " +
        joined(witnesses) + " cosigned" +
        (grant.cosigned.empty() ? "." : ", last at " + utc(grant.cosigned.back()) + "."));
  layer(grant.form == record::DossierForm::kFull
            ? "The dossier is complete: every piece of evidence is in it."
            : "The dossier is the travel form: attached files are not in it, only their digests.");
  if (!later.empty()) layer(later_sentence(later));
  for (const std::string& fact : since) layer("Since then: " + fact + ".");
  out.verified_against = printable("Verified against origin " + anchor.origin.get() +
                                   ", first policy sha256 " + to_hex(anchor.genesis_policy) +
                                   ", as the log stood at leaf " + grouped(control.size().get() - 1) + ".");

  std::vector<Value> approval_values;
  for (const Approved& one : approvals)
    approval_values.push_back(Value::object({{"approver", one.approval.approver},
                                             {"attested", Value{one.approval.device.has_value()}},
                                             {"region", names.region(one.approval.approver)},
                                             {"team", names.team(one.approval.approver)},
                                             {"time", one.logged.get()},
                                             {"token", names.token(one.token)}}));
  std::vector<Value> later_values;
  for (const LaterLeaf& leaf : later)
    later_values.push_back(Value::object(
        {{"kind", record::kind_name(leaf.kind)}, {"leaf", leaf.index.get()}, {"time", leaf.time.get()}}));
  std::vector<Value> clause_values;
  for (const record::QuorumClause& clause : decision.quorum)
    clause_values.push_back(Value::object({{"approvals", clause.approvals}, {"group", clause.group}}));
  out.json = Value::object({{"account", grant.account},
                            {"address", seen.address},
                            {"approvals", std::move(approval_values)},
                            {"beneficiary", beneficiary},
                            {"beneficiary_region", names.region(beneficiary)},
                            {"case", to_hex(grant.case_id)},
                            {"checkpoint_size", head.size.get()},
                            {"command", grant.command},
                            {"decision", to_hex(grant.decision_digest)},
                            {"device", to_hex(grant.device)},
                            {"device_name", grant.device_name},
                            {"device_region", device->region.get()},
                            {"form", grant.form == record::DossierForm::kFull ? "full" : "travel"},
                            {"host", grant.host},
                            {"later", std::move(later_values)},
                            {"leaf", grant.leaf_index.get()},
                            {"layers", values(out.layers)},
                            {"network", decision.network},
                            {"not_after", grant.not_after.get()},
                            {"not_before", grant.not_before.get()},
                            {"origin", grant.origin.get()},
                            {"person", person},
                            {"person_region", names.region(person)},
                            {"policy", to_hex(grant.policy_digest)},
                            {"policy_version", policy.version},
                            {"quorum", std::move(clause_values)},
                            {"reason", grant.reason},
                            {"resource", grant.resource.get()},
                            {"rules", values(grant.rules)},
                            {"since", values(since)},
                            {"summary", out.summary},
                            {"token", names.token(asked.token)},
                            {"witnesses", values(witnesses)}});
  return out;
}

Result<LogAround> replay_around(const record::Dossier& dossier, const std::filesystem::path& directory,
                                const follow::TrustAnchor& anchor) {
  SP_TRY(const ledger::ClaimedProof proof, ledger::parse_proof(dossier.proof));
  SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(proof.checkpoint));
  SP_TRY(const ledger::Checkpoint head, ledger::parse_checkpoint_text(note.text));
  std::optional<record::ControlState> then;  // as the keyguard knew the log when the grant was new
  std::vector<LaterLeaf> later;
  std::vector<LeafIndex> erasures;
  const auto on_leaf = [&](LeafIndex index, const ledger::Leaf& leaf,
                           const record::ControlState& control) -> Status {
    if (control.size() == head.size && control.root() != head.root)
      return Error{Code::kUnverified, Reason::kLogFork, "the dossier's checkpoint is of another history"};
    if (index == proof.index) then = control;
    if (index > proof.index && leaf.case_id == dossier.grant_leaf.case_id)
      later.push_back({index, leaf.time, *record::parse_kind(leaf.kind)});
    if (leaf.kind == static_cast<std::uint8_t>(Kind::kErasure)) erasures.push_back(index);
    return Done{};
  };
  SP_TRY(record::ControlState now, replay_control(directory, anchor, on_leaf));
  if (!then)
    return Error{Code::kUnavailable, Reason::kGateBehind,
                 "the export ends at leaf " + std::to_string(now.size().get() - 1) + ", before the grant"};
  return LogAround{*std::move(then), std::move(now), std::move(later), std::move(erasures)};
}

Result<Explanation> explain_from_export(const record::Dossier& dossier,
                                        const std::filesystem::path& directory,
                                        const follow::TrustAnchor& anchor) {
  SP_TRY(const LogAround log, replay_around(dossier, directory, anchor));
  const record::ControlState& now = log.now;
  std::vector<std::string> since;
  SP_TRY(const Asked asked, open_request(dossier));
  SP_TRY(const std::vector<Approved> approvals, open_approvals(dossier));
  const auto look = [&](const std::string& person, const KeyId& token) {
    if (now.is_revoked_person(person)) since.push_back(person + " was revoked");
    if (now.is_revoked_token(token)) since.push_back("the token that " + person + " signed with was revoked");
  };
  look(asked.request.person, asked.token);
  for (const Approved& one : approvals) look(one.approval.approver, one.token);
  const DeviceId& machine = asked.request.device;
  if (const record::Device* device = now.find_device(machine);
      device != nullptr && device->enrolled.get() >= log.then.size().get())
    since.push_back("the machine was enrolled again, by leaf " + grouped(device->enrolled.get()));
  if (now.is_revoked(machine))
    since.push_back(std::string{"the machine was "} + (now.find_lost(machine)      ? "lost"
                                                       : now.find_retired(machine) ? "retired"
                                                                                   : "revoked"));
  if (now.is_denied(dossier.grant_leaf.case_id)) since.push_back("the case was denied or revoked");
  SP_TRY(ExportReader reader, ExportReader::open(directory));
  for (const LeafIndex index : log.erasures) {
    SP_TRY(record::Entry entry, reader.entry(index));
    SP_TRY(const record::OpenedEntry opened, record::open_entry(std::move(entry)));
    SP_TRY(const KnownErasure erasure, open_erasure(opened.statement(), index, opened.entry().leaf.time));
    if (!record::covers(erasure.what, dossier.grant_leaf.case_id, asked.body.time)) continue;
    since.push_back("the case was " + tell_erased(erasure) +
                    "; the dossier proves by itself what is no more in the log");
    break;
  }
  SP_TRY(Explanation out, explain(dossier, log.then, anchor, log.later, since));
  out.verified_against += " The export was replayed to leaf " + grouped(now.size().get() - 1) + ".";
  return out;
}

}  // namespace sallyport::client::auditor

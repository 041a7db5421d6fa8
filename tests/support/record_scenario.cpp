#include "tests/support/record_scenario.h"

#include <algorithm>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/ledger/cosignature.h"
#include "attestation/ledger/proof.h"
#include "attestation/record/binding.h"
#include "attestation/record/host_key.h"
#include "attestation/record/ima.h"
#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"
#include "tests/support/matchers.h"

namespace sallyport::test {

using namespace record;
using evidence::Purpose;

namespace {

template <class Edit, class Value>
void apply(const Edit& edit, Value& value) {
  if (edit) edit(value);
}

std::string pem_of(const crypto::Certificate& certificate) {
  const std::string text = to_base64(certificate.der());
  std::string out = "-----BEGIN CERTIFICATE-----\n";
  for (std::size_t i = 0; i < text.size(); i += 64) out += text.substr(i, 64) + "\n";
  return out + "-----END CERTIFICATE-----\n";
}

Blob observation_blob(const std::string& address, const std::string& country, UnixMillis time) {
  return {EvidenceType::kObservation,
          encode(Observation{.address = address, .country = country, .time = time})};
}

Blob note_blob(const std::string& note) {
  return {EvidenceType::kNote, to_bytes(as_bytes(note))};
}

void add_event_log(const SoftTpm& tpm, std::vector<Blob>& blobs) {
  if (!tpm.event_log.empty()) blobs.push_back({EvidenceType::kEventLog, tpm.event_log});
}

ledger::Checkpoint checkpoint_of(const std::string& note) {
  return value_of(ledger::parse_checkpoint_text(value_of(ledger::parse_note(note)).text));
}

}  // namespace

RecordScenario::RecordScenario(const std::function<void(SampleCompany&)>& change)
    : host_key(crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256)),
      state(begin_state(Origin{"-"}, {})),
      follower(ControlState::begin(Origin{"-"}, {})) {
  company.policy.tpm_roots = pem_of_roots();
  std::vector<std::string>& keys = company.policy.resource("user-db").hosts.front().keys;
  keys.insert(keys.begin(), value_of(ssh_fingerprint(host_key.public_key())));
  apply(change, company);
  genesis = crypto::sha256(policy_document().text);
  state = begin_state(origin(), genesis);
  follower = ControlState::begin(origin(), genesis);
  value_of(append(compose_genesis(origin(), policy_document(), now, crypto::random_nonce())));
}

PolicyDocument RecordScenario::policy_document() const {
  PolicyDocument out{to_bytes(as_bytes(company.policy.toml())), company.policy.tpm_roots, {}};
  if (!company.policy.references.empty()) out.references = to_bytes(as_bytes(company.policy.references));
  return out;
}

evidence::PcrSelection RecordScenario::selection() const {
  const auto followed = follower.policy();  // null where another program has the log
  return followed ? followed->references.selection : evidence::PcrSelection::standard();
}

Bytes RecordScenario::pem_of_roots() const {
  return to_bytes(as_bytes(pem_of(vendor.root()) + pem_of(vendor.intermediate())));
}

void RecordScenario::advance(std::chrono::milliseconds span) {
  const auto ms = static_cast<std::uint64_t>(span.count());
  now = UnixMillis{now.get() + ms};
  for (auto& [name, tpm] : machines) tpm.advance(ms);
}

std::string RecordScenario::cosign(std::size_t witnesses) const {
  return cosign(tree, witnesses, now);
}

std::string RecordScenario::cosign(const ledger::Tree& tree_to_sign, std::size_t witnesses,
                                   UnixMillis at) const {
  const std::string text = ledger::checkpoint_text(
      {.origin = origin(), .size = tree_to_sign.size(), .root = tree_to_sign.root(), .extensions = {}});
  std::vector<ledger::SignatureLine> lines{
      sign_as_log ? sign_as_log(text)
                  : value_of(ledger::sign_note_line(company.log, company.policy.origin, text))};
  for (std::size_t i = 0; i < witnesses; ++i)
    lines.push_back(value_of(ledger::cosign_line(company.witnesses.at(i), company.policy.witnesses.at(i).name,
                                                 ledger::UnixSeconds{at.get() / 1000}, text)));
  return ledger::encode_note({text, std::move(lines)});
}

Result<LeafIndex> RecordScenario::append(const Entry& entry) {
  const Kind kind = value_of(parse_kind(entry.leaf.kind));
  const Entry* control_entry = is_control(kind) ? &entry : nullptr;
  if (!broker_is_rooted) {
    SP_TRY(Prepared prepared, prepare(state, entry));
    PreparedControl followed = value_of(prepare_control(follower, entry.leaf, control_entry));  // must agree
    commit(state, std::move(prepared));
    commit(follower, std::move(followed));
  } else {
    SP_TRY(PreparedControl followed, prepare_control(follower, entry.leaf, control_entry));
    commit(follower, std::move(followed));
  }
  const LeafIndex index = tree.append(ledger::leaf_hash(entry.leaf));
  entries.push_back(entry);
  EXPECT_EQ(follower.root(), tree.root());
  if (entry.leaf.time > now) now = entry.leaf.time;
  advance(std::chrono::milliseconds{10});
  return index;
}

Entry RecordScenario::entry(Kind kind, const CaseId& case_id, const Submission& submission) const {
  return make_entry(kind, now, case_id, predecessor_of(follower, case_id), submission.envelope,
                    submission.blobs, crypto::random_nonce());
}

Bytes RecordScenario::sign_payload(std::string type, Bytes payload, const crypto::PrivateKey& key) const {
  return encode_envelope(
      value_of(sign_statement(std::move(type), std::move(payload), key.public_key(),
                              [&](const Digest256& digest) { return key.sign_p256(digest); })));
}

Blob RecordScenario::quote_blob(SoftTpm& tpm, const evidence::Binding& binding) const {
  const evidence::PcrSelection selected = selection();
  const evidence::SignedAttest quote = tpm.quote(evidence::binding_digest(binding), selected);
  QuoteEvidence out{.attest = quote.attest, .signature = quote.signature, .pcrs = {}};
  for (const Digest256& value : tpm.pcr_values(selected)) out.pcrs.push_back(value.get());
  return {EvidenceType::kQuote, encode(out)};
}

void RecordScenario::add_ima(SoftTpm& tpm, const evidence::Binding& binding, std::vector<Blob>& blobs) const {
  const auto followed = follower.policy();
  if (!followed || !followed->references.ima || tpm.ima_list.empty()) return;
  const evidence::SignedAttest quote = tpm.quote(evidence::binding_digest(binding), ima_selection());
  const auto list = value_of(evidence::ImaList::parse(tpm.ima_list));
  for (Blob& blob : value_of(ima_evidence(quote, tpm.pcrs[evidence::kImaPcr], list)))
    blobs.push_back(std::move(blob));
}

SoftTpm& RecordScenario::machine(const std::string& name, const std::string& region) {
  if (const auto found = machines.find(name); found != machines.end()) return found->second;
  SoftTpm tpm;
  EnrolStep step;
  step.machine = name;
  step.region = region;
  value_of(enrol(tpm, step));
  return machines.emplace(name, std::move(tpm)).first->second;
}

Submission RecordScenario::enrolment_request(SoftTpm& tpm, const EnrolStep& step,
                                             const CaseId& case_id) const {
  EnrolmentRequested statement{.ak = tpm.ak_public(),
                               .authority = company.policy.origin,
                               .case_id = case_id,
                               .device = tpm.device(),
                               .ek = tpm.ek_public(),
                               .name = step.machine,
                               .nonce = crypto::random_nonce(),
                               .pcrs = tpm.pcr_digest(selection()),
                               .person = SampleCompany::id(step.person),
                               .region = step.region,
                               .time = now};
  apply(step.edit, statement);
  evidence::Binding binding{
      .purpose = Purpose::kEnrol,
      .origin = origin(),
      .case_id = case_id,
      .request = statement_digest(payload_type(Kind::kEnrolmentRequested), encode(statement)),
      .nonce = statement.nonce,
      .note = no_note()};
  apply(step.edit_binding, binding);
  std::vector<Blob> blobs{
      quote_blob(tpm, binding),
      {EvidenceType::kEkCertificate, vendor.issue_ek(tpm.ek().key)},
      {EvidenceType::kIdentity, encode(tpm.prove_identity(evidence::binding_digest(binding)))}};
  add_event_log(tpm, blobs);
  apply(step.edit_blobs, blobs);
  return {sign(Kind::kEnrolmentRequested, statement, company.token(step.person)), std::move(blobs)};
}

Result<DeviceId> RecordScenario::enrol(SoftTpm& tpm, const EnrolStep& step) {
  const CaseId id = crypto::random_case_id();
  SP_CHECK(append(Kind::kEnrolmentRequested, id, enrolment_request(tpm, step, id)));
  for (const std::string& person : step.approvers) SP_CHECK(approve(id, person));
  SP_TRY(const Entry closing, compose_enrolment(state, id, now, crypto::random_nonce()));
  SP_CHECK(append(closing));
  return tpm.device();
}

OpenCase RecordScenario::make_request(const RequestStep& step) {
  SoftTpm& tpm = step.tpm != nullptr ? *step.tpm : machine(step.machine);
  const CaseId id = step.case_id.value_or(crypto::random_case_id());
  const std::string note = step.note ? *step.note : cosign();
  const ledger::Checkpoint head = checkpoint_of(note);

  evidence::SessionKeyPolicy key_policy = tpm.session_policy(company.policy.lease, origin(), id, selection());
  apply(step.edit_key_policy, key_policy);
  SoftSessionKey key = tpm.create_session_key(evidence::SessionKeyUse::kSign, key_policy);

  Request request;
  request.account = step.account;
  request.action = "ssh";
  request.authority = company.policy.origin;
  for (const auto& [name, bytes] : step.attachments)
    request.attachments.push_back({name, crypto::sha256(bytes), bytes.size()});
  request.beneficiary = SampleCompany::id(step.beneficiary.empty() ? step.person : step.beneficiary);
  request.case_id = id;
  request.device = tpm.device();
  request.duration_s = step.duration_s;
  request.head_root = head.root;
  request.head_size = head.size.get();
  request.host = step.host;
  std::copy(key.name.get().begin(), key.name.get().end(), request.key.begin());
  request.nonce = crypto::random_nonce();
  request.person = SampleCompany::id(step.person);
  request.reason = step.reason;
  request.resource = step.resource;
  request.time = now;
  apply(step.edit, request);

  const Digest256 digest = statement_digest(payload_type(Kind::kRequest), encode(request));
  evidence::Binding binding{.purpose = Purpose::kRequest,
                            .origin = origin(),
                            .case_id = id,
                            .request = digest,
                            .nonce = request.nonce,
                            .note = note_text_digest(head.origin, head.size, head.root)};
  evidence::Binding key_binding = binding;
  key_binding.purpose = Purpose::kKey;
  apply(step.edit_quote_binding, binding);
  apply(step.edit_key_binding, key_binding);
  if (step.before_quote) step.before_quote(tpm);
  std::vector<Blob> blobs{quote_blob(tpm, binding)};
  if (step.before_certify) step.before_certify(tpm);
  const evidence::SignedAttest certify = tpm.certify(key, evidence::binding_digest(key_binding));
  blobs.push_back({EvidenceType::kKey, encode(KeyEvidence{.public_area = key.tpmt_public,
                                                          .attest = certify.attest,
                                                          .signature = certify.signature})});
  blobs.push_back(note_blob(note));
  blobs.push_back(observation_blob(step.address, step.country, now));
  add_event_log(tpm, blobs);
  add_ima(tpm, binding, blobs);
  for (const auto& [name, bytes] : step.attachments) blobs.push_back({EvidenceType::kAttachment, bytes});
  apply(step.edit_blobs, blobs);

  const crypto::PrivateKey& token = step.token != nullptr ? *step.token : company.token(step.person);
  Submission submission{sign(Kind::kRequest, request, token), std::move(blobs)};
  return {id, step.machine, std::move(request), digest, std::move(key), std::move(submission)};
}

OpenCase RecordScenario::request(const RequestStep& step) {
  OpenCase open = make_request(step);
  value_of(append(Kind::kRequest, open.id, open.submission));
  return open;
}

Submission RecordScenario::make_approval(const CaseId& case_id, const std::string& person,
                                         const ApprovalStep& step) {
  const Case& one = state.cases.at(case_id);
  const bool attested = step.attested.value_or(one.decision && one.decision->approver_attested);
  SoftTpm* tpm = attested ? &machine(person + "-laptop") : nullptr;  // may append: its enrolment
  Approval approval{.approver = SampleCompany::id(person),
                    .authority = company.policy.origin,
                    .case_id = case_id,
                    .decision = state.cases.at(case_id).to_approve,
                    .device = {},
                    .expires = now + kAccessLife,
                    .nonce = crypto::random_nonce(),
                    .time = now};
  if (tpm != nullptr) approval.device = tpm->device();
  apply(step.edit, approval);
  std::vector<Blob> blobs;
  if (tpm != nullptr) {
    const std::string note = step.note ? *step.note : cosign();
    const ledger::Checkpoint head = checkpoint_of(note);
    evidence::Binding binding{.purpose = Purpose::kApprove,
                              .origin = origin(),
                              .case_id = case_id,
                              .request = statement_digest(payload_type(Kind::kApproval), encode(approval)),
                              .nonce = approval.nonce,
                              .note = note_text_digest(head.origin, head.size, head.root)};
    apply(step.edit_binding, binding);
    blobs.push_back(quote_blob(*tpm, binding));
    blobs.push_back(note_blob(note));
    add_event_log(*tpm, blobs);
    add_ima(*tpm, binding, blobs);
  }
  apply(step.edit_blobs, blobs);
  const crypto::PrivateKey& token = step.token != nullptr ? *step.token : company.token(person);
  return {sign(Kind::kApproval, approval, token), std::move(blobs)};
}

Result<LeafIndex> RecordScenario::approve(const CaseId& case_id, const std::string& person,
                                          const ApprovalStep& step) {
  return append(Kind::kApproval, case_id, make_approval(case_id, person, step));
}

Bytes RecordScenario::make_list(const std::vector<CaseId>& cases, const std::string& person,
                                const std::function<void(ListApproval&)>& edit,
                                const crypto::PrivateKey* token) const {
  ListApproval list{.approver = SampleCompany::id(person),
                    .authority = company.policy.origin,
                    .entries = {},
                    .expires = now + kEnrolmentLife,
                    .nonce = crypto::random_nonce(),
                    .time = now};
  for (const CaseId& id : cases) list.entries.push_back({id, state.cases.at(id).to_approve});
  std::sort(list.entries.begin(), list.entries.end(),
            [](const ListedCase& a, const ListedCase& b) { return a.case_id < b.case_id; });
  apply(edit, list);
  return sign(Kind::kListApproval, list, token != nullptr ? *token : company.token(person));
}

void RecordScenario::approve_all(const OpenCase& open, const std::vector<std::string>& people) {
  for (const std::string& person : people) value_of(approve(open.id, person));
}

Result<LeafIndex> RecordScenario::deny(const CaseId& case_id, const std::string& person,
                                       const std::string& reason) {
  const Denial denial{.approver = SampleCompany::id(person),
                      .authority = company.policy.origin,
                      .case_id = case_id,
                      .reason = reason,
                      .time = now};
  return append(Kind::kDenial, case_id, {sign(Kind::kDenial, denial, company.token(person)), {}});
}

std::vector<Blob> RecordScenario::activation(const OpenCase& open, const GrantStep& step) {
  SoftTpm& tpm = step.tpm != nullptr ? *step.tpm : machine(open.machine);
  const std::string note = step.note ? *step.note : cosign();
  evidence::Binding binding =
      activation_binding(origin(), open.id, open.digest, as_bytes(note), checkpoint_of(note));
  apply(step.edit_binding, binding);
  if (step.before_quote) step.before_quote(tpm);
  std::vector<Blob> blobs{quote_blob(tpm, binding), note_blob(note),
                          observation_blob(step.address, step.country, now)};
  apply(step.edit_blobs, blobs);
  return blobs;
}

Result<Entry> RecordScenario::make_grant(const OpenCase& open, const GrantStep& step) {
  SP_TRY(Entry entry, compose_grant(state, open.id, activation(open, step), now, crypto::random_nonce()));
  if (!step.edit) return entry;
  const Envelope envelope = value_of(open_envelope(value_of(parse_body(entry.body))));
  Grant grant = value_of(parse_grant(envelope.payload));
  step.edit(grant);
  return forge_grant(grant, entry.blobs);
}

Entry RecordScenario::forge_grant(const Grant& grant, std::vector<Blob> activation) const {
  const Bytes envelope =
      encode_envelope({.type = payload_type(Kind::kGrant), .payload = encode(grant), .signatures = {}});
  return entry(Kind::kGrant, grant.case_id, {envelope, std::move(activation)});
}

Result<LeafIndex> RecordScenario::grant(const OpenCase& open, const GrantStep& step) {
  SP_TRY(const Entry entry, make_grant(open, step));
  return append(entry);
}

OpenCase RecordScenario::granted(const RequestStep& step) {
  OpenCase open = request(step);
  approve_all(open);
  value_of(grant(open));
  return open;
}

Submission RecordScenario::lease(const OpenCase& open, const std::function<void(Lease&)>& edit,
                                 const crypto::PrivateKey* key) const {
  const DecisionStatement& decision = *state.cases.at(open.id).decision;
  Lease lease{.account = decision.account,
              .authority = company.policy.origin,
              .case_id = open.id,
              .content = crypto::sha256(as_bytes("content")),
              .cp_hash = crypto::sha256(as_bytes("parameters")),
              .expiration_s = 10,
              .host = decision.host,
              .nonce = crypto::sha256(as_bytes("nonceTPM")),
              .time = now};
  apply(edit, lease);
  return {sign(Kind::kLease, lease, key != nullptr ? *key : company.lease), {}};
}

Submission RecordScenario::session_opened(const OpenCase& open, std::uint64_t channel,
                                          const std::function<void(SessionOpened&)>& edit) const {
  const DecisionStatement& decision = *state.cases.at(open.id).decision;
  SessionOpened report{.account = decision.account,
                       .address = "10.20.4.17",
                       .authority = company.policy.origin,
                       .case_id = open.id,
                       .channel = channel,
                       .host = decision.host,
                       .time = now};
  apply(edit, report);
  return {sign(Kind::kSessionOpened, report, host_key), {}};
}

Submission RecordScenario::session_closed(const OpenCase& open, std::uint64_t channel,
                                          const std::function<void(SessionClosed&)>& edit) const {
  SessionClosed report{.authority = company.policy.origin,
                       .bytes = 4711,
                       .case_id = open.id,
                       .channel = channel,
                       .host = open.request.host,
                       .time = now,
                       .why = WhyClosed::kExit};
  apply(edit, report);
  return {sign(Kind::kSessionClosed, report, host_key), {}};
}

Result<LeafIndex> RecordScenario::revoke(RevocationKind kind, const std::string& target,
                                         const std::string& person) {
  const CaseId id = crypto::random_case_id();
  const Revocation revocation{.authority = company.policy.origin,
                              .case_id = id,
                              .kind = kind,
                              .person = SampleCompany::id(person),
                              .reason = "lost",
                              .target = target,
                              .time = now};
  return append(Kind::kRevocation, id, {sign(Kind::kRevocation, revocation, company.token(person)), {}});
}

Submission RecordScenario::proposal(const CaseId& case_id, const std::string& person,
                                    const std::function<void(PolicyProposed&)>& edit) const {
  const Bytes text = to_bytes(as_bytes(company.policy.toml()));
  PolicyProposed proposed{.authority = company.policy.origin,
                          .case_id = case_id,
                          .digest = crypto::sha256(text),
                          .person = SampleCompany::id(person),
                          .previous = policy().policy.digest,
                          .time = now,
                          .version = company.policy.version};
  apply(edit, proposed);
  return {sign(Kind::kPolicyProposed, proposed, company.token(person)), blobs_of(policy_document())};
}

Result<LeafIndex> RecordScenario::change_policy(const std::function<void(SamplePolicy&)>& edit,
                                                const std::vector<std::string>& approvers) {
  const CaseId id = crypto::random_case_id();
  company.policy.version = policy().policy.version + 1;
  company.policy.previous = policy().policy.digest;
  apply(edit, company.policy);
  SP_CHECK(append(Kind::kPolicyProposed, id, proposal(id)));
  for (const std::string& person : approvers) SP_CHECK(approve(id, person));
  SP_TRY(const Entry closing, compose_policy(state, id, now, crypto::random_nonce()));
  return append(closing);
}

Submission RecordScenario::erasure_proposal(const CaseId& case_id, std::vector<CaseId> cases,
                                            const std::function<void(ErasureProposed&)>& edit) const {
  std::sort(cases.begin(), cases.end());
  const auto retention = std::chrono::milliseconds{policy().policy.authority.erase->retention};
  ErasureProposed proposed{.authority = company.policy.origin,
                           .before = UnixMillis{now.get() - static_cast<std::uint64_t>(retention.count())},
                           .case_id = case_id,
                           .cases = std::move(cases),
                           .person = SampleCompany::id("grace"),
                           .reason = "older than the law allows",
                           .time = now};
  apply(edit, proposed);
  return {sign(Kind::kErasureProposed, proposed, company.token("grace")), {}};
}

Result<CaseId> RecordScenario::propose_erasure(std::vector<CaseId> cases,
                                               const std::function<void(ErasureProposed&)>& edit) {
  const CaseId id = crypto::random_case_id();
  SP_CHECK(append(Kind::kErasureProposed, id, erasure_proposal(id, std::move(cases), edit)));
  return id;
}

Result<LeafIndex> RecordScenario::erase(std::vector<CaseId> cases,
                                        const std::function<void(ErasureProposed&)>& edit,
                                        const std::vector<std::string>& approvers) {
  SP_TRY(const CaseId id, propose_erasure(std::move(cases), edit));
  for (const std::string& person : approvers) SP_CHECK(approve(id, person));
  SP_TRY(const Entry closing, compose_erasure(state, id, now, crypto::random_nonce()));
  return append(closing);
}

Result<LeafIndex> RecordScenario::hold(std::vector<CaseId> cases, const std::string& person) {
  std::sort(cases.begin(), cases.end());
  const CaseId id = crypto::random_case_id();
  const Hold hold{.authority = company.policy.origin,
                  .case_id = id,
                  .cases = std::move(cases),
                  .person = SampleCompany::id(person),
                  .reason = "a court has asked",
                  .time = now};
  return append(Kind::kHold, id, {sign(Kind::kHold, hold, company.token(person)), {}});
}

Result<LeafIndex> RecordScenario::lift(const CaseId& hold, const std::string& person) {
  const CaseId id = crypto::random_case_id();
  const HoldLifted lifted{.authority = company.policy.origin,
                          .case_id = id,
                          .hold = hold,
                          .person = SampleCompany::id(person),
                          .reason = "the case is closed",
                          .time = now};
  return append(Kind::kHoldLifted, id, {sign(Kind::kHoldLifted, lifted, company.token(person)), {}});
}

std::vector<Entry> RecordScenario::erased_entries(const std::vector<CaseId>& cases) const {
  std::vector<Entry> out = entries;
  for (Entry& entry : out)
    if (std::find(cases.begin(), cases.end(), entry.leaf.case_id) != cases.end())
      entry = Entry{.leaf = entry.leaf, .nonce = {}, .body = {}, .blobs = {}};
  return out;
}

Continuation RecordScenario::make_continuation(const ContinueStep& step) {
  const std::string authority = follower.origin().get();
  Continuation out{.state = encode_control(follower), .proposal = {}, .approvals = {}};
  SamplePolicy& next = company.policy;
  next.version = policy().policy.version + 1;
  next.previous = policy().policy.digest;
  next.origin = step.origin;
  next.continues = "{ origin = \"" + authority + "\", size = " + std::to_string(follower.size().get()) +
                   ", root = \"sha256:" + to_hex(follower.root()) +
                   "\", state = \"sha256:" + to_hex(crypto::sha256(out.state)) + "\" }";
  apply(step.edit, next);
  const CaseId id = continuation_case(crypto::sha256(as_bytes(next.toml())));
  out.proposal = proposal(id, "grace", [&](PolicyProposed& proposed) {
                   proposed.authority = authority;
                   apply(step.edit_proposal, proposed);
                 }).envelope;
  const Digest256 digest = statement_digest(value_of(parse_envelope(out.proposal)));
  for (const std::string& person : step.approvers) {
    const Approval approval{.approver = SampleCompany::id(person),
                            .authority = authority,
                            .case_id = id,
                            .decision = digest,
                            .device = {},
                            .expires = now + kPolicyLife,
                            .nonce = crypto::random_nonce(),
                            .time = now};
    out.approvals.push_back(sign(Kind::kApproval, approval, company.token(person)));
  }
  apply(step.edit_continuation, out);
  return out;
}

Result<LeafIndex> RecordScenario::continue_log(const ContinueStep& step) {
  const Continuation before = make_continuation(step);
  const PolicyDocument document = policy_document();
  advance(std::chrono::milliseconds{10});
  SP_TRY(const Entry first, compose_continued(origin(), document, before, now, crypto::random_nonce()));
  genesis = crypto::sha256(document.text);
  State next = begin_state(origin(), genesis);
  SP_TRY(Prepared prepared, prepare(next, first));  // before anything is given up
  (void)prepared;
  entries.clear();
  tree = {};
  state = std::move(next);
  follower = ControlState::begin(origin(), genesis);
  return append(first);
}

std::string RecordScenario::proof(LeafIndex index, const std::string& note) const {
  const ledger::Checkpoint head = checkpoint_of(note);
  return ledger::encode_proof({.extra = {},
                               .index = index,
                               .hashes = value_of(tree.inclusion(index, head.size)),
                               .checkpoint = note});
}

Dossier RecordScenario::dossier(const CaseId& case_id) const {
  const Entry* grant = nullptr;
  const Entry* request = nullptr;
  std::map<Digest256, const Entry*> approvals;
  LeafIndex index;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    if (entry.leaf.case_id != case_id) continue;
    const Kind kind = value_of(parse_kind(entry.leaf.kind));
    if (kind == Kind::kRequest) request = &entry;
    if (kind == Kind::kApproval)
      approvals[statement_digest(value_of(open_envelope(value_of(parse_body(entry.body)))))] = &entry;
    if (kind == Kind::kGrant && grant == nullptr) {
      grant = &entry;
      index = LeafIndex{i};
    }
  }
  SP_ASSERT(grant != nullptr && request != nullptr);
  const Grant statement =
      value_of(parse_grant(value_of(open_envelope(value_of(parse_body(grant->body)))).payload));
  std::vector<const Entry*> named;
  for (const Digest256& digest : statement.approvals)
    if (approvals.contains(digest)) named.push_back(approvals.at(digest));
  return make_dossier(*grant, *request, named, proof(index, cosign()));
}

}  // namespace sallyport::test

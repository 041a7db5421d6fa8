#include "attestation/record/state.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/appraise.h"

namespace sallyport::record {
namespace {

Error invalid(std::string what) {
  return Error{Code::kMalformed, Reason::kPolicyInvalid, std::move(what)};
}

}  // namespace

Result<LoadedPolicy> load_policy(PolicyDocument document, const Origin& origin, LeafIndex first_index) {
  SP_TRY(policy::Policy policy, policy::parse_policy(as_text(document.text)));
  const policy::Authority& authority = policy.authority;
  if (authority.origin != origin) return invalid("the policy is of another log");
  if (crypto::sha256(document.tpm_roots) != authority.tpm_roots)
    return invalid("the TPM vendors' roots are not those of the policy");
  if (document.references.has_value() != authority.references.has_value())
    return invalid(authority.references ? "the reference values that the policy names are missing"
                                        : "reference values that the policy does not name");
  evidence::ReferenceValues references = evidence::ReferenceValues::as_enrolled();
  if (document.references) {
    if (crypto::sha256(*document.references) != *authority.references)
      return invalid("the reference values are not those of the policy");
    SP_TRY(references, evidence::parse_reference_values(as_text(*document.references)));
  }

  auto roots = evidence::split_bundle(document.tpm_roots);
  if (!roots) return invalid("the TPM vendors' roots: " + roots.error().what);
  roots->expired_accepted = authority.expired_ek;

  SP_TRY(ledger::WitnessPolicy witnesses, ledger::parse_witness_policy(authority.witnesses));
  SP_CHECK(ledger::require_overlap(witnesses));
  const auto is_ours = [&](const ledger::PolicyLog& log) {
    return log.key.name() == origin.get() && log.key.key() == authority.keys.log;
  };
  if (witnesses.logs().size() != 1 || !is_ours(witnesses.logs().front()))
    return invalid("the witnesses' text does not name this log, with its key, and no other");
  return LoadedPolicy{std::move(policy),
                      std::move(witnesses),
                      *std::move(roots),
                      std::move(references),
                      std::move(document.tpm_roots),
                      std::move(document.references),
                      first_index};
}

PolicyDocument LoadedPolicy::document() const {
  return {to_bytes(as_bytes(policy.text)), tpm_roots, reference_text};
}

std::vector<Blob> blobs_of(PolicyDocument document) {
  std::vector<Blob> out{{EvidenceType::kPolicyText, std::move(document.text)},
                        {EvidenceType::kTpmRoots, std::move(document.tpm_roots)}};
  if (document.references) out.push_back({EvidenceType::kReferences, std::move(*document.references)});
  return out;
}

Result<PolicyDocument> policy_document(const Body& body, const BlobIndex& blobs,
                                       std::initializer_list<EvidenceType> also) {
  for (const EvidenceItem& item : body.items) {
    const bool known = item.type == EvidenceType::kPolicyText || item.type == EvidenceType::kTpmRoots ||
                       item.type == EvidenceType::kReferences ||
                       std::find(also.begin(), also.end(), item.type) != also.end();
    if (!known) return Error{Code::kMalformed, "evidence that this kind does not have"};
  }
  SP_TRY(const Blob* text, one_blob(body, blobs, EvidenceType::kPolicyText));
  SP_TRY(const Blob* roots, one_blob(body, blobs, EvidenceType::kTpmRoots));
  PolicyDocument out{text->bytes, roots->bytes, {}};
  SP_TRY(const Blob* references, blob_if_any(body, blobs, EvidenceType::kReferences));
  if (references != nullptr) out.references = references->bytes;
  return out;
}

ControlState ControlState::begin(Origin origin, Digest256 genesis_policy) {
  ControlState state;
  state.origin_ = std::move(origin);
  state.genesis_policy_ = genesis_policy;
  return state;
}

TreeSize ControlState::size() const {
  return range_.size();
}
Digest256 ControlState::root() const {
  return range_.root();
}

std::shared_ptr<const LoadedPolicy> ControlState::policy() const {
  return policies_->empty() ? nullptr : policies_->back();
}

std::shared_ptr<const LoadedPolicy> ControlState::policy_at(LeafIndex index) const {
  const auto newer = std::partition_point(policies_->begin(), policies_->end(),
                                          [&](const auto& policy) { return policy->first_index < index; });
  return newer == policies_->begin() ? nullptr : *std::prev(newer);
}

std::shared_ptr<const LoadedPolicy> ControlState::find_policy(const Digest256& digest) const {
  const auto found = std::find_if(policies_->rbegin(), policies_->rend(),
                                  [&](const auto& policy) { return policy->policy.digest == digest; });
  return found == policies_->rend() ? nullptr : *found;
}

const Device* ControlState::find_device(const DeviceId& id) const {
  const auto* found = devices_.find(id);
  return found == nullptr ? nullptr : found->get();
}

const Device* ControlState::find_device_by_ak(ByteView ak_public) const {
  const DeviceId* found = attestation_keys_.find(crypto::sha256(ak_public));
  return found == nullptr ? nullptr : find_device(*found);
}

const Device* ControlState::find_device_by_identity(const evidence::TpmName& identity) const {
  const DeviceId* found = identities_.find(identity);
  return found == nullptr ? nullptr : find_device(*found);
}

std::vector<Device> ControlState::devices() const {
  std::vector<Device> out;
  devices_.for_each([&](const DeviceId&, const auto& device) { out.push_back(*device); });
  std::sort(out.begin(), out.end(), [](const Device& a, const Device& b) { return a.enrolled < b.enrolled; });
  return out;
}

const CaseTrace* ControlState::find_case(const CaseId& case_id) const {
  return cases_.find(case_id);
}

std::optional<GrantMark> ControlState::find_grant(const CaseId& case_id) const {
  const CaseTrace* trace = find_case(case_id);
  return trace == nullptr ? std::nullopt : trace->grant;
}

bool ControlState::is_denied(const CaseId& case_id) const {
  const CaseTrace* trace = find_case(case_id);
  return (trace != nullptr && trace->denied) || revoked_cases_.contains(case_id);
}

bool ControlState::is_revoked(const DeviceId& device) const {
  return revoked_devices_.contains(device) || retired_.contains(device);
}
std::optional<LeafIndex> ControlState::find_retired(const DeviceId& device) const {
  const LeafIndex* found = retired_.find(device);
  return found == nullptr ? std::nullopt : std::optional{*found};
}
std::optional<LeafIndex> ControlState::find_lost(const DeviceId& device) const {
  const LeafIndex* found = lost_.find(device);
  return found == nullptr ? std::nullopt : std::optional{*found};
}
bool ControlState::is_revoked_person(const std::string& person) const {
  return revoked_people_.contains(person);
}
bool ControlState::is_revoked_token(const KeyId& token) const {
  return revoked_tokens_.contains(token);
}

bool ControlState::is_held(const CaseId& case_id) const {
  bool held = false;
  holds_.for_each([&](const CaseId&, const std::vector<CaseId>& cases) {
    held = held || cases.empty() || std::binary_search(cases.begin(), cases.end(), case_id);
  });
  return held;
}
std::map<CaseId, std::vector<CaseId>> ControlState::holds() const {
  std::map<CaseId, std::vector<CaseId>> out;
  holds_.for_each([&](const CaseId& id, const std::vector<CaseId>& cases) { out.emplace(id, cases); });
  return out;
}

std::optional<std::pair<CaseId, LeafIndex>> ControlState::first_unnamed() const {
  std::optional<std::pair<CaseId, LeafIndex>> first;
  unnamed_.for_each([&](const CaseId& id, const Unnamed& one) {
    if (!first || one.first < first->second) first = {id, one.first};
  });
  return first;
}

Status ControlState::check_signer(const policy::Policy& policy, const std::string& person,
                                  const KeyId& keyid) const {
  if (is_revoked_person(person)) return Error{Code::kDenied, Reason::kRevoked, "the person is revoked"};
  if (is_revoked_token(keyid)) return Error{Code::kDenied, Reason::kRevoked, "the token is revoked"};
  if (policy::find_person(policy, PersonId{person}) == nullptr)
    return Error{Code::kDenied, Reason::kPolicyUnknownPerson, "the person is not in the policy"};
  const auto owner = policy::find_token(policy, keyid);
  if (!owner || owner->person->id.get() != person)
    return Error{Code::kUnverified, "the key is not a token of the person"};
  return Done{};
}

State begin_state(Origin origin, Digest256 genesis_policy) {
  return State{.control = ControlState::begin(std::move(origin), genesis_policy),
               .cases = {},
               .statements = {},
               .boots = {},
               .stopped = {},
               .host_keys = {},
               .over = {}};
}

Status check_complete(const ControlState& state) {
  const auto first = state.first_unnamed();
  if (!first) return Done{};
  return Error{Code::kUnverified, Reason::kLogMissingBody,
               "the bodies of case " + to_hex(first->first) + ", from leaf " +
                   std::to_string(first->second.get()) + " on, are missing, and no erasure covers it"};
}

bool covers(const ErasureProposed& erasure, const CaseId& case_id, UnixMillis opened) {
  return opened < erasure.before && std::binary_search(erasure.cases.begin(), erasure.cases.end(), case_id);
}

std::optional<LeafIndex> find_statement(const State& state, const CaseId& case_id, const Digest256& digest) {
  const auto of_case = state.statements.find(case_id);
  if (of_case == state.statements.end()) return std::nullopt;
  const auto found = of_case->second.find(digest);
  return found == of_case->second.end() ? std::nullopt : std::optional{found->second};
}

std::uint64_t predecessor_of(const ControlState& control, const CaseId& case_id) {
  const CaseTrace* trace = control.find_case(case_id);
  return trace == nullptr ? ledger::kNoPredecessor : trace->last.get();
}

}  // namespace sallyport::record

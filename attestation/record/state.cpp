#include "attestation/record/state.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"

namespace sallyport::record {
namespace {

Error invalid(std::string what) {
  return Error{Code::kMalformed, Reason::kPolicyInvalid, std::move(what)};
}

}  // namespace

Result<LoadedPolicy> load_policy(ByteView text, ByteView tpm_roots, const Origin& origin,
                                 LeafIndex first_index) {
  SP_TRY(policy::Policy policy, policy::parse_policy(as_text(text)));
  const policy::Authority& authority = policy.authority;
  if (authority.origin != origin) return invalid("the policy is of another log");
  if (crypto::sha256(tpm_roots) != authority.tpm_roots)
    return invalid("the TPM vendors' roots are not those of the policy");

  auto roots = evidence::split_bundle(tpm_roots);
  if (!roots) return invalid("the TPM vendors' roots: " + roots.error().what);

  SP_TRY(ledger::WitnessPolicy witnesses, ledger::parse_witness_policy(authority.witnesses));
  SP_CHECK(ledger::require_overlap(witnesses));
  const auto is_ours = [&](const ledger::PolicyLog& log) {
    return log.key.name() == origin.get() && log.key.key() == authority.keys.log;
  };
  if (witnesses.logs().size() != 1 || !is_ours(witnesses.logs().front()))
    return invalid("the witnesses' text does not name this log, with its key, and no other");
  return LoadedPolicy{std::move(policy), std::move(witnesses), *std::move(roots), to_bytes(tpm_roots),
                      first_index};
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
  return revoked_devices_.contains(device);
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
               .host_keys = {},
               .over = {},
               .unnamed = {}};
}

Status check_complete(const State& state) {
  if (state.unnamed.empty()) return Done{};
  const auto first =
      std::min_element(state.unnamed.begin(), state.unnamed.end(),
                       [](const auto& a, const auto& b) { return a.second.first < b.second.first; });
  return Error{Code::kUnverified, Reason::kLogMissingBody,
               "the body of leaf " + std::to_string(first->second.first.get()) +
                   " is missing, and no erasure names its case " + to_hex(first->first)};
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

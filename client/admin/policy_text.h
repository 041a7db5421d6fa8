#pragma once

#include <memory>
#include <optional>
#include <string>

#include "attestation/policy/decide.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/state.h"

namespace sallyport::client::admin {

// CheckedPolicy is a document that loads; `loaded` too, when its bundle of TPM roots was given.
struct CheckedPolicy {
  policy::Policy policy;
  std::shared_ptr<const record::LoadedPolicy> loaded;  // null without roots
};

// check_policy reads a document, and with `beside` (what travels with it; its text is not looked at)
// everything that a follower would judge of it.
//   Proves:         parse_policy's and, with `beside`, load_policy's promises.
//   Does not prove: that it succeeds the policy in force, or that anybody signed it.
//   Errors:         kPolicyInvalid, saying where.   Pure.
Result<CheckedPolicy> check_policy(ByteView text, std::optional<record::PolicyDocument> beside);

// policy_summary tells what a policy is, in a dozen lines; policy_json for programs.
std::string policy_summary(const policy::Policy& policy);
record::json::Value policy_json(const policy::Policy& policy);

// explain_text tells how a policy judges a request: its outcome, then each rule of the resource.
std::string explain_text(const policy::Policy& policy, const policy::DecisionInputs& inputs);
record::json::Value explain_json(const policy::Policy& policy, const policy::DecisionInputs& inputs);

// who_text tells what each rule of a resource gives to how many people.
std::string who_text(const policy::Policy& policy, const ResourceId& resource);

}  // namespace sallyport::client::admin

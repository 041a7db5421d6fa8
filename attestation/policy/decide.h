#pragma once

#include <string>
#include <variant>
#include <vector>

#include "attestation/policy/policy.h"

namespace sallyport::policy {

// What a decision depends on, apart from the policy. Regions are those that were proved: the enrolment's for
// the machine, region_of_address for the network; "unknown" where nothing was.
struct DecisionInputs {
  PersonId requester;
  PersonId beneficiary;  // for whom the work really is; the requester, if for nobody else
  ResourceId resource;
  std::string host;                  // one of the resource's; "" for a resource without hosts
  std::string account;               // "": the rule's first
  std::chrono::seconds duration{0};  // wished; 0: the rule's
  RegionId device_region;
  RegionId network_region;
};

// Decision is what would be granted, and who must agree to it.
struct Decision {
  std::vector<RuleId> rules;  // the requester's, then the beneficiary's if it is another
  ResourceId resource;
  std::string host;
  std::string account;  // "" for a secret
  std::chrono::seconds duration{0};
  std::string command;  // "": a shell
  bool record = true;
  Quorum quorum;               // of both rules; a group of both counts once, with the larger number
  ApproverCondition approver;  // of both rules: the regions of both, the stricter flags
  RegionId requester_region, beneficiary_region, device_region, network_region;
};

// The limited way that exists for somebody who asked for more.
struct LimitedWay {
  RuleId rule;
  std::string account;
  std::chrono::seconds duration{0};
  std::string command;
  Quorum quorum;
};

struct Refusal {
  Reason reason;
  RuleId rule;         // the rule that came closest; "" if none covers the resource
  std::string detail;  // for the person who asked: "dbadmin on user-db takes requesters of region us; you are
                       // registered in cn"
  std::optional<LimitedWay> limited;
};

using Outcome = std::variant<Decision, Refusal>;

// decide judges a request (DESIGN §7). The first rule whose conditions (resource; requester's region and
// group; machine's region; network's region) all hold decides, once with the requester's region and once with
// the beneficiary's; either refusal refuses. Otherwise account, command and recording come from the less
// favourable of the two rules (a command beats no command, then the shorter duration; of equals the
// beneficiary's), the duration is the shorter of both, and the quorum is that of both.
//
// The reason of a refusal is that of the closest rule: among the rules that give the account (or, if none was
// named, all rules of the resource) the one with the fewest conditions that fail, then the first; of its
// failing conditions the first of region/requester (region/beneficiary in the second run), region/device,
// region/network, policy/group. If the rule that matches gives another account and no condition explains it:
// policy/account; also if no rule gives the account, unless a region fails for the closest of all. A wish
// beyond the limit, or below zero: policy/duration. No rule of the resource: policy/no-rule. Names come
// first: policy/unknown-person, policy/unknown-resource (also for a host that is not the resource's).
//   Proves:         what the policy allows for these inputs, before anybody has approved.
//   Does not prove: that the inputs are true.   Pure; needs no clock.
Outcome decide(const Policy& policy, const DecisionInputs& inputs, const Roster& roster = {});

// decision_or_error turns a Refusal into an Error (kDenied) with its reason and detail.
Result<Decision> decision_or_error(Outcome outcome);

// One condition of a rule, as `sallyport policy explain` shows it.
struct ConditionResult {
  Reason reason;
  bool holds = false;
  std::string text;  // "requester.region is cn, rule takes us"
};
struct RuleExplanation {
  RuleId rule;
  bool as_beneficiary = false;  // judged with the beneficiary's region
  std::vector<ConditionResult> conditions;
  bool matches = false;  // all of them hold
  bool gives_account = false;
  std::string text;  // one line: the first condition that fails, or what the rule gives
};

// explain shows each rule of the resource against the inputs, in policy order; rules of the second run (the
// beneficiary's region) only where it differs from the requester's.
std::vector<RuleExplanation> explain(const Policy& policy, const DecisionInputs& inputs,
                                     const Roster& roster = {});

// who lists what each rule of the resource gives to how many people: `sallyport policy who`.
struct WhoRow {
  std::string account;
  std::size_t people = 0;
  std::string whom;  // "14 people of us (group db-oncall)"
  std::string quorum;
  std::chrono::seconds duration{0};
  std::string command;
  RuleId rule;
};
std::vector<WhoRow> who(const Policy& policy, const ResourceId& resource, const Roster& roster = {});

std::string quorum_text(const Quorum& quorum);             // "2 of us-oncall and 1 of privacy"
std::string duration_text(std::chrono::seconds duration);  // "15 min", "90 s", "2 h"

}  // namespace sallyport::policy

#include "attestation/policy/decide.h"

#include <algorithm>

namespace sallyport::policy {
namespace {

template <class T>
bool holds(const std::vector<T>& items, const T& item) {
  return std::find(items.begin(), items.end(), item) != items.end();
}

template <class Id>
std::string joined(const std::vector<Id>& ids) {
  std::string out;
  for (const Id& id : ids) out += (out.empty() ? "" : ", ") + id.get();
  return out;
}
std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

// Run is one of the two runs of decide: the same request, judged with one person's region.
struct Run {
  const Policy& policy;
  const DecisionInputs& inputs;
  const Roster& roster;
  const Person& requester;
  RegionId region;
  bool as_beneficiary;
};

bool in_a_group(const Person& person, const std::vector<GroupId>& groups, const Roster& roster) {
  return std::any_of(groups.begin(), groups.end(),
                     [&](const GroupId& group) { return is_member(person, group, roster); });
}

ConditionResult region_condition(Reason reason, const std::string& name, const std::vector<RegionId>& wanted,
                                 const RegionId& is) {
  return {reason, holds(wanted, is), name + ".region is " + is.get() + ", rule takes " + joined(wanted)};
}

// judge holds a rule against a run: its conditions, the most specific reason first.
std::vector<ConditionResult> judge(const Run& run, const Rule& rule) {
  std::vector<ConditionResult> out;
  out.push_back(region_condition(run.as_beneficiary ? Reason::kRegionBeneficiary : Reason::kRegionRequester,
                                 run.as_beneficiary ? "beneficiary" : "requester", rule.requester_regions,
                                 run.region));
  out.push_back(
      region_condition(Reason::kRegionDevice, "device", rule.device_regions, run.inputs.device_region));
  out.push_back(
      region_condition(Reason::kRegionNetwork, "network", rule.network_regions, run.inputs.network_region));
  if (!rule.requester_groups.empty())
    out.push_back({Reason::kPolicyGroup, in_a_group(run.requester, rule.requester_groups, run.roster),
                   "requester.group is " +
                       (run.requester.groups.empty() ? "none" : joined(run.requester.groups)) +
                       ", rule takes " + joined(rule.requester_groups)});
  return out;
}

bool all_hold(const std::vector<ConditionResult>& conditions) {
  return std::all_of(conditions.begin(), conditions.end(), [](const ConditionResult& c) { return c.holds; });
}

// gives: an unnamed account is any rule's first.
bool gives(const Rule& rule, const std::string& account) {
  return account.empty() || holds(rule.limits.accounts, account);
}

std::string what(const Run& run, const Rule& rule) {
  const std::string& account =
      run.inputs.account.empty() || !gives(rule, run.inputs.account)
          ? (rule.limits.accounts.empty() ? run.inputs.account : rule.limits.accounts.front())
          : run.inputs.account;
  return (account.empty() ? "" : account + " on ") + run.inputs.resource.get();
}

std::string detail_of(const Run& run, const Rule& rule, Reason reason) {
  const DecisionInputs& in = run.inputs;
  const std::string takes = what(run, rule) + " takes ";
  switch (reason) {
    case Reason::kRegionRequester:
      return takes + "requesters of region " + joined(rule.requester_regions) + "; " + in.requester.get() +
             " is registered in " + run.region.get();
    case Reason::kRegionBeneficiary:
      return takes + "work for people of region " + joined(rule.requester_regions) + "; " +
             in.beneficiary.get() +
             (run.region == unknown_region() ? " is not in the policy"
                                             : " is registered in " + run.region.get());
    case Reason::kRegionDevice:
      return takes + "machines of region " + joined(rule.device_regions) + "; this one is of region " +
             in.device_region.get();
    case Reason::kRegionNetwork:
      return takes + "networks of region " + joined(rule.network_regions) +
             "; this connection comes from region " + in.network_region.get();
    case Reason::kPolicyGroup:
      return takes + "members of " + joined(rule.requester_groups) + "; " + in.requester.get() +
             " is in none of these groups";
    default:
      return "rule " + rule.id.get() + " gives " +
             (rule.limits.accounts.empty() ? "no account" : joined(rule.limits.accounts) + " only") + " on " +
             in.resource.get();
  }
}

struct Judged {
  const Rule* rule;
  std::vector<ConditionResult> conditions;
  std::ptrdiff_t failing() const {
    return std::count_if(conditions.begin(), conditions.end(),
                         [](const ConditionResult& c) { return !c.holds; });
  }
};

// closest finds the rule to explain a refusal by: the fewest conditions that fail, then the first.
template <class Wanted>
const Judged* closest(const std::vector<Judged>& judged, Wanted wanted) {
  const Judged* best = nullptr;
  for (const Judged& one : judged)
    if (wanted(one) && (best == nullptr || one.failing() < best->failing())) best = &one;
  return best;
}

Refusal refusal(const Run& run, const Rule& rule, Reason reason) {
  return {reason, rule.id, detail_of(run, rule, reason), std::nullopt};
}

using RunOutcome = std::variant<const Rule*, Refusal>;

RunOutcome decide_run(const Run& run) {
  std::vector<Judged> judged;
  for (const Rule& rule : run.policy.rules)
    if (holds(rule.resources, run.inputs.resource)) judged.push_back({&rule, judge(run, rule)});
  if (judged.empty())
    return Refusal{Reason::kPolicyNoRule, RuleId{}, "no rule covers " + run.inputs.resource.get(),
                   std::nullopt};

  const auto matched =
      std::find_if(judged.begin(), judged.end(), [](const Judged& one) { return all_hold(one.conditions); });
  if (matched != judged.end() && gives(*matched->rule, run.inputs.account)) return matched->rule;

  // Why not: the closest rule that gives the account. Where none gives it, a foreign region is still the
  // reason to tell.
  const Judged* best =
      closest(judged, [&](const Judged& one) { return gives(*one.rule, run.inputs.account); });
  const bool given_by_none = best == nullptr;
  if (given_by_none) best = closest(judged, [](const Judged&) { return true; });
  const auto failed = std::find_if(best->conditions.begin(), best->conditions.end(),
                                   [](const ConditionResult& c) { return !c.holds; });
  if (failed != best->conditions.end() && (!given_by_none || failed->reason != Reason::kPolicyGroup))
    return refusal(run, *best->rule, failed->reason);
  return refusal(run, matched == judged.end() ? *best->rule : *matched->rule, Reason::kPolicyAccount);
}

// less_favourable chooses between the requester's rule and the beneficiary's: a command beats no command,
// then the shorter duration; of equals the beneficiary's.
const Rule& less_favourable(const Rule& requester, const Rule& beneficiary) {
  if (requester.limits.command.empty() != beneficiary.limits.command.empty())
    return requester.limits.command.empty() ? beneficiary : requester;
  return requester.limits.duration < beneficiary.limits.duration ? requester : beneficiary;
}

// join adds a rule's quorum to another's, so that whoever meets the sum meets each: a group of both counts
// once, with the larger number.
Quorum join(Quorum a, const Quorum& b) {
  for (const Clause& clause : b) {
    const auto same =
        std::find_if(a.begin(), a.end(), [&](const Clause& c) { return c.group == clause.group; });
    if (same == a.end())
      a.push_back(clause);
    else
      same->approvals = std::max(same->approvals, clause.approvals);
  }
  return a;
}

ApproverCondition join(ApproverCondition a, const ApproverCondition& b) {
  std::erase_if(a.regions, [&](const RegionId& region) { return !holds(b.regions, region); });
  a.other_team = a.other_team || b.other_team;
  a.attested = a.attested || b.attested;
  return a;
}

// Runs are the one or two runs of a request. The second is the same as the first where both people are of one
// region.
std::vector<Run> runs_of(const Policy& policy, const DecisionInputs& inputs, const Roster& roster,
                         const Person& requester) {
  std::vector<Run> out{{policy, inputs, roster, requester, requester.region, false}};
  const RegionId region = region_of_person(policy, inputs.beneficiary);
  if (region != requester.region) out.push_back({policy, inputs, roster, requester, region, true});
  return out;
}

std::optional<Refusal> check_names(const Policy& policy, const DecisionInputs& inputs) {
  const auto unknown = [](Reason reason, std::string detail) {
    return Refusal{reason, RuleId{}, std::move(detail), std::nullopt};
  };
  if (find_person(policy, inputs.requester) == nullptr)
    return unknown(Reason::kPolicyUnknownPerson, inputs.requester.get() + " is not in the policy");
  const Resource* resource = find_resource(policy, inputs.resource);
  if (resource == nullptr) return unknown(Reason::kPolicyUnknownResource, "the policy has no such resource");
  const bool host_fits = inputs.host.empty()
                             ? resource->hosts.empty()
                             : std::any_of(resource->hosts.begin(), resource->hosts.end(),
                                           [&](const Host& host) { return host.name == inputs.host; });
  if (!host_fits)
    return unknown(Reason::kPolicyUnknownResource,
                   "the request does not name a host of " + resource->id.get());
  return std::nullopt;
}

Outcome decide_as_asked(const Policy& policy, const DecisionInputs& inputs, const Roster& roster) {
  if (auto refused = check_names(policy, inputs)) return *std::move(refused);
  const Person& requester = *find_person(policy, inputs.requester);
  std::vector<const Rule*> rules;
  for (const Run& run : runs_of(policy, inputs, roster, requester)) {
    RunOutcome outcome = decide_run(run);
    if (auto* refused = std::get_if<Refusal>(&outcome)) return std::move(*refused);
    rules.push_back(std::get<const Rule*>(outcome));
  }

  const Rule& first = *rules.front();
  const Rule& second = *rules.back();
  const Rule& less = less_favourable(first, second);
  const Rule& shorter = first.limits.duration <= second.limits.duration ? first : second;
  if (inputs.duration < std::chrono::seconds{0} || inputs.duration > shorter.limits.duration)
    return Refusal{Reason::kPolicyDuration, shorter.id,
                   "rule " + shorter.id.get() + " gives at most " + duration_text(shorter.limits.duration),
                   std::nullopt};

  Decision out;
  out.rules = {first.id};
  if (&first != &second) out.rules.push_back(second.id);
  out.resource = inputs.resource;
  out.host = inputs.host;
  if (!less.limits.accounts.empty())
    out.account = inputs.account.empty() ? less.limits.accounts.front() : inputs.account;
  out.duration = inputs.duration == std::chrono::seconds{0} ? shorter.limits.duration : inputs.duration;
  out.command = less.limits.command;
  out.record = first.limits.record || second.limits.record;
  out.quorum = join(first.quorum, second.quorum);
  out.approver = join(first.approver, second.approver);
  out.requester_region = requester.region;
  out.beneficiary_region = region_of_person(policy, inputs.beneficiary);
  out.device_region = inputs.device_region;
  out.network_region = inputs.network_region;
  return out;
}

}  // namespace

Outcome decide(const Policy& policy, const DecisionInputs& inputs, const Roster& roster) {
  Outcome outcome = decide_as_asked(policy, inputs, roster);
  auto* refused = std::get_if<Refusal>(&outcome);
  if (refused == nullptr || (inputs.account.empty() && inputs.duration == std::chrono::seconds{0}))
    return outcome;
  // Would asking for less have been granted?
  DecisionInputs less = inputs;
  less.account.clear();
  less.duration = std::chrono::seconds{0};
  const Outcome limited = decide_as_asked(policy, less, roster);
  if (const auto* way = std::get_if<Decision>(&limited)) {
    const Rule& rule =
        less_favourable(*find_rule(policy, way->rules.front()), *find_rule(policy, way->rules.back()));
    refused->limited = LimitedWay{rule.id, way->account, way->duration, way->command, way->quorum};
  }
  return outcome;
}

Result<Decision> decision_or_error(Outcome outcome) {
  if (auto* decision = std::get_if<Decision>(&outcome)) return std::move(*decision);
  Refusal& refused = std::get<Refusal>(outcome);
  return Error{Code::kDenied, refused.reason, std::move(refused.detail)};
}

std::vector<RuleExplanation> explain(const Policy& policy, const DecisionInputs& inputs,
                                     const Roster& roster) {
  std::vector<RuleExplanation> out;
  const Person* requester = find_person(policy, inputs.requester);
  if (requester == nullptr) return out;
  for (const Run& run : runs_of(policy, inputs, roster, *requester)) {
    for (const Rule& rule : policy.rules) {
      if (!holds(rule.resources, inputs.resource)) continue;
      RuleExplanation one;
      one.rule = rule.id;
      one.as_beneficiary = run.as_beneficiary;
      one.conditions = judge(run, rule);
      one.matches = all_hold(one.conditions);
      one.gives_account = gives(rule, inputs.account);
      const auto failed = std::find_if(one.conditions.begin(), one.conditions.end(),
                                       [](const ConditionResult& c) { return !c.holds; });
      if (failed != one.conditions.end())
        one.text = "rule " + rule.id.get() + ": " + failed->text;
      else if (!one.gives_account)
        one.text = "rule " + rule.id.get() + " matches, but gives " +
                   (rule.limits.accounts.empty() ? "no account" : joined(rule.limits.accounts) + " only");
      else
        one.text = "rule " + rule.id.get() +
                   " matches: " + (rule.limits.accounts.empty() ? "" : joined(rule.limits.accounts) + ", ") +
                   duration_text(rule.limits.duration) + ", needs " + quorum_text(rule.quorum);
      out.push_back(std::move(one));
    }
  }
  return out;
}

std::vector<WhoRow> who(const Policy& policy, const ResourceId& resource, const Roster& roster) {
  std::vector<WhoRow> out;
  for (const Rule& rule : policy.rules) {
    if (!holds(rule.resources, resource)) continue;
    const auto people = static_cast<std::size_t>(
        std::count_if(policy.persons.begin(), policy.persons.end(), [&](const Person& person) {
          return !person.tokens.empty() && holds(rule.requester_regions, person.region) &&
                 (rule.requester_groups.empty() || in_a_group(person, rule.requester_groups, roster));
        }));
    WhoRow row;
    row.people = people;
    row.whom = std::to_string(people) + (people == 1 ? " person" : " people") + " of " +
               joined(rule.requester_regions) +
               (rule.requester_groups.empty() ? "" : " (group " + joined(rule.requester_groups) + ")");
    row.quorum = quorum_text(rule.quorum);
    row.duration = rule.limits.duration;
    row.command = rule.limits.command;
    row.rule = rule.id;
    if (rule.limits.accounts.empty()) out.push_back(row);
    for (const std::string& account : rule.limits.accounts) {
      row.account = account;
      out.push_back(row);
    }
  }
  return out;
}

std::string quorum_text(const Quorum& quorum) {
  std::string out;
  for (std::size_t i = 0; i < quorum.size(); ++i)
    out += (i == 0                   ? ""
            : i + 1 == quorum.size() ? " and "
                                     : ", ") +
           std::to_string(quorum[i].approvals) + " of " + quorum[i].group.get();
  return out;
}

std::string duration_text(std::chrono::seconds duration) {
  const auto seconds = duration.count();
  if (seconds >= 2 * 86400 && seconds % 86400 == 0) return std::to_string(seconds / 86400) + " days";
  if (seconds >= 3600 && seconds % 3600 == 0) return std::to_string(seconds / 3600) + " h";
  if (seconds >= 60 && seconds % 60 == 0) return std::to_string(seconds / 60) + " min";
  return std::to_string(seconds) + " s";
}

}  // namespace sallyport::policy

#include "client/admin/policy_text.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "client/terminal/render.h"

namespace sallyport::client::admin {
namespace {

using record::json::Value;

std::string row(std::string label, const std::string& text) {
  label.resize(std::max<std::size_t>(label.size() + 1, 11), ' ');
  return label + text + "\n";
}

// Fields of Strong<std::string>, or of anything that has them, with commas.
template <class List>
std::string names(const List& list) {
  std::string out;
  for (const auto& item : list) out += (out.empty() ? "" : ", ") + printable(item.get());
  return out;
}
std::string words(const std::vector<std::string>& list) {
  std::string out;
  for (const std::string& item : list) out += (out.empty() ? "" : ", ") + printable(item);
  return out;
}

std::string rule_text(const policy::Rule& rule) {
  std::string text = names(rule.resources) + " · requester " + names(rule.requester_regions);
  if (!rule.requester_groups.empty()) text += " (" + names(rule.requester_groups) + ")";
  text += " · machine " + names(rule.device_regions) + " · network " + names(rule.network_regions);
  if (!rule.limits.accounts.empty()) text += " · as " + words(rule.limits.accounts);
  text += " · " + policy::duration_text(rule.limits.duration);
  if (!rule.limits.command.empty()) text += " · only \"" + printable(rule.limits.command) + "\"";
  if (!rule.limits.record) text += " · NOT RECORDED";
  text += " · needs " + printable(policy::quorum_text(rule.quorum));
  text += " (" + names(rule.approver.regions) + (rule.approver.other_team ? ", other team" : "") +
          (rule.approver.attested ? ", attested" : "") + ")";
  return text;
}

Value::Array array_of(const policy::Quorum& quorum) {
  Value::Array out;
  for (const policy::Clause& clause : quorum)
    out.push_back(Value::object(
        {{"approvals", static_cast<std::uint64_t>(clause.approvals)}, {"group", clause.group.get()}}));
  return out;
}

template <class List>
Value::Array array_of_names(const List& list) {
  Value::Array out;
  for (const auto& item : list) out.push_back(Value{item.get()});
  return out;
}

}  // namespace

Result<CheckedPolicy> check_policy(ByteView text, std::optional<record::PolicyDocument> beside) {
  SP_TRY(policy::Policy policy, policy::parse_policy(as_text(text)));
  if (!beside) return CheckedPolicy{std::move(policy), nullptr};
  beside->text = to_bytes(text);
  SP_TRY(record::LoadedPolicy loaded,
         record::load_policy(std::move(*beside), policy.authority.origin, LeafIndex{0}));
  return CheckedPolicy{std::move(policy), std::make_shared<const record::LoadedPolicy>(std::move(loaded))};
}

std::string policy_summary(const policy::Policy& policy) {
  const policy::Authority& authority = policy.authority;
  std::string out = row("policy", "version " + std::to_string(policy.version));
  out += row("digest", "sha256:" + to_hex(policy.digest));
  if (policy.previous) out += row("previous", "sha256:" + to_hex(*policy.previous));
  out +=
      row("authority", printable(authority.origin.get()) + " · region " + printable(authority.region.get()));
  out += row("endpoints", words(authority.endpoints));

  std::string people;
  std::size_t tokens = 0;
  for (const policy::Person& person : policy.persons) tokens += person.tokens.size();
  for (const policy::Region& region : policy.regions) {
    const auto count =
        std::count_if(policy.persons.begin(), policy.persons.end(),
                      [&](const policy::Person& person) { return person.region == region.id; });
    people += " · " + printable(region.id.get()) + " " + std::to_string(count);
  }
  out +=
      row("people", std::to_string(policy.persons.size()) + people + " · tokens " + std::to_string(tokens));
  std::string groups;
  for (const auto& [group, members] : policy.members)
    groups += (groups.empty() ? "" : ", ") + printable(group.get()) + " " + std::to_string(members.size());
  out += row("groups", groups);
  for (const policy::Resource& resource : policy.resources) {
    std::string hosts;
    for (const policy::Host& host : resource.hosts)
      hosts += (hosts.empty() ? "" : ", ") + printable(host.name);
    out += row("resource", printable(resource.id.get()) + " · " +
                               std::string{policy::resource_kind_name(resource.kind)} + " · data " +
                               printable(resource.data) + (hosts.empty() ? "" : " · " + hosts));
  }
  for (std::size_t i = 0; i < policy.rules.size(); ++i) {
    out += row("rule " + std::to_string(i + 1), printable(policy.rules[i].id.get()));
    out += row("", rule_text(policy.rules[i]));
  }
  out += row("change", printable(policy::quorum_text(authority.change)));
  out += row("enrol", printable(policy::quorum_text(authority.enrol)));
  out += row("revoke", "any one of " + printable(authority.revoke.get()));
  out += row("readers", printable(authority.readers.get()));
  out += row("erase", authority.erase ? printable(policy::quorum_text(authority.erase->quorum)) + ", after " +
                                            policy::duration_text(authority.erase->retention)
                                      : "nobody");
  out += row("hold", authority.hold ? "any one of " + printable(authority.hold->get()) : "nobody");
  out += row("tpm roots", "sha256:" + to_hex(authority.tpm_roots));
  out += row("expired EKs", authority.expired_ek ? "accepted" : "refused");
  return out;
}

Value policy_json(const policy::Policy& policy) {
  Value::Array rules, resources, groups;
  for (const policy::Rule& rule : policy.rules)
    rules.push_back(Value::object({{"duration", static_cast<std::uint64_t>(rule.limits.duration.count())},
                                   {"id", rule.id.get()},
                                   {"quorum", array_of(rule.quorum)},
                                   {"resources", array_of_names(rule.resources)}}));
  for (const policy::Resource& resource : policy.resources) resources.push_back(Value{resource.id.get()});
  for (const auto& [group, members] : policy.members)
    groups.push_back(
        Value::object({{"id", group.get()}, {"members", static_cast<std::uint64_t>(members.size())}}));
  const std::optional<policy::EraseRight>& erase = policy.authority.erase;
  return Value::object({{"change", array_of(policy.authority.change)},
                        {"digest", to_hex(policy.digest)},
                        {"enrol", array_of(policy.authority.enrol)},
                        {"erase", array_of(erase ? erase->quorum : policy::Quorum{})},
                        {"groups", std::move(groups)},
                        {"hold", policy.authority.hold ? policy.authority.hold->get() : std::string{}},
                        {"origin", policy.authority.origin.get()},
                        {"people", static_cast<std::uint64_t>(policy.persons.size())},
                        {"previous", policy.previous ? to_hex(*policy.previous) : std::string{}},
                        {"region", policy.authority.region.get()},
                        {"resources", std::move(resources)},
                        {"retention", erase ? static_cast<std::uint64_t>(erase->retention.count()) : 0},
                        {"rules", std::move(rules)},
                        {"version", policy.version}});
}

std::string explain_text(const policy::Policy& policy, const policy::DecisionInputs& inputs) {
  std::string out;
  const policy::Outcome outcome = policy::decide(policy, inputs);
  if (const auto* decision = std::get_if<policy::Decision>(&outcome)) {
    out += row("allowed",
               "as " + printable(decision->account) + " for " + policy::duration_text(decision->duration) +
                   (decision->command.empty() ? "" : ", only \"" + printable(decision->command) + "\"") +
                   ", by " + names(decision->rules));
    out += row("", "once " + printable(policy::quorum_text(decision->quorum)) + " have approved (" +
                       names(decision->approver.regions) +
                       (decision->approver.other_team ? ", other team" : "") +
                       (decision->approver.attested ? ", attested" : "") + ")");
  } else {
    const auto& refusal = std::get<policy::Refusal>(outcome);
    out += row("refused", "[" + std::string{reason_name(refusal.reason)} + "] " + printable(refusal.detail));
    if (refusal.limited)
      out += row("", "a limited way exists: " + printable(refusal.limited->rule.get()) + ", as " +
                         printable(refusal.limited->account) + ", " +
                         policy::duration_text(refusal.limited->duration) + ", needs " +
                         printable(policy::quorum_text(refusal.limited->quorum)));
  }
  for (const policy::RuleExplanation& rule : policy::explain(policy, inputs)) {
    std::string text = rule.text;  // it begins with the rule's name, as a refusal's detail does
    if (const std::string name = "rule " + rule.rule.get() + ": "; text.starts_with(name))
      text.erase(0, name.size());
    out +=
        row(rule.as_beneficiary ? "for rule" : "rule", printable(rule.rule.get()) + ": " + printable(text));
    for (const policy::ConditionResult& condition : rule.conditions)
      out += row("", std::string{condition.holds ? "holds  " : "fails  "} + printable(condition.text));
  }
  return out;
}

Value explain_json(const policy::Policy& policy, const policy::DecisionInputs& inputs) {
  const policy::Outcome outcome = policy::decide(policy, inputs);
  Value::Array rules;
  for (const policy::RuleExplanation& rule : policy::explain(policy, inputs)) {
    Value::Array conditions;
    for (const policy::ConditionResult& condition : rule.conditions)
      conditions.push_back(Value::object({{"code", reason_name(condition.reason)},
                                          {"holds", Value{condition.holds}},
                                          {"text", condition.text}}));
    rules.push_back(Value::object({{"as_beneficiary", Value{rule.as_beneficiary}},
                                   {"conditions", std::move(conditions)},
                                   {"matches", Value{rule.matches}},
                                   {"rule", rule.rule.get()},
                                   {"text", rule.text}}));
  }
  const auto* decision = std::get_if<policy::Decision>(&outcome);
  const auto* refusal = std::get_if<policy::Refusal>(&outcome);
  return Value::object({{"account", decision ? decision->account : std::string{}},
                        {"allowed", Value{decision != nullptr}},
                        {"code", refusal ? reason_name(refusal->reason) : std::string_view{}},
                        {"detail", refusal ? refusal->detail : std::string{}},
                        {"duration", static_cast<std::uint64_t>(decision ? decision->duration.count() : 0)},
                        {"quorum", decision ? array_of(decision->quorum) : Value::Array{}},
                        {"rules", std::move(rules)}});
}

std::string who_text(const policy::Policy& policy, const ResourceId& resource) {
  std::string out;
  for (const policy::WhoRow& one : policy::who(policy, resource))
    out +=
        row(printable(one.account),
            printable(one.whom) + " · " + printable(one.quorum) + ", " + policy::duration_text(one.duration) +
                (one.command.empty() ? "" : ", only \"" + printable(one.command) + "\"") + " · " +
                printable(one.rule.get()));
  return out.empty() ? "nobody: no rule covers it\n" : out;
}

}  // namespace sallyport::client::admin

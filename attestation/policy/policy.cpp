#include "attestation/policy/policy.h"

#include <algorithm>

namespace sallyport::policy {
namespace {

bool holds(const std::vector<GroupId>& groups, const GroupId& group) {
  return std::find(groups.begin(), groups.end(), group) != groups.end();
}

Error not_successor(std::string why) {
  return Error{Code::kDenied, Reason::kPolicyNotSuccessor, std::move(why)};
}

Error bad_roster(const std::string& why) {
  return Error{Code::kDenied, Reason::kPolicyInvalid, "roster: " + why};
}

}  // namespace

std::string_view resource_kind_name(ResourceKind kind) {
  switch (kind) {
    case ResourceKind::kSsh:
      return "ssh";
    case ResourceKind::kX509:
      return "x509";
    case ResourceKind::kSecret:
      return "secret";
  }
  SP_ASSERT(false);
}

namespace {

Status check_next(const Policy& current, const Policy& next) {
  if (next.version != current.version + 1)
    return not_successor("version " + std::to_string(next.version) + " does not follow version " +
                         std::to_string(current.version));
  if (next.previous != current.digest)
    return not_successor("`previous` is not the digest of the policy in force");
  if (next.authority.region != current.authority.region)
    return not_successor("an authority stays in its region");
  return Done{};
}

}  // namespace

Status check_successor(const Policy& current, const Policy& next) {
  SP_CHECK(check_next(current, next));
  if (next.authority.origin != current.authority.origin)
    return not_successor("another origin is another log: it begins with a policy that continues this one's");
  if (next.authority.continues && next.authority.continues != current.authority.continues)
    return not_successor("only the first policy of a log says which log it continues");
  return Done{};
}

Status check_continuation(const Policy& current, const Policy& next) {
  SP_CHECK(check_next(current, next));
  if (next.authority.origin == current.authority.origin)
    return not_successor("the log that is continued keeps its origin to itself");
  if (!next.authority.continues || next.authority.continues->origin != current.authority.origin)
    return not_successor("`continues` does not name the log of the policy in force");
  return Done{};
}

Status check_roster(const Policy& policy, const Roster& roster) {
  if (!policy.authority.roster) return bad_roster("the policy has no rota");
  for (const auto& [group, people] : roster.on_duty) {
    if (!holds(policy.authority.roster->may_fill, group))
      return bad_roster("may not fill group " + group.get());
    for (const PersonId& id : people) {
      const Person* person = find_person(policy, id);
      if (person == nullptr || !is_member(*person, group))
        return bad_roster("the policy does not list the person in group " + group.get());
    }
  }
  return Done{};
}

const Region* find_region(const Policy& policy, const RegionId& id) {
  const auto at = std::find_if(policy.regions.begin(), policy.regions.end(),
                               [&](const Region& region) { return region.id == id; });
  return at == policy.regions.end() ? nullptr : &*at;
}

const Person* find_person(const Roll& people, const PersonId& id) {
  const auto at = people.person_at.find(id);
  return at == people.person_at.end() ? nullptr : &people.persons[at->second];
}

std::optional<TokenOwner> find_token(const Policy& policy, const KeyId& signing_key) {
  const auto at = policy.token_at.find(signing_key);
  if (at == policy.token_at.end()) return std::nullopt;
  const Person& person = policy.persons[at->second.first];
  return TokenOwner{&person, &person.tokens[at->second.second]};
}

const Resource* find_resource(const Policy& policy, const ResourceId& id) {
  const auto at = policy.resource_at.find(id);
  return at == policy.resource_at.end() ? nullptr : &policy.resources[at->second];
}

std::optional<HostOfResource> find_host(const Policy& policy, std::string_view name) {
  const auto at = policy.host_at.find(name);
  if (at == policy.host_at.end()) return std::nullopt;
  const Resource& resource = policy.resources[at->second.first];
  return HostOfResource{&resource, &resource.hosts[at->second.second]};
}

const Rule* find_rule(const Policy& policy, const RuleId& id) {
  const auto at =
      std::find_if(policy.rules.begin(), policy.rules.end(), [&](const Rule& rule) { return rule.id == id; });
  return at == policy.rules.end() ? nullptr : &*at;
}

bool is_member(const Person& person, const GroupId& group, const Roster& roster) {
  if (!holds(person.groups, group)) return false;
  const auto duty = roster.on_duty.find(group);
  return duty == roster.on_duty.end() || duty->second.contains(person.id);
}

RegionId unknown_region() {
  return RegionId{"unknown"};
}

RegionId region_of_person(const Policy& policy, const PersonId& id) {
  const Person* person = find_person(policy, id);
  return person == nullptr ? unknown_region() : person->region;
}

RegionId region_of_address(const Policy& policy, std::string_view address, std::string_view country) {
  const auto parsed = parse_address(address);
  if (!parsed) return unknown_region();
  const Region* by_network = nullptr;  // at most one: a loaded policy's networks are disjoint
  const Region* by_country = nullptr;  // likewise
  for (const Region& region : policy.regions) {
    for (const Network& network : region.networks)
      if (contains(network, *parsed)) by_network = &region;
    if (!country.empty() &&
        std::find(region.countries.begin(), region.countries.end(), country) != region.countries.end())
      by_country = &region;
  }
  if (by_network == nullptr) {
    // The country alone decides only for a region that has no networks to ask.
    return by_country != nullptr && by_country->networks.empty() ? by_country->id : unknown_region();
  }
  if (by_country == by_network) return by_network->id;
  if (by_country != nullptr) return unknown_region();  // they differ
  if (by_network->countries.empty()) return by_network->id;
  // The region has countries, and the database named none of them.
  return country.empty() && !is_globally_reachable(*parsed) ? by_network->id : unknown_region();
}

std::vector<std::string> source_networks(const Policy& policy, const Rule& rule) {
  std::vector<std::string> out;
  for (const Region& region : policy.regions) {
    if (std::find(rule.network_regions.begin(), rule.network_regions.end(), region.id) ==
        rule.network_regions.end())
      continue;
    for (const Network& network : region.networks) out.push_back(network.text);
  }
  return out;
}

}  // namespace sallyport::policy

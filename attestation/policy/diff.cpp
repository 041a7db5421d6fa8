#include "attestation/policy/diff.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/policy/decide.h"

namespace sallyport::policy {
namespace {

// Every part of a policy is compared as what people read: a list of named fields. What is not printed is not
// compared, so each printing function below names every member.
using FieldList = std::vector<std::pair<std::string, std::string>>;

const std::string& word(const std::string& text) {
  return text;
}
template <class Tag>
const std::string& word(const Strong<std::string, Tag>& id) {
  return id.get();
}

template <class T>
std::string words(const std::vector<T>& items) {
  std::string out;
  for (const T& item : items) out += (out.empty() ? "" : ", ") + word(item);
  return out.empty() ? "none" : out;
}

std::string key_text(const crypto::PublicKey& key) {
  return std::string{crypto::algorithm_name(key.algorithm())} + " " + to_hex(key.id());
}

FieldList fields_of(const Region& region) {
  std::vector<std::string> networks;
  for (const Network& network : region.networks) networks.push_back(network.text);
  return {{"networks", words(networks)}, {"countries", words(region.countries)}};
}

FieldList fields_of(const Person& person) {
  FieldList out{{"region", person.region.get()}, {"team", person.team}, {"groups", words(person.groups)}};
  for (const Token& token : person.tokens)
    out.push_back({"token " + token.id,
                   key_text(token.sign) + (token.agree ? ", agree " + key_text(*token.agree) : "")});
  return out;
}

FieldList fields_of(const Resource& resource) {
  FieldList out{{"kind", std::string{resource_kind_name(resource.kind)}}, {"data", resource.data}};
  for (const Host& host : resource.hosts)
    out.push_back({"host " + host.name,
                   host.address + " port " + std::to_string(host.port) + ", keys " + words(host.keys)});
  return out;
}

FieldList fields_of(const Rule& rule) {
  return {{"resource", words(rule.resources)},
          {"requester.region", words(rule.requester_regions)},
          {"requester.group", rule.requester_groups.empty() ? "any" : words(rule.requester_groups)},
          {"device.region", words(rule.device_regions)},
          {"network.region", words(rule.network_regions)},
          {"quorum", quorum_text(rule.quorum)},
          {"approver", "of " + words(rule.approver.regions) +
                           (rule.approver.other_team ? ", of another team" : ", of any team") +
                           (rule.approver.attested ? ", attested" : ", not attested")},
          {"duration", duration_text(rule.limits.duration)},
          {"accounts", words(rule.limits.accounts)},
          {"command", rule.limits.command.empty() ? "any" : rule.limits.command},
          {"record", rule.limits.record ? "required" : "off"}};
}

std::string continues_text(const Continues& continues) {
  return continues.origin.get() + " at " + std::to_string(continues.size.get()) + " leaves, root " +
         to_hex(continues.root) + ", state " + to_hex(continues.state);
}

FieldList fields_of(const Authority& authority) {
  FieldList out{{"origin", authority.origin.get()},
                {"continues", authority.continues ? continues_text(*authority.continues) : "none"},
                {"region", authority.region.get()},
                {"keys.log", key_text(authority.keys.log)},
                {"keys.ssh_ca", key_text(authority.keys.ssh_ca)},
                {"keys.x509_ca", key_text(authority.keys.x509_ca)},
                {"keys.lease", key_text(authority.keys.lease)},
                {"keys.secrets", key_text(authority.keys.secrets)},
                {"references", authority.references ? to_hex(*authority.references) : "none"},
                {"tpm_roots", to_hex(authority.tpm_roots)},
                {"expired_ek", authority.expired_ek ? "accept" : "none"},
                {"change", quorum_text(authority.change)},
                {"enrol", quorum_text(authority.enrol)},
                {"revoke", authority.revoke.get()},
                {"readers", authority.readers.get()},
                {"endpoints", words(authority.endpoints)}};
  std::vector<std::string> pins;
  for (const crypto::PublicKey& key : authority.tls) pins.push_back(key_text(key));
  out.push_back({"tls", words(pins)});
  out.push_back({"roster", authority.roster
                               ? quorum_text({{authority.roster->group, authority.roster->approvals}}) +
                                     " for " + words(authority.roster->may_fill)
                               : "none"});
  out.push_back({"erase", authority.erase ? quorum_text(authority.erase->quorum) + " after " +
                                                duration_text(authority.erase->retention)
                                          : "nobody"});
  out.push_back({"hold", authority.hold ? authority.hold->get() : "nobody"});
  return out;
}

const std::string* find_field(const FieldList& fields, const std::string& name) {
  const auto at =
      std::find_if(fields.begin(), fields.end(), [&](const auto& field) { return field.first == name; });
  return at == fields.end() ? nullptr : &at->second;
}

std::string all_fields(const FieldList& fields) {
  std::string out;
  for (const auto& [name, value] : fields) out += (out.empty() ? "" : "; ") + name + " " + value;
  return out;
}

// changed_fields gives "" where nothing is different.
std::string changed_fields(const FieldList& before, const FieldList& after) {
  std::string out;
  const auto add = [&](const std::string& text) { out += (out.empty() ? "" : "; ") + text; };
  for (const auto& [name, value] : before)
    if (find_field(after, name) == nullptr) add("no " + name + " (" + value + ")");
  for (const auto& [name, value] : after) {
    const std::string* old = find_field(before, name);
    if (old == nullptr)
      add("new " + name + " " + value);
    else if (*old != value)
      add(name + " " + *old + " → " + value);
  }
  return out;
}

// reach says what the rules let a person ask for, whatever machine and network.
std::string reach(const Policy& policy, const Person& person) {
  std::string out;
  for (const Rule& rule : policy.rules) {
    if (std::find(rule.requester_regions.begin(), rule.requester_regions.end(), person.region) ==
        rule.requester_regions.end())
      continue;
    if (!rule.requester_groups.empty() &&
        std::none_of(rule.requester_groups.begin(), rule.requester_groups.end(),
                     [&](const GroupId& group) { return is_member(person, group); }))
      continue;
    out += (out.empty() ? "" : ", ") + words(rule.resources) +
           (rule.limits.accounts.empty() ? "" : " as " + words(rule.limits.accounts)) + " (" + rule.id.get() +
           ")";
  }
  return out.empty() ? "nothing" : out;
}

// diff_items compares two lists of things that have an id. `more` adds to the text of what is new or changed.
template <class T, class More>
void diff_items(const std::string& section, const std::vector<T>& before, const std::vector<T>& after,
                More more, std::vector<DiffLine>& out) {
  const auto find = [](const std::vector<T>& items, const T& wanted) {
    return std::find_if(items.begin(), items.end(), [&](const T& item) { return item.id == wanted.id; });
  };
  for (const T& item : before)
    if (find(after, item) == after.end())
      out.push_back({section, '-', word(item.id), all_fields(fields_of(item))});
  for (const T& item : after) {
    const auto old = find(before, item);
    if (old == before.end()) {
      out.push_back({section, '+', word(item.id), all_fields(fields_of(item)) + more(item)});
      continue;
    }
    const std::string changed = changed_fields(fields_of(*old), fields_of(item));
    if (!changed.empty()) out.push_back({section, '~', word(item.id), changed + more(item)});
  }
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) out.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// order_of gives the ids of the rules that both policies have.
std::vector<std::string> order_of(const Policy& policy, const Policy& other) {
  std::vector<std::string> out;
  for (const Rule& rule : policy.rules)
    if (find_rule(other, rule.id) != nullptr) out.push_back(rule.id.get());
  return out;
}

}  // namespace

std::vector<DiffLine> diff(const Policy& before, const Policy& after) {
  std::vector<DiffLine> out;
  if (before.version != after.version)
    out.push_back(
        {"version", '~', "", std::to_string(before.version) + " → " + std::to_string(after.version)});
  else if (before.previous != after.previous)
    out.push_back({"version", '~', "", "the same number after another version"});

  const std::string authority = changed_fields(fields_of(before.authority), fields_of(after.authority));
  if (!authority.empty()) out.push_back({"authority", '~', "", authority});
  const auto old_witnesses = lines_of(before.authority.witnesses);
  const auto new_witnesses = lines_of(after.authority.witnesses);
  const std::size_t before_witnesses = out.size();
  for (const std::string& line : old_witnesses)
    if (std::find(new_witnesses.begin(), new_witnesses.end(), line) == new_witnesses.end())
      out.push_back({"authority", '-', "witnesses", line});
  for (const std::string& line : new_witnesses)
    if (std::find(old_witnesses.begin(), old_witnesses.end(), line) == old_witnesses.end())
      out.push_back({"authority", '+', "witnesses", line});
  if (out.size() == before_witnesses && old_witnesses != new_witnesses)
    out.push_back({"authority", '~', "witnesses", "the same lines in another order or number"});

  const auto nothing = [](const auto&) { return std::string{}; };
  diff_items("region", before.regions, after.regions, nothing, out);
  diff_items(
      "person", before.persons, after.persons,
      [&](const Person& person) { return "; may reach: " + reach(after, person); }, out);
  diff_items("resource", before.resources, after.resources, nothing, out);
  diff_items(
      "rule", before.rules, after.rules,
      [&](const Rule& rule) {
        return find_rule(before, rule.id) != nullptr
                   ? std::string{}
                   : "; place " + std::to_string(&rule - after.rules.data() + 1) + " of " +
                         std::to_string(after.rules.size());
      },
      out);
  const auto old_order = order_of(before, after), new_order = order_of(after, before);
  if (old_order != new_order)
    out.push_back({"rule", '~', "order", words(old_order) + " → " + words(new_order)});
  return out;
}

std::string render(const DiffLine& line) {
  std::string section = line.section;
  section.resize(std::max<std::size_t>(section.size() + 1, 9), ' ');
  return section + line.sign + " " + line.id + (line.id.empty() ? "" : "   ") + line.text;
}

}  // namespace sallyport::policy

#include <algorithm>

#include "attestation/base/document.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/policy/policy.h"
#include "attestation/policy/quorum.h"
#include "attestation/policy/syntax.h"

namespace sallyport::policy {
namespace {

constexpr std::int64_t kMaxVersion = std::int64_t{1} << 53;
constexpr std::size_t kMaxClauses = 16;
constexpr std::size_t kMaxNetworks = 4096;
constexpr std::size_t kMaxWitnessesBytes = 64 * 1024;

using Value = DocumentValue;
using Fields = DocumentFields;

template <class Id>
Result<Id> id_of(const Value& value) {
  SP_TRY(std::string text, value.word(is_id, "an identifier of a-z, 0-9, '.', '_', '-'"));
  return Id{std::move(text)};
}
Result<crypto::PublicKey> key_of(const Value& value) {
  SP_TRY(const std::string text, value.text());
  auto key = crypto::PublicKey::parse_spki_base64(text);
  if (!key) return value.error("must be a SubjectPublicKeyInfo in base64: " + key.error().what);
  return key;
}
Result<crypto::PublicKey> p256_of(const Value& value) {
  SP_TRY(crypto::PublicKey key, key_of(value));
  if (key.algorithm() != crypto::KeyAlgorithm::kP256) return value.error("must be a P-256 key");
  return key;
}

// Loader reads the document in the order in which names are needed: regions, people, resources, authority,
// rules.
class Loader {
 public:
  explicit Loader(std::string_view text) : text_(text) {}

  Result<Policy> load(const TomlNode& root) {
    Fields document{root, "", Reason::kPolicyInvalid};
    SP_TRY(const Value version, document.get("version"));
    SP_TRY(const std::int64_t number, version.integer(1, kMaxVersion));
    std::optional<Digest256> previous;
    if (const auto value = document.find("previous")) {
      if (number == 1) return value->error("version 1 has no previous");
      SP_TRY(previous, value->digest());
    } else if (number > 1) {
      return version.error("only version 1 may leave out `previous`");
    }
    SP_CHECK(each(document, "region", true, [this](const Value& v) { return region(v); }));
    SP_CHECK(check_networks());
    SP_CHECK(each(document, "person", true, [this](const Value& v) { return person(v); }));
    SP_CHECK(each(document, "resource", false, [this](const Value& v) { return resource(v); }));
    SP_CHECK(check_host_names());
    SP_TRY(const Value authority_value, document.get("authority"));
    SP_TRY(Authority authority_read, authority(authority_value));
    if (number == 1 && authority_read.continues)
      return authority_value.error("version 1 continues no other log");
    SP_CHECK(each(document, "rule", false, [this](const Value& v) { return rule(v); }));
    SP_CHECK(document.finish());

    // Whoever could change the policy, or erase the record, with fewer people than a door takes, would.
    SP_CHECK(check_people(authority_value, "change", authority_read.change));
    if (authority_read.erase) SP_CHECK(check_people(authority_value, "erase", authority_read.erase->quorum));

    return Policy{std::move(people_),
                  std::string{text_},
                  crypto::sha256(as_bytes(text_)),
                  static_cast<std::uint64_t>(number),
                  previous,
                  std::move(authority_read),
                  std::move(regions_),
                  std::move(resources_),
                  std::move(rules_),
                  std::move(token_at_),
                  std::move(resource_at_),
                  std::move(host_at_)};
  }

 private:
  // each reads the tables of an array of tables.
  template <class Read>
  Status each(Fields& document, std::string_view key, bool required, Read read) {
    const auto value = document.find(key);
    if (!value) {
      if (required) return document.error("`[[" + std::string{key} + "]]` is missing");
      return Done{};
    }
    SP_TRY(const std::vector<Value> items, value->items());
    if (items.empty()) return value->error("must not be empty");
    for (const Value& item : items) SP_CHECK(read(item));
    return Done{};
  }

  static std::size_t people_in(const Quorum& quorum) {
    std::size_t people = 0;
    for (const Clause& clause : quorum) people += clause.approvals;
    return people;
  }

  // own_key takes a key into the one set of all keys of the document.
  Status own_key(const Value& at, const crypto::PublicKey& key) {
    const auto [first, is_new] = key_paths_.emplace(key.id(), at.path());
    if (!is_new) return at.error("the same key is listed as " + first->second);
    return Done{};
  }

  // Names that must exist.
  Result<RegionId> known_region(const Value& value) const {
    SP_TRY(RegionId id, id_of<RegionId>(value));
    if (!region_ids_.contains(id)) return value.error("no region \"" + id.get() + "\" is defined");
    return id;
  }
  Result<GroupId> known_group(const Value& value) const {
    SP_TRY(GroupId id, id_of<GroupId>(value));
    if (!people_.members.contains(id)) return value.error("nobody is in a group \"" + id.get() + "\"");
    return id;
  }
  Result<std::vector<RegionId>> region_list(const Value& value) const {
    return value.list(1, 256, [this](const Value& v) { return known_region(v); });
  }
  Result<std::vector<GroupId>> group_list(const Value& value) const {
    return value.list(1, 256, [this](const Value& v) { return known_group(v); });
  }

  Status region(const Value& value) {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value id_value, fields.get("id"));
    SP_TRY(RegionId id, id_of<RegionId>(id_value));
    if (id == unknown_region()) return id_value.error("\"unknown\" is where nobody knows; it is no region");
    if (!region_ids_.insert(id).second) return id_value.error("region \"" + id.get() + "\" is defined twice");
    Region out{id, {}, {}};
    if (const auto networks = fields.find("networks")) {
      SP_TRY(const std::vector<Value> items, networks->items());
      for (const Value& item : items) {
        SP_TRY(const std::string text, item.text());
        auto network = parse_network(text);
        if (!network) return item.error("\"" + text + "\" is no network: " + network.error().what);
        networks_.push_back({*network, item});
        out.networks.push_back(std::move(*network));
      }
    }
    if (const auto countries = fields.find("countries")) {
      SP_TRY(const std::vector<Value> items, countries->items());
      for (const Value& item : items) {
        SP_TRY(std::string country, item.word(is_country, "two capitals, as in ISO 3166-1"));
        if (!countries_.insert(country).second) return item.error("country " + country + " is listed twice");
        out.countries.push_back(std::move(country));
      }
    }
    SP_CHECK(fields.finish());
    regions_.push_back(std::move(out));
    return Done{};
  }

  // check_networks refuses networks that overlap, within a region or across regions. CIDR blocks are nested
  // or disjoint, so after sorting by address an overlap shows between neighbours.
  Status check_networks() {
    if (networks_.size() > kMaxNetworks) return networks_.back().at.error("more than 4096 networks");
    std::sort(networks_.begin(), networks_.end(), [](const NetworkAt& a, const NetworkAt& b) {
      return std::tie(a.network.base, a.network.prefix) < std::tie(b.network.base, b.network.prefix);
    });
    for (std::size_t i = 1; i < networks_.size(); ++i)
      if (overlap(networks_[i - 1].network, networks_[i].network))
        return networks_[i].at.error(networks_[i].network.text + " overlaps " +
                                     networks_[i - 1].network.text + " (" + networks_[i - 1].at.path() + ")");
    return Done{};
  }

  Status person(const Value& value) {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value id_value, fields.get("id"));
    SP_TRY(std::string id, id_value.word(is_person_id, "a lower-case name, with or without one '@'"));
    Person out{.id = PersonId{std::move(id)}, .region = {}, .team = {}, .groups = {}, .tokens = {}};
    const std::size_t at = people_.persons.size();
    if (!people_.person_at.emplace(out.id, at).second)
      return id_value.error("person \"" + out.id.get() + "\" is defined twice");
    SP_TRY(const Value region_value, fields.get("region"));
    SP_TRY(out.region, known_region(region_value));
    SP_TRY(const Value team, fields.get("team"));
    SP_TRY(out.team, team.word(is_id, "an identifier of a-z, 0-9, '.', '_', '-'"));
    if (const auto groups = fields.find("groups")) {
      SP_TRY(out.groups, groups->list(0, 256, [](const Value& v) { return id_of<GroupId>(v); }));
    }
    for (const GroupId& group : out.groups) people_.members[group].push_back(at);
    if (const auto tokens = fields.find("tokens")) {
      SP_TRY(const std::vector<Value> items, tokens->items());
      for (const Value& item : items) SP_CHECK(token(item, at, out.tokens));
    }
    SP_CHECK(fields.finish());
    people_.persons.push_back(std::move(out));
    return Done{};
  }

  Status token(const Value& value, std::size_t person, std::vector<Token>& tokens) {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value id_value, fields.get("id"));
    SP_TRY(std::string id, id_value.word(is_id, "an identifier of a-z, 0-9, '.', '_', '-'"));
    if (!token_ids_.insert(id).second) return id_value.error("token \"" + id + "\" is defined twice");
    SP_TRY(const Value kind, fields.get("kind"));
    SP_TRY(const std::string kind_name, kind.text());
    if (kind_name != "p256") return kind.error("the only kind of token is \"p256\"");
    SP_TRY(const Value sign_value, fields.get("sign"));
    SP_TRY(crypto::PublicKey sign, p256_of(sign_value));
    SP_CHECK(own_key(sign_value, sign));
    std::optional<crypto::PublicKey> agree;
    if (const auto agree_value = fields.find("agree")) {
      SP_TRY(agree, p256_of(*agree_value));
      SP_CHECK(own_key(*agree_value, *agree));
    }
    SP_CHECK(fields.finish());
    token_at_.emplace(sign.id(), std::pair{person, tokens.size()});
    tokens.push_back({std::move(id), TokenKind::kP256, std::move(sign), std::move(agree)});
    return Done{};
  }

  Status resource(const Value& value) {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value id_value, fields.get("id"));
    Resource out;
    SP_TRY(out.id, id_of<ResourceId>(id_value));
    const std::size_t at = resources_.size();
    if (!resource_at_.emplace(out.id, at).second)
      return id_value.error("resource \"" + out.id.get() + "\" is defined twice");
    SP_TRY(const Value kind, fields.get("kind"));
    SP_TRY(const std::string kind_name, kind.text());
    const auto known = {ResourceKind::kSsh, ResourceKind::kX509, ResourceKind::kSecret};
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](ResourceKind k) { return resource_kind_name(k) == kind_name; });
    if (found == known.end()) return kind.error("must be \"ssh\", \"x509\" or \"secret\"");
    out.kind = *found;
    SP_TRY(const Value data, fields.get("data"));
    SP_TRY(out.data, data.word(is_id, "a label of a-z, 0-9, '.', '_', '-'"));
    const auto hosts = fields.find("host");
    if (hosts && out.kind == ResourceKind::kSecret) return hosts->error("a secret has no hosts");
    if (!hosts && out.kind != ResourceKind::kSecret) return fields.error("`host` is missing");
    if (hosts) {
      SP_TRY(const std::vector<Value> items, hosts->items());
      if (items.empty()) return hosts->error("must not be empty");
      for (const Value& item : items) SP_CHECK(host(item, at, out.hosts));
    }
    SP_CHECK(fields.finish());
    resources_.push_back(std::move(out));
    return Done{};
  }

  Status host(const Value& value, std::size_t resource, std::vector<Host>& hosts) {
    SP_TRY(Fields fields, Fields::of(value));
    Host out;
    SP_TRY(const Value name, fields.get("name"));
    SP_TRY(out.name, name.word(is_id, "an identifier of a-z, 0-9, '.', '_', '-'"));
    if (!host_at_.emplace(out.name, std::pair{resource, hosts.size()}).second)
      return name.error("host \"" + out.name + "\" is defined twice");
    host_names_.emplace(out.name, name);
    SP_TRY(const Value address, fields.get("address"));
    SP_TRY(out.address,
           address.word(
               [](std::string_view text) { return is_dns_name(text) || parse_address(text).has_value(); },
               "a DNS name in lower case or an IP address"));
    SP_TRY(const Value port, fields.get("port"));
    SP_TRY(const std::int64_t number, port.integer(1, 65535));
    out.port = static_cast<std::uint16_t>(number);
    SP_TRY(const Value keys, fields.get("keys"));
    SP_TRY(const std::vector<Value> items, keys.items());
    if (items.empty()) return keys.error("must not be empty");
    for (const Value& item : items) {
      SP_TRY(std::string key,
             item.word(is_fingerprint, "\"SHA256:\" and 43 characters, as ssh-keygen -l prints"));
      // A host is known by its key: a key of two hosts would let one speak for the other.
      if (!host_keys_.insert(key).second) return item.error("the same host key is listed twice");
      out.keys.push_back(std::move(key));
    }
    SP_CHECK(fields.finish());
    hosts.push_back(std::move(out));
    return Done{};
  }

  // A person may name a host, or a resource that has one: one word must not mean a host of one and another
  // resource.
  Status check_host_names() const {
    for (const auto& [name, at] : host_at_) {
      const auto same = resource_at_.find(ResourceId{name});
      if (same != resource_at_.end() && same->second != at.first)
        return host_names_.at(name).error("host \"" + name + "\" has the name of another resource");
    }
    return Done{};
  }

  // quorum reads clauses and checks that distinct people, who meet `approver` where there is one, can fill
  // them.
  Result<Quorum> quorum(const Value& value, const std::optional<ApproverCondition>& approver) const {
    SP_TRY(const std::vector<Value> items, value.items());
    if (items.empty()) return value.error("a quorum of nobody is not one");
    if (items.size() > kMaxClauses) return value.error("has more than 16 clauses");
    Quorum out;
    for (const Value& item : items) {
      SP_TRY(Fields fields, Fields::of(item));
      SP_TRY(const Value group_value, fields.get("group"));
      SP_TRY(GroupId group, known_group(group_value));
      if (std::any_of(out.begin(), out.end(), [&](const Clause& clause) { return clause.group == group; }))
        return group_value.error("group \"" + group.get() + "\" has two clauses; give one the sum");
      SP_TRY(const Value approvals_value, fields.get("approvals"));
      SP_TRY(const std::int64_t approvals, approvals_value.integer(1, kMaxQuorum));
      SP_CHECK(fields.finish());
      out.push_back({std::move(group), static_cast<unsigned>(approvals)});
    }
    if (people_in(out) > kMaxQuorum) return value.error("needs more than 64 people");
    if (!can_fill(people_, {out, {}, approver}))
      return value.error("its groups cannot fill it with distinct people who have a token" +
                         std::string{approver ? " and are of the approvers' regions" : ""});
    return out;
  }

  Status check_people(const Value& authority, const std::string& name, const Quorum& quorum) const {
    const std::size_t people = people_in(quorum);
    for (const Rule& rule : rules_)
      if (people_in(rule.quorum) > people)
        return authority.error("`" + name + "` needs " + std::to_string(people) + " people, fewer than the " +
                               std::to_string(people_in(rule.quorum)) + " of rule " + rule.id.get());
    return Done{};
  }

  Result<Quorum> quorum_table(const Value& value) const {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value clauses, fields.get("quorum"));
    SP_TRY(Quorum out, quorum(clauses, std::nullopt));
    SP_CHECK(fields.finish());
    return out;
  }

  Result<EraseRight> erase_right(const Value& value) const {
    SP_TRY(Fields fields, Fields::of(value));
    EraseRight out;
    SP_TRY(const Value clauses, fields.get("quorum"));
    SP_TRY(out.quorum, quorum(clauses, std::nullopt));
    SP_TRY(const Value retention, fields.get("retention"));
    SP_TRY(const std::string text, retention.text());
    const auto parsed = parse_duration(text);
    if (!parsed || *parsed < kMinRetention || *parsed > kMaxRetention)
      return retention.error("must be days, as in \"365d\", at least 7");
    out.retention = *parsed;
    SP_CHECK(fields.finish());
    return out;
  }

  // one_group reads { group = "…" }, of which somebody must have a token.
  Result<GroupId> one_group(const Value& value) const {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value group, fields.get("group"));
    SP_TRY(GroupId out, known_group(group));
    SP_CHECK(fields.finish());
    if (!can_fill(people_, {{{out, 1}}, {}, std::nullopt})) return group.error("nobody in it has a token");
    return out;
  }

  Result<crypto::PublicKey> authority_key(Fields& fields, std::string_view name) {
    SP_TRY(const Value value, fields.get(name));
    SP_TRY(crypto::PublicKey key, p256_of(value));
    SP_CHECK(own_key(value, key));
    return key;
  }

  Result<crypto::PublicKey> log_key(const Value& value) {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value alg, fields.get("alg"));
    SP_TRY(const std::string algorithm, alg.text());
    if (algorithm != "ed25519" && algorithm != "p256") return alg.error("must be \"ed25519\" or \"p256\"");
    SP_TRY(const Value key_value, fields.get("key"));
    SP_TRY(crypto::PublicKey key, key_of(key_value));
    if (crypto::algorithm_name(key.algorithm()) != algorithm)
      return key_value.error("is not of the stated `alg`");
    SP_CHECK(own_key(key_value, key));
    SP_CHECK(fields.finish());
    return key;
  }

  Result<AuthorityKeys> authority_keys(const Value& value) {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value log_value, fields.get("log"));
    SP_TRY(crypto::PublicKey log, log_key(log_value));
    SP_TRY(crypto::PublicKey ssh_ca, authority_key(fields, "ssh_ca"));
    SP_TRY(crypto::PublicKey x509_ca, authority_key(fields, "x509_ca"));
    SP_TRY(crypto::PublicKey lease, authority_key(fields, "lease"));
    SP_TRY(crypto::PublicKey secrets, authority_key(fields, "secrets"));
    SP_CHECK(fields.finish());
    return AuthorityKeys{std::move(log), std::move(ssh_ca), std::move(x509_ca), std::move(lease),
                         std::move(secrets)};
  }

  // witnesses reads the tlog-policy text as far as to see that it is one: some witness, and a quorum that is
  // not "none". Whether it is sound (2k > n, keys all different) is the ledger's to judge.
  static Result<std::string> witnesses(const Value& value) {
    SP_TRY(std::string text, value.text());
    if (text.size() > kMaxWitnessesBytes) return value.error("is longer than 64 KiB");
    if (!std::all_of(text.begin(), text.end(), [](char c) { return c == '\n' || (c >= 0x20 && c <= 0x7E); }))
      return value.error("holds something else than lines of printable ASCII");
    bool witness = false, quorum = false;
    std::string_view rest = text;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view line = rest.substr(0, end);
      witness = witness || line.starts_with("witness ");
      quorum = quorum || (line.starts_with("quorum ") && line != "quorum none");
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (!witness) return value.error("names no witness");
    if (!quorum) return value.error("asks for no quorum of witnesses");
    return text;
  }

  Result<RosterRight> roster_right(const Value& value) const {
    SP_TRY(Fields fields, Fields::of(value));
    RosterRight out;
    SP_TRY(const Value group, fields.get("group"));
    SP_TRY(out.group, known_group(group));
    SP_TRY(const Value approvals, fields.get("approvals"));
    SP_TRY(const std::int64_t number, approvals.integer(1, kMaxQuorum));
    out.approvals = static_cast<unsigned>(number);
    if (!can_fill(people_, {{{out.group, out.approvals}}, {}, std::nullopt}))
      return approvals.error("group \"" + out.group.get() +
                             "\" cannot fill it with distinct people who have a token");
    SP_TRY(const Value may_fill, fields.get("may_fill"));
    SP_TRY(out.may_fill, group_list(may_fill));
    if (std::find(out.may_fill.begin(), out.may_fill.end(), out.group) != out.may_fill.end())
      return may_fill.error("who makes the rota may not choose among themselves");
    SP_CHECK(fields.finish());
    return out;
  }

  Result<Continues> continues(const Value& value, const std::string& own_origin) const {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value origin, fields.get("origin"));
    SP_TRY(std::string origin_text,
           origin.word(is_origin, "\"<domain>/[<tenant>/]log/<generation>\" in lower case"));
    if (origin_text == own_origin) return origin.error("a log does not continue itself");
    SP_TRY(const Value size_value, fields.get("size"));
    SP_TRY(const std::int64_t size, size_value.integer(1, kMaxVersion));
    SP_TRY(const Value root_value, fields.get("root"));
    SP_TRY(const Digest256 root, root_value.digest());
    SP_TRY(const Value state_value, fields.get("state"));
    SP_TRY(const Digest256 state, state_value.digest());
    SP_CHECK(fields.finish());
    return Continues{Origin{std::move(origin_text)}, TreeSize{static_cast<std::uint64_t>(size)}, root, state};
  }

  Result<Authority> authority(const Value& value) {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value origin, fields.get("origin"));
    SP_TRY(std::string origin_text,
           origin.word(is_origin, "\"<domain>/[<tenant>/]log/<generation>\" in lower case"));
    std::optional<Continues> continued;
    if (const auto continues_value = fields.find("continues")) {
      SP_TRY(continued, continues(*continues_value, origin_text));
    }
    SP_TRY(const Value region_value, fields.get("region"));
    SP_TRY(RegionId region_id, known_region(region_value));
    region_ = region_id;
    SP_TRY(const Value keys_value, fields.get("keys"));
    SP_TRY(AuthorityKeys keys, authority_keys(keys_value));
    SP_TRY(const Value witnesses_value, fields.get("witnesses"));
    SP_TRY(std::string witnesses_text, witnesses(witnesses_value));
    std::optional<Digest256> references;
    if (const auto references_value = fields.find("references")) {
      SP_TRY(references, references_value->digest());
    }
    SP_TRY(const Value roots_value, fields.get("tpm_roots"));
    SP_TRY(const Digest256 roots, roots_value.digest());
    bool expired_ek = false;
    if (const auto expired_value = fields.find("expired_ek")) {
      SP_TRY(const std::string word, expired_value->text());
      if (word != "accept") return expired_value->error("can only be \"accept\"; left out, they are refused");
      expired_ek = true;
    }
    SP_TRY(const Value change_value, fields.get("change"));
    SP_TRY(Quorum change, quorum_table(change_value));
    SP_TRY(const Value enrol_value, fields.get("enrol"));
    SP_TRY(Quorum enrol, quorum_table(enrol_value));
    SP_TRY(const Value revoke_value, fields.get("revoke"));
    SP_TRY(GroupId revoke, one_group(revoke_value));
    SP_TRY(const Value readers_value, fields.get("readers"));
    SP_TRY(GroupId readers, one_group(readers_value));
    SP_TRY(const Value endpoints_value, fields.get("endpoints"));
    SP_TRY(std::vector<std::string> endpoints, endpoints_value.list(1, 16, [](const Value& v) {
      return v.word(is_endpoint, "\"https://<host>[:<port>]\", nothing after it");
    }));
    SP_TRY(const Value tls_value, fields.get("tls"));
    SP_TRY(std::vector<crypto::PublicKey> tls,
           tls_value.list(1, 16, [this](const Value& v) -> Result<crypto::PublicKey> {
             SP_TRY(crypto::PublicKey key, key_of(v));
             SP_CHECK(own_key(v, key));
             return key;
           }));
    std::optional<RosterRight> roster;
    if (const auto roster_value = fields.find("roster")) {
      SP_TRY(roster, roster_right(*roster_value));
    }
    std::optional<EraseRight> erase;
    if (const auto erase_value = fields.find("erase")) {
      SP_TRY(erase, erase_right(*erase_value));
    }
    std::optional<GroupId> hold;
    if (const auto hold_value = fields.find("hold")) {
      SP_TRY(hold, one_group(*hold_value));
    }
    SP_CHECK(fields.finish());
    return Authority{.origin = Origin{std::move(origin_text)},
                     .continues = std::move(continued),
                     .region = std::move(region_id),
                     .keys = std::move(keys),
                     .witnesses = std::move(witnesses_text),
                     .references = references,
                     .tpm_roots = roots,
                     .expired_ek = expired_ek,
                     .change = std::move(change),
                     .enrol = std::move(enrol),
                     .revoke = std::move(revoke),
                     .readers = std::move(readers),
                     .endpoints = std::move(endpoints),
                     .tls = std::move(tls),
                     .roster = std::move(roster),
                     .erase = std::move(erase),
                     .hold = std::move(hold)};
  }

  // region_table reads { region = […] }.
  Result<std::vector<RegionId>> region_table(const Value& value) const {
    SP_TRY(Fields fields, Fields::of(value));
    SP_TRY(const Value regions, fields.get("region"));
    SP_TRY(std::vector<RegionId> out, region_list(regions));
    SP_CHECK(fields.finish());
    return out;
  }

  // approver: what is not said is the strict default: this authority's region, another team, an attested
  // machine.
  Result<ApproverCondition> approver(const std::optional<Value>& value) const {
    ApproverCondition out{{region_}, true, true};
    if (!value) return out;
    SP_TRY(Fields fields, Fields::of(*value));
    if (const auto regions = fields.find("region")) {
      SP_TRY(out.regions, region_list(*regions));
    }
    if (const auto other_team = fields.find("other_team")) {
      SP_TRY(out.other_team, other_team->boolean());
    }
    if (const auto attested = fields.find("attested")) {
      SP_TRY(out.attested, attested->boolean());
    }
    SP_CHECK(fields.finish());
    return out;
  }

  Result<Limits> limits(const Value& value, ResourceKind kind) const {
    SP_TRY(Fields fields, Fields::of(value));
    Limits out;
    SP_TRY(const Value duration, fields.get("duration"));
    SP_TRY(const std::string text, duration.text());
    const auto parsed = parse_duration(text);
    if (!parsed || *parsed > kMaxGrantDuration)
      return duration.error("must be \"90s\", \"15m\" or \"2h\", at most 8 h");
    out.duration = *parsed;
    const auto accounts = fields.find("accounts");
    if (kind == ResourceKind::kSecret) {
      if (accounts) return accounts->error("a secret has no accounts");
    } else {
      if (!accounts) return fields.error("`accounts` is missing");
      SP_TRY(out.accounts, accounts->list(1, 16, [](const Value& v) {
        return v.word(is_account, "an account name of a-z, 0-9, '_', '-', at most 32 characters");
      }));
    }
    if (const auto command = fields.find("command")) {
      if (kind != ResourceKind::kSsh) return command->error("only for resources of kind ssh");
      SP_TRY(out.command, command->word(is_command, "the absolute path of a program, without arguments"));
    }
    if (const auto record = fields.find("record")) {
      if (kind != ResourceKind::kSsh) return record->error("only for resources of kind ssh");
      SP_TRY(const std::string mode, record->text());
      if (mode != "required" && mode != "off") return record->error("must be \"required\" or \"off\"");
      out.record = mode == "required";
    }
    SP_CHECK(fields.finish());
    return out;
  }

  Status rule(const Value& value) {
    SP_TRY(Fields fields, Fields::of(value));
    Rule out;
    SP_TRY(const Value id_value, fields.get("id"));
    SP_TRY(out.id, id_of<RuleId>(id_value));
    if (!rule_ids_.insert(out.id).second)
      return id_value.error("rule \"" + out.id.get() + "\" is defined twice");
    SP_TRY(const Value resources_value, fields.get("resource"));
    SP_TRY(out.resources, resources_value.list(1, 256, [this](const Value& v) -> Result<ResourceId> {
      SP_TRY(ResourceId id, id_of<ResourceId>(v));
      if (!resource_at_.contains(id)) return v.error("no resource \"" + id.get() + "\" is defined");
      return id;
    }));
    const ResourceKind kind = resources_[resource_at_.at(out.resources.front())].kind;
    for (const ResourceId& id : out.resources)
      if (resources_[resource_at_.at(id)].kind != kind)
        return resources_value.error("mixes kinds of resources");

    SP_TRY(const Value requester, fields.get("requester"));
    SP_TRY(Fields requester_fields, Fields::of(requester));
    SP_TRY(const Value requester_region, requester_fields.get("region"));
    SP_TRY(out.requester_regions, region_list(requester_region));
    if (const auto groups = requester_fields.find("group")) {
      SP_TRY(out.requester_groups, group_list(*groups));
    }
    SP_CHECK(requester_fields.finish());
    SP_TRY(const Value device, fields.get("device"));
    SP_TRY(out.device_regions, region_table(device));
    SP_TRY(const Value network, fields.get("network"));
    SP_TRY(out.network_regions, region_table(network));
    for (const Region& one : regions_)
      if (one.networks.empty() && std::find(out.network_regions.begin(), out.network_regions.end(), one.id) !=
                                      out.network_regions.end())
        return network.error("region \"" + one.id.get() +
                             "\" has no networks: sshd could not check where the session comes from");
    SP_TRY(out.approver, approver(fields.find("approver")));
    SP_TRY(const Value quorum_value, fields.get("quorum"));
    SP_TRY(out.quorum, quorum(quorum_value, out.approver));
    SP_TRY(const Value limits_value, fields.get("limits"));
    SP_TRY(out.limits, limits(limits_value, kind));
    SP_CHECK(fields.finish());
    rules_.push_back(std::move(out));
    return Done{};
  }

  struct NetworkAt {
    Network network;
    Value at;
  };

  std::string_view text_;
  RegionId region_;  // the authority's
  std::vector<Region> regions_;
  std::vector<Resource> resources_;
  std::vector<Rule> rules_;
  Roll people_;
  std::map<KeyId, std::pair<std::size_t, std::size_t>> token_at_;
  std::map<ResourceId, std::size_t> resource_at_;
  std::map<std::string, std::pair<std::size_t, std::size_t>, std::less<>> host_at_;

  // What must not occur twice, and where it stands.
  std::set<RegionId> region_ids_;
  std::vector<NetworkAt> networks_;
  std::set<std::string> countries_, token_ids_, host_keys_;
  std::set<RuleId> rule_ids_;
  std::map<KeyId, std::string> key_paths_;
  std::map<std::string, Value> host_names_;
};

}  // namespace

Result<Policy> parse_policy(std::string_view toml) {
  if (toml.size() > kMaxPolicyBytes)
    return Error{Code::kMalformed, Reason::kPolicyInvalid, "the document is longer than 1 MiB"};
  auto root = parse_toml(toml);
  if (!root) return Error{Code::kMalformed, Reason::kPolicyInvalid, root.error().what};
  return Loader{toml}.load(*root);
}

}  // namespace sallyport::policy

#include "tests/support/sample_policy.h"

#include <cstdlib>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"

namespace sallyport::test {
namespace {

std::string quoted(std::string_view text) {
  return '"' + std::string{text} + '"';
}
std::string quoted(const crypto::PublicKey& key) {
  return quoted(to_base64(key.spki()));
}
std::string quoted(const Digest256& digest) {
  return quoted("sha256:" + to_hex(digest));
}

template <class T, class Print>
std::string array(const std::vector<T>& items, Print print) {
  std::string out = "[";
  for (std::size_t i = 0; i < items.size(); ++i) out += (i == 0 ? "" : ", ") + print(items[i]);
  return out + "]";
}
std::string array(const std::vector<std::string>& items) {
  return array(items, [](const std::string& item) { return quoted(item); });
}
std::string quorum(const std::vector<SampleClause>& clauses) {
  return array(clauses, [](const SampleClause& clause) {
    return "{ group = " + quoted(clause.group) + ", approvals = " + std::to_string(clause.approvals) + " }";
  });
}
std::string token(const SampleToken& t) {
  return "{ id = " + quoted(t.id) + ", kind = \"p256\", sign = " + quoted(t.sign) +
         (t.agree ? ", agree = " + quoted(*t.agree) : "") + " }";
}
std::string host(const SampleHost& h) {
  return "{ name = " + quoted(h.name) + ", address = " + quoted(h.address) +
         ", port = " + std::to_string(h.port) + (h.keys.empty() ? "" : ", keys = " + array(h.keys)) + " }";
}

template <class T>
T& find_by_id(std::vector<T>& items, std::string_view id) {
  for (T& item : items)
    if (item.id == id) return item;
  std::abort();  // the test names something that the sample does not have
}

std::string fingerprint(const crypto::PublicKey& key) {  // RFC 8709 §4, as ssh-keygen -l prints it
  const Digest256 digest = crypto::sha256(
      Writer{}.prefixed32(std::string_view{"ssh-ed25519"}).prefixed32(ByteView{key.raw()}).bytes());
  std::string text = to_base64(view(digest));
  while (text.back() == '=') text.pop_back();
  return "SHA256:" + text;
}

crypto::PrivateKey p256() {
  return crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
}
crypto::PrivateKey ed25519() {
  return crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
}

SamplePolicy empty_policy(const SampleCompany& c) {
  return {.previous = {},
          .origin = "us.sallyport.corp.example/log/1",
          .region = "us",
          .log = c.log.public_key(),
          .ssh_ca = c.ssh_ca.public_key(),
          .x509_ca = c.x509_ca.public_key(),
          .lease = c.lease.public_key(),
          .secrets = c.secrets.public_key(),
          .witnesses = {},
          .tpm_roots = {},
          .change = {},
          .enrol = {},
          .revoke = "incident",
          .readers = "audit",
          .endpoints = {"https://us.sallyport.corp.example"},
          .tls = {c.tls.public_key()},
          .roster = {},
          .regions = {},
          .persons = {},
          .resources = {},
          .rules = {}};
}

}  // namespace

std::string vkey_text(std::string_view name, std::uint8_t type, const crypto::PublicKey& key) {
  Bytes typed{type};
  typed.insert(typed.end(), key.raw().begin(), key.raw().end());
  const Digest256 id = crypto::sha256({as_bytes(name), as_bytes("\n"), ByteView{typed}});
  return std::string{name} + "+" + to_hex(view(id).first(4)) + "+" + to_base64(typed);
}

std::string SamplePolicy::witness_text() const {
  std::string out = "log " + vkey_text(origin, 0x01, log) + "\n";
  std::string names;
  for (const SampleWitness& w : witnesses) {
    out += "witness " + w.name + " " + vkey_text(w.name, 0x04, w.key) + (w.url.empty() ? "" : " " + w.url) +
           "\n";
    names += " " + w.name;
  }
  return out + "group all-witnesses " + std::to_string(witness_quorum) + names + "\nquorum all-witnesses\n";
}

std::string SamplePolicy::toml() const {
  std::string out = "version = " + std::to_string(version) + "\n";
  if (previous) out += "previous = " + quoted(*previous) + "\n";
  const std::string_view log_algorithm =
      log.algorithm() == crypto::KeyAlgorithm::kEd25519 ? "ed25519" : "p256";
  out += "\n[authority]\norigin = " + quoted(origin) +
         (continues.empty() ? "" : "\ncontinues = " + continues) + "\nregion = " + quoted(region) +
         "\nkeys = { log = { alg = " + quoted(log_algorithm) + ", key = " + quoted(log) +
         " }, ssh_ca = " + quoted(ssh_ca) + ", x509_ca = " + quoted(x509_ca) + ", lease = " + quoted(lease) +
         ", secrets = " + quoted(secrets) + " }\n";
  out += "witnesses = \"\"\"\n" + witness_text() + "\"\"\"\n";
  out += "tpm_roots = " + quoted(crypto::sha256(tpm_roots)) + "\n";
  if (!references.empty()) out += "references = " + quoted(crypto::sha256(as_bytes(references))) + "\n";
  out += "change = { quorum = " + quorum(change) + " }\nenrol = { quorum = " + quorum(enrol) + " }\n";
  out += "revoke = { group = " + quoted(revoke) + " }\nreaders = { group = " + quoted(readers) + " }\n";
  out += "endpoints = " + array(endpoints) +
         "\ntls = " + array(tls, [](const crypto::PublicKey& key) { return quoted(key); }) + "\n";
  if (!roster.empty()) out += "roster = " + roster + "\n";
  if (!erase.empty()) out += "erase = " + erase + "\n";
  if (!hold.empty()) out += "hold = { group = " + quoted(hold) + " }\n";

  for (const SampleRegion& r : regions)
    out += "\n[[region]]\nid = " + quoted(r.id) + "\nnetworks = " + array(r.networks) +
           "\ncountries = " + array(r.countries) + "\n";
  for (const SamplePerson& p : persons)
    out += "\n[[person]]\nid = " + quoted(p.id) + "\nregion = " + quoted(p.region) +
           "\nteam = " + quoted(p.team) + "\ngroups = " + array(p.groups) +
           "\ntokens = " + array(p.tokens, token) + "\n";
  for (const SampleResource& r : resources)
    out += "\n[[resource]]\nid = " + quoted(r.id) + "\nkind = " + quoted(r.kind) +
           "\ndata = " + quoted(r.data) + "\n" +
           (r.hosts.empty() ? "" : "host = " + array(r.hosts, host) + "\n");
  for (const SampleRule& r : rules) {
    out += "\n[[rule]]\nid = " + quoted(r.id) + "\nresource = " + array(r.resources) +
           "\nrequester = { region = " + array(r.requester_regions) +
           (r.requester_groups.empty() ? "" : ", group = " + array(r.requester_groups)) +
           " }\ndevice = { region = " + array(r.device_regions) +
           " }\nnetwork = { region = " + array(r.network_regions) + " }\nquorum = " + quorum(r.quorum) + "\n";
    if (!r.approver.empty()) out += "approver = " + r.approver + "\n";
    out += "limits = { duration = " + quoted(r.duration) +
           (r.accounts.empty() ? "" : ", accounts = " + array(r.accounts)) +
           (r.command.empty() ? "" : ", command = " + quoted(r.command)) +
           (r.record.empty() ? "" : ", record = " + quoted(r.record)) + " }\n";
  }
  return out;
}

SamplePerson& SamplePolicy::person(std::string_view id) {
  return find_by_id(persons, id);
}
SampleResource& SamplePolicy::resource(std::string_view id) {
  return find_by_id(resources, id);
}
SampleRule& SamplePolicy::rule(std::string_view id) {
  return find_by_id(rules, id);
}

std::string SampleCompany::id(std::string_view name) {
  return name.find('@') == std::string_view::npos ? std::string{name} + "@corp.example" : std::string{name};
}

SamplePerson& SampleCompany::add_person(std::string name, std::string region, std::string team,
                                        std::vector<std::string> groups) {
  const crypto::PrivateKey key = p256();
  tokens.insert_or_assign(id(name), key);
  policy.persons.push_back(
      {id(name), std::move(region), std::move(team), std::move(groups), {{name + "-yk1", key.public_key()}}});
  return policy.persons.back();
}

const crypto::PrivateKey& SampleCompany::token(std::string_view person) const {
  return tokens.at(id(person));
}

SampleCompany::SampleCompany()
    : log(ed25519()),
      ssh_ca(p256()),
      x509_ca(p256()),
      lease(p256()),
      secrets(p256()),
      tls(p256()),
      policy(empty_policy(*this)) {
  for (const std::string name : {"witness-security", "witness-audit", "witness-cn", "witness-customer"}) {
    witnesses.push_back(ed25519());
    policy.witnesses.push_back({name, witnesses.back().public_key(), ""});
  }
  policy.witness_quorum = 3;
  policy.tpm_roots = to_bytes(as_bytes("no roots\n"));
  policy.change = {{"security", 3}};
  policy.enrol = {{"fleet", 1}, {"security", 1}};
  policy.roster = R"({ group = "leads", approvals = 1, may_fill = ["us-oncall"] })";
  policy.regions = {{"us", {"10.20.0.0/16", "127.0.0.0/8", "2001:db8:20::/48"}, {"US"}},
                    {"cn", {"10.86.0.0/16", "2001:db8:86::/48"}, {"CN"}}};

  add_person("erin", "us", "sre", {"db-oncall"});
  add_person("alice", "us", "trust", {"us-oncall", "leads"});
  add_person("bob", "us", "storage", {"us-oncall"});
  add_person("carol", "us", "net", {"us-oncall", "privacy"});
  add_person("dana", "us", "legal", {"privacy", "us-legal"});
  add_person("frank", "us", "it", {"fleet"});
  for (const char* name : {"grace", "heidi", "judy", "karl", "leo"})
    add_person(name, "us", "sec", {"security"});
  add_person("ivan", "us", "ir", {"incident"});
  add_person("olga", "us", "audit", {"audit"});
  add_person("mona", "us", "sre", {"us-oncall"});
  for (const char* name : {"wei", "li"}) add_person(name, "cn", "apps", {"apac-dev"});

  SampleResource user_db{.id = "user-db", .hosts = {}};
  for (const std::string name : {"db-7", "db-8"}) {
    const crypto::PrivateKey key = ed25519();
    host_keys.insert_or_assign(name, key);
    user_db.hosts.push_back({name, name + ".us.corp.example", 22, {fingerprint(key.public_key())}});
  }
  policy.resources = {user_db};

  SampleRule rule;
  rule.id = "us-oncall-to-user-db";
  rule.resources = {"user-db"};
  rule.requester_regions = rule.device_regions = rule.network_regions = {"us"};
  rule.requester_groups = {"db-oncall"};
  rule.quorum = {{"us-oncall", 2}, {"privacy", 1}};
  rule.accounts = {"dbadmin"};
  policy.rules.push_back(rule);

  rule.id = "foreign-read-only";
  rule.requester_regions = {"cn"};
  rule.requester_groups = {};
  rule.quorum = {{"us-oncall", 2}, {"us-legal", 1}};
  rule.duration = "5m";
  rule.accounts = {"readonly"};
  rule.command = "/usr/bin/db-masked-shell";
  policy.rules.push_back(rule);
}

}  // namespace sallyport::test

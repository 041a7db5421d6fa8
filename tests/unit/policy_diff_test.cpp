#include "attestation/policy/diff.h"

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "tests/support/matchers.h"
#include "tests/support/sample_policy.h"

namespace sallyport::policy {
namespace {

using test::SampleCompany;
using test::SamplePolicy;
using test::value_of;
using testing::HasSubstr;

const SampleCompany& company() {
  static const SampleCompany kCompany;
  return kCompany;
}

Policy load(const SamplePolicy& sample) {
  return value_of(parse_policy(sample.toml()));
}

std::vector<DiffLine> after(const std::function<void(SamplePolicy&)>& change) {
  SamplePolicy sample = company().policy;
  change(sample);
  return diff(load(company().policy), load(sample));
}

// only expects one line and gives it as a person reads it.
std::string only(const std::function<void(SamplePolicy&)>& change) {
  const std::vector<DiffLine> lines = after(change);
  EXPECT_EQ(lines.size(), 1U);
  return lines.empty() ? "" : render(lines.front());
}

TEST(PolicyDiff, OfAPolicyAndItselfIsEmpty) {
  EXPECT_TRUE(after([](SamplePolicy&) {}).empty());
  const Policy policy = load(company().policy);
  EXPECT_TRUE(diff(policy, value_of(parse_policy("# said otherwise\n" + policy.text))).empty());
}

TEST(PolicyDiff, ShowsVersions) {
  EXPECT_EQ(only([](auto& p) { p.version = 2, p.previous = crypto::sha256(as_bytes("1")); }),
            "version  ~ 1 → 2");
}

TEST(PolicyDiff, ShowsWhatANewPersonMayReach) {
  EXPECT_EQ(
      only([](auto& p) {
        p.persons.push_back({"zhu@corp.example", "cn", "apps", {"apac-dev"}, {}});
      }),
      "person   + zhu@corp.example   region cn; team apps; groups apac-dev; may reach: user-db as readonly "
      "(foreign-read-only)");
  EXPECT_THAT(
      only([](auto& p) { p.person("alice@corp.example").groups.push_back("db-oncall"); }),
      HasSubstr(
          "person   ~ alice@corp.example   groups us-oncall, leads → us-oncall, leads, db-oncall; may reach: "
          "user-db as dbadmin (us-oncall-to-user-db)"));
  EXPECT_THAT(only([](auto& p) { p.persons.pop_back(); }),
              HasSubstr("person   - li@corp.example   region cn"));
}

TEST(PolicyDiff, ShowsAnExchangedTokenKey) {
  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  const std::string line = only([&](auto& p) { p.person("bob@corp.example").tokens[0].sign = key; });
  EXPECT_THAT(line, HasSubstr("token bob-yk1 p256 " + to_hex(company().token("bob").public_key().id()) +
                              " → p256 " + to_hex(key.id())));
  EXPECT_THAT(only([&](auto& p) { p.person("bob@corp.example").tokens[0].agree = key; }),
              HasSubstr(", agree p256 " + to_hex(key.id())));
}

TEST(PolicyDiff, ShowsEachMemberOfARule) {
  const auto rule = [](const std::function<void(test::SampleRule&)>& change) {
    return only([&](SamplePolicy& p) { change(p.rules[0]); });
  };
  const std::string id = "rule     ~ us-oncall-to-user-db   ";
  EXPECT_EQ(rule([](auto& r) { r.duration = "30m"; }), id + "duration 15 min → 30 min");
  EXPECT_EQ(rule([](auto& r) { r.accounts.push_back("root"); }), id + "accounts dbadmin → dbadmin, root");
  EXPECT_EQ(rule([](auto& r) { r.command = "/bin/x"; }), id + "command any → /bin/x");
  EXPECT_EQ(rule([](auto& r) { r.record = "off"; }), id + "record required → off");
  EXPECT_EQ(rule([](auto& r) { r.quorum[0].approvals = 1; }),
            id + "quorum 2 of us-oncall and 1 of privacy → 1 of us-oncall and 1 of privacy");
  EXPECT_EQ(rule([](auto& r) { r.requester_regions.push_back("cn"); }), id + "requester.region us → us, cn");
  EXPECT_EQ(rule([](auto& r) { r.requester_groups.clear(); }), id + "requester.group db-oncall → any");
  EXPECT_EQ(rule([](auto& r) { r.device_regions = {"cn"}; }), id + "device.region us → cn");
  EXPECT_EQ(rule([](auto& r) { r.network_regions = {"cn"}; }), id + "network.region us → cn");
  EXPECT_EQ(rule([](auto& r) { r.approver = "{ other_team = false, attested = false }"; }),
            id + "approver of us, of another team, attested → of us, of any team, not attested");
}

TEST(PolicyDiff, ShowsTheOrderOfRules) {
  EXPECT_EQ(
      only([](auto& p) { std::swap(p.rules[0], p.rules[1]); }),
      "rule     ~ order   us-oncall-to-user-db, foreign-read-only → foreign-read-only, us-oncall-to-user-db");
  EXPECT_THAT(only([](auto& p) {
                test::SampleRule rule = p.rules[0];
                rule.id = "new";
                p.rules.insert(p.rules.begin(), rule);
              }),
              HasSubstr("place 1 of 3"));
}

TEST(PolicyDiff, ShowsTrustAnchors) {
  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  EXPECT_THAT(only([&](auto& p) { p.ssh_ca = key; }), HasSubstr("keys.ssh_ca p256 "));
  EXPECT_THAT(only([&](auto& p) { p.x509_ca = key; }), HasSubstr("keys.x509_ca p256 "));
  EXPECT_THAT(only([&](auto& p) { p.lease = key; }), HasSubstr("keys.lease p256 "));
  EXPECT_THAT(only([&](auto& p) { p.secrets = key; }), HasSubstr("keys.secrets p256 "));
  EXPECT_THAT(only([&](auto& p) { p.tls.push_back(key); }), HasSubstr("tls p256 "));
  EXPECT_THAT(only([&](auto& p) { p.tpm_roots = {1}; }), HasSubstr("tpm_roots "));
  EXPECT_EQ(only([&](auto& p) {
              p.change = {{"security", 4}};
            }),
            "authority ~ change 3 of security → 4 of security");
  EXPECT_EQ(only([&](auto& p) {
              p.enrol = {{"fleet", 1}};
            }),
            "authority ~ enrol 1 of fleet and 1 of security → 1 of fleet");
  EXPECT_EQ(only([&](auto& p) { p.revoke = "security"; }), "authority ~ revoke incident → security");
  EXPECT_EQ(only([&](auto& p) { p.readers = "security"; }), "authority ~ readers audit → security");
  EXPECT_EQ(only([&](auto& p) { p.endpoints = {"https://b.example"}; }),
            "authority ~ endpoints https://us.sallyport.corp.example → https://b.example");
  EXPECT_EQ(only([&](auto& p) { p.roster = ""; }), "authority ~ roster 1 of leads for us-oncall → none");
  EXPECT_EQ(only([&](auto& p) { p.hold = "us-legal"; }), "authority ~ hold nobody → us-legal");
  EXPECT_EQ(only([&](auto& p) {
              p.erase = R"({ quorum = [ { group = "security", approvals = 3 } ], retention = "400d" })";
            }),
            "authority ~ erase nobody → 3 of security after 400 days");
}

TEST(PolicyDiff, ShowsWitnessesLineByLine) {
  const auto lines = after([](auto& p) { p.witness_quorum = 2; });
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].sign, '-');
  EXPECT_THAT(lines[0].text, HasSubstr("group all-witnesses 3 "));
  EXPECT_EQ(lines[1].sign, '+');
  EXPECT_THAT(lines[1].text, HasSubstr("group all-witnesses 2 "));
}

TEST(PolicyDiff, ShowsRegionsAndResources) {
  EXPECT_EQ(only([](auto& p) { p.regions[1].networks = {"10.87.0.0/16"}; }),
            "region   ~ cn   networks 10.86.0.0/16, 2001:db8:86::/48 → 10.87.0.0/16");
  EXPECT_EQ(only([](auto& p) {
              p.regions[1].countries = {"CN", "HK"};
            }),
            "region   ~ cn   countries CN → CN, HK");
  EXPECT_EQ(only([](auto& p) {
              p.regions.push_back({"br", {}, {"BR"}});
            }),
            "region   + br   networks none; countries BR");
  EXPECT_THAT(only([](auto& p) { p.resources[0].hosts[0].address = "evil.example"; }),
              HasSubstr("resource ~ user-db   host db-7 db-7.us.corp.example port 22, keys SHA256:"));
  EXPECT_EQ(only([](auto& p) { p.resources[0].data = "test"; }), "resource ~ user-db   data user → test");
}

}  // namespace
}  // namespace sallyport::policy

#include <functional>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/ledger/witness_policy.h"
#include "attestation/policy/policy.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/sample_policy.h"

namespace sallyport::policy {
namespace {

using test::FailsWith;
using test::SampleCompany;
using test::SamplePolicy;
using test::Succeeds;
using test::value_of;
using testing::HasSubstr;

const SampleCompany& company() {
  static const SampleCompany kCompany;  // keys are made once
  return kCompany;
}

// replaced replaces the first `from`, which must be there.
std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) {
    ADD_FAILURE() << "the sample does not contain " << from;
    return text;
  }
  return text.replace(at, from.size(), to);
}

std::string erase_right(const std::string& group, unsigned approvals, const std::string& retention) {
  return "{ quorum = [ { group = \"" + group + "\", approvals = " + std::to_string(approvals) +
         " } ], retention = \"" + retention + "\" }";
}

// A change to the sample policy, or to its text, that must load, or must not and say why.
struct Case {
  std::string name;
  std::function<void(SamplePolicy&)> change;
  std::string refused_because;     // "": it loads
  std::string from = "", to = "";  // in the text
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class PolicyLoad : public testing::TestWithParam<Case> {};

TEST_P(PolicyLoad, AcceptsOrRefuses) {
  SamplePolicy sample = company().policy;
  if (GetParam().change) GetParam().change(sample);
  std::string text = sample.toml();
  if (!GetParam().from.empty()) text = replaced(text, GetParam().from, GetParam().to);
  const auto policy = parse_policy(text);
  if (GetParam().refused_because.empty()) {
    EXPECT_THAT(policy, Succeeds());
    return;
  }
  ASSERT_THAT(policy, FailsWith(Reason::kPolicyInvalid)) << text;
  EXPECT_EQ(policy.error().code, Code::kMalformed);
  EXPECT_THAT(policy.error().what, HasSubstr(GetParam().refused_because));
}

Case text(std::string name, std::string from, std::string to, std::string because) {
  return {std::move(name), nullptr, std::move(because), std::move(from), std::move(to)};
}

const test::SampleToken& token_of(SamplePolicy& p, std::string_view person) {
  return p.person(SampleCompany::id(person)).tokens.front();
}
test::SampleRule& oncall(SamplePolicy& p) {
  return p.rule("us-oncall-to-user-db");
}
test::SampleRule& foreign(SamplePolicy& p) {
  return p.rule("foreign-read-only");
}
test::SampleHost& db7(SamplePolicy& p) {
  return p.resource("user-db").hosts.front();
}

std::vector<Case> cases() {
  return {
      {"Sample", nullptr, ""},
      // the document
      text("UnknownKeyAtTop", "version = 1", "version = 1\nspeed = 3", "speed: unknown key"),
      text("UnknownKeyInAuthority", "tpm_roots", "superuser = \"root\"\ntpm_roots",
           "authority.superuser: unknown key"),
      text("UnknownKeyInKeys", "ssh_ca = ", "dsa = \"x\", ssh_ca = ", "authority.keys.dsa: unknown key"),
      text("UnknownKeyInLogKey", "{ alg = ", "{ size = 1, alg = ", "authority.keys.log.size: unknown key"),
      text("UnknownKeyInQuorumTable", "change = { ", "change = { any = true, ",
           "authority.change.any: unknown key"),
      text("UnknownKeyInClause", "{ group = \"security\", ", "{ group = \"security\", weight = 2, ",
           "weight: unknown key"),
      text("UnknownKeyInRevoke", "revoke = { ", "revoke = { approvals = 1, ",
           "authority.revoke.approvals: unknown key"),
      text("UnknownKeyInReaders", "readers = { ", "readers = { approvals = 1, ",
           "authority.readers.approvals: unknown key"),
      text("UnknownKeyInRoster", "may_fill", "may_add = [], may_fill",
           "authority.roster.may_add: unknown key"),
      text("UnknownKeyInRegion", "networks = [", "name = \"x\"\nnetworks = [", "region[1].name: unknown key"),
      text("UnknownKeyInPerson", "team = ", "admin = true\nteam = ", "person[1].admin: unknown key"),
      text("UnknownKeyInToken", "kind = \"p256\"", "kind = \"p256\", pin = \"1\"",
           "person[1].tokens[1].pin: unknown key"),
      text("UnknownKeyInResource", "kind = \"ssh\"", "kind = \"ssh\"\nuser = \"x\"",
           "resource[1].user: unknown key"),
      text("UnknownKeyInHost", "{ name = \"db-7\"", "{ os = \"x\", name = \"db-7\"",
           "resource[1].host[1].os: unknown key"),
      text("UnknownKeyInRule", "requester = ", "priority = 1\nrequester = ", "rule[1].priority: unknown key"),
      text("UnknownKeyInRequester", "requester = { ", "requester = { team = \"x\", ",
           "rule[1].requester.team: unknown key"),
      text("UnknownKeyInDevice", "device = { ", "device = { os = \"x\", ", "rule[1].device.os: unknown key"),
      text("UnknownKeyInNetwork", "network = { ", "network = { vpn = true, ",
           "rule[1].network.vpn: unknown key"),
      text("UnknownKeyInLimits", "limits = { ", "limits = { bytes = 1, ",
           "rule[1].limits.bytes: unknown key"),
      {"UnknownKeyInApprover", [](auto& p) { oncall(p).approver = "{ sleepy = true }"; },
       "rule[1].approver.sleepy: unknown key"},
      text("SameKeyTwice", "version = 1", "version = 1\nversion = 1", "line 2"),
      text("NotToml", "[authority]", "[authority", "line 3"),
      text("NotAscii", "version = 1", "version = 1 # \xC3\xA9", "line 1: only printable ASCII"),
      text("Delete", "version = 1", "version = 1 # \x7F", "only printable ASCII"),
      text("CarriageReturn", "version = 1\n", "version = 1\r\n", "only printable ASCII"),
      text("ContinuedLineWithCarriageReturn", "witnesses = \"\"\"\n", "witnesses = \"\"\"\\\r\n",
           "only printable ASCII"),
      text("Comment", "version = 1\n", "version = 1\t# \"why not = [[[[[[[[[ a.b.c.d.e.f.g.h.i.j\n", ""),
      text("EightBrackets", "readers = { group = \"audit\" }",
           "readers = { group = [[[[[[[\"audit\"]]]]]]] }", "must be a string"),
      text("NineBrackets", "readers = { group = \"audit\" }",
           "readers = { group = [[[[[[[[\"audit\"]]]]]]]] }", "nested too deep"),
      text("EightKeyParts", "version = 1\n", "version = 1\na.b.c.d.e.f.g.h = 1\n", "a: unknown key"),
      text("NineKeyParts", "version = 1\n", "version = 1\na.b.c.d.e.f.g.h.i = 1\n", "key of too many parts"),
      text("NineQuotedKeyParts", "version = 1\n", "version = 1\n\"=\".\"=\".'='.d.e.f.g.h.i = 1\n",
           "key of too many parts"),
      // version, previous
      {"VersionTwo", [](auto& p) { p.version = 2, p.previous = crypto::sha256(as_bytes("1")); }, ""},
      text("VersionZero", "version = 1", "version = 0", "version: must be an integer from 1"),
      text("VersionText", "version = 1", "version = \"1\"", "version: must be an integer"),
      text("VersionFloat", "version = 1", "version = 1.0", "line 1: something follows on the line"),
      text("VersionMissing", "version = 1\n", "", "`version` is missing"),
      {"VersionOneWithPrevious", [](auto& p) { p.previous = crypto::sha256(as_bytes("1")); },
       "version 1 has no previous"},
      {"VersionTwoWithoutPrevious", [](auto& p) { p.version = 2; }, "only version 1 may leave out"},
      {"PreviousZero", [](auto& p) { p.version = 2, p.previous = Digest256{}; },
       "previous: must be \"sha256:\""},
      // authority
      {"OriginWithTenant", [](auto& p) { p.origin = "us.sallyport.corp.example/acme/log/12"; }, ""},
      {"OriginUpperCase", [](auto& p) { p.origin = "US.corp.example/log/1"; }, "authority.origin"},
      {"OriginPlus", [](auto& p) { p.origin = "us+x.corp.example/log/1"; }, "authority.origin"},
      {"OriginWithoutDomain", [](auto& p) { p.origin = "log/1"; }, "authority.origin"},
      {"OriginWithoutGeneration", [](auto& p) { p.origin = "us.corp.example/log"; }, "authority.origin"},
      {"OriginGenerationZero", [](auto& p) { p.origin = "us.corp.example/log/0"; }, "authority.origin"},
      {"OriginOtherForm", [](auto& p) { p.origin = "us.corp.example/ledger/1"; }, "authority.origin"},
      {"Origin200",
       [](auto& p) {
         p.origin = "us.example/" + std::string(64, 'a') + "/" + std::string(64, 'b') + "/" +
                    std::string(53, 'c') + "/log/1";
       },
       ""},
      {"Origin201",
       [](auto& p) {
         p.origin = "us.example/" + std::string(64, 'a') + "/" + std::string(64, 'b') + "/" +
                    std::string(54, 'c') + "/log/1";
       },
       "authority.origin"},
      {"AuthorityRegionUnknown", [](auto& p) { p.region = "in"; }, "authority.region: no region \"in\""},
      {"LogKeyP256",
       [](auto& p) { p.log = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key(); }, ""},
      text("LogAlgorithmNotTheKeys", "alg = \"ed25519\"", "alg = \"p256\"", "is not of the stated `alg`"),
      text("LogAlgorithmUnknown", "alg = \"ed25519\"", "alg = \"any\"", "must be \"ed25519\" or \"p256\""),
      {"SshCaEd25519", [](auto& p) { p.ssh_ca = p.witnesses[0].key; },
       "authority.keys.ssh_ca: must be a P-256 key"},
      text("KeyNotBase64", "ssh_ca = \"", "ssh_ca = \"*",
           "authority.keys.ssh_ca: must be a SubjectPublicKeyInfo"),
      text("KeyMissing", "lease = ", "least = ", "`lease` is missing"),
      {"KeysOfAuthorityEqual", [](auto& p) { p.lease = p.ssh_ca; },
       "the same key is listed as authority.keys.ssh_ca"},
      {"LogKeyAsLease", [](auto& p) { p.log = p.lease; }, "the same key is listed as authority.keys.log"},
      {"TokenIsAuthorityKey", [](auto& p) { p.persons[0].tokens[0].sign = p.lease; },
       "the same key is listed as"},
      {"TlsIsAuthorityKey", [](auto& p) { p.tls = {p.secrets}; },
       "the same key is listed as authority.keys.secrets"},
      {"TlsTwice", [](auto& p) { p.tls.push_back(p.tls[0]); }, "the same key is listed as authority.tls[1]"},
      {"TlsNone", [](auto& p) { p.tls.clear(); }, "authority.tls: must not be empty"},
      text("WitnessesAbsent", "witnesses = \"\"\"", "witness = \"\"\"", "`witnesses` is missing"),
      {"WitnessesNone", [](auto& p) { p.witnesses.clear(); }, "names no witness"},
      text("WitnessQuorumNone", "\nquorum all-witnesses", "\nquorum none", "asks for no quorum"),
      text("WitnessQuorumAbsent", "\nquorum all-witnesses", "", "asks for no quorum"),
      text("WitnessesWithControlCharacter", "witnesses = \"\"\"", "witnesses = \"\"\"\\t",
           "authority.witnesses: holds"),
      text("RootsAbsent", "tpm_roots = ", "references = ", "`tpm_roots` is missing"),
      text("References",
           "tpm_roots = ", "references = \"sha256:" + std::string(64, '1') + "\"\ntpm_roots = ", ""),
      text("ExpiredEkAccepted", "tpm_roots = ", "expired_ek = \"accept\"\ntpm_roots = ", ""),
      text("ExpiredEkOtherWord",
           "tpm_roots = ", "expired_ek = \"refuse\"\ntpm_roots = ", "authority.expired_ek"),
      text("ExpiredEkNoText", "tpm_roots = ", "expired_ek = true\ntpm_roots = ", "authority.expired_ek"),
      text("ReferencesZero", "tpm_roots = ",
           "references = \"sha256:" + std::string(64, '0') + "\"\ntpm_roots = ", "authority.references"),
      text("DigestUpperCase", "tpm_roots = ",
           "references = \"sha256:" + std::string(64, 'A') + "\"\ntpm_roots = ", "authority.references"),
      text("DigestShort", "tpm_roots = ",
           "references = \"sha256:" + std::string(62, '1') + "\"\ntpm_roots = ", "authority.references"),
      text("DigestWithoutName", "tpm_roots = ", "references = \"" + std::string(64, '1') + "\"\ntpm_roots = ",
           "authority.references"),
      {"ChangeOfTwoPeopleForRulesOfThree",
       [](auto& p) {
         p.change = {{"security", 2}};
       },
       "`change` needs 2 people, fewer than the 3 of rule us-oncall"},
      {"ChangeInTwoClauses",
       [](auto& p) {
         p.change = {{"security", 2}, {"audit", 1}};
       },
       ""},
      {"ChangeOfNobody", [](auto& p) { p.change = {}; }, "authority.change.quorum: a quorum of nobody"},
      {"ChangeUnfillable",
       [](auto& p) {
         p.change = {{"security", 6}};
       },
       "authority.change.quorum: its groups cannot fill it"},
      {"ChangeJustFillable",
       [](auto& p) {
         p.change = {{"security", 5}};
       },
       ""},
      {"EnrolOfUnknownGroup",
       [](auto& p) {
         p.enrol = {{"fleets", 1}};
       },
       "nobody is in a group \"fleets\""},
      {"EnrolUnfillable",
       [](auto& p) {
         p.enrol = {{"fleet", 2}};
       },
       "authority.enrol.quorum: its groups cannot"},
      {"EnrolZero",
       [](auto& p) {
         p.enrol = {{"fleet", 0}};
       },
       "authority.enrol.quorum[1].approvals: must be an integer from 1"},
      {"RevokeOfUnknownGroup", [](auto& p) { p.revoke = "nobody"; },
       "authority.revoke.group: nobody is in a group"},
      {"ReadersOfUnknownGroup", [](auto& p) { p.readers = "nobody"; },
       "authority.readers.group: nobody is in a group"},
      {"RevokeByPeopleWithoutToken", [](auto& p) { p.person("ivan@corp.example").tokens.clear(); },
       "authority.revoke.group: nobody in it has a token"},
      {"EndpointWithPort",
       [](auto& p) {
         p.endpoints = {"https://127.0.0.1:8443", "https://[2001:db8::1]:443", "https://a.example"};
       },
       ""},
      {"EndpointHttp", [](auto& p) { p.endpoints = {"http://a.example"}; }, "authority.endpoints[1]"},
      {"EndpointPath", [](auto& p) { p.endpoints = {"https://a.example/"}; }, "authority.endpoints[1]"},
      {"EndpointUser", [](auto& p) { p.endpoints = {"https://x@a.example"}; }, "authority.endpoints[1]"},
      {"EndpointPortZero", [](auto& p) { p.endpoints = {"https://a.example:0"}; }, "authority.endpoints[1]"},
      {"EndpointPortTooLarge", [](auto& p) { p.endpoints = {"https://a.example:65536"}; },
       "authority.endpoints[1]"},
      {"EndpointTwice",
       [](auto& p) {
         p.endpoints = {"https://a.example", "https://a.example"};
       },
       "is listed twice"},
      {"EndpointsNone", [](auto& p) { p.endpoints = {}; }, "authority.endpoints: must not be empty"},
      {"RosterAbsent", [](auto& p) { p.roster = ""; }, ""},
      {"Erase", [](auto& p) { p.erase = erase_right("security", 3, "7d"); }, ""},
      {"EraseWithin7Days", [](auto& p) { p.erase = erase_right("security", 3, "167h"); },
       "authority.erase.retention"},
      {"EraseAfterAges", [](auto& p) { p.erase = erase_right("security", 3, "36501d"); },
       "authority.erase.retention"},
      {"EraseByFewerThanOpenADoor", [](auto& p) { p.erase = erase_right("security", 2, "7d"); },
       "`erase` needs 2 people, fewer than the 3 of rule"},
      {"EraseByNobody", [](auto& p) { p.erase = R"({ quorum = [], retention = "7d" })"; },
       "authority.erase.quorum"},
      {"EraseWithoutRetention",
       [](auto& p) { p.erase = R"({ quorum = [ { group = "security", approvals = 3 } ] })"; },
       "`retention` is missing"},
      {"EraseByAGroupThatIsNone", [](auto& p) { p.erase = erase_right("archivists", 3, "7d"); },
       "authority.erase.quorum"},
      {"Hold", [](auto& p) { p.hold = "us-legal"; }, ""},
      {"HoldOfAGroupThatIsNone", [](auto& p) { p.hold = "lawyers"; }, "authority.hold.group"},
      {"RosterOfUnknownGroup",
       [](auto& p) { p.roster = R"({ group = "leaders", approvals = 1, may_fill = ["us-oncall"] })"; },
       "authority.roster.group"},
      {"RosterFillsUnknownGroup",
       [](auto& p) { p.roster = R"({ group = "leads", approvals = 1, may_fill = ["x"] })"; },
       "authority.roster.may_fill[1]"},
      {"RosterFillsNothing",
       [](auto& p) { p.roster = R"({ group = "leads", approvals = 1, may_fill = [] })"; },
       "authority.roster.may_fill: must not be empty"},
      {"RosterFillsItself",
       [](auto& p) { p.roster = R"({ group = "leads", approvals = 1, may_fill = ["leads"] })"; },
       "may not choose among themselves"},
      {"RosterZero",
       [](auto& p) { p.roster = R"({ group = "leads", approvals = 0, may_fill = ["us-oncall"] })"; },
       "authority.roster.approvals"},
      {"RosterUnfillable",
       [](auto& p) { p.roster = R"({ group = "leads", approvals = 2, may_fill = ["us-oncall"] })"; },
       "authority.roster.approvals: group \"leads\" cannot fill"},
      // regions
      {"RegionTwice",
       [](auto& p) {
         p.regions.push_back({"us", {}, {}});
       },
       "region[3].id: region \"us\" is defined twice"},
      {"RegionNamedUnknown",
       [](auto& p) {
         p.regions.push_back({"unknown", {}, {}});
       },
       "it is no region"},
      {"RegionWithSpace",
       [](auto& p) {
         p.regions.push_back({"u s", {}, {}});
       },
       "region[3].id: must be an identifier"},
      {"NetworksApart",
       [](auto& p) {
         p.regions[0].networks = {"10.20.0.0/17", "10.20.128.0/17", "10.21.0.0/16"};
       },
       ""},
      {"NetworkInAnotherOfTheRegion",
       [](auto& p) {
         p.regions[0].networks = {"10.20.3.0/24", "10.20.0.0/16"};
       },
       "10.20.3.0/24 overlaps 10.20.0.0/16"},
      {"NetworkTwice",
       [](auto& p) {
         p.regions[0].networks = {"10.20.0.0/16", "10.20.0.0/16"};
       },
       "overlaps"},
      {"NetworkInAnotherRegion", [](auto& p) { p.regions[1].networks = {"10.20.9.0/24"}; },
       "10.20.9.0/24 overlaps 10.20.0.0/16 (region[1].networks[1])"},
      {"NetworkInNetworkFarBefore", [](auto& p) { p.regions[1].networks = {"10.0.0.0/8"}; }, "overlaps"},
      {"Network6InAnotherRegion", [](auto& p) { p.regions[1].networks = {"2001:db8:20:7::/64"}; },
       "overlaps"},
      {"Network6Beside", [](auto& p) { p.regions[1].networks = {"2001:db8:21::/48"}; }, ""},
      {"NetworkWithHostBits", [](auto& p) { p.regions[0].networks = {"10.20.0.1/16"}; },
       "bits are set after the prefix"},
      {"NetworkOfEverything", [](auto& p) { p.regions[0].networks = {"0.0.0.0/0"}; }, "not a prefix length"},
      {"NetworkOf33", [](auto& p) { p.regions[0].networks = {"10.20.0.0/33"}; }, "not a prefix length"},
      {"NetworkOf129", [](auto& p) { p.regions[0].networks = {"2001:db8::/129"}; }, "not a prefix length"},
      {"NetworkOf128",
       [](auto& p) {
         p.regions[0].networks = {"2001:db8::/128", "10.20.0.1/32"};
       },
       ""},
      {"NetworkWithoutPrefix", [](auto& p) { p.regions[0].networks = {"10.20.0.0"}; },
       "needs a prefix length"},
      {"NetworkMapped", [](auto& p) { p.regions[0].networks = {"::ffff:10.20.0.0/24"}; },
       "an IPv4 network written as IPv6"},
      {"CountryTwice", [](auto& p) { p.regions[1].countries = {"US"}; }, "country US is listed twice"},
      {"CountryTwo",
       [](auto& p) {
         p.regions[1].countries = {"CN", "HK"};
       },
       ""},
      {"CountryLowerCase", [](auto& p) { p.regions[1].countries = {"cn"}; }, "must be two capitals"},
      {"CountryLong", [](auto& p) { p.regions[1].countries = {"CHN"}; }, "must be two capitals"},
      // people
      {"PersonTwice", [](auto& p) { p.persons.push_back(p.persons[0]); },
       "person[17].id: person \"erin@corp.example\" is defined twice"},
      {"PersonUpperCase", [](auto& p) { p.persons[0].id = "Erin@corp.example"; }, "person[1].id"},
      {"PersonTwoAts", [](auto& p) { p.persons[0].id = "erin@x@corp.example"; }, "person[1].id"},
      {"PersonWithoutAt", [](auto& p) { p.persons[0].id = "erin+db"; }, ""},
      {"PersonOfUnknownRegion", [](auto& p) { p.persons[0].region = "in"; },
       "person[1].region: no region \"in\""},
      {"PersonOfRegionUnknown", [](auto& p) { p.persons[0].region = "unknown"; },
       "person[1].region: no region"},
      {"PersonWithoutTeam", [](auto& p) { p.persons[0].team = ""; }, "person[1].team"},
      {"GroupTwice", [](auto& p) { p.persons[0].groups.push_back("db-oncall"); },
       "person[1].groups[2]: is listed twice"},
      {"PersonWithoutToken", [](auto& p) { p.persons[0].tokens.clear(); }, ""},
      {"PersonWithTwoTokens",
       [](auto& p) {
         p.persons[0].tokens.push_back(
             {"erin-yk2", crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key()});
       },
       ""},
      {"TokenIdTwice",
       [](auto& p) {
         p.persons[0].tokens.push_back(
             {"alice-yk1", crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key()});
       },
       "token \"alice-yk1\" is defined twice"},
      {"TokenKeyOfTwoPeople", [](auto& p) { p.persons[1].tokens[0].sign = token_of(p, "erin").sign; },
       "person[2].tokens[1].sign: the same key is listed as person[1].tokens[1].sign"},
      {"TokenKeyTwiceOfOnePerson",
       [](auto& p) {
         p.persons[0].tokens.push_back({"erin-yk2", token_of(p, "erin").sign});
       },
       "the same key is listed"},
      {"AgreeKey",
       [](auto& p) {
         p.persons[0].tokens[0].agree =
             crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
       },
       ""},
      {"AgreeKeyIsSignKey", [](auto& p) { p.persons[0].tokens[0].agree = token_of(p, "erin").sign; },
       "the same key is listed"},
      {"AgreeKeyIsAnothersSignKey", [](auto& p) { p.persons[0].tokens[0].agree = token_of(p, "bob").sign; },
       "the same key is listed"},
      {"TokenEd25519", [](auto& p) { p.persons[0].tokens[0].sign = p.witnesses[0].key; },
       "must be a P-256 key"},
      text("TokenKindOfTheFuture", "kind = \"p256\"", "kind = \"webauthn\"",
           "the only kind of token is \"p256\""),
      // resources
      {"ResourceTwice",
       [](auto& p) { p.resources.push_back({.id = "user-db", .kind = "secret", .hosts = {}}); },
       "resource \"user-db\" is defined twice"},
      {"ResourceKindUnknown", [](auto& p) { p.resources[0].kind = "telnet"; },
       "must be \"ssh\", \"x509\" or \"secret\""},
      {"ResourceWithoutHost", [](auto& p) { p.resources[0].hosts.clear(); }, "`host` is missing"},
      {"SecretWithHost", [](auto& p) { p.resources[0].kind = "secret"; }, "a secret has no hosts"},
      {"ResourceDataEmpty", [](auto& p) { p.resources[0].data = ""; }, "resource[1].data"},
      {"HostTwice", [](auto& p) { p.resources[0].hosts[1].name = "db-7"; }, "host \"db-7\" is defined twice"},
      {"HostOfTwoResources", [](auto& p) { p.resources.push_back({.id = "other", .hosts = {db7(p)}}); },
       "host \"db-7\" is defined twice"},
      {"HostNamedLikeAnotherResource",
       [](auto& p) { p.resources.push_back({.id = "db-7", .kind = "secret", .hosts = {}}); },
       "host \"db-7\" has the name of another resource"},
      {"HostNamedLikeItsResource", [](auto& p) { db7(p).name = "user-db"; }, ""},
      {"HostAddressIp", [](auto& p) { db7(p).address = "2001:db8:20::7"; }, ""},
      {"HostAddressWithOption", [](auto& p) { db7(p).address = "-oProxyCommand=x"; },
       "host[1].address: must be a DNS name"},
      {"HostAddressWithSpace", [](auto& p) { db7(p).address = "a b"; }, "host[1].address"},
      {"HostAddressEmpty", [](auto& p) { db7(p).address = ""; }, "host[1].address"},
      {"HostPortZero", [](auto& p) { db7(p).port = 0; }, "host[1].port: must be an integer from 1 to 65535"},
      {"HostPortLargest", [](auto& p) { db7(p).port = 65535; }, ""},
      text("HostPortTooLarge", "port = 22", "port = 65536", "host[1].port"),
      {"HostKeyNone", [](auto& p) { db7(p).keys.clear(); }, "`keys` is missing"},
      {"HostKeyTwo", [](auto& p) { db7(p).keys.push_back("SHA256:" + std::string(42, 'B') + "A"); }, ""},
      {"HostKeyMd5", [](auto& p) { db7(p).keys[0] = "MD5:00:11"; }, "must be \"SHA256:\" and 43"},
      {"HostKeyShort", [](auto& p) { db7(p).keys[0].pop_back(); }, "must be \"SHA256:\" and 43"},
      {"HostKeyNotCanonical", [](auto& p) { db7(p).keys[0] = "SHA256:" + std::string(43, 'B'); },
       "must be \"SHA256:\" and 43"},
      {"HostKeyOfTwoHosts", [](auto& p) { p.resources[0].hosts[1].keys = db7(p).keys; },
       "the same host key is listed twice"},
      // rules
      {"NoRules", [](auto& p) { p.rules.clear(); }, ""},
      {"RuleTwice", [](auto& p) { p.rules.push_back(oncall(p)); },
       "rule \"us-oncall-to-user-db\" is defined twice"},
      {"RuleOfUnknownResource",
       [](auto& p) {
         oncall(p).resources = {"user-db", "mail"};
       },
       "no resource \"mail\" is defined"},
      {"RuleOfNoResource", [](auto& p) { oncall(p).resources = {}; }, "rule[1].resource: must not be empty"},
      {"RuleMixesKinds",
       [](auto& p) {
         p.resources.push_back({.id = "api-key", .kind = "secret", .hosts = {}});
         oncall(p).resources = {"user-db", "api-key"};
       },
       "mixes kinds"},
      {"RuleOfSecret",
       [](auto& p) {
         p.resources.push_back({.id = "api-key", .kind = "secret", .hosts = {}});
         oncall(p).resources = {"api-key"};
         oncall(p).accounts = {};
       },
       ""},
      {"RuleOfSecretWithAccounts",
       [](auto& p) {
         p.resources.push_back({.id = "api-key", .kind = "secret", .hosts = {}});
         oncall(p).resources = {"api-key"};
       },
       "a secret has no accounts"},
      {"RuleOfX509",
       [](auto& p) {
         p.resources[0].kind = "x509";
         p.rules.pop_back();
       },
       ""},
      {"RuleOfX509WithCommand", [](auto& p) { p.resources[0].kind = "x509"; },
       "rule[2].limits.command: only for resources of kind ssh"},
      {"RequesterWithoutRegion", [](auto& p) { oncall(p).requester_regions = {}; },
       "rule[1].requester.region: must not be empty"},
      text("RequesterMissing", "requester = { region", "requesters = { region", "`requester` is missing"),
      text("RequesterRegionMissing", "requester = { region = [\"cn\"] }",
           "requester = { group = [\"apac-dev\"] }", "rule[2].requester: `region` is missing"),
      text("DeviceMissing", "device = ", "devices = ", "`device` is missing"),
      text("DeviceRegionMissing", "device = { region = [\"us\"] }", "device = { }",
           "rule[1].device: `region` is missing"),
      {"DeviceWithoutRegion", [](auto& p) { oncall(p).device_regions = {}; },
       "rule[1].device.region: must not be empty"},
      text("NetworkMissing", "network = ", "networks = ", "`network` is missing"),
      text("NetworkRegionMissing", "network = { region = [\"us\"] }", "network = { }",
           "rule[1].network: `region` is missing"),
      {"NetworkWithoutRegion", [](auto& p) { oncall(p).network_regions = {}; },
       "rule[1].network.region: must not be empty"},
      {"RequesterOfRegionUnknown",
       [](auto& p) {
         oncall(p).requester_regions = {"us", "unknown"};
       },
       "no region \"unknown\""},
      {"DeviceOfRegionUnknown", [](auto& p) { oncall(p).device_regions = {"unknown"}; },
       "no region \"unknown\""},
      {"NetworkOfRegionUnknown", [](auto& p) { oncall(p).network_regions = {"unknown"}; },
       "no region \"unknown\""},
      {"RequesterOfUndefinedRegion", [](auto& p) { oncall(p).requester_regions = {"in"}; },
       "no region \"in\""},
      {"RegionTwiceInRule",
       [](auto& p) {
         oncall(p).device_regions = {"us", "us"};
       },
       "rule[1].device.region[2]: is listed twice"},
      {"NetworkOfRegionWithoutNetworks",
       [](auto& p) {
         p.regions[1].networks = {};
         oncall(p).network_regions = {"us", "cn"};
       },
       "region \"cn\" has no networks"},
      {"NetworkOfRegionWithNetworks",
       [](auto& p) {
         oncall(p).network_regions = {"us", "cn"};
       },
       ""},
      {"RegionWithoutNetworks", [](auto& p) { p.regions[1].networks = {}; }, ""},
      {"RequesterOfUnknownGroup", [](auto& p) { oncall(p).requester_groups = {"dba"}; },
       "nobody is in a group \"dba\""},
      text("RequesterGroupEmpty", ", group = [\"db-oncall\"]", ", group = []",
           "rule[1].requester.group: must not be empty"),
      {"QuorumOfUnknownGroup", [](auto& p) { oncall(p).quorum[0].group = "x"; },
       "rule[1].quorum[1].group: nobody is in a group"},
      {"QuorumZero", [](auto& p) { oncall(p).quorum[0].approvals = 0; },
       "rule[1].quorum[1].approvals: must be an integer from 1"},
      {"QuorumNone", [](auto& p) { oncall(p).quorum = {}; }, "rule[1].quorum: a quorum of nobody"},
      text("QuorumMissing", "network = { region = [\"us\"] }\nquorum",
           "network = { region = [\"us\"] }\nquorums", "`quorum` is missing"),
      {"QuorumNamesAGroupTwice",
       [](auto& p) {
         oncall(p).quorum = {{"us-oncall", 1}, {"us-oncall", 1}};
       },
       "has two clauses"},
      {"QuorumOfAllFour",
       [](auto& p) {
         oncall(p).quorum = {{"us-oncall", 4}};
         p.change = {{"security", 4}};
       },
       ""},
      {"QuorumOfFiveOfFour",
       [](auto& p) {
         oncall(p).quorum = {{"us-oncall", 5}};
         p.change = {{"security", 5}};
       },
       "rule[1].quorum: its groups cannot fill it"},
      // carol is in both groups; she counts once: 4 of us-oncall leave only dana for privacy
      {"QuorumThatSharesPeople",
       [](auto& p) {
         oncall(p).quorum = {{"us-oncall", 4}, {"privacy", 1}};
         p.change = {{"security", 5}};
       },
       ""},
      {"QuorumThatCountsOnePersonTwice",
       [](auto& p) {
         oncall(p).quorum = {{"us-oncall", 4}, {"privacy", 2}};
         p.change = {{"security", 5}, {"audit", 1}};
       },
       "rule[1].quorum: its groups cannot fill it"},
      {"QuorumOfPeopleWithoutToken", [](auto& p) { p.person("dana@corp.example").tokens.clear(); },
       "rule[2].quorum: its groups cannot fill it with distinct people who have a token"},
      {"QuorumOfPeopleOfAnotherRegion", [](auto& p) { p.person("dana@corp.example").region = "cn"; },
       "and are of the approvers' regions"},
      {"QuorumOfPeopleOfAnotherRegionThatIsAllowed",
       [](auto& p) {
         p.person("dana@corp.example").region = "cn";
         foreign(p).approver = "{ region = [\"us\", \"cn\"] }";
       },
       ""},
      {"ApproverOfUndefinedRegion", [](auto& p) { oncall(p).approver = "{ region = [\"in\"] }"; },
       "rule[1].approver.region[1]: no region"},
      {"ApproverOfNoRegion", [](auto& p) { oncall(p).approver = "{ region = [] }"; },
       "rule[1].approver.region: must not be empty"},
      {"ApproverAttestedText", [](auto& p) { oncall(p).approver = "{ attested = \"no\" }"; },
       "rule[1].approver.attested: must be true or false"},
      {"DurationOfEightHours", [](auto& p) { oncall(p).duration = "8h"; }, ""},
      {"DurationOver", [](auto& p) { oncall(p).duration = "481m"; }, "rule[1].limits.duration"},
      {"DurationOfOneSecond", [](auto& p) { oncall(p).duration = "1s"; }, ""},
      {"DurationZero", [](auto& p) { oncall(p).duration = "0m"; }, "rule[1].limits.duration"},
      {"DurationNegative", [](auto& p) { oncall(p).duration = "-5m"; }, "rule[1].limits.duration"},
      {"DurationWithoutUnit", [](auto& p) { oncall(p).duration = "15"; }, "rule[1].limits.duration"},
      {"DurationInDays", [](auto& p) { oncall(p).duration = "1d"; }, "rule[1].limits.duration"},
      {"DurationLeadingZero", [](auto& p) { oncall(p).duration = "015m"; }, "rule[1].limits.duration"},
      {"DurationHuge", [](auto& p) { oncall(p).duration = "99999999999999999999m"; },
       "rule[1].limits.duration"},
      {"AccountsNone", [](auto& p) { oncall(p).accounts = {}; }, "`accounts` is missing"},
      text("AccountsEmpty", "accounts = [\"dbadmin\"]", "accounts = []",
           "rule[1].limits.accounts: must not be empty"),
      {"AccountsTwo",
       [](auto& p) {
         oncall(p).accounts = {"dbadmin", "_db-2"};
       },
       ""},
      {"AccountTwice",
       [](auto& p) {
         oncall(p).accounts = {"dbadmin", "dbadmin"};
       },
       "is listed twice"},
      {"AccountEmpty", [](auto& p) { oncall(p).accounts = {""}; }, "rule[1].limits.accounts[1]"},
      {"AccountWithOption", [](auto& p) { oncall(p).accounts = {"-oX"}; }, "rule[1].limits.accounts[1]"},
      {"AccountWithSpace", [](auto& p) { oncall(p).accounts = {"db admin"}; }, "rule[1].limits.accounts[1]"},
      {"AccountWithSemicolon", [](auto& p) { oncall(p).accounts = {"a;id"}; }, "rule[1].limits.accounts[1]"},
      {"AccountOf32", [](auto& p) { oncall(p).accounts = {std::string(32, 'a')}; }, ""},
      {"AccountOf33", [](auto& p) { oncall(p).accounts = {std::string(33, 'a')}; },
       "rule[1].limits.accounts[1]"},
      {"CommandRelative", [](auto& p) { foreign(p).command = "db-masked-shell"; }, "rule[2].limits.command"},
      {"CommandWithArguments", [](auto& p) { foreign(p).command = "/bin/sh -c id"; },
       "rule[2].limits.command"},
      {"CommandUpwards", [](auto& p) { foreign(p).command = "/usr/bin/../sbin/x"; },
       "rule[2].limits.command"},
      {"CommandEmptyPart", [](auto& p) { foreign(p).command = "/usr//x"; }, "rule[2].limits.command"},
      {"CommandRoot", [](auto& p) { foreign(p).command = "/"; }, "rule[2].limits.command"},
      {"CommandWithShellSyntax", [](auto& p) { foreign(p).command = "/bin/$(id)"; },
       "rule[2].limits.command"},
      {"CommandOf256", [](auto& p) { foreign(p).command = "/" + std::string(255, 'a'); }, ""},
      {"CommandOf257", [](auto& p) { foreign(p).command = "/b/" + std::string(254, 'a'); },
       "rule[2].limits.command"},
      {"RecordRequired", [](auto& p) { oncall(p).record = "required"; }, ""},
      {"RecordOff", [](auto& p) { oncall(p).record = "off"; }, ""},
      {"RecordUnknown", [](auto& p) { oncall(p).record = "maybe"; }, "rule[1].limits.record"},
  };
}

INSTANTIATE_TEST_SUITE_P(Rules, PolicyLoad, testing::ValuesIn(cases()),
                         [](const auto& parameter) { return parameter.param.name; });

TEST(PolicyLoad, RefusesMoreThanOneMebibyte) {
  std::string text = company().policy.toml() + "#";
  text.resize(kMaxPolicyBytes, 'x');
  EXPECT_THAT(parse_policy(text), Succeeds());
  EXPECT_THAT(parse_policy(text + "x"), FailsWith(Reason::kPolicyInvalid));
}

TEST(PolicyLoad, SurvivesDeepNesting) {
  const std::size_t half = 400'000;
  EXPECT_THAT(parse_policy("a = " + std::string(half, '[')), FailsWith(Reason::kPolicyInvalid));
  std::string dotted = "a";
  for (std::size_t i = 0; i < half; ++i) dotted += ".a";
  EXPECT_THAT(parse_policy(dotted + " = 1"), FailsWith(Reason::kPolicyInvalid));
  EXPECT_THAT(parse_policy("[" + dotted + "]"), FailsWith(Reason::kPolicyInvalid));
}

TEST(PolicyLoad, SaysTheLine) {
  const std::string text = replaced(company().policy.toml(), "\n[[rule]]", "\n[[rule]]\nbad = 1");
  const auto line =
      std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(text.find("bad = 1")), '\n') + 1;
  EXPECT_THAT(parse_policy(text).error().what, HasSubstr("line " + std::to_string(line) + ", rule[1].bad"));
}

TEST(Policy, KeepsTextAndDigest) {
  const std::string text = company().policy.toml() + "# the end, without a line feed";
  const Policy policy = value_of(parse_policy(text));
  EXPECT_EQ(policy.text, text);
  EXPECT_EQ(policy.digest, crypto::sha256(as_bytes(text)));
  EXPECT_EQ(value_of(parse_policy(policy.text)).digest, policy.digest);
}

TEST(Policy, HoldsWhatTheDocumentSays) {
  SamplePolicy sample = company().policy;
  sample.version = 7;
  sample.previous = crypto::sha256(as_bytes("6"));
  sample.person("erin@corp.example").tokens[0].agree =
      crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  sample.rule("us-oncall-to-user-db").record = "off";
  sample.rule("foreign-read-only").approver =
      "{ region = [\"us\", \"cn\"], other_team = false, attested = false }";
  const Policy policy = value_of(parse_policy(sample.toml()));
  EXPECT_EQ(policy.version, 7U);
  EXPECT_EQ(policy.previous, sample.previous);
  EXPECT_EQ(policy.authority.origin.get(), sample.origin);
  EXPECT_EQ(policy.authority.region.get(), "us");
  EXPECT_EQ(policy.authority.keys.log, sample.log);
  EXPECT_EQ(policy.authority.keys.ssh_ca, sample.ssh_ca);
  EXPECT_EQ(policy.authority.keys.x509_ca, sample.x509_ca);
  EXPECT_EQ(policy.authority.keys.lease, sample.lease);
  EXPECT_EQ(policy.authority.keys.secrets, sample.secrets);
  EXPECT_EQ(policy.authority.witnesses, sample.witness_text());
  EXPECT_EQ(policy.authority.references, std::nullopt);
  EXPECT_EQ(policy.authority.tpm_roots, crypto::sha256(sample.tpm_roots));
  EXPECT_EQ(policy.authority.change, (Quorum{{GroupId{"security"}, 3}}));
  EXPECT_EQ(policy.authority.enrol, (Quorum{{GroupId{"fleet"}, 1}, {GroupId{"security"}, 1}}));
  EXPECT_EQ(policy.authority.revoke.get(), "incident");
  EXPECT_EQ(policy.authority.readers.get(), "audit");
  EXPECT_EQ(policy.authority.endpoints, sample.endpoints);
  EXPECT_EQ(policy.authority.tls, sample.tls);
  ASSERT_TRUE(policy.authority.roster.has_value());
  EXPECT_EQ(policy.authority.roster->group.get(), "leads");
  EXPECT_EQ(policy.authority.roster->approvals, 1U);
  EXPECT_EQ(policy.authority.roster->may_fill, std::vector{GroupId{"us-oncall"}});

  const Rule& first = policy.rules[0];
  EXPECT_EQ(first.requester_groups, std::vector{GroupId{"db-oncall"}});
  EXPECT_EQ(first.limits.duration, std::chrono::minutes{15});
  EXPECT_EQ(first.limits.accounts, std::vector<std::string>{"dbadmin"});
  EXPECT_EQ(first.limits.command, "");
  EXPECT_FALSE(first.limits.record);
  // `approver` absent: this region, another team, attested.
  EXPECT_EQ(first.approver, (ApproverCondition{{RegionId{"us"}}, true, true}));
  const Rule& second = policy.rules[1];
  EXPECT_TRUE(second.requester_groups.empty());
  EXPECT_EQ(second.limits.command, "/usr/bin/db-masked-shell");
  EXPECT_TRUE(second.limits.record);
  EXPECT_EQ(second.approver, (ApproverCondition{{RegionId{"us"}, RegionId{"cn"}}, false, false}));
}

TEST(Policy, FillsAnAbsentPartOfApproverStrictly) {
  SamplePolicy sample = company().policy;
  sample.rule("us-oncall-to-user-db").approver = "{ other_team = false }";
  const Policy policy = value_of(parse_policy(sample.toml()));
  EXPECT_EQ(policy.rules[0].approver, (ApproverCondition{{RegionId{"us"}}, false, true}));
}

TEST(Policy, FindsWhatIsThereAndNothingElse) {
  const Policy policy = value_of(parse_policy(company().policy.toml()));
  ASSERT_NE(find_person(policy, PersonId{"wei@corp.example"}), nullptr);
  EXPECT_EQ(find_person(policy, PersonId{"wei@corp.example"})->region.get(), "cn");
  EXPECT_EQ(find_person(policy, PersonId{"wei"}), nullptr);
  const auto token = find_token(policy, company().token("bob").public_key().id());
  ASSERT_TRUE(token.has_value());
  EXPECT_EQ(token->person->id.get(), "bob@corp.example");
  EXPECT_EQ(token->token->id, "bob-yk1");
  EXPECT_FALSE(find_token(policy, company().lease.public_key().id()).has_value());
  ASSERT_NE(find_resource(policy, ResourceId{"user-db"}), nullptr);
  EXPECT_EQ(find_resource(policy, ResourceId{"db-7"}), nullptr);
  const auto host = find_host(policy, "db-8");
  ASSERT_TRUE(host.has_value());
  EXPECT_EQ(host->host->address, "db-8.us.corp.example");
  EXPECT_EQ(host->resource->id.get(), "user-db");
  EXPECT_FALSE(find_host(policy, "user-db").has_value());
  ASSERT_NE(find_rule(policy, RuleId{"foreign-read-only"}), nullptr);
  EXPECT_EQ(find_rule(policy, RuleId{"x"}), nullptr);
  EXPECT_EQ(find_region(policy, RegionId{"unknown"}), nullptr);
  EXPECT_EQ(source_networks(policy, policy.rules[0]),
            (std::vector<std::string>{"10.20.0.0/16", "127.0.0.0/8", "2001:db8:20::/48"}));
}

TEST(Policy, AgreeKeysAreNoSigners) {
  SamplePolicy sample = company().policy;
  const auto agree = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  sample.person("erin@corp.example").tokens[0].agree = agree;
  EXPECT_FALSE(find_token(value_of(parse_policy(sample.toml())), agree.id()).has_value());
}

TEST(Policy, SurvivesACopyOfItself) {
  auto original = std::make_unique<Policy>(value_of(parse_policy(company().policy.toml())));
  const Policy copy = *original;
  original.reset();
  EXPECT_EQ(find_person(copy, PersonId{"li@corp.example"})->team, "apps");
  EXPECT_EQ(find_host(copy, "db-7")->host->port, 22);
}

TEST(PolicySuccessor, IsTheNextVersionThatNamesTheDigest) {
  const Policy one = value_of(parse_policy(company().policy.toml()));
  const auto next = [&](const std::function<void(SamplePolicy&)>& change) {
    SamplePolicy sample = company().policy;
    sample.version = 2;
    sample.previous = one.digest;
    change(sample);
    return check_successor(one, value_of(parse_policy(sample.toml())));
  };
  EXPECT_THAT(next([](SamplePolicy&) {}), Succeeds());
  EXPECT_THAT(next([](SamplePolicy& p) { p.version = 3; }), FailsWith(Reason::kPolicyNotSuccessor));
  EXPECT_THAT(next([](SamplePolicy& p) { p.previous = crypto::sha256(as_bytes("other")); }),
              FailsWith(Reason::kPolicyNotSuccessor));
  EXPECT_THAT(next([](SamplePolicy& p) { p.origin = "us.sallyport.corp.example/log/2"; }),
              FailsWith(Reason::kPolicyNotSuccessor));
  EXPECT_THAT(next([](SamplePolicy& p) {
                p.region = "cn";
                for (auto& rule : p.rules) rule.approver = "{ region = [\"us\"] }";
              }),
              FailsWith(Reason::kPolicyNotSuccessor));
}

TEST(PolicyRoster, ChoosesOnlyAmongListedPeople) {
  const Policy policy = value_of(parse_policy(company().policy.toml()));
  const auto roster = [](const char* group, std::set<PersonId> people) {
    return Roster{{{GroupId{group}, std::move(people)}}};
  };
  EXPECT_THAT(check_roster(policy, roster("us-oncall", {PersonId{"bob@corp.example"}})), Succeeds());
  EXPECT_THAT(check_roster(policy, roster("us-oncall", {PersonId{"erin@corp.example"}})),
              FailsWith(Code::kDenied));
  EXPECT_THAT(check_roster(policy, roster("us-oncall", {PersonId{"zoe@corp.example"}})),
              FailsWith(Code::kDenied));
  EXPECT_THAT(check_roster(policy, roster("security", {PersonId{"grace@corp.example"}})),
              FailsWith(Code::kDenied));
  SamplePolicy without = company().policy;
  without.roster = "";
  EXPECT_THAT(check_roster(value_of(parse_policy(without.toml())), {}), FailsWith(Code::kDenied));

  const Roster duty = roster("us-oncall", {PersonId{"bob@corp.example"}});
  const Person& alice = *find_person(policy, PersonId{"alice@corp.example"});
  EXPECT_TRUE(is_member(alice, GroupId{"us-oncall"}));
  EXPECT_FALSE(is_member(alice, GroupId{"us-oncall"}, duty));
  EXPECT_TRUE(is_member(alice, GroupId{"leads"}, duty));
  EXPECT_FALSE(is_member(alice, GroupId{"privacy"}, duty));
}

TEST(PolicyVector, LoadsTheRealisticSample) {
  const Bytes bytes = test::read_file("tests/vectors/policy/us.toml");
  const Policy policy = value_of(parse_policy(as_text(bytes)));
  EXPECT_EQ(to_hex(policy.digest), "f6a2a42731c69e01cedc3a7fa15455f3486efe8957d5d75841974cb4b9838baa");
  EXPECT_EQ(policy.version, 7U);
  EXPECT_EQ(policy.regions.size(), 2U);
  EXPECT_GE(policy.persons.size(), 6U);
  EXPECT_EQ(policy.rules.size(), 3U);
}

// This room keeps the witnesses' text as it is; here, that what the samples carry is what the ledger takes.
TEST(PolicyVector, CarriesASoundWitnessPolicy) {
  const Bytes bytes = test::read_file("tests/vectors/policy/us.toml");
  for (const std::string& text : {std::string{as_text(bytes)}, company().policy.toml()}) {
    const Policy policy = value_of(parse_policy(text));
    const auto witnesses = value_of(ledger::parse_witness_policy(policy.authority.witnesses));
    EXPECT_THAT(ledger::require_overlap(witnesses), Succeeds());
    EXPECT_EQ(witnesses.k(), 3U);
    EXPECT_EQ(witnesses.n(), 4U);
    EXPECT_EQ(witnesses.logs().front().key.name(), policy.authority.origin.get());
    EXPECT_EQ(witnesses.logs().front().key.key(), policy.authority.keys.log);
  }
}

// Region of an address.
class RegionOfAddress : public testing::Test {
 protected:
  static std::string of(std::string_view address, std::string_view country,
                        const std::function<void(SamplePolicy&)>& change = {}) {
    SamplePolicy sample = company().policy;
    sample.regions = {
        {"us", {"10.20.0.0/16", "198.51.100.0/24", "8.8.8.0/24", "2001:db8:20::/48"}, {"US", "CA"}},
        {"cn", {"10.86.0.0/16"}, {"CN"}},
        {"lab", {"10.99.0.0/16", "9.9.9.0/24"}, {}},  // networks only
        {"br", {}, {"BR"}}};                          // countries only
    if (change) change(sample);
    return region_of_address(value_of(parse_policy(sample.toml())), address, country).get();
  }
};

TEST_F(RegionOfAddress, NeedsBothWhereBothAreConfigured) {
  EXPECT_EQ(of("8.8.8.8", "US"), "us");
  EXPECT_EQ(of("8.8.8.8", "CA"), "us");
  EXPECT_EQ(of("8.8.8.8", ""), "unknown") << "no answer";
  EXPECT_EQ(of("8.8.8.8", "CN"), "unknown") << "different answers";
  EXPECT_EQ(of("8.8.8.8", "FR"), "unknown") << "a country of no region";
  EXPECT_EQ(of("8.8.9.8", "US"), "unknown") << "outside the networks";
}

TEST_F(RegionOfAddress, TakesTheNetworkAloneWhereNoDatabaseKnows) {
  EXPECT_EQ(of("10.20.4.17", ""), "us");
  EXPECT_EQ(of("::ffff:10.20.4.17", ""), "us");
  EXPECT_EQ(of("198.51.100.1", ""), "us");
  EXPECT_EQ(of("2001:db8:20::1", ""), "us");
  EXPECT_EQ(of("10.20.4.17", "CN"), "unknown") << "a database that contradicts is believed to contradict";
  EXPECT_EQ(of("10.86.0.1", ""), "cn");
  EXPECT_EQ(of("10.87.0.1", ""), "unknown");
}

TEST_F(RegionOfAddress, TakesOneWhereOneIsConfigured) {
  EXPECT_EQ(of("10.99.1.1", ""), "lab");
  EXPECT_EQ(of("9.9.9.9", ""), "lab");
  EXPECT_EQ(of("9.9.9.9", "FR"), "lab") << "the database was not asked about this region, and names no other";
  EXPECT_EQ(of("9.9.9.9", "US"), "unknown") << "different answers";
  EXPECT_EQ(of("9.9.9.9", "BR"), "unknown") << "different answers";
  EXPECT_EQ(of("200.1.1.1", "BR"), "br");
  EXPECT_EQ(of("200.1.1.1", ""), "unknown");
  EXPECT_EQ(of("200.1.1.1", "br"), "unknown");
}

TEST_F(RegionOfAddress, RefusesWhatIsNoAddress) {
  for (const char* text : {"", "10.20.4", "10.20.4.17 ", "10.20.4.17:22", "[2001:db8:20::1]",
                           "2001:db8:20::1%eth0", "010.20.4.17", "0x0a.20.4.17", "db-7"})
    EXPECT_EQ(of(text, ""), "unknown") << text;
  EXPECT_EQ(of(std::string("10.20.4.17\0x", 12), ""), "unknown");
}

TEST(Network, EndsWhereItsPrefixSays) {
  const Network network = value_of(parse_network("10.20.32.0/19"));
  const auto in = [&](const char* text) { return contains(network, value_of(parse_address(text))); };
  EXPECT_TRUE(in("10.20.32.0"));
  EXPECT_TRUE(in("10.20.63.255"));
  EXPECT_FALSE(in("10.20.64.0"));
  EXPECT_FALSE(in("10.20.31.255"));
  EXPECT_FALSE(in("2001:db8::1"));
  EXPECT_FALSE(overlap(value_of(parse_network("10.0.0.0/8")), value_of(parse_network("a00::/8"))));
}

TEST(Network, KnowsWhichAddressesAreGloballyReachable) {
  const auto reachable = [](const char* text) {
    return is_globally_reachable(value_of(parse_address(text)));
  };
  for (const char* text : {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
                           "127.0.0.1", "169.254.1.1", "::1", "fc00::1", "fdff::1", "fe80::1", "2001:db8::1"})
    EXPECT_FALSE(reachable(text)) << text;
  for (const char* text :
       {"8.8.8.8", "172.32.0.1", "172.15.0.1", "100.128.0.1", "11.0.0.1", "2600::1", "2001:db9::1"})
    EXPECT_TRUE(reachable(text)) << text;
}

}  // namespace
}  // namespace sallyport::policy

// What a dossier proves, as claims of RFC 9711: each claim in the type that the RFC gives it in JSON.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <regex>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"
#include "client/auditor/commands.h"
#include "client/auditor/eat.h"
#include "client/auditor/explain.h"
#include "tests/support/boot_log.h"
#include "tests/support/export_world.h"
#include "tests/support/ima_log.h"
#include "tests/support/matchers.h"
#include "tests/support/run_tool.h"

namespace sallyport::client::auditor {
namespace {

namespace json = boost::json;
using record::Dossier;
using test::BootLog;
using test::FailsWith;
using test::ImaLog;
using test::OpenCase;
using test::RecordScenario;
using test::SampleCompany;
using test::value_of;
using testing::ElementsAre;
using testing::IsSupersetOf;

const fs::path kDirectory = "tests/vectors/eat";

Bytes bytes_of(const record::json::Value& claims) {
  return record::json::encode_canonical(claims);
}

// claims_of gives the claims as another JSON library reads them.
json::object claims_of(const Dossier& dossier, const record::ControlState& control) {
  const Bytes text = bytes_of(value_of(eat_claims(dossier, control)));
  return json::parse(json::string_view{as_text(text).data(), text.size()}).as_object();
}

// decoded takes base64url as EAT has it: its alphabet, and no padding.
Bytes decoded(const json::value& value) {
  std::string text{value.as_string().c_str()};
  EXPECT_TRUE(std::regex_match(text, std::regex{"[A-Za-z0-9_-]+"})) << text;
  for (char& c : text) c = c == '-' ? '+' : c == '_' ? '/' : c;
  text.resize((text.size() + 3) / 4 * 4, '=');
  return value_of(parse_base64(text, 1024));
}
std::string text_of(const json::value& value) {
  return std::string{value.as_string().c_str()};
}

std::vector<std::string> names_of(const json::object& claims) {
  std::vector<std::string> names;
  for (const auto& member : claims) names.emplace_back(member.key());
  return names;
}

// results_of gives the groups of measres, each as "name: id result …".
std::string results_of(const json::object& claims) {
  std::string out;
  for (const json::value& group : claims.at("measres").as_array()) {
    EXPECT_EQ(group.as_array().size(), 2u);
    out += (out.empty() ? "" : " ") + text_of(group.at(0)) + ":";
    for (const json::value& result : group.at(1).as_array()) {
      EXPECT_EQ(result.as_array().size(), 2u);
      const std::string outcome = text_of(result.at(1));
      EXPECT_THAT((std::vector<std::string>{"success", "fail", "not-run", "absent"}),
                  testing::Contains(outcome));
      out += " " + text_of(result.at(0)) + " " + outcome;
    }
  }
  return out;
}

// A company whose policy accepts one boot, of which PCR 1 and 5 may be any; all machines boot so.
struct Booted : RecordScenario {
  Booted()
      : RecordScenario([](SampleCompany& changed) {
          changed.policy.references =
              BootLog::document({BootLog::good().reference("debian-12 6.1")}, true, 7);
        }) {
    for (const char* name : {"laptop", "alice-laptop", "bob-laptop", "dana-laptop"})
      BootLog::good().boot(machine(name));
  }
};

TEST(Eat, SaysOfABootWhatItsReferenceSays) {
  Booted world;
  const OpenCase open = world.granted();
  const Dossier dossier = world.dossier(open);
  const auto grant = value_of(record::verify_dossier(dossier, world.follower, world.now));
  const json::object claims = claims_of(dossier, world.follower);
  EXPECT_THAT(names_of(claims),
              ElementsAre("bootcount", "eat_nonce", "eat_profile", "iat", "measres", "submods", "swname",
                          "swversion", "ueid", "vnd.sallyport.access", "vnd.sallyport.dossier",
                          "vnd.sallyport.machine", "vnd.sallyport.quote", "vnd.sallyport.secure_boot",
                          "vnd.sallyport.tpm_firmware", "vnd.sallyport.tpm_maker"));

  EXPECT_EQ(text_of(claims.at("eat_profile")), "urn:uuid:13057588-ab78-4bc2-89d0-72bc08ca14eb");
  EXPECT_EQ(claims.at("iat").as_int64(), static_cast<std::int64_t>(grant.not_before.get() / 1000));
  EXPECT_EQ(decoded(claims.at("eat_nonce")), to_bytes(view(open.request.nonce)));
  EXPECT_EQ(claims.at("eat_nonce").as_string().size(), 43u);  // 8 to 88
  Bytes ueid{0x01};                                           // RAND, and 256 bits
  ueid.insert(ueid.end(), view(grant.device).begin(), view(grant.device).end());
  EXPECT_EQ(decoded(claims.at("ueid")), ueid);
  EXPECT_EQ(claims.at("ueid").as_string().size(), 44u);  // 10 to 44
  EXPECT_EQ(claims.at("bootcount").as_int64(), std::int64_t{world.machines.at("laptop").clock.reset_count});
  EXPECT_EQ(text_of(claims.at("swname")), "debian-12 6.1");
  EXPECT_EQ(json::serialize(claims.at("swversion")), R"(["7"])");
  EXPECT_EQ(results_of(claims),
            "vnd.sallyport.event-log: pcr0 success pcr1 not-run pcr2 success pcr3 success pcr4 success "
            "pcr5 not-run pcr6 success pcr7 success pcr14 success secure-boot success");
  EXPECT_TRUE(claims.at("vnd.sallyport.secure_boot").as_bool());

  // The key that the credential is for, as a JWK of RFC 7800, and as its TPM names it.
  const json::object& key = claims.at("submods").as_object().at("session-key").as_object();
  EXPECT_THAT(names_of(key), ElementsAre("cnf", "vnd.sallyport.auth_policy", "vnd.sallyport.tpm_name"));
  const json::object& jwk = key.at("cnf").as_object().at("jwk").as_object();
  EXPECT_EQ(text_of(jwk.at("kty")), "EC");
  EXPECT_EQ(text_of(jwk.at("crv")), "P-256");
  EXPECT_EQ(value_of(crypto::PublicKey::from_p256(decoded(jwk.at("x")), decoded(jwk.at("y")))),
            grant.session_key);
  EXPECT_EQ(text_of(key.at("vnd.sallyport.tpm_name")), to_hex(open.request.key));
  EXPECT_EQ(text_of(key.at("vnd.sallyport.auth_policy")),
            to_hex(value_of(evidence::parse_public_area(open.key.tpmt_public)).form.auth_policy));

  const json::object& access = claims.at("vnd.sallyport.access").as_object();
  EXPECT_EQ(text_of(access.at("case")), to_hex(open.id));
  EXPECT_EQ(text_of(access.at("person")), "erin@corp.example");
  EXPECT_EQ(json::serialize(access.at("approvers")),
            R"(["alice@corp.example","bob@corp.example","dana@corp.example"])");
  EXPECT_EQ(json::serialize(access.at("quorum")),
            R"([{"approvals":2,"group":"us-oncall"},{"approvals":1,"group":"privacy"}])");
  EXPECT_EQ(text_of(access.at("policy")), to_hex(world.policy().policy.digest));
  const json::object& proof = claims.at("vnd.sallyport.dossier").as_object();
  EXPECT_EQ(text_of(proof.at("sha256")), to_hex(crypto::sha256(record::encode_dossier(dossier))));
  EXPECT_EQ(text_of(proof.at("form")), "full");
}

TEST(Eat, NamesNoSoftwareWhereNoReferenceDescribesIt) {
  RecordScenario world;
  const OpenCase open = world.granted();
  const json::object claims = claims_of(world.dossier(open), world.follower);
  for (const char* absent : {"swname", "swversion", "vnd.sallyport.secure_boot"})
    EXPECT_FALSE(claims.contains(absent)) << absent;
  EXPECT_EQ(results_of(claims),
            "vnd.sallyport.enrolled-pcrs: pcr0 success pcr1 success pcr2 success pcr3 success pcr4 success "
            "pcr5 success pcr6 success pcr7 success pcr14 success");
  // Claims that nobody here could make: who made the machine, and what its maker authorized.
  for (const char* absent : {"oemid", "hwmodel", "oemboot", "dbgstat", "bootseed", "uptime", "location"})
    EXPECT_FALSE(claims.contains(absent)) << absent;
}

TEST(Eat, NamesTheMakerOfTheTpm) {
  RecordScenario world;
  const OpenCase open = world.granted();
  EXPECT_EQ(text_of(claims_of(world.dossier(open), world.follower).at("vnd.sallyport.tpm_maker")), "SYPT");
}

TEST(Eat, SaysWhetherTheFilesThatRanWereExpected) {
  const ImaLog ran = ImaLog::booted().file("/usr/bin/bash", "bash 5.2");
  RecordScenario world([&](SampleCompany& company) {
    evidence::ReferenceValues values = evidence::ReferenceValues::as_enrolled();
    values.version = 1;
    evidence::ImaReference::Terms terms;
    terms.files = ran.allow_list();
    values.ima = value_of(evidence::ImaReference::make(terms));
    company.policy.references = evidence::write_reference_values(values);
  });
  for (const char* name : {"laptop", "alice-laptop", "bob-laptop", "dana-laptop"})
    ran.measure(world.machine(name));
  const Dossier dossier = world.dossier(world.granted());
  EXPECT_THAT(results_of(claims_of(dossier, world.follower)),
              testing::EndsWith(" vnd.sallyport.ima: pcr10 success"));
  EXPECT_THAT(results_of(claims_of(record::to_travel(dossier), world.follower)),
              testing::EndsWith(" vnd.sallyport.ima: pcr10 not-run"));
}

TEST(Eat, SaysWhatWasNotComparedWhereTheLogHasNotTravelled) {
  Booted world;
  const OpenCase open = world.granted();
  const json::object claims = claims_of(record::to_travel(world.dossier(open)), world.follower);
  EXPECT_EQ(results_of(claims),
            "vnd.sallyport.event-log: pcr0 not-run pcr1 not-run pcr2 not-run pcr3 not-run pcr4 not-run "
            "pcr5 not-run pcr6 not-run pcr7 not-run pcr14 not-run");
  EXPECT_FALSE(claims.contains("swname"));
  EXPECT_EQ(text_of(claims.at("vnd.sallyport.dossier").as_object().at("form")), "travel");
}

TEST(Eat, IsOfNothingThatDoesNotVerify) {
  RecordScenario world, other;
  const OpenCase open = world.granted();
  const Dossier dossier = world.dossier(open);
  Dossier changed = dossier;
  changed.request_body.back() ^= 1;
  EXPECT_FALSE(eat_claims(changed, world.follower).has_value());
  changed = dossier;
  changed.blobs.pop_back();
  EXPECT_THAT(eat_claims(changed, world.follower), FailsWith(Reason::kLogMissingBody));
  EXPECT_FALSE(eat_claims(dossier, other.follower).has_value());
  value_of(world.revoke(record::RevocationKind::kDevice, to_hex(world.machine("laptop").device())));
  EXPECT_THAT(eat_claims(dossier, world.follower), FailsWith(Reason::kDeviceRevoked));
}

TEST(Eat, IsJudgedAsOfItsGrantFromAnExport) {
  World world;
  const OpenCase open = world.scenario.granted();
  world.cosign();
  const Dossier dossier = world.scenario.dossier(open);
  const Bytes then = bytes_of(value_of(eat_claims(dossier, world.scenario.follower)));
  value_of(world.scenario.revoke(record::RevocationKind::kPerson, SampleCompany::id("erin")));
  world.cosign();
  const test::TemporaryDirectory temporary;
  value_of(write_export(temporary / "export", world.anchor(), world));
  const LogAround log = value_of(replay_around(dossier, temporary / "export", world.anchor()));
  EXPECT_EQ(as_text(bytes_of(value_of(eat_claims(dossier, log.then)))), as_text(then));
  EXPECT_THAT(eat_claims(dossier, log.now), FailsWith(Reason::kRevoked));
}

test::Ran run(std::vector<std::string> words) {
  return test::run_tool(std::move(words), {commands()});
}

TEST(Eat, IsWrittenByACommandOrNothingIs) {
  World world;
  const OpenCase open = world.scenario.granted();
  world.cosign();
  Dossier dossier = world.scenario.dossier(open);
  const test::TemporaryDirectory temporary;
  const std::string file = temporary / "access.dossier", trust = temporary / "us.trust",
                    directory = temporary / "export", to = temporary / "claims.json";
  write_file(file, record::encode_dossier(dossier));
  write_file(trust, as_bytes(follow::format_trust_file(world.anchor())));
  value_of(write_export(directory, world.anchor(), world));
  const std::string claims{as_text(bytes_of(value_of(eat_claims(dossier, world.scenario.follower))))};
  const std::vector<std::string> words{"audit", "eat", file, "--trust", trust, "--export", directory};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), words.begin(), words.end());
    return run(more);
  };
  test::Ran shown = with({"-f", "json"});
  EXPECT_EQ(shown.exit, 0);
  EXPECT_EQ(shown.out, claims + "\n");
  EXPECT_EQ(with({"--to", to}).exit, 0);
  EXPECT_EQ(as_text(test::read_file(to)), claims);
  EXPECT_EQ(with({"--to", to}).exit, 2);  // nothing is written over

  dossier.grant_nonce = Nonce{};
  write_file(file, record::encode_dossier(dossier));
  shown = with({"--to", temporary / "none.json"});
  EXPECT_EQ(shown.exit, 8);
  EXPECT_FALSE(fs::exists(temporary / "none.json"));
  EXPECT_EQ(run(words).out, "");
}

// One access, frozen: WriteOnce below has written it, and does not write it again.
TEST(Eat, IsFrozen) {
  const Dossier dossier = value_of(record::parse_dossier(test::read_file(kDirectory / "access.dossier")));
  const record::ControlState control =
      value_of(record::parse_control(test::read_file(kDirectory / "access.state")));
  const Bytes frozen = test::read_file(kDirectory / "access.json");
  EXPECT_EQ(as_text(bytes_of(value_of(eat_claims(dossier, control)))), as_text(frozen));
}

TEST(Eat, DISABLED_WriteOnce) {
  const auto write = [](const char* name, ByteView bytes) {
    if (fs::exists(kDirectory / name)) return;
    fs::create_directories(kDirectory);
    std::ofstream{kDirectory / name, std::ios::binary} << as_text(bytes);
  };
  Booted world;
  const Dossier dossier = world.dossier(world.granted());
  write("access.dossier", record::encode_dossier(dossier));
  write("access.state", record::encode_control(world.follower));
  write("access.json", bytes_of(value_of(eat_claims(dossier, world.follower))));
}

}  // namespace
}  // namespace sallyport::client::auditor

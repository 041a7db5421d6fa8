// sallyport-hsm against SoftHSM: what a key ceremony prints, refuses and leaves behind.
#include <fcntl.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <fstream>
#include <sstream>

#include "attestation/base/base64.h"
#include "attestation/crypto/public_key.h"
#include "attestation/ledger/vkey.h"
#include "hsm-config/ceremony/ceremony.h"
#include "hsm-config/ceremony/profile.h"
#include "hsm-config/pkcs11/region_keys.h"
#include "tests/support/matchers.h"
#include "tests/support/softhsm.h"

namespace sallyport::ceremony {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::TemporarySoftHsm;
using test::value_of;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kProfile = "hsm-config/profiles/softhsm2/profile.toml";

class Ceremony : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* const required = getenv("SALLYPORT_REQUIRE_DEVICES");
    if (TemporarySoftHsm::available()) return;
    if (required != nullptr && std::string_view{required} == "1") FAIL() << "SoftHSM is not installed";
    GTEST_SKIP() << "SoftHSM is not installed";
  }

  // Runs sallyport-hsm with the module, and nothing else, added.
  int run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin() + 1, {"--module", TemporarySoftHsm::module_path()});
    std::ostringstream out, err;
    const int code = ceremony::run(arguments, out, err);
    out_ = out.str();
    err_ = err.str();
    EXPECT_THAT(out_ + err_, Not(HasSubstr(std::string{TemporarySoftHsm::kPin})));
    EXPECT_THAT(out_ + err_, Not(HasSubstr(std::string{TemporarySoftHsm::kSoPin})));
    return code;
  }
  std::vector<std::string> with_pins(std::vector<std::string> arguments, bool create) const {
    arguments.insert(arguments.end(), {"--pin-file", hsm_.pin_file().string()});
    if (create) arguments.insert(arguments.end(), {"--create", "--so-pin-file", hsm_.so_pin_file().string()});
    return arguments;
  }
  static std::string text(const boost::json::value& object, std::string_view key) {
    return std::string{object.as_object().at(key).as_string()};
  }

  TemporarySoftHsm hsm_;
  std::string out_, err_;
};

TEST_F(Ceremony, InitMakesFiveKeysWhosePublicHalvesItPrints) {
  ASSERT_EQ(run(with_pins({"init", "--token", "us-1", "-f", "json", "--origin", "us.example/log/1"}, true)),
            0)
      << err_;
  const auto printed = boost::json::parse(out_);
  const auto& keys = printed.at("keys");
  const pkcs11::Token token = hsm_.open("us-1");
  const auto found = value_of(pkcs11::find_region_keys(token));
  const std::pair<const char*, const pkcs11::KeyHandle*> wanted[] = {{"log", &found.log},
                                                                     {"ssh_ca", &found.ssh_ca},
                                                                     {"x509_ca", &found.x509_ca},
                                                                     {"lease", &found.lease},
                                                                     {"secrets", &found.secrets}};
  for (const auto& [name, key] : wanted) {
    EXPECT_EQ(text(keys.at(name), "spki"), to_base64(key->public_key().spki())) << name;
    EXPECT_THAT(text(printed, "policy"), HasSubstr(text(keys.at(name), "spki")));
  }
  EXPECT_EQ(text(keys.at("log"), "raw"), to_base64(found.log.public_key().raw()));
  const auto vkey = value_of(ledger::parse_vkey(text(printed, "vkey")));
  EXPECT_EQ(vkey.name(), "us.example/log/1");
  EXPECT_EQ(vkey.key(), found.log.public_key());
}

TEST_F(Ceremony, InitChangesNothingOnATokenThatHasKeys) {
  ASSERT_EQ(run(with_pins({"init", "--token", "us-1"}, true)), 0) << err_;
  EXPECT_EQ(run(with_pins({"init", "--token", "us-1"}, true)), 1) << "the token exists";
  EXPECT_EQ(run(with_pins({"init", "--token", "us-1"}, false)), 1) << "the keys exist";
  EXPECT_THAT(err_, HasSubstr("nothing was changed"));
  KeyId log;
  {
    const pkcs11::Token token = hsm_.open("us-1");
    const auto keys = value_of(pkcs11::find_region_keys(token));
    log = keys.log.public_key().id();
    ASSERT_THAT(token.destroy_key(keys.lease), Succeeds());
  }
  EXPECT_EQ(run(with_pins({"check", "--token", "us-1"}, false)), 10) << "a key is missing";
  EXPECT_THAT(err_, HasSubstr("sallyport-lease"));
  EXPECT_EQ(run(with_pins({"init", "--token", "us-1", "--complete"}, false)), 0) << err_;
  const pkcs11::Token token = hsm_.open("us-1");
  EXPECT_EQ(value_of(pkcs11::find_region_keys(token)).log.public_key().id(), log)
      << "the others are left alone";
}

TEST_F(Ceremony, CheckUsesEachKeyAndNamesWhatWasRefused) {
  ASSERT_EQ(run(with_pins({"init", "--token", "us-1"}, true)), 0) << err_;
  ASSERT_EQ(run(with_pins({"check", "--token", "us-1"}, false)), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("sallyport-secrets: agreed on a secret, checked in software"));
  EXPECT_THAT(out_, HasSubstr("sallyport-log: signed, checked in software"));
  ASSERT_EQ(run(with_pins({"check", "--token", "us-1", "-f", "json"}, false)), 0) << err_;
  const auto printed = boost::json::parse(out_);
  EXPECT_GE(printed.at("refused").as_array().size(), 70U);
  EXPECT_TRUE(printed.at("untried").as_array().empty());
}

TEST_F(Ceremony, ErrorsHaveAStableCodeAndTheExitCodeOfTheTable) {
  ASSERT_EQ(run(with_pins({"init", "--token", "us-1"}, true)), 0) << err_;
  EXPECT_EQ(run(with_pins({"check", "--token", "eu-1", "-f", "json"}, false)), 10);
  EXPECT_EQ(text(boost::json::parse(out_).at("error"), "code"), "token/absent");
  EXPECT_EQ(run({"check", "--token", "us-1", "--pin-file", hsm_.so_pin_file().string(), "-f", "json"}), 10);
  EXPECT_EQ(text(boost::json::parse(out_).at("error"), "code"), "token/pin");
  EXPECT_EQ(run({"check", "--token", "us-1", "--pin", "1234"}), 2) << "no PIN in argv";
  EXPECT_EQ(run({"check", "--tok", "us-1"}), 2) << "no abbreviations";
  EXPECT_EQ(run({"check"}), 2);
  EXPECT_EQ(run({"frobnicate"}), 2);
  std::ostringstream out, err;
  EXPECT_EQ(ceremony::run({}, out, err), 2);
  EXPECT_EQ(ceremony::run({"--help"}, out, err), 0);
  EXPECT_THAT(out.str(), HasSubstr("sallyport-hsm init"));
  EXPECT_EQ(ceremony::run({"list", "--help"}, out, err), 0);
}

TEST_F(Ceremony, BothPinsCanComeDownOneDescriptor) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const std::string both =
      std::string{TemporarySoftHsm::kSoPin} + "\n" + std::string{TemporarySoftHsm::kPin} + "\n";
  ASSERT_EQ(write(ends[1], both.data(), both.size()), static_cast<ssize_t>(both.size()));
  close(ends[1]);
  const std::string fd = std::to_string(ends[0]);
  EXPECT_EQ(run({"person-init", "--token", "alice-1", "--create", "--so-pin-fd", fd, "--pin-fd", fd}), 0)
      << err_;
  close(ends[0]);
  EXPECT_THAT(pkcs11::Token::open(hsm_.selector("alice-1"), hsm_.pin()), Succeeds());
}

TEST_F(Ceremony, PersonInitPrintsTheLineForThePolicy) {
  ASSERT_EQ(run(with_pins({"person-init", "--token", "alice-1", "--agree", "-f", "json"}, true)), 0) << err_;
  const auto printed = boost::json::parse(out_);
  const pkcs11::Token token = value_of(pkcs11::open_person_token(hsm_.selector("alice-1"), hsm_.pin()));
  const auto sign = value_of(token.find_key(pkcs11::kPersonSignLabel));
  const auto agree = value_of(token.find_key(pkcs11::kPersonAgreeLabel));
  EXPECT_TRUE(sign.may_sign() && agree.may_derive());
  EXPECT_EQ(text(printed, "policy"), "{ id = \"alice-1\", kind = \"p256\", sign = \"" +
                                         to_base64(sign.public_key().spki()) + "\", agree = \"" +
                                         to_base64(agree.public_key().spki()) + "\" }");
}

TEST_F(Ceremony, ListShowsTokensWithoutAPinAndKeysWithOne) {
  ASSERT_EQ(run(with_pins({"person-init", "--token", "alice-1"}, true)), 0) << err_;
  ASSERT_EQ(run({"list"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("alice-1"));
  ASSERT_EQ(run(with_pins({"list", "--token", "alice-1", "-f", "json"}, false)), 0) << err_;
  const auto keys = boost::json::parse(out_).as_array();
  ASSERT_EQ(keys.size(), 1U);
  EXPECT_EQ(text(keys[0], "label"), "sallyport-sign");
}

TEST_F(Ceremony, AnHsmThatCannotHoldAllKeysIsRefusedByItsProfile) {
  const auto path = hsm_.directory() / "profile.toml";
  std::string profile{as_text(test::read_file(kProfile))};
  profile.replace(profile.find("secrets = \"p256\""), 16, "secrets = \"none\"");
  std::ofstream{path} << profile;
  EXPECT_EQ(run(with_pins({"init", "--profile", path.string(), "--token", "us-1"}, true)), 2);
  EXPECT_THAT(pkcs11::find_person_token(hsm_.selector("us-1")), FailsWith(Reason::kTokenAbsent));
}

TEST(Profile, OfSoftHsmLoads) {
  const Profile profile = value_of(load_profile(kProfile));
  EXPECT_EQ(profile.model, "SoftHSM v2");
  EXPECT_TRUE(profile.holds_all());
  EXPECT_EQ(profile.log, pkcs11::KeySpec::kEd25519Sign);
}

TEST(Profile, WithUnknownMissingOrWrongKeysDoesNotLoad) {
  const std::string good{as_text(test::read_file(kProfile))};
  const auto changed = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  EXPECT_THAT(parse_profile(changed("model  ", "modell ")), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_profile(changed("\"/usr", "\"usr")), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_profile(changed("\"oid\"", "\"raw\"")), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_profile(changed("ssh_ca  = \"p256\"", "ssh_ca  = \"rsa\"")), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_profile(changed("lease   = \"p256\"", "")), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_profile(changed("[keys]", "[other]")), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_profile("model = "), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_profile(good + std::string(16384, '#')), FailsWith(Code::kMalformed));
  EXPECT_EQ(value_of(parse_profile(changed("\"ed25519\"", "\"p256\""))).log, pkcs11::KeySpec::kP256Sign);
}

}  // namespace
}  // namespace sallyport::ceremony

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include <fstream>

#include "attestation/base/base64.h"
#include "client/evidence/commands.h"
#include "tests/support/files.h"
#include "tests/support/soft_tpm.h"

// `sallyport evidence verify-ek`, as a person runs it.

namespace sallyport::client::evidence_tools {
namespace {

using test::read_file;
using test::SoftTpm;
using test::TemporaryDirectory;
using test::TestVendor;
using testing::HasSubstr;

const std::string kCertificates = "tests/vectors/ek_certificates/", kRoots = "tests/vectors/tpm_roots/";

struct Ran {
  int exit;
  std::string out, err;
};

Ran verify_ek(std::vector<std::string> arguments) {
  std::vector<std::string> words{"sallyport", "evidence", "verify-ek"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int exit = run_command_line(static_cast<int>(argv.size()), argv.data(), {commands()});
  Ran ran{exit, testing::internal::GetCapturedStdout(), {}};
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

class VerifyEk : public testing::Test {
 protected:
  std::string write(const std::string& name, ByteView bytes) {
    const auto path = directory_.path() / name;
    std::ofstream{path, std::ios::binary}.write(as_text(bytes).data(),
                                                static_cast<std::streamsize>(bytes.size()));
    return path.string();
  }
  std::string bundle() {
    Bytes whole;
    for (const char* file : {"vendor-roots.pem", "vendor-intermediates.pem", "google.pem"}) {
      const Bytes part = read_file(kRoots + file);
      whole.insert(whole.end(), part.begin(), part.end());
    }
    return write("bundle.pem", whole);
  }
  TemporaryDirectory directory_;
};

TEST_F(VerifyEk, ShowsTheTpmThePathAndWhatIsOdd) {
  const Ran ran = verify_ek(
      {kCertificates + "st33htphahb4-rsa-nv-padded.bin", "--roots", bundle(), "--at", "2027-01-01"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("TPM        STM ST33HTPHAHB4, version id:00490004\n"));
  EXPECT_THAT(ran.out, HasSubstr("CA   CN=STM TPM EK Intermediate CA 05"));
  EXPECT_THAT(ran.out, HasSubstr("root CN=GlobalSign Trusted Platform Module Root CA"));
  EXPECT_THAT(ran.out, HasSubstr("odd        Padding that fills its NV index followed it.\n"));
}

TEST_F(VerifyEk, GivesTheSameAsJson) {
  const Ran ran = verify_ek(
      {kCertificates + "gce-pca-rsa-ek.der", "--roots", bundle(), "--at", "2027-01-01", "-f", "json"});
  ASSERT_EQ(ran.exit, 0) << ran.err << ran.out;
  const auto shown = boost::json::parse(ran.out);
  EXPECT_EQ(shown.at("manufacturer").as_string(), "GOOG");
  EXPECT_EQ(shown.at("manufacturer_id").as_string(), "id:474F4F47");
  EXPECT_EQ(shown.at("version").as_string(), "");
  EXPECT_EQ(shown.at("key").as_string(), "rsa2048");
  EXPECT_EQ(shown.at("not_after").as_string(), "2052-11-15T18:33:42Z");
  EXPECT_EQ(shown.at("path").as_array().size(), 3u);
  EXPECT_EQ(shown.at("oddities").as_array().size(), 2u);
  EXPECT_TRUE(shown.at("chain_verified").as_bool());
}

TEST_F(VerifyEk, TakesPemAndTheChainOfAnOnDieCa) {
  const SoftTpm tpm;
  const TestVendor vendor;
  const TestVendor::OnDie on_die = vendor.issue_on_die(tpm.ek().key);
  const auto pem = [](ByteView der) {
    std::string text = "-----BEGIN CERTIFICATE-----\n";
    const std::string base64 = to_base64(der);
    for (std::size_t i = 0; i < base64.size(); i += 64) text += base64.substr(i, 64) + "\n";
    return text + "-----END CERTIFICATE-----\n";
  };
  const std::string roots =
      write("roots.pem", as_bytes(pem(vendor.root().der()) + pem(on_die.published.der())));
  const std::string ek = write("ek.pem", as_bytes(pem(on_die.ek)));
  Bytes nv;
  for (const Bytes& der : on_die.chain) nv.insert(nv.end(), der.begin(), der.end());
  EXPECT_EQ(verify_ek({ek, "--roots", roots, "--chain", write("chain.bin", nv)}).exit, 0);
  std::vector<std::string> one_by_one{ek, "--roots", roots};
  for (std::size_t i = 0; i < on_die.chain.size(); ++i) {
    one_by_one.push_back("--chain");
    one_by_one.push_back(write("chain" + std::to_string(i) + ".pem", as_bytes(pem(on_die.chain[i]))));
  }
  EXPECT_EQ(verify_ek(one_by_one).exit, 0);
  const Ran without = verify_ek({ek, "--roots", roots});
  EXPECT_EQ(without.exit, 5);
  EXPECT_THAT(without.err, HasSubstr("ek/chain"));
  EXPECT_THAT(without.err, HasSubstr("CN=TPM CA"));  // what is missing
  EXPECT_EQ(verify_ek({ek, "--roots", roots, "--chain", write("other.bin", as_bytes("no certificate"))}).exit,
            5);
}

TEST_F(VerifyEk, TellsEachRefusalByItsReason) {
  const std::string roots = bundle();
  const std::string good = kCertificates + "infineon-slb9665.der";
  EXPECT_THAT(verify_ek({good, "--roots", roots, "--at", "2037-01-01"}).err, HasSubstr("ek/expired"));
  EXPECT_THAT(verify_ek({kCertificates + "gce-uca-ecc-ak.der", "--roots", roots}).err,
              HasSubstr("ek/certificate"));
  EXPECT_THAT(verify_ek({kCertificates + "hirs-st33zp24.der", "--roots", roots}).err,
              HasSubstr("ek/unsupported"));
  const Ran der = verify_ek({good, "--roots", good});
  EXPECT_EQ(der.exit, 2);
  EXPECT_THAT(der.err, HasSubstr("PEM is expected"));
  EXPECT_THAT(der.err, HasSubstr("openssl x509 -inform der -in " + good));
  EXPECT_THAT(verify_ek({good, "--roots", write("text", as_bytes("no CA"))}).err,
              HasSubstr("looks like text"));
  const Ran no_ca = verify_ek({good, "--roots", "/nonexistent"});
  EXPECT_EQ(no_ca.exit, 2);
  EXPECT_THAT(no_ca.err, HasSubstr("cannot read /nonexistent: No such file"));
  EXPECT_EQ(verify_ek({roots, "--roots", roots}).exit, 2);
  EXPECT_EQ(verify_ek({"/nonexistent", "--roots", roots}).exit, 2);
}

TEST_F(VerifyEk, WithoutRootsJudgesTheCertificateAloneAndIsNoSuccess) {
  const std::string good = kCertificates + "infineon-slb9665.der";
  const Ran ran = verify_ek({good, "--at", "2026-12-01"});
  EXPECT_EQ(ran.exit, 5);
  EXPECT_THAT(ran.out, HasSubstr("TPM        IFX SLB 9665, version id:053E\n"));
  EXPECT_THAT(ran.out, HasSubstr("chain      NOT VERIFIED"));
  EXPECT_THAT(ran.out, HasSubstr("--roots BUNDLE"));
  const Ran json = verify_ek({good, "--at", "2026-12-01", "-f", "json"});
  EXPECT_EQ(json.exit, 5);
  const auto shown = boost::json::parse(json.out);
  EXPECT_FALSE(shown.at("chain_verified").as_bool());
  EXPECT_TRUE(shown.at("path").as_array().empty());
  EXPECT_EQ(shown.at("at").as_string(), "2026-12-01T00:00:00Z");
  // Each fault that needs no roots is told, as with them.
  for (const char* day : {"2037-01-01", "1990-01-01"}) {
    const Ran expired = verify_ek({good, "--at", day});
    EXPECT_EQ(expired.exit, 5);
    EXPECT_THAT(expired.err, HasSubstr("ek/expired"));
    EXPECT_THAT(expired.err, HasSubstr(std::string{"judged as of "} + day));
  }
  EXPECT_THAT(verify_ek({kCertificates + "gce-uca-ecc-ak.der"}).err, HasSubstr("ek/certificate"));
  EXPECT_THAT(verify_ek({kCertificates + "hirs-st33zp24.der"}).err, HasSubstr("ek/unsupported"));
  EXPECT_EQ(verify_ek({good, "--chain", good}).exit, 2);
  EXPECT_EQ(verify_ek({good, "--expired-accepted"}).exit, 2);
}

TEST_F(VerifyEk, SaysNothingOfThisMachinesClockToWhoJudgesAsOfAnotherTime) {
  const std::string good = kCertificates + "infineon-slb9665.der";
  for (const auto& more : {std::vector<std::string>{}, {"--roots", bundle()}}) {
    std::vector<std::string> words{good, "--at", "2037-01-01"};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = verify_ek(words);
    EXPECT_THAT(ran.err, HasSubstr("ek/expired"));
    EXPECT_THAT(ran.err, testing::Not(HasSubstr("clock")));
    EXPECT_THAT(ran.err, HasSubstr("expired_ek"));
  }
}

}  // namespace
}  // namespace sallyport::client::evidence_tools

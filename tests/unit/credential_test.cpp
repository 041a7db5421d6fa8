#include "attestation/evidence/credential.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::evidence {
namespace {

using crypto::KeyAlgorithm;
using test::FailsWith;
using test::SoftTpm;
using test::value_of;

Bytes hex_of(const boost::json::value& value) {
  return value_of(parse_hex(std::string_view{value.as_string()}, 4096));
}

// Blobs that a TPM (swtpm) opened with TPM2_ActivateCredential, for its own endorsement keys.
TEST(MakeCredential, GivesTheBytesThatATpmActivated) {
  const auto vector =
      boost::json::parse(as_text(test::read_file("tests/vectors/evidence_swtpm/golden.json")));
  for (const char* name : {"rsa2048-l1", "p256-l2", "p384-h3"}) {
    const auto& one = vector.at("credential").at(name);
    const PublicArea ek = value_of(parse_public_area(hex_of(one.at("ek"))));
    const TpmName object = value_of(parse_name(hex_of(one.at("object"))));
    const auto entropy = value_of(parse_hex_array<64>(std::string_view{one.at("entropy").as_string()}));
    const auto blob = value_of(make_credential(ek, object, hex_of(one.at("secret")), entropy));
    EXPECT_EQ(to_hex(ByteView{blob.id_object}), one.at("id_object").as_string()) << name;
    EXPECT_EQ(to_hex(ByteView{blob.encrypted_secret}), one.at("encrypted_secret").as_string()) << name;
  }
}

// The vector of another project (Keylime), whose ephemeral key is fixed: entropy mod (n − 1) + 1 is that
// scalar.
TEST(MakeCredential, KnowsKeylimesAnswer) {
  const auto vector = boost::json::parse(
      as_text(test::read_file("tests/vectors/evidence_public/makecredential-ecc-p256.json")));
  const Bytes tpm2b = hex_of(vector.at("ek_tpm2b_public"));
  const PublicArea ek = value_of(parse_public_area(ByteView{tpm2b}.subspan(2)));
  const TpmName object = value_of(parse_name(hex_of(vector.at("ak_name"))));
  // 75548318724506252006992803713632448754009807765151974952668642988315053146586 − 1
  const Bytes scalar_less_one =
      value_of(parse_hex("a706d544decd78de340642bcc33317c0cba93b383ad635a1a2aff132936841d9", 32));
  CredentialEntropy entropy{};
  std::copy(scalar_less_one.begin(), scalar_less_one.end(), entropy.begin() + 32);
  const auto blob = value_of(make_credential(ek, object, hex_of(vector.at("challenge")), entropy));
  const Bytes expected = hex_of(vector.at("expected_blob"));
  Bytes made{0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1};
  for (const Bytes& part : {blob.id_object, blob.encrypted_secret}) {
    made.push_back(static_cast<std::uint8_t>(part.size() >> 8));
    made.push_back(static_cast<std::uint8_t>(part.size()));
    made.insert(made.end(), part.begin(), part.end());
  }
  EXPECT_EQ(to_hex(ByteView{made}), to_hex(ByteView{expected}));
}

class Credential : public testing::TestWithParam<KeyAlgorithm> {
 protected:
  SoftTpm tpm_{GetParam()};
  Bytes secret_ = Bytes(32, 0x5A);
  CredentialEntropy entropy_ = crypto::random_array<64>();
};

TEST_P(Credential, IsOpenedByItsTpm) {
  for (int i = 0; i < 8; ++i) {
    const auto blob =
        value_of(make_credential(tpm_.ek(), tpm_.ak().name(), secret_, crypto::random_array<64>()));
    EXPECT_EQ(value_of(tpm_.activate_credential(blob)), secret_);
  }
  const Bytes one_byte{7};
  EXPECT_EQ(value_of(tpm_.activate_credential(
                value_of(make_credential(tpm_.ek(), tpm_.ak().name(), one_byte, entropy_)))),
            one_byte);
}

TEST_P(Credential, IsOpenedByNoOtherTpmAndForNoOtherKey) {
  const auto blob = value_of(make_credential(tpm_.ek(), tpm_.ak().name(), secret_, entropy_));
  EXPECT_FALSE(SoftTpm{GetParam()}.activate_credential(blob).has_value());
  const auto for_another = value_of(make_credential(tpm_.ek(), SoftTpm{}.ak().name(), secret_, entropy_));
  EXPECT_THAT(tpm_.activate_credential(for_another), FailsWith(Code::kUnverified));
}

TEST_P(Credential, IsOpenedByNobodyOnceAnyByteChanged) {
  const auto good = value_of(make_credential(tpm_.ek(), tpm_.ak().name(), secret_, entropy_));
  for (std::size_t i = 0; i < good.id_object.size(); ++i) {
    auto bad = good;
    bad.id_object[i] ^= 1;
    EXPECT_FALSE(tpm_.activate_credential(bad).has_value()) << i;
  }
}

TEST_P(Credential, IsAFunctionOfItsArguments) {
  const auto first = value_of(make_credential(tpm_.ek(), tpm_.ak().name(), secret_, entropy_));
  EXPECT_EQ(value_of(make_credential(tpm_.ek(), tpm_.ak().name(), secret_, entropy_)), first);
  for (const std::size_t at : {std::size_t{0}, std::size_t{31}, std::size_t{32}, std::size_t{63}}) {
    CredentialEntropy other = entropy_;
    other[at] ^= 1;
    EXPECT_NE(value_of(make_credential(tpm_.ek(), tpm_.ak().name(), secret_, other)), first) << at;
  }
}

TEST_P(Credential, NeedsATemplatesKeyAndASecretOf1To32Bytes) {
  PublicArea other = tpm_.ek();
  other.form.attributes |= attribute::kSign;
  EXPECT_THAT(make_credential(other, tpm_.ak().name(), secret_, entropy_), FailsWith(Reason::kEkUnsupported));
  EXPECT_THAT(make_credential(tpm_.ek(), tpm_.ak().name(), {}, entropy_), FailsWith(Code::kMalformed));
  EXPECT_THAT(make_credential(tpm_.ek(), tpm_.ak().name(), Bytes(33), entropy_), FailsWith(Code::kMalformed));
}

INSTANTIATE_TEST_SUITE_P(Algorithms, Credential,
                         testing::Values(KeyAlgorithm::kP256, KeyAlgorithm::kP384, KeyAlgorithm::kRsa2048));

}  // namespace
}  // namespace sallyport::evidence

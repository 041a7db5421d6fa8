#include "attestation/crypto/x509.h"

#include <gtest/gtest.h>

#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::crypto {
namespace {

using test::FailsWith;
using test::read_file;
using test::Succeeds;
using test::TestVendor;
using test::value_of;

const UnixMillis kNow{1'795'000'000'000};

class Chain : public testing::Test {
 protected:
  TestVendor vendor_;
  PrivateKey key_ = PrivateKey::generate(KeyAlgorithm::kP256);
  Certificate leaf_ = value_of(Certificate::parse_der(vendor_.issue_ek(key_.public_key())));
  std::vector<Certificate> roots_{vendor_.root()};
  std::vector<Certificate> intermediates_{vendor_.intermediate()};
};

TEST_F(Chain, ShowsWhatIsInACertificate) {
  EXPECT_EQ(leaf_.version(), 3);
  EXPECT_EQ(value_of(leaf_.public_key()), key_.public_key());
  EXPECT_EQ(leaf_.key_algorithm_oid(), "1.2.840.10045.2.1");
  EXPECT_FALSE(leaf_.is_ca());
  EXPECT_TRUE(vendor_.intermediate().is_ca());
  EXPECT_TRUE(leaf_.key_usage().present);
  EXPECT_TRUE(leaf_.key_usage().key_agreement);
  EXPECT_FALSE(leaf_.key_usage().key_cert_sign);
  EXPECT_EQ(leaf_.extended_key_usage(), std::vector<std::string>{"2.23.133.8.1"});
  EXPECT_TRUE(leaf_.subject_is_empty());
  EXPECT_TRUE(leaf_.has_critical_subject_alternative_name());
  const std::pair<std::string, std::string> model{"2.23.133.2.2", "SoftTpm"};
  EXPECT_THAT(leaf_.directory_names(), testing::Contains(model));
}

TEST_F(Chain, OverTheIntermediateVerifies) {
  const auto path = value_of(verify_chain(leaf_, intermediates_, roots_, kNow));
  EXPECT_EQ(path, (std::vector{leaf_, intermediates_.front(), roots_.front()}));
}

TEST_F(Chain, WithoutTheIntermediateOrARootIsRefused) {
  EXPECT_THAT(verify_chain(leaf_, {}, roots_, kNow), FailsWith(Code::kUnverified));
  EXPECT_THAT(verify_chain(leaf_, intermediates_, {}, kNow), FailsWith(Code::kUnverified));
}

TEST_F(Chain, ToAnAnchorThatIsNotSelfSignedVerifies) {
  EXPECT_THAT(verify_chain(leaf_, {}, intermediates_, kNow), Succeeds());
}

TEST_F(Chain, IntermediatesAreTrustedForNothingAlone) {
  const TestVendor other;
  const std::vector<Certificate> all{vendor_.intermediate(), vendor_.root()};
  EXPECT_THAT(verify_chain(leaf_, all, std::vector{other.root()}, kNow), FailsWith(Code::kUnverified));
}

TEST_F(Chain, ALeafIsNoCa) {
  // A certificate for an endorsement key cannot vouch for another one.
  const std::vector<Certificate> leaf_as_intermediate{vendor_.intermediate(), leaf_};
  const Certificate by_stranger =
      value_of(Certificate::parse_der(vendor_.issue_ek(key_.public_key(), {.by_stranger = true})));
  EXPECT_THAT(verify_chain(by_stranger, leaf_as_intermediate, roots_, kNow), FailsWith(Code::kUnverified));
}

TEST_F(Chain, IsJudgedAtTheTimeGiven) {
  EXPECT_THAT(verify_chain(leaf_, intermediates_, roots_, UnixMillis{1'500'000'000'000}),
              FailsWith(Code::kStale));
  EXPECT_THAT(verify_chain(leaf_, intermediates_, roots_, UnixMillis{4'200'000'000'000}),
              FailsWith(Code::kStale));
}

TEST_F(Chain, CertificateWithBytesAfterItIsRefused) {
  Bytes der = leaf_.der();
  for (std::size_t size = 0; size < der.size(); ++size)
    EXPECT_THAT(Certificate::parse_der(ByteView{der}.first(size)), FailsWith(Code::kMalformed)) << size;
  der.push_back(0);
  EXPECT_THAT(Certificate::parse_der(der), FailsWith(Code::kMalformed));
}

TEST(PemBundle, TakesCertificatesAndNothingElse) {
  const Bytes good = read_file("tests/vectors/tpm_roots/google.pem");
  EXPECT_EQ(value_of(parse_pem_bundle(good)).size(), 5u);
  EXPECT_THAT(parse_pem_bundle({}), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_pem_bundle(as_bytes("no certificate here\n")), FailsWith(Code::kMalformed));
  Bytes broken = good;
  broken[200] = '!';
  EXPECT_THAT(parse_pem_bundle(broken), FailsWith(Code::kMalformed));
  Bytes cut = good;
  cut.resize(as_text(good).rfind("-----END"));  // the last block does not end
  EXPECT_THAT(parse_pem_bundle(cut), FailsWith(Code::kMalformed));
  Bytes with_key = good;
  const SecretBytes pem = PrivateKey::generate(KeyAlgorithm::kP256).to_pem();
  with_key.insert(with_key.end(), pem.expose().begin(), pem.expose().end());
  EXPECT_THAT(parse_pem_bundle(with_key), FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::crypto

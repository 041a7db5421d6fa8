#include "attestation/evidence/endorsement.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "attestation/base/hex.h"
#include "attestation/evidence/templates.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::evidence {
namespace {

using crypto::Certificate;
using crypto::KeyAlgorithm;
using test::FailsWith;
using test::read_file;
using test::SoftTpm;
using test::Succeeds;
using test::TestVendor;
using test::value_of;

constexpr const char* kCertificates = "tests/vectors/ek_certificates/";
const UnixMillis kNow{1'800'000'000'000};  // January 2027

Bytes certificate_file(const char* name) {
  return read_file(std::string{kCertificates} + name);
}

TpmRoots vendor_roots() {
  return {value_of(crypto::parse_pem_bundle(certificate_file("vendor-roots.pem"))),
          value_of(crypto::parse_pem_bundle(certificate_file("vendor-intermediates.pem")))};
}

// The TPMT_PUBLIC that the TPM with this certificate has: the template for its kind of key.
Bytes ek_public_of(const Certificate& certificate) {
  const auto key = value_of(certificate.public_key());
  for (const PublicTemplate& form : ek_templates())
    if (form.algorithm == key.algorithm()) return encode(PublicArea{form, key});
  return {};
}

TEST(VendorBundle, ParsesWhole) {
  EXPECT_EQ(vendor_roots().roots.size(), 26u);
  EXPECT_EQ(vendor_roots().intermediates.size(), 2u);
}

struct RealTpm {
  const char* file;
  const char* manufacturer;
  const char* model;
};

class RealEkCertificate : public testing::TestWithParam<RealTpm> {};

TEST_P(RealEkCertificate, LeadsToItsVendorsRoot) {
  const Bytes as_read = certificate_file(GetParam().file);
  const Certificate certificate = value_of(parse_ek_certificate(as_read));
  const Bytes ek = ek_public_of(certificate);
  const auto verified = value_of(verify_endorsement(as_read, {}, ek, vendor_roots(), kNow));
  EXPECT_EQ(verified.manufacturer, GetParam().manufacturer);
  EXPECT_EQ(verified.model, GetParam().model);
  EXPECT_EQ(verified.device.get(), value_of(certificate.public_key()).id().get());
  EXPECT_EQ(encode(verified.ek), ek);

  EXPECT_THAT(verify_endorsement(as_read, {}, ek, TpmRoots{}, kNow), FailsWith(Reason::kEkChain));
  const UnixMillis long_after{5'000'000'000'000};  // 2128
  EXPECT_THAT(verify_endorsement(as_read, {}, ek, vendor_roots(), long_after), FailsWith(Reason::kEkChain));
  EXPECT_THAT(verify_endorsement(as_read, {}, SoftTpm{}.ek_public(), vendor_roots(), kNow),
              FailsWith(Reason::kEkCertificate));
}

INSTANTIATE_TEST_SUITE_P(Vendors, RealEkCertificate,
                         testing::Values(RealTpm{"infineon-slb9665.der", "id:49465800", "SLB 9665"},
                                         RealTpm{"nuvoton-npct75x.der", "id:4E544300", "NPCT75x"},
                                         RealTpm{"st33htphahb4-rsa-nv-padded.bin", "id:53544D20",
                                                 "ST33HTPHAHB4"}));

TEST(RealEkCertificates, IntermediatesMayComeWithTheCertificate) {
  const Bytes as_read = certificate_file("infineon-slb9665.der");
  const Bytes ek = ek_public_of(value_of(parse_ek_certificate(as_read)));
  TpmRoots roots = vendor_roots();
  std::vector<Bytes> chain;
  for (const Certificate& between : roots.intermediates) chain.push_back(between.der());
  roots.intermediates.clear();
  EXPECT_THAT(verify_endorsement(as_read, {}, ek, roots, kNow), FailsWith(Reason::kEkChain));
  EXPECT_THAT(verify_endorsement(as_read, chain, ek, roots, kNow), Succeeds());
  const std::vector<Bytes> too_many(9, chain.front());
  EXPECT_THAT(verify_endorsement(as_read, too_many, ek, roots, kNow), FailsWith(Reason::kEkCertificate));
}

TEST(RealEkCertificates, WithRsaesOaepKeysAreUnsupported) {
  const Bytes any_ek = SoftTpm{}.ek_public();
  for (const char* file :
       {"hirs-st33zp24.der", "hirs-st33zp24-with-7-byte-header.bin", "hirs-nuvoton-npct6xx-padded.bin"}) {
    EXPECT_THAT(parse_ek_certificate(certificate_file(file)), Succeeds()) << file;
    EXPECT_THAT(verify_endorsement(certificate_file(file), {}, any_ek, vendor_roots(), kNow),
                FailsWith(Reason::kEkUnsupported))
        << file;
  }
}

TEST(RealEkCertificates, AVendorRootThatIsNotStrictDerParses) {
  EXPECT_THAT(Certificate::parse_der(certificate_file("nuvoton-root-2110-invalid-set-ordering.der")),
              Succeeds());
}

TEST(SwtpmEkCertificates, OfP384AndRsaLeadToTheirRoot) {
  const std::string path = "tests/vectors/evidence_swtpm/";
  const TpmRoots roots{value_of(crypto::parse_pem_bundle(read_file(path + "root.pem"))),
                       value_of(crypto::parse_pem_bundle(read_file(path + "intermediate.pem")))};
  const auto vector = boost::json::parse(as_text(read_file(path + "golden.json")));
  for (const auto& [file, key] :
       {std::pair{"ek-p384.bin", "p384-h3"}, std::pair{"ek-rsa2048.bin", "rsa2048-l1"}}) {
    const Bytes ek =
        value_of(parse_hex(std::string_view{vector.at("credential").at(key).at("ek").as_string()}, 4096));
    const auto verified = value_of(verify_endorsement(read_file(path + file), {}, ek, roots, kNow));
    EXPECT_EQ(verified.model, "swtpm");
    EXPECT_EQ(encode(verified.ek), ek);
  }
}

TEST(EkCertificateArea, IsCutAtTheDer) {
  const SoftTpm tpm;
  const TestVendor vendor;
  const Bytes der = vendor.issue_ek(tpm.ek().key);
  const auto parses_to_der = [&](const Bytes& as_read) {
    const auto parsed = parse_ek_certificate(as_read);
    return parsed.has_value() && parsed->der() == der;
  };
  EXPECT_TRUE(parses_to_der(der));
  for (const int byte : {0x00, 0xFF}) {
    Bytes padded = der;
    padded.insert(padded.end(), 400, static_cast<std::uint8_t>(byte));
    EXPECT_TRUE(parses_to_der(padded));
    padded[padded.size() - 3] ^= 1;
    EXPECT_THAT(parse_ek_certificate(padded), FailsWith(Reason::kEkCertificate));
  }
  Bytes with_header{0x10,
                    0x01,
                    0x00,
                    static_cast<std::uint8_t>((der.size() + 2) >> 8),
                    static_cast<std::uint8_t>(der.size() + 2),
                    0x10,
                    0x02};
  with_header.insert(with_header.end(), der.begin(), der.end());
  EXPECT_TRUE(parses_to_der(with_header));
  with_header[4] ^= 1;
  EXPECT_THAT(parse_ek_certificate(with_header), FailsWith(Reason::kEkCertificate));
  for (std::size_t size : {std::size_t{0}, std::size_t{3}, std::size_t{4}, der.size() - 1})
    EXPECT_THAT(parse_ek_certificate(ByteView{der}.first(size)), FailsWith(Reason::kEkCertificate));
  Bytes too_long = der;
  too_long.resize(kMaxEkCertificateBytes + 1);
  EXPECT_THAT(parse_ek_certificate(too_long), FailsWith(Reason::kEkCertificate));
}

class Endorsement : public testing::TestWithParam<KeyAlgorithm> {
 protected:
  SoftTpm tpm_{GetParam()};
  TestVendor vendor_;

  Result<VerifiedEndorsement> verify(const TestVendor::EkOptions& options) const {
    return verify_endorsement(vendor_.issue_ek(tpm_.ek().key, options), {}, tpm_.ek_public(), vendor_.roots(),
                              kNow);
  }
};

TEST_P(Endorsement, VerifiesWhenAllIsRight) {
  const auto verified = value_of(verify({}));
  EXPECT_EQ(verified.device, tpm_.device());
  EXPECT_EQ(verified.manufacturer, "id:53595054");
  EXPECT_EQ(verified.model, "SoftTpm");
  EXPECT_EQ(verified.version, "id:00010000");
  EXPECT_THAT(verify({.with_eku = false}), Succeeds());  // the profile leaves it to the vendor
}

TEST_P(Endorsement, IsRefusedForEachFault) {
  using Options = TestVendor::EkOptions;
  const std::vector<std::tuple<const char*, Options, Reason>> faults{
      {"a CA", {.ca = true}, Reason::kEkCertificate},
      {"no key usage", {.with_key_usage = false}, Reason::kEkCertificate},
      {"a signing key", {.wrong_key_usage = true}, Reason::kEkCertificate},
      {"a platform certificate", {.eku = "2.23.133.8.2"}, Reason::kEkCertificate},
      {"a TLS server", {.eku = "serverAuth"}, Reason::kEkCertificate},
      {"no SAN", {.with_san = false}, Reason::kEkCertificate},
      {"no model", {.with_model = false}, Reason::kEkCertificate},
      {"version 1", {.v1 = true}, Reason::kEkCertificate},
      {"unknown critical extension", {.unknown_critical = true}, Reason::kEkChain},
      {"signed with SHA-1", {.sha1 = true}, Reason::kEkChain},
      {"signed by another key", {.by_stranger = true}, Reason::kEkChain},
      {"expired", {.not_after = UnixMillis{kNow.get() - 1000}}, Reason::kEkChain},
      {"not yet valid", {.not_before = UnixMillis{kNow.get() + 1000}}, Reason::kEkChain}};
  for (const auto& [what, options, reason] : faults) EXPECT_THAT(verify(options), FailsWith(reason)) << what;
  EXPECT_THAT(verify({.not_after = kNow}), FailsWith(Reason::kEkChain));  // notAfter itself is too late
  EXPECT_THAT(verify({.not_after = UnixMillis{kNow.get() + 1000}}), Succeeds());
  EXPECT_THAT(verify({.not_before = kNow}), Succeeds());
}

TEST_P(Endorsement, IsRefusedForAnotherVendorOrKey) {
  const TestVendor other;
  const Bytes certificate = vendor_.issue_ek(tpm_.ek().key);
  EXPECT_THAT(verify_endorsement(certificate, {}, tpm_.ek_public(), other.roots(), kNow),
              FailsWith(Reason::kEkChain));
  EXPECT_THAT(verify_endorsement(certificate, {}, SoftTpm{GetParam()}.ek_public(), vendor_.roots(), kNow),
              FailsWith(Reason::kEkCertificate));
}

TEST_P(Endorsement, KeyInAnotherTemplateIsRefused) {
  const Bytes certificate = vendor_.issue_ek(tpm_.ek().key);
  for (int bit = 0; bit < 20; ++bit) {
    PublicArea other = tpm_.ek();
    other.form.attributes ^= std::uint32_t{1} << bit;
    if (std::ranges::find(ek_templates(), other.form) != ek_templates().end()) continue;
    EXPECT_FALSE(verify_endorsement(certificate, {}, encode(other), vendor_.roots(), kNow).has_value())
        << bit;
  }
  PublicArea no_policy = tpm_.ek();
  no_policy.form.auth_policy.clear();
  EXPECT_THAT(verify_endorsement(certificate, {}, encode(no_policy), vendor_.roots(), kNow),
              FailsWith(Reason::kKeyTemplate));
}

INSTANTIATE_TEST_SUITE_P(Algorithms, Endorsement,
                         testing::Values(KeyAlgorithm::kP256, KeyAlgorithm::kP384, KeyAlgorithm::kRsa2048));

TEST(EndorsementBytes, WithAnyByteOfTheCertificateChangedAreRefused) {
  const SoftTpm tpm;
  const TestVendor vendor;
  const Bytes good = vendor.issue_ek(tpm.ek().key);
  const Bytes ek = tpm.ek_public();
  ASSERT_THAT(verify_endorsement(good, {}, ek, vendor.roots(), kNow), Succeeds());
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= 1;
    EXPECT_FALSE(verify_endorsement(bad, {}, ek, vendor.roots(), kNow).has_value()) << i;
  }
}

}  // namespace
}  // namespace sallyport::evidence

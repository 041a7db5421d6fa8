#include "attestation/evidence/endorsement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "attestation/base/hex.h"
#include "attestation/evidence/templates.h"
#include "tests/support/ek_header.h"
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

constexpr const char* kBundle = "tests/vectors/tpm_roots/";

// The public bundles in one, as a policy pins it.
TpmRoots vendor_roots() {
  Bytes bundle;
  for (const char* file : {"vendor-roots.pem", "vendor-intermediates.pem", "google.pem"}) {
    const Bytes part = read_file(std::string{kBundle} + file);
    bundle.insert(bundle.end(), part.begin(), part.end());
  }
  return value_of(split_bundle(bundle));
}

// The TPMT_PUBLIC that the TPM with this certificate has: the template for its kind of key.
Bytes ek_public_of(const Certificate& certificate) {
  const auto key = value_of(certificate.public_key());
  for (const PublicTemplate& form : ek_templates())
    if (form.algorithm == key.algorithm()) return encode(PublicArea{form, key});
  return {};
}

TEST(VendorBundle, LoadsWholeAndIsSplitIntoRootsAndIntermediates) {
  const TpmRoots bundle = vendor_roots();
  EXPECT_EQ(bundle.roots.size() + bundle.intermediates.size(), 26u + 143u + 5u);
  // STMicroelectronics' two cross-signed roots, and AMD's Pluton CA, are not self-issued.
  EXPECT_EQ(bundle.roots.size(), 26u - 3u + 2u);
  EXPECT_THAT(split_bundle({}), FailsWith(Code::kMalformed));
}

// Each CA of the bundles leads to a root of them, but for AMD's Pluton CA and what is below it: the CA over
// it is in neither.
TEST(VendorBundle, EachIntermediateLeadsToARootOfIt) {
  const TpmRoots bundle = vendor_roots();
  std::size_t without_root = 0;
  for (const Certificate& between : bundle.intermediates) {
    const auto path = crypto::verify_chain(between, bundle.intermediates, bundle.roots, kNow);
    if (path.has_value()) continue;
    ++without_root;
    EXPECT_THAT(path.error().what, testing::HasSubstr("AMD Root CA R4")) << between.subject();
  }
  EXPECT_EQ(without_root, 11u);
}

struct RealTpm {
  const char* file;
  const char* manufacturer;
  const char* model;
  const char* version;
  std::size_t path;  // certificates from it to the root
  std::vector<EkOddity> oddities;
};

class RealEkCertificate : public testing::TestWithParam<RealTpm> {};

TEST_P(RealEkCertificate, LeadsToItsVendorsRoot) {
  const Bytes as_read = certificate_file(GetParam().file);
  const Certificate certificate = value_of(parse_ek_certificate(as_read));
  const Bytes ek = ek_public_of(certificate);
  const auto verified = value_of(verify_endorsement(as_read, {}, ek, vendor_roots(), kNow));
  EXPECT_EQ(verified.manufacturer, GetParam().manufacturer);
  EXPECT_EQ(verified.model, GetParam().model);
  EXPECT_EQ(verified.version, GetParam().version);
  EXPECT_EQ(verified.device.get(), value_of(certificate.public_key()).id().get());
  EXPECT_EQ(encode(verified.ek), ek);

  const auto alone = value_of(verify_ek_certificate(as_read, {}, vendor_roots(), kNow));
  EXPECT_EQ(alone.path.size(), GetParam().path);
  EXPECT_EQ(alone.path.front(), certificate);
  EXPECT_TRUE(alone.path.back().is_self_issued());
  EXPECT_EQ(alone.oddities, GetParam().oddities);
  for (const EkOddity oddity : alone.oddities) EXPECT_FALSE(sentence(oddity).empty());

  EXPECT_THAT(verify_endorsement(as_read, {}, ek, TpmRoots{}, kNow), FailsWith(Reason::kEkChain));
  const UnixMillis long_after{5'000'000'000'000};  // 2128
  EXPECT_THAT(verify_endorsement(as_read, {}, ek, vendor_roots(), long_after), FailsWith(Reason::kEkExpired));
  EXPECT_THAT(verify_endorsement(as_read, {}, SoftTpm{}.ek_public(), vendor_roots(), kNow),
              FailsWith(Reason::kEkCertificate));
}

INSTANTIATE_TEST_SUITE_P(
    Vendors, RealEkCertificate,
    testing::Values(RealTpm{"infineon-slb9665.der", "id:49465800", "SLB 9665", "id:053E", 3, {}},
                    RealTpm{"nuvoton-npct75x.der",
                            "id:4E544300",
                            "NPCT75x",
                            "id:00070002",
                            2,
                            {EkOddity::kNotDer, EkOddity::kMultiValuedName}},
                    RealTpm{"st33htphahb4-rsa-nv-padded.bin",
                            "id:53544D20",
                            "ST33HTPHAHB4",
                            "id:00490004",
                            4,
                            {EkOddity::kPadding}},
                    RealTpm{"gce-uca-rsa-ek.der", "id:474F4F47", "vTPM", "id:20160511", 3, {}},
                    RealTpm{"gce-pca-rsa-ek.der",
                            "id:474F4F47",
                            "vTPM",
                            "",
                            3,
                            {EkOddity::kNoEku, EkOddity::kGoogleInstance}}));

// The one real certificate behind a header that is at hand has a key that no TPM 2.0 has (below). These are
// real ones that verify, behind a header as the real one has it.
TEST(RealEkCertificates, BehindTheHeaderOfTpm12ToolsVerifyAndAreToldOf) {
  const Bytes real = certificate_file("hirs-st33zp24-with-7-byte-header.bin");
  EXPECT_EQ(test::behind_header(value_of(parse_ek_certificate(real)).der()), real);
  for (const auto& [file, odd] : std::initializer_list<std::pair<const char*, std::vector<EkOddity>>>{
           {"infineon-slb9665.der", {}},
           {"st33htphahb4-rsa-nv-padded.bin", {EkOddity::kPadding}},
           {"nuvoton-npct75x.der", {EkOddity::kNotDer, EkOddity::kMultiValuedName}}}) {
    SCOPED_TRACE(file);
    const Bytes as_read = certificate_file(file);
    const Certificate certificate = value_of(parse_ek_certificate(as_read));
    const Bytes ek = ek_public_of(certificate);
    const auto plain = value_of(verify_endorsement(as_read, {}, ek, vendor_roots(), kNow));
    EXPECT_EQ(plain.oddities, odd);
    Bytes headed = test::behind_header(certificate.der());
    headed.insert(headed.end(), as_read.begin() + static_cast<std::ptrdiff_t>(certificate.der().size()),
                  as_read.end());
    const auto verified = value_of(verify_endorsement(headed, {}, ek, vendor_roots(), kNow));
    std::vector<EkOddity> expected{EkOddity::kHeader};
    expected.insert(expected.end(), odd.begin(), odd.end());
    EXPECT_EQ(verified.oddities, expected);
    EXPECT_EQ(verified.device, plain.device);
    EXPECT_EQ(verified.root, plain.root);
    EXPECT_THAT(std::string{sentence(EkOddity::kHeader)}, testing::HasSubstr("header"));
    // A header is borne, and nothing more for it: a changed certificate behind one is refused.
    headed[headed.size() / 2] ^= 1;
    EXPECT_FALSE(verify_endorsement(headed, {}, ek, vendor_roots(), kNow).has_value());
  }
}

TEST(RealEkCertificates, OfGooglesAttestationKeysAreNotOfEndorsementKeys) {
  for (const char* file : {"gce-uca-ecc-ak.der", "gce-pca-ecc-ak.der"}) {
    const auto refused = verify_ek_certificate(certificate_file(file), {}, vendor_roots(), kNow);
    EXPECT_THAT(refused, FailsWith(Reason::kEkCertificate)) << file;
    EXPECT_THAT(refused.error().what, testing::HasSubstr("signing key")) << file;
  }
}

TEST(RealEkCertificates, IntermediatesMayComeWithTheCertificate) {
  const Bytes as_read = certificate_file("infineon-slb9665.der");
  const Bytes ek = ek_public_of(value_of(parse_ek_certificate(as_read)));
  TpmRoots roots = vendor_roots();
  std::vector<Bytes> chain;
  for (const Certificate& between : roots.intermediates)
    if (between.subject().find("RSA Manufacturing CA 029") != std::string::npos)
      chain.push_back(between.der());
  ASSERT_EQ(chain.size(), 1u);
  roots.intermediates.clear();
  const auto refused = verify_endorsement(as_read, {}, ek, roots, kNow);
  EXPECT_THAT(refused, FailsWith(Reason::kEkChain));
  EXPECT_THAT(refused.error().what, testing::HasSubstr("RSA Manufacturing CA 029"));  // what is missing
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
    EXPECT_THAT(verify_ek_certificate(certificate_file(file), {}, vendor_roots(), kNow).error().what,
                testing::HasSubstr("TPM 1.2-era"))
        << file;
  }
}

TEST(RealEkCertificates, WithKeysOfAnotherSizeAreUnsupported) {
  const auto refused =
      verify_ek_certificate(certificate_file("hirs-sw-tpm-rsa2041.der"), {}, vendor_roots(), kNow);
  EXPECT_THAT(refused, FailsWith(Reason::kEkUnsupported));
  EXPECT_THAT(refused.error().what, testing::HasSubstr("size"));
}

// What is claimed is refused exactly where every chain is in vain, for the same reason.
TEST(RealEkCertificates, AreReadWithoutRootsAsTheyAreWithThem) {
  struct Row {
    const char* file;
    unsigned bits;
    std::optional<Reason> refused;
  };
  for (const Row& row :
       {Row{"infineon-slb9665.der", 2048, std::nullopt}, Row{"nuvoton-npct75x.der", 2048, std::nullopt},
        Row{"st33htphahb4-rsa-nv-padded.bin", 2048, std::nullopt},
        Row{"gce-pca-rsa-ek.der", 2048, std::nullopt}, Row{"gce-uca-ecc-ak.der", 256, Reason::kEkCertificate},
        Row{"hirs-st33zp24.der", 2048, Reason::kEkUnsupported},
        Row{"hirs-sw-tpm-rsa2041.der", 2041, Reason::kEkUnsupported}}) {
    SCOPED_TRACE(row.file);
    const Bytes as_read = certificate_file(row.file);
    const ClaimedEkCertificate claimed = value_of(read_ek_certificate(as_read));
    const auto verified = verify_ek_certificate(as_read, {}, vendor_roots(), kNow);
    EXPECT_EQ(claimed.certificate.key_bits(), row.bits);
    ASSERT_EQ(claimed.refused.has_value(), row.refused.has_value());
    ASSERT_EQ(verified.has_value(), !row.refused.has_value());
    EXPECT_EQ(claimed.key.has_value(), row.refused != Reason::kEkUnsupported);
    if (row.refused) {
      EXPECT_EQ(claimed.refused->reason, *row.refused);
      EXPECT_THAT(verified, FailsWith(*row.refused));
    } else {
      EXPECT_EQ(claimed.oddities, verified->oddities);
      EXPECT_EQ(claimed.tpm.model, verified->tpm.model);
    }
  }
  EXPECT_THAT(read_ek_certificate({}), FailsWith(Reason::kEkCertificate));
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
  Bytes with_header = test::behind_header(der);
  EXPECT_TRUE(parses_to_der(with_header));
  with_header[4] ^= 1;
  EXPECT_THAT(parse_ek_certificate(with_header), FailsWith(Reason::kEkCertificate));
  for (std::size_t size : {std::size_t{0}, std::size_t{3}, std::size_t{4}, der.size() - 1})
    EXPECT_THAT(parse_ek_certificate(ByteView{der}.first(size)), FailsWith(Reason::kEkCertificate));
  Bytes too_long = der;
  too_long.resize(kMaxEkCertificateBytes + 1);
  EXPECT_THAT(parse_ek_certificate(too_long), FailsWith(Reason::kEkCertificate));
}

TEST(Manufacturer, IsTheLettersOfItsId) {
  EXPECT_EQ(manufacturer_text("id:53544D20"), "STM");
  EXPECT_EQ(manufacturer_text("id:49465800"), "IFX");
  EXPECT_EQ(manufacturer_text("id:474f4f47"), "GOOG");
  for (const char* other :
       {"", "id:", "id:00001014", "id:53544D2", "id:53544D2G", "id:00000000", "STM", "id:53544D2020"})
    EXPECT_EQ(manufacturer_text(other), other);
}

TEST(OnDieChain, IsCertificatesOneAfterTheOther) {
  const TestVendor vendor;
  Bytes both = vendor.root().der();
  const Bytes second = vendor.intermediate().der();
  both.insert(both.end(), second.begin(), second.end());
  EXPECT_EQ(value_of(split_chain(both)), (std::vector{vendor.root().der(), second}));
  EXPECT_TRUE(value_of(split_chain({})).empty());
  both.push_back(0);
  EXPECT_THAT(split_chain(both), FailsWith(Reason::kEkCertificate));
  both.resize(both.size() - 2);
  EXPECT_THAT(split_chain(both), FailsWith(Reason::kEkCertificate));
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
      {"no subject and no critical SAN", {.critical_san = false}, Reason::kEkCertificate},
      {"two manufacturers", {.named_twice = true}, Reason::kEkCertificate},
      {"version 1", {.v1 = true}, Reason::kEkCertificate},
      {"unknown critical extension", {.unknown_critical = true}, Reason::kEkChain},
      {"signed with SHA-1", {.sha1 = true}, Reason::kEkChain},
      {"signed by another key", {.by_stranger = true}, Reason::kEkChain},
      {"expired", {.not_after = UnixMillis{kNow.get() - 1000}}, Reason::kEkExpired},
      {"not yet valid", {.not_before = UnixMillis{kNow.get() + 1000}}, Reason::kEkExpired}};
  for (const auto& [what, options, reason] : faults) EXPECT_THAT(verify(options), FailsWith(reason)) << what;
  EXPECT_THAT(verify({.not_after = kNow}), FailsWith(Reason::kEkExpired));  // notAfter itself is too late
  EXPECT_THAT(verify({.not_after = UnixMillis{kNow.get() + 1000}}), Succeeds());
  EXPECT_THAT(verify({.not_before = kNow}), Succeeds());
}

// Where the roots take expired ones: what was valid when the EK's certificate became so, and nothing else.
TEST_P(Endorsement, AfterItsTimeIfTheRootsTakeSuch) {
  const UnixMillis past{kNow.get() - 1000};
  const auto verify = [&](const TestVendor& vendor, const TestVendor::EkOptions& options) {
    TpmRoots roots = vendor.roots();
    roots.expired_accepted = true;
    const Bytes certificate = vendor.issue_ek(tpm_.ek().key, options);
    auto out = verify_ek_certificate(certificate, {}, roots, kNow);
    if (out.has_value()) {
      EXPECT_THAT(verify_endorsement(certificate, {}, tpm_.ek_public(), roots, kNow), Succeeds());
    }
    return out;
  };
  const TestVendor vendor, old({.intermediate_to = past});
  const auto expired = [](const VerifiedEkCertificate& ek) {
    return std::ranges::count(ek.oddities, EkOddity::kExpired);
  };
  EXPECT_EQ(expired(value_of(verify(vendor, {}))), 0);
  EXPECT_EQ(expired(value_of(verify(vendor, {.not_after = past}))), 1);
  EXPECT_EQ(expired(value_of(verify(old, {}))), 1);
  // Not before its time, nor issued by a CA after that one's, nor with any other fault.
  EXPECT_THAT(verify(vendor, {.not_before = UnixMillis{kNow.get() + 1000}}), FailsWith(Reason::kEkExpired));
  EXPECT_THAT(verify(old, {.not_before = UnixMillis{past.get() + 500}}), FailsWith(Reason::kEkExpired));
  EXPECT_THAT(verify(vendor, {.not_after = past, .by_stranger = true}), FailsWith(Reason::kEkChain));
}

TEST_P(Endorsement, OfACaThatHasExpiredIsRefused) {
  const TestVendor old({.intermediate_to = UnixMillis{kNow.get() - 1000}});
  const Bytes certificate = old.issue_ek(tpm_.ek().key);
  const auto refused = verify_endorsement(certificate, {}, tpm_.ek_public(), old.roots(), kNow);
  EXPECT_THAT(refused, FailsWith(Reason::kEkExpired));
  EXPECT_THAT(refused.error().what, testing::HasSubstr("CN=Soft TPM Intermediate CA"));
  EXPECT_THAT(
      verify_endorsement(certificate, {}, tpm_.ek_public(), old.roots(), UnixMillis{kNow.get() - 2000}),
      Succeeds());
}

// A root is trusted for being in the bundle, not for what it says of itself.
TEST_P(Endorsement, OfARootWhoseOwnSignatureIsWeakVerifies) {
  const TestVendor old({.sha1_root = true});
  EXPECT_THAT(verify_endorsement(old.issue_ek(tpm_.ek().key), {}, tpm_.ek_public(), old.roots(), kNow),
              Succeeds());
}

TEST_P(Endorsement, OfAnOnDieCaNeedsTheChainFromTheTpm) {
  const TestVendor::OnDie on_die = vendor_.issue_on_die(tpm_.ek().key);
  const TpmRoots roots{{vendor_.root()}, {on_die.published}};
  EXPECT_THAT(verify_endorsement(on_die.ek, on_die.chain, tpm_.ek_public(), roots, kNow), Succeeds());
  EXPECT_EQ(value_of(verify_ek_certificate(on_die.ek, on_die.chain, roots, kNow)).path.size(), 6u);
  EXPECT_THAT(verify_endorsement(on_die.ek, {}, tpm_.ek_public(), roots, kNow), FailsWith(Reason::kEkChain));
  for (std::size_t i = 0; i < on_die.chain.size(); ++i) {
    std::vector<Bytes> gap = on_die.chain;
    gap.erase(gap.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(verify_endorsement(on_die.ek, gap, tpm_.ek_public(), roots, kNow),
                FailsWith(Reason::kEkChain))
        << i;
  }
  // Those CAs certify what their chip says, so a chain of another chip's is no use to this one.
  const TestVendor::OnDie other = vendor_.issue_on_die(tpm_.ek().key);
  EXPECT_THAT(verify_endorsement(on_die.ek, other.chain, tpm_.ek_public(), roots, kNow),
              FailsWith(Reason::kEkChain));
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

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/attest.h"
#include "attestation/evidence/signature.h"
#include "attestation/evidence/templates.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;

boost::json::value load(const char* path) {
  return boost::json::parse(as_text(test::read_file(path)));
}
Bytes hex_of(const boost::json::value& value) {
  return value_of(parse_hex(std::string_view{value.as_string()}, 4096));
}
Bytes base64_of(const boost::json::value& value) {
  return value_of(parse_base64(std::string_view{value.as_string()}, 4096));
}
boost::json::value golden() {
  return load("tests/vectors/evidence_swtpm/golden.json");
}

// Every proper prefix, and every extension by one byte, of a structure must be refused.
template <class Parse>
void expect_exact_length(const Bytes& good, Parse parse) {
  ASSERT_THAT(parse(good), Succeeds());
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_THAT(parse(ByteView{good}.first(size)), FailsWith(Code::kMalformed)) << size;
  Bytes longer = good;
  longer.push_back(0);
  EXPECT_THAT(parse(longer), FailsWith(Code::kMalformed));
}

// A structure with any byte changed is refused, or is another value whose bytes are exactly these.
template <class Parse>
void expect_one_encoding(const Bytes& good, Parse parse) {
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int change : {0x01, 0x80, 0xFF}) {
      Bytes other = good;
      other[i] = static_cast<std::uint8_t>(other[i] ^ change);
      const auto parsed = parse(other);
      if (parsed.has_value()) {
        EXPECT_EQ(encode(*parsed), other) << i;
      }
    }
  }
}

TEST(PublicArea, RoundTripsWhatATpmMade) {
  const auto vector = golden();
  for (const char* key : {"ak", "lease_key", "sign_key", "agree_key"}) {
    const Bytes bytes = hex_of(vector.at(key).at("tpmt_public"));
    const PublicArea area = value_of(parse_public_area(bytes));
    EXPECT_EQ(encode(area), bytes) << key;
    EXPECT_EQ(name_of(area).get(), hex_of(vector.at(key).at("name"))) << key;
    expect_exact_length(bytes, parse_public_area);
    expect_one_encoding(bytes, parse_public_area);
  }
}

TEST(PublicArea, RoundTripsEndorsementKeysOfEveryKind) {
  const auto credentials = golden().at("credential");
  for (const char* key : {"rsa2048-l1", "p256-l2", "p384-h3"}) {
    const Bytes bytes = hex_of(credentials.at(key).at("ek"));
    const PublicArea area = value_of(parse_public_area(bytes));
    EXPECT_EQ(encode(area), bytes) << key;
    EXPECT_EQ(name_of(area).get(), hex_of(credentials.at(key).at("ek_name"))) << key;
    expect_exact_length(bytes, parse_public_area);
  }
}

TEST(PublicArea, QualifiedNamesAreTheTpms) {
  const auto vector = golden();
  const TpmName ak = value_of(parse_name(hex_of(vector.at("ak").at("name"))));
  EXPECT_EQ(qualified_name_of_primary(kHandleEndorsement, ak).get(),
            hex_of(vector.at("ak").at("qualified_name")));
  for (const char* key : {"sign_key", "agree_key"}) {
    const TpmName name = value_of(parse_name(hex_of(vector.at(key).at("name"))));
    EXPECT_EQ(qualified_name_of_primary(kHandleNull, name).get(),
              hex_of(vector.at(key).at("qualified_name")));
  }
}

TEST(PublicArea, RefusesAPointOffTheCurve) {
  Bytes bytes = hex_of(golden().at("ak").at("tpmt_public"));
  bytes.back() ^= 1;
  EXPECT_THAT(parse_public_area(bytes), FailsWith(Code::kMalformed));
}

TEST(PublicArea, RefusesReservedAttributesOtherKdfsHashesAndExponents) {
  const Bytes ak = hex_of(golden().at("ak").at("tpmt_public"));
  const auto with = [&](std::size_t at, std::uint8_t byte) {
    Bytes out = ak;
    out[at] = byte;
    return out;
  };
  EXPECT_THAT(parse_public_area(with(7, 0x73)), FailsWith(Code::kMalformed));   // attribute bit 0
  EXPECT_THAT(parse_public_area(with(4, 0x80)), FailsWith(Code::kMalformed));   // attribute bit 31
  EXPECT_THAT(parse_public_area(with(3, 0x04)), FailsWith(Code::kMalformed));   // nameAlg SHA-1
  EXPECT_THAT(parse_public_area(with(15, 0x04)), FailsWith(Code::kMalformed));  // ECDSA with SHA-1
  EXPECT_THAT(parse_public_area(with(17, 0x05)), FailsWith(Code::kMalformed));  // P-521
  EXPECT_THAT(parse_public_area(with(19, 0x20)), FailsWith(Code::kMalformed));  // a kdf
  Bytes rsa = hex_of(golden().at("credential").at("rsa2048-l1").at("ek"));
  const std::size_t exponent = rsa.size() - 256 - 2 - 4;
  rsa[exponent + 1] = 1;
  rsa[exponent + 3] = 1;  // 65537 spelled out: the second spelling of the default
  EXPECT_THAT(parse_public_area(rsa), FailsWith(Code::kMalformed));
}

TEST(Templates, AreTheBytesATpmAnswers) {
  const auto vector = golden();
  const auto form = [&](const char* key) {
    return value_of(parse_public_area(hex_of(vector.at(key).at("tpmt_public")))).form;
  };
  EXPECT_EQ(form("ak"), ak_template());
  EXPECT_EQ(ak_template().attributes, 0x00050472u);
  const Digest256 policy =
      value_of(parse_digest(std::string_view{vector.at("policy").at("digest").as_string()}));
  EXPECT_EQ(form("sign_key"), session_key_template(SessionKeyUse::kSign, policy));
  EXPECT_EQ(form("agree_key"), session_key_template(SessionKeyUse::kAgree, policy));
  EXPECT_EQ(session_key_template(SessionKeyUse::kSign, policy).attributes, 0x00040432u);
  EXPECT_EQ(session_key_template(SessionKeyUse::kAgree, policy).attributes, 0x00020432u);
  EXPECT_EQ(form("lease_key"), lease_key_template());
  EXPECT_EQ(lease_key_template().attributes, 0x00040040u);
}

TEST(Templates, LeaseKeyPublicIsTheGoldenOne) {
  const auto vector = golden().at("lease_key");
  const auto key = value_of(crypto::PublicKey::parse_spki(hex_of(vector.at("spki"))));
  const LeaseKeyPublic lease = value_of(lease_key_public(key));
  EXPECT_EQ(lease.tpmt_public, hex_of(vector.at("tpmt_public")));
  EXPECT_EQ(lease.name.get(), hex_of(vector.at("name")));
  const auto ed25519 = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
  EXPECT_THAT(lease_key_public(ed25519.public_key()), FailsWith(Code::kMalformed));
}

TEST(Templates, InPublicOfCreatePrimaryIsTheTemplateWithoutUnique) {
  EXPECT_EQ(to_hex(ByteView{encode_for_create(ak_template())}),
            "0023000b00050472000000100018000b0003001000000000");
  for (const PublicTemplate& form : ek_templates()) {
    const Bytes in_public = encode_for_create_ek(form);
    const bool low = (form.attributes & attribute::kUserWithAuth) == 0;
    const bool rsa = form.algorithm == crypto::KeyAlgorithm::kRsa2048;
    const std::size_t unique = low ? (rsa ? 2 + 256 : 2 * (2 + 32)) : (rsa ? 2 : 4);
    EXPECT_EQ(in_public.size(), encode_for_create(form).size() - (rsa ? 2 : 4) + unique);
  }
}

TEST(AttestationKey, IsTakenOnlyWhenItIsTheTemplate) {
  const auto vector = golden().at("ak");
  const AttestationKey ak = value_of(parse_attestation_key(hex_of(vector.at("tpmt_public"))));
  EXPECT_EQ(ak.name().get(), hex_of(vector.at("name")));
  EXPECT_EQ(ak.qualified_name().get(), hex_of(vector.at("qualified_name")));

  const PublicArea good = ak.area();
  // Each attribute that the parser takes, changed alone.
  for (int bit = 0; bit < 32; ++bit) {
    PublicArea other = good;
    other.form.attributes ^= std::uint32_t{1} << bit;
    EXPECT_FALSE(parse_attestation_key(encode(other)).has_value()) << bit;
  }
  PublicArea unrestricted = good;
  unrestricted.form.attributes &= ~attribute::kRestricted;
  EXPECT_THAT(parse_attestation_key(encode(unrestricted)), FailsWith(Reason::kKeyTemplate));
  PublicArea with_policy = good;
  with_policy.form.auth_policy = Bytes(32);
  EXPECT_THAT(parse_attestation_key(encode(with_policy)), FailsWith(Reason::kKeyTemplate));
  PublicArea any_scheme = good;
  any_scheme.form.scheme = Scheme::kNull;
  EXPECT_THAT(parse_attestation_key(encode(any_scheme)), FailsWith(Reason::kKeyTemplate));
  EXPECT_THAT(parse_attestation_key(hex_of(golden().at("sign_key").at("tpmt_public"))),
              FailsWith(Reason::kKeyTemplate));
}

TEST(AttestationKey, OfRsaIsTakenOnlyWhenItIsTheTemplate) {
  const PublicArea good = test::SoftTpm{crypto::KeyAlgorithm::kP256, crypto::KeyAlgorithm::kRsa2048}.ak().area();
  EXPECT_EQ(good.form, ak_templates().at(1));
  EXPECT_EQ(good.form.attributes, 0x00050472u);
  // type, nameAlg, attributes, no policy; symmetric NULL, RSASSA with SHA-256, 2048 bits, the default
  // exponent
  EXPECT_EQ(to_hex(ByteView{encode_for_create(good.form)}),
            "0001000b00050472000000100014000b0800000000000000");
  for (int bit = 0; bit < 32; ++bit) {
    PublicArea other = good;
    other.form.attributes ^= std::uint32_t{1} << bit;
    EXPECT_FALSE(parse_attestation_key(encode(other)).has_value()) << bit;
  }
  PublicArea with_policy = good;
  with_policy.form.auth_policy = Bytes(32);
  EXPECT_THAT(parse_attestation_key(encode(with_policy)), FailsWith(Reason::kKeyTemplate));
  for (const Scheme scheme : {Scheme::kNull, Scheme::kRsaPssSha256}) {
    PublicArea other = good;
    other.form.scheme = scheme;
    EXPECT_THAT(parse_attestation_key(encode(other)), FailsWith(Reason::kKeyTemplate));
  }
  PublicArea sha384_name = good;
  sha384_name.form.name_alg = NameAlg::kSha384;
  EXPECT_THAT(parse_attestation_key(encode(sha384_name)), FailsWith(Reason::kKeyTemplate));

  const Bytes bytes = encode(good);
  const auto with = [&bytes](std::size_t at, std::initializer_list<std::uint8_t> changed) {
    Bytes other = bytes;
    std::copy(changed.begin(), changed.end(), other.begin() + static_cast<std::ptrdiff_t>(at));
    return parse_attestation_key(other);
  };
  ASSERT_THAT(with(0, {0x00, 0x01}), Succeeds());
  EXPECT_THAT(with(14, {0x00, 0x04}), FailsWith(Code::kMalformed));              // SHA-1
  EXPECT_THAT(with(16, {0x04, 0x00}), FailsWith(Code::kMalformed));              // 1024 bits
  EXPECT_THAT(with(16, {0x0C, 0x00}), FailsWith(Code::kMalformed));              // 3072 bits
  EXPECT_THAT(with(18, {0x00, 0x00, 0x00, 0x03}), FailsWith(Code::kMalformed));  // exponent 3
  EXPECT_THAT(with(18, {0x00, 0x01, 0x00, 0x01}), FailsWith(Code::kMalformed));  // 65537, written out
}

TEST(PcrSelection, HasOneEncoding) {
  const Bytes bytes = encode(PcrSelection::standard());
  EXPECT_EQ(to_hex(ByteView{bytes}), "00000001000b03ff4000");
  EXPECT_EQ(value_of(parse_pcr_selection(bytes)), PcrSelection::standard());
  expect_exact_length(bytes, parse_pcr_selection);
  expect_one_encoding(bytes, parse_pcr_selection);
  for (const char* other : {"00000001000403ff4000",                   // SHA-1 bank
                            "00000001000b03000000",                   // empty
                            "00000002000b03ff4000000403ff4000",       // two banks
                            "00000000", "00000001000b04ff400000"}) {  // none; four octets
    EXPECT_THAT(parse_pcr_selection(value_of(parse_hex(other, 64))), FailsWith(Code::kMalformed)) << other;
  }
}

TEST(PcrSelection, TakesAscendingIndicesOnly) {
  using List = std::vector<std::uint8_t>;
  const List standard{0, 1, 2, 3, 4, 5, 6, 7, 14};
  EXPECT_EQ(value_of(PcrSelection::of(standard)), PcrSelection::standard());
  EXPECT_EQ(PcrSelection::standard().indices(), standard);
  EXPECT_EQ(PcrSelection::standard().count(), 9u);
  for (const List& bad : {List{}, List{1, 0}, List{3, 3}, List{24}})
    EXPECT_THAT(PcrSelection::of(bad), FailsWith(Code::kMalformed));
}

TEST(Attest, RoundTripsWhatATpmMade) {
  const auto vector = golden();
  for (const char* key : {"quote", "sign_key", "agree_key"}) {
    const Bytes bytes = hex_of(vector.at(key).at("attest"));
    const ClaimedAttest attest = value_of(parse_attest(bytes));
    EXPECT_EQ(encode(attest), bytes) << key;
    expect_exact_length(bytes, parse_attest);
    expect_one_encoding(bytes, parse_attest);
  }
  const ClaimedAttest quote = value_of(parse_attest(hex_of(vector.at("quote").at("attest"))));
  EXPECT_EQ(quote.clock.reset_count, vector.at("policy").at("reset_count").to_number<std::uint32_t>());
  EXPECT_TRUE(std::holds_alternative<ClaimedQuote>(quote.attested));
}

TEST(Attest, RefusesAnotherMagicTypeAndAThirdAnswerToYesOrNo) {
  const Bytes good = hex_of(golden().at("quote").at("attest"));
  Bytes magic = good;  // CVE-2024-29038: a restricted key can be made to sign this
  std::fill_n(magic.begin(), 3, std::uint8_t{0});
  EXPECT_THAT(parse_attest(magic), FailsWith(Code::kMalformed));
  for (const int type : {0x14, 0x15, 0x16, 0x19, 0x1A, 0x1C}) {
    Bytes other = good;
    other[5] = static_cast<std::uint8_t>(type);
    EXPECT_THAT(parse_attest(other), FailsWith(Code::kMalformed)) << type;
  }
  Bytes safe = good;
  safe[4 + 2 + 2 + 34 + 2 + 32 + 16] = 2;
  EXPECT_THAT(parse_attest(safe), FailsWith(Code::kMalformed));
}

TEST(Signature, RoundTripsWhatATpmMade) {
  const auto vector = golden();
  for (const char* key : {"quote", "sign_key", "sign"}) {
    const Bytes bytes = hex_of(vector.at(key).at("signature"));
    EXPECT_EQ(encode(value_of(parse_signature(bytes))), bytes) << key;
    expect_exact_length(bytes, parse_signature);
    expect_one_encoding(bytes, parse_signature);
  }
}

TEST(Signature, OfASchemeThatIsNotTheKeysIsRefused) {
  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  const TpmSignature rsa{Scheme::kRsaPssSha256, Bytes(256)};
  EXPECT_THAT(verify_tpm_signature(key.public_key(), {}, rsa), FailsWith(Reason::kQuoteSignature));
}

// The evidence of another project's TPM: an RSA attestation key, RSASSA, all 24 PCRs.
TEST(PublicEvidence, OfTrusteeVerifies) {
  const auto evidence = load("tests/vectors/evidence_public/tpm_evidence.json");
  const auto& quote = evidence.at("tpm_quote");
  const auto key = value_of(crypto::PublicKey::parse_spki(base64_of(evidence.at("ak_public"))));
  const Bytes message = base64_of(quote.at("message"));
  const Bytes signature_bytes = base64_of(quote.at("signature"));
  const ClaimedAttest attest = value_of(parse_attest(message));
  EXPECT_EQ(encode(attest), message);
  EXPECT_EQ(attest.extra_data.size(), 64u);
  const TpmSignature signature = value_of(parse_signature(signature_bytes));
  EXPECT_EQ(signature.scheme, Scheme::kRsaSsaSha256);
  EXPECT_EQ(encode(signature), signature_bytes);
  EXPECT_THAT(verify_tpm_signature(key, message, signature), Succeeds());

  std::vector<Digest256> values;
  for (const auto& value : quote.at("pcrs").as_array())
    values.push_back(value_of(parse_digest(std::string_view{value.as_string()})));
  const auto& claimed = std::get<ClaimedQuote>(attest.attested);
  EXPECT_EQ(claimed.selection.count(), 24u);
  EXPECT_EQ(pcr_digest(values), claimed.pcr_digest);

  for (std::size_t i = 0; i < message.size(); ++i) {
    Bytes other = message;
    other[i] ^= 1;
    EXPECT_THAT(verify_tpm_signature(key, other, signature), FailsWith(Reason::kQuoteSignature));
  }
}

TEST(PublicEvidence, OfAWindowsMachineIsRefusedForItsSha1) {
  const auto evidence = load("tests/vectors/evidence_public/windows_gcp_sha1.json");
  EXPECT_THAT(parse_attest(base64_of(evidence.at("quote"))), FailsWith(Reason::kQuotePcrs));
  EXPECT_THAT(parse_signature(base64_of(evidence.at("signature"))), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_attestation_key(base64_of(evidence.at("ak_public"))), FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::evidence

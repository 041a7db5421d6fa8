#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/binding.h"
#include "attestation/evidence/boot_state.h"
#include "attestation/evidence/certify.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::SoftSessionKey;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;

const Origin kOrigin{"us.sallyport.example/log/1"};
const CaseId kCase{ByteArray<16>{1, 2, 3}};

Digest256 digest_of(const char* text) {
  return crypto::sha256(as_bytes(text));
}

// With either attestation key.
class Evidence : public testing::TestWithParam<crypto::KeyAlgorithm> {
 protected:
  SoftTpm tpm_{crypto::KeyAlgorithm::kP256, GetParam()};
  crypto::PrivateKey lease_key_ = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  Digest256 binding_ = digest_of("binding");
  PcrSelection selection_ = PcrSelection::standard();

  SessionKeyPolicy policy() const { return tpm_.session_policy(lease_key_.public_key(), kOrigin, kCase); }
};

TEST_P(Evidence, QuoteOfTheEnrolledMachineVerifies) {
  const auto evidence = tpm_.quote(binding_);
  const auto values = tpm_.pcr_values(selection_);
  const VerifiedQuote quote = value_of(verify_quote(evidence, tpm_.ak(), binding_, selection_, values));
  EXPECT_EQ(quote.clock(), tpm_.clock);
  EXPECT_EQ(quote.firmware_version(), tpm_.firmware_version);
  EXPECT_EQ(quote.selection(), selection_);
  EXPECT_EQ(quote.pcr_digest(), tpm_.pcr_digest(selection_));
  EXPECT_EQ(quote.pcr_values(), values);
  EXPECT_TRUE(value_of(verify_quote(evidence, tpm_.ak(), binding_, selection_)).pcr_values().empty());
}

TEST_P(Evidence, QuoteWithAnyByteChangedIsRefused) {
  const auto good = tpm_.quote(binding_);
  for (std::size_t i = 0; i < good.attest.size(); ++i) {
    auto bad = good;
    bad.attest[i] ^= 1;
    EXPECT_FALSE(verify_quote(bad, tpm_.ak(), binding_, selection_).has_value()) << "attest " << i;
  }
  for (std::size_t i = 0; i < good.signature.size(); ++i) {
    auto bad = good;
    bad.signature[i] ^= 1;
    EXPECT_FALSE(verify_quote(bad, tpm_.ak(), binding_, selection_).has_value()) << "signature " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(AttestationKeys, Evidence,
                         testing::Values(crypto::KeyAlgorithm::kP256, crypto::KeyAlgorithm::kRsa2048),
                         [](const auto& one) { return std::string{crypto::algorithm_name(one.param)}; });

// An RSA key can sign in other ways than its template says; only a TPM that is not one would.
TEST(EvidenceByRsa, InAnotherSchemeOrWithAnotherHashIsRefused) {
  SoftTpm tpm{crypto::KeyAlgorithm::kP256, crypto::KeyAlgorithm::kRsa2048};
  const Digest256 binding = digest_of("binding");
  const PcrSelection selection = PcrSelection::standard();
  const auto good = tpm.quote(binding);
  ASSERT_THAT(verify_quote(good, tpm.ak(), binding, selection), Succeeds());
  const auto with = [&](Bytes signature) {
    return verify_quote(SignedAttest{good.attest, std::move(signature)}, tpm.ak(), binding, selection);
  };
  EXPECT_THAT(with(tpm.sign_in(Scheme::kRsaPssSha256, EVP_sha256(), good.attest)),
              FailsWith(Reason::kQuoteSignature));
  EXPECT_THAT(with(tpm.sign_in(Scheme::kRsaSsaSha256, EVP_sha1(), good.attest)),
              FailsWith(Reason::kQuoteSignature));
  Bytes says_sha1 = tpm.sign_in(Scheme::kRsaSsaSha256, EVP_sha1(), good.attest);
  says_sha1[3] = 0x04;
  EXPECT_THAT(with(says_sha1), FailsWith(Code::kMalformed));
  SoftTpm of_p256;
  EXPECT_THAT(with(of_p256.sign_in(Scheme::kEcdsaSha256, EVP_sha256(), good.attest)),
              FailsWith(Reason::kQuoteSignature));
  EXPECT_THAT(verify_quote(SignedAttest{good.attest, good.signature}, of_p256.ak(), binding, selection),
              FailsWith(Reason::kQuoteSignature));
}

TEST_P(Evidence, QuoteOfAnotherAttestationKeyIsRefused) {
  SoftTpm other;
  EXPECT_THAT(verify_quote(other.quote(binding_), tpm_.ak(), binding_, selection_),
              FailsWith(Reason::kQuoteSignature));
}

TEST_P(Evidence, QuoteForAnotherBindingIsRefused) {
  EXPECT_THAT(verify_quote(tpm_.quote(digest_of("another")), tpm_.ak(), binding_, selection_),
              FailsWith(Reason::kQuoteNonce));
  for (const std::size_t size : {0, 31, 33}) {
    const ClaimedAttest attest{tpm_.ak().qualified_name(), Bytes(size), tpm_.clock, 1,
                               ClaimedQuote{selection_, tpm_.pcr_digest(selection_)}};
    EXPECT_THAT(verify_quote(tpm_.sign_attest(attest), tpm_.ak(), binding_, selection_),
                FailsWith(Reason::kQuoteNonce));
  }
}

TEST_P(Evidence, QuoteOfAnotherSelectionIsRefused) {
  const PcrSelection more = value_of(PcrSelection::from_mask(selection_.mask() | 1u << 10));
  const PcrSelection fewer = value_of(PcrSelection::from_mask(selection_.mask() & ~1u));
  for (const PcrSelection& other : {more, fewer})
    EXPECT_THAT(verify_quote(tpm_.quote(binding_, other), tpm_.ak(), binding_, selection_),
                FailsWith(Reason::kQuotePcrs));
}

TEST_P(Evidence, PcrValuesOtherThanTheQuotedAreRefused) {
  const auto evidence = tpm_.quote(binding_);
  const auto good = tpm_.pcr_values(selection_);
  auto changed = good;
  changed[3] = digest_of("another boot");
  auto swapped = good;
  std::swap(swapped[0], swapped[1]);
  auto short_by_one = good;
  short_by_one.pop_back();
  auto long_by_one = good;
  long_by_one.push_back(Digest256{});
  for (const auto& values : {changed, swapped, short_by_one, long_by_one, std::vector<Digest256>{}})
    EXPECT_THAT(verify_quote(evidence, tpm_.ak(), binding_, selection_, values),
                FailsWith(Reason::kQuotePcrs));
}

TEST_P(Evidence, QuoteByAKeyOfAnotherHierarchyIsRefused) {
  const ClaimedAttest owner{qualified_name_of_primary(0x40000001, tpm_.ak().name()), to_bytes(view(binding_)),
                            tpm_.clock, 1, ClaimedQuote{selection_, tpm_.pcr_digest(selection_)}};
  EXPECT_THAT(verify_quote(tpm_.sign_attest(owner), tpm_.ak(), binding_, selection_),
              FailsWith(Reason::kQuoteSignature));
}

TEST_P(Evidence, CertificationDoesNotServeAsAQuoteNorAQuoteAsACertification) {
  const SoftSessionKey key = tpm_.create_session_key(SessionKeyUse::kSign, policy());
  EXPECT_THAT(verify_quote(tpm_.certify(key, binding_), tpm_.ak(), binding_, selection_),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(verify_certify(tpm_.quote(binding_), tpm_.ak(), binding_, key.tpmt_public, SessionKeyUse::kSign,
                             policy()),
              FailsWith(Code::kMalformed));
}

TEST_P(Evidence, SessionKeyOfTheTemplateVerifies) {
  const VerifiedQuote quote = value_of(verify_quote(tpm_.quote(binding_), tpm_.ak(), binding_, selection_));
  const SessionKeyPolicy from_quote =
      value_of(session_key_policy(quote, lease_key_.public_key(), kOrigin, kCase));
  EXPECT_EQ(policy_digest(from_quote), policy_digest(policy()));
  for (const SessionKeyUse use : {SessionKeyUse::kSign, SessionKeyUse::kAgree}) {
    const SoftSessionKey key = tpm_.create_session_key(use, from_quote);
    const VerifiedKey verified = value_of(
        verify_certify(tpm_.certify(key, binding_), tpm_.ak(), binding_, key.tpmt_public, use, from_quote));
    EXPECT_EQ(verified.key(), key.key.public_key());
    EXPECT_EQ(verified.name(), key.name);
    EXPECT_EQ(verified.use(), use);
    EXPECT_EQ(verified.policy(), policy_digest(from_quote));
    EXPECT_THAT(check_same_boot(quote, verified), Succeeds());
  }
}

TEST_P(Evidence, CertificationWithAnyByteChangedIsRefused) {
  const SoftSessionKey key = tpm_.create_session_key(SessionKeyUse::kSign, policy());
  const auto good = tpm_.certify(key, binding_);
  const auto verify = [&](const SignedAttest& evidence, ByteView tpmt_public) {
    return verify_certify(evidence, tpm_.ak(), binding_, tpmt_public, SessionKeyUse::kSign, policy());
  };
  ASSERT_THAT(verify(good, key.tpmt_public), Succeeds());
  for (std::size_t i = 0; i < good.attest.size(); ++i) {
    auto bad = good;
    bad.attest[i] ^= 1;
    EXPECT_FALSE(verify(bad, key.tpmt_public).has_value()) << "attest " << i;
  }
  for (std::size_t i = 0; i < key.tpmt_public.size(); ++i) {
    Bytes bad = key.tpmt_public;
    bad[i] ^= 1;
    EXPECT_FALSE(verify(good, bad).has_value()) << "public " << i;
  }
}

TEST_P(Evidence, SessionKeyWithAnyOtherAttributeIsRefused) {
  // The TPM certifies what it is told to; the template is what keeps a copied or password key out.
  for (int bit = 0; bit < 32; ++bit) {
    SoftSessionKey key = tpm_.create_session_key(SessionKeyUse::kSign, policy());
    key.area.form.attributes ^= std::uint32_t{1} << bit;
    key.tpmt_public = encode(key.area);
    key.name = name_of(key.area);
    const auto refused = verify_certify(tpm_.certify(key, binding_), tpm_.ak(), binding_, key.tpmt_public,
                                        SessionKeyUse::kSign, policy());
    ASSERT_FALSE(refused.has_value()) << bit;
    EXPECT_TRUE(refused.error().reason == Reason::kKeyTemplate || refused.error().code == Code::kMalformed)
        << bit;
  }
}

TEST_P(Evidence, SessionKeyOfTheOtherUseIsRefused) {
  const SoftSessionKey key = tpm_.create_session_key(SessionKeyUse::kAgree, policy());
  EXPECT_THAT(verify_certify(tpm_.certify(key, binding_), tpm_.ak(), binding_, key.tpmt_public,
                             SessionKeyUse::kSign, policy()),
              FailsWith(Reason::kKeyTemplate));
}

TEST_P(Evidence, SessionKeyWithAnotherPolicyIsRefused) {
  const auto verify_with = [&](const SessionKeyPolicy& made_with) {
    const SoftSessionKey key = tpm_.create_session_key(SessionKeyUse::kSign, made_with);
    return verify_certify(tpm_.certify(key, binding_), tpm_.ak(), binding_, key.tpmt_public,
                          SessionKeyUse::kSign, policy());
  };
  ASSERT_THAT(verify_with(policy()), Succeeds());
  SessionKeyPolicy other_case = policy();
  other_case.policy_ref = lease_policy_ref(kOrigin, CaseId{});
  EXPECT_THAT(verify_with(other_case), FailsWith(Reason::kKeyPolicy));
  SessionKeyPolicy other_log = policy();
  other_log.policy_ref = lease_policy_ref(Origin{"eu.sallyport.example/log/1"}, kCase);
  EXPECT_THAT(verify_with(other_log), FailsWith(Reason::kKeyPolicy));
  SessionKeyPolicy other_lease_key = policy();
  other_lease_key.lease_key =
      value_of(lease_key_public(crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key())).name;
  EXPECT_THAT(verify_with(other_lease_key), FailsWith(Reason::kKeyPolicy));
  SessionKeyPolicy other_pcrs = policy();
  other_pcrs.pcr_digest = digest_of("another boot");
  EXPECT_THAT(verify_with(other_pcrs), FailsWith(Reason::kKeyPolicy));
  SessionKeyPolicy fewer_pcrs = policy();
  fewer_pcrs.selection = value_of(PcrSelection::from_mask(1));
  EXPECT_THAT(verify_with(fewer_pcrs), FailsWith(Reason::kKeyPolicy));
  SessionKeyPolicy next_boot = policy();
  ++next_boot.reset_count;
  EXPECT_THAT(verify_with(next_boot), FailsWith(Reason::kKeyPolicy));
  SessionKeyPolicy after_suspend = policy();
  ++after_suspend.restart_count;
  EXPECT_THAT(verify_with(after_suspend), FailsWith(Reason::kKeyPolicy));
}

TEST_P(Evidence, SessionKeyOutsideTheNullHierarchyIsRefused) {
  const SoftSessionKey key = tpm_.create_session_key(SessionKeyUse::kSign, policy());
  for (const std::uint32_t hierarchy : {0x40000001u, kHandleEndorsement, 0x4000000Cu}) {
    const ClaimedAttest attest{tpm_.ak().qualified_name(), to_bytes(view(binding_)), tpm_.clock, 1,
                               ClaimedCertify{key.name, qualified_name_of_primary(hierarchy, key.name)}};
    EXPECT_THAT(verify_certify(tpm_.sign_attest(attest), tpm_.ak(), binding_, key.tpmt_public,
                               SessionKeyUse::kSign, policy()),
                FailsWith(Reason::kKeyCertify));
  }
}

TEST_P(Evidence, CertificationOfAnotherKeyOrBindingIsRefused) {
  const SoftSessionKey key = tpm_.create_session_key(SessionKeyUse::kSign, policy());
  const SoftSessionKey other = tpm_.create_session_key(SessionKeyUse::kSign, policy());
  EXPECT_THAT(verify_certify(tpm_.certify(other, binding_), tpm_.ak(), binding_, key.tpmt_public,
                             SessionKeyUse::kSign, policy()),
              FailsWith(Reason::kKeyCertify));
  EXPECT_THAT(verify_certify(tpm_.certify(key, digest_of("another")), tpm_.ak(), binding_, key.tpmt_public,
                             SessionKeyUse::kSign, policy()),
              FailsWith(Reason::kQuoteNonce));
}

TEST_P(Evidence, CertificationOfAnotherBootThanThePolicysIsRefused) {
  const SessionKeyPolicy before = policy();
  const SoftSessionKey key = tpm_.create_session_key(SessionKeyUse::kSign, before);
  tpm_.restart();
  EXPECT_THAT(verify_certify(tpm_.certify(key, binding_), tpm_.ak(), binding_, key.tpmt_public,
                             SessionKeyUse::kSign, before),
              FailsWith(Reason::kBootCounters));
}

// The same through bytes that a TPM made (swtpm): quote, both certifications, under the policy digest it
// computed itself.
TEST(TpmMadeEvidence, Verifies) {
  const auto vector =
      boost::json::parse(as_text(test::read_file("tests/vectors/evidence_swtpm/golden.json")));
  const auto bytes = [&](const char* object, const char* field) {
    return value_of(parse_hex(std::string_view{vector.at(object).at(field).as_string()}, 4096));
  };
  const auto digest = [&](const char* object, const char* field) {
    return value_of(parse_digest(std::string_view{vector.at(object).at(field).as_string()}));
  };
  const AttestationKey ak = value_of(parse_attestation_key(bytes("ak", "tpmt_public")));
  const Digest256 binding = digest("quote", "binding");
  std::vector<Digest256> values;
  for (const auto& value : vector.at("quote").at("pcr_values").as_array())
    values.push_back(value_of(parse_digest(std::string_view{value.as_string()})));
  const VerifiedQuote quote = value_of(verify_quote({bytes("quote", "attest"), bytes("quote", "signature")},
                                                    ak, binding, PcrSelection::standard(), values));
  const auto lease_key = value_of(crypto::PublicKey::parse_spki(bytes("lease_key", "spki")));
  const Origin origin{std::string{vector.at("policy").at("origin").as_string()}};
  const CaseId case_id =
      value_of(parse_case_id(std::string_view{vector.at("policy").at("case_id").as_string()}));
  const SessionKeyPolicy policy = value_of(session_key_policy(quote, lease_key, origin, case_id));
  EXPECT_EQ(policy_digest(policy), digest("policy", "digest"));
  for (const auto& [object, use] :
       {std::pair{"sign_key", SessionKeyUse::kSign}, std::pair{"agree_key", SessionKeyUse::kAgree}}) {
    const VerifiedKey key = value_of(verify_certify({bytes(object, "attest"), bytes(object, "signature")}, ak,
                                                    binding, bytes(object, "tpmt_public"), use, policy));
    EXPECT_EQ(key.name().get(), bytes(object, "name"));
    EXPECT_THAT(check_same_boot(quote, key), Succeeds());
  }
}

}  // namespace
}  // namespace sallyport::evidence

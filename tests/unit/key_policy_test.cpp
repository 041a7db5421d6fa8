#include "attestation/evidence/key_policy.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/binding.h"
#include "attestation/evidence/signature.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;

ByteArray<32> repeated(std::uint8_t byte) {
  ByteArray<32> out;
  out.fill(byte);
  return out;
}

Binding sample(Purpose purpose) {
  ByteArray<16> case_id;
  for (std::size_t i = 0; i < case_id.size(); ++i) case_id[i] = static_cast<std::uint8_t>(i);
  return {purpose,
          Origin{"us.sallyport.example/log/1"},
          CaseId{case_id},
          Digest256{repeated(0x11)},
          Nonce{repeated(0x22)},
          Digest256{repeated(0x33)}};
}

// The digests were computed apart from this code, with Python's hashlib, from the layout in binding.h.
TEST(Binding, IsTheLayoutOfTheHeader) {
  EXPECT_EQ(to_hex(binding_digest(sample(Purpose::kConnect))),
            "16b9e414c186dca2f29754b5de80d7d654a4baea2fd8cf5c182b3fb90954113c");
  EXPECT_EQ(to_hex(binding_digest(sample(Purpose::kRequest))),
            "cbec70d36fea278dd314e45ca4c00d6ed31884028201da46dbe64b9c087cc0be");
  EXPECT_EQ(to_hex(binding_digest(sample(Purpose::kKey))),
            "1d6441815e9960df4ecb25a08fbb337e96cc5c97697ddbdb89212b386da27fbc");
  EXPECT_EQ(to_hex(binding_digest(sample(Purpose::kActivate))),
            "b1b09b5bf15430b8f73bab2fa67ea5710e58e71cc57b8f98228306f08132bc34");
  EXPECT_EQ(to_hex(binding_digest(sample(Purpose::kApprove))),
            "72259a9d91d93506cd4c2fc6c8d089aa1d85378a050c55d12800070533d2185f");
  EXPECT_EQ(to_hex(binding_digest(sample(Purpose::kStay))),
            "903cf0f0bdda59d6a0bc69063451ffc85dacd22ebe99a356a14e68de8d391911");
  EXPECT_EQ(to_hex(binding_digest(sample(Purpose::kEnrol))),
            "bb86db28324227ae79789c08e2313a65e2a99927a08d378f832ac3f86333cfb1");
}

TEST(Binding, ChangesWithEveryInput) {
  std::set<Digest256> seen;
  const auto add = [&](const Binding& binding) { EXPECT_TRUE(seen.insert(binding_digest(binding)).second); };
  for (const Purpose purpose : {Purpose::kConnect, Purpose::kRequest, Purpose::kKey, Purpose::kActivate,
                                Purpose::kApprove, Purpose::kStay, Purpose::kEnrol})
    add(sample(purpose));
  Binding other = sample(Purpose::kRequest);
  other.origin = Origin{"eu.sallyport.example/log/1"};
  add(other);
  other = sample(Purpose::kRequest);
  other.case_id = CaseId{};
  add(other);
  other = sample(Purpose::kRequest);
  other.request = Digest256{};
  add(other);
  other = sample(Purpose::kRequest);
  other.nonce = Nonce{};
  add(other);
  other = sample(Purpose::kRequest);
  other.note = Digest256{};
  add(other);
  other = sample(Purpose::kRequest);
  std::swap(other.request, other.note);
  add(other);
}

class TpmVector : public testing::Test {
 protected:
  boost::json::value vector_ =
      boost::json::parse(as_text(test::read_file("tests/vectors/evidence_swtpm/golden.json")));
  Bytes bytes(const char* object, const char* field) const {
    return value_of(parse_hex(std::string_view{vector_.at(object).at(field).as_string()}, 4096));
  }
  Digest256 digest(const char* object, const char* field) const {
    return value_of(parse_digest(std::string_view{vector_.at(object).at(field).as_string()}));
  }
  TpmName name(const char* object) const { return value_of(parse_name(bytes(object, "name"))); }
};

TEST_F(TpmVector, PolicyDigestIsWhatTheTpmComputed) {
  const Origin origin{std::string{vector_.at("policy").at("origin").as_string()}};
  const CaseId case_id =
      value_of(parse_case_id(std::string_view{vector_.at("policy").at("case_id").as_string()}));
  const Digest256 ref = lease_policy_ref(origin, case_id);
  EXPECT_EQ(ref, digest("policy", "policy_ref"));
  const SessionKeyPolicy policy{
      .selection = PcrSelection::standard(),
      .pcr_digest = digest("policy", "pcr_digest"),
      .reset_count = vector_.at("policy").at("reset_count").to_number<std::uint32_t>(),
      .restart_count = vector_.at("policy").at("restart_count").to_number<std::uint32_t>(),
      .lease_key = name("lease_key"),
      .policy_ref = ref};
  EXPECT_EQ(policy_digest(policy), digest("policy", "digest"));
}

TEST_F(TpmVector, CpHashAndLeaseHashAreWhatTheTpmAccepted) {
  const Digest256 cp_hash = cp_hash_sign(name("sign_key"), digest("sign", "digest"));
  EXPECT_EQ(cp_hash, digest("sign", "cp_hash"));
  EXPECT_EQ(value_of(lease_hash(bytes("sign", "nonce_tpm"), 30, cp_hash, digest("policy", "policy_ref"))),
            digest("sign", "lease_hash"));
  EXPECT_EQ(value_of(cp_hash_ecdh_zgen(name("agree_key"), bytes("zgen", "point"))),
            digest("zgen", "cp_hash"));
  // And its answer is a signature by the session key over the digest: TPM2_Sign does not hash.
  const PublicArea area = value_of(parse_public_area(bytes("sign_key", "tpmt_public")));
  const TpmSignature signature = value_of(parse_signature(bytes("sign", "signature")));
  crypto::Signature64 raw;
  std::copy(signature.value.begin(), signature.value.end(), raw.begin());
  EXPECT_THAT(crypto::verify_p256(area.key, digest("sign", "digest"), raw), Succeeds());
}

TEST(LeaseHash, IsForOneTo30SecondsAndAWholeNonceOnly) {
  const ByteArray<32> nonce = repeated(1);
  const auto with = [&](ByteView nonce_tpm, std::uint32_t seconds) {
    return lease_hash(nonce_tpm, seconds, Digest256{}, Digest256{});
  };
  EXPECT_THAT(with(nonce, 1), Succeeds());
  EXPECT_THAT(with(nonce, 30), Succeeds());
  for (const std::uint32_t seconds : {0u, 31u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu})
    EXPECT_THAT(with(nonce, seconds), FailsWith(Code::kMalformed)) << seconds;
  EXPECT_THAT(with({}, 5), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(ByteView{nonce}.first(31), 5), FailsWith(Code::kMalformed));
  Bytes longer(33);
  EXPECT_THAT(with(longer, 5), FailsWith(Code::kMalformed));
}

TEST(LeaseHash, DependsOnEveryPart) {
  const ByteArray<32> nonce = repeated(1);
  const Digest256 base = value_of(lease_hash(nonce, 5, Digest256{}, Digest256{}));
  EXPECT_NE(value_of(lease_hash(repeated(2), 5, Digest256{}, Digest256{})), base);
  EXPECT_NE(value_of(lease_hash(nonce, 6, Digest256{}, Digest256{})), base);
  EXPECT_NE(value_of(lease_hash(nonce, 5, Digest256{repeated(1)}, Digest256{})), base);
  EXPECT_NE(value_of(lease_hash(nonce, 5, Digest256{}, Digest256{repeated(1)})), base);
}

TEST(CpHash, RefusesAPointInAnotherForm) {
  const TpmName name = value_of(parse_name(value_of(parse_hex("000b" + std::string(64, '0'), 34))));
  EXPECT_THAT(cp_hash_ecdh_zgen(name, Bytes(65, 4)), Succeeds());
  EXPECT_THAT(cp_hash_ecdh_zgen(name, Bytes(64, 4)), FailsWith(Code::kMalformed));
  EXPECT_THAT(cp_hash_ecdh_zgen(name, Bytes(65, 2)), FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::evidence

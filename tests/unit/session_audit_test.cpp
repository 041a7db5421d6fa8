#include "attestation/evidence/session_audit.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "attestation/base/hex.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;

const Digest256 kBinding = crypto::sha256(as_bytes("binding"));

// One emulated TPM, its identity proved by a P-256 and by an RSA attestation key.
struct Vector {
  AttestationKey ak;
  IdentityEvidence evidence;
};

std::vector<Vector> vectors() {
  std::vector<Vector> out;
  const auto file =
      boost::json::parse(as_text(test::read_file("tests/vectors/session_audit/swtpm-identity.json")));
  for (const auto& one : file.as_array()) {
    const auto bytes = [&one](const char* key) {
      return value_of(parse_hex(std::string_view{one.at(key).as_string()}, 4096));
    };
    out.push_back({value_of(parse_attestation_key(bytes("ak"))),
                   {{bytes("attest"), bytes("signature")}, bytes("created")}});
  }
  return out;
}

TEST(SessionAudit, ProvesOneIdentityForEachAttestationKey) {
  const auto both = vectors();
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].ak.key().algorithm(), crypto::KeyAlgorithm::kP256);
  EXPECT_EQ(both[1].ak.key().algorithm(), crypto::KeyAlgorithm::kRsa2048);
  for (const Vector& one : both) {
    const auto identity = value_of(verify_identity(one.evidence, one.ak, kBinding));
    EXPECT_EQ(identity.name(), both[0].ak.name());
  }
}

TEST(SessionAudit, WithAnyByteChangedIsRefused) {
  for (const Vector& one : vectors()) {
    for (Bytes IdentityEvidence::*const part : {&IdentityEvidence::created}) {
      for (std::size_t i = 0; i < (one.evidence.*part).size(); ++i) {
        IdentityEvidence bad = one.evidence;
        (bad.*part)[i] ^= 1;
        EXPECT_FALSE(verify_identity(bad, one.ak, kBinding).has_value()) << "created " << i;
      }
    }
    for (Bytes SignedAttest::*const part : {&SignedAttest::attest, &SignedAttest::signature}) {
      for (std::size_t i = 0; i < (one.evidence.audit.*part).size(); ++i) {
        IdentityEvidence bad = one.evidence;
        (bad.audit.*part)[i] ^= 1;
        EXPECT_FALSE(verify_identity(bad, one.ak, kBinding).has_value()) << i;
      }
    }
  }
}

TEST(SessionAudit, CutOrLongerIsRefused) {
  const Vector one = vectors().front();
  const Bytes& created = one.evidence.created;
  for (std::size_t size = 0; size < created.size(); ++size)
    EXPECT_THAT(parse_created(ByteView{created}.first(size)), FailsWith(Code::kMalformed)) << size;
  Bytes longer = created;
  longer.push_back(0);
  EXPECT_THAT(parse_created(longer), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_created(Bytes(kMaxCreatedBytes + 1)), FailsWith(Code::kMalformed));
}

TEST(SessionAudit, ForAnotherBindingOrKeyIsRefused) {
  const auto both = vectors();
  EXPECT_THAT(verify_identity(both[0].evidence, both[0].ak, crypto::sha256(as_bytes("another"))),
              FailsWith(Reason::kQuoteNonce));
  EXPECT_THAT(verify_identity(both[0].evidence, both[1].ak, kBinding), FailsWith(Reason::kQuoteSignature));
}

TEST(SessionAudit, ParametersOfTheCommandAreTheOnesOfTheSpecification) {
  EXPECT_EQ(to_hex(ByteView{identity_parameters()}),
            "0004"
            "00000000"  // inSensitive: no authValue, no data
            "0018"
            "0023000b00050472000000100018000b0003001000000000"  // inPublic
            "0000"                                              // outsideInfo
            "00000000");                                        // creationPCR
}

// What only a TPM that signs what it did not do could make: each thing that the digest is there for.
class ForgedAudit : public testing::Test {
 protected:
  SoftTpm tpm_, other_;

  static Bytes created(const PublicArea& area, std::uint32_t hierarchy = kHandleEndorsement) {
    const Bytes data(55, 1);
    Writer out;
    out.prefixed16(encode(area)).prefixed16(data).prefixed16(view(crypto::sha256(data)));
    out.u16(0x8021).u32(hierarchy).prefixed16(Bytes(32, 2)).prefixed16(view(name_of(area)));
    return std::move(out).take();
  }
  static Digest256 digest_of(ByteView parameters, ByteView answer, std::uint32_t handle = kHandleEndorsement,
                             std::uint32_t code = 0x131) {
    const Digest256 cp = crypto::sha256(Writer{}.u32(code).u32(handle).raw(parameters).bytes());
    const Digest256 rp = crypto::sha256(Writer{}.u32(0).u32(code).raw(answer).bytes());
    return crypto::sha256(Writer{}.raw(Bytes(32)).raw(view(cp)).raw(view(rp)).bytes());
  }
  Result<VerifiedIdentity> verify(const Digest256& session_digest, Bytes answer,
                                  bool exclusive = true) const {
    const ClaimedAttest attest{tpm_.ak().qualified_name(), to_bytes(view(kBinding)), tpm_.clock, 1,
                               ClaimedSessionAudit{exclusive, session_digest}};
    return verify_identity({tpm_.sign_attest(attest), std::move(answer)}, tpm_.ak(), kBinding);
  }
};

TEST_F(ForgedAudit, OfTheRightCommandWouldVerify) {
  const Bytes answer = created(other_.ak().area());
  const Digest256 digest = digest_of(identity_parameters(), answer);
  EXPECT_EQ(value_of(verify(digest, answer)).name(), other_.ak().name());
  EXPECT_THAT(verify(digest, answer, /*exclusive=*/false), Succeeds());
}

TEST_F(ForgedAudit, OfAnotherCommandIsRefused) {
  const Bytes answer = created(other_.ak().area());
  Bytes with_data = identity_parameters();
  with_data[1] = 5;  // one byte of sensitive data
  with_data.insert(with_data.begin() + 6, 7);
  Bytes unique = identity_parameters();
  unique[unique.size() - 10] = 1;
  for (const Digest256& digest :
       {digest_of(with_data, answer), digest_of(unique, answer), digest_of({}, answer),
        digest_of(identity_parameters(), answer, kHandleNull),
        digest_of(identity_parameters(), answer, kHandleEndorsement, 0x153),
        digest_of(identity_parameters(), {}), Digest256{}})
    EXPECT_THAT(verify(digest, answer), FailsWith(Reason::kKeyCertify));
}

TEST_F(ForgedAudit, OfAnotherKindOfKeyIsRefused) {
  const SoftTpm rsa{crypto::KeyAlgorithm::kP256, crypto::KeyAlgorithm::kRsa2048};
  PublicArea unrestricted = other_.ak().area();
  unrestricted.form.attributes &= ~attribute::kRestricted;
  for (const PublicArea& area : {rsa.ak().area(), unrestricted, other_.ek()}) {
    const Bytes answer = created(area);
    EXPECT_THAT(verify(digest_of(identity_parameters(), answer), answer), FailsWith(Reason::kKeyTemplate));
  }
  const Bytes null = created(other_.ak().area(), kHandleNull);
  EXPECT_THAT(verify(digest_of(identity_parameters(), null), null), FailsWith(Code::kMalformed));
}

TEST_F(ForgedAudit, QuoteIsNoAudit) {
  const Bytes answer = created(other_.ak().area());
  EXPECT_THAT(verify_identity({tpm_.quote(kBinding), answer}, tpm_.ak(), kBinding),
              FailsWith(Code::kMalformed));
  const ClaimedAttest attest{tpm_.ak().qualified_name(), to_bytes(view(kBinding)), tpm_.clock, 1,
                             ClaimedSessionAudit{true, {}}};
  EXPECT_THAT(verify_quote(tpm_.sign_attest(attest), tpm_.ak(), kBinding, PcrSelection::standard()),
              FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::evidence

#include "attestation/record/dsse.h"

#include <gtest/gtest.h>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/private_key.h"
#include "tests/support/matchers.h"

namespace sallyport::record {
namespace {

using crypto::KeyAlgorithm;
using crypto::PrivateKey;
using crypto::Signature64;
using test::FailsWith;
using test::Succeeds;
using test::value_of;

constexpr const char* kType = "application/vnd.sallyport.test.v1+json";

SignDigest signer(const PrivateKey& key) {
  return [&key](const Digest256& digest) { return key.sign_p256(digest); };
}

// high_s gives the other valid form of a signature: n − s.
Signature64 high_s(const Signature64& low) {
  const auto order =
      value_of(parse_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 32));
  Signature64 high = low;
  int borrow = 0;
  for (std::size_t i = 32; i-- > 0;) {
    const int difference = order[i] - low[32 + i] - borrow;
    borrow = difference < 0;
    high[32 + i] = static_cast<std::uint8_t>(difference & 0xff);
  }
  return high;
}

class DsseTest : public testing::Test {
 protected:
  PrivateKey key_ = PrivateKey::generate(KeyAlgorithm::kP256);
  PrivateKey other_ = PrivateKey::generate(KeyAlgorithm::kP256);
  Envelope signed_ =
      value_of(sign_statement(kType, to_bytes(as_bytes("{}")), key_.public_key(), signer(key_)));
};

TEST(Pae, KnowsTheExampleOfTheSpecification) {
  EXPECT_EQ(as_text(pae("http://example.com/HelloWorld", as_bytes("hello world"))),
            "DSSEv1 29 http://example.com/HelloWorld 11 hello world");
  EXPECT_EQ(as_text(pae("", {})), "DSSEv1 0  0 ");
  EXPECT_EQ(statement_digest("t", as_bytes("p")), crypto::sha256(as_bytes("DSSEv1 1 t 1 p")));
}

TEST_F(DsseTest, ParsesWhatItEncodes) {
  const Bytes bytes = encode_envelope(signed_);
  const Envelope parsed = value_of(parse_envelope(bytes));
  EXPECT_EQ(parsed.type, kType);
  EXPECT_EQ(parsed.payload, signed_.payload);
  ASSERT_EQ(parsed.signatures.size(), 1u);
  EXPECT_EQ(encode_envelope(parsed), bytes);
  EXPECT_THAT(verify_signature(parsed, key_.public_key()), Succeeds());
}

TEST_F(DsseTest, DigestDoesNotDependOnSignatures) {
  const Envelope both = value_of(add_signature(signed_, other_.public_key(), signer(other_)));
  EXPECT_EQ(statement_digest(both), statement_digest(signed_));
  EXPECT_NE(encode_envelope(both), encode_envelope(signed_));
}

TEST_F(DsseTest, RefusesAnotherPayloadTypeOrKey) {
  EXPECT_THAT(verify_signature(signed_, other_.public_key()), FailsWith(Code::kUnverified));
  Envelope changed = signed_;
  changed.payload.push_back(' ');
  EXPECT_THAT(verify_signature(changed, key_.public_key()), FailsWith(Code::kUnverified));
  changed = signed_;
  changed.type = "application/vnd.sallyport.other.v1+json";
  EXPECT_THAT(verify_signature(changed, key_.public_key()), FailsWith(Code::kUnverified));
  changed = signed_;
  changed.signatures[0].key = other_.public_key().id();  // another's name over this signature
  EXPECT_THAT(verify_signature(changed, other_.public_key()), FailsWith(Code::kUnverified));
}

TEST_F(DsseTest, RefusesHighSThoughItIsValidEcdsa) {
  Envelope changed = signed_;
  changed.signatures[0].signature = high_s(changed.signatures[0].signature);
  EXPECT_THAT(
      crypto::verify_p256(key_.public_key(), statement_digest(changed), changed.signatures[0].signature),
      Succeeds());
  EXPECT_THAT(verify_signature(changed, key_.public_key()), FailsWith(Code::kUnverified));
  EXPECT_THAT(parse_envelope(encode_envelope(changed)), FailsWith(Code::kMalformed));
}

TEST_F(DsseTest, NormalisesWhatTokensSign) {
  const SignDigest token = [&](const Digest256& digest) -> Result<Signature64> {
    SP_TRY(const Signature64 low, key_.sign_p256(digest));
    return high_s(low);
  };
  const Envelope made = value_of(sign_statement(kType, Bytes{'1'}, key_.public_key(), token));
  EXPECT_TRUE(crypto::is_low_s(made.signatures[0].signature));
  EXPECT_THAT(verify_signature(made, key_.public_key()), Succeeds());
}

TEST_F(DsseTest, BelievesNoSigner) {
  EXPECT_THAT(sign_statement(kType, Bytes{'1'}, other_.public_key(), signer(key_)),
              FailsWith(Code::kUnverified));
  const SignDigest broken = [](const Digest256&) -> Result<Signature64> {
    return Error{Code::kUnavailable, Reason::kTokenAbsent, "no token"};
  };
  EXPECT_THAT(sign_statement(kType, Bytes{'1'}, key_.public_key(), broken), FailsWith(Reason::kTokenAbsent));
  const PrivateKey ed25519 = PrivateKey::generate(KeyAlgorithm::kEd25519);
  EXPECT_THAT(sign_statement(kType, Bytes{'1'}, ed25519.public_key(), signer(key_)),
              FailsWith(Code::kMalformed));
}

TEST_F(DsseTest, BoundsWhatItSigns) {
  EXPECT_THAT(sign_statement(kType, Bytes{}, key_.public_key(), signer(key_)), FailsWith(Code::kMalformed));
  EXPECT_THAT(sign_statement(kType, Bytes(kMaxPayloadBytes + 1, 'a'), key_.public_key(), signer(key_)),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(sign_statement("a b", Bytes{'1'}, key_.public_key(), signer(key_)),
              FailsWith(Code::kMalformed));
  // The largest statement with the most signatures still is an envelope.
  Envelope full = value_of(sign_statement(std::string(kMaxPayloadTypeBytes, 't'),
                                          Bytes(kMaxPayloadBytes, 'a'), key_.public_key(), signer(key_)));
  while (full.signatures.size() < kMaxSignatures) {
    const PrivateKey more = PrivateKey::generate(KeyAlgorithm::kP256);
    full = value_of(add_signature(std::move(full), more.public_key(), signer(more)));
  }
  EXPECT_THAT(parse_envelope(encode_envelope(full)), Succeeds());
  EXPECT_THAT(add_signature(full, other_.public_key(), signer(other_)), FailsWith(Code::kMalformed));
}

TEST_F(DsseTest, KeepsSignersSortedAndOnce) {
  const Envelope both = value_of(add_signature(signed_, other_.public_key(), signer(other_)));
  EXPECT_THAT(parse_envelope(encode_envelope(both)), Succeeds());
  EXPECT_THAT(add_signature(both, key_.public_key(), signer(key_)), FailsWith(Code::kConflict));
  Envelope swapped = both;
  std::swap(swapped.signatures[0], swapped.signatures[1]);
  EXPECT_THAT(parse_envelope(encode_envelope(swapped)), FailsWith(Code::kMalformed));
  Envelope twice = both;
  twice.signatures[1] = twice.signatures[0];
  EXPECT_THAT(parse_envelope(encode_envelope(twice)), FailsWith(Code::kMalformed));
}

TEST_F(DsseTest, WantsExactlyTheExpectedSigners) {
  const auto key = key_.public_key(), other = other_.public_key();
  EXPECT_THAT(verify_signers(signed_, {key}), Succeeds());
  EXPECT_THAT(verify_signers(signed_, {other}), FailsWith(Code::kUnverified));
  EXPECT_THAT(verify_signers(signed_, {key, other}), FailsWith(Code::kUnverified));
  EXPECT_THAT(verify_signers(signed_, {key, key}), FailsWith(Code::kUnverified));
  EXPECT_THAT(verify_signers(signed_, {}), FailsWith(Code::kUnverified));
  const Envelope both = value_of(add_signature(signed_, other, signer(other_)));
  EXPECT_THAT(verify_signers(both, {key, other}), Succeeds());
  EXPECT_THAT(verify_signers(both, {other, key}), Succeeds());
  EXPECT_THAT(verify_signers(both, {key}), FailsWith(Code::kUnverified));
  Envelope one_broken = both;
  one_broken.signatures[1].signature[5] ^= 1;
  EXPECT_THAT(verify_signers(one_broken, {key, other}), FailsWith(Code::kUnverified));
  const Envelope unsigned_one{kType, Bytes{'1'}, {}};
  EXPECT_THAT(verify_signers(unsigned_one, {}), Succeeds());
}

TEST_F(DsseTest, RefusesOtherSpellingsOfTheEnvelope) {
  const std::string keyid = to_hex(signed_.signatures[0].key);
  const std::string sig = to_base64(signed_.signatures[0].signature);
  const auto envelope = [](std::string_view payload, std::string_view type, std::string_view signatures) {
    return "{\"payload\":" + std::string{payload} + ",\"payloadType\":" + std::string{type} +
           ",\"signatures\":" + std::string{signatures} + "}";
  };
  const std::string type = "\"" + std::string{kType} + "\"";
  const std::string one = "[{\"keyid\":\"" + keyid + "\",\"sig\":\"" + sig + "\"}]";
  ASSERT_THAT(parse_envelope(as_bytes(envelope("\"e30=\"", type, one))), Succeeds());
  std::string upper = keyid;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  const std::string short_sig = to_base64(ByteView{signed_.signatures[0].signature}.first(63));
  const std::string bad[] = {
      envelope("\"e30\"", type, one),                                  // no padding
      envelope("\"e31=\"", type, one),                                 // unused bits set
      envelope("\"e3 0=\"", type, one),                                // white space
      envelope("\"e30=\\u000a\"", type, one),                          // line end
      envelope("\"\"", type, one),                                     // nothing signed
      envelope("\"_30=\"", type, one),                                 // the URL alphabet
      envelope("\"e30=\"", "\"\"", one),                               //
      envelope("\"e30=\"", "\"a b\"", one),                            //
      envelope("\"e30=\"", "\"" + std::string(129, 't') + "\"", one),  //
      envelope("\"e30=\"", "1", one),                                  //
      envelope("\"e30=\"", type, "{}"),                                //
      envelope("\"e30=\"", type, "[{\"keyid\":\"" + upper + "\",\"sig\":\"" + sig + "\"}]"),
      envelope("\"e30=\"", type, "[{\"keyid\":\"\",\"sig\":\"" + sig + "\"}]"),
      envelope("\"e30=\"", type, "[{\"sig\":\"" + sig + "\"}]"),
      envelope("\"e30=\"", type, "[{\"keyid\":\"" + keyid + "\",\"sig\":\"" + short_sig + "\"}]"),
      envelope("\"e30=\"", type, "[{\"keyid\":\"" + keyid + "\",\"sig\":\"" + sig + "\",\"x\":1}]"),
      envelope("\"e30=\"", type, one + ",\"x\":1"),
      envelope("\"e30=\"", type, one) + " ",
      envelope("\"e30=\"", type, one) + "{}",
      "{\"payloadType\":" + type + ",\"payload\":\"e30=\",\"signatures\":" + one + "}",
      "{\"payload\":\"e30=\",\"payload\":\"e30=\",\"payloadType\":" + type + ",\"signatures\":" + one + "}",
      "{\"payload\":\"e30=\",\"payloadType\":" + type + "}",
  };
  for (const std::string& text : bad)
    EXPECT_THAT(parse_envelope(as_bytes(text)), FailsWith(Code::kMalformed)) << text;
}

TEST_F(DsseTest, RefusesEveryFlippedBitOfAnEnvelope) {
  const Bytes good = encode_envelope(signed_);
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= static_cast<std::uint8_t>(1u << (i % 8));
    const auto parsed = parse_envelope(bad);
    if (parsed.has_value()) {
      EXPECT_EQ(encode_envelope(*parsed), bad);
      EXPECT_THAT(verify_signers(*parsed, {key_.public_key()}), FailsWith(Code::kUnverified)) << "byte " << i;
    }
  }
}

TEST(Dsse, CapsTheEnvelope) {
  const Envelope large{kType, Bytes(kMaxEnvelopeBytes, 'a'), {}};
  EXPECT_THAT(parse_envelope(encode_envelope(large)), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_envelope(encode_envelope(large), kMaxClosingEnvelopeBytes), Succeeds());
}

}  // namespace
}  // namespace sallyport::record

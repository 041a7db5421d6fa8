#include <gtest/gtest.h>
#include <openssl/x509.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/private_key.h"
#include "tests/support/matchers.h"

namespace sallyport::crypto {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;

TEST(Digest, KnowsFips180Vectors) {
  EXPECT_EQ(to_hex(sha256(as_bytes("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256({as_bytes("a"), as_bytes("bc")}), sha256(as_bytes("abc")));
  EXPECT_EQ(to_hex(ByteView{sha384(as_bytes("abc"))}).substr(0, 16), "cb00753f45a35e8b");
}

TEST(Digest, KnowsRfc4231Case2) {
  EXPECT_EQ(to_hex(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(P256, SignsAndVerifiesWithLowS) {
  const PrivateKey key = PrivateKey::generate(KeyAlgorithm::kP256);
  const Digest256 digest = sha256(as_bytes("message"));
  for (int i = 0; i < 20; ++i) {
    const Signature64 signature = value_of(key.sign_p256(digest));
    EXPECT_TRUE(is_low_s(signature));
    EXPECT_THAT(verify_p256(key.public_key(), digest, signature), Succeeds());
  }
}

TEST(P256, RefusesEveryFlippedByteAndZero) {
  const PrivateKey key = PrivateKey::generate(KeyAlgorithm::kP256);
  const Digest256 digest = sha256(as_bytes("message"));
  const Signature64 good = value_of(key.sign_p256(digest));
  for (std::size_t i = 0; i < good.size(); ++i) {
    Signature64 bad = good;
    bad[i] ^= 1;
    EXPECT_THAT(verify_p256(key.public_key(), digest, bad), FailsWith(Code::kUnverified));
  }
  EXPECT_THAT(verify_p256(key.public_key(), digest, Signature64{}), FailsWith(Code::kUnverified));
}

TEST(P256, LowSOfHighSIsTheSameSignature) {
  const PrivateKey key = PrivateKey::generate(KeyAlgorithm::kP256);
  const Digest256 digest = sha256(as_bytes("message"));
  const Signature64 low = value_of(key.sign_p256(digest));
  // n − s is the other valid form.
  const auto order = value_of(parse_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 32));
  Signature64 high = low;
  int borrow = 0;
  for (std::size_t i = 32; i-- > 0;) {
    const int difference = order[i] - low[32 + i] - borrow;
    borrow = difference < 0;
    high[32 + i] = static_cast<std::uint8_t>(difference);
  }
  EXPECT_FALSE(is_low_s(high));
  EXPECT_THAT(verify_p256(key.public_key(), digest, high), Succeeds());
  EXPECT_EQ(to_low_s(high), low);
}

TEST(Ed25519, KnowsRfc8032Test2) {
  const auto key = value_of(PublicKey::from_ed25519(
      value_of(parse_hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", 32))));
  const auto signature = value_of(parse_hex_array<64>(
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
      "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"));
  EXPECT_THAT(verify_ed25519(key, Bytes{0x72}, signature), Succeeds());
  EXPECT_THAT(verify_ed25519(key, Bytes{0x73}, signature), FailsWith(Code::kUnverified));
}

TEST(PublicKey, RefusesASecondEncodingOfTheSameKey) {
  const PrivateKey key = PrivateKey::generate(KeyAlgorithm::kP256);
  Bytes spki = key.public_key().spki();
  EXPECT_EQ(value_of(PublicKey::parse_spki(spki)), key.public_key());
  spki.push_back(0);
  EXPECT_THAT(PublicKey::parse_spki(spki), FailsWith(Code::kMalformed));
}

TEST(PublicKey, IsEncodedAsOpenSslDoes) {
  for (const auto algorithm : {KeyAlgorithm::kP256, KeyAlgorithm::kEd25519}) {
    const PublicKey key = PrivateKey::generate(algorithm).public_key();
    std::uint8_t* der = nullptr;
    const int size = i2d_PUBKEY(key.pkey(), &der);
    ASSERT_GT(size, 0);
    EXPECT_EQ(key.spki(), Bytes(der, der + size)) << algorithm_name(algorithm);
    OPENSSL_free(der);
    Bytes spki = key.spki();
    spki.pop_back();
    EXPECT_THAT(PublicKey::parse_spki(spki), FailsWith(Code::kMalformed));
  }
}

TEST(PublicKey, RefusesPointsOffTheCurve) {
  Bytes point = PrivateKey::generate(KeyAlgorithm::kP256).public_key().raw();
  EXPECT_THAT(PublicKey::from_p256_point(point), Succeeds());
  point[64] ^= 1;
  EXPECT_THAT(PublicKey::from_p256_point(point), FailsWith(Code::kMalformed));
  Bytes spki = PrivateKey::generate(KeyAlgorithm::kP256).public_key().spki();
  spki.back() ^= 1;
  EXPECT_THAT(PublicKey::parse_spki(spki), FailsWith(Code::kMalformed));
}

TEST(PrivateKey, PemRoundTrips) {
  for (const auto algorithm : {KeyAlgorithm::kP256, KeyAlgorithm::kEd25519}) {
    const PrivateKey key = PrivateKey::generate(algorithm);
    const PrivateKey again = value_of(PrivateKey::parse_pem(key.to_pem().expose()));
    EXPECT_EQ(again.public_key(), key.public_key());
  }
  EXPECT_THAT(PrivateKey::parse_pem(as_bytes("no key")), FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::crypto

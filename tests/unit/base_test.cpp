#include <gtest/gtest.h>

#include <set>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/base/secret_bytes.h"
#include "attestation/base/writer.h"
#include "tests/support/matchers.h"

namespace sallyport {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;

TEST(Base64, RoundTripsEveryLength) {
  Bytes bytes;
  for (int i = 0; i < 70; ++i) {
    EXPECT_EQ(value_of(parse_base64(to_base64(bytes), 70)), bytes);
    bytes.push_back(static_cast<std::uint8_t>(i * 37));
  }
}

TEST(Base64, KnowsRfc4648Vectors) {
  EXPECT_EQ(to_base64(as_bytes("f")), "Zg==");
  EXPECT_EQ(to_base64(as_bytes("foob")), "Zm9vYg==");
  EXPECT_EQ(to_base64(as_bytes("foobar")), "Zm9vYmFy");
}

TEST(Base64, WritesTheUrlSafeFormWithoutPadding) {
  EXPECT_EQ(to_base64url({}), "");
  EXPECT_EQ(to_base64url(as_bytes("f")), "Zg");
  EXPECT_EQ(to_base64url(as_bytes("foobar")), "Zm9vYmFy");
  EXPECT_EQ(to_base64(Bytes{0xFB, 0xFF, 0xBF, 0xFE}), "+/+//g==");
  EXPECT_EQ(to_base64url(Bytes{0xFB, 0xFF, 0xBF, 0xFE}), "-_-__g");
}

TEST(Base64, RefusesEverySecondSpelling) {
  for (const char* bad : {"Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "Zm9v\n", "Zm 9", "Z===", "====", "-_-_"})
    EXPECT_THAT(parse_base64(bad, 100), FailsWith(Code::kMalformed)) << bad;
}

TEST(Base64, HoldsItsCap) {
  EXPECT_THAT(parse_base64("Zm9v", 3), Succeeds());
  EXPECT_THAT(parse_base64("Zm9v", 2), FailsWith(Code::kMalformed));
}

TEST(Hex, TakesLowerCaseOnly) {
  EXPECT_EQ(value_of(parse_hex("00ff10", 3)), (Bytes{0, 255, 16}));
  EXPECT_THAT(parse_hex("00FF", 2), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_hex("0", 2), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_hex("000000", 2), FailsWith(Code::kMalformed));
}

TEST(Reader, EveryReadIsBounded) {
  const Bytes bytes = {0x00, 0x02, 0xAA, 0xBB};
  Reader in{bytes};
  EXPECT_EQ(to_bytes(value_of(in.prefixed16(2))), (Bytes{0xAA, 0xBB}));
  EXPECT_THAT(in.finish(), Succeeds());
  EXPECT_THAT(in.u8(), FailsWith(Code::kMalformed));
  EXPECT_THAT(Reader{bytes}.prefixed16(1), FailsWith(Code::kMalformed));
  EXPECT_THAT(Reader{bytes}.prefixed32(1u << 30), FailsWith(Code::kMalformed));
  EXPECT_THAT(Reader{bytes}.finish(), FailsWith(Code::kMalformed));
}

TEST(Writer, IsReadersMirror) {
  const Bytes bytes = std::move(Writer{}.u8(1).u16(2).u32(3).u64(4).prefixed32("ab")).take();
  Reader in{bytes};
  EXPECT_EQ(value_of(in.u8()), 1);
  EXPECT_EQ(value_of(in.u16()), 2);
  EXPECT_EQ(value_of(in.u32()), 3u);
  EXPECT_EQ(value_of(in.u64()), 4u);
  EXPECT_EQ(as_text(value_of(in.prefixed32(2))), "ab");
  EXPECT_THAT(in.finish(), Succeeds());
}

TEST(Reasons, NamesAreUniqueAndFindable) {
  std::set<std::string_view> names;
#define SP_CHECK_REASON(enumerator, name, exit, sentence)        \
  EXPECT_TRUE(names.insert(name).second) << name;                \
  EXPECT_EQ(find_reason(name), Reason::enumerator);              \
  EXPECT_GE(exit, 1);                                            \
  EXPECT_LE(exit, 10);
  SP_REASONS(SP_CHECK_REASON)
#undef SP_CHECK_REASON
  EXPECT_EQ(find_reason("no such reason"), std::nullopt);
}

TEST(ResultDeathTest, ReadingTheMissingSideStopsTheProcess) {
  Result<int> failed = Error{Code::kDenied, "no"};
  EXPECT_DEATH((void)failed.value(), "broken promise");
  Result<int> fine = 1;
  EXPECT_DEATH((void)fine.error(), "broken promise");
}

TEST(SecretBytes, MovesAndLeavesNothing) {
  SecretBytes a{as_bytes("secret")};
  SecretBytes b = std::move(a);
  EXPECT_TRUE(a.empty());
  EXPECT_TRUE(equal_in_constant_time(b.expose(), as_bytes("secret")));
  EXPECT_FALSE(equal_in_constant_time(b.expose(), as_bytes("Secret")));
}

}  // namespace
}  // namespace sallyport

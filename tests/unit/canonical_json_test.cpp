#include "attestation/record/canonical_json.h"

#include <gtest/gtest.h>

#include "tests/support/matchers.h"

namespace sallyport::record::json {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;

constexpr std::size_t kCap = 4096;

Result<Value> parse(std::string_view text) {
  return parse_canonical(as_bytes(text), kCap);
}

std::string round_trip(std::string_view text) {
  return std::string{as_text(encode_canonical(value_of(parse(text))))};
}

TEST(CanonicalJson, GivesBackWhatItAccepts) {
  for (const std::string_view text :
       {"{}", "[]", "\"\"", "0", "1", "9007199254740992", "true", "false", "[1,2,3]", "[[],{}]",
        "\"a\\\"b\\\\c\"", "\"\\u0000\\u001f\\u000a\"", "\"/\x7f\"",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", R"({"a":1,"b":[true,"x"],"c":{"d":"e"}})",
        "{\"\":0,\"A\":1,\"Z\":1,\"a\":2,\"aa\":3,\"\xc3\xa9\":4}", "[[[[[[[[]]]]]]]]"})
    EXPECT_EQ(round_trip(text), text);
}

TEST(CanonicalJson, RefusesDuplicateNames) {
  EXPECT_THAT(parse(R"({"a":1,"a":1})"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(R"({"a":1,"a":2})"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(R"({"o":{"a":1,"b":2,"b":2}})"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(R"({"a":1,"b":2,"a":3})"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(R"({"\u0061":1,"a":2})"), FailsWith(Code::kMalformed));
  EXPECT_NE(parse(R"({"a":1,"a":2})").error().what.find("twice"), std::string::npos);
}

TEST(CanonicalJson, RefusesUnsortedNamesAndSortsByBytes) {
  EXPECT_THAT(parse(R"({"b":1,"a":2})"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(R"({"aa":1,"a":2})"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(R"({"a":1,"Z":2})"), FailsWith(Code::kMalformed));
  // U+FFFD is EF BF BD, U+10000 is F0 90 80 80: bytewise order is not the order of UTF-16 units.
  EXPECT_THAT(parse("{\"\xef\xbf\xbd\":1,\"\xf0\x90\x80\x80\":2}"), Succeeds());
  EXPECT_THAT(parse("{\"\xf0\x90\x80\x80\":2,\"\xef\xbf\xbd\":1}"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse("{\"a\":1,\"\xc3\xa9\":2}"), Succeeds());
  EXPECT_THAT(parse("{\"\xc3\xa9\":2,\"a\":1}"), FailsWith(Code::kMalformed));
}

TEST(CanonicalJson, RefusesWhiteSpaceEverywhere) {
  for (const std::string_view text : {" 1", "1 ", "1\n", "[ 1]", "[1 ]", "[1, 2]", "{ }", R"({"a" :1})",
                                      R"({"a": 1})", R"({"a":1 })", "\xef\xbb\xbf{}"})
    EXPECT_THAT(parse(text), FailsWith(Code::kMalformed)) << text;
}

TEST(CanonicalJson, RefusesOtherNumberForms) {
  for (const std::string_view text : {"-1",
                                      "-0",
                                      "+1",
                                      "00",
                                      "01",
                                      "1.0",
                                      "1.",
                                      ".5",
                                      "0.0",
                                      "1e0",
                                      "1E2",
                                      "1e-1",
                                      "9007199254740993",
                                      "18446744073709551615",
                                      "18446744073709551616",
                                      "9223372036854775808",
                                      "-9223372036854775808",
                                      "0x10",
                                      "NaN",
                                      "Infinity",
                                      "1_000",
                                      "123456789012345678901234567890",
                                      "1e400",
                                      "0e0",
                                      "[1.0]",
                                      R"({"a":-0})"})
    EXPECT_THAT(parse(text), FailsWith(Code::kMalformed)) << text;
  EXPECT_EQ(*value_of(parse("9007199254740992")).as_integer(), kMaxInteger);
}

TEST(CanonicalJson, RefusesOtherEscapes) {
  for (const std::string_view text : {R"("\n")",           R"("\t")",     R"("\b")",
                                      R"("\f")",           R"("\r")",     R"("\/")",
                                      R"("\u0041")",       R"("\u000A")", R"("\u001F")",
                                      R"("\u0020")",       R"("\u0022")", R"("\u005c")",
                                      R"("\u007f")",       R"("\u00e9")", R"("\x41")",
                                      R"("\u00")",         R"("\u")",     R"("\U00000041")",
                                      R"("\ud83d\ude00")", R"("\ud83d")", R"("\ude00")",
                                      R"("\ude00\ud83d")", "\"\\",        "\"\\\""})
    EXPECT_THAT(parse(text), FailsWith(Code::kMalformed)) << text;
}

TEST(CanonicalJson, RefusesRawControlsAndInvalidUtf8) {
  for (const std::string_view text :
       {"\"\n\"", "\"\x1f\"", "\"\x80\"", "\"\xc3\"", "\"\xc0\xaf\"", "\"\xe0\x80\xaf\"", "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"", "\"\xff\"", "\"\xf8\x88\x80\x80\x80\"", "{\"\xc3\":1}"})
    EXPECT_THAT(parse(text), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(std::string_view{"\"\0\"", 3}), FailsWith(Code::kMalformed));
}

TEST(CanonicalJson, RefusesTrailingAndMissingBytes) {
  for (const std::string_view text :
       {"{}{}", "{}x", "1,", "[1,]", "[,1]", R"({"a":1,})", R"({"a":1,,"b":2})", "[", "{", R"({"a"})",
        R"({"a":})", "\"a", "tru", "truex", "", "[1", "]", "12a"})
    EXPECT_THAT(parse(text), FailsWith(Code::kMalformed)) << text;
  EXPECT_THAT(parse(std::string_view{"{}\0", 3}), FailsWith(Code::kMalformed));
}

TEST(CanonicalJson, RefusesWhatItsGrammarLeavesOut) {
  for (const std::string_view text :
       {"null", "[null]", R"({"a":null})", "/**/1", "1//x", "'a'", "{a:1}", "True", "undefined"})
    EXPECT_THAT(parse(text), FailsWith(Code::kMalformed)) << text;
}

TEST(CanonicalJson, BoundsDepthAndSize) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_THAT(parse(nested(kMaxDepth)), Succeeds());
  EXPECT_THAT(parse(nested(kMaxDepth + 1)), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(std::string(2000, '[')), FailsWith(Code::kMalformed));
  const std::string filled = "\"" + std::string(kCap - 2, 'a') + "\"";
  EXPECT_THAT(parse(filled), Succeeds());
  EXPECT_THAT(parse(filled + "a"), FailsWith(Code::kMalformed));
}

TEST(CanonicalJson, SaysWhereItDiffers) {
  EXPECT_NE(parse(R"({"a": 1})").error().what.find("near byte 5"), std::string::npos);
  EXPECT_NE(parse(R"(["ab","\u0041"])").error().what.find("near byte 7"), std::string::npos);
}

TEST(CanonicalJson, EncodesMembersSorted) {
  const Value value = Value::object({{"b", std::uint64_t{2}},
                                     {"a", Value::Array{Value{"x"}, Value{true}}},
                                     {"B", std::string{"\x01\"\\\n"}}});
  EXPECT_EQ(as_text(encode_canonical(value)), R"({"B":"\u0001\"\\\u000a","a":["x",true],"b":2})");
  EXPECT_DEATH(Value::object({{"a", "1"}, {"a", "2"}}), "broken promise");
}

TEST(CanonicalJson, WritesWhatItRefusesWhenGivenWhatItCannotSay) {
  EXPECT_THAT(parse_canonical(encode_canonical(Value{kMaxInteger + 1}), kCap), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_canonical(encode_canonical(Value{"\xff"}), kCap), FailsWith(Code::kMalformed));
}

class FieldsTest : public testing::Test {
 protected:
  Value value_ =
      value_of(parse(R"({"b64":"AAE=","flag":true,"hex":"00ff","list":["x"],"n":7,"o":{"p":1},"s":"text"})"));
  Fields fields_ = value_of(Fields::of(value_, "test"));
};

TEST_F(FieldsTest, ReadsEachKindOnce) {
  EXPECT_EQ(value_of(fields_.base64("b64", 8)), (Bytes{0, 1}));
  EXPECT_TRUE(value_of(fields_.boolean("flag")));
  EXPECT_EQ(value_of(fields_.hex<2>("hex")), (ByteArray<2>{0, 0xff}));
  EXPECT_EQ(value_of(fields_.array("list", 1))->size(), 1u);
  EXPECT_EQ(value_of(fields_.integer("n")), 7u);
  Fields inner = value_of(fields_.object("o"));
  EXPECT_EQ(value_of(inner.integer("p")), 1u);
  EXPECT_THAT(inner.finish(), Succeeds());
  EXPECT_EQ(value_of(fields_.text("s", 4)), "text");
  EXPECT_THAT(fields_.finish(), Succeeds());
  EXPECT_DEATH((void)fields_.text("s", 4), "broken promise");
}

TEST_F(FieldsTest, NamesTheFieldThatIsMissingUnknownOrWrong) {
  const auto missing = fields_.text("absent", 4);
  EXPECT_THAT(missing, FailsWith(Code::kMalformed));
  EXPECT_NE(missing.error().what.find("test.absent"), std::string::npos);
  const auto unknown = fields_.finish();
  EXPECT_THAT(unknown, FailsWith(Code::kMalformed));
  EXPECT_NE(unknown.error().what.find("test.b64"), std::string::npos);
  EXPECT_TRUE(fields_.has("s"));
  EXPECT_FALSE(fields_.has("absent"));
}

TEST_F(FieldsTest, RefusesOtherTypesAndBounds) {
  EXPECT_THAT(Fields::of(Value{"x"}, "test"), FailsWith(Code::kMalformed));
  EXPECT_THAT(fields_.text("n", 9), FailsWith(Code::kMalformed));
  EXPECT_THAT(fields_.integer("s"), FailsWith(Code::kMalformed));
  EXPECT_THAT(fields_.boolean("list"), FailsWith(Code::kMalformed));
  EXPECT_THAT(fields_.array("o", 9), FailsWith(Code::kMalformed));
  EXPECT_THAT(fields_.object("flag"), FailsWith(Code::kMalformed));
  EXPECT_THAT(fields_.hex<3>("hex"), FailsWith(Code::kMalformed));
}

TEST(Fields, ChecksRangesLengthsAndSpellings) {
  const auto with = [](std::string_view text, auto read) {
    const Value value = value_of(parse(text));
    Fields in = value_of(Fields::of(value, "test"));
    return Status{[&]() -> Status {
      SP_CHECK(read(in));
      return Done{};
    }()};
  };
  const auto text = [](std::size_t max, std::size_t min) {
    return [=](Fields& in) -> Status {
      SP_TRY([[maybe_unused]] const auto ignored, in.text("a", max, min));
      return Done{};
    };
  };
  EXPECT_THAT(with(R"({"a":"xyz"})", text(3, 3)), Succeeds());
  EXPECT_THAT(with(R"({"a":"xyz"})", text(2, 0)), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(R"({"a":"xyz"})", text(9, 4)), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(R"({"a":""})", text(9, 1)), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(R"({"a":""})", text(9, 0)), Succeeds());
  const auto integer = [](Fields& in) -> Status {
    SP_TRY([[maybe_unused]] const auto ignored, in.integer("a", 30, 1));
    return Done{};
  };
  EXPECT_THAT(with(R"({"a":1})", integer), Succeeds());
  EXPECT_THAT(with(R"({"a":30})", integer), Succeeds());
  EXPECT_THAT(with(R"({"a":0})", integer), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(R"({"a":31})", integer), FailsWith(Code::kMalformed));
  const auto base64 = [](Fields& in) -> Status {
    SP_TRY([[maybe_unused]] const auto ignored, in.base64("a", 3, 2));
    return Done{};
  };
  EXPECT_THAT(with(R"({"a":"AAE="})", base64), Succeeds());
  for (const std::string_view bad :
       {R"({"a":"AAF="})", R"({"a":"AAE"})", R"({"a":"AA=="})", R"({"a":"AAECAw=="})", R"({"a":"AA-="})",
        R"({"a":""})", R"({"a":"AAE=AAE="})"})
    EXPECT_THAT(with(bad, base64), FailsWith(Code::kMalformed)) << bad;
  const auto hex = [](Fields& in) -> Status {
    SP_TRY([[maybe_unused]] const auto ignored, in.hex<2>("a"));
    return Done{};
  };
  EXPECT_THAT(with(R"({"a":"00ff"})", hex), Succeeds());
  for (const std::string_view bad :
       {R"({"a":"00FF"})", R"({"a":"00f"})", R"({"a":"00fff"})", R"({"a":"00fg"})"})
    EXPECT_THAT(with(bad, hex), FailsWith(Code::kMalformed)) << bad;
}

}  // namespace
}  // namespace sallyport::record::json

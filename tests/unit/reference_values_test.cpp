#include "attestation/evidence/reference_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "tests/support/boot_log.h"
#include "tests/support/matchers.h"
#include "tests/support/taken.h"

namespace sallyport::evidence {
namespace {

using test::BootLog;
using test::FailsWith;
using test::Succeeds;
using test::value_of;
using testing::HasSubstr;

const std::string kDigest = "\"sha256:" + std::string(64, '1') + "\"";
const std::string kOther = "\"sha256:" + std::string(64, '2') + "\"";

std::string document(const std::string& events, const std::string& more = "secure_boot = true\n",
                     const std::string& head = "version = 3\n") {
  return head + "[[reference]]\nid = \"fleet\"\n" + more + "event = [" + events + "]\n";
}
const std::string kEvent = "{ pcr = 4, digest = [" + kDigest + "] }";

std::string refusal(const std::string& toml) {
  const auto parsed = parse_reference_values(toml);
  if (parsed.has_value()) return "loads";
  EXPECT_EQ(parsed.error().reason, Reason::kReferenceInvalid);
  return parsed.error().what;
}

TEST(ReferenceValues, SayWhatAnEventMayBe) {
  const ReferenceValues values = value_of(parse_reference_values(
      document("{ pcr = 4, after = true, required = false, repeats = true, what = \"grub\", digest = [" +
                   kDigest + ", " + kOther + "] },\n{ pcr = 8, text = \"linux *\" }",
               "not_after = \"2027-04-01\"\nsecure_boot = true\nunjudged = [1, 5]\n",
               "version = 3\npcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 14]\n")));
  EXPECT_EQ(values.version, 3u);
  EXPECT_TRUE(values.selection.contains(8));
  ASSERT_EQ(values.references.size(), 1u);
  const Reference& one = values.references.front();
  EXPECT_EQ(one.id, "fleet");
  EXPECT_TRUE(one.secure_boot);
  EXPECT_FALSE(one.judges(1));
  EXPECT_TRUE(one.judges(4));
  ASSERT_EQ(one.events.size(), 2u);
  EXPECT_TRUE(one.events[0].after_separator && one.events[0].repeats && !one.events[0].required);
  EXPECT_EQ(one.events[0].digests.size(), 2u);
  EXPECT_EQ(one.events[1].pattern, "linux *");
  EXPECT_EQ(one.find(4, true, one.events[0].digests[1]), 0u);
  EXPECT_EQ(one.find(4, false, one.events[0].digests[1]), std::nullopt);
  EXPECT_EQ(one.find(2, true, one.events[0].digests[1]), std::nullopt);
}

TEST(ReferenceValues, AreInForceUntilTheirDayBegins) {
  const ReferenceValues values =
      value_of(parse_reference_values(document(kEvent, "not_after = \"2027-04-01\"\nsecure_boot = true\n")));
  const UnixMillis day{1'806'537'600'000};  // date -u -d 2027-04-01 +%s
  EXPECT_EQ(values.references[0].not_after, day);
  EXPECT_TRUE(values.references[0].in_force(UnixMillis{day.get() - 1}));
  EXPECT_FALSE(values.references[0].in_force(day));
}

TEST(ReferenceValues, OfTheDefaultAreTheEnrolledBoot) {
  const ReferenceValues values = ReferenceValues::as_enrolled();
  ASSERT_EQ(values.references.size(), 1u);
  EXPECT_TRUE(values.references[0].as_enrolled);
  EXPECT_EQ(values.selection, PcrSelection::standard());
}

TEST(ReferenceValues, ReadBackAsTheyAreWritten) {
  std::vector<Reference> references{BootLog::good().reference("one"),
                                    BootLog::good("firmware \"2\"").reference("\\ \"two\"")};
  references[0].not_after = UnixMillis{1'806'537'600'000};
  references[1].events.push_back({.pcr = 8,
                                  .after_separator = false,
                                  .required = false,
                                  .repeats = true,
                                  .digests = {},
                                  .pattern = "a \\ \"b\" *",
                                  .what = "a line"});
  ReferenceValues values;
  values.version = 7;
  values.selection = value_of(PcrSelection::from_mask(PcrSelection::standard().mask() | 1u << 8));
  values.references = references;
  const std::string text = write_reference_values(values);
  const ReferenceValues back = value_of(parse_reference_values(text));
  EXPECT_EQ(write_reference_values(back), text);
  EXPECT_EQ(back.references[1].id, "\\ \"two\"");
  EXPECT_EQ(back.references[1].events.back().pattern, "a \\ \"b\" *");
  EXPECT_EQ(back.references[0].not_after, references[0].not_after);
  EXPECT_EQ(back.selection, values.selection);
}

// ---- what may be measured after the start

const std::string kFile = "sha256:" + std::string(64, 'a') + " /usr/bin/a\n";
// A P-256 key of nobody.
const std::string kKey =
    "\"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/"
    "m47n60p8D54WK84zV"
    "2sxXs7LtkBoN79R9Q==\"";
std::string measured(const std::string& table) {
  return document(kEvent) + "[ima]\n" + table;
}

TEST(ReferenceValues, SayWhatMayBeMeasuredLater) {
  EXPECT_FALSE(value_of(parse_reference_values(document(kEvent))).ima.has_value());
  const ReferenceValues values = value_of(parse_reference_values(
      measured("keys = [" + kKey + "]\nfiles = \"\"\"\n" + kFile + "sha512:" + std::string(128, 'b') +
               " /usr/bin/b \\\\ \\\"c\\\"\n\"\"\"\nviolations = true\npadded_sha1 = true\n")));
  ASSERT_TRUE(values.ima.has_value());
  const ImaReference::Terms& terms = values.ima->terms();
  EXPECT_EQ(terms.keys.size(), 1u);
  EXPECT_EQ(values.ima->files(), 2u);
  EXPECT_EQ(terms.files, kFile + "sha512:" + std::string(128, 'b') + " /usr/bin/b \\ \"c\"\n");
  EXPECT_TRUE(terms.violations && terms.padded_sha1 && values.ima->rules().violations_allowed);
  const std::string text = write_reference_values(values);
  const ReferenceValues back = value_of(parse_reference_values(text));
  EXPECT_EQ(write_reference_values(back), text);
  EXPECT_EQ(*back.ima, *values.ima);
  EXPECT_TRUE(back.ima->terms() == terms);
  // What is not said is not let pass.
  const ReferenceValues strict =
      value_of(parse_reference_values(measured("files = \"\"\"\n" + kFile + "\"\"\"\n")));
  EXPECT_FALSE(strict.ima->terms().violations || strict.ima->terms().padded_sha1);
  EXPECT_EQ(value_of(parse_reference_values(write_reference_values(strict))).ima, strict.ima);
  EXPECT_THAT(parse_reference_values(measured("keys = [" + kKey + "]\n")), Succeeds());
}

TEST(ReferenceValues, OfMeasurementsAreRefusedWhereTheyExpectNothing) {
  const std::string files = "files = \"\"\"\n" + kFile + "\"\"\"\n";
  EXPECT_THAT(refusal(measured("")), HasSubstr("neither a key nor a file"));
  EXPECT_THAT(refusal(measured("violations = true\n")), HasSubstr("neither a key nor a file"));
  EXPECT_THAT(refusal(measured("files = \"\"\n")), HasSubstr("ima.files: must not be empty"));
  EXPECT_THAT(refusal(measured("files = \"sha256:aa /a\"\n")), HasSubstr("line 1 of the allow list"));
  EXPECT_THAT(refusal(measured("files = \"\"\"\n" + kFile + kFile + "\"\"\"\n")),
              HasSubstr("line 2 of the allow list: it stands there already"));
  EXPECT_THAT(refusal(measured("files = \"\"\"\nsha1:" + std::string(40, 'a') + " /a\n\"\"\"\n")),
              HasSubstr("neither sha256"));
  EXPECT_THAT(refusal(measured("keys = []\n" + files)), HasSubstr("ima.keys: must not be empty"));
  EXPECT_THAT(refusal(measured("keys = [\"AAAA\"]\n")), HasSubstr("SubjectPublicKeyInfo in base64"));
  EXPECT_THAT(refusal(measured("keys = [" + kKey + ", " + kKey + "]\n")), HasSubstr("listed twice"));
  EXPECT_THAT(
      refusal(measured("keys = [\"MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"]\n")),
      HasSubstr("Ed25519"));
  EXPECT_THAT(refusal(measured(files + "required = true\n")), HasSubstr("ima.required: unknown key"));
  EXPECT_THAT(refusal(measured(files + "violations = 1\n")), HasSubstr("must be true or false"));
  EXPECT_THAT(refusal("ima = 5\n" + document(kEvent)), HasSubstr("must be a table"));
}

TEST(ReferenceValues, ThatSayTooLittleOrTooMuchDoNotLoad) {
  EXPECT_EQ(refusal(document(kEvent)), "loads");
  EXPECT_THAT(refusal(""), HasSubstr("`version` is missing"));
  EXPECT_THAT(refusal("version = 1\n"), HasSubstr("`reference` is missing"));
  EXPECT_THAT(refusal("version = 0\nreference = []\n"), HasSubstr("version: must be an integer from 1"));
  EXPECT_THAT(refusal("version = 1\nreference = []\n"), HasSubstr("must not be empty"));
  EXPECT_THAT(refusal(document("")), HasSubstr("event: must not be empty"));
  EXPECT_THAT(refusal(document(kEvent, "")), HasSubstr("`secure_boot` is missing"));
  EXPECT_THAT(refusal(document(kEvent) + "more = 1\n"), HasSubstr("more: unknown key"));
  EXPECT_THAT(refusal(document(kEvent, "secure_boot = true\nas_enrolled = true\n")),
              HasSubstr("unknown key"));
  EXPECT_THAT(refusal(document(kEvent) + document(kEvent, "secure_boot = true\n", "")),
              HasSubstr("a reference \"fleet\" is there twice"));
  EXPECT_THAT(refusal(document(kEvent + ", " + kEvent)), HasSubstr("by another event already"));
  for (const char* day : {"2027-4-1", "2027-02-30", "2027-04-01T00", "1969-12-31", "soon", "2027/04/01"})
    EXPECT_THAT(refusal(document(kEvent, "secure_boot = true\nnot_after = \"" + std::string{day} + "\"\n")),
                HasSubstr("must be a day"))
        << day;
}

TEST(ReferenceValues, MustJudgeWhatRanAtTheStart) {
  for (const int pcr : {0, 2, 4, 7}) {
    EXPECT_THAT(refusal(document(kEvent, "secure_boot = true\nunjudged = [" + std::to_string(pcr) + "]\n")),
                HasSubstr("must not have 0, 2, 4 or 7"));
    std::string pcrs = "version = 3\npcrs = [";
    for (const int other : {0, 2, 4, 7})
      if (other != pcr) pcrs += std::to_string(other) + ", ";
    EXPECT_THAT(
        refusal(document("{ pcr = 4, digest = [" + kDigest + "] }", "secure_boot = true\n", pcrs + "14]\n")),
        HasSubstr("must have 0, 2, 4 and 7"));
  }
  EXPECT_EQ(refusal(document(kEvent, "secure_boot = true\nunjudged = [1, 3, 5, 6, 14]\n")), "loads");
  EXPECT_THAT(refusal(document(kEvent, "secure_boot = true\nunjudged = [8]\n")), HasSubstr("do not quote"));
  for (const char* pcr : {"10", "16", "23"})
    EXPECT_THAT(refusal(document(kEvent, "secure_boot = true\n",
                                 "version = 3\npcrs = [0, 2, 4, 7, " + std::string{pcr} + "]\n")),
                HasSubstr("change while a machine runs"));
}

TEST(ReferenceValues, OfAnEventAreADigestOrAText) {
  EXPECT_THAT(refusal(document("{ pcr = 4 }")), HasSubstr("either `digest` or `text`"));
  EXPECT_THAT(refusal(document("{ pcr = 4, text = \"a\", digest = [" + kDigest + "] }")),
              HasSubstr("either `digest` or `text`"));
  EXPECT_THAT(refusal(document("{ pcr = 4, text = \"***\" }")), HasSubstr("not '*' alone"));
  EXPECT_THAT(refusal(document("{ pcr = 4, text = \"\" }")), HasSubstr("1 to 1024"));
  // What no measured text can be: the document would be written as what does not load.
  for (const char* other : {"linux\\n *", "linux\\t"})
    EXPECT_THAT(refusal(document(std::string{"{ pcr = 4, text = \""} + other + "\" }")),
                HasSubstr("printable"))
        << other;
  EXPECT_THAT(refusal(document("{ pcr = 4, digest = [] }")), HasSubstr("must not be empty"));
  EXPECT_THAT(refusal(document("{ pcr = 4, digest = [" + kDigest + ", " + kDigest + "] }")),
              HasSubstr("is listed twice"));
  EXPECT_THAT(refusal(document("{ pcr = 9, digest = [" + kDigest + "] }")), HasSubstr("do not quote"));
  EXPECT_THAT(refusal(document("{ pcr = 24, digest = [" + kDigest + "] }")), HasSubstr("from 0 to 23"));
  EXPECT_THAT(refusal(document("{ pcr = 14, after = true, digest = [" + kDigest + "] }")),
              HasSubstr("have no separator"));
  EXPECT_THAT(
      refusal(document("{ pcr = 5, digest = [" + kDigest + "] }", "secure_boot = true\nunjudged = [5]\n")),
      HasSubstr("events are not judged"));
}

TEST(ReferenceValues, HaveAtMost1024TextsInAll) {
  // In two references, half of them each.
  const auto with = [](std::size_t texts) {
    std::string toml = "version = 1\n";
    for (const std::size_t count : {texts / 2, texts - texts / 2}) {
      toml += "[[reference]]\nid = \"" + std::to_string(toml.size()) + "\"\nsecure_boot = true\nevent = [";
      for (std::size_t i = 0; i < count; ++i) toml += "{pcr=4,text=\"a\"},";
      toml += "]\n";
    }
    return toml;
  };
  EXPECT_THAT(parse_reference_values(with(kMaxPatterns)), Succeeds());
  EXPECT_THAT(parse_reference_values(with(kMaxPatterns + 1)), FailsWith(Reason::kReferenceInvalid));
  EXPECT_THAT(refusal(with(kMaxPatterns + 1)), HasSubstr("1024 texts"));
}

TEST(ReferenceValues, AreAtMostAMebibyte) {
  EXPECT_THAT(parse_reference_values(document(kEvent) + "#" + std::string(kMaxReferenceBytes, 'x')),
              FailsWith(Reason::kReferenceInvalid));
}

TEST(ReferenceValues, OfAnyOneMebibyteTakeLittleTimeAndMemory) {
  // `piece` again and again between head and tail, as often as there is room, or until there is none.
  const auto filled = [](std::string head, const std::function<std::string(std::size_t)>& piece,
                         const std::string& tail = "") {
    for (std::size_t i = 0;; ++i) {
      const std::string next = piece(i);
      if (next.empty() || head.size() + next.size() + tail.size() > kMaxReferenceBytes) return head + tail;
      head += next;
    }
  };
  const auto always = [](std::string text) { return [text](std::size_t) { return text; }; };
  const auto digest = [](std::size_t number) {
    return "\"sha256:" + to_hex(crypto::sha256(as_bytes(std::to_string(number)))) + "\"";
  };
  const std::string head = "version = 1\n[[reference]]\nid = \"a\"\nsecure_boot = true\nevent = [";
  std::map<std::string, std::pair<std::string, bool>> documents;  // and whether it loads
  documents["references"] = {filled("version = 1\n",
                                    [&](std::size_t i) {
                                      std::string one;
                                      if (i == kMaxReferences) return one;
                                      one = "[[reference]]\nid = \"" + std::to_string(i) +
                                            "\"\nsecure_boot = true\nevent = [";
                                      for (std::size_t event = 0; event < 41; ++event)
                                        one += "{pcr=4,digest=[" + digest(event) + "]},";
                                      return one + "]\n";
                                    }),
                             true};
  documents["digests"] = {
      filled(
          head, [&](std::size_t i) { return "{pcr=4,digest=[" + digest(i) + "]},"; }, "]\n"),
      false};  // more than 4096 events
  documents["texts"] = {filled(head, always("{pcr=4,text=\"a\"},"), "]\n"), false};
  documents["files"] = {
      filled(
          head + kEvent + "]\n[ima]\nfiles = \"\"\"\n",
          [](std::size_t i) { return "sha256:" + std::string(64, 'a') + " /" + std::to_string(i) + "\n"; },
          "\"\"\"\n"),
      true};
  documents["values"] = {filled("a = [", always("1,"), "]\n"), false};
  documents["tables"] = {filled("a = [", always("{a=1},"), "]\n"), false};
  documents["arrays"] = {filled("a = [", always("[[]],"), "]\n"), false};
  documents["headers"] = {filled("", always("[[a]]\n")), false};
  documents["brackets"] = {std::string(kMaxReferenceBytes, '['), false};
  documents["a text"] = {"a = \"" + std::string(kMaxReferenceBytes - 8, 'x') + "\"\n", false};
  documents["a comment"] = {head + kEvent + "]\n#" + std::string(kMaxReferenceBytes - 200, 'x'), true};
  for (const auto& [name, one] : documents) {
    SCOPED_TRACE(name);
    const auto& [toml, loads] = one;
    ASSERT_LE(toml.size(), kMaxReferenceBytes);
    const test::Taken taken =
        test::taken_by([&, &toml = toml] { EXPECT_EQ(refusal(toml) == "loads", loads) << refusal(toml); });
    EXPECT_LT(taken.most_bytes, std::size_t{64} << 20);
    EXPECT_LT(taken.seconds, test::kASecond);
  }
}

TEST(Pattern, StandsForAnyText) {
  EXPECT_TRUE(matches("linux *", "linux "));
  EXPECT_TRUE(matches("linux * ro quiet", "linux /vmlinuz-6.1 root=UUID=1 ro quiet"));
  EXPECT_TRUE(matches("*a*b*c", "xaybzc"));
  EXPECT_TRUE(matches("a**b", "ab"));
  EXPECT_TRUE(matches("*.efi", "a.efi.efi"));
  EXPECT_FALSE(matches("linux * ro", "linux x ro init=/bin/sh"));
  EXPECT_FALSE(matches("linux", "linux "));
  EXPECT_FALSE(matches("linux ", "linux"));
  EXPECT_FALSE(matches("*a*b*c", "xcba"));
  EXPECT_FALSE(matches("", "x"));
  EXPECT_TRUE(matches("", ""));
  EXPECT_FALSE(matches("ab*ba", "aba"));
  EXPECT_TRUE(matches("ab*ba", "abba"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("*a*", "*a"));
  EXPECT_FALSE(matches("a*a", "a"));
  // No pattern costs more than its text.
  EXPECT_FALSE(matches("*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(4096, 'a')));
}

// The meaning of a pattern, letter by letter.
bool means(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern.front() == '*')
    return means(pattern.substr(1), text) || (!text.empty() && means(pattern, text.substr(1)));
  return !text.empty() && pattern.front() == text.front() && means(pattern.substr(1), text.substr(1));
}

TEST(Pattern, OfEveryShortOneAndEveryShortText) {
  const auto word = [](std::size_t number, std::string_view letters, std::size_t size) {
    std::string out;
    for (; out.size() < size; number /= letters.size()) out += letters[number % letters.size()];
    return out;
  };
  for (std::size_t pattern_size = 0, patterns = 1; pattern_size <= 6; ++pattern_size, patterns *= 3)
    for (std::size_t p = 0; p < patterns; ++p) {
      const std::string pattern = word(p, "ab*", pattern_size);
      for (std::size_t text_size = 0, texts = 1; text_size <= 6; ++text_size, texts *= 2)
        for (std::size_t t = 0; t < texts; ++t) {
          const std::string text = word(t, "ab", text_size);
          ASSERT_EQ(matches(pattern, text), means(pattern, text)) << pattern << " " << text;
        }
    }
}

}  // namespace
}  // namespace sallyport::evidence

#include "attestation/evidence/appraisal.h"

#include <functional>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/base/hex.h"
#include "tests/support/boot_log.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/taken.h"

namespace sallyport::evidence {
namespace {

using test::BootLog;
using test::FailsWith;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = BootFinding::Kind;
using enum EventType;

const UnixMillis kNow{1'790'000'000'000};

class Appraised : public testing::Test {
 protected:
  VerifiedQuote quote() {
    const Digest256 binding = crypto::sha256(as_bytes("binding"));
    return value_of(verify_quote(tpm_.quote(binding, selection_), tpm_.ak(), binding, selection_,
                                 tpm_.pcr_values(selection_)));
  }
  static ReferenceValues values(std::vector<Reference> references, bool as_enrolled = false) {
    return value_of(parse_reference_values(BootLog::document(std::move(references), as_enrolled)));
  }
  // appraise boots the machine so, and judges it.
  Result<AcceptedBoot> appraise(const BootLog& log, const ReferenceValues& against) {
    log.boot(tpm_);
    const JudgedLog judged = judge_log(value_of(EventLog::parse(log.encode())), against);
    return appraise_boot(quote(), enrolled_, &judged, against, kNow);
  }
  static std::vector<BootFinding> findings(const BootLog& log, const BootLog& reference = BootLog::good()) {
    const EventLog parsed = value_of(EventLog::parse(log.encode()));
    const ReferenceValues against = values({reference.reference()});
    return judge_boot(parsed, PcrSelection::standard(), against.references.front());
  }
  static std::vector<Kind> kinds(const BootLog& log) {
    std::vector<Kind> out;
    for (const BootFinding& one : findings(log)) out.push_back(one.kind);
    return out;
  }

  PcrSelection selection_ = PcrSelection::standard();
  SoftTpm tpm_;
  BootBaseline enrolled_{selection_, {}};
};

TEST_F(Appraised, AsTheReferenceThatAcceptsIt) {
  const ReferenceValues two = values(
      {BootLog::good("firmware 1.0").reference("old"), BootLog::good("firmware 1.1").reference("new")});
  EXPECT_EQ(value_of(appraise(BootLog::good("firmware 1.0"), two)).reference, "old");
  EXPECT_EQ(value_of(appraise(BootLog::good("firmware 1.1"), two)).reference, "new");
  EXPECT_THAT(appraise(BootLog::good("firmware 1.2"), two), FailsWith(Reason::kBootEvent));
}

TEST_F(Appraised, TellsWhatWasNotExpectedAndWhere) {
  const auto refused =
      appraise(BootLog::good("firmware 1.0", "kernel 6.6"), values({BootLog::good().reference("6.1")}));
  ASSERT_THAT(refused, FailsWith(Reason::kBootEvent));
  EXPECT_THAT(refused.error().what, HasSubstr("of PCR 4"));
  EXPECT_THAT(refused.error().what, HasSubstr("application"));
  EXPECT_THAT(refused.error().what, HasSubstr(to_hex(crypto::sha256(as_bytes("kernel 6.6")))));
  EXPECT_THAT(refused.error().what,
              HasSubstr("and 1 more (nearest reference: 6.1)"));  // the kernel that is missing
}

TEST_F(Appraised, ByTheEnrolledBootWithoutALog) {
  BootLog::good().boot(tpm_);
  enrolled_ = tpm_.baseline(selection_);
  const ReferenceValues enrolled = ReferenceValues::as_enrolled();
  EXPECT_EQ(value_of(appraise_boot(quote(), enrolled_, nullptr, enrolled, kNow)).reference, "as enrolled");
  tpm_.extend(4, crypto::sha256(as_bytes("more")));
  EXPECT_THAT(appraise_boot(quote(), enrolled_, nullptr, enrolled, kNow), FailsWith(Reason::kBootState));
}

TEST_F(Appraised, ByTheEnrolledBootOrAnother) {
  BootLog::good("firmware 1.0").boot(tpm_);
  enrolled_ = tpm_.baseline(selection_);
  const ReferenceValues both = values({BootLog::good("firmware 1.1").reference("new")}, true);
  EXPECT_EQ(value_of(appraise_boot(quote(), enrolled_, nullptr, both, kNow)).reference, "as enrolled");
  EXPECT_EQ(value_of(appraise(BootLog::good("firmware 1.1"), both)).reference, "new");
  EXPECT_THAT(appraise_boot(quote(), enrolled_, nullptr, both, kNow), FailsWith(Reason::kEventLogMissing));
}

TEST_F(Appraised, OnlyByReferencesInForce) {
  Reference old = BootLog::good().reference("old");
  old.not_after = kNow;
  EXPECT_THAT(appraise(BootLog::good(), values({old})), FailsWith(Reason::kReferenceExpired));
  old.not_after = UnixMillis{kNow.get() + 86'400'000};
  EXPECT_THAT(appraise(BootLog::good(), values({old})), Succeeds());
  old.not_after = kNow;
  EXPECT_THAT(appraise(BootLog::good(), values({old, BootLog::good("firmware 2").reference("new")})),
              FailsWith(Reason::kBootEvent));
}

TEST_F(Appraised, OnlyWithTheLogOfThisBoot) {
  BootLog::good("firmware 1.0", "rootkit").boot(tpm_);
  const ReferenceValues good = values({BootLog::good().reference()});
  const JudgedLog other = judge_log(value_of(EventLog::parse(BootLog::good().encode())), good);
  EXPECT_THAT(appraise_boot(quote(), enrolled_, &other, good, kNow), FailsWith(Reason::kEventLogReplay));
}

TEST_F(Appraised, OnlyWithTheSelectionOfTheReferences) {
  ReferenceValues others = values({BootLog::good().reference()});
  others.selection = value_of(PcrSelection::from_mask(selection_.mask() | 1u << 8));
  EXPECT_THAT(appraise(BootLog::good(), others), FailsWith(Reason::kQuotePcrs));
}

TEST_F(Appraised, EachUnexpectedEventIsFound) {
  EXPECT_THAT(findings(BootLog::good()), IsEmpty());
  // One more image; one more driver; a line where there are none; the debugger.
  EXPECT_THAT(kinds(BootLog::good().image(4, "rootkit")), ElementsAre(Kind::kUnexpected));
  EXPECT_THAT(kinds(BootLog::good().add(2, kEfiRuntimeServicesDriver, Bytes{1})),
              ElementsAre(Kind::kUnexpected));
  EXPECT_THAT(kinds(BootLog::good().text(14, kIpl, "MokListTrusted")), ElementsAre(Kind::kUnexpected));
  EXPECT_THAT(kinds(BootLog::good().text(7, kEfiAction, "UEFI Debug Mode")), ElementsAre(Kind::kUnexpected));
  EXPECT_THAT(kinds(BootLog::good().image(4, "shim")), ElementsAre(Kind::kRepeated));
  // What may be any.
  EXPECT_THAT(findings(BootLog::good().text(1, kEfiVariableBoot, "BootOrder 2,1").text(5, kEfiGptEvent, "x")),
              IsEmpty());
}

TEST_F(Appraised, ATypeHidesNothing) {
  // Types are not measured: whatever an attacker calls his events, they are looked for by digest.
  for (const EventType type : {kUnused, kEventTag, kPostCode, kOmitBootDeviceEvents, kEfiAction, kSeparator,
                               static_cast<EventType>(0x8401), static_cast<EventType>(0xFFFFFFFE)})
    EXPECT_THAT(kinds(BootLog::good().add(4, type, crypto::sha256(as_bytes("rootkit")))),
                ElementsAre(Kind::kUnexpected));
}

TEST_F(Appraised, AMissingEventIsFound) {
  for (std::size_t i = 0; i < BootLog::good().events.size(); ++i) {
    BootLog log = BootLog::good();
    const BootLog::Event gone = log.events[i];
    if (gone.pcr == 1 || gone.pcr == 5) continue;
    log.events.erase(log.events.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(findings(log), Not(IsEmpty())) << i;
  }
}

TEST_F(Appraised, SeparatorsAreOneEach) {
  for (std::uint32_t pcr : {0u, 2u, 3u, 4u, 6u, 7u}) {
    EXPECT_THAT(kinds(BootLog::good().separator(pcr)), ElementsAre(Kind::kSeparator)) << pcr;
    BootLog error = BootLog::good();
    for (auto& event : error.events)
      if (event.pcr == pcr && event.type == static_cast<std::uint32_t>(kSeparator)) {
        event.data = {1, 0, 0, 0};
        event.digest = crypto::sha256(event.data);
      }
    EXPECT_THAT(findings(error), Not(IsEmpty())) << pcr;
  }
}

TEST_F(Appraised, NothingMovesOverASeparator) {
  BootLog moved = BootLog::good();
  // The option ROM's place is before the separator; what a boot loader adds comes after.
  BootLog with_driver;
  with_driver.add(2, kEfiBootServicesDriver, Bytes{7});
  for (const auto& event : BootLog::good().events) with_driver.events.push_back(event);
  moved.add(2, kEfiBootServicesDriver, Bytes{7});
  EXPECT_THAT(findings(with_driver, with_driver), IsEmpty());
  std::vector<Kind> found;
  for (const BootFinding& one : findings(moved, with_driver)) found.push_back(one.kind);
  EXPECT_THAT(found, ElementsAre(Kind::kUnexpected, Kind::kMissing));
}

TEST_F(Appraised, SecureBootIsAFactOnlyOfTheFirmware) {
  const ReferenceValues off = values({BootLog::good("firmware 1.0", "kernel 6.1", 0).reference("off")});
  EXPECT_FALSE(off.references[0].secure_boot);
  EXPECT_THAT(appraise(BootLog::good("firmware 1.0", "kernel 6.1", 0), off), Succeeds());
  // A reference that lists the digest of "off" among its events still wants it on.
  Reference both = BootLog::good().reference("on");
  const BootLog is_off = BootLog::good("firmware 1.0", "kernel 6.1", 0);
  for (const auto& event : is_off.events)
    if (event.pcr == 7 && event.data.size() == 53) both.events[1].digests.push_back(event.digest);
  ASSERT_EQ(both.events[1].pcr, 7);
  const auto refused = appraise(is_off, values({both}));
  ASSERT_THAT(refused, FailsWith(Reason::kBootEvent));
  EXPECT_THAT(refused.error().what, HasSubstr("Secure Boot is off"));

  // Measured by whoever runs after the firmware; data that is not what was measured; two of them.
  BootLog late = BootLog::good();
  const auto variable = std::ranges::find_if(late.events, [](const auto& e) { return e.data.size() == 53; });
  const BootLog::Event moved = *variable;
  late.events.erase(variable);
  late.events.push_back(moved);
  EXPECT_THAT(kinds(late), testing::Contains(Kind::kSecureBoot));
  BootLog lies = is_off;
  for (auto& event : lies.events)
    if (event.data.size() == 53) event.data.back() = 1;  // the digest says 0
  EXPECT_THAT(appraise(lies, values({both})), FailsWith(Reason::kBootEvent));
  BootLog twice = BootLog::good();
  twice.events.insert(twice.events.begin() + 1, moved);
  EXPECT_THAT(kinds(twice), testing::Contains(Kind::kSecureBoot));
}

TEST_F(Appraised, LinesOfABootLoaderByPattern) {
  selection_ = value_of(PcrSelection::from_mask(selection_.mask() | 1u << 8));
  ReferenceValues against;
  against.version = 1;
  against.selection = selection_;
  against.references = {BootLog::good().reference("grub")};
  against.references[0].events.push_back({.pcr = 8,
                                          .after_separator = false,
                                          .required = true,
                                          .repeats = false,
                                          .digests = {},
                                          .pattern = "/vmlinuz-* root=UUID=* ro quiet",
                                          .what = "the kernel's command line"});
  against.references[0].events.push_back({.pcr = 8,
                                          .after_separator = false,
                                          .required = false,
                                          .repeats = true,
                                          .digests = {},
                                          .pattern = "insmod *",
                                          .what = {}});
  against = value_of(parse_reference_values(write_reference_values(against)));
  const auto with = [&](std::string_view line) {
    BootLog log = BootLog::good();
    log.grub("grub_cmd: ", "insmod ext2").grub("grub_cmd: ", "insmod gzio").grub("kernel_cmdline: ", line);
    return appraise(log, against);
  };
  EXPECT_THAT(with("/vmlinuz-6.1.0-31 root=UUID=1234 ro quiet"), Succeeds());
  EXPECT_THAT(with("/vmlinuz-6.1.0-31 root=UUID=1234 ro quiet init=/bin/sh"), FailsWith(Reason::kBootEvent));
  // The words before a line are not measured: a command line is not excused by being called something else.
  BootLog renamed = BootLog::good();
  renamed.grub("grub_cmd: ", "/vmlinuz-6.1 root=UUID=1 ro quiet");
  renamed.grub("grub_cmd: ", "/vmlinuz-6.1 root=UUID=1 ro quiet init=/bin/sh");
  EXPECT_THAT(appraise(renamed, against), FailsWith(Reason::kBootEvent));
  // A line whose digest is of something else is no fact.
  BootLog lies = BootLog::good();
  lies.grub("kernel_cmdline: ", "/vmlinuz-6.1 root=UUID=1 ro quiet init=/bin/sh");
  lies.events.back().data = to_bytes(as_bytes("kernel_cmdline: /vmlinuz-6.1 root=UUID=1 ro quiet"));
  EXPECT_THAT(appraise(lies, against), FailsWith(Reason::kBootEvent));
}

TEST_F(Appraised, FindingsAreCappedAndPrintable) {
  BootLog log = BootLog::good();
  for (int i = 0; i < 1000; ++i) log.image(4, "image " + std::to_string(i));
  log.add(4, kIpl, crypto::sha256(as_bytes("x")), to_bytes(as_bytes("\x1b[2J\n")));
  const std::vector<BootFinding> found = findings(log);
  EXPECT_EQ(found.size(), kMaxFindings);
  for (const BootFinding& one : found)
    for (const char c : one.words) EXPECT_TRUE(c >= 0x20 && c < 0x7F) << one.words;
}

// The log of a good boot, and then what `piece` adds until the log is full.
Bytes full_log(const std::function<void(BootLog&, std::size_t)>& piece) {
  constexpr std::size_t kOfAnEvent = 4 + 4 + 4 + 2 + 32 + 4;
  BootLog log = BootLog::good();
  std::size_t size = log.encode().size();
  for (std::size_t i = 0;; ++i) {
    const std::size_t before = log.events.size();
    piece(log, i);
    for (std::size_t at = before; at < log.events.size(); ++at)
      size += kOfAnEvent + log.events[at].data.size();
    if (size > kMaxEventLogBytes) {
      log.events.resize(before);
      return log.encode();
    }
  }
}

// A document with `count` references to the good boot that expect `more` as well.
std::string references_with(std::size_t count, const std::vector<ExpectedEvent>& more) {
  std::vector<Reference> out;
  for (std::size_t i = 0; i < count; ++i) {
    out.push_back(BootLog::good().reference(std::to_string(i)));
    for (ExpectedEvent& event : out.back().events) event.what.clear();
    out.back().events.insert(out.back().events.end(), more.begin(), more.end());
  }
  return BootLog::document(std::move(out));
}
ExpectedEvent any_number_of(std::uint8_t pcr, bool after, std::string pattern) {
  return {.pcr = pcr,
          .after_separator = after,
          .required = false,
          .repeats = true,
          .digests = {},
          .pattern = std::move(pattern),
          .what = {}};
}

// PCR 14 has `texts` texts, each another, and the first pattern of as many as may be is the one that matches
// them; or the last.
bool accepts(std::size_t texts, bool first) {
  std::vector<ExpectedEvent> patterns(kMaxPatterns, any_number_of(14, false, "no*"));
  (first ? patterns.front() : patterns.back()).pattern = "line *";
  BootLog log = BootLog::good();
  for (std::size_t i = 0; i < texts; ++i)
    log.text(14, kIpl, "line " + std::to_string(10000 + i) + std::string(902, ' '));
  const EventLog parsed = value_of(EventLog::parse(log.encode()));
  const ReferenceValues against = value_of(parse_reference_values(references_with(1, patterns)));
  const std::vector<BootFinding> found = judge_boot(parsed, against.selection, against.references.front());
  const JudgedLog judged = judge_log(parsed, against);
  EXPECT_EQ(judged.accepted_by_any(), found.empty());
  for (const BootFinding& one : found) EXPECT_THAT(one.words, HasSubstr("the patterns are too many"));
  return found.empty();
}

TEST(JudgedLogs, WhoseTextsAndPatternsAreTooManyAreNotAccepted) {
  constexpr std::size_t kOfAText = (912 + kWorkOfAMatch) * kMaxPatterns;
  constexpr std::size_t kMost = kMaxMatchingWork / kOfAText;
  EXPECT_TRUE(accepts(kMost, false));
  EXPECT_FALSE(accepts(kMost + 1, false));
  EXPECT_TRUE(accepts(kMost + 500, true));
}

TEST(JudgedLogs, ATextThatComesAgainCostsNothing) {
  std::vector<ExpectedEvent> patterns(kMaxPatterns - 1, any_number_of(14, false, "no*"));
  patterns.push_back(any_number_of(14, false, "line*"));
  const ReferenceValues against = value_of(parse_reference_values(references_with(1, patterns)));
  const Bytes log =
      full_log([](BootLog& out, std::size_t) { out.text(14, kIpl, "line" + std::string(900, ' ')); });
  EXPECT_TRUE(judge_log(value_of(EventLog::parse(log)), against).accepted_by_any());
}

TEST(JudgedLogs, OfAnyOneMebibyteTakeLittleTimeAndMemory) {
  // Texts of this size, each another, after `fill`.
  const auto texts = [](std::size_t size, char fill) {
    return full_log([=](BootLog& log, std::size_t i) {
      const std::string number = std::to_string(i);
      log.text(14, kIpl, std::string(size - number.size(), fill) + number);
    });
  };
  // As many patterns as a document may have, of which the last alone matches.
  const auto patterns = [](const std::string& one) {
    std::vector<ExpectedEvent> out(kMaxPatterns - 1, any_number_of(14, false, one));
    out.push_back(any_number_of(14, false, "*a*"));
    return references_with(1, out);
  };
  const auto repeated = [](std::string_view piece, std::size_t size) {
    std::string out;
    while (out.size() + piece.size() <= size) out += piece;
    return out;
  };
  struct One {
    Bytes log;
    std::string document;
  };
  const std::string a900(900, 'a');
  std::map<std::string, One> all;
  all["long texts, long patterns"] = {texts(4000, 'a'), patterns("*" + a900 + "b*")};
  all["long texts, patterns with a middle"] = {
      texts(4000, 'a'), patterns("*" + std::string(127, 'a') + "b" + std::string(127, 'a') + "*")};
  all["long texts, patterns of stars"] = {texts(4000, 'a'), patterns(repeated("*a", 900) + "*b*")};
  all["long texts, patterns of pairs"] = {texts(4000, 'a'), patterns(repeated("*aa", 900) + "*b*")};
  all["texts as long as patterns"] = {texts(460, 'a'), patterns(repeated("*a", 900) + "*b*")};
  all["short texts, many patterns"] = {texts(6, 'a'), patterns("*a*b*")};
  all["short texts, many references"] = {texts(6, 'a'),
                                         references_with(200, {any_number_of(14, false, "*a*")})};
  all["long texts, many references"] = {
      texts(4000, 'a'),
      references_with(200, {any_number_of(14, false, "*a*"), any_number_of(14, false, "aaa*")})};
  all["texts of the firmware, many references"] = {
      full_log([](BootLog& log, std::size_t i) { log.text(7, kIpl, "a" + std::to_string(i)); }),
      references_with(200, {any_number_of(7, true, "a*")})};
  all["one event that nobody expects, many references"] = {
      full_log([](BootLog& log, std::size_t i) {
        if (i == 0) log.add(4, kIpl, crypto::sha256(as_bytes("x")), Bytes((1 << 20) - 4000, 'a'));
        if (i != 0) log.text(4, kIpl, std::to_string(i));
      }),
      references_with(200, {any_number_of(14, false, "a*")})};
  all["events before the separator of PCR 7, many references"] = {
      [] {
        BootLog log;
        for (std::size_t i = 0; i < 9000; ++i) log.text(7, kIpl, "a" + std::to_string(i));
        log.add(7, kIpl, Bytes(400'000, 'a'));
        const BootLog good = BootLog::good();
        log.events.insert(log.events.end(), good.events.begin(), good.events.end());
        return log.encode();
      }(),
      references_with(200, {any_number_of(7, false, "a*")})};
  std::vector<ExpectedEvent> digests;
  for (std::size_t i = 0; i < 40; ++i) {
    digests.push_back(any_number_of(14, false, ""));
    digests.back().digests = {crypto::sha256(as_bytes(std::to_string(i)))};
  }
  all["digests, many references"] = {full_log([](BootLog& log, std::size_t i) {
                                       log.add(14, kIpl, crypto::sha256(as_bytes(std::to_string(i % 40))));
                                     }),
                                     references_with(140, digests)};
  for (const auto& [name, one] : all) {
    SCOPED_TRACE(name);
    ASSERT_LE(one.log.size(), kMaxEventLogBytes);
    ASSERT_LE(one.document.size(), kMaxReferenceBytes);
    const ReferenceValues against = value_of(parse_reference_values(one.document));
    const EventLog log = value_of(EventLog::parse(one.log));
    const test::Taken taken = test::taken_by([&] { (void)judge_log(log, against).accepted_by_any(); });
    EXPECT_LT(taken.most_bytes, std::size_t{64} << 20);
    EXPECT_LT(taken.seconds, test::kASecond);
  }
}

}  // namespace
}  // namespace sallyport::evidence

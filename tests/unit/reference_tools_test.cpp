#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>

#include "attestation/base/hex.h"
#include "attestation/crypto/private_key.h"
#include "attestation/evidence/appraisal.h"
#include "client/evidence/commands.h"
#include "client/evidence/difference.h"
#include "client/evidence/event_kind.h"
#include "client/evidence/inputs.h"
#include "client/evidence/learn.h"
#include "tests/support/boot_log.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/run_tool.h"

namespace sallyport::client::evidence_tools {
namespace {

using evidence::EventLog;
using evidence::ExpectedEvent;
using evidence::PcrSelection;
using evidence::Reference;
using evidence::ReferenceValues;
using test::BootLog;
using test::FailsWith;
using test::Ran;
using test::read_file;
using test::value_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using enum evidence::EventType;

constexpr std::string_view kLogs = "tests/vectors/event_logs/";

std::string path_of(std::string_view name) {
  return std::string{kLogs} + std::string{name};
}
NamedLog real(std::string_view name) {
  return {std::string{name}, value_of(EventLog::parse(read_file(path_of(name))))};
}
NamedLog made(const BootLog& log, std::string name = "log") {
  return {std::move(name), value_of(EventLog::parse(log.encode()))};
}
template <class... Logs>
std::vector<NamedLog> all(Logs&&... logs) {
  std::vector<NamedLog> out;
  (out.push_back(std::forward<Logs>(logs)), ...);
  return out;
}

Result<Reference> learn(const std::vector<NamedLog>& logs, std::uint32_t unjudged = kUsuallyUnjudged) {
  return learn_reference(logs, PcrSelection::standard(), unjudged, "learned");
}
bool accepts(const Reference& reference, const NamedLog& log) {
  return evidence::judge_boot(log.log, PcrSelection::standard(), reference).empty();
}

// Real logs of SHA-256 whose firmware measured Secure Boot and one separator in each PCR.
constexpr std::string_view kGood[] = {"arch-linux-workstation.bin",
                                      "coreos_36_shielded_vm_no_secure_boot_eventlog",
                                      "cos-85-amd-sev.bin",
                                      "crypto_agile_eventlog",
                                      "deb1.log",
                                      "dell1.log",
                                      "elitebook-before-update.eventlog.bin",
                                      "elitebook830-add-mokx.eventlog.bin",
                                      "elitebook830-baseline.eventlog.bin",
                                      "event-bootorder.bin",
                                      "event-moklisttrusted.bin",
                                      "event-sd-boot-fedora37.bin",
                                      "eventlogwithsp800155.bin",
                                      "h12ssl.bios_measurements",
                                      "hirs-laptop.log",
                                      "keylime-binary_bios_measurements",
                                      "p511.log",
                                      "rhel8-uefi.bin",
                                      "rust-keylime-uefi_log.bin",
                                      "sm3.log",
                                      "ubuntu-1804-amd-sev.bin",
                                      "ubuntu-2104-no-dbx.bin",
                                      "ubuntu1.log",
                                      "x1-good.eventlog.bin",
                                      "x1carbon-before.eventlog.bin"};

// ---- learning

TEST(Learned, OfARealBootAcceptsItAndNoOther) {
  for (const std::string_view name : kGood) {
    SCOPED_TRACE(name);
    const Reference reference = value_of(learn(all(real(name))));
    ReferenceValues values;
    values.version = 1;
    values.references = {reference};
    const ReferenceValues back =
        value_of(evidence::parse_reference_values(evidence::write_reference_values(values)));
    for (const std::string_view other : kGood)
      EXPECT_EQ(accepts(back.references.front(), real(other)), other == name) << other;
  }
}

TEST(Learned, OfARealBootWithEveryPcrJudged) {
  for (const std::string_view name : kGood) {
    const Reference reference = value_of(learn(all(real(name)), 0));
    EXPECT_TRUE(accepts(reference, real(name))) << name;
  }
}

TEST(Learned, OfTwoBootsAcceptsBothAndNoThird) {
  std::vector<NamedLog> logs;
  for (const std::string_view name : kGood) logs.push_back(real(name));
  std::size_t pairs = 0;
  for (const NamedLog& one : logs) {
    if (!one.name.starts_with("elitebook") && !one.name.starts_with("x1")) continue;
    for (const NamedLog& other : logs) {
      SCOPED_TRACE(one.name + " and " + other.name);
      const auto both = learn(all(real(one.name), real(other.name)));
      if (!both.has_value()) {
        EXPECT_THAT(both.error().what, HasSubstr("learn them apart"));
        continue;
      }
      ++pairs;
      for (const NamedLog& log : logs) {
        const bool own = log.name == one.name || log.name == other.name;
        // This boot has but one event that the one with MokListX has not, an empty list, which others have
        // too.
        const bool mixed = log.name == "elitebook830-baseline.eventlog.bin" &&
                           (one.name + other.name).find("add-mokx") != std::string::npos;
        if (own || !mixed) {
          EXPECT_EQ(accepts(*both, log), own) << log.name;
        }
      }
    }
  }
  EXPECT_GT(pairs, 50u);
}

const ExpectedEvent* find_what(const Reference& reference, std::string_view what) {
  for (const ExpectedEvent& event : reference.events)
    if (event.what.find(what) != event.what.npos) return &event;
  return nullptr;
}

TEST(Learned, WhatHasTheSameRoleInEachIsOneEvent) {
  const Reference both = value_of(
      learn(all(made(BootLog::good("firmware 1.0")), made(BootLog::good("firmware 1.1", "kernel 6.6")))));
  const ExpectedEvent* firmware = find_what(both, "firmware 1.0");
  ASSERT_NE(firmware, nullptr);
  EXPECT_THAT(firmware->digests, ElementsAre(crypto::sha256(as_bytes("firmware 1.0")),
                                             crypto::sha256(as_bytes("firmware 1.1"))));
  EXPECT_TRUE(firmware->required);
  EXPECT_FALSE(firmware->repeats);
  EXPECT_EQ(find_what(both, "firmware 1.1"), nullptr);
  // Kernels stand for each other; shim and grub, which both have, for nothing but themselves.
  std::vector<std::size_t> digests;
  for (const ExpectedEvent& event : both.events)
    if (event.pcr == 4 && event.after_separator) digests.push_back(event.digests.size());
  EXPECT_THAT(digests, ElementsAre(1u, 1u, 2u));
  EXPECT_TRUE(accepts(both, made(BootLog::good("firmware 1.1", "kernel 6.1"))));
  EXPECT_FALSE(accepts(both, made(BootLog::good("firmware 1.2"))));
  BootLog two_kernels = BootLog::good();
  two_kernels.image(4, "kernel 6.6");
  EXPECT_FALSE(accepts(both, made(two_kernels)));
}

TEST(Learned, WhatOneBootLacksIsNotRequired) {
  BootLog more = BootLog::good();
  more.image(2, "dock firmware").text(14, kIpl, "MokListX");
  const Reference both = value_of(learn(all(made(BootLog::good()), made(more))));
  const ExpectedEvent* dock = find_what(both, "MokListX");
  ASSERT_NE(dock, nullptr);
  EXPECT_FALSE(dock->required);
  EXPECT_TRUE(accepts(both, made(BootLog::good())));
  EXPECT_TRUE(accepts(both, made(more)));
  more.text(14, kIpl, "MokListX");
  EXPECT_FALSE(accepts(both, made(more)));  // twice
}

TEST(Learned, WhatIsThereTwiceMayRepeat) {
  BootLog log = BootLog::good();
  log.image(4, "grub");
  const Reference reference = value_of(learn(all(made(log))));
  std::size_t repeating = 0;
  for (const ExpectedEvent& event : reference.events) repeating += event.repeats ? 1 : 0;
  EXPECT_EQ(repeating, 1u);
  EXPECT_TRUE(accepts(reference, made(log)));
  EXPECT_TRUE(accepts(reference, made(BootLog::good())));
}

TEST(Learned, OfRowsThatCrossIsOneEventThatRepeats) {
  // The same image is the first of those that differ in one boot, and the second in the other.
  BootLog one = BootLog::good(), other = BootLog::good(), third = BootLog::good();
  one.image(4, "a").image(4, "b");
  other.image(4, "b").image(4, "c");
  const Reference all_three = value_of(learn(all(made(one), made(other), made(third))));
  for (const BootLog* log : {&one, &other, &third}) EXPECT_TRUE(accepts(all_three, made(*log)));
  third.image(4, "d");
  EXPECT_FALSE(accepts(all_three, made(third)));
}

TEST(Learned, OfALongChainOfRolesIsNotDeep) {
  // Each boot has one image of the boot before and one new one, in the other order.
  std::vector<NamedLog> logs;
  for (int i = 0; i < 64; ++i) {
    BootLog log = BootLog::good();
    log.image(4, "image " + std::to_string(i + 1)).image(4, "image " + std::to_string(i));
    logs.push_back(made(log));
  }
  const Reference reference = value_of(learn(logs));
  for (const NamedLog& log : logs) EXPECT_TRUE(accepts(reference, log));
}

TEST(Learned, KnowsTheSeparatorByItsDigestAlone) {
  const Reference reference = value_of(learn(all(made(BootLog::good()))));
  for (const ExpectedEvent& event : reference.events)
    for (const Digest256& digest : event.digests) EXPECT_NE(digest, crypto::sha256(ByteArray<4>{}));
  BootLog moved = BootLog::good();
  for (auto& event : moved.events)
    if (event.pcr == 4 && event.type == static_cast<std::uint32_t>(kEfiAction)) event.pcr = 2;
  EXPECT_FALSE(accepts(reference, made(moved)));
}

TEST(Learned, RefusesWhatNoReferenceCanAccept) {
  const auto refusal = [](const std::vector<NamedLog>& logs) {
    const auto learned = learn(logs);
    EXPECT_THAT(learned, FailsWith(Reason::kMalformed));
    return learned.has_value() ? "" : learned.error().what;
  };
  EXPECT_THAT(learn(all(real("debian-10.bin"))), FailsWith(Reason::kEventLogBank));
  EXPECT_THAT(learn(all(real("x1-good.eventlog.bin"), real("debian-10.bin"))).error().what,
              HasSubstr("debian-10.bin: the log has no sha256"));
  EXPECT_THAT(refusal(all(real("tpm2bios.log"))), HasSubstr("did not measure whether Secure Boot is on"));
  EXPECT_THAT(refusal(all(real("sb_cert_eventlog"))), HasSubstr("PCR 0 has no separator"));
  EXPECT_THAT(refusal(all(real("glinux-alex.bin"))), HasSubstr("a second separator"));
  EXPECT_THAT(refusal(all(made(BootLog::good()), made(BootLog::good("firmware 1.0", "k", 0), "off.log"))),
              AllOf(HasSubstr("off.log: Secure Boot is off"), HasSubstr("learn them apart")));
  BootLog zeros = BootLog::good();
  zeros.add(4, kIpl, Digest256{});
  EXPECT_THAT(refusal(all(made(zeros))), HasSubstr("a digest of zeros"));
  BootLog late = BootLog::good();
  const auto variable = std::ranges::find_if(late.events, [](const auto& e) { return e.data.size() == 53; });
  std::rotate(variable, variable + 1, late.events.end());
  EXPECT_THAT(refusal(all(made(late))), HasSubstr("did not measure"));
}

TEST(Learned, RefusesMoreThanADocumentCanSay) {
  BootLog log = BootLog::good();
  for (int i = 0; i < 4096; ++i) log.image(4, "image " + std::to_string(i));
  EXPECT_THAT(learn(all(made(log))), FailsWith(Reason::kReferenceInvalid));
}

// ---- kinds

TEST(EventKind, IsWhatStaysOverAnUpdate) {
  const auto kind = [](std::string_view what) {
    const EventKind of = kind_of(what);
    return of.name + " | " + of.value;
  };
  EXPECT_EQ(kind("variable dbx: 83 digests"), "variable dbx | 83 digests");
  EXPECT_EQ(kind("authority db: a certificate"), "authority db | a certificate");
  EXPECT_EQ(kind("application Acpi/Pci/HD(1)/\\EFI\\a, b.efi, 12 bytes"),
            "application Acpi/Pci/HD(1)/\\EFI\\a, b.efi | 12 bytes");
  EXPECT_EQ(kind("application a/b/c..."), "application a/b/c... | ");
  EXPECT_EQ(kind("CRTM version \"R70 1.0\""), "CRTM version | \"R70 1.0\"");
  EXPECT_EQ(kind("firmware blob \"FV\" at 0xff, 2 bytes"), "firmware blob \"FV\" | at 0xff, 2 bytes");
  EXPECT_EQ(kind("firmware blob at 0xff, 2 bytes"), "firmware blob | at 0xff, 2 bytes");
  EXPECT_EQ(kind("partition table of 3 partitions"), "partition table | of 3 partitions");
  EXPECT_EQ(kind("tables of the firmware, 40 bytes"), "tables of the firmware | 40 bytes");
  EXPECT_EQ(kind("\"grub_cmd: insmod ext2\""), "grub_cmd | insmod ext2");
  EXPECT_EQ(kind("\"grub_kernel_cmdline /vmlinuz ro\""), "grub_kernel_cmdline | /vmlinuz ro");
  EXPECT_EQ(kind("\"Calling EFI Application from Boot Option\""),
            "\"Calling EFI Application from Boot Option\" | ");
  EXPECT_EQ(kind("44 bytes"), "event | 44 bytes");
  EXPECT_EQ(kind("shim of Debian"), "shim of Debian | ");
  for (const char* odd :
       {"", "\"", "\"\"", "variable ", "application ", "firmware blob ", "CRTM version", "tag "})
    EXPECT_EQ(kind_of(odd).value, "") << odd;
}

// ---- differences

std::vector<std::string> lines(const std::vector<Difference>& differences) {
  std::vector<std::string> out;
  for (const Difference& one : differences)
    out.push_back(std::string(1, one.sign) + (one.pcr ? " " + std::to_string(*one.pcr) : "") + " " +
                  one.text);
  return out;
}
std::vector<std::string> changed(const NamedLog& before, const NamedLog& after) {
  return lines(diff_references(
      value_of(learn_reference({&before, 1}, PcrSelection::standard(), kUsuallyUnjudged, "before")),
      value_of(learn_reference({&after, 1}, PcrSelection::standard(), kUsuallyUnjudged, "after"))));
}

TEST(Difference, SaysWhatAnUpdateChanged) {
  EXPECT_THAT(
      changed(real("elitebook-before-update.eventlog.bin"), real("elitebook830-baseline.eventlog.bin")),
      ElementsAre("~ 4 application of no path: another image (13656320 bytes -> 10171040 bytes)"));
  EXPECT_THAT(changed(real("elitebook830-baseline.eventlog.bin"), real("elitebook830-add-mokx.eventlog.bin")),
              ElementsAre("~ 14 \"MokListX\": another content"));
  EXPECT_THAT(changed(real("x1carbon-before.eventlog.bin"), real("x1-good.eventlog.bin")),
              ElementsAre("~ 4 \\EFI\\Gentoo\\kernel.efi: another image (28631848 bytes -> 22059816 bytes)",
                          "~ 7 dbx: another list (83 digests -> 77 digests)"));
  EXPECT_THAT(changed(made(BootLog::good()), made(BootLog::good("firmware 1.1"))),
              ElementsAre("~ 0 firmware version \"firmware 1.0\" -> \"firmware 1.1\""));
  for (const std::string_view name : kGood) EXPECT_THAT(changed(real(name), real(name)), IsEmpty()) << name;
}

TEST(Difference, SaysWhatIsNewGoneOrMoved) {
  BootLog more = BootLog::good();
  more.text(14, kIpl, "MokListX");
  EXPECT_THAT(changed(made(BootLog::good()), made(more)), ElementsAre("+ 14 new: \"MokListX\""));
  EXPECT_THAT(changed(made(more), made(BootLog::good())), ElementsAre("- 14 gone: \"MokListX\""));
  BootLog moved = BootLog::good();
  const auto action = std::ranges::find_if(
      moved.events, [](const auto& e) { return e.type == static_cast<std::uint32_t>(kEfiAction); });
  const BootLog::Event late = *action;
  moved.events.erase(action);
  moved.events.push_back(late);
  EXPECT_THAT(
      changed(made(BootLog::good()), made(moved)),
      ElementsAre("~ 4 \"Calling EFI Application from Boot Option\": after the firmware's separator now"));
}

TEST(Difference, SaysOnWhatTermsABootIsAccepted) {
  const Reference one = value_of(learn(all(made(BootLog::good()))));
  Reference other = one;
  EXPECT_THAT(diff_references(one, other), IsEmpty());
  other.id = "another name";
  EXPECT_THAT(diff_references(one, other), IsEmpty());
  other.not_after = UnixMillis{1'806'537'600'000};
  other.secure_boot = false;
  other.unjudged = 1u << 1 | 1u << 3;
  other.events[0].digests.push_back(crypto::sha256(as_bytes("firmware 1.1")));
  other.events[0].required = false;
  other.events[0].repeats = true;
  EXPECT_THAT(
      lines(diff_references(one, other)),
      ElementsAre("~ in force without end -> until 2027-04-01 begins", "~ Secure Boot on -> OFF",
                  "~ PCR 5 is judged now", "~ PCR 3 is no longer judged: any event is accepted there",
                  "~ 0 firmware version: 1 digest more accepted", "~ 0 firmware version: no longer required",
                  "~ 0 firmware version: may repeat now"));
  EXPECT_THAT(lines(diff_references(one, ReferenceValues::as_enrolled().references.front())),
              ElementsAre("~ accepts the enrolled boot now, where events were listed"));
  Reference text = one, other_text = one;
  text.events.push_back({.pcr = 14,
                         .after_separator = false,
                         .required = true,
                         .repeats = false,
                         .digests = {},
                         .pattern = "linux *",
                         .what = "the command line"});
  other_text.events.push_back(text.events.back());
  other_text.events.back().pattern = "linux * quiet";
  EXPECT_THAT(lines(diff_references(text, other_text)),
              ElementsAre("~ 14 the command line: linux * -> linux * quiet"));
}

TEST(Difference, HoldsANewReferenceAgainstTheNearest) {
  const auto named = [](std::string id, const BootLog& log) {
    Reference reference = value_of(learn(all(made(log))));
    reference.id = std::move(id);
    return reference;
  };
  const Reference old = named("t490-1.0", BootLog::good("t490 1.0"));
  const Reference other = named("x1", BootLog::good("x1 1.0", "kernel 5"));
  const Reference next = named("x1-1.1", BootLog::good("x1 1.1", "kernel 5"));
  const std::vector<Reference> before{old, other}, after{old, other, next}, fewer{other};
  const auto pairs = diff_values(before, after);
  ASSERT_EQ(pairs.size(), 3u);
  EXPECT_EQ(pairs[2].before->id, "x1");
  EXPECT_THAT(lines(pairs[2].differences), ElementsAre("~ 0 firmware version \"x1 1.0\" -> \"x1 1.1\""));
  const auto gone = diff_values(before, fewer);
  ASSERT_EQ(gone.size(), 2u);
  EXPECT_EQ(gone[1].before->id, "t490-1.0");
  EXPECT_EQ(gone[1].after, nullptr);
}

evidence::ImaReference may_run(const std::string& files, bool violations = false) {
  return value_of(evidence::ImaReference::make(
      {.keys = {}, .files = files, .violations = violations, .padded_sha1 = false}));
}
std::string file_line(char digit, const std::string& path) {
  return "sha256:" + std::string(64, digit) + " " + path + "\n";
}

TEST(Difference, TellsWhichFilesMayRun) {
  const auto before =
      may_run(file_line('a', "/bin/a") + file_line('b', "/bin/b") + file_line('c', "/bin/c c"));
  const auto after = may_run(file_line('d', "/bin/a") + file_line('b', "/bin/b") + file_line('e', "/bin/b") +
                                 file_line('f', "/bin/new"),
                             true);
  EXPECT_THAT(diff_ima(before, before), IsEmpty());
  EXPECT_THAT(diff_ima(std::nullopt, std::nullopt), IsEmpty());
  EXPECT_THAT(
      lines(diff_ima(before, after)),
      ElementsAre("~ 10 violations are accepted now", "- 10 gone: /bin/c c", "~ 10 /bin/a: another content",
                  "~ 10 /bin/b: more contents accepted", "+ 10 new: /bin/new"));
  EXPECT_THAT(lines(diff_ima(std::nullopt, may_run(file_line('a', "/bin/a")))),
              ElementsAre("+ 10 what is measured later is judged now: machines bring their IMA lists",
                          "+ 10 new: /bin/a"));
  EXPECT_THAT(lines(diff_ima(may_run(file_line('a', "/bin/a")), std::nullopt)),
              ElementsAre("- 10 what is measured later is judged no more", "- 10 gone: /bin/a"));
  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).public_key();
  const auto by_key = value_of(evidence::ImaReference::make({.keys = {key}, .files = {}}));
  EXPECT_THAT(lines(diff_ima(by_key, may_run(file_line('a', "/bin/a")))),
              ElementsAre("- 10 a key that signs files: sha256:" + to_hex(key.id()), "+ 10 new: /bin/a"));
}

// ---- commands

class Commands : public testing::Test {
 protected:
  static Ran run(std::vector<std::string> words) { return test::run_tool(std::move(words), {commands()}); }
  std::string file(std::string_view name, ByteView bytes) const {
    const std::filesystem::path path = place_ / name;
    std::ofstream{path, std::ios::binary} << as_text(bytes);
    return path.string();
  }
  std::string log(std::string_view name, const BootLog& log) const { return file(name, log.encode()); }

  test::TemporaryDirectory place_;
};

TEST_F(Commands, TellWhatMayBeMeasuredLater) {
  ReferenceValues values = ReferenceValues::as_enrolled();
  values.version = 1;
  const std::string none = file("none.toml", as_bytes(evidence::write_reference_values(values)));
  values.ima = may_run(file_line('a', "/bin/a") + file_line('b', "/bin/b"), true);
  const std::string some = file("some.toml", as_bytes(evidence::write_reference_values(values)));
  EXPECT_THAT(run({"reference", "check", some}).out,
              AllOf(HasSubstr("2 are listed, 0 keys sign"), HasSubstr("VIOLATIONS are accepted")));
  EXPECT_THAT(run({"reference", "check", some, "-f", "json"}).out,
              HasSubstr("\"ima\":{\"files\":2,\"keys\":0,\"padded_sha1\":false,\"violations\":true}"));
  EXPECT_THAT(run({"reference", "check", none, "-f", "json"}).out, Not(HasSubstr("ima")));
  EXPECT_THAT(run({"reference", "diff", none, some}).out, HasSubstr("+ PCR 10: new: /bin/a"));
  EXPECT_THAT(run({"reference", "diff", some, some}).out, HasSubstr("no difference"));
  EXPECT_THAT(run({"reference", "diff", none, some, "-f", "json"}).out,
              HasSubstr("{\"pcr\":10,\"sign\":\"+\",\"text\":\"new: /bin/b\"}"));
  // A document that a boot is added to keeps what it says of files.
  const Ran added =
      run({"reference", "learn", log("good.log", BootLog::good()), "--id", "good", "--add-to", some});
  ASSERT_EQ(added.exit, 0) << added.err;
  EXPECT_EQ(value_of(evidence::parse_reference_values(added.out)).ima, values.ima);
}

TEST_F(Commands, LearnCheckAppraiseAndDiff) {
  const std::string before = path_of("x1carbon-before.eventlog.bin"), after = path_of("x1-good.eventlog.bin");
  const Ran learned = run({"reference", "learn", before, "--id", "x1", "--not-after", "2027-04-01"});
  ASSERT_EQ(learned.exit, 0) << learned.err;
  EXPECT_THAT(learned.err,
              AllOf(HasSubstr("PCR 1, 5: any event is accepted"), HasSubstr("22 events of 1 boot")));
  const std::string first = file("first.toml", as_bytes(learned.out));

  const Ran checked = run({"reference", "check", first});
  EXPECT_EQ(checked.exit, 0);
  EXPECT_THAT(checked.out, AllOf(HasSubstr("version    1 · 1 reference"),
                                 HasSubstr("until 2027-04-01 begins"), HasSubstr("Secure Boot on"),
                                 HasSubstr("PCR 4      4 events"), HasSubstr("PCR 1, 5: not judged"),
                                 HasSubstr("sha256:" + to_hex(crypto::sha256(as_bytes(learned.out))))));

  const std::vector<std::string> judge{"evidence", "appraise", after, "--at", "2026-12-01", "--references"};
  const auto with = [](std::vector<std::string> words, const std::string& more) {
    words.push_back(more);
    return words;
  };
  const Ran refused = run(with(judge, first));
  EXPECT_EQ(refused.exit, 5);
  EXPECT_THAT(refused.out,
              AllOf(HasSubstr("\\EFI\\Gentoo\\kernel.efi"), HasSubstr("is not expected"),
                    HasSubstr("not accepted at 2026-12-01"), HasSubstr("A log alone proves nothing")));

  const Ran added = run({"reference", "learn", after, "--id", "x1-next", "--add-to", first});
  ASSERT_EQ(added.exit, 0) << added.err;
  EXPECT_THAT(added.err, HasSubstr("comments are not kept"));
  EXPECT_THAT(added.out, HasSubstr("version = 2\n"));
  const std::string second = file("second.toml", as_bytes(added.out));
  EXPECT_EQ(run(with(judge, second)).exit, 0);
  const Ran later = run({"evidence", "appraise", before, "--references", second, "--at", "2027-04-01"});
  EXPECT_EQ(later.exit, 5);
  EXPECT_THAT(later.out, AllOf(HasSubstr("accepts nothing since 2027-04-01"), HasSubstr("would accept it")));

  const Ran diff = run({"reference", "diff", first, second});
  EXPECT_EQ(diff.exit, 0);
  EXPECT_THAT(diff.out, AllOf(HasSubstr("+ x1-next   new; against x1"),
                              HasSubstr("  ~ PCR 7: dbx: another list (83 digests -> 77 digests)")));
  EXPECT_THAT(run({"reference", "diff", first, first}).out, HasSubstr("no difference"));
  EXPECT_THAT(run({"reference", "diff", before, after}).out, HasSubstr("kernel.efi: another image"));
  // A log against a document: the nearest reference, and as that judges.
  EXPECT_THAT(run({"reference", "diff", second, after}).out, HasSubstr("no difference"));
  EXPECT_THAT(run({"reference", "diff", after, first}).out, HasSubstr("kernel.efi: another image"));
  const Ran again = run({"reference", "learn", after, "--id", "x1", "--add-to", first});
  EXPECT_EQ(again.exit, 2);
  EXPECT_THAT(again.err, HasSubstr("has a reference \"x1\" already"));
}

// A kernel's command line (PCR 8 of grub, 12 of systemd-boot) and a unified kernel image (11 of systemd-stub)
// are measured outside of the PCRs that machines quote by default.
TEST_F(Commands, DiffOfLogsLooksAtEveryPcrOfTheBoot) {
  BootLog before = BootLog::good(), after = BootLog::good();
  const auto section = [](BootLog& boot, std::string_view content) {  // by its content; the log has its name
    boot.add(11, kIpl, crypto::sha256(as_bytes(content)), to_bytes(as_bytes(".linux")));
  };
  before.grub("kernel_cmdline: ", "/vmlinuz ro lockdown=integrity").text(11, kIpl, ".linux");
  section(before, "linux 6.1");
  after.grub("kernel_cmdline: ", "/vmlinuz ro init=/bin/sh").text(11, kIpl, ".linux");
  section(after, "linux 6.6");
  const std::string old_log = log("before.log", before), new_log = log("after.log", after);
  const Ran all = run({"reference", "diff", old_log, new_log});
  EXPECT_EQ(all.exit, 0) << all.err;
  EXPECT_THAT(
      all.out,
      AllOf(
          HasSubstr("~ PCR 8: kernel_cmdline: /vmlinuz ro lockdown=integrity -> /vmlinuz ro init=/bin/sh\n"),
          HasSubstr("~ PCR 11: \".linux\": another content\n"),
          HasSubstr("compared: PCR 0, 2–4, 6–8, 11, 14; not what a log has of PCR 1, 5 "
                    "(settings, boot order, partitions)\n")));
  // Only some of them, and those that are left out otherwise.
  const Ran some = run({"reference", "diff", old_log, new_log, "--pcrs", "1,5,8-9"});
  EXPECT_THAT(some.out, AllOf(HasSubstr("~ PCR 8: "), Not(HasSubstr("PCR 11: ")),
                              HasSubstr("compared: PCR 1, 5, 8, 9; not what a log has of PCR 0, 2–4")));
  BootLog order = BootLog::good();
  order.text(5, kEfiGptEvent, "another disk");
  const std::string other_order = log("order.log", order), good = log("good.log", BootLog::good());
  EXPECT_THAT(run({"reference", "diff", good, other_order}).out, HasSubstr("no difference"));
  EXPECT_THAT(run({"reference", "diff", good, other_order, "--pcrs", "5"}).out, HasSubstr("PCR 5: new: "));
  const auto json =
      boost::json::parse(run({"reference", "diff", old_log, new_log, "--pcrs", "11", "-f", "json"}).out);
  EXPECT_EQ(json.at("compared"), (boost::json::array{11}));
  EXPECT_EQ(json.at("left_out").as_array().size(), 10u);
  EXPECT_EQ(json.at("diff").as_array().size(), 1u);
  for (const char* wrong : {"", "24", "8-7", "8-", "-8", "8,", "8--9", "10", "16", "7,23"})
    EXPECT_EQ(run({"reference", "diff", old_log, new_log, "--pcrs", wrong}).exit, 2) << wrong;
}

TEST_F(Commands, DiffOfARealLogTellsItsCommandLine) {
  const std::string real_log = path_of("event-sd-boot-fedora37.bin");
  BootLog changed = BootLog::of(real("event-sd-boot-fedora37.bin").log);
  for (BootLog::Event& event : changed.events)
    if (event.pcr == 12) {
      event.data[2] = 'C';
      event.digest = crypto::sha256(event.data);
    }
  const Ran ran = run({"reference", "diff", real_log, log("changed.log", changed)});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("PCR 12: gone: \" console=ttyS0"), HasSubstr("PCR 12: new: ")));
}

TEST_F(Commands, DiffOfALogWithItselfIsNone) {
  for (const std::string_view name : kGood) {
    const Ran ran = run({"reference", "diff", path_of(name), path_of(name)});
    EXPECT_EQ(ran.exit, 0) << name << ran.err;
    EXPECT_THAT(ran.out, HasSubstr("no difference in what is accepted\ncompared: PCR 0, 2")) << name;
  }
}

TEST_F(Commands, DiffOfADocumentTellsWhatItsReferencesAreOf) {
  BootLog before = BootLog::good();
  before.grub("kernel_cmdline: ", "/vmlinuz ro");
  const std::string log_path = log("before.log", before);
  const Ran learned = run({"reference", "learn", log_path, "--id", "good", "--pcrs", "0-4,6-8"});
  ASSERT_EQ(learned.exit, 0) << learned.err;
  const std::string document = file("good.toml", as_bytes(learned.out));
  EXPECT_THAT(run({"reference", "diff", document, document}).out, HasSubstr("compared: PCR 0, 2–4, 6–8\n"));
  EXPECT_THAT(run({"reference", "diff", document, log_path}).out,
              HasSubstr("compared: PCR 0, 2–4, 6–8; not what a log has of PCR 1, 5, 14\n"));
  BootLog after = BootLog::good("firmware 1.1");
  after.grub("kernel_cmdline: ", "/vmlinuz rw");
  const Ran some = run({"reference", "diff", document, log("after.log", after), "--pcrs", "8"});
  EXPECT_THAT(some.out,
              AllOf(HasSubstr("PCR 8: "), Not(HasSubstr("firmware 1.1")), HasSubstr("compared: PCR 8;")));
  const Ran none = run({"reference", "diff", document, document, "--pcrs", "14"});
  EXPECT_EQ(none.exit, 2);
  EXPECT_THAT(none.err, HasSubstr("PCR 14, of which the document says nothing"));
}

TEST_F(Commands, SayWhatAFileIsThatIsNoDocument) {
  const std::string binary = path_of("dell1.log");
  const Ran ran = run({"reference", "check", binary});
  EXPECT_EQ(ran.exit, 3);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("[reference/invalid]"), HasSubstr(binary + " is binary"),
                             HasSubstr("sallyport reference learn"), Not(HasSubstr("reference check"))));
  EXPECT_THAT(run({"reference", "check", "/dev/null"}).err, HasSubstr("/dev/null is empty"));
  EXPECT_THAT(run({"reference", "check", "tests/vectors/evidence_swtpm/root.pem"}).err,
              HasSubstr("it looks like a PEM file"));
  const Ran broken = run({"reference", "check", file("broken.toml", as_bytes("version = 1\nfoo\n"))});
  EXPECT_THAT(broken.err,
              AllOf(HasSubstr("line 2"), Not(HasSubstr("looks like")), Not(HasSubstr("reference check"))));
  const Ran absent = run({"reference", "check", "/nowhere"});
  EXPECT_EQ(absent.exit, 2);
  EXPECT_THAT(absent.err, AllOf(HasSubstr("[file]"), HasSubstr("/nowhere: No such file")));
}

TEST_F(Commands, SayTheSameInJson) {
  const auto json = [](const Ran& ran) { return boost::json::parse(ran.out).as_object(); };
  const std::string before = path_of("x1carbon-before.eventlog.bin"), after = path_of("x1-good.eventlog.bin");
  const auto learned = json(run({"reference", "learn", before, after, "--id", "x1", "-f", "json"}));
  const std::string document{learned.at("document").as_string()};
  EXPECT_EQ(learned.at("digest").as_string(), "sha256:" + to_hex(crypto::sha256(as_bytes(document))));
  EXPECT_EQ(learned.at("version").as_int64(), 1);
  const std::string path = file("x1.toml", as_bytes(document));
  const auto checked = json(run({"reference", "check", path, "-f", "json"}));
  EXPECT_EQ(checked.at("digest"), learned.at("digest"));
  const auto& one = checked.at("references").as_array().at(0).as_object();
  EXPECT_EQ(one.at("id").as_string(), "x1");
  EXPECT_TRUE(one.at("secure_boot").as_bool());
  EXPECT_EQ(one.at("unjudged").as_array().size(), 2u);
  std::int64_t events = 0;
  for (const auto& pcr : one.at("pcrs").as_array()) events += pcr.at("events").as_int64();
  EXPECT_EQ(events, learned.at("events").as_int64());
  for (const std::string& log : {before, after}) {
    const auto judged = json(run({"evidence", "appraise", log, "--references", path, "-f", "json"}));
    EXPECT_TRUE(judged.at("accepted").as_bool());
    EXPECT_EQ(judged.at("reference").as_string(), "x1");
  }
  const Ran refused = run({"evidence", "appraise", path_of("p511.log"), "--references", path, "-f", "json"});
  EXPECT_EQ(refused.exit, 5);
  const auto findings = json(refused).at("references").as_array().at(0).at("findings").as_array();
  EXPECT_FALSE(findings.empty());
  EXPECT_EQ(findings.at(0).at("kind").as_string(), "unexpected");
  const auto diff = json(run({"reference", "diff", before, after, "-f", "json"}));
  ASSERT_EQ(diff.at("diff").as_array().size(), 2u);
  EXPECT_EQ(diff.at("diff").as_array().at(1).at("pcr").as_int64(), 7);
  EXPECT_EQ(diff.at("from").as_string(), "sha256:" + to_hex(crypto::sha256(read_file(before))));
}

TEST_F(Commands, SayWhereAFileDoesNotLoad) {
  const std::string bad = file("bad.toml", as_bytes("version = 1\n[[reference]]\nid = 5\n"));
  const Ran checked = run({"reference", "check", bad});
  EXPECT_EQ(checked.exit, 3);
  EXPECT_THAT(checked.err, HasSubstr(bad + ": line 3"));
  EXPECT_EQ(run({"reference", "check", place_ / "none"}).exit, 2);
  EXPECT_EQ(run({"reference", "check", file("big", Bytes(evidence::kMaxReferenceBytes + 1, ' '))}).exit, 2);
  EXPECT_EQ(run({"reference", "diff", bad, bad}).exit, 3);
  const Ran log = run({"reference", "learn", bad, "--id", "x"});
  EXPECT_EQ(log.exit, 5);
  EXPECT_THAT(log.err, HasSubstr(bad));
  const std::string enrolled = file("enrolled.toml", as_bytes(BootLog::document({}, true)));
  EXPECT_EQ(run({"reference", "diff", enrolled, path_of("p511.log")}).exit, 2);
  const Ran by_enrolled = run({"evidence", "appraise", path_of("p511.log"), "--references", enrolled});
  EXPECT_EQ(by_enrolled.exit, 5);
  EXPECT_THAT(by_enrolled.out, HasSubstr("which no log can tell"));
}

TEST_F(Commands, TakePcrsAsTheyAreMeant) {
  const std::string good = log("good.log", BootLog::good());
  const auto learn = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"reference", "learn", good, "--id", "x"});
    return run(more);
  };
  EXPECT_THAT(learn({"--unjudged", "none"}).out, Not(HasSubstr("unjudged")));
  EXPECT_THAT(learn({"--unjudged", "1,3"}).out, HasSubstr("unjudged = [1, 3]"));
  EXPECT_THAT(learn({"--pcrs", "0,1,2,4,7"}).out,
              AllOf(HasSubstr("pcrs = [0, 1, 2, 4, 7]"), HasSubstr("unjudged = [1]")));
  for (const char* bad : {"1,", ",1", "24", "x", "1 5", "-1"})
    EXPECT_EQ(learn({"--unjudged", bad}).exit, 2) << bad;
  EXPECT_EQ(learn({"--unjudged", "9"}).exit, 2);
  EXPECT_EQ(learn({"--unjudged", "7"}).exit, 3);  // the document would not load
  EXPECT_EQ(learn({"--pcrs", "1,5"}).exit, 3);
  EXPECT_EQ(learn({"--not-after", "2027-02-30"}).exit, 2);
  EXPECT_EQ(learn({"--not-after", "2027-02-20T10:00:00Z"}).exit, 2);
  const std::string document = file("d.toml", as_bytes(learn({}).out));
  const std::string fewer = file("fewer.toml", as_bytes(learn({"--pcrs", "0,1,2,3,4,5,6,7"}).out));
  const Ran diff = run({"reference", "diff", document, fewer});
  EXPECT_THAT(diff.out, AllOf(HasSubstr("machines quote PCR 0–7, 14 -> 0–7"), HasSubstr("PCR 14: gone")));
  EXPECT_EQ(run({"reference", "learn", good, "--id", "y", "--add-to", document, "--pcrs", "0,2,4,7"}).exit,
            2);
}

TEST_F(Commands, ShowNothingThatIsNotPrintable) {
  BootLog odd = BootLog::good();
  odd.text(14, kIpl, "\x1b[2J").variable(7, kEfiVariableDriverConfig, "db\x1b\"\\", {1});
  const std::string path = log("odd.log", odd), good = log("good.log", BootLog::good());
  const Ran learned = run({"reference", "learn", path, "--id", "o\"d\\d"});
  ASSERT_EQ(learned.exit, 0) << learned.err;
  const std::string document = file("odd.toml", as_bytes(learned.out));
  for (const Ran& ran : {learned, run({"reference", "check", document}),
                         run({"reference", "diff", good, path}), run({"reference", "diff", good, document}),
                         run({"evidence", "appraise", good, "--references", document}),
                         run({"evidence", "appraise", path, "--references", document})})
    for (const char c : ran.out) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << ran.out;
}

TEST_F(Commands, TeachWithAnExample) {
  for (const Command& command : commands()) {
    std::vector<std::string> words;
    std::istringstream in{std::string{command.name}};
    for (std::string word; in >> word;) words.push_back(word);
    words.push_back("--help");
    const Ran help = run(words);
    EXPECT_EQ(help.exit, 0);
    EXPECT_THAT(help.out, HasSubstr("\n  sallyport " + std::string{command.name})) << command.name;
  }
}

}  // namespace
}  // namespace sallyport::client::evidence_tools

// Real logs against a TPM: what it quotes after it measured what a log says is what the log is replayed to,
// and is appraised as the log is.

#include "tests/support/fake_boot.h"

#include <gmock/gmock.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/appraisal.h"
#include "client/evidence/learn.h"
#include "tests/support/boot_log.h"
#include "tests/support/matchers.h"

namespace sallyport {
namespace {

using evidence::EventLog;
using evidence::LogAlgorithm;
using evidence::PcrSelection;
using test::BootLog;
using test::FailsWith;
using test::Succeeds;
using test::TemporarySwtpm;
using test::value_of;

EventLog log_of(const std::string& name) {
  return value_of(EventLog::parse(test::read_file("tests/vectors/event_logs/" + name)));
}

const Digest256 kBinding = crypto::sha256(as_bytes("a binding"));

evidence::VerifiedQuote quote_of(TemporarySwtpm& swtpm,
                                 const PcrSelection& selection = PcrSelection::standard()) {
  tpm::Tpm tpm = swtpm.open();
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm.attestation_key())));
  const auto quote = value_of(tpm.quote(selection, kBinding));
  return value_of(evidence::verify_quote(quote.evidence, ak, kBinding, selection, quote.pcrs));
}

const UnixMillis kNow{1'790'000'000'000};

// accepting gives reference values that accept the boot of this log alone, as a policy has them: written, and
// read.
evidence::ReferenceValues accepting(const EventLog& log, const std::string& id,
                                    const PcrSelection& selection = PcrSelection::standard()) {
  std::vector<client::evidence_tools::NamedLog> logs;
  logs.push_back({id, value_of(EventLog::parse(to_bytes(log.bytes())))});
  evidence::ReferenceValues values;
  values.version = 1;
  values.selection = selection;
  values.references = {
      value_of(client::evidence_tools::learn_reference(logs, selection, 1u << 1 | 1u << 5, id))};
  return value_of(evidence::parse_reference_values(evidence::write_reference_values(values)));
}

// appraise judges what the TPM quotes now by the log that its owner sends.
Result<evidence::AcceptedBoot> appraise(TemporarySwtpm& swtpm, const EventLog& sent,
                                        const evidence::ReferenceValues& values) {
  const evidence::JudgedLog judged = evidence::judge_log(sent, values);
  const evidence::BootBaseline none{values.selection, Digest256{}};
  return evidence::appraise_boot(quote_of(swtpm, values.selection), none, &judged, values, kNow);
}

struct Boot {
  const char* log;
  std::uint8_t locality;
};

class FakeBoot : public testing::TestWithParam<Boot> {};

TEST_P(FakeBoot, IsQuotedAsTheLogIsReplayed) {
  TemporarySwtpm swtpm;
  const EventLog log = log_of(GetParam().log);
  ASSERT_EQ(log.pcr0_start(), GetParam().locality);
  test::fake_boot(swtpm, log);
  EXPECT_THAT(evidence::verify_event_log(log, quote_of(swtpm)), Succeeds());

  const std::vector<LogAlgorithm> banks = test::pcr_banks(swtpm);
  EXPECT_THAT(banks, testing::Contains(LogAlgorithm::kSha256));
  std::size_t compared = 0;
  for (const LogAlgorithm bank : banks) {
    if (!log.has_bank(bank)) continue;
    const auto pcrs = value_of(evidence::replay(log, bank));
    for (unsigned pcr = 0; pcr < 24; ++pcr)
      if (const auto value = pcrs.find(pcr)) {
        EXPECT_EQ(to_hex(*value), to_hex(test::read_pcr(swtpm, bank, pcr)))
            << evidence::log_algorithm_name(bank) << " PCR " << pcr;
        ++compared;
      }
  }
  EXPECT_GE(compared, 9u);

  // The TPM's quote is accepted where this boot is, and refused where another one is.
  const evidence::ReferenceValues values = accepting(log, "this boot");
  EXPECT_EQ(value_of(appraise(swtpm, log, values)).reference, "this boot");
  EXPECT_THAT(appraise(swtpm, log, accepting(log_of("rhel8-uefi.bin"), "another")),
              FailsWith(Reason::kBootEvent));

  // One more measurement, and the log no longer tells the whole.
  swtpm.extend_pcr(7, kBinding);
  EXPECT_THAT(evidence::verify_event_log(log, quote_of(swtpm)), FailsWith(Reason::kEventLogReplay));
  EXPECT_THAT(appraise(swtpm, log, values), FailsWith(Reason::kEventLogReplay));
}

INSTANTIATE_TEST_SUITE_P(OfRealMachines, FakeBoot,
                         testing::Values(Boot{"ubuntu-2104-no-dbx.bin", 0},
                                         Boot{"elitebook830-baseline.eventlog.bin", 0},
                                         Boot{"keylime-binary_bios_measurements", 3}),
                         [](const auto& boot) { return "Log" + std::to_string(boot.index); });

TEST(FakeBootAtAnotherLocality, IsNotWhatTheLogSays) {
  TemporarySwtpm swtpm;
  const EventLog log = log_of("keylime-binary_bios_measurements");
  test::fake_boot(swtpm, log);
  ASSERT_THAT(evidence::verify_event_log(log, quote_of(swtpm)), Succeeds());
  // The same log without its StartupLocality event, which is not measured itself.
  Bytes without = to_bytes(log.bytes());
  const ByteView event = log.events()[1].data;
  without[static_cast<std::size_t>(event.data() - log.bytes().data())] = 'X';
  const auto verified = evidence::verify_event_log(value_of(EventLog::parse(without)), quote_of(swtpm));
  ASSERT_THAT(verified, FailsWith(Reason::kEventLogReplay));
  EXPECT_THAT(verified.error().what, testing::EndsWith(": PCR 0"));
}

// ---- unified kernel images

// A machine that starts one image of kernel, initrd and command line. No log of such a start is free to use,
// so the firmware's part is that of a real machine, and the stub's part is as systemd documents it.
class UkiBoot : public testing::Test {
 protected:
  struct Image {
    std::string kernel = "kernel 6.1", initrd = "initrd 6.1", command_line = "root=/dev/vda2 ro";
    std::string whole() const { return kernel + initrd + command_line; }
  };
  // In the order in which the stub measures them.
  static BootLog started(const Image& image) {
    BootLog log = BootLog::of(log_of("elitebook830-baseline.eventlog.bin"));
    std::erase_if(log.events, [](const BootLog::Event& event) { return event.pcr == 8 || event.pcr == 9; });
    return log.image(4, image.whole())
        .section(".linux", image.kernel)
        .section(".osrel", "ID=debian")
        .section(".cmdline", image.command_line)
        .section(".initrd", image.initrd)
        .section(".uname", "6.1.0-18-amd64");
  }
  static EventLog log_of_image(const Image& image) {
    return value_of(EventLog::parse(started(image).encode()));
  }
  // boot starts the machine with what a log says; the owner may send another one.
  Result<evidence::AcceptedBoot> boot(const BootLog& log) {
    const EventLog parsed = value_of(EventLog::parse(log.encode()));
    test::fake_boot(swtpm_, parsed);
    return appraise(swtpm_, parsed, values_);
  }

  const PcrSelection selection_ =
      value_of(PcrSelection::from_mask(PcrSelection::standard().mask() | 1u << 11));
  const evidence::ReferenceValues values_ = accepting(log_of_image({}), "uki-6.1", selection_);
  TemporarySwtpm swtpm_;
};

TEST_F(UkiBoot, IsAcceptedAsItsReferenceSays) {
  EXPECT_EQ(value_of(boot(started({}))).reference, "uki-6.1");
  // PCR 11 was quoted, and judged.
  EXPECT_TRUE(quote_of(swtpm_, selection_).selection().contains(11));
  const auto& events = values_.references.front().events;
  EXPECT_EQ(std::ranges::count(events, 11, &evidence::ExpectedEvent::pcr), 10);
}

TEST_F(UkiBoot, OfAnotherImageIsRefused) {
  const auto refused = boot(started({.kernel = "kernel 6.6"}));
  ASSERT_THAT(refused, FailsWith(Reason::kBootEvent));
  // The firmware measured the image, before the stub measured what is in it.
  EXPECT_THAT(refused.error().what, testing::HasSubstr("of PCR 4"));
  const auto findings =
      evidence::judge_boot(log_of_image({.kernel = "kernel 6.6"}), selection_, values_.references.front());
  EXPECT_THAT(findings, testing::Contains(testing::Field(&evidence::BootFinding::pcr, 11)));
}

TEST_F(UkiBoot, OfAnotherPartOfTheImageIsRefusedAndTheEventNamed) {
  // The firmware's measurement is as it should be; the parts tell.
  for (const Image& image : std::initializer_list<Image>{
           {.kernel = "kernel 6.6"}, {.initrd = "initrd with a shell"}, {.command_line = "init=/bin/sh"}}) {
    BootLog log = started(image);
    const Digest256 expected = crypto::sha256(as_bytes(Image{}.whole()));
    for (BootLog::Event& event : log.events)
      if (event.digest == crypto::sha256(as_bytes(image.whole()))) event.digest = expected;
    const auto refused = boot(log);
    ASSERT_THAT(refused, FailsWith(Reason::kBootEvent));
    const auto changed = std::ranges::find_if(log.events, [&](const BootLog::Event& event) {
      return event.pcr == 11 &&
             (event.digest == crypto::sha256(as_bytes(image.kernel)) ||
              event.digest == crypto::sha256(as_bytes(image.initrd)) ||
              event.digest == crypto::sha256(as_bytes(image.command_line))) &&
             !values_.references.front().find(11, false, event.digest);
    });
    ASSERT_NE(changed, log.events.end());
    const auto number = std::distance(log.events.begin(), changed) + 1;  // after the log's header
    EXPECT_THAT(refused.error().what, testing::StartsWith("event " + std::to_string(number) + " of PCR 11"));
    EXPECT_THAT(refused.error().what, testing::HasSubstr(to_hex(changed->digest)));
  }
}

TEST_F(UkiBoot, WithAPartMoreFewerOrTwiceIsRefused) {
  EXPECT_THAT(boot(started({}).section(".dtb", "another machine's")), FailsWith(Reason::kBootEvent));
  BootLog twice = started({});
  twice.section(".cmdline", "root=/dev/vda2 ro");
  const auto repeated = boot(twice);
  ASSERT_THAT(repeated, FailsWith(Reason::kBootEvent));
  EXPECT_THAT(repeated.error().what, testing::HasSubstr("of PCR 11"));
  BootLog fewer = started({});
  std::erase_if(fewer.events, [](const BootLog::Event& event) {
    return event.digest == crypto::sha256(as_bytes("initrd 6.1"));
  });
  const auto missing = boot(fewer);
  ASSERT_THAT(missing, FailsWith(Reason::kBootEvent));
  EXPECT_THAT(missing.error().what, testing::HasSubstr("PCR 11"));
}

TEST_F(UkiBoot, IsNotHiddenByTheLogOfTheGoodImageOrByNone) {
  const EventLog good = log_of_image({});
  test::fake_boot(swtpm_, log_of_image({.initrd = "initrd with a shell"}));
  const auto refused = appraise(swtpm_, good, values_);
  ASSERT_THAT(refused, FailsWith(Reason::kEventLogReplay));
  EXPECT_THAT(refused.error().what, testing::HasSubstr("PCR 4, 11"));
  // A start without the stub: PCR 11 is zeros, and the log has nothing of it.
  BootLog without = started({});
  std::erase_if(without.events, [](const BootLog::Event& event) { return event.pcr == 11; });
  const auto silent = boot(without);
  ASSERT_THAT(silent, FailsWith(Reason::kBootEvent));
  EXPECT_THAT(silent.error().what, testing::StartsWith("PCR 11 lacks what the reference requires"));
}

TEST_F(UkiBoot, IsNotThatOfALogOnceTheSystemExtendsPcr11) {
  // systemd-pcrphase does so at each phase of a start ("enter-initrd", …, "ready"), of which no event log
  // tells: a policy that quotes PCR 11 is for machines where it is masked.
  ASSERT_THAT(boot(started({})), Succeeds());
  swtpm_.extend_pcr(11, crypto::sha256(as_bytes("enter-initrd")));
  const auto refused = appraise(swtpm_, log_of_image({}), values_);
  ASSERT_THAT(refused, FailsWith(Reason::kEventLogReplay));
  EXPECT_THAT(refused.error().what, testing::EndsWith(": PCR 11"));
}

}  // namespace
}  // namespace sallyport

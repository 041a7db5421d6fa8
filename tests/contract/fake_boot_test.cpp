// Real logs against a TPM: what it quotes after it measured what a log says is what the log is replayed to.

#include "tests/support/fake_boot.h"

#include <gmock/gmock.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "tests/support/matchers.h"

namespace sallyport {
namespace {

using evidence::EventLog;
using evidence::LogAlgorithm;
using evidence::PcrSelection;
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

  // One more measurement, and the log no longer tells the whole.
  swtpm.extend_pcr(7, kBinding);
  EXPECT_THAT(evidence::verify_event_log(log, quote_of(swtpm)), FailsWith(Reason::kEventLogReplay));
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

}  // namespace
}  // namespace sallyport

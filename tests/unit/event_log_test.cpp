#include "attestation/evidence/event_log.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/evidence/efi.h"
#include "attestation/evidence/signature.h"
#include "attestation/evidence/templates.h"
#include "tests/support/files.h"
#include "tests/support/log_builder.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"
#include "tests/support/taken.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::LogBuilder;
using test::read_file;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;

constexpr std::string_view kLogs = "tests/vectors/event_logs/";

Bytes log_file(std::string_view name) {
  return read_file(std::string{kLogs} + std::string{name});
}
EventLog log_of(std::string_view name) {
  return value_of(EventLog::parse(log_file(name)));
}

boost::json::object known_pcrs() {
  return boost::json::parse(as_text(log_file("pcrs.json"))).as_object();
}

constexpr std::uint32_t number_of(EventType type) {
  return static_cast<std::uint32_t>(type);
}

// ---- real logs

TEST(EventLog, OfRealMachinesComesToTheirPcrs) {
  std::size_t values = 0;
  for (const auto& [name, known] : known_pcrs()) {
    SCOPED_TRACE(std::string{name});
    const EventLog log = log_of(name);
    for (const auto& [bank_name, pcrs] : known.at("pcrs").as_object()) {
      SCOPED_TRACE(std::string{bank_name});
      std::optional<LogAlgorithm> bank;
      for (const LogAlgorithm one : kLogAlgorithms)
        if (log_algorithm_name(one) == std::string_view{bank_name}) bank = one;
      ASSERT_TRUE(bank);
      const ReplayedPcrs replayed = value_of(replay(log, *bank));
      for (const auto& [index, value] : pcrs.as_object()) {
        const auto got = replayed.find(static_cast<std::uint32_t>(std::stoul(std::string{index})));
        ASSERT_TRUE(got) << index;
        EXPECT_EQ(to_hex(*got), std::string_view{value.as_string()}) << "PCR " << index;
        ++values;
      }
    }
  }
  EXPECT_EQ(values, 558u);  // none was left out
}

TEST(EventLog, OfOtherReadersHasTheEventsThatTheyFind) {
  for (const auto& [name, events] :
       std::initializer_list<std::pair<const char*, std::size_t>>{{"binary_bios_measurements_27", 178},
                                                                  {"tpm2_windows_lenovo_yogax1v2", 54},
                                                                  {"windows_event_log", 35},
                                                                  {"gce-cos-85.bin", 45},
                                                                  {"gdc-host.bin", 159},
                                                                  {"event.bin", 2},
                                                                  {"event-uefiaction.bin", 2},
                                                                  {"event-uefiservices.bin", 2},
                                                                  {"event-uefivar.bin", 2}}) {
    EXPECT_EQ(log_of(name).events().size(), events) << name;
    EXPECT_EQ(log_of(name).padding_bytes(), 0u) << name;
  }
}

// A machine's log beside its TPM's quotes in three banks, with another project's attestation key. Its kernel
// extended PCR 10, of which no event log tells.
TEST(EventLog, OfAQuotedMachineComesToTheQuotesDigest) {
  const auto evidence =
      boost::json::parse(as_text(read_file("tests/vectors/evidence_public/gce-cos-85.json"))).as_object();
  const auto bytes_of = [](const boost::json::value& text) {
    return value_of(parse_base64(std::string_view{text.as_string()}, 4096));
  };
  const auto& quoted = evidence.at("quotes").at("sha256");
  const Bytes message = bytes_of(quoted.at("quote")), ak = bytes_of(evidence.at("ak_public"));
  const TpmSignature signature = value_of(parse_signature(bytes_of(quoted.at("signature"))));
  EXPECT_THAT(verify_tpm_signature(value_of(parse_public_area(ak)).key, message, signature), Succeeds());
  const ClaimedAttest attest = value_of(parse_attest(message));
  EXPECT_EQ(to_hex(attest.extra_data), "9009");
  const auto& claimed = std::get<ClaimedQuote>(attest.attested);

  const EventLog log = log_of("gce-cos-85.bin");
  const ReplayedPcrs replayed = value_of(replay(log, LogAlgorithm::kSha256));
  std::vector<Digest256> values;
  for (std::uint32_t pcr = 0; pcr < 24; ++pcr) {
    const Digest256 stated =
        value_of(parse_digest(std::string_view{quoted.at("pcrs").as_array().at(pcr).as_string()}));
    const auto ours = replayed.find(pcr);
    EXPECT_EQ(ours.has_value(), pcr < 10) << pcr;
    values.push_back(ours ? Digest256{value_of(Reader{*ours}.array<32>())} : stated);
  }
  EXPECT_EQ(claimed.selection.count(), 24u);
  EXPECT_EQ(pcr_digest(values), claimed.pcr_digest);
  // Of all 24 the log does not tell, and so it is not taken for all 24.
  const auto all = verify_event_log(log, claimed.selection, claimed.pcr_digest, values);
  ASSERT_THAT(all, FailsWith(Reason::kEventLogReplay));
  const PcrSelection of_log = value_of(PcrSelection::from_mask(0x3FF));
  const std::span<const Digest256> first{values.data(), 10};
  EXPECT_THAT(verify_event_log(log, of_log, pcr_digest(first), first), Succeeds());
  // Quotes of other banks, and this key, are not what an enrolled machine may send.
  for (const char* bank : {"sha1", "sha384"})
    EXPECT_THAT(parse_attest(bytes_of(evidence.at("quotes").at(bank).at("quote"))),
                FailsWith(Reason::kQuotePcrs));
  EXPECT_THAT(parse_attestation_key(ak), FailsWith(Reason::kKeyTemplate));
}

TEST(EventLog, OfAnotherStartDoesNotComeToThePcrsOfThisOne) {
  const auto other = known_pcrs().at("x1-good.eventlog.bin").at("other_boot").as_object();
  const ReplayedPcrs replayed = value_of(replay(log_of("x1-good.eventlog.bin"), LogAlgorithm::kSha256));
  EXPECT_NE(to_hex(*replayed.find(0)), std::string_view{other.at("0").as_string()});
  for (std::uint32_t pcr = 1; pcr < 8; ++pcr)
    EXPECT_EQ(to_hex(*replayed.find(pcr)), std::string_view{other.at(std::to_string(pcr)).as_string()});
}

TEST(EventLog, WithoutWhatFirmwareExtendedDoesNotComeToIt) {
  const EventLog log = log_of("ebs_event_missing_eventlog");
  EXPECT_FALSE(log.crypto_agile());
  EXPECT_NE(to_hex(*value_of(replay(log, LogAlgorithm::kSha1)).find(5)),
            "31245808d6d35849bc394f6343f2b3ff908ed5e3");
}

TEST(EventLog, TellsWhatItSaysOfItself) {
  const EventLog dell = log_of("dell1.log");
  EXPECT_TRUE(dell.crypto_agile());
  EXPECT_EQ(dell.startup_locality(), 3);
  EXPECT_EQ(dell.pcr0_start(), 3);
  EXPECT_EQ(dell.events().size(), 51u);
  EXPECT_EQ(dell.padding_bytes(), 0u);
  EXPECT_EQ(to_bytes(dell.bytes()), log_file("dell1.log"));
  const std::vector<LogBank> both{{0x0004, 20}, {0x000B, 32}};
  EXPECT_EQ(std::vector(dell.banks().begin(), dell.banks().end()), both);
  const EventLog tiny = log_of("short_no_action_eventlog");
  EXPECT_FALSE(tiny.crypto_agile());
  EXPECT_EQ(tiny.startup_locality(), 3);
  EXPECT_FALSE(value_of(replay(tiny, LogAlgorithm::kSha1)).find(0));
  EXPECT_EQ(log_of("go-attestation-event-size-0.bin").events()[0].data.size(), 0u);
}

TEST(EventLog, MovedStillShowsItsEvents) {
  EventLog log = log_of("sm3.log");
  const Bytes data = to_bytes(log.events()[3].data);
  const EventLog moved = std::move(log);
  EXPECT_EQ(to_bytes(moved.events()[3].data), data);
}

TEST(EventLog, OfABankThatIsNotCoveredIsNotReplayed) {
  // Lenovo's and Dell's firmware leaves SHA-1 out of what Windows measures.
  EXPECT_THAT(replay(log_of("p511.log"), LogAlgorithm::kSha1), FailsWith(Reason::kEventLogBank));
  EXPECT_THAT(replay(log_of("dell1.log"), LogAlgorithm::kSha1), FailsWith(Reason::kEventLogBank));
  EXPECT_THAT(replay(log_of("dell1.log"), LogAlgorithm::kSha512), FailsWith(Reason::kEventLogBank));
  EXPECT_THAT(replay(log_of("debian-10.bin"), LogAlgorithm::kSha256), FailsWith(Reason::kEventLogBank));
}

// ends_of gives where each event of a log ends.
std::vector<std::size_t> ends_of(const EventLog& log) {
  std::vector<std::size_t> ends;
  for (const LogEvent& event : log.events())
    ends.push_back(static_cast<std::size_t>(event.data.data() + event.data.size() - log.bytes().data()));
  return ends;
}

// ---- what a quote says

class QuotedLog : public testing::Test {
 protected:
  // boot has the TPM go through what a log says.
  void boot(const EventLog& log) {
    tpm_.pcrs = {};
    ByteArray<32> start{};
    start[31] = log.pcr0_start();
    tpm_.pcrs[0] = Digest256{start};
    for (const LogEvent& event : log.events()) {
      if (!event.extends()) continue;
      ByteArray<32> digest;
      std::memcpy(digest.data(), event.digest(LogAlgorithm::kSha256)->data(), 32);
      tpm_.extend(event.pcr, Digest256{digest});
    }
  }
  VerifiedQuote quoted(const PcrSelection& selection, bool with_values = true) {
    const SignedAttest evidence = tpm_.quote(binding_, selection);
    return value_of(with_values
                        ? verify_quote(evidence, tpm_.ak(), binding_, selection, tpm_.pcr_values(selection))
                        : verify_quote(evidence, tpm_.ak(), binding_, selection));
  }
  SoftTpm tpm_;
  Digest256 binding_ = crypto::sha256(as_bytes("binding"));
};

TEST_F(QuotedLog, OfTheSameBootVerifies) {
  const EventLog log = log_of("elitebook830-baseline.eventlog.bin");
  boot(log);
  const auto verified = verify_event_log(log, quoted(PcrSelection::standard()));
  ASSERT_THAT(verified, Succeeds());
  EXPECT_EQ(value_of(replayed_values(*verified, PcrSelection::standard())),
            tpm_.pcr_values(PcrSelection::standard()));
}

TEST_F(QuotedLog, OfAnotherBootIsRefusedAndThePcrNamed) {
  boot(log_of("elitebook830-baseline.eventlog.bin"));
  const EventLog other = log_of("elitebook830-add-mokx.eventlog.bin");
  const auto with_values = verify_event_log(other, quoted(PcrSelection::standard()));
  ASSERT_THAT(with_values, FailsWith(Reason::kEventLogReplay));
  EXPECT_NE(with_values.error().what.find(": PCR 1, 14"), std::string::npos) << with_values.error().what;
  EXPECT_THAT(verify_event_log(other, quoted(PcrSelection::standard(), false)),
              FailsWith(Reason::kEventLogReplay));
}

TEST_F(QuotedLog, WithoutEventsOfAQuotedPcrIsRefused) {
  // Not even when the quoted PCR is what it was at the start.
  const EventLog log = log_of("sb_cert_eventlog");  // nothing of PCR 1, 2, 3, 6
  boot(log);
  EXPECT_THAT(verify_event_log(log, quoted(PcrSelection::standard())), FailsWith(Reason::kEventLogReplay));
  const std::uint8_t measured[] = {0, 4, 5, 7};
  EXPECT_THAT(verify_event_log(log, quoted(value_of(PcrSelection::of(measured)))), Succeeds());
}

TEST_F(QuotedLog, OfAnotherBankThanSha256IsRefused) {
  EXPECT_THAT(verify_event_log(log_of("debian-10.bin"), quoted(PcrSelection::standard())),
              FailsWith(Reason::kEventLogBank));
  EXPECT_THAT(replayed_values(value_of(replay(log_of("debian-10.bin"), LogAlgorithm::kSha1)),
                              PcrSelection::standard()),
              FailsWith(Reason::kEventLogBank));
}

TEST_F(QuotedLog, WithAnyDigestAlteredOrAnyTwoEventsExchangedIsRefused) {
  const Bytes good = log_file("event-sd-boot-fedora37.bin");
  const EventLog log = value_of(EventLog::parse(good));
  boot(log);
  const std::uint8_t measured[] = {0, 1, 4, 5, 7, 9, 12};
  const VerifiedQuote quote = quoted(value_of(PcrSelection::of(measured)));
  ASSERT_THAT(verify_event_log(log, quote), Succeeds());
  const ByteView bytes = log.bytes();
  for (const LogEvent& event : log.events().subspan(1)) {
    if (!event.extends() || !quote.selection().contains(event.pcr)) continue;
    Bytes bad = good;
    bad[static_cast<std::size_t>(event.digest(LogAlgorithm::kSha256)->data() - bytes.data())] ^= 1;
    EXPECT_THAT(verify_event_log(value_of(EventLog::parse(bad)), quote), FailsWith(Reason::kEventLogReplay))
        << event.number;
  }
  // Exchanging two events of different digests in one PCR, next to each other.
  const std::vector<std::size_t> ends = ends_of(log);
  std::size_t exchanged = 0;
  for (std::size_t i = 1; i + 1 < ends.size(); ++i) {
    const LogEvent &one = log.events()[i], &next = log.events()[i + 1];
    if (one.pcr != next.pcr || !quote.selection().contains(one.pcr) || !one.extends() || !next.extends() ||
        equal(*one.digest(LogAlgorithm::kSha256), *next.digest(LogAlgorithm::kSha256)))
      continue;
    const auto at = [&](std::size_t offset) { return good.begin() + static_cast<std::ptrdiff_t>(offset); };
    Bytes bad{good.begin(), at(ends[i - 1])};
    bad.insert(bad.end(), at(ends[i]), at(ends[i + 1]));
    bad.insert(bad.end(), at(ends[i - 1]), at(ends[i]));
    bad.insert(bad.end(), at(ends[i + 1]), good.end());
    EXPECT_THAT(verify_event_log(value_of(EventLog::parse(bad)), quote), FailsWith(Reason::kEventLogReplay))
        << i;
    ++exchanged;
  }
  EXPECT_GE(exchanged, 10u);
}

TEST_F(QuotedLog, WithAnyCountOrSizeAlteredIsRefused) {
  const Bytes good = log_file("event-sd-boot-fedora37.bin");
  const EventLog log = value_of(EventLog::parse(good));
  boot(log);
  const std::uint8_t measured[] = {0, 1, 2, 3, 4, 5, 6, 7, 9, 12};  // all that the log extends
  const VerifiedQuote quote = quoted(value_of(PcrSelection::of(measured)));
  const std::vector<std::size_t> ends = ends_of(log);
  std::size_t refused = 0;
  const auto expect_refused = [&](std::size_t at, std::uint32_t value) {
    Bytes bad = good;
    bool same = true;
    for (std::size_t i = 0; i < 4; ++i) {
      same = same && bad[at + i] == static_cast<std::uint8_t>(value >> 8 * i);
      bad[at + i] = static_cast<std::uint8_t>(value >> 8 * i);
    }
    if (same) return;
    const auto parsed = EventLog::parse(bad);
    if (parsed.has_value())
      EXPECT_FALSE(verify_event_log(*parsed, quote).has_value()) << value << " at " << at;
    else
      EXPECT_THAT(parsed, FailsWith(Reason::kEventLogForm));
    ++refused;
  };
  for (std::size_t i = 1; i < ends.size(); ++i) {
    const std::size_t count = ends[i - 1] + 8, size = ends[i] - log.events()[i].data.size() - 4;
    const auto stated = static_cast<std::uint32_t>(log.events()[i].data.size());
    for (const std::uint32_t value : {0u, 2u, 3u, 16u, 0x7FFFFFFFu, 0xFFFFFFFFu})
      expect_refused(count, value);
    for (const std::uint32_t value :
         {0u, stated - 1, stated + 1, stated + 16, 0x7FFFFFFFu, 0xFFFFFFF0u, 0xFFFFFFFFu, 0x100000u})
      expect_refused(size, value);
  }
  EXPECT_GE(refused, 27u * 12);
}

// ---- facts

TEST(EventData, IsAFactOnlyWhereItHashesToTheDigest) {
  const EventLog log = log_of("rhel8-uefi.bin");
  const auto at = [&](std::size_t number) -> const LogEvent& { return log.events()[number]; };
  EXPECT_TRUE(data_hashes_to_digest(at(3))) << describe(at(3));  // SecureBoot
  EXPECT_TRUE(data_hashes_to_digest(at(13)));                    // an action
  EXPECT_FALSE(data_hashes_to_digest(at(23)));                   // an image
  EXPECT_FALSE(data_hashes_to_digest(at(9)));                    // BootOrder: the digest is of its content
  EXPECT_EQ(to_hex(*measured_part(at(9))), "020000000100");
  EXPECT_FALSE(measured_part(at(23)));
  EXPECT_EQ(as_text(*measured_part(at(28))),
            std::string_view("set pager=1\0", 12));  // grub's prefix is no part
  EXPECT_EQ(as_text(*measured_part(log_of("ubuntu1.log").events()[40])), "load_env");
  const EventLog sb = log_of("sb_cert_eventlog");  // shim wrote one byte too many
  EXPECT_FALSE(data_hashes_to_digest(sb.events()[12]));
  EXPECT_EQ(measured_part(sb.events()[12])->size(), sb.events()[12].data.size() - 1);
  EXPECT_EQ(value_of(parse_efi_authority(*measured_part(sb.events()[12]))).name, "Shim");
  EXPECT_FALSE(data_hashes_to_digest(log_of("debian-10.bin").events()[0]));  // SHA-1 only
}

// ---- what is refused

struct Refused {
  const char* file;
  const char* because;
};

TEST(EventLog, OfOthersThatIsMalformedIsRefused) {
  for (const Refused& one :
       std::initializer_list<Refused>{{"go-attestation-event-size-3GB.bin", "event 0: PCR"},
                                      {"keylime-binary_bios_measurements-bogus", "event 0: PCR"},
                                      {"keylime-binary_bios_measurements-empty", "without an event"},
                                      {"specid-numalgs-ffffffff.bin", "event 0: a Spec ID event"},
                                      {"specid-vendordata.bin", "vendor information"},
                                      {"cos-113-intel-tdx.bin", "another PCR than 0"}}) {
    const auto parsed = EventLog::parse(log_file(one.file));
    ASSERT_THAT(parsed, FailsWith(Reason::kEventLogForm)) << one.file;
    EXPECT_NE(parsed.error().what.find(one.because), std::string::npos) << parsed.error().what;
  }
}

TEST(EventLog, CutAnywhereButAtTheEndOfAnEventIsRefused) {
  for (const char* name : {"event-sd-boot-fedora37.bin", "event-uefi-sha1-log.bin", "tpm2bios.log"}) {
    const Bytes good = log_file(name);
    const std::vector<std::size_t> ends = ends_of(value_of(EventLog::parse(good)));
    ASSERT_EQ(ends.back(), good.size());
    for (std::size_t size = 0; size < good.size(); ++size) {
      const auto parsed =
          EventLog::parse(Bytes{good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)});
      const auto at = std::find(ends.begin(), ends.end(), size);
      if (at != ends.end()) {
        ASSERT_THAT(parsed, Succeeds()) << name << " cut at " << size;
        EXPECT_EQ(parsed->events().size(), static_cast<std::size_t>(at - ends.begin()) + 1);
      } else if (parsed.has_value()) {
        // What is left of an event is all zeros, so it looks like padding: the event is not in the log then.
        EXPECT_NE(parsed->padding_bytes(), 0u) << name << " cut at " << size;
      } else {
        ASSERT_THAT(parsed, FailsWith(Reason::kEventLogForm)) << name << " cut at " << size;
      }
    }
  }
}

TEST(EventLog, WithPaddingTellsHowMuch) {
  const Bytes good = log_file("event-sd-boot-fedora37.bin");
  const EventLog whole = value_of(EventLog::parse(good));
  for (const std::uint8_t octet : ByteArray<2>{0x00, 0xFF})
    for (const std::size_t more : {1u, 31u, 4096u}) {
      Bytes padded = good;
      padded.insert(padded.end(), more, octet);
      const EventLog log = value_of(EventLog::parse(padded));
      EXPECT_EQ(log.events().size(), whole.events().size());
      EXPECT_EQ(log.padding_bytes(), more);
    }
  Bytes other = good;
  other.insert(other.end(), 64, 0xAA);
  EXPECT_THAT(EventLog::parse(other), FailsWith(Reason::kEventLogForm));
  Bytes mixed = good;
  mixed.insert(mixed.end(), 8, 0x00);
  mixed.insert(mixed.end(), 64, 0xFF);
  EXPECT_THAT(EventLog::parse(mixed), FailsWith(Reason::kEventLogForm));
  // An event of zeros alone, which would be padding at the end.
  for (const std::uint8_t octet : ByteArray<2>{0x00, 0xFF}) {
    LogBuilder zeros;
    zeros.spec_id({})
        .u32(0)
        .u32(0)
        .u32(0)
        .u32(0)
        .event(7, EventType::kSeparator, Bytes(4, 0))
        .raw(Bytes(64, octet));
    EXPECT_THAT(EventLog::parse(zeros.bytes), FailsWith(Reason::kEventLogForm));
  }
  EXPECT_THAT(EventLog::parse(Bytes(512, 0x00)), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(EventLog::parse(Bytes(512, 0xFF)), FailsWith(Reason::kEventLogForm));
}

TEST(SpecIdEvent, IsTakenExactly) {
  const auto parsed = [](const LogBuilder::SpecId& form) {
    return EventLog::parse(LogBuilder{}.spec_id(form).event(0, EventType::kSeparator, Bytes(4, 0)).bytes);
  };
  EXPECT_THAT(parsed({}), Succeeds());
  EXPECT_THAT(parsed({.platform_class = 1}), Succeeds());
  EXPECT_THAT(parsed({.uintn = 1}), Succeeds());
  EXPECT_THAT(parsed({.vendor_size = 3, .vendor = {'I', 'B', 'M'}}), Succeeds());
  EXPECT_THAT(parsed({.algorithms = {{0x000B, 32}, {0x0012, 32}, {0x7777, 20}}}), Succeeds());
  for (const LogBuilder::SpecId& bad :
       std::initializer_list<LogBuilder::SpecId>{{.pcr = 1},
                                                 {.type = 8},
                                                 {.platform_class = 2},
                                                 {.minor = 1},
                                                 {.major = 1},
                                                 {.major = 3},
                                                 {.uintn = 0},
                                                 {.uintn = 3},
                                                 {.signature = {"Spec ID Event04\0", 16}},
                                                 {.count = 0},
                                                 {.count = 2},
                                                 {.count = 17},
                                                 {.count = 0xFFFFFFFF},
                                                 {.algorithms = {}},
                                                 {.algorithms = {{0x000B, 20}}},
                                                 {.algorithms = {{0x0004, 32}, {0x000B, 32}}},
                                                 {.algorithms = {{0x000B, 32}, {0x000B, 32}}},
                                                 {.algorithms = {{0x7777, 0}, {0x000B, 32}}},
                                                 {.algorithms = {{0x7777, 65}, {0x000B, 32}}},
                                                 {.vendor_size = 1},
                                                 {.vendor_size = 2, .vendor = {'I', 'B', 'M'}},
                                                 {.vendor_size = 4, .vendor = {'I', 'B', 'M'}}})
    EXPECT_THAT(parsed(bad), FailsWith(Reason::kEventLogForm));
  LogBuilder::SpecId many;
  many.algorithms.clear();
  for (std::uint16_t i = 0; i < 17; ++i)
    many.algorithms.emplace_back(static_cast<std::uint16_t>(0x7000 + i), 1);
  EXPECT_THAT(parsed(many), FailsWith(Reason::kEventLogForm));
  // A second one, in either kind of log.
  LogBuilder twice;
  twice.spec_id({});
  const Bytes data = to_bytes(value_of(EventLog::parse(twice.bytes)).events()[0].data);
  EXPECT_THAT(EventLog::parse(twice.event(0, 3, data, {}).bytes), FailsWith(Reason::kEventLogForm));
  LogBuilder sha1;
  sha1.sha1_event(4, 4, Bytes(4, 0), Bytes(20, 1)).sha1_event(0, 3, data, Bytes(20, 0));
  EXPECT_THAT(EventLog::parse(sha1.bytes), FailsWith(Reason::kEventLogForm));
}

TEST(EventDigests, AreOfTheLogsAlgorithmsEachOnce) {
  const LogBuilder::SpecId two{.algorithms = {{0x0004, 20}, {0x000B, 32}}};
  const auto parsed = [&](const LogBuilder::Digests& digests) {
    return EventLog::parse(LogBuilder{}.spec_id(two).event(7, 4, Bytes(4, 0), digests).bytes);
  };
  const Bytes sha1(20, 1), sha256(32, 2);
  EXPECT_THAT(parsed({{0x0004, sha1}, {0x000B, sha256}}), Succeeds());
  EXPECT_THAT(parsed({{0x000B, sha256}, {0x0004, sha1}}), Succeeds());
  EXPECT_THAT(parsed({{0x000B, sha256}, {0x000B, sha256}}), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(parsed({{0x000C, Bytes(48, 3)}}), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(parsed({{0x0004, sha1}, {0x000B, sha256}, {0x0004, sha1}}), FailsWith(Reason::kEventLogForm));
  const EventLog only_sha256 = value_of(parsed({{0x000B, sha256}}));
  EXPECT_FALSE(only_sha256.events()[1].digest(LogAlgorithm::kSha1));
  EXPECT_THAT(replay(only_sha256, LogAlgorithm::kSha256), Succeeds());
  EXPECT_THAT(replay(only_sha256, LogAlgorithm::kSha1), FailsWith(Reason::kEventLogBank));
  EXPECT_THAT(replay(value_of(parsed({})), LogAlgorithm::kSha256), FailsWith(Reason::kEventLogBank));
}

TEST(EventPcr, IsWithinTheTpms) {
  const auto parsed = [](std::uint32_t pcr, EventType type) {
    return EventLog::parse(LogBuilder{}.spec_id({}).event(pcr, type, Bytes(4, 0)).bytes);
  };
  EXPECT_THAT(parsed(23, EventType::kSeparator), Succeeds());
  EXPECT_THAT(parsed(24, EventType::kSeparator), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(parsed(kNoPcr, EventType::kSeparator), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(parsed(kNoPcr, EventType::kNoAction), Succeeds());
  EXPECT_THAT(parsed(24, EventType::kNoAction), FailsWith(Reason::kEventLogForm));
}

// ---- how PCRs start

Bytes startup(std::uint8_t locality, std::size_t padding = 0) {
  LogBuilder data;
  data.raw(as_bytes(std::string_view{"StartupLocality\0", 16})).u8(locality).raw(Bytes(padding, 0));
  return data.bytes;
}
std::string sha256_of_start(std::uint8_t last_octet, ByteView event_data) {
  ByteArray<32> start{};
  start[31] = last_octet;
  return to_hex(crypto::sha256({start, view(crypto::sha256(event_data))}));
}
std::string replayed(const LogBuilder& log, std::uint32_t pcr) {
  return to_hex(*value_of(replay(value_of(EventLog::parse(log.bytes)), LogAlgorithm::kSha256)).find(pcr));
}

TEST(StartupLocality, SetsPcr0sStart) {
  const Bytes data = to_bytes(as_bytes("CRTM"));
  for (const std::uint8_t locality : ByteArray<3>{0, 3, 4})
    for (const std::size_t padding : {0u, 3u}) {  // coreboot pads the structure
      LogBuilder log;
      log.spec_id({})
          .event(0, EventType::kNoAction, startup(locality, padding))
          .event(0, EventType::kSCrtmVersion, data);
      EXPECT_EQ(replayed(log, 0), sha256_of_start(locality, data));
    }
  LogBuilder none;
  none.spec_id({}).event(0, EventType::kSCrtmVersion, data);
  EXPECT_EQ(replayed(none, 0), sha256_of_start(0, data));
}

TEST(StartupLocality, IsThereOnceAndBeforeAnythingExtendsPcr0) {
  const auto with = [](std::initializer_list<std::pair<std::uint32_t, Bytes>> localities,
                       bool after = false) {
    LogBuilder log;
    log.spec_id({}).event(7, EventType::kSeparator, Bytes(4, 0));
    if (after) log.event(0, EventType::kSeparator, Bytes(4, 0));
    for (const auto& [pcr, data] : localities) log.event(pcr, EventType::kNoAction, data);
    return EventLog::parse(log.bytes);
  };
  EXPECT_THAT(with({{0, startup(3)}}), Succeeds());
  EXPECT_THAT(with({{0, startup(3)}}, true), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(with({{0, startup(3)}, {0, startup(3)}}), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(with({{1, startup(3)}}), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(with({{kNoPcr, startup(3)}}), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(with({{0, startup(1)}}), FailsWith(Reason::kEventLogForm));
  Bytes without = startup(3), odd = startup(3, 2);
  without.pop_back();
  odd.back() = 7;
  EXPECT_THAT(with({{0, without}}), FailsWith(Reason::kEventLogForm));
  EXPECT_THAT(with({{0, odd}}), FailsWith(Reason::kEventLogForm));
}

TEST(HcrtmEvent, SetsPcr0sStartAndIsItsFirst) {
  const Bytes data = to_bytes(as_bytes("HCRTM"));
  LogBuilder log;
  log.spec_id({}).event(0, EventType::kEfiHcrtmEvent, data);
  EXPECT_EQ(replayed(log, 0), sha256_of_start(4, data));
  LogBuilder stated;
  stated.spec_id({}).event(0, EventType::kNoAction, startup(4)).event(0, EventType::kEfiHcrtmEvent, data);
  EXPECT_EQ(replayed(stated, 0), sha256_of_start(4, data));
  LogBuilder other, late, elsewhere, twice;
  other.spec_id({}).event(0, EventType::kNoAction, startup(3)).event(0, EventType::kEfiHcrtmEvent, data);
  late.spec_id({}).event(0, EventType::kSeparator, data).event(0, EventType::kEfiHcrtmEvent, data);
  elsewhere.spec_id({}).event(2, EventType::kEfiHcrtmEvent, data);
  twice.spec_id({}).event(0, EventType::kEfiHcrtmEvent, data).event(0, EventType::kEfiHcrtmEvent, data);
  for (const LogBuilder* bad : {&other, &late, &elsewhere, &twice})
    EXPECT_THAT(EventLog::parse(bad->bytes), FailsWith(Reason::kEventLogForm));
}

TEST(Replay, StartsDynamicPcrsAtAllOnes) {
  const Bytes data(4, 0);
  for (std::uint32_t pcr = 0; pcr < 24; ++pcr) {
    LogBuilder log;
    log.spec_id({}).event(pcr, EventType::kSeparator, data);
    ByteArray<32> start;
    start.fill(pcr >= 17 && pcr <= 22 ? 0xFF : 0x00);
    EXPECT_EQ(replayed(log, pcr), to_hex(crypto::sha256({start, view(crypto::sha256(data))}))) << pcr;
    const ReplayedPcrs pcrs = value_of(replay(value_of(EventLog::parse(log.bytes)), LogAlgorithm::kSha256));
    for (std::uint32_t other = 0; other < 30; ++other)
      EXPECT_EQ(pcrs.find(other).has_value(), other == pcr) << "nothing is known of a PCR without events";
  }
}

TEST(Replay, OfEventsThatTakeNoActionExtendsNothing) {
  LogBuilder log;
  log.spec_id({}).event(0, EventType::kNoAction, Bytes{1, 2, 3}).event(2, EventType::kNoAction, Bytes{});
  const ReplayedPcrs pcrs = value_of(replay(value_of(EventLog::parse(log.bytes)), LogAlgorithm::kSha256));
  for (std::uint32_t pcr = 0; pcr < 24; ++pcr) EXPECT_FALSE(pcrs.find(pcr));
}

// An event that is retyped stays in the replay, unless its new type is EV_NO_ACTION: types are not measured,
// and whoever appraises a log must refuse what it does not expect.
TEST(Replay, DoesNotSeeTheTypeOfAnEvent) {
  const Bytes good = log_file("event-sd-boot-fedora37.bin");
  const EventLog log = value_of(EventLog::parse(good));
  const ReplayedPcrs before = value_of(replay(log, LogAlgorithm::kSha256));
  std::size_t end = ends_of(log)[0];
  for (const LogEvent& event : log.events().subspan(1)) {
    Bytes retyped = good;
    retyped[end + 4] = 2;  // EV_UNUSED
    retyped[end + 7] = 0;
    const ReplayedPcrs after = value_of(replay(value_of(EventLog::parse(retyped)), LogAlgorithm::kSha256));
    EXPECT_EQ(to_hex(*after.find(event.pcr)), to_hex(*before.find(event.pcr)));
    retyped[end + 4] = 3;  // EV_NO_ACTION
    const ReplayedPcrs without = value_of(replay(value_of(EventLog::parse(retyped)), LogAlgorithm::kSha256));
    const auto value = without.find(event.pcr);
    EXPECT_TRUE(!value || to_hex(*value) != to_hex(*before.find(event.pcr))) << event.number;
    end = ends_of(log)[event.number];
  }
}

// ---- bounds

TEST(EventLog, AtItsBoundsIsTaken) {
  LogBuilder most;
  for (std::size_t i = 0; i < kMaxEventLogBytes / 32; ++i) most.sha1_event(1, 1, {}, Bytes(20, 1));
  ASSERT_EQ(most.bytes.size(), kMaxEventLogBytes);
  EXPECT_EQ(value_of(EventLog::parse(most.bytes)).events().size(), kMaxEventLogBytes / 32);
  most.bytes.push_back(0);
  EXPECT_THAT(EventLog::parse(most.bytes), FailsWith(Reason::kEventLogForm));
}

TEST(EventLog, OfAnyOneMebibyteTakesLittleTimeAndMemory) {
  std::map<std::string, Bytes> logs;
  // As many events as there can be; the header's 65 bytes stand for four of them.
  LogBuilder events;
  events.spec_id({});
  while (events.bytes.size() + 16 <= kMaxEventLogBytes) events.u32(1).u32(1).u32(0).u32(0);
  logs["as many events"] = events.bytes;
  // As many digests as there can be.
  LogBuilder digests;
  LogBuilder::SpecId sixteen;
  sixteen.algorithms.clear();
  LogBuilder::Digests all;
  for (std::uint16_t i = 0; i < 16; ++i) {
    sixteen.algorithms.emplace_back(static_cast<std::uint16_t>(0x7000 + i), std::uint16_t{1});
    all.emplace_back(static_cast<std::uint16_t>(0x7000 + i), Bytes{1});
  }
  LogBuilder one;
  one.event(1, 1, {}, all);
  digests.spec_id(sixteen);
  while (digests.bytes.size() + one.bytes.size() <= kMaxEventLogBytes) digests.raw(one.bytes);
  logs["as many digests"] = digests.bytes;
  // What looks like padding, and is none.
  logs["zeros and a one"] = Bytes(kMaxEventLogBytes, 0);
  logs["zeros and a one"].back() = 1;
  logs["ones"] = Bytes(kMaxEventLogBytes, 0xFF);
  // One large event of each type that is looked into: UTF-16, many signatures, many nodes, many entries.
  for (const auto& [type, fill] : std::initializer_list<std::pair<EventType, const char*>>{
           {EventType::kIpl, "a"},
           {EventType::kAction, "\xFF"},
           {EventType::kEfiVariableAuthority, "0"},
           {EventType::kEfiVariableBoot, "\1"},
           {EventType::kEventTag, "\0"},
           {EventType::kEfiBootServicesApplication, "\4"}}) {
    LogBuilder large;
    large.spec_id({}).event(4, type, Bytes(kMaxEventLogBytes - 200, static_cast<std::uint8_t>(fill[0])));
    logs["large " + event_type_name(number_of(type))] = large.bytes;
  }
  LogBuilder utf16;
  Bytes text;
  while (text.size() < kMaxEventLogBytes - 200) text.insert(text.end(), {'a', 0});
  logs["UTF-16"] = utf16.spec_id({}).event(8, EventType::kIpl, text).bytes;

  for (auto& [name, bytes] : logs) {
    SCOPED_TRACE(name);
    ASSERT_LE(bytes.size(), kMaxEventLogBytes);
    Bytes input = bytes;
    const test::Taken taken = test::taken_by([&] {
      const auto parsed = EventLog::parse(std::move(input));
      if (!parsed.has_value()) {
        EXPECT_THAT(parsed, FailsWith(Reason::kEventLogForm));
        return;
      }
      for (const LogAlgorithm bank : kLogAlgorithms) static_cast<void>(replay(*parsed, bank));
      for (const LogEvent& event : parsed->events()) {
        EXPECT_LE(describe(event).size(), kMaxDescription);
        static_cast<void>(data_hashes_to_digest(event));
      }
    });
    EXPECT_LT(taken.most_bytes, std::size_t{64} << 20);
    EXPECT_LT(taken.seconds, test::kASecond);
  }
}

TEST(EventTypes, HaveTheirNamesAndOthersTheirNumber) {
  EXPECT_EQ(event_type_name(0x80000003), "EV_EFI_BOOT_SERVICES_APPLICATION");
  EXPECT_EQ(find_event_type(4), EventType::kSeparator);
  EXPECT_EQ(event_type_name(0x40e), "0x0000040e");
  EXPECT_FALSE(find_event_type(0x40e));
  EXPECT_EQ(log_algorithm_name(0x0012), "sm3_256");
  EXPECT_EQ(log_algorithm_name(0x7777), "0x7777");
}

}  // namespace
}  // namespace sallyport::evidence

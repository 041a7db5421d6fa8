#include "client/engineer/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>

#include "attestation/base/hex.h"
#include "tests/support/boot_log.h"
#include "tests/support/ek_header.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::client::engineer {
namespace {

using evidence::EventLog;
using evidence::PcrSelection;
using test::BootLog;
using test::RecordScenario;
using test::SampleCompany;
using test::SoftTpm;
using test::value_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using State = Check::State;

MATCHER_P2(IsWrong, reason, words, "") {
  *result_listener << arg.words;
  return arg.state == State::kWrong && arg.error->reason == reason &&
         arg.words.find(words) != std::string::npos &&
         !(arg.mend.empty() && arg.words.find("sallyport ") == std::string::npos);
}
MATCHER_P(IsWell, words, "") {
  *result_listener << arg.words;
  return arg.state == State::kOk && !arg.error && arg.words.find(words) != std::string::npos;
}
MATCHER_P(IsNotChecked, words, "") {
  *result_listener << arg.words;
  return arg.state == State::kNotChecked && !arg.error && arg.words.find(words) != std::string::npos;
}

Error error_of(Reason reason, std::string what = {}) {
  return Error{Code::kDenied, reason, std::move(what)};
}

// ---- what is told

TEST(Checks, EndWithTheCodeOfTheFirstThatIsWrong) {
  std::vector<Check> checks{well("a", "fine"), not_checked("b", "no a")};
  EXPECT_EQ(exit_code(checks), 0);
  checks.push_back(wrong("c", error_of(Reason::kTpmAbsent)));
  checks.push_back(wrong("d", error_of(Reason::kBootEvent)));
  EXPECT_EQ(exit_code(checks), 10);
  EXPECT_EQ(exit_code({}), 0);
}

TEST(Checks, AreALineEachAndSayHowToMendWhatIsWrong) {
  const std::vector<Check> checks{
      well("settings", "/home/erin"), wrong("TPM", error_of(Reason::kTpmAbsent, "no such")),
      wrong("log", error_of(Reason::kStorage), "do this"),
      wrong("x", error_of(Reason::kUsage, "run sallyport init")), not_checked("boot", "no TPM\x1b[2J")};
  EXPECT_EQ(text_of(checks),
            "ok     settings        /home/erin\n"
            "WRONG  TPM             [tpm/absent] no such\n"
            "         Look at tcti in config.toml, and whether you may use /dev/tpmrm0 (group tss).\n"
            "WRONG  log             [storage] " +
                std::string{reason_sentence(Reason::kStorage)} +
                "\n"
                "         do this\n"
                "WRONG  x               [usage] run sallyport init\n"
                "-      boot            not checked: no TPM\\u{1b}[2J\n");
  const auto json = boost::json::parse(json_of(checks)).as_object();
  EXPECT_FALSE(json.at("well").as_bool());
  EXPECT_EQ(json.at("exit").as_int64(), 10);
  ASSERT_EQ(json.at("checks").as_array().size(), checks.size());
  EXPECT_EQ(json.at("checks").at(1).at("state").as_string(), "wrong");
  EXPECT_EQ(json.at("checks").at(1).at("code").as_string(), "tpm/absent");
  EXPECT_EQ(json.at("checks").at(4).at("state").as_string(), "not-checked");
  EXPECT_TRUE(boost::json::parse(json_of(std::span{checks}.first(1))).at("well").as_bool());
}

// ---- judgements

TEST(DoctorOfTheTpm, WantsAResetCounted) {
  tpm::BootTime boot;
  boot.firmware_version = 0x0007'0055'0011'0000;
  EXPECT_THAT(check_tpm_counters(boot), IsWrong(Reason::kBootCounters, ""));
  boot.clock.reset_count = 3;
  EXPECT_THAT(check_tpm_counters(boot), IsWell("reset 3, restart 0 · firmware 7.85.17.0"));
}

TEST(DoctorOfTheClock, TellsAWrongClockFromALogThatStandsStill) {
  const UnixMillis noon{1'790'000'000'000};
  const auto later = [&](std::uint64_t minutes) { return UnixMillis{noon.get() + minutes * 60'000}; };
  EXPECT_THAT(check_clock(noon, noon, noon), IsWell("newest cosigned checkpoint"));
  EXPECT_THAT(check_clock(later(5), noon, noon), IsWell("5 min"));
  EXPECT_THAT(check_clock(later(60), noon, noon), IsWrong(Reason::kStale, "ahead of the newest"));
  EXPECT_THAT(check_clock(noon, later(60), later(60)), IsWrong(Reason::kStale, "behind the newest"));
  EXPECT_THAT(check_clock(noon, later(60), noon),
              IsWrong(Reason::kStale, "behind"));  // witnesses know better
  EXPECT_THAT(check_clock(later(60), noon, later(60)), IsWrong(Reason::kLogQuorum, "the log stands still"));
}

TEST(DoctorOfTheEventLog, HoldsItAgainstThePcrs) {
  SoftTpm tpm;
  const PcrSelection selection = PcrSelection::standard();
  BootLog::good().boot(tpm);
  const EventLog log = value_of(EventLog::parse(tpm.event_log));
  EXPECT_THAT(check_measurements(log, selection, tpm.pcr_values(selection)), IsWell("comes to"));
  tpm.extend(4, crypto::sha256(as_bytes("more")));
  tpm.extend(7, crypto::sha256(as_bytes("more")));
  EXPECT_THAT(check_measurements(log, selection, tpm.pcr_values(selection)),
              IsWrong(Reason::kEventLogReplay, "PCR 4, 7"));
  const EventLog sha1 = value_of(EventLog::parse(test::read_file("tests/vectors/event_logs/debian-10.bin")));
  EXPECT_THAT(check_measurements(sha1, selection, tpm.pcr_values(selection)),
              IsWrong(Reason::kEventLogBank, "no sha256"));
}

class DoctorOfTheMachine : public testing::Test {
 protected:
  DoctorOfTheMachine()
      : world([](SampleCompany& company) {
          company.policy.references = BootLog::document({BootLog::good().reference("6.1")});
        }),
        tpm(world.machine("laptop")) {}

  Check boot(const BootLog& log, const record::LoadedPolicy& policy, bool with_log = true) {
    log.boot(tpm);
    const EventLog parsed = value_of(EventLog::parse(tpm.event_log));
    const PcrSelection& selection = policy.references.selection;
    const Digest256 fresh = crypto::sha256(as_bytes("fresh"));
    const auto quote = value_of(evidence::verify_quote(tpm.quote(fresh, selection), tpm.ak(), fresh,
                                                       selection, tpm.pcr_values(selection)));
    return check_boot(quote, world.follower.find_device(tpm.device()), with_log ? &parsed : nullptr, policy,
                      world.now);
  }
  tpm::Endorsement endorsement() {
    tpm::Endorsement out;
    out.public_area = tpm.ek_public();
    out.certificate = world.vendor.issue_ek(tpm.ek().key);
    out.form = tpm.ek().form;
    return out;
  }

  RecordScenario world;
  SoftTpm& tpm;
};

TEST_F(DoctorOfTheMachine, KnowsWhetherItIsEnrolled) {
  EXPECT_THAT(check_enrolment(world.follower, tpm.device(), tpm.ak_public()), IsWell("laptop · region us"));
  const SoftTpm stranger;
  EXPECT_THAT(check_enrolment(world.follower, stranger.device(), stranger.ak_public()),
              IsWrong(Reason::kDeviceUnknown, "not enrolled, as of leaf"));
  EXPECT_THAT(check_enrolment(world.follower, tpm.device(), stranger.ak_public()),
              IsWrong(Reason::kQuoteSignature, "another attestation key"));
  value_of(world.revoke(record::RevocationKind::kDevice, to_hex(tpm.device())));
  EXPECT_THAT(check_enrolment(world.follower, tpm.device(), tpm.ak_public()),
              IsWrong(Reason::kDeviceRevoked, "laptop is revoked"));
}

TEST_F(DoctorOfTheMachine, TellsARetiredMachineFromALostOneAndHowToGoOn) {
  const auto enrolment = [&] { return check_enrolment(world.follower, tpm.device(), tpm.ak_public()); };
  value_of(world.revoke(record::RevocationKind::kRetired, to_hex(tpm.device())));
  EXPECT_THAT(enrolment(), IsWrong(Reason::kDeviceRevoked, "laptop is retired, since leaf"));
  EXPECT_THAT(enrolment().mend, HasSubstr("sallyport enroll --again"));
  value_of(world.revoke(record::RevocationKind::kLost, to_hex(tpm.device())));
  EXPECT_THAT(enrolment(), IsWrong(Reason::kDeviceRevoked, "laptop is lost, since leaf"));
  EXPECT_THAT(enrolment().mend,
              AllOf(HasSubstr("another machine"), HasSubstr("was found"), Not(HasSubstr("--again"))));
}

TEST_F(DoctorOfTheMachine, NeverOffersToBringARevokedMachineBack) {
  value_of(world.revoke(record::RevocationKind::kDevice, to_hex(tpm.device())));
  const Check revoked = check_enrolment(world.follower, tpm.device(), tpm.ak_public());
  EXPECT_THAT(revoked.mend, AllOf(HasSubstr("another machine"), Not(HasSubstr("--again"))));
}

TEST_F(DoctorOfTheMachine, HoldsTheCountersAgainstThoseOfItsEnrolment) {
  const record::Device& device = *world.follower.find_device(tpm.device());
  const evidence::ClockInfo then = device.clock;
  const auto at = [&](std::uint32_t reset, std::uint32_t restart, std::uint64_t clock_ms) {
    evidence::ClockInfo clock = then;
    clock.reset_count = reset;
    clock.restart_count = restart;
    clock.clock_ms = clock_ms;
    return check_since_enrolment(device, clock);
  };
  const std::uint32_t reset = then.reset_count, restart = then.restart_count;
  ASSERT_GT(reset, 0u);
  ASSERT_GT(restart, 0u);
  EXPECT_THAT(at(reset, restart, then.clock_ms + 1), IsWell("gone on"));
  EXPECT_THAT(at(reset, restart + 1, 0), IsWell("gone on"));  // a clock may go back over a restart
  EXPECT_THAT(at(reset + 1, 0, 0), IsWell("reset " + std::to_string(reset + 1)));
  EXPECT_THAT(at(reset - 1, restart + 9, then.clock_ms + 1),
              IsWrong(Reason::kBootWentBack, "resetCount is behind"));
  EXPECT_THAT(at(reset, restart - 1, then.clock_ms + 1),
              IsWrong(Reason::kBootWentBack, "restartCount is behind"));
  EXPECT_THAT(at(reset, restart, then.clock_ms), IsWrong(Reason::kBootCounters, "the clock is behind"));
  EXPECT_THAT(at(reset - 1, 0, 0).mend, HasSubstr("sallyport enroll --again"));
  // The TPM itself, whose quote the record would refuse for the same reason.
  tpm.advance(60'000);
  EXPECT_THAT(check_since_enrolment(device, tpm.clock), IsWell("gone on"));
  tpm.clock.reset_count = reset - 1;
  EXPECT_THAT(check_since_enrolment(device, tpm.clock), IsWrong(Reason::kBootWentBack, "laptop"));
  EXPECT_EQ(world.state.cases.at(world.request({}).id).refusable, Reason::kBootWentBack);
}

TEST(DoctorOfTheFirmware, TellsOfKnownWeaknessesAndTheWayOut) {
  using enum crypto::KeyAlgorithm;
  const UnixMillis now{1'790'000'000'000};
  constexpr std::uint64_t kSt73_4 = 73ULL << 48 | 4ULL << 32, kSt73_20 = 73ULL << 48 | 20ULL << 32;
  const Check leaks = check_firmware("STM", kSt73_4, kP256, now);
  EXPECT_THAT(leaks, IsWrong(Reason::kTpmFirmware, "TPM-FAIL"));
  EXPECT_THAT(leaks.words, AllOf(HasSubstr("73.20"), HasSubstr("sallyport enroll --ak rsa")));
  EXPECT_THAT(check_firmware("STM", kSt73_4, kRsa2048, now), IsWell("73.4.0.0 of STM"));
  EXPECT_THAT(check_firmware("STM", kSt73_20, kP256, now), IsWell("no weakness is known"));
  EXPECT_THAT(check_firmware("IFX", 7ULL << 48 | 40ULL << 32, kRsa2048, now),
              IsWrong(Reason::kTpmFirmware, "ROCA"));
  EXPECT_THAT(check_firmware("", 0, kP256, now), IsWell("0.0.0.0 ·"));
}

TEST_F(DoctorOfTheMachine, KnowsWhetherThePolicyAcceptsItsBoot) {
  const record::LoadedPolicy& policy = world.policy();
  EXPECT_THAT(boot(BootLog::good(), policy), IsWell("accepted by policy version 1: 6.1"));
  EXPECT_THAT(boot(BootLog::good("firmware 1.0", "kernel 6.6"), policy),
              IsWrong(Reason::kBootEvent, to_hex(crypto::sha256(as_bytes("kernel 6.6")))));
  EXPECT_THAT(boot(BootLog::good(), policy, false), IsWrong(Reason::kEventLogMissing, ""));
  // A policy without reference values: the enrolled boot, or none.
  const RecordScenario plain;
  EXPECT_THAT(boot(BootLog::good(), plain.policy()), IsWrong(Reason::kBootState, ""));
  SoftTpm stranger;
  const PcrSelection standard = PcrSelection::standard();
  const Digest256 fresh = crypto::sha256(as_bytes("fresh"));
  const auto quote = value_of(evidence::verify_quote(stranger.quote(fresh, standard), stranger.ak(), fresh,
                                                     standard, stranger.pcr_values(standard)));
  EXPECT_THAT(check_boot(quote, nullptr, nullptr, plain.policy(), plain.now), IsNotChecked("not enrolled"));
}

TEST_F(DoctorOfTheMachine, TellsTheFormOfItsCertificate) {
  tpm::Endorsement endorsed = endorsement();
  EXPECT_THAT(check_endorsement(endorsed, &world.policy(), world.now), IsWell("p256, plain · "));
  EXPECT_THAT(check_endorsement(endorsed, nullptr, world.now), IsWell("not known here"));
  endorsed.certificate.resize(endorsed.certificate.size() + 100, 0xFF);
  EXPECT_THAT(check_endorsement(endorsed, &world.policy(), world.now), IsWell("p256, padded"));
  endorsed.certificate = test::behind_header(endorsement().certificate);
  EXPECT_THAT(check_endorsement(endorsed, &world.policy(), world.now), IsWell("behind TCG's header"));
  endorsed.certificate = to_bytes(as_bytes("no certificate"));
  EXPECT_THAT(check_endorsement(endorsed, &world.policy(), world.now), IsWrong(Reason::kEkCertificate, ""));
  endorsed.certificate = test::TestVendor{}.issue_ek(tpm.ek().key);
  EXPECT_THAT(check_endorsement(endorsed, &world.policy(), world.now), IsWrong(Reason::kEkChain, ""));
}

// ---- all of them, on a machine that is not set up

class DoctorAlone : public testing::Test {
 protected:
  DoctorAlone() {
    setenv("SALLYPORT_CONFIG", place_.path().c_str(), 1);
    setenv("SALLYPORT_TCTI", "none", 1);
    setenv("SALLYPORT_EVENT_LOG", "tests/vectors/event_logs/p511.log", 1);
  }
  ~DoctorAlone() override {
    for (const char* name : {"SALLYPORT_CONFIG", "SALLYPORT_TCTI", "SALLYPORT_EVENT_LOG", "SALLYPORT_TOKEN"})
      unsetenv(name);
  }
  static Check named(const std::string& name) {
    for (Check& check : examine())
      if (check.name == name) return check;
    ADD_FAILURE() << "no check of " << name;
    return {};
  }
  test::TemporaryDirectory place_;
};

TEST_F(DoctorAlone, TellsOfEveryThingWithoutAny) {
  std::vector<std::string> names;
  for (const Check& check : examine()) names.push_back(check.name);
  EXPECT_THAT(names, testing::ElementsAre("settings", "log", "broker", "clock", "TPM", "TPM counters",
                                          "EK certificate", "event log", "measurements", "token", "token key",
                                          "enrolment", "since enrolment", "TPM firmware", "boot", "files"));
  EXPECT_THAT(named("settings"), IsWrong(Reason::kUsage, "sallyport init"));
  EXPECT_THAT(named("broker"), IsNotChecked("no settings"));
  EXPECT_THAT(named("event log"), IsWell("p511.log"));
  EXPECT_THAT(named("measurements"), IsNotChecked("no TPM"));
  for (const char* name : {"enrolment", "since enrolment", "TPM firmware", "boot"})
    EXPECT_THAT(named(name), IsNotChecked("no TPM")) << name;
}

TEST_F(DoctorAlone, TellsWhatIsWrongWithASettingsFile) {
  std::ofstream{place_ / "trust.toml"} << "origin = 5\n";
  const Check settings = named("settings");
  EXPECT_EQ(settings.state, State::kWrong);
  EXPECT_THAT(settings.mend, HasSubstr("Mend the file"));
}

TEST_F(DoctorAlone, TellsWhyAnEventLogIsNoUse) {
  const auto at = [](const std::string& path) {
    setenv("SALLYPORT_EVENT_LOG", path.c_str(), 1);
    return named("event log");
  };
  EXPECT_THAT(at("none"), IsWrong(Reason::kEventLogMissing, "event_log is none"));
  EXPECT_THAT(at((place_ / "no.log").string()), IsWrong(Reason::kEventLogMissing, "cannot read"));
  EXPECT_THAT(at("tests/vectors/event_logs/keylime-binary_bios_measurements-empty"),
              IsWrong(Reason::kEventLogMissing, "is empty"));
  EXPECT_THAT(at("tests/vectors/event_logs/keylime-binary_bios_measurements-bogus"),
              IsWrong(Reason::kEventLogForm, "event 0"));
}

TEST_F(DoctorAlone, TellsOfATpmOrTokenThatIsNotThere) {
  setenv("SALLYPORT_TCTI", ("swtpm:path=" + (place_ / "no").string()).c_str(), 1);
  EXPECT_THAT(named("TPM"), IsWrong(Reason::kTpmAbsent, ""));
  EXPECT_THAT(named("TPM counters"), IsNotChecked("no TPM"));
  setenv("SALLYPORT_TOKEN", "pkcs11:token=nobody?module-path=/no/such/module.so", 1);
  EXPECT_THAT(named("token"), IsWrong(Reason::kTokenAbsent, "/no/such/module.so"));
  setenv("SALLYPORT_TOKEN", "not a URI", 1);
  EXPECT_THAT(named("token"), IsWrong(Reason::kUsage, ""));
}

}  // namespace
}  // namespace sallyport::client::engineer

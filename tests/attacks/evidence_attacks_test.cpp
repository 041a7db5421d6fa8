// An attacker with a genuine TPM and a bad boot, or without a TPM: what he sends is made by a real swtpm that
// has measured the log of a real machine, and is judged by what judges requests.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/crypto/random.h"
#include "attestation/evidence/appraisal.h"
#include "attestation/evidence/credential.h"
#include "client/evidence/learn.h"
#include "tests/support/boot_log.h"
#include "tests/support/matchers.h"
#include "tests/support/swtpm.h"

namespace sallyport {
namespace {

using evidence::EventLog;
using evidence::EventType;
using evidence::PcrSelection;
using evidence::VerifiedQuote;
using test::BootLog;
using test::FailsWith;
using test::SoftTpm;
using test::Succeeds;
using test::TemporarySwtpm;
using test::value_of;

const UnixMillis kNow{1'790'000'000'000};

EventLog log_of(const std::string& name) {
  return value_of(EventLog::parse(test::read_file("tests/vectors/event_logs/" + name)));
}

// The policy accepts the boot of one real machine.
const evidence::ReferenceValues& accepted_boots() {
  static const evidence::ReferenceValues values = [] {
    std::vector<client::evidence_tools::NamedLog> logs;
    logs.push_back({"good", log_of("rhel8-uefi.bin")});
    evidence::ReferenceValues out;
    out.version = 1;
    out.references = {value_of(
        client::evidence_tools::learn_reference(logs, PcrSelection::standard(), 1u << 1 | 1u << 5, "rhel8"))};
    return value_of(evidence::parse_reference_values(evidence::write_reference_values(out)));
  }();
  return values;
}

// A machine with a genuine TPM, whose owner is the attacker.
class BadBoot : public testing::Test {
 protected:
  BadBoot()
      : tpm_(swtpm_.open()),
        ak_(value_of(evidence::parse_attestation_key(value_of(tpm_.attestation_key())))) {}

  void boot(const BootLog& log) {
    swtpm_.reboot();
    for (const BootLog::Event& event : log.events) swtpm_.extend_pcr(event.pcr, event.digest);
  }
  VerifiedQuote quote() {
    const Digest256 binding = crypto::sha256(view(crypto::random_nonce()));
    const tpm::Quote made = value_of(tpm_.quote(PcrSelection::standard(), binding));
    return value_of(evidence::verify_quote(made.evidence, ak_, binding, PcrSelection::standard(), made.pcrs));
  }
  // appraise judges what the machine has booted by the log that its owner sends.
  Result<evidence::AcceptedBoot> appraise(const Bytes& sent) {
    SP_TRY(const EventLog log, EventLog::parse(sent));
    const evidence::JudgedLog judged = evidence::judge_log(log, accepted_boots());
    return evidence::appraise_boot(quote(), {PcrSelection::standard(), {}}, &judged, accepted_boots(), kNow);
  }
  Result<evidence::AcceptedBoot> appraise(const BootLog& sent) { return appraise(sent.encode()); }

  const BootLog good_ = BootLog::of(log_of("rhel8-uefi.bin"));
  TemporarySwtpm swtpm_;
  tpm::Tpm tpm_;
  evidence::AttestationKey ak_;
};

TEST_F(BadBoot, IsNotNeededToBeAccepted) {
  boot(good_);
  EXPECT_EQ(value_of(appraise(good_)).reference, "rhel8");
  EXPECT_THAT(appraise(test::read_file("tests/vectors/event_logs/rhel8-uefi.bin")), Succeeds());
}

TEST_F(BadBoot, IsNotHiddenByRetypingItsEvents) {
  BootLog bad = good_;
  bad.image(4, "rootkit");
  boot(bad);
  EXPECT_THAT(appraise(bad), FailsWith(Reason::kBootEvent));
  for (const EventType type :
       {EventType::kUnused, EventType::kPostCode, EventType::kEfiAction, EventType::kSeparator,
        EventType::kEfiVariableBoot, EventType::kIpl, static_cast<EventType>(0xDEADBEEF)}) {
    BootLog retyped = bad;
    retyped.events.back().type = static_cast<std::uint32_t>(type);
    retyped.events.back().data = good_.events[12].data;
    EXPECT_THAT(appraise(retyped), FailsWith(Reason::kBootEvent));
  }
  // Called an event that extends nothing, it is missing from the replay.
  BootLog not_extended = bad;
  not_extended.events.back().type = static_cast<std::uint32_t>(EventType::kNoAction);
  EXPECT_THAT(appraise(not_extended), FailsWith(Reason::kEventLogReplay));
}

TEST_F(BadBoot, IsNotHiddenByRetypingAllEventsAndAppendingGoodOnes) {
  // As publicly described for another verifier: the true events become ones that it skips, then the good log
  // follows.
  BootLog bad = good_;
  bad.image(4, "rootkit");
  BootLog both = bad;
  for (auto& event : both.events) event.type = static_cast<std::uint32_t>(EventType::kUnused);
  both.events.insert(both.events.end(), good_.events.begin(), good_.events.end());
  boot(bad);
  EXPECT_THAT(appraise(both), FailsWith(Reason::kEventLogReplay));
  boot(both);  // even if the TPM measured the good events too, after the bad ones
  EXPECT_THAT(appraise(both), FailsWith(Reason::kBootEvent));
}

TEST_F(BadBoot, IsNotHiddenByEventsThatNobodyMeasured) {
  boot(good_);
  BootLog more = good_;
  more.image(4, "never started");
  EXPECT_THAT(appraise(more), FailsWith(Reason::kEventLogReplay));
  BootLog fewer = good_;
  fewer.events.pop_back();
  EXPECT_THAT(appraise(fewer), FailsWith(Reason::kEventLogReplay));
}

TEST_F(BadBoot, IsNotHiddenBehindASecondSeparator) {
  BootLog bad = good_;
  bad.separator(7);
  boot(bad);
  EXPECT_THAT(appraise(bad), FailsWith(Reason::kBootEvent));
  // Secure Boot was off, and what follows says that it was on.
  BootLog off = good_;
  for (auto& event : off.events)
    if (event.pcr == 7 && event.data.size() == 53) {
      event.data.back() = 0;
      event.digest = crypto::sha256(event.data);
    }
  off.variable(7, EventType::kEfiVariableDriverConfig, "SecureBoot", {1}).separator(7);
  boot(off);
  EXPECT_THAT(appraise(off), FailsWith(Reason::kBootEvent));
}

TEST_F(BadBoot, IsNotHiddenByTheLogOfAnotherBoot) {
  BootLog bad = good_;
  bad.image(4, "rootkit");
  boot(bad);
  EXPECT_THAT(appraise(good_), FailsWith(Reason::kEventLogReplay));
  EXPECT_THAT(appraise(test::read_file("tests/vectors/event_logs/deb1.log")),
              FailsWith(Reason::kEventLogReplay));
}

TEST_F(BadBoot, IsNotHiddenInABankThatTheLogDoesNotCover) {
  boot(good_);
  EXPECT_THAT(appraise(test::read_file("tests/vectors/event_logs/debian-10.bin")),
              FailsWith(Reason::kEventLogBank));
  EXPECT_THAT(appraise(Bytes{}), FailsWith(Reason::kEventLogForm));
}

TEST_F(BadBoot, ATpmWithoutMeasurementsIsNotOne) {
  swtpm_.reboot();
  BootLog none;
  none.text(16, EventType::kAction, "something");
  EXPECT_THAT(appraise(none), FailsWith(Reason::kEventLogReplay));
}

TEST_F(BadBoot, AQuoteAnswersItsOwnChallengeOverAllPcrs) {
  boot(good_);
  const Digest256 asked = crypto::sha256(as_bytes("this challenge")),
                  other = crypto::sha256(as_bytes("another"));
  const PcrSelection all = PcrSelection::standard();
  const tpm::Quote replayed = value_of(tpm_.quote(all, other));
  EXPECT_THAT(evidence::verify_quote(replayed.evidence, ak_, other, all, replayed.pcrs), Succeeds());
  EXPECT_THAT(evidence::verify_quote(replayed.evidence, ak_, asked, all, replayed.pcrs),
              FailsWith(Reason::kQuoteNonce));
  const PcrSelection fewer = value_of(PcrSelection::from_mask(0x7F));  // without 7 and 14
  const tpm::Quote some = value_of(tpm_.quote(fewer, asked));
  EXPECT_THAT(evidence::verify_quote(some.evidence, ak_, asked, all, some.pcrs),
              FailsWith(Reason::kQuotePcrs));
  // Good values beside a quote of bad ones.
  const tpm::Quote made = value_of(tpm_.quote(all, asked));
  std::vector<Digest256> lies = made.pcrs;
  lies[4] = Digest256{};
  EXPECT_THAT(evidence::verify_quote(made.evidence, ak_, asked, all, lies), FailsWith(Reason::kQuotePcrs));
}

TEST_F(BadBoot, ACertificationIsNoQuote) {
  boot(good_);
  const Digest256 binding = crypto::sha256(as_bytes("binding"));
  const crypto::PrivateKey lease = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  const evidence::SessionKeyPolicy policy{
      PcrSelection::standard(),
      evidence::pcr_digest(value_of(tpm_.read_pcrs(PcrSelection::standard()))),
      value_of(tpm_.boot_time()).clock.reset_count,
      value_of(tpm_.boot_time()).clock.restart_count,
      value_of(evidence::lease_key_public(lease.public_key())).name,
      evidence::lease_policy_ref(Origin{"o.example/log/1"}, CaseId{})};
  const auto key =
      value_of(tpm_.create_session_key(evidence::SessionKeyUse::kSign, policy, lease.public_key()));
  const auto certified = value_of(tpm_.certify(key, binding));
  EXPECT_THAT(evidence::verify_quote(certified, ak_, binding, PcrSelection::standard()),
              FailsWith(Code::kMalformed));
}

TEST_F(BadBoot, AForgedAttestOfAnotherKeyIsRefused) {
  boot(good_);
  const Digest256 binding = crypto::sha256(as_bytes("binding"));
  const PcrSelection all = PcrSelection::standard();
  // An unrestricted key signs whatever it is given; its signature is not the enrolled AK's.
  SoftTpm forger;
  evidence::ClaimedAttest forged =
      value_of(evidence::parse_attest(value_of(tpm_.quote(all, binding)).evidence.attest));
  EXPECT_THAT(evidence::verify_quote(forger.sign_attest(forged), ak_, binding, all),
              FailsWith(Reason::kQuoteSignature));
  Bytes wrong_magic = evidence::encode(forged);
  wrong_magic[3] = 0x01;
  EXPECT_THAT(evidence::verify_quote(forger.sign_bytes(wrong_magic), forger.ak(), binding, all),
              FailsWith(Code::kMalformed));
  // Nor is such a key ever an AK: its public area is not the template.
  evidence::PublicArea unrestricted = forger.ak().area();
  unrestricted.form.attributes &= ~std::uint32_t{0x0001'0000};
  EXPECT_THAT(evidence::parse_attestation_key(evidence::encode(unrestricted)),
              FailsWith(Reason::kKeyTemplate));
}

TEST_F(BadBoot, ASoftwareKeyOfTheExactTemplateIsNotInThisTpm) {
  // Its public area is right to the byte: only a TPM that holds it answers the challenge.
  SoftTpm software;
  const auto endorsement = value_of(tpm_.endorsement());
  const auto ek = value_of(evidence::parse_public_area(endorsement.public_area));
  const Bytes secret(32, 7);
  const auto blob =
      value_of(evidence::make_credential(ek, software.ak().name(), secret, crypto::random_array<64>()));
  EXPECT_THAT(tpm_.activate_credential(endorsement.public_area, blob),
              FailsWith(Reason::kCredentialChallenge));
  const auto true_blob =
      value_of(evidence::make_credential(ek, ak_.name(), secret, crypto::random_array<64>()));
  EXPECT_THAT(tpm_.activate_credential(endorsement.public_area, true_blob), Succeeds());
}

TEST_F(BadBoot, AnotherTpmBehindTheSameNameIsRefused) {
  boot(good_);
  TemporarySwtpm other;
  for (const BootLog::Event& event : good_.events) other.extend_pcr(event.pcr, event.digest);
  tpm::Tpm opened = other.open();
  const Digest256 binding = crypto::sha256(as_bytes("binding"));
  const tpm::Quote made = value_of(opened.quote(PcrSelection::standard(), binding));
  EXPECT_THAT(evidence::verify_quote(made.evidence, ak_, binding, PcrSelection::standard(), made.pcrs),
              FailsWith(Reason::kQuoteSignature));
}

TEST_F(BadBoot, ClearSuspendAndRebootAreSeen) {
  boot(good_);
  const VerifiedQuote before = quote();
  swtpm_.suspend();
  EXPECT_THAT(evidence::check_same_boot(before, quote()), FailsWith(Reason::kBootCounters));
  boot(good_);
  EXPECT_THAT(evidence::check_same_boot(before, quote()), FailsWith(Reason::kBootCounters));
  const VerifiedQuote later = quote();
  swtpm_.clear();
  tpm_ = swtpm_.open();
  EXPECT_THAT(
      evidence::check_counters({later.clock(), kNow}, {quote().clock(), UnixMillis{kNow.get() + 1000}}),
      FailsWith(Reason::kBootCounters));
}

}  // namespace
}  // namespace sallyport

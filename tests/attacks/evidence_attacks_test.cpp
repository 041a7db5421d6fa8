// An attacker with a genuine TPM and a bad boot, or without a TPM: what he sends is made by a real swtpm that
// has measured the log of a real machine, and is judged by what judges requests.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/random.h"
#include "attestation/evidence/appraisal.h"
#include "attestation/evidence/credential.h"
#include "attestation/record/ima.h"
#include "attestation/tpm/command.h"
#include "client/evidence/learn.h"
#include "tests/support/boot_log.h"
#include "tests/support/ima_log.h"
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
      FailsWith(Reason::kBootWentBack));
}

// ---- what a TPM signs by other commands than those of our client

// AnyCommand is who has the TPM itself: he sends it what he likes, and gets the answers as they are.
class AnyCommand : public BadBoot {
 protected:
  using Cc = tpm::Cc;
  static constexpr auto kHash = static_cast<Cc>(0x17D), kGetTime = static_cast<Cc>(0x14C);
  static constexpr std::uint16_t kTagHashCheck = 0x8024;
  static constexpr std::uint32_t kRcTicketOfSign = 0x3E0;  // TPM_RC_TICKET, of the third parameter

  struct Ticket {
    std::uint32_t hierarchy;
    Bytes digest;
  };

  Result<tpm::Response> send(const tpm::Command& command) {
    return tpm::parse_response(command, swtpm_.command(tpm::encode(command)));
  }
  struct Key {
    tpm::Handle handle;
    Bytes area;  // TPMT_PUBLIC
  };
  Key primary(const evidence::PublicTemplate& form) {
    tpm::Command create{Cc::kCreatePrimary};
    create.handle(tpm::kEndorsement).authorize().returns_handle();
    create.parameters.prefixed16(Writer{}.u16(0).u16(0).bytes())
        .prefixed16(evidence::encode_for_create(form))
        .u16(0)
        .u32(0);
    const tpm::Response made = value_of(send(create));
    Reader in{made.parameters};
    return {made.handle, to_bytes(value_of(in.prefixed16(4096)))};
  }
  // The AK, to the byte, and a key that differs from it in signing anything.
  Key attestation_key() {
    const Key key = primary(evidence::ak_template());
    EXPECT_EQ(key.area, evidence::encode(ak_.area()));
    return key;
  }
  Key unrestricted_key() {
    evidence::PublicTemplate form = evidence::ak_template();
    form.attributes &= ~evidence::attribute::kRestricted;
    return primary(form);
  }
  // hash gives the ticket without which a restricted key signs no digest.
  std::pair<Digest256, Ticket> hash(ByteView bytes) {
    tpm::Command command{kHash};
    command.parameters.prefixed16(bytes).u16(tpm::kAlgSha256).u32(tpm::kEndorsement);
    const tpm::Response response = value_of(send(command));
    Reader in{response.parameters};
    EXPECT_EQ(value_of(in.u16()), 32u);
    const Digest256 digest{value_of(in.array<32>())};
    EXPECT_EQ(digest, crypto::sha256(bytes));
    EXPECT_EQ(value_of(in.u16()), kTagHashCheck);
    const std::uint32_t hierarchy = value_of(in.u32());
    return {digest, {hierarchy, to_bytes(value_of(in.prefixed16(64)))}};
  }
  Result<Bytes> sign(const Key& key, const Digest256& digest, const Ticket& ticket) {
    tpm::Command command{Cc::kSign};
    command.handle(key.handle).authorize();
    command.parameters.prefixed16(view(digest))
        .u16(tpm::kAlgNull)
        .u16(kTagHashCheck)
        .u32(ticket.hierarchy)
        .prefixed16(ticket.digest);
    SP_TRY(const tpm::Response response, send(command));
    return signature_of(response.parameters);
  }
  Result<evidence::SignedAttest> sign(const Key& key, const Bytes& attest) {
    const auto [digest, ticket] = hash(attest);
    SP_TRY(Bytes signature, sign(key, digest, ticket));
    return evidence::SignedAttest{attest, std::move(signature)};
  }
  // A TPM may leave out leading zeros of r and s.
  static Bytes signature_of(ByteView tpmt_signature) {
    Reader in{tpmt_signature};
    value_of(in.u32());
    crypto::Signature64 raw{};
    for (const std::size_t end : {32u, 64u}) {
      const ByteView part = value_of(in.prefixed16(32));
      std::copy(part.begin(), part.end(), raw.begin() + static_cast<std::ptrdiff_t>(end - part.size()));
    }
    EXPECT_THAT(in.finish(), Succeeds());
    return evidence::encode_ecdsa(raw);
  }
  evidence::SignedAttest attested(tpm::Command command) {
    const tpm::Response response = value_of(send(command));
    Reader in{response.parameters};
    Bytes attest = to_bytes(value_of(in.prefixed16(512)));
    return {std::move(attest), signature_of(in.rest())};
  }
  evidence::SignedAttest quote_over(const Key& key, ByteView nonce) {
    tpm::Command command{Cc::kQuote};
    command.handle(key.handle).authorize();
    command.parameters.prefixed16(nonce).u16(tpm::kAlgNull).raw(evidence::encode(PcrSelection::standard()));
    return attested(std::move(command));
  }
  Status verify(const evidence::SignedAttest& made) {
    SP_TRY(const auto quote, evidence::verify_quote(made, ak_, binding_, PcrSelection::standard()));
    static_cast<void>(quote);
    return Done{};
  }

  const Digest256 binding_ = crypto::sha256(as_bytes("this request"));
};

TEST_F(AnyCommand, AQuoteOverAnEmptyNonceIsRefused) {
  boot(good_);
  const Key ak = attestation_key();
  EXPECT_THAT(verify(quote_over(ak, view(binding_))), Succeeds());
  const evidence::SignedAttest empty = quote_over(ak, {});
  EXPECT_TRUE(value_of(evidence::parse_attest(empty.attest)).extra_data.empty());
  EXPECT_THAT(verify(empty), FailsWith(Reason::kQuoteNonce));
  // Nor one over a part of it, over more, or over its hash.
  Bytes more = to_bytes(view(binding_));
  more.push_back(0);
  for (const Bytes& nonce : {to_bytes(view(binding_).first(31)), to_bytes(view(binding_).first(1)), more,
                             to_bytes(view(crypto::sha256(view(binding_))))})
    EXPECT_THAT(verify(quote_over(ak, nonce)), FailsWith(Reason::kQuoteNonce)) << nonce.size();
}

TEST_F(AnyCommand, ATpmsAkSignsNothingThatLooksLikeATpmsOwn) {
  boot(good_);
  const Key ak = attestation_key();
  const Bytes made = quote_over(ak, view(binding_)).attest;
  // A quote of another boot, as its owner would like it.
  evidence::ClaimedAttest lie = value_of(evidence::parse_attest(made));
  std::get<evidence::ClaimedQuote>(lie.attested).pcr_digest = crypto::sha256(as_bytes("a good boot"));
  for (const Bytes& attest : {made, evidence::encode(lie)}) {
    const auto [digest, ticket] = hash(attest);
    EXPECT_EQ(ticket.hierarchy, tpm::kNull) << "the TPM vouched that this is not its own";
    EXPECT_TRUE(ticket.digest.empty());
    const auto refused = sign(ak, digest, ticket);
    ASSERT_THAT(refused, FailsWith(Reason::kTpm));
    EXPECT_EQ(refused.error().device_rc, kRcTicketOfSign);
    // The ticket of other bytes does not serve.
    const Ticket other = hash(as_bytes("something harmless")).second;
    EXPECT_EQ(other.hierarchy, tpm::kEndorsement);
    const auto swapped = sign(ak, digest, other);
    ASSERT_THAT(swapped, FailsWith(Reason::kTpm));
    EXPECT_EQ(swapped.error().device_rc, kRcTicketOfSign);
  }
}

TEST_F(AnyCommand, AnAttestWithAnotherMagicIsRefusedWhoeverSignedIt) {
  boot(good_);
  const Key ak = attestation_key(), other = unrestricted_key();
  const Bytes made = quote_over(ak, view(binding_)).attest;
  EXPECT_THAT(evidence::parse_attestation_key(other.area), FailsWith(Reason::kKeyTemplate));
  for (const std::size_t octet : {0u, 3u}) {
    Bytes forged = made;
    forged[octet] ^= 1;
    // Whatever does not begin as a TPM's own, the AK itself signs.
    for (const Key& key : {ak, other}) {
      const auto evidence = value_of(sign(key, forged));
      const auto refused = verify(evidence);
      ASSERT_THAT(refused, FailsWith(Reason::kMalformed));
      EXPECT_EQ(refused.error().what, "not made by a TPM");
    }
    // The AK's signature over it is good: the magic alone refuses it.
    const auto signature = value_of(evidence::parse_signature(value_of(sign(ak, forged)).signature));
    EXPECT_THAT(evidence::verify_tpm_signature(ak_.key(), forged, signature), Succeeds());
  }
}

TEST_F(AnyCommand, AnAttestOfAnotherTypeIsRefusedWhoeverSignedIt) {
  boot(good_);
  const Key ak = attestation_key(), other = unrestricted_key();
  const std::string another = "attestation of another type than quote, certify or session audit";
  // TPM2_GetTime: a TPM's own, of the AK, over the very nonce.
  tpm::Command time{kGetTime};
  time.handle(tpm::kEndorsement).handle(ak.handle).authorize().authorize();
  time.parameters.prefixed16(view(binding_)).u16(tpm::kAlgNull);
  const evidence::SignedAttest told = attested(std::move(time));
  const auto signature = value_of(evidence::parse_signature(told.signature));
  EXPECT_THAT(evidence::verify_tpm_signature(ak_.key(), told.attest, signature), Succeeds());
  const auto refused = verify(told);
  ASSERT_THAT(refused, FailsWith(Reason::kMalformed));
  EXPECT_EQ(refused.error().what, another);
  // And the bytes of a quote with the type of another structure, signed by the key that signs anything:
  // certify and session audit have another body, the rest is refused by its number.
  const Bytes made = quote_over(ak, view(binding_)).attest;
  for (const std::uint8_t type : ByteArray<7>{0x14, 0x15, 0x16, 0x17, 0x19, 0x1A, 0x1C}) {
    Bytes forged = made;
    ASSERT_EQ(forged[5], 0x18);
    forged[5] = type;
    const auto evidence = value_of(sign(other, forged));
    const auto of_type = verify(evidence);
    ASSERT_THAT(of_type, FailsWith(Reason::kMalformed)) << int{type};
    if (type != 0x16 && type != 0x17) {
      EXPECT_EQ(of_type.error().what, another);
    }
    // The AK does not sign it.
    const auto [digest, ticket] = hash(forged);
    EXPECT_THAT(sign(ak, digest, ticket), FailsWith(Reason::kTpm));
  }
  // With the type of a quote and everything else right too, it is not the AK's.
  EXPECT_THAT(verify(value_of(sign(other, made))), FailsWith(Reason::kQuoteSignature));
}

// ---- what was measured after the start

// A machine that measured the files of a real one, of which some are signed and the others are listed.
class BadFiles : public BadBoot {
 protected:
  BadFiles()
      : list_(value_of(evidence::ImaList::parse(test::read_file("tests/vectors/ima/ima-sha1.log")))),
        reference_(expecting(list_)) {
    swtpm_.reboot();
    measure(list_, 0);
  }
  // measure extends PCR 10 as a kernel does.
  void measure(const evidence::ImaList& list, std::size_t from) {
    for (const evidence::ImaEntry& entry : list.entries().subspan(from))
      swtpm_.extend_pcr(10, crypto::sha256(entry.data));
  }
  static evidence::ImaReference expecting(const evidence::ImaList& list) {
    std::set<std::string> lines;
    for (const evidence::ImaEntry& entry : list.entries().subspan(1))
      if (entry.signature.empty())
        lines.insert("sha256:" + to_hex(entry.digest) + " " + std::string{entry.path} + "\n");
    const Bytes signer = test::read_file("tests/vectors/ima/signer.hex");
    evidence::ImaReference::Terms terms;
    terms.keys = {value_of(crypto::PublicKey::from_p256_point(
        value_of(parse_hex(as_text(signer).substr(0, signer.size() - 1), 200))))};
    for (const std::string& line : lines) terms.files += line;
    return value_of(evidence::ImaReference::make(std::move(terms)));
  }
  tpm::Quote quote_of(const PcrSelection& pcrs) { return value_of(tpm_.quote(pcrs, binding_)); }
  Result<VerifiedQuote> verify(const tpm::Quote& made) {
    return evidence::verify_quote(made.evidence, ak_, binding_, record::ima_selection(), made.pcrs);
  }
  Result<evidence::JudgedIma> appraise(const Bytes& sent) {
    SP_TRY(const VerifiedQuote quote, verify(quote_of(record::ima_selection())));
    const std::vector<evidence::ImaPart> parts{{crypto::sha256(sent), sent}};
    return evidence::appraise_ima_parts(parts, quote, reference_);
  }
  Bytes whole() const { return to_bytes(list_.bytes()); }
  // without gives the list as if one file had not been measured.
  Bytes without(std::size_t number) const {
    Bytes out = to_bytes(list_.bytes().first(list_.entries()[number - 1].end));
    const ByteView rest = list_.bytes().subspan(list_.entries()[number].end);
    out.insert(out.end(), rest.begin(), rest.end());
    return out;
  }

  const Digest256 binding_ = crypto::sha256(as_bytes("this request"));
  const evidence::ImaList list_;
  const evidence::ImaReference reference_;
};

TEST_F(BadFiles, AreNotNeededToBeAccepted) {
  const evidence::JudgedIma judged = value_of(appraise(whole()));
  EXPECT_EQ(judged.entries(), 362u);
  EXPECT_EQ(judged.tally().signed_files, 3u);
}

TEST_F(BadFiles, AreNotHiddenByLeavingThemOut) {
  const test::ImaLog evil = test::ImaLog{}.file("/tmp/rootkit", "evil");
  measure(value_of(evidence::ImaList::parse(evil.bytes)), 0);
  EXPECT_THAT(appraise(whole()), FailsWith(Reason::kImaReplay));
  Bytes with = whole();
  with.insert(with.end(), evil.bytes.begin(), evil.bytes.end());
  const auto refused = appraise(with);
  EXPECT_THAT(refused, FailsWith(Reason::kImaUnexpected));
  EXPECT_THAT(refused.error().what, testing::HasSubstr("entry 362, /tmp/rootkit"));
  for (const std::size_t number : {1, 100, 361})
    EXPECT_THAT(appraise(without(number)), FailsWith(Reason::kImaReplay));
  // Called by the name and digest of a good one, or a violation, whose claims nothing binds.
  const test::ImaLog renamed = test::ImaLog{}.file("/usr/bin/kmod", "evil"),
                     violation = test::ImaLog{}.violation("/a");
  for (const test::ImaLog& claimed : {renamed, violation}) {
    Bytes other = whole();
    other.insert(other.end(), claimed.bytes.begin(), claimed.bytes.end());
    EXPECT_THAT(appraise(other), FailsWith(Reason::kImaReplay));
  }
}

TEST_F(BadFiles, AreNotHiddenByAnotherPcr) {
  // PCR 16 may be reset by anybody: the good list extended there is not what PCR 10 says.
  for (const evidence::ImaEntry& entry : list_.entries()) swtpm_.extend_pcr(16, crypto::sha256(entry.data));
  EXPECT_THAT(verify(quote_of(value_of(PcrSelection::from_mask(1u << 16)))), FailsWith(Reason::kQuotePcrs));
  EXPECT_THAT(verify(quote_of(value_of(PcrSelection::from_mask(1u << 10 | 1u << 16)))),
              FailsWith(Reason::kQuotePcrs));
  // Nor is a good value beside a quote of another.
  tpm::Quote lying = quote_of(record::ima_selection());
  measure(list_, 361);
  const tpm::Quote after = quote_of(record::ima_selection());
  lying.evidence = after.evidence;
  EXPECT_THAT(verify(lying), FailsWith(Reason::kQuotePcrs));
}

TEST_F(BadFiles, AreNotHiddenByTheQuoteOfAnotherBoot) {
  const VerifiedQuote good = value_of(verify(quote_of(record::ima_selection())));
  swtpm_.reboot();
  EXPECT_THAT(appraise(whole()), FailsWith(Reason::kImaReplay));
  EXPECT_THAT(appraise({}), FailsWith(Reason::kImaForm));
  const VerifiedQuote boot = quote();
  EXPECT_THAT(evidence::check_same_start(boot, good), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(evidence::check_same_start(boot, value_of(verify(quote_of(record::ima_selection())))),
              Succeeds());
}

TEST_F(BadFiles, AreSeenInAListThatGrew) {
  evidence::ImaMemo memo;
  const Bytes sent = whole();
  const std::size_t cut = list_.entries()[300].end;
  const Bytes first = to_bytes(ByteView{sent}.first(cut)), rest = to_bytes(ByteView{sent}.subspan(cut));
  const auto judged = [&](const Bytes& last) {
    const VerifiedQuote quoted = value_of(verify(quote_of(record::ima_selection())));
    const std::vector<evidence::ImaPart> parts{{crypto::sha256(first), first}, {crypto::sha256(last), last}};
    return evidence::appraise_ima_parts(parts, quoted, reference_, &memo);
  };
  memo.add(value_of(judged(rest)));
  EXPECT_EQ(memo.size(), 2u);
  const test::ImaLog evil = test::ImaLog{}.file("/tmp/rootkit", "evil");
  measure(value_of(evidence::ImaList::parse(evil.bytes)), 0);
  EXPECT_THAT(judged(rest), FailsWith(Reason::kImaReplay));
  Bytes more = rest;
  more.insert(more.end(), evil.bytes.begin(), evil.bytes.end());
  EXPECT_THAT(judged(more), FailsWith(Reason::kImaUnexpected));
}

}  // namespace
}  // namespace sallyport

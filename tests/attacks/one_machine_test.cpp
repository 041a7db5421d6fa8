// An attacker with one genuine TPM who wants to be two machines, a lost one anew, or the same one after its
// counters began anew: a real swtpm, with all the keys that it can be made to show, in front of the fold.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/tpm/command.h"
#include "tests/support/matchers.h"
#include "tests/support/real_machine.h"
#include "tests/support/swtpm.h"

namespace sallyport {
namespace {

using crypto::KeyAlgorithm;
using record::RevocationKind;
using test::FailsWith;
using test::RecordScenario;
using test::SampleCompany;
using test::Succeeds;
using test::TemporarySwtpm;
using test::value_of;
using testing::HasSubstr;

UnixMillis real_now() {
  return UnixMillis{static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                                   std::chrono::system_clock::now().time_since_epoch())
                                                   .count())};
}

std::string pem(const Bytes& der) {
  std::string text = "-----BEGIN CERTIFICATE-----\n";
  const std::string base64 = to_base64(der);
  for (std::size_t at = 0; at < base64.size(); at += 64) text += base64.substr(at, 64) + "\n";
  return text + "-----END CERTIFICATE-----\n";
}

// OtherUnique is what root puts before a TPM: it has the P-256 attestation key derived with a `unique` of
// root's choice, which gives another key of the same template. All else goes by unchanged, the audited
// derivation of the identity too.
class OtherUnique : public tpm::Transport {
 public:
  explicit OtherUnique(std::unique_ptr<tpm::Transport> to) : to_(std::move(to)) {}
  Result<Bytes> exchange(ByteView command) override {
    Bytes bytes = to_bytes(command);
    if (is_plain_ak(bytes)) {
      ++changed_;
      // TPM2B_PUBLIC ends with x and y, both empty; behind it are outsideInfo and creationPCR, empty too.
      const std::size_t x = bytes.size() - 6 - 4;
      bytes[x + 1] = 32;
      bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(x) + 2, 32, 0x5A);
      put16(bytes, 33, static_cast<std::uint16_t>(get16(bytes, 33) + 32));
      put16(bytes, 4, static_cast<std::uint16_t>(get16(bytes, 4) + 32));
    }
    return to_->exchange(bytes);
  }
  bool is_managed() const override { return to_->is_managed(); }
  bool is_simulator() const override { return to_->is_simulator(); }
  static int changed() { return changed_; }

 private:
  static std::uint16_t get16(const Bytes& bytes, std::size_t at) {
    return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
  }
  static void put16(Bytes& bytes, std::size_t at, std::uint16_t value) {
    bytes[at] = static_cast<std::uint8_t>(value >> 8);
    bytes[at + 1] = static_cast<std::uint8_t>(value);
  }
  // TPM2_CreatePrimary with one password and no audit session, of an ECC key with the attributes of an AK:
  // tag, size, code, handle, 9 bytes of authorization, TPM2B_SENSITIVE_CREATE of 4, TPM2B_PUBLIC.
  static bool is_plain_ak(const Bytes& bytes) {
    const Bytes attributes{0x00, 0x05, 0x04, 0x72};
    return bytes.size() > 53 && get16(bytes, 8) == 0x131 && get16(bytes, 16) == 9 &&
           get16(bytes, 35) == 0x23 && std::equal(attributes.begin(), attributes.end(), bytes.begin() + 39);
  }
  std::unique_ptr<tpm::Transport> to_;
  inline static int changed_ = 0;
};

// A machine with a TPM that has two endorsement keys, RSA-2048 and P-384, and a company that trusts its
// maker.
class OneMachine : public testing::Test {
 protected:
  OneMachine() : tpm(restarted()), keys(value_of(tpm.endorsements())) {
    world.now = real_now();
    for (const auto& ek : keys) EXPECT_TRUE(ek.form.algorithm != KeyAlgorithm::kP256);
  }
  tpm::Tpm restarted() {
    swtpm.reboot();  // resetCount 0 is refused
    return swtpm.open();
  }
  Result<DeviceId> enrol(tpm::Tpm& with, const tpm::Endorsement& ek, const std::string& name) {
    const CaseId id = crypto::random_case_id();
    SP_CHECK(
        world.append(record::Kind::kEnrolmentRequested, id, test::real_enrolment(with, ek, world, id, name)));
    for (const char* person : {"frank", "grace"}) SP_CHECK(world.approve(id, person));
    SP_TRY(const record::Entry closing,
           record::compose_enrolment(world.state, id, world.now, crypto::random_nonce()));
    SP_CHECK(world.append(closing));
    return DeviceId{value_of(evidence::parse_public_area(ek.public_area)).key.id().get()};
  }
  // expect_same expects that a key of a machine that is enrolled as "laptop" enrols none anew.
  void expect_same(const Result<DeviceId>& second) {
    ASSERT_THAT(second, FailsWith(Reason::kDeviceExists));
    EXPECT_THAT(second.error().what, HasSubstr("another endorsement key, as laptop"));
  }

  TemporarySwtpm swtpm{TemporarySwtpm::Ek::kManufactured};
  RecordScenario world{[this](SampleCompany& company) {
    std::string bundle = pem(swtpm.vendor_root());
    for (const Bytes& der : swtpm.intermediates()) bundle += pem(der);
    Bytes& roots = company.policy.tpm_roots;
    roots.insert(roots.end(), bundle.begin(), bundle.end());
  }};
  tpm::Tpm tpm;
  std::vector<tpm::Endorsement> keys;
};

TEST_F(OneMachine, IsNoSecondOneWithItsOtherEndorsementKey) {
  ASSERT_EQ(keys.size(), 2u);
  const DeviceId id = value_of(enrol(tpm, keys[0], "laptop"));
  // With the same attestation key it is told by that already; with the other one by the identity alone.
  EXPECT_THAT(enrol(tpm, keys[1], "second"), FailsWith(Reason::kDeviceExists));
  tpm.use_ak(KeyAlgorithm::kRsa2048);
  expect_same(enrol(tpm, keys[1], "second"));
  EXPECT_EQ(world.follower.devices().size(), 1u);
  // Its own record it may replace, with either attestation key.
  EXPECT_THAT(enrol(tpm, keys[0], "laptop"), Succeeds());
  EXPECT_EQ(world.follower.find_device(id)->attestation_key.key().algorithm(), KeyAlgorithm::kRsa2048);
}

TEST_F(OneMachine, IsNoSecondOneWithAnAttestationKeyOfAnotherUnique) {
  const DeviceId id = value_of(enrol(tpm, keys[0], "laptop"));
  const Bytes ak = value_of(tpm.attestation_key());
  tpm::Tpm forged{std::make_unique<OtherUnique>(value_of(tpm::open_tcti(swtpm.tcti())))};
  const Bytes other = value_of(forged.attestation_key());
  EXPECT_GT(OtherUnique::changed(), 0);
  ASSERT_NE(other, ak);  // another key, and as good an attestation key
  ASSERT_THAT(evidence::parse_attestation_key(other), Succeeds());
  EXPECT_EQ(world.follower.find_device_by_ak(other), nullptr);
  expect_same(enrol(forged, keys[1], "second"));
  EXPECT_THAT(enrol(forged, keys[0], "laptop"), Succeeds());
  EXPECT_EQ(world.follower.find_device_by_ak(other)->id, id);
  EXPECT_EQ(world.follower.find_device_by_ak(ak), nullptr);
}

TEST_F(OneMachine, StaysLostWithAllItsKeys) {
  const DeviceId id = value_of(enrol(tpm, keys[0], "laptop"));
  ASSERT_THAT(world.revoke(RevocationKind::kLost, to_hex(id)), Succeeds());
  tpm::Tpm forged{std::make_unique<OtherUnique>(value_of(tpm::open_tcti(swtpm.tcti())))};
  for (const auto& ek : keys) {
    EXPECT_THAT(enrol(forged, ek, "new"), FailsWith(Reason::kDeviceRevoked));
    tpm.use_ak(KeyAlgorithm::kRsa2048);
    EXPECT_THAT(enrol(tpm, ek, "new"), FailsWith(Reason::kDeviceRevoked));
  }
  // Nor is it another machine once it was cleared.
  swtpm.clear();
  swtpm.reboot();
  tpm::Tpm cleared = swtpm.open();
  cleared.use_ak(KeyAlgorithm::kRsa2048);  // its P-256 one is known as the lost machine's
  for (const auto& ek : value_of(cleared.endorsements()))
    EXPECT_THAT(enrol(cleared, ek, "new"), FailsWith(Reason::kDeviceRevoked));
}

// ask appends a request and gives the reason for which it is refused, if it is.
std::optional<Reason> ask(RecordScenario& world, const test::OpenCase& open) {
  value_of(world.append(record::Kind::kRequest, open.id, open.submission));
  const auto refusable = world.state.cases.at(open.id).refusable;
  if (refusable)
    value_of(world.append(
        value_of(record::compose_refusal(world.state, open.id, world.now, crypto::random_nonce()))));
  return refusable;
}

TEST_F(OneMachine, IsStoppedOnceItsCountersWentBackHoweverOftenItRestartsThen) {
  for (int i = 0; i < 3; ++i) swtpm.reboot();
  tpm = swtpm.open();
  const DeviceId id = value_of(enrol(tpm, keys[0], "laptop"));
  const std::uint32_t enrolled = value_of(tpm.boot_time()).clock.reset_count;
  swtpm.reboot();
  tpm = swtpm.open();
  EXPECT_EQ(ask(world, test::real_request(tpm, id, world)), std::nullopt);
  const test::OpenCase waiting = test::real_request(tpm, id, world);
  EXPECT_EQ(ask(world, waiting), std::nullopt);

  // TPM2_Clear: the attestation key is the same, resetCount begins anew.
  swtpm.clear();
  tpm = swtpm.open();
  world.advance(std::chrono::milliseconds{evidence::kLateMs});  // until then it may be a quote that is late
  EXPECT_EQ(ask(world, test::real_request(tpm, id, world)), Reason::kBootWentBack);
  while (value_of(tpm.boot_time()).clock.reset_count <= enrolled + 2) {
    swtpm.reboot();
    tpm = swtpm.open();
  }
  EXPECT_EQ(ask(world, test::real_request(tpm, id, world)), Reason::kDeviceStopped);
  // What waited is not granted either.
  world.approve_all(waiting);
  EXPECT_THAT(record::compose_grant(world.state, waiting.id, {}, world.now, crypto::random_nonce()),
              FailsWith(Reason::kDeviceStopped));

  // Administrators have looked, and enrol it again.
  EXPECT_THAT(enrol(tpm, keys[0], "laptop"), Succeeds());
  EXPECT_EQ(ask(world, test::real_request(tpm, id, world)), std::nullopt);
}

TEST_F(OneMachine, WithASlowedClockIsSeenFromCaseToCase) {
  const DeviceId id = value_of(enrol(tpm, keys[0], "laptop"));
  EXPECT_EQ(ask(world, test::real_request(tpm, id, world)), std::nullopt);
  world.advance(std::chrono::minutes{9});  // the TPM's clock stands as good as still meanwhile
  EXPECT_EQ(ask(world, test::real_request(tpm, id, world)), std::nullopt);
  world.advance(std::chrono::minutes{2});  // the quotes may have been late: 2 %, and two and a half minutes
  EXPECT_EQ(ask(world, test::real_request(tpm, id, world)), Reason::kClockRate);
  swtpm.reboot();
  tpm = swtpm.open();
  EXPECT_EQ(ask(world, test::real_request(tpm, id, world)), std::nullopt);
}

}  // namespace
}  // namespace sallyport

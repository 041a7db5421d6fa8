#include <gmock/gmock.h>
#include <openssl/evp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>

#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"
#include "attestation/crypto/private_key.h"
#include "attestation/crypto/random.h"
#include "attestation/evidence/endorsement.h"
#include "attestation/evidence/tpm_firmware.h"
#include "attestation/tpm/command.h"
#include "attestation/tpm/next_step.h"
#include "attestation/tpm/queue.h"
#include "attestation/tpm/transport.h"
#include "tests/support/matchers.h"
#include "tests/support/swtpm.h"

// What attestation/tpm needs of a TPM. The device is an emulated one, or what SALLYPORT_TCTI names; one that
// is not a simulator is left alone unless SALLYPORT_REAL_DEVICE=1, and is never reset, extended or filled.

namespace sallyport {
namespace {

using evidence::PcrSelection;
using evidence::SessionKeyUse;
using test::FailsWith;
using test::Succeeds;
using test::TemporarySwtpm;
using test::value_of;
using testing::ElementsAre;
using testing::IsEmpty;
using tpm::Cc;
using tpm::Command;
using tpm::Device;
using tpm::Handle;
using tpm::SessionKey;
using tpm::Tpm;

const Origin kOrigin{"us.sallyport.corp.example/log/1"};

Digest256 digest_of(std::string_view text) {
  return crypto::sha256(as_bytes(text));
}

// The keyguard's part: it signs leases.
struct Keyguard {
  crypto::PrivateKey key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);

  tpm::Lease permit(const ByteArray<32>& nonce, const Digest256& cp_hash, const Digest256& policy_ref,
                    std::uint32_t seconds = 30) const {
    const Digest256 hash = value_of(evidence::lease_hash(nonce, seconds, cp_hash, policy_ref));
    return {seconds, value_of(key.sign_p256(hash))};
  }
  tpm::Lease permit_signature(const tpm::LeaseSession& session, const SessionKey& key_to_use,
                              const Digest256& digest, std::uint32_t seconds = 30) const {
    return permit(session.nonce_tpm(), evidence::cp_hash_sign(key_to_use.name, digest),
                  key_to_use.policy.policy_ref, seconds);
  }
};

SessionKey make_key(Tpm& tpm, const Keyguard& keyguard, SessionKeyUse use = SessionKeyUse::kSign,
                    const CaseId& case_id = CaseId{ByteArray<16>{7}}) {
  const auto selection = PcrSelection::standard();
  const auto boot = value_of(tpm.boot_time());
  const evidence::SessionKeyPolicy policy{
      selection,
      evidence::pcr_digest(value_of(tpm.read_pcrs(selection))),
      boot.clock.reset_count,
      boot.clock.restart_count,
      value_of(evidence::lease_key_public(keyguard.key.public_key())).name,
      evidence::lease_policy_ref(kOrigin, case_id)};
  return value_of(tpm.create_session_key(use, policy, keyguard.key.public_key()));
}

crypto::PublicKey public_key_of(const SessionKey& key) {
  return value_of(evidence::parse_public_area(key.public_area)).key;
}

Result<crypto::Signature64> sign_once(Tpm& tpm, const Keyguard& keyguard, const SessionKey& key,
                                      const Digest256& digest) {
  SP_TRY(auto session, tpm.begin_lease());
  const auto lease = keyguard.permit_signature(session, key, digest);
  return tpm.sign_with_lease(std::move(session), key, lease, digest);
}

// Interposed calls `before` ahead of each command: what the rest of the machine does to the TPM meanwhile.
class Interposed final : public tpm::Transport {
 public:
  Interposed(std::unique_ptr<Transport> inner, std::function<void(Cc)> before)
      : inner_(std::move(inner)), before_(std::move(before)) {}
  Result<Bytes> exchange(ByteView command) override {
    Reader in{command.subspan(6)};
    before_(static_cast<Cc>(value_of(in.u32())));
    return inner_->exchange(command);
  }
  bool is_managed() const override { return inner_->is_managed(); }
  bool is_simulator() const override { return inner_->is_simulator(); }

 private:
  std::unique_ptr<Transport> inner_;
  std::function<void(Cc)> before_;
};

// ---- any TPM ----

class TpmContract : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* chosen = std::getenv("SALLYPORT_TCTI")) {
      const std::string tcti{chosen};
      const bool simulator = tcti.starts_with("swtpm") || tcti.starts_with("mssim");
      const char* real = std::getenv("SALLYPORT_REAL_DEVICE");
      if (!simulator && (real == nullptr || std::string_view{real} != "1")) {
        const char* required = std::getenv("SALLYPORT_REQUIRE_DEVICES");
        if (required != nullptr && std::string_view{required} == "1")
          FAIL() << tcti << " is required, and not allowed";
        GTEST_SKIP() << "SALLYPORT_REAL_DEVICE=1 is needed to use " << tcti;
      }
      tpm_.emplace(value_of(Tpm::open(tcti)));
    } else {
      swtpm_ = std::make_unique<TemporarySwtpm>();
      tpm_.emplace(swtpm_->open());
    }
    handles_before_ = value_of(tpm_->loaded_handles());
    pcrs_before_ = value_of(tpm_->read_pcrs(PcrSelection::standard()));
  }
  void TearDown() override {
    if (!tpm_.has_value()) return;
    EXPECT_EQ(value_of(tpm_->loaded_handles()), handles_before_) << "a handle leaked";
    EXPECT_EQ(value_of(tpm_->read_pcrs(PcrSelection::standard())), pcrs_before_) << "PCRs changed";
  }
  Tpm& tpm() { return *tpm_; }

  std::unique_ptr<TemporarySwtpm> swtpm_;
  std::optional<Tpm> tpm_;
  std::vector<Handle> handles_before_;
  std::vector<Digest256> pcrs_before_;
  Keyguard keyguard_;
};

TEST_F(TpmContract, QuoteIsVerifiedByEvidence) {
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm().attestation_key())));
  const auto selection = value_of(PcrSelection::from_mask(0x00FFFFFF));
  const Digest256 binding = digest_of("a binding");
  const auto quote = value_of(tpm().quote(selection, binding));
  EXPECT_EQ(quote.pcrs.size(), 24U);
  EXPECT_THAT(evidence::verify_quote(quote.evidence, ak, binding, selection, quote.pcrs), Succeeds());
  EXPECT_THAT(evidence::verify_quote(quote.evidence, ak, digest_of("another"), selection, quote.pcrs),
              FailsWith(Reason::kQuoteNonce));
}

TEST_F(TpmContract, QuoteTellsTheCountersAndFirmwareThatTheTpmTells) {
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm().attestation_key())));
  const auto selection = PcrSelection::standard();
  const Digest256 binding = digest_of("a binding");
  const auto quote = value_of(tpm().quote(selection, binding));
  const auto verified = value_of(evidence::verify_quote(quote.evidence, ak, binding, selection));
  const auto boot = value_of(tpm().boot_time());
  EXPECT_EQ(verified.clock().reset_count, boot.clock.reset_count);
  EXPECT_EQ(verified.clock().restart_count, boot.clock.restart_count);
  EXPECT_EQ(verified.firmware_version(), boot.firmware_version);
  EXPECT_LE(verified.clock().clock_ms, boot.clock.clock_ms);
  EXPECT_GE(boot.clock.reset_count, 1U);
  EXPECT_THAT(boot.manufacturer, testing::Not(testing::IsEmpty()));
}

TEST_F(TpmContract, AttestationKeyIsTheSameOnEveryConnection) {
  const Bytes first = value_of(tpm().attestation_key());
  EXPECT_EQ(value_of(tpm().attestation_key()), first);
  if (swtpm_ != nullptr) {
    EXPECT_EQ(value_of(swtpm_->open().attestation_key()), first);
  }
}

TEST_F(TpmContract, CertifiedSessionKeyIsVerified) {
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm().attestation_key())));
  for (const auto use : {SessionKeyUse::kSign, SessionKeyUse::kAgree}) {
    const SessionKey key = make_key(tpm(), keyguard_, use);
    const Digest256 binding = digest_of("a key's binding");
    const auto certified = value_of(tpm().certify(key, binding));
    const auto verified = evidence::verify_certify(certified, ak, binding, key.public_area, use, key.policy);
    ASSERT_THAT(verified, Succeeds());
    EXPECT_EQ(verified->name(), key.name);
    auto other = key.policy;
    other.reset_count += 1;
    EXPECT_THAT(evidence::verify_certify(certified, ak, binding, key.public_area, use, other),
                FailsWith(Reason::kKeyPolicy));
  }
}

TEST_F(TpmContract, SessionKeyIsOnePerCase) {
  const SessionKey one = make_key(tpm(), keyguard_);
  EXPECT_EQ(make_key(tpm(), keyguard_).public_area, one.public_area);
  EXPECT_NE(make_key(tpm(), keyguard_, SessionKeyUse::kSign, CaseId{ByteArray<16>{8}}).name, one.name);
}

TEST_F(TpmContract, SessionKeyWithAPolicyForAnotherLeaseKeyIsRefused) {
  const SessionKey key = make_key(tpm(), keyguard_);
  const Keyguard other;
  EXPECT_THAT(tpm().create_session_key(SessionKeyUse::kSign, key.policy, other.key.public_key()),
              FailsWith(Reason::kKeyPolicy));
}

TEST_F(TpmContract, LeasedSignatureVerifies) {
  const SessionKey key = make_key(tpm(), keyguard_);
  for (const std::string_view text : {"first login", "second login"}) {
    const auto signature = sign_once(tpm(), keyguard_, key, digest_of(text));
    ASSERT_THAT(signature, Succeeds());
    EXPECT_THAT(crypto::verify_p256(public_key_of(key), digest_of(text), *signature), Succeeds());
  }
}

TEST_F(TpmContract, SeveralLeasesCanBeUnderWayAtOnce) {
  const SessionKey key = make_key(tpm(), keyguard_);
  const Digest256 digest = digest_of("login");
  std::vector<tpm::LeaseSession> waiting;
  for (int i = 0; i < 8; ++i) waiting.push_back(value_of(tpm().begin_lease()));
  for (auto& session : waiting) {
    const auto lease = keyguard_.permit_signature(session, key, digest);
    EXPECT_THAT(tpm().sign_with_lease(std::move(session), key, lease, digest), Succeeds());
  }
}

TEST_F(TpmContract, SessionsWhoseLeaseNeverCameGiveTheirSlotBack) {
  for (int i = 0; i < 80; ++i) EXPECT_THAT(tpm().begin_lease(), Succeeds());  // 64 slots
}

// The private part of the agreement in software.
Bytes agree_in_software(EVP_PKEY* ours, const crypto::PublicKey& theirs) {
  const crypto::PkeyCtxPtr context{EVP_PKEY_CTX_new(ours, nullptr)};
  EXPECT_EQ(EVP_PKEY_derive_init(context.get()), 1);
  EXPECT_EQ(EVP_PKEY_derive_set_peer(context.get(), theirs.pkey()), 1);
  Bytes x(32);
  std::size_t size = x.size();
  EXPECT_EQ(EVP_PKEY_derive(context.get(), x.data(), &size), 1);
  EXPECT_EQ(size, 32U);
  return x;
}

TEST_F(TpmContract, LeasedAgreementIsThatOfSoftware) {
  const SessionKey key = make_key(tpm(), keyguard_, SessionKeyUse::kAgree);
  const crypto::PkeyPtr ephemeral{EVP_EC_gen("P-256")};
  Bytes point(65);
  std::size_t size = 0;
  ASSERT_EQ(EVP_PKEY_get_octet_string_param(ephemeral.get(), "pub", point.data(), point.size(), &size), 1);
  ASSERT_EQ(size, 65U);
  auto session = value_of(tpm().begin_lease());
  const auto lease = keyguard_.permit(
      session.nonce_tpm(), value_of(evidence::cp_hash_ecdh_zgen(key.name, point)), key.policy.policy_ref);
  const auto shared = tpm().agree_with_lease(std::move(session), key, lease, point);
  ASSERT_THAT(shared, Succeeds());
  EXPECT_TRUE(equal(shared->expose(), agree_in_software(ephemeral.get(), public_key_of(key))));
}

TEST_F(TpmContract, LeaseForAnotherDigestIsRefused) {
  const SessionKey key = make_key(tpm(), keyguard_);
  auto session = value_of(tpm().begin_lease());
  const auto lease = keyguard_.permit_signature(session, key, digest_of("a login"));
  EXPECT_THAT(tpm().sign_with_lease(std::move(session), key, lease, digest_of("another login")),
              FailsWith(Code::kUnverified));
}

TEST_F(TpmContract, LeaseForAnotherKeyIsRefused) {
  const SessionKey key = make_key(tpm(), keyguard_);
  const SessionKey other = make_key(tpm(), keyguard_, SessionKeyUse::kSign, CaseId{ByteArray<16>{8}});
  auto session = value_of(tpm().begin_lease());
  const auto lease = keyguard_.permit(
      session.nonce_tpm(), evidence::cp_hash_sign(other.name, digest_of("a login")), key.policy.policy_ref);
  EXPECT_THAT(tpm().sign_with_lease(std::move(session), key, lease, digest_of("a login")),
              FailsWith(Code::kUnverified));
}

TEST_F(TpmContract, LeaseOfAnotherSessionIsRefused) {
  const SessionKey key = make_key(tpm(), keyguard_);
  const Digest256 digest = digest_of("a login");
  auto first = value_of(tpm().begin_lease());
  auto second = value_of(tpm().begin_lease());
  const auto lease = keyguard_.permit_signature(first, key, digest);
  EXPECT_THAT(tpm().sign_with_lease(std::move(second), key, lease, digest), FailsWith(Code::kUnverified));
  EXPECT_THAT(tpm().sign_with_lease(std::move(first), key, lease, digest), Succeeds());
}

TEST_F(TpmContract, LeaseOfAnotherCaseIsRefused) {
  const SessionKey key = make_key(tpm(), keyguard_);
  const Digest256 digest = digest_of("a login");
  auto session = value_of(tpm().begin_lease());
  const auto lease = keyguard_.permit(session.nonce_tpm(), evidence::cp_hash_sign(key.name, digest),
                                      evidence::lease_policy_ref(kOrigin, CaseId{ByteArray<16>{9}}));
  EXPECT_THAT(tpm().sign_with_lease(std::move(session), key, lease, digest), FailsWith(Code::kUnverified));
}

TEST_F(TpmContract, LeaseWithAStretchedExpirationIsRefused) {
  const SessionKey key = make_key(tpm(), keyguard_);
  const Digest256 digest = digest_of("a login");
  auto session = value_of(tpm().begin_lease());
  auto lease = keyguard_.permit_signature(session, key, digest, 10);
  lease.expiration_seconds = 30;
  EXPECT_THAT(tpm().sign_with_lease(std::move(session), key, lease, digest), FailsWith(Code::kUnverified));
}

TEST_F(TpmContract, LeaseOfAStrangerIsRefused) {
  const SessionKey key = make_key(tpm(), keyguard_);
  const Keyguard stranger;
  EXPECT_THAT(sign_once(tpm(), stranger, key, digest_of("a login")), FailsWith(Code::kUnverified));
}

TEST_F(TpmContract, LeaseOfAStrangerIsRefusedAlsoWhenTheKeyIsLoadedAsTheKeyguards) {
  SessionKey key = make_key(tpm(), keyguard_);
  const Keyguard stranger;
  key.lease_key = stranger.key.public_key();  // PolicySigned holds, but makes another policy digest
  EXPECT_THAT(sign_once(tpm(), stranger, key, digest_of("a login")), FailsWith(Code::kUnverified));
}

TEST_F(TpmContract, ExpiredLeaseIsRefused) {
  const SessionKey key = make_key(tpm(), keyguard_);
  const Digest256 digest = digest_of("a login");
  auto session = value_of(tpm().begin_lease());
  const auto lease = keyguard_.permit_signature(session, key, digest, 1);
  const auto start = value_of(tpm().boot_time()).time_ms;
  while (value_of(tpm().boot_time()).time_ms < start + 1100)
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  const auto refused = tpm().sign_with_lease(std::move(session), key, lease, digest);
  ASSERT_THAT(refused, FailsWith(Reason::kLeaseExpired));
  EXPECT_EQ(refused.error().next, Next::kReopenSession);
}

TEST_F(TpmContract, QueueServesManyThreads) {
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm().attestation_key())));
  const auto selection = PcrSelection::standard();
  {
    tpm::TpmQueue queue{std::move(*tpm_)};
    std::vector<std::thread> threads;
    std::atomic<int> verified = 0;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&, i] {
        const Digest256 binding = digest_of("thread " + std::to_string(i));
        for (int n = 0; n < 5; ++n) {
          const auto quote = queue.run([&](Tpm& device) { return device.quote(selection, binding); });
          if (quote.has_value() &&
              evidence::verify_quote(quote->evidence, ak, binding, selection).has_value())
            ++verified;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(verified, 30);
    tpm_.emplace(queue.run([](Tpm& device) { return std::move(device); }));
  }
}
TEST_F(TpmContract, AnRsaAttestationKeyQuotesAndCertifies) {
  const Bytes p256 = value_of(tpm().attestation_key());
  tpm().use_ak(crypto::KeyAlgorithm::kRsa2048);
  const Bytes area = value_of(tpm().attestation_key());
  EXPECT_NE(area, p256);
  const auto ak = value_of(evidence::parse_attestation_key(area));
  EXPECT_EQ(ak.key().algorithm(), crypto::KeyAlgorithm::kRsa2048);
  const Digest256 binding = digest_of("a binding");
  const auto selection = PcrSelection::standard();
  const auto quote = value_of(tpm().quote(selection, binding));
  EXPECT_THAT(evidence::verify_quote(quote.evidence, ak, binding, selection, quote.pcrs), Succeeds());
  const auto of_p256 = value_of(evidence::parse_attestation_key(p256));
  EXPECT_THAT(evidence::verify_quote(quote.evidence, of_p256, binding, selection),
              FailsWith(Reason::kQuoteSignature));
  const SessionKey key = make_key(tpm(), keyguard_);
  const auto certified = value_of(tpm().certify(key, binding));
  EXPECT_THAT(
      evidence::verify_certify(certified, ak, binding, key.public_area, SessionKeyUse::kSign, key.policy),
      Succeeds());
  tpm().use_ak(crypto::KeyAlgorithm::kP256);
  EXPECT_EQ(value_of(tpm().attestation_key()), p256);
}

// What the EK certificate and a quote say of an emulated TPM's firmware.
TEST_F(TpmContract, FirmwareIsInNoRowOfTheTable) {
  if (swtpm_ == nullptr) GTEST_SKIP() << "for the emulated TPM: of a real one it is the answer";
  const auto boot = value_of(tpm().boot_time());
  EXPECT_EQ(boot.firmware_version, 0x20191023'00163636U);
  const UnixMillis ever{std::numeric_limits<std::uint64_t>::max()};
  EXPECT_THAT(
      evidence::check_tpm_firmware("id:00001014", boot.firmware_version, crypto::KeyAlgorithm::kP256, ever),
      Succeeds());
}

// One machine is one identity, whichever attestation key it enrols.
TEST_F(TpmContract, IdentityIsOneForEachAttestationKeyAndConnection) {
  const Digest256 binding = digest_of("a binding");
  std::optional<evidence::TpmName> identity;
  for (const auto algorithm : {crypto::KeyAlgorithm::kP256, crypto::KeyAlgorithm::kRsa2048}) {
    tpm().use_ak(algorithm);
    const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm().attestation_key())));
    for (int i = 0; i < 2; ++i) {
      const auto proof = value_of(tpm().prove_identity(binding));
      const auto verified = evidence::verify_identity(proof, ak, binding);
      ASSERT_THAT(verified, Succeeds());
      if (!identity) identity = verified->name();
      EXPECT_EQ(verified->name(), *identity);
      EXPECT_THAT(evidence::verify_identity(proof, ak, digest_of("another")), FailsWith(Reason::kQuoteNonce));
    }
  }
  tpm().use_ak(crypto::KeyAlgorithm::kP256);
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm().attestation_key())));
  EXPECT_EQ(*identity, ak.name());  // this project's own AK is made without a `unique`
}

// ---- endorsement keys ----

struct EkCase {
  TemporarySwtpm::Ek ek;
  std::vector<crypto::KeyAlgorithm> algorithms;  // best first
  const char* name;
};
class TpmEndorsement : public testing::TestWithParam<EkCase> {};

evidence::TpmRoots roots_of(const TemporarySwtpm& swtpm) {
  evidence::TpmRoots roots{{value_of(crypto::Certificate::parse_der(swtpm.vendor_root()))}, {}};
  for (const Bytes& der : swtpm.intermediates())
    roots.intermediates.push_back(value_of(crypto::Certificate::parse_der(der)));
  return roots;
}

TEST_P(TpmEndorsement, LeadsToItsVendorAndActivatesCredentials) {
  TemporarySwtpm swtpm{GetParam().ek};
  Tpm tpm = swtpm.open();
  const auto before = value_of(tpm.loaded_handles());
  const auto all = value_of(tpm.endorsements());
  ASSERT_EQ(all.size(), GetParam().algorithms.size());
  EXPECT_EQ(value_of(tpm.endorsement()).public_area, all.front().public_area);
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm.attestation_key())));
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto verified =
        evidence::verify_endorsement(all[i].certificate, all[i].chain, all[i].public_area, roots_of(swtpm),
                                     UnixMillis{static_cast<std::uint64_t>(now.count())});
    ASSERT_THAT(verified, Succeeds());
    EXPECT_EQ(verified->ek.form.algorithm, GetParam().algorithms[i]);

    const auto secret = crypto::random_array<32>();
    const auto blob =
        value_of(evidence::make_credential(verified->ek, ak.name(), secret, crypto::random_array<64>()));
    const auto activated = tpm.activate_credential(all[i].public_area, blob);
    ASSERT_THAT(activated, Succeeds());
    EXPECT_TRUE(equal(activated->expose(), secret));

    const auto foreign_name = evidence::name_of(verified->ek);
    const auto foreign =
        value_of(evidence::make_credential(verified->ek, foreign_name, secret, crypto::random_array<64>()));
    EXPECT_THAT(tpm.activate_credential(all[i].public_area, foreign),
                FailsWith(Reason::kCredentialChallenge));
    auto broken = blob;
    broken.encrypted_secret.back() ^= 1;
    EXPECT_THAT(tpm.activate_credential(all[i].public_area, broken), FailsWith(Reason::kCredentialChallenge));
    broken = blob;
    broken.id_object.back() ^= 1;
    EXPECT_THAT(tpm.activate_credential(all[i].public_area, broken), FailsWith(Reason::kCredentialChallenge));
  }
  EXPECT_EQ(value_of(tpm.loaded_handles()), before) << "a handle leaked";
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, TpmEndorsement,
    testing::Values(EkCase{TemporarySwtpm::Ek::kP256, {crypto::KeyAlgorithm::kP256}, "P256"},
                    EkCase{TemporarySwtpm::Ek::kP384, {crypto::KeyAlgorithm::kP384}, "P384"},
                    EkCase{TemporarySwtpm::Ek::kRsa2048, {crypto::KeyAlgorithm::kRsa2048}, "Rsa2048"},
                    EkCase{TemporarySwtpm::Ek::kManufactured,
                           {crypto::KeyAlgorithm::kP384, crypto::KeyAlgorithm::kRsa2048},
                           "Manufactured"}),
    [](const testing::TestParamInfo<EkCase>& one) { return one.param.name; });

// Nor does it change with the endorsement key.
TEST(TpmIdentity, IsOneForAllEndorsementKeysOfAMachine) {
  TemporarySwtpm swtpm{TemporarySwtpm::Ek::kManufactured}, another;
  Tpm tpm = swtpm.open();
  const Digest256 binding = digest_of("a binding");
  const auto identity = [&binding](Tpm& of) {
    const auto ak = value_of(evidence::parse_attestation_key(value_of(of.attestation_key())));
    return value_of(evidence::verify_identity(value_of(of.prove_identity(binding)), ak, binding)).name();
  };
  const auto all = value_of(tpm.endorsements());
  ASSERT_EQ(all.size(), 2U);
  EXPECT_NE(all[0].public_area, all[1].public_area);
  const auto first = identity(tpm);
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm.attestation_key())));
  for (const auto& ek : all) {  // the same AK is activated with either, so either enrols this identity
    const auto secret = crypto::random_array<32>();
    const auto blob =
        value_of(evidence::make_credential(value_of(evidence::parse_public_area(ek.public_area)), ak.name(),
                                           secret, crypto::random_array<64>()));
    EXPECT_THAT(tpm.activate_credential(ek.public_area, blob), Succeeds());
  }
  Tpm other = another.open();
  EXPECT_NE(identity(other), first);
  swtpm.clear();
  EXPECT_EQ(identity(tpm), first);
  swtpm.reboot();
  EXPECT_EQ(identity(tpm), first);
}

TEST(TpmEndorsementOfOthers, CannotBeActivated) {
  TemporarySwtpm ours, theirs;
  Tpm tpm = ours.open();
  const auto ek = value_of(theirs.open().endorsement());
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm.attestation_key())));
  const auto blob =
      value_of(evidence::make_credential(value_of(evidence::parse_public_area(ek.public_area)), ak.name(),
                                         crypto::random_array<32>(), crypto::random_array<64>()));
  EXPECT_THAT(tpm.activate_credential(ek.public_area, blob), FailsWith(Reason::kEkUnsupported));
  // Nor with our own key: the blob is not for it.
  EXPECT_THAT(tpm.activate_credential(value_of(tpm.endorsement()).public_area, blob),
              FailsWith(Reason::kCredentialChallenge));
}

// ---- what changes a TPM: emulated ones only ----

class TpmDestructive : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_THAT(value_of(swtpm_.open().loaded_handles()), IsEmpty()) << "a handle leaked";
  }
  std::unique_ptr<tpm::Transport> transport() { return value_of(tpm::open_tcti(swtpm_.tcti())); }
  TemporarySwtpm swtpm_;
  Keyguard keyguard_;
};

TEST_F(TpmDestructive, AttestationAndEndorsementKeysOutliveRebootAndClear) {
  Tpm tpm = swtpm_.open();
  const Bytes ak = value_of(tpm.attestation_key());
  const Bytes ek = value_of(tpm.endorsement()).public_area;
  for (const auto& change :
       std::initializer_list<std::function<void()>>{[&] { swtpm_.reboot(); }, [&] { swtpm_.suspend(); },
                                                    [&] { swtpm_.power_cut(); }, [&] { swtpm_.clear(); }}) {
    change();
    EXPECT_EQ(value_of(tpm.attestation_key()), ak);
    EXPECT_EQ(value_of(tpm.endorsement()).public_area, ek);
  }
}

std::string socket_of(const std::string& tcti) {
  return tcti.substr(std::string_view{"swtpm:path="}.size());
}

class UnixSocket {
 public:
  explicit UnixSocket(const std::string& path) {
    address_.sun_family = AF_UNIX;
    std::strncpy(address_.sun_path, path.c_str(), sizeof address_.sun_path - 1);
  }
  ~UnixSocket() { close(); }
  UnixSocket(const UnixSocket&) = delete;
  UnixSocket& operator=(const UnixSocket&) = delete;
  void connect() {
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address_), sizeof address_), 0);
  }
  void listen() {
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address_), sizeof address_), 0);
    EXPECT_EQ(::listen(fd_, 8), 0);
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address_{};
};

// Short times, and how often it was said that the TPM is waited for.
struct Impatience {
  int told = 0;
  tpm::Patience patience() {
    return {std::chrono::milliseconds{400}, std::chrono::milliseconds{50}, [this] { ++told; }};
  }
};

TEST_F(TpmDestructive, ATpmThatAnotherProgramHoldsIsBusyUntilItIsLetGo) {
  const Bytes command = tpm::encode(Command{Cc::kReadClock});
  Impatience impatience;
  const auto ours = value_of(tpm::open_tcti(swtpm_.tcti(), impatience.patience()));
  EXPECT_THAT(ours->exchange(command), Succeeds());
  EXPECT_EQ(impatience.told, 0);

  UnixSocket other{socket_of(swtpm_.tcti())};
  other.connect();
  EXPECT_THAT(ours->exchange(command), FailsWith(Reason::kTpmBusy));
  EXPECT_EQ(impatience.told, 1);
  // It owes an answer: nothing is asked, and nobody waits, until that has come.
  const auto began = std::chrono::steady_clock::now();
  EXPECT_THAT(ours->exchange(command), FailsWith(Reason::kTpmBusy));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::milliseconds{200});
  EXPECT_EQ(impatience.told, 1);

  other.close();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  auto answer = ours->exchange(command);
  while (!answer.has_value() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
    answer = ours->exchange(command);
  }
  ASSERT_THAT(answer, Succeeds());
  EXPECT_THAT(tpm::parse_response(Command{Cc::kReadClock}, *answer), Succeeds());
}

TEST(TpmSilent, ATpmThatNeverAnswersIsBusyAtTheDeadline) {
  const test::TemporaryDirectory directory;
  const std::string path = (directory.path() / "s").string();
  UnixSocket data{path}, control{path + ".ctrl"};
  data.listen();
  control.listen();
  Impatience impatience;
  auto opened = Tpm::open("swtpm:path=" + path, impatience.patience());
  if (opened.has_value()) {
    EXPECT_THAT(opened->boot_time(), FailsWith(Reason::kTpmBusy));
  } else {
    EXPECT_THAT(opened, FailsWith(Reason::kTpmBusy));
  }
  EXPECT_EQ(impatience.told, 1);
}

// A TPM that is away for one kind of command.
class AwayFor final : public tpm::Transport {
 public:
  AwayFor(std::unique_ptr<tpm::Transport> inner, Cc command) : inner_(std::move(inner)), command_(command) {}
  Result<Bytes> exchange(ByteView bytes) override {
    Reader in{bytes.subspan(6)};
    if (value_of(in.u32()) == static_cast<std::uint32_t>(command_))
      return Error{Code::kUnavailable, Reason::kTpmBusy, "away"};
    return inner_->exchange(bytes);
  }
  bool is_managed() const override { return inner_->is_managed(); }
  bool is_simulator() const override { return inner_->is_simulator(); }

 private:
  std::unique_ptr<tpm::Transport> inner_;
  Cc command_;
};

TEST_F(TpmDestructive, ABusyTpmIsNotOneWithoutACertificate) {
  Tpm tpm{std::make_unique<AwayFor>(transport(), Cc::kCreatePrimary)};
  EXPECT_THAT(tpm.endorsement(), FailsWith(Reason::kTpmBusy));
}

TEST_F(TpmDestructive, RebootAndSuspendShowInTheCounters) {
  Tpm tpm = swtpm_.open();
  const auto first = value_of(tpm.boot_time()).clock;
  swtpm_.reboot();
  const auto second = value_of(tpm.boot_time()).clock;
  EXPECT_EQ(second.reset_count, first.reset_count + 1);
  EXPECT_EQ(second.restart_count, 0U);
  swtpm_.extend_pcr(14, digest_of("mok"));
  const auto pcrs = value_of(tpm.read_pcrs(PcrSelection::standard()));
  swtpm_.suspend();
  const auto third = value_of(tpm.boot_time()).clock;
  EXPECT_EQ(third.reset_count, second.reset_count);
  EXPECT_EQ(third.restart_count, 1U);
  EXPECT_EQ(value_of(tpm.read_pcrs(PcrSelection::standard())), pcrs);
}

TEST_F(TpmDestructive, PcrExtendBetweenPolicyAndUseAsksForANewSession) {
  bool extend = true;
  Tpm tpm{std::make_unique<Interposed>(transport(), [&](Cc command) {
    if (command == Cc::kSign && std::exchange(extend, false)) swtpm_.extend_pcr(10, digest_of("IMA"));
  })};
  const SessionKey key = make_key(tpm, keyguard_);
  const auto refused = sign_once(tpm, keyguard_, key, digest_of("a login"));
  ASSERT_THAT(refused, FailsWith(Reason::kTpmPcrChanged));
  EXPECT_EQ(refused.error().next, Next::kReopenSession);
  EXPECT_EQ(refused.error().device_rc, 0x128U);
  EXPECT_THAT(sign_once(tpm, keyguard_, key, digest_of("a login")), Succeeds())
      << "PCR 10 is not in the policy";
}

TEST_F(TpmDestructive, ExtendOfAQuotedPcrEndsTheKey) {
  Tpm tpm = swtpm_.open();
  const SessionKey key = make_key(tpm, keyguard_);
  swtpm_.extend_pcr(7, digest_of("another authority"));
  EXPECT_THAT(sign_once(tpm, keyguard_, key, digest_of("a login")), FailsWith(Reason::kBootState));
}

TEST_F(TpmDestructive, RebootEndsTheKey) {
  Tpm tpm = swtpm_.open();
  const SessionKey key = make_key(tpm, keyguard_);
  auto held = value_of(tpm.begin_lease());
  swtpm_.reboot();
  EXPECT_THAT(sign_once(tpm, keyguard_, key, digest_of("a login")), FailsWith(Reason::kBootCounters));
  EXPECT_THAT(tpm.certify(key, digest_of("binding")), FailsWith(Reason::kBootCounters));
  // The same template is another key now: the seed of the NULL hierarchy is new.
  const auto again = value_of(tpm.create_session_key(SessionKeyUse::kSign, key.policy, key.lease_key));
  EXPECT_NE(again.public_area, key.public_area);
  EXPECT_THAT(sign_once(tpm, keyguard_, again, digest_of("a login")), FailsWith(Reason::kBootCounters));
  // A session from before the reboot is worth nothing.
  const SessionKey fresh = make_key(tpm, keyguard_);
  const auto lease = keyguard_.permit_signature(held, fresh, digest_of("a login"));
  EXPECT_FALSE(tpm.sign_with_lease(std::move(held), fresh, lease, digest_of("a login")).has_value());
}

TEST_F(TpmDestructive, SuspendEndsTheKey) {
  Tpm tpm = swtpm_.open();
  const SessionKey key = make_key(tpm, keyguard_);
  swtpm_.suspend();
  EXPECT_THAT(sign_once(tpm, keyguard_, key, digest_of("a login")), FailsWith(Reason::kBootCounters));
}

TEST_F(TpmDestructive, QuoteAndValuesAgreeWhilePcrsMove) {
  int extends = 3;
  Tpm tpm{std::make_unique<Interposed>(transport(), [&](Cc command) {
    if (command == Cc::kQuote && extends-- > 0) swtpm_.extend_pcr(0, digest_of("late"));
  })};
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm.attestation_key())));
  const auto selection = PcrSelection::standard();
  const auto quote = value_of(tpm.quote(selection, digest_of("binding")));
  EXPECT_THAT(evidence::verify_quote(quote.evidence, ak, digest_of("binding"), selection, quote.pcrs),
              Succeeds());
}

TEST_F(TpmDestructive, QuoteGivesUpWhenPcrsNeverStandStill) {
  Tpm tpm{std::make_unique<Interposed>(transport(), [&](Cc command) {
    if (command == Cc::kQuote) swtpm_.extend_pcr(0, digest_of("late"));
  })};
  EXPECT_THAT(tpm.quote(PcrSelection::standard(), digest_of("binding")), FailsWith(Reason::kTpmPcrChanged));
}

TEST_F(TpmDestructive, ObjectsOfKilledProgramsAreFlushedWhenTheyFillTheTpm) {
  Tpm tpm = swtpm_.open();
  Command create{Cc::kCreatePrimary};
  create.handle(tpm::kNull).authorize().returns_handle();
  create.parameters.prefixed16(Writer{}.u16(0).u16(0).bytes())
      .prefixed16(evidence::encode_for_create(evidence::ak_template()))
      .u16(0)
      .u32(0);
  for (int i = 0; i < 3; ++i) swtpm_.command(tpm::encode(create));
  EXPECT_EQ(value_of(tpm.loaded_handles()).size(), 3U);
  EXPECT_THAT(tpm.quote(PcrSelection::standard(), digest_of("binding")), Succeeds());
}

TEST_F(TpmDestructive, ThreeProgramsCanShareOneTpm) {
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      Tpm tpm = swtpm_.open();
      const SessionKey key = make_key(tpm, keyguard_);
      for (int n = 0; n < 5; ++n) {
        const auto quote = tpm.quote(PcrSelection::standard(), digest_of("binding"));
        const auto signature = sign_once(tpm, keyguard_, key, digest_of("a login"));
        EXPECT_THAT(quote, Succeeds());
        EXPECT_THAT(signature, Succeeds());
        good += quote.has_value() && signature.has_value() ? 2 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 30);
}

// ---- the attacker's own commands ----

// What a program that does not use class Tpm can do with a session key's context.
class TpmAttacker : public TpmDestructive {
 protected:
  Device device_{value_of(tpm::open_tcti(swtpm_.tcti())), std::chrono::seconds{1}};

  // Runs TPM2_CreatePrimary of a template with a `unique` in the endorsement hierarchy; audited when asked.
  std::pair<tpm::Loaded, Bytes> create(ByteView in_public, std::optional<Handle> audit = {}) {
    Command command{Cc::kCreatePrimary};
    command.handle(tpm::kEndorsement).authorize().returns_handle();
    if (audit) command.audit(*audit);
    command.parameters.prefixed16(Writer{}.u16(0).u16(0).bytes()).prefixed16(in_public).u16(0).u32(0);
    auto response = value_of(device_.run(command));
    return {tpm::Loaded{device_, response.handle}, std::move(response.parameters)};
  }
  static Bytes area_of(ByteView created) {
    Reader in{created};
    return to_bytes(value_of(in.prefixed16(1024)));
  }
  tpm::Loaded audit_session() {
    Command start{Cc::kStartAuthSession};
    start.handle(tpm::kNull).handle(tpm::kNull).returns_handle();
    start.parameters.prefixed16(crypto::random_array<32>())
        .u16(0)
        .u8(0)
        .u16(tpm::kAlgNull)
        .u16(tpm::kAlgSha256);
    return tpm::Loaded{device_, value_of(device_.run(start)).handle};
  }
  evidence::SignedAttest audit_digest(Handle ak, Handle session, const Digest256& binding) {
    Command command{Cc::kGetSessionAuditDigest};
    command.handle(tpm::kEndorsement).handle(ak).handle(session).authorize().authorize();
    command.parameters.prefixed16(view(binding)).u16(tpm::kAlgNull);
    const auto response = value_of(device_.run(command));
    Reader in{response.parameters};
    const Bytes attest = to_bytes(value_of(in.prefixed16(512)));
    return {attest, to_bytes(in.rest())};
  }

  tpm::Loaded load(ByteView context) {
    Command command{Cc::kContextLoad};
    command.returns_handle();
    command.parameters.raw(context);
    return tpm::Loaded{device_, value_of(device_.run(command)).handle};
  }
  Command sign(Handle key, Handle session, const Digest256& digest) {
    Command command{Cc::kSign};
    command.handle(key).authorize(session, /*keep=*/true);
    command.parameters.prefixed16(view(digest)).u16(tpm::kAlgNull).u16(0x8024).u32(tpm::kNull).u16(0);
    return command;
  }
  // A session that satisfies the key's policy now, or the error.
  Result<Handle> satisfied_session(const SessionKey& key, const Digest256& digest, std::uint32_t seconds) {
    Command start{Cc::kStartAuthSession};
    start.handle(tpm::kNull).handle(tpm::kNull).returns_handle();
    start.parameters.prefixed16(crypto::random_array<32>())
        .u16(0)
        .u8(1)
        .u16(tpm::kAlgNull)
        .u16(tpm::kAlgSha256);
    SP_TRY(const auto started, device_.run(start));
    Reader in{started.parameters};
    SP_TRY(const ByteView nonce_bytes, in.prefixed16(32));
    ByteArray<32> nonce;
    std::copy(nonce_bytes.begin(), nonce_bytes.end(), nonce.begin());
    Command pcr{Cc::kPolicyPcr};
    pcr.handle(started.handle);
    pcr.parameters.prefixed16(view(key.policy.pcr_digest)).raw(evidence::encode(key.policy.selection));
    SP_CHECK(device_.run(pcr));
    Command counters{Cc::kPolicyCounterTimer};
    counters.handle(started.handle);
    counters.parameters.prefixed16(
        Writer{}.u32(key.policy.reset_count).u32(key.policy.restart_count).bytes());
    counters.parameters.u16(16).u16(0);
    SP_CHECK(device_.run(counters));
    Command external{Cc::kLoadExternal};
    external.returns_handle();
    external.parameters.u16(0)
        .prefixed16(value_of(evidence::lease_key_public(key.lease_key)).tpmt_public)
        .u32(tpm::kNull);
    SP_TRY(const auto loaded, device_.run(external));
    const tpm::Loaded lease_key{device_, loaded.handle};
    const auto lease =
        keyguard_.permit(nonce, evidence::cp_hash_sign(key.name, digest), key.policy.policy_ref, seconds);
    Command permit{Cc::kPolicySigned};
    permit.handle(lease_key.handle()).handle(started.handle);
    permit.parameters.prefixed16(nonce).prefixed16(view(evidence::cp_hash_sign(key.name, digest)));
    permit.parameters.prefixed16(view(key.policy.policy_ref))
        .u32(seconds)
        .raw(evidence::encode_ecdsa(lease.signature));
    SP_CHECK(device_.run(permit));
    return started.handle;
  }
  std::uint64_t time_ms() { return value_of(swtpm_.open().boot_time()).time_ms; }
};

TEST_F(TpmAttacker, CannotUseTheKeyWithoutALease) {
  Tpm tpm = swtpm_.open();
  const SessionKey key = make_key(tpm, keyguard_);
  const tpm::Loaded loaded = load(key.context);
  const auto by_password = device_.run(sign(loaded.handle(), tpm::kPassword, digest_of("a login")));
  ASSERT_FALSE(by_password.has_value());
  EXPECT_EQ(by_password.error().device_rc, tpm::kRcAuthUnavailable);
  Command start{Cc::kStartAuthSession};
  start.handle(tpm::kNull).handle(tpm::kNull).returns_handle();
  start.parameters.prefixed16(crypto::random_array<32>())
      .u16(0)
      .u8(1)
      .u16(tpm::kAlgNull)
      .u16(tpm::kAlgSha256);
  const tpm::Loaded session{device_, value_of(device_.run(start)).handle};
  const auto unsatisfied = device_.run(sign(loaded.handle(), session.handle(), digest_of("a login")));
  ASSERT_FALSE(unsatisfied.has_value());
  EXPECT_EQ(tpm::base_rc(unsatisfied.error().device_rc), tpm::kRcPolicyFail);
}

TEST_F(TpmAttacker, CannotUseALeaseForAnotherCommand) {
  Tpm tpm = swtpm_.open();
  const SessionKey key = make_key(tpm, keyguard_);
  const tpm::Loaded loaded = load(key.context);
  const tpm::Loaded session{device_, value_of(satisfied_session(key, digest_of("a login"), 30))};
  const auto refused = device_.run(sign(loaded.handle(), session.handle(), digest_of("another login")));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(tpm::base_rc(refused.error().device_rc), tpm::kRcPolicyFail);
}

TEST_F(TpmAttacker, CannotUseOneLeaseTwice) {
  Tpm tpm = swtpm_.open();
  const SessionKey key = make_key(tpm, keyguard_);
  const tpm::Loaded loaded = load(key.context);
  const tpm::Loaded session{device_, value_of(satisfied_session(key, digest_of("a login"), 30))};
  EXPECT_THAT(device_.run(sign(loaded.handle(), session.handle(), digest_of("a login"))), Succeeds());
  EXPECT_THAT(device_.run(sign(loaded.handle(), session.handle(), digest_of("a login"))),
              FailsWith(Code::kDenied));
}

// The attack on a PolicyCounterTimer deadline: satisfy all sessions that a TPM has before the deadline, save
// them, use them after. With leases the TPM looks at the time when the key is used.
TEST_F(TpmAttacker, CannotParkSatisfiedSessionsBeyondTheirLease) {
  Tpm tpm = swtpm_.open();
  const SessionKey key = make_key(tpm, keyguard_);
  const Digest256 digest = digest_of("a login");
  constexpr std::uint32_t kSeconds = 2;
  struct Parked {
    Handle handle;
    Bytes context;
  };
  std::vector<Parked> parked;
  std::uint64_t last_start = 0;
  for (;;) {
    const auto session = satisfied_session(key, digest, kSeconds);
    if (!session.has_value()) break;
    Command save{Cc::kContextSave};
    save.handle(*session);
    parked.push_back({*session, value_of(device_.run(save)).parameters});
    last_start = time_ms();
    if (parked.size() == 64) break;
  }
  ASSERT_EQ(parked.size(), 64U) << "the TPM did not take as many sessions as it has slots";
  {
    const tpm::Loaded object = load(key.context);
    const tpm::Loaded session = load(parked.back().context);
    EXPECT_THAT(device_.run(sign(object.handle(), session.handle(), digest)), Succeeds())
        << "in time it works";
    parked.pop_back();
  }
  while (time_ms() < last_start + kSeconds * 1000 + 100)
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  const tpm::Loaded object = load(key.context);
  int signatures = 0, expired = 0;
  for (const Parked& one : parked) {
    const tpm::Loaded session = load(one.context);
    const auto late = device_.run(sign(object.handle(), session.handle(), digest));
    if (late.has_value()) ++signatures;
    if (!late.has_value() && tpm::base_rc(late.error().device_rc) == tpm::kRcExpired) ++expired;
  }
  EXPECT_EQ(signatures, 0);
  EXPECT_EQ(expired, 63);
}

TEST_F(TpmAttacker, CannotTakeTheKeyToAnotherTpm) {
  Tpm tpm = swtpm_.open();
  const SessionKey key = make_key(tpm, keyguard_);
  TemporarySwtpm other;
  Tpm elsewhere = other.open();
  EXPECT_FALSE(sign_once(elsewhere, keyguard_, key, digest_of("a login")).has_value());
  EXPECT_THAT(value_of(elsewhere.loaded_handles()), IsEmpty());
}

// Root can make attestation keys without end. Each is a good AK, and each can be activated; none is another
// identity, and none gives the machine another one.
TEST_F(TpmAttacker, AttestationKeyWithAnotherUniqueIsTheSameIdentity) {
  Tpm tpm = swtpm_.open();
  const Digest256 binding = digest_of("a binding");
  const auto own = value_of(evidence::parse_attestation_key(value_of(tpm.attestation_key())));
  const auto identity =
      value_of(evidence::verify_identity(value_of(tpm.prove_identity(binding)), own, binding)).name();

  Bytes with_unique = evidence::encode_for_create(evidence::ak_template());
  with_unique.resize(with_unique.size() - 4);
  Writer unique;
  unique.raw(with_unique).prefixed16(Bytes(32, 7)).prefixed16(Bytes(32));
  const auto [handle, created] = create(unique.bytes());
  const auto second = value_of(evidence::parse_attestation_key(area_of(created)));
  ASSERT_NE(second.name(), own.name());

  // The honest proof, signed by the second key: the identity is the first's.
  {
    const tpm::Loaded session = audit_session();
    const auto [key, made] =
        create(evidence::encode_for_create(evidence::identity_template()), session.handle());
    const evidence::IdentityEvidence honest{audit_digest(handle.handle(), session.handle(), binding), made};
    EXPECT_EQ(value_of(evidence::verify_identity(honest, second, binding)).name(), identity);
    EXPECT_THAT(evidence::verify_identity(honest, own, binding), FailsWith(Reason::kQuoteSignature));
  }
  // The second key's own making, audited: no identity.
  {
    const tpm::Loaded session = audit_session();
    const auto [key, made] = create(unique.bytes(), session.handle());
    EXPECT_EQ(area_of(made), evidence::encode(second.area()));
    const evidence::IdentityEvidence own_making{audit_digest(handle.handle(), session.handle(), binding),
                                                made};
    EXPECT_THAT(evidence::verify_identity(own_making, second, binding), FailsWith(Reason::kKeyCertify));
  }
  // Both in one session, in either order: the digest is of both.
  {
    const tpm::Loaded session = audit_session();
    Bytes made;
    {
      const auto [key, first] =
          create(evidence::encode_for_create(evidence::identity_template()), session.handle());
      made = first;
    }
    create(unique.bytes(), session.handle());
    const evidence::IdentityEvidence two{audit_digest(handle.handle(), session.handle(), binding), made};
    EXPECT_THAT(evidence::verify_identity(two, second, binding), FailsWith(Reason::kKeyCertify));
  }
}

}  // namespace
}  // namespace sallyport

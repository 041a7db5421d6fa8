#pragma once

#include <openssl/evp.h>

#include <array>
#include <memory>

#include "attestation/crypto/private_key.h"
#include "attestation/evidence/boot_state.h"
#include "attestation/evidence/credential.h"
#include "attestation/evidence/endorsement.h"
#include "attestation/evidence/session_audit.h"

namespace sallyport::test {

// TestVendor is a TPM vendor with a root, an intermediate CA, and certificates for endorsement keys.
class TestVendor {
 public:
  // What is odd about its CAs; the defaults are right.
  struct CaOptions {
    bool sha1_root = false;                         // the root's own signature
    UnixMillis intermediate_to{4'133'980'800'000};  // 2101-01-01
  };
  TestVendor() : TestVendor(CaOptions{}) {}
  explicit TestVendor(const CaOptions& options);
  const crypto::Certificate& root() const { return *root_; }
  const crypto::Certificate& intermediate() const { return *intermediate_; }
  evidence::TpmRoots roots() const { return {{*root_}, {*intermediate_}}; }

  // What can be wrong with an EK certificate; the defaults are right.
  struct EkOptions {
    UnixMillis not_before{1'577'836'800'000};  // 2020-01-01
    UnixMillis not_after{4'102'444'800'000};   // 2100-01-01
    bool ca = false;
    bool with_key_usage = true;
    bool wrong_key_usage = false;  // digitalSignature
    bool with_eku = true;
    std::string eku = "2.23.133.8.1";
    bool with_san = true;
    bool with_model = true;
    bool critical_san = true;
    bool named_twice = false;
    std::string manufacturer = "id:53595054";
    bool v1 = false;  // no extensions at all
    bool unknown_critical = false;
    bool sha1 = false;
    bool by_stranger = false;  // signed by a CA of the same name with another key
  };
  Bytes issue_ek(const crypto::PublicKey& ek, const EkOptions& options) const;
  Bytes issue_ek(const crypto::PublicKey& ek) const { return issue_ek(ek, EkOptions{}); }

  // What an on-die CA gives (Intel since its 11th generation): an intermediate that the vendor publishes, and
  // beside the EK certificate, in the TPM, a chain of P-384 CAs that exist in this chip only.
  struct OnDie {
    crypto::Certificate published;
    std::vector<Bytes> chain;
    Bytes ek;
  };
  OnDie issue_on_die(const crypto::PublicKey& ek) const;

 private:
  std::shared_ptr<EVP_PKEY> root_key_, intermediate_key_, stranger_key_;
  std::shared_ptr<const crypto::Certificate> root_, intermediate_;
};

// SoftSessionKey is what TPM2_CreatePrimary in the NULL hierarchy would give.
struct SoftSessionKey {
  evidence::SessionKeyUse use;
  crypto::PrivateKey key;
  evidence::PublicArea area;
  Bytes tpmt_public;
  evidence::TpmName name;
};

// SoftTpm makes in software what an enrolled machine's TPM makes, so that tests need no device: endorsement
// key, AK, quotes, certifications. It is the attacker's tool too: its state is open and sign_attest signs
// anything. It enforces no policy.
class SoftTpm {
 public:
  // ek: kP256, kP384 or kRsa2048; ak: kP256 or kRsa2048.
  explicit SoftTpm(crypto::KeyAlgorithm ek = crypto::KeyAlgorithm::kP256,
                   crypto::KeyAlgorithm ak = crypto::KeyAlgorithm::kP256);

  // State that quotes and certifications tell; change it freely.
  evidence::ClockInfo clock{.clock_ms = 5'000'000, .reset_count = 7, .restart_count = 1, .safe = true};
  std::uint64_t firmware_version = 0x0007'0055'0011'0000;
  std::array<Digest256, 24> pcrs{};
  // The key that its seed gives for the identity's template. Two with one are one TPM with other keys.
  std::shared_ptr<const evidence::PublicArea> identity_key;
  Bytes event_log;  // of the boot, which the machine sends with its quotes; empty: it has none
  Bytes ima_list;   // the same of what was measured since, where a policy wants it

  void extend(unsigned pcr, const Digest256& digest);
  void reset();    // TPM Reset: PCRs zero, resetCount + 1, restartCount 0
  void restart();  // resume: restartCount + 1
  void advance(std::uint64_t ms) { clock.clock_ms += ms; }

  const evidence::PublicArea& ek() const { return *ek_; }
  Bytes ek_public() const { return evidence::encode(*ek_); }  // TPMT_PUBLIC
  DeviceId device() const { return DeviceId{ek_->key.id().get()}; }
  Bytes ak_public() const { return evidence::encode(ak_->area()); }  // TPMT_PUBLIC
  const evidence::AttestationKey& ak() const { return *ak_; }

  std::vector<Digest256> pcr_values(const evidence::PcrSelection& selection) const;  // in order of index
  Digest256 pcr_digest(const evidence::PcrSelection& selection) const;
  evidence::BootBaseline baseline(const evidence::PcrSelection& selection) const;

  // What TPM2_Quote and TPM2_Certify give now. The clock advances by one millisecond first.
  evidence::SignedAttest quote(const Digest256& binding,
                               const evidence::PcrSelection& selection = evidence::PcrSelection::standard());
  evidence::SignedAttest certify(const SoftSessionKey& key, const Digest256& binding);

  // What TPM2_GetSessionAuditDigest gives for a session that audited the making of the identity's key.
  evidence::IdentityEvidence prove_identity(const Digest256& binding);

  // The policy a session key made now has to have, and such a key.
  evidence::SessionKeyPolicy session_policy(
      const crypto::PublicKey& lease_key, const Origin& origin, const CaseId& case_id,
      const evidence::PcrSelection& selection = evidence::PcrSelection::standard()) const;
  SoftSessionKey create_session_key(evidence::SessionKeyUse use,
                                    const evidence::SessionKeyPolicy& policy) const;

  // TPM2_ActivateCredential for the AK: the secret, or kUnverified where the integrity check fails.
  Result<Bytes> activate_credential(const evidence::CredentialBlob& blob) const;

  // Signs any TPMS_ATTEST with the AK, as no TPM would.
  evidence::SignedAttest sign_attest(const evidence::ClaimedAttest& attest) const;
  evidence::SignedAttest sign_bytes(ByteView attest) const;
  // sign_in gives a TPMT_SIGNATURE in any scheme of the key's algorithm; it says SHA-256 whatever the hash.
  Bytes sign_in(evidence::Scheme scheme, const EVP_MD* hash, ByteView attest) const;

 private:
  std::shared_ptr<EVP_PKEY> ek_key_, ak_key_;
  std::shared_ptr<const evidence::PublicArea> ek_;
  std::shared_ptr<const evidence::AttestationKey> ak_;
};

}  // namespace sallyport::test

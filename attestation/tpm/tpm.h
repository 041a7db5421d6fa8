#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attestation/base/secret_bytes.h"
#include "attestation/evidence/certify.h"
#include "attestation/evidence/credential.h"
#include "attestation/evidence/quote.h"
#include "attestation/evidence/session_audit.h"

namespace sallyport::tpm {

class Transport;
struct Patience;
class Device;
class Loaded;

// BootTime is what TPM2_ReadClock says now, and what a quote would say of the firmware.
struct BootTime {
  evidence::ClockInfo clock;           // resetCount and restartCount as an endorsement primary quotes them
  std::uint64_t time_ms = 0;           // since the TPM was started
  std::uint64_t firmware_version = 0;  // TPM_PT_FIRMWARE_VERSION_1 ‖ _2
  std::string manufacturer;            // four characters, for people: "IBM ", "STM "
};

// Endorsement is a TPM's endorsement key with its certificate, as read: nothing in it is verified here.
struct Endorsement {
  Bytes public_area;         // TPMT_PUBLIC
  Bytes certificate;         // as read from NV, padding included: evidence::parse_ek_certificate takes it
  std::vector<Bytes> chain;  // DER certificates of NV 0x01C00100…1FF; mostly empty
  evidence::PublicTemplate form;  // which of evidence::ek_templates() it is
};

// Quote is a quote with the PCR values that it is about, in order of index.
struct Quote {
  evidence::SignedAttest evidence;
  std::vector<Digest256> pcrs;
};

// SessionKey is a key that lives in the TPM until its next reset. `context` is the object's saved context:
// wrapped by this TPM and worthless elsewhere or after a reset; with it nothing has to stay loaded between
// two uses.
struct SessionKey {
  evidence::SessionKeyUse use;
  evidence::SessionKeyPolicy policy;
  crypto::PublicKey lease_key;
  Bytes public_area;  // TPMT_PUBLIC
  evidence::TpmName name;
  Bytes context;
};

// Lease is what the keyguard's signature over evidence::lease_hash says.
struct Lease {
  std::uint32_t expiration_seconds;
  crypto::Signature64 signature;
};

// LeaseSession is a policy session that waits for its lease: it holds one of the TPM's 64 session slots,
// saved. It may be dropped unused; its slot is then freed before the Tpm's next command. Good for one use.
class LeaseSession {
 public:
  LeaseSession(LeaseSession&&) noexcept = default;
  LeaseSession& operator=(LeaseSession&&) noexcept;
  ~LeaseSession();
  const ByteArray<32>& nonce_tpm() const { return nonce_tpm_; }

 private:
  friend class Tpm;
  struct Abandoned;
  LeaseSession(std::shared_ptr<Abandoned> abandoned, std::uint32_t handle, const ByteArray<32>& nonce_tpm,
               Bytes context);
  void abandon();
  std::shared_ptr<Abandoned> abandoned_;  // null once used or moved from
  std::uint32_t handle_ = 0;
  ByteArray<32> nonce_tpm_{};
  Bytes context_;
};

// Tpm is one connection to one TPM. Not thread-safe: one thread owns it (queue.h). Each function loads what
// it needs and leaves nothing loaded, so that several programs can share a TPM without a resource manager.
// Common errors: kTpmAbsent (no connection), kTpmBusy (no room, or no answer; try later), kTpm (refused;
// Error::device_rc says what).
class Tpm {
 public:
  // open takes a TCTI configuration: "device:/dev/tpmrm0", "swtpm:path=/run/x/sock" (path at most 102 bytes).
  // Errors: kTpmAbsent, kTpmBusy.
  static Result<Tpm> open(const std::string& tcti);
  static Result<Tpm> open(const std::string& tcti, Patience patience);
  // patience: how long a command is sent again while the TPM says that it is busy.
  explicit Tpm(std::unique_ptr<Transport> transport,
               std::chrono::milliseconds patience = std::chrono::seconds{10});
  Tpm(Tpm&&) noexcept;
  Tpm& operator=(Tpm&&) noexcept;
  ~Tpm();

  Result<BootTime> boot_time();

  // endorsement finds the best endorsement key whose certificate is in NV and is for the key that this TPM
  // derives from the TCG template (or keeps as a persistent object): P-384, then P-256, then RSA-2048.
  //   Errors: kEkCertificate when there is none.
  Result<Endorsement> endorsement();
  // endorsements gives all of them, best first; empty when there is none.
  Result<std::vector<Endorsement>> endorsements();

  // use_ak chooses which of evidence::ak_templates() is this connection's AK from here on; P-256 unless told.
  // An RSA key takes a chip seconds to derive, once a connection.
  void use_ak(crypto::KeyAlgorithm algorithm);
  // attestation_key derives the AK (a primary in the endorsement hierarchy: the same key at each call, after
  // reboots and after TPM2_Clear) and gives its TPMT_PUBLIC.
  Result<Bytes> attestation_key();

  // prove_identity derives the identity's key in an audited session and signs the session's digest and
  // `binding` with the AK: evidence::verify_identity takes it.
  Result<evidence::IdentityEvidence> prove_identity(const Digest256& binding);

  // activate_credential opens a credential blob made to the endorsement key `ek_public` and the Name of the
  // AK.
  //   Proves to whoever made the blob: this TPM holds both.   Errors: kCredentialChallenge (made for another
  //   key or Name), kEkUnsupported (this TPM has no such EK).
  Result<SecretBytes> activate_credential(ByteView ek_public, const evidence::CredentialBlob& blob);

  Result<std::vector<Digest256>> read_pcrs(const evidence::PcrSelection& selection);

  // quote signs `binding` and the selected PCRs with the AK, again if PCRs moved between reading and quoting.
  //   Errors: kTpmPcrChanged when they never stood still.
  Result<Quote> quote(const evidence::PcrSelection& selection, const Digest256& binding);

  // create_session_key makes the case's key in the NULL hierarchy: evidence::session_key_template(use, digest
  // of `policy`). The same arguments give the same key until the TPM's next reset; policyRef makes one per
  // case.
  //   Errors: kMalformed when `lease_key` is not the key of policy.lease_key.
  Result<SessionKey> create_session_key(evidence::SessionKeyUse use, const evidence::SessionKeyPolicy& policy,
                                        const crypto::PublicKey& lease_key);

  // certify signs `binding` and the key's Name with the AK.
  Result<evidence::SignedAttest> certify(const SessionKey& key, const Digest256& binding);

  // begin_lease starts a policy session. Ask for the lease with its nonce_tpm(); the lease's time runs from
  // here.
  Result<LeaseSession> begin_lease();

  // sign_with_lease checks the key's policy in the session and signs `digest`, back to back. On success r‖s,
  // verified against nothing: s may be high.
  //   Errors: kTpmPcrChanged (a PCR was extended meanwhile: Next::kReopenSession, begin again with a new
  //   session and lease), kBootState (PCRs are not those of the key), kBootCounters (reset or suspended
  //   since; the key is gone or dead), kLeaseExpired, kUnverified (the signature is not the lease key's, or
  //   is over another command, nonce, time or case), kKeyPolicy (the key has another policy than it says).
  Result<crypto::Signature64> sign_with_lease(LeaseSession session, const SessionKey& key, const Lease& lease,
                                              const Digest256& digest);
  // agree_with_lease is ECDH with `point` (65 bytes, SEC 1 uncompressed) by a key for SessionKeyUse::kAgree:
  // the x coordinate.
  Result<SecretBytes> agree_with_lease(LeaseSession session, const SessionKey& key, const Lease& lease,
                                       ByteView point);

  // loaded_handles lists objects and sessions in the TPM, for tests and `sallyport doctor`; flush_leftovers
  // removes those that this Tpm does not use. Never call it on a TPM that others use without a resource
  // manager.
  Result<std::vector<std::uint32_t>> loaded_handles();
  Status flush_leftovers();

 private:
  void bury_abandoned();
  Result<Loaded> load(ByteView context);
  Result<Loaded> load_ak();
  Result<Loaded> load_ek(const evidence::PublicArea& ek, ByteView ek_public);
  Result<Loaded> load_session_key(const SessionKey& key);
  Result<Loaded> satisfy(LeaseSession session, const SessionKey& key, const Lease& lease,
                         const Digest256& cp_hash);
  std::unique_ptr<Device> device_;
  std::shared_ptr<LeaseSession::Abandoned> abandoned_;
  std::size_t ak_form_ = 0;  // of evidence::ak_templates()
  Bytes ak_public_, ak_context_;
};

}  // namespace sallyport::tpm

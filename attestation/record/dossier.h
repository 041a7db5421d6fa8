#pragma once

#include <vector>

#include "attestation/crypto/public_key.h"
#include "attestation/record/entry.h"
#include "attestation/record/state.h"

namespace sallyport::record {

inline constexpr std::size_t kMaxFullDossierBytes = 64u << 20;
inline constexpr std::size_t kMaxTravelDossierBytes = 40u << 10;
inline constexpr std::size_t kMaxProofText = 512u << 10;  // of a dossier's proof

// Dossier is all that proves one access, as claimed: parsed, not believed. README.md, "Dossier".
struct Dossier {
  DossierForm form = DossierForm::kFull;
  std::string proof;  // C2SP tlog-proof text of the grant's leaf
  ledger::Leaf grant_leaf;
  Nonce grant_nonce;
  Bytes grant_body;
  Bytes request_body;
  std::vector<Bytes> approval_bodies;  // in the order of the grant's `approvals`
  std::vector<Blob> blobs;             // ascending (type, digest)
};

Result<Dossier> parse_dossier(ByteView bytes);
Bytes encode_dossier(const Dossier& dossier);

// make_dossier puts a full dossier together; nothing is judged. `approvals` are in the order in which the
// grant names them; the entries have all their blobs.
Dossier make_dossier(const Entry& grant, const Entry& request, const std::vector<const Entry*>& approvals,
                     std::string proof);

// to_travel leaves out the blobs that the travel form does not carry.
Dossier to_travel(const Dossier& dossier);

// VerifiedGrant is what a dossier proved. Only verify_dossier makes one.
class VerifiedGrant {
 public:
  DossierForm form;
  CaseId case_id;
  Origin origin;
  LeafIndex leaf_index;
  Digest256 leaf_hash;     // RFC 9162 hash of the grant's leaf: the template's nonce and serial come from it
  Digest256 grant_digest;  // of the grant statement
  Digest256 decision_digest;
  Digest256 policy_digest;  // of the policy in force at the grant's leaf
  PersonId person, beneficiary;
  DeviceId device;
  std::string device_name;
  std::string tpm_maker;        // as the enrolment recorded it; "" where it did not
  evidence::AcceptedBoot boot;  // the reference that accepts it; of none in a travel form without its log
  std::optional<evidence::JudgedIma> ima;  // what it had measured, where the policy wants that; full form
  ResourceId resource;
  std::string host;  // name, as in the policy
  std::string host_address;
  std::uint16_t host_port = 0;
  std::vector<std::string> host_keys;  // "SHA256:…" fingerprints
  std::string account;
  std::string command;                       // "" = a shell
  std::vector<std::string> source_networks;  // CIDR text of the rule's network regions
  std::vector<std::string> rules;
  std::vector<QuorumClause> quorum;  // that the approvers fill
  std::vector<PersonId> approvers;
  std::string reason;
  UnixMillis not_before, not_after;  // the leaf's time, and that plus the duration
  crypto::PublicKey session_key;     // P-256, in the TPM of `device`
  Digest256 session_key_name;        // the 32 digest bytes of its TPM Name (SHA-256)
  Nonce nonce;                       // of the request, which its quote answers
  evidence::VerifiedQuote quote;     // the request's; the grant's was of the same boot and PCRs
  std::vector<UnixMillis>
      cosigned;  // times of the witnesses' signatures over the proof's checkpoint, ascending

 private:
  friend Result<VerifiedGrant> verify_dossier(const Dossier&, const ControlState&, UnixMillis);
  VerifiedGrant(crypto::PublicKey key, evidence::VerifiedQuote quoted)
      : session_key(std::move(key)), quote(std::move(quoted)) {}
};

// verify_dossier is the summit of the verification core: README.md, "Dossier", gives the order of its checks.
//   Proves:         the grant is in the log under k witnesses, is the only one of its case, follows from the
//   request, the evidence,
//                   the policy in force at its leaf and a quorum of distinct people, and nothing it rests on
//                   is revoked in `control`.
//   Does not prove: that `control` is recent, or (travel form) what attachments held, and
//                   what the machine booted: the keyguard and k approvers have judged its event log.
//   Errors:         the reason of the first check that failed; kUnavailable with kGateBehind when `control`
//   has not followed to the leaf.
Result<VerifiedGrant> verify_dossier(const Dossier& dossier, const ControlState& control, UnixMillis now);

}  // namespace sallyport::record

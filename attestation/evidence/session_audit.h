#pragma once

#include "attestation/evidence/quote.h"

namespace sallyport::evidence {

// A TPM has several endorsement keys, and its owner can make attestation keys without end, so neither tells
// whether two enrolments are of one machine. What a TPM cannot do twice differently is to derive a key: from
// one template and one seed comes one key. A machine's identity is the Name of the key that its TPM derives
// from identity_template() in the endorsement hierarchy. It is the same with whatever EK or AK the machine
// enrols, and after TPM2_Clear.

// identity_template: ak_template(), with `unique` empty. (So it is the P-256 attestation key that this
// project's own programs make; its form could be any, and this one needs no second derivation on a chip.)
const PublicTemplate& identity_template();

// identity_parameters gives the parameters of the one TPM2_CreatePrimary(TPM_RH_ENDORSEMENT) that is
// accepted: no authValue and no data, identity_template() with `unique` empty, no outsideInfo, no creation
// PCRs.
Bytes identity_parameters();

// IdentityEvidence is what a device sends: TPM2_GetSessionAuditDigest over a session that audited that one
// command, and the response parameters of the command.
struct IdentityEvidence {
  SignedAttest audit;
  Bytes created;  // outPublic to name (Part 3 rev 1.59 §24.1), each with its TPM2B size
};

inline constexpr std::size_t kMaxCreatedBytes = 1024;

// parse_created takes those response parameters: a public area of any form, creation data with its hash, a
// creation ticket of the endorsement hierarchy, the key's Name, no trailing bytes.
//   Does not prove: that any TPM gave them (verify_identity does).   Errors: kMalformed. Pure.
Result<PublicArea> parse_created(ByteView created);

class VerifiedIdentity {
 public:
  const TpmName& name() const { return name_; }

 private:
  friend Result<VerifiedIdentity> verify_identity(const IdentityEvidence& evidence, const AttestationKey& ak,
                                                  const Digest256& binding);
  explicit VerifiedIdentity(TpmName name) : name_(std::move(name)) {}
  TpmName name_;
};

// verify_identity checks that the TPM of `ak` ran exactly one command in the audited session, the one above,
// and that it answered it with `created`: sessionDigest = H(0… ‖ cpHash ‖ rpHash), both made anew here
// (Part 1 rev 1.59 §17.1 audit, §16.7 and §16.8 cpHash and rpHash; Part 2 §10.12.7 TPMS_SESSION_AUDIT_INFO).
// Besides that: exact decoding, type, the key in identity_template(), its Name, qualifiedSigner, extraData =
// `binding`, the signature.
//   Proves:         the TPM that holds `ak` derives the key with this Name from its endorsement seed and the
//   identity template.
//   Does not prove: that `ak` lives in a genuine TPM (an enrolment does), or that no one has changed the
//   endorsement seed since (TPM2_ChangeEPS, which the platform's firmware can: then no EK certificate holds
//   either). Errors:         kMalformed; kUnverified with kKeyTemplate, kKeyCertify, kQuoteNonce or
//   kQuoteSignature.   Pure; one signature check.
Result<VerifiedIdentity> verify_identity(const IdentityEvidence& evidence, const AttestationKey& ak,
                                         const Digest256& binding);

}  // namespace sallyport::evidence

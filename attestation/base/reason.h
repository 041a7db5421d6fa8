#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

// SP_REASONS is the one table of stable reasons: enumerator, name on the wire, exit code of `sallyport`, and the sentence a
// person is told. A name is never reused for another meaning. Exit codes are those of README.md.
#define SP_REASONS(X)                                                                                              \
  /* classes, where nothing more specific is known */                                                             \
  X(kMalformed, "malformed", 2, "The bytes are not in the form that is required.")                                \
  X(kUnverified, "unverified", 8, "A signature or proof does not hold.")                                          \
  X(kStale, "stale", 8, "The proof is too old or from the future.")                                               \
  X(kDenied, "denied", 3, "The policy does not allow this.")                                                      \
  X(kConflict, "conflict", 1, "Something else was recorded first.")                                               \
  X(kUnavailable, "unavailable", 9, "A part that is needed does not answer.")                                     \
  X(kInternal, "internal", 1, "An error of our own; please report it.")                                           \
  X(kUsage, "usage", 2, "The command line is not understood.")                                                    \
  X(kFile, "file", 2, "A file that was named cannot be used.")                                                    \
  X(kPending, "pending", 4, "The case still waits for others.")                                                   \
  /* region */                                                                                                    \
  X(kRegionRequester, "region/requester", 6, "The requester's region is not allowed by the rule.")                \
  X(kRegionBeneficiary, "region/beneficiary", 6, "The beneficiary's region is not allowed by the rule.")          \
  X(kRegionDevice, "region/device", 6, "The machine's region is not allowed by the rule.")                        \
  X(kRegionNetwork, "region/network", 6, "The network's region is not allowed by the rule.")                      \
  /* policy */                                                                                                    \
  X(kPolicyNoRule, "policy/no-rule", 3, "No rule of the policy covers this request.")                             \
  X(kPolicyAccount, "policy/account", 3, "The rule that matches does not give this account.")                     \
  X(kPolicyDuration, "policy/duration", 3, "The wished duration is longer than the rule allows.")                 \
  X(kPolicyGroup, "policy/group", 3, "The requester is in none of the groups the rule names.")                    \
  X(kPolicyUnknownPerson, "policy/unknown-person", 3, "The person is not in the policy.")                         \
  X(kPolicyUnknownResource, "policy/unknown-resource", 3, "The resource or host is not in the policy.")           \
  X(kPolicyInvalid, "policy/invalid", 3, "The policy does not load.")                                             \
  X(kPolicyNotSuccessor, "policy/not-successor", 3, "The policy is not the successor of the one in force.")       \
  X(kPolicyChanged, "policy/changed", 7, "The policy changed the decision after approvals were given.")           \
  /* quorum */                                                                                                    \
  X(kQuorumNotMet, "quorum/not-met", 7, "The quorum is not met.")                                                 \
  X(kApprovalForeignKey, "approval/foreign-key", 7, "The approval is signed by a key that is not in the policy.") \
  X(kApprovalRevoked, "approval/revoked", 7, "The approver, or the approver's token, is revoked.")                \
  X(kApprovalOtherDecision, "approval/other-decision", 7, "The approval is of another decision.")                 \
  X(kApprovalExpired, "approval/expired", 7, "The approval has expired.")                                         \
  X(kApprovalSelf, "approval/self", 7, "The requester or the beneficiary cannot approve.")                        \
  X(kApprovalDuplicate, "approval/duplicate", 7, "This person has already approved this decision.")               \
  X(kApprovalNotEligible, "approval/not-eligible", 7, "This person is not an eligible approver of the case.")     \
  X(kApprovalNotAttested, "approval/not-attested", 7, "The rule wants the approver's machine attested.")          \
  X(kCaseDenied, "case/denied", 7, "An approver denied the case.")                                                \
  /* case */                                                                                                      \
  X(kCaseUnknown, "case/unknown", 3, "There is no such case.")                                                    \
  X(kCaseClosed, "case/closed", 3, "The case is closed.")                                                         \
  X(kCaseExpired, "case/expired", 3, "The case has expired.")                                                     \
  X(kCaseExists, "case/exists", 3, "A case with this id exists already.")                                         \
  X(kGrantExists, "grant/exists", 8, "The case has a grant already.")                                             \
  X(kGrantExpired, "grant/expired", 3, "The grant's time is over.")                                               \
  X(kGrantTooLarge, "grant/too-large", 3, "The evidence of the case is more than a dossier can hold.")            \
  X(kGrantMismatch, "grant/mismatch", 8, "The credential is not the one that was granted.")                       \
  X(kRevoked, "revoked", 3, "The person, token, device or case is revoked.")                                      \
  /* erasure */                                                                                                   \
  X(kErasureOff, "erasure/off", 3, "The policy lets nobody erase.")                                               \
  X(kErasureNotDue, "erasure/not-due", 3, "A case is within the policy's retention.")                             \
  X(kErasureHeld, "erasure/held", 3, "A case is held from being erased.")                                         \
  X(kErasureCase, "erasure/case", 3, "What is named is no access case that was opened before then.")              \
  X(kErased, "case/erased", 3, "What was in the case was erased.")                                                \
  X(kHoldUnknown, "hold/unknown", 3, "There is no such hold.")                                                    \
  /* attestation */                                                                                               \
  X(kDeviceUnknown, "device/unknown", 5, "The machine is not enrolled.")                                          \
  X(kDeviceRevoked, "device/revoked", 5, "The machine's enrolment is revoked.")                                   \
  X(kDeviceStopped, "device/stopped", 5, "The machine is stopped: its TPM's counters went back.")                 \
  X(kDeviceExists, "device/exists", 5, "The machine, or its attestation key, is enrolled already.")               \
  X(kQuoteSignature, "quote/signature", 5, "The quote is not signed by the enrolled attestation key.")            \
  X(kQuoteNonce, "quote/nonce", 5, "The quote answers another challenge.")                                        \
  X(kQuotePcrs, "quote/pcrs", 5, "The quoted PCRs are not the selection or the values that were stated.")         \
  X(kEventLogForm, "event-log/form", 5, "The event log is not in the form that is required.")                     \
  X(kEventLogBank, "event-log/bank", 5, "The event log does not cover the PCR bank that is needed.")              \
  X(kEventLogReplay, "event-log/replay", 5, "The event log does not come to the quoted PCRs.")                    \
  X(kEventLogMissing, "event-log/missing", 5, "The boot can only be judged by the machine's event log.")          \
  X(kBootEvent, "boot/event", 5, "The machine measured something at its start that nobody expects.")             \
  X(kReferenceExpired, "reference/expired", 5, "Every reference value is past its last day.")                     \
  X(kReferenceInvalid, "reference/invalid", 3, "The document of reference values does not load.")                 \
  X(kImaMissing, "ima/missing", 5, "The policy wants the machine's IMA list, and it was not sent.")               \
  X(kImaForm, "ima/form", 5, "The IMA list is not in the form that is required.")                                 \
  X(kImaReplay, "ima/replay", 5, "The IMA list does not come to the quoted PCR 10.")                              \
  X(kImaUnexpected, "ima/unexpected", 5, "A file was measured that is not expected.")                             \
  X(kBootState, "boot/state", 5, "The machine is in another boot state than the one that was enrolled.")          \
  X(kBootWentBack, "boot/went-back", 5, "The TPM's counters are behind what this machine has proved.")            \
  X(kBootCounters, "boot/counters", 5, "The TPM's counters or firmware changed, or its clock went back.")         \
  X(kClockRate, "boot/clock-rate", 5, "The TPM's clock does not run with wall time.")                             \
  X(kKeyTemplate, "key/template", 5, "The key's public area is not the template that is required.")               \
  X(kKeyPolicy, "key/policy", 5, "The key's policy is not the one that is required.")                             \
  X(kKeyCertify, "key/certify", 5, "The key is not certified by the enrolled attestation key.")                   \
  X(kEkChain, "ek/chain", 5, "The endorsement key's certificate does not lead to a trusted vendor root.")         \
  X(kEkCertificate, "ek/certificate", 5, "The endorsement key's certificate is not of the required form.")        \
  X(kEkExpired, "ek/expired", 5, "The endorsement key's certificate, or a CA's over it, is not valid at that time.") \
  X(kEkUnsupported, "ek/unsupported", 5, "The endorsement key's algorithm is not supported.")                     \
  X(kTpmFirmware, "tpm/firmware", 5, "The TPM's firmware has a known weakness.")                                  \
  X(kCredentialChallenge, "ek/challenge", 5, "The credential challenge was not answered correctly.")              \
  /* lease, gate */                                                                                               \
  X(kLeaseContent, "lease/content", 8, "The content to be signed is not this grant's login.")                     \
  X(kLeaseHost, "lease/host", 8, "The lease is for another host.")                                                \
  X(kLeaseUser, "lease/user", 8, "The lease is for another account.")                                             \
  X(kLeaseNotLogged, "lease/not-logged", 8, "The lease is not in the log.")                                       \
  X(kLeaseExpired, "lease/expired", 8, "The lease expired before the key was used.")                              \
  X(kGateAccount, "gate/account", 8, "The account is not one of the grant.")                                      \
  X(kGateHost, "gate/host", 8, "The certificate is for another host.")                                            \
  X(kGateBehind, "gate/behind", 9, "The gate has not followed the log far enough, or too long ago.")              \
  X(kGateShut, "gate/shut", 9, "The host opened no session: it, or its gate, does not answer or refuses.")        \
  X(kGateShell, "gate/shell", 8, "The account's login shell is not the gate.")                                    \
  X(kGateProgram, "gate/program", 9, "The gate's program on this host is not installed as it must be.")           \
  X(kGateCgroup, "gate/cgroup", 9, "This host cannot hold a session together: it has no cgroups for the gate.")   \
  /* log */                                                                                                       \
  X(kLogCheckpoint, "log/checkpoint", 8, "The checkpoint is not signed as required.")                             \
  X(kLogQuorum, "log/quorum", 9, "Not enough witnesses have cosigned.")                                           \
  X(kLogInclusion, "log/inclusion", 8, "The inclusion proof does not hold.")                                      \
  X(kLogConsistency, "log/consistency", 8, "The log is not consistent with what was seen before.")                \
  X(kLogFork, "log/fork", 8, "Two histories of the log exist.")                                                   \
  X(kLogRollback, "log/rollback", 8, "The log is behind what was seen before.")                                   \
  X(kLogBody, "log/body", 8, "A body does not match its leaf.")                                                   \
  X(kLogMissingBody, "log/missing-body", 8, "The body of a control leaf is missing.")                             \
  X(kLogOrder, "log/order", 8, "A leaf is out of order.")                                                         \
  X(kLogSnapshot, "log/snapshot", 8, "The snapshot does not commit to the state of the log.")                      \
  X(kTrustAnchor, "trust/anchor", 8, "The log does not begin with the policy that the trust file pins.")          \
  /* devices and peers */                                                                                         \
  X(kTokenPin, "token/pin", 10, "The token did not accept the PIN.")                                              \
  X(kTokenLocked, "token/locked", 10, "The token is locked.")                                                     \
  X(kTokenAbsent, "token/absent", 10, "The token is not present.")                                                \
  X(kTokenKey, "token/key", 10, "The key is not on the token.")                                                   \
  X(kToken, "token", 10, "The token reported an error.")                                                          \
  X(kTokenTimeout, "token/timeout", 10, "The token did not answer in time.")                                      \
  X(kHsmProbe, "hsm/probe", 9, "The HSM allows what it must refuse.")                                             \
  X(kTpm, "tpm", 10, "The TPM reported an error.")                                                                \
  X(kTpmAbsent, "tpm/absent", 10, "The TPM cannot be opened.")                                                    \
  X(kTpmBusy, "tpm/busy", 10, "The TPM is busy.")                                                                 \
  X(kTpmPcrChanged, "tpm/pcr-changed", 10, "A PCR changed while the key was being used.")                         \
  X(kPeer, "peer", 9, "The other side cannot be reached.")                                                        \
  X(kPeerTls, "peer/tls", 9, "The server's key is not the one the policy pins.")                                  \
  X(kPeerTimeout, "peer/timeout", 9, "The other side did not answer in time.")                                    \
  X(kKeyguardAway, "keyguard", 9, "The region's keyguard does not answer; its operators can tell more.")          \
  X(kHsmAway, "hsm", 9, "The region's HSM does not answer its keyguard; its operators can tell more.")            \
  X(kStandbyAway, "standby", 9, "The region's standby does not answer; its operators can tell more.")             \
  X(kNotAttested, "peer/not-attested", 5, "This connection has not proved its machine.")                          \
  X(kNotSignedIn, "peer/not-signed-in", 3, "This needs a person who has signed in with the token.")               \
  X(kReadOnly, "log/read-only", 9, "The log does not take entries until an operator has looked.")                 \
  X(kStorage, "storage", 9, "The disk or database reported an error.")                                            \
  X(kUnprotected, "unprotected", 1, "What is secret in this process cannot be protected.")                        \
  X(kRateLimited, "rate-limited", 9, "Too many attempts; try again later.")

namespace sallyport {

enum class Reason : std::uint8_t {
#define SP_REASON_ENUM(enumerator, name, exit, sentence) enumerator,
  SP_REASONS(SP_REASON_ENUM)
#undef SP_REASON_ENUM
};

std::string_view reason_name(Reason reason);
std::string_view reason_sentence(Reason reason);
int reason_exit_code(Reason reason);

// find_reason gives the reason of a name, as a peer sent it.
std::optional<Reason> find_reason(std::string_view name);

}  // namespace sallyport

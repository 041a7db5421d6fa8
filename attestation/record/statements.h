#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/result.h"
#include "attestation/base/strong.h"
#include "attestation/record/dsse.h"

namespace sallyport::record {

// Kind is the closed set of leaves' kinds (README.md, "Kinds of leaves").
enum class Kind : std::uint8_t {
  kPolicy = 1,
  kPolicyProposed = 2,
  kEnrolment = 3,
  kEnrolmentRequested = 4,
  kRevocation = 5,
  kRequest = 6,
  kRefusal = 7,
  kApproval = 8,
  kDenial = 9,
  kGrant = 10,
  kLease = 11,
  kSessionOpened = 12,
  kSessionClosed = 13,
  kSnapshot = 15,
  kErasure = 16,
  kErasureProposed = 19,
  kHold = 20,
  kHoldLifted = 21,
  kListApproval = 22,
};
Result<Kind> parse_kind(std::uint8_t byte);
bool is_control(Kind kind);             // its body goes to every follower
bool is_unsigned(Kind kind);            // recomputed, never signed
bool is_erasable(Kind kind);            // of the leaves of access cases: its body may have been erased
std::string_view kind_name(Kind kind);  // "request", …
std::string payload_type(Kind kind);    // "application/vnd.sallyport.request.v1+json"
Result<Kind> kind_of_payload_type(std::string_view type);

inline constexpr std::string_view kDecisionType = "application/vnd.sallyport.decision.v1+json";
inline constexpr std::string_view kTicketType = "application/vnd.sallyport.ticket.v1+json";
inline constexpr std::string_view kHostHelloType = "application/vnd.sallyport.host-hello.v1+json";

struct Attachment {
  std::string name;
  Digest256 sha256;
  std::uint64_t size = 0;
};

struct Request {
  std::string account, action, authority;
  std::vector<Attachment> attachments;
  std::string beneficiary;
  CaseId case_id;
  DeviceId device;
  std::uint64_t duration_s = 0;
  Digest256 head_root;
  std::uint64_t head_size = 0;
  std::string host;
  ByteArray<34> key{};  // TPM Name: 000b ‖ SHA-256
  Nonce nonce;
  std::string person, reason, resource;
  UnixMillis time;
};

struct QuorumClause {
  std::uint64_t approvals = 0;
  std::string group;
};

// Decision is what approvals sign, by its digest.
struct DecisionStatement {
  std::string account;
  bool approver_attested = true, approver_other_team = true;
  std::vector<std::string> approver_region;
  std::string authority, beneficiary;
  CaseId case_id;
  std::string command;
  DeviceId device;
  std::uint64_t duration_s = 0;
  Digest256 evidence;
  std::string host;
  ByteArray<34> key{};
  std::string network, person;
  Digest256 policy;
  std::vector<QuorumClause> quorum;
  Digest256 request;
  std::string resource;
  std::vector<std::string> rules;
};

struct Refusal {
  std::string authority;
  CaseId case_id;
  Reason code = Reason::kDenied;
  Digest256 request;
};

struct Approval {
  std::string approver, authority;
  CaseId case_id;
  Digest256 decision;
  std::optional<DeviceId> device;
  UnixMillis expires;
  Nonce nonce;
  UnixMillis time;
};

inline constexpr std::size_t kMinListed = 2, kMaxListed = 64;  // cases of one list-approval

struct ListedCase {
  CaseId case_id;
  Digest256 decision;
};

// ListApproval is one person's approval of several enrolments: in each case that it lists what an Approval
// with this `decision` is.
struct ListApproval {
  std::string approver, authority;
  std::vector<ListedCase> entries;  // ascending by case, each once
  UnixMillis expires;
  Nonce nonce;
  UnixMillis time;
};

struct Denial {
  std::string approver, authority;
  CaseId case_id;
  std::string reason;
  UnixMillis time;
};

struct Grant {
  std::vector<Digest256> approvals;
  std::string authority;
  CaseId case_id;
  Bytes decision;  // canonical JSON of a DecisionStatement, verbatim
};

struct Lease {
  std::string account, authority;
  CaseId case_id;
  Digest256 content, cp_hash;
  std::uint64_t expiration_s = 0;
  std::string host;
  Digest256 nonce;
  UnixMillis time;
};

struct SessionOpened {
  std::string account, address, authority;
  CaseId case_id;
  std::uint64_t channel = 0;
  std::string host;
  UnixMillis time;
};

enum class WhyClosed : std::uint8_t { kExit, kDeadline, kRevoked, kBehind, kLost };
struct SessionClosed {
  std::string authority;
  std::uint64_t bytes = 0;
  CaseId case_id;
  std::uint64_t channel = 0;
  std::string host;
  UnixMillis time;
  WhyClosed why = WhyClosed::kExit;
};

struct EnrolmentRequested {
  Bytes ak;  // TPMT_PUBLIC
  std::string authority;
  CaseId case_id;
  DeviceId device;
  Bytes ek;  // TPMT_PUBLIC
  std::string name;
  Nonce nonce;
  Digest256 pcrs;
  std::string person, region;
  UnixMillis time;
};

struct Enrolment {
  std::vector<Bytes> approvals;  // envelopes, in leaf order
  std::string authority;
  CaseId case_id;
  Bytes request;  // envelope
};

struct PolicyProposed {
  std::string authority;
  CaseId case_id;
  Digest256 digest;
  std::string person;
  Digest256 previous;
  UnixMillis time;
  std::uint64_t version = 0;
};

struct PolicyInForce {
  std::vector<Bytes> approvals;  // envelopes, in leaf order
  std::string authority;
  CaseId case_id;
  Digest256 digest;
  Bytes proposal;  // envelope; empty in version 1
  std::uint64_t version = 0;
};

// kRetired and kLost are of a device too. A retired one gets nothing any more, but may be enrolled again; a
// lost one is revoked for good, and it is told why.
enum class RevocationKind : std::uint8_t { kCase, kDevice, kPerson, kToken, kRetired, kLost };
struct Revocation {
  std::string authority;
  CaseId case_id;
  RevocationKind kind = RevocationKind::kCase;
  std::string person, reason, target;
  UnixMillis time;
};

// Snapshot commits to the ControlState just before its leaf.
struct Snapshot {
  std::string authority;
  CaseId case_id;
  std::uint64_t size = 0;  // leaves before it
  Digest256 state;         // SHA-256 of encode_control of that state
};

inline constexpr std::size_t kMaxNamedCases = 1024;  // of one erasure or hold

// ErasureProposed names closed access cases whose bodies are to be erased: those that were opened before
// `before`.
struct ErasureProposed {
  std::string authority;
  UnixMillis before;
  CaseId case_id;
  std::vector<CaseId> cases;  // ascending, at least one
  std::string person, reason;
  UnixMillis time;
};

struct Erasure {
  std::vector<Bytes> approvals;  // envelopes, in leaf order
  std::string authority;
  CaseId case_id;
  Bytes proposal;  // envelope
};

// Hold keeps cases from being erased until it is lifted.
struct Hold {
  std::string authority;
  CaseId case_id;
  std::vector<CaseId> cases;  // ascending; none: every case
  std::string person, reason;
  UnixMillis time;
};

struct HoldLifted {
  std::string authority;
  CaseId case_id;
  CaseId hold;  // the case of the hold
  std::string person, reason;
  UnixMillis time;
};

struct Ticket {
  std::string authority;
  Digest256 exporter;
  Nonce nonce;
  std::string person;
  UnixMillis time;
};

struct HostHello {
  std::string authority;
  Digest256 exporter;
  std::string host;
  Nonce nonce;
  UnixMillis time;
};

// encode gives the canonical JSON payload of a statement; parse_<kind> takes only that. What encode gives,
// parse takes, and the other way round, byte for byte. Errors: kMalformed naming the field.
Bytes encode(const Request&);
Bytes encode(const DecisionStatement&);
Bytes encode(const Refusal&);
Bytes encode(const Approval&);
Bytes encode(const ListApproval&);
Bytes encode(const Denial&);
Bytes encode(const Grant&);
Bytes encode(const Lease&);
Bytes encode(const SessionOpened&);
Bytes encode(const SessionClosed&);
Bytes encode(const EnrolmentRequested&);
Bytes encode(const Enrolment&);
Bytes encode(const PolicyProposed&);
Bytes encode(const PolicyInForce&);
Bytes encode(const Revocation&);
Bytes encode(const Snapshot&);
Bytes encode(const ErasureProposed&);
Bytes encode(const Erasure&);
Bytes encode(const Hold&);
Bytes encode(const HoldLifted&);
Bytes encode(const Ticket&);
Bytes encode(const HostHello&);

Result<Request> parse_request(ByteView payload);
Result<DecisionStatement> parse_decision(ByteView payload);
Result<Refusal> parse_refusal(ByteView payload);
Result<Approval> parse_approval(ByteView payload);
Result<ListApproval> parse_list_approval(ByteView payload);
Result<Denial> parse_denial(ByteView payload);
Result<Grant> parse_grant(ByteView payload);
Result<Lease> parse_lease(ByteView payload);
Result<SessionOpened> parse_session_opened(ByteView payload);
Result<SessionClosed> parse_session_closed(ByteView payload);
Result<EnrolmentRequested> parse_enrolment_requested(ByteView payload);
Result<Enrolment> parse_enrolment(ByteView payload);
Result<PolicyProposed> parse_policy_proposed(ByteView payload);
Result<PolicyInForce> parse_policy_in_force(ByteView payload);
Result<Revocation> parse_revocation(ByteView payload);
Result<Snapshot> parse_snapshot(ByteView payload);
Result<ErasureProposed> parse_erasure_proposed(ByteView payload);
Result<Erasure> parse_erasure(ByteView payload);
Result<Hold> parse_hold(ByteView payload);
Result<HoldLifted> parse_hold_lifted(ByteView payload);
Result<Ticket> parse_ticket(ByteView payload);
Result<HostHello> parse_host_hello(ByteView payload);

// claimed_approval gives what an envelope says to approve in one case: an approval, or a list-approval, of
// which it is that case's part. Nothing of it is believed.
//   Errors: kMalformed (another payload type; the payload); kApprovalOtherDecision: a list without this case.
Result<Approval> claimed_approval(const Envelope& envelope, const CaseId& case_id);

// decision_digest is what an approval of an access case signs: statement_digest(kDecisionType, payload).
Digest256 decision_digest(ByteView decision_payload);

}  // namespace sallyport::record

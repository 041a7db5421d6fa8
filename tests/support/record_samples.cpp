#include "tests/support/record_samples.h"

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"

namespace sallyport::test {
namespace {

using namespace record;

constexpr const char* kAuthority = "us.sallyport.corp.example/log/1";

UnixMillis at(std::uint64_t seconds) {
  return UnixMillis{1'760'000'000'000 + seconds * 1000};
}
CaseId case_of(std::uint8_t byte) {
  ByteArray<16> id;
  id.fill(byte);
  return CaseId{id};
}
Digest256 digest_of(std::string_view text) {
  return crypto::sha256(as_bytes(text));
}
Nonce nonce_of(std::string_view text) {
  return Nonce{digest_of(text).get()};
}
Bytes bytes_of(std::string_view text) {
  return to_bytes(as_bytes(text));
}
ByteArray<34> name_of(std::string_view text) {
  ByteArray<34> name{0x00, 0x0B};
  const Digest256 digest = digest_of(text);
  std::copy(digest.get().begin(), digest.get().end(), name.begin() + 2);
  return name;
}

Approval sample_approval() {
  return {"bob@corp.example",
          kAuthority,
          case_of(0x11),
          decision_digest(encode(sample_decision())),
          DeviceId{digest_of("bob's ek")},
          at(1260),
          nonce_of("approval"),
          at(60)};
}
EnrolmentRequested sample_enrolment_requested() {
  return {bytes_of("ak public area"),
          kAuthority,
          case_of(0x22),
          DeviceId{digest_of("ek")},
          bytes_of("ek public area"),
          "laptop-17",
          nonce_of("enrol"),
          digest_of("pcrs"),
          "alice@corp.example",
          "us",
          at(5)};
}
PolicyProposed sample_policy_proposed() {
  return {kAuthority,
          case_of(0x33),
          digest_of("policy text 2"),
          "carol@corp.example",
          digest_of("policy text 1"),
          at(7),
          2};
}

ListApproval sample_list_approval() {
  const Digest256 decision =
      statement_digest(payload_type(Kind::kEnrolmentRequested), encode(sample_enrolment_requested()));
  return {"bob@corp.example",
          kAuthority,
          {{case_of(0x22), decision}, {case_of(0x23), digest_of("another machine's")}},
          at(1260),
          nonce_of("list approval"),
          at(60)};
}

template <class T, class Parse>
SampleStatement statement(Kind kind, const T& value, Parse parse) {
  return {std::string{kind_name(kind)}, payload_type(kind), encode(value),
          [parse](ByteView payload) -> Result<Bytes> {
            SP_TRY(const T parsed, parse(payload));
            return encode(parsed);
          }};
}
template <class T, class Parse>
SampleStatement statement(std::string name, std::string_view type, const T& value, Parse parse) {
  return {std::move(name), std::string{type}, encode(value), [parse](ByteView payload) -> Result<Bytes> {
            SP_TRY(const T parsed, parse(payload));
            return encode(parsed);
          }};
}

Bytes unsigned_envelope(std::string_view type, Bytes payload) {
  return encode_envelope({std::string{type}, std::move(payload), {}});
}

}  // namespace

Request sample_request() {
  Request s;
  s.account = "dbadmin";
  s.action = "ssh";
  s.authority = kAuthority;
  s.attachments = {{"graph.png", digest_of("attachment"), 10}};
  s.beneficiary = "alice@corp.example";
  s.case_id = case_of(0x11);
  s.device = DeviceId{digest_of("ek")};
  s.duration_s = 900;
  s.head_root = digest_of("root");
  s.head_size = 12345;
  s.host = "db-7";
  s.key = name_of("session key");
  s.nonce = nonce_of("request");
  s.person = "alice@corp.example";
  s.reason = "INC-4711: replica lag \"again\" \\ caf\xc3\xa9";
  s.resource = "user-db";
  s.time = at(0);
  return s;
}

DecisionStatement sample_decision() {
  const Request request = sample_request();
  DecisionStatement s;
  s.account = "dbadmin";
  s.approver_region = {"us"};
  s.authority = kAuthority;
  s.beneficiary = request.beneficiary;
  s.case_id = request.case_id;
  s.command = "";
  s.device = request.device;
  s.duration_s = 900;
  s.evidence = digest_of("evidence items");
  s.host = "db-7";
  s.key = request.key;
  s.network = "us";
  s.person = request.person;
  s.policy = digest_of("policy text 1");
  s.quorum = {{2, "us-oncall"}, {1, "privacy"}};
  s.request = statement_digest(payload_type(Kind::kRequest), encode(request));
  s.resource = "user-db";
  s.rules = {"us-oncall-to-user-db"};
  return s;
}

QuoteEvidence sample_quote() {
  return {bytes_of("TPMS_ATTEST of a quote"),
          bytes_of("TPMT_SIGNATURE"),
          {digest_of("pcr 0").get(), digest_of("pcr 1").get(), digest_of("pcr 2").get()}};
}
KeyEvidence sample_key() {
  return {bytes_of("TPMT_PUBLIC"), bytes_of("TPMS_ATTEST of a certification"), bytes_of("TPMT_SIGNATURE")};
}
Observation sample_observation() {
  return {"10.20.3.4", "US", at(1)};
}

std::vector<SampleStatement> sample_statements() {
  const CaseId access = case_of(0x11);
  const Request request = sample_request();
  const Bytes decision = encode(sample_decision());
  const Bytes approval = encode(sample_approval());
  const std::string approval_type = payload_type(Kind::kApproval);
  std::vector<SampleStatement> out;
  out.push_back(statement(
      Kind::kPolicy,
      PolicyInForce{{unsigned_envelope(approval_type, approval)},
                    kAuthority,
                    case_of(0x33),
                    sample_policy_proposed().digest,
                    unsigned_envelope(payload_type(Kind::kPolicyProposed), encode(sample_policy_proposed())),
                    2},
      parse_policy_in_force));
  out.push_back(statement(Kind::kPolicyProposed, sample_policy_proposed(), parse_policy_proposed));
  out.push_back(statement(Kind::kEnrolment,
                          Enrolment{{unsigned_envelope(approval_type, approval)},
                                    kAuthority,
                                    case_of(0x22),
                                    unsigned_envelope(payload_type(Kind::kEnrolmentRequested),
                                                      encode(sample_enrolment_requested()))},
                          parse_enrolment));
  out.push_back(
      statement(Kind::kEnrolmentRequested, sample_enrolment_requested(), parse_enrolment_requested));
  out.push_back(statement(Kind::kRevocation,
                          Revocation{kAuthority, case_of(0x44), RevocationKind::kDevice, "dave@corp.example",
                                     "laptop lost", to_hex(digest_of("ek")), at(9)},
                          parse_revocation));
  out.push_back(statement(Kind::kRequest, request, parse_request));
  out.push_back(statement(Kind::kRefusal,
                          Refusal{kAuthority, access, Reason::kRegionRequester,
                                  statement_digest(payload_type(Kind::kRequest), encode(request))},
                          parse_refusal));
  out.push_back(statement(Kind::kApproval, sample_approval(), parse_approval));
  out.push_back(statement(Kind::kDenial,
                          Denial{"bob@corp.example", kAuthority, access, "no incident is open", at(61)},
                          parse_denial));
  out.push_back(statement(Kind::kGrant,
                          Grant{{statement_digest(approval_type, approval), digest_of("another approval")},
                                kAuthority,
                                access,
                                decision},
                          parse_grant));
  out.push_back(statement(Kind::kLease,
                          Lease{"dbadmin", kAuthority, access, digest_of("content"), digest_of("cpHash"), 30,
                                "db-7", digest_of("nonceTPM"), at(90)},
                          parse_lease));
  out.push_back(statement(Kind::kSessionOpened,
                          SessionOpened{"dbadmin", "10.20.3.4", kAuthority, access, 1, "db-7", at(91)},
                          parse_session_opened));
  out.push_back(statement(Kind::kSessionClosed,
                          SessionClosed{kAuthority, 4711, access, 1, "db-7", at(300), WhyClosed::kDeadline},
                          parse_session_closed));
  out.push_back(
      statement(Kind::kSnapshot, Snapshot{kAuthority, access, 48213, digest_of("state")}, parse_snapshot));
  const ErasureProposed erasure{kAuthority,
                                at(1),
                                case_of(0x55),
                                {case_of(0x11), case_of(0x12)},
                                "grace@corp.example",
                                "older than the law allows",
                                at(400)};
  out.push_back(statement(Kind::kErasure,
                          Erasure{{unsigned_envelope(approval_type, approval)},
                                  kAuthority,
                                  case_of(0x55),
                                  unsigned_envelope(payload_type(Kind::kErasureProposed), encode(erasure))},
                          parse_erasure));
  out.push_back(statement(Kind::kErasureProposed, erasure, parse_erasure_proposed));
  out.push_back(statement(
      Kind::kHold,
      Hold{kAuthority, case_of(0x66), {case_of(0x11)}, "dana@corp.example", "a court has asked", at(410)},
      parse_hold));
  out.push_back(statement(Kind::kHoldLifted,
                          HoldLifted{kAuthority, case_of(0x77), case_of(0x66), "dana@corp.example",
                                     "the case is closed", at(420)},
                          parse_hold_lifted));
  out.push_back(statement(Kind::kListApproval, sample_list_approval(), parse_list_approval));
  out.push_back(statement("decision", kDecisionType, sample_decision(), parse_decision));
  out.push_back(
      statement("ticket", kTicketType,
                Ticket{kAuthority, digest_of("exporter"), nonce_of("ticket"), "alice@corp.example", at(2)},
                parse_ticket));
  out.push_back(statement("host-hello", kHostHelloType,
                          HostHello{kAuthority, digest_of("exporter"), "db-7", nonce_of("hello"), at(3)},
                          parse_host_hello));
  return out;
}

const SampleStatement& sample_statement(std::string_view name) {
  static const std::vector<SampleStatement> all = sample_statements();
  for (const SampleStatement& s : all)
    if (s.name == name) return s;
  SP_ASSERT(!"a statement that is not known");
  return all.front();
}

std::vector<Blob> sample_blobs(Kind kind) {
  const Blob quote{EvidenceType::kQuote, encode(sample_quote())},
      key{EvidenceType::kKey, encode(sample_key())};
  const Blob note{EvidenceType::kNote, bytes_of("us.sallyport.corp.example/log/1\n1\nroot\n\nsignatures\n")};
  const Blob seen{EvidenceType::kObservation, encode(sample_observation())};
  const Blob text{EvidenceType::kPolicyText, bytes_of("policy text 2")};
  const Blob roots{EvidenceType::kTpmRoots, bytes_of("PEM")};
  const Blob ek{EvidenceType::kEkCertificate, bytes_of("EK certificate")};
  switch (kind) {
    case Kind::kRequest:
      return {quote, key, note, seen, {EvidenceType::kAttachment, bytes_of("attachment")}};
    case Kind::kGrant:
      return {quote, note, seen};
    case Kind::kApproval:
      return {quote, note};
    case Kind::kEnrolment:
    case Kind::kEnrolmentRequested:
      return {quote, ek};
    case Kind::kPolicy:
    case Kind::kPolicyProposed:
      return {text, roots};
    default:
      return {};
  }
}

Envelope sample_envelope(const SampleStatement& statement, const crypto::PrivateKey& key) {
  const auto kind = kind_of_payload_type(statement.type);
  if (kind.has_value() && is_unsigned(*kind)) return {statement.type, statement.payload, {}};
  auto envelope = sign_statement(statement.type, statement.payload, key.public_key(),
                                 [&key](const Digest256& digest) { return key.sign_p256(digest); });
  SP_ASSERT(envelope.has_value());
  return std::move(envelope).value();
}

Entry sample_entry(Kind kind, ByteView envelope) {
  const auto number = static_cast<std::uint8_t>(kind);
  std::uint8_t which = 0x11;
  if (kind == Kind::kPolicy || kind == Kind::kPolicyProposed) which = 0x33;
  if (kind == Kind::kEnrolment || kind == Kind::kEnrolmentRequested || kind == Kind::kListApproval)
    which = 0x22;
  if (kind == Kind::kRevocation) which = 0x44;
  if (kind == Kind::kErasure || kind == Kind::kErasureProposed) which = 0x55;
  if (kind == Kind::kHold) which = 0x66;
  if (kind == Kind::kHoldLifted) which = 0x77;
  return make_entry(kind, at(number), case_of(which), number % 2 == 0 ? number : ledger::kNoPredecessor,
                    envelope, sample_blobs(kind), nonce_of(kind_name(kind)));
}

}  // namespace sallyport::test

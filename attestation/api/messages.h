#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/record/dossier.h"
#include "attestation/record/state.h"

// The messages of the broker's API (broker/http/README.md), for both ends: canonical JSON as statements are.
// What encode gives, parse takes; nothing of it is believed. Errors: kMalformed.
namespace sallyport::api {

// The largest has a full dossier in base64, and a certificate.
inline constexpr std::size_t kMaxMessageBytes = record::kMaxFullDossierBytes / 3 * 4 + (256u << 10);

struct ErrorMessage {
  std::string case_hex;  // or empty
  Reason code = Reason::kInternal;
  std::string detail;
};

struct Hello {
  std::string head;  // newest cosigned note; empty before the first
  Nonce nonce;
  std::string origin;
  UnixMillis time;
};

struct Attest {
  DeviceId device;
  Nonce nonce;
  Bytes quote;  // record::QuoteEvidence
};

struct Submitted {
  CaseId case_id;
  std::optional<Reason> code;  // of a refusal that was recorded
  std::string detail;
  std::uint64_t leaf = 0, size = 0;
  std::string state;
};

struct ApprovalView {
  std::string approver;
  bool attested = false;
  std::uint64_t leaf = 0;
  UnixMillis time;
};

struct ClauseView {
  std::string group;
  std::uint64_t have = 0, needed = 0;
  std::vector<std::string> people;
};

struct EntryView {
  std::uint64_t index = 0;
  record::Entry entry;  // without blobs
};

// CaseView is one case as the broker sees it; a summary has no entries.
struct CaseView {
  std::vector<ApprovalView> approvals;
  CaseId case_id;
  std::optional<Reason> code;
  std::string detail;
  std::vector<EntryView> entries;
  UnixMillis expires;
  std::string kind;  // "access", "policy", "enrolment", "revocation", "erasure", "hold"
  std::string may;   // the group as which the asking person may approve; empty: may not
  UnixMillis opened;
  std::string person, beneficiary, resource, host, account, reason, rule;
  std::vector<ClauseView> quorum;
  std::string state;       // "open", "refused", "denied", "granted", "closed", "expired"
  std::string to_approve;  // hex or empty
};

struct Activated {
  Bytes certificate;  // SSH wire form
  Bytes dossier;      // full form
};

struct LeaseAsk {
  Bytes content;
  std::uint64_t expiration_s = 0;
  Bytes nonce_tpm;
};
struct Leased {
  std::uint64_t expiration_s = 0;
  crypto::Signature64 signature{};
};

struct Challenge {
  Bytes blob;                // TPM2B_ID_OBJECT
  Bytes secret;              // TPM2B_ENCRYPTED_SECRET
  std::uint64_t number = 0;  // 0 in what an approver sends
};

Bytes encode(const ErrorMessage&);
Bytes encode(const Hello&);
Bytes encode(const Attest&);
Bytes encode(const Submitted&);
Bytes encode(const std::vector<Submitted>&);  // of a list-approval: what became of it in each case
Bytes encode(const CaseView&);
Bytes encode(const std::vector<CaseView>&);  // without entries
Bytes encode(const Activated&);
Bytes encode(const LeaseAsk&);
Bytes encode(const Leased&);
Bytes encode(const Challenge&);
Bytes encode(const std::vector<Challenge>&);

Result<ErrorMessage> parse_error_message(ByteView json);
Result<Hello> parse_hello(ByteView json);
Result<Attest> parse_attest(ByteView json);
Result<Submitted> parse_submitted(ByteView json);
Result<std::vector<Submitted>> parse_submitted_list(ByteView json);
Result<CaseView> parse_case_view(ByteView json);
Result<std::vector<CaseView>> parse_case_list(ByteView json);
Result<Activated> parse_activated(ByteView json);
Result<LeaseAsk> parse_lease_ask(ByteView json);
Result<Leased> parse_leased(ByteView json);
Result<Challenge> parse_challenge(ByteView json);
Result<std::vector<Challenge>> parse_challenges(ByteView json);

// One text field: {"answer":…}, {"person":…}, {"device":…}, {"host":…}, {"challenge":…}.
Bytes encode_field(std::string_view name, std::string_view value);
Result<std::string> parse_field(ByteView json, std::string_view name, std::size_t max_bytes);
Bytes encode_case_ids(const std::vector<CaseId>& cases);
Result<std::vector<CaseId>> parse_case_ids(ByteView json);
Bytes encode_notes(const std::vector<std::string>& notes);
Result<std::vector<std::string>> parse_notes(ByteView json);

}  // namespace sallyport::api

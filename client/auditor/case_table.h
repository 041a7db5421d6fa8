#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "attestation/record/canonical_json.h"
#include "attestation/record/state.h"

// What an export says of each case, in a line. Of an erased case only leaves are left: when it was opened,
// when it was granted, and when it was erased. It stands on nothing before the export has been verified: a
// table is filled by verify_export's on_entry, and looked at when that has succeeded.
namespace sallyport::client::auditor {

enum class Outcome : std::uint8_t { kOpen, kExpired, kGranted, kRefused, kDenied, kDone, kErased };
// outcome_name: "open", …; "done": a policy, an enrolment, a revocation, an erasure, a hold.
std::string_view outcome_name(Outcome outcome);
Result<Outcome> parse_outcome(std::string_view name);

struct CaseRow {
  CaseId id;
  record::CaseType type = record::CaseType::kAccess;
  Outcome outcome = Outcome::kOpen;
  LeafIndex leaf;  // that opened it
  UnixMillis opened, expires;
  std::string person, person_region;            // who opened it; regions are those of the policy at that leaf
  std::string beneficiary, beneficiary_region;  // of an access
  std::string machine, machine_region;          // of an access or an enrolment
  std::string address;                          // as the broker saw it
  std::string resource, host, account, command;
  std::string reason;                    // in words: of a request, a revocation
  std::string target;                    // of a revocation; the version of a policy; the hold that is lifted
  std::vector<std::string> rules;        // of an access, once it was decided
  std::vector<std::string> approved_by;  // whom the closing leaf names, in its order
  std::string code;                      // of a refusal
  std::string denied_by, denial;         // who denied or revoked it, and why; a grant may be ended so
  std::uint64_t policy_version = 0;      // in force when it was closed, or opened
  UnixMillis granted, not_after;         // 0: never
  std::optional<UnixMillis> ended;       // of a grant that was denied or revoked; of a hold that was lifted
  std::uint64_t leases = 0, sessions = 0;
  std::optional<UnixMillis> erased;  // when an erasure was recorded that covers it
  std::optional<CaseId> erased_by;   // its case
  std::optional<UnixMillis> before;  // of an erasure: only cases opened before then
  std::vector<CaseId> named;         // by an erasure or a hold; a hold that names none is of every case
};
// type_name: "access", "policy", "enrolment", "revocation", "erasure", "hold" (and what lifts one).
std::string_view type_name(record::CaseType type);
Result<record::CaseType> parse_type(std::string_view name);

// Filter takes the rows that have all that is asked for; what is empty asks for nothing.
struct Filter {
  std::string person = {};    // who asked, or for whom: the whole id, or what is before its @
  std::string approver = {};  // likewise
  std::string host = {}, resource = {}, account = {}, rule = {};
  std::string text = {};    // in the reason, or in a denial's; ASCII letters match in either case
  std::string region = {};  // of person, beneficiary or machine
  std::optional<record::CaseType> type = {};
  std::optional<Outcome> outcome = {};
  bool granted = false;                          // has a grant, whether it was erased since or not
  std::optional<UnixMillis> from = {}, to = {};  // of when it was opened; `to` is not in it
  bool takes(const CaseRow& row) const;
};

class CaseTable {
 public:
  // add takes each entry of a log in turn, with the state that it led to.
  void add(const record::State& state, const record::OpenedEntry& entry, LeafIndex index);
  // add_erased takes each leaf without a body, likewise.
  void add_erased(const ledger::Leaf& leaf, LeafIndex index);
  // finish gives the rows in the order of the log; what was not closed in time has expired.
  std::vector<CaseRow> finish(UnixMillis last_leaf) &&;

 private:
  struct Counted {
    Digest256 digest;
    std::string approver;
  };
  Status take(const record::State& state, const record::OpenedEntry& entry, LeafIndex index);
  void deny(CaseRow& row, UnixMillis time, const std::string& by, const std::string& why);
  std::vector<CaseRow> rows_;
  std::map<CaseId, std::size_t> at_;                  // into rows_
  std::map<CaseId, std::vector<Counted>> approvals_;  // of open cases
};

// csv_head and csv_line give RFC 4180, every field in quotes, CRLF at the end. A field that a spreadsheet
// would take for a formula gets an apostrophe before it. The columns are in README.md.
std::string csv_head();
std::string csv_line(const CaseRow& row);
record::json::Value json_of(const CaseRow& row);

}  // namespace sallyport::client::auditor

#include "client/auditor/case_table.h"

#include <algorithm>
#include <array>
#include <functional>

#include "attestation/base/hex.h"
#include "client/auditor/erasures.h"
#include "client/terminal/render.h"

namespace sallyport::client::auditor {
namespace {

using record::CaseType;
using record::Kind;
using record::json::Value;

constexpr std::array<std::pair<CaseType, std::string_view>, 6> kTypes = {{
    {CaseType::kAccess, "access"},
    {CaseType::kPolicy, "policy"},
    {CaseType::kEnrolment, "enrolment"},
    {CaseType::kRevocation, "revocation"},
    {CaseType::kErasure, "erasure"},
    {CaseType::kHold, "hold"},
}};
constexpr std::array<std::pair<Outcome, std::string_view>, 7> kOutcomes = {{
    {Outcome::kOpen, "open"},
    {Outcome::kExpired, "expired"},
    {Outcome::kGranted, "granted"},
    {Outcome::kRefused, "refused"},
    {Outcome::kDenied, "denied"},
    {Outcome::kDone, "done"},
    {Outcome::kErased, "erased"},
}};

template <class Table, class Key>
std::string_view name_in(const Table& table, Key key) {
  for (const auto& [value, name] : table)
    if (value == key) return name;
  return {};
}
template <class Key, std::size_t N>
Result<Key> key_in(const std::array<std::pair<Key, std::string_view>, N>& table, std::string_view wanted) {
  std::string names;
  for (const auto& [value, name] : table) {
    if (name == wanted) return value;
    names += (names.empty() ? "" : ", ") + std::string{name};
  }
  return Error{Code::kMalformed, Reason::kUsage, "one of " + names};
}

std::string region_of(const policy::Policy& policy, const std::string& person) {
  return policy::region_of_person(policy, PersonId{person}).get();
}

std::string lower(std::string_view text) {
  std::string out{text};
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

bool is_person(const std::string& id, const std::string& wanted) {
  return id == wanted || (wanted.find('@') == std::string::npos && id.starts_with(wanted + "@"));
}

std::vector<std::string> spelled(const std::vector<CaseId>& ids) {
  std::vector<std::string> out;
  for (const CaseId& id : ids) out.push_back(to_hex(id));
  return out;
}

// moment is empty for what has not come to pass.
std::string moment(UnixMillis time) {
  return time.get() == 0 ? std::string{} : iso_utc(time);
}

std::string joined(const std::vector<std::string>& all) {
  std::string out;
  for (const std::string& one : all) out += (out.empty() ? "" : " ") + one;
  return out;
}

std::string csv_field(std::string_view text) {
  std::string out = "\"";
  const std::size_t first = text.find_first_not_of(' ');
  if (first != std::string_view::npos &&
      std::string_view{"=+-@\t\r\n"}.find(text[first]) != std::string_view::npos)
    out += '\'';
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

// The columns, in an order that never changes: new ones come at the end.
struct Column {
  std::string_view name;
  std::function<std::string(const CaseRow&)> text;
};
const std::vector<Column>& columns() {
  const auto number = [](std::uint64_t value) { return std::to_string(value); };
  static const std::vector<Column> all = {
      {"case", [](const CaseRow& r) { return to_hex(r.id); }},
      {"kind", [](const CaseRow& r) { return std::string{type_name(r.type)}; }},
      {"outcome", [](const CaseRow& r) { return std::string{outcome_name(r.outcome)}; }},
      {"leaf", [=](const CaseRow& r) { return number(r.leaf.get()); }},
      {"opened", [](const CaseRow& r) { return moment(r.opened); }},
      {"granted", [](const CaseRow& r) { return moment(r.granted); }},
      {"not_after", [](const CaseRow& r) { return moment(r.not_after); }},
      {"ended", [](const CaseRow& r) { return r.ended ? moment(*r.ended) : std::string{}; }},
      {"person", [](const CaseRow& r) { return r.person; }},
      {"person_region", [](const CaseRow& r) { return r.person_region; }},
      {"beneficiary", [](const CaseRow& r) { return r.beneficiary; }},
      {"beneficiary_region", [](const CaseRow& r) { return r.beneficiary_region; }},
      {"machine", [](const CaseRow& r) { return r.machine; }},
      {"machine_region", [](const CaseRow& r) { return r.machine_region; }},
      {"address", [](const CaseRow& r) { return r.address; }},
      {"resource", [](const CaseRow& r) { return r.resource; }},
      {"host", [](const CaseRow& r) { return r.host; }},
      {"account", [](const CaseRow& r) { return r.account; }},
      {"command", [](const CaseRow& r) { return r.command; }},
      {"reason", [](const CaseRow& r) { return r.reason; }},
      {"rules", [](const CaseRow& r) { return joined(r.rules); }},
      {"policy_version", [=](const CaseRow& r) { return number(r.policy_version); }},
      {"approved_by", [](const CaseRow& r) { return joined(r.approved_by); }},
      {"code", [](const CaseRow& r) { return r.code; }},
      {"denied_by", [](const CaseRow& r) { return r.denied_by; }},
      {"denial", [](const CaseRow& r) { return r.denial; }},
      {"target", [](const CaseRow& r) { return r.target; }},
      {"leases", [=](const CaseRow& r) { return number(r.leases); }},
      {"sessions", [=](const CaseRow& r) { return number(r.sessions); }},
      {"erased", [](const CaseRow& r) { return r.erased ? moment(*r.erased) : std::string{}; }},
      {"erased_by", [](const CaseRow& r) { return r.erased_by ? to_hex(*r.erased_by) : std::string{}; }},
      {"before", [](const CaseRow& r) { return r.before ? moment(*r.before) : std::string{}; }},
      {"cases", [](const CaseRow& r) { return joined(spelled(r.named)); }},
  };
  return all;
}

std::vector<Value> values(const std::vector<std::string>& all) {
  return {all.begin(), all.end()};
}

}  // namespace

std::string_view outcome_name(Outcome outcome) {
  return name_in(kOutcomes, outcome);
}
Result<Outcome> parse_outcome(std::string_view name) {
  return key_in(kOutcomes, name);
}
std::string_view type_name(CaseType type) {
  return name_in(kTypes, type);
}
Result<CaseType> parse_type(std::string_view name) {
  return key_in(kTypes, name);
}

bool Filter::takes(const CaseRow& row) const {
  const auto is = [](const std::string& wanted, const std::string& has) {
    return wanted.empty() || wanted == has;
  };
  const auto has_text = [this](const std::string& in) {
    return lower(in).find(lower(text)) != std::string::npos;
  };
  return (person.empty() || is_person(row.person, person) || is_person(row.beneficiary, person)) &&
         (approver.empty() || std::any_of(row.approved_by.begin(), row.approved_by.end(),
                                          [this](const auto& one) { return is_person(one, approver); })) &&
         is(host, row.host) && is(resource, row.resource) && is(account, row.account) &&
         (rule.empty() || std::find(row.rules.begin(), row.rules.end(), rule) != row.rules.end()) &&
         (text.empty() || has_text(row.reason) || has_text(row.denial)) &&
         (region.empty() || region == row.person_region || region == row.beneficiary_region ||
          region == row.machine_region) &&
         (!type || *type == row.type) && (!outcome || *outcome == row.outcome) &&
         (!granted || row.granted.get() != 0) && (!from || row.opened >= *from) && (!to || row.opened < *to);
}

void CaseTable::add(const record::State& state, const record::OpenedEntry& entry, LeafIndex index) {
  // Every statement was parsed when it was judged.
  SP_ASSERT(take(state, entry, index).has_value());
}

void CaseTable::deny(CaseRow& row, UnixMillis time, const std::string& by, const std::string& why) {
  if (row.outcome != Outcome::kErased) {
    row.denied_by = by;
    row.denial = why;
  }
  if (row.granted.get() != 0)
    row.ended = time;
  else if (row.outcome == Outcome::kOpen && time < row.expires)
    row.outcome = Outcome::kDenied;
}

Status CaseTable::take(const record::State& state, const record::OpenedEntry& entry, LeafIndex index) {
  const record::Body& body = entry.statement().body;
  if (body.kind == Kind::kSnapshot) return Done{};  // the log's own, and nobody's case
  const Bytes& payload = entry.statement().envelope.payload;
  const policy::Policy& policy = state.control.policy()->policy;
  const UnixMillis time = entry.entry().leaf.time;
  // An id may open a second case, long after the log has forgotten the first.
  const bool opens = body.kind == Kind::kRequest || body.kind == Kind::kPolicyProposed ||
                     body.kind == Kind::kEnrolmentRequested || body.kind == Kind::kRevocation ||
                     body.kind == Kind::kErasureProposed || body.kind == Kind::kHold ||
                     body.kind == Kind::kHoldLifted;
  if (opens || !at_.contains(body.case_id)) {
    at_.insert_or_assign(body.case_id, rows_.size());
    approvals_.erase(body.case_id);
    CaseRow& opened = rows_.emplace_back();
    opened.id = body.case_id;
    opened.leaf = index;
    opened.opened = time;
    opened.policy_version = policy.version;
    if (const auto* trace = state.control.find_case(body.case_id)) opened.expires = trace->expires;
  }
  CaseRow& row = rows_[at_.at(body.case_id)];
  const auto by = [&](const std::string& person) {
    row.person = person;
    row.person_region = region_of(policy, person);
  };
  switch (body.kind) {
    case Kind::kRequest: {
      SP_TRY(const record::Request request, record::parse_request(payload));
      by(request.person);
      row.beneficiary = request.beneficiary;
      row.beneficiary_region = region_of(policy, request.beneficiary);
      if (const auto* device = state.control.find_device(request.device)) {
        row.machine = device->name;
        row.machine_region = device->region.get();
      }
      for (const record::Blob& blob : entry.entry().blobs)
        if (blob.type == record::EvidenceType::kObservation) {
          SP_TRY(const record::Observation seen, record::parse_observation(blob.bytes));
          row.address = seen.address;
        }
      row.resource = request.resource;
      row.host = request.host;
      row.account = request.account;
      row.reason = request.reason;
      if (const auto found = state.cases.find(body.case_id);
          found != state.cases.end() && found->second.decision) {
        row.rules = found->second.decision->rules;
        row.account = found->second.decision->account;
        row.command = found->second.decision->command;
      }
      break;
    }
    case Kind::kRefusal: {
      SP_TRY(const record::Refusal refusal, record::parse_refusal(payload));
      row.outcome = Outcome::kRefused;
      row.code = reason_name(refusal.code);
      break;
    }
    case Kind::kApproval:
    case Kind::kListApproval: {
      SP_TRY(const record::Approval approval,
             record::claimed_approval(entry.statement().envelope, body.case_id));
      approvals_[body.case_id].push_back({entry.statement().digest, approval.approver});
      break;
    }
    case Kind::kDenial: {
      SP_TRY(const record::Denial denial, record::parse_denial(payload));
      deny(row, time, denial.approver, denial.reason);
      break;
    }
    case Kind::kGrant: {
      SP_TRY(const record::Grant grant, record::parse_grant(payload));
      SP_TRY(const record::DecisionStatement decision, record::parse_decision(grant.decision));
      row.outcome = Outcome::kGranted;
      row.granted = time;
      row.not_after = UnixMillis{time.get() + decision.duration_s * 1000};
      row.policy_version = policy.version;
      row.rules = decision.rules;
      row.account = decision.account;
      row.host = decision.host;
      row.command = decision.command;
      for (const Digest256& digest : grant.approvals)
        for (const Counted& one : approvals_[body.case_id])
          if (one.digest == digest) row.approved_by.push_back(one.approver);
      approvals_.erase(body.case_id);
      break;
    }
    case Kind::kLease:
      ++row.leases;
      break;
    case Kind::kSessionOpened:
      ++row.sessions;
      break;
    case Kind::kSessionClosed:
    case Kind::kSnapshot:
      break;
    case Kind::kErasureProposed: {
      SP_TRY(record::ErasureProposed proposed, record::parse_erasure_proposed(payload));
      row.type = CaseType::kErasure;
      by(proposed.person);
      row.reason = proposed.reason;
      row.before = proposed.before;
      row.named = std::move(proposed.cases);
      break;
    }
    case Kind::kErasure: {
      SP_TRY(KnownErasure erasure, open_erasure(entry.statement(), index, time));
      row.outcome = Outcome::kDone;
      row.approved_by = std::move(erasure.approved_by);
      approvals_.erase(body.case_id);
      for (const CaseId& id : erasure.what.cases)
        if (const auto hit = at_.find(id); hit != at_.end()) {
          CaseRow& erased = rows_[hit->second];
          if (erased.outcome != Outcome::kErased || erased.erased || !covers(erasure.what, id, erased.opened))
            continue;
          erased.erased = time;
          erased.erased_by = body.case_id;
        }
      break;
    }
    case Kind::kHold: {
      SP_TRY(record::Hold hold, record::parse_hold(payload));
      row.type = CaseType::kHold;
      row.outcome = Outcome::kDone;
      by(hold.person);
      row.reason = hold.reason;
      row.named = std::move(hold.cases);
      break;
    }
    case Kind::kHoldLifted: {
      SP_TRY(const record::HoldLifted lifted, record::parse_hold_lifted(payload));
      row.type = CaseType::kHold;
      row.outcome = Outcome::kDone;
      by(lifted.person);
      row.reason = lifted.reason;
      row.target = to_hex(lifted.hold);
      if (const auto hit = at_.find(lifted.hold); hit != at_.end()) rows_[hit->second].ended = time;
      break;
    }
    case Kind::kEnrolmentRequested: {
      SP_TRY(const record::EnrolmentRequested asked, record::parse_enrolment_requested(payload));
      row.type = CaseType::kEnrolment;
      by(asked.person);
      row.machine = asked.name;
      row.machine_region = asked.region;
      break;
    }
    case Kind::kEnrolment: {
      SP_TRY(const record::Enrolment enrolment, record::parse_enrolment(payload));
      row.outcome = Outcome::kDone;
      SP_TRY(row.approved_by, approvers_of(enrolment.approvals, body.case_id));
      approvals_.erase(body.case_id);
      break;
    }
    case Kind::kPolicyProposed: {
      SP_TRY(const record::PolicyProposed proposed, record::parse_policy_proposed(payload));
      row.type = CaseType::kPolicy;
      by(proposed.person);
      row.target = std::to_string(proposed.version);
      break;
    }
    case Kind::kPolicy: {
      SP_TRY(const record::PolicyInForce in_force, record::parse_policy_in_force(payload));
      row.type = CaseType::kPolicy;
      row.outcome = Outcome::kDone;
      row.target = std::to_string(in_force.version);
      SP_TRY(row.approved_by, approvers_of(in_force.approvals, body.case_id));
      approvals_.erase(body.case_id);
      break;
    }
    case Kind::kRevocation: {
      SP_TRY(const record::Revocation revocation, record::parse_revocation(payload));
      row.type = CaseType::kRevocation;
      row.outcome = Outcome::kDone;
      by(revocation.person);
      row.target = revocation.target;
      row.reason = revocation.reason;
      if (revocation.kind != record::RevocationKind::kCase) break;
      SP_TRY(const CaseId target, parse_case_id(revocation.target));
      if (const auto hit = at_.find(target); hit != at_.end())
        deny(rows_[hit->second], time, revocation.person, revocation.reason);
      break;
    }
  }
  return Done{};
}

void CaseTable::add_erased(const ledger::Leaf& leaf, LeafIndex index) {
  if (leaf.kind == static_cast<std::uint8_t>(Kind::kRequest)) {
    at_.insert_or_assign(leaf.case_id, rows_.size());
    CaseRow& row = rows_.emplace_back();
    row.id = leaf.case_id;
    row.outcome = Outcome::kErased;
    row.leaf = index;
    row.opened = leaf.time;
  } else if (leaf.kind == static_cast<std::uint8_t>(Kind::kGrant)) {
    rows_[at_.at(leaf.case_id)].granted = leaf.time;
  }
}

std::vector<CaseRow> CaseTable::finish(UnixMillis last_leaf) && {
  for (CaseRow& row : rows_)
    if (row.outcome == Outcome::kOpen && row.expires <= last_leaf) row.outcome = Outcome::kExpired;
  return std::move(rows_);
}

std::string csv_head() {
  std::string line;
  for (const Column& column : columns()) line += (line.empty() ? "" : ",") + csv_field(column.name);
  return line + "\r\n";
}

std::string csv_line(const CaseRow& row) {
  std::string line;
  for (const Column& column : columns()) line += (line.empty() ? "" : ",") + csv_field(column.text(row));
  return line + "\r\n";
}

Value json_of(const CaseRow& row) {
  return Value::object({{"account", row.account},
                        {"address", row.address},
                        {"approved_by", values(row.approved_by)},
                        {"before", row.before ? row.before->get() : 0},
                        {"beneficiary", row.beneficiary},
                        {"beneficiary_region", row.beneficiary_region},
                        {"case", to_hex(row.id)},
                        {"cases", values(spelled(row.named))},
                        {"code", row.code},
                        {"command", row.command},
                        {"denial", row.denial},
                        {"denied_by", row.denied_by},
                        {"ended", row.ended ? row.ended->get() : 0},
                        {"erased", row.erased ? row.erased->get() : 0},
                        {"erased_by", row.erased_by ? to_hex(*row.erased_by) : std::string{}},
                        {"granted", row.granted.get()},
                        {"host", row.host},
                        {"kind", type_name(row.type)},
                        {"leaf", row.leaf.get()},
                        {"leases", row.leases},
                        {"machine", row.machine},
                        {"machine_region", row.machine_region},
                        {"not_after", row.not_after.get()},
                        {"opened", row.opened.get()},
                        {"outcome", outcome_name(row.outcome)},
                        {"person", row.person},
                        {"person_region", row.person_region},
                        {"policy_version", row.policy_version},
                        {"reason", row.reason},
                        {"resource", row.resource},
                        {"rules", values(row.rules)},
                        {"sessions", row.sessions},
                        {"target", row.target}});
}

}  // namespace sallyport::client::auditor

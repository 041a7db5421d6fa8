#include "client/approver/render.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <functional>
#include <map>

#include "attestation/base/hex.h"
#include "client/terminal/cases.h"
#include "client/terminal/render.h"

namespace sallyport::client::approver {
namespace {

using record::json::Value;

constexpr std::size_t kLabel = 12, kText = 72;  // columns
constexpr std::size_t kMaxShownBytes = 1u << 20;
constexpr std::size_t kShownCases = 12;

// width counts characters, not bytes. (Wide characters are counted once: then a check stands a bit further
// on.)
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}
std::string column(std::string text, std::size_t columns) {
  const std::size_t is = width(text);
  text.append(is < columns ? columns - is : 2, ' ');
  return text;
}

// Screen builds lines of three columns: what, as it will be signed, and what was checked of it.
class Screen {
 public:
  void line(std::string_view label, std::string text, std::string_view check = {}) {
    std::string row = "  " + column(std::string{label}, kLabel - 2);
    row += check.empty() ? text : column(std::move(text), kText - kLabel) + std::string{check};
    out_ += row + "\n";
  }
  void whole(std::string text) { out_ += std::move(text) + "\n"; }
  void lines(const std::string& text) { out_ += text; }
  std::string take() && { return std::move(out_); }

 private:
  std::string out_;
};

// A text of somebody else's, so shown that it ends where it seems to and stands in no other column.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : printable(text)) {
    if (c == '"') out += '\\';
    if (c == ' ' && out.back() == ' ')
      out += "\\u{20}";
    else
      out += c;
  }
  return out + "\"";
}

std::string person_text(const policy::Policy& policy, const std::string& id) {
  const policy::Person* person = policy::find_person(policy, PersonId{id});
  std::string text = printable(id);
  if (person == nullptr) return text + " · not in the policy: region unknown";
  return text + " · " + printable(person->region.get()) + " · team " + printable(person->team);
}

// The manufacturer of a TPM, with its id as the certificate has it.
std::string manufacturer_text(const std::string& id) {
  const std::string letters = evidence::manufacturer_text(id);
  return printable(letters) + (letters == id ? "" : " (" + printable(id) + ")");
}

void render_access(const Review& review, Screen& screen) {
  const AccessReview& access = *review.access;
  const record::Request& request = access.evaluated.request;
  const record::DecisionStatement& decision = access.evaluated.decision;
  const policy::Policy& policy = review.policy->policy;

  screen.line("for whom",
              request.beneficiary == request.person
                  ? "the same person"
                  : "ANOTHER PERSON: " + person_text(policy, request.beneficiary),
              "by the requester's own word");
  std::string address = request.host;
  if (const auto host = policy::find_host(policy, request.host); host && host->host->address != request.host)
    address += " (" + host->host->address + ")";
  bool recorded = true;
  for (const std::string& id : decision.rules)
    if (const policy::Rule* rule = policy::find_rule(policy, RuleId{id})) recorded &= rule->limits.record;
  screen.line("what", "ssh to " + printable(address) + " as " + printable(decision.account) + ", up to " +
                          duration_text(decision.duration_s) + ", " +
                          (decision.command.empty() ? "any command" : "only " + quoted(decision.command)) +
                          (recorded ? ", opening and end on record" : ", NOT RECORDED"));
  screen.line("resource", printable(decision.resource));
  screen.line("why", quoted(request.reason));
  for (std::size_t i = 0; i < review.pieces.size(); ++i) {
    const Piece& piece = review.pieces[i];
    screen.line("evidence",
                std::to_string(i + 1) + " " + printable(piece.name) + " " +
                    human_bytes(piece.blob.bytes.size()) + " sha256 " + to_hex(piece.sha256).substr(0, 16),
                "fetched, hash ok (open: sallyport review " + short_case(review.case_id) + " --open " +
                    std::to_string(i + 1) + ")");
  }
  screen.line("machine",
              printable(access.device.name) + " · " + printable(access.device.region.get()) +
                  " · enrolled by leaf " + grouped(access.device.enrolled.get()),
              "quote ok, boot: " + printable(access.evaluated.boot.reference));
  screen.line("", "device " + to_hex(access.device.id));
  if (const auto& ima = access.evaluated.ima)
    screen.line("files", ima_text(*ima), "PCR 10 quoted; each file expected");
  screen.line("key", "of this case alone, in that TPM: " + to_hex(request.key).substr(4, 16),
              "certified, needs leases");
  screen.line("network", printable(access.seen.address) + " · " + printable(decision.network),
              "as the broker saw it");
  std::string rules;
  for (const std::string& rule : decision.rules) rules += (rules.empty() ? "" : " + ") + printable(rule);
  screen.line("rule", rules + ", policy version " + std::to_string(policy.version),
              "in force in your own log");
  screen.line("needs", printable(policy::quorum_text(review.question.quorum)) +
                           (decision.approver_other_team ? ", of other teams" : "") +
                           (decision.approver_attested ? ", at attested machines" : ""));
}

// What an enrolment would replace, and what would differ from it.
void render_replaced(const EnrolmentReview& enrolment, Screen& screen) {
  const record::Device& before = *enrolment.replaced;
  screen.line(
      "CAREFUL",
      "RE-ENROLMENT: replaces " + quoted(before.name) + (enrolment.retired ? ", which is RETIRED" : ""),
      "enrolled by leaf " + grouped(before.enrolled.get()));
  for (std::string& line : replaced_lines(enrolment)) screen.line("differs", std::move(line));
}

std::string boot_text(const EnrolmentReview& enrolment) {
  if (!enrolment.boot_refused) return printable(enrolment.boot);
  return "NOT ACCEPTED [" + std::string{reason_name(enrolment.boot_refused->reason)} + "]";
}

std::string firmware_text(std::uint64_t version) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(version));
  return text;
}

constexpr const char* kForeignRegion = " (NOT the region of the person who asks)";
bool is_of_region(const policy::Person* person, const record::EnrolmentRequested& statement) {
  return person != nullptr && person->region.get() == statement.region;
}

void render_enrolment(const Review& review, Screen& screen) {
  const EnrolmentReview& enrolment = *review.enrolment;
  const record::EnrolmentRequested& statement = enrolment.statement;
  const policy::Person* person = policy::find_person(review.policy->policy, PersonId{statement.person});
  screen.line("what",
              "enrol " + quoted(statement.name) + " as a machine of region " + printable(statement.region) +
                  (is_of_region(person, statement) ? "" : kForeignRegion),
              "by the requester's own word");
  if (enrolment.replaced) render_replaced(enrolment, screen);
  screen.line("device", to_hex(statement.device), "its endorsement key");
  screen.line("TPM",
              manufacturer_text(enrolment.endorsement.manufacturer) + " " +
                  printable(enrolment.endorsement.model) + " " + printable(enrolment.endorsement.version),
              "certificate chain to a root of the policy");
  for (const evidence::EkOddity oddity : enrolment.endorsement.oddities)
    screen.line(oddity == evidence::EkOddity::kExpired ? "CAREFUL" : "",
                "EK certificate: " + std::string{sentence(oddity)});
  screen.line("key", "attestation key " + to_hex(view(enrolment.device.attestation_key.name())).substr(4, 16),
              "right template, quote ok");
  screen.line("identity", to_hex(view(*enrolment.device.identity)).substr(4, 16),
              "its TPM's, with whatever keys; no other machine has it");
  screen.line("baseline", "PCRs " + to_hex(statement.pcrs).substr(0, 16), "as quoted");
  screen.line("boot", boot_text(enrolment),
              enrolment.boot_refused ? "its requests would be refused" : "accepted by the policy");
  screen.line("challenge", "not yet: sallyport approve asks the TPM itself, before you sign");
  screen.line("needs",
              printable(policy::quorum_text(review.question.quorum)) + ", policy version " +
                  std::to_string(review.policy->policy.version),
              "in force in your own log");
}

// reference_lines tells which reference values come, go or change. What a changed one accepts is for
// `sallyport reference diff`, on the two documents.
std::vector<std::string> reference_lines(const evidence::ReferenceValues& before,
                                         const evidence::ReferenceValues& next) {
  // One reference as it would be written alone: equal texts accept the same.
  const auto text_of = [](const evidence::ReferenceValues& values, std::size_t at) {
    return evidence::write_reference_values(
        {.version = 1, .selection = values.selection, .references = {values.references[at]}});
  };
  std::vector<std::string> out;
  for (std::size_t i = 0; i < next.references.size(); ++i) {
    const std::string& id = next.references[i].id;
    const auto old = before.find(id);
    if (!old)
      out.push_back("+ " + id + " is accepted, too");
    else if (text_of(before, *old) != text_of(next, i))
      out.push_back("~ " + id + " CHANGES: sallyport reference diff OLD NEW");
  }
  for (const evidence::Reference& one : before.references)
    if (!next.find(one.id)) out.push_back("- " + one.id + " is accepted no more");
  if (before.selection != next.selection) out.push_back("~ OTHER PCRs are quoted");
  if (!before.ima && next.ima)
    out.push_back("+ WHAT RUNS IS JUDGED, too: machines bring their IMA lists");
  else if (before.ima && !next.ima)
    out.push_back("- WHAT RUNS IS JUDGED NO MORE: machines bring no IMA lists");
  else if (before.ima != next.ima)
    out.push_back("~ WHICH FILES MAY RUN CHANGES: sallyport reference diff OLD NEW");
  return out;
}

void render_change(const Review& review, Screen& screen) {
  const PolicyReview& change = *review.change;
  const policy::Policy& next = change.next->policy;
  screen.line("what",
              "policy version " + std::to_string(next.version) + " in place of " +
                  std::to_string(review.policy->policy.version),
              "loads, follows the one in force");
  screen.line("text", "sha256 " + to_hex(next.digest), "fetched, hash ok");
  for (std::size_t i = 0; i < review.pieces.size(); ++i)
    screen.line(i == 0 ? "read" : "",
                printable(review.pieces[i].name) + " " + human_bytes(review.pieces[i].blob.bytes.size()) +
                    ": sallyport review " + short_case(review.case_id) + " --open " + std::to_string(i + 1));
  if (next.authority.tpm_roots != review.policy->policy.authority.tpm_roots)
    screen.line("", "THE ROOTS OF TPM VENDORS CHANGE");
  for (const std::string& line : reference_lines(review.policy->references, change.next->references))
    screen.line("boots", printable(line));
  screen.line("changes", change.diff.empty() ? "none in meaning" : std::to_string(change.diff.size()));
  for (const policy::DiffLine& line : change.diff) screen.whole("    " + printable(policy::render(line)));
  screen.line("needs",
              printable(policy::quorum_text(review.question.quorum)) + ", of policy version " +
                  std::to_string(review.policy->policy.version),
              "in force in your own log");
}

void render_erasure(const Review& review, Screen& screen) {
  const record::ErasureProposed& erasure = review.erasure->statement;
  const std::size_t count = erasure.cases.size();
  screen.line("what",
              "ERASE what is in " + std::to_string(count) + (count == 1 ? " case" : " cases") +
                  ", for ever: statements, evidence, attached files",
              "past the retention, and not held");
  screen.line("opened", "before " + utc(erasure.before));
  screen.line("why", quoted(erasure.reason));
  for (std::size_t i = 0; i < std::min(count, kShownCases); ++i)
    screen.line(i == 0 ? "cases" : "", to_hex(erasure.cases[i]));
  if (count > kShownCases)
    screen.line("", "and " + std::to_string(count - kShownCases) + " more: sallyport review " +
                        short_case(review.case_id) + " -f json");
  screen.line("stays", "each leaf: its kind, its time and the id of its case; and who had it erased");
  screen.line("needs",
              printable(policy::quorum_text(review.question.quorum)) + ", policy version " +
                  std::to_string(review.policy->policy.version),
              "in force in your own log");
}

// missing_text: "1 more us-oncall, 1 privacy".
std::string missing_text(const std::vector<api::ClauseView>& quorum) {
  std::string text;
  for (const api::ClauseView& clause : quorum) {
    if (clause.have >= clause.needed) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(clause.needed - clause.have) +
            (clause.have == 0 ? " " : " more ") + printable(clause.group);
  }
  return text.empty() ? "—" : text;
}

std::string over_text(Reason reason) {
  return "over: [" + std::string{reason_name(reason)} + "] " + std::string{reason_sentence(reason)};
}

Value number(std::uint64_t value) {
  return Value{value};
}

}  // namespace

std::vector<std::string> replaced_lines(const EnrolmentReview& enrolment) {
  const record::Device &before = *enrolment.replaced, &after = enrolment.device;
  std::vector<std::string> out;
  const auto differs = [&](const char* what, const std::string& old, const std::string& next) {
    if (old != next) out.push_back(std::string{what} + ": " + old + " → " + next);
  };
  differs("name", quoted(before.name), quoted(after.name));
  differs("region", printable(before.region.get()), printable(after.region.get()));
  differs("attestation key", to_hex(view(before.attestation_key.name())).substr(4, 16),
          to_hex(view(after.attestation_key.name())).substr(4, 16));
  differs("baseline", "PCRs " + to_hex(before.baseline.pcr_digest).substr(0, 16),
          "PCRs " + to_hex(after.baseline.pcr_digest).substr(0, 16));
  const auto counters = [](const record::Device& device) {
    return std::pair{device.clock.reset_count, device.clock.restart_count};
  };
  if (counters(after) < counters(before))
    out.push_back("counters went BACK: resetCount " + std::to_string(before.clock.reset_count) + " → " +
                  std::to_string(after.clock.reset_count) + ": was its TPM cleared?");
  if (!before.identity) out.push_back("identity: none before");
  return out;
}

std::string decision_groups(const Digest256& digest) {
  const std::string hex = to_hex(digest);
  return hex.substr(0, 4) + " " + hex.substr(4, 4) + " " + hex.substr(8, 4) + " " + hex.substr(12, 4);
}

std::string progress_text(const policy::QuorumProgress& progress) {
  std::string text;
  for (const policy::ClauseProgress& clause : progress.clauses)
    text += (text.empty() ? "" : ", ") + std::to_string(clause.filled_by.size()) + " of " +
            std::to_string(clause.needed) + " " + printable(clause.group.get());
  return text;
}

std::string progress_text(const std::vector<api::ClauseView>& quorum) {
  std::string text;
  for (const api::ClauseView& clause : quorum)
    text += (text.empty() ? "" : ", ") + std::to_string(clause.have) + " of " +
            std::to_string(clause.needed) + " " + printable(clause.group);
  return text;
}

std::string render_review(const Review& review, UnixMillis now) {
  Screen screen;
  screen.whole(column(review.over ? "Nothing is to be signed here" : "You are asked to sign", kText) +
               "checked here, by this machine");
  screen.line("case",
              short_case(review.case_id) + " · " + std::string{record::kind_name(review.kind)} + " · asked " +
                  relative(review.opened, now) + " · " +
                  (review.over ? over_text(*review.over) : "expires " + relative(review.expires, now)),
              "leaf " + grouped(review.leaf.get()) + ", under witnesses");
  screen.line("who",
              person_text(review.policy->policy, review.person) + " · token " + printable(review.token),
              "signature ok");
  if (review.access) render_access(review, screen);
  if (review.enrolment) render_enrolment(review, screen);
  if (review.change) render_change(review, screen);
  if (review.erasure) render_erasure(review, screen);
  bool first = true;
  for (const SignedBy& row : review.signed_by) {
    std::string text = row.person.empty() ? "leaf " + grouped(row.leaf.get()) : printable(row.person);
    if (!row.group.empty()) text += " (" + printable(row.group) + ")";
    text += " " + relative(row.time, now) + (row.attested ? " · at an attested machine" : "");
    screen.line(first ? "signed by" : "", std::move(text),
                row.wrong ? "DOES NOT COUNT: " + std::string{reason_name(*row.wrong)} : "signature ok");
    first = false;
  }
  screen.line("so far", progress_text(review.progress), review.progress.met ? "quorum met" : "");
  screen.whole((review.access ? "decision " : "statement ") + decision_groups(review.to_sign));
  return std::move(screen).take();
}

Value review_json(const Review& review) {
  const policy::Policy& policy = review.policy->policy;
  Value::Array signed_by, clauses, pieces;
  for (const SignedBy& row : review.signed_by)
    signed_by.push_back(Value::object({{"attested", Value{row.attested}},
                                       {"group", row.group},
                                       {"leaf", number(row.leaf.get())},
                                       {"person", row.person},
                                       {"time", number(row.time.get())},
                                       {"wrong", row.wrong ? reason_name(*row.wrong) : ""}}));
  for (const policy::ClauseProgress& clause : review.progress.clauses)
    clauses.push_back(Value::object({{"group", clause.group.get()},
                                     {"have", number(clause.filled_by.size())},
                                     {"needed", number(clause.needed)}}));
  for (const Piece& piece : review.pieces)
    pieces.push_back(Value::object(
        {{"name", piece.name}, {"sha256", to_hex(piece.sha256)}, {"size", number(piece.blob.bytes.size())}}));
  std::vector<record::json::Member> members{
      {"case", to_hex(review.case_id)},
      {"evidence", std::move(pieces)},
      {"expires", number(review.expires.get())},
      {"kind", record::kind_name(review.kind)},
      {"leaf", number(review.leaf.get())},
      {"met", Value{review.progress.met}},
      {"opened", number(review.opened.get())},
      {"over", review.over ? reason_name(*review.over) : ""},
      {"person", review.person},
      {"policy", Value::object({{"digest", to_hex(policy.digest)}, {"version", number(policy.version)}})},
      {"quorum", std::move(clauses)},
      {"signed_by", std::move(signed_by)},
      {"to_sign", to_hex(review.to_sign)},
      {"token", review.token}};
  if (review.access) {
    const record::Request& request = review.access->evaluated.request;
    const record::DecisionStatement& decision = review.access->evaluated.decision;
    const auto& ima = review.access->evaluated.ima;
    Value::Array rules;
    for (const std::string& rule : decision.rules) rules.push_back(Value{rule});
    members.push_back({"access", Value::object({{"account", decision.account},
                                                {"address", review.access->seen.address},
                                                {"beneficiary", request.beneficiary},
                                                {"boot", review.access->evaluated.boot.reference},
                                                {"command", decision.command},
                                                {"device", to_hex(decision.device)},
                                                {"device_name", review.access->device.name},
                                                {"device_region", review.access->device.region.get()},
                                                {"duration", number(decision.duration_s)},
                                                {"host", decision.host},
                                                {"ima", ima ? ima_text(*ima) : std::string{}},
                                                {"network", decision.network},
                                                {"reason", request.reason},
                                                {"resource", decision.resource},
                                                {"rules", std::move(rules)}})});
  }
  if (review.enrolment) {
    const record::EnrolmentRequested& statement = review.enrolment->statement;
    const evidence::VerifiedEndorsement& endorsement = review.enrolment->endorsement;
    Value::Array oddities, differs;
    for (const evidence::EkOddity oddity : endorsement.oddities)
      oddities.push_back(std::string{sentence(oddity)});
    if (review.enrolment->replaced)
      for (std::string& line : replaced_lines(*review.enrolment)) differs.push_back(std::move(line));
    members.push_back(
        {"enrolment",
         Value::object(
             {{"ak", to_hex(view(review.enrolment->device.attestation_key.name()))},
              {"ak_algorithm", algorithm_name(review.enrolment->device.attestation_key.key().algorithm())},
              {"boot", review.enrolment->boot},
              {"boot_refused",
               review.enrolment->boot_refused ? reason_name(review.enrolment->boot_refused->reason) : ""},
              {"device", to_hex(statement.device)},
              {"differs", std::move(differs)},
              {"firmware", firmware_text(review.enrolment->firmware_version)},
              {"identity", to_hex(view(*review.enrolment->device.identity))},
              {"manufacturer", endorsement.manufacturer},
              {"model", endorsement.model},
              {"name", statement.name},
              {"oddities", std::move(oddities)},
              {"pcrs", to_hex(statement.pcrs)},
              {"region", statement.region},
              {"replaces", review.enrolment->replaced ? review.enrolment->replaced->name : std::string{}},
              {"retired", Value{review.enrolment->retired}},
              {"root", review.enrolment->endorsement.root},
              {"version", endorsement.version}})});
  }
  if (review.change) {
    Value::Array diff;
    for (const policy::DiffLine& line : review.change->diff) diff.push_back(Value{policy::render(line)});
    members.push_back({"change", Value::object({{"diff", std::move(diff)},
                                                {"digest", to_hex(review.change->next->policy.digest)},
                                                {"previous", to_hex(policy.digest)},
                                                {"version", number(review.change->next->policy.version)}})});
  }
  if (review.erasure) {
    Value::Array cases;
    for (const CaseId& id : review.erasure->statement.cases) cases.push_back(Value{to_hex(id)});
    members.push_back({"erasure", Value::object({{"before", number(review.erasure->statement.before.get())},
                                                 {"cases", std::move(cases)},
                                                 {"reason", review.erasure->statement.reason}})});
  }
  return Value::object(std::move(members));
}

namespace {

constexpr const char* kRoot = "EK root";

// Feature is something in which the machines of a list may differ.
struct Feature {
  std::string name;
  std::vector<std::string> values;  // of each machine
  std::map<std::string, std::size_t> counts;

  // most is the value that more than half of the machines have; null where there is none.
  const std::string* most() const {
    for (const auto& [value, count] : counts)
      if (2 * count > values.size()) return &value;
    return nullptr;
  }
};

// common_name gives a subject's CN, where it has one, to be shown in a column.
std::string common_name(const std::string& subject) {
  constexpr std::string_view kName = "CN=";
  const std::size_t at = subject.find(kName);
  if (at == subject.npos) return printable(subject);
  std::size_t end = at + kName.size();
  while (end < subject.size() && (subject[end] != ',' || subject[end - 1] == '\\')) ++end;
  return printable(subject.substr(at + kName.size(), end - at - kName.size()));
}

std::vector<Feature> features_of(const MachineList& list) {
  std::vector<Feature> out;
  const auto add = [&](std::string name, const std::function<std::string(const EnrolmentReview&)>& value_of) {
    Feature& feature = out.emplace_back(Feature{std::move(name), {}, {}});
    for (const Review& one : list.machines) {
      feature.values.push_back(value_of(*one.enrolment));
      ++feature.counts[feature.values.back()];
    }
  };
  add("who", [](const auto& one) { return printable(one.statement.person); });
  add("region", [](const auto& one) { return printable(one.device.region.get()); });
  add("TPM", [](const auto& one) {
    return printable(evidence::manufacturer_text(one.endorsement.manufacturer)) + " " +
           printable(one.endorsement.model);
  });
  add("firmware", [](const auto& one) { return firmware_text(one.firmware_version); });
  add(kRoot, [](const auto& one) { return printable(one.endorsement.root); });
  add("AK", [](const auto& one) {
    return std::string{algorithm_name(one.device.attestation_key.key().algorithm())};
  });
  add("boot", boot_text);
  return out;
}

std::string table(const std::vector<std::vector<std::string>>& rows,
                  const std::vector<std::vector<std::string>>& below = {}) {
  std::vector<std::size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string out;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i + 1 < rows[r].size(); ++i) out += column(rows[r][i], widths[i] + 2);
    out += rows[r].back() + "\n";
    if (r < below.size())
      for (const std::string& line : below[r]) out += "              " + line + "\n";
  }
  return out;
}

}  // namespace

std::string render_list(const MachineList& list, UnixMillis now) {
  const std::vector<Feature> features = features_of(list);
  const Review& first = list.machines.front();
  Screen screen;
  const std::size_t count = list.machines.size();
  screen.whole(column("You are asked to sign once, for " + std::to_string(count) + " machines", kText) +
               "checked here, by this machine");

  std::map<std::string, std::size_t> askers;
  for (const Review& one : list.machines) ++askers[one.person];
  for (const auto& [person, asked] : askers)
    screen.line("who", person_text(first.policy->policy, person) + " · asks for " + std::to_string(asked),
                "signatures ok");

  std::vector<std::vector<std::string>> rows{{"  CASE", "NAME", "DEVICE"}}, below(1);
  for (const Feature& feature : features) {
    std::string head = feature.name;
    for (char& c : head) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    rows.front().push_back(std::move(head));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Review& one = list.machines[i];
    const EnrolmentReview& enrolment = *one.enrolment;
    auto& row = rows.emplace_back(std::vector<std::string>{"  " + short_case(one.case_id),
                                                           quoted(enrolment.device.name),
                                                           to_hex(enrolment.device.id).substr(0, 16)});
    auto& lines = below.emplace_back();
    if (!is_of_region(policy::find_person(first.policy->policy, PersonId{one.person}), enrolment.statement))
      lines.push_back("CAREFUL region " + printable(enrolment.statement.region) + kForeignRegion);
    if (enrolment.replaced) {
      lines.push_back("CAREFUL RE-ENROLMENT: replaces " + quoted(enrolment.replaced->name) +
                      (enrolment.retired ? ", which is RETIRED" : ""));
      for (const std::string& line : replaced_lines(enrolment)) lines.push_back("differs " + line);
    }
    for (const evidence::EkOddity oddity : enrolment.endorsement.oddities)
      lines.push_back(
          (oddity == evidence::EkOddity::kExpired ? "CAREFUL EK certificate: " : "EK certificate: ") +
          std::string{sentence(oddity)});
    for (const Feature& feature : features) {
      row.push_back(feature.name == kRoot ? common_name(enrolment.endorsement.root) : feature.values[i]);
      const std::string* most = feature.most();
      if (most != nullptr && feature.values[i] != *most)
        lines.push_back("differs " + feature.name + ": " + feature.values[i] + ", most have " + *most);
    }
    if (one.over) lines.push_back(over_text(*one.over));
    for (const SignedBy& row_of : one.signed_by)
      lines.push_back("signed by " + printable(row_of.person) + " " + relative(row_of.time, now) +
                      (row_of.wrong ? ": DOES NOT COUNT: " + std::string{reason_name(*row_of.wrong)} : ""));
  }
  screen.lines(table(rows, below));

  std::size_t again = 0, refused = 0;
  UnixMillis next = first.expires;
  for (const Review& one : list.machines) {
    again += one.enrolment->replaced ? 1 : 0;
    refused += one.enrolment->boot_refused ? 1 : 0;
    next = std::min(next, one.expires);
  }
  screen.line("in all",
              std::to_string(count) + " machines, " + std::to_string(again) + " of them enrolled already, " +
                  std::to_string(refused) + " with a boot that is not accepted",
              "chains, keys and quotes ok");
  for (const Feature& feature : features) {
    std::string text;
    for (const auto& [value, have] : feature.counts)
      text += (text.empty() ? "" : ", ") + std::to_string(have) + " × " + value;
    screen.line(feature.name, std::move(text));
  }
  screen.line("expires", "the first " + relative(next, now));
  screen.line("challenge", "not yet: sallyport approve asks each TPM itself, before you sign");
  screen.line("needs",
              printable(policy::quorum_text(first.question.quorum)) + " for each, policy version " +
                  std::to_string(first.policy->policy.version),
              "in force in your own log");
  screen.whole("list " + decision_groups(list_digest(list)));
  return std::move(screen).take();
}

Value list_json(const MachineList& list) {
  Value::Array cases;
  for (const Review& one : list.machines) cases.push_back(review_json(one));
  return Value::object({{"cases", std::move(cases)}, {"list", to_hex(list_digest(list))}});
}

std::string render_inbox(const std::vector<InboxRow>& cases, const std::string& reader, UnixMillis now) {
  std::vector<std::vector<std::string>> rows{
      {"CASE", "ASKED", "WHO", "FOR", "RESOURCE", "RULE", "NEEDS", "YOU MAY"}};
  const std::string domain = reader.substr(std::min(reader.find('@'), reader.size()));
  const auto name = [&](const std::string& person) {
    const bool ours = person.size() > domain.size() && person.ends_with(domain);
    return printable(ours ? person.substr(0, person.size() - domain.size()) : person);
  };
  for (const auto& [view, denied] : cases) {
    std::string may = view.may.empty() ? printable(view.state) : "approve as " + printable(view.may);
    if (denied) may = "denied by " + denial_text(*denied, now);
    std::string resource = printable(view.resource);
    if (view.kind == "enrolment") resource = "enrol " + resource + " (" + printable(view.host) + ")";
    const bool for_another = !view.beneficiary.empty() && view.beneficiary != view.person;
    rows.push_back({short_case(view.case_id), relative(view.opened, now), name(view.person),
                    for_another ? name(view.beneficiary) : "—", std::move(resource),
                    view.rule.empty() ? printable(view.kind) : printable(view.rule),
                    missing_text(view.quorum), std::move(may)});
  }
  return table(rows);
}

Result<std::string> render_piece(const Piece& piece) {
  const Bytes& bytes = piece.blob.bytes;
  const bool is_text = std::find(bytes.begin(), bytes.end(), std::uint8_t{0}) == bytes.end();
  if (!is_text || bytes.size() > kMaxShownBytes)
    return Error{Code::kMalformed, Reason::kUsage,
                 printable(piece.name) + " is not text to be shown; write it to a file with --save FILE"};
  std::string out;
  std::string_view rest = as_text(bytes);
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    out += printable(rest.substr(0, end)) + "\n";
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  return out;
}

}  // namespace sallyport::client::approver

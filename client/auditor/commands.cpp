#include "client/auditor/commands.h"

#include <sys/resource.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/record/canonical_json.h"
#include "client/auditor/case_table.h"
#include "client/auditor/eat.h"
#include "client/auditor/explain.h"
#include "client/auditor/monitor.h"
#include "client/auditor/tell.h"
#include "client/auditor/verify_export.h"
#include "client/auditor/write_export.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::auditor {
namespace {

namespace fs = std::filesystem;
namespace po = boost::program_options;
using record::json::Value;

// trust_anchor reads the file of --trust; without it, the one that `sallyport init` made.
Result<follow::TrustAnchor> trust_anchor(const Arguments& arguments) {
  if (!arguments.has("trust")) {
    SP_TRY(const Settings settings, load_settings());
    return settings.anchor;
  }
  SP_TRY(const Bytes text, read_whole_file(arguments.text("trust"), 16 * 1024));
  return follow::parse_trust_file(as_text(text));
}

// ProgressLine tells on a terminal how far a long work has come, unless a program reads along.
class ProgressLine {
 public:
  ProgressLine(std::string_view label, bool json) : label_(label), shown_(!json && stderr_is_terminal()) {}
  ~ProgressLine() {
    if (drawn_) std::cerr << "\r\x1b[K" << std::flush;
  }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void operator()(std::uint64_t done, std::uint64_t of) {
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || of == 0 || now - last_ < std::chrono::milliseconds{200}) return;
    last_ = now;
    drawn_ = true;
    constexpr std::uint64_t kWidth = 24;
    std::string bar;
    for (std::uint64_t i = 0; i < kWidth; ++i) bar += i < done * kWidth / of ? "█" : "░";
    std::cerr << "\r\x1b[K" << label_ << "  " << bar << "  " << done * 100 / of << " %  " << grouped(done)
              << " of " << grouped(of) << std::flush;
  }

 private:
  std::string_view label_;
  bool shown_, drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

// ---- export

class BrokerSource : public Source {
 public:
  explicit BrokerSource(Session& session) : session_(session) {}
  Result<record::EntryPage> entries(LeafIndex from) override { return session_.entries(from); }
  Result<std::vector<std::string>> checkpoints(TreeSize from) override { return session_.checkpoints(from); }

 private:
  Session& session_;
};

void export_flags(po::options_description& flags) {
  flags.add_options()("dir", po::value<std::string>(), "where to; what it holds of this log is continued")(
      "since", po::value<std::uint64_t>(),
      "fetch leaves from this one on again, and compare; 0: all. Without it, only new ones are fetched");
}

Result<int> run_export(const Arguments& arguments) {
  if (!arguments.has("dir")) return usage("sallyport audit export DIR");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kIfThere));
  BrokerSource source{*opened->session};
  ExportOptions options;
  if (arguments.has("since")) options.since = arguments.values["since"].as<std::uint64_t>();
  const auto line = std::make_shared<ProgressLine>("leaves", arguments.json);
  options.progress = [line](std::uint64_t done, std::uint64_t of) { (*line)(done, of); };
  const std::string directory = arguments.text("dir");
  SP_TRY(const Exported exported, write_export(directory, opened->settings.anchor, source, options));
  options.progress = {};
  if (arguments.json) {
    print_json(Value::object({{"bytes", exported.bytes},
                              {"directory", directory},
                              {"erased", exported.erased},
                              {"fetched", exported.fetched},
                              {"files", exported.files},
                              {"size", exported.size.get()},
                              {"to_erase", exported.to_erase}}));
  } else {
    std::cout << grouped(exported.size.get()) << " leaves (" << grouped(exported.fetched) << " new), "
              << grouped(exported.files) << " files, " << human_bytes(exported.bytes) << " in "
              << printable(directory) << "\n";
    if (exported.erased != 0)
      note("erased", grouped(exported.erased) + " files of cases that the log erased");
    if (exported.to_erase != 0)
      note("note",
           grouped(exported.to_erase) +
               " files of erased cases are still on the disk: somebody reads the export; run it again");
    note("next", "sallyport audit verify " + printable(directory) +
                     " --trust FILE, with a trust file that did not come with it");
  }
  return 0;
}

// ---- verify

void verify_flags(po::options_description& flags) {
  flags.add_options()("dir", po::value<std::string>(), "the export")(
      "trust", po::value<std::string>(), "the trust file; without it, that of `sallyport init`")(
      "as-of", po::value<std::string>(),
      "report the state at a moment: a time (2026-11-21T09:14:02Z, UTC) or a number of leaves")(
      "since", po::value<std::string>(),
      "a checkpoint kept from earlier, such as an older export's: this log must continue it");
}

// parse_as_of takes a time, or a number of leaves.
Result<AsOf> parse_as_of(const std::string& text) {
  if (text.find('-') != std::string::npos) {
    SP_TRY(const UnixMillis time, parse_utc(text));
    return AsOf{time};
  }
  const auto size = parse_number(text, ledger::kMaxTreeSize);
  if (!size.has_value()) return usage("--as-of takes a time in UTC, or a number of leaves");
  return AsOf{TreeSize{*size}};
}

struct Spent {
  double seconds = 0;
  std::uint64_t cpu_ms = 0, peak_bytes = 0;
};
Spent spent_since(std::chrono::steady_clock::time_point begin) {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto ms = [](const timeval& t) {
    return static_cast<std::uint64_t>(t.tv_sec) * 1000 + static_cast<std::uint64_t>(t.tv_usec) / 1000;
  };
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
          ms(used.ru_utime) + ms(used.ru_stime), static_cast<std::uint64_t>(used.ru_maxrss) * 1024};
}

std::string padded(std::string text, std::size_t width) {
  if (text.size() < width) text.insert(0, width - text.size(), ' ');
  return text;
}
void print_row(std::string label, std::uint64_t number, const std::string& text) {
  label.resize(12, ' ');
  std::cout << label << padded(grouped(number), 9) << "   " << text << "\n";
}

std::string kinds_of_cases(const AuditReport& report) {
  const auto& cases = report.cases;
  std::string text = "✓ " + grouped(cases.granted) + " granted · " + grouped(cases.refused) + " refused · " +
                     grouped(cases.denied) + " denied · " + grouped(cases.expired) + " expired";
  if (cases.open != 0) text += " · " + grouped(cases.open) + " open";
  if (cases.erased != 0) text += " · " + grouped(cases.erased) + " erased";
  return text;
}

void print_erased(const std::vector<AuditReport::Erased>& erased) {
  std::uint64_t cases = 0, leaves = 0;
  for (const AuditReport::Erased& one : erased) {
    cases += one.cases;
    leaves += one.leaves;
  }
  print_row("erased", cases,
            "cases of " + grouped(leaves) + " leaves: nothing is left of them but that they were");
  for (const AuditReport::Erased& one : erased) {
    std::string by;
    for (const std::string& person : one.erasure.approved_by) by += (by.empty() ? "" : ", ") + person;
    std::cout << "  " << short_case(one.erasure.what.case_id) << "  " << utc(one.erasure.time) << "  "
              << grouped(one.cases) << " cases, " << grouped(one.leaves) << " leaves, opened before "
              << utc(one.erasure.what.before) << "; proposed by " << printable(one.erasure.what.person)
              << ", approved by " << printable(by) << ": " << printable(one.erasure.what.reason) << "\n";
  }
}

void print_moment(const AuditReport::Moment& moment) {
  print_row("as of", moment.size.get(),
            "leaves, at " + utc(moment.time) + "; cases, evidence, policy and notes above are of then");
  print_row("in force", moment.grants.size(), "grants that could be used then");
  for (const InForce& one : moment.grants)
    if (one.person.empty())
      std::cout << "  " << short_case(one.case_id) << "  erased since; until " << utc(one.not_after)
                << " at the latest\n";
    else
      std::cout << "  " << short_case(one.case_id) << "  " << printable(one.person)
                << (one.beneficiary == one.person ? "" : " for " + printable(one.beneficiary)) << " as "
                << printable(one.account) << " on " << printable(one.host) << " until " << utc(one.not_after)
                << "\n";
}

void print_report(const AuditReport& report, const Spent& spent) {
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s", spent.seconds);
  print_row("leaves", report.size.get(),
            "✓ root recomputed, " + grouped(report.checkpoints) +
                " checkpoints consistent, newest cosigned " + utc(report.newest_cosigned) + " (" +
                relative(report.newest_cosigned, now()) + ")");
  print_row("cases", report.cases.access, kinds_of_cases(report));
  if (!report.erased.empty()) print_erased(report.erased);
  print_row("evidence", report.evidence.all(),
            "✓ quotes, certified keys, boots and endorsements appraised again (" +
                grouped(report.evidence.quotes) + " quotes)");
  print_row("signatures", report.signatures.all(),
            "✓ " + std::string{seconds} + " · " + human_bytes(spent.peak_bytes) + " at most");
  const std::uint64_t first = report.policies.front().version, newest = report.policies.back().version;
  print_row("policy", report.policies.size(),
            newest == first ? "✓ version " + grouped(first) + ", as the trust file pins it"
                            : "✓ versions " + grouped(first) + " → " + grouped(newest) +
                                  ", each by the quorum of the one before");
  if (report.continues)
    print_row(
        "goes on", report.continues->size.get(),
        "leaves of " + printable(report.continues->origin.get()) + " were before; verify them by themselves");
  print_row("files", report.files, "✓ " + human_bytes(report.bytes) + ", all accounted for");
  if (report.foreign_count != 0) {
    std::string ids;
    for (std::size_t i = 0; i < report.foreign.size() && i < 8; ++i)
      ids += " " + short_case(report.foreign[i].case_id) + (report.foreign[i].granted ? " (granted)" : "");
    if (report.foreign_count > 8) ids += " …";
    print_row("notes", report.foreign_count,
              "cases with a foreign beneficiary:" + ids + "   (sallyport audit show CASE --export DIR)");
  }
  if (!report.stopped.empty()) {
    std::string names;
    for (std::size_t i = 0; i < report.stopped.size() && i < 8; ++i)
      names += std::string{i == 0 ? " " : ", "} + printable(report.stopped[i].name) + " (case " +
               short_case(report.stopped[i].case_id) + ")";
    if (report.stopped.size() > 8) names += " …";
    print_row("stopped", report.stopped.size(),
              "machines whose TPM's counters went back:" + names +
                  "; look at them, then have them enrolled again, or retired");
  }
  if (report.continued)
    print_row("continues", report.continued->get(),
              "✓ the log of the checkpoint that was kept; " +
                  grouped(report.size.get() - report.continued->get()) + " leaves since");
  if (report.moment) print_moment(*report.moment);
  if (report.front_behind)
    note("note", "`checkpoint` is still that of " + grouped(report.front_behind->get()) +
                     " leaves: the last export was stopped just before its end, or goes on; run it again");
  std::cout << "verified\n";
}

Value json_of(const AuditReport::Moment& moment) {
  std::vector<Value> grants;
  for (const InForce& one : moment.grants)
    grants.push_back(Value::object({{"account", one.account},
                                    {"beneficiary", one.beneficiary},
                                    {"case", to_hex(one.case_id)},
                                    {"host", one.host},
                                    {"not_after", one.not_after.get()},
                                    {"person", one.person}}));
  return Value::object({{"grants", std::move(grants)},
                        {"root", to_hex(moment.root)},
                        {"size", moment.size.get()},
                        {"time", moment.time.get()}});
}

Value json_of(const AuditReport& report, const Spent& spent) {
  std::vector<Value> policies, foreign, erased, stopped;
  for (const AuditReport::Stopped& one : report.stopped)
    stopped.push_back(
        Value::object({{"case", to_hex(one.case_id)}, {"device", to_hex(one.device)}, {"name", one.name}}));
  for (const AuditReport::Erased& one : report.erased)
    erased.push_back(Value::object(
        {{"approved_by", Value::Array(one.erasure.approved_by.begin(), one.erasure.approved_by.end())},
         {"before", one.erasure.what.before.get()},
         {"case", to_hex(one.erasure.what.case_id)},
         {"cases", one.cases},
         {"leaf", one.erasure.leaf.get()},
         {"leaves", one.leaves},
         {"person", one.erasure.what.person},
         {"reason", one.erasure.what.reason},
         {"time", one.erasure.time.get()}}));
  for (const auto& version : report.policies)
    policies.push_back(Value::object(
        {{"digest", to_hex(version.digest)}, {"leaf", version.leaf.get()}, {"version", version.version}}));
  for (const ForeignCase& one : report.foreign)
    foreign.push_back(Value::object({{"beneficiary", one.beneficiary},
                                     {"case", to_hex(one.case_id)},
                                     {"granted", Value{one.granted}},
                                     {"leaf", one.leaf.get()},
                                     {"person", one.person},
                                     {"region", one.region}}));
  const auto& cases = report.cases;
  const auto& evidence = report.evidence;
  const auto& signatures = report.signatures;
  return Value::object(
      {{"bytes", report.bytes},
       {"cases", Value::object({{"access", cases.access},
                                {"denied", cases.denied},
                                {"enrolments", cases.enrolments},
                                {"erased", cases.erased},
                                {"erasures", cases.erasures},
                                {"expired", cases.expired},
                                {"granted", cases.granted},
                                {"holds", cases.holds},
                                {"leases", cases.leases},
                                {"open", cases.open},
                                {"policies", cases.policies},
                                {"refused", cases.refused},
                                {"revocations", cases.revocations},
                                {"sessions", cases.sessions}})},
       {"checkpoints", report.checkpoints},
       {"continues", report.continues ? Value::object({{"origin", report.continues->origin.get()},
                                                       {"root", to_hex(report.continues->root)},
                                                       {"size", report.continues->size.get()},
                                                       {"state", to_hex(report.continues->state)}})
                                      : Value::object({})},
       {"continued", report.continued ? report.continued->get() : 0},
       {"cpu_ms", spent.cpu_ms},
       {"erased", std::move(erased)},
       {"evidence", Value::object({{"attachments", evidence.attachments},
                                   {"documents", evidence.documents},
                                   {"endorsements", evidence.endorsements},
                                   {"event_logs", evidence.event_logs},
                                   {"ima_parts", evidence.ima_parts},
                                   {"keys", evidence.keys},
                                   {"notes", evidence.notes},
                                   {"observations", evidence.observations},
                                   {"quotes", evidence.quotes}})},
       {"files", report.files},
       {"first_leaf", report.first_leaf.get()},
       {"foreign", std::move(foreign)},
       {"foreign_count", report.foreign_count},
       {"last_leaf", report.last_leaf.get()},
       {"leaves", report.size.get()},
       {"moment", report.moment ? json_of(*report.moment) : Value::object({})},
       {"newest_cosigned", report.newest_cosigned.get()},
       {"origin", report.origin.get()},
       {"peak_bytes", spent.peak_bytes},
       {"policies", std::move(policies)},
       {"root", to_hex(report.root)},
       {"signatures", Value::object({{"checkpoints", signatures.checkpoints},
                                     {"statements", signatures.statements},
                                     {"tpm", signatures.tpm}})},
       {"stopped", std::move(stopped)},
       {"verified", Value{true}},
       {"wall_ms", static_cast<std::uint64_t>(spent.seconds * 1000)}});
}

// verify_shown verifies the export that the arguments name, and shows how far it has come.
Result<AuditReport> verify_shown(const Arguments& arguments, const follow::TrustAnchor& anchor,
                                 VerifyOptions options) {
  ProgressLine line{"leaves", arguments.json};
  options.progress = [&](std::uint64_t done, std::uint64_t of) { line(done, of); };
  return verify_export(arguments.text("dir"), anchor, options);
}

Result<int> run_verify(const Arguments& arguments) {
  if (!arguments.has("dir")) return usage("sallyport audit verify DIR --trust FILE");
  SP_TRY(const follow::TrustAnchor anchor, trust_anchor(arguments));
  VerifyOptions options;
  if (arguments.has("as-of")) {
    SP_TRY(options.as_of, parse_as_of(arguments.text("as-of")));
  }
  if (arguments.has("since")) {
    options.kept_name = arguments.text("since");
    SP_TRY(const Bytes kept, read_whole_file(options.kept_name, ledger::kMaxNoteBytes));
    options.kept = as_text(kept);
    if (options.kept.empty()) return usage(printable(options.kept_name) + " is empty");
  }
  const auto begin = std::chrono::steady_clock::now();
  SP_TRY(const AuditReport report, verify_shown(arguments, anchor, std::move(options)));
  const Spent spent = spent_since(begin);
  if (arguments.json)
    print_json(json_of(report, spent));
  else
    print_report(report, spent);
  return 0;
}

// ---- grep, report

void filter_flags(po::options_description& flags) {
  flags.add_options()("dir", po::value<std::string>(), "the export")(
      "trust", po::value<std::string>(), "the trust file; without it, that of `sallyport init`")(
      "person", po::value<std::string>(), "who asked, or for whom; what is before the @ is enough")(
      "approver", po::value<std::string>(), "who approved")(
      "host", po::value<std::string>(), "of the access")("resource", po::value<std::string>(),
                                                         "of the access")("account", po::value<std::string>(),
                                                                          "of the access")(
      "rule", po::value<std::string>(), "by which it was decided")("reason", po::value<std::string>(),
                                                                   "a part of the reason, or of a denial's")(
      "region", po::value<std::string>(), "of person, beneficiary or machine")(
      "kind", po::value<std::string>(), "access, policy, enrolment, revocation, erasure or hold")(
      "outcome", po::value<std::string>(), "open, expired, granted, refused, denied, done or erased")(
      "from", po::value<std::string>(), "opened then or later (2026-11-21, 2026-11-21T09:14:02Z)")(
      "to", po::value<std::string>(), "opened before then");
}

Result<Filter> filter_of(const Arguments& arguments) {
  Filter filter{.person = arguments.text("person"),
                .approver = arguments.text("approver"),
                .host = arguments.text("host"),
                .resource = arguments.text("resource"),
                .account = arguments.text("account"),
                .rule = arguments.text("rule"),
                .text = arguments.text("reason"),
                .region = arguments.text("region")};
  if (arguments.has("kind")) {
    SP_TRY(filter.type, parse_type(arguments.text("kind")));
  }
  if (arguments.has("outcome")) {
    SP_TRY(filter.outcome, parse_outcome(arguments.text("outcome")));
  }
  if (arguments.has("from")) {
    SP_TRY(filter.from, parse_utc(arguments.text("from")));
  }
  if (arguments.has("to")) {
    SP_TRY(filter.to, parse_utc(arguments.text("to")));
  }
  return filter;
}

struct Found {
  AuditReport report;
  std::vector<CaseRow> rows;
};
// find_rows verifies the export, and gives the rows that the filter takes. Without a good verdict, none.
Result<Found> find_rows(const Arguments& arguments, const Filter& filter) {
  SP_TRY(const follow::TrustAnchor anchor, trust_anchor(arguments));
  CaseTable table;
  VerifyOptions options;
  options.on_entry = [&](const record::State& state, const record::OpenedEntry& entry, LeafIndex index) {
    table.add(state, entry, index);
  };
  options.on_erased = [&](const ledger::Leaf& leaf, LeafIndex index) { table.add_erased(leaf, index); };
  SP_TRY(AuditReport report, verify_shown(arguments, anchor, std::move(options)));
  Found found{std::move(report), {}};
  found.rows = std::move(table).finish(found.report.last_leaf);
  std::erase_if(found.rows, [&](const CaseRow& row) { return !filter.takes(row); });
  note("verified", grouped(found.report.size.get()) + " leaves, newest checkpoint cosigned " +
                       utc(found.report.newest_cosigned) + "; " + grouped(found.rows.size()) + " cases");
  if (found.report.cases.erased != 0)
    note("erased", grouped(found.report.cases.erased) +
                       " cases of the export: when they were opened is all that can be asked of them");
  return found;
}

Value json_of(const Found& found) {
  std::vector<Value> rows;
  for (const CaseRow& row : found.rows) rows.push_back(json_of(row));
  return Value::object({{"cases", std::move(rows)},
                        {"newest_cosigned", found.report.newest_cosigned.get()},
                        {"origin", found.report.origin.get()},
                        {"root", to_hex(found.report.root)},
                        {"size", found.report.size.get()},
                        {"verified", Value{true}}});
}

std::string line_of(const CaseRow& row) {
  std::string outcome{outcome_name(row.outcome)};
  if (!row.code.empty()) outcome += " [" + row.code + "]";
  std::string text = short_case(row.id) + "  " + utc(row.opened) + "  " + outcome;
  if (row.outcome == Outcome::kErased)
    return printable(text + (row.erased ? " on " + utc(*row.erased) : std::string{}) +
                     (row.erased_by ? " by erasure case " + short_case(*row.erased_by) : std::string{}) +
                     (row.granted.get() != 0 ? "; was granted " + utc(row.granted) : std::string{}));
  text += "  " + row.person;
  if (!row.person_region.empty()) text += " (" + row.person_region + ")";
  if (row.type == record::CaseType::kAccess) {
    if (row.beneficiary != row.person)
      text += " for " + row.beneficiary + " (" + row.beneficiary_region + ")";
    text += "  " + (row.account.empty() ? std::string{} : row.account + " on ") + row.host + " (" +
            row.resource + ")";
  } else {
    text += "  " + std::string{type_name(row.type)};
    if (row.type == record::CaseType::kHold && !row.target.empty())
      text += " " + row.target + " lifted";
    else if (row.type == record::CaseType::kErasure || row.type == record::CaseType::kHold)
      text += " of " + named_cases(row.named);
    else if (!row.target.empty())
      text += " " + row.target;
    if (row.before) text += ", opened before " + utc(*row.before);
    if (row.type == record::CaseType::kHold && row.ended) text += ", lifted " + utc(*row.ended);
    if (!row.machine.empty()) text += " " + row.machine + " (" + row.machine_region + ")";
  }
  if (!row.reason.empty()) text += "  " + row.reason;
  if (!row.denied_by.empty()) text += "  denied by " + row.denied_by + ": " + row.denial;
  return printable(text);
}

Result<int> run_grep(const Arguments& arguments) {
  if (!arguments.has("dir")) return usage("sallyport audit grep DIR --trust FILE --person NAME …");
  SP_TRY(const Filter filter, filter_of(arguments));
  SP_TRY(const Found found, find_rows(arguments, filter));
  if (arguments.json)
    print_json(json_of(found));
  else
    for (const CaseRow& row : found.rows) std::cout << line_of(row) << "\n";
  return 0;
}

Result<int> run_report(const Arguments& arguments) {
  if (!arguments.has("dir")) return usage("sallyport audit report DIR --trust FILE");
  SP_TRY(Filter filter, filter_of(arguments));
  if (!filter.type) filter.type = record::CaseType::kAccess;
  // Of an erased case it is told that there was an access, and when: it is not left out in silence.
  filter.granted = !filter.outcome && *filter.type == record::CaseType::kAccess;
  SP_TRY(const Found found, find_rows(arguments, filter));
  if (arguments.json) {
    print_json(json_of(found));
  } else {
    std::cout << csv_head();
    for (const CaseRow& row : found.rows) std::cout << csv_line(row);
  }
  return 0;
}

// ---- follow

void follow_flags(po::options_description& flags) {
  flags.add_options()("dir", po::value<std::string>(), "an export that grows; without it, the broker's log")(
      "place", po::value<std::string>(), "the file that keeps how far was told; made when it is missing")(
      "export", po::value<std::string>(),
      "an export of this log on this machine: what was told before is read there, not from the broker")(
      "trust", po::value<std::string>(), "the trust file; without it, that of `sallyport init`")(
      "every", po::value<std::string>()->default_value("10s"), "how often to look")(
      "old", po::value<std::string>()->default_value("5m"), "cosignatures older than this are an alarm")(
      "still", po::value<std::string>()->default_value("24h"), "no new leaf for so long is an alarm")(
      "once", "look once; exit code 3 when an alarm was told");
}

void print_alarm(const Alarm& alarm, bool json) {
  if (!json) {
    std::string text = utc(alarm.time) + "  " + std::string{alarm.name};
    if (alarm.leaf) text += "  leaf " + grouped(alarm.leaf->get());
    if (alarm.case_id) text += "  " + short_case(*alarm.case_id);
    if (!alarm.who.empty()) text += "  " + alarm.who;
    std::cout << printable(text + "  " + alarm.what) << std::endl;
    return;
  }
  std::vector<record::json::Member> members = {
      {"alarm", alarm.name}, {"time", alarm.time.get()}, {"what", alarm.what}, {"who", alarm.who}};
  if (alarm.leaf) members.push_back({"leaf", alarm.leaf->get()});
  if (alarm.case_id) members.push_back({"case", to_hex(*alarm.case_id)});
  print_json(Value::object(std::move(members)));
}

Result<int> run_follow(const Arguments& arguments) {
  if (!arguments.has("place")) return usage("sallyport audit follow [DIR] --place FILE [--export DIR]");
  if (arguments.has("dir") && arguments.has("export"))
    return usage("--export is for who follows the broker; an export that is followed is read anyway");
  const fs::path file = arguments.text("place");
  SP_TRY(const follow::TrustAnchor anchor, trust_anchor(arguments));
  SP_TRY(Bookmark place, load_bookmark(file, anchor));
  SP_TRY(const std::uint64_t every, parse_duration(arguments.text("every")));
  SP_TRY(const std::uint64_t old, parse_duration(arguments.text("old")));
  SP_TRY(const std::uint64_t still, parse_duration(arguments.text("still")));
  if (every == 0) return usage("--every takes at least a second");

  std::unique_ptr<Opened> opened;
  std::unique_ptr<Source> source;
  if (arguments.has("dir")) {
    source = std::make_unique<DirectorySource>(arguments.text("dir"));
  } else {
    SP_TRY(opened, open_session(arguments, MachineUse::kIfThere));
    if (opened->settings.anchor.origin != anchor.origin)
      return usage("the broker's log is another than the trust file's");
    source = std::make_unique<BrokerSource>(*opened->session);
  }
  bool told = false;
  std::string kept = encode(place);
  const auto keep = [&](const Bookmark& reached) -> Status {
    std::string text = encode(reached);
    if (text == kept) return Done{};
    SP_CHECK(replace_file(file, as_bytes(text)));
    kept = std::move(text);
    return Done{};
  };
  const TreeSize before = place.size;
  Monitor monitor{anchor,
                  std::move(place),
                  {.cosigned = std::chrono::seconds{old}, .still = std::chrono::seconds{still}},
                  [&](const Alarm& alarm, const Bookmark& reached) -> Status {
                    print_alarm(alarm, arguments.json);
                    if (!std::cout)
                      return Error{Code::kUnavailable, Reason::kStorage, "nobody takes what is told"};
                    told = true;
                    return keep(reached);
                  }};
  if (arguments.has("export")) SP_CHECK(monitor.catch_up(arguments.text("export")));
  if (before > monitor.folded())
    note("resumes", "after " + grouped(before.get()) + " leaves; " +
                        grouped(before.get() - monitor.folded().get()) +
                        " of them are fetched and judged again");
  for (;;) {
    SP_CHECK(monitor.look(*source, now()));
    SP_CHECK(keep(monitor.place()));
    if (arguments.has("once")) {
      if (monitor.place().lasting & Bookmark::kAway)
        return Error{Code::kUnavailable, Reason::kPeer, "the log could not be read"};
      return told ? reason_exit_code(Reason::kDenied) : 0;
    }
    std::this_thread::sleep_for(std::chrono::seconds{every});
  }
}

// ---- explain

void explain_flags(po::options_description& flags) {
  flags.add_options()("dossier", po::value<std::string>(), "of one access (sallyport ssh --save-dossier)")(
      "trust", po::value<std::string>(), "the trust file; without it, that of `sallyport init`")(
      "export", po::value<std::string>(),
      "an export of the log, to judge by; without it, the log as your own client has followed it");
}

Result<std::shared_ptr<const record::ControlState>> followed_here(const follow::TrustAnchor& anchor) {
  SP_TRY(const Settings settings, load_settings());
  if (settings.anchor.origin != anchor.origin || settings.anchor.genesis_policy != anchor.genesis_policy)
    return usage("your client follows another log than the trust file's; give --export DIR");
  SP_TRY(const auto follower, follow::Follower::open(settings.follow_file(), anchor));
  return follower->control();
}

Result<record::Dossier> dossier_of(const Arguments& arguments) {
  SP_TRY(const Bytes bytes, read_whole_file(arguments.text("dossier"), record::kMaxFullDossierBytes));
  return record::parse_dossier(bytes);
}

Result<Explanation> explain_from_follower(const record::Dossier& dossier, const follow::TrustAnchor& anchor) {
  SP_TRY(const auto control, followed_here(anchor));
  return explain(dossier, *control, anchor);
}

Result<int> run_explain(const Arguments& arguments) {
  if (!arguments.has("dossier")) return usage("sallyport audit explain DOSSIER [--trust FILE --export DIR]");
  SP_TRY(const follow::TrustAnchor anchor, trust_anchor(arguments));
  SP_TRY(const record::Dossier dossier, dossier_of(arguments));
  SP_TRY(const Explanation explanation, arguments.has("export")
                                            ? explain_from_export(dossier, arguments.text("export"), anchor)
                                            : explain_from_follower(dossier, anchor));
  if (arguments.json) {
    print_json(explanation.json);
    return 0;
  }
  std::cout << explanation.summary << "\n";
  for (std::size_t i = 0; i < explanation.layers.size(); ++i)
    std::cout << padded(std::to_string(i + 1), 2) << "  " << explanation.layers[i] << "\n";
  std::cout << explanation.verified_against << "\n";
  return 0;
}

// ---- eat

void eat_flags(po::options_description& flags) {
  explain_flags(flags);
  flags.add_options()("to", po::value<std::string>(), "write the claims set to this new file");
}

Result<Value> claims_of(const Arguments& arguments) {
  SP_TRY(const follow::TrustAnchor anchor, trust_anchor(arguments));
  SP_TRY(const record::Dossier dossier, dossier_of(arguments));
  if (!arguments.has("export")) {
    SP_TRY(const auto control, followed_here(anchor));
    return eat_claims(dossier, *control);
  }
  SP_TRY(const LogAround log, replay_around(dossier, arguments.text("export"), anchor));
  return eat_claims(dossier, log.then);
}

Result<int> run_eat(const Arguments& arguments) {
  if (!arguments.has("dossier"))
    return usage("sallyport audit eat DOSSIER [--trust FILE --export DIR] [--to FILE]");
  SP_TRY(const Value claims, claims_of(arguments));
  if (!arguments.has("to")) {
    print_json(claims);
  } else {
    const std::string file = arguments.text("to");
    SP_CHECK(write_new_file(file, record::json::encode_canonical(claims)));
    if (arguments.json)
      print_json(Value::object({{"file", file}}));
    else
      std::cout << "verified; its claims are in " << printable(file) << "\n";
  }
  if (!arguments.json)
    note("unsigned",
         "nobody has signed these claims: whoever relies on them verifies the dossier, whose digest "
         "they hold");
  return 0;
}

// ---- show

void show_flags(po::options_description& flags) {
  flags.add_options()("case", po::value<std::string>(), "its id, or a beginning that no other case has")(
      "export", po::value<std::string>(), "the export to look into");
}

Result<int> run_show(const Arguments& arguments) {
  if (!arguments.has("case") || !arguments.has("export"))
    return usage("sallyport audit show CASE --export DIR");
  std::string digits = arguments.text("case");
  if (digits.size() > 2 && digits[1] == '-') digits.erase(0, 2);
  SP_TRY(ExportReader reader, ExportReader::open(arguments.text("export")));
  std::vector<LeafIndex> leaves;
  std::optional<CaseId> found;
  std::vector<KnownErasure> erasures;
  for (std::uint64_t i = 0; i < reader.claimed().size.get(); ++i) {
    SP_TRY(const ledger::Leaf leaf, reader.leaf(LeafIndex{i}));
    if (leaf.kind == static_cast<std::uint8_t>(record::Kind::kErasure)) {
      SP_TRY(record::Entry entry, reader.entry(LeafIndex{i}));
      SP_TRY(const record::OpenedEntry opened, record::open_entry(std::move(entry)));
      SP_TRY(KnownErasure erasure, open_erasure(opened.statement(), LeafIndex{i}, leaf.time));
      erasures.push_back(std::move(erasure));
    }
    if (!to_hex(leaf.case_id).starts_with(digits)) continue;
    if (found && *found != leaf.case_id)
      return usage("several cases begin with " + printable(digits) + "; type more of it");
    found = leaf.case_id;
    leaves.emplace_back(i);
  }
  if (!found)
    return Error{Code::kDenied, Reason::kCaseUnknown, "no case of the export begins with " + digits};
  std::erase_if(erasures, [&](const KnownErasure& one) {
    return !std::binary_search(one.what.cases.begin(), one.what.cases.end(), *found);
  });
  std::map<LeafIndex, std::string> erased;
  SP_CHECK(for_each_covered(reader, erasures,
                            [&](LeafIndex index, const ledger::Leaf& leaf, const KnownErasure& by) -> Status {
                              if (leaf.case_id == *found) erased.emplace(index, tell_erased(by));
                              return Done{};
                            }));
  std::vector<Value> rows;
  if (!arguments.json) {
    std::cout << "case " << to_hex(*found) << "\n";
    note("note", "only bodies and evidence are checked here, no signature: sallyport audit verify does that");
  }
  for (const LeafIndex index : leaves) {
    SP_TRY(const record::Entry entry, reader.entry(index));
    SP_TRY(Told told, tell(entry));
    if (record::is_erased(entry)) {
      const auto by = erased.find(index);
      told.what = by != erased.end() ? by->second : "the body is missing, and no erasure covers it";
    }
    const std::string kind{record::kind_name(*record::parse_kind(entry.leaf.kind))};
    if (arguments.json) {
      rows.push_back(Value::object({{"kind", kind},
                                    {"leaf", index.get()},
                                    {"time", entry.leaf.time.get()},
                                    {"what", told.what},
                                    {"who", told.who}}));
    } else {
      std::string column = kind;
      column.resize(20, ' ');
      std::cout << padded(grouped(index.get()), 9) << "  " << utc(entry.leaf.time) << "  " << column
                << printable(told.who) << (told.who.empty() ? "" : "  ") << printable(told.what) << "\n";
    }
  }
  if (arguments.json) print_json(Value::object({{"case", to_hex(*found)}, {"leaves", std::move(rows)}}));
  return 0;
}

}  // namespace

std::vector<Command> commands() {
  return {
      {.name = "audit export",
       .synopsis = "audit export DIR [--since LEAF]",
       .summary = "fetch the whole log, with bodies and evidence, for verification elsewhere",
       .help = "Needs a person of the policy's readers group. DIR holds the log up to its newest cosigned "
               "checkpoint; run again, it is\ncontinued. The trust file is not part of it: keep that apart.\n"
               "  sallyport audit export us-2026-11\n",
       .flags = export_flags,
       .positional = {"dir"},
       .run = run_export},
      {.name = "audit verify",
       .synopsis = "audit verify DIR --trust FILE [--as-of TIME|SIZE] [--since CHECKPOINT]",
       .summary = "replay an export offline, from the policy that the trust file pins",
       .help = "Accounts for every byte of DIR: tree, checkpoints and their witnesses, bodies, evidence, and "
               "every decision made again, on all cores.\nExit code 8, with the place, when anything does "
               "not hold. Needs "
               "neither settings nor network.\n"
               "  sallyport audit verify us-2026-11 --trust us.trust\n"
               "  sallyport audit verify us-2026-11 --trust us.trust --as-of 2026-11-21T09:20:00Z --since "
               "us-2026-10/checkpoint\n",
       .flags = verify_flags,
       .positional = {"dir"},
       .run = run_verify},
      {.name = "audit grep",
       .synopsis = "audit grep DIR --trust FILE [--person P] [--host H] [--reason TEXT] [--outcome O] …",
       .summary = "verify an export, and list the cases that match",
       .help = "All that is asked for must match; without anything, every case is listed. Nothing is listed "
               "of an export that does not verify.\n"
               "  sallyport audit grep us-2026-11 --trust us.trust --region cn --outcome refused\n",
       .flags = filter_flags,
       .positional = {"dir"},
       .run = run_grep},
      {.name = "audit report",
       .synopsis = "audit report DIR --trust FILE [--from TIME] [--to TIME] …",
       .summary = "verify an export, and give who had access to what, when, why, approved by whom",
       .help = "CSV (RFC 4180; with -f json, JSON) of granted accesses, erased ones too, or of what --kind "
               "and --outcome ask "
               "for; takes what audit grep\ntakes. The columns are in client/auditor/README.md.\n"
               "  sallyport audit report us-2026-11 --trust us.trust --from 2026-11-01 --to 2026-12-01 > "
               "november.csv\n",
       .flags = filter_flags,
       .positional = {"dir"},
       .run = run_report},
      {.name = "audit follow",
       .synopsis =
           "audit follow [DIR] --place FILE [--export DIR] [--every 10s] [--old 5m] [--still 24h] [--once]",
       .summary = "follow the log, judge every entry again, and tell what somebody should look at",
       .help = "Refusals, denials, revocations, enrolments, policy changes, erasures, holds, requests of "
               "other regions; a log "
               "that is inconsistent (exit code 8),\nstands still, is away, or that witnesses have not "
               "cosigned of late. A line each; with -f json, an object each, for a SIEM.\n"
               "  sallyport audit follow --place ~/follow.place -f json\n"
               "  sallyport audit export us && sallyport audit follow --place ~/follow.place --export us -f "
               "json\n",
       .flags = follow_flags,
       .positional = {"dir"},
       .run = run_follow},
      {.name = "audit explain",
       .synopsis = "audit explain DOSSIER [--trust FILE --export DIR]",
       .summary = "verify the proof of one access, and tell it in plain words",
       .help = "With --export, the access is judged as of its grant, and what came later is told.\n"
               "  sallyport audit explain c-7f3a.dossier --trust us.trust --export us-2026-11\n",
       .flags = explain_flags,
       .positional = {"dossier"},
       .run = run_explain},
      {.name = "audit eat",
       .synopsis = "audit eat DOSSIER [--trust FILE --export DIR] [--to FILE]",
       .summary =
           "verify the proof of one access, and give what it proves of the machine as EAT claims (RFC 9711)",
       .help = "One JSON object: an unsigned claims set, so keep the dossier beside it. The claims are in "
               "client/auditor/README.md. With --export, the\naccess is judged as of its grant.\n"
               "  sallyport audit eat c-7f3a.dossier --trust us.trust --export us-2026-11 --to c-7f3a.json\n",
       .flags = eat_flags,
       .positional = {"dossier"},
       .run = run_eat},
      {.name = "audit show",
       .synopsis = "audit show CASE --export DIR",
       .summary = "list the leaves of one case of an export",
       .help = "Run `sallyport audit verify` on the export first: this command checks no signature.\n"
               "  sallyport audit show c-1d20 --export us-2026-11\n",
       .flags = show_flags,
       .positional = {"case"},
       .run = run_show},
  };
}

}  // namespace sallyport::client::auditor

#include <iostream>

#include "attestation/evidence/appraisal.h"
#include "attestation/record/canonical_json.h"
#include "client/evidence/commands.h"
#include "client/evidence/inputs.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using evidence::BootFinding;
using evidence::Reference;
using record::json::Member;
using record::json::Value;

constexpr std::size_t kShownFindings = 8;  // of one reference; JSON has all that are looked for

void appraise_flags(po::options_description& flags) {
  flags.add_options()("log", po::value<std::string>(), "the event log")(
      "references", po::value<std::string>(), "the document of reference values")(
      "at", po::value<std::string>(), "judge as on this day, or at this moment; without it now");
}

// What one reference says of the log.
struct Verdict {
  const Reference* reference = nullptr;
  bool in_force = false;
  std::vector<BootFinding> findings;  // none where the log was not judged by it
  bool accepts() const { return in_force && !reference->as_enrolled && findings.empty(); }
};

std::string_view kind_name(BootFinding::Kind kind) {
  switch (kind) {
    case BootFinding::Kind::kUnexpected:
      return "unexpected";
    case BootFinding::Kind::kRepeated:
      return "repeated";
    case BootFinding::Kind::kMissing:
      return "missing";
    case BootFinding::Kind::kSeparator:
      return "separator";
    case BootFinding::Kind::kSecureBoot:
      return "secure-boot";
  }
  return "?";
}

Value json_of(const std::vector<Verdict>& verdicts, UnixMillis at, const Verdict* accepted) {
  Value::Array references;
  for (const Verdict& one : verdicts) {
    Value::Array findings;
    for (const BootFinding& finding : one.findings) {
      std::vector<Member> members{
          {"kind", kind_name(finding.kind)}, {"pcr", std::uint64_t{finding.pcr}}, {"text", finding.words}};
      if (finding.event) members.push_back({"event", std::uint64_t{*finding.event}});
      findings.push_back(Value::object(std::move(members)));
    }
    references.push_back(Value::object({{"accepts", Value{one.accepts()}},
                                        {"as_enrolled", Value{one.reference->as_enrolled}},
                                        {"findings", std::move(findings)},
                                        {"id", one.reference->id},
                                        {"in_force", Value{one.in_force}}}));
  }
  std::vector<Member> members{
      {"accepted", Value{accepted != nullptr}}, {"at", iso_utc(at)}, {"references", std::move(references)}};
  if (accepted != nullptr) members.push_back({"reference", accepted->reference->id});
  return Value::object(std::move(members));
}

void print_text(const std::vector<Verdict>& verdicts, UnixMillis at, const Verdict* accepted) {
  for (const Verdict& one : verdicts) {
    std::cout << printable(one.reference->id) << "\n";
    if (!one.in_force)
      std::cout << "  not in force at " << utc(at) << ": it accepts nothing since "
                << evidence::day_text(*one.reference->not_after) << "\n";
    if (one.reference->as_enrolled) {
      std::cout << "  not judged: it accepts the PCRs that an enrolment recorded, which no log can tell\n";
      continue;
    }
    if (one.findings.empty()) std::cout << (one.in_force ? "  accepts it\n" : "  would accept it\n");
    for (std::size_t i = 0; i < std::min(one.findings.size(), kShownFindings); ++i)
      std::cout << "  " << printable(one.findings[i].words) << "\n";
    if (one.findings.size() > kShownFindings)
      std::cout << "  and " << one.findings.size() - kShownFindings
                << (one.findings.size() == evidence::kMaxFindings ? " more at least" : " more") << "\n";
  }
  std::cout << (accepted != nullptr ? "accepted by " + printable(accepted->reference->id)
                                    : std::string{"not accepted"})
            << " at " << utc(at)
            << "\nA log alone proves nothing: whoever wrote it may have left out what ran. With a quote of "
               "the TPM the\nbroker judges so at each request."
            << std::endl;
}

Result<int> run_appraise(const Arguments& arguments) {
  if (!arguments.has("log") || !arguments.has("references"))
    return Error{Code::kMalformed, Reason::kUsage, "sallyport evidence appraise LOG --references FILE"};
  UnixMillis at = now();
  if (arguments.has("at")) {
    SP_TRY(at, parse_utc(arguments.text("at")));
  }
  SP_TRY(const LoadedReferences loaded, load_references(arguments.text("references")));
  SP_TRY(const NamedLog named, load_log(arguments.text("log")));
  SP_TRY(const evidence::ReplayedPcrs pcrs, evidence::replay(named.log, evidence::LogAlgorithm::kSha256));
  SP_TRY([[maybe_unused]] const auto values, evidence::replayed_values(pcrs, loaded.values.selection));

  std::vector<Verdict> verdicts;
  for (const Reference& one : loaded.values.references) {
    Verdict verdict{&one, one.in_force(at), {}};
    if (!one.as_enrolled) verdict.findings = evidence::judge_boot(named.log, loaded.values.selection, one);
    verdicts.push_back(std::move(verdict));
  }
  const auto accepted = std::ranges::find_if(verdicts, &Verdict::accepts);
  const Verdict* by = accepted == verdicts.end() ? nullptr : &*accepted;
  if (arguments.json)
    print_json(json_of(verdicts, at, by));
  else
    print_text(verdicts, at, by);
  return by != nullptr ? 0 : reason_exit_code(Reason::kBootEvent);
}

}  // namespace

Command appraise_command() {
  return {
      "evidence appraise",
      "evidence appraise LOG --references FILE [--at DAY]",
      "which reference accepts a boot, or what each has against it",
      "Offline. LOG is an event log, FILE a document of reference values. Exit code 0 when one that is in "
      "force accepts the boot, else 5. A log alone proves nothing: that a machine booted so, only a quote "
      "of its TPM can say. What is not expected and is known to be good, reference learn adds.\n\n"
      "  sallyport evidence appraise boot.log --references references.toml\n"
      "  sallyport evidence appraise boot.log --references references.toml --at 2027-04-01\n",
      appraise_flags,
      {"log"},
      run_appraise};
}

}  // namespace sallyport::client::evidence_tools

#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/evidence/ima.h"
#include "attestation/record/canonical_json.h"
#include "client/evidence/commands.h"
#include "client/evidence/inputs.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using namespace evidence;
using record::json::Value;

Error wrong_use(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

void ima_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(), "the list")(
      "pcr10", po::value<std::string>(), "PCR 10 as it was quoted, in hex: of which bank, its length tells")(
      "allow", po::value<std::string>(), "what may be measured: a file of lines sha256:HEX PATH")(
      "references", po::value<std::string>(), "the same, as a policy says it: [ima] of its reference values")(
      "allow-violations", po::bool_switch(), "let violations pass")(
      "template-hash", po::value<std::string>()->default_value("sha1"),
      "the algorithm of the list's template digests: sha1, sha256, sha384 or sha512");
}

Result<LogAlgorithm> bank_of(ByteView pcr10) {
  for (const LogAlgorithm one : kLogAlgorithms)
    if (digest_size(one) == pcr10.size()) return one;
  return wrong_use("--pcr10 takes 40, 64, 96 or 128 hexadecimal digits");
}

Result<LogAlgorithm> template_hash(const std::string& name) {
  for (const LogAlgorithm one : kLogAlgorithms)
    if (log_algorithm_name(one) == name) return one;
  return wrong_use("--template-hash takes sha1, sha256, sha384 or sha512");
}

struct Judged {
  std::vector<ReplayedIma> replayed;  // to the quoted value, or in each way to the end
  bool to_quoted = false;
};

Result<Judged> judge(const ImaList& list, const Arguments& arguments) {
  Judged out;
  if (!arguments.has("pcr10")) {
    for (const ImaExtension extension : {ImaExtension::kOwnHash, ImaExtension::kPaddedSha1}) {
      SP_TRY(auto whole, replay_ima(list, ImaPosition::start(LogAlgorithm::kSha256), extension));
      out.replayed.push_back(std::move(whole));
    }
    return out;
  }
  const auto pcr10 = parse_hex(arguments.text("pcr10"), 64);
  if (!pcr10.has_value()) return wrong_use("--pcr10 takes small hexadecimal digits");
  SP_TRY(const LogAlgorithm bank, bank_of(*pcr10));
  SP_TRY(auto part, replay_ima_to(list, ImaPosition::start(bank), *pcr10));
  out.replayed.push_back(std::move(part));
  out.to_quoted = true;
  return out;
}

std::string extension_text(const ReplayedIma& replayed) {
  const auto& extension = replayed.position().extension;
  return extension ? std::string{ima_extension_name(*extension)} : "nothing yet";
}

Value json_of(const ImaList& list, const Judged& judged, const std::optional<ImaTally>& tally) {
  Value::Array values;
  for (const ReplayedIma& one : judged.replayed)
    values.push_back(Value::object({{"bank", log_algorithm_name(one.position().bank)},
                                    {"entries", std::uint64_t{one.entries().size()}},
                                    {"extension", extension_text(one)},
                                    {"value", to_hex(one.position().pcr10())}}));
  std::uint64_t violations = 0;
  for (const ImaEntry& entry : list.entries()) violations += entry.violation ? 1 : 0;
  return Value::object({{"entries", std::uint64_t{list.entries().size()}},
                        {"files", tally ? "expected" : "not appraised"},
                        {"pcr10", std::move(values)},
                        {"size", std::uint64_t{list.bytes().size()}},
                        {"violations", violations}});
}

void print_text(const ImaList& list, const Judged& judged, const std::optional<ImaTally>& tally) {
  std::uint64_t violations = 0;
  for (const ImaEntry& entry : list.entries()) violations += entry.violation ? 1 : 0;
  std::cout << "list       " << grouped(list.entries().size()) << " entries · "
            << human_bytes(list.bytes().size()) << " · " << grouped(violations) << " violations\n";
  for (const ReplayedIma& one : judged.replayed)
    std::cout << "PCR 10     " << log_algorithm_name(one.position().bank) << "  "
              << to_hex(one.position().pcr10()) << "  (" << extension_text(one) << ")\n";
  if (judged.to_quoted) {
    const std::size_t used = judged.replayed.front().entries().size();
    std::cout << "           after " << grouped(used) << " entries; " << grouped(list.entries().size() - used)
              << " came later\n";
  } else {
    std::cout << "           after all entries: a claim, until it is a quoted value\n";
  }
  if (tally)
    std::cout << "files      each is expected: " << grouped(tally->listed) << " listed, "
              << grouped(tally->signed_files) << " signed, " << grouped(tally->violations) << " violations\n";
  std::cout << std::flush;
}

// rules_of gives what may be measured, where an allow list or reference values say so.
Result<std::optional<ImaRules>> rules_of(const Arguments& arguments, const Judged& judged) {
  const bool violations = arguments.values["allow-violations"].as<bool>();
  if (arguments.has("references")) {
    if (arguments.has("allow") || violations)
      return wrong_use("--references says it all: without --allow and --allow-violations");
    SP_TRY(const LoadedReferences loaded, load_references(arguments.text("references")));
    const auto& ima = loaded.values.ima;
    if (!ima) return wrong_use(arguments.text("references") + " has no [ima]: no list is asked for");
    if (judged.to_quoted && !ima->terms().padded_sha1 &&
        judged.replayed.front().position().extension == ImaExtension::kPaddedSha1)
      return Error{Code::kDenied, Reason::kImaForm,
                   "the list comes to PCR 10 by SHA-1 only (Linux before 5.8), which the reference values do "
                   "not take"};
    return std::optional{ima->rules()};
  }
  if (!arguments.has("allow")) return std::optional<ImaRules>{};
  ImaRules rules;
  SP_TRY(const Bytes text, read_whole_file(arguments.text("allow"), ImaAllowList::kMaxBytes));
  auto allowed = ImaAllowList::parse(as_text(text));
  if (!allowed.has_value()) return of_file(arguments.text("allow"), allowed.error());
  rules.allowed = std::move(allowed).value();
  rules.violations_allowed = violations;
  return std::optional{std::move(rules)};
}

Result<int> run_ima(const Arguments& arguments) {
  if (!arguments.has("file")) return wrong_use("sallyport evidence ima LIST");
  SP_TRY(const LogAlgorithm own, template_hash(arguments.text("template-hash")));
  SP_TRY(const ImaList list, load_ima(arguments.text("file"), own));
  SP_TRY(const Judged judged, judge(list, arguments));
  SP_TRY(const std::optional<ImaRules> rules, rules_of(arguments, judged));
  std::optional<ImaTally> tally;
  if (rules) {
    SP_TRY(tally, appraise_ima(judged.replayed.front(), *rules));
  }
  if (arguments.json)
    print_json(json_of(list, judged, tally));
  else
    print_text(list, judged, tally);
  return 0;
}

}  // namespace

Command ima_command() {
  return {
      "evidence ima",
      "evidence ima LIST [--pcr10 HEX] [--allow FILE [--allow-violations] | --references FILE] "
      "[--template-hash ALGORITHM]",
      "what an IMA list comes to, and whether all that it measured is expected",
      "Offline. LIST is what the kernel shows as binary_runtime_measurements, from its beginning. With "
      "--pcr10 it is replayed to that value, and what was measured later is left alone; without, nothing "
      "ties it to a machine. With --allow or --references the first entry that is not expected is told; its "
      "boot_aggregate need not be.\n\n"
      "  sudo cat /sys/kernel/security/ima/binary_runtime_measurements > ima.list\n"
      "  sallyport evidence ima ima.list --pcr10 7fac48c8… --allow files.txt\n",
      ima_flags,
      {"file"},
      run_ima};
}

}  // namespace sallyport::client::evidence_tools

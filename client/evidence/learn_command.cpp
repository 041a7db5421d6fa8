#include <iostream>

#include "attestation/crypto/digest.h"
#include "attestation/record/canonical_json.h"
#include "client/evidence/commands.h"
#include "client/evidence/inputs.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using evidence::PcrSelection;
using evidence::Reference;
using evidence::ReferenceValues;
using record::json::Value;

constexpr std::size_t kMaxLogs = 64;

void learn_flags(po::options_description& flags) {
  flags.add_options()("log", po::value<std::vector<std::string>>()->composing(),
                      "an event log of a good boot; repeatable")(
      "id", po::value<std::string>(), "how the reference is called, such as t490-bios-1.71")(
      "not-after", po::value<std::string>(), "the day, such as 2027-04-01, from which on it accepts nothing")(
      "add-to", po::value<std::string>(), "add it to the references of this document")(
      "unjudged", po::value<std::string>(), "PCRs that may have any events; without it 1,5; or none")(
      "pcrs", po::value<std::string>(), "PCRs that machines quote; without it 0 to 7 and 14");
}

// the_rest gives the document that the reference is added to, without it.
Result<ReferenceValues> the_rest(const Arguments& arguments) {
  std::optional<PcrSelection> wanted;
  if (arguments.has("pcrs")) {
    SP_TRY(const std::uint32_t mask, parse_pcrs("--pcrs", arguments.text("pcrs")));
    if (mask == 0) return usage("--pcrs takes at least one PCR");
    SP_TRY(wanted, PcrSelection::from_mask(mask));
  }
  ReferenceValues out;
  if (arguments.has("add-to")) {
    SP_TRY(LoadedReferences loaded, load_references(arguments.text("add-to")));
    out = std::move(loaded.values);
    if (wanted && *wanted != out.selection)
      return usage("--pcrs is another selection than that of " + arguments.text("add-to") +
                   ", whose references were made for its own; begin a new document");
    if (out.find(arguments.text("id")))
      return usage(arguments.text("add-to") + " has a reference \"" + arguments.text("id") +
                   "\" already; choose another --id, or take the old one out");
  } else if (wanted) {
    out.selection = *wanted;
  }
  ++out.version;
  return out;
}

Result<std::uint32_t> unjudged_pcrs(const Arguments& arguments, const PcrSelection& selection) {
  if (!arguments.has("unjudged")) return kUsuallyUnjudged & selection.mask();
  if (arguments.text("unjudged") == "none") return std::uint32_t{0};
  SP_TRY(const std::uint32_t mask, parse_pcrs("--unjudged", arguments.text("unjudged")));
  if ((mask & ~selection.mask()) != 0)
    return usage("--unjudged has PCR " + pcrs_text(mask & ~selection.mask()) +
                 ", which machines do not quote");
  return mask;
}

Result<int> run_learn(const Arguments& arguments) {
  if (!arguments.has("log") || !arguments.has("id")) return usage("sallyport reference learn LOG… --id ID");
  SP_TRY(ReferenceValues values, the_rest(arguments));
  SP_TRY(const std::uint32_t unjudged, unjudged_pcrs(arguments, values.selection));
  const auto& paths = arguments.values["log"].as<std::vector<std::string>>();
  if (paths.size() > kMaxLogs) return usage("at most " + std::to_string(kMaxLogs) + " logs at once");
  std::vector<NamedLog> logs;
  for (const std::string& path : paths) {
    SP_TRY(NamedLog log, load_log(path));
    logs.push_back(std::move(log));
  }
  SP_TRY(Reference learned, learn_reference(logs, values.selection, unjudged, arguments.text("id")));
  if (arguments.has("not-after")) {
    const std::string day = arguments.text("not-after");
    if (day.size() != 10) return usage("--not-after takes a day, as 2027-04-01");
    SP_TRY(learned.not_after, parse_utc(day));
  }
  const std::size_t events = learned.events.size();
  values.references.push_back(std::move(learned));
  const std::string document = evidence::write_reference_values(values);
  if (const auto loads = evidence::parse_reference_values(document); !loads.has_value()) return loads.error();

  if (arguments.json) {
    print_json(Value::object({{"digest", "sha256:" + to_hex(crypto::sha256(as_bytes(document)))},
                              {"document", document},
                              {"events", std::uint64_t{events}},
                              {"version", values.version}}));
    return 0;
  }
  std::cout << document << std::flush;
  note("learned", grouped(events) + " events of " + grouped(logs.size()) +
                      (logs.size() == 1 ? " boot" : " boots") + "; Secure Boot is " +
                      (values.references.back().secure_boot ? "on" : "OFF"));
  if (unjudged != 0)
    note("unjudged", "PCR " + pcrs_text(unjudged) +
                         ": any event is accepted there (settings, boot order, partitions), so nothing in "
                         "them is told");
  if (arguments.has("add-to"))
    note("kept",
         "the other references of " + printable(arguments.text("add-to")) + "; its comments are not kept");
  note("review",
       "a log proves nothing by itself: take logs of machines that you trust, and read the document");
  return 0;
}

}  // namespace

Command reference_learn_command() {
  return {
      "reference learn",
      "reference learn LOG… --id ID [--not-after DAY] [--add-to FILE] [--unjudged PCRS] [--pcrs PCRS]",
      "describe boots as a reference that accepts them",
      "Offline. Prints a document of reference values on stdout, for people to review and a quorum to "
      "sign: policy propose takes it with --references. It accepts each of the boots, and each that "
      "takes its events from several of them. What only some of the boots have is not required. With "
      "--add-to the document has the other references too, and the next version; comments are not "
      "kept.\n\n"
      "  sudo cat /sys/kernel/security/tpm0/binary_bios_measurements > t490.log\n"
      "  sallyport reference learn t490.log --id t490-bios-1.71 --not-after 2027-04-01 > references.toml\n"
      "  sallyport reference learn new.log --id t490-bios-1.72 --add-to references.toml > next.toml\n"
      "  sallyport reference diff references.toml next.toml\n",
      learn_flags,
      {"log"},
      run_learn,
      {},
      false,
      true};
}

}  // namespace sallyport::client::evidence_tools

#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/evidence/event_log.h"
#include "attestation/record/canonical_json.h"
#include "client/evidence/commands.h"
#include "client/evidence/inputs.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using evidence::EventLog;
using evidence::LogAlgorithm;
using evidence::ReplayedPcrs;
using record::json::Value;

void replay_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(), "the event log")(
      "bank", po::value<std::string>(), "only this bank: sha1, sha256, sha384 or sha512");
}

// What became of one algorithm that the log names.
struct Replayed {
  std::string name;
  std::optional<ReplayedPcrs> pcrs;
  std::string why_not;
};

Result<std::optional<LogAlgorithm>> wanted_bank(const Arguments& arguments) {
  if (!arguments.has("bank")) return std::optional<LogAlgorithm>{};
  for (const LogAlgorithm bank : evidence::kLogAlgorithms)
    if (evidence::log_algorithm_name(bank) == arguments.text("bank")) return std::optional{bank};
  return usage("--bank takes sha1, sha256, sha384 or sha512");
}

std::vector<Replayed> replay_all(const EventLog& log) {
  std::vector<Replayed> out;
  for (const evidence::LogBank& bank : log.banks()) {
    Replayed one{evidence::log_algorithm_name(bank.algorithm), std::nullopt, {}};
    if (const auto known = evidence::find_log_algorithm(bank.algorithm)) {
      if (auto pcrs = evidence::replay(log, *known); pcrs.has_value())
        one.pcrs = std::move(pcrs).value();
      else
        one.why_not = pcrs.error().what;
    } else {
      one.why_not = "no bank of this algorithm is replayed";
    }
    out.push_back(std::move(one));
  }
  return out;
}

// untouched_text: "10–13, 15" of the PCRs that no event extends.
std::string untouched_text(const ReplayedPcrs& pcrs) {
  std::string text;
  for (std::uint32_t first = 0; first < 24; ++first) {
    if (pcrs.find(first)) continue;
    std::uint32_t last = first;
    while (last + 1 < 24 && !pcrs.find(last + 1)) ++last;
    text += (text.empty() ? "" : ", ") + std::to_string(first);
    if (last != first) text += (last == first + 1 ? ", " : "–") + std::to_string(last);
    first = last;
  }
  return text;
}

Value json_of(const EventLog& log, const std::vector<Replayed>& banks) {
  Value::Array shown;
  for (const Replayed& bank : banks) {
    std::vector<record::json::Member> members{{"algorithm", bank.name}};
    if (bank.pcrs) {
      Value::Array pcrs;
      for (std::uint32_t pcr = 0; pcr < 24; ++pcr)
        if (const auto value = bank.pcrs->find(pcr))
          pcrs.push_back(Value::object({{"pcr", std::uint64_t{pcr}}, {"value", to_hex(*value)}}));
      members.push_back({"pcrs", std::move(pcrs)});
    } else {
      members.push_back({"not_replayed", bank.why_not});
    }
    shown.push_back(Value::object(std::move(members)));
  }
  std::vector<record::json::Member> members{{"banks", std::move(shown)},
                                            {"events", std::uint64_t{log.events().size()}},
                                            {"form", log.crypto_agile() ? "crypto-agile" : "sha1"},
                                            {"padding", std::uint64_t{log.padding_bytes()}},
                                            {"pcr0_start", std::uint64_t{log.pcr0_start()}},
                                            {"size", std::uint64_t{log.bytes().size()}}};
  if (log.startup_locality()) members.push_back({"startup_locality", std::uint64_t{*log.startup_locality()}});
  return Value::object(std::move(members));
}

void print_text(const EventLog& log, const std::vector<Replayed>& banks) {
  std::cout << "log        " << (log.crypto_agile() ? "crypto-agile" : "SHA-1 only") << " · "
            << grouped(log.events().size()) << " events · " << human_bytes(log.bytes().size());
  if (log.padding_bytes() != 0)
    std::cout << ", of which " << grouped(log.padding_bytes()) << " B are padding";
  std::cout << "\nPCR 0      starts at " << unsigned{log.pcr0_start()}
            << (log.startup_locality()  ? ", the locality that the log states"
                : log.pcr0_start() != 0 ? ", for the H-CRTM event"
                                        : ": the log states no locality")
            << "\n";
  for (const Replayed& bank : banks) {
    std::cout << "\n" << bank.name << "\n";
    if (!bank.pcrs) {
      std::cout << "  not replayed: " << bank.why_not << "\n";
      continue;
    }
    for (std::uint32_t pcr = 0; pcr < 24; ++pcr)
      if (const auto value = bank.pcrs->find(pcr))
        std::cout << (pcr < 10 ? "   " : "  ") << pcr << "  " << to_hex(*value) << "\n";
    std::cout << "  no event extends PCR " << untouched_text(*bank.pcrs) << "\n";
  }
  std::cout << std::flush;
}

Result<int> run_replay(const Arguments& arguments) {
  if (!arguments.has("file")) return usage("sallyport evidence replay LOG");
  SP_TRY(const std::optional<LogAlgorithm> wanted, wanted_bank(arguments));
  SP_TRY(const NamedLog named, load_log(arguments.text("file")));
  const EventLog& log = named.log;
  std::vector<Replayed> banks;
  if (wanted) {
    SP_TRY(ReplayedPcrs pcrs, evidence::replay(log, *wanted));
    banks.push_back({evidence::log_algorithm_name(*wanted), std::move(pcrs), {}});
  } else {
    banks = replay_all(log);
  }
  if (arguments.json)
    print_json(json_of(log, banks));
  else
    print_text(log, banks);
  return 0;
}

}  // namespace

Command replay_command() {
  return {"evidence replay",
          "evidence replay LOG [--bank BANK]",
          "the PCR values that an event log comes to",
          "Offline. LOG is what the kernel shows as binary_bios_measurements. A bank that the log does not "
          "cover in every event is not replayed, and a PCR that no event extends has no value here: nothing "
          "is known of it. That a machine has these values, only a quote of its TPM can say.\n\n"
          "  sudo cat /sys/kernel/security/tpm0/binary_bios_measurements > boot.log\n"
          "  sallyport evidence replay boot.log --bank sha256\n",
          replay_flags,
          {"file"},
          run_replay};
}

}  // namespace sallyport::client::evidence_tools

#include <algorithm>
#include <iostream>

#include "attestation/crypto/digest.h"
#include "attestation/record/canonical_json.h"
#include "client/evidence/commands.h"
#include "client/evidence/difference.h"
#include "client/evidence/inputs.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using evidence::PcrSelection;
using evidence::Reference;
using record::json::Member;
using record::json::Value;

void diff_flags(po::options_description& flags) {
  flags.add_options()("old", po::value<std::string>(), "a document of reference values, or an event log")(
      "new", po::value<std::string>(), "the one to hold against it")(
      "pcrs", po::value<std::string>(),
      "only these PCRs, as 8,9,11-13; without it those of the documents, or of two logs all that either "
      "measures but 1 and 5");
}

// Side is one of the two files as references. A log is learned as the other side judges.
struct Side {
  std::vector<Reference> references;
  Digest256 digest;
  std::optional<PcrSelection> selection;  // of a document
  std::optional<evidence::ImaReference> ima;
  std::uint32_t measured = 0;  // what a log extends: bit n is PCR n
};

// What a boot is, is in PCR 0–15 but for 10, which goes on while the machine runs; 16 and 23 are for
// debugging and for applications, and 17–22 begin anew with each late launch.
constexpr std::uint32_t kOfTheBoot = 0xFFFFu & ~(1u << evidence::kImaPcr);
constexpr std::uint32_t kOfEveryBoot = 0xFF;  // every firmware measures something into each

std::uint32_t measured_pcrs(const evidence::EventLog& log) {
  std::uint32_t out = 0;
  for (const evidence::LogEvent& event : log.events())
    if (event.extends() && event.pcr < 24) out |= 1u << event.pcr;
  return out;
}

// Terms are on what two logs are learned, where no document says it.
struct Terms {
  PcrSelection selection;
  std::uint32_t unjudged = 0;
};

Result<Terms> terms_of_logs(std::uint32_t measured, std::optional<std::uint32_t> wanted) {
  // A reference is of PCR 0–7 at least. What of it is not wanted is not told.
  SP_TRY(PcrSelection selection,
         PcrSelection::from_mask((wanted.value_or(measured) & kOfTheBoot) | kOfEveryBoot));
  return Terms{std::move(selection), kUsuallyUnjudged & ~wanted.value_or(0)};
}

// learned gives a log as references: one for each set of judged PCRs of the other side.
Result<std::vector<Reference>> learned(NamedLog log, const std::optional<LoadedReferences>& other,
                                       const Terms& terms) {
  const std::vector<NamedLog> logs = [&] {
    std::vector<NamedLog> one;
    one.push_back(std::move(log));
    return one;
  }();
  std::vector<Reference> out;
  if (!other) {
    SP_TRY(Reference one, learn_reference(logs, terms.selection, terms.unjudged, "log"));
    out.push_back(std::move(one));
    return out;
  }
  for (const Reference& of_document : other->values.references) {
    if (of_document.as_enrolled) continue;
    SP_TRY(Reference one,
           learn_reference(logs, other->values.selection, of_document.unjudged, of_document.id));
    one.not_after = of_document.not_after;  // a log says nothing of it
    out.push_back(std::move(one));
  }
  if (out.empty())
    return Error{Code::kMalformed, Reason::kUsage,
                 "the document lists no events, and a log can only be held against events"};
  return out;
}

Result<Side> side_of(EitherFile& file, const std::optional<LoadedReferences>& other, const Terms& terms) {
  if (file.references)
    return Side{file.references->values.references, file.references->digest,
                file.references->values.selection, file.references->values.ima, 0};
  Side out;
  out.digest = crypto::sha256(file.log->log.bytes());
  out.measured = measured_pcrs(file.log->log);
  SP_TRY(out.references, learned(std::move(*file.log), other, terms));
  return out;
}

// The pairs that are told. Where a log is a side, the reference that is nearest to it alone.
std::vector<ReferencePair> pairs_of(const Side& before, const Side& after) {
  std::vector<ReferencePair> pairs = diff_values(before.references, after.references);
  if (before.selection && after.selection) return pairs;
  std::erase_if(pairs,
                [](const ReferencePair& pair) { return pair.before == nullptr || pair.after == nullptr; });
  const auto nearest =
      std::ranges::min_element(pairs, {}, [](const ReferencePair& pair) { return pair.differences.size(); });
  SP_ASSERT(nearest != pairs.end());
  return {*nearest};
}

// quoted_text tells of two documents that want other PCRs quoted.
std::string quoted_text(const Side& before, const Side& after) {
  if (!before.selection || !after.selection || *before.selection == *after.selection) return {};
  return "machines quote PCR " + pcrs_text(before.selection->mask()) + " -> " +
         pcrs_text(after.selection->mask());
}

std::string title(const ReferencePair& pair) {
  if (pair.after == nullptr) return "- " + pair.before->id + "   gone";
  if (pair.before == nullptr) return "+ " + pair.after->id + "   new";
  if (pair.before->id == pair.after->id) return pair.after->id;
  return "+ " + pair.after->id + "   new; against " + pair.before->id;
}

// Comparison is what two files were found to differ in, where it was looked for. Its pairs point into its
// sides.
struct Comparison {
  Side before, after;
  std::vector<ReferencePair> pairs;
  std::vector<Difference> ima;
  std::uint32_t pcrs = 0;      // that were held against each other
  std::uint32_t left_out = 0;  // that a log measures, and were not
};

// keep_wanted leaves what is of a reference as a whole, and of these PCRs.
void keep_wanted(std::vector<Difference>& differences, std::uint32_t wanted) {
  std::erase_if(differences, [&](const Difference& one) { return one.pcr && (wanted >> *one.pcr & 1) == 0; });
}

Status compare(Comparison& out, const Terms& terms, std::optional<std::uint32_t> only) {
  const std::uint32_t wanted = only.value_or(~0u);
  const bool documents = out.before.selection && out.after.selection;
  const std::uint32_t quoted = (out.before.selection ? out.before.selection->mask() : 0) |
                               (out.after.selection ? out.after.selection->mask() : 0);
  const bool with_ima = documents && (out.before.ima || out.after.ima);
  std::uint32_t known = quoted != 0 ? quoted : terms.selection.mask();
  if (with_ima) known |= 1u << evidence::kImaPcr;
  if (only && (*only & ~known) != 0)
    return usage(
        "--pcrs has PCR " + pcrs_text(*only & ~known) +
        (quoted != 0 ? ", of which the document says nothing" : ", which is no part of a boot's state"));

  out.pairs = pairs_of(out.before, out.after);
  for (ReferencePair& pair : out.pairs) {
    if (pair.before != nullptr && pair.after != nullptr && !pair.before->as_enrolled &&
        !pair.after->as_enrolled)
      out.pcrs |= known & ~pair.before->unjudged & ~pair.after->unjudged;
    keep_wanted(pair.differences, wanted);
  }
  if (documents) out.ima = diff_ima(out.before.ima, out.after.ima);  // a log says nothing of it
  keep_wanted(out.ima, wanted);
  if (with_ima) out.pcrs |= 1u << evidence::kImaPcr;
  out.pcrs &= wanted;
  out.left_out = (out.before.measured | out.after.measured) & ~out.pcrs;
  return Done{};
}

Value::Array array_of(std::uint32_t mask) {
  Value::Array out;
  for (std::uint64_t pcr = 0; pcr < 24; ++pcr)
    if ((mask >> pcr & 1) != 0) out.push_back(pcr);
  return out;
}

Value json_of(const Comparison& all) {
  Value::Array lines;
  for (const ReferencePair& pair : all.pairs) {
    const auto add = [&](char sign, std::optional<std::uint8_t> pcr, std::string text) {
      std::vector<Member> members{{"sign", std::string(1, sign)}, {"text", std::move(text)}};
      if (pair.after != nullptr) members.push_back({"reference", pair.after->id});
      if (pair.before != nullptr) members.push_back({"against", pair.before->id});
      if (pcr) members.push_back({"pcr", std::uint64_t{*pcr}});
      lines.push_back(Value::object(std::move(members)));
    };
    if (pair.after == nullptr) add('-', std::nullopt, "reference gone");
    if (pair.before == nullptr || (pair.after != nullptr && pair.before->id != pair.after->id))
      add('+', std::nullopt, "reference new");
    for (const Difference& one : pair.differences) add(one.sign, one.pcr, one.text);
  }
  for (const Difference& one : all.ima)
    lines.push_back(Value::object(
        {{"pcr", std::uint64_t{*one.pcr}}, {"sign", std::string(1, one.sign)}, {"text", one.text}}));
  if (const std::string quoted = quoted_text(all.before, all.after); !quoted.empty())
    lines.push_back(Value::object({{"sign", "~"}, {"text", quoted}}));
  return Value::object({{"compared", array_of(all.pcrs)},
                        {"diff", std::move(lines)},
                        {"from", "sha256:" + to_hex(all.before.digest)},
                        {"left_out", array_of(all.left_out)},
                        {"to", "sha256:" + to_hex(all.after.digest)}});
}

void print_text(const Comparison& all) {
  bool differ = false;
  if (const std::string quoted = quoted_text(all.before, all.after); !quoted.empty()) {
    std::cout << quoted << "\n";
    differ = true;
  }
  const bool documents = all.before.selection || all.after.selection;
  for (const ReferencePair& pair : all.pairs) {
    const bool both = pair.before != nullptr && pair.after != nullptr;
    if (both && pair.before->id == pair.after->id && pair.differences.empty()) continue;
    differ = true;
    if (documents) std::cout << printable(title(pair)) << "\n";
    for (const Difference& one : pair.differences)
      std::cout << (documents ? "  " : "") << one.sign << " "
                << (one.pcr ? "PCR " + std::to_string(*one.pcr) + ": " : "") << printable(one.text) << "\n";
    if (both && pair.differences.empty()) std::cout << "  accepts the same boots\n";
  }
  for (const Difference& one : all.ima) {
    differ = true;
    std::cout << one.sign << " PCR " << int{*one.pcr} << ": " << printable(one.text) << "\n";
  }
  if (!differ) std::cout << "no difference in what is accepted\n";
  std::cout << "compared: "
            << (all.pcrs == 0 ? "no PCR: no events are listed" : "PCR " + pcrs_text(all.pcrs));
  if (all.left_out != 0)
    std::cout << "; not what a log has of PCR " << pcrs_text(all.left_out)
              << (!documents && all.left_out == kUsuallyUnjudged ? " (settings, boot order, partitions)"
                                                                 : "");
  std::cout << std::endl;
}

Result<int> run_diff(const Arguments& arguments) {
  if (!arguments.has("new")) return usage("sallyport reference diff OLD NEW");
  std::optional<std::uint32_t> wanted;
  if (arguments.has("pcrs")) {
    SP_TRY(wanted, parse_pcrs("--pcrs", arguments.text("pcrs")));
    if (*wanted == 0) return usage("--pcrs takes at least one PCR");
  }
  SP_TRY(EitherFile old_file, load_either(arguments.text("old")));
  SP_TRY(EitherFile new_file, load_either(arguments.text("new")));
  std::uint32_t measured = 0;
  for (const EitherFile* file : {&old_file, &new_file})
    if (file->log) measured |= measured_pcrs(file->log->log);
  SP_TRY(const Terms terms, terms_of_logs(measured, wanted));
  Comparison all;
  SP_TRY(all.before, side_of(old_file, new_file.references, terms));
  SP_TRY(all.after, side_of(new_file, old_file.references, terms));
  SP_CHECK(compare(all, terms, wanted));
  if (arguments.json)
    print_json(json_of(all));
  else
    print_text(all);
  return 0;
}

}  // namespace

Command reference_diff_command() {
  return {
      "reference diff",
      "reference diff OLD NEW [--pcrs PCRS]",
      "what an update changed in what is measured, in words",
      "Offline. OLD and NEW are documents of reference values, or event logs, each as it is found out. Of "
      "references with the same id it tells what they accept otherwise; a new one is held against the one "
      "that is nearest to it. Which events belong together is guessed from their words; that they differ "
      "is not. Two logs are compared in every PCR of the boot that either measures, but for 1 and 5, which "
      "differ from machine to machine; --pcrs names others, or fewer. Which they were is told. The exit code "
      "is 0 either way.\n\n"
      "  sallyport reference diff references.toml next.toml\n"
      "  sallyport reference diff before-update.log after-update.log\n"
      "  sallyport reference diff before-update.log after-update.log --pcrs 8,9,11-13\n",
      diff_flags,
      {"old", "new"},
      run_diff};
}

}  // namespace sallyport::client::evidence_tools

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
      "new", po::value<std::string>(), "the one to hold against it");
}

// Side is one of the two files as references. A log is learned as the other side judges.
struct Side {
  std::vector<Reference> references;
  Digest256 digest;
  std::optional<PcrSelection> selection;  // of a document
  std::optional<evidence::ImaReference> ima;
};

// learned gives a log as references: one for each set of judged PCRs of the other side.
Result<std::vector<Reference>> learned(NamedLog log, const std::optional<LoadedReferences>& other) {
  const std::vector<NamedLog> logs = [&] {
    std::vector<NamedLog> one;
    one.push_back(std::move(log));
    return one;
  }();
  std::vector<Reference> out;
  if (!other) {
    SP_TRY(Reference one, learn_reference(logs, PcrSelection::standard(), kUsuallyUnjudged, "log"));
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

Result<Side> side_of(EitherFile& file, const std::optional<LoadedReferences>& other) {
  if (file.references)
    return Side{file.references->values.references, file.references->digest,
                file.references->values.selection, file.references->values.ima};
  Side out;
  out.digest = crypto::sha256(file.log->log.bytes());
  SP_TRY(out.references, learned(std::move(*file.log), other));
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

// A log says nothing of what was measured later.
std::vector<Difference> ima_lines(const Side& before, const Side& after) {
  if (!before.selection || !after.selection) return {};
  return diff_ima(before.ima, after.ima);
}

Value json_of(const Side& before, const Side& after, const std::vector<ReferencePair>& pairs) {
  Value::Array lines;
  for (const ReferencePair& pair : pairs) {
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
  for (const Difference& one : ima_lines(before, after))
    lines.push_back(Value::object(
        {{"pcr", std::uint64_t{*one.pcr}}, {"sign", std::string(1, one.sign)}, {"text", one.text}}));
  if (const std::string quoted = quoted_text(before, after); !quoted.empty())
    lines.push_back(Value::object({{"sign", "~"}, {"text", quoted}}));
  return Value::object({{"diff", std::move(lines)},
                        {"from", "sha256:" + to_hex(before.digest)},
                        {"to", "sha256:" + to_hex(after.digest)}});
}

Result<int> run_diff(const Arguments& arguments) {
  if (!arguments.has("new"))
    return Error{Code::kMalformed, Reason::kUsage, "sallyport reference diff OLD NEW"};
  SP_TRY(EitherFile old_file, load_either(arguments.text("old")));
  SP_TRY(EitherFile new_file, load_either(arguments.text("new")));
  SP_TRY(const Side before, side_of(old_file, new_file.references));
  SP_TRY(const Side after, side_of(new_file, old_file.references));
  const std::vector<ReferencePair> pairs = pairs_of(before, after);
  if (arguments.json) {
    print_json(json_of(before, after, pairs));
    return 0;
  }
  bool differ = false;
  if (const std::string quoted = quoted_text(before, after); !quoted.empty()) {
    std::cout << quoted << "\n";
    differ = true;
  }
  const bool documents = before.selection || after.selection;
  for (const ReferencePair& pair : pairs) {
    const bool both = pair.before != nullptr && pair.after != nullptr;
    if (both && pair.before->id == pair.after->id && pair.differences.empty()) continue;
    differ = true;
    if (documents) std::cout << printable(title(pair)) << "\n";
    for (const Difference& one : pair.differences)
      std::cout << (documents ? "  " : "") << one.sign << " "
                << (one.pcr ? "PCR " + std::to_string(*one.pcr) + ": " : "") << printable(one.text) << "\n";
    if (both && pair.differences.empty()) std::cout << "  accepts the same boots\n";
  }
  for (const Difference& one : ima_lines(before, after)) {
    differ = true;
    std::cout << one.sign << " PCR " << int{*one.pcr} << ": " << printable(one.text) << "\n";
  }
  if (!differ) std::cout << "no difference in what is accepted\n";
  if (!documents)
    note("unjudged",
         "PCR " + pcrs_text(kUsuallyUnjudged) + " (settings, boot order, partitions) were not looked at");
  std::cout << std::flush;
  return 0;
}

}  // namespace

Command reference_diff_command() {
  return {
      "reference diff",
      "reference diff OLD NEW",
      "what an update changed in what is measured, in words",
      "Offline. OLD and NEW are documents of reference values, or event logs, each as it is found out. Of "
      "references with the same id it tells what they accept otherwise; a new one is held against the one "
      "that is nearest to it. Which events belong together is guessed from their words; that they differ "
      "is not. The exit code is 0 either way.\n\n"
      "  sallyport reference diff references.toml next.toml\n"
      "  sallyport reference diff before-update.log after-update.log\n",
      diff_flags,
      {"old", "new"},
      run_diff};
}

}  // namespace sallyport::client::evidence_tools

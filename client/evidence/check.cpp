#include <iostream>

#include "attestation/record/canonical_json.h"
#include "client/evidence/commands.h"
#include "client/evidence/inputs.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using evidence::ExpectedEvent;
using evidence::Reference;
using record::json::Member;
using record::json::Value;

void check_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(), "the document of reference values");
}

// What a reference expects of one PCR.
struct Count {
  std::uint64_t events = 0, optional = 0, repeating = 0;
};
Count count(const Reference& reference, unsigned pcr) {
  Count out;
  for (const ExpectedEvent& event : reference.events) {
    if (event.pcr != pcr) continue;
    ++out.events;
    out.optional += event.required ? 0 : 1;
    out.repeating += event.repeats ? 1 : 0;
  }
  return out;
}

std::string count_text(const Count& count, unsigned pcr) {
  if (count.events == 0) return pcr < 8 ? "nothing but the separator" : "nothing";
  std::string text = grouped(count.events) + (count.events == 1 ? " event" : " events");
  if (count.optional != 0) text += ", " + grouped(count.optional) + " not required";
  if (count.repeating != 0) text += ", " + grouped(count.repeating) + " may repeat";
  return text;
}

Value::Array array_of(std::uint32_t mask) {
  Value::Array out;
  for (std::uint64_t pcr = 0; pcr < 24; ++pcr)
    if ((mask >> pcr & 1) != 0) out.push_back(pcr);
  return out;
}

Value json_of(const Reference& reference, const evidence::PcrSelection& selection) {
  std::vector<Member> members{{"as_enrolled", Value{reference.as_enrolled}},
                              {"id", reference.id},
                              {"in_force", Value{reference.in_force(now())}}};
  if (reference.not_after) members.push_back({"not_after", evidence::day_text(*reference.not_after)});
  if (!reference.as_enrolled) {
    Value::Array pcrs, patterns;
    for (const std::uint8_t pcr : selection.indices()) {
      if (!reference.judges(pcr)) continue;
      const Count of = count(reference, pcr);
      pcrs.push_back(Value::object({{"events", of.events},
                                    {"not_required", of.optional},
                                    {"pcr", std::uint64_t{pcr}},
                                    {"repeating", of.repeating}}));
    }
    for (const ExpectedEvent& event : reference.events)
      if (event.digests.empty())
        patterns.push_back(Value::object({{"pcr", std::uint64_t{event.pcr}}, {"text", event.pattern}}));
    members.push_back({"patterns", std::move(patterns)});
    members.push_back({"pcrs", std::move(pcrs)});
    members.push_back({"secure_boot", Value{reference.secure_boot}});
    members.push_back({"unjudged", array_of(reference.unjudged)});
  }
  return Value::object(std::move(members));
}

Value json_of(const LoadedReferences& loaded) {
  Value::Array references;
  for (const Reference& one : loaded.values.references)
    references.push_back(json_of(one, loaded.values.selection));
  std::vector<Member> members{{"digest", "sha256:" + to_hex(loaded.digest)},
                              {"pcrs", array_of(loaded.values.selection.mask())},
                              {"references", std::move(references)},
                              {"version", loaded.values.version}};
  if (const auto& ima = loaded.values.ima)
    members.push_back({"ima", Value::object({{"files", std::uint64_t{ima->files()}},
                                             {"keys", std::uint64_t{ima->terms().keys.size()}},
                                             {"padded_sha1", Value{ima->terms().padded_sha1}},
                                             {"violations", Value{ima->terms().violations}}})});
  return Value::object(std::move(members));
}

void print_text(const Reference& reference, const evidence::PcrSelection& selection) {
  std::cout << "\n" << printable(reference.id) << "\n  in force   ";
  if (!reference.not_after)
    std::cout << "without end\n";
  else
    std::cout << (reference.in_force(now()) ? "until " : "no longer: it accepts nothing since ")
              << evidence::day_text(*reference.not_after) << (reference.in_force(now()) ? " begins\n" : "\n");
  if (reference.as_enrolled) {
    std::cout << "  accepts    the boot that the machine's enrolment recorded, as a whole\n";
    return;
  }
  std::cout << "  accepts    Secure Boot " << (reference.secure_boot ? "on" : "OFF") << "\n";
  for (const std::uint8_t pcr : selection.indices()) {
    if (!reference.judges(pcr)) continue;
    std::cout << "  PCR " << int{pcr} << (pcr < 10 ? "      " : "     ")
              << count_text(count(reference, pcr), pcr) << "\n";
  }
  if (reference.unjudged != 0)
    std::cout << "  any event  in PCR " << pcrs_text(reference.unjudged) << ": not judged\n";
  for (const ExpectedEvent& event : reference.events)
    if (event.digests.empty())
      std::cout << "  text       PCR " << int{event.pcr} << ": " << printable(event.pattern) << "\n";
}

void print_ima(const evidence::ImaReference& ima) {
  const std::size_t files = ima.files(), keys = ima.terms().keys.size();
  std::cout << "\nmeasured later: machines bring their IMA lists\n  files      " << grouped(files)
            << (files == 1 ? " is listed, " : " are listed, ") << grouped(keys)
            << (keys == 1 ? " key signs any other\n" : " keys sign any other\n");
  if (ima.terms().violations) std::cout << "  VIOLATIONS are accepted: of their files nothing is known\n";
  if (ima.terms().padded_sha1) std::cout << "  SHA-1      lists that rest on it are accepted\n";
}

Result<int> run_check(const Arguments& arguments) {
  if (!arguments.has("file"))
    return Error{Code::kMalformed, Reason::kUsage, "sallyport reference check FILE"};
  SP_TRY(const LoadedReferences loaded, load_references(arguments.text("file")));
  if (arguments.json) {
    print_json(json_of(loaded));
    return 0;
  }
  const std::size_t references = loaded.values.references.size();
  std::cout << "version    " << loaded.values.version << " · " << references
            << (references == 1 ? " reference" : " references") << "\nmachines   quote PCR "
            << pcrs_text(loaded.values.selection.mask()) << "\ndigest     sha256:" << to_hex(loaded.digest)
            << "\n           (in the policy: references, under [authority])\n";
  for (const Reference& one : loaded.values.references) print_text(one, loaded.values.selection);
  if (loaded.values.ima) print_ima(*loaded.values.ima);
  std::cout << "loads" << std::endl;
  return 0;
}

}  // namespace

Command reference_check_command() {
  return {"reference check",
          "reference check FILE",
          "read a document of reference values and say what it accepts",
          "Offline. Exit code 3 when it does not load, and the line. A boot is accepted when one reference "
          "expects each of its events and it lacks none that is required. The digest is what the policy "
          "names, so that a quorum signs this very document.\n\n"
          "  sallyport reference check references.toml\n",
          check_flags,
          {"file"},
          run_check};
}

}  // namespace sallyport::client::evidence_tools

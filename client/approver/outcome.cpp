#include "client/approver/outcome.h"

#include <algorithm>
#include <iostream>
#include <optional>
#include <thread>

#include "attestation/base/hex.h"
#include "client/terminal/cases.h"
#include "client/terminal/render.h"

namespace sallyport::client::approver {
namespace {

using record::json::Value;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kSendPatience{60}, kPause{1};
constexpr int kAway = 9;  // the exit code for a broker, witnesses or HSM that do not answer

bool is_away(const api::Submitted& one) {
  return one.code && reason_exit_code(*one.code) == kAway;
}

// Outcome is what became of a case, as far as this machine's own log tells.
struct Outcome {
  const api::Submitted* told;
  bool cosigned = false;  // the leaf is in the log that this machine follows
  bool enrolled = false;  // and the machine, as this machine has judged it
};

Outcome look(Opened& opened, const api::Submitted& told) {
  Outcome out{&told};
  if (told.leaf == 0) return out;
  const auto control = opened.session->control();
  const auto leaf = opened.session->follower().leaf(LeafIndex{told.leaf});
  const auto is_of = [&](record::Kind kind) { return leaf->kind == static_cast<std::uint8_t>(kind); };
  out.cosigned = control->size().get() > told.leaf && leaf.has_value() && leaf->case_id == told.case_id &&
                 (is_of(record::Kind::kListApproval) || is_of(record::Kind::kApproval) ||
                  is_of(record::Kind::kEnrolment));
  const record::CaseTrace* trace = control->find_case(told.case_id);
  out.enrolled = out.cosigned && trace != nullptr && trace->closed && !trace->denied;
  return out;
}

std::string text_of(const Outcome& outcome) {
  const api::Submitted& told = *outcome.told;
  std::string text;
  if (told.code)
    text = std::string{told.leaf == 0 ? "NOT RECORDED" : "signed, NOT ENROLLED"} + " [" +
           std::string{reason_name(*told.code)} + "] " +
           printable(told.detail.empty() ? std::string{reason_sentence(*told.code)} : told.detail);
  else if (outcome.enrolled)
    text = "enrolled";
  else
    text = told.state == "open" ? "signed, waits for others" : "signed, " + printable(told.state);
  if (told.leaf != 0)
    text += " · leaf " + grouped(told.leaf) + (outcome.cosigned ? ", cosigned" : ", not yet cosigned");
  return text;
}

}  // namespace

Result<std::vector<api::Submitted>> send_list(Opened& opened, const record::Submission& list) {
  const auto until = steady_clock::now() + kSendPatience;
  std::optional<std::vector<api::Submitted>> before;
  note("list", "sending it");
  for (;;) {
    auto outcomes = opened.session->submit_list(list);
    if (!outcomes.has_value()) {
      // What was told before is still so.
      if (!before || outcomes.error().code != Code::kUnavailable) return outcomes;
      note("list", "the broker does not answer any more: " + printable(outcomes.error().what));
      return *std::move(before);
    }
    if (std::none_of(outcomes->begin(), outcomes->end(), is_away) || steady_clock::now() >= until)
      return outcomes;
    before = std::move(*outcomes);
    note("list", "the broker could not go on; sending it again");
    std::this_thread::sleep_for(kPause);
  }
}

int tell_outcomes(Opened& opened, const std::vector<api::Submitted>& outcomes,
                  const std::map<CaseId, std::string>& names, std::vector<record::json::Member> more,
                  bool json) {
  std::uint64_t last = 0;
  for (const api::Submitted& one : outcomes) last = std::max(last, one.leaf);
  const auto began = steady_clock::now();
  while (opened.session->control()->size().get() <= last && steady_clock::now() - began < kProofPatience)
    if (!opened.session->sync(kPause).has_value()) break;

  const auto name_of = [&](const CaseId& id) {
    const auto named = names.find(id);
    return named == names.end() ? std::string{} : named->second;
  };
  int exit_code = 0;
  std::size_t enrolled = 0, recorded = 0, widest = 0;
  for (const api::Submitted& one : outcomes)
    widest = std::max(widest, printable(name_of(one.case_id)).size());
  Value::Array rows;
  for (const api::Submitted& one : outcomes) {
    const Outcome outcome = look(opened, one);
    if (one.code && exit_code == 0) exit_code = reason_exit_code(*one.code);
    enrolled += outcome.enrolled ? 1 : 0;
    recorded += one.leaf != 0 ? 1 : 0;
    if (json) {
      rows.push_back(Value::object({{"case", to_hex(one.case_id)},
                                    {"code", one.code ? reason_name(*one.code) : ""},
                                    {"cosigned", Value{outcome.cosigned}},
                                    {"detail", one.detail},
                                    {"enrolled", Value{outcome.enrolled}},
                                    {"leaf", one.leaf},
                                    {"name", name_of(one.case_id)},
                                    {"state", one.state}}));
      continue;
    }
    std::string name = printable(name_of(one.case_id));
    name.append(widest - name.size() + (widest == 0 ? 0 : 2), ' ');
    std::cout << short_case(one.case_id) << "  " << name << text_of(outcome) << "\n";
  }
  if (json) {
    more.push_back({"cases", std::move(rows)});
    print_json(Value::object(std::move(more)));
  } else {
    std::cout << "signed once · " << recorded << " of " << outcomes.size() << " recorded, " << enrolled
              << " enrolled" << std::endl;
  }
  return exit_code;
}

}  // namespace sallyport::client::approver

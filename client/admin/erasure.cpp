#include <algorithm>
#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "attestation/policy/quorum.h"
#include "attestation/record/canonical_json.h"
#include "client/admin/commands.h"
#include "client/terminal/cases.h"
#include "client/terminal/render.h"

namespace sallyport::client::admin {
namespace {

namespace po = boost::program_options;
using record::Kind;
using record::json::Value;

std::string cases_text(std::size_t count) {
  return grouped(count) + (count == 1 ? " case" : " cases");
}
Value::Array hex_list(const std::vector<CaseId>& ids) {
  Value::Array out;
  for (const CaseId& id : ids) out.push_back(Value{to_hex(id)});
  return out;
}

// pick gives the cases that were typed, by their ids or the beginnings of them among `known`. Ascending.
Result<std::vector<CaseId>> pick(const Arguments& arguments, const std::vector<CaseId>& known) {
  std::vector<api::CaseView> views;
  for (const CaseId& id : known) views.emplace_back().case_id = id;
  std::vector<CaseId> out;
  for (const std::string& typed : arguments.values["case"].as<std::vector<std::string>>()) {
    SP_TRY(const CaseId id, find_case_id(typed, views));
    out.push_back(id);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  if (out.size() > record::kMaxNamedCases)
    return usage("at most " + std::to_string(record::kMaxNamedCases) + " cases at once");
  return out;
}

// send signs and sends one statement. Errors: that of a refusal.
template <class Statement>
Result<api::Submitted> send(Opened& opened, Kind kind, const Statement& statement) {
  SP_TRY(Bytes envelope, opened.signer->envelope(record::payload_type(kind), record::encode(statement)));
  SP_TRY(const api::Submitted submitted, opened.session->submit({std::move(envelope), {}}));
  if (submitted.code) return Error{Code::kDenied, *submitted.code, submitted.detail};
  return submitted;
}

// ---- erasure propose

void propose_flags(po::options_description& flags) {
  flags.add_options()("before", po::value<std::string>(), "cases opened before this day, or moment, in UTC")(
      "case", po::value<std::vector<std::string>>()->composing(),
      "only this case (may be repeated): its id, or the beginning of it")(
      "reason", po::value<std::string>(), "why: approvers and auditors read it");
}

Result<int> propose(const Arguments& arguments) {
  if (!arguments.has("before") || arguments.text("reason").empty())
    return usage("sallyport erasure propose --before DAY [--case CASE]… --reason WHY");
  record::ErasureProposed proposal;
  SP_TRY(proposal.before, parse_utc(arguments.text("before")));
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(const auto loaded, opened->session->policy());
  if (!loaded->policy.authority.erase)
    return Error{Code::kDenied, Reason::kErasureOff, "the policy in force has no [authority] erase"};
  SP_TRY(proposal.cases, opened->session->erasable(proposal.before));
  if (arguments.has("case")) {
    SP_TRY(proposal.cases, pick(arguments, proposal.cases));
  }
  if (proposal.cases.empty())
    return Error{Code::kDenied, Reason::kErasureCase,
                 "no case was opened before " + utc(proposal.before) + " that is neither erased nor held"};
  proposal.authority = opened->settings.anchor.origin.get();
  proposal.case_id = crypto::random_case_id();
  proposal.person = opened->settings.person;
  proposal.reason = arguments.text("reason");
  proposal.time = now();
  SP_CHECK(record::check_erasable(*opened->session->control(), loaded->policy, proposal, proposal.time));
  SP_TRY(const api::Submitted submitted, send(*opened, Kind::kErasureProposed, proposal));
  if (arguments.json) {
    print_json(Value::object({{"before", proposal.before.get()},
                              {"case", to_hex(proposal.case_id)},
                              {"cases", hex_list(proposal.cases)},
                              {"leaf", submitted.leaf}}));
    return 0;
  }
  std::cout << "proposed · erase " << cases_text(proposal.cases.size()) << " opened before "
            << utc(proposal.before) << " · case " << short_case(proposal.case_id) << " · leaf "
            << grouped(submitted.leaf) << "\n";
  note("needs", printable(policy::quorum_text(loaded->policy.authority.erase->quorum)) +
                    " within 72 h: sallyport approve " + short_case(proposal.case_id));
  if (proposal.cases.size() == record::kMaxNamedCases)
    note("more",
         "one erasure names at most " + grouped(record::kMaxNamedCases) + ": propose the rest after it");
  return 0;
}

// ---- hold

void hold_flags(po::options_description& flags) {
  flags.add_options()("case", po::value<std::vector<std::string>>()->composing(),
                      "this case (may be repeated): its id, or the beginning of it")(
      "all", "every case, also those to come")("reason", po::value<std::string>(), "why: auditors read it");
}

Error not_proven(std::string_view what, const api::Submitted& submitted) {
  return Error{Code::kUnavailable, Reason::kLogQuorum,
               std::string{what} + " is recorded as leaf " + grouped(submitted.leaf) +
                   ", but not proven to this machine; look again before you rely on it"};
}

Result<int> hold_set(const Arguments& arguments) {
  if (arguments.has("case") == arguments.has("all") || arguments.text("reason").empty())
    return usage("sallyport hold set --case CASE… | --all, --reason WHY");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  record::Hold hold;
  if (arguments.has("case")) {
    SP_TRY(std::vector<CaseId> known, opened->session->erasable(now()));
    SP_TRY(const auto views, opened->session->cases());
    for (const api::CaseView& view : views)
      if (std::find(known.begin(), known.end(), view.case_id) == known.end()) known.push_back(view.case_id);
    SP_TRY(hold.cases, pick(arguments, known));
  }
  hold.authority = opened->settings.anchor.origin.get();
  hold.case_id = crypto::random_case_id();
  hold.person = opened->settings.person;
  hold.reason = arguments.text("reason");
  hold.time = now();
  SP_TRY(const api::Submitted submitted, send(*opened, Kind::kHold, hold));
  const bool proven = wait_cosigned(*opened, LeafIndex{submitted.leaf}, Kind::kHold, hold.case_id) &&
                      opened->session->control()->holds().contains(hold.case_id);
  if (!proven) return not_proven("the hold", submitted);
  if (arguments.json)
    print_json(Value::object(
        {{"cases", hex_list(hold.cases)}, {"hold", to_hex(hold.case_id)}, {"leaf", submitted.leaf}}));
  else
    std::cout << "held " << (hold.cases.empty() ? "every case" : cases_text(hold.cases.size())) << " · hold "
              << short_case(hold.case_id) << " · leaf " << grouped(submitted.leaf) << ", cosigned\n";
  return 0;
}

void lift_flags(po::options_description& flags) {
  flags.add_options()("hold", po::value<std::string>(), "the hold, or the beginning of its id")(
      "reason", po::value<std::string>(), "why: auditors read it");
}

Result<int> hold_lift(const Arguments& arguments) {
  if (!arguments.has("hold") || arguments.text("reason").empty())
    return usage("sallyport hold lift HOLD --reason WHY");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  std::vector<api::CaseView> views;
  for (const auto& [id, cases] : opened->session->control()->holds()) views.emplace_back().case_id = id;
  record::HoldLifted lifted;
  SP_TRY(lifted.hold, find_case_id(arguments.text("hold"), views));
  lifted.authority = opened->settings.anchor.origin.get();
  lifted.case_id = crypto::random_case_id();
  lifted.person = opened->settings.person;
  lifted.reason = arguments.text("reason");
  lifted.time = now();
  SP_TRY(const api::Submitted submitted, send(*opened, Kind::kHoldLifted, lifted));
  const bool proven = wait_cosigned(*opened, LeafIndex{submitted.leaf}, Kind::kHoldLifted, lifted.case_id) &&
                      !opened->session->control()->holds().contains(lifted.hold);
  if (!proven) return not_proven("that it is lifted", submitted);
  if (arguments.json)
    print_json(Value::object({{"hold", to_hex(lifted.hold)}, {"leaf", submitted.leaf}}));
  else
    std::cout << "lifted · hold " << short_case(lifted.hold) << " · leaf " << grouped(submitted.leaf)
              << ", cosigned\n";
  return 0;
}

Result<int> hold_ls(const Arguments& arguments) {
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  const auto holds = opened->session->control()->holds();
  if (arguments.json) {
    Value::Array rows;
    for (const auto& [id, cases] : holds)
      rows.push_back(
          Value::object({{"all", Value{cases.empty()}}, {"cases", hex_list(cases)}, {"hold", to_hex(id)}}));
    print_json(Value::object({{"holds", std::move(rows)}}));
    return 0;
  }
  for (const auto& [id, cases] : holds) {
    std::cout << short_case(id) << "  " << (cases.empty() ? "every case" : cases_text(cases.size())) << "\n";
    for (const CaseId& one : cases) std::cout << "    " << to_hex(one) << "\n";
  }
  if (holds.empty()) note("holds", "none: what is past its retention can be erased");
  return 0;
}

}  // namespace

std::vector<Command> erasure_commands() {
  return {
      {"erasure propose",
       "erasure propose --before DAY [--case CASE]… --reason WHY",
       "propose to erase what is in old access cases, for ever",
       "Statements, evidence and attached files of the cases are deleted by broker, standby and the next "
       "export, "
       "once the\n"
       "erase quorum of the policy has approved; the leaves stay, so that every proof still holds. Only "
       "cases past "
       "the\n"
       "policy's retention, and none that is held. Followers that are further behind than the retention have "
       "to "
       "begin anew.\n\n"
       "  sallyport erasure propose --before 2025-11-01 --reason \"retention of one year\"\n",
       propose_flags,
       {},
       propose},
      {"hold set",
       "hold set --case CASE… | --all, --reason WHY",
       "keep cases from being erased, until the hold is lifted",
       "For a court, or an investigation. It is told as done only when this machine has seen it in the "
       "cosigned "
       "log.\n\n"
       "  sallyport hold set --case c-7f3a90be --reason \"order of 2026-11-02\"\n",
       hold_flags,
       {},
       hold_set,
       "to sign in, and to sign the hold"},
      {"hold lift",
       "hold lift HOLD --reason WHY",
       "let held cases be erased again",
       "Anybody who may hold cases may lift a hold; auditors see who did.\n",
       lift_flags,
       {"hold"},
       hold_lift,
       "to sign in, and to sign that it is lifted"},
      {"hold ls",
       "hold ls",
       "the holds that are not lifted",
       "As this machine has followed the log.\n",
       nullptr,
       {},
       hold_ls},
  };
}

}  // namespace sallyport::client::admin

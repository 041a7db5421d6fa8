#include "client/approver/approve.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <tuple>

#include "attestation/base/hex.h"
#include "attestation/record/appraise.h"
#include "client/approver/challenge.h"
#include "client/approver/machine_list.h"
#include "client/approver/outcome.h"
#include "client/approver/render.h"
#include "client/approver/sign.h"
#include "client/connection/ima.h"
#include "client/terminal/cases.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::approver {
namespace {

namespace po = boost::program_options;
using record::Kind;
using record::json::Value;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPoll{5'000};
constexpr std::size_t kMinTypedDigits = 8;     // of a case's id
constexpr std::size_t kMinTypedDecision = 16;  // of what is to be signed: as many as a review shows

// The newest checkpoint must be of now: else this machine would judge by a policy and revocations of the
// past.
Status check_head_is_fresh(Session& session, UnixMillis at) {
  const auto head = session.follower().noted();
  SP_TRY(const auto policy, session.policy());
  if (!head) return Error{Code::kUnavailable, Reason::kLogQuorum, "no cosigned checkpoint is known yet"};
  return ledger::require_fresh(*head, policy->witnesses, at, record::kMaxTimeSkew, record::kNoteSkew);
}

Result<std::optional<ThisMachine>> this_machine(Opened& opened, const Review& review) {
  if (!wants_machine(review)) return std::optional<ThisMachine>{};
  if (!opened.tpm)
    return Error{Code::kDenied, Reason::kApprovalNotAttested,
                 "this rule wants approvers at enrolled machines; set tcti in config.toml, and run sallyport "
                 "enroll once"};
  tpm::Tpm& tpm = *opened.tpm;
  SP_TRY(const MachineProof machine, identify_machine(tpm));
  SP_CHECK(record::live_device(*opened.session->control(), machine.device));
  SP_TRY(const auto policy, opened.session->policy());
  const evidence::PcrSelection& selection = policy->references.selection;
  ThisMachine out{
      machine.device, opened.session->follower().note(),
      [&tpm, selection](const evidence::Binding& binding) { return quote_machine(tpm, selection, binding); },
      wanted_event_log(*policy, opened.settings)};
  if (wants_ima(*policy))
    out.ima = [&tpm, &settings = opened.settings](const evidence::Binding& binding) {
      return quote_ima(tpm, settings, evidence::binding_digest(binding));
    };
  return std::optional{std::move(out)};
}

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// names_digest tells whether `typed` is at least so many digits of the beginning of a digest.
bool names_digest(std::string_view typed, const Digest256& digest, std::size_t least) {
  std::string digits;
  for (const char c : typed)
    if (!is_blank(c)) digits.push_back(c);
  return digits.size() >= least && to_hex(digest).starts_with(digits);
}

// What a person is asked to confirm, after it was shown.
struct Question {
  std::string what;  // "decision 4c1e …"
  Digest256 to_sign;
  std::string type;    // what is to be typed: "the case id: c-7f3a90be"
  std::string review;  // the command that shows it
  std::string where;   // in its -f json
  std::function<bool(std::string_view typed)> names_it;
};

Question question_of(const Review& review) {
  const std::string id = short_case(review.case_id);
  return {(review.access ? "decision " : "statement ") + decision_groups(review.to_sign),
          review.to_sign,
          "the case id: " + id,
          "sallyport review " + id,
          "to_sign",
          [&review](std::string_view typed) { return names_case(typed, review.case_id); }};
}

Question question_of(const MachineList& list, const Arguments& arguments) {
  const Digest256 digest = list_digest(list);
  std::string review = "sallyport review";
  if (arguments.has("enrolments"))
    review += " --enrolments";
  else
    for (const Review& one : list.machines) review += " " + short_case(one.case_id);
  return {"the list " + decision_groups(digest) + " of " + std::to_string(list.machines.size()) + " machines",
          digest,
          "the beginning of the list: " + decision_groups(digest).substr(0, 9),
          std::move(review),
          "list",
          [digest](std::string_view typed) { return names_digest(typed, digest, kMinTypedDigits); }};
}

// confirm has the person say, after the review was shown, that this is to be signed: by typing the case's id,
// or the beginning of a list, on the terminal. A script says --confirm, and has read the review in another
// process: it must name what that review showed, for a case's id would stand for whatever the case is now.
//   Errors: kUsage, when something else was typed, or nothing could be asked.
Status confirm(const Question& question, const std::string& token, const Arguments& arguments) {
  if (arguments.has("confirm")) {
    if (names_decision(arguments.text("confirm"), question.to_sign)) return Done{};
    return usage("--confirm does not name what is to be signed here, " + question.what +
                 "; nothing was signed.\nIt takes at least 16 digits of it, as " + question.review +
                 " shows them; with -f json, of " + question.where);
  }
  std::FILE* const terminal = std::fopen("/dev/tty", "r+e");
  if (terminal == nullptr)
    return usage("there is no terminal to ask on; read " + question.review +
                 ", and say --confirm with what it shows to be signed");
  std::fprintf(terminal, "Sign %s with token \"%s\"? Type %s\n> ", question.what.c_str(),
               printable(token).c_str(), question.type.c_str());
  std::fflush(terminal);
  char line[128] = {};
  const bool got = std::fgets(line, sizeof line, terminal) != nullptr;
  std::fclose(terminal);
  if (got && (question.names_it(line) || names_decision(line, question.to_sign))) return Done{};
  return usage("that is not " + question.type + "; nothing was signed");
}

std::string token_name(const policy::Policy& policy, const Signer& signer) {
  const auto owner = policy::find_token(policy, signer.key.id());
  return owner ? owner->token->id : std::string{"unknown"};
}

}  // namespace

bool names_decision(std::string_view typed, const Digest256& to_sign) {
  return names_digest(typed, to_sign, kMinTypedDecision);
}

bool names_case(std::string_view typed, const CaseId& case_id) {
  while (!typed.empty() && is_blank(typed.back())) typed.remove_suffix(1);
  if (typed.size() > 2 && typed[1] == '-') typed.remove_prefix(2);
  return typed.size() >= kMinTypedDigits && to_hex(case_id).starts_with(typed);
}

Result<Review> fetch_review(Opened& opened, const CaseId& case_id) {
  Session& session = *opened.session;
  CaseFile file;
  SP_TRY(file.view, session.view(case_id));
  if (file.view.case_id != case_id)
    return Error{Code::kUnverified, Reason::kLogBody, "the broker shows another case"};
  // A case is looked at once witnesses have cosigned it; they do so within moments.
  const std::uint64_t wanted = file.view.entries.empty() ? 0 : file.view.entries.back().index;
  const auto began = steady_clock::now();
  SP_CHECK(session.sync());
  while (session.control()->size().get() <= wanted) {
    if (steady_clock::now() - began >= kProofPatience)
      return Error{Code::kUnavailable, Reason::kLogQuorum, "the case is under no cosigned checkpoint yet"};
    SP_CHECK(session.sync(kPoll));
  }
  SP_TRY(const auto items, wanted_items(file.view));
  for (const record::EvidenceItem& item : items) {
    SP_TRY(record::Blob blob, session.blob(item));
    file.blobs.push_back(std::move(blob));
  }
  const follow::Follower& follower = session.follower();
  return check_case(
      *session.control(), [&](LeafIndex index) { return follower.leaf(index); }, file, now());
}

Result<std::vector<std::string>> typed_cases(const Arguments& arguments) {
  const bool all = arguments.has("enrolments");
  auto typed = arguments.has("case") ? arguments.values["case"].as<std::vector<std::string>>()
                                     : std::vector<std::string>{};
  if (typed.empty() && !all) return usage("which case? sallyport inbox lists them");
  if (!typed.empty() && all)
    return usage("--enrolments stands for the cases themselves: name cases, or say --enrolments");
  if (typed.size() > record::kMaxListed)
    return usage("one list has " + std::to_string(record::kMaxListed) + " cases at most, and these are " +
                 std::to_string(typed.size()) + ": sign them in parts");
  return typed;
}

Result<std::vector<CaseId>> pick_cases(Opened& opened, const std::vector<std::string>& typed) {
  SP_TRY(auto cases, opened.session->cases());
  std::vector<CaseId> out;
  if (!typed.empty()) {
    for (const std::string& one : typed) {
      SP_TRY(const CaseId id, find_case_id(one, cases));
      if (std::find(out.begin(), out.end(), id) != out.end())
        return usage(short_case(id) + " is there twice");
      const auto view =
          std::find_if(cases.begin(), cases.end(), [&](const auto& c) { return c.case_id == id; });
      if (typed.size() > 1 && view != cases.end() && view->kind != "enrolment")
        return usage("several cases at once are machines to be enrolled, and " + short_case(id) +
                     " is of kind " + printable(view->kind) + ": sallyport approve it alone");
      out.push_back(id);
    }
    return out;
  }
  std::erase_if(cases, [](const api::CaseView& one) { return one.kind != "enrolment" || one.may.empty(); });
  std::sort(cases.begin(), cases.end(), [](const api::CaseView& a, const api::CaseView& b) {
    return std::tie(a.opened, a.case_id) < std::tie(b.opened, b.case_id);
  });
  for (const api::CaseView& one : cases)
    if (out.size() < record::kMaxListed) out.push_back(one.case_id);
  if (cases.size() > out.size())
    note("enrolments", std::to_string(cases.size() - out.size()) + " more wait, for another list");
  return out;
}

namespace {

// stops_all tells what is more than a case that does not hold: a broker that shows one thing and asks for
// another, or is away.
bool stops_all(const Error& error) {
  switch (error.reason) {
    case Reason::kApprovalOtherDecision:
    case Reason::kLogBody:
    case Reason::kLogMissingBody:
    case Reason::kLogFork:
    case Reason::kLogRollback:
      return true;
    default:
      return error.code == Code::kUnavailable || error.code == Code::kInternal;
  }
}

}  // namespace

Result<std::vector<Review>> fetch_reviews(Opened& opened, const std::vector<CaseId>& cases, bool leave_out) {
  if (cases.size() > 1) note("enrolments", "reading " + std::to_string(cases.size()) + " cases");
  std::vector<Review> out;
  std::optional<Error> first;
  const auto left_out = [&](const CaseId& id, const Error& why) {
    note("left out",
         short_case(id) + " [" + std::string{reason_name(why.reason)} + "] " + printable(why.what));
    if (!first) first = in_case(id, why);
  };
  for (const CaseId& id : cases) {
    auto review = fetch_review(opened, id);
    if (review.has_value())
      out.push_back(std::move(*review));
    else if (leave_out && !stops_all(review.error()))
      left_out(id, review.error());
    else
      return in_case(id, review.error());
  }
  if (leave_out)
    for (const Review& one : take_rivals(out))
      left_out(one.case_id, {Code::kConflict, Reason::kDeviceExists,
                             "several cases are for the machine " + printable(one.enrolment->device.name) +
                                 ": approve one of them by itself"});
  if (out.empty() && first) return *first;
  return out;
}

namespace {

// check_may_sign_list checks each machine, naming the case.
Status check_may_sign_list(const MachineList& list, const std::string& person) {
  for (const Review& one : list.machines)
    if (const Status may = check_may_sign(one, person, false); !may.has_value())
      return in_case(one.case_id, may.error());
  return Done{};
}

// kept gives the cases whose machines have answered. One that has not is in nothing that is signed.
//   Errors: kPending, unless --skip-unanswered says that the others are to be signed all the same.
Result<std::vector<CaseId>> kept(const MachineList& list, const std::vector<bool>& answered, bool skip) {
  std::vector<CaseId> out;
  std::string silent;
  for (std::size_t i = 0; i < list.machines.size(); ++i) {
    const Review& one = list.machines[i];
    if (answered[i])
      out.push_back(one.case_id);
    else
      silent += (silent.empty() ? "" : ", ") + printable(one.enrolment->device.name) + " (" +
                short_case(one.case_id) + ")";
  }
  if (silent.empty()) return out;
  const std::string some = std::to_string(list.machines.size() - out.size()) + " of " +
                           std::to_string(list.machines.size()) + " machines did not answer: " + silent;
  if (out.empty() || !skip)
    return Error{Code::kUnavailable, Reason::kPending,
                 some + "; nothing was signed" +
                     (out.empty() ? std::string{}
                                  : ". --skip-unanswered signs for the other " + std::to_string(out.size()))};
  note("left out", some);
  return out;
}

Result<int> approve_list(Opened& opened, std::vector<Review> reviews, const Arguments& arguments,
                         std::chrono::seconds patience) {
  SP_TRY(const MachineList list, make_machine_list(std::move(reviews)));
  std::cerr << render_list(list, now()) << std::flush;
  SP_CHECK(check_head_is_fresh(*opened.session, now()));
  SP_CHECK(check_may_sign_list(list, opened.signer->person));
  const policy::Policy& policy = list.machines.front().policy->policy;
  SP_CHECK(confirm(question_of(list, arguments), token_name(policy, *opened.signer), arguments));
  SP_TRY(const std::vector<bool> answered, challenge_machines(opened, list.machines, patience));
  SP_TRY(const std::vector<CaseId> signing, kept(list, answered, arguments.has("skip-unanswered")));

  SP_TRY(std::vector<Review> again, fetch_reviews(opened, signing, arguments.has("skip-unanswered")));
  const bool alone = again.size() == 1;  // then it is an approval of one case, as any other
  MachineList found{std::move(again)};
  if (!alone) {
    SP_TRY(found, make_machine_list(std::move(found.machines)));
  }
  SP_CHECK(check_list_unchanged(list, found));
  SP_CHECK(check_head_is_fresh(*opened.session, now()));
  SP_TRY(const api::Hello hello, opened.session->hello());
  const Origin& origin = opened.settings.anchor.origin;
  SP_TRY(const record::Submission submission,
         alone ? sign_approval(found.machines[0], origin, *opened.signer, {}, hello.nonce, now())
               : sign_list(found, origin, *opened.signer, hello.nonce, now()));

  Value::Array silent;
  std::map<CaseId, std::string> names;
  for (std::size_t i = 0; i < list.machines.size(); ++i) {
    const Review& one = list.machines[i];
    names.emplace(one.case_id, one.enrolment->device.name);
    if (!answered[i]) silent.push_back(Value{to_hex(one.case_id)});
  }
  if (arguments.has("to")) {
    SP_CHECK(write_new_file(arguments.text("to"), record::encode(submission)));
    if (!arguments.json) {
      std::cout << "signed for " << found.machines.size() << (alone ? " machine" : " machines")
                << ", not sent: sallyport submit " << printable(arguments.text("to")) << "\n";
      return 0;
    }
    Value::Array ids;
    for (const Review& one : found.machines) ids.push_back(Value{to_hex(one.case_id)});
    print_json(Value::object({{"cases", std::move(ids)},
                              {"file", arguments.text("to")},
                              {"list", to_hex(list_digest(list))},
                              {"unanswered", std::move(silent)}}));
    return 0;
  }
  std::vector<api::Submitted> outcomes;
  if (alone) {
    SP_TRY(api::Submitted submitted, opened.session->submit(submission));
    outcomes.push_back(std::move(submitted));
  } else {
    SP_TRY(outcomes, send_list(opened, submission));
  }
  return tell_outcomes(opened, outcomes, names,
                       {{"list", to_hex(list_digest(list))}, {"unanswered", std::move(silent)}},
                       arguments.json);
}

}  // namespace

void approve_flags(po::options_description& flags) {
  flags.add_options()("case", po::value<std::vector<std::string>>(), "the case, or the beginning of its id")(
      "confirm", po::value<std::string>(),
      "in a script: the decision that you have reviewed, 16 digits of it or more, instead of typing")(
      "to", po::value<std::string>(), "write the signed approval to this file; sallyport submit sends it")(
      "timeout", po::value<std::string>()->default_value("10m"),
      "how long a machine to be enrolled may take to answer");
}

void list_flags(po::options_description& flags) {
  flags.add_options()("enrolments", "every machine to be enrolled that waits for you, the oldest 64");
}

Result<int> approve(const Arguments& arguments, std::optional<Kind> only) {
  SP_TRY(const std::uint64_t patience_s, parse_duration(arguments.text("timeout", "10m")));
  const std::chrono::seconds patience{patience_s};
  SP_TRY(const std::vector<std::string> typed, typed_cases(arguments));
  std::error_code ignored;
  if (arguments.has("to") && std::filesystem::exists(arguments.text("to"), ignored))
    return usage(arguments.text("to") + " is there already: --to writes a new file");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kIfThere));
  SP_TRY(const std::vector<CaseId> cases, pick_cases(*opened, typed));
  if (cases.empty()) {
    note("enrolments", "no machine waits for you");
    if (arguments.json) print_json(Value::object({{"cases", Value::Array{}}}));
    return 0;
  }
  SP_TRY(std::vector<Review> reviews, fetch_reviews(*opened, cases, arguments.has("enrolments")));
  if (only && reviews.size() > 1) return usage("one case at a time: sallyport approve signs a list");
  if (reviews.size() > 1) return approve_list(*opened, std::move(reviews), arguments, patience);
  const Review& review = reviews.front();
  const CaseId& case_id = review.case_id;
  if (only && review.kind != *only)
    return usage(short_case(case_id) +
                 " is a case of another kind: " + std::string{record::kind_name(review.kind)});
  std::cerr << render_review(review, now()) << std::flush;
  SP_CHECK(check_head_is_fresh(*opened->session, now()));
  SP_TRY(std::optional<ThisMachine> machine, this_machine(*opened, review));
  SP_CHECK(check_may_sign(review, opened->signer->person, machine.has_value()));
  SP_CHECK(confirm(question_of(review), token_name(review.policy->policy, *opened->signer), arguments));
  if (review.enrolment) {
    SP_TRY(const std::vector<bool> answered, challenge_machines(*opened, {&review, 1}, patience));
    if (!answered[0])
      return Error{Code::kUnavailable, Reason::kPending,
                   "the machine has not answered the challenge; nothing was signed"};
  }

  // A person takes minutes to read, and a machine to answer: the log has gone on.
  SP_TRY(const Review found, fetch_review(*opened, case_id));
  SP_CHECK(check_unchanged(review, found));
  SP_CHECK(check_head_is_fresh(*opened->session, now()));
  SP_TRY(machine, this_machine(*opened, found));
  SP_TRY(const api::Hello hello, opened->session->hello());
  SP_TRY(const record::Submission submission,
         sign_approval(found, opened->settings.anchor.origin, *opened->signer, machine, hello.nonce, now()));

  if (arguments.has("to")) {
    SP_CHECK(write_new_file(arguments.text("to"), record::encode(submission)));
    if (arguments.json)
      print_json(Value::object({{"case", to_hex(case_id)}, {"file", arguments.text("to")}}));
    else
      std::cout << "signed, not sent: sallyport submit " << printable(arguments.text("to")) << "\n";
    return 0;
  }
  SP_TRY(const api::Submitted submitted, opened->session->submit(submission));
  if (submitted.code) return Error{Code::kDenied, *submitted.code, submitted.detail};
  SP_TRY(const api::CaseView after, opened->session->view(case_id));
  // A complete quorum closes a policy or enrolment case at once: then that is the leaf told.
  const bool closed = submitted.state == "closed";
  const Kind kind = !closed            ? Kind::kApproval
                    : review.enrolment ? Kind::kEnrolment
                    : review.change    ? Kind::kPolicy
                                       : Kind::kApproval;
  const bool cosigned = wait_cosigned(*opened, LeafIndex{submitted.leaf}, kind, case_id);
  if (arguments.json) {
    print_json(Value::object({{"case", to_hex(case_id)},
                              {"cosigned", Value{cosigned}},
                              {"leaf", submitted.leaf},
                              {"signed", to_hex(review.to_sign)},
                              {"state", submitted.state}}));
    return 0;
  }
  const std::string progress = closed ? "quorum met, in force" : progress_text(after.quorum);
  std::cout << "signed · " << progress << " · leaf " << grouped(submitted.leaf)
            << (cosigned ? ", cosigned" : ", not yet cosigned") << "\n";
  return 0;
}

}  // namespace sallyport::client::approver

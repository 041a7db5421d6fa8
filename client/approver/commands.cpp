#include "client/approver/commands.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "attestation/base/hex.h"
#include "client/approver/approve.h"
#include "client/approver/continuation.h"
#include "client/approver/outcome.h"
#include "client/approver/render.h"
#include "client/terminal/cases.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::approver {
namespace {

namespace po = boost::program_options;
using record::Kind;

constexpr std::size_t kMaxSubmissionFile = 16u << 20;
constexpr std::size_t kMaxDenials = 32;  // whose reasons inbox --all fetches, of the newest

constexpr std::string_view kPinToRead = "to sign in and read your cases";
constexpr std::string_view kPinToApprove =
    "to sign in and read the case; it is signed only once you have typed its id";

// ---- inbox

void inbox_flags(po::options_description& flags) {
  flags.add_options()("all", "also cases in which you cannot approve (any more)");
}

// rows_of fetches who denied the denied cases, and why. Only --all shows any.
std::vector<InboxRow> rows_of(Opened& opened, std::vector<api::CaseView> cases) {
  std::vector<InboxRow> rows;
  std::size_t left = kMaxDenials;
  for (api::CaseView& view : cases) {
    InboxRow& row = rows.emplace_back(InboxRow{std::move(view), std::nullopt});
    if (row.view.state != "denied" || left == 0) continue;
    --left;
    if (const auto whole = opened.session->view(row.view.case_id); whole.has_value())
      row.denied = find_denial(opened, *whole);
  }
  return rows;
}

Result<int> inbox(const Arguments& arguments) {
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(auto cases, opened->session->cases());
  const auto machines = std::count_if(cases.begin(), cases.end(), [](const api::CaseView& view) {
    return view.kind == "enrolment" && !view.may.empty();
  });
  if (!arguments.has("all")) std::erase_if(cases, [](const api::CaseView& view) { return view.may.empty(); });
  if (arguments.json)
    std::cout << as_text(api::encode(cases)) << std::endl;
  else if (cases.empty())
    note("inbox", "nothing waits for you");
  else
    std::cout << render_inbox(rows_of(*opened, std::move(cases)), opened->settings.person, now());
  if (!arguments.json && machines >= static_cast<std::ptrdiff_t>(record::kMinListed))
    note("enrolments", std::to_string(machines) +
                           " machines wait: sallyport approve --enrolments reads and signs them as one list");
  return 0;
}

// ---- review

void review_flags(po::options_description& flags) {
  list_flags(flags);
  flags.add_options()("case", po::value<std::vector<std::string>>(), "the case, or the beginning of its id")(
      "open", po::value<unsigned>(), "show a piece of evidence, by its number")(
      "save", po::value<std::string>(), "with --open: write it to this new file");
}

Result<int> review_list(std::vector<Review> reviews, const Arguments& arguments) {
  if (arguments.has("open")) return usage("--open is of one case");
  SP_TRY(const MachineList list, make_machine_list(std::move(reviews)));
  if (arguments.json)
    print_json(list_json(list));
  else
    std::cout << render_list(list, now());
  return 0;
}

Result<int> review(const Arguments& arguments) {
  SP_TRY(const std::vector<std::string> typed, typed_cases(arguments));
  if (arguments.has("save") && !arguments.has("open")) return usage("--save goes with --open N");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(const std::vector<CaseId> cases, pick_cases(*opened, typed));
  if (cases.empty()) {
    note("enrolments", "no machine waits for you");
    if (arguments.json) print_json(record::json::Value::object({{"cases", record::json::Value::Array{}}}));
    return 0;
  }
  SP_TRY(std::vector<Review> reviews, fetch_reviews(*opened, cases, arguments.has("enrolments")));
  if (reviews.size() != 1) return review_list(std::move(reviews), arguments);
  const Review& found = reviews.front();
  if (arguments.has("open")) {
    const unsigned number = arguments.values["open"].as<unsigned>();
    if (number == 0 || number > found.pieces.size())
      return usage("the case has " + std::to_string(found.pieces.size()) + " pieces of evidence");
    const Piece& piece = found.pieces[number - 1];
    if (arguments.has("save")) {
      SP_CHECK(write_new_file(arguments.text("save"), piece.blob.bytes));
      note("saved", printable(arguments.text("save")) + " · sha256 " + to_hex(piece.sha256));
      return 0;
    }
    if (isatty(1) != 1) {  // into a pipe or file: the very bytes
      std::cout.write(reinterpret_cast<const char*>(piece.blob.bytes.data()),
                      static_cast<std::streamsize>(piece.blob.bytes.size()));
      std::cout << std::flush;
      return 0;
    }
    SP_TRY(const std::string text, render_piece(piece));
    std::cout << text;
    return 0;
  }
  if (arguments.json)
    print_json(review_json(found));
  else
    std::cout << render_review(found, now());
  return 0;
}

// ---- approve

void approve_any_flags(po::options_description& flags) {
  approve_flags(flags);
  list_flags(flags);
  flags.add_options()("skip-unanswered",
                      "sign for the machines of a list that answered, when some did not in time");
}
Result<int> approve_any(const Arguments& arguments) {
  return approve(arguments);
}
Result<int> policy_approve(const Arguments& arguments) {
  return approve(arguments, Kind::kPolicyProposed);
}

// ---- deny

void deny_flags(po::options_description& flags) {
  flags.add_options()("case", po::value<std::string>(), "the case, or the beginning of its id")(
      "reason", po::value<std::string>(), "why: requester and auditors read it");
}

Result<int> deny(const Arguments& arguments) {
  if (!arguments.has("case") || arguments.text("reason").empty())
    return usage("sallyport deny CASE --reason WHY");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  record::Denial denial;
  SP_TRY(denial.case_id, pick_case(*opened, arguments.text("case")));
  denial.approver = opened->settings.person;
  denial.authority = opened->settings.anchor.origin.get();
  denial.reason = arguments.text("reason");
  denial.time = now();
  SP_TRY(Bytes envelope,
         opened->signer->envelope(record::payload_type(Kind::kDenial), record::encode(denial)));
  SP_TRY(const api::Submitted submitted, opened->session->submit({std::move(envelope), {}}));
  // Not done before this machine's own log shows it: the follower has then folded the denial itself.
  const bool proven = wait_cosigned(*opened, LeafIndex{submitted.leaf}, Kind::kDenial, denial.case_id) &&
                      opened->session->control()->is_denied(denial.case_id);
  if (!proven)
    return Error{Code::kUnavailable, Reason::kLogQuorum,
                 "the denial is recorded as leaf " + grouped(submitted.leaf) +
                     ", but not proven to this machine; look again before you rely on it"};
  if (arguments.json)
    std::cout << as_text(api::encode(submitted)) << std::endl;
  else
    std::cout << "denied · case " << short_case(denial.case_id) << " · leaf " << grouped(submitted.leaf)
              << ", cosigned\n";
  return 0;
}

// ---- submit

void submit_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(), "as sallyport approve --to wrote it");
}

Result<int> submit(const Arguments& arguments) {
  if (!arguments.has("file")) return usage("sallyport submit FILE");
  SP_TRY(const Bytes bytes, read_whole_file(arguments.text("file"), kMaxSubmissionFile));
  SP_TRY(const record::Submission submission, record::parse_submission(bytes));
  SP_TRY(const record::Envelope envelope, record::parse_envelope(submission.envelope));
  if (envelope.type == record::payload_type(Kind::kListApproval)) {
    SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
    SP_TRY(const std::vector<api::Submitted> outcomes, send_list(*opened, submission));
    return tell_outcomes(*opened, outcomes, {}, {}, arguments.json);
  }
  if (envelope.type != record::payload_type(Kind::kApproval)) return usage("the file holds no approval");
  SP_TRY(const record::Approval approval, record::parse_approval(envelope.payload));
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(const api::Submitted submitted, opened->session->submit(submission));
  if (submitted.code) return Error{Code::kDenied, *submitted.code, submitted.detail};
  if (arguments.json)
    std::cout << as_text(api::encode(submitted)) << std::endl;
  else
    std::cout << "sent · case " << short_case(approval.case_id) << " · leaf " << grouped(submitted.leaf)
              << "\n";
  return 0;
}

}  // namespace

std::vector<Command> commands() {
  return {
      {"inbox",
       "inbox [--all]",
       "cases that wait for you",
       "The list is the broker's word, to find your way; sallyport review CASE checks everything here.\n",
       inbox_flags,
       {},
       inbox,
       kPinToRead},
      {"review",
       "review CASE… [--open N [--save FILE]] | --enrolments",
       "check a case on this machine and show what you are asked to sign",
       "Fetches the case with all its evidence, checks signatures, quotes and the log here, and decides it "
       "again by the policy\n"
       "that this machine follows. What is shown comes from the very bytes that would be signed.\n\n"
       "  sallyport review c-7f3a90be\n  sallyport review c-7f3a90be --open 1 --save lag-graph.png\n"
       "  sallyport review --enrolments\n\n"
       "Several cases, or --enrolments, are machines to be enrolled: they are shown as the list that "
       "sallyport approve would sign.\n\n"
       "[approval/other-decision] means that the broker asks for another decision than this machine finds: "
       "do "
       "not sign, tell\n"
       "the security team.\n",
       review_flags,
       {"case"},
       review,
       kPinToRead,
       false,
       true},
      {"approve",
       "approve CASE… [--confirm DECISION] [--to FILE] | --enrolments",
       "review a case, and sign it with your token",
       "Shows the review, asks you to type the case's id, and signs on your token; where the rule says so, "
       "with a quote of this\n"
       "machine. For a machine to be enrolled it first challenges the TPM itself, and waits for its "
       "answer.\n\n"
       "  sallyport approve c-7f3a90be\n\n"
       "Several machines to be enrolled are signed with one signature: name their cases, or say "
       "--enrolments for all that wait for\n"
       "you (64 at most, the oldest first). They are shown as a list, you type the beginning of its digest, "
       "and then every TPM is\n"
       "challenged. If one does not answer in time, nothing is signed, or with --skip-unanswered only the "
       "others. Each machine is\n"
       "recorded by itself, and told by itself: one that is refused stops no other.\n\n"
       "  sallyport approve --enrolments\n"
       "  sallyport approve c-7f3a90be c-11c0ffee c-90be7f3a --timeout 30m --skip-unanswered\n\n"
       "In a script, --confirm stands for the typing: it takes the decision that sallyport review showed (of "
       "a list, the list), so that\n"
       "nothing else is signed than what was read. --to writes the approval to a file, which anybody who may "
       "see the case sends later\n"
       "(sallyport submit).\n\n"
       "  sallyport approve c-7f3a90be --confirm \"4c1e 90b7 62aa 0f3d\"\n\n"
       "The PIN is asked for first: reading needs you signed in. No approval is signed with it before you "
       "have confirmed.\n",
       approve_any_flags,
       {"case"},
       approve_any,
       kPinToApprove,
       false,
       true},
      {"policy approve",
       "policy approve CASE [--confirm DECISION]",
       "review a proposed policy, and sign it with your token",
       "As sallyport approve, for policies only. Read the text itself with sallyport review CASE --open 1.\n",
       approve_flags,
       {"case"},
       policy_approve,
       kPinToApprove},
      {"policy continue propose",
       "policy continue propose POLICY --state FILE --to FILE [--roots FILE]",
       "begin a new log where the old one was signed last, after a rollback",
       "Only when the old origin can be signed no more: its database was set back, or is lost. STATE is "
       "what\n"
       "sallyport-keyguard state has written on the keyguard's host; POLICY is the next version, with a new "
       "origin and "
       "the\n"
       "`continues` that it printed. No broker is asked. The file goes from hand to hand, until the quorum "
       "of a "
       "policy\n"
       "change has signed (sallyport policy continue approve); the whole ceremony is in "
       "broker/ledger/README.md.\n\n"
       "  sallyport policy continue propose next.toml --state state.bin --to next.continuation\n",
       continue_propose_flags,
       {"policy"},
       continue_propose,
       "to sign the proposal"},
      {"policy continue approve",
       "policy continue approve POLICY --file FILE [--confirm STATEMENT]",
       "read what a new log would go on from, and sign it with your token",
       "Shows what the policy changes, and where the new log goes on; refuses a state that is behind what "
       "this machine "
       "has\n"
       "followed, or that lacks a revocation which it knows. Your approval is added to the file.\n\n"
       "  sallyport policy continue approve next.toml --file next.continuation\n",
       continue_approve_flags,
       {"policy"},
       continue_approve,
       "to sign the approval"},
      {"deny",
       "deny CASE --reason WHY",
       "close a case: nothing is granted in it any more",
       "Signs a denial. It is told as done only when this machine has seen it in the cosigned log.\n\n"
       "  sallyport deny c-7f3a90be --reason \"ask the owner of db-7 first\"\n",
       deny_flags,
       {"case"},
       deny,
       "to sign in, and to sign the denial"},
      {"submit",
       "submit FILE",
       "send an approval that was written to a file",
       "FILE is what sallyport approve --to wrote, for one case or for a list of machines. It proves by "
       "itself who "
       "approved what: anybody\n"
       "who may see the cases can carry it. The same file sent again goes on where it ended, and changes "
       "nothing "
       "else.\n",
       submit_flags,
       {"file"},
       submit,
       "to sign in as the carrier"},
  };
}

}  // namespace sallyport::client::approver

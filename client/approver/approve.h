#pragma once

#include "client/approver/check.h"
#include "client/terminal/command.h"

namespace sallyport::client::approver {

// fetch_review follows the log to its head, fetches a case with all of its evidence, and checks it here.
//   Errors: those of check_case; kLogQuorum, while the case is under no cosigned checkpoint yet.
Result<Review> fetch_review(Opened& opened, const CaseId& case_id);

// typed_cases gives what a command line names cases by; nothing, where it says --enrolments instead.
//   Errors: kUsage (neither; both; more than one list may have).
Result<std::vector<std::string>> typed_cases(const Arguments& arguments);

// pick_cases gives the cases that are so named or, where none is, every enrolment that waits for this person,
// by the broker's word: the oldest, as many as one list may have.
//   Errors: kUsage (one twice; several of which one is no enrolment); those of find_case_id.
Result<std::vector<CaseId>> pick_cases(Opened& opened, const std::vector<std::string>& typed);

// fetch_reviews is fetch_review for each case. With `leave_out` some are told on stderr, and are not among
// them: those that do not hold, and those of one machine (take_rivals).
//   Errors: those of fetch_review, naming the case; with `leave_out` only those of a broker that is away or
//   shows what the log does not have, and that of the first case when none is left.
Result<std::vector<Review>> fetch_reviews(Opened& opened, const std::vector<CaseId>& cases, bool leave_out);

// approve reviews a case, has the person confirm it, and signs. It shows the review on stderr first. Right
// before signing the case is fetched and judged again: what is signed is what was shown, by the policy that
// rules then, under a fresh checkpoint.
//   --confirm DIGEST  stands for typing: the decision that was reviewed, as names_decision takes it
//   --to FILE         writes the signed approval there instead of sending it
//   --timeout         how long a machine that wants to be enrolled may take to answer the challenge
// Several cases, or --enrolments, are machines to be enrolled: they are shown as one list, confirmed by the
// beginning of list_digest, challenged all at once, and signed with one signature.
//   --skip-unanswered signs for those that answered in time; without it nothing is signed unless all have
// `only`: refuse cases of any other kind.
Result<int> approve(const Arguments& arguments, std::optional<record::Kind> only = {});
void approve_flags(boost::program_options::options_description& flags);
void list_flags(boost::program_options::options_description& flags);  // --enrolments

// names_decision tells whether `typed` is what a review says is to be signed: at least 16 digits of its
// beginning, with or without spaces.
bool names_decision(std::string_view typed, const Digest256& to_sign);

// names_case tells whether `typed` is the id of this case: whole, or at least 8 digits of its beginning.
bool names_case(std::string_view typed, const CaseId& case_id);

}  // namespace sallyport::client::approver

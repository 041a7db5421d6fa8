#pragma once

#include <string>

#include "attestation/record/canonical_json.h"
#include "client/approver/check.h"
#include "client/approver/machine_list.h"

namespace sallyport::client::approver {

// render_review shows a review on one screen: on the left what is to be signed, on the right what this
// machine has checked of it. Everything that others wrote is printable().
std::string render_review(const Review& review, UnixMillis now);
// review_json is the same for programs; ids are whole, times in ms, and text is exactly as signed.
record::json::Value review_json(const Review& review);

// render_list shows a list of machines: a line for each, below it what differs from the others or from the
// record that it would replace; then what they have in common. list_json is the same for programs.
std::string render_list(const MachineList& list, UnixMillis now);
record::json::Value list_json(const MachineList& list);

// replaced_lines tells what differs between a machine and the record of it that would be replaced.
std::vector<std::string> replaced_lines(const EnrolmentReview& enrolment);

// render_inbox shows the broker's summaries of cases as a table, and who denied a case and why. People of the
// reader's own domain are named without it.
struct InboxRow {
  api::CaseView view;
  std::optional<DeniedBy> denied;
};
std::string render_inbox(const std::vector<InboxRow>& cases, const std::string& reader, UnixMillis now);

// decision_groups shows the first 8 bytes of a digest as people compare it: "4c1e 90b7 62aa 0f3d".
std::string decision_groups(const Digest256& digest);
// progress_text: "2 of 2 us-oncall, 0 of 1 privacy".
std::string progress_text(const policy::QuorumProgress& progress);
std::string progress_text(const std::vector<api::ClauseView>& quorum);

// render_piece gives evidence as it may go to a terminal: text with its lines kept and everything else
// printable(). Errors: kUsage when it is not text (it can be saved to a file).
Result<std::string> render_piece(const Piece& piece);

}  // namespace sallyport::client::approver

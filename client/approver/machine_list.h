#pragma once

#include "client/approver/check.h"
#include "client/connection/session.h"

namespace sallyport::client::approver {

// MachineList is the enrolments that one signature would approve (record's list-approval), each as this
// machine has found it to be. Ascending by case. Only make_machine_list makes one.
struct MachineList {
  std::vector<Review> machines;
};

// make_machine_list takes reviews of cases.
//   Errors: kUsage: fewer than two or more than 64, a case twice, one that is no enrolment, two for one
//   machine; kPolicyChanged, when they were judged by different policies.
Result<MachineList> make_machine_list(std::vector<Review> reviews);

// take_rivals takes out of `reviews`, and gives, the enrolments of a machine that another one of them is for:
// no list has two, and somebody has to say which. The order stays.   Pure.
std::vector<Review> take_rivals(std::vector<Review>& reviews);

// list_digest is what a person compares and confirms: SHA-256("sallyport/list/v1" 00 ‖ of each machine its
// case, 16 bytes, and the digest of its statement, 32 bytes). The same for everybody who is shown the same
// cases: what is signed has a nonce and times besides.
Digest256 list_digest(const MachineList& list);

// check_list_unchanged is check_unchanged for each machine: `found` has those of `shown` that are to be
// signed. Errors: its own, naming the case.
Status check_list_unchanged(const MachineList& shown, const MachineList& found);

// sign_list makes the list-approval of exactly what was reviewed. It lives as long as the last of its cases.
//   Errors: those of check_may_sign, naming the case; of the token.
Result<record::Submission> sign_list(const MachineList& list, const Origin& origin, const Signer& signer,
                                     const Nonce& nonce, UnixMillis now);

// in_case gives an error that says of which case it is.
Error in_case(const CaseId& case_id, Error error);

}  // namespace sallyport::client::approver

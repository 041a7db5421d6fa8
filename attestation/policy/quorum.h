#pragma once

#include <optional>
#include <vector>

#include "attestation/policy/policy.h"

namespace sallyport::policy {

// Who may fill a quorum's clauses: people who are not excluded, under an optional condition.
struct QuorumQuestion {
  Quorum quorum;
  std::vector<PersonId> excluded;                  // requester and beneficiary
  std::optional<ApproverCondition> approver = {};  // absent for change, enrol and roster quorums
};

// An approval whose signature, freshness and subject somebody has verified already.
struct CandidateApproval {
  PersonId person;
  bool attested = false;  // it came with a good quote of an enrolled machine
};

struct ApprovalVerdict {
  PersonId person;
  std::optional<Reason>
      refused;  // why it cannot count: approval/self, -duplicate, -not-eligible, -not-attested
  std::optional<std::size_t> clause =
      {};  // the clause it fills; neither: eligible, but no place is left for it
};

struct ClauseProgress {
  GroupId group;
  unsigned needed = 0;
  std::vector<PersonId> filled_by;
  unsigned missing() const { return needed - static_cast<unsigned>(filled_by.size()); }
};

struct QuorumProgress {
  bool met = false;
  std::vector<ApprovalVerdict> approvals;  // in the order given
  std::vector<ClauseProgress> clauses;     // in the quorum's order
};

// check_quorum matches approvals to clauses: each place of a clause is filled by another person, each person
// fills one place. The matching is as large as it can be, and earlier approvals keep a place.
//   Proves:         when `met`: enough distinct people of the roll, each eligible, have approved.
//   Does not prove: that an approval was signed, or of what: its caller has verified that.   Pure.
QuorumProgress check_quorum(const Roll& people, const QuorumQuestion& question,
                            const std::vector<CandidateApproval>& approvals, const Roster& roster = {});

// verify_quorum is check_quorum for a caller that only needs the answer.
// Errors: kDenied with Reason::kQuorumNotMet, or the reason why one of the approvals cannot count, if any
// cannot.
Status verify_quorum(const Roll& people, const QuorumQuestion& question,
                     const std::vector<CandidateApproval>& approvals, const Roster& roster = {});

// why_not_eligible gives the reason why this person's approval could not count for any clause, or nothing.
// `attested` as in CandidateApproval.
std::optional<Reason> why_not_eligible(const Roll& people, const QuorumQuestion& question,
                                       const PersonId& person, bool attested, const Roster& roster = {});

// eligible_clauses gives the indices of the clauses that the person may fill ("you may approve as
// us-oncall"), attestation left aside.
std::vector<std::size_t> eligible_clauses(const Roll& people, const QuorumQuestion& question,
                                          const PersonId& person, const Roster& roster = {});

// can_fill tells whether the people could ever meet the quorum.
bool can_fill(const Roll& people, const QuorumQuestion& question, const Roster& roster = {});

}  // namespace sallyport::policy

#include "attestation/policy/quorum.h"

#include <algorithm>
#include <set>

namespace sallyport::policy {
namespace {

bool excluded(const QuorumQuestion& question, const PersonId& person) {
  return std::find(question.excluded.begin(), question.excluded.end(), person) != question.excluded.end();
}

// meets tells whether a person who is not excluded meets the condition, attestation left aside.
bool meets(const Roll& people, const QuorumQuestion& question, const Person& person) {
  if (!question.approver) return true;
  const ApproverCondition& wanted = *question.approver;
  if (std::find(wanted.regions.begin(), wanted.regions.end(), person.region) == wanted.regions.end())
    return false;
  if (!wanted.other_team) return true;
  return std::none_of(question.excluded.begin(), question.excluded.end(), [&](const PersonId& id) {
    const Person* other = find_person(people, id);
    return other != nullptr && other->team == person.team;
  });
}

// Places is a matching of people to the places of a quorum's clauses (each clause has `approvals` places).
class Places {
 public:
  explicit Places(const Quorum& quorum) : quorum_(quorum), holders_(quorum.size()) {}

  // seat finds a place for a person who may fill these clauses, moving others to their other clauses where
  // that helps (an augmenting path). Who has a place keeps one.
  bool seat(std::vector<std::size_t> clauses) {
    may_fill_.push_back(std::move(clauses));
    std::vector<bool> visited(quorum_.size(), false);
    return seat(may_fill_.size() - 1, visited);
  }

  bool full() const {
    for (std::size_t c = 0; c < quorum_.size(); ++c)
      if (holders_[c].size() < quorum_[c].approvals) return false;
    return true;
  }

  const std::vector<std::size_t>& holders(std::size_t clause) const { return holders_[clause]; }

 private:
  bool seat(std::size_t who, std::vector<bool>& visited) {
    for (const std::size_t clause : may_fill_[who]) {
      if (visited[clause]) continue;
      visited[clause] = true;
      if (holders_[clause].size() < quorum_[clause].approvals) {
        holders_[clause].push_back(who);
        return true;
      }
      for (std::size_t& holder : holders_[clause]) {
        if (!seat(holder, visited)) continue;
        holder = who;
        return true;
      }
    }
    return false;
  }

  const Quorum& quorum_;
  std::vector<std::vector<std::size_t>> may_fill_;  // of each who asked, in order
  std::vector<std::vector<std::size_t>> holders_;   // of each clause
};

}  // namespace

std::vector<std::size_t> eligible_clauses(const Roll& people, const QuorumQuestion& question,
                                          const PersonId& id, const Roster& roster) {
  std::vector<std::size_t> out;
  const Person* person = find_person(people, id);
  if (person == nullptr || excluded(question, id) || !meets(people, question, *person)) return out;
  for (std::size_t c = 0; c < question.quorum.size(); ++c)
    if (is_member(*person, question.quorum[c].group, roster)) out.push_back(c);
  return out;
}

std::optional<Reason> why_not_eligible(const Roll& people, const QuorumQuestion& question,
                                       const PersonId& person, bool attested, const Roster& roster) {
  if (excluded(question, person)) return Reason::kApprovalSelf;
  if (eligible_clauses(people, question, person, roster).empty()) return Reason::kApprovalNotEligible;
  if (question.approver && question.approver->attested && !attested) return Reason::kApprovalNotAttested;
  return std::nullopt;
}

QuorumProgress check_quorum(const Roll& people, const QuorumQuestion& question,
                            const std::vector<CandidateApproval>& approvals, const Roster& roster) {
  QuorumProgress out;
  Places places{question.quorum};
  std::set<PersonId> seen;
  std::vector<std::size_t> approval_of;  // of each who asked for a place
  for (const CandidateApproval& approval : approvals) {
    ApprovalVerdict verdict{approval.person,
                            why_not_eligible(people, question, approval.person, approval.attested, roster)};
    // Who could not count the first time may come again, say from an attested machine; who counts, counts
    // once.
    if (!verdict.refused && !seen.insert(approval.person).second)
      verdict.refused = Reason::kApprovalDuplicate;
    if (!verdict.refused) {
      approval_of.push_back(out.approvals.size());
      places.seat(eligible_clauses(people, question, approval.person, roster));
    }
    out.approvals.push_back(std::move(verdict));
  }
  for (std::size_t c = 0; c < question.quorum.size(); ++c) {
    ClauseProgress progress{question.quorum[c].group, question.quorum[c].approvals, {}};
    for (const std::size_t who : places.holders(c)) {
      ApprovalVerdict& verdict = out.approvals[approval_of[who]];
      verdict.clause = c;
      progress.filled_by.push_back(verdict.person);
    }
    out.clauses.push_back(std::move(progress));
  }
  // A quorum of nobody is not one: it does not load, and it is not met.
  out.met = places.full() && std::any_of(question.quorum.begin(), question.quorum.end(),
                                         [](const Clause& clause) { return clause.approvals > 0; });
  return out;
}

Status verify_quorum(const Roll& people, const QuorumQuestion& question,
                     const std::vector<CandidateApproval>& approvals, const Roster& roster) {
  const QuorumProgress progress = check_quorum(people, question, approvals, roster);
  for (const ApprovalVerdict& verdict : progress.approvals)
    if (verdict.refused) return Error{Code::kDenied, *verdict.refused, "approval of " + verdict.person.get()};
  if (progress.met) return Done{};
  std::string missing;
  for (const ClauseProgress& clause : progress.clauses)
    if (clause.missing() > 0)
      missing +=
          (missing.empty() ? "" : ", ") + std::to_string(clause.missing()) + " of " + clause.group.get();
  return Error{Code::kDenied, Reason::kQuorumNotMet, "still needed: " + missing};
}

bool can_fill(const Roll& people, const QuorumQuestion& question, const Roster& roster) {
  std::size_t wanted = 0;
  for (const Clause& clause : question.quorum) wanted += clause.approvals;
  // A clause with as many candidates as the whole quorum has places is never short of one, so no more need be
  // looked at.
  std::map<PersonId, std::vector<std::size_t>> candidates;
  for (std::size_t c = 0; c < question.quorum.size(); ++c) {
    const auto members = people.members.find(question.quorum[c].group);
    if (members == people.members.end()) continue;
    std::size_t found = 0;
    for (const std::size_t at : members->second) {
      const Person& person = people.persons[at];
      if (found == wanted) break;
      if (person.tokens.empty() || !is_member(person, question.quorum[c].group, roster) ||
          excluded(question, person.id) || !meets(people, question, person))
        continue;
      candidates[person.id].push_back(c);
      ++found;
    }
  }
  Places places{question.quorum};
  for (auto& [id, clauses] : candidates) places.seat(std::move(clauses));
  return wanted > 0 && places.full();
}

}  // namespace sallyport::policy

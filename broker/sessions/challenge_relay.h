#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "attestation/api/messages.h"

namespace sallyport::sessions {

// ChallengeRelay carries the credential challenges of enrolments from approvers to machines, and the answers
// back. It looks at neither: an approver's own client makes the challenge and judges the answer. Who may call
// is its caller's to say. In memory: a broker that starts anew has none, and approvers make new ones. From
// any thread.
class ChallengeRelay {
 public:
  // add takes a challenge of an approver, and gives its number within the case: 1, 2, … Errors: kRateLimited.
  Result<std::uint64_t> add(const CaseId& case_id, const std::string& approver, api::Challenge challenge);

  // wait_open gives the challenges of a case that have no answer yet, as soon as there is one.
  std::vector<api::Challenge> wait_open(const CaseId& case_id, std::chrono::milliseconds wait);

  // answer takes the one answer to a challenge. Errors: kCaseUnknown (no such challenge),
  // kCredentialChallenge (it has been answered).
  Status answer(const CaseId& case_id, std::uint64_t number, std::string answer);

  // wait_answer gives the answer to a challenge of this approver, as soon as it is there; empty until then.
  // Errors: kCaseUnknown (no such challenge, or another's).
  Result<std::string> wait_answer(const CaseId& case_id, std::uint64_t number, const std::string& approver,
                                  std::chrono::milliseconds wait);

  // stop_waiting makes who waits, now and later, get what there is at once.
  void stop_waiting();

 private:
  struct Relayed {
    std::string approver;
    api::Challenge challenge;
    std::string answer;  // empty: none yet
  };
  const Relayed* find(const CaseId& case_id, std::uint64_t number) const;  // with the lock held
  std::vector<api::Challenge> unanswered(const CaseId& case_id) const;     // with the lock held

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool stopping_ = false;
  std::map<CaseId, std::vector<Relayed>> cases_;  // a challenge's number is its place, from 1
};

}  // namespace sallyport::sessions

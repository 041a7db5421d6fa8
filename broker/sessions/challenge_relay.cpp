#include "broker/sessions/challenge_relay.h"

namespace sallyport::sessions {
namespace {

constexpr std::size_t kMaxChallenges = 64;  // of one case

Error unknown_challenge() {
  return Error{Code::kDenied, Reason::kCaseUnknown, "no such case, or not yours to see"};
}

}  // namespace

const ChallengeRelay::Relayed* ChallengeRelay::find(const CaseId& case_id, std::uint64_t number) const {
  const auto at = cases_.find(case_id);
  if (at == cases_.end() || number == 0 || number > at->second.size()) return nullptr;
  return &at->second[number - 1];
}

std::vector<api::Challenge> ChallengeRelay::unanswered(const CaseId& case_id) const {
  std::vector<api::Challenge> out;
  if (const auto at = cases_.find(case_id); at != cases_.end())
    for (const Relayed& one : at->second)
      if (one.answer.empty()) out.push_back(one.challenge);
  return out;
}

Result<std::uint64_t> ChallengeRelay::add(const CaseId& case_id, const std::string& approver,
                                          api::Challenge challenge) {
  const std::lock_guard lock{mutex_};
  auto& relayed = cases_[case_id];
  if (relayed.size() >= kMaxChallenges)
    return Error{Code::kUnavailable, Reason::kRateLimited, "too many challenges in this case"};
  challenge.number = relayed.size() + 1;
  relayed.push_back({approver, std::move(challenge), {}});
  changed_.notify_all();
  return relayed.size();
}

std::vector<api::Challenge> ChallengeRelay::wait_open(const CaseId& case_id, std::chrono::milliseconds wait) {
  std::unique_lock lock{mutex_};
  changed_.wait_for(lock, wait, [&] { return stopping_ || !unanswered(case_id).empty(); });
  return unanswered(case_id);
}

Status ChallengeRelay::answer(const CaseId& case_id, std::uint64_t number, std::string answer) {
  const std::lock_guard lock{mutex_};
  const Relayed* found = find(case_id, number);
  if (found == nullptr) return unknown_challenge();
  if (!found->answer.empty())
    return Error{Code::kDenied, Reason::kCredentialChallenge, "one attempt for each challenge"};
  cases_[case_id][number - 1].answer = std::move(answer);
  changed_.notify_all();
  return Done{};
}

Result<std::string> ChallengeRelay::wait_answer(const CaseId& case_id, std::uint64_t number,
                                                const std::string& approver, std::chrono::milliseconds wait) {
  std::unique_lock lock{mutex_};
  const Relayed* found = find(case_id, number);
  if (found == nullptr || found->approver != approver) return unknown_challenge();
  // Looked up again each time: a challenge that comes meanwhile may move the others.
  changed_.wait_for(lock, wait, [&] { return stopping_ || !find(case_id, number)->answer.empty(); });
  return find(case_id, number)->answer;
}

void ChallengeRelay::stop_waiting() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
}

}  // namespace sallyport::sessions

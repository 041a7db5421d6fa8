#include "client/approver/challenge.h"

#include <openssl/rand.h>

#include <algorithm>

#include "attestation/crypto/random.h"
#include "client/approver/machine_list.h"
#include "client/approver/sign.h"
#include "client/terminal/render.h"

namespace sallyport::client::approver {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// One connection carries all the questions: one of them waits at the broker, the others are looked at.
constexpr milliseconds kWait{1'000};

struct Asked {
  CredentialChallenge question;
  std::uint64_t number = 0;
  bool again = false;  // a broker that starts anew forgets what was asked; it is asked once more
};

Result<Asked> ask(Session& session, const Review& review) {
  SecretBytes secret{evidence::kMaxCredentialSecret};
  SP_ASSERT(RAND_bytes(secret.expose().data(), static_cast<int>(secret.size())) == 1);
  SP_TRY(CredentialChallenge question, make_challenge(review, secret, crypto::random_array<64>()));
  SP_TRY(const std::uint64_t number, session.add_challenge(review.case_id, question.challenge));
  return Asked{std::move(question), number};
}

}  // namespace

Result<std::vector<bool>> challenge_machines(Opened& opened, std::span<const Review> reviews,
                                             std::chrono::seconds patience) {
  std::vector<std::optional<Asked>> asked(reviews.size());
  // A broker asks nothing in a case that has ended since it was read. Of several, the others go on.
  const auto ask_one = [&](std::size_t i) -> Status {
    auto one = ask(*opened.session, reviews[i]);
    if (one.has_value())
      asked[i] = std::move(*one);
    else if (reviews.size() > 1 && one.error().reason == Reason::kCaseUnknown)
      asked[i].reset();
    else
      return in_case(reviews[i].case_id, one.error());
    return Done{};
  };
  for (std::size_t i = 0; i < reviews.size(); ++i) SP_CHECK(ask_one(i));
  note("challenge", reviews.size() == 1 ? "waiting for the machine to answer (sallyport enroll runs there)"
                                        : "waiting for " + std::to_string(reviews.size()) +
                                              " machines to answer (sallyport enroll runs there)");
  std::vector<bool> answered(reviews.size(), false);
  const auto is_open = [&](std::size_t i) { return asked[i] && !answered[i]; };
  const auto to_go = [&] {
    std::size_t count = 0;
    for (std::size_t i = 0; i < reviews.size(); ++i) count += is_open(i) ? 1 : 0;
    return count;
  };
  const auto until = steady_clock::now() + patience;
  while (to_go() > 0) {
    milliseconds wait = kWait;  // of the first that is open
    for (std::size_t i = 0; i < reviews.size(); ++i) {
      if (!is_open(i)) continue;
      const CaseId& id = reviews[i].case_id;
      const auto answer = opened.session->challenge_answer(id, asked[i]->number, wait);
      wait = milliseconds{0};
      if (!answer.has_value()) {
        if (answer.error().reason != Reason::kCaseUnknown || asked[i]->again)
          return in_case(id, answer.error());
        SP_CHECK(ask_one(i));
        if (asked[i]) asked[i]->again = true;
      }
      if (!answer.has_value() || answer->empty()) continue;
      if (const Status right = check_answer(asked[i]->question, *answer); !right.has_value())
        return in_case(id, right.error());
      answered[i] = true;
      note("challenge",
           "answered by the TPM with the certified endorsement key" +
               (reviews.size() == 1 ? std::string{}
                                    : ": " + printable(reviews[i].enrolment->device.name) + " (" +
                                          short_case(id) + "), " + std::to_string(to_go()) + " to go"));
    }
    if (steady_clock::now() >= until) break;
  }
  return answered;
}

}  // namespace sallyport::client::approver

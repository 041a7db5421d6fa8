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
  std::vector<Asked> asked;
  for (const Review& review : reviews) {
    auto one = ask(*opened.session, review);
    if (!one.has_value()) return in_case(review.case_id, one.error());
    asked.push_back(std::move(*one));
  }
  note("challenge", reviews.size() == 1 ? "waiting for the machine to answer (sallyport enroll runs there)"
                                        : "waiting for " + std::to_string(reviews.size()) +
                                              " machines to answer (sallyport enroll runs there)");
  std::vector<bool> answered(reviews.size(), false);
  std::size_t left = reviews.size();
  const auto until = steady_clock::now() + patience;
  while (left > 0) {
    milliseconds wait = kWait;  // of the first that is open
    for (std::size_t i = 0; i < reviews.size(); ++i) {
      if (answered[i]) continue;
      const CaseId& id = reviews[i].case_id;
      const auto answer = opened.session->challenge_answer(id, asked[i].number, wait);
      wait = milliseconds{0};
      if (!answer.has_value()) return in_case(id, answer.error());
      if (answer->empty()) continue;
      if (const Status right = check_answer(asked[i].question, *answer); !right.has_value())
        return in_case(id, right.error());
      answered[i] = true;
      --left;
      note("challenge",
           "answered by the TPM with the certified endorsement key" +
               (reviews.size() == 1 ? std::string{}
                                    : ": " + printable(reviews[i].enrolment->device.name) + " (" +
                                          short_case(id) + "), " + std::to_string(left) + " to go"));
    }
    if (steady_clock::now() >= until) break;
  }
  return answered;
}

}  // namespace sallyport::client::approver

#include "client/approver/approve.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "attestation/record/appraise.h"
#include "client/approver/render.h"
#include "client/approver/sign.h"
#include "client/connection/ima.h"
#include "client/terminal/cases.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::approver {
namespace {

namespace po = boost::program_options;
using record::Kind;
using record::json::Value;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPoll{5'000};
constexpr std::size_t kMinTypedDigits = 8;     // of a case's id
constexpr std::size_t kMinTypedDecision = 16;  // of what is to be signed: as many as a review shows

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

// The newest checkpoint must be of now: else this machine would judge by a policy and revocations of the
// past.
Status check_head_is_fresh(Session& session, UnixMillis at) {
  const auto head = session.follower().noted();
  SP_TRY(const auto policy, session.policy());
  if (!head) return Error{Code::kUnavailable, Reason::kLogQuorum, "no cosigned checkpoint is known yet"};
  return ledger::require_fresh(*head, policy->witnesses, at, record::kMaxTimeSkew, record::kNoteSkew);
}

Result<std::optional<ThisMachine>> this_machine(Opened& opened, const Review& review) {
  if (!wants_machine(review)) return std::optional<ThisMachine>{};
  if (!opened.tpm)
    return Error{Code::kDenied, Reason::kApprovalNotAttested,
                 "this rule wants approvers at enrolled machines; set tcti in config.toml, and run sallyport "
                 "enroll once"};
  tpm::Tpm& tpm = *opened.tpm;
  SP_TRY(const MachineProof machine, identify_machine(tpm));
  SP_CHECK(record::live_device(*opened.session->control(), machine.device));
  SP_TRY(const auto policy, opened.session->policy());
  const evidence::PcrSelection& selection = policy->references.selection;
  ThisMachine out{
      machine.device, opened.session->follower().note(),
      [&tpm, selection](const evidence::Binding& binding) { return quote_machine(tpm, selection, binding); },
      wanted_event_log(*policy, opened.settings)};
  if (wants_ima(*policy))
    out.ima = [&tpm, &settings = opened.settings](const evidence::Binding& binding) {
      return quote_ima(tpm, settings, evidence::binding_digest(binding));
    };
  return std::optional{std::move(out)};
}

// challenge asks the TPM to show that it holds the key. Only this process knows the secret.
Status challenge(Opened& opened, const Review& review, std::chrono::seconds patience) {
  SecretBytes secret{evidence::kMaxCredentialSecret};
  SP_ASSERT(RAND_bytes(secret.expose().data(), static_cast<int>(secret.size())) == 1);
  SP_TRY(const CredentialChallenge asked, make_challenge(review, secret, crypto::random_array<64>()));
  SP_TRY(const std::uint64_t number, opened.session->add_challenge(review.case_id, asked.challenge));
  note("challenge", "waiting for the machine to answer (sallyport enroll runs there)");
  const auto began = steady_clock::now();
  for (;;) {
    SP_TRY(const std::string answer, opened.session->challenge_answer(review.case_id, number, kPoll));
    if (!answer.empty()) {
      SP_CHECK(check_answer(asked, answer));
      note("challenge", "answered by the TPM with the certified endorsement key");
      return Done{};
    }
    if (steady_clock::now() - began >= patience)
      return Error{Code::kUnavailable, Reason::kPending,
                   "the machine has not answered the challenge; nothing was signed"};
  }
}

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

std::string what_is_signed(const Review& review) {
  return std::string{review.access ? "decision " : "statement "} + decision_groups(review.to_sign);
}

// confirm has the person say, after the review was shown, that this is to be signed: by typing the case's id
// on the terminal. A script says --confirm, and has read the review in another process: it must name what
// that review showed, for a case's id would stand for whatever the case is now.
//   Errors: kUsage, when something else was typed, or nothing could be asked.
Status confirm(const Review& review, const std::string& token, const Arguments& arguments) {
  if (arguments.has("confirm")) {
    if (names_decision(arguments.text("confirm"), review.to_sign)) return Done{};
    return usage("--confirm does not name what is to be signed here, " + what_is_signed(review) +
                 "; nothing was signed.\nIt takes at least 16 digits of it, as sallyport review " +
                 short_case(review.case_id) + " shows them; with -f json, of to_sign");
  }
  std::FILE* const terminal = std::fopen("/dev/tty", "r+e");
  if (terminal == nullptr)
    return usage("there is no terminal to ask on; read sallyport review " + short_case(review.case_id) +
                 ", and say --confirm with the decision that it shows");
  std::fprintf(terminal, "Sign %s with token \"%s\"? Type the case id: %s\n> ",
               what_is_signed(review).c_str(), printable(token).c_str(), short_case(review.case_id).c_str());
  std::fflush(terminal);
  char line[128] = {};
  const bool got = std::fgets(line, sizeof line, terminal) != nullptr;
  std::fclose(terminal);
  if (got && (names_case(line, review.case_id) || names_decision(line, review.to_sign))) return Done{};
  return usage("that is not the case's id; nothing was signed");
}

std::string token_name(const policy::Policy& policy, const Signer& signer) {
  const auto owner = policy::find_token(policy, signer.key.id());
  return owner ? owner->token->id : std::string{"unknown"};
}

}  // namespace

bool names_decision(std::string_view typed, const Digest256& to_sign) {
  std::string digits;
  for (const char c : typed)
    if (!is_blank(c)) digits.push_back(c);
  return digits.size() >= kMinTypedDecision && to_hex(to_sign).starts_with(digits);
}

bool names_case(std::string_view typed, const CaseId& case_id) {
  while (!typed.empty() && is_blank(typed.back())) typed.remove_suffix(1);
  if (typed.size() > 2 && typed[1] == '-') typed.remove_prefix(2);
  return typed.size() >= kMinTypedDigits && to_hex(case_id).starts_with(typed);
}

Result<Review> fetch_review(Opened& opened, const CaseId& case_id) {
  Session& session = *opened.session;
  CaseFile file;
  SP_TRY(file.view, session.view(case_id));
  if (file.view.case_id != case_id)
    return Error{Code::kUnverified, Reason::kLogBody, "the broker shows another case"};
  // A case is looked at once witnesses have cosigned it; they do so within moments.
  const std::uint64_t wanted = file.view.entries.empty() ? 0 : file.view.entries.back().index;
  const auto began = steady_clock::now();
  SP_CHECK(session.sync());
  while (session.control()->size().get() <= wanted) {
    if (steady_clock::now() - began >= kProofPatience)
      return Error{Code::kUnavailable, Reason::kLogQuorum, "the case is under no cosigned checkpoint yet"};
    SP_CHECK(session.sync(kPoll));
  }
  SP_TRY(const auto items, wanted_items(file.view));
  for (const record::EvidenceItem& item : items) {
    SP_TRY(record::Blob blob, session.blob(item));
    file.blobs.push_back(std::move(blob));
  }
  const follow::Follower& follower = session.follower();
  return check_case(
      *session.control(), [&](LeafIndex index) { return follower.leaf(index); }, file, now());
}

void approve_flags(po::options_description& flags) {
  flags.add_options()("case", po::value<std::string>(), "the case, or the beginning of its id")(
      "confirm", po::value<std::string>(),
      "in a script: the decision that you have reviewed, 16 digits of it or more, instead of typing")(
      "to", po::value<std::string>(), "write the signed approval to this file; sallyport submit sends it")(
      "timeout", po::value<std::string>()->default_value("10m"),
      "how long a machine to be enrolled may take to answer");
}

Result<int> approve(const Arguments& arguments, std::optional<Kind> only) {
  if (!arguments.has("case")) return usage("which case? sallyport inbox lists them");
  SP_TRY(const std::uint64_t patience_s, parse_duration(arguments.text("timeout", "10m")));
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kIfThere));
  SP_TRY(const CaseId case_id, pick_case(*opened, arguments.text("case")));
  SP_TRY(const Review review, fetch_review(*opened, case_id));
  if (only && review.kind != *only)
    return usage(short_case(case_id) +
                 " is a case of another kind: " + std::string{record::kind_name(review.kind)});
  std::cerr << render_review(review, now()) << std::flush;
  SP_CHECK(check_head_is_fresh(*opened->session, now()));
  SP_TRY(std::optional<ThisMachine> machine, this_machine(*opened, review));
  SP_CHECK(check_may_sign(review, opened->signer->person, machine.has_value()));
  SP_CHECK(confirm(review, token_name(review.policy->policy, *opened->signer), arguments));
  if (review.enrolment) SP_CHECK(challenge(*opened, review, std::chrono::seconds{patience_s}));

  // A person takes minutes to read, and a machine to answer: the log has gone on.
  SP_TRY(const Review found, fetch_review(*opened, case_id));
  SP_CHECK(check_unchanged(review, found));
  SP_CHECK(check_head_is_fresh(*opened->session, now()));
  SP_TRY(machine, this_machine(*opened, found));
  SP_TRY(const api::Hello hello, opened->session->hello());
  SP_TRY(const record::Submission submission,
         sign_approval(found, opened->settings.anchor.origin, *opened->signer, machine, hello.nonce, now()));

  if (arguments.has("to")) {
    SP_CHECK(write_new_file(arguments.text("to"), record::encode(submission)));
    if (arguments.json)
      std::cout << as_text(record::json::encode_canonical(
                       Value::object({{"case", to_hex(case_id)}, {"file", arguments.text("to")}})))
                << std::endl;
    else
      std::cout << "signed, not sent: sallyport submit " << printable(arguments.text("to")) << "\n";
    return 0;
  }
  SP_TRY(const api::Submitted submitted, opened->session->submit(submission));
  if (submitted.code) return Error{Code::kDenied, *submitted.code, submitted.detail};
  SP_TRY(const api::CaseView after, opened->session->view(case_id));
  // A complete quorum closes a policy or enrolment case at once: then that is the leaf told.
  const bool closed = submitted.state == "closed";
  const Kind kind = !closed            ? Kind::kApproval
                    : review.enrolment ? Kind::kEnrolment
                    : review.change    ? Kind::kPolicy
                                       : Kind::kApproval;
  const bool cosigned = wait_cosigned(*opened, LeafIndex{submitted.leaf}, kind, case_id);
  if (arguments.json) {
    std::cout << as_text(record::json::encode_canonical(Value::object({{"case", to_hex(case_id)},
                                                                       {"cosigned", Value{cosigned}},
                                                                       {"leaf", submitted.leaf},
                                                                       {"signed", to_hex(review.to_sign)},
                                                                       {"state", submitted.state}})))
              << std::endl;
    return 0;
  }
  const std::string progress = closed ? "quorum met, in force" : progress_text(after.quorum);
  std::cout << "signed · " << progress << " · leaf " << grouped(submitted.leaf)
            << (cosigned ? ", cosigned" : ", not yet cosigned") << "\n";
  return 0;
}

}  // namespace sallyport::client::approver

#include "client/approver/continuation.h"

#include <cstdio>
#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/policy/diff.h"
#include "attestation/record/appraise.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"
#include "client/approver/approve.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::approver {
namespace {

namespace po = boost::program_options;
using record::EvidenceType;
using record::Kind;
using record::json::Value;

constexpr std::size_t kMaxContinuationBytes = record::kMaxControlBytes + (16u << 20);

// Ceremony is what a person looks at: the log as this machine has followed it, the state that the next one is
// to go on from, and its first policy.
struct Ceremony {
  Settings settings;
  std::shared_ptr<const record::ControlState> own;
  std::optional<record::ControlState> before;
  record::LoadedPolicy next;
};

// look reads and judges all that can be judged before the quorum is complete.
//   Errors: of load_policy, parse_control, check_continues, check_continuation; kTrustAnchor when the policy
//   names another state.
Result<Ceremony> look(const Arguments& arguments, ByteView state) {
  SP_TRY(Settings settings, load_settings());
  SP_TRY(const auto follower, follow::Follower::open(settings.follow_file(), settings.anchor));
  const auto own = follower->control();
  if (!own->policy())
    return Error{Code::kUnavailable, Reason::kLogOrder, "nothing of the log was followed on this machine"};
  SP_TRY(Bytes text, read_whole_file(arguments.text("policy"), policy::kMaxPolicyBytes));
  record::PolicyDocument document = own->policy()->document();
  document.text = std::move(text);
  if (arguments.has("roots")) {
    SP_TRY(document.tpm_roots,
           read_whole_file(arguments.text("roots"), record::max_evidence_bytes(EvidenceType::kTpmRoots)));
  }
  if (arguments.has("references")) {
    SP_TRY(document.references, read_whole_file(arguments.text("references"),
                                                record::max_evidence_bytes(EvidenceType::kReferences)));
  }
  SP_TRY(record::ControlState before, record::parse_control(state));
  SP_CHECK(record::check_continues(*own, before));
  SP_TRY(const policy::Policy parsed, policy::parse_policy(as_text(document.text)));
  SP_CHECK(policy::check_continuation(before.policy()->policy, parsed));
  const policy::Continues named{before.origin(), before.size(), before.root(), crypto::sha256(state)};
  if (*parsed.authority.continues != named)
    return Error{Code::kUnverified, Reason::kTrustAnchor,
                 "the policy names another state; this one is continues = { origin = \"" +
                     named.origin.get() + "\", size = " + std::to_string(named.size.get()) +
                     ", root = \"sha256:" + to_hex(named.root) +
                     "\", state = \"sha256:" + to_hex(named.state) + "\" }"};
  if (!parsed.authority.references && !arguments.has("references")) document.references.reset();
  SP_TRY(record::LoadedPolicy next,
         record::load_policy(std::move(document), parsed.authority.origin, LeafIndex{0}));
  return Ceremony{std::move(settings), own, std::move(before), std::move(next)};
}

// judge_proposal checks a proposal that nobody has approved yet: the fold judges it with approvals only.
Status judge_proposal(const record::ControlState& before, const policy::Policy& next, const Bytes& bytes) {
  SP_TRY(const record::Envelope envelope, record::parse_envelope(bytes));
  if (envelope.type != record::payload_type(Kind::kPolicyProposed))
    return Error{Code::kMalformed, "not a proposal"};
  SP_TRY(const auto proposal, record::parse_policy_proposed(envelope.payload));
  if (proposal.authority != before.origin().get() ||
      proposal.case_id != record::continuation_case(next.digest) || proposal.digest != next.digest ||
      proposal.previous != next.previous || proposal.version != next.version)
    return Error{Code::kUnverified, Reason::kPolicyNotSuccessor, "the proposal is of another policy"};
  SP_CHECK(record::verify_person(before, before.policy()->policy, envelope, proposal.person));
  return Done{};
}

Result<bool> judge(const Ceremony& ceremony, const record::Continuation& continuation) {
  return judge_continuation(*ceremony.before, ceremony.next, continuation, now());
}

void show(const Ceremony& ceremony, const record::Continuation& continuation) {
  const record::ControlState& before = *ceremony.before;
  for (const policy::DiffLine& line : policy::diff(before.policy()->policy, ceremony.next.policy))
    std::cerr << printable(policy::render(line)) << "\n";
  note("goes on", printable(ceremony.next.policy.authority.origin.get()) + " from " +
                      printable(before.origin().get()) + ", whose origin is given up for ever");
  note("at", grouped(before.size().get()) + " leaves, root " + to_hex(before.root()));
  const std::uint64_t seen = ceremony.own->size().get();
  note("this machine", seen == before.size().get() ? "has followed exactly to there"
                                                   : "has followed " + grouped(seen) + " of them");
  note("keeps", std::to_string(before.devices().size()) +
                    " machines and all that is revoked; every open case and grant ends");
  note("signed by", std::to_string(continuation.approvals.size()) + " so far; needs " +
                        printable(policy::quorum_text(before.policy()->policy.authority.change)));
}

// confirm has the person type what is to be signed, or takes it from --confirm.
Status confirm(const Digest256& statement, const Arguments& arguments) {
  const std::string shown = to_hex(statement).substr(0, 16);
  std::string typed = arguments.text("confirm");
  if (!arguments.has("confirm")) {
    std::FILE* const terminal = std::fopen("/dev/tty", "r+e");
    if (terminal == nullptr)
      return usage("there is no terminal to ask on; say --confirm " + shown +
                   " when you have read the above");
    std::fprintf(terminal, "Sign statement %s? Type it:\n> ", shown.c_str());
    std::fflush(terminal);
    char line[128] = {};
    if (std::fgets(line, sizeof line, terminal) != nullptr) typed = line;
    std::fclose(terminal);
  }
  if (names_decision(typed, statement)) return Done{};
  return usage("that is not what is to be signed, " + shown + "; nothing was signed");
}

Result<int> tell(const Arguments& arguments, const Ceremony& ceremony,
                 const record::Continuation& continuation, const std::string& file, bool complete) {
  if (arguments.json)
    print_json(Value::object({{"approvals", static_cast<std::uint64_t>(continuation.approvals.size())},
                              {"complete", Value{complete}},
                              {"digest", to_hex(ceremony.next.policy.digest)},
                              {"file", file},
                              {"origin", ceremony.next.policy.authority.origin.get()}}));
  else if (complete)
    std::cout << "quorum met · sallyport-keyguard init --from …, then sallyportd init --continuation "
              << printable(file) << "\n";
  else
    std::cout << "signed · pass on " << printable(file)
              << ": sallyport policy continue approve POLICY --file " << printable(file) << "\n";
  return 0;
}

Result<Signer> open_own_signer(const Ceremony& ceremony, const Arguments& arguments) {
  return open_signer(ceremony.settings, &ceremony.before->policy()->policy, arguments);
}

}  // namespace

Result<bool> judge_continuation(const record::ControlState& before, const record::LoadedPolicy& next,
                                const record::Continuation& continuation, UnixMillis now) {
  if (continuation.approvals.empty()) {
    SP_CHECK(judge_proposal(before, next.policy, continuation.proposal));
    return false;
  }
  const Origin origin = next.policy.authority.origin;
  SP_TRY(const record::Entry first,
         record::compose_continued(origin, next.document(), continuation, now, crypto::random_nonce()));
  const auto state = record::ControlState::begin(origin, next.policy.digest);
  const auto prepared = record::prepare_control(state, first.leaf, &first);
  if (prepared.has_value()) return true;
  if (prepared.error().reason == Reason::kQuorumNotMet) return false;
  return prepared.error();
}

void continue_propose_flags(po::options_description& flags) {
  flags.add_options()("policy", po::value<std::string>(), "the first policy of the new log")(
      "state", po::value<std::string>(), "what sallyport-keyguard state has written")(
      "roots", po::value<std::string>(), "the PEM bundle of TPM vendors' roots; without it the present one")(
      "references", po::value<std::string>(), "the reference values; without it the present ones")(
      "to", po::value<std::string>(), "the new file that goes from hand to hand");
}

void continue_approve_flags(po::options_description& flags) {
  flags.add_options()("policy", po::value<std::string>(), "the first policy of the new log")(
      "file", po::value<std::string>(), "the file that goes from hand to hand; your approval is added")(
      "roots", po::value<std::string>(), "the PEM bundle of TPM vendors' roots; without it the present one")(
      "references", po::value<std::string>(), "the reference values; without it the present ones")(
      "confirm", po::value<std::string>(),
      "in a script: the statement that you have read, 16 digits or more");
}

Result<int> continue_propose(const Arguments& arguments) {
  if (!arguments.has("policy") || !arguments.has("state") || !arguments.has("to"))
    return usage("sallyport policy continue propose POLICY --state FILE --to FILE");
  record::Continuation continuation;
  SP_TRY(continuation.state, read_whole_file(arguments.text("state"), record::kMaxControlBytes));
  SP_TRY(const Ceremony ceremony, look(arguments, continuation.state));
  show(ceremony, continuation);
  SP_TRY(const Signer signer, open_own_signer(ceremony, arguments));
  const policy::Policy& next = ceremony.next.policy;
  record::PolicyProposed proposal;
  proposal.authority = ceremony.before->origin().get();
  proposal.case_id = record::continuation_case(next.digest);
  proposal.digest = next.digest;
  proposal.person = signer.person;
  proposal.previous = *next.previous;
  proposal.time = now();
  proposal.version = next.version;
  SP_TRY(continuation.proposal,
         signer.envelope(record::payload_type(Kind::kPolicyProposed), record::encode(proposal)));
  SP_TRY(const bool complete, judge(ceremony, continuation));
  SP_CHECK(write_new_file(arguments.text("to"), record::encode_continuation(continuation)));
  return tell(arguments, ceremony, continuation, arguments.text("to"), complete);
}

Result<int> continue_approve(const Arguments& arguments) {
  if (!arguments.has("policy") || !arguments.has("file"))
    return usage("sallyport policy continue approve POLICY --file FILE");
  SP_TRY(const Bytes bytes, read_whole_file(arguments.text("file"), kMaxContinuationBytes));
  SP_TRY(record::Continuation continuation, record::parse_continuation(bytes));
  SP_TRY(const Ceremony ceremony, look(arguments, continuation.state));
  SP_TRY(const bool was_complete, judge(ceremony, continuation));
  show(ceremony, continuation);
  if (was_complete) return usage("the quorum is met already: nothing was signed");
  SP_TRY(const record::Envelope proposal, record::parse_envelope(continuation.proposal));
  const Digest256 statement = record::statement_digest(proposal);
  SP_CHECK(confirm(statement, arguments));
  SP_TRY(const Signer signer, open_own_signer(ceremony, arguments));
  record::Approval approval;
  approval.approver = signer.person;
  approval.authority = ceremony.before->origin().get();
  approval.case_id = record::continuation_case(ceremony.next.policy.digest);
  approval.decision = statement;
  approval.time = now();
  approval.expires = record::operator+(approval.time, record::kPolicyLife);
  approval.nonce = crypto::random_nonce();
  SP_TRY(Bytes envelope, signer.envelope(record::payload_type(Kind::kApproval), record::encode(approval)));
  continuation.approvals.push_back(std::move(envelope));
  SP_TRY(const bool complete, judge(ceremony, continuation));
  SP_CHECK(replace_file(arguments.text("file"), record::encode_continuation(continuation)));
  return tell(arguments, ceremony, continuation, arguments.text("file"), complete);
}

}  // namespace sallyport::client::approver

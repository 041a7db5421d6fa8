#include <gtest/gtest.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/record/ima.h"
#include "client/approver/approve.h"
#include "client/approver/continuation.h"
#include "client/approver/machine_list.h"
#include "client/approver/render.h"
#include "client/approver/sign.h"
#include "tests/support/ima_log.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::client::approver {
namespace {

using record::Blob;
using record::EvidenceType;
using record::Kind;
using test::FailsWith;
using test::OpenCase;
using test::RecordScenario;
using test::SampleCompany;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;
using testing::HasSubstr;
using testing::Not;

// What an honest broker shows of a case.
CaseFile file_of(const RecordScenario& world, const CaseId& case_id) {
  CaseFile file;
  file.view.case_id = case_id;
  for (std::size_t i = 0; i < world.entries.size(); ++i) {
    if (world.entries[i].leaf.case_id != case_id) continue;
    record::Entry entry = world.entries[i];
    file.blobs.insert(file.blobs.end(), entry.blobs.begin(), entry.blobs.end());
    entry.blobs.clear();
    file.view.entries.push_back({i, std::move(entry)});
  }
  const auto known = world.state.cases.find(case_id);
  if (known != world.state.cases.end() && known->second.state == record::CaseState::kOpen)
    file.view.to_approve = to_hex(known->second.to_approve);
  return file;
}

LeafAt log_of(const RecordScenario& world) {
  return [&world](LeafIndex index) -> Result<ledger::Leaf> {
    if (index.get() >= world.entries.size())
      return Error{Code::kUnavailable, Reason::kLogOrder, "not followed so far"};
    return world.entries[index.get()].leaf;
  };
}

Result<Review> check(const RecordScenario& world, const CaseFile& file) {
  return check_case(world.follower, log_of(world), file, world.now);
}
Review reviewed(const RecordScenario& world, const CaseId& case_id) {
  return value_of(check(world, file_of(world, case_id)));
}

Signer signer_of(const RecordScenario& world, const std::string& name) {
  const crypto::PrivateKey& token = world.company.token(name);
  return {SampleCompany::id(name), token.public_key(),
          [&token](const Digest256& digest) { return token.sign_p256(digest); }};
}

ThisMachine machine_of(RecordScenario& world, SoftTpm& tpm) {
  return {tpm.device(), world.cosign(),
          [&tpm](const evidence::Binding& binding) -> Result<Blob> {
            const auto selection = evidence::PcrSelection::standard();
            const evidence::SignedAttest quote = tpm.quote(evidence::binding_digest(binding), selection);
            record::QuoteEvidence out{.attest = quote.attest, .signature = quote.signature, .pcrs = {}};
            for (const Digest256& value : tpm.pcr_values(selection)) out.pcrs.push_back(value.get());
            return Blob{EvidenceType::kQuote, record::encode(out)};
          },
          std::nullopt};
}

// sign makes an approval as this room does, at an enrolled machine where the rule wants one.
Result<record::Submission> sign(RecordScenario& world, const CaseId& case_id, const std::string& name) {
  std::optional<ThisMachine> machine;
  if (wants_machine(reviewed(world, case_id)))
    machine = machine_of(world, world.machine(name + "-laptop"));  // may append: its enrolment
  return sign_approval(reviewed(world, case_id), world.origin(), signer_of(world, name), machine,
                       crypto::random_nonce(), world.now);
}

TEST(ApproverCheck, TellsWhatTheMachineHasMeasuredAndBringsItsOwn) {
  const test::ImaLog log = test::ImaLog::booted().file("/usr/bin/ssh", "ssh 9.2").violation("/var/log/a");
  evidence::ReferenceValues values = evidence::ReferenceValues::as_enrolled();
  values.version = 1;
  values.ima = value_of(evidence::ImaReference::make(
      {.keys = {}, .files = log.allow_list(), .violations = true, .padded_sha1 = false}));
  RecordScenario world(
      [&](SampleCompany& company) { company.policy.references = evidence::write_reference_values(values); });
  for (const char* name : {"laptop", "alice-laptop"}) log.measure(world.machine(name));
  const OpenCase open = world.request({});
  const Review review = reviewed(world, open.id);
  EXPECT_THAT(render_review(review, world.now), HasSubstr("3 entries: 1 listed, 0 signed, 1 VIOLATION"));
  ASSERT_TRUE(wants_machine(review));
  SoftTpm& tpm = world.machine("alice-laptop");
  ThisMachine machine = machine_of(world, tpm);
  const auto approve = [&] {
    const auto approval = value_of(sign_approval(review, world.origin(), signer_of(world, "alice"), machine,
                                                 crypto::random_nonce(), world.now));
    return world.append(record::Kind::kApproval, open.id, approval);
  };
  EXPECT_THAT(approve(), FailsWith(Reason::kImaMissing));
  machine.ima = [&](const evidence::Binding& binding) {
    const auto quote = tpm.quote(evidence::binding_digest(binding), record::ima_selection());
    return record::ima_evidence(quote, tpm.pcrs[evidence::kImaPcr],
                                value_of(evidence::ImaList::parse(tpm.ima_list)));
  };
  EXPECT_THAT(approve(), Succeeds());
}

TEST(ApproverCheck, FindsTheDecisionThatAnHonestBrokerAsksFor) {
  RecordScenario world;
  RecordScenario::RequestStep step;
  step.attachments = {{"lag-graph.png", Bytes{0x89, 'P', 'N', 'G', 0}}};
  const OpenCase open = world.request(step);
  const Review review = reviewed(world, open.id);
  EXPECT_EQ(review.to_sign, world.state.cases.at(open.id).to_approve);
  EXPECT_EQ(review.person, "erin@corp.example");
  EXPECT_EQ(review.token, "erin-yk1");
  EXPECT_FALSE(review.over.has_value());
  ASSERT_EQ(review.pieces.size(), 1u);

  const std::string screen = render_review(review, world.now);
  for (const char* text :
       {"erin@corp.example · us · team sre · token erin-yk1", "the same person", "db-7",
        "as dbadmin, up to 15 min", "any command, opening and end on record", "\"INC-4711: replica lag\"",
        "1 lag-graph.png 5 B sha256", "fetched, hash ok", "laptop · us", "quote ok, boot: as enrolled",
        "10.20.4.17 · us", "as the broker saw it", "us-oncall-to-user-db, policy version 1",
        "2 of us-oncall and 1 of privacy", "0 of 2 us-oncall, 0 of 1 privacy"})
    EXPECT_THAT(screen, HasSubstr(text));
  EXPECT_THAT(screen, HasSubstr("decision " + decision_groups(review.to_sign)));
  EXPECT_EQ(decision_groups(review.to_sign).size(), 19u);
}

TEST(ApproverCheck, RefusesAnotherDecisionThanItsOwn) {
  RecordScenario world;
  const OpenCase open = world.request({});
  const OpenCase other = world.request({});
  CaseFile file = file_of(world, open.id);
  file.view.to_approve = to_hex(world.state.cases.at(other.id).to_approve);
  EXPECT_THAT(check(world, file), FailsWith(Reason::kApprovalOtherDecision));
}

TEST(ApproverCheck, RefusesADecisionOfAPolicyThatIsNoMoreInForce) {
  RecordScenario world;
  const OpenCase open = world.request({});
  value_of(world.change_policy(
      [](test::SamplePolicy& policy) { policy.rule("us-oncall-to-user-db").duration = "10m"; }));
  CaseFile file = file_of(world, open.id);
  ASSERT_FALSE(file.view.to_approve.empty());
  EXPECT_THAT(check(world, file), FailsWith(Reason::kApprovalOtherDecision));
}

TEST(ApproverCheck, RefusesWhatTheLogDoesNotHold) {
  RecordScenario world;
  const OpenCase open = world.request({});
  const OpenCase other = world.request({});
  const CaseFile good = file_of(world, open.id);
  ASSERT_THAT(check(world, good), Succeeds());

  CaseFile file = good;  // the body of another request under this case's leaf
  file.view.entries[0].entry.body = file_of(world, other.id).view.entries[0].entry.body;
  EXPECT_THAT(check(world, file), FailsWith(Reason::kLogBody));

  file = good;  // another leaf and body at this case's place
  file.view.entries[0].entry = file_of(world, other.id).view.entries[0].entry;
  EXPECT_THAT(check(world, file), FailsWith(Reason::kLogBody));

  file = good;
  file.view.entries.clear();
  EXPECT_THAT(check(world, file), FailsWith(Reason::kLogMissingBody));

  file = good;
  file.view.case_id = crypto::random_case_id();
  EXPECT_THAT(check(world, file), FailsWith(Reason::kCaseUnknown));
}

TEST(ApproverCheck, RefusesACaseWhoseEvidenceIsMissing) {
  RecordScenario world;
  RecordScenario::RequestStep step;
  step.attachments = {{"notes.txt", to_bytes(as_bytes("the replica is late"))}};
  const OpenCase open = world.request(step);
  for (const EvidenceType type : {EvidenceType::kAttachment, EvidenceType::kQuote, EvidenceType::kKey,
                                  EvidenceType::kNote, EvidenceType::kObservation}) {
    CaseFile file = file_of(world, open.id);
    std::erase_if(file.blobs, [&](const Blob& blob) { return blob.type == type; });
    EXPECT_THAT(check(world, file), FailsWith(Reason::kLogMissingBody)) << static_cast<int>(type);
  }
}

TEST(ApproverCheck, NamesTheEvidenceThatItNeeds) {
  RecordScenario world;
  RecordScenario::RequestStep step;
  step.attachments = {{"notes.txt", to_bytes(as_bytes("the replica is late"))}};
  const OpenCase open = world.request(step);
  world.approve_all(open, {"alice"});
  const CaseFile file = file_of(world, open.id);
  const auto wanted = value_of(wanted_items(file.view));
  EXPECT_EQ(wanted.size(), 7u);  // quote, key, note, observation, attachment; the approval's quote and note
  for (const record::EvidenceItem& item : wanted)
    EXPECT_NE(record::BlobIndex{file.blobs}.find(item), nullptr);
}

TEST(ApproverCheck, SeesThroughABrokerThatRecordsAMachineInAnotherBootState) {
  RecordScenario world;
  world.machine("laptop");
  RecordScenario::RequestStep step;
  step.before_quote = [](SoftTpm& tpm) { tpm.extend(7, crypto::sha256(as_bytes("another boot"))); };
  const OpenCase open = world.make_request(step);
  world.broker_is_rooted = true;
  value_of(world.append(Kind::kRequest, open.id, open.submission));
  EXPECT_THAT(check(world, file_of(world, open.id)), FailsWith(Reason::kBootState));
}

TEST(ApproverCheck, SeesThroughABrokerThatRecordsAForeignSignature) {
  RecordScenario world;
  const crypto::PrivateKey stranger = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  world.machine("laptop");
  RecordScenario::RequestStep step;
  step.token = &stranger;
  const OpenCase open = world.make_request(step);
  world.broker_is_rooted = true;
  value_of(world.append(Kind::kRequest, open.id, open.submission));
  EXPECT_THAT(check(world, file_of(world, open.id)), FailsWith(Code::kUnverified));
}

TEST(ApproverCheck, CountsOnlyApprovalsThatHold) {
  RecordScenario world;
  const OpenCase open = world.request({});
  value_of(world.approve(open.id, "alice"));
  // A rooted broker adds one in bob's name, signed by another.
  RecordScenario::ApprovalStep forged;
  forged.token = &world.company.token("carol");
  const record::Submission submission = world.make_approval(open.id, "bob", forged);
  world.broker_is_rooted = true;
  value_of(world.append(Kind::kApproval, open.id, submission));

  const Review review = reviewed(world, open.id);
  ASSERT_EQ(review.signed_by.size(), 2u);
  EXPECT_EQ(review.signed_by[0].person, "alice@corp.example");
  EXPECT_EQ(review.signed_by[0].group, "us-oncall");
  EXPECT_TRUE(review.signed_by[0].attested);
  EXPECT_EQ(review.signed_by[1].wrong, Reason::kApprovalForeignKey);
  EXPECT_EQ(progress_text(review.progress), "1 of 2 us-oncall, 0 of 1 privacy");
  const std::string screen = render_review(review, world.now);
  EXPECT_THAT(screen, HasSubstr("alice@corp.example (us-oncall)"));
  EXPECT_THAT(screen, HasSubstr("DOES NOT COUNT: approval/foreign-key"));
}

TEST(ApproverRender, ShowsAForeignBeneficiaryInCapitals) {
  RecordScenario world;
  RecordScenario::RequestStep step;
  step.beneficiary = "wei";
  const OpenCase open = world.request(step);
  const std::string screen = render_review(reviewed(world, open.id), world.now);
  EXPECT_THAT(screen, HasSubstr("ANOTHER PERSON: wei@corp.example · cn · team apps"));
  EXPECT_THAT(screen, HasSubstr("as readonly"));
}

TEST(ApproverRender, EscapesWhatOthersWrote) {
  RecordScenario world;
  RecordScenario::RequestStep step;
  step.reason = "INC-4711\u200b: ok\u00ad";  // zero width, soft hyphen: a statement may hold them
  const OpenCase open = world.request(step);
  Review review = reviewed(world, open.id);
  EXPECT_THAT(render_review(review, world.now), HasSubstr("\"INC-4711\\u{200b}: ok\\u{ad}\""));

  // And if a statement could hold an escape sequence, it would not reach the terminal either.
  review.person = review.token = "e\x1b[31m";
  review.access->evaluated.request.reason = "\x1b[2J\x1b[1;1Hnothing to see";
  review.access->evaluated.decision.command = "\xe2\x80\xae";
  review.access->device.name = "a\rb";
  review.pieces.push_back({"x\x1b]0;y\x07", {EvidenceType::kAttachment, {'a'}}, {}});
  review.signed_by.push_back({.person = "\x1b[8m",
                              .leaf = {},
                              .time = world.now,
                              .group = "\x9b"
                                       "1m",
                              .wrong = {}});
  const std::string screen = render_review(review, world.now);
  for (const char c : screen) EXPECT_FALSE((c >= 0 && c < 0x20 && c != '\n') || c == 0x7f) << int{c};
  EXPECT_THAT(screen, Not(HasSubstr("\xe2\x80\xae")));
  EXPECT_THAT(screen, HasSubstr("\\u{1b}[2J"));
}

TEST(ApproverRender, ShowsTextEvidenceEscapedAndOtherEvidenceNotAtAll) {
  Piece piece{"notes.txt", {EvidenceType::kAttachment, to_bytes(as_bytes("one\n\x1b[2Jtwo"))}, {}};
  EXPECT_EQ(value_of(render_piece(piece)), "one\n\\u{1b}[2Jtwo\n");
  piece.blob.bytes = {0x89, 'P', 0, 1};
  EXPECT_THAT(render_piece(piece), FailsWith(Reason::kUsage));
}

TEST(ApproverRender, ListsTheInbox) {
  api::CaseView view;
  view.kind = "access";
  view.state = "open";
  view.person = "erin\x1b[31m";
  view.beneficiary = "bob@corp.example";
  view.resource = "user-db";
  view.rule = "us-oncall-to-user-db";
  view.may = "us-oncall";
  view.opened = UnixMillis{1'000'000};
  view.quorum = {{"us-oncall", 1, 2, {}}, {"privacy", 0, 1, {}}};
  const std::string table = render_inbox({{view, std::nullopt}}, "alice@corp.example", UnixMillis{1'040'000});
  EXPECT_THAT(table, HasSubstr("c-00000000"));
  EXPECT_THAT(table, HasSubstr("40 s ago"));
  EXPECT_THAT(table, HasSubstr("1 more us-oncall, 1 privacy"));
  EXPECT_THAT(table, HasSubstr(" bob "));  // of the reader's own domain
  EXPECT_THAT(table, HasSubstr("approve as us-oncall"));
  EXPECT_THAT(table, HasSubstr("erin\\u{1b}[31m"));
  EXPECT_THAT(table, Not(HasSubstr("\x1b")));
}

TEST(ApproverRender, GivesJsonThatParses) {
  RecordScenario world;
  const OpenCase open = world.request({});
  const Review review = reviewed(world, open.id);
  const Bytes json = record::json::encode_canonical(review_json(review));
  EXPECT_THAT(record::json::parse_canonical(json, 1u << 20), Succeeds());
  EXPECT_THAT(std::string{as_text(json)}, HasSubstr("\"to_sign\":\"" + to_hex(review.to_sign) + "\""));
  EXPECT_THAT(std::string{as_text(json)},
              HasSubstr("\"boot\":\"" + review.access->evaluated.boot.reference + "\""));
}

TEST(ApproverSign, MakesApprovalsThatTheFoldCounts) {
  RecordScenario world;
  const OpenCase open = world.request({});
  for (const char* name : {"alice", "bob", "dana"}) {
    const record::Submission submission = value_of(sign(world, open.id, name));
    EXPECT_EQ(submission.blobs.size(), 2u);
    EXPECT_THAT(world.append(Kind::kApproval, open.id, submission), Succeeds());
  }
  EXPECT_TRUE(reviewed(world, open.id).progress.met);
  EXPECT_THAT(world.grant(open), Succeeds());
}

TEST(ApproverSign, LimitsAnApprovalToTheLifeOfItsCase) {
  RecordScenario world;
  const OpenCase open = world.request({});
  world.machine("alice-laptop");
  world.advance(std::chrono::minutes{40});
  const record::Submission submission = value_of(sign(world, open.id, "alice"));
  const record::Envelope envelope = value_of(record::parse_envelope(submission.envelope));
  const record::Approval approval = value_of(record::parse_approval(envelope.payload));
  EXPECT_EQ(approval.expires, reviewed(world, open.id).expires);
  EXPECT_EQ(approval.decision, world.state.cases.at(open.id).to_approve);
  world.advance(std::chrono::minutes{30});
  EXPECT_THAT(sign(world, open.id, "alice"), FailsWith(Reason::kCaseExpired));
}

TEST(ApproverSign, SignsNothingThatWouldNotCount) {
  RecordScenario world;
  const OpenCase open = world.request({});
  Review review = reviewed(world, open.id);
  EXPECT_THAT(check_may_sign(review, "alice@corp.example", true), Succeeds());
  EXPECT_THAT(check_may_sign(review, "alice@corp.example", false), FailsWith(Reason::kApprovalNotAttested));
  EXPECT_THAT(check_may_sign(review, "erin@corp.example", true), FailsWith(Reason::kApprovalSelf));
  EXPECT_THAT(check_may_sign(review, "mona@corp.example", true),  // of erin's own team
              FailsWith(Reason::kApprovalNotEligible));
  EXPECT_THAT(check_may_sign(review, "wei@corp.example", true), FailsWith(Reason::kApprovalNotEligible));
  EXPECT_THAT(check_may_sign(review, "nobody@corp.example", true), FailsWith(Reason::kApprovalNotEligible));
  EXPECT_THAT(sign_approval(review, world.origin(), signer_of(world, "alice"), std::nullopt,
                            crypto::random_nonce(), world.now),
              FailsWith(Reason::kApprovalNotAttested));

  value_of(world.approve(open.id, "alice"));
  review = reviewed(world, open.id);
  EXPECT_THAT(check_may_sign(review, "alice@corp.example", true), FailsWith(Reason::kApprovalDuplicate));
  value_of(world.deny(open.id, "bob"));
  review = reviewed(world, open.id);
  EXPECT_THAT(check_may_sign(review, "dana@corp.example", true), FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(render_review(review, world.now), HasSubstr("Nothing is to be signed here"));
}

TEST(ApproverSign, SignsOnlyWhatWasShown) {
  RecordScenario world;
  const OpenCase open = world.request({}), other = world.request({});
  const Review shown = reviewed(world, open.id);
  EXPECT_THAT(check_unchanged(shown, reviewed(world, open.id)), Succeeds());
  value_of(world.approve(open.id, "alice"));  // more signatures change nothing of it
  EXPECT_THAT(check_unchanged(shown, reviewed(world, open.id)), Succeeds());
  EXPECT_THAT(check_unchanged(shown, reviewed(world, other.id)), FailsWith(Reason::kApprovalOtherDecision));
  Review changed = shown;
  changed.to_sign = crypto::sha256(as_bytes("another decision"));
  EXPECT_THAT(check_unchanged(shown, changed), FailsWith(Reason::kApprovalOtherDecision));
  value_of(world.deny(open.id, "bob"));
  EXPECT_THAT(check_unchanged(shown, reviewed(world, open.id)), FailsWith(Reason::kCaseDenied));
}

TEST(ApproverSign, SignsNoMachineUnderAnotherPolicyThanWasShown) {
  // An approval of an enrolment names no policy: what is signed stays the same when the policy changes.
  RecordScenario world;
  SoftTpm tpm;
  const CaseId id = crypto::random_case_id();
  value_of(world.append(Kind::kEnrolmentRequested, id, world.enrolment_request(tpm, {}, id)));
  const Review shown = reviewed(world, id);
  value_of(world.change_policy(
      [](test::SamplePolicy& policy) { policy.rule("us-oncall-to-user-db").duration = "10m"; }));
  const Review found = reviewed(world, id);
  EXPECT_EQ(found.to_sign, shown.to_sign);
  EXPECT_THAT(check_unchanged(shown, found), FailsWith(Reason::kPolicyChanged));
}

TEST(ApproverSign, IsConfirmedByWhatAReviewShows) {
  RecordScenario world;
  const OpenCase open = world.request({});
  const Review review = reviewed(world, open.id);
  const std::string whole = to_hex(review.to_sign), groups = decision_groups(review.to_sign);
  EXPECT_THAT(render_review(review, world.now), HasSubstr("decision " + groups + "\n"));
  for (const std::string& good :
       {whole, whole.substr(0, 16), whole.substr(0, 17), groups, " " + groups + "\n"})
    EXPECT_TRUE(names_decision(good, review.to_sign)) << good;
  std::string other = whole;
  other[0] = other[0] == '0' ? '1' : '0';
  for (const std::string& bad : {std::string{}, whole.substr(0, 15), groups.substr(0, 18), whole.substr(1),
                                 other, whole + "0", to_hex(open.id), std::string(16, ' ')})
    EXPECT_FALSE(names_decision(bad, review.to_sign)) << bad;
}

TEST(ApproverSign, SignsNothingInARevokedCase) {
  RecordScenario world;
  const OpenCase open = world.request({});
  value_of(world.revoke(record::RevocationKind::kCase, to_hex(open.id)));
  EXPECT_THAT(check_may_sign(reviewed(world, open.id), "alice@corp.example", true),
              FailsWith(Reason::kRevoked));
}

struct EnrolmentCase {
  RecordScenario world;
  SoftTpm tpm;
  CaseId id = crypto::random_case_id();
  EnrolmentCase() {
    value_of(world.append(Kind::kEnrolmentRequested, id, world.enrolment_request(tpm, {}, id)));
  }
};

TEST(ApproverEnrolment, ShowsTheMachineAndItsMaker) {
  EnrolmentCase enrolment;
  const Review review = reviewed(enrolment.world, enrolment.id);
  ASSERT_TRUE(review.enrolment.has_value());
  EXPECT_EQ(review.to_sign, enrolment.world.state.cases.at(enrolment.id).to_approve);
  const std::string screen = render_review(review, enrolment.world.now);
  EXPECT_THAT(screen, HasSubstr("enrol \"laptop\" as a machine of region us"));
  EXPECT_THAT(screen, HasSubstr(to_hex(enrolment.tpm.device())));
  EXPECT_THAT(screen, HasSubstr("certificate chain to a root of the policy"));
  EXPECT_FALSE(review.enrolment->endorsement.manufacturer.empty());
  EXPECT_THAT(check_may_sign(review, "erin@corp.example", false),
              FailsWith(Reason::kApprovalSelf));  // she asked
}

TEST(ApproverEnrolment, SaysLoudlyWhatAnEnrolmentAgainReplacesAndWhatDiffers) {
  RecordScenario world;
  SoftTpm& tpm = world.machine("laptop");
  value_of(world.revoke(record::RevocationKind::kRetired, to_hex(tpm.device())));
  tpm.clock.reset_count = 1;
  tpm.extend(0, crypto::sha256(as_bytes("new firmware")));
  const CaseId id = crypto::random_case_id();
  RecordScenario::EnrolStep step;
  step.machine = "tower";
  value_of(world.append(Kind::kEnrolmentRequested, id, world.enrolment_request(tpm, step, id)));
  const Review review = reviewed(world, id);
  const std::string screen = render_review(review, world.now);
  EXPECT_THAT(screen, HasSubstr("RE-ENROLMENT: replaces \"laptop\", which is RETIRED"));
  EXPECT_THAT(screen, HasSubstr("name: \"laptop\" → \"tower\""));
  EXPECT_THAT(screen, HasSubstr("counters went BACK: resetCount 7 → 1"));
  EXPECT_THAT(screen, HasSubstr("baseline: PCRs "));
  EXPECT_THAT(screen, Not(HasSubstr("region: ")));
  EXPECT_THAT(screen, HasSubstr(to_hex(view(evidence::name_of(*tpm.identity_key))).substr(4, 16)));
  const Bytes json = record::json::encode_canonical(review_json(review));
  EXPECT_THAT(std::string{as_text(json)}, HasSubstr("\"retired\":true"));
  EXPECT_THAT(std::string{as_text(json)}, HasSubstr("counters went BACK: resetCount 7 → 1"));
  EnrolmentCase fresh;
  EXPECT_THAT(render_review(reviewed(fresh.world, fresh.id), fresh.world.now), Not(HasSubstr("RE-ENROL")));
}

TEST(ApproverEnrolment, TheRightTpmAnswersTheChallengeAndNoOther) {
  EnrolmentCase enrolment;
  const Review review = reviewed(enrolment.world, enrolment.id);
  const auto bytes = crypto::random_array<32>();
  const SecretBytes secret{ByteView{bytes}};
  const CredentialChallenge asked = value_of(make_challenge(review, secret, crypto::random_array<64>()));

  // What the machine does with it: each part comes with its TPM2B size in front.
  const auto strip = [](const Bytes& tpm2b) {
    EXPECT_EQ(tpm2b.size(), 2u + (std::size_t{tpm2b[0]} << 8 | tpm2b[1]));
    return Bytes(tpm2b.begin() + 2, tpm2b.end());
  };
  const evidence::CredentialBlob blob{strip(asked.challenge.blob), strip(asked.challenge.secret)};
  const Bytes opened = value_of(enrolment.tpm.activate_credential(blob));
  Bytes message = to_bytes(as_bytes(std::string_view{"sallyport/enrol/v1\0", 19}));
  const ByteView digest = view(review.opening_digest);
  message.insert(message.end(), digest.begin(), digest.end());
  const Digest256 answer = crypto::hmac_sha256(opened, message);
  EXPECT_THAT(check_answer(asked, to_hex(answer)), Succeeds());

  SoftTpm other;
  EXPECT_THAT(other.activate_credential(blob), FailsWith(Code::kUnverified));
  for (const std::string& wrong :
       {std::string{}, to_hex(answer).substr(2), to_hex(crypto::hmac_sha256(opened, digest)),
        to_hex(crypto::sha256(opened))})
    EXPECT_THAT(check_answer(asked, wrong), FailsWith(Reason::kCredentialChallenge)) << wrong;
}

TEST(ApproverEnrolment, RefusesATpmOfAnUnknownVendor) {
  RecordScenario world;
  const test::TestVendor stranger;
  SoftTpm tpm;
  const CaseId id = crypto::random_case_id();
  RecordScenario::EnrolStep step;
  step.edit_blobs = [&](std::vector<Blob>& blobs) {
    std::erase_if(blobs, [](const Blob& blob) { return blob.type == EvidenceType::kEkCertificate; });
    blobs.push_back({EvidenceType::kEkCertificate, stranger.issue_ek(tpm.ek().key)});
  };
  world.broker_is_rooted = true;
  value_of(world.append(Kind::kEnrolmentRequested, id, world.enrolment_request(tpm, step, id)));
  EXPECT_THAT(check(world, file_of(world, id)), FailsWith(Reason::kEkChain));
}

TEST(ApproverEnrolment, ApprovalsByTwoClausesEnrol) {
  EnrolmentCase enrolment;
  for (const char* name : {"frank", "grace"})
    EXPECT_THAT(enrolment.world.append(Kind::kApproval, enrolment.id,
                                       value_of(sign(enrolment.world, enrolment.id, name))),
                Succeeds());
  EXPECT_THAT(enrolment.world.append(value_of(record::compose_enrolment(
                  enrolment.world.state, enrolment.id, enrolment.world.now, crypto::random_nonce()))),
              Succeeds());
}

// propose makes version 2, with another duration.
CaseId propose(RecordScenario& world, const std::function<void(record::PolicyProposed&)>& edit = {}) {
  const CaseId id = crypto::random_case_id();
  world.company.policy.version = 2;
  world.company.policy.previous = world.policy().policy.digest;
  world.company.policy.rule("us-oncall-to-user-db").duration = "30m";
  value_of(world.append(Kind::kPolicyProposed, id, world.proposal(id, "grace", edit)));
  return id;
}

TEST(ApproverPolicy, ShowsWhatChangesAndTheVeryText) {
  RecordScenario world;
  const CaseId id = propose(world);
  const Review review = reviewed(world, id);
  ASSERT_TRUE(review.change.has_value());
  EXPECT_EQ(review.to_sign, world.state.cases.at(id).to_approve);
  const std::string screen = render_review(review, world.now);
  EXPECT_THAT(screen, HasSubstr("policy version 2 in place of 1"));
  EXPECT_THAT(screen, HasSubstr("us-oncall-to-user-db   duration 15 min → 30 min"));
  EXPECT_THAT(screen, HasSubstr("3 of security"));
  ASSERT_EQ(review.pieces.size(), 2u);
  EXPECT_EQ(as_text(review.pieces[0].blob.bytes), world.company.policy.toml());
  EXPECT_EQ(value_of(render_piece(review.pieces[0])), world.company.policy.toml());
}

TEST(ApproverPolicy, ApprovalsByTheChangeQuorumPutItInForce) {
  RecordScenario world;
  const CaseId id = propose(world);
  for (const char* name : {"grace", "heidi", "judy"})
    EXPECT_THAT(world.append(Kind::kApproval, id, value_of(sign(world, id, name))), Succeeds());
  EXPECT_THAT(
      world.append(value_of(record::compose_policy(world.state, id, world.now, crypto::random_nonce()))),
      Succeeds());
  EXPECT_EQ(world.policy().policy.version, 2u);
  EXPECT_THAT(check(world, file_of(world, id)), FailsWith(Reason::kCaseClosed));  // it does not follow itself
}

TEST(ApproverPolicy, RefusesATextThatWasNotSigned) {
  RecordScenario world;
  world.broker_is_rooted = true;
  const CaseId id = propose(world, [](record::PolicyProposed& proposal) {
    proposal.digest = crypto::sha256(as_bytes("another text"));
  });
  EXPECT_THAT(check(world, file_of(world, id)), FailsWith(Reason::kPolicyInvalid));
}

TEST(ApproverPolicy, RefusesAProposalThatDoesNotFollowThePolicyInForce) {
  RecordScenario world;
  world.broker_is_rooted = true;
  const CaseId id = propose(world, [](record::PolicyProposed& proposal) { proposal.version = 3; });
  EXPECT_THAT(check(world, file_of(world, id)), FailsWith(Reason::kPolicyNotSuccessor));
}

class ApproverErasure : public ::testing::Test {
 protected:
  RecordScenario world{[](SampleCompany& company) {
    company.policy.erase = RecordScenario::kErase;
    company.policy.hold = "us-legal";
  }};
  CaseId old = world.granted().id;
  ApproverErasure() {
    world.advance(std::chrono::hours{10 * 24});
    value_of(world.revoke(record::RevocationKind::kPerson, "mallory"));  // time is what leaves say
  }
};

TEST_F(ApproverErasure, SaysThatItIsForEverAndWhatStays) {
  const CaseId id = value_of(world.propose_erasure({old}));
  const Review review = reviewed(world, id);
  ASSERT_TRUE(review.erasure.has_value());
  EXPECT_EQ(review.to_sign, world.state.cases.at(id).to_approve);
  const std::string screen = render_review(review, world.now);
  EXPECT_THAT(screen, HasSubstr("ERASE what is in 1 case, for ever"));
  EXPECT_THAT(screen, HasSubstr(to_hex(old)));
  EXPECT_THAT(screen, HasSubstr("\"older than the law allows\""));
  EXPECT_THAT(screen, HasSubstr("2 of security and 1 of privacy"));
  for (const char* name : {"grace", "heidi", "carol"})
    EXPECT_THAT(world.append(Kind::kApproval, id, value_of(sign(world, id, name))), Succeeds());
  EXPECT_THAT(world.append(value_of(compose_erasure(world.state, id, world.now, crypto::random_nonce()))),
              Succeeds());
}

TEST_F(ApproverErasure, RefusesWhatThePolicyOrAHoldForbids) {
  world.broker_is_rooted = true;
  const CaseId early = value_of(world.propose_erasure(
      {old}, [](record::ErasureProposed& one) { one.before = UnixMillis{one.before.get() + 3'600'000}; }));
  EXPECT_THAT(check(world, file_of(world, early)), FailsWith(Reason::kErasureNotDue));
  const CaseId id = value_of(world.propose_erasure({old}));
  EXPECT_THAT(check(world, file_of(world, id)), Succeeds());
  value_of(world.hold({old}));
  EXPECT_THAT(check(world, file_of(world, id)), FailsWith(Reason::kErasureHeld));
}

// Proposals and enrolments that a rooted broker made up: signed by another person's token, or by nobody's.
TEST(ApproverCheck, RefusesStatementsSignedByAnotherThanTheirPerson) {
  const crypto::PrivateKey stranger = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  RecordScenario world;
  world.broker_is_rooted = true;
  world.company.policy.version = 2;
  world.company.policy.previous = world.policy().policy.digest;
  SoftTpm tpm;
  for (const crypto::PrivateKey* token : {&world.company.token("heidi"), &stranger}) {
    for (const Kind kind : {Kind::kPolicyProposed, Kind::kEnrolmentRequested}) {
      const CaseId id = crypto::random_case_id();
      record::Submission submission =
          kind == Kind::kPolicyProposed ? world.proposal(id) : world.enrolment_request(tpm, {}, id);
      const record::Envelope envelope = value_of(record::parse_envelope(submission.envelope));
      submission.envelope = world.sign_payload(envelope.type, envelope.payload, *token);
      value_of(world.append(kind, id, submission));
      EXPECT_THAT(check(world, file_of(world, id)), FailsWith(Code::kUnverified)) << record::kind_name(kind);
    }
  }
}

TEST(ApproverConfirm, TakesTheIdOfThisCaseOnly) {
  const CaseId id = value_of(parse_case_id("7f3a90be000102030405060708090a0b"));
  EXPECT_TRUE(names_case("c-7f3a90be", id));
  EXPECT_TRUE(names_case("7f3a90be\n", id));
  EXPECT_TRUE(names_case("7f3a90be000102030405060708090a0b", id));
  EXPECT_FALSE(names_case("7f3a90bf", id));
  EXPECT_FALSE(names_case("c-7f3a90b", id));  // too little
  EXPECT_FALSE(names_case("", id));
  EXPECT_FALSE(names_case("c-", id));
  EXPECT_FALSE(names_case("7f3a90be000102030405060708090a0b00", id));
  EXPECT_FALSE(names_case("yes", id));
}

// Ceremony is a continuation as it goes from hand to hand, and what is judged of it.
struct Ceremony {
  RecordScenario world;
  record::ControlState before;
  record::Continuation made;
  record::LoadedPolicy next;
  explicit Ceremony(const RecordScenario::ContinueStep& step = {}, const char* revoked = nullptr)
      : before([&] {
          if (revoked != nullptr)
            value_of(world.revoke(record::RevocationKind::kPerson, SampleCompany::id(revoked)));
          return world.follower;
        }()),
        made(world.make_continuation(step)),
        next(value_of(record::load_policy(world.policy_document(), Origin{step.origin}, LeafIndex{0}))) {}
  Result<bool> judge(std::size_t approvals) const {
    record::Continuation so_far = made;
    so_far.approvals.resize(approvals);
    return judge_continuation(before, next, so_far, world.now);
  }
};

TEST(ApproverContinuation, CanBeSignedFromTheProposalOnUntilTheQuorumIsMet) {
  const Ceremony ceremony;
  EXPECT_FALSE(value_of(ceremony.judge(0)));  // neither proposing nor the first approval is refused
  EXPECT_FALSE(value_of(ceremony.judge(1)));
  EXPECT_FALSE(value_of(ceremony.judge(2)));
  EXPECT_TRUE(value_of(ceremony.judge(3)));
}

TEST(ApproverContinuation, AProposalThatNobodyApprovedIsJudgedByItself) {
  for (const auto& edit : std::vector<std::function<void(record::PolicyProposed&)>>{
           [](auto& one) { one.authority = "us.sallyport.corp.example/log/2"; },
           [](auto& one) { one.case_id = CaseId{}; },
           [](auto& one) { one.digest = crypto::sha256(as_bytes("another policy")); },
           [](auto& one) { one.previous = crypto::sha256(as_bytes("another policy")); },
           [](auto& one) { ++one.version; }})
    EXPECT_THAT(Ceremony({.edit_proposal = edit}).judge(0), FailsWith(Reason::kPolicyNotSuccessor));
  EXPECT_THAT(
      Ceremony({.edit_proposal = [](auto& one) { one.person = SampleCompany::id("alice"); }}).judge(0),
      FailsWith(Code::kUnverified));  // grace has signed it
  Ceremony forged;
  auto envelope = value_of(record::parse_envelope(forged.made.proposal));
  envelope.signatures.front().signature[40] ^= 1;
  forged.made.proposal = record::encode_envelope(envelope);
  EXPECT_THAT(forged.judge(0), FailsWith(Code::kUnverified));
  Ceremony approval;
  approval.made.proposal = approval.made.approvals.front();
  EXPECT_THAT(approval.judge(0), FailsWith(Code::kMalformed));
  EXPECT_THAT(Ceremony({}, "grace").judge(0), FailsWith(Reason::kRevoked));
}

TEST(ApproverContinuation, CarriesWhatBecameOfMachines) {
  RecordScenario world;
  test::SoftTpm& back = world.machine("back");
  const DeviceId pooled = world.machine("pooled").device(), lost = world.machine("lost").device();
  value_of(world.revoke(record::RevocationKind::kRetired, to_hex(back.device())));
  value_of(world.enrol(back, {.machine = "back"}));
  const record::ControlState all_live = world.follower;
  value_of(world.revoke(record::RevocationKind::kRetired, to_hex(pooled)));
  value_of(world.revoke(record::RevocationKind::kLost, to_hex(lost)));
  const record::ControlState before = world.follower;
  record::Continuation made = world.make_continuation({});
  const record::LoadedPolicy next = value_of(record::load_policy(
      world.policy_document(), Origin{RecordScenario::ContinueStep{}.origin}, LeafIndex{0}));
  made = value_of(record::parse_continuation(record::encode_continuation(made)));
  EXPECT_TRUE(value_of(judge_continuation(before, next, made, world.now)));
  const record::ControlState carried = value_of(record::parse_control(made.state));
  EXPECT_TRUE(carried.find_retired(pooled).has_value());
  EXPECT_TRUE(carried.find_lost(lost).has_value());
  EXPECT_FALSE(carried.is_revoked(back.device()));
  // Nobody's signature is on a state in which they are live still.
  made.state = record::encode_control(all_live);
  EXPECT_THAT(judge_continuation(before, next, made, world.now), FailsWith(Reason::kTrustAnchor));
}

// Fleet is machines that wait to be enrolled, a case each.
struct Fleet {
  RecordScenario world;
  std::vector<SoftTpm> tpms;
  std::vector<CaseId> cases;

  explicit Fleet(std::size_t machines) : tpms(machines) {
    for (std::size_t i = 0; i < machines; ++i) add(tpms[i], {.machine = "laptop-" + std::to_string(i)});
  }
  void add(SoftTpm& tpm, const RecordScenario::EnrolStep& step) {
    cases.push_back(crypto::random_case_id());
    value_of(world.append(Kind::kEnrolmentRequested, cases.back(),
                          world.enrolment_request(tpm, step, cases.back())));
  }
  std::vector<Review> reviews() const {
    std::vector<Review> out;
    for (const CaseId& id : cases) out.push_back(reviewed(world, id));
    return out;
  }
  MachineList list() const { return value_of(make_machine_list(reviews())); }
};

TEST(ApproverList, OneSignatureIsWhatEachCaseTakes) {
  Fleet fleet{3};
  for (const char* name : {"frank", "grace"}) {
    const record::Submission signed_list =
        value_of(sign_list(fleet.list(), fleet.world.origin(), signer_of(fleet.world, name),
                           crypto::random_nonce(), fleet.world.now));
    for (const CaseId& id : fleet.cases)
      EXPECT_THAT(fleet.world.append(Kind::kListApproval, id, signed_list), Succeeds());
  }
  for (const CaseId& id : fleet.cases) {
    const Review review = reviewed(fleet.world, id);
    ASSERT_EQ(review.signed_by.size(), 2u);
    EXPECT_EQ(review.signed_by[0].person, "frank@corp.example");
    EXPECT_EQ(review.signed_by[0].group, "fleet");
    EXPECT_TRUE(review.progress.met);
    EXPECT_THAT(fleet.world.append(value_of(record::compose_enrolment(fleet.world.state, id, fleet.world.now,
                                                                      crypto::random_nonce()))),
                Succeeds());
  }
  for (const SoftTpm& tpm : fleet.tpms) EXPECT_NE(fleet.world.follower.find_device(tpm.device()), nullptr);
}

TEST(ApproverList, IsOfSeveralMachinesEachOnce) {
  Fleet fleet{2};
  const auto make = [](std::vector<Review> reviews) { return make_machine_list(std::move(reviews)); };
  std::vector<Review> reviews = fleet.reviews();
  EXPECT_THAT(make({}), FailsWith(Reason::kUsage));
  EXPECT_THAT(make({reviews[0]}), FailsWith(Reason::kUsage));
  EXPECT_THAT(make({reviews[0], reviews[0]}), FailsWith(Reason::kUsage));
  EXPECT_THAT(make(std::vector<Review>(65, reviews[0])), FailsWith(Reason::kUsage));
  EXPECT_THAT(make({reviews[1], reviews[0]}), Succeeds());
  // Two cases of one machine; a case of another kind; another policy meanwhile.
  fleet.add(fleet.tpms[0], {.machine = "again"});
  EXPECT_THAT(make(fleet.reviews()), FailsWith(Reason::kUsage));
  const OpenCase access = fleet.world.request({});
  EXPECT_THAT(make({reviews[0], reviewed(fleet.world, access.id)}), FailsWith(Reason::kUsage));
  value_of(fleet.world.change_policy({}));
  EXPECT_THAT(make({reviews[0], reviewed(fleet.world, fleet.cases[1])}), FailsWith(Reason::kPolicyChanged));
}

TEST(ApproverList, NoneOfTheCasesOfOneMachineIsTakenByItself) {
  Fleet fleet{3};
  std::vector<Review> reviews = fleet.reviews();
  EXPECT_THAT(take_rivals(reviews), testing::IsEmpty());
  EXPECT_EQ(reviews.size(), 3u);
  fleet.add(fleet.tpms[0], {.machine = "again"});
  const OpenCase access = fleet.world.request({});
  reviews = fleet.reviews();
  reviews.push_back(reviewed(fleet.world, access.id));  // of no machine
  const std::vector<Review> rivals = take_rivals(reviews);
  const auto ids = [](const std::vector<Review>& of) {
    std::vector<CaseId> out;
    for (const Review& one : of) out.push_back(one.case_id);
    return out;
  };
  EXPECT_EQ(ids(rivals), (std::vector{fleet.cases[0], fleet.cases[3]}));
  EXPECT_EQ(ids(reviews), (std::vector{fleet.cases[1], fleet.cases[2], access.id}));
}

TEST(ApproverList, ItsDigestIsOfTheCasesAndTheirStatementsInWhateverOrder) {
  Fleet fleet{3};
  std::vector<Review> reviews = fleet.reviews();
  const Digest256 all = list_digest(fleet.list());
  std::reverse(reviews.begin(), reviews.end());
  EXPECT_EQ(list_digest(value_of(make_machine_list(reviews))), all);
  reviews[0].to_sign = Digest256{};
  EXPECT_NE(list_digest(value_of(make_machine_list(reviews))), all);
  reviews.erase(reviews.begin());
  EXPECT_NE(list_digest(value_of(make_machine_list(reviews))), all);
  // The message as README.md has it.
  Bytes message = to_bytes(as_bytes(std::string_view{"sallyport/list/v1\0", 18}));
  for (const Review& one : value_of(make_machine_list(reviews)).machines) {
    message.insert(message.end(), view(one.case_id).begin(), view(one.case_id).end());
    message.insert(message.end(), view(one.to_sign).begin(), view(one.to_sign).end());
  }
  EXPECT_EQ(list_digest(value_of(make_machine_list(reviews))), crypto::sha256(message));
}

TEST(ApproverList, NothingIsSignedThatWasNotShownOrCannotCount) {
  Fleet fleet{3};
  const MachineList shown = fleet.list();
  MachineList found = shown;
  found.machines.pop_back();  // one that has not answered
  EXPECT_THAT(check_list_unchanged(shown, found), Succeeds());
  EXPECT_THAT(check_list_unchanged(found, shown), FailsWith(Reason::kApprovalOtherDecision));
  found.machines[0].to_sign = Digest256{};
  EXPECT_THAT(check_list_unchanged(shown, found), FailsWith(Reason::kApprovalOtherDecision));

  const auto sign_as = [&](const char* name) {
    return sign_list(fleet.list(), fleet.world.origin(), signer_of(fleet.world, name), crypto::random_nonce(),
                     fleet.world.now);
  };
  EXPECT_THAT(sign_as("alice"), FailsWith(Reason::kApprovalNotEligible));
  EXPECT_THAT(sign_as("erin"), FailsWith(Reason::kApprovalSelf));
  value_of(fleet.world.approve(fleet.cases[1], "grace"));
  const auto twice = sign_as("grace");
  EXPECT_THAT(twice, FailsWith(Reason::kApprovalDuplicate));
  EXPECT_THAT(twice.error().what, HasSubstr(to_hex(fleet.cases[1]).substr(0, 8)));
  value_of(fleet.world.deny(fleet.cases[2], "heidi"));
  EXPECT_THAT(sign_as("frank"), FailsWith(Reason::kCaseDenied));
  EXPECT_THAT(check_list_unchanged(shown, MachineList{fleet.reviews()}), FailsWith(Reason::kCaseDenied));
}

TEST(ApproverList, TheAnswerOfOneMachineIsNoOthers) {
  Fleet fleet{2};
  const std::vector<Review> reviews = fleet.reviews();
  std::vector<CredentialChallenge> asked;
  std::vector<std::string> answers;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto bytes = crypto::random_array<32>();
    asked.push_back(
        value_of(make_challenge(reviews[i], SecretBytes{ByteView{bytes}}, crypto::random_array<64>())));
    const auto strip = [](const Bytes& tpm2b) { return Bytes(tpm2b.begin() + 2, tpm2b.end()); };
    const Bytes opened = value_of(fleet.tpms[i].activate_credential(
        {strip(asked[i].challenge.blob), strip(asked[i].challenge.secret)}));
    Bytes message = to_bytes(as_bytes(std::string_view{"sallyport/enrol/v1\0", 19}));
    const ByteView digest = view(reviews[i].opening_digest);
    message.insert(message.end(), digest.begin(), digest.end());
    answers.push_back(to_hex(crypto::hmac_sha256(opened, message)));
  }
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_THAT(check_answer(asked[i], answers[i]), Succeeds());
    EXPECT_THAT(check_answer(asked[i], answers[1 - i]), FailsWith(Reason::kCredentialChallenge));
  }
}

TEST(ApproverList, ShowsEachMachineAndWhatDiffersFromTheOthers) {
  Fleet fleet{3};
  SoftTpm odd{crypto::KeyAlgorithm::kRsa2048, crypto::KeyAlgorithm::kRsa2048};
  fleet.add(odd, {.machine = "odd", .region = "cn"});
  fleet.add(fleet.world.machine("known"), {.machine = "known-again"});
  const MachineList list = fleet.list();
  const std::string screen = render_list(list, fleet.world.now);
  for (const char* text :
       {"sign once, for 5 machines", "erin@corp.example · us · team sre · asks for 5", "\"laptop-0\"",
        "\"laptop-2\"", "as enrolled", "differs region: cn, most have us",
        "differs AK: rsa2048, most have p256", "RE-ENROLMENT: replaces \"known\"",
        "differs name: \"known\" → \"known-again\"", "5 machines, 1 of them enrolled already",
        "0 with a boot that is not accepted", "1 × cn, 4 × us", "1 of fleet and 1 of security for each"})
    EXPECT_THAT(screen, HasSubstr(text));
  for (const Review& one : list.machines) {
    EXPECT_THAT(screen, HasSubstr("c-" + to_hex(one.case_id).substr(0, 8)));
    EXPECT_THAT(screen, HasSubstr(one.enrolment->endorsement.root));
    EXPECT_FALSE(one.enrolment->endorsement.root.empty());
  }
  EXPECT_THAT(screen, HasSubstr("list " + decision_groups(list_digest(list)) + "\n"));
  EXPECT_THAT(screen, Not(HasSubstr("CAREFUL EK")));
  MachineList old = list;
  old.machines[0].enrolment->endorsement.oddities = {evidence::EkOddity::kExpired};
  EXPECT_THAT(render_list(old, fleet.world.now), HasSubstr("CAREFUL EK certificate: "));
  const std::string json{as_text(record::json::encode_canonical(list_json(list)))};
  EXPECT_THAT(json, HasSubstr("\"list\":\"" + to_hex(list_digest(list)) + "\""));
  EXPECT_THAT(json, HasSubstr("\"ak_algorithm\":\"rsa2048\""));
}

TEST(ApproverList, ShowsWhoAsksForWhatRegionAndWhereANameEnds) {
  Fleet fleet{2};
  SoftTpm foreign, hostile;
  fleet.add(foreign, {.machine = "away", .region = "us", .person = "wei"});  // of region cn
  fleet.add(hostile, {.machine = "web-1\"  us  as enrolled"});
  const MachineList list = fleet.list();
  const std::string screen = render_list(list, fleet.world.now);
  EXPECT_THAT(screen, HasSubstr("CAREFUL region us (NOT the region of the person who asks)"));
  EXPECT_THAT(screen, HasSubstr("differs who: wei@corp.example, most have erin@corp.example"));
  EXPECT_THAT(screen, HasSubstr("\"web-1\\\" \\u{20}us \\u{20}as enrolled\""));
  EXPECT_THAT(screen, HasSubstr(to_hex(foreign.device()).substr(0, 16)));
  MachineList virtual_one = list;
  virtual_one.machines[1].enrolment->endorsement.oddities = {evidence::EkOddity::kGoogleInstance};
  EXPECT_THAT(render_list(virtual_one, fleet.world.now), HasSubstr("its host vouches for the TPM"));
}

TEST(ApproverList, CasesAreNamedOrAllAreMeant) {
  const auto typed = [](std::vector<std::string> words) {
    namespace po = boost::program_options;
    po::options_description flags;
    approve_flags(flags);
    list_flags(flags);
    po::positional_options_description positional;
    positional.add("case", -1);
    Arguments arguments;
    po::store(po::command_line_parser(words).options(flags).positional(positional).run(), arguments.values);
    return typed_cases(arguments);
  };
  EXPECT_THAT(value_of(typed({"c-1", "c-2"})), testing::ElementsAre("c-1", "c-2"));
  EXPECT_THAT(value_of(typed({"--enrolments"})), testing::IsEmpty());
  EXPECT_THAT(typed({}), FailsWith(Reason::kUsage));
  EXPECT_THAT(typed({"c-1", "--enrolments"}), FailsWith(Reason::kUsage));
  EXPECT_THAT(typed(std::vector<std::string>(64, "c-1")), Succeeds());
  EXPECT_THAT(typed(std::vector<std::string>(65, "c-1")), FailsWith(Reason::kUsage));
}

}  // namespace
}  // namespace sallyport::client::approver

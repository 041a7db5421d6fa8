// Boots that are judged by their events, from the request to the door and the snapshot: what a policy's
// reference values do to the fold and the dossier.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/crypto/random.h"
#include "attestation/record/ahead.h"
#include "attestation/record/dossier.h"
#include "attestation/record/snapshot.h"
#include "tests/support/boot_log.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::record {
namespace {

using test::BootLog;
using test::FailsWith;
using test::OpenCase;
using test::RecordScenario;
using test::SampleCompany;
using test::SamplePolicy;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;
using testing::HasSubstr;
using RequestStep = RecordScenario::RequestStep;

const std::vector<std::string> kApproverMachines{"alice-laptop", "bob-laptop", "dana-laptop"};

// A company whose policy accepts one boot, and whose machines boot so.
class Booted : public testing::Test {
 protected:
  Booted()
      : world([](SampleCompany& company) {
          company.policy.references = BootLog::document({BootLog::good().reference("6.1")});
        }) {
    boot("laptop", BootLog::good());
    for (const std::string& name : kApproverMachines) boot(name, BootLog::good());
  }
  void boot(const std::string& machine, const BootLog& log) { log.boot(world.machine(machine)); }
  // unboot starts a machine as it was when it was enrolled: without a log.
  void unboot(const std::string& machine) {
    SoftTpm& tpm = world.machine(machine);
    tpm.reset();
    tpm.pcrs = SoftTpm{}.pcrs;
    tpm.event_log = {};
  }
  void accept(std::vector<evidence::Reference> references, bool as_enrolled = false) {
    value_of(world.change_policy([&](SamplePolicy& policy) {
      policy.references = BootLog::document(std::move(references), as_enrolled, 2);
    }));
  }
  void expect_refused(const RequestStep& step, Reason reason, const std::string& words = {}) {
    const OpenCase open = world.request(step);
    const Case& one = world.state.cases.at(open.id);
    ASSERT_TRUE(one.refusable.has_value()) << "not refused";
    EXPECT_EQ(reason_name(*one.refusable), reason_name(reason)) << one.detail;
    EXPECT_THAT(one.detail, HasSubstr(words));
    const Entry refusal = value_of(compose_refusal(world.state, open.id, world.now, crypto::random_nonce()));
    EXPECT_THAT(world.append(refusal), Succeeds());
  }

  RecordScenario world;
};

TEST_F(Booted, AreGrantedWithTheLogOfAGoodBoot) {
  const OpenCase open = world.granted();
  const Dossier full = world.dossier(open);
  EXPECT_THAT(verify_dossier(full, world.follower, world.now), Succeeds());
  const Dossier travel = to_travel(full);
  EXPECT_THAT(verify_dossier(travel, world.follower, world.now), Succeeds());
  const auto is_log = [](const Blob& blob) { return blob.type == EvidenceType::kEventLog; };
  EXPECT_EQ(std::ranges::count_if(full.blobs, is_log),
            1);  // four machines with one boot: the same bytes once
  EXPECT_EQ(std::ranges::count_if(travel.blobs, is_log), 0);
  // The full form without the log proves nothing, and a travel form with it is none.
  Dossier without = full;
  std::erase_if(without.blobs, is_log);
  EXPECT_THAT(verify_dossier(without, world.follower, world.now), FailsWith(Reason::kLogMissingBody));
  Dossier with = full;
  with.form = DossierForm::kTravel;
  EXPECT_THAT(verify_dossier(with, world.follower, world.now), FailsWith(Reason::kLogMissingBody));
}

TEST_F(Booted, AreRefusedByTheEventThatIsNotExpected) {
  boot("laptop", BootLog::good("firmware 1.0", "rootkit"));
  expect_refused({}, Reason::kBootEvent, "of PCR 4");
  boot("laptop", BootLog::good("firmware 1.0", "kernel 6.1", 0));
  expect_refused({}, Reason::kBootEvent, "of PCR 7");
  boot("laptop", BootLog::good());
  EXPECT_THAT(world.grant(world.granted()), FailsWith(Reason::kGrantExists));
}

// What was judged ahead is judged the same, with another machine's quote, and when references end or change.
TEST_F(Booted, AreJudgedAheadAsWithoutIt) {
  const auto ahead = [this](const Entry& entry, RecentlyVerified& recent) {
    const Claims claims = claims_of(world.state, value_of(open_entry(entry)));
    EXPECT_EQ(claims.logs.size(), 1u);
    const VerifiedAhead known = recent.known(claims);
    VerifiedAhead verified = verify_ahead(claims, known);
    EXPECT_EQ(verified.logs.size(), 1u);
    recent.add(verified);
    world.state.control.remember(std::make_shared<const VerifiedAhead>(std::move(verified)));
    return known.logs.size();
  };
  // outcome tells what becomes of a request, and whether its log was known before.
  RecentlyVerified recent;
  const auto outcome = [&](const RequestStep& step) {
    const OpenCase open = world.make_request(step);
    const Entry entry = world.entry(Kind::kRequest, open.id, open.submission);
    const std::size_t known = ahead(entry, recent);
    EXPECT_THAT(world.append(entry), Succeeds());
    world.state.control.remember(nullptr);
    const Case& one = world.state.cases.at(open.id);
    return std::pair{known, one.refusable ? std::string{reason_name(*one.refusable)} + ": " + one.detail
                                          : std::string{"good"}};
  };
  EXPECT_EQ(outcome({}), std::pair(std::size_t{0}, std::string{"good"}));
  EXPECT_EQ(outcome({}), std::pair(std::size_t{1}, std::string{"good"}));
  EXPECT_EQ(outcome({.machine = "alice-laptop"}).first, 1u);  // the same boot, whoever's

  // A log that was accepted says nothing of a machine that has booted otherwise.
  boot("laptop", BootLog::good("firmware 1.0", "rootkit"));
  const auto old_log = [](std::vector<Blob>& blobs) {
    std::erase_if(blobs, [](const Blob& blob) { return blob.type == EvidenceType::kEventLog; });
    blobs.push_back({EvidenceType::kEventLog, BootLog::good().encode()});
  };
  const auto other = outcome({.edit_blobs = old_log});
  EXPECT_EQ(other.first, 1u);
  EXPECT_THAT(other.second, HasSubstr(std::string{reason_name(Reason::kEventLogReplay)}));
  // One that was refused is judged each time, with the same words.
  const auto refused = outcome({});
  EXPECT_THAT(refused.second, HasSubstr(std::string{reason_name(Reason::kBootEvent)}));
  EXPECT_EQ(outcome({}), std::pair(std::size_t{0}, refused.second));

  // Under other reference values it is another judgement.
  accept({BootLog::good("firmware 2").reference("new")});
  boot("laptop", BootLog::good());
  const auto later = outcome({});
  EXPECT_EQ(later.first, 0u);
  EXPECT_THAT(later.second, HasSubstr(std::string{reason_name(Reason::kBootEvent)}));
}

TEST_F(Booted, AreRefusedWithoutTheirLogOrWithAnother) {
  const auto with = [](Bytes log) {
    return RequestStep{.edit_blobs = [log](std::vector<Blob>& blobs) {
      std::erase_if(blobs, [](const Blob& blob) { return blob.type == EvidenceType::kEventLog; });
      if (!log.empty()) blobs.push_back({EvidenceType::kEventLog, log});
    }};
  };
  expect_refused(with({}), Reason::kEventLogMissing);
  boot("laptop", BootLog::good("firmware 1.0", "rootkit"));
  expect_refused(with(BootLog::good().encode()), Reason::kEventLogReplay);
  expect_refused(with(Bytes{1, 2, 3}), Reason::kEventLogForm);
  // Events after the quote, and none.
  boot("laptop", BootLog::good());
  expect_refused(with(BootLog::good().image(4, "more").encode()), Reason::kEventLogReplay);
}

TEST_F(Booted, SendOneLog) {
  RequestStep step;
  step.edit_blobs = [](std::vector<Blob>& blobs) {
    blobs.push_back({EvidenceType::kEventLog, BootLog::good("another").encode()});
  };
  const OpenCase open = world.make_request(step);
  EXPECT_THAT(world.append(Kind::kRequest, open.id, open.submission), FailsWith(Code::kMalformed));
}

TEST_F(Booted, ApproversAreAttestedInAGoodBootOnly) {
  const OpenCase open = world.request({});
  boot("alice-laptop", BootLog::good("firmware 1.0", "rootkit"));
  EXPECT_THAT(world.approve(open.id, "alice"), FailsWith(Reason::kBootEvent));
  boot("alice-laptop", BootLog::good());
  EXPECT_THAT(world.approve(open.id, "alice"), Succeeds());
}

TEST_F(Booted, AnUpdateIsAcceptedOnceThePeopleHaveSaidSo) {
  const BootLog update = BootLog::good("firmware 1.1", "kernel 6.6");
  boot("laptop", update);
  expect_refused({}, Reason::kBootEvent);
  accept({BootLog::good().reference("6.1"), update.reference("6.6")});
  EXPECT_THAT(verify_dossier(world.dossier(world.granted()), world.follower, world.now), Succeeds());
  boot("laptop", BootLog::good());
  world.granted();  // both are valid
  accept({update.reference("6.6")});
  expect_refused({}, Reason::kBootEvent);
}

TEST_F(Booted, AReferenceEndsOnItsDay) {
  evidence::Reference ends = BootLog::good().reference("6.1");
  ends.not_after = UnixMillis{world.now.get() / 86'400'000 * 86'400'000 + 86'400'000};
  accept({ends});
  world.granted();
  world.advance(std::chrono::hours{24});
  expect_refused({}, Reason::kReferenceExpired);
}

TEST_F(Booted, ApprovalsAreVoidWhenTheBootIsNoLongerAccepted) {
  const OpenCase open = world.request({});
  world.approve_all(open);
  accept({BootLog::good("firmware 2").reference("new")});
  EXPECT_THAT(world.grant(open), FailsWith(Reason::kBootEvent));
}

TEST_F(Booted, TheEnrolledBootIsOneReferenceOfSeveral) {
  unboot("laptop");
  expect_refused({}, Reason::kEventLogMissing);
  accept({BootLog::good().reference("6.1")}, true);
  world.granted();
  boot("laptop", BootLog::good());
  world.granted();
}

TEST_F(Booted, AnEnrolmentShowsItsLogAndOnlyATrueOne) {
  SoftTpm tpm;
  BootLog::good("firmware 9").boot(tpm);
  EXPECT_THAT(world.enrol(tpm, {.machine = "new"}), Succeeds());  // it gets nothing, but it is known
  SoftTpm other;
  BootLog::good().boot(other);
  other.event_log = BootLog::good("firmware 9").encode();
  EXPECT_THAT(world.enrol(other, {.machine = "liar"}), FailsWith(Reason::kEventLogReplay));
}

TEST_F(Booted, ReferencesTravelWithTheirPolicy) {
  EXPECT_EQ(world.policy().references.references.front().id, "6.1");
  PolicyDocument document = world.policy_document();
  const auto load = [&] { return load_policy(document, world.origin(), LeafIndex{0}); };
  EXPECT_THAT(load(), Succeeds());
  document.references->back() = '#';
  EXPECT_THAT(load(), FailsWith(Reason::kPolicyInvalid));
  document.references.reset();
  EXPECT_THAT(load(), FailsWith(Reason::kPolicyInvalid));
  SamplePolicy none = world.company.policy;
  const Bytes text = *world.policy_document().references;
  none.references.clear();
  document.text = to_bytes(as_bytes(none.toml()));
  EXPECT_THAT(load(), Succeeds());
  document.references = text;
  EXPECT_THAT(load(), FailsWith(Reason::kPolicyInvalid));
  SamplePolicy broken = world.company.policy;
  broken.references = "version = 1\n";
  document.text = to_bytes(as_bytes(broken.toml()));
  document.references = to_bytes(as_bytes(broken.references));
  EXPECT_THAT(load(), FailsWith(Reason::kReferenceInvalid));
}

TEST_F(Booted, APolicyIsProposedWithItsReferencesOnly) {
  world.company.policy.version = 2;
  world.company.policy.previous = world.policy().policy.digest;
  const CaseId id = crypto::random_case_id();
  Submission proposal = world.proposal(id);
  const auto log = Blob{EvidenceType::kEventLog, BootLog::good().encode()};
  proposal.blobs.push_back(log);
  EXPECT_THAT(world.append(Kind::kPolicyProposed, id, proposal), FailsWith(Code::kMalformed));
  proposal.blobs.pop_back();
  std::erase_if(proposal.blobs, [](const Blob& blob) { return blob.type == EvidenceType::kReferences; });
  EXPECT_THAT(world.append(Kind::kPolicyProposed, id, proposal), FailsWith(Reason::kPolicyInvalid));
}

TEST_F(Booted, StatesHaveTheReferencesOnce) {
  const std::size_t before = encode_control(world.follower).size();
  value_of(world.change_policy([](SamplePolicy& policy) { policy.revoke = "security"; }));
  const Bytes bytes = encode_control(world.follower);
  EXPECT_LT(bytes.size(), before + world.policy().policy.text.size() + 1024);
  const ControlState back = value_of(parse_control(bytes));
  EXPECT_EQ(encode_control(back), bytes);
  EXPECT_EQ(back.policy()->references.references.front().id, "6.1");
  EXPECT_EQ(back.policy_at(LeafIndex{1})->reference_text,
            world.follower.policy_at(LeafIndex{1})->reference_text);
}

TEST_F(Booted, APolicyMayWantOtherPcrs) {
  evidence::ReferenceValues values;
  values.version = 2;
  values.selection = value_of(
      evidence::PcrSelection::from_mask(evidence::PcrSelection::standard().mask() | 1u << 8 | 1u << 9));
  values.references = {BootLog::good().reference("6.1"),
                       evidence::ReferenceValues::as_enrolled().references[0]};
  value_of(world.change_policy(
      [&](SamplePolicy& policy) { policy.references = evidence::write_reference_values(values); }));
  world.granted();
  EXPECT_EQ(world.follower.find_device(world.machine("laptop").device())->baseline.selection,
            evidence::PcrSelection::standard());
  // A boot that was enrolled under another selection is no reference any more; one enrolled now is.
  unboot("laptop");
  expect_refused({}, Reason::kEventLogMissing);
  const DeviceId fresh = world.machine("fresh").device();
  EXPECT_EQ(world.follower.find_device(fresh)->baseline.selection, values.selection);
  world.granted({.machine = "fresh"});
  const Bytes bytes = encode_control(world.follower);
  const ControlState back = value_of(parse_control(bytes));
  EXPECT_EQ(encode_control(back), bytes);
  EXPECT_EQ(back.find_device(fresh)->baseline, world.follower.find_device(fresh)->baseline);
  // A quote of the PCRs of before is refused.
  RequestStep step;
  step.edit_blobs = [&](std::vector<Blob>& blobs) {
    for (Blob& blob : blobs) {
      if (blob.type != EvidenceType::kQuote) continue;
      QuoteEvidence quote = value_of(parse_quote_evidence(blob.bytes));
      quote.pcrs.pop_back();
      blob.bytes = encode(quote);
    }
  };
  expect_refused(step, Reason::kQuotePcrs);
}

}  // namespace
}  // namespace sallyport::record

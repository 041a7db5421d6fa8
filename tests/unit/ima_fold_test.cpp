// IMA lists with requests and approvals: what a policy that wants them does to the fold and the dossier, and
// that a memo of accepted lists changes no judgement.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "attestation/crypto/random.h"
#include "attestation/record/ahead.h"
#include "attestation/record/appraise.h"
#include "attestation/record/dossier.h"
#include "attestation/record/ima.h"
#include "attestation/record/snapshot.h"
#include "tests/support/ima_log.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::record {
namespace {

using evidence::ImaReference;
using test::FailsWith;
using test::ImaLog;
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

std::string document(std::optional<ImaReference::Terms> terms, std::uint64_t version = 1) {
  evidence::ReferenceValues values = evidence::ReferenceValues::as_enrolled();
  values.version = version;
  if (terms) values.ima = value_of(ImaReference::make(std::move(*terms)));
  return evidence::write_reference_values(values);
}

ImaReference::Terms allowing(std::string files) {
  ImaReference::Terms terms;
  terms.files = std::move(files);
  return terms;
}

ImaLog good() {
  return ImaLog::booted().file("/usr/bin/bash", "bash 5.2").file("/usr/bin/ssh", "ssh 9.2");
}
ImaLog bad() {
  return good().file("/tmp/rootkit \x1b[2J", "evil").file("/usr/bin/bash", "bash 5.2");
}

// A company whose policy says which files may run, and whose machines have run some.
class Measured : public testing::Test {
 protected:
  explicit Measured(ImaReference::Terms terms = allowing(good().allow_list()))
      : world([&](SampleCompany& company) { company.policy.references = document(terms); }) {
    run("laptop", good());
    for (const std::string& name : kApproverMachines) run(name, good());
  }
  // run boots a machine anew, and has it measure this.
  SoftTpm& run(const std::string& machine, const ImaLog& log) {
    SoftTpm& tpm = world.machine(machine);
    tpm.reset();
    tpm.pcrs = SoftTpm{}.pcrs;
    log.measure(tpm);
    return tpm;
  }
  void accept(std::optional<ImaReference::Terms> terms) {
    value_of(world.change_policy(
        [&](SamplePolicy& policy) { policy.references = document(std::move(terms), 2); }));
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
  static bool is_ima(const Blob& blob) {
    return blob.type == EvidenceType::kImaQuote || blob.type == EvidenceType::kImaList;
  }
  // with_quote lets a test change the quote of PCR 10 before it is sent.
  static RequestStep with_quote(std::function<void(ImaQuoteEvidence&)> edit) {
    RequestStep step;
    step.edit_blobs = [edit = std::move(edit)](std::vector<Blob>& blobs) {
      for (Blob& blob : blobs) {
        if (blob.type != EvidenceType::kImaQuote) continue;
        ImaQuoteEvidence quote = value_of(parse_ima_quote_evidence(blob.bytes));
        edit(quote);
        blob.bytes = encode(quote);
      }
    };
    return step;
  }
  // with_list sends another list beside a quote that lists its parts.
  static RequestStep with_parts(std::vector<Bytes> parts) {
    RequestStep step;
    step.edit_blobs = [parts = std::move(parts)](std::vector<Blob>& blobs) {
      std::erase_if(blobs, [](const Blob& blob) { return blob.type == EvidenceType::kImaList; });
      for (const Bytes& part : parts) blobs.push_back({EvidenceType::kImaList, part});
      for (Blob& blob : blobs) {
        if (blob.type != EvidenceType::kImaQuote) continue;
        ImaQuoteEvidence quote = value_of(parse_ima_quote_evidence(blob.bytes));
        quote.parts.clear();
        for (const Bytes& part : parts) quote.parts.push_back(crypto::sha256(part));
        blob.bytes = encode(quote);
      }
    };
    return step;
  }

  RecordScenario world;
};

TEST_F(Measured, AreGrantedWithTheirWholeList) {
  const OpenCase open = world.granted();
  const Dossier full = world.dossier(open);
  EXPECT_THAT(verify_dossier(full, world.follower, world.now), Succeeds());
  // Four machines measured the same: one list, and a quote of each.
  const auto count = [](const Dossier& dossier, EvidenceType type) {
    return std::ranges::count(dossier.blobs, type, &Blob::type);
  };
  EXPECT_EQ(count(full, EvidenceType::kImaList), 1);
  EXPECT_GE(count(full, EvidenceType::kImaQuote), 2);
  const Dossier travel = to_travel(full);
  EXPECT_TRUE(std::ranges::none_of(travel.blobs, is_ima));
  EXPECT_THAT(verify_dossier(travel, world.follower, world.now), Succeeds());
  // The full form without the list proves nothing, and a travel form with it is none.
  for (const EvidenceType type : {EvidenceType::kImaList, EvidenceType::kImaQuote}) {
    Dossier without = full;
    std::erase_if(without.blobs, [&](const Blob& blob) { return blob.type == type; });
    EXPECT_THAT(verify_dossier(without, world.follower, world.now), FailsWith(Reason::kLogMissingBody));
  }
  Dossier with = full;
  with.form = DossierForm::kTravel;
  EXPECT_THAT(verify_dossier(with, world.follower, world.now), FailsWith(Reason::kLogMissingBody));
}

TEST_F(Measured, TellHowEachFileWasExpected) {
  run("laptop", good().file("/usr/bin/ssh", "ssh 9.2"));
  const OpenCase open = world.request({});
  const Body body = value_of(parse_body(world.entries.back().body));
  const EvaluatedRequest judged =
      value_of(evaluate_request(world.follower, world.policy(), body, world.entries.back().blobs));
  ASSERT_TRUE(judged.ima.has_value());
  EXPECT_EQ(judged.ima->entries(), 4u);
  EXPECT_EQ(judged.ima->tally(), (evidence::ImaTally{.listed = 3, .signed_files = 0, .violations = 0}));
  EXPECT_EQ(judged.ima->extension(), evidence::ImaExtension::kOwnHash);
  // In the travel form nobody has judged it here.
  std::vector<Blob> travelling = world.entries.back().blobs;
  std::erase_if(travelling, [](const Blob& blob) { return !travels(blob.type); });
  EXPECT_FALSE(
      value_of(evaluate_request(world.follower, world.policy(), body, travelling, DossierForm::kTravel))
          .ima.has_value());
}

TEST_F(Measured, AreRefusedByTheFileThatIsNotExpected) {
  run("laptop", bad());
  expect_refused({}, Reason::kImaUnexpected, "entry 3, /tmp/rootkit \\x1b[2J (sha256:");
  run("laptop", good().file("/usr/bin/ssh", "ssh 9.2, with a back door"));
  expect_refused({}, Reason::kImaUnexpected, "entry 3, /usr/bin/ssh (sha256:");
  run("laptop", good().violation("/var/log/syslog"));
  expect_refused({}, Reason::kImaUnexpected, "a violation");
  run("laptop", good());
  world.granted();
}

TEST_F(Measured, AreRefusedWithoutTheirList) {
  world.machine("laptop").ima_list = {};
  expect_refused({}, Reason::kImaMissing);
  run("laptop", good());
  for (const EvidenceType type : {EvidenceType::kImaList, EvidenceType::kImaQuote}) {
    RequestStep step;
    step.edit_blobs = [type](std::vector<Blob>& blobs) {
      std::erase_if(blobs, [type](const Blob& blob) { return blob.type == type; });
    };
    expect_refused(step, Reason::kImaMissing);
  }
  // A travel form says as much of a request that had none: it is no way around the judgement.
  const OpenCase open =
      world.request({.edit_blobs = [](std::vector<Blob>& blobs) { std::erase_if(blobs, is_ima); }});
  const Body body = value_of(parse_body(world.entries.back().body));
  EXPECT_THAT(evaluate_request(world.follower, world.policy(), body, world.entries.back().blobs,
                               DossierForm::kTravel),
              FailsWith(Reason::kImaMissing));
}

TEST_F(Measured, AreRefusedWithAnotherListThanTheirKernels) {
  run("laptop", bad());
  // Without the entry; with the good list of another boot; with more than was measured; with an edited
  // digest.
  expect_refused(with_parts({good().bytes}), Reason::kImaReplay);
  expect_refused(with_parts({bad().file("/usr/bin/ssh", "ssh 9.2").bytes}), Reason::kImaReplay);
  Bytes edited = bad().bytes;
  edited.back() ^= 1;
  expect_refused(with_parts({edited}), Reason::kImaForm, "part 1, entry 4");
  ImaLog renamed = good().file("/usr/bin/ssh", "evil").file("/usr/bin/bash", "bash 5.2");
  expect_refused(with_parts({renamed.bytes}), Reason::kImaReplay);
  expect_refused(with_parts({to_bytes(ByteView{bad().bytes}.first(bad().bytes.size() - 1))}),
                 Reason::kImaForm);
}

TEST_F(Measured, SendTheQuoteThatWasAskedFor) {
  // Of another challenge, over other PCRs, of another boot, by another TPM, with another value.
  const auto quoted = [&](SoftTpm& tpm, const Digest256& binding, const evidence::PcrSelection& selection) {
    const evidence::SignedAttest made = tpm.quote(binding, selection);
    return with_quote([made](ImaQuoteEvidence& quote) {
      quote.attest = made.attest;
      quote.signature = made.signature;
    });
  };
  SoftTpm& tpm = world.machine("laptop");
  expect_refused(quoted(tpm, crypto::sha256(as_bytes("another")), ima_selection()), Reason::kQuoteNonce);
  const auto requoted = [&](const std::function<Bytes(SoftTpm&, evidence::ClaimedAttest)>& edit) {
    return with_quote([&, edit](ImaQuoteEvidence& quote) {
      const Bytes changed = edit(tpm, value_of(evidence::parse_attest(quote.attest)));
      const evidence::SignedAttest made = tpm.sign_bytes(changed);
      quote.attest = made.attest;
      quote.signature = made.signature;
    });
  };
  const auto all = value_of(evidence::PcrSelection::from_mask(1u << 10 | 1u << 14));
  expect_refused(requoted([&](SoftTpm&, evidence::ClaimedAttest attest) {
                   std::get<evidence::ClaimedQuote>(attest.attested).selection = all;
                   return encode(attest);
                 }),
                 Reason::kQuotePcrs);
  expect_refused(requoted([&](SoftTpm&, evidence::ClaimedAttest attest) {
                   ++attest.clock.reset_count;
                   return encode(attest);
                 }),
                 Reason::kBootCounters);
  expect_refused(requoted([&](SoftTpm&, evidence::ClaimedAttest attest) {
                   ++attest.firmware_version;
                   return encode(attest);
                 }),
                 Reason::kBootState);
  expect_refused(with_quote([](ImaQuoteEvidence& quote) { quote.pcr10[0] ^= 1; }), Reason::kQuotePcrs);
  SoftTpm stranger;
  expect_refused(with_quote([&](ImaQuoteEvidence& quote) {
                   quote.signature = stranger.sign_bytes(quote.attest).signature;
                 }),
                 Reason::kQuoteSignature);
  // The boot's own quote is not one of PCR 10.
  RequestStep step;
  step.edit_blobs = [](std::vector<Blob>& blobs) {
    QuoteEvidence boot;
    for (const Blob& blob : blobs)
      if (blob.type == EvidenceType::kQuote) boot = value_of(parse_quote_evidence(blob.bytes));
    for (Blob& blob : blobs)
      if (blob.type == EvidenceType::kImaQuote) {
        ImaQuoteEvidence quote = value_of(parse_ima_quote_evidence(blob.bytes));
        quote.attest = boot.attest;
        quote.signature = boot.signature;
        blob.bytes = encode(quote);
      }
  };
  expect_refused(step, Reason::kQuotePcrs);
}

TEST_F(Measured, SendExactlyThePartsThatTheQuoteLists) {
  RequestStep more;
  more.edit_blobs = [](std::vector<Blob>& blobs) {
    blobs.push_back({EvidenceType::kImaList, good().file("/a", "b").bytes});
  };
  expect_refused(more, Reason::kImaForm, "does not list");
  expect_refused(with_quote([](ImaQuoteEvidence& quote) { quote.parts.push_back(Digest256{}); }),
                 Reason::kImaForm, "not among the evidence");
  expect_refused(with_quote([](ImaQuoteEvidence& quote) { quote.parts.push_back(quote.parts.front()); }),
                 Reason::kImaReplay);
  expect_refused(with_parts({good().bytes, {}}), Reason::kImaForm, "part 2 is empty");
  // Two quotes are none.
  RequestStep two;
  two.edit_blobs = [](std::vector<Blob>& blobs) {
    blobs.push_back({EvidenceType::kImaQuote, encode(ImaQuoteEvidence{{1}, {2}, {}, {Digest256{}}})});
  };
  const OpenCase open = world.make_request(two);
  EXPECT_THAT(world.append(Kind::kRequest, open.id, open.submission), FailsWith(Code::kMalformed));
}

TEST_F(Measured, BringNothingThatThePolicyDoesNotWant) {
  const OpenCase before = world.request({});
  world.approve_all(before);
  accept(std::nullopt);
  world.granted();  // the scenario sends none
  const Blob list{EvidenceType::kImaList, good().bytes};
  RequestStep step;
  step.edit_blobs = [&](std::vector<Blob>& blobs) { blobs.push_back(list); };
  expect_refused(step, Reason::kImaForm, "does not want");
  // What was sent when it was wanted is judged by the policy in force, too.
  EXPECT_FALSE(world.grant(before).has_value());
}

TEST_F(Measured, ApproversAreAttestedWithGoodFilesOnly) {
  const OpenCase open = world.request({});
  run("alice-laptop", bad());
  EXPECT_THAT(world.approve(open.id, "alice"), FailsWith(Reason::kImaUnexpected));
  world.machine("alice-laptop").ima_list = {};
  EXPECT_THAT(world.approve(open.id, "alice"), FailsWith(Reason::kImaMissing));
  run("alice-laptop", good());
  EXPECT_THAT(world.approve(open.id, "alice"), Succeeds());
}

TEST_F(Measured, EnrolmentsAndGrantsHaveNoList) {
  SoftTpm tpm;
  const Blob list{EvidenceType::kImaList, good().bytes};
  RecordScenario::EnrolStep enrol;
  enrol.machine = "new";
  enrol.edit_blobs = [&](std::vector<Blob>& blobs) { blobs.push_back(list); };
  EXPECT_THAT(world.enrol(tpm, enrol), FailsWith(Code::kMalformed));
  const OpenCase open = world.request({});
  world.approve_all(open);
  RecordScenario::GrantStep grant;
  grant.edit_blobs = enrol.edit_blobs;
  EXPECT_THAT(world.grant(open, grant), FailsWith(Code::kMalformed));
}

TEST_F(Measured, AnUpdateIsAcceptedOnceThePeopleHaveSaidSo) {
  const ImaLog update = good().file("/usr/bin/ssh", "ssh 9.3");
  run("laptop", update);
  expect_refused({}, Reason::kImaUnexpected);
  accept(allowing(update.allow_list()));
  EXPECT_THAT(verify_dossier(world.dossier(world.granted()), world.follower, world.now), Succeeds());
  ImaReference::Terms terms = allowing(update.allow_list());
  terms.violations = true;
  accept(terms);
  run("laptop", good().violation("/var/log/syslog"));
  world.granted();
}

TEST_F(Measured, ListsThatRestOnSha1AreTakenWhereThePolicySaysSo) {
  ImaLog old;
  old.padded = true;
  old.file("boot_aggregate", "").file("/usr/bin/ssh", "ssh 9.2");
  run("laptop", old);
  expect_refused({}, Reason::kImaForm, "SHA-1");
  ImaReference::Terms terms = allowing(good().allow_list());
  terms.padded_sha1 = true;
  accept(terms);
  world.granted();
}

TEST_F(Measured, AKernelThatMeasuresNothingIsNotAGoodOne) {
  SoftTpm& tpm = run("laptop", ImaLog{});
  expect_refused({}, Reason::kImaMissing);
  // An empty list that is listed is none.
  const evidence::PcrSelection selection = ima_selection();
  RequestStep step;
  step.edit_blobs = [&](std::vector<Blob>& blobs) {
    const Blob empty{EvidenceType::kImaList, {}};
    const evidence::SignedAttest made = tpm.quote(Digest256{}, selection);
    blobs.push_back(empty);
    blobs.push_back(
        {EvidenceType::kImaQuote,
         encode(ImaQuoteEvidence{made.attest, made.signature, {}, {crypto::sha256(empty.bytes)}})});
  };
  const OpenCase open = world.make_request(step);
  value_of(world.append(Kind::kRequest, open.id, open.submission));
  EXPECT_TRUE(world.state.cases.at(open.id).refusable.has_value());
}

// ---- lists of several parts

class Long : public Measured {
 protected:
  // Some 650 KiB: three parts.
  static ImaLog long_log() { return ImaLog::booted().files(6000); }
  Long() : Measured(allowing(good().allow_list() + long_log().allow_list())) { run("laptop", long_log()); }
};

TEST_F(Long, ComeInPartsThatStayTheSame) {
  const auto parts_of = [&](const OpenCase& open) {
    std::vector<Digest256> out;
    for (const Blob& blob : open.submission.blobs)
      if (blob.type == EvidenceType::kImaQuote) out = value_of(parse_ima_quote_evidence(blob.bytes)).parts;
    return out;
  };
  const std::vector<Digest256> before = parts_of(world.granted());
  ASSERT_EQ(before.size(), 3u);
  SoftTpm& tpm = world.machine("laptop");
  const ImaLog log = long_log();
  const ImaLog grown = long_log().file("/usr/bin/ssh", "ssh 9.2");
  grown.more(tpm, log.extended.size());
  const std::vector<Digest256> after = parts_of(world.granted());
  ASSERT_EQ(after.size(), 3u);
  EXPECT_EQ(after[0], before[0]);
  EXPECT_EQ(after[1], before[1]);
  EXPECT_NE(after[2], before[2]);
}

TEST_F(Long, InAnotherOrderOrWithoutOneAreRefused) {
  const auto list = value_of(evidence::ImaList::parse(long_log().bytes));
  std::vector<Bytes> parts;
  for (const ByteView part : value_of(evidence::cut_ima_list(list, list.entries().size())))
    parts.push_back(to_bytes(part));
  ASSERT_EQ(parts.size(), 3u);
  for (const Bytes& part : parts) EXPECT_LE(part.size(), evidence::kMaxImaPartBytes);
  std::vector<Bytes> swapped = parts;
  std::swap(swapped[0], swapped[1]);
  expect_refused(with_parts(swapped), Reason::kImaReplay);
  expect_refused(with_parts({parts[0], parts[2]}), Reason::kImaReplay);
  expect_refused(with_parts({parts[0], parts[1]}), Reason::kImaReplay);
  expect_refused(with_parts({parts[1], parts[2]}), Reason::kImaReplay);
  // Cut at other places between entries it is the same list.
  const std::size_t at = list.entries()[100].end;
  world.granted(with_parts(
      {to_bytes(list.bytes().first(at)), to_bytes(ByteView{parts[0]}.subspan(at)), parts[1], parts[2]}));
}

// ---- what is judged ahead

// outcome folds an entry into a state that knows what was judged ahead, or into one that does not.
std::string outcome(State state, const Entry& entry, std::shared_ptr<const VerifiedAhead> known) {
  state.control.remember(std::move(known));
  auto prepared = prepare(state, entry);
  if (!prepared.has_value())
    return std::string{reason_name(prepared.error().reason)} + ": " + prepared.error().what;
  commit(state, std::move(*prepared));
  const Case& one = state.cases.at(entry.leaf.case_id);
  if (one.refusable) return std::string{reason_name(*one.refusable)} + ", " + one.detail;
  if (!one.approvals.empty()) return "approved " + std::to_string(one.approvals.size());
  return "open " + to_hex(one.to_approve);
}

TEST_F(Long, AreJudgedTheSameWhateverIsRemembered) {
  RecentlyVerified recent;
  std::mutex guards_recent;
  std::size_t known = 0;  // beginnings, after the last one
  const auto both = [&](const Entry& entry) {
    const OpenedEntry opened = value_of(open_entry(entry));
    const auto ahead = verify_ahead(claims_of(world.state, opened), recent, guards_recent);
    known = ahead->lists.size();
    const std::string with = outcome(world.state, entry, ahead);
    EXPECT_EQ(with, outcome(world.state, entry, nullptr));
    return with;
  };
  const auto requested = [&](const RequestStep& step) {
    const OpenCase open = world.make_request(step);
    const Entry entry = world.entry(Kind::kRequest, open.id, open.submission);
    const std::string out = both(entry);
    value_of(world.append(entry));
    return out;
  };
  SoftTpm& tpm = world.machine("laptop");
  ImaLog log = long_log();
  EXPECT_THAT(requested({}), HasSubstr("open"));
  EXPECT_EQ(known, 2u);  // two parts, and all three
  EXPECT_THAT(requested({}), HasSubstr("open"));
  EXPECT_EQ(known, 1u);  // all three were known
  const auto grow = [&](std::string_view path, std::string_view content) {
    const std::size_t from = log.extended.size();
    log.file(path, content);
    log.more(tpm, from);
  };
  grow("/usr/bin/ssh", "ssh 9.2");
  EXPECT_THAT(requested({}), HasSubstr("open"));
  EXPECT_EQ(known, 2u);  // the first two were
  // What is remembered covers no edited, lost or exchanged part.
  const auto list = value_of(evidence::ImaList::parse(log.bytes));
  std::vector<Bytes> parts;
  for (const ByteView part : value_of(evidence::cut_ima_list(list, list.entries().size())))
    parts.push_back(to_bytes(part));
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_THAT(requested(with_parts({parts[1], parts[0], parts[2]})), HasSubstr("ima/replay"));
  EXPECT_THAT(requested(with_parts({parts[0], parts[1]})), HasSubstr("ima/replay"));
  EXPECT_THAT(requested(with_parts({parts[0], parts[2]})), HasSubstr("ima/replay"));
  EXPECT_THAT(requested(with_parts({parts[0], parts[1], parts[2], parts[2]})), HasSubstr("ima/replay"));
  std::vector<Bytes> edited = parts;
  edited[0][edited[0].size() - 2] ^= 1;
  EXPECT_THAT(requested(with_parts(edited)), HasSubstr("ima/form"));
  EXPECT_EQ(known, 0u);
  // Nor what comes after it.
  grow("/tmp/rootkit", "evil");
  EXPECT_THAT(requested({}), HasSubstr("ima/unexpected, entry 6002, /tmp/rootkit"));
  // Nor another quote.
  EXPECT_THAT(requested(with_quote([](ImaQuoteEvidence& quote) { quote.pcr10[3] ^= 4; })),
              HasSubstr("quote/pcrs"));
  // Nor other terms.
  accept(allowing(good().allow_list()));
  EXPECT_THAT(requested({}), HasSubstr("ima/unexpected, entry 1, /usr/lib/x/0"));
  EXPECT_EQ(known, 0u);
  // An approver's machine has the same list.
  accept(allowing(long_log().allow_list() + good().allow_list()));
  run("laptop", long_log());
  run("alice-laptop", long_log());
  EXPECT_THAT(requested({}), HasSubstr("open"));
  const OpenCase open = world.request({});
  const Entry approval = world.entry(Kind::kApproval, open.id, world.make_approval(open.id, "alice", {}));
  EXPECT_EQ(both(approval), "approved 1");
  EXPECT_EQ(known, 1u);
}

// Whoever judges with a lock held would have to do what nobody did before it.
TEST_F(Measured, AreClaimedWhateverElseIsWrongAndOnlyForALiveMachinesQuote) {
  const auto judged = [&](const RequestStep& step) {
    const OpenCase open = world.make_request(step);
    const Claims claims =
        claims_of(world.state, value_of(open_entry(world.entry(Kind::kRequest, open.id, open.submission))));
    return std::pair{claims.lists.size(), verify_ahead(claims).lists.size()};
  };
  using Counts = std::pair<std::size_t, std::size_t>;
  EXPECT_EQ(judged({}), Counts(1, 1));
  for (const EvidenceType type : {EvidenceType::kQuote, EvidenceType::kKey, EvidenceType::kNote}) {
    RequestStep step;
    step.edit_blobs = [type](std::vector<Blob>& blobs) {
      for (Blob& blob : blobs)
        if (blob.type == type) blob.bytes = {1};
    };
    EXPECT_EQ(judged(step), Counts(1, 1)) << static_cast<int>(type);
  }
  SoftTpm stranger;
  EXPECT_EQ(judged(with_quote([&](ImaQuoteEvidence& quote) {
              quote.signature = stranger.sign_bytes(quote.attest).signature;
            })),
            Counts(1, 0));
  value_of(world.revoke(RevocationKind::kDevice, to_hex(world.machine("laptop").device())));
  EXPECT_EQ(judged({}), Counts(0, 0));
}

// Under another policy with the same document of reference values nothing of it is judged again, and under
// another document all of it is.
TEST_F(Measured, AreJudgedAgainOnlyUnderOtherReferenceValues) {
  const auto without_lists = [&](const OpenCase& open) {
    Case& one = world.state.cases.at(open.id);
    const auto drop = [](std::vector<Blob>& blobs) {
      ASSERT_NE(std::erase_if(blobs, [](const Blob& b) { return b.type == EvidenceType::kImaList; }), 0u);
    };
    drop(one.opening.blobs);
    for (CountedApproval& approval : one.approvals)
      if (approval.attested) drop(approval.entry.blobs);
  };
  const OpenCase open = world.request({});
  world.approve_all(open);
  without_lists(open);
  value_of(world.change_policy([](SamplePolicy&) {}));
  EXPECT_THAT(world.grant(open), Succeeds());
  const OpenCase other = world.request({});
  world.approve_all(other);
  without_lists(other);
  accept(allowing(good().file("/usr/bin/new", "new").allow_list()));
  EXPECT_THAT(world.grant(other), FailsWith(Reason::kLogMissingBody));
}

TEST_F(Long, OfADossierAreJudgedAheadOfIt) {
  const Dossier full = world.dossier(world.granted());
  const Claims claims = claims_of(world.follower, full);
  EXPECT_GE(claims.lists.size(), 2u);  // the request's, and attested approvers'
  const auto known = std::make_shared<const VerifiedAhead>(verify_ahead(claims));
  EXPECT_EQ(known->lists.size(), 3u);
  ControlState knowing = world.follower;
  knowing.remember(known);
  EXPECT_THAT(verify_dossier(full, knowing, world.now), Succeeds());
  // It is no part of what followers agree on.
  EXPECT_EQ(encode_control(knowing), encode_control(world.follower));
  Dossier lacking = full;
  std::erase_if(lacking.blobs, [](const Blob& blob) { return blob.type == EvidenceType::kImaList; });
  EXPECT_EQ(claims_of(world.follower, lacking).lists.size(), 0u);
  EXPECT_THAT(verify_dossier(lacking, knowing, world.now), FailsWith(Reason::kLogMissingBody));
}

}  // namespace
}  // namespace sallyport::record

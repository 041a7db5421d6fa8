#include "broker/ledger/sequencer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/follow/follower.h"
#include "attestation/sqlite/sqlite.h"
#include "broker/sessions/broker.h"
#include "client/auditor/verify_export.h"
#include "client/auditor/write_export.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"
#include "tests/support/soft_signer.h"
#include "tests/support/witness_process.h"

// The one writer of the log, over a real store and real witnesses. The keyguard is a follower with a key in
// software, which a test may take away or make lie.
namespace sallyport::test {
namespace {

// Made before there are threads: ThreadSanitizer does not see how libspdlog guards its making.
const auto kLogger = spdlog::default_logger();

using namespace record;
using ledger_service::Appended;
using ledger_service::Sequencer;
using std::chrono::milliseconds;

UnixMillis wall_clock() {
  return UnixMillis{static_cast<std::uint64_t>(
      std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count())};
}

class SequencerContract : public ::testing::Test {
 protected:
  SequencerContract()
      : company([&](SampleCompany& sample) {
          const std::string log_vkey = vkey_text(sample.policy.origin, 0x01, sample.log.public_key());
          for (const char* name : {"witness-one", "witness-two", "witness-three", "witness-four"})
            witnesses.push_back(std::make_unique<WitnessProcess>(SALLYPORT_WITNESS_PROGRAM, name,
                                                                 std::vector<std::string>{log_vkey}));
          sample.policy.witnesses = {as_sample(0), as_sample(1), as_sample(2)};
          sample.policy.witness_quorum = 2;
        }) {
    genesis = company.entries.front();
    company.entries.clear();
    company.tree = {};
    company.state = begin_state(company.origin(), company.genesis);
    company.follower = ControlState::begin(company.origin(), company.genesis);
    options.origin = company.origin();
    options.genesis_policy = company.genesis;
    options.recosign_after = milliseconds{300};
    start("one");
    value_of(log->append([&](const State& state, UnixMillis time) -> Result<Entry> {
      return compose_genesis(state.control.origin(), company.policy_document(), time, crypto::random_nonce());
    }));
    sync();
  }

  std::vector<std::unique_ptr<WitnessProcess>> witnesses;
  RecordScenario company;
  Entry genesis;
  TemporaryDirectory directory;
  ledger_service::SequencerOptions options;
  std::shared_ptr<SoftSigner> signer;
  std::unique_ptr<Sequencer> log;
  sessions::Peer peer_of_erin = [] {
    sessions::Peer peer;
    peer.address = "10.20.4.17";
    peer.person = PersonId{SampleCompany::id("erin")};
    return peer;
  }();

  SampleWitness as_sample(std::size_t i) const {
    return {witnesses[i]->vkey().name(), witnesses[i]->vkey().key(), witnesses[i]->url()};
  }
  std::string database(const std::string& name) const { return directory / (name + ".db"); }
  Result<std::unique_ptr<Sequencer>> open(const std::string& name) {
    SP_TRY(auto store, store::open_sqlite(database(name)));
    return Sequencer::start(std::move(store), signer, options, wall_clock);
  }
  void start(const std::string& name) {
    log.reset();
    signer = std::make_shared<SoftSigner>(directory / (name + "-follow.db"),
                                          follow::TrustAnchor{company.origin(), company.genesis},
                                          company.company.log);
    log = value_of(open(name));
  }
  void restart() {
    log.reset();
    log = value_of(open("one"));
  }

  // sync replays what the log holds into `company`.
  void sync() {
    std::uint64_t size = 0;
    log->read([&](const State& state) { size = state.control.size().get(); });
    while (company.entries.size() < size)
      value_of(company.append(value_of(log->entry(LeafIndex{company.entries.size()}))));
    company.now = wall_clock();
  }

  Result<Appended> append(Kind kind, const CaseId& id, const Submission& submission) {
    return log->append([&](const State& state, UnixMillis time) -> Result<Entry> {
      return make_entry(kind, time, id, predecessor_of(state.control, id), submission.envelope,
                        submission.blobs, crypto::random_nonce());
    });
  }
  struct Revoking {
    CaseId id;
    Submission submission;
  };
  Revoking revocation(const std::string& person = "ivan") const {
    Revoking out{crypto::random_case_id(), {}};
    const Revocation statement{.authority = company.company.policy.origin,
                               .case_id = out.id,
                               .kind = RevocationKind::kCase,
                               .person = SampleCompany::id(person),
                               .reason = "drill",
                               .target = to_hex(crypto::random_case_id()),
                               .time = wall_clock()};
    out.submission = {company.sign(Kind::kRevocation, statement, company.company.token(person)), {}};
    return out;
  }
  Result<Appended> revoke() {
    const Revoking one = revocation();
    return append(Kind::kRevocation, one.id, one.submission);
  }
  void expect_proven(TreeSize size) {
    ASSERT_THAT(log->wait_proven(size, milliseconds{20'000}), Succeeds());
    sync();
    const auto checked = value_of(ledger::check_quorum(log->cosigned_note(), company.policy().witnesses));
    EXPECT_EQ(checked.root(), value_of(company.tree.root(checked.size())));
  }
};

TEST_F(SequencerContract, ManyAtOnceAreAllInTheLogAndProven) {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::set<std::uint64_t> places;
  TreeSize largest{0};
  for (int i = 0; i < 12; ++i)
    threads.emplace_back([&] {
      const auto appended = value_of(revoke());
      const std::lock_guard lock{mutex};
      EXPECT_TRUE(places.insert(appended.index.get()).second);
      EXPECT_GT(appended.signed_size.get(), appended.index.get());
      largest = std::max(largest, appended.signed_size);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(places.size(), 12u);
  expect_proven(largest);
  for (const std::uint64_t index : places) {
    const auto proof = value_of(log->prove(LeafIndex{index}));
    EXPECT_THAT(ledger::verify_proof(proof, ledger::leaf_hash(company.entries[index].leaf),
                                     company.policy().witnesses),
                Succeeds());
  }
}

TEST_F(SequencerContract, TheSameStatementAgainIsWhereItWas) {
  const Revoking one = revocation();
  const auto first = value_of(append(Kind::kRevocation, one.id, one.submission));
  value_of(revoke());
  const auto again = value_of(append(Kind::kRevocation, one.id, one.submission));
  EXPECT_TRUE(again.existed);
  EXPECT_EQ(again.index, first.index);
  restart();
  EXPECT_EQ(value_of(append(Kind::kRevocation, one.id, one.submission)).index, first.index);
}

TEST_F(SequencerContract, TheSameStatementTwiceInOneCommitIsThereOnce) {
  options.window = milliseconds{500};
  options.gather_first = true;
  restart();
  const Revoking one = revocation();
  std::vector<std::thread> threads;
  std::atomic<int> existed = 0;
  std::mutex mutex;
  std::set<std::uint64_t> places;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      const auto told = value_of(append(Kind::kRevocation, one.id, one.submission));
      existed += told.existed ? 1 : 0;
      EXPECT_GT(told.signed_size.get(), told.index.get());
      const std::lock_guard lock{mutex};
      places.insert(told.index.get());
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(existed, 2);
  EXPECT_EQ(places, (std::set<std::uint64_t>{1}));
}

// No window would end within the test: who comes to an idle log does not wait for one, and who comes after a
// commit waits for its end, or until there are enough for the next.
TEST_F(SequencerContract, AnIdleLogCommitsAtOnceAndOneThatJustDidGathers) {
  options.window = std::chrono::hours{1};
  options.max_entries = 3;
  restart();
  value_of(revoke());
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::set<std::uint64_t> places, signed_sizes;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      const auto told = value_of(revoke());
      const std::lock_guard lock{mutex};
      places.insert(told.index.get());
      signed_sizes.insert(told.signed_size.get());
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(places, (std::set<std::uint64_t>{2, 3, 4}));
  EXPECT_EQ(signed_sizes, (std::set<std::uint64_t>{5}));
}

TEST_F(SequencerContract, ADraftThatDoesNotFitAnyMoreIsComposedAnew) {
  const Revoking first = revocation(), second = revocation();
  const auto counted = [](const Revoking& one, int& composed) {
    return [&one, &composed](const State& state, UnixMillis time) -> Result<Entry> {
      ++composed;
      return make_entry(Kind::kRevocation, time, one.id, predecessor_of(state.control, one.id),
                        one.submission.envelope, one.submission.blobs, crypto::random_nonce());
    };
  };
  int early = 0, late = 0;
  auto draft = log->draft(counted(first, early));
  std::this_thread::sleep_for(milliseconds{5});  // its time is behind that of the next leaf
  value_of(log->append(counted(second, late)));
  EXPECT_EQ(late, 1);
  value_of(log->append(std::move(draft)));
  EXPECT_EQ(early, 2);
  sync();
  EXPECT_GE(company.entries.at(2).leaf.time, company.entries.at(1).leaf.time);

  // A refusal is for the entry as it would be now.
  int tries = 0;
  const Revoking refused = revocation("erin"), good = revocation();
  value_of(log->append([&](const State& state, UnixMillis time) -> Result<Entry> {
    const Revoking& one = ++tries == 1 ? refused : good;
    return make_entry(Kind::kRevocation, time, one.id, predecessor_of(state.control, one.id),
                      one.submission.envelope, one.submission.blobs, crypto::random_nonce());
  }));
  EXPECT_EQ(tries, 2);
}

TEST_F(SequencerContract, WhatIsRefusedDisturbsNobody) {
  std::thread good{[&] { EXPECT_THAT(revoke(), Succeeds()); }};
  const Revoking bad = revocation("erin");  // not of the group that revokes
  EXPECT_THAT(append(Kind::kRevocation, bad.id, bad.submission), FailsWith(Reason::kPolicyGroup));
  EXPECT_THAT(log->append([](const State&, UnixMillis) -> Result<Entry> {
    return Error{Code::kDenied, Reason::kCaseClosed, "no"};
  }),
              FailsWith(Reason::kCaseClosed));
  good.join();
  EXPECT_EQ(log->health().size, 2u);
}

TEST_F(SequencerContract, WhatTheSignerLeftUnsignedIsSignedLaterAsItIs) {
  options.append_timeout = milliseconds{1'500};
  restart();
  ASSERT_THAT(revoke(), Succeeds());
  signer->away = true;
  const Revoking one = revocation();
  EXPECT_THAT(append(Kind::kRevocation, one.id, one.submission), FailsWith(Code::kUnavailable));
  EXPECT_FALSE(log->health().signer);
  EXPECT_NE(log->health().why.find("nobody listens"), std::string::npos) << log->health().why;

  restart();  // starts without the signer, and serves
  EXPECT_EQ(log->health().size, 3u);
  EXPECT_THAT(revoke(), FailsWith(Code::kUnavailable));
  signer->away = false;
  options.append_timeout = milliseconds{20'000};
  restart();
  const auto again = value_of(append(Kind::kRevocation, one.id, one.submission));
  EXPECT_TRUE(again.existed);
  EXPECT_EQ(again.index.get(), 2u);
  expect_proven(TreeSize{3});
}

TEST_F(SequencerContract, WhoWaitsInVainLearnsWhichPartIsAway) {
  options.append_timeout = milliseconds{700};
  restart();
  ASSERT_THAT(revoke(), Succeeds());
  signer->away = true;
  for (const Reason part : {Reason::kKeyguardAway, Reason::kHsmAway, Reason::kStorage}) {
    signer->lacks = part;
    EXPECT_THAT(revoke(), FailsWith(part));
  }
  signer->lacks = Reason::kTrustAnchor;  // of what is wrong inside, nothing
  EXPECT_THAT(revoke(), FailsWith(Reason::kUnavailable));
}

TEST_F(SequencerContract, ACheckpointOfAnotherTreeIsNotPublished) {
  options.append_timeout = milliseconds{1'500};
  restart();
  ASSERT_THAT(revoke(), Succeeds());
  signer->lies = true;
  EXPECT_THAT(revoke(), FailsWith(Code::kUnavailable));
  EXPECT_NE(log->health().why.find("log/checkpoint"), std::string::npos) << log->health().why;
  EXPECT_FALSE(value_of(log->store().signed_note(TreeSize{3})));
  signer->lies = false;
  expect_proven(TreeSize{3});
}

TEST_F(SequencerContract, APolicyMayChangeTheWitnesses) {
  expect_proven(TreeSize{1});
  const CaseId id = crypto::random_case_id();
  SamplePolicy& policy = company.company.policy;
  policy.version = 2;
  policy.previous = company.policy().policy.digest;
  policy.witnesses = {as_sample(3), as_sample(1), as_sample(2)};
  value_of(append(Kind::kPolicyProposed, id, company.proposal(id)));
  for (const char* person : {"grace", "heidi", "judy"}) {
    sync();
    value_of(append(Kind::kApproval, id, company.make_approval(id, person, {})));
  }
  witnesses[1]->kill();  // so that the new one is needed
  const auto closed = value_of(log->append([&](const State& state, UnixMillis time) {
    return compose_policy(state, id, time, crypto::random_nonce());
  }));
  expect_proven(closed.signed_size);
  witnesses[1]->start();
  EXPECT_THAT(revoke(), Succeeds());
  restart();
  expect_proven(TreeSize{closed.signed_size.get() + 1});
}

// StrangersWitness is tests/interop/witness.py: written after the C2SP texts, of no code of ours.
class StrangersWitness {
 public:
  StrangersWitness(const std::filesystem::path& directory, const std::string& log_vkey)
      : process_({SALLYPORT_PYTHON, "-B", "tests/interop/witness.py", "stranger.example/witness", log_vkey},
                 directory / "stranger.log") {
    std::string vkey;
    poll_until([&] {
      std::istringstream in{process_.output()};
      return (std::getline(in, vkey) && std::getline(in, url_) && !in.eof()) || !process_.running();
    });
    key_ = value_of(ledger::parse_vkey(vkey));
  }
  SampleWitness as_sample() const { return {key_->name(), key_->key(), url_}; }
  const ledger::NoteKey& key() const { return *key_; }

 private:
  Process process_;
  std::string url_;
  std::optional<ledger::NoteKey> key_;
};

// python runs a program of tests/interop to its end.
std::pair<int, std::string> python(const std::filesystem::path& directory,
                                   std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {SALLYPORT_PYTHON, "-B"});
  std::filesystem::remove(directory / "python.log");
  Process process{std::move(arguments), directory / "python.log"};
  const int code = process.wait();
  return {code, process.output()};
}

// OwnLog is what an auditor fetches, read from the log itself.
class OwnLog : public client::auditor::Source {
 public:
  explicit OwnLog(Sequencer& log) : log_(log) {}
  Result<EntryPage> entries(LeafIndex from) override {
    EntryPage page{.from = from, .entries = {}};
    SP_TRY(Entry entry, log_.entry(from));
    page.entries.push_back(std::move(entry));
    return page;
  }
  Result<std::vector<std::string>> checkpoints(TreeSize from) override {
    std::vector<std::string> notes;
    SP_TRY(const auto found, log_.store().cosigned(from, 100));
    for (const auto& one : found) notes.push_back(one.note);
    return notes;
  }

 private:
  Sequencer& log_;
};

TEST_F(SequencerContract, AStrangerWhoReadOnlyTheTextsCosignsAndVerifiesTheLog) {
  if (python(directory.path(), {"-c", "import cryptography"}).first != 0) {
    if (std::getenv("SALLYPORT_REQUIRE_DEVICES") != nullptr)
      FAIL() << "python3-cryptography is not installed";
    GTEST_SKIP() << "python3-cryptography is not installed";
  }
  namespace fs = std::filesystem;
  const StrangersWitness stranger{
      directory.path(), vkey_text(company.company.policy.origin, 0x01, company.company.log.public_key())};
  // A policy that needs all three: two of ours, and the stranger's.
  const CaseId id = crypto::random_case_id();
  SamplePolicy& policy = company.company.policy;
  policy.version = 2;
  policy.previous = company.policy().policy.digest;
  policy.witnesses = {as_sample(0), as_sample(1), stranger.as_sample()};
  policy.witness_quorum = 3;
  value_of(append(Kind::kPolicyProposed, id, company.proposal(id)));
  for (const char* person : {"grace", "heidi", "judy"}) {
    sync();
    value_of(append(Kind::kApproval, id, company.make_approval(id, person, {})));
  }
  const auto closed = value_of(log->append([&](const State& state, UnixMillis time) {
    return compose_policy(state, id, time, crypto::random_nonce());
  }));
  expect_proven(closed.signed_size);

  // Over a full tile, each with its body; some checkpoints in between.
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread)
    threads.emplace_back([&] {
      for (int i = 0; i < 33; ++i) EXPECT_THAT(revoke(), Succeeds());
    });
  for (std::thread& thread : threads) thread.join();
  std::uint64_t size = 0;
  log->read([&](const State& state) { size = state.control.size().get(); });
  ASSERT_GT(size, 256u);
  expect_proven(TreeSize{size});
  const auto checked = value_of(ledger::check_quorum(log->cosigned_note(), company.policy().witnesses));
  EXPECT_EQ(checked.cosignatures().size(), 3u);

  const fs::path web = directory / "web";
  OwnLog source{*log};
  value_of(client::auditor::write_export(web, {company.origin(), company.genesis}, source));
  EXPECT_THAT(client::auditor::verify_export(web, {company.origin(), company.genesis}), Succeeds());
  auto [code, said] = python(directory.path(), {"tests/interop/check.py", "log", web.string()});
  EXPECT_EQ(code, 0) << said;
  EXPECT_THAT(said, testing::HasSubstr(std::to_string(size) + " leaves"));
  EXPECT_THAT(said, testing::HasSubstr("2 policies, 3 witnesses"));

  // Proofs, as they are stapled into dossiers.
  const auto write = [&](const std::string& name, ByteView bytes) {
    std::ofstream{directory / name, std::ios::binary} << as_text(bytes);
    return directory / name;
  };
  for (const std::uint64_t index : {std::uint64_t{0}, std::uint64_t{200}, size - 1}) {
    const auto proof = ledger::encode_proof(value_of(log->prove(LeafIndex{index})));
    const auto leaf = write("leaf", ledger::encode_leaf(company.entries.at(index).leaf));
    const auto check = [&](const std::string& text) {
      return python(directory.path(), {"tests/interop/check.py", "proof", (web / "policies/2").string(), leaf,
                                       write("proof", as_bytes(text))});
    };
    std::tie(code, said) = check(proof);
    EXPECT_EQ(code, 0) << said;
    EXPECT_EQ(said, "leaf " + std::to_string(index) + " of " + std::to_string(size) + "\n");
    EXPECT_EQ(check(proof + "x").first, 1);
  }

  // What it finds in a log that was changed.
  for (const std::string path : {"checkpoint", "tile/0/000", "tile/entries/000", "policies/2"}) {
    const Bytes good = read_file(web / path);
    Bytes changed = good;
    changed[changed.size() / 2] ^= 1;
    write("web/" + path, changed);
    std::tie(code, said) = python(directory.path(), {"tests/interop/check.py", "log", web.string()});
    EXPECT_EQ(code, 1) << path << ": " << said;
    write("web/" + path, good);
  }
}

TEST_F(SequencerContract, WaitsForWitnessesAndCosignsAgain) {
  expect_proven(TreeSize{1});
  witnesses[0]->kill();
  EXPECT_THAT(revoke(), Succeeds());  // two of three will do
  expect_proven(TreeSize{2});
  witnesses[1]->kill();
  EXPECT_THAT(revoke(), Succeeds());  // signed, not proven
  EXPECT_THAT(log->wait_proven(TreeSize{3}, milliseconds{300}), FailsWith(Reason::kLogQuorum));
  witnesses[0]->start();
  expect_proven(TreeSize{3});
  // The unchanged tree is cosigned anew.
  const std::string before = log->cosigned_note();
  EXPECT_TRUE(poll_until([&] { return log->cosigned_note() != before; }));
}

TEST_F(SequencerContract, ACosignatureThatCameLateIsOnDisk) {
  options.recosign_after = milliseconds{60'000};  // which would begin the checkpoint anew
  restart();
  expect_proven(TreeSize{1});
  witnesses[2]->process().send(SIGSTOP);
  EXPECT_THAT(revoke(), Succeeds());
  expect_proven(TreeSize{2});
  witnesses[2]->process().send(SIGCONT);
  EXPECT_TRUE(poll_until([&] {  // the next rounds write down what has come meanwhile
    EXPECT_THAT(revoke(), Succeeds());
    expect_proven(TreeSize{company.entries.size()});
    const auto notes = value_of(log->store().cosigned(TreeSize{2}, 1));
    return value_of(ledger::check_quorum(notes.at(0).note, company.policy().witnesses))
               .cosignatures()
               .size() == 3;
  }));
}

TEST_F(SequencerContract, AHistoryThatWitnessesDoNotKnowMakesItReadOnly) {
  value_of(revoke());
  expect_proven(TreeSize{2});
  log.reset();
  // Everything of the broker and the keyguard was lost, and begun again.
  start("two");
  value_of(log->append([&](const State& state, UnixMillis time) -> Result<Entry> {
    return compose_genesis(state.control.origin(), company.policy_document(), time, crypto::random_nonce());
  }));
  EXPECT_TRUE(poll_until([&] { return revoke().has_value() == false; }));
  EXPECT_THAT(revoke(), FailsWith(Reason::kReadOnly));
  EXPECT_FALSE(log->health().witnesses);
}

TEST_F(SequencerContract, ADatabaseBehindTheKeyguardMakesItReadOnly) {
  expect_proven(TreeSize{1});
  log.reset();
  std::filesystem::copy(database("one"), database("backup"));
  restart();
  value_of(revoke());
  log.reset();
  std::filesystem::rename(database("backup"), database("one"));
  restart();
  EXPECT_TRUE(poll_until([&] { return !log->health().signer; }));
  EXPECT_NE(log->health().why.find("log/rollback"), std::string::npos) << log->health().why;
  EXPECT_THAT(revoke(), FailsWith(Reason::kReadOnly));
  // Nothing is composed, and no signature verified, for a log that takes nothing.
  EXPECT_THAT(log->append([](const State&, UnixMillis) -> Result<Entry> {
    ADD_FAILURE();
    return Error{Code::kInternal, "composed"};
  }),
              FailsWith(Reason::kReadOnly));
}

TEST_F(SequencerContract, NothingIsSignedThatNoStandbyHoldsAndWhoWaitsLearnsIt) {
  expect_proven(TreeSize{1});
  options.append_timeout = milliseconds{700};
  options.standby.standbys = {{"https://127.0.0.1:1", KeyId{}}};
  options.standby.key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  options.standby.wait = milliseconds{100};
  restart();
  EXPECT_THAT(revoke(), FailsWith(Reason::kStandbyAway));
  EXPECT_FALSE(log->health().standby);
  options.standby.best_effort = true;
  options.append_timeout = milliseconds{20'000};
  restart();
  EXPECT_THAT(revoke(), Succeeds());
  EXPECT_TRUE(log->health().standby);
  EXPECT_FALSE(log->health().standbys.at(0).in_step);
}

TEST_F(SequencerContract, NothingIsAppendedBeforeTheWitnessesWereHeard) {
  value_of(revoke());
  expect_proven(TreeSize{2});
  log.reset();
  for (std::size_t i : {0U, 1U}) witnesses[i]->kill();
  options.append_timeout = milliseconds{700};
  restart();
  EXPECT_THAT(revoke(), FailsWith(Reason::kLogQuorum));
  EXPECT_EQ(log->health().size, 2u);
  EXPECT_FALSE(log->health().witnesses);
  EXPECT_NE(log->health().why.find("1 of 2 witnesses cosigned"), std::string::npos) << log->health().why;
  witnesses[0]->start();
  EXPECT_TRUE(poll_until([&] { return log->health().witnesses; }));
  EXPECT_THAT(revoke(), Succeeds());
}

TEST_F(SequencerContract, WhoWaitsIsToldWhenTheLogIsClosed) {
  options.append_timeout = std::chrono::minutes{5};
  restart();
  value_of(revoke());
  signer->away = true;
  std::thread waits{[&] { EXPECT_THAT(revoke(), FailsWith(Reason::kKeyguardAway)); }};
  EXPECT_TRUE(poll_until([&] { return log->health().size == 3 && !log->health().signer; }));
  log.reset();
  waits.join();
}

TEST_F(SequencerContract, DoesNotStartOverADamagedDatabase) {
  std::vector<std::thread> threads;  // enough for a subtree that is kept
  for (int i = 0; i < 16; ++i) threads.emplace_back([&] { value_of(revoke()); });
  for (std::thread& thread : threads) thread.join();
  expect_proven(TreeSize{17});
  log.reset();
  for (const char* sql : {
           "UPDATE entry SET body = body || x'00' WHERE idx = 1",
           "UPDATE entry SET leaf = (SELECT leaf FROM entry WHERE idx = 0) WHERE idx = 1",
           "DELETE FROM entry WHERE idx = 1",
           "DELETE FROM blob",
           "UPDATE head SET root = zeroblob(32)",
           "UPDATE head SET size = 1",
           "UPDATE subtree SET hash = zeroblob(32) WHERE level = 4",
           "DELETE FROM subtree",
       }) {
    std::filesystem::remove(database("damaged"));
    std::filesystem::copy(database("one"), database("damaged"));
    value_of(value_of(sqlite::Database::open(database("damaged")))->execute(sql));
    EXPECT_FALSE(open("damaged").has_value()) << sql;
  }
  EXPECT_THAT(open("one"), Succeeds());
}

TEST_F(SequencerContract, ABrokerFinishesWhatACrashLeftOut) {
  // As it is after a crash: a quorum is met without the leaf that closes the case; and a request that must be
  // refused is not.
  SoftTpm tpm;
  const CaseId id = crypto::random_case_id();
  value_of(append(Kind::kEnrolmentRequested, id, company.enrolment_request(tpm, {}, id)));
  for (const char* person : {"frank", "grace"}) {
    sync();
    value_of(append(Kind::kApproval, id, company.make_approval(id, person, {})));
  }
  expect_proven(TreeSize{4});
  const OpenCase stranger = company.make_request({.note = log->cosigned_note(), .tpm = &tpm});
  value_of(append(Kind::kRequest, stranger.id, stranger.submission));
  sync();
  EXPECT_EQ(company.state.cases.at(id).state, CaseState::kOpen);
  EXPECT_EQ(company.state.cases.at(stranger.id).state, CaseState::kRefusable);

  {
    const sessions::Broker broker{std::move(log), nullptr, wall_clock};
    EXPECT_TRUE(poll_until([&] { return broker.health().size == 7; }));
  }
  log = value_of(open("one"));
  sync();
  EXPECT_EQ(company.state.cases.at(id).state, CaseState::kClosed);
  EXPECT_NE(company.follower.find_device(tpm.device()), nullptr);
  EXPECT_EQ(company.state.cases.at(stranger.id).state, CaseState::kRefused);
}

TEST_F(SequencerContract, AttachmentsAreStoredBeforeTheirEntryAndBoundedByTheHour) {
  expect_proven(TreeSize{1});
  SoftTpm tpm;  // of no enrolled machine: its requests are recorded and refused
  sessions::Broker broker{std::move(log), nullptr, wall_clock};
  const auto ask = [&](std::uint8_t first) {
    RecordScenario::RequestStep step;
    step.note = broker.hello(peer_of_erin).head;
    step.tpm = &tpm;
    for (std::uint8_t i = 0; i < 3; ++i)
      step.attachments.emplace_back("dump-" + std::to_string(i),
                                    Bytes(16u << 20, static_cast<std::uint8_t>(first + i)));
    return company.make_request(step).submission;
  };
  const Submission one = ask(0), two = ask(3), three = ask(6);
  const auto told = value_of(broker.submit(peer_of_erin, one));
  EXPECT_EQ(told.code, Reason::kDeviceUnknown);
  EXPECT_THAT(broker.submit(peer_of_erin, two), Succeeds());
  EXPECT_THAT(broker.submit(peer_of_erin, three), FailsWith(Reason::kRateLimited));  // 144 MiB
  sessions::Peer other;
  other.person = PersonId{SampleCompany::id("alice")};
  EXPECT_THAT(broker.submit(other, three), FailsWith(Reason::kNotSignedIn));
  broker.stop_waiting();
  // Each is where its entry says: the auditor gets it with the entry.
  const auto stored = value_of(store::open_sqlite(database("one")));
  for (const Blob& blob : one.blobs) {
    if (blob.type != EvidenceType::kAttachment) continue;
    const auto found = value_of(stored->find_blob(item_of(blob).sha256));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->bytes, blob.bytes);
  }
  for (const Blob& blob : three.blobs)
    if (blob.type == EvidenceType::kAttachment) {
      EXPECT_FALSE(value_of(stored->find_blob(item_of(blob).sha256)));
    }
}

TEST_F(SequencerContract, FollowersGetTheLogInBatches) {
  const auto appended = value_of(revoke());
  expect_proven(appended.signed_size);
  const auto file = directory / "client.db";
  const follow::TrustAnchor anchor{company.origin(), company.genesis};
  value_of(follow::Follower::create(file, anchor));
  const auto follower = value_of(follow::Follower::open(file, anchor));
  EXPECT_THAT(follower->accept(value_of(log->batch(LeafIndex{0}))), Succeeds());
  EXPECT_EQ(follower->control()->size(), appended.signed_size);
  EXPECT_TRUE(value_of(log->batch(LeafIndex{follower->control()->size().get()})).leaves.empty());
  EXPECT_THAT(log->batch(LeafIndex{100}), FailsWith(Reason::kLogRollback));
}

TEST_F(SequencerContract, AppendsASnapshotFromWhichAFollowerJoins) {
  EXPECT_EQ(value_of(log->joining()), nullptr);
  options.snapshot_leaves = 3;
  restart();
  for (int i = 0; i < 3; ++i) value_of(revoke());
  EXPECT_EQ(value_of(log->joining()), nullptr);
  const TreeSize size{value_of(revoke()).index.get() + 2};
  expect_proven(size);
  EXPECT_EQ(company.entries.back().leaf.kind, static_cast<std::uint8_t>(Kind::kSnapshot));
  const auto bytes = value_of(log->joining());
  ASSERT_NE(bytes, nullptr);

  const auto file = directory / "client.db";
  const follow::TrustAnchor anchor{company.origin(), company.genesis};
  value_of(follow::Follower::create(file, anchor, follow::Begin::kFromSnapshot));
  const auto follower = value_of(follow::Follower::open(file, anchor));
  value_of(follower->join(value_of(parse_joining(*bytes)), value_of(log->batch(LeafIndex{size.get()}))));
  EXPECT_EQ(encode_control(*follower->control()), encode_control(company.follower));

  // Not another one within the hour, however much is appended.
  for (int i = 0; i < 5; ++i) expect_proven(value_of(revoke()).signed_size);
  EXPECT_EQ(company.follower.newest_snapshot()->index.get() + 1, size.get());
  restart();
  EXPECT_EQ(*value_of(log->joining()), *bytes);
}

}  // namespace
}  // namespace sallyport::test

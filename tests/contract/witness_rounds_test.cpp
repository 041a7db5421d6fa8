// Rounds over real HTTP, with witnesses that may be as wrong as one likes.
#include "broker/ledger/witness_round.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/net/http_server.h"
#include "tests/support/process.h"
#include "tests/support/test_log.h"

namespace sallyport::test {
namespace {

// Made before there are threads: ThreadSanitizer does not see how libspdlog guards its making.
const auto kLogger = spdlog::default_logger();

using ledger::WitnessAnswer;
using ledger_service::WitnessRounds;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

UnixMillis now() {
  return UnixMillis{static_cast<std::uint64_t>(
      std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count())};
}

// A witness in this process; the third one is behind TLS, with a key that nobody has pinned. What it does to
// an answer before it is sent is the fault.
class FaultyWitness {
 public:
  using Fault = std::function<void(FaultyWitness& self, WitnessAnswer& answer)>;

  FaultyWitness(const TestLog& log, std::size_t i) : log_(log), i_(i) { come_back(); }
  ~FaultyWitness() { go_away(); }

  std::string url() const {
    return (i_ == 2 ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(port_);
  }
  void behaves() { fails(nullptr); }
  void fails(Fault fault) {
    const std::lock_guard lock{mutex_};
    fault_ = std::move(fault);
  }
  void go_away() { server_.reset(); }
  void come_back() {
    net::HttpServerOptions options;
    options.port = port_;
    options.worker_threads = 4;
    if (i_ == 2)
      options.tls = value_of(
          net::make_tls_identity(crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256), {"localhost"}));
    server_ = value_of(net::HttpServer::start(
        std::move(options),
        [this](const net::HttpRequest& request, net::Connection&) { return answer(request); }));
    port_ = server_->port();
  }
  // knows makes it show this note, and take it for what it has cosigned last.
  void knows(const TestLog& log, std::uint64_t size) {
    const std::lock_guard lock{mutex_};
    state_ = {TreeSize{size}, log.head(size).root};
    note_ = log.signed_note(log.head(size));
  }
  std::uint64_t size() {
    const std::lock_guard lock{mutex_};
    return state_.size.get();
  }

  std::atomic<std::int64_t> clock_off = 0;  // s
  std::atomic<int> requests = 0;
  std::atomic<bool> shows = true;  // GET …/checkpoint

 private:
  net::HttpResponse answer(const net::HttpRequest& request) {
    if (request.method == "GET") {
      const std::lock_guard lock{mutex_};
      const bool ours =
          request.target == "/" + to_hex(crypto::sha256(as_bytes(log_.origin()))) + "/checkpoint";
      return shows && ours && !note_.empty() ? net::HttpResponse::of(200, "text/plain", note_)
                                             : net::HttpResponse::of(404, "text/plain", "");
    }
    ++requests;
    WitnessAnswer answer;
    Fault fault;
    {
      const std::lock_guard lock{mutex_};
      answer = cosign(value_of(ledger::parse_add_checkpoint(as_text(request.body))));
      fault = fault_;
    }
    if (fault) fault(*this, answer);
    return net::HttpResponse::of(static_cast<unsigned>(answer.status), answer.content_type, answer.body);
  }
  WitnessAnswer cosign(const ledger::AddCheckpointRequest& request) {
    const ledger::LogKey key{Origin{log_.origin()}, log_.log_vkey()};
    auto decision = ledger::decide_add_checkpoint(state_, request, {&key, 1});
    if (!decision.accepted) return decision.answer;
    const auto& checkpoint = decision.accepted->checkpoint();
    state_ = {checkpoint.size, checkpoint.root};
    note_ = request.checkpoint;
    const auto seconds = static_cast<std::int64_t>(now().get() / 1000) + clock_off;
    const auto line =
        log_.cosignature(i_, static_cast<std::uint64_t>(seconds), ledger::checkpoint_text(checkpoint));
    return ledger::cosigned_answer({&line, 1});
  }

  const TestLog& log_;
  const std::size_t i_;
  std::mutex mutex_;  // guards the three below
  ledger::WitnessState state_;
  std::string note_;
  Fault fault_;
  std::uint16_t port_ = 0;
  std::optional<net::HttpServer> server_;
};

const std::string kPlain = "text/plain; charset=utf-8", kSize = "text/x.tlog.size";
FaultyWitness::Fault says(int status, std::string type, std::string body) {
  return [=](FaultyWitness&, WitnessAnswer& answer) { answer = {status, type, body}; };
}
FaultyWitness::Fault sleeps(milliseconds time) {
  return [=](FaultyWitness&, WitnessAnswer&) { std::this_thread::sleep_for(time); };
}

// Two of three.
class WitnessRoundsContract : public testing::Test {
 protected:
  WitnessRoundsContract() {
    grow(log_, 60, "entry");
    for (std::size_t i = 0; i < 3; ++i) witnesses_.push_back(std::make_unique<FaultyWitness>(log_, i));
    std::string text = "log " + ledger::format_vkey(log_.log_vkey()) + "\n";
    for (std::size_t i = 0; i < 3; ++i)
      text += "witness w" + std::to_string(i) + " " + ledger::format_vkey(log_.witness_vkey(i)) + " " +
              witnesses_[i]->url() + "\n";
    policy_ =
        value_of(ledger::parse_witness_policy(text + "group all-of-them 2 w0 w1 w2\nquorum all-of-them\n"));
    forget();
  }
  static void grow(TestLog& log, std::uint64_t size, const std::string& flavour) {
    while (log.tree.size().get() < size)
      log.tree.append(ledger::hash_leaf(as_bytes(flavour + std::to_string(log.tree.size().get()))));
  }
  // forget begins anew, as a broker does that was restarted.
  void forget(milliseconds timeout = milliseconds{600}) {
    rounds_ = std::make_unique<WitnessRounds>(
        [this](TreeSize from, TreeSize to) { return log_.tree.consistency(from, to); }, timeout, now);
  }
  Result<std::string> round(std::uint64_t size) {
    return rounds_->cosign(log_.signed_note(log_.head(size)), *policy_);
  }
  std::size_t proven(std::uint64_t size) {
    const auto note = round(size);
    EXPECT_THAT(note, Succeeds());
    return note ? cosignatures(*note) : 0;
  }
  std::size_t cosignatures(const std::string& note) const {
    const auto checked = value_of(ledger::check_quorum(note, *policy_));
    EXPECT_THAT(
        ledger::require_fresh(checked, *policy_, now(), std::chrono::seconds{120}, std::chrono::seconds{30}),
        Succeeds());
    return checked.cosignatures().size();
  }
  void refused(std::uint64_t size, Reason reason, const std::string& why) {
    const auto note = round(size);
    ASSERT_THAT(note, FailsWith(reason));
    EXPECT_THAT(note.error().what, HasSubstr(why));
  }

  TestLog log_{3};
  std::vector<std::unique_ptr<FaultyWitness>> witnesses_;
  std::optional<ledger::WitnessPolicy> policy_;
  std::unique_ptr<WitnessRounds> rounds_;
};

TEST_F(WitnessRoundsContract, EachRoundIsCosignedByAQuorumAndSoIsAnUnchangedTree) {
  for (const std::uint64_t size : {1U, 2U, 5U, 5U, 5U, 60U}) EXPECT_GE(proven(size), 2U);
  EXPECT_TRUE(poll_until([&] { return witnesses_[2]->size() == 60; }));
  forget();
  EXPECT_GE(proven(60), 2U);  // after a restart it asks each what it knows
}

TEST_F(WitnessRoundsContract, StopsAtAQuorumAndKeepsWhatComesLate) {
  witnesses_[1]->fails(sleeps(milliseconds{300}));
  const auto began = std::chrono::steady_clock::now();
  const auto note = round(5);
  EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds{250});
  ASSERT_THAT(note, Succeeds());
  EXPECT_EQ(cosignatures(*note), 2U);
  std::vector<WitnessRounds::LateNote> late;
  ASSERT_TRUE(poll_until([&] { return !(late = rounds_->take_late()).empty(); }));
  ASSERT_EQ(late.size(), 1U);
  EXPECT_EQ(late[0].size, TreeSize{5});
  EXPECT_EQ(cosignatures(late[0].note), 3U);
  EXPECT_TRUE(late[0].note.starts_with(*note));
  EXPECT_EQ(rounds_->take_late().size(), 0U);
}

TEST_F(WitnessRoundsContract, ASlowWitnessSkipsRoundsAndDelaysNobody) {
  witnesses_[1]->fails(sleeps(milliseconds{250}));
  const auto began = std::chrono::steady_clock::now();
  for (std::uint64_t size = 1; size <= 20; ++size) EXPECT_GE(proven(size), 2U);
  EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds{1000});
  EXPECT_LT(witnesses_[1]->requests, 12);
  EXPECT_TRUE(poll_until([&] { return witnesses_[1]->size() == 20; }));  // the newest was not skipped
}

struct OneFault {
  const char* name;
  FaultyWitness::Fault fault;
  const char* why;  // as the log says it
  std::int64_t clock_off = 0;

  friend void PrintTo(const OneFault& fault, std::ostream* out) { *out << fault.name; }
};

std::vector<OneFault> faults() {
  return {
      {"Slow", sleeps(milliseconds{700}), "in time"},
      {"ClaimsAnAbsurdSize", says(409, kSize, "4611686018427387904\n"), "shows a checkpoint of our tree"},
      {"ClaimsAnImpossibleSize", says(409, kSize, "18446744073709551615\n"), "409 without its size"},
      {"TellsNoSize", says(409, kSize, "five\n"), "409 without its size"},
      {"TellsItsSizeAsPlainText", says(409, kPlain, "5\n"), "answered 409"},
      {"AlwaysAnotherSize", says(409, kSize, "3\n"), "keeps answering 409"},
      {"LostItsMemory", says(409, kSize, "0\n"), "lost its memory"},
      {"ClaimsAFork", says(422, kPlain, "another history\n"), "shows a checkpoint of our tree"},
      {"SaysNothing", says(200, kPlain, ""), "answered 200 with"},
      {"Garbage", says(200, kPlain, "\xE2\x80\x94 w1 garbage\n"), "answered 200 with"},
      {"TooMuch", says(200, kPlain, std::string(1 << 20, 'x')), ""},
      {"IsBroken", says(500, kPlain, ""), "answered 500"},
      {"IsUnavailable", says(503, kPlain, "unavailable\n"), "answered 503"},
      {"DoesNotKnowUs", says(404, kPlain, "unknown log\n"), "answered 404"},
      {"Redirects", says(302, kPlain, ""), "answered 302"},
      {"ClockBehind", nullptr, "its clock is -", -45},
      {"ClockAhead", nullptr, "its clock is 4", 45},
  };
}

class WitnessRoundsFault : public WitnessRoundsContract, public testing::WithParamInterface<OneFault> {
 protected:
  void spoil(std::size_t i) {
    witnesses_[i]->fails(GetParam().fault);
    witnesses_[i]->clock_off = GetParam().clock_off;
  }
  void mend(std::size_t i) {
    witnesses_[i]->behaves();
    witnesses_[i]->clock_off = 0;
  }
};

TEST_P(WitnessRoundsFault, OfOneWitnessTheOthersGoOnAndItComesBack) {
  proven(3);
  ASSERT_TRUE(poll_until([&] { return witnesses_[1]->size() == 3; }));
  spoil(1);
  for (std::uint64_t size = 4; size < 9; ++size) EXPECT_EQ(proven(size), 2U);
  rounds_->take_late();
  mend(1);
  std::uint64_t size = 9;
  EXPECT_TRUE(poll_until([&] {  // a late line counts as well as one in time
    if (proven(size++) == 3U) return true;
    for (const auto& late : rounds_->take_late())
      if (late.size.get() >= 9 && cosignatures(late.note) == 3U) return true;
    std::this_thread::sleep_for(milliseconds{20});
    return size == 60;
  }));
  EXPECT_LT(size, 60U);
}

TEST_P(WitnessRoundsFault, OfTwoWitnessesStopsTheLogWhichSaysWhyAndRecovers) {
  proven(3);
  ASSERT_TRUE(poll_until([&] { return witnesses_[1]->size() == 3 && witnesses_[2]->size() == 3; }));
  spoil(1), spoil(2);
  const auto stopped = round(5);
  ASSERT_THAT(stopped, FailsWith(Reason::kLogQuorum));
  EXPECT_EQ(stopped.error().next, Next::kRetryLater);
  EXPECT_THAT(stopped.error().what, HasSubstr("1 of 2 witnesses cosigned; w1: "));
  EXPECT_THAT(stopped.error().what, HasSubstr("; w2: "));
  EXPECT_THAT(stopped.error().what, Not(HasSubstr("w0")));
  EXPECT_THAT(stopped.error().what, HasSubstr(GetParam().why));
  mend(1), mend(2);
  EXPECT_TRUE(poll_until([&] { return round(5).has_value(); }));
  EXPECT_GE(proven(6), 2U);
}

INSTANTIATE_TEST_SUITE_P(All, WitnessRoundsFault, testing::ValuesIn(faults()),
                         [](const auto& one) { return std::string{one.param.name}; });

TEST_F(WitnessRoundsContract, WitnessesThatAreAwayAreMissedAndComeBack) {
  proven(3);
  witnesses_[1]->go_away();
  for (std::uint64_t size = 4; size < 8; ++size) EXPECT_EQ(proven(size), 2U);
  witnesses_[2]->go_away();
  refused(8, Reason::kLogQuorum, "1 of 2 witnesses cosigned; w1: ");
  witnesses_[1]->come_back();
  EXPECT_TRUE(poll_until([&] { return round(8).has_value(); }));
}

TEST_F(WitnessRoundsContract, AWitnessThatFlapsCostsNothing) {
  const auto count = std::make_shared<std::atomic<int>>(0);
  witnesses_[1]->fails([count](FaultyWitness&, WitnessAnswer& answer) {
    if (++*count % 2 == 0) answer = {503, kPlain, "unavailable\n"};
  });
  for (std::uint64_t size = 1; size <= 40; ++size) EXPECT_GE(proven(size), 2U);
  EXPECT_GT(*count, 0);
}

TEST_F(WitnessRoundsContract, ACosignatureOverAnotherRootDoesNotCount) {
  TestLog other{0, log_.origin()};
  grow(other, 9, "other");
  witnesses_[1]->fails([&](FaultyWitness&, WitnessAnswer& answer) {
    const auto line = log_.cosignature(1, now().get() / 1000, ledger::checkpoint_text(other.head(5)));
    answer = ledger::cosigned_answer({&line, 1});
  });
  witnesses_[2]->fails([&](FaultyWitness&, WitnessAnswer& answer) {  // another's key under its own name
    auto line = log_.cosignature(0, now().get() / 1000, ledger::checkpoint_text(log_.head(5)));
    line.name = TestLog::witness_name(2);
    line.key_id = log_.witness_vkey(2).id();
    answer = ledger::cosigned_answer({&line, 1});
  });
  refused(5, Reason::kLogQuorum, "w2: it answered 200 with");
}

// Told keeps the lines of the log.
class Told : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::vector<std::string> of(const std::string& witness) {
    const std::lock_guard lock{mutex_};
    std::vector<std::string> found;
    for (const std::string& line : lines_)
      if (line.starts_with("witness " + witness + " ")) found.push_back(line);
    return found;
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    lines_.emplace_back(message.payload.begin(), message.payload.end());
  }
  void flush_() override {}
  std::vector<std::string> lines_;
};

TEST_F(WitnessRoundsContract, TellsOfEachWitnessAndOncePerChange) {
  const auto told = std::make_shared<Told>();
  kLogger->sinks().push_back(told);
  EXPECT_THAT(rounds_->health(), testing::IsEmpty());
  proven(3);
  const auto is = [&](std::size_t i, bool answering, std::uint64_t size) {
    return poll_until([&] {
      const auto all = rounds_->health();
      return all.size() == 3 && all[i].name == "w" + std::to_string(i) && all[i].answering == answering &&
             all[i].size == TreeSize{size} && all[i].why.empty() == answering;
    });
  };
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(is(i, true, 3));
  const auto cosigned = rounds_->health()[1].cosigned;
  EXPECT_NEAR(static_cast<double>(cosigned.get()), static_cast<double>(now().get()), 5'000);
  // Whatever is wrong with it, and for how many rounds: one line. Its last cosignature is told still.
  witnesses_[1]->fails(says(503, kPlain, "unavailable\n"));
  for (std::uint64_t size = 4; size < 8; ++size) proven(size);
  EXPECT_TRUE(is(1, false, 3));
  EXPECT_EQ(rounds_->health()[1].why, "it answered 503");
  witnesses_[1]->fails(says(500, kPlain, ""));
  for (std::uint64_t size = 8; size < 12; ++size) proven(size);
  EXPECT_TRUE(poll_until([&] { return rounds_->health()[1].why == "it answered 500"; }));
  EXPECT_EQ(rounds_->health()[1].cosigned, cosigned);
  EXPECT_THAT(told->of("w1"), testing::ElementsAre("witness w1 stopped answering: it answered 503"));
  EXPECT_THAT(told->of("w0"), testing::IsEmpty());
  witnesses_[1]->behaves();
  proven(12);
  EXPECT_TRUE(is(1, true, 12));
  kLogger->sinks().pop_back();
}

TEST_F(WitnessRoundsContract, LetsWitnessesGoThatANewerPolicyDoesNotName) {
  proven(3);
  const int asked = witnesses_[2]->requests;
  // Without the third, while that is busy: nobody waits for it.
  witnesses_[2]->fails(sleeps(milliseconds{400}));
  proven(4);
  std::string text = "log " + ledger::format_vkey(log_.log_vkey()) + "\n";
  for (const std::size_t i : {1U, 0U})
    text += "witness w" + std::to_string(i) + " " + ledger::format_vkey(log_.witness_vkey(i)) + " " +
            witnesses_[i]->url() + "\n";
  policy_ = value_of(ledger::parse_witness_policy(text + "group both all w0 w1\nquorum both\n"));
  const auto began = std::chrono::steady_clock::now();
  for (std::uint64_t size = 5; size < 9; ++size) EXPECT_EQ(proven(size), 2U);
  EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds{350});
  const auto all = rounds_->health();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].name, "w1");
  EXPECT_LE(witnesses_[2]->requests, asked + 1);
}

TEST_F(WitnessRoundsContract, OneCosignatureIsOneHoweverOftenItIsGiven) {
  witnesses_[1]->go_away();
  witnesses_[2]->go_away();
  witnesses_[0]->fails([](FaultyWitness&, WitnessAnswer& answer) { answer.body += answer.body; });
  refused(5, Reason::kLogQuorum, "w0: it answered 200 with two cosignatures");
}

// One peer may still be asked of an older round (the policy gave the witness another address meanwhile).
TEST_F(WitnessRoundsContract, ATreeOfOursFromALaterRoundIsNoSecondHistory) {
  proven(9);
  ASSERT_TRUE(poll_until([&] { return witnesses_[1]->size() == 9 && witnesses_[2]->size() == 9; }));
  refused(6, Reason::kLogQuorum,
          "w1: it says that it has cosigned size 9, ours is 6, and shows a checkpoint of our tree");
  EXPECT_THAT(round(10), Succeeds());
}

// What a witness shows of our own signing is a proof, whoever shows it, and whether a quorum is there or not.
TEST_F(WitnessRoundsContract, ALargerTreeOfOurOwnSigningStopsTheLogForGood) {
  proven(5);
  ASSERT_TRUE(poll_until([&] { return witnesses_[1]->size() == 5; }));
  witnesses_[1]->knows(log_, 9);
  forget();
  EXPECT_TRUE(poll_until([&] { return !round(6).has_value(); }));  // with the round, or after its quorum
  refused(7, Reason::kLogRollback, "w1: it has cosigned size 9, ours is 6; our log has signed size 9");
  witnesses_[1]->knows(log_, 6);
  refused(7, Reason::kLogRollback, "w1");
}

TEST_F(WitnessRoundsContract, WhatIsShownAfterTheQuorumIsToldAtOnce) {
  proven(5);
  ASSERT_TRUE(poll_until([&] { return witnesses_[1]->size() == 5; }));
  witnesses_[1]->knows(log_, 9);
  witnesses_[1]->fails(sleeps(milliseconds{200}));
  forget();
  std::mutex mutex;
  std::string by, note;
  rounds_->on_two_histories([&](const WitnessRounds::TwoHistories& shown) {
    const std::lock_guard lock{mutex};
    by = shown.witness;
    note = shown.note;
  });
  EXPECT_EQ(proven(6), 2U);
  EXPECT_TRUE(poll_until([&] {
    const std::lock_guard lock{mutex};
    return by == "w1" && note == log_.signed_note(log_.head(9));
  }));
}

TEST_F(WitnessRoundsContract, TheFirstRoundWaitsALittleForThoseWhoMayKnowMore) {
  proven(5);
  ASSERT_TRUE(poll_until([&] { return witnesses_[1]->size() == 5; }));
  witnesses_[1]->knows(log_, 9);
  witnesses_[1]->fails(sleeps(milliseconds{50}));
  forget();
  EXPECT_THAT(rounds_->cosign(log_.signed_note(log_.head(6)), *policy_, milliseconds{500}),
              FailsWith(Reason::kLogRollback));
}

// A witness whose memory was lost blesses nothing: neither in the process that has seen it cosign, nor in one
// that knows it from the notes on disk. One that is known to be at less only is led on.
TEST_F(WitnessRoundsContract, AWitnessThatKnowsLessThanItHasCosignedIsOneThatDoesNotAnswer) {
  witnesses_[2]->go_away();
  EXPECT_EQ(proven(5), 2U);
  witnesses_[1]->knows(log_, 0);
  refused(6, Reason::kLogQuorum, "w1: it has cosigned size 5 and says that it knows 0: it lost its memory");
  forget();
  rounds_->has_cosigned(log_.witness_vkey(1).key().id(), TreeSize{5});
  refused(6, Reason::kLogQuorum, "w1: it has cosigned size 5 and says that it knows 0: it lost its memory");
  witnesses_[1]->knows(log_, 5);
  EXPECT_EQ(proven(6), 2U);
}

// A standby that was promoted holds the leaves, but not yet the newest note that a witness knows.
TEST_F(WitnessRoundsContract, ACheckpointOfWhatWeHoldIsGivenToUs) {
  witnesses_[2]->go_away();
  proven(9);
  forget();
  rounds_->holds(TreeSize{12});
  refused(6, Reason::kLogQuorum, "shows a checkpoint of our tree");
  const auto shown = rounds_->take_shown();
  ASSERT_TRUE(shown);
  EXPECT_EQ(shown->size, TreeSize{9});
  EXPECT_EQ(shown->note, log_.signed_note(log_.head(9)));
  EXPECT_FALSE(rounds_->take_shown());
  EXPECT_EQ(cosignatures(value_of(rounds_->cosign(shown->note, *policy_))), 2U);
}

TEST_F(WitnessRoundsContract, ALogThatWitnessesKnowIsNotBegunAgain) {
  const auto unseen = [&] {
    return ledger_service::require_unseen(Origin{log_.origin()}, *policy_, milliseconds{600});
  };
  EXPECT_THAT(unseen(), Succeeds());
  witnesses_[2]->go_away();
  EXPECT_THAT(unseen(), Succeeds());  // n − k + 1 of them
  witnesses_[1]->go_away();
  EXPECT_THAT(unseen(), FailsWith(Reason::kLogQuorum));
  witnesses_[1]->come_back();
  witnesses_[1]->knows(log_, 5);  // one is enough: it can show it
  EXPECT_THAT(unseen(), FailsWith(Reason::kLogRollback));
}

TEST_F(WitnessRoundsContract, AnotherTreeOfOurOwnSigningStopsTheLogForGood) {
  proven(5);
  ASSERT_TRUE(poll_until([&] { return witnesses_[1]->size() == 5; }));
  TestLog fork = log_;  // the same keys
  fork.tree = {};
  grow(fork, 60, "other");
  for (const std::uint64_t size : {4U, 6U}) {  // smaller than ours is; as large
    witnesses_[1]->knows(fork, size);
    forget();
    EXPECT_TRUE(poll_until([&] { return !round(6).has_value(); }));
    refused(7, Reason::kLogFork,
            "w1: it knows another history of this log; our log has signed size " + std::to_string(size));
  }
}

TEST_F(WitnessRoundsContract, WhatItCannotShowIsOneWitnessesWord) {
  proven(5);
  ASSERT_TRUE(poll_until([&] { return witnesses_[1]->size() == 5 && witnesses_[2]->size() == 5; }));
  TestLog stranger{0, log_.origin()};
  grow(stranger, 20, "stranger");
  witnesses_[1]->knows(stranger, 9);  // of a key that is not our log's
  witnesses_[2]->knows(log_, 9);
  witnesses_[2]->shows = false;
  refused(6, Reason::kLogQuorum,
          "w1: it says that it has cosigned size 9, ours is 6, and shows no checkpoint of our log's");
  refused(7, Reason::kLogQuorum,
          "w2: it says that it has cosigned size 9, ours is 7, and shows no checkpoint");
}

TEST_F(WitnessRoundsContract, EndsWhileAWitnessHangs) {
  const auto over = std::make_shared<std::atomic<bool>>(false);
  witnesses_[1]->fails([over](FaultyWitness&, WitnessAnswer&) { poll_until([&] { return over->load(); }); });
  proven(5);
  const auto began = std::chrono::steady_clock::now();
  rounds_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds{2500});
  *over = true;
}

}  // namespace
}  // namespace sallyport::test

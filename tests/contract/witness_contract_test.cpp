// The witness over real HTTP, as a process of its own; where a step inside of it matters, the same code in
// this process.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <latch>
#include <map>
#include <mutex>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/net/http_client.h"
#include "attestation/sqlite/sqlite.h"
#include "client/witness/key_file.h"
#include "client/witness/routes.h"
#include "tests/support/test_log.h"
#include "tests/support/witness_process.h"

namespace sallyport::witness {
namespace {

using namespace std::chrono_literals;
using ledger::AddCheckpointRequest;
using ledger::Checkpoint;
using ledger::Proof;
using ledger::UnixSeconds;
using net::HttpClient;
using net::HttpResponse;
using test::FailsWith;
using test::Process;
using test::Succeeds;
using test::TemporaryDirectory;
using test::TestLog;
using test::value_of;
using test::WitnessProcess;

constexpr const char* kProgram = SALLYPORT_WITNESS_PROGRAM;

void grow(ledger::Tree& tree, std::uint64_t size, std::string_view flavour = "entry") {
  while (tree.size().get() < size)
    tree.append(ledger::hash_leaf(as_bytes(std::string{flavour} + std::to_string(tree.size().get()))));
}

// A log, and how it speaks to a witness.
struct Log : TestLog {
  explicit Log(std::uint64_t size = 0, std::string origin = "us.sallyport.corp.example/log/1")
      : TestLog(0, std::move(origin)) {
    grow(tree, size);
  }
  std::string vkey() const { return ledger::format_vkey(log_vkey()); }
  std::string body(std::uint64_t old_size, const Checkpoint& checkpoint, const Proof& proof) const {
    return ledger::encode_add_checkpoint({TreeSize{old_size}, proof, signed_note(checkpoint)});
  }
  std::string body(std::uint64_t old_size, std::uint64_t size) const {
    return body(old_size, head(size),
                old_size > size ? Proof{} : value_of(tree.consistency(TreeSize{old_size}, TreeSize{size})));
  }
};

HttpResponse send(HttpClient& client, std::string_view body) {
  return value_of(client.post("/add-checkpoint", "text/plain", as_bytes(body)));
}
HttpResponse send(const std::string& url, std::string_view body) {
  auto client = value_of(HttpClient::connect(url, {}));
  return send(client, body);
}
// Not ::time(), which reads a coarser clock and may lag behind the witness's.
std::uint64_t seconds_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::floor<std::chrono::seconds>(now).count());
}
std::string checkpoint_path(const Log& log) {
  return "/" + to_hex(crypto::sha256(as_bytes(log.origin()))) + "/checkpoint";
}
std::uint64_t state_size(const std::string& url, const Log& log) {
  // Size 0 from 0 tells a witness's size without moving it: 409, or 200 when it has seen nothing.
  const auto answer = send(url, log.body(0, 0));
  if (answer.status == 200) return 0;
  EXPECT_EQ(answer.status, 409U);
  return value_of(ledger::parse_size_body(answer.text())).get();
}

class WitnessContract : public testing::Test {
 protected:
  Log log_{20};
  WitnessProcess witness_{kProgram, "witness.example/w1", {log_.vkey()}};
  HttpClient client_ = value_of(HttpClient::connect(witness_.url(), {}));

  // accepted sends a body and expects a cosignature over the checkpoint of `size`.
  UnixSeconds accepted(std::uint64_t old_size, std::uint64_t size) {
    const auto answer = send(client_, log_.body(old_size, size));
    EXPECT_EQ(answer.status, 200U) << answer.text();
    const auto verified = ledger::verify_cosigned_body(answer.text(), witness_.vkey(),
                                                       ledger::checkpoint_text(log_.head(size)));
    EXPECT_THAT(verified, Succeeds());
    return verified ? verified->time : UnixSeconds{0};
  }
  unsigned status(std::string_view body) { return send(client_, body).status; }
  void expect_size(std::uint64_t size) { EXPECT_EQ(state_size(witness_.url(), log_), size); }
};

TEST_F(WitnessContract, CosignsAGrowingLogWithTheTimeOfNow) {
  const auto before = seconds_now();
  accepted(0, 0);
  accepted(0, 1);
  accepted(1, 5);
  accepted(5, 5);
  const UnixSeconds last = accepted(5, 20);
  EXPECT_GE(last.get(), before);
  EXPECT_LE(last.get(), seconds_now());
  expect_size(20);
}

TEST_F(WitnessContract, Answers400ToWhatDoesNotParseAndToAnOldSizeAboveTheNew) {
  accepted(0, 5);
  const std::string good = log_.body(5, 8);
  for (const std::string& body :
       {std::string{}, std::string{"old 5\n"}, "new" + good.substr(3), "old 05" + good.substr(5), good + "x",
        "old 5\nnot base64\n\n" + log_.signed_note(log_.head(8))})
    EXPECT_EQ(status(body), 400U) << body;
  EXPECT_EQ(status(log_.body(8, 5)), 400U);
  expect_size(5);
}

TEST_F(WitnessContract, Answers403WithoutAValidSignatureOfTheLog) {
  const std::string text = ledger::checkpoint_text(log_.head(5));
  const Log impostor{5};
  const auto other_line = value_of(ledger::sign_note_line(impostor.log_key(), impostor.origin(), text));
  auto broken = value_of(ledger::sign_note_line(log_.log_key(), log_.origin(), text));
  broken.signature[10] ^= 1;
  const auto with = [&](std::vector<ledger::SignatureLine> lines) {
    return ledger::encode_add_checkpoint({TreeSize{0}, {}, ledger::encode_note({text, std::move(lines)})});
  };
  EXPECT_EQ(status(with({other_line})), 403U);
  EXPECT_EQ(status(with({broken})), 403U);
  EXPECT_EQ(status(with({other_line, broken})), 403U);
  EXPECT_EQ(status(log_.body(7, 5)), 400U);  // signed: the sizes are looked at
  expect_size(0);
}

TEST_F(WitnessContract, Answers404ToAnUnknownLogPathOrMethodOtherwise405) {
  const Log other{5, "eu.sallyport.corp.example/log/1"};
  EXPECT_EQ(status(other.body(0, 5)), 404U);
  EXPECT_EQ(value_of(client_.get("/")).status, 404U);
  EXPECT_EQ(value_of(client_.get("/add-checkpoint/")).status, 404U);
  EXPECT_EQ(value_of(client_.get("/healthz?x")).status, 404U);
  EXPECT_EQ(value_of(client_.get(checkpoint_path(other))).status, 404U);
  EXPECT_EQ(value_of(client_.get("/" + std::string(64, 'G') + "/checkpoint")).status, 404U);
  EXPECT_EQ(value_of(client_.post("/sign-subtree", "text/plain", {})).status, 404U);
  const auto wrong = value_of(client_.get("/add-checkpoint"));
  EXPECT_EQ(wrong.status, 405U);
  EXPECT_EQ(net::find_header(wrong.headers, "Allow"), "POST");
  EXPECT_EQ(value_of(client_.post("/healthz", "text/plain", {})).status, 405U);
  EXPECT_EQ(value_of(client_.post(checkpoint_path(log_), "text/plain", {})).status, 405U);
}

TEST_F(WitnessContract, Answers409WithItsSizeToAnotherOldSize) {
  for (const std::uint64_t size : {5U, 9U}) {
    accepted(size == 5 ? 0 : 5, size);
    for (const std::uint64_t old_size : {0U, 4U, 10U}) {
      const auto answer = send(client_, log_.body(old_size, 20));
      EXPECT_EQ(answer.status, 409U);
      EXPECT_EQ(answer.content_type, "text/x.tlog.size");
      EXPECT_EQ(answer.text(), std::to_string(size) + "\n");
    }
  }
  expect_size(9);
}

TEST_F(WitnessContract, Answers422ToWhatIsNotConsistent) {
  const Proof five_to_nine = value_of(log_.tree.consistency(TreeSize{5}, TreeSize{9}));
  Checkpoint empty = log_.head(0);
  empty.root = log_.head(1).root;
  EXPECT_EQ(status(log_.body(0, empty, {})), 422U);                   // an empty tree with another root
  EXPECT_EQ(status(log_.body(0, log_.head(9), five_to_nine)), 422U);  // a proof from nothing
  accepted(0, 5);
  Log fork;
  grow(fork.tree, 20, "other");
  EXPECT_EQ(status(log_.body(5, fork.head(5), {})), 422U);  // same size, other root
  Proof wrong = five_to_nine;
  wrong.front() = Digest256{};
  EXPECT_EQ(status(log_.body(5, log_.head(9), wrong)), 422U);
  EXPECT_EQ(status(log_.body(5, log_.head(9), {})), 422U);
  EXPECT_EQ(status(log_.body(5, fork.head(9), value_of(fork.tree.consistency(TreeSize{5}, TreeSize{9})))),
            422U);
  EXPECT_EQ(status(log_.body(5, log_.head(5), five_to_nine)), 422U);  // a proof between equal sizes
  expect_size(5);
  accepted(5, 9);
}

TEST_F(WitnessContract, Answers413ToABodyThatNoRequestNeeds) {
  EXPECT_EQ(status(std::string(ledger::kMaxAddCheckpointBytes + 1, 'x')), 413U);
}

TEST_F(WitnessContract, ServesTheNewestNoteWithOnlyWhatItHasChecked) {
  EXPECT_EQ(value_of(client_.get(checkpoint_path(log_))).status, 404U);
  const std::string text = ledger::checkpoint_text(log_.head(5));
  const Log stranger{5, "stranger.example/log"};
  const std::string note = value_of(ledger::add_signature_lines(
      log_.signed_note(log_.head(5)),
      {{value_of(ledger::sign_note_line(stranger.log_key(), stranger.origin(), text))}}));
  EXPECT_EQ(status(ledger::encode_add_checkpoint({TreeSize{0}, {}, note})), 200U);
  const auto answer = value_of(client_.get(checkpoint_path(log_)));
  EXPECT_EQ(answer.status, 200U);
  const auto served = value_of(ledger::parse_note(answer.text()));
  EXPECT_EQ(served.text, text);
  ASSERT_EQ(served.signatures.size(), 2U);
  EXPECT_THAT(ledger::verify_signature_line(served.signatures[0], log_.log_vkey(), text), Succeeds());
  EXPECT_THAT(ledger::verify_cosignature(served.signatures[1], witness_.vkey(), text), Succeeds());
  EXPECT_EQ(value_of(client_.get("/healthz")).text(), "ok\n");
}

TEST_F(WitnessContract, ReadsAreOfOnePathInOneSpelling) {
  accepted(0, 5);
  const std::string path = checkpoint_path(log_);
  const auto answer = value_of(client_.get(path));
  EXPECT_EQ(answer.status, 200U);
  EXPECT_EQ(answer.content_type, "text/plain; charset=utf-8");
  EXPECT_EQ(net::find_header(answer.headers, "Cache-Control"), "no-store");
  std::string upper = path;
  for (char& c : upper)
    if (c >= 'a' && c <= 'f') c = static_cast<char>(c - 'a' + 'A');
  for (const std::string& other :
       {upper.substr(0, 65) + "/checkpoint", path + "/", path + "?", "/" + path, path.substr(0, 65),
        path.substr(0, 64) + "/checkpoint", "/" + to_hex(crypto::sha256({})) + "/checkpoint"})
    EXPECT_EQ(value_of(client_.get(other)).status, 404U) << other;
}

TEST_F(WitnessContract, EveryRefusalIsPlainTextThatSaysLittle) {
  accepted(0, 5);
  const Log other{5, "eu.sallyport.corp.example/log/1"};
  const Log impostor{5};
  for (const auto& [status, body] : {std::pair{400U, std::string{"x"}},
                                     {404U, other.body(0, 5)},
                                     {403U, impostor.body(0, 5)},
                                     {422U, log_.body(5, log_.head(9), {})}}) {
    const auto answer = send(client_, body);
    EXPECT_EQ(answer.status, status);
    EXPECT_EQ(answer.content_type, "text/plain; charset=utf-8");
    EXPECT_LT(answer.text().size(), 80U);
  }
}

TEST_F(WitnessContract, OfTwoAtOnceOneIsCosignedAndTheOtherLearnsTheNewSize) {
  accepted(0, 5);
  for (std::uint64_t size = 5; size + 2 <= 19; size += 2) {
    std::latch start{2};
    std::pair<unsigned, std::string> answers[2];
    std::vector<std::thread> threads;
    for (std::uint64_t more = 1; more <= 2; ++more)
      threads.emplace_back([&, more] {
        const std::string body = log_.body(size, size + 2);
        auto client = value_of(HttpClient::connect(witness_.url(), {}));
        start.arrive_and_wait();
        const auto answer = send(client, body);
        answers[more - 1] = {answer.status, answer.content_type + " " + std::string{answer.text()}};
      });
    for (auto& thread : threads) thread.join();
    std::sort(std::begin(answers), std::end(answers));
    EXPECT_EQ(answers[0].first, 200U);
    EXPECT_EQ(answers[1], (std::pair{409U, "text/x.tlog.size " + std::to_string(size + 2) + "\n"}));
  }
}

TEST_F(WitnessContract, MetricsAreOfferedOnAnAddressOfTheirOwnAndOnlyWhenAsked) {
  EXPECT_EQ(value_of(client_.get("/metrics")).status, 404U);
  const TemporaryDirectory directory;
  const auto port_file = directory / "port";
  WitnessProcess witness{kProgram,
                         "witness.example/w2",
                         {log_.vkey()},
                         {{}, {"--operators", "127.0.0.1:0", "--operators-port-file", port_file.string()}}};
  EXPECT_EQ(send(witness.url(), log_.body(0, 5)).status, 200U);
  EXPECT_EQ(send(witness.url(), log_.body(0, 9)).status, 409U);
  EXPECT_EQ(send(witness.url(), log_.body(0, 9)).status, 409U);
  std::string port{as_text(test::read_file(port_file))};
  port.pop_back();
  auto operators = value_of(HttpClient::connect("http://127.0.0.1:" + port, {}));
  const auto answer = value_of(operators.get("/metrics"));
  EXPECT_EQ(answer.status, 200U);
  EXPECT_EQ(answer.content_type, "text/plain; version=0.0.4; charset=utf-8");
  const std::string text{answer.text()}, origin = "{origin=\"" + log_.origin() + "\"} ";
  for (const std::string& line :
       {std::string{"sallyport_witness_answers_total{call=\"add-checkpoint\",status=\"200\"} 1\n"},
        std::string{"sallyport_witness_answers_total{call=\"add-checkpoint\",status=\"409\"} 2\n"},
        std::string{"sallyport_witness_errors_total{kind=\"clock\"} 0\n"},
        std::string{"sallyport_witness_errors_total{kind=\"database\"} 0\n"},
        "sallyport_witness_cosigned_size" + origin + "5\n",
        "sallyport_witness_cosigned_age_seconds" + origin})
    EXPECT_THAT(text, testing::HasSubstr(line));
  EXPECT_EQ(value_of(operators.get("/")).status, 404U);
  EXPECT_EQ(value_of(operators.post("/metrics", "text/plain", {})).status, 405U);
  EXPECT_EQ(value_of(operators.post("/add-checkpoint", "text/plain", as_bytes(log_.body(5, 9)))).status,
            404U);
}

TEST_F(WitnessContract, ADiskThatTakesNoMoreCostsAnAnswerAndNeverAPromise) {
  grow(log_.tree, 400);
  const rlimit little{96 * 1024, 96 * 1024};
  ASSERT_EQ(::prlimit(witness_.process().pid(), RLIMIT_FSIZE, &little, nullptr), 0);
  std::uint64_t answered = 0;
  for (std::uint64_t size = 1; size <= log_.tree.size().get(); ++size) {
    const auto answer = client_.post("/add-checkpoint", "text/plain", as_bytes(log_.body(answered, size)));
    if (!answer || answer->status != 200) break;
    answered = size;
  }
  EXPECT_GT(answered, 0U);
  EXPECT_LT(answered, log_.tree.size().get());
  witness_.process().send(SIGKILL);  // where the limit has not ended it
  witness_.process().wait();
  witness_.start();
  const std::uint64_t remembered = state_size(witness_.url(), log_);
  EXPECT_GE(remembered, answered);
  EXPECT_LE(remembered, answered + 1);
}

TEST_F(WitnessContract, TwoLogsHaveTwoStates) {
  const Log other{7, "eu.sallyport.corp.example/log/1"};
  WitnessProcess both{kProgram, "witness.example/w2", {log_.vkey(), other.vkey()}};
  EXPECT_EQ(send(both.url(), log_.body(0, 5)).status, 200U);
  EXPECT_EQ(send(both.url(), other.body(0, 7)).status, 200U);
  EXPECT_EQ(state_size(both.url(), log_), 5U);
  EXPECT_EQ(state_size(both.url(), other), 7U);
}

TEST_F(WitnessContract, RemembersAfterARestartAndAKill) {
  accepted(0, 5);
  const std::string note{value_of(client_.get(checkpoint_path(log_))).text()};
  EXPECT_EQ(witness_.terminate(), 0);
  witness_.start();
  expect_size(5);
  witness_.restart();
  expect_size(5);
  client_ = value_of(HttpClient::connect(witness_.url(), {}));
  EXPECT_EQ(value_of(client_.get(checkpoint_path(log_))).text(), note);
  Log fork;
  grow(fork.tree, 9, "other");
  EXPECT_EQ(status(log_.body(5, fork.head(5), {})), 422U);
  EXPECT_EQ(status(log_.body(0, fork.head(9), {})), 409U);
  accepted(5, 20);
}

// Two histories race for every size, over many connections and to two processes with one memory: whatever
// wins, all cosignatures together are of one history.
TEST_F(WitnessContract, RacingHistoriesNeverBothGetACosignature) {
  constexpr std::uint64_t kRounds = 20;
  constexpr int kThreads = 6;
  std::vector<std::string> second_arguments{
      kProgram, "serve",     "--state",     witness_.state().string(),
      "--log",  log_.vkey(), "--port-file", (witness_.state() / "port2").string()};
  Process second{second_arguments, witness_.state() / "second.log"};
  ASSERT_TRUE(test::poll_until([&] { return std::filesystem::exists(witness_.state() / "port2"); }))
      << second.output();
  std::string port{as_text(test::read_file(witness_.state() / "port2"))};
  port.pop_back();
  const std::string second_url = "http://127.0.0.1:" + port;

  ledger::Tree trunk;
  grow(trunk, 1);
  EXPECT_EQ(status(log_.body(0, {Origin{log_.origin()}, TreeSize{1}, trunk.root(), {}}, {})), 200U);
  for (std::uint64_t size = 2; size < 2 + kRounds; ++size) {
    ledger::Tree branches[2] = {trunk, trunk};
    for (int b = 0; b < 2; ++b) grow(branches[b], size, b == 0 ? "left" : "right");
    std::atomic<int> wins[2] = {0, 0};
    std::latch start{kThreads};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        const int mine = t % 2;
        const ledger::Tree& tree = branches[mine];
        const std::string body = log_.body(size - 1, {Origin{log_.origin()}, TreeSize{size}, tree.root(), {}},
                                           value_of(tree.consistency(TreeSize{size - 1}, TreeSize{size})));
        auto client = value_of(HttpClient::connect(t % 3 == 0 ? second_url : witness_.url(), {}));
        start.arrive_and_wait();
        const auto answer = send(client, body);
        EXPECT_TRUE(answer.status == 200 || answer.status == 409) << answer.text();
        if (answer.status == 200) ++wins[mine];
      });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wins[0] + wins[1], 1) << "at size " << size;
    trunk = branches[wins[0] != 0 ? 0 : 1];
  }
}

// Whatever was answered before the kill is remembered after it.
TEST_F(WitnessContract, KilledAtAnyMomentItRemembersWhatItSaid) {
  grow(log_.tree, 2000);
  std::uint64_t answered = 0;
  for (int round = 0; round < 15; ++round) {
    std::atomic<std::uint64_t> seen = answered;
    std::thread sender{[&] {
      auto client = HttpClient::connect(witness_.url(), {});
      std::uint64_t size = state_size(witness_.url(), log_);
      while (client && size < log_.tree.size().get()) {
        const auto answer =
            client->post("/add-checkpoint", "text/plain", as_bytes(log_.body(size, size + 1)));
        if (!answer) return;  // killed
        EXPECT_EQ(answer->status, 200U);
        seen = ++size;
      }
    }};
    // A different number of answers each time, then the kill at whatever point the next one has reached.
    const std::uint64_t goal = answered + 1 + static_cast<std::uint64_t>(round);
    EXPECT_TRUE(test::poll_until([&] { return seen >= goal; }));
    witness_.kill();
    sender.join();
    answered = seen;
    witness_.start();
    const std::uint64_t remembered = state_size(witness_.url(), log_);
    EXPECT_GE(remembered, answered);
    EXPECT_LE(remembered, answered + 1);  // stored, and killed before it could say so
    answered = remembered;
  }
}

TEST_F(WitnessContract, StopsCleanlyAndTellsTheServiceManager) {
  const TemporaryDirectory directory;
  const int notify = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = (directory / "notify").string();
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(::bind(notify, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const timeval patience{20, 0};
  ::setsockopt(notify, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const auto heard = [&] {
    char text[256];
    const auto got = ::recv(notify, text, sizeof(text), 0);
    return got > 0 ? std::string{text, static_cast<std::size_t>(got)} : std::string{};
  };
  witness_.kill();
  std::ofstream{directory / "conf"} << "state = " << witness_.state().string() << "\nlog = " << log_.vkey()
                                    << "\nlisten = 127.0.0.1:0\n";
  Process served{{kProgram, "serve", "--config", (directory / "conf").string()},
                 directory / "log",
                 {"NOTIFY_SOCKET=" + path}};
  EXPECT_EQ(heard(), "READY=1");
  EXPECT_THAT(served.output(), testing::HasSubstr("listening on http://127.0.0.1:"));
  served.send(SIGTERM);
  EXPECT_EQ(heard(), "STOPPING=1");
  EXPECT_EQ(served.wait(), 0);
  ::close(notify);
}

// A witness that has cosigned two sizes and was stopped, and what happens to its state then.
class WitnessStart : public WitnessContract {
 protected:
  WitnessStart() {
    accepted(0, 5);
    accepted(5, 9);
    EXPECT_EQ(witness_.terminate(), 0);
    intact_ = test::read_file(file_);
  }
  std::pair<int, std::string> init(const std::filesystem::path& state) {
    return witness_.run({"init", "--state", state.string(), "--name", "witness.example/w1"});
  }
  void refuses(const std::string& why) {
    const auto [code, output] = witness_.run({"serve", "--state", state_.string(), "--log", log_.vkey()});
    EXPECT_NE(code, 0);
    EXPECT_THAT(output, testing::HasSubstr(why));
  }
  void write(const Bytes& bytes) {
    std::filesystem::remove(state_ / "witness.db-wal");
    std::filesystem::remove(state_ / "witness.db-shm");
    std::ofstream{file_, std::ios::binary} << as_text(bytes);
  }
  void starts_with_what_it_knew() {
    witness_.start();
    expect_size(9);
  }

  const std::filesystem::path state_ = witness_.state(), file_ = state_ / "witness.db";
  Bytes intact_;
};

TEST_F(WitnessStart, InitNeverBeginsAnewWhereSomethingIs) {
  const auto fails = [&](const char* why) {
    const auto [code, output] = init(state_);
    EXPECT_NE(code, 0);
    EXPECT_THAT(output, testing::HasSubstr(why));
  };
  fails("a memory is there already");
  std::filesystem::remove(file_);
  fails("a key is there already");  // which has cosigned, and nobody knows what
  std::filesystem::rename(state_ / "key.pem", state_ / "away.pem");
  std::ofstream{state_ / "witness.db-wal"} << "what is left of a memory";
  fails("something is there already");
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST_F(WitnessStart, NotWithoutItsMemory) {
  std::filesystem::remove(file_);
  refuses("no memory");
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST_F(WitnessStart, NotWithAnEmptyMemory) {
  write({});
  refuses("no memory");
  write(Bytes(4096, 0));
  refuses("file is not a database");
}

TEST_F(WitnessStart, NotWithAMemoryThatWasCutOff) {
  for (std::size_t size = 512; size < intact_.size(); size += 512) {
    SCOPED_TRACE(size);
    write({intact_.begin(), intact_.begin() + static_cast<std::ptrdiff_t>(size)});
    refuses("storage: ");
  }
  write(intact_);
  starts_with_what_it_knew();
}

TEST_F(WitnessStart, NotWithTheMemoryOfAnotherKey) {
  EXPECT_EQ(init(state_ / "other").first, 0);
  write(test::read_file(state_ / "other" / "witness.db"));
  refuses("another key");
}

TEST_F(WitnessStart, NotWithoutItsKey) {
  std::filesystem::remove(state_ / "key.pem");
  refuses("key.pem");
}

TEST_F(WitnessStart, NotWithAKeyThatOthersCanRead) {
  std::filesystem::permissions(state_ / "key.pem", std::filesystem::perms::group_read,
                               std::filesystem::perm_options::add);
  refuses("chmod 600");
}

// SQLite looks a log up in an index: one that does not lead to its row would make the log a new one.
TEST_F(WitnessStart, NotWithOneChangedByteWhereALogIsNamed) {
  const std::string bytes{as_text(intact_)};
  int places = 0;
  for (auto at = bytes.find(log_.origin()); at != bytes.npos; at = bytes.find(log_.origin(), at + 1)) {
    SCOPED_TRACE(at);
    if (bytes[at - 1] == ' ')
      continue;  // the log's own signature line: shown to others, and read by nobody here
    Bytes changed = intact_;
    changed[at] ^= 1;
    write(changed);
    refuses("storage: ");
    ++places;
  }
  EXPECT_GE(places, 3);  // the index, the row, its note
  write(intact_);
  starts_with_what_it_knew();
}

TEST_F(WitnessStart, NotWithAMemoryThatWasAltered) {
  for (const char* change :
       {"UPDATE tree SET size = 5", "UPDATE tree SET root = zeroblob(32)", "UPDATE tree SET time = time - 1",
        "UPDATE tree SET origin = 'eu.sallyport.corp.example/log/1'", "UPDATE tree SET note = 'x'",
        "UPDATE witness SET schema = 2", "UPDATE witness SET key = x'00'", "DELETE FROM witness"}) {
    SCOPED_TRACE(change);
    ASSERT_THAT(value_of(sqlite::Database::open(file_.string()))->execute(change), Succeeds());
    refuses("the database is damaged");
    write(intact_);
  }
  starts_with_what_it_knew();
}

TEST_F(WitnessContract, RefusesAWrongCommandLine) {
  const std::string state = witness_.state().string();
  const std::string witness_vkey = ledger::format_vkey(witness_.vkey());
  EXPECT_EQ(witness_.run({}).first, 2);
  EXPECT_EQ(witness_.run({"serve", "--state", state}).first, 2);
  EXPECT_EQ(witness_.run({"serve", "--state", state, "--lo", log_.vkey()}).first, 2);
  EXPECT_EQ(witness_.run({"serve", "--state", state, "--log", "nonsense"}).first, 2);
  EXPECT_EQ(witness_.run({"serve", "--state", state, "--log", witness_vkey}).first, 2);
  EXPECT_EQ(witness_.run({"serve", "--state", state, "--log", log_.vkey(), "--log", log_.vkey()}).first, 2);
  EXPECT_EQ(witness_.run({"serve", "--state", state, "--log", log_.vkey(), "--listen", "127.0.0.1"}).first,
            2);
  EXPECT_EQ(
      witness_.run({"serve", "--state", state, "--log", log_.vkey(), "--listen", "127.0.0.1:99999"}).first,
      2);
  EXPECT_EQ(witness_.run({"serve", "--state", state, "--log", log_.vkey(), "--operators", "9080"}).first, 2);
  EXPECT_EQ(witness_.run({"serve", "--state", state, "--log", log_.vkey() + " "}).first, 2);
  EXPECT_EQ(witness_.run({"init", "--state", state, "--name", "w", "--log", log_.vkey()}).first, 2);
  EXPECT_EQ(witness_.run({"key", "--state", state}), (std::pair{0, witness_vkey + "\n"}));
}

// In this process: the steps around the commit, the clock, a disk that fails.
class WitnessSteps : public testing::Test {
 protected:
  WitnessSteps() {
    vkey_ = value_of(
        ledger::NoteKey::make("witness.example/w1", ledger::NoteKeyType::kCosignature, key_.public_key()));
    EXPECT_THAT(Store::create(file_, *vkey_), Succeeds());
  }
  Witness::Options options() {
    return {*vkey_,
            [this](ByteView message) { return key_.sign_ed25519(message); },
            {{Origin{log_.origin()}, log_.log_vkey()}},
            [this] { return UnixSeconds{now_}; },
            [this](const Error&) { ++stopped_; },
            [this](const Error& error) {
              failures_.push_back(error.reason);
              metrics_.failed(error);
            }};
  }
  std::unique_ptr<Witness> open() { return open(options()); }
  std::unique_ptr<Witness> open(Witness::Options options) {
    return value_of(Witness::make(std::move(options), value_of(Store::open(file_, *vkey_))));
  }

  TemporaryDirectory directory_;
  std::filesystem::path file_ = directory_ / "witness.db";
  Log log_{20};
  crypto::PrivateKey key_ = value_of(create_key_file(directory_ / "key.pem"));
  std::optional<ledger::NoteKey> vkey_;
  std::uint64_t now_ = 1'800'000'000;
  int stopped_ = 0;
  std::vector<Reason> failures_;
  Metrics metrics_;
};

TEST_F(WitnessSteps, KilledBeforeTheCommitItForgetsAndAfterItItRemembers) {
  EXPECT_EQ(open()->add_checkpoint(log_.body(0, 3)).status, 200);
  for (const bool after : {false, true}) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto steps = options();
      (after ? steps.after_commit : steps.before_commit) = [] { ::raise(SIGKILL); };
      const int status = open(std::move(steps))->add_checkpoint(log_.body(3, 5)).status;
      ::_exit(status == 200 ? 1 : 2);  // never: it answered although it was killed
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    const auto reopened = open();
    const auto answer = reopened->add_checkpoint(log_.body(after ? 5 : 3, 5));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(reopened->add_checkpoint(log_.body(4, 9)).body, "5\n");
    if (!after) {  // back to 3 is not to be had: the rest of the test starts from a new memory
      for (const char* part : {"", "-wal", "-shm"}) std::filesystem::remove(file_.string() + part);
      ASSERT_THAT(Store::create(file_, *vkey_), Succeeds());
      EXPECT_EQ(open()->add_checkpoint(log_.body(0, 3)).status, 200);
    }
  }
}

TEST_F(WitnessSteps, DoesNotCosignWithAClockThatWentBack) {
  const auto witness = open();
  EXPECT_EQ(witness->add_checkpoint(log_.body(0, 3)).status, 200);
  const std::uint64_t first = now_;
  now_ = first - 2;  // a small step is waited out with the last time
  const auto answer = witness->add_checkpoint(log_.body(3, 4));
  ASSERT_EQ(answer.status, 200);
  EXPECT_EQ(value_of(ledger::verify_cosigned_body(answer.body, *vkey_, ledger::checkpoint_text(log_.head(4))))
                .time.get(),
            first);
  now_ = first - 3;
  EXPECT_EQ(witness->add_checkpoint(log_.body(4, 5)).status, 503);
  now_ = first + 1;
  EXPECT_EQ(witness->add_checkpoint(log_.body(4, 5)).status, 200);
  EXPECT_EQ(stopped_, 0);
}

TEST_F(WitnessSteps, StopsWhenACommitFails) {
  // A store whose disk fails at the commit: everything before it has gone well.
  class FailingStore final : public Store {
   public:
    Status update(const Origin&, const Decide& decide) override {
      SP_TRY(const auto next, decide(std::nullopt));
      if (!next) return Done{};
      failed_ = true;
      return Error{Code::kUnavailable, Reason::kStorage, "disk I/O error"};
    }
    Result<std::optional<StoredTree>> find(const Origin&) override { return std::optional<StoredTree>{}; }
    bool commit_failed() const override { return failed_; }

   private:
    bool failed_ = false;
  };
  const auto witness = value_of(Witness::make(options(), std::make_unique<FailingStore>()));
  EXPECT_EQ(witness->add_checkpoint(log_.body(4, 5)).status, 409);
  EXPECT_EQ(stopped_, 0);
  const auto answer = witness->add_checkpoint(log_.body(0, 5));
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.body, testing::Not(testing::HasSubstr("witness.example")));
  EXPECT_EQ(stopped_, 1);
  EXPECT_THAT(witness->check_memory(), FailsWith(Reason::kStorage));
}

// full_disk grows the log until the witness says something else than 200, and gives the size that was
// cosigned last. What is on disk then is that, or one more whose signature nobody has seen.
std::uint64_t full_disk(Witness& witness, Log& log) {
  grow(log.tree, 400);
  for (std::uint64_t size = 1; size <= 400; ++size) {
    const auto answer = witness.add_checkpoint(log.body(size - 1, size));
    if (answer.status == 200) continue;
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(answer.body, "unavailable\n");
    return size - 1;
  }
  ADD_FAILURE() << "the disk was not full";
  return 400;
}

TEST_F(WitnessSteps, WithoutSpaceItAnswers503AndKeepsWhatItSaid) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto signal_before = ::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit is EFBIG
  std::uint64_t answered = 0;
  {
    const auto witness = open();
    const rlimit little{96 * 1024, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &little), 0);
    answered = full_disk(*witness, log_);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  }
  ::signal(SIGXFSZ, signal_before);
  EXPECT_GT(answered, 0U);
  ASSERT_FALSE(failures_.empty());
  EXPECT_EQ(failures_.front(), Reason::kStorage);
  const auto size = value_of(open()->list_cosigned()).at(0).size.get();
  EXPECT_GE(size, answered);
  EXPECT_LE(size, answered + 1);
}

TEST_F(WitnessSteps, OnAFullFileSystemItAnswers503AndKeepsWhatItSaid) {
  const auto small = directory_ / "small";
  std::filesystem::create_directory(small);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // a file system of its own
    if (::unshare(CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", small.c_str(), "tmpfs", 0, "size=160k") != 0)
      ::_exit(77);
    file_ = small / "witness.db";
    bool good = Store::create(file_, *vkey_).has_value();
    const std::uint64_t answered = full_disk(*open(), log_);
    good = good && answered > 0 && answered < 400 && !failures_.empty();
    good = good && ::mount("none", small.c_str(), "tmpfs", MS_REMOUNT, "size=1m") == 0;
    const auto size = value_of(open()->list_cosigned()).at(0).size.get();
    good = good && size >= answered && size <= answered + 1 && !testing::Test::HasFailure();
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no file system can be mounted here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(WitnessSteps, ItsOwnErrorsAre503OverHttpAndCounted) {
  bool key_away = false;
  auto steps = options();
  steps.sign = [&](ByteView message) -> Result<crypto::Signature64> {
    if (key_away) return Error{Code::kUnavailable, Reason::kTokenTimeout, "the token does not answer"};
    return key_.sign_ed25519(message);
  };
  const auto witness = open(std::move(steps));
  auto server = value_of(net::HttpServer::start(
      server_options(), make_routes(*witness, [&](std::string_view call, const net::Connection&,
                                                  unsigned status) { metrics_.answered(call, status); })));
  EXPECT_EQ(send(server.url(), log_.body(0, 3)).status, 200U);
  now_ -= 10;
  const auto behind = send(server.url(), log_.body(3, 5));
  EXPECT_EQ(behind.status, 503U);
  EXPECT_EQ(behind.content_type, "text/plain; charset=utf-8");
  EXPECT_EQ(behind.text(), "unavailable\n");
  EXPECT_EQ(value_of(witness->list_cosigned()).at(0).age, -10s);
  now_ += 20;
  key_away = true;
  EXPECT_EQ(send(server.url(), log_.body(3, 5)).status, 503U);
  key_away = false;
  {
    const auto db = value_of(sqlite::Database::open(file_.string()));
    ASSERT_THAT(db->execute("ALTER TABLE tree RENAME TO gone"), Succeeds());
    EXPECT_EQ(send(server.url(), log_.body(3, 5)).status, 503U);
    auto client = value_of(HttpClient::connect(server.url(), {}));
    EXPECT_EQ(value_of(client.get(checkpoint_path(log_))).status, 503U);
    EXPECT_EQ(value_of(client.get("/healthz")).status, 503U);
    ASSERT_THAT(db->execute("ALTER TABLE gone RENAME TO tree"), Succeeds());
  }
  EXPECT_EQ(send(server.url(), log_.body(3, 5)).status, 200U);
  EXPECT_EQ(stopped_, 0);
  const std::string text = metrics_.text(*witness);
  for (const char* line : {"sallyport_witness_errors_total{kind=\"clock\"} 1\n",
                           "sallyport_witness_errors_total{kind=\"key\"} 1\n",
                           "sallyport_witness_errors_total{kind=\"database\"} 3\n",
                           "sallyport_witness_answers_total{call=\"add-checkpoint\",status=\"503\"} 3\n"})
    EXPECT_THAT(text, testing::HasSubstr(line));
}

TEST_F(WitnessSteps, ASignatureThatDoesNotVerifyIsNotStored) {
  auto steps = options();
  steps.sign = [&](ByteView message) -> Result<crypto::Signature64> {
    SP_TRY(auto signature, key_.sign_ed25519(message));
    signature[5] ^= 1;
    return signature;
  };
  const auto witness = open(std::move(steps));
  EXPECT_EQ(witness->add_checkpoint(log_.body(0, 3)).status, 503);
  EXPECT_EQ(value_of(witness->list_cosigned()).size(), 0U);
}

TEST_F(WitnessSteps, KeyFilesAreRefusedWhenOthersCouldReadThem) {
  const auto path = directory_ / "key.pem";
  EXPECT_EQ(value_of(load_key_file(path)).public_key(), key_.public_key());
  EXPECT_THAT(create_key_file(path), FailsWith(Code::kConflict));
  ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
  EXPECT_THAT(load_key_file(path), FailsWith(Code::kDenied));
  EXPECT_THAT(load_key_file(directory_ / "none"), FailsWith(Reason::kStorage));
  const auto wrong = directory_ / "p256.pem";
  const SecretBytes pem = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256).to_pem();
  std::ofstream{wrong, std::ios::binary} << as_text(pem.expose());
  ASSERT_EQ(::chmod(wrong.c_str(), 0600), 0);
  EXPECT_THAT(load_key_file(wrong), FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::witness

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "attestation/crypto/digest.h"
#include "attestation/follow/follower.h"
#include "attestation/net/tls.h"
#include "broker/ledger/standby.h"
#include "broker/ledger/standby_link.h"
#include "tests/support/broker_load.h"

// The real programs: a broker, its standby, one keyguard, three witnesses. The broker dies, and the standby
// goes on with the same log.
namespace sallyport::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

BrokerProcess::Programs programs() {
  return {SALLYPORT_KEYGUARD_PROGRAM, SALLYPORT_BROKER_PROGRAM, SALLYPORT_WITNESS_PROGRAM};
}

// A standby of a world's broker, in a state directory of its own.
class StandbyProcess {
 public:
  StandbyProcess(BrokerProcess& world, std::string name) : world_(world), name_(std::move(name)) {
    const SecretBytes pem = key_.to_pem();
    write("key", as_text(pem.expose()));
    fs::permissions(file("key"), fs::perms{0600});
    write("cert", value_of(net::make_self_signed_certificate(key_, {"localhost"})));
    start();
  }
  void start() {
    fs::remove(file("port"));
    fs::remove(file("operators"));
    process_.emplace(std::vector<std::string>{world_.broker_program(),
                                              "standby",
                                              "--state",
                                              world_.directory() / name_,
                                              "--trust",
                                              world_.directory() / "keyguard" / "trust.toml",
                                              "--listen",
                                              "127.0.0.1:" + port_,
                                              "--tls-key",
                                              file("key"),
                                              "--tls-cert",
                                              file("cert"),
                                              "--primary",
                                              "sha256:" + to_hex(world_.tls_key().id()),
                                              "--operators",
                                              "127.0.0.1:0",
                                              "--port-file",
                                              file("port"),
                                              "--operators-port-file",
                                              file("operators")},
                     file("log"));
    const bool up = poll_until([&] { return fs::exists(file("operators")) || !process_->running(); });
    ASSERT_TRUE(up && fs::exists(file("operators"))) << process_->output();
    port_ = line("port");
    operators_ = line("operators");
  }
  void kill() {
    process_->send(SIGKILL);
    process_->wait();
  }
  Process& process() { return *process_; }
  std::string flag() const {
    return "https://127.0.0.1:" + port_ + " sha256:" + to_hex(key_.public_key().id());
  }
  std::string url() const { return "https://127.0.0.1:" + port_; }
  const KeyId& key() const { return key_.public_key().id(); }
  const std::string& name() const { return name_; }
  std::pair<unsigned, std::string> ready() const {
    auto client = net::HttpClient::connect("http://127.0.0.1:" + operators_, {});
    if (!client.has_value()) return {0, describe(client.error())};
    const auto response = client->get("/readyz");
    if (!response.has_value()) return {0, describe(response.error())};
    return {response->status, std::string{response->text()}};
  }

 private:
  fs::path file(const std::string& what) const { return world_.directory() / (name_ + "." + what); }
  void write(const std::string& what, std::string_view text) const { std::ofstream{file(what)} << text; }
  std::string line(const std::string& what) const {
    std::string text{as_text(read_file(file(what)))};
    text.pop_back();
    return text;
  }
  BrokerProcess& world_;
  std::string name_, port_ = "0", operators_;
  crypto::PrivateKey key_ = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  std::optional<Process> process_;
};

class StandbyContract : public ::testing::Test {
 protected:
  BrokerProcess world{programs()};

  // follow_with has the broker start anew with this standby.
  void follow_with(const StandbyProcess& standby, const std::vector<std::string>& more = {}) {
    world.more_broker_arguments = {"--standby", standby.flag()};
    world.more_broker_arguments.insert(world.more_broker_arguments.end(), more.begin(), more.end());
  }
  void restart_with(const StandbyProcess& standby, const std::vector<std::string>& more = {}) {
    follow_with(standby, more);
    world.kill_broker();
    world.start_broker();
  }
  // promote ends a standby and makes its directory the one that the next broker writes.
  void promote(StandbyProcess& standby) {
    standby.kill();
    const auto [code, text] = world.run_broker({"promote", "--state", world.directory() / standby.name(),
                                                "--trust", world.directory() / "keyguard" / "trust.toml"});
    EXPECT_EQ(code, 0) << text;
    EXPECT_THAT(text, HasSubstr("promoted: "));
    world.broker_state = standby.name();
    world.more_broker_arguments.clear();
  }
};

// Load appends drills, each until it is told where it is, and keeps what it was told.
class Load {
 public:
  explicit Load(const BrokerProcess& world) : thread_([this, &world] { run(world); }) {}
  ~Load() {
    stop_ = true;
    thread_.join();
  }
  std::size_t count() {
    const std::lock_guard lock{mutex_};
    return told_.size();
  }
  std::vector<std::pair<Digest256, std::uint64_t>> told() {
    const std::lock_guard lock{mutex_};
    return told_;
  }

 private:
  void run(const BrokerProcess& world) {
    std::optional<ApiPeer> peer;
    while (!stop_) {
      Digest256 digest;
      const record::Submission submission = make_drill(world, &digest);
      while (!stop_) {
        if (!peer) {
          auto fresh = world.peer("ivan");
          if (fresh.has_value()) peer.emplace(std::move(*fresh));
          if (!peer) std::this_thread::sleep_for(milliseconds{2});
          continue;
        }
        const auto done = peer->submit(submission);
        if (done.has_value()) {
          const std::lock_guard lock{mutex_};
          told_.emplace_back(digest, done->leaf);
          break;
        }
        peer.reset();
      }
    }
  }
  std::mutex mutex_;
  std::vector<std::pair<Digest256, std::uint64_t>> told_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// A dozen times the broker is killed at some moment of some append, its standby goes on with the same log,
// and a new standby begins to follow that one.
TEST_F(StandbyContract, NothingAcknowledgedIsLostWhenTheStandbyGoesOnDestructive) {
  std::mt19937 random{7};
  auto standby = std::make_unique<StandbyProcess>(world, "standby-0");
  restart_with(*standby);
  const fs::path followed = world.directory() / "follower.db";
  const follow::TrustAnchor anchor{world.company.origin(), world.company.genesis};
  value_of(follow::Follower::create(followed, anchor));
  const auto follower = value_of(follow::Follower::open(followed, anchor));
  std::vector<std::pair<Digest256, std::uint64_t>> told;
  {
    Load one{world}, two{world};
    for (int kill = 1; kill <= 12; ++kill) {
      const std::size_t target = one.count() + two.count() + 1 + random() % 4;
      ASSERT_TRUE(poll_until([&] { return one.count() + two.count() >= target; }))
          << "kill " << kill << ": " << world.ready().second << world.broker().output();
      std::this_thread::sleep_for(milliseconds{random() % 20});
      world.kill_broker();
      if (kill % 4 == 0) {  // both hosts at once, and a keyguard that wants fresh word of the witnesses
        world.kill_keyguard();
        world.start_keyguard();
      }
      promote(*standby);
      standby = std::make_unique<StandbyProcess>(world, "standby-" + std::to_string(kill));
      follow_with(*standby);
      world.start_broker();
    }
    const std::size_t target = one.count() + two.count() + 3;
    EXPECT_TRUE(poll_until([&] { return one.count() + two.count() >= target; })) << world.ready().second;
    for (Load* load : {&one, &two})
      for (const auto& each : load->told()) told.push_back(each);
  }
  world.replay();  // each entry is one that may be there
  std::map<Digest256, std::uint64_t> in_log;
  for (std::size_t i = 0; i < world.company.entries.size(); ++i) {
    const auto body = value_of(record::parse_body(world.company.entries[i].body));
    EXPECT_TRUE(in_log.emplace(record::statement_digest(value_of(record::open_envelope(body))), i).second);
  }
  EXPECT_GE(told.size(), 15u);
  for (const auto& [digest, leaf] : told) {
    ASSERT_TRUE(in_log.contains(digest)) << "what was acknowledged is lost";
    EXPECT_EQ(in_log.at(digest), leaf);
  }
  // Who follows goes on: same origin, same witnesses, no break.
  ApiPeer reader = value_of(world.peer("olga"));
  const auto batch = value_of(record::parse_batch(value_of(reader.get("/v1/follow?from=0"))));
  EXPECT_THAT(follower->accept(batch), Succeeds());
  // Every cosigned checkpoint that is kept is of this one tree.
  for (const std::string& note : value_of(reader.checkpoints(TreeSize{1}))) {
    const auto checked = value_of(ledger::check_quorum(note, world.company.policy().witnesses));
    if (checked.size() > world.company.tree.size()) continue;  // it went on meanwhile
    EXPECT_EQ(checked.root(), value_of(world.company.tree.root(checked.size())));
  }
}

TEST_F(StandbyContract, NothingIsSignedThatTheStandbyDoesNotHoldAndItCatchesUpByItself) {
  for (int i = 0; i < 3; ++i) value_of(drill(world));
  StandbyProcess standby{world, "standby"};
  restart_with(standby, {"--standby-wait-ms", "300"});
  value_of(drill(world));  // size 5: it has caught up from nothing
  EXPECT_TRUE(poll_until([&] { return standby.ready().first == 200; })) << standby.ready().second;
  EXPECT_THAT(standby.ready().second, HasSubstr("holds 5 leaves"));
  EXPECT_TRUE(
      poll_until([&] { return standby.ready().second.find("cosigned up to 5") != std::string::npos; }));
  EXPECT_THAT(world.operators("/metrics").second,
              HasSubstr("sallyport_standby_in_step{standby=\"" + standby.url() + "\"} 1"));

  standby.kill();
  ASSERT_TRUE(poll_until([&] { return world.ready().first == 503; })) << world.ready().second;
  std::atomic<bool> done = false;
  std::thread waits{[&] {
    EXPECT_THAT(drill(world), Succeeds());
    done = true;
  }};
  EXPECT_TRUE(poll_until([&] {
    return world.operators("/metrics").second.find("sallyport_log_size 6\n") != std::string::npos;
  }));
  EXPECT_TRUE(poll_until([&] {
    return world.ready().second.find(standby.url() + " holds 5 of 6") != std::string::npos;
  })) << world.ready().second;
  EXPECT_FALSE(done);
  const std::string path =
      "/" + to_hex(crypto::sha256(as_bytes(world.company.origin().get()))) + "/checkpoint";
  for (const auto& witness : world.witnesses) {  // nobody has seen a sixth leaf
    auto client = value_of(net::HttpClient::connect(witness->url(), {}));
    EXPECT_THAT(std::string{value_of(client.get(path)).text()}, HasSubstr("\n5\n"));
  }
  standby.start();
  waits.join();
  world.expect_ready();
  world.kill_broker();
  promote(standby);
  world.start_broker();
  EXPECT_EQ(value_of(drill(world)).leaf, 6u);
}

TEST_F(StandbyContract, BestEffortGoesOnAndTellsTheLag) {
  StandbyProcess standby{world, "standby"};
  restart_with(standby, {"--standby-wait-ms", "300", "--standby-best-effort"});
  value_of(drill(world));
  standby.kill();
  value_of(drill(world));
  value_of(drill(world));
  EXPECT_TRUE(poll_until([&] {
    const auto [status, text] = world.ready();
    return status == 200 && text.find("standby " + standby.url() + " holds 2 of 4: ") != std::string::npos;
  })) << world.ready().second;
  standby.start();
  EXPECT_TRUE(poll_until([&] { return world.ready().second.starts_with("ready\n"); }))
      << world.ready().second;
}

TEST_F(StandbyContract, AnOldPrimaryThatStillRunsGetsNothingSignedAndStops) {
  StandbyProcess standby{world, "standby"};
  restart_with(standby, {"--standby-wait-ms", "300", "--standby-best-effort"});
  value_of(drill(world));
  // Two writers are refused before they can differ: the directory is a standby's, and in use.
  const std::vector<std::string> serve{"serve",
                                       "--state",
                                       world.directory() / "standby",
                                       "--trust",
                                       world.directory() / "keyguard" / "trust.toml",
                                       "--keyguard",
                                       world.directory() / "keyguard.socket",
                                       "--listen",
                                       "127.0.0.1:0",
                                       "--tls-key",
                                       world.directory() / "tls-key.pem",
                                       "--tls-cert",
                                       world.directory() / "tls-cert.pem"};
  auto refused = world.run_broker(serve);
  EXPECT_NE(refused.first, 0);
  EXPECT_THAT(refused.second, HasSubstr("another sallyportd uses"));
  standby.kill();
  refused = world.run_broker(serve);
  EXPECT_NE(refused.first, 0);
  EXPECT_THAT(refused.second, AllOf(HasSubstr("is a standby's"), HasSubstr("sallyportd promote --state")));
  auto again =
      world.run_broker({"standby", "--state", world.directory() / "broker", "--trust",
                        world.directory() / "keyguard" / "trust.toml", "--listen", "127.0.0.1:0", "--tls-key",
                        world.directory() / "tls-key.pem", "--tls-cert", world.directory() / "tls-cert.pem",
                        "--primary", "sha256:" + std::string(64, '0')});
  EXPECT_NE(again.first, 0);
  EXPECT_THAT(again.second, HasSubstr("another sallyportd uses"));

  ApiPeer to_old = value_of(world.peer("ivan"));
  const std::string operators = world.operators_url();
  Process old = world.take_broker();
  promote(standby);
  world.start_broker();
  value_of(drill(world));

  EXPECT_THAT(to_old.submit(make_drill(world)), FailsWith(Code::kUnavailable));
  const auto ready = [&] {
    auto client = value_of(net::HttpClient::connect(operators, {}));
    return std::string{value_of(client.get("/readyz")).text()};
  };
  EXPECT_TRUE(poll_until([&] { return ready().find("takes no entries") != std::string::npos; })) << ready();
  EXPECT_THAT(to_old.submit(make_drill(world)), FailsWith(Reason::kReadOnly));
  // It has still the entry that it could not have signed; nobody else has.
  value_of(drill(world));
  world.replay();
  EXPECT_EQ(world.company.entries.size(), 4u);
  EXPECT_TRUE(old.running());

  // Started again, it finds what it missed.
  old.send(SIGKILL);
  old.wait();
  world.kill_broker();
  world.broker_state = "broker";
  world.start_broker();
  EXPECT_TRUE(poll_until([&] { return world.ready().second.find("takes no entries") != std::string::npos; }))
      << world.ready().second;
}

TEST_F(StandbyContract, TakesNothingFromStrangersAndNothingThatDoesNotFollow) {
  using namespace ledger_service;
  StandbyProcess standby{world, "standby"};
  restart_with(standby);
  value_of(drill(world));
  world.replay();
  world.kill_broker();
  const auto connect = [&] {
    net::HttpClientOptions options;
    options.pins = {standby.key()};
    return value_of(net::HttpClient::connect(standby.url(), options));
  };
  const auto post = [](net::HttpClient& client, const std::string& call, const Bytes& body) {
    const auto response = value_of(client.post("/v1/standby/" + call, "application/octet-stream", body));
    return response.status == 200 ? Result<Bytes>{response.body}
                                  : Result<Bytes>{parse_refusal(response.status, response.text())};
  };
  const auto head_at = [&](std::uint64_t size) {
    return store::Head{TreeSize{size}, value_of(world.company.tree.root(TreeSize{size}))};
  };
  const auto hello = [&](const net::HttpClient& client, const crypto::PrivateKey& key, store::Head head) {
    const Origin origin = world.company.origin();
    return encode(StandbyHello{key.public_key(),
                               value_of(key.sign_p256(hello_digest(client.exporter().value(), origin))),
                               origin, head});
  };
  const crypto::PrivateKey& primary = world.company.company.tls;
  StreamedEntries none;
  none.old_root = head_at(2).root;
  none.page.from = LeafIndex{2};

  // Strangers: no proof, another's key, a proof of another connection.
  net::HttpClient client = connect();
  EXPECT_THAT(post(client, "entries", encode(none)), FailsWith(Reason::kDenied));
  EXPECT_THAT(post(client, "hello",
                   hello(client, crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256), head_at(2))),
              FailsWith(Reason::kDenied));
  net::HttpClient other = connect();
  EXPECT_THAT(post(client, "hello", hello(other, primary, head_at(2))), FailsWith(Reason::kUnverified));
  EXPECT_THAT(post(client, "entries", encode(none)), FailsWith(Reason::kDenied));
  // A primary with another history.
  store::Head fork = head_at(2);
  fork.root = crypto::sha256(as_bytes("another"));
  EXPECT_THAT(post(client, "hello", hello(client, primary, fork)), FailsWith(Reason::kLogFork));
  EXPECT_THAT(post(client, "entries", encode(none)), FailsWith(Reason::kDenied));

  const auto standing =
      value_of(parse_standing(value_of(post(client, "hello", hello(client, primary, head_at(2))))));
  EXPECT_EQ(standing.head.size, TreeSize{2});
  EXPECT_EQ(standing.head.root, head_at(2).root);
  const auto page = [&](std::uint64_t from, std::vector<record::Entry> entries) {
    StreamedEntries out;
    out.old_root = from <= 2 ? head_at(from).root : head_at(2).root;
    out.page = {LeafIndex{from}, std::move(entries)};
    return encode(out);
  };
  const auto drill_entry = [&] {
    const record::Submission submission = make_drill(world);
    const auto envelope = value_of(record::parse_envelope(submission.envelope));
    const auto statement = value_of(record::parse_revocation(envelope.payload));
    return world.company.entry(record::Kind::kRevocation, statement.case_id, submission);
  };
  const record::Entry third = drill_entry(), another = drill_entry();
  // What does not begin where it stands; what follows another tree; what prepare() refuses.
  EXPECT_THAT(post(client, "entries", page(3, {third})), FailsWith(Reason::kLogOrder));
  StreamedEntries elsewhere = none;
  elsewhere.old_root = fork.root;
  elsewhere.page.entries = {third};
  EXPECT_THAT(post(client, "entries", encode(elsewhere)), FailsWith(Reason::kLogFork));
  record::Entry broken = another;
  broken.body.back() ^= 1;
  EXPECT_THAT(post(client, "entries", page(2, {third, broken})), FailsWith(Reason::kLogBody));
  EXPECT_THAT(post(client, "entries", page(2, {third, world.company.entries[1]})),
              FailsWith(Reason::kLogOrder));
  EXPECT_EQ(value_of(parse_standing(value_of(client.get("/v1/standby")).body)).head.size, TreeSize{2});
  // It takes what follows, the same again, and no other leaf at that place.
  EXPECT_THAT(post(client, "entries", page(2, {third})), Succeeds());
  EXPECT_THAT(post(client, "entries", page(1, {world.company.entries[1], third})), Succeeds());
  EXPECT_THAT(post(client, "entries", page(2, {another})), FailsWith(Reason::kLogFork));
  EXPECT_EQ(standby.ready().first, 503u);
  EXPECT_THAT(standby.ready().second, HasSubstr("log/fork"));
  // Notes: of the log and its witnesses, and of this tree.
  EXPECT_THAT(post(client, "notes", encode(StreamedNotes{NoteKind::kCosigned, {"no note\n"}})),
              FailsWith(Code::kMalformed));
  const auto cosigned =
      value_of(store::open_sqlite(world.directory() / "broker" / "log.db"))->newest_cosigned();
  const std::string good = value_of(cosigned)->note;
  EXPECT_THAT(post(client, "notes", encode(StreamedNotes{NoteKind::kCosigned, {good}})), Succeeds());
  std::string bad = good;
  bad.replace(bad.find("\n2\n"), 3, "\n3\n");
  EXPECT_THAT(post(client, "notes", encode(StreamedNotes{NoteKind::kCosigned, {bad}})),
              FailsWith(Reason::kLogCheckpoint));

  // A primary that starts with less than its standby holds was rolled back, and says so.
  world.start_broker();
  EXPECT_TRUE(poll_until([&] {
    return world.ready().second.find("holds size 3, this database ends at size 2") != std::string::npos;
  })) << world.ready().second;
  EXPECT_THAT(drill(world), FailsWith(Reason::kReadOnly));
}

TEST_F(StandbyContract, AttachmentsReachTheStandbyBeforeTheirEntryIsSigned) {
  const auto ask = [&](std::uint8_t fill) {
    world.replay();
    SoftTpm tpm;
    ApiPeer erin = value_of(world.peer("erin"));
    RecordScenario::RequestStep step;
    step.note = value_of(erin.head());
    step.tpm = &tpm;
    step.attachments = {{"dump", Bytes(300'000, fill)}};
    const auto open = world.company.make_request(step);
    EXPECT_THAT(erin.submit(open.submission), FailsWith(Reason::kDeviceUnknown));
    for (const record::Blob& blob : open.submission.blobs)
      if (blob.type == record::EvidenceType::kAttachment) return record::item_of(blob).sha256;
    return Digest256{};
  };
  const Digest256 before = ask(1);
  StandbyProcess standby{world, "standby"};
  restart_with(standby);
  const Digest256 after = ask(2);
  world.kill_broker();
  standby.kill();
  const auto copy = value_of(store::open_sqlite(world.directory() / "standby" / "log.db"));
  EXPECT_TRUE(value_of(copy->find_blob(before)));
  EXPECT_TRUE(value_of(copy->find_blob(after)));
}

}  // namespace
}  // namespace sallyport::test

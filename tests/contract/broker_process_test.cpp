#include <signal.h>

#include <atomic>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/crypto/ssh_key.h"
#include "attestation/evidence/key_policy.h"
#include "attestation/follow/follower.h"
#include "attestation/ledger/merkle.h"
#include "attestation/record/dossier.h"
#include "broker/credentials/ssh_certificate.h"
#include "broker/http/api_server.h"
#include "client/connection/session.h"
#include "tests/support/broker_access.h"
#include "tests/support/matchers.h"
#include "tests/support/real_machine.h"
#include "tests/support/swtpm.h"

// The real programs: keyguard over SoftHSM, three witnesses of which two must cosign, and the broker.
// Each of them goes away for a while; what happens when they are killed is in fault_matrix_test.
namespace sallyport::test {
namespace {

using namespace record;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

BrokerProcess::Programs programs() {
  return {SALLYPORT_KEYGUARD_PROGRAM, SALLYPORT_BROKER_PROGRAM, SALLYPORT_WITNESS_PROGRAM};
}

// What a person's machine knows of the world, in `directory`, which has followed nothing yet.
client::Settings make_settings(const BrokerProcess& world, const std::filesystem::path& directory,
                               follow::Begin begin = follow::Begin::kFromSnapshot) {
  client::Settings settings;
  settings.directory = directory;
  settings.url = world.url();
  settings.anchor = {world.company.origin(), world.company.genesis};
  value_of(follow::Follower::create(settings.follow_file(), settings.anchor, begin));
  return settings;
}

// Every checkpoint that anybody was ever shown, and every leaf that anybody was told of.
struct Seen {
  std::mutex mutex;
  std::vector<std::string> notes;
  std::vector<std::pair<Digest256, std::uint64_t>> told;  // statement digest, leaf
  std::string refused;                                    // the newest refusal
  std::size_t count() {
    const std::lock_guard lock{mutex};
    return told.size();
  }
  std::string refusal() {
    const std::lock_guard lock{mutex};
    return refused;
  }
};

// Appender submits one revocation after the other, each again and again until it is told where it is.
class Appender {
 public:
  Appender(const BrokerProcess& world, Seen& seen) : thread_([this, &world, &seen] { run(world, seen); }) {}
  ~Appender() {
    stop_ = true;
    thread_.join();
  }

 private:
  void run(const BrokerProcess& world, Seen& seen) {
    std::optional<ApiPeer> peer;
    while (!stop_) {
      Digest256 digest;
      const Submission submission = make_revocation(world, digest);
      while (!stop_) {
        if (!peer) {
          auto fresh = world.peer("ivan");
          if (!fresh.has_value()) {
            std::this_thread::yield();
            continue;
          }
          peer.emplace(std::move(*fresh));
        }
        const auto done = peer->submit(submission);
        if (done.has_value()) {
          auto head = peer->head();
          const std::lock_guard lock{seen.mutex};
          seen.told.emplace_back(digest, done->leaf);
          if (head.has_value()) seen.notes.push_back(std::move(*head));
          break;
        }
        {
          const std::lock_guard lock{seen.mutex};
          seen.refused = "[" + std::string{reason_name(done.error().reason)} + "] " + done.error().what;
        }
        peer.reset();
      }
    }
  }
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

std::size_t count_lines(const std::string& text, std::string_view with) {
  std::size_t count = 0;
  for (auto at = text.find(with); at != text.npos; at = text.find(with, at + 1)) ++count;
  return count;
}

TEST(BrokerProcess, LeadsFromARequestToTheSignatureOverALease) {
  BrokerProcess world{programs()};
  Access access{world};
  const OpenCase open = access.request();
  const api::Activated given = value_of(access.activate(open));

  ApiPeer erin = value_of(world.peer("erin"));
  const Bytes host_key = value_of(crypto::ssh_key_blob(world.company.host_key.public_key()));
  const auto content = [&](std::string_view user) {
    return std::move(Writer{}
                         .prefixed32("the key exchange")
                         .u8(50)
                         .prefixed32(user)
                         .prefixed32("ssh-connection")
                         .prefixed32("publickey-hostbound-v00@openssh.com")
                         .u8(1)
                         .prefixed32(credentials::kSshCertificateType)
                         .prefixed32(given.certificate)
                         .prefixed32(host_key))
        .take();
  };
  const Bytes nonce = to_bytes(view(crypto::random_nonce()));
  EXPECT_THAT(erin.lease(open.id, {content("dbadmin"), 10, nonce}), FailsWith(Reason::kNotAttested));
  value_of(erin.attest(world.company.machine("laptop")));
  EXPECT_THAT(erin.lease(open.id, {content("root"), 10, nonce}), FailsWith(Reason::kLeaseUser));
  const api::Leased leased = value_of(erin.lease(open.id, {content("dbadmin"), 10, nonce}));
  const Digest256 expected = value_of(evidence::lease_hash(
      nonce, 10, evidence::cp_hash_sign(open.key.name, crypto::sha256(content("dbadmin"))),
      evidence::lease_policy_ref(world.company.origin(), open.id)));
  EXPECT_THAT(crypto::verify_p256(world.company.company.policy.lease, expected, leased.signature),
              Succeeds());
  world.replay();
  EXPECT_EQ(world.company.entries.back().leaf.kind, static_cast<std::uint8_t>(Kind::kLease));
  // Another person, or another machine, gets none.
  ApiPeer mona = value_of(world.peer("mona"));
  value_of(mona.attest(world.company.machine("laptop")));
  EXPECT_THAT(mona.lease(open.id, {content("dbadmin"), 10, nonce}), FailsWith(Reason::kCaseUnknown));
  EXPECT_THAT(erin.attest(world.company.machine("alice-laptop")), Succeeds());
  EXPECT_THAT(erin.lease(open.id, {content("dbadmin"), 10, nonce}), FailsWith(Reason::kCaseUnknown));
}

TEST(BrokerProcess, AnApprovalThatNoLongerCountsIsLeftOutOfTheGrantAndItsDossier) {
  BrokerProcess world{programs()};
  Access access{world};
  access.enrol("carol-laptop", "carol");
  const OpenCase open = access.request();
  access.approve(open, "carol");
  const Revocation revocation{.authority = world.company.company.policy.origin,
                              .case_id = crypto::random_case_id(),
                              .kind = RevocationKind::kPerson,
                              .person = SampleCompany::id("ivan"),
                              .reason = "left the company",
                              .target = SampleCompany::id("bob"),
                              .time = BrokerProcess::wall_clock()};
  value_of(
      value_of(world.peer("ivan"))
          .submit(
              {world.company.sign(Kind::kRevocation, revocation, world.company.company.token("ivan")), {}}));
  const api::Activated given = value_of(access.activate(open));
  EXPECT_EQ(value_of(parse_dossier(given.dossier)).approval_bodies.size(), 3u);  // of four
}

// ---- away, and back

TEST(BrokerProcess, WaitsForWitnessesAndRecoversByItself) {
  BrokerProcess world{programs()};
  world.expect_ready();
  world.witnesses[0]->kill();
  world.witnesses[1]->kill();
  Seen seen;
  const Appender appender{world, seen};
  world.expect_not_ready("log/quorum");
  // Each witness is told of: who answers, who does not and why, and what it did last.
  const std::string text = world.ready().second, json = world.operators("/readyz?format=json").second,
                    metrics = world.operators("/metrics").second;
  EXPECT_THAT(text,
              testing::ContainsRegex("witness [^ ]+: answers; last cosigned size [0-9]+ at 20[0-9-]+T"));
  EXPECT_THAT(text,
              testing::ContainsRegex("witness [^ ]+: does not answer: .*; last cosigned size [0-9]+ at"));
  EXPECT_THAT(json, testing::HasSubstr("\"ready\":false"));
  EXPECT_EQ(count_lines(metrics, "sallyport_witness_answers{witness="), 3u) << metrics;
  EXPECT_THAT(
      json, testing::ContainsRegex("\"answering\":false,\"cosigned\":1[0-9]+,\"name\":\"[^\"]+\",\"size\":"));
  EXPECT_EQ(seen.count(), 0u);  // a revocation is acknowledged only when witnesses have cosigned it
  world.witnesses[0]->start();
  EXPECT_TRUE(poll_until([&] { return seen.count() != 0; }));
  world.expect_ready();
  EXPECT_LE(count_lines(world.broker().output(), "stopped answering: "), 2u) << world.broker().output();
}

TEST(BrokerProcess, WaitsForTheKeyguardAndRecoversByItself) {
  BrokerProcess world{programs()};
  world.kill_keyguard();
  Seen seen;
  const Appender appender{world, seen};
  world.expect_not_ready("keyguard");
  // A broker that starts without a keyguard serves what it has, and waits.
  world.kill_broker();
  world.start_broker();
  world.expect_not_ready("keyguard");
  EXPECT_EQ(seen.count(), 0u);
  world.start_keyguard();
  EXPECT_TRUE(poll_until([&] { return seen.count() != 0; })) << world.broker().output();
  world.expect_ready();
}

TEST(BrokerProcess, WaitsForAnHsmThatWentAwayAndRecoversByItself) {
  BrokerProcess world{programs()};
  const auto tokens = world.hsm.directory() / "tokens", away = world.hsm.directory() / "away";
  std::filesystem::rename(tokens, away);
  Seen seen;
  const Appender appender{world, seen};
  world.expect_not_ready("hsm");
  // Who asked meanwhile learns which part is away, and nothing of what it said.
  std::string told;
  EXPECT_TRUE(poll_until(
      [&] {
        told = seen.refusal();
        return !told.empty();
      },
      std::chrono::seconds{60}));
  EXPECT_EQ(told, "[hsm] " + std::string{reason_sentence(Reason::kHsmAway)});
  const std::string log = world.keyguard().output();
  EXPECT_LE(count_lines(log, "refused: "), 6u) << log;  // it was asked some 200 times meanwhile
  const std::size_t before = seen.count();
  std::filesystem::rename(away, tokens);
  EXPECT_TRUE(poll_until([&] { return seen.count() > before; }))
      << world.ready().second << world.keyguard().output();
  world.expect_ready();
}

TEST(BrokerProcess, AKeyguardWithoutItsTokenOrWithAWrongPinSaysSoAndEnds) {
  BrokerProcess world{programs()};
  world.kill_keyguard();
  const auto wrong = world.directory() / "wrong-pin";
  std::filesystem::copy(world.hsm.pin_file(), wrong);
  std::ofstream{wrong} << "13579\n";
  const auto [code, text] = world.run_keyguard(world.serve_arguments(wrong));
  EXPECT_EQ(code, 10) << text;
  EXPECT_NE(text.find("[token/pin]"), std::string::npos) << text;

  std::filesystem::rename(world.hsm.directory() / "tokens", world.hsm.directory() / "away");
  std::filesystem::create_directory(world.hsm.directory() / "tokens");
  const auto [absent, why] = world.run_keyguard(world.serve_arguments(world.hsm.pin_file()));
  EXPECT_EQ(absent, 10) << why;
  EXPECT_NE(why.find("[token/absent]"), std::string::npos) << why;
  std::filesystem::remove(world.hsm.directory() / "tokens");
  std::filesystem::rename(world.hsm.directory() / "away", world.hsm.directory() / "tokens");

  world.start_keyguard();
  world.expect_ready();
}

TEST(BrokerProcess, WhoWaitsDoesNotKeepOthersFromBeingServed) {
  BrokerProcess world{programs()};
  world.replay();
  const std::string next = std::to_string(world.company.entries.size());
  std::atomic<int> waiting = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 80; ++i)
    threads.emplace_back([&] {
      ApiPeer peer = value_of(world.peer("mona"));
      ++waiting;
      (void)peer.get("/v1/follow?from=" + next + "&wait=30000")
          .has_value();  // until something comes, or the end
    });
  EXPECT_TRUE(poll_until([&] { return waiting == 80; }));
  const auto before = steady_clock::now();
  ApiPeer ivan = value_of(world.peer("ivan"));
  Digest256 digest;
  EXPECT_THAT(ivan.submit(make_revocation(world, digest)), Succeeds());
  EXPECT_LT(steady_clock::now() - before, seconds{20});
  for (std::thread& thread : threads) thread.join();  // they were told of it
}

// What was begun is not lost with a broker, or a keyguard behind it, that starts anew; who was not asked to
// wait hears at once.
TEST(BrokerProcess, APersonsSessionOutlivesItsRestart) {
  BrokerProcess world{programs()};
  const TemporaryDirectory directory;
  const client::Settings settings = make_settings(world, directory.path());
  const auto session = value_of(client::Session::open(settings));
  const std::string alice = SampleCompany::id("alice");
  const crypto::PrivateKey& token = world.company.company.token(alice);
  ASSERT_THAT(session->sign_in({alice, token.public_key(),
                                [&](const Digest256& digest) { return token.sign_p256(digest); }}),
              Succeeds());
  ASSERT_THAT(session->cases(), Succeeds());

  world.kill_broker();
  EXPECT_THAT(session->cases(), FailsWith(Reason::kPeer));
  session->outlive(seconds{15});
  auto later = std::async(std::launch::async, [&] { return session->cases(); });
  world.start_broker();
  EXPECT_THAT(later.get(), Succeeds());
}

// Which of its keys a machine enrolled is in the log, which it reads only once it is proved: who has followed
// nothing yet tries both.
TEST(BrokerProcess, AMachineThatEnrolledItsRsaKeyConnectsBeforeItHasFollowedAnything) {
  BrokerProcess world{programs()};
  TemporarySwtpm swtpm{TemporarySwtpm::Ek::kP256, world.company.vendor};
  swtpm.reboot();  // resetCount 0 is refused
  tpm::Tpm tpm = swtpm.open();
  tpm.use_ak(crypto::KeyAlgorithm::kRsa2048);
  const CaseId id = crypto::random_case_id();
  world.replay();
  ASSERT_THAT(value_of(world.peer("erin"))
                  .submit(real_enrolment(tpm, value_of(tpm.endorsement()), world.company, id, "tower")),
              Succeeds());
  for (const std::string approver : {"frank", "grace"}) {
    world.replay();
    ASSERT_THAT(value_of(world.peer(approver)).submit(world.company.make_approval(id, approver, {})),
                Succeeds());
  }
  world.replay();
  ASSERT_EQ(world.company.follower.devices().size(), 1U);

  const TemporaryDirectory directory;
  const client::Settings settings = make_settings(world, directory.path());
  const auto session = value_of(client::Session::open(settings));
  ASSERT_TRUE(session->control()->devices().empty());
  tpm::Tpm again = swtpm.open();  // as a program begins: with its P-256 key
  EXPECT_THAT(session->attest(again), Succeeds());
  // Once it is followed, the log tells which key a connection has to use, also a later one's.
  ASSERT_THAT(session->sync(), Succeeds());
  const auto control = session->control();
  ASSERT_EQ(control->devices().size(), 1U);
  tpm::Tpm later = swtpm.open();
  const auto machine = value_of(client::identify_machine(later, *control));
  EXPECT_EQ(machine.ak, control->devices().front().ak);
  tpm::Tpm unaware = swtpm.open();
  EXPECT_NE(value_of(client::identify_machine(unaware)).ak, machine.ak);
  // Another machine's TPM is no machine with either key.
  TemporarySwtpm stranger{TemporarySwtpm::Ek::kP256, world.company.vendor};
  tpm::Tpm unknown = stranger.open();
  const auto other = value_of(client::Session::open(settings));
  EXPECT_THAT(other->attest(unknown), FailsWith(Reason::kDeviceUnknown));
}

// A new follower begins from the newest snapshot, or from the first leaf if it was made to; they are equal.
TEST(BrokerProcess, ANewFollowerJoinsFromASnapshot) {
  BrokerProcess world{programs()};
  world.more_broker_arguments = {"--snapshot-leaves", "2"};
  world.kill_broker();
  world.start_broker();
  ApiPeer ivan = value_of(world.peer("ivan"));
  const auto snapshot = [&] { return value_of(ivan.get("/v1/snapshot")); };
  EXPECT_TRUE(snapshot().empty());
  Digest256 digest;
  EXPECT_TRUE(poll_until([&] {  // the snapshot's own commit comes after two leaves
    EXPECT_THAT(ivan.submit(make_revocation(world, digest)), Succeeds());
    return !snapshot().empty();
  }));
  const Joining joining = value_of(parse_joining(snapshot()));

  const std::string alice = SampleCompany::id("alice");
  const crypto::PrivateKey& token = world.company.company.token(alice);
  std::vector<Bytes> states;
  for (const auto begin : {follow::Begin::kFromSnapshot, follow::Begin::kFromStart}) {
    const TemporaryDirectory directory;
    const client::Settings settings = make_settings(world, directory.path(), begin);
    const auto session = value_of(client::Session::open(settings));
    EXPECT_EQ(session->follower().may_join(), begin == follow::Begin::kFromSnapshot);
    ASSERT_THAT(session->sign_in({alice, token.public_key(),
                                  [&](const Digest256& digest_of) { return token.sign_p256(digest_of); }}),
                Succeeds());
    ASSERT_THAT(session->sync(), Succeeds());
    EXPECT_FALSE(session->follower().may_join());
    ASSERT_TRUE(session->control()->newest_snapshot());
    EXPECT_EQ(session->control()->newest_snapshot()->time, joining.snapshot.leaf.time);
    states.push_back(encode_control(*session->control()));
  }
  EXPECT_EQ(states[0], states[1]);

  // What the broker gives is the same after it starts anew: it has replayed the log.
  const Bytes before = snapshot();
  world.kill_broker();
  world.start_broker();
  ivan = value_of(world.peer("ivan"));
  EXPECT_TRUE(poll_until([&] { return snapshot() == before; }));
}

TEST(BrokerProcess, OneWaitingCallTooManyIsToldSo) {
  BrokerProcess world{programs()};
  world.replay();
  const std::string next = "/v1/follow?from=" + std::to_string(world.company.entries.size());
  std::atomic<bool> over = false;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < http::kMaxWaitingCalls; ++i)
    threads.emplace_back([&] {
      ApiPeer peer = value_of(world.peer("mona"));
      while (!over) (void)peer.get(next + "&wait=30000").has_value();
    });
  ApiPeer late = value_of(world.peer("ivan"));
  std::optional<Reason> reason;
  EXPECT_TRUE(poll_until([&] {
    const auto waited = late.get(next + "&wait=1");
    if (!waited.has_value()) reason = waited.error().reason;
    return reason.has_value();
  }));
  EXPECT_EQ(reason, Reason::kRateLimited);
  EXPECT_THAT(late.get(next), Succeeds());  // who does not wait is served
  over = true;
  Digest256 digest;
  EXPECT_THAT(late.submit(make_revocation(world, digest)), Succeeds());
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(late.get("/v1/follow?from=" + std::to_string(world.company.entries.size() + 1) + "&wait=1"),
              Succeeds());
}

TEST(BrokerProcess, EndsWhenItIsToldTo) {
  BrokerProcess world{programs()};
  world.broker().send(SIGTERM);
  EXPECT_EQ(world.broker().wait(), 0) << world.broker().output();
  world.keyguard().send(SIGTERM);
  EXPECT_EQ(world.keyguard().wait(), 0) << world.keyguard().output();
}

TEST(BrokerProcess, ADatabaseThatWasSetBackStopsTheLog) {
  BrokerProcess world{programs()};
  world.broker().send(SIGTERM);
  EXPECT_EQ(world.broker().wait(), 0);
  std::filesystem::copy(world.directory() / "broker", world.directory() / "backup");
  world.start_broker();
  Digest256 digest;
  value_of(value_of(world.peer("ivan")).submit(make_revocation(world, digest)));
  world.kill_broker();
  std::filesystem::remove_all(world.directory() / "broker");
  std::filesystem::rename(world.directory() / "backup", world.directory() / "broker");
  world.start_broker();
  ASSERT_TRUE(poll_until([&] { return world.ready().second.find("log/rollback") != std::string::npos; }))
      << world.ready().second;
  EXPECT_THAT(value_of(world.peer("ivan")).submit(make_revocation(world, digest)),
              FailsWith(Reason::kReadOnly));
}

// The whole ceremony of a new origin (broker/ledger/README.md), after the database was set back.
TEST(BrokerProcess, ALogGoesOnUnderANewOriginAndItsFollowersWithIt) {
  BrokerProcess world{programs()};
  Access access{world};
  const OpenCase before = access.request();
  value_of(access.activate(before));
  Digest256 digest;
  value_of(value_of(world.peer("ivan")).submit(make_revocation(world, digest)));
  world.replay();
  // A person's machine, and what it has followed.
  const TemporaryDirectory directory;
  const client::Settings settings = make_settings(world, directory.path());
  const auto sign_in = [&](const char* name) {
    auto session = value_of(client::Session::open(settings));
    const crypto::PrivateKey& token = world.company.company.token(name);
    const client::Signer signer{SampleCompany::id(name), token.public_key(),
                                [&](const Digest256& bytes) { return token.sign_p256(bytes); }};
    value_of(session->sign_in(signer));
    value_of(session->sync());
    return session;
  };
  const TreeSize followed = sign_in("alice")->control()->size();

  // The keyguard's host says where it stood; the people sign; everything begins anew beside the old.
  world.kill_broker();
  world.kill_keyguard();
  const auto continuation = world.company.make_continuation({});
  EXPECT_EQ(continuation.state, world.keyguard_state());
  world.begin_anew(continuation);
  world.replay();
  EXPECT_EQ(world.company.origin().get(), "us.sallyport.corp.example/log/2");
  EXPECT_EQ(world.company.policy().policy.version, 2U);

  // The person's machine goes on by itself; the old origin is behind it.
  auto session = sign_in("alice");
  EXPECT_EQ(session->follower().anchor().origin.get(), "us.sallyport.corp.example/log/2");
  EXPECT_LT(session->control()->size(), followed);
  EXPECT_EQ(session->control()->root(), world.company.tree.root());
  // Machines that were enrolled before work in it: a whole access, without enrolling anew.
  const OpenCase open = access.request();
  const api::Activated activated = value_of(access.activate(open));
  EXPECT_FALSE(activated.certificate.empty());
  // What was granted before is no case here.
  EXPECT_THAT(access.activate(before), FailsWith(Reason::kCaseUnknown));
}

}  // namespace
}  // namespace sallyport::test

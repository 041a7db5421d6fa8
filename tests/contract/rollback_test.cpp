#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/sqlite/sqlite.h"
#include "tests/support/broker_load.h"

// The real programs, after somebody has put an older state back: of the broker, of the keyguard, of both, of
// a witness. Whatever cannot be continued is told, with its reason, and nothing is ever signed twice.
namespace sallyport::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

BrokerProcess::Programs programs() {
  return {SALLYPORT_KEYGUARD_PROGRAM, SALLYPORT_BROKER_PROGRAM, SALLYPORT_WITNESS_PROGRAM};
}

class Rollback : public ::testing::Test {
 protected:
  BrokerProcess world{programs()};

  fs::path file(const std::string& name) const { return world.directory() / name; }
  // keep copies a state directory of a program that does not run; put_back replaces it by that copy.
  void keep(const std::string& name, const std::string& as) {
    fs::copy(file(name), file(as), fs::copy_options::recursive);
  }
  void put_back(const std::string& name, const std::string& from) {
    fs::remove_all(file(name));
    fs::copy(file(from), file(name), fs::copy_options::recursive);
  }
  void stop() {
    world.kill_broker();
    world.kill_keyguard();
  }
  void start() {
    world.start_keyguard();
    world.start_broker();
  }
  std::uint64_t metric(const std::string& name) const {
    const std::string page = world.operators("/metrics").second;
    const auto at = page.find("\n" + name + " ");
    return at == page.npos ? ~0ULL : std::stoull(page.substr(at + name.size() + 2));
  }

  // expect_read_only: it says so everywhere, with `why`; takes nothing, and serves what it has.
  void expect_read_only(const std::string& why) {
    EXPECT_TRUE(poll_until([&] {
      return world.ready().second.find("takes no entries") != std::string::npos;
    })) << world.ready().second;
    const auto [status, text] = world.ready();
    EXPECT_EQ(status, 503u);
    EXPECT_THAT(text, AllOf(HasSubstr("log/rollback"), HasSubstr(why), HasSubstr("broker/ledger/README.md")));
    EXPECT_THAT(world.broker().output(), HasSubstr("read-only: "));
    EXPECT_EQ(metric("sallyport_log_read_only{reason=\"log/rollback\"}"), 1u);
    const std::uint64_t size = metric("sallyport_log_size");
    EXPECT_THAT(drill(world), FailsWith(Reason::kReadOnly));
    EXPECT_EQ(metric("sallyport_log_size"), size);
    ApiPeer reader = value_of(world.peer("olga"));
    EXPECT_EQ(value_of(reader.entries(LeafIndex{0})).entries.size(), size);
    EXPECT_FALSE(value_of(reader.checkpoints(TreeSize{0})).empty());
    EXPECT_THAT(reader.get("/v1/follow?from=0"), Succeeds());
  }
};

TEST_F(Rollback, AnOlderDatabaseIsReadOnlyUntilANewerOneIsThere) {
  value_of(drill(world));  // size 2
  world.kill_broker();
  keep("broker", "backup");
  world.start_broker();
  value_of(drill(world));
  world.kill_broker();
  keep("broker", "newest");

  put_back("broker", "backup");
  world.start_broker();
  const std::string why = "signed size 3";  // the keyguard knows, and the witnesses: whoever tells first
  expect_read_only(why);
  world.kill_broker();
  world.start_broker();
  expect_read_only(why);  // as long as it is so

  // A backup that reaches the newest checkpoint is as good as the original.
  world.kill_broker();
  put_back("broker", "newest");
  world.start_broker();
  EXPECT_EQ(value_of(drill(world)).leaf, 3u);
  wait_ready(world);
}

TEST_F(Rollback, AnOlderKeyguardIsLedForwardAgain) {
  value_of(drill(world));
  world.kill_keyguard();
  keep("keyguard", "backup");
  world.start_keyguard();
  value_of(drill(world));
  world.kill_keyguard();
  put_back("keyguard", "backup");
  world.start_keyguard();
  EXPECT_EQ(value_of(drill(world)).leaf, 3u);
  wait_ready(world);
}

TEST_F(Rollback, AKeyguardThatWasLostIsMadeAnewAndLedThroughTheLog) {
  value_of(drill(world));
  world.kill_keyguard();
  fs::remove_all(file("keyguard"));
  const auto [made, digest] = world.run_keyguard(
      {"init", "--state", file("keyguard"), "--policy", file("policy.toml"), "--roots", file("roots.pem")});
  ASSERT_EQ(made, 0) << digest;
  world.start_keyguard();
  EXPECT_EQ(value_of(drill(world)).leaf, 2u);
  world.kill_broker();
  world.start_broker();
  EXPECT_EQ(value_of(drill(world)).leaf, 3u);
}

TEST_F(Rollback, BrokerAndKeyguardOfTheSameOlderMomentAreFoundByTheWitnesses) {
  value_of(drill(world));
  stop();
  for (const char* name : {"broker", "keyguard"}) keep(name, name + std::string{"-older"});
  start();
  value_of(drill(world));
  stop();
  for (const char* name : {"broker", "keyguard"}) keep(name, name + std::string{"-newest"});
  for (const char* name : {"broker", "keyguard"}) put_back(name, name + std::string{"-older"});
  start();
  expect_read_only("it has cosigned size 3, ours is 2; our log has signed size 3");
  EXPECT_THAT(world.ready().second, HasSubstr("witness-"));

  // What a witness has shown once is known in every start, whether one answers or not.
  world.kill_broker();
  for (const auto& witness : world.witnesses) witness->kill();
  world.start_broker();
  expect_read_only("has shown that our log signed size 3");
  for (const auto& witness : world.witnesses) witness->start();
  stop();
  put_back("keyguard", "keyguard-newest");
  // The alarm is in this database; a copy that continues what was shown is judged anew.
  put_back("broker", "broker-newest");
  start();
  EXPECT_EQ(value_of(drill(world)).leaf, 3u);
  wait_ready(world);
}

TEST_F(Rollback, WhatWasSignedAndNeverCosignedIsMissedInABackup) {
  value_of(drill(world));
  world.kill_broker();
  keep("broker", "backup");  // of the newest cosigned checkpoint
  world.start_broker();
  wait_ready(world);
  for (const auto& witness : world.witnesses) witness->kill();
  EXPECT_EQ(value_of(ask_to_enrol(world)).leaf, 2u);  // acknowledged: it must not be forgotten
  world.kill_broker();
  put_back("broker", "backup");
  for (const auto& witness : world.witnesses) witness->start();
  world.start_broker();
  expect_read_only("the keyguard has signed size 3, this database ends at size 2");
}

TEST_F(Rollback, ALogThatHasBegunIsNotBegunAgain) {
  value_of(drill(world));
  stop();
  // Everything of the broker is lost: with its keyguard, and with a keyguard that was made anew.
  fs::remove_all(file("broker"));
  fs::create_directory(file("broker"));
  fs::permissions(file("broker"), fs::perms{0700});
  start();
  EXPECT_TRUE(poll_until([&] { return world.ready().second.find("log/rollback") != std::string::npos; }))
      << world.ready().second;
  stop();
  fs::rename(file("keyguard"), file("keyguard-old"));
  const auto [made, digest] = world.run_keyguard(
      {"init", "--state", file("keyguard"), "--policy", file("policy.toml"), "--roots", file("roots.pem")});
  ASSERT_EQ(made, 0) << digest;
  world.start_keyguard();
  const std::vector<std::string> init{"init",
                                      "--state",
                                      file("again"),
                                      "--trust",
                                      file("keyguard") / "trust.toml",
                                      "--keyguard",
                                      file("keyguard.socket"),
                                      "--policy",
                                      file("policy.toml"),
                                      "--roots",
                                      file("roots.pem")};
  const auto [code, text] = world.run_broker(init);
  EXPECT_EQ(code, 8) << text;
  EXPECT_THAT(text,
              AllOf(HasSubstr("log/rollback"), HasSubstr("witness-"), HasSubstr("it has signed size 2")));
  // Nor when nobody can say whether it has.
  for (const auto& witness : world.witnesses) witness->kill();
  const auto [silent, why] = world.run_broker(init);
  EXPECT_EQ(silent, 9) << why;
  EXPECT_THAT(why, HasSubstr("0 of 2 witnesses say that they do not know this log yet"));
}

TEST_F(Rollback, AWitnessThatLostItsMemoryDoesNotAnswerAndTooFewStopTheLog) {
  value_of(drill(world));
  wait_ready(world);
  const auto forget = [&](std::size_t i) {
    const auto db = value_of(sqlite::Database::open((world.witnesses[i]->state() / "witness.db").string()));
    value_of(db->execute("DELETE FROM tree"));
  };
  world.replay();
  // All have cosigned the newest; then one is made anew, by hand, with the same key.
  EXPECT_TRUE(poll_until([&] {
    value_of(drill(world));
    ApiPeer reader = value_of(world.peer("olga"));
    const auto notes = value_of(reader.checkpoints(TreeSize{1}));
    return value_of(ledger::check_quorum(notes.back(), world.company.policy().witnesses))
               .cosignatures()
               .size() == 3;
  }));
  world.kill_broker();
  for (const auto& witness : world.witnesses) witness->kill();
  forget(0);
  world.witnesses[0]->start();
  world.witnesses[1]->start();
  world.start_broker();
  // Of three, one is away and one knows nothing: less than the quorum, each with its reason, and nothing is
  // appended, not even as intent.
  const std::uint64_t size = metric("sallyport_log_size");
  EXPECT_TRUE(poll_until([&] { return world.ready().second.find("lost its memory") != std::string::npos; }))
      << world.ready().second;
  EXPECT_THAT(world.ready().second, AllOf(HasSubstr("log/quorum"), HasSubstr("1 of 2 witnesses cosigned"),
                                          HasSubstr("only under a new key"), Not(HasSubstr("read-only"))));
  std::atomic<bool> done = false;
  std::thread waits{[&] {
    EXPECT_THAT(drill(world), Succeeds());
    done = true;
  }};
  EXPECT_TRUE(poll_until([&] { return world.operators("/metrics").first == 200; }));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(metric("sallyport_log_size"), size);
  EXPECT_FALSE(done);
  world.witnesses[2]->start();
  waits.join();
  wait_ready(world);
  EXPECT_EQ(metric("sallyport_log_size"), size + 1);

  // A witness that lost everything does not even start.
  world.witnesses[0]->kill();
  fs::remove(world.witnesses[0]->state() / "witness.db");
  const auto [code, text] = world.witnesses[0]->run(
      {"serve", "--state", world.witnesses[0]->state().string(), "--listen", "127.0.0.1:0"});
  EXPECT_NE(code, 0) << text;
}

}  // namespace
}  // namespace sallyport::test

// The reports of a gate, judged by the real fold: what is recorded, in which order, and after which
// accidents.
#include <gtest/gtest.h>

#include <future>

#include "attestation/record/times.h"
#include "client/target/reports.h"
#include "tests/support/files.h"
#include "tests/support/gate_log.h"
#include "tests/support/process.h"

namespace sallyport::gate {
namespace {

using record::WhyClosed;
using test::FailsWith;
using test::GateLog;
using test::GateLogRecorder;
using test::Succeeds;
using test::value_of;

class GateReports : public ::testing::Test {
 protected:
  void SetUp() override {
    case_id_ = log_.world.granted().id;
    start();
  }
  void start() {
    reports_.reset();
    const crypto::PrivateKey key = log_.world.host_key;
    ReportsOptions options{directory_ / "sessions.db",
                           log_.world.origin().get(),
                           "db-7",
                           key.public_key(),
                           [key](const Digest256& digest) { return key.sign_p256(digest); },
                           [this] { return log_.now(); },
                           patience_};
    reports_ = value_of(Reports::start(options, std::make_unique<GateLogRecorder>(log_)));
  }
  Result<Reports::Opened> opened() { return reports_->opened(case_id_, "dbadmin", "10.20.4.17"); }
  bool all_reported() {
    return test::poll_until([&] { return reports_->unreported() == 0; });
  }

  std::chrono::milliseconds patience_{300};
  test::TemporaryDirectory directory_;
  GateLog log_;
  CaseId case_id_;
  std::unique_ptr<Reports> reports_;
};

TEST_F(GateReports, NumbersTheChannelsOfACase) {
  EXPECT_EQ(value_of(opened()).channel, 1u);
  EXPECT_EQ(value_of(opened()).channel, 2u);
  EXPECT_EQ(log_.open(case_id_), 2u);
  EXPECT_THAT(reports_->closed(case_id_, 1, WhyClosed::kExit, 4711), Succeeds());
  EXPECT_THAT(reports_->closed(case_id_, 2, WhyClosed::kDeadline, 0), Succeeds());
  EXPECT_TRUE(all_reported());
  EXPECT_EQ(log_.open(case_id_), 0u);
  EXPECT_EQ(value_of(opened()).channel, 3u);
}

TEST_F(GateReports, RefusesWhatTheLogRefuses) {
  EXPECT_THAT(reports_->opened(case_id_, "root", "10.20.4.17"), FailsWith(Reason::kGateAccount));
  EXPECT_EQ(value_of(opened()).channel, 1u);  // the refused one took no number
  log_.set(&GateLog::down, true);
  EXPECT_THAT(opened(), FailsWith(Code::kUnavailable));
}

TEST_F(GateReports, SendsAnEndUntilItIsRecorded) {
  EXPECT_THAT(opened(), Succeeds());
  log_.set(&GateLog::down, true);
  EXPECT_THAT(reports_->closed(case_id_, 1, WhyClosed::kExit, 1), Succeeds());
  EXPECT_EQ(reports_->unreported(), 1u);
  // Not even a new start forgets it; and an hour later the log still takes it, with a time of then.
  start();
  {
    const std::lock_guard lock{log_.mutex};
    log_.world.advance(std::chrono::hours{1});
  }
  EXPECT_EQ(reports_->unreported(), 1u);
  log_.set(&GateLog::down, false);
  EXPECT_TRUE(all_reported());
  EXPECT_EQ(log_.open(case_id_), 0u);
}

TEST_F(GateReports, ClosesWhatACrashLeftOpen) {
  EXPECT_THAT(opened(), Succeeds());
  EXPECT_EQ(log_.open(case_id_), 1u);
  start();
  EXPECT_TRUE(all_reported());
  EXPECT_EQ(log_.open(case_id_), 0u);
  EXPECT_EQ(log_.last_closed().why, WhyClosed::kLost);
}

TEST_F(GateReports, SettlesAnOpeningWhoseAnswerWasLost) {
  log_.set(&GateLog::answers_are_lost, true);
  EXPECT_THAT(opened(), FailsWith(Code::kUnavailable));
  EXPECT_EQ(log_.channels(case_id_), 1u);  // recorded all the same
  log_.set(&GateLog::answers_are_lost, false);
  EXPECT_EQ(value_of(opened()).channel, 2u);
  EXPECT_TRUE(all_reported());
  EXPECT_EQ(log_.open(case_id_), 1u);
}

TEST_F(GateReports, WaitsWithAnOpeningForALogThatIsAway) {
  patience_ = kReportPatience;
  start();
  log_.set(&GateLog::down, true);
  auto session = std::async(std::launch::async, [this] { return opened(); });
  EXPECT_TRUE(test::poll_until([&] { return reports_->unreported() == 1; }));  // its number is taken
  log_.set(&GateLog::down, false);
  EXPECT_EQ(value_of(session.get()).channel, 1u);
  EXPECT_EQ(log_.open(case_id_), 1u);
}

// No other session, and no new start, may be needed for it.
TEST_F(GateReports, ClosesAnOpeningWhoseAnswerWasLost) {
  log_.set(&GateLog::answers_are_lost, true);
  EXPECT_THAT(opened(), FailsWith(Code::kUnavailable));
  EXPECT_EQ(log_.open(case_id_), 1u);
  log_.set(&GateLog::answers_are_lost, false);
  EXPECT_TRUE(test::poll_until([&] { return log_.open(case_id_) == 0; }));
  EXPECT_EQ(log_.last_closed().why, WhyClosed::kLost);
}

TEST_F(GateReports, LearnsTheNextNumberAfterItsStateWasLost) {
  EXPECT_EQ(value_of(opened()).channel, 1u);
  reports_.reset();
  for (const char* name : {"sessions.db", "sessions.db-wal", "sessions.db-shm"})
    std::filesystem::remove(directory_ / name);
  start();
  EXPECT_EQ(value_of(opened()).channel, 2u);
}

}  // namespace
}  // namespace sallyport::gate

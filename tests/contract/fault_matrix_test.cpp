#include <signal.h>

#include <algorithm>
#include <iostream>
#include <random>

#include "tests/support/fault_house.h"

// The order of durability, at every step of which something breaks: the real programs run with a library
// preloaded that counts their calls on their own files, and at one of them fails it, or kills them. Whatever
// is struck, the log goes on, and is what everybody was ever told that it is. Which points are run:
// tests/support/fault_points.h; KILLS=N KILLS_SEED=S of the random kills.
namespace sallyport::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kPoints = 26, kKills = 50;  // of every run

class Matrix {
 public:
  // count gives what a piece of work of a part makes of calls when nothing is struck.
  std::vector<Point> count(const std::string& part, const std::string& work) {
    House& house = *house_;
    FaultFile& faults = house.faults(part);
    const WithoutAWitness fewer{house, part};
    std::optional<OpenCase> open;
    if (work == "grant") open = house.access.request();
    if (work == "start") house.process(part).send(SIGKILL), house.process(part).wait();
    faults.begin_count();
    if (work == "start") {
      EXPECT_TRUE(house.start(part)) << house.process(part).output();
      append_once();
    } else if (work == "stop") {
      house.process(part).send(SIGTERM);
      EXPECT_EQ(house.process(part).wait(), 0) << house.process(part).output();
    } else {
      const Work clients{house, open};
      EXPECT_TRUE(poll_until([&] { return clients.done(); })) << clients.refusal();
    }
    const std::vector<std::uint64_t> calls = faults.calls();
    if (work == "stop") {
      EXPECT_TRUE(house.start(part)) << house.process(part).output();
    }
    return points_of(part, work, calls);
  }

  void run(const Point& point) {
    if (++runs_ % 100 == 0) {
      house_.reset();  // before the next: where SoftHSM's tokens are is in the environment
      house_ = std::make_unique<House>();
    }
    House& house = *house_;
    const WithoutAWitness fewer{house, point.part};
    const std::string became = point.work == "stop" ? run_stop(point) : run_work(point);
    house.judge_output(point.part);
    append_once();
    house.check();
    ++outcomes_[point.part + " " + point.work + " " + point.fault.name + ": " + became];
  }

  void tell() const {
    for (const auto& [what, count] : outcomes_) std::cout << "  " << count << " x " << what << "\n";
    std::cout << "  " << house_->told.summary() << " in the last house\n";
  }

 private:
  // Two witnesses of three are a quorum: so that the first is needed, another is away.
  struct WithoutAWitness {
    WithoutAWitness(House& in, const std::string& part) : house(in), away(part == "witness") {
      if (away) house.world.witnesses[1]->kill();
    }
    ~WithoutAWitness() {
      if (away) house.world.witnesses[1]->start();
    }
    House& house;
    bool away;
  };

  void arm(const Point& point) { house_->faults(point.part).arm(point.fault, point.at); }

  // judge_end: a part that ended did so because it was killed, or stopped with a code and a line that says
  // why.
  std::string judge_end(const Point& point, std::size_t output_before) {
    Process& process = house_->process(point.part);
    const int code = process.wait();
    const std::string output = process.output().substr(output_before);
    if (code == 0 && point.work == "stop") return "ended";
    if (point.fault.kills()) {
      EXPECT_EQ(code, 128 + SIGKILL) << output;
      return "killed";
    }
    EXPECT_TRUE(code == 9 || code == 70 || (point.part == "witness" && code == 1))
        << point.part << " ended with " << code << ": " << output;
    EXPECT_NE(output.find("storage"), output.npos) << point.part << " does not say why it stops: " << output;
    return "stopped with " + std::to_string(code);
  }

  std::string run_work(const Point& point) {
    House& house = *house_;
    FaultFile& faults = house.faults(point.part);
    std::optional<OpenCase> open;
    if (point.work == "grant") open = house.access.request();
    if (point.work == "start") {
      house.process(point.part).send(SIGKILL);
      house.process(point.part).wait();
    }
    std::size_t before = house.process(point.part).output().size();
    std::string became;
    const auto ended = [&] {
      became = judge_end(point, before);
      before = house.process(point.part).output().size();
    };
    arm(point);
    if (point.work == "start" && !house.start(point.part)) {
      ended();
      faults.disarm();
      EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
    }
    const Work clients{house, open};
    std::optional<steady_clock::time_point> since;
    poll_until([&] {
      if (clients.done() || !house.process(point.part).running()) return true;
      if (!faults.struck()) return false;
      if (!since) since = steady_clock::now();
      return point.fault.lasts && steady_clock::now() - *since > milliseconds{300};
    });
    const bool struck = faults.struck();
    if (point.fault.lasts && !house.process(point.part).running()) {
      // It stays away, or comes and goes, as long as the disk does.
      ended();
      const bool serves = house.start(point.part);
      if (!serves) ended();
      faults.disarm();
      if (!serves) {
        EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
      }
    }
    faults.disarm();
    const bool done = poll_until([&] {
      if (!house.process(point.part).running()) {
        ended();
        EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
      }
      return clients.done();
    });
    EXPECT_TRUE(done) << "it does not go on by itself: " << clients.refusal() << "\n"
                      << house.world.ready().second << house.process(point.part).output().substr(before);
    if (!done) return "hangs";
    if (became.empty() && point.fault.kills() && faults.struck()) {  // it dies with the work's last word
      EXPECT_TRUE(poll_until([&] { return !house.process(point.part).running(); }));
      ended();
      EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
    }
    // What it was told after the last word of the work stops it in the next work.
    if (became.empty() && faults.struck()) {
      const Work more{house, std::nullopt};
      EXPECT_TRUE(poll_until([&] {
        if (!house.process(point.part).running()) {
          ended();
          EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
        }
        return more.done();
      })) << more.refusal();
    }
    check_given(house, clients);
    return !became.empty() ? became : struck ? "went on" : "not reached";
  }

  std::string run_stop(const Point& point) {
    House& house = *house_;
    const std::size_t before = house.process(point.part).output().size();
    arm(point);
    house.process(point.part).send(SIGTERM);
    const std::string became = judge_end(point, before);
    house.faults(point.part).disarm();
    EXPECT_TRUE(house.start(point.part)) << house.process(point.part).output();
    return became;
  }

  // append_once: who appends is told, by all parts.
  void append_once() {
    const Work clients{*house_, std::nullopt};
    EXPECT_TRUE(poll_until([&] { return clients.done(); })) << clients.refusal();
  }

  std::unique_ptr<House> house_ = std::make_unique<House>();
  std::size_t runs_ = 0;
  std::map<std::string, std::size_t> outcomes_;
};

TEST(FaultMatrixDestructive, WhateverIsStruckTheLogGoesOnAndIsWhatEverybodyWasTold) {
  Matrix matrix;
  std::vector<Point> points;
  for (const char* part : {"broker", "keyguard", "witness"})
    for (const char* work : {"append", "grant", "start", "stop"}) {
      if (part == std::string{"witness"} && work == std::string{"grant"}) continue;
      const auto some = matrix.count(part, work);
      points.insert(points.end(), some.begin(), some.end());
    }
  run_points(std::move(points), kPoints, [&](const Point& point) { matrix.run(point); });
  matrix.tell();
}

// ---- kills at random moments

TEST(FaultMatrixDestructive, KilledAtRandomMomentsItLosesNothing) {
  const std::uint64_t kills = number_from("KILLS", kKills),
                      seed = number_from("KILLS_SEED", std::random_device{}());
  std::cout << "again: KILLS=" << kills << " KILLS_SEED=" << seed << std::endl;
  std::mt19937_64 random{seed};
  auto house = std::make_unique<House>();
  const std::vector<std::string> parts{"keyguard", "broker", "witness-one", "witness-two", "witness-three"};
  std::size_t told = 0, grants = 0, mended = 0;
  for (std::uint64_t kill = 0; kill < kills && !HasFailure(); ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill));
    if (kill % 200 == 199) {
      told += house->told.count();
      mended += house->mended();
      grants += house->grants();
      house.reset();
      house = std::make_unique<House>();
    }
    std::optional<OpenCase> open;
    if (kill % 5 == 0) open = house->access.request();
    std::vector<std::string> dying{
        parts[random() % (kill % 2 == 0 ? 2 : parts.size())]};  // those of whom there is one, oftener
    if (random() % 4 == 0) dying.push_back(parts[random() % parts.size()]);
    if (dying.size() == 2 && dying[0] == dying[1]) dying.pop_back();
    const Work clients{*house, open};
    const auto moment = steady_clock::now() + std::chrono::microseconds{random() % (open ? 150'000 : 60'000)};
    poll_until([&] { return steady_clock::now() >= moment; });
    for (const std::string& part : dying) {
      house->process(part).send(SIGKILL);
      EXPECT_EQ(house->process(part).wait(), 128 + SIGKILL) << house->process(part).output();
    }
    for (const std::string& part : dying) EXPECT_TRUE(house->start(part)) << house->process(part).output();
    EXPECT_TRUE(poll_until([&] { return clients.done(); }))
        << clients.refusal() << house->world.ready().second;
    if (!clients.done()) break;
    house->check();
    check_given(*house, clients);
    for (const std::string& part : parts) house->judge_output(part);
  }
  std::cout << "  " << kills << " kills, " << told + house->told.count() << " leaves acknowledged, "
            << grants + house->grants() << " grants, SoftHSM's token put back " << mended + house->mended()
            << " times; " << house->told.summary() << " in the last house\n";
}

}  // namespace
}  // namespace sallyport::test

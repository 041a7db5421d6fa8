#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/faults.h"

// What can be struck in a program under which `inject_faults` lies, and how the points of a run are chosen.
//   FAULTS=N          points, drawn from all; FAULTS=all runs all of them
//   FAULTS_SEED=S     draws the same points again
//   FAULTS_ONLY=TEXT  the points whose name holds TEXT
//   FAULTS_PART=I/N   of these the I-th of N, from 0: to run several at once
//   FAULTS_VERBOSE=1  tells each point
namespace sallyport::test {

std::uint64_t number_from(const char* name, std::uint64_t otherwise);  // of the environment

// Fault is one thing that can happen to a call.
struct Fault {
  std::string name;
  std::uint32_t mask;
  Blow blow;
  int error;
  bool lasts;  // from there on, until it is disarmed

  bool kills() const { return blow == Blow::kKill || blow == Blow::kKillDone || blow == Blow::kKillTorn; }
};
// Point is a fault at one call of a piece of work of a part.
struct Point {
  std::string part, work;
  Fault fault;
  std::uint64_t at;
  std::string text() const { return part + ":" + work + ":" + fault.name + ":" + std::to_string(at) + ":"; }
};

// points_of gives what can be struck in a piece of work that makes so many calls of each class.
std::vector<Point> points_of(const std::string& part, const std::string& work,
                             const std::vector<std::uint64_t>& calls);

// run_points runs those that the environment asks for, or `draw` of them, and tells how to run them again. It
// stops at a fatal failure.
void run_points(std::vector<Point> points, std::uint64_t draw, const std::function<void(const Point&)>& run);

// FaultFile is the test's side of what is preloaded into one program.
class FaultFile {
 public:
  explicit FaultFile(std::filesystem::path path);
  ~FaultFile();
  FaultFile(const FaultFile&) = delete;
  FaultFile& operator=(const FaultFile&) = delete;

  // environment has a program preload it and look at the files whose path holds `part`.
  std::vector<std::string> environment(const std::string& part) const;
  void begin_count() {
    for (auto& calls : control_->calls) calls = 0;
  }
  std::vector<std::uint64_t> calls() const;  // of each class
  void arm(const Fault& fault, std::uint64_t at);
  void disarm() { control_->blow = 0; }
  bool struck() const { return control_->struck != 0; }

 private:
  std::filesystem::path path_;
  FaultControl* control_ = nullptr;
};

}  // namespace sallyport::test

#include "tests/support/fault_points.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iostream>
#include <map>
#include <random>

namespace sallyport::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::uint32_t bit(FileCall call) {
  return static_cast<std::uint32_t>(call);
}
constexpr std::uint32_t kChanging = bit(FileCall::kCreate) | bit(FileCall::kWrite) | bit(FileCall::kSync) |
                                    bit(FileCall::kTruncate) | bit(FileCall::kName);
constexpr std::uint32_t kTakingSpace =
    bit(FileCall::kCreate) | bit(FileCall::kWrite) | bit(FileCall::kTruncate);
constexpr const char* kCallNames[kFileCalls] = {"open",  "create", "read", "write", "sync", "truncate",
                                                "close", "map",    "stat", "lock",  "name"};

}  // namespace

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* const text = getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

FaultFile::FaultFile(std::filesystem::path path) : path_(std::move(path)) {
  const int file = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  EXPECT_EQ(::ftruncate(file, sizeof(FaultControl)), 0);
  void* const at = ::mmap(nullptr, sizeof(FaultControl), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  EXPECT_NE(at, MAP_FAILED);
  control_ = static_cast<FaultControl*>(at);
}
FaultFile::~FaultFile() {
  ::munmap(control_, sizeof(FaultControl));
}

std::vector<std::string> FaultFile::environment(const std::string& part) const {
  return {"LD_PRELOAD=" SALLYPORT_INJECT_FAULTS, "SALLYPORT_TEST_FAULTS=" + path_.string(),
          "SALLYPORT_TEST_FAULTS_IN=" + part};
}

std::vector<std::uint64_t> FaultFile::calls() const {
  return {std::begin(control_->calls), std::end(control_->calls)};
}

void FaultFile::arm(const Fault& fault, std::uint64_t at) {
  control_->struck = 0;
  control_->mask = fault.mask;
  control_->error = static_cast<std::uint32_t>(fault.error);
  control_->lasts = fault.lasts ? 1 : 0;
  control_->left = at;
  control_->blow = static_cast<std::uint32_t>(fault.blow);
}

std::vector<Point> points_of(const std::string& part, const std::string& work,
                             const std::vector<std::uint64_t>& calls) {
  std::vector<Point> out;
  const auto add = [&](Fault fault, std::uint64_t count, std::uint64_t step = 1) {
    for (std::uint64_t at = 1; at <= count; at += step) out.push_back({part, work, fault, at});
  };
  std::uint64_t all = 0, spacious = 0;
  for (unsigned i = 0; i < kFileCalls; ++i) {
    const std::uint32_t mask = 1u << i;
    const std::string name = kCallNames[i];
    all += calls[i];
    if ((mask & kTakingSpace) != 0) spacious += calls[i];
    add({name + "-eio", mask, Blow::kFail, EIO, false}, calls[i]);
    if ((mask & kChanging) == 0) continue;
    add({name + "-done-eio", mask, Blow::kFailDone, EIO, false}, calls[i]);
    add({name + "-kill", mask, Blow::kKill, 0, false}, calls[i]);
    if (mask == bit(FileCall::kSync)) add({name + "-done-kill", mask, Blow::kKillDone, 0, false}, calls[i]);
    if (mask == bit(FileCall::kWrite)) add({name + "-torn-kill", mask, Blow::kKillTorn, 0, false}, calls[i]);
  }
  add({"disk-full", kTakingSpace, Blow::kFail, ENOSPC, true}, spacious, 3);
  add({"disk-gone", kAllFileCalls, Blow::kFail, EIO, true}, all, 7);
  return out;
}

void run_points(std::vector<Point> points, std::uint64_t draw, const std::function<void(const Point&)>& run) {
  const std::size_t all = points.size();
  const char* const wanted = getenv("FAULTS");
  const std::uint64_t seed = number_from("FAULTS_SEED", std::random_device{}());
  if (const char* const only = getenv("FAULTS_ONLY"))
    std::erase_if(points, [&](const Point& point) { return point.text().find(only) == std::string::npos; });
  else if (wanted == nullptr || std::string{wanted} != "all") {
    // Every kind of point is drawn as often as any: there are many more writes than syncs.
    std::mt19937_64 random{seed};
    std::shuffle(points.begin(), points.end(), random);
    std::map<std::string, std::size_t> drawn;
    std::vector<std::pair<std::size_t, Point>> ordered;
    for (Point& point : points) {
      const std::size_t turn = drawn[point.part + point.work + point.fault.name]++;
      ordered.emplace_back(turn, std::move(point));
    }
    std::stable_sort(ordered.begin(), ordered.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    points.clear();
    for (auto& [turn, point] : ordered)
      if (points.size() < number_from("FAULTS", draw)) points.push_back(std::move(point));
  }
  if (const char* const part = getenv("FAULTS_PART")) {
    unsigned long one = 0, of = 1, at = 0;
    EXPECT_EQ(std::sscanf(part, "%lu/%lu", &one, &of), 2);
    std::erase_if(points, [&](const Point&) { return at++ % of != one; });
  }
  std::cout << points.size() << " points of " << all
            << "; again: FAULTS=" << (wanted ? wanted : std::to_string(draw)) << " FAULTS_SEED=" << seed
            << std::endl;
  const auto began = steady_clock::now();
  for (const Point& point : points) {
    const bool failed_before = ::testing::Test::HasFailure();
    SCOPED_TRACE("again: FAULTS_ONLY=" + point.text());
    const auto at = steady_clock::now();
    run(point);
    if (getenv("FAULTS_VERBOSE") != nullptr)
      std::cout << point.text() << " "
                << std::chrono::duration_cast<milliseconds>(steady_clock::now() - at).count() << " ms"
                << std::endl;
    if (!failed_before && ::testing::Test::HasFailure())
      std::cout << "first failure at " << point.text() << std::endl;
    if (::testing::Test::HasFatalFailure()) break;
  }
  std::cout << "  " << std::chrono::duration_cast<seconds>(steady_clock::now() - began).count() << " s\n";
}

}  // namespace sallyport::test

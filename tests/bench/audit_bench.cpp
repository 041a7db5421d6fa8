// An auditor's replay of a log, from its files to the verdict, against the signature verifications in it on
// all cores. `peak_mib` is what it adds to the memory in use: flat, however long the log.

#include <malloc.h>

#include <ctime>
#include <fstream>

#include "client/auditor/verify_export.h"
#include "client/auditor/write_export.h"
#include "tests/bench/floor.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::bench {
namespace {

using client::auditor::verify_export;
using client::auditor::VerifyOptions;
using test::RecordScenario;
using test::value_of;

// Company has accesses, one after the other, each with its lease and session; a checkpoint is cosigned after
// each.
class Company : public client::auditor::Source {
 public:
  explicit Company(std::size_t size) {
    while (world_.entries.size() < size) {
      const auto open = world_.granted();
      value_of(world_.append(record::Kind::kLease, open.id, world_.lease(open)));
      value_of(world_.append(record::Kind::kSessionOpened, open.id, world_.session_opened(open, 1)));
      value_of(world_.append(record::Kind::kSessionClosed, open.id, world_.session_closed(open, 1)));
      notes_.emplace_back(world_.entries.size(), world_.cosign());
      world_.advance(std::chrono::minutes{20});
    }
  }
  follow::TrustAnchor anchor() const { return {world_.origin(), world_.genesis}; }
  Result<record::EntryPage> entries(LeafIndex from) override {
    const auto begin = world_.entries.begin() + static_cast<std::ptrdiff_t>(from.get());
    const auto end = std::min<std::size_t>(world_.entries.size() - from.get(), 256);
    return record::EntryPage{.from = from, .entries = {begin, begin + static_cast<std::ptrdiff_t>(end)}};
  }
  Result<std::vector<std::string>> checkpoints(TreeSize from) override {
    std::vector<std::string> page;
    for (auto at = std::lower_bound(notes_.begin(), notes_.end(), std::pair{from.get(), std::string{}});
         at != notes_.end() && page.size() < 256; ++at)
      page.push_back(at->second);
    return page;
  }

 private:
  RecordScenario world_;
  std::vector<std::pair<std::uint64_t, std::string>> notes_;
};

// memory_mib reads a line of /proc/self/status: "VmRSS", or "VmHWM", the most since forget_peak.
double memory_mib(std::string_view name) {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name)) return std::stod(line.substr(name.size() + 1)) / 1024;
  return 0;
}
// cpu_seconds is what this process has used of all cores: a neighbour's load shows in it least.
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}
void forget_peak() {
  ::malloc_trim(0);
  std::ofstream{"/proc/self/clear_refs"} << "5";
}

void verify_an_export(benchmark::State& state) {
  const test::TemporaryDirectory temporary;
  const auto directory = temporary / "export";
  follow::TrustAnchor anchor;
  {
    Company company{static_cast<std::size_t>(state.range(0))};
    anchor = company.anchor();
    value_of(write_export(directory, anchor, company));
  }
  forget_peak();
  const double before = memory_mib("VmRSS");
  const auto report = value_of(verify_export(directory, anchor));
  const double peak = memory_mib("VmHWM") - before;

  // By one thread, which verifies what is asked for and nothing ahead: what no auditor can leave out.
  const VerificationsOf floor{[&] { value_of(verify_export(directory, anchor, {.threads = 0})); }};
  double ours = 0, floors = 0;  // seconds of all cores
  by_turns(
      state,
      [&] {
        ours -= cpu_seconds();
        value_of(verify_export(directory, anchor));
        ours += cpu_seconds();
      },
      [&] {
        floors -= cpu_seconds();
        floor.replay(std::thread::hardware_concurrency());
        floors += cpu_seconds();
      });
  state.counters["cpu_of_floor"] = floors / ours;
  state.counters["signatures"] = static_cast<double>(floor.count());
  state.counters["bytes_a_leaf"] = static_cast<double>(report.bytes / report.size.get());
  state.counters["peak_mib"] = peak;
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(report.size.get()));
}
BENCHMARK(verify_an_export)
    ->Arg(2'000)
    ->Arg(10'000)
    ->Arg(100'000)
    ->UseManualTime()
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();

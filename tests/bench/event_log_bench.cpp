// What a verifier does with a boot log. The floor is the hashing in it: each event extended, each event's
// data hashed once.

#include "attestation/crypto/digest.h"
#include "attestation/evidence/efi.h"
#include "tests/bench/floor.h"
#include "tests/bench/long_boot_log.h"

namespace sallyport::bench {
namespace {

using evidence::EventLog;
using evidence::LogAlgorithm;
using evidence::LogEvent;
using test::value_of;

void replay_a_log(benchmark::State& state) {
  const Bytes bytes = boot_log_of(static_cast<std::size_t>(state.range(0)));
  const EventLog parsed = value_of(EventLog::parse(bytes));
  std::size_t facts = 0;
  by_turns_in_one_thread(
      state,
      [&] {
        const EventLog log = value_of(EventLog::parse(bytes));
        benchmark::DoNotOptimize(value_of(evidence::replay(log, LogAlgorithm::kSha256)));
        facts = 0;
        for (const LogEvent& event : log.events()) facts += evidence::data_hashes_to_digest(event) ? 1 : 0;
      },
      [&] {
        ByteArray<32> pcr{};
        for (const LogEvent& event : parsed.events()) {
          if (const auto digest = event.digest(LogAlgorithm::kSha256))
            pcr = crypto::sha256({pcr, *digest}).get();
          benchmark::DoNotOptimize(crypto::sha256(event.data));
        }
        benchmark::DoNotOptimize(pcr);
      });
  state.counters["events"] = static_cast<double>(parsed.events().size());
  state.counters["bytes"] = static_cast<double>(bytes.size());
  state.counters["facts"] = static_cast<double>(facts);
}
BENCHMARK(replay_a_log)->Arg(200)->UseManualTime();

void describe_a_log(benchmark::State& state) {
  const EventLog log = value_of(EventLog::parse(boot_log_of(static_cast<std::size_t>(state.range(0)))));
  for (auto _ : state)
    for (const LogEvent& event : log.events()) benchmark::DoNotOptimize(evidence::describe(event));
}
BENCHMARK(describe_a_log)->Arg(200);

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();

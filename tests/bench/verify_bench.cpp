// What every verifier does: a quote, an engineer's request, a whole dossier. The floor is the signature
// verifications in it.

#include "attestation/crypto/digest.h"
#include "attestation/evidence/quote.h"
#include "attestation/record/dossier.h"
#include "tests/bench/floor.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::bench {
namespace {

using test::RecordScenario;
using test::value_of;

void against_its_verifications(benchmark::State& state, const std::function<void()>& ours) {
  const VerificationsOf floor{ours};
  by_turns(state, ours, [&floor] { floor.replay(); });
  state.counters["signatures"] = static_cast<double>(floor.count());
}

void verify_a_quote(benchmark::State& state) {
  test::SoftTpm tpm;
  const Digest256 binding = crypto::sha256(as_bytes("binding"));
  const auto selection = evidence::PcrSelection::standard();
  const auto quote = tpm.quote(binding);
  const auto values = tpm.pcr_values(selection);
  against_its_verifications(
      state, [&] { value_of(evidence::verify_quote(quote, tpm.ak(), binding, selection, values)); });
}
BENCHMARK(verify_a_quote)->UseManualTime();

// The broker's part of one request: signatures of the token, the quote, the certified key and the note; the
// decision.
void appraise_a_request(benchmark::State& state) {
  RecordScenario world;
  const auto open = world.make_request({});
  const auto before = world.state;
  value_of(world.append(record::Kind::kRequest, open.id, open.submission));
  const record::Entry entry = world.entries.back();
  against_its_verifications(state, [&] { value_of(record::prepare(before, entry)); });
}
BENCHMARK(appraise_a_request)->UseManualTime();

void verify_a_dossier(benchmark::State& state) {
  RecordScenario world;
  const auto open = world.granted();
  const Bytes bytes = record::encode_dossier(world.dossier(open));
  against_its_verifications(state, [&] {
    const auto dossier = value_of(record::parse_dossier(bytes));
    value_of(record::verify_dossier(dossier, world.follower, world.now));
  });
  state.counters["bytes"] = static_cast<double>(bytes.size());
}
BENCHMARK(verify_a_dossier)->UseManualTime();

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();

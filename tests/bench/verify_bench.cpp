// What every verifier does: a quote, an engineer's request, a whole dossier. The floor is the signature
// verifications in it.

#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/quote.h"
#include "attestation/record/ahead.h"
#include "attestation/record/dossier.h"
#include "client/evidence/learn.h"
#include "tests/bench/floor.h"
#include "tests/bench/long_boot_log.h"
#include "tests/support/boot_log.h"
#include "tests/support/files.h"
#include "tests/support/ima_log.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::bench {
namespace {

using test::RecordScenario;
using test::value_of;

void against_its_verifications(benchmark::State& state, const std::function<void()>& ours) {
  const VerificationsOf floor{ours};
  by_turns_in_one_thread(state, ours, [&floor] { floor.replay(); });
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

// The same where the policy judges boots by their events: the machine sends its log, of 200 events. The floor
// has one hash of each event that extends and of its data besides; also where the log was judged before, and
// ours has none.
void appraise_a_request_and_its_log(benchmark::State& state, bool judged_before) {
  const Bytes log = boot_log_of(200);
  std::vector<client::evidence_tools::NamedLog> logs;
  logs.push_back({"log", value_of(evidence::EventLog::parse(log))});
  const test::BootLog boot = test::BootLog::of(logs.front().log);
  const std::uint8_t start = logs.front().log.pcr0_start();
  const evidence::Reference reference = value_of(client::evidence_tools::learn_reference(
      logs, evidence::PcrSelection::standard(), 1u << 1 | 1u << 5, "200 events"));
  RecordScenario world([&](test::SampleCompany& company) {
    company.policy.references = test::BootLog::document({reference});
  });
  test::SoftTpm& tpm = world.machine("laptop");
  tpm.reset();
  ByteArray<32> pcr0{};
  pcr0.back() = start;
  tpm.pcrs[0] = Digest256{pcr0};
  for (const test::BootLog::Event& event : boot.events) tpm.extend(event.pcr, event.digest);
  tpm.event_log = log;
  const auto open = world.make_request({});
  auto before = world.state;
  value_of(world.append(record::Kind::kRequest, open.id, open.submission));
  if (!world.state.cases.at(open.id).decision) std::abort();  // refused: that would be another path
  const record::Entry entry = world.entries.back();
  if (judged_before) {
    auto known = std::make_shared<record::VerifiedAhead>();
    known->logs.judge(*before.control.policy(), log);
    before.control.remember(std::move(known));
  }
  const auto ours = [&] { value_of(record::prepare(before, entry)); };
  const VerificationsOf verifications{ours};
  by_turns_in_one_thread(state, ours, [&] {
    verifications.replay();
    ByteArray<32> pcr{};
    for (const test::BootLog::Event& event : boot.events) {
      pcr = crypto::sha256({pcr, view(event.digest)}).get();
      benchmark::DoNotOptimize(crypto::sha256(event.data));
    }
    benchmark::DoNotOptimize(pcr);
  });
  state.counters["signatures"] = static_cast<double>(verifications.count());
  state.counters["events"] = static_cast<double>(logs.front().log.events().size());
  state.counters["bytes"] = static_cast<double>(log.size());
}
BENCHMARK_CAPTURE(appraise_a_request_and_its_log, new_log, false)->UseManualTime();
BENCHMARK_CAPTURE(appraise_a_request_and_its_log, judged_before, true)->UseManualTime();

// The same where the policy wants what was measured: a list of 5 000 files, in two parts. With a memo (1)
// it was judged before, as by who drafts an entry, and grew by one file since; else (0) by nobody. The floor
// hashes each entry as template and for PCR 10, and the parts.
void appraise_a_request_and_its_ima_list(benchmark::State& state) {
  test::ImaLog log = test::ImaLog::booted().files(5000);
  evidence::ReferenceValues values = evidence::ReferenceValues::as_enrolled();
  values.version = 1;
  evidence::ImaReference::Terms terms;
  terms.files = test::ImaLog{log}.file("/usr/bin/new", "new").allow_list();
  values.ima = value_of(evidence::ImaReference::make(std::move(terms)));
  RecordScenario world([&](test::SampleCompany& company) {
    company.policy.references = evidence::write_reference_values(values);
  });
  test::SoftTpm& tpm = world.machine("laptop");
  log.measure(tpm);
  world.request({});
  const record::Entry first = world.entries.back();
  const std::size_t before_it = log.extended.size();
  log.file("/usr/bin/new", "new").more(tpm, before_it);
  const auto open = world.make_request({});
  record::State before = world.state;
  value_of(world.append(record::Kind::kRequest, open.id, open.submission));
  if (!world.state.cases.at(open.id).decision) std::abort();  // refused: that would be another path
  const record::Entry entry = world.entries.back();
  if (state.range(0) != 0) {
    auto ahead = std::make_shared<record::VerifiedAhead>();
    const record::Entry& one = state.range(0) == 1 ? entry : first;
    ahead->lists = record::verify_ahead(record::claims_of(before, value_of(record::open_entry(one)))).lists;
    before.control.remember(std::move(ahead));
  }
  const auto list = value_of(evidence::ImaList::parse(log.bytes));
  const auto ours = [&] { value_of(record::prepare(before, entry)); };
  const VerificationsOf verifications{ours};
  by_turns_in_one_thread(state, ours, [&] {
    verifications.replay();
    ByteArray<32> pcr{};
    for (const evidence::ImaEntry& one : list.entries()) {
      benchmark::DoNotOptimize(crypto::sha1(one.data));
      pcr = crypto::sha256({pcr, view(crypto::sha256(one.data))}).get();
    }
    benchmark::DoNotOptimize(pcr);
    benchmark::DoNotOptimize(crypto::sha256(log.bytes));
  });
  state.counters["entries"] = static_cast<double>(list.entries().size());
}
BENCHMARK(appraise_a_request_and_its_ima_list)->Arg(0)->Arg(1)->Arg(2)->UseManualTime();

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

// Cases is the state of a follower of a log with that many open cases, and a leaf that comes next.
struct Cases {
  explicit Cases(std::int64_t open) : control(RecordScenario{}.follower) {
    next.kind = static_cast<std::uint8_t>(record::Kind::kRequest);
    next.time = control.last_time();
    for (std::int64_t i = 0; i <= open; ++i) {
      const Digest256 id = crypto::sha256(as_bytes(std::to_string(i)));
      next.case_id = CaseId{value_of(Reader{view(id)}.array<16>())};
      if (i < open) take(control);
    }
  }
  void take(record::ControlState& into) const {
    record::commit(into, value_of(record::prepare_control(into, next, nullptr)));
  }
  record::ControlState control;
  ledger::Leaf next;
};

// A follower copies its state and takes a leaf into the copy. The floor is the same with one open case.
void follow_a_leaf(benchmark::State& state) {
  const Cases many{state.range(0)}, one{1};
  const auto follow = [](const Cases& cases) {
    record::ControlState copy = cases.control;
    cases.take(copy);
  };
  by_turns_in_one_thread(
      state, [&] { follow(many); }, [&] { follow(one); });
}
BENCHMARK(follow_a_leaf)->Arg(100)->Arg(10'000)->UseManualTime();

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();

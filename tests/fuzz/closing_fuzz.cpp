// The closing leaf of a policy or an enrolment brings its whole quorum with it: proposal and approvals, or
// lists of approvals, as signed statements within a statement that nobody signs. The input edits such a
// payload, of a company whose keys are made anew in each process; whatever a follower still takes has the
// effect that was signed, and no other.
#include <algorithm>
#include <array>
#include <optional>

#include "attestation/base/writer.h"
#include "attestation/crypto/random.h"
#include "attestation/record/dsse.h"
#include "attestation/record/statements.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace {

using namespace sallyport;
using namespace sallyport::record;
using test::value_of;

// Closing is a follower that waits for a closing leaf, and that leaf.
struct Closing {
  ControlState before;
  Entry entry;
  Bytes payload;
};

struct World {
  test::RecordScenario company;
  test::SoftTpm tpm;
  std::optional<Closing> policy, enrolment, by_list;
  test::SoftTpm listed;
  Digest256 next_policy;

  World() {
    const CaseId machine = crypto::random_case_id();
    value_of(company.append(Kind::kEnrolmentRequested, machine, company.enrolment_request(tpm, {}, machine)));
    for (const char* person : {"frank", "grace"}) value_of(company.approve(machine, person));
    enrolment =
        closing(value_of(compose_enrolment(company.state, machine, company.now, crypto::random_nonce())));

    const std::array<CaseId, 2> cases{crypto::random_case_id(), crypto::random_case_id()};
    std::array<test::SoftTpm, 2> tpms;
    for (std::size_t i = 0; i < cases.size(); ++i)
      value_of(company.append(Kind::kEnrolmentRequested, cases[i],
                              company.enrolment_request(tpms[i], {.machine = "listed"}, cases[i])));
    for (const char* person : {"frank", "grace"})
      value_of(company.list_in(cases[0], company.make_list({cases.begin(), cases.end()}, person)));
    by_list =
        closing(value_of(compose_enrolment(company.state, cases[0], company.now, crypto::random_nonce())));
    listed = tpms[0];

    const std::size_t size = company.entries.size();
    ControlState before = company.follower;
    value_of(company.change_policy(
        [](test::SamplePolicy& next) { next.rule("us-oncall-to-user-db").duration = "10m"; }));
    for (std::size_t i = size; i + 1 < company.entries.size(); ++i) take(before, company.entries[i]);
    policy = Closing{std::move(before), company.entries.back(), payload_of(company.entries.back())};
    next_policy = company.policy().policy.digest;
  }

  static Bytes payload_of(const Entry& entry) {
    return value_of(open_envelope(value_of(parse_body(entry.body)))).payload;
  }
  Closing closing(Entry entry) const {
    Bytes payload = payload_of(entry);
    return {company.follower, std::move(entry), std::move(payload)};
  }
  static void take(ControlState& state, const Entry& entry) {
    const bool control = is_control(value_of(parse_kind(entry.leaf.kind)));
    commit(state, value_of(prepare_control(state, entry.leaf, control ? &entry : nullptr)));
  }
};

// edit takes steps of four bytes: what, where (16 bits), and with which byte.
Bytes edit(Bytes bytes, ByteView steps) {
  for (std::size_t i = 0; i + 4 <= steps.size() && !bytes.empty(); i += 4) {
    const std::size_t at = (std::size_t{steps[i + 1]} << 8 | steps[i + 2]) % bytes.size();
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const std::uint8_t with = steps[i + 3];
    switch (steps[i] % 4) {
      case 0:
        *place ^= with;
        break;
      case 1:
        bytes.insert(place, with);
        break;
      case 2:
        bytes.erase(place,
                    place + static_cast<std::ptrdiff_t>(std::min<std::size_t>(with, bytes.size() - at)));
        break;
      case 3: {  // what stands there, once more
        const Bytes again(
            place, place + static_cast<std::ptrdiff_t>(std::min<std::size_t>(with, bytes.size() - at)));
        bytes.insert(place, again.begin(), again.end());
        break;
      }
    }
  }
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const World world;
  if (size == 0) return 0;
  const bool of_policy = data[0] % 2 == 0;
  const bool by_list = !of_policy && data[0] / 2 % 2 == 1;
  const Closing& closing = of_policy ? *world.policy : by_list ? *world.by_list : *world.enrolment;
  const test::SoftTpm& tpm = by_list ? world.listed : world.tpm;
  const Kind kind = of_policy ? Kind::kPolicy : Kind::kEnrolment;
  const Bytes payload = edit(closing.payload, {data + 1, size - 1});
  const Bytes envelope = encode_envelope({.type = payload_type(kind), .payload = payload, .signatures = {}});
  const ledger::Leaf& leaf = closing.entry.leaf;
  const Entry entry = make_entry(kind, leaf.time, leaf.case_id, leaf.predecessor, envelope,
                                 closing.entry.blobs, closing.entry.nonce);
  ControlState state = closing.before;
  auto prepared = prepare_control(state, entry.leaf, &entry);
  if (!prepared.has_value()) {
    SP_ASSERT(payload != closing.payload);  // as it was, it is taken
    return 0;
  }
  commit(state, std::move(*prepared));
  if (of_policy) {
    SP_ASSERT(state.policy()->policy.digest == world.next_policy);
  } else {
    const Device* device = state.find_device(tpm.device());
    SP_ASSERT(device != nullptr && device->region.get() == "us");
    SP_ASSERT(equal(view(device->attestation_key.name()), view(tpm.ak().name())));
  }
  return 0;
}

// What a follower is given to begin from a snapshot: what parses is encoded to the same bytes, and joining
// from it gives an error, or the state that the snapshot commits to with its leaf taken.
#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"

namespace {

using namespace sallyport;
using namespace sallyport::record;

void check_join(const ControlState& before, const Joining& joining) {
  const auto joined = join_control(before.origin(), before.policy_at(LeafIndex{1})->policy.digest, joining);
  if (!joined.has_value()) return;
  SP_ASSERT(joined->size().get() == before.size().get() + 1);
  SP_ASSERT(joined->newest_snapshot()->index.get() == before.size().get());
  ledger::CompactRange range = joining.before;
  for (const ledger::Leaf& leaf : joining.leaves) range.append(ledger::leaf_hash(leaf));
  SP_ASSERT(range.root() == before.root());
  const Bytes bytes = encode_control(*joined);
  const auto again = parse_control(bytes);
  SP_ASSERT(again.has_value() && encode_control(*again) == bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes{data, size};
  auto joining = parse_joining(bytes);
  if (!joining.has_value()) return 0;
  SP_ASSERT(equal(encode_joining(*joining), bytes));
  const auto state = parse_control(joining->state);
  if (!state.has_value() || state->size().get() == 0) return 0;
  check_join(*state, *joining);
  // A broker of its own mind commits to whatever state it likes: no input needs to guess a digest to get
  // there.
  auto snapshot = compose_snapshot(*state, state->last_time() + kSnapshotGap, Nonce{});
  if (!snapshot.has_value()) return 0;
  joining->snapshot = std::move(*snapshot);
  check_join(*state, *joining);
  return 0;
}

// Compact ranges: one encoding each, which grows and has a root whatever its hashes are.
#include <cstdlib>

#include "attestation/ledger/compact_range.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  auto range = ledger::CompactRange::parse({data, size});
  if (!range) return 0;
  if (!equal(range->encode(), {data, size})) std::abort();
  const Digest256 before = range->root();
  const std::uint64_t leaves = range->size().get();
  if (leaves == ledger::kMaxTreeSize) return 0;
  range->append(ledger::hash_node(before, before));
  if (range->size().get() != leaves + 1 || range->root() == before) std::abort();
  return 0;
}

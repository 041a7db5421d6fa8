// Leaves: 66 bytes of version 1, each the encoding of one leaf.
#include <cstdlib>

#include "attestation/ledger/leaf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const auto leaf = ledger::parse_leaf({data, size});
  if (leaf.has_value() != (size == ledger::kLeafSize && data[0] == ledger::kLeafVersion)) std::abort();
  if (leaf && !equal(ledger::encode_leaf(*leaf), {data, size})) std::abort();
  return 0;
}

// The file of the ceremony of a new origin: what parses is encoded to the same bytes.
#include "attestation/record/snapshot.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const ByteView bytes{data, size};
  const auto continuation = record::parse_continuation(bytes);
  if (!continuation.has_value()) return 0;
  SP_ASSERT(equal(record::encode_continuation(*continuation), bytes));
  return 0;
}

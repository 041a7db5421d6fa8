// What parse_attest takes encodes back to the same bytes.
#include "attestation/evidence/attest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const sallyport::ByteView bytes{data, size};
  const auto parsed = sallyport::evidence::parse_attest(bytes);
  if (parsed.has_value()) SP_ASSERT(sallyport::equal(encode(*parsed), bytes));
  return 0;
}

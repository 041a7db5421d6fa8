// What parse_canonical accepts is what encode_canonical writes.
#include "attestation/record/canonical_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const ByteView bytes{data, size};
  const auto value = record::json::parse_canonical(bytes, 64 * 1024);
  if (value.has_value()) SP_ASSERT(equal(record::json::encode_canonical(*value), bytes));
  return 0;
}

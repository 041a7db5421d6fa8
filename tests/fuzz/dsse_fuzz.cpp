// What parse_envelope accepts is what encode_envelope writes.
#include "attestation/record/dsse.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const ByteView bytes{data, size};
  const auto envelope = record::parse_envelope(bytes);
  if (envelope.has_value()) {
    SP_ASSERT(equal(record::encode_envelope(*envelope), bytes));
    SP_ASSERT(envelope->signatures.size() <= record::kMaxSignatures);
  }
  return 0;
}

// The bytes of a ControlState: what parses is encoded to the same bytes, and every one of its answers is the
// answer of its copy.
#include "attestation/record/snapshot.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const ByteView bytes{data, size};
  const auto state = record::parse_control(bytes);
  if (!state.has_value()) return 0;
  SP_ASSERT(equal(record::encode_control(*state), bytes));
  for (const record::Device& device : state->devices()) {
    SP_ASSERT(device.enrolled.get() < state->size().get());
    SP_ASSERT(state->find_device_by_ak(device.ak)->id == device.id);
  }
  SP_ASSERT((state->policy() == nullptr) == (state->size().get() == 0));
  return 0;
}

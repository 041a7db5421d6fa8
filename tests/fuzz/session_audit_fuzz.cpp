// What parse_created takes begins with the one encoding of the key that it gives, and ends with its Name.
#include <algorithm>

#include "attestation/base/writer.h"
#include "attestation/evidence/session_audit.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const ByteView bytes{data, size};
  const auto area = evidence::parse_created(bytes);
  if (!area.has_value()) {
    SP_ASSERT(area.error().code == Code::kMalformed);
    return 0;
  }
  SP_ASSERT(bytes.size() <= evidence::kMaxCreatedBytes);
  const Bytes head = Writer{}.prefixed16(evidence::encode(*area)).bytes();
  SP_ASSERT(std::equal(head.begin(), head.end(), bytes.begin()));
  const Bytes tail = Writer{}.prefixed16(view(evidence::name_of(*area))).bytes();
  SP_ASSERT(std::equal(tail.rbegin(), tail.rend(), bytes.rbegin()));
  return 0;
}

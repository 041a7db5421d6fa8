// A key blob or a signature blob of SSH that parses has no other form. The first byte chooses.
#include "attestation/crypto/ssh_key.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  if (data[0] == 'k') {
    const auto key = crypto::parse_ssh_key_blob(bytes);
    if (!key.has_value()) return 0;
    const auto again = crypto::ssh_key_blob(*key);
    SP_ASSERT(again.has_value() && equal(*again, bytes));
  }
  if (data[0] == 's') {
    const auto signature = crypto::parse_ssh_signature_blob(bytes);
    if (signature.has_value()) SP_ASSERT(equal(crypto::ssh_signature_blob(*signature), bytes));
  }
  return 0;
}

// Stapled proofs: what parses is printed back to the same bytes.
#include <cstdlib>

#include "attestation/ledger/proof.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::ledger;
  const std::string_view text = sallyport::as_text({data, size});
  if (const auto proof = parse_proof(text); proof && encode_proof(*proof) != text) std::abort();
  return 0;
}

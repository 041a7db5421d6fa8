// Vkeys: one spelling each.
#include <cstdlib>

#include "attestation/ledger/vkey.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::ledger;
  const std::string_view text = sallyport::as_text({data, size});
  if (const auto key = parse_vkey(text); key && format_vkey(*key) != text) std::abort();
  return 0;
}

// Checkpoint texts: one spelling each; those without extension lines are a subset of those with.
#include <cstdlib>

#include "attestation/ledger/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::ledger;
  const std::string_view text = sallyport::as_text({data, size});
  const auto strict = parse_checkpoint_text(text);
  const auto lenient = parse_checkpoint_text(text, Extensions::kAllow);
  if (lenient && checkpoint_text(*lenient) != text) std::abort();
  if (strict && (!lenient || *strict != *lenient || !strict->extensions.empty())) std::abort();
  return 0;
}

// Entry bundles, with the width in front; and the paths of tiles, which come from the same strangers.
#include <cstdlib>

#include "attestation/ledger/tiles.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  using namespace sallyport::ledger;
  const std::string_view text = as_text({data, size});
  if (const auto id = parse_tile_path(text); id && tile_path(*id) != text) std::abort();
  if (const auto id = parse_bundle_path(text); id && bundle_path(*id) != text) std::abort();
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  const auto entries = parse_bundle(bytes, data[0] + 1u);
  if (!entries) return 0;
  const auto again = encode_bundle(*entries);
  if (!again || !equal(*again, bytes)) std::abort();
  return 0;
}

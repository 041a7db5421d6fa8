// MANIFEST of an export: each text that parses is the one encoding of what it says, and every path in it is a
// place of an export of its size.
#include <cstdlib>

#include "client/auditor/layout.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  using namespace sallyport::client::auditor;
  const std::string_view text = as_text({data, size});
  if (const auto manifest = parse_manifest(text); manifest.has_value()) {
    if (encode(*manifest) != text) std::abort();
    for (const ManifestLine& line : manifest->lines) {
      const auto place = parse_place(line.path);
      if (!place.has_value() || !belongs(*place, manifest->head.size)) std::abort();
    }
  }
  if (const auto place = parse_place(text); place.has_value()) {
    switch (place->kind) {
      case Place::Kind::kNote:
        if (note_path(TreeSize{place->number}) != text) std::abort();
        break;
      case Place::Kind::kBody:
        if (body_path(LeafIndex{place->number}) != text) std::abort();
        break;
      case Place::Kind::kBlob:
        if (blob_path(place->sha256) != text) std::abort();
        break;
      case Place::Kind::kTile:
        if (ledger::tile_path(place->tile) != text) std::abort();
        break;
      case Place::Kind::kBundle:
        if (ledger::bundle_path(place->bundle) != text) std::abort();
        break;
      case Place::Kind::kPolicy:
        if (policy_path(place->number) != text) std::abort();
        break;
    }
  }
  return 0;
}

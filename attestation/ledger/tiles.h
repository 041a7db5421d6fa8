#pragma once

#include <string>
#include <string_view>

#include "attestation/ledger/merkle.h"

// C2SP tlog-tiles: the tree and its entries as static files.
namespace sallyport::ledger {

inline constexpr unsigned kTileWidth = 256;
inline constexpr unsigned kMaxTileLevel =
    7;  // a tree of 2^62 leaves has no higher one; the texts write up to 63
inline constexpr std::size_t kMaxEntryBytes = 0xFFFF;

// TileId names a tile of hashes: width 256, or 1 to 255 for a partial one.
struct TileId {
  unsigned level = 0;
  std::uint64_t index = 0;
  unsigned width = kTileWidth;
  friend auto operator<=>(const TileId&, const TileId&) = default;
};
// BundleId names a bundle of entries, which lie beside the tiles of level 0.
struct BundleId {
  std::uint64_t index = 0;
  unsigned width = kTileWidth;
  friend auto operator<=>(const BundleId&, const BundleId&) = default;
};

std::string tile_path(const TileId& id);      // "tile/0/x001/x234/067", "tile/1/000.p/17"
std::string bundle_path(const BundleId& id);  // "tile/entries/000.p/3"
// The paths in their one spelling; what parses is printed back the same. Errors: kMalformed.
Result<TileId> parse_tile_path(std::string_view path);
Result<BundleId> parse_bundle_path(std::string_view path);

// tiles_between gives the tiles that a tree of new_size has and one of old_size had not, lower levels first:
// full ones, and the partial ones of new_size. bundles_between: the same for entries. From 0: all. kMalformed
// where old_size > new_size.
Result<std::vector<TileId>> tiles_between(TreeSize old_size, TreeSize new_size);
Result<std::vector<BundleId>> bundles_between(TreeSize old_size, TreeSize new_size);

// encode_tile gives the bytes of a tile: 32 for each of its hashes. Errors: those of the reader.
Result<Bytes> encode_tile(const TileId& id, const NodeReader& node);

// encode_bundle writes each entry behind its u16 length. Errors: kMalformed (more than 256 entries, or a too
// long one).
Result<Bytes> encode_bundle(std::span<const ByteView> entries);
// parse_bundle takes exactly `width` entries and no more bytes; the views are into `bytes`. Unverified.
// Errors: kMalformed.
Result<std::vector<ByteView>> parse_bundle(ByteView bytes, unsigned width);

}  // namespace sallyport::ledger

#include "attestation/ledger/tiles.h"

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/ledger/lines.h"

namespace sallyport::ledger {
namespace {

constexpr std::string_view kTilePrefix = "tile/", kBundlePrefix = "tile/entries/";
constexpr std::uint64_t kMaxTilesAtOnce = std::uint64_t{1} << 24;

// fits tells whether a tile can be of a tree that is not too large.
bool fits(unsigned level, std::uint64_t index, unsigned width) {
  if (level > kMaxTileLevel || width == 0 || width > kTileWidth) return false;
  const std::uint64_t most = kMaxTreeSize >> (8 * level);  // subtrees of this level
  return index <= most / kTileWidth && index * kTileWidth + width <= most;
}

std::string three_digits(std::uint64_t value) {
  std::string text = std::to_string(1000 + value);
  return text.substr(1);
}

std::string index_path(std::uint64_t index, unsigned width) {
  std::string path = three_digits(index % 1000);
  for (index /= 1000; index != 0; index /= 1000) path = "x" + three_digits(index % 1000) + "/" + path;
  if (width != kTileWidth) path += ".p/" + std::to_string(width);
  return path;
}

struct IndexAndWidth {
  std::uint64_t index = 0;
  unsigned width = kTileWidth;
};

Result<IndexAndWidth> parse_index_path(std::string_view path) {
  const Error bad{Code::kMalformed, "not the path of a tile"};
  IndexAndWidth out;
  if (const std::size_t partial = path.find(".p/"); partial != std::string_view::npos) {
    SP_TRY(const std::uint64_t width, parse_decimal(path.substr(partial + 3), kTileWidth - 1));
    if (width == 0) return bad;
    out.width = static_cast<unsigned>(width);
    path = path.substr(0, partial);
  }
  if (path.size() > 64) return bad;
  for (bool first = true;; first = false) {
    const bool more = path.starts_with('x');
    if (more) path.remove_prefix(1);
    if (path.size() < 3) return bad;
    std::uint64_t group = 0;
    for (const char c : path.substr(0, 3)) {
      if (c < '0' || c > '9') return bad;
      group = group * 10 + static_cast<std::uint64_t>(c - '0');
    }
    if (first && more && group == 0) return bad;
    if (out.index > kMaxTreeSize / 1000) return bad;
    out.index = out.index * 1000 + group;
    path.remove_prefix(3);
    if (!more) break;
    if (!path.starts_with('/')) return bad;
    path.remove_prefix(1);
  }
  if (!path.empty()) return bad;
  return out;
}

}  // namespace

std::string tile_path(const TileId& id) {
  SP_ASSERT(fits(id.level, id.index, id.width));
  return std::string{kTilePrefix} + std::to_string(id.level) + "/" + index_path(id.index, id.width);
}

std::string bundle_path(const BundleId& id) {
  SP_ASSERT(fits(0, id.index, id.width));
  return std::string{kBundlePrefix} + index_path(id.index, id.width);
}

Result<TileId> parse_tile_path(std::string_view path) {
  if (!path.starts_with(kTilePrefix)) return Error{Code::kMalformed, "not the path of a tile"};
  path.remove_prefix(kTilePrefix.size());
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) return Error{Code::kMalformed, "not the path of a tile"};
  SP_TRY(const std::uint64_t level, parse_decimal(path.substr(0, slash), kMaxTileLevel));
  SP_TRY(const IndexAndWidth at, parse_index_path(path.substr(slash + 1)));
  const TileId id{static_cast<unsigned>(level), at.index, at.width};
  if (!fits(id.level, id.index, id.width)) return Error{Code::kMalformed, "a tile that no tree has"};
  return id;
}

Result<BundleId> parse_bundle_path(std::string_view path) {
  if (!path.starts_with(kBundlePrefix)) return Error{Code::kMalformed, "not the path of a bundle"};
  SP_TRY(const IndexAndWidth at, parse_index_path(path.substr(kBundlePrefix.size())));
  if (!fits(0, at.index, at.width)) return Error{Code::kMalformed, "a bundle that no tree has"};
  return BundleId{at.index, at.width};
}

Result<std::vector<TileId>> tiles_between(TreeSize old_size, TreeSize new_size) {
  if (old_size > new_size || new_size.get() > kMaxTreeSize)
    return Error{Code::kMalformed, "a tree that shrinks, or is too large"};
  if ((new_size.get() - old_size.get()) / kTileWidth >= kMaxTilesAtOnce)
    return Error{Code::kMalformed, "too many tiles at once"};
  std::vector<TileId> tiles;
  for (unsigned level = 0; level <= kMaxTileLevel; ++level) {
    const std::uint64_t had = old_size.get() >> (8 * level), has = new_size.get() >> (8 * level);
    if (had == has) break;  // and so above
    for (std::uint64_t index = had / kTileWidth; index < has / kTileWidth; ++index)
      tiles.push_back({level, index, kTileWidth});
    if (const auto width = static_cast<unsigned>(has % kTileWidth); width != 0)
      tiles.push_back({level, has / kTileWidth, width});
  }
  return tiles;
}

Result<std::vector<BundleId>> bundles_between(TreeSize old_size, TreeSize new_size) {
  SP_TRY(const std::vector<TileId> tiles, tiles_between(old_size, new_size));
  std::vector<BundleId> bundles;
  for (const TileId& tile : tiles)
    if (tile.level == 0) bundles.push_back({tile.index, tile.width});
  return bundles;
}

Result<Bytes> encode_tile(const TileId& id, const NodeReader& node) {
  if (!fits(id.level, id.index, id.width)) return Error{Code::kMalformed, "a tile that no tree has"};
  Bytes bytes;
  bytes.reserve(std::size_t{id.width} * 32);
  for (unsigned i = 0; i < id.width; ++i) {
    SP_TRY(const Digest256 hash, node(8 * id.level, id.index * kTileWidth + i));
    bytes.insert(bytes.end(), hash.get().begin(), hash.get().end());
  }
  return bytes;
}

Result<Bytes> encode_bundle(std::span<const ByteView> entries) {
  if (entries.empty() || entries.size() > kTileWidth)
    return Error{Code::kMalformed, "a bundle of another width"};
  Writer out;
  for (const ByteView entry : entries) {
    if (entry.size() > kMaxEntryBytes) return Error{Code::kMalformed, "an entry that is too long"};
    out.prefixed16(entry);
  }
  return std::move(out).take();
}

Result<std::vector<ByteView>> parse_bundle(ByteView bytes, unsigned width) {
  if (width == 0 || width > kTileWidth) return Error{Code::kMalformed, "a bundle of another width"};
  Reader in{bytes};
  std::vector<ByteView> entries;
  entries.reserve(width);
  for (unsigned i = 0; i < width; ++i) {
    SP_TRY(const ByteView entry, in.prefixed16(kMaxEntryBytes));
    entries.push_back(entry);
  }
  SP_CHECK(in.finish());
  return entries;
}

}  // namespace sallyport::ledger

#include "client/auditor/layout.h"

#include "attestation/base/hex.h"
#include "attestation/ledger/vkey.h"

namespace sallyport::client::auditor {
namespace {

constexpr std::string_view kNotes = "checkpoints/", kBodies = "bodies/", kBlobs = "blobs/",
                           kPolicies = "policies/";
constexpr std::string_view kFormat = "sallyport-export/v1 ";

Error malformed(std::string what) {
  return Error{Code::kMalformed, std::move(what)};
}

// three_digits reads one group of a body's path.
Result<std::uint64_t> three_digits(std::string_view text) {
  std::uint64_t value = 0;
  if (text.size() != 3) return malformed("not three digits");
  for (const char c : text) {
    if (c < '0' || c > '9') return malformed("not three digits");
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

Result<std::uint64_t> parse_body_path(std::string_view path) {
  std::string_view rest = path.substr(kBodies.size());
  std::uint64_t index = 0;
  while (!rest.empty()) {
    const std::size_t slash = rest.find('/');
    std::string_view group = rest.substr(0, slash);
    rest = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash + 1);
    if (group.starts_with('x')) group.remove_prefix(1);
    SP_TRY(const std::uint64_t value, three_digits(group));
    if (index > ledger::kMaxTreeSize / 1000) return malformed("no leaf has this number");
    index = index * 1000 + value;
  }
  // Groups, zeros and the x are right where the path is printed back the same.
  if (index >= ledger::kMaxTreeSize || body_path(LeafIndex{index}) != path)
    return malformed("not the path of a body");
  return index;
}

}  // namespace

Result<std::uint64_t> parse_number(std::string_view text, std::uint64_t max) {
  if (text.empty() || text.size() > 19 || (text.size() > 1 && text[0] == '0'))
    return malformed("not a decimal number");
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return malformed("not a decimal number");
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (value > max) return malformed("a number that is too large");
  return value;
}

std::string note_path(TreeSize size) {
  return std::string{kNotes} + std::to_string(size.get());
}

std::string policy_path(std::uint64_t version) {
  return std::string{kPolicies} + std::to_string(version);
}

std::string body_path(LeafIndex index) {
  std::string path;
  std::uint64_t rest = index.get();
  for (int group = 0; group < 2 || rest != 0; ++group, rest /= 1000)
    path = (group < 2 ? "" : "x") + std::to_string(1000 + rest % 1000).substr(1) + (group == 0 ? "" : "/") +
           path;
  return std::string{kBodies} + path;
}

std::string blob_path(const Digest256& sha256) {
  const std::string hex = to_hex(sha256);
  return std::string{kBlobs} + hex.substr(0, 2) + "/" + hex;
}

Result<Place> parse_place(std::string_view path) {
  Place place;
  if (path.starts_with(kPolicies)) {
    SP_TRY(place.number, parse_number(path.substr(kPolicies.size()), ledger::kMaxTreeSize));
    return place;
  }
  if (path.starts_with(kNotes)) {
    place.kind = Place::Kind::kNote;
    SP_TRY(place.number, parse_number(path.substr(kNotes.size()), ledger::kMaxTreeSize));
    return place;
  }
  if (path.starts_with(kBodies)) {
    place.kind = Place::Kind::kBody;
    SP_TRY(place.number, parse_body_path(path));
    return place;
  }
  if (path.starts_with(kBlobs)) {
    place.kind = Place::Kind::kBlob;
    const std::size_t slash = path.rfind('/');
    SP_TRY(place.sha256, parse_digest(path.substr(slash + 1)));
    if (blob_path(place.sha256) != path) return malformed("not the path of a blob");
    return place;
  }
  if (auto bundle = ledger::parse_bundle_path(path); bundle.has_value()) {
    place.kind = Place::Kind::kBundle;
    place.bundle = *bundle;
    return place;
  }
  if (auto tile = ledger::parse_tile_path(path); tile.has_value()) {
    place.kind = Place::Kind::kTile;
    place.tile = *tile;
    return place;
  }
  return malformed("no file of an export has this path");
}

bool belongs(const Place& place, TreeSize size) {
  const auto in_tree = [&](unsigned level, std::uint64_t index, unsigned width) {
    const std::uint64_t has = size.get() >> (8 * level);
    if (width == ledger::kTileWidth) return index < has / ledger::kTileWidth;
    return index == has / ledger::kTileWidth && width <= has % ledger::kTileWidth;
  };
  switch (place.kind) {
    case Place::Kind::kPolicy:  // a log that goes on from another begins with a later version
      return place.number >= 1;
    case Place::Kind::kBlob:
      return true;
    case Place::Kind::kNote:
      return place.number >= 1 && place.number <= size.get();
    case Place::Kind::kTile:
      return in_tree(place.tile.level, place.tile.index, place.tile.width);
    case Place::Kind::kBundle:
      return in_tree(0, place.bundle.index, place.bundle.width);
    case Place::Kind::kBody:
      return place.number < size.get();
  }
  return false;
}

bool is_partial(const Place& place) {
  return (place.kind == Place::Kind::kTile && place.tile.width != ledger::kTileWidth) ||
         (place.kind == Place::Kind::kBundle && place.bundle.width != ledger::kTileWidth);
}

std::set<std::string> partials_of(const std::vector<TreeSize>& notes, TreeSize size) {
  std::set<std::string> paths;
  const auto add = [&](std::uint64_t noted) {
    for (unsigned level = 0; noted >> (8 * level) != 0; ++level) {
      const std::uint64_t has = noted >> (8 * level), index = has / ledger::kTileWidth;
      const auto width = static_cast<unsigned>(has % ledger::kTileWidth);
      if (width == 0 || index != (size.get() >> (8 * level)) / ledger::kTileWidth) continue;
      paths.insert(ledger::tile_path({level, index, width}));
      if (level == 0) paths.insert(ledger::bundle_path({index, width}));
    }
  };
  for (const TreeSize noted : notes) add(noted.get());
  add(size.get());
  return paths;
}

std::string encode(const ManifestHead& head) {
  return std::string{kFormat} + head.origin.get() + " " + std::to_string(head.size.get()) + " " +
         to_hex(head.root) + "\n";
}
std::string encode(const ManifestLine& line) {
  return to_hex(line.sha256) + " " + std::to_string(line.size) + " " + line.path + "\n";
}
std::string encode(const Manifest& manifest) {
  std::string text = encode(manifest.head);
  for (const ManifestLine& line : manifest.lines) text += encode(line);
  return text;
}

Result<ManifestHead> parse_manifest_head(std::string_view line) {
  if (line.size() > kMaxManifestLine || !line.starts_with(kFormat))
    return malformed("not the first line of a MANIFEST");
  line.remove_prefix(kFormat.size());
  const std::size_t root = line.rfind(' ');
  const std::size_t size = root == std::string_view::npos || root == 0 ? root : line.rfind(' ', root - 1);
  if (size == std::string_view::npos || size == root) return malformed("not the first line of a MANIFEST");
  ManifestHead head;
  const std::string origin{line.substr(0, size)};
  SP_CHECK(ledger::check_note_name(origin));
  head.origin = Origin{origin};
  SP_TRY(const std::uint64_t leaves,
         parse_number(line.substr(size + 1, root - size - 1), ledger::kMaxTreeSize));
  head.size = TreeSize{leaves};
  SP_TRY(head.root, parse_digest(line.substr(root + 1)));
  return head;
}

Result<ManifestLine> parse_manifest_line(std::string_view line) {
  const std::size_t first = line.find(' ');
  const std::size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (line.size() > kMaxManifestLine || second == std::string_view::npos)
    return malformed("not a line of a MANIFEST");
  ManifestLine out;
  SP_TRY(out.sha256, parse_digest(line.substr(0, first)));
  SP_TRY(out.size, parse_number(line.substr(first + 1, second - first - 1), kMaxFileBytes));
  out.path = line.substr(second + 1);
  SP_CHECK(parse_place(out.path));
  return out;
}

Result<Manifest> parse_manifest(std::string_view text) {
  const auto next_line = [&]() -> Result<std::string_view> {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return malformed("a line without its end");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    return line;
  };
  Manifest out;
  SP_TRY(const std::string_view first, next_line());
  SP_TRY(out.head, parse_manifest_head(first));
  while (!text.empty()) {
    SP_TRY(const std::string_view line, next_line());
    SP_TRY(ManifestLine parsed, parse_manifest_line(line));
    if (!out.lines.empty() && parsed.path <= out.lines.back().path) return malformed("paths out of order");
    if (!belongs(*parse_place(parsed.path), out.head.size)) return malformed("a file beyond the size");
    out.lines.push_back(std::move(parsed));
  }
  return out;
}

}  // namespace sallyport::client::auditor

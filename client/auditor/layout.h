#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/ledger/tiles.h"

// The names of an export's files, and its MANIFEST (README.md, "The export"). Pure.
namespace sallyport::client::auditor {

inline constexpr std::string_view kCheckpointPath = "checkpoint", kManifestPath = "MANIFEST",
                                  kPartPath = ".part",  // what is being written, and has not its name yet
    kErasingPath = ".erasing";  // the paths that an erasure takes away, until they are gone
// No file of an export but MANIFEST is longer: an attachment may have 16 MiB.
inline constexpr std::size_t kMaxFileBytes = 16u << 20;

// parse_number takes ASCII decimal without sign or leading zeros. Errors: kMalformed.
Result<std::uint64_t> parse_number(std::string_view text, std::uint64_t max);

std::string note_path(TreeSize size);            // "checkpoints/48216"
std::string policy_path(std::uint64_t version);  // "policies/2"
std::string body_path(LeafIndex index);          // "bodies/030/117", "bodies/x001/234/567"
std::string blob_path(const Digest256& sha256);  // "blobs/9d/9d41…"

// Place is what a path of an export names.
struct Place {
  enum class Kind { kPolicy, kNote, kTile, kBundle, kBody, kBlob };
  Kind kind = Kind::kPolicy;
  std::uint64_t number = 0;  // of a note: its size; of a body: its leaf; of a policy: its version
  ledger::TileId tile;
  ledger::BundleId bundle;
  Digest256 sha256;  // of a blob
};
// parse_place takes the one spelling of each path that MANIFEST can list: not itself, nor `checkpoint`.
// Errors: kMalformed.
Result<Place> parse_place(std::string_view path);
// belongs tells whether an export of this size can have that place. Which blobs and policies it has, only
// its bodies tell; which partial tiles and bundles, only its checkpoints: partials_of.
bool belongs(const Place& place, TreeSize size);
bool is_partial(const Place& place);
// partials_of gives the partial tiles and bundles of an export of this size: those of each of its
// checkpoints, and its own, where the full one is not there yet. So at most 255 of each.
std::set<std::string> partials_of(const std::vector<TreeSize>& notes, TreeSize size);

// Manifest accounts for every file of an export but `checkpoint`, which replaces itself: a first line
// `sallyport-export/v1 ORIGIN SIZE ROOT`, then one `SHA256 SIZE PATH` for each file, ascending by path, each
// line with its newline. Nothing vouches for it.
struct ManifestHead {
  Origin origin;
  TreeSize size;
  Digest256 root;
};
struct ManifestLine {
  Digest256 sha256;
  std::uint64_t size = 0;
  std::string path;
};
struct Manifest {
  ManifestHead head;
  std::vector<ManifestLine> lines;
};
inline constexpr std::size_t kMaxManifestLine = 512;

// Lines with their newline. What encode gives, parse takes, and the other way round, byte for byte.
std::string encode(const ManifestHead& head);
std::string encode(const ManifestLine& line);
std::string encode(const Manifest& manifest);
// parse_manifest_head and parse_manifest_line take a line without its newline. Errors: kMalformed.
Result<ManifestHead> parse_manifest_head(std::string_view line);
Result<ManifestLine> parse_manifest_line(std::string_view line);
// parse_manifest takes the whole text; paths are places of the head's size, ascending. Errors: kMalformed.
Result<Manifest> parse_manifest(std::string_view text);

}  // namespace sallyport::client::auditor

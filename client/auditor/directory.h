#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "attestation/ledger/checkpoint.h"
#include "attestation/program/descriptor.h"
#include "attestation/record/entry.h"
#include "client/auditor/layout.h"

// The disk under an export. What is not as it must be is kUnverified and names the file; what the system
// refuses is kUnavailable/kStorage.
namespace sallyport::client::auditor {

// read_file reads one file of an export, a plain one of at most kMaxFileBytes.
Result<Bytes> read_file(const std::filesystem::path& directory, const std::string& path);

// walk calls on_file for every file, ascending by path. Anything but plain files and directories is an error.
// What comes or goes meanwhile may be told or not.
Status walk(const std::filesystem::path& directory,
            const std::function<Status(const std::string& path)>& on_file);

// open_manifest opens the MANIFEST that there is now. An export that goes on puts another in its place; this
// one, and all that it lists, stays as it is while the descriptor is open and the directory is held.
Result<Descriptor> open_manifest(const std::filesystem::path& directory);

// hold keeps an export that goes on from taking partial tiles away. Several can hold at once. Where a file
// system knows no such locks nothing is held.
Descriptor hold(const std::filesystem::path& directory);

// ManifestReader reads a MANIFEST line by line: as parse_manifest, in constant memory.
class ManifestReader {
 public:
  static Result<ManifestReader> open(const Descriptor& manifest);
  const ManifestHead& head() const { return head_; }
  Result<std::optional<ManifestLine>> next();  // empty: the end

 private:
  explicit ManifestReader(std::ifstream file) : file_(std::move(file)) {}
  Result<std::optional<std::string>> line();
  std::ifstream file_;
  std::uint64_t number_ = 0;
  std::string last_path_;
  ManifestHead head_;
};

// ManifestIndex tells which of the blobs that MANIFEST lists somebody has asked for, in a bit each.
class ManifestIndex {
 public:
  static Result<ManifestIndex> open(const Descriptor& manifest);
  // find gives where the line of a blob begins; none that MANIFEST does not list. Many threads may ask at
  // once.
  std::optional<std::uint64_t> find(const Digest256& blob) const;
  void mark(std::uint64_t line) { marked_[line / kShortestLine] = true; }
  // first_unmarked gives the first blob that nobody referred to.
  Result<std::optional<std::string>> first_unmarked() const;

 private:
  // No line is shorter: a digest, two spaces, a size, a path and the newline.
  static constexpr std::uint64_t kShortestLine = 64;
  explicit ManifestIndex(const Descriptor& file) : file_(file) {}
  Status scan();
  const Descriptor& file_;
  std::vector<std::uint64_t> fences_;  // where the blobs with each first two bytes begin, and where all end
  std::vector<bool> marked_;           // by offset / kShortestLine: no two lines begin in the same
};

// find_line gives where the line of a path begins in a MANIFEST, between two offsets; none where it is not
// listed. Many threads may ask at once.
std::optional<std::uint64_t> find_line(const Descriptor& manifest, std::string_view path, std::uint64_t from,
                                       std::uint64_t to);

// read_body reads the body of a leaf, without its blobs.
Result<record::Entry> read_body(const std::filesystem::path& directory, LeafIndex index,
                                const ledger::Leaf& leaf);
// read_entry reads the body of a leaf and all its blobs.
Result<record::Entry> read_entry(const std::filesystem::path& directory, LeafIndex index,
                                 const ledger::Leaf& leaf);

// ExportReader reads an export from its beginning, as it is when it is opened, though it go on meanwhile.
// Nothing of it is believed but that blobs have the digests by which they are asked for.
class ExportReader {
 public:
  // open reads `checkpoint`, the first line of MANIFEST, and the checkpoint of that size; no signature is
  // checked. Errors: kUsage, when there is no directory.
  static Result<ExportReader> open(std::filesystem::path directory);
  // open_next reads the leaves of an export that has no MANIFEST yet: up to one of checkpoints/.
  static Result<ExportReader> open_next(std::filesystem::path directory, TreeSize size);
  const std::string& note() const { return note_; }               // checkpoints/SIZE
  const ledger::Checkpoint& claimed() const { return claimed_; }  // its
  const std::string& front() const { return front_; }             // `checkpoint`
  TreeSize front_size() const { return front_size_; }             // its, at most that of claimed()
  const Descriptor& manifest() const { return manifest_; }
  // notes lists the sizes of the checkpoints that the export has, ascending; those of one to come are not
  // its.
  Result<std::vector<TreeSize>> notes() const;
  const std::filesystem::path& directory() const { return directory_; }

  Result<ledger::Leaf> leaf(LeafIndex index);
  // bundle_of gives the whole bundle in which a leaf is: 66 bytes for each.
  Result<const std::vector<ledger::Leaf>*> bundle_of(LeafIndex index);
  // has_body tells whether MANIFEST lists a leaf's body. Without one the leaf is erased, or should not be.
  bool has_body(LeafIndex index) const;
  // entry gives a leaf with its body and all its blobs; without a body, only the leaf (record::is_erased).
  Result<record::Entry> entry(LeafIndex index);

 private:
  ExportReader() = default;
  std::filesystem::path directory_;
  Descriptor hold_{-1}, manifest_{-1};
  std::uint64_t manifest_bytes_ = 0;
  std::string front_, note_;
  TreeSize front_size_;
  ledger::Checkpoint claimed_;
  std::optional<std::uint64_t> bundle_;
  std::vector<ledger::Leaf> leaves_;
};

// place_of_leaf says "leaf 30117 (bodies/030/117)": where an error is.
std::string place_of_leaf(LeafIndex index);

}  // namespace sallyport::client::auditor

#include "client/auditor/write_export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/compact_range.h"
#include "attestation/policy/policy.h"
#include "client/auditor/directory.h"

namespace sallyport::client::auditor {
namespace {

namespace fs = std::filesystem;
using record::Kind;

constexpr std::string_view kPartPath = ".part";  // what is being written

Error storage(const fs::path& path, int error) {
  return Error{Code::kUnavailable, Reason::kStorage, path.string() + ": " + std::strerror(error)};
}
Error unverified(Reason reason, std::string what) {
  return Error{Code::kUnverified, reason, std::move(what)};
}

// Directory writes whole files under names that they have only when they are complete.
class Directory {
 public:
  explicit Directory(fs::path root) : root_(std::move(root)) {}
  const fs::path& root() const { return root_; }

  Result<bool> has(const std::string& path) const {
    std::error_code error;
    const fs::file_status status = fs::symlink_status(root_ / path, error);
    if (status.type() == fs::file_type::not_found) return false;
    if (error) return storage(root_ / path, error.value());
    return true;
  }

  // put writes a file that never changes: one that is there must be the same.
  Status put(const std::string& path, ByteView bytes) const {
    SP_TRY(const bool there, has(path));
    if (!there) return replace(path, bytes);
    SP_TRY(const Bytes old, read_file(root_, path));
    if (equal(old, bytes)) return Done{};
    return Error{Code::kConflict, path + " is there already, and other than this log's"};
  }

  Status replace(const std::string& path, ByteView bytes) const {
    const fs::path part = root_ / kPartPath, full = root_ / path;
    std::error_code error;
    fs::create_directories(full.parent_path(), error);
    if (error) return storage(full.parent_path(), error.value());
    const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) return storage(part, errno);
    int failed = 0;
    for (std::size_t done = 0; done < bytes.size() && failed == 0;) {
      const ssize_t wrote = ::write(fd, bytes.data() + done, bytes.size() - done);
      if (wrote >= 0)
        done += static_cast<std::size_t>(wrote);
      else if (errno != EINTR)
        failed = errno;
    }
    if (::close(fd) != 0 && failed == 0) failed = errno;
    if (failed != 0) return storage(full, failed);
    return rename_part(path);
  }

  Status rename_part(std::string_view path) const {
    if (std::rename((root_ / kPartPath).c_str(), (root_ / path).c_str()) != 0)
      return storage(root_ / path, errno);
    return Done{};
  }

  // sync brings everything that was written to the disk: one call for the file system is much less than one
  // for each of many thousand small files.
  Status sync() const {
    const int fd = ::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return storage(root_, errno);
    const int done = ::syncfs(fd), error = errno;
    ::close(fd);
    if (done != 0) return storage(root_, error);
    return Done{};
  }

 private:
  fs::path root_;
};

// Tree writes bundles and tiles while leaves come in.
class TreeFiles {
 public:
  explicit TreeFiles(const Directory& directory) : directory_(directory) {}

  Status append(const ledger::Leaf& leaf) {
    leaves_.push_back(ledger::encode_leaf(leaf));
    const std::uint64_t index = range_.size().get();
    std::optional<Error> failed;
    range_.append(ledger::leaf_hash(leaf), [&](unsigned level, std::uint64_t at, const Digest256& hash) {
      if (failed || level % 8 != 0) return;
      Bytes& tile = tiles_[level / 8];
      tile.insert(tile.end(), view(hash).begin(), view(hash).end());
      if (tile.size() < 32 * ledger::kTileWidth) return;
      if (const Status done = write_tile(level / 8, at / ledger::kTileWidth); !done.has_value())
        failed = done.error();
      tile.clear();
    });
    if (failed) return *failed;
    if (leaves_.size() == ledger::kTileWidth) SP_CHECK(write_bundle(index / ledger::kTileWidth));
    return Done{};
  }
  Status finish() {
    const std::uint64_t size = range_.size().get();
    if (!leaves_.empty()) SP_CHECK(write_bundle(size / ledger::kTileWidth));
    for (unsigned level = 0; level < tiles_.size(); ++level)
      if (!tiles_[level].empty()) SP_CHECK(write_tile(level, (size >> (8 * level)) / ledger::kTileWidth));
    return Done{};
  }
  TreeSize size() const { return range_.size(); }
  Digest256 root() const { return range_.root(); }

 private:
  Status write_tile(unsigned level, std::uint64_t index) const {
    const Bytes& tile = tiles_[level];
    return directory_.put(ledger::tile_path({level, index, static_cast<unsigned>(tile.size() / 32)}), tile);
  }
  Status write_bundle(std::uint64_t index) {
    const std::vector<ByteView> entries{leaves_.begin(), leaves_.end()};
    SP_TRY(const Bytes bundle, ledger::encode_bundle(entries));
    SP_CHECK(directory_.put(ledger::bundle_path({index, static_cast<unsigned>(leaves_.size())}), bundle));
    leaves_.clear();
    return Done{};
  }
  const Directory& directory_;
  ledger::CompactRange range_;
  std::vector<ledger::LeafBytes> leaves_;
  std::array<Bytes, ledger::kMaxTileLevel + 1> tiles_;
};

struct Head {
  TreeSize size;
  Digest256 root;
};

struct Notes {
  std::vector<Head> heads;  // ascending
  std::string newest;
};

// fetch_notes stores the checkpoints from a size on.
Result<Notes> fetch_notes(const Directory& directory, const Origin& origin, Source& source, TreeSize from) {
  Notes out;
  for (;;) {
    SP_TRY(const std::vector<std::string> page, source.checkpoints(from));
    if (page.empty()) return out;
    for (const std::string& note : page) {
      SP_TRY(const ledger::ClaimedNote parsed, ledger::parse_note(note));
      SP_TRY(const ledger::Checkpoint head, ledger::parse_checkpoint_text(parsed.text));
      if (head.origin != origin)
        return unverified(Reason::kLogCheckpoint, "a checkpoint of another log was sent");
      if (head.size < from || head.size.get() == 0)
        return Error{Code::kMalformed, "checkpoints were sent out of order"};
      const std::string path = note_path(head.size);
      SP_TRY(const bool there, directory.has(path));
      if (there) {
        // The same head, cosigned again, may take the place of the older one; another head may not.
        SP_TRY(const Bytes old, read_file(directory.root(), path));
        SP_TRY(const ledger::ClaimedNote before, ledger::parse_note(as_text(old)));
        if (before.text != parsed.text)
          return unverified(Reason::kLogFork, path + " is of another history than what the broker sends");
      }
      SP_CHECK(directory.replace(path, as_bytes(note)));
      out.heads.push_back({head.size, head.root});
      out.newest = note;
      from = TreeSize{head.size.get() + 1};
    }
  }
}

// write_manifest lists all files in a MANIFEST that has not its name yet; partial tiles that a larger tree
// has left behind go.
Status write_manifest(const Directory& directory, const ManifestHead& head, Exported& exported) {
  const fs::path part = directory.root() / kPartPath;
  std::ofstream file{part, std::ios::binary | std::ios::trunc};
  file << encode(head);
  std::vector<std::string> left_behind;
  SP_CHECK(walk(directory.root(), [&](const std::string& path) -> Status {
    if (path == kManifestPath || path == kPartPath) return Done{};
    const auto place = parse_place(path);
    if (!place.has_value())
      return Error{Code::kConflict, path + " is no file of an export; the directory is something else"};
    if (!belongs(*place, head.size)) {
      const bool tile = place->kind == Place::Kind::kTile && place->tile.width != ledger::kTileWidth;
      const bool bundle = place->kind == Place::Kind::kBundle && place->bundle.width != ledger::kTileWidth;
      if (!tile && !bundle) return Error{Code::kConflict, path + " is of a larger log than this"};
      left_behind.push_back(path);
      return Done{};
    }
    SP_TRY(const Bytes bytes, read_file(directory.root(), path));
    ++exported.files;
    exported.bytes += bytes.size();
    file << encode(ManifestLine{crypto::sha256(bytes), bytes.size(), path});
    return Done{};
  }));
  file.close();
  if (!file.good()) return storage(part, EIO);
  for (const std::string& path : left_behind) {
    std::error_code error;
    fs::remove(directory.root() / path, error);
    if (error) return storage(directory.root() / path, error.value());
    fs::remove((directory.root() / path).parent_path(), error);  // "000.p", where it is empty now
  }
  return Done{};
}

class Export {
 public:
  Export(const fs::path& directory, const Origin& origin, Source& source, const ExportOptions& options)
      : directory_(directory), origin_(origin), source_(source), options_(options), tree_(directory_) {}

  Result<Exported> run() {
    std::error_code error;
    fs::create_directories(directory_.root(), error);
    if (error) return storage(directory_.root(), error.value());
    SP_CHECK(open_old());
    SP_TRY(notes_,
           fetch_notes(directory_, origin_, source_, TreeSize{std::max<std::uint64_t>(old_size_, 1)}));
    if (notes_.heads.empty() && old_size_ == 0)
      return Error{Code::kUnavailable, Reason::kLogQuorum, "the log has no cosigned checkpoint yet"};
    if (notes_.heads.empty())
      return unverified(Reason::kLogRollback, "the broker's newest checkpoint is older than this export");
    const Head& newest = notes_.heads.back();
    SP_CHECK(reread());
    SP_CHECK(fetch(newest.size));
    SP_CHECK(tree_.finish());
    if (tree_.root() != newest.root)
      return unverified(Reason::kLogFork, "the leaves do not lead to the newest checkpoint");

    SP_TRY(const policy::Policy policy, policy::parse_policy(as_text(policy_text_)));
    SP_CHECK(directory_.replace(std::string{kPolicyPath}, as_bytes(policy.authority.witnesses)));
    SP_CHECK(directory_.replace(std::string{kCheckpointPath}, as_bytes(notes_.newest)));
    SP_CHECK(write_manifest(directory_, {origin_, newest.size, newest.root}, exported_));
    SP_CHECK(directory_.sync());  // all that it lists, and itself, before it has its name
    SP_CHECK(directory_.rename_part(kManifestPath));
    SP_CHECK(directory_.sync());
    exported_.size = newest.size;
    ++exported_.files;  // MANIFEST
    exported_.note = notes_.newest;
    return exported_;
  }

 private:
  // open_old looks at what the directory has already.
  Status open_old() {
    SP_TRY(const bool there, directory_.has(std::string{kManifestPath}));
    if (there) {
      SP_TRY(old_, ExportReader::open(directory_.root()));
      if (old_->claimed().origin != origin_)
        return Error{Code::kConflict, "the directory holds the export of another log"};
      old_size_ = old_->claimed().size.get();
    }
    since_ = options_.since.value_or(old_size_);
    if (since_ > old_size_)
      return Error{Code::kMalformed, Reason::kUsage,
                   "the directory holds " + std::to_string(old_size_) + " leaves; --since is beyond them"};
    return Done{};
  }

  // reread takes the leaves that are there.
  Status reread() {
    for (std::uint64_t i = 0; i < since_; ++i) {
      SP_TRY(const ledger::Leaf leaf, old_->leaf(LeafIndex{i}));
      if (leaf.kind == static_cast<std::uint8_t>(Kind::kPolicy)) {
        SP_TRY(const record::Entry entry, old_->entry(LeafIndex{i}));
        keep_policy(entry);
      }
      SP_CHECK(append(leaf));
    }
    return Done{};
  }

  Status fetch(TreeSize size) {
    while (tree_.size() < size) {
      const LeafIndex from{tree_.size().get()};
      if (options_.progress) options_.progress(from.get(), size.get());
      SP_TRY(const record::EntryPage page, source_.entries(from));
      if (page.from != from || page.entries.empty())
        return Error{Code::kUnavailable, Reason::kPeer,
                     "the broker did not send leaf " + std::to_string(from.get())};
      for (const record::Entry& entry : page.entries) {
        if (tree_.size() == size) break;
        SP_CHECK(take(entry));
      }
    }
    if (options_.progress) options_.progress(size.get(), size.get());
    return Done{};
  }

  Status take(const record::Entry& entry) {
    const LeafIndex index{tree_.size().get()};
    auto opened = record::open_body(entry);
    if (!opened.has_value())
      return unverified(Reason::kLogBody, place_of_leaf(index) + ": " + opened.error().what);
    for (const record::EvidenceItem& item : opened->items)
      if (record::find_blob(entry.blobs, item) == nullptr)
        return unverified(Reason::kLogMissingBody, place_of_leaf(index) + ": its evidence was not sent");
    Bytes body = to_bytes(view(entry.nonce));
    body.insert(body.end(), entry.body.begin(), entry.body.end());
    SP_CHECK(directory_.put(body_path(index), body));
    for (const record::Blob& blob : entry.blobs)
      SP_CHECK(directory_.put(blob_path(record::item_of(blob).sha256), blob.bytes));
    if (opened->kind == Kind::kPolicy) keep_policy(entry);
    ++exported_.fetched;
    return append(entry.leaf);
  }

  // append puts a leaf into the tree, and holds it against a checkpoint that ends there.
  Status append(const ledger::Leaf& leaf) {
    SP_CHECK(tree_.append(leaf));
    if (next_head_ == notes_.heads.size() || notes_.heads[next_head_].size != tree_.size()) return Done{};
    if (notes_.heads[next_head_].root != tree_.root())
      return unverified(Reason::kLogFork,
                        note_path(tree_.size()) + ": a root to which the leaves do not lead");
    ++next_head_;
    return Done{};
  }

  void keep_policy(const record::Entry& entry) {
    for (const record::Blob& blob : entry.blobs)
      if (blob.type == record::EvidenceType::kPolicyText) policy_text_ = blob.bytes;
  }

  const Directory directory_;
  const Origin& origin_;
  Source& source_;
  const ExportOptions& options_;
  TreeFiles tree_;
  std::optional<ExportReader> old_;
  std::uint64_t old_size_ = 0, since_ = 0;
  Notes notes_;
  std::size_t next_head_ = 0;
  Bytes policy_text_;
  Exported exported_;
};

}  // namespace

Result<Exported> write_export(const fs::path& directory, const Origin& origin, Source& source,
                              const ExportOptions& options) {
  return Export{directory, origin, source, options}.run();
}

}  // namespace sallyport::client::auditor

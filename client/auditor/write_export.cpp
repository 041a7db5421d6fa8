#include "client/auditor/write_export.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/compact_range.h"
#include "attestation/policy/policy.h"
#include "client/auditor/directory.h"
#include "client/auditor/erasures.h"
#include "client/auditor/verify_export.h"

namespace sallyport::client::auditor {
namespace {

namespace fs = std::filesystem;
using record::Kind;

Error storage(const fs::path& path, int error) {
  return Error{Code::kUnavailable, Reason::kStorage, path.string() + ": " + std::strerror(error)};
}
Error unverified(Reason reason, std::string what) {
  return Error{Code::kUnverified, reason, std::move(what)};
}

// Directory writes whole files under names that they have only when they are complete, and remembers them for
// MANIFEST.
class Directory {
 public:
  Directory(fs::path root, const std::function<Status()>& before_change)
      : root_(std::move(root)), before_change_(before_change) {}
  const fs::path& root() const { return root_; }

  Result<bool> has(const std::string& path) const {
    std::error_code error;
    const fs::file_status status = fs::symlink_status(root_ / path, error);
    if (status.type() == fs::file_type::not_found) return false;
    if (error) return storage(root_ / path, error.value());
    return true;
  }

  // lock keeps other exports out of the directory until the descriptor is closed.
  Result<Descriptor> lock() const {
    const fs::path path = root_ / "checkpoints";
    std::error_code error;
    fs::create_directories(path, error);
    if (error) return storage(path, error.value());
    Descriptor held{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!held.is_open()) return storage(path, errno);
    if (::flock(held.get(), LOCK_EX | LOCK_NB) == 0) return held;
    if (errno != EWOULDBLOCK) return storage(path, errno);
    return Error{Code::kConflict,
                 "another export writes into " + root_.string() + "; wait until it has ended"};
  }

  // put writes a file of a name that has one content. `listed`: MANIFEST has it, so it must be there, and the
  // same. Else what is there is of an export that was stopped, and maybe not whole.
  Status put(const std::string& path, ByteView bytes, bool listed = false) {
    SP_TRY(const bool there, has(path));
    const auto old = there ? read_file(root_, path) : Error{Code::kUnavailable, path + " is missing"};
    if (listed && old.has_value() && equal(*old, bytes)) return Done{};
    if (listed && !old.has_value()) return old.error();
    if (listed) return Error{Code::kConflict, path + " is there already, and other than this log's"};
    if (!old.has_value() || !equal(*old, bytes)) {
      SP_CHECK(write_part(bytes, path));
      SP_CHECK(rename_part(path));
    }
    written_.push_back({crypto::sha256(bytes), bytes.size(), path});
    return Done{};
  }

  // publish puts a file in the place of another of this name; all that was written before is on the disk
  // before it has its name, and itself before anything that follows.
  Status publish(std::string_view path, ByteView bytes) const {
    SP_CHECK(write_part(bytes, root_ / path));
    return publish_part(path);
  }
  Status publish_part(std::string_view path) const {
    SP_CHECK(sync());
    SP_CHECK(rename_part(path));
    return sync();
  }

  Status remove(const std::string& path) const {
    SP_CHECK(changing());
    std::error_code error;
    fs::remove(root_ / path, error);
    if (error) return storage(root_ / path, error.value());
    fs::remove((root_ / path).parent_path(), error);  // "000.p", where it is empty now
    return Done{};
  }

  // sync brings everything that was written to the disk: one call for the file system is much less than one
  // for each of many thousand small files. It tells of writes that failed late, too.
  Status sync() const {
    const Descriptor root{::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!root.is_open() || ::syncfs(root.get()) != 0) return storage(root_, errno);
    return Done{};
  }

  Status changing() const { return before_change_ ? before_change_() : Status{Done{}}; }
  std::vector<ManifestLine> take_written() { return std::exchange(written_, {}); }
  void put_back(std::vector<ManifestLine> lines) { written_ = std::move(lines); }
  const std::vector<ManifestLine>& written() const { return written_; }

 private:
  Status write_part(ByteView bytes, const fs::path& meant_for) const {
    SP_CHECK(changing());
    const fs::path part = root_ / kPartPath;
    const Descriptor file{::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644)};
    if (!file.is_open()) return storage(part, errno);
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t wrote = ::write(file.get(), bytes.data() + done, bytes.size() - done);
      if (wrote >= 0)
        done += static_cast<std::size_t>(wrote);
      else if (errno != EINTR)
        return storage(meant_for, errno);
    }
    return Done{};
  }

  Status rename_part(std::string_view path) const {
    SP_CHECK(changing());
    const fs::path full = root_ / path;
    std::error_code error;
    fs::create_directories(full.parent_path(), error);
    if (error) return storage(full.parent_path(), error.value());
    if (std::rename((root_ / kPartPath).c_str(), full.c_str()) != 0) return storage(full, errno);
    return Done{};
  }

  fs::path root_;
  const std::function<Status()>& before_change_;
  std::vector<ManifestLine> written_;
};

// sort_lines puts lines in the order of MANIFEST, each once.
void sort_lines(std::vector<ManifestLine>& lines) {
  const auto by_path = [](const ManifestLine& a, const ManifestLine& b) { return a.path < b.path; };
  const auto same = [](const ManifestLine& a, const ManifestLine& b) { return a.path == b.path; };
  std::sort(lines.begin(), lines.end(), by_path);
  lines.erase(std::unique(lines.begin(), lines.end(), same), lines.end());
}

// TreeFiles writes bundles and tiles while leaves come in.
class TreeFiles {
 public:
  explicit TreeFiles(Directory& directory) : directory_(directory) {}

  // resume takes up the tree of an export: its right border is in its partial tiles.
  Status resume(const ManifestHead& head) {
    const std::uint64_t size = head.size.get();
    for (unsigned level = 0; size >> (8 * level) != 0; ++level) {
      const std::uint64_t has = size >> (8 * level);
      const auto width = static_cast<unsigned>(has % ledger::kTileWidth);
      if (width == 0) continue;
      const std::string path = ledger::tile_path({level, has / ledger::kTileWidth, width});
      SP_TRY(tiles_[level], read_file(directory_.root(), path));
      if (tiles_[level].size() != 32 * width)
        return unverified(Reason::kLogConsistency, path + ": not a tile");
    }
    if (const auto width = static_cast<unsigned>(size % ledger::kTileWidth); width != 0) {
      const std::string path = ledger::bundle_path({size / ledger::kTileWidth, width});
      SP_TRY(const Bytes bundle, read_file(directory_.root(), path));
      SP_TRY(const auto entries, ledger::parse_bundle(bundle, width));
      for (const ByteView entry : entries) {
        SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(entry));
        leaves_.push_back(ledger::encode_leaf(leaf));
      }
    }
    SP_TRY(range_, ledger::compact_range_at(head.size, [&](unsigned level, std::uint64_t index) {
             return border_node(head.size, level, index);
           }));
    if (range_.root() == head.root) return Done{};
    return unverified(Reason::kLogConsistency,
                      "the export's tiles do not lead to its own root; sallyport audit verify tells more");
  }

  // append adds a leaf. Below `listed`, files are there already and must be the same.
  Status append(const ledger::Leaf& leaf, TreeSize listed) {
    leaves_.push_back(ledger::encode_leaf(leaf));
    const std::uint64_t index = range_.size().get();
    const bool there = index < listed.get();
    Status done = Done{};
    range_.append(ledger::leaf_hash(leaf), [&](unsigned level, std::uint64_t at, const Digest256& hash) {
      if (!done.has_value() || level % 8 != 0) return;
      Bytes& tile = tiles_[level / 8];
      tile.insert(tile.end(), view(hash).begin(), view(hash).end());
      if (tile.size() < 32 * ledger::kTileWidth) return;
      done = directory_.put(ledger::tile_path({level / 8, at / ledger::kTileWidth}), tile, there);
      tile.clear();
    });
    SP_CHECK(done);
    if (leaves_.size() < ledger::kTileWidth) return Done{};
    SP_TRY(const Bytes bundle, encode_leaves());
    leaves_.clear();
    return directory_.put(ledger::bundle_path({index / ledger::kTileWidth}), bundle, there);
  }

  // put_partials writes the partial tiles and the partial bundle of the tree as it is now, of which the tree
  // at `target` will not have the full ones.
  Status put_partials(TreeSize target) {
    const auto stays = [&](std::string_view path) { return belongs(*parse_place(path), target); };
    const std::uint64_t size = range_.size().get();
    for (unsigned level = 0; level < tiles_.size(); ++level) {
      const Bytes& tile = tiles_[level];
      if (tile.empty()) continue;
      const std::string path = ledger::tile_path(
          {level, (size >> (8 * level)) / ledger::kTileWidth, static_cast<unsigned>(tile.size() / 32)});
      if (stays(path)) SP_CHECK(directory_.put(path, tile));
    }
    if (leaves_.empty()) return Done{};
    const std::string path =
        ledger::bundle_path({size / ledger::kTileWidth, static_cast<unsigned>(leaves_.size())});
    if (!stays(path)) return Done{};
    SP_TRY(const Bytes bundle, encode_leaves());
    return directory_.put(path, bundle);
  }
  TreeSize size() const { return range_.size(); }
  Digest256 root() const { return range_.root(); }

 private:
  Result<Bytes> encode_leaves() const {
    return ledger::encode_bundle(std::vector<ByteView>{leaves_.begin(), leaves_.end()});
  }
  // border_node gives a complete subtree of the right border: it is in the partial tile of its levels.
  Result<Digest256> border_node(TreeSize size, unsigned level, std::uint64_t index) const {
    const Bytes& tile = tiles_[level / 8];
    const std::size_t count = std::size_t{1} << (level % 8);
    const std::uint64_t first = index * count - ((size.get() >> (level / 8 * 8)) & ~std::uint64_t{255});
    if (first >= ledger::kTileWidth || 32 * (first + count) > tile.size())
      return Error{Code::kInternal, "not of the border"};
    std::vector<Digest256> hashes;
    for (std::size_t i = 0; i < count; ++i) {
      Reader in{ByteView{tile}.subspan(32 * (first + i), 32)};
      hashes.emplace_back(*in.array<32>());
    }
    for (; hashes.size() > 1; hashes.resize(hashes.size() / 2))
      for (std::size_t i = 0; i < hashes.size() / 2; ++i)
        hashes[i] = ledger::hash_node(hashes[2 * i], hashes[2 * i + 1]);
    return hashes.front();
  }

  Directory& directory_;
  ledger::CompactRange range_;
  std::vector<ledger::LeafBytes> leaves_;
  std::array<Bytes, ledger::kMaxTileLevel + 1> tiles_;
};

// ManifestLines tells what the MANIFEST that there is now lists; nothing, where there is none.
class ManifestLines {
 public:
  static Result<ManifestLines> open(const fs::path& directory) {
    std::error_code error;
    if (fs::symlink_status(directory / kManifestPath, error).type() == fs::file_type::not_found)
      return ManifestLines{};
    ManifestLines out;
    SP_TRY(out.file_, open_manifest(directory));
    struct stat status {};
    if (::fstat(out.file_.get(), &status) != 0) return storage(directory / kManifestPath, errno);
    out.bytes_ = static_cast<std::uint64_t>(status.st_size);
    return out;
  }
  bool lists(std::string_view path) const { return find_line(file_, path, 0, bytes_).has_value(); }
  bool has_body(LeafIndex index) const { return lists(body_path(index)); }

 private:
  ManifestLines() = default;
  Descriptor file_{-1};
  std::uint64_t bytes_ = 0;
};

struct Head {
  TreeSize size;
  Digest256 root;
};

class Export {
 public:
  Export(const fs::path& directory, const follow::TrustAnchor& anchor, Source& source,
         const ExportOptions& options)
      : directory_(directory, options.before_change),
        anchor_(anchor),
        source_(source),
        options_(options),
        tree_(directory_) {}

  Result<Exported> run() {
    SP_CHECK(only_an_export());
    SP_TRY(const Descriptor lock, directory_.lock());
    SP_CHECK(open_old());
    SP_CHECK(fetch_notes());
    if (heads_.empty() && listed_.get() == 0)
      return Error{Code::kUnavailable, Reason::kLogQuorum, "the log has no cosigned checkpoint yet"};
    if (heads_.empty())
      return unverified(Reason::kLogRollback, "the broker's newest checkpoint is older than this export");
    SP_CHECK(begin_tree());
    while (const std::optional<Head> target = next_target()) {
      SP_CHECK(fetch(*target));
      SP_TRY(const bool whole, erase_covered(*target));
      if (whole) SP_CHECK(step_to(*target));
    }
    if (!bodiless_.empty())
      return unverified(Reason::kLogMissingBody,
                        place_of_leaf(bodiless_.front()) +
                            ": its body was not sent, and no erasure that is cosigned yet covers its case");
    if (options_.progress) options_.progress(tree_.size().get(), tree_.size().get());
    exported_.size = tree_.size();
    exported_.note = newest_;
    SP_TRY(const Bytes front, read_file(directory_.root(), std::string{kCheckpointPath}));
    if (as_text(front) != newest_) SP_CHECK(directory_.publish(kCheckpointPath, as_bytes(newest_)));
    if (exported_.files == 0) SP_CHECK(count_listed());
    exported_.files += 2;  // `checkpoint` and MANIFEST
    exported_.bytes += newest_.size();
    SP_CHECK(prune());
    return exported_;
  }

 private:
  // only_an_export refuses a directory that is something else, before anything is changed in it.
  Status only_an_export() const {
    const fs::path& root = directory_.root();
    std::error_code error;
    fs::create_directories(root, error);
    if (error) return storage(root, error.value());
    constexpr std::array<std::string_view, 9> kNames = {kCheckpointPath, kManifestPath, kPartPath,
                                                        kErasingPath,    "bodies",      "blobs",
                                                        "checkpoints",   "policies",    "tile"};
    for (fs::directory_iterator at{root, error}, end; !error && at != end; at.increment(error))
      if (const std::string name = at->path().filename().string();
          std::find(kNames.begin(), kNames.end(), name) == kNames.end())
        return Error{Code::kConflict, name + " is no file of an export; the directory is something else"};
    if (error) return storage(root, error.value());
    return Done{};
  }

  // open_old looks at what the directory has already.
  Status open_old() {
    const Error other{Code::kConflict, "the directory holds the export of another log"};
    SP_TRY(const bool there, directory_.has(std::string{kManifestPath}));
    if (there) {
      SP_TRY(old_, ExportReader::open(directory_.root()));
      if (old_->claimed().origin != origin_) return other;
      listed_ = old_->claimed().size;
    } else if (const auto front = read_file(directory_.root(), std::string{kCheckpointPath});
               front.has_value()) {
      const auto note = ledger::parse_note(as_text(*front));
      const auto head = note.has_value() ? ledger::parse_checkpoint_text(note->text) : note.error();
      if (!head.has_value() || head->origin != origin_) return other;
    }
    since_ = options_.since.value_or(listed_.get());
    if (since_ > listed_.get())
      return Error{
          Code::kMalformed, Reason::kUsage,
          "the directory holds " + std::to_string(listed_.get()) + " leaves; --since is beyond them"};
    return Done{};
  }

  // fetch_notes stores the checkpoints from the export's newest on.
  Status fetch_notes() {
    TreeSize from{std::max<std::uint64_t>(listed_.get(), 1)};
    for (;;) {
      SP_TRY(const std::vector<std::string> page, source_.checkpoints(from));
      if (page.empty()) return Done{};
      for (const std::string& note : page) {
        SP_TRY(const ledger::ClaimedNote parsed, ledger::parse_note(note));
        SP_TRY(const ledger::Checkpoint head, ledger::parse_checkpoint_text(parsed.text));
        if (head.origin != origin_)
          return unverified(Reason::kLogCheckpoint, "a checkpoint of another log was sent");
        if (head.size < from || head.size.get() == 0)
          return Error{Code::kMalformed, "checkpoints were sent out of order"};
        // The export's own, cosigned again maybe, becomes `checkpoint`; checkpoints/ has it as it was first.
        const std::string path = note_path(head.size);
        if (old_ && head.size == listed_ && value_or_empty(ledger::parse_note(old_->note())) != parsed.text)
          return unverified(Reason::kLogFork, path + " is of another history than what the broker sends");
        if (head.size > listed_) SP_CHECK(directory_.put(path, as_bytes(note)));
        heads_.push_back({head.size, head.root});
        newest_ = note;
        from = TreeSize{head.size.get() + 1};
      }
    }
  }
  static std::string value_or_empty(const Result<ledger::ClaimedNote>& note) {
    return note.has_value() ? note->text : std::string{};
  }

  // begin_tree takes the leaves that are there.
  Status begin_tree() {
    // Without a second look at what is there, its right border is enough.
    if (old_ && since_ == listed_.get()) SP_CHECK(tree_.resume({origin_, listed_, old_->claimed().root}));
    while (tree_.size().get() < since_) {
      SP_TRY(const ledger::Leaf leaf, old_->leaf(LeafIndex{tree_.size().get()}));
      SP_CHECK(tree_.append(leaf, listed_));
    }
    old_.reset();
    return check_head(TreeSize{0});
  }

  // next_target gives the checkpoint up to which the next step goes.
  std::optional<Head> next_target() const {
    std::optional<Head> target;
    for (const Head& head : heads_) {
      if (head.size <= tree_.size()) continue;
      if (target && head.size.get() - tree_.size().get() > options_.step) break;
      target = head;
    }
    return target;
  }

  Status fetch(const Head& target) {
    while (tree_.size() < target.size) {
      const LeafIndex from{tree_.size().get()};
      if (options_.progress) options_.progress(from.get(), heads_.back().size.get());
      SP_TRY(const record::EntryPage page, source_.entries(from));
      if (page.from != from || page.entries.empty())
        return Error{Code::kUnavailable, Reason::kPeer,
                     "the broker did not send leaf " + std::to_string(from.get())};
      for (const record::Entry& entry : page.entries) {
        if (tree_.size() == target.size) break;
        SP_CHECK(take(entry));
        SP_CHECK(check_head(target.size));
      }
    }
    return Done{};
  }

  Status take(const record::Entry& entry) {
    const LeafIndex index{tree_.size().get()};
    ++exported_.fetched;
    if (record::is_erased(entry)) {
      SP_TRY(const Kind kind, record::parse_kind(entry.leaf.kind));
      if (!record::is_erasable(kind))
        return unverified(Reason::kLogMissingBody, place_of_leaf(index) + ": its body was not sent");
      bodiless_.push_back(index);
      return tree_.append(entry.leaf, listed_);
    }
    auto opened = record::open_body(entry);
    if (!opened.has_value())
      return unverified(Reason::kLogBody, place_of_leaf(index) + ": " + opened.error().what);
    // Each blob is of another item.
    if (opened->items.size() != entry.blobs.size())
      return unverified(Reason::kLogMissingBody, place_of_leaf(index) + ": its evidence was not sent");
    if (opened->kind == Kind::kErasure) {
      SP_TRY(const record::OpenedStatement statement, record::open_statement(std::move(*opened)));
      SP_TRY(KnownErasure erasure, open_erasure(statement, index, entry.leaf.time));
      erasures_.push_back(std::move(erasure));
    }
    const bool listed = index.get() < listed_.get();
    if (listed && record::is_erasable(static_cast<Kind>(entry.leaf.kind))) {
      // The broker may have what was erased here, until it has erased it too.
      SP_TRY(const ManifestLines manifest, ManifestLines::open(directory_.root()));
      if (!manifest.has_body(index)) return tree_.append(entry.leaf, listed_);
    }
    Bytes body = to_bytes(view(entry.nonce));
    body.insert(body.end(), entry.body.begin(), entry.body.end());
    SP_CHECK(directory_.put(body_path(index), body, listed));
    for (const record::Blob& blob : entry.blobs)
      SP_CHECK(directory_.put(blob_path(record::item_of(blob).sha256), blob.bytes));
    if (entry.leaf.kind == static_cast<std::uint8_t>(Kind::kPolicy)) SP_CHECK(put_policy(entry));
    return tree_.append(entry.leaf, listed_);
  }

  // erase_covered takes what erasures cover that have come with the leaves up to `target` out of what will be
  // the export. Not whole: there are leaves without bodies whose erasure lies beyond.
  //   Nothing is erased on anybody's word: first it is proved, up to a checkpoint that witnesses have
  //   cosigned.
  Result<bool> erase_covered(const Head& target) {
    if (bodiless_.empty() && erasures_.empty()) return true;
    SP_TRY(ExportReader next, ExportReader::open_next(directory_.root(), target.size));
    std::vector<std::pair<LeafIndex, ledger::Leaf>> covered;
    SP_CHECK(for_each_covered(next, erasures_,
                              [&](LeafIndex index, const ledger::Leaf& leaf, const KnownErasure&) -> Status {
                                covered.emplace_back(index, leaf);
                                return Done{};
                              }));
    const auto is_covered = [&](LeafIndex index) {
      const auto at = std::lower_bound(covered.begin(), covered.end(), index,
                                       [](const auto& one, LeafIndex wanted) { return one.first < wanted; });
      return at != covered.end() && at->first == index;
    };
    if (!std::all_of(bodiless_.begin(), bodiless_.end(), is_covered)) return false;
    if (erasures_.back().leaf.get() >= listed_.get()) {
      SP_TRY(const ManifestLines manifest, ManifestLines::open(directory_.root()));
      const auto has_body = [&](LeafIndex index) {
        return !is_covered(index) && (index.get() >= listed_.get() || manifest.has_body(index));
      };
      SP_CHECK(replay_control(next, anchor_, has_body, {}));
      SP_TRY(const auto evidence, evidence_only_of(covered, is_covered));
      for (const auto& [index, leaf] : covered) dropped_.insert(body_path(index));
      for (const Digest256& sha256 : evidence) dropped_.insert(blob_path(sha256));
      SP_CHECK(note_erasing());
    }
    bodiless_.clear();
    erasures_.clear();
    return true;
  }

  // evidence_only_of gives what the bodies of these leaves name, as far as they are here, and no other body
  // of the export.
  template <class IsCovered>
  Result<std::set<Digest256>> evidence_only_of(const std::vector<std::pair<LeafIndex, ledger::Leaf>>& covered,
                                               const IsCovered& is_covered) const {
    std::set<Digest256> evidence;
    for (const auto& [index, leaf] : covered) {
      const auto entry = read_body(directory_.root(), index, leaf);
      if (!entry.has_value()) continue;  // was not sent, or is not whole: whatever it is, it goes
      SP_TRY(const record::Body body, record::parse_body(entry->body));
      for (const record::EvidenceItem& item : body.items) evidence.insert(item.sha256);
    }
    const auto keep = [&](const ManifestLine& line) -> Status {
      const Place place = *parse_place(line.path);
      if (evidence.empty() || place.kind != Place::Kind::kBody || is_covered(LeafIndex{place.number}))
        return Done{};
      SP_TRY(const Bytes bytes, read_file(directory_.root(), line.path));
      // One that was changed here might hide what it names.
      if (bytes.size() < 32 || crypto::sha256(bytes) != line.sha256)
        return Error{Code::kUnverified, line.path + ": is not the file that MANIFEST lists"};
      SP_TRY(const record::Body body, record::parse_body(ByteView{bytes}.subspan(32)));
      for (const record::EvidenceItem& item : body.items) evidence.erase(item.sha256);
      return Done{};
    };
    for (const ManifestLine& line : directory_.written()) SP_CHECK(keep(line));
    if (listed_.get() == 0) return evidence;
    SP_TRY(const Descriptor manifest, open_manifest(directory_.root()));
    SP_TRY(ManifestReader lines, ManifestReader::open(manifest));
    for (;;) {
      SP_TRY(const auto line, lines.next());
      if (!line) return evidence;
      SP_CHECK(keep(*line));
    }
  }

  // note_erasing writes down what is to be deleted, before MANIFEST forgets it: whatever stops this export,
  // the next one knows.
  Status note_erasing() {
    SP_CHECK(read_erasing());
    for (const std::string& path : dropped_) {
      SP_TRY(const bool there, directory_.has(path));
      if (there) erasing_.insert(path);
    }
    if (erasing_.empty()) return Done{};
    std::string text;
    for (const std::string& path : erasing_) text += path + "\n";
    return directory_.publish(kErasingPath, as_bytes(text));
  }

  // read_erasing takes what an earlier export was about to delete.
  Status read_erasing() {
    const fs::path path = directory_.root() / kErasingPath;
    SP_TRY(const bool there, directory_.has(std::string{kErasingPath}));
    if (!there) return Done{};
    std::ifstream file{path, std::ios::binary};
    for (std::string line; std::getline(file, line);) {
      const auto place = parse_place(line);
      if (!place.has_value() || (place->kind != Place::Kind::kBody && place->kind != Place::Kind::kBlob))
        return Error{Code::kConflict, std::string{kErasingPath} + " is not what an export wrote"};
      erasing_.insert(std::move(line));
    }
    if (file.bad()) return storage(path, EIO);
    return Done{};
  }

  // delete_erased deletes what was written down, but for what the export has: it was stopped before MANIFEST
  // forgot it, or another entry has come to name it.
  Status delete_erased() {
    SP_CHECK(read_erasing());
    if (erasing_.empty()) return Done{};
    SP_TRY(const ManifestLines manifest, ManifestLines::open(directory_.root()));
    for (const std::string& path : erasing_) {
      SP_TRY(const bool there, directory_.has(path));
      if (!there || manifest.lists(path)) continue;
      SP_CHECK(directory_.remove(path));
      ++exported_.erased;
    }
    SP_CHECK(directory_.sync());
    erasing_.clear();
    return directory_.remove(std::string{kErasingPath});
  }

  Status put_policy(const record::Entry& entry) {
    for (const record::Blob& blob : entry.blobs) {
      if (blob.type != record::EvidenceType::kPolicyText) continue;
      SP_TRY(const policy::Policy policy, policy::parse_policy(as_text(blob.bytes)));
      SP_CHECK(directory_.put(policy_path(policy.version), as_bytes(policy.authority.witnesses)));
    }
    return Done{};
  }

  // check_head holds the tree against a checkpoint that ends there, and writes what only that one needs.
  Status check_head(TreeSize target) {
    while (next_head_ < heads_.size() && heads_[next_head_].size < tree_.size()) ++next_head_;
    if (next_head_ == heads_.size() || heads_[next_head_].size != tree_.size()) return Done{};
    if (heads_[next_head_].root != tree_.root())
      return unverified(Reason::kLogFork,
                        note_path(tree_.size()) + ": a root to which the leaves do not lead");
    return tree_.size() > listed_ ? tree_.put_partials(target) : Status{Done{}};
  }

  // step_to makes what was written the export: until MANIFEST has its name, it was nothing.
  Status step_to(const Head& target) {
    if (target.size <= listed_) return Done{};  // was there, and is the same
    SP_TRY(const Bytes note, read_file(directory_.root(), note_path(target.size)));
    std::vector<ManifestLine> lines = directory_.take_written();
    std::erase_if(lines, [&](const ManifestLine& line) { return dropped_.contains(line.path); });
    sort_lines(lines);
    // Those of checkpoints that lie beyond this step are listed by a later one.
    std::vector<ManifestLine> later;
    const auto beyond = std::stable_partition(lines.begin(), lines.end(), [&](const ManifestLine& line) {
      return belongs(*parse_place(line.path), target.size);
    });
    std::copy_if(std::make_move_iterator(beyond), std::make_move_iterator(lines.end()),
                 std::back_inserter(later),
                 [](const ManifestLine& line) { return parse_place(line.path)->kind == Place::Kind::kNote; });
    lines.erase(beyond, lines.end());
    // The first time, `checkpoint` says nothing before MANIFEST is there. Later it is never newer than that.
    const bool first = listed_.get() == 0;
    if (first) SP_CHECK(directory_.publish(kCheckpointPath, note));
    SP_CHECK(write_manifest({origin_, target.size, target.root}, lines));
    SP_CHECK(directory_.publish_part(kManifestPath));
    listed_ = target.size;
    dropped_.clear();
    if (!first) SP_CHECK(directory_.publish(kCheckpointPath, note));
    directory_.put_back(std::move(later));
    return Done{};
  }

  // write_manifest merges lines into those of the MANIFEST that there is. Partial tiles that a larger tree
  // has left behind are in it no more.
  Status write_manifest(const ManifestHead& head, const std::vector<ManifestLine>& lines) {
    exported_.files = exported_.bytes = 0;
    SP_CHECK(directory_.changing());
    const fs::path part = directory_.root() / kPartPath;
    std::ofstream file{part, std::ios::binary | std::ios::trunc};
    file << encode(head);
    const auto write = [&](const ManifestLine& line) {
      ++exported_.files;
      exported_.bytes += line.size;
      file << encode(line);
    };
    auto line = lines.begin();
    if (listed_.get() != 0) {
      SP_TRY(const Descriptor manifest, open_manifest(directory_.root()));
      SP_TRY(ManifestReader before, ManifestReader::open(manifest));
      for (;;) {
        SP_TRY(const auto old, before.next());
        if (!old) break;
        for (; line != lines.end() && line->path < old->path; ++line) write(*line);
        if (line != lines.end() && line->path == old->path) ++line;
        if (belongs(*parse_place(old->path), head.size) && !dropped_.contains(old->path)) write(*old);
      }
    }
    for (; line != lines.end(); ++line) write(*line);
    file.close();
    if (!file.good()) return storage(part, EIO);
    return Done{};
  }

  Status count_listed() {
    SP_TRY(const Descriptor manifest, open_manifest(directory_.root()));
    SP_TRY(ManifestReader lines, ManifestReader::open(manifest));
    for (;;) {
      SP_TRY(const auto line, lines.next());
      if (!line) return Done{};
      ++exported_.files;
      exported_.bytes += line->size;
    }
  }

  // prune takes away partial tiles of which the full ones are there, and what was erased, unless somebody
  // reads an export that has them.
  Status prune() {
    const Descriptor root{::open(directory_.root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!root.is_open() || ::flock(root.get(), LOCK_EX | LOCK_NB) != 0) {
      SP_CHECK(read_erasing());
      exported_.to_erase = erasing_.size();
      return Done{};
    }
    SP_CHECK(delete_erased());
    std::vector<std::string> behind;
    SP_CHECK(walk(directory_.root() / "tile", [&](const std::string& path) -> Status {
      const auto place = parse_place("tile/" + path);
      if (place.has_value() && is_partial(*place) && !belongs(*place, listed_))
        behind.push_back("tile/" + path);
      return Done{};
    }));
    for (const std::string& path : behind) SP_CHECK(directory_.remove(path));
    return Done{};
  }

  Directory directory_;
  const follow::TrustAnchor& anchor_;
  const Origin& origin_ = anchor_.origin;
  Source& source_;
  const ExportOptions& options_;
  TreeFiles tree_;
  std::optional<ExportReader> old_;
  TreeSize listed_{0};  // of the export that the directory holds
  std::uint64_t since_ = 0;
  std::vector<Head> heads_;  // ascending, from listed_ on
  std::size_t next_head_ = 0;
  std::string newest_;
  std::vector<LeafIndex> bodiless_;     // of the leaves since the last step, those that came without a body
  std::vector<KnownErasure> erasures_;  // that came since the last step
  std::set<std::string> dropped_;       // what MANIFEST is to forget with the next step
  std::set<std::string> erasing_;       // what is to be deleted once MANIFEST does not list it
  Exported exported_;
};

}  // namespace

Result<Exported> write_export(const fs::path& directory, const follow::TrustAnchor& anchor, Source& source,
                              const ExportOptions& options) {
  return Export{directory, anchor, source, options}.run();
}

}  // namespace sallyport::client::auditor

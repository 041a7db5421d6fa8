#include "client/auditor/directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "attestation/crypto/digest.h"

namespace sallyport::client::auditor {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 16;

Error bad(const std::string& path, const std::string& what) {
  return Error{Code::kUnverified, path + ": " + what};
}
Error storage(const std::string& path, int error) {
  return Error{Code::kUnavailable, Reason::kStorage, path + ": " + std::strerror(error)};
}

Result<Descriptor> open_plain(const fs::path& directory, const std::string& path) {
  const fs::path full = directory / path;
  Descriptor file{::open(full.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  if (file.get() < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return bad(path, "is missing");
    if (errno == ELOOP) return bad(path, "is not a plain file");
    return storage(full, errno);
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return storage(full, errno);
  if (!S_ISREG(status.st_mode)) return bad(path, "is not a plain file");
  return file;
}

Status walk_below(const fs::path& root, const std::string& below, int depth,
                  const std::function<Status(const std::string&)>& on_file) {
  if (depth > kMaxDepth) return bad(below, "directories within each other beyond any export");
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator at{root / below, error}, end; !error && at != end; at.increment(error)) {
    const fs::file_type type = at->symlink_status(error).type();
    if (type == fs::file_type::not_found) continue;  // it went while an export went on
    if (error) break;
    std::string name = at->path().filename().string();
    if (type != fs::file_type::regular && type != fs::file_type::directory)
      return bad(below + name, "is neither a plain file nor a directory");
    // With the slash, a directory comes where the paths of its files come.
    names.push_back(type == fs::file_type::directory ? name + "/" : std::move(name));
  }
  if (error == std::errc::no_such_file_or_directory && !below.empty()) return Done{};
  if (error) return storage((root / below).string(), error.value());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (name.ends_with('/'))
      SP_CHECK(walk_below(root, below + name, depth + 1, on_file));
    else
      SP_CHECK(on_file(below + name));
  }
  return Done{};
}

}  // namespace

Result<Bytes> read_file(const fs::path& directory, const std::string& path) {
  const fs::path full = directory / path;
  SP_TRY(const Descriptor file, open_plain(directory, path));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return storage(full, errno);
  if (status.st_size < 0 || static_cast<std::uint64_t>(status.st_size) > kMaxFileBytes)
    return bad(path, "is longer than any file of an export");
  Bytes bytes(static_cast<std::size_t>(status.st_size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return storage(full, errno);
    if (got == 0) return bad(path, "changed while it was read");
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

Status walk(const fs::path& directory, const std::function<Status(const std::string&)>& on_file) {
  return walk_below(directory, "", 0, on_file);
}

Result<Descriptor> open_manifest(const fs::path& directory) {
  const std::string path{kManifestPath};
  std::error_code error;
  if (fs::symlink_status(directory / path, error).type() == fs::file_type::not_found)
    return bad(path, "is missing: no export was ever completed here");
  return open_plain(directory, path);
}

Descriptor hold(const fs::path& directory) {
  Descriptor held{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (held.get() >= 0) (void)::flock(held.get(), LOCK_SH);
  return held;
}

Result<ManifestReader> ManifestReader::open(const Descriptor& manifest) {
  // Opened anew, so that it has a place of its own in the file; by what is open, not by its name, which
  // another may have by now.
  std::ifstream file{"/proc/self/fd/" + std::to_string(manifest.get()), std::ios::binary};
  if (!file) return storage(std::string{kManifestPath}, errno);
  ManifestReader reader{std::move(file)};
  SP_TRY(const auto first, reader.line());
  auto head = first ? parse_manifest_head(*first) : Error{Code::kMalformed, "is empty"};
  if (!head.has_value()) return bad("MANIFEST line 1", head.error().what);
  reader.head_ = *head;
  return reader;
}

Result<std::optional<std::string>> ManifestReader::line() {
  std::string out;
  ++number_;
  for (;;) {
    const int next = file_.get();
    if (next == std::ifstream::traits_type::eof()) {
      if (file_.bad()) return storage("MANIFEST", EIO);
      if (out.empty()) return std::optional<std::string>{};
      return bad("MANIFEST line " + std::to_string(number_), "a line without its end");
    }
    if (next == '\n') return std::optional{std::move(out)};
    if (out.size() == kMaxManifestLine)
      return bad("MANIFEST line " + std::to_string(number_), "a line longer than any");
    out.push_back(static_cast<char>(next));
  }
}

Result<std::optional<ManifestLine>> ManifestReader::next() {
  SP_TRY(const auto text, line());
  if (!text) return std::optional<ManifestLine>{};
  const std::string where = "MANIFEST line " + std::to_string(number_);
  auto parsed = parse_manifest_line(*text);
  if (!parsed.has_value()) return bad(where, parsed.error().what);
  if (parsed->path <= last_path_) return bad(where, "paths out of order");
  if (!belongs(*parse_place(parsed->path), head_.size)) return bad(where, "a file beyond the size");
  last_path_ = parsed->path;
  return std::optional{std::move(*parsed)};
}

namespace {

constexpr std::string_view kBlobColumn = " blobs/";
constexpr std::size_t kDigestColumn = 65;  // behind the digest and its space

// fence_of gives the fence of a blob's line, by the first four digits of its name; none of another file's.
std::optional<std::size_t> fence_of(std::string_view line) {
  const std::size_t at = line.find(kBlobColumn, std::min(kDigestColumn, line.size()));
  if (at == std::string_view::npos) return std::nullopt;
  const auto place = parse_place(line.substr(at + 1));
  if (!place.has_value()) return std::nullopt;
  const ByteView name = view(place->sha256);
  return std::size_t{name[0]} << 8 | name[1];
}

// line_from gives the first line that begins at or behind an offset, with where it begins.
std::optional<std::pair<std::uint64_t, std::string>> line_from(const Descriptor& file, std::uint64_t offset) {
  // A line begins behind a newline; from the byte before, the rest of another line is skipped.
  std::string text(2 * (kMaxManifestLine + 1), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), static_cast<off_t>(offset - 1));
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  const std::size_t before = text.find('\n');
  const std::size_t end = before == std::string::npos ? before : text.find('\n', before + 1);
  if (end == std::string::npos) return std::nullopt;
  return std::pair{offset + before, text.substr(before + 1, end - before - 1)};
}

}  // namespace

std::optional<std::uint64_t> find_line(const Descriptor& manifest, std::string_view path, std::uint64_t from,
                                       std::uint64_t to) {
  std::uint64_t low = std::max<std::uint64_t>(from, 1), high = to;
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    const auto line = line_from(manifest, middle);
    if (!line) {
      high = middle;
      continue;
    }
    const std::size_t space = line->second.rfind(' ');
    const std::string_view found =
        std::string_view{line->second}.substr(space == std::string::npos ? 0 : space + 1);
    if (found == path) return line->first;
    if (found < path)
      low = line->first + 1;
    else
      high = middle;
  }
  return std::nullopt;
}

Result<ManifestIndex> ManifestIndex::open(const Descriptor& manifest) {
  ManifestIndex index{manifest};
  SP_CHECK(index.scan());
  return index;
}

Status ManifestIndex::scan() {
  constexpr std::size_t kFences = 1u << 16, kPiece = 1u << 16;
  fences_.reserve(kFences + 1);
  std::string piece;
  std::uint64_t offset = 0;  // of the piece
  for (;;) {
    const std::size_t rest = piece.size();
    if (rest > kMaxManifestLine) return bad(std::string{kManifestPath}, "a line longer than any");
    piece.resize(rest + kPiece);
    const ssize_t got = ::pread(file_.get(), piece.data() + rest, kPiece, static_cast<off_t>(offset + rest));
    if (got < 0) return storage(std::string{kManifestPath}, errno);
    piece.resize(rest + static_cast<std::size_t>(got));
    if (got == 0) break;
    std::size_t begin = 0;
    for (std::size_t end; (end = piece.find('\n', begin)) != std::string::npos; begin = end + 1)
      if (const auto fence = fence_of(std::string_view{piece}.substr(begin, end - begin)))
        while (fences_.size() <= *fence) fences_.push_back(offset + begin);
    piece.erase(0, begin);
    offset += begin;
  }
  fences_.resize(kFences + 1, offset + piece.size());
  marked_.resize((offset + piece.size()) / kShortestLine + 1);
  return Done{};
}

std::optional<std::uint64_t> ManifestIndex::find(const Digest256& blob) const {
  const ByteView name = view(blob);
  const std::size_t fence = std::size_t{name[0]} << 8 | name[1];
  return find_line(file_, blob_path(blob), fences_[fence], fences_[fence + 1]);
}

Result<std::optional<std::string>> ManifestIndex::first_unmarked() const {
  SP_TRY(ManifestReader reader, ManifestReader::open(file_));
  std::uint64_t offset = encode(reader.head()).size();
  for (;;) {
    SP_TRY(const auto line, reader.next());
    if (!line) return std::optional<std::string>{};
    if (parse_place(line->path)->kind == Place::Kind::kBlob &&
        (offset / kShortestLine >= marked_.size() || !marked_[offset / kShortestLine]))
      return std::optional{line->path};
    offset += encode(*line).size();
  }
}

std::string place_of_leaf(LeafIndex index) {
  return "leaf " + std::to_string(index.get()) + " (" + body_path(index) + ")";
}

Result<ExportReader> ExportReader::open(fs::path directory) {
  ExportReader reader;
  std::error_code error;
  const fs::file_type type = fs::status(directory, error).type();
  if (type == fs::file_type::none) return storage(directory.string(), error.value());
  if (type != fs::file_type::directory)
    return Error{Code::kMalformed, Reason::kUsage,
                 directory.string() +
                     (type == fs::file_type::not_found ? " does not exist" : " is no directory") +
                     "; an export is a directory that sallyport audit export made"};
  reader.directory_ = std::move(directory);
  const auto read_note = [&](const std::string& path, std::string& text) -> Result<ledger::Checkpoint> {
    SP_TRY(const Bytes bytes, read_file(reader.directory_, path));
    text = as_text(bytes);
    const auto note = ledger::parse_note(text);
    if (!note.has_value()) return bad(path, "not a signed note: " + note.error().what);
    auto claimed = ledger::parse_checkpoint_text(note->text);
    if (!claimed.has_value()) return bad(path, "not a checkpoint: " + claimed.error().what);
    if (claimed->size.get() == 0) return bad(path, "a log without leaves");
    return claimed;
  };
  reader.hold_ = hold(reader.directory_);
  // In this order: an export puts MANIFEST in its place first, and then `checkpoint`. So what is read here is
  // never newer than the MANIFEST.
  const std::string path{kCheckpointPath};
  SP_TRY(const ledger::Checkpoint front, read_note(path, reader.front_));
  SP_TRY(reader.manifest_, open_manifest(reader.directory_));
  SP_TRY(const ManifestReader manifest, ManifestReader::open(reader.manifest_));
  const ManifestHead& head = manifest.head();
  SP_TRY(reader.claimed_, read_note(note_path(head.size), reader.note_));
  if (head.origin != reader.claimed_.origin || head.size != reader.claimed_.size ||
      head.root != reader.claimed_.root)
    return bad("MANIFEST line 1", "not the origin, size and root of " + note_path(head.size));
  struct stat status {};
  if (::fstat(reader.manifest_.get(), &status) != 0) return storage(std::string{kManifestPath}, errno);
  reader.manifest_bytes_ = static_cast<std::uint64_t>(status.st_size);
  reader.front_size_ = front.size;
  if (front.origin != head.origin)
    return Error{Code::kUnverified, Reason::kLogCheckpoint, path + ": a checkpoint of another log"};
  if (front.size > head.size)
    return Error{Code::kUnverified, Reason::kLogRollback, path + ": newer than the export"};
  return reader;
}

Result<ExportReader> ExportReader::open_next(fs::path directory, TreeSize size) {
  ExportReader reader;
  reader.directory_ = std::move(directory);
  SP_TRY(const Bytes bytes, read_file(reader.directory_, note_path(size)));
  reader.note_ = as_text(bytes);
  SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(reader.note_));
  SP_TRY(reader.claimed_, ledger::parse_checkpoint_text(note.text));
  return reader;
}

bool ExportReader::has_body(LeafIndex index) const {
  return find_line(manifest_, body_path(index), 0, manifest_bytes_).has_value();
}

Result<std::vector<TreeSize>> ExportReader::notes() const {
  std::vector<TreeSize> sizes;
  std::error_code error;
  const fs::path notes = directory_ / "checkpoints";
  for (fs::directory_iterator at{notes, error}, end; !error && at != end; at.increment(error)) {
    const std::string path = "checkpoints/" + at->path().filename().string();
    const auto place = parse_place(path);
    if (!place.has_value()) return bad(path, "no file of an export has this path");
    if (belongs(*place, claimed_.size)) sizes.emplace_back(place->number);
  }
  if (error) return storage(notes.string(), error.value());
  std::sort(sizes.begin(), sizes.end());
  return sizes;
}

Result<const std::vector<ledger::Leaf>*> ExportReader::bundle_of(LeafIndex index) {
  const std::uint64_t number = index.get() / ledger::kTileWidth, size = claimed_.size.get();
  if (index.get() >= size) return Error{Code::kInternal, "a leaf beyond the export"};
  if (bundle_ == number) return &leaves_;
  const std::uint64_t rest = size - number * ledger::kTileWidth;
  const unsigned width = rest < ledger::kTileWidth ? static_cast<unsigned>(rest) : ledger::kTileWidth;
  const std::string path = ledger::bundle_path({number, width});
  SP_TRY(const Bytes bytes, read_file(directory_, path));
  const auto entries = ledger::parse_bundle(bytes, width);
  if (!entries.has_value()) return bad(path, "not a bundle of entries: " + entries.error().what);
  bundle_.reset();
  leaves_.clear();
  for (std::size_t i = 0; i < entries->size(); ++i) {
    const auto leaf = ledger::parse_leaf((*entries)[i]);
    if (!leaf.has_value())
      return bad(path, "leaf " + std::to_string(number * ledger::kTileWidth + i) + ": " + leaf.error().what);
    leaves_.push_back(*leaf);
  }
  bundle_ = number;
  return &leaves_;
}

Result<ledger::Leaf> ExportReader::leaf(LeafIndex index) {
  SP_TRY(const auto* leaves, bundle_of(index));
  return (*leaves)[index.get() % ledger::kTileWidth];
}

Result<record::Entry> ExportReader::entry(LeafIndex index) {
  SP_TRY(const ledger::Leaf found, leaf(index));
  if (!has_body(index)) return record::Entry{found, {}, {}, {}};
  return read_entry(directory_, index, found);
}

Result<record::Entry> read_body(const fs::path& directory, LeafIndex index, const ledger::Leaf& leaf) {
  record::Entry entry;
  entry.leaf = leaf;
  SP_TRY(const Bytes bytes, read_file(directory, body_path(index)));
  Reader in{bytes};
  const auto nonce = in.array<32>();
  if (!nonce.has_value()) return bad(place_of_leaf(index), "shorter than its nonce");
  entry.nonce = Nonce{*nonce};
  entry.body = to_bytes(in.rest());
  // The commitment first: what a body says is of no interest where it is not the leaf's.
  if (record::commitment(entry.nonce, entry.body) != entry.leaf.commitment)
    return Error{Code::kUnverified, Reason::kLogBody,
                 place_of_leaf(index) + ": body does not match its commitment"};
  return entry;
}

Result<record::Entry> read_entry(const fs::path& directory, LeafIndex index, const ledger::Leaf& leaf) {
  SP_TRY(record::Entry entry, read_body(directory, index, leaf));
  const auto body = record::parse_body(entry.body);
  if (!body.has_value()) return bad(place_of_leaf(index), body.error().what);
  for (const record::EvidenceItem& item : body->items) {
    const std::string path = blob_path(item.sha256);
    auto blob = read_file(directory, path);
    if (!blob.has_value()) {
      Error error = std::move(blob).error();
      error.what = place_of_leaf(index) + ": " + error.what;
      return error;
    }
    if (blob->size() != item.size || crypto::sha256(*blob) != item.sha256)
      return Error{Code::kUnverified, Reason::kLogBody,
                   place_of_leaf(index) + ": its evidence is not the one named (" + path + ")"};
    entry.blobs.push_back({item.type, std::move(*blob)});
  }
  return entry;
}

}  // namespace sallyport::client::auditor

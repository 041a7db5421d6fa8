#include <mutex>

#include "attestation/ledger/merkle.h"
#include "attestation/sqlite/sqlite.h"
#include "broker/store/store.h"

namespace sallyport::store {
namespace {

using sqlite::damaged;
using sqlite::Database;
using sqlite::exactly;
using sqlite::Statement;
using sqlite::Transaction;

constexpr std::uint64_t kSchemaVersion = 4;
constexpr const char* kSchema = R"(
CREATE TABLE head(one INTEGER PRIMARY KEY CHECK(one = 1), size INTEGER NOT NULL, root BLOB NOT NULL);
CREATE TABLE entry(idx INTEGER PRIMARY KEY, leaf BLOB NOT NULL, nonce BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE subtree(level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY(level, idx)) WITHOUT ROWID;
CREATE TABLE blob(sha256 BLOB PRIMARY KEY, type INTEGER NOT NULL, bytes BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE signed(size INTEGER PRIMARY KEY, note TEXT NOT NULL);
CREATE TABLE cosigned(size INTEGER PRIMARY KEY, note TEXT NOT NULL);
)";
constexpr const char* kSinceVersion3 = R"(
CREATE TABLE contradiction(note TEXT PRIMARY KEY, witness TEXT NOT NULL) WITHOUT ROWID;
)";
constexpr const char* kSinceVersion4 = R"(
CREATE TABLE erased(one INTEGER PRIMARY KEY CHECK(one = 1), upto INTEGER NOT NULL);
PRAGMA user_version = 4;
)";

// Two connections: writes wait for the disk, and readers need not wait for them (WAL).
class SqliteStore final : public Store {
 public:
  SqliteStore(std::unique_ptr<Database> writer, std::unique_ptr<Database> reader)
      : writer_(std::move(writer)), reader_(std::move(reader)) {}

  Result<Head> head() override {
    const std::lock_guard lock{reading_};
    return head_of(*reader_);
  }

  Status append(const Head& old, const std::vector<record::Entry>& entries,
                const std::vector<Subtree>& subtrees, const Head& next) override {
    SP_ASSERT(next.size.get() == old.size.get() + entries.size());
    const std::lock_guard lock{writing_};
    Transaction transaction{*writer_};
    SP_CHECK(transaction.begin());
    SP_TRY(const Head present, head_of(*writer_));
    if (present.size != old.size || present.root != old.root)
      return Error{Code::kConflict, Reason::kConflict, "the log has another head than the one appended to"};

    Statement insert{*writer_, "INSERT INTO entry(idx, leaf, nonce, body) VALUES(?,?,?,?)"};
    for (std::size_t i = 0; i < entries.size(); ++i) {
      insert.reset();
      SP_CHECK(insert.bind(old.size.get() + i)
                   .bind(ledger::encode_leaf(entries[i].leaf))
                   .bind(view(entries[i].nonce))
                   .bind(entries[i].body)
                   .run());
      for (const record::Blob& blob : entries[i].blobs)
        SP_CHECK(insert_blob(blob, record::item_of(blob).sha256));
    }
    Statement node{*writer_, "INSERT INTO subtree(level, idx, hash) VALUES(?,?,?)"};
    for (const Subtree& subtree : subtrees) {
      SP_ASSERT(is_kept(subtree.level));
      node.reset();
      SP_CHECK(node.bind(std::uint64_t{subtree.level}).bind(subtree.index).bind(view(subtree.hash)).run());
    }
    Statement set{*writer_,
                  "INSERT INTO head(one, size, root) VALUES(1,?,?) ON CONFLICT(one) DO UPDATE SET "
                  "size=excluded.size, root=excluded.root"};
    SP_CHECK(set.bind(next.size.get()).bind(view(next.root)).run());
    return transaction.commit();
  }

  Status snapshot(const std::function<Status()>& with) override {
    const std::lock_guard lock{reading_};
    SP_CHECK(reader_->execute("BEGIN"));
    const Status done = with();
    SP_CHECK(reader_->execute("ROLLBACK"));  // nothing was written
    return done;
  }

  Status read(LeafIndex from, std::uint64_t count, const std::function<Status(StoredEntry)>& each) override {
    const std::lock_guard lock{reading_};
    Statement select{*reader_,
                     "SELECT idx, leaf, nonce, body FROM entry WHERE idx >= ? ORDER BY idx LIMIT ?"};
    select.bind(from.get()).bind(count);
    for (std::uint64_t expected = from.get();; ++expected) {
      SP_TRY(const bool row, select.step());
      if (!row) return Done{};
      if (select.integer(0) != expected) return damaged("an entry is missing");
      StoredEntry stored;
      stored.index = LeafIndex{expected};
      SP_TRY(stored.entry.leaf, ledger::parse_leaf(select.bytes(1)));
      SP_TRY(const auto nonce, exactly<32>(select.bytes(2)));
      stored.entry.nonce = Nonce{nonce};
      stored.entry.body = to_bytes(select.bytes(3));
      SP_CHECK(each(std::move(stored)));
    }
  }

  Result<std::vector<ledger::Leaf>> leaves(LeafIndex from, std::uint64_t count) override {
    const std::lock_guard lock{reading_};
    Statement select{*reader_, "SELECT idx, leaf FROM entry WHERE idx >= ? ORDER BY idx LIMIT ?"};
    select.bind(from.get()).bind(count);
    std::vector<ledger::Leaf> out;
    for (;;) {
      SP_TRY(const bool row, select.step());
      if (!row) return out;
      if (select.integer(0) != from.get() + out.size()) return damaged("an entry is missing");
      SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(select.bytes(1)));
      out.push_back(leaf);
    }
  }

  Result<Digest256> subtree(unsigned level, std::uint64_t index) override {
    const std::lock_guard lock{reading_};
    if (level == 0) {
      SP_TRY(const auto leaf, leaves(LeafIndex{index}, 1));
      if (leaf.empty()) return damaged("a leaf is missing");
      return ledger::leaf_hash(leaf.front());
    }
    if (!is_kept(level)) {
      SP_TRY(const Digest256 left, subtree(level - 1, 2 * index));
      SP_TRY(const Digest256 right, subtree(level - 1, 2 * index + 1));
      return ledger::hash_node(left, right);
    }
    Statement select{*reader_, "SELECT hash FROM subtree WHERE level = ? AND idx = ?"};
    SP_TRY(const bool row, select.bind(std::uint64_t{level}).bind(index).step());
    if (!row) return damaged("a subtree is missing");
    SP_TRY(const auto hash, exactly<32>(select.bytes(0)));
    return Digest256{hash};
  }

  Status put_blob(const record::Blob& blob) override {
    const Digest256 sha256 = record::item_of(blob).sha256;  // of 16 MiB, perhaps: while others write
    const std::lock_guard lock{writing_};
    return insert_blob(blob, sha256);
  }

  Result<std::optional<record::Blob>> find_blob(const Digest256& sha256) override {
    const std::lock_guard lock{reading_};
    Statement select{*reader_, "SELECT type, bytes FROM blob WHERE sha256 = ?"};
    SP_TRY(const bool row, select.bind(view(sha256)).step());
    if (!row) return std::optional<record::Blob>{};
    record::Blob blob{static_cast<record::EvidenceType>(select.integer(0)), to_bytes(select.bytes(1))};
    if (record::item_of(blob).sha256 != sha256) return damaged("a blob does not match its digest");
    return std::optional{std::move(blob)};
  }

  Status put_signed(TreeSize size, std::string_view note) override {
    const std::lock_guard lock{writing_};
    Statement select{*writer_, "SELECT note FROM signed WHERE size = ?"};
    SP_TRY(const bool row, select.bind(size.get()).step());
    if (row) {
      if (select.text(0) == note) return Done{};
      return Error{Code::kConflict, Reason::kLogFork, "another checkpoint was signed at this size"};
    }
    Statement insert{*writer_, "INSERT INTO signed(size, note) VALUES(?,?)"};
    return insert.bind(size.get()).bind_text(note).run();
  }

  Status put_cosigned(TreeSize size, std::string_view note) override {
    const std::lock_guard lock{writing_};
    Statement insert{
        *writer_,
        "INSERT INTO cosigned(size, note) VALUES(?,?) ON CONFLICT(size) DO UPDATE SET note=excluded.note"};
    return insert.bind(size.get()).bind_text(note).run();
  }

  Result<std::optional<std::string>> signed_note(TreeSize size) override {
    const std::lock_guard lock{reading_};
    Statement select{*reader_, "SELECT note FROM signed WHERE size = ?"};
    SP_TRY(const bool row, select.bind(size.get()).step());
    if (!row) return std::optional<std::string>{};
    return std::optional{select.text(0)};
  }

  Result<std::optional<SizedNote>> newest_signed() override {
    return newest("SELECT size, note FROM signed ORDER BY size DESC LIMIT 1");
  }
  Result<std::optional<SizedNote>> newest_cosigned() override {
    return newest("SELECT size, note FROM cosigned ORDER BY size DESC LIMIT 1");
  }

  Result<std::vector<SizedNote>> cosigned(TreeSize from, std::size_t limit) override {
    return notes("SELECT size, note FROM cosigned WHERE size >= ? ORDER BY size LIMIT ?", from, limit);
  }
  Result<std::vector<SizedNote>> signed_notes(TreeSize from, std::size_t limit) override {
    return notes("SELECT size, note FROM signed WHERE size >= ? ORDER BY size LIMIT ?", from, limit);
  }

  Result<std::vector<Digest256>> attachments(const Digest256& after, std::size_t limit) override {
    const std::lock_guard lock{reading_};
    Statement select{*reader_,
                     "SELECT sha256 FROM blob WHERE sha256 > ? AND type = ? ORDER BY sha256 LIMIT ?"};
    select.bind(view(after))
        .bind(std::uint64_t{static_cast<std::uint8_t>(record::EvidenceType::kAttachment)})
        .bind(std::uint64_t{limit});
    std::vector<Digest256> out;
    for (;;) {
      SP_TRY(const bool row, select.step());
      if (!row) return out;
      SP_TRY(const auto sha256, exactly<32>(select.bytes(0)));
      out.push_back(Digest256{sha256});
    }
  }

  Status erase(const std::vector<LeafIndex>& entries, const std::vector<Digest256>& blobs,
               LeafIndex erased_to) override {
    const std::lock_guard lock{writing_};
    {
      Transaction transaction{*writer_};
      SP_CHECK(transaction.begin());
      Statement entry{*writer_, "UPDATE entry SET nonce = zeroblob(32), body = x'' WHERE idx = ?"};
      for (const LeafIndex index : entries) {
        entry.reset();
        SP_CHECK(entry.bind(index.get()).run());
      }
      Statement blob{*writer_, "DELETE FROM blob WHERE sha256 = ?"};
      for (const Digest256& sha256 : blobs) {
        blob.reset();
        SP_CHECK(blob.bind(view(sha256)).run());
      }
      SP_CHECK(transaction.commit());
    }
    // Only now is it done: pages as they were before are in the WAL until then.
    SP_CHECK(writer_->empty_wal());
    Statement done{
        *writer_,
        "INSERT INTO erased(one, upto) VALUES(1,?) ON CONFLICT(one) DO UPDATE SET upto=excluded.upto"};
    return done.bind(erased_to.get()).run();
  }
  Result<LeafIndex> erased_to() override {
    const std::lock_guard lock{reading_};
    Statement select{*reader_, "SELECT upto FROM erased"};
    SP_TRY(const bool row, select.step());
    return LeafIndex{row ? select.integer(0) : 0};
  }

  Status put_contradiction(const Contradiction& shown) override {
    const std::lock_guard lock{writing_};
    Statement insert{*writer_, "INSERT OR IGNORE INTO contradiction(note, witness) VALUES(?,?)"};
    return insert.bind_text(shown.note).bind_text(shown.witness).run();
  }
  Result<std::vector<Contradiction>> contradictions() override {
    const std::lock_guard lock{reading_};
    Statement select{*reader_, "SELECT witness, note FROM contradiction"};
    std::vector<Contradiction> out;
    for (;;) {
      SP_TRY(const bool row, select.step());
      if (!row) return out;
      out.push_back({select.text(0), select.text(1)});
    }
  }

 private:
  Result<std::vector<SizedNote>> notes(const char* sql, TreeSize from, std::size_t limit) {
    const std::lock_guard lock{reading_};
    Statement select{*reader_, sql};
    select.bind(from.get()).bind(std::uint64_t{limit});
    std::vector<SizedNote> out;
    for (;;) {
      SP_TRY(const bool row, select.step());
      if (!row) return out;
      out.push_back({TreeSize{select.integer(0)}, select.text(1)});
    }
  }
  Result<std::optional<SizedNote>> newest(const char* sql) {
    const std::lock_guard lock{reading_};
    Statement select{*reader_, sql};
    SP_TRY(const bool row, select.step());
    if (!row) return std::optional<SizedNote>{};
    return std::optional{SizedNote{TreeSize{select.integer(0)}, select.text(1)}};
  }
  static Result<Head> head_of(Database& db) {
    Statement select{db, "SELECT size, root FROM head"};
    SP_TRY(const bool row, select.step());
    if (!row) return Head{TreeSize{0}, ledger::empty_root()};
    SP_TRY(const auto root, exactly<32>(select.bytes(1)));
    return Head{TreeSize{select.integer(0)}, Digest256{root}};
  }
  Status insert_blob(const record::Blob& blob, const Digest256& sha256) {
    Statement insert{*writer_, "INSERT OR IGNORE INTO blob(sha256, type, bytes) VALUES(?,?,?)"};
    return insert.bind(view(sha256))
        .bind(std::uint64_t{static_cast<std::uint8_t>(blob.type)})
        .bind(blob.bytes)
        .run();
  }

  std::mutex writing_;            // each guards its connection
  std::recursive_mutex reading_;  // what read() calls may read too
  std::unique_ptr<Database> writer_, reader_;
};

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite(const std::string& path) {
  SP_TRY(auto writer, Database::open(path));
  std::uint64_t version = 0;
  {
    Statement select{*writer, "PRAGMA user_version"};
    SP_TRY(const bool row, select.step());
    if (row) version = select.integer(0);
  }
  if (version == 0) {
    Transaction transaction{*writer};
    SP_CHECK(transaction.begin());
    SP_CHECK(writer->execute(kSchema));
    SP_CHECK(writer->execute(kSinceVersion3));
    SP_CHECK(writer->execute(kSinceVersion4));
    SP_CHECK(transaction.commit());
  } else if (version == 2 || version == 3) {
    Transaction transaction{*writer};
    SP_CHECK(transaction.begin());
    if (version == 2) SP_CHECK(writer->execute(kSinceVersion3));
    SP_CHECK(writer->execute(kSinceVersion4));
    SP_CHECK(transaction.commit());
  } else if (version != kSchemaVersion) {
    return damaged("schema version " + std::to_string(version) + ", this program knows " +
                   std::to_string(kSchemaVersion));
  }
  SP_TRY(auto reader, Database::open(path));
  return std::unique_ptr<Store>{std::make_unique<SqliteStore>(std::move(writer), std::move(reader))};
}

}  // namespace sallyport::store

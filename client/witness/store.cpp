#include "client/witness/store.h"

#include "attestation/ledger/cosignature.h"
#include "attestation/sqlite/sqlite.h"

namespace sallyport::witness {
namespace {

using sqlite::Database;
using sqlite::Statement;
using sqlite::Transaction;

constexpr std::uint64_t kSchemaVersion = 1;
constexpr const char* kSchema =
    "CREATE TABLE witness (id INTEGER PRIMARY KEY CHECK (id = 1), schema INTEGER NOT NULL, name TEXT NOT "
    "NULL,"
    "                      key BLOB NOT NULL) STRICT;"
    "CREATE TABLE tree (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, time INTEGER NOT "
    "NULL,"
    "                   note TEXT NOT NULL) STRICT;";

Result<std::unique_ptr<Database>> open_existing(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error) || std::filesystem::file_size(file, error) == 0)
    return Error{Code::kUnavailable, Reason::kStorage,
                 "no memory at " + file.string() +
                     "; a witness never starts without it (init makes one, with a new key)",
                 Next::kCallOperator, 0};
  return Database::open(file.string());
}

Result<ledger::NoteKey> read_vkey(Database& db) {
  Statement statement{db, "SELECT schema, name, key FROM witness WHERE id = 1"};
  SP_TRY(const bool row, statement.step());
  if (!row) return sqlite::damaged("it names no witness");
  if (statement.integer(0) != kSchemaVersion) return sqlite::damaged("it is of another version");
  const auto key = crypto::PublicKey::parse_spki(statement.bytes(2));
  if (!key) return sqlite::damaged("it names no key");
  return ledger::NoteKey::make(statement.text(1), ledger::NoteKeyType::kCosignature, *key);
}

// check_pages has SQLite compare every page and index: a row that its index does not lead to would be a log
// that we have never seen.
Status check_pages(Database& db) {
  Statement statement{db, "PRAGMA integrity_check(1)"};
  SP_TRY(const bool row, statement.step());
  if (!row || statement.text(0) != "ok") return sqlite::damaged(row ? statement.text(0) : "it says nothing");
  return Done{};
}

// check_row makes sure that a row is what we once wrote: size and root are those of a note that our key has
// cosigned.
Status check_row(const std::string& origin, const StoredTree& tree, const ledger::NoteKey& witness) {
  const auto note = ledger::parse_note(tree.note);
  if (!note) return sqlite::damaged("a stored note does not parse");
  const auto checkpoint = ledger::parse_checkpoint_text(note->text, ledger::Extensions::kAllow);
  if (!checkpoint || checkpoint->origin.get() != origin || checkpoint->size != tree.state.size ||
      checkpoint->root != tree.state.root)
    return sqlite::damaged("a stored size or root is not its note's");
  const auto time = ledger::verify_cosignature(note->signatures.back(), witness, note->text);
  if (!time || *time != tree.time) return sqlite::damaged("a stored note is not cosigned by this witness");
  return Done{};
}

class SqliteStore final : public Store {
 public:
  explicit SqliteStore(std::unique_ptr<Database> db) : db_(std::move(db)) {}

  Result<std::optional<StoredTree>> find(const Origin& origin) override {
    Statement statement{*db_, "SELECT size, root, time, note FROM tree WHERE origin = ?"};
    statement.bind_text(origin.get());
    SP_TRY(const bool row, statement.step());
    if (!row) return std::optional<StoredTree>{};
    SP_TRY(StoredTree tree, read(statement, 0));
    return std::optional<StoredTree>{std::move(tree)};
  }

  Status update(const Origin& origin, const Decide& decide) override {
    if (commit_failed_) return Error{Code::kUnavailable, Reason::kStorage, "an earlier commit failed"};
    Transaction transaction{*db_};
    SP_CHECK(transaction.begin());
    SP_TRY(const std::optional<StoredTree> stored, find(origin));
    SP_TRY(const std::optional<StoredTree> next, decide(stored));
    if (!next) return Done{};
    // The transaction holds the write lock since before the read; the condition says once more what must not
    // change.
    const ledger::WitnessState old = stored ? stored->state : ledger::WitnessState{};
    Statement statement{
        *db_,
        "INSERT INTO tree (origin, size, root, time, note) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (origin)"
        " DO UPDATE SET size = ?2, root = ?3, time = ?4, note = ?5 WHERE size = ?6 AND root = ?7"};
    statement.bind_text(origin.get())
        .bind(next->state.size.get())
        .bind(view(next->state.root))
        .bind(next->time.get());
    statement.bind_text(next->note).bind(old.size.get()).bind(view(old.root));
    SP_CHECK(statement.run());
    if (sqlite3_changes(db_->get()) != 1) return sqlite::damaged("a row changed inside our transaction");
    const Status committed = transaction.commit();
    if (!committed) commit_failed_ = true;
    return committed;
  }

  bool commit_failed() const override { return commit_failed_; }

  Status check_rows(const ledger::NoteKey& witness) {
    Statement statement{*db_, "SELECT origin, size, root, time, note FROM tree"};
    while (true) {
      SP_TRY(const bool row, statement.step());
      if (!row) return Done{};
      SP_TRY(const StoredTree tree, read(statement, 1));
      SP_CHECK(check_row(statement.text(0), tree, witness));
    }
  }

 private:
  static Result<StoredTree> read(const Statement& statement, int column) {
    StoredTree tree;
    tree.state.size = TreeSize{statement.integer(column)};
    SP_TRY(const auto root, sqlite::exactly<32>(statement.bytes(column + 1)));
    tree.state.root = Digest256{root};
    tree.time = ledger::UnixSeconds{statement.integer(column + 2)};
    tree.note = statement.text(column + 3);
    return tree;
  }

  std::unique_ptr<Database> db_;
  bool commit_failed_ = false;
};

}  // namespace

Status Store::create(const std::filesystem::path& file, const ledger::NoteKey& witness) {
  std::error_code error;
  for (const char* part : {"", "-wal"})  // SQLite would read what the log of a lost file holds into a new one
    if (std::filesystem::exists(file.string() + part, error) || error)
      return Error{Code::kConflict, Reason::kStorage, "something is there already: " + file.string() + part};
  SP_TRY(const auto db, Database::open(file.string()));
  Transaction transaction{*db};
  SP_CHECK(transaction.begin());
  SP_CHECK(db->execute(kSchema));
  Statement statement{*db, "INSERT INTO witness (id, schema, name, key) VALUES (1, ?, ?, ?)"};
  statement.bind(kSchemaVersion).bind_text(witness.name()).bind(witness.key().spki());
  SP_CHECK(statement.run());
  return transaction.commit();
}

Result<std::unique_ptr<Store>> Store::open(const std::filesystem::path& file,
                                           const ledger::NoteKey& witness) {
  SP_TRY(auto db, open_existing(file));
  SP_CHECK(check_pages(*db));
  SP_TRY(const ledger::NoteKey owner, read_vkey(*db));
  if (owner != witness) return Error{Code::kConflict, Reason::kStorage, "the memory is that of another key"};
  auto store = std::make_unique<SqliteStore>(std::move(db));
  SP_CHECK(store->check_rows(witness));
  return std::unique_ptr<Store>{std::move(store)};
}

Result<ledger::NoteKey> Store::find_vkey(const std::filesystem::path& file) {
  SP_TRY(const auto db, open_existing(file));
  return read_vkey(*db);
}

}  // namespace sallyport::witness

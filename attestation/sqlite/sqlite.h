#pragma once

#include <sqlite3.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport::sqlite {

// Database is one connection, used by one thread at a time, to a file in WAL mode with synchronous=FULL: a
// COMMIT that returned is on disk. What is deleted is overwritten. Errors of all here: kUnavailable/kStorage;
// kConflict for a constraint. A sync that fails ends the process: the kernel tells of it once, and reads back
// afterwards what is not on disk.
class Database {
 public:
  static constexpr int kCheckpointPages = 1000;  // SQLite's own choice

  ~Database() {
    for (const auto& [sql, statement] : idle_) sqlite3_finalize(statement);
    sqlite3_close_v2(db_);
  }
  static Result<std::unique_ptr<Database>> open(const std::string& path) {
    auto db = std::make_unique<Database>();
    if (sqlite3_open_v2(path.c_str(), &db->db_,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        nullptr) != SQLITE_OK)
      return db->failed("open " + path);
    sqlite3_busy_timeout(db->db_, 5000);
    sqlite3_extended_result_codes(db->db_, 1);
    SP_CHECK(db->execute(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON"));
    // After an error SQLite opens a file, or the index of its WAL, for reading alone, and then refuses every
    // write: who owns the file is to hear of it now.
    if (sqlite3_db_readonly(db->db_, "main") != 0)
      return Error{Code::kUnavailable, Reason::kStorage, "open " + path + ": it cannot be written",
                   Next::kCallOperator, 0};
    SP_CHECK(db->execute("BEGIN IMMEDIATE; ROLLBACK"));
    sqlite3_wal_hook(db->db_, checkpoint, nullptr);
    return db;
  }
  Status execute(const char* sql) {
    if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failed(sql);
    return Done{};
  }
  // empty_wal brings all that was committed into the database's file and cuts the WAL to nothing: what a
  // change has overwritten is in no file any more. Errors: kUnavailable/kStorage, also while another
  // connection reads for longer than the busy time.
  Status empty_wal() {
    const int rc = sqlite3_wal_checkpoint_v2(db_, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
    if (rc != SQLITE_OK) return failed("empty the WAL");
    return Done{};
  }
  Error failed(std::string_view doing) const {
    const int rc = sqlite3_extended_errcode(db_);
    if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC) stop_unsynced();
    return Error{Code::kUnavailable, Reason::kStorage, std::string{doing} + ": " + sqlite3_errmsg(db_),
                 Next::kCallOperator, static_cast<std::uint64_t>(rc)};
  }
  sqlite3* get() { return db_; }

  // take gives a statement that was prepared before and is not in use, or null; give_back keeps it for the
  // next.
  sqlite3_stmt* take(std::string_view sql) {
    const auto found = idle_.find(sql);
    return found == idle_.end() ? nullptr : std::exchange(found->second, nullptr);
  }
  void give_back(std::string_view sql, sqlite3_stmt* statement) {
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    auto found = idle_.find(sql);
    if (found == idle_.end()) found = idle_.emplace(sql, nullptr).first;
    sqlite3_finalize(std::exchange(found->second, statement));
  }

 private:
  // checkpoint is what SQLite does by itself after a commit, but for errors, which it would ignore: they fail
  // the commit, although that is on disk. Without space, or while another checkpoints, the WAL holds what
  // there is.
  static int checkpoint(void*, sqlite3* db, const char* name, int pages) {
    if (pages < kCheckpointPages) return SQLITE_OK;
    const int rc = sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    const int kind = rc & 0xFF;
    return kind == SQLITE_BUSY || kind == SQLITE_LOCKED || kind == SQLITE_FULL ? SQLITE_OK : rc;
  }
  [[noreturn]] void stop_unsynced() const {
    const char* const file = sqlite3_db_filename(db_, "main");
    std::fprintf(
        stderr,
        "sallyport: [%.*s] %s: the disk did not take what was to be synced to it; stopping: the next start "
        "reads what it holds\n",
        static_cast<int>(reason_name(Reason::kStorage).size()), reason_name(Reason::kStorage).data(),
        file == nullptr ? "?" : file);
    std::_Exit(reason_exit_code(Reason::kStorage));
  }

  sqlite3* db_ = nullptr;
  std::map<std::string, sqlite3_stmt*, std::less<>> idle_;  // by text; null: in use
};

// Statement is one prepared statement in use. Like its Database, it is for one thread at a time.
class Statement {
 public:
  Statement(Database& db, const char* sql) : db_(db), sql_(sql), statement_(db.take(sql_)) {
    if (statement_ == nullptr)
      rc_ = sqlite3_prepare_v3(db.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement_, nullptr);
  }
  ~Statement() {
    if (statement_ != nullptr) db_.give_back(sql_, statement_);
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::uint64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, static_cast<sqlite3_int64>(value));
    return *this;
  }
  Statement& bind(ByteView value) {
    static constexpr std::uint8_t kEmpty = 0;
    sqlite3_bind_blob64(statement_, ++bound_, value.empty() ? &kEmpty : value.data(), value.size(),
                        SQLITE_TRANSIENT);
    return *this;
  }
  Statement& bind_text(std::string_view value) {
    sqlite3_bind_text64(statement_, ++bound_, value.data(), value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    return *this;
  }
  // step gives whether there is a row.
  Result<bool> step() {
    if (rc_ != SQLITE_OK) return db_.failed("prepare");
    const int rc = sqlite3_step(statement_);
    if (rc == SQLITE_ROW) return true;
    if (rc == SQLITE_DONE) return false;
    if ((rc & 0xFF) == SQLITE_CONSTRAINT)
      return Error{Code::kConflict, Reason::kConflict,
                   std::string{"exists already: "} + sqlite3_errmsg(db_.get())};
    return db_.failed("step");
  }
  Status run() {
    SP_TRY(const bool row, step());
    SP_ASSERT(!row);
    return Done{};
  }
  void reset() {
    sqlite3_reset(statement_);
    bound_ = 0;
  }
  std::uint64_t integer(int column) const {
    return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
  }
  ByteView bytes(int column) const {
    return {static_cast<const std::uint8_t*>(sqlite3_column_blob(statement_, column)),
            static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
  }
  std::string text(int column) const { return std::string{as_text(bytes(column))}; }

 private:
  Database& db_;
  std::string_view sql_;  // the caller's: a literal
  sqlite3_stmt* statement_;
  int rc_ = SQLITE_OK;
  int bound_ = 0;
};

inline Error damaged(std::string what) {
  return Error{Code::kUnavailable, Reason::kStorage, "the database is damaged: " + what, Next::kCallOperator,
               0};
}

template <std::size_t N>
Result<ByteArray<N>> exactly(ByteView bytes) {
  if (bytes.size() != N) return damaged("a column of another size");
  ByteArray<N> out;
  std::memcpy(out.data(), bytes.data(), N);
  return out;
}

// Transaction is rolled back unless it was committed.
class Transaction {
 public:
  explicit Transaction(Database& db) : db_(db) {}
  ~Transaction() {
    if (open_) (void)db_.execute("ROLLBACK").has_value();
  }
  Status begin() {
    SP_CHECK(db_.execute("BEGIN IMMEDIATE"));
    open_ = true;
    return Done{};
  }
  Status commit() {
    SP_CHECK(db_.execute("COMMIT"));
    open_ = false;
    return Done{};
  }

 private:
  Database& db_;
  bool open_ = false;
};

}  // namespace sallyport::sqlite

#pragma once

#include <span>

#include "attestation/record/entry.h"
#include "attestation/sqlite/sqlite.h"
#include "hsm-config/pkcs11/region_keys.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::bench {

// AppendFloor is what no order of durability can leave out for one commit of entries: the broker's commit of
// their bytes, the guard's of their leaves, the HSM's signature, the broker's commit of the checkpoint; with
// the same settings of SQLite.
class AppendFloor {
 public:
  AppendFloor(const pkcs11::Token& token, const pkcs11::RegionKeys& keys, std::string note)
      : token_(token), keys_(keys), note_(std::move(note)) {
    for (auto* db : {broker_.get(), guard_.get()})
      test::value_of(
          db->execute("CREATE TABLE bytes(leaf BLOB, nonce BLOB, body BLOB); CREATE TABLE blob(bytes BLOB); "
                      "CREATE TABLE note(text TEXT)"));
  }

  void operator()(std::span<const record::Entry> entries) {
    commit(*broker_, [&] {
      sqlite::Statement insert{*broker_, "INSERT INTO bytes VALUES(?,?,?)"};
      sqlite::Statement blob{*broker_, "INSERT INTO blob VALUES(?)"};
      for (const record::Entry& entry : entries) {
        insert.reset();
        test::value_of(
            insert.bind(ledger::encode_leaf(entry.leaf)).bind(view(entry.nonce)).bind(entry.body).run());
        for (const record::Blob& one : entry.blobs) {
          blob.reset();
          test::value_of(blob.bind(one.bytes).run());
        }
      }
    });
    commit(*guard_, [&] {
      sqlite::Statement insert{*guard_, "INSERT INTO bytes(leaf) VALUES(?)"};
      for (const record::Entry& entry : entries) {
        insert.reset();
        test::value_of(insert.bind(ledger::encode_leaf(entry.leaf)).run());
      }
    });
    test::value_of(token_.sign_ed25519(keys_.log, as_bytes(note_)));
    commit(*broker_, [&] {
      sqlite::Statement insert{*broker_, "INSERT INTO note VALUES(?)"};
      test::value_of(insert.bind_text(note_).run());
    });
  }

 private:
  template <class Insert>
  static void commit(sqlite::Database& db, Insert insert) {
    sqlite::Transaction transaction{db};
    test::value_of(transaction.begin());
    insert();
    test::value_of(transaction.commit());
  }

  const pkcs11::Token& token_;
  const pkcs11::RegionKeys& keys_;
  std::string note_;
  test::TemporaryDirectory directory_;
  std::unique_ptr<sqlite::Database> broker_ =
      test::value_of(sqlite::Database::open((directory_ / "broker.db").string()));
  std::unique_ptr<sqlite::Database> guard_ =
      test::value_of(sqlite::Database::open((directory_ / "guard.db").string()));
};

}  // namespace sallyport::bench

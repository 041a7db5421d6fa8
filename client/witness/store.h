#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "attestation/ledger/add_checkpoint.h"

namespace sallyport::witness {

// StoredTree is what the witness last cosigned of one log.
struct StoredTree {
  ledger::WitnessState state;
  ledger::UnixSeconds time{0};  // of the cosignature
  std::string note;             // the log's note with our cosignature as its last line
};

// Store is the witness's memory: one SQLite file (WAL, synchronous=FULL), one row per log. It is used by one
// thread at a time; another process on the same file is held off by SQLite's locks, so two witnesses on one
// state still tell one history. Errors of all: kUnavailable/kStorage.
class Store {
 public:
  // create makes an empty memory for a new key, on purpose and once. A witness that lost its memory comes
  // back under a new key, never with an old one at size 0. Errors also: kConflict (the file exists).
  static Status create(const std::filesystem::path& file, const ledger::NoteKey& witness);

  // open opens the memory of this key: the file must exist, be whole and name the key, and every row must
  // hold a note whose size and root are the row's and that carries a valid cosignature of the key. Errors
  // also: kConflict/kStorage (another key's memory).
  static Result<std::unique_ptr<Store>> open(const std::filesystem::path& file,
                                             const ledger::NoteKey& witness);

  // find_vkey gives the key whose memory this is. Does not prove: that anybody has it.
  static Result<ledger::NoteKey> find_vkey(const std::filesystem::path& file);

  virtual ~Store() = default;

  // update runs one decision in one transaction: `decide` gets what is stored and says what to store in its
  // place, or nothing. When update returns without an error, what `decide` returned is on disk.
  //   Errors also: those of decide, unchanged, with nothing stored. After commit_failed() the memory must not
  //   be used further.
  using Decide = std::function<Result<std::optional<StoredTree>>(const std::optional<StoredTree>&)>;
  virtual Status update(const Origin& origin, const Decide& decide) = 0;
  virtual Result<std::optional<StoredTree>> find(const Origin& origin) = 0;

  // commit_failed tells that a commit or fsync failed, so that what is on disk is no longer known: the
  // process must end.
  virtual bool commit_failed() const = 0;
};

}  // namespace sallyport::witness

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attestation/record/entry.h"

namespace sallyport::store {

struct Head {
  TreeSize size{0};
  Digest256 root;
};

struct StoredEntry {
  LeafIndex index;
  record::Entry entry;  // without blobs: they are read by their digests; of an erased one only the leaf
};

// Subtree is the root of a complete subtree, to be kept: over the leaves [index·2^level, (index+1)·2^level).
// Kept are those of 16, 256, … leaves; the others are hashed again from at most 8 that are below them.
struct Subtree {
  unsigned level = 0;
  std::uint64_t index = 0;
  Digest256 hash;
};
inline constexpr unsigned kSubtreeStep = 4;
inline bool is_kept(unsigned level) {
  return level != 0 && level % kSubtreeStep == 0;
}

// Store keeps entries and notes and judges nothing. What it gives back is re-checked by who asked.
// All calls may come from any thread. Errors: kUnavailable/kStorage. An error of append or put_… leaves it
// unknown whether the change is on disk: the caller ends the process, and the next start reads what is there.
class Store {
 public:
  virtual ~Store() = default;

  // head is the newest appended size and root; size 0 for an empty store.
  virtual Result<Head> head() = 0;

  // append writes entries with their blobs, the subtrees that they complete and the new head, in one durable
  // transaction, if the head is still `old` (compare and append). Of `subtrees` those that are to be kept.
  //   Errors: kConflict when the head is another.
  virtual Status append(const Head& old, const std::vector<record::Entry>& entries,
                        const std::vector<Subtree>& subtrees, const Head& next) = 0;

  // snapshot calls `with`; what it reads is of one moment, and cheaper than read by read.
  virtual Status snapshot(const std::function<Status()>& with) = 0;

  // read calls `each` for the entries [from, from + count) in order, as far as there are any; it stops when
  // `each` gives an error.
  virtual Status read(LeafIndex from, std::uint64_t count,
                      const std::function<Status(StoredEntry)>& each) = 0;
  virtual Result<std::vector<ledger::Leaf>> leaves(LeafIndex from, std::uint64_t count) = 0;
  virtual Result<Digest256> subtree(unsigned level, std::uint64_t index) = 0;

  virtual Status put_blob(const record::Blob& blob) = 0;
  virtual Result<std::optional<record::Blob>> find_blob(const Digest256& sha256) = 0;

  // Notes by size: signed by the log, then with k witnesses' lines. put_signed refuses another text at a size
  // that has one (kConflict).
  virtual Status put_signed(TreeSize size, std::string_view note) = 0;
  virtual Status put_cosigned(TreeSize size, std::string_view note) = 0;
  virtual Result<std::optional<std::string>> signed_note(TreeSize size) = 0;
  struct SizedNote {
    TreeSize size;
    std::string note;
  };
  virtual Result<std::optional<SizedNote>> newest_signed() = 0;
  virtual Result<std::optional<SizedNote>> newest_cosigned() = 0;
  virtual Result<std::vector<SizedNote>> cosigned(TreeSize from, std::size_t limit) = 0;
  virtual Result<std::vector<SizedNote>> signed_notes(TreeSize from, std::size_t limit) = 0;

  // attachments gives the digests of stored attachments that come after `after`, ascending.
  virtual Result<std::vector<Digest256>> attachments(const Digest256& after, std::size_t limit) = 0;

  // erase deletes nonces and bodies of entries, and blobs, for ever: when it returns their bytes are in no
  // file of the store. `erased_to` is what erased_to gives from then on: erasures before that leaf are done.
  virtual Status erase(const std::vector<LeafIndex>& entries, const std::vector<Digest256>& blobs,
                       LeafIndex erased_to) = 0;
  virtual Result<LeafIndex> erased_to() = 0;

  // Contradiction is a checkpoint of our log's signing that a witness showed and this store did not continue.
  // It is kept so that a restart knows of it before any witness answers; who reads it judges it again.
  struct Contradiction {
    std::string witness, note;
  };
  virtual Status put_contradiction(const Contradiction& shown) = 0;
  virtual Result<std::vector<Contradiction>> contradictions() = 0;
};

// open_sqlite opens, or makes, the database file: WAL, synchronous=FULL, one writer at a time. A file of
// schema 2 or 3 is brought up to date; one of another schema is refused.
Result<std::unique_ptr<Store>> open_sqlite(const std::string& path);

}  // namespace sallyport::store

#pragma once

#include <string>
#include <vector>

#include "attestation/record/entry.h"

namespace sallyport::record {

inline constexpr std::uint32_t kMaxBatchLeaves = 4096;
inline constexpr std::size_t kMaxBatchBytes = 72u << 20;

// Batch is what a follower fetches: leaves from `from` on, the entries of exactly those of control kinds, and
// a cosigned checkpoint (README.md, "Follow batch"). Nothing of it is believed.
struct ControlEntry {
  LeafIndex index;
  Entry entry;  // its leaf is the one of `leaves` at that index; it is not encoded twice
};
struct Batch {
  LeafIndex from;
  std::vector<ledger::Leaf> leaves;
  std::vector<ControlEntry> controls;  // ascending
  std::string note;                    // or empty
};

// parse_batch takes only the one byte string of a batch: encode_batch(result) == bytes.
//   Proves:         form and caps; leaves are of known kinds, each control leaf has its body here and no
//                   other leaf has.
//   Does not prove: that a body is its leaf's (prepare_control), anything of the note, or that the leaves
//                   are in the log.
//   Errors:         kMalformed; with kLogMissingBody when the bodies are not those of the control leaves.
// encode_batch and encode_entry_page sort blobs. Their callers keep to the caps: what is over them does not
// parse.
Result<Batch> parse_batch(ByteView bytes);
Bytes encode_batch(const Batch& batch);

// EntryPage is what a reader fetches: whole entries (broker/http/README.md, GET /v1/entries). Of an erased
// one (is_erased) nonce and body are empty and there are no blobs.
struct EntryPage {
  LeafIndex from;
  std::vector<Entry> entries;
};
inline constexpr std::uint32_t kMaxPageEntries = 256;
// parse_entry_page takes only the one byte string of a page; leaves are of known kinds. Errors: kMalformed.
Result<EntryPage> parse_entry_page(ByteView bytes);
Bytes encode_entry_page(const EntryPage& page);

}  // namespace sallyport::record

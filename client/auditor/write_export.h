#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "attestation/follow/follower.h"
#include "attestation/record/batch.h"

namespace sallyport::client::auditor {

// Source is where an export comes from: a broker, of which nothing is believed.
class Source {
 public:
  virtual ~Source() = default;
  virtual Result<record::EntryPage> entries(LeafIndex from) = 0;
  virtual Result<std::vector<std::string>> checkpoints(TreeSize from) = 0;  // ascending; empty: no more
};

struct ExportOptions {
  // Leaves before this one are taken from the directory, not from the source. Absent: those that it has.
  std::optional<std::uint64_t> since = {};
  std::function<void(std::uint64_t done, std::uint64_t of)> progress = {};
  // So many leaves, or as many as a checkpoint needs, make an export that is complete and replaces the one
  // before: what was fetched of a long log is not lost when the rest fails.
  std::uint64_t step = 1u << 16;
  // Called before each change of the directory; what it returns stops the export there, as a kill would.
  std::function<Status()> before_change = {};
};

struct Exported {
  TreeSize size;
  std::uint64_t fetched = 0, files = 0, bytes = 0;
  std::uint64_t erased = 0;    // files of erased cases that were deleted
  std::uint64_t to_erase = 0;  // that are no part of the export any more, and wait for who reads it meanwhile
  std::string note;            // the newest
};

// write_export writes, or continues, the export of a log up to its newest cosigned checkpoint. What an
// erasure covers leaves the export with the erasure's leaf.
//   Proves:         every leaf's body is the one it commits to, all evidence is there, and the leaves lead to
//                   the roots of all checkpoints that were fetched. Before anything is erased, and where
//                   bodies were not sent: what replay_control proves, of the checkpoint with which it is.
//   Does not prove: any other signature (verify_export).
//   Errors:         those of the source; kConflict (the directory holds something else, which is left as it
//                   is, or another export writes into it), kUnverified with log/fork, log/rollback, log/body,
//                   log/missing-body; kStorage.
// At every moment, whatever stops it, the directory holds the export that it held before, or the longer one
// (README.md, "How it grows"). Work: in what is new, but for one copy of MANIFEST a step.
Result<Exported> write_export(const std::filesystem::path& directory, const follow::TrustAnchor& anchor,
                              Source& source, const ExportOptions& options = {});

}  // namespace sallyport::client::auditor

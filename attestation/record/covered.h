#pragma once

#include <map>
#include <optional>
#include <vector>

#include "attestation/record/state.h"

namespace sallyport::record {

// CoveredLeaves is told of the erasures of a log, then of its leaves from the first on, and says which leaves
// the erasures cover: of each case that one covers (covers), those from its request on, as far as they are
// before the erasure. Whether an erasure holds is the fold's to say.
class CoveredLeaves {
 public:
  // add takes the erasures in the order of the log, all before the first leaf. `what` must outlive this.
  void add(LeafIndex erasure, const ErasureProposed& what);
  // end is where it ends: no leaf from there on is covered.
  TreeSize end() const { return end_; }
  // next takes the log's next leaf. It gives the first erasure that covers it: which one, as they were added.
  std::optional<std::size_t> next(const ledger::Leaf& leaf);

 private:
  struct Erasure {
    LeafIndex leaf;
    const ErasureProposed* what;
  };
  std::vector<Erasure> erasures_;
  std::map<CaseId, std::vector<std::size_t>> naming_;
  std::map<CaseId, std::size_t> covered_;  // as far as the leaves have come
  TreeSize end_{0};
  LeafIndex next_{0};
};

}  // namespace sallyport::record

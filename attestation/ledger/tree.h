#pragma once

#include "attestation/ledger/compact_range.h"

namespace sallyport::ledger {

// Tree holds every complete subtree in memory (64 bytes a leaf): for a broker's recent past, an auditor,
// tests.
class Tree {
 public:
  LeafIndex append(const Digest256& leaf_hash);
  void reserve(std::size_t leaves);
  TreeSize size() const { return range_.size(); }
  Digest256 root() const { return range_.root(); }
  const CompactRange& range() const { return range_; }

  // node gives a complete subtree; kMalformed if there is none.
  Result<Digest256> node(unsigned level, std::uint64_t index) const;
  NodeReader reader() const;  // valid as long as this tree

  // The tree as it was at `size`. Errors: kMalformed for an index or size outside of the tree.
  Result<Digest256> root(TreeSize at) const;
  Result<Proof> inclusion(LeafIndex index, TreeSize at) const;
  Result<Proof> consistency(TreeSize old_size, TreeSize new_size) const;

 private:
  CompactRange range_;
  std::vector<std::vector<Digest256>> levels_;
};

}  // namespace sallyport::ledger

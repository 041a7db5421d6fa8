#include "attestation/ledger/tree.h"

namespace sallyport::ledger {

LeafIndex Tree::append(const Digest256& leaf_hash) {
  const LeafIndex index{range_.size().get()};
  range_.append(leaf_hash, [this](unsigned level, std::uint64_t at, const Digest256& hash) {
    if (level == levels_.size()) levels_.emplace_back();
    SP_ASSERT(levels_[level].size() == at);
    levels_[level].push_back(hash);
  });
  return index;
}

void Tree::reserve(std::size_t leaves) {
  for (std::size_t level = 0; leaves >> level != 0; ++level) {
    if (level == levels_.size()) levels_.emplace_back();
    levels_[level].reserve(leaves >> level);
  }
}

Result<Digest256> Tree::node(unsigned level, std::uint64_t index) const {
  if (level >= levels_.size() || index >= levels_[level].size())
    return Error{Code::kMalformed, "a subtree that is not complete"};
  return levels_[level][index];
}

NodeReader Tree::reader() const {
  return [this](unsigned level, std::uint64_t index) { return node(level, index); };
}

Result<Digest256> Tree::root(TreeSize at) const {
  if (at > size()) return Error{Code::kMalformed, "a size outside of the tree"};
  return root_at(at, reader());
}

Result<Proof> Tree::inclusion(LeafIndex index, TreeSize at) const {
  if (at > size()) return Error{Code::kMalformed, "a size outside of the tree"};
  return inclusion_proof(index, at, reader());
}

Result<Proof> Tree::consistency(TreeSize old_size, TreeSize new_size) const {
  if (new_size > size()) return Error{Code::kMalformed, "a size outside of the tree"};
  return consistency_proof(old_size, new_size, reader());
}

}  // namespace sallyport::ledger

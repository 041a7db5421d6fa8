#pragma once

#include <array>

#include "attestation/ledger/merkle.h"

namespace sallyport::ledger {

// CompactRange is the right border of a tree: at most 62 hashes, from which it can grow and tell its root.
// What a follower keeps.
class CompactRange {
 public:
  CompactRange() = default;

  // append adds a leaf. on_node(level, index, hash) is called for each complete subtree that this leaf
  // finishes, the leaf itself (level 0) first: what a sequencer stores.
  void append(const Digest256& leaf_hash) {
    append(leaf_hash, [](unsigned, std::uint64_t, const Digest256&) {});
  }
  template <class OnNode>
  void append(const Digest256& leaf_hash, OnNode&& on_node) {
    SP_ASSERT(size_ < kMaxTreeSize);
    Digest256 hash = leaf_hash;
    unsigned level = 0;
    on_node(level, size_, hash);
    for (; (size_ >> level & 1) != 0; ++level) {
      hash = hash_node(border_[level], hash);
      on_node(level + 1, size_ >> (level + 1), hash);
    }
    border_[level] = hash;
    ++size_;
  }

  TreeSize size() const { return TreeSize{size_}; }
  Digest256 root() const;

  // Bytes: u64 size, then one hash for each bit of the size that is set, from the largest subtree to the
  // smallest.
  Bytes encode() const;
  // parse believes the hashes: compare root() with a root that was verified. Errors: kMalformed.
  static Result<CompactRange> parse(ByteView bytes);

  friend bool operator==(const CompactRange& a, const CompactRange& b);

 private:
  std::uint64_t size_ = 0;
  std::array<Digest256, 63> border_;  // border_[l] is the subtree of 2^l leaves, where bit l of size_ is set
};

// compact_range_at gives the border of the tree at `size`, to go on from there.
Result<CompactRange> compact_range_at(TreeSize size, const NodeReader& node);

}  // namespace sallyport::ledger

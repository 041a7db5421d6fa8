#pragma once

#include <array>
#include <functional>
#include <span>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"

// The Merkle tree of RFC 9162 §2.1 with SHA-256 (the same as RFC 6962 §2.1).
namespace sallyport::ledger {

// Sizes are at most 2^62: far from any overflow in 64 bits, and every proof has at most 62 hashes.
inline constexpr std::uint64_t kMaxTreeSize = std::uint64_t{1} << 62;
inline constexpr std::size_t kMaxProofHashes = 63;  // what C2SP texts allow a proof to carry

using Proof = std::vector<Digest256>;  // from the leaf towards the root

Digest256 empty_root();  // SHA-256 of nothing
Digest256 hash_leaf(ByteView entry);
Digest256 hash_node(const Digest256& left, const Digest256& right);

// root_of gives MTH over leaf hashes.
Digest256 root_of(std::span<const Digest256> leaf_hashes);

// verify_inclusion checks RFC 9162 §2.1.3.2.
//   Proves:         the tree of `size` leaves with this root has `leaf_hash` at `index`. The proof's length
//   is exact. Does not prove: that anyone signed this root. Errors:         kUnverified, log/inclusion.
Status verify_inclusion(const Digest256& leaf_hash, LeafIndex index, TreeSize size,
                        std::span<const Digest256> proof, const Digest256& root);

// verify_consistency checks RFC 9162 §2.1.4.2. From size 0, and between equal sizes, the proof is empty; at
// size 0 the root is empty_root().
//   Proves:         the first `old_size` leaves of the new tree are the leaves of the old one.
//   Errors:         kUnverified, log/consistency (equal sizes with other roots: log/fork).
Status verify_consistency(TreeSize old_size, const Digest256& old_root, TreeSize new_size,
                          const Digest256& new_root, std::span<const Digest256> proof);

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

// NodeReader gives the root of the complete subtree over the leaves [index·2^level, (index+1)·2^level), all
// of which exist.
using NodeReader = std::function<Result<Digest256>(unsigned level, std::uint64_t index)>;

// inclusion_proof, consistency_proof and root_at make what the functions above check, from stored complete
// subtrees; they read at most two nodes per level. Errors: kMalformed for an index or size outside of the
// tree; those of the reader, unchanged.
Result<Proof> inclusion_proof(LeafIndex index, TreeSize size, const NodeReader& node);
Result<Proof> consistency_proof(TreeSize old_size, TreeSize new_size, const NodeReader& node);
Result<Digest256> root_at(TreeSize size, const NodeReader& node);

// compact_range_at gives the border of the tree at `size`, to go on from there.
Result<CompactRange> compact_range_at(TreeSize size, const NodeReader& node);

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

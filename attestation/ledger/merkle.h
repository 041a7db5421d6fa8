#pragma once

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

// NodeReader gives the root of the complete subtree over the leaves [index·2^level, (index+1)·2^level), all
// of which exist.
using NodeReader = std::function<Result<Digest256>(unsigned level, std::uint64_t index)>;

// inclusion_proof, consistency_proof and root_at make what the functions above check, from stored complete
// subtrees; they read at most two nodes per level. Errors: kMalformed for an index or size outside of the
// tree; those of the reader, unchanged.
Result<Proof> inclusion_proof(LeafIndex index, TreeSize size, const NodeReader& node);
Result<Proof> consistency_proof(TreeSize old_size, TreeSize new_size, const NodeReader& node);
Result<Digest256> root_at(TreeSize size, const NodeReader& node);

}  // namespace sallyport::ledger

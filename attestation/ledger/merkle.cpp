#include "attestation/ledger/merkle.h"

#include <bit>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/compact_range.h"

namespace sallyport::ledger {
namespace {

constexpr std::uint8_t kLeafPrefix = 0x00, kNodePrefix = 0x01;

Error not_included(const char* what) {
  return Error{Code::kUnverified, Reason::kLogInclusion, what};
}
Error not_consistent(const char* what) {
  return Error{Code::kUnverified, Reason::kLogConsistency, what};
}

// border_hash gives the root of the leaves that a tree of `size` has beyond its last multiple of 2^levels.
Result<Digest256> border_hash(std::uint64_t size, unsigned levels, const NodeReader& node) {
  Digest256 hash;
  bool any = false;
  for (unsigned level = 0; level < levels; ++level) {
    if ((size >> level & 1) == 0) continue;
    SP_TRY(const Digest256 subtree, node(level, (size >> level) - 1));
    hash = any ? hash_node(subtree, hash) : subtree;
    any = true;
  }
  SP_ASSERT(any);
  return hash;
}

// climb appends the siblings on the way from a complete subtree to the root of the tree of `size` leaves.
Status climb(unsigned level, std::uint64_t index, std::uint64_t size, const NodeReader& node, Proof& proof) {
  for (; (size - 1) >> level != 0; ++level, index >>= 1) {
    const std::uint64_t last = (size - 1) >> level, sibling = index ^ 1;
    if (sibling > last) continue;
    const bool complete = sibling < last || (size & ((std::uint64_t{1} << level) - 1)) == 0;
    SP_TRY(const Digest256 hash, complete ? node(level, sibling) : border_hash(size, level, node));
    proof.push_back(hash);
  }
  return Done{};
}

}  // namespace

Digest256 empty_root() {
  return crypto::sha256(ByteView{});
}

Digest256 hash_leaf(ByteView entry) {
  return crypto::sha256({ByteView{&kLeafPrefix, 1}, entry});
}

Digest256 hash_node(const Digest256& left, const Digest256& right) {
  ByteArray<65> bytes;
  bytes[0] = kNodePrefix;
  std::memcpy(bytes.data() + 1, left.get().data(), 32);
  std::memcpy(bytes.data() + 33, right.get().data(), 32);
  return crypto::sha256(bytes);
}

Digest256 root_of(std::span<const Digest256> leaf_hashes) {
  CompactRange range;
  for (const Digest256& hash : leaf_hashes) range.append(hash);
  return range.root();
}

Status verify_inclusion(const Digest256& leaf_hash, LeafIndex index, TreeSize size,
                        std::span<const Digest256> proof, const Digest256& root) {
  if (size.get() > kMaxTreeSize) return not_included("a tree that is too large");
  if (index.get() >= size.get()) return not_included("an index outside of the tree");
  std::uint64_t fn = index.get(), sn = size.get() - 1;
  Digest256 hash = leaf_hash;
  for (const Digest256& sibling : proof) {
    if (sn == 0) return not_included("a proof that is too long");
    if ((fn & 1) != 0 || fn == sn) {
      hash = hash_node(sibling, hash);
      for (; (fn & 1) == 0 && fn != 0; fn >>= 1) sn >>= 1;
    } else {
      hash = hash_node(hash, sibling);
    }
    fn >>= 1;
    sn >>= 1;
  }
  if (sn != 0) return not_included("a proof that is too short");
  if (hash != root) return not_included("the proof leads to another root");
  return Done{};
}

Status verify_consistency(TreeSize old_size, const Digest256& old_root, TreeSize new_size,
                          const Digest256& new_root, std::span<const Digest256> proof) {
  const std::uint64_t m = old_size.get(), n = new_size.get();
  if (n > kMaxTreeSize) return not_consistent("a tree that is too large");
  if (m > n) return not_consistent("a tree smaller than the one before it");
  if (m == 0 && old_root != empty_root()) return not_consistent("an empty tree with another root");
  if (m == 0 || m == n) {
    if (!proof.empty()) return not_consistent("a proof where none is needed");
    if (m == n && old_root != new_root)
      return Error{Code::kUnverified, Reason::kLogFork, "two roots of trees of the same size"};
    return Done{};
  }
  if (proof.empty()) return not_consistent("a proof that is too short");

  std::uint64_t fn = m - 1, sn = n - 1;
  for (; (fn & 1) != 0; fn >>= 1) sn >>= 1;
  Digest256 old_hash = std::has_single_bit(m) ? old_root : proof.front();
  if (!std::has_single_bit(m)) proof = proof.subspan(1);
  Digest256 new_hash = old_hash;
  for (const Digest256& sibling : proof) {
    if (sn == 0) return not_consistent("a proof that is too long");
    if ((fn & 1) != 0 || fn == sn) {
      old_hash = hash_node(sibling, old_hash);
      new_hash = hash_node(sibling, new_hash);
      for (; (fn & 1) == 0 && fn != 0; fn >>= 1) sn >>= 1;
    } else {
      new_hash = hash_node(new_hash, sibling);
    }
    fn >>= 1;
    sn >>= 1;
  }
  if (sn != 0) return not_consistent("a proof that is too short");
  if (old_hash != old_root) return not_consistent("the proof leads to another old root");
  if (new_hash != new_root) return not_consistent("the proof leads to another new root");
  return Done{};
}

Result<Proof> inclusion_proof(LeafIndex index, TreeSize size, const NodeReader& node) {
  if (size.get() > kMaxTreeSize || index.get() >= size.get())
    return Error{Code::kMalformed, "an index outside of the tree"};
  Proof proof;
  SP_CHECK(climb(0, index.get(), size.get(), node, proof));
  return proof;
}

Result<Proof> consistency_proof(TreeSize old_size, TreeSize new_size, const NodeReader& node) {
  const std::uint64_t m = old_size.get(), n = new_size.get();
  if (n > kMaxTreeSize || m > n) return Error{Code::kMalformed, "a size outside of the tree"};
  Proof proof;
  if (m == 0 || m == n) return proof;
  // The last complete subtree of the old tree that ends where it ends; if it is the whole old tree, its hash
  // is known.
  const auto level = static_cast<unsigned>(std::countr_zero(m));
  const std::uint64_t index = (m >> level) - 1;
  if (index != 0) {
    SP_TRY(const Digest256 hash, node(level, index));
    proof.push_back(hash);
  }
  SP_CHECK(climb(level, index, n, node, proof));
  return proof;
}

Result<Digest256> root_at(TreeSize size, const NodeReader& node) {
  if (size.get() > kMaxTreeSize) return Error{Code::kMalformed, "a tree that is too large"};
  if (size.get() == 0) return empty_root();
  return border_hash(size.get(), 63, node);
}

}  // namespace sallyport::ledger

#include "attestation/ledger/merkle.h"

#include <gtest/gtest.h>

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/ledger/leaf.h"
#include "attestation/ledger/tiles.h"
#include "attestation/ledger/tree.h"
#include "tests/support/matchers.h"

namespace sallyport::ledger {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;

constexpr std::uint64_t kSizes = 67;  // past 64, so that every shape of border up to six levels occurs

Digest256 leaf_number(std::uint64_t i) {
  return hash_leaf(Writer{}.u64(i).bytes());
}

Tree tree_of(std::uint64_t size) {
  Tree tree;
  for (std::uint64_t i = 0; i < size; ++i) tree.append(leaf_number(i));
  return tree;
}

// The definitions of RFC 9162 §2.1, word for word: slow, and written independently of the code under test.
Digest256 slow_root(std::span<const Digest256> leaves) {
  if (leaves.empty()) return empty_root();
  if (leaves.size() == 1) return leaves[0];
  std::size_t k = 1;
  while (k * 2 < leaves.size()) k *= 2;
  return hash_node(slow_root(leaves.first(k)), slow_root(leaves.subspan(k)));
}
Proof slow_path(std::size_t m, std::span<const Digest256> leaves) {
  if (leaves.size() == 1) return {};
  std::size_t k = 1;
  while (k * 2 < leaves.size()) k *= 2;
  Proof path = m < k ? slow_path(m, leaves.first(k)) : slow_path(m - k, leaves.subspan(k));
  path.push_back(m < k ? slow_root(leaves.subspan(k)) : slow_root(leaves.first(k)));
  return path;
}
Proof slow_subproof(std::size_t m, std::span<const Digest256> leaves, bool whole) {
  if (m == leaves.size()) return whole ? Proof{} : Proof{slow_root(leaves)};
  std::size_t k = 1;
  while (k * 2 < leaves.size()) k *= 2;
  Proof proof =
      m <= k ? slow_subproof(m, leaves.first(k), whole) : slow_subproof(m - k, leaves.subspan(k), false);
  proof.push_back(m <= k ? slow_root(leaves.subspan(k)) : slow_root(leaves.first(k)));
  return proof;
}

std::vector<Digest256> leaves_of(std::uint64_t size) {
  std::vector<Digest256> leaves;
  for (std::uint64_t i = 0; i < size; ++i) leaves.push_back(leaf_number(i));
  return leaves;
}

Digest256 flipped(const Digest256& hash) {
  ByteArray<32> bytes = hash.get();
  bytes[31] ^= 1;
  return Digest256{bytes};
}

TEST(Merkle, EmptyRootIsTheHashOfNothing) {
  EXPECT_EQ(to_hex(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(root_of({}), empty_root());
  EXPECT_EQ(Tree{}.root(), empty_root());
  EXPECT_EQ(CompactRange{}.root(), empty_root());
}

TEST(Merkle, RootsAreThoseOfTheDefinitionAtEverySize) {
  const auto leaves = leaves_of(kSizes);
  const Tree tree = tree_of(kSizes);
  for (std::uint64_t n = 0; n <= kSizes; ++n) {
    const auto part = std::span{leaves}.first(n);
    EXPECT_EQ(value_of(tree.root(TreeSize{n})), slow_root(part));
    EXPECT_EQ(root_of(part), slow_root(part));
  }
  EXPECT_THAT(tree.root(TreeSize{kSizes + 1}), FailsWith(Code::kMalformed));
}

TEST(Merkle, EveryInclusionProofIsTheDefinitionsAndVerifies) {
  const auto leaves = leaves_of(kSizes);
  const Tree tree = tree_of(kSizes);
  for (std::uint64_t n = 1; n <= kSizes; ++n) {
    const auto part = std::span{leaves}.first(n);
    const Digest256 root = slow_root(part);
    for (std::uint64_t i = 0; i < n; ++i) {
      const Proof proof = value_of(tree.inclusion(LeafIndex{i}, TreeSize{n}));
      EXPECT_EQ(proof, slow_path(i, part));
      EXPECT_THAT(verify_inclusion(leaves[i], LeafIndex{i}, TreeSize{n}, proof, root), Succeeds());
    }
    EXPECT_THAT(tree.inclusion(LeafIndex{n}, TreeSize{n}), FailsWith(Code::kMalformed));
  }
}

TEST(Merkle, EveryConsistencyProofIsTheDefinitionsAndVerifies) {
  const auto leaves = leaves_of(kSizes);
  const Tree tree = tree_of(kSizes);
  for (std::uint64_t n = 0; n <= kSizes; ++n) {
    const Digest256 new_root = slow_root(std::span{leaves}.first(n));
    for (std::uint64_t m = 0; m <= n; ++m) {
      const Proof proof = value_of(tree.consistency(TreeSize{m}, TreeSize{n}));
      if (m != 0) {
        EXPECT_EQ(proof, slow_subproof(m, std::span{leaves}.first(n), true));
      }
      const Digest256 old_root = slow_root(std::span{leaves}.first(m));
      EXPECT_THAT(verify_consistency(TreeSize{m}, old_root, TreeSize{n}, new_root, proof), Succeeds());
    }
  }
  EXPECT_THAT(tree.consistency(TreeSize{2}, TreeSize{1}), FailsWith(Code::kMalformed));
  EXPECT_THAT(tree.consistency(TreeSize{2}, TreeSize{kSizes + 1}), FailsWith(Code::kMalformed));
}

TEST(Merkle, InclusionRefusesEveryChange) {
  const auto leaves = leaves_of(kSizes);
  const Tree tree = tree_of(kSizes);
  for (const std::uint64_t n : std::vector<std::uint64_t>{1, 2, 3, 7, 8, 13, 64, 65, 67}) {
    const Digest256 root = value_of(tree.root(TreeSize{n}));
    for (std::uint64_t i = 0; i < n; ++i) {
      const Proof proof = value_of(tree.inclusion(LeafIndex{i}, TreeSize{n}));
      const auto verify = [&](const Digest256& leaf, std::uint64_t at, std::uint64_t size, const Proof& p,
                              const Digest256& r) {
        return verify_inclusion(leaf, LeafIndex{at}, TreeSize{size}, p, r);
      };
      EXPECT_THAT(verify(flipped(leaves[i]), i, n, proof, root), FailsWith(Reason::kLogInclusion));
      EXPECT_THAT(verify(leaves[i], i, n, proof, flipped(root)), FailsWith(Reason::kLogInclusion));
      EXPECT_THAT(verify(leaves[i], n, n, proof, root), FailsWith(Reason::kLogInclusion));
      EXPECT_THAT(verify(leaves[i], i, 0, proof, root), FailsWith(Reason::kLogInclusion));
      for (std::uint64_t other = 0; other < n; ++other) {
        if (other != i) {
          EXPECT_FALSE(verify(leaves[i], other, n, proof, root).has_value());
        }
      }
      for (std::size_t at = 0; at < proof.size(); ++at) {
        Proof changed = proof;
        changed[at] = flipped(changed[at]);
        EXPECT_FALSE(verify(leaves[i], i, n, changed, root).has_value());
        changed = proof;
        changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(at));
        EXPECT_FALSE(verify(leaves[i], i, n, changed, root).has_value());
      }
      Proof longer = proof;
      longer.push_back(root);
      EXPECT_THAT(verify(leaves[i], i, n, longer, root), FailsWith(Reason::kLogInclusion));
    }
  }
}

TEST(Merkle, InclusionRefusesANodeInPlaceOfALeafAndASizeBeyondTheCap) {
  const Tree tree = tree_of(4);
  const Digest256 left = value_of(tree.node(1, 0)), right = value_of(tree.node(1, 1));
  // A node at the leaf's place proves only a tree of two "leaves" that hash to nodes: the size says
  // otherwise.
  EXPECT_THAT(verify_inclusion(left, LeafIndex{0}, TreeSize{4}, Proof{right}, tree.root()),
              FailsWith(Reason::kLogInclusion));
  EXPECT_THAT(verify_inclusion(left, LeafIndex{0}, TreeSize{kMaxTreeSize + 1}, Proof{right}, tree.root()),
              FailsWith(Reason::kLogInclusion));
}

TEST(Merkle, ConsistencyRefusesEveryChange) {
  const Tree tree = tree_of(kSizes);
  for (const std::uint64_t n : std::vector<std::uint64_t>{2, 3, 7, 8, 13, 64, 65, 67}) {
    const Digest256 new_root = value_of(tree.root(TreeSize{n}));
    for (std::uint64_t m = 1; m < n; ++m) {
      const Digest256 old_root = value_of(tree.root(TreeSize{m}));
      const Proof proof = value_of(tree.consistency(TreeSize{m}, TreeSize{n}));
      const auto verify = [&](std::uint64_t from, const Digest256& o, std::uint64_t to, const Digest256& r,
                              const Proof& p) {
        return verify_consistency(TreeSize{from}, o, TreeSize{to}, r, p);
      };
      EXPECT_THAT(verify(m, flipped(old_root), n, new_root, proof), FailsWith(Reason::kLogConsistency));
      EXPECT_THAT(verify(m, old_root, n, flipped(new_root), proof), FailsWith(Reason::kLogConsistency));
      EXPECT_THAT(verify(m, old_root, n, new_root, {}), FailsWith(Reason::kLogConsistency));
      EXPECT_THAT(verify(n, new_root, m, old_root, proof), FailsWith(Reason::kLogConsistency));
      for (std::uint64_t other = 0; other <= n; ++other) {
        if (other != m) {
          EXPECT_FALSE(verify(other, old_root, n, new_root, proof).has_value());
        }
      }
      for (std::size_t at = 0; at < proof.size(); ++at) {
        Proof changed = proof;
        changed[at] = flipped(changed[at]);
        EXPECT_FALSE(verify(m, old_root, n, new_root, changed).has_value());
        changed = proof;
        changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(at));
        EXPECT_FALSE(verify(m, old_root, n, new_root, changed).has_value());
      }
      Proof longer = proof;
      longer.push_back(new_root);
      EXPECT_THAT(verify(m, old_root, n, new_root, longer), FailsWith(Reason::kLogConsistency));
    }
  }
}

TEST(Merkle, ConsistencyOfEqualSizesIsEqualityOfRoots) {
  const Tree tree = tree_of(5);
  EXPECT_THAT(verify_consistency(TreeSize{5}, tree.root(), TreeSize{5}, tree.root(), {}), Succeeds());
  EXPECT_THAT(verify_consistency(TreeSize{5}, tree.root(), TreeSize{5}, flipped(tree.root()), {}),
              FailsWith(Reason::kLogFork));
  EXPECT_THAT(verify_consistency(TreeSize{5}, tree.root(), TreeSize{5}, tree.root(), Proof{tree.root()}),
              FailsWith(Reason::kLogConsistency));
}

TEST(Merkle, ConsistencyFromNothingNeedsTheEmptyRootAndNoProof) {
  const Tree tree = tree_of(5);
  EXPECT_THAT(verify_consistency(TreeSize{0}, empty_root(), TreeSize{5}, tree.root(), {}), Succeeds());
  EXPECT_THAT(verify_consistency(TreeSize{0}, tree.root(), TreeSize{5}, tree.root(), {}),
              FailsWith(Reason::kLogConsistency));
  EXPECT_THAT(verify_consistency(TreeSize{0}, empty_root(), TreeSize{5}, tree.root(), Proof{tree.root()}),
              FailsWith(Reason::kLogConsistency));
}

TEST(Merkle, ProofsNearTheLargestSizeDoNotOverflow) {
  // A reader that answers for any subtree: the arithmetic is what is tested here.
  const NodeReader reader = [](unsigned level, std::uint64_t index) -> Result<Digest256> {
    EXPECT_LE(index, (kMaxTreeSize >> level));
    return leaf_number(index ^ level);
  };
  const std::uint64_t n = kMaxTreeSize - 1;
  const Digest256 root = value_of(root_at(TreeSize{n}, reader));
  const Proof proof = value_of(inclusion_proof(LeafIndex{n - 1}, TreeSize{n}, reader));
  EXPECT_THAT(verify_inclusion(leaf_number(n - 1), LeafIndex{n - 1}, TreeSize{n}, proof, root), Succeeds());
  EXPECT_THAT(inclusion_proof(LeafIndex{0}, TreeSize{kMaxTreeSize + 1}, reader), FailsWith(Code::kMalformed));
  EXPECT_THAT(root_at(TreeSize{kMaxTreeSize + 1}, reader), FailsWith(Code::kMalformed));
  EXPECT_LE(value_of(consistency_proof(TreeSize{3}, TreeSize{n}, reader)).size(), kMaxProofHashes);
}

TEST(Merkle, ErrorsOfTheReaderAreHandedUp) {
  const NodeReader broken = [](unsigned, std::uint64_t) -> Result<Digest256> {
    return Error{Code::kUnavailable, Reason::kStorage, "no disk"};
  };
  EXPECT_THAT(inclusion_proof(LeafIndex{1}, TreeSize{5}, broken), FailsWith(Reason::kStorage));
  EXPECT_THAT(consistency_proof(TreeSize{3}, TreeSize{5}, broken), FailsWith(Reason::kStorage));
  EXPECT_THAT(root_at(TreeSize{5}, broken), FailsWith(Reason::kStorage));
  EXPECT_THAT(compact_range_at(TreeSize{5}, broken), FailsWith(Reason::kStorage));
}

TEST(CompactRange, GrowsLikeTheTreeAndSurvivesBytes) {
  CompactRange range;
  Tree tree;
  for (std::uint64_t n = 0; n <= kSizes; ++n) {
    EXPECT_EQ(range.size().get(), n);
    EXPECT_EQ(range.root(), tree.root());
    const Bytes bytes = range.encode();
    const CompactRange again = value_of(CompactRange::parse(bytes));
    EXPECT_EQ(again, range);
    EXPECT_EQ(again.encode(), bytes);
    EXPECT_EQ(value_of(compact_range_at(TreeSize{n}, tree.reader())), range);
    range = again;
    range.append(leaf_number(n));
    tree.append(leaf_number(n));
  }
}

TEST(CompactRange, RefusesBytesOfAnotherLengthOrSize) {
  CompactRange range;
  for (int i = 0; i < 5; ++i) range.append(leaf_number(0));
  Bytes bytes = range.encode();
  EXPECT_EQ(bytes.size(), 8 + 2 * 32u);
  EXPECT_THAT(CompactRange::parse(ByteView{bytes}.first(bytes.size() - 1)), FailsWith(Code::kMalformed));
  bytes.push_back(0);
  EXPECT_THAT(CompactRange::parse(bytes), FailsWith(Code::kMalformed));
  EXPECT_THAT(CompactRange::parse(Writer{}.u64(kMaxTreeSize + 1).raw(Bytes(64)).bytes()),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(CompactRange::parse(ByteView{}), FailsWith(Code::kMalformed));
}

TEST(CompactRange, ReportsEachSubtreeThatALeafFinishes) {
  CompactRange range;
  std::size_t nodes = 0;
  const Tree tree = tree_of(kSizes);
  for (std::uint64_t i = 0; i < kSizes; ++i)
    range.append(leaf_number(i), [&](unsigned level, std::uint64_t index, const Digest256& hash) {
      EXPECT_EQ(value_of(tree.node(level, index)), hash);
      ++nodes;
    });
  EXPECT_EQ(nodes, 67u + 33 + 16 + 8 + 4 + 2 + 1);
  EXPECT_THAT(tree.node(0, kSizes), FailsWith(Code::kMalformed));
  EXPECT_THAT(tree.node(7, 0), FailsWith(Code::kMalformed));
}

TEST(CompactRange, DoesNotLookAtHashesBesideItsSize) {
  CompactRange a, b;
  for (std::uint64_t i = 0; i < 4; ++i) a.append(leaf_number(i));
  // The same border, reached over another way, with other remains below it.
  b = value_of(CompactRange::parse(a.encode()));
  EXPECT_EQ(a, b);
  b.append(leaf_number(9));
  EXPECT_FALSE(a == b);
}

TEST(Merkle, ReserveChangesNothingThatCanBeSeen) {
  Tree tree;
  tree.reserve(100);
  EXPECT_EQ(tree.root(), empty_root());
  EXPECT_THAT(tree.node(0, 0), FailsWith(Code::kMalformed));
  for (std::uint64_t i = 0; i < kSizes; ++i) EXPECT_EQ(tree.append(leaf_number(i)), LeafIndex{i});
  EXPECT_EQ(tree.root(), tree_of(kSizes).root());
  EXPECT_EQ(value_of(tree.consistency(TreeSize{40}, TreeSize{67})),
            value_of(tree_of(kSizes).consistency(TreeSize{40}, TreeSize{67})));
}

TEST(Leaf, HasTheBytesOfItsTableAndOnlyThose) {
  Leaf leaf;
  leaf.kind = 10;
  leaf.time = UnixMillis{0x0102030405060708};
  ByteArray<16> case_id{};
  case_id.fill(0xCC);
  leaf.case_id = CaseId{case_id};
  leaf.predecessor = 0x1112131415161718;
  ByteArray<32> commitment{};
  commitment.fill(0xDD);
  leaf.commitment = Digest256{commitment};
  const LeafBytes bytes = encode_leaf(leaf);
  EXPECT_EQ(to_hex(bytes),
            "01"
            "0a"
            "0102030405060708"
            "cccccccccccccccccccccccccccccccc"
            "1112131415161718"
            "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd");
  EXPECT_EQ(value_of(parse_leaf(bytes)), leaf);
  EXPECT_EQ(leaf_hash(leaf), hash_leaf(bytes));
  EXPECT_NE(leaf_hash(leaf), leaf_hash(Leaf{}));

  EXPECT_THAT(parse_leaf(ByteView{bytes}.first(65)), FailsWith(Code::kMalformed));
  Bytes longer = to_bytes(bytes);
  longer.push_back(0);
  EXPECT_THAT(parse_leaf(longer), FailsWith(Code::kMalformed));
  for (const std::uint8_t version : std::vector<std::uint8_t>{0, 2, 255}) {
    LeafBytes other = bytes;
    other[0] = version;
    EXPECT_THAT(parse_leaf(other), FailsWith(Code::kMalformed));
  }
}

TEST(Leaf, WithoutPredecessorSaysAllOnes) {
  const LeafBytes bytes = encode_leaf(Leaf{});
  EXPECT_EQ(to_hex(ByteView{bytes}.subspan(26, 8)), "ffffffffffffffff");
  EXPECT_EQ(value_of(parse_leaf(bytes)).predecessor, kNoPredecessor);
}

TEST(Tiles, PathsAreThoseOfTheText) {
  EXPECT_EQ(tile_path({0, 1234067, 256}), "tile/0/x001/x234/067");
  EXPECT_EQ(tile_path({0, 0, 256}), "tile/0/000");
  EXPECT_EQ(tile_path({1, 0, 17}), "tile/1/000.p/17");
  EXPECT_EQ(tile_path({0, 1000, 256}), "tile/0/x001/000");
  EXPECT_EQ(bundle_path({273, 112}), "tile/entries/273.p/112");
}

TEST(Tiles, PathsParseInOneSpellingOnly) {
  for (const std::uint64_t index :
       std::vector<std::uint64_t>{0ull, 7ull, 999ull, 1000ull, 1234067ull, 999999999ull, 1ull << 50})
    for (const unsigned width : {1u, 17u, 255u, 256u}) {
      EXPECT_EQ(value_of(parse_tile_path(tile_path({0, index, width}))), (TileId{0, index, width}));
      EXPECT_EQ(value_of(parse_bundle_path(bundle_path({index, width}))), (BundleId{index, width}));
    }
  for (const char* bad : {"",
                          "tile",
                          "tile/",
                          "tile/0",
                          "tile/0/",
                          "tile/0/0",
                          "tile/0/00",
                          "tile/0/0000",
                          "tile/00/000",
                          "tile/8/000",
                          "tile/64/000",
                          "tile/0/x000/001",
                          "tile/0/x001",
                          "tile/0/x001/",
                          "tile/0/001/x002",
                          "tile/0/001/002",
                          "tile/0/x001x002",
                          "tile/0/000.p/0",
                          "tile/0/000.p/256",
                          "tile/0/000.p/01",
                          "tile/0/000.p/",
                          "tile/0/000.p",
                          "tile/0/000.p/1.p/1",
                          "tile/0/000/",
                          "/tile/0/000",
                          "tile/0/x999/x999/x999/x999/x999/x999/999",
                          "tile/7/001",
                          "tile/0/../000",
                          "tile/-1/000",
                          "tile/0/0 0",
                          "tile/entries/000",
                          "tile/0/x001/x00a/000"})
    EXPECT_THAT(parse_tile_path(bad), FailsWith(Code::kMalformed)) << bad;
  EXPECT_THAT(parse_bundle_path("tile/0/000"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_bundle_path("tile/entries/000.p/256"), FailsWith(Code::kMalformed));
}

TEST(Tiles, OfASizeAreThoseOfTheTextsExample) {
  // tlog-tiles: "a tree of size 70,000 will be represented by 273 full level 0 tiles, one partial of width
  // 112, one full level 1 tile, one partial of width 17, and one partial level 2 tile of width 1".
  const auto tiles = value_of(tiles_between(TreeSize{0}, TreeSize{70'000}));
  ASSERT_EQ(tiles.size(), 273u + 1 + 1 + 1 + 1);
  EXPECT_EQ(tiles[272], (TileId{0, 272, 256}));
  EXPECT_EQ(tiles[273], (TileId{0, 273, 112}));
  EXPECT_EQ(tiles[274], (TileId{1, 0, 256}));
  EXPECT_EQ(tiles[275], (TileId{1, 1, 17}));
  EXPECT_EQ(tiles[276], (TileId{2, 0, 1}));
  EXPECT_EQ(value_of(bundles_between(TreeSize{0}, TreeSize{70'000})).size(), 274u);
  EXPECT_EQ(value_of(tiles_between(TreeSize{0}, TreeSize{256})),
            (std::vector<TileId>{{0, 0, 256}, {1, 0, 1}}));
  EXPECT_TRUE(value_of(tiles_between(TreeSize{0}, TreeSize{0})).empty());
}

TEST(Tiles, OfGrowthAreTheNewOnes) {
  EXPECT_EQ(value_of(tiles_between(TreeSize{3}, TreeSize{5})), (std::vector<TileId>{{0, 0, 5}}));
  EXPECT_EQ(value_of(tiles_between(TreeSize{255}, TreeSize{257})),
            (std::vector<TileId>{{0, 0, 256}, {0, 1, 1}, {1, 0, 1}}));
  EXPECT_EQ(value_of(tiles_between(TreeSize{256}, TreeSize{257})), (std::vector<TileId>{{0, 1, 1}}));
  EXPECT_TRUE(value_of(tiles_between(TreeSize{300}, TreeSize{300})).empty());
  EXPECT_THAT(tiles_between(TreeSize{5}, TreeSize{3}), FailsWith(Code::kMalformed));
  EXPECT_THAT(tiles_between(TreeSize{0}, TreeSize{kMaxTreeSize}), FailsWith(Code::kMalformed));
}

TEST(Tiles, HoldTheSubtreesOfTheirPlace) {
  const Tree tree = tree_of(600);
  const auto hashes_of = [](const Bytes& tile) {
    std::vector<Digest256> out;
    for (Reader in{tile}; in.remaining() != 0;) out.emplace_back(value_of(in.array<32>()));
    return out;
  };
  const auto level0 = hashes_of(value_of(encode_tile({0, 1, 256}, tree.reader())));
  ASSERT_EQ(level0.size(), 256u);
  EXPECT_EQ(level0[0], leaf_number(256));
  EXPECT_EQ(level0[255], leaf_number(511));
  const Bytes bytes = value_of(encode_tile({1, 0, 2}, tree.reader()));
  ASSERT_EQ(bytes.size(), 64u);
  EXPECT_EQ(hashes_of(bytes)[1], root_of(level0));
  // Beyond the tree there is nothing to write.
  EXPECT_THAT(encode_tile({1, 0, 3}, tree.reader()), FailsWith(Code::kMalformed));
  EXPECT_THAT(encode_tile({8, 0, 1}, tree.reader()), FailsWith(Code::kMalformed));
}

TEST(Tiles, BundlesHoldTheirEntriesExactly) {
  const Bytes longest(0xFFFF, 7);
  const std::vector<ByteView> entries{as_bytes("one"), as_bytes(""), longest};
  const Bytes bytes = value_of(encode_bundle(entries));
  EXPECT_EQ(bytes.size(), 2 + 3 + 2 + 2 + longest.size());
  const auto again = value_of(parse_bundle(bytes, 3));
  ASSERT_EQ(again.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(equal(again[i], entries[i]));
  EXPECT_THAT(parse_bundle(bytes, 2), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_bundle(bytes, 4), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_bundle(ByteView{bytes}.first(bytes.size() - 1), 3), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_bundle({}, 0), FailsWith(Code::kMalformed));
  const Bytes too_long(0x10000);
  EXPECT_THAT(encode_bundle(std::vector<ByteView>{too_long}), FailsWith(Code::kMalformed));
  EXPECT_THAT(encode_bundle(std::vector<ByteView>(257)), FailsWith(Code::kMalformed));
  EXPECT_THAT(encode_bundle({}), FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::ledger

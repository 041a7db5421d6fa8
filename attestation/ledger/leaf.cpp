#include "attestation/ledger/leaf.h"

#include "attestation/base/reader.h"
#include "attestation/ledger/merkle.h"

namespace sallyport::ledger {
namespace {

std::uint8_t* put_u64(std::uint8_t* at, std::uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) *at++ = static_cast<std::uint8_t>(value >> shift);
  return at;
}

}  // namespace

LeafBytes encode_leaf(const Leaf& leaf) {
  LeafBytes bytes;
  std::uint8_t* at = bytes.data();
  *at++ = kLeafVersion;
  *at++ = leaf.kind;
  at = put_u64(at, leaf.time.get());
  std::memcpy(at, leaf.case_id.get().data(), 16);
  at = put_u64(at + 16, leaf.predecessor);
  std::memcpy(at, leaf.commitment.get().data(), 32);
  return bytes;
}

Result<Leaf> parse_leaf(ByteView bytes) {
  Reader in{bytes};
  Leaf leaf;
  SP_TRY(const std::uint8_t version, in.u8());
  if (version != kLeafVersion) return Error{Code::kMalformed, "a leaf of another version"};
  SP_TRY(leaf.kind, in.u8());
  SP_TRY(const std::uint64_t time, in.u64());
  leaf.time = UnixMillis{time};
  SP_TRY(const auto case_id, in.array<16>());
  leaf.case_id = CaseId{case_id};
  SP_TRY(leaf.predecessor, in.u64());
  SP_TRY(const auto commitment, in.array<32>());
  leaf.commitment = Digest256{commitment};
  SP_CHECK(in.finish());
  return leaf;
}

Digest256 leaf_hash(const Leaf& leaf) {
  return hash_leaf(encode_leaf(leaf));
}

}  // namespace sallyport::ledger

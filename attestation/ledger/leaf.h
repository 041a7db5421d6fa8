#pragma once

#include <limits>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"

namespace sallyport::ledger {

inline constexpr std::uint8_t kLeafVersion = 1;
inline constexpr std::size_t kLeafSize = 66;
inline constexpr std::uint64_t kNoPredecessor = std::numeric_limits<std::uint64_t>::max();

using LeafBytes = ByteArray<kLeafSize>;

// Leaf is one entry of the log: what is public about a step. Its body is committed to, not contained.
// Bytes: u8 version (1), u8 kind, u64 time, 16 case id, u64 predecessor, 32 commitment; integers big-endian.
struct Leaf {
  std::uint8_t kind = 0;  // which kinds exist is the business of attestation/record
  UnixMillis time;
  CaseId case_id;
  std::uint64_t predecessor = kNoPredecessor;  // index of the leaf before it in its case
  Digest256 commitment;                        // HMAC-SHA256(nonce, body)

  friend bool operator==(const Leaf&, const Leaf&) = default;
};

LeafBytes encode_leaf(const Leaf& leaf);

// parse_leaf takes exactly 66 bytes of version 1; every such string is the encoding of one Leaf. The kind,
// the order of times and the predecessor are not judged. Errors: kMalformed.
Result<Leaf> parse_leaf(ByteView bytes);

// leaf_hash is SHA-256(0x00 ‖ the 66 bytes) (RFC 9162 §2.1.1).
Digest256 leaf_hash(const Leaf& leaf);

}  // namespace sallyport::ledger

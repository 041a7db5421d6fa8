#pragma once

#include <optional>

#include "attestation/ledger/witness_policy.h"

namespace sallyport::ledger {

inline constexpr std::size_t kMaxProofExtraBytes = 64 * 1024;

// ClaimedProof is a C2SP tlog-proof@v1: an inclusion proof stapled to a cosigned checkpoint.
struct ClaimedProof {
  std::optional<Bytes> extra;  // nothing authenticates it
  LeafIndex index;
  Proof hashes;
  std::string checkpoint;  // a signed note, verbatim

  friend bool operator==(const ClaimedProof&, const ClaimedProof&) = default;
};

// parse_proof takes the text in its one spelling, the checkpoint as a well-formed note. Errors: kMalformed.
Result<ClaimedProof> parse_proof(std::string_view text);
std::string encode_proof(const ClaimedProof& proof);

// verify_proof checks a stapled proof.
//   Proves:         what check_quorum proves, and that the tree holds `leaf_hash` at proof.index.
//   Does not prove: that it is recent (require_fresh); anything about `extra`; what the leaf means.
//   Errors:         those of check_quorum and verify_inclusion.
Result<VerifiedCheckpoint> verify_proof(const ClaimedProof& proof, const Digest256& leaf_hash,
                                        const WitnessPolicy& policy,
                                        const crypto::VerifiedSignatures* known = nullptr);

}  // namespace sallyport::ledger

#include "attestation/ledger/proof.h"

#include "attestation/base/base64.h"
#include "attestation/ledger/lines.h"

namespace sallyport::ledger {
namespace {

constexpr std::string_view kHeader = "c2sp.org/tlog-proof@v1", kExtra = "extra ", kIndex = "index ";

}  // namespace

Result<ClaimedProof> parse_proof(std::string_view text) {
  LineReader in{text};
  ClaimedProof proof;
  SP_TRY(std::string_view line, in.line());
  if (line != kHeader) return Error{Code::kMalformed, "not a tlog-proof@v1"};
  SP_TRY(line, in.line());
  if (line.starts_with(kExtra)) {
    SP_TRY(proof.extra, parse_base64(line.substr(kExtra.size()), kMaxProofExtraBytes));
    if (proof.extra->empty()) return Error{Code::kMalformed, "a proof with an empty extra"};
    SP_TRY(line, in.line());
  }
  if (!line.starts_with(kIndex)) return Error{Code::kMalformed, "a proof without an index"};
  SP_TRY(const std::uint64_t index, parse_decimal(line.substr(kIndex.size()), kMaxTreeSize - 1));
  proof.index = LeafIndex{index};
  for (;;) {
    SP_TRY(line, in.line());
    if (line.empty()) break;
    if (proof.hashes.size() == kMaxProofHashes)
      return Error{Code::kMalformed, "a proof with too many hashes"};
    SP_TRY(const Digest256 hash, parse_hash(line));
    proof.hashes.push_back(hash);
  }
  SP_TRY(const ClaimedNote note, parse_note(in.rest()));
  SP_TRY(const Checkpoint checkpoint, parse_checkpoint_text(note.text));
  proof.checkpoint = in.rest();
  return proof;
}

std::string encode_proof(const ClaimedProof& proof) {
  std::string text = std::string{kHeader} + "\n";
  if (proof.extra) text += std::string{kExtra} + to_base64(*proof.extra) + "\n";
  text += std::string{kIndex} + std::to_string(proof.index.get()) + "\n";
  for (const Digest256& hash : proof.hashes) text += to_base64(view(hash)) + "\n";
  return text + "\n" + proof.checkpoint;
}

Result<VerifiedCheckpoint> verify_proof(const ClaimedProof& proof, const Digest256& leaf_hash,
                                        const WitnessPolicy& policy,
                                        const crypto::VerifiedSignatures* known) {
  SP_TRY(VerifiedCheckpoint checkpoint, check_quorum(proof.checkpoint, policy, known));
  SP_CHECK(verify_inclusion(leaf_hash, proof.index, checkpoint.size(), proof.hashes, checkpoint.root()));
  return checkpoint;
}

}  // namespace sallyport::ledger

#pragma once

#include <chrono>

#include "attestation/ledger/checkpoint.h"

namespace sallyport::ledger {

inline constexpr std::size_t kMaxWitnessPolicyBytes = 64 * 1024;
inline constexpr std::size_t kMaxPolicyLogs = 32, kMaxPolicyWitnesses = 64, kMaxPolicyGroups = 64;

struct PolicyLog {
  NoteKey key;      // its name is the log's origin
  std::string url;  // empty: none given
};
struct PolicyWitness {
  std::string name;  // within the policy only
  NoteKey key;
  std::string url;  // submission prefix; empty: none given
};

// WitnessPolicy says which logs are believed, and whose cosignatures make a checkpoint good (C2SP
// tlog-policy).
class WitnessPolicy {
 public:
  const std::vector<PolicyLog>& logs() const { return logs_; }
  const std::vector<PolicyWitness>& witnesses() const { return witnesses_; }  // in the order of the text
  bool in_quorum(std::size_t witness) const { return in_quorum_.at(witness); }

  // k: the fewest witnesses that can fill the quorum. n: the witnesses that can count for it. Ask n−k+1 of
  // them, and one was in every quorum that there ever was.
  std::size_t k() const { return k_; }
  std::size_t n() const { return n_; }

  // quorum_met tells whether these keys (crypto::PublicKey::id) fill the quorum; others and repetitions count
  // for nothing.
  bool quorum_met(std::span<const KeyId> cosigned) const;

 private:
  friend Result<WitnessPolicy> parse_witness_policy(std::string_view);
  struct Node {  // a witness, or a group
    std::size_t threshold = 0;
    std::size_t witness = 0;           // if no members
    std::vector<std::size_t> members;  // indexes into nodes_, all smaller than its own
  };
  std::vector<PolicyLog> logs_;
  std::vector<PolicyWitness> witnesses_;
  std::vector<bool> in_quorum_;
  std::vector<Node> nodes_;
  std::size_t quorum_ = 0, k_ = 0, n_ = 0;
};

// parse_witness_policy reads tlog-policy text. Stricter than C2SP: a public key occurs once, under whatever
// name and whether as log or as witness; two keys never share a (name, key id); logs have types 0x01 or 0x02,
// witnesses 0x04; at least one log; `quorum none` is refused. Errors: kMalformed, policy/invalid, with the
// number of the line.
Result<WitnessPolicy> parse_witness_policy(std::string_view text);

// require_overlap refuses a policy with 2k ≤ n: two quorums of honest witnesses could cosign two histories.
// Safe while fewer than 2k − n witnesses cheat, live while n − k are down. Errors: kDenied, policy/invalid.
Status require_overlap(const WitnessPolicy& policy);

// VerifiedCheckpoint is a checkpoint that its log signed and a quorum of witnesses cosigned. Only
// check_quorum makes one.
class VerifiedCheckpoint {
 public:
  struct Cosignature {
    UnixSeconds time;
    KeyId witness;  // crypto::PublicKey::id of the witness's key
    friend auto operator<=>(const Cosignature&, const Cosignature&) = default;
  };
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const Origin& origin() const { return checkpoint_.origin; }
  TreeSize size() const { return checkpoint_.size; }
  const Digest256& root() const { return checkpoint_.root; }
  const Digest256& note_digest() const { return note_digest_; }  // of the note's text (signed_note.h)
  // By time, then by key; every verified one of a witness that counts for the quorum, so at least k.
  const std::vector<Cosignature>& cosignatures() const { return cosignatures_; }
  // The earliest time: the word of one witness, who may lie.
  UnixSeconds first_time() const { return cosignatures_.front().time; }
  // The lower median: between two honest clocks, where most of these witnesses are honest.
  UnixSeconds median_time() const { return cosignatures_[(cosignatures_.size() - 1) / 2].time; }

 private:
  friend Result<VerifiedCheckpoint> check_quorum(std::string_view, const WitnessPolicy&,
                                                 const crypto::VerifiedSignatures*);
  VerifiedCheckpoint(Checkpoint checkpoint, Digest256 note_digest, std::vector<Cosignature> cosignatures)
      : checkpoint_(std::move(checkpoint)),
        note_digest_(note_digest),
        cosignatures_(std::move(cosignatures)) {}
  Checkpoint checkpoint_;
  Digest256 note_digest_;
  std::vector<Cosignature> cosignatures_;
};

// check_quorum checks a cosigned checkpoint against a policy.
//   Proves:         a log of the policy signed this size and root, and witnesses who fill the quorum stated
//   that it was the
//                   largest consistent tree that they had seen, each at its time. No extension lines; at size
//                   0 the empty root.
//   Does not prove: that it is recent (require_fresh); that a leaf is in it (verify_inclusion).
//   Errors:         kMalformed; kUnverified with log/checkpoint (log, or a known key whose line does not
//   verify), log/quorum.
Result<VerifiedCheckpoint> check_quorum(std::string_view note, const WitnessPolicy& policy,
                                        const crypto::VerifiedSignatures* known = nullptr);

// require_fresh checks that the cosignatures with a time within [now − max_age, now + max_skew] alone fill
// the policy's quorum. Errors: kStale.
Status require_fresh(const VerifiedCheckpoint& checkpoint, const WitnessPolicy& policy, UnixMillis now,
                     std::chrono::milliseconds max_age, std::chrono::milliseconds max_skew);

}  // namespace sallyport::ledger

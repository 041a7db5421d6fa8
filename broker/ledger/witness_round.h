#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "attestation/ledger/add_checkpoint.h"
#include "attestation/ledger/witness_policy.h"

namespace sallyport::ledger_service {

// WitnessRounds asks every witness of a policy to cosign a checkpoint, all at once, and stops waiting at a
// quorum. One round at a time. Each witness keeps its own connection and its own last size; a slow one skips
// rounds and never delays the others.
class WitnessRounds {
 public:
  // ConsistencyProof gives the proof between two sizes of our tree.
  using ConsistencyProof = std::function<Result<ledger::Proof>(TreeSize from, TreeSize to)>;
  WitnessRounds(ConsistencyProof proof, std::chrono::milliseconds timeout);
  ~WitnessRounds();

  // cosign gives the note with the cosignatures of a quorum.
  //   Errors:  kUnavailable/kLogQuorum (not enough answered in time), kUnverified/kLogRollback (a witness has
  //   seen a larger tree than ours, or
  //            another root at our size: never retried).
  Result<std::string> cosign(const std::string& signed_note, const ledger::WitnessPolicy& policy);
  std::size_t answering() const;  // witnesses that cosigned in the last round

 private:
  struct Peer;
  struct Round;
  ConsistencyProof proof_;
  std::chrono::milliseconds timeout_;
  mutable std::mutex mutex_;                            // guards the two below
  std::map<std::string, std::shared_ptr<Peer>> peers_;  // by key and url
  std::size_t answering_ = 0;
};

}  // namespace sallyport::ledger_service

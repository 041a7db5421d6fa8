#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "attestation/record/state.h"
#include "broker/store/store.h"

namespace sallyport::ledger_service {

// Eraser deletes from a store what the erasures of its log name: nonces and bodies of the entries that they
// cover, and the evidence that no other entry names. Leaves, tree and checkpoints stay. It works on a thread
// of its own, and again after a crash: an erasure is done once its bytes are gone from the disk.
class Eraser {
 public:
  // Quiet calls `with` while nothing is appended to the store.
  using Quiet = std::function<Status(const std::function<Status()>& with)>;
  Eraser(std::shared_ptr<store::Store> store, Quiet quiet);
  ~Eraser();

  // folded tells of an erasure, in the order of the log, at the start too: those that are done are let be.
  void folded(LeafIndex erasure, record::ErasureProposed what);
  // proved tells how much of the log witnesses have cosigned, and the newest snapshot in it, with which
  // followers begin now. Only what a cosigned erasure covers is deleted, and only before that snapshot.
  void proved(TreeSize cosigned, LeafIndex snapshot);
  // begin starts the thread, once the log was folded.
  void begin();

 private:
  struct Due {
    LeafIndex erasure;
    record::ErasureProposed what;
  };
  void work();
  Result<bool> erase(const Due& due, LeafIndex before);

  const std::shared_ptr<store::Store> store_;
  const Quiet quiet_;
  std::mutex mutex_;  // guards all below
  std::condition_variable wake_;
  std::vector<Due> due_;
  TreeSize cosigned_{0};
  LeafIndex before_{0};
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace sallyport::ledger_service

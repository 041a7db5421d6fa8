#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "attestation/record/batch.h"
#include "attestation/record/snapshot.h"

namespace sallyport::follow {

// TrustAnchor is what a verifier pins: everything else follows from it. trust.toml holds it.
struct TrustAnchor {
  Origin origin;
  Digest256 genesis_policy;  // SHA-256 of the text of policy version 1
};
Result<TrustAnchor> parse_trust_file(std::string_view toml);
std::string format_trust_file(const TrustAnchor& anchor);

// Begin says how a follower that has taken nothing may begin.
enum class Begin : std::uint8_t {
  kFromStart,     // with the first leaf, and judge every one
  kFromSnapshot,  // with a snapshot, where the log has one
};

// Follower is one party's own view of a log, kept on disk: every leaf, every control body, folded into a
// ControlState; of one that joined, from its snapshot on. What it has taken it never takes back. One thread
// at a time; many threads may use a control() that they were given.
class Follower {
 public:
  // create makes the state of a follower that has seen nothing. Errors: kConflict when there is one already.
  static Status create(const std::filesystem::path& file, const TrustAnchor& anchor,
                       Begin begin = Begin::kFromStart);

  // open reads the state back and folds again what came after the newest snapshot taken; that one is proved
  // as in join. A missing file is an error: a follower never starts anew by itself.
  //   Errors: kUnavailable/kStorage (missing, damaged, of another anchor).
  static Result<std::unique_ptr<Follower>> open(const std::filesystem::path& file, const TrustAnchor& anchor);

  ~Follower();
  // anchor is of the log that is followed: of the one that was pinned, or of one that goes on from it.
  TrustAnchor anchor() const;

  // control is the state at the newest leaf taken; what was handed out does not change.
  std::shared_ptr<const record::ControlState> control() const;

  // leaf gives a leaf that was taken. Errors: kLogOrder (not taken yet; or, by a follower that joined, not
  // kept: it has the leaves of the cases that its snapshot remembers), kUnavailable/kStorage.
  Result<ledger::Leaf> leaf(LeafIndex index) const;

  // note is the newest cosigned checkpoint that was accepted; empty before the first.
  std::string note() const;
  // noted is what that checkpoint proved; null before the first.
  std::shared_ptr<const ledger::VerifiedCheckpoint> noted() const;

  // may_join tells whether this follower has taken nothing and was made to begin with a snapshot.
  bool may_join() const;

  // join begins from a snapshot, with the leaves after it, under a cosigned checkpoint of exactly the size
  // they lead to.
  //   Proves:         what record::join_control proves; the leaves after the snapshot as accept does; and
  //   that
  //                   log and witnesses (of the policy in force, which the chain of policies leads to) signed
  //                   this very tree.
  //   Does not prove: that the snapshot is the fold of the leaves before it. Log key and witnesses sign no
  //                   tree with another one unless API host and keyguard host are both lost.
  //   Errors:         of join_control and accept; kConflict when something was taken already. Until it
  //                   returns nothing of it is on disk, then all.
  Status join(const record::Joining& joining, const record::Batch& batch);

  // go_on gives up this log for another one that goes on from it, of which `first` is the first leaf's entry.
  //   Proves:         what record::check_continues does, and that the change quorum of the policy in force
  //   here
  //                   has signed the first policy there.
  //   Does not prove: anything about the leaves after it: no checkpoint is accepted yet, so there is no note.
  //   Errors:         of check_continues, and of the first policy (kTrustAnchor, kPolicyNotSuccessor, the
  //   quorum's).
  //                   State unchanged.
  //   On disk before it returns; the end of the log before is kept with its note.
  Status go_on(const record::Entry& first);

  // accept takes leaves under a cosigned checkpoint of exactly the size they lead to, or a newer checkpoint
  // of the present size (an older one of the same size changes nothing).
  //   Proves:  the leaves follow from what was taken before, each control body is its leaf's and holds, and
  //            the root is the one that log and witnesses signed.
  //   Errors:  kStale/kLogOrder (the batch starts elsewhere, its note is of another size, or another process
  //   has followed in the same file: then the state is that one's now); kUnverified with log/fork,
  //            log/rollback, log/checkpoint, log/quorum, log/missing-body, or the reason for which a control
  //            statement does not hold. State unchanged.
  //   On disk before it returns.
  Status accept(const record::Batch& batch);

  // advance takes leaves without a checkpoint: for the keyguard, whose own signature makes one. Otherwise as
  // accept. A note that is given must be of a size up to the new one, and consistent: of the follower's own
  // root at that size.
  Status advance(const record::Batch& batch);

 private:
  struct Impl;
  explicit Follower(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::follow

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "attestation/ledger/proof.h"
#include "attestation/record/batch.h"
#include "attestation/record/snapshot.h"
#include "broker/ledger/standby_link.h"
#include "broker/ledger/witness_round.h"
#include "broker/store/store.h"

namespace sallyport::ledger_service {

// CheckpointSigner is whoever signs checkpoints: the keyguard. It follows the log by itself, so it is given
// leaves, not roots.
class CheckpointSigner {
 public:
  virtual ~CheckpointSigner() = default;
  // standing is the size and root of the tree that it has followed: it never signs another of that size.
  virtual Result<store::Head> standing() = 0;
  // advance gives the signed note at size batch.from + leaves; batch.note is the newest cosigned one, or
  // empty.
  virtual Result<std::string> advance(const record::Batch& batch) = 0;
};

using Clock = std::function<UnixMillis()>;

struct SequencerOptions {
  Origin origin;
  Digest256 genesis_policy;
  // No commit begins sooner than that after the end of the one before: what comes meanwhile goes in one, what
  // comes later does not wait. With gather_first a commit begins so long after its first entry, or when it is
  // full: for who wants to know what is in it.
  std::chrono::milliseconds window{10};
  bool gather_first = false;
  std::size_t max_entries = 256;   // of one commit
  std::size_t max_waiting = 1024;  // beyond: kUnavailable
  std::chrono::milliseconds recosign_after{30'000};
  std::chrono::milliseconds witness_timeout{5'000};
  std::chrono::milliseconds append_timeout{20'000};
  // A snapshot is appended when the one before (or the first leaf) is that old, or that many leaves came
  // after it; never when none did, and never within record::kSnapshotGap.
  std::chrono::milliseconds snapshot_every = std::chrono::hours{24};
  std::uint64_t snapshot_leaves = 100'000;
  StandbyOptions standby;
};

struct Appended {
  LeafIndex index;
  CaseId case_id;
  TreeSize signed_size;  // of a checkpoint that contains it
  bool existed = false;  // the same statement was there already
};

// Sequencer is the one writer of the log: it folds, commits, has signed, has cosigned, and only then tells.
// DESIGN's order of durability: intent on disk; read back and hashed again; on every standby's disk, where
// there are any; signed and on disk; witnesses; publish. A failed write ends the process.
class Sequencer {
 public:
  // start folds what the store holds and compares its root. What a crash left unsigned is signed as soon as
  // the keyguard answers; then a quorum of witnesses, so at least n − k + 1 of them, must have cosigned our
  // head in this process. Before both nothing new is appended: append waits, and health tells why.
  // When keyguard or witnesses know more than the store holds, or otherwise, the log is read-only: at once,
  // in every later start as long as that is so, and everything that reads goes on.
  // Errors: kUnavailable/kStorage (the store is damaged), or why an entry of it does not fold.
  static Result<std::unique_ptr<Sequencer>> start(std::shared_ptr<store::Store> store,
                                                  std::shared_ptr<CheckpointSigner> signer,
                                                  SequencerOptions options, Clock clock);
  ~Sequencer();

  // Compose makes an entry for its place: it is called with the state it will follow and the time of its
  // leaf. It is called for a draft, and again when the draft does not fit its place any more; it may be
  // called on another thread, with the state locked: no I/O.
  using Compose = std::function<Result<record::Entry>(const record::State& state, UnixMillis time)>;

  // Draft is an entry to be, opened, with those of its signatures that were verified.
  struct Draft {
    Compose compose;
    std::optional<record::OpenedEntry> entry;
    std::shared_ptr<const record::VerifiedAhead> verified;
  };
  // draft composes an entry as it would be now, opens it and verifies its signatures, on the caller's thread:
  // the writer, who is one and holds the state, then only judges. What cannot be drafted yet is left to the
  // writer.
  Draft draft(Compose compose) const;

  // append composes, folds and commits an entry, and returns when its leaf is under a signed checkpoint.
  //   Proves:  the entry is durable, and prepare() accepted it.
  //   Errors:  what compose or prepare refused; kUnavailable (queue, deadline, and, where the signer told
  //   what it lacks, that: kKeyguardAway, kHsmAway, kStandbyAway, kLogQuorum): the entry may then be in the
  //   log all the same; kReadOnly.
  Result<Appended> append(Draft draft);
  Result<Appended> append(Compose compose);  // of a draft, unless it would be turned away

  // wait_proven returns when a cosigned checkpoint of at least this size is on disk. Errors:
  // kUnavailable/kLogQuorum at the deadline.
  Status wait_proven(TreeSize size, std::chrono::milliseconds timeout);
  // wait_change returns when the log is larger than `size`, or cosigned anew, or at the deadline.
  void wait_change(TreeSize size, std::string_view known_note, std::chrono::milliseconds timeout);

  // release_waiters makes every wait_change, now and later, return at once: a server that stops.
  void release_waiters();

  // read calls `with` while nothing changes.
  void read(const std::function<void(const record::State&)>& with) const;

  std::string cosigned_note() const;                    // the newest; empty before the first
  Result<ledger::ClaimedProof> prove(LeafIndex index);  // under the newest cosigned checkpoint
  // batch gives what a follower at `from` lacks up to the newest cosigned checkpoint, whose note it carries:
  // at most 4096 leaves, or 48 MiB, so the note may be of a larger tree than the leaves lead to.
  Result<record::Batch> batch(LeafIndex from);
  // joining gives what a follower begins from, as record::parse_joining takes it: of the newest snapshot
  // under the newest cosigned checkpoint. Null where there is none.
  Result<std::shared_ptr<const Bytes>> joining();
  Result<record::Entry> entry(LeafIndex index);  // with its blobs
  store::Store& store();

  // put_attachment stores the bytes of an attachment, here and on every standby, before its entry is
  // appended. Errors: kReadOnly, kStandbyAway, kStorage.
  Status put_attachment(const record::Blob& blob);

  // require_unseen: before a log begins, the witnesses of its first policy must not know it. Errors:
  // witness_round.h.
  Status require_unseen(const ledger::WitnessPolicy& policy) const;

  // The state of witnesses, signer and standbys in words, for /readyz and /metrics.
  struct Health {
    bool signer = false, witnesses = false;
    std::optional<Reason> read_only;  // log/rollback or log/fork
    std::string why;
    std::uint64_t size = 0, cosigned_size = 0, rounds = 0;
    std::size_t witnesses_answering = 0;
    std::vector<WitnessRounds::WitnessHealth> each_witness;  // in the policy's order; none before a round
    bool standby = true;  // what is to be signed reaches the standbys, or need not
    std::vector<StandbyLinks::Link> standbys;
  };
  Health health() const;

 private:
  struct Impl;
  explicit Sequencer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::ledger_service

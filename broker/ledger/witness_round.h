#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "attestation/ledger/add_checkpoint.h"
#include "attestation/ledger/witness_policy.h"

namespace sallyport::ledger_service {

// WitnessRounds asks every witness of a policy to cosign a checkpoint, all at once, and stops waiting at a
// quorum. One round at a time. Each witness keeps its own connection and its own last size; a slow one skips
// rounds and never delays the others, and one that errs or lies is one that does not answer.
class WitnessRounds {
 public:
  // ConsistencyProof gives the proof between two sizes of our tree.
  using ConsistencyProof = std::function<Result<ledger::Proof>(TreeSize from, TreeSize to)>;
  WitnessRounds(ConsistencyProof proof, std::chrono::milliseconds timeout, std::function<UnixMillis()> clock);
  ~WitnessRounds();

  // TwoHistories is the proof that our log has signed what this tree does not continue.
  struct TwoHistories {
    std::string witness, note;  // who showed which checkpoint
    Error error;
  };
  // Before the first round. on_two_histories is called from a witness's thread, the moment it has shown that,
  // late or not. has_cosigned says what a witness is known to have cosigned: one that then speaks of less has
  // lost its memory, and is one that does not answer until it comes back under a new key.
  void on_two_histories(std::function<void(const TwoHistories&)> tell) { tell_ = std::move(tell); }
  void has_cosigned(const KeyId& witness, TreeSize size);
  // holds says how many leaves we have, signed or not: what lies within them is no second history.
  void holds(TreeSize size);

  // cosign gives the note with the cosignatures of a quorum, each of a time that our clock agrees with:
  // others would be refused by those who judge freshness.
  //   Errors:  kUnavailable/kLogQuorum (not enough answered in time: it names each that did not, and why);
  //            kUnverified/kLogRollback or kLogFork (a witness showed a checkpoint that our log has signed
  //            and that this tree does not continue: from then on always).
  // `patience` is how long the others are waited for when the quorum is met.
  Result<std::string> cosign(const std::string& signed_note, const ledger::WitnessPolicy& policy,
                             std::chrono::milliseconds patience = {});
  std::size_t answering() const;  // witnesses that cosigned in the last round

  // WitnessHealth is what one witness of the newest policy did when it was asked last.
  struct WitnessHealth {
    std::string name;
    bool answering = false;
    std::string why;        // that it does not answer; empty while it does
    TreeSize size{0};       // of the checkpoint that it cosigned last; 0: none since this process began
    UnixMillis cosigned{};  // when, by its own clock
  };
  std::vector<WitnessHealth> health() const;  // in the policy's order

  // take_late gives the notes of earlier rounds with the cosignatures that came after their quorum, each note
  // as often as there are more. A size that was cosigned anew is left out.
  struct LateNote {
    TreeSize size;
    std::string note;
  };
  std::vector<LateNote> take_late();

  // take_shown gives the largest checkpoint that a witness has shown of our own tree, beyond the one it was
  // asked to cosign, with our log's signature alone: we hold those leaves, but not that note.
  std::optional<LateNote> take_shown();

 private:
  struct Peer;
  struct Round;
  Result<std::string> wait(const std::shared_ptr<Round>& round, const ledger::WitnessPolicy& policy,
                           std::chrono::milliseconds patience);
  void remember(const TwoHistories& proven);
  void show(LateNote note);
  static std::string log_signed(const ledger::SignedCheckpoint& shown,
                                const std::vector<ledger::LogKey>& logs);
  // ask begins a round: every witness of the policy is asked, and those of older policies are let go.
  void ask(const std::shared_ptr<Round>& round, const ledger::WitnessPolicy& policy);
  TreeSize newest() const;  // the largest tree that we hold, as far as we were told

  ConsistencyProof proof_;
  std::chrono::milliseconds timeout_;
  std::function<UnixMillis()> clock_;
  std::function<void(const TwoHistories&)> tell_;
  mutable std::mutex mutex_;                            // guards all below
  std::map<std::string, std::shared_ptr<Peer>> peers_;  // by key and url; of the newest policy
  std::vector<std::shared_ptr<Peer>> let_go_;           // of older ones, until their last request has ended
  std::vector<std::pair<std::string, std::shared_ptr<Peer>>> asked_;  // name and peer, in the policy's order
  std::size_t answering_ = 0;
  TreeSize newest_{0};
  std::deque<std::shared_ptr<Round>> recent_;  // rounds that met their quorum and may yet hear more
  std::optional<Error> proven_;                // that our log has two histories
  std::map<KeyId, TreeSize> cosigned_before_;
  std::optional<LateNote> shown_;
};

// require_unseen asks the witnesses of a policy, before its log begins, whether they know that log already.
//   Proves:  at least n − k + 1 of them answered, and none showed a checkpoint of it. Does not prove: that a
//            witness without the read API (C2SP tlog-witness) has none: the first round tells.
//   Errors:  kUnverified/kLogRollback (the log had begun: who shows it, and its size);
//            kUnavailable/kLogQuorum.
Status require_unseen(const Origin& origin, const ledger::WitnessPolicy& policy,
                      std::chrono::milliseconds timeout);

}  // namespace sallyport::ledger_service

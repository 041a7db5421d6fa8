#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attestation/api/messages.h"
#include "broker/keyguard/client.h"
#include "broker/ledger/sequencer.h"
#include "broker/sessions/peer.h"

namespace sallyport::sessions {

// Broker is the use cases: who has proved what may have which statement recorded, and what is released when.
// It judges nothing by itself: the fold, the keyguard and the peers do. From any thread, one call at a time
// per Peer.
class Broker {
 public:
  // A broker that starts appends, beside its work, what a crash left out: a refusal, or the closing leaf of a
  // quorum that was met.
  Broker(std::shared_ptr<ledger_service::Sequencer> log, std::shared_ptr<keyguard::Client> keyguard,
         ledger_service::Clock clock);
  ~Broker();

  // stop_waiting makes long polls, now and later, answer at once with what there is: a server that stops.
  void stop_waiting();

  // The connection.
  api::Hello hello(Peer& peer);
  Result<DeviceId> attest(Peer& peer, const api::Attest& proof);
  Result<PersonId> sign_in(Peer& peer, ByteView ticket_envelope);
  Result<std::string> host_hello(Peer& peer, ByteView envelope);

  // The log, as followers and readers fetch it.
  Result<record::Batch> genesis();
  Result<record::Batch> follow(const Peer& peer, LeafIndex from, std::chrono::milliseconds wait);
  Result<std::shared_ptr<const Bytes>> joining(const Peer& peer);  // null: no snapshot yet
  Result<record::EntryPage> entries(const Peer& peer, LeafIndex from);
  Result<std::vector<std::string>> checkpoints(const Peer& peer, TreeSize from);

  // submit has a statement recorded, and what follows from it (refusal, closing leaf). A refusal is no error
  // here: it was recorded.
  Result<api::Submitted> submit(const Peer& peer, record::Submission submission);

  // submit_list has a list-approval recorded in each case that it lists, and closes those whose quorum it
  // completes. Each is judged by itself, and the answer tells of each, in the list's order; one with a
  // code is not recorded (no leaf), or recorded and not closed. The first that is unavailable ends it, and
  // the rest have its code: the same list sent again goes on there. It answers when the leaves are under a
  // checkpoint of the keyguard; witnesses are waited for a while, but whether they cosigned is not told.
  Result<std::vector<api::Submitted>> submit_list(const Peer& peer, const record::Submission& submission);

  Result<std::vector<api::CaseView>> list(const Peer& peer);
  Result<api::CaseView> view(const Peer& peer, const CaseId& case_id, std::optional<std::uint64_t> after,
                             std::chrono::milliseconds wait);
  Result<record::Blob> blob(const Peer& peer, const Digest256& sha256);
  // erasable gives cases that an erasure could name: the oldest, as many as one may.
  Result<std::vector<CaseId>> erasable(const Peer& peer, UnixMillis before);

  // activate grants, has it proven, and gives dossier and certificate; the same again for a case that has its
  // grant.
  Result<api::Activated> activate(const Peer& peer, const CaseId& case_id,
                                  std::vector<record::Blob> evidence);
  Result<api::Leased> lease(const Peer& peer, const CaseId& case_id, const api::LeaseAsk& ask);

  // The credential challenge of an enrolment: carried between approver and machine, not looked at.
  Result<std::uint64_t> add_challenge(const Peer& peer, const CaseId& case_id, api::Challenge challenge);
  Result<std::vector<api::Challenge>> open_challenges(const Peer& peer, const CaseId& case_id,
                                                      std::chrono::milliseconds wait);
  Status answer_challenge(const Peer& peer, const CaseId& case_id, std::uint64_t number, std::string answer);
  Result<std::string> challenge_answer(const Peer& peer, const CaseId& case_id, std::uint64_t number,
                                       std::chrono::milliseconds wait);

  ledger_service::Sequencer::Health health() const;

  // begin_log appends the genesis leaf to an empty log. Errors: kConflict when there is one.
  // With `before` it is a log that goes on from another one.
  Status begin_log(record::PolicyDocument policy, const std::optional<record::Continuation>& before);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::sessions

#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>

#include "attestation/net/http_server.h"
#include "attestation/record/ahead.h"
#include "attestation/record/state.h"
#include "broker/ledger/eraser.h"
#include "broker/ledger/standby_protocol.h"
#include "broker/store/store.h"

namespace sallyport::ledger_service {

// Standby holds a copy of the log that can go on as its writer: every entry, blob and note, folded by the
// same prepare() that the writer uses. It appends what follows from what it holds and nothing else; what it
// has taken is on disk before it says so. From any thread.
class Standby {
 public:
  // open folds what the store holds and compares roots. Bodies may be missing of which no erasure is here yet
  // (health says so): who starts as the writer refuses them. Errors: those of fold_store.
  static Result<std::unique_ptr<Standby>> open(std::shared_ptr<store::Store> store, Origin origin,
                                               const Digest256& genesis_policy);

  Result<Standing> standing();
  // meet compares a primary's head with what is held. Errors: kUnverified/kLogFork (the primary's tree is not
  // the one that is held); kDenied/kTrustAnchor (of another log).
  Result<Standing> meet(const StandbyHello& primary);
  // take appends entries that follow the held tree; those that it holds already are compared.
  //   Errors:  kStale/kLogOrder (they begin beyond what is held), kUnverified/kLogFork, or the reason for
  //            which prepare() refuses one: then none of the call is taken.
  Result<Standing> take(StreamedEntries entries);
  // take keeps notes that are signed as they must be and are of the held tree. Errors: kLogFork,
  // kLogCheckpoint, kLogQuorum, kLogOrder (of a larger tree).
  Result<Standing> take(const StreamedNotes& notes);
  Result<Standing> take(const record::Blob& attachment);
  Result<std::vector<Digest256>> lacks(const std::vector<Digest256>& attachments);

  struct Health {
    Standing standing;
    std::optional<std::chrono::milliseconds> since_heard;  // from a primary; none: never
    std::string refused;  // why the newest call was refused; empty: it was not
  };
  Health health();

  // note_call keeps for health how a primary's call ended.
  void note_call(const std::optional<Error>& refused);

 private:
  Standby(std::shared_ptr<store::Store> store, Origin origin, const Digest256& genesis_policy);
  Result<Standing> standing_locked();
  Status refold();
  Status fold_stored();
  Status folded(LeafIndex index, const record::Entry& entry);
  Status tell_eraser();
  // New is an entry to be folded; of an erased one there is only the leaf.
  struct New {
    record::Entry entry;  // moved from where it was opened
    std::optional<record::OpenedEntry> opened;
  };
  Result<std::vector<New>> open_new(std::vector<record::Entry> entries);
  Status compare_held(const record::EntryPage& page, const Digest256& old_root);
  Status keep(NoteKind kind, const std::string& note);

  std::shared_ptr<store::Store> store_;
  const Origin origin_;
  const Digest256 genesis_policy_;
  std::mutex mutex_;  // guards all below, and the order of writes
  record::State state_;
  record::RecentlyVerified recent_;
  std::optional<std::chrono::steady_clock::time_point> heard_;
  std::string refused_;
  Eraser eraser_;
};

// make_standby_handler gives the calls of README.md, "The stream to a standby", to those who prove one of
// these keys on their connection, and nothing to anybody else.
net::HttpHandler make_standby_handler(std::shared_ptr<Standby> standby, std::vector<KeyId> primaries);

}  // namespace sallyport::ledger_service

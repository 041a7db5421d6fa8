#pragma once

#include <functional>
#include <mutex>
#include <span>

#include "attestation/crypto/private_key.h"
#include "client/witness/store.h"

namespace sallyport::witness {

// Witness cosigns, for each of its logs, one growing history (C2SP tlog-witness), and never two: what it says
// is on disk before it is said. Any thread may call it.
class Witness {
 public:
  struct Options {
    crypto::PrivateKey key;
    std::string name;
    std::vector<ledger::NoteKey>
        logs;  // a key signs for the origin that is its name; several for one origin may be
    std::function<ledger::UnixSeconds()> clock;
    // stop is called once when the memory failed at a commit, so that nobody knows what is on disk: it must
    // end the process.
    std::function<void(const Error&)> stop;
    // For tests that kill the process: called around the commit of an accepted checkpoint.
    std::function<void()> before_commit, after_commit;
  };

  // make checks the logs' keys. Errors: kMalformed (no log, the same key twice, a witness's key among them,
  // our own key).
  static Result<std::unique_ptr<Witness>> make(Options options, std::unique_ptr<Store> store);

  // add_checkpoint answers the body of POST /add-checkpoint. 200 means: stored, then cosigned. 503: the
  // memory did not answer, or our clock went back behind what we have cosigned.
  ledger::WitnessAnswer add_checkpoint(std::string_view body);

  // find_checkpoint gives the newest note that we have cosigned of the log whose origin has this SHA-256.
  Result<std::optional<std::string>> find_checkpoint(const Digest256& origin_hash);

  Status check_memory();  // reads it
  const ledger::NoteKey& vkey() const { return vkey_; }

 private:
  Witness(Options options, ledger::NoteKey vkey, std::unique_ptr<Store> store);
  Result<std::optional<StoredTree>> decide(const std::optional<StoredTree>& stored,
                                           const ledger::AddCheckpointRequest& request,
                                           ledger::WitnessAnswer& answer);

  std::vector<ledger::NoteKey> log_keys(const Origin& origin) const;

  Options options_;
  ledger::NoteKey vkey_;
  std::mutex mutex_;
  std::unique_ptr<Store> store_;  // guarded by mutex_
};

}  // namespace sallyport::witness

#pragma once

#include <functional>
#include <mutex>
#include <span>

#include "attestation/crypto/private_key.h"
#include "client/witness/store.h"

namespace sallyport::witness {

// Sign makes an Ed25519 signature with the witness's key, which may be in a device.
using Sign = std::function<Result<crypto::Signature64>(ByteView message)>;

// Witness cosigns, for each of its logs, one growing history (C2SP tlog-witness), and never two: what it says
// is on disk before it is said. Any thread may call it.
class Witness {
 public:
  struct Options {
    ledger::NoteKey vkey;  // our own, which `sign` signs with
    Sign sign;
    std::vector<ledger::LogKey> logs;  // several keys for one origin may be
    std::function<ledger::UnixSeconds()> clock;
    // stop is called once when the memory failed at a commit, so that nobody knows what is on disk: it must
    // end the process.
    std::function<void(const Error&)> stop;
    // failed is told of each error of ours that a peer only sees as 503: of memory, clock or key.
    std::function<void(const Error&)> failed = {};
    // For tests that kill the process: called around the commit of an accepted checkpoint.
    std::function<void()> before_commit = {}, after_commit = {};
  };

  // make checks the logs' keys. Errors: kMalformed (no log, the same key twice for one origin, a witness's
  // key among them, our own key).
  static Result<std::unique_ptr<Witness>> make(Options options, std::unique_ptr<Store> store);

  // add_checkpoint answers the body of POST /add-checkpoint. 200 means: stored, then cosigned. 503: memory or
  // key did not answer, or our clock went back behind what we have cosigned.
  ledger::WitnessAnswer add_checkpoint(std::string_view body);

  // find_checkpoint gives the newest note that we have cosigned of the log whose origin has this SHA-256.
  Result<std::optional<std::string>> find_checkpoint(const Digest256& origin_hash);

  // Cosigned is where one of our logs stands.
  struct Cosigned {
    Origin origin;
    TreeSize size;
    std::chrono::seconds age;  // of the cosignature, by our clock
  };
  // list_cosigned lists the logs of which we have cosigned anything. Errors: kUnavailable/kStorage.
  Result<std::vector<Cosigned>> list_cosigned();

  Status check_memory();  // reads it
  const ledger::NoteKey& vkey() const { return options_.vkey; }

 private:
  Witness(Options options, std::unique_ptr<Store> store);
  Result<std::optional<StoredTree>> decide(const std::optional<StoredTree>& stored,
                                           const ledger::AddCheckpointRequest& request,
                                           ledger::WitnessAnswer& answer);
  Result<ledger::SignatureLine> cosign(ledger::UnixSeconds time, std::string_view text) const;
  Result<std::optional<StoredTree>> find(const Origin& origin);
  void tell(const Error& error) const;

  Options options_;
  std::vector<Origin> origins_;  // of our logs, each once
  std::mutex mutex_;
  std::unique_ptr<Store> store_;  // guarded by mutex_
};

}  // namespace sallyport::witness

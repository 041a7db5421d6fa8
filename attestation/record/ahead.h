#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>

#include "attestation/record/dossier.h"
#include "attestation/record/state.h"

// The signatures that a judgement will ask for, verified before it: on all cores, and before a lock is taken.
namespace sallyport::record {

struct ClaimedSignature {
  std::optional<crypto::PublicKey> key;  // none: a host's, which is recovered from the signature
  KeyId key_id;
  Bytes message;  // for P-256 its SHA-256
  crypto::Signature64 signature{};
};

// claimed_signatures lists the signatures that prepare() of this entry would verify, as far as `state` tells
// whose they should be. Nothing is judged: one that is not listed is verified by prepare itself. Cheap: no
// signature check. `asked_at` is the machine of a grant's request, where `state` has not come to that yet.
std::vector<ClaimedSignature> claimed_signatures(const State& state, const OpenedEntry& entry,
                                                 const std::optional<DeviceId>& asked_at = {});

// claimed_signatures of a dossier: those that verify_dossier would verify.
std::vector<ClaimedSignature> claimed_signatures(const ControlState& control, const Dossier& dossier);

// claimed_signatures of a cosigned checkpoint: those that ledger::check_quorum would verify.
std::vector<ClaimedSignature> claimed_signatures(const LoadedPolicy& policy, std::string_view note);

// verify_ahead verifies them; those that hold are in the result, for ControlState::remember. Those that
// `before` holds already are not verified again.
crypto::VerifiedSignatures verify_ahead(std::span<const ClaimedSignature> claimed,
                                        crypto::VerifiedSignatures before = {});

// RecentSignatures remembers what was verified ahead not long ago: one checkpoint is shown in many entries,
// and its signatures are verified once. It keeps the newest kKept to 2·kKept. Not for several threads at
// once.
class RecentSignatures {
 public:
  static constexpr std::size_t kKept = 8192;  // a megabyte
  // known gives those of `claimed` that are remembered, for verify_ahead.
  crypto::VerifiedSignatures known(std::span<const ClaimedSignature> claimed) const;
  void add(const crypto::VerifiedSignatures& verified);

 private:
  crypto::VerifiedSignatures newer_, older_;
};

// verify_ahead with what others showed not long ago; what held is remembered. `mutex` is the caller's, and
// guards `recent`: it is not held while signatures are verified. (This room has no mutex of its own.)
template <class Mutex>
std::shared_ptr<const crypto::VerifiedSignatures> verify_ahead(std::span<const ClaimedSignature> claimed,
                                                               RecentSignatures& recent, Mutex& mutex) {
  struct Lock {
    Mutex& held;
    explicit Lock(Mutex& one) : held(one) { held.lock(); }
    ~Lock() { held.unlock(); }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
  };
  auto before = [&] {
    const Lock lock{mutex};
    return recent.known(claimed);
  }();
  auto verified =
      std::make_shared<const crypto::VerifiedSignatures>(verify_ahead(claimed, std::move(before)));
  const Lock lock{mutex};
  recent.add(*verified);
  return verified;
}

// OpenRequests knows the machines of requests that were read and are not folded yet, for claimed_signatures
// of their grants. Not for several threads at once.
class OpenRequests {
 public:
  // read takes each entry as it is read; of a grant it gives the machine of the case's request, if it was
  // here.
  std::optional<DeviceId> read(const OpenedStatement& statement);
  void folded(const ledger::Leaf& leaf);

 private:
  std::map<CaseId, DeviceId> machines_;
};

}  // namespace sallyport::record

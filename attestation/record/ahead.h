#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>

#include "attestation/evidence/signature.h"
#include "attestation/record/dossier.h"
#include "attestation/record/state.h"

// What a judgement will ask for, verified before it: on all cores, and before a lock is taken.
namespace sallyport::record {

struct ClaimedSignature {
  std::optional<crypto::PublicKey> key;  // none: a host's, which is recovered from the signature
  KeyId key_id;
  Bytes message;  // for P-256 its SHA-256
  crypto::Signature64 signature{};
};

// A quote that logs and lists come with. Nobody's work is done for them before it has been verified.
struct ClaimedQuote {
  crypto::PublicKey attestation_key;  // of a live machine
  Bytes attest;
  evidence::TpmSignature signature;
};

// An event log, and the policy whose reference values it will be judged by.
struct ClaimedLog {
  ClaimedQuote quote;
  std::shared_ptr<const LoadedPolicy> policy;
  Bytes bytes;
  Digest256 digest;
};

// A machine's IMA list, and what its quote says of PCR 10.
struct ClaimedIma {
  ClaimedQuote quote;
  std::shared_ptr<const LoadedPolicy> policy;  // which wants one
  Digest256 pcr10;
  std::vector<Bytes> parts;
  std::vector<Digest256> digests;  // of the parts
};

struct Claims {
  std::vector<ClaimedSignature> signatures;
  std::vector<ClaimedLog> logs;
  std::vector<ClaimedIma> lists = {};
  void add(Claims more);
};

// claims_of lists the signatures, logs and IMA lists that prepare() of this entry would verify, as far as
// `state` tells whose they should be. Nothing is judged: what is not listed is verified by prepare itself.
// Cheap: no signature check. `asked_at` is the machine of a grant's request, where `state` has not come to
// that yet.
Claims claims_of(const State& state, const OpenedEntry& entry, const std::optional<DeviceId>& asked_at = {});

// claims_of a dossier: what verify_dossier would verify.
Claims claims_of(const ControlState& control, const Dossier& dossier);

// claims_of a cosigned checkpoint: the signatures that ledger::check_quorum would verify.
Claims claims_of(const LoadedPolicy& policy, std::string_view note);

// verify_ahead verifies them; what holds is in the result, for ControlState::remember. What `before` holds
// already is not verified again.
VerifiedAhead verify_ahead(const Claims& claims, VerifiedAhead before = {});

// RecentlyVerified remembers what was verified ahead not long ago: one checkpoint is shown in many entries,
// and its signatures are verified once; one boot's log with each request of a machine, and judged once. It
// keeps the newest kSignatures to 2·kSignatures, kLogs to 2·kLogs that were accepted, and ImaMemo::kMost
// beginnings of IMA lists. Not for several threads at once.
class RecentlyVerified {
 public:
  static constexpr std::size_t kSignatures = 8192;  // a megabyte
  static constexpr std::size_t kLogs = 4096;        // another, or two
  // known gives what of `claims` is remembered, for verify_ahead.
  VerifiedAhead known(const Claims& claims) const;
  void add(const VerifiedAhead& verified);

 private:
  VerifiedAhead newer_, older_;
};

// verify_ahead with what others showed not long ago; what held is remembered. `mutex` is the caller's, and
// guards `recent`: it is not held while anything is verified. (This room has no mutex of its own.)
template <class Mutex>
std::shared_ptr<const VerifiedAhead> verify_ahead(const Claims& claims, RecentlyVerified& recent,
                                                  Mutex& mutex) {
  struct Lock {
    Mutex& held;
    explicit Lock(Mutex& one) : held(one) { held.lock(); }
    ~Lock() { held.unlock(); }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
  };
  auto before = [&] {
    const Lock lock{mutex};
    return recent.known(claims);
  }();
  auto verified = std::make_shared<const VerifiedAhead>(verify_ahead(claims, std::move(before)));
  const Lock lock{mutex};
  recent.add(*verified);
  return verified;
}

// OpenRequests knows the machines of requests that were read and are not folded yet, for claims_of
// their grants. Not for several threads at once.
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

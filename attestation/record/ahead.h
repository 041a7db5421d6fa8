#pragma once

#include <optional>
#include <span>

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

// claimed_signatures of a cosigned checkpoint: those that ledger::check_quorum would verify.
std::vector<ClaimedSignature> claimed_signatures(const LoadedPolicy& policy, std::string_view note);

// verify_ahead verifies them; those that hold are in the result, for ControlState::remember.
crypto::VerifiedSignatures verify_ahead(std::span<const ClaimedSignature> claimed);

}  // namespace sallyport::record

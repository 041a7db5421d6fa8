#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>

#include "attestation/record/dossier.h"
#include "attestation/record/state.h"

namespace sallyport::gate {

inline constexpr std::chrono::seconds kMaxNoteAge{120};   // of the cosignatures, for a door to open
inline constexpr std::chrono::seconds kMaxBehind{150};    // of the cosignatures, for a session to stay
inline constexpr std::chrono::seconds kMaxClockSkew{30};  // of a cosignature from the future

// Followed is what the gate has followed of the log: a state, and the newest checkpoint accepted.
struct Followed {
  std::shared_ptr<const record::ControlState> control;           // null before the first leaf
  std::shared_ptr<const ledger::VerifiedCheckpoint> checkpoint;  // null before the first
};

// verify_followed checks that a quorum of witnesses signed the newest checkpoint at most `max_age` ago.
//   Proves:  no leaf older than that is hidden from this gate by fewer than a quorum of witnesses.
//   Errors:  kGateBehind.
Status verify_followed(const Followed& followed, UnixMillis now, std::chrono::seconds max_age);

// verify_login is the one judgement of the gate, the same for sshd's principals command and for each session:
// may the holder of `certificate` (wire form) be one of `accounts` on `host` now?
//   Proves:         what verify_dossier and verify_ssh_certificate prove; the grant is for this host and for
//                   one of these accounts; the log was followed to at most kMaxNoteAge ago.
//   Does not prove: that the peer holds the session key: sshd checks that; or that the machine still is in
//   its
//                   boot state: each of its signatures did.
//   Errors:         kMalformed, kGateBehind, kGateHost, kGateAccount, and those of the checks named.
Result<record::VerifiedGrant> verify_login(const Followed& followed, const std::string& host,
                                           std::span<const std::string> accounts, ByteView certificate,
                                           UnixMillis now);

}  // namespace sallyport::gate

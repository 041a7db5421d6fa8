#pragma once

#include "attestation/record/dossier.h"
#include "client/terminal/command.h"

namespace sallyport::client::engineer {

// What an engineer asks for.
struct Wish {
  std::string target;  // a host, or a resource that has one
  std::string account;
  std::string reason;
  std::string beneficiary;
  std::uint64_t duration_s = 0;
  std::vector<std::string> files;  // to attach
};

// Asked is a request that was made: its case, and the session key that waits for its grant in this boot.
struct Asked {
  CaseId case_id;
  record::Request request;
  Digest256 digest;
  tpm::SessionKey key;
};

// ask makes the session key, signs the request with the person's token and this machine's quotes, and has it
// recorded.
//   Errors: the reason of a refusal (which is recorded, with its leaf), or what went wrong before.
Result<Asked> ask(Opened& opened, const Wish& wish);

// take_up goes on with a request that this machine made in this boot, by this or another process: the TPM
// derives the case's key anew, and it is the one that was asked for.
//   Errors: kCaseUnknown (no request of this person), kCaseDenied, kCaseExpired, kCaseClosed, kNotAttested
//   (asked from another machine), kBootCounters (the key is gone: another boot, a suspend, or another boot
//   state).
Result<Asked> take_up(Opened& opened, const CaseId& case_id);

// wait_for_quorum shows who has approved, until the quorum is met. Errors: kCaseDenied, kCaseExpired,
// kPending (at `until`).
using SteadyTime = std::chrono::steady_clock::time_point;
Result<api::CaseView> wait_for_quorum(Opened& opened, const Asked& asked, SteadyTime until);

// Access is a granted session: the certificate, and what it proved to us before we use it.
struct Access {
  Bytes certificate;
  Bytes dossier;
  record::VerifiedGrant grant;
  tpm::SessionKey key;
};

// activate sends a fresh quote, and verifies what comes back with our own follower before it is used. What is
// away (witnesses, keyguard, broker, a busy TPM) is waited for until `until`, or the grant's end: the session
// key is here, and the approvals would be for nothing.
Result<Access> activate(Opened& opened, const Asked& asked, SteadyTime until);

// awaited names what an activation that failed so can be tried again for; empty when trying again is of no
// use.
std::string_view awaited(const Error& error);

// refused_text tells, from the policy that this machine follows, what the refusal means and which limited way
// exists, if it is another rule's; empty when unknown.
std::string refused_text(const policy::Policy& policy, const record::Request& request, Reason code);

}  // namespace sallyport::client::engineer

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
  api::Submitted submitted;
};

// ask makes the session key, signs the request with the person's token and this machine's quotes, and has it
// recorded.
//   Errors: the reason of a refusal (which is recorded, with its leaf), or what went wrong before.
Result<Asked> ask(Opened& opened, const Wish& wish);

// wait_for_quorum shows who has approved, until the quorum is met. Errors: kCaseDenied, kCaseExpired,
// kPending (after `patience`).
Result<api::CaseView> wait_for_quorum(Opened& opened, const Asked& asked, std::chrono::milliseconds patience);

// Access is a granted session: the certificate, and what it proved to us before we use it.
struct Access {
  Bytes certificate;
  Bytes dossier;
  record::VerifiedGrant grant;
  tpm::SessionKey key;
};

// activate sends a fresh quote, and verifies what comes back with our own follower before it is used.
Result<Access> activate(Opened& opened, const Asked& asked);

// refused_text tells, from the policy that this machine follows, what the refusal means and which limited way
// exists; empty when unknown.
std::string refused_text(const policy::Policy& policy, const record::Request& request, Reason code);

}  // namespace sallyport::client::engineer

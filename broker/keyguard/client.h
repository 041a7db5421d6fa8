#pragma once

#include <chrono>
#include <filesystem>
#include <memory>

#include "attestation/crypto/public_key.h"
#include "attestation/record/batch.h"
#include "broker/keyguard/protocol.h"

namespace sallyport::keyguard {

// Client is the broker's side of the keyguard's socket: a few connections, from any thread, reopened when
// they break. It believes nothing: the caller verifies what comes back. Errors: what the keyguard refused, or
// kUnavailable/kKeyguardAway, kHsmAway.
class Client {
 public:
  Client(std::filesystem::path socket, std::chrono::milliseconds timeout);
  ~Client();

  Result<StatusAnswer> status();
  Result<std::string> advance(const record::Batch& batch);        // the signed note
  Result<Bytes> certify(ByteView full_dossier);                   // an SSH certificate, wire form
  Result<Bytes> lease_statement(const LeaseStatementCall& call);  // a DSSE envelope
  Result<crypto::Signature64> lease(const LeaseCall& call);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::keyguard

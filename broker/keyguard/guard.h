#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "attestation/follow/follower.h"
#include "hsm-config/pkcs11/token.h"

namespace sallyport::keyguard {

using Clock = std::function<UnixMillis()>;

// Guard stands in front of the HSM. It knows the log by itself (a follower's state), judges with
// verify_dossier, and uses a key only for what it has verified; its own state is on disk before a signature
// leaves it.
class Guard {
 public:
  // init makes the state of a guard of the log whose first policy this is: once, on purpose. Errors:
  // kConflict when there is one.
  static Status init(const std::filesystem::path& directory, const follow::TrustAnchor& anchor);

  // open reads the state back and finds the region's keys on the token, logged in already.
  //   Errors: kUnavailable/kStorage (no state: a guard never begins anew by itself), kTokenKey.
  static Result<std::unique_ptr<Guard>> open(const std::filesystem::path& directory, pkcs11::Token token,
                                             Clock clock);
  ~Guard();

  // known gives what the guard of this directory has followed, without the HSM: for another log to go on
  // from.
  //   Errors: kUnavailable/kStorage.
  static Result<std::shared_ptr<const record::ControlState>> known(const std::filesystem::path& directory);

  // answer answers one frame (README.md), an error frame for whatever it refuses. From any thread.
  Bytes answer(ByteView frame);

  follow::TrustAnchor anchor() const;

 private:
  struct Impl;
  explicit Guard(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::keyguard

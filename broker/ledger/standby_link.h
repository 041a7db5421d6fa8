#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attestation/crypto/private_key.h"
#include "broker/ledger/standby_protocol.h"
#include "broker/store/store.h"

namespace sallyport::ledger_service {

struct StandbyAddress {
  std::string url;  // https://host:port
  KeyId key;        // that it must prove: SHA-256 of its SubjectPublicKeyInfo
};
// parse_standby_address takes "https://host:port sha256:HEX". parse_key_pin takes "sha256:HEX". Errors:
// kUsage.
Result<StandbyAddress> parse_standby_address(std::string_view text);
Result<KeyId> parse_key_pin(std::string_view text);

struct StandbyOptions {
  std::vector<StandbyAddress> standbys;   // none: nothing of all this
  std::optional<crypto::PrivateKey> key;  // P-256, by which a standby knows us
  bool best_effort = false;               // a standby that is away delays once, and stops nothing
  std::chrono::milliseconds wait{5'000};  // for a standby to hold what is to be signed
};

// StandbyLinks streams a log to its standbys, a thread for each: all that the store holds, from wherever the
// standby is. From any thread.
class StandbyLinks {
 public:
  // `behind` is called, from a link's thread, when a standby holds more of this very log than we do.
  // `head` is what is committed now.
  StandbyLinks(std::shared_ptr<store::Store> store, Origin origin, store::Head head, StandbyOptions options,
               std::function<void(const Error&)> behind);
  ~StandbyLinks();

  void holds(const store::Head& head);  // what is committed here
  void noted();                         // there are new notes in the store
  void noted_late(std::string note);    // a cosigned note of an earlier size has one line more

  // wait_held returns when every standby holds the first `size` entries; with best_effort, when those do that
  // kept up so far, or after the wait. `over` ends it early: it is asked when wake() was called.
  //   Errors: kUnavailable/kStandbyAway, naming each that does not and why.
  Status wait_held(TreeSize size, const std::function<bool()>& over);
  // wait_attachment is the same for an attachment that is in the store.
  Status wait_attachment(const Digest256& sha256);
  void wake();

  struct Link {
    std::string url;
    TreeSize size{0};
    bool in_step = false;
    std::string why;  // it is not; empty while it is only catching up
  };
  std::vector<Link> links() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::ledger_service

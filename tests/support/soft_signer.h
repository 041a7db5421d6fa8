#pragma once

#include <atomic>
#include <filesystem>

#include "attestation/crypto/digest.h"
#include "attestation/follow/follower.h"
#include "broker/ledger/sequencer.h"
#include "tests/support/matchers.h"

namespace sallyport::test {

// SoftSigner is a keyguard with its key in software: a follower that signs what it has followed, and which a
// test may take away or make lie.
class SoftSigner final : public ledger_service::CheckpointSigner {
 public:
  SoftSigner(const std::filesystem::path& file, const follow::TrustAnchor& anchor,
             const crypto::PrivateKey& key)
      : key_(key) {
    if (!std::filesystem::exists(file)) value_of(follow::Follower::create(file, anchor));
    follower_ = value_of(follow::Follower::open(file, anchor));
  }
  std::atomic<bool> away = false, lies = false;
  std::atomic<Reason> lacks = Reason::kKeyguardAway;  // what it says while it is away

  Result<store::Head> standing() override {
    if (away) return Error{Code::kUnavailable, lacks, "nobody listens"};
    const auto control = follower_->control();
    return store::Head{control->size(), control->root()};
  }
  Result<std::string> advance(const record::Batch& batch) override {
    if (away) return Error{Code::kUnavailable, lacks, "nobody listens"};
    SP_CHECK(follower_->advance(batch));
    const auto control = follower_->control();
    const Digest256 root = lies ? crypto::sha256(as_bytes("another tree")) : control->root();
    const std::string text = ledger::checkpoint_text(
        {.origin = control->origin(), .size = control->size(), .root = root, .extensions = {}});
    SP_TRY(const auto line, ledger::sign_note_line(key_, control->origin().get(), text));
    return ledger::encode_note({text, {line}});
  }

 private:
  crypto::PrivateKey key_;
  std::unique_ptr<follow::Follower> follower_;
};

}  // namespace sallyport::test

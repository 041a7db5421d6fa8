#pragma once

#include "attestation/ledger/merkle.h"
#include "attestation/ledger/signed_note.h"

namespace sallyport::ledger {

inline constexpr std::size_t kMaxOriginBytes = 255;

// Checkpoint is the head of a log: what a log signs and a witness cosigns (C2SP tlog-checkpoint).
struct Checkpoint {
  Origin origin;
  TreeSize size;
  Digest256 root;
  std::vector<std::string> extensions = {};  // no log of ours writes any; others may

  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

enum class Extensions : std::uint8_t { kRefuse, kAllow };

// checkpoint_text is the note text to be signed.
std::string checkpoint_text(const Checkpoint& checkpoint);

// parse_checkpoint_text takes a note text in its one spelling. Nothing is believed yet; in particular the
// root at size 0 is not judged. Errors: kMalformed.
Result<Checkpoint> parse_checkpoint_text(std::string_view text, Extensions extensions = Extensions::kRefuse);

// LogKey is a key that may sign for one origin. For logs of ours, and most others, the key's name is the
// origin; C2SP tlog-checkpoint only says that it should be.
struct LogKey {
  Origin origin;
  NoteKey key;

  friend bool operator==(const LogKey&, const LogKey&) = default;
};

// SignedCheckpoint is a checkpoint that its log has signed. No witness has been asked: two of them may
// contradict each other.
class SignedCheckpoint {
 public:
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const std::string& note() const { return note_; }  // as received

 private:
  friend Result<SignedCheckpoint> verify_checkpoint(std::string_view, std::span<const LogKey>, Extensions);
  SignedCheckpoint(Checkpoint checkpoint, std::string note)
      : checkpoint_(std::move(checkpoint)), note_(std::move(note)) {}
  Checkpoint checkpoint_;
  std::string note_;
};

// verify_checkpoint checks that a signed note is a checkpoint signed by the log.
//   Proves:         the log whose origin is log.name() signed this size and root; at size 0 the root is the
//   empty one. Does not prove: that others saw the same history (check_quorum), or that it is recent. Errors:
//   kMalformed; kUnverified, log/checkpoint (origin, signature, or a key that signs cosignatures).
// With several keys, any one of those for the checkpoint's origin may have signed.
Result<SignedCheckpoint> verify_checkpoint(std::string_view note, const NoteKey& log);
Result<SignedCheckpoint> verify_checkpoint(std::string_view note, std::span<const NoteKey> logs,
                                           Extensions extensions);
Result<SignedCheckpoint> verify_checkpoint(std::string_view note, std::span<const LogKey> logs,
                                           Extensions extensions);

// keys_of gives those of `logs` that may sign for an origin: never a witness's.
std::vector<NoteKey> keys_of(const Origin& origin, std::span<const LogKey> logs);

}  // namespace sallyport::ledger

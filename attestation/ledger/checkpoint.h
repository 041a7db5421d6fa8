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
  std::vector<std::string> extensions = {};  // no log of ours writes any

  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

enum class Extensions : std::uint8_t { kRefuse, kAllow };

// checkpoint_text is the note text to be signed.
std::string checkpoint_text(const Checkpoint& checkpoint);

// parse_checkpoint_text takes a note text in its one spelling. Nothing is believed yet; in particular the
// root at size 0 is not judged. Errors: kMalformed.
Result<Checkpoint> parse_checkpoint_text(std::string_view text, Extensions extensions = Extensions::kRefuse);

// SignedCheckpoint is a checkpoint that its log has signed. No witness has been asked: two of them may
// contradict each other.
class SignedCheckpoint {
 public:
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const std::string& note() const { return note_; }  // as received

 private:
  friend Result<SignedCheckpoint> verify_checkpoint(std::string_view, std::span<const NoteKey>, Extensions);
  SignedCheckpoint(Checkpoint checkpoint, std::string note)
      : checkpoint_(std::move(checkpoint)), note_(std::move(note)) {}
  Checkpoint checkpoint_;
  std::string note_;
};

// verify_checkpoint checks that a signed note is a checkpoint signed by the log.
//   Proves:         the log whose origin is log.name() signed this size and root; at size 0 the root is the
//   empty one. Does not prove: that others saw the same history (check_quorum), or that it is recent. Errors:
//   kMalformed; kUnverified, log/checkpoint (origin, signature, or a key that signs cosignatures).
// With several keys, any one of those whose name is the origin may have signed.
Result<SignedCheckpoint> verify_checkpoint(std::string_view note, const NoteKey& log);
Result<SignedCheckpoint> verify_checkpoint(std::string_view note, std::span<const NoteKey> logs,
                                           Extensions extensions);

}  // namespace sallyport::ledger

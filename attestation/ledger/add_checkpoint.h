#pragma once

#include <optional>

#include "attestation/ledger/checkpoint.h"

// The pure half of C2SP tlog-witness: what a witness answers, and what a log makes of the answer.
namespace sallyport::ledger {

inline constexpr std::size_t kMaxAddCheckpointBytes = kMaxNoteBytes + 4 * 1024;

// AddCheckpointRequest is the body of POST <submission prefix>/add-checkpoint.
struct AddCheckpointRequest {
  TreeSize old_size;
  Proof proof;             // from old_size to the checkpoint's size
  std::string checkpoint;  // a signed note, verbatim

  friend bool operator==(const AddCheckpointRequest&, const AddCheckpointRequest&) = default;
};

// parse_add_checkpoint takes the body in its one spelling; the checkpoint is well-formed, with
// extension lines where its log writes any, and not yet believed. A witness answers 400 where it fails.
// Errors: kMalformed.
Result<AddCheckpointRequest> parse_add_checkpoint(std::string_view body);
std::string encode_add_checkpoint(const AddCheckpointRequest& request);

// claimed_origin gives the origin that a request names: by it the witness finds its keys and its state.
Result<Origin> claimed_origin(const AddCheckpointRequest& request);

// WitnessState is the newest checkpoint of one log that the witness has cosigned.
struct WitnessState {
  TreeSize size{0};
  Digest256 root = empty_root();

  friend bool operator==(const WitnessState&, const WitnessState&) = default;
};

struct WitnessAnswer {
  int status = 0;  // of HTTP
  std::string content_type;
  std::string body;
};

struct AddCheckpointDecision {
  WitnessAnswer answer;  // complete for a refusal; for 200 the body is still to be made: cosigned_answer
  std::optional<SignedCheckpoint>
      accepted;  // if 200: store it (compare-and-set on the state that was given), then cosign
};

// decide_add_checkpoint says what the witness does, given what it last cosigned of this log and the log's
// keys (none: the log is unknown). In this order: 404 unknown origin; 403 no trusted signature, or one that
// fails; 400 old size above the checkpoint's; 409 old size is not the state's (body: the state's size); 422
// root of size 0, proof with old size 0, bad proof, other root at the same size; else 200. `accepted` is set
// exactly for 200.
AddCheckpointDecision decide_add_checkpoint(const WitnessState& state, const AddCheckpointRequest& request,
                                            std::span<const LogKey> logs);

// malformed_answer is for a body that does not parse (400); cosigned_answer for an accepted one that has been
// stored (200).
WitnessAnswer malformed_answer();
WitnessAnswer cosigned_answer(std::span<const SignatureLine> cosignatures);

// parse_size_body reads the size in a 409 whose content type is text/x.tlog.size. A 409 without one is not a
// reason to retry. Errors: kMalformed.
inline constexpr std::string_view kTlogSizeContentType = "text/x.tlog.size";
Result<TreeSize> parse_size_body(std::string_view body);

struct VerifiedCosignature {
  SignatureLine line;
  UnixSeconds time;
};

// verify_cosigned_body finds the witness's cosignature over `text` (of the checkpoint that was sent) in the
// body of a 200, and drops the lines of all other keys, unread.
//   Proves:         the witness cosigned this text, at the time that it says.
//   Errors:         kMalformed; kUnverified, log/checkpoint (none of this witness, two, or one that does not
//   verify).
Result<VerifiedCosignature> verify_cosigned_body(std::string_view body, const NoteKey& witness,
                                                 std::string_view text);

}  // namespace sallyport::ledger

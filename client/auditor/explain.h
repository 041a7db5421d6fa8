#pragma once

#include <filesystem>

#include "attestation/follow/follower.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/dossier.h"

namespace sallyport::client::auditor {

// Explanation is one access in plain words. All text of others in it is printable.
struct Explanation {
  std::string summary;
  std::vector<std::string> layers;  // one sentence or two for each layer of the proof
  std::string verified_against;
  record::json::Value json;
};

// LaterLeaf is a leaf of the same case after the grant.
struct LaterLeaf {
  LeafIndex index;
  UnixMillis time;
  record::Kind kind = record::Kind::kLease;
};

// explain verifies a dossier as of its grant's leaf and tells what it proves.
//   Proves:  what verify_dossier proves against `control`, whose owner knows how far it has followed.
//   Errors:  those of verify_dossier.
Result<Explanation> explain(const record::Dossier& dossier, const record::ControlState& control,
                            const follow::TrustAnchor& anchor, const std::vector<LaterLeaf>& later = {},
                            const std::vector<std::string>& since = {});

// LogAround is the log around a grant, as an export has it.
struct LogAround {
  record::ControlState then;        // with the grant's leaf as its newest
  record::ControlState now;         // at the export's end
  std::vector<LaterLeaf> later;     // of the case
  std::vector<LeafIndex> erasures;  // of whatever cases
};

// replay_around replays an export from the policy that the anchor pins, past the grant's leaf of a dossier,
// of which nothing is judged but that its checkpoint is one of this history.
//   Errors:  those of replay_control; kLogFork when dossier and export are of two histories; kGateBehind when
//   the export ends before the grant.
Result<LogAround> replay_around(const record::Dossier& dossier, const std::filesystem::path& directory,
                                const follow::TrustAnchor& anchor);

// explain_from_export replays an export, judges the dossier as it was when the grant was logged, and tells
// what came later: uses, and what was revoked since.
//   Errors:  those of replay_control and verify_dossier; kLogFork when dossier and export are of two
//   histories;
//            kGateBehind when the export ends before the grant.
Result<Explanation> explain_from_export(const record::Dossier& dossier,
                                        const std::filesystem::path& directory,
                                        const follow::TrustAnchor& anchor);

}  // namespace sallyport::client::auditor

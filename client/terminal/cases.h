#pragma once

#include <functional>

#include "client/terminal/command.h"

namespace sallyport::client {

// How long a statement may take until witnesses have cosigned it and this machine has followed.
inline constexpr std::chrono::seconds kProofPatience{20};

// LeafAt gives a leaf of the log as this machine's own follower has taken it.
using LeafAt = std::function<Result<ledger::Leaf>(LeafIndex)>;
LeafAt leaves_of(Opened& opened);

// open_shown opens a leaf of a case as the broker shows it.
//   Proves:         our own log holds this leaf, of this case, and the body is the leaf's.
//   Does not prove: what the body says, or who signed it.   Errors: kLogBody; those of `leaf_at`.
Result<record::Body> open_shown(const LeafAt& leaf_at, const CaseId& case_id, const api::EntryView& one);

// pick_case gives the case that a person named by its id or the beginning of it, among those that the broker
// lists. Errors: those of find_case_id.
Result<CaseId> pick_case(Opened& opened, const std::string& typed);

// find_denial gives the denial among the leaves of a case that the broker shows.
//   Proves:  our own log holds it; who follows has folded it, so it is signed by that person's token.
//   Nothing: nobody has denied the case, or what is shown as a denial is not in our own log.
struct DeniedBy {
  std::string person, reason;
  UnixMillis time;
};
std::optional<DeniedBy> find_denial(const LeafAt& leaf_at, const api::CaseView& view);
// The same, by the log of a session, which follows to the head when it does not know of a denial yet.
std::optional<DeniedBy> find_denial(Opened& opened, const api::CaseView& view);
// denial_text: "alice 40 s ago: \"not now\"", printable.
std::string denial_text(const DeniedBy& denied, UnixMillis now);

// wait_cosigned follows until a leaf is under a cosigned checkpoint.
//   Proves:         our own log holds, at this index, a leaf of this kind and case.
//   Does not prove: what its body says; for control kinds the follower has folded it (ask its control()).
//   False:          it is another leaf, or that takes longer than kProofPatience.
bool wait_cosigned(Opened& opened, LeafIndex leaf, record::Kind kind, const CaseId& case_id);

}  // namespace sallyport::client

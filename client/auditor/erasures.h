#pragma once

#include <functional>
#include <string>
#include <vector>

#include "attestation/record/state.h"
#include "client/auditor/directory.h"

// What the erasures of a log cover: of each case that one names, the leaves from its request on, if it was
// opened before the erasure's limit (record::covers). Nothing is judged here: verify_export and
// replay_control say whether an erasure holds.
namespace sallyport::client::auditor {

struct KnownErasure {
  LeafIndex leaf;
  UnixMillis time;
  record::ErasureProposed what;
  std::vector<std::string> approved_by;
};
// open_erasure reads an entry of kind erasure. Errors: kMalformed.
Result<KnownErasure> open_erasure(const record::OpenedStatement& statement, LeafIndex leaf, UnixMillis time);

// approvers_of names who signed the approvals that a closing statement embeds, in its order. Errors:
// kMalformed.
Result<std::vector<std::string>> approvers_of(const std::vector<Bytes>& envelopes, const CaseId& case_id);

// for_each_covered calls on_leaf for the leaves before each erasure that it covers, ascending, with the first
// erasure that does. It reads leaves only, up to the last erasure.
using OnCovered = std::function<Status(LeafIndex, const ledger::Leaf&, const KnownErasure&)>;
Status for_each_covered(ExportReader& reader, const std::vector<KnownErasure>& erasures,
                        const OnCovered& on_leaf);

}  // namespace sallyport::client::auditor

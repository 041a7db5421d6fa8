#include "attestation/record/covered.h"

namespace sallyport::record {

void CoveredLeaves::add(LeafIndex erasure, const ErasureProposed& what) {
  for (const CaseId& id : what.cases) naming_[id].push_back(erasures_.size());
  erasures_.push_back({erasure, &what});
  end_ = TreeSize{erasure.get()};
}

std::optional<std::size_t> CoveredLeaves::next(const ledger::Leaf& leaf) {
  const LeafIndex index = next_;
  next_ = LeafIndex{index.get() + 1};
  if (leaf.predecessor == ledger::kNoPredecessor) {
    covered_.erase(leaf.case_id);  // an id may open another case, much later
    const auto named = naming_.find(leaf.case_id);
    if (named != naming_.end() && leaf.kind == static_cast<std::uint8_t>(Kind::kRequest))
      for (const std::size_t by : named->second)
        if (index < erasures_[by].leaf && covers(*erasures_[by].what, leaf.case_id, leaf.time)) {
          covered_.emplace(leaf.case_id, by);
          break;
        }
  }
  const auto found = covered_.find(leaf.case_id);
  if (found == covered_.end() || index >= erasures_[found->second].leaf) return std::nullopt;
  return found->second;
}

}  // namespace sallyport::record

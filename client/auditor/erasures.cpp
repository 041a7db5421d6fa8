#include "client/auditor/erasures.h"

#include <algorithm>
#include <map>

namespace sallyport::client::auditor {

Result<std::vector<std::string>> approvers_of(const std::vector<Bytes>& envelopes) {
  std::vector<std::string> out;
  for (const Bytes& bytes : envelopes) {
    SP_TRY(const record::Envelope envelope, record::parse_envelope(bytes));
    SP_TRY(const record::Approval approval, record::parse_approval(envelope.payload));
    out.push_back(approval.approver);
  }
  return out;
}

Result<KnownErasure> open_erasure(const record::OpenedStatement& statement, LeafIndex leaf, UnixMillis time) {
  SP_TRY(const record::Erasure erasure, record::parse_erasure(statement.envelope.payload));
  KnownErasure out{leaf, time, {}, {}};
  SP_TRY(out.what, record::parse_erased(statement));
  SP_TRY(out.approved_by, approvers_of(erasure.approvals));
  return out;
}

Status for_each_covered(ExportReader& reader, const std::vector<KnownErasure>& erasures,
                        const OnCovered& on_leaf) {
  std::map<CaseId, std::vector<const KnownErasure*>> naming;  // in the order of the log
  std::uint64_t end = 0;
  for (const KnownErasure& erasure : erasures) {
    for (const CaseId& id : erasure.what.cases) naming[id].push_back(&erasure);
    end = std::max(end, erasure.leaf.get());
  }
  std::map<CaseId, const KnownErasure*> covered;  // as far as the leaves have come
  for (std::uint64_t i = 0; i < end; ++i) {
    const LeafIndex index{i};
    SP_TRY(const ledger::Leaf leaf, reader.leaf(index));
    if (leaf.predecessor == ledger::kNoPredecessor) {
      covered.erase(leaf.case_id);  // an id may open another case, much later
      const auto named = naming.find(leaf.case_id);
      if (named != naming.end() && leaf.kind == static_cast<std::uint8_t>(record::Kind::kRequest))
        for (const KnownErasure* erasure : named->second)
          if (index < erasure->leaf && record::covers(erasure->what, leaf.case_id, leaf.time)) {
            covered.emplace(leaf.case_id, erasure);
            break;
          }
    }
    const auto found = covered.find(leaf.case_id);
    if (found != covered.end() && index < found->second->leaf) SP_CHECK(on_leaf(index, leaf, *found->second));
  }
  return Done{};
}

}  // namespace sallyport::client::auditor

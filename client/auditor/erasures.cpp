#include "client/auditor/erasures.h"

#include "attestation/record/covered.h"

namespace sallyport::client::auditor {

Result<std::vector<std::string>> approvers_of(const std::vector<Bytes>& envelopes, const CaseId& case_id) {
  std::vector<std::string> out;
  for (const Bytes& bytes : envelopes) {
    SP_TRY(const record::Envelope envelope, record::parse_envelope(bytes));
    SP_TRY(const record::Approval approval, record::claimed_approval(envelope, case_id));
    out.push_back(approval.approver);
  }
  return out;
}

Result<KnownErasure> open_erasure(const record::OpenedStatement& statement, LeafIndex leaf, UnixMillis time) {
  SP_TRY(const record::Erasure erasure, record::parse_erasure(statement.envelope.payload));
  KnownErasure out{leaf, time, {}, {}};
  SP_TRY(out.what, record::parse_erased(statement));
  SP_TRY(out.approved_by, approvers_of(erasure.approvals, erasure.case_id));
  return out;
}

Status for_each_covered(ExportReader& reader, const std::vector<KnownErasure>& erasures,
                        const OnCovered& on_leaf) {
  record::CoveredLeaves covered;
  for (const KnownErasure& erasure : erasures) covered.add(erasure.leaf, erasure.what);
  for (std::uint64_t i = 0; i < covered.end().get(); ++i) {
    const LeafIndex index{i};
    SP_TRY(const ledger::Leaf leaf, reader.leaf(index));
    if (const auto by = covered.next(leaf)) SP_CHECK(on_leaf(index, leaf, erasures[*by]));
  }
  return Done{};
}

}  // namespace sallyport::client::auditor

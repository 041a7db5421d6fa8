#include "broker/sessions/erasable.h"

#include <algorithm>
#include <map>
#include <set>

#include "attestation/base/hex.h"

namespace sallyport::sessions {
namespace {

constexpr std::uint64_t kChunk = 4096;

// each_request calls `with` for the leaf that opens each access case before `before`, in the order of the
// log.
template <class With>
Status each_request(store::Store& store, UnixMillis before, With with) {
  for (std::uint64_t at = 0;;) {
    SP_TRY(const auto leaves, store.leaves(LeafIndex{at}, kChunk));
    if (leaves.empty()) return Done{};
    for (const ledger::Leaf& leaf : leaves) {
      if (leaf.time >= before) return Done{};  // times do not decrease
      const LeafIndex index{at++};
      if (leaf.kind == static_cast<std::uint8_t>(record::Kind::kRequest)) SP_CHECK(with(index, leaf));
    }
  }
}

Result<bool> is_erased(store::Store& store, LeafIndex index) {
  bool erased = false;
  const auto look = [&](const store::StoredEntry& stored) -> Status {
    erased = record::is_erased(stored.entry);
    return Done{};
  };
  SP_CHECK(store.read(index, 1, look));
  return erased;
}

}  // namespace

Status check_erasable(store::Store& store, const record::ErasureProposed& proposed) {
  std::map<CaseId, LeafIndex> found;  // the newest of an id that was used again
  const auto add = [&](LeafIndex index, const ledger::Leaf& leaf) -> Status {
    if (record::covers(proposed, leaf.case_id, leaf.time)) found.insert_or_assign(leaf.case_id, index);
    return Done{};
  };
  SP_CHECK(each_request(store, proposed.before, add));
  for (const CaseId& id : proposed.cases) {
    const auto at = found.find(id);
    if (at == found.end())
      return Error{Code::kDenied, Reason::kErasureCase,
                   to_hex(id) + " is no access case that was opened before then"};
    SP_TRY(const bool erased, is_erased(store, at->second));
    if (erased) return Error{Code::kDenied, Reason::kErased, "case " + to_hex(id) + " was erased"};
  }
  return Done{};
}

Result<std::vector<CaseId>> erasable_cases(store::Store& store, const record::ControlState& control,
                                           UnixMillis before) {
  std::set<CaseId> out;
  const auto add = [&](LeafIndex index, const ledger::Leaf& leaf) -> Status {
    if (out.size() >= record::kMaxNamedCases || control.is_held(leaf.case_id)) return Done{};
    SP_TRY(const bool erased, is_erased(store, index));
    if (!erased) out.insert(leaf.case_id);
    return Done{};
  };
  SP_CHECK(each_request(store, before, add));
  return std::vector<CaseId>{out.begin(), out.end()};
}

}  // namespace sallyport::sessions

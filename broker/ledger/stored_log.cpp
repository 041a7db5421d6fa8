#include "broker/ledger/stored_log.h"

#include <spdlog/spdlog.h>

#include "attestation/ledger/merkle.h"

namespace sallyport::ledger_service {
namespace {

constexpr std::uint64_t kReadChunk = 512;

ledger::NodeReader nodes_of(store::Store& store) {
  return [&store](unsigned level, std::uint64_t index) { return store.subtree(level, index); };
}

Error damaged(std::string what) {
  return Error{Code::kUnavailable, Reason::kStorage, std::move(what), Next::kCallOperator, 0};
}

}  // namespace

void stop_for_ever(std::string_view step, const Error& error) {
  spdlog::critical("{}: {}; stopping: the next start re-reads the log", step, describe(error));
  spdlog::shutdown();
  std::_Exit(70);
}

Result<record::Entry> with_blobs(store::Store& store, record::Entry entry, Attachments attachments) {
  if (record::is_erased(entry)) return entry;
  SP_TRY(const record::Body body, record::parse_body(entry.body));
  for (const record::EvidenceItem& item : body.items) {
    if (attachments == Attachments::kWithout && item.type == record::EvidenceType::kAttachment) continue;
    SP_TRY(auto blob, store.find_blob(item.sha256));
    if (!blob) continue;  // attachments come later, or not at all
    blob->type = item.type;
    entry.blobs.push_back(std::move(*blob));
  }
  return entry;
}

Status fold_store(store::Store& store, record::State& state,
                  const std::function<Status(const record::Entry&)>& folded) {
  SP_TRY(const store::Head head, store.head());
  for (std::uint64_t at = 0; at < head.size.get();) {
    std::vector<record::Entry> chunk;
    SP_CHECK(store.read(LeafIndex{at}, kReadChunk, [&](store::StoredEntry stored) -> Status {
      chunk.push_back(std::move(stored.entry));
      return Done{};
    }));
    if (chunk.empty()) return damaged("entries are missing");
    for (record::Entry& plain : chunk) {
      SP_TRY(const record::Entry entry, with_blobs(store, std::move(plain)));
      SP_TRY(record::Prepared prepared, record::is_erased(entry) ? record::prepare_erased(state, entry.leaf)
                                                                 : record::prepare(state, entry));
      record::commit(state, std::move(prepared));
      SP_CHECK(folded(entry));
    }
    at += chunk.size();
  }
  return check_folded(store, state);
}

Status check_folded(store::Store& store, const record::State& state) {
  SP_TRY(const store::Head head, store.head());
  if (state.control.size() != head.size || state.control.root() != head.root)
    return damaged("the stored entries do not lead to the stored root");
  SP_TRY(const Digest256 root, root_at(store, head.size));
  if (root != head.root) return damaged("the stored subtrees have another root");
  return Done{};
}

Result<Digest256> root_at(store::Store& store, TreeSize size) {
  SP_TRY(const ledger::CompactRange range, ledger::compact_range_at(size, nodes_of(store)));
  return range.root();
}

std::vector<store::Subtree> kept_subtrees(ledger::CompactRange range,
                                          const std::vector<record::Entry>& entries) {
  std::vector<store::Subtree> out;
  for (const record::Entry& entry : entries)
    range.append(ledger::leaf_hash(entry.leaf),
                 [&](unsigned level, std::uint64_t index, const Digest256& hash) {
                   if (store::is_kept(level)) out.push_back({level, index, hash});
                 });
  return out;
}

}  // namespace sallyport::ledger_service

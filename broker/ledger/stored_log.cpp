#include "broker/ledger/stored_log.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>

#include "attestation/ledger/merkle.h"
#include "attestation/program/lookahead.h"
#include "attestation/record/ahead.h"

namespace sallyport::ledger_service {
namespace {

ledger::NodeReader nodes_of(store::Store& store) {
  return [&store](unsigned level, std::uint64_t index) { return store.subtree(level, index); };
}

Error damaged(std::string what) {
  return Error{Code::kUnavailable, Reason::kStorage, std::move(what), Next::kCallOperator, 0};
}

// Ahead is what other threads did for an entry before its turn.
struct Ahead {
  ledger::Leaf leaf;
  std::optional<record::OpenedEntry> entry;  // none: erased
  std::shared_ptr<const record::VerifiedAhead> known;
};

// OpenerAhead opens stored entries on any thread, and folds them on one.
class OpenerAhead {
 public:
  OpenerAhead(store::Store& store, record::State& state) : store_(store), state_(state) {}

  Result<Ahead> look(record::Entry plain) {
    const ledger::Leaf leaf = plain.leaf;
    if (record::is_erased(plain)) return Ahead{leaf, std::nullopt, nullptr};
    SP_TRY(record::Entry entry, with_blobs(store_, std::move(plain)));
    SP_TRY(record::OpenedEntry opened, record::open_entry(std::move(entry)));
    const auto asked_at = [&] {
      const std::lock_guard lock{looking_};
      return requests_.read(opened.statement());
    }();
    const auto claimed = [&] {
      const std::shared_lock lock{folding_};
      return record::claims_of(state_, opened, asked_at);
    }();
    return Ahead{leaf, std::move(opened), record::verify_ahead(claimed, recent_, looking_)};
  }

  Status fold(const Ahead& one, const Folding& folding) {
    {
      const std::unique_lock lock{folding_};
      state_.control.remember(one.known);
    }
    SP_TRY(record::Prepared prepared,
           one.entry ? record::prepare(state_, *one.entry) : record::prepare_erased(state_, one.leaf));
    SP_CHECK(folding(one.leaf, one.entry ? &*one.entry : nullptr));
    {
      const std::unique_lock lock{folding_};
      record::commit(state_, std::move(prepared));
    }
    const std::lock_guard lock{looking_};
    requests_.folded(one.leaf);
    return Done{};
  }

 private:
  store::Store& store_;
  std::shared_mutex folding_;  // guards state_ while it changes; the thread that folds reads it without
  record::State& state_;
  std::mutex looking_;  // guards the next two
  record::OpenRequests requests_;
  record::RecentlyVerified recent_;
};

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

std::size_t bytes_of(const record::Entry& entry) {
  std::size_t bytes = entry.body.size();
  for (const record::Blob& blob : entry.blobs) bytes += blob.bytes.size();
  return bytes;
}

Status fold_store(store::Store& store, record::State& state, const Folding& folding) {
  SP_TRY(const store::Head head, store.head());
  OpenerAhead opener{store, state};
  using Lookahead = program::Lookahead<Result<Ahead>>;
  constexpr std::uint64_t kAtOnce = Lookahead::kTasks / 2;
  Lookahead ahead{std::thread::hardware_concurrency(), [](const Result<Ahead>& one) {
                    return one.has_value() && one->entry ? bytes_of(one->entry->entry()) : 0;
                  }};
  std::uint64_t given = 0;
  for (std::uint64_t at = 0; at < head.size.get(); ++at) {
    if (given < head.size.get() && given - at <= kAtOnce) {
      const std::uint64_t before = given;
      SP_CHECK(store.read(LeafIndex{given}, std::min(kAtOnce, head.size.get() - given),
                          [&](store::StoredEntry stored) -> Status {
                            ++given;
                            ahead.push(
                                [&opener, entry = std::move(stored.entry)] { return opener.look(entry); });
                            return Done{};
                          }));
      if (given == before) return damaged("entries are missing");
    }
    SP_TRY(const Ahead one, ahead.take());
    SP_CHECK(opener.fold(one, folding));
  }
  state.control.remember(nullptr);
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

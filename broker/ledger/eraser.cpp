#include "broker/ledger/eraser.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

#include "attestation/base/hex.h"
#include "attestation/record/covered.h"

namespace sallyport::ledger_service {
namespace {

constexpr std::uint64_t kChunk = 512;  // entries that are read at once: others read in between
constexpr std::chrono::seconds kRetry{10};

Error missing() {
  return Error{Code::kUnavailable, Reason::kStorage, "entries are missing", Next::kCallOperator, 0};
}

// covered_entries gives the entries of the cases that an erasure covers: of each from its request on.
Result<std::vector<LeafIndex>> covered_entries(store::Store& store, const record::ErasureProposed& what,
                                               LeafIndex erasure) {
  std::vector<LeafIndex> out;
  record::CoveredLeaves covered;
  covered.add(erasure, what);
  for (std::uint64_t at = 0; at < covered.end().get();) {
    SP_TRY(const auto leaves, store.leaves(LeafIndex{at}, std::min(kChunk, covered.end().get() - at)));
    if (leaves.empty()) return missing();
    for (const ledger::Leaf& leaf : leaves) {
      if (covered.next(leaf)) out.push_back(LeafIndex{at});
      ++at;
    }
  }
  return out;
}

// evidence_of gives what the bodies of these entries name. A note is left out: it is a checkpoint of the log,
// which many entries name and which says nothing of anybody.
Result<std::set<Digest256>> evidence_of(store::Store& store, const std::vector<LeafIndex>& entries) {
  std::set<Digest256> out;
  const auto add = [&](const store::StoredEntry& stored) -> Status {
    if (record::is_erased(stored.entry)) return Done{};
    SP_TRY(const record::Body body, record::parse_body(stored.entry.body));
    for (const record::EvidenceItem& item : body.items)
      if (item.type != record::EvidenceType::kNote) out.insert(item.sha256);
    return Done{};
  };
  for (const LeafIndex index : entries) SP_CHECK(store.read(index, 1, add));
  return out;
}

// keep_used takes out of `evidence` what other entries from `from` on name. It gives where the log ends now.
Result<std::uint64_t> keep_used(store::Store& store, const std::vector<LeafIndex>& erased, std::uint64_t from,
                                std::set<Digest256>& evidence) {
  const auto keep = [&](const store::StoredEntry& stored) -> Status {
    ++from;
    if (record::is_erased(stored.entry) || std::binary_search(erased.begin(), erased.end(), stored.index))
      return Done{};
    SP_TRY(const record::Body body, record::parse_body(stored.entry.body));
    for (const record::EvidenceItem& item : body.items) evidence.erase(item.sha256);
    return Done{};
  };
  for (;;) {
    const std::uint64_t began = from;
    SP_CHECK(store.read(LeafIndex{from}, kChunk, keep));
    if (from == began) return from;
  }
}

}  // namespace

Eraser::Eraser(std::shared_ptr<store::Store> store, Quiet quiet)
    : store_(std::move(store)), quiet_(std::move(quiet)) {}

Eraser::~Eraser() {
  {
    const std::lock_guard lock{mutex_};
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Eraser::folded(LeafIndex erasure, record::ErasureProposed what) {
  const std::lock_guard lock{mutex_};
  due_.push_back({erasure, std::move(what)});
  wake_.notify_all();
}

void Eraser::proved(TreeSize cosigned, LeafIndex snapshot) {
  const std::lock_guard lock{mutex_};
  cosigned_ = std::max(cosigned_, cosigned);
  before_ = std::max(before_, snapshot);
  wake_.notify_all();
}

void Eraser::begin() {
  thread_ = std::thread{[this] { work(); }};
}

// erase does one erasure. False: some of its entries are not before `before`.
Result<bool> Eraser::erase(const Due& due, LeafIndex before) {
  SP_TRY(const LeafIndex done, store_->erased_to());
  if (due.erasure < done) return true;
  SP_TRY(const auto entries, covered_entries(*store_, due.what, due.erasure));
  if (!entries.empty() && entries.back() >= before) return false;
  SP_TRY(auto evidence, evidence_of(*store_, entries));
  SP_TRY(const std::uint64_t looked_at, keep_used(*store_, entries, 0, evidence));
  const auto delete_all = [&]() -> Status {
    SP_CHECK(keep_used(*store_, entries, looked_at, evidence));
    return store_->erase(entries, {evidence.begin(), evidence.end()}, LeafIndex{due.erasure.get() + 1});
  };
  if (const Status deleted = quiet_(delete_all); !deleted.has_value()) return deleted.error();
  spdlog::info("erasure at leaf {}: {} entries of {} cases, {} pieces of evidence", due.erasure.get(),
               entries.size(), due.what.cases.size(), evidence.size());
  return true;
}

void Eraser::work() {
  std::unique_lock lock{mutex_};
  LeafIndex tries_from{0};  // what was not to be deleted is tried again when this much may go
  for (;;) {
    wake_.wait(lock, [&] {
      return stop_ ||
             (!due_.empty() && due_.front().erasure.get() < cosigned_.get() && before_ >= tries_from);
    });
    if (stop_) return;
    const Due next = due_.front();
    const LeafIndex before = before_;
    lock.unlock();
    const auto erased = erase(next, before);
    lock.lock();
    if (!erased.has_value()) {
      spdlog::error("erasure at leaf {}: {}; it is tried again", next.erasure.get(),
                    describe(erased.error()));
      wake_.wait_for(lock, kRetry, [this] { return stop_; });
    } else if (*erased) {
      due_.erase(due_.begin());
      tries_from = LeafIndex{0};
    } else {
      tries_from = LeafIndex{before.get() + 1};
    }
  }
}

}  // namespace sallyport::ledger_service

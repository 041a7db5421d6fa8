#include "attestation/follow/follower.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "attestation/base/hex.h"
#include "attestation/sqlite/sqlite.h"

namespace sallyport::follow {
namespace {

using record::Batch;
using record::ControlState;
using sqlite::damaged;
using sqlite::Database;
using sqlite::exactly;
using sqlite::Statement;
using sqlite::Transaction;

constexpr const char* kSchema = R"(
CREATE TABLE anchor(origin TEXT NOT NULL, genesis BLOB NOT NULL);
CREATE TABLE leaf(idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE control(idx INTEGER PRIMARY KEY, nonce BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE control_blob(idx INTEGER NOT NULL, position INTEGER NOT NULL, type INTEGER NOT NULL, bytes BLOB NOT NULL,
                          PRIMARY KEY(idx, position)) WITHOUT ROWID;
CREATE TABLE head(size INTEGER PRIMARY KEY, root BLOB NOT NULL);
CREATE TABLE note(size INTEGER PRIMARY KEY, text TEXT NOT NULL);
PRAGMA user_version = 1;
)";

Error unverified(Reason reason, std::string what) {
  return Error{Code::kUnverified, reason, std::move(what)};
}

Result<ledger::Checkpoint> claimed_checkpoint(const std::string& note) {
  SP_TRY(const ledger::ClaimedNote parsed, ledger::parse_note(note));
  return ledger::parse_checkpoint_text(parsed.text);
}

// fold_leaf takes one leaf into a state that nobody else sees yet.
Status fold_leaf(ControlState& state, const ledger::Leaf& leaf, const record::Entry* entry) {
  SP_TRY(record::PreparedControl prepared, record::prepare_control(state, leaf, entry));
  record::commit(state, std::move(prepared));
  return Done{};
}

}  // namespace

struct Follower::Impl {
  TrustAnchor anchor;
  std::unique_ptr<Database> db;
  mutable std::mutex mutex;  // guards the three below; writers are one thread, by contract
  std::shared_ptr<const ControlState> control;
  std::string note;
  std::shared_ptr<const ledger::VerifiedCheckpoint> noted;

  // Folded is the state after a batch, and the root that the tree had on the way at the size of the batch's
  // note.
  struct Folded {
    std::shared_ptr<ControlState> next;
    std::optional<Digest256> root_at_note;
  };
  Result<Folded> fold(const Batch& batch) const {
    if (batch.from.get() != control->size().get())
      return Error{Code::kStale, Reason::kLogOrder,
                   "leaves from " + std::to_string(batch.from.get()) + ", expected from " +
                       std::to_string(control->size().get())};
    std::optional<TreeSize> wanted;
    if (!batch.note.empty()) {
      SP_TRY(const ledger::Checkpoint claimed, claimed_checkpoint(batch.note));
      wanted = claimed.size;
    }
    auto next = std::make_shared<ControlState>(*control);
    std::optional<Digest256> root;
    if (wanted == next->size()) root = next->root();
    auto body = batch.controls.begin();
    for (std::size_t i = 0; i < batch.leaves.size(); ++i) {
      const record::Entry* entry = nullptr;
      if (body != batch.controls.end() && body->index.get() == batch.from.get() + i) entry = &(body++)->entry;
      SP_CHECK(fold_leaf(*next, batch.leaves[i], entry));
      if (wanted == next->size()) root = next->root();
    }
    if (body != batch.controls.end())
      return Error{Code::kMalformed, "a control body for no leaf of the batch"};
    return Folded{std::move(next), root};
  }

  // root_at gives the root of the first `size` leaves that were taken, which are on disk.
  Result<Digest256> root_at(TreeSize size) const {
    Statement head{*db, "SELECT root FROM head WHERE size = ?"};
    SP_TRY(const bool row, head.bind(size.get()).step());
    if (row) {
      SP_TRY(const auto bytes, exactly<32>(head.bytes(0)));
      return Digest256{bytes};
    }
    ledger::CompactRange range;
    Statement leaves{*db, "SELECT bytes FROM leaf WHERE idx < ? ORDER BY idx"};
    leaves.bind(size.get());
    for (;;) {
      SP_TRY(const bool more, leaves.step());
      if (!more) break;
      SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(leaves.bytes(0)));
      range.append(ledger::leaf_hash(leaf));
    }
    if (range.size() != size) return damaged("leaves are missing");
    return range.root();
  }

  Status store(const Batch& batch, const ControlState& next, const std::string& new_note,
               TreeSize note_size) {
    Transaction transaction{*db};
    SP_CHECK(transaction.begin());
    Statement leaf{*db, "INSERT INTO leaf(idx, bytes) VALUES(?,?)"};
    for (std::size_t i = 0; i < batch.leaves.size(); ++i) {
      leaf.reset();
      SP_CHECK(leaf.bind(batch.from.get() + i).bind(ledger::encode_leaf(batch.leaves[i])).run());
    }
    for (const record::ControlEntry& control_entry : batch.controls) {
      const record::Entry& entry = control_entry.entry;
      Statement body{*db, "INSERT INTO control(idx, nonce, body) VALUES(?,?,?)"};
      SP_CHECK(body.bind(control_entry.index.get()).bind(view(entry.nonce)).bind(entry.body).run());
      for (std::size_t i = 0; i < entry.blobs.size(); ++i) {
        Statement blob{*db, "INSERT INTO control_blob(idx, position, type, bytes) VALUES(?,?,?,?)"};
        SP_CHECK(blob.bind(control_entry.index.get())
                     .bind(std::uint64_t{i})
                     .bind(std::uint64_t{static_cast<std::uint8_t>(entry.blobs[i].type)})
                     .bind(entry.blobs[i].bytes)
                     .run());
      }
    }
    if (!batch.leaves.empty()) {
      Statement head{*db, "INSERT INTO head(size, root) VALUES(?,?)"};
      SP_CHECK(head.bind(next.size().get()).bind(view(next.root())).run());
    }
    if (!new_note.empty()) {
      Statement insert{
          *db, "INSERT INTO note(size, text) VALUES(?,?) ON CONFLICT(size) DO UPDATE SET text=excluded.text"};
      SP_CHECK(insert.bind(note_size.get()).bind_text(new_note).run());
    }
    return transaction.commit();
  }

  // keep stores what was taken. Another process of the same owner may have followed in the same file
  // meanwhile (two terminals): what is there is taken then, and the caller begins again from it.
  Status keep(const Batch& batch, const ControlState& next, const std::string& new_note, TreeSize note_size) {
    Status stored = store(batch, next, new_note, note_size);
    if (stored.has_value() || stored.error().code != Code::kConflict) return stored;
    SP_CHECK(refold());
    return Error{Code::kStale, Reason::kLogOrder, "another process has followed in this file",
                 Next::kRetryLater, 0};
  }

  void publish(std::shared_ptr<const ControlState> next, const std::string& new_note,
               std::shared_ptr<const ledger::VerifiedCheckpoint> checked) {
    const std::lock_guard lock{mutex};
    control = std::move(next);
    if (checked) {
      note = new_note;
      noted = std::move(checked);
    }
  }

  // check_note verifies a cosigned note under the policy that rules at its size (`state` is at least as
  // large), and that it does not go back behind the one accepted.
  Result<std::shared_ptr<const ledger::VerifiedCheckpoint>> check_note(const std::string& text,
                                                                       const ControlState& state) const {
    SP_TRY(const ledger::Checkpoint claimed, claimed_checkpoint(text));
    const auto policy = state.policy_at(LeafIndex{std::min(claimed.size.get(), state.size().get())});
    if (!policy) return unverified(Reason::kTrustAnchor, "a checkpoint before the first policy");
    SP_TRY(auto checked, ledger::check_quorum(text, policy->witnesses));
    if (checked.origin() != anchor.origin)
      return unverified(Reason::kLogCheckpoint, "the checkpoint is of another log");
    if (noted && checked.size() < noted->size())
      return unverified(Reason::kLogRollback, "the checkpoint is older than the one accepted");
    return std::make_shared<const ledger::VerifiedCheckpoint>(std::move(checked));
  }

  // is_newer tells whether a verified note says more than the one accepted: of a larger tree, or of the same
  // one later.
  bool is_newer(const ledger::VerifiedCheckpoint& checked) const {
    return !noted || checked.size() > noted->size() || checked.median_time() > noted->median_time();
  }

  Status refold() {
    auto state = std::make_shared<ControlState>(ControlState::begin(anchor.origin, anchor.genesis_policy));
    std::map<std::uint64_t, record::Entry> entries;
    Statement bodies{*db, "SELECT idx, nonce, body FROM control"};
    for (;;) {
      SP_TRY(const bool row, bodies.step());
      if (!row) break;
      record::Entry entry;
      SP_TRY(const auto nonce, exactly<32>(bodies.bytes(1)));
      entry.nonce = Nonce{nonce};
      entry.body = to_bytes(bodies.bytes(2));
      entries.emplace(bodies.integer(0), std::move(entry));
    }
    Statement blobs{*db, "SELECT idx, type, bytes FROM control_blob ORDER BY idx, position"};
    for (;;) {
      SP_TRY(const bool row, blobs.step());
      if (!row) break;
      const auto at = entries.find(blobs.integer(0));
      if (at == entries.end()) return damaged("a blob of no body");
      at->second.blobs.push_back(
          {static_cast<record::EvidenceType>(blobs.integer(1)), to_bytes(blobs.bytes(2))});
    }
    Statement leaves{*db, "SELECT idx, bytes FROM leaf ORDER BY idx"};
    for (std::uint64_t expected = 0;; ++expected) {
      SP_TRY(const bool row, leaves.step());
      if (!row) break;
      if (leaves.integer(0) != expected) return damaged("a leaf is missing");
      SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(leaves.bytes(1)));
      const auto at = entries.find(expected);
      if (at != entries.end()) at->second.leaf = leaf;
      SP_CHECK(fold_leaf(*state, leaf, at == entries.end() ? nullptr : &at->second));
    }
    Statement head{*db, "SELECT size, root FROM head ORDER BY size DESC LIMIT 1"};
    SP_TRY(const bool has_head, head.step());
    if (has_head) {
      SP_TRY(const auto root, exactly<32>(head.bytes(1)));
      if (head.integer(0) != state->size().get() || Digest256{root} != state->root())
        return damaged("the leaves do not lead to the stored root");
    } else if (state->size().get() != 0) {
      return damaged("leaves without a root");
    }
    Statement newest{*db, "SELECT text FROM note ORDER BY size DESC LIMIT 1"};
    SP_TRY(const bool has_note, newest.step());
    if (has_note) {
      const std::string text = newest.text(0);
      const auto checked = check_note(text, *state);
      if (!checked.has_value()) return damaged("the newest checkpoint: " + describe(checked.error()));
      publish(state, text, *checked);
    }
    publish(state, {}, nullptr);
    return Done{};
  }
};

Follower::Follower(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Follower::~Follower() = default;

Status Follower::create(const std::filesystem::path& file, const TrustAnchor& anchor) {
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored))
    return Error{Code::kConflict, Reason::kConflict, file.string() + " exists already"};
  SP_TRY(auto db, Database::open(file.string()));
  Transaction transaction{*db};
  SP_CHECK(transaction.begin());
  SP_CHECK(db->execute(kSchema));
  Statement insert{*db, "INSERT INTO anchor(origin, genesis) VALUES(?,?)"};
  SP_CHECK(insert.bind_text(anchor.origin.get()).bind(view(anchor.genesis_policy)).run());
  return transaction.commit();
}

Result<std::unique_ptr<Follower>> Follower::open(const std::filesystem::path& file,
                                                 const TrustAnchor& anchor) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored))
    return Error{Code::kUnavailable, Reason::kStorage,
                 file.string() + " is missing: it is made once, on purpose", Next::kCallOperator, 0};
  auto impl = std::make_unique<Impl>();
  impl->anchor = anchor;
  SP_TRY(impl->db, Database::open(file.string()));
  {
    Statement select{*impl->db, "SELECT origin, genesis FROM anchor"};
    SP_TRY(const bool row, select.step());
    if (!row || select.text(0) != anchor.origin.get() || !equal(select.bytes(1), view(anchor.genesis_policy)))
      return damaged("it follows another log than the trust file names");
  }
  SP_CHECK(impl->refold());
  return std::unique_ptr<Follower>{new Follower{std::move(impl)}};
}

const TrustAnchor& Follower::anchor() const {
  return impl_->anchor;
}

std::shared_ptr<const ControlState> Follower::control() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->control;
}

Result<ledger::Leaf> Follower::leaf(LeafIndex index) const {
  Statement select{*impl_->db, "SELECT bytes FROM leaf WHERE idx = ?"};
  SP_TRY(const bool row, select.bind(index.get()).step());
  if (!row) return Error{Code::kUnavailable, Reason::kLogOrder, "the leaf was not taken yet"};
  return ledger::parse_leaf(select.bytes(0));
}

std::string Follower::note() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->note;
}

std::shared_ptr<const ledger::VerifiedCheckpoint> Follower::noted() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->noted;
}

Status Follower::accept(const Batch& batch) {
  SP_TRY(const auto folded, impl_->fold(batch));
  const auto& next = folded.next;
  SP_TRY(const auto checked, impl_->check_note(batch.note, *next));
  if (checked->size() != next->size())
    return Error{Code::kStale, Reason::kLogOrder,
                 "the checkpoint is of another size than the leaves lead to"};
  if (checked->root() != next->root())
    return unverified(Reason::kLogFork, "log and witnesses signed another root than these leaves have");
  if (batch.leaves.empty() && !impl_->is_newer(*checked)) return Done{};
  SP_CHECK(impl_->keep(batch, *next, batch.note, checked->size()));
  impl_->publish(next, batch.note, checked);
  return Done{};
}

Status Follower::advance(const Batch& batch) {
  SP_TRY(const auto folded, impl_->fold(batch));
  const auto& next = folded.next;
  std::shared_ptr<const ledger::VerifiedCheckpoint> checked;
  if (!batch.note.empty()) {
    SP_TRY(checked, impl_->check_note(batch.note, *next));
    if (checked->size() > next->size())
      return unverified(Reason::kLogRollback, "witnesses cosigned a larger log than these leaves lead to");
    std::optional<Digest256> root = folded.root_at_note;
    if (!root) {
      SP_TRY(root, impl_->root_at(checked->size()));
    }
    if (*root != checked->root())
      return unverified(Reason::kLogFork, "witnesses cosigned another root than ours");
    if (!impl_->is_newer(*checked)) checked = nullptr;
  }
  if (batch.leaves.empty() && !checked) return Done{};
  SP_CHECK(impl_->keep(batch, *next, checked ? batch.note : std::string{},
                       checked ? checked->size() : TreeSize{0}));
  impl_->publish(next, batch.note, checked);
  return Done{};
}

}  // namespace sallyport::follow

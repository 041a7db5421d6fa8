#include "attestation/follow/follower.h"

#include <algorithm>
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
CREATE TABLE anchor(origin TEXT NOT NULL, genesis BLOB NOT NULL, from_start INTEGER NOT NULL DEFAULT 1);
CREATE TABLE leaf(idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE control(idx INTEGER PRIMARY KEY, nonce BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE control_blob(idx INTEGER NOT NULL, position INTEGER NOT NULL, type INTEGER NOT NULL, bytes BLOB NOT NULL,
                          PRIMARY KEY(idx, position)) WITHOUT ROWID;
CREATE TABLE head(size INTEGER PRIMARY KEY, root BLOB NOT NULL);
CREATE TABLE note(size INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE snapshot(idx INTEGER PRIMARY KEY, range BLOB NOT NULL, state BLOB);
CREATE TABLE joined(first INTEGER NOT NULL, range BLOB NOT NULL);
CREATE TABLE former(origin TEXT PRIMARY KEY, genesis BLOB NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL);
PRAGMA user_version = 2;
)";
// Version 1 had no snapshots. `snapshot` has the compact range before each snapshot's leaf, and of the newest
// the state; `joined` where the leaves of a follower that joined begin, and the compact range before them;
// `former` where the logs ended that were given up for one that goes on from them.
constexpr const char* kFromVersion1 = R"(
ALTER TABLE anchor ADD COLUMN from_start INTEGER NOT NULL DEFAULT 1;
CREATE TABLE snapshot(idx INTEGER PRIMARY KEY, range BLOB NOT NULL, state BLOB);
CREATE TABLE joined(first INTEGER NOT NULL, range BLOB NOT NULL);
CREATE TABLE former(origin TEXT PRIMARY KEY, genesis BLOB NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL);
PRAGMA user_version = 2;
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

// TakenSnapshot is a snapshot's leaf, and the border of the tree before it.
struct TakenSnapshot {
  LeafIndex index;
  ledger::CompactRange before;
};

struct Follower::Impl {
  TrustAnchor trusted;  // as the trust file pins it
  TrustAnchor anchor;   // of the log that is followed; the mutex guards it too
  std::unique_ptr<Database> db;
  bool from_start = true;
  mutable std::mutex mutex;  // guards the three below; writers are one thread, by contract
  std::shared_ptr<const ControlState> control;
  std::string note;
  std::shared_ptr<const ledger::VerifiedCheckpoint> noted;

  Result<std::uint64_t> version() const {
    Statement select{*db, "PRAGMA user_version"};
    SP_TRY(const bool row, select.step());
    return row ? select.integer(0) : 0;
  }
  Status migrate() {
    SP_TRY(std::uint64_t at, version());
    if (at == 1) {
      Transaction transaction{*db};
      SP_CHECK(transaction.begin());
      SP_TRY(at, version());  // another process may have been faster
      if (at == 1) SP_CHECK(db->execute(kFromVersion1));
      SP_CHECK(transaction.commit());
      at = 2;
    }
    if (at != 2) return damaged("it is of no version that is known");
    return Done{};
  }

  // Folded is the state after a batch, and the root that the tree had on the way at the size of the batch's
  // note.
  struct Folded {
    std::shared_ptr<ControlState> next;
    std::optional<Digest256> root_at_note;
    std::vector<TakenSnapshot> snapshots;  // ascending
    std::optional<ControlState> snapshot;  // that the last of them is of
  };
  static Result<Folded> fold(const Batch& batch, const ControlState& from) {
    if (batch.from.get() != from.size().get())
      return Error{Code::kStale, Reason::kLogOrder,
                   "leaves from " + std::to_string(batch.from.get()) + ", expected from " +
                       std::to_string(from.size().get())};
    std::optional<TreeSize> wanted;
    if (!batch.note.empty()) {
      SP_TRY(const ledger::Checkpoint claimed, claimed_checkpoint(batch.note));
      wanted = claimed.size;
    }
    auto next = std::make_shared<ControlState>(from);
    Folded folded{.next = next, .root_at_note = {}, .snapshots = {}, .snapshot = {}};
    std::optional<Digest256>& root = folded.root_at_note;
    if (wanted == next->size()) root = next->root();
    auto body = batch.controls.begin();
    for (std::size_t i = 0; i < batch.leaves.size(); ++i) {
      const record::Entry* entry = nullptr;
      if (body != batch.controls.end() && body->index.get() == batch.from.get() + i) entry = &(body++)->entry;
      if (batch.leaves[i].kind == static_cast<std::uint8_t>(record::Kind::kSnapshot)) {
        folded.snapshots.push_back({LeafIndex{next->size().get()}, next->range()});
        folded.snapshot = *next;
      }
      SP_CHECK(fold_leaf(*next, batch.leaves[i], entry));
      if (wanted == next->size()) root = next->root();
    }
    if (body != batch.controls.end())
      return Error{Code::kMalformed, "a control body for no leaf of the batch"};
    return folded;
  }

  // range_before gives the compact range of the greatest size up to `size` that is kept; of none where all
  // leaves are.
  Result<ledger::CompactRange> range_before(TreeSize size) const {
    for (const char* sql : {"SELECT range FROM snapshot WHERE idx <= ? ORDER BY idx DESC LIMIT 1",
                            "SELECT range FROM joined WHERE first <= ?"}) {
      Statement kept{*db, sql};
      SP_TRY(const bool row, kept.bind(size.get()).step());
      if (row) return ledger::CompactRange::parse(kept.bytes(0));
    }
    SP_TRY(const std::optional<LeafIndex> first, joined_at());
    if (first) return before_joining(*first);
    return ledger::CompactRange{};
  }
  Result<std::optional<LeafIndex>> joined_at() const {
    Statement joined{*db, "SELECT first FROM joined"};
    SP_TRY(const bool row, joined.step());
    return row ? std::optional{LeafIndex{joined.integer(0)}} : std::nullopt;
  }
  static Error before_joining(LeafIndex first) {
    return Error{Code::kUnavailable, Reason::kLogOrder,
                 "this follower joined the log from a snapshot and has no leaves before " +
                     std::to_string(first.get()) + "; one that is made with --from-start has them"};
  }

  // root_at gives the root of the first `size` leaves that were taken, which are on disk.
  Result<Digest256> root_at(TreeSize size) const {
    Statement head{*db, "SELECT root FROM head WHERE size = ?"};
    SP_TRY(const bool row, head.bind(size.get()).step());
    if (row) {
      SP_TRY(const auto bytes, exactly<32>(head.bytes(0)));
      return Digest256{bytes};
    }
    SP_TRY(ledger::CompactRange range, range_before(size));
    Statement leaves{*db, "SELECT bytes FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx"};
    leaves.bind(range.size().get()).bind(size.get());
    for (;;) {
      SP_TRY(const bool more, leaves.step());
      if (!more) break;
      SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(leaves.bytes(0)));
      range.append(ledger::leaf_hash(leaf));
    }
    if (range.size() != size) return damaged("leaves are missing");
    return range.root();
  }

  Status put_leaves(std::uint64_t index, const std::vector<ledger::Leaf>& leaves) {
    Statement put{*db, "INSERT INTO leaf(idx, bytes) VALUES(?,?)"};
    for (const ledger::Leaf& leaf : leaves) {
      put.reset();
      SP_CHECK(put.bind(index++).bind(ledger::encode_leaf(leaf)).run());
    }
    return Done{};
  }
  Status put_control(LeafIndex index, const record::Entry& entry) {
    Statement body{*db, "INSERT INTO control(idx, nonce, body) VALUES(?,?,?)"};
    SP_CHECK(body.bind(index.get()).bind(view(entry.nonce)).bind(entry.body).run());
    for (std::size_t i = 0; i < entry.blobs.size(); ++i) {
      Statement blob{*db, "INSERT INTO control_blob(idx, position, type, bytes) VALUES(?,?,?,?)"};
      SP_CHECK(blob.bind(index.get())
                   .bind(std::uint64_t{i})
                   .bind(std::uint64_t{static_cast<std::uint8_t>(entry.blobs[i].type)})
                   .bind(entry.blobs[i].bytes)
                   .run());
    }
    return Done{};
  }
  // drop_cases takes away what followers were given of access cases before a snapshot, denials and grants: a
  // restart folds from the snapshot on, and no more is kept of people than is needed.
  Status drop_cases(LeafIndex before) {
    constexpr const char* kOfCases =
        " WHERE idx < ? AND idx IN (SELECT control.idx FROM control JOIN leaf ON leaf.idx = control.idx "
        "WHERE substr(leaf.bytes, 2, 1) IN (x'09', x'0a'))";
    static_assert(static_cast<int>(record::Kind::kDenial) == 9 && static_cast<int>(record::Kind::kGrant) == 10);
    for (const char* table : {"control_blob", "control"}) {
      const std::string sql = "DELETE FROM " + std::string{table} + kOfCases;
      Statement drop{*db, sql.c_str()};
      SP_CHECK(drop.bind(before.get()).run());
    }
    return Done{};
  }
  // put_snapshots keeps the ranges of all, and the state of the newest alone.
  Status put_snapshots(const std::vector<TakenSnapshot>& snapshots, ByteView newest) {
    SP_CHECK(db->execute("UPDATE snapshot SET state = NULL WHERE state IS NOT NULL"));
    Statement put{*db, "INSERT INTO snapshot(idx, range) VALUES(?,?)"};
    for (const TakenSnapshot& taken : snapshots) {
      put.reset();
      SP_CHECK(put.bind(taken.index.get()).bind(taken.before.encode()).run());
    }
    Statement state{*db, "UPDATE snapshot SET state = ? WHERE idx = ?"};
    SP_CHECK(state.bind(newest).bind(snapshots.back().index.get()).run());
    return drop_cases(snapshots.back().index);
  }

  Status store(const Batch& batch, const Folded& folded, const std::string& new_note, TreeSize note_size) {
    Transaction transaction{*db};
    SP_CHECK(transaction.begin());
    SP_CHECK(put(batch, folded, new_note, note_size));
    return transaction.commit();
  }
  // store_joined is store for a follower that has nothing: what it joins from, and the leaves after that.
  Status store_joined(const record::Joining& joining, const ControlState& joined, const Batch& batch,
                      const Folded& folded, TreeSize note_size) {
    Transaction transaction{*db};
    SP_CHECK(transaction.begin());
    const std::uint64_t first = joining.before.size().get();
    Statement put_joined{*db, "INSERT INTO joined(first, range) VALUES(?,?)"};
    SP_CHECK(put_joined.bind(first).bind(joining.before.encode()).run());
    SP_CHECK(put_leaves(first, joining.leaves));
    // The chain of policies, from the newest to the first; its texts are in the state.
    auto policy = joined.policy();
    for (auto entry = joining.policies.rbegin(); entry != joining.policies.rend(); ++entry) {
      const LeafIndex index = policy->first_index;
      if (index.get() < first) SP_CHECK(put_leaves(index.get(), {entry->leaf}));
      SP_CHECK(put_control(index, *entry));
      policy = joined.policy_at(index);
    }
    TakenSnapshot taken{LeafIndex{first + joining.leaves.size()}, joining.before};
    for (const ledger::Leaf& leaf : joining.leaves) taken.before.append(ledger::leaf_hash(leaf));
    SP_CHECK(put_leaves(taken.index.get(), {joining.snapshot.leaf}));
    SP_CHECK(put_control(taken.index, joining.snapshot));
    SP_CHECK(put_snapshots({taken}, joining.state));
    SP_CHECK(put(batch, folded, batch.note, note_size));
    return transaction.commit();
  }
  Status put(const Batch& batch, const Folded& folded, const std::string& new_note, TreeSize note_size) {
    SP_CHECK(check_same_log());
    const ControlState& next = *folded.next;
    SP_CHECK(put_leaves(batch.from.get(), batch.leaves));
    for (const record::ControlEntry& control_entry : batch.controls)
      SP_CHECK(put_control(control_entry.index, control_entry.entry));
    if (folded.snapshot) SP_CHECK(put_snapshots(folded.snapshots, record::encode_control(*folded.snapshot)));
    Statement newest_head{*db, "SELECT 1 FROM head WHERE size = ?"};
    SP_TRY(const bool known, newest_head.bind(next.size().get()).step());
    if (!known) {
      Statement head{*db, "INSERT INTO head(size, root) VALUES(?,?)"};
      SP_CHECK(head.bind(next.size().get()).bind(view(next.root())).run());
    }
    if (!new_note.empty()) {
      Statement insert{
          *db, "INSERT INTO note(size, text) VALUES(?,?) ON CONFLICT(size) DO UPDATE SET text=excluded.text"};
      SP_CHECK(insert.bind(note_size.get()).bind_text(new_note).run());
    }
    return Done{};
  }

  // read_anchor finds which log is followed: the one that is trusted, or one that goes on from it.
  Status read_anchor() {
    Statement select{*db, "SELECT origin, genesis, from_start FROM anchor"};
    SP_TRY(const bool row, select.step());
    if (!row) return damaged("it follows no log");
    SP_TRY(const auto genesis, exactly<32>(select.bytes(1)));
    const TrustAnchor followed{Origin{select.text(0)}, Digest256{genesis}};
    Statement before{*db, "SELECT 1 FROM former WHERE origin = ? AND genesis = ?"};
    SP_TRY(const bool went_on,
           before.bind_text(trusted.origin.get()).bind(view(trusted.genesis_policy)).step());
    if (!went_on && (followed.origin != trusted.origin || followed.genesis_policy != trusted.genesis_policy))
      return damaged("it follows another log than the trust file names");
    from_start = select.integer(2) != 0;
    const std::lock_guard lock{mutex};
    if (followed.origin != anchor.origin) {
      note.clear();
      noted = nullptr;
    }
    anchor = followed;
    return Done{};
  }
  // check_same_log is kConflict when another process has gone on to another log in this file.
  Status check_same_log() const {
    Statement select{*db, "SELECT 1 FROM anchor WHERE origin = ? AND genesis = ?"};
    SP_TRY(const bool same, select.bind_text(anchor.origin.get()).bind(view(anchor.genesis_policy)).step());
    if (!same) return Error{Code::kConflict, Reason::kConflict, "another log is followed in this file"};
    return Done{};
  }
  // store_next gives up this log for the next one, of which `batch` is the first leaf.
  Status store_next(const TrustAnchor& next, const Batch& batch, const Folded& folded) {
    Transaction transaction{*db};
    SP_CHECK(transaction.begin());
    SP_CHECK(check_same_log());
    Statement end{*db, "INSERT INTO former(origin, genesis, size, root, note) VALUES(?,?,?,?,?)"};
    SP_CHECK(end.bind_text(anchor.origin.get())
                 .bind(view(anchor.genesis_policy))
                 .bind(control->size().get())
                 .bind(view(control->root()))
                 .bind_text(note)
                 .run());
    for (const char* table : {"leaf", "control", "control_blob", "head", "note", "snapshot", "joined"})
      SP_CHECK(db->execute(("DELETE FROM " + std::string{table}).c_str()));
    Statement begin{*db, "UPDATE anchor SET origin = ?, genesis = ?"};
    SP_CHECK(begin.bind_text(next.origin.get()).bind(view(next.genesis_policy)).run());
    SP_CHECK(put_first(batch, folded));
    return transaction.commit();
  }
  Status put_first(const Batch& batch, const Folded& folded) {
    SP_CHECK(put_leaves(0, batch.leaves));
    SP_CHECK(put_control(LeafIndex{0}, batch.controls.front().entry));
    Statement head{*db, "INSERT INTO head(size, root) VALUES(?,?)"};
    return head.bind(folded.next->size().get()).bind(view(folded.next->root())).run();
  }

  // keep stores what was taken. Another process of the same owner may have followed in the same file
  // meanwhile (two terminals): what is there is taken then, and the caller begins again from it.
  Status keep(const Batch& batch, const Folded& folded, const std::string& new_note, TreeSize note_size) {
    return kept(store(batch, folded, new_note, note_size));
  }
  Status kept(Status stored) {
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

  // check_end is check_note for a checkpoint that must be of the very tree that the leaves have led to.
  Result<std::shared_ptr<const ledger::VerifiedCheckpoint>> check_end(const std::string& text,
                                                                      const ControlState& state) const {
    SP_TRY(auto checked, check_note(text, state));
    if (checked->size() != state.size())
      return Error{Code::kStale, Reason::kLogOrder,
                   "the checkpoint is of another size than the leaves lead to"};
    if (checked->root() != state.root())
      return unverified(Reason::kLogFork, "log and witnesses signed another root than these leaves have");
    return checked;
  }

  // is_newer tells whether a verified note says more than the one accepted: of a larger tree, or of the same
  // one later.
  bool is_newer(const ledger::VerifiedCheckpoint& checked) const {
    return !noted || checked.size() > noted->size() || checked.median_time() > noted->median_time();
  }

  Result<ledger::Leaf> stored_leaf(LeafIndex index) const {
    Statement select{*db, "SELECT bytes FROM leaf WHERE idx = ?"};
    SP_TRY(const bool row, select.bind(index.get()).step());
    if (!row) return damaged("a leaf is missing");
    return ledger::parse_leaf(select.bytes(0));
  }
  // read_control gives the stored control body of a leaf.
  Result<record::Entry> read_control(LeafIndex index, const ledger::Leaf& leaf) const {
    record::Entry entry;
    entry.leaf = leaf;
    Statement body{*db, "SELECT nonce, body FROM control WHERE idx = ?"};
    SP_TRY(const bool has_body, body.bind(index.get()).step());
    if (!has_body) return damaged("a control body is missing");
    SP_TRY(const auto nonce, exactly<32>(body.bytes(0)));
    entry.nonce = Nonce{nonce};
    entry.body = to_bytes(body.bytes(1));
    Statement blobs{*db, "SELECT type, bytes FROM control_blob WHERE idx = ? ORDER BY position"};
    blobs.bind(index.get());
    for (;;) {
      SP_TRY(const bool row, blobs.step());
      if (!row) break;
      entry.blobs.push_back({static_cast<record::EvidenceType>(blobs.integer(0)), to_bytes(blobs.bytes(1))});
    }
    return entry;
  }

  // fold_base gives the state to fold from: after the newest snapshot that was taken, which is proved anew
  // from the policy that is pinned, or before the first leaf.
  Result<ControlState> fold_base() const {
    Statement newest{*db, "SELECT idx, range, state FROM snapshot ORDER BY idx DESC LIMIT 1"};
    SP_TRY(const bool row, newest.step());
    if (!row) {
      SP_TRY(const auto joined, joined_at());
      if (joined) return damaged("the snapshot that it joined from is missing");
      return ControlState::begin(anchor.origin, anchor.genesis_policy);
    }
    const LeafIndex index{newest.integer(0)};
    record::Joining joining;
    SP_TRY(joining.before, ledger::CompactRange::parse(newest.bytes(1)));
    joining.state = to_bytes(newest.bytes(2));
    Statement policies{*db,
                       "SELECT leaf.idx, leaf.bytes FROM control JOIN leaf ON leaf.idx = control.idx "
                       "WHERE control.idx < ? AND substr(leaf.bytes, 2, 1) = x'01' ORDER BY leaf.idx"};
    policies.bind(index.get());
    for (;;) {
      SP_TRY(const bool more, policies.step());
      if (!more) break;
      SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(policies.bytes(1)));
      SP_TRY(record::Entry entry, read_control(LeafIndex{policies.integer(0)}, leaf));
      joining.policies.push_back(std::move(entry));
    }
    SP_TRY(const ledger::Leaf leaf, stored_leaf(index));
    SP_TRY(joining.snapshot, read_control(index, leaf));
    auto state = record::join_control(anchor.origin, anchor.genesis_policy, joining);
    if (!state.has_value() || state->size().get() != index.get() + 1)
      return damaged("the snapshot at leaf " + std::to_string(index.get()) + ": " +
                     (state.has_value() ? "it is of another size" : describe(state.error())));
    return state;
  }

  Status refold() {
    SP_CHECK(read_anchor());
    SP_TRY(ControlState base, fold_base());
    auto state = std::make_shared<ControlState>(std::move(base));
    Statement leaves{*db, "SELECT idx, bytes FROM leaf WHERE idx >= ? ORDER BY idx"};
    leaves.bind(state->size().get());
    for (std::uint64_t expected = state->size().get();; ++expected) {
      SP_TRY(const bool row, leaves.step());
      if (!row) break;
      if (leaves.integer(0) != expected) return damaged("a leaf is missing");
      SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(leaves.bytes(1)));
      SP_TRY(const record::Kind kind, record::parse_kind(leaf.kind));
      std::optional<record::Entry> entry;
      if (record::is_control(kind)) {
        SP_TRY(entry, read_control(LeafIndex{expected}, leaf));
      }
      SP_CHECK(fold_leaf(*state, leaf, entry ? &*entry : nullptr));
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
      SP_TRY(const Digest256 root, (*checked)->size() == state->size() ? Result<Digest256>{state->root()}
                                                                       : root_at((*checked)->size()));
      if (root != (*checked)->root()) return damaged("the newest checkpoint is of another tree");
      publish(state, text, *checked);
    }
    publish(state, {}, nullptr);
    return Done{};
  }
};

Follower::Follower(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Follower::~Follower() = default;

Status Follower::create(const std::filesystem::path& file, const TrustAnchor& anchor, Begin begin) {
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored))
    return Error{Code::kConflict, Reason::kConflict, file.string() + " exists already"};
  SP_TRY(auto db, Database::open(file.string()));
  Transaction transaction{*db};
  SP_CHECK(transaction.begin());
  SP_CHECK(db->execute(kSchema));
  Statement insert{*db, "INSERT INTO anchor(origin, genesis, from_start) VALUES(?,?,?)"};
  SP_CHECK(insert.bind_text(anchor.origin.get())
               .bind(view(anchor.genesis_policy))
               .bind(std::uint64_t{begin == Begin::kFromStart ? 1u : 0u})
               .run());
  return transaction.commit();
}

Result<std::unique_ptr<Follower>> Follower::open(const std::filesystem::path& file,
                                                 const TrustAnchor& anchor) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored))
    return Error{Code::kUnavailable, Reason::kStorage,
                 file.string() + " is missing: it is made once, on purpose", Next::kCallOperator, 0};
  auto impl = std::make_unique<Impl>();
  impl->trusted = impl->anchor = anchor;
  SP_TRY(impl->db, Database::open(file.string()));
  SP_CHECK(impl->migrate());
  SP_CHECK(impl->refold());
  return std::unique_ptr<Follower>{new Follower{std::move(impl)}};
}

TrustAnchor Follower::anchor() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->anchor;
}

std::shared_ptr<const ControlState> Follower::control() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->control;
}

Result<ledger::Leaf> Follower::leaf(LeafIndex index) const {
  Statement select{*impl_->db, "SELECT bytes FROM leaf WHERE idx = ?"};
  SP_TRY(const bool row, select.bind(index.get()).step());
  if (row) return ledger::parse_leaf(select.bytes(0));
  SP_TRY(const std::optional<LeafIndex> first, impl_->joined_at());
  if (first && index < *first) return Impl::before_joining(*first);
  return Error{Code::kUnavailable, Reason::kLogOrder, "the leaf was not taken yet"};
}

std::string Follower::note() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->note;
}

std::shared_ptr<const ledger::VerifiedCheckpoint> Follower::noted() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->noted;
}

bool Follower::may_join() const {
  return !impl_->from_start && control()->size().get() == 0;
}

Status Follower::join(const record::Joining& joining, const Batch& batch) {
  if (impl_->control->size().get() != 0)
    return Error{Code::kConflict, Reason::kConflict, "this follower has begun already"};
  const TrustAnchor& trusted = impl_->anchor;
  SP_TRY(const ControlState joined, record::join_control(trusted.origin, trusted.genesis_policy, joining));
  SP_TRY(const auto folded, Impl::fold(batch, joined));
  SP_TRY(const auto checked, impl_->check_end(batch.note, *folded.next));
  SP_CHECK(impl_->kept(impl_->store_joined(joining, joined, batch, folded, checked->size())));
  impl_->publish(folded.next, batch.note, checked);
  return Done{};
}

Status Follower::go_on(const record::Entry& first) {
  const auto blob = [&](record::EvidenceType type) -> Result<ByteView> {
    const auto found = std::find_if(first.blobs.begin(), first.blobs.end(),
                                    [&](const record::Blob& one) { return one.type == type; });
    if (found == first.blobs.end())
      return unverified(Reason::kTrustAnchor, "the first leaf is not of a log that goes on from another one");
    return ByteView{found->bytes};
  };
  SP_TRY(const ByteView text, blob(record::EvidenceType::kPolicyText));
  SP_TRY(const policy::Policy policy, policy::parse_policy(as_text(text)));
  SP_TRY(const ByteView state, blob(record::EvidenceType::kControlState));
  SP_TRY(const ControlState before, record::parse_control(state));
  SP_CHECK(record::check_continues(*impl_->control, before));

  const TrustAnchor next{policy.authority.origin, policy.digest};
  const Batch batch{
      .from = LeafIndex{0}, .leaves = {first.leaf}, .controls = {{LeafIndex{0}, first}}, .note = {}};
  SP_TRY(const auto folded, Impl::fold(batch, ControlState::begin(next.origin, next.genesis_policy)));
  SP_CHECK(impl_->kept(impl_->store_next(next, batch, folded)));
  const std::lock_guard lock{impl_->mutex};
  impl_->anchor = next;
  impl_->control = folded.next;
  impl_->note.clear();
  impl_->noted = nullptr;
  return Done{};
}

Status Follower::accept(const Batch& batch) {
  SP_TRY(const auto folded, Impl::fold(batch, *impl_->control));
  const auto& next = folded.next;
  SP_TRY(const auto checked, impl_->check_end(batch.note, *next));
  if (batch.leaves.empty() && !impl_->is_newer(*checked)) return Done{};
  SP_CHECK(impl_->keep(batch, folded, batch.note, checked->size()));
  impl_->publish(next, batch.note, checked);
  return Done{};
}

Status Follower::advance(const Batch& batch) {
  SP_TRY(const auto folded, Impl::fold(batch, *impl_->control));
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
  SP_CHECK(impl_->keep(batch, folded, checked ? batch.note : std::string{},
                       checked ? checked->size() : TreeSize{0}));
  impl_->publish(next, batch.note, checked);
  return Done{};
}

}  // namespace sallyport::follow

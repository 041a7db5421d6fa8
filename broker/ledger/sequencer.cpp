#include "broker/ledger/sequencer.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>

#include <spdlog/spdlog.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "attestation/ledger/compact_range.h"
#include "attestation/record/ahead.h"
#include "attestation/record/times.h"
#include "broker/ledger/eraser.h"
#include "broker/ledger/stored_log.h"
#include "broker/ledger/witness_round.h"

namespace sallyport::ledger_service {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kBatchBytes = 48u << 20;  // of control bodies and their blobs in one batch
constexpr milliseconds kSignerRetry{100};
constexpr milliseconds kWitnessRetry{500};
constexpr milliseconds kSnapshotLook{60'000};        // how often an idle log looks whether one is due
constexpr milliseconds kSnapshotRetry{10 * 60'000};  // after one that was refused
constexpr milliseconds kFirstRoundPatience{250};     // for those who might know of more than the quorum
constexpr std::size_t kNotesRemembered = 1'024;
constexpr milliseconds kMaxDraftAge{1'000};  // a leaf's time is no further behind the clock than that

Error unavailable(Reason reason, std::string what) {
  return Error{Code::kUnavailable, reason, std::move(what), Next::kRetryLater, 0};
}

// part_of names the part that keeps the signer from signing, as peers are told it. What names a part that
// does not answer is passed on; the rest is for our own log.
Reason part_of(const Error& trouble) {
  // The keyguard wants fresh word of the witnesses, and they are asked for it already.
  if (trouble.code == Code::kStale) return Reason::kLogQuorum;
  const bool away = reason_exit_code(trouble.reason) == reason_exit_code(Reason::kUnavailable);
  return away ? trouble.reason : Reason::kUnavailable;
}

Result<record::OpenedEntry> open_composed(Result<record::Entry> entry) {
  SP_TRY(record::Entry composed, std::move(entry));
  SP_CHECK(record::parse_body(composed.body));  // what a peer sent is malformed: it is no body of the log yet
  return record::open_entry(std::move(composed));
}

bool is_control_leaf(const ledger::Leaf& leaf) {
  const auto kind = record::parse_kind(leaf.kind);
  return kind.has_value() && record::is_control(*kind);
}

}  // namespace

struct Sequencer::Impl {
  // Waiting is a caller of append. Each has a mutex of its own, so that nobody is woken for another.
  struct Waiting {
    std::mutex mutex;  // guards all below
    std::condition_variable told;
    Draft draft;  // what it refers to is there until its caller has left, and no longer
    steady_clock::time_point deadline;
    bool left = false;
    std::optional<Result<Appended>> done;

    void tell(Result<Appended> answer) {
      {
        const std::lock_guard lock{mutex};
        done = std::move(answer);
      }
      told.notify_one();
    }
  };

  std::shared_ptr<store::Store> store;
  std::shared_ptr<CheckpointSigner> signer;
  SequencerOptions options;
  Clock clock;
  std::unique_ptr<WitnessRounds> rounds;
  std::unique_ptr<StandbyLinks> links;  // null: there is no standby
  std::unique_ptr<Eraser> eraser;

  UnixMillis begun{0};                         // the first leaf's time; the writer's
  steady_clock::time_point next_snapshot_try;  // the writer thread's

  // Snapshot is a snapshot's leaf and the state that it is of: a copy, which costs nothing.
  struct Snapshot {
    LeafIndex index;
    std::shared_ptr<const record::ControlState> before;
  };
  std::mutex joining_mutex;  // guards the two below; never held with another
  std::optional<LeafIndex> joining_of;
  std::shared_ptr<const Bytes> joining;

  std::optional<TreeSize> signer_at;  // where the signer stands, if that is known; the writer thread's

  // The fold: written by the writer thread alone.
  mutable std::shared_mutex state_mutex;
  record::State state{record::begin_state(Origin{}, Digest256{})};

  std::mutex verifying;  // guards the next
  record::RecentlyVerified recent;

  mutable std::mutex mutex;  // guards all below
  std::condition_variable wake_writer, wake_witness, changed;
  std::deque<std::shared_ptr<Waiting>> queue;
  std::string signed_note;  // newest
  TreeSize signed_size{0};
  std::string cosigned_note;
  TreeSize cosigned_size{0};
  std::vector<Snapshot> snapshots;  // the newest, and the one before
  std::string trouble_signer, trouble_witness, trouble_standby;
  Reason signer_lacks = Reason::kUnavailable;  // while there is trouble_signer
  std::optional<Error> read_only;              // why nothing is taken any more, until the next start
  bool heard = false;                          // a quorum of witnesses has cosigned since the start
  bool released = false;                       // wait_change waits no more
  std::uint64_t round_count = 0;
  bool stop = false;

  std::thread writer, witness;

  ~Impl() {
    {
      const std::lock_guard lock{mutex};
      stop = true;
    }
    wake_writer.notify_all();
    wake_witness.notify_all();
    changed.notify_all();
    if (links) links->wake();
    if (writer.joinable()) writer.join();
    if (witness.joinable()) witness.join();
    eraser.reset();  // both tell it of what they find
    links.reset();   // their threads tell us of what they find
    rounds.reset();
  }

  // turn_read_only takes nothing more, from this moment on. A link that tells us wakes the links itself.
  void turn_read_only(const Error& why, bool from_link = false) {
    {
      const std::lock_guard lock{mutex};
      if (read_only) return;
      read_only = why;
    }
    spdlog::critical("read-only: {}; {}", describe(why), kSeeRunbook);
    wake_writer.notify_all();
    changed.notify_all();
    if (!from_link && links) links->wake();
  }

  // folding looks at a leaf that is about to be committed, whose statement is null where it is erased. The
  // writer's, or before there is one.
  Status folding(const ledger::Leaf& leaf, const record::OpenedStatement* statement) {
    const LeafIndex index{state.control.size().get()};
    if (index.get() == 0) begun = leaf.time;
    if (statement != nullptr && statement->body.kind == record::Kind::kErasure) {
      SP_TRY(record::ErasureProposed what, record::parse_erased(*statement));
      eraser->folded(index, std::move(what));
    }
    if (leaf.kind == static_cast<std::uint8_t>(record::Kind::kSnapshot) && state.control.is_whole()) {
      auto before = std::make_shared<record::ControlState>(state.control);
      before->remember(nullptr);
      const std::lock_guard lock{mutex};
      snapshots.push_back({index, std::move(before)});
      if (snapshots.size() > 2) snapshots.erase(snapshots.begin());
    }
    return Done{};
  }

  // fold_stored folds what the store holds, before there is a writer. Nobody else sees the state yet.
  Status fold_stored() {
    SP_CHECK(fold_store(*store, state, [this](const ledger::Leaf& leaf, const record::OpenedEntry* entry) {
      return folding(leaf, entry != nullptr ? &entry->statement() : nullptr);
    }));
    return record::check_complete(state.control);
  }

  // ForFollower gathers stored entries into what a follower is given of them: the leaves, and control bodies.
  struct ForFollower {
    record::Batch batch;
    std::size_t bytes = 0;
    bool full = false;  // what came after is not in the batch
  };
  Status add(store::StoredEntry stored, ForFollower& out) const {
    const ledger::Leaf leaf = stored.entry.leaf;
    if (is_control_leaf(leaf) && !out.full) {
      if (record::is_erased(stored.entry))
        return Error{Code::kDenied, Reason::kErased,
                     "what followers need of leaf " + std::to_string(stored.index.get()) + " was erased"};
      SP_TRY(record::Entry entry, with_blobs(*store, std::move(stored.entry)));
      out.bytes += bytes_of(entry);
      out.full = out.bytes > kBatchBytes && !out.batch.leaves.empty();
      if (!out.full) out.batch.controls.push_back({stored.index, std::move(entry)});
    }
    if (!out.full) out.batch.leaves.push_back(leaf);
    return Done{};
  }

  // batch_from gives the leaves from `from` on, with control bodies: those before `upto`, or as many as one
  // batch holds.
  Result<record::Batch> batch_from(LeafIndex from, TreeSize upto) const {
    ForFollower out;
    out.batch.from = from;
    const std::uint64_t count = std::min<std::uint64_t>(upto.get() - from.get(), record::kMaxBatchLeaves);
    const Status read = store->read(from, count, [&](store::StoredEntry stored) -> Status {
      SP_CHECK(add(std::move(stored), out));
      if (out.full) return Error{Code::kInternal, "the batch is full"};  // ends the reading
      return Done{};
    });
    if (!read.has_value() && !out.full) return read.error();
    if (out.batch.leaves.size() != count && !out.full)
      return Error{Code::kUnavailable, Reason::kStorage, "leaves are missing"};
    return std::move(out.batch);
  }

  // common_size gives the size up to which the signer has followed, when its tree is ours.
  //   Errors: kUnverified/kLogRollback (it has followed further than this database goes), kLogFork
  //   (elsewhere).
  Result<TreeSize> common_size(const store::Head& head) const {
    SP_TRY(const store::Head standing, signer->standing());
    if (standing.size > head.size)
      return Error{Code::kUnverified, Reason::kLogRollback,
                   "the keyguard has signed size " + std::to_string(standing.size.get()) +
                       ", this database ends at size " + std::to_string(head.size.get()) +
                       ": entries that were signed are missing here",
                   Next::kCallOperator, 0};
    SP_TRY(const Digest256 root, root_at(*store, standing.size));
    if (root == standing.root) return standing.size;
    return Error{Code::kUnverified, Reason::kLogFork,
                 "the keyguard has signed size " + std::to_string(standing.size.get()) + " with root " +
                     to_hex(standing.root) + ", and here that size has root " + to_hex(root),
                 Next::kCallOperator, 0};
  }

  // sign_head has the signer follow to our head and sign it, checks the note and puts it on disk. (3) of the
  // order of durability. `newest`, if there is one, are the last leaves, as they were read back.
  Status sign_head(const store::Head& head, std::optional<record::Batch> newest) {
    if (!signer_at) {
      SP_TRY(signer_at, common_size(head));
    }
    TreeSize at = *std::exchange(signer_at, std::nullopt);
    std::string note;
    do {
      const bool continues = newest && newest->from.get() == at.get();
      SP_TRY(record::Batch batch, continues ? Result<record::Batch>{*std::exchange(newest, std::nullopt)}
                                            : batch_from(LeafIndex{at.get()}, head.size));
      {
        const std::lock_guard lock{mutex};
        // An older one, from before this start, could be behind what the keyguard has been shown.
        if (heard && cosigned_size.get() <= at.get() + batch.leaves.size()) batch.note = cosigned_note;
      }
      at = TreeSize{at.get() + batch.leaves.size()};
      SP_TRY(note, signer->advance(batch));
    } while (at < head.size);
    signer_at = at;

    const auto policy = policy_at(head.size);
    std::vector<ledger::NoteKey> logs;
    for (const ledger::PolicyLog& log : policy->witnesses.logs()) logs.push_back(log.key);
    SP_TRY(const auto checked, ledger::verify_checkpoint(note, logs, ledger::Extensions::kRefuse));
    if (checked.checkpoint().size != head.size || checked.checkpoint().root != head.root ||
        checked.checkpoint().origin != options.origin)
      return Error{Code::kUnverified, Reason::kLogCheckpoint, "the keyguard signed another tree than ours"};
    if (const Status stored = store->put_signed(head.size, note); !stored.has_value()) {
      if (stored.error().code == Code::kConflict) {
        // ECDSA notes differ from one signing to the next; the one on disk is the one that may have left.
        SP_TRY(const auto first, store->signed_note(head.size));
        SP_ASSERT(first.has_value());
        note = *first;
      } else {
        stop_for_ever("store the signed checkpoint", stored.error());
      }
    }
    {
      const std::lock_guard lock{mutex};
      signed_note = note;
      signed_size = head.size;
    }
    if (links) links->noted();
    return Done{};
  }

  // policy_at gives the policy that judges a checkpoint of this size.
  std::shared_ptr<const record::LoadedPolicy> policy_at(TreeSize size) const {
    const std::shared_lock lock{state_mutex};
    return state.control.policy_at(LeafIndex{size.get()});
  }

  // commit_batch is (1) and (2): compose, fold, commit as intent, read back and hash again by the store's own
  // bytes.
  struct Committed {
    std::vector<std::pair<std::shared_ptr<Waiting>, Appended>> to_tell;  // once it is signed
    std::optional<record::Batch> read_back;                              // none: nothing was appended
  };
  Committed commit_batch(const std::vector<std::shared_ptr<Waiting>>& batch) {
    Committed out;
    std::vector<record::Entry> entries;

    const std::unique_lock lock{state_mutex};
    const store::Head old{state.control.size(), state.control.root()};
    const ledger::CompactRange before = state.control.range();
    for (const auto& waiting : batch) {
      const auto taken = take(*waiting, entries);
      if (!taken.has_value())
        waiting->tell(taken.error());
      else if (taken->existed && taken->index.get() < old.size.get())
        waiting->tell(signed_by_now(*taken));
      else
        out.to_tell.emplace_back(waiting, *taken);
    }
    if (entries.empty()) return out;
    const store::Head next{state.control.size(), state.control.root()};
    if (const Status done = store->append(old, entries, kept_subtrees(before, entries), next);
        !done.has_value())
      stop_for_ever("append", done.error());
    rounds->holds(next.size);
    auto read_back = recheck(before, next);
    if (!read_back.has_value()) stop_for_ever("read back", read_back.error());
    if (links) links->holds(next);
    out.read_back = std::move(*read_back);
    return out;
  }

  // take has one entry judged and folded: as it was drafted, if that still fits, or composed anew.
  Result<Appended> take(Waiting& waiting, std::vector<record::Entry>& entries) {
    const std::lock_guard lock{waiting.mutex};
    if (waiting.left) return unavailable(Reason::kUnavailable, "nobody waits for this any more");
    if (steady_clock::now() >= waiting.deadline)
      return unavailable(Reason::kUnavailable, "the log was busy for too long");
    const UnixMillis time{std::max(clock().get(), state.control.last_time().get())};
    Draft& draft = waiting.draft;
    state.control.remember(draft.verified);
    const auto take_it = [&]() -> Result<Appended> {
      if (draft.entry && fits(draft.entry->entry().leaf, time)) {
        auto taken = take_opened(*draft.entry, entries);
        // A refusal may come from what has changed since: then it is for the entry as it would be now.
        if (taken.has_value()) return taken;
      }
      SP_TRY(record::OpenedEntry opened, open_composed(draft.compose(state, time)));
      return take_opened(opened, entries);
    };
    auto taken = take_it();
    state.control.remember(nullptr);
    return taken;
  }

  // fits tells whether a leaf that was drafted could be the next one.
  bool fits(const ledger::Leaf& leaf, UnixMillis time) const {
    return leaf.time >= state.control.last_time() && leaf.time <= time &&
           record::within_skew(leaf.time, time, kMaxDraftAge) &&
           leaf.predecessor == record::predecessor_of(state.control, leaf.case_id);
  }

  Result<Appended> take_opened(record::OpenedEntry& opened, std::vector<record::Entry>& entries) {
    const CaseId case_id = opened.entry().leaf.case_id;
    if (const auto at = record::find_statement(state, case_id, opened.statement().digest))
      return Appended{*at, case_id, TreeSize{at->get() + 1}, true};
    SP_TRY(record::Prepared prepared, record::prepare(state, opened));
    const LeafIndex index{state.control.size().get()};
    SP_CHECK(folding(opened.entry().leaf, &opened.statement()));
    record::commit(state, std::move(prepared));
    entries.push_back(std::move(opened).take());
    return Appended{index, case_id, TreeSize{index.get() + 1}, false};
  }

  // recheck reads back what was written, hashes it again and recomputes root and subtrees: a bit that flipped
  // on the way to the disk is found before anything is signed. It gives what the signer is to follow.
  Result<record::Batch> recheck(ledger::CompactRange range, const store::Head& next) const {
    ForFollower out;
    out.batch.from = LeafIndex{range.size().get()};
    std::vector<store::Subtree> subtrees;
    const auto on_node = [&](unsigned level, std::uint64_t index, const Digest256& hash) {
      if (store::is_kept(level)) subtrees.push_back({level, index, hash});
    };
    const auto read = [&](store::StoredEntry stored) -> Status {
      if (record::commitment(stored.entry.nonce, stored.entry.body) != stored.entry.leaf.commitment)
        return Error{Code::kInternal, "a stored body does not match its leaf"};
      range.append(ledger::leaf_hash(stored.entry.leaf), on_node);
      return add(std::move(stored), out);
    };
    const auto read_all = [&]() -> Status {
      SP_CHECK(store->read(out.batch.from, next.size.get() - out.batch.from.get(), read));
      for (const store::Subtree& subtree : subtrees) {
        SP_TRY(const Digest256 stored, store->subtree(subtree.level, subtree.index));
        if (stored != subtree.hash) return Error{Code::kInternal, "a stored subtree has another root"};
      }
      SP_TRY(const store::Head head, store->head());
      if (head.size != next.size || head.root != next.root)
        return Error{Code::kInternal, "the stored head is another"};
      return Done{};
    };
    SP_CHECK(store->snapshot(read_all));
    if (range.size() != next.size || range.root() != next.root)
      return Error{Code::kInternal, "the stored entries have another root"};
    return std::move(out.batch);
  }

  Appended signed_by_now(Appended appended) const {
    const std::lock_guard lock{mutex};
    appended.signed_size = std::max(appended.signed_size, signed_size);
    return appended;
  }

  store::Head head_of_state() const {
    const std::shared_lock lock{state_mutex};
    return {state.control.size(), state.control.root()};
  }

  // check_open tells why nothing more is taken. `mutex` is locked.
  Status check_open() const {
    if (stop) return unavailable(Reason::kUnavailable, "the log is being closed");
    if (read_only) return unavailable(Reason::kReadOnly, "the log takes no entries: " + describe(*read_only));
    if (queue.size() >= options.max_waiting)
      return unavailable(Reason::kRateLimited, "the log's queue is full");
    return Done{};
  }

  void write_loop() {
    // What a crash left unsigned is signed first; and the keyguard is told where the log stands.
    if (!sign_until_done(head_of_state(), {})) return;
    wake_witness.notify_all();
    auto committed = steady_clock::now() - options.window;  // when the newest commit's callers were told
    while (true) {
      std::vector<std::shared_ptr<Waiting>> batch;
      bool takes_snapshots = false;
      {
        std::unique_lock lock{mutex};
        // Before the witnesses were heard, only a log that has not begun takes anything: its first leaf.
        const bool begins = state.control.size().get() == 0;
        const bool woken = wake_writer.wait_for(
            lock, kSnapshotLook, [&] { return stop || read_only || ((heard || begins) && !queue.empty()); });
        if (stop || read_only) return;
        takes_snapshots = heard;
        if (!woken && !(takes_snapshots && is_snapshot_due())) continue;
        const auto close = (options.gather_first ? steady_clock::now() : committed) + options.window;
        wake_writer.wait_until(lock, close,
                               [this] { return stop || read_only || queue.size() >= options.max_entries; });
        if (stop || read_only) return;
        while (!queue.empty() && batch.size() < options.max_entries) {
          batch.push_back(std::move(queue.front()));
          queue.pop_front();
        }
      }
      // Leaves' times do not decrease: in the order of their times, drafts fit.
      std::stable_sort(batch.begin(), batch.end(), [](const auto& a, const auto& b) {
        return b->draft.entry
                   ? a->draft.entry && a->draft.entry->entry().leaf.time < b->draft.entry->entry().leaf.time
                   : a->draft.entry.has_value();
      });
      const auto snapshot =
          takes_snapshots && is_snapshot_due() ? batch.emplace_back(snapshot_to_append()) : nullptr;
      Committed done = commit_batch(batch);
      if (snapshot && snapshot->done) {  // refused
        spdlog::warn("snapshot: {}", describe(snapshot->done->error()));
        next_snapshot_try = steady_clock::now() + kSnapshotRetry;
      }
      const bool is_signed = !done.read_back || sign_until_done(head_of_state(), std::move(done.read_back));
      for (const auto& [waiting, appended] : done.to_tell)
        waiting->tell(is_signed ? Result<Appended>{signed_by_now(appended)} : no_answer());
      if (!is_signed) return;
      wake_witness.notify_all();
      committed = steady_clock::now();
    }
  }

  // is_snapshot_due is the writer's, who alone changes the state.
  bool is_snapshot_due() const {
    const record::ControlState& control = state.control;
    if (control.size().get() == 0 || steady_clock::now() < next_snapshot_try) return false;
    const auto& before = control.newest_snapshot();
    const std::uint64_t after = control.size().get() - (before ? before->index.get() + 1 : 1);
    const UnixMillis since = before ? before->time : begun;
    const UnixMillis now = clock();
    using record::operator+;
    if (after == 0 || (before && now < since + record::kSnapshotGap)) return false;
    return now >= since + options.snapshot_every || after >= options.snapshot_leaves;
  }
  // A snapshot is of the state at its very place: it is composed there, not drafted.
  std::shared_ptr<Waiting> snapshot_to_append() const {
    auto waiting = std::make_shared<Waiting>();
    waiting->deadline = steady_clock::now() + options.append_timeout;
    waiting->draft.compose = [](const record::State& at, UnixMillis time) {
      return record::compose_snapshot(at.control, time, crypto::random_nonce());
    };
    return waiting;
  }

  // make_joining encodes what a follower begins from. Not under a lock: the copy of the state is nobody
  // else's.
  Result<Bytes> make_joining(const Snapshot& snapshot) const {
    const record::ControlState& control = *snapshot.before;
    record::Joining out;
    const auto bare_entry = [&](LeafIndex index) -> Result<record::Entry> {
      std::optional<record::Entry> found;
      SP_CHECK(store->read(index, 1, [&](store::StoredEntry stored) -> Status {
        found = std::move(stored.entry);
        return Done{};
      }));
      if (!found) return Error{Code::kUnavailable, Reason::kStorage, "entries are missing"};
      found->blobs.clear();
      return std::move(*found);
    };
    for (auto policy = control.policy(); policy; policy = control.policy_at(policy->first_index)) {
      SP_TRY(record::Entry entry, bare_entry(policy->first_index));
      out.policies.push_back(std::move(entry));
    }
    std::reverse(out.policies.begin(), out.policies.end());
    const std::uint64_t first = std::max(
        record::earliest_remembered(control).get(),
        snapshot.index.get() - std::min<std::uint64_t>(snapshot.index.get(), record::kMaxJoiningLeaves));
    SP_TRY(out.before, ledger::compact_range_at(TreeSize{first}, [&](unsigned level, std::uint64_t index) {
             return store->subtree(level, index);
           }));
    for (std::uint64_t at = first; at < snapshot.index.get();) {
      const std::uint64_t had = out.leaves.size();
      SP_CHECK(store->read(LeafIndex{at},
                           std::min<std::uint64_t>(record::kMaxBatchLeaves, snapshot.index.get() - at),
                           [&](store::StoredEntry stored) -> Status {
                             out.leaves.push_back(stored.entry.leaf);
                             return Done{};
                           }));
      if (out.leaves.size() == had) return Error{Code::kUnavailable, Reason::kStorage, "entries are missing"};
      at += out.leaves.size() - had;
    }
    SP_TRY(out.snapshot, bare_entry(snapshot.index));
    out.state = record::encode_control(control);
    return record::encode_joining(out);
  }

  // close tells those who still wait, when the writer has come to its end.
  void close() {
    const Error error = no_answer();
    const std::lock_guard lock{mutex};
    for (const auto& waiting : queue) waiting->tell(error);
    queue.clear();
  }

  Error no_answer() const {
    const std::lock_guard lock{mutex};
    if (read_only) return unavailable(Reason::kReadOnly, "the log takes no entries: " + describe(*read_only));
    if (!trouble_standby.empty())
      return unavailable(Reason::kStandbyAway, "nothing is signed that no standby holds: " + trouble_standby);
    if (!trouble_signer.empty()) return unavailable(signer_lacks, "no checkpoint: " + trouble_signer);
    if (!heard && state_begun()) return unavailable(Reason::kLogQuorum, not_heard());
    return unavailable(Reason::kUnavailable, "the log did not answer in time");
  }
  bool state_begun() const { return !signed_note.empty(); }
  std::string not_heard() const {
    return "the witnesses were not heard since the start" +
           (trouble_witness.empty() ? std::string{} : ": " + trouble_witness);
  }

  // reach_standbys is (2b): whatever is signed is held by them already, so that each can go on in our place.
  bool reach_standbys(TreeSize size) {
    if (!links) return true;
    const auto over = [this] {
      const std::lock_guard lock{mutex};
      return stop || read_only;
    };
    for (;;) {
      const Status held = links->wait_held(size, over);
      const std::lock_guard lock{mutex};
      if (stop || read_only) return false;
      if (held.has_value()) {
        trouble_standby.clear();
        return true;
      }
      if (trouble_standby.empty()) spdlog::error("standby: {}", held.error().what);
      trouble_standby = held.error().what;
    }
  }

  // sign_until_done repeats (3): the intent on disk is signed as it is, however long the keyguard is away.
  // Callers have their own deadlines. False when there is no use in going on. An empty log has nothing to be
  // signed, but its keyguard must not know of anything either.
  bool sign_until_done(const store::Head& head, std::optional<record::Batch> newest) {
    if (!reach_standbys(head.size)) return false;
    for (;;) {
      const auto attempt = [&]() -> Status {
        if (head.size.get() != 0) return sign_head(head, std::exchange(newest, std::nullopt));
        SP_TRY(signer_at, common_size(head));
        return Done{};
      };
      const Status signed_now = attempt();
      if (!signed_now.has_value() && (signed_now.error().reason == Reason::kLogRollback ||
                                      signed_now.error().reason == Reason::kLogFork))
        turn_read_only(signed_now.error());
      std::unique_lock lock{mutex};
      if (signed_now.has_value()) {
        trouble_signer.clear();
        return true;
      }
      std::string trouble = describe(signed_now.error());
      if (trouble != trouble_signer) spdlog::error("checkpoint: {}", trouble);
      trouble_signer = std::move(trouble);
      signer_lacks = part_of(signed_now.error());
      if (!read_only) wake_writer.wait_for(lock, kSignerRetry, [this] { return stop || read_only; });
      if (stop || read_only) return false;
    }
  }

  void witness_loop() {
    auto last_round = steady_clock::now() - options.recosign_after;
    milliseconds pause{0};
    for (;;) {
      std::string note;
      TreeSize size{0};
      bool first = false;
      {
        std::unique_lock lock{mutex};
        if (pause.count() != 0) wake_witness.wait_for(lock, pause, [this] { return stop; });
        wake_witness.wait(lock, [this] { return stop || !signed_note.empty(); });
        wake_witness.wait_until(lock, last_round + options.recosign_after,
                                [this] { return stop || signed_size > cosigned_size; });
        if (stop) return;
        note = signed_note;
        size = signed_size;
        first = !heard;
      }
      const auto began = steady_clock::now();
      const auto policy = policy_at(size);
      auto cosigned =
          policy ? rounds->cosign(note, policy->witnesses, first ? kFirstRoundPatience : milliseconds{0})
                 : Result<std::string>{unavailable(Reason::kLogQuorum, "no policy yet")};
      if (cosigned.has_value())
        if (const auto checked = ledger::check_quorum(*cosigned, policy->witnesses); !checked.has_value())
          cosigned = checked.error();
      if (!cosigned.has_value()) {
        if (adopt_shown()) {
          pause = milliseconds{0};
          continue;
        }
        std::unique_lock lock{mutex};
        std::string trouble = describe(cosigned.error());
        if (trouble != trouble_witness) spdlog::error("witnesses: {}", trouble);
        trouble_witness = std::move(trouble);
        pause = kWitnessRetry;
        last_round = began - options.recosign_after;  // try again, whether the tree grows or not
        continue;
      }
      if (const Status stored = store->put_cosigned(size, *cosigned); !stored.has_value())
        stop_for_ever("store the cosigned checkpoint", stored.error());
      {
        const std::lock_guard lock{mutex};
        trouble_witness.clear();
        cosigned_note = *cosigned;
        cosigned_size = size;
        heard = true;
        ++round_count;
      }
      if (first) wake_writer.notify_all();
      if (links) links->noted();
      tell_eraser();
      pause = milliseconds{0};
      last_round = began;
      changed.notify_all();
      keep_late();
    }
  }

  // newest_proved gives the newest snapshot that witnesses have cosigned: followers begin with it.
  std::optional<Snapshot> newest_proved() const {
    const std::lock_guard lock{mutex};
    std::optional<Snapshot> newest;
    for (const Snapshot& one : snapshots)
      if (one.index.get() < cosigned_size.get()) newest = one;
    return newest;
  }
  void tell_eraser() {
    const auto newest = newest_proved();
    const std::lock_guard lock{mutex};
    if (newest) eraser->proved(cosigned_size, newest->index);
  }

  // adopt_shown takes a checkpoint of our tree that a witness knows and we do not: a standby that was
  // promoted has every leaf, but perhaps not the newest notes, and without them neither witness nor keyguard
  // goes on.
  bool adopt_shown() {
    const auto shown = rounds->take_shown();
    if (!shown) return false;
    {
      const std::lock_guard lock{mutex};
      if (shown->size <= signed_size) return false;
    }
    if (const Status stored = store->put_signed(shown->size, shown->note);
        !stored.has_value() && stored.error().code != Code::kConflict)
      stop_for_ever("store a signed checkpoint", stored.error());
    spdlog::info("a witness showed our checkpoint of size {}, which was not here", shown->size.get());
    const std::lock_guard lock{mutex};
    if (shown->size <= signed_size) return true;
    signed_note = shown->note;
    signed_size = shown->size;
    return true;
  }

  // learn tells the rounds what each witness has cosigned, as far as the newest notes show. They were
  // verified before they were stored.
  Status learn(TreeSize newest_cosigned) {
    const TreeSize from{newest_cosigned.get() < kNotesRemembered ? 0
                                                                 : newest_cosigned.get() - kNotesRemembered};
    const auto policy = policy_at(state.control.size());
    if (!policy) return Done{};
    SP_TRY(const auto notes, store->cosigned(from, kNotesRemembered + 1));
    for (const auto& [size, text] : notes) {
      SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(text));
      for (const ledger::PolicyWitness& known : policy->witnesses.witnesses())
        for (const ledger::SignatureLine& line : note.signatures)
          if (line.name == known.key.name() && line.key_id == known.key.id())
            rounds->has_cosigned(known.key.key().id(), size);
    }
    return Done{};
  }

  // judge_contradictions looks again at what witnesses have shown before this start: a better copy of the
  // database may continue it.
  Status judge_contradictions() {
    const auto policy = policy_at(state.control.size());
    if (!policy) return Done{};
    std::vector<ledger::NoteKey> logs;
    for (const ledger::PolicyLog& log : policy->witnesses.logs()) logs.push_back(log.key);
    SP_TRY(const auto shown, store->contradictions());
    for (const auto& [by, note] : shown) {
      const auto checked = ledger::verify_checkpoint(note, logs, ledger::Extensions::kAllow);
      if (!checked.has_value() || checked->checkpoint().origin != options.origin) continue;
      const ledger::Checkpoint& other = checked->checkpoint();
      const TreeSize ours = state.control.size();
      const std::string what = by + " has shown that our log signed size " +
                               std::to_string(other.size.get()) + " with root " + to_hex(other.root) +
                               "; this database ends at size " + std::to_string(ours.get());
      if (other.size > ours) {
        turn_read_only({Code::kUnverified, Reason::kLogRollback, what, Next::kCallOperator, 0});
        continue;
      }
      SP_TRY(const Digest256 root, root_at(*store, other.size));
      if (root != other.root)
        turn_read_only({Code::kUnverified, Reason::kLogFork, what, Next::kCallOperator, 0});
    }
    return Done{};
  }

  // keep_late puts cosignatures on disk that came after their round's quorum, for auditors: when nobody waits
  // for the next round.
  void keep_late() {
    {
      const std::lock_guard lock{mutex};
      if (signed_size > cosigned_size) return;
    }
    for (const auto& [size, note] : rounds->take_late()) {
      if (const Status stored = store->put_cosigned(size, note); !stored.has_value())
        stop_for_ever("store a late cosignature", stored.error());
      if (links) links->noted_late(note);
    }
  }
};

Sequencer::Sequencer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sequencer::~Sequencer() = default;

Result<std::unique_ptr<Sequencer>> Sequencer::start(std::shared_ptr<store::Store> store,
                                                    std::shared_ptr<CheckpointSigner> signer,
                                                    SequencerOptions options, Clock clock) {
  auto impl = std::make_unique<Impl>();
  impl->store = std::move(store);
  impl->signer = std::move(signer);
  impl->options = std::move(options);
  impl->clock = std::move(clock);
  impl->state = record::begin_state(impl->options.origin, impl->options.genesis_policy);
  impl->eraser = std::make_unique<Eraser>(impl->store, [i = impl.get()](const std::function<Status()>& with) {
    const std::shared_lock lock{i->state_mutex};  // who appends holds it alone
    return with();
  });
  SP_CHECK(impl->fold_stored());
  SP_TRY(const auto cosigned, impl->store->newest_cosigned());
  if (cosigned) {
    impl->cosigned_note = cosigned->note;
    impl->cosigned_size = cosigned->size;
  }
  // The newest signed checkpoint is cosigned anew at once: whatever a witness knows was signed and stored
  // before, and the keyguard wants to see fresh cosignatures before it signs again.
  SP_TRY(const auto newest, impl->store->newest_signed());
  if (newest) {
    impl->signed_note = newest->note;
    impl->signed_size = newest->size;
  }
  if (impl->signed_size > impl->state.control.size() || impl->cosigned_size > impl->signed_size)
    return Error{Code::kUnavailable, Reason::kStorage, "the stored checkpoints are of a larger log",
                 Next::kCallOperator, 0};
  impl->rounds = std::make_unique<WitnessRounds>(
      [s = impl->store.get()](TreeSize from, TreeSize to) {
        return ledger::consistency_proof(
            from, to, [s](unsigned level, std::uint64_t index) { return s->subtree(level, index); });
      },
      impl->options.witness_timeout, impl->clock);
  impl->rounds->on_two_histories([i = impl.get()](const WitnessRounds::TwoHistories& shown) {
    i->turn_read_only(shown.error);
    if (const Status kept = i->store->put_contradiction({shown.witness, shown.note}); !kept.has_value())
      spdlog::error("what {} showed is not on disk: {}", shown.witness, describe(kept.error()));
  });
  impl->rounds->holds(impl->state.control.size());
  SP_CHECK(impl->learn(impl->cosigned_size));
  SP_CHECK(impl->judge_contradictions());
  if (!impl->options.standby.standbys.empty()) {
    impl->links = std::make_unique<StandbyLinks>(
        impl->store, impl->options.origin, impl->head_of_state(), impl->options.standby,
        [i = impl.get()](const Error& why) { i->turn_read_only(why, true); });
    impl->links->noted();
  }
  impl->tell_eraser();
  impl->eraser->begin();
  impl->writer = std::thread{[i = impl.get()] {
    i->write_loop();
    i->close();
  }};
  impl->witness = std::thread{[i = impl.get()] { i->witness_loop(); }};
  return std::unique_ptr<Sequencer>{new Sequencer{std::move(impl)}};
}

Sequencer::Draft Sequencer::draft(Compose compose) const {
  const record::State& state = impl_->state;
  auto entry = [&] {
    const std::shared_lock lock{impl_->state_mutex};
    return compose(state, std::max(impl_->clock(), state.control.last_time()));
  }();
  auto opened = open_composed(std::move(entry));
  if (!opened.has_value()) return {std::move(compose), std::nullopt, nullptr};
  record::Claims claimed;
  {
    const std::shared_lock lock{impl_->state_mutex};
    claimed = record::claims_of(state, *opened);
  }
  return {std::move(compose), std::move(*opened),
          record::verify_ahead(claimed, impl_->recent, impl_->verifying)};
}

Result<Appended> Sequencer::append(Compose compose) {
  {
    const std::lock_guard lock{impl_->mutex};
    SP_CHECK(impl_->check_open());
  }
  return append(draft(std::move(compose)));
}

Result<Appended> Sequencer::append(Draft draft) {
  auto waiting = std::make_shared<Impl::Waiting>();
  waiting->deadline = steady_clock::now() + impl_->options.append_timeout;
  waiting->draft = std::move(draft);
  {
    const std::lock_guard lock{impl_->mutex};
    SP_CHECK(impl_->check_open());
    impl_->queue.push_back(waiting);
    // The writer waits for a first entry, and then for a full batch or its time: others need not wake it.
    if (impl_->queue.size() == 1 || impl_->queue.size() >= impl_->options.max_entries)
      impl_->wake_writer.notify_one();
  }
  {
    std::unique_lock lock{waiting->mutex};
    waiting->told.wait_until(lock, waiting->deadline, [&] { return waiting->done.has_value(); });
    waiting->left = true;
    if (waiting->done) return *waiting->done;
  }
  return impl_->no_answer();
}

Status Sequencer::wait_proven(TreeSize size, milliseconds timeout) {
  std::unique_lock lock{impl_->mutex};
  impl_->changed.wait_for(lock, timeout,
                          [&] { return impl_->stop || impl_->read_only || impl_->cosigned_size >= size; });
  if (impl_->cosigned_size >= size) return Done{};
  if (impl_->read_only)
    return unavailable(Reason::kReadOnly, "the log takes no entries: " + describe(*impl_->read_only));
  return unavailable(Reason::kLogQuorum, impl_->trouble_witness.empty()
                                             ? "the witnesses did not cosign in time"
                                             : impl_->trouble_witness);
}

void Sequencer::release_waiters() {
  {
    const std::lock_guard lock{impl_->mutex};
    impl_->released = true;
  }
  impl_->changed.notify_all();
}

void Sequencer::wait_change(TreeSize size, std::string_view known_note, milliseconds timeout) {
  std::unique_lock lock{impl_->mutex};
  impl_->changed.wait_for(lock, timeout, [&] {
    return impl_->stop || impl_->released || impl_->cosigned_size > size ||
           (!impl_->cosigned_note.empty() && !known_note.empty() && impl_->cosigned_note != known_note);
  });
}

void Sequencer::read(const std::function<void(const record::State&)>& with) const {
  const std::shared_lock lock{impl_->state_mutex};
  with(impl_->state);
}

std::string Sequencer::cosigned_note() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->cosigned_note;
}

Result<ledger::ClaimedProof> Sequencer::prove(LeafIndex index) {
  ledger::ClaimedProof proof;
  TreeSize size{0};
  {
    const std::lock_guard lock{impl_->mutex};
    proof.checkpoint = impl_->cosigned_note;
    size = impl_->cosigned_size;
  }
  if (index.get() >= size.get()) return unavailable(Reason::kLogQuorum, "the leaf is not cosigned yet");
  proof.index = index;
  SP_TRY(proof.hashes,
         ledger::inclusion_proof(index, size, [s = impl_->store.get()](unsigned level, std::uint64_t at) {
           return s->subtree(level, at);
         }));
  return proof;
}

Result<record::Batch> Sequencer::batch(LeafIndex from) {
  std::string note;
  TreeSize size{0};
  {
    const std::lock_guard lock{impl_->mutex};
    note = impl_->cosigned_note;
    size = impl_->cosigned_size;
  }
  if (from.get() > size.get())
    return Error{Code::kStale, Reason::kLogRollback, "the log is shorter than what was asked for"};
  SP_TRY(record::Batch batch, impl_->batch_from(from, size));
  batch.note = std::move(note);
  return batch;
}

Result<std::shared_ptr<const Bytes>> Sequencer::joining() {
  const std::optional<Impl::Snapshot> newest = impl_->newest_proved();
  if (!newest) return std::shared_ptr<const Bytes>{};
  const std::lock_guard lock{impl_->joining_mutex};  // made once, for whoever asks
  if (impl_->joining_of != newest->index) {
    SP_TRY(Bytes made, impl_->make_joining(*newest));
    if (made.size() > record::kMaxJoiningBytes) {
      spdlog::warn("snapshot at leaf {}: too large to join from", newest->index.get());
      return std::shared_ptr<const Bytes>{};
    }
    impl_->joining = std::make_shared<const Bytes>(std::move(made));
    impl_->joining_of = newest->index;
  }
  return impl_->joining;
}

Result<record::Entry> Sequencer::entry(LeafIndex index) {
  std::optional<record::Entry> found;
  SP_CHECK(impl_->store->read(index, 1, [&](store::StoredEntry stored) -> Status {
    found = std::move(stored.entry);
    return Done{};
  }));
  if (!found) return Error{Code::kDenied, Reason::kCaseUnknown, "no such leaf"};
  return with_blobs(*impl_->store, std::move(*found));
}

Status Sequencer::put_attachment(const record::Blob& blob) {
  {
    const std::lock_guard lock{impl_->mutex};
    SP_CHECK(impl_->check_open());
  }
  SP_CHECK(impl_->store->put_blob(blob));
  return impl_->links ? impl_->links->wait_attachment(record::item_of(blob).sha256) : Status{Done{}};
}

Status Sequencer::require_unseen(const ledger::WitnessPolicy& policy) const {
  return ledger_service::require_unseen(impl_->options.origin, policy, impl_->options.witness_timeout);
}

store::Store& Sequencer::store() {
  return *impl_->store;
}

Sequencer::Health Sequencer::health() const {
  Health health;
  {
    const std::shared_lock lock{impl_->state_mutex};
    health.size = impl_->state.control.size().get();
  }
  if (impl_->links) health.standbys = impl_->links->links();
  const std::lock_guard lock{impl_->mutex};
  health.standby = impl_->trouble_standby.empty();
  for (const StandbyLinks::Link& link : health.standbys)
    if (!link.why.empty() && !impl_->options.standby.best_effort) health.standby = false;
  health.signer = impl_->trouble_signer.empty();
  health.witnesses = impl_->trouble_witness.empty() && impl_->heard && !impl_->read_only;
  if (impl_->read_only) {
    health.read_only = impl_->read_only->reason;
    health.why = "the log takes no entries: " + describe(*impl_->read_only) + "; " + std::string{kSeeRunbook};
  } else if (!health.signer) {
    health.why = impl_->trouble_signer;
  } else if (!health.standby) {
    health.why = "nothing is signed that a standby does not hold";
  } else if (health.size == 0) {
    health.why = "the log has not begun: sallyportd init";
  } else {
    health.why = impl_->heard ? impl_->trouble_witness : impl_->not_heard();
  }
  health.cosigned_size = impl_->cosigned_size.get();
  health.rounds = impl_->round_count;
  health.witnesses_answering = impl_->rounds->answering();
  health.each_witness = impl_->rounds->health();
  return health;
}

}  // namespace sallyport::ledger_service

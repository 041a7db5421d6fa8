#include "broker/ledger/standby.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "attestation/base/hex.h"
#include "broker/ledger/stored_log.h"

namespace sallyport::ledger_service {
namespace {

using std::chrono::steady_clock;

Error fork(std::string what) {
  return Error{Code::kUnverified, Reason::kLogFork, std::move(what), Next::kCallOperator, 0};
}

std::string named(const store::Head& head) {
  return "size " + std::to_string(head.size.get()) + " with root " + to_hex(head.root);
}

std::vector<ledger::NoteKey> logs_of(const record::LoadedPolicy& policy) {
  std::vector<ledger::NoteKey> out;
  for (const ledger::PolicyLog& log : policy.witnesses.logs()) out.push_back(log.key);
  return out;
}

// Proved marks a connection whose other end has proved to be a primary of ours.
struct Proved {};

}  // namespace

Result<std::unique_ptr<Standby>> Standby::open(std::shared_ptr<store::Store> store, Origin origin,
                                               const Digest256& genesis_policy) {
  std::unique_ptr<Standby> standby{new Standby{std::move(store), std::move(origin), genesis_policy}};
  SP_CHECK(standby->fold_stored());
  standby->eraser_.begin();
  return standby;
}

Standby::Standby(std::shared_ptr<store::Store> store, Origin origin, const Digest256& genesis_policy)
    : store_(std::move(store)),
      origin_(std::move(origin)),
      genesis_policy_(genesis_policy),
      state_(record::begin_state(origin_, genesis_policy_)),
      eraser_(store_, [this](const std::function<Status()>& with) {
        const std::lock_guard lock{mutex_};
        return with();
      }) {}

// folded tells the eraser of the erasures in the fold.
Status Standby::folded(LeafIndex index, const record::Entry& entry) {
  if (entry.leaf.kind == static_cast<std::uint8_t>(record::Kind::kErasure)) {
    SP_TRY(const record::Body body, record::parse_body(entry.body));
    SP_TRY(const record::OpenedStatement statement, record::open_statement(body));
    SP_TRY(record::ErasureProposed what, record::parse_erased(statement));
    eraser_.folded(index, std::move(what));
  }
  return Done{};
}

Status Standby::tell_eraser() {
  SP_TRY(const auto cosigned, store_->newest_cosigned());
  const auto& snapshot = state_.control.newest_snapshot();
  if (cosigned && snapshot && snapshot->index.get() < cosigned->size.get())
    eraser_.proved(cosigned->size, snapshot->index);
  return Done{};
}

Status Standby::fold_stored() {
  std::uint64_t at = 0;
  SP_CHECK(fold_store(*store_, state_, [&](const ledger::Leaf&, const record::OpenedEntry* entry) -> Status {
    const LeafIndex index{at++};
    return entry != nullptr ? folded(index, entry->entry()) : Status{Done{}};
  }));
  return tell_eraser();
}

Status Standby::refold() {
  state_ = record::begin_state(origin_, genesis_policy_);
  return fold_stored();
}

Result<Standing> Standby::standing_locked() {
  Standing out;
  out.head = {state_.control.size(), state_.control.root()};
  SP_TRY(const auto newest_signed, store_->newest_signed());
  SP_TRY(const auto newest_cosigned, store_->newest_cosigned());
  if (newest_signed) out.signed_size = newest_signed->size;
  if (newest_cosigned) out.cosigned_size = newest_cosigned->size;
  return out;
}

Result<Standing> Standby::standing() {
  const std::lock_guard lock{mutex_};
  return standing_locked();
}

Result<Standing> Standby::meet(const StandbyHello& primary) {
  const std::lock_guard lock{mutex_};
  if (primary.origin != origin_)
    return Error{Code::kDenied, Reason::kTrustAnchor, "the primary's log is " + primary.origin.get()};
  if (primary.head.size <= state_.control.size()) {
    SP_TRY(const Digest256 root, root_at(*store_, primary.head.size));
    if (root != primary.head.root)
      return fork("the primary has " + named(primary.head) + ", here that size has root " + to_hex(root));
  }
  return standing_locked();
}

// compare_held checks that what is held already is what the page says, and that the page follows it.
Status Standby::compare_held(const record::EntryPage& page, const Digest256& old_root) {
  const std::uint64_t held = state_.control.size().get();
  if (page.from.get() > held)
    return Error{
        Code::kStale, Reason::kLogOrder,
        "entries from " + std::to_string(page.from.get()) + ", this standby holds " + std::to_string(held)};
  SP_TRY(const Digest256 root, root_at(*store_, TreeSize{page.from.get()}));
  if (root != old_root)
    return fork("the entries follow " + named({TreeSize{page.from.get()}, old_root}) +
                ", here that size has root " + to_hex(root));
  const std::uint64_t both = std::min<std::uint64_t>(held - page.from.get(), page.entries.size());
  SP_TRY(const auto leaves, store_->leaves(page.from, both));
  for (std::size_t i = 0; i < leaves.size(); ++i)
    if (leaves[i] != page.entries[i].leaf)
      return fork("leaf " + std::to_string(page.from.get() + i) + " is another than the one that is held");
  return Done{};
}

// open_new opens entries and has what they claim verified before the fold, as far as the state tells whose it
// is; what was shown not long ago, the beginning of a list that grew, is not judged again.
Result<std::vector<Standby::New>> Standby::open_new(std::vector<record::Entry> entries) {
  std::vector<New> out;
  record::Claims claimed;
  for (record::Entry& entry : entries) {
    if (record::is_erased(entry)) {
      out.push_back({std::move(entry), std::nullopt});
      continue;
    }
    SP_TRY(record::OpenedEntry opened, record::open_entry(std::move(entry)));
    claimed.add(record::claims_of(state_, opened));
    out.push_back({{}, std::move(opened)});
  }
  auto verified =
      std::make_shared<const record::VerifiedAhead>(record::verify_ahead(claimed, recent_.known(claimed)));
  recent_.add(*verified);
  state_.control.remember(std::move(verified));
  return out;
}

Result<Standing> Standby::take(StreamedEntries streamed) {
  const std::lock_guard lock{mutex_};
  record::EntryPage& page = streamed.page;
  SP_CHECK(compare_held(page, streamed.old_root));
  const std::uint64_t held = state_.control.size().get() - page.from.get();
  if (page.entries.size() <= held) return standing_locked();
  page.entries.erase(page.entries.begin(), page.entries.begin() + static_cast<std::ptrdiff_t>(held));

  const store::Head old{state_.control.size(), state_.control.root()};
  const ledger::CompactRange before = state_.control.range();
  const auto fold = [&]() -> Result<std::vector<record::Entry>> {
    SP_TRY(auto opened, open_new(std::move(page.entries)));
    std::vector<record::Entry> folded;
    for (New& one : opened) {
      SP_TRY(record::Prepared prepared, one.opened ? record::prepare(state_, *one.opened)
                                                   : record::prepare_erased(state_, one.entry.leaf));
      record::commit(state_, std::move(prepared));
      folded.push_back(one.opened ? std::move(*one.opened).take() : std::move(one.entry));
    }
    return folded;
  };
  const auto entries = fold();
  state_.control.remember(nullptr);
  if (!entries.has_value()) {
    // Some may be in the fold and none is on disk.
    if (state_.control.size() != old.size)
      if (const Status again = refold(); !again.has_value()) stop_for_ever("fold again", again.error());
    return entries.error();
  }
  const store::Head next{state_.control.size(), state_.control.root()};
  if (const Status done = store_->append(old, *entries, kept_subtrees(before, *entries), next);
      !done.has_value())
    stop_for_ever("append", done.error());
  for (std::size_t i = 0; i < entries->size(); ++i)
    SP_CHECK(this->folded(LeafIndex{old.size.get() + i}, (*entries)[i]));
  return standing_locked();
}

Status Standby::keep(NoteKind kind, const std::string& note) {
  SP_TRY(const ledger::ClaimedNote claimed_note, ledger::parse_note(note));
  SP_TRY(const ledger::Checkpoint claimed, ledger::parse_checkpoint_text(claimed_note.text));
  if (claimed.size > state_.control.size())
    return Error{Code::kStale, Reason::kLogOrder, "a checkpoint of more than is held"};
  const auto policy = state_.control.policy_at(LeafIndex{claimed.size.get()});
  if (!policy || claimed.origin != origin_)
    return Error{Code::kUnverified, Reason::kLogCheckpoint, "a checkpoint of another log"};
  const auto logs = logs_of(*policy);
  SP_TRY(const auto checked, ledger::verify_checkpoint(note, logs, ledger::Extensions::kRefuse));
  if (kind == NoteKind::kCosigned) SP_CHECK(ledger::check_quorum(note, policy->witnesses));
  SP_TRY(const Digest256 root, root_at(*store_, claimed.size));
  if (root != claimed.root)
    return fork("our log has signed " + named({claimed.size, claimed.root}) + ", here that size has root " +
                to_hex(root));
  // A checkpoint is signed before it is cosigned: the writer that starts here expects to find both.
  ledger::ClaimedNote by_log = claimed_note;
  std::erase_if(by_log.signatures, [&](const ledger::SignatureLine& line) {
    return std::none_of(logs.begin(), logs.end(), [&](const ledger::NoteKey& log) {
      return log.id() == line.key_id && log.name() == line.name;
    });
  });
  Status stored = store_->put_signed(claimed.size, ledger::encode_note(by_log));
  // ECDSA notes differ from one signing to the next; the first is kept.
  if (!stored.has_value() && stored.error().code == Code::kConflict) stored = Done{};
  if (stored.has_value() && kind == NoteKind::kCosigned) stored = store_->put_cosigned(claimed.size, note);
  if (!stored.has_value()) stop_for_ever("store a checkpoint", stored.error());
  return Done{};
}

Result<Standing> Standby::take(const StreamedNotes& notes) {
  const std::lock_guard lock{mutex_};
  for (const std::string& note : notes.notes) SP_CHECK(keep(notes.kind, note));
  SP_CHECK(tell_eraser());
  return standing_locked();
}

Result<Standing> Standby::take(const record::Blob& attachment) {
  const std::lock_guard lock{mutex_};
  if (const Status stored = store_->put_blob(attachment); !stored.has_value())
    stop_for_ever("store an attachment", stored.error());
  return standing_locked();
}

Result<std::vector<Digest256>> Standby::lacks(const std::vector<Digest256>& attachments) {
  std::vector<Digest256> out;
  for (const Digest256& digest : attachments) {
    SP_TRY(const auto found, store_->find_blob(digest));
    if (!found) out.push_back(digest);
  }
  return out;
}

void Standby::note_call(const std::optional<Error>& refused) {
  const std::string why = refused ? describe(*refused) : std::string{};
  const std::lock_guard lock{mutex_};
  heard_ = steady_clock::now();
  if (refused && why != refused_) spdlog::error("refused: {}", why);
  refused_ = why;
}

Standby::Health Standby::health() {
  const std::lock_guard lock{mutex_};
  Health out;
  if (const auto standing = standing_locked(); standing.has_value())
    out.standing = *standing;
  else
    out.refused = describe(standing.error());
  if (heard_)
    out.since_heard = std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - *heard_);
  if (out.refused.empty()) out.refused = refused_;
  if (const Status complete = record::check_complete(state_.control);
      out.refused.empty() && !complete.has_value())
    out.refused = describe(complete.error());
  return out;
}

namespace {

// check_proof: the connection's other end holds one of the primaries' keys.
Status check_proof(const StandbyHello& hello, const net::Connection& connection,
                   const std::vector<KeyId>& primaries) {
  if (!connection.exporter()) return Error{Code::kDenied, Reason::kDenied, "the stream is for TLS"};
  if (std::find(primaries.begin(), primaries.end(), hello.key.id()) == primaries.end())
    return Error{Code::kDenied, Reason::kDenied,
                 "key sha256:" + to_hex(hello.key.id()) + " is no primary of this standby (--primary)"};
  return crypto::verify_p256(hello.key, hello_digest(*connection.exporter(), hello.origin), hello.signature);
}

Result<Bytes> encoded(Result<Standing> standing) {
  SP_TRY(const Standing taken, std::move(standing));
  return encode(taken);
}

Result<Bytes> answer(Standby& standby, const std::vector<KeyId>& primaries, const net::HttpRequest& request,
                     net::Connection& connection) {
  const std::string_view path = request.path();
  if (path == "/v1/standby/hello" && request.method == "POST") {
    connection.clear_state();
    SP_TRY(const StandbyHello hello, parse_standby_hello(request.body));
    SP_CHECK(check_proof(hello, connection, primaries));
    SP_TRY(const Standing standing, standby.meet(hello));
    connection.emplace_state<Proved>();
    return encode(standing);
  }
  if (connection.state<Proved>() == nullptr)
    return Error{Code::kDenied, Reason::kDenied, "this connection has not proved to be a primary's"};
  if (path == "/v1/standby" && request.method == "GET") return encoded(standby.standing());
  if (request.method == "POST") {
    if (path == "/v1/standby/entries") {
      SP_TRY(StreamedEntries entries, parse_streamed_entries(request.body));
      return encoded(standby.take(std::move(entries)));
    }
    if (path == "/v1/standby/notes") {
      SP_TRY(const StreamedNotes notes, parse_streamed_notes(request.body));
      return encoded(standby.take(notes));
    }
    if (path == "/v1/standby/lacks") {
      SP_TRY(const auto digests, parse_digests(request.body));
      SP_TRY(const auto lacking, standby.lacks(digests));
      return encode(lacking);
    }
    if (path == "/v1/standby/attachment") {
      SP_TRY(const record::Blob attachment, parse_attachment(request.body));
      return encoded(standby.take(attachment));
    }
  }
  return Error{Code::kMalformed, "no such call"};
}

}  // namespace

net::HttpHandler make_standby_handler(std::shared_ptr<Standby> standby, std::vector<KeyId> primaries) {
  return [standby, primaries = std::move(primaries)](const net::HttpRequest& request,
                                                     net::Connection& connection) -> net::HttpResponse {
    auto result = answer(*standby, primaries, request, connection);
    const bool proved = connection.state<Proved>() != nullptr;
    // Strangers neither count as a primary nor fill the log with more than a line each.
    if (proved || (!result.has_value() && result.error().reason == Reason::kLogFork))
      standby->note_call(result.has_value() ? std::nullopt : std::optional{result.error()});
    else if (!result.has_value())
      spdlog::warn("refused from {}: {}", connection.peer_address(), describe(result.error()));
    if (!result.has_value())
      return net::HttpResponse::of(static_cast<unsigned>(http_status_of(result.error())), "text/plain",
                                   encode_refusal(result.error()));
    net::HttpResponse response;
    response.content_type = "application/octet-stream";
    response.body = std::move(*result);
    return response;
  };
}

}  // namespace sallyport::ledger_service

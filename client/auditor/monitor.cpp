#include "client/auditor/monitor.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/program/lookahead.h"
#include "client/auditor/directory.h"
#include "client/auditor/tell.h"
#include "client/terminal/files.h"

namespace sallyport::client::auditor {
namespace {

using record::Kind;

constexpr std::string_view kFormat = "sallyport-follow/v2 ", kAnyFormat = "sallyport-follow/v";
constexpr std::string_view kSum = "sha256 ";
constexpr std::size_t kSumLine = kSum.size() + 64 + 1;
constexpr std::size_t kFewEntries = 8;  // are judged without other threads
constexpr std::string_view kBeginAnew =
    "; move it away, and the log is judged from its first leaf: every alarm is told again, by the same names";

Error unverified(Reason reason, std::string what) {
  return Error{Code::kUnverified, reason, std::move(what)};
}

// name_of gives the alarm that a leaf is; none for what every access has.
std::optional<std::string_view> name_of(const record::State& state, const record::Entry& entry) {
  switch (static_cast<Kind>(entry.leaf.kind)) {
    case Kind::kRefusal: {
      const auto stopped = std::ranges::find(state.stopped, entry.leaf.case_id,
                                             [](const auto& known) { return known.second.case_id; });
      return stopped != state.stopped.end() ? "machine-stopped" : "refusal";
    }
    case Kind::kDenial:
      return "denial";
    case Kind::kRevocation:
      return "revocation";
    case Kind::kEnrolmentRequested:
      return "enrolment-requested";
    case Kind::kEnrolment:
      return "enrolment";
    case Kind::kPolicyProposed:
      return "policy-proposed";
    case Kind::kPolicy:
      return "policy";
    case Kind::kErasureProposed:
      return "erasure-proposed";
    case Kind::kErasure:
      return "erasure";
    case Kind::kHold:
      return "hold";
    case Kind::kHoldLifted:
      return "hold-lifted";
    case Kind::kRequest: {
      const auto found = state.cases.find(entry.leaf.case_id);
      if (found == state.cases.end() || !found->second.request) return std::nullopt;
      const policy::Policy& policy = state.control.policy()->policy;
      for (const std::string& id : {found->second.request->person, found->second.request->beneficiary})
        if (policy::region_of_person(policy, PersonId{id}) != policy.authority.region)
          return "foreign-request";
      return std::nullopt;
    }
    case Kind::kApproval:
    case Kind::kListApproval:
    case Kind::kGrant:
    case Kind::kLease:
    case Kind::kSessionOpened:
    case Kind::kSessionClosed:
    case Kind::kSnapshot:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

Result<record::EntryPage> DirectorySource::entries(LeafIndex from) {
  constexpr std::uint64_t kPage = 64;
  SP_TRY(ExportReader reader, ExportReader::open(directory_));
  record::EntryPage page{.from = from, .entries = {}};
  const std::uint64_t size = reader.claimed().size.get();
  for (std::uint64_t i = from.get(); i < size && page.entries.size() < kPage; ++i) {
    SP_TRY(record::Entry entry, reader.entry(LeafIndex{i}));
    page.entries.push_back(std::move(entry));
  }
  return page;
}

Result<std::vector<std::string>> DirectorySource::checkpoints(TreeSize from) {
  constexpr std::size_t kPage = 256;
  SP_TRY(ExportReader reader, ExportReader::open(directory_));
  SP_TRY(const std::vector<TreeSize> sizes, reader.notes());
  std::vector<std::string> page;
  for (auto size = std::lower_bound(sizes.begin(), sizes.end(), from); size != sizes.end(); ++size) {
    if (page.size() == kPage) break;
    if (*size == reader.front_size()) {  // which may have been cosigned again
      page.push_back(reader.front());
      continue;
    }
    SP_TRY(const Bytes note, read_file(directory_, note_path(*size)));
    page.emplace_back(as_text(note));
  }
  return page;
}

Bookmark bookmark_at_start(const follow::TrustAnchor& anchor) {
  return {anchor.origin, anchor.genesis_policy, TreeSize{0}, Digest256{}, 0, {}};
}

std::string encode(const Bookmark& place) {
  std::string text = std::string{kFormat} + place.origin.get() + " " + to_hex(place.genesis_policy) + " " +
                     std::to_string(place.size.get()) + " " + to_hex(place.root) + " " +
                     std::to_string(place.lasting) + "\n" + place.note;
  return text + std::string{kSum} + to_hex(crypto::sha256(as_bytes(text))) + "\n";
}

Result<Bookmark> parse_bookmark(std::string_view text) {
  const auto wrong = [](std::string_view what) {
    return Error{Code::kMalformed, std::string{what} + std::string{kBeginAnew}};
  };
  if (!text.starts_with(kAnyFormat)) return wrong("not a place that `sallyport audit follow` wrote");
  if (!text.starts_with(kFormat)) return wrong("a place that another version wrote");
  const Error damaged = wrong("damaged: put a copy back, if there is one");
  if (text.size() > kMaxBookmarkBytes || text.size() < kSumLine || !text.ends_with('\n')) return damaged;
  const std::string_view said = text.substr(0, text.size() - kSumLine);
  const std::size_t head = said.find('\n');
  if (head == said.npos) return damaged;
  const std::string_view line = said.substr(kFormat.size(), head - kFormat.size());
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    fields.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  if (fields.size() != 5) return damaged;
  const auto parse = [&]() -> Result<Bookmark> {
    Bookmark place;
    place.origin = Origin{std::string{fields[0]}};
    SP_TRY(place.genesis_policy, parse_digest(fields[1]));
    SP_TRY(const std::uint64_t size, parse_number(fields[2], ledger::kMaxTreeSize));
    place.size = TreeSize{size};
    SP_TRY(place.root, parse_digest(fields[3]));
    SP_TRY(place.lasting, parse_number(fields[4], Bookmark::kOld | Bookmark::kStill | Bookmark::kAway));
    place.note = said.substr(head + 1);
    if (encode(place) != text) return damaged;
    if (place.note.empty()) return place;
    SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(place.note));
    SP_TRY(const ledger::Checkpoint seen, ledger::parse_checkpoint_text(note.text));
    if (seen.origin != place.origin || seen.size < place.size) return damaged;
    return place;
  };
  auto place = parse();
  if (!place.has_value()) return damaged;
  return place;
}

Result<Bookmark> load_bookmark(const std::filesystem::path& file, const follow::TrustAnchor& anchor) {
  const auto unusable = [&](Reason reason, const std::string& why) {
    return Error{Code::kMalformed, reason, file.string() + " is " + why};
  };
  std::error_code error;
  if (!std::filesystem::exists(file, error) && !error) return bookmark_at_start(anchor);
  SP_TRY(const Bytes text, read_whole_file(file, kMaxBookmarkBytes));
  auto place = parse_bookmark(as_text(text));
  if (!place.has_value()) return unusable(Reason::kMalformed, place.error().what);
  if (place->origin != anchor.origin || place->genesis_policy != anchor.genesis_policy)
    return unusable(Reason::kUsage, "of another log than the trust file's: of " + place->origin.get() +
                                        ", which began with policy sha256:" + to_hex(place->genesis_policy) +
                                        "; each log has a --place of its own");
  return place;
}

// Ahead is what other threads did for an entry before its turn.
struct Monitor::Ahead {
  Result<record::OpenedEntry> opened = Error{Code::kInternal, "nobody looked"};
  std::optional<ledger::Leaf> erased;  // of an erased entry, instead
  std::shared_ptr<const record::VerifiedAhead> known;
};

Monitor::Monitor(const follow::TrustAnchor& anchor, Bookmark place, const MonitorOptions& options,
                 OnAlarm on_alarm)
    : anchor_(anchor),
      options_(options),
      on_alarm_(std::move(on_alarm)),
      state_(record::begin_state(anchor.origin, anchor.genesis_policy)),
      place_(std::move(place)) {
  const auto note = ledger::parse_note(place_.note);
  if (!note.has_value()) return;
  auto seen = ledger::parse_checkpoint_text(note->text);
  if (seen.has_value()) seen_ = std::move(*seen);
}

TreeSize Monitor::seen() const {
  return seen_ ? std::max(seen_->size, place_.size) : place_.size;
}

Status Monitor::say(const Alarm& alarm) {
  Status said = on_alarm_(alarm, place_);
  if (!said.has_value()) unsaid_ = said.error();
  return said;
}

Status Monitor::lasts(std::uint64_t bit, bool is, const Alarm& alarm) {
  const bool was = (place_.lasting & bit) != 0;
  place_.lasting = is ? place_.lasting | bit : place_.lasting & ~bit;
  return is && !was ? say(alarm) : Status{Done{}};
}

// look_ahead runs on any thread: it judges nothing, and verifies what the judgement will ask for.
Monitor::Ahead Monitor::look_ahead(const Fetch& fetch) {
  Ahead out;
  auto entry = fetch();
  if (!entry.has_value()) {
    out.opened = std::move(entry).error();
    return out;
  }
  if (record::is_erased(*entry)) {  // there is nothing to open
    out.erased = entry->leaf;
    return out;
  }
  out.opened = record::open_entry(std::move(*entry));
  if (!out.opened.has_value()) return out;
  const auto asked_at = [&] {
    const std::lock_guard lock{looking_};
    return requests_.read(out.opened->statement());
  }();
  const auto claimed = [&] {
    const std::shared_lock lock{folding_};
    return record::claims_of(state_, *out.opened, asked_at);
  }();
  out.known = record::verify_ahead(claimed, recent_, looking_);
  return out;
}

// fold judges entries in order, their signatures verified on all cores before.
Status Monitor::fold(std::vector<Fetch> entries) {
  program::Lookahead<Ahead> ahead{entries.size() < kFewEntries ? 0 : options_.threads,
                                  [](const Ahead&) { return std::size_t{0}; }};
  std::size_t given = 0;
  for (std::size_t taken = 0; taken < entries.size(); ++taken) {
    for (; given < entries.size() && !ahead.full(); ++given)
      ahead.push([this, &fetch = entries[given]] { return look_ahead(fetch); });
    SP_CHECK(fold_one(ahead.take()));
  }
  return Done{};
}

Status Monitor::fold_one(Ahead ahead) {
  const LeafIndex index{state_.control.size().get()};
  const auto at = [&](Error error) {
    if (error.reason == Reason::kStorage) return error;
    return unverified(error.reason, place_of_leaf(index) + ": " + error.what);
  };
  if (!ahead.opened.has_value() && !ahead.erased) return at(std::move(ahead.opened).error());
  {
    const std::unique_lock lock{folding_};
    state_.control.remember(ahead.known);
  }
  auto prepared =
      ahead.erased ? record::prepare_erased(state_, *ahead.erased) : record::prepare(state_, *ahead.opened);
  {
    const std::unique_lock lock{folding_};
    state_.control.remember(nullptr);
    if (!prepared.has_value()) return at(std::move(prepared).error());
    record::commit(state_, std::move(*prepared));
  }
  {
    const std::lock_guard lock{looking_};
    requests_.folded(ahead.erased ? *ahead.erased : ahead.opened->entry().leaf);
  }
  const TreeSize size = state_.control.size();
  const auto is_other = [&](TreeSize of, const Digest256& root) {
    return size == of && state_.control.root() != root;
  };
  if (is_other(place_.size, place_.root) || (seen_ && is_other(seen_->size, seen_->root)))
    return unverified(Reason::kLogFork,
                      "this is not the log that was followed until leaf " + std::to_string(index.get()));
  if (size <= place_.size || ahead.erased) return Done{};
  const record::Entry& entry = ahead.opened->entry();
  const auto name = name_of(state_, entry);
  if (!name) return Done{};
  SP_TRY(auto told, tell(entry));
  const auto found = state_.cases.find(entry.leaf.case_id);
  if (told.who.empty() && found != state_.cases.end() && found->second.request)
    told.who = found->second.request->person;
  pending_.push_back(
      {{*name, entry.leaf.time, index, entry.leaf.case_id, std::move(told.who), std::move(told.what)},
       state_.control.root()});
  return Done{};
}

Status Monitor::catch_up(const std::filesystem::path& export_directory) {
  SP_TRY(ExportReader reader, ExportReader::open(export_directory));
  if (reader.claimed().origin != anchor_.origin)
    return unverified(Reason::kTrustAnchor, export_directory.string() + " is an export of another log");
  const TreeSize upto = std::min(reader.claimed().size, place_.size);
  const auto fold_all = [&]() -> Status {
    while (state_.control.size() < upto) {
      std::vector<Fetch> entries;
      for (std::uint64_t i = state_.control.size().get(); i < upto.get() && entries.size() < 4096; ++i) {
        SP_TRY(const ledger::Leaf leaf, reader.leaf(LeafIndex{i}));
        entries.emplace_back([&, i, leaf]() -> Result<record::Entry> {
          if (!reader.has_body(LeafIndex{i})) return record::Entry{leaf, {}, {}, {}};
          return read_entry(export_directory, LeafIndex{i}, leaf);
        });
      }
      SP_CHECK(fold(std::move(entries)));
    }
    if (upto != reader.claimed().size || upto.get() == 0) return Done{};
    SP_TRY(const auto checked, ledger::check_quorum(reader.note(), state_.control.policy()->witnesses));
    if (checked.root() != state_.control.root())
      return unverified(Reason::kLogFork, "its checkpoint is of another tree than its leaves");
    return Done{};
  };
  Status done = fold_all();
  if (done.has_value()) return done;
  Error error = done.error();
  error.what = "the export " + export_directory.string() + ": " + error.what;
  return error;
}

// take folds the entries up to a checkpoint, holds it against them, and tells what they are.
Status Monitor::take(Source& source, const std::string& note) {
  SP_TRY(const ledger::ClaimedNote parsed, ledger::parse_note(note));
  SP_TRY(const ledger::Checkpoint claimed, ledger::parse_checkpoint_text(parsed.text));
  if (claimed.origin != anchor_.origin)
    return unverified(Reason::kLogCheckpoint, "a checkpoint of another log");
  if (claimed.size < state_.control.size() || claimed.size.get() == 0)
    return unverified(Reason::kLogRollback, "a checkpoint of a smaller tree than was seen");
  while (state_.control.size() < claimed.size) {
    const LeafIndex from{state_.control.size().get()};
    SP_TRY(record::EntryPage page, source.entries(from));
    if (page.from != from || page.entries.empty())
      return Error{Code::kUnavailable, Reason::kPeer, "leaf " + std::to_string(from.get()) + " was not sent"};
    page.entries.resize(std::min<std::size_t>(page.entries.size(), claimed.size.get() - from.get()));
    std::vector<Fetch> entries;
    for (record::Entry& entry : page.entries)
      entries.emplace_back([&entry]() -> Result<record::Entry> { return std::move(entry); });
    SP_CHECK(fold(std::move(entries)));
  }
  SP_TRY(const auto checked, ledger::check_quorum(note, state_.control.policy()->witnesses));
  if (checked.root() != state_.control.root())
    return unverified(Reason::kLogFork, "log and witnesses signed another root than " +
                                            std::to_string(claimed.size.get()) + " leaves lead to");
  cosigned_ = std::max(cosigned_, UnixMillis{checked.median_time().get() * 1000});
  place_.note = note;
  for (; !pending_.empty(); pending_.pop_front()) {
    const Pending& next = pending_.front();
    place_.size = TreeSize{next.alarm.leaf->get() + 1};
    place_.root = next.root;
    SP_CHECK(say(next.alarm));
  }
  if (state_.control.size() > place_.size) {
    place_.size = state_.control.size();
    place_.root = state_.control.root();
  }
  return Done{};
}

Status Monitor::follow(Source& source) {
  const Status followed = follow_on(source);
  if (followed.has_value() || followed.error().reason != Reason::kLogMissingBody) return followed;
  // A case may have been erased while it was read: the bodies of its first leaves were there, and the rest no
  // more. Read once more it is without any, and its erasure is there to be read.
  state_ = record::begin_state(anchor_.origin, anchor_.genesis_policy);
  requests_ = {};
  pending_.clear();
  return follow_on(source);
}

Status Monitor::follow_on(Source& source) {
  for (;;) {
    // The checkpoint of the present size may have been cosigned again: how old it is counts. Those before
    // what was seen were judged then.
    const TreeSize before = state_.control.size();
    SP_TRY(const std::vector<std::string> notes, source.checkpoints(std::max({before, seen(), TreeSize{1}})));
    for (const std::string& note : notes) SP_CHECK(take(source, note));
    // A broker erases only what an erasure in its log names: with all leaves here, so is that.
    if (state_.control.size() == before) return record::check_complete(state_.control);
  }
}

Status Monitor::look(Source& source, UnixMillis now) {
  const Status followed = follow(source);
  const auto alarm = [&](std::string_view name, std::string what) {
    return Alarm{name, now, {}, {}, {}, std::move(what)};
  };
  if (!followed.has_value()) {
    if (unsaid_) return *unsaid_;
    Error error = followed.error();
    if (error.code == Code::kUnavailable) return lasts(Bookmark::kAway, true, alarm("away", describe(error)));
    // Whatever is wrong with a log, it is the proof that does not hold.
    if (error.code != Code::kInternal && exit_code_of(error) != reason_exit_code(Reason::kUnverified))
      error = Error{Code::kUnverified, describe(error)};
    SP_CHECK(say(alarm("inconsistent", describe(error))));
    return error;
  }
  SP_CHECK(lasts(Bookmark::kAway, false, alarm("away", {})));
  if (state_.control.size() < seen()) {
    const Error error =
        unverified(Reason::kLogRollback, "the log shows no checkpoint of " + std::to_string(seen().get()) +
                                             " leaves or more; one was seen before");
    SP_CHECK(say(alarm("inconsistent", describe(error))));
    return error;
  }
  const auto older = [&](UnixMillis time, std::chrono::milliseconds than) {
    return now.get() > time.get() + static_cast<std::uint64_t>(than.count());
  };
  SP_CHECK(
      lasts(Bookmark::kOld, older(cosigned_, options_.cosigned),
            alarm("old", "no quorum of witnesses has cosigned since " + std::to_string(cosigned_.get()))));
  return lasts(Bookmark::kStill, older(state_.control.last_time(), options_.still),
               alarm("still", "no leaf since " + std::to_string(state_.control.last_time().get())));
}

}  // namespace sallyport::client::auditor

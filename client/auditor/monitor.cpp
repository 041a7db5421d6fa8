#include "client/auditor/monitor.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "client/auditor/directory.h"
#include "client/auditor/tell.h"

namespace sallyport::client::auditor {
namespace {

using record::Kind;

constexpr std::string_view kFormat = "sallyport-follow/v1 ";

Error unverified(Reason reason, std::string what) {
  return Error{Code::kUnverified, reason, std::move(what)};
}

// name_of gives the alarm that a leaf is; none for what every access has.
std::optional<std::string_view> name_of(const record::State& state, const record::Entry& entry) {
  switch (static_cast<Kind>(entry.leaf.kind)) {
    case Kind::kRefusal:
      return "refusal";
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

std::string encode(const Bookmark& place) {
  return std::string{kFormat} + place.origin.get() + " " + std::to_string(place.size.get()) + " " +
         to_hex(place.root) + " " + std::to_string(place.lasting) + "\n";
}

Result<Bookmark> parse_bookmark(std::string_view text) {
  const Error wrong{Code::kMalformed, "not a line that `sallyport audit follow` wrote"};
  if (text.size() > kMaxManifestLine || !text.starts_with(kFormat) || !text.ends_with('\n')) return wrong;
  const std::string_view line = text.substr(kFormat.size(), text.size() - kFormat.size() - 1);
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    fields.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  if (fields.size() != 4) return wrong;
  Bookmark place;
  place.origin = Origin{std::string{fields[0]}};
  SP_TRY(const std::uint64_t size, parse_number(fields[1], ledger::kMaxTreeSize));
  place.size = TreeSize{size};
  SP_TRY(place.root, parse_digest(fields[2]));
  SP_TRY(place.lasting, parse_number(fields[3], Bookmark::kOld | Bookmark::kStill | Bookmark::kAway));
  if (encode(place) != text) return wrong;
  return place;
}

Monitor::Monitor(const follow::TrustAnchor& anchor, Bookmark place, const MonitorLimits& limits,
                 OnAlarm on_alarm)
    : anchor_(anchor),
      limits_(limits),
      on_alarm_(std::move(on_alarm)),
      state_(record::begin_state(anchor.origin, anchor.genesis_policy)),
      place_(std::move(place)) {}

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
    SP_TRY(const record::EntryPage page, source.entries(from));
    if (page.from != from || page.entries.empty())
      return Error{Code::kUnavailable, Reason::kPeer, "leaf " + std::to_string(from.get()) + " was not sent"};
    for (const record::Entry& entry : page.entries) {
      if (state_.control.size() == claimed.size) break;
      const LeafIndex index{state_.control.size().get()};
      auto prepared = record::prepare(state_, entry);
      if (!prepared.has_value()) {
        Error error = std::move(prepared).error();
        return unverified(error.reason, place_of_leaf(index) + ": " + error.what);
      }
      record::commit(state_, std::move(*prepared));
      if (index.get() + 1 == place_.size.get() && state_.control.root() != place_.root)
        return unverified(Reason::kLogFork,
                          "this is not the log that was followed until leaf " + std::to_string(index.get()));
      if (index.get() < place_.size.get()) continue;
      const auto name = name_of(state_, entry);
      if (!name) continue;
      SP_TRY(auto told, tell(entry));
      const auto found = state_.cases.find(entry.leaf.case_id);
      if (told.who.empty() && found != state_.cases.end() && found->second.request)
        told.who = found->second.request->person;
      pending_.push_back(
          {{*name, entry.leaf.time, index, entry.leaf.case_id, std::move(told.who), std::move(told.what)},
           state_.control.root()});
    }
  }
  SP_TRY(const auto checked, ledger::check_quorum(note, state_.control.policy()->witnesses));
  if (checked.root() != state_.control.root())
    return unverified(Reason::kLogFork, "log and witnesses signed another root than " +
                                            std::to_string(claimed.size.get()) + " leaves lead to");
  cosigned_ = std::max(cosigned_, UnixMillis{checked.median_time().get() * 1000});
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
  for (;;) {
    // The checkpoint of the present size may have been cosigned again: how old it is counts.
    const TreeSize before = state_.control.size();
    SP_TRY(const std::vector<std::string> notes,
           source.checkpoints(TreeSize{std::max<std::uint64_t>(before.get(), 1)}));
    for (const std::string& note : notes) SP_CHECK(take(source, note));
    if (state_.control.size() == before) return Done{};
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
  if (state_.control.size() < place_.size) {
    const Error error = unverified(
        Reason::kLogRollback, "the log has " + std::to_string(state_.control.size().get()) + " leaves; " +
                                  std::to_string(place_.size.get()) + " were seen before");
    SP_CHECK(say(alarm("inconsistent", describe(error))));
    return error;
  }
  const auto older = [&](UnixMillis time, std::chrono::milliseconds than) {
    return now.get() > time.get() + static_cast<std::uint64_t>(than.count());
  };
  SP_CHECK(
      lasts(Bookmark::kOld, older(cosigned_, limits_.cosigned),
            alarm("old", "no quorum of witnesses has cosigned since " + std::to_string(cosigned_.get()))));
  return lasts(Bookmark::kStill, older(state_.control.last_time(), limits_.still),
               alarm("still", "no leaf since " + std::to_string(state_.control.last_time().get())));
}

}  // namespace sallyport::client::auditor

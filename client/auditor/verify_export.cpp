#include "client/auditor/verify_export.h"

#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <map>
#include <shared_mutex>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/program/lookahead.h"
#include "attestation/record/ahead.h"
#include "attestation/record/appraise.h"

namespace sallyport::client::auditor {
namespace {

namespace fs = std::filesystem;
using program::Lookahead;
using record::Kind;

Error bad(const std::string& place, const std::string& what, Reason reason = Reason::kUnverified) {
  return Error{Code::kUnverified, reason, place + ": " + what};
}

// at puts a place before an error, and makes it a finding about the export: whatever is wrong with a leaf,
// it is the proof that does not hold.
Error at(const std::string& place, Error error) {
  if (error.code == Code::kInternal || error.reason == Reason::kStorage) return error;
  const bool finding = exit_code_of(error) == reason_exit_code(Reason::kUnverified);
  std::string what = place + ": ";
  if (!finding) what += "[" + std::string{reason_name(error.reason)} + "] ";
  return Error{Code::kUnverified, finding ? error.reason : Reason::kUnverified, what + error.what,
               error.where};
}

struct Accounted {
  std::uint64_t files = 0, bytes = 0;
  std::vector<TreeSize> notes;                         // ascending
  std::map<std::string, Place, std::less<>> partials;  // by path
  std::uint64_t policies = 0, complete = 0;            // the latter: full tiles and bundles
  std::uint64_t pending = 0;                           // files that are not in MANIFEST
  std::vector<bool> bodies;                            // by leaf

  bool has_body(LeafIndex index) const { return bodies[index.get()]; }

  void count(const ManifestLine& line, const Place& place) {
    ++files;
    bytes += line.size;
    if (is_partial(place))
      partials.emplace(line.path, place);
    else if (place.kind == Place::Kind::kTile || place.kind == Place::Kind::kBundle)
      ++complete;
    else if (place.kind == Place::Kind::kNote)
      notes.emplace_back(place.number);
    else if (place.kind == Place::Kind::kPolicy)
      ++policies;
    else if (place.kind == Place::Kind::kBody)
      bodies[place.number] = true;
  }
};

// may_wait tells whether a file that MANIFEST does not list may be there: of an export that is on its way, or
// left behind by the last one.
bool may_wait(std::string_view path, TreeSize size) {
  if (path == kPartPath || path == kErasingPath) return true;
  const auto place = parse_place(path);
  return place.has_value() &&
         (place->kind == Place::Kind::kBlob || place->kind == Place::Kind::kPolicy ||
          place->kind == Place::Kind::kBody || is_partial(*place) || !belongs(*place, size));
}

// complete_of gives the number of full tiles and bundles.
std::uint64_t complete_of(TreeSize size) {
  std::uint64_t count = size.get() / ledger::kTileWidth;
  for (std::uint64_t has = size.get() / ledger::kTileWidth; has != 0; has /= ledger::kTileWidth) count += has;
  return count;
}

// changed_file says of a file that is not the one MANIFEST lists what can be said more exactly.
Error changed_file(ExportReader& reader, const std::string& path, const Place& place) {
  if (place.kind == Place::Kind::kBody) {
    const auto file = read_file(reader.directory(), path);
    const ByteView bytes = file.has_value() ? ByteView{*file} : ByteView{};
    const auto leaf = reader.leaf(LeafIndex{place.number});
    if (leaf.has_value() &&
        (bytes.size() < 32 || crypto::hmac_sha256(bytes.first(32), bytes.subspan(32)) != leaf->commitment))
      return bad(place_of_leaf(LeafIndex{place.number}), "body does not match its commitment",
                 Reason::kLogBody);
  }
  return bad(path, "is not the file that MANIFEST lists");
}

Error lacks_tiles() {
  return bad(std::string{kManifestPath}, "does not list all tile/ of this size");
}

// check_room: MANIFEST has a line for each full bundle, so it is not short where the size is large. What is
// kept by leaf takes no more memory than a fraction of MANIFEST, whatever size that claims.
Status check_room(const Descriptor& manifest, TreeSize size) {
  struct stat status {};
  if (::fstat(manifest.get(), &status) != 0)
    return Error{Code::kUnavailable, Reason::kStorage, std::string{kManifestPath}};
  constexpr std::uint64_t kShortestLine = 64;
  if (size.get() / ledger::kTileWidth > static_cast<std::uint64_t>(status.st_size) / kShortestLine)
    return lacks_tiles();
  return Done{};
}

// check_complete: MANIFEST lists all that an export of this size has, as far as the size tells. Which bodies
// are not there, and should be, the replay finds.
Status check_complete(const Accounted& accounted, TreeSize size) {
  if (accounted.complete != complete_of(size)) return lacks_tiles();
  if (accounted.notes.empty() || accounted.notes.back() != size)
    return bad(note_path(size), "is not in MANIFEST");
  const std::set<std::string> owed = partials_of(accounted.notes, size);
  for (const std::string& path : owed)
    if (!accounted.partials.contains(path)) return bad(path, "is not in MANIFEST");
  for (const auto& [path, place] : accounted.partials)
    if (!owed.contains(path)) return bad(path, "a partial tile of no checkpoint");
  return Done{};
}

// account_for_files holds the directory against MANIFEST: every file that is listed is there, as it is
// listed. Files are read and hashed ahead; what is wrong is said of the first one.
Result<Accounted> account_for_files(ExportReader& reader, unsigned threads) {
  const fs::path& directory = reader.directory();
  const ledger::Checkpoint& claimed = reader.claimed();
  SP_TRY(ManifestReader manifest, ManifestReader::open(reader.manifest()));
  struct Listed {
    ManifestLine line;
    Place place;
  };
  std::deque<Listed> listed;  // whose files are looked at
  Lookahead<Result<bool>> same{threads, [](const Result<bool>&) { return std::size_t{0}; }};
  SP_CHECK(check_room(reader.manifest(), claimed.size));
  Accounted accounted;
  accounted.bodies.resize(claimed.size.get());
  Status found = Done{};
  const auto take = [&]() -> Status {
    const Listed file = std::move(listed.front());
    listed.pop_front();
    const Result<bool> is_same = same.take();
    if (!is_same.has_value()) return found = is_same.error();
    if (!*is_same) return found = changed_file(reader, file.line.path, file.place);
    accounted.count(file.line, file.place);
    return Done{};
  };
  SP_TRY(auto line, manifest.next());
  const Status walked = walk(directory, [&](const std::string& path) -> Status {
    if (path == kManifestPath || path == kCheckpointPath) return Done{};
    if (!line || line->path > path) {
      if (!may_wait(path, claimed.size))
        return bad(path, "is not in MANIFEST, and no file of a larger export");
      ++accounted.pending;
      return Done{};
    }
    if (line->path < path) return bad(line->path, "is missing, and in MANIFEST");
    if (same.full()) SP_CHECK(take());
    same.push([&directory, listed = *line]() -> Result<bool> {
      SP_TRY(const Bytes bytes, read_file(directory, listed.path));
      return bytes.size() == listed.size && crypto::sha256(bytes) == listed.sha256;
    });
    listed.push_back({*line, *parse_place(path)});
    SP_TRY(line, manifest.next());
    return Done{};
  });
  while (found.has_value() && !listed.empty()) (void)take().has_value();
  SP_CHECK(found);
  SP_CHECK(walked);
  if (line) return bad(line->path, "is missing, and in MANIFEST");
  std::sort(accounted.notes.begin(), accounted.notes.end());  // they were in the order of their names
  SP_CHECK(check_complete(accounted, claimed.size));
  return accounted;
}

// TileCheck makes the tiles again from the leaves, and holds the files against them.
class TileCheck {
 public:
  TileCheck(const fs::path& directory, const Accounted& accounted)
      : directory_(directory), partials_(accounted.partials) {}

  Status append(const Digest256& leaf_hash) {
    std::optional<Error> failed;
    range_.append(leaf_hash, [&](unsigned level, std::uint64_t index, const Digest256& hash) {
      if (failed || level % 8 != 0) return;
      Bytes& tile = tiles_[level / 8];
      tile.insert(tile.end(), view(hash).begin(), view(hash).end());
      if (tile.size() < 32 * ledger::kTileWidth) return;
      if (const Status same = compare(level / 8, index / ledger::kTileWidth); !same.has_value())
        failed = same.error();
      tile.clear();
    });
    if (failed) return *failed;
    return Done{};
  }
  // finish looks at the partial tiles and bundles: of each, there is only so much of the last one. `last` is
  // the last bundle.
  Status finish(ByteView last) {
    for (const auto& [path, place] : partials_) {
      const ByteView all = place.kind == Place::Kind::kTile ? ByteView{tiles_[place.tile.level]} : last;
      const std::size_t size = place.kind == Place::Kind::kTile
                                   ? std::size_t{32} * place.tile.width
                                   : (2 + ledger::kLeafSize) * std::size_t{place.bundle.width};
      if (size > all.size()) return bad(path, "is not what the leaves lead to", Reason::kLogConsistency);
      SP_TRY(const Bytes file, read_file(directory_, path));
      if (!equal(file, all.first(size)))
        return bad(path, "is not what the leaves lead to", Reason::kLogConsistency);
    }
    return Done{};
  }
  Digest256 root() const { return range_.root(); }

 private:
  Status compare(unsigned level, std::uint64_t index) {
    const Bytes& tile = tiles_[level];
    const std::string path = ledger::tile_path({level, index, static_cast<unsigned>(tile.size() / 32)});
    SP_TRY(const Bytes file, read_file(directory_, path));
    if (equal(file, tile)) return Done{};
    return bad(path, "is not what the leaves lead to", Reason::kLogConsistency);
  }
  const fs::path& directory_;
  const std::map<std::string, Place, std::less<>>& partials_;
  ledger::CompactRange range_;
  std::array<Bytes, ledger::kMaxTileLevel + 1> tiles_;
};

// read_note reads one of checkpoints/.
Result<std::string> read_note(const fs::path& directory, TreeSize size) {
  SP_TRY(const Bytes bytes, read_file(directory, note_path(size)));
  return std::string{as_text(bytes)};
}

// check_note checks a cosigned checkpoint against the root and the policy at its size.
Result<ledger::VerifiedCheckpoint> check_note(const std::string& note, const std::string& path, TreeSize size,
                                              const Digest256& root, const Origin& origin,
                                              const ledger::WitnessPolicy& witnesses,
                                              const crypto::VerifiedSignatures* known = nullptr) {
  auto checked = ledger::check_quorum(note, witnesses, known);
  if (!checked.has_value()) return at(path, std::move(checked).error());
  if (checked->origin() != origin) return bad(path, "a checkpoint of another log", Reason::kLogCheckpoint);
  if (checked->size() != size) return bad(path, "a checkpoint of another size", Reason::kLogCheckpoint);
  if (checked->root() != root)
    return bad(path, "a root to which the leaves do not lead: two histories of the log", Reason::kLogFork);
  return checked;
}

// Counter makes the numbers of the report while the log is replayed.
class Counter {
 public:
  explicit Counter(AuditReport& report) : report_(report) {}

  // before an entry is folded in, which record::prepare has accepted.
  Status before(const record::State& state, const record::OpenedStatement& opened) {
    const record::Body& body = opened.body;
    const record::Envelope& envelope = opened.envelope;
    count_evidence(body);
    report_.signatures.statements += envelope.signatures.size();
    auto& cases = report_.cases;
    const auto known = state.cases.find(body.case_id);
    const record::Case* one = known == state.cases.end() ? nullptr : &known->second;
    switch (body.kind) {
      case Kind::kRequest:
        ++cases.access;
        break;
      case Kind::kRefusal:
        ++cases.refused;
        break;
      case Kind::kGrant:
        ++cases.granted;
        if (const auto listed = foreign_.find(body.case_id); listed != foreign_.end())
          report_.foreign[listed->second].granted = true;
        break;
      case Kind::kDenial:
        if (one != nullptr) count_denied(*one);
        break;
      case Kind::kRevocation: {
        ++cases.revocations;
        SP_TRY(const record::Revocation revocation, record::parse_revocation(envelope.payload));
        if (revocation.kind != record::RevocationKind::kCase) break;
        SP_TRY(const CaseId target, parse_case_id(revocation.target));
        if (const auto hit = state.cases.find(target); hit != state.cases.end()) count_denied(hit->second);
        break;
      }
      case Kind::kEnrolmentRequested:
        ++cases.enrolments;
        break;
      case Kind::kPolicyProposed:
        ++cases.policies;
        break;
      case Kind::kErasureProposed:
        ++cases.erasures;
        break;
      case Kind::kHold:
      case Kind::kHoldLifted:
        ++cases.holds;
        break;
      case Kind::kErasure: {
        SP_TRY(const record::Erasure statement, record::parse_erasure(envelope.payload));
        report_.signatures.statements += 1 + statement.approvals.size();
        break;
      }
      case Kind::kEnrolment: {
        SP_TRY(const record::Enrolment statement, record::parse_enrolment(envelope.payload));
        report_.signatures.statements += 1 + statement.approvals.size();
        break;
      }
      case Kind::kPolicy: {
        SP_TRY(const record::PolicyInForce statement, record::parse_policy_in_force(envelope.payload));
        report_.signatures.statements += statement.approvals.size() + (statement.proposal.empty() ? 0 : 1);
        report_.policies.push_back(
            {statement.version, statement.digest, LeafIndex{state.control.size().get()}});
        break;
      }
      case Kind::kLease:
        ++cases.leases;
        break;
      case Kind::kSessionOpened:
        ++cases.sessions;
        break;
      default:
        break;
    }
    return Done{};
  }

  // erased counts a leaf without a body: that its case was opened is all that it says.
  void erased(const ledger::Leaf& leaf) {
    if (leaf.kind != static_cast<std::uint8_t>(Kind::kRequest)) return;
    ++report_.cases.access;
    ++report_.cases.erased;
  }

  // after it was folded in.
  void after(const record::State& state, const ledger::Leaf& leaf, LeafIndex index) {
    if (index.get() == 0) report_.continues = state.control.policy()->policy.authority.continues;
    if (leaf.kind != static_cast<std::uint8_t>(Kind::kRequest)) return;
    const auto known = state.cases.find(leaf.case_id);
    if (known == state.cases.end() || !known->second.request) return;
    const record::Request& request = *known->second.request;
    const policy::Policy& policy = state.control.policy()->policy;
    const RegionId region = policy::region_of_person(policy, PersonId{request.beneficiary});
    if (region == policy.authority.region) return;
    ++report_.foreign_count;
    if (report_.foreign.size() == kMaxForeignCases) return;
    foreign_.emplace(leaf.case_id, report_.foreign.size());
    report_.foreign.push_back({.case_id = leaf.case_id,
                               .leaf = index,
                               .person = request.person,
                               .beneficiary = request.beneficiary,
                               .region = region.get()});
  }

  // finish counts what is open at a time.
  void finish(const record::State& state, UnixMillis time) {
    auto& cases = report_.cases;
    for (const auto& [id, one] : state.cases)
      if (is_open(one) && one.expires > time) ++cases.open;
    cases.expired = cases.access - cases.granted - cases.refused - cases.denied - cases.open - cases.erased;
    report_.last_leaf = state.control.last_time();
    for (const auto& [id, stop] : state.stopped)
      if (const auto device = record::live_device(state.control, id))
        report_.stopped.push_back({id, (*device)->name, stop.case_id});
  }

 private:
  static bool is_open(const record::Case& one) {
    return one.type == record::CaseType::kAccess &&
           (one.state == record::CaseState::kOpen || one.state == record::CaseState::kRefusable);
  }
  void count_denied(const record::Case& one) {
    if (is_open(one)) ++report_.cases.denied;
  }
  void count_evidence(const record::Body& body) {
    auto& evidence = report_.evidence;
    for (const record::EvidenceItem& item : body.items) {
      switch (item.type) {
        case record::EvidenceType::kQuote:
          ++evidence.quotes;
          ++report_.signatures.tpm;
          break;
        case record::EvidenceType::kKey:
          ++evidence.keys;
          ++report_.signatures.tpm;
          break;
        case record::EvidenceType::kNote:
          ++evidence.notes;
          break;
        case record::EvidenceType::kObservation:
          ++evidence.observations;
          break;
        case record::EvidenceType::kAttachment:
          ++evidence.attachments;
          break;
        case record::EvidenceType::kIdentity:
          ++report_.signatures.tpm;
          break;
        case record::EvidenceType::kEkCertificate:
          ++evidence.endorsements;
          break;
        case record::EvidenceType::kEventLog:
          ++evidence.event_logs;
          break;
        case record::EvidenceType::kImaQuote:
          ++evidence.quotes;
          ++report_.signatures.tpm;
          break;
        case record::EvidenceType::kImaList:
          ++evidence.ima_parts;
          break;
        case record::EvidenceType::kReferences:
        case record::EvidenceType::kPolicyText:
        case record::EvidenceType::kTpmRoots:
        case record::EvidenceType::kControlState:
          ++evidence.documents;
          break;
      }
    }
  }

  AuditReport& report_;
  std::map<CaseId, std::size_t> foreign_;  // into report_.foreign
};

Status check_origin(const ExportReader& reader, const follow::TrustAnchor& anchor) {
  if (reader.claimed().origin == anchor.origin) return Done{};
  return bad(note_path(reader.claimed().size), "a checkpoint of another log than the trust file's",
             Reason::kTrustAnchor);
}

// moment_of tells what grants could be used; of erased cases, those of `erased`.
AuditReport::Moment moment_of(const record::State& state, UnixMillis time,
                              const std::vector<CaseId>& erased) {
  AuditReport::Moment moment{state.control.size(), state.control.root(), time, {}};
  for (const auto& [id, one] : state.cases) {
    const auto grant = state.control.find_grant(id);
    if (!grant || grant->not_after <= time || state.control.is_denied(id) || !one.decision) continue;
    moment.grants.push_back({id, one.decision->person, one.decision->beneficiary, one.decision->account,
                             one.decision->host, grant->not_after});
  }
  for (const CaseId& id : erased)
    if (const auto grant = state.control.find_grant(id);
        grant && grant->not_after > time && !state.control.is_denied(id))
      moment.grants.push_back({id, {}, {}, {}, {}, grant->not_after});
  return moment;
}

// mixed says that a leaf of an erased case has a body, or that one of a case that is there has none.
Error mixed(LeafIndex missing) {
  return bad(place_of_leaf(missing), "the body is missing, and not all of its case are",
             Reason::kLogMissingBody);
}

// check_named: each case without bodies was named by an erasure that covers it.
Status check_named(const record::ControlState& control) {
  Status complete = record::check_complete(control);
  if (complete.has_value()) return complete;
  return at(place_of_leaf(control.first_unnamed()->second), std::move(complete).error());
}

// Replay folds all entries of an export. Other threads read them, and verify the signatures that their
// judgement will ask for; what is judged, and in which order, is this thread's alone.
class Replay {
 public:
  Replay(ExportReader& reader, const follow::TrustAnchor& anchor, const VerifyOptions& options,
         const Accounted& accounted, ManifestIndex& referred)
      : reader_(reader),
        anchor_(anchor),
        options_(options),
        accounted_(accounted),
        notes_(accounted.notes),
        referred_(referred),
        state_(record::begin_state(anchor.origin, anchor.genesis_policy)),
        ahead_(options.threads, weight) {}

  Result<AuditReport> run() {
    const std::uint64_t size = reader_.claimed().size.get();
    report_.origin = anchor_.origin;
    report_.size = reader_.claimed().size;
    if (!std::binary_search(notes_.begin(), notes_.end(), reader_.front_size()))
      return bad(std::string{kCheckpointPath}, "is of no size that checkpoints/ has");
    if (reader_.front_size() < report_.size) report_.front_behind = reader_.front_size();
    SP_TRY(kept_, kept_checkpoint());
    if (const TreeSize* wanted = as_of<TreeSize>();
        wanted != nullptr && (wanted->get() == 0 || wanted->get() > size))
      return not_reached();
    for (std::uint64_t i = 0; i < size; ++i) {
      const LeafIndex index{i};
      read_ahead();
      if (i % ledger::kTileWidth == 0) SP_CHECK(take_bundle(i));
      if (options_.progress && i % kProgressStep == 0) options_.progress(i, size);
      SP_CHECK(take_entry(index));
      if (const TreeSize* wanted = as_of<TreeSize>(); wanted != nullptr && wanted->get() == i + 1)
        stop_counting(state_.control.last_time());
    }
    // The newest checkpoint was among them; so the root is one that log and witnesses signed.
    SP_ASSERT(next_note_ == notes_.size() && state_.control.root() == tiles_.root());
    report_.root = state_.control.root();
    if (const UnixMillis* wanted = as_of<UnixMillis>(); wanted != nullptr && !report_.moment) {
      if (*wanted > report_.newest_cosigned) return not_reached();
      stop_counting(*wanted);
    }
    if (!report_.moment) counter_.finish(state_, state_.control.last_time());
    SP_CHECK(check_named(state_.control));
    SP_CHECK(look_at_erased());
    if (options_.progress) options_.progress(size, size);
    return std::move(report_);
  }
  const record::LoadedPolicy& policy() const { return *state_.control.policy(); }
  std::uint64_t policies() const { return policies_; }

 private:
  static constexpr std::uint64_t kProgressStep = 16;

  // Ahead is what was done before an entry's turn.
  struct Ahead {
    Result<record::Entry> entry = Error{Code::kInternal, "not read"};  // without its bytes once it is opened
    std::optional<record::OpenedEntry> opened;
    std::vector<std::uint64_t> evidence;      // lines of MANIFEST
    std::string unlisted;                     // evidence that MANIFEST does not list
    std::optional<Result<std::string>> note;  // the checkpoint whose tree ends with the entry
    std::shared_ptr<const record::VerifiedAhead> known;
    const record::Entry& as_read() const { return opened ? opened->entry() : *entry; }
  };
  static std::size_t weight(const Ahead& ahead) {
    if (!ahead.entry.has_value()) return 0;
    std::size_t bytes = ahead.as_read().body.size();
    for (const record::Blob& blob : ahead.as_read().blobs) bytes += blob.bytes.size();
    return bytes;
  }

  template <class T>
  const T* as_of() const {
    return options_.as_of ? std::get_if<T>(&*options_.as_of) : nullptr;
  }
  static Error not_reached() {
    return Error{Code::kMalformed, Reason::kUsage, "--as-of: the export does not reach that moment"};
  }

  Result<std::optional<ledger::Checkpoint>> kept_checkpoint() const {
    if (options_.kept.empty()) return std::optional<ledger::Checkpoint>{};
    const auto note = ledger::parse_note(options_.kept);
    if (!note.has_value()) return at(options_.kept_name, note.error());
    auto claimed = ledger::parse_checkpoint_text(note->text);
    if (!claimed.has_value()) return at(options_.kept_name, claimed.error());
    if (claimed->origin != anchor_.origin)
      return bad(options_.kept_name, "a checkpoint of another log", Reason::kLogCheckpoint);
    if (claimed->size.get() == 0)
      return bad(options_.kept_name, "of an empty log, which says nothing", Reason::kLogCheckpoint);
    if (claimed->size > reader_.claimed().size)
      return bad(options_.kept_name, "of a larger log than this export: the log, or the export, went back",
                 Reason::kLogRollback);
    return std::optional{std::move(*claimed)};
  }

  // read_ahead gives the other threads what they have room for. A bundle that cannot be read is found when
  // its turn comes.
  void read_ahead() {
    const std::uint64_t size = reader_.claimed().size.get();
    for (; given_ < size && !ahead_.full() && !unreadable_; ++given_) {
      const LeafIndex index{given_};
      if (given_ % ledger::kTileWidth == 0) {
        const auto leaves = reader_.bundle_of(index);
        if (!leaves.has_value()) {
          unreadable_ = leaves.error();
          return;
        }
        bundles_.push_back(**leaves);
      }
      const TreeSize leads_to{given_ + 1};
      ahead_.push([this, index, leaf = bundles_.back()[given_ % ledger::kTileWidth],
                   noted = std::binary_search(notes_.begin(), notes_.end(), leads_to)] {
        return look_ahead(index, leaf, noted);
      });
    }
  }

  // look_ahead runs on any thread.
  Ahead look_ahead(LeafIndex index, const ledger::Leaf& leaf, bool noted) {
    Ahead out;
    if (!accounted_.has_body(index)) {
      out.entry = record::Entry{leaf, {}, {}, {}};
      if (noted) out.note = read_note(reader_.directory(), TreeSize{index.get() + 1});
      return out;
    }
    out.entry = read_entry(reader_.directory(), index, leaf);
    if (!out.entry.has_value()) return out;
    auto opened = record::open_entry(*out.entry);
    if (!opened.has_value()) return out;  // prepare says why when its turn comes
    out.opened = std::move(*opened);
    *out.entry = {};
    for (const record::EvidenceItem& item : out.opened->statement().body.items)
      if (const auto line = referred_.find(item.sha256))
        out.evidence.push_back(*line);
      else
        out.unlisted = blob_path(item.sha256);
    if (noted) out.note = read_note(reader_.directory(), TreeSize{index.get() + 1});
    if (options_.threads == 0) return out;

    const auto asked_at = [&] {
      const std::lock_guard lock{looking_};
      return requests_.read(out.opened->statement());
    }();
    record::Claims claimed;
    {
      const std::shared_lock lock{folding_};
      claimed = record::claims_of(state_, *out.opened, asked_at);
      if (const auto policy = state_.control.policy(); policy && out.note && out.note->has_value()) {
        claimed.add(record::claims_of(*policy, **out.note));
      }
    }
    out.known = record::verify_ahead(claimed, recent_, looking_);
    return out;
  }

  // take_bundle holds a whole bundle against its tile before anything of it is judged: so a changed leaf is
  // told from a changed body.
  Status take_bundle(std::uint64_t first) {
    if (bundles_.empty()) return *unreadable_;
    for (const ledger::Leaf& leaf : bundles_.front()) SP_CHECK(tiles_.append(ledger::leaf_hash(leaf)));
    if (first + ledger::kTileWidth >= reader_.claimed().size.get()) SP_CHECK(finish_tiles(bundles_.front()));
    static_assert(Lookahead<Ahead>::kTasks >= ledger::kTileWidth,
                  "all of a bundle is given when it is taken");
    bundles_.pop_front();
    return Done{};
  }

  Status finish_tiles(const std::vector<ledger::Leaf>& leaves) {
    std::vector<ledger::LeafBytes> encoded;
    for (const ledger::Leaf& leaf : leaves) encoded.push_back(ledger::encode_leaf(leaf));
    SP_TRY(const Bytes bundle, ledger::encode_bundle(std::vector<ByteView>{encoded.begin(), encoded.end()}));
    return tiles_.finish(leaves.size() < ledger::kTileWidth ? ByteView{bundle} : ByteView{});
  }

  Status take_entry(LeafIndex index) {
    Ahead ahead = ahead_.take();
    if (!ahead.entry.has_value()) return std::move(ahead.entry).error();
    const record::Entry& entry = ahead.as_read();
    for (const std::uint64_t line : ahead.evidence) referred_.mark(line);
    if (!ahead.unlisted.empty()) return bad(ahead.unlisted, "is not in MANIFEST");
    if (const UnixMillis* wanted = as_of<UnixMillis>();
        wanted != nullptr && entry.leaf.time > *wanted && !report_.moment) {
      if (index.get() == 0) return not_reached();
      stop_counting(*wanted);
    }
    {
      const std::unique_lock lock{folding_};
      state_.control.remember(ahead.known);
    }
    const bool erased = record::is_erased(entry);
    const record::CaseTrace* const trace = entry.leaf.predecessor == ledger::kNoPredecessor
                                               ? nullptr
                                               : state_.control.find_case(entry.leaf.case_id);
    if (trace != nullptr && trace->erased != erased) return mixed(erased ? index : trace->first);
    auto prepared = erased         ? record::prepare_erased(state_, entry.leaf)
                    : ahead.opened ? record::prepare(state_, *ahead.opened)
                                   : record::prepare(state_, *ahead.entry);
    if (!prepared.has_value()) return at(place_of_leaf(index), std::move(prepared).error());
    SP_ASSERT(ahead.opened || erased);  // what prepare takes can be opened
    if (!report_.moment) {
      if (erased)
        counter_.erased(entry.leaf);
      else
        SP_CHECK(counter_.before(state_, ahead.opened->statement()));
    }
    {
      const std::unique_lock lock{folding_};
      record::commit(state_, std::move(*prepared));
    }
    {
      const std::lock_guard lock{looking_};
      requests_.folded(entry.leaf);
    }
    if (entry.leaf.kind == static_cast<std::uint8_t>(Kind::kPolicy)) SP_CHECK(take_policy());
    if (entry.leaf.kind == static_cast<std::uint8_t>(Kind::kErasure)) {
      SP_TRY(KnownErasure erasure, open_erasure(ahead.opened->statement(), index, entry.leaf.time));
      report_.erased.push_back({std::move(erasure), 0, 0});
    }
    if (erased) {
      keep_grant(entry.leaf);
      if (options_.on_erased) options_.on_erased(entry.leaf, index);
    } else {
      if (!report_.moment) counter_.after(state_, entry.leaf, index);
      if (options_.on_entry) options_.on_entry(state_, *ahead.opened, index);
    }
    if (index.get() == 0) report_.first_leaf = entry.leaf.time;
    SP_CHECK(take_note(ahead));
    return take_kept();
  }

  // keep_grant keeps the erased cases that have a grant, as long as it could be used.
  void keep_grant(const ledger::Leaf& leaf) {
    if (leaf.kind != static_cast<std::uint8_t>(Kind::kGrant) || !options_.as_of || report_.moment) return;
    std::erase_if(erased_grants_, [&](const CaseId& id) {
      const auto grant = state_.control.find_grant(id);
      return !grant || grant->not_after <= leaf.time;
    });
    erased_grants_.push_back(leaf.case_id);
  }

  // look_at_erased counts what the erasures have erased, and finds what they should have.
  Status look_at_erased() {
    if (report_.erased.empty()) return Done{};
    std::vector<KnownErasure> erasures;
    for (const AuditReport::Erased& one : report_.erased) erasures.push_back(one.erasure);
    return for_each_covered(
        reader_, erasures, [&](LeafIndex index, const ledger::Leaf& leaf, const KnownErasure& by) -> Status {
          if (accounted_.has_body(index))
            return bad(place_of_leaf(index), "the body of a case that was erased at leaf " +
                                                 std::to_string(by.leaf.get()) + " is there");
          const auto erased =
              std::find_if(report_.erased.begin(), report_.erased.end(),
                           [&](const AuditReport::Erased& one) { return one.erasure.leaf == by.leaf; });
          ++erased->leaves;
          if (leaf.predecessor == ledger::kNoPredecessor) ++erased->cases;
          return Done{};
        });
  }

  // take_policy holds the witnesses' part of the policy that is in force from here on against its file.
  Status take_policy() {
    ++policies_;
    const std::string path = policy_path(policy().policy.version);
    SP_TRY(const Bytes text, read_file(reader_.directory(), path));
    if (as_text(text) == policy().policy.authority.witnesses) return Done{};
    return bad(path, "is not the witnesses' part of that policy");
  }

  Status take_note(const Ahead& ahead) {
    if (!ahead.note) return Done{};
    const TreeSize size = notes_[next_note_++];
    SP_ASSERT(size == state_.control.size());
    SP_TRY(const std::string note, *ahead.note);
    SP_TRY(const auto checked, check_note(note, note_path(size), size, state_.control.root(), anchor_.origin,
                                          policy().witnesses, &ahead.known->signatures));
    ++report_.checkpoints;
    report_.signatures.checkpoints += 1 + checked.cosignatures().size();
    report_.newest_cosigned = UnixMillis{checked.median_time().get() * 1000};
    if (size != reader_.front_size()) return Done{};
    // `checkpoint` is this one, maybe cosigned again since. It is in no MANIFEST, so nothing is left in it
    // that nobody vouches for.
    const std::string front{kCheckpointPath};
    SP_TRY(const auto again, check_note(reader_.front(), front, size, state_.control.root(), anchor_.origin,
                                        policy().witnesses));
    SP_TRY(const ledger::ClaimedNote parsed, ledger::parse_note(reader_.front()));
    if (parsed.signatures.size() != 1 + again.cosignatures().size())
      return bad(front, "a signature line of no key of the log's policy", Reason::kLogCheckpoint);
    report_.newest_cosigned = std::max(report_.newest_cosigned, UnixMillis{again.median_time().get() * 1000});
    return Done{};
  }

  Status take_kept() {
    if (!kept_ || kept_->size != state_.control.size()) return Done{};
    SP_CHECK(check_note(options_.kept, options_.kept_name, kept_->size, state_.control.root(), anchor_.origin,
                        policy().witnesses));
    report_.continued = kept_->size;
    return Done{};
  }

  void stop_counting(UnixMillis time) {
    report_.moment = moment_of(state_, time, erased_grants_);
    counter_.finish(state_, time);
  }

  ExportReader& reader_;
  const follow::TrustAnchor& anchor_;
  const VerifyOptions& options_;
  const Accounted& accounted_;
  const std::vector<TreeSize>& notes_;  // ascending
  ManifestIndex& referred_;
  AuditReport report_;
  Counter counter_{report_};
  TileCheck tiles_{reader_.directory(), accounted_};
  std::size_t next_note_ = 0;
  std::optional<ledger::Checkpoint> kept_;
  std::vector<CaseId> erased_grants_;

  std::uint64_t policies_ = 0;                     // that came into force
  std::uint64_t given_ = 0;                        // entries that were given to other threads
  std::deque<std::vector<ledger::Leaf>> bundles_;  // of those, not yet held against their tiles
  std::optional<Error> unreadable_;                // the bundle after those
  std::shared_mutex folding_;  // guards state_ while it changes; this thread reads it without
  record::State state_;
  std::mutex looking_;  // guards the next two
  record::OpenRequests requests_;
  record::RecentlyVerified recent_;
  Lookahead<Ahead> ahead_;  // last: its threads end before what they use
};

}  // namespace

Result<AuditReport> verify_export(const fs::path& directory, const follow::TrustAnchor& anchor,
                                  const VerifyOptions& options) {
  SP_TRY(ExportReader reader, ExportReader::open(directory));
  SP_CHECK(check_origin(reader, anchor));
  // MANIFEST first: it tells best which file was changed. The replay finds what a MANIFEST made anew hides.
  SP_TRY(const Accounted accounted, account_for_files(reader, options.threads));
  SP_TRY(ManifestIndex referred, ManifestIndex::open(reader.manifest()));
  Replay replay{reader, anchor, options, accounted, referred};
  SP_TRY(AuditReport report, replay.run());
  // Each version was found: so none is listed that never ruled.
  if (accounted.policies != replay.policies())
    return bad(std::string{kManifestPath}, "does not list one of policies/ for each version");
  SP_TRY(const auto unreferred, referred.first_unmarked());
  if (unreferred) return bad(*unreferred, "evidence of no leaf");
  report.files = accounted.files + 2;  // with `checkpoint` and MANIFEST
  report.bytes = accounted.bytes + reader.front().size();
  report.pending = accounted.pending;
  return report;
}

Result<record::ControlState> replay_control(ExportReader& reader, const follow::TrustAnchor& anchor,
                                            const HasBody& has_body, const OnLeaf& on_leaf) {
  SP_CHECK(check_origin(reader, anchor));
  record::ControlState control = record::ControlState::begin(anchor.origin, anchor.genesis_policy);
  const TreeSize size = reader.claimed().size;
  for (std::uint64_t i = 0; i < size.get(); ++i) {
    const LeafIndex index{i};
    SP_TRY(const ledger::Leaf leaf, reader.leaf(index));
    const auto kind = record::parse_kind(leaf.kind);
    if (!kind.has_value()) return at(place_of_leaf(index), kind.error());
    const record::CaseTrace* const trace = control.find_case(leaf.case_id);
    const bool erased = *kind == Kind::kRequest
                            ? !has_body(index)
                            : record::is_erasable(*kind) && trace != nullptr && trace->erased;
    std::optional<record::Entry> entry;
    if (record::is_control(*kind) && !erased) {
      SP_TRY(entry, read_entry(reader.directory(), index, leaf));
    }
    auto prepared = erased ? record::prepare_erased(control, leaf)
                           : record::prepare_control(control, leaf, entry ? &*entry : nullptr);
    if (!prepared.has_value()) return at(place_of_leaf(index), std::move(prepared).error());
    record::commit(control, std::move(*prepared));
    if (on_leaf) SP_CHECK(on_leaf(index, leaf, control));
  }
  SP_CHECK(check_named(control));
  SP_CHECK(check_note(reader.note(), note_path(size), size, control.root(), anchor.origin,
                      control.policy()->witnesses));
  return control;
}

Result<record::ControlState> replay_control(const fs::path& directory, const follow::TrustAnchor& anchor,
                                            const OnLeaf& on_leaf) {
  SP_TRY(ExportReader reader, ExportReader::open(directory));
  return replay_control(
      reader, anchor, [&](LeafIndex index) { return reader.has_body(index); }, on_leaf);
}

}  // namespace sallyport::client::auditor

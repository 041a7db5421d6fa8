#include "client/auditor/verify_export.h"

#include <algorithm>
#include <map>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"

namespace sallyport::client::auditor {
namespace {

namespace fs = std::filesystem;
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
};

// changed_file says of a file that is not the one MANIFEST lists what can be said more exactly.
Error changed_file(ExportReader& reader, const std::string& path, const Place& place, ByteView bytes) {
  if (place.kind == Place::Kind::kBody) {
    const auto leaf = reader.leaf(LeafIndex{place.number});
    if (leaf.has_value() &&
        (bytes.size() < 32 || crypto::hmac_sha256(bytes.first(32), bytes.subspan(32)) != leaf->commitment))
      return bad(place_of_leaf(LeafIndex{place.number}), "body does not match its commitment",
                 Reason::kLogBody);
  }
  return bad(path, "is not the file that MANIFEST lists");
}

// account_for_files holds the directory against MANIFEST: every file is listed, as it is, and no other.
Result<Accounted> account_for_files(ExportReader& reader) {
  const fs::path& directory = reader.directory();
  const ledger::Checkpoint& claimed = reader.claimed();
  SP_TRY(ManifestReader manifest, ManifestReader::open(directory));
  const ManifestHead& head = manifest.head();
  if (head.origin != claimed.origin || head.size != claimed.size || head.root != claimed.root)
    return bad("MANIFEST line 1", "not the origin, size and root of checkpoint");
  Accounted accounted;
  SP_CHECK(walk(directory, [&](const std::string& path) -> Status {
    if (path == kManifestPath) return Done{};
    const auto place = parse_place(path);
    if (!place.has_value() || !belongs(*place, claimed.size))
      return bad(path, "no file of an export of this size");
    SP_TRY(const auto line, manifest.next());
    if (!line || line->path > path) return bad(path, "is not in MANIFEST");
    if (line->path < path) return bad(line->path, "is missing, and in MANIFEST");
    SP_TRY(const Bytes bytes, read_file(directory, path));
    if (bytes.size() != line->size || crypto::sha256(bytes) != line->sha256)
      return changed_file(reader, path, *place, bytes);
    ++accounted.files;
    accounted.bytes += bytes.size();
    return Done{};
  }));
  SP_TRY(const auto more, manifest.next());
  if (more) return bad(more->path, "is missing, and in MANIFEST");
  return accounted;
}

// TileCheck makes the tiles again from the leaves, and holds the files against them.
class TileCheck {
 public:
  explicit TileCheck(const fs::path& directory) : directory_(directory) {}

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
  // finish looks at the partial tiles.
  Status finish() {
    for (unsigned level = 0; level < tiles_.size(); ++level)
      if (!tiles_[level].empty())
        SP_CHECK(compare(level, (range_.size().get() >> (8 * level)) / ledger::kTileWidth));
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
                                              const ledger::WitnessPolicy& witnesses) {
  auto checked = ledger::check_quorum(note, witnesses);
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
  Status before(const record::State& state, const record::Entry& entry) {
    SP_TRY(const record::Body body, record::parse_body(entry.body));
    count_evidence(body);
    SP_TRY(const record::Envelope envelope, record::open_envelope(body));
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

  // after it was folded in.
  void after(const record::State& state, const ledger::Leaf& leaf, LeafIndex index) {
    if (leaf.kind != static_cast<std::uint8_t>(Kind::kRequest)) return;
    const auto known = state.cases.find(leaf.case_id);
    if (known == state.cases.end() || !known->second.request) return;
    const record::Request& request = *known->second.request;
    const policy::Policy& policy = state.control.policy()->policy;
    const policy::Person* person = policy::find_person(policy, PersonId{request.beneficiary});
    const RegionId region = person == nullptr ? policy::unknown_region() : person->region;
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

  void finish(const record::State& state) {
    auto& cases = report_.cases;
    for (const auto& [id, one] : state.cases)
      if (is_open(one) && one.expires > state.control.last_time()) ++cases.open;
    cases.expired = cases.access - cases.granted - cases.refused - cases.denied - cases.open;
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
        case record::EvidenceType::kEkCertificate:
          ++evidence.endorsements;
          break;
        case record::EvidenceType::kPolicyText:
        case record::EvidenceType::kTpmRoots:
          ++evidence.documents;
          break;
      }
    }
  }

  AuditReport& report_;
  std::map<CaseId, std::size_t> foreign_;  // into report_.foreign
};

// check_newest: `checkpoint` is the newest of checkpoints/, byte for byte.
Status check_newest(const ExportReader& reader, const std::vector<TreeSize>& notes) {
  const TreeSize size = reader.claimed().size;
  if (notes.empty() || notes.back() < size) return bad(note_path(size), "is missing");
  if (notes.back() > size)
    return bad(note_path(notes.back()), "a newer checkpoint than the export's", Reason::kLogRollback);
  SP_TRY(const std::string newest, read_note(reader.directory(), size));
  if (newest != reader.note()) return bad(std::string{kCheckpointPath}, "is not " + note_path(size));
  return Done{};
}

Status check_origin(const ExportReader& reader, const follow::TrustAnchor& anchor) {
  if (reader.claimed().origin == anchor.origin) return Done{};
  return bad(std::string{kCheckpointPath}, "a checkpoint of another log than the trust file's",
             Reason::kTrustAnchor);
}

Result<AuditReport> replay(ExportReader& reader, const follow::TrustAnchor& anchor,
                           const Progress& progress) {
  const fs::path& directory = reader.directory();
  const std::uint64_t size = reader.claimed().size.get();
  SP_TRY(const std::vector<TreeSize> notes, list_notes(directory));
  SP_CHECK(check_newest(reader, notes));
  SP_TRY(ManifestIndex referred, ManifestIndex::open(directory));

  AuditReport report;
  report.origin = anchor.origin;
  report.size = reader.claimed().size;
  record::State state = record::begin_state(anchor.origin, anchor.genesis_policy);
  TileCheck tiles{directory};
  Counter counter{report};
  auto next_note = notes.begin();
  for (std::uint64_t i = 0; i < size; ++i) {
    const LeafIndex index{i};
    if (i % ledger::kTileWidth == 0) {
      // The whole bundle is held against its tile before anything of it is judged: so a changed leaf is told
      // from a changed body.
      SP_TRY(const auto* leaves, reader.bundle_of(index));
      for (const ledger::Leaf& leaf : *leaves) SP_CHECK(tiles.append(ledger::leaf_hash(leaf)));
      if (i + ledger::kTileWidth >= size) SP_CHECK(tiles.finish());
      if (progress) progress(i, size);
    }
    SP_TRY(const record::Entry entry, reader.entry(index));
    for (const record::Blob& blob : entry.blobs) referred.mark(blob_path(record::item_of(blob).sha256));
    auto prepared = record::prepare(state, entry);
    if (!prepared.has_value()) return at(place_of_leaf(index), std::move(prepared).error());
    SP_CHECK(counter.before(state, entry));
    record::commit(state, std::move(*prepared));
    counter.after(state, entry.leaf, index);
    if (i == 0) report.first_leaf = entry.leaf.time;

    if (next_note != notes.end() && next_note->get() == i + 1) {
      const std::string path = note_path(*next_note);
      SP_TRY(const std::string note, read_note(directory, *next_note));
      SP_TRY(const auto checked, check_note(note, path, *next_note, state.control.root(), anchor.origin,
                                            state.control.policy()->witnesses));
      ++report.checkpoints;
      report.signatures.checkpoints += 1 + checked.cosignatures().size();
      report.newest_cosigned = UnixMillis{checked.median_time().get() * 1000};
      ++next_note;
    }
  }
  // The newest checkpoint was among them; so the root is one that log and witnesses signed.
  SP_ASSERT(next_note == notes.end() && state.control.root() == tiles.root());
  report.root = state.control.root();
  report.last_leaf = state.control.last_time();

  const std::string policy_path{kPolicyPath};
  SP_TRY(const Bytes policy_text, read_file(directory, policy_path));
  if (as_text(policy_text) != state.control.policy()->policy.authority.witnesses)
    return bad(policy_path, "is not the witnesses' part of the policy in force");
  SP_TRY(const auto unreferred, referred.first_unmarked(directory));
  if (unreferred) return bad(*unreferred, "evidence of no leaf");
  counter.finish(state);
  if (progress) progress(size, size);
  return report;
}

}  // namespace

Result<AuditReport> verify_export(const fs::path& directory, const follow::TrustAnchor& anchor,
                                  const Progress& progress) {
  SP_TRY(ExportReader reader, ExportReader::open(directory));
  SP_CHECK(check_origin(reader, anchor));
  // MANIFEST first: it tells best which file was changed. The replay finds what a MANIFEST made anew hides.
  SP_TRY(const Accounted accounted, account_for_files(reader));
  SP_TRY(AuditReport report, replay(reader, anchor, progress));
  report.files = accounted.files + 1;
  report.bytes = accounted.bytes;
  return report;
}

Result<record::ControlState> replay_control(const fs::path& directory, const follow::TrustAnchor& anchor,
                                            const OnLeaf& on_leaf) {
  SP_TRY(ExportReader reader, ExportReader::open(directory));
  SP_CHECK(check_origin(reader, anchor));
  record::ControlState control = record::ControlState::begin(anchor.origin, anchor.genesis_policy);
  const TreeSize size = reader.claimed().size;
  for (std::uint64_t i = 0; i < size.get(); ++i) {
    const LeafIndex index{i};
    SP_TRY(const ledger::Leaf leaf, reader.leaf(index));
    const auto kind = record::parse_kind(leaf.kind);
    if (!kind.has_value()) return at(place_of_leaf(index), kind.error());
    std::optional<record::Entry> entry;
    if (record::is_control(*kind)) {
      SP_TRY(entry, reader.entry(index));
    }
    auto prepared = record::prepare_control(control, leaf, entry ? &*entry : nullptr);
    if (!prepared.has_value()) return at(place_of_leaf(index), std::move(prepared).error());
    record::commit(control, std::move(*prepared));
    if (on_leaf) SP_CHECK(on_leaf(index, leaf, control));
  }
  SP_CHECK(check_note(reader.note(), std::string{kCheckpointPath}, size, control.root(), anchor.origin,
                      control.policy()->witnesses));
  return control;
}

}  // namespace sallyport::client::auditor

#pragma once

#include <filesystem>
#include <functional>
#include <thread>
#include <variant>

#include "attestation/follow/follower.h"
#include "client/auditor/directory.h"
#include "client/auditor/erasures.h"

namespace sallyport::client::auditor {

// ForeignCase is an access for somebody of another region than the log's, or of none that its policy knows.
struct ForeignCase {
  CaseId case_id;
  LeafIndex leaf;  // of the request
  std::string person, beneficiary, region;
  bool granted = false;
};
inline constexpr std::size_t kMaxForeignCases = 10'000;  // listed; all are counted

// AsOf is a moment of the log: when it had so many leaves, or all leaves up to a time.
using AsOf = std::variant<TreeSize, UnixMillis>;

// InForce is a grant that could be used at that moment.
struct InForce {
  CaseId case_id;
  std::string person, beneficiary, account, host;  // all empty: the case was erased since
  UnixMillis not_after;                            // of an erased case: the latest that a grant can have
};

struct AuditReport {
  Origin origin;
  TreeSize size;
  Digest256 root;
  std::uint64_t files = 0, bytes = 0;
  std::uint64_t checkpoints = 0;
  UnixMillis first_leaf, last_leaf, newest_cosigned;  // the last: the median of the newest's cosignatures
  std::optional<TreeSize> continued;                  // the size of the kept checkpoint
  // Of `checkpoint`, where an export was stopped, or goes on, just before it puts the newest in its place.
  std::optional<TreeSize> front_behind;
  std::uint64_t pending = 0;  // files that are of no export yet
  // When a moment was asked for, all below tells of it, but `signatures.checkpoints`.
  struct Moment {
    TreeSize size;
    Digest256 root;
    UnixMillis time;  // that was asked for, or that of the newest leaf
    std::vector<InForce> grants;
  };
  std::optional<Moment> moment;
  // Erased is what one erasure has taken out of this log. It tells of all of the export, whatever moment was
  // asked for: what is erased is erased of all moments.
  struct Erased {
    KnownErasure erasure;
    std::uint64_t cases = 0, leaves = 0;
  };
  std::vector<Erased> erased;  // in the order of the log
  struct {
    std::uint64_t access = 0, granted = 0, refused = 0, denied = 0, expired = 0, open = 0;
    std::uint64_t enrolments = 0, policies = 0, revocations = 0;  // cases opened
    std::uint64_t sessions = 0, leases = 0;
    std::uint64_t erased = 0;  // of access: without bodies, so that nothing else is counted of them
    std::uint64_t erasures = 0, holds = 0;  // cases opened: proposals of erasures, holds and lifted holds
  } cases;
  struct {
    std::uint64_t quotes = 0, keys = 0, notes = 0, observations = 0, attachments = 0, endorsements = 0,
                  event_logs = 0, ima_parts = 0, documents = 0;
    std::uint64_t all() const {
      return quotes + keys + notes + observations + attachments + endorsements + event_logs + ima_parts +
             documents;
    }
  } evidence;
  struct {
    std::uint64_t statements = 0, tpm = 0, checkpoints = 0;
    std::uint64_t all() const { return statements + tpm + checkpoints; }
  } signatures;
  struct PolicyVersion {
    std::uint64_t version = 0;
    Digest256 digest;
    LeafIndex leaf;
  };
  std::vector<PolicyVersion> policies;
  std::optional<policy::Continues> continues;  // where another log ended that this one goes on from
  std::vector<ForeignCase> foreign;
  std::uint64_t foreign_count = 0;
  // Machines whose counters went back, and which have not been enrolled again or taken out since.
  struct Stopped {
    DeviceId device;
    std::string name;
    CaseId case_id;  // whose request showed it
  };
  std::vector<Stopped> stopped;
};

using Progress = std::function<void(std::uint64_t done, std::uint64_t of)>;

// OnEntry sees each entry after it was folded in. It stands on nothing before verify_export has succeeded.
using OnEntry = std::function<void(const record::State&, const record::OpenedEntry&, LeafIndex)>;
// OnErased sees each leaf that has no body, likewise.
using OnErased = std::function<void(const ledger::Leaf&, LeafIndex)>;

struct VerifyOptions {
  Progress progress = {};
  unsigned threads = std::thread::hardware_concurrency();  // 0: all in the caller's
  std::optional<AsOf> as_of = {};                          // the report tells of this moment
  // A checkpoint that somebody kept from earlier (its name is for errors): this log must continue it.
  std::string kept = {}, kept_name = {};
  OnEntry on_entry = {};
  OnErased on_erased = {};
};

// verify_export replays an export, from the policy that the anchor pins.
//   Proves:         the directory holds exactly one export of a log of `anchor`: MANIFEST accounts for all
//                   of it, and adds nothing; what it does not list is not read, and has only the names of
//                   files that an export to come would have; leaves lead to tiles and roots; every checkpoint
//                   was signed and cosigned under the policy that ruled then; every body is its leaf's and
//                   every entry the one that may follow (record::prepare); all evidence is there and nothing
//                   else. A kept checkpoint is of a tree that this one began with. Bodies are missing of
//                   exactly those cases that an erasure covers which may follow where it does.
//   Does not prove: that the log has not gone on since its newest checkpoint (its time is in the report), or
//                   what an erased or never logged act was.
//   Errors:         kUnverified, exit 8, naming file and, where it is known, leaf: the first one of the
//                   log, however many threads look; kUsage (a moment that the export does not reach);
//                   kStorage.
Result<AuditReport> verify_export(const std::filesystem::path& directory, const follow::TrustAnchor& anchor,
                                  const VerifyOptions& options = {});

// replay_control folds what a follower knows out of an export, and checks the newest checkpoint.
//   Proves:         as verify_export, of leaves and control bodies only. (That an erased case has no body at
//                   all, it does not look at.)
//   Errors:         kUnverified, naming the place; those of on_leaf; kStorage.
// on_leaf is called after each leaf, with the state that it led to.
using OnLeaf = std::function<Status(LeafIndex, const ledger::Leaf&, const record::ControlState&)>;
Result<record::ControlState> replay_control(const std::filesystem::path& directory,
                                            const follow::TrustAnchor& anchor, const OnLeaf& on_leaf);
// replay_control of leaves and bodies that are no export yet: has_body is asked for the first leaf of each
// access case, and answers for all of it.
using HasBody = std::function<bool(LeafIndex)>;
Result<record::ControlState> replay_control(ExportReader& reader, const follow::TrustAnchor& anchor,
                                            const HasBody& has_body, const OnLeaf& on_leaf);

}  // namespace sallyport::client::auditor

#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>

#include "attestation/follow/follower.h"
#include "attestation/record/ahead.h"
#include "client/auditor/write_export.h"

// A monitor follows a log with all its bodies, judges every entry again, and tells what somebody should look
// at.
namespace sallyport::client::auditor {

// Bookmark is how far a monitor has told, kept over a restart, and what the log has shown it by then. As
// text: the line `sallyport-follow/v2 ORIGIN GENESIS SIZE ROOT LASTING`, the checkpoint verbatim, and the
// line `sha256 HEX` of all before it.
struct Bookmark {
  // What lasts and was told already, in bits: it is told again only after it has ended.
  static constexpr std::uint64_t kOld = 1, kStill = 2, kAway = 4;
  Origin origin;
  Digest256 genesis_policy;
  TreeSize size;
  Digest256 root;  // of nothing, at size 0
  std::uint64_t lasting = 0;
  std::string note;  // the newest cosigned checkpoint that was judged, of this size or more; empty: none yet
  friend bool operator==(const Bookmark&, const Bookmark&) = default;
};
inline constexpr std::size_t kMaxBookmarkBytes = ledger::kMaxNoteBytes + 1024;
Bookmark bookmark_at_start(const follow::TrustAnchor& anchor);
std::string encode(const Bookmark& place);
// parse_bookmark takes only the one text of a bookmark. Errors: kMalformed, with what is wrong and what to
// do.
Result<Bookmark> parse_bookmark(std::string_view text);
// load_bookmark reads the place in the log of `anchor` that a file keeps; that at the start where there is no
// such file. Errors: kMalformed (not whole, or another version's), kUsage (of another log), with what to do.
Result<Bookmark> load_bookmark(const std::filesystem::path& file, const follow::TrustAnchor& anchor);

struct Alarm {
  std::string_view name;  // "refusal", …: README.md has the list
  UnixMillis time;        // of the leaf, or of the look that found it
  std::optional<LeafIndex> leaf;
  std::optional<CaseId> case_id;
  std::string who, what;
};

// DirectorySource is an export on this disk, as it is at each look. It believes what it reads as little as a
// broker's word.
class DirectorySource : public Source {
 public:
  explicit DirectorySource(std::filesystem::path directory) : directory_(std::move(directory)) {}
  Result<record::EntryPage> entries(LeafIndex from) override;
  Result<std::vector<std::string>> checkpoints(TreeSize from) override;

 private:
  const std::filesystem::path directory_;
};

struct MonitorOptions {
  std::chrono::milliseconds cosigned{std::chrono::minutes{5}};  // the newest checkpoint is older: "old"
  std::chrono::milliseconds still{std::chrono::hours{24}};      // no new leaf for so long: "still"
  unsigned threads = std::thread::hardware_concurrency();       // beside the caller's; 0: none
};

class Monitor {
 public:
  // OnAlarm is given each alarm in order, and the place that holds once it is told: keep it then.
  using OnAlarm = std::function<Status(const Alarm&, const Bookmark&)>;

  Monitor(const follow::TrustAnchor& anchor, Bookmark place, const MonitorOptions& options, OnAlarm on_alarm);

  // catch_up folds what was told before from an export on this disk, so that look asks its source only for
  // what comes after. Before the first look. It tells nothing.
  //   Proves:  every entry as look does; the export had the place's root, or, where it ends before that, its
  //            own newest checkpoint holds.
  //   Errors:  kUnverified, naming the leaf: this export is not to be used; kStorage.
  Status catch_up(const std::filesystem::path& export_directory);

  // look takes what is new of a source, up to its newest cosigned checkpoint, and tells of what lies behind
  // the place, each leaf only under a checkpoint that has it. What lies before the place is judged once more,
  // in silence: a state is made of entries, it is not kept.
  //   Proves:  as verify_export, of leaves, bodies, evidence and checkpoints; and that this is the log that
  //            was seen before, not shorter.
  //   Errors:  kUnverified (after the alarm "inconsistent"): what follows from it is no log any more; those
  //            of on_alarm. A source that is away is an alarm, and no error.
  Status look(Source& source, UnixMillis now);
  const Bookmark& place() const { return place_; }
  TreeSize folded() const { return state_.control.size(); }

 private:
  struct Pending {
    Alarm alarm;
    Digest256 root;  // of the tree that ends with its leaf
  };
  // Fetch gives an entry, on any thread.
  using Fetch = std::function<Result<record::Entry>()>;
  struct Ahead;
  Ahead look_ahead(const Fetch& fetch);
  Status fold(std::vector<Fetch> entries);
  Status fold_one(Ahead ahead);
  Status take(Source& source, const std::string& note);
  Status follow(Source& source);
  Status follow_on(Source& source);
  TreeSize seen() const;  // how large the log was
  Status say(const Alarm& alarm);
  // lasts raises an alarm when something begins, and once.
  Status lasts(std::uint64_t bit, bool is, const Alarm& alarm);
  const follow::TrustAnchor anchor_;
  const MonitorOptions options_;
  const OnAlarm on_alarm_;
  std::shared_mutex folding_;  // guards state_ while it changes; the caller's thread reads it without
  record::State state_;
  std::mutex looking_;  // guards the next two
  record::OpenRequests requests_;
  record::RecentlyVerified recent_;
  Bookmark place_;
  std::optional<ledger::Checkpoint> seen_;  // what the place's note says, when the monitor began
  UnixMillis cosigned_;                     // the newest checkpoint
  std::optional<Error> unsaid_;             // why an alarm could not be told
  std::deque<Pending> pending_;             // folded, and under no checkpoint yet
};

}  // namespace sallyport::client::auditor

#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "attestation/follow/follower.h"
#include "attestation/record/state.h"
#include "client/auditor/write_export.h"

// A monitor follows a log with all its bodies, judges every entry again, and tells what somebody should look
// at.
namespace sallyport::client::auditor {

// Bookmark is how far a monitor has told, kept over a restart. Its text is one line:
// `sallyport-follow/v1 ORIGIN SIZE ROOT LASTING`, with the newline.
struct Bookmark {
  // What lasts and was told already, in bits: it is told again only after it has ended.
  static constexpr std::uint64_t kOld = 1, kStill = 2, kAway = 4;
  Origin origin;
  TreeSize size;
  Digest256 root;  // of nothing, at size 0
  std::uint64_t lasting = 0;
  friend bool operator==(const Bookmark&, const Bookmark&) = default;
};
std::string encode(const Bookmark& place);
Result<Bookmark> parse_bookmark(std::string_view text);  // Errors: kMalformed

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

struct MonitorLimits {
  std::chrono::milliseconds cosigned{std::chrono::minutes{5}};  // the newest checkpoint is older: "old"
  std::chrono::milliseconds still{std::chrono::hours{24}};      // no new leaf for so long: "still"
};

class Monitor {
 public:
  // OnAlarm is given each alarm in order, and the place that holds once it is told: keep it then.
  using OnAlarm = std::function<Status(const Alarm&, const Bookmark&)>;

  Monitor(const follow::TrustAnchor& anchor, Bookmark place, const MonitorLimits& limits, OnAlarm on_alarm);

  // look takes what is new of a source, up to its newest cosigned checkpoint, and tells of what lies behind
  // the place, each leaf only under a checkpoint that has it.
  //   Proves:  as verify_export, of leaves, bodies, evidence and checkpoints.
  //   Errors:  kUnverified (after the alarm "inconsistent"): what follows from it is no log any more; those
  //   of
  //            on_alarm. A source that is away is an alarm, and no error.
  Status look(Source& source, UnixMillis now);
  const Bookmark& place() const { return place_; }

 private:
  struct Pending {
    Alarm alarm;
    Digest256 root;  // of the tree that ends with its leaf
  };
  Status take(Source& source, const std::string& note);
  Status follow(Source& source);
  Status say(const Alarm& alarm);
  // lasts raises an alarm when something begins, and once.
  Status lasts(std::uint64_t bit, bool is, const Alarm& alarm);
  const follow::TrustAnchor anchor_;
  const MonitorLimits limits_;
  const OnAlarm on_alarm_;
  record::State state_;
  Bookmark place_;
  UnixMillis cosigned_;          // the newest checkpoint
  std::optional<Error> unsaid_;  // why an alarm could not be told
  std::deque<Pending> pending_;  // folded, and under no checkpoint yet
};

}  // namespace sallyport::client::auditor

#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "attestation/api/messages.h"
#include "attestation/record/dossier.h"
#include "attestation/record/statements.h"

namespace sallyport::gate {

inline constexpr std::chrono::seconds kReportPatience{10};  // for `opened` to be recorded

// Recorder is the way to the log: it is called by the reporting thread alone.
class Recorder {
 public:
  virtual ~Recorder() = default;
  virtual Result<api::Submitted> submit(const record::Submission& submission) = 0;
  // channels_of gives how many sessions of a case the log has, as the broker says: it is only a hint of the
  // next number, which the log judges.
  virtual Result<std::uint64_t> channels_of(const CaseId& case_id) = 0;
};

struct ReportsOptions {
  std::filesystem::path file;  // its state
  std::string authority, host;
  crypto::PublicKey key;  // the host's
  record::SignDigest sign;
  std::function<UnixMillis()> clock;
  std::chrono::milliseconds patience = kReportPatience;
};

// Reports numbers the channels of each case and has their openings and closings recorded, signed with the
// host key. An opening is recorded before its session begins; a closing is on disk before it is told, and
// sent until it is recorded. What a crash left open is reported closed ("lost") at the next start.
class Reports {
 public:
  static Result<std::unique_ptr<Reports>> start(ReportsOptions options, std::unique_ptr<Recorder> recorder);
  ~Reports();  // stops

  struct Opened {
    std::uint64_t channel = 0, leaf = 0;
  };
  // opened waits until the session is in the log, as long as options.patience: a broker that starts anew
  // takes a moment. Errors: what the log refuses; kPeerTimeout: not in time, and the session must not begin.
  Result<Opened> opened(const CaseId& case_id, const std::string& account, const std::string& address);
  // closed stores the end of a session and lets it be reported.
  Status closed(const CaseId& case_id, std::uint64_t channel, record::WhyClosed why, std::uint64_t bytes);

  std::size_t unreported() const;  // sessions whose closing the log does not have yet

 private:
  struct Impl;
  explicit Reports(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::gate

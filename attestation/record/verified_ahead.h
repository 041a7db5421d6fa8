#pragma once

#include <map>
#include <utility>

#include "attestation/crypto/verified_signatures.h"
#include "attestation/evidence/appraisal.h"
#include "attestation/evidence/ima_appraisal.h"

namespace sallyport::record {

struct LoadedPolicy;

// JudgedLogs holds what event logs say under the reference values of policies: one machine shows the log of
// one boot with each request. As with crypto::VerifiedSignatures nothing gets in that was not judged here, so
// it changes how long a judgement takes and never what it is.
// Memory: some 100 bytes a log that is accepted; of one that is not, its first finding by each reference. Not
// for several threads while something is added.
class JudgedLogs {
 public:
  // judge judges a log by the reference values of `policy`, and remembers what came of it: nothing when it is
  // no log.
  void judge(const LoadedPolicy& policy, ByteView log);
  // find gives what the log of this SHA-256 digest says under the reference values of `policy`; null when it
  // was not judged by these.
  const evidence::JudgedLog* find(const LoadedPolicy& policy, const Digest256& log) const;
  // take_over remembers here what `other` holds of a log; false when that is nothing.
  bool take_over(const JudgedLogs& other, const LoadedPolicy& policy, const Digest256& log);
  // add_accepted takes over the logs that some reference accepts.
  void add_accepted(const JudgedLogs& other);
  std::size_t size() const { return logs_.size(); }

 private:
  using Key = std::pair<Digest256, Digest256>;  // of the document of reference values, of the log
  std::map<Key, evidence::JudgedLog> logs_;
};

// VerifiedAhead is what a judgement need not verify again (ControlState::remember).
struct VerifiedAhead {
  crypto::VerifiedSignatures signatures;
  JudgedLogs logs;
  evidence::ImaMemo lists;
};

}  // namespace sallyport::record

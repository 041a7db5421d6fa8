#pragma once

#include <memory>
#include <mutex>
#include <set>

#include "attestation/crypto/digest.h"
#include "broker/credentials/ssh_certificate.h"
#include "client/target/door.h"
#include "client/target/reports.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::test {

// GateLog is a broker with the whole fold behind it, as a gate's reports meet it. `mutex` guards all of it.
struct GateLog {
  explicit GateLog(const std::function<void(SampleCompany&)>& change = {}) : world(change) {}

  RecordScenario world;
  std::mutex mutex;
  bool down = false;              // it cannot be reached
  bool answers_are_lost = false;  // what arrives is recorded, and nobody is told
  std::set<Digest256> seen;

  Result<api::Submitted> submit(const record::Submission& submission) {
    const Error lost{Code::kUnavailable, Reason::kPeer, "nobody there"};
    const std::lock_guard lock{mutex};
    if (down) return lost;
    const auto envelope = value_of(record::parse_envelope(submission.envelope));
    const auto kind = value_of(record::kind_of_payload_type(envelope.type));
    api::Submitted answer;
    answer.case_id = kind == record::Kind::kSessionOpened
                         ? value_of(record::parse_session_opened(envelope.payload)).case_id
                         : value_of(record::parse_session_closed(envelope.payload)).case_id;
    // The same statement again is the same event.
    if (!seen.contains(record::statement_digest(envelope))) {
      SP_TRY(const LeafIndex leaf, world.append(kind, answer.case_id, submission));
      answer.leaf = leaf.get();
      seen.insert(record::statement_digest(envelope));
    }
    if (answers_are_lost) return lost;
    return answer;
  }
  std::uint64_t channels(const CaseId& case_id) {
    const std::lock_guard lock{mutex};
    return world.state.cases.at(case_id).sessions;
  }
  std::size_t open(const CaseId& case_id) {
    const std::lock_guard lock{mutex};
    return world.state.cases.at(case_id).open_channels.size();
  }
  void set(bool GateLog::*what, bool value) {
    const std::lock_guard lock{mutex};
    this->*what = value;
  }
  UnixMillis now() {
    const std::lock_guard lock{mutex};
    return world.now;
  }
  // last_closed gives the newest leaf's statement, which must be a closing.
  record::SessionClosed last_closed() {
    const std::lock_guard lock{mutex};
    const auto body = value_of(record::parse_body(world.entries.back().body));
    const auto envelope = value_of(record::parse_envelope(body.envelope));
    return value_of(record::parse_session_closed(envelope.payload));
  }
};

class GateLogRecorder final : public gate::Recorder {
 public:
  explicit GateLogRecorder(GateLog& log) : log_(log) {}
  Result<api::Submitted> submit(const record::Submission& submission) override {
    return log_.submit(submission);
  }
  Result<std::uint64_t> channels_of(const CaseId& case_id) override { return log_.channels(case_id); }

 private:
  GateLog& log_;
};

// followed_now is what a gate has that has followed everything, under a checkpoint cosigned now.
inline gate::Followed followed_now(const RecordScenario& world) {
  return {std::make_shared<record::ControlState>(world.follower),
          std::make_shared<ledger::VerifiedCheckpoint>(
              value_of(ledger::check_quorum(world.cosign(), world.policy().witnesses)))};
}

// certificate_of makes the certificate of a granted case as the keyguard does. `edit` changes the dossier
// that is stapled, `edit_signed` what the CA signs.
inline Bytes certificate_of(const RecordScenario& world, const CaseId& case_id,
                            const std::function<void(record::Dossier&)>& edit = {},
                            const std::function<void(Bytes&)>& edit_signed = {}) {
  record::Dossier dossier = record::to_travel(world.dossier(case_id));
  const auto grant = value_of(record::verify_dossier(dossier, world.follower, world.now));
  if (edit) edit(dossier);
  Bytes to_be_signed = credentials::ssh_to_be_signed(grant, world.company.ssh_ca.public_key(),
                                                     record::encode_dossier(dossier));
  if (edit_signed) edit_signed(to_be_signed);
  return credentials::ssh_certificate(to_be_signed,
                                      value_of(world.company.ssh_ca.sign_p256(crypto::sha256(to_be_signed))));
}

}  // namespace sallyport::test

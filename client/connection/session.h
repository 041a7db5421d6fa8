#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "attestation/api/messages.h"
#include "attestation/evidence/binding.h"
#include "attestation/net/http_client.h"
#include "attestation/tpm/tpm.h"
#include "client/connection/settings.h"

namespace sallyport::client {

UnixMillis now();

// Signer is a person's signing key, wherever it is: a token.
struct Signer {
  std::string person;
  crypto::PublicKey key;
  record::SignDigest sign;

  Result<Bytes> envelope(std::string type, Bytes payload) const;  // a signed statement, as bytes
};

// MachineProof is a fresh statement of this machine: what a request, an activation, an approval or a
// connection is backed by.
struct MachineProof {
  DeviceId device;
  Bytes ak;  // TPMT_PUBLIC
  tpm::BootTime boot;
};
Result<MachineProof> identify_machine(tpm::Tpm& tpm);
// The same of a machine that the log may have: the connection uses the kind of attestation key that it
// enrolled from here on, where it is enrolled.
Result<MachineProof> identify_machine(tpm::Tpm& tpm, const record::ControlState& control);

// quote_machine quotes the PCRs that a policy wants over a binding, as an evidence blob.
Result<record::Blob> quote_machine(tpm::Tpm& tpm, const evidence::PcrSelection& selection,
                                   const evidence::Binding& binding);
// read_event_log gives the firmware's event log of this boot, as an evidence blob, where the settings name
// one and it can be read. wants_event_log tells whether a policy judges boots by their events.
std::optional<record::Blob> read_event_log(const Settings& settings);
bool wants_event_log(const record::LoadedPolicy& policy);
// wanted_event_log is read_event_log for a policy that wants one.
std::optional<record::Blob> wanted_event_log(const record::LoadedPolicy& policy, const Settings& settings);

// fetch_genesis asks a broker whose keys are not known yet for the first policy, and checks its digest: the
// answer proves itself.
//   Proves:  the policy text is the one pinned, and the server's key is one that it names.    Errors:
//   kTrustAnchor, kPeerTls.
Result<follow::TrustAnchor> fetch_genesis(const std::string& url, const Digest256& policy);

// Session is one connection to the broker: TLS pinned by the policy as this follower knows it, then proofs.
// All it is told is believed only where something signed says so. Used by one thread.
class Session {
 public:
  // open connects with the keys of the follower's policy (of the genesis policy, when it has taken nothing
  // yet, which it then takes).
  static Result<std::unique_ptr<Session>> open(const Settings& settings);
  ~Session();

  // outlive has calls wait this long for a broker, or for its keyguard, that is away: one that starts anew
  // must not cost what was begun. Without it a call fails at once.
  void outlive(std::chrono::milliseconds patience);

  // The proofs. A connection that broke is opened again and proves the same again.
  Status attest(tpm::Tpm& tpm);
  Status sign_in(const Signer& signer);
  Status host_hello(const std::string& host, const crypto::PublicKey& key, const record::SignDigest& sign);

  // sync follows the log to the newest cosigned checkpoint; `wait`: for something new. A follower that has
  // taken nothing joins from a snapshot, where it may and the log has one. Needs a proof first.
  Status sync(std::chrono::milliseconds wait = std::chrono::milliseconds{0});
  follow::Follower& follower();
  std::shared_ptr<const record::ControlState> control();
  Result<std::shared_ptr<const record::LoadedPolicy>> policy();

  Result<api::Hello> hello();
  // submit sends a statement. A refusal that was recorded is an Error here, with `recorded` telling the leaf.
  Result<api::Submitted> submit(const record::Submission& submission);
  // submit_list sends a list-approval: what became of it in each case that it lists, in that order.
  Result<std::vector<api::Submitted>> submit_list(const record::Submission& submission);
  Result<std::vector<api::CaseView>> cases();
  Result<api::CaseView> view(const CaseId& case_id, std::optional<std::uint64_t> after = {},
                             std::chrono::milliseconds wait = std::chrono::milliseconds{0});
  // blob fetches a piece of evidence and checks its digest. Errors: kLogBody.
  Result<record::Blob> blob(const record::EvidenceItem& item);
  Result<api::Activated> activate(const CaseId& case_id, const std::vector<record::Blob>& evidence);
  Result<api::Leased> lease(const CaseId& case_id, const api::LeaseAsk& ask);
  Result<std::uint64_t> add_challenge(const CaseId& case_id, const api::Challenge& challenge);
  Result<std::vector<api::Challenge>> open_challenges(const CaseId& case_id, std::chrono::milliseconds wait);
  Status answer_challenge(const CaseId& case_id, std::uint64_t number, const Digest256& answer);
  Result<std::string> challenge_answer(const CaseId& case_id, std::uint64_t number,
                                       std::chrono::milliseconds wait);
  // erasable gives access cases of before then whose content is not erased, by the broker's word. Ascending.
  Result<std::vector<CaseId>> erasable(UnixMillis before);
  Result<record::EntryPage> entries(LeafIndex from);
  Result<std::vector<std::string>> checkpoints(TreeSize from);

 private:
  Status sync_once(std::chrono::milliseconds wait);
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// note_text_digest is the note digest of bindings: SHA-256 of a note's text, or of nothing for an empty note.
Digest256 note_text_digest(std::string_view note);

}  // namespace sallyport::client

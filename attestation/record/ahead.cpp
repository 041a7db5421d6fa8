#include "attestation/record/ahead.h"

#include <algorithm>
#include <utility>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/proof.h"
#include "attestation/record/appraise.h"
#include "attestation/record/host_key.h"

namespace sallyport::record {
namespace {

Status add_note(std::vector<ClaimedSignature>& claimed, const LoadedPolicy& policy, std::string_view text) {
  SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(text));
  const auto add_of = [&](const ledger::NoteKey& key) {
    for (const ledger::SignatureLine& line : note.signatures) {
      const auto claim = ledger::claim_of_line(line, key, note.text);
      if (!claim) continue;
      claimed.push_back({key.key(), key.key().id(), to_bytes(claim->message), claim->signature});
      return;  // a second line of one key is refused
    }
  };
  for (const ledger::PolicyLog& log : policy.witnesses.logs()) add_of(log.key);
  for (const ledger::PolicyWitness& witness : policy.witnesses.witnesses()) add_of(witness.key);
  return Done{};
}

// Collector gathers what is claimed of statements and their evidence.
class Collector {
 public:
  explicit Collector(const ControlState& control) : control_(control), policy_(control.policy()) {}

  bool has_policy() const { return policy_ != nullptr; }
  void add(std::optional<crypto::PublicKey> key, const KeyId& id, ByteView message,
           const crypto::Signature64& signature) {
    claimed_.push_back({std::move(key), id, to_bytes(message), signature});
  }
  std::optional<crypto::PublicKey> token(const KeyId& id) const {
    const auto token = policy::find_token(policy_->policy, id);
    return token ? std::optional{token->token->sign} : std::nullopt;
  }
  Status note(std::string_view text) { return add_note(claimed_, *policy_, text); }
  // evidence stops at the first thing that is not as it must be: the judgement will say what it is.
  Status evidence(const Body& body, const std::vector<Blob>& blobs, const std::optional<DeviceId>& machine) {
    const Device* const device = machine ? control_.find_device(*machine) : nullptr;
    for (const EvidenceItem& item : body.items) {
      const Blob* const blob = find_blob(blobs, item);
      if (blob == nullptr) continue;
      if (item.type == EvidenceType::kNote) {
        SP_CHECK(note(as_text(blob->bytes)));
      } else if (item.type == EvidenceType::kQuote && device != nullptr) {
        SP_TRY(const QuoteEvidence quote, parse_quote_evidence(blob->bytes));
        SP_CHECK(add_attest(*device, quote.attest, quote.signature));
      } else if (item.type == EvidenceType::kImaQuote && device != nullptr) {
        SP_TRY(const ImaQuoteEvidence quote, parse_ima_quote_evidence(blob->bytes));
        SP_CHECK(add_attest(*device, quote.attest, quote.signature));
      } else if (item.type == EvidenceType::kKey && device != nullptr) {
        SP_TRY(const KeyEvidence key, parse_key_evidence(blob->bytes));
        SP_CHECK(add_attest(*device, key.attest, key.signature));
      }
    }
    return Done{};
  }
  const LoadedPolicy& policy() const { return *policy_; }
  std::vector<ClaimedSignature> take() && { return std::move(claimed_); }

 private:
  Status add_attest(const Device& device, ByteView attest, ByteView signature) {
    SP_TRY(const evidence::TpmSignature parsed, evidence::parse_signature(signature));
    if (parsed.scheme != evidence::Scheme::kEcdsaSha256) return Done{};  // RSA is verified in its place
    crypto::Signature64 value;
    if (parsed.value.size() != value.size()) return Error{Code::kMalformed, "not an ECDSA signature"};
    std::copy(parsed.value.begin(), parsed.value.end(), value.begin());
    const crypto::PublicKey& ak = device.attestation_key.key();
    add(ak, ak.id(), view(crypto::sha256(attest)), value);
    return Done{};
  }

  const ControlState& control_;
  const std::shared_ptr<const LoadedPolicy> policy_;
  std::vector<ClaimedSignature> claimed_;
};

// machine_of gives the machine that a statement was made at, as far as it says so itself.
std::optional<DeviceId> machine_of(const OpenedStatement& statement) {
  if (statement.body.kind == Kind::kRequest)
    if (const auto request = parse_request(statement.envelope.payload)) return request->device;
  if (statement.body.kind == Kind::kApproval)
    if (const auto approval = parse_approval(statement.envelope.payload)) return approval->device;
  return std::nullopt;
}

Status collect(Collector& collector, const State& state, const OpenedEntry& entry,
               const std::optional<DeviceId>& asked_at) {
  const OpenedStatement& statement = entry.statement();
  const Kind kind = statement.body.kind;
  // The key that a statement of this kind must be signed with; none for a host that has not reported before.
  const auto signer = [&](const KeyId& id) -> std::optional<crypto::PublicKey> {
    if (kind == Kind::kLease) return collector.policy().policy.authority.keys.lease;
    if (const auto host = state.host_keys.find(id); host != state.host_keys.end()) return host->second;
    return collector.token(id);
  };
  for (const EnvelopeSignature& signature : statement.envelope.signatures)
    collector.add(signer(signature.key), signature.key, view(statement.digest), signature.signature);
  std::optional<DeviceId> machine = machine_of(statement);
  if (kind == Kind::kGrant) {
    const auto found = state.cases.find(statement.body.case_id);
    machine = found != state.cases.end() && found->second.request ? found->second.request->device : asked_at;
  }
  return collector.evidence(statement.body, entry.entry().blobs, machine);
}

Status collect(Collector& collector, const Dossier& dossier) {
  SP_TRY(const ledger::ClaimedProof proof, ledger::parse_proof(dossier.proof));
  SP_CHECK(collector.note(proof.checkpoint));
  std::optional<DeviceId> machine;  // of the request, at which it was activated too
  const auto add = [&](const Bytes& bytes) -> Status {
    SP_TRY(Body body, parse_body(bytes));
    SP_TRY(const OpenedStatement statement, open_statement(std::move(body)));
    for (const EnvelopeSignature& signature : statement.envelope.signatures)
      collector.add(collector.token(signature.key), signature.key, view(statement.digest),
                    signature.signature);
    const bool is_grant = statement.body.kind == Kind::kGrant;
    const auto made_at = is_grant ? machine : machine_of(statement);
    if (statement.body.kind == Kind::kRequest) machine = made_at;
    return collector.evidence(statement.body, dossier.blobs, made_at);
  };
  SP_CHECK(add(dossier.request_body));
  for (const Bytes& approval : dossier.approval_bodies) SP_CHECK(add(approval));
  return add(dossier.grant_body);
}

}  // namespace

std::vector<ClaimedSignature> claimed_signatures(const State& state, const OpenedEntry& entry,
                                                 const std::optional<DeviceId>& asked_at) {
  Collector collector{state.control};
  if (collector.has_policy()) (void)collect(collector, state, entry, asked_at).has_value();
  return std::move(collector).take();
}

std::vector<ClaimedSignature> claimed_signatures(const ControlState& control, const Dossier& dossier) {
  Collector collector{control};
  if (collector.has_policy()) (void)collect(collector, dossier).has_value();
  return std::move(collector).take();
}

std::vector<ClaimedSignature> claimed_signatures(const LoadedPolicy& policy, std::string_view note) {
  std::vector<ClaimedSignature> claimed;
  (void)add_note(claimed, policy, note).has_value();
  return claimed;
}

crypto::VerifiedSignatures verify_ahead(std::span<const ClaimedSignature> claimed,
                                        crypto::VerifiedSignatures before) {
  crypto::VerifiedSignatures verified = std::move(before);
  for (const ClaimedSignature& one : claimed) {
    std::optional<crypto::PublicKey> key = one.key;
    if (!key && one.message.size() == 32) {
      ByteArray<32> digest{};
      std::copy(one.message.begin(), one.message.end(), digest.begin());
      if (auto found = recover_signer(Digest256{digest}, one.signature, one.key_id)) key = std::move(*found);
      if (key) verified.add_key(*key);
    }
    if (key && !verified.holds(*key, one.message, one.signature))
      (void)verified.verify(*key, one.message, one.signature).has_value();
  }
  return verified;
}

crypto::VerifiedSignatures RecentSignatures::known(std::span<const ClaimedSignature> claimed) const {
  crypto::VerifiedSignatures known;
  for (const ClaimedSignature& one : claimed)
    if (one.key && !known.take_over(newer_, *one.key, one.message, one.signature))
      (void)known.take_over(older_, *one.key, one.message, one.signature);
  return known;
}

void RecentSignatures::add(const crypto::VerifiedSignatures& verified) {
  if (newer_.size() >= kKept) older_ = std::exchange(newer_, {});
  newer_.add(verified);
}

std::optional<DeviceId> OpenRequests::read(const OpenedStatement& statement) {
  const Body& body = statement.body;
  if (body.kind == Kind::kRequest) {
    if (const auto request = parse_request(statement.envelope.payload))
      machines_.insert_or_assign(body.case_id, request->device);
  } else if (body.kind == Kind::kGrant) {
    if (const auto found = machines_.find(body.case_id); found != machines_.end()) return found->second;
  }
  return std::nullopt;
}

void OpenRequests::folded(const ledger::Leaf& leaf) {
  if (leaf.kind == static_cast<std::uint8_t>(Kind::kRequest)) machines_.erase(leaf.case_id);
}

}  // namespace sallyport::record

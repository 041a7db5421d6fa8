#include "attestation/record/ahead.h"

#include <algorithm>

#include "attestation/crypto/digest.h"
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

class Collector {
 public:
  Collector(const State& state, const OpenedEntry& entry, const std::optional<DeviceId>& asked_at)
      : state_(state), entry_(entry), asked_at_(asked_at) {}

  // collect stops at the first thing that is not as it must be: prepare will say what it is.
  Status collect() {
    const auto policy = state_.control.policy();
    if (policy == nullptr) return Done{};
    const OpenedStatement& statement = entry_.statement();
    for (const EnvelopeSignature& signature : statement.envelope.signatures)
      add(signer(*policy, signature.key, statement.body.kind), signature.key, view(statement.digest),
          signature.signature);
    const auto device_id = machine_of(statement);
    const Device* const device = device_id ? state_.control.find_device(*device_id) : nullptr;
    for (const EvidenceItem& item : statement.body.items) {
      const Blob* const blob = find_blob(entry_.entry().blobs, item);
      if (blob == nullptr) continue;
      if (item.type == EvidenceType::kNote) {
        SP_CHECK(add_note(claimed_, *policy, as_text(blob->bytes)));
      } else if (item.type == EvidenceType::kQuote && device != nullptr) {
        SP_TRY(const QuoteEvidence quote, parse_quote_evidence(blob->bytes));
        SP_CHECK(add_attest(*device, quote.attest, quote.signature));
      } else if (item.type == EvidenceType::kKey && device != nullptr) {
        SP_TRY(const KeyEvidence key, parse_key_evidence(blob->bytes));
        SP_CHECK(add_attest(*device, key.attest, key.signature));
      }
    }
    return Done{};
  }

  std::vector<ClaimedSignature> take() && { return std::move(claimed_); }

 private:
  void add(std::optional<crypto::PublicKey> key, const KeyId& id, ByteView message,
           const crypto::Signature64& signature) {
    claimed_.push_back({std::move(key), id, to_bytes(message), signature});
  }

  // signer gives the key that a statement of this kind must be signed with; none for a host that has not
  // reported before.
  std::optional<crypto::PublicKey> signer(const LoadedPolicy& policy, const KeyId& id, Kind kind) const {
    if (kind == Kind::kLease) return policy.policy.authority.keys.lease;
    if (const auto host = state_.host_keys.find(id); host != state_.host_keys.end()) return host->second;
    const auto token = policy::find_token(policy.policy, id);
    return token ? std::optional{token->token->sign} : std::nullopt;
  }

  std::optional<DeviceId> machine_of(const OpenedStatement& statement) const {
    switch (statement.body.kind) {
      case Kind::kRequest:
        if (const auto request = parse_request(statement.envelope.payload)) return request->device;
        break;
      case Kind::kApproval:
        if (const auto approval = parse_approval(statement.envelope.payload)) return approval->device;
        break;
      case Kind::kGrant:
        if (const auto found = state_.cases.find(statement.body.case_id);
            found != state_.cases.end() && found->second.request)
          return found->second.request->device;
        return asked_at_;
      default:
        break;
    }
    return std::nullopt;
  }

  Status add_attest(const Device& device, ByteView attest, ByteView signature) {
    SP_TRY(const evidence::TpmSignature parsed, evidence::parse_signature(signature));
    crypto::Signature64 value;
    if (parsed.value.size() != value.size()) return Error{Code::kMalformed, "not an ECDSA signature"};
    std::copy(parsed.value.begin(), parsed.value.end(), value.begin());
    const crypto::PublicKey& ak = device.attestation_key.key();
    add(ak, ak.id(), view(crypto::sha256(attest)), value);
    return Done{};
  }

  const State& state_;
  const OpenedEntry& entry_;
  const std::optional<DeviceId>& asked_at_;
  std::vector<ClaimedSignature> claimed_;
};

}  // namespace

std::vector<ClaimedSignature> claimed_signatures(const State& state, const OpenedEntry& entry,
                                                 const std::optional<DeviceId>& asked_at) {
  Collector collector{state, entry, asked_at};
  (void)collector.collect().has_value();
  return std::move(collector).take();
}

std::vector<ClaimedSignature> claimed_signatures(const LoadedPolicy& policy, std::string_view note) {
  std::vector<ClaimedSignature> claimed;
  (void)add_note(claimed, policy, note).has_value();
  return claimed;
}

crypto::VerifiedSignatures verify_ahead(std::span<const ClaimedSignature> claimed) {
  crypto::VerifiedSignatures verified;
  for (const ClaimedSignature& one : claimed) {
    std::optional<crypto::PublicKey> key = one.key;
    if (!key && one.message.size() == 32) {
      ByteArray<32> digest{};
      std::copy(one.message.begin(), one.message.end(), digest.begin());
      if (auto found = recover_signer(Digest256{digest}, one.signature, one.key_id)) key = std::move(*found);
      if (key) verified.add_key(*key);
    }
    if (key) (void)verified.verify(*key, one.message, one.signature).has_value();
  }
  return verified;
}

}  // namespace sallyport::record

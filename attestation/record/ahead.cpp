#include "attestation/record/ahead.h"

#include <algorithm>
#include <utility>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/proof.h"
#include "attestation/record/appraise.h"
#include "attestation/record/host_key.h"
#include "attestation/record/ima.h"

namespace sallyport::record {
namespace {

Status add_note(Claims& claims, const LoadedPolicy& policy, std::string_view text) {
  SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(text));
  const auto add_of = [&](const ledger::NoteKey& key) {
    for (const ledger::SignatureLine& line : note.signatures) {
      const auto claim = ledger::claim_of_line(line, key, note.text);
      if (!claim) continue;
      claims.signatures.push_back({key.key(), key.key().id(), to_bytes(claim->message), claim->signature});
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
    claims_.signatures.push_back({std::move(key), id, to_bytes(message), signature});
  }
  std::optional<crypto::PublicKey> token(const KeyId& id) const {
    const auto token = policy::find_token(policy_->policy, id);
    return token ? std::optional{token->token->sign} : std::nullopt;
  }
  Status note(std::string_view text) { return add_note(claims_, *policy_, text); }
  // What is not as it must be is left out, and nothing else: the judgement will say what it is.
  void evidence(const Body& body, const BlobIndex& blobs, const std::optional<DeviceId>& machine) {
    const auto live = machine ? live_device(control_, *machine) : Result<const Device*>{nullptr};
    const Device* const device = live.has_value() ? *live : nullptr;
    std::optional<ClaimedQuote> quote;  // of the boot: it stands before the log
    for (const EvidenceItem& item : body.items) {
      const Blob* const blob = blobs.find(item);
      if (blob == nullptr) continue;
      if (item.type == EvidenceType::kNote)
        (void)note(as_text(blob->bytes)).has_value();
      else if (device == nullptr)
        continue;
      else if (item.type == EvidenceType::kQuote)
        quote = quote_of(*device, blob->bytes);
      else if (item.type == EvidenceType::kImaQuote)
        (void)ima_list(*device, blob->bytes, body, blobs).has_value();
      else if (item.type == EvidenceType::kKey)
        (void)key(*device, blob->bytes).has_value();
      else if (item.type == EvidenceType::kEventLog && quote)
        claims_.logs.push_back({*quote, policy_, blob->bytes, item.sha256});
    }
  }
  const LoadedPolicy& policy() const { return *policy_; }
  Claims take() && { return std::move(claims_); }

 private:
  std::optional<ClaimedQuote> quote_of(const Device& device, ByteView bytes) {
    const auto evidence = parse_quote_evidence(bytes);
    if (!evidence.has_value()) return std::nullopt;
    auto quote = add_attest(device, evidence->attest, evidence->signature);
    return quote.has_value() ? std::optional{std::move(*quote)} : std::nullopt;
  }
  Status key(const Device& device, ByteView bytes) {
    SP_TRY(const KeyEvidence key, parse_key_evidence(bytes));
    SP_CHECK(add_attest(device, key.attest, key.signature));
    return Done{};
  }
  Status ima_list(const Device& device, ByteView bytes, const Body& body, const BlobIndex& blobs) {
    SP_TRY(const ImaQuoteEvidence evidence, parse_ima_quote_evidence(bytes));
    SP_TRY(ClaimedQuote quote, add_attest(device, evidence.attest, evidence.signature));
    if (!policy_->references.ima) return Done{};
    SP_TRY(const std::vector<evidence::ImaPart> parts, ima_parts(evidence, body, blobs));
    ClaimedIma& list =
        claims_.lists.emplace_back(ClaimedIma{std::move(quote), policy_, Digest256{evidence.pcr10}, {}, {}});
    for (const evidence::ImaPart& part : parts) {
      list.parts.push_back(to_bytes(part.bytes));
      list.digests.push_back(part.sha256);
    }
    return Done{};
  }
  Result<ClaimedQuote> add_attest(const Device& device, ByteView attest, ByteView signature) {
    SP_TRY(evidence::TpmSignature parsed, evidence::parse_signature(signature));
    const crypto::PublicKey& ak = device.attestation_key.key();
    if (parsed.scheme == evidence::Scheme::kEcdsaSha256) {  // RSA is verified in its place
      crypto::Signature64 value;
      if (parsed.value.size() != value.size()) return Error{Code::kMalformed, "not an ECDSA signature"};
      std::copy(parsed.value.begin(), parsed.value.end(), value.begin());
      add(ak, ak.id(), view(crypto::sha256(attest)), value);
    }
    return ClaimedQuote{ak, to_bytes(attest), std::move(parsed)};
  }

  const ControlState& control_;
  const std::shared_ptr<const LoadedPolicy> policy_;
  Claims claims_;
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
  collector.evidence(statement.body, statement.blobs, machine);
  return Done{};
}

Status collect(Collector& collector, const Dossier& dossier) {
  SP_TRY(const ledger::ClaimedProof proof, ledger::parse_proof(dossier.proof));
  SP_CHECK(collector.note(proof.checkpoint));
  const BlobIndex blobs{dossier.blobs};
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
    collector.evidence(statement.body, blobs, made_at);
    return Done{};
  };
  SP_CHECK(add(dossier.request_body));
  for (const Bytes& approval : dossier.approval_bodies) SP_CHECK(add(approval));
  return add(dossier.grant_body);
}

// The document that judges: that of no policy where it names none, and then no log is judged by events.
Digest256 document_of(const LoadedPolicy& policy) {
  return policy.policy.authority.references.value_or(Digest256{});
}

}  // namespace

void JudgedLogs::judge(const LoadedPolicy& policy, ByteView log) {
  const auto parsed = evidence::EventLog::parse(to_bytes(log));
  if (parsed.has_value())
    logs_.insert_or_assign({document_of(policy), crypto::sha256(log)},
                           evidence::judge_log(*parsed, policy.references));
}

const evidence::JudgedLog* JudgedLogs::find(const LoadedPolicy& policy, const Digest256& log) const {
  const auto found = logs_.find({document_of(policy), log});
  return found == logs_.end() ? nullptr : &found->second;
}

bool JudgedLogs::take_over(const JudgedLogs& other, const LoadedPolicy& policy, const Digest256& log) {
  const auto found = other.logs_.find({document_of(policy), log});
  if (found == other.logs_.end()) return false;
  logs_.insert(*found);
  return true;
}

void JudgedLogs::add_accepted(const JudgedLogs& other) {
  for (const auto& one : other.logs_)
    if (one.second.accepted_by_any()) logs_.insert(one);
}

void Claims::add(Claims more) {
  std::ranges::move(more.signatures, std::back_inserter(signatures));
  std::ranges::move(more.logs, std::back_inserter(logs));
  std::ranges::move(more.lists, std::back_inserter(lists));
}

Claims claims_of(const State& state, const OpenedEntry& entry, const std::optional<DeviceId>& asked_at) {
  Collector collector{state.control};
  if (collector.has_policy()) (void)collect(collector, state, entry, asked_at).has_value();
  return std::move(collector).take();
}

Claims claims_of(const ControlState& control, const Dossier& dossier) {
  Collector collector{control};
  if (collector.has_policy()) (void)collect(collector, dossier).has_value();
  return std::move(collector).take();
}

Claims claims_of(const LoadedPolicy& policy, std::string_view note) {
  Claims claims;
  (void)add_note(claims, policy, note).has_value();
  return claims;
}

VerifiedAhead verify_ahead(const Claims& claims, VerifiedAhead before) {
  VerifiedAhead verified = std::move(before);
  for (const ClaimedSignature& one : claims.signatures) {
    std::optional<crypto::PublicKey> key = one.key;
    if (!key && one.message.size() == 32) {
      ByteArray<32> digest{};
      std::copy(one.message.begin(), one.message.end(), digest.begin());
      if (auto found = recover_signer(Digest256{digest}, one.signature, one.key_id)) key = std::move(*found);
      if (key) verified.signatures.add_key(*key);
    }
    if (key && !verified.signatures.holds(*key, one.message, one.signature))
      (void)verified.signatures.verify(*key, one.message, one.signature).has_value();
  }
  const auto holds = [&](const ClaimedQuote& quote) {
    return evidence::verify_tpm_signature(quote.attestation_key, quote.attest, quote.signature,
                                          &verified.signatures)
        .has_value();
  };
  for (const ClaimedLog& one : claims.logs)
    if (verified.logs.find(*one.policy, one.digest) == nullptr && holds(one.quote))
      verified.logs.judge(*one.policy, one.bytes);
  for (const ClaimedIma& one : claims.lists) {
    if (!holds(one.quote)) continue;
    std::vector<evidence::ImaPart> parts;
    for (std::size_t i = 0; i < one.parts.size(); ++i) parts.push_back({one.digests[i], one.parts[i]});
    verified.lists.judge(parts, one.pcr10, *one.policy->references.ima);
  }
  return verified;
}

VerifiedAhead RecentlyVerified::known(const Claims& claims) const {
  VerifiedAhead known;
  for (const ClaimedSignature& one : claims.signatures)
    if (one.key && !known.signatures.take_over(newer_.signatures, *one.key, one.message, one.signature))
      (void)known.signatures.take_over(older_.signatures, *one.key, one.message, one.signature);
  for (const ClaimedLog& one : claims.logs)
    if (!known.logs.take_over(newer_.logs, *one.policy, one.digest))
      (void)known.logs.take_over(older_.logs, *one.policy, one.digest);
  for (const ClaimedIma& one : claims.lists)
    known.lists.take_over(newer_.lists, one.digests, *one.policy->references.ima);
  return known;
}

void RecentlyVerified::add(const VerifiedAhead& verified) {
  if (newer_.signatures.size() >= kSignatures) older_.signatures = std::exchange(newer_.signatures, {});
  newer_.signatures.add(verified.signatures);
  if (newer_.logs.size() >= kLogs) older_.logs = std::exchange(newer_.logs, {});
  newer_.logs.add_accepted(verified.logs);
  newer_.lists.add(verified.lists);  // which forgets by itself
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

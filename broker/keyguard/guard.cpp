#include "broker/keyguard/guard.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/key_policy.h"
#include "attestation/ledger/proof.h"
#include "attestation/record/ahead.h"
#include "attestation/record/dossier.h"
#include "attestation/record/times.h"
#include "attestation/sqlite/sqlite.h"
#include "broker/credentials/ssh_certificate.h"
#include "broker/credentials/ssh_login.h"
#include "broker/keyguard/protocol.h"
#include "broker/keyguard/refusal_log.h"
#include "hsm-config/pkcs11/region_keys.h"

namespace sallyport::keyguard {
namespace {

using sqlite::Database;
using sqlite::Statement;

constexpr std::chrono::seconds kProofAge{120};  // of the witnesses' signatures in front of the CA key
constexpr std::chrono::seconds kLeaseAge{30};   // from a lease's statement to its signature

constexpr const char* kIssuedSchema = R"(
CREATE TABLE IF NOT EXISTS certificate(case_id BLOB PRIMARY KEY, wire BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease(idx INTEGER PRIMARY KEY);
)";

Error refused(Reason reason, std::string what) {
  return Error{Code::kUnverified, reason, std::move(what)};
}

evidence::TpmName name_of_session_key(const record::VerifiedGrant& grant) {
  Bytes name{0x00, 0x0B};  // TPM_ALG_SHA256, then the digest (TPM 2.0 Part 1, Names)
  const ByteView digest = view(grant.session_key_name);
  name.insert(name.end(), digest.begin(), digest.end());
  return evidence::TpmName{std::move(name)};
}

}  // namespace

struct Guard::Impl {
  std::unique_ptr<follow::Follower> follower;
  pkcs11::Token token;
  pkcs11::RegionKeys keys;
  Clock clock;
  RefusalLog refusals;
  std::mutex verifying;  // guards recent
  record::RecentlyVerified recent;
  // Guards all below and the follower's file: one frame at a time changes something or uses a key.
  std::mutex mutex;
  std::unique_ptr<Database> issued;
  std::string signed_note;
  bool witnessed = false;  // since this start: see check_witnessed

  Impl(pkcs11::Token t, pkcs11::RegionKeys k, Clock c)
      : token(std::move(t)), keys(std::move(k)), clock(std::move(c)) {}

  // The keys on the token must be those that the policy in force names: another HSM, or another policy, signs
  // nothing.
  Status check_keys(const policy::AuthorityKeys& named) const {
    if (keys.log.public_key() == named.log && keys.ssh_ca.public_key() == named.ssh_ca &&
        keys.lease.public_key() == named.lease)
      return Done{};
    return Error{Code::kUnavailable, Reason::kTokenKey,
                 "the token's keys are not those that the policy names", Next::kCallOperator, 0};
  }

  Result<Bytes> status() {
    const std::lock_guard lock{mutex};
    const auto control = follower->control();
    StatusAnswer answer;
    answer.size = control->size();
    answer.root = control->root();
    answer.origin = follower->anchor().origin.get();
    answer.ready = token.check_alive().has_value();
    answer.note = signed_note;
    return encode(answer);
  }

  Result<Bytes> advance(ByteView payload) {
    SP_TRY(const record::Batch batch, record::parse_batch(payload));
    const std::lock_guard lock{mutex};
    SP_CHECK(follower->advance(batch));
    const auto control = follower->control();
    const auto policy = control->policy();
    if (!policy) return refused(Reason::kTrustAnchor, "nothing to sign before the first leaf");
    SP_CHECK(check_keys(policy->policy.authority.keys));
    SP_CHECK(check_witnessed(*control));
    const std::string text =
        ledger::checkpoint_text({follower->anchor().origin, control->size(), control->root(), {}});
    const bool ed25519 = keys.log.public_key().algorithm() == crypto::KeyAlgorithm::kEd25519;
    SP_TRY(const auto note_key,
           ledger::NoteKey::make(follower->anchor().origin.get(),
                                 ed25519 ? ledger::NoteKeyType::kEd25519 : ledger::NoteKeyType::kEcdsa,
                                 keys.log.public_key()));
    SP_TRY(const crypto::Signature64 signature,
           ed25519 ? token.sign_ed25519(keys.log, as_bytes(text))
                   : token.sign_p256(keys.log, crypto::sha256(as_bytes(text))));
    // The token room has verified the signature: of this text, with this key. The broker verifies the note.
    signed_note = ledger::encode_note({text, {ledger::make_signature_line(note_key, signature)}});
    return to_bytes(as_bytes(signed_note));
  }

  // check_witnessed: after a start nothing is signed before the witnesses have said, not long ago, which tree
  // they know, and it was found in our own: a state that was set back cannot sign another tree. Alone the
  // first leaf, which nobody can have cosigned, is signed without.
  Status check_witnessed(const record::ControlState& control) {
    if (witnessed || control.size().get() == 1) return Done{};
    const auto noted = follower->noted();
    if (!noted)
      return Error{Code::kStale, Reason::kStale, "no checkpoint of the witnesses was ever shown",
                   Next::kRetryLater, 0};
    const auto policy = control.policy_at(LeafIndex{noted->size().get()});
    SP_CHECK(ledger::require_fresh(*noted, policy->witnesses, clock(), kProofAge, record::kNoteSkew));
    witnessed = true;
    return Done{};
  }

  Result<Bytes> certify(ByteView payload) {
    SP_TRY(const record::Dossier dossier, record::parse_dossier(payload));
    if (dossier.form != record::DossierForm::kFull)
      return refused(Reason::kGrantMismatch, "the CA key wants the full form of a dossier");
    const UnixMillis now = clock();
    // Most of the work, its signatures, is done while others sign; what came into the log meanwhile counts
    // all the same.
    const auto known = verify_ahead(dossier);
    const std::lock_guard lock{mutex};
    const auto control = std::make_shared<record::ControlState>(*follower->control());
    control->remember(known);
    SP_TRY(const record::VerifiedGrant grant, record::verify_dossier(dossier, *control, now));
    SP_CHECK(check_keys(control->policy()->policy.authority.keys));
    SP_CHECK(check_fresh(dossier, *control, now));

    SP_TRY(auto issued_before, find_certificate(grant.case_id));
    if (issued_before) return std::move(*issued_before);
    const Bytes travel = record::encode_dossier(record::to_travel(dossier));
    if (travel.size() > record::kMaxTravelDossierBytes)
      return refused(Reason::kGrantMismatch, "the dossier does not fit into a certificate");
    const crypto::PublicKey& ca = keys.ssh_ca.public_key();
    const Bytes to_be_signed = credentials::ssh_to_be_signed(grant, ca, travel);
    SP_TRY(const crypto::Signature64 signature, token.sign_p256(keys.ssh_ca, crypto::sha256(to_be_signed)));
    Bytes wire = credentials::ssh_certificate(to_be_signed, signature);
    SP_TRY(const auto claimed, credentials::parse_ssh_certificate(wire));
    SP_CHECK(credentials::verify_ssh_certificate(claimed, grant, ca));
    Statement insert{*issued, "INSERT INTO certificate(case_id, wire) VALUES(?,?)"};
    SP_CHECK(insert.bind(view(grant.case_id)).bind(wire).run());
    spdlog::info("certificate for case {}, leaf {}", to_hex(grant.case_id), grant.leaf_index.get());
    return wire;
  }

  // verify_ahead verifies the signatures of a dossier without the lock; those of a checkpoint that was shown
  // in others not long before are known.
  std::shared_ptr<const record::VerifiedAhead> verify_ahead(const record::Dossier& dossier) {
    const auto claimed = record::claims_of(*follower->control(), dossier);
    return record::verify_ahead(claimed, recent, verifying);
  }

  // check_fresh: the dossier's checkpoint, which verify_dossier has judged under the same policy, is recent.
  Status check_fresh(const record::Dossier& dossier, const record::ControlState& control,
                     UnixMillis now) const {
    SP_TRY(const auto proof, ledger::parse_proof(dossier.proof));
    SP_TRY(const auto note, ledger::parse_note(proof.checkpoint));
    SP_TRY(const auto head, ledger::parse_checkpoint_text(note.text));
    const auto policy = control.policy_at(LeafIndex{std::min(head.size.get(), control.size().get())});
    SP_TRY(const auto checkpoint, ledger::verify_proof(proof, ledger::leaf_hash(dossier.grant_leaf),
                                                       policy->witnesses, control.known()));
    return ledger::require_fresh(checkpoint, policy->witnesses, now, kProofAge, record::kNoteSkew);
  }

  Result<std::optional<Bytes>> find_certificate(const CaseId& case_id) {
    Statement select{*issued, "SELECT wire FROM certificate WHERE case_id = ?"};
    SP_TRY(const bool row, select.bind(view(case_id)).step());
    return row ? std::optional{to_bytes(select.bytes(0))} : std::optional<Bytes>{};
  }

  // check_login judges the content of one use of a session key anew: the grant, at this moment, and the login
  // that the key would sign.
  struct Use {
    record::VerifiedGrant grant;
    Digest256 content, cp_hash, policy_ref;
  };
  Result<Use> check_login(const CaseId& case_id, ByteView content, UnixMillis now) {
    SP_TRY(const auto found, find_certificate(case_id));
    if (!found) return refused(Reason::kLeaseContent, "no certificate was issued in this case");
    const Bytes& wire = *found;
    SP_TRY(const auto certificate, credentials::parse_ssh_certificate(wire));
    SP_TRY(const record::Dossier dossier, record::parse_dossier(certificate.travel_dossier));
    const auto control = follower->control();
    SP_TRY(record::VerifiedGrant grant, record::verify_dossier(dossier, *control, now));
    SP_CHECK(check_keys(control->policy()->policy.authority.keys));
    SP_TRY(const auto login, credentials::parse_ssh_login(content));
    SP_CHECK(credentials::verify_ssh_login(login, grant, wire));
    const Digest256 digest = crypto::sha256(content);
    const Digest256 cp_hash = evidence::cp_hash_sign(name_of_session_key(grant), digest);
    const Digest256 policy_ref = evidence::lease_policy_ref(grant.origin, case_id);
    return Use{std::move(grant), digest, cp_hash, policy_ref};
  }

  // check_ends_within: no lease outlives its grant.
  static Status check_ends_within(const record::VerifiedGrant& grant, std::uint64_t expiration_s,
                                  UnixMillis now) {
    if (record::operator+(now, std::chrono::seconds{expiration_s}) <= grant.not_after) return Done{};
    return Error{Code::kDenied, Reason::kGrantExpired, "the grant ends before the lease would"};
  }

  Result<Bytes> lease_statement(ByteView payload) {
    SP_TRY(const LeaseStatementCall call, parse_lease_statement_call(payload));
    const UnixMillis now = clock();
    const std::lock_guard lock{mutex};
    SP_TRY(const Use use, check_login(call.case_id, call.content, now));
    if (call.expiration_s < evidence::kMinLeaseSeconds || call.expiration_s > evidence::kMaxLeaseSeconds)
      return Error{Code::kMalformed, "a lease lives 1 to 30 seconds"};
    SP_CHECK(check_ends_within(use.grant, call.expiration_s, now));
    record::Lease lease;
    lease.account = use.grant.account;
    lease.authority = use.grant.origin.get();
    lease.case_id = call.case_id;
    lease.content = use.content;
    lease.cp_hash = use.cp_hash;
    lease.expiration_s = call.expiration_s;
    lease.host = use.grant.host;
    lease.nonce = crypto::sha256(call.nonce_tpm);
    lease.time = now;
    record::Envelope envelope{record::payload_type(record::Kind::kLease), record::encode(lease), {}};
    SP_TRY(const crypto::Signature64 signature,
           token.sign_p256(keys.lease, record::statement_digest(envelope)));
    envelope.signatures.push_back({keys.lease.public_key().id(), signature});
    return record::encode_envelope(envelope);
  }

  Result<Bytes> lease(ByteView payload) {
    SP_TRY(const LeaseCall call, parse_lease_call(payload));
    const UnixMillis now = clock();
    const std::lock_guard lock{mutex};
    SP_TRY(const ledger::Leaf leaf, follower->leaf(call.index));
    if (leaf.kind != static_cast<std::uint8_t>(record::Kind::kLease) || leaf.case_id != call.case_id ||
        record::commitment(call.nonce, call.body) != leaf.commitment)
      return refused(Reason::kLeaseNotLogged, "the leaf does not commit to this lease");
    SP_TRY(const record::Body body, record::parse_body(call.body));
    SP_TRY(const record::Envelope envelope, record::parse_envelope(body.envelope));
    SP_TRY(const record::Lease lease, record::parse_lease(envelope.payload));
    if (envelope.type != record::payload_type(record::Kind::kLease) || envelope.signatures.size() != 1 ||
        envelope.signatures[0].key != keys.lease.public_key().id())
      return refused(Reason::kLeaseNotLogged, "the lease is not one of ours");
    SP_CHECK(crypto::verify_p256(keys.lease.public_key(), record::statement_digest(envelope),
                                 envelope.signatures[0].signature));
    if (!record::within_skew(lease.time, now, kLeaseAge))
      return Error{Code::kStale, Reason::kLeaseContent, "the lease is too old"};

    SP_TRY(const Use use, check_login(call.case_id, call.content, now));
    if (lease.case_id != call.case_id || lease.content != use.content || lease.cp_hash != use.cp_hash ||
        lease.nonce != crypto::sha256(call.nonce_tpm))
      return refused(Reason::kLeaseContent, "the lease that was logged is for something else");
    SP_CHECK(check_ends_within(use.grant, lease.expiration_s, now));
    SP_TRY(const Digest256 hash,
           evidence::lease_hash(call.nonce_tpm, static_cast<std::uint32_t>(lease.expiration_s), use.cp_hash,
                                use.policy_ref));
    Statement once{*issued, "INSERT INTO lease(idx) VALUES(?)"};
    if (const Status used = once.bind(call.index.get()).run(); !used.has_value()) {
      if (used.error().code == Code::kConflict)
        return refused(Reason::kLeaseContent, "the lease was used already");
      return used.error();
    }
    SP_TRY(const crypto::Signature64 signature, token.sign_p256(keys.lease, hash));
    return to_bytes(ByteView{signature});
  }

  Result<Bytes> dispatch(const Frame& frame) {
    switch (frame.call) {
      case Call::kStatus:
        return frame.payload.empty() ? status() : Error{Code::kMalformed, "status takes nothing"};
      case Call::kAdvance:
        return advance(frame.payload);
      case Call::kCertify:
        return certify(frame.payload);
      case Call::kLeaseStatement:
        return lease_statement(frame.payload);
      case Call::kLease:
        return lease(frame.payload);
      case Call::kError:
        break;
    }
    return Error{Code::kMalformed, "not a call"};
  }
};

Guard::Guard(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Guard::~Guard() = default;
follow::TrustAnchor Guard::anchor() const {
  return impl_->follower->anchor();
}

Status Guard::init(const std::filesystem::path& directory, const follow::TrustAnchor& anchor) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const auto trust = directory / "trust.toml";
  if (std::filesystem::exists(trust, error))
    return Error{Code::kConflict, Reason::kConflict,
                 trust.string() + " exists already: a guard is initialised once"};
  SP_CHECK(follow::Follower::create(directory / "follow.db", anchor));
  {
    SP_TRY(const auto issued, Database::open((directory / "issued.db").string()));
    SP_CHECK(issued->execute(kIssuedSchema));
  }
  std::ofstream out{trust, std::ios::binary};
  out << follow::format_trust_file(anchor);
  out.close();
  if (!out) return Error{Code::kUnavailable, Reason::kStorage, "cannot write " + trust.string()};
  return Done{};
}

namespace {

Result<std::unique_ptr<follow::Follower>> open_follower(const std::filesystem::path& directory) {
  std::ifstream in{directory / "trust.toml", std::ios::binary};
  if (!in)
    return Error{Code::kUnavailable, Reason::kStorage,
                 (directory / "trust.toml").string() + " is missing: run sallyport-keyguard init once",
                 Next::kCallOperator, 0};
  const std::string text{std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
  SP_TRY(const follow::TrustAnchor anchor, follow::parse_trust_file(text));
  return follow::Follower::open(directory / "follow.db", anchor);
}

}  // namespace

Result<std::shared_ptr<const record::ControlState>> Guard::known(const std::filesystem::path& directory) {
  SP_TRY(const auto follower, open_follower(directory));
  return follower->control();
}

Result<std::unique_ptr<Guard>> Guard::open(const std::filesystem::path& directory, pkcs11::Token token,
                                           Clock clock) {
  SP_TRY(auto follower, open_follower(directory));
  SP_TRY(pkcs11::RegionKeys keys, pkcs11::find_region_keys(token));
  auto impl = std::make_unique<Impl>(std::move(token), std::move(keys), std::move(clock));
  impl->follower = std::move(follower);
  if (std::error_code error; !std::filesystem::exists(directory / "issued.db", error))
    return Error{Code::kUnavailable, Reason::kStorage,
                 (directory / "issued.db").string() + " is missing: what was issued is not known",
                 Next::kCallOperator, 0};
  SP_TRY(impl->issued, Database::open((directory / "issued.db").string()));
  return std::unique_ptr<Guard>{new Guard{std::move(impl)}};
}

Bytes Guard::answer(ByteView bytes) {
  const auto frame = parse_frame(bytes);
  auto answer = frame.has_value() ? impl_->dispatch(*frame) : Result<Bytes>{frame.error()};
  if (answer.has_value()) return encode_frame(frame->call, *answer);
  impl_->refusals.tell("refused: " + describe(answer.error()), impl_->clock());
  return encode_frame(Call::kError, encode_error(answer.error()));
}

}  // namespace sallyport::keyguard

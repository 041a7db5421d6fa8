#include "client/connection/session.h"

#include <algorithm>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/endorsement.h"
#include "attestation/ledger/signed_note.h"
#include "attestation/program/clock.h"
#include "attestation/program/files.h"

namespace sallyport::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxAnswerBytes = std::max(record::kMaxBatchBytes, api::kMaxMessageBytes);
constexpr milliseconds kSlack{15'000};     // on top of what a call may wait
constexpr milliseconds kListWait{60'000};  // a list is recorded case by case
constexpr milliseconds kPause{250};        // between attempts to reach a broker that is away

enum class Patience { kSession, kNone };

std::vector<KeyId> pins_of(const policy::Policy& policy) {
  std::vector<KeyId> pins;
  for (const crypto::PublicKey& key : policy.authority.tls) pins.push_back(key.id());
  return pins;
}

Code code_of_status(unsigned status) {
  switch (status) {
    case 400:
      return Code::kMalformed;
    case 403:
      return Code::kDenied;
    case 409:
      return Code::kConflict;
    case 422:
      return Code::kUnverified;
    case 503:
      return Code::kUnavailable;
    default:
      return Code::kInternal;
  }
}

Error error_of(const net::HttpResponse& response) {
  if (auto message = api::parse_error_message(response.body); message.has_value()) {
    std::replace_if(
        message->detail.begin(), message->detail.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    return Error{code_of_status(response.status), message->code,
                 message->detail + (message->case_hex.empty() ? "" : " (case " + message->case_hex + ")")};
  }
  return Error{Code::kUnavailable, Reason::kPeer, "the broker answered " + std::to_string(response.status)};
}

// is_cut_off tells that the broker cannot reach the keyguard.
bool is_cut_off(const net::HttpResponse& response) {
  return response.status == 503 && error_of(response).reason == Reason::kKeyguardAway;
}

std::string case_path(const CaseId& case_id, std::string_view rest = {}) {
  return "/v1/cases/" + to_hex(case_id) + std::string{rest};
}

}  // namespace

UnixMillis now() {
  return program::wall_clock();
}

Digest256 note_text_digest(std::string_view note) {
  const auto parsed = ledger::parse_note(note);
  return parsed.has_value() ? ledger::note_digest(parsed->text) : crypto::sha256(ByteView{});
}

Result<Bytes> Signer::envelope(std::string type, Bytes payload) const {
  SP_TRY(const record::Envelope signed_statement,
         record::sign_statement(std::move(type), std::move(payload), key, sign));
  return record::encode_envelope(signed_statement);
}

Result<MachineProof> identify_machine(tpm::Tpm& tpm) {
  SP_TRY(const tpm::Endorsement endorsement, tpm.endorsement());
  SP_TRY(const evidence::PublicArea ek, evidence::parse_public_area(endorsement.public_area));
  MachineProof machine;
  machine.device = DeviceId{crypto::sha256(ek.key.spki())};
  SP_TRY(machine.ak, tpm.attestation_key());
  SP_TRY(machine.boot, tpm.boot_time());
  return machine;
}

Result<MachineProof> identify_machine(tpm::Tpm& tpm, const record::ControlState& control) {
  SP_TRY(MachineProof machine, identify_machine(tpm));
  const record::Device* enrolled = control.find_device(machine.device);
  if (enrolled == nullptr) return machine;
  tpm.use_ak(enrolled->attestation_key.key().algorithm());
  SP_TRY(machine.ak, tpm.attestation_key());
  return machine;
}

Result<record::Blob> quote_machine(tpm::Tpm& tpm, const evidence::PcrSelection& selection,
                                   const evidence::Binding& binding) {
  SP_TRY(const tpm::Quote quote, tpm.quote(selection, evidence::binding_digest(binding)));
  record::QuoteEvidence container{quote.evidence.attest, quote.evidence.signature, {}};
  for (const Digest256& value : quote.pcrs) container.pcrs.push_back(value.get());
  return record::Blob{record::EvidenceType::kQuote, record::encode(container)};
}

std::optional<record::Blob> read_event_log(const Settings& settings) {
  if (settings.event_log.empty() || settings.event_log == "none") return std::nullopt;
  auto bytes = program::read_whole(settings.event_log);
  if (!bytes || bytes->empty() || bytes->size() > record::max_evidence_bytes(record::EvidenceType::kEventLog))
    return std::nullopt;
  return record::Blob{record::EvidenceType::kEventLog, std::move(*bytes)};
}

bool wants_event_log(const record::LoadedPolicy& policy) {
  return !std::ranges::all_of(policy.references.references, &evidence::Reference::as_enrolled);
}

std::optional<record::Blob> wanted_event_log(const record::LoadedPolicy& policy, const Settings& settings) {
  return wants_event_log(policy) ? read_event_log(settings) : std::nullopt;
}

Result<follow::TrustAnchor> fetch_genesis(const std::string& url, const Digest256& policy_digest) {
  SP_TRY(auto client, net::HttpClient::connect_unpinned(url, {}));
  SP_TRY(const auto response, client.get("/v1/genesis"));
  if (response.status != 200) return error_of(response);
  SP_TRY(const record::Batch batch, record::parse_batch(response.body));
  if (batch.controls.size() != 1)
    return Error{Code::kUnverified, Reason::kTrustAnchor, "no first policy in the answer"};
  SP_TRY(const record::Body body, record::open_body(batch.controls[0].entry));
  for (const record::Blob& blob : batch.controls[0].entry.blobs) {
    if (blob.type != record::EvidenceType::kPolicyText) continue;
    if (crypto::sha256(blob.bytes) != policy_digest)
      return Error{Code::kUnverified, Reason::kTrustAnchor,
                   "the log begins with the policy sha256:" + to_hex(crypto::sha256(blob.bytes)) +
                       ", not with the one given"};
    SP_TRY(const policy::Policy policy, policy::parse_policy(as_text(blob.bytes)));
    return follow::TrustAnchor{policy.authority.origin, policy_digest};
  }
  return Error{Code::kUnverified, Reason::kTrustAnchor, "no first policy in the answer"};
}

struct Session::Impl {
  Settings settings;
  std::unique_ptr<follow::Follower> follower;
  std::optional<net::HttpClient> client;
  std::function<Status()> prove_machine, prove_person;  // repeated on a new connection
  std::string head;                                     // of the last hello
  milliseconds patience{0};                             // see outlive

  Status connect() {
    net::HttpClientOptions options;
    options.max_body_bytes = kMaxAnswerBytes;
    const auto policy = follower->control()->policy();
    if (policy) {
      options.pins = pins_of(policy->policy);
      SP_TRY(client, net::HttpClient::connect(settings.url, options));
      return Done{};
    }
    // Nothing taken yet: the genesis policy, which proves itself by its digest, says which keys to expect.
    SP_TRY(auto first, net::HttpClient::connect_unpinned(settings.url, options));
    SP_TRY(const auto response, first.get("/v1/genesis"));
    if (response.status != 200) return error_of(response);
    SP_TRY(const record::Batch batch, record::parse_batch(response.body));
    auto state = record::ControlState::begin(settings.anchor.origin, settings.anchor.genesis_policy);
    if (batch.leaves.size() != 1 || batch.controls.size() != 1)
      return Error{Code::kUnverified, Reason::kTrustAnchor, "no first policy in the answer"};
    SP_TRY(auto prepared, record::prepare_control(state, batch.leaves[0], &batch.controls[0].entry));
    record::commit(state, std::move(prepared));
    options.pins = pins_of(state.policy()->policy);
    SP_TRY(client, net::HttpClient::connect(settings.url, options));
    return Done{};
  }

  // call sends one request; when the connection was lost it is made anew, with the same proofs, and the
  // request sent once more, or for as long as this session is patient: every call of the API may be repeated.
  Result<net::HttpResponse> call(const net::HttpRequest& request, milliseconds wait, Patience whose) {
    const auto until = steady_clock::now() + (whose == Patience::kSession ? patience : milliseconds{0});
    for (bool repeated = false;; repeated = true) {
      const bool had_connection = client && client->is_open();
      auto response = call_once(request, wait);
      const bool lost = !response.has_value() && response.error().reason == Reason::kPeer;
      if (lost && had_connection && !repeated) continue;
      if ((!lost && !(response.has_value() && is_cut_off(*response))) || steady_clock::now() >= until)
        return response;
      std::this_thread::sleep_for(kPause);
    }
  }
  Result<net::HttpResponse> call_once(const net::HttpRequest& request, milliseconds wait) {
    Status ready = Done{};
    if (!client || !client->is_open()) {
      ready = connect();
      if (ready.has_value() && prove_machine) ready = prove_machine();
      if (ready.has_value() && prove_person) ready = prove_person();
    }
    auto response = ready.has_value() ? client->request(request, wait + kSlack + milliseconds{15'000})
                                      : Result<net::HttpResponse>{ready.error()};
    if (!response.has_value()) client.reset();
    return response;
  }
  // direct is for proofs: on this connection, or not at all.
  Result<net::HttpResponse> direct(const net::HttpRequest& request) {
    if (!client || !client->is_open()) SP_CHECK(connect());
    return client->request(request);
  }

  static net::HttpRequest get(std::string target) {
    net::HttpRequest request;
    request.target = std::move(target);
    return request;
  }
  static net::HttpRequest post(std::string target, Bytes body) {
    net::HttpRequest request;
    request.method = "POST";
    request.target = std::move(target);
    request.headers.push_back({"Content-Type", "application/octet-stream"});
    request.body = std::move(body);
    return request;
  }

  Result<Bytes> fetch(const net::HttpRequest& request, milliseconds wait = milliseconds{0},
                      Patience whose = Patience::kSession) {
    SP_TRY(net::HttpResponse response, call(request, wait, whose));
    if (response.status != 200) return error_of(response);
    return std::move(response.body);
  }

  Result<api::Hello> hello() {
    SP_TRY(const auto response, direct(get("/v1/hello")));
    if (response.status != 200) return error_of(response);
    SP_TRY(api::Hello answer, api::parse_hello(response.body));
    if (answer.origin != origin().get()) SP_CHECK(go_on(answer.origin));
    head = answer.head;
    return answer;
  }

  Origin origin() const { return follower->anchor().origin; }

  // go_on takes up the log that the broker serves, if it goes on from the one that is followed here.
  Status go_on(const std::string& served) {
    const Error other{Code::kUnverified, Reason::kTrustAnchor, "the broker serves another log: " + served};
    if (follower->control()->size().get() == 0) return other;
    SP_TRY(const auto response, direct(get("/v1/genesis")));
    if (response.status != 200) return error_of(response);
    SP_TRY(const record::Batch batch, record::parse_batch(response.body));
    if (batch.controls.size() != 1) return other;
    if (const Status went = follower->go_on(batch.controls.front().entry); !went.has_value()) {
      Error why = went.error();
      why.what = other.what + "; it is not taken up: " + why.what;
      return why;
    }
    return origin().get() == served ? Status{Done{}} : Status{other};
  }

  Status direct_post(std::string target, Bytes body) {
    SP_TRY(const auto response, direct(post(std::move(target), std::move(body))));
    if (response.status != 200) return error_of(response);
    return Done{};
  }
};

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::open(const Settings& settings) {
  auto impl = std::make_unique<Impl>();
  impl->settings = settings;
  SP_TRY(impl->follower, follow::Follower::open(settings.follow_file(), settings.anchor));
  SP_CHECK(impl->connect());
  return std::unique_ptr<Session>{new Session{std::move(impl)}};
}

void Session::outlive(milliseconds patience) {
  impl_->patience = patience;
}

Status Session::attest(tpm::Tpm& tpm) {
  const auto prove = [this, &tpm](const DeviceId& device) -> Status {
    SP_TRY(const api::Hello challenge, impl_->hello());
    const auto& exporter = impl_->client->exporter();
    if (!exporter) return Error{Code::kUnverified, Reason::kPeerTls, "a machine is proved over TLS only"};
    const evidence::Binding binding{
        evidence::Purpose::kConnect, impl_->origin(), {},
        Digest256{*exporter},        challenge.nonce, note_text_digest(challenge.head)};
    // What we know of the policy may be old: the broker takes what any policy of this log has wanted.
    const auto known = impl_->follower->control()->policy();
    SP_TRY(record::Blob quote,
           quote_machine(tpm, known ? known->references.selection : evidence::PcrSelection::standard(),
                         binding));
    return impl_->direct_post("/v1/attest",
                              api::encode(api::Attest{device, challenge.nonce, std::move(quote.bytes)}));
  };
  impl_->prove_machine = [this, &tpm, prove]() -> Status {
    SP_TRY(const MachineProof machine, identify_machine(tpm));
    const auto control = impl_->follower->control();
    const record::Device* enrolled = control->find_device(machine.device);
    if (enrolled != nullptr) tpm.use_ak(enrolled->attestation_key.key().algorithm());
    Status proved = prove(machine.device);
    // A log that was not followed to its enrolment yet does not tell which of its keys the machine enrolled.
    if (enrolled != nullptr || proved.has_value() || proved.error().reason != Reason::kQuoteSignature)
      return proved;
    tpm.use_ak(crypto::KeyAlgorithm::kRsa2048);
    return prove(machine.device);
  };
  return impl_->prove_machine();
}

Status Session::sign_in(const Signer& signer) {
  impl_->prove_person = [this, signer]() -> Status {
    SP_TRY(const api::Hello challenge, impl_->hello());
    const auto& exporter = impl_->client->exporter();
    if (!exporter) return Error{Code::kUnverified, Reason::kPeerTls, "a person signs in over TLS only"};
    record::Ticket ticket;
    ticket.authority = impl_->origin().get();
    ticket.exporter = Digest256{*exporter};
    ticket.nonce = challenge.nonce;
    ticket.person = signer.person;
    ticket.time = now();
    SP_TRY(Bytes envelope, signer.envelope(std::string{record::kTicketType}, record::encode(ticket)));
    return impl_->direct_post("/v1/signin", std::move(envelope));
  };
  return impl_->prove_person();
}

Status Session::host_hello(const std::string& host, const crypto::PublicKey& key,
                           const record::SignDigest& sign) {
  impl_->prove_machine = [this, host, key, sign]() -> Status {
    SP_TRY(const api::Hello challenge, impl_->hello());
    const auto& exporter = impl_->client->exporter();
    if (!exporter) return Error{Code::kUnverified, Reason::kPeerTls, "a host is proved over TLS only"};
    record::HostHello hello;
    hello.authority = impl_->origin().get();
    hello.exporter = Digest256{*exporter};
    hello.host = host;
    hello.nonce = challenge.nonce;
    hello.time = now();
    SP_TRY(const record::Envelope envelope,
           record::sign_statement(std::string{record::kHostHelloType}, record::encode(hello), key, sign));
    return impl_->direct_post("/v1/host", record::encode_envelope(envelope));
  };
  return impl_->prove_machine();
}

Status Session::sync(milliseconds wait) {
  // Another command of this person may follow at the same moment: what it took is ours then.
  constexpr int kTries = 4;
  for (int attempt = 1;; ++attempt) {
    Status synced = sync_once(wait);
    if (synced.has_value() || synced.error().next != Next::kRetryLater ||
        synced.error().reason != Reason::kLogOrder || attempt == kTries)
      return synced;
  }
}

Status Session::sync_once(milliseconds wait) {
  // A batch ends at its note, or more follow: what is taken is taken whole, under one checkpoint.
  record::Batch whole;
  whole.from = LeafIndex{impl_->follower->control()->size().get()};
  std::optional<record::Joining> joining;
  if (impl_->follower->may_join()) {
    SP_TRY(const Bytes bytes, impl_->fetch(Impl::get("/v1/snapshot")));
    if (!bytes.empty()) {  // or the log has none yet, and is followed from its start
      SP_TRY(joining, record::parse_joining(bytes));
      whole.from = LeafIndex{joining->before.size().get() + joining->leaves.size() + 1};
    }
  }
  for (;;) {
    const std::uint64_t from = whole.from.get() + whole.leaves.size();
    SP_TRY(const Bytes bytes, impl_->fetch(Impl::get("/v1/follow?from=" + std::to_string(from) + "&wait=" +
                                                     std::to_string(whole.leaves.empty() ? wait.count() : 0)),
                                           wait));
    SP_TRY(record::Batch part, record::parse_batch(bytes));
    if (part.from.get() != from)
      return Error{Code::kMalformed, "the broker sent other leaves than were asked for"};
    const bool nothing = part.leaves.empty();
    whole.leaves.insert(whole.leaves.end(), part.leaves.begin(), part.leaves.end());
    std::move(part.controls.begin(), part.controls.end(), std::back_inserter(whole.controls));
    whole.note = std::move(part.note);
    if (whole.note.empty())
      return Error{Code::kUnavailable, Reason::kLogQuorum, "the log has no cosigned checkpoint yet"};
    SP_TRY(const ledger::ClaimedNote note, ledger::parse_note(whole.note));
    SP_TRY(const ledger::Checkpoint checkpoint, ledger::parse_checkpoint_text(note.text));
    if (nothing || checkpoint.size.get() <= whole.from.get() + whole.leaves.size()) break;
  }
  return joining ? impl_->follower->join(*joining, whole) : impl_->follower->accept(whole);
}

follow::Follower& Session::follower() {
  return *impl_->follower;
}
std::shared_ptr<const record::ControlState> Session::control() {
  return impl_->follower->control();
}

Result<std::shared_ptr<const record::LoadedPolicy>> Session::policy() {
  auto policy = impl_->follower->control()->policy();
  if (!policy) return Error{Code::kUnavailable, Reason::kLogOrder, "nothing of the log was followed yet"};
  return policy;
}

Result<api::Hello> Session::hello() {
  SP_TRY(const Bytes body, impl_->fetch(Impl::get("/v1/hello")));
  return api::parse_hello(body);
}

Result<api::Submitted> Session::submit(const record::Submission& submission) {
  SP_TRY(const auto response, impl_->call(Impl::post("/v1/statements", record::encode(submission)),
                                          milliseconds{0}, Patience::kSession));
  if (response.status != 200 && response.status != 403) return error_of(response);
  auto submitted = api::parse_submitted(response.body);
  if (!submitted.has_value()) return error_of(response);
  return submitted;
}

Result<std::vector<api::Submitted>> Session::submit_list(const record::Submission& submission) {
  SP_TRY(const Bytes body, impl_->fetch(Impl::post("/v1/lists", record::encode(submission)), kListWait));
  SP_TRY(std::vector<api::Submitted> told, api::parse_submitted_list(body));
  SP_TRY(const record::Envelope envelope, record::parse_envelope(submission.envelope));
  SP_TRY(const record::ListApproval list, record::parse_list_approval(envelope.payload));
  const auto same = [](const api::Submitted& one, const record::ListedCase& listed) {
    return one.case_id == listed.case_id;
  };
  if (!std::equal(told.begin(), told.end(), list.entries.begin(), list.entries.end(), same))
    return Error{Code::kUnverified, Reason::kPeer,
                 "the broker's answer is not of the cases that were signed"};
  return told;
}

Result<std::vector<api::CaseView>> Session::cases() {
  SP_TRY(const Bytes body, impl_->fetch(Impl::get("/v1/cases")));
  return api::parse_case_list(body);
}

Result<api::CaseView> Session::view(const CaseId& case_id, std::optional<std::uint64_t> after,
                                    milliseconds wait) {
  std::string target = case_path(case_id, "?wait=" + std::to_string(wait.count()));
  if (after) target += "&after=" + std::to_string(*after);
  // Who waits for something to happen waits for the broker too, and tells so.
  SP_TRY(const Bytes body,
         impl_->fetch(Impl::get(std::move(target)), wait, after ? Patience::kNone : Patience::kSession));
  return api::parse_case_view(body);
}

Result<record::Blob> Session::blob(const record::EvidenceItem& item) {
  SP_TRY(const Bytes body, impl_->fetch(Impl::get("/v1/blobs/" + to_hex(item.sha256))));
  if (body.empty()) return Error{Code::kMalformed, "an empty blob"};
  record::Blob blob{item.type, Bytes(body.begin() + 1, body.end())};
  if (record::item_of(blob) != item)
    return Error{Code::kUnverified, Reason::kLogBody, "the evidence is not what its digest says"};
  return blob;
}

Result<api::Activated> Session::activate(const CaseId& case_id, const std::vector<record::Blob>& evidence) {
  Writer blobs;
  record::write_blobs(evidence, blobs);
  SP_TRY(const Bytes body, impl_->fetch(Impl::post(case_path(case_id, "/activate"), std::move(blobs).take()),
                                        milliseconds{30'000}));
  return api::parse_activated(body);
}

Result<api::Leased> Session::lease(const CaseId& case_id, const api::LeaseAsk& ask) {
  SP_TRY(const Bytes body, impl_->fetch(Impl::post(case_path(case_id, "/lease"), api::encode(ask))));
  return api::parse_leased(body);
}

Result<std::uint64_t> Session::add_challenge(const CaseId& case_id, const api::Challenge& challenge) {
  SP_TRY(const Bytes body,
         impl_->fetch(Impl::post(case_path(case_id, "/challenges"), api::encode(challenge))));
  SP_TRY(const std::string number, api::parse_field(body, "challenge", 8));
  return static_cast<std::uint64_t>(std::strtoull(number.c_str(), nullptr, 10));
}

Result<std::vector<api::Challenge>> Session::open_challenges(const CaseId& case_id, milliseconds wait) {
  SP_TRY(
      const Bytes body,
      impl_->fetch(Impl::get(case_path(case_id, "/challenges?wait=" + std::to_string(wait.count()))), wait));
  return api::parse_challenges(body);
}

Status Session::answer_challenge(const CaseId& case_id, std::uint64_t number, const Digest256& answer) {
  SP_TRY(const Bytes body,
         impl_->fetch(Impl::post(case_path(case_id, "/challenges/" + std::to_string(number)),
                                 api::encode_field("answer", to_hex(answer)))));
  (void)body;
  return Done{};
}

Result<std::string> Session::challenge_answer(const CaseId& case_id, std::uint64_t number,
                                              milliseconds wait) {
  SP_TRY(const Bytes body,
         impl_->fetch(Impl::get(case_path(case_id, "/challenges/" + std::to_string(number) +
                                                       "?wait=" + std::to_string(wait.count()))),
                      wait));
  return api::parse_field(body, "answer", 64);
}

Result<record::EntryPage> Session::entries(LeafIndex from) {
  SP_TRY(const Bytes body, impl_->fetch(Impl::get("/v1/entries?from=" + std::to_string(from.get()))));
  return record::parse_entry_page(body);
}

Result<std::vector<std::string>> Session::checkpoints(TreeSize from) {
  SP_TRY(const Bytes body, impl_->fetch(Impl::get("/v1/checkpoints?from=" + std::to_string(from.get()))));
  return api::parse_notes(body);
}

Result<std::vector<CaseId>> Session::erasable(UnixMillis before) {
  SP_TRY(const Bytes body, impl_->fetch(Impl::get("/v1/erasable?before=" + std::to_string(before.get()))));
  return api::parse_case_ids(body);
}

}  // namespace sallyport::client

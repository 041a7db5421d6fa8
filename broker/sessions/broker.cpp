#include "broker/sessions/broker.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <thread>

#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/ledger/proof.h"
#include "attestation/record/appraise.h"
#include "attestation/record/dossier.h"
#include "attestation/record/host_key.h"
#include "attestation/record/times.h"
#include "broker/sessions/case_view.h"
#include "broker/sessions/challenge_relay.h"
#include "broker/sessions/erasable.h"

namespace sallyport::sessions {
namespace {

using ledger_service::Appended;
using record::Blob;
using record::Case;
using record::CaseState;
using record::CaseType;
using record::EvidenceType;
using record::Kind;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kNonceLife{60};
constexpr milliseconds kMaxWait{30'000};
constexpr milliseconds kProofWait{15'000};
constexpr std::size_t kMaxRefusalsAnHour = 30;
constexpr std::size_t kMaxKeptAnHour = 128u << 20;
constexpr std::size_t kMaxPageBytes = 16u << 20;
constexpr std::uint64_t kNoPredecessor = ~std::uint64_t{0};

Error denied(Reason reason, std::string what) {
  return Error{Code::kDenied, reason, std::move(what)};
}
Error not_signed_in() {
  return denied(Reason::kNotSignedIn, "sign in with your token first");
}
// check_sent_by is for statements that only their own person sends.
Status check_sent_by(const Peer& peer, const std::string& person) {
  if (!peer.person) return not_signed_in();
  if (peer.person->get() == person) return Done{};
  return denied(Reason::kNotSignedIn, "this is signed in as " + peer.person->get() +
                                          ", and the statement is of " + person +
                                          ": only its own person sends it");
}
// clocks_differ says of a ticket that is too old, or from the future, why it is not taken.
Error clocks_differ(UnixMillis ticket, UnixMillis now) {
  const std::uint64_t apart = ticket > now ? ticket.get() - now.get() : now.get() - ticket.get();
  constexpr auto kAllowed = std::chrono::duration_cast<std::chrono::seconds>(record::kMaxTimeSkew);
  return Error{Code::kStale, "the clocks differ: by your machine's it is " + std::to_string(apart / 1000) +
                                 (ticket > now ? " s later" : " s earlier") +
                                 " than by the broker's, and at most " + std::to_string(kAllowed.count()) +
                                 " s are taken"};
}
Error unknown_case() {
  return denied(Reason::kCaseUnknown, "no such case, or not yours to see");
}

}  // namespace

struct Broker::Impl {
  std::shared_ptr<ledger_service::Sequencer> log;
  std::shared_ptr<keyguard::Client> keyguard;
  ledger_service::Clock clock;

  ChallengeRelay challenges;
  std::atomic<bool> stopping = false;
  std::thread finishing;  // finish_left, once

  std::mutex mutex;                                         // guards what follows
  std::map<std::string, std::vector<UnixMillis>> refusals;  // of the last hour, by person
  // Attachments, logs and lists of the last hour, by sender: when, and how large.
  std::map<std::string, std::map<Digest256, std::pair<UnixMillis, std::uint64_t>>> kept;

  Result<std::shared_ptr<const record::LoadedPolicy>> policy() const {
    std::shared_ptr<const record::LoadedPolicy> found;
    log->read([&](const record::State& state) { found = state.control.policy(); });
    if (!found) return Error{Code::kUnavailable, Reason::kLogOrder, "the log has not begun"};
    return found;
  }

  Result<Nonce> take_nonce(Peer& peer) const {
    if (!peer.nonce || clock() > peer.nonce_until)
      return Error{Code::kStale, Reason::kQuoteNonce, "ask for a nonce first"};
    const Nonce nonce = *peer.nonce;
    peer.nonce.reset();
    return nonce;
  }

  // check_rate: at most so many refused attempts of one person are recorded in an hour.
  Status check_rate(const std::string& person) {
    const std::lock_guard lock{mutex};
    auto& times = refusals[person];
    const UnixMillis now = clock();
    std::erase_if(times, [&](UnixMillis at) { return record::operator+(at, std::chrono::hours{1}) < now; });
    if (times.size() < kMaxRefusalsAnHour) return Done{};
    return Error{Code::kUnavailable, Reason::kRateLimited, "too many refused requests in an hour",
                 Next::kRetryLater, 0};
  }

  bool is_opener(const PersonId& person, const CaseId& case_id) const {
    bool is = false;
    log->read([&](const record::State& state) {
      const auto at = state.cases.find(case_id);
      is = at != state.cases.end() && opener(at->second) == person.get();
    });
    return is;
  }

  // check_kept: so many bytes of one sender, attached or measured by a machine, are kept in an hour, whether
  // they end in the log or not. What is sent again counts once.
  Status check_kept(const std::string& sender, const std::vector<record::EvidenceItem>& items) {
    if (items.empty()) return Done{};
    const std::lock_guard lock{mutex};
    auto& sent = kept[sender];
    const UnixMillis now = clock();
    std::erase_if(sent, [&](const auto& one) {
      return record::operator+(one.second.first, std::chrono::hours{1}) < now;
    });
    std::uint64_t total = 0;
    for (const record::EvidenceItem& item : items) sent.try_emplace(item.sha256, now, item.size);
    for (const auto& [digest, one] : sent) total += one.second;
    if (total <= kMaxKeptAnHour) return Done{};
    for (const record::EvidenceItem& item : items)
      if (const auto at = sent.find(item.sha256); at->second.first == now) sent.erase(at);
    return Error{Code::kUnavailable, Reason::kRateLimited, "too many bytes attached or measured in an hour",
                 Next::kRetryLater, 0};
  }

  // append_in puts a statement after the newest leaf of its case, or as its first. Attachments, which are
  // large and which no fold reads, are hashed and on disk before the one writer is asked for anything.
  Result<Appended> append_in(const std::string& sender, Kind kind, const CaseId& case_id, Bytes envelope,
                             std::vector<Blob> blobs) {
    const auto attachments = std::stable_partition(
        blobs.begin(), blobs.end(), [](const Blob& blob) { return blob.type != EvidenceType::kAttachment; });
    std::vector<record::EvidenceItem> stored;
    std::transform(attachments, blobs.end(), std::back_inserter(stored), record::item_of);
    std::vector<record::EvidenceItem> counted = stored;
    for (auto at = blobs.begin(); at != attachments; ++at)
      if (at->type == EvidenceType::kImaList || at->type == EvidenceType::kEventLog)
        counted.push_back(record::item_of(*at));
    SP_CHECK(check_kept(sender, counted));
    for (auto at = attachments; at != blobs.end(); ++at) SP_CHECK(log->put_attachment(*at));
    blobs.erase(attachments, blobs.end());
    return log->append(
        [kind, case_id, envelope = std::move(envelope), blobs = std::move(blobs), stored = std::move(stored)](
            const record::State& state, UnixMillis time) -> Result<record::Entry> {
          const record::CaseTrace* trace = state.control.find_case(case_id);
          return record::make_entry(kind, time, case_id, trace ? trace->last.get() : kNoPredecessor, envelope,
                                    blobs, crypto::random_nonce(), stored);
        });
  }

  template <class Composer>
  Result<Appended> append_composed(const CaseId& case_id, Composer composer) {
    return log->append([case_id, composer](const record::State& state, UnixMillis time) {
      return composer(state, case_id, time, crypto::random_nonce());
    });
  }

  // close_if_met appends the closing leaf of a policy, enrolment or erasure case whose quorum is met.
  Result<std::optional<Appended>> close_if_met(const CaseId& case_id) {
    bool met = false;
    CaseType type = CaseType::kAccess;
    const UnixMillis now = clock();
    log->read([&](const record::State& state) {
      const auto at = state.cases.find(case_id);
      if (at == state.cases.end() || at->second.state != CaseState::kOpen) return;
      type = at->second.type;
      const auto progress = record::quorum_progress(state, case_id, now);
      met = progress.has_value() && progress->met;
    });
    if (!met) return std::optional<Appended>{};
    const auto close = [&]() -> std::optional<Result<Appended>> {
      switch (type) {
        case CaseType::kPolicy:
          return append_composed(case_id, record::compose_policy);
        case CaseType::kEnrolment:
          return append_composed(case_id, record::compose_enrolment);
        case CaseType::kErasure:
          return append_composed(case_id, record::compose_erasure);
        default:
          return std::nullopt;  // a grant waits for its machine
      }
    };
    auto appended = close();
    if (!appended) return std::optional<Appended>{};
    Result<Appended>& closed = *appended;
    if (!closed.has_value()) return std::move(closed).error();
    return std::optional{*closed};
  }

  // finish_left appends what follows from what is recorded already: a crash may have come in between.
  void finish_left() {
    std::vector<CaseId> refusable, open;
    log->read([&](const record::State& state) {
      for (const auto& [id, one] : state.cases) {
        if (one.state == CaseState::kRefusable) refusable.push_back(id);
        if (one.state == CaseState::kOpen && one.type != CaseType::kAccess) open.push_back(id);
      }
    });
    // An error is of a case that somebody else has finished meanwhile, or the next start tries again.
    for (const CaseId& id : refusable)
      if (!stopping) (void)append_composed(id, record::compose_refusal).has_value();
    for (const CaseId& id : open)
      if (!stopping) (void)close_if_met(id).has_value();
  }

  Result<api::Submitted> submitted(const CaseId& case_id, const Appended& appended) {
    api::Submitted answer;
    answer.case_id = case_id;
    answer.leaf = appended.index.get();
    answer.size = appended.signed_size.get();
    const UnixMillis now = clock();
    log->read([&](const record::State& state) {
      const auto at = state.cases.find(case_id);
      if (at == state.cases.end()) {
        answer.state = "closed";
        return;
      }
      answer.state = state_name(at->second, now);
      answer.code = at->second.refusable;
      answer.detail = at->second.detail;
    });
    return answer;
  }

  Result<api::Submitted> submit_request(const Peer& peer, record::Submission submission,
                                        const record::Envelope& envelope) {
    SP_TRY(const record::Request request, record::parse_request(envelope.payload));
    SP_CHECK(check_sent_by(peer, request.person));
    // The address that is recorded is this connection's, so the machine must be at its end. A machine that
    // cannot be (it is not enrolled, or revoked) has its attempt recorded and refused.
    bool elsewhere = false;
    log->read([&](const record::State& state) {
      elsewhere =
          peer.device != request.device && record::live_device(state.control, request.device).has_value();
    });
    if (elsewhere)
      return denied(Reason::kNotAttested, "the connection has not proved the machine of the request");
    SP_CHECK(check_rate(request.person));
    std::erase_if(submission.blobs, [](const Blob& blob) { return blob.type == EvidenceType::kObservation; });
    submission.blobs.push_back(
        {EvidenceType::kObservation, record::encode(record::Observation{peer.address, "", clock()})});
    SP_TRY(Appended appended, append_in(request.person, Kind::kRequest, request.case_id,
                                        std::move(submission.envelope), std::move(submission.blobs)));
    bool refusable = false;
    log->read([&](const record::State& state) {
      const auto at = state.cases.find(request.case_id);
      refusable = at != state.cases.end() && at->second.state == CaseState::kRefusable;
    });
    if (refusable) {
      {
        const std::lock_guard lock{mutex};
        refusals[request.person].push_back(clock());
      }
      SP_TRY(appended, append_composed(request.case_id, record::compose_refusal));
    }
    return submitted(request.case_id, appended);
  }

  // submit_signed records a statement of the person who is signed in. `proven`: tell only when witnesses have
  // cosigned.
  Result<api::Submitted> submit_signed(const Peer& peer, const std::string& person, Kind kind,
                                       const CaseId& case_id, record::Submission submission, bool proven) {
    SP_CHECK(check_sent_by(peer, person));
    return append_signed(*peer.person, kind, case_id, std::move(submission), proven);
  }

  // An approval proves by itself who approved what, so whoever may see the case can carry it here.
  Status check_may_carry(const Peer& peer, const std::string& approver, const CaseId& case_id) const {
    if (!peer.person) return not_signed_in();
    bool may = peer.person->get() == approver;
    log->read([&](const record::State& state) {
      const auto at = state.cases.find(case_id);
      may = may || (at != state.cases.end() && may_see(state, at->second, peer));
    });
    return may ? Status{Done{}} : Status{unknown_case()};
  }

  Result<api::Submitted> submit_approval(const Peer& peer, const record::Approval& statement,
                                         record::Submission submission) {
    SP_CHECK(check_may_carry(peer, statement.approver, statement.case_id));
    return append_signed(*peer.person, Kind::kApproval, statement.case_id, std::move(submission), false);
  }

  // submit_part records a list-approval in one of its cases, and closes that if it completes its quorum. What
  // went wrong is in `trouble`; `told` says how far it came.
  struct Part {
    api::Submitted told;
    std::optional<Error> trouble;
  };
  Part submit_part(const Peer& peer, const std::string& approver, const CaseId& case_id,
                   const Bytes& envelope) {
    Part out{{.case_id = case_id, .code = {}, .detail = {}, .state = "refused"}, {}};
    const auto try_it = [&]() -> Status {
      SP_CHECK(check_may_carry(peer, approver, case_id));
      SP_TRY(const Appended appended,
             append_in(peer.person->get(), Kind::kListApproval, case_id, envelope, {}));
      SP_TRY(out.told, submitted(case_id, appended));
      SP_TRY(const auto closed, close_if_met(case_id));
      if (!closed) return Done{};
      SP_TRY(out.told, submitted(case_id, *closed));
      return Done{};
    };
    if (const Status tried = try_it(); !tried.has_value()) out.trouble = tried.error();
    return out;
  }

  // `sender`, who carries the statement, answers for its bytes.
  Result<api::Submitted> append_signed(const PersonId& sender, Kind kind, const CaseId& case_id,
                                       record::Submission submission, bool proven) {
    SP_TRY(Appended appended, append_in(sender.get(), kind, case_id, std::move(submission.envelope),
                                        std::move(submission.blobs)));
    SP_TRY(const auto closed, close_if_met(case_id));
    if (closed) appended = *closed;
    if (proven || closed) SP_CHECK(log->wait_proven(TreeSize{appended.index.get() + 1}, kProofWait));
    return submitted(case_id, appended);
  }

  Result<record::Entry> entry_at(LeafIndex index) { return log->entry(index); }

  // Every entry of a case, by the chain of predecessors, in the order of the log.
  Result<std::vector<api::EntryView>> entries_of(LeafIndex last) {
    std::vector<api::EntryView> out;
    for (std::uint64_t at = last.get(); at != kNoPredecessor;) {
      SP_TRY(record::Entry entry, entry_at(LeafIndex{at}));
      const std::uint64_t before = entry.leaf.predecessor;
      if (before != kNoPredecessor && before >= at)
        return Error{Code::kInternal, "a case that runs in a circle"};
      out.push_back({at, std::move(entry)});
      at = before;
    }
    std::reverse(out.begin(), out.end());
    return out;
  }

  // dossier_of puts together all that proves the grant of a case, under the newest cosigned checkpoint.
  Result<record::Dossier> dossier_of(const CaseId& case_id) {
    std::optional<LeafIndex> grant_index, last;
    log->read([&](const record::State& state) {
      if (const auto mark = state.control.find_grant(case_id)) grant_index = mark->index;
      if (const auto* trace = state.control.find_case(case_id)) last = trace->last;
    });
    if (!grant_index || !last) return denied(Reason::kCaseUnknown, "the case has no grant");
    SP_CHECK(log->wait_proven(TreeSize{grant_index->get() + 1}, kProofWait));
    SP_TRY(const auto entries, entries_of(*last));

    const record::Entry* grant = nullptr;
    const record::Entry* request = nullptr;
    std::map<Digest256, const record::Entry*> approvals;
    for (const api::EntryView& one : entries) {
      if (one.index > grant_index->get()) break;
      const Kind kind = static_cast<Kind>(one.entry.leaf.kind);
      if (kind == Kind::kGrant) grant = &one.entry;
      if (kind == Kind::kRequest) request = &one.entry;
      if (kind != Kind::kApproval) continue;
      SP_TRY(const record::Body body, record::parse_body(one.entry.body));
      SP_TRY(const record::Envelope envelope, record::parse_envelope(body.envelope));
      approvals.emplace(record::statement_digest(envelope), &one.entry);
    }
    if (grant == nullptr || request == nullptr)
      return Error{Code::kInternal, "a case whose grant or request is not in its chain"};
    // Exactly those that the grant names: an approval that no longer counted is in the case, not in the
    // grant.
    SP_TRY(const record::Body body, record::parse_body(grant->body));
    SP_TRY(const record::Envelope envelope, record::parse_envelope(body.envelope));
    SP_TRY(const record::Grant statement, record::parse_grant(envelope.payload));
    std::vector<const record::Entry*> named;
    for (const Digest256& digest : statement.approvals) {
      const auto found = approvals.find(digest);
      if (found == approvals.end()) return Error{Code::kInternal, "an approval of the grant is missing"};
      named.push_back(found->second);
    }
    SP_TRY(const auto proof, log->prove(*grant_index));
    return record::make_dossier(*grant, *request, named, ledger::encode_proof(proof));
  }
};

Broker::Broker(std::shared_ptr<ledger_service::Sequencer> log, std::shared_ptr<keyguard::Client> keyguard,
               ledger_service::Clock clock)
    : impl_(std::make_unique<Impl>()) {
  impl_->log = std::move(log);
  impl_->keyguard = std::move(keyguard);
  impl_->clock = std::move(clock);
  impl_->finishing = std::thread{[impl = impl_.get()] { impl->finish_left(); }};
}
Broker::~Broker() {
  impl_->stopping = true;
  impl_->finishing.join();
}

void Broker::stop_waiting() {
  impl_->stopping = true;
  impl_->challenges.stop_waiting();
  impl_->log->release_waiters();
}

api::Hello Broker::hello(Peer& peer) {
  api::Hello hello;
  hello.head = impl_->log->cosigned_note();
  hello.nonce = crypto::random_nonce();
  hello.time = impl_->clock();
  impl_->log->read([&](const record::State& state) { hello.origin = state.control.origin().get(); });
  peer.nonce = hello.nonce;
  peer.nonce_until = record::operator+(hello.time, kNonceLife);
  peer.head = hello.head;
  return hello;
}

Result<DeviceId> Broker::attest(Peer& peer, const api::Attest& proof) {
  SP_TRY(const Nonce nonce, impl_->take_nonce(peer));
  if (nonce != proof.nonce) return Error{Code::kUnverified, Reason::kQuoteNonce, "a quote for another nonce"};
  evidence::Binding binding{evidence::Purpose::kConnect, {}, {}, peer.exporter, nonce, {}};
  if (const auto note = ledger::parse_note(peer.head); note.has_value())
    binding.note = crypto::sha256(as_bytes(note->text));
  else
    binding.note = crypto::sha256(ByteView{});
  std::optional<Status> verdict;
  impl_->log->read([&](const record::State& state) {
    binding.origin = state.control.origin();
    const auto device = record::live_device(state.control, proof.device);
    if (!device.has_value()) {
      verdict = device.error();
      return;
    }
    // Who was away while a policy changed the PCRs that are quoted quotes those of a policy before: it has to
    // connect to learn of the change. For a request only today's will do.
    auto policy = state.control.policy();
    auto quote = record::verify_machine(state.control, *policy, **device, {EvidenceType::kQuote, proof.quote},
                                        binding);
    while (!quote.has_value() && quote.error().reason == Reason::kQuotePcrs) {
      const auto before = state.control.policy_at(policy->first_index);
      if (!before) break;
      if (before->references.selection != policy->references.selection)
        quote = record::verify_machine(state.control, *before, **device, {EvidenceType::kQuote, proof.quote},
                                       binding);
      policy = before;
    }
    if (!quote.has_value()) {
      verdict = quote.error();
      return;
    }
    // Counters that went back are judged with the request, so that the log tells of them.
    if (const Status running = record::check_not_stopped(state, proof.device); !running.has_value()) {
      verdict = running.error();
      return;
    }
    // A boot that only an event log can tell is judged with what the machine asks for: each request brings
    // one.
    const auto boot =
        evidence::appraise_boot(*quote, (*device)->baseline, nullptr, policy->references, impl_->clock());
    const bool good = boot.has_value() || boot.error().reason == Reason::kEventLogMissing;
    verdict = good ? Status{Done{}} : Status{boot.error()};
  });
  SP_CHECK(*verdict);
  peer.device = proof.device;
  return proof.device;
}

Result<PersonId> Broker::sign_in(Peer& peer, ByteView ticket_envelope) {
  SP_TRY(const record::Envelope envelope, record::parse_envelope(ticket_envelope));
  if (envelope.type != record::kTicketType) return Error{Code::kMalformed, "not a ticket"};
  SP_TRY(const record::Ticket ticket, record::parse_ticket(envelope.payload));
  SP_TRY(const Nonce nonce, impl_->take_nonce(peer));
  std::optional<Status> verdict;
  impl_->log->read([&](const record::State& state) {
    const auto policy = state.control.policy();
    if (!policy || ticket.authority != state.control.origin().get() || ticket.exporter != peer.exporter ||
        ticket.nonce != nonce) {
      verdict = Error{Code::kUnverified, Reason::kNotSignedIn, "the ticket is for another connection"};
      return;
    }
    if (const UnixMillis now = impl_->clock(); !record::within_skew(ticket.time, now)) {
      verdict = clocks_differ(ticket.time, now);
      return;
    }
    const auto token = record::verify_person(state.control, policy->policy, envelope, ticket.person);
    verdict = token.has_value() ? Status{Done{}} : Status{token.error()};
  });
  SP_CHECK(*verdict);
  peer.person = PersonId{ticket.person};
  return *peer.person;
}

Result<std::string> Broker::host_hello(Peer& peer, ByteView bytes) {
  SP_TRY(const record::Envelope envelope, record::parse_envelope(bytes));
  if (envelope.type != record::kHostHelloType || envelope.signatures.size() != 1)
    return Error{Code::kMalformed, "not a host's hello"};
  SP_TRY(const record::HostHello hello, record::parse_host_hello(envelope.payload));
  SP_TRY(const Nonce nonce, impl_->take_nonce(peer));
  SP_TRY(const auto policy, impl_->policy());
  const auto found = policy::find_host(policy->policy, hello.host);
  if (!found || hello.exporter != peer.exporter || hello.nonce != nonce ||
      hello.authority != policy->policy.authority.origin.get())
    return denied(Reason::kPolicyUnknownResource, "no such host, or a hello for another connection");
  SP_TRY(const crypto::PublicKey key, record::verify_host_signature(envelope, found->host->keys));
  (void)key;
  peer.host = hello.host;
  return hello.host;
}

Result<record::Batch> Broker::genesis() {
  SP_TRY(record::Entry entry, impl_->log->entry(LeafIndex{0}));
  record::Batch batch;
  batch.leaves.push_back(entry.leaf);
  batch.controls.push_back({LeafIndex{0}, std::move(entry)});
  return batch;
}

Result<record::Batch> Broker::follow(const Peer& peer, LeafIndex from, milliseconds wait) {
  if (!peer.device && !peer.person && !peer.host)
    return denied(Reason::kNotAttested, "followers prove a machine, a person or a host first");
  SP_TRY(record::Batch batch, impl_->log->batch(from));
  if (!batch.leaves.empty() || wait.count() == 0) return batch;
  impl_->log->wait_change(TreeSize{from.get()}, batch.note, std::min(wait, kMaxWait));
  return impl_->log->batch(from);
}

Result<std::shared_ptr<const Bytes>> Broker::joining(const Peer& peer) {
  if (!peer.device && !peer.person && !peer.host)
    return denied(Reason::kNotAttested, "followers prove a machine, a person or a host first");
  return impl_->log->joining();
}

Result<record::EntryPage> Broker::entries(const Peer& peer, LeafIndex from) {
  bool reader = false;
  std::uint64_t size = 0;
  impl_->log->read([&](const record::State& state) {
    reader = is_reader(state, peer.person);
    size = state.control.size().get();
  });
  if (!reader) return denied(Reason::kDenied, "only readers fetch whole entries");
  record::EntryPage page;
  page.from = from;
  std::size_t bytes = 0;
  for (std::uint64_t at = from.get();
       at < size && page.entries.size() < record::kMaxPageEntries && bytes < kMaxPageBytes; ++at) {
    SP_TRY(record::Entry entry, impl_->log->entry(LeafIndex{at}));
    bytes += entry.body.size();
    for (const Blob& blob : entry.blobs) bytes += blob.bytes.size();
    page.entries.push_back(std::move(entry));
  }
  return page;
}

Result<std::vector<std::string>> Broker::checkpoints(const Peer& peer, TreeSize from) {
  bool reader = false;
  impl_->log->read([&](const record::State& state) { reader = is_reader(state, peer.person); });
  if (!reader) return denied(Reason::kDenied, "only readers fetch all checkpoints");
  SP_TRY(const auto notes, impl_->log->store().cosigned(from, 256));
  std::vector<std::string> out;
  for (const auto& note : notes) out.push_back(note.note);
  return out;
}

Result<api::Submitted> Broker::submit(const Peer& peer, record::Submission submission) {
  SP_TRY(const record::Envelope envelope, record::parse_envelope(submission.envelope));
  SP_TRY(const Kind kind, record::kind_of_payload_type(envelope.type));
  switch (kind) {
    case Kind::kRequest:
      return impl_->submit_request(peer, std::move(submission), envelope);
    case Kind::kApproval: {
      SP_TRY(const record::Approval statement, record::parse_approval(envelope.payload));
      return impl_->submit_approval(peer, statement, std::move(submission));
    }
    case Kind::kListApproval:
      return Error{Code::kMalformed, "a list has an answer for each of its cases: POST /v1/lists"};
    case Kind::kDenial: {
      SP_TRY(const record::Denial statement, record::parse_denial(envelope.payload));
      return impl_->submit_signed(peer, statement.approver, kind, statement.case_id, std::move(submission),
                                  true);
    }
    case Kind::kRevocation: {
      SP_TRY(const record::Revocation statement, record::parse_revocation(envelope.payload));
      return impl_->submit_signed(peer, statement.person, kind, statement.case_id, std::move(submission),
                                  true);
    }
    case Kind::kPolicyProposed: {
      SP_TRY(const record::PolicyProposed statement, record::parse_policy_proposed(envelope.payload));
      return impl_->submit_signed(peer, statement.person, kind, statement.case_id, std::move(submission),
                                  false);
    }
    case Kind::kEnrolmentRequested: {
      SP_TRY(const record::EnrolmentRequested statement, record::parse_enrolment_requested(envelope.payload));
      return impl_->submit_signed(peer, statement.person, kind, statement.case_id, std::move(submission),
                                  false);
    }
    case Kind::kErasureProposed: {
      SP_TRY(const record::ErasureProposed statement, record::parse_erasure_proposed(envelope.payload));
      SP_CHECK(check_sent_by(peer, statement.person));
      SP_CHECK(check_erasable(impl_->log->store(), statement));
      return impl_->submit_signed(peer, statement.person, kind, statement.case_id, std::move(submission),
                                  false);
    }
    case Kind::kHold: {
      SP_TRY(const record::Hold statement, record::parse_hold(envelope.payload));
      return impl_->submit_signed(peer, statement.person, kind, statement.case_id, std::move(submission),
                                  true);
    }
    case Kind::kHoldLifted: {
      SP_TRY(const record::HoldLifted statement, record::parse_hold_lifted(envelope.payload));
      return impl_->submit_signed(peer, statement.person, kind, statement.case_id, std::move(submission),
                                  true);
    }
    case Kind::kSessionOpened:
    case Kind::kSessionClosed: {
      std::string host;
      CaseId case_id;
      if (kind == Kind::kSessionOpened) {
        SP_TRY(const record::SessionOpened statement, record::parse_session_opened(envelope.payload));
        host = statement.host;
        case_id = statement.case_id;
      } else {
        SP_TRY(const record::SessionClosed statement, record::parse_session_closed(envelope.payload));
        host = statement.host;
        case_id = statement.case_id;
      }
      if (!peer.host || *peer.host != host)
        return denied(Reason::kDenied, "only the host itself reports its sessions");
      SP_TRY(const Appended appended, impl_->append_in(host, kind, case_id, std::move(submission.envelope),
                                                       std::move(submission.blobs)));
      return impl_->submitted(case_id, appended);
    }
    default:
      return Error{Code::kMalformed, "not a statement that peers send"};
  }
}

Result<std::vector<api::Submitted>> Broker::submit_list(const Peer& peer,
                                                        const record::Submission& submission) {
  if (!peer.person) return not_signed_in();
  SP_TRY(const record::Envelope envelope, record::parse_envelope(submission.envelope));
  if (envelope.type != record::payload_type(Kind::kListApproval) || !submission.blobs.empty())
    return Error{Code::kMalformed, "not a list-approval, which has no evidence"};
  SP_TRY(const record::ListApproval list, record::parse_list_approval(envelope.payload));
  std::vector<api::Submitted> out;
  std::optional<Error> ended;
  std::uint64_t size = 0;
  for (const record::ListedCase& one : list.entries) {
    Impl::Part part =
        ended ? Impl::Part{{.case_id = one.case_id, .code = {}, .detail = {}, .state = "open"}, ended}
              : impl_->submit_part(peer, list.approver, one.case_id, submission.envelope);
    size = std::max(size, part.told.size);
    if (part.trouble) {
      const Error& error = *part.trouble;
      if (error.code == Code::kUnavailable || error.code == Code::kInternal) ended = error;
      part.told.code = error.reason;
      part.told.detail = ended ? std::string{reason_sentence(error.reason)} : error.what;
    }
    out.push_back(std::move(part.told));
  }
  if (size != 0) (void)impl_->log->wait_proven(TreeSize{size}, kProofWait).has_value();
  return out;
}

Result<std::vector<api::CaseView>> Broker::list(const Peer& peer) {
  if (!peer.person) return not_signed_in();
  std::vector<api::CaseView> out;
  const UnixMillis now = impl_->clock();
  impl_->log->read([&](const record::State& state) {
    for (const auto& [id, one] : state.cases)
      if (may_see(state, one, peer)) out.push_back(summary_of(state, one, peer, now));
  });
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.opened > b.opened; });
  return out;
}

Result<api::CaseView> Broker::view(const Peer& peer, const CaseId& case_id,
                                   std::optional<std::uint64_t> after, milliseconds wait) {
  const auto deadline = steady_clock::now() + std::min(wait, kMaxWait);
  for (;;) {
    std::optional<api::CaseView> view;
    LeafIndex last;
    TreeSize size{0};
    const UnixMillis now = impl_->clock();
    impl_->log->read([&](const record::State& state) {
      size = state.control.size();
      const auto at = state.cases.find(case_id);
      if (at == state.cases.end() || !may_see(state, at->second, peer)) return;
      view = summary_of(state, at->second, peer, now);
      last = at->second.last;
    });
    if (!view) return unknown_case();
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
    if (!after || last.get() > *after || left.count() <= 0 || impl_->stopping) {
      SP_TRY(view->entries, impl_->entries_of(last));
      return *view;
    }
    // Leaves of other cases wake this too: the log has one condition, and a look at a map costs little.
    impl_->log->wait_change(size, {}, left);
  }
}

Result<record::Blob> Broker::blob(const Peer& peer, const Digest256& sha256) {
  // Content-addressed, and named only in bodies that the asker was shown: who knows the digest has seen the
  // case.
  if (!peer.person && !peer.device && !peer.host) return not_signed_in();
  SP_TRY(auto found, impl_->log->store().find_blob(sha256));
  if (!found) return denied(Reason::kCaseUnknown, "no such evidence");
  return std::move(*found);
}

Result<std::vector<CaseId>> Broker::erasable(const Peer& peer, UnixMillis before) {
  if (!peer.person) return not_signed_in();
  std::optional<record::ControlState> control;
  impl_->log->read([&](const record::State& state) { control = state.control; });
  return erasable_cases(impl_->log->store(), *control, before);
}

Result<api::Activated> Broker::activate(const Peer& peer, const CaseId& case_id, std::vector<Blob> evidence) {
  if (!peer.person || !peer.device)
    return denied(Reason::kNotAttested, "activation needs machine and person");
  std::optional<Error> wrong;
  bool granted = false;
  impl_->log->read([&](const record::State& state) {
    const auto at = state.cases.find(case_id);
    if (at == state.cases.end() || !at->second.request || at->second.request->person != peer.person->get() ||
        at->second.request->device != *peer.device)
      wrong = unknown_case();
    else if (const Status running = record::check_not_stopped(state, *peer.device); !running.has_value())
      wrong = running.error();
    granted = state.control.find_grant(case_id).has_value();
  });
  if (wrong) return *wrong;
  if (!granted) {
    std::vector<Blob> blobs = std::move(evidence);
    std::erase_if(blobs, [](const Blob& blob) { return blob.type == EvidenceType::kObservation; });
    blobs.push_back(
        {EvidenceType::kObservation, record::encode(record::Observation{peer.address, "", impl_->clock()})});
    SP_TRY(const Appended appended,
           impl_->log->append([&](const record::State& state, UnixMillis time) -> Result<record::Entry> {
             return record::compose_grant(state, case_id, blobs, time, crypto::random_nonce());
           }));
    (void)appended;
  }
  SP_TRY(const record::Dossier dossier, impl_->dossier_of(case_id));
  api::Activated activated;
  activated.dossier = record::encode_dossier(dossier);
  SP_TRY(activated.certificate, impl_->keyguard->certify(activated.dossier));
  return activated;
}

Result<api::Leased> Broker::lease(const Peer& peer, const CaseId& case_id, const api::LeaseAsk& ask) {
  if (!peer.person || !peer.device) return denied(Reason::kNotAttested, "a lease needs machine and person");
  std::optional<Error> wrong;
  impl_->log->read([&](const record::State& state) {
    const auto at = state.cases.find(case_id);
    if (at == state.cases.end() || !at->second.request || at->second.request->person != peer.person->get() ||
        at->second.request->device != *peer.device)
      wrong = unknown_case();
  });
  if (wrong) return *wrong;
  keyguard::LeaseStatementCall statement;
  statement.case_id = case_id;
  statement.content = ask.content;
  statement.expiration_s = static_cast<std::uint32_t>(ask.expiration_s);
  SP_ASSERT(ask.nonce_tpm.size() == statement.nonce_tpm.size());
  std::copy(ask.nonce_tpm.begin(), ask.nonce_tpm.end(), statement.nonce_tpm.begin());
  SP_TRY(Bytes envelope, impl_->keyguard->lease_statement(statement));
  SP_TRY(const Appended appended,
         impl_->append_in(peer.person->get(), Kind::kLease, case_id, std::move(envelope), {}));
  SP_TRY(const record::Entry entry, impl_->log->entry(appended.index));
  keyguard::LeaseCall call;
  call.case_id = case_id;
  call.index = appended.index;
  call.nonce = entry.nonce;
  call.body = entry.body;
  call.content = ask.content;
  call.nonce_tpm = statement.nonce_tpm;
  api::Leased leased;
  leased.expiration_s = ask.expiration_s;
  SP_TRY(leased.signature, impl_->keyguard->lease(call));
  return leased;
}

Result<std::uint64_t> Broker::add_challenge(const Peer& peer, const CaseId& case_id,
                                            api::Challenge challenge) {
  if (!peer.person) return not_signed_in();
  bool may = false;
  const UnixMillis now = impl_->clock();
  impl_->log->read([&](const record::State& state) {
    const auto at = state.cases.find(case_id);
    may = at != state.cases.end() && at->second.type == CaseType::kEnrolment &&
          !may_approve_as(state, at->second, *peer.person, now).empty();
  });
  if (!may) return unknown_case();
  return impl_->challenges.add(case_id, peer.person->get(), std::move(challenge));
}

Result<std::vector<api::Challenge>> Broker::open_challenges(const Peer& peer, const CaseId& case_id,
                                                            milliseconds wait) {
  if (!peer.person) return not_signed_in();
  if (!impl_->is_opener(*peer.person, case_id)) return unknown_case();
  return impl_->challenges.wait_open(case_id, std::min(wait, kMaxWait));
}

Status Broker::answer_challenge(const Peer& peer, const CaseId& case_id, std::uint64_t number,
                                std::string answer) {
  if (!peer.person) return not_signed_in();
  if (!impl_->is_opener(*peer.person, case_id)) return unknown_case();
  return impl_->challenges.answer(case_id, number, std::move(answer));
}

Result<std::string> Broker::challenge_answer(const Peer& peer, const CaseId& case_id, std::uint64_t number,
                                             milliseconds wait) {
  if (!peer.person) return not_signed_in();
  return impl_->challenges.wait_answer(case_id, number, peer.person->get(), std::min(wait, kMaxWait));
}

ledger_service::Sequencer::Health Broker::health() const {
  return impl_->log->health();
}

Status Broker::begin_log(record::PolicyDocument policy, const std::optional<record::Continuation>& before) {
  std::optional<Origin> origin;
  bool begun = false;
  impl_->log->read([&](const record::State& state) {
    origin = state.control.origin();
    begun = state.control.size().get() != 0;
  });
  if (begun) return Error{Code::kConflict, Reason::kConflict, "the log has begun already"};
  SP_TRY(const record::LoadedPolicy loaded, record::load_policy(policy, *origin, LeafIndex{0}));
  SP_CHECK(impl_->log->require_unseen(loaded.witnesses));
  SP_TRY(const Appended appended, impl_->log->append([&](const record::State& state,
                                                         UnixMillis time) -> Result<record::Entry> {
    if (state.control.size().get() != 0)
      return Error{Code::kConflict, Reason::kConflict, "the log has begun already"};
    if (before)
      return record::compose_continued(state.control.origin(), policy, *before, time, crypto::random_nonce());
    return record::compose_genesis(state.control.origin(), policy, time, crypto::random_nonce());
  }));
  return impl_->log->wait_proven(TreeSize{appended.index.get() + 1}, kProofWait);
}

}  // namespace sallyport::sessions

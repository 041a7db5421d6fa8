#include "broker/ledger/witness_round.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/net/http_client.h"

namespace sallyport::ledger_service {
namespace {

using ledger::SignatureLine;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxAnswerBytes = 64 * 1024;
constexpr std::size_t kMaxRecentRounds = 64;
// As far as the keyguard's and the gates' clocks may be from the witnesses'.
constexpr std::int64_t kMaxClockSkewSeconds = 30;
constexpr std::chrono::seconds kTellAfter{10};  // a witness that comes and goes is told of this often

Error does_not_cosign(std::string what) {
  return Error{Code::kUnavailable, Reason::kLogQuorum, std::move(what), Next::kRetryLater, 0};
}

bool proves_two_histories(const Error& error) {
  return error.reason == Reason::kLogRollback || error.reason == Reason::kLogFork;
}

std::string read_path(const Origin& origin) {
  return "/" + to_hex(crypto::sha256(as_bytes(origin.get()))) + "/checkpoint";
}

// A cosignature proves itself: whoever answers over TLS needs no key of ours to be believed.
Result<net::HttpClient> connect_to(const std::string& url, milliseconds timeout) {
  net::HttpClientOptions options;
  options.connect_timeout = timeout;
  options.max_body_bytes = kMaxAnswerBytes;
  return url.starts_with("https:") ? net::HttpClient::connect_unpinned(url, options)
                                   : net::HttpClient::connect(url, options);
}

std::vector<ledger::LogKey> log_keys(const ledger::WitnessPolicy& policy) {
  std::vector<ledger::LogKey> out;
  for (const ledger::PolicyLog& log : policy.logs()) out.push_back({Origin{log.key.name()}, log.key});
  return out;
}

}  // namespace

// Round is one question to all witnesses.
struct WitnessRounds::Round {
  std::string asked;  // the note that the log signed
  ledger::Checkpoint checkpoint;
  std::string text;
  std::vector<ledger::LogKey> logs;
  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by mutex:
  std::string note;
  std::vector<SignatureLine> lines;  // that are not in the note yet
  std::vector<KeyId> cosigned;
  struct Lacking {
    KeyId key;
    std::string name, why;
  };
  std::vector<Lacking> lacking;  // who has not cosigned, in the policy's order
  std::size_t unanswered = 0;
  bool two_histories = false;

  // take puts the new lines into the note, and gives it.
  Result<std::string> take() {
    SP_TRY(note, ledger::add_signature_lines(note, lines));
    lines.clear();
    return note;
  }
};

// Peer is one witness, with a thread of its own: it takes the newest round when it is free.
struct WitnessRounds::Peer {
  ledger::PolicyWitness witness;
  WitnessRounds& rounds;
  std::mutex mutex;
  std::condition_variable wake;
  // Guarded by mutex:
  std::shared_ptr<Round> next;
  bool stop = false, ended = false;
  WitnessHealth health;
  // Of the thread alone:
  std::optional<net::HttpClient> client;
  TreeSize known{0};     // what we believe it has cosigned
  TreeSize cosigned{0};  // what it has
  ledger::UnixSeconds cosigned_at{0};
  std::optional<bool> told;  // whether it answers
  steady_clock::time_point told_at{};
  std::thread thread;  // last: it uses all of the above

  Peer(ledger::PolicyWitness w, WitnessRounds& r, TreeSize before)
      : witness(std::move(w)),
        rounds(r),
        health{witness.name, false, "it was not asked yet", TreeSize{0}, UnixMillis{0}},
        known(before),
        cosigned(before),
        thread([this] { run(); }) {}
  ~Peer() {
    let_go();
    if (thread.joinable()) thread.join();
  }

  // let_go has the thread end when its request has.
  void let_go() {
    {
      const std::lock_guard lock{mutex};
      stop = true;
    }
    wake.notify_all();
  }
  bool has_ended() {
    const std::lock_guard lock{mutex};
    return ended;
  }

  void ask(std::shared_ptr<Round> round) {
    std::shared_ptr<Round> skipped;
    {
      const std::lock_guard lock{mutex};
      skipped = std::exchange(next, std::move(round));
    }
    if (skipped) answer(*skipped, does_not_cosign("it is still busy with an earlier round"));
    wake.notify_all();
  }

  void answer(Round& round, Result<SignatureLine> line) {
    const KeyId id = witness.key.key().id();
    const bool two_histories = !line.has_value() && proves_two_histories(line.error());
    {
      const std::lock_guard lock{round.mutex};
      --round.unanswered;
      round.two_histories = round.two_histories || two_histories;
      if (line.has_value()) {
        round.lines.push_back(std::move(*line));
        round.cosigned.push_back(id);
        std::erase_if(round.lacking, [&](const auto& one) { return one.key == id; });
      } else {
        for (auto& one : round.lacking)
          if (one.key == id) one.why = line.error().what;
      }
    }
    round.changed.notify_all();
  }

  void run() {
    for (;;) {
      std::shared_ptr<Round> round;
      {
        std::unique_lock lock{mutex};
        wake.wait(lock, [this] { return stop || next; });
        if (stop && !next) {
          ended = true;
          return;
        }
        round = std::exchange(next, nullptr);
        if (stop) {
          lock.unlock();
          answer(*round, does_not_cosign("it is no witness of the policy any more"));
          continue;
        }
      }
      auto line = cosign(*round, steady_clock::now() + rounds.timeout_);
      if (!line.has_value()) client.reset();
      const std::string why = line.has_value() ? std::string{} : line.error().what;
      {
        const std::lock_guard lock{mutex};
        health.answering = line.has_value();
        health.why = why;
        if (line.has_value()) {
          health.size = round->checkpoint.size;
          health.cosigned = UnixMillis{cosigned_at.get() * 1000};
        }
      }
      tell(why);
      answer(*round, std::move(line));
    }
  }

  // tell logs that this witness stopped answering, or answers again: once, however many rounds it lasts, and
  // whatever else is wrong with it meanwhile, which health has.
  void tell(const std::string& why) {
    const bool answers = why.empty();
    const auto now = steady_clock::now();
    if (answers == told.value_or(true)) {
      if (!told) told = answers;
      return;
    }
    if (told_at != steady_clock::time_point{} && now - told_at < kTellAfter) return;
    if (answers)
      spdlog::info("witness {} answers again", witness.name);
    else
      spdlog::warn("witness {} stopped answering: {}", witness.name, why);
    told = answers;
    told_at = now;
  }

  // left is what remains for one question to this witness, however many requests it takes.
  static Result<milliseconds> left(steady_clock::time_point until) {
    const auto rest = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
    if (rest.count() <= 0) return does_not_cosign("it did not answer in time");
    return rest;
  }

  Status connect(steady_clock::time_point until) {
    SP_TRY(const milliseconds rest, left(until));
    SP_TRY(client, connect_to(witness.url, rest));
    return Done{};
  }

  Result<net::HttpResponse> post(const std::string& body, steady_clock::time_point until) {
    const bool kept = client && client->is_open();
    if (!kept) SP_CHECK(connect(until));
    SP_TRY(milliseconds rest, left(until));
    auto response = client->post("/add-checkpoint", "text/plain", as_bytes(body), rest);
    if (response.has_value() || !kept) return response;
    SP_CHECK(connect(until));  // a kept connection may have been closed by the witness
    SP_TRY(rest, left(until));
    return client->post("/add-checkpoint", "text/plain", as_bytes(body), rest);
  }

  Result<SignatureLine> cosign(const Round& round, steady_clock::time_point until) {
    // Twice: one answer may tell the witness's own size.
    for (int attempt = 0; attempt < 2; ++attempt) {
      ledger::AddCheckpointRequest request;
      request.old_size = std::min(known, round.checkpoint.size);
      if (request.old_size.get() != 0) {
        SP_TRY(request.proof, rounds.proof_(request.old_size, round.checkpoint.size));
      }
      request.checkpoint = round.asked;
      SP_TRY(const net::HttpResponse response, post(ledger::encode_add_checkpoint(request), until));
      if (response.status == 200) {
        auto cosignature = ledger::verify_cosigned_body(as_text(response.body), witness.key, round.text);
        if (!cosignature.has_value())
          return does_not_cosign("it answered 200 with " + cosignature.error().what);
        known = cosigned = round.checkpoint.size;
        SP_CHECK(check_time(cosignature->time));
        cosigned_at = cosignature->time;
        return std::move(cosignature->line);
      }
      if (response.status == 409 && response.content_type == ledger::kTlogSizeContentType) {
        const auto size = ledger::parse_size_body(as_text(response.body));
        if (!size.has_value()) return does_not_cosign("it answered 409 without its size");
        if (*size > round.checkpoint.size)
          return judge(round,
                       "it has cosigned size " + std::to_string(size->get()) + ", ours is " +
                           std::to_string(round.checkpoint.size.get()),
                       until);
        // Whoever lets it begin anew under the same key lets it bless a second history.
        if (*size < std::min(cosigned, round.checkpoint.size))
          return does_not_cosign("it has cosigned size " + std::to_string(cosigned.get()) +
                                 " and says that it knows " + std::to_string(size->get()) +
                                 ": it lost its memory, and can come back only under a new key");
        known = *size;
        continue;
      }
      if (response.status == 422) return judge(round, "it knows another history of this log", until);
      return does_not_cosign("it answered " + std::to_string(response.status));
    }
    return does_not_cosign("it keeps answering 409");
  }

  Status check_time(ledger::UnixSeconds time) const {
    const auto ours = static_cast<std::int64_t>(rounds.clock_().get() / 1000);
    const std::int64_t off = static_cast<std::int64_t>(time.get()) - ours;
    if (off >= -kMaxClockSkewSeconds && off <= kMaxClockSkewSeconds) return Done{};
    return does_not_cosign("its clock is " + std::to_string(off) + " s off ours");
  }

  // judge is for a witness that says that it knows more than we do, or otherwise. That is true if it can show
  // a checkpoint that our log has signed and that this tree does not continue: a proof, whoever shows it.
  // Without one it is the word of one witness, who must not be able to stop the log.
  Error judge(const Round& round, const std::string& claim, steady_clock::time_point until) {
    const Status open = client && client->is_open() ? Status{Done{}} : connect(until);
    const auto rest = left(until);
    const auto response = open.has_value() && rest.has_value()
                              ? client->get(read_path(round.checkpoint.origin), *rest)
                              : Result<net::HttpResponse>{does_not_cosign("it is away")};
    if (!response.has_value() || response->status != 200)
      return does_not_cosign("it says that " + claim + ", and shows no checkpoint");
    const auto shown =
        ledger::verify_checkpoint(as_text(response->body), round.logs, ledger::Extensions::kAllow);
    if (!shown.has_value() || shown->checkpoint().origin != round.checkpoint.origin)
      return does_not_cosign("it says that " + claim + ", and shows no checkpoint of our log's");
    const ledger::Checkpoint& other = shown->checkpoint();
    const auto proven = [&](Reason reason) {
      Error error{Code::kUnverified, reason,
                  witness.name + ": " + claim + "; our log has signed size " +
                      std::to_string(other.size.get()) + " with root " + to_hex(other.root),
                  Next::kCallOperator, 0};
      rounds.remember({witness.name, std::string{as_text(response->body)}, error});
      return error;
    };
    // A later round may have told it of a larger tree of ours than this one.
    if (other.size > rounds.newest()) return proven(Reason::kLogRollback);
    const bool is_older = other.size <= round.checkpoint.size;
    const ledger::Checkpoint& from = is_older ? other : round.checkpoint;
    const ledger::Checkpoint& to = is_older ? round.checkpoint : other;
    auto proof =
        from.size.get() == 0 ? Result<ledger::Proof>{ledger::Proof{}} : rounds.proof_(from.size, to.size);
    if (!proof.has_value()) return std::move(proof).error();
    if (!ledger::verify_consistency(from.size, from.root, to.size, to.root, *proof))
      return proven(Reason::kLogFork);
    if (!is_older) rounds.show({other.size, log_signed(*shown, round.logs)});
    return does_not_cosign("it says that " + claim + ", and shows a checkpoint of our tree");
  }
};

// log_signed gives a checkpoint with the lines of its log alone.
std::string WitnessRounds::log_signed(const ledger::SignedCheckpoint& shown,
                                      const std::vector<ledger::LogKey>& logs) {
  ledger::ClaimedNote note = *ledger::parse_note(shown.note());  // it has parsed before
  std::erase_if(note.signatures, [&](const SignatureLine& line) {
    return std::none_of(logs.begin(), logs.end(), [&](const ledger::LogKey& log) {
      return log.key.id() == line.key_id && log.key.name() == line.name;
    });
  });
  return ledger::encode_note(note);
}

WitnessRounds::WitnessRounds(ConsistencyProof proof, milliseconds timeout, std::function<UnixMillis()> clock)
    : proof_(std::move(proof)), timeout_(timeout), clock_(std::move(clock)) {}

WitnessRounds::~WitnessRounds() {
  for (const auto& [id, peer] : peers_)
    peer->let_go();  // all at once: each may be waiting for a slow witness
  asked_.clear();
  peers_.clear();
  let_go_.clear();
}

std::vector<WitnessRounds::WitnessHealth> WitnessRounds::health() const {
  std::vector<WitnessHealth> out;
  const std::lock_guard lock{mutex_};
  for (const auto& [name, peer] : asked_) {
    if (!peer) {
      out.push_back({name, false, "it has no address", TreeSize{0}, UnixMillis{0}});
      continue;
    }
    const std::lock_guard of_peer{peer->mutex};
    out.push_back(peer->health);
    out.back().name = name;
  }
  return out;
}

std::size_t WitnessRounds::answering() const {
  const std::lock_guard lock{mutex_};
  return answering_;
}

TreeSize WitnessRounds::newest() const {
  const std::lock_guard lock{mutex_};
  return newest_;
}

void WitnessRounds::has_cosigned(const KeyId& witness, TreeSize size) {
  const std::lock_guard lock{mutex_};
  TreeSize& before = cosigned_before_[witness];
  before = std::max(before, size);
}

void WitnessRounds::holds(TreeSize size) {
  const std::lock_guard lock{mutex_};
  newest_ = std::max(newest_, size);
}

void WitnessRounds::remember(const TwoHistories& proven) {
  {
    const std::lock_guard lock{mutex_};
    if (proven_) return;
    proven_ = proven.error;
  }
  if (tell_) tell_(proven);
}

void WitnessRounds::show(LateNote note) {
  const std::lock_guard lock{mutex_};
  if (!shown_ || shown_->size < note.size) shown_ = std::move(note);
}

std::optional<WitnessRounds::LateNote> WitnessRounds::take_shown() {
  const std::lock_guard lock{mutex_};
  return std::exchange(shown_, std::nullopt);
}

Result<std::string> WitnessRounds::cosign(const std::string& signed_note, const ledger::WitnessPolicy& policy,
                                          milliseconds patience) {
  SP_TRY(const ledger::ClaimedNote parsed, ledger::parse_note(signed_note));
  auto round = std::make_shared<Round>();
  SP_TRY(round->checkpoint, ledger::parse_checkpoint_text(parsed.text));
  round->asked = round->note = signed_note;
  round->text = parsed.text;
  round->logs = log_keys(policy);
  for (const ledger::PolicyWitness& witness : policy.witnesses()) {
    round->lacking.push_back({witness.key.key().id(), witness.name,
                              witness.url.empty() ? "it has no address" : "it did not answer in time"});
    if (!witness.url.empty()) ++round->unanswered;
  }
  {
    const std::lock_guard lock{mutex_};
    if (proven_) return *proven_;
    newest_ = std::max(newest_, round->checkpoint.size);
    ask(round, policy);
  }
  return wait(round, policy, patience);
}

void WitnessRounds::ask(const std::shared_ptr<Round>& round, const ledger::WitnessPolicy& policy) {
  std::erase_if(let_go_, [](const auto& peer) { return peer->has_ended(); });  // so nobody waits for it
  std::map<std::string, std::shared_ptr<Peer>> before = std::exchange(peers_, {});
  asked_.clear();
  for (const ledger::PolicyWitness& witness : policy.witnesses()) {
    if (witness.url.empty()) {
      asked_.emplace_back(witness.name, nullptr);
      continue;
    }
    const std::string id = ledger::format_vkey(witness.key) + " " + witness.url;
    auto known = before.extract(id);
    auto& peer = peers_[id];
    if (known.empty()) {
      const auto cosigned = cosigned_before_.find(witness.key.key().id());
      peer = std::make_shared<Peer>(witness, *this,
                                    cosigned == cosigned_before_.end() ? TreeSize{0} : cosigned->second);
    } else {
      peer = std::move(known.mapped());
    }
    asked_.emplace_back(witness.name, peer);
    peer->ask(round);
  }
  for (auto& [id, peer] : before) {
    peer->let_go();
    let_go_.push_back(std::move(peer));
  }
}

Result<std::string> WitnessRounds::wait(const std::shared_ptr<Round>& round,
                                        const ledger::WitnessPolicy& policy, milliseconds patience) {
  std::unique_lock of_round{round->mutex};
  const auto is_over = [&] { return round->unanswered == 0 || round->two_histories; };
  round->changed.wait_until(of_round, steady_clock::now() + timeout_,
                            [&] { return is_over() || policy.quorum_met(round->cosigned); });
  if (patience.count() != 0) round->changed.wait_for(of_round, patience, is_over);
  const bool met = policy.quorum_met(round->cosigned);
  const std::size_t cosigned = round->cosigned.size();
  Result<std::string> note = met ? round->take() : Result<std::string>{std::string{}};
  std::string why = std::to_string(cosigned) + " of " + std::to_string(policy.k()) + " witnesses cosigned";
  for (const auto& one : round->lacking) why += "; " + one.name + ": " + one.why;
  of_round.unlock();

  const std::lock_guard lock{mutex_};
  answering_ = cosigned;
  if (proven_) return *proven_;
  if (!met) return does_not_cosign(std::move(why));
  std::erase_if(recent_, [&](const auto& one) { return one->checkpoint.size == round->checkpoint.size; });
  recent_.push_back(round);
  if (recent_.size() > kMaxRecentRounds) recent_.pop_front();
  return note;
}

std::vector<WitnessRounds::LateNote> WitnessRounds::take_late() {
  std::vector<LateNote> late;
  const std::lock_guard lock{mutex_};
  std::erase_if(recent_, [&](const auto& round) {
    const std::lock_guard of_round{round->mutex};
    if (!round->lines.empty())
      if (auto note = round->take(); note.has_value())
        late.push_back({round->checkpoint.size, *std::move(note)});
    return round->unanswered == 0;
  });
  return late;
}

Status require_unseen(const Origin& origin, const ledger::WitnessPolicy& policy, milliseconds timeout) {
  // What each says: nothing (it knows no such log), or why that is not known.
  const auto ask = [&](const ledger::PolicyWitness& witness) -> Status {
    if (witness.url.empty()) return does_not_cosign("it has no address");
    SP_TRY(auto client, connect_to(witness.url, timeout));
    SP_TRY(const net::HttpResponse response, client.get(read_path(origin), timeout));
    if (response.status == 404) return Done{};
    if (response.status != 200) return does_not_cosign("it answered " + std::to_string(response.status));
    const auto shown =
        ledger::verify_checkpoint(as_text(response.body), log_keys(policy), ledger::Extensions::kAllow);
    if (!shown.has_value() || shown->checkpoint().origin != origin)
      return does_not_cosign("it shows a checkpoint that is not our log's");
    return Error{Code::kUnverified, Reason::kLogRollback,
                 witness.name + " knows this log: it has signed size " +
                     std::to_string(shown->checkpoint().size.get()) +
                     "; what has begun is not begun again under the same origin",
                 Next::kCallOperator, 0};
  };
  std::vector<std::future<Status>> asked;
  for (const ledger::PolicyWitness& witness : policy.witnesses())
    asked.push_back(std::async(std::launch::async, [&ask, &witness] { return ask(witness); }));
  std::size_t unseen = 0;
  std::string why;
  std::optional<Error> seen;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const Status answer = asked[i].get();
    if (answer.has_value() && policy.in_quorum(i)) ++unseen;
    if (answer.has_value()) continue;
    if (answer.error().reason == Reason::kLogRollback && !seen) seen = answer.error();
    why += "; " + policy.witnesses()[i].name + ": " + answer.error().what;
  }
  if (seen) return *seen;
  const std::size_t needed = policy.n() - policy.k() + 1;
  if (unseen >= needed) return Done{};
  return does_not_cosign(std::to_string(unseen) + " of " + std::to_string(needed) +
                         " witnesses say that they do not know this log yet" + why);
}

}  // namespace sallyport::ledger_service

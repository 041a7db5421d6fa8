#include "broker/ledger/witness_round.h"

#include <condition_variable>
#include <optional>
#include <thread>

#include "attestation/net/http_client.h"

namespace sallyport::ledger_service {

using ledger::SignatureLine;

// Round is one question to all witnesses; a peer that answers late finds it closed and its line is not used.
struct WitnessRounds::Round {
  std::string note, text;
  TreeSize size;
  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by mutex:
  std::vector<SignatureLine> lines;
  std::vector<KeyId> cosigned;
  std::size_t finished = 0;
  std::optional<Error> fatal;
};

// Peer is one witness, with a thread of its own: it takes the newest round when it is free.
struct WitnessRounds::Peer {
  ledger::PolicyWitness witness;
  ConsistencyProof proof;
  std::chrono::milliseconds timeout;
  std::mutex mutex;
  std::condition_variable wake;
  std::shared_ptr<Round> next;  // guarded by mutex
  bool stop = false;            // guarded by mutex
  std::optional<net::HttpClient> client;
  TreeSize known{0};  // what we believe it has cosigned
  std::thread thread;  // last: it uses all of the above

  Peer(ledger::PolicyWitness w, ConsistencyProof p, std::chrono::milliseconds t)
      : witness(std::move(w)), proof(std::move(p)), timeout(t), thread([this] { run(); }) {}
  ~Peer() {
    {
      const std::lock_guard lock{mutex};
      stop = true;
    }
    wake.notify_all();
    if (thread.joinable()) thread.join();
  }

  void ask(std::shared_ptr<Round> round) {
    std::shared_ptr<Round> skipped;
    {
      const std::lock_guard lock{mutex};
      skipped = std::exchange(next, std::move(round));
    }
    if (skipped) finish(*skipped, std::nullopt, std::nullopt);
    wake.notify_all();
  }

  static void finish(Round& round, std::optional<SignatureLine> line, std::optional<Error> fatal,
                     std::optional<KeyId> key = {}) {
    {
      const std::lock_guard lock{round.mutex};
      ++round.finished;
      if (line) {
        round.lines.push_back(std::move(*line));
        round.cosigned.push_back(*key);
      }
      if (fatal && !round.fatal) round.fatal = std::move(fatal);
    }
    round.changed.notify_all();
  }

  void run() {
    for (;;) {
      std::shared_ptr<Round> round;
      {
        std::unique_lock lock{mutex};
        wake.wait(lock, [this] { return stop || next; });
        if (stop) return;
        round = std::exchange(next, nullptr);
      }
      auto line = cosign(*round);
      if (line.has_value()) {
        finish(*round, std::move(*line), std::nullopt, witness.key.key().id());
      } else if (line.error().reason == Reason::kLogRollback || line.error().reason == Reason::kLogFork) {
        finish(*round, std::nullopt, std::move(line).error());
      } else {
        client.reset();
        finish(*round, std::nullopt, std::nullopt);
      }
    }
  }

  Result<SignatureLine> cosign(const Round& round) {
    // At most three tries: a stale connection, and one answer that tells the witness's own size.
    for (int attempt = 0; attempt < 3; ++attempt) {
      if (!client || !client->is_open()) {
        net::HttpClientOptions options;
        options.connect_timeout = timeout;
        options.request_timeout = timeout;
        options.max_body_bytes = 64 * 1024;
        SP_TRY(client, net::HttpClient::connect(witness.url, options));
      }
      ledger::AddCheckpointRequest request;
      request.old_size = known;
      if (known.get() != 0) {
        SP_TRY(request.proof, proof(known, round.size));
      }
      request.checkpoint = round.note;
      const std::string body = ledger::encode_add_checkpoint(request);
      auto response = client->post("/add-checkpoint", "text/plain", as_bytes(body));
      if (!response.has_value()) {
        client.reset();
        if (attempt == 0) continue;  // a kept connection may have been closed by the witness
        return std::move(response).error();
      }
      if (response->status == 200) {
        SP_TRY(auto cosignature,
               ledger::verify_cosigned_body(as_text(response->body), witness.key, round.text));
        known = round.size;
        return std::move(cosignature.line);
      }
      if (response->status == 409 && response->content_type == ledger::kTlogSizeContentType) {
        SP_TRY(const TreeSize size, ledger::parse_size_body(as_text(response->body)));
        if (size > round.size)
          return Error{Code::kUnverified, Reason::kLogRollback,
                       witness.name + " has cosigned size " + std::to_string(size.get()) + ", ours is " +
                           std::to_string(round.size.get())};
        known = size;
        continue;
      }
      if (response->status == 422)
        return Error{Code::kUnverified, Reason::kLogFork,
                     witness.name + " knows another history of this log"};
      return Error{Code::kUnavailable, Reason::kLogQuorum,
                   witness.name + " answered " + std::to_string(response->status)};
    }
    return Error{Code::kUnavailable, Reason::kLogQuorum, witness.name + " keeps answering 409"};
  }
};

WitnessRounds::WitnessRounds(ConsistencyProof proof, std::chrono::milliseconds timeout)
    : proof_(std::move(proof)), timeout_(timeout) {}
WitnessRounds::~WitnessRounds() = default;

std::size_t WitnessRounds::answering() const {
  const std::lock_guard lock{mutex_};
  return answering_;
}

Result<std::string> WitnessRounds::cosign(const std::string& signed_note,
                                          const ledger::WitnessPolicy& policy) {
  SP_TRY(const ledger::ClaimedNote parsed, ledger::parse_note(signed_note));
  SP_TRY(const ledger::Checkpoint checkpoint, ledger::parse_checkpoint_text(parsed.text));
  auto round = std::make_shared<Round>();
  round->note = signed_note;
  round->text = parsed.text;
  round->size = checkpoint.size;

  std::size_t asked = 0;
  {
    const std::lock_guard lock{mutex_};
    for (const ledger::PolicyWitness& witness : policy.witnesses()) {
      if (witness.url.empty()) continue;
      auto& peer = peers_[ledger::format_vkey(witness.key) + " " + witness.url];
      if (!peer) peer = std::make_shared<Peer>(witness, proof_, timeout_);
      peer->ask(round);
      ++asked;
    }
  }

  std::unique_lock lock{round->mutex};
  const auto deadline = std::chrono::steady_clock::now() + timeout_;
  round->changed.wait_until(lock, deadline, [&] {
    return round->finished == asked || round->fatal || policy.quorum_met(round->cosigned);
  });
  {
    const std::lock_guard count{mutex_};
    answering_ = round->cosigned.size();
  }
  if (round->fatal) return *round->fatal;
  if (!policy.quorum_met(round->cosigned))
    return Error{
        Code::kUnavailable, Reason::kLogQuorum,
        std::to_string(round->cosigned.size()) + " of " + std::to_string(policy.k()) + " witnesses cosigned",
        Next::kRetryLater, 0};
  return ledger::add_signature_lines(signed_note, round->lines);
}

}  // namespace sallyport::ledger_service

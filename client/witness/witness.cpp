#include "client/witness/witness.h"

#include <algorithm>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/cosignature.h"

namespace sallyport::witness {
namespace {

using ledger::LogKey;
using ledger::NoteKeyType;
using ledger::UnixSeconds;
using ledger::WitnessAnswer;

// A clock that was set back by less than this is waited out with the time that was signed last.
constexpr std::uint64_t kClockStepSeconds = 2;

WitnessAnswer unavailable() {
  return {503, "text/plain; charset=utf-8", "unavailable\n"};
}

}  // namespace

Witness::Witness(Options options, std::unique_ptr<Store> store)
    : options_(std::move(options)), store_(std::move(store)) {
  for (const LogKey& log : options_.logs)
    if (std::find(origins_.begin(), origins_.end(), log.origin) == origins_.end())
      origins_.push_back(log.origin);
}

Result<std::unique_ptr<Witness>> Witness::make(Options options, std::unique_ptr<Store> store) {
  SP_ASSERT(store && options.sign && options.clock && options.stop);
  SP_ASSERT(options.vkey.type() == NoteKeyType::kCosignature);
  if (options.logs.empty()) return Error{Code::kMalformed, "no log to witness"};
  for (auto log = options.logs.begin(); log != options.logs.end(); ++log) {
    if (log->key.type() == NoteKeyType::kCosignature)
      return Error{Code::kMalformed, "a witness's key among the logs: " + log->key.name()};
    if (log->key.key() == options.vkey.key()) return Error{Code::kMalformed, "our own key among the logs"};
    if (std::find(options.logs.begin(), log, *log) != log)
      return Error{Code::kMalformed, "the same log key twice: " + log->key.name()};
  }
  return std::unique_ptr<Witness>{new Witness{std::move(options), std::move(store)}};
}

WitnessAnswer Witness::add_checkpoint(std::string_view body) {
  const auto request = ledger::parse_add_checkpoint(body);
  if (!request) return ledger::malformed_answer();
  const auto origin = ledger::claimed_origin(*request);
  if (!origin) return ledger::malformed_answer();

  // What does not depend on the state is refused before anyone waits for the memory: strangers cannot hold
  // it.
  const auto early = ledger::decide_add_checkpoint({request->old_size, {}}, *request, options_.logs).answer;
  if (early.status == 400 || early.status == 403 || early.status == 404) return early;

  WitnessAnswer answer = unavailable();
  const std::lock_guard lock{mutex_};
  const Status stored = store_->update(
      *origin, [&](const std::optional<StoredTree>& tree) { return decide(tree, *request, answer); });
  if (!stored) {
    tell(stored.error());
    if (store_->commit_failed()) options_.stop(stored.error());
    return unavailable();
  }
  if (answer.status == 200 && options_.after_commit) options_.after_commit();
  return answer;
}

Result<std::optional<StoredTree>> Witness::decide(const std::optional<StoredTree>& stored,
                                                  const ledger::AddCheckpointRequest& request,
                                                  WitnessAnswer& answer) {
  const auto decision =
      ledger::decide_add_checkpoint(stored ? stored->state : ledger::WitnessState{}, request, options_.logs);
  answer = decision.answer;
  if (!decision.accepted) return std::optional<StoredTree>{};

  UnixSeconds time = options_.clock();
  if (stored && time < stored->time) {
    if (stored->time.get() - time.get() > kClockStepSeconds)
      return Error{Code::kUnavailable, Reason::kStale, "our clock is behind our last cosignature",
                   Next::kCallOperator, 0};
    time = stored->time;
  }
  // The signature is made before the commit and shown after it: until then it is a number that nobody has
  // seen.
  SP_TRY(const auto claimed, ledger::parse_note(request.checkpoint));
  SP_TRY(const auto line, cosign(time, claimed.text));

  // Stored and served: the signatures that we have checked, and ours. Lines of strangers are not passed on.
  const auto& checkpoint = decision.accepted->checkpoint();
  ledger::ClaimedNote note{claimed.text, {}};
  SP_TRY(const auto verified,
         ledger::verify_note(claimed, ledger::keys_of(checkpoint.origin, options_.logs)));
  for (const auto& one : verified) note.signatures.push_back(claimed.signatures[one.line]);
  note.signatures.push_back(line);

  answer = ledger::cosigned_answer(std::span{&line, 1});
  if (options_.before_commit) options_.before_commit();
  return std::optional<StoredTree>{
      StoredTree{{checkpoint.size, checkpoint.root}, time, ledger::encode_note(note)}};
}

Result<ledger::SignatureLine> Witness::cosign(UnixSeconds time, std::string_view text) const {
  SP_TRY(const auto signature, options_.sign(as_bytes(ledger::cosignature_message(time, text))));
  auto line = ledger::make_cosignature_line(options_.vkey, time, signature);
  SP_TRY(const UnixSeconds signed_time, ledger::verify_cosignature(line, options_.vkey, text));
  SP_ASSERT(signed_time == time);
  return line;
}

Result<std::optional<StoredTree>> Witness::find(const Origin& origin) {
  const std::lock_guard lock{mutex_};
  auto tree = store_->find(origin);
  if (!tree) tell(tree.error());
  return tree;
}

Result<std::optional<std::string>> Witness::find_checkpoint(const Digest256& origin_hash) {
  for (const Origin& origin : origins_) {
    if (crypto::sha256(as_bytes(origin.get())) != origin_hash) continue;
    SP_TRY(const std::optional<StoredTree> tree, find(origin));
    if (!tree) return std::optional<std::string>{};
    return std::optional<std::string>{tree->note};
  }
  return std::optional<std::string>{};
}

Result<std::vector<Witness::Cosigned>> Witness::list_cosigned() {
  std::vector<Cosigned> all;
  for (const Origin& origin : origins_) {
    SP_TRY(const std::optional<StoredTree> tree, find(origin));
    if (!tree) continue;
    const auto now = static_cast<std::int64_t>(options_.clock().get());
    all.push_back(
        {origin, tree->state.size, std::chrono::seconds{now - static_cast<std::int64_t>(tree->time.get())}});
  }
  return all;
}

Status Witness::check_memory() {
  SP_TRY(const auto tree, find(origins_.front()));
  const std::lock_guard lock{mutex_};
  if (store_->commit_failed()) return Error{Code::kUnavailable, Reason::kStorage, "a commit failed"};
  return Done{};
}

void Witness::tell(const Error& error) const {
  if (options_.failed) options_.failed(error);
}

}  // namespace sallyport::witness

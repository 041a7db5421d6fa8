#include "client/witness/witness.h"

#include <algorithm>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/cosignature.h"

namespace sallyport::witness {
namespace {

using ledger::NoteKey;
using ledger::NoteKeyType;
using ledger::UnixSeconds;
using ledger::WitnessAnswer;

// A clock that was set back by less than this is waited out with the time that was signed last.
constexpr std::uint64_t kClockStepSeconds = 2;

WitnessAnswer unavailable() {
  return {503, "text/plain; charset=utf-8", "unavailable\n"};
}

}  // namespace

Witness::Witness(Options options, NoteKey vkey, std::unique_ptr<Store> store)
    : options_(std::move(options)), vkey_(std::move(vkey)), store_(std::move(store)) {}

Result<std::unique_ptr<Witness>> Witness::make(Options options, std::unique_ptr<Store> store) {
  SP_ASSERT(store && options.clock && options.stop);
  SP_TRY(NoteKey vkey, NoteKey::make(options.name, NoteKeyType::kCosignature, options.key.public_key()));
  if (options.logs.empty()) return Error{Code::kMalformed, "no log to witness"};
  for (auto log = options.logs.begin(); log != options.logs.end(); ++log) {
    if (log->type() == NoteKeyType::kCosignature)
      return Error{Code::kMalformed, "a witness's key among the logs: " + log->name()};
    if (log->key() == vkey.key()) return Error{Code::kMalformed, "our own key among the logs"};
    if (std::find(options.logs.begin(), log, *log) != log)
      return Error{Code::kMalformed, "the same log key twice: " + log->name()};
  }
  return std::unique_ptr<Witness>{new Witness{std::move(options), std::move(vkey), std::move(store)}};
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
  SP_TRY(const auto line, ledger::cosign_line(options_.key, options_.name, time, claimed.text));
  SP_TRY(const UnixSeconds signed_time, ledger::verify_cosignature(line, vkey_, claimed.text));
  SP_ASSERT(signed_time == time);

  // Stored and served: the signatures that we have checked, and ours. Lines of strangers are not passed on.
  ledger::ClaimedNote note{claimed.text, {}};
  SP_TRY(const auto verified, ledger::verify_note(claimed, log_keys(decision.accepted->checkpoint().origin)));
  for (const auto& one : verified) note.signatures.push_back(claimed.signatures[one.line]);
  note.signatures.push_back(line);

  answer = ledger::cosigned_answer(std::span{&line, 1});
  if (options_.before_commit) options_.before_commit();
  const auto& checkpoint = decision.accepted->checkpoint();
  return std::optional<StoredTree>{
      StoredTree{{checkpoint.size, checkpoint.root}, time, ledger::encode_note(note)}};
}

std::vector<NoteKey> Witness::log_keys(const Origin& origin) const {
  std::vector<NoteKey> keys;
  std::copy_if(options_.logs.begin(), options_.logs.end(), std::back_inserter(keys),
               [&](const NoteKey& log) { return log.name() == origin.get(); });
  return keys;
}

Result<std::optional<std::string>> Witness::find_checkpoint(const Digest256& origin_hash) {
  for (const NoteKey& log : options_.logs) {
    if (crypto::sha256(as_bytes(log.name())) != origin_hash) continue;
    const std::lock_guard lock{mutex_};
    SP_TRY(const std::optional<StoredTree> tree, store_->find(Origin{log.name()}));
    if (!tree) return std::optional<std::string>{};
    return std::optional<std::string>{tree->note};
  }
  return std::optional<std::string>{};
}

Status Witness::check_memory() {
  const std::lock_guard lock{mutex_};
  SP_TRY(const auto tree, store_->find(Origin{options_.logs.front().name()}));
  if (store_->commit_failed()) return Error{Code::kUnavailable, Reason::kStorage, "a commit failed"};
  return Done{};
}

}  // namespace sallyport::witness

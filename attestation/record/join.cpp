#include "attestation/record/fold.h"

namespace sallyport::record {
namespace {

Error not_of_each_other(const char* what) {
  return Error{Code::kUnverified, Reason::kLogSnapshot, what};
}

void write_bare(const Entry& entry, Writer& out) {
  out.raw(ledger::encode_leaf(entry.leaf)).raw(view(entry.nonce)).prefixed32(entry.body);
}

Result<ledger::Leaf> read_leaf(Reader& in) {
  SP_TRY(const ByteView bytes, in.raw(ledger::kLeafSize));
  SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(bytes));
  SP_CHECK(parse_kind(leaf.kind));
  return leaf;
}

Result<Entry> read_bare(Reader& in, Kind kind) {
  Entry entry;
  SP_TRY(entry.leaf, read_leaf(in));
  if (entry.leaf.kind != static_cast<std::uint8_t>(kind))
    return Error{Code::kMalformed, "a leaf of another kind"};
  SP_TRY(const auto nonce, in.array<32>());
  entry.nonce = Nonce{nonce};
  SP_TRY(const ByteView body, in.prefixed32(kMaxBodyBytes));
  entry.body = to_bytes(body);
  return entry;
}

// check_leaves rolls the tree from where `leaves` begin to the snapshot: one other leaf, and it is not the
// state's.
Status check_leaves(const Joining& joining, const ControlState& state) {
  if (joining.before.size().get() + joining.leaves.size() != state.size().get())
    return not_of_each_other("the leaves do not end at the snapshot");
  ledger::CompactRange range = joining.before;
  for (const ledger::Leaf& leaf : joining.leaves) range.append(ledger::leaf_hash(leaf));
  if (!(range == state.range())) return not_of_each_other("the leaves are not those of the state's tree");
  return Done{};
}

}  // namespace

Bytes encode_joining(const Joining& joining) {
  Writer out;
  out.u32(static_cast<std::uint32_t>(joining.policies.size()));
  for (const Entry& entry : joining.policies) write_bare(entry, out);
  out.prefixed32(joining.before.encode()).u32(static_cast<std::uint32_t>(joining.leaves.size()));
  for (const ledger::Leaf& leaf : joining.leaves) out.raw(ledger::encode_leaf(leaf));
  write_bare(joining.snapshot, out);
  out.prefixed32(joining.state);
  return std::move(out).take();
}

Result<Joining> parse_joining(ByteView bytes) {
  if (bytes.size() > kMaxJoiningBytes) return Error{Code::kMalformed, "a snapshot longer than its cap"};
  Reader in{bytes};
  Joining out;
  SP_TRY(const std::uint32_t policies, in.u32());
  for (std::uint32_t i = 0; i < policies; ++i) {
    SP_TRY(Entry entry, read_bare(in, Kind::kPolicy));
    out.policies.push_back(std::move(entry));
  }
  SP_TRY(const ByteView range, in.prefixed32(8 + 63 * 32));
  SP_TRY(out.before, ledger::CompactRange::parse(range));
  SP_TRY(const std::uint32_t leaves, in.u32());
  if (leaves > kMaxJoiningLeaves) return Error{Code::kMalformed, "too many leaves"};
  for (std::uint32_t i = 0; i < leaves; ++i) {
    SP_TRY(const ledger::Leaf leaf, read_leaf(in));
    out.leaves.push_back(leaf);
  }
  SP_TRY(out.snapshot, read_bare(in, Kind::kSnapshot));
  SP_TRY(const ByteView state, in.prefixed32(kMaxControlBytes));
  SP_CHECK(in.finish());
  out.state = to_bytes(state);
  return out;
}

Result<ControlState> Fold::join(const Origin& origin, const Digest256& genesis_policy,
                                const Joining& joining) {
  SP_TRY(ControlState state, parse_control(joining.state));
  if (state.origin_ != origin || state.genesis_policy_ != genesis_policy)
    return Error{Code::kUnverified, Reason::kTrustAnchor,
                 "the snapshot is of another log than the one that is trusted"};
  SP_CHECK(check_leaves(joining, state));

  // The chain of policies from the one that is pinned, by the code that folds it. Of the texts there is one
  // copy, the state's; each is its leaf's, or the body has another digest.
  if (joining.policies.size() != state.policies_->size())
    return not_of_each_other("the chain of policies is not that of the state");
  ControlState chain = ControlState::begin(origin, genesis_policy);
  for (std::size_t i = 0; i < joining.policies.size(); ++i) {
    const auto& of_state = (*state.policies_)[i];
    Entry entry = joining.policies[i];
    const std::uint64_t index = of_state->first_index.get();
    if (index >= joining.before.size().get() &&
        joining.leaves[index - joining.before.size().get()] != entry.leaf)
      return not_of_each_other("a policy is not where the state says");
    if (entry.leaf.time < chain.last_time_ || entry.leaf.time > state.last_time_)
      return not_of_each_other("the chain of policies is not in the order of the log");
    entry.blobs = sorted_blobs(blobs_of(of_state->document()));
    SP_TRY(const OpenedEntry opened, open_entry(std::move(entry)));
    if (i == 0 && of_state->policy.authority.continues) {
      // The one that is pinned needs nobody's signature: who followed the log before has judged them (go_on).
      SP_TRY(const PolicyInForce first, parse_policy_in_force(opened.statement().envelope.payload));
      SP_CHECK(check_header(origin, first.authority, first.case_id, opened.statement().body));
      if (first.digest != genesis_policy)
        return not_of_each_other("the first policy is not the one of the log");
    } else {
      SP_TRY(const ControlEffect effect, verify_policy_leaf(chain, opened.statement()));
      if (effect.policy->policy.digest != of_state->policy.digest)
        return not_of_each_other("the chain of policies is not that of the state");
    }
    auto policies = *chain.policies_;
    policies.push_back(of_state);
    chain.policies_ = std::make_shared<const decltype(policies)>(std::move(policies));
    chain.last_time_ = opened.entry().leaf.time;
  }

  SP_TRY(PreparedControl prepared, prepare_control(state, joining.snapshot.leaf, &joining.snapshot));
  commit(state, std::move(prepared));
  return state;
}

Result<ControlState> join_control(const Origin& origin, const Digest256& genesis_policy,
                                  const Joining& joining) {
  return Fold::join(origin, genesis_policy, joining);
}

}  // namespace sallyport::record

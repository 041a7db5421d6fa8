#include "attestation/ledger/witness_policy.h"

#include <algorithm>
#include <map>
#include <optional>

#include "attestation/ledger/lines.h"

namespace sallyport::ledger {
namespace {

constexpr std::string_view kNone = "none";

Error invalid(std::string what) {
  return Error{Code::kMalformed, Reason::kPolicyInvalid, std::move(what)};
}

Status check_octets(std::string_view text) {
  for (const char c : text) {
    const auto octet = static_cast<std::uint8_t>(c);
    if (octet != '\t' && octet != '\n' && (octet < 0x20 || octet == 0x7F))
      return invalid("a witness policy with a control character");
  }
  return Done{};
}

std::vector<std::string_view> words_of(std::string_view line) {
  constexpr std::string_view kSpace = " \t";
  std::vector<std::string_view> words;
  for (std::size_t at = line.find_first_not_of(kSpace); at != std::string_view::npos;) {
    const std::size_t end = std::min(line.find_first_of(kSpace, at), line.size());
    words.push_back(line.substr(at, end - at));
    at = line.find_first_not_of(kSpace, end);
  }
  return words;
}

// Node of the quorum while it is being read.
struct Draft {
  std::size_t k = 1, n = 1;  // as WitnessPolicy::k and n, of this node
  bool used = false;         // as a member of a group
};

// WitnessPolicyReader reads the lines of one policy.
class WitnessPolicyReader {
 public:
  explicit WitnessPolicyReader(std::vector<PolicyLog>& logs, std::vector<PolicyWitness>& witnesses)
      : logs_(logs), witnesses_(witnesses) {}

  struct Member {
    std::size_t threshold = 0, witness = 0;
    std::vector<std::size_t> members;
  };

  Status line(const std::vector<std::string_view>& words) {
    if (words[0] == "log") return log(words);
    if (words[0] == "witness") return witness(words);
    if (words[0] == "group") return group(words);
    if (words[0] == "quorum") return quorum(words);
    return invalid("neither log, witness, group nor quorum");
  }

  std::vector<Member> nodes;
  std::vector<Draft> drafts;
  std::optional<std::size_t> quorum_node;

 private:
  Status log(const std::vector<std::string_view>& words) {
    if (words.size() < 2 || words.size() > 3) return invalid("log <vkey> [<url>]");
    if (logs_.size() == kMaxPolicyLogs) return invalid("too many logs");
    SP_TRY(NoteKey key, vkey(words[1]));
    if (key.type() == NoteKeyType::kCosignature) return invalid("a witness's key as a log's");
    logs_.push_back({std::move(key), words.size() == 3 ? std::string{words[2]} : std::string{}});
    return Done{};
  }

  Status witness(const std::vector<std::string_view>& words) {
    if (words.size() < 3 || words.size() > 4) return invalid("witness <name> <vkey> [<url>]");
    if (witnesses_.size() == kMaxPolicyWitnesses) return invalid("too many witnesses");
    SP_TRY(NoteKey key, vkey(words[2]));
    if (key.type() != NoteKeyType::kCosignature) return invalid("a key as a witness's that signs no time");
    SP_CHECK(define(words[1]));
    nodes.push_back({0, witnesses_.size(), {}});
    drafts.push_back({});
    witnesses_.push_back(
        {std::string{words[1]}, std::move(key), words.size() == 4 ? std::string{words[3]} : std::string{}});
    return Done{};
  }

  Status group(const std::vector<std::string_view>& words) {
    if (words.size() < 4) return invalid("group <name> all|any|<k> <member>...");
    if (++groups_ > kMaxPolicyGroups) return invalid("too many groups");
    Member node;
    std::vector<std::size_t> fewest;
    Draft draft{0, 0, false};
    for (std::size_t i = 3; i < words.size(); ++i) {
      SP_TRY(const std::size_t member, find(words[i]));
      if (drafts[member].used) return invalid("a name that is a member twice");
      drafts[member].used = true;
      node.members.push_back(member);
      fewest.push_back(drafts[member].k);
      draft.n += drafts[member].n;
    }
    if (words[2] == "all") {
      node.threshold = node.members.size();
    } else if (words[2] == "any") {
      node.threshold = 1;
    } else {
      const auto threshold = parse_decimal(words[2], node.members.size());
      if (!threshold || *threshold == 0) return invalid("a threshold outside of 1 to the number of members");
      node.threshold = static_cast<std::size_t>(*threshold);
    }
    std::sort(fewest.begin(), fewest.end());
    for (std::size_t i = 0; i < node.threshold; ++i) draft.k += fewest[i];
    SP_CHECK(define(words[1]));
    nodes.push_back(std::move(node));
    drafts.push_back(draft);
    return Done{};
  }

  Status quorum(const std::vector<std::string_view>& words) {
    if (words.size() != 2) return invalid("quorum <name>");
    if (quorum_node) return invalid("a second quorum");
    if (words[1] == kNone) return invalid("a quorum of nobody");
    SP_TRY(quorum_node, find(words[1]));
    return Done{};
  }

  Result<NoteKey> vkey(std::string_view text) const {
    auto parsed = parse_vkey(text);
    if (!parsed) return invalid(parsed.error().what);
    const NoteKey& key = *parsed;
    const auto clashes = [&](const NoteKey& other) {
      return other.key() == key.key() || (other.id() == key.id() && other.name() == key.name());
    };
    for (const PolicyLog& other : logs_)
      if (clashes(other.key)) return invalid("a key that occurs twice");
    for (const PolicyWitness& other : witnesses_)
      if (clashes(other.key)) return invalid("a key that occurs twice");
    return key;
  }

  Status define(std::string_view name) {
    if (name == kNone) return invalid("a name that means nobody");
    if (!names_.emplace(std::string{name}, nodes.size()).second)
      return invalid("a name that is defined twice");
    return Done{};
  }

  Result<std::size_t> find(std::string_view name) const {
    const auto found = names_.find(std::string{name});
    if (found == names_.end()) return invalid("a name that is not defined before");
    return found->second;
  }

  std::vector<PolicyLog>& logs_;
  std::vector<PolicyWitness>& witnesses_;
  std::map<std::string, std::size_t> names_;
  std::size_t groups_ = 0;
};

}  // namespace

Result<WitnessPolicy> parse_witness_policy(std::string_view text) {
  if (text.size() > kMaxWitnessPolicyBytes) return invalid("a witness policy that is too long");
  SP_CHECK(check_octets(text));
  WitnessPolicy policy;
  WitnessPolicyReader reader{policy.logs_, policy.witnesses_};
  std::size_t number = 0;
  for (LineReader in{text}; !in.at_end();) {
    const std::string at = "line " + std::to_string(++number) + " of the witness policy: ";
    const auto line = in.line();
    if (!line) return invalid(at + line.error().what);
    const auto words = words_of(*line);
    if (words.empty() || words[0].starts_with('#')) continue;
    if (const Status read = reader.line(words); !read) return invalid(at + read.error().what);
  }
  if (policy.logs_.empty()) return invalid("a witness policy without a log");
  if (!reader.quorum_node) return invalid("a witness policy without a quorum");

  for (auto& node : reader.nodes)
    policy.nodes_.push_back({node.threshold, node.witness, std::move(node.members)});
  policy.quorum_ = *reader.quorum_node;
  policy.k_ = reader.drafts[policy.quorum_].k;
  policy.n_ = reader.drafts[policy.quorum_].n;
  policy.in_quorum_.assign(policy.witnesses_.size(), false);
  std::vector<std::size_t> open{policy.quorum_};
  while (!open.empty()) {
    const WitnessPolicy::Node& node = policy.nodes_[open.back()];
    open.pop_back();
    if (node.members.empty()) policy.in_quorum_[node.witness] = true;
    open.insert(open.end(), node.members.begin(), node.members.end());
  }
  return policy;
}

bool WitnessPolicy::quorum_met(std::span<const KeyId> cosigned) const {
  if (nodes_.empty()) return false;
  std::vector<bool> met(quorum_ + 1, false);
  for (std::size_t i = 0; i <= quorum_; ++i) {  // members come before their group
    const Node& node = nodes_[i];
    if (node.members.empty()) {
      const KeyId& key = witnesses_[node.witness].key.key().id();
      met[i] = std::find(cosigned.begin(), cosigned.end(), key) != cosigned.end();
    } else {
      const auto count =
          std::count_if(node.members.begin(), node.members.end(), [&](auto m) { return met[m]; });
      met[i] = static_cast<std::size_t>(count) >= node.threshold;
    }
  }
  return met[quorum_];
}

Status require_overlap(const WitnessPolicy& policy) {
  if (policy.k() == 0 || 2 * policy.k() <= policy.n())
    return Error{Code::kDenied, Reason::kPolicyInvalid,
                 "a quorum of " + std::to_string(policy.k()) + " of " + std::to_string(policy.n()) +
                     " witnesses: two quorums need not have one in common"};
  return Done{};
}

Result<VerifiedCheckpoint> check_quorum(std::string_view note, const WitnessPolicy& policy,
                                        const crypto::VerifiedSignatures* known) {
  SP_TRY(const ClaimedNote claimed, parse_note(note));
  SP_TRY(Checkpoint checkpoint, parse_checkpoint_text(claimed.text));

  std::vector<NoteKey> keys;
  for (const PolicyLog& log : policy.logs())
    if (log.key.name() == checkpoint.origin.get()) keys.push_back(log.key);
  const std::size_t logs = keys.size();
  if (logs == 0) return Error{Code::kUnverified, Reason::kLogCheckpoint, "a checkpoint of another log"};
  for (const PolicyWitness& witness : policy.witnesses()) keys.push_back(witness.key);
  SP_TRY(const std::vector<VerifiedLine> lines, verify_note(claimed, keys, known));

  bool signed_by_log = false;
  std::vector<VerifiedCheckpoint::Cosignature> cosignatures;
  std::vector<KeyId> cosigned;
  for (const VerifiedLine& line : lines) {
    if (line.key < logs) {
      signed_by_log = true;
    } else if (policy.in_quorum(line.key - logs)) {
      cosignatures.push_back({line.time, keys[line.key].key().id()});
      cosigned.push_back(keys[line.key].key().id());
    }
  }
  if (!signed_by_log)
    return Error{Code::kUnverified, Reason::kLogCheckpoint, "a checkpoint that its log has not signed"};
  if (checkpoint.size.get() == 0 && checkpoint.root != empty_root())
    return Error{Code::kUnverified, Reason::kLogCheckpoint, "an empty tree with another root"};
  if (!policy.quorum_met(cosigned))
    return Error{Code::kUnverified, Reason::kLogQuorum,
                 std::to_string(cosigned.size()) + " witnesses have cosigned; the quorum is " +
                     std::to_string(policy.k()) + " of " + std::to_string(policy.n())};
  std::sort(cosignatures.begin(), cosignatures.end());
  return VerifiedCheckpoint{std::move(checkpoint), note_digest(claimed.text), std::move(cosignatures)};
}

Status require_fresh(const VerifiedCheckpoint& checkpoint, const WitnessPolicy& policy, UnixMillis now,
                     std::chrono::milliseconds max_age, std::chrono::milliseconds max_skew) {
  SP_ASSERT(max_age.count() >= 0 && max_skew.count() >= 0);
  std::vector<KeyId> fresh;
  for (const auto& cosignature : checkpoint.cosignatures()) {
    const std::uint64_t time = cosignature.time.get() * 1000;  // at most kMaxUnixSeconds
    const bool in_window = time > now.get() ? time - now.get() <= static_cast<std::uint64_t>(max_skew.count())
                                            : now.get() - time <= static_cast<std::uint64_t>(max_age.count());
    if (in_window) fresh.push_back(cosignature.witness);
  }
  if (!policy.quorum_met(fresh))
    return Error{Code::kStale, "only " + std::to_string(fresh.size()) + " of " +
                                   std::to_string(checkpoint.cosignatures().size()) +
                                   " cosignatures are recent enough"};
  return Done{};
}

}  // namespace sallyport::ledger

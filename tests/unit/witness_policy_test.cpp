#include "attestation/ledger/witness_policy.h"

#include <gtest/gtest.h>

#include "attestation/base/base64.h"
#include "attestation/ledger/proof.h"
#include "tests/support/matchers.h"
#include "tests/support/test_log.h"

namespace sallyport::ledger {
namespace {

using namespace std::chrono_literals;
using test::FailsWith;
using test::Succeeds;
using test::TestLog;
using test::value_of;

constexpr std::uint64_t kTime = 1'700'000'000;

// The lines that define w0 … w<n−1> and a log.
std::string definitions(const TestLog& log, std::size_t witnesses) {
  std::string text = "log " + format_vkey(log.log_vkey()) + "\n";
  for (std::size_t i = 0; i < witnesses; ++i)
    text += "witness w" + std::to_string(i) + " " + format_vkey(log.witness_vkey(i)) + "\n";
  return text;
}

std::vector<KeyId> keys_of(const TestLog& log, const std::vector<std::size_t>& witnesses) {
  std::vector<KeyId> keys;
  for (const std::size_t i : witnesses) keys.push_back(log.witness_key(i).public_key().id());
  return keys;
}

TEST(WitnessPolicy, ReadsLogsWitnessesAndQuorum) {
  const TestLog log;
  const WitnessPolicy policy = value_of(parse_witness_policy(
      "# the log\n\n \tlog " + format_vkey(log.log_vkey()) + "\thttps://log.example/ \n" + "witness one " +
      format_vkey(log.witness_vkey(0)) + "\nwitness two " + format_vkey(log.witness_vkey(1)) +
      " https://two.example/\nwitness spare " + format_vkey(log.witness_vkey(2)) +
      "\n  # \xC3\xA9\ngroup both all one two\nquorum both\n"));
  ASSERT_EQ(policy.logs().size(), 1u);
  EXPECT_EQ(policy.logs()[0].url, "https://log.example/");
  EXPECT_EQ(policy.logs()[0].key, log.log_vkey());
  ASSERT_EQ(policy.witnesses().size(), 3u);
  EXPECT_EQ(policy.witnesses()[0].url, "");
  EXPECT_EQ(policy.witnesses()[1].name, "two");
  EXPECT_EQ(policy.witnesses()[1].url, "https://two.example/");
  EXPECT_TRUE(policy.in_quorum(0) && policy.in_quorum(1));
  EXPECT_FALSE(policy.in_quorum(2));
  EXPECT_EQ(policy.k(), 2u);
  EXPECT_EQ(policy.n(), 2u);
}

TEST(WitnessPolicy, QuorumOfGroupsOfGroups) {
  const TestLog log{6};
  // The example of the tlog-policy text: two of three of X, and any of three of Y.
  const WitnessPolicy policy =
      value_of(parse_witness_policy(definitions(log, 6) + "group x 2 w0 w1 w2\ngroup y any w3 w4 w5\n"
                                                          "group both all x y\nquorum both\n"));
  EXPECT_EQ(policy.k(), 3u);
  EXPECT_EQ(policy.n(), 6u);
  EXPECT_TRUE(policy.quorum_met(keys_of(log, {0, 2, 5})));
  EXPECT_TRUE(policy.quorum_met(keys_of(log, {0, 1, 2, 3, 4, 5})));
  EXPECT_FALSE(policy.quorum_met(keys_of(log, {0, 1, 2})));
  EXPECT_FALSE(policy.quorum_met(keys_of(log, {0, 3, 4, 5})));
  EXPECT_FALSE(policy.quorum_met(keys_of(log, {0, 0, 3})));
  EXPECT_FALSE(policy.quorum_met({}));
}

TEST(WitnessPolicy, QuorumCountsEachKeyOnceAndStrangersNever) {
  const TestLog log{4}, strangers{4};
  const WitnessPolicy policy = log.policy(3);
  EXPECT_TRUE(policy.quorum_met(keys_of(log, {3, 1, 0})));
  EXPECT_FALSE(policy.quorum_met(keys_of(log, {3, 1, 1, 3, 1})));
  EXPECT_FALSE(policy.quorum_met(keys_of(strangers, {0, 1, 2, 3})));
  EXPECT_FALSE(WitnessPolicy{}.quorum_met(keys_of(log, {0, 1, 2, 3})));
}

TEST(WitnessPolicy, RefusesWhatTheTextRefuses) {
  const TestLog log{4};
  const std::string some = definitions(log, 3);
  ASSERT_THAT(parse_witness_policy(some + "quorum w0\n"), Succeeds());
  for (const std::string& bad : std::vector<std::string>{
           std::string{},
           some,                             // no quorum
           some + "quorum w0",               // no newline
           some + "quorum w0\nquorum w1\n",  // two
           some + "quorum w0 w1\n",
           some + "quorum\n",
           some + "quorum w9\n",
           some + "Quorum w0\n",
           some + "quorums w0\n",
           some + "quorum none\n",                // stricter than the text
           some + "group g 2 w0 w1\n",            // no quorum
           some + "quorum g\ngroup g 2 w0 w1\n",  // used before it is defined
           some + "group g all g\nquorum g\n",
           some + "group g 0 w0 w1\nquorum g\n",
           some + "group g 3 w0 w1\nquorum g\n",
           some + "group g 01 w0 w1\nquorum g\n",
           some + "group g -1 w0 w1\nquorum g\n",
           some + "group g most w0 w1\nquorum g\n",
           some + "group g 1\nquorum g\n",
           some + "group g\nquorum w0\n",
           some + "group g 2 w0 w0\nquorum g\n",                  // one name in two seats of a group
           some + "group g 1 w0 w1\ngroup h 2 w0 g\nquorum h\n",  // and of two groups
           some + "group g 1 w0\ngroup g 1 w1\nquorum g\n",       // a name twice
           some + "group w0 1 w1\nquorum w0\n",
           some + "group none 1 w1\nquorum w1\n",
           some + "group g 1 none\nquorum g\n",
           some + "witness none " + format_vkey(log.witness_vkey(3)) + "\nquorum w0\n",
           some + "witness w0 " + format_vkey(log.witness_vkey(3)) + "\nquorum w0\n",
           some + "witness x\nquorum w0\n",
           some + "witness x nokey\nquorum w0\n",
           some + "log\nquorum w0\n",
           some + "witness x " + format_vkey(log.witness_vkey(3)) + " url more\nquorum w0\n",
           some + "quorum w0\r\n",
           some + "quorum\x01w0\n",
           some + "quorum w0\x7F\n",
           some + "quorum w0 # comment\n",
           some.substr(some.find('\n') + 1) + "quorum w0\n",  // no log
           std::string(kMaxWitnessPolicyBytes, '\n') + some + "quorum w0\n",
       }) {
    EXPECT_THAT(parse_witness_policy(bad), FailsWith(Reason::kPolicyInvalid)) << bad;
  }
}

TEST(WitnessPolicy, RefusesOneKeyInTwoSeatsUnderWhateverName) {
  const TestLog log{4};
  const std::string some = definitions(log, 2);
  const auto key = [&](const std::string& name, NoteKeyType type, const crypto::PublicKey& k) {
    return format_vkey(value_of(NoteKey::make(name, type, k)));
  };
  const auto& w0 = log.witness_key(0).public_key();
  EXPECT_THAT(parse_witness_policy(some + "witness x " + key("other.example", NoteKeyType::kCosignature, w0) +
                                   "\nquorum w0\n"),
              FailsWith(Reason::kPolicyInvalid));
  EXPECT_THAT(parse_witness_policy(some + "witness x " + format_vkey(log.witness_vkey(0)) + "\nquorum w0\n"),
              FailsWith(Reason::kPolicyInvalid));
  EXPECT_THAT(parse_witness_policy(some + "log " + format_vkey(log.log_vkey()) + "\nquorum w0\n"),
              FailsWith(Reason::kPolicyInvalid));
  // A log that is its own witness, and a witness that is also a log.
  EXPECT_THAT(
      parse_witness_policy(some + "witness x " +
                           key("x", NoteKeyType::kCosignature, log.log_key().public_key()) + "\nquorum w0\n"),
      FailsWith(Reason::kPolicyInvalid));
  EXPECT_THAT(parse_witness_policy(some + "log " + key("x", NoteKeyType::kEd25519, w0) + "\nquorum w0\n"),
              FailsWith(Reason::kPolicyInvalid));
}

TEST(WitnessPolicy, RefusesKeysOfTheWrongPurpose) {
  const TestLog log{4};
  const std::string some = definitions(log, 2);
  EXPECT_THAT(parse_witness_policy(some + "log " + format_vkey(log.witness_vkey(3)) + "\nquorum w0\n"),
              FailsWith(Reason::kPolicyInvalid));
  const auto plain = value_of(NoteKey::make("w", NoteKeyType::kEd25519, log.witness_key(3).public_key()));
  EXPECT_THAT(parse_witness_policy(some + "witness x " + format_vkey(plain) + "\nquorum w0\n"),
              FailsWith(Reason::kPolicyInvalid));
}

TEST(WitnessPolicy, TakesThirtyTwoOfEachAndHasCaps) {
  const TestLog log{kMaxPolicyWitnesses + 1};
  std::string text = definitions(log, 32), names;
  for (int i = 0; i < 32; ++i) text += "group g" + std::to_string(i) + " any w" + std::to_string(i) + "\n";
  for (int i = 0; i < 31; ++i) names += " g" + std::to_string(i);
  const WitnessPolicy policy =
      value_of(parse_witness_policy(text + "group last 16" + names + "\nquorum last\n"));
  EXPECT_EQ(policy.k(), 16u);
  EXPECT_EQ(policy.n(), 31u);
  EXPECT_THAT(parse_witness_policy(definitions(log, kMaxPolicyWitnesses) + "quorum w0\n"), Succeeds());
  EXPECT_THAT(parse_witness_policy(definitions(log, kMaxPolicyWitnesses + 1) + "quorum w0\n"),
              FailsWith(Reason::kPolicyInvalid));
}

TEST(WitnessPolicy, OverlapRefusesTwoKNotAboveN) {
  for (std::size_t n = 1; n <= 7; ++n) {
    const TestLog log{n};
    for (std::size_t k = 1; k <= n; ++k) {
      const WitnessPolicy policy = log.policy(k);
      EXPECT_EQ(policy.k(), k);
      EXPECT_EQ(policy.n(), n);
      if (2 * k > n) {
        EXPECT_THAT(require_overlap(policy), Succeeds());
      } else {
        EXPECT_THAT(require_overlap(policy), FailsWith(Reason::kPolicyInvalid));
      }
    }
  }
  EXPECT_THAT(require_overlap(WitnessPolicy{}), FailsWith(Reason::kPolicyInvalid));
}

TEST(WitnessPolicy, EnoughOverlapMeansNoTwoQuorumsAreDisjoint) {
  // For every policy of a family of nested ones: if require_overlap passes, each two quorums share a witness
  // (tried one by one).
  const TestLog log{6};
  std::size_t passed = 0;
  for (int x = 1; x <= 3; ++x)
    for (int y = 1; y <= 3; ++y)
      for (int top = 1; top <= 2; ++top) {
        const WitnessPolicy policy = value_of(parse_witness_policy(
            definitions(log, 6) + "group x " + std::to_string(x) + " w0 w1 w2\ngroup y " + std::to_string(y) +
            " w3 w4 w5\ngroup top " + std::to_string(top) + " x y\nquorum top\n"));
        bool disjoint = false;
        std::size_t fewest = 6;
        for (unsigned set = 0; set < 64; ++set) {
          std::vector<std::size_t> in, out;
          for (unsigned i = 0; i < 6; ++i) ((set >> i & 1) != 0 ? in : out).push_back(i);
          if (!policy.quorum_met(keys_of(log, in))) continue;
          fewest = std::min(fewest, in.size());
          disjoint = disjoint || policy.quorum_met(keys_of(log, out));
        }
        EXPECT_EQ(policy.k(), fewest);
        if (require_overlap(policy)) {
          ++passed;
          EXPECT_FALSE(disjoint);
        }
      }
  EXPECT_GT(passed, 0u);
}

class Quorum : public testing::Test {
 protected:
  Quorum() {
    for (int i = 0; i < 9; ++i) log_.tree.append(hash_leaf(as_bytes("entry " + std::to_string(i))));
  }
  std::string note(const std::vector<std::size_t>& witnesses) const {
    return log_.cosigned_note(log_.head(9), witnesses, kTime);
  }
  TestLog log_{5};
  // w4 is known but does not count.
  WitnessPolicy policy_ =
      value_of(parse_witness_policy(definitions(log_, 5) + "group g 3 w0 w1 w2 w3\nquorum g\n"));
};

TEST_F(Quorum, IsMetByKDistinctWitnesses) {
  const std::string text = checkpoint_text(log_.head(9));
  const std::string late = value_of(add_signature_lines(
      log_.signed_note(log_.head(9)),
      std::vector{log_.cosignature(2, kTime + 9, text), log_.cosignature(0, kTime - 5, text),
                  log_.cosignature(3, kTime, text)}));
  const VerifiedCheckpoint checkpoint = value_of(check_quorum(late, policy_));
  EXPECT_EQ(checkpoint.checkpoint(), log_.head(9));
  EXPECT_EQ(checkpoint.origin().get(), log_.origin());
  EXPECT_EQ(checkpoint.note_digest(), note_digest(text));
  ASSERT_EQ(checkpoint.cosignatures().size(), 3u);
  EXPECT_EQ(checkpoint.first_time(), UnixSeconds{kTime - 5});
  EXPECT_EQ(checkpoint.median_time(), UnixSeconds{kTime});
  EXPECT_EQ(checkpoint.cosignatures()[2].time, UnixSeconds{kTime + 9});
  EXPECT_EQ(checkpoint.cosignatures()[2].witness, log_.witness_key(2).public_key().id());
}

TEST_F(Quorum, IsNotMetByFewerNorByAWitnessWhoDoesNotCount) {
  EXPECT_THAT(check_quorum(note({0, 1, 2}), policy_), Succeeds());
  EXPECT_THAT(check_quorum(note({0, 1}), policy_), FailsWith(Reason::kLogQuorum));
  EXPECT_THAT(check_quorum(note({0, 1, 4}), policy_), FailsWith(Reason::kLogQuorum));
  EXPECT_THAT(check_quorum(note({}), policy_), FailsWith(Reason::kLogQuorum));
  EXPECT_EQ(value_of(check_quorum(note({0, 1, 2, 4}), policy_)).cosignatures().size(), 3u);
}

TEST_F(Quorum, IsNotMetByOneWitnessTwice) {
  ClaimedNote claimed = value_of(parse_note(note({0, 1})));
  claimed.signatures.push_back(log_.cosignature(1, kTime + 1, claimed.text));
  EXPECT_THAT(check_quorum(encode_note(claimed), policy_), FailsWith(Reason::kLogCheckpoint));
  // The same key under another name is not known, and so does not count.
  claimed.signatures.back() =
      value_of(cosign_line(log_.witness_key(1), "other.example", UnixSeconds{kTime}, claimed.text));
  EXPECT_THAT(check_quorum(encode_note(claimed), policy_), FailsWith(Reason::kLogQuorum));
}

TEST_F(Quorum, NeedsTheLogsOwnSignature) {
  ClaimedNote claimed = value_of(parse_note(note({0, 1, 2, 3})));
  claimed.signatures.erase(claimed.signatures.begin());
  EXPECT_THAT(check_quorum(encode_note(claimed), policy_), FailsWith(Reason::kLogCheckpoint));
}

TEST_F(Quorum, RefusesTheWholeNoteWhenOneKnownLineFails) {
  ClaimedNote claimed = value_of(parse_note(note({0, 1, 2, 3})));
  for (std::size_t i = 0; i < claimed.signatures.size(); ++i) {
    ClaimedNote broken = claimed;
    broken.signatures[i].signature.back() ^= 1;
    EXPECT_THAT(check_quorum(encode_note(broken), policy_), FailsWith(Reason::kLogCheckpoint));
  }
}

TEST_F(Quorum, RefusesAnotherLogsHistory) {
  TestLog other{5, "other.example/log/1"};
  EXPECT_THAT(check_quorum(other.cosigned_note(other.head(0), {0, 1, 2}, kTime), policy_),
              FailsWith(Reason::kLogCheckpoint));
  // Our witnesses' signatures over our head do not carry over to another root.
  ClaimedNote claimed = value_of(parse_note(note({0, 1, 2})));
  Checkpoint forged = log_.head(9);
  forged.root = hash_leaf({});
  claimed.text = checkpoint_text(forged);
  claimed.signatures[0] = value_of(sign_note_line(log_.log_key(), log_.origin(), claimed.text));
  EXPECT_THAT(check_quorum(encode_note(claimed), policy_), FailsWith(Reason::kLogCheckpoint));
}

TEST_F(Quorum, RefusesAnEmptyTreeWithARootAndExtensionLines) {
  Checkpoint wrong = log_.head(0);
  wrong.root = hash_leaf({});
  EXPECT_THAT(check_quorum(log_.cosigned_note(wrong, {0, 1, 2}, kTime), policy_),
              FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(check_quorum(log_.cosigned_note(log_.head(0), {0, 1, 2}, kTime), policy_), Succeeds());
  Checkpoint extended = log_.head(9);
  extended.extensions = {"more"};
  EXPECT_THAT(check_quorum(log_.cosigned_note(extended, {0, 1, 2}, kTime), policy_),
              FailsWith(Code::kMalformed));
}

TEST_F(Quorum, FlippingAnyByteOfTheNoteNeverYieldsAnotherCheckpoint) {
  const std::string good = note({0, 1, 2});
  const Checkpoint expected = log_.head(9);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string changed = good;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    const auto result = check_quorum(changed, policy_);
    EXPECT_FALSE(result.has_value()) << "byte " << i;
  }
  EXPECT_EQ(value_of(check_quorum(good, policy_)).checkpoint(), expected);
}

TEST_F(Quorum, IsFreshOnlyInsideTheWindow) {
  const VerifiedCheckpoint checkpoint = value_of(check_quorum(note({0, 1, 2}), policy_));
  const auto fresh = [&](std::uint64_t now_ms) {
    return require_fresh(checkpoint, policy_, UnixMillis{now_ms}, 120s, 30s);
  };
  EXPECT_THAT(fresh(kTime * 1000), Succeeds());
  EXPECT_THAT(fresh(kTime * 1000 + 120'000), Succeeds());
  EXPECT_THAT(fresh(kTime * 1000 + 120'001), FailsWith(Code::kStale));
  EXPECT_THAT(fresh(kTime * 1000 - 30'000), Succeeds());
  EXPECT_THAT(fresh(kTime * 1000 - 30'001), FailsWith(Code::kStale));
  EXPECT_THAT(fresh(0), FailsWith(Code::kStale));
  EXPECT_THAT(fresh(~std::uint64_t{0}), FailsWith(Code::kStale));
}

TEST_F(Quorum, IsFreshOnlyIfTheFreshOnesAloneFillIt) {
  const std::string text = checkpoint_text(log_.head(9));
  const auto with_times = [&](std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) {
    return value_of(
        check_quorum(value_of(add_signature_lines(
                         log_.signed_note(log_.head(9)),
                         std::vector{log_.cosignature(0, a, text), log_.cosignature(1, b, text),
                                     log_.cosignature(2, c, text), log_.cosignature(3, d, text)})),
                     policy_));
  };
  const UnixMillis now{kTime * 1000};
  EXPECT_THAT(require_fresh(with_times(kTime, kTime, kTime, kTime - 500), policy_, now, 120s, 30s),
              Succeeds());
  EXPECT_THAT(require_fresh(with_times(kTime, kTime, kTime - 500, kTime + 500), policy_, now, 120s, 30s),
              FailsWith(Code::kStale));
}

TEST(TlogProof, RoundTripsWithAndWithoutExtra) {
  TestLog log{3};
  for (int i = 0; i < 11; ++i) log.tree.append(hash_leaf(as_bytes(std::to_string(i))));
  for (std::uint64_t i = 0; i < 11; ++i) {
    ClaimedProof proof = log.proof(i, {0, 1}, kTime);
    EXPECT_EQ(value_of(parse_proof(encode_proof(proof))), proof);
    proof.extra = Bytes{1, 2, 3};
    EXPECT_EQ(value_of(parse_proof(encode_proof(proof))), proof);
    const VerifiedCheckpoint checkpoint =
        value_of(verify_proof(proof, hash_leaf(as_bytes(std::to_string(i))), log.policy(2)));
    EXPECT_EQ(checkpoint.size(), TreeSize{11});
    EXPECT_THAT(verify_proof(proof, hash_leaf(as_bytes("x")), log.policy(2)),
                FailsWith(Reason::kLogInclusion));
    EXPECT_THAT(verify_proof(proof, hash_leaf(as_bytes(std::to_string(i))), log.policy(3)),
                FailsWith(Reason::kLogQuorum));
    proof.index = LeafIndex{i == 0 ? 1 : i - 1};
    EXPECT_THAT(verify_proof(proof, hash_leaf(as_bytes(std::to_string(i))), log.policy(2)),
                FailsWith(Reason::kLogInclusion));
  }
}

TEST(TlogProof, OfATreeOfOneLeafHasNoHashes) {
  TestLog log{1};
  log.tree.append(hash_leaf(as_bytes("only")));
  const ClaimedProof proof = log.proof(0, {0}, kTime);
  EXPECT_TRUE(proof.hashes.empty());
  EXPECT_THAT(
      verify_proof(value_of(parse_proof(encode_proof(proof))), hash_leaf(as_bytes("only")), log.policy(1)),
      Succeeds());
}

TEST(TlogProof, RefusesEveryOtherForm) {
  TestLog log{1};
  log.tree.append(hash_leaf(as_bytes("only")));
  const std::string note = log.cosigned_note(log.head(1), {0}, kTime);
  const std::string head = "c2sp.org/tlog-proof@v1\n", hash = to_base64(view(empty_root())) + "\n";
  ASSERT_THAT(parse_proof(head + "index 0\n\n" + note), Succeeds());
  ASSERT_THAT(parse_proof(head + "extra AA==\nindex 0\n" + hash + "\n" + note), Succeeds());
  std::string many;
  for (std::size_t i = 0; i < kMaxProofHashes; ++i) many += hash;
  ASSERT_THAT(parse_proof(head + "index 0\n" + many + "\n" + note), Succeeds());
  for (const std::string& bad : std::vector<std::string>{
           std::string{},
           head,
           "c2sp.org/tlog-proof@v2\nindex 0\n\n" + note,
           head + "\n" + note,
           head + "index 00\n\n" + note,
           head + "index  0\n\n" + note,
           head + "index -1\n\n" + note,
           head + "index 4611686018427387904\n\n" + note,
           head + "index\n\n" + note,
           head + "extra \nindex 0\n\n" + note,
           head + "extra AB==\nindex 0\n\n" + note,
           head + "extra AA==\nextra AA==\nindex 0\n\n" + note,
           head + "index 0\nextra AA==\n\n" + note,
           head + "index 0\n" + note,
           head + "index 0\n\n\n" + note,
           head + "index 0\n" + hash.substr(4) + "\n" + note,
           head + "index 0\n" + many + hash + "\n" + note,
           head + "index 0\n\n",
           head + "index 0\n\nnot a note\n",
           head + "index 0\n\n" + note + "\n",
           " " + head + "index 0\n\n" + note,
           head + "extra " + to_base64(Bytes(kMaxProofExtraBytes + 1)) + "\nindex 0\n\n" + note})
    EXPECT_THAT(parse_proof(bad), FailsWith(Code::kMalformed)) << bad;
}

}  // namespace
}  // namespace sallyport::ledger

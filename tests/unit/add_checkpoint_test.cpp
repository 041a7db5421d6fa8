#include "attestation/ledger/add_checkpoint.h"

#include <gtest/gtest.h>

#include "attestation/base/base64.h"
#include "tests/support/matchers.h"
#include "tests/support/test_log.h"

namespace sallyport::ledger {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::TestLog;
using test::value_of;

class AddCheckpoint : public testing::Test {
 protected:
  AddCheckpoint() {
    for (int i = 0; i < 12; ++i) log_.tree.append(hash_leaf(as_bytes("entry " + std::to_string(i))));
  }
  WitnessState state(std::uint64_t size) const { return {TreeSize{size}, log_.head(size).root}; }
  AddCheckpointRequest request(std::uint64_t from, std::uint64_t to) const {
    return {TreeSize{from}, value_of(log_.tree.consistency(TreeSize{from}, TreeSize{to})),
            log_.signed_note(log_.head(to))};
  }
  AddCheckpointDecision decide(const WitnessState& at, const AddCheckpointRequest& r) const {
    const auto decision = decide_add_checkpoint(at, r, keys({log_.log_vkey()}));
    EXPECT_EQ(decision.accepted.has_value(), decision.answer.status == 200);
    return decision;
  }
  int status(const WitnessState& at, const AddCheckpointRequest& r) const {
    return decide(at, r).answer.status;
  }
  static std::vector<LogKey> keys(std::initializer_list<NoteKey> of) {
    std::vector<LogKey> logs;
    for (const NoteKey& key : of) logs.push_back({Origin{key.name()}, key});
    return logs;
  }
  TestLog log_{2};
};

TEST_F(AddCheckpoint, RequestRoundTrips) {
  for (const auto& [from, to] : {std::pair{0, 0}, {0, 12}, {3, 12}, {12, 12}, {8, 9}}) {
    const auto r = request(static_cast<std::uint64_t>(from), static_cast<std::uint64_t>(to));
    const std::string body = encode_add_checkpoint(r);
    EXPECT_EQ(value_of(parse_add_checkpoint(body)), r);
    EXPECT_EQ(value_of(claimed_origin(r)).get(), log_.origin());
  }
}

TEST_F(AddCheckpoint, RequestIsRefusedInEveryOtherForm) {
  const std::string note = log_.signed_note(log_.head(1)), hash = to_base64(view(empty_root())) + "\n";
  ASSERT_THAT(parse_add_checkpoint("old 0\n\n" + note), Succeeds());
  std::string many;
  for (std::size_t i = 0; i < kMaxProofHashes; ++i) many += hash;
  ASSERT_THAT(parse_add_checkpoint("old 1\n" + many + "\n" + note), Succeeds());
  for (const std::string& bad : std::vector<std::string>{
           std::string{}, "old 00\n\n" + note, "old\n\n" + note, "new 0\n\n" + note, "old 0\n" + note,
           "\nold 0\n\n" + note, "old 0 \n\n" + note, "old 4611686018427387905\n\n" + note,
           "old 1\n" + many + hash + "\n" + note, "old 1\nxx\n\n" + note, "old 0\n\n",
           "old 0\n\n" + note + "\n", "old 0\n\n" + checkpoint_text(log_.head(1)),
           "old 0\n\n" + std::string(kMaxAddCheckpointBytes, 'x')})
    EXPECT_THAT(parse_add_checkpoint(bad), FailsWith(Code::kMalformed)) << bad;
}

TEST_F(AddCheckpoint, AcceptsEveryConsistentStep) {
  for (std::uint64_t from = 0; from <= 12; ++from)
    for (std::uint64_t to = from; to <= 12; ++to) {
      const auto decision = decide(state(from), request(from, to));
      EXPECT_EQ(decision.answer.status, 200) << from << " " << to;
      ASSERT_TRUE(decision.accepted.has_value());
      EXPECT_EQ(decision.accepted->checkpoint(), log_.head(to));
      EXPECT_EQ(decision.accepted->note(), log_.signed_note(log_.head(to)));
    }
  EXPECT_EQ(status(WitnessState{}, request(0, 5)), 200);
}

TEST_F(AddCheckpoint, Answers404ForAnUnknownLog) {
  TestLog other{1, "other.example/log/1"};
  AddCheckpointRequest r = request(0, 5);
  r.checkpoint = other.signed_note(other.head(0));
  EXPECT_EQ(status(WitnessState{}, r), 404);
  EXPECT_EQ(decide_add_checkpoint(WitnessState{}, request(0, 5), {}).answer.status, 404);
}

TEST_F(AddCheckpoint, Answers403WithoutATrustedSignature) {
  const TestLog impostor{1, log_.origin()};
  AddCheckpointRequest r = request(0, 5);
  r.checkpoint = impostor.signed_note(log_.head(5));
  EXPECT_EQ(status(WitnessState{}, r), 403);

  ClaimedNote note = value_of(parse_note(request(0, 5).checkpoint));
  note.signatures[0].signature[0] ^= 1;
  r.checkpoint = encode_note(note);
  EXPECT_EQ(status(WitnessState{}, r), 403);
  // A trusted key's line that fails spoils the note, whatever else is on it.
  const NoteKey second =
      value_of(NoteKey::make(log_.origin(), NoteKeyType::kEd25519, impostor.log_key().public_key()));
  note.signatures.push_back(value_of(sign_note_line(impostor.log_key(), log_.origin(), note.text)));
  r.checkpoint = encode_note(note);
  EXPECT_EQ(decide_add_checkpoint(WitnessState{}, r, keys({log_.log_vkey(), second})).answer.status, 403);
  EXPECT_EQ(decide_add_checkpoint(WitnessState{}, r, keys({second})).answer.status, 200);
}

TEST_F(AddCheckpoint, TakesExtensionLinesAndAKeyWhoseNameIsNotTheOrigin) {
  Checkpoint extended = log_.head(5);
  extended.extensions = {"more", "and more"};
  AddCheckpointRequest r{TreeSize{0}, {}, log_.signed_note(extended)};
  EXPECT_EQ(value_of(parse_add_checkpoint(encode_add_checkpoint(r))), r);
  EXPECT_EQ(decide(WitnessState{}, r).accepted->checkpoint(), extended);

  const std::string text = checkpoint_text({Origin{"an origin of its own"}, TreeSize{5}, log_.head(5).root});
  r.checkpoint = encode_note({text, {value_of(sign_note_line(log_.log_key(), log_.origin(), text))}});
  EXPECT_EQ(status(WitnessState{}, r), 404);  // a key is believed for its own origin only
  const LogKey named{Origin{"an origin of its own"}, log_.log_vkey()};
  EXPECT_EQ(decide_add_checkpoint(WitnessState{}, r, {&named, 1}).answer.status, 200);
  EXPECT_EQ(decide_add_checkpoint(WitnessState{}, request(0, 5), {&named, 1}).answer.status, 404);
}

TEST_F(AddCheckpoint, TellsAStrangerNothingAboutItsState) {
  const TestLog impostor{1, log_.origin()};
  AddCheckpointRequest r = request(0, 5);
  r.checkpoint = impostor.signed_note(log_.head(5));
  EXPECT_EQ(status(state(7), r), 403);
  Checkpoint wrong = log_.head(0);
  wrong.root = hash_leaf({});
  r.checkpoint = impostor.signed_note(wrong);
  EXPECT_EQ(status(state(7), r), 403);
}

TEST_F(AddCheckpoint, Answers400WhenTheOldSizeIsAboveTheCheckpoints) {
  AddCheckpointRequest r = request(5, 5);
  r.old_size = TreeSize{6};
  EXPECT_EQ(status(state(6), r), 400);
  EXPECT_EQ(status(state(5), r), 400);
  EXPECT_EQ(malformed_answer().status, 400);
}

TEST_F(AddCheckpoint, Answers409WithItsSizeWhenTheOldSizeIsAnother) {
  for (const std::uint64_t old_size : std::vector<std::uint64_t>{0, 3, 6}) {
    const auto decision = decide(state(5), request(old_size, 9));
    EXPECT_EQ(decision.answer.status, 409);
    EXPECT_EQ(decision.answer.content_type, "text/x.tlog.size");
    EXPECT_EQ(decision.answer.body, "5\n");
    EXPECT_EQ(value_of(parse_size_body(decision.answer.body)), TreeSize{5});
  }
  EXPECT_EQ(decide(WitnessState{}, request(3, 9)).answer.body, "0\n");
}

TEST_F(AddCheckpoint, Answers422ForABadProof) {
  AddCheckpointRequest r = request(5, 12);
  r.proof.pop_back();
  EXPECT_EQ(status(state(5), r), 422);
  r = request(5, 12);
  r.proof.push_back(empty_root());
  EXPECT_EQ(status(state(5), r), 422);
  r = request(5, 12);
  std::swap(r.proof[0], r.proof[1]);
  EXPECT_EQ(status(state(5), r), 422);
  // The same proof, from a tree that the witness did not see.
  EXPECT_EQ(status({TreeSize{5}, hash_leaf({})}, request(5, 12)), 422);
}

TEST_F(AddCheckpoint, Answers422ForAForkAtTheSameSizeAndForAProofWithIt) {
  AddCheckpointRequest r = request(5, 5);
  Checkpoint fork = log_.head(5);
  fork.root = hash_leaf({});
  r.checkpoint = log_.signed_note(fork);
  EXPECT_EQ(status(state(5), r), 422);
  r = request(5, 5);
  r.proof.push_back(empty_root());
  EXPECT_EQ(status(state(5), r), 422);
}

TEST_F(AddCheckpoint, Answers422ForAProofFromNothingAndForAnEmptyTreeWithARoot) {
  AddCheckpointRequest r = request(0, 5);
  r.proof.push_back(empty_root());
  EXPECT_EQ(status(WitnessState{}, r), 422);
  Checkpoint wrong = log_.head(0);
  wrong.root = hash_leaf({});
  r = {TreeSize{0}, {}, log_.signed_note(wrong)};
  EXPECT_EQ(status(WitnessState{}, r), 422);
  EXPECT_EQ(status(WitnessState{}, request(0, 0)), 200);
}

TEST_F(AddCheckpoint, NeverGoesBackOrSidewaysOverAnyHistory) {
  // Two histories that share their first five entries: after the one, no request of the other is ever
  // accepted beyond size 5.
  TestLog fork{1, log_.origin()};
  for (int i = 0; i < 12; ++i)
    fork.tree.append(hash_leaf(as_bytes((i < 5 ? "entry " : "other ") + std::to_string(i))));
  for (std::uint64_t at = 6; at <= 12; ++at)
    for (std::uint64_t from = 0; from <= 12; ++from)
      for (std::uint64_t to = from; to <= 12; ++to) {
        const AddCheckpointRequest r{TreeSize{from},
                                     value_of(fork.tree.consistency(TreeSize{from}, TreeSize{to})),
                                     log_.signed_note(fork.head(to))};
        EXPECT_NE(status(state(at), r), 200) << at << " " << from << " " << to;
      }
}

TEST_F(AddCheckpoint, SizeBodyIsOneNumberAndOneNewline) {
  EXPECT_EQ(value_of(parse_size_body("0\n")), TreeSize{0});
  for (const char* bad :
       {"", "\n", "5", "05\n", "5\n\n", "5\n6\n", " 5\n", "5 \n", "-5\n", "4611686018427387905\n"})
    EXPECT_THAT(parse_size_body(bad), FailsWith(Code::kMalformed)) << bad;
}

TEST_F(AddCheckpoint, CosignedBodyYieldsTheWitnessesOwnLineAndNoOther) {
  const std::string text = checkpoint_text(log_.head(5));
  const SignatureLine mine = log_.cosignature(0, 1'700'000'000, text),
                      others = log_.cosignature(1, 1'700'000'001, text);
  const WitnessAnswer answer = cosigned_answer(std::vector{others, mine});
  EXPECT_EQ(answer.status, 200);
  const auto verified = value_of(verify_cosigned_body(answer.body, log_.witness_vkey(0), text));
  EXPECT_EQ(verified.line, mine);
  EXPECT_EQ(verified.time, UnixSeconds{1'700'000'000});

  EXPECT_THAT(verify_cosigned_body(encode_signature_line(others), log_.witness_vkey(0), text),
              FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(verify_cosigned_body(encode_signature_line(mine) + encode_signature_line(mine),
                                   log_.witness_vkey(0), text),
              FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(
      verify_cosigned_body(encode_signature_line(mine), log_.witness_vkey(0), checkpoint_text(log_.head(6))),
      FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(verify_cosigned_body("", log_.witness_vkey(0), text), FailsWith(Code::kMalformed));
  EXPECT_THAT(verify_cosigned_body("\n" + encode_signature_line(mine), log_.witness_vkey(0), text),
              FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::ledger

// Other people's logs, from tests/vectors/ledger (see ORIGIN there).
#include <gtest/gtest.h>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/ledger/add_checkpoint.h"
#include "attestation/ledger/cosignature.h"
#include "attestation/ledger/proof.h"
#include "attestation/ledger/tiles.h"
#include "attestation/ledger/tree.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::ledger {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;

std::string text_of(const std::string& name) {
  return std::string{as_text(test::read_file("tests/vectors/ledger/" + name))};
}
std::vector<std::string> lines_of(const std::string& name) {
  std::vector<std::string> lines;
  const std::string text = text_of(name);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}
Digest256 hash_of_base64(const std::string& text) {
  ByteArray<32> out{};
  const Bytes bytes = value_of(parse_base64(text, 32));
  std::memcpy(out.data(), bytes.data(), out.size());
  return Digest256{out};
}
Proof proof_of_base64(const std::string& name) {
  Proof proof;
  for (const std::string& line : lines_of(name)) proof.push_back(hash_of_base64(line));
  return proof;
}
NoteKey vkey_of(const std::string& name) {
  return value_of(parse_vkey(lines_of(name).at(0)));
}

TEST(LedgerVectors, V1ExampleOfTheSignedNoteText) {
  const NoteKey key = vkey_of("v1_vkey.txt");
  EXPECT_EQ(format_vkey(key) + "\n", text_of("v1_vkey.txt"));
  const ClaimedNote note = value_of(parse_note(text_of("v1_note.txt")));
  EXPECT_EQ(note.text, "This is an example message.\n");
  EXPECT_EQ(encode_note(note), text_of("v1_note.txt"));
  const auto lines = value_of(verify_note(note, std::vector{key}));
  EXPECT_EQ(lines.size(), 1u);
}

TEST(LedgerVectors, V2WholeTestLogOfTessera) {
  Tree tree;
  std::vector<ByteView> entries;
  const auto words = lines_of("v2_entries.txt");
  for (const std::string& word : words) {
    entries.push_back(as_bytes(word));
    tree.append(hash_leaf(as_bytes(word)));
  }
  ASSERT_EQ(words.size(), 15u);
  const auto checkpoint =
      value_of(verify_checkpoint(text_of("v2_checkpoint.txt"), vkey_of("v2_vkey.txt"))).checkpoint();
  EXPECT_EQ(checkpoint.size, TreeSize{15});
  EXPECT_EQ(checkpoint.root, tree.root());

  const Digest256 root5 = hash_of_base64(lines_of("v2_root5.txt").at(0));
  EXPECT_EQ(value_of(tree.root(TreeSize{5})), root5);
  const Proof inclusion = proof_of_base64("v2_inclusion_3_15.txt");
  EXPECT_EQ(value_of(tree.inclusion(LeafIndex{3}, TreeSize{15})), inclusion);
  const Digest256 leaf = hash_of_base64(lines_of("v2_leaf3.txt").at(0));
  EXPECT_THAT(verify_inclusion(leaf, LeafIndex{3}, TreeSize{15}, inclusion, checkpoint.root), Succeeds());
  const Proof consistency = proof_of_base64("v2_consistency_5_15.txt");
  EXPECT_EQ(value_of(tree.consistency(TreeSize{5}, TreeSize{15})), consistency);
  EXPECT_THAT(verify_consistency(TreeSize{5}, root5, TreeSize{15}, checkpoint.root, consistency), Succeeds());

  EXPECT_EQ(to_hex(value_of(encode_bundle(std::span{entries}.first(3)))), lines_of("v2_bundle.hex").at(0));
}

TEST(LedgerVectors, V2AsAnAddCheckpointRequest) {
  const std::string body = text_of("v2_add_checkpoint.txt");
  const AddCheckpointRequest request = value_of(parse_add_checkpoint(body));
  EXPECT_EQ(encode_add_checkpoint(request), body);
  const NoteKey key = vkey_of("v2_vkey.txt");
  const std::vector logs{LogKey{Origin{key.name()}, key}};
  const WitnessState at5{TreeSize{5}, hash_of_base64(lines_of("v2_root5.txt").at(0))};
  const auto decision = decide_add_checkpoint(at5, request, logs);
  EXPECT_EQ(decision.answer.status, 200);
  ASSERT_TRUE(decision.accepted.has_value());
  EXPECT_EQ(decision.accepted->checkpoint().size, TreeSize{15});
}

TEST(LedgerVectors, V3ReferenceTree) {
  Tree tree;
  for (const std::string& line : lines_of("v3_leaves.txt"))
    tree.append(hash_leaf(line == "-" ? Bytes{} : value_of(parse_hex(line, 64))));
  EXPECT_EQ(to_hex(tree.root()), lines_of("v3_root8.hex").at(0));
  EXPECT_EQ(to_hex(value_of(tree.root(TreeSize{6}))), lines_of("v3_root6.hex").at(0));
  Proof proof;
  for (const std::string& line : lines_of("v3_inclusion_5_8.txt"))
    proof.push_back(value_of(parse_digest(line)));
  EXPECT_EQ(value_of(tree.inclusion(LeafIndex{5}, TreeSize{8})), proof);
  EXPECT_THAT(verify_inclusion(hash_leaf(value_of(parse_hex("40414243", 4))), LeafIndex{5}, TreeSize{8},
                               proof, tree.root()),
              Succeeds());
}

TEST(LedgerVectors, V4StapledProofOfSigsumWithAWitness) {
  const std::string text = text_of("v4_proof.txt");
  const ClaimedProof proof = value_of(parse_proof(text));
  EXPECT_EQ(encode_proof(proof), text);
  const WitnessPolicy policy = value_of(parse_witness_policy(
      "log " + text_of("v4_log_vkey.txt") + "witness w " + text_of("v4_witness_vkey.txt") + "quorum w\n"));
  EXPECT_EQ(policy.k(), 1u);
  EXPECT_EQ(policy.n(), 1u);
  const Digest256 leaf = hash_leaf(value_of(parse_hex(lines_of("v4_leaf.hex").at(0), 128)));
  const VerifiedCheckpoint checkpoint = value_of(verify_proof(proof, leaf, policy));
  EXPECT_EQ(checkpoint.size(), TreeSize{4});
  ASSERT_EQ(checkpoint.cosignatures().size(), 1u);
  EXPECT_EQ(checkpoint.first_time(), UnixSeconds{1683202758});
  EXPECT_EQ(checkpoint.cosignatures()[0].witness, policy.witnesses()[0].key.key().id());

  EXPECT_THAT(verify_proof(proof, hash_leaf({}), policy), FailsWith(Reason::kLogInclusion));
  // The log alone is not enough, and a witness that the policy does not know is not one.
  const WitnessPolicy other = value_of(parse_witness_policy(
      "log " + text_of("v4_log_vkey.txt") + "witness w " +
      format_vkey(value_of(NoteKey::make("witness.example/sigsum-test", NoteKeyType::kCosignature,
                                         vkey_of("v1_vkey.txt").key()))) +
      "\nquorum w\n"));
  EXPECT_THAT(verify_proof(proof, leaf, other), FailsWith(Reason::kLogQuorum));
}

TEST(LedgerVectors, V4CosignatureVerifiesUnderAnyNameOfItsKey) {
  const ClaimedNote note = value_of(parse_note(value_of(parse_proof(text_of("v4_proof.txt"))).checkpoint));
  const NoteKey renamed = value_of(
      NoteKey::make("other.example", NoteKeyType::kCosignature, vkey_of("v4_witness_vkey.txt").key()));
  SignatureLine line = note.signatures.at(1);
  line.name = renamed.name();
  line.key_id = renamed.id();
  // This is why one key is one witness: the name is not in what was signed.
  EXPECT_THAT(verify_cosignature(line, renamed, note.text), Succeeds());
}

TEST(LedgerVectors, V5RealCheckpointOfTheGoChecksumDatabase) {
  const NoteKey key = vkey_of("v5_vkey.txt");
  const std::string text = text_of("v5_note.txt");
  EXPECT_THAT(verify_note(value_of(parse_note(text)), std::vector{key}), Succeeds());
  // Its origin is not its key's name: it is that log's checkpoint only for whoever was told so.
  EXPECT_THAT(verify_checkpoint(text, key), FailsWith(Reason::kLogCheckpoint));
  const LogKey named{Origin{"go.sum database tree"}, key};
  EXPECT_THAT(verify_checkpoint(text, {&named, 1}, Extensions::kRefuse), Succeeds());

  std::string renamed = text;
  renamed.replace(0, std::string_view{"go.sum"}.size(), "no.sum");
  EXPECT_THAT(verify_note(value_of(parse_note(renamed)), std::vector{key}),
              FailsWith(Reason::kLogCheckpoint));
}

TEST(LedgerVectors, EcdsaVkeyOfRekor) {
  const NoteKey key = vkey_of("ecdsa_vkey.txt");
  EXPECT_EQ(key.type(), NoteKeyType::kEcdsa);
  EXPECT_EQ(key.name(), "rekor.sigstore.dev");
  EXPECT_EQ(format_vkey(key) + "\n", text_of("ecdsa_vkey.txt"));
}

}  // namespace
}  // namespace sallyport::ledger

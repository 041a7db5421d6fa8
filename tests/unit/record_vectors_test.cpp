// The formats of attestation/record, frozen: tests/vectors/record was written once by WriteOnce below and is
// not written again.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/batch.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/record_samples.h"

namespace sallyport::record {
namespace {

using crypto::PrivateKey;
using test::read_file;
using test::sample_statement;
using test::sample_statements;
using test::SampleStatement;
using test::Succeeds;
using test::value_of;

const std::filesystem::path kDirectory = "tests/vectors/record";

PrivateKey fixed_key() {
  return value_of(PrivateKey::parse_pem(read_file(kDirectory / "signer.pem")));
}

// lines reads "name value" pairs.
std::map<std::string, std::string> lines(const std::filesystem::path& file) {
  std::map<std::string, std::string> out;
  std::istringstream in{std::string{as_text(read_file(file))}};
  for (std::string name, value; in >> name >> value;) EXPECT_TRUE(out.emplace(name, value).second) << name;
  return out;
}

std::vector<Kind> kinds() {
  std::vector<Kind> out;
  for (std::uint8_t byte = 1; byte <= 13; ++byte) out.push_back(value_of(parse_kind(byte)));
  return out;
}

TEST(RecordVectors, PayloadsAreFrozen) {
  std::size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator{kDirectory / "payload"}) {
    const SampleStatement& sample = sample_statement(file.path().stem().string());
    const Bytes frozen = read_file(file.path());
    EXPECT_EQ(as_text(sample.payload), as_text(frozen)) << sample.name;
    EXPECT_EQ(as_text(value_of(sample.again(frozen))), as_text(frozen)) << sample.name;
    ++files;
  }
  EXPECT_EQ(files, sample_statements().size());
}

TEST(RecordVectors, DigestsAreFrozen) {
  auto digests = lines(kDirectory / "digests.txt");
  for (const SampleStatement& sample : sample_statements()) {
    EXPECT_EQ(to_hex(statement_digest(sample.type, sample.payload)), digests[sample.name]) << sample.name;
    digests.erase(sample.name);
  }
  EXPECT_TRUE(digests.empty());
}

TEST(RecordVectors, EnvelopesAreFrozenAndVerify) {
  const PrivateKey key = fixed_key();
  std::size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator{kDirectory / "envelope"}) {
    const SampleStatement& sample = sample_statement(file.path().stem().string());
    const Bytes frozen = read_file(file.path());
    const Envelope envelope = value_of(parse_envelope(frozen));
    EXPECT_EQ(as_text(encode_envelope(envelope)), as_text(frozen)) << sample.name;
    EXPECT_EQ(envelope.type, sample.type);
    EXPECT_EQ(envelope.payload, sample.payload);
    if (envelope.signatures.empty()) {
      EXPECT_TRUE(is_unsigned(value_of(kind_of_payload_type(envelope.type))));
    } else {
      EXPECT_THAT(verify_signers(envelope, {key.public_key()}), Succeeds()) << sample.name;
    }
    ++files;
  }
  EXPECT_EQ(files, sample_statements().size() - 1);  // a decision is never an envelope
}

TEST(RecordVectors, EntriesLeavesAndBatchAreFrozen) {
  const Bytes frozen_page = read_file(kDirectory / "entries.page");
  const EntryPage page = value_of(parse_entry_page(frozen_page));
  EXPECT_EQ(encode_entry_page(page), frozen_page);
  ASSERT_EQ(page.entries.size(), kinds().size());
  auto leaves = lines(kDirectory / "leaves.txt");
  auto evidence = lines(kDirectory / "evidence_digests.txt");
  Batch batch;
  batch.from = page.from;
  batch.note = "note\n";
  for (const Kind kind : kinds()) {
    const std::string name{kind_name(kind)};
    const Entry& entry = page.entries[batch.leaves.size()];
    const Body body = value_of(open_body(entry));
    EXPECT_EQ(body.kind, kind);
    EXPECT_EQ(as_text(body.envelope), as_text(read_file(kDirectory / "envelope" / (name + ".json"))));
    const Entry again = test::sample_entry(kind, body.envelope);
    EXPECT_EQ(again.leaf, entry.leaf) << name;
    EXPECT_EQ(again.body, entry.body) << name;
    EXPECT_EQ(to_hex(ByteView{ledger::encode_leaf(entry.leaf)}), leaves[name]);
    EXPECT_EQ(to_hex(evidence_digest(body.items)), evidence[name]);
    leaves.erase(name);
    evidence.erase(name);
    if (is_control(kind))
      batch.controls.push_back({LeafIndex{batch.from.get() + batch.leaves.size()}, entry});
    batch.leaves.push_back(entry.leaf);
  }
  EXPECT_TRUE(leaves.empty());
  EXPECT_TRUE(evidence.empty());
  EXPECT_EQ(encode_batch(batch), read_file(kDirectory / "batch.bin"));
}

TEST(RecordVectors, SubmissionIsFrozen) {
  const Bytes frozen = read_file(kDirectory / "submission.bin");
  const Submission submission = value_of(parse_submission(frozen));
  EXPECT_EQ(encode(submission), frozen);
  EXPECT_EQ(encode(Submission{read_file(kDirectory / "envelope" / "request.json"),
                              test::sample_blobs(Kind::kRequest)}),
            frozen);
}

// WriteOnce writes the vectors that do not exist; it never changes one. Signatures differ at each run, so the
// files are kept.
TEST(RecordVectors, DISABLED_WriteOnce) {
  const auto write = [](const std::filesystem::path& name, ByteView bytes) {
    const auto file = kDirectory / name;
    if (std::filesystem::exists(file)) return;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream{file, std::ios::binary} << as_text(bytes);
  };
  write("signer.pem", PrivateKey::generate(crypto::KeyAlgorithm::kP256).to_pem().expose());
  const PrivateKey key = fixed_key();
  std::string digests, leaves, evidence;
  for (const SampleStatement& sample : sample_statements()) {
    write("payload/" + sample.name + ".json", sample.payload);
    if (sample.name != "decision")
      write("envelope/" + sample.name + ".json", encode_envelope(test::sample_envelope(sample, key)));
    digests += sample.name + " " + to_hex(statement_digest(sample.type, sample.payload)) + "\n";
  }
  write("digests.txt", as_bytes(digests));
  EntryPage page{LeafIndex{100}, {}};
  Batch batch{page.from, {}, {}, "note\n"};
  for (const Kind kind : kinds()) {
    const std::string name{kind_name(kind)};
    const Entry entry = test::sample_entry(kind, read_file(kDirectory / "envelope" / (name + ".json")));
    leaves += name + " " + to_hex(ByteView{ledger::encode_leaf(entry.leaf)}) + "\n";
    evidence += name + " " + to_hex(evidence_digest(value_of(open_body(entry)).items)) + "\n";
    if (is_control(kind))
      batch.controls.push_back({LeafIndex{batch.from.get() + batch.leaves.size()}, entry});
    batch.leaves.push_back(entry.leaf);
    page.entries.push_back(entry);
  }
  write("leaves.txt", as_bytes(leaves));
  write("evidence_digests.txt", as_bytes(evidence));
  write("entries.page", encode_entry_page(page));
  write("batch.bin", encode_batch(batch));
  write("submission.bin", encode(Submission{read_file(kDirectory / "envelope" / "request.json"),
                                            test::sample_blobs(Kind::kRequest)}));
}

}  // namespace
}  // namespace sallyport::record

#include "attestation/evidence/ima_appraisal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/files.h"
#include "tests/support/ima_log.h"
#include "tests/support/matchers.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::ImaLog;
using test::read_file;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;
using testing::HasSubstr;

Bytes list_file(const std::string& name) {
  return read_file("tests/vectors/ima/" + name);
}
crypto::PublicKey real_signer() {
  const Bytes text = list_file("signer.hex");
  return value_of(
      crypto::PublicKey::from_p256_point(value_of(parse_hex(as_text(text).substr(0, text.size() - 1), 200))));
}
ImaReference allowing(const std::string& files, bool violations = false, bool padded_sha1 = false) {
  ImaReference::Terms terms;
  terms.files = files;
  terms.violations = violations;
  terms.padded_sha1 = padded_sha1;
  return value_of(ImaReference::make(terms));
}

// Parts own their bytes.
struct Parts {
  std::vector<Bytes> bytes;
  std::vector<ImaPart> parts() const {
    std::vector<ImaPart> out;
    for (const Bytes& one : bytes) out.push_back({crypto::sha256(one), one});
    return out;
  }
};
// cut cuts a list into parts of so many entries.
Parts cut(const ImaLog& log, std::size_t entries) {
  const ImaList list = value_of(ImaList::parse(log.bytes));
  Parts out;
  std::size_t begin = 0;
  for (const ImaEntry& entry : list.entries())
    if ((entry.number + 1) % entries == 0 || entry.number + 1 == list.entries().size()) {
      out.bytes.push_back(to_bytes(list.bytes().subspan(begin, entry.end - begin)));
      begin = entry.end;
    }
  return out;
}
Digest256 pcr10_of(const ImaLog& log) {
  SoftTpm tpm;
  log.measure(tpm);
  return tpm.pcrs[kImaPcr];
}
std::string told(const Result<JudgedIma>& judged) {
  if (!judged.has_value())
    return std::string{reason_name(judged.error().reason)} + " " + judged.error().what + " " +
           std::to_string(static_cast<int>(judged.error().code));
  const ImaTally& tally = judged->tally();
  return std::to_string(judged->entries()) + " by " + std::string{ima_extension_name(judged->extension())} +
         ": " + std::to_string(tally.listed) + " " + std::to_string(tally.signed_files) + " " +
         std::to_string(tally.violations) + " " + to_hex(judged->pcr10());
}

TEST(ImaAppraisal, TermsExpectSomething) {
  EXPECT_THAT(ImaReference::make({}), FailsWith(Code::kMalformed));
  EXPECT_THAT(ImaReference::make({.keys = {}, .files = "", .violations = true, .padded_sha1 = true}),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(ImaReference::make({.keys = {}, .files = "sha256:00 /a\n"}), FailsWith(Reason::kImaForm));
  const std::string line = "sha256:" + std::string(64, 'a') + " /a\n";
  EXPECT_EQ(allowing(line).files(), 1u);
  EXPECT_EQ(allowing(line), allowing(line));
  // Whatever may change a judgement is in the id.
  EXPECT_FALSE(allowing(line) == allowing(line, true));
  EXPECT_FALSE(allowing(line) == allowing(line, false, true));
  EXPECT_FALSE(allowing(line) == allowing("sha256:" + std::string(64, 'b') + " /a\n"));
  const ImaReference key =
      value_of(ImaReference::make({.keys = {real_signer()}, .files = line, .violations = false}));
  EXPECT_FALSE(allowing(line) == key);
}

TEST(ImaAppraisal, TheListOfARealMachineIsJudgedByKeyAndByList) {
  // Template digests of SHA-1, signatures of one key; what has none is listed.
  const Bytes bytes = list_file("ima-sha1.log");
  const ImaList list = value_of(ImaList::parse(bytes));
  // Three files are signed and were not measured without their signature, too.
  std::string files;
  std::set<std::string> lines;
  for (const ImaEntry& entry : list.entries().subspan(1))
    if (entry.signature.empty())
      lines.insert("sha256:" + to_hex(entry.digest) + " " + std::string{entry.path} + "\n");
  for (const std::string& line : lines) files += line;
  const ImaReference reference = value_of(ImaReference::make({.keys = {real_signer()}, .files = files}));
  const ReplayedIma replayed =
      value_of(replay_ima(list, ImaPosition::start(LogAlgorithm::kSha256), ImaExtension::kOwnHash));
  ByteArray<32> pcr10{};
  std::copy_n(replayed.position().pcr10().begin(), 32, pcr10.begin());
  const std::vector<ImaPart> parts{{crypto::sha256(bytes), bytes}};
  const JudgedIma judged = value_of(judge_ima_parts(parts, Digest256{pcr10}, reference));
  EXPECT_EQ(judged.entries(), 362u);
  EXPECT_EQ(judged.tally(), (ImaTally{.listed = 358, .signed_files = 3, .violations = 0}));
  const ImaReference by_list = allowing(files);
  EXPECT_THAT(judge_ima_parts(parts, Digest256{pcr10}, by_list), FailsWith(Reason::kImaUnexpected));
}

TEST(ImaAppraisal, CutsAtTheLastEntryThatFits) {
  const ImaLog log = ImaLog::booted().files(7000);
  const ImaList list = value_of(ImaList::parse(log.bytes));
  std::set<std::size_t> ends;
  for (const ImaEntry& entry : list.entries()) ends.insert(entry.end);
  for (const std::size_t entries : {std::size_t{0}, std::size_t{1}, std::size_t{2500}, std::size_t{7001}}) {
    const auto parts = value_of(cut_ima_list(list, entries));
    std::size_t at = 0;
    for (const ByteView& part : parts) {
      EXPECT_LE(part.size(), kMaxImaPartBytes);
      at += part.size();
      EXPECT_TRUE(ends.contains(at));
      const auto next = ends.upper_bound(at);
      if (&part != &parts.back()) {
        EXPECT_GT(*next - at + part.size(), kMaxImaPartBytes);
      }
    }
    EXPECT_EQ(at, entries == 0 ? 0 : list.entries()[entries - 1].end);
  }
  static_assert(kMaxImaDataBytes + 100 < kMaxImaPartBytes);  // each entry fits into a part
  // 8 MiB and no more: entries of some 4 KiB.
  ImaLog large;
  for (int i = 0; i < 2100; ++i) large.file("/" + std::string(4000, 'x'), std::to_string(i));
  const ImaList long_list = value_of(ImaList::parse(large.bytes));
  EXPECT_THAT(cut_ima_list(long_list, 2000), Succeeds());
  EXPECT_THAT(cut_ima_list(long_list, 2100), FailsWith(Reason::kImaForm));
}

TEST(ImaAppraisal, NothingMeasuredIsRefused) {
  EXPECT_THAT(judge_ima_parts({}, Digest256{}, allowing("sha256:" + std::string(64, 'a') + " /a\n")),
              FailsWith(Reason::kImaMissing));
}

// with_and_without judges with a memo and without: it must not make a difference.
std::string with_and_without(const std::vector<ImaPart>& parts, const Digest256& pcr10,
                             const ImaReference& reference, const ImaMemo& memo) {
  const std::string without = told(judge_ima_parts(parts, pcr10, reference));
  EXPECT_EQ(told(judge_ima_parts(parts, pcr10, reference, &memo)), without);
  return without;
}

TEST(ImaAppraisal, AMemoMakesNoDifference) {
  // Two kernels that measure the same: one extends by its own hash, one by SHA-1.
  std::vector<ImaLog> logs(2);
  logs[1].padded = true;
  for (ImaLog& log : logs) log.file("boot_aggregate", "").files(20).violation("/var/log/a").files(9, "y");
  ImaLog more = logs[0];
  more.files(3, "z");
  ImaLog evil = logs[0];
  evil.file("/tmp/evil", "evil").files(3, "z");
  const std::string files = more.allow_list();
  const std::vector<ImaReference> terms{
      allowing(files, true, true), allowing(files, true, false), allowing(files, false, true),
      allowing(logs[0].allow_list(), true, true),
      allowing(files + "sha256:" + to_hex(crypto::sha256(as_bytes("evil"))) + " /tmp/evil\n", true, true)};
  std::vector<std::pair<Parts, Digest256>> cases;
  for (const std::size_t entries : {1, 4, 10, 100}) {
    for (const ImaLog* log : {&logs[0], &logs[1], &more, &evil}) {
      const Parts whole = cut(*log, entries);
      cases.emplace_back(whole, pcr10_of(*log));
      cases.emplace_back(whole, pcr10_of(evil));
      Parts other = whole;
      other.bytes.pop_back();
      cases.emplace_back(other, pcr10_of(*log));
      other = whole;
      std::swap(other.bytes.front(), other.bytes.back());
      cases.emplace_back(other, pcr10_of(*log));
      other = whole;
      other.bytes.back().back() ^= 1;
      cases.emplace_back(other, pcr10_of(*log));
      other = whole;
      other.bytes.front().pop_back();
      cases.emplace_back(other, pcr10_of(*log));
      other = whole;
      other.bytes.push_back({});
      cases.emplace_back(other, pcr10_of(*log));
      other = whole;
      other.bytes.push_back(other.bytes.back());
      cases.emplace_back(other, pcr10_of(*log));
    }
  }
  std::map<std::string, int> seen;
  ImaMemo memo;
  for (int round = 0; round < 2; ++round)
    for (const ImaReference& reference : terms)
      for (const auto& [parts, pcr10] : cases) {
        const std::string outcome = with_and_without(parts.parts(), pcr10, reference, memo);
        ++seen[outcome.substr(0, outcome.find(' ', outcome.find("by ") == outcome.npos ? 0 : 8))];
        memo.judge(parts.parts(), pcr10, reference);
      }
  EXPECT_GT(memo.size(), 20u);
  EXPECT_LT(memo.size(), ImaMemo::kMost);
  // Refusals for an entry are remembered, and stay here.
  EXPECT_GT(memo.refusals(), 5u);
  ImaMemo other;
  other.add(memo);
  EXPECT_EQ(other.size(), memo.size());
  EXPECT_EQ(other.refusals(), 0u);
  for (const char* reason : {"ima/replay", "ima/form", "ima/unexpected"})
    EXPECT_GT(seen[reason], 10) << reason;
}

TEST(ImaAppraisal, WhatAMemoKnowsIsNotReadAgain) {
  const ImaLog log = ImaLog::booted().files(10);
  const ImaReference reference = allowing(log.allow_list());
  const Parts whole = cut(log, 4);
  ASSERT_EQ(whole.bytes.size(), 3u);
  ImaMemo memo;
  const JudgedIma judged = value_of(judge_ima_parts(whole.parts(), pcr10_of(log), reference));
  EXPECT_FALSE(memo.knows(judged));
  memo.add(judged);
  memo.add(judged);
  EXPECT_TRUE(memo.knows(judged));
  EXPECT_EQ(memo.size(), 2u);
  // Bytes that nobody looks at: the digest says which they are.
  std::vector<ImaPart> hollow = whole.parts();
  for (ImaPart& part : hollow) part.bytes = {};
  EXPECT_EQ(told(judge_ima_parts(hollow, pcr10_of(log), reference, &memo)), told(judged));
  EXPECT_FALSE(judge_ima_parts(hollow, Digest256{}, reference, &memo).has_value());
  EXPECT_THAT(judge_ima_parts(hollow, pcr10_of(log), reference), FailsWith(Reason::kImaForm));
  // The list grew: its whole parts are known, the last one is read.
  ImaLog more = log;
  more.file("/usr/lib/x/0", "x0");
  Parts grown = cut(more, 4);
  hollow = grown.parts();
  hollow[0].bytes = hollow[1].bytes = {};
  EXPECT_EQ(value_of(judge_ima_parts(hollow, pcr10_of(more), reference, &memo)).tally().listed, 11u);
  hollow[2].bytes = {};
  EXPECT_THAT(judge_ima_parts(hollow, pcr10_of(more), reference, &memo), FailsWith(Reason::kImaForm));
  // Bytes under the digest of others are not judged, and so never remembered.
  std::vector<ImaPart> lying = grown.parts();
  lying[0].sha256 = crypto::sha256(as_bytes("another part"));
  EXPECT_THAT(judge_ima_parts(lying, pcr10_of(more), reference), FailsWith(Reason::kImaForm));
  // Under other terms, nothing is known.
  EXPECT_THAT(judge_ima_parts(grown.parts(), pcr10_of(more), allowing(log.allow_list(), true), &memo),
              Succeeds());
  hollow = grown.parts();
  hollow[0].bytes = {};
  EXPECT_THAT(judge_ima_parts(hollow, pcr10_of(more), allowing(log.allow_list(), true), &memo),
              FailsWith(Reason::kImaForm));
}

TEST(ImaAppraisal, AMemoForgetsTheOldest) {
  const ImaReference reference = allowing(ImaLog{}.file("/usr/lib/x/0", "x0").allow_list());
  ImaMemo memo;
  std::vector<JudgedIma> judged;
  for (std::size_t i = 0; i <= ImaMemo::kMost; ++i) {
    ImaLog log;
    log.file("boot_aggregate", std::to_string(i));
    judged.push_back(value_of(judge_ima_parts(cut(log, 1).parts(), pcr10_of(log), reference)));
    memo.add(judged.back());
  }
  EXPECT_EQ(memo.size(), ImaMemo::kMost);
  EXPECT_FALSE(memo.knows(judged[0]));
  EXPECT_TRUE(memo.knows(judged[1]));
  EXPECT_TRUE(memo.knows(judged.back()));
}

}  // namespace
}  // namespace sallyport::evidence

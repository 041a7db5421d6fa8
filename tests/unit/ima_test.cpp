#include "attestation/evidence/ima.h"

#include <gtest/gtest.h>
#include <openssl/rsa.h>

#include <boost/json.hpp>
#include <map>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"
#include "tests/support/taken.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::read_file;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;

constexpr LogAlgorithm kSha1 = LogAlgorithm::kSha1, kSha256 = LogAlgorithm::kSha256;
constexpr std::array kExtensions{ImaExtension::kOwnHash, ImaExtension::kPaddedSha1};

Bytes list_file(std::string_view name) {
  return read_file("tests/vectors/ima/" + std::string{name});
}
Bytes hex_file(std::string_view name) {
  const Bytes text = list_file(name);
  return value_of(parse_hex(as_text(text).substr(0, text.size() - 1), 200));
}
boost::json::object known_values() {
  return boost::json::parse(as_text(list_file("pcrs.json"))).as_object();
}
std::string field_of(ImaExtension extension) {
  return extension == ImaExtension::kOwnHash ? "own" : "padded";
}
ImaList list_of(std::string_view name) {
  return value_of(ImaList::parse(list_file(name), name == "ima-sha256.log" ? kSha256 : kSha1));
}
Bytes known_pcr(const boost::json::value& of, ImaExtension extension, LogAlgorithm bank) {
  const auto& text = of.at(field_of(extension)).at(log_algorithm_name(bank)).as_string();
  return value_of(parse_hex(std::string_view{text}, 64));
}
ImaPosition known_from(const boost::json::value& known, ImaExtension extension, LogAlgorithm bank) {
  ImaPosition out = ImaPosition::start(bank);
  const auto& from = known.at("from");
  if (from.is_null()) return out;
  out.entries = from.at("entries").to_number<std::uint64_t>();
  out.offset = from.at("offset").to_number<std::uint64_t>();
  out.extension = bank == kSha1 ? ImaExtension::kOwnHash : extension;
  const Bytes value = known_pcr(from, extension, bank);
  std::copy(value.begin(), value.end(), out.aggregate.begin());
  return out;
}

// ---- lists made here

void put(Bytes& out, ByteView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}
void put_size(Bytes& out, std::size_t size) {
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<std::uint8_t>(size >> 8 * i));
}
void put_field(Bytes& out, ByteView bytes) {
  put_size(out, bytes.size());
  put(out, bytes);
}
Bytes digest_field(std::string_view algorithm, ByteView digest) {
  Bytes out = to_bytes(as_bytes(algorithm));
  out.insert(out.end(), {':', 0});
  put(out, digest);
  return out;
}
Bytes data_of(std::string_view algorithm, ByteView digest, std::string_view path) {
  Bytes out;
  put_field(out, digest_field(algorithm, digest));
  Bytes name = to_bytes(as_bytes(path));
  name.push_back(0);
  put_field(out, name);
  return out;
}
Bytes entry_of(std::string_view name, ByteView data, std::optional<ByteView> digest = {},
               std::size_t pcr = 10) {
  Bytes out;
  put_size(out, pcr);
  put(out, digest ? *digest : ByteView{crypto::sha1(data)});
  put_field(out, as_bytes(name));
  put_field(out, data);
  return out;
}
Digest256 file_digest(std::string_view content) {
  return crypto::sha256(as_bytes(content));
}
Bytes ng_entry(std::string_view path, std::string_view content) {
  return entry_of("ima-ng", data_of("sha256", view(file_digest(content)), path));
}
Bytes signed_entry(std::string_view path, std::string_view content, ByteView signature) {
  Bytes data = data_of("sha256", view(file_digest(content)), path);
  put_field(data, signature);
  return entry_of("ima-sig", data);
}
Bytes violation(std::string_view path) {
  const ByteArray<32> zeros{};
  return entry_of("ima-ng", data_of("sha256", zeros, path), ByteView{zeros}.first(20));
}
Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) put(out, part);
  return out;
}
Bytes old_entry(std::string_view path, std::string_view content) {
  const ByteArray<20> digest = crypto::sha1(as_bytes(content));
  Bytes hashed = to_bytes(digest);
  put(hashed, as_bytes(path));
  hashed.resize(20 + 256);
  Bytes out;
  put_size(out, 10);
  put(out, crypto::sha1(hashed));
  put_field(out, as_bytes("ima"));
  put(out, digest);
  put_field(out, as_bytes(path));
  return out;
}

Status refusal(const Bytes& bytes) {
  const auto list = ImaList::parse(bytes);
  if (!list.has_value()) return list.error();
  return Done{};
}

ReplayedIma replayed(const ImaList& list, ImaExtension extension = ImaExtension::kOwnHash) {
  return value_of(replay_ima(list, ImaPosition::start(kSha256), extension));
}

// ---- real lists

TEST(Ima, ListsOfRealMachinesComeToTheirPcrs) {
  std::size_t values = 0;
  for (const auto& [name, known] : known_values()) {
    SCOPED_TRACE(std::string{name});
    const ImaList list = list_of(name);
    EXPECT_EQ(list.entries().size(), known.at("entries").to_number<std::size_t>());
    for (const LogAlgorithm bank : kLogAlgorithms) {
      for (const ImaExtension extension : kExtensions) {
        SCOPED_TRACE(log_algorithm_name(bank) + ", " + field_of(extension));
        const ImaPosition from = known_from(known, extension, bank);
        const Bytes pcr10 = known_pcr(known, extension, bank);
        const ReplayedIma to_it = value_of(replay_ima_to(list, from, pcr10));
        EXPECT_EQ(to_it.entries().size(), list.entries().size());
        EXPECT_EQ(to_it.position().extension, bank == kSha1 ? ImaExtension::kOwnHash : extension);
        EXPECT_EQ(to_it.position().offset, from.offset + list.bytes().size());
        EXPECT_EQ(to_it.position().entries, from.entries + list.entries().size());
        EXPECT_EQ(to_hex(to_it.position().pcr10()), to_hex(pcr10));
        EXPECT_EQ(value_of(replay_ima(list, from, *to_it.position().extension)).position(), to_it.position());
        ++values;
      }
    }
  }
  EXPECT_EQ(values, 32u);  // none was left out
}

TEST(Ima, EntriesOfRealMachinesAreRead) {
  const ImaList sig = list_of("ima-sha256.log");
  const ImaEntry& first = sig.entries()[0];
  EXPECT_EQ(first.form, ImaTemplate::kImaSig);
  EXPECT_EQ(first.path, "boot_aggregate");
  EXPECT_EQ(first.algorithm, kSha256);
  EXPECT_EQ(to_hex(first.digest), "8c84a9518e30ce8b12c9c54f54d805808551efccb15728c9453343a802ef5257");
  EXPECT_TRUE(first.signature.empty());
  EXPECT_FALSE(first.violation);
  EXPECT_EQ(sig.entries()[1].path, "/usr/bin/kmod");
  EXPECT_EQ(sig.entries().back().path, "/etc/ima/ima-policy");
  EXPECT_EQ(sig.entries().back().end, sig.bytes().size());
  const ImaList ng = list_of("h12ssl-1575-1589.part");
  std::size_t violations = 0;
  for (const ImaEntry& entry : ng.entries()) {
    EXPECT_EQ(entry.form, ImaTemplate::kImaNg);
    EXPECT_EQ(entry.algorithm, kSha1);
    if (entry.violation) ++violations;
  }
  EXPECT_EQ(violations, 1u);
  EXPECT_TRUE(ng.entries()[4].violation);
  EXPECT_EQ(ng.entries()[4].path, "/var/log/journal/12555face58e4e26b0b630256641cbdc/system.journal");
}

TEST(Ima, BothTemplateDigestsOfOneBootSayTheSame) {
  const ImaList one = list_of("ima-sha1.log"), other = list_of("ima-sha256.log");
  ASSERT_EQ(one.entries().size(), other.entries().size());
  for (std::size_t i = 0; i < one.entries().size(); ++i)
    EXPECT_TRUE(equal(one.entries()[i].data, other.entries()[i].data)) << i;
  EXPECT_THAT(ImaList::parse(list_file("ima-sha1.log"), kSha256), FailsWith(Reason::kImaForm));
  EXPECT_THAT(ImaList::parse(list_file("ima-sha256.log")), FailsWith(Reason::kImaForm));
}

// ---- form

TEST(Ima, CutAnywhereButBetweenEntriesIsRefused) {
  for (const std::string_view name : {"h12ssl-1575-1589.part", "ima-sha1.log"}) {
    const ImaList list = list_of(name);
    std::set<std::size_t> ends{0};
    for (const ImaEntry& entry : list.entries().first(10)) ends.insert(entry.end);
    const std::size_t most = list.entries()[9].end;
    for (std::size_t size = 0; size <= most; ++size)
      EXPECT_EQ(ImaList::parse(to_bytes(list.bytes().first(size))).has_value(), ends.contains(size)) << size;
  }
}

TEST(Ima, WithAnyByteChangedDoesNotComeToThePcr) {
  const boost::json::object known = known_values();
  const Bytes good = list_file("h12ssl-1575-1589.part");
  const auto& of = known.at("h12ssl-1575-1589.part");
  const ImaPosition from = known_from(of, ImaExtension::kOwnHash, kSha256);
  const Bytes pcr10 = known_pcr(of, ImaExtension::kOwnHash, kSha256);
  const ImaList list = list_of("h12ssl-1575-1589.part");
  const ImaEntry& violated = list.entries()[4];
  const std::size_t claimed_from = violated.end - violated.data.size();
  std::size_t claimed = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const int mask : {0x01, 0x80}) {
      Bytes bad = good;
      bad[at] = static_cast<std::uint8_t>(bad[at] ^ mask);
      const auto parsed = ImaList::parse(bad);
      if (!parsed.has_value()) {
        EXPECT_THAT(parsed, FailsWith(Reason::kImaForm));
      } else if (at >= claimed_from && at < violated.end) {
        // What a violation claims is bound by nothing.
        EXPECT_THAT(replay_ima_to(*parsed, from, pcr10), Succeeds());
        ++claimed;
      } else {
        EXPECT_THAT(replay_ima_to(*parsed, from, pcr10), FailsWith(Reason::kImaReplay)) << at;
      }
    }
  }
  EXPECT_GT(claimed, 60u);
}

TEST(Ima, EveryBoundHasTwoSides) {
  const ByteArray<32> digest{1};
  const auto path_of = [&](std::size_t size) {
    return refusal(entry_of("ima-ng", data_of("sha256", digest, std::string(size, 'x'))));
  };
  EXPECT_THAT(path_of(1), Succeeds());
  EXPECT_THAT(path_of(0), FailsWith(Reason::kImaForm));
  EXPECT_THAT(path_of(kMaxImaPathBytes), Succeeds());
  EXPECT_THAT(path_of(kMaxImaPathBytes + 1), FailsWith(Reason::kImaForm));
  const auto old_path = [](std::size_t size) { return refusal(old_entry(std::string(size, 'x'), "")); };
  EXPECT_THAT(old_path(255), Succeeds());
  EXPECT_THAT(old_path(256), FailsWith(Reason::kImaForm));
  EXPECT_THAT(old_path(0), FailsWith(Reason::kImaForm));
  const auto signature_of = [](std::size_t size) { return refusal(signed_entry("/a", "", Bytes(size, 3))); };
  EXPECT_THAT(signature_of(0), Succeeds());
  EXPECT_THAT(signature_of(kMaxImaSignatureBytes), Succeeds());
  EXPECT_THAT(signature_of(kMaxImaSignatureBytes + 1), FailsWith(Reason::kImaForm));
  Bytes long_data;
  put_size(long_data, 10);
  long_data.resize(24, 1);
  put_field(long_data, as_bytes("ima-ng"));
  put_field(long_data, Bytes(kMaxImaDataBytes + 1));
  EXPECT_THAT(refusal(long_data), FailsWith(Reason::kImaForm));
}

TEST(Ima, OfManyEntriesAStepHasSoMany) {
  const Bytes one = old_entry("/x", "");
  Bytes many;
  for (std::size_t i = 0; i < kMaxImaEntries; ++i) put(many, one);
  EXPECT_THAT(refusal(many), Succeeds());
  put(many, one);
  EXPECT_THAT(refusal(many), FailsWith(Reason::kImaForm));
  EXPECT_THAT(refusal(Bytes(kMaxImaListBytes + 1)), FailsWith(Reason::kImaForm));
}

TEST(Ima, WhatIsNoEntryIsRefused) {
  const ByteArray<32> digest{1};
  const Bytes data = data_of("sha256", digest, "/a");
  EXPECT_THAT(refusal(entry_of("ima-ng", data)), Succeeds());
  EXPECT_THAT(refusal(entry_of("ima-ng", data, {}, 11)), FailsWith(Reason::kImaForm));
  for (const std::string_view name : {"ima-ngv2", "ima-sigv2", "ima-buf", "ima-modsig", "evm-sig", "", "IMA"})
    EXPECT_THAT(refusal(entry_of(name, data)), FailsWith(Reason::kImaForm)) << name;
  EXPECT_THAT(refusal(entry_of("ima-ng", data, ByteView{digest}.first(20))), FailsWith(Reason::kImaForm));
  EXPECT_THAT(refusal(entry_of("ima-sig", data)), FailsWith(Reason::kImaForm));  // no third field
  Bytes longer = data;
  put_field(longer, {});
  EXPECT_THAT(refusal(entry_of("ima-sig", longer)), Succeeds());
  EXPECT_THAT(refusal(entry_of("ima-ng", longer)), FailsWith(Reason::kImaForm));
  for (const std::string_view name : {"md5", "sha224", "sm3", "SHA256", "unknown", ""})
    EXPECT_THAT(refusal(entry_of("ima-ng", data_of(name, digest, "/a"))), FailsWith(Reason::kImaForm))
        << name;
  EXPECT_THAT(refusal(entry_of("ima-ng", data_of("sha256", ByteView{digest}.first(31), "/a"))),
              FailsWith(Reason::kImaForm));
  EXPECT_THAT(refusal(entry_of("ima-ng", data_of("sha1", digest, "/a"))), FailsWith(Reason::kImaForm));
  using namespace std::string_view_literals;
  EXPECT_THAT(refusal(entry_of("ima-ng", data_of("sha256", digest, "/a\0b"sv))), FailsWith(Reason::kImaForm));
  Bytes open = data;
  open.back() = 'x';  // the path's NUL
  EXPECT_THAT(refusal(entry_of("ima-ng", open)), FailsWith(Reason::kImaForm));
  Bytes bare = data;
  bare[4 + 7] = 1;  // the NUL after "sha256:"
  EXPECT_THAT(refusal(entry_of("ima-ng", bare)), FailsWith(Reason::kImaForm));
}

TEST(Ima, NamesTheEntryAndTheTemplateThatItRefuses) {
  const ByteArray<32> digest{1};
  const auto refused =
      refusal(joined({ng_entry("/a", ""), entry_of("ima-\nbuf", data_of("sha256", digest, "/b"))}));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().what, "entry 1: template \"ima-\\x0abuf\"");
}

TEST(Ima, OldestTemplateIsHashedInItsField) {
  const ImaList list =
      value_of(ImaList::parse(joined({old_entry("/bin/sh", "x"), old_entry("/bin/ls", "y")})));
  ASSERT_EQ(list.entries().size(), 2u);
  EXPECT_EQ(list.entries()[1].form, ImaTemplate::kIma);
  EXPECT_EQ(list.entries()[1].path, "/bin/ls");
  EXPECT_EQ(to_hex(list.entries()[1].digest), to_hex(ByteView{crypto::sha1(as_bytes("y"))}));
}

// ---- replay

TEST(Ima, RunsAheadOfTheQuoteAndGoesOnFromIt) {
  const ImaList whole = list_of("ima-sha1.log");
  const ByteView bytes = whole.bytes();
  const Bytes last = known_pcr(known_values().at("ima-sha1.log"), ImaExtension::kOwnHash, kSha256);
  for (const std::size_t count : {0, 1, 2, 200, 361, 362}) {
    SCOPED_TRACE(count);
    const std::size_t cut = count == 0 ? 0 : whole.entries()[count - 1].end;
    const ImaList begin = value_of(ImaList::parse(to_bytes(bytes.first(cut))));
    const ImaPosition at = replayed(begin).position();
    const ReplayedIma first = value_of(replay_ima_to(whole, ImaPosition::start(kSha256), at.pcr10()));
    EXPECT_EQ(first.entries().size(), count);
    EXPECT_EQ(first.position(), at);
    EXPECT_EQ(at.offset, cut);
    const ImaList rest = value_of(ImaList::parse(to_bytes(bytes.subspan(cut))));
    const ReplayedIma second = value_of(replay_ima_to(rest, at, last));
    EXPECT_EQ(second.entries().size(), 362 - count);
    EXPECT_EQ(second.position().entries, 362u);
    EXPECT_EQ(second.position().offset, bytes.size());
    if (count > 0 && count < 362) {
      // Another part than the next one does not go on from there.
      EXPECT_THAT(replay_ima_to(whole, at, last), FailsWith(Reason::kImaReplay));
    }
  }
  EXPECT_THAT(replay_ima_to(whole, ImaPosition::start(kSha256), ByteView{last}.first(20)),
              FailsWith(Reason::kImaReplay));
}

TEST(Ima, HowABankIsExtendedDoesNotChangeWithinABoot) {
  const ImaList first = value_of(ImaList::parse(ng_entry("/a", "1"))),
                next = value_of(ImaList::parse(ng_entry("/b", "2")));
  const ImaPosition padded = replayed(first, ImaExtension::kPaddedSha1).position();
  EXPECT_EQ(padded.extension, ImaExtension::kPaddedSha1);
  EXPECT_THAT(replay_ima(next, padded, ImaExtension::kOwnHash), FailsWith(Reason::kImaReplay));
  ImaPosition other = padded;
  other.extension = ImaExtension::kOwnHash;
  const ImaPosition wrong = value_of(replay_ima(next, other, ImaExtension::kOwnHash)).position();
  EXPECT_THAT(replay_ima_to(next, padded, wrong.pcr10()), FailsWith(Reason::kImaReplay));
  EXPECT_THAT(replay_ima_to(next, other, wrong.pcr10()), Succeeds());
}

TEST(Ima, OfAQuoteVerifies) {
  const ImaList list = list_of("ima-sha1.log");
  const PcrSelection with = value_of(PcrSelection::from_mask(1 << 0 | 1 << 10 | 1 << 14));
  SoftTpm tpm;
  for (const ImaEntry& entry : list.entries().first(300)) tpm.extend(10, crypto::sha256(entry.data));
  const Digest256 binding = file_digest("binding");
  const auto quoted = [&](const PcrSelection& selection) {
    return value_of(
        verify_quote(tpm.quote(binding, selection), tpm.ak(), binding, selection, tpm.pcr_values(selection)));
  };
  const ImaPosition start = ImaPosition::start(kSha256);
  const ReplayedIma verified = value_of(verify_ima_list(list, start, quoted(with)));
  EXPECT_EQ(verified.entries().size(), 300u);
  EXPECT_EQ(verified.position().extension, ImaExtension::kOwnHash);
  EXPECT_THAT(verify_ima_list(list, start, quoted(PcrSelection::standard())), FailsWith(Reason::kImaReplay));
  EXPECT_THAT(verify_ima_list(list, ImaPosition::start(kSha1), quoted(with)), FailsWith(Reason::kImaReplay));
  const VerifiedQuote bare = value_of(verify_quote(tpm.quote(binding, with), tpm.ak(), binding, with));
  EXPECT_THAT(verify_ima_list(list, start, bare), FailsWith(Reason::kImaReplay));
  tpm.extend(10, file_digest("what the list does not have"));
  EXPECT_THAT(verify_ima_list(list, start, quoted(with)), FailsWith(Reason::kImaReplay));
}

// ---- appraisal

ImaRules allowing(std::string_view text) {
  ImaRules rules;
  rules.allowed = value_of(ImaAllowList::parse(text));
  return rules;
}
std::string line_of(std::string_view path, std::string_view content) {
  return "sha256:" + to_hex(file_digest(content)) + " " + std::string{path} + "\n";
}

TEST(Ima, ExpectsPairsOfPathAndDigest) {
  const ImaList list = value_of(ImaList::parse(
      joined({ng_entry("boot_aggregate", "pcrs"), ng_entry("/bin/a b", "1"), ng_entry("/bin/c", "2")})));
  const ReplayedIma whole = replayed(list);
  EXPECT_THAT(appraise_ima(whole, allowing(line_of("/bin/a b", "1") + line_of("/bin/c", "2"))), Succeeds());
  EXPECT_THAT(appraise_ima(whole, allowing(line_of("/bin/a b", "1") + line_of("/bin/c", "3") +
                                           line_of("/bin/c", "2"))),
              Succeeds());
  // Each file is known, but at the other's place.
  const ImaRules swapped = allowing(line_of("/bin/a b", "2") + line_of("/bin/c", "1"));
  EXPECT_THAT(appraise_ima(whole, swapped), FailsWith(Reason::kImaUnexpected));
  const auto found = find_unexpected_ima(whole, allowing(line_of("/bin/a b", "1")));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->number, 2u);
  EXPECT_EQ(found->entry->path, "/bin/c");
  const auto told = appraise_ima(whole, allowing(line_of("/bin/a b", "1")));
  ASSERT_THAT(told, FailsWith(Reason::kImaUnexpected));
  EXPECT_EQ(told.error().what, "entry 2, /bin/c (sha256:" + to_hex(file_digest("2")) +
                                   "): it is not in the allow list, and it has no signature");
}

TEST(Ima, BootAggregateIsExpectedAtItsPlaceAlone) {
  const Bytes aggregate = ng_entry("boot_aggregate", "pcrs");
  const ImaList one = value_of(ImaList::parse(aggregate)),
                two = value_of(ImaList::parse(joined({aggregate, aggregate})));
  EXPECT_THAT(appraise_ima(replayed(one), {}), Succeeds());
  EXPECT_THAT(appraise_ima(replayed(two), {}), FailsWith(Reason::kImaUnexpected));
  // The next part begins with number 1.
  const ReplayedIma next = value_of(replay_ima(one, replayed(one).position(), ImaExtension::kOwnHash));
  const auto found = find_unexpected_ima(next, {});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->number, 1u);
}

TEST(Ima, ViolationsAreRefusedUnlessAllowed) {
  const ImaList list = value_of(ImaList::parse(violation("/var/log/x")));
  ASSERT_TRUE(list.entries()[0].violation);
  const ByteArray<32> zeros{};
  ImaRules rules = allowing("sha256:" + to_hex(ByteView{zeros}) + " /var/log/x\n");
  EXPECT_THAT(appraise_ima(replayed(list), rules), FailsWith(Reason::kImaUnexpected));
  rules.violations_allowed = true;
  EXPECT_THAT(appraise_ima(replayed(list), rules), Succeeds());
  const ImaList named = value_of(ImaList::parse(violation("boot_aggregate")));
  EXPECT_THAT(appraise_ima(replayed(named), {}), FailsWith(Reason::kImaUnexpected));
}

TEST(Ima, NothingRestsOnSha1) {
  const ImaList list = list_of("h12ssl-first-150.log");
  const ImaEntry& entry = list.entries()[1];
  const std::string line = "sha1:" + to_hex(entry.digest) + " " + std::string{entry.path} + "\n";
  EXPECT_THAT(ImaAllowList::parse(line), FailsWith(Reason::kImaForm));
  EXPECT_THAT(appraise_ima(replayed(list), {}), FailsWith(Reason::kImaUnexpected));
}

TEST(Ima, AllowListsHaveOneForm) {
  const std::string digest(64, 'a'), good = "sha256:" + digest + " /bin/a\n";
  EXPECT_EQ(value_of(ImaAllowList::parse("")).size(), 0u);
  EXPECT_EQ(value_of(ImaAllowList::parse(good + "sha512:" + std::string(128, '0') + " /bin/a\n")).size(), 2u);
  using namespace std::string_view_literals;
  for (const std::string& bad :
       {good.substr(0, good.size() - 1), good + good, good + "\n", "sha256:" + digest + "  /a\n" + "x\n",
        "sha384:" + digest + " /a\n", "sha256:" + std::string(64, 'A') + " /a\n", "sha256:" + digest + " \n",
        digest + " /a\n", "sha256:" + digest + "\n",
        "sha256:" + digest + " /" + std::string(4096, 'x') + "\n", "md5:" + std::string(32, 'a') + " /a\n",
        std::string{"sha256 /a:b\n"}, "sha256:" + digest + std::string{" /a\0b\n"sv}})
    EXPECT_THAT(ImaAllowList::parse(bad), FailsWith(Reason::kImaForm)) << bad;
}

// ---- signatures

crypto::PublicKey real_signer() {
  return value_of(crypto::PublicKey::from_p256_point(hex_file("signer.hex")));
}

TEST(Ima, SignaturesOfARealMachineVerify) {
  ImaKeys keys;
  ASSERT_THAT(keys.add(real_signer()), Succeeds());
  ASSERT_THAT(keys.add(real_signer()), Succeeds());  // it is the same
  const ImaList list = list_of("ima-sha256.log");
  std::size_t good = 0;
  for (const ImaEntry& entry : list.entries()) {
    if (entry.signature.empty()) {
      EXPECT_THAT(keys.verify(entry), FailsWith(Reason::kImaUnexpected));
      continue;
    }
    EXPECT_THAT(keys.verify(entry), Succeeds()) << entry.number;
    ++good;
    EXPECT_THAT(ImaKeys{}.verify(entry), FailsWith(Reason::kImaUnexpected));
    ImaEntry bad = entry;
    Bytes digest = to_bytes(entry.digest);
    digest[0] ^= 1;
    bad.digest = digest;
    EXPECT_THAT(keys.verify(bad), FailsWith(Reason::kImaUnexpected));
    for (std::size_t at = 0; at < entry.signature.size(); ++at) {
      Bytes signature = to_bytes(entry.signature);
      signature[at] ^= 1;
      bad = entry;
      bad.signature = signature;
      EXPECT_THAT(keys.verify(bad), FailsWith(Reason::kImaUnexpected)) << at;
    }
    for (std::size_t size = 0; size < entry.signature.size(); ++size) {
      bad = entry;
      bad.signature = entry.signature.first(size);
      EXPECT_THAT(keys.verify(bad), FailsWith(Reason::kImaUnexpected)) << size;
    }
  }
  EXPECT_EQ(good, 21u);
}

// A signer of this test, as evmctl ima_sign signs.
class Signer {
 public:
  explicit Signer(std::shared_ptr<EVP_PKEY> pkey) : pkey_(std::move(pkey)) {}
  static Signer rsa() { return Signer{{EVP_RSA_gen(2048), EVP_PKEY_free}}; }
  static Signer p256() { return Signer{{EVP_EC_gen("P-256"), EVP_PKEY_free}}; }
  static Signer p384() { return Signer{{EVP_EC_gen("P-384"), EVP_PKEY_free}}; }

  crypto::PublicKey key() const {
    std::uint8_t* der = nullptr;
    const int size = i2d_PUBKEY(pkey_.get(), &der);
    const Bytes spki(der, der + size);
    OPENSSL_free(der);
    return value_of(crypto::PublicKey::parse_spki(spki));
  }
  Bytes sign(ByteView digest, std::uint8_t algorithm, const EVP_MD* hash,
             int padding = RSA_PKCS1_PADDING) const {
    const crypto::PkeyCtxPtr ctx{EVP_PKEY_CTX_new(pkey_.get(), nullptr)};
    EXPECT_EQ(EVP_PKEY_sign_init(ctx.get()), 1);
    if (EVP_PKEY_is_a(pkey_.get(), "RSA") == 1) {
      EXPECT_EQ(EVP_PKEY_CTX_set_rsa_padding(ctx.get(), padding), 1);
    }
    EXPECT_EQ(EVP_PKEY_CTX_set_signature_md(ctx.get(), hash), 1);
    Bytes value(512);
    std::size_t size = value.size();
    EXPECT_EQ(EVP_PKEY_sign(ctx.get(), value.data(), &size, digest.data(), digest.size()), 1);
    value.resize(size);
    std::uint8_t* der = nullptr;
    const int der_size = i2d_PublicKey(pkey_.get(), &der);
    const ByteArray<20> id = crypto::sha1({der, static_cast<std::size_t>(der_size)});
    OPENSSL_free(der);
    Bytes out{3,
              2,
              algorithm,
              id[16],
              id[17],
              id[18],
              id[19],
              static_cast<std::uint8_t>(size >> 8),
              static_cast<std::uint8_t>(size)};
    put(out, value);
    return out;
  }

 private:
  std::shared_ptr<EVP_PKEY> pkey_;
};

TEST(Ima, SignedFilesAreExpectedAtAnyPath) {
  const Signer rsa = Signer::rsa(), ec = Signer::p384(), stranger = Signer::rsa();
  ImaRules rules;
  ASSERT_THAT(rules.keys.add(rsa.key()), Succeeds());
  ASSERT_THAT(rules.keys.add(ec.key()), Succeeds());
  const Digest256 digest = file_digest("content");
  const auto judged = [&](const Bytes& signature) {
    const ImaList list = value_of(ImaList::parse(signed_entry("/any/path", "content", signature)));
    return appraise_ima(replayed(list), rules);
  };
  constexpr std::uint8_t kKernelSha1 = 2, kKernelSha256 = 4, kKernelSha512 = 6;
  EXPECT_THAT(judged(rsa.sign(view(digest), kKernelSha256, EVP_sha256())), Succeeds());
  EXPECT_THAT(judged(ec.sign(view(digest), kKernelSha256, EVP_sha256())), Succeeds());
  EXPECT_THAT(judged(stranger.sign(view(digest), kKernelSha256, EVP_sha256())),
              FailsWith(Reason::kImaUnexpected));
  EXPECT_THAT(judged(rsa.sign(view(file_digest("other")), kKernelSha256, EVP_sha256())),
              FailsWith(Reason::kImaUnexpected));
  EXPECT_THAT(judged(rsa.sign(view(digest), kKernelSha256, EVP_sha256(), RSA_PKCS1_PSS_PADDING)),
              FailsWith(Reason::kImaUnexpected));
  EXPECT_THAT(judged(rsa.sign(view(digest), kKernelSha512, EVP_sha256())), FailsWith(Reason::kImaUnexpected));
  EXPECT_THAT(judged(rsa.sign(view(digest), kKernelSha1, EVP_sha256())), FailsWith(Reason::kImaUnexpected));
  Bytes third = rsa.sign(view(digest), kKernelSha256, EVP_sha256());
  third[1] = 3;  // format 3 signs something else
  EXPECT_THAT(judged(third), FailsWith(Reason::kImaUnexpected));
  EXPECT_THAT(judged({}), FailsWith(Reason::kImaUnexpected));
}

TEST(Ima, OfAnyOneMebibyteTakesLittleTimeAndMemory) {
  constexpr std::size_t kMebibyte = 1024 * 1024;
  const auto filled = [](const std::function<Bytes(std::size_t)>& entry) {
    Bytes out;
    for (std::size_t i = 0;; ++i) {
      const Bytes next = entry(i);
      if (out.size() + next.size() > kMebibyte) return out;
      put(out, next);
    }
  };
  constexpr std::uint8_t kKernelSha256 = 4;
  const Signer ec = Signer::p256(), rsa = Signer::rsa(), large = Signer::p384();
  // Of different files: of one that is measured again the signature is verified once. (That is all that keeps
  // P-384 below a second: README, "IMA lists".)
  const auto file_by = [&](const Signer& signer, std::size_t number) {
    const std::string content = "a file " + std::to_string(number);
    return signed_entry("/", content, signer.sign(view(file_digest(content)), kKernelSha256, EVP_sha256()));
  };
  const Bytes by_large = file_by(large, 0);
  ImaRules rules;
  ASSERT_THAT(rules.keys.add(large.key()), Succeeds());
  ASSERT_THAT(rules.keys.add(ec.key()), Succeeds());
  ASSERT_THAT(rules.keys.add(rsa.key()), Succeeds());
  std::string files;
  for (std::size_t i = 0; files.size() + 80 <= kMebibyte; ++i)
    files += "sha256:" + to_hex(file_digest(std::to_string(i))) + " /\n";

  struct Case {
    Bytes list;
    bool expected = false;  // all that is in it
  };
  const std::map<std::string, Case> lists{
      {"files", {filled([](std::size_t) { return ng_entry("/", "x"); })}},
      {"listed", {filled([](std::size_t i) { return ng_entry("/", std::to_string(i)); }), true}},
      {"signed", {filled([&](std::size_t i) { return file_by(ec, i); }), true}},
      {"by RSA", {filled([&](std::size_t i) { return file_by(rsa, i); }), true}},
      {"by P-384, again and again", {filled([&](std::size_t) { return by_large; }), true}},
      {"violations", {filled([](std::size_t) { return violation("/"); }), true}},
      {"old ones", {filled([](std::size_t) { return old_entry("/", "x"); })}},
      {"long paths", {filled([](std::size_t) { return ng_entry(std::string(kMaxImaPathBytes, 'x'), "x"); })}},
      {"zeros", {Bytes(kMebibyte, 0)}},
      {"ones", {Bytes(kMebibyte, 0xFF)}}};
  rules.violations_allowed = true;
  const test::Taken by_list = test::taken_by([&] { rules.allowed = value_of(ImaAllowList::parse(files)); });
  EXPECT_LT(by_list.most_bytes, std::size_t{64} << 20);
  EXPECT_LT(by_list.seconds, test::kASecond);
  for (const auto& [name, one] : lists) {
    SCOPED_TRACE(name);
    Bytes input = one.list;
    const test::Taken taken = test::taken_by([&, expected = one.expected] {
      const auto list = ImaList::parse(std::move(input));
      if (!list.has_value()) {
        EXPECT_THAT(list, FailsWith(Reason::kImaForm));
        return;
      }
      for (const ImaExtension extension : kExtensions)
        EXPECT_THAT(replay_ima(*list, ImaPosition::start(kSha256), extension), Succeeds());
      EXPECT_EQ(appraise_ima(replayed(*list), rules).has_value(), expected);
    });
    EXPECT_LT(taken.most_bytes, std::size_t{64} << 20);
    EXPECT_LT(taken.seconds, test::kASecond);
  }
}

TEST(Ima, KeysThatSignNoFilesAreRefused) {
  ImaKeys keys;
  EXPECT_THAT(keys.add(crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519).public_key()),
              FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::evidence

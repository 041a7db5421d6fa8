#include "attestation/record/entry.h"

#include <gtest/gtest.h>

#include <functional>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/batch.h"
#include "tests/support/matchers.h"
#include "tests/support/record_samples.h"

namespace sallyport::record {
namespace {

using crypto::KeyAlgorithm;
using crypto::PrivateKey;
using test::FailsWith;
using test::sample_blobs;
using test::sample_statement;
using test::Succeeds;
using test::value_of;

Blob blob(EvidenceType type, std::string_view text) {
  return {type, to_bytes(as_bytes(text))};
}

class EntryTest : public testing::Test {
 protected:
  Entry entry(Kind kind) const {
    return test::sample_entry(
        kind, encode_envelope(test::sample_envelope(sample_statement(kind_name(kind)), key_)));
  }
  Body body_of(Kind kind) const { return value_of(parse_body(entry(kind).body)); }
  PrivateKey key_ = PrivateKey::generate(KeyAlgorithm::kP256);
};

TEST_F(EntryTest, EveryKindOpensAndGivesBackItsBody) {
  for (unsigned number = 1; number <= 13; ++number) {
    const Kind kind = value_of(parse_kind(static_cast<std::uint8_t>(number)));
    const Entry made = entry(kind);
    const Body body = value_of(open_body(made));
    EXPECT_EQ(body.kind, kind);
    EXPECT_EQ(encode_body(body), made.body);
    EXPECT_EQ(body.items.size(), sample_blobs(kind).size());
    const Envelope envelope = value_of(open_envelope(body));
    EXPECT_EQ(envelope.payload, sample_statement(kind_name(kind)).payload);
    EXPECT_EQ(envelope.signatures.size(), is_unsigned(kind) ? 0u : 1u);
    for (const EvidenceItem& item : body.items) {
      const Blob* found = BlobIndex{made.blobs}.find(item);
      ASSERT_NE(found, nullptr);
      EXPECT_EQ(item_of(*found), item);
    }
  }
}

TEST_F(EntryTest, CommitmentIsHmacOfTheBody) {
  const Entry made = entry(Kind::kRequest);
  EXPECT_EQ(made.leaf.commitment, crypto::hmac_sha256(view(made.nonce), made.body));
  Entry other = made;
  other.nonce = Nonce{crypto::sha256(as_bytes("other")).get()};
  EXPECT_THAT(open_body(other), FailsWith(Reason::kLogBody));
}

TEST_F(EntryTest, RefusesEveryFlippedBitOfBodyNonceAndLeaf) {
  const Entry made = entry(Kind::kDenial);
  for (std::size_t i = 0; i < made.body.size(); ++i) {
    Entry other = made;
    other.body[i] ^= 1;
    EXPECT_THAT(open_body(other), FailsWith(Reason::kLogBody));
  }
  Entry other = made;
  other.leaf.kind = static_cast<std::uint8_t>(Kind::kApproval);
  EXPECT_THAT(open_body(other), FailsWith(Reason::kLogBody));
  other = made;
  other.leaf.time = UnixMillis{made.leaf.time.get() + 1};
  EXPECT_THAT(open_body(other), FailsWith(Reason::kLogBody));
  other = made;
  other.leaf.case_id = CaseId{};
  EXPECT_THAT(open_body(other), FailsWith(Reason::kLogBody));
  other = made;
  other.body.push_back(0);
  other.leaf.commitment = commitment(other.nonce, other.body);
  EXPECT_THAT(open_body(other), FailsWith(Reason::kLogBody));
}

TEST_F(EntryTest, BlobsAreThoseTheBodyNames) {
  const Entry made = entry(Kind::kRequest);
  Entry fewer = made;
  fewer.blobs.pop_back();
  EXPECT_THAT(open_body(fewer), Succeeds());
  Entry changed = made;
  changed.blobs[0].bytes.push_back(0);
  EXPECT_THAT(open_body(changed), FailsWith(Reason::kLogBody));
  Entry retyped = made;
  retyped.blobs[0].type = EvidenceType::kPolicyText;
  EXPECT_THAT(open_body(retyped), FailsWith(Reason::kLogBody));
  Entry more = made;
  more.blobs.push_back(blob(EvidenceType::kEkCertificate, "x"));
  EXPECT_THAT(open_body(more), FailsWith(Reason::kLogBody));
  Entry twice = made;
  twice.blobs.push_back(made.blobs.back());
  EXPECT_THAT(open_body(twice), FailsWith(Reason::kLogBody));
  Entry unsorted = made;
  std::swap(unsorted.blobs[0], unsorted.blobs[1]);
  EXPECT_THAT(open_body(unsorted), FailsWith(Reason::kLogBody));
}

TEST_F(EntryTest, MakesItemsOfPresentAndAbsentBlobsOnce) {
  const Blob a = blob(EvidenceType::kAttachment, "a"), b = blob(EvidenceType::kAttachment, "b");
  const Blob quote = blob(EvidenceType::kQuote, "q");
  const Entry made = make_entry(Kind::kRequest, UnixMillis{1}, CaseId{}, 5, as_bytes("{}"), {b, quote, a, b},
                                Nonce{}, {item_of(a), item_of(blob(EvidenceType::kAttachment, "elsewhere"))});
  EXPECT_EQ(made.leaf.predecessor, 5u);
  EXPECT_EQ(made.blobs.size(), 3u);
  const Body body = value_of(open_body(made));
  EXPECT_EQ(body.items.size(), 4u);
  EXPECT_EQ(body.items[0], item_of(quote));
  EXPECT_EQ(items_of_type(body, EvidenceType::kAttachment).size(), 3u);
  EXPECT_TRUE(items_of_type(body, EvidenceType::kNote).empty());
  EXPECT_EQ(BlobIndex{made.blobs}.find(item_of(blob(EvidenceType::kAttachment, "elsewhere"))), nullptr);
  EXPECT_EQ(BlobIndex{made.blobs}.find(item_of(b))->bytes, b.bytes);
}

TEST_F(EntryTest, RefusesItemsUnsortedTwiceUnknownOrTooLarge) {
  const Body good = body_of(Kind::kRequest);
  ASSERT_THAT(parse_body(encode_body(good)), Succeeds());
  Body bad = good;
  std::swap(bad.items[0], bad.items[1]);
  EXPECT_THAT(parse_body(encode_body(bad)), FailsWith(Code::kMalformed));
  bad = good;
  bad.items.push_back(bad.items.back());
  EXPECT_THAT(parse_body(encode_body(bad)), FailsWith(Code::kMalformed));
  bad = good;
  bad.items.push_back(bad.items.back());
  bad.items.back().size += 1;  // the same bytes cannot have two sizes
  EXPECT_THAT(parse_body(encode_body(bad)), FailsWith(Code::kMalformed));
  bad = good;
  for (const unsigned type : {0u, 15u, 255u}) {
    bad.items = {{static_cast<EvidenceType>(type), 0, {}}};
    EXPECT_THAT(parse_body(encode_body(bad)), FailsWith(Code::kMalformed));
  }
  bad.items = {{EvidenceType::kObservation, 512, {}}};
  EXPECT_THAT(parse_body(encode_body(bad)), Succeeds());
  bad.items[0].size = 513;
  EXPECT_THAT(parse_body(encode_body(bad)), FailsWith(Code::kMalformed));
}

TEST_F(EntryTest, BoundsItemsAndEnvelope) {
  Body body = body_of(Kind::kApproval);
  body.items.clear();
  for (std::size_t i = 0; i < kMaxItems; ++i) {
    ByteArray<32> digest{};
    digest[0] = static_cast<std::uint8_t>(i);
    body.items.push_back({EvidenceType::kAttachment, 1, Digest256{digest}});
  }
  EXPECT_THAT(parse_body(encode_body(body)), Succeeds());
  ByteArray<32> last{};
  last[0] = 0xFF;
  body.items.push_back({EvidenceType::kAttachment, 1, Digest256{last}});
  EXPECT_THAT(parse_body(encode_body(body)), FailsWith(Code::kMalformed));
  body.items.clear();
  body.envelope.assign(kMaxEnvelopeBytes, 'x');
  EXPECT_THAT(parse_body(encode_body(body)), Succeeds());
  body.envelope.assign(kMaxEnvelopeBytes + 1, 'x');
  EXPECT_THAT(parse_body(encode_body(body)), FailsWith(Code::kMalformed));
  body.kind = Kind::kPolicy;
  body.envelope.assign(kMaxClosingEnvelopeBytes, 'x');
  EXPECT_THAT(parse_body(encode_body(body)), Succeeds());
  EXPECT_LE(encode_body(body).size() + kMaxItems * 41, kMaxBodyBytes);
  body.envelope.assign(kMaxClosingEnvelopeBytes + 1, 'x');
  EXPECT_THAT(parse_body(encode_body(body)), FailsWith(Code::kMalformed));
  body.envelope.clear();
  EXPECT_THAT(parse_body(encode_body(body)), FailsWith(Code::kMalformed));
}

TEST_F(EntryTest, RefusesEveryTruncationOfABody) {
  const Bytes good = entry(Kind::kRequest).body;
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_THAT(parse_body(ByteView{good}.first(size)), FailsWith(Code::kMalformed));
  Bytes longer = good;
  longer.push_back(0);
  EXPECT_THAT(parse_body(longer), FailsWith(Code::kMalformed));
}

TEST_F(EntryTest, RefusesEnvelopesOfAnotherKindOrWithOtherSigners) {
  Body body = body_of(Kind::kDenial);
  body.kind = Kind::kApproval;
  EXPECT_THAT(open_envelope(body), FailsWith(Code::kMalformed));
  body = body_of(Kind::kDenial);
  Envelope envelope = value_of(open_envelope(body));
  Envelope none = envelope;
  none.signatures.clear();
  body.envelope = encode_envelope(none);
  EXPECT_THAT(open_envelope(body), FailsWith(Code::kMalformed));
  const PrivateKey other = PrivateKey::generate(KeyAlgorithm::kP256);
  const SignDigest sign = [&](const Digest256& digest) { return other.sign_p256(digest); };
  body.envelope = encode_envelope(value_of(add_signature(envelope, other.public_key(), sign)));
  EXPECT_THAT(open_envelope(body), FailsWith(Code::kMalformed));
  body = body_of(Kind::kGrant);
  body.envelope =
      encode_envelope(value_of(add_signature(value_of(open_envelope(body)), other.public_key(), sign)));
  EXPECT_THAT(open_envelope(body), FailsWith(Code::kMalformed));
}

TEST_F(EntryTest, EvidenceDigestIsOfTheItemsBytes) {
  EXPECT_EQ(evidence_digest({}), crypto::sha256(ByteView{}));
  const Blob a = blob(EvidenceType::kNote, "abc");
  Bytes bytes = {3, 0, 0, 0, 0, 0, 0, 0, 3};
  const Digest256 digest = crypto::sha256(as_bytes("abc"));
  bytes.insert(bytes.end(), digest.get().begin(), digest.get().end());
  EXPECT_EQ(evidence_digest({item_of(a)}), crypto::sha256(bytes));
}

TEST(Evidence, ContainersGiveBackWhatTheyAccept) {
  const Bytes quote = encode(test::sample_quote()), key = encode(test::sample_key()),
              seen = encode(test::sample_observation());
  EXPECT_EQ(encode(value_of(parse_quote_evidence(quote))), quote);
  EXPECT_EQ(value_of(parse_quote_evidence(quote)).pcrs.size(), 3u);
  EXPECT_EQ(encode(value_of(parse_key_evidence(key))), key);
  EXPECT_EQ(encode(value_of(parse_observation(seen))), seen);
  for (std::size_t size = 0; size < quote.size(); ++size)
    EXPECT_THAT(parse_quote_evidence(ByteView{quote}.first(size)), FailsWith(Code::kMalformed));
  for (std::size_t size = 0; size < key.size(); ++size)
    EXPECT_THAT(parse_key_evidence(ByteView{key}.first(size)), FailsWith(Code::kMalformed));
}

TEST(Evidence, IdentityGivesBackWhatItAcceptsAndNeedsItsParts) {
  const evidence::IdentityEvidence whole{{Bytes(100, 1), Bytes(72, 2)}, Bytes(400, 3)};
  const Bytes bytes = encode(whole);
  EXPECT_EQ(encode(value_of(parse_identity_evidence(bytes))), bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THAT(parse_identity_evidence(ByteView{bytes}.first(size)), FailsWith(Code::kMalformed)) << size;
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_THAT(parse_identity_evidence(longer), FailsWith(Code::kMalformed));
  for (int part = 0; part < 3; ++part) {
    evidence::IdentityEvidence lacking = whole;
    (part == 0 ? lacking.audit.attest : part == 1 ? lacking.audit.signature : lacking.created).clear();
    EXPECT_THAT(parse_identity_evidence(encode(lacking)), FailsWith(Code::kMalformed)) << part;
  }
  evidence::IdentityEvidence large = whole;
  large.created.assign(4096, 1);
  EXPECT_THAT(parse_identity_evidence(encode(large)), FailsWith(Code::kMalformed));
}

TEST(Evidence, QuoteOfPcr10HasOneEncoding) {
  // README.md, "Body": u32-prefixed attest and signature, the value, u8 count, the parts.
  const Digest256 first{ByteArray<32>{0x11}}, second{ByteArray<32>{0x22}};
  const ImaQuoteEvidence whole{{0xA1, 0xA2}, {0xB1}, ByteArray<32>{0xC1}, {first, second, first}};
  const Bytes bytes = encode(whole);
  const std::string zeros(62, '0');
  EXPECT_EQ(to_hex(bytes),
            "00000002a1a2"
            "00000001b1"
            "c1" +
                zeros +
                "03"
                "11" +
                zeros + "22" + zeros + "11" + zeros);
  const ImaQuoteEvidence back = value_of(parse_ima_quote_evidence(bytes));
  EXPECT_EQ(encode(back), bytes);
  EXPECT_EQ(back.parts, whole.parts);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THAT(parse_ima_quote_evidence(ByteView{bytes}.first(size)), FailsWith(Code::kMalformed)) << size;
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_THAT(parse_ima_quote_evidence(longer), FailsWith(Code::kMalformed));
  const auto edited = [&](const std::function<void(ImaQuoteEvidence&)>& edit) {
    ImaQuoteEvidence other = whole;
    edit(other);
    return parse_ima_quote_evidence(encode(other));
  };
  EXPECT_THAT(edited([](auto& one) { one.attest.clear(); }), FailsWith(Code::kMalformed));
  EXPECT_THAT(edited([](auto& one) { one.signature.clear(); }), FailsWith(Code::kMalformed));
  EXPECT_THAT(edited([](auto& one) { one.parts.clear(); }), FailsWith(Code::kMalformed));
  EXPECT_THAT(edited([](auto& one) { one.parts.resize(evidence::kMaxImaParts); }), Succeeds());
  Bytes many = encode(ImaQuoteEvidence{{1}, {2}, {}, std::vector<Digest256>(evidence::kMaxImaParts)});
  many[10 + 32] = static_cast<std::uint8_t>(evidence::kMaxImaParts + 1);
  many.resize(many.size() + 32);
  EXPECT_THAT(parse_ima_quote_evidence(many), FailsWith(Code::kMalformed));
  // The largest there can be is within its cap; a part of a list has one too.
  EXPECT_LT(encode(ImaQuoteEvidence{Bytes(200), Bytes(300), {}, std::vector<Digest256>(32)}).size(),
            max_evidence_bytes(EvidenceType::kImaQuote));
  EXPECT_EQ(max_evidence_bytes(EvidenceType::kImaList), evidence::kMaxImaPartBytes);
  EXPECT_FALSE(travels(EvidenceType::kImaList) || travels(EvidenceType::kImaQuote));
}

TEST(Evidence, QuoteNeedsItsPartsAndWholePcrs) {
  QuoteEvidence quote = test::sample_quote();
  quote.pcrs.assign(24, ByteArray<32>{});
  EXPECT_THAT(parse_quote_evidence(encode(quote)), Succeeds());
  quote.pcrs.assign(25, ByteArray<32>{});
  EXPECT_THAT(parse_quote_evidence(encode(quote)), FailsWith(Code::kMalformed));
  quote.pcrs.clear();
  EXPECT_THAT(parse_quote_evidence(encode(quote)), FailsWith(Code::kMalformed));
  quote = test::sample_quote();
  quote.attest.clear();
  EXPECT_THAT(parse_quote_evidence(encode(quote)), FailsWith(Code::kMalformed));
  Writer half;
  half.prefixed32(as_bytes("a")).prefixed32(as_bytes("s")).prefixed32(Bytes(33, 0));
  EXPECT_THAT(parse_quote_evidence(half.bytes()), FailsWith(Code::kMalformed));
  KeyEvidence key = test::sample_key();
  key.signature.clear();
  EXPECT_THAT(parse_key_evidence(encode(key)), FailsWith(Code::kMalformed));
  key.signature.assign(4096, 1);
  EXPECT_THAT(parse_key_evidence(encode(key)), FailsWith(Code::kMalformed));
}

TEST(Evidence, ObservationIsAnAddressAndACountryOrNone) {
  const auto seen = [](std::string address, std::string country) {
    return parse_observation(encode(Observation{std::move(address), std::move(country), UnixMillis{1}}));
  };
  EXPECT_THAT(seen("2001:db8::1", "DE"), Succeeds());
  EXPECT_THAT(seen("10.0.0.1", ""), Succeeds());
  EXPECT_THAT(seen("", "DE"), FailsWith(Code::kMalformed));
  EXPECT_THAT(seen("10.0.0.1 ", "DE"), FailsWith(Code::kMalformed));
  EXPECT_THAT(seen("2001:DB8::1", "DE"), FailsWith(Code::kMalformed));
  EXPECT_THAT(seen("10.0.0.1", "de"), FailsWith(Code::kMalformed));
  EXPECT_THAT(seen("10.0.0.1", "D"), FailsWith(Code::kMalformed));
  EXPECT_THAT(seen("10.0.0.1", "DEU"), FailsWith(Code::kMalformed));
}

TEST(Blobs, TravelSortedAndOnce) {
  const Blob a = blob(EvidenceType::kAttachment, "a"), quote = blob(EvidenceType::kQuote, "q");
  Writer out;
  write_blobs({a, quote, a}, out);
  Reader in{out.bytes()};
  const std::vector<Blob> parsed = value_of(parse_blobs(in));
  EXPECT_THAT(in.finish(), Succeeds());
  ASSERT_EQ(parsed.size(), 2u);
  EXPECT_EQ(parsed[0].type, EvidenceType::kQuote);
  const auto refused = [](const Writer& bytes, std::size_t cap = kMaxItems) {
    Reader reader{bytes.bytes()};
    return parse_blobs(reader, cap);
  };
  Writer twice;
  twice.u16(2).u8(1).prefixed32(as_bytes("q")).u8(1).prefixed32(as_bytes("q"));
  EXPECT_THAT(refused(twice), FailsWith(Code::kMalformed));
  Writer unsorted;
  unsorted.u16(2).u8(5).prefixed32(as_bytes("a")).u8(1).prefixed32(as_bytes("q"));
  EXPECT_THAT(refused(unsorted), FailsWith(Code::kMalformed));
  Writer unknown;
  unknown.u16(1).u8(15).prefixed32(as_bytes("a"));
  EXPECT_THAT(refused(unknown), FailsWith(Code::kMalformed));
  Writer large;
  large.u16(1).u8(4).prefixed32(Bytes(513, 'a'));
  EXPECT_THAT(refused(large), FailsWith(Code::kMalformed));
  EXPECT_THAT(refused(out, 1), FailsWith(Code::kMalformed));
  Writer missing;
  missing.u16(2).u8(1).prefixed32(as_bytes("q"));
  EXPECT_THAT(refused(missing), FailsWith(Code::kMalformed));
}

TEST(Submissions, GiveBackWhatTheyAccept) {
  const Submission made{to_bytes(as_bytes("{}")), sample_blobs(Kind::kRequest)};
  const Bytes bytes = encode(made);
  const Submission parsed = value_of(parse_submission(bytes));
  EXPECT_EQ(parsed.envelope, made.envelope);
  EXPECT_EQ(parsed.blobs.size(), made.blobs.size());
  EXPECT_EQ(encode(parsed), bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THAT(parse_submission(ByteView{bytes}.first(size)), FailsWith(Code::kMalformed));
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_THAT(parse_submission(longer), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_submission(encode(Submission{{}, {}})), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_submission(encode(Submission{Bytes(kMaxEnvelopeBytes + 1, 'x'), {}})),
              FailsWith(Code::kMalformed));
}

class BatchTest : public EntryTest {
 protected:
  Batch batch() const {
    Batch out;
    out.from = LeafIndex{7};
    out.note = "note\n";
    for (unsigned number = 1; number <= 13; ++number) {
      const Kind kind = value_of(parse_kind(static_cast<std::uint8_t>(number)));
      const Entry made = entry(kind);
      if (is_control(kind)) out.controls.push_back({LeafIndex{7 + out.leaves.size()}, made});
      out.leaves.push_back(made.leaf);
    }
    return out;
  }
};

TEST_F(BatchTest, GivesBackWhatItAccepts) {
  const Batch made = batch();
  ASSERT_EQ(made.controls.size(), 5u);
  const Bytes bytes = encode_batch(made);
  const Batch parsed = value_of(parse_batch(bytes));
  EXPECT_EQ(encode_batch(parsed), bytes);
  EXPECT_EQ(parsed.from, made.from);
  EXPECT_EQ(parsed.leaves, made.leaves);
  EXPECT_EQ(parsed.note, made.note);
  ASSERT_EQ(parsed.controls.size(), made.controls.size());
  for (std::size_t i = 0; i < parsed.controls.size(); ++i) {
    EXPECT_EQ(parsed.controls[i].index, made.controls[i].index);
    EXPECT_EQ(parsed.controls[i].entry.leaf, made.controls[i].entry.leaf);
    EXPECT_THAT(open_body(parsed.controls[i].entry), Succeeds());
  }
  const Batch empty{LeafIndex{0}, {}, {}, ""};
  EXPECT_THAT(parse_batch(encode_batch(empty)), Succeeds());
}

TEST_F(BatchTest, WantsExactlyTheBodiesOfControlLeaves) {
  Batch bad = batch();
  bad.controls.pop_back();
  EXPECT_THAT(parse_batch(encode_batch(bad)), FailsWith(Reason::kLogMissingBody));
  bad = batch();
  bad.controls.push_back(bad.controls.back());
  EXPECT_THAT(parse_batch(encode_batch(bad)), FailsWith(Reason::kLogMissingBody));
  bad = batch();
  std::swap(bad.controls[0], bad.controls[1]);
  EXPECT_THAT(parse_batch(encode_batch(bad)), FailsWith(Reason::kLogMissingBody));
  bad = batch();
  bad.controls[0].index = LeafIndex{bad.controls[0].index.get() + 1};
  EXPECT_THAT(parse_batch(encode_batch(bad)), FailsWith(Reason::kLogMissingBody));
  bad = batch();
  bad.leaves[1].kind = static_cast<std::uint8_t>(Kind::kGrant);  // a control leaf without its body
  EXPECT_THAT(parse_batch(encode_batch(bad)), FailsWith(Reason::kLogMissingBody));
}

TEST_F(BatchTest, RefusesUnknownKindsAndTooMuch) {
  Batch bad = batch();
  bad.leaves[1].kind = 14;
  EXPECT_THAT(parse_batch(encode_batch(bad)), FailsWith(Code::kMalformed));
  Batch many{LeafIndex{0}, std::vector<ledger::Leaf>(kMaxBatchLeaves, batch().leaves[5]), {}, ""};
  EXPECT_THAT(parse_batch(encode_batch(many)), Succeeds());
  many.leaves.push_back(many.leaves.back());
  EXPECT_THAT(parse_batch(encode_batch(many)), FailsWith(Code::kMalformed));
  bad = batch();
  bad.note.assign((16 << 10) + 1, 'n');
  EXPECT_THAT(parse_batch(encode_batch(bad)), FailsWith(Code::kMalformed));
  bad = batch();
  bad.from = LeafIndex{~std::uint64_t{0}};
  EXPECT_THAT(parse_batch(encode_batch(bad)), FailsWith(Code::kMalformed));
}

TEST_F(BatchTest, RefusesEveryTruncation) {
  const Bytes bytes = encode_batch(batch());
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THAT(parse_batch(ByteView{bytes}.first(size)), FailsWith(Code::kMalformed));
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_THAT(parse_batch(longer), FailsWith(Code::kMalformed));
}

TEST_F(BatchTest, PagesGiveBackWhatTheyAccept) {
  EntryPage page{LeafIndex{3}, {entry(Kind::kRequest), entry(Kind::kGrant), entry(Kind::kLease)}};
  const Bytes bytes = encode_entry_page(page);
  const EntryPage parsed = value_of(parse_entry_page(bytes));
  EXPECT_EQ(encode_entry_page(parsed), bytes);
  ASSERT_EQ(parsed.entries.size(), 3u);
  for (const Entry& e : parsed.entries) EXPECT_THAT(open_body(e), Succeeds());
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THAT(parse_entry_page(ByteView{bytes}.first(size)), FailsWith(Code::kMalformed));
  page.entries[0].leaf.kind = 200;
  EXPECT_THAT(parse_entry_page(encode_entry_page(page)), FailsWith(Code::kMalformed));
  page.entries.assign(kMaxPageEntries + 1, entry(Kind::kLease));
  EXPECT_THAT(parse_entry_page(encode_entry_page(page)), FailsWith(Code::kMalformed));
}

}  // namespace
}  // namespace sallyport::record

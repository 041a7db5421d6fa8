#include "attestation/record/entry.h"

#include <algorithm>

#include "attestation/crypto/digest.h"
#include "attestation/record/canonical_json.h"

namespace sallyport::record {
namespace {

constexpr std::size_t kHeaderBytes = 1 + 8 + 16;
constexpr std::size_t kItemBytes = 1 + 8 + 32;
constexpr std::size_t kMaxQuotedPcrs = 24;
constexpr std::size_t kMaxSubmissionBytes = 64u << 20;

std::size_t max_envelope_bytes(Kind kind) {
  const bool embeds = kind == Kind::kPolicy || kind == Kind::kEnrolment || kind == Kind::kErasure;
  return embeds ? kMaxClosingEnvelopeBytes : kMaxEnvelopeBytes;
}

Result<EvidenceType> parse_evidence_type(std::uint8_t byte) {
  if (max_evidence_bytes(static_cast<EvidenceType>(byte)) == 0)
    return Error{Code::kMalformed, "evidence of a type that is not known"};
  return static_cast<EvidenceType>(byte);
}

// The order of items, which also finds those that are there twice: the size adds nothing to type and digest.
bool before(const EvidenceItem& a, const EvidenceItem& b) {
  return std::tie(a.type, a.sha256) < std::tie(b.type, b.sha256);
}

void write_item(const EvidenceItem& item, Writer& out) {
  out.u8(static_cast<std::uint8_t>(item.type)).u64(item.size).raw(view(item.sha256));
}

Result<EvidenceItem> read_item(Reader& in) {
  SP_TRY(const std::uint8_t type_byte, in.u8());
  SP_TRY(const EvidenceType type, parse_evidence_type(type_byte));
  SP_TRY(const std::uint64_t size, in.u64());
  if (size > max_evidence_bytes(type)) return Error{Code::kMalformed, "evidence larger than its cap"};
  SP_TRY(const auto digest, in.array<32>());
  return EvidenceItem{type, size, Digest256{digest}};
}

void write_header(Kind kind, UnixMillis time, const CaseId& case_id, Writer& out) {
  out.u8(static_cast<std::uint8_t>(kind)).u64(time.get()).raw(view(case_id));
}

Error body_error(std::string what) {
  return Error{Code::kUnverified, Reason::kLogBody, std::move(what)};
}

}  // namespace

std::size_t max_evidence_bytes(EvidenceType type) {
  switch (type) {
    case EvidenceType::kQuote:
    case EvidenceType::kKey:
    case EvidenceType::kEkCertificate:
    case EvidenceType::kIdentity:
    case EvidenceType::kImaQuote:
      return 4u << 10;
    case EvidenceType::kNote:
      return 16u << 10;
    case EvidenceType::kObservation:
      return 512;
    case EvidenceType::kImaList:
      return evidence::kMaxImaPartBytes;
    case EvidenceType::kAttachment:
      return 16u << 20;
    case EvidenceType::kPolicyText:
    case EvidenceType::kEventLog:
    case EvidenceType::kReferences:
      return 1u << 20;
    case EvidenceType::kTpmRoots:
      return 4u << 20;
    case EvidenceType::kControlState:
      return kMaxControlBytes;
  }
  return 0;
}

bool travels(EvidenceType type) {
  switch (type) {
    case EvidenceType::kAttachment:
    case EvidenceType::kEventLog:
    case EvidenceType::kImaList:
    case EvidenceType::kImaQuote:
      return false;
    default:
      return true;
  }
}

EvidenceItem item_of(const Blob& blob) {
  return {blob.type, blob.bytes.size(), crypto::sha256(blob.bytes)};
}

BlobIndex::BlobIndex(const std::vector<Blob>& blobs) {
  all_.reserve(blobs.size());
  for (const Blob& blob : blobs) all_.push_back({item_of(blob), &blob});
}

const Blob* BlobIndex::find(const EvidenceItem& item) const {
  const auto found = std::find_if(all_.begin(), all_.end(), [&](const Known& k) { return k.item == item; });
  return found == all_.end() ? nullptr : found->blob;
}

std::vector<Blob> sorted_blobs(std::vector<Blob> blobs) {
  std::vector<std::pair<EvidenceItem, Blob*>> order;
  for (Blob& blob : blobs) order.emplace_back(item_of(blob), &blob);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return before(a.first, b.first); });
  std::vector<Blob> out;
  for (std::size_t i = 0; i < order.size(); ++i)
    if (i == 0 || before(order[i - 1].first, order[i].first)) out.push_back(std::move(*order[i].second));
  return out;
}

Result<std::vector<Blob>> parse_blobs(Reader& in, std::size_t max_count) {
  SP_TRY(const std::uint16_t count, in.u16());
  if (count > max_count) return Error{Code::kMalformed, "too many blobs"};
  std::vector<Blob> out;
  std::optional<EvidenceItem> last;
  for (std::size_t i = 0; i < count; ++i) {
    SP_TRY(const std::uint8_t type_byte, in.u8());
    SP_TRY(const EvidenceType type, parse_evidence_type(type_byte));
    SP_TRY(const ByteView bytes, in.prefixed32(max_evidence_bytes(type)));
    out.push_back({type, to_bytes(bytes)});
    const EvidenceItem item = item_of(out.back());
    if (last.has_value() && !before(*last, item))
      return Error{Code::kMalformed, "blobs not ascending, each once"};
    last = item;
  }
  return out;
}

void write_blobs(const std::vector<Blob>& blobs, Writer& out) {
  const std::vector<Blob> sorted = sorted_blobs(blobs);
  SP_ASSERT(sorted.size() <= 0xFFFF);
  out.u16(static_cast<std::uint16_t>(sorted.size()));
  for (const Blob& blob : sorted) out.u8(static_cast<std::uint8_t>(blob.type)).prefixed32(blob.bytes);
}

Result<Body> parse_body(ByteView bytes) {
  Reader in{bytes};
  SP_TRY(const ByteView header_bytes, in.prefixed32(kHeaderBytes));
  Reader header{header_bytes};
  SP_TRY(const std::uint8_t kind_byte, header.u8());
  SP_TRY(const Kind kind, parse_kind(kind_byte));
  SP_TRY(const std::uint64_t time, header.u64());
  SP_TRY(const auto case_id, header.array<16>());
  SP_CHECK(header.finish());
  SP_TRY(const ByteView envelope, in.prefixed32(max_envelope_bytes(kind)));
  SP_TRY(const ByteView items_bytes, in.prefixed32(kMaxItems * kItemBytes));
  SP_CHECK(in.finish());
  if (envelope.empty()) return Error{Code::kMalformed, "body without a statement"};
  Body out{kind, UnixMillis{time}, CaseId{case_id}, to_bytes(envelope), {}};
  Reader items{items_bytes};
  while (items.remaining() != 0) {
    SP_TRY(const EvidenceItem item, read_item(items));
    if (!out.items.empty() && !before(out.items.back(), item))
      return Error{Code::kMalformed, "evidence items not ascending, each once"};
    out.items.push_back(item);
  }
  return out;
}

Bytes encode_body(const Body& body) {
  Writer header, items;
  write_header(body.kind, body.time, body.case_id, header);
  for (const EvidenceItem& item : body.items) write_item(item, items);
  Writer out;
  out.prefixed32(header.bytes()).prefixed32(body.envelope).prefixed32(items.bytes());
  return std::move(out).take();
}

Digest256 evidence_digest(const std::vector<EvidenceItem>& items) {
  Writer out;
  for (const EvidenceItem& item : items) write_item(item, out);
  return crypto::sha256(out.bytes());
}

Digest256 commitment(const Nonce& nonce, ByteView body) {
  return crypto::hmac_sha256(view(nonce), body);
}

Bytes encode(const QuoteEvidence& quote) {
  Writer pcrs;
  for (const auto& pcr : quote.pcrs) pcrs.raw(pcr);
  Writer out;
  out.prefixed32(quote.attest).prefixed32(quote.signature).prefixed32(pcrs.bytes());
  return std::move(out).take();
}

Bytes encode(const ImaQuoteEvidence& quote) {
  SP_ASSERT(quote.parts.size() <= evidence::kMaxImaParts);
  Writer out;
  out.prefixed32(quote.attest).prefixed32(quote.signature).raw(quote.pcr10);
  out.u8(static_cast<std::uint8_t>(quote.parts.size()));
  for (const Digest256& part : quote.parts) out.raw(view(part));
  return std::move(out).take();
}

Bytes encode(const KeyEvidence& key) {
  Writer out;
  out.prefixed32(key.public_area).prefixed32(key.attest).prefixed32(key.signature);
  return std::move(out).take();
}

Bytes encode(const evidence::IdentityEvidence& identity) {
  Writer out;
  out.prefixed32(identity.audit.attest).prefixed32(identity.audit.signature).prefixed32(identity.created);
  return std::move(out).take();
}

Bytes encode(const Observation& seen) {
  return json::encode_canonical(
      json::Value::object({{"address", seen.address}, {"country", seen.country}, {"time", seen.time.get()}}));
}

Result<QuoteEvidence> parse_quote_evidence(ByteView bytes) {
  const std::size_t cap = max_evidence_bytes(EvidenceType::kQuote);
  if (bytes.size() > cap) return Error{Code::kMalformed, "quote larger than its cap"};
  Reader in{bytes};
  SP_TRY(const ByteView attest, in.prefixed32(cap));
  SP_TRY(const ByteView signature, in.prefixed32(cap));
  SP_TRY(const ByteView pcr_bytes, in.prefixed32(kMaxQuotedPcrs * 32));
  SP_CHECK(in.finish());
  if (attest.empty() || signature.empty() || pcr_bytes.empty())
    return Error{Code::kMalformed, "quote with a part missing"};
  QuoteEvidence out{to_bytes(attest), to_bytes(signature), {}};
  Reader pcrs{pcr_bytes};
  while (pcrs.remaining() != 0) {
    SP_TRY(const auto pcr, pcrs.array<32>());
    out.pcrs.push_back(pcr);
  }
  return out;
}

Result<ImaQuoteEvidence> parse_ima_quote_evidence(ByteView bytes) {
  const std::size_t cap = max_evidence_bytes(EvidenceType::kImaQuote);
  if (bytes.size() > cap) return Error{Code::kMalformed, "quote of PCR 10 larger than its cap"};
  Reader in{bytes};
  SP_TRY(const ByteView attest, in.prefixed32(cap));
  SP_TRY(const ByteView signature, in.prefixed32(cap));
  SP_TRY(const auto pcr10, in.array<32>());
  SP_TRY(const std::uint8_t count, in.u8());
  if (attest.empty() || signature.empty() || count == 0 || count > evidence::kMaxImaParts)
    return Error{Code::kMalformed, "quote of PCR 10 with a part missing, or of too many"};
  ImaQuoteEvidence out{to_bytes(attest), to_bytes(signature), pcr10, {}};
  for (std::size_t i = 0; i < count; ++i) {
    SP_TRY(const auto part, in.array<32>());
    out.parts.push_back(Digest256{part});
  }
  SP_CHECK(in.finish());
  return out;
}

Result<evidence::IdentityEvidence> parse_identity_evidence(ByteView bytes) {
  const std::size_t cap = max_evidence_bytes(EvidenceType::kIdentity);
  if (bytes.size() > cap) return Error{Code::kMalformed, "identity larger than its cap"};
  Reader in{bytes};
  SP_TRY(const ByteView attest, in.prefixed32(cap));
  SP_TRY(const ByteView signature, in.prefixed32(cap));
  SP_TRY(const ByteView created, in.prefixed32(cap));
  SP_CHECK(in.finish());
  if (attest.empty() || signature.empty() || created.empty())
    return Error{Code::kMalformed, "identity with a part missing"};
  return evidence::IdentityEvidence{{to_bytes(attest), to_bytes(signature)}, to_bytes(created)};
}

Result<KeyEvidence> parse_key_evidence(ByteView bytes) {
  const std::size_t cap = max_evidence_bytes(EvidenceType::kKey);
  if (bytes.size() > cap) return Error{Code::kMalformed, "key larger than its cap"};
  Reader in{bytes};
  SP_TRY(const ByteView public_area, in.prefixed32(cap));
  SP_TRY(const ByteView attest, in.prefixed32(cap));
  SP_TRY(const ByteView signature, in.prefixed32(cap));
  SP_CHECK(in.finish());
  if (public_area.empty() || attest.empty() || signature.empty())
    return Error{Code::kMalformed, "key with a part missing"};
  return KeyEvidence{to_bytes(public_area), to_bytes(attest), to_bytes(signature)};
}

Result<Observation> parse_observation(ByteView bytes) {
  SP_TRY(const json::Value value,
         json::parse_canonical(bytes, max_evidence_bytes(EvidenceType::kObservation)));
  SP_TRY(json::Fields in, json::Fields::of(value, "observation"));
  Observation out;
  SP_TRY(out.address, in.text("address", 64));
  SP_TRY(out.country, in.text("country", 2, 0));
  SP_TRY(const std::uint64_t time, in.integer("time"));
  SP_CHECK(in.finish());
  out.time = UnixMillis{time};
  const auto in_address = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '.' || c == ':';
  };
  if (!std::all_of(out.address.begin(), out.address.end(), in_address))
    return in.wrong("address", "not an address");
  const auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (out.country.size() == 1 || !std::all_of(out.country.begin(), out.country.end(), upper))
    return in.wrong("country", "not two upper-case letters");
  return out;
}

Entry make_entry(Kind kind, UnixMillis time, const CaseId& case_id, std::uint64_t predecessor,
                 ByteView envelope, std::vector<Blob> blobs, const Nonce& nonce,
                 std::vector<EvidenceItem> absent) {
  Body body{kind, time, case_id, to_bytes(envelope), std::move(absent)};
  blobs = sorted_blobs(std::move(blobs));
  for (const Blob& blob : blobs) body.items.push_back(item_of(blob));
  std::sort(body.items.begin(), body.items.end());
  body.items.erase(std::unique(body.items.begin(), body.items.end()), body.items.end());
  Entry out;
  out.nonce = nonce;
  out.body = encode_body(body);
  out.blobs = std::move(blobs);
  out.leaf.kind = static_cast<std::uint8_t>(kind);
  out.leaf.time = time;
  out.leaf.case_id = case_id;
  out.leaf.predecessor = predecessor;
  out.leaf.commitment = commitment(nonce, out.body);
  return out;
}

namespace {

// The body of an entry whose blobs are `blobs`.
Result<Body> open_body(const Entry& entry, const BlobIndex& blobs) {
  if (commitment(entry.nonce, entry.body) != entry.leaf.commitment)
    return body_error("the leaf does not commit to this body");
  auto parsed = parse_body(entry.body);
  if (!parsed.has_value()) return body_error("body: " + parsed.error().what);
  Body body = std::move(parsed).value();
  if (static_cast<std::uint8_t>(body.kind) != entry.leaf.kind || body.time != entry.leaf.time ||
      body.case_id != entry.leaf.case_id)
    return body_error("header and leaf differ");
  const EvidenceItem* last = nullptr;
  for (const BlobIndex::Known& known : blobs.all()) {
    if (!std::binary_search(body.items.begin(), body.items.end(), known.item))
      return body_error("a blob that the body does not name");
    if (last != nullptr && !before(*last, known.item)) return body_error("blobs not ascending, each once");
    last = &known.item;
  }
  return body;
}

}  // namespace

Result<Body> open_body(const Entry& entry) {
  return open_body(entry, BlobIndex{entry.blobs});
}

Result<Envelope> open_envelope(const Body& body) {
  SP_TRY(Envelope envelope, parse_envelope(body.envelope, max_envelope_bytes(body.kind)));
  if (envelope.type != payload_type(body.kind))
    return Error{Code::kMalformed, "payload type of another kind"};
  if (envelope.signatures.size() != (is_unsigned(body.kind) ? 0u : 1u))
    return Error{Code::kMalformed, "another number of signatures than the kind has"};
  return envelope;
}

Result<OpenedStatement> open_statement(Body body, BlobIndex blobs) {
  SP_TRY(Envelope envelope, open_envelope(body));
  const Digest256 digest = statement_digest(envelope);
  return OpenedStatement{std::move(body), std::move(envelope), digest, std::move(blobs)};
}

Result<OpenedStatement> open_statement(const Entry& entry) {
  BlobIndex blobs{entry.blobs};
  SP_TRY(Body body, open_body(entry, blobs));
  return open_statement(std::move(body), std::move(blobs));
}

Result<OpenedEntry> open_entry(Entry entry) {
  SP_TRY(OpenedStatement statement, open_statement(entry));
  return OpenedEntry{std::move(entry), std::move(statement)};
}

std::vector<EvidenceItem> items_of_type(const Body& body, EvidenceType type) {
  std::vector<EvidenceItem> out;
  std::copy_if(body.items.begin(), body.items.end(), std::back_inserter(out),
               [type](const EvidenceItem& item) { return item.type == type; });
  return out;
}

Bytes encode(const Submission& submission) {
  Writer out;
  out.prefixed32(submission.envelope);
  write_blobs(submission.blobs, out);
  return std::move(out).take();
}

Result<Submission> parse_submission(ByteView bytes) {
  if (bytes.size() > kMaxSubmissionBytes) return Error{Code::kMalformed, "submission longer than its cap"};
  Reader in{bytes};
  SP_TRY(const ByteView envelope, in.prefixed32(kMaxEnvelopeBytes));
  if (envelope.empty()) return Error{Code::kMalformed, "submission without a statement"};
  SP_TRY(std::vector<Blob> blobs, parse_blobs(in));
  SP_CHECK(in.finish());
  return Submission{to_bytes(envelope), std::move(blobs)};
}

}  // namespace sallyport::record

#pragma once

#include <tuple>
#include <vector>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/evidence/ima_appraisal.h"
#include "attestation/evidence/session_audit.h"
#include "attestation/ledger/leaf.h"
#include "attestation/record/dsse.h"
#include "attestation/record/statements.h"

namespace sallyport::record {

// EvidenceType is the closed set of evidence items (README.md, "Body").
enum class EvidenceType : std::uint8_t {
  kQuote = 1,
  kKey = 2,
  kNote = 3,
  kObservation = 4,
  kAttachment = 5,
  kPolicyText = 6,
  kTpmRoots = 7,
  kEkCertificate = 8,
  kEventLog = 9,
  kImaList = 10,
  kReferences = 11,
  kControlState = 12,
  kIdentity = 13,
  kImaQuote = 14,
};
std::size_t max_evidence_bytes(EvidenceType type);
inline constexpr std::size_t kMaxControlBytes = 64u << 20;  // of a ControlState (snapshot.h)

// DossierForm tells how much of the evidence goes with a case: all of it, or what travels in a certificate.
enum class DossierForm : std::uint8_t { kFull = 1, kTravel = 2 };
// travels tells whether the travel form has evidence of this type.
bool travels(EvidenceType type);

// Blob is the bytes of an evidence item, content-addressed.
struct Blob {
  EvidenceType type;
  Bytes bytes;
};

struct EvidenceItem {
  EvidenceType type;
  std::uint64_t size = 0;
  Digest256 sha256;
  // The order of items in a body: type, then digest.
  friend auto operator<=>(const EvidenceItem& a, const EvidenceItem& b) {
    return std::tie(a.type, a.sha256, a.size) <=> std::tie(b.type, b.sha256, b.size);
  }
  friend bool operator==(const EvidenceItem&, const EvidenceItem&) = default;
};
EvidenceItem item_of(const Blob& blob);

// BlobIndex finds blobs by their items, having hashed each once, when it was made. It refers to the blobs:
// they must stay where and as they are.
class BlobIndex {
 public:
  BlobIndex() = default;
  BlobIndex(const std::vector<Blob>& blobs);  // implicit: whoever takes one can be given the blobs themselves
  // find gives the blob of an item; null when it is not among them.   At most one comparison a blob.
  const Blob* find(const EvidenceItem& item) const;

  struct Known {
    EvidenceItem item;
    const Blob* blob;
  };
  const std::vector<Known>& all() const { return all_; }  // in the order of the blobs

 private:
  std::vector<Known> all_;
};

inline constexpr std::size_t kMaxItems = 64;  // of a body, and so blobs of an entry
inline constexpr std::size_t kMaxBodyBytes = 516 * 1024;

// sorted_blobs gives the blobs in the order of their items, and those that are there twice once.
std::vector<Blob> sorted_blobs(std::vector<Blob> blobs);

// Blobs as they travel: u16 count, then each: type u8, u32-prefixed bytes; ascending (type, digest), none
// twice. parse_blobs reads as much of `in` as that is; errors: kMalformed. write_blobs sorts.
Result<std::vector<Blob>> parse_blobs(Reader& in, std::size_t max_count = kMaxItems);
void write_blobs(const std::vector<Blob>& blobs, Writer& out);

// Body is a leaf's body, parsed and not believed.
struct Body {
  Kind kind;
  UnixMillis time;
  CaseId case_id;
  Bytes envelope;                   // verbatim
  std::vector<EvidenceItem> items;  // ascending
};
Result<Body> parse_body(ByteView bytes);
Bytes encode_body(const Body& body);  // items must be ascending and distinct
Digest256 evidence_digest(const std::vector<EvidenceItem>& items);
Digest256 commitment(const Nonce& nonce, ByteView body);  // HMAC-SHA256

// The containers of evidence items.
struct QuoteEvidence {
  Bytes attest, signature;
  std::vector<ByteArray<32>> pcrs;  // of the quoted PCRs, in index order
};
// ImaQuoteEvidence is a quote of PCR 10 alone, and which parts the list has that comes to it: at most
// evidence::kMaxImaParts.
struct ImaQuoteEvidence {
  Bytes attest, signature;
  ByteArray<32> pcr10{};
  std::vector<Digest256> parts;  // SHA-256 of each, in order
};
struct KeyEvidence {
  Bytes public_area, attest, signature;
};
struct Observation {
  std::string address, country;
  UnixMillis time;
};
Bytes encode(const QuoteEvidence&);
Bytes encode(const ImaQuoteEvidence&);
Bytes encode(const KeyEvidence&);
Bytes encode(const Observation&);
Bytes encode(const evidence::IdentityEvidence&);
Result<QuoteEvidence> parse_quote_evidence(ByteView bytes);
Result<ImaQuoteEvidence> parse_ima_quote_evidence(ByteView bytes);
Result<KeyEvidence> parse_key_evidence(ByteView bytes);
Result<Observation> parse_observation(ByteView bytes);
Result<evidence::IdentityEvidence> parse_identity_evidence(ByteView bytes);

// Entry is a leaf with its body, its commitment's nonce and the blobs of its items.
struct Entry {
  ledger::Leaf leaf;
  Nonce nonce;
  Bytes body;
  std::vector<Blob> blobs;  // may lack blobs that the fold does not read (attachments)
};

// is_erased tells whether an entry is only its leaf: what remains of it once its case was erased. No body is
// empty, so nothing else looks like it; whether it may be erased is the fold's to say (prepare_erased).
inline bool is_erased(const Entry& entry) {
  return entry.body.empty();
}

// make_entry builds an entry from its parts: items are those of `blobs`, plus `absent` ones whose bytes stay
// elsewhere. It does not judge them: open_body does.
Entry make_entry(Kind kind, UnixMillis time, const CaseId& case_id, std::uint64_t predecessor,
                 ByteView envelope, std::vector<Blob> blobs, const Nonce& nonce,
                 std::vector<EvidenceItem> absent = {});

// open_body checks that the entry's body is the one its leaf commits to, that header and leaf agree, and that
// each blob is of an item.
//   Proves:         the leaf commits to exactly this body, and the body to exactly these blobs.
//   Does not prove: any signature in it.
//   Errors:         kUnverified with kLogBody.
Result<Body> open_body(const Entry& entry);

// open_envelope parses the body's envelope.
//   Proves:         form: the payload type is that of the body's kind; one signature, or none where the
//                   kind is unsigned.
//   Does not prove: the signature, or anything of the payload.
//   Errors:         kMalformed.
Result<Envelope> open_envelope(const Body& body);

// OpenedStatement is a body with its envelope, and those of its blobs that are there; nothing of it is
// believed.
struct OpenedStatement {
  Body body;
  Envelope envelope;
  Digest256 digest;
  BlobIndex blobs;
};
Result<OpenedStatement> open_statement(Body body, BlobIndex blobs = {});
// open_statement of an entry proves what open_body and open_envelope prove. Errors: theirs. The entry's blobs
// must outlive it.
Result<OpenedStatement> open_statement(const Entry& entry);

// OpenedEntry is an entry whose body and statement were opened: the part of a judgement that needs no state,
// done once and on any thread. Only open_entry makes one. It moves, and its blobs stay where they are; it is
// not copied.
class OpenedEntry {
 public:
  OpenedEntry(OpenedEntry&&) = default;
  OpenedEntry& operator=(OpenedEntry&&) = default;
  OpenedEntry(const OpenedEntry&) = delete;
  OpenedEntry& operator=(const OpenedEntry&) = delete;

  const Entry& entry() const { return entry_; }
  const OpenedStatement& statement() const { return statement_; }
  Entry take() && { return std::move(entry_); }

 private:
  friend Result<OpenedEntry> open_entry(Entry entry);
  OpenedEntry(Entry entry, OpenedStatement statement)
      : entry_(std::move(entry)), statement_(std::move(statement)) {}
  Entry entry_;
  OpenedStatement statement_;
};
// open_entry proves what open_statement proves. Errors: its.
Result<OpenedEntry> open_entry(Entry entry);

// items_of_type gives a body's items of one type, in order.
std::vector<EvidenceItem> items_of_type(const Body& body, EvidenceType type);

// Submission is what a peer sends to have something recorded: the envelope and the evidence, before there is
// a leaf. u32-prefixed envelope, then blobs as above.
struct Submission {
  Bytes envelope;
  std::vector<Blob> blobs;
};
Bytes encode(const Submission&);
Result<Submission> parse_submission(ByteView bytes);

}  // namespace sallyport::record

#pragma once

#include <vector>

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
};
std::size_t max_evidence_bytes(EvidenceType type);

// Blob is the bytes of an evidence item, content-addressed.
struct Blob {
  EvidenceType type;
  Bytes bytes;
};

struct EvidenceItem {
  EvidenceType type;
  std::uint64_t size = 0;
  Digest256 sha256;
  friend auto operator<=>(const EvidenceItem&, const EvidenceItem&) = default;
};
EvidenceItem item_of(const Blob& blob);

// Body is a leaf's body, parsed and not believed.
struct Body {
  Kind kind;
  UnixMillis time;
  CaseId case_id;
  Bytes envelope;                   // verbatim
  std::vector<EvidenceItem> items;  // ascending
};
Result<Body> parse_body(ByteView bytes);
Bytes encode_body(const Body& body);                       // items must be ascending and distinct
Digest256 evidence_digest(const std::vector<EvidenceItem>& items);
Digest256 commitment(const Nonce& nonce, ByteView body);   // HMAC-SHA256

// The containers of evidence items.
struct QuoteEvidence {
  Bytes attest, signature;
  std::vector<ByteArray<32>> pcrs;  // of the quoted PCRs, in index order
};
struct KeyEvidence {
  Bytes public_area, attest, signature;
};
struct Observation {
  std::string address, country;
  UnixMillis time;
};
Bytes encode(const QuoteEvidence&);
Bytes encode(const KeyEvidence&);
Bytes encode(const Observation&);
Result<QuoteEvidence> parse_quote_evidence(ByteView bytes);
Result<KeyEvidence> parse_key_evidence(ByteView bytes);
Result<Observation> parse_observation(ByteView bytes);

// Entry is a leaf with its body, its commitment's nonce and the blobs of its items.
struct Entry {
  ledger::Leaf leaf;
  Nonce nonce;
  Bytes body;
  std::vector<Blob> blobs;  // may lack blobs that the fold does not read (attachments)
};

// make_entry builds an entry from its parts: items are those of `blobs`, plus `absent` ones whose bytes stay elsewhere.
Entry make_entry(Kind kind, UnixMillis time, const CaseId& case_id, std::uint64_t predecessor, ByteView envelope,
                 std::vector<Blob> blobs, const Nonce& nonce, std::vector<EvidenceItem> absent = {});

// open_body checks that the entry's body is the one its leaf commits to, that header and leaf agree, and that each blob is of an item.
//   Proves:         the leaf commits to exactly this body, and the body to exactly these blobs.
//   Does not prove: any signature in it.    Errors: kLogBody.
Result<Body> open_body(const Entry& entry);

// find_blob gives the bytes of the n-th item of a type (0 = the first), from the entry's blobs.
const Blob* find_blob(const std::vector<Blob>& blobs, const EvidenceItem& item);

// Submission is what a peer sends to have something recorded: the envelope and the evidence, before there is a leaf.
// u32-prefixed envelope; blobs: u16 count, each: type u8, u32-prefixed bytes.
struct Submission {
  Bytes envelope;
  std::vector<Blob> blobs;
};
Bytes encode(const Submission&);
Result<Submission> parse_submission(ByteView bytes);

}  // namespace sallyport::record

#pragma once

#include <string>
#include <vector>

#include "attestation/crypto/public_key.h"
#include "attestation/net/tls.h"
#include "attestation/record/batch.h"
#include "broker/store/store.h"

// What a primary broker and its standby say to each other (README.md, "The stream to a standby").
namespace sallyport::ledger_service {

inline constexpr std::size_t kMaxDigests = 1024;      // in one question for attachments
inline constexpr std::size_t kMaxStreamedNotes = 64;  // in one call
inline constexpr std::size_t kMaxStandbyBodyBytes =
    24u << 20;  // a page of 16 MiB and one entry more; an attachment

// Hello proves which broker is at the end of a connection, and says where its log ends.
struct StandbyHello {
  crypto::PublicKey key;
  crypto::Signature64 signature{};  // over hello_digest
  Origin origin;
  store::Head head;
};
// hello_digest binds the proof to this very TLS connection: in another it is worth nothing.
Digest256 hello_digest(const net::TlsExporter& exporter, const Origin& origin);

// Standing is what a standby holds, durably. Every call is answered with it.
struct Standing {
  store::Head head;
  TreeSize signed_size{0}, cosigned_size{0};  // of its newest notes; 0: none
};

// StreamedEntries are whole entries, without the bytes of attachments, and the root of the tree they follow.
struct StreamedEntries {
  Digest256 old_root;
  record::EntryPage page;
};

enum class NoteKind : std::uint8_t { kSigned = 1, kCosigned = 2 };
struct StreamedNotes {
  NoteKind kind = NoteKind::kSigned;
  std::vector<std::string> notes;
};

// parse_ takes exactly what encode gives. Errors: kMalformed.
Bytes encode(const StandbyHello&);
Bytes encode(const Standing&);
Bytes encode(const StreamedEntries&);
Bytes encode(const StreamedNotes&);
Bytes encode(const std::vector<Digest256>& digests);
Bytes encode(const record::Blob& attachment);
Result<StandbyHello> parse_standby_hello(ByteView bytes);
Result<Standing> parse_standing(ByteView bytes);
Result<StreamedEntries> parse_streamed_entries(ByteView bytes);
Result<StreamedNotes> parse_streamed_notes(ByteView bytes);
Result<std::vector<Digest256>> parse_digests(ByteView bytes);
Result<record::Blob> parse_attachment(ByteView bytes);

// A refusal as text: the reason's name, a newline, a sentence for the other side's log.
std::string encode_refusal(const Error& error);
// parse_refusal gives the error that a status and such a text mean, whatever they are.
Error parse_refusal(unsigned status, std::string_view text);

}  // namespace sallyport::ledger_service

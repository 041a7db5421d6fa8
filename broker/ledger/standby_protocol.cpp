#include "broker/ledger/standby_protocol.h"

#include <algorithm>

#include "attestation/crypto/digest.h"
#include "attestation/ledger/checkpoint.h"

namespace sallyport::ledger_service {
namespace {

constexpr std::size_t kMaxSpkiBytes = 512, kMaxRefusalBytes = 1024;

void write(const store::Head& head, Writer& out) {
  out.u64(head.size.get()).raw(view(head.root));
}

Result<TreeSize> read_size(Reader& in) {
  SP_TRY(const std::uint64_t size, in.u64());
  if (size >= std::uint64_t{1} << 62) return Error{Code::kMalformed, "a tree that is too large"};
  return TreeSize{size};
}

Result<Digest256> read_digest(Reader& in) {
  SP_TRY(const auto bytes, in.array<32>());
  return Digest256{bytes};
}

Result<store::Head> read_head(Reader& in) {
  store::Head head;
  SP_TRY(head.size, read_size(in));
  SP_TRY(head.root, read_digest(in));
  return head;
}

}  // namespace

Digest256 hello_digest(const net::TlsExporter& exporter, const Origin& origin) {
  Writer out;
  out.raw(std::string_view{"sallyport/standby/v1\0", 21}).raw(ByteView{exporter}).prefixed32(origin.get());
  return crypto::sha256(out.bytes());
}

Bytes encode(const StandbyHello& hello) {
  Writer out;
  out.prefixed32(hello.key.spki()).raw(ByteView{hello.signature}).prefixed32(hello.origin.get());
  write(hello.head, out);
  return std::move(out).take();
}

Result<StandbyHello> parse_standby_hello(ByteView bytes) {
  Reader in{bytes};
  SP_TRY(const ByteView spki, in.prefixed32(kMaxSpkiBytes));
  SP_TRY(crypto::PublicKey key, crypto::PublicKey::parse_spki(spki));
  SP_TRY(const auto signature, in.array<64>());
  SP_TRY(const ByteView origin, in.prefixed32(ledger::kMaxOriginBytes));
  SP_TRY(const store::Head head, read_head(in));
  SP_CHECK(in.finish());
  return StandbyHello{std::move(key), signature, Origin{std::string{as_text(origin)}}, head};
}

Bytes encode(const Standing& standing) {
  Writer out;
  write(standing.head, out);
  out.u64(standing.signed_size.get()).u64(standing.cosigned_size.get());
  return std::move(out).take();
}

Result<Standing> parse_standing(ByteView bytes) {
  Reader in{bytes};
  Standing out;
  SP_TRY(out.head, read_head(in));
  SP_TRY(out.signed_size, read_size(in));
  SP_TRY(out.cosigned_size, read_size(in));
  SP_CHECK(in.finish());
  return out;
}

Bytes encode(const StreamedEntries& entries) {
  Writer out;
  out.raw(view(entries.old_root)).raw(record::encode_entry_page(entries.page));
  return std::move(out).take();
}

Result<StreamedEntries> parse_streamed_entries(ByteView bytes) {
  Reader in{bytes};
  StreamedEntries out;
  SP_TRY(out.old_root, read_digest(in));
  SP_TRY(out.page, record::parse_entry_page(in.rest()));
  return out;
}

Bytes encode(const StreamedNotes& notes) {
  Writer out;
  out.u8(static_cast<std::uint8_t>(notes.kind)).u16(static_cast<std::uint16_t>(notes.notes.size()));
  for (const std::string& note : notes.notes) out.prefixed32(note);
  return std::move(out).take();
}

Result<StreamedNotes> parse_streamed_notes(ByteView bytes) {
  Reader in{bytes};
  StreamedNotes out;
  SP_TRY(const std::uint8_t kind, in.u8());
  if (kind != 1 && kind != 2) return Error{Code::kMalformed, "neither signed nor cosigned"};
  out.kind = static_cast<NoteKind>(kind);
  SP_TRY(const std::uint16_t count, in.u16());
  if (count > kMaxStreamedNotes) return Error{Code::kMalformed, "too many notes"};
  for (std::size_t i = 0; i < count; ++i) {
    SP_TRY(const ByteView note, in.prefixed32(ledger::kMaxNoteBytes));
    out.notes.emplace_back(as_text(note));
  }
  SP_CHECK(in.finish());
  return out;
}

Bytes encode(const std::vector<Digest256>& digests) {
  Writer out;
  out.u16(static_cast<std::uint16_t>(digests.size()));
  for (const Digest256& digest : digests) out.raw(view(digest));
  return std::move(out).take();
}

Result<std::vector<Digest256>> parse_digests(ByteView bytes) {
  Reader in{bytes};
  std::vector<Digest256> out;
  SP_TRY(const std::uint16_t count, in.u16());
  if (count > kMaxDigests) return Error{Code::kMalformed, "too many digests"};
  for (std::size_t i = 0; i < count; ++i) {
    SP_TRY(const Digest256 digest, read_digest(in));
    if (!out.empty() && !(out.back() < digest)) return Error{Code::kMalformed, "digests do not ascend"};
    out.push_back(digest);
  }
  SP_CHECK(in.finish());
  return out;
}

Bytes encode(const record::Blob& attachment) {
  Writer out;
  record::write_blobs({attachment}, out);
  return std::move(out).take();
}

Result<record::Blob> parse_attachment(ByteView bytes) {
  Reader in{bytes};
  SP_TRY(std::vector<record::Blob> blobs, record::parse_blobs(in, 1));
  SP_CHECK(in.finish());
  if (blobs.size() != 1 || blobs.front().type != record::EvidenceType::kAttachment)
    return Error{Code::kMalformed, "not an attachment"};
  return std::move(blobs.front());
}

std::string encode_refusal(const Error& error) {
  return std::string{reason_name(error.reason)} + "\n" + error.what.substr(0, kMaxRefusalBytes);
}

Error parse_refusal(unsigned status, std::string_view text) {
  const auto end = text.find('\n');
  const auto reason = end == text.npos ? std::nullopt : find_reason(text.substr(0, end));
  if (!reason)
    return Error{Code::kUnavailable, Reason::kStandbyAway, "it answered " + std::to_string(status),
                 Next::kRetryLater, 0};
  const Code code = status == 403   ? Code::kDenied
                    : status == 409 ? Code::kConflict
                    : status == 422 ? Code::kUnverified
                    : status == 400 ? Code::kMalformed
                                    : Code::kUnavailable;
  return Error{code, *reason, std::string{text.substr(end + 1, kMaxRefusalBytes)}};
}

}  // namespace sallyport::ledger_service

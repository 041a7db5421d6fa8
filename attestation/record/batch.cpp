#include "attestation/record/batch.h"

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"

namespace sallyport::record {

namespace {

constexpr std::size_t kMaxNoteBytes = 16u << 10;

Result<LeafIndex> read_index(Reader& in) {
  SP_TRY(const std::uint64_t index, in.u64());
  if (index > (std::uint64_t{1} << 62)) return Error{Code::kMalformed, "index of impossible size"};
  return LeafIndex{index};
}

Result<ledger::Leaf> read_leaf(Reader& in) {
  SP_TRY(const ByteView bytes, in.raw(ledger::kLeafSize));
  SP_TRY(const ledger::Leaf leaf, ledger::parse_leaf(bytes));
  SP_CHECK(parse_kind(leaf.kind));
  return leaf;
}

// The parts of an entry apart from its leaf: nonce 32, u32-prefixed body, blobs.
Result<Entry> read_entry(const ledger::Leaf& leaf, Reader& in) {
  SP_TRY(const auto nonce, in.array<32>());
  SP_TRY(const ByteView body, in.prefixed32(kMaxBodyBytes));
  SP_TRY(std::vector<Blob> blobs, parse_blobs(in));
  Entry entry{leaf, Nonce{nonce}, to_bytes(body), std::move(blobs)};
  if (is_erased(entry) && (entry.nonce != Nonce{} || !entry.blobs.empty()))
    return Error{Code::kMalformed, "an erased entry with something beside its leaf"};
  return entry;
}

void write_entry(const Entry& entry, Writer& out) {
  out.raw(view(entry.nonce)).prefixed32(entry.body);
  write_blobs(entry.blobs, out);
}

}  // namespace

Result<Batch> parse_batch(ByteView bytes) {
  if (bytes.size() > kMaxBatchBytes) return Error{Code::kMalformed, "batch longer than its cap"};
  Reader in{bytes};
  Batch out;
  SP_TRY(out.from, read_index(in));
  SP_TRY(const std::uint32_t count, in.u32());
  if (count > kMaxBatchLeaves) return Error{Code::kMalformed, "too many leaves"};
  std::vector<std::size_t> expected;  // where in `leaves` the control leaves are
  for (std::size_t i = 0; i < count; ++i) {
    SP_TRY(const ledger::Leaf leaf, read_leaf(in));
    SP_TRY(const Kind kind, parse_kind(leaf.kind));
    if (is_control(kind)) expected.push_back(i);
    out.leaves.push_back(leaf);
  }
  SP_TRY(const std::uint32_t bodies, in.u32());
  if (bodies != expected.size())
    return Error{Code::kMalformed, Reason::kLogMissingBody, "not exactly the bodies of the control leaves"};
  for (const std::size_t at : expected) {
    SP_TRY(const LeafIndex index, read_index(in));
    if (index.get() != out.from.get() + at)
      return Error{Code::kMalformed, Reason::kLogMissingBody, "not exactly the bodies of the control leaves"};
    SP_TRY(Entry entry, read_entry(out.leaves[at], in));
    if (is_erased(entry)) return Error{Code::kMalformed, Reason::kLogMissingBody, "an empty body"};
    out.controls.push_back({index, std::move(entry)});
  }
  SP_TRY(const ByteView note, in.prefixed32(kMaxNoteBytes));
  SP_CHECK(in.finish());
  out.note = std::string{as_text(note)};
  return out;
}

Bytes encode_batch(const Batch& batch) {
  Writer out;
  out.u64(batch.from.get()).u32(static_cast<std::uint32_t>(batch.leaves.size()));
  for (const ledger::Leaf& leaf : batch.leaves) out.raw(ledger::encode_leaf(leaf));
  out.u32(static_cast<std::uint32_t>(batch.controls.size()));
  for (const ControlEntry& control : batch.controls) {
    out.u64(control.index.get());
    write_entry(control.entry, out);
  }
  out.prefixed32(batch.note);
  return std::move(out).take();
}

Result<EntryPage> parse_entry_page(ByteView bytes) {
  if (bytes.size() > kMaxBatchBytes) return Error{Code::kMalformed, "page longer than its cap"};
  Reader in{bytes};
  EntryPage out;
  SP_TRY(out.from, read_index(in));
  SP_TRY(const std::uint32_t count, in.u32());
  if (count > kMaxPageEntries) return Error{Code::kMalformed, "too many entries"};
  for (std::size_t i = 0; i < count; ++i) {
    SP_TRY(const ledger::Leaf leaf, read_leaf(in));
    SP_TRY(Entry entry, read_entry(leaf, in));
    out.entries.push_back(std::move(entry));
  }
  SP_CHECK(in.finish());
  return out;
}

Bytes encode_entry_page(const EntryPage& page) {
  Writer out;
  out.u64(page.from.get()).u32(static_cast<std::uint32_t>(page.entries.size()));
  for (const Entry& entry : page.entries) {
    out.raw(ledger::encode_leaf(entry.leaf));
    write_entry(entry, out);
  }
  return std::move(out).take();
}

}  // namespace sallyport::record

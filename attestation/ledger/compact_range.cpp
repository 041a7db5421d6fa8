#include "attestation/ledger/compact_range.h"

#include <bit>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"

namespace sallyport::ledger {

Digest256 CompactRange::root() const {
  if (size_ == 0) return empty_root();
  auto level = static_cast<unsigned>(std::countr_zero(size_));
  Digest256 hash = border_[level];
  for (++level; level < border_.size(); ++level)
    if ((size_ >> level & 1) != 0) hash = hash_node(border_[level], hash);
  return hash;
}

Bytes CompactRange::encode() const {
  Writer out;
  out.u64(size_);
  for (std::size_t level = border_.size(); level-- > 0;)
    if ((size_ >> level & 1) != 0) out.raw(view(border_[level]));
  return std::move(out).take();
}

Result<CompactRange> CompactRange::parse(ByteView bytes) {
  Reader in{bytes};
  CompactRange range;
  SP_TRY(range.size_, in.u64());
  if (range.size_ > kMaxTreeSize) return Error{Code::kMalformed, "a tree that is too large"};
  for (std::size_t level = range.border_.size(); level-- > 0;) {
    if ((range.size_ >> level & 1) == 0) continue;
    SP_TRY(const auto hash, in.array<32>());
    range.border_[level] = Digest256{hash};
  }
  SP_CHECK(in.finish());
  return range;
}

bool operator==(const CompactRange& a, const CompactRange& b) {
  if (a.size_ != b.size_) return false;
  for (std::size_t level = 0; level < a.border_.size(); ++level)
    if ((a.size_ >> level & 1) != 0 && a.border_[level] != b.border_[level]) return false;
  return true;
}

Result<CompactRange> compact_range_at(TreeSize size, const NodeReader& node) {
  if (size.get() > kMaxTreeSize) return Error{Code::kMalformed, "a tree that is too large"};
  Writer out;
  out.u64(size.get());
  for (unsigned level = 63; level-- > 0;) {
    if ((size.get() >> level & 1) == 0) continue;
    SP_TRY(const Digest256 hash, node(level, (size.get() >> level) - 1));
    out.raw(view(hash));
  }
  return CompactRange::parse(out.bytes());
}

}  // namespace sallyport::ledger

#pragma once

#include "attestation/base/bytes.h"
#include "attestation/base/error.h"

namespace sallyport {

// Writer builds big-endian bytes. Lengths are checked by the caller's caps; a length that does not fit is our own mistake.
class Writer {
 public:
  Writer& u8(std::uint8_t v) {
    out_.push_back(v);
    return *this;
  }
  Writer& u16(std::uint16_t v) { return integer(v, 2); }
  Writer& u32(std::uint32_t v) { return integer(v, 4); }
  Writer& u64(std::uint64_t v) { return integer(v, 8); }
  // Not inlined: g++ 12 -O3 sees an overflow in vector::insert that is not there (stringop-overflow).
  [[gnu::noinline]] Writer& raw(ByteView v) {
    out_.insert(out_.end(), v.begin(), v.end());
    return *this;
  }
  Writer& raw(std::string_view v) { return raw(as_bytes(v)); }
  // A length, then the bytes: u16 as in TPM2B and TLS, u32 as in SSH and our own formats.
  Writer& prefixed16(ByteView v) {
    SP_ASSERT(v.size() <= 0xFFFF);
    return u16(static_cast<std::uint16_t>(v.size())).raw(v);
  }
  Writer& prefixed32(ByteView v) {
    SP_ASSERT(v.size() <= 0xFFFFFFFF);
    return u32(static_cast<std::uint32_t>(v.size())).raw(v);
  }
  Writer& prefixed32(std::string_view v) { return prefixed32(as_bytes(v)); }

  const Bytes& bytes() const& { return out_; }
  Bytes take() && { return std::move(out_); }

 private:
  Writer& integer(std::uint64_t v, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) out_.push_back(static_cast<std::uint8_t>(v >> shift));
    return *this;
  }
  Bytes out_;
};

}  // namespace sallyport

#pragma once

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport {

// Reader is a span that only shrinks: every read is bounded and can fail, integers are big-endian unless
// their read is named
// `_le` (what firmware and kernels write), and finish() makes trailing bytes an error. It believes nothing
// and allocates nothing.
class Reader {
 public:
  explicit Reader(ByteView bytes) : rest_(bytes) {}

  std::size_t remaining() const { return rest_.size(); }
  ByteView rest() const { return rest_; }

  Result<std::uint8_t> u8() { return integer<std::uint8_t>(); }
  Result<std::uint16_t> u16() { return integer<std::uint16_t>(); }
  Result<std::uint32_t> u32() { return integer<std::uint32_t>(); }
  Result<std::uint64_t> u64() { return integer<std::uint64_t>(); }

  Result<std::uint16_t> u16_le() { return little_endian<std::uint16_t>(); }
  Result<std::uint32_t> u32_le() { return little_endian<std::uint32_t>(); }
  Result<std::uint64_t> u64_le() { return little_endian<std::uint64_t>(); }

  Result<ByteView> raw(std::size_t size) {
    if (size > rest_.size()) return Error{Code::kMalformed, "truncated"};
    const ByteView taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  template <std::size_t N>
  Result<ByteArray<N>> array() {
    SP_TRY(const ByteView taken, raw(N));
    ByteArray<N> out;
    std::memcpy(out.data(), taken.data(), N);
    return out;
  }
  // prefixed16/32: a length of at most `max`, then that many bytes.
  Result<ByteView> prefixed16(std::size_t max) {
    SP_TRY(const std::uint16_t size, u16());
    if (size > max) return Error{Code::kMalformed, "longer than its cap"};
    return raw(size);
  }
  Result<ByteView> prefixed32(std::size_t max) {
    SP_TRY(const std::uint32_t size, u32());
    if (size > max) return Error{Code::kMalformed, "longer than its cap"};
    return raw(size);
  }
  Status finish() const {
    if (!rest_.empty()) return Error{Code::kMalformed, "trailing bytes"};
    return Done{};
  }

 private:
  template <class T>
  Result<T> integer() {
    SP_TRY(const ByteView taken, raw(sizeof(T)));
    T value = 0;
    for (const std::uint8_t byte : taken)
      value = static_cast<T>(static_cast<std::uint64_t>(value) << 8 | byte);
    return value;
  }
  template <class T>
  Result<T> little_endian() {
    SP_TRY(const ByteView taken, raw(sizeof(T)));
    T value = 0;
    for (std::size_t i = sizeof(T); i-- > 0;)
      value = static_cast<T>(static_cast<std::uint64_t>(value) << 8 | taken[i]);
    return value;
  }
  ByteView rest_;
};

}  // namespace sallyport

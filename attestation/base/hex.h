#pragma once

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"

namespace sallyport {

// to_hex gives lower-case hexadecimal. parse_hex takes only that: one value, one spelling.
std::string to_hex(ByteView bytes);
Result<Bytes> parse_hex(std::string_view text, std::size_t max_bytes);

template <std::size_t N>
Result<ByteArray<N>> parse_hex_array(std::string_view text) {
  if (text.size() != 2 * N) return Error{Code::kMalformed, "hexadecimal of another length"};
  SP_TRY(const Bytes bytes, parse_hex(text, N));
  ByteArray<N> out;
  std::memcpy(out.data(), bytes.data(), N);
  return out;
}

inline std::string to_hex(const Digest256& d) { return to_hex(view(d)); }
inline std::string to_hex(const CaseId& c) { return to_hex(view(c)); }
inline std::string to_hex(const DeviceId& d) { return to_hex(view(d)); }
inline std::string to_hex(const KeyId& k) { return to_hex(view(k)); }
inline std::string to_hex(const Nonce& n) { return to_hex(view(n)); }

inline Result<Digest256> parse_digest(std::string_view hex) {
  SP_TRY(const auto bytes, parse_hex_array<32>(hex));
  return Digest256{bytes};
}
inline Result<CaseId> parse_case_id(std::string_view hex) {
  SP_TRY(const auto bytes, parse_hex_array<16>(hex));
  return CaseId{bytes};
}
inline Result<DeviceId> parse_device_id(std::string_view hex) {
  SP_TRY(const auto digest, parse_digest(hex));
  return DeviceId{digest};
}
inline Result<KeyId> parse_key_id(std::string_view hex) {
  SP_TRY(const auto digest, parse_digest(hex));
  return KeyId{digest};
}

}  // namespace sallyport

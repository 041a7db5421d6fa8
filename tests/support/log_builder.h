#pragma once

#include <initializer_list>
#include <utility>

#include "attestation/base/bytes.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/event_log.h"

namespace sallyport::test {

// LogBuilder writes event logs octet by octet, good and bad ones.
class LogBuilder {
 public:
  using Digests = std::vector<std::pair<std::uint16_t, Bytes>>;

  LogBuilder& u8(std::uint8_t value) {
    bytes.push_back(value);
    return *this;
  }
  LogBuilder& u16(std::uint16_t value) {
    return u8(static_cast<std::uint8_t>(value)).u8(static_cast<std::uint8_t>(value >> 8));
  }
  LogBuilder& u32(std::uint32_t value) {
    return u16(static_cast<std::uint16_t>(value)).u16(static_cast<std::uint16_t>(value >> 16));
  }
  LogBuilder& raw(ByteView more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
    return *this;
  }

  struct SpecId {
    std::vector<std::pair<std::uint16_t, std::uint16_t>> algorithms{
        {std::uint16_t{0x000B}, std::uint16_t{32}}};
    std::uint32_t pcr = 0, type = 3, platform_class = 0;
    std::uint8_t minor = 0, major = 2, uintn = 2;
    std::string_view signature{"Spec ID Event03\0", 16};
    std::int64_t count = -1;  // -1: as many as there are
    std::uint8_t vendor_size = 0;
    Bytes vendor{};
  };
  LogBuilder& spec_id(const SpecId& form) {
    LogBuilder data;
    data.raw(as_bytes(form.signature)).u32(form.platform_class).u8(form.minor).u8(form.major).u8(0);
    data.u8(form.uintn)
        .u32(form.count < 0 ? static_cast<std::uint32_t>(form.algorithms.size())
                            : static_cast<std::uint32_t>(form.count));
    for (const auto& [algorithm, size] : form.algorithms) data.u16(algorithm).u16(size);
    data.u8(form.vendor_size).raw(form.vendor);
    return sha1_event(form.pcr, form.type, data.bytes, Bytes(20, 0));
  }
  LogBuilder& sha1_event(std::uint32_t pcr, std::uint32_t type, ByteView data, ByteView digest) {
    return u32(pcr).u32(type).raw(digest).u32(static_cast<std::uint32_t>(data.size())).raw(data);
  }
  LogBuilder& event(std::uint32_t pcr, std::uint32_t type, ByteView data, const Digests& digests) {
    u32(pcr).u32(type).u32(static_cast<std::uint32_t>(digests.size()));
    for (const auto& [algorithm, digest] : digests) u16(algorithm).raw(digest);
    return u32(static_cast<std::uint32_t>(data.size())).raw(data);
  }
  // event with the SHA-256 digest of its data.
  LogBuilder& event(std::uint32_t pcr, evidence::EventType type, ByteView data) {
    return event(pcr, static_cast<std::uint32_t>(type), data,
                 {{std::uint16_t{0x000B}, to_bytes(view(crypto::sha256(data)))}});
  }

  Bytes bytes;
};

}  // namespace sallyport::test

#pragma once

#include "attestation/base/bytes.h"

namespace sallyport::test {

// behind_header gives a certificate as TPM 1.2 tools wrote it into NV: 10 01 00 LL LL 10 02, then the DER.
inline Bytes behind_header(ByteView der) {
  const std::size_t size = der.size() + 2;
  Bytes out{0x10, 0x01, 0x00, static_cast<std::uint8_t>(size >> 8), static_cast<std::uint8_t>(size),
            0x10, 0x02};
  out.insert(out.end(), der.begin(), der.end());
  return out;
}

}  // namespace sallyport::test

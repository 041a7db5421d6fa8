#pragma once

#include <initializer_list>
#include <memory>

#include "attestation/base/bytes.h"
#include "attestation/base/strong.h"

namespace sallyport::crypto {

// sha256 of one or several pieces of bytes, in order (FIPS 180-4).
Digest256 sha256(ByteView bytes);
Digest256 sha256(std::initializer_list<ByteView> pieces);
ByteArray<48> sha384(ByteView bytes);
ByteArray<64> sha512(ByteView bytes);
ByteArray<20> sha1(ByteView bytes);  // to retell what old firmware measured: nothing may rest on it

// hmac_sha256 (RFC 2104, FIPS 198-1).
Digest256 hmac_sha256(ByteView key, ByteView bytes);

}  // namespace sallyport::crypto

#pragma once

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport {

// to_base64 and parse_base64 are RFC 4648 §4 with padding. parse_base64 takes only the one canonical spelling of a value: no
// white space, full padding, unused bits zero.
std::string to_base64(ByteView bytes);
// to_base64url is RFC 4648 §5 without padding, as JSON web tokens have it.
std::string to_base64url(ByteView bytes);
Result<Bytes> parse_base64(std::string_view text, std::size_t max_bytes);

}  // namespace sallyport

#pragma once

#include <openssl/rand.h>

#include "attestation/base/error.h"
#include "attestation/base/strong.h"

namespace sallyport::crypto {

// random_array gives N bytes from OpenSSL's generator. The verification core does not call it: nonces are its arguments.
template <std::size_t N>
ByteArray<N> random_array() {
  ByteArray<N> out;
  SP_ASSERT(RAND_bytes(out.data(), static_cast<int>(N)) == 1);
  return out;
}
inline Nonce random_nonce() { return Nonce{random_array<32>()}; }
inline CaseId random_case_id() { return CaseId{random_array<16>()}; }

}  // namespace sallyport::crypto

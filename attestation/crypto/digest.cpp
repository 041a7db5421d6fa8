#include "attestation/crypto/digest.h"

#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "attestation/base/error.h"
#include "attestation/crypto/openssl_ptr.h"

namespace sallyport::crypto {

// The low-level SHA256 calls: EVP fetches its digest anew at each EVP_Digest and costs four times as much for a leaf.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

Digest256 sha256(std::initializer_list<ByteView> pieces) {
  SHA256_CTX context;
  SHA256_Init(&context);
  for (const ByteView piece : pieces) SHA256_Update(&context, piece.data(), piece.size());
  ByteArray<32> out;
  SHA256_Final(out.data(), &context);
  return Digest256{out};
}

#pragma GCC diagnostic pop

Digest256 sha256(ByteView bytes) { return sha256({bytes}); }

ByteArray<48> sha384(ByteView bytes) {
  ByteArray<48> out;
  ::SHA384(bytes.data(), bytes.size(), out.data());
  return out;
}

ByteArray<64> sha512(ByteView bytes) {
  ByteArray<64> out;
  ::SHA512(bytes.data(), bytes.size(), out.data());
  return out;
}

ByteArray<20> sha1(ByteView bytes) {
  ByteArray<20> out;
  ::SHA1(bytes.data(), bytes.size(), out.data());
  return out;
}

Digest256 hmac_sha256(ByteView key, ByteView bytes) {
  ByteArray<32> out;
  unsigned size = 0;
  static constexpr std::uint8_t kEmpty = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), key.empty() ? &kEmpty : key.data(), static_cast<int>(key.size()),
           bytes.empty() ? &kEmpty : bytes.data(), bytes.size(), out.data(), &size);
  SP_ASSERT(made != nullptr && size == out.size());
  return Digest256{out};
}

}  // namespace sallyport::crypto

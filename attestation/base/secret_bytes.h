#pragma once

#include "attestation/base/bytes.h"

namespace sallyport {

// SecretBytes is move-only memory from OpenSSL's secure heap (locked, once the program has called CRYPTO_secure_malloc_init),
// cleared when freed. It has no output, no comparison and no conversion; expose() is the one way to the bytes, so that
// `grep -rn 'expose()'` is the review list.
class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(std::size_t size);
  explicit SecretBytes(ByteView bytes);
  SecretBytes(SecretBytes&& other) noexcept;
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<std::uint8_t> expose() { return {data_, size_}; }
  ByteView expose() const { return {data_, size_}; }

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

// equal_in_constant_time compares secrets without telling where they differ.
bool equal_in_constant_time(ByteView a, ByteView b);

}  // namespace sallyport

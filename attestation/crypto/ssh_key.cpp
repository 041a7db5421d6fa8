#include "attestation/crypto/ssh_key.h"

#include "attestation/base/base64.h"
#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"

namespace sallyport::crypto {
namespace {

constexpr std::string_view kP256Name = "ecdsa-sha2-nistp256";
constexpr std::string_view kP256Curve = "nistp256";
constexpr std::string_view kEd25519Name = "ssh-ed25519";

// An SSH mpint of a positive number: shortest form, with a zero byte where the top bit is set (RFC 4251 §5).
void put_mpint(Writer& out, ByteView number) {
  while (!number.empty() && number[0] == 0) number = number.subspan(1);
  Bytes bytes;
  if (!number.empty() && (number[0] & 0x80) != 0) bytes.push_back(0);
  bytes.insert(bytes.end(), number.begin(), number.end());
  out.prefixed32(bytes);
}

Status take_mpint(Reader& in, std::span<std::uint8_t> out) {
  SP_TRY(ByteView bytes, in.prefixed32(out.size() + 1));
  if (bytes.empty() || (bytes[0] & 0x80) != 0) return Error{Code::kMalformed, "mpint that is not positive"};
  if (bytes[0] == 0) {
    if (bytes.size() < 2 || (bytes[1] & 0x80) == 0)
      return Error{Code::kMalformed, "mpint not in its shortest form"};
    bytes = bytes.subspan(1);
  }
  if (bytes.size() > out.size()) return Error{Code::kMalformed, "mpint too long"};
  std::memset(out.data(), 0, out.size());
  std::memcpy(out.data() + out.size() - bytes.size(), bytes.data(), bytes.size());
  return Done{};
}

}  // namespace

Result<Bytes> ssh_key_blob(const PublicKey& key) {
  switch (key.algorithm()) {
    case KeyAlgorithm::kP256:
      return std::move(Writer{}.prefixed32(kP256Name).prefixed32(kP256Curve).prefixed32(key.raw())).take();
    case KeyAlgorithm::kEd25519:
      return std::move(Writer{}.prefixed32(kEd25519Name).prefixed32(key.raw())).take();
    default:
      return Error{Code::kMalformed, "no SSH form for this key's algorithm"};
  }
}

Result<PublicKey> parse_ssh_key_blob(ByteView blob) {
  Reader in{blob};
  SP_TRY(const ByteView name, in.prefixed32(64));
  if (as_text(name) == kP256Name) {
    SP_TRY(const ByteView curve, in.prefixed32(16));
    if (as_text(curve) != kP256Curve)
      return Error{Code::kMalformed, "SSH key with another curve than its name"};
    SP_TRY(const ByteView point, in.prefixed32(65));
    SP_CHECK(in.finish());
    return PublicKey::from_p256_point(point);
  }
  if (as_text(name) == kEd25519Name) {
    SP_TRY(const ByteView raw, in.prefixed32(32));
    SP_CHECK(in.finish());
    return PublicKey::from_ed25519(raw);
  }
  return Error{Code::kMalformed, "SSH key algorithm that is not supported"};
}

std::string ssh_fingerprint(ByteView blob) {
  std::string text = "SHA256:" + to_base64(view(sha256(blob)));
  while (text.ends_with('=')) text.pop_back();
  return text;
}

Bytes ssh_signature_blob(const Signature64& signature) {
  Writer numbers;
  put_mpint(numbers, ByteView{signature}.first(32));
  put_mpint(numbers, ByteView{signature}.subspan(32));
  return std::move(Writer{}.prefixed32(kP256Name).prefixed32(numbers.bytes())).take();
}

Result<Signature64> parse_ssh_signature_blob(ByteView blob) {
  Reader in{blob};
  SP_TRY(const ByteView name, in.prefixed32(64));
  if (as_text(name) != kP256Name)
    return Error{Code::kMalformed, "SSH signature algorithm that is not supported"};
  SP_TRY(const ByteView numbers, in.prefixed32(80));
  SP_CHECK(in.finish());
  Reader inner{numbers};
  Signature64 signature;
  SP_CHECK(take_mpint(inner, std::span{signature}.first(32)));
  SP_CHECK(take_mpint(inner, std::span{signature}.subspan(32)));
  SP_CHECK(inner.finish());
  return signature;
}

}  // namespace sallyport::crypto

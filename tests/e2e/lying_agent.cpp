// lying_agent SOCKET CERTIFICATE.pub: an ssh agent that shows somebody else's certificate, and signs with a
// key of its own: what a thief has who copied the file. It serves one connection after the other until it is
// killed.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iostream>
#include <string>

#include "attestation/base/base64.h"
#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/private_key.h"
#include "attestation/crypto/ssh_key.h"

namespace {

using namespace sallyport;

// draft-miller-ssh-agent §6.1
constexpr std::uint8_t kFailure = 5, kRequestIdentities = 11, kIdentitiesAnswer = 12, kSignRequest = 13,
                       kSignResponse = 14;

Result<Bytes> answer(ByteView message, ByteView certificate, const crypto::PrivateKey& key) {
  Reader in{message};
  SP_TRY(const std::uint8_t type, in.u8());
  if (type == kRequestIdentities)
    return std::move(Writer{}.u8(kIdentitiesAnswer).u32(1).prefixed32(certificate).prefixed32("mine")).take();
  if (type != kSignRequest) return Bytes{kFailure};
  SP_TRY(const ByteView blob, in.prefixed32(128u << 10));
  SP_TRY(const ByteView content, in.prefixed32(128u << 10));
  (void)blob;
  SP_TRY(const crypto::Signature64 signature, key.sign_p256(crypto::sha256(content)));
  return std::move(Writer{}.u8(kSignResponse).prefixed32(crypto::ssh_signature_blob(signature))).take();
}

void serve(int peer, ByteView certificate, const crypto::PrivateKey& key) {
  Bytes buffer;
  std::uint8_t chunk[16384];
  for (ssize_t got = 0; (got = read(peer, chunk, sizeof chunk)) > 0;) {
    buffer.insert(buffer.end(), chunk, chunk + got);
    Reader in{buffer};
    const auto message = in.prefixed32(256u << 10);
    if (!message.has_value()) continue;
    const auto reply = answer(*message, certificate, key);
    const Bytes framed =
        std::move(Writer{}.prefixed32(reply.has_value() ? ByteView{*reply} : ByteView{&kFailure, 1})).take();
    if (write(peer, framed.data(), framed.size()) != static_cast<ssize_t>(framed.size())) return;
    buffer.clear();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::ifstream file{argv[2]};
  std::string type, text;
  file >> type >> text;
  const auto certificate = parse_base64(text, 64u << 10);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!certificate.has_value() || std::strlen(argv[1]) >= sizeof address.sun_path) return 2;
  std::strcpy(address.sun_path, argv[1]);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener, 4) != 0)
    return 1;
  const crypto::PrivateKey key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  for (;;) {
    const int peer = accept(listener, nullptr, nullptr);
    if (peer < 0) return 1;
    serve(peer, *certificate, key);
    close(peer);
  }
}

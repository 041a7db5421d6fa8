#pragma once

#include <optional>
#include <string>

#include "attestation/base/strong.h"

namespace sallyport::sessions {

// Peer is what one connection has proved. It ends with the connection.
struct Peer {
  std::string address;         // as the network layer saw it
  Digest256 exporter;          // of the TLS connection (RFC 9266)
  std::optional<Nonce> nonce;  // given by hello, for one proof
  UnixMillis nonce_until;
  std::string head;  // the note that was given with it
  std::optional<DeviceId> device;
  std::optional<PersonId> person;
  std::optional<std::string> host;
};

}  // namespace sallyport::sessions

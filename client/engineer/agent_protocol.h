#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "attestation/crypto/public_key.h"
#include "broker/credentials/ssh_login.h"

namespace sallyport::client::engineer {

// AgentKey is the one key of the agent.
struct AgentKey {
  Bytes certificate;                   // SSH wire form
  std::string host;                    // for people
  std::vector<std::string> host_keys;  // "SHA256:…": of the hosts that a login may go to
  // allows judges a login whose form is right, and that is of the host which the connection is bound to.
  std::function<Status(const credentials::SshLogin&)> allows;
  std::function<Result<crypto::Signature64>(ByteView content)> sign;
};

// AgentConnection is one connection to an ssh-agent (draft-miller-ssh-agent), without the socket: bytes in,
// bytes out. It signs a login only on a connection whose host has proved a key of `host_keys`
// (session-bind@openssh.com, unforwarded, once), for exactly that host key and session, and if `allows` says
// so.
class AgentConnection {
 public:
  // key outlives the connection.
  explicit AgentConnection(const AgentKey& key) : key_(key) {}

  // take answers what has come in, message by message, however it was cut; `send` gets each reply with its
  // length, and says whether it went. False: the connection is over, or the peer speaks something else.
  bool take(ByteView bytes, const std::function<bool(ByteView reply)>& send);
  // Why the last message was refused, if that can have failed a login: an extension that is not known cannot.
  const std::optional<Error>& refused() const { return refused_; }

 private:
  Result<Bytes> answer(ByteView message);
  Result<Bytes> bind_session(ByteView rest);
  Result<Bytes> sign(ByteView rest);

  const AgentKey& key_;
  Bytes buffer_;
  std::optional<Bytes> session_id_, host_key_;  // once bound
  std::optional<Error> refused_;
};

}  // namespace sallyport::client::engineer

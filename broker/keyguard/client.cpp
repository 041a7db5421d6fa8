#include "broker/keyguard/client.h"

#include <mutex>
#include <optional>
#include <vector>

#include "attestation/net/frames.h"

namespace sallyport::keyguard {

struct Client::Impl {
  std::filesystem::path socket;
  std::chrono::milliseconds timeout;
  std::mutex mutex;
  std::vector<net::FrameClient> idle;  // guarded by mutex

  Result<net::FrameClient> connect() const {
    net::FrameLimits limits;
    limits.max_frame_bytes = kMaxFrameBytes;
    limits.frame_timeout = timeout;
    limits.write_timeout = timeout;
    return net::FrameClient::connect(socket, limits, timeout);
  }

  std::optional<net::FrameClient> take() {
    const std::lock_guard lock{mutex};
    if (idle.empty()) return std::nullopt;
    net::FrameClient client = std::move(idle.back());
    idle.pop_back();
    return client;
  }

  // exchange makes one call; its errors name the part that fails, for those who know the keyguard only by
  // name.
  Result<Bytes> exchange(Call call, ByteView payload) {
    auto answer = try_exchange(call, payload);
    if (answer.has_value()) return answer;
    Error error = std::move(answer).error();
    switch (error.reason) {
      case Reason::kPeer:
      case Reason::kPeerTimeout:
        error.reason = Reason::kKeyguardAway;
        break;
      case Reason::kToken:
      case Reason::kTokenAbsent:
      case Reason::kTokenKey:
      case Reason::kTokenLocked:
      case Reason::kTokenPin:
      case Reason::kTokenTimeout:  // the HSM is the keyguard's token, and nobody else's
        error.code = Code::kUnavailable;
        error.reason = Reason::kHsmAway;
        break;
      default:
        break;
    }
    return error;
  }

  // try_exchange makes one call. A kept connection that turns out to be dead is replaced once: such a call
  // may be repeated. A lease may not: it is signed once, and whether it was is not known when the connection
  // is lost.
  Result<Bytes> try_exchange(Call call, ByteView payload) {
    const Bytes request = encode_frame(call, payload);
    std::optional<net::FrameClient> client;
    if (call != Call::kLease) client = take();
    std::optional<Result<Bytes>> answer;
    if (client) answer = client->call(request, timeout);
    if (!answer || (!answer->has_value() && answer->error().reason == Reason::kPeer)) {
      auto fresh = connect();
      if (!fresh.has_value()) return std::move(fresh).error();
      client = std::move(*fresh);
      answer = client->call(request, timeout);
    }
    if (!answer->has_value()) return std::move(*answer).error();
    if (call != Call::kLease) {
      const std::lock_guard lock{mutex};
      idle.push_back(std::move(*client));
    }
    SP_TRY(Frame frame, parse_frame(**answer));
    if (frame.call == Call::kError) return parse_error(frame.payload);
    if (frame.call != call) return Error{Code::kMalformed, "the keyguard answered another call"};
    return std::move(frame.payload);
  }
};

Client::Client(std::filesystem::path socket, std::chrono::milliseconds timeout)
    : impl_(std::make_unique<Impl>()) {
  impl_->socket = std::move(socket);
  impl_->timeout = timeout;
}
Client::~Client() = default;

Result<StatusAnswer> Client::status() {
  SP_TRY(const Bytes answer, impl_->exchange(Call::kStatus, {}));
  return parse_status_answer(answer);
}

Result<std::string> Client::advance(const record::Batch& batch) {
  SP_TRY(const Bytes answer, impl_->exchange(Call::kAdvance, record::encode_batch(batch)));
  return std::string{as_text(answer)};
}

Result<Bytes> Client::certify(ByteView full_dossier) {
  return impl_->exchange(Call::kCertify, full_dossier);
}

Result<Bytes> Client::lease_statement(const LeaseStatementCall& call) {
  return impl_->exchange(Call::kLeaseStatement, encode(call));
}

Result<crypto::Signature64> Client::lease(const LeaseCall& call) {
  SP_TRY(const Bytes answer, impl_->exchange(Call::kLease, encode(call)));
  if (answer.size() != 64) return Error{Code::kMalformed, "the keyguard's lease is not 64 bytes"};
  crypto::Signature64 signature;
  std::memcpy(signature.data(), answer.data(), 64);
  return signature;
}

}  // namespace sallyport::keyguard

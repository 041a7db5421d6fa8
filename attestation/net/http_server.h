#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <typeindex>

#include "attestation/net/http.h"
#include "attestation/net/tls.h"

namespace sallyport::net {

// Connection is one peer's connection as a handler sees it. Requests on it are handled one after the other,
// each perhaps on another thread, so a handler uses it without a lock but does not keep it after returning.
class Connection {
 public:
  std::uint64_t id() const { return id_; }  // unique in the life of the server
  const std::string& peer_address() const {
    return peer_address_;
  }  // "192.0.2.7" or "2001:db8::7", without port or zone;
     // an IPv4-mapped address is written as IPv4
  std::uint16_t peer_port() const { return peer_port_; }
  const std::optional<TlsExporter>& exporter() const { return exporter_; }  // absent on a plain connection

  // stopping is true once the server was told to stop: a handler that waits should then answer soon.
  bool stopping() const { return stopping_ && stopping_(); }

  // The state slot keeps one object of the handler's for the life of the connection; it is destroyed when the
  // connection ends.
  template <class T, class... Args>
  T& emplace_state(Args&&... args) {
    auto made = std::make_shared<T>(std::forward<Args>(args)...);
    T& reference = *made;
    state_ = std::move(made);
    state_type_ = typeid(T);
    return reference;
  }
  // state is the slot's object, or nullptr when there is none or it is not a T.
  template <class T>
  T* state() {
    return state_ && state_type_ == typeid(T) ? static_cast<T*>(state_.get()) : nullptr;
  }
  void clear_state() { state_.reset(); }

  // For tests of handlers, and for the server.
  Connection(std::uint64_t id, std::string peer_address, std::uint16_t peer_port,
             std::optional<TlsExporter> exporter, std::function<bool()> stopping = {})
      : id_(id),
        peer_address_(std::move(peer_address)),
        peer_port_(peer_port),
        exporter_(std::move(exporter)),
        stopping_(std::move(stopping)) {}

 private:
  std::uint64_t id_;
  std::string peer_address_;
  std::uint16_t peer_port_;
  std::optional<TlsExporter> exporter_;
  std::function<bool()> stopping_;
  std::shared_ptr<void> state_;
  std::type_index state_type_ = typeid(void);
};

// HttpHandler answers one request. It runs on a worker thread and may block up to a deadline of its own (long
// polls); several run at once, for different connections. What it throws becomes an empty 500.
using HttpHandler = std::function<HttpResponse(const HttpRequest&, Connection&)>;

struct HttpServerOptions {
  std::string address = "127.0.0.1";  // an IP address
  std::uint16_t port = 0;             // 0: a free one
  std::optional<TlsIdentity> tls;     // absent: plain HTTP, for loopback

  std::size_t max_connections = 4096;        // the ones beyond are closed at once
  std::size_t max_header_bytes = 16 * 1024;  // request line and headers; beyond: 431
  std::size_t max_body_bytes = 1024 * 1024;  // beyond: 413

  std::chrono::milliseconds handshake_timeout{10'000};
  std::chrono::milliseconds idle_timeout{120'000};   // from an answer to the first byte of the next request
  std::chrono::milliseconds header_timeout{10'000};  // from the first byte to the end of the headers
  std::chrono::milliseconds body_timeout{30'000};    // for the rest of the request
  std::chrono::milliseconds write_timeout{30'000};   // for one answer
  std::chrono::milliseconds stop_timeout{5'000};     // for answers under way when the server stops

  std::size_t worker_threads = 64;  // handlers that may run, or wait, at once
  std::size_t io_threads = 1;

  // turned_away hears why peers are not served, once in ten seconds at most.
  std::function<void(std::string_view why)> turned_away;
};

// HttpServer serves HTTP/1.1 (RFC 9112) with keep-alive, one request at a time per connection; with TLS only
// TLS 1.3, without tickets, resumption or early data, so that one exporter belongs to one handshake. Every
// wait has a deadline; a peer that is too slow, too big or malformed loses its connection.
//   Does not prove: who the peer is. Clients show no certificate.
class HttpServer {
 public:
  // start listens and serves; it returns once the port is open.
  //   Errors: kUnavailable/kPeer (the address cannot be bound), kMalformed/kPeerTls (certificate or key not
  //   usable).
  static Result<HttpServer> start(HttpServerOptions options, HttpHandler handler);

  HttpServer(HttpServer&&) noexcept;
  HttpServer& operator=(HttpServer&&) noexcept;
  ~HttpServer();  // stops

  std::uint16_t port() const;
  std::string url() const;  // "https://127.0.0.1:40123"
  std::size_t connections() const;

  // stop closes the listener and idle connections, lets handlers that run answer, and returns when all
  // threads have ended; it waits for handlers as long as they take, and for peers at most stop_timeout.
  // Stopping twice is harmless.
  void stop();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::net

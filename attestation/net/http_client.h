#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "attestation/net/http.h"
#include "attestation/net/tls.h"

namespace sallyport::net {

struct HttpClientOptions {
  std::vector<KeyId> pins;  // SHA-256 of the SubjectPublicKeyInfo of keys that the server may prove; https://
                            // needs one at least
  std::chrono::milliseconds connect_timeout{10'000};  // name, TCP and TLS together
  std::chrono::milliseconds request_timeout{30'000};  // writing the request and reading the whole answer
  std::size_t max_header_bytes = 16 * 1024;
  std::size_t max_body_bytes = 16 * 1024 * 1024;
};

// HttpClient is one connection to one server, used by one thread at a time. It never reconnects by itself:
// what a connection has proved (its exporter) ends with it. After an error, or an answer that closes the
// connection, is_open() is false, every request fails with kPeer and Next::kReopenSession, and reconnect()
// makes a new connection with a new exporter.
class HttpClient {
 public:
  // connect opens a connection to the server of `url` (parse_http_url).
  //   Proves (https): the peer holds one of the pinned keys. Names, dates and issuers of its certificate are
  //   not looked at. Does not prove (http): anything. Errors: kMalformed (the URL; https without pins, http
  //   with), kUnavailable/kPeer, kUnavailable/kPeerTimeout,
  //           kUnverified/kPeerTls (another key, or a TLS failure).
  static Result<HttpClient> connect(std::string_view url, HttpClientOptions options);

  // connect_unpinned takes whatever key an https server shows, and server_key() tells it: for answers that
  // prove themselves, such as a policy whose digest is known. Does not prove: anything of the peer.
  static Result<HttpClient> connect_unpinned(std::string_view url, HttpClientOptions options);

  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) noexcept;
  ~HttpClient();

  // request sends one request and reads its answer, whatever its status. The Host header is ours; `timeout`
  // replaces request_timeout.
  //   Errors: kMalformed (the request cannot be written as HTTP; the answer is no HTTP or beyond a cap:
  //   reason kPeer),
  //           kUnavailable/kPeer, kUnavailable/kPeerTimeout. Whether the server acted is not known then.
  Result<HttpResponse> request(const HttpRequest& request,
                               std::optional<std::chrono::milliseconds> timeout = {});
  Result<HttpResponse> get(std::string target, std::optional<std::chrono::milliseconds> timeout = {});
  Result<HttpResponse> post(std::string target, std::string content_type, ByteView body,
                            std::optional<std::chrono::milliseconds> timeout = {});

  const std::optional<TlsExporter>& exporter() const;  // of the present connection; absent on http
  const std::optional<KeyId>& server_key() const;      // the pin that the server proved; absent on http
  const HttpUrl& url() const;
  bool is_open() const;
  Status reconnect();
  void close();

 private:
  struct Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::net

#include "attestation/net/http_client.h"

#include <openssl/x509.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"

namespace sallyport::net {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

using PlainStream = beast::tcp_stream;
using TlsStream = asio::ssl::stream<beast::tcp_stream>;
using ResponseMessage = http::response<http::vector_body<std::uint8_t>>;

Error unreachable(const char* doing, const error_code& error) {
  const std::string what = std::string{doing} + ": " + error.message();
  if (error == beast::error::timeout || error == asio::error::timed_out)
    return Error{Code::kUnavailable, Reason::kPeerTimeout, what, Next::kReopenSession, 0};
  if (error == http::error::body_limit || error == http::error::header_limit ||
      (error.category() == http::make_error_code(http::error::bad_method).category() &&
       error != http::error::end_of_stream && error != http::error::partial_message))
    return Error{Code::kMalformed, Reason::kPeer, what, Next::kReopenSession, 0};
  return Error{Code::kUnavailable, Reason::kPeer, what, Next::kReopenSession, 0};
}

Error closed() {
  return Error{Code::kUnavailable, Reason::kPeer, "the connection is closed", Next::kReopenSession, 0};
}

// What the certificate callback compares with, and what it found.
struct PinCheck {
  std::vector<KeyId> pins;
  bool any_key = false;
  std::optional<KeyId> proved;
};

// check_pin replaces the whole verification of the server's certificate: TLS itself proves that the server
// holds the key in it.
int check_pin(X509_STORE_CTX* context, void* argument) {
  auto& check = *static_cast<PinCheck*>(argument);
  X509* leaf = X509_STORE_CTX_get0_cert(context);
  unsigned char* der = nullptr;
  const int size = leaf == nullptr ? -1 : i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
  if (size > 0) {
    const KeyId id{crypto::sha256(ByteView{der, static_cast<std::size_t>(size)})};
    OPENSSL_free(der);
    if (check.any_key || std::find(check.pins.begin(), check.pins.end(), id) != check.pins.end()) {
      check.proved = id;
      return 1;
    }
  }
  X509_STORE_CTX_set_error(context, X509_V_ERR_CERT_UNTRUSTED);
  return 0;
}

http::request<http::vector_body<std::uint8_t>> to_beast(const HttpRequest& request, const HttpUrl& url) {
  http::request<http::vector_body<std::uint8_t>> message;
  message.version(11);
  message.method_string(request.method);
  message.target(url.prefix + request.target);
  message.set(http::field::host, url.authority());
  for (const Header& header : request.headers) message.insert(header.name, header.value);
  message.keep_alive(true);
  message.body() = request.body;
  message.prepare_payload();
  return message;
}

HttpResponse from_beast(ResponseMessage message) {
  HttpResponse response;
  response.status = message.result_int();
  response.content_type = message[http::field::content_type];
  for (const auto& field : message)
    if (field.name() != http::field::content_type)
      response.headers.push_back({field.name_string(), field.value()});
  response.body = std::move(message.body());
  return response;
}

}  // namespace

struct HttpClient::Impl {
  // Failure is what a coroutine ends with: nothing when all went well. (co_spawn wants a type that can be
  // made from nothing.)
  using Failure = std::optional<Error>;

  HttpUrl url;
  HttpClientOptions options;
  PinCheck check;
  asio::io_context io{1};
  std::unique_ptr<asio::ssl::context> context;
  std::unique_ptr<PlainStream> plain;
  std::unique_ptr<TlsStream> tls;
  beast::flat_buffer buffer;
  std::optional<TlsExporter> exporter;
  bool open = false;

  Status make_context();
  void drop();
  Status run(asio::awaitable<Failure> work);
  Status connect();
  asio::awaitable<Failure> open_connection();
  Result<HttpResponse> request(const HttpRequest& what, milliseconds timeout);
  template <class StreamType>
  asio::awaitable<Failure> exchange(StreamType& stream, const HttpRequest& what, milliseconds timeout,
                                    ResponseMessage& answer);
};

// what_was_thrown: a stream throws when it can have no socket, because descriptors are used up.
Error what_was_thrown(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const boost::system::system_error& error) {
    return Error{Code::kUnavailable, Reason::kPeer, "connect: " + error.code().message(),
                 Next::kReopenSession, 0};
  } catch (const std::exception& error) {
    return Error{Code::kInternal, error.what()};
  }
}

// run drives one coroutine to its end on the caller's thread.
Status HttpClient::Impl::run(asio::awaitable<Failure> work) {
  Failure failure = Error{Code::kInternal, "the connection's coroutine did not end"};
  io.restart();
  asio::co_spawn(io, std::move(work), [&failure](std::exception_ptr thrown, Failure outcome) {
    failure = thrown ? what_was_thrown(thrown) : std::move(outcome);
  });
  io.run();
  if (failure) return std::move(*failure);
  return Done{};
}

Status HttpClient::Impl::make_context() {
  context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_client);
  SSL_CTX* ctx = context->native_handle();
  if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1)
    return Error{Code::kInternal, "TLS 1.3: " + crypto::drain_openssl_errors()};
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(ctx, check_pin, &check);
  return Done{};
}

void HttpClient::Impl::drop() {
  open = false;
  plain.reset();
  tls.reset();
  exporter.reset();
  check.proved.reset();
  buffer.clear();
}

Status HttpClient::Impl::connect() {
  drop();
  const Status status = run(open_connection());
  if (!status) {
    drop();
    return status;
  }
  open = true;
  return Done{};
}

asio::awaitable<HttpClient::Impl::Failure> HttpClient::Impl::open_connection() {
  // One deadline for all of it: name, TCP, TLS.
  const auto deadline = std::chrono::steady_clock::now() + options.connect_timeout;
  tcp::resolver resolver{io};
  asio::steady_timer name_timer{io, deadline};
  name_timer.async_wait([&resolver](const error_code& error) {
    if (!error) resolver.cancel();
  });
  auto [resolve_error, endpoints] =
      co_await resolver.async_resolve(url.host, std::to_string(url.port), kNoThrow);
  name_timer.cancel();
  if (resolve_error == asio::error::operation_aborted)
    co_return unreachable("resolve", beast::error::timeout);
  if (resolve_error) co_return unreachable("resolve", resolve_error);

  beast::tcp_stream stream{io};
  stream.expires_at(deadline);
  auto [connect_error, endpoint] = co_await stream.async_connect(endpoints, kNoThrow);
  if (connect_error) co_return unreachable("connect", connect_error);
  error_code ignored;
  stream.socket().set_option(tcp::no_delay{true}, ignored);
  if (!url.tls) {
    plain = std::make_unique<PlainStream>(std::move(stream));
    co_return std::nullopt;
  }

  tls = std::make_unique<TlsStream>(std::move(stream), *context);
  SSL* ssl = tls->native_handle();
  if (url.host.find_first_not_of("0123456789.:abcdefABCDEF") != std::string::npos)  // RFC 6066 §3: names only
    SSL_set_tlsext_host_name(ssl, url.host.c_str());
  beast::get_lowest_layer(*tls).expires_at(deadline);
  auto [handshake_error] = co_await tls->async_handshake(asio::ssl::stream_base::client, kNoThrow);
  // A connection that broke off, or never spoke, tells nothing of the server's key.
  if (handshake_error == beast::error::timeout || handshake_error == asio::error::eof ||
      handshake_error == asio::ssl::error::stream_truncated ||
      (handshake_error && handshake_error.category() == asio::error::get_system_category()))
    co_return unreachable("handshake", handshake_error);
  if (handshake_error || !check.proved)
    co_return Error{Code::kUnverified, Reason::kPeerTls, "handshake: " + handshake_error.message()};
  TlsExporter value;
  constexpr std::string_view kLabel = "EXPORTER-Channel-Binding";
  if (SSL_export_keying_material(ssl, value.data(), value.size(), kLabel.data(), kLabel.size(), nullptr, 0,
                                 0) != 1)
    co_return Error{Code::kUnverified, Reason::kPeerTls, "exporter: " + crypto::drain_openssl_errors()};
  exporter = value;
  co_return std::nullopt;
}

template <class StreamType>
asio::awaitable<HttpClient::Impl::Failure> HttpClient::Impl::exchange(StreamType& stream,
                                                                      const HttpRequest& what,
                                                                      milliseconds timeout,
                                                                      ResponseMessage& answer) {
  beast::get_lowest_layer(stream).expires_after(timeout);  // for all of it
  auto message = to_beast(what, url);
  auto [write_error, written] = co_await http::async_write(stream, message, kNoThrow);
  if (write_error == beast::error::timeout) co_return unreachable("write", write_error);
  // A server that refuses early closes while we still write: its answer may be there all the same.
  http::response_parser<http::vector_body<std::uint8_t>> parser;
  parser.header_limit(static_cast<std::uint32_t>(options.max_header_bytes));
  parser.body_limit(options.max_body_bytes);
  if (what.method == "HEAD") parser.skip(true);
  auto [read_error, size] = co_await http::async_read(stream, buffer, parser, kNoThrow);
  if (read_error) co_return unreachable("read", write_error ? write_error : read_error);
  open = !write_error && parser.get().keep_alive();
  answer = parser.release();
  co_return std::nullopt;
}

Result<HttpResponse> HttpClient::Impl::request(const HttpRequest& what, milliseconds timeout) {
  SP_CHECK(check_message_parts(what));
  if (!open) return closed();
  open = false;  // until the answer is whole
  ResponseMessage answer;
  const Status status =
      run(url.tls ? exchange(*tls, what, timeout, answer) : exchange(*plain, what, timeout, answer));
  const bool keep = open;
  if (!keep) drop();
  if (!status) return status.error();
  return from_beast(std::move(answer));
}

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient& HttpClient::operator=(HttpClient&&) noexcept = default;
HttpClient::~HttpClient() = default;

Result<HttpClient> HttpClient::connect(std::string_view url, HttpClientOptions options) {
  auto impl = std::make_unique<Impl>();
  SP_TRY(impl->url, parse_http_url(url));
  if (impl->url.tls && options.pins.empty()) return Error{Code::kMalformed, "https:// without a pinned key"};
  if (!impl->url.tls && !options.pins.empty()) return Error{Code::kMalformed, "a pinned key for http://"};
  impl->check.pins = options.pins;
  impl->options = std::move(options);
  if (impl->url.tls) SP_CHECK(impl->make_context());
  SP_CHECK(impl->connect());
  return HttpClient{std::move(impl)};
}

Result<HttpClient> HttpClient::connect_unpinned(std::string_view url, HttpClientOptions options) {
  auto impl = std::make_unique<Impl>();
  SP_TRY(impl->url, parse_http_url(url));
  if (!options.pins.empty()) return Error{Code::kMalformed, "a pinned key for a connection without one"};
  impl->check.any_key = true;
  impl->options = std::move(options);
  if (impl->url.tls) SP_CHECK(impl->make_context());
  SP_CHECK(impl->connect());
  return HttpClient{std::move(impl)};
}

Result<HttpResponse> HttpClient::request(const HttpRequest& request, std::optional<milliseconds> timeout) {
  return impl_->request(request, timeout.value_or(impl_->options.request_timeout));
}

Result<HttpResponse> HttpClient::get(std::string target, std::optional<milliseconds> timeout) {
  return request(HttpRequest{"GET", std::move(target), {}, {}}, timeout);
}

Result<HttpResponse> HttpClient::post(std::string target, std::string content_type, ByteView body,
                                      std::optional<milliseconds> timeout) {
  return request(
      HttpRequest{"POST", std::move(target), {{"Content-Type", std::move(content_type)}}, to_bytes(body)},
      timeout);
}

const std::optional<TlsExporter>& HttpClient::exporter() const {
  return impl_->exporter;
}
const std::optional<KeyId>& HttpClient::server_key() const {
  return impl_->check.proved;
}
const HttpUrl& HttpClient::url() const {
  return impl_->url;
}
bool HttpClient::is_open() const {
  return impl_->open;
}
Status HttpClient::reconnect() {
  return impl_->connect();
}
void HttpClient::close() {
  impl_->drop();
}

}  // namespace sallyport::net

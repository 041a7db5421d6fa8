#include "attestation/net/http_server.h"

#include <openssl/pem.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

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
constexpr std::size_t kMaxDrainedBytes = 8 * 1024 * 1024;
constexpr std::chrono::seconds kTellAgain{10};  // that peers are turned away
constexpr milliseconds kDrainTime{2'000};
constexpr milliseconds kHastyDrainTime{100};  // when the server stops

using PlainStream = beast::tcp_stream;
using TlsStream = asio::ssl::stream<beast::tcp_stream>;

Error tls_failed(const char* what) {
  return Error{Code::kMalformed, Reason::kPeerTls, std::string{what} + ": " + crypto::drain_openssl_errors()};
}

Result<std::unique_ptr<asio::ssl::context>> make_context(const TlsIdentity& identity) {
  auto context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  SSL_CTX* ctx = context->native_handle();
  if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1)
    return tls_failed("TLS 1.3");
  // One handshake, one exporter: no tickets, no cache, no early data.
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  if (SSL_CTX_set_num_tickets(ctx, 0) != 1 || SSL_CTX_set_max_early_data(ctx, 0) != 1)
    return tls_failed("tickets");
  SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, nullptr);

  const auto bio_of = [](ByteView bytes) {
    return crypto::BioPtr{BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size()))};
  };
  const crypto::BioPtr certificate_pem = bio_of(as_bytes(identity.certificate_pem));
  const crypto::X509Ptr certificate{
      certificate_pem ? PEM_read_bio_X509(certificate_pem.get(), nullptr, nullptr, nullptr) : nullptr};
  if (!certificate || SSL_CTX_use_certificate(ctx, certificate.get()) != 1)
    return tls_failed("the certificate");
  const crypto::BioPtr key_pem = bio_of(identity.key_pem.expose());
  const crypto::PkeyPtr key{key_pem ? PEM_read_bio_PrivateKey(key_pem.get(), nullptr, nullptr, nullptr)
                                    : nullptr};
  if (!key || SSL_CTX_use_PrivateKey(ctx, key.get()) != 1 || SSL_CTX_check_private_key(ctx) != 1)
    return tls_failed("the key");
  return context;
}

std::string address_text(const asio::ip::address& address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
  if (address.is_v6()) {
    auto v6 = address.to_v6();
    v6.scope_id(0);
    return v6.to_string();
  }
  return address.to_string();
}

HttpRequest from_beast(http::request<http::vector_body<std::uint8_t>> message) {
  HttpRequest request;
  request.method = message.method_string();
  request.target = message.target();
  for (const auto& field : message) request.headers.push_back({field.name_string(), field.value()});
  request.body = std::move(message.body());
  return request;
}

http::response<http::vector_body<std::uint8_t>> to_beast(HttpResponse response, unsigned version,
                                                         bool keep_alive) {
  http::response<http::vector_body<std::uint8_t>> message;
  message.version(version);
  message.result(response.status);
  if (!response.content_type.empty()) message.set(http::field::content_type, response.content_type);
  for (const Header& header : response.headers) message.insert(header.name, header.value);
  message.keep_alive(keep_alive);
  message.body() = std::move(response.body);
  message.prepare_payload();
  return message;
}

// One connection as the server's stop sees it.
class Closable {
 public:
  virtual ~Closable() = default;
  virtual void close_if_idle() = 0;  // any thread
  virtual void close() = 0;          // any thread
};

}  // namespace

struct HttpServer::Impl {
  HttpServerOptions options;
  HttpHandler handler;
  std::unique_ptr<asio::ssl::context> tls;
  asio::io_context io;
  tcp::acceptor acceptor{io};
  std::unique_ptr<asio::thread_pool> workers;
  std::vector<std::thread> threads;
  std::uint16_t port = 0;

  std::atomic<bool> stopping = false;
  std::atomic<std::uint64_t> next_id = 1;
  mutable std::mutex mutex;
  std::condition_variable all_closed;
  std::map<std::uint64_t, std::weak_ptr<Closable>> live;  // guarded by mutex
  bool accepting = false;                                 // guarded by mutex

  std::optional<std::chrono::steady_clock::time_point> turned_away_at;  // told last; the accept loop's

  asio::awaitable<void> accept_loop();
  void turn_away(std::string_view why);
  template <class Session>
  void begin(std::shared_ptr<Session> session);
  void forget(std::uint64_t id);
  HttpResponse answer(const HttpRequest& request, Connection& connection) noexcept;
  void stop();
};

namespace {

// Session owns a stream and runs in one coroutine on one strand; Impl outlives it.
template <class StreamType>
class Session final : public Closable, public std::enable_shared_from_this<Session<StreamType>> {
 public:
  Session(StreamType stream, const HttpServerOptions& options, asio::thread_pool& workers,
          Connection connection, HttpHandler answer, const std::atomic<bool>& stopping)
      : stream_(std::move(stream)),
        options_(options),
        workers_(workers),
        connection_(std::move(connection)),
        answer_(std::move(answer)),
        stopping_(stopping) {}

  std::uint64_t id() const { return connection_.id(); }
  auto executor() { return stream_.get_executor(); }

  void close_if_idle() override {
    asio::post(stream_.get_executor(), [self = this->shared_from_this()] {
      if (self->idle_) beast::get_lowest_layer(self->stream_).cancel();
    });
  }
  void close() override {
    asio::post(stream_.get_executor(),
               [self = this->shared_from_this()] { beast::get_lowest_layer(self->stream_).close(); });
  }

  asio::awaitable<void> run() {
    co_await serve();
    connection_.clear_state();
    beast::get_lowest_layer(stream_).close();
  }

 private:
  asio::awaitable<void> serve() {
    if constexpr (std::is_same_v<StreamType, TlsStream>) {
      expires_after(options_.handshake_timeout);
      idle_ = true;  // nothing is lost when the server stops now
      auto [error] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kNoThrow);
      idle_ = false;
      if (error) co_return;
      TlsExporter exporter;
      constexpr std::string_view kLabel = "EXPORTER-Channel-Binding";
      if (SSL_export_keying_material(stream_.native_handle(), exporter.data(), exporter.size(), kLabel.data(),
                                     kLabel.size(), nullptr, 0, 0) != 1)
        co_return;
      connection_ = Connection{connection_.id(), connection_.peer_address(), connection_.peer_port(),
                               exporter, [&stopping = stopping_] { return stopping.load(); }};
    }
    bool lost = false;
    while (!stopping_) {
      const bool more = co_await one_request(lost);
      if (!more) break;
    }
    if (!lost) co_await say_goodbye();
  }

  void expires_after(milliseconds time) { beast::get_lowest_layer(stream_).expires_after(time); }

  // one_request tells whether the connection may serve another; `lost` becomes true when nothing more can be
  // said on it.
  asio::awaitable<bool> one_request(bool& lost) {
    lost = true;
    if (buffer_.size() == 0) {
      idle_ = true;
      expires_after(options_.idle_timeout);
      auto [error, size] = co_await stream_.async_read_some(buffer_.prepare(kFirstReadBytes), kNoThrow);
      idle_ = false;
      if (error) {
        lost = error != asio::error::operation_aborted || !stopping_;
        co_return false;
      }
      buffer_.commit(size);
    }

    http::request_parser<http::vector_body<std::uint8_t>> parser;
    parser.header_limit(static_cast<std::uint32_t>(options_.max_header_bytes));
    parser.body_limit(options_.max_body_bytes);
    expires_after(options_.header_timeout);
    auto [header_error, header_size] = co_await http::async_read_header(stream_, buffer_, parser, kNoThrow);
    error_code error = header_error;
    if (!error && !parser.is_done()) {
      expires_after(options_.body_timeout);
      if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
        http::response<http::empty_body> go_on{http::status::continue_, 11};
        auto [continue_error, continue_size] = co_await http::async_write(stream_, go_on, kNoThrow);
        error = continue_error;
      }
      if (!error) {
        auto [body_error, body_size] = co_await http::async_read(stream_, buffer_, parser, kNoThrow);
        error = body_error;
      }
    }
    if (error) {
      const unsigned status = status_for(error);
      if (status == 0) co_return false;
      lost = false;
      HttpResponse refusal = HttpResponse::of(status, "", "");
      co_await write(std::move(refusal), 11, false);
      co_return false;
    }

    const bool wants_more = parser.get().keep_alive();
    const unsigned version = parser.get().version();
    const HttpRequest request = from_beast(parser.release());
    const bool is_head = request.method == "HEAD";
    // The handler runs on a worker; this coroutine, and its strand, are free meanwhile.
    beast::get_lowest_layer(stream_).expires_never();
    HttpResponse response = co_await on_worker(request);
    if (is_head) response.body.clear();
    const bool keep = wants_more && !stopping_;
    const bool written = co_await write(std::move(response), version, keep);
    lost = !written;
    co_return written&& keep;
  }

  asio::awaitable<HttpResponse> on_worker(const HttpRequest& request) {
    auto work = [this, &request]() -> asio::awaitable<HttpResponse> {
      co_return answer_(request, connection_);
    };
    HttpResponse response = co_await asio::co_spawn(workers_, work, asio::use_awaitable);
    co_return response;
  }

  asio::awaitable<bool> write(HttpResponse response, unsigned version, bool keep_alive) {
    auto message = to_beast(std::move(response), version, keep_alive);
    expires_after(options_.write_timeout);
    auto [error, size] = co_await http::async_write(stream_, message, kNoThrow);
    co_return !error;
  }

  // say_goodbye ends the connection so that a peer which is still sending sees our last answer, not a reset.
  asio::awaitable<void> say_goodbye() {
    expires_after(stopping_ ? kHastyDrainTime : kDrainTime);
    if constexpr (std::is_same_v<StreamType, TlsStream>) {
      // close_notify is sent; the peer's own is drained below with whatever it still says.
      co_await stream_.async_shutdown(kNoThrow);
    }
    error_code ignored_error;
    auto& socket = beast::get_lowest_layer(stream_).socket();
    socket.shutdown(tcp::socket::shutdown_send, ignored_error);
    if (stopping_) co_return;
    std::array<char, 16 * 1024> sink;
    for (std::size_t drained = 0; drained < kMaxDrainedBytes;) {
      auto [error, size] =
          co_await beast::get_lowest_layer(stream_).async_read_some(asio::buffer(sink), kNoThrow);
      if (error) break;
      drained += size;
    }
  }

  static unsigned status_for(const error_code& error) {
    if (error == http::error::header_limit) return 431;
    if (error == http::error::body_limit) return 413;
    if (error == http::error::end_of_stream || error == http::error::partial_message) return 0;
    if (error.category() == http::make_error_code(http::error::bad_method).category()) return 400;
    return 0;  // timeouts, resets: nothing that the peer waits to hear
  }

  static constexpr std::size_t kFirstReadBytes = 8 * 1024;

  StreamType stream_;
  const HttpServerOptions& options_;
  asio::thread_pool& workers_;
  Connection connection_;
  HttpHandler answer_;
  const std::atomic<bool>& stopping_;
  beast::flat_buffer buffer_;
  bool idle_ = false;  // used on the strand
};

}  // namespace

HttpResponse HttpServer::Impl::answer(const HttpRequest& request, Connection& connection) noexcept {
  try {
    HttpResponse response = handler(request, connection);
    if (check_message_parts(response)) return response;
  } catch (...) {
    // A handler that throws, or whose answer cannot be written, has an error of its own: the peer learns no
    // more.
  }
  return HttpResponse::of(500, "", "");
}

void HttpServer::Impl::forget(std::uint64_t id) {
  const std::lock_guard lock{mutex};
  live.erase(id);
  all_closed.notify_all();
}

template <class SessionType>
void HttpServer::Impl::begin(std::shared_ptr<SessionType> session) {
  {
    const std::lock_guard lock{mutex};
    live.emplace(session->id(), session);
  }
  asio::co_spawn(
      session->executor(), [session] { return session->run(); },
      [this, session](std::exception_ptr) mutable {
        const std::uint64_t id = session->id();
        session.reset();  // and with it the handler's state of this connection
        forget(id);
      });
}

void HttpServer::Impl::turn_away(std::string_view why) {
  const auto now = std::chrono::steady_clock::now();
  if (!options.turned_away || (turned_away_at && now - *turned_away_at < kTellAgain)) return;
  turned_away_at = now;
  options.turned_away(why);
}

asio::awaitable<void> HttpServer::Impl::accept_loop() {
  while (!stopping) {
    auto [error, socket] = co_await acceptor.async_accept(asio::make_strand(io), kNoThrow);
    if (stopping) break;
    if (error) {  // out of descriptors, most likely: wait for connections to end
      turn_away(error.message());
      asio::steady_timer pause{io, milliseconds{50}};
      co_await pause.async_wait(kNoThrow);
      continue;
    }
    error_code endpoint_error;
    const tcp::endpoint peer = socket.remote_endpoint(endpoint_error);
    if (endpoint_error) continue;
    const bool full = [this] {
      const std::lock_guard lock{mutex};
      return live.size() >= options.max_connections;
    }();
    if (full) {
      turn_away("there are " + std::to_string(options.max_connections) + " connections already");
      continue;
    }
    error_code ignored;
    socket.set_option(tcp::no_delay{true}, ignored);
    Connection connection{next_id++, address_text(peer.address()), peer.port(), std::nullopt,
                          [this] { return stopping.load(); }};
    auto call = [this](const HttpRequest& request, Connection& on) { return answer(request, on); };
    beast::tcp_stream stream{std::move(socket)};
    if (tls) {
      begin(std::make_shared<Session<TlsStream>>(TlsStream{std::move(stream), *tls}, options, *workers,
                                                 std::move(connection), call, stopping));
    } else {
      begin(std::make_shared<Session<PlainStream>>(std::move(stream), options, *workers,
                                                   std::move(connection), call, stopping));
    }
  }
}

void HttpServer::Impl::stop() {
  if (threads.empty()) return;
  stopping = true;
  asio::post(io, [this] {
    error_code ignored;
    acceptor.close(ignored);
  });
  const auto tell = [this](void (Closable::*what)()) {
    std::vector<std::shared_ptr<Closable>> sessions;
    {
      const std::lock_guard lock{mutex};
      for (const auto& [id, session] : live)
        if (auto held = session.lock()) sessions.push_back(std::move(held));
    }
    for (const auto& session : sessions) ((*session).*what)();
  };
  const auto all_gone = [this] { return live.empty() && !accepting; };
  const auto wait_until = [this, &all_gone](auto deadline) {
    std::unique_lock lock{mutex};
    return all_closed.wait_until(lock, deadline, all_gone);
  };
  // A connection accepted just now may be told before it waits for its first request, so tell again until all
  // have heard.
  const auto deadline = std::chrono::steady_clock::now() + options.stop_timeout;
  while (std::chrono::steady_clock::now() < deadline) {
    tell(&Closable::close_if_idle);
    if (wait_until(std::min(deadline, std::chrono::steady_clock::now() + milliseconds{20}))) break;
  }
  while (!wait_until(std::chrono::steady_clock::now() + milliseconds{20})) tell(&Closable::close);
  workers->join();
  io.stop();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::HttpServer(HttpServer&&) noexcept = default;
HttpServer& HttpServer::operator=(HttpServer&& other) noexcept {
  if (this != &other) {
    if (impl_) impl_->stop();
    impl_ = std::move(other.impl_);
  }
  return *this;
}
HttpServer::~HttpServer() {
  if (impl_) impl_->stop();
}

Result<HttpServer> HttpServer::start(HttpServerOptions options, HttpHandler handler) {
  SP_ASSERT(handler && options.worker_threads > 0 && options.io_threads > 0);
  auto impl = std::make_unique<Impl>();
  if (options.tls) {
    SP_TRY(impl->tls, make_context(*options.tls));
  }
  const auto refused = [](const char* call, const error_code& error) {
    return Error{Code::kUnavailable, Reason::kPeer, std::string{call} + ": " + error.message()};
  };
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  if (error) return Error{Code::kMalformed, Reason::kPeer, "the address to listen on is no IP address"};
  const tcp::endpoint endpoint{address, options.port};
  tcp::acceptor& acceptor = impl->acceptor;
  acceptor.open(endpoint.protocol(), error);
  if (error) return refused("socket", error);
  acceptor.set_option(asio::socket_base::reuse_address{true}, error);
  if (!error) acceptor.bind(endpoint, error);
  if (error) return refused("bind", error);
  acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return refused("listen", error);
  impl->port = acceptor.local_endpoint(error).port();

  options.tls.reset();  // the key lives on in the context alone
  impl->options = std::move(options);
  impl->handler = std::move(handler);
  impl->workers = std::make_unique<asio::thread_pool>(impl->options.worker_threads);
  impl->accepting = true;
  Impl* raw = impl.get();
  asio::co_spawn(impl->io, raw->accept_loop(), [raw](std::exception_ptr) {
    const std::lock_guard lock{raw->mutex};
    raw->accepting = false;
    raw->all_closed.notify_all();
  });
  for (std::size_t i = 0; i < impl->options.io_threads; ++i)
    impl->threads.emplace_back([raw, guard = asio::make_work_guard(raw->io)] { raw->io.run(); });
  return HttpServer{std::move(impl)};
}

std::uint16_t HttpServer::port() const {
  return impl_->port;
}

std::string HttpServer::url() const {
  const bool tls = impl_->tls != nullptr;
  return (tls ? "https://" : "http://") + HttpUrl{tls, impl_->options.address, impl_->port, ""}.authority();
}

std::size_t HttpServer::connections() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->live.size();
}

void HttpServer::stop() {
  impl_->stop();
}

}  // namespace sallyport::net

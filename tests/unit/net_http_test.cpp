#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/openssl_ptr.h"
#include "attestation/net/http_client.h"
#include "attestation/net/http_server.h"
#include "tests/support/matchers.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using crypto::KeyAlgorithm;
using crypto::PrivateKey;
using std::chrono::steady_clock;
using test::FailsWith;
using test::Succeeds;
using test::value_of;

// Latch lets one thread wait for another, with a deadline, so that a broken test fails instead of hanging.
class Latch {
 public:
  void open() {
    const std::lock_guard lock{mutex_};
    open_ = true;
    changed_.notify_all();
  }
  bool wait() {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, 10s, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

HttpResponse echo(const HttpRequest& request, Connection&) {
  return HttpResponse::of(200, "text/plain",
                          request.method + " " + request.target + " " + std::string{as_text(request.body)});
}

HttpServer start(HttpHandler handler, HttpServerOptions options = {}) {
  options.worker_threads = std::min<std::size_t>(options.worker_threads, 8);
  return value_of(HttpServer::start(std::move(options), std::move(handler)));
}

struct TlsServer {
  PrivateKey key = PrivateKey::generate(KeyAlgorithm::kP256);
  HttpServer server;
  explicit TlsServer(HttpHandler handler, HttpServerOptions options = {})
      : server(start(std::move(handler), with_identity(std::move(options), key))) {}
  static HttpServerOptions with_identity(HttpServerOptions options, const PrivateKey& key) {
    options.tls = value_of(make_tls_identity(key, {"localhost", "127.0.0.1"}));
    return options;
  }
  HttpClientOptions pinned() const {
    HttpClientOptions options;
    options.pins = {key.public_key().id()};
    return options;
  }
};

// RawPeer is a TCP client that says exactly what it is told.
class RawPeer {
 public:
  explicit RawPeer(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;
  ~RawPeer() { ::close(fd_); }
  int fd() const { return fd_; }

  bool say(std::string_view text) {
    while (!text.empty()) {
      const auto sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // hear reads until the server closes; "(no end)" at the end of what it says if that does not come.
  std::string hear() {
    std::string heard;
    char chunk[4096];
    while (true) {
      pollfd one{fd_, POLLIN, 0};
      if (::poll(&one, 1, 10'000) <= 0) return heard + "(no end)";
      const auto got = ::recv(fd_, chunk, sizeof(chunk), 0);
      if (got <= 0) return heard;
      heard.append(chunk, static_cast<std::size_t>(got));
    }
  }

 private:
  int fd_;
};

TEST(NetHttpUrl, TakesTheFormsThatExist) {
  const auto url = value_of(parse_http_url("https://us.sallyport.corp.example:8443/a/b/"));
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(url.host, "us.sallyport.corp.example");
  EXPECT_EQ(url.port, 8443);
  EXPECT_EQ(url.prefix, "/a/b");
  EXPECT_EQ(url.authority(), "us.sallyport.corp.example:8443");
  EXPECT_EQ(value_of(parse_http_url("https://h")).port, 443);
  EXPECT_EQ(value_of(parse_http_url("https://h")).authority(), "h");
  const auto v6 = value_of(parse_http_url("http://[2001:db8::7]:8080"));
  EXPECT_EQ(v6.host, "2001:db8::7");
  EXPECT_EQ(v6.authority(), "[2001:db8::7]:8080");
  EXPECT_EQ(value_of(parse_http_url("http://[::1]")).port, 80);
}

TEST(NetHttpUrl, RefusesEverythingElse) {
  for (const char* text : {"",
                           "ftp://h",
                           "HTTP://h",
                           "http://",
                           "http:///x",
                           "http://h:",
                           "http://h:0",
                           "http://h:65536",
                           "http://h:80x",
                           "http://h:080",
                           "http://u@h",
                           "http://h?x",
                           "http://h#x",
                           "http://h h",
                           "http://[::1",
                           "http://[::1]80",
                           "http://[h]",
                           "http://h\r\nX: y",
                           "http://h\\x",
                           "http://[::1]:"})
    EXPECT_THAT(parse_http_url(text), FailsWith(Code::kMalformed)) << text;
}

TEST(NetHttpMessages, RefusesPartsThatBreakOutOfTheirPlace) {
  EXPECT_THAT(check_message_parts(HttpRequest{"GET", "/x?y=1", {{"X-A", "b c"}}, {}}), Succeeds());
  EXPECT_THAT(check_message_parts(HttpRequest{"GET ", "/", {}, {}}), FailsWith(Code::kMalformed));
  EXPECT_THAT(check_message_parts(HttpRequest{"GET", "x", {}, {}}), FailsWith(Code::kMalformed));
  EXPECT_THAT(check_message_parts(HttpRequest{"GET", "/ HTTP/1.1", {}, {}}), FailsWith(Code::kMalformed));
  EXPECT_THAT(check_message_parts(HttpRequest{"GET", "/", {{"A:", "b"}}, {}}), FailsWith(Code::kMalformed));
  EXPECT_THAT(check_message_parts(HttpRequest{"GET", "/", {{"A", "b\r\nC: d"}}, {}}),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(check_message_parts(HttpRequest{"GET", "/", {{"content-LENGTH", "3"}}, {}}),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(check_message_parts(HttpResponse{200, "text/plain", {}, {{"Transfer-Encoding", "chunked"}}}),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(check_message_parts(HttpResponse{200, "a\nb", {}, {}}), FailsWith(Code::kMalformed));
  EXPECT_THAT(check_message_parts(HttpResponse{100, "", {}, {}}), FailsWith(Code::kMalformed));
}

TEST(NetHttpMessages, FindsHeadersInAnyCase) {
  const Headers headers{{"X-One", "1"}, {"x-one", "2"}};
  EXPECT_EQ(find_header(headers, "x-oNe"), "1");
  EXPECT_EQ(find_header(headers, "x-two"), std::nullopt);
}

TEST(NetTls, CertificateIsForTheKeyAndNames) {
  const auto key = PrivateKey::generate(KeyAlgorithm::kP256);
  const auto pem =
      value_of(make_self_signed_certificate(key, {"host.corp.example", "192.0.2.1", "2001:db8::1"}));
  const crypto::BioPtr in{BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))};
  const crypto::X509Ptr x509{PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr)};
  ASSERT_TRUE(x509);
  EXPECT_EQ(X509_verify(x509.get(), key.public_key().pkey()), 1);
  EXPECT_EQ(X509_check_host(x509.get(), "host.corp.example", 0, 0, nullptr), 1);
  EXPECT_EQ(X509_check_ip_asc(x509.get(), "192.0.2.1", 0), 1);
  EXPECT_EQ(X509_check_ip_asc(x509.get(), "2001:db8::1", 0), 1);
  EXPECT_EQ(X509_check_ip_asc(x509.get(), "192.0.2.2", 0), 0);
  EXPECT_THAT(make_self_signed_certificate(key, {}), FailsWith(Code::kMalformed));
  EXPECT_THAT(make_self_signed_certificate(key, {"Not A Name"}), FailsWith(Code::kMalformed));
  EXPECT_THAT(make_self_signed_certificate(PrivateKey::generate(KeyAlgorithm::kEd25519), {"h"}),
              FailsWith(Code::kMalformed));
}

TEST(NetHttp, AnswersOnPlainHttp) {
  const HttpServer server = start(echo);
  auto client = value_of(HttpClient::connect(server.url() + "/prefix", {}));
  const auto answer = value_of(client.post("/a?b=c", "text/plain", as_bytes("body")));
  EXPECT_EQ(answer.status, 200U);
  EXPECT_EQ(answer.content_type, "text/plain");
  EXPECT_EQ(answer.text(), "POST /prefix/a?b=c body");
  EXPECT_FALSE(client.exporter());
}

TEST(NetHttp, ExporterIsTheSameOnBothSidesAndAnotherOnTheNextConnection) {
  TlsServer tls{[](const HttpRequest&, Connection& connection) {
    return HttpResponse::of(200, "text/plain",
                            connection.exporter() ? to_hex(*connection.exporter()) : "none");
  }};
  auto client = value_of(HttpClient::connect(tls.server.url(), tls.pinned()));
  ASSERT_TRUE(client.exporter());
  const std::string first = to_hex(*client.exporter());
  EXPECT_EQ(value_of(client.get("/")).text(), first);
  EXPECT_EQ(value_of(client.get("/")).text(), first);
  EXPECT_EQ(client.server_key(), tls.key.public_key().id());
  ASSERT_THAT(client.reconnect(), Succeeds());
  const std::string second = to_hex(*client.exporter());
  EXPECT_NE(second, first);
  EXPECT_EQ(value_of(client.get("/")).text(), second);
}

TEST(NetHttp, RefusesAServerWhoseKeyIsNotPinnedBeforeAnythingIsSent) {
  std::atomic<int> requests = 0;
  TlsServer tls{[&](const HttpRequest&, Connection&) {
    ++requests;
    return HttpResponse::of(200, "", "");
  }};
  HttpClientOptions options;
  options.pins = {PrivateKey::generate(KeyAlgorithm::kP256).public_key().id()};
  const auto refused = HttpClient::connect(tls.server.url(), options);
  EXPECT_THAT(refused, FailsWith(Reason::kPeerTls));
  EXPECT_THAT(refused, FailsWith(Code::kUnverified));
  options.pins.push_back(tls.key.public_key().id());  // one of several is enough
  EXPECT_THAT(HttpClient::connect(tls.server.url(), options), Succeeds());
  EXPECT_EQ(requests, 0);
}

TEST(NetHttp, PinsAndSchemeBelongTogether) {
  HttpClientOptions pinned;
  pinned.pins = {PrivateKey::generate(KeyAlgorithm::kP256).public_key().id()};
  EXPECT_THAT(HttpClient::connect("https://127.0.0.1:1", {}), FailsWith(Code::kMalformed));
  EXPECT_THAT(HttpClient::connect("http://127.0.0.1:1", pinned), FailsWith(Code::kMalformed));
}

TEST(NetHttp, TlsClientOfAPlainServerFailsAsTls) {
  const HttpServer server = start(echo);
  HttpClientOptions pinned;
  pinned.pins = {PrivateKey::generate(KeyAlgorithm::kP256).public_key().id()};
  EXPECT_THAT(HttpClient::connect("https://127.0.0.1:" + std::to_string(server.port()), pinned),
              FailsWith(Reason::kPeerTls));
}

TEST(NetHttp, SpeaksTls13OnlyAndGivesNoTickets) {
  TlsServer tls{echo};
  const auto handshake = [&](int version, int& sessions) {
    const std::unique_ptr<SSL_CTX, crypto::FreeWith<SSL_CTX_free>> context{SSL_CTX_new(TLS_client_method())};
    SSL_CTX_set_max_proto_version(context.get(), version);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(context.get(), [](SSL* ssl, SSL_SESSION*) {
      ++*static_cast<int*>(SSL_get_app_data(ssl));
      return 0;
    });
    const std::unique_ptr<SSL, crypto::FreeWith<SSL_free>> ssl{SSL_new(context.get())};
    SSL_set_app_data(ssl.get(), &sessions);
    const RawPeer peer{tls.server.port()};
    SSL_set_fd(ssl.get(), peer.fd());
    if (SSL_connect(ssl.get()) != 1) return false;
    constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    EXPECT_GT(SSL_write(ssl.get(), kRequest.data(), static_cast<int>(kRequest.size())), 0);
    char chunk[1024];
    int total = 0;
    for (int got; (got = SSL_read(ssl.get(), chunk, sizeof(chunk))) > 0;) total += got;
    EXPECT_GT(total, 0);
    EXPECT_EQ(SSL_get_shutdown(ssl.get()) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
    return true;
  };
  int sessions = 0;
  EXPECT_TRUE(handshake(TLS1_3_VERSION, sessions));
  EXPECT_EQ(sessions, 0);
  EXPECT_FALSE(handshake(TLS1_2_VERSION, sessions));
}

TEST(NetHttp, OneConnectionCarriesAHundredRequests) {
  TlsServer tls{[](const HttpRequest& request, Connection& connection) {
    int* count = connection.state<int>();
    if (count == nullptr) count = &connection.emplace_state<int>(0);
    ++*count;
    return HttpResponse::of(200, "text/plain",
                            std::to_string(connection.id()) + ":" + std::to_string(*count) + ":" +
                                std::string{as_text(request.body)});
  }};
  auto client = value_of(HttpClient::connect(tls.server.url(), tls.pinned()));
  std::string id;
  for (int i = 1; i <= 100; ++i) {
    const auto answer = value_of(client.post("/", "text/plain", as_bytes(std::to_string(i))));
    const std::string text{answer.text()};
    if (i == 1) id = text.substr(0, text.find(':'));
    EXPECT_EQ(text, id + ":" + std::to_string(i) + ":" + std::to_string(i));
  }
}

TEST(NetHttp, StateOfAConnectionIsTypedAndEndsWithIt) {
  struct Marker {
    std::shared_ptr<std::atomic<int>> ended;
    ~Marker() { ++*ended; }
  };
  const auto ended = std::make_shared<std::atomic<int>>(0);
  HttpServer server = start([&](const HttpRequest&, Connection& connection) {
    EXPECT_EQ(connection.state<int>(), nullptr);
    if (connection.state<Marker>() == nullptr) connection.emplace_state<Marker>(ended);
    return HttpResponse::of(200, "text/plain", connection.peer_address());
  });
  auto client = value_of(HttpClient::connect(server.url(), {}));
  EXPECT_EQ(value_of(client.get("/")).text(), "127.0.0.1");
  EXPECT_EQ(value_of(client.get("/")).status, 200U);
  EXPECT_EQ(*ended, 0);
  EXPECT_EQ(server.connections(), 1U);
  client.close();
  const auto deadline = steady_clock::now() + 10s;
  while (server.connections() != 0 && steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(server.connections(), 0U);
  EXPECT_EQ(*ended, 1);
}

TEST(NetHttp, RefusesABodyBeyondTheCapAndTakesOneAtIt) {
  HttpServerOptions options;
  options.max_body_bytes = 1000;
  std::atomic<int> requests = 0;
  const HttpServer server = start(
      [&](const HttpRequest& request, Connection&) {
        ++requests;
        return HttpResponse::of(200, "", std::to_string(request.body.size()));
      },
      std::move(options));
  auto client = value_of(HttpClient::connect(server.url(), {}));
  EXPECT_EQ(value_of(client.post("/", "a/b", Bytes(1000, 'x'))).text(), "1000");
  EXPECT_EQ(value_of(client.post("/", "a/b", Bytes(1001, 'x'))).status, 413U);
  EXPECT_FALSE(client.is_open());
  EXPECT_THAT(client.get("/"), FailsWith(Reason::kPeer));
  EXPECT_EQ(client.get("/").error().next, Next::kReopenSession);
  ASSERT_THAT(client.reconnect(), Succeeds());
  EXPECT_EQ(value_of(client.post("/", "a/b", Bytes(2'000'000, 'x'))).status, 413U);

  RawPeer chunked{server.port()};  // where no length tells beforehand
  chunked.say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
              std::string(2000, 'x') + "\r\n0\r\n\r\n");
  ::shutdown(chunked.fd(), SHUT_WR);
  EXPECT_THAT(chunked.hear(), testing::StartsWith("HTTP/1.1 413 "));
  EXPECT_EQ(requests, 1);
}

TEST(NetHttp, RefusesHeadersBeyondTheCap) {
  HttpServerOptions options;
  options.max_header_bytes = 2048;
  const HttpServer server = start(echo, std::move(options));
  auto client = value_of(HttpClient::connect(server.url(), {}));
  const auto with_header = [](std::size_t size) {
    return HttpRequest{"GET", "/", {{"X", std::string(size, 'x')}}, {}};
  };
  EXPECT_EQ(value_of(client.request(with_header(1500))).status, 200U);
  EXPECT_EQ(value_of(client.request(with_header(2100))).status, 431U);
}

TEST(NetHttp, RefusesWhatIsNoHttpOrSaysTwoLengths) {
  std::atomic<int> requests = 0;
  const HttpServer server = start([&](const HttpRequest&, Connection&) {
    ++requests;
    return HttpResponse::of(200, "", "");
  });
  for (const std::string_view text :
       {"rubbish\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "GET / HTTP/1.1\r\nBad Header: 1\r\n\r\n"}) {
    RawPeer peer{server.port()};
    peer.say(text);
    ::shutdown(peer.fd(), SHUT_WR);
    EXPECT_THAT(peer.hear(), testing::StartsWith("HTTP/1.1 400 ")) << text;
  }
  EXPECT_EQ(requests, 0);
}

TEST(NetHttp, ClosesOnAClientThatIsTooSlow) {
  HttpServerOptions options;
  options.idle_timeout = 60ms;
  options.header_timeout = 60ms;
  options.body_timeout = 60ms;
  options.handshake_timeout = 60ms;
  HttpServer server = start(echo, std::move(options));
  for (const std::string_view text :
       {"", "GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"}) {
    RawPeer peer{server.port()};
    peer.say(text);
    EXPECT_EQ(peer.hear(), "") << text;
  }
  RawPeer keep_alive{server.port()};  // answered, then silent
  keep_alive.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_THAT(keep_alive.hear(), testing::StartsWith("HTTP/1.1 200 "));

  HttpServerOptions tls_options;
  tls_options.handshake_timeout = 60ms;
  TlsServer tls{echo, std::move(tls_options)};
  RawPeer silent{tls.server.port()};
  EXPECT_EQ(silent.hear(), "");
}

TEST(NetHttp, ClosesOnAClientThatDoesNotReadItsAnswer) {
  HttpServerOptions options;
  options.write_timeout = 60ms;
  HttpServer server = start(
      [](const HttpRequest&, Connection&) {
        return HttpResponse{200, "", Bytes(32 * 1024 * 1024, 'x'), {}};
      },
      std::move(options));
  RawPeer peer{server.port()};
  peer.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto deadline = steady_clock::now() + 10s;
  while (server.connections() == 0 && steady_clock::now() < deadline) std::this_thread::yield();
  while (server.connections() != 0 && steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(server.connections(), 0U);
}

TEST(NetHttp, ClientGivesUpOnAServerThatIsTooSlow) {
  Latch release;
  HttpServer server = start([&](const HttpRequest&, Connection&) {
    EXPECT_TRUE(release.wait());
    return HttpResponse::of(200, "", "late");
  });
  auto client = value_of(HttpClient::connect(server.url(), {}));
  const auto late = client.get("/", 50ms);
  EXPECT_THAT(late, FailsWith(Reason::kPeerTimeout));
  EXPECT_FALSE(client.is_open());
  release.open();

  // A listener that never answers the handshake.
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener, 4), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  HttpClientOptions options;
  options.connect_timeout = 50ms;
  options.pins = {PrivateKey::generate(KeyAlgorithm::kP256).public_key().id()};
  EXPECT_THAT(HttpClient::connect("https://127.0.0.1:" + port, options), FailsWith(Reason::kPeerTimeout));
  ::close(listener);
  options.pins.clear();
  EXPECT_THAT(HttpClient::connect("http://127.0.0.1:" + port, options), FailsWith(Reason::kPeer));
}

TEST(NetHttp, ClientRefusesAnAnswerBeyondItsCap) {
  const HttpServer server = start([](const HttpRequest&, Connection&) {
    return HttpResponse{200, "", Bytes(1001, 'x'), {}};
  });
  HttpClientOptions options;
  options.max_body_bytes = 1000;
  auto client = value_of(HttpClient::connect(server.url(), options));
  const auto refused = client.get("/");
  EXPECT_THAT(refused, FailsWith(Code::kMalformed));
  EXPECT_THAT(refused, FailsWith(Reason::kPeer));
  EXPECT_FALSE(client.is_open());
}

TEST(NetHttp, ConnectionsAreServedAtOnce) {
  constexpr int kConnections = 6;
  std::atomic<int> inside = 0;
  Latch all_inside;
  TlsServer tls{[&](const HttpRequest& request, Connection&) {
    if (request.target == "/meet") {
      if (++inside == kConnections) all_inside.open();
      EXPECT_TRUE(all_inside.wait());
    }
    return HttpResponse::of(200, "", request.target);
  }};
  std::vector<std::thread> threads;
  for (int i = 0; i < kConnections; ++i)
    threads.emplace_back([&] {
      auto client = value_of(HttpClient::connect(tls.server.url(), tls.pinned()));
      EXPECT_EQ(value_of(client.get("/meet")).text(), "/meet");
      for (int n = 0; n < 20; ++n)
        EXPECT_EQ(value_of(client.get("/" + std::to_string(n))).text(), "/" + std::to_string(n));
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(inside, kConnections);
}

TEST(NetHttp, ConnectionsBeyondTheCapAreClosed) {
  HttpServerOptions options;
  options.max_connections = 2;
  HttpServer server = start(echo, std::move(options));
  auto one = value_of(HttpClient::connect(server.url(), {}));
  auto two = value_of(HttpClient::connect(server.url(), {}));
  EXPECT_EQ(value_of(one.get("/")).status, 200U);
  EXPECT_EQ(value_of(two.get("/")).status, 200U);
  RawPeer three{server.port()};
  EXPECT_EQ(three.hear(), "");
  EXPECT_EQ(value_of(one.get("/")).status, 200U);
}

TEST(NetHttp, AThrowingHandlerOrAnUnwritableAnswerIsAnEmpty500) {
  const HttpServer server = start([](const HttpRequest& request, Connection&) -> HttpResponse {
    if (request.target == "/throw") throw std::runtime_error{"secret detail"};
    return HttpResponse{200, "", {}, {{"X", "a\r\nY: b"}}};
  });
  auto client = value_of(HttpClient::connect(server.url(), {}));
  for (const char* target : {"/throw", "/bad"}) {
    const auto answer = value_of(client.get(target));
    EXPECT_EQ(answer.status, 500U);
    EXPECT_EQ(answer.text(), "");
    EXPECT_EQ(find_header(answer.headers, "Y"), std::nullopt);
  }
}

TEST(NetHttp, StopLetsRunningHandlersAnswerAndClosesTheRest) {
  Latch entered;
  HttpServerOptions options;
  options.stop_timeout = 10s;
  auto server = std::make_unique<HttpServer>(start(
      [&](const HttpRequest& request, Connection& connection) {
        if (request.target == "/long") {
          entered.open();
          const auto deadline = steady_clock::now() + 10s;
          while (!connection.stopping() && steady_clock::now() < deadline) std::this_thread::yield();
        }
        return HttpResponse::of(200, "", "answered");
      },
      std::move(options)));
  const std::string url = server->url();
  auto idle = value_of(HttpClient::connect(url, {}));
  EXPECT_EQ(value_of(idle.get("/")).status, 200U);
  std::thread busy{[&] {
    auto client = value_of(HttpClient::connect(url, {}));
    EXPECT_EQ(value_of(client.get("/long")).text(), "answered");
    EXPECT_FALSE(client.is_open());
  }};
  ASSERT_TRUE(entered.wait());
  const auto begun = steady_clock::now();
  server->stop();
  EXPECT_LT(steady_clock::now() - begun, 5s);
  busy.join();
  EXPECT_EQ(server->connections(), 0U);
  EXPECT_THAT(idle.get("/"), FailsWith(Reason::kPeer));
  EXPECT_THAT(HttpClient::connect(url, {}), FailsWith(Reason::kPeer));
  server->stop();
  server.reset();
}

TEST(NetHttp, StopDoesNotWaitForSilentTlsPeers) {
  TlsServer tls{echo};
  auto idle = value_of(HttpClient::connect(tls.server.url(), tls.pinned()));
  EXPECT_EQ(value_of(idle.get("/")).status, 200U);
  const RawPeer in_handshake{tls.server.port()};
  auto started = steady_clock::now();
  while (tls.server.connections() < 2 && steady_clock::now() - started < 10s) std::this_thread::yield();
  started = steady_clock::now();
  HttpServer& server = tls.server;
  server.stop();
  EXPECT_LT(steady_clock::now() - started, 3s);  // stop_timeout is 5 s
}

TEST(NetHttp, RefusesAnAddressInUseAndUnusableKeys) {
  const HttpServer server = start(echo);
  HttpServerOptions taken;
  taken.port = server.port();
  EXPECT_THAT(HttpServer::start(std::move(taken), echo), FailsWith(Reason::kPeer));
  HttpServerOptions odd;
  odd.address = "localhost";
  EXPECT_THAT(HttpServer::start(std::move(odd), echo), FailsWith(Code::kMalformed));
  const auto key = PrivateKey::generate(KeyAlgorithm::kP256);
  HttpServerOptions other_key;
  other_key.tls = TlsIdentity{value_of(make_self_signed_certificate(key, {"h"})),
                              PrivateKey::generate(KeyAlgorithm::kP256).to_pem()};
  EXPECT_THAT(HttpServer::start(std::move(other_key), echo), FailsWith(Reason::kPeerTls));
}

TEST(NetHttp, AnswersHeadWithoutABodyAndExpectContinue) {
  const HttpServer server = start(echo);
  auto client = value_of(HttpClient::connect(server.url(), {}));
  EXPECT_EQ(value_of(client.request({"HEAD", "/", {}, {}})).body.size(), 0U);
  EXPECT_EQ(value_of(client.get("/x")).text(), "GET /x ");
  RawPeer peer{server.port()};
  peer.say(
      "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: "
      "2\r\n\r\nab");
  const std::string heard = peer.hear();
  EXPECT_THAT(heard, testing::StartsWith("HTTP/1.1 100 "));
  EXPECT_THAT(heard, testing::HasSubstr("POST / ab"));
}

}  // namespace
}  // namespace sallyport::net

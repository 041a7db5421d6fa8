// HttpServer and HttpClient, each against a peer that sends the input: the first byte says to whom it is
// sent. Whatever comes, a handler sees only requests within the caps whose every part can be written into a
// message again, a caller only such answers, and both are told the same way by a whole message or a closed
// connection.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "attestation/net/http_client.h"
#include "attestation/net/http_server.h"

namespace {

using namespace sallyport;

constexpr std::size_t kBodyCap = 256, kHeaderCap = 1024;

void check_parts(const net::Headers& headers, ByteView body) {
  if (body.size() > kBodyCap) std::abort();
  std::size_t bytes = 0;
  for (const net::Header& header : headers) {
    bytes += header.name.size() + header.value.size();
    for (const std::string& text : {header.name, header.value})
      if (text.find_first_of(std::string_view{"\r\n\0", 3}) != text.npos) std::abort();
    if (header.name.empty()) std::abort();
  }
  if (bytes > kHeaderCap) std::abort();
}

int loopback(sockaddr_in& address, std::uint16_t port) {
  address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) std::abort();
  return socket;
}

void send_all(int socket, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;  // the other side has heard enough
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

net::HttpServer& server() {
  static net::HttpServer one = [] {
    net::HttpServerOptions options;
    options.max_body_bytes = kBodyCap;
    options.max_header_bytes = kHeaderCap;
    options.worker_threads = 1;
    auto started =
        net::HttpServer::start(std::move(options), [](const net::HttpRequest& request, net::Connection&) {
          if (request.method.empty() || request.path().size() > request.target.size()) std::abort();
          if (request.target.find_first_of(" \r\n") != std::string::npos) std::abort();
          check_parts(request.headers, request.body);
          return net::HttpResponse::of(200, "text/plain", "heard");
        });
    if (!started.has_value()) std::abort();
    return std::move(*started);
  }();
  return one;
}

void to_server(ByteView input) {
  sockaddr_in address;
  const int socket = loopback(address, server().port());
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) std::abort();
  send_all(socket, input);
  ::shutdown(socket, SHUT_WR);
  std::string said;
  char chunk[4096];
  for (ssize_t got; (got = ::recv(socket, chunk, sizeof(chunk), 0)) > 0;)
    said.append(chunk, static_cast<std::size_t>(got));
  ::close(socket);
  if (!said.empty() && !said.starts_with("HTTP/1.")) std::abort();
}

struct Listener {
  int socket;
  std::uint16_t port;
  Listener() {
    sockaddr_in address;
    socket = loopback(address, 0);
    socklen_t size = sizeof(address);
    if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), size) != 0 || ::listen(socket, 8) != 0 ||
        ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      std::abort();
    port = ntohs(address.sin_port);
  }
};

void to_client(ByteView input) {
  static const Listener listener;
  net::HttpClientOptions options;
  options.max_body_bytes = kBodyCap;
  options.max_header_bytes = kHeaderCap;
  auto client = net::HttpClient::connect("http://127.0.0.1:" + std::to_string(listener.port), options);
  if (!client.has_value()) std::abort();
  const int socket = ::accept4(listener.socket, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket < 0) std::abort();
  send_all(socket, input);  // the answer is there before it is asked for: one thread is enough
  ::shutdown(socket, SHUT_WR);
  const auto answer = client->get("/");
  ::close(socket);
  if (answer.has_value())
    check_parts(answer->headers, answer->body);
  else if (client->is_open())
    std::abort();  // after an error a connection is of no use
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView rest{data + 1, size - 1};
  if (data[0] == 's')
    to_server(rest);
  else
    to_client(rest);
  return 0;
}

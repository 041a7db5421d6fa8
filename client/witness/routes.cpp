#include "client/witness/routes.h"

#include "attestation/base/hex.h"

namespace sallyport::witness {
namespace {

using net::HttpRequest;
using net::HttpResponse;

constexpr const char* kPlain = "text/plain; charset=utf-8";

HttpResponse not_found() {
  return HttpResponse::of(404, kPlain, "not found\n");
}

HttpResponse not_allowed(std::string allowed) {
  HttpResponse response = HttpResponse::of(405, kPlain, "method not allowed\n");
  response.headers.push_back({"Allow", std::move(allowed)});
  return response;
}

HttpResponse add_checkpoint(Witness& witness, const HttpRequest& request) {
  if (request.method != "POST") return not_allowed("POST");
  const ledger::WitnessAnswer answer = witness.add_checkpoint(as_text(request.body));
  return HttpResponse::of(static_cast<unsigned>(answer.status), answer.content_type, answer.body);
}

HttpResponse checkpoint(Witness& witness, const HttpRequest& request, const Digest256& origin_hash) {
  if (request.method != "GET" && request.method != "HEAD") return not_allowed("GET, HEAD");
  const auto note = witness.find_checkpoint(origin_hash);
  if (!note) return HttpResponse::of(503, kPlain, "unavailable\n");
  if (!*note) return not_found();
  HttpResponse response = HttpResponse::of(200, kPlain, **note);
  response.headers.push_back({"Cache-Control", "no-store"});
  return response;
}

HttpResponse health(Witness& witness, const HttpRequest& request) {
  if (request.method != "GET" && request.method != "HEAD") return not_allowed("GET, HEAD");
  return witness.check_memory() ? HttpResponse::of(200, kPlain, "ok\n")
                                : HttpResponse::of(503, kPlain, "unavailable\n");
}

}  // namespace

net::HttpHandler make_routes(Witness& witness, Answered answered) {
  return [&witness, answered = std::move(answered)](const HttpRequest& request, net::Connection& connection) {
    constexpr std::string_view kSuffix = "/checkpoint";
    const std::string_view path = request.target;  // no path of ours takes a query
    std::string_view call = "other";
    HttpResponse response;
    if (path == "/add-checkpoint") {
      call = "add-checkpoint";
      response = add_checkpoint(witness, request);
    } else if (path == "/healthz") {
      call = "healthz";
      response = health(witness, request);
    } else if (path.size() == 1 + 64 + kSuffix.size() && path.ends_with(kSuffix)) {
      const auto origin_hash = parse_digest(path.substr(1, 64));
      call = "checkpoint";
      response = origin_hash ? checkpoint(witness, request, *origin_hash) : not_found();
    } else {
      response = not_found();
    }
    if (answered) answered(call, connection, response.status);
    return response;
  };
}

net::HttpHandler make_operator_routes(Witness& witness, Metrics& metrics) {
  return [&](const HttpRequest& request, net::Connection&) {
    if (request.target != "/metrics") return not_found();
    if (request.method != "GET" && request.method != "HEAD") return not_allowed("GET, HEAD");
    return HttpResponse::of(200, "text/plain; version=0.0.4; charset=utf-8", metrics.text(witness));
  };
}

net::HttpServerOptions server_options() {
  net::HttpServerOptions options;
  options.max_body_bytes = ledger::kMaxAddCheckpointBytes;
  options.max_connections = 256;
  options.worker_threads = 8;
  options.idle_timeout = std::chrono::minutes{5};  // a broker comes every 30 s, and keeps its connection
  return options;
}

}  // namespace sallyport::witness

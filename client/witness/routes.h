#pragma once

#include <functional>
#include <string>

#include "attestation/net/http_server.h"
#include "client/witness/metrics.h"

namespace sallyport::witness {

// Answered is what a witness tells of a request; `call` is add-checkpoint, checkpoint, healthz or other.
using Answered =
    std::function<void(std::string_view call, const net::Connection& connection, unsigned status)>;

// make_routes serves a witness: POST /add-checkpoint, GET /<hex SHA-256 of the origin>/checkpoint, GET
// /healthz; all else is 404, another method 405. The witness outlives the handler.
net::HttpHandler make_routes(Witness& witness, Answered answered);

// make_operator_routes serves those who run the witness: GET /metrics, and nothing else. Both outlive the
// handler.
net::HttpHandler make_operator_routes(Witness& witness, Metrics& metrics);

// server_options gives the caps that fit a witness: nobody needs to send more than one checkpoint and its
// proof.
net::HttpServerOptions server_options();

}  // namespace sallyport::witness

#pragma once

#include <functional>
#include <string>

#include "attestation/net/http_server.h"
#include "client/witness/witness.h"

namespace sallyport::witness {

// Answered is what a witness logs of a request; `what` is the path or, for others' paths, "other".
using Answered =
    std::function<void(std::string_view what, const net::Connection& connection, unsigned status)>;

// make_routes serves a witness: POST /add-checkpoint, GET /<hex SHA-256 of the origin>/checkpoint, GET
// /healthz; all else is 404, another method 405. The witness outlives the handler.
net::HttpHandler make_routes(Witness& witness, Answered answered);

// server_options gives the caps that fit a witness: nobody needs to send more than one checkpoint and its
// proof.
net::HttpServerOptions server_options();

}  // namespace sallyport::witness

#pragma once

#include <functional>
#include <memory>

#include "attestation/net/http_server.h"
#include "broker/ledger/standby.h"
#include "broker/sessions/broker.h"

namespace sallyport::http {

// make_api_handler gives the routes of README.md over a Broker; make_operator_handler those of the operators'
// listener (/healthz, /readyz, /metrics). Both are safe from many threads, as HttpServer calls them. What a
// handler throws, the server answers with an empty 500.
net::HttpHandler make_api_handler(std::shared_ptr<sessions::Broker> broker);
net::HttpHandler make_operator_handler(std::shared_ptr<sessions::Broker> broker);

// make_standby_operator_handler gives the same three pages of a standby, which is ready while it has heard
// from a primary within half a minute, and refuses nothing.
net::HttpHandler make_standby_operator_handler(std::shared_ptr<ledger_service::Standby> standby);

// The largest body of a request: a submission with its attachments.
inline constexpr std::size_t kMaxApiBodyBytes = 40u << 20;

// A long poll holds a worker; so many may, of all that the server has.
inline constexpr std::size_t kMaxWaitingCalls = 384, kWorkerThreads = 512;

}  // namespace sallyport::http

#pragma once

#include <functional>
#include <vector>

#include "attestation/ledger/add_checkpoint.h"
#include "attestation/ledger/cosignature.h"
#include "attestation/net/http_server.h"
#include "tests/support/matchers.h"
#include "tests/support/sample_policy.h"

namespace sallyport::bench {

// Witnesses are the company's, for as long as a log wants to hear them: they cosign whatever they are sent.
class Witnesses {
 public:
  explicit Witnesses(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      servers_.push_back(test::value_of(net::HttpServer::start(options(0), answers_of(i))));
      ports_.push_back(servers_.back().port());
    }
  }
  std::string url(std::size_t i) const { return "http://127.0.0.1:" + std::to_string(ports_.at(i)); }
  void are_of(const test::SampleCompany& company, std::function<UnixMillis()> clock) {
    company_ = &company;
    clock_ = std::move(clock);
  }
  void go_away() { servers_.clear(); }
  void come_back() {
    for (std::size_t i = 0; i < ports_.size(); ++i)
      servers_.push_back(test::value_of(net::HttpServer::start(options(ports_[i]), answers_of(i))));
  }

 private:
  static net::HttpServerOptions options(std::uint16_t port) {
    net::HttpServerOptions out;
    out.port = port;
    out.worker_threads = 1;
    return out;
  }
  net::HttpHandler answers_of(std::size_t i) {
    return [this, i](const net::HttpRequest& request, net::Connection&) {
      if (request.method == "GET") return net::HttpResponse::of(404, "text/plain", "");
      const auto asked = test::value_of(ledger::parse_add_checkpoint(as_text(request.body)));
      const auto line =
          test::value_of(ledger::cosign_line(company_->witnesses.at(i), company_->policy.witnesses.at(i).name,
                                             ledger::UnixSeconds{clock_().get() / 1000},
                                             test::value_of(ledger::parse_note(asked.checkpoint)).text));
      const auto answer = ledger::cosigned_answer({&line, 1});
      return net::HttpResponse::of(200, answer.content_type, answer.body);
    };
  }
  const test::SampleCompany* company_ = nullptr;
  std::function<UnixMillis()> clock_;
  std::vector<std::uint16_t> ports_;
  std::vector<net::HttpServer> servers_;  // last: they answer from the others
};

}  // namespace sallyport::bench

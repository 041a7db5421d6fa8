#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>

#include "attestation/follow/follower.h"
#include "attestation/program/clock.h"
#include "attestation/program/command_line.h"
#include "attestation/program/files.h"
#include "attestation/program/listen.h"
#include "attestation/program/process.h"
#include "broker/http/api_server.h"

namespace {

using namespace sallyport;
using program::Flags;
using program::read_whole;
using program::wall_clock;
namespace po = boost::program_options;

constexpr const char* kUsage =
    "sallyportd: the broker's API: records what people and machines ask for, and releases what was granted\n"
    "\n"
    "  sallyportd init  --state DIR --trust FILE --keyguard SOCKET --policy FILE --roots FILE\n"
    "      once: append the first policy as leaf 0, have it signed and cosigned\n"
    "  sallyportd serve --state DIR --trust FILE --keyguard SOCKET --listen ADDRESS:PORT --tls-key FILE "
    "--tls-cert FILE\n"
    "      serve the API; --operators ADDRESS:PORT adds /healthz, /readyz and /metrics in clear, for "
    "loopback\n"
    "\n";

// KeyguardSigner lets the sequencer have its checkpoints signed without knowing what a keyguard is.
class KeyguardSigner final : public ledger_service::CheckpointSigner {
 public:
  explicit KeyguardSigner(std::shared_ptr<keyguard::Client> client) : client_(std::move(client)) {}
  Result<TreeSize> signed_size() override {
    SP_TRY(const auto status, client_->status());
    return status.size;
  }
  Result<std::string> advance(const record::Batch& batch) override { return client_->advance(batch); }

 private:
  std::shared_ptr<keyguard::Client> client_;
};

Result<std::shared_ptr<sessions::Broker>> start_broker(const Flags& flags) {
  SP_TRY(const Bytes trust, read_whole(flags["trust"].as<std::string>()));
  SP_TRY(const follow::TrustAnchor anchor, follow::parse_trust_file(as_text(trust)));
  const std::string directory = flags["state"].as<std::string>();
  SP_TRY(auto store, store::open_sqlite(directory + "/log.db"));
  auto client =
      std::make_shared<keyguard::Client>(flags["keyguard"].as<std::string>(), std::chrono::seconds{10});
  ledger_service::SequencerOptions options;
  options.origin = anchor.origin;
  options.genesis_policy = anchor.genesis_policy;
  options.snapshot_every = std::chrono::hours{std::max(1u, flags["snapshot-hours"].as<unsigned>())};
  options.snapshot_leaves = std::max<std::uint64_t>(1, flags["snapshot-leaves"].as<std::uint64_t>());
  SP_TRY(auto log, ledger_service::Sequencer::start(
                       std::move(store), std::make_shared<KeyguardSigner>(client), options, wall_clock));
  return std::make_shared<sessions::Broker>(std::shared_ptr<ledger_service::Sequencer>{std::move(log)},
                                            client, wall_clock);
}

Status init(const Flags& flags) {
  SP_CHECK(program::harden());
  SP_CHECK(program::make_state_directory(flags["state"].as<std::string>()));
  SP_TRY(Bytes policy, read_whole(flags["policy"].as<std::string>()));
  SP_TRY(Bytes roots, read_whole(flags["roots"].as<std::string>()));
  SP_TRY(const auto broker, start_broker(flags));
  SP_CHECK(broker->begin_log(std::move(policy), std::move(roots)));
  std::cout << "the log has begun: leaf 0 is signed and cosigned\n";
  return Done{};
}

Status serve(const Flags& flags) {
  SP_CHECK(program::harden());
  SP_CHECK(program::open_state_directory(flags["state"].as<std::string>()));
  program::EndingSignals ending;  // before any thread starts
  SP_TRY(const auto broker, start_broker(flags));
  SP_TRY(const auto listen, program::parse_listen(flags["listen"].as<std::string>()));
  SP_TRY(const Bytes certificate, read_whole(flags["tls-cert"].as<std::string>()));
  SP_TRY(SecretBytes key, program::read_secret_file(flags["tls-key"].as<std::string>()));
  net::HttpServerOptions options;
  options.address = listen.address;
  options.port = listen.port;
  options.tls = net::TlsIdentity{std::string{as_text(certificate)}, std::move(key)};
  options.max_body_bytes = http::kMaxApiBodyBytes;
  options.worker_threads = http::kWorkerThreads;
  SP_TRY(auto server, net::HttpServer::start(std::move(options), http::make_api_handler(broker)));
  std::optional<net::HttpServer> operators;
  if (flags.contains("operators")) {
    SP_TRY(const auto where, program::parse_listen(flags["operators"].as<std::string>()));
    net::HttpServerOptions plain;
    plain.address = where.address;
    plain.port = where.port;
    plain.worker_threads = 2;
    SP_TRY(operators, net::HttpServer::start(std::move(plain), http::make_operator_handler(broker)));
  }
  spdlog::info("listening on {}", server.url());
  const auto write_port = [&](const char* flag, std::uint16_t port) {
    if (!flags.contains(flag)) return;
    const Status written = program::write_port_file(flags[flag].as<std::string>(), port);
    if (!written.has_value()) spdlog::warn("{}", describe(written.error()));
  };
  write_port("port-file", server.port());
  if (operators) write_port("operators-port-file", operators->port());
  ending.wait();
  broker->stop_waiting();
  server.stop();
  return Done{};
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("sallyportd"));
  po::options_description flags{"flags"};
  flags.add_options()("help,h", "this text")("command", po::value<std::string>(), "init or serve")(
      "state", po::value<std::string>(), "directory of the broker's database")(
      "trust", po::value<std::string>(), "trust file: the log's origin, and the digest of its first policy")(
      "keyguard", po::value<std::string>(), "Unix socket of the keyguard")(
      "policy", po::value<std::string>(), "init: version 1 of the policy (TOML)")(
      "roots", po::value<std::string>(), "init: certificates of the TPM vendors (PEM)")(
      "listen", po::value<std::string>(), "serve: ADDRESS:PORT of the API; port 0 picks a free one")(
      "tls-key", po::value<std::string>(), "serve: PEM of the key that the policy pins")(
      "tls-cert", po::value<std::string>(), "serve: PEM of a certificate over it")(
      "snapshot-hours", po::value<unsigned>()->default_value(24),
      "append a snapshot, from which new followers begin, when the last is that old")(
      "snapshot-leaves", po::value<std::uint64_t>()->default_value(100'000),
      "or when so many leaves came after it")("operators", po::value<std::string>(),
                                              "serve: ADDRESS:PORT of health and metrics")(
      "port-file", po::value<std::string>(), "serve: write the API's port to this file")(
      "operators-port-file", po::value<std::string>(), "serve: write the operators' port to this file");
  return program::run_program(
      argc, argv,
      {"sallyportd",
       kUsage,
       std::move(flags),
       {{"init", {"state", "trust", "keyguard", "policy", "roots"}, init},
        {"serve", {"state", "trust", "keyguard", "listen", "tls-key", "tls-cert"}, serve}}});
}

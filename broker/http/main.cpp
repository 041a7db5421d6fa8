#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/follow/follower.h"
#include "attestation/program/clock.h"
#include "attestation/program/command_line.h"
#include "attestation/program/files.h"
#include "attestation/program/listen.h"
#include "attestation/program/process.h"
#include "broker/http/api_server.h"
#include "broker/http/state_directory.h"
#include "broker/ledger/standby.h"

namespace {

using namespace sallyport;
using program::Flags;
using program::read_whole;
using program::wall_clock;
namespace po = boost::program_options;

constexpr std::size_t kOperatorConnections = 16;
// Databases, witnesses, operators, what libraries open. A connection may have one to the keyguard behind it.
constexpr std::size_t kOwnDescriptors = 48 + kOperatorConnections;

constexpr const char* kUsage =
    "sallyportd: the broker's API: records what people and machines ask for, and releases what was granted\n"
    "\n"
    "  sallyportd init  --state DIR --trust FILE --keyguard SOCKET --policy FILE --roots FILE "
    "[--references FILE] [--continuation FILE]\n"
    "      once: append the first policy as leaf 0, have it signed and cosigned; --references where the policy "
    "names reference values; --continuation is what the people of "
    "another log\n"
    "      have signed, which this one goes on from (broker/ledger/README.md, A new origin)\n"
    "  sallyportd serve --state DIR --trust FILE --keyguard SOCKET --listen ADDRESS:PORT --tls-key FILE "
    "--tls-cert FILE\n"
    "      serve the API; --operators ADDRESS:PORT adds /healthz, /readyz and /metrics in clear, for "
    "loopback\n"
    "      --standby 'https://HOST:PORT sha256:KEY' (again for more): nothing is signed before that standby "
    "holds it\n"
    "  sallyportd standby --state DIR --trust FILE --listen ADDRESS:PORT --tls-key FILE --tls-cert FILE "
    "--primary sha256:KEY\n"
    "      hold a copy of the log that another broker writes, ready to go on in its place; DIR is empty at "
    "first\n"
    "  sallyportd promote --state DIR --trust FILE\n"
    "      once, on purpose, when the other broker is gone: this copy is the log now, and serve may write "
    "it\n"
    "\n";

// KeyguardSigner lets the sequencer have its checkpoints signed without knowing what a keyguard is.
class KeyguardSigner final : public ledger_service::CheckpointSigner {
 public:
  explicit KeyguardSigner(std::shared_ptr<keyguard::Client> client) : client_(std::move(client)) {}
  Result<store::Head> standing() override {
    SP_TRY(const auto status, client_->status());
    return store::Head{status.size, status.root};
  }
  Result<std::string> advance(const record::Batch& batch) override { return client_->advance(batch); }

 private:
  std::shared_ptr<keyguard::Client> client_;
};

Result<follow::TrustAnchor> read_anchor(const Flags& flags) {
  SP_TRY(const Bytes trust, read_whole(flags["trust"].as<std::string>()));
  return follow::parse_trust_file(as_text(trust));
}

Result<std::unique_ptr<store::Store>> open_store(const Flags& flags) {
  return store::open_sqlite(flags["state"].as<std::string>() + "/log.db");
}

Result<std::shared_ptr<sessions::Broker>> start_broker(const Flags& flags,
                                                       ledger_service::StandbyOptions standby) {
  SP_TRY(const follow::TrustAnchor anchor, read_anchor(flags));
  SP_TRY(auto store, open_store(flags));
  auto client =
      std::make_shared<keyguard::Client>(flags["keyguard"].as<std::string>(), std::chrono::seconds{10});
  ledger_service::SequencerOptions options;
  options.origin = anchor.origin;
  options.genesis_policy = anchor.genesis_policy;
  options.standby = std::move(standby);
  options.snapshot_every = std::chrono::hours{std::max(1u, flags["snapshot-hours"].as<unsigned>())};
  options.snapshot_leaves = std::max<std::uint64_t>(1, flags["snapshot-leaves"].as<std::uint64_t>());
  SP_TRY(auto log, ledger_service::Sequencer::start(
                       std::move(store), std::make_shared<KeyguardSigner>(client), options, wall_clock));
  return std::make_shared<sessions::Broker>(std::shared_ptr<ledger_service::Sequencer>{std::move(log)},
                                            client, wall_clock);
}

// standby_options are those of serve: where the standbys are, and the key by which they know this broker.
Result<ledger_service::StandbyOptions> standby_options(const Flags& flags) {
  ledger_service::StandbyOptions options;
  options.best_effort = flags.contains("standby-best-effort");
  options.wait = std::chrono::milliseconds{flags["standby-wait-ms"].as<std::uint32_t>()};
  if (options.wait < std::chrono::milliseconds{100} || options.wait > std::chrono::minutes{1})
    return Error{Code::kMalformed, Reason::kUsage, "--standby-wait-ms: 100 to 60000"};
  if (!flags.contains("standby")) return options;
  for (const std::string& text : flags["standby"].as<std::vector<std::string>>()) {
    SP_TRY(auto address, ledger_service::parse_standby_address(text));
    options.standbys.push_back(std::move(address));
  }
  SP_TRY(const SecretBytes pem, program::read_secret_file(flags["tls-key"].as<std::string>()));
  SP_TRY(options.key, crypto::PrivateKey::parse_pem(pem.expose()));
  if (options.key->public_key().algorithm() != crypto::KeyAlgorithm::kP256)
    return Error{Code::kMalformed, Reason::kUsage, "a standby knows its primary by a P-256 --tls-key"};
  spdlog::info("a standby knows this broker as --primary sha256:{}", to_hex(options.key->public_key().id()));
  return options;
}

Result<net::HttpServerOptions> tls_server(const Flags& flags) {
  SP_TRY(const auto listen, program::parse_listen(flags["listen"].as<std::string>()));
  SP_TRY(const Bytes certificate, read_whole(flags["tls-cert"].as<std::string>()));
  SP_TRY(SecretBytes key, program::read_secret_file(flags["tls-key"].as<std::string>()));
  net::HttpServerOptions options;
  options.address = listen.address;
  options.port = listen.port;
  options.tls = net::TlsIdentity{std::string{as_text(certificate)}, std::move(key)};
  return options;
}

// serve_until_told serves peers, and operators where the flags want it.
Status serve_until_told(const Flags& flags, net::HttpServerOptions options, net::HttpHandler for_peers,
                        net::HttpHandler for_operators, program::EndingSignals& ending,
                        const std::function<void()>& before_the_end) {
  SP_TRY(options.max_connections, program::fit_connections(options.max_connections, 2, kOwnDescriptors));
  options.turned_away = [](std::string_view why) { spdlog::warn("connections are turned away: {}", why); };
  SP_TRY(auto server, net::HttpServer::start(std::move(options), std::move(for_peers)));
  std::optional<net::HttpServer> operators;
  if (flags.contains("operators")) {
    SP_TRY(const auto where, program::parse_listen(flags["operators"].as<std::string>()));
    net::HttpServerOptions plain;
    plain.address = where.address;
    plain.port = where.port;
    plain.max_connections = kOperatorConnections;
    plain.worker_threads = 2;
    SP_TRY(operators, net::HttpServer::start(std::move(plain), std::move(for_operators)));
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
  before_the_end();
  server.stop();
  return Done{};
}

Status init(const Flags& flags) {
  SP_CHECK(program::harden());
  const std::string directory = flags["state"].as<std::string>();
  SP_CHECK(program::make_state_directory(directory));
  SP_TRY(const Descriptor lock, http::lock_state(directory));
  SP_CHECK(http::require_writer(directory));
  record::PolicyDocument policy;
  SP_TRY(policy.text, read_whole(flags["policy"].as<std::string>()));
  SP_TRY(policy.tpm_roots, read_whole(flags["roots"].as<std::string>()));
  if (flags.contains("references")) {
    SP_TRY(policy.references, read_whole(flags["references"].as<std::string>()));
  }
  std::optional<record::Continuation> before;
  if (flags.contains("continuation")) {
    SP_TRY(const Bytes bytes, read_whole(flags["continuation"].as<std::string>()));
    SP_TRY(before, record::parse_continuation(bytes));
  }
  SP_TRY(const auto broker, start_broker(flags, {}));
  SP_CHECK(broker->begin_log(std::move(policy), before));
  std::cout << "the log has begun: leaf 0 is signed and cosigned\n";
  return Done{};
}

Status serve(const Flags& flags) {
  SP_CHECK(program::harden());
  const std::string directory = flags["state"].as<std::string>();
  SP_CHECK(program::open_state_directory(directory));
  SP_TRY(const Descriptor lock, http::lock_state(directory));
  SP_CHECK(http::require_writer(directory));
  SP_CHECK(http::require_room(directory));
  program::EndingSignals ending;  // before any thread starts
  SP_TRY(auto standbys, standby_options(flags));
  SP_TRY(const auto broker, start_broker(flags, std::move(standbys)));
  SP_TRY(net::HttpServerOptions options, tls_server(flags));
  options.max_body_bytes = http::kMaxApiBodyBytes;
  options.worker_threads = http::kWorkerThreads;
  return serve_until_told(flags, std::move(options), http::make_api_handler(broker),
                          http::make_operator_handler(broker), ending, [&] { broker->stop_waiting(); });
}

Status standby(const Flags& flags) {
  SP_CHECK(program::harden());
  const std::string directory = flags["state"].as<std::string>();
  SP_CHECK(program::make_state_directory(directory));
  SP_TRY(const Descriptor lock, http::lock_state(directory));
  SP_CHECK(http::require_room(directory));
  std::vector<KeyId> primaries;
  for (const std::string& text : flags["primary"].as<std::vector<std::string>>()) {
    SP_TRY(const KeyId key, ledger_service::parse_key_pin(text));
    primaries.push_back(key);
  }
  SP_TRY(const follow::TrustAnchor anchor, read_anchor(flags));
  SP_CHECK(http::become_standby(directory));
  program::EndingSignals ending;  // before any thread starts
  SP_TRY(auto store, open_store(flags));
  SP_TRY(auto opened, ledger_service::Standby::open(std::move(store), anchor.origin, anchor.genesis_policy));
  const std::shared_ptr<ledger_service::Standby> copy = std::move(opened);
  SP_TRY(net::HttpServerOptions options, tls_server(flags));
  SP_TRY(const crypto::PrivateKey key, crypto::PrivateKey::parse_pem(options.tls->key_pem.expose()));
  options.max_body_bytes = ledger_service::kMaxStandbyBodyBytes;
  options.max_connections = 8;
  options.worker_threads = 4;
  spdlog::info("a primary knows this standby as 'https://HOST:PORT sha256:{}'",
               to_hex(key.public_key().id()));
  return serve_until_told(flags, std::move(options),
                          ledger_service::make_standby_handler(copy, std::move(primaries)),
                          http::make_standby_operator_handler(copy), ending, [] {});
}

Status promote(const Flags& flags) {
  SP_CHECK(program::harden());
  const std::string directory = flags["state"].as<std::string>();
  SP_CHECK(program::open_state_directory(directory));
  SP_TRY(const Descriptor lock, http::lock_state(directory));
  SP_TRY(const follow::TrustAnchor anchor, read_anchor(flags));
  SP_TRY(auto store, open_store(flags));
  SP_TRY(const auto copy,
         ledger_service::Standby::open(std::move(store), anchor.origin, anchor.genesis_policy));
  SP_TRY(const auto standing, copy->standing());
  if (standing.head.size.get() == 0)
    return Error{Code::kConflict, Reason::kConflict, "this standby holds nothing", Next::kCallOperator, 0};
  SP_CHECK(http::promote(directory));
  std::cout << "promoted: " << standing.head.size.get() << " leaves, root " << to_hex(standing.head.root)
            << "\nStop the old broker for good; if it still runs, nothing of it is signed any more.\n"
               "Then start this one: sallyportd serve --state "
            << directory << " …\n";
  return Done{};
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("sallyportd"));
  po::options_description flags{"flags"};
  flags.add_options()("help,h", "this text")("command", po::value<std::string>(),
                                             "init, serve, standby or promote")(
      "state", po::value<std::string>(), "directory of the broker's database")(
      "trust", po::value<std::string>(), "trust file: the log's origin, and the digest of its first policy")(
      "keyguard", po::value<std::string>(), "Unix socket of the keyguard")(
      "policy", po::value<std::string>(), "init: the first policy of the log (TOML)")(
      "roots", po::value<std::string>(), "init: certificates of the TPM vendors (PEM)")(
      "references", po::value<std::string>(), "init: reference values, where the policy names some (TOML)")(
      "continuation", po::value<std::string>(), "init: what the people of the log before have signed")(
      "listen", po::value<std::string>(), "serve: ADDRESS:PORT of the API; port 0 picks a free one")(
      "tls-key", po::value<std::string>(), "serve: PEM of the key that the policy pins")(
      "tls-cert", po::value<std::string>(), "serve: PEM of a certificate over it")(
      "operators", po::value<std::string>(), "serve: ADDRESS:PORT of health and metrics")(
      "standby", po::value<std::vector<std::string>>()->composing(),
      "serve: 'https://HOST:PORT sha256:KEY' of a standby")(
      "standby-best-effort",
      "serve: sign what a standby does not hold, when it is away; to take over may then need a new origin")(
      "standby-wait-ms", po::value<std::uint32_t>()->default_value(5000),
      "serve: how long a standby may take")("primary", po::value<std::vector<std::string>>()->composing(),
                                            "standby: sha256:KEY of a broker that may write here")(
      "snapshot-hours", po::value<unsigned>()->default_value(24),
      "serve: append a snapshot, from which new followers begin, when the last is that old")(
      "snapshot-leaves", po::value<std::uint64_t>()->default_value(100'000),
      "serve: or when so many leaves came after it")("port-file", po::value<std::string>(),
                                                     "serve: write the API's port to this file")(
      "operators-port-file", po::value<std::string>(), "serve: write the operators' port to this file");
  return program::run_program(
      argc, argv,
      {"sallyportd",
       kUsage,
       std::move(flags),
       {{"init", {"state", "trust", "keyguard", "policy", "roots"}, init},
        {"serve", {"state", "trust", "keyguard", "listen", "tls-key", "tls-cert"}, serve},
        {"standby", {"state", "trust", "listen", "tls-key", "tls-cert", "primary"}, standby},
        {"promote", {"state", "trust"}, promote}}});
}

// sallyport-witness: one key, one tree state per log. See README.md.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <iostream>

#include "attestation/net/http_server.h"
#include "attestation/program/clock.h"
#include "attestation/program/files.h"
#include "attestation/program/process.h"
#include "client/witness/command_line.h"
#include "client/witness/key_file.h"
#include "client/witness/metrics.h"
#include "client/witness/routes.h"
#include "client/witness/store.h"
#include "client/witness/token_key.h"

namespace sallyport::witness {
namespace {

namespace fs = std::filesystem;

Result<crypto::PublicKey> create_key(const CommandLine& line) {
  if (line.token) return create_token_key(*line.token, line.key_label);
  SP_TRY(const crypto::PrivateKey key, create_key_file(line.key_file()));
  return key.public_key();
}

Status init(const CommandLine& line) {
  SP_CHECK(ledger::check_note_name(line.name));
  if (fs::exists(line.database()))
    return Error{Code::kConflict, Reason::kStorage, "a memory is there already"};
  SP_CHECK(program::make_state_directory(line.state));
  SP_TRY(const crypto::PublicKey key, create_key(line));
  SP_TRY(const auto vkey, ledger::NoteKey::make(line.name, ledger::NoteKeyType::kCosignature, key));
  SP_CHECK(Store::create(line.database(), vkey));
  std::cout << ledger::format_vkey(vkey) << std::endl;
  return Done{};
}

Status print_key(const CommandLine& line) {
  SP_TRY(const ledger::NoteKey vkey, Store::find_vkey(line.database()));
  std::cout << ledger::format_vkey(vkey) << std::endl;
  return Done{};
}

// open_key gives what signs with the key whose memory this is, and with no other.
Result<Sign> open_key(const CommandLine& line, const ledger::NoteKey& vkey) {
  if (line.token) return open_token_key(*line.token, vkey.key());
  SP_TRY(const crypto::PrivateKey key, load_key_file(line.key_file()));
  if (key.public_key() != vkey.key())
    return Error{Code::kConflict, Reason::kStorage, "the memory is that of another key"};
  return Sign{[key](ByteView message) { return key.sign_ed25519(message); }};
}

constexpr std::size_t kOperatorConnections = 16;
constexpr std::size_t kOwnDescriptors = 32 + kOperatorConnections;  // its memory, what libraries open

[[noreturn]] void stop_at_once(const Error& error) {
  // Whether the last commit is on disk is not known: the next start reads what is.
  spdlog::critical("the memory failed; stopping: {}", describe(error));
  spdlog::shutdown();
  std::_Exit(1);
}

ledger::UnixSeconds system_time() {
  return ledger::UnixSeconds{program::wall_clock().get() / 1000};
}

Status serve(const CommandLine& line) {
  SP_CHECK(program::open_state_directory(line.state));
  program::EndingSignals ending;  // before any thread starts
  SP_TRY(const ledger::NoteKey vkey, Store::find_vkey(line.database()));
  SP_TRY(auto store, Store::open(line.database(), vkey));
  SP_TRY(Sign sign, open_key(line, vkey));
  Metrics metrics;
  const auto failed = [&metrics](const Error& error) {
    metrics.failed(error);
    spdlog::error("{}", describe(error));
  };
  SP_TRY(
      const auto witness,
      Witness::make({vkey, std::move(sign), line.logs, system_time, stop_at_once, failed}, std::move(store)));

  net::HttpServerOptions options = server_options();
  options.address = line.listen.address;
  options.port = line.listen.port;
  SP_TRY(options.max_connections, program::fit_connections(options.max_connections, 1, kOwnDescriptors));
  options.turned_away = [](std::string_view why) { spdlog::warn("connections are turned away: {}", why); };
  SP_TRY(
      net::HttpServer server,
      net::HttpServer::start(std::move(options),
                             make_routes(*witness, [&metrics](std::string_view call,
                                                              const net::Connection& from, unsigned status) {
                               metrics.answered(call, status);
                               spdlog::log(status >= 500 ? spdlog::level::err : spdlog::level::info,
                                           "{} {} from {}", call, status, from.peer_address());
                             })));
  std::optional<net::HttpServer> operators;
  if (line.operators) {
    net::HttpServerOptions plain;
    plain.address = line.operators->address;
    plain.port = line.operators->port;
    plain.max_connections = kOperatorConnections;
    plain.worker_threads = 1;
    SP_TRY(operators, net::HttpServer::start(std::move(plain), make_operator_routes(*witness, metrics)));
  }
  for (const auto& log : line.logs)
    spdlog::info("witnessing {} with {}", log.origin.get(), ledger::format_vkey(log.key));
  spdlog::info("{} listening on {}", ledger::format_vkey(vkey), server.url());
  if (operators && line.operators_port_file)
    SP_CHECK(program::write_port_file(*line.operators_port_file, operators->port()));
  if (line.port_file) SP_CHECK(program::write_port_file(*line.port_file, server.port()));
  std::cout << "listening on " << server.url() << std::endl;
  ending.wait();
  spdlog::info("stopping");
  if (operators) operators->stop();
  server.stop();
  return Done{};
}

Status run(int argc, char** argv) {
  SP_TRY(const CommandLine line, parse_command_line(argc, argv));
  if (line.command == "--help" || line.command == "help") {
    std::cout << kUsage;
    return Done{};
  }
  const auto level = spdlog::level::from_str(line.log_level);
  if (level == spdlog::level::off)
    return Error{Code::kMalformed, Reason::kUsage,
                 "--log-level: trace, debug, info, warning, error or critical"};
  spdlog::set_default_logger(spdlog::stderr_logger_mt("witness"));
  spdlog::set_level(level);
  SP_CHECK(program::harden());
  program::ignore_broken_pipes();  // modules write to devices that may be gone
  if (line.command == "init") return init(line);
  if (line.command == "key") return print_key(line);
  if (line.command == "serve") return serve(line);
  return Error{Code::kMalformed, Reason::kUsage, "no such command: " + line.command};
}

}  // namespace
}  // namespace sallyport::witness

int main(int argc, char** argv) {
  try {
    const sallyport::Status status = sallyport::witness::run(argc, argv);
    if (status) return 0;
    std::cerr << "sallyport-witness: " << sallyport::describe(status.error()) << '\n';
    if (status.error().reason == sallyport::Reason::kUsage) std::cerr << sallyport::witness::kUsage;
    return sallyport::exit_code_of(status.error());
  } catch (const std::exception& error) {
    std::cerr << "sallyport-witness: " << error.what() << '\n';
    return 1;
  }
}

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
#include "client/witness/routes.h"
#include "client/witness/store.h"
#include "client/witness/witness.h"

namespace sallyport::witness {
namespace {

namespace fs = std::filesystem;

Status init(const CommandLine& line) {
  SP_CHECK(ledger::check_note_name(line.name));
  if (fs::exists(line.database()))
    return Error{Code::kConflict, Reason::kStorage, "a memory is there already"};
  SP_CHECK(program::make_state_directory(line.state));
  SP_TRY(const crypto::PrivateKey key, create_key_file(line.key_file()));
  SP_TRY(const auto vkey,
         ledger::NoteKey::make(line.name, ledger::NoteKeyType::kCosignature, key.public_key()));
  SP_CHECK(Store::create(line.database(), vkey));
  std::cout << ledger::format_vkey(vkey) << std::endl;
  return Done{};
}

Status print_key(const CommandLine& line) {
  SP_TRY(const std::string name, Store::find_name(line.database()));
  SP_TRY(const crypto::PrivateKey key, load_key_file(line.key_file()));
  SP_TRY(const auto vkey, ledger::NoteKey::make(name, ledger::NoteKeyType::kCosignature, key.public_key()));
  std::cout << ledger::format_vkey(vkey) << std::endl;
  return Done{};
}

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
  SP_TRY(const std::string name, Store::find_name(line.database()));
  SP_TRY(const crypto::PrivateKey key, load_key_file(line.key_file()));
  SP_TRY(const auto vkey, ledger::NoteKey::make(name, ledger::NoteKeyType::kCosignature, key.public_key()));
  SP_TRY(auto store, Store::open(line.database(), vkey));
  SP_TRY(const auto witness,
         Witness::make({key, name, line.logs, system_time, stop_at_once, {}, {}}, std::move(store)));

  net::HttpServerOptions options = server_options();
  options.address = line.address;
  options.port = line.port;
  program::EndingSignals ending;  // before any thread starts
  SP_TRY(net::HttpServer server,
         net::HttpServer::start(
             std::move(options),
             make_routes(*witness, [](std::string_view what, const net::Connection& from, unsigned status) {
               spdlog::log(status >= 500 ? spdlog::level::err : spdlog::level::info, "{} {} from {}", what,
                           status, from.peer_address());
             })));
  for (const auto& log : line.logs) spdlog::info("witnessing {}", ledger::format_vkey(log));
  spdlog::info("{} listening on {}", ledger::format_vkey(vkey), server.url());
  if (line.port_file) SP_CHECK(program::write_port_file(*line.port_file, server.port()));
  std::cout << "listening on " << server.url() << std::endl;
  ending.wait();
  spdlog::info("stopping");
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

// sallyport-witness: one key, one tree state per log. See README.md.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <boost/program_options.hpp>
#include <charconv>
#include <fstream>
#include <iostream>

#include "attestation/net/http_server.h"
#include "attestation/program/clock.h"
#include "attestation/program/files.h"
#include "attestation/program/process.h"
#include "client/witness/key_file.h"
#include "client/witness/routes.h"
#include "client/witness/store.h"
#include "client/witness/witness.h"

namespace sallyport::witness {
namespace {

namespace po = boost::program_options;
namespace fs = std::filesystem;

constexpr const char* kUsage =
    "sallyport-witness: remembers one tree per log, and cosigns only what continues it (C2SP "
    "tlog-witness)\n\n"
    "  sallyport-witness init  --state DIR --name NAME\n"
    "      once: make a key and an empty memory; prints the key as policies name it\n"
    "  sallyport-witness key   --state DIR\n"
    "      print that key again\n"
    "  sallyport-witness serve --state DIR --log VKEY [--log VKEY ...] [--listen ADDRESS:PORT]\n"
    "                          [--port-file FILE] [--log-level LEVEL] [--config FILE]\n"
    "      answer the logs named, over HTTP, until SIGTERM\n";

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

po::options_description options_of_serve() {
  po::options_description options;
  options.add_options()                                                   //
      ("state", po::value<std::string>())                                 //
      ("key", po::value<std::string>())                                   //
      ("log", po::value<std::vector<std::string>>()->composing())         //
      ("listen", po::value<std::string>()->default_value("127.0.0.1:0"))  //
      ("port-file", po::value<std::string>())                             //
      ("log-level", po::value<std::string>()->default_value("info"));
  return options;
}

fs::path state_of(const po::variables_map& given) {
  return given["state"].as<std::string>();
}
fs::path database_of(const po::variables_map& given) {
  return state_of(given) / "witness.db";
}
fs::path key_of(const po::variables_map& given) {
  return given.count("key") != 0 ? fs::path{given["key"].as<std::string>()} : state_of(given) / "key.pem";
}

// protect_process keeps the key out of core dumps and swap, and away from other processes of our user.
Status protect_process() {
  const program::Hardened done = program::harden();
  if (!done.undumpable) return Error{Code::kInternal, "core dumps cannot be switched off"};
  if (!done.locked_memory) return Error{Code::kInternal, "no memory can be locked for secrets"};
  return Done{};
}

Status init(const po::variables_map& given) {
  if (given.count("name") == 0) return usage("init needs --name, such as witness.example.com/w1");
  const auto name = given["name"].as<std::string>();
  SP_CHECK(ledger::check_note_name(name));
  if (fs::exists(database_of(given)))
    return Error{Code::kConflict, Reason::kStorage, "a memory is there already"};
  std::error_code error;
  const fs::path state = state_of(given);
  if (!fs::exists(state) && ::mkdir(state.c_str(), 0700) != 0)
    return Error{Code::kUnavailable, Reason::kStorage, "cannot make " + state.string()};
  SP_TRY(const crypto::PrivateKey key, create_key_file(key_of(given)));
  SP_TRY(const auto vkey, ledger::NoteKey::make(name, ledger::NoteKeyType::kCosignature, key.public_key()));
  SP_CHECK(Store::create(database_of(given), vkey));
  std::cout << ledger::format_vkey(vkey) << std::endl;
  return Done{};
}

Status print_key(const po::variables_map& given) {
  SP_TRY(const std::string name, Store::find_name(database_of(given)));
  SP_TRY(const crypto::PrivateKey key, load_key_file(key_of(given)));
  SP_TRY(const auto vkey, ledger::NoteKey::make(name, ledger::NoteKeyType::kCosignature, key.public_key()));
  std::cout << ledger::format_vkey(vkey) << std::endl;
  return Done{};
}

Status set_listener(net::HttpServerOptions& options, const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return usage("--listen wants ADDRESS:PORT");
  std::string address = text.substr(0, colon);
  if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
  const char* begin = text.data() + colon + 1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, options.port);
  if (error != std::errc{} || stop != end) return usage("--listen wants ADDRESS:PORT");
  options.address = address;
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

Status serve(const po::variables_map& given) {
  std::vector<ledger::NoteKey> logs;
  if (given.count("log") != 0)
    for (const std::string& text : given["log"].as<std::vector<std::string>>()) {
      SP_TRY(ledger::NoteKey log, ledger::parse_vkey(text));
      logs.push_back(std::move(log));
    }
  if (logs.empty()) return usage("serve needs the vkey of a log: --log");
  net::HttpServerOptions options = server_options();
  SP_CHECK(set_listener(options, given["listen"].as<std::string>()));

  SP_TRY(const std::string name, Store::find_name(database_of(given)));
  SP_TRY(const crypto::PrivateKey key, load_key_file(key_of(given)));
  SP_TRY(const auto vkey, ledger::NoteKey::make(name, ledger::NoteKeyType::kCosignature, key.public_key()));
  SP_TRY(auto store, Store::open(database_of(given), vkey));
  SP_TRY(const auto witness,
         Witness::make({key, name, logs, system_time, stop_at_once, {}, {}}, std::move(store)));

  program::EndingSignals ending;  // before any thread starts
  SP_TRY(net::HttpServer server,
         net::HttpServer::start(
             std::move(options),
             make_routes(*witness, [](std::string_view what, const net::Connection& from, unsigned status) {
               spdlog::log(status >= 500 ? spdlog::level::err : spdlog::level::info, "{} {} from {}", what,
                           status, from.peer_address());
             })));
  for (const auto& log : logs) spdlog::info("witnessing {}", ledger::format_vkey(log));
  spdlog::info("{} listening on {}", ledger::format_vkey(vkey), server.url());
  if (given.count("port-file") != 0)
    SP_CHECK(program::write_port_file(given["port-file"].as<std::string>(), server.port()));
  std::cout << "listening on " << server.url() << std::endl;
  ending.wait();
  spdlog::info("stopping");
  server.stop();
  return Done{};
}

Status run(int argc, char** argv) {
  if (argc < 2) return usage("a command is missing");
  const std::string command = argv[1];
  if (command == "--help" || command == "help") {
    std::cout << kUsage;
    return Done{};
  }
  po::options_description options = options_of_serve();
  if (command == "init") options.add_options()("name", po::value<std::string>());
  if (command == "serve") options.add_options()("config", po::value<std::string>());
  po::variables_map given;
  try {
    po::store(po::command_line_parser(argc - 1, argv + 1)
                  .options(options)
                  .style(po::command_line_style::unix_style & ~po::command_line_style::allow_guessing)
                  .positional({})
                  .run(),
              given);
    if (given.count("config") != 0) {
      std::ifstream file{given["config"].as<std::string>()};
      if (!file) return usage("the configuration cannot be read");
      po::store(po::parse_config_file(file, options_of_serve()), given);
    }
    po::notify(given);
  } catch (const po::error& error) {
    return usage(error.what());
  }
  if (given.count("state") == 0) return usage("--state is missing");
  const auto level = spdlog::level::from_str(given["log-level"].as<std::string>());
  if (level == spdlog::level::off)
    return usage("--log-level: trace, debug, info, warning, error or critical");
  spdlog::set_default_logger(spdlog::stderr_logger_mt("witness"));
  spdlog::set_level(level);
  SP_CHECK(protect_process());
  if (command == "init") return init(given);
  if (command == "key") return print_key(given);
  if (command == "serve") return serve(given);
  return usage("no such command: " + command);
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

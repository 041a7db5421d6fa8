#include "client/witness/command_line.h"

#include <boost/program_options.hpp>
#include <fstream>

#include "attestation/program/listen.h"

namespace sallyport::witness {
namespace {

namespace po = boost::program_options;

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

Result<po::variables_map> parse_flags(const std::string& command, int argc, char** argv) {
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
  return given;
}

}  // namespace

const char* const kUsage =
    "sallyport-witness: remembers one tree per log, and cosigns only what continues it (C2SP "
    "tlog-witness)\n\n"
    "  sallyport-witness init  --state DIR --name NAME\n"
    "      once: make a key and an empty memory; prints the key as policies name it\n"
    "  sallyport-witness key   --state DIR\n"
    "      print that key again\n"
    "  sallyport-witness serve --state DIR --log VKEY [--log VKEY ...] [--listen ADDRESS:PORT]\n"
    "                          [--port-file FILE] [--log-level LEVEL] [--config FILE]\n"
    "      answer the logs named, over HTTP, until SIGTERM\n";

Result<CommandLine> parse_command_line(int argc, char** argv) {
  if (argc < 2) return usage("a command is missing");
  CommandLine line;
  line.command = argv[1];
  if (line.command == "--help" || line.command == "help") return line;
  SP_TRY(const po::variables_map given, parse_flags(line.command, argc, argv));
  if (given.count("state") == 0) return usage("--state is missing");
  line.state = given["state"].as<std::string>();
  line.log_level = given["log-level"].as<std::string>();
  if (given.count("key") != 0) line.key = given["key"].as<std::string>();
  if (given.count("port-file") != 0) line.port_file = given["port-file"].as<std::string>();
  if (line.command == "init") {
    if (given.count("name") == 0) return usage("init needs --name, such as witness.example.com/w1");
    line.name = given["name"].as<std::string>();
  }
  if (line.command == "serve") {
    if (given.count("log") != 0)
      for (const std::string& text : given["log"].as<std::vector<std::string>>()) {
        SP_TRY(ledger::NoteKey log, ledger::parse_vkey(text));
        line.logs.push_back(std::move(log));
      }
    if (line.logs.empty()) return usage("serve needs the vkey of a log: --log");
    SP_TRY(const auto listen, program::parse_listen(given["listen"].as<std::string>()));
    line.address = listen.address;
    line.port = listen.port;
  }
  return line;
}

}  // namespace sallyport::witness

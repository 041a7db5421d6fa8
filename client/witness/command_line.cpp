#include "client/witness/command_line.h"

#include <boost/program_options.hpp>
#include <fstream>

namespace sallyport::witness {
namespace {

namespace po = boost::program_options;

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

// What init and serve have in common, and what serve takes from its configuration file as well.
po::options_description options_of_both() {
  po::options_description options;
  options.add_options()                       //
      ("state", po::value<std::string>())     //
      ("key", po::value<std::string>())       //
      ("module", po::value<std::string>())    //
      ("token", po::value<std::string>())     //
      ("pin-fd", po::value<int>())            //
      ("pin-file", po::value<std::string>())  //
      ("log-level", po::value<std::string>()->default_value("info"));
  return options;
}

po::options_description options_of_serve() {
  po::options_description options = options_of_both();
  options.add_options()                                                   //
      ("log", po::value<std::vector<std::string>>()->composing())         //
      ("listen", po::value<std::string>()->default_value("127.0.0.1:0"))  //
      ("port-file", po::value<std::string>())                             //
      ("operators", po::value<std::string>())                             //
      ("operators-port-file", po::value<std::string>());
  return options;
}

Result<po::variables_map> parse_flags(const std::string& command, int argc, char** argv) {
  po::options_description options = command == "serve" ? options_of_serve() : options_of_both();
  if (command == "init")
    options.add_options()                   //
        ("name", po::value<std::string>())  //
        ("key-label", po::value<std::string>()->default_value("sallyport-witness"));
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

std::optional<std::filesystem::path> find_path(const po::variables_map& given, const char* flag) {
  if (given.count(flag) == 0) return std::nullopt;
  return given[flag].as<std::string>();
}

Result<std::optional<TokenPlace>> find_token(const po::variables_map& given) {
  const bool module = given.count("module") != 0;
  if (module != (given.count("token") != 0)) return usage("--module and --token go together");
  if (!module) {
    if (given.count("pin-fd") + given.count("pin-file") != 0) return usage("a PIN is for a token: --module");
    return std::optional<TokenPlace>{};
  }
  if (given.count("key") != 0) return usage("a key is in a file or on a token, not in both");
  TokenPlace place{given["module"].as<std::string>(), given["token"].as<std::string>(), {}};
  if (given.count("pin-fd") != 0) place.pin.fd = given["pin-fd"].as<int>();
  place.pin.file = find_path(given, "pin-file");
  return std::optional{std::move(place)};
}

// parse_log takes "VKEY" or "VKEY ORIGIN", for the few logs whose key has another name than their origin.
Result<ledger::LogKey> parse_log(std::string_view text) {
  const std::size_t space = text.find(' ');
  SP_TRY(ledger::NoteKey key, ledger::parse_vkey(text.substr(0, space)));
  Origin origin{space == text.npos ? key.name() : std::string{text.substr(space + 1)}};
  if (origin.get().empty()) return usage("--log: an empty origin");
  return ledger::LogKey{std::move(origin), std::move(key)};
}

}  // namespace

const char* const kUsage =
    "sallyport-witness: remembers one tree per log, and cosigns only what continues it (C2SP "
    "tlog-witness)\n\n"
    "  sallyport-witness init  --state DIR --name NAME [--module PATH --token LABEL [--key-label LABEL]\n"
    "                          [--pin-fd N | --pin-file FILE]]\n"
    "      once: make a key, in a file or on a token, and an empty memory; prints the key as policies name "
    "it\n"
    "  sallyport-witness key   --state DIR\n"
    "      print that key again\n"
    "  sallyport-witness serve --state DIR --log 'VKEY [ORIGIN]' [--log ...] [--listen ADDRESS:PORT]\n"
    "                          [--module PATH --token LABEL [--pin-fd N | --pin-file FILE]]\n"
    "                          [--operators ADDRESS:PORT] [--port-file FILE] [--operators-port-file FILE]\n"
    "                          [--log-level LEVEL] [--config FILE]\n"
    "      answer the logs named, over HTTP, until SIGTERM; --operators adds /metrics, for loopback\n";

Result<CommandLine> parse_command_line(int argc, char** argv) {
  if (argc < 2) return usage("a command is missing");
  CommandLine line;
  line.command = argv[1];
  if (line.command == "--help" || line.command == "help") return line;
  SP_TRY(const po::variables_map given, parse_flags(line.command, argc, argv));
  if (given.count("state") == 0) return usage("--state is missing");
  line.state = given["state"].as<std::string>();
  line.log_level = given["log-level"].as<std::string>();
  line.key = find_path(given, "key");
  SP_TRY(line.token, find_token(given));
  if (line.command == "init") {
    if (given.count("name") == 0) return usage("init needs --name, such as witness.example.com/w1");
    line.name = given["name"].as<std::string>();
    line.key_label = given["key-label"].as<std::string>();
  }
  if (line.command == "serve") {
    if (given.count("log") != 0)
      for (const std::string& text : given["log"].as<std::vector<std::string>>()) {
        SP_TRY(ledger::LogKey log, parse_log(text));
        line.logs.push_back(std::move(log));
      }
    if (line.logs.empty()) return usage("serve needs the vkey of a log: --log");
    SP_TRY(line.listen, program::parse_listen(given["listen"].as<std::string>()));
    if (given.count("operators") != 0) {
      SP_TRY(line.operators, program::parse_listen(given["operators"].as<std::string>()));
    }
    line.port_file = find_path(given, "port-file");
    line.operators_port_file = find_path(given, "operators-port-file");
  }
  return line;
}

}  // namespace sallyport::witness

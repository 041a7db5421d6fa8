#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "attestation/program/listen.h"
#include "client/witness/token_key.h"

namespace sallyport::witness {

// What --help prints, and what follows a usage error.
extern const char* const kUsage;

// CommandLine is what the program was told, its configuration file included.
struct CommandLine {
  std::string command;
  std::filesystem::path state;
  std::string log_level;
  std::optional<std::filesystem::path> key;  // another place for the key's file
  std::optional<TokenPlace> token;           // init, serve: the key is there, and in no file
  std::string name, key_label;               // init
  std::vector<ledger::LogKey> logs;          // serve, as all below
  program::ListenAddress listen;
  std::optional<program::ListenAddress> operators;
  std::optional<std::filesystem::path> port_file, operators_port_file;

  std::filesystem::path database() const { return state / "witness.db"; }
  std::filesystem::path key_file() const { return key ? *key : state / "key.pem"; }
};

// parse_command_line reads flags, and --config where it is given. Errors: kUsage, kMalformed (a vkey). A
// command that does not exist is found out by whoever runs it.
Result<CommandLine> parse_command_line(int argc, char** argv);

}  // namespace sallyport::witness

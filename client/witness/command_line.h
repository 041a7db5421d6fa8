#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "attestation/ledger/vkey.h"

namespace sallyport::witness {

// What --help prints, and what follows a usage error.
extern const char* const kUsage;

// CommandLine is what the program was told, its configuration file included.
struct CommandLine {
  std::string command;
  std::filesystem::path state;
  std::string log_level;
  std::optional<std::filesystem::path> key, port_file;
  std::string name;                   // init
  std::vector<ledger::NoteKey> logs;  // serve
  std::string address;                // serve
  std::uint16_t port = 0;             // serve; 0: a free one

  std::filesystem::path database() const { return state / "witness.db"; }
  std::filesystem::path key_file() const { return key ? *key : state / "key.pem"; }
};

// parse_command_line reads flags, and --config where it is given. Errors: kUsage, kMalformed (a vkey). A
// command that does not exist is found out by whoever runs it.
Result<CommandLine> parse_command_line(int argc, char** argv);

}  // namespace sallyport::witness

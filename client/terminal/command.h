#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/program_options.hpp>

#include "attestation/record/canonical_json.h"
#include "client/connection/session.h"
#include "hsm-config/pkcs11/pin.h"

namespace sallyport::client {

// Arguments are the parsed command line of one command.
struct Arguments {
  boost::program_options::variables_map values;
  std::vector<std::string> rest;  // after "--"
  bool json = false;              // -f json
  std::string_view pin_for;       // what a prompt says that the PIN is for
  bool has(const char* name) const { return values.contains(name); }
  std::string text(const char* name, std::string otherwise = {}) const {
    return has(name) ? values[name].as<std::string>() : otherwise;
  }
};

// Command is one command of `sallyport`: its name ("ssh", "policy check"), what --help says, its flags, and
// what it does. It prints its result on stdout and its progress on stderr, and gives the exit code.
struct Command {
  std::string_view name;
  std::string_view synopsis;  // "ssh HOST|RESOURCE [--as ACCOUNT] … [-- COMMAND …]"
  std::string_view summary;   // one line
  std::string_view help;      // what it does, an example, what to do when it is refused
  void (*flags)(boost::program_options::options_description&);
  std::vector<const char*> positional;  // names of flags that are given by place
  Result<int> (*run)(const Arguments&);
  std::string_view pin_for = "to sign in";  // why it asks for the PIN; empty: it asks for none
  bool internal = false;                    // called by programs, and in no list
  bool last_repeats = false;                // the last flag given by place takes all that follows
};

// run_command_line finds the command, parses its flags, runs it, and tells errors as README.md, "Errors",
// says. The beginning of several names ("policy") lists them. Gives the exit code.
int run_command_line(int argc, char** argv, const std::vector<std::vector<Command>>& rooms);

// usage is the error of a command line that says nothing that can be done.
Error usage(std::string what);

// print_json is what a command's `-f json` prints: one line on stdout, in canonical form.
void print_json(const record::json::Value& value);

// open_signer opens the token that the settings name, asking for its PIN (--pin-fd N, --pin-file FILE, else
// the terminal), and finds the key that the policy lists for the person; without a policy yet, the token's
// own signing key.
Result<Signer> open_signer(const Settings& settings, const policy::Policy* policy,
                           const Arguments& arguments);

// open_tpm opens the TPM that the settings name, and tells the person when it is waited for.
// Errors: kTpmAbsent, kTpmBusy.
Result<tpm::Tpm> open_tpm(const Settings& settings);

// open_session loads the settings, connects, proves machine (unless tcti is "none") and person, and follows
// the log to its head.
struct Opened {
  Settings settings;
  std::unique_ptr<tpm::Tpm> tpm;  // null when tcti is "none"
  std::unique_ptr<Session> session;
  std::optional<Signer> signer;
};
enum class MachineUse { kRequired, kIfThere, kNone };
Result<std::unique_ptr<Opened>> open_session(const Arguments& arguments, MachineUse machine);

}  // namespace sallyport::client

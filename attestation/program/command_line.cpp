#include "attestation/program/command_line.h"

#include <ios>
#include <iostream>
#include <string>

namespace sallyport::program {
namespace {

namespace po = boost::program_options;

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

Status run_command(const std::vector<Command>& commands, const std::string& name, const Flags& given) {
  for (const Command& command : commands) {
    if (name != command.name) continue;
    for (const char* flag : command.needs)
      if (!given.contains(flag)) return usage(name + " needs --" + flag);
    return command.run(given);
  }
  return usage("no such command: " + name);
}

}  // namespace

int tell_error(std::string_view program, const Error& error) {
  const std::string_view means = reason_sentence(error.reason);
  std::cerr << program << ": [" << reason_name(error.reason) << "] " << error.what << "\n";
  if (error.what != means) std::cerr << "  " << means << "\n";
  return exit_code_of(error);
}

int guarded(std::string_view program, const std::function<int()>& run) {
  try {
    return run();
  } catch (const po::error& error) {
    return tell_error(program, usage(error.what()));
  } catch (const std::ios_base::failure& error) {  // a disk that fails while a file is read
    return tell_error(program, {Code::kUnavailable, Reason::kStorage, error.what()});
  } catch (const std::exception& error) {
    return tell_error(program, {Code::kInternal, error.what()});
  }
}

int run_program(int argc, char** argv, const Program& program) {
  return guarded(program.name, [&] {
    po::positional_options_description positional;
    positional.add("command", 1);
    Flags given;
    po::store(po::command_line_parser(argc, argv).options(program.flags).positional(positional).run(), given);
    const std::string command = given.contains("command") ? given["command"].as<std::string>() : "";
    if (given.contains("help") || command.empty()) {
      (given.contains("help") ? std::cout : std::cerr) << program.usage << program.flags;
      return given.contains("help") ? 0 : 2;
    }
    const Status done = run_command(program.commands, command, given);
    return done.has_value() ? 0 : tell_error(program.name, done.error());
  });
}

}  // namespace sallyport::program

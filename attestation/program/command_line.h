#pragma once

#include <boost/program_options.hpp>
#include <functional>
#include <string_view>
#include <vector>

#include "attestation/base/result.h"

namespace sallyport::program {

using Flags = boost::program_options::variables_map;

// tell_error tells on stderr what went wrong, and what that means, and gives the exit code of README.md,
// "Errors and exit codes".
int tell_error(std::string_view program, const Error& error);

// guarded runs a program: exceptions of the libraries end here, as an error that is told.
int guarded(std::string_view program, const std::function<int()>& run);

// Command is one thing that a program does: its name, the flags without which it cannot, and the doing.
struct Command {
  const char* name;
  std::vector<const char*> needs;
  Status (*run)(const Flags&);
};

// Program is a program that takes one command and flags. Every program has --help, and "command" by place.
struct Program {
  const char* name;
  const char* usage;
  boost::program_options::options_description flags;
  std::vector<Command> commands;
};

// run_program finds the command and runs it, and gives the exit code.
int run_program(int argc, char** argv, const Program& program);

}  // namespace sallyport::program

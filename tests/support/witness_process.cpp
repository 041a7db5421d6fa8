#include "tests/support/witness_process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "tests/support/matchers.h"

namespace sallyport::test {

namespace {

void append(std::vector<std::string>& arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
}

}  // namespace

WitnessProcess::WitnessProcess(std::string program, std::string name, std::vector<std::string> logs,
                               Flags flags)
    : program_(std::move(program)), logs_(std::move(logs)), flags_(std::move(flags)) {
  std::vector<std::string> init{"init", "--state", state().string(), "--name", std::move(name)};
  append(init, flags_.key);
  const auto [code, printed] = run(std::move(init));
  EXPECT_EQ(code, 0) << printed;
  vkey_ = value_of(ledger::parse_vkey(std::string_view{printed}.substr(0, printed.find('\n'))));
  start();
}

void WitnessProcess::start() {
  if (!try_start()) ADD_FAILURE() << "the witness does not start: " << process_->output();
}

bool WitnessProcess::try_start() {
  const auto port_file = directory_ / "port";
  std::filesystem::remove(port_file);
  std::vector<std::string> arguments{
      program_,           "serve",    "--state",           state().string(), "--port-file",
      port_file.string(), "--listen", "127.0.0.1:" + port_};
  for (const std::string& log : logs_) {
    arguments.push_back("--log");
    arguments.push_back(log);
  }
  append(arguments, flags_.key);
  append(arguments, flags_.serve);
  process_.emplace(std::move(arguments), directory_ / "serve.log", flags_.environment);
  const bool up = poll_until([&] { return std::filesystem::exists(port_file) || !process_->running(); });
  if (!up || !std::filesystem::exists(port_file)) return false;
  port_ = as_text(read_file(port_file));
  port_.pop_back();
  url_ = "http://127.0.0.1:" + port_;
  return true;
}

void WitnessProcess::kill() {
  process_->send(SIGKILL);
  EXPECT_EQ(process_->wait(), 128 + SIGKILL);
}

int WitnessProcess::terminate() {
  process_->send(SIGTERM);
  return process_->wait();
}

std::pair<int, std::string> WitnessProcess::run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program_);
  Process once{std::move(arguments), directory_ / ("run" + std::to_string(runs_++) + ".log")};
  const int code = once.wait();
  return {code, once.output()};
}

}  // namespace sallyport::test

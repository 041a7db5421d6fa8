#pragma once

#include <optional>

#include "attestation/ledger/vkey.h"
#include "tests/support/files.h"
#include "tests/support/process.h"

namespace sallyport::test {

// WitnessProcess is a sallyport-witness with a fresh key and memory in a temporary directory. It keeps its
// port over restarts.
class WitnessProcess {
 public:
  // Flags are more arguments: those that say where the key is, for init and serve, and those for serve alone.
  // `environment` is that of serve.
  struct Flags {
    std::vector<std::string> key, serve, environment = {};
  };
  // `program` is the path of sallyport-witness, `logs` are as --log takes them. Failures to start it fail the
  // test.
  WitnessProcess(std::string program, std::string name, std::vector<std::string> logs,
                 Flags flags = {{}, {}, {}});

  const std::string& url() const { return url_; }
  const ledger::NoteKey& vkey() const { return *vkey_; }
  std::filesystem::path state() const { return directory_ / "state"; }
  const std::string& program() const { return program_; }
  Process& process() { return *process_; }

  // add_log has it know one more log from its next start on.
  void add_log(std::string log) { logs_.push_back(std::move(log)); }

  void start();      // serve, on a port that was free at the first start
  bool try_start();  // gives whether it serves
  void kill();       // SIGKILL, and wait
  int terminate();   // SIGTERM; gives the exit code
  void restart() {
    kill();
    start();
  }

  // run calls the program to its end: exit code and what it printed.
  std::pair<int, std::string> run(std::vector<std::string> arguments);

 private:
  TemporaryDirectory directory_;
  std::string program_;
  std::vector<std::string> logs_;
  Flags flags_;
  std::optional<ledger::NoteKey> vkey_;
  std::string url_, port_ = "0";
  std::optional<Process> process_;
  int runs_ = 0;
};

}  // namespace sallyport::test

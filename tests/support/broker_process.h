#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attestation/api/messages.h"
#include "attestation/net/frames.h"
#include "attestation/net/http_client.h"
#include "attestation/record/batch.h"
#include "tests/support/process.h"
#include "tests/support/record_scenario.h"
#include "tests/support/softhsm.h"
#include "tests/support/witness_process.h"

namespace sallyport::test {

class ApiPeer;

// BrokerProcess is a region with real programs: a keyguard with a SoftHSM, witnesses (two of three must
// cosign), a broker; each may be killed and started again. Machines are in software.
class BrokerProcess {
 public:
  struct Programs {
    std::string keyguard, broker, witness;
    // What is added to the environments of `serve`: of the keyguard, the broker, and each witness.
    std::vector<std::string> keyguard_environment = {}, broker_environment = {};
    std::vector<std::vector<std::string>> witness_environments = {};
    // on_answer sees each answer of the keyguard's on its way to the broker; called by several threads.
    std::function<void(ByteView answer)> on_answer = {};
  };
  explicit BrokerProcess(Programs programs);

  // The people, machines and policy. Its state is what a reader has replayed: see replay.
  TemporarySoftHsm hsm{"us"};
  std::vector<std::unique_ptr<WitnessProcess>> witnesses;
  RecordScenario company;

  // The module through which the keyguard is started to reach the HSM.
  std::string hsm_module = TemporarySoftHsm::module_path();

  // serve_… start a program and give whether it serves; kill_… is SIGKILL, and waits for the end.
  void start_keyguard(const std::vector<std::string>& more = {});
  void start_broker();
  // What the next start_broker takes: the name of its state directory here, and more arguments.
  std::string broker_state = "broker";
  std::vector<std::string> more_broker_arguments;
  // try_… give whether it serves.
  bool try_start_keyguard(const std::vector<std::string>& more = {});
  bool try_start_broker();
  void kill_keyguard() { kill(*keyguard_); }
  void kill_broker() { kill(*broker_); }
  Process& keyguard() { return *keyguard_; }
  Process& broker() { return *broker_; }
  // run_broker runs another command of its program to the end.
  std::pair<int, std::string> run_broker(std::vector<std::string> arguments) {
    return run(programs_.broker, std::move(arguments));
  }
  const std::string& broker_program() const { return programs_.broker; }
  // take_broker leaves the broker running, out of our hands; the next one gets other ports.
  Process take_broker() {
    port_ = operators_port_ = 0;
    return std::move(*broker_);
  }
  std::string operators_url() const { return "http://127.0.0.1:" + std::to_string(operators_port_); }
  // operators gives status and text of one of the operators' pages.
  std::pair<unsigned, std::string> operators(const std::string& page) const;
  // run_keyguard runs it to its end, with another file for the PIN or other arguments in place of `serve`'s.
  std::pair<int, std::string> run_keyguard(std::vector<std::string> arguments);
  std::vector<std::string> serve_arguments(const std::filesystem::path& pin_file) const;

  const std::filesystem::path& directory() const { return directory_.path(); }
  std::string url() const { return "https://127.0.0.1:" + std::to_string(port_); }
  const crypto::PublicKey& tls_key() const { return company.company.policy.tls.front(); }

  // ready gives status and text of /readyz.
  std::pair<unsigned, std::string> ready() const { return operators("/readyz"); }
  // expect_ready and expect_not_ready wait until /readyz says so, the latter in one answer with `why`: a broker
  // that has only begun is not ready, too, until its witnesses have answered.
  void expect_ready() const;
  void expect_not_ready(std::string_view why) const;

  // peer connects a person, who signs in.
  Result<ApiPeer> peer(const std::string& person) const;
  // keyguard_state gives what `sallyport-keyguard state` says of the one that was killed.
  Bytes keyguard_state();
  // begin_anew begins the log that goes on from the old one (company.make_continuation has made the policy),
  // with states beside the old ones, and starts the programs on them.
  void begin_anew(const record::Continuation& continuation);

  // replay fetches the entries that `company` does not have yet, as a reader would, and folds them: each must
  // be one that an honest broker may append.
  void replay();

  static UnixMillis wall_clock();

 private:
  std::pair<int, std::string> run(const std::string& program, std::vector<std::string> arguments);
  void kill(Process& process);
  void begin_log(const std::vector<std::string>& more);
  void start_tap();
  std::filesystem::path file(std::string_view name) const { return directory_ / name; }
  Programs programs_;
  TemporaryDirectory directory_;
  std::atomic<int> port_ = 0, operators_port_ = 0;  // a restart sets them, and others connect meanwhile
  std::optional<Process> keyguard_, broker_;
  std::optional<net::FrameServer> tap_;  // between broker and keyguard
  int runs_ = 0;
  std::string keyguard_state_ = "keyguard";  // its directory
};

// ApiPeer is one connection to the API, in the raw: it believes what it is told and repeats nothing.
class ApiPeer {
 public:
  static Result<ApiPeer> connect(const BrokerProcess& world);

  Status sign_in(const std::string& person, const crypto::PrivateKey& token);
  Status attest(SoftTpm& tpm);

  Result<std::string> head();  // the newest cosigned note
  Result<api::Submitted> submit(const record::Submission& submission);
  Result<std::vector<api::Submitted>> submit_list(const Bytes& list);
  Result<api::Activated> activate(const CaseId& case_id, const std::vector<record::Blob>& evidence);
  Result<api::Leased> lease(const CaseId& case_id, const api::LeaseAsk& ask);
  Result<record::EntryPage> entries(LeafIndex from);
  Result<std::vector<std::string>> checkpoints(TreeSize from);
  net::HttpClient& http() { return client_; }
  Result<Bytes> get(const std::string& target);
  Result<Bytes> post(const std::string& target, ByteView body);

  // The proofs in parts, for who would use them elsewhere.
  Result<api::Hello> hello();
  Digest256 exporter() const { return Digest256{client_.exporter().value()}; }
  Bytes ticket(const std::string& person, const crypto::PrivateKey& token, const Nonce& nonce,
               std::chrono::seconds clock_ahead = {}) const;
  api::Attest machine_proof(SoftTpm& tpm, const api::Hello& hello) const;

 private:
  ApiPeer(net::HttpClient client, Origin origin) : client_(std::move(client)), origin_(std::move(origin)) {}
  net::HttpClient client_;
  Origin origin_;
};

}  // namespace sallyport::test

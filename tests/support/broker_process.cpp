#include "tests/support/broker_process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "attestation/base/hex.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/binding.h"
#include "attestation/net/tls.h"
#include "attestation/record/batch.h"
#include "hsm-config/pkcs11/region_keys.h"
#include "tests/support/matchers.h"

namespace sallyport::test {
namespace {

void write_file(const std::filesystem::path& path, ByteView bytes) {
  std::ofstream{path, std::ios::binary}.write(reinterpret_cast<const char*>(bytes.data()),
                                              static_cast<std::streamsize>(bytes.size()));
}

// read_port waits until a program has written its port, or has ended.
std::optional<std::string> read_port(Process& process, const std::filesystem::path& path) {
  std::string text;
  poll_until([&] {
    std::ifstream in{path};
    text = std::string{std::istreambuf_iterator<char>{in}, {}};
    return text.ends_with('\n') || !process.running();
  });
  if (!text.ends_with('\n')) return std::nullopt;
  text.pop_back();
  return text;
}

std::vector<std::unique_ptr<WitnessProcess>> start_witnesses(const BrokerProcess::Programs& programs,
                                                             const crypto::PublicKey& log_key) {
  const std::string log = vkey_text(SampleCompany{}.policy.origin, 0x01, log_key);
  std::vector<std::unique_ptr<WitnessProcess>> out;
  for (const char* name : {"witness-one", "witness-two", "witness-three"}) {
    WitnessProcess::Flags flags;
    if (out.size() < programs.witness_environments.size())
      flags.environment = programs.witness_environments[out.size()];
    out.push_back(
        std::make_unique<WitnessProcess>(programs.witness, name, std::vector<std::string>{log}, flags));
  }
  return out;
}

Error error_of(const net::HttpResponse& response) {
  const auto message = api::parse_error_message(response.body);
  const Code code = response.status == 503   ? Code::kUnavailable
                    : response.status == 403 ? Code::kDenied
                    : response.status == 409 ? Code::kConflict
                    : response.status == 422 ? Code::kUnverified
                    : response.status == 400 ? Code::kMalformed
                                             : Code::kInternal;
  // A refusal that was recorded comes as what became of the statement.
  if (const auto recorded = api::parse_submitted(response.body); recorded.has_value() && recorded->code)
    return Error{code, *recorded->code, recorded->detail};
  if (!message.has_value()) return Error{code, "status " + std::to_string(response.status)};
  return Error{code, message->code, message->detail};
}

}  // namespace

UnixMillis BrokerProcess::wall_clock() {
  return UnixMillis{static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                                   std::chrono::system_clock::now().time_since_epoch())
                                                   .count())};
}

BrokerProcess::BrokerProcess(Programs programs)
    : company([&](SampleCompany& sample) {
        const pkcs11::Token token = hsm.open("us");
        const pkcs11::RegionKeys keys = value_of(pkcs11::make_region_keys(token));
        sample.policy.log = keys.log.public_key();
        sample.policy.ssh_ca = keys.ssh_ca.public_key();
        sample.policy.x509_ca = keys.x509_ca.public_key();
        sample.policy.lease = keys.lease.public_key();
        sample.policy.secrets = keys.secrets.public_key();
        witnesses = start_witnesses(programs, sample.policy.log);
        sample.policy.witnesses.clear();
        for (const auto& witness : witnesses)
          sample.policy.witnesses.push_back({witness->vkey().name(), witness->vkey().key(), witness->url()});
        sample.policy.witness_quorum = 2;
      }),
      programs_(std::move(programs)) {
  // The log begins with the broker's first leaf, not with the scenario's.
  const record::Entry genesis = company.entries.front();
  company.entries.clear();
  company.tree = {};
  company.state = record::begin_state(company.origin(), company.genesis);
  company.follower = record::ControlState::begin(company.origin(), company.genesis);
  company.now = wall_clock();

  const SamplePolicy& policy = company.company.policy;
  write_file(file("policy.toml"), as_bytes(policy.toml()));
  write_file(file("roots.pem"), policy.tpm_roots);
  const SecretBytes key = company.company.tls.to_pem();
  write_file(file("tls-key.pem"), key.expose());
  std::filesystem::permissions(file("tls-key.pem"), std::filesystem::perms{0600});
  write_file(file("tls-cert.pem"),
             as_bytes(value_of(net::make_self_signed_certificate(company.company.tls, {"localhost"}))));
  const auto [code, printed] =
      run_keyguard({"init", "--state", file("keyguard").string(), "--policy", file("policy.toml").string(),
                    "--roots", file("roots.pem").string()});
  EXPECT_EQ(code, 0) << printed;
  EXPECT_EQ(printed, "sha256:" + to_hex(company.genesis) + "\n");
  start_keyguard();
  if (programs_.on_answer) start_tap();
  begin_log({});
  start_broker();
}

void BrokerProcess::begin_log(const std::vector<std::string>& more) {
  std::vector<std::string> arguments{
      programs_.broker, "init",
      "--state",        file(broker_state).string(),
      "--trust",        (file(keyguard_state_) / "trust.toml").string(),
      "--keyguard",     file(programs_.on_answer ? "tap.socket" : "keyguard.socket").string(),
      "--policy",       file("policy.toml").string(),
      "--roots",        file("roots.pem").string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  Process init{std::move(arguments), file("broker-init.log")};
  EXPECT_EQ(init.wait(), 0) << init.output();
}

Bytes BrokerProcess::keyguard_state() {
  const std::string script = "'" + programs_.keyguard + "' state --state '" + file(keyguard_state_).string() +
                             "' >'" + file("state.bin").string() + "'";
  Process once{{"/bin/sh", "-c", script}, file("state.log")};
  EXPECT_EQ(once.wait(), 0) << once.output();
  std::ifstream in{file("state.bin"), std::ios::binary};
  const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
  return to_bytes(as_bytes(bytes));
}

void BrokerProcess::begin_anew(const record::Continuation& continuation) {
  write_file(file("policy.toml"), as_bytes(company.company.policy.toml()));
  write_file(file("continuation"), record::encode_continuation(continuation));
  const std::string old_state = std::exchange(keyguard_state_, "keyguard-2");
  broker_state = "broker-2";
  const auto [refused, why] =
      run_keyguard({"init", "--state", file(keyguard_state_).string(), "--policy",
                    file("policy.toml").string(), "--roots", file("roots.pem").string()});
  EXPECT_EQ(refused, 2) << why;  // not without the old state
  const auto [code, printed] = run_keyguard({"init", "--state", file(keyguard_state_).string(), "--policy",
                                             file("policy.toml").string(), "--roots",
                                             file("roots.pem").string(), "--from", file(old_state).string()});
  EXPECT_EQ(code, 0) << printed;
  // The witnesses' operators take up the new origin.
  const std::string log = vkey_text(company.company.policy.origin, 0x01, company.company.policy.log);
  for (const auto& witness : witnesses) {
    witness->add_log(log);
    witness->restart();
  }
  company.genesis = crypto::sha256(as_bytes(company.company.policy.toml()));
  company.entries.clear();
  company.tree = {};
  company.state = record::begin_state(company.origin(), company.genesis);
  company.follower = record::ControlState::begin(company.origin(), company.genesis);
  start_keyguard();
  begin_log({"--continuation", file("continuation").string()});
  start_broker();
}

std::vector<std::string> BrokerProcess::serve_arguments(const std::filesystem::path& pin_file) const {
  return {"serve",
          "--state",
          file(keyguard_state_).string(),
          "--socket",
          file("keyguard.socket").string(),
          "--module",
          hsm_module,
          "--token",
          "us",
          "--pin-file",
          pin_file.string()};
}

void BrokerProcess::start_keyguard(const std::vector<std::string>& more) {
  EXPECT_TRUE(try_start_keyguard(more)) << keyguard_->output();
}

bool BrokerProcess::try_start_keyguard(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = serve_arguments(hsm.pin_file());
  arguments.insert(arguments.end(), more.begin(), more.end());
  arguments.insert(arguments.begin(), programs_.keyguard);
  std::filesystem::remove(file("keyguard.socket"));
  const std::string log = file("keyguard.log");
  const std::size_t before = std::filesystem::exists(log) ? std::filesystem::file_size(log) : 0;
  keyguard_.emplace(std::move(arguments), log, programs_.keyguard_environment);
  // The socket is there before it has its group and mode; the keyguard says when it is ready.
  const bool up = poll_until([&] {
    return keyguard_->output().find("] guarding ", before) != std::string::npos || !keyguard_->running();
  });
  return up && keyguard_->running();
}

void BrokerProcess::start_broker() {
  EXPECT_TRUE(try_start_broker()) << broker_->output();
}

bool BrokerProcess::try_start_broker() {
  std::filesystem::remove(file("port"));
  std::filesystem::remove(file("operators-port"));
  std::vector<std::string> arguments{programs_.broker,
                                     "serve",
                                     "--state",
                                     file(broker_state).string(),
                                     "--trust",
                                     (file(keyguard_state_) / "trust.toml").string(),
                                     "--keyguard",
                                     file(programs_.on_answer ? "tap.socket" : "keyguard.socket").string(),
                                     "--listen",
                                     "127.0.0.1:" + std::to_string(port_),
                                     "--tls-key",
                                     file("tls-key.pem").string(),
                                     "--tls-cert",
                                     file("tls-cert.pem").string(),
                                     "--operators",
                                     "127.0.0.1:" + std::to_string(operators_port_),
                                     "--port-file",
                                     file("port").string(),
                                     "--operators-port-file",
                                     file("operators-port").string()};
  arguments.insert(arguments.end(), more_broker_arguments.begin(), more_broker_arguments.end());
  broker_.emplace(std::move(arguments), file("broker.log"), programs_.broker_environment);
  const auto port = read_port(*broker_, file("port"));
  const auto operators_port = port ? read_port(*broker_, file("operators-port")) : std::nullopt;
  if (!operators_port) return false;
  port_ = std::stoi(*port);
  operators_port_ = std::stoi(*operators_port);
  return true;
}

void BrokerProcess::start_tap() {
  net::FrameServerOptions options;
  options.socket = file("tap.socket");
  options.limits.max_frame_bytes = 80u << 20;
  tap_ = value_of(
      net::FrameServer::start(options, [this](net::FrameChannel& broker, const net::PeerCredentials&) {
        net::FrameLimits limits;
        limits.max_frame_bytes = 80u << 20;
        auto keyguard = net::FrameClient::connect(file("keyguard.socket"), limits);
        while (keyguard.has_value()) {
          const auto request = broker.receive();
          if (!request.has_value() || !request->has_value()) return;
          const auto answer = keyguard->call(**request, std::chrono::seconds{30});
          if (!answer.has_value()) return;
          programs_.on_answer(*answer);
          if (!broker.send(*answer).has_value()) return;
        }
      }));
}

void BrokerProcess::kill(Process& process) {
  process.send(SIGKILL);
  EXPECT_EQ(process.wait(), 128 + SIGKILL) << process.output();
}

std::pair<int, std::string> BrokerProcess::run_keyguard(std::vector<std::string> arguments) {
  return run(programs_.keyguard, std::move(arguments));
}

std::pair<int, std::string> BrokerProcess::run(const std::string& program,
                                               std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program);
  Process once{std::move(arguments), file("run" + std::to_string(runs_++) + ".log")};
  const int code = once.wait();
  return {code, once.output()};
}

std::pair<unsigned, std::string> BrokerProcess::operators(const std::string& page) const {
  auto client = net::HttpClient::connect("http://127.0.0.1:" + std::to_string(operators_port_), {});
  if (!client.has_value()) return {0, describe(client.error())};
  const auto response = client->get(page);
  if (!response.has_value()) return {0, describe(response.error())};
  return {response->status, std::string{as_text(response->body)}};
}

void BrokerProcess::expect_ready() const {
  EXPECT_TRUE(poll_until([&] { return ready().first == 200; })) << ready().second;
}

void BrokerProcess::expect_not_ready(std::string_view why) const {
  EXPECT_TRUE(poll_until([&] {
    const auto [status, text] = ready();
    return status == 503 && text.find(why) != text.npos;
  })) << "not told: "
      << why << "\n"
      << ready().second;
}

Result<ApiPeer> BrokerProcess::peer(const std::string& person) const {
  SP_TRY(ApiPeer out, ApiPeer::connect(*this));
  SP_CHECK(out.sign_in(SampleCompany::id(person), company.company.token(person)));
  return out;
}

void BrokerProcess::replay() {
  ApiPeer reader = value_of(peer("olga"));
  for (;;) {
    const record::EntryPage page = value_of(reader.entries(LeafIndex{company.entries.size()}));
    if (page.entries.empty()) break;
    for (const record::Entry& entry : page.entries) value_of(company.append(entry));
  }
  company.now = wall_clock();
}

Result<ApiPeer> ApiPeer::connect(const BrokerProcess& world) {
  net::HttpClientOptions options;
  options.pins = {world.tls_key().id()};
  options.max_body_bytes = record::kMaxBatchBytes;
  SP_TRY(auto client, net::HttpClient::connect(world.url(), options));
  return ApiPeer{std::move(client), world.company.origin()};
}

Result<Bytes> ApiPeer::get(const std::string& target) {
  SP_TRY(auto response, client_.get(target));
  if (response.status != 200) return error_of(response);
  return std::move(response.body);
}

Result<Bytes> ApiPeer::post(const std::string& target, ByteView body) {
  SP_TRY(auto response, client_.post(target, "application/octet-stream", body));
  if (response.status != 200) return error_of(response);
  return std::move(response.body);
}

Result<api::Hello> ApiPeer::hello() {
  SP_TRY(const Bytes answer, get("/v1/hello"));
  return api::parse_hello(answer);
}

Bytes ApiPeer::ticket(const std::string& person, const crypto::PrivateKey& token, const Nonce& nonce,
                      std::chrono::seconds clock_ahead) const {
  record::Ticket ticket;
  ticket.authority = origin_.get();
  ticket.exporter = exporter();
  ticket.nonce = nonce;
  ticket.person = person;
  ticket.time = UnixMillis{BrokerProcess::wall_clock().get() +
                           static_cast<std::uint64_t>(std::chrono::milliseconds{clock_ahead}.count())};
  return record::encode_envelope(value_of(
      record::sign_statement(std::string{record::kTicketType}, record::encode(ticket), token.public_key(),
                             [&](const Digest256& digest) { return token.sign_p256(digest); })));
}

Status ApiPeer::sign_in(const std::string& person, const crypto::PrivateKey& token) {
  SP_TRY(const api::Hello challenge, hello());
  SP_CHECK(post("/v1/signin", ticket(person, token, challenge.nonce)));
  return Done{};
}

api::Attest ApiPeer::machine_proof(SoftTpm& tpm, const api::Hello& challenge) const {
  const auto note = value_of(ledger::parse_note(challenge.head));
  const evidence::Binding binding{.purpose = evidence::Purpose::kConnect,
                                  .origin = origin_,
                                  .case_id = {},
                                  .request = exporter(),
                                  .nonce = challenge.nonce,
                                  .note = ledger::note_digest(note.text)};
  const evidence::SignedAttest quote = tpm.quote(evidence::binding_digest(binding));
  record::QuoteEvidence container{.attest = quote.attest, .signature = quote.signature, .pcrs = {}};
  for (const Digest256& value : tpm.pcr_values(evidence::PcrSelection::standard()))
    container.pcrs.push_back(value.get());
  return {tpm.device(), challenge.nonce, record::encode(container)};
}

Status ApiPeer::attest(SoftTpm& tpm) {
  SP_TRY(const api::Hello challenge, hello());
  SP_CHECK(post("/v1/attest", api::encode(machine_proof(tpm, challenge))));
  return Done{};
}

Result<std::string> ApiPeer::head() {
  SP_TRY(const Bytes answer, get("/v1/hello"));
  SP_TRY(api::Hello hello, api::parse_hello(answer));
  return std::move(hello.head);
}

Result<api::Submitted> ApiPeer::submit(const record::Submission& submission) {
  SP_TRY(const Bytes answer, post("/v1/statements", record::encode(submission)));
  return api::parse_submitted(answer);
}

Result<std::vector<api::Submitted>> ApiPeer::submit_list(const Bytes& list) {
  SP_TRY(const Bytes answer, post("/v1/lists", record::encode(record::Submission{list, {}})));
  return api::parse_submitted_list(answer);
}

Result<api::Activated> ApiPeer::activate(const CaseId& case_id, const std::vector<record::Blob>& evidence) {
  Writer blobs;
  record::write_blobs(evidence, blobs);
  SP_TRY(const Bytes answer, post("/v1/cases/" + to_hex(case_id) + "/activate", blobs.bytes()));
  return api::parse_activated(answer);
}

Result<api::Leased> ApiPeer::lease(const CaseId& case_id, const api::LeaseAsk& ask) {
  SP_TRY(const Bytes answer, post("/v1/cases/" + to_hex(case_id) + "/lease", api::encode(ask)));
  return api::parse_leased(answer);
}

Result<record::EntryPage> ApiPeer::entries(LeafIndex from) {
  SP_TRY(const Bytes answer, get("/v1/entries?from=" + std::to_string(from.get())));
  return record::parse_entry_page(answer);
}

Result<std::vector<std::string>> ApiPeer::checkpoints(TreeSize from) {
  SP_TRY(const Bytes answer, get("/v1/checkpoints?from=" + std::to_string(from.get())));
  return api::parse_notes(answer);
}

}  // namespace sallyport::test

// One SSH certificate from a CA key in an HSM (SoftHSM). What it is held against is what one would use
// instead: `ssh-keygen -s … -D module`, one process a certificate.

#include <spawn.h>
#include <sys/wait.h>

#include <fstream>

#include "attestation/base/base64.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/ssh_key.h"
#include "broker/credentials/ssh_certificate.h"
#include "hsm-config/pkcs11/region_keys.h"
#include "tests/bench/floor.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"
#include "tests/support/softhsm.h"

namespace sallyport::bench {
namespace {

using test::RecordScenario;
using test::value_of;

int run(const std::vector<std::string>& arguments, const std::vector<std::string>& environment) {
  std::vector<char*> argv, envp;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  for (const auto& variable : environment) envp.push_back(const_cast<char*>(variable.c_str()));
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 2, "/dev/null", 1 /* O_WRONLY */, 0);
  pid_t pid = -1;
  SP_ASSERT(posix_spawn(&pid, argv[0], &files, nullptr, argv.data(), envp.data()) == 0);
  posix_spawn_file_actions_destroy(&files);
  int status = 0;
  SP_ASSERT(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string ssh_line(const crypto::PublicKey& key) {
  return "ecdsa-sha2-nistp256 " + to_base64(value_of(crypto::ssh_key_blob(key))) + "\n";
}

// World is a company whose SSH CA key is in the HSM, and one granted case.
struct World {
  test::TemporarySoftHsm hsm{"us-1"};
  pkcs11::Token token = hsm.open("us-1");
  pkcs11::RegionKeys keys = value_of(pkcs11::make_region_keys(token));
  RecordScenario scenario{
      [this](test::SampleCompany& company) { company.policy.ssh_ca = keys.ssh_ca.public_key(); }};
  RecordScenario::OpenCase open = scenario.granted();
  record::Dossier dossier = scenario.dossier(open);
  Bytes travel = record::encode_dossier(record::to_travel(dossier));
  record::VerifiedGrant grant = value_of(record::verify_dossier(dossier, scenario.follower, scenario.now));

  Bytes certificate() const {
    const Bytes template_bytes = credentials::ssh_to_be_signed(grant, keys.ssh_ca.public_key(), travel);
    return credentials::ssh_certificate(
        template_bytes, value_of(token.sign_p256(keys.ssh_ca, crypto::sha256(template_bytes))));
  }
};

World& world() {
  static World the_world;
  return the_world;
}

void against_ssh_keygen(benchmark::State& state, const std::function<void()>& ours) {
  const test::TemporaryDirectory directory;
  const std::string ca = directory / "ca.pub", key = directory / "key.pub", ask = directory / "ask";
  std::ofstream{ca} << ssh_line(world().keys.ssh_ca.public_key());
  std::ofstream{key} << ssh_line(world().grant.session_key);
  std::ofstream{ask} << "#!/bin/sh\necho " << test::TemporarySoftHsm::kPin << "\n";
  std::filesystem::permissions(ask, std::filesystem::perms::owner_all);
  const std::vector<std::string> arguments = {"/usr/bin/ssh-keygen",
                                              "-q",
                                              "-s",
                                              ca,
                                              "-D",
                                              test::TemporarySoftHsm::module_path(),
                                              "-I",
                                              "case",
                                              "-n",
                                              "sallyport:case",
                                              "-V",
                                              "+15m",
                                              key};
  const std::vector<std::string> environment = {"SOFTHSM2_CONF=" + world().hsm.conf().string(),
                                                "SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force",
                                                "DISPLAY=:0", "PATH=/usr/bin:/bin"};
  by_turns(state, ours, [&] { SP_ASSERT(run(arguments, environment) == 0); });
  SP_ASSERT(std::filesystem::exists(directory / "key-cert.pub"));
  state.counters["certificate_bytes"] = static_cast<double>(world().certificate().size());
}

void sign_a_certificate(benchmark::State& state) {
  against_ssh_keygen(state, [] { benchmark::DoNotOptimize(world().certificate()); });
}
BENCHMARK(sign_a_certificate)->UseManualTime();

// As the keyguard does it: the dossier first.
void verify_the_dossier_and_sign(benchmark::State& state) {
  const Bytes bytes = record::encode_dossier(world().dossier);
  against_ssh_keygen(state, [&] {
    const auto dossier = value_of(record::parse_dossier(bytes));
    value_of(record::verify_dossier(dossier, world().scenario.follower, world().scenario.now));
    benchmark::DoNotOptimize(world().certificate());
  });
}
BENCHMARK(verify_the_dossier_and_sign)->UseManualTime();

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();

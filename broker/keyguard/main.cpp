#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/net/frames.h"
#include "attestation/program/clock.h"
#include "attestation/program/command_line.h"
#include "attestation/program/files.h"
#include "attestation/program/process.h"
#include "attestation/record/state.h"
#include "broker/keyguard/guard.h"
#include "broker/keyguard/protocol.h"
#include "hsm-config/pkcs11/pin.h"
#include "hsm-config/pkcs11/probe.h"

namespace {

using namespace sallyport;
using program::Flags;
using program::read_whole;
using program::wall_clock;
namespace po = boost::program_options;

constexpr const char* kUsage =
    "sallyport-keyguard: stands in front of the HSM of one region and uses its keys only for what it has "
    "verified\n"
    "\n"
    "  sallyport-keyguard init  --state DIR --policy FILE --roots FILE\n"
    "      once, on purpose: begin to guard the log whose first policy is FILE; prints the digest that trust "
    "files pin\n"
    "  sallyport-keyguard serve --state DIR --socket PATH --module PATH --token LABEL [--pin-fd N | "
    "--pin-file FILE]\n"
    "      check the HSM by trying what it must refuse, then answer the broker on PATH\n"
    "\n";

Status init(const Flags& flags) {
  SP_TRY(const Bytes policy, read_whole(flags["policy"].as<std::string>()));
  SP_TRY(const Bytes roots, read_whole(flags["roots"].as<std::string>()));
  SP_TRY(const policy::Policy parsed, policy::parse_policy(as_text(policy)));
  if (parsed.version != 1)
    return Error{Code::kDenied, Reason::kPolicyNotSuccessor, "a log begins with version 1 of its policy"};
  SP_TRY(const record::LoadedPolicy loaded,
         record::load_policy(policy, roots, parsed.authority.origin, LeafIndex{0}));
  SP_CHECK(keyguard::Guard::init(flags["state"].as<std::string>(),
                                 {parsed.authority.origin, loaded.policy.digest}));
  std::cout << "sha256:" << to_hex(loaded.policy.digest) << "\n";
  return Done{};
}

Status serve(const Flags& flags) {
  program::EndingSignals ending;  // before the token's threads start

  pkcs11::PinSource source;
  if (flags.contains("pin-fd")) source.fd = flags["pin-fd"].as<int>();
  if (flags.contains("pin-file")) source.file = flags["pin-file"].as<std::string>();
  const std::string label = flags["token"].as<std::string>();
  SP_TRY(SecretBytes pin, pkcs11::read_pin(source, "PIN for " + label + ": "));
  pkcs11::TokenSelector selector{{flags["module"].as<std::string>(), ""}, label, ""};
  pkcs11::TokenOptions options;
  options.max_sessions = 4;
  SP_TRY(pkcs11::Token token, pkcs11::Token::open(selector, std::move(pin), options));
  SP_TRY(const pkcs11::ProbeReport probed, pkcs11::probe_token(token));
  spdlog::info("the HSM refused {} of {} things it must refuse", probed.refused.size(),
               probed.refused.size() + probed.succeeded.size());
  SP_TRY(const auto guard, keyguard::Guard::open(flags["state"].as<std::string>(), token, wall_clock));

  net::FrameServerOptions server_options;
  server_options.socket = flags["socket"].as<std::string>();
  server_options.limits.max_frame_bytes = keyguard::kMaxFrameBytes;
  SP_TRY(auto server, net::FrameServer::start_calls(
                          server_options, [&](ByteView frame, const net::PeerCredentials&) -> Result<Bytes> {
                            return guard->answer(frame);
                          }));
  spdlog::info("guarding {} on {}", guard->anchor().origin.get(), server_options.socket.string());
  ending.wait();
  server.stop();
  return Done{};
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("keyguard"));
  if (!program::harden().locked_memory) spdlog::warn("memory for secrets could not be locked");
  program::ignore_broken_pipes();
  po::options_description flags{"flags"};
  flags.add_options()("help,h", "this text")("command", po::value<std::string>(), "init or serve")(
      "state", po::value<std::string>(), "directory of the guard's own state")(
      "policy", po::value<std::string>(), "init: version 1 of the policy (TOML)")(
      "roots", po::value<std::string>(), "init: certificates of the TPM vendors (PEM)")(
      "socket", po::value<std::string>(), "serve: Unix socket for the broker")(
      "module", po::value<std::string>(), "serve: PKCS #11 module, by path")(
      "token", po::value<std::string>(), "serve: label of the region's token")(
      "pin-fd", po::value<int>(), "read the PIN from this file descriptor")(
      "pin-file", po::value<std::string>(),
      "read the PIN from this file (mode 0600), such as a systemd credential");
  return program::run_program(argc, argv,
                              {"sallyport-keyguard",
                               kUsage,
                               std::move(flags),
                               {{"init", {"state", "policy", "roots"}, init},
                                {"serve", {"state", "socket", "module", "token"}, serve}}});
}

#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include <boost/program_options.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>

#include <openssl/crypto.h>

#include "attestation/base/hex.h"
#include "attestation/net/frames.h"
#include "attestation/record/state.h"
#include "broker/keyguard/guard.h"
#include "broker/keyguard/protocol.h"
#include "hsm-config/pkcs11/pin.h"
#include "hsm-config/pkcs11/probe.h"

namespace {

using namespace sallyport;
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

int fail(const Error& error) {
  std::cerr << "sallyport-keyguard: [" << reason_name(error.reason) << "] " << error.what << "\n  "
            << reason_sentence(error.reason) << "\n";
  return exit_code_of(error);
}

Result<Bytes> read_whole(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  if (!in) return Error{Code::kMalformed, Reason::kUsage, "cannot open " + path};
  return Bytes{std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
}

UnixMillis wall_clock() {
  return UnixMillis{static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                                   std::chrono::system_clock::now().time_since_epoch())
                                                   .count())};
}

// Before any secret is read: no core file, no debugger of the same user, locked memory for secrets.
void harden() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0);
  if (CRYPTO_secure_malloc_init(1 << 16, 32) != 1) spdlog::warn("memory for secrets could not be locked");
  signal(SIGPIPE, SIG_IGN);
}

Status init(const po::variables_map& flags) {
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

Status serve(const po::variables_map& flags) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before the token's threads start

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
  sd_notify(0, "READY=1");
  int received = 0;
  sigwait(&signals, &received);
  sd_notify(0, "STOPPING=1");
  server.stop();
  return Done{};
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("keyguard"));
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
  po::positional_options_description positional;
  positional.add("command", 1);
  try {
    po::variables_map values;
    po::store(po::command_line_parser(argc, argv).options(flags).positional(positional).run(), values);
    const std::string command = values.contains("command") ? values["command"].as<std::string>() : "";
    if (values.contains("help") || command.empty()) {
      (values.contains("help") ? std::cout : std::cerr) << kUsage << flags;
      return values.contains("help") ? 0 : 2;
    }
    const auto need = [&](std::initializer_list<const char*> names) -> Status {
      for (const char* name : names)
        if (!values.contains(name))
          return Error{Code::kMalformed, Reason::kUsage, command + " needs --" + name};
      return Done{};
    };
    harden();
    Status done = Error{Code::kMalformed, Reason::kUsage, "no such command: " + command};
    if (command == "init") {
      done = need({"state", "policy", "roots"});
      if (done.has_value()) done = init(values);
    } else if (command == "serve") {
      done = need({"state", "socket", "module", "token"});
      if (done.has_value()) done = serve(values);
    }
    return done.has_value() ? 0 : fail(done.error());
  } catch (const po::error& error) {
    return fail({Code::kMalformed, Reason::kUsage, error.what()});
  } catch (const std::exception& error) {
    return fail({Code::kInternal, error.what()});
  }
}

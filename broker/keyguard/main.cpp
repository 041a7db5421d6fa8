#include <grp.h>
#include <pwd.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/net/frames.h"
#include "attestation/program/clock.h"
#include "attestation/program/command_line.h"
#include "attestation/program/files.h"
#include "attestation/program/process.h"
#include "attestation/record/snapshot.h"
#include "broker/keyguard/guard.h"
#include "broker/keyguard/protocol.h"
#include "broker/keyguard/refusal_log.h"
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
    "  sallyport-keyguard init  --state DIR --policy FILE --roots FILE [--references FILE] [--from "
    "OLD-STATE-DIR]\n"
    "      once, on purpose: begin to guard the log whose first policy is FILE; prints the digest that trust "
    "files pin.\n"
    "      A log that goes on from another one needs the state of its guard: --from\n"
    "  sallyport-keyguard state --state DIR > FILE\n"
    "      what this guard knows of its log, for another log to go on from; tells what its first policy says "
    "of it\n"
    "  sallyport-keyguard serve --state DIR --socket PATH --module PATH --token LABEL [--pin-fd N | "
    "--pin-file FILE]\n"
    "                           [--socket-group GROUP --broker-uid USER]\n"
    "      check the HSM by trying what it must refuse, then answer the broker on PATH; a broker that runs "
    "as "
    "another\n"
    "      user is named\n"
    "\n";

Status init(const Flags& flags) {
  SP_CHECK(program::harden());
  record::PolicyDocument policy;
  SP_TRY(policy.text, read_whole(flags["policy"].as<std::string>()));
  SP_TRY(policy.tpm_roots, read_whole(flags["roots"].as<std::string>()));
  if (flags.contains("references")) {
    SP_TRY(policy.references, read_whole(flags["references"].as<std::string>()));
  }
  SP_TRY(const policy::Policy parsed, policy::parse_policy(as_text(policy.text)));
  const auto& continues = parsed.authority.continues;
  if (parsed.version != 1 && !continues)
    return Error{Code::kDenied, Reason::kPolicyNotSuccessor,
                 "a log begins with version 1 of its policy, or with one that continues another log"};
  if (continues) {
    if (!flags.contains("from"))
      return Error{Code::kMalformed, Reason::kUsage,
                   "the policy continues " + continues->origin.get() +
                       ": --from names the state directory of its guard, which must be at that very state"};
    SP_TRY(const auto before, keyguard::Guard::known(flags["from"].as<std::string>()));
    if (crypto::sha256(record::encode_control(*before)) != continues->state)
      return Error{Code::kUnverified, Reason::kLogRollback,
                   "the policy continues another state than this guard has signed last: " +
                       std::to_string(before->size().get()) + " leaves of " + before->origin().get(),
                   Next::kCallOperator, 0};
  }
  SP_TRY(const record::LoadedPolicy loaded,
         record::load_policy(std::move(policy), parsed.authority.origin, LeafIndex{0}));
  SP_CHECK(program::make_state_directory(flags["state"].as<std::string>()));
  SP_CHECK(keyguard::Guard::init(flags["state"].as<std::string>(),
                                 {parsed.authority.origin, loaded.policy.digest}));
  std::cout << "sha256:" << to_hex(loaded.policy.digest) << "\n";
  return Done{};
}

Status state(const Flags& flags) {
  SP_CHECK(program::harden());
  SP_CHECK(program::open_state_directory(flags["state"].as<std::string>()));
  SP_TRY(const auto known, keyguard::Guard::known(flags["state"].as<std::string>()));
  if (!known->policy())
    return Error{Code::kUnavailable, Reason::kLogOrder, "this guard has followed nothing yet"};
  const Bytes bytes = record::encode_control(*known);
  if (::isatty(STDOUT_FILENO) == 1)
    return Error{Code::kMalformed, Reason::kUsage, "it is bytes: write it to a file, with > FILE"};
  std::cout << as_text(bytes) << std::flush;
  if (!std::cout) return Error{Code::kUnavailable, Reason::kStorage, "cannot write the state"};
  std::cerr << "continues = { origin = \"" << known->origin().get() << "\", size = " << known->size().get()
            << ", root = \"sha256:" << to_hex(known->root())
            << "\", state = \"sha256:" << to_hex(crypto::sha256(bytes)) << "\" }\n";
  return Done{};
}

// find_id gives the number of a user or group: `named` looks a name up.
template <class Named>
Result<std::uint32_t> find_id(const std::string& text, const char* kind, Named named) {
  if (const auto* entry = named(text.c_str())) {
    if constexpr (requires { entry->pw_uid; })
      return entry->pw_uid;
    else
      return entry->gr_gid;
  }
  std::uint32_t id = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (failed != std::errc{} || end != text.data() + text.size() || text.empty() || id == ~0U)
    return Error{Code::kMalformed, Reason::kUsage, std::string{"no such "} + kind + ": " + text};
  return id;
}

// socket_options says who reaches the HSM's keys: by default our own user alone. A broker of another user
// needs its group on the socket, and its user named.
Result<net::FrameServerOptions> socket_options(const Flags& flags) {
  net::FrameServerOptions options;
  options.socket = flags["socket"].as<std::string>();
  options.limits.max_frame_bytes = keyguard::kMaxFrameBytes;
  if (flags.contains("socket-group")) {
    SP_TRY(options.socket_group, find_id(flags["socket-group"].as<std::string>(), "group", ::getgrnam));
    options.socket_mode = 0660;
    if (!flags.contains("broker-uid"))
      return Error{Code::kMalformed, Reason::kUsage,
                   "--socket-group needs --broker-uid: without it nobody but our own user is answered"};
  }
  std::vector<uid_t> brokers{::geteuid()};
  if (flags.contains("broker-uid")) {
    brokers.clear();
    for (const std::string& text : flags["broker-uid"].as<std::vector<std::string>>()) {
      SP_TRY(const uid_t uid, find_id(text, "user", ::getpwnam));
      brokers.push_back(uid);
    }
  }
  options.admits = [brokers,
                    refusals = std::make_shared<keyguard::RefusalLog>()](const net::PeerCredentials& peer) {
    const bool admitted = std::find(brokers.begin(), brokers.end(), peer.uid) != brokers.end();
    if (!admitted)
      refusals->tell("refused: user " + std::to_string(peer.uid) + " is no broker of ours (--broker-uid)",
                     wall_clock());
    return admitted;
  };
  return options;
}

Status serve(const Flags& flags) {
  SP_CHECK(program::harden());
  SP_CHECK(program::open_state_directory(flags["state"].as<std::string>()));
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

  SP_TRY(const net::FrameServerOptions server_options, socket_options(flags));
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
  program::ignore_broken_pipes();
  po::options_description flags{"flags"};
  flags.add_options()("help,h", "this text")("command", po::value<std::string>(), "init, state or serve")(
      "state", po::value<std::string>(), "directory of the guard's own state")(
      "policy", po::value<std::string>(), "init: the first policy of the log (TOML)")(
      "from", po::value<std::string>(),
      "init: state directory of the guard of the log that this one goes on from")(
      "roots", po::value<std::string>(), "init: certificates of the TPM vendors (PEM)")(
      "references", po::value<std::string>(), "init: reference values, where the policy names some (TOML)")(
      "socket", po::value<std::string>(), "serve: Unix socket for the broker")(
      "socket-group", po::value<std::string>(),
      "serve: group (name or number) that may open the socket; without it our own user alone")(
      "broker-uid", po::value<std::vector<std::string>>()->composing(),
      "serve: user (name or number) that the broker runs as, our own unless given; others are cut off")(
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
                                {"state", {"state"}, state},
                                {"serve", {"state", "socket", "module", "token"}, serve}}});
}

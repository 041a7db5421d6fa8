#include <poll.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/program_options.hpp>
#include <iostream>
#include <set>

#include "attestation/crypto/private_key.h"
#include "attestation/program/clock.h"
#include "attestation/program/command_line.h"
#include "attestation/program/files.h"
#include "attestation/program/process.h"
#include "attestation/record/host_key.h"
#include "client/target/accounts.h"
#include "client/target/check.h"
#include "client/target/following.h"
#include "client/target/keeper.h"
#include "client/target/service.h"
#include "client/target/thin_client.h"

namespace {

using namespace sallyport;
namespace po = boost::program_options;

constexpr const char* kUsage =
    "sallyport-gate: the last door in front of a host's accounts\n"
    "\n"
    "  sallyport-gate init  --config FILE [--from-start]\n"
    "      once, on purpose: begin to follow the log that the trust file names, from a snapshot of it or "
    "from "
    "its first leaf\n"
    "  sallyport-gate serve --config FILE\n"
    "      root's service: follow the log, answer sshd, own every session\n"
    "  sallyport-gate principals USER CERTIFICATE\n"
    "      sshd's AuthorizedPrincipalsCommand, with %u and %k\n"
    "  sallyport-gate session\n"
    "      the session of a granted login; also when this program is an account's login shell\n"
    "  sallyport-gate check --sshd-config FILE [--config FILE] [--sshd /usr/sbin/sshd]\n"
    "      sshd's effective configuration for every account behind the gate, its PAM service, the accounts' "
    "login\n"
    "      shells and this program's file, against what the gate needs\n"
    "\n";

std::string own_program() {
  return std::filesystem::read_symlink("/proc/self/exe").string();
}

int fail(const Error& error) {
  return program::tell_error("sallyport-gate", error);
}

Result<Bytes> read_whole(const std::filesystem::path& path) {
  return program::read_whole(path, "cannot read " + path.string());
}

Result<client::Settings> settings_of(const gate::Config& config) {
  client::Settings settings;
  settings.directory = config.state;
  settings.url = config.url;
  settings.tcti = "none";
  SP_TRY(const Bytes trust, read_whole(config.trust));
  SP_TRY(settings.anchor, follow::parse_trust_file(as_text(trust)));
  return settings;
}

// keep_private makes the directory of the gate's state root's alone, and every file that is made from here
// on.
Status keep_private(const gate::Config& config) {
  ::umask(0077);
  std::error_code failed;
  std::filesystem::create_directories(config.state, failed);
  struct stat found {};
  if (failed || ::lstat(config.state.c_str(), &found) != 0 || !S_ISDIR(found.st_mode) ||
      found.st_uid != ::geteuid() || ::chmod(config.state.c_str(), 0700) != 0)
    return Error{Code::kUnavailable, Reason::kStorage,
                 config.state.string() + " is no directory of root's own"};
  return Done{};
}

Status init(const std::string& file, follow::Begin begin) {
  SP_TRY(const gate::Config config, gate::load_config(file));
  SP_TRY(const client::Settings settings, settings_of(config));
  SP_CHECK(keep_private(config));
  SP_CHECK(follow::Follower::create(settings.follow_file(), settings.anchor, begin));
  std::cout << "the gate of " << config.host << " follows " << settings.anchor.origin.get() << "\n";
  return Done{};
}

Result<gate::HostIdentity> load_identity(const gate::Config& config) {
  SP_TRY(const Bytes pem, read_whole(config.host_key));
  auto key = crypto::PrivateKey::parse_pem(pem);
  if (!key || key->public_key().algorithm() != crypto::KeyAlgorithm::kP256)
    return Error{Code::kMalformed, Reason::kUsage,
                 config.host_key.string() + " is no P-256 key in PEM; ssh-keygen -p -m PEM -N '' -f " +
                     config.host_key.string() + " turns an ECDSA host key into one, which sshd takes too"};
  const crypto::PublicKey public_key = key->public_key();
  return gate::HostIdentity{config.host, public_key, [secret = std::move(*key)](const Digest256& digest) {
                              return secret.sign_p256(digest);
                            }};
}

Status serve(const std::string& file) {
  SP_CHECK(program::harden());
  program::EndingSignals ending;  // before any thread starts

  SP_TRY(const gate::Config config, gate::load_config(file));
  SP_TRY(const client::Settings settings, settings_of(config));
  SP_TRY(const gate::HostIdentity identity, load_identity(config));
  SP_CHECK(keep_private(config));
  SP_TRY(const auto follower,
         follow::Follower::open(settings.follow_file(), settings.anchor));  // made by init, once
  const auto view = std::make_shared<gate::LogView>();
  SP_TRY(auto started, gate::Reports::start({config.state / "sessions.db", follower->anchor().origin.get(),
                                             config.host, identity.key, identity.sign, program::wall_clock},
                                            gate::make_recorder(settings, identity)));
  const std::shared_ptr<gate::Reports> reports{std::move(started)};
  const auto following = gate::Following::start(settings, identity, view);
  std::error_code ignored;
  if (std::filesystem::create_directories(config.socket.parent_path(), ignored))
    std::filesystem::permissions(config.socket.parent_path(), std::filesystem::perms{0755}, ignored);
  gate::Service::Options options;
  options.config = config;
  options.self = own_program();
  options.clock = program::wall_clock;
  SP_TRY(auto service, gate::Service::start(options, view, reports));
  SP_TRY(const std::string fingerprint, record::ssh_fingerprint(identity.key));
  spdlog::info("the gate of {} ({}) listens on {}", config.host, fingerprint, config.socket.string());
  ending.wait();
  spdlog::info("stopping");
  service.reset();  // ends every session; what is not reported yet is on disk
  for (int i = 0; i < 50 && reports->unreported() != 0; ++i) ::poll(nullptr, 0, 100);
  spdlog::default_logger()->flush();
  std::cout.flush();
  ::_exit(0);  // a call to the broker may be under way; everything that matters is on disk
}

// check looks at all that the accounts behind the gate rest on, and prints what is wrong.
Result<int> check(const po::variables_map& flags) {
  const std::string program = own_program(), sshd = flags["sshd"].as<std::string>();
  const std::filesystem::path file = flags["sshd-config"].as<std::string>();
  SP_TRY(const gate::Config config, gate::load_config(flags["config"].as<std::string>()));
  std::set<std::string> accounts{""};  // "": what holds where no Match block does
  for (const auto& [account, shell] : config.accounts) accounts.insert(account);
  for (const gate::Account& account : gate::find_accounts_behind(program)) accounts.insert(account.name);
  bool good = true;
  const auto tell = [&](const std::string& account, const std::string& line) {
    std::cout << (account.empty() ? "" : account + ": ") << line << "\n";
    good = false;
  };
  const auto group = gate::verify_program(program);
  if (!group) tell("", group.error().what);
  for (const std::string& line : gate::check_match_blocks(file)) tell("", line);
  for (const std::string& name : accounts) {
    SP_TRY(const auto options, gate::read_sshd_options(sshd, file, name));
    for (const std::string& line : gate::check_sshd_options(options, program)) tell(name, line);
    if (name.empty()) {
      if (const auto service = gate::find_pam_service(options))
        for (const std::string& line : gate::check_pam("/etc/pam.d", *service)) tell("", line);
      continue;
    }
    const auto account = gate::find_account(name);
    if (!account) {
      tell(name, "gate.toml names it, and the host has no such account");
    } else if (group) {
      if (const Status behind = gate::verify_account(*account, program, *group); !behind)
        tell(name, behind.error().what);
    }
  }
  if (good) std::cout << "sshd is as the gate needs it, for " << accounts.size() - 1 << " accounts\n";
  return good ? 0 : 3;
}

int run(int argc, char** argv) {
  po::options_description flags{"flags"};
  flags.add_options()("help,h", "this text")("command", po::value<std::string>(), "see above")(
      "config", po::value<std::string>()->default_value(gate::kDefaultConfig),
      "init, serve, check: gate.toml")("socket",
                                       po::value<std::string>()->default_value(gate::kDefaultSocket),
                                       "principals, session: a service that listens elsewhere, for tests")(
      "from-start", "init: follow the log from its first leaf, and judge every one")(
      "sshd-config", po::value<std::string>(), "check: the configuration file of sshd")(
      "sshd", po::value<std::string>()->default_value("/usr/sbin/sshd"), "check: sshd itself")(
      "rest", po::value<std::vector<std::string>>(), "principals: USER CERTIFICATE");
  po::positional_options_description positional;
  positional.add("command", 1).add("rest", -1);
  po::variables_map values;
  po::store(po::command_line_parser(argc, argv)
                .options(flags)
                .positional(positional)
                .style(po::command_line_style::unix_style & ~po::command_line_style::allow_guessing)
                .run(),
            values);
  const std::string command = values.contains("command") ? values["command"].as<std::string>() : "";
  const auto rest =
      values.contains("rest") ? values["rest"].as<std::vector<std::string>>() : std::vector<std::string>{};
  if (values.contains("help") || command.empty()) {
    (values.contains("help") ? std::cout : std::cerr) << kUsage << flags;
    return values.contains("help") ? 0 : 2;
  }
  const auto usage = [](std::string what) {
    return fail({Code::kMalformed, Reason::kUsage, std::move(what)});
  };
  if (command == "principals") {
    if (rest.size() != 2) return usage("principals needs a user and a certificate: %u %k");
    return gate::run_principals(values["socket"].as<std::string>(), rest[0], rest[1]);
  }
  if (!rest.empty()) return usage(command + " takes no " + rest[0]);
  if (command == "session") return gate::run_session(values["socket"].as<std::string>());
  // The program's group is for its clients; what root does here needs none.
  if (::setresgid(::getgid(), ::getgid(), ::getgid()) != 0)
    return fail({Code::kInternal, "the program's group cannot be given up"});
  Status done = Error{Code::kMalformed, Reason::kUsage, "no such command: " + command};
  if (command == "init")
    done = init(values["config"].as<std::string>(),
                values.contains("from-start") ? follow::Begin::kFromStart : follow::Begin::kFromSnapshot);
  if (command == "serve") done = serve(values["config"].as<std::string>());
  if (command == "check") {
    if (!values.contains("sshd-config")) return usage("check needs --sshd-config FILE");
    const auto checked = check(values);
    return checked ? *checked : fail(checked.error());
  }
  return done ? 0 : fail(done.error());
}

// is_session tells whether this is the login shell of an account, or the command of a certificate: whatever
// else a login shell is asked to do, it does not do.
enum class Shell { kNo, kSession, kRefuse };
Shell find_shell_use(int argc, char** argv) {
  if (argc >= 1 && argv[0][0] == '-') return argc == 1 ? Shell::kSession : Shell::kRefuse;
  if (argc >= 2 && std::string_view{argv[1]} == "-c")
    return argc == 3 && std::string_view{argv[2]} == "sallyport-gate session" ? Shell::kSession
                                                                              : Shell::kRefuse;
  if (argc == 2 && std::string_view{argv[1]} == "session") return Shell::kSession;
  return Shell::kNo;
}

}  // namespace

int main(int argc, char** argv) {
  gate::close_to_others();
  if (argc == 2 && std::string_view{argv[1]} == "keeper") return gate::run_keeper();
  spdlog::set_default_logger(spdlog::stderr_logger_mt("gate"));
  return program::guarded("sallyport-gate", [&] {
    switch (find_shell_use(argc, argv)) {
      case Shell::kSession:
        return gate::run_session(gate::kDefaultSocket);
      case Shell::kRefuse:
        std::cerr << "sallyport: this account opens to granted sessions only\n";
        return 1;
      case Shell::kNo:
        return run(argc, argv);
    }
    return 1;
  });
}

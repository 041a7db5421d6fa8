#include "client/terminal/command.h"

#include <algorithm>
#include <iostream>
#include <iterator>
#include <sstream>

#include "attestation/tpm/transport.h"
#include "client/terminal/render.h"
#include "hsm-config/pkcs11/region_keys.h"
#include "hsm-config/pkcs11/token.h"

namespace sallyport::client {
namespace {

namespace po = boost::program_options;

constexpr std::chrono::seconds kOutlive{15};  // for a broker or keyguard that starts anew

void common_flags(po::options_description& flags, bool asks_for_pin) {
  flags.add_options()("help,h", "what this command does, with an example")(
      "format,f", po::value<std::string>()->default_value("text"), "text or json, on stdout");
  if (!asks_for_pin) return;
  flags.add_options()("pin-fd", po::value<int>(), "read the token's PIN from this file descriptor")(
      "pin-file", po::value<std::string>(), "read the token's PIN from this file (mode 0600)");
}

std::vector<std::string> words_of(std::string_view name) {
  std::istringstream in{std::string{name}};
  return {std::istream_iterator<std::string>{in}, {}};
}

// begins tells whether the first words of a command line are these.
bool begins(const std::vector<std::string>& line, const std::vector<std::string>& words) {
  return words.size() <= line.size() && std::equal(words.begin(), words.end(), line.begin());
}

bool asks_for_help(const std::string& word) {
  return word == "--help" || word == "-h";
}

// wants_json looks for -f json in words that nobody has parsed yet, or that do not parse.
bool wants_json(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    if (words[i] == "-fjson" || words[i] == "--format=json") return true;
    const bool flag = words[i] == "-f" || words[i] == "--format";
    if (flag && i + 1 < words.size() && words[i + 1] == "json") return true;
  }
  return false;
}

void print_line(std::ostream& out, const Command& command) {
  std::string name{command.name};
  name.resize(std::max<std::size_t>(name.size() + 2, 20), ' ');
  out << "  " << name << command.summary << "\n";
}

void print_overview(std::ostream& out, const std::vector<std::vector<Command>>& rooms) {
  out << "sallyport: admin access that needs a proved machine, an allowed region and a quorum, and is "
         "recorded\n\n";
  for (const auto& room : rooms) {
    for (const Command& command : room)
      if (!command.internal) print_line(out, command);
    out << "\n";
  }
  out << "sallyport COMMAND --help tells more. Exit codes: 0 ok, 2 usage or a file, 3 refused by policy, 4 "
         "pending, 5 "
         "machine not attested,\n"
         "6 region refused, 7 denied or quorum not met, 8 proof or signature invalid, 9 broker, witness or "
         "HSM unavailable,\n"
         "10 token or TPM error, 1 internal.\n\n"
         "Settings are config.toml and trust.toml in $SALLYPORT_CONFIG (else ~/.config/sallyport), made by "
         "sallyport init.\n"
         "$SALLYPORT_URL, $SALLYPORT_TCTI, $SALLYPORT_TOKEN, $SALLYPORT_PERSON, $SALLYPORT_EVENT_LOG and "
         "$SALLYPORT_IMA_LIST\n"
         "override single values of config.toml.\n"
         "A PIN is asked for on the terminal, or read from --pin-file or --pin-fd.\n";
}

// print_group lists the commands whose names begin with a word; false when there are none.
bool print_group(std::ostream& out, const std::vector<std::vector<Command>>& rooms, const std::string& word) {
  std::vector<const Command*> of;
  for (const auto& room : rooms)
    for (const Command& command : room)
      if (!command.internal && words_of(command.name).front() == word) of.push_back(&command);
  if (of.empty()) return false;
  out << "usage: sallyport " << word << " …\n\n";
  for (const Command* command : of) print_line(out, *command);
  out << "\nsallyport " << word << " … --help tells more of each.\n";
  return true;
}

// not_found tells of words that name no command: what there is, if they begin one.
int not_found(const std::vector<std::string>& words, const std::vector<std::vector<Command>>& rooms) {
  const std::string& first = words[0];
  const bool help = words.size() > 1 && asks_for_help(words[1]);
  if (help && print_group(std::cout, rooms, first)) return 0;
  std::ostringstream group;
  const bool is_group = print_group(group, rooms, first);
  const bool json = wants_json(words);
  if (!is_group)
    return report_error(usage("no such command: " + printable(first) + "; sallyport --help lists them"),
                        json);
  if (!json) std::cerr << group.str() << "\n";
  const bool bare = words.size() == 1 || words[1].starts_with('-');
  return report_error(usage(bare ? "sallyport " + first + " what? sallyport " + first + " --help lists it"
                                 : "no such command: " + first + " " + printable(words[1]) + "; sallyport " +
                                       first + " --help lists them"),
                      json);
}

// run_one runs a command, and tells its errors.
int run_one(const Command& command, std::vector<std::string> words) {
  po::options_description flags{"flags"};
  common_flags(flags, !command.pin_for.empty());
  if (command.flags != nullptr) command.flags(flags);
  po::positional_options_description positional;
  for (const char* name : command.positional)
    positional.add(name, command.last_repeats && name == command.positional.back() ? -1 : 1);

  Arguments arguments;
  arguments.json = wants_json(words);
  arguments.pin_for = command.pin_for;
  if (const auto dashes = std::find(words.begin(), words.end(), "--"); dashes != words.end()) {
    arguments.rest.assign(dashes + 1, words.end());
    words.erase(dashes, words.end());
  }
  try {
    po::store(po::command_line_parser(words).options(flags).positional(positional).run(), arguments.values);
  } catch (const po::error& error) {
    return report_error(
        usage(printable(error.what()) + "; usage: sallyport " + std::string{command.synopsis}),
        arguments.json);
  }
  if (arguments.has("help")) {
    std::cout << "usage: sallyport " << command.synopsis << "\n\n"
              << command.summary << "\n\n"
              << command.help << "\n"
              << flags;
    return 0;
  }
  const std::string format = arguments.text("format");
  if (format != "text" && format != "json")
    return report_error(usage("-f takes text or json, not " + format), false);
  arguments.json = format == "json";
  try {
    const auto done = command.run(arguments);
    return done.has_value() ? *done : report_error(done.error(), arguments.json);
  } catch (const std::exception& error) {
    return report_error(Error{Code::kInternal, error.what()}, arguments.json);
  }
}

}  // namespace

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

void print_json(const record::json::Value& value) {
  std::cout << as_text(record::json::encode_canonical(value)) << std::endl;
}

int run_command_line(int argc, char** argv, const std::vector<std::vector<Command>>& rooms) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() > 1 && words[0] == "help") {  // help policy: policy --help
    words.erase(words.begin());
    words.push_back("--help");
  }
  if (words.empty() || asks_for_help(words[0]) || words[0] == "help") {
    print_overview(words.empty() ? std::cerr : std::cout, rooms);
    return words.empty() ? 2 : 0;
  }
  // The longest name wins: "policy check" before "policy".
  const Command* found = nullptr;
  std::size_t used = 0;
  for (const auto& room : rooms) {
    for (const Command& command : room) {
      const std::vector<std::string> name = words_of(command.name);
      if (name.size() <= used || !begins(words, name)) continue;
      found = &command;
      used = name.size();
    }
  }
  if (found == nullptr) return not_found(words, rooms);
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(used));
  return run_one(*found, std::move(words));
}

Result<Signer> open_signer(const Settings& settings, const policy::Policy* policy,
                           const Arguments& arguments) {
  if (settings.token.empty())
    return usage("no token is configured; set token = \"pkcs11:token=…?module-path=…\" in " +
                 (settings.directory / "config.toml").string() + ", or $SALLYPORT_TOKEN");
  if (settings.person.empty())
    return usage("no person is configured; set person in config.toml, or $SALLYPORT_PERSON");
  SP_TRY(const pkcs11::TokenSelector selector,
         pkcs11::parse_token_uri(settings.token, "/usr/lib/softhsm/libsofthsm2.so"));
  SP_TRY(const pkcs11::TokenInfo info, pkcs11::find_person_token(selector));
  pkcs11::PinSource source;
  if (arguments.has("pin-fd")) source.fd = arguments.values["pin-fd"].as<int>();
  if (arguments.has("pin-file")) source.file = arguments.text("pin-file");
  SP_TRY(SecretBytes pin, pkcs11::read_pin(source, "PIN for " + printable(info.label) + " (" +
                                                       std::string{arguments.pin_for} + "): "));
  SP_TRY(const pkcs11::Token token, pkcs11::open_person_token(selector, std::move(pin)));

  const policy::Person* person =
      policy == nullptr ? nullptr : policy::find_person(*policy, PersonId{settings.person});
  if (policy != nullptr && person == nullptr)
    return Error{Code::kDenied, Reason::kPolicyUnknownPerson, settings.person + " is not in the policy"};
  std::optional<pkcs11::KeyHandle> key;
  if (person == nullptr) {
    SP_TRY(key, token.find_key(pkcs11::kPersonSignLabel));
  } else {
    for (const policy::Token& listed : person->tokens)
      if (auto found = token.find_key(listed.sign); found.has_value()) key = std::move(*found);
    if (!key)
      return Error{
          Code::kDenied, Reason::kTokenKey,
          "the token \"" + info.label + "\" holds no key that the policy lists for " + settings.person};
  }
  return Signer{settings.person, key->public_key(),
                [token, handle = *key](const Digest256& digest) { return token.sign_p256(handle, digest); }};
}

Result<tpm::Tpm> open_tpm(const Settings& settings) {
  tpm::Patience patience;
  patience.waiting = [] { note("waiting", "for the TPM of this machine"); };
  return tpm::Tpm::open(settings.tcti, std::move(patience));
}

Result<std::unique_ptr<Opened>> open_session(const Arguments& arguments, MachineUse machine) {
  auto opened = std::make_unique<Opened>();
  SP_TRY(opened->settings, load_settings());
  SP_TRY(opened->session, Session::open(opened->settings));
  const bool wanted = machine == MachineUse::kRequired ||
                      (machine == MachineUse::kIfThere && opened->settings.tcti != "none");
  if (wanted) {
    SP_TRY(auto tpm, open_tpm(opened->settings));
    opened->tpm = std::make_unique<tpm::Tpm>(std::move(tpm));
  }
  const auto known = opened->session->control()->policy();
  SP_TRY(opened->signer, open_signer(opened->settings, known ? &known->policy : nullptr, arguments));
  if (opened->tpm) {
    const Status attested = opened->session->attest(*opened->tpm);
    // A TPM that is only busy is no machine without one: the person can end what holds it.
    if (!attested.has_value() &&
        (machine == MachineUse::kRequired || attested.error().reason == Reason::kTpmBusy))
      return attested.error();
    if (!attested.has_value()) opened->tpm.reset();
  }
  SP_CHECK(opened->session->sign_in(*opened->signer));
  SP_CHECK(opened->session->sync());
  if (const auto anchor = opened->session->follower().anchor();
      anchor.origin != opened->settings.anchor.origin) {
    note("log", "followed as " + anchor.origin.get() + ", which goes on from " +
                    opened->settings.anchor.origin.get());
    opened->settings.anchor = anchor;
  }
  opened->session->outlive(kOutlive);
  return opened;
}

}  // namespace sallyport::client

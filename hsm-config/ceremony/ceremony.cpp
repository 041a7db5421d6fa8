#include "hsm-config/ceremony/ceremony.h"

#include <openssl/ec.h>

#include <boost/json.hpp>
#include <boost/program_options.hpp>
#include <iomanip>
#include <ostream>
#include <sstream>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"
#include "attestation/crypto/random.h"
#include "attestation/ledger/vkey.h"
#include "hsm-config/ceremony/profile.h"
#include "hsm-config/pkcs11/pin.h"
#include "hsm-config/pkcs11/probe.h"
#include "hsm-config/pkcs11/region_keys.h"

namespace sallyport::ceremony {

namespace {

namespace po = boost::program_options;
namespace json = boost::json;
using pkcs11::KeyHandle;
using pkcs11::Token;

constexpr std::string_view kHelp = R"(sallyport-hsm prepares tokens for Sallyport, and checks them.

  sallyport-hsm init         make a region's five keys on its HSM
  sallyport-hsm check        try what the HSM must refuse; use each of the five keys once
  sallyport-hsm list         list tokens, or the keys of one token
  sallyport-hsm person-init  make a person's signing key on that person's token

A region's first day, with SoftHSM:
  sallyport-hsm init --profile hsm-config/profiles/softhsm2/profile.toml --token us-1 --create
  sallyport-hsm check --profile hsm-config/profiles/softhsm2/profile.toml --token us-1
init prints the lines that go into the policy. The private keys stay in the token and can neither be read nor
copied: plan for a second HSM, or for the HSM's own backup, before the first day.

The five keys: log signs checkpoints, ssh-ca and x509-ca sign credentials, lease signs permissions for single
uses of a TPM key, secrets opens the HSM's part of sealed secrets.

PINs come from --pin-file (mode 0600), from --pin-fd, or from the terminal; never from the command line or the
environment. `sallyport-hsm COMMAND --help` lists a command's options.

Exit codes: 0 ok, 1 internal, 2 usage, 8 a signature is wrong, 9 the HSM is unavailable or allows what it must
refuse, 10 token error (wrong PIN, locked, absent).
)";

struct Console {
  std::ostream& out;
  std::ostream& err;
  bool json = false;
};

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

// ---- options

po::options_description common_options() {
  po::options_description options{"The token"};
  options.add_options()  //
      ("module", po::value<std::string>()->value_name("PATH"),
       "the HSM's PKCS #11 module, by absolute path")  //
      ("profile", po::value<std::string>()->value_name("FILE"),
       "what its model can do, and where its module is (hsm-config/profiles)")  //
      ("token", po::value<std::string>()->value_name("LABEL|URI"),
       "the token, by label or as an RFC 7512 URI (pkcs11:token=…;serial=…)")  //
      ("serial", po::value<std::string>()->value_name("NUMBER"),
       "its serial number, where two have one label")                                                 //
      ("pin-file", po::value<std::string>()->value_name("FILE"), "a file of mode 0600 with the PIN")  //
      ("pin-fd", po::value<int>()->value_name("N"), "a file descriptor from which one line is read")  //
      ("format,f", po::value<std::string>()->default_value("text")->value_name("text|json"),
       "form of the result")  //
      ("help,h", "this text");
  return options;
}

po::options_description create_options() {
  po::options_description options{"Making the token"};
  options.add_options()                                   //
      ("create", "make the token on a blank slot first")  //
      ("so-pin-file", po::value<std::string>()->value_name("FILE"),
       "the security officer's PIN, for --create")  //
      ("so-pin-fd", po::value<int>()->value_name("N"), "likewise; may be the same descriptor, a line later");
  return options;
}

pkcs11::PinSource pin_source(const po::variables_map& given, const std::string& prefix) {
  pkcs11::PinSource source;
  if (given.count(prefix + "-fd") != 0) source.fd = given[prefix + "-fd"].as<int>();
  if (given.count(prefix + "-file") != 0) source.file = given[prefix + "-file"].as<std::string>();
  return source;
}

Result<Profile> profile_of(const po::variables_map& given) {
  if (given.count("profile") == 0) return Profile{};
  return load_profile(given["profile"].as<std::string>());
}

Result<pkcs11::ModuleSpec> module_of(const po::variables_map& given, const Profile& profile) {
  std::string path = given.count("module") != 0 ? given["module"].as<std::string>() : profile.module;
  if (path.empty()) return usage("say which module: --module PATH or --profile FILE");
  return pkcs11::ModuleSpec{.path = std::move(path), .arguments = {}};
}

Result<pkcs11::TokenSelector> selector_of(const po::variables_map& given, const Profile& profile) {
  if (given.count("token") == 0 && given.count("serial") == 0) return usage("say which token: --token LABEL");
  const std::string token = given.count("token") != 0 ? given["token"].as<std::string>() : std::string{};
  if (token.starts_with("pkcs11:")) {
    if (given.count("serial") != 0) return usage("the serial number belongs into the URI");
    const std::string fallback =
        given.count("module") != 0 ? given["module"].as<std::string>() : profile.module;
    return pkcs11::parse_token_uri(token, fallback);
  }
  SP_TRY(pkcs11::ModuleSpec module, module_of(given, profile));
  const std::string serial = given.count("serial") != 0 ? given["serial"].as<std::string>() : std::string{};
  return pkcs11::TokenSelector{.module = std::move(module), .label = token, .serial = serial};
}

std::string name_of(const pkcs11::TokenSelector& selector) {
  return selector.label.empty() ? selector.serial : selector.label;
}

// A PIN that is set now is asked for twice at a terminal.
Result<SecretBytes> read_new_pin(const pkcs11::PinSource& source, const std::string& whose) {
  SP_TRY(SecretBytes pin, pkcs11::read_pin(source, "New " + whose + ": "));
  if (source.fd || source.file) return pin;
  SP_TRY(const SecretBytes again, pkcs11::read_pin(source, "The same again: "));
  if (!equal_in_constant_time(pin.expose(), again.expose())) return usage("the two PINs differ");
  return pin;
}

// open_token opens the token; with --create it makes it first, and it must not be there yet.
Result<Token> open_token(const po::variables_map& given, const pkcs11::TokenSelector& selector,
                         Console& console) {
  if (given.count("create") == 0) {
    SP_CHECK(pkcs11::find_person_token(selector));  // before a PIN is asked for
    SP_TRY(SecretBytes pin,
           pkcs11::read_pin(pin_source(given, "pin"), "PIN for " + name_of(selector) + ": "));
    return Token::open(selector, std::move(pin));
  }
  if (selector.label.empty() || !selector.serial.empty())
    return usage("--create takes a label, and no serial number");
  SP_TRY(const pkcs11::Module module, pkcs11::Module::load(selector.module));
  if (module.find_token(selector)) {
    return Error{
        Code::kConflict, Reason::kConflict,
        "token \"" + selector.label + "\" exists already; nothing was changed. Leave out --create to use it"};
  }
  SP_TRY(const SecretBytes so_pin,
         read_new_pin(pin_source(given, "so-pin"), "security officer's PIN for " + selector.label));
  SP_TRY(SecretBytes pin, read_new_pin(pin_source(given, "pin"), "PIN for " + selector.label));
  SP_TRY(const pkcs11::TokenInfo made, module.init_token(selector.label, so_pin, pin));
  console.err << "made token \"" << made.label << "\", serial " << made.serial << '\n';
  return Token::open(selector, std::move(pin));
}

// ---- trying keys

// The other side of a key agreement, in software.
Result<SecretBytes> agree_in_software(EVP_PKEY* own, const crypto::PublicKey& peer) {
  const crypto::PkeyCtxPtr context{EVP_PKEY_CTX_new(own, nullptr)};
  SecretBytes secret{32};
  std::size_t size = secret.size();
  if (context == nullptr || EVP_PKEY_derive_init(context.get()) != 1 ||
      EVP_PKEY_derive_set_peer(context.get(), peer.pkey()) != 1 ||
      EVP_PKEY_derive(context.get(), secret.expose().data(), &size) != 1 || size != secret.size()) {
    return Error{Code::kInternal, "key agreement in software: " + crypto::drain_openssl_errors()};
  }
  return secret;
}

Status try_key(const Token& token, const KeyHandle& key) {
  if (key.may_derive()) {
    const crypto::PkeyPtr own{EVP_EC_gen("P-256")};
    SP_ASSERT(own != nullptr);
    Bytes point(65);
    std::size_t size = 0;
    SP_ASSERT(EVP_PKEY_get_octet_string_param(own.get(), "pub", point.data(), point.size(), &size) == 1);
    SP_TRY(const auto peer, crypto::PublicKey::from_p256_point(ByteView{point}.first(size)));
    SP_TRY(const SecretBytes theirs, token.ecdh(key, peer));
    SP_TRY(const SecretBytes ours, agree_in_software(own.get(), key.public_key()));
    if (equal_in_constant_time(ours.expose(), theirs.expose())) return Done{};
    return Error{Code::kUnverified,
                 "key \"" + key.label() + "\" agreed on another secret than its public key says"};
  }
  const auto message = crypto::random_array<32>();
  if (key.public_key().algorithm() == crypto::KeyAlgorithm::kEd25519) {
    SP_CHECK(token.sign_ed25519(key, message));  // which verifies
  } else {
    SP_CHECK(token.sign_p256(key, crypto::sha256(message)));
  }
  return Done{};
}

// ---- output

std::string_view use_of(const KeyHandle& key) {
  return key.may_derive() ? "derive" : "sign";
}

std::string algorithm_of(const KeyHandle& key) {
  return std::string{crypto::algorithm_name(key.public_key().algorithm())};
}

json::object to_json(const KeyHandle& key) {
  json::object out;
  out["label"] = key.label();
  out["algorithm"] = algorithm_of(key);
  out["use"] = std::string{use_of(key)};
  out["spki"] = to_base64(key.public_key().spki());
  out["raw"] = to_base64(key.public_key().raw());
  out["keyid"] = to_hex(key.public_key().id());
  return out;
}

json::object to_json(const pkcs11::TokenInfo& info) {
  json::object out;
  out["label"] = info.label;
  out["serial"] = info.serial;
  out["manufacturer"] = info.manufacturer;
  out["model"] = info.model;
  out["initialised"] = info.initialised;
  out["pin_locked"] = info.pin_locked;
  return out;
}

void print_key(std::ostream& out, const KeyHandle& key) {
  out << std::left << std::setw(20) << key.label() << std::setw(9) << algorithm_of(key) << std::setw(8)
      << use_of(key) << to_base64(key.public_key().spki()) << '\n';
}

void print_region(Console& console, const pkcs11::RegionKeys& keys, const std::string& vkey) {
  const bool edwards = keys.log.public_key().algorithm() == crypto::KeyAlgorithm::kEd25519;
  const auto spki = [](const KeyHandle& key) { return to_base64(key.public_key().spki()); };
  std::ostringstream policy;
  policy << "keys = { log = { alg = \"" << (edwards ? "ed25519" : "p256") << "\", key = \"" << spki(keys.log)
         << "\" }, ssh_ca = \"" << spki(keys.ssh_ca) << "\", x509_ca = \"" << spki(keys.x509_ca)
         << "\", lease = \"" << spki(keys.lease) << "\", secrets = \"" << spki(keys.secrets) << "\" }";
  if (console.json) {
    json::object all;
    all["log"] = to_json(keys.log);
    all["ssh_ca"] = to_json(keys.ssh_ca);
    all["x509_ca"] = to_json(keys.x509_ca);
    all["lease"] = to_json(keys.lease);
    all["secrets"] = to_json(keys.secrets);
    json::object out;
    out["keys"] = all;
    out["policy"] = policy.str();
    if (!vkey.empty()) out["vkey"] = vkey;
    console.out << json::serialize(out) << '\n';
    return;
  }
  for (const KeyHandle& key : keys.all()) print_key(console.out, key);
  console.out << "\nlog key, raw: " << to_base64(keys.log.public_key().raw()) << '\n';
  if (!vkey.empty()) console.out << "log key, vkey: " << vkey << '\n';
  console.out << "\nFor [authority] in the policy:\n" << policy.str() << '\n';
}

Result<std::string> vkey_of(const po::variables_map& given, const KeyHandle& log) {
  if (given.count("origin") == 0) return std::string{};
  const bool edwards = log.public_key().algorithm() == crypto::KeyAlgorithm::kEd25519;
  SP_TRY(const auto key,
         ledger::NoteKey::make(given["origin"].as<std::string>(),
                               edwards ? ledger::NoteKeyType::kEd25519 : ledger::NoteKeyType::kEcdsa,
                               log.public_key()));
  return ledger::format_vkey(key);
}

// ---- commands

Status init(const po::variables_map& given, Console& console) {
  SP_TRY(const Profile profile, profile_of(given));
  if (!profile.holds_all()) {
    return usage("an HSM of model \"" + profile.model +
                 "\" cannot hold all five keys of a region (see its profile); nothing was changed");
  }
  SP_TRY(const auto selector, selector_of(given, profile));
  SP_TRY(const Token token, open_token(given, selector, console));
  SP_TRY(const auto present, token.list_keys());
  for (const KeyHandle& key : present) {
    if (key.label().starts_with("sallyport-") && given.count("complete") == 0) {
      return Error{
          Code::kConflict, Reason::kConflict,
          "key \"" + key.label() +
              "\" is on the token already; nothing was changed. --complete makes those that are missing"};
    }
  }
  console.err << "probing: trying what the HSM must refuse\n";
  SP_CHECK(pkcs11::probe_token(token));
  SP_TRY(const auto keys, pkcs11::make_region_keys(token, profile.log, profile.ed25519_params));
  const auto all = keys.all();
  SP_TRY(const auto report, pkcs11::probe_token(token, all));
  for (const KeyHandle& key : all) SP_CHECK(try_key(token, key));
  console.err << "five keys are ready; " << report.refused.size() << " forbidden attempts were refused\n";
  SP_TRY(const std::string vkey, vkey_of(given, keys.log));
  print_region(console, keys, vkey);
  return Done{};
}

Status check(const po::variables_map& given, Console& console) {
  SP_TRY(const Profile profile, profile_of(given));
  SP_TRY(const auto selector, selector_of(given, profile));
  SP_TRY(const Token token, open_token(given, selector, console));
  SP_TRY(const auto keys, pkcs11::find_region_keys(token));
  const auto all = keys.all();
  SP_TRY(const auto report, pkcs11::probe_token(token, all));
  for (const KeyHandle& key : all) SP_CHECK(try_key(token, key));
  SP_TRY(const std::string vkey, vkey_of(given, keys.log));
  if (console.json) {
    const auto names = [](const std::vector<std::string>& list) {
      json::array out;
      for (const std::string& name : list) out.emplace_back(name);
      return out;
    };
    json::array key_list;
    for (const KeyHandle& key : all) key_list.push_back(to_json(key));
    json::object out;
    out["token"] = to_json(token.info());
    out["keys"] = key_list;
    out["refused"] = names(report.refused);
    out["untried"] = names(report.untried);
    if (!vkey.empty()) out["vkey"] = vkey;
    console.out << json::serialize(out) << '\n';
    return Done{};
  }
  console.out << "token    " << token.info().label << ", serial " << token.info().serial << ", "
              << token.info().manufacturer << ' ' << token.info().model << '\n';
  console.out << "refused  " << report.refused.size()
              << " attempts to read, wrap, copy, change or misuse keys\n";
  for (const std::string& name : report.untried) console.out << "untried  " << name << '\n';
  for (const KeyHandle& key : all) {
    console.out << "ok       " << key.label() << ": " << (key.may_derive() ? "agreed on a secret" : "signed")
                << ", checked in software\n";
  }
  if (!vkey.empty()) console.out << "vkey     " << vkey << '\n';
  return Done{};
}

Status list(const po::variables_map& given, Console& console) {
  SP_TRY(const Profile profile, profile_of(given));
  if (given.count("token") == 0 && given.count("serial") == 0) {
    SP_TRY(const auto spec, module_of(given, profile));
    SP_TRY(const auto module, pkcs11::Module::load(spec));
    SP_TRY(const auto tokens, module.list_tokens());
    if (console.json) {
      json::array out;
      for (const auto& info : tokens) out.push_back(to_json(info));
      console.out << json::serialize(out) << '\n';
      return Done{};
    }
    for (const auto& info : tokens) {
      if (!info.initialised) {
        console.out << "(blank)              " << info.manufacturer << ' ' << info.model << '\n';
        continue;
      }
      console.out << std::left << std::setw(20) << info.label << ' ' << "serial " << info.serial << "  "
                  << info.manufacturer << ' ' << info.model << (info.pin_locked ? "  LOCKED" : "")
                  << (info.pin_final_try ? "  one try left" : "") << '\n';
    }
    return Done{};
  }
  SP_TRY(const auto selector, selector_of(given, profile));
  SP_TRY(const Token token, open_token(given, selector, console));
  SP_TRY(const auto keys, token.list_keys());
  if (console.json) {
    json::array out;
    for (const KeyHandle& key : keys) out.push_back(to_json(key));
    console.out << json::serialize(out) << '\n';
    return Done{};
  }
  for (const KeyHandle& key : keys) print_key(console.out, key);
  if (keys.empty()) console.err << "no P-256 or Ed25519 key is on the token\n";
  return Done{};
}

Status person_init(const po::variables_map& given, Console& console) {
  SP_TRY(const Profile profile, profile_of(given));
  SP_TRY(const auto selector, selector_of(given, profile));
  SP_TRY(const Token token, open_token(given, selector, console));
  SP_TRY(const KeyHandle sign, token.generate_key(pkcs11::kPersonSignLabel, {}, pkcs11::KeySpec::kP256Sign));
  SP_CHECK(try_key(token, sign));
  std::optional<KeyHandle> agree;
  if (given.count("agree") != 0) {
    SP_TRY(const KeyHandle made,
           token.generate_key(pkcs11::kPersonAgreeLabel, {}, pkcs11::KeySpec::kP256Derive));
    SP_CHECK(try_key(token, made));
    agree = made;
  }
  std::string policy = "{ id = \"" + token.info().label + "\", kind = \"p256\", sign = \"" +
                       to_base64(sign.public_key().spki()) + "\"";
  if (agree) policy += ", agree = \"" + to_base64(agree->public_key().spki()) + "\"";
  policy += " }";
  if (console.json) {
    json::object out;
    out["token"] = to_json(token.info());
    out["sign"] = to_json(sign);
    if (agree) out["agree"] = to_json(*agree);
    out["policy"] = policy;
    console.out << json::serialize(out) << '\n';
    return Done{};
  }
  print_key(console.out, sign);
  if (agree) print_key(console.out, *agree);
  console.out << "\nFor tokens = [ … ] of this person in the policy:\n" << policy << '\n';
  return Done{};
}

struct Command {
  std::string_view name;
  std::string_view what;
  Status (*run)(const po::variables_map&, Console&);
  po::options_description (*options)();
};

po::options_description init_options() {
  po::options_description options = common_options();
  options.add(create_options());
  po::options_description keys{"The keys"};
  keys.add_options()                                                                   //
      ("complete", "make the keys that are missing on a token that has some of them")  //
      ("origin", po::value<std::string>()->value_name("NAME"), "the log's origin: prints its vkey too");
  return options.add(keys), options;
}

po::options_description check_options() {
  po::options_description options = common_options();
  options.add_options()("origin", po::value<std::string>()->value_name("NAME"),
                        "the log's origin: prints its vkey too");
  return options;
}

po::options_description person_options() {
  po::options_description options = common_options();
  options.add(create_options());
  options.add_options()("agree", "make a second key, for shares of sealed secrets");
  return options;
}

constexpr Command kCommands[] = {
    {"init",
     "init makes the five keys of a region on its token, checks them and prints their public keys. With "
     "--create\n"
     "it first makes the token on a blank slot. It never touches a key or token that is there.",
     init, init_options},
    {"check",
     "check tries on the token, and on the five keys, what must be refused, fails if anything of it "
     "succeeds, and\n"
     "lets each key sign (or agree) once. Nothing is changed.",
     check, check_options},
    {"list",
     "list shows the tokens of a module; with --token the keys of that token, for which it needs the PIN.",
     list, common_options},
    {"person-init",
     "person-init makes a signing key on a person's token and prints the line for the policy. With --create "
     "it\n"
     "first makes the token on a blank slot.",
     person_init, person_options},
};

int fail(Console& console, const Error& error) {
  if (console.json) {
    json::object detail;
    detail["code"] = std::string{reason_name(error.reason)};
    detail["sentence"] = std::string{reason_sentence(error.reason)};
    detail["what"] = error.what;
    json::object out;
    out["error"] = detail;
    console.out << json::serialize(out) << '\n';
  }
  console.err << "sallyport-hsm: " << reason_sentence(error.reason) << " [" << reason_name(error.reason)
              << "]\n  " << error.what << '\n';
  return exit_code_of(error);
}

}  // namespace

int run(const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  Console console{out, err};
  if (arguments.empty()) {
    err << kHelp;
    return 2;
  }
  if (arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    out << kHelp;
    return 0;
  }
  for (const Command& command : kCommands) {
    if (arguments[0] != command.name) continue;
    const po::options_description options = command.options();
    po::variables_map given;
    try {
      const std::vector<std::string> rest{arguments.begin() + 1, arguments.end()};
      const po::positional_options_description none;
      // No abbreviations: an option means one thing, whatever is added later.
      const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
      po::store(po::command_line_parser{rest}.options(options).positional(none).style(style).run(), given);
      po::notify(given);
    } catch (const po::error& e) {
      return fail(console, usage(std::string{e.what()} + "; see sallyport-hsm " + arguments[0] + " --help"));
    }
    if (given.count("help") != 0) {
      out << command.what << "\n\n" << options;
      return 0;
    }
    const std::string format = given["format"].as<std::string>();
    if (format != "text" && format != "json") return fail(console, usage("-f takes text or json"));
    console.json = format == "json";
    const Status status = command.run(given, console);
    return status ? 0 : fail(console, status.error());
  }
  return fail(console, usage("unknown command \"" + arguments[0] + "\"; see sallyport-hsm --help"));
}

}  // namespace sallyport::ceremony

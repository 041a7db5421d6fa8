#include "client/engineer/doctor.h"

#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "attestation/record/ima.h"
#include "client/connection/ima.h"
#include "client/connection/session.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"
#include "hsm-config/pkcs11/token.h"

namespace sallyport::client::engineer {
namespace {

constexpr std::string_view kKernelsLog = "/sys/kernel/security/tpm0/binary_bios_measurements";
constexpr std::string_view kCopyOfTheLog = "/run/sallyport/boot.log";

// An Examination looks at one thing after the other, and keeps what later things stand on.
class Examination {
 public:
  std::vector<Check> run() {
    look_at_settings();
    look_at_log();  // what this machine knows of it; the broker may bring more
    look_at_broker();
    look_at_tpm();
    look_at_event_log();
    look_at_token();
    look_at_enrolment();
    look_at_firmware();
    look_at_boot();
    look_at_files();
    return std::move(checks_);
  }

 private:
  void add(Check check) { checks_.push_back(std::move(check)); }
  const record::LoadedPolicy* policy() const { return policy_.get(); }
  evidence::PcrSelection selection() const {
    return policy_ ? policy_->references.selection : evidence::PcrSelection::standard();
  }
  void know(std::shared_ptr<const record::ControlState> control) {
    control_ = std::move(control);
    policy_ = control_->policy();
  }

  void look_at_settings() {
    auto settings = load_settings();
    set_up_ = settings.has_value();
    if (set_up_) {
      settings_ = std::move(settings).value();
      add(well("settings", settings_.directory.string() + " · " + settings_.anchor.origin.get()));
    } else {
      settings_ = environment_settings();  // so that TPM and event log can be looked at
      const bool says = settings.error().what.find("sallyport init") != std::string::npos;
      add(wrong(
          "settings", settings.error(),
          says ? ""
               : "Mend the file in " + settings_.directory.string() + ", or set up anew: sallyport init."));
    }
  }

  void look_at_log() {
    if (!set_up_) return add(not_checked("log", "no settings"));
    const auto follower = follow::Follower::open(settings_.follow_file(), settings_.anchor);
    if (!follower.has_value()) return add(wrong("log", follower.error()));
    know((*follower)->control());
    const auto noted = (*follower)->noted();
    if (!policy_)
      return add(not_checked("log", "nothing of it was followed yet",
                             "Any command that signs in follows it: sallyport request ls"));
    add(well(
        "log",
        "followed to leaf " + grouped(control_->size().get() - 1) + ", policy version " +
            std::to_string(policy_->policy.version) +
            (noted ? ", cosigned " + relative(UnixMillis{noted->median_time().get() * 1000}, now()) : "")));
  }

  void look_at_broker() {
    if (!set_up_) {
      add(not_checked("broker", "no settings"));
      return add(not_checked("clock", "no settings"));
    }
    auto session = Session::open(settings_);
    const auto hello = session.has_value() ? (*session)->hello() : Result<api::Hello>{session.error()};
    if (!hello.has_value()) {
      add(wrong("broker", hello.error()));
      return add(not_checked("clock", "no broker to ask"));
    }
    const std::string followed = (*session)->follower().anchor().origin.get();
    if (hello->origin != followed)
      add(wrong("broker", Error{Code::kUnverified, Reason::kTrustAnchor,
                                settings_.url + " serves the log " + hello->origin +
                                    ", and this machine follows " + followed}));
    else
      add(well("broker", settings_.url + " answers, with a TLS key of the policy"));
    session_ = std::move(session).value();
    look_at_clock(*hello);
  }

  // The note is the broker's, and is believed for its cosignatures.
  void look_at_clock(const api::Hello& hello) {
    if (!policy_) return add(not_checked("clock", "no policy is known that names witnesses"));
    if (hello.head.empty()) return add(not_checked("clock", "the log has no cosigned checkpoint yet"));
    const auto cosigned = ledger::check_quorum(hello.head, policy_->witnesses);
    if (!cosigned.has_value())
      return add(
          not_checked("clock", "the newest checkpoint is not cosigned as the policy known here wants it: " +
                                   cosigned.error().what));
    add(check_clock(now(), UnixMillis{cosigned->median_time().get() * 1000}, hello.time));
  }

  void look_at_tpm() {
    const auto none = [&](const std::string& why) {
      add(not_checked("TPM counters", why));
      add(not_checked("EK certificate", why));
    };
    if (settings_.tcti == "none") {
      add(not_checked("TPM", "tcti is none: a person without an attested machine"));
      return none("no TPM");
    }
    auto tpm = open_tpm(settings_);
    const auto boot = tpm.has_value() ? tpm->boot_time() : Result<tpm::BootTime>{tpm.error()};
    if (!boot.has_value()) {
      add(wrong("TPM", boot.error()));
      return none("no TPM");
    }
    tpm_.emplace(std::move(tpm).value());
    add(well("TPM", settings_.tcti + " · maker " + boot->manufacturer));
    add(check_tpm_counters(*boot));
    const auto endorsement = tpm_->endorsement();
    add(endorsement.has_value() ? check_endorsement(*endorsement, policy(), now())
                                : wrong("EK certificate", endorsement.error()));
  }

  void look_at_event_log() {
    const bool wanted = !policy_ || wants_event_log(*policy_);
    const std::string& path = settings_.event_log;
    const auto missing = [&](const Error& error, std::string mend) {
      add(wanted ? wrong("event log", error, std::move(mend))
                 : not_checked("event log", error.what + "; the policy in force judges boots without it",
                               std::move(mend)));
      add(not_checked("measurements", "no event log"));
    };
    if (path.empty() || path == "none")
      return missing(Error{Code::kDenied, Reason::kEventLogMissing, "event_log is none"},
                     "Leave event_log out of config.toml, or let it name the firmware's log.");
    auto bytes = read_whole_file(path, evidence::kMaxEventLogBytes);
    if (bytes.has_value() && bytes->empty())
      bytes = Error{Code::kMalformed, Reason::kUsage, path + " is empty"};
    if (!bytes.has_value())
      return missing(Error{Code::kDenied, Reason::kEventLogMissing, bytes.error().what}, copy_mend(path));
    auto log = evidence::EventLog::parse(std::move(bytes).value());
    if (!log.has_value()) {
      add(wrong("event log", log.error()));
      return add(not_checked("measurements", "no event log"));
    }
    log_.emplace(std::move(log).value());
    add(well("event log", path + " · " + grouped(log_->events().size()) + " events"));
    if (!tpm_) return add(not_checked("measurements", "no TPM"));
    const auto pcrs = tpm_->read_pcrs(selection());
    add(pcrs.has_value() ? check_measurements(*log_, selection(), *pcrs)
                         : wrong("measurements", pcrs.error()));
  }

  static std::string copy_mend(const std::string& path) {
    std::error_code ignored;
    const bool exists = std::filesystem::exists(path, ignored);
    if (path != kKernelsLog)
      return std::string{"event_log in config.toml names it: "} +
             (exists ? "have it made readable for you." : "is it copied there at each start?");
    if (!exists)
      return "The kernel shows no log: the machine has no TPM that is switched on, or was not started by "
             "UEFI.";
    return "Only root may read it. Have it copied at each start: put the line  C " +
           std::string{kCopyOfTheLog} + " 0444 root root - " + std::string{kKernelsLog} +
           "  into /etc/tmpfiles.d/sallyport.conf, run  systemd-tmpfiles --create sallyport.conf  as root, "
           "and "
           "set  event_log = \"" +
           std::string{kCopyOfTheLog} + "\"  in config.toml.";
  }

  void look_at_token() {
    if (settings_.token.empty()) {
      add(not_checked("token", "none is configured, so commands that sign refuse",
                      "Set token = \"pkcs11:token=…?module-path=…\" in config.toml."));
      return add(not_checked("token key", "no token"));
    }
    const auto selector = pkcs11::parse_token_uri(settings_.token, "/usr/lib/softhsm/libsofthsm2.so");
    const auto info = selector.has_value() ? pkcs11::find_person_token(*selector)
                                           : Result<pkcs11::TokenInfo>{selector.error()};
    if (!info.has_value()) {
      add(wrong("token", info.error()));
      return add(not_checked("token key", "no token"));
    }
    add(well("token", info->label + " · " + info->manufacturer + " " + info->model +
                          (info->pin_final_try ? " · ONE PIN try is left"
                           : info->pin_low     ? " · a wrong PIN was entered"
                                               : "")));
    add(look_at_token_key(*selector));
  }

  Check look_at_token_key(const pkcs11::TokenSelector& selector) const {
    const std::string name = "token key";
    if (!policy_) return not_checked(name, "no policy is known that lists it");
    if (settings_.person.empty())
      return not_checked(name, "no person is configured",
                         "Set person in config.toml, as the policy names you.");
    const policy::Person* person = policy::find_person(policy_->policy, PersonId{settings_.person});
    if (person == nullptr)
      return wrong(name, Error{Code::kDenied, Reason::kPolicyUnknownPerson,
                               settings_.person + " is not in the policy"});
    const auto module = pkcs11::Module::load(selector.module);
    const auto keys = module.has_value() ? module->list_public_keys(selector)
                                         : Result<std::vector<crypto::PublicKey>>{module.error()};
    if (!keys.has_value()) return wrong(name, keys.error());
    if (keys->empty()) return not_checked(name, "the token shows no keys without its PIN");
    for (const policy::Token& listed : person->tokens) {
      if (std::ranges::find(*keys, listed.sign) == keys->end()) continue;
      if (control_->is_revoked_token(listed.sign.id()))
        return wrong(name, Error{Code::kDenied, Reason::kRevoked, "token " + listed.id + " is revoked"});
      return well(name, listed.id + " of " + settings_.person + ", as the policy lists it");
    }
    return wrong(name, Error{Code::kDenied, Reason::kTokenKey,
                             "the token shows no key that the policy lists for " + settings_.person});
  }

  void look_at_enrolment() {
    const auto unknown = [&](const std::string& why) {
      add(not_checked("enrolment", why));
      add(not_checked("since enrolment", why));
    };
    if (!tpm_) return unknown("no TPM");
    const auto machine = identify_machine(*tpm_);
    if (!machine.has_value()) return unknown("the TPM does not tell who it is: " + machine.error().what);
    machine_ = *machine;
    if (!policy_) return unknown("nothing of the log is known");
    // The broker takes the machine's proof if it is enrolled; then there is news of the log to be had too.
    Status proved = Done{};
    if (session_) {
      proved = session_->attest(*tpm_);
      if (proved.has_value()) proved = session_->sync();
      know(session_->control());
    }
    // Which of its keys the machine enrolled is known by now.
    if (auto as_enrolled = identify_machine(*tpm_, *control_); as_enrolled.has_value())
      machine_ = std::move(as_enrolled).value();
    Check check = check_enrolment(*control_, machine_->device, machine_->ak);
    if (check.error && check.error->reason == Reason::kDeviceUnknown && !proved.has_value() &&
        proved.error().reason == Reason::kDeviceRevoked) {
      // It was enrolled since, and is out: to such a machine the broker shows no log.
      check = wrong(check.name, proved.error());
    } else if (check.state == Check::State::kOk && !proved.has_value()) {
      Error error = proved.error();
      error.what = check.words + "; but the broker does not take its proof: " + error.what;
      check = wrong(check.name, std::move(error));
    }
    add(std::move(check));
    const record::Device* device = enrolled();
    add(device != nullptr ? check_since_enrolment(*device, machine_->boot.clock)
                          : not_checked("since enrolment", "the machine is not enrolled with this key"));
  }

  // What the log has of this machine with this very key; null where it has nothing.
  const record::Device* enrolled() const {
    const record::Device* device = control_ ? control_->find_device(machine_->device) : nullptr;
    return device != nullptr && equal(device->ak, machine_->ak) ? device : nullptr;
  }

  void look_at_firmware() {
    if (!machine_) return add(not_checked("TPM firmware", tpm_ ? "the machine is not known" : "no TPM"));
    const auto ak = evidence::parse_attestation_key(machine_->ak);
    if (!ak.has_value()) return add(wrong("TPM firmware", ak.error()));
    const record::Device* device = enrolled();
    std::string maker = device != nullptr ? device->tpm_maker : "";
    if (maker.empty()) maker = machine_->boot.manufacturer;
    maker.erase(maker.find_last_not_of(' ') + 1);  // "STM ", as the TPM has it
    add(check_firmware(maker, machine_->boot.firmware_version, ak->key().algorithm(), now()));
  }

  void look_at_boot() {
    if (!machine_) return add(not_checked("boot", tpm_ ? "the machine is not known" : "no TPM"));
    if (!policy_) return add(not_checked("boot", "no policy is known"));
    const auto quote = quoted();
    if (!quote.has_value()) return add(wrong("boot", quote.error()));
    add(check_boot(*quote, control_->find_device(machine_->device), log_ ? &*log_ : nullptr, *policy_,
                   now()));
  }

  void look_at_files() {
    const std::string name = "files";
    if (!policy_) return add(not_checked(name, "no policy is known"));
    if (!wants_ima(*policy_))
      return add(not_checked(name, "the policy in force does not ask what was measured"));
    if (!tpm_) return add(not_checked(name, "no TPM"));
    // As with a request: the quote first, then the list, which has grown by then.
    const auto pcr10 = tpm_->read_pcrs(record::ima_selection());
    if (!pcr10.has_value()) return add(wrong(name, pcr10.error()));
    const auto list = read_ima_list(settings_);
    if (!list.has_value())
      return add(wrong(name, list.error(),
                       list.error().reason == Reason::kImaMissing ? ima_mend(settings_.ima_list) : ""));
    add(check_files(*list, pcr10->front(), *policy_));
  }

  static std::string ima_mend(const std::string& path) {
    std::error_code ignored;
    if (path != Settings{}.ima_list)
      return "ima_list in config.toml names it: leave it out, and the kernel's own is read.";
    if (!std::filesystem::exists(path, ignored))
      return "The kernel shows no list: is it started with an IMA policy (ima_policy=tcb, or a file in "
             "/etc/ima)?";
    return "Only root may read it, and a copy is of no use: the kernel measures on. Have a group read it, at "
           "each start: put the line  z " +
           path +
           " 0440 root tss -  into /etc/tmpfiles.d/sallyport.conf, and run  systemd-tmpfiles --create "
           "sallyport.conf  as root.";
  }

  // A quote for ourselves: what a broker would be shown of this boot.
  Result<evidence::VerifiedQuote> quoted() {
    const Digest256 fresh{crypto::random_nonce().get()};
    SP_TRY(const evidence::AttestationKey ak, evidence::parse_attestation_key(machine_->ak));
    SP_TRY(const tpm::Quote quote, tpm_->quote(selection(), fresh));
    return evidence::verify_quote(quote.evidence, ak, fresh, selection(), quote.pcrs);
  }

  std::vector<Check> checks_;
  Settings settings_;
  bool set_up_ = false;
  std::shared_ptr<const record::ControlState> control_;
  std::shared_ptr<const record::LoadedPolicy> policy_;
  std::optional<tpm::Tpm> tpm_;
  std::unique_ptr<Session> session_;  // after tpm_: it may prove the machine again
  std::optional<evidence::EventLog> log_;
  std::optional<MachineProof> machine_;
};

Result<int> run_doctor(const Arguments& arguments) {
  const std::vector<Check> checks = examine();
  if (arguments.json)
    std::cout << json_of(checks) << std::endl;
  else
    std::cout << text_of(checks) << std::flush;
  return exit_code(checks);
}

}  // namespace

std::vector<Check> examine() {
  return Examination{}.run();
}

Command doctor_command() {
  return {"doctor",
          "doctor",
          "look at all that a session needs, and tell what is wrong",
          "One line a check: settings, log, broker, clock, TPM and its firmware, event log, token, "
          "enrolment, and whether the "
          "policy in force accepts how this machine was started and what it measured since. It asks for no "
          "PIN, and nothing of it is "
          "recorded. Under what is wrong stands how to mend it; what stands on that is not checked. The exit "
          "code is that of the first thing that is wrong.\n\n"
          "  sallyport doctor\n"
          "  sallyport doctor -f json > doctor.json      # for whoever helps you\n",
          nullptr,
          {},
          run_doctor};
}

}  // namespace sallyport::client::engineer

#include "client/engineer/commands.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/record/canonical_json.h"
#include "client/engineer/access.h"
#include "client/engineer/agent.h"
#include "client/engineer/enroll.h"
#include "client/engineer/stay_awake.h"
#include "client/terminal/cases.h"
#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

namespace po = boost::program_options;
using record::json::Value;
using std::chrono::milliseconds;

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}
void print_json(const Value& value) {
  std::cout << as_text(record::json::encode_canonical(value)) << std::endl;
}

// ---- init

void init_flags(po::options_description& flags) {
  flags.add_options()("url", po::value<std::string>(), "of the broker")(
      "policy", po::value<std::string>(),
      "sha256:… of version 1 of the policy, as your administrators published it")(
      "person", po::value<std::string>(), "who you are in the policy")(
      "token", po::value<std::string>(), "RFC 7512 URI of your token")("tcti", po::value<std::string>(),
                                                                       "this machine's TPM, or none");
}

Result<int> init(const Arguments& arguments) {
  constexpr std::string_view kPrefix = "sha256:";
  const std::string given = arguments.text("policy");
  if (!arguments.has("url") || !given.starts_with(kPrefix))
    return usage("sallyport init URL --policy sha256:…");
  SP_TRY(const Digest256 digest, parse_digest(std::string_view{given}.substr(kPrefix.size())));
  Settings settings;
  settings.directory = settings_directory();
  settings.url = arguments.text("url");
  settings.person = arguments.text("person");
  settings.token = arguments.text("token");
  settings.tcti = arguments.text("tcti", settings.tcti);
  SP_TRY(settings.anchor, fetch_genesis(settings.url, digest));
  SP_CHECK(save_settings(settings));
  if (!std::filesystem::exists(settings.follow_file()))
    SP_CHECK(follow::Follower::create(settings.follow_file(), settings.anchor));
  SP_TRY(const auto session, Session::open(settings));
  if (arguments.json) {
    print_json(Value::object(
        {{"directory", settings.directory.string()}, {"origin", settings.anchor.origin.get()}}));
  } else {
    std::cout << "set up for " << settings.anchor.origin.get() << " in " << settings.directory.string()
              << "\n";
    note("next", "sallyport enroll --name NAME --region REGION, at the machine you work from");
  }
  return 0;
}

// ---- enroll

void enroll_flags(po::options_description& flags) {
  flags.add_options()("name", po::value<std::string>(), "of this machine, for people")(
      "region", po::value<std::string>(), "that it belongs to")(
      "nowait", "ask, print the case, and go; run it again to answer the approvers' challenges")(
      "timeout", po::value<std::string>()->default_value("1h"), "how long to wait for the approvers");
}

Result<int> enroll(const Arguments& arguments) {
  if (!arguments.has("name") || !arguments.has("region"))
    return usage("sallyport enroll --name NAME --region REGION");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(tpm::Tpm tpm, tpm::Tpm::open(opened->settings.tcti));
  SP_TRY(std::uint64_t patience_s, parse_duration(arguments.text("timeout")));
  if (arguments.has("nowait")) patience_s = 0;
  SP_TRY(const Enrolled enrolled, enrol(*opened, tpm, arguments.text("name"), arguments.text("region"),
                                        std::chrono::seconds{patience_s}));
  if (arguments.json)
    print_json(Value::object(
        {{"case", to_hex(enrolled.case_id)}, {"device", to_hex(enrolled.device)}, {"leaf", enrolled.leaf}}));
  else
    std::cout << "enrolled " << printable(arguments.text("name")) << " · device "
              << to_hex(enrolled.device).substr(0, 16) << " · leaf " << grouped(enrolled.leaf)
              << ", cosigned\n";
  return 0;
}

// ---- ssh

void ssh_flags(po::options_description& flags) {
  flags.add_options()("target", po::value<std::string>(), "host, or a resource that has one")(
      "as", po::value<std::string>(), "account; without it the first one of the rule that matches")(
      "reason", po::value<std::string>(), "why: approvers and auditors read it")(
      "for", po::value<std::string>(), "beneficiary: for whom the work really is, if not for you")(
      "duration", po::value<std::string>(), "shorter than the rule's, such as 5m")(
      "attach", po::value<std::vector<std::string>>(), "a file as evidence; repeatable")(
      "nowait", "ask, print the case, and go")("timeout", po::value<std::string>()->default_value("1h"),
                                               "how long to wait for the quorum")(
      "save-dossier", po::value<std::string>(), "keep the proof of this access in a file");
}

// run_ssh runs the stock client beside the agent, and gives its exit status.
Result<int> run_ssh(const Access& access, const Agent& agent, const std::vector<std::string>& command) {
  const record::VerifiedGrant& grant = access.grant;
  std::string fingerprints;
  for (const std::string& key : grant.host_keys) fingerprints += (fingerprints.empty() ? "" : ",") + key;
  std::error_code ignored;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", ignored).string();
  std::vector<std::string> words{"ssh",
                                 "-F",
                                 "none",
                                 "-o",
                                 "IdentityAgent=" + agent.socket(),
                                 "-o",
                                 "PreferredAuthentications=publickey",
                                 "-o",
                                 "IdentityFile=none",
                                 "-o",
                                 "StrictHostKeyChecking=yes",
                                 "-o",
                                 "UserKnownHostsFile=/dev/null",
                                 "-o",
                                 "GlobalKnownHostsFile=/dev/null",
                                 "-o",
                                 "UpdateHostKeys=no",
                                 "-o",
                                 "KnownHostsCommand=" + self + " known-host " + fingerprints + " %f %H %t %K",
                                 "-o",
                                 "ForwardAgent=no",
                                 "-o",
                                 "LogLevel=ERROR",
                                 "-p",
                                 std::to_string(grant.host_port),
                                 "-l",
                                 grant.account,
                                 grant.host_address};
  if (!command.empty()) words.push_back("--");
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return Error{Code::kInternal, "cannot start ssh"};
  if (child == 0) {
    // A session does not outlive the command that answers for it, not even one that is killed.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(127);
    execvp("ssh", argv.data());
    _exit(127);
  }
  signal(SIGINT, SIG_IGN);  // ^C belongs to the session
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  signal(SIGINT, SIG_DFL);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// why_shut tells why ssh came back with its own 255 and no session: none is opened before the log has it.
std::optional<Error> why_shut(Opened& opened, const Access& access) {
  opened.session->outlive(milliseconds{0});
  const auto view = opened.session->view(access.grant.case_id);
  if (!view.has_value() || !opened.session->sync().has_value()) return {};
  for (const api::EntryView& one : view->entries)
    if (one.entry.leaf.kind == static_cast<std::uint8_t>(record::Kind::kSessionOpened)) return {};
  const auto dossier = record::parse_dossier(access.dossier);
  if (!dossier.has_value()) return dossier.error();
  const auto grant = record::verify_dossier(*dossier, *opened.session->control(), now());
  if (!grant.has_value()) return grant.error();
  return Error{Code::kUnavailable, Reason::kGateShut, access.grant.host + " opened no session"};
}

Result<int> ssh(const Arguments& arguments) {
  if (!arguments.has("target")) return usage("sallyport ssh HOST|RESOURCE --reason WHY [-- COMMAND]");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kRequired));
  Wish wish;
  wish.target = arguments.text("target");
  wish.account = arguments.text("as");
  wish.reason = arguments.text("reason");
  wish.beneficiary = arguments.text("for");
  if (arguments.has("duration")) {
    SP_TRY(wish.duration_s, parse_duration(arguments.text("duration")));
  }
  if (arguments.has("attach")) wish.files = arguments.values["attach"].as<std::vector<std::string>>();
  SP_TRY(const std::uint64_t patience_s, parse_duration(arguments.text("timeout")));

  SP_TRY(const Asked asked, ask(*opened, wish));
  SP_TRY(api::CaseView view, opened->session->view(asked.case_id));
  note("rule", printable(view.rule) + " · as " + printable(view.account));
  note("case", short_case(asked.case_id) + " · sent " + clock_utc(asked.request.time) + " · expires " +
                   relative(view.expires, now()));
  if (arguments.has("nowait")) {
    if (arguments.json)
      std::cout << as_text(api::encode(view)) << std::endl;
    else
      std::cout << to_hex(asked.case_id) << "\n";
    return 4;
  }
  std::optional<StayAwake> awake{std::in_place};  // until the grant: a suspend ends the request
  SP_TRY(view, wait_for_quorum(*opened, asked, std::chrono::seconds{patience_s}));
  std::string approvers;
  for (const api::ApprovalView& approval : view.approvals)
    approvers += (approvers.empty() ? "" : ", ") + printable(approval.approver);
  note("approved", clock_utc(now()) + " by " + approvers);
  SP_TRY(const Access access, activate(*opened, asked));
  awake.reset();
  const record::VerifiedGrant& grant = access.grant;
  note("proven", "leaf " + grouped(grant.leaf_index.get()) + ", cosigned by " +
                     std::to_string(grant.cosigned.size()) + " witnesses");
  const std::uint64_t seconds = (grant.not_after.get() - grant.not_before.get()) / 1000;
  note("session", "ends " + clock_utc(grant.not_after) + " (" + duration_text(seconds) +
                      ") · opening and end on record");
  if (arguments.has("save-dossier")) {
    std::ofstream out{arguments.text("save-dossier"), std::ios::binary};
    out.write(reinterpret_cast<const char*>(access.dossier.data()),
              static_cast<std::streamsize>(access.dossier.size()));
    if (!out.flush())
      return Error{Code::kUnavailable, Reason::kStorage, "cannot write " + arguments.text("save-dossier")};
  }
  SP_TRY(const auto agent, Agent::start(*opened, access));
  SP_TRY(const int status, run_ssh(access, *agent, arguments.rest));
  agent->stop();
  if (const auto error = agent->last_error(); error && status == 255) return *error;
  if (status == 255)
    if (const auto error = why_shut(*opened, access)) return *error;
  if (now() >= grant.not_after)
    note("ended", "session " + short_case(grant.case_id) + " ended " + clock_utc(grant.not_after) + ": its " +
                      duration_text(seconds) + " are over");
  return status;
}

// ---- request ls, show, drop

void case_flags(po::options_description& flags) {
  flags.add_options()("case", po::value<std::string>(), "the case, or the beginning of its id");
}
void drop_flags(po::options_description& flags) {
  case_flags(flags);
  flags.add_options()("reason", po::value<std::string>()->default_value("dropped by the requester"), "why");
}

Result<int> request_ls(const Arguments& arguments) {
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(auto cases, opened->session->cases());
  std::erase_if(cases, [&](const api::CaseView& view) { return view.person != opened->settings.person; });
  if (arguments.json) {
    std::cout << as_text(api::encode(cases)) << std::endl;
    return 0;
  }
  std::cout << "CASE        ASKED       STATE     KIND       RESOURCE    RULE\n";
  for (const api::CaseView& view : cases) {
    const auto column = [](std::string text, std::size_t width) {
      text.resize(std::max(text.size() + 1, width), ' ');
      return text;
    };
    std::cout << column(short_case(view.case_id), 12) << column(relative(view.opened, now()), 12)
              << column(view.code ? std::string{reason_name(*view.code)} : view.state, 10)
              << column(view.kind, 11) << column(printable(view.resource), 12) << printable(view.rule)
              << "\n";
  }
  return 0;
}

Result<int> request_show(const Arguments& arguments) {
  if (!arguments.has("case")) return usage("sallyport request show CASE");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(const auto cases, opened->session->cases());
  SP_TRY(const CaseId case_id, find_case_id(arguments.text("case"), cases));
  SP_TRY(const api::CaseView view, opened->session->view(case_id));
  if (arguments.json) {
    std::cout << as_text(api::encode(view)) << std::endl;
    return 0;
  }
  std::cout << "case      " << short_case(view.case_id) << " · " << view.kind << " · " << view.state;
  if (view.code) std::cout << " [" << reason_name(*view.code) << "]";
  std::cout << "\nwho       " << printable(view.person)
            << (view.beneficiary.empty() ? "" : " for " + printable(view.beneficiary)) << "\nwhat      "
            << printable(view.resource) << " " << printable(view.host) << " as " << printable(view.account)
            << "\nwhy       " << printable(view.reason) << "\nrule      " << printable(view.rule) << "\n";
  if (const auto denied = find_denial(view)) std::cout << "denied by " << denial_text(*denied, now()) << "\n";
  for (const api::ClauseView& clause : view.quorum)
    std::cout << "quorum    " << printable(clause.group) << " " << clause.have << " of " << clause.needed
              << "\n";
  for (const api::EntryView& entry : view.entries) {
    const auto kind = record::parse_kind(entry.entry.leaf.kind);
    std::cout << "leaf      " << grouped(entry.index) << " · " << utc(entry.entry.leaf.time) << " · "
              << (kind.has_value() ? record::kind_name(*kind) : "unknown") << "\n";
  }
  return 0;
}

Result<int> request_drop(const Arguments& arguments) {
  if (!arguments.has("case")) return usage("sallyport request drop CASE");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(const auto cases, opened->session->cases());
  record::Denial denial;
  SP_TRY(denial.case_id, find_case_id(arguments.text("case"), cases));
  denial.approver = opened->settings.person;
  denial.authority = opened->settings.anchor.origin.get();
  denial.reason = arguments.text("reason");
  denial.time = now();
  SP_TRY(Bytes envelope,
         opened->signer->envelope(record::payload_type(record::Kind::kDenial), record::encode(denial)));
  SP_TRY(const api::Submitted submitted, opened->session->submit({std::move(envelope), {}}));
  if (arguments.json)
    std::cout << as_text(api::encode(submitted)) << std::endl;
  else
    std::cout << "dropped · leaf " << grouped(submitted.leaf) << ", cosigned\n";
  return 0;
}

// ---- known-host: ssh asks it for the key of the host that it has reached (KnownHostsCommand)

void known_host_flags(po::options_description& flags) {
  flags.add_options()("allowed", po::value<std::string>(), "fingerprints, with commas")(
      "fingerprint", po::value<std::string>(), "of the key that the host showed")(
      "host", po::value<std::string>(), "as ssh names it")("type", po::value<std::string>(), "of the key")(
      "key", po::value<std::string>(), "in base64");
}

Result<int> known_host(const Arguments& arguments) {
  std::string_view allowed;
  const std::string list = arguments.text("allowed"), fingerprint = arguments.text("fingerprint");
  for (std::string_view rest = list; !rest.empty() && !fingerprint.empty();) {
    allowed = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), allowed.size() + 1));
    if (allowed != fingerprint) continue;
    std::cout << arguments.text("host") << " " << arguments.text("type") << " " << arguments.text("key")
              << "\n";
    return 0;
  }
  return 0;  // no line: ssh refuses the host by itself
}

}  // namespace

std::vector<Command> commands() {
  return {
      {"init",
       "init URL --policy sha256:…  [--person ID] [--token URI] [--tcti TCTI]",
       "set up for a broker, once",
       "Fetches version 1 of the policy, checks that its digest is the one you give, and pins the log by it. "
       "Get the digest from\n"
       "your administrators by another way than the broker.\n\n"
       "  sallyport init https://us.sallyport.corp.example --policy sha256:77f0… --person erin@corp.example "
       "\\\n"
       "      --token 'pkcs11:token=erin-yk1?module-path=/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so'\n",
       init_flags,
       {"url"},
       init},
      {"enroll",
       "enroll --name NAME --region REGION",
       "enrol this machine's TPM",
       "Sends the TPM's endorsement certificate, attestation key and present boot state, signed by you. The "
       "approvers' own clients\n"
       "challenge the TPM; this command answers, so it waits until they have approved.\n",
       enroll_flags,
       {},
       enroll},
      {"ssh",
       "ssh HOST|RESOURCE --reason WHY [--as ACCOUNT] [--for PERSON] [--duration 5m] [-- COMMAND …]",
       "ask for a session, wait for the quorum, and open it",
       "Your machine's TPM makes a key for this case alone and quotes its boot state; you sign with your "
       "token; the policy decides who\n"
       "must approve. The certificate is verified here before it is used, each login needs a lease, and "
       "every step is a leaf in the log.\n"
       "While it waits it asks systemd-logind to keep the machine from going to sleep: a suspend ends the "
       "request.\n\n"
       "  sallyport ssh db-7 --reason \"INC-4711: replica lag\"\n  sallyport ssh db-7 --as dbadmin --reason "
       "\"INC-4711\" -- uptime\n\n"
       "A refusal tells the condition that was not met, and the limited way that exists, if there is one.\n",
       ssh_flags,
       {"target"},
       ssh},
      {"request ls",
       "request ls",
       "your cases of the last 48 hours",
       "Newest first.\n",
       nullptr,
       {},
       request_ls,
       "to sign in and read your cases"},
      {"request show",
       "request show CASE",
       "one case, with its leaves",
       "CASE is an id, or the beginning of one.\n",
       case_flags,
       {"case"},
       request_show,
       "to sign in and read your cases"},
      {"request drop",
       "request drop CASE [--reason WHY]",
       "close a case of yours",
       "Signs a denial of your own request: nothing is granted in it any more.\n",
       drop_flags,
       {"case"},
       request_drop},
      {"known-host",
       "known-host FINGERPRINTS FINGERPRINT HOST TYPE KEY",
       "(for ssh) tells ssh the policy's key of a host",
       "ssh calls it by KnownHostsCommand. It prints the host's line when the fingerprint is one that the "
       "policy lists.\n",
       known_host_flags,
       {"allowed", "fingerprint", "host", "type", "key"},
       known_host,
       {},
       true},
  };
}

}  // namespace sallyport::client::engineer

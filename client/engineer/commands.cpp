#include "client/engineer/commands.h"

#include <algorithm>
#include <iostream>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/record/canonical_json.h"
#include "client/engineer/access.h"
#include "client/engineer/doctor.h"
#include "client/engineer/enroll.h"
#include "client/engineer/progress.h"
#include "client/engineer/ssh_run.h"
#include "client/engineer/stay_awake.h"
#include "client/terminal/cases.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

namespace po = boost::program_options;
using record::json::Value;
using std::chrono::milliseconds;

// ---- init

void init_flags(po::options_description& flags) {
  flags.add_options()("url", po::value<std::string>(), "of the broker")(
      "policy", po::value<std::string>(),
      "sha256:… of version 1 of the policy, as your administrators published it")(
      "person", po::value<std::string>(), "who you are in the policy")(
      "from-start", "follow the log from its first leaf, and judge every one, instead of from a snapshot")(
      "token", po::value<std::string>(), "RFC 7512 URI of your token")(
      "event-log", po::value<std::string>(), "the firmware's event log of this machine, or none")(
      "ima-list", po::value<std::string>(), "what the kernel of this machine measured, or none")(
      "tcti", po::value<std::string>(), "this machine's TPM, or none");
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
  settings.event_log = arguments.text("event-log", settings.event_log);
  settings.ima_list = arguments.text("ima-list", settings.ima_list);
  SP_TRY(settings.anchor, fetch_genesis(settings.url, digest));
  SP_CHECK(save_settings(settings));
  if (!std::filesystem::exists(settings.follow_file()))
    SP_CHECK(follow::Follower::create(
        settings.follow_file(), settings.anchor,
        arguments.has("from-start") ? follow::Begin::kFromStart : follow::Begin::kFromSnapshot));
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
      "again", "replace the enrolment that this machine has: its TPM was cleared, or its boot changed")(
      "nowait", "ask, print the case, and go; run it again to answer the approvers' challenges")(
      "timeout", po::value<std::string>()->default_value("1h"), "how long to wait for the approvers")(
      "ak", po::value<std::string>()->default_value("p256"),
      "the attestation key: p256, or rsa for TPMs whose firmware has TPM-FAIL");
}

Result<int> enroll(const Arguments& arguments) {
  if (!arguments.has("name") || !arguments.has("region"))
    return usage("sallyport enroll --name NAME --region REGION [--ak p256|rsa]");
  const std::string ak = arguments.text("ak");
  if (ak != "p256" && ak != "rsa") return usage("--ak takes p256 or rsa");
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(tpm::Tpm tpm, open_tpm(opened->settings));
  if (ak == "rsa") tpm.use_ak(crypto::KeyAlgorithm::kRsa2048);
  SP_TRY(std::uint64_t patience_s, parse_duration(arguments.text("timeout")));
  if (arguments.has("nowait")) patience_s = 0;
  SP_TRY(const Enrolled enrolled, enrol(*opened, tpm, arguments.text("name"), arguments.text("region"),
                                        std::chrono::seconds{patience_s}, arguments.has("again")));
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
      "nowait", "ask, print the case, and go; --case goes on with it")(
      "case", po::value<std::string>(), "go on with a request that this machine made in this boot")(
      "timeout", po::value<std::string>()->default_value("1h"),
      "how long to wait for the quorum, and for parts that are away")(
      "tty,t", "have a terminal for the command, as ssh -t")("save-dossier", po::value<std::string>(),
                                                             "keep the proof of this access in a new file");
}

// tell_of_open_cases: approvers may be at work on the same request already.
void tell_of_open_cases(Opened& opened, const Wish& wish) {
  constexpr int kMost = 3;
  const auto cases = opened.session->cases();
  if (!cases.has_value()) return;
  int told = 0;
  for (const api::CaseView& one : *cases) {
    if (one.kind != "access" || one.person != opened.settings.person) continue;
    if (one.host != wish.target && one.resource != wish.target) continue;
    if (!wish.account.empty() && one.account != wish.account) continue;
    const auto grant = opened.session->control()->find_grant(one.case_id);
    if (one.state != "open" && !(one.state == "granted" && grant && now() < grant->not_after)) continue;
    if (++told > kMost) return;
    note("open", short_case(one.case_id) + " · asked " + relative(one.opened, now()) +
                     " for the same · go on with it: sallyport ssh --case " + short_case(one.case_id));
  }
}

// follow_to_the_end follows the log to the gate's report of a session's end: what ended it stands before
// that. The gate acts on leaves that witnesses have yet to cosign, so it is ahead of us. With the broker away
// the judgement stands where it stood.
void follow_to_the_end(Opened& opened, const CaseId& case_id, bool was_open) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{5};
  milliseconds wait{0};
  while (opened.session->sync(wait).has_value() && was_open) {
    const auto control = opened.session->control();
    const record::CaseTrace* trace = control->find_case(case_id);
    if (trace == nullptr) return;
    const auto last = opened.session->follower().leaf(trace->last);
    if (!last.has_value() || last->kind == static_cast<std::uint8_t>(record::Kind::kSessionClosed)) return;
    wait = std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now());
    if (wait.count() <= 0) return;
  }
}

Result<Wish> wish_of(const Arguments& arguments) {
  Wish wish;
  wish.target = arguments.text("target");
  wish.account = arguments.text("as");
  wish.reason = arguments.text("reason");
  wish.beneficiary = arguments.text("for");
  if (arguments.has("duration")) {
    SP_TRY(wish.duration_s, parse_duration(arguments.text("duration")));
  }
  if (arguments.has("attach")) wish.files = arguments.values["attach"].as<std::vector<std::string>>();
  return wish;
}

Result<int> ssh(const Arguments& arguments) {
  const bool again = arguments.has("case");
  if (arguments.has("target") == again)
    return usage(
        "sallyport ssh HOST|RESOURCE --reason WHY [-- COMMAND], or sallyport ssh --case CASE [-- COMMAND]");
  for (const char* flag : {"as", "reason", "for", "duration", "attach", "nowait"})
    if (again && arguments.has(flag))
      return usage("--case goes on with a request as it was made, without --" + std::string{flag});
  SP_TRY(const Wish wish, wish_of(arguments));
  SP_TRY(const std::uint64_t patience_s, parse_duration(arguments.text("timeout")));
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kRequired));
  const SteadyTime until = std::chrono::steady_clock::now() + std::chrono::seconds{patience_s};

  std::optional<Asked> asked;
  if (again) {
    SP_TRY(const CaseId case_id, pick_case(*opened, arguments.text("case")));
    SP_TRY(asked, take_up(*opened, case_id));
  } else {
    tell_of_open_cases(*opened, wish);
    SP_TRY(asked, ask(*opened, wish));
  }
  SP_TRY(api::CaseView view, opened->session->view(asked->case_id));
  note("rule", printable(view.rule) + " · as " + printable(view.account));
  note("case", short_case(asked->case_id) + " · sent " + clock_utc(asked->request.time) + " · expires " +
                   relative(view.expires, now()));
  if (arguments.has("nowait")) {
    if (arguments.json)
      std::cout << as_text(api::encode(view)) << std::endl;
    else
      std::cout << to_hex(asked->case_id) << std::endl;
    note("next", "sallyport ssh --case " + short_case(asked->case_id) + ", on this machine, in this boot");
    return 4;
  }
  // Until the session: a suspend ends the request, and an interrupt leaves it open.
  std::optional<StayAwake> awake{std::in_place};
  std::optional<StaysOpen> stays_open{std::in_place, asked->case_id};
  SP_TRY(view, wait_for_quorum(*opened, *asked, until));
  std::string approvers;
  for (const api::ApprovalView& approval : view.approvals)
    approvers += (approvers.empty() ? "" : ", ") + printable(approval.approver);
  note("approved", clock_utc(now()) + " by " + approvers);
  SP_TRY(const Access access, activate(*opened, *asked, until));
  awake.reset();
  stays_open.reset();
  const record::VerifiedGrant& grant = access.grant;
  note("proven", "leaf " + grouped(grant.leaf_index.get()) + ", cosigned by " +
                     std::to_string(grant.cosigned.size()) + " witnesses");
  const std::uint64_t seconds = (grant.not_after.get() - grant.not_before.get()) / 1000;
  note("session", "ends " + clock_utc(grant.not_after) + " (" + duration_text(seconds) +
                      ") · opening and end on record");
  if (arguments.has("save-dossier")) SP_CHECK(write_new_file(arguments.text("save-dossier"), access.dossier));
  SP_TRY(const SshEnd end, run_ssh(*opened, access, arguments.rest, arguments.has("tty")));
  if (end.status == kSshFailed) follow_to_the_end(*opened, grant.case_id, end.opened);
  SP_TRY(const record::Dossier dossier, record::parse_dossier(access.dossier));
  return judge_end(end, dossier, grant, *opened->session->control(), now());
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
  if (const auto denied = find_denial(*opened, view))
    std::cout << "denied    by " << denial_text(*denied, now()) << "\n";
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
       "init URL --policy sha256:…  [--person ID] [--token URI] [--tcti TCTI] [--event-log FILE] "
       "[--ima-list FILE] [--from-start]",
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
       "enroll --name NAME --region REGION [--again] [--ak p256|rsa]",
       "enrol this machine's TPM",
       "Sends the TPM's endorsement certificate, attestation key and present boot state, signed by you. The "
       "approvers' own clients\n"
       "challenge the TPM; this command answers, so it waits until they have approved. A machine that is "
       "enrolled already needs\n"
       "--again: its approvers then see what would be replaced.\n",
       enroll_flags,
       {},
       enroll},
      {"ssh",
       "ssh HOST|RESOURCE --reason WHY [--as ACCOUNT] [--for PERSON] [--duration 5m] [-t] [-- COMMAND …] | "
       "ssh --case CASE",
       "ask for a session, wait for the quorum, and open it",
       "Your machine's TPM makes a key for this case alone and quotes its boot state; you sign with your "
       "token; the policy decides who\n"
       "must approve. The certificate is verified here before it is used, each login needs a lease, and "
       "every step is a leaf in the log.\n"
       "While it waits it asks systemd-logind to keep the machine from going to sleep: a suspend ends the "
       "request.\n\n"
       "  sallyport ssh db-7 --reason \"INC-4711: replica lag\"\n  sallyport ssh db-7 --as dbadmin --reason "
       "\"INC-4711\" -- uptime\n"
       "  sallyport ssh --case c-7f3a                      # --nowait, ^C and a timeout leave the case "
       "open\n\n"
       "The command's own exit status is passed on. What ended or prevented the session has its own code: 3 "
       "the "
       "grant is over, 7 denied,\n"
       "8 the host refused the login, 9 the host or a part of Sallyport is away.\n"
       "A refusal tells the condition that was not met, and the limited way that exists, if there is one.\n",
       ssh_flags,
       {"target"},
       ssh},
      doctor_command(),
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

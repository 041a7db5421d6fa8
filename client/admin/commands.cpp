#include "client/admin/commands.h"

#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "attestation/policy/diff.h"
#include "client/admin/policy_text.h"
#include "client/admin/revocation.h"
#include "client/admin/target.h"
#include "client/terminal/cases.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::admin {
namespace {

namespace po = boost::program_options;
using record::EvidenceType;
using record::Kind;
using record::RevocationKind;
using record::json::Value;

Result<Bytes> read_policy(const std::string& path) {
  return read_whole_file(path, policy::kMaxPolicyBytes);
}
// read_beside reads what travels with a policy: --roots and --references. What is not given is that of
// `current`; load_policy refuses it unless the document names it.
Result<std::optional<record::PolicyDocument>> read_beside(const Arguments& arguments,
                                                          const record::LoadedPolicy* current) {
  if (!arguments.has("roots") && current == nullptr) return std::optional<record::PolicyDocument>{};
  record::PolicyDocument out;
  if (current != nullptr) out = current->document();
  if (arguments.has("roots")) {
    SP_TRY(out.tpm_roots,
           read_whole_file(arguments.text("roots"), record::max_evidence_bytes(EvidenceType::kTpmRoots)));
  }
  if (arguments.has("references")) {
    SP_TRY(out.references, read_whole_file(arguments.text("references"),
                                           record::max_evidence_bytes(EvidenceType::kReferences)));
  }
  return std::optional{std::move(out)};
}

// What a policy that is looked at comes from.
struct Source {
  std::shared_ptr<const record::LoadedPolicy> in_force;  // null when a file was named
  std::optional<policy::Policy> draft;
  std::string seen;  // how far the log was followed
  const policy::Policy& policy() const { return draft ? *draft : in_force->policy; }
};

// in_force gives the policy as this machine last followed it; with --sync as it is now.
Result<Source> in_force(const Arguments& arguments) {
  Source source;
  std::shared_ptr<const record::ControlState> control;
  std::shared_ptr<const ledger::VerifiedCheckpoint> noted;
  if (arguments.has("sync")) {
    SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
    control = opened->session->control();
    noted = opened->session->follower().noted();
  } else {
    SP_TRY(const Settings settings, load_settings());
    SP_TRY(const auto follower, follow::Follower::open(settings.follow_file(), settings.anchor));
    control = follower->control();
    noted = follower->noted();
  }
  source.in_force = control->policy();
  if (!source.in_force)
    return Error{Code::kUnavailable, Reason::kLogOrder, "nothing of the log was followed yet; add --sync"};
  source.seen = "leaf " + grouped(control->size().get() - 1);
  if (noted) source.seen += ", cosigned " + relative(UnixMillis{noted->median_time().get() * 1000}, now());
  return source;
}

// named gives the policy of --file, else the one in force.
Result<Source> named(const Arguments& arguments) {
  if (!arguments.has("file")) return in_force(arguments);
  SP_TRY(const Bytes text, read_policy(arguments.text("file")));
  SP_TRY(CheckedPolicy checked, check_policy(text, std::nullopt));
  Source source;
  source.draft = std::move(checked.policy);
  return source;
}

void source_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(), "look at this document, not at the policy in force")(
      "sync", "follow the log to its head first (needs your token)");
}

// ---- policy check

void check_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(), "the policy document")(
      "roots", po::value<std::string>(), "the PEM bundle of TPM vendors' roots that goes with it")(
      "references", po::value<std::string>(), "the reference values that go with it, where it names some");
}

Result<int> policy_check(const Arguments& arguments) {
  if (!arguments.has("file")) return usage("sallyport policy check FILE [--roots FILE [--references FILE]]");
  SP_TRY(const Bytes text, read_policy(arguments.text("file")));
  SP_TRY(std::optional<record::PolicyDocument> beside, read_beside(arguments, nullptr));
  SP_TRY(const CheckedPolicy checked, check_policy(text, std::move(beside)));
  if (arguments.json) {
    print_json(policy_json(checked.policy));
    return 0;
  }
  std::cout << policy_summary(checked.policy);
  if (checked.loaded)
    std::cout << "witnesses  " << checked.loaded->witnesses.k() << " of " << checked.loaded->witnesses.n()
              << " · roots " << checked.loaded->roots.roots.size() << ", intermediates "
              << checked.loaded->roots.intermediates.size() << "\nloads\n";
  else
    std::cout << "loads; witnesses and TPM roots were not judged (--roots FILE)\n";
  return 0;
}

// ---- policy show

void show_flags(po::options_description& flags) {
  flags.add_options()("text", "the very text of the document")(
      "sync", "follow the log to its head first (needs your token)");
}

Result<int> policy_show(const Arguments& arguments) {
  SP_TRY(const Source source, in_force(arguments));
  if (arguments.has("text")) {
    std::cout << source.policy().text << std::flush;
    return 0;
  }
  if (arguments.json) {
    print_json(policy_json(source.policy()));
    return 0;
  }
  std::cout << policy_summary(source.policy()) << "witnesses  " << source.in_force->witnesses.k() << " of "
            << source.in_force->witnesses.n() << "\n";
  note("in force", "since leaf " + grouped(source.in_force->first_index.get()) + ", as of " + source.seen);
  return 0;
}

// ---- policy diff

void diff_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(), "the new document")(
      "with", po::value<std::string>(), "compare with this document, not with the policy in force")(
      "sync", "follow the log to its head first (needs your token)");
}

Result<int> policy_diff(const Arguments& arguments) {
  if (!arguments.has("file")) return usage("sallyport policy diff FILE [--with FILE]");
  SP_TRY(const Bytes text, read_policy(arguments.text("file")));
  SP_TRY(const CheckedPolicy next, check_policy(text, std::nullopt));
  Source before;
  if (arguments.has("with")) {
    SP_TRY(const Bytes other, read_policy(arguments.text("with")));
    SP_TRY(CheckedPolicy checked, check_policy(other, std::nullopt));
    before.draft = std::move(checked.policy);
  } else {
    SP_TRY(before, in_force(arguments));
  }
  const std::vector<policy::DiffLine> lines = policy::diff(before.policy(), next.policy);
  const Status follows = policy::check_successor(before.policy(), next.policy);
  if (arguments.json) {
    Value::Array array;
    for (const policy::DiffLine& line : lines)
      array.push_back(Value::object({{"id", line.id},
                                     {"section", line.section},
                                     {"sign", std::string(1, line.sign)},
                                     {"text", line.text}}));
    print_json(Value::object({{"diff", std::move(array)},
                              {"from", to_hex(before.policy().digest)},
                              {"successor", Value{follows.has_value()}},
                              {"to", to_hex(next.policy.digest)}}));
    return 0;
  }
  for (const policy::DiffLine& line : lines) std::cout << printable(policy::render(line)) << "\n";
  if (lines.empty()) std::cout << "no difference in meaning\n";
  std::cout << "loads    " << (follows.has_value() ? "and follows" : "but does not follow") << " version "
            << before.policy().version << (follows.has_value() ? "" : ": " + printable(follows.error().what))
            << "\nneeds    " << printable(policy::quorum_text(before.policy().authority.change))
            << ", of version " << before.policy().version << "\n";
  return 0;
}

// ---- policy explain, who

void explain_flags(po::options_description& flags) {
  flags.add_options()("who", po::value<std::string>(), "the person who would ask")(
      "for", po::value<std::string>(), "the beneficiary, if it is another person")(
      "resource", po::value<std::string>(), "resource, or one of its hosts")(
      "as", po::value<std::string>(), "account; without it the first one of the rule that matches")(
      "duration", po::value<std::string>(), "wished, such as 5m")(
      "device-region", po::value<std::string>(), "region of the machine; without it the policy's own")(
      "from", po::value<std::string>(), "network address; without it an address of the policy's own region")(
      "country", po::value<std::string>(), "what a geolocation database says of the address: US");
  source_flags(flags);
}

Result<int> policy_explain(const Arguments& arguments) {
  if (!arguments.has("who") || !arguments.has("resource"))
    return usage("sallyport policy explain --who PERSON --resource RESOURCE [--as ACCOUNT] …");
  SP_TRY(const Source source, named(arguments));
  const policy::Policy& policy = source.policy();
  policy::DecisionInputs inputs;
  inputs.requester = PersonId{arguments.text("who")};
  inputs.beneficiary = PersonId{arguments.text("for", arguments.text("who"))};
  inputs.account = arguments.text("as");
  if (arguments.has("duration")) {
    SP_TRY(const std::uint64_t wished, parse_duration(arguments.text("duration")));
    inputs.duration = std::chrono::seconds{static_cast<std::int64_t>(wished)};
  }
  const std::string target = arguments.text("resource");
  if (const auto host = policy::find_host(policy, target)) {
    inputs.resource = host->resource->id;
    inputs.host = host->host->name;
  } else {
    inputs.resource = ResourceId{target};
    if (const policy::Resource* resource = policy::find_resource(policy, inputs.resource);
        resource != nullptr && !resource->hosts.empty())
      inputs.host = resource->hosts[0].name;
  }
  inputs.device_region = RegionId{arguments.text("device-region", policy.authority.region.get())};
  inputs.network_region = arguments.has("from") ? policy::region_of_address(policy, arguments.text("from"),
                                                                            arguments.text("country"))
                                                : policy.authority.region;
  if (!arguments.has("device-region"))
    note("assumed", "a machine of region " + printable(inputs.device_region.get()));
  note(arguments.has("from") ? "network" : "assumed",
       "a network of region " + printable(inputs.network_region.get()));
  if (arguments.json)
    print_json(explain_json(policy, inputs));
  else
    std::cout << explain_text(policy, inputs);
  const policy::Outcome outcome = policy::decide(policy, inputs);
  const auto* refusal = std::get_if<policy::Refusal>(&outcome);
  return refusal == nullptr ? 0 : reason_exit_code(refusal->reason);
}

void who_flags(po::options_description& flags) {
  flags.add_options()("resource", po::value<std::string>(), "the resource");
  source_flags(flags);
}

Result<int> policy_who(const Arguments& arguments) {
  if (!arguments.has("resource")) return usage("sallyport policy who RESOURCE");
  SP_TRY(const Source source, named(arguments));
  const ResourceId resource{arguments.text("resource")};
  if (policy::find_resource(source.policy(), resource) == nullptr)
    return Error{Code::kDenied, Reason::kPolicyUnknownResource, resource.get() + " is not in the policy"};
  if (!arguments.json) {
    std::cout << who_text(source.policy(), resource);
    return 0;
  }
  Value::Array rows;
  for (const policy::WhoRow& one : policy::who(source.policy(), resource))
    rows.push_back(Value::object({{"account", one.account},
                                  {"command", one.command},
                                  {"duration", static_cast<std::uint64_t>(one.duration.count())},
                                  {"people", static_cast<std::uint64_t>(one.people)},
                                  {"quorum", one.quorum},
                                  {"rule", one.rule.get()},
                                  {"whom", one.whom}}));
  print_json(Value::object({{"rows", std::move(rows)}}));
  return 0;
}

// ---- policy propose

Result<int> policy_propose(const Arguments& arguments) {
  if (!arguments.has("file"))
    return usage("sallyport policy propose FILE [--roots FILE] [--references FILE]");
  SP_TRY(Bytes text, read_policy(arguments.text("file")));
  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(const auto current, opened->session->policy());
  SP_TRY(const policy::Policy parsed, policy::parse_policy(as_text(text)));
  SP_TRY(std::optional<record::PolicyDocument> beside, read_beside(arguments, current.get()));
  if (!parsed.authority.references && !arguments.has("references")) beside->references.reset();
  SP_TRY(const CheckedPolicy next, check_policy(text, std::move(beside)));
  SP_CHECK(policy::check_successor(current->policy, next.policy));
  for (const policy::DiffLine& line : policy::diff(current->policy, next.policy))
    std::cerr << printable(policy::render(line)) << "\n";

  record::PolicyProposed proposal;
  proposal.authority = opened->settings.anchor.origin.get();
  proposal.case_id = crypto::random_case_id();
  proposal.digest = next.policy.digest;
  proposal.person = opened->settings.person;
  proposal.previous = current->policy.digest;
  proposal.time = now();
  proposal.version = next.policy.version;
  SP_TRY(Bytes envelope,
         opened->signer->envelope(record::payload_type(Kind::kPolicyProposed), record::encode(proposal)));
  SP_TRY(const api::Submitted submitted,
         opened->session->submit({std::move(envelope), record::blobs_of(next.loaded->document())}));
  if (submitted.code) return Error{Code::kDenied, *submitted.code, submitted.detail};
  if (arguments.json) {
    print_json(Value::object({{"case", to_hex(proposal.case_id)},
                              {"digest", to_hex(proposal.digest)},
                              {"leaf", submitted.leaf},
                              {"version", proposal.version}}));
    return 0;
  }
  std::cout << "proposed · version " << proposal.version << " · case " << short_case(proposal.case_id)
            << " · leaf " << grouped(submitted.leaf) << "\n";
  note("needs", printable(policy::quorum_text(current->policy.authority.change)) +
                    " within 72 h: sallyport policy approve " + short_case(proposal.case_id));
  return 0;
}

// ---- revoke

void revoke_flags(po::options_description& flags) {
  flags.add_options()("kind", po::value<std::string>(), "case, device, person or token")(
      "target", po::value<std::string>(),
      "a case's id or the beginning of it; a machine's name or id; a person's id; a token's id or key id")(
      "reason", po::value<std::string>(), "why: auditors read it");
}

// What a revocation statement names: hexadecimal, or a person's id.
Result<std::string> resolve_target(Opened& opened, RevocationKind kind, const std::string& typed) {
  SP_TRY(const auto loaded, opened.session->policy());
  switch (kind) {
    case RevocationKind::kCase: {
      SP_TRY(const CaseId case_id, pick_case(opened, typed));
      return to_hex(case_id);
    }
    case RevocationKind::kDevice:
    case RevocationKind::kRetired:
    case RevocationKind::kLost: {
      const auto control = opened.session->control();
      SP_TRY(const DeviceId id, find_device_id(typed, control->devices(), *control));
      return to_hex(id);
    }
    case RevocationKind::kPerson:
      if (policy::find_person(loaded->policy, PersonId{typed}) == nullptr)
        return Error{Code::kDenied, Reason::kPolicyUnknownPerson, typed + " is not in the policy"};
      return typed;
    case RevocationKind::kToken: {
      if (const auto id = parse_key_id(typed)) return to_hex(*id);
      std::optional<KeyId> found;
      for (const policy::Person& person : loaded->policy.persons)
        for (const policy::Token& token : person.tokens)
          if (token.id == typed) {
            if (found) return usage("several tokens are called " + typed + "; name its key id");
            found = token.sign.id();
          }
      if (!found) return Error{Code::kDenied, Reason::kPolicyUnknownPerson, "no token is called " + typed};
      return to_hex(*found);
    }
  }
  return usage("revoke what?");
}

Result<int> revoke(const Arguments& arguments) {
  const std::string kind = arguments.text("kind");
  record::Revocation revocation;
  if (kind == "case")
    revocation.kind = RevocationKind::kCase;
  else if (kind == "device")
    revocation.kind = RevocationKind::kDevice;
  else if (kind == "person")
    revocation.kind = RevocationKind::kPerson;
  else if (kind == "token")
    revocation.kind = RevocationKind::kToken;
  else
    return usage("sallyport revoke case|device|person|token TARGET --reason WHY");
  if (!arguments.has("target") || arguments.text("reason").empty())
    return usage("sallyport revoke " + kind + " TARGET --reason WHY");

  SP_TRY(const auto opened, open_session(arguments, MachineUse::kNone));
  SP_TRY(revocation.target, resolve_target(*opened, revocation.kind, arguments.text("target")));
  SP_TRY(const Revoked revoked,
         send_revocation(*opened, revocation.kind, revocation.target, arguments.text("reason")));
  if (arguments.json)
    print_json(Value::object({{"case", to_hex(revoked.case_id)},
                              {"kind", kind},
                              {"leaf", revoked.leaf.get()},
                              {"target", revocation.target}}));
  else
    std::cout << "revoked " << kind << " " << printable(revocation.target) << " · leaf "
              << grouped(revoked.leaf.get()) << ", cosigned\n";
  return 0;
}

// ---- version

Result<int> version(const Arguments& arguments) {
  if (arguments.json) {
    print_json(Value::object({{"api", std::uint64_t{1}},
                              {"dossier", "spdossr1"},
                              {"leaf", static_cast<std::uint64_t>(ledger::kLeafVersion)},
                              {"statements", "v1"},
                              {"version", SALLYPORT_VERSION}}));
    return 0;
  }
  std::cout << "sallyport " SALLYPORT_VERSION "\nAPI 1 · leaves version " << int{ledger::kLeafVersion}
            << " · statements v1 · dossiers spdossr1\n";
  return 0;
}

}  // namespace

std::vector<Command> commands() {
  return {
      {"policy check",
       "policy check FILE [--roots FILE [--references FILE]]",
       "read a policy document and say whether it loads",
       "Offline. With --roots everything is judged that a follower would judge; exit code 3 when it does not "
       "load, and the line.\n\n"
       "  sallyport policy check draft.toml --roots tpm-roots.pem\n",
       check_flags,
       {"file"},
       policy_check},
      {"policy show",
       "policy show [--text] [--sync]",
       "the policy in force",
       "As this machine last followed the log; --sync asks the broker for what is new first. --text prints "
       "the "
       "document itself.\n",
       show_flags,
       {},
       policy_show},
      {"policy diff",
       "policy diff FILE [--with FILE]",
       "what a document would change, in meaning",
       "Against the policy in force, or against another document. Comments and white space are not meaning; "
       "the "
       "order of rules is.\n",
       diff_flags,
       {"file"},
       policy_diff},
      {"policy explain",
       "policy explain --who PERSON --resource RESOURCE [--as ACCOUNT] [--device-region R] [--from ADDRESS]",
       "how the policy would judge a request, rule by rule",
       "Asks nobody and records nothing. The exit code is that of the refusal (3 or 6), or 0.\n\n"
       "  sallyport policy explain --who wei@corp.example --resource user-db --as dbadmin --from 10.20.4.9\n",
       explain_flags,
       {},
       policy_explain},
      {"policy who",
       "policy who RESOURCE",
       "who may reach a resource, and with whose approval",
       "One line for each account and rule.\n",
       who_flags,
       {"resource"},
       policy_who},
      {"policy propose",
       "policy propose FILE [--roots FILE] [--references FILE]",
       "propose a document as the next policy",
       "It must load and follow the policy in force. It rules once its change quorum has approved, within 72 "
       "hours. Without --roots\n"
       "the bundle of the policy in force is taken.\n",
       check_flags,
       {"file"},
       policy_propose},
      {"revoke",
       "revoke case|device|person|token TARGET --reason WHY",
       "take something out of service at once, and for good",
       "Running sessions that rest on it end. It is told as done only when this machine has seen it in the "
       "cosigned log.\n"
       "A revoked device, person or token never comes back: enrol or list another one.\n"
       "A machine goes by the name that it was enrolled with, by its id, or by the first 8 digits of it or "
       "more; a case by its id or the\n"
       "beginning of it. What could mean several is refused.\n\n"
       "  sallyport revoke device erin-laptop --reason \"stolen\"\n"
       "  sallyport revoke token alice-yk1 --reason \"lost on the train\"\n",
       revoke_flags,
       {"kind", "target"},
       revoke},
      {"version",
       "version",
       "version of this program, and of the formats that it speaks",
       "The formats are those of attestation/record/README.md.\n",
       nullptr,
       {},
       version},
  };
}

}  // namespace sallyport::client::admin

#include "client/engineer/access.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/record/appraise.h"
#include "attestation/record/binding.h"
#include "broker/credentials/ssh_certificate.h"
#include "client/connection/ima.h"
#include "client/engineer/progress.h"
#include "client/terminal/cases.h"
#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

using record::Blob;
using record::EvidenceType;
using std::chrono::milliseconds;

constexpr std::size_t kMaxAttachments = 8;
constexpr milliseconds kPoll{25'000};     // one long poll
constexpr milliseconds kLivePoll{1'000};  // where a line is written again each second
constexpr milliseconds kPause{500};       // between attempts to reach what is away

// resolve finds the one host that a name means.
Result<policy::HostOfResource> resolve(const policy::Policy& policy, const std::string& target) {
  if (const auto host = policy::find_host(policy, target)) return *host;
  const policy::Resource* resource = policy::find_resource(policy, ResourceId{target});
  if (resource == nullptr)
    return Error{Code::kDenied, Reason::kPolicyUnknownResource,
                 "no host or resource is called " + printable(target)};
  if (resource->hosts.size() != 1) {
    std::string names;
    for (const policy::Host& host : resource->hosts) names += (names.empty() ? "" : ", ") + host.name;
    return usage(target + " has several hosts; name one: " + names);
  }
  return policy::HostOfResource{resource, &resource->hosts[0]};
}

Result<Bytes> read_attachment(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  if (!in) return usage("cannot read " + path);
  Bytes bytes{std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
  if (bytes.empty() || bytes.size() > record::max_evidence_bytes(EvidenceType::kAttachment))
    return usage(path + " is empty or larger than 16 MiB");
  return bytes;
}

// make_session_key makes the key of a case, and tells of the machine. The same case in the same boot, in the
// same boot state, gives the same key.
Result<tpm::SessionKey> make_session_key(Opened& opened, const record::LoadedPolicy& policy,
                                         const MachineProof& machine, const CaseId& case_id) {
  const evidence::PcrSelection& selection = policy.references.selection;
  SP_TRY(const auto pcrs, opened.tpm->read_pcrs(selection));
  const Digest256 pcr_digest = evidence::pcr_digest(pcrs);
  const auto control = opened.session->control();
  if (const record::Device* device = control->find_device(machine.device))
    note("machine",
         printable(device->name) + " · region " + printable(device->region.get()) +
             (device->baseline.pcr_digest == pcr_digest ? " · booted as enrolled"
                                                        : " · boot " + to_hex(pcr_digest).substr(0, 16)));
  const crypto::PublicKey& lease = policy.policy.authority.keys.lease;
  SP_TRY(const auto lease_key, evidence::lease_key_public(lease));
  const evidence::SessionKeyPolicy key_policy{
      selection,
      pcr_digest,
      machine.boot.clock.reset_count,
      machine.boot.clock.restart_count,
      lease_key.name,
      evidence::lease_policy_ref(opened.settings.anchor.origin, case_id)};
  return opened.tpm->create_session_key(evidence::SessionKeyUse::kSign, key_policy, lease);
}

// find_entry gives the newest entry of a kind in a case.
const api::EntryView* find_entry(const api::CaseView& view, record::Kind kind) {
  const auto found = std::find_if(view.entries.rbegin(), view.entries.rend(), [&](const auto& one) {
    return one.entry.leaf.kind == static_cast<std::uint8_t>(kind);
  });
  return found == view.entries.rend() ? nullptr : &*found;
}

// over gives the error of a case in which nothing will be granted any more.
std::optional<Error> over(Opened& opened, const api::CaseView& view) {
  const std::string name = "case " + short_case(view.case_id);
  if (view.state == "denied") {
    const auto denied = find_denial(opened, view);
    return Error{Code::kDenied, Reason::kCaseDenied,
                 name + " was denied" + (denied ? " by " + denial_text(*denied, now()) : "")};
  }
  if (view.state == "expired") return Error{Code::kDenied, Reason::kCaseExpired, name + " has expired"};
  if (view.state == "closed" || view.state == "refused")
    return Error{Code::kDenied, Reason::kCaseClosed, name + " is " + view.state};
  return std::nullopt;
}

// grant_end is when the grant of a case ends, as the broker shows it: of use only to stop waiting.
std::optional<UnixMillis> grant_end(const api::CaseView& view) {
  const api::EntryView* entry = find_entry(view, record::Kind::kGrant);
  if (entry == nullptr) return std::nullopt;
  const auto body = record::open_body(entry->entry);
  if (!body.has_value()) return std::nullopt;
  const auto statement = record::open_statement(*body);
  if (!statement.has_value()) return std::nullopt;
  const auto grant = record::parse_grant(statement->envelope.payload);
  if (!grant.has_value()) return std::nullopt;
  const auto decision = record::parse_decision(grant->decision);
  if (!decision.has_value() || decision->duration_s > 24 * 3600) return std::nullopt;
  return UnixMillis{entry->entry.leaf.time.get() + decision->duration_s * 1000};
}

milliseconds until_then(SteadyTime until) {
  return std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now());
}

}  // namespace

std::string refused_text(const policy::Policy& policy, const record::Request& request, Reason code) {
  policy::DecisionInputs inputs{PersonId{request.person},
                                PersonId{request.beneficiary},
                                ResourceId{request.resource},
                                request.host,
                                request.account,
                                std::chrono::seconds{request.duration_s},
                                policy.authority.region,
                                policy.authority.region};
  const policy::Outcome outcome = policy::decide(policy, inputs);
  const auto* refusal = std::get_if<policy::Refusal>(&outcome);
  if (refusal == nullptr || refusal->reason != code) return {};
  std::string text = refusal->detail + ".";
  // To whom the same rule gives less, the refusal's own words have said what it gives.
  if (refusal->limited && refusal->limited->rule != refusal->rule) {
    text += "\n  A limited way exists: rule " + refusal->limited->rule.get() + " (" +
            refusal->limited->account + ", " +
            duration_text(static_cast<std::uint64_t>(refusal->limited->duration.count()));
    if (!refusal->limited->command.empty()) text += ", command " + refusal->limited->command;
    text += "), needs ";
    bool first = true;
    for (const policy::Clause& clause : refusal->limited->quorum) {
      text += (first ? "" : " and ") + std::to_string(clause.approvals) + " of " + clause.group.get();
      first = false;
    }
    text += ":\n      sallyport ssh " + request.host + " --reason …";
  }
  return text;
}

Result<Asked> ask(Opened& opened, const Wish& wish) {
  SP_TRY(const auto policy, opened.session->policy());
  SP_TRY(const policy::HostOfResource where, resolve(policy->policy, wish.target));
  if (wish.reason.empty()) return usage("say why, with --reason: approvers and auditors read it");
  if (wish.files.size() > kMaxAttachments) return usage("at most 8 files can be attached");
  tpm::Tpm& tpm = *opened.tpm;
  const std::string origin = opened.settings.anchor.origin.get();

  record::Request request;
  request.case_id = crypto::random_case_id();
  request.account = wish.account;
  request.action = "ssh";
  request.authority = origin;
  request.beneficiary = wish.beneficiary.empty() ? opened.settings.person : wish.beneficiary;
  request.duration_s = wish.duration_s;
  request.host = where.host->name;
  request.person = opened.settings.person;
  request.reason = wish.reason;
  request.resource = where.resource->id.get();
  std::vector<Blob> blobs;
  for (const std::string& path : wish.files) {
    SP_TRY(Bytes bytes, read_attachment(path));
    request.attachments.push_back(
        {std::filesystem::path{path}.filename().string(), crypto::sha256(bytes), bytes.size()});
    blobs.push_back({EvidenceType::kAttachment, std::move(bytes)});
  }

  SP_TRY(const MachineProof machine, identify_machine(tpm));
  request.device = machine.device;
  const auto noted = opened.session->follower().noted();
  if (!noted) return Error{Code::kUnavailable, Reason::kLogQuorum, "no cosigned checkpoint is known yet"};
  const std::string note = opened.session->follower().note();
  request.head_root = noted->root();
  request.head_size = noted->size().get();

  SP_TRY(tpm::SessionKey key, make_session_key(opened, *policy, machine, request.case_id));
  const ByteView name = view(key.name);
  if (name.size() != request.key.size()) return Error{Code::kInternal, "a Name of another size"};
  std::copy(name.begin(), name.end(), request.key.begin());
  SP_TRY(const api::Hello hello, opened.session->hello());
  request.nonce = hello.nonce;
  request.time = now();

  const Bytes payload = record::encode(request);
  const std::string type = record::payload_type(record::Kind::kRequest);
  const Digest256 digest = record::statement_digest(type, payload);
  evidence::Binding binding{
      evidence::Purpose::kRequest, Origin{origin}, request.case_id, digest, request.nonce,
      note_text_digest(note)};
  // The person first, who may take a while: the TPM's clock in the quote is held against the leaf's time.
  SP_TRY(Bytes envelope, opened.signer->envelope(type, payload));
  SP_TRY(Blob quote, quote_machine(tpm, policy->references.selection, binding));
  if (wants_ima(*policy)) {
    SP_TRY(auto measured, quote_ima(tpm, opened.settings, evidence::binding_digest(binding)));
    std::move(measured.begin(), measured.end(), std::back_inserter(blobs));
  }
  binding.purpose = evidence::Purpose::kKey;
  SP_TRY(const evidence::SignedAttest certified, tpm.certify(key, evidence::binding_digest(binding)));
  blobs.push_back(std::move(quote));
  if (auto log = wanted_event_log(*policy, opened.settings)) blobs.push_back(std::move(*log));
  blobs.push_back({EvidenceType::kKey, record::encode(record::KeyEvidence{key.public_area, certified.attest,
                                                                          certified.signature})});
  blobs.push_back({EvidenceType::kNote, to_bytes(as_bytes(note))});
  SP_TRY(const api::Submitted submitted, opened.session->submit({std::move(envelope), std::move(blobs)}));
  if (submitted.code) {
    std::string detail = refused_text(policy->policy, request, *submitted.code);
    if (detail.empty()) detail = printable(submitted.detail);
    return Error{Code::kDenied, *submitted.code,
                 detail + "\n  This attempt is recorded: case " + short_case(request.case_id) + ", leaf " +
                     grouped(submitted.leaf) + "."};
  }
  return Asked{request.case_id, request, digest, std::move(key)};
}

Result<Asked> take_up(Opened& opened, const CaseId& case_id) {
  SP_TRY(const api::CaseView shown, opened.session->view(case_id));
  const std::string name = "case " + short_case(case_id);
  const api::EntryView* entry = find_entry(shown, record::Kind::kRequest);
  if (shown.kind != "access" || shown.person != opened.settings.person || entry == nullptr)
    return Error{Code::kDenied, Reason::kCaseUnknown, name + " is no request of yours"};
  if (const auto error = over(opened, shown)) return *error;

  // The broker shows it; our log, our person's signature and our TPM say that it is ours.
  SP_TRY(const auto policy, opened.session->policy());
  const auto control = opened.session->control();
  SP_TRY(record::Body body, open_shown(leaves_of(opened), case_id, *entry));
  SP_TRY(const record::OpenedStatement statement, record::open_statement(std::move(body)));
  SP_TRY(const record::RequestClaim claim, record::verify_request_claim(*control, *policy, statement));
  if (claim.request.person != opened.settings.person)
    return Error{Code::kDenied, Reason::kCaseUnknown, name + " is no request of yours"};
  SP_TRY(const MachineProof machine, identify_machine(*opened.tpm));
  if (claim.request.device != machine.device)
    return Error{Code::kDenied, Reason::kNotAttested,
                 name + " was asked for from another machine; its key is in the TPM there"};
  SP_TRY(tpm::SessionKey key, make_session_key(opened, *policy, machine, case_id));
  if (!equal(view(key.name), claim.request.key))
    return Error{Code::kDenied, Reason::kBootCounters,
                 "the key of " + name +
                     " is gone: this machine booted, slept, or changed its boot state since. "
                     "Ask anew, and end that case:  sallyport request drop " +
                     short_case(case_id)};
  return Asked{case_id, claim.request, claim.digest, std::move(key)};
}

Result<api::CaseView> wait_for_quorum(Opened& opened, const Asked& asked, SteadyTime until) {
  Progress progress;
  std::optional<std::uint64_t> after;
  const milliseconds poll = progress.live() ? kLivePoll : kPoll;
  for (;;) {
    const milliseconds left = until_then(until);
    const auto seen = opened.session->view(asked.case_id, after,
                                           after ? std::clamp(left, milliseconds{0}, poll) : milliseconds{0});
    if (!seen.has_value()) {
      // A broker that starts anew must not cost the request.
      if (awaited(seen.error()).empty() || left.count() <= 0) return seen.error();
      progress.show("for " + std::string{awaited(seen.error())});
      std::this_thread::sleep_for(std::min(left, kPause));
      continue;
    }
    const api::CaseView& view = *seen;
    bool met = !view.quorum.empty();
    for (const api::ClauseView& clause : view.quorum) met = met && clause.have >= clause.needed;
    if (const std::string text = quorum_text(view); !text.empty())
      progress.show(text, live_quorum_text(view, now()));
    if (const auto error = over(opened, view)) return *error;
    if (met || view.state == "granted") return view;
    if (left.count() <= 0)
      return Error{Code::kUnavailable, Reason::kPending,
                   "case " + short_case(asked.case_id) + " still waits: " + quorum_text(view) + "\n" +
                       take_up_text(asked.case_id)};
    after = view.entries.empty() ? 0 : view.entries.back().index;
  }
}

std::string_view awaited(const Error& error) {
  if (error.code != Code::kUnavailable) return {};
  switch (error.reason) {
    case Reason::kPeer:
    case Reason::kPeerTimeout:
      return "the broker, which does not answer";
    case Reason::kLogQuorum:
    case Reason::kGateBehind:  // we have not followed to the grant: it is not cosigned yet
      return "the witnesses: not enough of them have cosigned";
    case Reason::kKeyguardAway:
      return "the keyguard, which does not answer the broker";
    case Reason::kHsmAway:
      return "the region's HSM, which does not answer its keyguard";
    case Reason::kStandbyAway:
      return "the broker's standby, without which nothing is signed";
    case Reason::kUnavailable:
      return "the log, which does not answer in time";
    case Reason::kTpmBusy:
      return "the TPM of this machine, which another program holds";
    case Reason::kStorage:
    case Reason::kHsmProbe:
      return "the region's operators: the broker's or the keyguard's device has failed";
    default:
      return {};
  }
}

namespace {

Result<Access> activate_once(Opened& opened, const Asked& asked) {
  SP_CHECK(opened.session->sync());
  SP_TRY(const auto quoted_for, opened.session->policy());
  const std::string note = opened.session->follower().note();
  const evidence::Binding binding{evidence::Purpose::kActivate,
                                  opened.settings.anchor.origin,
                                  asked.case_id,
                                  asked.digest,
                                  record::activation_nonce(as_bytes(note)),
                                  note_text_digest(note)};
  SP_TRY(Blob quote, quote_machine(*opened.tpm, quoted_for->references.selection, binding));
  std::vector<Blob> evidence;
  evidence.push_back(std::move(quote));
  evidence.push_back({EvidenceType::kNote, to_bytes(as_bytes(note))});
  SP_TRY(const api::Activated activated, opened.session->activate(asked.case_id, evidence));

  // What came back is worth what it proves to our own view of the log.
  SP_CHECK(opened.session->sync());
  SP_TRY(const record::Dossier dossier, record::parse_dossier(activated.dossier));
  SP_TRY(record::VerifiedGrant grant, record::verify_dossier(dossier, *opened.session->control(), now()));
  SP_TRY(const auto certificate, credentials::parse_ssh_certificate(activated.certificate));
  SP_TRY(const auto policy, opened.session->policy());
  SP_CHECK(credentials::verify_ssh_certificate(certificate, grant, policy->policy.authority.keys.ssh_ca));
  if (grant.case_id != asked.case_id || !equal(view(grant.session_key_name), view(asked.key.name).subspan(2)))
    return Error{Code::kUnverified, Reason::kGrantMismatch, "the grant is not of this request"};
  return Access{activated.certificate, activated.dossier, std::move(grant), asked.key};
}

}  // namespace

Result<Access> activate(Opened& opened, const Asked& asked, SteadyTime until) {
  Progress progress;
  std::optional<UnixMillis> ends;
  for (;;) {
    auto access = activate_once(opened, asked);
    if (access.has_value()) return access;
    Error error = std::move(access).error();
    const std::string_view what = awaited(error);
    if (what.empty()) return error;
    if (!ends)
      if (const auto view = opened.session->view(asked.case_id); view.has_value()) {
        if (const auto ended = over(opened, *view)) return *ended;
        ends = grant_end(*view);
      }
    if (ends && now() >= *ends)
      return Error{
          Code::kDenied, Reason::kGrantExpired,
          "it was granted, and ended " + clock_utc(*ends) + " before it could be used: " + error.what};
    const milliseconds left = until_then(until);
    if (left.count() <= 0) {
      error.what += "\n" + take_up_text(asked.case_id);
      return error;
    }
    progress.show("for " + std::string{what});
    std::this_thread::sleep_for(std::min(left, kPause));
  }
}

}  // namespace sallyport::client::engineer

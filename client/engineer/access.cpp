#include "client/engineer/access.h"

#include <fstream>
#include <iostream>
#include <iterator>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/record/binding.h"
#include "broker/credentials/ssh_certificate.h"
#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

using record::Blob;
using record::EvidenceType;
using std::chrono::milliseconds;

constexpr std::size_t kMaxAttachments = 8;
constexpr milliseconds kPoll{25'000};  // one long poll
constexpr milliseconds kPause{500};    // between attempts to reach a broker that is away
constexpr std::string_view kNoBroker = "the broker does not answer; trying again";

bool is_out_of_reach(const Error& error) {
  return error.reason == Reason::kPeer || error.reason == Reason::kPeerTimeout;
}

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

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
  if (refusal->limited) {
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

  const evidence::PcrSelection selection = evidence::PcrSelection::standard();
  SP_TRY(const auto pcrs, tpm.read_pcrs(selection));
  SP_TRY(const auto lease_key, evidence::lease_key_public(policy->policy.authority.keys.lease));
  const evidence::SessionKeyPolicy key_policy{selection,
                                              evidence::pcr_digest(pcrs),
                                              machine.boot.clock.reset_count,
                                              machine.boot.clock.restart_count,
                                              lease_key.name,
                                              evidence::lease_policy_ref(Origin{origin}, request.case_id)};
  SP_TRY(tpm::SessionKey key, tpm.create_session_key(evidence::SessionKeyUse::kSign, key_policy,
                                                     policy->policy.authority.keys.lease));
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
  SP_TRY(Blob quote, quote_machine(tpm, binding));
  binding.purpose = evidence::Purpose::kKey;
  SP_TRY(const evidence::SignedAttest certified, tpm.certify(key, evidence::binding_digest(binding)));
  blobs.push_back(std::move(quote));
  blobs.push_back({EvidenceType::kKey, record::encode(record::KeyEvidence{key.public_area, certified.attest,
                                                                          certified.signature})});
  blobs.push_back({EvidenceType::kNote, to_bytes(as_bytes(note))});
  SP_TRY(Bytes envelope, opened.signer->envelope(type, payload));
  SP_TRY(const api::Submitted submitted, opened.session->submit({std::move(envelope), std::move(blobs)}));
  Asked asked{request.case_id, request, digest, std::move(key), submitted};
  if (submitted.code) {
    std::string detail = refused_text(policy->policy, request, *submitted.code);
    if (detail.empty()) detail = printable(submitted.detail);
    return Error{Code::kDenied, *submitted.code,
                 detail + "\n  This attempt is recorded: case " + short_case(request.case_id) + ", leaf " +
                     grouped(submitted.leaf) + "."};
  }
  return asked;
}

Result<api::CaseView> wait_for_quorum(Opened& opened, const Asked& asked, milliseconds patience) {
  const auto began = std::chrono::steady_clock::now();
  std::optional<std::uint64_t> after;
  std::string shown;
  for (;;) {
    const auto left =
        patience - std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - began);
    const auto seen = opened.session->view(
        asked.case_id, after, after ? std::clamp(left, milliseconds{0}, kPoll) : milliseconds{0});
    if (!seen.has_value()) {
      // The session key lives as long as this command: a broker that starts anew must not cost the request.
      if (!is_out_of_reach(seen.error()) || left.count() <= 0) return seen.error();
      if (shown != kNoBroker) note("waiting", std::string{kNoBroker});
      shown = kNoBroker;
      std::this_thread::sleep_for(std::min(left, kPause));
      continue;
    }
    const api::CaseView& view = *seen;
    std::string line;
    bool met = !view.quorum.empty();
    for (const api::ClauseView& clause : view.quorum) {
      line += (line.empty() ? "" : " · ") + clause.group + " " + std::to_string(clause.have) + " of " +
              std::to_string(clause.needed);
      for (const std::string& person : clause.people) line += " " + printable(person);
      met = met && clause.have >= clause.needed;
    }
    if (line != shown) note("waiting", line);
    shown = line;
    if (view.state == "denied")
      return Error{Code::kDenied, Reason::kCaseDenied, "case " + short_case(asked.case_id) + " was denied"};
    if (view.state == "expired" || view.state == "closed" || view.state == "refused")
      return Error{Code::kDenied, Reason::kCaseExpired,
                   "case " + short_case(asked.case_id) + " is " + view.state};
    if (met || view.state == "granted") return view;
    if (left.count() <= 0)
      return Error{Code::kUnavailable, Reason::kPending,
                   "case " + short_case(asked.case_id) + " still waits: " + line};
    after = view.entries.empty() ? 0 : view.entries.back().index;
  }
}

Result<Access> activate(Opened& opened, const Asked& asked) {
  SP_CHECK(opened.session->sync());
  const std::string note = opened.session->follower().note();
  const evidence::Binding binding{evidence::Purpose::kActivate,
                                  opened.settings.anchor.origin,
                                  asked.case_id,
                                  asked.digest,
                                  record::activation_nonce(as_bytes(note)),
                                  note_text_digest(note)};
  SP_TRY(Blob quote, quote_machine(*opened.tpm, binding));
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

}  // namespace sallyport::client::engineer

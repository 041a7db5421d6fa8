#include "client/auditor/tell.h"

#include "attestation/base/hex.h"
#include "client/terminal/render.h"

namespace sallyport::client::auditor {

using record::Kind;

std::string named_cases(const std::vector<CaseId>& cases) {
  constexpr std::size_t kShown = 4;
  if (cases.empty()) return "every case";
  std::string out = grouped(cases.size()) + (cases.size() == 1 ? " case:" : " cases:");
  for (std::size_t i = 0; i < cases.size() && i < kShown; ++i) out += " " + short_case(cases[i]);
  return out + (cases.size() > kShown ? " …" : "");
}

std::string tell_erased(const KnownErasure& erasure) {
  std::string out = "erased on " + utc(erasure.time) + " by erasure case " +
                    short_case(erasure.what.case_id) + ", approved by ";
  for (std::size_t i = 0; i < erasure.approved_by.size(); ++i)
    out += (i == 0 ? "" : ", ") + erasure.approved_by[i];
  return out;
}

Result<Told> tell(const record::Entry& entry) {
  if (record::is_erased(entry)) return Told{};
  SP_TRY(const record::Body body, record::parse_body(entry.body));
  SP_TRY(const record::Envelope envelope, record::open_envelope(body));
  const Bytes& payload = envelope.payload;
  switch (body.kind) {
    case Kind::kRequest: {
      SP_TRY(const record::Request request, record::parse_request(payload));
      return Told{request.person, request.action + " " + request.host + " (" + request.resource + ")" +
                                      (request.account.empty() ? "" : " as " + request.account) + " for " +
                                      request.beneficiary + ": " + request.reason};
    }
    case Kind::kRefusal: {
      SP_TRY(const record::Refusal refusal, record::parse_refusal(payload));
      return Told{"", std::string{reason_name(refusal.code)}};
    }
    case Kind::kApproval: {
      SP_TRY(const record::Approval approval, record::parse_approval(payload));
      return Told{approval.approver, "decision " + to_hex(approval.decision).substr(0, 16) +
                                         (approval.device ? ", at an attested machine" : "")};
    }
    case Kind::kListApproval: {
      SP_TRY(const record::Approval approval, record::claimed_approval(envelope, body.case_id));
      SP_TRY(const record::ListApproval list, record::parse_list_approval(payload));
      return Told{approval.approver, "statement " + to_hex(approval.decision).substr(0, 16) +
                                         ", in a list of " + std::to_string(list.entries.size()) +
                                         " machines"};
    }
    case Kind::kDenial: {
      SP_TRY(const record::Denial denial, record::parse_denial(payload));
      return Told{denial.approver, denial.reason};
    }
    case Kind::kGrant: {
      SP_TRY(const record::Grant grant, record::parse_grant(payload));
      SP_TRY(const record::DecisionStatement decision, record::parse_decision(grant.decision));
      return Told{decision.person, decision.account + " on " + decision.host + " for " +
                                       duration_text(decision.duration_s) +
                                       (decision.command.empty() ? "" : ", command " + decision.command)};
    }
    case Kind::kLease: {
      SP_TRY(const record::Lease lease, record::parse_lease(payload));
      return Told{"", lease.account + " on " + lease.host};
    }
    case Kind::kSessionOpened: {
      SP_TRY(const record::SessionOpened opened, record::parse_session_opened(payload));
      return Told{opened.host, "channel " + std::to_string(opened.channel) + ", from " + opened.address};
    }
    case Kind::kSessionClosed: {
      SP_TRY(const record::SessionClosed closed, record::parse_session_closed(payload));
      return Told{closed.host,
                  "channel " + std::to_string(closed.channel) + ", " + human_bytes(closed.bytes)};
    }
    case Kind::kEnrolmentRequested: {
      SP_TRY(const record::EnrolmentRequested asked, record::parse_enrolment_requested(payload));
      return Told{asked.person, asked.name + " of region " + asked.region};
    }
    case Kind::kRevocation: {
      SP_TRY(const record::Revocation revocation, record::parse_revocation(payload));
      return Told{revocation.person, revocation.target + ": " + revocation.reason};
    }
    case Kind::kPolicyProposed: {
      SP_TRY(const record::PolicyProposed proposed, record::parse_policy_proposed(payload));
      return Told{proposed.person, "version " + std::to_string(proposed.version)};
    }
    case Kind::kPolicy: {
      SP_TRY(const record::PolicyInForce policy, record::parse_policy_in_force(payload));
      return Told{"", "version " + std::to_string(policy.version)};
    }
    case Kind::kSnapshot: {
      SP_TRY(const record::Snapshot snapshot, record::parse_snapshot(payload));
      return Told{"", "of " + std::to_string(snapshot.size) + " leaves, state " +
                          to_hex(snapshot.state).substr(0, 16)};
    }
    case Kind::kErasureProposed: {
      SP_TRY(const record::ErasureProposed proposed, record::parse_erasure_proposed(payload));
      return Told{proposed.person, named_cases(proposed.cases) + ", opened before " + utc(proposed.before) +
                                       ": " + proposed.reason};
    }
    case Kind::kErasure: {
      SP_TRY(const record::OpenedStatement statement, record::open_statement(body));
      SP_TRY(const KnownErasure erasure, open_erasure(statement, LeafIndex{0}, entry.leaf.time));
      return Told{erasure.what.person, named_cases(erasure.what.cases) + ", opened before " +
                                           utc(erasure.what.before) + ", " + tell_erased(erasure)};
    }
    case Kind::kHold: {
      SP_TRY(const record::Hold hold, record::parse_hold(payload));
      return Told{hold.person, named_cases(hold.cases) + " held from erasure: " + hold.reason};
    }
    case Kind::kHoldLifted: {
      SP_TRY(const record::HoldLifted lifted, record::parse_hold_lifted(payload));
      return Told{lifted.person, "hold " + short_case(lifted.hold) + " lifted: " + lifted.reason};
    }
    case Kind::kEnrolment:
      return Told{"", ""};
  }
  return Told{};
}

}  // namespace sallyport::client::auditor

#include "client/approver/machine_list.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "attestation/crypto/digest.h"
#include "attestation/record/times.h"
#include "client/approver/sign.h"
#include "client/terminal/command.h"
#include "client/terminal/render.h"

namespace sallyport::client::approver {
namespace {

using record::Kind;

constexpr std::string_view kListLabel{"sallyport/list/v1\0", 18};

}  // namespace

Error in_case(const CaseId& case_id, Error error) {
  error.what = short_case(case_id) + ": " + error.what;
  return error;
}

Result<MachineList> make_machine_list(std::vector<Review> reviews) {
  if (reviews.size() < record::kMinListed) return usage("a list has two cases at least");
  if (reviews.size() > record::kMaxListed)
    return usage("a list has " + std::to_string(record::kMaxListed) + " cases at most, and these are " +
                 std::to_string(reviews.size()) + ": sign them in parts");
  std::sort(reviews.begin(), reviews.end(),
            [](const Review& a, const Review& b) { return a.case_id < b.case_id; });
  std::set<DeviceId> machines;
  for (std::size_t i = 0; i < reviews.size(); ++i) {
    const Review& one = reviews[i];
    if (i > 0 && one.case_id == reviews[i - 1].case_id)
      return usage(short_case(one.case_id) + " is there twice");
    if (!one.enrolment)
      return usage("a list is of machines to be enrolled, and " + short_case(one.case_id) + " is a " +
                   std::string{record::kind_name(one.kind)} + ": sallyport approve it alone");
    if (!machines.insert(one.enrolment->device.id).second)
      return usage(short_case(one.case_id) + " is for a machine that another case of the list is for");
    if (one.policy->policy.digest != reviews.front().policy->policy.digest)
      return Error{Code::kDenied, Reason::kPolicyChanged,
                   "another policy came into force while the cases were read; read them again"};
  }
  return MachineList{std::move(reviews)};
}

std::vector<Review> take_rivals(std::vector<Review>& reviews) {
  std::map<DeviceId, std::size_t> cases;
  for (const Review& one : reviews)
    if (one.enrolment) ++cases[one.enrolment->device.id];
  const auto rivals = std::stable_partition(reviews.begin(), reviews.end(), [&](const Review& one) {
    return !one.enrolment || cases[one.enrolment->device.id] == 1;
  });
  std::vector<Review> out{std::make_move_iterator(rivals), std::make_move_iterator(reviews.end())};
  reviews.erase(rivals, reviews.end());
  return out;
}

Digest256 list_digest(const MachineList& list) {
  Bytes message = to_bytes(as_bytes(kListLabel));
  const auto add = [&](ByteView bytes) { message.insert(message.end(), bytes.begin(), bytes.end()); };
  for (const Review& one : list.machines) {
    add(view(one.case_id));
    add(view(one.to_sign));
  }
  return crypto::sha256(message);
}

Status check_list_unchanged(const MachineList& shown, const MachineList& found) {
  for (const Review& now : found.machines) {
    const auto before = std::find_if(shown.machines.begin(), shown.machines.end(),
                                     [&](const Review& one) { return one.case_id == now.case_id; });
    if (before == shown.machines.end())
      return Error{Code::kDenied, Reason::kApprovalOtherDecision,
                   short_case(now.case_id) + " was not shown; nothing was signed"};
    if (const Status same = check_unchanged(*before, now); !same.has_value())
      return in_case(now.case_id, same.error());
  }
  return Done{};
}

Result<record::Submission> sign_list(const MachineList& list, const Origin& origin, const Signer& signer,
                                     const Nonce& nonce, UnixMillis now) {
  record::ListApproval approval;
  approval.approver = signer.person;
  approval.authority = origin.get();
  approval.nonce = nonce;
  approval.time = now;
  UnixMillis last{0};
  for (const Review& one : list.machines) {
    if (const Status may = check_may_sign(one, signer.person, false); !may.has_value())
      return in_case(one.case_id, may.error());
    if (one.expires <= now)
      return in_case(one.case_id,
                     {Code::kDenied, Reason::kCaseExpired, "the case expires before it could be approved"});
    approval.entries.push_back({one.case_id, one.to_sign});
    last = std::max(last, one.expires);
  }
  approval.expires = std::min(last, record::operator+(now, record::kEnrolmentLife));
  record::Submission submission;
  SP_TRY(submission.envelope,
         signer.envelope(record::payload_type(Kind::kListApproval), record::encode(approval)));
  return submission;
}

}  // namespace sallyport::client::approver

#include "client/target/door.h"

#include <algorithm>

#include "broker/credentials/ssh_certificate.h"

namespace sallyport::gate {

Status verify_followed(const Followed& followed, UnixMillis now, std::chrono::seconds max_age) {
  const auto policy = followed.control ? followed.control->policy() : nullptr;
  if (!policy || !followed.checkpoint)
    return Error{Code::kUnavailable, Reason::kGateBehind, "nothing of the log was followed yet"};
  const Status fresh =
      ledger::require_fresh(*followed.checkpoint, policy->witnesses, now, max_age, kMaxClockSkew);
  if (!fresh) return Error{Code::kUnavailable, Reason::kGateBehind, fresh.error().what};
  return Done{};
}

Result<record::VerifiedGrant> verify_login(const Followed& followed, const std::string& host,
                                           std::span<const std::string> accounts, ByteView certificate,
                                           UnixMillis now) {
  SP_TRY(const auto claimed, credentials::parse_ssh_certificate(certificate));
  SP_TRY(const record::Dossier dossier, record::parse_dossier(claimed.travel_dossier));
  if (dossier.form != record::DossierForm::kTravel)
    return Error{Code::kMalformed, "a certificate carries a dossier in travel form"};
  SP_CHECK(verify_followed(followed, now, kMaxNoteAge));
  SP_TRY(record::VerifiedGrant grant, record::verify_dossier(dossier, *followed.control, now));
  SP_CHECK(credentials::verify_ssh_certificate(claimed, grant,
                                               followed.control->policy()->policy.authority.keys.ssh_ca));
  if (grant.host != host)
    return Error{Code::kUnverified, Reason::kGateHost, "the grant is for " + grant.host};
  if (std::find(accounts.begin(), accounts.end(), grant.account) == accounts.end())
    return Error{Code::kUnverified, Reason::kGateAccount, "the grant is for " + grant.account};
  return grant;
}

}  // namespace sallyport::gate

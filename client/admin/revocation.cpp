#include "client/admin/revocation.h"

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "client/terminal/cases.h"
#include "client/terminal/render.h"

namespace sallyport::client::admin {
namespace {

using record::Kind;
using record::RevocationKind;

// is_in_force asks this machine's own log, not the broker.
bool is_in_force(const record::ControlState& control, RevocationKind kind, const std::string& target) {
  switch (kind) {
    case RevocationKind::kCase: {
      const auto id = parse_case_id(target);
      return id.has_value() && control.is_denied(*id);
    }
    case RevocationKind::kDevice: {
      const auto id = parse_device_id(target);
      return id.has_value() && control.is_revoked(*id) && !control.find_retired(*id);
    }
    case RevocationKind::kRetired: {
      const auto id = parse_device_id(target);
      return id.has_value() && control.is_revoked(*id);
    }
    case RevocationKind::kLost: {
      const auto id = parse_device_id(target);
      return id.has_value() && control.find_lost(*id).has_value();
    }
    case RevocationKind::kPerson:
      return control.is_revoked_person(target);
    case RevocationKind::kToken: {
      const auto id = parse_key_id(target);
      return id.has_value() && control.is_revoked_token(*id);
    }
  }
  return false;
}

}  // namespace

Result<Revoked> send_revocation(Opened& opened, RevocationKind kind, const std::string& target,
                                const std::string& reason) {
  const record::Revocation revocation{.authority = opened.settings.anchor.origin.get(),
                                      .case_id = crypto::random_case_id(),
                                      .kind = kind,
                                      .person = opened.settings.person,
                                      .reason = reason,
                                      .target = target,
                                      .time = now()};
  SP_TRY(Bytes envelope,
         opened.signer->envelope(record::payload_type(Kind::kRevocation), record::encode(revocation)));
  SP_TRY(const api::Submitted submitted, opened.session->submit({std::move(envelope), {}}));
  if (submitted.code) return Error{Code::kDenied, *submitted.code, submitted.detail};
  const bool proven =
      wait_cosigned(opened, LeafIndex{submitted.leaf}, Kind::kRevocation, revocation.case_id) &&
      is_in_force(*opened.session->control(), kind, target);
  if (!proven)
    return Error{Code::kUnavailable, Reason::kLogQuorum,
                 "the revocation is recorded as leaf " + grouped(submitted.leaf) +
                     ", but not proven to this machine; look again before you rely on it"};
  return Revoked{revocation.case_id, LeafIndex{submitted.leaf}};
}

}  // namespace sallyport::client::admin

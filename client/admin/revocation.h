#pragma once

#include "client/terminal/command.h"

namespace sallyport::client::admin {

struct Revoked {
  CaseId case_id;
  LeafIndex leaf;
};

// send_revocation signs and sends a revocation of `target`, spelled as statements spell it.
//   Proves:  this machine has seen it in the cosigned log, in force.
//   Errors:  that of a refusal; kLogQuorum (recorded, but not proven to this machine yet).
Result<Revoked> send_revocation(Opened& opened, record::RevocationKind kind, const std::string& target,
                                const std::string& reason);

}  // namespace sallyport::client::admin

#pragma once

#include <string_view>

#include "attestation/record/canonical_json.h"
#include "attestation/record/dossier.h"

namespace sallyport::client::auditor {

// kEatProfile is the `eat_profile` of every claims set of this room: README.md, "As EAT claims", is what it
// names. Another shape gets another one.
inline constexpr std::string_view kEatProfile = "urn:uuid:13057588-ab78-4bc2-89d0-72bc08ca14eb";

// eat_claims verifies a dossier as of its grant's leaf and gives what it proves of the machine, its boot and
// its session key as a claims set of RFC 9711, in JSON. One dossier and log have one claims set.
//   Proves:         what verify_dossier proves against `control`, whose owner knows how far it has followed.
//   Does not prove: anything to whoever gets the claims without the dossier: nobody has signed them.
//   Errors:         those of verify_dossier.
Result<record::json::Value> eat_claims(const record::Dossier& dossier, const record::ControlState& control);

}  // namespace sallyport::client::auditor

#pragma once

#include "attestation/evidence/quote.h"

namespace sallyport::evidence {

// verify_signed_attest is what verify_quote and verify_certify have in common: exact decoding, then the AK's
// signature, then qualifiedSigner and extraData. Of this room only.
Result<ClaimedAttest> verify_signed_attest(const SignedAttest& evidence, const AttestationKey& ak,
                                           const Digest256& binding, const crypto::VerifiedSignatures* known);

}  // namespace sallyport::evidence

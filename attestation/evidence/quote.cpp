#include "attestation/evidence/quote.h"

#include "attestation/base/secret_bytes.h"
#include "attestation/evidence/signed_attest.h"

namespace sallyport::evidence {

Result<ClaimedAttest> verify_signed_attest(const SignedAttest& evidence, const AttestationKey& ak,
                                           const Digest256& binding,
                                           const crypto::VerifiedSignatures* known) {
  SP_TRY(ClaimedAttest claimed, parse_attest(evidence.attest));
  SP_TRY(const TpmSignature signature, parse_signature(evidence.signature));
  if (signature.scheme != ak.area().form.scheme)
    return Error{Code::kUnverified, Reason::kQuoteSignature, "signature in another scheme than the key's"};
  SP_CHECK(verify_tpm_signature(ak.key(), evidence.attest, signature, known));
  if (claimed.qualified_signer != ak.qualified_name())
    return Error{Code::kUnverified, Reason::kQuoteSignature, "signer that is not an endorsement primary"};
  if (!equal_in_constant_time(claimed.extra_data, view(binding)))
    return Error{Code::kUnverified, Reason::kQuoteNonce, "evidence that is bound to something else"};
  return claimed;
}

Result<VerifiedQuote> verify_quote(const SignedAttest& evidence, const AttestationKey& ak,
                                   const Digest256& binding, const PcrSelection& selection,
                                   const crypto::VerifiedSignatures* known) {
  SP_TRY(const ClaimedAttest claimed, verify_signed_attest(evidence, ak, binding, known));
  const auto* quote = std::get_if<ClaimedQuote>(&claimed.attested);
  if (quote == nullptr) return Error{Code::kMalformed, "attestation that is not a quote"};
  if (quote->selection != selection)
    return Error{Code::kUnverified, Reason::kQuotePcrs, "quote of another PCR selection"};
  return VerifiedQuote{claimed.clock, claimed.firmware_version, *quote};
}

Result<VerifiedQuote> verify_quote(const SignedAttest& evidence, const AttestationKey& ak,
                                   const Digest256& binding, const PcrSelection& selection,
                                   std::span<const Digest256> pcr_values,
                                   const crypto::VerifiedSignatures* known) {
  SP_TRY(VerifiedQuote quote, verify_quote(evidence, ak, binding, selection, known));
  if (pcr_values.size() != selection.count() || pcr_digest(pcr_values) != quote.pcr_digest())
    return Error{Code::kUnverified, Reason::kQuotePcrs, "PCR values that are not the quoted ones"};
  quote.values_.assign(pcr_values.begin(), pcr_values.end());
  return quote;
}

}  // namespace sallyport::evidence

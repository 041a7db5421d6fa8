#pragma once

#include <span>
#include <vector>

#include "attestation/evidence/attest.h"
#include "attestation/evidence/signature.h"
#include "attestation/evidence/templates.h"

namespace sallyport::evidence {

// SignedAttest is what TPM2_Quote or TPM2_Certify gives: TPMS_ATTEST and TPMT_SIGNATURE, each without the
// TPM2B size.
struct SignedAttest {
  Bytes attest;
  Bytes signature;
  friend bool operator==(const SignedAttest&, const SignedAttest&) = default;
};

class VerifiedQuote {
 public:
  const ClockInfo& clock() const { return clock_; }
  std::uint64_t firmware_version() const { return firmware_version_; }
  const PcrSelection& selection() const { return quote_.selection; }
  const Digest256& pcr_digest() const { return quote_.pcr_digest; }
  // pcr_values() is empty unless verify_quote was given them; then they are in order of index.
  const std::vector<Digest256>& pcr_values() const { return values_; }

 private:
  friend Result<VerifiedQuote> verify_quote(const SignedAttest& evidence, const AttestationKey& ak,
                                            const Digest256& binding, const PcrSelection& selection,
                                            const crypto::VerifiedSignatures* known);
  friend Result<VerifiedQuote> verify_quote(const SignedAttest& evidence, const AttestationKey& ak,
                                            const Digest256& binding, const PcrSelection& selection,
                                            std::span<const Digest256> pcr_values,
                                            const crypto::VerifiedSignatures* known);
  VerifiedQuote(const ClockInfo& clock, std::uint64_t firmware_version, const ClaimedQuote& quote)
      : clock_(clock), firmware_version_(firmware_version), quote_(quote) {}
  ClockInfo clock_;
  std::uint64_t firmware_version_;
  ClaimedQuote quote_;
  std::vector<Digest256> values_;
};

// verify_quote checks a quote (TPMS_ATTEST, Part 2 rev 1.59 §10.12.12): exact decoding, type, qualifiedSigner
// = the AK as a primary of the endorsement hierarchy, extraData = `binding`, the selection exactly
// `selection`, the signature.
//   Proves:         the holder of `ak` quoted this PCR digest and these counters after learning what went
//   into `binding`. Does not prove: that `ak` lives in a genuine TPM (an enrolment does), that the boot state
//   is a good one (check_baseline), or that
//                   the counters follow earlier ones (check_counters).
//   Errors:         kMalformed; kUnverified with kQuoteSignature, kQuoteNonce or kQuotePcrs.   Pure; one
//   signature check, unless `known` holds that signature.
Result<VerifiedQuote> verify_quote(const SignedAttest& evidence, const AttestationKey& ak,
                                   const Digest256& binding, const PcrSelection& selection,
                                   const crypto::VerifiedSignatures* known = nullptr);

// The same, and the quoted digest is the digest of `pcr_values`, one for each selected PCR in order of index.
Result<VerifiedQuote> verify_quote(const SignedAttest& evidence, const AttestationKey& ak,
                                   const Digest256& binding, const PcrSelection& selection,
                                   std::span<const Digest256> pcr_values,
                                   const crypto::VerifiedSignatures* known = nullptr);

}  // namespace sallyport::evidence

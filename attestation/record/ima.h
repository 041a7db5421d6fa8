#pragma once

#include "attestation/evidence/ima_appraisal.h"
#include "attestation/record/state.h"

// The IMA list among the evidence of a request or an approval: a quote of PCR 10, and the list in parts.
namespace sallyport::record {

// ima_evidence makes it: `made` quoted PCR 10, which is one of the values that `list` comes to; what was
// measured later is left out.
//   Errors: kUnverified (kImaReplay): the list does not come to this value. kMalformed (kImaForm): it is
//   longer than a request can bring.   Pure; at most four hashes an entry.
Result<std::vector<Blob>> ima_evidence(const evidence::SignedAttest& made, const Digest256& pcr10,
                                       const evidence::ImaList& list);

// ima_selection is what that quote is over: PCR 10, and nothing else.
evidence::PcrSelection ima_selection();

// verify_machine_ima judges the IMA list of a machine whose quote of the boot is `quote`, under the terms of
// the policy's reference values (evidence::appraise_ima_parts).
//   Proves:         that; the quote of PCR 10 is by the same key, over the same binding, in the same boot.
//   Nothing is      there where the policy wants nothing, or in the travel form: whoever had the full one
//                   has judged.
//   Errors:         kMalformed: there is what the policy does not want, or other parts than those that the
//                   quote lists; kDenied (kImaMissing); kLogMissingBody; those of verify_quote,
//                   check_same_start and appraise_ima_parts.
Result<std::optional<evidence::JudgedIma>> verify_machine_ima(const ControlState& control,
                                                              const LoadedPolicy& policy,
                                                              const Device& device,
                                                              const evidence::VerifiedQuote& quote,
                                                              const Digest256& binding, const Body& body,
                                                              const BlobIndex& blobs, DossierForm form);

// ima_parts gives the parts of the list among a statement's evidence: exactly those that the quote lists.
// Errors: kMalformed (kImaForm), kLogMissingBody.
Result<std::vector<evidence::ImaPart>> ima_parts(const ImaQuoteEvidence& quote, const Body& body,
                                                 const BlobIndex& blobs);

}  // namespace sallyport::record

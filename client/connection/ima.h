#pragma once

#include "attestation/evidence/ima.h"
#include "client/connection/session.h"

// What this machine has measured since its start, where the policy in force wants to know.
namespace sallyport::client {

bool wants_ima(const record::LoadedPolicy& policy);

// read_ima_list reads the kernel's list, as far as it has come. A copy is of no use: the kernel measures on.
//   Errors: kDenied (kImaMissing), when the settings name none or it cannot be read; kMalformed (kImaForm).
Result<evidence::ImaList> read_ima_list(const Settings& settings);

// quote_ima quotes PCR 10 over the digest of a binding and then reads the list, which by then may have more
// entries: those are left out. It gives the evidence of a request or an approval.
//   Errors: those of the TPM and of read_ima_list; kUnverified (kImaReplay): the list is of another boot.
Result<std::vector<record::Blob>> quote_ima(tpm::Tpm& tpm, const Settings& settings,
                                            const Digest256& binding);

}  // namespace sallyport::client

#pragma once

#include <string_view>

#include "attestation/base/result.h"
#include "attestation/crypto/public_key.h"

namespace sallyport::evidence {

// check_tpm_firmware refuses TPM firmware that is published to give away keys of the kind that would be
// enrolled: ROCA whatever the key, since the endorsement key is RSA made by the same firmware; TPM-FAIL for a
// P-256 attestation key, whose ECDSA nonces it leaks (an RSA one is the way out).
// `manufacturer` is as the EK certificate says it ("id:53544D20"), `firmware_version` as quoted
// (TPMS_ATTEST.firmwareVersion), `ak` the attestation key's algorithm.
//   Proves:         the version is in no row of the table.
//   Does not prove: that the firmware is good, or that a manufacturer encodes all its versions as the table
//   has it.   Errors:         kDenied (kTpmFirmware), with the CVE and the way out.   Pure.
Status check_tpm_firmware(std::string_view manufacturer, std::uint64_t firmware_version,
                          crypto::KeyAlgorithm ak);

}  // namespace sallyport::evidence

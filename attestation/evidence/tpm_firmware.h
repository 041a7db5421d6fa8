#pragma once

#include <span>
#include <string_view>

#include "attestation/base/result.h"
#include "attestation/base/strong.h"
#include "attestation/crypto/public_key.h"

namespace sallyport::evidence {

// FirmwareWeakness is one range of versions of one maker that is published to give keys away.
struct FirmwareWeakness {
  std::string_view manufacturer;  // the letters of its TCG vendor id
  std::uint64_t first, last;      // both are affected
  bool ecdsa_only;                // an RSA attestation key is a way out
  std::string_view cve;
  std::string_view way_out;
  // Milliseconds: leaves of before are judged without it, as they were when it was not there. 0: of the table
  // with which the first log began.
  std::uint64_t holds_from = 0;
};
std::span<const FirmwareWeakness> known_weaknesses();

// check_tpm_firmware refuses TPM firmware that is published to give away keys of the kind that is enrolled:
// ROCA whatever the key, since the endorsement key is RSA made by the same firmware; TPM-FAIL for a P-256
// attestation key, whose ECDSA nonces it leaks (an RSA one is the way out).
// `manufacturer` is as the EK certificate says it ("id:53544D20"), or its letters; `firmware_version` as
// quoted (TPMS_ATTEST.firmwareVersion), `ak` the attestation key's algorithm, `at` the time of the leaf that
// is judged.
//   Proves:         the version is in no row of the table that holds at that time.
//   Does not prove: that the firmware is good, or that a manufacturer encodes all its versions as the table
//   has it.   Errors:         kDenied (kTpmFirmware), with the CVE and the way out.   Pure.
Status check_tpm_firmware(std::string_view manufacturer, std::uint64_t firmware_version,
                          crypto::KeyAlgorithm ak, UnixMillis at,
                          std::span<const FirmwareWeakness> table = known_weaknesses());

}  // namespace sallyport::evidence

#pragma once

#include <variant>

#include "attestation/evidence/pcr.h"
#include "attestation/evidence/public_area.h"

namespace sallyport::evidence {

// TPMS_CLOCK_INFO (Part 2 rev 1.59 §10.11.1).
struct ClockInfo {
  std::uint64_t clock_ms = 0;       // while powered
  std::uint32_t reset_count = 0;    // TPM Resets
  std::uint32_t restart_count = 0;  // resumes and restarts since the last Reset
  bool safe = false;                // the clock is known not to have gone back; recorded, not required
  friend bool operator==(const ClockInfo&, const ClockInfo&) = default;
};

struct ClaimedQuote {  // TPMS_QUOTE_INFO
  PcrSelection selection;
  Digest256 pcr_digest;
  friend bool operator==(const ClaimedQuote&, const ClaimedQuote&) = default;
};

struct ClaimedCertify {  // TPMS_CERTIFY_INFO
  TpmName name, qualified_name;
  friend bool operator==(const ClaimedCertify&, const ClaimedCertify&) = default;
};

struct ClaimedSessionAudit {  // TPMS_SESSION_AUDIT_INFO
  bool exclusive = false;     // nothing else ran since the session began to audit; recorded, not required
  Digest256 session_digest;
  friend bool operator==(const ClaimedSessionAudit&, const ClaimedSessionAudit&) = default;
};

// ClaimedAttest is a TPMS_ATTEST as received; nothing in it is believed yet.
struct ClaimedAttest {
  TpmName qualified_signer;
  Bytes extra_data;  // at most kMaxExtraData
  ClockInfo clock;
  std::uint64_t firmware_version = 0;
  std::variant<ClaimedQuote, ClaimedCertify, ClaimedSessionAudit> attested;
  friend bool operator==(const ClaimedAttest&, const ClaimedAttest&) = default;
};

inline constexpr std::size_t kMaxAttestBytes = 512;
inline constexpr std::size_t kMaxExtraData = 66;  // TPM2B_DATA holds a TPMT_HA

// parse_attest takes one TPMS_ATTEST (Part 2 rev 1.59 §10.12.12) of type QUOTE, CERTIFY or
// SESSION_AUDIT: magic TPM_GENERATED_VALUE, the type before its union, a Name as qualifiedSigner, SHA-256
// PCRs and sessions only, no trailing bytes; encode(value) == bytes. Errors: kMalformed. Pure.
Result<ClaimedAttest> parse_attest(ByteView bytes);
Bytes encode(const ClaimedAttest& attest);

}  // namespace sallyport::evidence

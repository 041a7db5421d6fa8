#pragma once

#include <string_view>

#include "attestation/base/strong.h"

namespace sallyport::evidence {

// Purpose says why a quote or certification was made, so that one cannot serve where another is meant.
// Closed.
enum class Purpose : std::uint8_t { kConnect, kRequest, kKey, kActivate, kApprove, kStay, kEnrol };
std::string_view purpose_name(
    Purpose purpose);  // "connect", "request", "key", "activate", "approve", "stay", "enrol"

struct Binding {
  Purpose purpose;
  Origin origin;      // of the log, not empty
  CaseId case_id;     // zeros where there is no case (connect)
  Digest256 request;  // digest of the statement that the evidence stands for; the TLS exporter for connect
  Nonce nonce;        // of the challenger
  Digest256 note;     // of the newest cosigned checkpoint that the machine knows, as the caller defines it
};

// binding_digest is what every quote and certification carries as extraData (qualifyingData), 32 bytes:
//
//   SHA-256( "sallyport/bind/v1" 00                                   18 bytes
//          ‖ u32be length of purpose ‖ purpose                        ASCII, as purpose_name gives it
//          ‖ u32be length of origin ‖ origin                          UTF-8
//          ‖ case id                                                  16 bytes
//          ‖ request digest ‖ nonce ‖ note digest )                   32 bytes each
//
// Both variable fields carry their length and all others are fixed, so no two inputs share one byte string.
//   Proves nothing alone.   Pure; one SHA-256.
Digest256 binding_digest(const Binding& binding);

}  // namespace sallyport::evidence

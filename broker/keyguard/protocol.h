#pragma once

#include <cstdint>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"

namespace sallyport::keyguard {

// The frames of README.md as values. parse_ takes exactly what encode_ gives. Errors: kMalformed.
enum class Call : std::uint8_t {
  kError = 0,
  kStatus = 1,
  kAdvance = 2,
  kCertify = 3,
  kLeaseStatement = 4,
  kLease = 5
};

inline constexpr std::size_t kMaxFrameBytes = 80u << 20;
inline constexpr std::size_t kMaxContentBytes = 64u << 10;  // a login holds the whole certificate

struct Frame {
  Call call = Call::kError;
  Bytes payload;
};
Bytes encode_frame(Call call, ByteView payload);
Result<Frame> parse_frame(ByteView bytes);

// An error answer, and back: class, reason and sentence survive, device codes and places do not. What is no
// error answer gives an error that says so.
Bytes encode_error(const Error& error);
Error parse_error(ByteView payload);

struct StatusAnswer {
  TreeSize size;
  Digest256 root;
  bool ready = false;
  std::string origin;
  std::string note;  // newest signed
};
struct LeaseStatementCall {
  CaseId case_id;
  Bytes content;
  ByteArray<32> nonce_tpm{};
  std::uint32_t expiration_s = 0;
};
struct LeaseCall {
  CaseId case_id;
  LeafIndex index;
  Nonce nonce;
  Bytes body;
  Bytes content;
  ByteArray<32> nonce_tpm{};
};
Bytes encode(const StatusAnswer&);
Bytes encode(const LeaseStatementCall&);
Bytes encode(const LeaseCall&);
Result<StatusAnswer> parse_status_answer(ByteView payload);
Result<LeaseStatementCall> parse_lease_statement_call(ByteView payload);
Result<LeaseCall> parse_lease_call(ByteView payload);

}  // namespace sallyport::keyguard

#include "attestation/evidence/attest.h"

#include "attestation/base/writer.h"

namespace sallyport::evidence {
namespace {

constexpr std::uint32_t kTpmGenerated = 0xFF544347;
constexpr std::uint16_t kAttestSessionAudit = 0x8016;
constexpr std::uint16_t kAttestCertify = 0x8017;
constexpr std::uint16_t kAttestQuote = 0x8018;
constexpr std::size_t kMaxName = 50;

Result<TpmName> read_name(Reader& in) {
  SP_TRY(const ByteView bytes, in.prefixed16(kMaxName));
  return parse_name(bytes);
}

Result<ClaimedQuote> read_quote(Reader& in) {
  SP_TRY(const PcrSelection selection, read_pcr_selection(in));
  SP_TRY(const std::uint16_t size, in.u16());
  if (size != 32) return Error{Code::kMalformed, Reason::kQuotePcrs, "PCR digest that is not SHA-256"};
  SP_TRY(const auto digest, in.array<32>());
  return ClaimedQuote{selection, Digest256{digest}};
}

Result<ClaimedCertify> read_certify(Reader& in) {
  SP_TRY(TpmName name, read_name(in));
  SP_TRY(TpmName qualified_name, read_name(in));
  return ClaimedCertify{std::move(name), std::move(qualified_name)};
}

Result<bool> read_flag(Reader& in) {
  SP_TRY(const std::uint8_t flag, in.u8());
  if (flag > 1) return Error{Code::kMalformed, "neither yes nor no"};
  return flag == 1;
}

Result<ClaimedSessionAudit> read_session_audit(Reader& in) {
  SP_TRY(const bool exclusive, read_flag(in));
  SP_TRY(const std::uint16_t size, in.u16());
  if (size != 32) return Error{Code::kMalformed, "session digest that is not SHA-256"};
  SP_TRY(const auto digest, in.array<32>());
  return ClaimedSessionAudit{exclusive, Digest256{digest}};
}

}  // namespace

Result<ClaimedAttest> parse_attest(ByteView bytes) {
  if (bytes.size() > kMaxAttestBytes) return Error{Code::kMalformed, "attestation longer than its cap"};
  Reader in{bytes};
  SP_TRY(const std::uint32_t magic, in.u32());
  if (magic != kTpmGenerated) return Error{Code::kMalformed, "not made by a TPM"};
  SP_TRY(const std::uint16_t type, in.u16());
  if (type != kAttestQuote && type != kAttestCertify && type != kAttestSessionAudit)
    return Error{Code::kMalformed, "attestation of another type than quote, certify or session audit"};
  SP_TRY(TpmName signer, read_name(in));
  SP_TRY(const ByteView extra, in.prefixed16(kMaxExtraData));
  ClockInfo clock;
  SP_TRY(clock.clock_ms, in.u64());
  SP_TRY(clock.reset_count, in.u32());
  SP_TRY(clock.restart_count, in.u32());
  SP_TRY(clock.safe, read_flag(in));
  SP_TRY(const std::uint64_t firmware, in.u64());
  ClaimedAttest out{std::move(signer), to_bytes(extra), clock, firmware, ClaimedSessionAudit{}};
  if (type == kAttestQuote) {
    SP_TRY(out.attested, read_quote(in));
  } else if (type == kAttestCertify) {
    SP_TRY(out.attested, read_certify(in));
  } else {
    SP_TRY(out.attested, read_session_audit(in));
  }
  SP_CHECK(in.finish());
  return out;
}

Bytes encode(const ClaimedAttest& attest) {
  const auto* quote = std::get_if<ClaimedQuote>(&attest.attested);
  const auto* certify = std::get_if<ClaimedCertify>(&attest.attested);
  const auto* audit = std::get_if<ClaimedSessionAudit>(&attest.attested);
  Writer out;
  out.u32(kTpmGenerated);
  out.u16(quote != nullptr ? kAttestQuote : certify != nullptr ? kAttestCertify : kAttestSessionAudit);
  out.prefixed16(view(attest.qualified_signer)).prefixed16(attest.extra_data);
  out.u64(attest.clock.clock_ms).u32(attest.clock.reset_count).u32(attest.clock.restart_count);
  out.u8(attest.clock.safe ? 1 : 0).u64(attest.firmware_version);
  if (quote != nullptr)
    out.raw(encode(quote->selection)).prefixed16(view(quote->pcr_digest));
  else if (certify != nullptr)
    out.prefixed16(view(certify->name)).prefixed16(view(certify->qualified_name));
  else
    out.u8(audit->exclusive ? 1 : 0).prefixed16(view(audit->session_digest));
  return std::move(out).take();
}

}  // namespace sallyport::evidence

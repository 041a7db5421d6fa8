#include "attestation/evidence/pcr.h"

#include <bit>

#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/public_area.h"

namespace sallyport::evidence {

Result<PcrSelection> PcrSelection::of(std::span<const std::uint8_t> indices) {
  std::uint32_t mask = 0;
  int before = -1;
  for (const std::uint8_t index : indices) {
    if (index > 23 || index <= before)
      return Error{Code::kMalformed, "PCR list that is not ascending from 0 to 23"};
    mask |= std::uint32_t{1} << index;
    before = index;
  }
  return from_mask(mask);
}

Result<PcrSelection> PcrSelection::from_mask(std::uint32_t mask) {
  if (mask == 0 || mask > 0xFFFFFF)
    return Error{Code::kMalformed, "PCR selection that is empty or beyond 23"};
  return PcrSelection{mask};
}

PcrSelection PcrSelection::standard() {
  return PcrSelection{0x0040FF};
}

std::vector<std::uint8_t> PcrSelection::indices() const {
  std::vector<std::uint8_t> out;
  for (std::uint8_t index = 0; index < 24; ++index)
    if (contains(index)) out.push_back(index);
  return out;
}

std::size_t PcrSelection::count() const {
  return static_cast<std::size_t>(std::popcount(mask_));
}

Result<PcrSelection> read_pcr_selection(Reader& in) {
  const auto refused = [](const char* what) { return Error{Code::kMalformed, Reason::kQuotePcrs, what}; };
  SP_TRY(const std::uint32_t banks, in.u32());
  if (banks != 1) return refused("PCR selection of more or less than one bank");
  SP_TRY(const std::uint16_t bank, in.u16());
  if (bank != static_cast<std::uint16_t>(TpmAlg::kSha256)) return refused("PCR bank that is not SHA-256");
  SP_TRY(const std::uint8_t size, in.u8());
  if (size != 3) return refused("PCR selection that is not three octets long");
  SP_TRY(const auto octets, in.array<3>());
  const std::uint32_t mask = octets[0] | std::uint32_t{octets[1]} << 8 | std::uint32_t{octets[2]} << 16;
  if (mask == 0) return refused("PCR selection that is empty");
  return PcrSelection::from_mask(mask);
}

Result<PcrSelection> parse_pcr_selection(ByteView bytes) {
  Reader in{bytes};
  SP_TRY(const PcrSelection selection, read_pcr_selection(in));
  SP_CHECK(in.finish());
  return selection;
}

Bytes encode(const PcrSelection& selection) {
  const std::uint32_t mask = selection.mask();
  Writer out;
  out.u32(1).u16(static_cast<std::uint16_t>(TpmAlg::kSha256)).u8(3);
  for (const int shift : {0, 8, 16}) out.u8(static_cast<std::uint8_t>(mask >> shift));
  return std::move(out).take();
}

Digest256 pcr_digest(std::span<const Digest256> values) {
  Bytes all;
  all.reserve(values.size() * 32);
  for (const Digest256& value : values) all.insert(all.end(), value.get().begin(), value.get().end());
  return crypto::sha256(all);
}

}  // namespace sallyport::evidence

#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/reader.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"

namespace sallyport::evidence {

// PcrSelection is a non-empty set of PCR 0…23 in the SHA-256 bank; there is no other.
class PcrSelection {
 public:
  static Result<PcrSelection> of(
      std::span<const std::uint8_t> indices);                 // ascending, each once. Errors: kMalformed
  static Result<PcrSelection> from_mask(std::uint32_t mask);  // bit n is PCR n. Errors: kMalformed
  static PcrSelection standard();                             // 0–7 and 14

  std::uint32_t mask() const { return mask_; }
  bool contains(unsigned index) const { return index < 24 && (mask_ >> index & 1) != 0; }
  std::vector<std::uint8_t> indices() const;  // ascending
  std::size_t count() const;

  friend bool operator==(const PcrSelection&, const PcrSelection&) = default;

 private:
  explicit PcrSelection(std::uint32_t mask) : mask_(mask) {}
  std::uint32_t mask_;
};

// parse_pcr_selection takes one TPML_PCR_SELECTION of exactly one SHA-256 bank with three octets (Part 2
// rev 1.59 §10.9.7). Errors: kMalformed (kQuotePcrs): several banks, another bank, no PCR.
Result<PcrSelection> parse_pcr_selection(ByteView bytes);
Result<PcrSelection> read_pcr_selection(Reader& in);  // the same from inside another structure
Bytes encode(const PcrSelection& selection);          // 10 bytes: 00000001 000B 03 m m m

// pcr_digest is SHA-256 over PCR values in ascending order of index: what a quote and PolicyPCR contain.
Digest256 pcr_digest(std::span<const Digest256> values);

}  // namespace sallyport::evidence

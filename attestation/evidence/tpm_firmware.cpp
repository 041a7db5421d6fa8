#include "attestation/evidence/tpm_firmware.h"

#include <string>

#include "attestation/evidence/endorsement.h"

namespace sallyport::evidence {
namespace {

using Row = FirmwareWeakness;

// The versions of these three are major.minor in the upper half, 16 bits each: 0x00050028… is Infineon's
// 5.40 (github.com/tpm2-software/tpm2-tss issue 354), 0x004A0008… ST's 74.8 (wolfTPM's README), and Intel has
// build numbers in the lower half, 0x000B0008'00320D62 being 11.8.50.3426 (github.com/petrs/TPM_PCR issue 4).
constexpr std::uint64_t version(std::uint64_t major, std::uint64_t minor, std::uint64_t hotfix = 0) {
  return major << 48 | minor << 32 | hotfix << 16;
}
constexpr std::uint64_t last_of(std::uint64_t major, std::uint64_t minor) {
  return version(major, minor) | 0xFFFF'FFFF;
}
constexpr std::uint64_t last_of(std::uint64_t major, std::uint64_t minor, std::uint64_t hotfix) {
  return version(major, minor, hotfix) | 0xFFFF;
}
constexpr Row st(std::uint64_t major, std::uint64_t minor, std::string_view way_out) {
  return {"STM", version(major, minor), last_of(major, minor), true, "CVE-2019-16863 (TPM-FAIL)", way_out};
}
constexpr Row intel(std::uint64_t first, std::uint64_t last, std::string_view way_out) {
  return {"INTC", first, last, true, "CVE-2019-11090 (TPM-FAIL)", way_out};
}
constexpr Row infineon(std::uint64_t first, std::uint64_t last, std::string_view way_out) {
  return {"IFX", first, last, false, "CVE-2017-15361 (ROCA)", way_out};
}

// A row that a release adds has `holds_from`, a day by which everybody has that release.
constexpr Row kRows[] = {
    // ST, "Information on ST's TPM firmware update": exactly these versions, "products and firmware not
    // listed are not affected" (st.com/content/st_com/en/campaigns/tpm-update.html).
    st(71, 0, "71.16"), st(71, 4, "71.16"), st(71, 12, "71.16"), st(73, 0, "73.20"), st(73, 4, "73.20"),
    st(73, 8, "73.64"), st(73, 5, "73.21"), st(73, 9, "73.65"), st(74, 0, "74.20"), st(74, 4, "74.20"),
    st(74, 8, "74.64"), st(74, 16, "74.64"), st(74, 5, "74.21"), st(74, 9, "74.65"),
    // Intel, INTEL-SA-00241, its ranges for the management engine as Greenbone's check for it states them.
    // The
    // versions of TXE and SPS are another count, and are not here.
    intel(version(11, 0), last_of(11, 8, 65), "11.8.70"),
    intel(version(11, 10), last_of(11, 11, 65), "11.11.70"),
    intel(version(11, 20), last_of(11, 22, 65), "11.22.70"),
    intel(version(12, 0), last_of(12, 0, 35), "12.0.45"),
    // Infineon and Microsoft ADV170012, as restated by vanstechelman.eu/node/304: "5.61 and earlier", "7.61
    // and earlier"; the other ranges there (4, 6, 133) are of TPM 1.2.
    infineon(version(5, 0), last_of(5, 61), "5.62"), infineon(version(7, 0), last_of(7, 61), "7.62")};

std::string version_text(std::uint64_t version) {
  std::string out = std::to_string(version >> 48) + "." + std::to_string(version >> 32 & 0xFFFF);
  return out + "." + std::to_string(version >> 16 & 0xFFFF) + "." + std::to_string(version & 0xFFFF);
}

}  // namespace

std::span<const FirmwareWeakness> known_weaknesses() {
  return kRows;
}

Status check_tpm_firmware(std::string_view manufacturer, std::uint64_t firmware_version,
                          crypto::KeyAlgorithm ak, UnixMillis at, std::span<const FirmwareWeakness> table) {
  const std::string letters = manufacturer_text(manufacturer);
  for (const Row& row : table) {
    if (at.get() < row.holds_from) continue;
    if (row.manufacturer != letters || firmware_version < row.first || firmware_version > row.last) continue;
    if (row.ecdsa_only && ak == crypto::KeyAlgorithm::kRsa2048) continue;
    std::string what = "TPM firmware " + version_text(firmware_version) + " has " + std::string{row.cve} +
                       ": update it to " + std::string{row.way_out} + " or later";
    if (row.ecdsa_only)
      what +=
          ", or enrol with an RSA attestation key: sallyport enroll --ak rsa (and --again, if it is "
          "enrolled)";
    return Error{Code::kDenied, Reason::kTpmFirmware, std::move(what)};
  }
  return Done{};
}

}  // namespace sallyport::evidence

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/evidence/event_log.h"

// What firmware and boot loaders write into events (UEFI 2.10; TCG PC Client Platform Firmware Profile
// 1.06, PFP). The parsers take an event's data and give views into it; each wants the whole of the bytes,
// does not recurse, and fails with kMalformed (kEventLogForm). What they give is a claim like the data
// itself.

namespace sallyport::evidence {

// EFI_GUID as it lies in memory.
struct EfiGuid {
  ByteArray<16> bytes{};
  friend auto operator<=>(const EfiGuid&, const EfiGuid&) = default;
};
std::string guid_text(const EfiGuid& guid);  // "8be4df61-93ca-11d2-aa0d-00e098032b8c"
constexpr EfiGuid efi_guid(std::uint32_t a, std::uint16_t b, std::uint16_t c, const ByteArray<8>& d) {
  EfiGuid guid;
  for (std::size_t i = 0; i < 4; ++i) guid.bytes[i] = static_cast<std::uint8_t>(a >> 8 * i);
  for (std::size_t i = 0; i < 2; ++i) guid.bytes[4 + i] = static_cast<std::uint8_t>(b >> 8 * i);
  for (std::size_t i = 0; i < 2; ++i) guid.bytes[6 + i] = static_cast<std::uint8_t>(c >> 8 * i);
  for (std::size_t i = 0; i < 8; ++i) guid.bytes[8 + i] = d[i];
  return guid;
}
inline constexpr EfiGuid kEfiGlobalVariable =  // SecureBoot, PK, KEK, Boot####
    efi_guid(0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c});
inline constexpr EfiGuid kEfiImageSecurityDatabase =  // db, dbx
    efi_guid(0xd719b2cb, 0x3d3a, 0x4596, {0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f});
inline constexpr EfiGuid kShimLock =  // Shim, MokList, SbatLevel
    efi_guid(0x605dab50, 0xe046, 0x4300, {0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23});

// utf8_of_utf16 converts little-endian UTF-16; half a surrogate pair is an error.
Result<std::string> utf8_of_utf16(ByteView bytes);

// UEFI_VARIABLE_DATA of EV_EFI_VARIABLE_*.
struct EfiVariable {
  EfiGuid vendor;
  std::string name;  // UTF-8, at most kMaxVariableName UTF-16 units
  ByteView data;
};
inline constexpr std::size_t kMaxVariableName = 1024;
inline constexpr std::size_t kMaxShimExcess = 9;
Result<EfiVariable> parse_efi_variable(ByteView bytes);
// parse_efi_authority takes the same of an EV_EFI_VARIABLE_AUTHORITY, which shim ends with up to
// kMaxShimExcess bytes of rubbish: they are dropped. Give it measured_part, since one more may follow that is
// not measured.
Result<EfiVariable> parse_efi_authority(ByteView bytes);

// EFI_SIGNATURE_DATA: an entry of db, dbx, KEK, PK or MokList, and what an authority event shows.
struct EfiSignature {
  enum class Kind { kX509, kSha256, kOther };
  Kind kind = Kind::kOther;
  EfiGuid type;   // of the list it was in; of a single EFI_SIGNATURE_DATA zero
  EfiGuid owner;  // whoever enrolled it, by his own account
  ByteView data;  // DER of a certificate, or a digest of 32 bytes
};
// parse_signature_lists takes any number of EFI_SIGNATURE_LISTs, also none. Entries of X.509 and SHA-256
// lists have their exact forms; what else is of a list of another type is kOther.
Result<std::vector<EfiSignature>> parse_signature_lists(ByteView bytes);
// parse_signature_data takes one EFI_SIGNATURE_DATA, which does not say its kind: kX509 when DER follows.
Result<EfiSignature> parse_signature_data(ByteView bytes);

// device_path_text gives a device path for people: "PciRoot/Pci/Sata/HD(1)/\EFI\BOOT\BOOTX64.EFI". At most
// kMaxDevicePathNodes nodes; it must end where the bytes end.
inline constexpr std::size_t kMaxDevicePathNodes = 256;
Result<std::string> device_path_text(ByteView bytes);

// UEFI_IMAGE_LOAD_EVENT of EV_EFI_BOOT_SERVICES_APPLICATION and …_DRIVER. The digest is the image's: nothing
// here is measured. shim writes up to kMaxShimExcess bytes of rubbish behind the structure.
struct EfiImageLoad {
  std::uint64_t location = 0, size = 0, link_address = 0;
  ByteView device_path;
  std::size_t excess_bytes = 0;
};
Result<EfiImageLoad> parse_image_load(ByteView bytes);

// UEFI_PLATFORM_FIRMWARE_BLOB, and …_BLOB2 with a description. The digest is the blob's.
struct EfiFirmwareBlob {
  std::string_view description;  // bytes as they are
  std::uint64_t base = 0, size = 0;
};
Result<EfiFirmwareBlob> parse_firmware_blob(ByteView bytes);
Result<EfiFirmwareBlob> parse_firmware_blob2(ByteView bytes);

// TCG_PCClientTaggedEvent of EV_EVENT_TAG: of Linux' EFI stub (the digest is of the initrd, the options),
// systemd and Windows.
struct EventTag {
  std::uint32_t id = 0;
  ByteView data;
};
inline constexpr std::uint32_t kLinuxInitrdTag = 0x8F3B22EC;
inline constexpr std::uint32_t kLinuxLoadOptionsTag = 0x8F3B22ED;
Result<EventTag> parse_event_tag(ByteView bytes);

// EfiAction is the closed set of what is known here of what firmware measures as EV_EFI_ACTION: the strings
// of PFP 1.06, and Windows' on DMA.
enum class EfiAction {
  kCallingApplication,
  kReturningFromApplication,
  kExitBootServices,
  kExitBootServicesFailed,
  kExitBootServicesSucceeded,
  kDebugMode,
  kDmaProtectionDisabled,
};
std::optional<EfiAction> find_efi_action(ByteView data);

// event_text gives the text of an EV_IPL, EV_ACTION or like event: ASCII (grub, shim) or UTF-16 (systemd),
// without the zeros at its end; none when it is neither, or has control characters but tabs and line ends.
std::optional<std::string> event_text(ByteView data);

// measured_part gives the part of an event's data of which its SHA-256 digest is the hash: all of it; the
// variable's content in EV_EFI_VARIABLE_BOOT; of EV_EFI_VARIABLE_AUTHORITY all but the one byte that some
// shims wrote too many; of EV_IPL what follows grub's prefix ("grub_cmd: "), with or without the zero at the
// end, and systemd-boot's text, which it hashed with one zero more. None: the digest is of something else.
//   Proves: the digest is of these bytes, so once verify_event_log has succeeded they are what was measured.
//   Does not prove: the type, nor what precedes the part: that "x" was a grub_cmd is a claim.
std::optional<ByteView> measured_part(const LogEvent& event);

// describe says in one short line what an event claims, for people: printable ASCII only, at most
// kMaxDescription characters; other characters as \u{…}. Never an error.
inline constexpr std::size_t kMaxDescription = 160;
std::string describe(const LogEvent& event);

}  // namespace sallyport::evidence

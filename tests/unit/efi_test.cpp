#include "attestation/evidence/efi.h"

#include <gtest/gtest.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/x509.h"
#include "tests/support/files.h"
#include "tests/support/log_builder.h"
#include "tests/support/matchers.h"

namespace sallyport::evidence {
namespace {

using test::FailsWith;
using test::LogBuilder;
using test::read_file;
using test::Succeeds;
using test::value_of;

EventLog log_of(std::string_view name) {
  return value_of(EventLog::parse(read_file("tests/vectors/event_logs/" + std::string{name})));
}

// Everything shorter than a good structure, and everything longer by a byte, is refused.
template <class Parse>
void expect_exact(ByteView good, Parse parse) {
  ASSERT_THAT(parse(good), Succeeds());
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_THAT(parse(good.first(size)), FailsWith(Reason::kEventLogForm)) << "cut to " << size;
  Bytes longer = to_bytes(good);
  longer.push_back(0);
  EXPECT_THAT(parse(longer), FailsWith(Reason::kEventLogForm));
}

TEST(EfiVariable, OfRealLogsIsRead) {
  const EventLog log = log_of("rhel8-uefi.bin");
  const EfiVariable secure_boot = value_of(parse_efi_variable(log.events()[3].data));
  EXPECT_EQ(secure_boot.name, "SecureBoot");
  EXPECT_EQ(secure_boot.vendor, kEfiGlobalVariable);
  EXPECT_EQ(to_bytes(secure_boot.data), Bytes{1});
  const EfiVariable db = value_of(parse_efi_variable(log.events()[6].data));
  EXPECT_EQ(db.name, "db");
  EXPECT_EQ(db.vendor, kEfiImageSecurityDatabase);
  EXPECT_EQ(guid_text(db.vendor), "d719b2cb-3d3a-4596-a3bc-dad00e67656f");
  expect_exact(log.events()[3].data, parse_efi_variable);
}

TEST(EfiVariable, OfHugeStatedSizesIsRefused) {
  for (const std::size_t at : {16u, 24u}) {  // the name's units, the data's size
    Bytes bad = to_bytes(log_of("rhel8-uefi.bin").events()[3].data);
    for (std::size_t i = 0; i < 8; ++i) bad[at + i] = 0xFF;
    EXPECT_THAT(parse_efi_variable(bad), FailsWith(Reason::kEventLogForm));
    bad[at] = 0;  // twice this is small in 64 bits
    for (std::size_t i = 1; i < 7; ++i) bad[at + i] = 0;
    bad[at + 7] = 0x80;
    EXPECT_THAT(parse_efi_variable(bad), FailsWith(Reason::kEventLogForm));
  }
}

TEST(SignatureLists, OfRealLogsHoldCertificatesAndDigests) {
  const EventLog log = log_of("rhel8-uefi.bin");
  std::size_t certificates = 0, digests = 0;
  for (const std::size_t number : {4u, 5u, 6u, 7u}) {  // PK, KEK, db, dbx
    const EfiVariable variable = value_of(parse_efi_variable(log.events()[number].data));
    for (const EfiSignature& entry : value_of(parse_signature_lists(variable.data))) {
      if (entry.kind == EfiSignature::Kind::kX509) {
        EXPECT_THAT(crypto::Certificate::parse_der(entry.data), Succeeds()) << variable.name;
        ++certificates;
      } else {
        EXPECT_EQ(entry.kind, EfiSignature::Kind::kSha256);
        EXPECT_EQ(entry.data.size(), 32u);
        ++digests;
      }
    }
  }
  EXPECT_EQ(certificates, 7u);
  EXPECT_EQ(digests, 183u);
  EXPECT_TRUE(value_of(parse_signature_lists({})).empty());
}

TEST(SignatureLists, WithSizesThatDoNotAddUpAreRefused) {
  constexpr EfiGuid kSha256 =
      efi_guid(0xc1c41626, 0x504c, 0x4092, {0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28});
  constexpr EfiGuid kX509 =
      efi_guid(0xa5c059a1, 0x94e4, 0x4aa7, {0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72});
  constexpr EfiGuid kStrange = efi_guid(1, 2, 3, {});
  const auto list = [](const EfiGuid& type, std::uint32_t size, std::uint32_t header, std::uint32_t entry,
                       std::size_t content) {
    LogBuilder out;
    out.raw(type.bytes).u32(size).u32(header).u32(entry).raw(Bytes(content, 7));
    return parse_signature_lists(out.bytes);
  };
  EXPECT_EQ(value_of(list(kSha256, 28 + 96, 0, 48, 96)).size(), 2u);
  EXPECT_EQ(value_of(list(kSha256, 28, 0, 48, 0)).size(), 0u);
  EXPECT_EQ(value_of(list(kStrange, 28 + 5 + 40, 5, 20, 45))[0].kind, EfiSignature::Kind::kOther);
  for (const auto& bad :
       {list(kSha256, 27, 0, 48, 0), list(kSha256, 0, 0, 48, 96), list(kSha256, 28 + 96, 0, 48, 95),
        list(kSha256, 28 + 90, 0, 48, 90), list(kSha256, 28 + 96, 0, 32, 96),
        list(kSha256, 28 + 96, 48, 48, 96), list(kX509, 28 + 32, 0, 16, 32), list(kX509, 28 + 32, 0, 0, 32),
        list(kStrange, 28 + 40, 41, 20, 40), list(kSha256, 0xFFFFFFFF, 0, 48, 96),
        list(kSha256, 28 + 96, 0xFFFFFFFF, 48, 96), list(kSha256, 28 + 96, 0, 0xFFFFFFFF, 96)})
    EXPECT_THAT(bad, FailsWith(Reason::kEventLogForm));
}

TEST(DevicePath, IsToldByItsNodes) {
  const EventLog log = log_of("rhel8-uefi.bin");
  const EfiImageLoad shim = value_of(parse_image_load(log.events()[23].data));
  EXPECT_EQ(value_of(device_path_text(shim.device_path)), "Acpi/Pci/Scsi/HD(1)/\\EFI\\redhat\\shimx64.efi");
  EXPECT_EQ(shim.size, 1244488u);
  EXPECT_EQ(shim.excess_bytes, 0u);
  const EfiImageLoad grub = value_of(parse_image_load(log.events()[26].data));  // written by shim
  EXPECT_EQ(value_of(device_path_text(grub.device_path)), "\\EFI\\redhat\\grubx64.efi");
  EXPECT_EQ(grub.excess_bytes, 8u);
  EXPECT_EQ(value_of(device_path_text({})), "");
  const auto path = [](std::initializer_list<std::uint8_t> octets) {
    return device_path_text(Bytes{octets});
  };
  EXPECT_EQ(value_of(path({1, 1, 6, 0, 0, 0, 0x7F, 1, 4, 0, 9, 9, 4, 0, 0x7F, 0xFF, 4, 0})), "Pci;Node(9,9)");
  EXPECT_THAT(path({1, 1, 3, 0}), FailsWith(Reason::kEventLogForm));               // smaller than its head
  EXPECT_THAT(path({1, 1, 0, 0}), FailsWith(Reason::kEventLogForm));               // no progress
  EXPECT_THAT(path({1, 1, 7, 0, 0, 0}), FailsWith(Reason::kEventLogForm));         // cut
  EXPECT_THAT(path({0x7F, 0xFF, 4, 0, 0}), FailsWith(Reason::kEventLogForm));      // after the end
  EXPECT_THAT(path({4, 4, 6, 0, 0, 0xD8}), FailsWith(Reason::kEventLogForm));      // half a surrogate pair
  EXPECT_THAT(path({4, 4, 7, 0, 'a', 0, 'b'}), FailsWith(Reason::kEventLogForm));  // half a character
  EXPECT_EQ(value_of(path({4, 4, 10, 0, 'a', 0, 0, 0, 0, 0})), "a");
  Bytes many;
  for (std::size_t i = 0; i <= kMaxDevicePathNodes; ++i) many.insert(many.end(), {1, 1, 4, 0});
  EXPECT_THAT(device_path_text(many), FailsWith(Reason::kEventLogForm));
}

TEST(Utf16, IsConvertedWholly) {
  EXPECT_EQ(value_of(utf8_of_utf16(Bytes{0x61, 0, 0xE4, 0, 0xAC, 0x20, 0x3D, 0xD8, 0x11, 0xDD})),
            "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x94\x91");
  for (const Bytes& bad : {Bytes{'a'}, Bytes{0x3D, 0xD8}, Bytes{0x11, 0xDD}, Bytes{0x3D, 0xD8, 'a', 0}})
    EXPECT_THAT(utf8_of_utf16(bad), FailsWith(Reason::kEventLogForm));
}

TEST(FirmwareBlob, IsAPlaceAndASize) {
  const EventLog log = log_of("x1-good.eventlog.bin");
  const EfiFirmwareBlob blob = value_of(parse_firmware_blob(log.events()[4].data));
  EXPECT_EQ(blob.base, 0xfff00000u);
  EXPECT_EQ(blob.size, 65536u);
  expect_exact(log.events()[4].data, parse_firmware_blob);
  LogBuilder second;
  second.u8(4).raw(as_bytes("POST")).raw(log.events()[4].data);
  EXPECT_EQ(value_of(parse_firmware_blob2(second.bytes)).description, "POST");
  expect_exact(second.bytes, parse_firmware_blob2);
}

TEST(EventTag, IsANumberAndItsData) {
  const EventLog log = log_of("event-sd-boot-fedora37.bin");
  const EventTag tag = value_of(parse_event_tag(log.events()[25].data));
  EXPECT_EQ(tag.id, kLinuxInitrdTag);
  EXPECT_EQ(as_text(tag.data), std::string_view("Linux initrd\0", 13));
  expect_exact(log.events()[25].data, parse_event_tag);
}

TEST(EfiAction, IsOneOfAClosedSet) {
  EXPECT_EQ(find_efi_action(log_of("rhel8-uefi.bin").events()[81].data), EfiAction::kExitBootServices);
  EXPECT_EQ(find_efi_action(as_bytes("UEFI Debug Mode")), EfiAction::kDebugMode);
  EXPECT_FALSE(find_efi_action(as_bytes("UEFI Debug Mode ")));
  EXPECT_FALSE(find_efi_action({}));
}

std::string described(EventType type, ByteView data) {
  const EventLog log = value_of(EventLog::parse(LogBuilder{}.spec_id({}).event(4, type, data).bytes));
  return describe(log.events()[1]);
}

TEST(Describe, SaysInOneLineWhatAnEventClaims) {
  const EventLog rhel = log_of("rhel8-uefi.bin");
  EXPECT_EQ(describe(rhel.events()[0]), "header of a crypto-agile log");
  EXPECT_EQ(describe(rhel.events()[3]), "variable SecureBoot: 1");
  EXPECT_EQ(describe(rhel.events()[7]), "variable dbx: 3 certificates, 183 digests");
  EXPECT_EQ(describe(rhel.events()[9]), "variable BootOrder: 0002 0000 0001");
  EXPECT_EQ(describe(rhel.events()[10]), "variable Boot0002: \"Red Hat Enterprise Linux\"");
  EXPECT_EQ(describe(rhel.events()[21]), "authority db: a certificate");
  EXPECT_EQ(describe(rhel.events()[23]),
            "application Acpi/Pci/Scsi/HD(1)/\\EFI\\redhat\\shimx64.efi, 1244488 bytes");
  EXPECT_EQ(describe(rhel.events()[28]), "\"grub_cmd set pager=1\"");
  EXPECT_EQ(describe(log_of("dell1.log").events()[1]), "the TPM was started at locality 3");
  EXPECT_EQ(describe(log_of("sb_cert_eventlog").events()[12]), "authority Shim: a certificate");
  EXPECT_EQ(described(EventType::kSeparator, Bytes(4, 0)), "separator");
  EXPECT_EQ(described(EventType::kSeparator, Bytes{1, 0, 0, 0}), "separator after an error");
}

TEST(Describe, ShowsNoControlCharactersAndCutsLongTexts) {
  EXPECT_EQ(described(EventType::kIpl, as_bytes("a\nb")), "\"a\\u{a}b\"");
  EXPECT_EQ(described(EventType::kIpl, Bytes{'a', 0, 0x2E, 0x20}),
            "\"a\\u{202e}\"");  // right-to-left override
  EXPECT_EQ(described(EventType::kIpl, Bytes{'a', 0, 0x1B, 0}), "4 bytes");
  EXPECT_EQ(described(EventType::kIpl, Bytes{0x1B, '[', '2', 'J'}), "4 bytes");
  const std::string cut = described(EventType::kIpl, Bytes(5000, 'x'));
  EXPECT_EQ(cut.size(), kMaxDescription);
  EXPECT_TRUE(cut.ends_with("..."));
  for (const char* name :
       {"dell1.log", "p511.log", "h12ssl.bios_measurements", "debian-10.bin", "hirs-laptop.log",
        "arch-linux-workstation.bin", "cos-85-amd-sev.bin", "keylime-binary_bios_measurements"})
    for (const EventLog log = log_of(name); const LogEvent& event : log.events()) {
      const std::string text = describe(event);
      EXPECT_LE(text.size(), kMaxDescription);
      EXPECT_EQ(text.find("not parse"), std::string::npos) << name << " " << event.number << ": " << text;
      for (const char c : text) EXPECT_TRUE(c >= 0x20 && c < 0x7F);
    }
}

}  // namespace
}  // namespace sallyport::evidence

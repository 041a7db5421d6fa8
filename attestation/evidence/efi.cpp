#include "attestation/evidence/efi.h"

#include <algorithm>
#include <cstring>

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"

namespace sallyport::evidence {
namespace {

Error refused(std::string what) {
  return Error{Code::kMalformed, Reason::kEventLogForm, std::move(what)};
}

// Errors of the Reader, under this file's reason.
template <class T>
Result<T> formed(Result<T> read) {
  if (!read.has_value()) return refused(read.error().what);
  return read;
}

Result<EfiGuid> read_guid(Reader& in) {
  SP_TRY(const auto bytes, in.array<16>());
  return EfiGuid{bytes};
}

Result<ByteView> read_sized(Reader& in, std::uint64_t size) {
  if (size > in.remaining()) return refused("truncated");
  return in.raw(static_cast<std::size_t>(size));
}

constexpr EfiGuid kCertX509 =
    efi_guid(0xa5c059a1, 0x94e4, 0x4aa7, {0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72});
constexpr EfiGuid kCertSha256 =
    efi_guid(0xc1c41626, 0x504c, 0x4092, {0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28});
constexpr std::size_t kGuidBytes = 16;

// looks_der: a SEQUENCE that fills the bytes. Its content is for the X.509 parser to judge.
bool looks_der(ByteView bytes) {
  return bytes.size() > 4 && bytes[0] == 0x30 && bytes[1] == 0x82 &&
         bytes.size() == 4 + (std::size_t{bytes[2]} << 8 | bytes[3]);
}

void append_utf8(std::string& out, std::uint32_t point) {
  const auto put = [&out](std::uint32_t octet) { out.push_back(static_cast<char>(octet)); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0 | point >> 6);
    put(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    put(0xE0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  } else {
    put(0xF0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3F));
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  }
}

std::string hex_number(std::uint64_t number) {
  std::string digits;
  do digits.insert(digits.begin(), "0123456789abcdef"[number & 0xF]);
  while ((number >>= 4) != 0);
  return digits;
}

// is_control: of Unicode's first 256 characters; line ends and tabs are parts of texts.
bool is_control(std::uint8_t octet) {
  return (octet < 0x20 && octet != '\t' && octet != '\n' && octet != '\r') || (octet >= 0x7F && octet < 0xA0);
}

ByteView without_zeros(ByteView bytes) {
  while (!bytes.empty() && bytes.back() == 0) bytes = bytes.first(bytes.size() - 1);
  return bytes;
}

Result<EfiVariable> read_variable(ByteView bytes, std::size_t max_excess) {
  Reader in{bytes};
  EfiVariable variable;
  SP_TRY(variable.vendor, read_guid(in));
  SP_TRY(const std::uint64_t units, in.u64_le());
  SP_TRY(const std::uint64_t size, in.u64_le());
  if (units == 0 || units > kMaxVariableName) return refused("a variable without a name, or with a long one");
  SP_TRY(const ByteView name, read_sized(in, 2 * units));
  SP_TRY(variable.name, utf8_of_utf16(name));
  SP_TRY(variable.data, read_sized(in, size));
  if (in.remaining() > max_excess) return refused("trailing bytes");
  return variable;
}

// The same for UTF-16, in steps of two.
ByteView without_zero_units(ByteView units) {
  while (units.size() >= 2 && units[units.size() - 1] == 0 && units[units.size() - 2] == 0)
    units = units.first(units.size() - 2);
  return units;
}

// ---- device paths

struct NodeName {
  std::uint8_t type, subtype;
  std::string_view name;
};
// UEFI 2.10 §10.3; what events of real machines hold.
constexpr NodeName kNodes[] = {
    {1, 1, "Pci"},         {1, 3, "MemoryMapped"}, {1, 4, "VendorHardware"}, {1, 5, "Controller"},
    {2, 1, "Acpi"},        {2, 2, "AcpiExtended"}, {2, 3, "AcpiAdr"},        {3, 1, "Atapi"},
    {3, 2, "Scsi"},        {3, 5, "Usb"},          {3, 10, "VendorMessage"}, {3, 11, "Mac"},
    {3, 12, "IPv4"},       {3, 13, "IPv6"},        {3, 15, "UsbClass"},      {3, 17, "Unit"},
    {3, 18, "Sata"},       {3, 19, "Iscsi"},       {3, 20, "Vlan"},          {3, 23, "Nvme"},
    {3, 24, "Uri"},        {3, 26, "Sd"},          {3, 29, "Emmc"},          {4, 1, "HD"},
    {4, 2, "Cdrom"},       {4, 3, "VendorMedia"},  {4, 6, "FirmwareFile"},   {4, 7, "FirmwareVolume"},
    {4, 8, "MemoryRange"}, {4, 9, "RamDisk"},      {5, 1, "BiosBoot"}};

Result<std::string> node_text(std::uint8_t type, std::uint8_t subtype, ByteView body) {
  if (type == 4 && subtype == 4) return utf8_of_utf16(without_zero_units(body));
  if (type == 4 && subtype == 1 && body.size() >= 4)
    return "HD(" + std::to_string(body[0] | body[1] << 8) + ")";  // the partition's number
  for (const NodeName& node : kNodes)
    if (node.type == type && node.subtype == subtype) return std::string{node.name};
  return "Node(" + std::to_string(type) + "," + std::to_string(subtype) + ")";
}

// ---- describing

// shown gives UTF-8 as printable ASCII; what is not UTF-8 octet by octet.
std::string shown(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size() && out.size() <= kMaxDescription;) {
    const auto octet = static_cast<std::uint8_t>(text[i]);
    std::size_t length = octet < 0x80 ? 1 : octet >= 0xF0 ? 4 : octet >= 0xE0 ? 3 : octet >= 0xC0 ? 2 : 1;
    if (octet >= 0x20 && octet < 0x7F) {
      out.push_back(text[i]);
    } else {
      if (i + length > text.size()) length = 1;
      std::uint32_t point = length == 1 ? octet : octet & (0x7Fu >> length);
      for (std::size_t k = 1; k < length; ++k)
        point = point << 6 | (static_cast<std::uint8_t>(text[i + k]) & 0x3Fu);
      out += "\\u{" + hex_number(point) + "}";
    }
    i += length;
  }
  return out;
}

std::string bytes_text(std::size_t size) {
  return std::to_string(size) + (size == 1 ? " byte" : " bytes");
}

std::string quoted_or_size(ByteView data) {
  if (const auto text = event_text(data); text && !text->empty()) return '"' + shown(*text) + '"';
  return bytes_text(data.size());
}

std::string with_s(std::size_t count, std::string_view what) {
  return std::to_string(count) + " " + std::string{what} + (count == 1 ? "" : "s");
}

std::string signatures_text(const std::vector<EfiSignature>& signatures) {
  std::size_t certificates = 0, digests = 0, others = 0;
  for (const EfiSignature& one : signatures)
    ++(one.kind == EfiSignature::Kind::kX509     ? certificates
       : one.kind == EfiSignature::Kind::kSha256 ? digests
                                                 : others);
  if (signatures.empty()) return "empty";
  std::string text;
  const auto add = [&text](std::size_t count, std::string_view what) {
    if (count != 0) text += (text.empty() ? "" : ", ") + with_s(count, what);
  };
  add(certificates, "certificate");
  add(digests, "digest");
  add(others, "other entry");
  return text;
}

// EFI_LOAD_OPTION (UEFI 2.10 §3.1.3): attributes, length of the path list, description, paths.
std::string load_option_text(ByteView data) {
  if (data.size() < 6) return bytes_text(data.size());
  std::size_t end = 6;
  while (end + 1 < data.size() && (data[end] != 0 || data[end + 1] != 0)) end += 2;
  const auto name = utf8_of_utf16(data.subspan(6, end - 6));
  return name.has_value() ? '"' + shown(*name) + '"' : bytes_text(data.size());
}

bool is_boot_option(std::string_view name) {
  return name.size() == 8 && name.starts_with("Boot") &&
         std::all_of(name.begin() + 4, name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
         });
}

std::string variable_text(const LogEvent& event) {
  const auto parsed = event.is(EventType::kEfiVariableAuthority) ? parse_efi_authority(event.data)
                                                                 : parse_efi_variable(event.data);
  if (!parsed.has_value()) return "a variable that does not parse, " + bytes_text(event.data.size());
  const EfiVariable& variable = *parsed;
  const std::string head = "variable " + shown(variable.name) + ": ";
  if (event.is(EventType::kEfiVariableAuthority)) {
    const auto entry = parse_signature_data(variable.data);
    if (looks_der(variable.data) || (entry.has_value() && entry->kind == EfiSignature::Kind::kX509))
      return "authority " + head.substr(9) + "a certificate";
    return "authority " + head.substr(9) + quoted_or_size(variable.data);
  }
  const std::string_view name = variable.name;
  if (name == "PK" || name == "KEK" || name == "db" || name == "dbx" || name == "dbt" || name == "dbr") {
    const auto lists = parse_signature_lists(variable.data);
    return head + (lists.has_value() ? signatures_text(*lists) : "lists that do not parse");
  }
  if (is_boot_option(name)) return head + load_option_text(variable.data);
  if (variable.data.size() == 1) return head + std::to_string(variable.data[0]);
  if (name == "BootOrder" && variable.data.size() % 2 == 0) {
    std::string order;
    for (std::size_t i = 0; i < variable.data.size() && order.size() < kMaxDescription; i += 2)
      order += (order.empty() ? "" : " ") + to_hex(ByteArray<2>{variable.data[i + 1], variable.data[i]});
    return head + order;
  }
  return head + bytes_text(variable.data.size());
}

std::string image_text(const LogEvent& event, std::string_view what) {
  const auto image = parse_image_load(event.data);
  if (!image.has_value()) return std::string{what} + " that does not parse, " + bytes_text(event.data.size());
  const auto path = device_path_text(image->device_path);
  return std::string{what} + " " +
         (!path.has_value() ? "of a path that does not parse"
          : path->empty()   ? "of no path"
                            : shown(*path)) +
         ", " + std::to_string(image->size) + " bytes";
}

std::string blob_text(const LogEvent& event, bool second) {
  const auto blob = second ? parse_firmware_blob2(event.data) : parse_firmware_blob(event.data);
  // Firmware has written plain texts where a blob's place belongs.
  if (!blob.has_value()) return "firmware blob " + quoted_or_size(event.data);
  std::string text = "firmware blob ";
  if (!blob->description.empty()) text += quoted_or_size(as_bytes(blob->description)) + " ";
  return text + "at 0x" + hex_number(blob->base) + ", " + std::to_string(blob->size) + " bytes";
}

std::string no_action_text(ByteView data) {
  const std::string_view text = as_text(data);
  if (text.starts_with("StartupLocality") && data.size() >= 17)
    return "the TPM was started at locality " + std::to_string(data[16]);
  if (text.starts_with("Spec ID Event03")) return "header of a crypto-agile log";
  if (text.starts_with("SP800-155 Event")) return "names the firmware's reference manifest";
  return "not measured: " + quoted_or_size(data);
}

std::string separator_text(ByteView data) {
  if (data.size() != 4) return "separator of " + bytes_text(data.size());
  const bool same = data[1] == data[0] && data[2] == data[0] && data[3] == data[0];
  if (same && (data[0] == 0 || data[0] == 0xFF)) return "separator";
  if (data[0] == 1 && data[1] == 0 && data[2] == 0 && data[3] == 0) return "separator after an error";
  return "separator " + quoted_or_size(data);  // Windows writes its log's name
}

std::string tag_text(ByteView data) {
  const auto tag = parse_event_tag(data);
  if (!tag.has_value()) return "tagged event that does not parse, " + bytes_text(data.size());
  return "tag 0x" + hex_number(tag->id) + ": " + quoted_or_size(tag->data);
}

std::string gpt_text(ByteView data) {
  // The header of 92 bytes, then the number of entries in use.
  Reader in{data};
  const auto header = in.raw(92);
  const auto count = in.u64_le();
  if (!header.has_value() || !count.has_value() || !as_text(data).starts_with("EFI PART"))
    return "partition table, " + bytes_text(data.size());
  return "partition table of " + std::to_string(*count) + (*count == 1 ? " partition" : " partitions");
}

std::string content_text(const LogEvent& event) {
  const auto type = find_event_type(event.type);
  if (!type) return "unknown type, " + quoted_or_size(event.data);
  switch (*type) {
    case EventType::kNoAction:
      return no_action_text(event.data);
    case EventType::kSeparator:
      return separator_text(event.data);
    case EventType::kSCrtmVersion:
      return "CRTM version " + quoted_or_size(event.data);
    case EventType::kSCrtmContents:
      return "CRTM " + quoted_or_size(event.data);
    case EventType::kEfiVariableDriverConfig:
    case EventType::kEfiVariableBoot:
    case EventType::kEfiVariableBoot2:
    case EventType::kEfiVariableAuthority:
      return variable_text(event);
    case EventType::kEfiBootServicesApplication:
      return image_text(event, "application");
    case EventType::kEfiBootServicesDriver:
      return image_text(event, "boot driver");
    case EventType::kEfiRuntimeServicesDriver:
      return image_text(event, "run-time driver");
    case EventType::kEfiPlatformFirmwareBlob:
      return blob_text(event, false);
    case EventType::kEfiPlatformFirmwareBlob2:
      return blob_text(event, true);
    case EventType::kEfiGptEvent:
    case EventType::kEfiGptEvent2:
      return gpt_text(event.data);
    case EventType::kEfiHandoffTables:
    case EventType::kEfiHandoffTables2:
      return "tables of the firmware, " + bytes_text(event.data.size());
    case EventType::kEventTag:
      return tag_text(event.data);
    case EventType::kPostCode:
      return event.data.size() == 16 ? blob_text(event, false) : quoted_or_size(event.data);
    case EventType::kPostCode2:
      return blob_text(event, true);
    case EventType::kPrebootCert:
    case EventType::kUnused:
    case EventType::kAction:
    case EventType::kCpuMicrocode:
    case EventType::kPlatformConfigFlags:
    case EventType::kTableOfDevices:
    case EventType::kCompactHash:
    case EventType::kIpl:
    case EventType::kIplPartitionData:
    case EventType::kNonhostCode:
    case EventType::kNonhostConfig:
    case EventType::kNonhostInfo:
    case EventType::kOmitBootDeviceEvents:
    case EventType::kEfiAction:
    case EventType::kEfiHcrtmEvent:
    case EventType::kEfiSpdmFirmwareBlob:
    case EventType::kEfiSpdmFirmwareConfig:
    case EventType::kEfiSpdmDevicePolicy:
    case EventType::kEfiSpdmDeviceAuthority:
      return quoted_or_size(event.data);
  }
  return bytes_text(event.data.size());
}

}  // namespace

std::string guid_text(const EfiGuid& guid) {
  const ByteArray<16>& b = guid.bytes;
  const ByteArray<16> printed{b[3], b[2], b[1],  b[0],  b[5],  b[4],  b[7],  b[6],
                              b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]};
  std::string text = to_hex(ByteView{printed});
  for (const std::size_t at : {20u, 16u, 12u, 8u}) text.insert(at, 1, '-');
  return text;
}

Result<std::string> utf8_of_utf16(ByteView bytes) {
  if (bytes.size() % 2 != 0) return refused("UTF-16 of an odd number of bytes");
  const auto unit = [bytes](std::size_t i) {
    return std::uint32_t{bytes[i]} | std::uint32_t{bytes[i + 1]} << 8;
  };
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    std::uint32_t point = unit(i);
    if (point >= 0xD800 && point < 0xE000) {
      if (point >= 0xDC00 || i + 3 >= bytes.size()) return refused("half a surrogate pair");
      const std::uint32_t low = unit(i += 2);
      if (low < 0xDC00 || low >= 0xE000) return refused("half a surrogate pair");
      point = 0x10000 + ((point - 0xD800) << 10 | (low - 0xDC00));
    }
    append_utf8(out, point);
  }
  return out;
}

Result<EfiVariable> parse_efi_variable(ByteView bytes) {
  return formed(read_variable(bytes, 0));
}

Result<EfiVariable> parse_efi_authority(ByteView bytes) {
  return formed(read_variable(bytes, kMaxShimExcess));
}

Result<std::vector<EfiSignature>> parse_signature_lists(ByteView bytes) {
  const auto parse = [bytes]() -> Result<std::vector<EfiSignature>> {
    std::vector<EfiSignature> out;
    Reader in{bytes};
    while (in.remaining() != 0) {
      SP_TRY(const EfiGuid type, read_guid(in));
      SP_TRY(const std::uint32_t list_size, in.u32_le());
      SP_TRY(const std::uint32_t header_size, in.u32_le());
      SP_TRY(const std::uint32_t entry_size, in.u32_le());
      constexpr std::size_t kHead = kGuidBytes + 12;
      if (list_size < kHead) return refused("a signature list smaller than its head");
      SP_TRY(const ByteView rest, read_sized(in, list_size - kHead));
      Reader list{rest};
      const EfiSignature::Kind kind = type == kCertX509     ? EfiSignature::Kind::kX509
                                      : type == kCertSha256 ? EfiSignature::Kind::kSha256
                                                            : EfiSignature::Kind::kOther;
      if (entry_size <= kGuidBytes) return refused("signatures smaller than their owner");
      if (kind != EfiSignature::Kind::kOther && header_size != 0)
        return refused("a signature list with a header where there is none");
      if (kind == EfiSignature::Kind::kSha256 && entry_size != kGuidBytes + 32)
        return refused("digests of another size than 32 bytes");
      SP_TRY([[maybe_unused]] const ByteView header, read_sized(list, header_size));
      if (list.remaining() % entry_size != 0) return refused("a signature list that ends within an entry");
      while (list.remaining() != 0) {
        EfiSignature entry;
        entry.kind = kind;
        entry.type = type;
        SP_TRY(entry.owner, read_guid(list));
        SP_TRY(entry.data, list.raw(entry_size - kGuidBytes));
        out.push_back(entry);
      }
    }
    return out;
  };
  return formed(parse());
}

Result<EfiSignature> parse_signature_data(ByteView bytes) {
  if (bytes.size() <= kGuidBytes) return refused("a signature smaller than its owner");
  EfiSignature entry;
  std::memcpy(entry.owner.bytes.data(), bytes.data(), kGuidBytes);
  entry.data = bytes.subspan(kGuidBytes);
  if (looks_der(entry.data)) entry.kind = EfiSignature::Kind::kX509;
  return entry;
}

Result<std::string> device_path_text(ByteView bytes) {
  const auto parse = [bytes]() -> Result<std::string> {
    std::string out;
    Reader in{bytes};
    for (std::size_t nodes = 0; in.remaining() != 0; ++nodes) {
      if (nodes == kMaxDevicePathNodes) return refused("a device path of too many nodes");
      SP_TRY(const std::uint8_t type, in.u8());
      SP_TRY(const std::uint8_t subtype, in.u8());
      SP_TRY(const std::uint16_t size, in.u16_le());
      if (size < 4) return refused("a device path node smaller than its head");
      SP_TRY(const ByteView body, in.raw(size - std::size_t{4}));
      if (type == 0x7F && subtype == 0xFF) {
        SP_CHECK(in.finish());
        if (!body.empty()) return refused("a device path's end that holds something");
        return out;
      }
      if (type == 0x7F) {  // another instance follows
        out += ";";
        continue;
      }
      SP_TRY(const std::string text, node_text(type, subtype, body));
      if (!out.empty() && out.back() != ';') out += "/";
      out += text;
    }
    // Firmware leaves out the end of a path, and writes no path for an image that came from memory.
    return out;
  };
  return formed(parse());
}

Result<EfiImageLoad> parse_image_load(ByteView bytes) {
  const auto parse = [bytes]() -> Result<EfiImageLoad> {
    Reader in{bytes};
    EfiImageLoad image;
    SP_TRY(image.location, in.u64_le());
    SP_TRY(image.size, in.u64_le());
    SP_TRY(image.link_address, in.u64_le());
    SP_TRY(const std::uint64_t size, in.u64_le());
    SP_TRY(image.device_path, read_sized(in, size));
    image.excess_bytes = in.remaining();
    if (image.excess_bytes > kMaxShimExcess) return refused("trailing bytes");
    return image;
  };
  return formed(parse());
}

Result<EfiFirmwareBlob> parse_firmware_blob(ByteView bytes) {
  const auto parse = [bytes]() -> Result<EfiFirmwareBlob> {
    Reader in{bytes};
    EfiFirmwareBlob blob;
    SP_TRY(blob.base, in.u64_le());
    SP_TRY(blob.size, in.u64_le());
    SP_CHECK(in.finish());
    return blob;
  };
  return formed(parse());
}

Result<EfiFirmwareBlob> parse_firmware_blob2(ByteView bytes) {
  const auto parse = [bytes]() -> Result<EfiFirmwareBlob> {
    Reader in{bytes};
    SP_TRY(const std::uint8_t size, in.u8());
    SP_TRY(const ByteView description, in.raw(size));
    SP_TRY(EfiFirmwareBlob blob, parse_firmware_blob(in.rest()));
    blob.description = as_text(description);
    return blob;
  };
  return formed(parse());
}

Result<EventTag> parse_event_tag(ByteView bytes) {
  const auto parse = [bytes]() -> Result<EventTag> {
    Reader in{bytes};
    EventTag tag;
    SP_TRY(tag.id, in.u32_le());
    SP_TRY(const std::uint32_t size, in.u32_le());
    SP_TRY(tag.data, read_sized(in, size));
    SP_CHECK(in.finish());
    return tag;
  };
  return formed(parse());
}

std::optional<EfiAction> find_efi_action(ByteView data) {
  static constexpr std::pair<std::string_view, EfiAction> kActions[] = {
      {"Calling EFI Application from Boot Option", EfiAction::kCallingApplication},
      {"Returning from EFI Application from Boot Option", EfiAction::kReturningFromApplication},
      {"Exit Boot Services Invocation", EfiAction::kExitBootServices},
      {"Exit Boot Services Returned with Failure", EfiAction::kExitBootServicesFailed},
      {"Exit Boot Services Returned with Success", EfiAction::kExitBootServicesSucceeded},
      {"UEFI Debug Mode", EfiAction::kDebugMode},
      {"DMA Protection Disabled", EfiAction::kDmaProtectionDisabled}};
  for (const auto& [text, action] : kActions)
    if (as_text(data) == text) return action;
  return std::nullopt;
}

std::optional<std::string> event_text(ByteView data) {
  if (data.size() >= 2 && data[0] != 0 && data[1] == 0) {
    ByteView units = data;
    if (units.size() % 2 != 0) {  // systemd-boot once counted half of the zero at the end
      if (units.back() != 0) return std::nullopt;
      units = units.first(units.size() - 1);
    }
    units = without_zero_units(units);
    for (std::size_t i = 0; i + 1 < units.size(); i += 2)
      if (units[i + 1] == 0 && is_control(units[i])) return std::nullopt;
    if (auto text = utf8_of_utf16(units); text.has_value()) return std::move(text).value();
    return std::nullopt;
  }
  const ByteView text = without_zeros(data);
  const bool ascii = std::all_of(text.begin(), text.end(),
                                 [](std::uint8_t octet) { return octet < 0x80 && !is_control(octet); });
  if (text.empty() || !ascii) return std::nullopt;
  return std::string{as_text(text)};
}

std::optional<ByteView> measured_part(const LogEvent& event) {
  const std::optional<ByteView> digest = event.digest(LogAlgorithm::kSha256);
  if (!digest) return std::nullopt;
  const auto measured = [&](ByteView part) { return equal(view(crypto::sha256(part)), *digest); };
  const ByteView text = without_zeros(event.data);
  const bool padded = text.size() != event.data.size();
  // What stands behind a separator that is in the text, with the zeros at the end or without.
  const auto behind = [&](std::string_view separator, bool zeros) -> std::optional<ByteView> {
    const std::size_t at = as_text(text).find(separator);
    if (at == std::string_view::npos) return std::nullopt;
    const ByteView part = (zeros ? event.data : text).subspan(at + separator.size());
    return measured(part) ? std::optional{part} : std::nullopt;
  };
  const bool ipl = event.is(EventType::kIpl);
  // "grub_cmd: …", "kernel_cmdline: …": most lines of a boot, so they are looked for first. One text at most
  // has the digest, in whatever order.
  if (ipl)
    if (const auto part = behind(": ", false)) return part;
  if (measured(event.data)) return event.data;
  if (event.is(EventType::kEfiVariableBoot)) {
    const auto variable = parse_efi_variable(event.data);
    if (variable.has_value() && measured(variable->data)) return variable->data;
  }
  if (event.is(EventType::kEfiVariableAuthority) && !event.data.empty()) {
    if (const ByteView part = event.data.first(event.data.size() - 1); measured(part)) return part;
  }
  if (ipl) {
    static constexpr std::uint8_t kZero[1] = {0};
    if (equal(view(crypto::sha256({event.data, kZero})), *digest)) return event.data;
    if (padded && measured(text)) return text;
    if (padded)
      if (const auto part = behind(": ", true)) return part;
    // Of Red Hat "grub_cmd …", "grub_kernel_cmdline …".
    if (const auto part = behind(" ", false)) return part;
    if (padded)
      if (const auto part = behind(" ", true)) return part;
  }
  return std::nullopt;
}

std::string describe(const LogEvent& event) {
  std::string text = content_text(event);
  if (text.size() > kMaxDescription) text = text.substr(0, kMaxDescription - 3) + "...";
  return text;
}

}  // namespace sallyport::evidence

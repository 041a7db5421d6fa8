// The first octet says which structure of an event the rest is. What a parser takes lies within the bytes,
// and its sizes add up to them.
#include "attestation/evidence/efi.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  using namespace sallyport::evidence;
  if (size == 0) return 0;
  const ByteView bytes = ByteView{data, size}.subspan(1);
  const auto within = [&](ByteView part) {
    return part.empty() ||
           (part.data() >= bytes.data() && part.data() + part.size() <= bytes.data() + bytes.size());
  };
  switch (data[0]) {
    case 0:
      if (const auto variable = parse_efi_variable(bytes); variable.has_value()) {
        SP_ASSERT(within(variable->data) && !variable->name.empty());
        const auto authority = parse_efi_authority(bytes);
        SP_ASSERT(authority.has_value() && authority->name == variable->name);
      }
      break;
    case 1:
      if (const auto lists = parse_signature_lists(bytes); lists.has_value())
        for (const EfiSignature& entry : *lists) {
          SP_ASSERT(within(entry.data) && !entry.data.empty());
          SP_ASSERT(entry.kind != EfiSignature::Kind::kSha256 || entry.data.size() == 32);
        }
      break;
    case 2:
      if (const auto entry = parse_signature_data(bytes); entry.has_value())
        SP_ASSERT(entry->data.size() + 16 == bytes.size());
      break;
    case 3:
      if (const auto text = device_path_text(bytes); text.has_value()) SP_ASSERT(text->size() <= 8 * size);
      break;
    case 4:
      if (const auto image = parse_image_load(bytes); image.has_value())
        SP_ASSERT(image->device_path.size() + 32 + image->excess_bytes == bytes.size());
      break;
    case 5:
      static_cast<void>(parse_firmware_blob(bytes));
      break;
    case 6:
      if (const auto blob = parse_firmware_blob2(bytes); blob.has_value())
        SP_ASSERT(blob->description.size() + 17 == bytes.size());
      break;
    case 7:
      if (const auto tag = parse_event_tag(bytes); tag.has_value())
        SP_ASSERT(tag->data.size() + 8 == bytes.size());
      break;
    case 8:
      if (const auto text = utf8_of_utf16(bytes); text.has_value())
        SP_ASSERT(text->size() <= 2 * bytes.size());
      break;
    default:
      static_cast<void>(event_text(bytes));
      break;
  }
  return 0;
}

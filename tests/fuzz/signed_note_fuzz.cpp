// Signed notes: what parses is printed back to the same bytes, and only a note that parses can verify.
#include <cstdlib>

#include "attestation/ledger/signed_note.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::ledger;
  static const auto key = parse_vkey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k");
  const std::string_view text = sallyport::as_text({data, size});
  if (const auto note = parse_note(text)) {
    if (encode_note(*note) != text) std::abort();
    if (const auto lines = verify_note(*note, {&*key, 1}); lines && lines->size() != 1) std::abort();
  }
  if (const auto lines = parse_signature_lines(text)) {
    std::string again;
    for (const auto& line : *lines) again += encode_signature_line(line);
    if (again != text) std::abort();
  }
  return 0;
}

// What EventLog::parse takes is replayed and described without harm: a bank is replayed wholly or refused
// with its reason, descriptions are short printable ASCII, views stay within the log, and a log that ends
// with its last event parses to the same.
#include "attestation/evidence/efi.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  using namespace sallyport::evidence;
  const auto log = EventLog::parse(Bytes{data, data + size});
  if (!log.has_value()) {
    SP_ASSERT(log.error().reason == Reason::kEventLogForm);
    return 0;
  }
  const ByteView bytes = log->bytes();
  const auto within = [&](ByteView part) {
    return part.empty() ||
           (part.data() >= bytes.data() && part.data() + part.size() <= bytes.data() + bytes.size());
  };
  std::uint32_t extended = 0;
  for (const LogEvent& event : log->events()) {
    SP_ASSERT(within(event.data));
    SP_ASSERT(event.pcr < 24 || (event.pcr == kNoPcr && !event.extends()));
    if (event.extends()) extended |= std::uint32_t{1} << event.pcr;
    const auto part = measured_part(event);
    SP_ASSERT(!data_hashes_to_digest(event) || (part && part->size() == event.data.size()));
    const std::string text = describe(event);
    SP_ASSERT(!text.empty() && text.size() <= kMaxDescription);
    for (const char c : text) SP_ASSERT(c >= 0x20 && c < 0x7F);
  }
  for (const LogAlgorithm bank : kLogAlgorithms) {
    const auto pcrs = replay(*log, bank);
    if (!pcrs.has_value()) {
      SP_ASSERT(pcrs.error().reason == Reason::kEventLogBank);
      continue;
    }
    for (std::uint32_t pcr = 0; pcr < 24; ++pcr) {
      const auto value = pcrs->find(pcr);
      SP_ASSERT(value.has_value() == ((extended >> pcr & 1) != 0));
      SP_ASSERT(!value || value->size() == digest_size(bank));
    }
  }
  const auto again = EventLog::parse(to_bytes(bytes.first(bytes.size() - log->padding_bytes())));
  SP_ASSERT(again.has_value() && again->events().size() == log->events().size() &&
            again->padding_bytes() == 0);
  return 0;
}

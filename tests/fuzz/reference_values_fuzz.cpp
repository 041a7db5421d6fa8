// Reference values that load are written as what reads back the same, and accept no boot without events.
#include "attestation/base/error.h"
#include "attestation/evidence/appraisal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  using namespace sallyport::evidence;
  const auto loaded = parse_reference_values(as_text({data, size}));
  if (!loaded) {
    SP_ASSERT(loaded.error().reason == Reason::kReferenceInvalid && !loaded.error().what.empty());
    return 0;
  }
  const std::string text = write_reference_values(*loaded);
  const auto again = parse_reference_values(text);
  SP_ASSERT(again.has_value() && write_reference_values(*again) == text);
  SP_ASSERT(again->ima == loaded->ima);
  if (loaded->ima) SP_ASSERT(loaded->ima->files() != 0 || !loaded->ima->terms().keys.empty());
  SP_ASSERT(loaded->references.size() == again->references.size());
  for (const Reference& one : loaded->references) {
    for (const ExpectedEvent& event : one.events)
      for (const Digest256& digest : event.digests)
        SP_ASSERT(one.find(event.pcr, event.after_separator, digest).has_value());
    for (const unsigned pcr : {0u, 2u, 4u, 7u}) SP_ASSERT(loaded->selection.contains(pcr) && one.judges(pcr));
  }
  return 0;
}

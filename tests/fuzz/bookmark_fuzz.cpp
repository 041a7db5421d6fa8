// A monitor's place in a log that parses is written as it was read.
#include "client/auditor/monitor.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const std::string_view text = as_text({data, size});
  const auto place = client::auditor::parse_bookmark(text);
  if (place.has_value()) SP_ASSERT(client::auditor::encode(*place) == text);
  return 0;
}

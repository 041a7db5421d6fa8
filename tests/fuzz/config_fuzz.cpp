// config.toml: what is refused is refused as usage, and what is read is written so that it reads the same.
#include "client/connection/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const auto config = client::parse_config(as_text({data, size}));
  if (!config.has_value()) {
    SP_ASSERT(config.error().reason == Reason::kUsage);
    return 0;
  }
  const auto again = client::parse_config(client::format_config(*config));
  SP_ASSERT(again.has_value() && *again == *config);
  return 0;
}

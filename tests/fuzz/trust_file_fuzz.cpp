// A trust file that parses is written so that it reads the same.
#include "attestation/follow/follower.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const auto anchor = follow::parse_trust_file(as_text({data, size}));
  if (!anchor.has_value()) return 0;
  const auto again = follow::parse_trust_file(follow::format_trust_file(*anchor));
  SP_ASSERT(again.has_value());
  SP_ASSERT(again->origin == anchor->origin && again->genesis_policy == anchor->genesis_policy);
  return 0;
}

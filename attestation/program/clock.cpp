#include "attestation/program/clock.h"

#include <chrono>

namespace sallyport::program {

UnixMillis wall_clock() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return UnixMillis{
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(since).count())};
}

}  // namespace sallyport::program

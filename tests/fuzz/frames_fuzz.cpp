// FrameDecoder: however a stream is cut, the frames that come out, encoded again, are the stream's beginning,
// and no frame is above the cap. The first input byte is the size of the pieces in which the rest arrives.
#include <cstdint>
#include <cstdlib>

#include "attestation/net/frames.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  constexpr std::size_t kCap = 512;
  if (size == 0) return 0;
  const std::size_t piece = std::size_t{data[0]} + 1;
  const ByteView stream{data + 1, size - 1};
  net::FrameDecoder decoder{kCap};
  Bytes again;
  for (ByteView rest = stream; !rest.empty();) {
    const ByteView now = rest.first(std::min(piece, rest.size()));
    rest = rest.subspan(now.size());
    decoder.feed(now);
    while (true) {
      const std::size_t missing = decoder.missing();
      const auto frame = decoder.next();
      if (!frame) {
        if (missing != 0) std::abort();
        return 0;
      }
      if (frame->has_value() != (missing == 0)) std::abort();
      if (!frame->has_value()) break;
      if ((*frame)->size() > kCap) std::abort();
      const Bytes encoded = net::encode_frame(**frame);
      again.insert(again.end(), encoded.begin(), encoded.end());
      if (!equal(stream.first(again.size()), again)) std::abort();
    }
  }
  if (decoder.between_frames() != (again.size() == stream.size())) std::abort();
  return 0;
}

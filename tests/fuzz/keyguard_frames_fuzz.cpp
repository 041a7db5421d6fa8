// What the keyguard and its client accept of a frame is what they would write. The first byte chooses.
#include "broker/keyguard/protocol.h"

namespace {

using namespace sallyport;

template <class T>
void check(const Result<T>& parsed, ByteView bytes) {
  if (parsed.has_value()) SP_ASSERT(equal(keyguard::encode(*parsed), bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyguard;
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  switch (data[0]) {
    case 'f': {
      const auto frame = parse_frame(bytes);
      if (frame.has_value()) SP_ASSERT(equal(encode_frame(frame->call, frame->payload), bytes));
      break;
    }
    case 'e': {
      // Whatever the answer, what is told of it can be told on.
      const Error error = parse_error(bytes);
      const Error again = parse_error(encode_error(error));
      SP_ASSERT(again.code == error.code && again.reason == error.reason);
      break;
    }
    case 's':
      check(parse_status_answer(bytes), bytes);
      break;
    case 't':
      check(parse_lease_statement_call(bytes), bytes);
      break;
    case 'l':
      check(parse_lease_call(bytes), bytes);
      break;
    default:
      break;
  }
  return 0;
}

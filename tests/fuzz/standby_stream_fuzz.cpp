// What a standby and its primary accept of each other is what they would write. The first byte chooses.
#include "broker/ledger/standby_protocol.h"

namespace {

using namespace sallyport;

template <class T>
void check(const Result<T>& parsed, ByteView bytes) {
  if (parsed.has_value()) SP_ASSERT(equal(ledger_service::encode(*parsed), bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ledger_service;
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  switch (data[0]) {
    case 'h':
      check(parse_standby_hello(bytes), bytes);
      break;
    case 's':
      check(parse_standing(bytes), bytes);
      break;
    case 'e':
      check(parse_streamed_entries(bytes), bytes);
      break;
    case 'n':
      check(parse_streamed_notes(bytes), bytes);
      break;
    case 'd':
      check(parse_digests(bytes), bytes);
      break;
    case 'a':
      check(parse_attachment(bytes), bytes);
      break;
    case 'r': {
      // Whatever the answer, what is told of it can be told on.
      const Error error = parse_refusal(422, as_text(bytes));
      SP_ASSERT(parse_refusal(422, encode_refusal(error)).reason == error.reason);
      break;
    }
    default:
      break;
  }
  return 0;
}

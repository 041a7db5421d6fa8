// What a message's parser accepts is what its encoder writes. The first byte chooses the message.
#include "attestation/api/messages.h"

namespace {

using namespace sallyport;

template <class T>
void check(const Result<T>& parsed, ByteView bytes) {
  if (parsed.has_value()) SP_ASSERT(equal(api::encode(*parsed), bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace api;
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  switch (data[0]) {
    case 'e':
      check(parse_error_message(bytes), bytes);
      break;
    case 'h':
      check(parse_hello(bytes), bytes);
      break;
    case 'a':
      check(parse_attest(bytes), bytes);
      break;
    case 's':
      check(parse_submitted(bytes), bytes);
      break;
    case 'S':
      check(parse_submitted_list(bytes), bytes);
      break;
    case 'v':
      check(parse_case_view(bytes), bytes);
      break;
    case 'l':
      check(parse_case_list(bytes), bytes);
      break;
    case 'r':
      check(parse_activated(bytes), bytes);
      break;
    case 'k':
      check(parse_lease_ask(bytes), bytes);
      break;
    case 'd':
      check(parse_leased(bytes), bytes);
      break;
    case 'c':
      check(parse_challenge(bytes), bytes);
      break;
    case 'm':
      check(parse_challenges(bytes), bytes);
      break;
    case 'n': {
      const auto notes = parse_notes(bytes);
      if (notes.has_value()) SP_ASSERT(equal(encode_notes(*notes), bytes));
      break;
    }
    case 'f': {
      const auto field = parse_field(bytes, "answer", 64);
      if (field.has_value()) SP_ASSERT(equal(encode_field("answer", *field), bytes));
      break;
    }
    default:
      break;
  }
  return 0;
}

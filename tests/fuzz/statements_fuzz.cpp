// What a statement's parser accepts is what its encoder writes. The first byte chooses the statement.
#include "attestation/record/statements.h"

namespace {

using namespace sallyport;

template <class T>
void check(const Result<T>& parsed, ByteView bytes) {
  if (parsed.has_value()) SP_ASSERT(equal(record::encode(*parsed), bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace record;
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  switch (data[0]) {
    case 'a':
      check(parse_request(bytes), bytes);
      break;
    case 'b':
      check(parse_decision(bytes), bytes);
      break;
    case 'c':
      check(parse_refusal(bytes), bytes);
      break;
    case 'd':
      check(parse_approval(bytes), bytes);
      break;
    case 'e':
      check(parse_denial(bytes), bytes);
      break;
    case 'f':
      check(parse_grant(bytes), bytes);
      break;
    case 'g':
      check(parse_lease(bytes), bytes);
      break;
    case 'h':
      check(parse_session_opened(bytes), bytes);
      break;
    case 'i':
      check(parse_session_closed(bytes), bytes);
      break;
    case 'j':
      check(parse_enrolment_requested(bytes), bytes);
      break;
    case 'k':
      check(parse_enrolment(bytes), bytes);
      break;
    case 'l':
      check(parse_policy_proposed(bytes), bytes);
      break;
    case 'm':
      check(parse_policy_in_force(bytes), bytes);
      break;
    case 'n':
      check(parse_revocation(bytes), bytes);
      break;
    case 'o':
      check(parse_ticket(bytes), bytes);
      break;
    case 'p':
      check(parse_host_hello(bytes), bytes);
      break;
    case 'q':
      check(parse_snapshot(bytes), bytes);
      break;
    case 'r':
      check(parse_erasure_proposed(bytes), bytes);
      break;
    case 's':
      check(parse_erasure(bytes), bytes);
      break;
    case 't':
      check(parse_hold(bytes), bytes);
      break;
    case 'u':
      check(parse_hold_lifted(bytes), bytes);
      break;
    case 'v':
      check(parse_list_approval(bytes), bytes);
      break;
    default:
      break;
  }
  return 0;
}

// What the parsers of bodies, evidence, submissions, batches and pages accept is what their encoders write.
// The first byte chooses.
#include "attestation/record/batch.h"
#include "attestation/record/entry.h"

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
    case 'b': {
      const auto body = parse_body(bytes);
      if (body.has_value()) SP_ASSERT(equal(encode_body(*body), bytes));
      break;
    }
    case 'q':
      check(parse_quote_evidence(bytes), bytes);
      break;
    case 'm':
      check(parse_ima_quote_evidence(bytes), bytes);
      break;
    case 'k':
      check(parse_key_evidence(bytes), bytes);
      break;
    case 'i':
      check(parse_identity_evidence(bytes), bytes);
      break;
    case 'o':
      check(parse_observation(bytes), bytes);
      break;
    case 's':
      check(parse_submission(bytes), bytes);
      break;
    case 'f': {
      const auto batch = parse_batch(bytes);
      if (batch.has_value()) SP_ASSERT(equal(encode_batch(*batch), bytes));
      break;
    }
    case 'p': {
      const auto page = parse_entry_page(bytes);
      if (page.has_value()) SP_ASSERT(equal(encode_entry_page(*page), bytes));
      break;
    }
    default:
      break;
  }
  return 0;
}

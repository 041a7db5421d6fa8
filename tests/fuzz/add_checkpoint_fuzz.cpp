// Requests to a witness: one spelling each, and always one of the answers of the text; only 200 carries a
// checkpoint, and never one that is smaller than the witness's own.
#include <cstdlib>

#include "attestation/ledger/add_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  using namespace sallyport::ledger;
  static const LogKey log{
      Origin{"example.com/log/testdata"},
      *parse_vkey("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")};
  const std::string_view text = as_text({data, size});
  if (const auto body = parse_size_body(text); body && std::to_string(body->get()) + "\n" != text)
    std::abort();
  const auto request = parse_add_checkpoint(text);
  if (!request) return 0;
  if (encode_add_checkpoint(*request) != text || !claimed_origin(*request)) std::abort();
  for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{5}}) {
    const WitnessState state{TreeSize{at}, at == 0 ? empty_root() : hash_leaf({})};
    const auto decision = decide_add_checkpoint(state, *request, {&log, 1});
    const int status = decision.answer.status;
    if (status != 200 && status != 400 && status != 403 && status != 404 && status != 409 && status != 422)
      std::abort();
    if (decision.accepted.has_value() != (status == 200)) std::abort();
    if (decision.accepted && decision.accepted->checkpoint().size < state.size) std::abort();
  }
  return 0;
}

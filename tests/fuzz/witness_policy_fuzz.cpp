// Witness policies: all witnesses together fill the quorum, nobody does not; k is between 1 and n.
#include <cstdlib>

#include "attestation/ledger/witness_policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const auto policy = ledger::parse_witness_policy(as_text({data, size}));
  if (!policy) return 0;
  std::vector<KeyId> everyone;
  for (const auto& witness : policy->witnesses()) everyone.push_back(witness.key.key().id());
  if (!policy->quorum_met(everyone) || policy->quorum_met({})) std::abort();
  if (policy->k() < 1 || policy->k() > policy->n() || policy->n() > everyone.size()) std::abort();
  if (ledger::require_overlap(*policy).has_value() != (2 * policy->k() > policy->n())) std::abort();
  return 0;
}

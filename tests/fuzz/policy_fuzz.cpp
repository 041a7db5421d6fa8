// A policy that loads keeps its text, loads again to the same digest, and differs in nothing from itself.
#include "attestation/base/error.h"
#include "attestation/crypto/digest.h"
#include "attestation/policy/decide.h"
#include "attestation/policy/diff.h"
#include "attestation/policy/policy.h"
#include "attestation/policy/quorum.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  using namespace sallyport::policy;
  const auto loaded = parse_policy(as_text({data, size}));
  if (!loaded) {
    SP_ASSERT(loaded.error().reason == Reason::kPolicyInvalid && !loaded.error().what.empty());
    return 0;
  }
  const Policy& policy = *loaded;
  SP_ASSERT(equal(as_bytes(policy.text), {data, size}));
  SP_ASSERT(policy.digest == crypto::sha256({data, size}));
  const auto again = parse_policy(policy.text);
  SP_ASSERT(again.has_value() && again->digest == policy.digest && diff(policy, *again).empty());
  for (const Rule& rule : policy.rules) {
    SP_ASSERT(can_fill(policy, {rule.quorum, {}, rule.approver}));
    SP_ASSERT(!source_networks(policy, rule).empty());
  }
  // Nobody gets anything from a machine or a network of no known region.
  for (const Person& person : policy.persons)
    for (const Resource& resource : policy.resources) {
      const std::string host = resource.hosts.empty() ? "" : resource.hosts.front().name;
      const DecisionInputs inputs{person.id, person.id, resource.id,      host,
                                  "",        {},        unknown_region(), unknown_region()};
      SP_ASSERT(std::holds_alternative<Refusal>(decide(policy, inputs)));
    }
  return 0;
}

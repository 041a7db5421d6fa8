#pragma once

#include <algorithm>

#include "attestation/record/snapshot.h"
#include "attestation/record/times.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::test {

// take_snapshot appends a snapshot's leaf and gives what an honest broker has for who joins from it: with the
// leaves from `first` on.
inline record::Joining take_snapshot(RecordScenario& company, std::size_t first = 0) {
  using namespace record;
  Joining joining;
  joining.state = encode_control(company.follower);
  joining.snapshot =
      value_of(compose_snapshot(company.follower, company.now + std::chrono::milliseconds{10}, Nonce{}));
  for (std::size_t i = 0; i < company.entries.size(); ++i) {
    Entry entry = company.entries[i];
    if (entry.leaf.kind == static_cast<std::uint8_t>(Kind::kPolicy)) {
      Entry bare = entry;
      bare.blobs.clear();
      joining.policies.push_back(std::move(bare));
    }
    if (i < first)
      joining.before.append(ledger::leaf_hash(entry.leaf));
    else
      joining.leaves.push_back(entry.leaf);
  }
  value_of(company.append(joining.snapshot));
  return joining;
}

}  // namespace sallyport::test

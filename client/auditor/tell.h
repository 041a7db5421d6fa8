#pragma once

#include "attestation/record/entry.h"
#include "client/auditor/erasures.h"

namespace sallyport::client::auditor {

// Told is one line of what a leaf says: who, and what. Text of others, as it was signed: print it with
// printable(). Nothing of it is verified here.
struct Told {
  std::string who, what;
};
// Of an erased entry nothing is told: tell_erased says who erased it.
Result<Told> tell(const record::Entry& entry);

// named_cases says of how many cases a statement is, and of which, as far as a line has room for them.
std::string named_cases(const std::vector<CaseId>& cases);
// tell_erased: "erased on DATE by erasure case c-…, approved by …".
std::string tell_erased(const KnownErasure& erasure);

}  // namespace sallyport::client::auditor

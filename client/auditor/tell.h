#pragma once

#include "attestation/record/entry.h"

namespace sallyport::client::auditor {

// Told is one line of what a leaf says: who, and what. Text of others, as it was signed: print it with
// printable(). Nothing of it is verified here.
struct Told {
  std::string who, what;
};
Result<Told> tell(const record::Entry& entry);

}  // namespace sallyport::client::auditor

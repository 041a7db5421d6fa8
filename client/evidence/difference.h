#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/evidence/reference_values.h"

namespace sallyport::client::evidence_tools {

// Difference is one thing that differs between two references, as people call it.
struct Difference {
  char sign = '~';                  // '+' only the new one has it, '-' only the old one, '~' both, otherwise
  std::optional<std::uint8_t> pcr;  // none: it is of the reference as a whole
  std::string text;                 // may hold characters of the documents: printable() before it is shown
};

// diff_references tells what differs in what two references accept. Events are held against each other by
// their digests first; what is left at the same place (PCR and side of the separator) by its kind, in order;
// what is left then is new or gone. Kinds are taken from `what`, which is for people and judged by nobody:
// which events belong together is a guess, that they differ is not.
//   Nothing: both accept the same boots. (Ids are no difference.)   Pure.
std::vector<Difference> diff_references(const evidence::Reference& before, const evidence::Reference& after);

// diff_ima tells what differs in which files may be measured: keys, terms, and each path.   Pure.
std::vector<Difference> diff_ima(const std::optional<evidence::ImaReference>& before,
                                 const std::optional<evidence::ImaReference>& after);

// ReferencePair is what diff_values holds against each other; null: the other side has nothing like it. It
// points into what was given.
struct ReferencePair {
  const evidence::Reference* before = nullptr;
  const evidence::Reference* after = nullptr;
  std::vector<Difference> differences;
};

// diff_values pairs references by their ids; each of `after` that is left with the one of `before` that
// differs from it in the least.   Pure.
std::vector<ReferencePair> diff_values(const std::vector<evidence::Reference>& before,
                                       const std::vector<evidence::Reference>& after);

}  // namespace sallyport::client::evidence_tools

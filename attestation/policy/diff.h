#pragma once

#include <string>
#include <vector>

#include "attestation/policy/policy.h"

namespace sallyport::policy {

// One line of `sallyport policy diff`: "rule     ~ us-oncall-to-user-db   duration 15 min → 30 min".
struct DiffLine {
  std::string section;  // "version", "authority", "region", "person", "resource", "rule"
  char sign = '~';      // '+' new, '-' gone, '~' changed
  std::string id;       // what it is about
  std::string text;     // how; for a new person also what the rules now let that person reach
};

// diff lists every difference in meaning between two policies, in document order of sections; a policy
// against itself gives nothing. The order of rules is meaning; comments and white space are not.
std::vector<DiffLine> diff(const Policy& before, const Policy& after);

std::string render(const DiffLine& line);

}  // namespace sallyport::policy

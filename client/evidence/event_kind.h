#pragma once

#include <string>
#include <string_view>

namespace sallyport::client::evidence_tools {

// EventKind is what describe() (attestation/evidence/efi.h), or a person who wrote `what` after it, says of
// an event: what it is, which stays over an update, and how it is, which need not. "variable dbx" and "250
// digests"; "application \EFI\ubuntu\grubx64.efi" and "2594112 bytes".
struct EventKind {
  std::string name;
  std::string value;  // may be empty
};

// kind_of splits such a line. Words that it does not know are a name without a value.
EventKind kind_of(std::string_view what);

}  // namespace sallyport::client::evidence_tools

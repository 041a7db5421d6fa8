#include "attestation/evidence/binding.h"

#include "attestation/base/error.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"

namespace sallyport::evidence {

std::string_view purpose_name(Purpose purpose) {
  switch (purpose) {
    case Purpose::kConnect:
      return "connect";
    case Purpose::kRequest:
      return "request";
    case Purpose::kKey:
      return "key";
    case Purpose::kActivate:
      return "activate";
    case Purpose::kApprove:
      return "approve";
    case Purpose::kStay:
      return "stay";
    case Purpose::kEnrol:
      return "enrol";
  }
  assertion_failed("a purpose of the enumeration", __FILE__, __LINE__);
}

Digest256 binding_digest(const Binding& binding) {
  constexpr std::string_view kLabel{"sallyport/bind/v1\0", 18};
  Writer out;
  out.raw(kLabel).prefixed32(purpose_name(binding.purpose)).prefixed32(binding.origin.get());
  out.raw(view(binding.case_id)).raw(view(binding.request)).raw(view(binding.nonce)).raw(view(binding.note));
  return crypto::sha256(out.bytes());
}

}  // namespace sallyport::evidence

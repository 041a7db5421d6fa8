// What strangers send of an enrolment: an attestation key that is taken has the template and no other form
// ('a'), and so has the TPM2B of a challenge ('t').
#include <algorithm>

#include "attestation/base/writer.h"
#include "attestation/evidence/templates.h"
#include "client/engineer/enroll.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  if (data[0] == 'a') {
    const auto key = evidence::parse_attestation_key(bytes);
    if (!key.has_value()) return 0;
    const auto& forms = evidence::ak_templates();
    SP_ASSERT(std::find(forms.begin(), forms.end(), key->area().form) != forms.end());
    SP_ASSERT(equal(evidence::encode(key->area()), bytes));
    SP_ASSERT(key->name() == evidence::name_of_encoded(bytes, evidence::NameAlg::kSha256));
  }
  if (data[0] == 't') {
    const auto inner = client::engineer::strip_size(bytes);
    if (inner.has_value()) SP_ASSERT(equal(Writer{}.prefixed16(*inner).bytes(), bytes));
  }
  return 0;
}

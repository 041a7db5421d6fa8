// A bundle of certificates, as a proposed policy brings its TPM vendors' roots: each that is taken is one
// certificate in DER without trailing bytes, and there are as many as blocks.
#include "attestation/crypto/x509.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const std::string_view text = as_text({data, size});
  const auto bundle = crypto::parse_pem_bundle({data, size});
  if (!bundle.has_value()) {
    SP_ASSERT(bundle.error().code == Code::kMalformed);
    return 0;
  }
  SP_ASSERT(!bundle->empty() && bundle->size() <= crypto::kMaxBundleCertificates);
  std::size_t blocks = 0;
  for (auto at = text.find("-----BEGIN"); at != text.npos; at = text.find("-----BEGIN", at + 1)) ++blocks;
  SP_ASSERT(blocks == bundle->size());
  for (const crypto::Certificate& certificate : *bundle) {
    const Bytes& der = certificate.der();
    const auto again = crypto::Certificate::parse_der(der);
    SP_ASSERT(again.has_value() && again->der() == der);
  }
  return 0;
}

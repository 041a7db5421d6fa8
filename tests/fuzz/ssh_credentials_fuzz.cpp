// A certificate that parses is its two parts put together again; a login that parses has no other form. The
// first byte chooses.
#include "attestation/base/writer.h"
#include "broker/credentials/ssh_certificate.h"
#include "broker/credentials/ssh_login.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  if (data[0] == 'c') {
    const auto certificate = credentials::parse_ssh_certificate(bytes);
    if (!certificate.has_value()) return 0;
    SP_ASSERT(equal(credentials::ssh_certificate(certificate->to_be_signed, certificate->signature), bytes));
    SP_ASSERT(certificate->travel_dossier.size() < certificate->to_be_signed.size());
  }
  if (data[0] == 'l') {
    const auto login = credentials::parse_ssh_login(bytes);
    if (!login.has_value()) return 0;
    const Bytes again = std::move(Writer{}
                                      .prefixed32(login->session_id)
                                      .u8(50)
                                      .prefixed32(login->user)
                                      .prefixed32("ssh-connection")
                                      .prefixed32("publickey-hostbound-v00@openssh.com")
                                      .u8(1)
                                      .prefixed32(credentials::kSshCertificateType)
                                      .prefixed32(login->certificate)
                                      .prefixed32(login->host_key))
                            .take();
    SP_ASSERT(equal(again, bytes));
  }
  return 0;
}

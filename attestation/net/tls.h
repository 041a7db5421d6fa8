#pragma once

#include <string>
#include <vector>

#include "attestation/base/secret_bytes.h"
#include "attestation/base/strong.h"
#include "attestation/crypto/private_key.h"

namespace sallyport::net {

// TlsExporter is the tls-exporter channel binding of a TLS 1.3 connection (RFC 9266 §2: label
// EXPORTER-Channel-Binding, empty context, 32 bytes). Both ends compute the same; nobody in between can.
using TlsExporter = ByteArray<32>;

// TlsIdentity is what a server shows (a certificate, of which clients look at the key alone) and the key that
// it proves.
struct TlsIdentity {
  std::string certificate_pem;
  SecretBytes key_pem;
};

// make_self_signed_certificate makes the certificate, in PEM, of a server whose key is pinned: subject and
// DNS or IP alternative names are `names` (at least one), it does not expire, since the policy decides how
// long a key is good.
//   Errors: kMalformed (no names, a name that is neither DNS name nor address, a key other than P-256).
Result<std::string> make_self_signed_certificate(const crypto::PrivateKey& key,
                                                 const std::vector<std::string>& names);

// make_tls_identity is the same with its key, ready for a server.
Result<TlsIdentity> make_tls_identity(const crypto::PrivateKey& key, const std::vector<std::string>& names);

}  // namespace sallyport::net

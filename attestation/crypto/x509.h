#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"
#include "attestation/crypto/public_key.h"

typedef struct x509_st X509;

namespace sallyport::crypto {

inline constexpr std::size_t kMaxCertificateBytes = 64 * 1024;
inline constexpr std::size_t kMaxBundleCertificates = 1024;

// KeyUsage bits (RFC 5280 §4.2.1.3).
struct KeyUsage {
  bool present = false;
  bool digital_signature = false, key_encipherment = false, key_agreement = false, key_cert_sign = false;
};

// Certificate is a parsed X.509 certificate; copies share it. Nothing in it is believed until verify_chain.
class Certificate {
 public:
  // parse_der takes one certificate and no trailing bytes. Its inside need not be strict DER (real vendor
  // roots are not).
  static Result<Certificate> parse_der(ByteView der);

  const Bytes& der() const { return parsed_->der; }
  const Digest256& fingerprint() const { return parsed_->fingerprint; }  // SHA-256 of der()
  int version() const;                                                   // 3 for a v3 certificate
  // public_key: kMalformed for a key that PublicKey does not take; key_algorithm_oid tells which it is
  // ("1.2.840.113549.1.1.1").
  Result<PublicKey> public_key() const;
  std::string key_algorithm_oid() const;
  // key_bits is the size of the key, also of one that public_key() refuses; 0 where OpenSSL cannot read it.
  unsigned key_bits() const;
  bool is_ca() const;  // basicConstraints CA, or what OpenSSL takes for one
  KeyUsage key_usage() const;
  bool has_extended_key_usage() const;
  std::vector<std::string> extended_key_usage() const;  // dotted OIDs
  bool subject_is_empty() const;
  bool has_critical_subject_alternative_name() const;
  // directory_names gives (dotted OID, UTF-8 value) of every attribute of every directoryName in
  // subjectAltName.
  std::vector<std::pair<std::string, std::string>> directory_names() const;
  // has_multi_valued_directory_name: one of those names has several attributes in one RDN (Nuvoton).
  bool has_multi_valued_directory_name() const;
  bool has_extension(const char* dotted_oid) const;
  // names_are_der tells whether issuer and subject are as DER has them: the attributes of a multi-valued RDN
  // in order.
  bool names_are_der() const;
  std::string subject() const;  // RFC 4514, anything but printable ASCII escaped; "" when empty
  std::string issuer() const;
  bool is_self_issued() const;  // issuer and subject are the same name
  UnixMillis not_before() const;
  UnixMillis not_after() const;  // as written; when it has come, the certificate is no longer valid
  X509* get() const { return parsed_->x509.get(); }

  friend bool operator==(const Certificate& a, const Certificate& b) { return a.der() == b.der(); }

 private:
  struct Parsed {
    Bytes der;
    Digest256 fingerprint;
    std::shared_ptr<X509> x509;
  };
  explicit Certificate(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}
  std::shared_ptr<const Parsed> parsed_;
};

// parse_pem_bundle takes every CERTIFICATE block of a PEM file; text between blocks is skipped, any other
// kind of block, a broken block, and a bundle without certificates are refused. Errors: kMalformed.
Result<std::vector<Certificate>> parse_pem_bundle(ByteView pem);

// verify_chain builds a path from `leaf` over `intermediates` to one of `roots` (RFC 5280 §6) and checks it
// at the time `at`.
//   Proves:         one of `roots` vouches for `leaf`: signatures of at least 112 bits (so no SHA-1, no RSA
//   below 2048; the anchor's own signature is not looked at), validity of
//                   each certificate at `at`, CA flags, path lengths, no unknown critical extension.
//   Returns:        the path, from `leaf` to the root.
//   Does not prove: what the certificate is for (look at key usage), or that it is not revoked: nothing is
//   fetched. Errors:         kStale when a certificate is expired or not valid yet, else kUnverified; with
//   OpenSSL's words and the certificate's subject, or the issuer that was not found.   Pure.
Result<std::vector<Certificate>> verify_chain(const Certificate& leaf,
                                              std::span<const Certificate> intermediates,
                                              std::span<const Certificate> roots, UnixMillis at);

}  // namespace sallyport::crypto

#include "attestation/net/tls.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "attestation/crypto/openssl_ptr.h"
#include "attestation/crypto/random.h"

namespace sallyport::net {
namespace {

using crypto::FreeWith;
using GeneralNamesPtr = std::unique_ptr<GENERAL_NAMES, FreeWith<GENERAL_NAMES_free>>;
using GeneralNamePtr = std::unique_ptr<GENERAL_NAME, FreeWith<GENERAL_NAME_free>>;
using Ia5Ptr = std::unique_ptr<ASN1_IA5STRING, FreeWith<ASN1_IA5STRING_free>>;
using OctetsPtr = std::unique_ptr<ASN1_OCTET_STRING, FreeWith<ASN1_OCTET_STRING_free>>;
using BasicConstraintsPtr = std::unique_ptr<BASIC_CONSTRAINTS, FreeWith<BASIC_CONSTRAINTS_free>>;

constexpr std::size_t kMaxNames = 64;

Error openssl_failed(const char* what) {
  return Error{Code::kInternal, std::string{what} + ": " + crypto::drain_openssl_errors()};
}

bool is_dns_name(const std::string& name) {
  return !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

Result<GeneralNamePtr> general_name(const std::string& name) {
  GeneralNamePtr out{GENERAL_NAME_new()};
  if (!out) return openssl_failed("GENERAL_NAME_new");
  unsigned char address[16];
  const int address_size = inet_pton(AF_INET, name.c_str(), address) == 1    ? 4
                           : inet_pton(AF_INET6, name.c_str(), address) == 1 ? 16
                                                                             : 0;
  if (address_size != 0) {
    OctetsPtr value{ASN1_OCTET_STRING_new()};
    if (!value || ASN1_OCTET_STRING_set(value.get(), address, address_size) != 1)
      return openssl_failed("ASN1_OCTET_STRING_set");
    GENERAL_NAME_set0_value(out.get(), GEN_IPADD, value.release());
    return out;
  }
  if (!is_dns_name(name)) return Error{Code::kMalformed, "neither a DNS name in lower case nor an address"};
  Ia5Ptr value{ASN1_IA5STRING_new()};
  if (!value || ASN1_STRING_set(value.get(), name.data(), static_cast<int>(name.size())) != 1)
    return openssl_failed("ASN1_STRING_set");
  GENERAL_NAME_set0_value(out.get(), GEN_DNS, value.release());
  return out;
}

}  // namespace

Result<std::string> make_self_signed_certificate(const crypto::PrivateKey& key,
                                                 const std::vector<std::string>& names) {
  if (key.public_key().algorithm() != crypto::KeyAlgorithm::kP256)
    return Error{Code::kMalformed, "a server's key is P-256"};
  if (names.empty() || names.size() > kMaxNames) return Error{Code::kMalformed, "no names, or too many"};

  const SecretBytes pem = key.to_pem();
  const crypto::BioPtr in{BIO_new_mem_buf(pem.expose().data(), static_cast<int>(pem.size()))};
  const crypto::PkeyPtr pkey{in ? PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, nullptr) : nullptr};
  if (!pkey) return openssl_failed("PEM_read_bio_PrivateKey");

  const GeneralNamesPtr alternatives{GENERAL_NAMES_new()};
  if (!alternatives) return openssl_failed("GENERAL_NAMES_new");
  for (const std::string& name : names) {
    SP_TRY(GeneralNamePtr one, general_name(name));
    if (sk_GENERAL_NAME_push(alternatives.get(), one.get()) <= 0)
      return openssl_failed("sk_GENERAL_NAME_push");
    static_cast<void>(one.release());  // the list owns it now
  }

  const crypto::X509Ptr certificate{X509_new()};
  if (!certificate || X509_set_version(certificate.get(), X509_VERSION_3) != 1)
    return openssl_failed("X509_new");
  auto serial = crypto::random_array<16>();
  serial[0] = static_cast<std::uint8_t>((serial[0] & 0x7F) | 0x40);  // positive, and no leading zero
  const crypto::BignumPtr number{BN_bin2bn(serial.data(), static_cast<int>(serial.size()), nullptr)};
  if (!number || BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate.get())) == nullptr)
    return openssl_failed("BN_to_ASN1_INTEGER");
  // RFC 5280 §4.1.2.5: the second time is the one that says "no end".
  if (ASN1_TIME_set_string(X509_getm_notBefore(certificate.get()), "20200101000000Z") != 1 ||
      ASN1_TIME_set_string(X509_getm_notAfter(certificate.get()), "99991231235959Z") != 1)
    return openssl_failed("ASN1_TIME_set_string");
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  const std::string common_name = names.front().substr(0, 64);  // ub-common-name
  if (X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(common_name.data()),
                                 static_cast<int>(common_name.size()), -1, 0) != 1 ||
      X509_set_issuer_name(certificate.get(), subject) != 1 ||
      X509_set_pubkey(certificate.get(), pkey.get()) != 1)
    return openssl_failed("X509_set");
  const BasicConstraintsPtr constraints{BASIC_CONSTRAINTS_new()};  // not a CA
  if (!constraints ||
      X509_add1_ext_i2d(certificate.get(), NID_basic_constraints, constraints.get(), 1, 0) != 1 ||
      X509_add1_ext_i2d(certificate.get(), NID_subject_alt_name, alternatives.get(), 0, 0) != 1)
    return openssl_failed("X509_add1_ext_i2d");
  if (X509_sign(certificate.get(), pkey.get(), EVP_sha256()) <= 0) return openssl_failed("X509_sign");

  const crypto::BioPtr out{BIO_new(BIO_s_mem())};
  if (!out || PEM_write_bio_X509(out.get(), certificate.get()) != 1)
    return openssl_failed("PEM_write_bio_X509");
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return std::string{text, static_cast<std::size_t>(size)};
}

Result<TlsIdentity> make_tls_identity(const crypto::PrivateKey& key, const std::vector<std::string>& names) {
  SP_TRY(std::string certificate, make_self_signed_certificate(key, names));
  return TlsIdentity{std::move(certificate), key.to_pem()};
}

}  // namespace sallyport::net

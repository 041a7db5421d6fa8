#include "attestation/crypto/x509.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>

#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"

namespace sallyport::crypto {
namespace {

using StorePtr = std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>>;
using StoreCtxPtr = std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, FreeWith<GENERAL_NAMES_free>>;
using ExtendedKeyUsagePtr = std::unique_ptr<EXTENDED_KEY_USAGE, FreeWith<EXTENDED_KEY_USAGE_free>>;
struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const noexcept { sk_X509_free(stack); }
};
using StackPtr = std::unique_ptr<STACK_OF(X509), FreeStack>;

constexpr int kMaxDepth = 8;
constexpr int kSecurityLevel =
    2;  // of X509_VERIFY_PARAM_set_auth_level: 112 bits, so no SHA-1 and no RSA below 2048

std::string oid_text(const ASN1_OBJECT* object) {
  char text[128] = {};
  const int size = OBJ_obj2txt(text, sizeof text, object, 1);
  if (size <= 0 || size >= static_cast<int>(sizeof text)) return {};
  return text;
}

std::string utf8(const ASN1_STRING* value) {
  std::uint8_t* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, value);
  if (size < 0) {
    drain_openssl_errors();
    return {};
  }
  std::string out{reinterpret_cast<const char*>(text), static_cast<std::size_t>(size)};
  OPENSSL_free(text);
  return out;
}

std::string name_text(const X509_NAME* name) {
  const BioPtr bio{BIO_new(BIO_s_mem())};
  SP_ASSERT(bio != nullptr);
  // XN_FLAG_RFC2253 escapes control characters and whatever is not ASCII.
  if (X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) {
    drain_openssl_errors();
    return {};
  }
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return size <= 0 ? std::string{} : std::string(text, static_cast<std::size_t>(size));
}

UnixMillis time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) {
    drain_openssl_errors();
    return UnixMillis{0};
  }
  return UnixMillis{static_cast<std::uint64_t>(std::max<std::time_t>(timegm(&parts), 0)) * 1000};
}

bool is_multi_valued(const X509_NAME* name) {
  for (int i = 1; i < X509_NAME_entry_count(name); ++i)
    if (X509_NAME_ENTRY_set(X509_NAME_get_entry(name, i)) ==
        X509_NAME_ENTRY_set(X509_NAME_get_entry(name, i - 1)))
      return true;
  return false;
}

Bytes der_of(const X509_NAME_ENTRY* entry) {
  std::uint8_t* der = nullptr;
  const int size = i2d_X509_NAME_ENTRY(entry, &der);
  if (size <= 0) return {};
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

// A SET OF is in ascending order in DER (X.690 §11.6).
bool is_in_order(const X509_NAME* name) {
  for (int i = 1; i < X509_NAME_entry_count(name); ++i) {
    const X509_NAME_ENTRY* before = X509_NAME_get_entry(name, i - 1);
    const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
    if (X509_NAME_ENTRY_set(entry) == X509_NAME_ENTRY_set(before) && der_of(entry) < der_of(before))
      return false;
  }
  return true;
}

Error chain_error(const X509_STORE_CTX* ctx, int code) {
  const X509* at = X509_STORE_CTX_get_current_cert(ctx);
  const bool stale = code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID;
  const bool no_issuer =
      code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT || code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
  std::string what = std::string{"certificate chain: "} + X509_verify_cert_error_string(code);
  if (at != nullptr && no_issuer)
    what += ": " + name_text(X509_get_issuer_name(at));
  else if (at != nullptr && X509_STORE_CTX_get_error_depth(ctx) > 0)
    what += ": " + name_text(X509_get_subject_name(at));
  return Error{stale ? Code::kStale : Code::kUnverified, std::move(what)};
}

}  // namespace

Result<Certificate> Certificate::parse_der(ByteView der) {
  if (der.empty() || der.size() > kMaxCertificateBytes)
    return Error{Code::kMalformed, "certificate of impossible size"};
  const std::uint8_t* at = der.data();
  std::shared_ptr<X509> x509{d2i_X509(nullptr, &at, static_cast<long>(der.size())), X509_free};
  if (!x509) return Error{Code::kMalformed, "not a certificate: " + drain_openssl_errors()};
  if (at != der.data() + der.size()) return Error{Code::kMalformed, "bytes after the certificate"};
  // This call makes OpenSSL read the extensions, once.
  const std::uint32_t flags = X509_get_extension_flags(x509.get());
  drain_openssl_errors();
  if ((flags & EXFLAG_INVALID) != 0) return Error{Code::kMalformed, "certificate with invalid extensions"};
  auto parsed = std::make_shared<Parsed>();
  parsed->der = to_bytes(der);
  parsed->fingerprint = sha256(der);
  parsed->x509 = std::move(x509);
  return Certificate{std::move(parsed)};
}

int Certificate::version() const {
  return static_cast<int>(X509_get_version(get())) + 1;
}

Result<PublicKey> Certificate::public_key() const {
  std::uint8_t* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(get()), &der);
  if (size <= 0) return Error{Code::kMalformed, "certificate's key: " + drain_openssl_errors()};
  const Bytes spki(der, der + size);
  OPENSSL_free(der);
  return PublicKey::parse_spki(spki);
}

std::string Certificate::key_algorithm_oid() const {
  ASN1_OBJECT* algorithm = nullptr;
  if (X509_PUBKEY_get0_param(&algorithm, nullptr, nullptr, nullptr, X509_get_X509_PUBKEY(get())) != 1)
    return {};
  return oid_text(algorithm);
}

unsigned Certificate::key_bits() const {
  const std::uint8_t* key = nullptr;
  int size = 0;
  ASN1_OBJECT* algorithm = nullptr;
  if (X509_PUBKEY_get0_param(&algorithm, &key, &size, nullptr, X509_get_X509_PUBKEY(get())) != 1) return 0;
  // OpenSSL reads no key that is limited to RSAES-OAEP, though it is written as any other of RSA.
  const PkeyPtr pkey{OBJ_obj2nid(algorithm) == NID_rsaesOaep
                         ? d2i_PublicKey(EVP_PKEY_RSA, nullptr, &key, size)
                         : X509_get_pubkey(get())};
  drain_openssl_errors();
  return pkey ? static_cast<unsigned>(std::max(EVP_PKEY_get_bits(pkey.get()), 0)) : 0;
}

bool Certificate::is_ca() const {
  return (X509_get_extension_flags(get()) & EXFLAG_CA) != 0 || X509_check_ca(get()) != 0;
}

KeyUsage Certificate::key_usage() const {
  if ((X509_get_extension_flags(get()) & EXFLAG_KUSAGE) == 0) return {};
  const std::uint32_t bits = X509_get_key_usage(get());
  return {.present = true,
          .digital_signature = (bits & KU_DIGITAL_SIGNATURE) != 0,
          .key_encipherment = (bits & KU_KEY_ENCIPHERMENT) != 0,
          .key_agreement = (bits & KU_KEY_AGREEMENT) != 0,
          .key_cert_sign = (bits & KU_KEY_CERT_SIGN) != 0};
}

bool Certificate::has_extended_key_usage() const {
  return X509_get_ext_by_NID(get(), NID_ext_key_usage, -1) >= 0;
}

std::vector<std::string> Certificate::extended_key_usage() const {
  std::vector<std::string> out;
  const ExtendedKeyUsagePtr usage{
      static_cast<EXTENDED_KEY_USAGE*>(X509_get_ext_d2i(get(), NID_ext_key_usage, nullptr, nullptr))};
  for (int i = 0; usage && i < sk_ASN1_OBJECT_num(usage.get()); ++i)
    out.push_back(oid_text(sk_ASN1_OBJECT_value(usage.get(), i)));
  return out;
}

bool Certificate::subject_is_empty() const {
  return X509_NAME_entry_count(X509_get_subject_name(get())) == 0;
}

bool Certificate::has_critical_subject_alternative_name() const {
  const int at = X509_get_ext_by_NID(get(), NID_subject_alt_name, -1);
  return at >= 0 && X509_EXTENSION_get_critical(X509_get_ext(get(), at)) == 1;
}

std::vector<std::pair<std::string, std::string>> Certificate::directory_names() const {
  std::vector<std::pair<std::string, std::string>> out;
  const NamesPtr names{
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(get(), NID_subject_alt_name, nullptr, nullptr))};
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_DIRNAME) continue;
    for (int k = 0; k < X509_NAME_entry_count(name->d.directoryName); ++k) {
      const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name->d.directoryName, k);
      out.emplace_back(oid_text(X509_NAME_ENTRY_get_object(entry)), utf8(X509_NAME_ENTRY_get_data(entry)));
    }
  }
  return out;
}

bool Certificate::has_multi_valued_directory_name() const {
  const NamesPtr names{
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(get(), NID_subject_alt_name, nullptr, nullptr))};
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DIRNAME && is_multi_valued(name->d.directoryName)) return true;
  }
  return false;
}

bool Certificate::has_extension(const char* dotted_oid) const {
  const std::unique_ptr<ASN1_OBJECT, FreeWith<ASN1_OBJECT_free>> object{OBJ_txt2obj(dotted_oid, 1)};
  SP_ASSERT(object != nullptr);
  return X509_get_ext_by_OBJ(get(), object.get(), -1) >= 0;
}

bool Certificate::names_are_der() const {
  return is_in_order(X509_get_issuer_name(get())) && is_in_order(X509_get_subject_name(get()));
}

std::string Certificate::subject() const {
  return name_text(X509_get_subject_name(get()));
}

std::string Certificate::issuer() const {
  return name_text(X509_get_issuer_name(get()));
}

bool Certificate::is_self_issued() const {
  return X509_NAME_cmp(X509_get_subject_name(get()), X509_get_issuer_name(get())) == 0;
}

UnixMillis Certificate::not_before() const {
  return time_of(X509_get0_notBefore(get()));
}

UnixMillis Certificate::not_after() const {
  return time_of(X509_get0_notAfter(get()));
}

Result<std::vector<Certificate>> parse_pem_bundle(ByteView pem) {
  if (pem.empty()) return Error{Code::kMalformed, "certificate bundle without certificates"};
  const BioPtr bio{BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))};
  SP_ASSERT(bio != nullptr);
  std::vector<Certificate> out;
  while (true) {
    char* name = nullptr;
    char* header = nullptr;
    std::uint8_t* data = nullptr;
    long size = 0;
    if (PEM_read_bio(bio.get(), &name, &header, &data, &size) != 1) {
      const bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
      const std::string what = drain_openssl_errors();
      if (!end) return Error{Code::kMalformed, "certificate bundle: " + what};
      break;
    }
    const bool plain = std::string_view{name} == "CERTIFICATE" && *header == '\0';
    const Bytes der(data, data + size);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
    if (!plain) return Error{Code::kMalformed, "certificate bundle with something else in it"};
    if (out.size() == kMaxBundleCertificates)
      return Error{Code::kMalformed, "certificate bundle above its cap"};
    SP_TRY(Certificate certificate, Certificate::parse_der(der));
    out.push_back(std::move(certificate));
  }
  if (out.empty()) return Error{Code::kMalformed, "certificate bundle without certificates"};
  // OpenSSL takes a last block without its end for the end of the file.
  std::size_t begun = 0;
  constexpr std::string_view kBegin = "-----BEGIN";
  for (std::size_t i = as_text(pem).find(kBegin); i != std::string_view::npos;
       i = as_text(pem).find(kBegin, i + 1))
    ++begun;
  if (begun != out.size())
    return Error{Code::kMalformed, "certificate bundle with a block that does not end"};
  return out;
}

Result<std::vector<Certificate>> verify_chain(const Certificate& leaf,
                                              std::span<const Certificate> intermediates,
                                              std::span<const Certificate> roots, UnixMillis at) {
  const StorePtr store{X509_STORE_new()};
  const StoreCtxPtr ctx{X509_STORE_CTX_new()};
  const StackPtr untrusted{sk_X509_new_null()};
  SP_ASSERT(store && ctx && untrusted);
  for (const Certificate& root : roots) SP_ASSERT(X509_STORE_add_cert(store.get(), root.get()) == 1);
  for (const Certificate& between : intermediates)
    SP_ASSERT(sk_X509_push(untrusted.get(), between.get()) > 0);
  SP_ASSERT(X509_STORE_CTX_init(ctx.get(), store.get(), leaf.get(), untrusted.get()) == 1);
  X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(ctx.get());
  X509_VERIFY_PARAM_set_time(param, static_cast<std::time_t>(at.get() / 1000));
  X509_VERIFY_PARAM_set_depth(param, kMaxDepth);
  X509_VERIFY_PARAM_set_auth_level(param, kSecurityLevel);
  // Each of `roots` is an anchor, self-signed or not: STMicroelectronics' root, for one, is cross-signed.
  X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
  X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY);  // what it is for is the caller's question
  const int verified = X509_verify_cert(ctx.get());
  const int code = X509_STORE_CTX_get_error(ctx.get());
  drain_openssl_errors();
  if (verified != 1 || code != X509_V_OK) return chain_error(ctx.get(), code);
  std::vector<Certificate> path;
  const auto adopt = [&path](const X509* link, std::span<const Certificate> among) {
    const auto found = std::ranges::find(among, link, &Certificate::get);
    if (found == among.end()) return false;
    path.push_back(*found);
    return true;
  };
  const STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(ctx.get());
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    const X509* link = sk_X509_value(chain, i);
    // OpenSSL hands back the certificates it was given.
    SP_ASSERT(adopt(link, {&leaf, 1}) || adopt(link, intermediates) || adopt(link, roots));
  }
  return path;
}

}  // namespace sallyport::crypto

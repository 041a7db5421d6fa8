#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/crypto/public_key.h"
#include "hsm-config/pkcs11/ck.h"

namespace sallyport::pkcs11 {

// Template is a list of CK_ATTRIBUTE that owns its values.
class Template {
 public:
  Template& add(CK_ATTRIBUTE_TYPE type, ByteView value);
  Template& add(CK_ATTRIBUTE_TYPE type, std::string_view value) { return add(type, as_bytes(value)); }
  Template& flag(CK_ATTRIBUTE_TYPE type, bool value);
  Template& number(CK_ATTRIBUTE_TYPE type, CK_ULONG value);

  // raw() points into this object until the next add.
  std::vector<CK_ATTRIBUTE>& raw();
  CK_ULONG size() const { return static_cast<CK_ULONG>(values_.size()); }

 private:
  std::vector<std::pair<CK_ATTRIBUTE_TYPE, Bytes>> values_;
  std::vector<CK_ATTRIBUTE> raw_;
};

// get_attribute reads one attribute of at most `max_bytes`; nothing when the object does not have it or does
// not show it. What a module answers is not believed: a length beyond the buffer it was given is an error.
Result<std::optional<Bytes>> get_attribute(CK_FUNCTION_LIST* api, CK_SESSION_HANDLE session,
                                           CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                                           std::size_t max_bytes);
Result<std::optional<bool>> get_flag(CK_FUNCTION_LIST* api, CK_SESSION_HANDLE session,
                                     CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type);
Result<std::optional<CK_ULONG>> get_number(CK_FUNCTION_LIST* api, CK_SESSION_HANDLE session,
                                           CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type);

// find_objects gives the handles of all objects that match; more than kMaxObjects are an error.
inline constexpr std::size_t kMaxObjects = 4096;
Result<std::vector<CK_OBJECT_HANDLE>> find_objects(CK_FUNCTION_LIST* api, CK_SESSION_HANDLE session,
                                                   Template& wanted);

// parse_ec_point takes CKA_EC_POINT of a P-256 or Ed25519 key: the DER OCTET STRING of PKCS #11, or the bare
// point that some modules give.
Result<crypto::PublicKey> parse_ec_point(CK_KEY_TYPE type, ByteView params, ByteView point);

extern const ByteArray<10> kP256Params;              // OID 1.2.840.10045.3.1.7
extern const ByteArray<5> kEd25519OidParams;         // OID 1.3.101.112
extern const ByteArray<14> kEd25519PrintableParams;  // PrintableString "edwards25519"

}  // namespace sallyport::pkcs11

#include "hsm-config/pkcs11/attributes.h"

#include <algorithm>

#include "hsm-config/pkcs11/next_step.h"

namespace sallyport::pkcs11 {

const ByteArray<10> kP256Params{0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07};
const ByteArray<5> kEd25519OidParams{0x06, 0x03, 0x2B, 0x65, 0x70};
const ByteArray<14> kEd25519PrintableParams{0x13, 0x0C, 'e', 'd', 'w', 'a', 'r',
                                            'd',  's',  '2', '5', '5', '1', '9'};

Template& Template::add(CK_ATTRIBUTE_TYPE type, ByteView value) {
  values_.emplace_back(type, to_bytes(value));
  return *this;
}

Template& Template::flag(CK_ATTRIBUTE_TYPE type, bool value) {
  const CK_BBOOL raw = value ? CK_TRUE : CK_FALSE;
  return add(type, ByteView{&raw, 1});
}

Template& Template::number(CK_ATTRIBUTE_TYPE type, CK_ULONG value) {
  return add(type, ByteView{reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
}

std::vector<CK_ATTRIBUTE>& Template::raw() {
  raw_.clear();
  for (auto& [type, value] : values_)
    raw_.push_back({type, value.data(), static_cast<CK_ULONG>(value.size())});
  return raw_;
}

Result<std::optional<Bytes>> get_attribute(CK_FUNCTION_LIST* api, CK_SESSION_HANDLE session,
                                           CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                                           std::size_t max_bytes) {
  const auto absent = [](CK_RV rv) {
    return rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE;
  };
  CK_ATTRIBUTE attribute{type, nullptr, 0};
  CK_RV rv = api->C_GetAttributeValue(session, object, &attribute, 1);
  if (absent(rv) || (rv == CKR_OK && attribute.ulValueLen == ~CK_ULONG{0})) return std::optional<Bytes>{};
  if (rv != CKR_OK) return error_of(rv, "C_GetAttributeValue");
  if (attribute.ulValueLen > max_bytes) {
    return Error{Code::kMalformed, Reason::kToken, "C_GetAttributeValue: longer than its cap"};
  }
  Bytes value(attribute.ulValueLen);
  if (value.empty()) return std::optional<Bytes>{std::move(value)};
  attribute.pValue = value.data();
  rv = api->C_GetAttributeValue(session, object, &attribute, 1);
  if (absent(rv) || (rv == CKR_OK && attribute.ulValueLen == ~CK_ULONG{0})) return std::optional<Bytes>{};
  if (rv != CKR_OK) return error_of(rv, "C_GetAttributeValue");
  if (attribute.ulValueLen > value.size()) {
    return Error{Code::kMalformed, Reason::kToken, "C_GetAttributeValue: longer than its buffer"};
  }
  value.resize(attribute.ulValueLen);
  return std::optional<Bytes>{std::move(value)};
}

Result<std::optional<bool>> get_flag(CK_FUNCTION_LIST* api, CK_SESSION_HANDLE session,
                                     CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type) {
  SP_TRY(const auto value, get_attribute(api, session, object, type, sizeof(CK_ULONG)));
  if (!value || value->size() != sizeof(CK_BBOOL)) return std::optional<bool>{};
  return std::optional<bool>{value->front() != CK_FALSE};
}

Result<std::optional<CK_ULONG>> get_number(CK_FUNCTION_LIST* api, CK_SESSION_HANDLE session,
                                           CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type) {
  SP_TRY(const auto value, get_attribute(api, session, object, type, sizeof(CK_ULONG)));
  if (!value || value->size() != sizeof(CK_ULONG)) return std::optional<CK_ULONG>{};
  CK_ULONG number = 0;
  std::memcpy(&number, value->data(), sizeof number);
  return std::optional<CK_ULONG>{number};
}

Result<std::vector<CK_OBJECT_HANDLE>> find_objects(CK_FUNCTION_LIST* api, CK_SESSION_HANDLE session,
                                                   Template& wanted) {
  CK_RV rv = api->C_FindObjectsInit(session, wanted.raw().data(), wanted.size());
  if (rv != CKR_OK) return error_of(rv, "C_FindObjectsInit");
  std::vector<CK_OBJECT_HANDLE> found;
  CK_OBJECT_HANDLE batch[64];
  bool endless = false;
  while (true) {
    CK_ULONG count = 0;
    rv = api->C_FindObjects(session, batch, std::size(batch), &count);
    if (rv != CKR_OK || count == 0) break;
    endless = count > std::size(batch) || found.size() + count > kMaxObjects;
    if (endless) break;
    found.insert(found.end(), batch, batch + count);
  }
  const CK_RV end = api->C_FindObjectsFinal(session);
  if (rv != CKR_OK) return error_of(rv, "C_FindObjects");
  if (end != CKR_OK) return error_of(end, "C_FindObjectsFinal");
  if (endless) return Error{Code::kUnavailable, Reason::kToken, "C_FindObjects: more than 4096 objects"};
  return found;
}

Result<crypto::PublicKey> parse_ec_point(CK_KEY_TYPE type, ByteView params, ByteView point) {
  // A DER OCTET STRING with a one-byte length. The bare forms are told apart by their size: 65 and 32 bytes
  // against 67 and 34.
  const auto unwrap = [point](std::size_t size) {
    return point.size() == size + 2 && point[0] == 0x04 && point[1] == size ? point.subspan(2) : point;
  };
  if (type == CKK_EC && equal(params, kP256Params)) return crypto::PublicKey::from_p256_point(unwrap(65));
  if (type == CKK_EC_EDWARDS &&
      (equal(params, kEd25519OidParams) || equal(params, kEd25519PrintableParams))) {
    return crypto::PublicKey::from_ed25519(unwrap(32));
  }
  return Error{Code::kMalformed, Reason::kTokenKey, "neither a P-256 nor an Ed25519 key"};
}

}  // namespace sallyport::pkcs11

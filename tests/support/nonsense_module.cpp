#include "tests/support/nonsense_module.h"

#include <p11-kit/pkcs11.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "attestation/crypto/private_key.h"

namespace {

using sallyport::Bytes;
using sallyport::ByteView;
using sallyport::crypto::KeyAlgorithm;
using sallyport::crypto::PrivateKey;

constexpr CK_OBJECT_HANDLE kPrivate = 11, kPublic = 12, kSecret = 13;
constexpr std::uint8_t kP256Params[] = {0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07};

struct State {
  std::mutex mutex;  // guards what follows
  bool scripted = false;
  Bytes script;
  std::size_t next = 0;
  std::map<std::string, std::uint8_t> rules;
  std::map<std::string, unsigned> calls;
  bool logged_in = false;
  unsigned sessions = 0;
  std::vector<CK_OBJECT_HANDLE> found;
  PrivateKey key = PrivateKey::generate(KeyAlgorithm::kP256);
};
State& state() {
  static State* const all = new State;
  return *all;
}

constexpr CK_RV kErrors[] = {
    CKR_GENERAL_ERROR,         CKR_DEVICE_ERROR,           CKR_DEVICE_REMOVED,
    CKR_TOKEN_NOT_PRESENT,     CKR_SESSION_CLOSED,         CKR_SESSION_HANDLE_INVALID,
    CKR_USER_NOT_LOGGED_IN,    CKR_PIN_INCORRECT,          CKR_PIN_LOCKED,
    CKR_OBJECT_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID,     CKR_BUFFER_TOO_SMALL,
    CKR_OPERATION_ACTIVE,      CKR_MECHANISM_INVALID,      CKR_ATTRIBUTE_SENSITIVE,
    CKR_HOST_MEMORY,           CKR_FUNCTION_NOT_SUPPORTED, CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_VENDOR_DEFINED + 1};

// Every function begins with this: counts the call and tells how it deviates.
std::uint8_t deviation(const char* function) {
  State& s = state();
  const std::lock_guard lock{s.mutex};
  ++s.calls[function];
  if (const auto rule = s.rules.find(function); rule != s.rules.end()) return rule->second;
  if (!s.scripted) return 0;
  return s.next < s.script.size() ? s.script[s.next++] : std::uint8_t{1};
}

CK_RV error_of(std::uint8_t d) {
  return d == 0 || d >= 64 ? CKR_OK : kErrors[(d - 1) % std::size(kErrors)];
}

#define SP_BEGIN(function)                       \
  const std::uint8_t d = deviation(#function);   \
  if (error_of(d) != CKR_OK) return error_of(d); \
  [[maybe_unused]] State& s = state()

// give copies an answer into a buffer as Cryptoki does, with the deviation asked for. Never beyond `*size`.
CK_RV give(Bytes answer, void* out, CK_ULONG* size, std::uint8_t d) {
  if (d == kNonsenseWrongBytes && !answer.empty()) answer[answer.size() / 2] ^= 1;
  if (d == kNonsenseShort && !answer.empty()) answer.pop_back();
  if (d == kNonsenseEmpty) answer.clear();
  if (out != nullptr) {
    if (*size < answer.size()) return CKR_BUFFER_TOO_SMALL;
    std::copy(answer.begin(), answer.end(), static_cast<std::uint8_t*>(out));
  }
  *size = d == kNonsenseHuge          ? (out != nullptr ? *size + 1 : 1UL << 40)
          : d == kNonsenseUnavailable ? ~CK_ULONG{0}
                                      : static_cast<CK_ULONG>(answer.size());
  return CKR_OK;
}

template <class T>
Bytes raw(T value) {
  const auto* const p = reinterpret_cast<const std::uint8_t*>(&value);
  return {p, p + sizeof value};
}
template <std::size_t N>
void pad(unsigned char (&field)[N], std::string_view text) {
  std::fill(std::begin(field), std::end(field), static_cast<unsigned char>(' '));
  std::copy(text.begin(), text.end(), field);
}

CK_RV initialize(void*) {
  SP_BEGIN(C_Initialize);
  return CKR_OK;
}
CK_RV finalize(void*) {
  SP_BEGIN(C_Finalize);
  const std::lock_guard lock{s.mutex};
  s.logged_in = false;
  s.sessions = 0;
  return CKR_OK;
}
CK_RV get_slot_list(CK_BBOOL, CK_SLOT_ID* slots, CK_ULONG* count) {
  SP_BEGIN(C_GetSlotList);
  if (slots != nullptr && *count < 1) return CKR_BUFFER_TOO_SMALL;
  if (slots != nullptr) slots[0] = 7;
  *count = d == kNonsenseHuge ? 1UL << 40 : d == kNonsenseEmpty ? 0 : d == kNonsenseWrongBytes ? 3 : 1;
  return CKR_OK;
}
CK_RV get_token_info(CK_SLOT_ID, CK_TOKEN_INFO* info) {
  SP_BEGIN(C_GetTokenInfo);
  *info = CK_TOKEN_INFO{};
  pad(info->label, d == kNonsenseWrongBytes ? "\x1B[31mred" : "nonsense");
  pad(info->serialNumber, "1");
  pad(info->manufacturerID, "Sallyport tests");
  pad(info->model, "nonsense");
  info->flags = CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED | CKF_LOGIN_REQUIRED;
  return CKR_OK;
}
CK_RV get_mechanism_info(CK_SLOT_ID, CK_MECHANISM_TYPE, CK_MECHANISM_INFO* info) {
  SP_BEGIN(C_GetMechanismInfo);
  *info = {0, 256, d == 0 ? 0 : ~CK_FLAGS{0}};
  return CKR_OK;
}
CK_RV open_session(CK_SLOT_ID, CK_FLAGS, void*, CK_NOTIFY, CK_SESSION_HANDLE* session) {
  SP_BEGIN(C_OpenSession);
  const std::lock_guard lock{s.mutex};
  ++s.sessions;
  *session = 100 + s.sessions;
  return CKR_OK;
}
CK_RV close_session(CK_SESSION_HANDLE) {
  SP_BEGIN(C_CloseSession);
  const std::lock_guard lock{s.mutex};
  if (s.sessions > 0 && --s.sessions == 0) s.logged_in = false;
  return CKR_OK;
}
CK_RV get_session_info(CK_SESSION_HANDLE, CK_SESSION_INFO* info) {
  SP_BEGIN(C_GetSessionInfo);
  const std::lock_guard lock{s.mutex};
  *info = {7, s.logged_in ? CKS_RW_USER_FUNCTIONS : CKS_RW_PUBLIC_SESSION, CKF_SERIAL_SESSION, 0};
  return CKR_OK;
}
CK_RV login(CK_SESSION_HANDLE, CK_USER_TYPE, CK_UTF8CHAR*, CK_ULONG) {
  SP_BEGIN(C_Login);
  const std::lock_guard lock{s.mutex};
  s.logged_in = true;
  return CKR_OK;
}
CK_RV logout(CK_SESSION_HANDLE) {
  SP_BEGIN(C_Logout);
  const std::lock_guard lock{s.mutex};
  s.logged_in = false;
  return CKR_OK;
}
CK_RV find_init(CK_SESSION_HANDLE, CK_ATTRIBUTE* wanted, CK_ULONG count) {
  SP_BEGIN(C_FindObjectsInit);
  const std::lock_guard lock{s.mutex};
  s.found.clear();
  for (CK_ULONG i = 0; i < count; ++i) {
    if (wanted[i].type != CKA_CLASS || wanted[i].ulValueLen != sizeof(CK_ULONG)) continue;
    const CK_ULONG type = *static_cast<const CK_ULONG*>(wanted[i].pValue);
    if (type == CKO_PRIVATE_KEY) s.found = {kPrivate};
    if (type == CKO_PUBLIC_KEY) s.found = {kPublic};
  }
  return CKR_OK;
}
CK_RV find(CK_SESSION_HANDLE, CK_OBJECT_HANDLE* objects, CK_ULONG most, CK_ULONG* count) {
  SP_BEGIN(C_FindObjects);
  const std::lock_guard lock{s.mutex};
  *count = 0;
  if (d == kNonsenseWrongBytes) {  // the same object for ever
    for (CK_ULONG i = 0; i < most; ++i) objects[i] = kPrivate;
    *count = most;
    return CKR_OK;
  }
  while (*count < most && !s.found.empty()) {
    objects[(*count)++] = s.found.back();
    s.found.pop_back();
  }
  if (d == kNonsenseHuge) *count = most + 1;
  return CKR_OK;
}
CK_RV find_final(CK_SESSION_HANDLE) {
  SP_BEGIN(C_FindObjectsFinal);
  return CKR_OK;
}
CK_RV get_attribute_value(CK_SESSION_HANDLE, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* attributes,
                          CK_ULONG count) {
  SP_BEGIN(C_GetAttributeValue);
  for (CK_ULONG i = 0; i < count; ++i) {
    CK_ATTRIBUTE& a = attributes[i];
    Bytes answer;
    const Bytes& point = s.key.public_key().raw();
    switch (a.type) {
      case CKA_KEY_TYPE:
        answer = raw(CK_ULONG{CKK_EC});
        break;
      case CKA_LABEL:
        answer = {'k'};
        break;
      case CKA_ID:
        answer = {1};
        break;
      case CKA_EC_PARAMS:
        answer.assign(std::begin(kP256Params), std::end(kP256Params));
        break;
      case CKA_EC_POINT:
        if (object != kPublic) return CKR_ATTRIBUTE_TYPE_INVALID;
        answer = {0x04, 65};
        answer.insert(answer.end(), point.begin(), point.end());
        break;
      case CKA_SIGN:
      case CKA_DERIVE:
      case CKA_SENSITIVE:
        answer = {CK_TRUE};
        break;
      case CKA_EXTRACTABLE:
        answer = {CK_FALSE};
        break;
      case CKA_ALWAYS_AUTHENTICATE: {
        const std::lock_guard lock{s.mutex};
        answer.assign(1, s.rules.contains("CKA_ALWAYS_AUTHENTICATE") ? CK_TRUE : CK_FALSE);
        break;
      }
      case CKA_VALUE:
        if (object != kSecret) return CKR_ATTRIBUTE_SENSITIVE;
        answer.assign(32, 0x55);
        break;
      default:
        return CKR_ATTRIBUTE_TYPE_INVALID;
    }
    if (const CK_RV rv = give(std::move(answer), a.pValue, &a.ulValueLen, d); rv != CKR_OK) return rv;
  }
  return CKR_OK;
}
CK_RV sign_init(CK_SESSION_HANDLE, CK_MECHANISM*, CK_OBJECT_HANDLE) {
  SP_BEGIN(C_SignInit);
  return CKR_OK;
}
CK_RV sign(CK_SESSION_HANDLE, unsigned char* data, CK_ULONG size, unsigned char* out, CK_ULONG* out_size) {
  SP_BEGIN(C_Sign);
  if (size != 32) return CKR_DATA_LEN_RANGE;
  sallyport::ByteArray<32> digest;
  std::copy(data, data + 32, digest.begin());
  const auto signature = s.key.sign_p256(sallyport::Digest256{digest});
  if (!signature) return CKR_GENERAL_ERROR;
  return give({signature->begin(), signature->end()}, out, out_size, d);
}
CK_RV derive_key(CK_SESSION_HANDLE, CK_MECHANISM*, CK_OBJECT_HANDLE, CK_ATTRIBUTE*, CK_ULONG,
                 CK_OBJECT_HANDLE* made) {
  SP_BEGIN(C_DeriveKey);
  *made = d == kNonsenseWrongBytes ? kPrivate : kSecret;
  return CKR_OK;
}
CK_RV destroy_object(CK_SESSION_HANDLE, CK_OBJECT_HANDLE) {
  SP_BEGIN(C_DestroyObject);
  return CKR_OK;
}
CK_RV generate_key_pair(CK_SESSION_HANDLE, CK_MECHANISM*, CK_ATTRIBUTE*, CK_ULONG, CK_ATTRIBUTE*, CK_ULONG,
                        CK_OBJECT_HANDLE* pub, CK_OBJECT_HANDLE* priv) {
  SP_BEGIN(C_GenerateKeyPair);
  *pub = kPublic;
  *priv = kPrivate;
  return CKR_OK;
}
CK_RV generate_key(CK_SESSION_HANDLE, CK_MECHANISM*, CK_ATTRIBUTE*, CK_ULONG, CK_OBJECT_HANDLE* made) {
  SP_BEGIN(C_GenerateKey);
  *made = kSecret;
  return CKR_OK;
}
CK_RV wrap_key(CK_SESSION_HANDLE, CK_MECHANISM*, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE, unsigned char* out,
               CK_ULONG* size) {
  SP_BEGIN(C_WrapKey);
  if (d == 0) return CKR_KEY_UNEXTRACTABLE;
  return give(Bytes(40, 1), out, size, d);
}
CK_RV copy_object(CK_SESSION_HANDLE, CK_OBJECT_HANDLE, CK_ATTRIBUTE*, CK_ULONG, CK_OBJECT_HANDLE* made) {
  SP_BEGIN(C_CopyObject);
  if (d == 0) return CKR_ATTRIBUTE_READ_ONLY;
  *made = kSecret;
  return CKR_OK;
}
CK_RV set_attribute_value(CK_SESSION_HANDLE, CK_OBJECT_HANDLE, CK_ATTRIBUTE*, CK_ULONG) {
  SP_BEGIN(C_SetAttributeValue);
  return d == 0 ? CKR_ATTRIBUTE_READ_ONLY : CKR_OK;
}
CK_RV create_object(CK_SESSION_HANDLE, CK_ATTRIBUTE*, CK_ULONG, CK_OBJECT_HANDLE* made) {
  SP_BEGIN(C_CreateObject);
  *made = kSecret;
  return CKR_OK;
}
CK_RV init_token(CK_SLOT_ID, unsigned char*, CK_ULONG, unsigned char*) {
  return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_FUNCTION_LIST* functions() {
  static CK_FUNCTION_LIST list = [] {
    CK_FUNCTION_LIST all{};
    all.version = {2, 40};
    all.C_Initialize = initialize;
    all.C_Finalize = finalize;
    all.C_GetSlotList = get_slot_list;
    all.C_GetTokenInfo = get_token_info;
    all.C_GetMechanismInfo = get_mechanism_info;
    all.C_InitToken = init_token;
    all.C_OpenSession = open_session;
    all.C_CloseSession = close_session;
    all.C_GetSessionInfo = get_session_info;
    all.C_Login = login;
    all.C_Logout = logout;
    all.C_CreateObject = create_object;
    all.C_CopyObject = copy_object;
    all.C_DestroyObject = destroy_object;
    all.C_GetAttributeValue = get_attribute_value;
    all.C_SetAttributeValue = set_attribute_value;
    all.C_FindObjectsInit = find_init;
    all.C_FindObjects = find;
    all.C_FindObjectsFinal = find_final;
    all.C_SignInit = sign_init;
    all.C_Sign = sign;
    all.C_GenerateKey = generate_key;
    all.C_GenerateKeyPair = generate_key_pair;
    all.C_WrapKey = wrap_key;
    all.C_DeriveKey = derive_key;
    return all;
  }();
  return &list;
}

}  // namespace

extern "C" {

CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  *list = functions();
  return CKR_OK;
}

void nonsense_script(const std::uint8_t* bytes, std::size_t size) {
  State& s = state();
  const std::lock_guard lock{s.mutex};
  s.scripted = bytes != nullptr;
  s.script.assign(bytes, bytes + (bytes != nullptr ? size : 0));
  s.next = 0;
}

void nonsense_rule(const char* function, std::uint8_t deviation_) {
  State& s = state();
  const std::lock_guard lock{s.mutex};
  if (deviation_ == 0) {
    s.rules.erase(function);
  } else {
    s.rules[function] = deviation_;
  }
}

unsigned nonsense_calls(const char* function) {
  State& s = state();
  const std::lock_guard lock{s.mutex};
  return s.calls[function];
}

void nonsense_clear() {
  State& s = state();
  const std::lock_guard lock{s.mutex};
  s.scripted = false;
  s.rules.clear();
  s.calls.clear();
}
}

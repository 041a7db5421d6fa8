#include "hsm-config/pkcs11/module.h"

#include <p11-kit/uri.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "attestation/crypto/openssl_ptr.h"
#include "hsm-config/pkcs11/attributes.h"
#include "hsm-config/pkcs11/module_state.h"

namespace sallyport::pkcs11 {

namespace {

constexpr std::size_t kMaxSlots = 256;

// A fixed-size, space-padded field of Cryptoki as text; bytes that are not printable ASCII become '?'.
template <std::size_t N>
std::string text_of(const unsigned char (&field)[N]) {
  std::string text{reinterpret_cast<const char*>(field), N};
  text.erase(std::find(text.begin(), text.end(), '\0'), text.end());
  while (!text.empty() && text.back() == ' ') text.pop_back();
  for (char& c : text) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  return text;
}

TokenInfo info_of(const CK_TOKEN_INFO& raw) {
  TokenInfo info;
  info.label = text_of(raw.label);
  info.serial = text_of(raw.serialNumber);
  info.manufacturer = text_of(raw.manufacturerID);
  info.model = text_of(raw.model);
  info.initialised = (raw.flags & CKF_TOKEN_INITIALIZED) != 0;
  info.has_user_pin = (raw.flags & CKF_USER_PIN_INITIALIZED) != 0;
  info.wants_login = (raw.flags & CKF_LOGIN_REQUIRED) != 0;
  info.own_pin_entry = (raw.flags & CKF_PROTECTED_AUTHENTICATION_PATH) != 0;
  info.pin_low = (raw.flags & CKF_USER_PIN_COUNT_LOW) != 0;
  info.pin_final_try = (raw.flags & CKF_USER_PIN_FINAL_TRY) != 0;
  info.pin_locked = (raw.flags & CKF_USER_PIN_LOCKED) != 0;
  info.write_protected = (raw.flags & CKF_WRITE_PROTECTED) != 0;
  return info;
}

bool matches(const TokenInfo& info, const TokenSelector& selector) {
  return info.initialised && (selector.label.empty() || selector.label == info.label) &&
         (selector.serial.empty() || selector.serial == info.serial);
}

bool is_label(std::string_view text) {
  return !text.empty() && text.size() <= 32 && text.front() != ' ' && text.back() != ' ' &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7E; });
}

// The modules of this process by path. Never destroyed: an abandoned call may come back while the process
// ends.
struct Registry {
  std::mutex mutex;
  std::map<std::string, ModuleState*> modules;
};
Registry& registry() {
  static Registry* const all = new Registry;
  return *all;
}

template <class T>
Result<T> call_module(const std::shared_ptr<ModuleState>& module, Millis deadline, std::string_view what,
                      std::function<Result<T>(CK_FUNCTION_LIST*)> f) {
  SP_CHECK(module->check_not_forked());
  SP_CHECK(module->check_not_stuck());
  const auto worker = Worker::start(module->stuck());
  ModuleState* const raw = module.get();
  auto result = call_on<T>(*worker, deadline, what, [raw, f = std::move(f), deadline]() -> Result<T> {
    SP_TRY(const ModuleState::Inside inside, raw->begin(std::chrono::steady_clock::now() + deadline));
    const std::uint64_t generation = raw->generation();
    Result<T> inner = f(raw->api());
    if (!inner && inner.error().device_rc != 0 &&
        next_step(inner.error().device_rc).recovery == Recovery::kModule) {
      raw->report_broken(generation);
    }
    return inner;
  });
  worker->stop(deadline);
  return result;
}

}  // namespace

// ---- ModuleState

Result<std::shared_ptr<ModuleState>> ModuleState::acquire(const ModuleSpec& spec, Millis deadline) {
  if (spec.path.empty() || spec.path.front() != '/') {
    return Error{Code::kMalformed, Reason::kUsage, "the path of a PKCS #11 module must be absolute"};
  }
  ModuleState* module = nullptr;
  {
    Registry& all = registry();
    const std::lock_guard lock{all.mutex};
    ModuleState*& entry = all.modules[spec.path];
    if (entry == nullptr) entry = new ModuleState{spec};
    module = entry;
  }
  if (module->spec_.arguments != spec.arguments) {
    return Error{Code::kMalformed, Reason::kUsage, spec.path + ": already loaded with other arguments"};
  }
  SP_CHECK(module->check_not_stuck());
  const auto worker = Worker::start(module->stuck_);
  const Status loaded = call_on<Done>(*worker, deadline, spec.path, [module, deadline] {
    return module->load_and_initialise(std::chrono::steady_clock::now() + deadline);
  });
  worker->stop(deadline);
  if (!loaded) return loaded.error();
  return std::shared_ptr<ModuleState>{module, [](ModuleState* m) { m->release(); }};
}

Status ModuleState::load_and_initialise(SteadyTime until) {
  const Turn life{life_, until};
  if (!life) {
    return Error{Code::kUnavailable, Reason::kTokenTimeout, spec_.path + ": busy with starting or ending",
                 Next::kRetryLater, 0};
  }
  if (initialised_) {
    ++users_;
    return check_not_forked();
  }
  if (api_ == nullptr) {
    api_ = p11_kit_module_load(spec_.path.c_str(), P11_KIT_MODULE_UNMANAGED);
    if (api_ == nullptr) {
      const char* why = p11_kit_message();
      return Error{Code::kUnavailable, Reason::kTokenAbsent,
                   spec_.path + ": " + (why != nullptr ? why : "not a PKCS #11 module"), Next::kCallOperator,
                   0};
    }
  }
  const CK_RV rv = initialise();
  if (rv != CKR_OK) {
    Error error = error_of(rv, spec_.path + ": C_Initialize");
    if (error.reason == Reason::kToken) error.reason = Reason::kTokenAbsent;
    return error;
  }
  owner_ = getpid();
  initialised_ = true;
  broken_ = false;
  users_ = 1;
  return Done{};
}

CK_RV ModuleState::initialise() {
  CK_C_INITIALIZE_ARGS arguments{};
  arguments.flags = CKF_OS_LOCKING_OK;
  std::string reserved = spec_.arguments;
  if (!reserved.empty()) arguments.pReserved = reserved.data();
  const CK_RV rv = api_->C_Initialize(&arguments);
  if (rv == CKR_OK) ++generation_;
  return rv;
}

void ModuleState::release() {
  if (getpid() != owner_) return;  // in a forked child the module is the parent's
  const auto worker = Worker::start(stuck_);
  // The time is for calls that are still out; when one stays out, the module stays initialised for the next
  // user.
  static constexpr Millis kPatience{2000};
  worker->run(
      [this] {
        const auto until = std::chrono::steady_clock::now() + kPatience;
        const Turn life{life_, until};
        if (!life || --users_ != 0) return;
        if (!gate_.close(until)) return;
        api_->C_Finalize(nullptr);
        initialised_ = false;
        gate_.open();
      },
      kPatience * 2);
  worker->stop(kPatience);
}

Result<ModuleState::Inside> ModuleState::begin(SteadyTime until) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    if (broken_) SP_CHECK(initialise_anew(until));
    if (!gate_.enter(until)) {
      return Error{Code::kUnavailable, Reason::kTokenTimeout, spec_.path + ": busy with starting or ending",
                   Next::kRetryLater, 0};
    }
    Inside inside{this};
    if (!broken_) return inside;
  }
  return Error{Code::kUnavailable, Reason::kToken, spec_.path + ": breaks as often as it is started",
               Next::kRetryLater, 0};
}

Status ModuleState::initialise_anew(SteadyTime until) {
  if (!gate_.close(until)) {
    return Error{Code::kUnavailable, Reason::kTokenTimeout,
                 spec_.path + ": cannot be started again while a call has not come back", Next::kRetryLater,
                 0};
  }
  struct Reopen {
    CallGate& gate;
    ~Reopen() { gate.open(); }
  } const reopen{gate_};
  if (!broken_) return Done{};  // somebody else was faster
  api_->C_Finalize(nullptr);    // whatever it says: C_Initialize will tell
  const CK_RV rv = initialise();
  if (rv != CKR_OK) {
    Error error = error_of(rv, spec_.path + ": C_Initialize");
    error.next = Next::kReopenSession;
    return error;
  }
  broken_ = false;
  return Done{};
}

void ModuleState::report_broken(std::uint64_t generation) {
  if (generation == generation_) broken_ = true;
}

Status ModuleState::check_not_stuck() const {
  if (stuck_ < Module::kMaxStuckCalls) return Done{};
  return Error{Code::kUnavailable, Reason::kTokenTimeout,
               spec_.path + ": too many calls have not come back; if none does, restart this program",
               Next::kCallOperator, 0};
}

Status ModuleState::check_not_forked() const {
  if (owner_ == 0 || owner_ == getpid()) return Done{};
  return Error{Code::kInternal, spec_.path + ": was loaded before this process forked"};
}

// ---- slots

Result<std::vector<Slot>> list_slots(CK_FUNCTION_LIST* api) {
  std::vector<CK_SLOT_ID> ids;
  for (int attempt = 0; attempt < 3; ++attempt) {
    CK_ULONG count = 0;
    if (const CK_RV rv = api->C_GetSlotList(CK_TRUE, nullptr, &count); rv != CKR_OK) {
      return error_of(rv, "C_GetSlotList");
    }
    if (count > kMaxSlots) return Error{Code::kMalformed, Reason::kToken, "C_GetSlotList: too many slots"};
    ids.resize(count);
    const CK_RV rv = api->C_GetSlotList(CK_TRUE, ids.data(), &count);
    if (rv == CKR_BUFFER_TOO_SMALL) continue;  // a token came in between
    if (rv != CKR_OK) return error_of(rv, "C_GetSlotList");
    if (count < ids.size()) ids.resize(count);
    break;
  }
  std::vector<Slot> slots;
  for (const CK_SLOT_ID id : ids) {
    CK_TOKEN_INFO raw{};
    const CK_RV rv = api->C_GetTokenInfo(id, &raw);
    if (rv == CKR_TOKEN_NOT_PRESENT || rv == CKR_TOKEN_NOT_RECOGNIZED) continue;
    if (rv != CKR_OK) return error_of(rv, "C_GetTokenInfo");
    slots.push_back({id, info_of(raw)});
  }
  return slots;
}

std::string describe_selector(const TokenSelector& selector) {
  std::string text = "token";
  if (!selector.label.empty()) text += " \"" + selector.label + "\"";
  if (!selector.serial.empty())
    text += (selector.label.empty() ? " with serial " : ", serial ") + selector.serial;
  return text;
}

Result<Slot> find_slot(CK_FUNCTION_LIST* api, const TokenSelector& selector) {
  if (selector.label.empty() && selector.serial.empty()) {
    return Error{Code::kMalformed, Reason::kUsage, "a token is named by label or serial number"};
  }
  SP_TRY(const std::vector<Slot> slots, list_slots(api));
  const Slot* found = nullptr;
  std::string others;
  for (const Slot& slot : slots) {
    if (matches(slot.info, selector)) {
      if (found != nullptr) {
        return Error{Code::kConflict, Reason::kConflict,
                     describe_selector(selector) + ": there is more than one; name it by serial number"};
      }
      found = &slot;
    } else if (slot.info.initialised) {
      others += (others.empty() ? "\"" : ", \"") + slot.info.label + "\"";
    }
  }
  if (found == nullptr) {
    return Error{Code::kUnavailable, Reason::kTokenAbsent,
                 describe_selector(selector) + " is not present in " + selector.module.path +
                     (others.empty() ? "; no token is" : "; present: " + others),
                 Next::kReopenSession, 0};
  }
  return *found;
}

// ---- Module

Result<Module> Module::load(const ModuleSpec& spec, std::chrono::milliseconds deadline) {
  SP_TRY(std::shared_ptr<ModuleState> state, ModuleState::acquire(spec, deadline));
  return Module{std::move(state)};
}

const ModuleSpec& Module::spec() const {
  return state_->spec();
}

std::size_t Module::stuck_calls() const {
  return state_->stuck();
}

Result<std::vector<TokenInfo>> Module::list_tokens() const {
  return call_module<std::vector<TokenInfo>>(state_, kDefaultDeadline, "listing tokens",
                                             [](CK_FUNCTION_LIST* api) -> Result<std::vector<TokenInfo>> {
                                               SP_TRY(const std::vector<Slot> slots, list_slots(api));
                                               std::vector<TokenInfo> infos;
                                               for (const Slot& slot : slots) infos.push_back(slot.info);
                                               return infos;
                                             });
}

Result<TokenInfo> Module::find_token(const TokenSelector& selector) const {
  return call_module<TokenInfo>(state_, kDefaultDeadline, "looking for the token",
                                [selector](CK_FUNCTION_LIST* api) -> Result<TokenInfo> {
                                  SP_TRY(const Slot slot, find_slot(api, selector));
                                  return slot.info;
                                });
}

Result<std::vector<crypto::PublicKey>> Module::list_public_keys(const TokenSelector& selector) const {
  using Keys = std::vector<crypto::PublicKey>;
  return call_module<Keys>(
      state_, kDefaultDeadline, "listing public keys", [selector](CK_FUNCTION_LIST* api) -> Result<Keys> {
        SP_TRY(const Slot slot, find_slot(api, selector));
        CK_SESSION_HANDLE session = 0;
        const CK_RV rv = api->C_OpenSession(slot.id, CKF_SERIAL_SESSION, nullptr, nullptr, &session);
        if (rv != CKR_OK) return error_of(rv, "C_OpenSession");
        const auto read = [&]() -> Result<Keys> {
          Keys keys;
          for (const CK_KEY_TYPE type : {CKK_EC, CKK_EC_EDWARDS}) {
            Template wanted;
            wanted.number(CKA_CLASS, CKO_PUBLIC_KEY).number(CKA_KEY_TYPE, type);
            SP_TRY(const auto objects, find_objects(api, session, wanted));
            for (const CK_OBJECT_HANDLE object : objects) {
              SP_TRY(const auto params, get_attribute(api, session, object, CKA_EC_PARAMS, 64));
              SP_TRY(const auto point, get_attribute(api, session, object, CKA_EC_POINT, 256));
              if (!params || !point) continue;
              if (auto key = parse_ec_point(type, *params, *point)) keys.push_back(std::move(*key));
            }
          }
          return keys;
        };
        auto keys = read();
        api->C_CloseSession(session);
        return keys;
      });
}

Result<TokenInfo> Module::init_token(std::string_view label, const SecretBytes& so_pin,
                                     const SecretBytes& user_pin) const {
  if (!is_label(label)) {
    return Error{Code::kMalformed, Reason::kUsage,
                 "a token's label is 1 to 32 printable characters, without blanks at its ends"};
  }
  struct Pins {
    SecretBytes so, user;
  };
  const auto pins =
      std::make_shared<Pins>(Pins{SecretBytes{so_pin.expose()}, SecretBytes{user_pin.expose()}});
  TokenSelector selector{.module = spec(), .label = std::string{label}, .serial = {}};
  // Initialising can be slow on hardware, and happens once.
  return call_module<TokenInfo>(
      state_, kDefaultDeadline * 6, "initialising a token",
      [pins, selector = std::move(selector)](CK_FUNCTION_LIST* api) -> Result<TokenInfo> {
        SP_TRY(const std::vector<Slot> slots, list_slots(api));
        const Slot* blank = nullptr;
        for (const Slot& slot : slots) {
          if (slot.info.initialised && slot.info.label == selector.label) {
            return Error{Code::kConflict, Reason::kConflict, describe_selector(selector) + " exists already"};
          }
          if (!slot.info.initialised && blank == nullptr) blank = &slot;
        }
        if (blank == nullptr) {
          return Error{Code::kUnavailable, Reason::kTokenAbsent,
                       "no blank token is present in " + selector.module.path, Next::kCallOperator, 0};
        }
        unsigned char padded[32];
        std::fill(std::begin(padded), std::end(padded), static_cast<unsigned char>(' '));
        std::copy(selector.label.begin(), selector.label.end(), padded);
        const auto raw = [](SecretBytes& pin) { return pin.expose().data(); };
        CK_RV rv = api->C_InitToken(blank->id, raw(pins->so), pins->so.size(), padded);
        if (rv != CKR_OK) return error_of(rv, "C_InitToken");

        SP_TRY(const Slot made, find_slot(api, selector));
        CK_SESSION_HANDLE session = 0;
        rv = api->C_OpenSession(made.id, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session);
        if (rv != CKR_OK) return error_of(rv, "C_OpenSession");
        std::string_view step = "C_Login (security officer)";
        rv = api->C_Login(session, CKU_SO, raw(pins->so), pins->so.size());
        if (rv == CKR_OK) {
          step = "C_InitPIN";
          rv = api->C_InitPIN(session, raw(pins->user), pins->user.size());
          api->C_Logout(session);
        }
        api->C_CloseSession(session);
        if (rv != CKR_OK) return error_of(rv, step);
        SP_TRY(const Slot ready, find_slot(api, selector));
        return ready.info;
      });
}

// ---- RFC 7512

Result<TokenSelector> parse_token_uri(std::string_view uri, std::string_view default_module) {
  const auto malformed = [](std::string why) {
    return Error{Code::kMalformed, Reason::kUsage, std::move(why)};
  };
  if (uri.size() > 1024 || uri.find('\0') != std::string_view::npos) return malformed("not a PKCS #11 URI");
  const std::unique_ptr<P11KitUri, crypto::FreeWith<p11_kit_uri_free>> parsed{p11_kit_uri_new()};
  SP_ASSERT(parsed != nullptr);
  const int rc = p11_kit_uri_parse(std::string{uri}.c_str(), P11_KIT_URI_FOR_ANY, parsed.get());
  if (rc != P11_KIT_URI_OK) return malformed(std::string{"not a PKCS #11 URI: "} + p11_kit_uri_message(rc));
  if (p11_kit_uri_any_unrecognized(parsed.get()) != 0)
    return malformed("unknown attribute in a PKCS #11 URI");
  if (p11_kit_uri_get_pin_value(parsed.get()) != nullptr ||
      p11_kit_uri_get_pin_source(parsed.get()) != nullptr) {
    return malformed("a PIN does not belong into a PKCS #11 URI");
  }
  CK_ULONG attributes = 0;
  p11_kit_uri_get_attributes(parsed.get(), &attributes);
  if (attributes != 0 || p11_kit_uri_get_slot_id(parsed.get()) != ~CK_SLOT_ID{0}) {
    return malformed("the PKCS #11 URI of a token has no object and no slot");
  }
  const CK_TOKEN_INFO* const info = p11_kit_uri_get_token_info(parsed.get());
  TokenSelector selector;
  selector.label = text_of(info->label);
  selector.serial = text_of(info->serialNumber);
  const char* const path = p11_kit_uri_get_module_path(parsed.get());
  selector.module.path = path != nullptr ? std::string{path} : std::string{default_module};
  if (selector.label.empty() && selector.serial.empty()) {
    return malformed("the PKCS #11 URI of a token needs token= or serial=");
  }
  if (selector.module.path.empty() || selector.module.path.front() != '/') {
    return malformed("the PKCS #11 URI needs module-path= with an absolute path");
  }
  return selector;
}

}  // namespace sallyport::pkcs11

#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "hsm-config/pkcs11/attributes.h"
#include "hsm-config/pkcs11/module_state.h"
#include "hsm-config/pkcs11/token.h"

namespace sallyport::pkcs11 {

// TokenCore is what sessions share: which token, and the login. Jobs own it, so that one that comes back late
// still finds it.
struct TokenCore {
  std::shared_ptr<ModuleState> module;
  TokenSelector selector;
  TokenOptions options;
  SecretBytes
      pin;         // used under `login`, or on a session's own thread for CKU_CONTEXT_SPECIFIC; never changed
  CallGate login;  // taken as a Turn: one C_Login at a time
  std::atomic<bool> opened = false;  // Token::open has succeeded
  std::atomic<std::uint64_t> refused_rv =
      CKR_OK;  // what C_Login said when it refused the PIN: never tried again

  CK_RV login_as(CK_SESSION_HANDLE session, CK_USER_TYPE user);
};

// Session is one session, used by the one thread of its worker.
struct Session {
  std::shared_ptr<TokenCore> core;
  CK_SESSION_HANDLE handle = 0;
  bool open = false;
  std::uint64_t generation = 0;
  TokenInfo info;
  std::map<Bytes, CK_OBJECT_HANDLE> objects;  // private keys by SubjectPublicKeyInfo

  CK_FUNCTION_LIST* api() const { return core->module->api(); }
  Status make_ready(SteadyTime until);
  void close();  // the caller is inside the module
  // judge looks at the error of a call and drops what has to be begun anew.
  void judge(const Error& error);

 private:
  Status open_session();
  Status log_in(SteadyTime until);
};

struct KeyFactory {
  // read_key rebuilds a key's handle from its private object; nothing when the public key is not to be found
  // or of another algorithm.
  static Result<std::optional<KeyHandle>> read_key(Session& session, CK_OBJECT_HANDLE object);
};

// find_private_object looks the object of `key` up and checks that its public key is still the same.
Result<CK_OBJECT_HANDLE> find_private_object(Session& session, const KeyHandle& key);

// generate_pair is C_GenerateKeyPair, for Token and the probe. kLocked: sensitive, not extractable, not
// modifiable, not copyable. kGuarded: sensitive and not extractable only. kOpen: neither (the probe's own
// control keys).
enum class KeyGuard : std::uint8_t { kLocked, kGuarded, kOpen };
struct KeyPair {
  CK_OBJECT_HANDLE public_key = 0, private_key = 0;
};
Result<KeyPair> generate_pair(Session& session, std::string_view label, ByteView id, KeySpec spec,
                              Ed25519Params ed25519_params, KeyGuard guard, bool on_token);

// TokenState is the pool.
class TokenState {
 public:
  TokenState(std::shared_ptr<TokenCore> core);
  ~TokenState();

  // run runs `f` with a session of its own, on that session's thread. `f` owns all it touches.
  template <class T>
  Result<T> run(std::string_view what, std::function<Result<T>(Session&)> f) const {
    SP_CHECK(core_->module->check_not_forked());
    SP_CHECK(core_->module->check_not_stuck());
    SP_TRY(const Lane lane, take());
    const auto deadline = core_->options.deadline;
    auto result = call_on<T>(*lane.worker, deadline, what,
                             [session = lane.session, deadline, f = std::move(f)]() -> Result<T> {
                               const auto until = std::chrono::steady_clock::now() + deadline;
                               SP_TRY(const ModuleState::Inside inside, session->core->module->begin(until));
                               if (const Status ready = session->make_ready(until); !ready)
                                 return ready.error();
                               Result<T> inner = f(*session);
                               if (!inner) session->judge(inner.error());
                               return inner;
                             });
    give_back(lane);
    return result;
  }

  const TokenCore& core() const { return *core_; }
  TokenInfo info;  // set once, by Token::open

 private:
  struct Lane {
    std::shared_ptr<Worker> worker;
    std::shared_ptr<Session> session;
  };
  Result<Lane> take() const;
  void give_back(const Lane& lane) const;

  const std::shared_ptr<TokenCore> core_;
  mutable std::mutex mutex_;  // guards what follows
  mutable std::condition_variable changed_;
  mutable std::vector<Lane> idle_;
  mutable std::size_t live_ = 0;
};

}  // namespace sallyport::pkcs11

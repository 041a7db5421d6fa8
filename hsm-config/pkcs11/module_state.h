#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hsm-config/pkcs11/call.h"
#include "hsm-config/pkcs11/ck.h"
#include "hsm-config/pkcs11/module.h"
#include "hsm-config/pkcs11/next_step.h"

namespace sallyport::pkcs11 {

// ModuleState is one shared library in this process. It lives as long as the process does (a library that was
// left in the middle of a call cannot be unloaded); `users` says whether it is initialised. Every call to
// `api` is made between begin and end.
class ModuleState {
 public:
  // acquire loads the module or finds it, and initialises it for its first user. The pointer's deleter gives
  // the use back.
  static Result<std::shared_ptr<ModuleState>> acquire(const ModuleSpec& spec, Millis deadline);

  // Inside lets its holder call the module; C_Finalize waits until it is gone.
  class Inside {
   public:
    explicit Inside(ModuleState* module) : module_(module) {}
    Inside(Inside&& other) noexcept : module_(std::exchange(other.module_, nullptr)) {}
    Inside& operator=(Inside&&) = delete;
    ~Inside() {
      if (module_ != nullptr) module_->gate_.leave();
    }

   private:
    ModuleState* module_;
  };

  // begin enters the module, and initialises it anew first when a call before found the device gone.
  Result<Inside> begin(SteadyTime until);

  // report_broken: the device behind this generation of the module is gone. Later generations are not
  // concerned.
  void report_broken(std::uint64_t generation);

  CK_FUNCTION_LIST* api() const { return api_; }
  const ModuleSpec& spec() const { return spec_; }
  // generation counts C_Initialize: handles of sessions and objects hold for one generation.
  std::uint64_t generation() const { return generation_; }
  std::atomic<std::size_t>& stuck() { return stuck_; }
  Status check_not_stuck() const;
  Status check_not_forked() const;

 private:
  explicit ModuleState(ModuleSpec spec) : spec_(std::move(spec)) {}
  Status load_and_initialise(SteadyTime until);
  Status initialise_anew(SteadyTime until);
  CK_RV initialise();
  void release();

  const ModuleSpec spec_;
  CK_FUNCTION_LIST* api_ = nullptr;
  CallGate gate_;
  std::atomic<std::uint64_t> generation_ = 0;
  std::atomic<bool> broken_ = false;
  std::atomic<std::size_t> stuck_ = 0;
  std::atomic<pid_t> owner_ = 0;

  CallGate life_;  // taken as a Turn; guards what follows
  std::size_t users_ = 0;
  bool initialised_ = false;
};

// The slots of a module that have a token, with what the token says of itself. The caller is inside the
// module.
struct Slot {
  CK_SLOT_ID id;
  TokenInfo info;
};
Result<std::vector<Slot>> list_slots(CK_FUNCTION_LIST* api);
Result<Slot> find_slot(CK_FUNCTION_LIST* api, const TokenSelector& selector);

// describe_selector names a token for an error: token "us-1", serial 12ab.
std::string describe_selector(const TokenSelector& selector);

}  // namespace sallyport::pkcs11

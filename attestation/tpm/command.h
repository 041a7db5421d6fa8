#pragma once

#include <chrono>
#include <vector>

#include "attestation/base/writer.h"
#include "attestation/tpm/transport.h"

namespace sallyport::tpm {

using Handle = std::uint32_t;
inline constexpr Handle kOwner = 0x40000001, kNull = 0x40000007, kPassword = 0x40000009,
                        kEndorsement = 0x4000000B, kPlatform = 0x4000000C;
inline constexpr std::uint16_t kAlgSha256 = 0x000B, kAlgNull = 0x0010;

// The commands of a TPM that this room sends (TPM 2.0 Library Part 2 rev 1.38 §6.5.2 TPM_CC).
enum class Cc : std::uint32_t {
  kClear = 0x126,
  kNvDefineSpace = 0x12A,
  kCreatePrimary = 0x131,
  kNvWrite = 0x137,
  kStartup = 0x144,
  kShutdown = 0x145,
  kActivateCredential = 0x147,
  kCertify = 0x148,
  kGetSessionAuditDigest = 0x14D,
  kNvRead = 0x14E,
  kPolicySecret = 0x151,
  kEcdhZGen = 0x154,
  kQuote = 0x158,
  kSign = 0x15D,
  kPolicySigned = 0x160,
  kContextLoad = 0x161,
  kContextSave = 0x162,
  kFlushContext = 0x165,
  kLoadExternal = 0x167,
  kNvReadPublic = 0x169,
  kPolicyCounterTimer = 0x16D,
  kReadPublic = 0x173,
  kStartAuthSession = 0x176,
  kGetCapability = 0x17A,
  kPcrRead = 0x17E,
  kPolicyPcr = 0x17F,
  kReadClock = 0x181,
  kPcrExtend = 0x182,
};
std::string_view command_name(Cc command);

struct Response {
  Handle handle = 0;  // of commands that give one back
  Bytes parameters;
};

// Command is one command to be: handles, then authorizations in the order of the handles, then parameters.
//
// It is marshalled by hand instead of through ESYS. Every authorization here is an empty password, a policy
// session without an authValue, or an audit session that is neither salted nor bound, so no command or
// response carries an HMAC and there is no session state to keep; ESYS 3.2 adds 2.7 ms of cryptographic
// contexts to a signature that takes 0.5 ms.
struct Command {
  explicit Command(Cc c) : code(c) {}
  Command& handle(Handle h) {
    handles.push_back(h);
    return *this;
  }
  // authorize uses an empty password, or a policy session. `keep` leaves the session in the TPM after
  // success.
  Command& authorize(Handle session = kPassword, bool keep = false) {
    authorizations.push_back({session, keep});
    return *this;
  }
  // audit has a session of ours, which authorizes nothing, take this command and its response into its
  // digest.
  Command& audit(Handle session) {
    authorizations.push_back({session, /*keep=*/true, /*audit=*/true});
    return *this;
  }
  Command& returns_handle() {
    gives_handle = true;
    return *this;
  }

  struct Authorization {
    Handle session;
    bool keep;
    bool audit = false;
  };
  Cc code;
  std::vector<Handle> handles;
  std::vector<Authorization> authorizations;
  bool gives_handle = false;
  Writer parameters;
};

// encode gives the bytes of a command; parse_response judges those of its response: sizes, tag, response
// code, handle, parameters and the (empty) authorizations of sessions, nothing trailing.
Bytes encode(const Command& command);
Result<Response> parse_response(const Command& command, ByteView response);

// Device sends commands over a transport, and sends again what a TPM asks to be sent again, until its
// patience is over. When an unmanaged TPM has no room it waits for other programs' short operations; on a
// simulator it then flushes what is not ours.
class Device {
 public:
  Device(std::unique_ptr<Transport> transport, std::chrono::milliseconds patience)
      : transport_(std::move(transport)), patience_(patience) {}
  Result<Response> run(const Command& command);
  Transport& transport() { return *transport_; }

  // hold and forget keep the list of handles that are ours, which flush_others spares and flush_ours does
  // not.
  void hold(Handle handle) { ours_.push_back(handle); }
  void forget(Handle handle) { std::erase(ours_, handle); }
  // handles lists transient objects, loaded sessions and saved sessions.
  Result<std::vector<Handle>> handles();
  Result<std::vector<Handle>> handles_from(Handle first);
  Status flush_others();
  void flush_ours();

 private:
  Result<Response> run_once(ByteView bytes, const Command& command);
  bool is_ours(Handle handle) const;
  std::unique_ptr<Transport> transport_;
  std::chrono::milliseconds patience_;
  std::vector<Handle> ours_;
};

// Loaded is an object or session that is in the TPM as long as this lives.
class Loaded {
 public:
  Loaded() = default;
  Loaded(Device& device, Handle handle) : device_(&device), handle_(handle) { device.hold(handle); }
  Loaded(Loaded&& other) noexcept { *this = std::move(other); }
  Loaded& operator=(Loaded&& other) noexcept;
  Loaded(const Loaded&) = delete;
  Loaded& operator=(const Loaded&) = delete;
  ~Loaded() { flush(); }

  Handle handle() const { return handle_; }
  // persistent is an object that was there before and stays.
  static Loaded persistent(Handle handle) {
    Loaded loaded;
    loaded.handle_ = handle;
    return loaded;
  }
  // release forgets the handle: the TPM has flushed it by itself, or its context was saved.
  void release() {
    if (device_ != nullptr) device_->forget(handle_);
    device_ = nullptr;
  }

 private:
  void flush();
  Device* device_ = nullptr;
  Handle handle_ = 0;
};

}  // namespace sallyport::tpm

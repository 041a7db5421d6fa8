#include "attestation/tpm/command.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "attestation/base/reader.h"
#include "attestation/tpm/next_step.h"

namespace sallyport::tpm {
namespace {

constexpr std::uint16_t kTagNoSessions = 0x8001, kTagSessions = 0x8002;
constexpr std::uint8_t kContinueSession = 0x01, kAuditSession = 0x80;
constexpr std::size_t kHeaderBytes = 10;
constexpr std::chrono::milliseconds kPatienceForRoom{500};

bool asks_to_send_again(std::uint32_t rc) {
  return rc == kRcRetry || rc == kRcYielded || rc == kRcTesting || rc == kRcNvRate;
}

bool has_no_room(std::uint32_t rc) {
  return rc == kRcObjectMemory || rc == kRcSessionMemory || rc == kRcSessionHandles || rc == kRcObjectHandles;
}

Error malformed(Cc command, std::string_view what) {
  return Error{Code::kMalformed, Reason::kTpm, std::string{command_name(command)} + ": " + std::string{what}};
}

}  // namespace

std::string_view command_name(Cc command) {
  switch (command) {
    case Cc::kClear:
      return "TPM2_Clear";
    case Cc::kNvDefineSpace:
      return "TPM2_NV_DefineSpace";
    case Cc::kCreatePrimary:
      return "TPM2_CreatePrimary";
    case Cc::kNvWrite:
      return "TPM2_NV_Write";
    case Cc::kStartup:
      return "TPM2_Startup";
    case Cc::kShutdown:
      return "TPM2_Shutdown";
    case Cc::kActivateCredential:
      return "TPM2_ActivateCredential";
    case Cc::kCertify:
      return "TPM2_Certify";
    case Cc::kGetSessionAuditDigest:
      return "TPM2_GetSessionAuditDigest";
    case Cc::kNvRead:
      return "TPM2_NV_Read";
    case Cc::kPolicySecret:
      return "TPM2_PolicySecret";
    case Cc::kEcdhZGen:
      return "TPM2_ECDH_ZGen";
    case Cc::kQuote:
      return "TPM2_Quote";
    case Cc::kSign:
      return "TPM2_Sign";
    case Cc::kPolicySigned:
      return "TPM2_PolicySigned";
    case Cc::kContextLoad:
      return "TPM2_ContextLoad";
    case Cc::kContextSave:
      return "TPM2_ContextSave";
    case Cc::kFlushContext:
      return "TPM2_FlushContext";
    case Cc::kLoadExternal:
      return "TPM2_LoadExternal";
    case Cc::kNvReadPublic:
      return "TPM2_NV_ReadPublic";
    case Cc::kPolicyCounterTimer:
      return "TPM2_PolicyCounterTimer";
    case Cc::kReadPublic:
      return "TPM2_ReadPublic";
    case Cc::kStartAuthSession:
      return "TPM2_StartAuthSession";
    case Cc::kGetCapability:
      return "TPM2_GetCapability";
    case Cc::kPcrRead:
      return "TPM2_PCR_Read";
    case Cc::kPolicyPcr:
      return "TPM2_PolicyPCR";
    case Cc::kReadClock:
      return "TPM2_ReadClock";
    case Cc::kPcrExtend:
      return "TPM2_PCR_Extend";
  }
  return "TPM2_?";
}

Bytes encode(const Command& command) {
  Writer body;
  for (const Handle handle : command.handles) body.u32(handle);
  if (!command.authorizations.empty()) {
    Writer area;
    for (const auto& authorization : command.authorizations) {
      const bool keep = authorization.keep && authorization.session != kPassword;
      const int attributes = (keep ? kContinueSession : 0) | (authorization.audit ? kAuditSession : 0);
      area.u32(authorization.session).prefixed16({}).u8(static_cast<std::uint8_t>(attributes)).prefixed16({});
    }
    body.prefixed32(area.bytes());
  }
  body.raw(command.parameters.bytes());
  Writer out;
  out.u16(command.authorizations.empty() ? kTagNoSessions : kTagSessions);
  out.u32(static_cast<std::uint32_t>(kHeaderBytes + body.bytes().size()));
  out.u32(static_cast<std::uint32_t>(command.code)).raw(body.bytes());
  return std::move(out).take();
}

Result<Response> parse_response(const Command& command, ByteView response) {
  Reader in{response};
  SP_TRY(const std::uint16_t tag, in.u16());
  SP_TRY(const std::uint32_t size, in.u32());
  SP_TRY(const std::uint32_t rc, in.u32());
  if (size != response.size()) return malformed(command.code, "response of another size than it says");
  if (rc != 0) {
    if (tag != kTagNoSessions && tag != 0x00C4) return malformed(command.code, "refusal with an unknown tag");
    SP_CHECK(in.finish());
    return device_error(rc, command_name(command.code));
  }
  const bool sessions = !command.authorizations.empty();
  if (tag != (sessions ? kTagSessions : kTagNoSessions))
    return malformed(command.code, "response with an unexpected tag");

  Response out;
  if (command.gives_handle) {
    SP_TRY(out.handle, in.u32());
  }
  if (!sessions) {
    out.parameters = to_bytes(in.rest());
    return out;
  }
  SP_TRY(const ByteView parameters, in.prefixed32(response.size()));
  out.parameters = to_bytes(parameters);
  for (std::size_t i = 0; i < command.authorizations.size(); ++i) {
    SP_TRY(const ByteView nonce, in.prefixed16(64));
    SP_TRY(const std::uint8_t attributes, in.u8());
    SP_TRY(const ByteView hmac, in.prefixed16(64));
    static_cast<void>(nonce);
    static_cast<void>(attributes);
    if (!hmac.empty()) return malformed(command.code, "an HMAC where none can be");
  }
  SP_CHECK(in.finish());
  return out;
}

Result<Response> Device::run_once(ByteView bytes, const Command& command) {
  SP_TRY(Bytes answer, transport_->exchange(bytes));
  Result<Response> response = parse_response(command, answer);
  OPENSSL_cleanse(answer.data(), answer.size());  // some answers are secrets
  return response;
}

Result<Response> Device::run(const Command& command) {
  const Bytes bytes = encode(command);
  const auto start = std::chrono::steady_clock::now();
  auto pause = std::chrono::milliseconds{1};
  bool flushed = false;
  for (;;) {
    Result<Response> response = run_once(bytes, command);
    if (response.has_value()) return response;
    const std::uint32_t rc = base_rc(response.error().device_rc);
    const bool no_room = has_no_room(rc) && !transport_->is_managed();
    if (!no_room && !asks_to_send_again(rc)) return response;
    if (std::chrono::steady_clock::now() + pause >
        start + (no_room ? std::min(kPatienceForRoom, patience_) : patience_)) {
      if (!no_room || flushed || !transport_->is_simulator()) return response;
      flushed = true;  // nobody frees it: left behind by a program that was killed
      SP_CHECK(flush_others());
      continue;
    }
    std::this_thread::sleep_for(pause);  // the TPM asked for time
    pause = std::min(pause * 2, std::chrono::milliseconds{100});
  }
}

Result<std::vector<Handle>> Device::handles_from(Handle first) {
  constexpr std::uint32_t kCapHandles = 1, kMaxHandles = 254;
  Command command{Cc::kGetCapability};
  command.parameters.u32(kCapHandles).u32(first).u32(kMaxHandles);
  SP_TRY(const Response response, run_once(encode(command), command));
  Reader in{response.parameters};
  SP_TRY(const std::uint8_t more, in.u8());
  SP_TRY(const std::uint32_t capability, in.u32());
  SP_TRY(const std::uint32_t count, in.u32());
  if (more > 1 || capability != kCapHandles || count > kMaxHandles)
    return malformed(command.code, "not a handle list");
  std::vector<Handle> found;
  for (std::uint32_t i = 0; i < count; ++i) {
    SP_TRY(const Handle handle, in.u32());
    if (handle >> 24 == first >> 24 || first >> 24 == 0x02 || first >> 24 == 0x03) found.push_back(handle);
  }
  SP_CHECK(in.finish());
  return found;
}

Result<std::vector<Handle>> Device::handles() {
  constexpr Handle kTransients = 0x80000000, kLoadedSessions = 0x02000000, kSavedSessions = 0x03000000;
  std::vector<Handle> all;
  for (const Handle first : {kTransients, kLoadedSessions, kSavedSessions}) {
    SP_TRY(const auto found, handles_from(first));
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

bool Device::is_ours(Handle handle) const {
  // A TPM lists a saved session without telling what kind it is: two of the types are one number space.
  const auto comparable = [](Handle h) { return h >> 24 == 0x03 ? (h & 0x00FFFFFF) | 0x02000000 : h; };
  return std::any_of(ours_.begin(), ours_.end(),
                     [&](Handle h) { return comparable(h) == comparable(handle); });
}

Status Device::flush_others() {
  SP_TRY(const auto all, handles());
  for (const Handle handle : all) {
    if (is_ours(handle)) continue;
    Command command{Cc::kFlushContext};
    command.parameters.u32(handle);
    static_cast<void>(run_once(encode(command), command));  // its owner may have flushed it meanwhile
  }
  return Done{};
}

void Device::flush_ours() {
  for (const Handle handle : std::exchange(ours_, {})) {
    Command command{Cc::kFlushContext};
    command.parameters.u32(handle);
    static_cast<void>(run_once(encode(command), command));
  }
}

Loaded& Loaded::operator=(Loaded&& other) noexcept {
  if (this != &other) {
    flush();
    device_ = std::exchange(other.device_, nullptr);
    handle_ = other.handle_;
  }
  return *this;
}

void Loaded::flush() {
  if (device_ == nullptr) return;
  Command command{Cc::kFlushContext};
  command.parameters.u32(handle_);
  // A failure leaves the object to the resource manager or to the next flush_leftovers: there is nobody here
  // to tell.
  Device& device = *std::exchange(device_, nullptr);
  device.forget(handle_);
  static_cast<void>(device.run(command));
}

}  // namespace sallyport::tpm

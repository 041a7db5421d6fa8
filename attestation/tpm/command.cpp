#include "attestation/tpm/command.h"

#include <thread>
#include <utility>

#include "attestation/base/reader.h"
#include "attestation/tpm/next_step.h"

namespace sallyport::tpm {
namespace {

constexpr std::uint16_t kTagNoSessions = 0x8001, kTagSessions = 0x8002;
constexpr std::uint8_t kContinueSession = 0x01;
constexpr std::size_t kHeaderBytes = 10;

bool asks_to_send_again(std::uint32_t rc) {
  return rc == kRcRetry || rc == kRcYielded || rc == kRcTesting || rc == kRcNvRate;
}

Error malformed(Cc command, std::string_view what) {
  return Error{Code::kMalformed, Reason::kTpm, std::string{command_name(command)} + ": " + std::string{what}};
}

}  // namespace

std::string_view command_name(Cc command) {
  switch (command) {
    case Cc::kClear: return "TPM2_Clear";
    case Cc::kNvDefineSpace: return "TPM2_NV_DefineSpace";
    case Cc::kCreatePrimary: return "TPM2_CreatePrimary";
    case Cc::kNvWrite: return "TPM2_NV_Write";
    case Cc::kStartup: return "TPM2_Startup";
    case Cc::kShutdown: return "TPM2_Shutdown";
    case Cc::kActivateCredential: return "TPM2_ActivateCredential";
    case Cc::kCertify: return "TPM2_Certify";
    case Cc::kNvRead: return "TPM2_NV_Read";
    case Cc::kPolicySecret: return "TPM2_PolicySecret";
    case Cc::kEcdhZGen: return "TPM2_ECDH_ZGen";
    case Cc::kQuote: return "TPM2_Quote";
    case Cc::kSign: return "TPM2_Sign";
    case Cc::kPolicySigned: return "TPM2_PolicySigned";
    case Cc::kContextLoad: return "TPM2_ContextLoad";
    case Cc::kContextSave: return "TPM2_ContextSave";
    case Cc::kFlushContext: return "TPM2_FlushContext";
    case Cc::kLoadExternal: return "TPM2_LoadExternal";
    case Cc::kNvReadPublic: return "TPM2_NV_ReadPublic";
    case Cc::kPolicyCounterTimer: return "TPM2_PolicyCounterTimer";
    case Cc::kReadPublic: return "TPM2_ReadPublic";
    case Cc::kStartAuthSession: return "TPM2_StartAuthSession";
    case Cc::kGetCapability: return "TPM2_GetCapability";
    case Cc::kPcrRead: return "TPM2_PCR_Read";
    case Cc::kPolicyPcr: return "TPM2_PolicyPCR";
    case Cc::kReadClock: return "TPM2_ReadClock";
    case Cc::kPcrExtend: return "TPM2_PCR_Extend";
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
      area.u32(authorization.session).prefixed16({}).u8(keep ? kContinueSession : 0).prefixed16({});
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
  if (tag != (sessions ? kTagSessions : kTagNoSessions)) return malformed(command.code, "response with an unexpected tag");

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

Result<Response> Device::run(const Command& command) {
  const Bytes bytes = encode(command);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  auto pause = std::chrono::milliseconds{1};
  for (;;) {
    SP_TRY(const Bytes answer, transport_->exchange(bytes));
    Result<Response> response = parse_response(command, answer);
    if (response.has_value() || !asks_to_send_again(base_rc(response.error().device_rc)) ||
        std::chrono::steady_clock::now() + pause > deadline)
      return response;
    std::this_thread::sleep_for(pause);  // the TPM asked for time
    pause = std::min(pause * 2, std::chrono::milliseconds{100});
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
  // A failure leaves the object to the resource manager or to the next flush_leftovers: there is nobody here to tell.
  static_cast<void>(std::exchange(device_, nullptr)->run(command));
}

}  // namespace sallyport::tpm

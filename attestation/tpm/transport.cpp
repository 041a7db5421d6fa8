#include "attestation/tpm/transport.h"

#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tctildr.h>

#include <cstdlib>
#include <mutex>

#include "attestation/tpm/next_step.h"

namespace sallyport::tpm {
namespace {

constexpr std::size_t kMaxResponseBytes = 4096;  // TPM2_MAX_RESPONSE_SIZE

struct FinalizeTcti {
  void operator()(TSS2_TCTI_CONTEXT* tcti) const noexcept { Tss2_TctiLdr_Finalize(&tcti); }
};

// The log of tpm2-tss reads its level from the environment once, at its first line; without this every
// expected refusal of a TPM, and every try for a device that is not there, is an ERROR on the person's
// terminal.
void silence_tss_log() {
  static std::once_flag once;
  std::call_once(once, [] { ::setenv("TSS2_LOG", "all+none", 0); });
}

class Tcti final : public Transport {
 public:
  Tcti(TSS2_TCTI_CONTEXT* tcti, const std::string& configuration) : tcti_(tcti) {
    const auto has = [&](std::string_view start) { return configuration.starts_with(start); };
    simulator_ = has("swtpm") || has("mssim") || has("libtss2-tcti-swtpm") || has("libtss2-tcti-mssim");
    managed_ = has("tabrmd") || configuration.find("tpmrm") != std::string::npos || configuration == "device";
  }

  Result<Bytes> exchange(ByteView command) override {
    if (const TSS2_RC rc = Tss2_Tcti_Transmit(tcti_.get(), command.size(), command.data());
        rc != TSS2_RC_SUCCESS)
      return device_error(rc, "sending a command");
    Bytes response(kMaxResponseBytes);
    std::size_t size = response.size();
    if (const TSS2_RC rc = Tss2_Tcti_Receive(tcti_.get(), &size, response.data(), TSS2_TCTI_TIMEOUT_BLOCK);
        rc != TSS2_RC_SUCCESS)
      return device_error(rc, "receiving a response");
    if (size > response.size())
      return Error{Code::kMalformed, Reason::kTpm, "response longer than its buffer"};
    response.resize(size);
    return response;
  }
  bool is_managed() const override { return managed_; }
  bool is_simulator() const override { return simulator_; }

 private:
  std::unique_ptr<TSS2_TCTI_CONTEXT, FinalizeTcti> tcti_;
  bool managed_ = false, simulator_ = false;
};

}  // namespace

Result<std::unique_ptr<Transport>> open_tcti(const std::string& configuration) {
  silence_tss_log();
  TSS2_TCTI_CONTEXT* tcti = nullptr;
  if (const TSS2_RC rc = Tss2_TctiLdr_Initialize(configuration.c_str(), &tcti); rc != TSS2_RC_SUCCESS) {
    Error error = device_error(rc, "opening " + configuration);
    error.code = Code::kUnavailable;
    error.reason = Reason::kTpmAbsent;
    return error;
  }
  return std::unique_ptr<Transport>{std::make_unique<Tcti>(tcti, configuration)};
}

}  // namespace sallyport::tpm

#pragma once

#include <memory>
#include <string>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport::tpm {

// Transport carries one command to a TPM and one response back. Fuzzers and unit tests have their own.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual Result<Bytes> exchange(ByteView command) = 0;
  // is_managed: a resource manager (the kernel's, tpm2-abrmd) gives every client its own view of objects and
  // sessions.
  virtual bool is_managed() const = 0;
  // is_simulator: this is an emulator of tests and demonstrations, where unknown objects may be flushed.
  virtual bool is_simulator() const = 0;
};

// open_tcti loads a TCTI of tpm2-tss by its configuration string, for example "device:/dev/tpmrm0" or
// "swtpm:path=/run/x/sock" (whose control socket must be /run/x/sock.ctrl). It silences the log of tpm2-tss
// on stderr unless TSS2_LOG is set.
//   Errors: kTpmAbsent.
Result<std::unique_ptr<Transport>> open_tcti(const std::string& configuration);

}  // namespace sallyport::tpm

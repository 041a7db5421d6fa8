#pragma once

#include <chrono>
#include <functional>
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

// Patience is how long a TPM that says nothing is waited for: another program may hold its only connection,
// and no TCTI of a socket has a timeout of its own.
struct Patience {
  // For one command, and for opening. Hardware takes some ten seconds for an RSA primary key.
  std::chrono::milliseconds deadline = std::chrono::seconds{60};
  std::chrono::milliseconds quiet = std::chrono::seconds{1};
  std::function<void()> waiting;  // called once, when there was nothing for `quiet`; may be empty
};

// open_tcti loads a TCTI of tpm2-tss by its configuration string, for example "device:/dev/tpmrm0" or
// "swtpm:path=/run/x/sock" (whose control socket must be /run/x/sock.ctrl). It silences the log of tpm2-tss
// on stderr unless TSS2_LOG is set. An exchange that passes the deadline is kTpmBusy; the next ones are too,
// at once, as long as the TPM still owes that answer, which nobody gets.
//   Errors: kTpmAbsent, kTpmBusy.
Result<std::unique_ptr<Transport>> open_tcti(const std::string& configuration, Patience patience = {});

}  // namespace sallyport::tpm

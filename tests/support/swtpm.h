#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "attestation/evidence/templates.h"
#include "attestation/tpm/tpm.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::test {

// test_vendor is the vendor of all emulated TPMs of a test program, made when first asked for.
const TestVendor& test_vendor();

// TemporarySwtpm is an emulated TPM in a temporary directory, killed (by its process id) when the test ends,
// also when the test is killed. Failures to start it fail the test.
class TemporarySwtpm {
 public:
  enum class Ek {
    kP256,         // a blank TPM, EK certificate of the vendor in NV 0x01C0000A; ready in about 40 ms
    kP384,         // the same in 0x01C00016
    kRsa2048,      // the same in 0x01C00002
    kManufactured  // swtpm_setup with a private CA: RSA-2048 and P-384, persistent keys; about 1 s
  };
  explicit TemporarySwtpm(Ek ek = Ek::kP256, const TestVendor& vendor = test_vendor());
  ~TemporarySwtpm();
  TemporarySwtpm(const TemporarySwtpm&) = delete;
  TemporarySwtpm& operator=(const TemporarySwtpm&) = delete;

  std::string tcti() const { return "swtpm:path=" + socket_.string(); }
  tpm::Tpm open() const;  // a new connection
  // vendor_root gives the root of this TPM's EK certificates (DER); intermediates those between, which a
  // policy lists as well.
  const Bytes& vendor_root() const { return vendor_root_; }
  const std::vector<Bytes>& intermediates() const { return intermediates_; }

  // reboot_at is reboot by a firmware that starts the TPM at a locality: 3 shows in PCR 0.
  void reboot_at(std::uint8_t locality);
  void reboot();     // power off without TPM2_Shutdown and on again: resetCount + 1, restartCount 0, PCRs 0
  void power_cut();  // the same by SIGKILL and a new process: the clock goes back too
  void suspend();    // TPM2_Shutdown(STATE) and Startup(STATE): restartCount + 1, PCRs stay
  void extend_pcr(unsigned index, const Digest256& digest);  // SHA-256 bank
  void clear();                                              // TPM2_Clear by the platform
  // command sends bytes of the test's own and gives the whole response.
  Bytes command(ByteView bytes);

  pid_t pid() const { return pid_; }

 private:
  void start();
  void stop();
  void control(std::uint32_t code, std::uint32_t argument = 0);
  void install_certificate(const evidence::PublicTemplate& form, std::uint32_t index,
                           const TestVendor& vendor);
  void manufacture();
  TemporaryDirectory directory_;
  std::filesystem::path socket_;
  pid_t pid_ = -1;
  Bytes vendor_root_;
  std::vector<Bytes> intermediates_;
};

}  // namespace sallyport::test

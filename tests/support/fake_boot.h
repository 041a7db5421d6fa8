#pragma once

#include "attestation/evidence/event_log.h"
#include "tests/support/swtpm.h"

namespace sallyport::test {

// pcr_banks are the banks that an emulated TPM has, of those that event logs are replayed in.
std::vector<evidence::LogAlgorithm> pcr_banks(TemporarySwtpm& swtpm);

// fake_boot reboots an emulated TPM and has it measure what a log says: started at the log's locality, every
// event that extends, in each bank that event and TPM have. A log with an H-CRTM event fails the test:
// nothing can make one from outside the TPM.
void fake_boot(TemporarySwtpm& swtpm, const evidence::EventLog& log);

Bytes read_pcr(TemporarySwtpm& swtpm, evidence::LogAlgorithm bank, unsigned index);

}  // namespace sallyport::test

#include "tests/support/fake_boot.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/tpm/command.h"

namespace sallyport::test {
namespace {

using evidence::LogAlgorithm;
using tpm::Cc;
using tpm::Command;

tpm::Response run(TemporarySwtpm& swtpm, const Command& command) {
  return value_of(tpm::parse_response(command, swtpm.command(tpm::encode(command))));
}

}  // namespace

std::vector<LogAlgorithm> pcr_banks(TemporarySwtpm& swtpm) {
  constexpr std::uint32_t kCapabilityPcrs = 5;
  Command command{Cc::kGetCapability};
  command.parameters.u32(kCapabilityPcrs).u32(0).u32(1);
  const tpm::Response response = run(swtpm, command);
  Reader in{response.parameters};
  value_of(in.u8());
  value_of(in.u32());
  std::vector<LogAlgorithm> banks;
  for (std::uint32_t left = value_of(in.u32()); left != 0; --left) {
    const auto bank = evidence::find_log_algorithm(value_of(in.u16()));
    const ByteView octets = value_of(in.raw(value_of(in.u8())));
    const bool used =
        std::any_of(octets.begin(), octets.end(), [](std::uint8_t octet) { return octet != 0; });
    if (bank && used) banks.push_back(*bank);
  }
  return banks;
}

void fake_boot(TemporarySwtpm& swtpm, const evidence::EventLog& log) {
  if (log.pcr0_start() == 4) {
    ADD_FAILURE() << "a boot with an H-CRTM event cannot be faked";
    return;
  }
  swtpm.reboot_at(log.pcr0_start());
  const std::vector<LogAlgorithm> banks = pcr_banks(swtpm);
  for (const evidence::LogEvent& event : log.events()) {
    if (!event.extends()) continue;
    Writer digests;
    std::uint32_t count = 0;
    for (const LogAlgorithm bank : banks)
      if (const auto digest = event.digest(bank)) {
        digests.u16(static_cast<std::uint16_t>(bank)).raw(*digest);
        ++count;
      }
    Command command{Cc::kPcrExtend};
    command.handle(event.pcr).authorize();
    command.parameters.u32(count).raw(digests.bytes());
    run(swtpm, command);
  }
}

Bytes read_pcr(TemporarySwtpm& swtpm, LogAlgorithm bank, unsigned index) {
  Command command{Cc::kPcrRead};
  const std::uint32_t mask = 1u << index;
  command.parameters.u32(1).u16(static_cast<std::uint16_t>(bank)).u8(3);
  for (const int shift : {0, 8, 16}) command.parameters.u8(static_cast<std::uint8_t>(mask >> shift));
  const tpm::Response response = run(swtpm, command);
  Reader in{response.parameters};
  value_of(in.raw(4 + 10));  // update counter; the selection
  EXPECT_EQ(value_of(in.u32()), 1u);
  return to_bytes(value_of(in.prefixed16(64)));
}

}  // namespace sallyport::test

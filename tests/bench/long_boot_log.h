#pragma once

#include "attestation/evidence/event_log.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::bench {

// boot_log_of gives an event log of that many events: a server's, of 159 events of SHA-256, and then lines of
// its grub (PCR 8) once more, as of a longer configuration. No longer real log was found that is free to use.
inline Bytes boot_log_of(std::size_t events) {
  const evidence::EventLog log =
      test::value_of(evidence::EventLog::parse(test::read_file("tests/vectors/event_logs/gdc-host.bin")));
  const auto end_of = [&](std::size_t number) {
    const ByteView data = log.events()[number].data;
    return static_cast<std::size_t>(data.data() + data.size() - log.bytes().data());
  };
  Bytes bytes = to_bytes(log.bytes());
  std::size_t count = log.events().size();
  for (std::size_t i = 1; i < log.events().size() && count < events; ++i) {
    if (log.events()[i].pcr != 8) continue;
    const ByteView event = log.bytes().subspan(end_of(i - 1), end_of(i) - end_of(i - 1));
    bytes.insert(bytes.end(), event.begin(), event.end());
    ++count;
  }
  SP_ASSERT(count == events);
  return bytes;
}

}  // namespace sallyport::bench

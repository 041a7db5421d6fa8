#pragma once

#include <cstdio>
#include <ctime>
#include <fstream>
#include <optional>
#include <string>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/record/batch.h"

// What make_log says to append_log through a pipe: a first message of who the log is, then pages of entries
// and cosigned checkpoints of what was sent.
namespace sallyport::bench {

struct LogHead {
  std::string socket;  // of the keyguard
  std::string origin;
  Digest256 genesis_policy;
};
struct SizedNote {
  TreeSize size;
  std::string note;
};

enum class Message : std::uint8_t { kHead = 'H', kPage = 'P', kNote = 'N' };

inline void send(Message type, ByteView payload) {
  const Bytes bytes = std::move(Writer{}.u8(static_cast<std::uint8_t>(type)).prefixed32(payload)).take();
  SP_ASSERT(std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size());
}
// receive gives the next message; none at the end.
inline std::optional<std::pair<Message, Bytes>> receive() {
  std::uint8_t head[5];
  if (std::fread(head, 1, sizeof(head), stdin) != sizeof(head)) return std::nullopt;
  Reader in{head};
  const Message type{*in.u8()};
  Bytes payload(*in.u32());
  SP_ASSERT(std::fread(payload.data(), 1, payload.size(), stdin) == payload.size());
  return std::pair{type, std::move(payload)};
}

// memory_mib reads a line of /proc/…/status: "VmRSS", or "VmHWM", the most there ever was.
inline double memory_mib(std::string_view name, const std::string& process = "self") {
  std::ifstream status{"/proc/" + process + "/status"};
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name)) return std::stod(line.substr(name.size() + 1)) / 1024;
  return 0;
}

// cpu_seconds is what this process has used of all cores.
inline double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

}  // namespace sallyport::bench

#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "attestation/base/result.h"
#include "attestation/record/statements.h"

// What the thin clients (the principals command, the login shell), the service and the keepers of sessions
// say to each other, in frames of attestation/net over Unix sockets. What encode gives, parse takes, and
// nothing else; nothing of it is believed. Errors: kMalformed.
namespace sallyport::gate {

inline constexpr std::size_t kMaxCommandBytes = 128 * 1024;
inline constexpr std::size_t kMaxGateFrameBytes = 256 * 1024;

struct Window {
  std::uint16_t rows = 0, columns = 0;
  friend bool operator==(const Window&, const Window&) = default;
};

// ---- a thin client's first frame: what it asks

struct AskPrincipal {
  std::string user;   // sshd's %u
  Bytes certificate;  // sshd's %k, wire form
};
struct AskSession {
  Bytes certificate;                   // from $SSH_USER_AUTH
  std::optional<std::string> command;  // $SSH_ORIGINAL_COMMAND
  std::string term, address;           // $TERM, the peer's address as sshd gave it
  bool tty = false;                    // stdin is a terminal
  Window window;
};
using Ask = std::variant<AskPrincipal, AskSession>;
Bytes encode(const Ask& ask);
Result<Ask> parse_ask(ByteView frame);

// ---- the service's frames to a thin client

enum class Say : std::uint8_t {
  kPrincipal = 1,  // text: the one principal
  kRefused = 2,    // text: what the person may know
  kSendFiles = 3,  // stdin, stdout and stderr, by SCM_RIGHTS, with one byte
  kStarted = 4,    // the terminal is ours now
  kEnded = 5,      // status: the exit code; text: why, when it did not end by itself
};
struct Answer {
  Say say = Say::kRefused;
  std::uint8_t status = 0;
  std::string text;
};
Bytes encode(const Answer& answer);
Result<Answer> parse_answer(ByteView frame);

// A thin client's and the service's later frames carry nothing but a new size of the terminal.
Bytes encode(const Window& window);
Result<Window> parse_window(ByteView frame);

// ---- the service and the keeper of one session

struct KeeperOrder {
  std::string account, shell;
  std::optional<std::string> command;  // for `shell -c`; absent: the shell alone
  bool login = false;                  // a login shell: its name begins with "-"
  std::string term, case_hex;
  std::string cgroup;  // a directory of cgroup v2 made for this session; "": none
  bool tty = false;
  Window window;
  std::uint64_t remaining_ms = 0;  // of the grant
};
Bytes encode(const KeeperOrder& order);
Result<KeeperOrder> parse_keeper_order(ByteView frame);

// What a keeper reports: first that it started, then, once every process of the session is gone, how it
// ended.
struct KeeperReport {
  bool ended = false;
  record::WhyClosed why = record::WhyClosed::kExit;  // kExit, kDeadline, or kLost: it was told to end
  std::uint8_t status = 0;
  std::uint64_t bytes = 0;  // of output
};
Bytes encode(const KeeperReport& report);
Result<KeeperReport> parse_keeper_report(ByteView frame);

}  // namespace sallyport::gate

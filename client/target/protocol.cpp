#include "client/target/protocol.h"

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "broker/credentials/ssh_certificate.h"

namespace sallyport::gate {
namespace {

constexpr std::size_t kMaxNameBytes = 64;
constexpr std::size_t kMaxPathBytes = 1024;
constexpr std::size_t kMaxTextBytes = 1024;

enum Tag : std::uint8_t { kAskPrincipal = 1, kAskSession = 2, kWindow = 3, kOrder = 4, kReport = 5 };

Result<bool> read_flag(Reader& in) {
  SP_TRY(const std::uint8_t value, in.u8());
  if (value > 1) return Error{Code::kMalformed, "a flag that is neither 0 nor 1"};
  return value == 1;
}

// Text that goes to execve, getpwnam or a terminal has no NUL in it.
Result<std::string> read_text(Reader& in, std::size_t max) {
  SP_TRY(const ByteView bytes, in.prefixed32(max));
  std::string text{as_text(bytes)};
  if (text.find('\0') != text.npos) return Error{Code::kMalformed, "a NUL in a text"};
  return text;
}

void put_command(Writer& out, const std::optional<std::string>& command) {
  out.u8(command ? 1 : 0);
  if (command) out.prefixed32(*command);
}
Result<std::optional<std::string>> read_command(Reader& in) {
  SP_TRY(const bool present, read_flag(in));
  if (!present) return std::optional<std::string>{};
  SP_TRY(std::string command, read_text(in, kMaxCommandBytes));
  return std::optional<std::string>{std::move(command)};
}

void put_window(Writer& out, const Window& window) {
  out.u16(window.rows).u16(window.columns);
}
Result<Window> read_window(Reader& in) {
  Window window;
  SP_TRY(window.rows, in.u16());
  SP_TRY(window.columns, in.u16());
  return window;
}

Status expect(Reader& in, std::uint8_t tag) {
  SP_TRY(const std::uint8_t found, in.u8());
  if (found != tag) return Error{Code::kMalformed, "another frame was expected"};
  return Done{};
}

}  // namespace

Bytes encode(const Ask& ask) {
  Writer out;
  if (const auto* principal = std::get_if<AskPrincipal>(&ask)) {
    out.u8(kAskPrincipal).prefixed32(principal->user).prefixed32(ByteView{principal->certificate});
  } else {
    const auto& session = std::get<AskSession>(ask);
    out.u8(kAskSession).prefixed32(ByteView{session.certificate});
    put_command(out, session.command);
    out.prefixed32(session.term).prefixed32(session.address).u8(session.tty ? 1 : 0);
    put_window(out, session.window);
  }
  return std::move(out).take();
}

Result<Ask> parse_ask(ByteView frame) {
  Reader in{frame};
  SP_TRY(const std::uint8_t tag, in.u8());
  if (tag == kAskPrincipal) {
    AskPrincipal ask;
    SP_TRY(ask.user, read_text(in, kMaxNameBytes));
    SP_TRY(const ByteView certificate, in.prefixed32(credentials::kMaxSshCertificateBytes));
    ask.certificate = to_bytes(certificate);
    SP_CHECK(in.finish());
    return Ask{std::move(ask)};
  }
  if (tag != kAskSession) return Error{Code::kMalformed, "no question that a gate answers"};
  AskSession ask;
  SP_TRY(const ByteView certificate, in.prefixed32(credentials::kMaxSshCertificateBytes));
  ask.certificate = to_bytes(certificate);
  SP_TRY(ask.command, read_command(in));
  SP_TRY(ask.term, read_text(in, kMaxNameBytes));
  SP_TRY(ask.address, read_text(in, kMaxNameBytes));
  SP_TRY(ask.tty, read_flag(in));
  SP_TRY(ask.window, read_window(in));
  SP_CHECK(in.finish());
  return Ask{std::move(ask)};
}

Bytes encode(const Answer& answer) {
  Writer out;
  out.u8(static_cast<std::uint8_t>(answer.say)).u8(answer.status).prefixed32(answer.text);
  return std::move(out).take();
}

Result<Answer> parse_answer(ByteView frame) {
  Reader in{frame};
  Answer answer;
  SP_TRY(const std::uint8_t say, in.u8());
  if (say < static_cast<std::uint8_t>(Say::kPrincipal) || say > static_cast<std::uint8_t>(Say::kEnded))
    return Error{Code::kMalformed, "no answer of a gate"};
  answer.say = static_cast<Say>(say);
  SP_TRY(answer.status, in.u8());
  SP_TRY(answer.text, read_text(in, kMaxTextBytes));
  SP_CHECK(in.finish());
  return answer;
}

Bytes encode(const Window& window) {
  Writer out;
  out.u8(kWindow);
  put_window(out, window);
  return std::move(out).take();
}

Result<Window> parse_window(ByteView frame) {
  Reader in{frame};
  SP_CHECK(expect(in, kWindow));
  SP_TRY(const Window window, read_window(in));
  SP_CHECK(in.finish());
  return window;
}

Bytes encode(const KeeperOrder& order) {
  Writer out;
  out.u8(kOrder).prefixed32(order.account).prefixed32(order.shell);
  put_command(out, order.command);
  out.u8(order.login ? 1 : 0);
  out.prefixed32(order.term).prefixed32(order.case_hex).prefixed32(order.cgroup).u8(order.tty ? 1 : 0);
  put_window(out, order.window);
  out.u64(order.remaining_ms);
  return std::move(out).take();
}

Result<KeeperOrder> parse_keeper_order(ByteView frame) {
  Reader in{frame};
  SP_CHECK(expect(in, kOrder));
  KeeperOrder order;
  SP_TRY(order.account, read_text(in, kMaxNameBytes));
  SP_TRY(order.shell, read_text(in, kMaxPathBytes));
  SP_TRY(order.command, read_command(in));
  SP_TRY(order.login, read_flag(in));
  SP_TRY(order.term, read_text(in, kMaxNameBytes));
  SP_TRY(order.case_hex, read_text(in, kMaxNameBytes));
  SP_TRY(order.cgroup, read_text(in, kMaxPathBytes));
  SP_TRY(order.tty, read_flag(in));
  SP_TRY(order.window, read_window(in));
  SP_TRY(order.remaining_ms, in.u64());
  SP_CHECK(in.finish());
  return order;
}

Bytes encode(const KeeperReport& report) {
  Writer out;
  out.u8(kReport).u8(report.ended ? 1 : 0).u8(static_cast<std::uint8_t>(report.why)).u8(report.status);
  out.u64(report.bytes);
  return std::move(out).take();
}

Result<KeeperReport> parse_keeper_report(ByteView frame) {
  Reader in{frame};
  SP_CHECK(expect(in, kReport));
  KeeperReport report;
  SP_TRY(report.ended, read_flag(in));
  SP_TRY(const std::uint8_t why, in.u8());
  if (why > static_cast<std::uint8_t>(record::WhyClosed::kLost))
    return Error{Code::kMalformed, "no way for a session to end"};
  report.why = static_cast<record::WhyClosed>(why);
  SP_TRY(report.status, in.u8());
  SP_TRY(report.bytes, in.u64());
  SP_CHECK(in.finish());
  return report;
}

}  // namespace sallyport::gate

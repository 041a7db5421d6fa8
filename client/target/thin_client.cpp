#include "client/target/thin_client.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>

#include "attestation/base/base64.h"
#include "attestation/net/frames.h"
#include "broker/credentials/ssh_certificate.h"
#include "client/target/config.h"
#include "client/target/processes.h"
#include "client/target/protocol.h"

namespace sallyport::gate {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxUserAuthBytes = 256 * 1024;
constexpr milliseconds kConnectPatience{3'000};
constexpr milliseconds kPrincipalPatience{10'000};
constexpr milliseconds kRestartPatience{5'000};  // for a service that starts anew
constexpr int kTries = 3;                        // of a question that it left unanswered
constexpr int kNoSession = 255;  // as ssh itself says that there is none, or that it was cut off

Result<net::FrameChannel> connect(const std::filesystem::path& socket) {
  const auto until = steady_clock::now() + kRestartPatience;
  auto connected = net::connect_unix(socket, kConnectPatience);
  while (!connected && steady_clock::now() < until) {
    ::poll(nullptr, 0, 50);
    connected = net::connect_unix(socket, kConnectPatience);
  }
  SP_TRY(auto stream, std::move(connected));
  SP_TRY(const auto server, net::peer_credentials_of(*stream));
  if (server.uid != 0)
    return Error{Code::kUnverified, Reason::kPeer, "the service on " + socket.string() + " is not root's"};
  net::FrameLimits limits;
  limits.max_frame_bytes = kMaxGateFrameBytes;
  return net::FrameChannel{std::move(stream), limits};
}

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string{} : std::string{value};
}

Window window_of(int terminal) {
  winsize size{};
  if (::ioctl(terminal, TIOCGWINSZ, &size) != 0) return {};
  return {size.ws_row, size.ws_col};
}

Status send_files(int socket) {
  std::uint8_t byte = 0;
  iovec part{&byte, 1};
  const std::array<int, 3> files{STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(files))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(files));
  std::memcpy(CMSG_DATA(header), files.data(), sizeof(files));
  if (::sendmsg(socket, &message, MSG_NOSIGNAL) != 1)
    return Error{Code::kUnavailable, Reason::kPeer, "the files cannot be handed over"};
  return Done{};
}

// RawTerminal puts the terminal into raw mode, and back.
class RawTerminal {
 public:
  explicit RawTerminal(int fd) : fd_(fd) {
    if (::tcgetattr(fd_, &before_) != 0) return;
    termios raw = before_;
    ::cfmakeraw(&raw);
    changed_ = ::tcsetattr(fd_, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() {
    if (changed_) ::tcsetattr(fd_, TCSADRAIN, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  int fd_;
  termios before_{};
  bool changed_ = false;
};

Result<AskSession> make_ask() {
  AskSession ask;
  const std::string file = from_environment("SSH_USER_AUTH");
  if (file.empty())
    return Error{Code::kDenied,
                 "this account opens to granted sessions over SSH only (ExposeAuthInfo is off?)"};
  std::ifstream in{file, std::ios::binary};
  std::string text(kMaxUserAuthBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  SP_TRY(ask.certificate, parse_user_auth(text));
  if (const char* command = std::getenv("SSH_ORIGINAL_COMMAND"); command != nullptr) {
    ask.command = command;
    if (ask.command->size() > kMaxCommandBytes)
      return Error{Code::kMalformed, Reason::kUsage, "the command is longer than 128 KiB"};
  }
  ask.tty = ::isatty(STDIN_FILENO) == 1;
  if (ask.tty) ask.window = window_of(STDIN_FILENO);
  ask.term = from_environment("TERM").substr(0, 64);
  ask.address = parse_peer_address(from_environment("SSH_CONNECTION"));
  return ask;
}

// attend asks for a session and stays with it to its end. `handed_over`: from then on a command may have run,
// and the same is not asked again.
Result<int> attend(const std::filesystem::path& socket, const AskSession& ask, const Descriptor& signals,
                   bool& handed_over) {
  SP_TRY(net::FrameChannel channel, connect(socket));
  SP_CHECK(channel.send(encode(Ask{ask})));
  std::optional<RawTerminal> raw;
  for (;;) {
    std::array<pollfd, 2> polled{pollfd{channel.stream().poll_fd(), POLLIN, 0},
                                 pollfd{ask.tty ? signals.get() : -1, POLLIN, 0}};
    if (!channel.frame_buffered()) {
      if (::poll(polled.data(), polled.size(), -1) < 0) continue;
      if (polled[1].revents != 0) {
        signalfd_siginfo info{};
        while (::read(signals.get(), &info, sizeof(info)) == sizeof(info)) continue;
        SP_CHECK(channel.send(encode(window_of(STDERR_FILENO))));
      }
      if (polled[0].revents == 0) continue;
    }
    SP_TRY(const auto frame, channel.receive());
    if (!frame) return Error{Code::kUnavailable, Reason::kPeer, "the gate of this host has stopped"};
    SP_TRY(const Answer answer, parse_answer(*frame));
    switch (answer.say) {
      case Say::kSendFiles:
        handed_over = true;
        SP_CHECK(send_files(channel.stream().poll_fd()));
        break;
      case Say::kStarted:
        if (ask.tty) raw.emplace(STDERR_FILENO);
        // The session writes and reads from here on; what is left to us is one line at the end.
        ::close(STDIN_FILENO);
        ::close(STDOUT_FILENO);
        ::open("/dev/null", O_RDWR);
        ::open("/dev/null", O_RDWR);
        break;
      case Say::kEnded:
      case Say::kRefused:
        raw.reset();
        // The shell's prompt, or whatever it was writing, is left on a line of its own.
        if (!answer.text.empty())
          std::cerr << (ask.tty && answer.say == Say::kEnded ? "\r\n" : "") << "sallyport: " << answer.text
                    << std::endl;
        return answer.say == Say::kRefused ? kNoSession : static_cast<int>(answer.status);
      case Say::kPrincipal:
        return Error{Code::kMalformed, "an answer to another question"};
    }
  }
}

Result<int> session(const std::filesystem::path& socket) {
  SP_TRY(const AskSession ask, make_ask());
  sigset_t window_signal;
  sigemptyset(&window_signal);
  sigaddset(&window_signal, SIGWINCH);
  ::sigprocmask(SIG_BLOCK, &window_signal, nullptr);
  const Descriptor signals{::signalfd(-1, &window_signal, SFD_CLOEXEC | SFD_NONBLOCK)};
  for (int attempt = 1;; ++attempt) {
    bool handed_over = false;
    auto status = attend(socket, ask, signals, handed_over);
    if (status || handed_over || status.error().reason != Reason::kPeer || attempt == kTries) return status;
  }
}

Result<std::string> ask_principal(const std::filesystem::path& socket, const AskPrincipal& ask) {
  SP_TRY(net::FrameChannel channel, connect(socket));
  SP_CHECK(channel.send(encode(Ask{ask})));
  SP_TRY(const auto frame, channel.receive(kPrincipalPatience));
  if (!frame) return Error{Code::kUnavailable, Reason::kPeer, "the gate has stopped"};
  SP_TRY(Answer answer, parse_answer(*frame));
  if (answer.say != Say::kPrincipal)
    return Error{Code::kDenied, "the gate refuses this login; its log says why"};
  return std::move(answer.text);
}

Result<std::string> principal(const std::filesystem::path& socket, const std::string& user,
                              std::string_view certificate) {
  AskPrincipal ask;
  ask.user = user;
  SP_TRY(ask.certificate, parse_base64(certificate, credentials::kMaxSshCertificateBytes));
  for (int attempt = 1;; ++attempt) {
    auto answer = ask_principal(socket, ask);
    if (answer || answer.error().reason != Reason::kPeer || attempt == kTries) return answer;
  }
}

}  // namespace

Result<Bytes> parse_user_auth(std::string_view text) {
  constexpr std::string_view kMethod = "publickey ";
  if (text.size() > kMaxUserAuthBytes) return Error{Code::kMalformed, "longer than a certificate"};
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  const std::string prefix = std::string{kMethod} + std::string{credentials::kSshCertificateType} + " ";
  if (text.find('\n') != text.npos || text.substr(0, prefix.size()) != prefix)
    return Error{Code::kMalformed, "this login was not made with a granted certificate alone"};
  return parse_base64(text.substr(prefix.size()), credentials::kMaxSshCertificateBytes);
}

std::string parse_peer_address(std::string_view ssh_connection) {
  const std::string_view first = ssh_connection.substr(0, ssh_connection.find(' '));
  return first.size() > 64 ? std::string{} : std::string{first};
}

void close_to_others() {
  ::prctl(PR_SET_DUMPABLE, 0);
}

int run_principals(const std::filesystem::path& socket, const std::string& user,
                   std::string_view certificate) {
  const auto answer = principal(socket, user, certificate);
  if (!answer) {
    std::cerr << "sallyport-gate: " << answer.error().what << "\n";
    return 1;
  }
  std::cout << *answer << std::endl;
  return 0;
}

int run_session(const std::filesystem::path& socket) {
  ::signal(SIGPIPE, SIG_IGN);
  const auto status = session(socket);
  if (status) return *status;
  std::cerr << "sallyport: " << status.error().what << std::endl;
  return kNoSession;
}

}  // namespace sallyport::gate

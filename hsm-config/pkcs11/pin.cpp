#include "hsm-config/pkcs11/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cstring>

namespace sallyport::pkcs11 {

namespace {

Error bad_pin(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// One line, into memory that is wiped. Byte by byte, so that nothing behind the line is taken. With
// `waiting`, signals are let in with this mask while there is nothing to read, and end it.
Result<SecretBytes> read_line(int fd, const sigset_t* waiting = nullptr) {
  SecretBytes buffer{kMaxPinBytes};
  std::size_t size = 0;
  while (true) {
    if (waiting != nullptr) {
      pollfd input{fd, POLLIN, 0};
      if (::ppoll(&input, 1, nullptr, waiting) < 0) return bad_pin("interrupted while the PIN was asked for");
    }
    std::uint8_t byte = 0;
    const ssize_t got = ::read(fd, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return bad_pin(std::string{"cannot read the PIN: "} + std::strerror(errno));
    if (got == 0 || byte == '\n') break;
    if (size == kMaxPinBytes) return bad_pin("the PIN is longer than 255 bytes");
    buffer.expose()[size++] = byte;
    byte = 0;
  }
  if (size > 0 && buffer.expose()[size - 1] == '\r') --size;
  if (size == 0) return bad_pin("the PIN is empty");
  const auto used = std::as_const(buffer).expose().first(size);
  for (const std::uint8_t byte : used) {
    if (byte < 0x20 || byte == 0x7F) return bad_pin("the PIN has a control character in it");
  }
  return SecretBytes{used};
}

volatile sig_atomic_t caught_signal = 0;
void note_signal(int number) {
  caught_signal = number;
}

// While it lives, the terminal does not echo, and signals that would end or stop the process only interrupt
// the read.
class SilentTerminal {
 public:
  explicit SilentTerminal(int fd) : fd_(fd) {
    caught_signal = 0;
    struct sigaction action {};
    action.sa_handler = note_signal;
    sigemptyset(&action.sa_mask);
    sigset_t held;
    sigemptyset(&held);
    for (const int each : kSignals) sigaddset(&held, each);
    pthread_sigmask(SIG_BLOCK, &held, &mask_);
    waiting_ = mask_;
    for (const int each : kSignals) sigdelset(&waiting_, each);
    for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &before_[i]);
    if (tcgetattr(fd_, &settings_) != 0) return;
    termios silent = settings_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    silent.c_lflag |= static_cast<tcflag_t>(ICANON | ECHONL);
    ok_ = tcsetattr(fd_, TCSAFLUSH, &silent) == 0;
  }
  ~SilentTerminal() {
    if (ok_) tcsetattr(fd_, TCSAFLUSH, &settings_);
    for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
    if (caught_signal != 0) ::raise(caught_signal);
  }
  SilentTerminal(const SilentTerminal&) = delete;
  SilentTerminal& operator=(const SilentTerminal&) = delete;
  bool ok() const { return ok_; }
  const sigset_t& waiting() const { return waiting_; }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
  int fd_;
  sigset_t mask_, waiting_;
  termios settings_{};
  struct sigaction before_[std::size(kSignals)]{};
  bool ok_ = false;
};

}  // namespace

Result<SecretBytes> read_pin_fd(int fd) {
  if (fd < 0) return bad_pin("not a file descriptor");
  return read_line(fd);
}

Result<SecretBytes> read_pin_file(const std::filesystem::path& path) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
  if (file.get() < 0) return bad_pin(path.string() + ": " + std::strerror(errno));
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return bad_pin(path.string() + ": " + std::strerror(errno));
  if (!S_ISREG(about.st_mode)) return bad_pin(path.string() + ": is not a regular file");
  if ((about.st_mode & 077) != 0) return bad_pin(path.string() + ": others can read it; chmod 600");
  if (about.st_uid != ::geteuid() && about.st_uid != 0)
    return bad_pin(path.string() + ": belongs to another user");
  return read_line(file.get());
}

Result<SecretBytes> prompt_pin(const std::string& prompt) {
  const Fd terminal{::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)};
  if (terminal.get() < 0) {
    return bad_pin("there is no terminal to ask for the PIN; use --pin-fd or --pin-file");
  }
  const SilentTerminal silent{terminal.get()};
  if (!silent.ok()) return bad_pin("the terminal cannot be made silent");
  if (::write(terminal.get(), prompt.data(), prompt.size()) < 0)
    return bad_pin("cannot write to the terminal");
  return read_line(terminal.get(), &silent.waiting());
}

Result<SecretBytes> read_pin(const PinSource& source, const std::string& prompt) {
  if (source.fd && source.file)
    return bad_pin("a PIN comes from a file descriptor or from a file, not from both");
  if (source.fd) return read_pin_fd(*source.fd);
  if (source.file) return read_pin_file(*source.file);
  return prompt_pin(prompt);
}

}  // namespace sallyport::pkcs11

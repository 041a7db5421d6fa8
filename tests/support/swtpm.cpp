#include "tests/support/swtpm.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/tpm/command.h"

namespace sallyport::test {
namespace {

namespace fs = std::filesystem;
using tpm::Cc;
using tpm::Command;

constexpr std::chrono::seconds kPatience{20};

[[noreturn]] void give_up(const std::string& what) {
  ADD_FAILURE() << "swtpm: " << what;
  std::fprintf(stderr, "swtpm: %s\n", what.c_str());
  std::abort();
}

// The child dies with the thread that started it, has no files of ours, and writes to `log`.
pid_t spawn(const std::vector<std::string>& arguments, const fs::path& log) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) give_up("fork failed");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    const int null = open("/dev/null", O_RDONLY);
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    close_range(3, ~0U, 0);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  return pid;
}

void run_to_end(const std::vector<std::string>& arguments, const fs::path& log) {
  const pid_t pid = spawn(arguments, log);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    const Bytes said = read_file(log);
    give_up(arguments[0] + " failed: " + std::string{as_text(said)});
  }
}

int connect_to(const fs::path& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = path.string();
  if (fd < 0 || text.size() >= sizeof address.sun_path) give_up("socket path too long: " + text);
  text.copy(address.sun_path, text.size());
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

// Calls `step` until it gives true; waits a little between two calls, for a process to come up.
void poll_until(const std::function<bool()>& step, const std::string& what) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!step()) {
    if (std::chrono::steady_clock::now() > deadline) give_up(what);
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
}

tpm::Response run(TemporarySwtpm& swtpm, const Command& command) {
  return value_of(tpm::parse_response(command, swtpm.command(tpm::encode(command))));
}

void startup(TemporarySwtpm& swtpm, std::uint16_t type) {
  Command command{Cc::kStartup};
  command.parameters.u16(type);
  run(swtpm, command);
}
constexpr std::uint16_t kClear = 0, kState = 1;

}  // namespace

const TestVendor& test_vendor() {
  static const TestVendor vendor;
  return vendor;
}

TemporarySwtpm::TemporarySwtpm(Ek ek, const TestVendor& vendor) : socket_(directory_ / "s") {
  fs::create_directory(directory_ / "state");
  if (ek == Ek::kManufactured) {
    manufacture();
    start();
    return;
  }
  start();
  vendor_root_ = vendor.root().der();
  intermediates_ = {vendor.intermediate().der()};
  const auto& forms = evidence::ek_templates();
  switch (ek) {
    case Ek::kP256:
      install_certificate(forms.at(1), 0x01C0000A, vendor);
      break;
    case Ek::kP384:
      install_certificate(forms.at(4), 0x01C00016, vendor);
      break;
    case Ek::kRsa2048:
      install_certificate(forms.at(0), 0x01C00002, vendor);
      break;
    case Ek::kManufactured:
      break;
  }
}

TemporarySwtpm::~TemporarySwtpm() {
  stop();
}

tpm::Tpm TemporarySwtpm::open() const {
  return value_of(tpm::Tpm::open(tcti()));
}

void TemporarySwtpm::start() {
  const std::string socket = socket_.string();
  std::error_code ignored;
  fs::remove(socket_, ignored);
  fs::remove(socket + ".ctrl", ignored);
  pid_ = spawn({"swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + (directory_ / "state").string(),
                "--server", "type=unixio,path=" + socket, "--ctrl", "type=unixio,path=" + socket + ".ctrl",
                "--locality", "allow-set-locality", "--flags", "not-need-init,startup-clear"},
               directory_ / "log");
  poll_until(
      [&] {
        if (waitpid(pid_, nullptr, WNOHANG) == pid_)
          give_up("did not start: " + std::string{as_text(read_file(directory_ / "log"))});
        // It serves once it has answered: the sockets are there before it listens.
        const auto transport = tpm::open_tcti(tcti());
        return transport.has_value() &&
               (*transport)->exchange(tpm::encode(Command{Cc::kReadClock})).has_value();
      },
      "did not come up");
}

void TemporarySwtpm::stop() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

// One command of swtpm's control channel that takes 32 bits and gives a result (swtpm's tpm_ioctl.h).
void TemporarySwtpm::control(std::uint32_t code, std::uint32_t argument) {
  const int fd = connect_to(socket_.string() + ".ctrl");
  if (fd < 0) give_up("no control channel");
  const Bytes request = Writer{}.u32(code).u32(argument).bytes();
  ByteArray<4> result{1};
  std::size_t got = 0;
  if (write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    while (got < result.size()) {
      pollfd ready{fd, POLLIN, 0};
      if (poll(&ready, 1, 10'000) != 1) break;
      const ssize_t n = read(fd, result.data() + got, result.size() - got);
      if (n <= 0) break;
      got += static_cast<std::size_t>(n);
    }
  }
  close(fd);
  if (got != result.size() || result != ByteArray<4>{}) give_up("control command refused");
}

Bytes TemporarySwtpm::command(ByteView bytes) {
  const auto transport = value_of(tpm::open_tcti(tcti()));
  return value_of(transport->exchange(bytes));
}

void TemporarySwtpm::reboot() {
  constexpr std::uint32_t kInit = 2;
  control(kInit);
  startup(*this, kClear);
}

void TemporarySwtpm::reboot_at(std::uint8_t locality) {
  constexpr std::uint32_t kInit = 2, kSetLocality = 5;
  control(kInit);
  // The locality is the first octet of the argument. The command goes to the socket itself: the TCTI sets
  // locality 0 when it is opened.
  control(kSetLocality, std::uint32_t{locality} << 24);
  Command command{Cc::kStartup};
  command.parameters.u16(kClear);
  const Bytes request = tpm::encode(command);
  Bytes response(10);
  const int fd = connect_to(socket_);
  if (fd < 0 || write(fd, request.data(), request.size()) != static_cast<ssize_t>(request.size()) ||
      recv(fd, response.data(), response.size(), MSG_WAITALL) != static_cast<ssize_t>(response.size()))
    give_up("no start at another locality");
  close(fd);
  value_of(tpm::parse_response(command, response));
  control(kSetLocality, 0);
}

void TemporarySwtpm::power_cut() {
  stop();
  start();
}

void TemporarySwtpm::suspend() {
  constexpr std::uint32_t kInit = 2;
  Command shutdown{Cc::kShutdown};
  shutdown.parameters.u16(kState);
  run(*this, shutdown);
  control(kInit);
  startup(*this, kState);
}

void TemporarySwtpm::extend_pcr(unsigned index, const Digest256& digest) {
  Command command{Cc::kPcrExtend};
  command.handle(index).authorize();
  command.parameters.u32(1).u16(tpm::kAlgSha256).raw(view(digest));
  run(*this, command);
}

void TemporarySwtpm::clear() {
  Command command{Cc::kClear};
  command.handle(tpm::kPlatform).authorize();
  run(*this, command);
}

void TemporarySwtpm::install_certificate(const evidence::PublicTemplate& form, std::uint32_t index,
                                         const TestVendor& vendor) {
  Command create{Cc::kCreatePrimary};
  create.handle(tpm::kEndorsement).authorize().returns_handle();
  create.parameters.prefixed16(Writer{}.u16(0).u16(0).bytes())
      .prefixed16(evidence::encode_for_create_ek(form))
      .u16(0)
      .u32(0);
  const tpm::Response made = run(*this, create);
  Reader in{made.parameters};
  const auto area = value_of(evidence::parse_public_area(value_of(in.prefixed16(4096))));
  Command flush{Cc::kFlushContext};
  flush.parameters.u32(made.handle);
  run(*this, flush);

  const Bytes certificate = vendor.issue_ek(area.key);
  // PPWRITE | PPREAD | OWNERREAD | AUTHREAD | NO_DA | PLATFORMCREATE
  constexpr std::uint32_t kAttributes = 0x42070001;
  Command define{Cc::kNvDefineSpace};
  define.handle(tpm::kPlatform).authorize();
  const auto size = static_cast<std::uint16_t>(certificate.size());
  define.parameters.u16(0).prefixed16(
      Writer{}.u32(index).u16(tpm::kAlgSha256).u32(kAttributes).u16(0).u16(size).bytes());
  run(*this, define);
  for (std::size_t offset = 0; offset < certificate.size(); offset += 512) {
    Command write{Cc::kNvWrite};
    write.handle(tpm::kPlatform).handle(index).authorize();
    const std::size_t chunk = std::min<std::size_t>(512, certificate.size() - offset);
    write.parameters.prefixed16(ByteView{certificate}.subspan(offset, chunk))
        .u16(static_cast<std::uint16_t>(offset));
    run(*this, write);
  }
}

void TemporarySwtpm::manufacture() {
  // A CA of its own, so that nothing is written under /var/lib; the templates are those of the quickstart.
  const fs::path ca = directory_ / "ca";
  fs::create_directory(ca);
  const auto fill = [&](std::string_view name) {
    const Bytes form = read_file(fs::path{"hsm-config/profiles/swtpm"} / (std::string{name} + ".in"));
    std::string text{as_text(form)};
    for (std::size_t at; (at = text.find("@DIR@")) != std::string::npos;)
      text.replace(at, 5, directory_.path().string());
    const fs::path out = directory_ / name;
    std::ofstream{out} << text;
    return out.string();
  };
  fill("swtpm-localca.conf");
  fill("swtpm-localca.options");
  const std::string setup = fill("swtpm_setup.conf");
  run_to_end(
      {"swtpm_setup", "--tpm2", "--tpmstate", "dir://" + (directory_ / "state").string(), "--config", setup,
       "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--pcr-banks", "sha256", "--overwrite"},
      directory_ / "setup.log");
  vendor_root_ =
      value_of(crypto::parse_pem_bundle(read_file(ca / "swtpm-localca-rootca-cert.pem"))).at(0).der();
  intermediates_ = {value_of(crypto::parse_pem_bundle(read_file(ca / "issuercert.pem"))).at(0).der()};
}

}  // namespace sallyport::test

// Preloaded into a program under test, it leaves it without a free local port while the file exists that
// SALLYPORT_TEST_NO_PORTS names: what connects over IP fails as it does when tens of thousands of connections
// are in TIME_WAIT.
#include <cerrno>
#include <cstdlib>

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" int connect(int fd, const struct sockaddr* to, socklen_t size) {
  const char* const file = std::getenv("SALLYPORT_TEST_NO_PORTS");
  if (to != nullptr && (to->sa_family == AF_INET || to->sa_family == AF_INET6) && file != nullptr &&
      ::access(file, F_OK) == 0) {
    errno = EADDRNOTAVAIL;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_connect, fd, to, size));
}

// An attacker's library: whatever the loader loads it into, it says so in a file before main.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>

namespace {

[[gnu::constructor]] void loaded() {
  char name[17] = {};
  ::prctl(PR_GET_NAME, name);
  const int file = ::open(SALLYPORT_PRELOADED_FILE, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) return;
  ::dprintf(file, "loaded into %s\n", name);
  ::close(file);
}

}  // namespace

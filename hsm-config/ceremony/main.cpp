// sallyport-hsm: key ceremony, checks and listing. See README.md.
#include <openssl/crypto.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cstdio>
#include <exception>
#include <iostream>

#include "hsm-config/ceremony/ceremony.h"

int main(int argc, char** argv) {
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0 ||
      CRYPTO_secure_malloc_init(65536, 32) != 1) {
    std::cerr << "sallyport-hsm: memory for PINs cannot be protected (see ulimit -l)\n";
    return 1;
  }
  signal(SIGPIPE, SIG_IGN);
  try {
    return sallyport::ceremony::run({argv + 1, argv + argc}, std::cout, std::cerr);
  } catch (const std::exception& e) {
    std::cerr << "sallyport-hsm: " << e.what() << '\n';
    return 1;
  }
}

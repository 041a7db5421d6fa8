// sallyport-hsm: key ceremony, checks and listing. See README.md.
#include <exception>
#include <iostream>

#include "attestation/program/process.h"
#include "hsm-config/ceremony/ceremony.h"

int main(int argc, char** argv) {
  if (!sallyport::program::harden().all()) {
    std::cerr << "sallyport-hsm: memory for PINs cannot be protected (see ulimit -l)\n";
    return 1;
  }
  sallyport::program::ignore_broken_pipes();
  try {
    return sallyport::ceremony::run({argv + 1, argv + argc}, std::cout, std::cerr);
  } catch (const std::exception& e) {
    std::cerr << "sallyport-hsm: " << e.what() << '\n';
    return 1;
  }
}

// sallyport-hsm: key ceremony, checks and listing. See README.md.
#include <exception>
#include <iostream>

#include "attestation/program/command_line.h"
#include "attestation/program/process.h"
#include "hsm-config/ceremony/ceremony.h"

int main(int argc, char** argv) {
  if (const auto hardened = sallyport::program::harden(); !hardened.has_value())
    return sallyport::program::tell_error("sallyport-hsm", hardened.error());
  sallyport::program::ignore_broken_pipes();
  try {
    return sallyport::ceremony::run({argv + 1, argv + argc}, std::cout, std::cerr);
  } catch (const std::exception& e) {
    std::cerr << "sallyport-hsm: " << e.what() << '\n';
    return 1;
  }
}

#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace sallyport::ceremony {

// run is `sallyport-hsm` without its process: `arguments` without argv[0], results to `out`, progress and
// errors to `err`. Gives the exit code of README.md (0 ok, 2 usage, 9 HSM, 10 token …). PINs are read from
// where the arguments say, or from /dev/tty.
int run(const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err);

}  // namespace sallyport::ceremony

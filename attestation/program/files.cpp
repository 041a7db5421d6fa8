#include "attestation/program/files.h"

#include <fstream>
#include <iterator>

namespace sallyport::program {

Result<Bytes> read_whole(const std::filesystem::path& file, std::string otherwise) {
  std::ifstream in{file, std::ios::binary};
  if (!in)
    return Error{Code::kMalformed, Reason::kUsage,
                 otherwise.empty() ? "cannot open " + file.string() : std::move(otherwise)};
  return Bytes{std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
}

Status write_port_file(const std::filesystem::path& file, std::uint16_t port) {
  const std::filesystem::path fresh = file.string() + ".new";
  std::ofstream out{fresh, std::ios::trunc};
  out << port << '\n';
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(fresh, file, error);
  if (!out || error) return Error{Code::kUnavailable, Reason::kStorage, "cannot write " + file.string()};
  return Done{};
}

}  // namespace sallyport::program

// Target and parse_number: a path holds no query, and a number that was read is in the target as it was,
// alone after its name, and is read again from its own digits.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "broker/http/target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const std::string text{reinterpret_cast<const char*>(data), size};
  const http::Target target{text};
  if (target.path().find('?') != std::string_view::npos || !text.starts_with(target.path())) std::abort();
  for (const std::string name : {"from", "wait", "after"}) {
    const auto number = target.number(name);
    const auto at = text.find('?');
    const std::string query = at == text.npos ? "" : "&" + text.substr(at + 1) + "&";
    const auto named = query.find("&" + name + "=");
    if (!number.has_value()) {
      if (named == query.npos || number.error().code != Code::kMalformed) std::abort();
      continue;
    }
    if (number->has_value() != (named != query.npos)) std::abort();
    if (!number->has_value()) continue;
    const auto begin = named + name.size() + 2;
    std::string digits = query.substr(begin, query.find('&', begin) - begin);
    const auto significant = digits.find_first_not_of('0');
    digits.erase(0, significant == digits.npos ? digits.size() - 1 : significant);
    if (digits != std::to_string(**number)) std::abort();
    const auto again = http::parse_number(digits, name);
    if (!again.has_value() || *again != **number) std::abort();
  }
  return 0;
}

#include "broker/http/target.h"

#include <algorithm>
#include <charconv>
#include <string>

namespace sallyport::http {

Result<std::uint64_t> parse_number(std::string_view digits, std::string_view what) {
  std::uint64_t value = 0;
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failed != std::errc{} || end != digits.data() + digits.size())
    return Error{Code::kMalformed, std::string{what} + " is not a number"};
  return value;
}

Target::Target(std::string_view whole) : path_(whole.substr(0, whole.find('?'))) {
  if (path_.size() < whole.size()) query_ = whole.substr(path_.size() + 1);
}

Result<std::optional<std::uint64_t>> Target::number(std::string_view name) const {
  std::string_view rest = query_;
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    if (!pair.starts_with(name) || pair.size() <= name.size() || pair[name.size()] != '=') continue;
    SP_TRY(const std::uint64_t value,
           parse_number(pair.substr(name.size() + 1), "the parameter " + std::string{name}));
    return std::optional{value};
  }
  return std::optional<std::uint64_t>{};
}

Result<std::uint64_t> Target::number_or(std::string_view name, std::uint64_t otherwise) const {
  SP_TRY(const auto value, number(name));
  return value.value_or(otherwise);
}

}  // namespace sallyport::http

#pragma once

#include <utility>
#include <variant>

#include "attestation/base/error.h"

namespace sallyport {

// Result<T> holds a T or an Error. It is shaped like std::expected, so that C++23 is a rename; reading the side that is not
// there stops the process, and ignoring one does not compile without a warning.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  template <class U>
    requires(!std::is_same_v<std::remove_cvref_t<U>, Result> && !std::is_same_v<std::remove_cvref_t<U>, T> &&
             !std::is_same_v<std::remove_cvref_t<U>, Error> && std::is_convertible_v<U, T>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  T& value() & {
    SP_ASSERT(has_value());
    return std::get<0>(state_);
  }
  const T& value() const& {
    SP_ASSERT(has_value());
    return std::get<0>(state_);
  }
  T&& value() && {
    SP_ASSERT(has_value());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    SP_ASSERT(!has_value());
    return std::get<1>(state_);
  }
  Error&& error() && {
    SP_ASSERT(!has_value());
    return std::get<1>(std::move(state_));
  }

 private:
  std::variant<T, Error> state_;
};

// Done is the value of an operation that has none.
struct Done {};
using Status = Result<Done>;

}  // namespace sallyport

#define SP_CONCAT_(a, b) a##b
#define SP_CONCAT(a, b) SP_CONCAT_(a, b)

// SP_TRY(const auto x, f()); declares x, or hands the error up unchanged.
#define SP_TRY(declaration, expression) SP_TRY_(SP_CONCAT(sp_result_, __LINE__), declaration, expression)
#define SP_TRY_(result, declaration, expression)                        \
  auto result = (expression);                                           \
  if (!result.has_value()) return std::move(result).error();            \
  declaration = std::move(result).value()

// SP_CHECK(f()); the same, for a Status.
#define SP_CHECK(expression)                                                                       \
  do {                                                                                             \
    if (auto sp_status = (expression); !sp_status.has_value()) return std::move(sp_status).error(); \
  } while (false)

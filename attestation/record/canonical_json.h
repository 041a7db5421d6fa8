#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/hex.h"
#include "attestation/base/result.h"

// The canonical JSON of statements. One value has exactly one byte string:
//   - objects: names sorted bytewise (as UTF-8), each once; no white space anywhere, nothing after the value;
//   - integers from 0 to 2^53 in decimal without sign, leading zero, fraction or exponent; no other numbers;
//   - strings in valid UTF-8; `"` and `\` are written \" and \\, bytes below 0x20 as \u00xx in lower case,
//   nothing else is escaped;
//   - true and false; there is no null;
//   - at most kMaxDepth arrays and objects within each other.

namespace sallyport::record::json {

inline constexpr std::uint64_t kMaxInteger = std::uint64_t{1} << 53;
inline constexpr std::size_t kMaxDepth = 8;

struct Member;

// Value is a tree of what canonical JSON can say.
class Value {
 public:
  using Array = std::vector<Value>;
  using Object = std::vector<Member>;  // names ascending, each once

  Value(std::string text);
  Value(std::string_view text);
  Value(const char* text);
  Value(std::uint64_t number);
  Value(Array items);
  explicit Value(bool truth);
  Value(int) = delete;  // say std::uint64_t
  Value(const void*) = delete;
  Value(const Value&);
  Value(Value&&) noexcept;
  Value& operator=(const Value&);
  Value& operator=(Value&&) noexcept;
  ~Value();

  // object sorts its members; a name given twice is our own mistake and stops the process.
  static Value object(std::vector<Member> members);

  // The as_ functions give a null pointer when the value is of another kind.
  const std::string* as_string() const;
  const std::uint64_t* as_integer() const;
  const bool* as_bool() const;
  const Array* as_array() const;
  const Object* as_object() const;

 private:
  friend class TreeBuilder;
  explicit Value(Object members);
  std::variant<std::string, std::uint64_t, bool, Array, Object> is_;
};

struct Member {
  std::string name;
  Value value;
};

// parse_canonical turns bytes into a tree.
//   Proves:         `bytes` is the one canonical form of the value: encode_canonical(value) == bytes.
//   Does not prove: anything of what it says.
//   Errors:         kMalformed, with the position of the first byte that is not canonical where it is known.
//   Pure; time and memory are proportional to bytes.size(), which is at most `max_bytes`.
Result<Value> parse_canonical(ByteView bytes, std::size_t max_bytes);

// encode_canonical writes the one form. It does not judge: a string that is not UTF-8, or a number above
// 2^53, gives bytes that parse_canonical refuses. The encoders of statements parse what they wrote before
// they hand it out.
Bytes encode_canonical(const Value& value);

// Fields reads the members of one object, each exactly once; finish() refuses those that nobody asked for.
// All errors are kMalformed and name the field. The value it reads must outlive it.
class Fields {
 public:
  // of: `where` is said before the field in errors, as in "request.device".
  static Result<Fields> of(const Value& value, std::string where);

  bool has(std::string_view name) const;  // does not count as reading; for fields that may be absent

  Result<const Value*> value(std::string_view name);
  // A string of min_bytes to max_bytes.
  Result<std::string> text(std::string_view name, std::size_t max_bytes, std::size_t min_bytes = 1);
  Result<std::uint64_t> integer(std::string_view name, std::uint64_t max = kMaxInteger,
                                std::uint64_t min = 0);
  Result<bool> boolean(std::string_view name);
  Result<const Value::Array*> array(std::string_view name, std::size_t max_items, std::size_t min_items = 0);
  Result<Fields> object(std::string_view name);

  // Bytes as lower-case hexadecimal of exactly N bytes, or as canonical base64.
  template <std::size_t N>
  Result<ByteArray<N>> hex(std::string_view name) {
    SP_TRY(const std::string digits, text(name, 2 * N, 2 * N));
    auto bytes = parse_hex_array<N>(digits);
    if (!bytes.has_value()) return wrong(name, "not lower-case hexadecimal");
    return bytes;
  }
  Result<Digest256> digest(std::string_view name) {
    SP_TRY(const auto bytes, hex<32>(name));
    return Digest256{bytes};
  }
  Result<Bytes> base64(std::string_view name, std::size_t max_bytes, std::size_t min_bytes = 1);

  // wrong makes the error of a field of this object.
  Error wrong(std::string_view name, std::string_view what) const;
  Status finish() const;

 private:
  Fields(const Value::Object& members, std::string where)
      : members_(&members), read_(members.size(), false), where_(std::move(where)) {}
  const Value::Object* members_;
  std::vector<bool> read_;
  std::string where_;
};

}  // namespace sallyport::record::json

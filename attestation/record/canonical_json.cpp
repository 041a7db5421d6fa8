#include "attestation/record/canonical_json.h"

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>

#include "attestation/base/base64.h"

namespace sallyport::record::json {

namespace bj = boost::json;

// Out of the header because Member is complete only here.
Value::Value(std::string text) : is_(std::move(text)) {}
Value::Value(std::string_view text) : is_(std::string{text}) {}
Value::Value(const char* text) : is_(std::string{text}) {}
Value::Value(std::uint64_t number) : is_(number) {}
Value::Value(Array items) : is_(std::move(items)) {}
Value::Value(bool truth) : is_(truth) {}
Value::Value(Object members) : is_(std::move(members)) {}
Value::Value(const Value&) = default;
Value::Value(Value&&) noexcept = default;
Value& Value::operator=(const Value&) = default;
Value& Value::operator=(Value&&) noexcept = default;
Value::~Value() = default;
const std::string* Value::as_string() const {
  return std::get_if<std::string>(&is_);
}
const std::uint64_t* Value::as_integer() const {
  return std::get_if<std::uint64_t>(&is_);
}
const bool* Value::as_bool() const {
  return std::get_if<bool>(&is_);
}
const Value::Array* Value::as_array() const {
  return std::get_if<Array>(&is_);
}
const Value::Object* Value::as_object() const {
  return std::get_if<Object>(&is_);
}

// TreeBuilder is the handler of Boost.JSON's basic_parser. boost::json::parse is not used: it keeps the last
// of two members of the same name without a word.
class TreeBuilder {
 public:
  // The limits that basic_parser asks for; the real one is the size of the input.
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

  bool on_document_begin(bj::error_code&) { return true; }
  bool on_document_end(bj::error_code&) { return true; }
  bool on_object_begin(bj::error_code&) {
    open_.push_back({Value{Value::Object{}}, {}});
    return true;
  }
  bool on_object_end(std::size_t, bj::error_code& ec) { return close(ec); }
  bool on_array_begin(bj::error_code&) {
    open_.push_back({Value{Value::Array{}}, {}});
    return true;
  }
  bool on_array_end(std::size_t, bj::error_code& ec) { return close(ec); }
  bool on_key_part(bj::string_view part, std::size_t, bj::error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_key(bj::string_view part, std::size_t, bj::error_code& ec) {
    text_.append(part.data(), part.size());
    const auto& members = std::get<Value::Object>(open_.back().value.is_);
    // std::string compares as unsigned bytes, like memcmp.
    if (!members.empty() && members.back().name == text_) return refuse(ec, "a name occurs twice");
    if (!members.empty() && members.back().name > text_) return refuse(ec, "names are not sorted");
    open_.back().name = std::exchange(text_, {});
    return true;
  }
  bool on_string_part(bj::string_view part, std::size_t, bj::error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_string(bj::string_view part, std::size_t, bj::error_code&) {
    text_.append(part.data(), part.size());
    put(Value{std::exchange(text_, {})});
    return true;
  }
  bool on_number_part(bj::string_view, bj::error_code&) { return true; }
  bool on_int64(std::int64_t number, bj::string_view, bj::error_code& ec) {
    if (number < 0) return refuse(ec, "a negative number");
    return on_uint64(static_cast<std::uint64_t>(number), {}, ec);
  }
  bool on_uint64(std::uint64_t number, bj::string_view, bj::error_code& ec) {
    if (number > kMaxInteger) return refuse(ec, "a number above 2^53");
    put(Value{number});
    return true;
  }
  bool on_double(double, bj::string_view, bj::error_code& ec) {
    return refuse(ec, "a number that is no integer");
  }
  bool on_bool(bool truth, bj::error_code&) {
    put(Value{truth});
    return true;
  }
  bool on_null(bj::error_code& ec) { return refuse(ec, "null"); }
  bool on_comment_part(bj::string_view, bj::error_code& ec) { return refuse(ec, "a comment"); }
  bool on_comment(bj::string_view, bj::error_code& ec) { return refuse(ec, "a comment"); }

  const std::string& refusal() const { return refusal_; }
  std::optional<Value>& root() { return root_; }

 private:
  struct Open {
    Value value;       // an array or object that is not yet complete
    std::string name;  // of the member whose value comes next
  };
  void put(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    Open& parent = open_.back();
    if (auto* items = std::get_if<Value::Array>(&parent.value.is_))
      items->push_back(std::move(value));
    else
      std::get<Value::Object>(parent.value.is_).push_back({std::move(parent.name), std::move(value)});
  }
  bool close(bj::error_code&) {
    Value done = std::move(open_.back().value);
    open_.pop_back();
    put(std::move(done));
    return true;
  }
  bool refuse(bj::error_code& ec, std::string why) {
    refusal_ = std::move(why);
    ec = bj::make_error_code(bj::error::syntax);
    return false;
  }

  std::vector<Open> open_;
  std::string text_;
  std::string refusal_;
  std::optional<Value> root_;
};

namespace {

void encode_string(const std::string& text, Bytes& out) {
  constexpr char kDigits[] = "0123456789abcdef";
  out.push_back('"');
  for (const char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte == '"' || byte == '\\') {
      out.push_back('\\');
      out.push_back(byte);
    } else if (byte < 0x20) {
      const char escaped[] = {'\\', 'u', '0', '0', kDigits[byte >> 4], kDigits[byte & 15]};
      out.insert(out.end(), std::begin(escaped), std::end(escaped));
    } else {
      out.push_back(byte);
    }
  }
  out.push_back('"');
}

void append(Bytes& out, std::string_view text) {
  out.insert(out.end(), text.begin(), text.end());
}

void encode(const Value& value, Bytes& out) {
  if (const auto* text = value.as_string()) return encode_string(*text, out);
  if (const auto* number = value.as_integer()) return append(out, std::to_string(*number));
  if (const auto* truth = value.as_bool()) return append(out, *truth ? "true" : "false");
  if (const auto* items = value.as_array()) {
    out.push_back('[');
    bool first = true;
    for (const Value& item : *items) {
      if (!std::exchange(first, false)) out.push_back(',');
      encode(item, out);
    }
    out.push_back(']');
    return;
  }
  out.push_back('{');
  bool first = true;
  for (const Member& member : *value.as_object()) {
    if (!std::exchange(first, false)) out.push_back(',');
    encode_string(member.name, out);
    out.push_back(':');
    encode(member.value, out);
  }
  out.push_back('}');
}

Error not_canonical(std::string_view why, std::size_t position) {
  return Error{Code::kMalformed,
               "not canonical JSON: " + std::string{why} + " near byte " + std::to_string(position)};
}

}  // namespace

Value Value::object(std::vector<Member> members) {
  std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < members.size(); ++i) SP_ASSERT(members[i - 1].name != members[i].name);
  return Value{std::move(members)};
}

Bytes encode_canonical(const Value& value) {
  Bytes out;
  encode(value, out);
  return out;
}

Result<Value> parse_canonical(ByteView bytes, std::size_t max_bytes) {
  if (bytes.size() > max_bytes) return Error{Code::kMalformed, "JSON longer than its cap"};
  bj::parse_options options;
  options.max_depth = kMaxDepth;
  options.allow_comments = false;
  options.allow_trailing_commas = false;
  options.allow_invalid_utf8 = false;
  bj::basic_parser<TreeBuilder> parser{options};
  bj::error_code ec;
  const std::size_t used =
      parser.write_some(false, reinterpret_cast<const char*>(bytes.data()), bytes.size(), ec);
  if (ec) {
    const std::string& refusal = parser.handler().refusal();
    return not_canonical(refusal.empty() ? ec.message() : refusal, used);
  }
  if (used != bytes.size()) return not_canonical("trailing bytes", used);
  if (!parser.done() || !parser.handler().root().has_value()) return not_canonical("incomplete", used);
  Value value = *std::move(parser.handler().root());
  // The parser accepts white space, other escapes and other spellings of numbers; comparing with the one form
  // refuses them all.
  const Bytes one_form = encode_canonical(value);
  if (!equal(one_form, bytes)) {
    const auto differ = std::mismatch(one_form.begin(), one_form.end(), bytes.begin(), bytes.end());
    return not_canonical("another spelling", static_cast<std::size_t>(differ.second - bytes.begin()));
  }
  return value;
}

Result<Fields> Fields::of(const Value& value, std::string where) {
  const auto* members = value.as_object();
  if (members == nullptr) return Error{Code::kMalformed, where + ": not an object"};
  return Fields{*members, std::move(where)};
}

Error Fields::wrong(std::string_view name, std::string_view what) const {
  return Error{Code::kMalformed, where_ + "." + std::string{name} + ": " + std::string{what}};
}

bool Fields::has(std::string_view name) const {
  return std::any_of(members_->begin(), members_->end(), [&](const Member& m) { return m.name == name; });
}

Result<const Value*> Fields::value(std::string_view name) {
  for (std::size_t i = 0; i < members_->size(); ++i) {
    if ((*members_)[i].name != name) continue;
    SP_ASSERT(!read_[i]);
    read_[i] = true;
    return &(*members_)[i].value;
  }
  return wrong(name, "missing");
}

Result<std::string> Fields::text(std::string_view name, std::size_t max_bytes, std::size_t min_bytes) {
  SP_TRY(const Value* found, value(name));
  const auto* text = found->as_string();
  if (text == nullptr) return wrong(name, "not a string");
  if (text->size() > max_bytes) return wrong(name, "longer than " + std::to_string(max_bytes) + " bytes");
  if (text->size() < min_bytes) return wrong(name, text->empty() ? "empty" : "too short");
  return *text;
}

Result<std::uint64_t> Fields::integer(std::string_view name, std::uint64_t max, std::uint64_t min) {
  SP_TRY(const Value* found, value(name));
  const auto* number = found->as_integer();
  if (number == nullptr) return wrong(name, "not an integer");
  if (*number > max || *number < min) return wrong(name, "out of range");
  return *number;
}

Result<bool> Fields::boolean(std::string_view name) {
  SP_TRY(const Value* found, value(name));
  const auto* truth = found->as_bool();
  if (truth == nullptr) return wrong(name, "neither true nor false");
  return *truth;
}

Result<const Value::Array*> Fields::array(std::string_view name, std::size_t max_items,
                                          std::size_t min_items) {
  SP_TRY(const Value* found, value(name));
  const auto* items = found->as_array();
  if (items == nullptr) return wrong(name, "not an array");
  if (items->size() > max_items) return wrong(name, "too many items");
  if (items->size() < min_items) return wrong(name, "too few items");
  return items;
}

Result<Fields> Fields::object(std::string_view name) {
  SP_TRY(const Value* found, value(name));
  return of(*found, where_ + "." + std::string{name});
}

Result<Bytes> Fields::base64(std::string_view name, std::size_t max_bytes, std::size_t min_bytes) {
  SP_TRY(const std::string spelled, text(name, (max_bytes + 2) / 3 * 4, 0));
  auto bytes = parse_base64(spelled, max_bytes);
  if (!bytes.has_value()) return wrong(name, "not canonical base64, or too long");
  if (bytes->size() < min_bytes) return wrong(name, "too short");
  return bytes;
}

Status Fields::finish() const {
  for (std::size_t i = 0; i < members_->size(); ++i)
    if (!read_[i]) return wrong((*members_)[i].name, "unknown field");
  return Done{};
}

}  // namespace sallyport::record::json

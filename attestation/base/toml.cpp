#include "attestation/base/toml.h"

#include <algorithm>

namespace sallyport {
namespace {

constexpr unsigned kMaxDepth = 8;
constexpr std::size_t kMaxKeyParts = 8;
constexpr std::size_t kMaxKeyBytes = 64;
constexpr std::size_t kMaxFields = 64;
constexpr std::size_t kMaxNodes = std::size_t{1} << 18;
constexpr std::size_t kMaxDigits = 18;

using Kind = TomlNode::Kind;
using Made = TomlNode::Made;
using Key = std::vector<std::string>;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_bare(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}

TomlNode* find(TomlNode& table, std::string_view key) {
  for (TomlField& field : table.fields)
    if (field.key == key) return &field.value;
  return nullptr;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : rest_(text) {}

  Result<TomlNode> document() {
    SP_CHECK(check_characters());
    TomlNode root;
    root.made = Made::kByHeader;
    root.line = 1;
    // The table that keys go to. Only headers move it, and only headers let an array of tables grow, so it
    // stays valid.
    TomlNode* current = &root;
    while (true) {
      skip_lines();
      if (rest_.empty()) return root;
      if (at('[')) {
        SP_TRY(current, header(root));
      } else {
        SP_CHECK(key_value(*current, 1));
      }
      skip_space();
      if (at('#')) skip_comment();
      if (!rest_.empty() && !at('\n')) return error("something follows on the line");
    }
  }

 private:
  Error error(const std::string& what) const {
    return Error{Code::kMalformed, "line " + std::to_string(line_) + ": " + what};
  }

  Status check_characters() {
    for (const char c : rest_) {
      if ((c < 0x20 && c != '\n' && c != '\t') || c > 0x7E)
        return error("only printable ASCII, line feeds and tabs are allowed");
      if (c == '\n') ++line_;
    }
    line_ = 1;
    return Done{};
  }

  bool at(char c) const { return !rest_.empty() && rest_.front() == c; }
  void advance(std::size_t count) {
    line_ += static_cast<std::size_t>(
        std::count(rest_.begin(), rest_.begin() + static_cast<std::ptrdiff_t>(count), '\n'));
    rest_.remove_prefix(count);
  }
  bool take(char c) {
    if (!at(c)) return false;
    advance(1);
    return true;
  }
  bool take_word(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    advance(word.size());
    return true;
  }
  void skip_space() { advance(std::min(rest_.find_first_not_of(" \t"), rest_.size())); }
  void skip_comment() { advance(std::min(rest_.find('\n'), rest_.size())); }
  // skip_lines goes over space, line feeds and comments.
  void skip_lines() {
    while (true) {
      advance(std::min(rest_.find_first_not_of(" \t\n"), rest_.size()));
      if (!at('#')) return;
      skip_comment();
    }
  }
  Status count_node() {
    if (++nodes_ > kMaxNodes) return error("too many values");
    return Done{};
  }

  Result<Key> key() {
    Key out;
    do {
      skip_space();
      if (out.size() == kMaxKeyParts) return error("a key of too many parts");
      std::string part;
      if (at('"') || at('\'')) {
        if (rest_.starts_with("\"\"\"") || rest_.starts_with("'''")) return error("a key is of one line");
        SP_TRY(part, string());
      } else {
        const auto end = std::find_if_not(rest_.begin(), rest_.end(), is_bare);
        part.assign(rest_.begin(), end);
        if (part.empty()) return error("a key is missing");
        advance(part.size());
      }
      if (part.size() > kMaxKeyBytes) return error("a key is too long");
      out.push_back(std::move(part));
      skip_space();
    } while (take('.'));
    return out;
  }

  Result<TomlNode*> add(TomlNode& table, const std::string& name, TomlNode value) {
    if (table.fields.size() == kMaxFields) return error("too many keys in one table");
    table.fields.push_back({name, std::move(value)});
    return &table.fields.back().value;
  }
  TomlNode empty(Kind kind, Made made) const {
    TomlNode out;
    out.kind = kind;
    out.made = made;
    out.line = line_;
    return out;
  }
  Error twice(const std::string& name) const { return error("`" + name + "` is defined twice"); }

  // header reads [a.b] or [[a.b]] and finds or makes the table it opens.
  Result<TomlNode*> header(TomlNode& root) {
    advance(1);
    const bool array = take('[');
    SP_TRY(const Key path, key());
    if (!take(']') || (array && !take(']'))) return error("a table's name must end in ]");
    TomlNode* table = &root;
    for (std::size_t i = 0; i + 1 < path.size(); ++i) {
      TomlNode* next = find(*table, path[i]);
      if (next == nullptr) {
        SP_CHECK(count_node());
        SP_TRY(next, add(*table, path[i], empty(Kind::kTable, Made::kImplicitly)));
      } else if (next->kind == Kind::kArray && next->made == Made::kByHeader) {
        next = &next->items.back();
      } else if (next->kind != Kind::kTable ||
                 (next->made != Made::kByHeader && next->made != Made::kImplicitly)) {
        return twice(path[i]);
      }
      table = next;
    }
    SP_CHECK(count_node());
    TomlNode* found = find(*table, path.back());
    if (array) {
      if (found == nullptr) {
        SP_TRY(found, add(*table, path.back(), empty(Kind::kArray, Made::kByHeader)));
      } else if (found->kind != Kind::kArray || found->made != Made::kByHeader) {
        return twice(path.back());
      }
      found->items.push_back(empty(Kind::kTable, Made::kByHeader));
      return &found->items.back();
    }
    if (found == nullptr) return add(*table, path.back(), empty(Kind::kTable, Made::kByHeader));
    if (found->kind != Kind::kTable || found->made != Made::kImplicitly) return twice(path.back());
    found->made = Made::kByHeader;
    found->line = line_;
    return found;
  }

  // key_value reads a.b = value into a table.
  Status key_value(TomlNode& into, unsigned depth) {
    SP_TRY(const Key path, key());
    TomlNode* table = &into;
    for (std::size_t i = 0; i + 1 < path.size(); ++i) {
      TomlNode* next = find(*table, path[i]);
      if (next == nullptr) {
        SP_CHECK(count_node());
        SP_TRY(next, add(*table, path[i], empty(Kind::kTable, Made::kByDottedKey)));
      } else if (next->kind != Kind::kTable || next->made != Made::kByDottedKey) {
        return twice(path[i]);
      }
      table = next;
    }
    if (find(*table, path.back()) != nullptr) return twice(path.back());
    if (!take('=')) return error("= is missing after a key");
    skip_space();
    SP_TRY(TomlNode node, value(depth));
    SP_TRY([[maybe_unused]] const TomlNode* added, add(*table, path.back(), std::move(node)));
    return Done{};
  }

  Result<TomlNode> value(unsigned depth) {
    SP_CHECK(count_node());
    TomlNode out = empty(Kind::kString, Made::kByValue);
    if (at('"') || at('\'')) {
      SP_TRY(out.text, string());
      return out;
    }
    if (at('[') || at('{')) {
      if (depth > kMaxDepth) return error("nested too deep");
      out.kind = at('[') ? Kind::kArray : Kind::kTable;
      SP_CHECK(out.kind == Kind::kArray ? array(out, depth) : inline_table(out, depth));
      return out;
    }
    if (rest_.starts_with("true") || rest_.starts_with("false")) {
      out.kind = Kind::kBoolean;
      out.boolean = at('t');
      advance(out.boolean ? 4 : 5);
      return out;
    }
    return integer(std::move(out));
  }

  Status array(TomlNode& out, unsigned depth) {
    advance(1);
    while (true) {
      skip_lines();
      if (take(']')) return Done{};
      SP_TRY(TomlNode item, value(depth + 1));
      out.items.push_back(std::move(item));
      skip_lines();
      if (!take(',') && !at(']')) return error("an array must go on with , or end in ]");
    }
  }

  Status inline_table(TomlNode& out, unsigned depth) {
    advance(1);
    skip_space();
    if (take('}')) return Done{};
    do {
      SP_CHECK(key_value(out, depth + 1));
      skip_space();
    } while (take(','));
    if (!take('}')) return error("an inline table must go on with , or end in } on the same line");
    return Done{};
  }

  Result<TomlNode> integer(TomlNode out) {
    const bool negative = take('-');
    const auto end = std::find_if_not(rest_.begin(), rest_.end(), is_digit);
    const auto digits = static_cast<std::size_t>(end - rest_.begin());
    if (digits == 0 || digits > kMaxDigits || (digits > 1 && at('0')))
      return error("a value must be a string, a decimal integer, true, false, an array or an inline table");
    for (const char c : rest_.substr(0, digits)) out.integer = out.integer * 10 + (c - '0');
    if (negative) out.integer = -out.integer;
    advance(digits);
    out.kind = Kind::kInteger;
    return out;
  }

  // string reads one of the four forms, whose first quote is next.
  Result<std::string> string() {
    const char quote = rest_.front();
    const std::string closing(3, quote);
    if (take_word(closing)) {
      take('\n');
      return characters(quote, closing);
    }
    advance(1);
    return characters(quote, std::string(1, quote));
  }

  Result<std::string> characters(char quote, const std::string& closing) {
    std::string out;
    while (!take_word(closing)) {
      if (rest_.empty()) return error("a string has no end");
      char c = rest_.front();
      if (c == '\n' && closing.size() == 1) return error("a string has no end on its line");
      advance(1);
      if (c == '\\' && quote == '"') {
        constexpr std::string_view kEscapes = "\"\\nt", kMeant = "\"\\\n\t";
        const std::size_t escape = rest_.empty() ? std::string_view::npos : kEscapes.find(rest_.front());
        if (escape == std::string_view::npos) return error("an escape other than \\\" \\\\ \\n \\t");
        c = kMeant[escape];
        advance(1);
      }
      out.push_back(c);
    }
    // TOML would count quotes after three closing ones as the string's; nobody reads it so.
    if (closing.size() == 3 && at(quote)) return error("more than three quotes in a row");
    return out;
  }

  std::string_view rest_;
  std::size_t line_ = 1;
  std::size_t nodes_ = 0;
};

}  // namespace

const TomlNode* TomlNode::find(std::string_view key) const {
  for (const TomlField& field : fields)
    if (field.key == key) return &field.value;
  return nullptr;
}

Result<TomlNode> parse_toml(std::string_view text) {
  return Parser{text}.document();
}

}  // namespace sallyport

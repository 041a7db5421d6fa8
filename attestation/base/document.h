#pragma once

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "attestation/base/hex.h"
#include "attestation/base/strong.h"
#include "attestation/base/toml.h"

namespace sallyport {

// DocumentValue is one value of a TOML document, with the place where it stands, so that whatever does not
// load says where: "line 12, rule.1.limits.duration: must be a string". Each reading function gives
// kMalformed with the document's reason for a value of another form.
class DocumentValue {
 public:
  // `invalid` is the reason that errors of this document carry.
  DocumentValue(const TomlNode& node, std::string path, Reason invalid)
      : node_(&node), path_(std::move(path)), invalid_(invalid) {}

  Error error(const std::string& what) const {
    return Error{Code::kMalformed, invalid_,
                 "line " + std::to_string(node_->line) + ", " + path_ + ": " + what};
  }
  const std::string& path() const { return path_; }

  Result<std::string> text() const {
    if (node_->kind != TomlNode::Kind::kString) return error("must be a string");
    return node_->text;
  }
  // word: a string that `good` accepts.
  template <class Good>
  Result<std::string> word(Good good, const char* form) const {
    SP_TRY(std::string value, text());
    if (!good(std::string_view{value})) return error(std::string{"must be "} + form);
    return value;
  }
  Result<std::int64_t> integer(std::int64_t min, std::int64_t max) const {
    if (node_->kind != TomlNode::Kind::kInteger || node_->integer < min || node_->integer > max)
      return error("must be an integer from " + std::to_string(min) + " to " + std::to_string(max));
    return node_->integer;
  }
  Result<bool> boolean() const {
    if (node_->kind != TomlNode::Kind::kBoolean) return error("must be true or false");
    return node_->boolean;
  }
  Result<Digest256> digest() const {
    SP_TRY(const std::string value, text());
    constexpr std::string_view kPrefix = "sha256:";
    if (value.starts_with(kPrefix)) {
      const auto digest = parse_digest(std::string_view{value}.substr(kPrefix.size()));
      if (digest && *digest != Digest256{}) return *digest;
    }
    return error("must be \"sha256:\" and 64 hexadecimal digits, not all zero; leave out what there is not");
  }
  Result<const TomlNode*> table() const {
    if (node_->kind != TomlNode::Kind::kTable) return error("must be a table");
    return node_;
  }
  // items: the elements of an array.
  Result<std::vector<DocumentValue>> items() const {
    if (node_->kind != TomlNode::Kind::kArray) return error("must be an array");
    std::vector<DocumentValue> out;
    for (const TomlNode& item : node_->items)
      out.emplace_back(item, path_ + "[" + std::to_string(out.size() + 1) + "]", invalid_);
    return out;
  }
  // list: an array whose elements `read` takes, none twice.
  template <class Read>
  auto list(std::size_t min, std::size_t max, Read read) const
      -> Result<std::vector<typename decltype(read(std::declval<const DocumentValue&>()))::value_type>> {
    std::vector<typename decltype(read(std::declval<const DocumentValue&>()))::value_type> out;
    SP_TRY(const std::vector<DocumentValue> elements, items());
    if (elements.size() < min) return error("must not be empty");
    if (elements.size() > max) return error("has more than " + std::to_string(max) + " elements");
    for (const DocumentValue& element : elements) {
      SP_TRY(auto one, read(element));
      if (std::find(out.begin(), out.end(), one) != out.end()) return element.error("is listed twice");
      out.push_back(std::move(one));
    }
    return out;
  }

 private:
  friend class DocumentFields;
  const TomlNode* node_;
  std::string path_;
  Reason invalid_;
};

// DocumentFields is a table of which every key must be asked for: what is left over is an unknown key.
class DocumentFields {
 public:
  static Result<DocumentFields> of(const DocumentValue& value) {
    SP_TRY(const TomlNode* table, value.table());
    return DocumentFields{*table, value.path(), value.invalid_};
  }
  DocumentFields(const TomlNode& table, std::string path, Reason invalid)
      : table_(&table), path_(std::move(path)), invalid_(invalid) {}

  std::optional<DocumentValue> find(std::string_view key) {
    asked_.insert(std::string{key});
    const TomlNode* node = table_->find(key);
    if (node == nullptr) return std::nullopt;
    return DocumentValue{*node, path_of(key), invalid_};
  }
  Result<DocumentValue> get(std::string_view key) {
    std::optional<DocumentValue> value = find(key);
    if (!value) return error("`" + std::string{key} + "` is missing");
    return *value;
  }
  Error error(const std::string& what) const {
    return DocumentValue{*table_, path_.empty() ? "the document" : path_, invalid_}.error(what);
  }
  Status finish() const {
    for (const TomlField& field : table_->fields)
      if (!asked_.contains(field.key))
        return DocumentValue{field.value, path_of(field.key), invalid_}.error("unknown key");
    return Done{};
  }

 private:
  std::string path_of(std::string_view key) const {
    return path_.empty() ? std::string{key} : path_ + "." + std::string{key};
  }
  const TomlNode* table_;
  std::string path_;
  Reason invalid_;
  std::set<std::string> asked_;
};

}  // namespace sallyport

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/result.h"

namespace sallyport {

struct TomlField;

// TomlNode is one value of a TOML document.
struct TomlNode {
  enum class Kind : std::uint8_t { kString, kInteger, kBoolean, kArray, kTable };
  // How a table or an array came about decides what may still be added to it.
  enum class Made : std::uint8_t { kByValue, kByHeader, kByDottedKey, kImplicitly };

  Kind kind = Kind::kTable;
  Made made = Made::kByValue;
  std::size_t line = 0;  // from 1
  std::string text;
  std::int64_t integer = 0;
  bool boolean = false;
  std::vector<TomlNode> items;    // of an array
  std::vector<TomlField> fields;  // of a table, in document order

  const TomlNode* find(std::string_view key) const;
};
struct TomlField {
  std::string key;
  TomlNode value;
};

// parse_toml reads the part of TOML 1.0 that our documents need, and nothing else: what it accepts is a TOML
// document with the same meaning. Printable ASCII, line feeds and tabs; strings of all four forms with the
// escapes \" \\ \n \t; decimal integers; booleans; arrays; inline tables; tables, arrays of tables and dotted
// keys. No floats, dates, \u escapes, other number forms. Nested at most 8 deep, keys of at most 8 parts, at
// most 64 keys in a table and 2^18 values. It returns the root table. Errors: kMalformed, with the
// line.   Pure.
Result<TomlNode> parse_toml(std::string_view text);

}  // namespace sallyport

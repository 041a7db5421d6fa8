// What parse_toml accepts is TOML with the same meaning: toml++ reads it alike.
#include "attestation/base/bytes.h"
#include "attestation/base/error.h"
#include "attestation/base/toml.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

namespace {

using sallyport::TomlField;
using sallyport::TomlNode;

bool same(const TomlNode& ours, const toml::node& theirs) {
  switch (ours.kind) {
    case TomlNode::Kind::kString:
      return theirs.is_string() && theirs.as_string()->get() == ours.text;
    case TomlNode::Kind::kInteger:
      return theirs.is_integer() && theirs.as_integer()->get() == ours.integer;
    case TomlNode::Kind::kBoolean:
      return theirs.is_boolean() && theirs.as_boolean()->get() == ours.boolean;
    case TomlNode::Kind::kArray: {
      const auto* array = theirs.as_array();
      if (array == nullptr || array->size() != ours.items.size()) return false;
      for (std::size_t i = 0; i < ours.items.size(); ++i)
        if (!same(ours.items[i], (*array)[i])) return false;
      return true;
    }
    case TomlNode::Kind::kTable: {
      const auto* table = theirs.as_table();
      if (table == nullptr || table->size() != ours.fields.size()) return false;
      for (const TomlField& field : ours.fields) {
        const auto* value = table->get(field.key);
        if (value == nullptr || !same(field.value, *value)) return false;
      }
      return true;
    }
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = sallyport::as_text({data, size});
  const auto ours = sallyport::parse_toml(text);
  if (!ours) {
    SP_ASSERT(ours.error().reason == sallyport::Reason::kMalformed);
    return 0;
  }
  const toml::parse_result theirs = toml::parse(text);
  SP_ASSERT(theirs.succeeded());
  SP_ASSERT(same(*ours, theirs.table()));
  return 0;
}

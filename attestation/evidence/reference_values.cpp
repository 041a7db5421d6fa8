#include "attestation/evidence/reference_values.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <set>

#include "attestation/base/base64.h"
#include "attestation/base/document.h"

namespace sallyport::evidence {
namespace {

constexpr std::int64_t kMaxVersion = std::int64_t{1} << 53;
constexpr std::size_t kMaxDigests = 256;  // of one event
constexpr std::size_t kMaxTextBytes = 200;
constexpr std::size_t kMaxImaKeys = 64;
constexpr std::uint32_t kAlwaysJudged = 1u << 0 | 1u << 2 | 1u << 4 | 1u << 7;
// What changes while a machine runs (IMA, debugging, applications, a late launch) has no one value to accept.
constexpr std::uint32_t kAtRunTime = 1u << 10 | 0xFFu << 16;

bool is_printable(char c) {
  return c >= 0x20 && c < 0x7F;
}

bool is_title(std::string_view text) {
  return !text.empty() && text.size() <= kMaxTextBytes && std::ranges::all_of(text, is_printable);
}

// Texts of events are printable ASCII (measured_text): no other pattern can match one.
bool is_pattern(std::string_view text) {
  return !text.empty() && text.size() <= kMaxPatternBytes && std::ranges::all_of(text, is_printable) &&
         text.find_first_not_of('*') != text.npos;
}

// day_of takes "2027-04-01": the moment at which that day begins, UTC.
std::optional<UnixMillis> day_of(std::string_view text) {
  const auto number = [&](std::size_t at, std::size_t size) -> std::optional<unsigned> {
    unsigned value = 0;
    const auto [end, failed] = std::from_chars(text.data() + at, text.data() + at + size, value);
    if (failed != std::errc{} || end != text.data() + at + size) return std::nullopt;
    return value;
  };
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return std::nullopt;
  const auto year = number(0, 4), month = number(5, 2), day = number(8, 2);
  if (!year || !month || !day || *year < 1970) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{static_cast<int>(*year)},
                                         std::chrono::month{*month}, std::chrono::day{*day}};
  if (!date.ok()) return std::nullopt;
  const std::chrono::milliseconds since = std::chrono::sys_days{date}.time_since_epoch();
  return UnixMillis{static_cast<std::uint64_t>(since.count())};
}

Result<bool> flag(DocumentFields& fields, std::string_view key, bool otherwise) {
  const auto value = fields.find(key);
  if (!value) return otherwise;
  return value->boolean();
}

Result<std::uint32_t> pcr_mask(const DocumentValue& value) {
  SP_TRY(const std::vector<std::int64_t> indices,
         value.list(0, 24, [](const DocumentValue& v) { return v.integer(0, 23); }));
  std::uint32_t mask = 0;
  for (const std::int64_t index : indices) mask |= 1u << index;
  return mask;
}

class Loader {
 public:
  Result<ReferenceValues> load(const TomlNode& root) {
    DocumentFields document{root, "", Reason::kReferenceInvalid};
    SP_TRY(const DocumentValue version, document.get("version"));
    SP_TRY(const std::int64_t number, version.integer(1, kMaxVersion));
    out_.version = static_cast<std::uint64_t>(number);
    if (const auto pcrs = document.find("pcrs")) {
      SP_TRY(const std::uint32_t mask, pcr_mask(*pcrs));
      if ((mask & kAlwaysJudged) != kAlwaysJudged) return pcrs->error("must have 0, 2, 4 and 7");
      if ((mask & kAtRunTime) != 0)
        return pcrs->error("must not have 10, or 16 and above: they change while a machine runs");
      SP_TRY(out_.selection, PcrSelection::from_mask(mask));
    }
    SP_TRY(const DocumentValue list, document.get("reference"));
    SP_TRY(const std::vector<DocumentValue> items, list.items());
    if (items.empty()) return list.error("must not be empty");
    if (items.size() > kMaxReferences)
      return list.error("has more than " + std::to_string(kMaxReferences) + " elements");
    for (const DocumentValue& item : items) SP_CHECK(reference(item));
    if (const auto measured = document.find("ima")) SP_CHECK(ima(*measured));
    SP_CHECK(document.finish());
    return std::move(out_);
  }

 private:
  Status reference(const DocumentValue& value) {
    SP_TRY(DocumentFields fields, DocumentFields::of(value));
    Reference one;
    SP_TRY(const DocumentValue id, fields.get("id"));
    SP_TRY(one.id, id.word(is_title, "1 to 200 printable characters"));
    if (!ids_.insert(one.id).second) return id.error("a reference \"" + one.id + "\" is there twice");
    if (const auto day = fields.find("not_after")) {
      SP_TRY(const std::string text, day->text());
      one.not_after = day_of(text);
      if (!one.not_after) return day->error("must be a day, as \"2027-04-01\"");
    }
    SP_TRY(one.as_enrolled, flag(fields, "as_enrolled", false));
    if (!one.as_enrolled) SP_CHECK(described(fields, one));
    SP_CHECK(fields.finish());
    out_.references.push_back(std::move(one));
    return Done{};
  }

  Status described(DocumentFields& fields, Reference& one) {
    SP_TRY(const DocumentValue secure_boot, fields.get("secure_boot"));
    SP_TRY(one.secure_boot, secure_boot.boolean());
    if (const auto unjudged = fields.find("unjudged")) {
      SP_TRY(one.unjudged, pcr_mask(*unjudged));
      if ((one.unjudged & kAlwaysJudged) != 0)
        return unjudged->error("must not have 0, 2, 4 or 7: what ran at the start is in them");
      if ((one.unjudged & ~out_.selection.mask()) != 0)
        return unjudged->error("has a PCR that machines do not quote");
    }
    SP_TRY(const DocumentValue events, fields.get("event"));
    SP_TRY(const std::vector<DocumentValue> items, events.items());
    if (items.empty()) return events.error("must not be empty");
    if (items.size() > kMaxExpectedEvents)
      return events.error("has more than " + std::to_string(kMaxExpectedEvents) + " elements");
    for (const DocumentValue& item : items) SP_CHECK(event(item, one));
    return Done{};
  }

  Status event(const DocumentValue& value, Reference& one) {
    SP_TRY(DocumentFields fields, DocumentFields::of(value));
    ExpectedEvent expected;
    SP_TRY(const DocumentValue pcr, fields.get("pcr"));
    SP_TRY(const std::int64_t index, pcr.integer(0, 23));
    expected.pcr = static_cast<std::uint8_t>(index);
    if (!out_.selection.contains(expected.pcr)) return pcr.error("is a PCR that machines do not quote");
    if (!one.judges(expected.pcr)) return pcr.error("is a PCR whose events are not judged");
    SP_TRY(expected.after_separator, flag(fields, "after", false));
    if (expected.after_separator && expected.pcr > 7) return value.error("PCR 8 and above have no separator");
    SP_TRY(expected.required, flag(fields, "required", true));
    SP_TRY(expected.repeats, flag(fields, "repeats", false));
    if (const auto what = fields.find("what")) {
      SP_TRY(expected.what, what->word(is_title, "1 to 200 printable characters"));
    }
    const auto digest = fields.find("digest"), text = fields.find("text");
    if (digest.has_value() == text.has_value()) return value.error("must have either `digest` or `text`");
    if (text) {
      SP_TRY(expected.pattern, text->word(is_pattern, "1 to 1024 printable characters, not '*' alone"));
      if (++patterns_ > kMaxPatterns)
        return text->error("is one more than the " + std::to_string(kMaxPatterns) +
                           " texts that a document may have");
    } else {
      SP_TRY(expected.digests,
             digest->list(1, kMaxDigests, [](const DocumentValue& v) { return v.digest(); }));
    }
    SP_CHECK(fields.finish());
    for (const Digest256& one_of : expected.digests) {
      const std::pair key{one_of, place(expected.pcr, expected.after_separator)};
      if (!one.digest_at.emplace(key, one.events.size()).second)
        return value.error("a digest is expected at this place by another event already");
    }
    one.events.push_back(std::move(expected));
    return Done{};
  }

  Status ima(const DocumentValue& value) {
    SP_TRY(DocumentFields fields, DocumentFields::of(value));
    ImaReference::Terms terms;
    if (const auto keys = fields.find("keys")) {
      SP_TRY(terms.keys, keys->list(1, kMaxImaKeys, [](const DocumentValue& v) { return ima_key(v); }));
    }
    if (const auto files = fields.find("files")) {
      SP_TRY(terms.files, files->text());
      // Said at its own line: `make` would find it too.
      if (const auto list = ImaAllowList::parse(terms.files); !list)
        return files->error(list.error().what);
      else if (list->size() == 0)
        return files->error("must not be empty");
    }
    SP_TRY(terms.violations, flag(fields, "violations", false));
    SP_TRY(terms.padded_sha1, flag(fields, "padded_sha1", false));
    SP_CHECK(fields.finish());
    auto made = ImaReference::make(std::move(terms));
    if (!made) return value.error(made.error().what);
    out_.ima = std::move(*made);
    return Done{};
  }

  static Result<crypto::PublicKey> ima_key(const DocumentValue& value) {
    SP_TRY(const std::string text, value.text());
    auto key = crypto::PublicKey::parse_spki_base64(text);
    if (!key) return value.error("must be a SubjectPublicKeyInfo in base64: " + key.error().what);
    return std::move(*key);
  }

 public:
  static std::uint8_t place(std::uint8_t pcr, bool after_separator) {
    return static_cast<std::uint8_t>(pcr << 1 | (after_separator ? 1 : 0));
  }

 private:
  ReferenceValues out_;
  std::set<std::string> ids_;
  std::size_t patterns_ = 0;
};

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

// The lines of an allow list, one of the document for each.
std::string quoted_lines(std::string_view lines) {
  std::string out = "\"\"\"\n";
  for (const char c : lines) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"\"\"";
}

std::string ima_table(const ImaReference::Terms& terms) {
  std::string out = "\n[ima]\n";
  if (!terms.keys.empty()) {
    out += "keys = [\n";
    for (const crypto::PublicKey& key : terms.keys) out += "  " + quoted(to_base64(key.spki())) + ",\n";
    out += "]\n";
  }
  if (!terms.files.empty()) out += "files = " + quoted_lines(terms.files) + "\n";
  if (terms.violations) out += "violations = true\n";
  if (terms.padded_sha1) out += "padded_sha1 = true\n";
  return out;
}

std::string pcr_list(std::uint32_t mask) {
  std::string out = "[";
  for (unsigned index = 0; index < 24; ++index)
    if ((mask >> index & 1) != 0) out += (out.size() == 1 ? "" : ", ") + std::to_string(index);
  return out + "]";
}

std::string event_line(const ExpectedEvent& event) {
  std::string out = "  { pcr = " + std::to_string(event.pcr);
  if (event.after_separator) out += ", after = true";
  if (!event.required) out += ", required = false";
  if (event.repeats) out += ", repeats = true";
  if (!event.what.empty()) out += ", what = " + quoted(event.what);
  if (event.digests.empty()) return out + ", text = " + quoted(event.pattern) + " },\n";
  out += ", digest = [";
  for (const Digest256& digest : event.digests)
    out += (out.ends_with('[') ? "" : ", ") + quoted("sha256:" + to_hex(digest));
  return out + "] },\n";
}

}  // namespace

std::optional<std::size_t> Reference::find(std::uint8_t pcr, bool after_separator,
                                           const Digest256& digest) const {
  const auto found = digest_at.find({digest, Loader::place(pcr, after_separator)});
  return found == digest_at.end() ? std::nullopt : std::optional{found->second};
}

ReferenceValues ReferenceValues::as_enrolled() {
  ReferenceValues out;
  out.references.push_back({.id = "as enrolled",
                            .not_after = {},
                            .as_enrolled = true,
                            .secure_boot = false,
                            .unjudged = 0,
                            .events = {},
                            .digest_at = {}});
  return out;
}

std::optional<std::size_t> ReferenceValues::find(std::string_view id) const {
  const auto found = std::ranges::find(references, id, &Reference::id);
  if (found == references.end()) return std::nullopt;
  return static_cast<std::size_t>(found - references.begin());
}

Result<ReferenceValues> parse_reference_values(std::string_view toml) {
  if (toml.size() > kMaxReferenceBytes)
    return Error{Code::kMalformed, Reason::kReferenceInvalid, "the document is longer than 1 MiB"};
  const auto root = parse_toml(toml);
  if (!root) return Error{Code::kMalformed, Reason::kReferenceInvalid, root.error().what};
  return Loader{}.load(*root);
}

std::string write_reference_values(const ReferenceValues& values) {
  std::string out = "version = " + std::to_string(values.version) + "\n";
  if (values.selection != PcrSelection::standard())
    out += "pcrs = " + pcr_list(values.selection.mask()) + "\n";
  for (const Reference& one : values.references) {
    out += "\n[[reference]]\nid = " + quoted(one.id) + "\n";
    if (one.not_after) out += "not_after = " + quoted(day_text(*one.not_after)) + "\n";
    if (one.as_enrolled) {
      out += "as_enrolled = true\n";
      continue;
    }
    out += std::string{"secure_boot = "} + (one.secure_boot ? "true" : "false") + "\n";
    if (one.unjudged != 0) out += "unjudged = " + pcr_list(one.unjudged) + "\n";
    out += "event = [\n";
    for (const ExpectedEvent& event : one.events) out += event_line(event);
    out += "]\n";
  }
  if (values.ima) out += ima_table(values.ima->terms());
  return out;
}

std::string day_text(UnixMillis at) {
  const std::chrono::year_month_day date{std::chrono::sys_days{
      std::chrono::floor<std::chrono::days>(std::chrono::milliseconds{static_cast<std::int64_t>(at.get())})}};
  const auto padded = [](unsigned value, std::size_t size) {
    std::string digits = std::to_string(value);
    return digits.size() < size ? std::string(size - digits.size(), '0') + digits : digits;
  };
  return padded(static_cast<unsigned>(static_cast<int>(date.year())), 4) + "-" +
         padded(static_cast<unsigned>(date.month()), 2) + "-" + padded(static_cast<unsigned>(date.day()), 2);
}

bool matches(std::string_view pattern, std::string_view text) {
  const std::size_t first = pattern.find('*');
  if (first == pattern.npos) return pattern == text;
  const std::size_t last = pattern.rfind('*');
  const std::string_view head = pattern.substr(0, first), tail = pattern.substr(last + 1);
  if (text.size() < head.size() + tail.size() || !text.starts_with(head) || !text.ends_with(tail))
    return false;
  text = text.substr(head.size(), text.size() - head.size() - tail.size());
  // What stands between two stars is where it comes first: that leaves the most for those that follow. (Of a
  // search, memmem alone is never more than linear.)
  for (std::size_t star = first; star != last;) {
    const std::size_t next = pattern.find('*', star + 1);
    const std::string_view piece = pattern.substr(star + 1, next - star - 1);
    star = next;
    if (piece.empty()) continue;
    if (piece.size() > text.size()) return false;
    const void* const found = memmem(text.data(), text.size(), piece.data(), piece.size());
    if (found == nullptr) return false;
    const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
    text.remove_prefix(at + piece.size());
  }
  return true;
}

}  // namespace sallyport::evidence

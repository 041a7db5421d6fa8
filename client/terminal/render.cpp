#include "client/terminal/render.h"

#include <unistd.h>
#include <array>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <set>

#include "attestation/base/hex.h"
#include "attestation/record/canonical_json.h"
#include "client/terminal/next_step.h"

namespace sallyport::client {
namespace {

// What could move the cursor, or make text read as other than it is.
bool is_treacherous(std::uint32_t point) {
  return point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0xAD ||
         (point >= 0x200B && point <= 0x200F) || (point >= 0x2028 && point <= 0x202E) ||
         (point >= 0x2060 && point <= 0x206F) || point == 0xFEFF || (point >= 0xFFF0 && point <= 0xFFFF) ||
         point >= 0xE0000;
}

std::string date(UnixMillis time, const char* format) {
  const std::time_t seconds = static_cast<std::time_t>(time.get() / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  std::strftime(text, sizeof text, format, &parts);
  return text;
}

// The words of a text, without regard to case or punctuation, but for those that say little by themselves.
std::set<std::string> telling_words(std::string_view text) {
  static const std::set<std::string> kLittle{"a",    "an", "the", "is",   "are", "was", "were", "has",
                                             "have", "it", "its", "this", "of",  "in",  "to",   "yet"};
  std::set<std::string> out;
  std::string word;
  for (const char c : std::string{text} + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || (c & 0x80) != 0) {
      word.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
      continue;
    }
    if (!word.empty() && !kLittle.contains(word)) out.insert(word);
    word.clear();
  }
  return out;
}

// says_more tells whether a detail has a word that its sentence has not.
bool says_more(std::string_view detail, std::string_view sentence) {
  const auto said = telling_words(sentence), more = telling_words(detail);
  return !std::includes(said.begin(), said.end(), more.begin(), more.end());
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t size = byte < 0x80       ? 1
                             : byte >> 5 == 6  ? 2
                             : byte >> 4 == 14 ? 3
                             : byte >> 3 == 30 ? 4
                                               : 0;
    std::uint32_t point = size == 1 ? byte : size == 2 ? byte & 31 : size == 3 ? byte & 15 : byte & 7;
    bool good = size != 0 && i + size <= text.size();
    for (std::size_t j = 1; good && j < size; ++j) {
      const auto next = static_cast<unsigned char>(text[i + j]);
      good = (next & 0xC0) == 0x80;
      point = point << 6 | (next & 63);
    }
    if (!good || is_treacherous(point)) {
      char escape[16];
      std::snprintf(escape, sizeof escape, "\\u{%x}", good ? point : byte);
      out += escape;
      i += good ? size : 1;
      continue;
    }
    out.append(text.substr(i, size));
    i += size;
  }
  return out;
}

std::string short_case(const CaseId& case_id) {
  return "c-" + to_hex(case_id).substr(0, 8);
}
std::string utc(UnixMillis time) {
  return date(time, "%Y-%m-%d %H:%M:%SZ");
}
std::string iso_utc(UnixMillis time) {
  return date(time, "%Y-%m-%dT%H:%M:%SZ");
}
std::string clock_utc(UnixMillis time) {
  return date(time, "%H:%M:%SZ");
}

std::string duration_text(std::uint64_t seconds) {
  if (seconds % 3600 == 0 && seconds != 0) return std::to_string(seconds / 3600) + " h";
  if (seconds % 60 == 0 && seconds != 0) return std::to_string(seconds / 60) + " min";
  return std::to_string(seconds) + " s";
}

std::string relative(UnixMillis time, UnixMillis now) {
  const bool past = time <= now;
  const std::uint64_t seconds = (past ? now.get() - time.get() : time.get() - now.get()) / 1000;
  std::string span = seconds < 120      ? std::to_string(seconds) + " s"
                     : seconds < 7200   ? std::to_string(seconds / 60) + " min"
                     : seconds < 172800 ? std::to_string(seconds / 3600) + " h"
                                        : std::to_string(seconds / 86400) + " days";
  return past ? span + " ago" : "in " + span;
}

std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, " ");
  return digits;
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  if (bytes < 1024 * 1024) return std::to_string(bytes / 1024) + " KiB";
  return std::to_string(bytes / (1024 * 1024)) + " MiB";
}

std::string ima_text(const evidence::JudgedIma& judged) {
  const evidence::ImaTally& tally = judged.tally();
  return grouped(judged.entries()) + " entries: " + grouped(tally.listed) + " listed, " +
         grouped(tally.signed_files) + " signed, " +
         (tally.violations == 0   ? "no violations"
          : tally.violations == 1 ? "1 VIOLATION"
                                  : grouped(tally.violations) + " VIOLATIONS") +
         (judged.extension() == evidence::ImaExtension::kPaddedSha1 ? ", by SHA-1" : "");
}

Result<UnixMillis> parse_utc(std::string_view text) {
  const Error wrong{
      Code::kMalformed, Reason::kUsage,
      printable(text) + " is no moment; it is written 2026-11-21 or 2026-11-21T09:14:02Z, in UTC"};
  constexpr std::string_view kForm = "0000-00-00T00:00:00Z";
  if (text.size() != 10 && text.size() != kForm.size()) return wrong;
  std::array<unsigned, 6> numbers{};
  std::size_t number = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (kForm[i] != '0') {
      if (text[i] != kForm[i] && !(kForm[i] == 'T' && text[i] == ' ')) return wrong;
      ++number;
    } else {
      if (text[i] < '0' || text[i] > '9') return wrong;
      numbers[number] = numbers[number] * 10 + static_cast<unsigned>(text[i] - '0');
    }
  }
  const auto [year, month, day, hour, minute, second] = numbers;
  const std::chrono::year_month_day date{std::chrono::year{static_cast<int>(year)}, std::chrono::month{month},
                                         std::chrono::day{day}};
  if (!date.ok() || year < 1970 || hour > 23 || minute > 59 || second > 59) return wrong;
  const auto time = std::chrono::sys_days{date}.time_since_epoch() + std::chrono::hours{hour} +
                    std::chrono::minutes{minute} + std::chrono::seconds{second};
  return UnixMillis{static_cast<std::uint64_t>(std::chrono::milliseconds{time}.count())};
}

Result<std::uint64_t> parse_duration(std::string_view text) {
  std::uint64_t value = 0;
  std::size_t digits = 0;
  while (digits < text.size() && digits < 6 && text[digits] >= '0' && text[digits] <= '9')
    value = value * 10 + static_cast<std::uint64_t>(text[digits++] - '0');
  const std::string_view unit = text.substr(digits);
  const std::uint64_t scale = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (digits == 0 || scale == 0 || value == 0)
    return Error{Code::kMalformed, Reason::kUsage,
                 "a duration is written 90s, 15m or 1h, not " + printable(text)};
  return value * scale;
}

Result<CaseId> find_case_id(std::string_view typed, const std::vector<api::CaseView>& cases) {
  std::string_view digits = typed;
  if (digits.size() > 2 && digits[1] == '-') digits.remove_prefix(2);
  if (digits.size() == 32) return parse_case_id(digits);
  std::optional<CaseId> found;
  for (const api::CaseView& view : cases) {
    if (!digits.empty() && to_hex(view.case_id).starts_with(digits)) {
      if (found)
        return Error{Code::kMalformed, Reason::kUsage,
                     "several cases begin with " + printable(typed) + "; type more of it"};
      found = view.case_id;
    }
  }
  if (!found)
    return Error{Code::kDenied, Reason::kCaseUnknown, "no case of yours begins with " + printable(typed)};
  return *found;
}

bool stderr_is_terminal() {
  return isatty(2) == 1;
}

void note(std::string_view label, std::string_view text) {
  std::string line{label};
  line.resize(std::max<std::size_t>(line.size() + 1, 10), ' ');
  std::cerr << line << text << std::endl;
}

std::string error_text(const Error& error) {
  std::string out = "sallyport: ";
  if (error.code == Code::kDenied) out += "refused ";
  const std::string_view sentence = reason_sentence(error.reason);
  out += "[" + std::string{reason_name(error.reason)} + "] " + std::string{sentence} + "\n";
  if (says_more(error.what, sentence)) {
    // Our own texts have lines; what a peer wrote was made printable, and so one line, when it arrived.
    for (std::string_view rest = error.what; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      out += (line.starts_with(' ') ? "" : "  ") + printable(line) + "\n";
    }
  }
  if (error.next == Next::kCallOperator)
    out += "  An operator has to look at this.\n";
  else if (error.what.find("sallyport ") == std::string::npos)
    out += "  " + std::string{next_step(error.reason)} + "\n";
  if (error.next == Next::kRetryLater) out += "  It may go through later.\n";
  return out;
}

int report_error(const Error& error, bool json) {
  const int exit_code = exit_code_of(error);
  if (json) {
    using record::json::Value;
    std::cout << as_text(record::json::encode_canonical(
                     Value::object({{"code", reason_name(error.reason)},
                                    {"detail", printable(error.what)},
                                    {"exit", static_cast<std::uint64_t>(exit_code)},
                                    {"next", next_step(error.reason)},
                                    {"what", reason_sentence(error.reason)}})))
              << std::endl;
  } else {
    std::cerr << error_text(error) << std::flush;
  }
  return exit_code;
}

}  // namespace sallyport::client

#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "attestation/api/messages.h"
#include "attestation/evidence/ima_appraisal.h"

namespace sallyport::client {

// printable gives text of others as it may go to a terminal: control characters, and what reorders or hides
// text in Unicode (bidi, zero width), are shown as \u{…}. Everything that a peer or another person wrote
// passes through here.
std::string printable(std::string_view text);

std::string short_case(const CaseId& case_id);          // "c-7f3a90be": the first 8 digits
std::string utc(UnixMillis time);                       // "2026-11-21 09:14:02Z"
std::string iso_utc(UnixMillis time);                   // "2026-11-21T09:14:02Z"
std::string clock_utc(UnixMillis time);                 // "09:14:02Z"
std::string relative(UnixMillis time, UnixMillis now);  // "40 s ago", "in 14 min"
std::string duration_text(std::uint64_t seconds);       // "15 min", "90 s"
std::string grouped(std::uint64_t number);              // "48 213"
std::string human_bytes(std::uint64_t bytes);           // "84 KiB"

// What a machine has measured, and why it was expected: "5 013 entries: 4 800 listed, 212 signed, no
// violations".
std::string ima_text(const evidence::JudgedIma& judged);

// parse_utc takes a moment as utc() gives it, also with a T between day and time, or a day alone, which is
// its first millisecond. Errors: kUsage.
Result<UnixMillis> parse_utc(std::string_view text);

// parse_duration takes "15m", "90s", "1h". Errors: kUsage.
Result<std::uint64_t> parse_duration(std::string_view text);

// find_case_id takes what a person types: "c-7f3a", "7f3a90be…", whole or a unique beginning among `cases`.
// Errors: kUsage.
Result<CaseId> find_case_id(std::string_view typed, const std::vector<api::CaseView>& cases);

// note, on stderr: one line of progress, "label     text"; nothing when stderr is closed.
void note(std::string_view label, std::string_view text);
bool stderr_is_terminal();

// error_text gives an error as a person should read it: code and sentence, the detail where it says more than
// the sentence, and what to do next, unless the detail says that.
std::string error_text(const Error& error);

// report_error prints an error_text on stderr (json: one object on stdout), and gives the exit code.
int report_error(const Error& error, bool json);

}  // namespace sallyport::client

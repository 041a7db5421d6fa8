#pragma once

#include <string>

#include "client/evidence/learn.h"

namespace sallyport::client::evidence_tools {

// LoadedReferences are reference values, with the digest of their document: what a policy names.
struct LoadedReferences {
  evidence::ReferenceValues values;
  Digest256 digest;
};

// The files that this room's commands read; errors begin with the file's name.
// Errors: kUsage (not readable, too large), kReferenceInvalid with the line, kEventLogForm with the event.
Result<LoadedReferences> load_references(const std::string& path);
Result<NamedLog> load_log(const std::string& path);
// load_either takes a file that is one or the other. A document is text, and every log begins with a zero.
struct EitherFile {
  std::optional<LoadedReferences> references;
  std::optional<NamedLog> log;
};
Result<EitherFile> load_either(const std::string& path);

// kUsuallyUnjudged are PCR 1 and 5: settings, boot order and partitions, which differ from machine to
// machine.
inline constexpr std::uint32_t kUsuallyUnjudged = 1u << 1 | 1u << 5;

// parse_pcrs takes "0,1,7", or nothing for none: bit n is PCR n. Errors: kUsage.
Result<std::uint32_t> parse_pcrs(const std::string& flag, std::string_view text);
// pcrs_text gives "0–7, 14".
std::string pcrs_text(std::uint32_t mask);

}  // namespace sallyport::client::evidence_tools

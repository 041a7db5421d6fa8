#pragma once

#include <string>

#include "attestation/evidence/ima.h"
#include "client/evidence/learn.h"

namespace sallyport::client::evidence_tools {

// LoadedReferences are reference values, with the digest of their document: what a policy names.
struct LoadedReferences {
  evidence::ReferenceValues values;
  Digest256 digest;
};

// The files that this room's commands read; errors begin with the file's name, and say what a file that is
// something else looks like.
// Errors: kFile (not readable, too large), kReferenceInvalid with the line, kEventLogForm with the event,
// kImaForm with the entry, or for a list of none.
Result<LoadedReferences> load_references(const std::string& path);
Result<NamedLog> load_log(const std::string& path);
Result<evidence::ImaList> load_ima(const std::string& path, evidence::LogAlgorithm template_hash);
// load_either takes a file that is one or the other. A document is text, and every log begins with a zero.
struct EitherFile {
  std::optional<LoadedReferences> references;
  std::optional<NamedLog> log;
};
Result<EitherFile> load_either(const std::string& path);

// looks_like names what files of this trade begin with: "a PEM file, such as a certificate"; of others
// "text", or nothing.   Pure.
std::string looks_like(ByteView bytes);
// of_file puts the file's name before what is wrong with it.
Error of_file(const std::string& path, Error error);

// kUsuallyUnjudged are PCR 1 and 5: settings, boot order and partitions, which differ from machine to
// machine.
inline constexpr std::uint32_t kUsuallyUnjudged = 1u << 1 | 1u << 5;

// parse_pcrs takes "0-7,14", or nothing for none: bit n is PCR n. Errors: kUsage.
Result<std::uint32_t> parse_pcrs(const std::string& flag, std::string_view text);
// pcrs_text gives "0–7, 14".
std::string pcrs_text(std::uint32_t mask);

}  // namespace sallyport::client::evidence_tools
